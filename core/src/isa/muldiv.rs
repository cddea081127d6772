//! MUL, IMUL, DIV, IDIV.

use super::operand::*;
use crate::cpu::{Cpu, Done, Vector, fault};
use crate::decode::insn::{Insn, opnd};
use crate::emit::{Bin, Emit, Slot};
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
        let n = e.imm(63);
        let sign = e.bin(Bin::Sar, l, n);
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
    let n = e.imm(63);
    let sign = e.bin(Bin::Sar, l, n);
    let sign = e.zx(s, sign);
    let c = e.bin(Bin::Ne, hi, sign);
    flags::result(e, s, lo, c, c);
    Ok(())
}

/// DIV: rDX:rAX / src, quotient to rAX, remainder to rDX.  #DE if the quotient does not fit.
/// All flags undefined (kept).
pub fn div(cpu: &mut Cpu, i: &Insn) -> Done {
    let s = i.size;
    let d = read_a(cpu, Any(i))?;
    if d == 0 {
        return Err(fault(Vector::DE));
    }
    let (lo, hi) = dividend(cpu, s);
    if hi >= d {
        return Err(fault(Vector::DE));
    }
    let (q, r) = if s == Size::B8 {
        if hi == 0 {
            (lo / d, lo % d)
        } else {
            let n = u128::from(hi) << 64 | u128::from(lo);
            ((n / u128::from(d)) as u64, (n % u128::from(d)) as u64)
        }
    } else {
        let n = hi << s.bits() | lo;
        (n / d, n % d)
    };
    finish(cpu, s, q, r);
    Ok(())
}

/// IDIV: as DIV, signed; the quotient is rounded toward zero.
pub fn idiv(cpu: &mut Cpu, i: &Insn) -> Done {
    let s = i.size;
    let d = i128::from(s.sx(read_a(cpu, Any(i))?) as i64);
    let (lo, hi) = dividend(cpu, s);
    let n = (i128::from(s.sx(hi) as i64) << s.bits()) | i128::from(lo);
    let (Some(q), Some(r)) = (n.checked_div(d), n.checked_rem(d)) else {
        return Err(fault(Vector::DE));
    };
    if q != i128::from(s.sx(q as u64) as i64) {
        return Err(fault(Vector::DE));
    }
    finish(cpu, s, s.zx(q as u64), s.zx(r as u64));
    Ok(())
}

/// rDX:rAX (AX for bytes), low and high.
fn dividend(cpu: &mut Cpu, s: Size) -> (u64, u64) {
    let rax = cpu.get(Slot::Gpr(0));
    if s == Size::B1 {
        return (rax & 0xff, rax >> 8 & 0xff);
    }
    (s.zx(rax), s.zx(cpu.get(Slot::Gpr(2))))
}

fn finish(cpu: &mut Cpu, s: Size, q: u64, r: u64) {
    if s == Size::B1 {
        set_reg(cpu, 0, Size::B2, false, r << 8 | q);
    } else {
        set_reg(cpu, 0, s, false, q);
        set_reg(cpu, 2, s, false, r);
    }
}
