//! Addition, subtraction, comparison, increment and decrement.

use super::operand::*;
use crate::emit::Emit;
use crate::flags::{self, FlagOp};

type R<E> = Result<(), <E as Emit>::Stop>;

/// ADD: dst += src.  OSZAPC all written.
#[inline(always)]
pub fn add<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    let b = read_b(e, f)?;
    modify_a(
        e,
        f,
        #[inline(always)]
        |e, a| {
            let r = e.add(a, b);
            let r = e.zx(s, r);
            e.flags(FlagOp::Add, s, a, b, r);
            r
        },
    )?;
    Ok(())
}

/// ADC: dst += src + CF.  OSZAPC all written.
#[inline(always)]
pub fn adc<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    let b = read_b(e, f)?;
    modify_a(
        e,
        f,
        #[inline(always)]
        |e, a| {
            let c = flags::cf(e);
            let r = e.add(a, b);
            let r = e.add(r, c);
            let r = e.zx(s, r);
            e.flags(FlagOp::Adc, s, a, b, r);
            r
        },
    )?;
    Ok(())
}

/// SUB: dst -= src.  OSZAPC all written.
#[inline(always)]
pub fn sub<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    let b = read_b(e, f)?;
    modify_a(
        e,
        f,
        #[inline(always)]
        |e, a| {
            let r = e.sub(a, b);
            let r = e.zx(s, r);
            e.flags(FlagOp::Sub, s, a, b, r);
            r
        },
    )?;
    Ok(())
}

/// SBB: dst -= src + CF.  OSZAPC all written.
#[inline(always)]
pub fn sbb<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    let b = read_b(e, f)?;
    modify_a(
        e,
        f,
        #[inline(always)]
        |e, a| {
            let c = flags::cf(e);
            let r = e.sub(a, b);
            let r = e.sub(r, c);
            let r = e.zx(s, r);
            e.flags(FlagOp::Sbb, s, a, b, r);
            r
        },
    )?;
    Ok(())
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
    let s = f.size();
    modify_a(
        e,
        f,
        #[inline(always)]
        |e, a| {
            let b = e.imm(1);
            let r = e.add(a, b);
            let r = e.zx(s, r);
            e.flags(FlagOp::Inc, s, a, b, r);
            r
        },
    )?;
    Ok(())
}

/// DEC.  OSZAP written, CF kept.
#[inline(always)]
pub fn dec<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    modify_a(
        e,
        f,
        #[inline(always)]
        |e, a| {
            let b = e.imm(1);
            let r = e.sub(a, b);
            let r = e.zx(s, r);
            e.flags(FlagOp::Dec, s, a, b, r);
            r
        },
    )?;
    Ok(())
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
