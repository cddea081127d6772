//! CLC, STC, CMC, CLD, STD, LAHF, SAHF, SALC; CLI and STI.

use super::operand::*;
use crate::cpu::{Cpu, Done, Shadow, event, gp};
use crate::decode::insn::Insn;
use crate::emit::Emit;
use crate::flags;
use crate::size::Size;

type R<E> = Result<(), <E as Emit>::Stop>;

/// CLC: CF = 0.
pub fn clc<E: Emit, F: Form>(e: &mut E, _: F) -> R<E> {
    let c = e.imm(0);
    flags::set_cf(e, c);
    Ok(())
}
/// STC: CF = 1.
pub fn stc<E: Emit, F: Form>(e: &mut E, _: F) -> R<E> {
    let c = e.imm(1);
    flags::set_cf(e, c);
    Ok(())
}
/// CMC: CF = !CF.
pub fn cmc<E: Emit, F: Form>(e: &mut E, _: F) -> R<E> {
    let c = flags::cf(e);
    let c = e.xori(c, 1);
    flags::set_cf(e, c);
    Ok(())
}
/// LAHF: AH = SF:ZF:0:AF:0:PF:1:CF.
pub fn lahf<E: Emit, F: Form>(e: &mut E, _: F) -> R<E> {
    let v = flags::read(e);
    let v = e.andi(v, 0xd5);
    let two = e.imm(2);
    let v = e.or(v, two);
    set_reg(e, 0x10, Size::B1, true, v);
    Ok(())
}
/// SAHF: SF, ZF, AF, PF, CF from AH; OF kept.
pub fn sahf<E: Emit, F: Form>(e: &mut E, _: F) -> R<E> {
    let ah = reg(e, 0x10, Size::B1, true);
    let ah = e.andi(ah, 0xd5);
    let old = flags::read(e);
    let of = e.andi(old, flags::OF);
    let v = e.or(ah, of);
    flags::write(e, v);
    Ok(())
}
/// SALC (undocumented, D6h): AL = CF ? FFh : 0.
pub fn salc<E: Emit, F: Form>(e: &mut E, _: F) -> R<E> {
    let c = flags::cf(e);
    let z = e.imm(0);
    let v = e.sub(z, c);
    let v = e.andi(v, 0xff);
    set_reg(e, 0, Size::B1, false, v);
    Ok(())
}

/// CLD: DF = 0.
pub fn cld<E: Emit, F: Form>(e: &mut E, _: F) -> R<E> {
    e.set_direction(false);
    Ok(())
}
/// STD: DF = 1.
pub fn std<E: Emit, F: Form>(e: &mut E, _: F) -> R<E> {
    e.set_direction(true);
    Ok(())
}

fn may_change_if(cpu: &Cpu) -> bool {
    let iopl = (cpu.rflags >> 12 & 3) as u8;
    !cpu.protected() || if cpu.v86() { iopl == 3 } else { cpu.cpl <= iopl }
}

/// CLI: IF = 0.  #GP(0) if CPL > IOPL.
pub fn cli(cpu: &mut Cpu, _: &Insn) -> Done {
    if !may_change_if(cpu) {
        return Err(gp(0));
    }
    cpu.rflags &= !flags::IF;
    Ok(())
}
/// STI: IF = 1; interrupts wait for the end of the next instruction if IF was 0.
pub fn sti(cpu: &mut Cpu, _: &Insn) -> Done {
    if !may_change_if(cpu) {
        return Err(gp(0));
    }
    if !cpu.flag(flags::IF) {
        cpu.rflags |= flags::IF;
        cpu.shadow = Shadow::Interrupts;
        cpu.events |= event::CHECK | event::STEP;
    }
    Ok(())
}
