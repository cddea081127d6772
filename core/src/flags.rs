//! The arithmetic flags, kept lazily: what the last flag-setting operation was, its operands and
//! its result. A flag is computed when somebody asks for it.
//!
//! Operands and result are kept sign-extended to 64 bits. Sign extension keeps both the signed
//! and the unsigned order, so no formula below depends on the operand size: CF of a subtraction
//! is `a < b`, the sign is bit 63. (Measured against packing CF and OF eagerly: an addition
//! records in 4 stores instead of 15 operations, and most flags are never read.)

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

/// What the flags are to be computed from: [`Slot::FlagA`], [`Slot::FlagB`], [`Slot::FlagR`] are
/// the operands `a` and `b` and the result `r` of this operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FlagOp {
    /// `r` is an RFLAGS image of the six flags.
    Image,
    /// `r` gives ZF, SF, PF; `a` is CF; bit 0 of `b` is OF, bit 1 AF.
    Given,
    /// ADD, XADD.
    Add,
    /// ADC.
    Adc,
    /// SUB, CMP, NEG (0 - b), CMPXCHG, SCAS, CMPS.
    Sub,
    /// SBB.
    Sbb,
    /// INC: `b` is the CF that is kept.
    Inc,
    /// DEC: `b` is the CF that is kept.
    Dec,
    /// AND, OR, XOR, TEST: CF = OF = 0, AF = 0 (undefined).
    Logic,
}

impl FlagOp {
    /// All, in the order of their numbers.
    const ALL: [Self; 9] =
        [Self::Image, Self::Given, Self::Add, Self::Adc, Self::Sub, Self::Sbb, Self::Inc, Self::Dec, Self::Logic];

    /// The operation with this number.
    pub fn from_number(n: u8) -> Self {
        Self::ALL.get(usize::from(n)).copied().unwrap_or(Self::Image)
    }
}

/// Records `r = a op b`; the values are zero-extended.
#[inline(always)]
pub fn record<E: Emit>(e: &mut E, op: FlagOp, size: Size, a: E::Val, b: E::Val, r: E::Val) {
    match op {
        FlagOp::Logic => {}
        FlagOp::Inc | FlagOp::Dec => {
            let c = cf(e);
            let a = e.sx(size, a);
            e.set(Slot::FlagA, a);
            e.set(Slot::FlagB, c);
        }
        _ => {
            let (a, b) = (e.sx(size, a), e.sx(size, b));
            e.set(Slot::FlagA, a);
            e.set(Slot::FlagB, b);
        }
    }
    let r = e.sx(size, r);
    e.set(Slot::FlagR, r);
    e.set_flag_op(op);
}

#[inline(always)]
fn a<E: Emit>(e: &mut E) -> E::Val {
    e.get(Slot::FlagA)
}
#[inline(always)]
fn b<E: Emit>(e: &mut E) -> E::Val {
    e.get(Slot::FlagB)
}
#[inline(always)]
fn r<E: Emit>(e: &mut E) -> E::Val {
    e.get(Slot::FlagR)
}
/// Bit `n` of the image.
#[inline(always)]
fn image<E: Emit>(e: &mut E, n: u32) -> E::Val {
    let v = r(e);
    let v = e.shri(v, n);
    e.andi(v, 1)
}
#[inline(always)]
fn sign<E: Emit>(e: &mut E, v: E::Val) -> E::Val {
    e.shri(v, 63)
}

/// CF after a known operation.
#[inline(always)]
pub fn cf_of_op<E: Emit>(e: &mut E, op: FlagOp, (): ()) -> E::Val {
    match op {
        FlagOp::Image => image(e, 0),
        FlagOp::Given => a(e),
        FlagOp::Inc | FlagOp::Dec => b(e),
        FlagOp::Logic => e.imm(0),
        FlagOp::Add => {
            let (r, a) = (r(e), a(e));
            e.bin(Bin::LtU, r, a)
        }
        FlagOp::Sub => {
            let (a, b) = (a(e), b(e));
            e.bin(Bin::LtU, a, b)
        }
        // The carry (borrow) out of the top bit; `r` tells whether one came in.
        FlagOp::Adc | FlagOp::Sbb => {
            let (a, b, r) = (a(e), b(e), r(e));
            let (a, r) = if op == FlagOp::Adc { (a, e.not(r)) } else { (e.not(a), r) };
            let (both, any) = (e.and(a, b), e.or(a, b));
            let t = e.and(any, r);
            let c = e.or(both, t);
            sign(e, c)
        }
    }
}

