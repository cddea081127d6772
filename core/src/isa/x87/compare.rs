//! FCOM, FUCOM, FICOM, FCOMI, FTST, FXAM, FCMOVcc.

use super::arith::{integer, real};
use super::{enter, note, opcode, sti};
use crate::cpu::fpu::Eflags;
use crate::cpu::{Cpu, Done};
use crate::decode::insn::Insn;
use crate::flags;

fn com(cpu: &mut Cpu, i: &Insn, pops: u8) -> Done {
    enter(cpu)?;
    let src = real(cpu, i)?;
    cpu.fpu.fcom(src, pops);
    Ok(())
}
/// FCOM.
pub fn fcom(cpu: &mut Cpu, i: &Insn) -> Done {
    com(cpu, i, 0)
}
/// FCOMP.
pub fn fcomp(cpu: &mut Cpu, i: &Insn) -> Done {
    com(cpu, i, 1)
}
/// FCOMPP: the opcode's low bits name ST(1).
pub fn fcompp(cpu: &mut Cpu, i: &Insn) -> Done {
    com(cpu, i, 2)
}

fn icom(cpu: &mut Cpu, i: &Insn, pops: u8) -> Done {
    enter(cpu)?;
    let src = integer(cpu, i)?;
    cpu.fpu.fcom(src, pops);
    Ok(())
}
/// FICOM.
pub fn ficom(cpu: &mut Cpu, i: &Insn) -> Done {
    icom(cpu, i, 0)
}
/// FICOMP.
pub fn ficomp(cpu: &mut Cpu, i: &Insn) -> Done {
    icom(cpu, i, 1)
}

fn ucom(cpu: &mut Cpu, i: &Insn, pops: u8) -> Done {
    enter(cpu)?;
    note(cpu, i);
    cpu.fpu.fucom(sti(i), pops);
    Ok(())
}
/// FUCOM.
pub fn fucom(cpu: &mut Cpu, i: &Insn) -> Done {
    ucom(cpu, i, 0)
}
/// FUCOMP.
pub fn fucomp(cpu: &mut Cpu, i: &Insn) -> Done {
    ucom(cpu, i, 1)
}
/// FUCOMPP: the opcode's low bits name ST(1).
pub fn fucompp(cpu: &mut Cpu, i: &Insn) -> Done {
    ucom(cpu, i, 2)
}

fn comi(cpu: &mut Cpu, i: &Insn, quiet: bool, pop: bool) -> Done {
    enter(cpu)?;
    note(cpu, i);
    let Eflags { zf, pf, cf } = cpu.fpu.fcomi(sti(i), quiet, pop);
    let bit = |on: bool, f: u64| if on { f } else { 0 };
    flags::write(cpu, bit(zf, flags::ZF) | bit(pf, flags::PF) | bit(cf, flags::CF));
    Ok(())
}
/// FCOMI.  ZF, PF, CF; OF, SF, AF = 0.
pub fn fcomi(cpu: &mut Cpu, i: &Insn) -> Done {
    comi(cpu, i, false, false)
}
/// FCOMIP.  As FCOMI.
pub fn fcomip(cpu: &mut Cpu, i: &Insn) -> Done {
    comi(cpu, i, false, true)
}
/// FUCOMI.  As FCOMI.
pub fn fucomi(cpu: &mut Cpu, i: &Insn) -> Done {
    comi(cpu, i, true, false)
}
/// FUCOMIP.  As FCOMI.
pub fn fucomip(cpu: &mut Cpu, i: &Insn) -> Done {
    comi(cpu, i, true, true)
}

/// FTST.
pub fn ftst(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    note(cpu, i);
    cpu.fpu.ftst();
    Ok(())
}
/// FXAM.
pub fn fxam(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    note(cpu, i);
    cpu.fpu.fxam();
    Ok(())
}

/// FCMOVcc: below, equal, below or equal, unordered (DA), and their opposites (DB).
pub fn fcmovcc(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    note(cpu, i);
    let cc = [2, 4, 6, 10][usize::from(opcode(i) >> 3 & 3)] | (opcode(i) >> 8) as u8 & 1;
    let holds = flags::cond(cpu, cc) != 0;
    cpu.fpu.fcmov(holds, sti(i));
    Ok(())
}
