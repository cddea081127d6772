//! The arithmetic flags, kept lazily in two words.
//!
//! `FlagResult` is the last result, sign-extended: ZF, SF and PF are read off it.
//! `FlagAux` has what the result does not tell:
//!
//! | bits  | meaning                                                        |
//! |-------|----------------------------------------------------------------|
//! | 63    | CF                                                             |
//! | 62    | CF xor OF                                                      |
//! | 15:8  | PF = even parity of (result ^ these)                           |
//! | 1     | SF = sign of the result ^ this                                 |
//! | 0     | AF                                                             |
//!
//! An addition's carries out of every bit are `a & b | (a | b) & !r`; shifting the operand's
//! two top bits to the top of the word makes CF and OF independent of the operand size, so
//! reading a flag never asks what the last operation was.

use crate::emit::{Bin, Emit, Slot, Un};
use crate::size::Size;

/// CF in RFLAGS.
pub const CF: u64 = 1 << 0;
/// PF in RFLAGS.
pub const PF: u64 = 1 << 2;
/// AF in RFLAGS.
pub const AF: u64 = 1 << 4;
/// ZF in RFLAGS.
pub const ZF: u64 = 1 << 6;
/// SF in RFLAGS.
pub const SF: u64 = 1 << 7;
/// TF in RFLAGS.
pub const TF: u64 = 1 << 8;
/// IF in RFLAGS.
pub const IF: u64 = 1 << 9;
/// DF in RFLAGS.
pub const DF: u64 = 1 << 10;
/// OF in RFLAGS.
pub const OF: u64 = 1 << 11;
/// IOPL in RFLAGS.
pub const IOPL: u64 = 3 << 12;
/// NT in RFLAGS.
pub const NT: u64 = 1 << 14;
/// RF in RFLAGS.
pub const RF: u64 = 1 << 16;
/// VM in RFLAGS.
pub const VM: u64 = 1 << 17;
/// AC in RFLAGS.
pub const AC: u64 = 1 << 18;
/// VIF in RFLAGS.
pub const VIF: u64 = 1 << 19;
/// VIP in RFLAGS.
pub const VIP: u64 = 1 << 20;
/// ID in RFLAGS.
pub const ID: u64 = 1 << 21;
/// The six arithmetic flags.
pub const OSZAPC: u64 = OF | SF | ZF | AF | PF | CF;

const TOP2: u64 = 3 << 62;

/// Which rule gives CF, OF and AF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagOp {
    /// ADD, ADC, XADD.
    Add,
    /// SUB, SBB, CMP, NEG (0 - b), CMPXCHG, SCAS, CMPS.
    Sub,
    /// INC: as `Add` with b = 1, CF kept.
    Inc,
    /// DEC: as `Sub` with b = 1, CF kept.
    Dec,
    /// AND, OR, XOR, TEST: CF = OF = 0, AF = 0 (undefined).
    Logic,
}

/// Writes the two words for `r = a op b`.
#[inline(always)]
pub fn record<E: Emit>(e: &mut E, op: FlagOp, size: Size, a: E::Val, b: E::Val, r: E::Val) {
    let aux = match op {
        FlagOp::Logic => e.imm(0),
        FlagOp::Add | FlagOp::Inc => {
            let (both, any, nr) = (e.and(a, b), e.or(a, b), e.not(r));
            let t = e.and(any, nr);
            let c = e.or(both, t);
            carries(e, size, c, op == FlagOp::Inc)
        }
        FlagOp::Sub | FlagOp::Dec => {
            let na = e.not(a);
            let (both, any) = (e.and(na, b), e.or(na, b));
            let t = e.and(any, r);
            let c = e.or(both, t);
            carries(e, size, c, op == FlagOp::Dec)
        }
    };
    let r = e.sx(size, r);
    e.set(Slot::FlagResult, r);
    e.set(Slot::FlagAux, aux);
}

/// The aux word from the carries (or borrows) out of every bit.
#[inline(always)]
fn carries<E: Emit>(e: &mut E, size: Size, c: E::Val, keep_cf: bool) -> E::Val {
    let top = e.shli(c, 64 - size.bits());
    let top = e.andi(top, TOP2);
    let af = e.shri(c, 3);
    let af = e.andi(af, 1);
    let aux = e.or(top, af);
    if !keep_cf {
        return aux;
    }
    // Flip both top bits if the kept CF differs from the computed one: OF stays.
    let old = e.get(Slot::FlagAux);
    let diff = e.xor(old, aux);
    let diff = e.andi(diff, 1 << 63);
    let half = e.shri(diff, 1);
    let both = e.or(diff, half);
    e.xor(aux, both)
}