#[inline(always)]
fn of_of_op<E: Emit>(e: &mut E, op: FlagOp, (): ()) -> E::Val {
    let (x, y) = match op {
        FlagOp::Image => return image(e, 11),
        FlagOp::Given => {
            let b = b(e);
            return e.andi(b, 1);
        }
        FlagOp::Logic => return e.imm(0),
        FlagOp::Add | FlagOp::Adc => {
            let (a, b, r) = (a(e), b(e), r(e));
            (e.xor(a, r), e.xor(b, r))
        }
        FlagOp::Sub | FlagOp::Sbb => {
            let (a, b, r) = (a(e), b(e), r(e));
            (e.xor(a, b), e.xor(a, r))
        }
        FlagOp::Inc => {
            let (a, r) = (a(e), r(e));
            (e.not(a), r)
        }
        FlagOp::Dec => {
            let (a, r) = (a(e), r(e));
            (a, e.not(r))
        }
    };
    let v = e.and(x, y);
    sign(e, v)
}

#[inline(always)]
fn af_of_op<E: Emit>(e: &mut E, op: FlagOp, (): ()) -> E::Val {
    let v = match op {
        FlagOp::Image => return image(e, 4),
        FlagOp::Given => {
            let b = b(e);
            return e.shri(b, 1);
        }
        FlagOp::Logic => return e.imm(0),
        FlagOp::Inc | FlagOp::Dec => {
            let (a, r) = (a(e), r(e));
            e.xor(a, r)
        }
        _ => {
            let (a, b, r) = (a(e), b(e), r(e));
            let v = e.xor(a, b);
            e.xor(v, r)
        }
    };
    let v = e.shri(v, 4);
    e.andi(v, 1)
}

#[inline(always)]
fn zf_of_op<E: Emit>(e: &mut E, op: FlagOp, (): ()) -> E::Val {
    if op == FlagOp::Image {
        return image(e, 6);
    }
    let r = r(e);
    e.is_zero(r)
}
#[inline(always)]
fn sf_of_op<E: Emit>(e: &mut E, op: FlagOp, (): ()) -> E::Val {
    if op == FlagOp::Image {
        return image(e, 7);
    }
    let r = r(e);
    sign(e, r)
}
#[inline(always)]
fn pf_of_op<E: Emit>(e: &mut E, op: FlagOp, (): ()) -> E::Val {
    if op == FlagOp::Image {
        return image(e, 2);
    }
    let r = r(e);
    e.un(Un::Parity, r)
}

/// CF as 0 or 1.
#[inline(always)]
pub fn cf<E: Emit>(e: &mut E) -> E::Val {
    e.carry()
}
/// OF as 0 or 1.
#[inline(always)]
pub fn of<E: Emit>(e: &mut E) -> E::Val {
    e.by_flag_op(of_of_op, ())
}
/// ZF as 0 or 1.
#[inline(always)]
pub fn zf<E: Emit>(e: &mut E) -> E::Val {
    e.by_flag_image(zf_of_op, ())
}

/// The condition with this number (SDM 1 appendix B.1: 0 O, 1 NO, 2 B, ... 15 NLE), as 0 or 1.
#[inline(always)]
pub fn cond<E: Emit>(e: &mut E, cc: u8) -> E::Val {
    match cc {
        0..=3 | 6 | 7 | 12.. => e.by_flag_op(cond_of_op, cc),
        // Z, S and P need no more than the result.
        _ => e.by_flag_image(cond_of_op, cc),
    }
}

