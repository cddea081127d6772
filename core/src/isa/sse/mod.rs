//! MMX, SSE, SSE2, SSE3, SSSE3, SSE4.1 and SSE4.2 (SDM 2, without VEX).
//!
//! Moves, integers and shuffles are `emit` functions over [`VecOp`]s; floating point is exact
//! through [`crate::float`] with MXCSR's rounding and flags (`float`, `convert`), lane by lane
//! (`lane`). MMX forms share the mnemonic's function: the first operand tells which it is.

pub mod compare;
pub mod convert;
pub mod crc;
pub mod float;
pub mod int;
pub mod lane;
pub mod mov;
pub mod shuffle;
pub mod string;

use super::operand::*;
use crate::decode::insn::{Insn, opnd};
use crate::emit::{Emit, Slot, Unit};
use crate::size::Size;
use crate::vector::{VecImm, VecOp, VecShift};

/// What an instruction returns.
pub(super) type R<E> = Result<(), <E as Emit>::Stop>;

/// Is the operand an MMX register?
#[inline(always)]
pub(super) fn is_mm(o: u8) -> bool {
    o & 0xf8 == opnd::MM
}
/// Is the operand an XMM register?
#[inline(always)]
pub(super) fn is_xmm(o: u8) -> bool {
    o & 0xf0 == opnd::XMM
}

/// 16 bytes of memory.
///
/// # Errors
/// Faults of the address; #GP(0) if `aligned` and it is not.
#[inline(never)]
pub(super) fn load16<E: Emit>(e: &mut E, i: &Insn, aligned: bool) -> Result<E::Vec, E::Stop> {
    let at = linear(e, i, 16, false)?;
    e.vload(at, aligned)
}
/// Stores 16 bytes.
///
/// # Errors
/// As [`load16`].
#[inline(never)]
pub(super) fn store16<E: Emit>(e: &mut E, i: &Insn, aligned: bool, v: E::Vec) -> R<E> {
    let at = linear(e, i, 16, true)?;
    e.vstore(at, aligned, v)
}
/// `size` bytes of memory.
///
/// # Errors
/// Faults of the address.
#[inline(never)]
pub(super) fn load_low<E: Emit>(e: &mut E, i: &Insn, size: Size) -> Result<E::Val, E::Stop> {
    let at = linear(e, i, size as u8, false)?;
    e.load(at, size)
}
/// Stores `size` bytes.
///
/// # Errors
/// Faults of the address.
#[inline(never)]
pub(super) fn store_low<E: Emit>(e: &mut E, i: &Insn, size: Size, v: E::Val) -> R<E> {
    let at = linear(e, i, size as u8, true)?;
    e.store(at, size, v)
}

/// An XMM register or 16 bytes of aligned memory.
///
/// # Errors
/// Faults of the memory operand.
#[inline(always)]
pub(super) fn xmm_or_mem<E: Emit>(e: &mut E, i: &Insn, o: u8) -> Result<E::Vec, E::Stop> {
    if o == opnd::MEM { load16(e, i, true) } else { Ok(e.vget(o & 15)) }
}
/// The second operand: an XMM register or 16 bytes of aligned memory.
///
/// # Errors
/// Faults of the memory operand.
#[inline(always)]
fn xmm_b<E: Emit, F: Form>(e: &mut E, f: F) -> Result<E::Vec, E::Stop> {
    if f.b_mem() { load16(e, &f, true) } else { Ok(e.vget(f.b & 15)) }
}
/// The low `size` bytes of an XMM, MMX or general register, or that much memory.
///
/// # Errors
/// Faults of the memory operand.
#[inline(always)]
pub(super) fn low<E: Emit>(e: &mut E, i: &Insn, o: u8, size: Size) -> Result<E::Val, E::Stop> {
    if o == opnd::MEM {
        load_low(e, i, size)
    } else if is_xmm(o) {
        let v = e.vget(o & 15);
        Ok(e.vextract(v, size, 0))
    } else if is_mm(o) {
        let v = e.mget(o & 7);
        Ok(e.zx(size, v))
    } else {
        let v = e.get(Slot::Gpr(o & 15));
        Ok(e.zx(size, v))
    }
}
/// The low `size` bytes of an XMM register or memory, as a vector with zeros above.
///
/// # Errors
/// Faults of the memory operand.
#[inline(always)]
pub(super) fn low_vec<E: Emit>(e: &mut E, i: &Insn, o: u8, size: Size) -> Result<E::Vec, E::Stop> {
    let v = low(e, i, o, size)?;
    Ok(widen(e, v))
}
/// A vector with `v` in the low half and zero above.
#[inline(always)]
pub(super) fn widen<E: Emit>(e: &mut E, v: E::Val) -> E::Vec {
    let zero = e.imm(0);
    e.vpair(v, zero)
}