/// CF as 0 or 1.
#[inline(always)]
pub fn cf<E: Emit>(e: &mut E) -> E::Val {
    let aux = e.get(Slot::FlagAux);
    e.shri(aux, 63)
}
/// OF as 0 or 1.
#[inline(always)]
pub fn of<E: Emit>(e: &mut E) -> E::Val {
    let aux = e.get(Slot::FlagAux);
    let up = e.shli(aux, 1);
    let x = e.xor(aux, up);
    e.shri(x, 63)
}
/// ZF as 0 or 1.
#[inline(always)]
pub fn zf<E: Emit>(e: &mut E) -> E::Val {
    let r = e.get(Slot::FlagResult);
    e.is_zero(r)
}
/// SF as 0 or 1.
#[inline(always)]
pub fn sf<E: Emit>(e: &mut E) -> E::Val {
    let (r, aux) = (e.get(Slot::FlagResult), e.get(Slot::FlagAux));
    let s = e.shri(r, 63);
    let d = e.shri(aux, 1);
    let d = e.andi(d, 1);
    e.xor(s, d)
}
/// PF as 0 or 1.
#[inline(always)]
pub fn pf<E: Emit>(e: &mut E) -> E::Val {
    let (r, aux) = (e.get(Slot::FlagResult), e.get(Slot::FlagAux));
    let d = e.shri(aux, 8);
    let x = e.xor(r, d);
    e.un(Un::Parity, x)
}
/// AF as 0 or 1.
#[inline(always)]
pub fn af<E: Emit>(e: &mut E) -> E::Val {
    let aux = e.get(Slot::FlagAux);
    e.andi(aux, 1)
}

/// The condition with this number (SDM 1 appendix B.1: 0 O, 1 NO, 2 B, ... 15 NLE), as 0 or 1.
#[inline(always)]
pub fn cond<E: Emit>(e: &mut E, cc: u8) -> E::Val {
    let c = match cc >> 1 & 7 {
        0 => of(e),
        1 => cf(e),
        2 => zf(e),
        3 => {
            let (c, z) = (cf(e), zf(e));
            e.or(c, z)
        }
        4 => sf(e),
        5 => pf(e),
        6 => {
            let (s, o) = (sf(e), of(e));
            e.xor(s, o)
        }
        _ => {
            let (s, o, z) = (sf(e), of(e), zf(e));
            let l = e.xor(s, o);
            e.or(l, z)
        }
    };
    if cc & 1 != 0 { e.xori(c, 1) } else { c }
}

/// The six flags at their places in RFLAGS.
#[inline]
pub fn read<E: Emit>(e: &mut E) -> E::Val {
    let mut v = cf(e);
    for (f, n) in [(pf(e), 2), (af(e), 4), (zf(e), 6), (sf(e), 7), (of(e), 11)] {
        let f = e.shli(f, n);
        v = e.or(v, f);
    }
    v
}

/// Sets the six flags from an RFLAGS image.
#[inline]
pub fn write<E: Emit>(e: &mut E, v: E::Val) {
    let bit = |e: &mut E, n: u32| {
        let x = e.shri(v, n);
        e.andi(x, 1)
    };
    let (c, p, a, z, s, o) = (bit(e, 0), bit(e, 2), bit(e, 4), bit(e, 6), bit(e, 7), bit(e, 11));
    // The result is 0 or 1 as ZF asks; its parity is then ZF, its sign 0.
    let r = e.xori(z, 1);
    let co = e.xor(c, o);
    let (c, co) = (e.shli(c, 63), e.shli(co, 62));
    let p = e.xor(p, z);
    let (p, s) = (e.shli(p, 8), e.shli(s, 1));
    let aux = e.or(c, co);
    let aux = e.or(aux, p);
    let aux = e.or(aux, s);
    let aux = e.or(aux, a);
    e.set(Slot::FlagResult, r);
    e.set(Slot::FlagAux, aux);
}

/// Sets CF and OF (each 0 or 1), keeps the others.
#[inline(always)]
pub fn set_cf_of<E: Emit>(e: &mut E, c: E::Val, o: E::Val) {
    let aux = e.get(Slot::FlagAux);
    let rest = e.andi(aux, !TOP2);
    let co = e.xor(c, o);
    let (c, co) = (e.shli(c, 63), e.shli(co, 62));
    let top = e.or(c, co);
    let aux = e.or(rest, top);
    e.set(Slot::FlagAux, aux);
}

/// Sets CF (0 or 1), keeps the others.
#[inline(always)]
pub fn set_cf<E: Emit>(e: &mut E, c: E::Val) {
    let o = of(e);
    set_cf_of(e, c, o);
}

/// Flags of a result with given CF and OF; AF = 0 (where it is undefined).
#[inline(always)]
pub fn result<E: Emit>(e: &mut E, size: Size, r: E::Val, c: E::Val, o: E::Val) {
    let r = e.sx(size, r);
    let co = e.xor(c, o);
    let (c, co) = (e.shli(c, 63), e.shli(co, 62));
    let aux = e.or(c, co);
    e.set(Slot::FlagResult, r);
    e.set(Slot::FlagAux, aux);
}

/// Sets only ZF (0 or 1), keeps the others.
pub fn set_zf<E: Emit>(e: &mut E, z: E::Val) {
    let v = read(e);
    let v = e.andi(v, !ZF);
    let z = e.shli(z, 6);
    let v = e.or(v, z);
    write(e, v);
}

/// `a < b` unsigned, a shorthand for carries of wide operations.
#[inline(always)]
pub fn below<E: Emit>(e: &mut E, a: E::Val, b: E::Val) -> E::Val {
    e.bin(Bin::LtU, a, b)
}
