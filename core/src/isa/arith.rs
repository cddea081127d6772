//! Addition, subtraction, comparison, increment and decrement.

use super::operand::*;
use crate::emit::Emit;
use crate::flags::{self, FlagOp};

type R<E> = Result<(), <E as Emit>::Stop>;

/// dst = `result` of dst and `b`; `op` says which flags that makes. (Given as functions, not as
/// closures, the computations are sure to be compiled in place.)
#[inline(always)]
fn change<E: Emit, F: Form>(
    e: &mut E,
    f: F,
    op: FlagOp,
    b: E::Val,
    result: impl FnOnce(&mut E, E::Val, E::Val) -> E::Val,
) -> R<E> {
    let s = f.size();
    modify_a(
        e,
        f,
        #[inline(always)]
        |e, a| {
            let r = result(e, a, b);
            let r = e.zx(s, r);
            e.flags(op, s, a, b, r);
            r
        },
    )?;
    Ok(())
}

/// `a + b + CF`.
#[inline(always)]
fn add_carry<E: Emit>(e: &mut E, a: E::Val, b: E::Val) -> E::Val {
    let c = flags::cf(e);
    let r = e.add(a, b);
    e.add(r, c)
}

/// `a - b - CF`.
#[inline(always)]
fn sub_borrow<E: Emit>(e: &mut E, a: E::Val, b: E::Val) -> E::Val {
    let c = flags::cf(e);
    let r = e.sub(a, b);
    e.sub(r, c)
}

/// ADD: dst += src.  OSZAPC all written.
#[inline(always)]
pub fn add<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let b = read_b(e, f)?;
    change(e, f, FlagOp::Add, b, E::add)
}

/// ADC: dst += src + CF.  OSZAPC all written.
#[inline(always)]
pub fn adc<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let b = read_b(e, f)?;
    change(e, f, FlagOp::Adc, b, add_carry)
}

/// SUB: dst -= src.  OSZAPC all written.
#[inline(always)]
pub fn sub<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let b = read_b(e, f)?;
    change(e, f, FlagOp::Sub, b, E::sub)
}

/// SBB: dst -= src + CF.  OSZAPC all written.
#[inline(always)]
pub fn sbb<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let b = read_b(e, f)?;
    change(e, f, FlagOp::Sbb, b, sub_borrow)
}

/// CMP: flags of dst - src.  OSZAPC all written.
#[inline(always)]
pub fn cmp<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    let a = read_a(e, f)?;
    let b = read_b(e, f)?;
    let r = e.sub(a, b);
    let r = e.zx(s, r);
    e.flags(FlagOp::Sub, s, a, b, r);
    Ok(())
}

/// INC.  OSZAP written, CF kept.
#[inline(always)]
pub fn inc<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let one = e.imm(1);
    change(e, f, FlagOp::Inc, one, E::add)
}

/// DEC.  OSZAP written, CF kept.
#[inline(always)]
pub fn dec<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let one = e.imm(1);
    change(e, f, FlagOp::Dec, one, E::sub)
}

/// NEG: dst = 0 - dst.  OSZAPC all written.
#[inline(always)]
pub fn neg<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    modify_a(
        e,
        f,
        #[inline(always)]
        |e, b| {
            let a = e.imm(0);
            let r = e.sub(a, b);
            let r = e.zx(s, r);
            e.flags(FlagOp::Sub, s, a, b, r);
            r
        },
    )?;
    Ok(())
}