/// dst = dst op src, for XMM registers and, in the low 64 bits, for MMX registers.
#[inline(always)]
pub(super) fn two<E: Emit, F: Form>(e: &mut E, f: F, op: VecOp) -> R<E> {
    if E::COPIES { two_copy(e, f, op) } else { two_shared(e, &f, op) }
}
#[inline(never)]
fn two_shared<E: Emit>(e: &mut E, i: &Insn, op: VecOp) -> R<E> {
    two_copy(e, Any(i), op)
}
#[inline(always)]
fn two_copy<E: Emit, F: Form>(e: &mut E, f: F, op: VecOp) -> R<E> {
    if f.mmx() && is_mm(f.a) {
        return two_mm(e, &f, op);
    }
    e.simd(Unit::Sse)?;
    let b = xmm_b(e, f)?;
    let a = e.vget(f.a & 15);
    let r = e.vec(op, a, b);
    e.vset(f.a & 15, r);
    Ok(())
}
#[inline(never)]
fn two_mm<E: Emit>(e: &mut E, i: &Insn, op: VecOp) -> R<E> {
    let (a, b) = operands_mm(e, i, Size::B8)?;
    let (a, b) = (widen(e, a), widen(e, b));
    let r = e.vec(op, a, b);
    commit_mm(e, i, r, 0);
    Ok(())
}
/// As [`two`], where an MMX form works on both operands as one vector: packs and horizontal
/// operations.
#[inline(always)]
pub(super) fn two_joined<E: Emit, F: Form>(e: &mut E, f: F, op: VecOp) -> R<E> {
    if is_mm(f.a) { joined_mm(e, &f, op) } else { two(e, f, op) }
}
#[inline(never)]
fn joined_mm<E: Emit>(e: &mut E, i: &Insn, op: VecOp) -> R<E> {
    let (a, b) = operands_mm(e, i, Size::B8)?;
    let v = e.vpair(a, b);
    let r = e.vec(op, v, v);
    commit_mm(e, i, r, 0);
    Ok(())
}
/// The operands of an MMX instruction; memory has `size` bytes.
///
/// # Errors
/// #UD, #NM, #MF, faults of the memory operand.
pub(super) fn operands_mm<E: Emit>(e: &mut E, i: &Insn, size: Size) -> Result<(E::Val, E::Val), E::Stop> {
    e.simd(Unit::Mmx)?;
    let b = low(e, i, i.b, size)?;
    Ok((e.mget(i.a & 7), b))
}
/// Writes one half of a vector to the MMX register that is the first operand.
pub(super) fn commit_mm<E: Emit>(e: &mut E, i: &Insn, v: E::Vec, half: u8) {
    let r = e.vextract(v, Size::B8, half);
    e.mset(i.a & 7, r);
}

/// dst = dst op src with an immediate (XMM only).
#[inline(always)]
pub(super) fn two_imm<E: Emit, F: Form>(e: &mut E, f: F, op: VecImm) -> R<E> {
    if E::COPIES { two_imm_copy(e, f, op) } else { two_imm_shared(e, &f, op) }
}
#[inline(never)]
fn two_imm_shared<E: Emit>(e: &mut E, i: &Insn, op: VecImm) -> R<E> {
    two_imm_copy(e, Any(i), op)
}
#[inline(always)]
fn two_imm_copy<E: Emit, F: Form>(e: &mut E, f: F, op: VecImm) -> R<E> {
    e.simd(Unit::Sse)?;
    let b = xmm_b(e, f)?;
    let a = e.vget(f.a & 15);
    let r = e.vec_imm(op, a, b, f.imm as u8);
    e.vset(f.a & 15, r);
    Ok(())
}

/// dst = dst shifted by the source's low 64 bits, or an immediate.
#[inline(always)]
pub(super) fn shift<E: Emit, F: Form>(e: &mut E, f: F, op: VecShift) -> R<E> {
    if E::COPIES { shift_copy(e, f, op) } else { shift_shared(e, &f, op) }
}
#[inline(never)]
fn shift_shared<E: Emit>(e: &mut E, i: &Insn, op: VecShift) -> R<E> {
    shift_copy(e, Any(i), op)
}
#[inline(always)]
fn shift_copy<E: Emit, F: Form>(e: &mut E, f: F, op: VecShift) -> R<E> {
    if f.mmx() && is_mm(f.a) {
        return shift_mm(e, &f, op);
    }
    e.simd(Unit::Sse)?;
    let count = if f.b_imm() {
        e.imm(f.imm & 0xff)
    } else {
        let v = xmm_or_mem(e, &f, f.b)?;
        e.vextract(v, Size::B8, 0)
    };
    let v = e.vget(f.a & 15);
    let r = e.vec_shift(op, v, count);
    e.vset(f.a & 15, r);
    Ok(())
}
#[inline(never)]
fn shift_mm<E: Emit>(e: &mut E, i: &Insn, op: VecShift) -> R<E> {
    e.simd(Unit::Mmx)?;
    let count = if i.b == opnd::IMM { e.imm(i.imm & 0xff) } else { low(e, i, i.b, Size::B8)? };
    let v = e.mget(i.a & 7);
    let v = widen(e, v);
    let r = e.vec_shift(op, v, count);
    commit_mm(e, i, r, 0);
    Ok(())
}
