//! Interrupts and exceptions that programs ask for: INT n, INT3, INT1, INTO, BOUND (SDM 2A).

use super::operand::*;
use crate::cpu::exception::Source;
use crate::cpu::{Cpu, Done, Vector, fault, gp};
use crate::decode::insn::Insn;
use crate::flags;

/// A trap delivered by the instruction itself; the saved RIP is the next instruction's.
fn software(cpu: &mut Cpu, vector: u8, source: Source) -> Done {
    let next = cpu.rip;
    cpu.interrupt(vector, source, next)
}

/// INT n.  #GP(0) in virtual-8086 mode with IOPL below 3.
pub fn int(cpu: &mut Cpu, i: &Insn) -> Done {
    if cpu.v86() && cpu.rflags & flags::IOPL != flags::IOPL {
        return Err(gp(0));
    }
    software(cpu, i.imm as u8, Source::Software)
}

/// INT3: #BP.
pub fn int3(cpu: &mut Cpu, _: &Insn) -> Done {
    software(cpu, 3, Source::Software)
}

/// INT1 (ICEBP): #DB, without the privilege check of the gate.
pub fn int1(cpu: &mut Cpu, _: &Insn) -> Done {
    // A breakpoint that MOV SS held off until now shares this #DB.
    let held = core::mem::take(&mut cpu.pending_db);
    if held != 0 {
        cpu.tell_dr6(held);
    }
    software(cpu, 1, Source::Exception(None))
}

/// INTO: #OF if OF.
pub fn into(cpu: &mut Cpu, _: &Insn) -> Done {
    if flags::of(cpu) == 0 {
        return Ok(());
    }
    software(cpu, 4, Source::Software)
}

/// BOUND: #BR unless lower <= index <= upper (signed).
pub fn bound(cpu: &mut Cpu, i: &Insn) -> Done {
    let s = i.size;
    let index = s.sx(cpu.regs[(i.a & 15) as usize]) as i64;
    let at = linear(cpu, i, 2 * s as u8, false)?;
    let lo = s.sx(cpu.read(at, s)?) as i64;
    let hi = cpu.read(crate::emit::Linear { at: at.at.wrapping_add(s.bytes()) & 0xffff_ffff, ..at }, s)?;
    if index < lo || index > s.sx(hi) as i64 {
        return Err(fault(Vector::BR));
    }
    Ok(())
}
