//! MUL, IMUL, DIV, IDIV.

use super::operand::*;
use crate::cpu::Vector;
use crate::decode::insn::opnd;
use crate::emit::{Bin, Emit};
use crate::flags;
use crate::size::Size;

type R<E> = Result<(), <E as Emit>::Stop>;

/// The double-width product of two zero-extended values: low and high part in operand size.
fn product<E: Emit>(e: &mut E, s: Size, a: E::Val, b: E::Val, signed: bool) -> (E::Val, E::Val) {
    if s == Size::B8 {
        let lo = e.bin(Bin::Mul, a, b);
        let hi = e.bin(if signed { Bin::MulHiS } else { Bin::MulHiU }, a, b);
        return (lo, hi);
    }
    let (a, b) = if signed { (e.sx(s, a), e.sx(s, b)) } else { (a, b) };
    let p = e.bin(Bin::Mul, a, b);
    let lo = e.zx(s, p);
    let hi = e.shri(p, s.bits());
    let hi = e.zx(s, hi);
    (lo, hi)
}

/// MUL, one-operand IMUL: rDX:rAX = rAX * src (AX = AL * src for bytes).
/// CF = OF = the high part matters; SF and PF follow the low part, ZF and AF are 0 (undefined).
fn wide<E: Emit, F: Form>(e: &mut E, f: F, signed: bool) -> R<E> {
    let s = f.size();
    let b = read_a(e, f)?;
    let a = reg(e, 0, s, false);
    let (lo, hi) = product(e, s, a, b, signed);
    if s == Size::B1 {
        let h = e.shli(hi, 8);
        let ax = e.or(lo, h);
        set_reg(e, 0, Size::B2, false, ax);
    } else {
        set_reg(e, 0, s, false, lo);
        set_reg(e, 2, s, false, hi);
    }
    let fits = if signed {
        let l = e.sx(s, lo);
        let sign = e.sign(l);
        e.zx(s, sign)
    } else {
        e.imm(0)
    };
    let c = e.bin(Bin::Ne, hi, fits);
    flags::result(e, s, lo, c, c);
    Ok(())
}

/// MUL.
pub fn mul<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    wide(e, f, false)
}

/// IMUL with one, two or three operands.
#[inline(always)]
pub fn imul<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    if f.b == opnd::NONE {
        return wide(e, f, true);
    }
    let s = f.size();
    let b = read_b(e, f)?;
    let a = if f.c == opnd::IMM { e.imm(s.zx(f.imm)) } else { reg(e, f.a, s, false) };
    let (lo, hi) = product(e, s, a, b, true);
    set_reg(e, f.a, s, false, lo);
    let l = e.sx(s, lo);
    let sign = e.sign(l);
    let sign = e.zx(s, sign);
    let c = e.bin(Bin::Ne, hi, sign);
    flags::result(e, s, lo, c, c);
    Ok(())
}

/// DIV: rDX:rAX / src, quotient to rAX, remainder to rDX.  #DE if the quotient does not fit.
/// All flags undefined (kept).
pub fn div<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    let d = read_a(e, f)?;
    let (hi, lo) = dividend(e, s);
    let zero = e.imm(0);
    let (hi, n) = if s == Size::B8 { (hi, lo) } else { (zero, joined(e, s, hi, lo)) };
    let q = e.divide(false, hi, n, d)?;
    let fits = e.zx(s, q);
    finish(e, s, q, fits, n, d)
}

/// IDIV: as DIV, signed; the quotient is rounded toward zero.
pub fn idiv<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    let d = read_a(e, f)?;
    let d = e.sx(s, d);
    let (hi, lo) = dividend(e, s);
    let (hi, n) = if s == Size::B8 {
        (hi, lo)
    } else {
        let hi = e.sx(s, hi);
        let n = joined(e, s, hi, lo);
        (e.sign(n), n)
    };
    let q = e.divide(true, hi, n, d)?;
    let fits = e.sx(s, q);
    finish(e, s, q, fits, n, d)
}

/// rDX:rAX (AX for bytes), high and low.
fn dividend<E: Emit>(e: &mut E, s: Size) -> (E::Val, E::Val) {
    if s == Size::B1 {
        let ax = reg(e, 0, Size::B2, false);
        return (e.shri(ax, 8), e.zx(s, ax));
    }
    (reg(e, 2, s, false), reg(e, 0, s, false))
}
/// Both halves of a dividend that has no more than 64 bits.
fn joined<E: Emit>(e: &mut E, s: Size, hi: E::Val, lo: E::Val) -> E::Val {
    let hi = e.shli(hi, s.bits());
    e.or(hi, lo)
}

/// Commits the quotient if it fits, and the remainder.
fn finish<E: Emit>(e: &mut E, s: Size, q: E::Val, fits: E::Val, n: E::Val, d: E::Val) -> R<E> {
    let not = e.bin(Bin::Ne, q, fits);
    e.when(not, |e| Err(e.raise(Vector::DE)))?;
    let product = e.bin(Bin::Mul, q, d);
    let r = e.sub(n, product);
    let (q, r) = (e.zx(s, q), e.zx(s, r));
    if s == Size::B1 {
        let r = e.shli(r, 8);
        let ax = e.or(q, r);
        set_reg(e, 0, Size::B2, false, ax);
    } else {
        set_reg(e, 0, s, false, q);
        set_reg(e, 2, s, false, r);
    }
    Ok(())
}