/// [`cond`] after a known operation.
#[inline(always)]
pub fn cond_of_op<E: Emit>(e: &mut E, op: FlagOp, cc: u8) -> E::Val {
    let c = match (cc >> 1 & 7, op) {
        (0, _) => of_of_op(e, op, ()),
        (1, _) => cf_of_op(e, op, ()),
        (2, _) => zf_of_op(e, op, ()),
        // a <= b is !(b < a).
        (3, FlagOp::Sub) => {
            let (a, b) = (a(e), b(e));
            let above = e.bin(Bin::LtU, b, a);
            e.xori(above, 1)
        }
        (3, _) => {
            let (c, z) = (cf_of_op(e, op, ()), zf_of_op(e, op, ()));
            e.or(c, z)
        }
        (4, _) => sf_of_op(e, op, ()),
        (5, _) => pf_of_op(e, op, ()),
        (6, FlagOp::Sub) => {
            let (a, b) = (a(e), b(e));
            e.bin(Bin::LtS, a, b)
        }
        (7, FlagOp::Sub) => {
            let (a, b) = (a(e), b(e));
            let greater = e.bin(Bin::LtS, b, a);
            e.xori(greater, 1)
        }
        (n, _) => {
            let (s, o) = (sf_of_op(e, op, ()), of_of_op(e, op, ()));
            let l = e.xor(s, o);
            if n == 6 {
                l
            } else {
                let z = zf_of_op(e, op, ());
                e.or(l, z)
            }
        }
    };
    if cc & 1 != 0 { e.xori(c, 1) } else { c }
}

/// The six flags at their places in RFLAGS.
pub fn read<E: Emit>(e: &mut E) -> E::Val {
    e.by_flag_op(read_of_op, ())
}

fn read_of_op<E: Emit>(e: &mut E, op: FlagOp, (): ()) -> E::Val {
    if op == FlagOp::Image {
        return r(e);
    }
    let mut v = cf_of_op(e, op, ());
    let rest = [
        (pf_of_op(e, op, ()), 2),
        (af_of_op(e, op, ()), 4),
        (zf_of_op(e, op, ()), 6),
        (sf_of_op(e, op, ()), 7),
        (of_of_op(e, op, ()), 11),
    ];
    for (f, n) in rest {
        let f = e.shli(f, n);
        v = e.or(v, f);
    }
    v
}

/// Sets the six flags from an RFLAGS image.
pub fn write<E: Emit>(e: &mut E, v: E::Val) {
    let v = e.andi(v, OSZAPC);
    e.set(Slot::FlagR, v);
    e.set_flag_op(FlagOp::Image);
}

/// Sets CF and OF (each 0 or 1), keeps the others.
#[inline(always)]
pub fn set_cf_of<E: Emit>(e: &mut E, c: E::Val, o: E::Val) {
    e.by_flag_op(set_cf_of_op, (c, o));
}

#[inline(always)]
fn set_cf_of_op<E: Emit>(e: &mut E, op: FlagOp, (c, o): (E::Val, E::Val)) {
    if op == FlagOp::Image {
        let v = r(e);
        let v = e.andi(v, !(CF | OF));
        let o = e.shli(o, 11);
        let v = e.or(v, c);
        let v = e.or(v, o);
        e.set(Slot::FlagR, v);
        return;
    }
    let af = af_of_op(e, op, ());
    let af = e.shli(af, 1);
    let b = e.or(o, af);
    e.set(Slot::FlagA, c);
    e.set(Slot::FlagB, b);
    e.set_flag_op(FlagOp::Given);
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
    e.set(Slot::FlagR, r);
    e.set(Slot::FlagA, c);
    e.set(Slot::FlagB, o);
    e.set_flag_op(FlagOp::Given);
}

/// Sets only ZF (0 or 1), keeps the others.
pub fn set_zf<E: Emit>(e: &mut E, z: E::Val) {
    let v = read(e);
    let v = e.andi(v, !ZF);
    let z = e.shli(z, 6);
    let v = e.or(v, z);
    write(e, v);
}
