//! Near transfers: JMP, Jcc, JCXZ, LOOP, CALL, RET. Targets of relative branches are counted
//! from the start of the block, so a block works wherever it is mapped.

use super::operand::*;
use crate::decode::insn::{opnd, slot};
use crate::emit::{Bin, Emit, Slot};
use crate::flags;
use crate::size::Size;

type R<E> = Result<(), <E as Emit>::Stop>;

/// The target of a relative branch, cut to the operand size.
#[inline(always)]
fn target<E: Emit, F: Form>(e: &mut E, f: F) -> E::Val {
    let base = e.get(Slot::Gpr(slot::BLOCK));
    let rel = e.imm(f.imm);
    let t = e.add(base, rel);
    e.zx(f.size(), t)
}

/// The address of the next instruction, cut to the operand size.
#[inline(always)]
fn next<E: Emit, F: Form>(e: &mut E, f: F) -> E::Val {
    let base = e.get(Slot::Gpr(slot::BLOCK));
    let len = e.imm(u64::from(f.off) + u64::from(f.len));
    let t = e.add(base, len);
    e.zx(f.size(), t)
}

/// JMP, relative or through a register or memory.
#[inline(always)]
pub fn jmp<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let t = if f.a == opnd::IMM { target(e, f) } else { read_a(e, f)? };
    e.jump(t)
}

/// Jcc.
#[inline(always)]
pub fn jcc<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let c = match f.flag_op() {
        Some(op) => flags::cond_of_op(e, op, f.cc()),
        None => flags::cond(e, f.cc()),
    };
    let t = target(e, f);
    e.jump_if(c, t)
}

/// The count register in the address size.
fn counter<F: Form>(f: F) -> Size {
    match f.asize {
        8 => Size::B8,
        4 => Size::B4,
        _ => Size::B2,
    }
}

/// JCXZ, JECXZ, JRCXZ.
pub fn jcxz<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let n = reg(e, 1, counter(f), false);
    let c = e.is_zero(n);
    let t = target(e, f);
    e.jump_if(c, t)
}

/// LOOP, LOOPE, LOOPNE (variant in `sub`: 0, 1, 2).  Flags: none.
pub fn loop_<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = counter(f);
    let n = reg(e, 1, s, false);
    let one = e.imm(1);
    let n = e.sub(n, one);
    let n = e.zx(s, n);
    let zero = e.imm(0);
    let mut c = e.bin(Bin::Ne, n, zero);
    if f.sub != 0 {
        let z = flags::zf(e);
        let z = if f.sub == 2 { e.xori(z, 1) } else { z };
        c = e.and(c, z);
    }
    let t = target(e, f);
    // The count is committed even if the jump then faults on its target's limit.
    e.jump_if(c, t)?;
    set_reg(e, 1, s, false, n);
    Ok(())
}

/// CALL near.
#[inline(always)]
pub fn call<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let t = if f.a == opnd::IMM { target(e, f) } else { read_a(e, f)? };
    let ret = next(e, f);
    let sp = stack_ptr(e, f);
    let sp = stack_add(e, f, sp, -(f.size() as i64));
    let at = stack_linear(e, f, sp, f.size(), true)?;
    e.jump(t)?;
    e.store(at, f.size(), ret)?;
    set_stack_ptr(e, f, sp);
    Ok(())
}

/// RET near, with or without a number of bytes to release.
#[inline(always)]
pub fn ret<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let (t, after) = peek(e, f, f.size())?;
    e.jump(t)?;
    let after = if f.a == opnd::IMM { stack_add(e, f, after, (f.imm & 0xffff) as i64) } else { after };
    set_stack_ptr(e, f, after);
    Ok(())
}
