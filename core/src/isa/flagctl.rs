//! CLC, STC, CMC, CLD, STD, LAHF, SAHF, SALC; CLI and STI.

use super::operand::*;
use crate::cpu::Vector;
use crate::emit::{Bin, Emit, Mode, Slot};
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
    let v = e.get(Slot::System);
    let v = e.andi(v, !flags::DF);
    e.set(Slot::System, v);
    Ok(())
}
/// STD: DF = 1.
pub fn std<E: Emit, F: Form>(e: &mut E, _: F) -> R<E> {
    let v = e.get(Slot::System);
    let v = e.ori(v, flags::DF);
    e.set(Slot::System, v);
    Ok(())
}

/// #GP(0) unless IF may be changed: CPL <= IOPL, which is 3 in virtual-8086 mode; in real mode always.
fn may_change_if<E: Emit>(e: &mut E) -> R<E> {
    let system = e.get(Slot::System);
    let iopl = e.shri(system, 12);
    let iopl = e.andi(iopl, 3);
    let cpl = e.get(Slot::Cpl);
    let above = e.bin(Bin::LtU, iopl, cpl);
    let protected = e.mode_is(Mode::Protected);
    let not = e.and(above, protected);
    e.when(not, |e| Err(e.raise(Vector::GP)))
}

/// CLI: IF = 0.  #GP(0) if CPL > IOPL.
pub fn cli<E: Emit, F: Form>(e: &mut E, _: F) -> R<E> {
    may_change_if(e)?;
    let v = e.get(Slot::System);
    let v = e.andi(v, !flags::IF);
    e.set(Slot::System, v);
    Ok(())
}
/// STI: IF = 1; interrupts wait for the end of the next instruction if IF was 0.
pub fn sti<E: Emit, F: Form>(e: &mut E, _: F) -> R<E> {
    may_change_if(e)?;
    let v = e.get(Slot::System);
    let was = e.andi(v, flags::IF);
    let rises = e.is_zero(was);
    e.let_interrupts_in(rises, true)?;
    let v = e.ori(v, flags::IF);
    e.set(Slot::System, v);
    Ok(())
}
