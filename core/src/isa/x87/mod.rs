//! The x87 instructions: what stands between the CPU and the unit in `cpu/fpu`. They check for
//! #NM and pending errors, move operands to and from memory before the unit changes, and note
//! opcode and pointers. Which ST(i) an instruction means is read from its opcode, `Insn::imm`.
//!
//! An unmasked exception stays pending until the next waiting instruction. With CR0.NE set that
//! raises #MF. With NE clear the processor drives FERR# and waits for an interrupt, usually
//! IRQ 13, unless the board answers with IGNNE# (SDM 1, 8.7 and appendix D); see
//! [`Bus::fpu_error`](crate::bus::Bus::fpu_error).

pub mod area;
pub mod arith;
pub mod compare;
pub mod control;
pub mod data;

use super::operand::{linear, wrapped_offset};
use crate::cpu::{Cpu, Done, Stop, Vector, cr0, event, fault, reg};
use crate::decode::insn::{Ea, Insn, opnd};
use crate::emit::{Emit, Linear, Number};
use crate::size::Size;

/// The 11 opcode bits of an x87 instruction: three of the first byte, then ModRM.
#[inline(always)]
pub(crate) fn opcode(i: &Insn) -> u16 {
    i.imm as u16
}

/// The i of ST(i).
#[inline(always)]
fn sti(i: &Insn) -> u8 {
    i.imm as u8 & 7
}

/// Before a waiting instruction: #NM, then pending errors.
#[inline(always)]
pub(crate) fn enter(cpu: &mut Cpu) -> Done {
    if cpu.cr0 & (cr0::EM | cr0::TS) != 0 || cpu.fpu.pending() {
        return refuse(cpu);
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn refuse(cpu: &mut Cpu) -> Done {
    enter_no_wait(cpu)?;
    pending_error(cpu)
}

/// Before an instruction that does not wait (FN...): #NM.
#[inline(always)]
pub(super) fn enter_no_wait(cpu: &Cpu) -> Done {
    if cpu.cr0 & (cr0::EM | cr0::TS) != 0 {
        return Err(fault(Vector::NM));
    }
    Ok(())
}

/// A waiting instruction meets a pending error, if there is one.
#[cold]
#[inline(never)]
pub(crate) fn pending_error(cpu: &mut Cpu) -> Done {
    if !cpu.fpu.pending() {
        return Ok(());
    }
    if cpu.cr0 & cr0::NE != 0 {
        return Err(fault(Vector::MF));
    }
    if !cpu.alone {
        return Err(Stop::Alone);
    }
    cpu.ferr = true;
    if cpu.bus().fpu_error(true) {
        return Ok(());
    }
    // Waits in front of this instruction, as HLT waits behind itself.
    cpu.events |= event::HALTED | event::CHECK;
    Err(Stop::Alone)
}

/// Before an instruction that may take away a pending error: the board is told, so it runs alone.
#[inline(always)]
pub(super) fn before_clearing(cpu: &Cpu) -> Done {
    if cpu.ferr && !cpu.alone { Err(Stop::Alone) } else { Ok(()) }
}

/// After such an instruction: FERR# follows.
#[inline(always)]
pub(super) fn after_clearing(cpu: &mut Cpu) {
    if cpu.ferr && !cpu.fpu.pending() {
        cpu.ferr = false;
        let _ = cpu.bus().fpu_error(false);
        cpu.events |= event::CHECK;
    }
}

/// Notes opcode and address of the instruction (SDM 1, 8.1.8). Prefixes belong to it.
#[inline(always)]
pub(crate) fn note(cpu: &mut Cpu, i: &Insn, start: u64) {
    let ip = cpu.rip_mask(start);
    let cs = cpu.seg[reg::CS as usize].sel;
    cpu.fpu.note(opcode(i), cs, ip);
}

/// Notes the segment of the memory operand.
#[inline(always)]
pub(crate) fn note_segment(cpu: &mut Cpu, i: &Insn) {
    let seg = cpu.seg[usize::from(i.seg & 7)].sel;
    cpu.fpu.note_segment(seg);
}

/// Notes the memory operand: an offset in its segment.
#[inline(always)]
pub(crate) fn note_data(cpu: &mut Cpu, i: &Insn, at: u64) {
    note_segment(cpu, i);
    cpu.fpu.note_offset(at);
}

/// [`Emit::x87_note`] with the memory operand.
#[inline(always)]
fn note_memory(cpu: &mut Cpu, i: &Insn) {
    let at = wrapped_offset(cpu, i);
    cpu.x87_note(i, Some(at));
}

/// A number or its place, with its offset for FDP.
type With<E, T, U> = Result<(T, U), <E as Emit>::Stop>;

/// Where the memory operand is, and its offset in the segment.
#[inline(always)]
fn operand<E: Emit>(e: &mut E, i: &Insn, write: bool) -> With<E, Linear<E::Val>, E::Val> {
    let at = linear(e, i, i.size2, write)?;
    let offset = match i.ea {
        Ea::Flat32 | Ea::Flat64 => at.at,
        _ => wrapped_offset(e, i),
    };
    Ok((at, offset))
}

/// The integer in memory, and where it is.
#[inline(always)]
fn integer<E: Emit>(e: &mut E, i: &Insn) -> With<E, Number<E::Val>, E::Val> {
    let size = integer_size(i);
    let (at, offset) = operand(e, i, false)?;
    let v = e.load(at, size)?;
    Ok((Number::Integer(e.sx(size, v)), offset))
}

/// The width of an integer in memory.
#[inline(always)]
fn integer_size(i: &Insn) -> Size {
    match i.size2 {
        2 => Size::B2,
        4 => Size::B4,
        _ => Size::B8,
    }
}

/// The floating-point number in memory, or ST(i).
#[inline(always)]
fn real<E: Emit>(e: &mut E, i: &Insn) -> With<E, Number<E::Val>, Option<E::Val>> {
    if i.a != opnd::MEM {
        return Ok((Number::St(sti(i)), None));
    }
    let (at, offset) = operand(e, i, false)?;
    let v = if i.size2 == 4 { Number::Single(e.load(at, Size::B4)?) } else { Number::Double(e.load(at, Size::B8)?) };
    Ok((v, Some(offset)))
}
