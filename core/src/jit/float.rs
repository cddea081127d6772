//! Floating point of SSE, guarded: WebAssembly's own arithmetic where nothing can be told apart.
//!
//! The reasons are those of `isa/sse/lane.rs`. A guard says whether MXCSR and the numbers are such that no flag changes
//! and the result is the one rounded to nearest; if not, the instruction is called.

use super::ir::{LowOp, Node, VECTOR, Val, Values};
use super::simd::Simd;
use crate::emit::{Bin, FloatConversion, FloatOp, Floats, Un};
use crate::size::Size;
use crate::vector::V128;
use alloc::vec;
use alloc::vec::Vec;

/// A result, which is the right one if none of the guards is 0. They are looked at in this order, and of an OR the
/// second part only if the first is 0.
pub struct Guarded {
    pub value: Val,
    pub guards: Vec<Val>,
}

/// A format of numbers: its instructions.
struct Format {
    size: Size,
    /// Bits of the fraction.
    fraction: u32,
    /// A biased exponent that no finite number has.
    special: u64,
    shl: Simd,
    add: Simd,
    gt: Simd,
    eq: Simd,
    mask: Simd,
    /// Add, Sub, Mul, Div, Min, Max.
    two: [Simd; 6],
    sqrt: Simd,
    abs: Simd,
    nearest: Simd,
    /// Equal, less, less or equal, greater, greater or equal, not equal.
    compare: [Simd; 6],
}

const SINGLE: Format = Format {
    size: Size::B4,
    fraction: 23,
    special: 0xff,
    shl: Simd::I32X4_SHL,
    add: Simd::I32X4_ADD,
    gt: Simd::I32X4_GT_S,
    eq: Simd::I32X4_EQ,
    mask: Simd::I32X4_BITMASK,
    two: [Simd::F32X4_ADD, Simd::F32X4_SUB, Simd::F32X4_MUL, Simd::F32X4_DIV, Simd::F32X4_PMIN, Simd::F32X4_PMAX],
    sqrt: Simd::F32X4_SQRT,
    abs: Simd::F32X4_ABS,
    nearest: Simd::F32X4_NEAREST,
    compare: [Simd::F32X4_EQ, Simd::F32X4_LT, Simd::F32X4_LE, Simd::F32X4_GT, Simd::F32X4_GE, Simd::F32X4_NE],
};
const DOUBLE: Format = Format {
    size: Size::B8,
    fraction: 52,
    special: 0x7ff,
    shl: Simd::I64X2_SHL,
    add: Simd::I64X2_ADD,
    gt: Simd::I64X2_GT_S,
    eq: Simd::I64X2_EQ,
    mask: Simd::I64X2_BITMASK,
    two: [Simd::F64X2_ADD, Simd::F64X2_SUB, Simd::F64X2_MUL, Simd::F64X2_DIV, Simd::F64X2_PMIN, Simd::F64X2_PMAX],
    sqrt: Simd::F64X2_SQRT,
    abs: Simd::F64X2_ABS,
    nearest: Simd::F64X2_NEAREST,
    compare: [Simd::F64X2_EQ, Simd::F64X2_LT, Simd::F64X2_LE, Simd::F64X2_GT, Simd::F64X2_GE, Simd::F64X2_NE],
};
const EQ: usize = 0;
const LT: usize = 1;
const LE: usize = 2;
const GT: usize = 3;
const GE: usize = 4;
const NE: usize = 5;

/// The format, and the lanes that count.
fn format(of: Floats) -> (&'static Format, u64) {
    match of {
        Floats::Ps => (&SINGLE, 15),
        Floats::Pd => (&DOUBLE, 3),
        Floats::Ss => (&SINGLE, 1),
        Floats::Sd => (&DOUBLE, 1),
    }
}

impl Format {
    /// The value in all lanes.
    fn all(&self, x: u64) -> V128 {
        if self.size == Size::B4 { [x << 32 | x & 0xffff_ffff; 2] } else { [x; 2] }
    }
}

impl Values {
    /// Without the signs, shifted left by one.
    fn magnitude(&mut self, f: &Format, v: Val) -> Val {
        self.shifted(f.shl, v, 1)
    }
    /// Lanes where `magnitude - from < number`, unsigned.
    fn within(&mut self, f: &Format, magnitude: Val, from: u64, number: u64) -> Val {
        // Both sides moved by half of the range: WebAssembly compares signed.
        let top = f.size.sign();
        let (by, limit) = (self.vector(f.all(top.wrapping_sub(from))), self.vector(f.all(number ^ top)));
        let moved = self.two(f.add, magnitude, by);
        self.two(f.gt, limit, moved)
    }
    /// Lanes with denormal numbers.
    fn denormal(&mut self, f: &Format, magnitude: Val) -> Val {
        self.within(f, magnitude, 1, (2 << f.fraction) - 1)
    }
    /// Lanes with finite numbers of at least twice the smallest normal one.
    fn normal(&mut self, f: &Format, magnitude: Val) -> Val {
        self.within(f, magnitude, 2 << (f.fraction + 1), (f.special - 2) << (f.fraction + 1))
    }
    /// Lanes with zeros.
    fn zero(&mut self, f: &Format, magnitude: Val) -> Val {
        let zero = self.vector([0; 2]);
        self.two(f.eq, magnitude, zero)
    }
    fn or(&mut self, a: Val, b: Val) -> Val {
        self.two(Simd::V128_OR, a, b)
    }
    fn and(&mut self, a: Val, b: Val) -> Val {
        self.two(Simd::V128_AND, a, b)
    }
    /// Lanes in `a` and not in `b`.
    fn without(&mut self, a: Val, b: Val) -> Val {
        self.two(Simd::V128_ANDNOT, a, b)
    }
    /// Lanes where neither is a NaN.
    fn ordered(&mut self, f: &Format, a: Val, b: Val) -> Val {
        let (x, y) = (self.two(f.compare[LE], a, b), self.two(f.compare[GT], a, b));
        self.or(x, y)
    }
    /// The lanes, as bits.
    fn bits_of(&mut self, f: &Format, v: Val) -> Val {
        self.push(Node::Mask(f.mask, v), 16 / f.size as u8)
    }
    /// Are these bits all set?
    fn all_set(&mut self, mask: Val, lanes: u64) -> Val {
        let lanes = self.imm(lanes);
        let mask = self.bin(Bin::And, mask, lanes);
        self.bin(Bin::Eq, mask, lanes)
    }
    fn all_lanes(&mut self, f: &Format, v: Val, lanes: u64) -> Val {
        let mask = self.bits_of(f, v);
        self.all_set(mask, lanes)
    }
    /// The low lane of `v`, above it `a`.
    fn low_of(&mut self, f: &Format, a: Val, v: Val) -> Val {
        let bytes = f.size as usize;
        self.shuffle(a, v, core::array::from_fn(|k| if k < bytes { 16 + k as u8 } else { k as u8 }))
    }

    // The low number alone, as bits. ---------------------------------------------------------

    /// The low number.
    fn low(&mut self, f: &Format, v: Val) -> Val {
        self.lane(v, f.size, 0)
    }
    /// Its sign and exponent, and what is above the rest of the fraction; 32 bits.
    fn upper(&mut self, f: &Format, bits: Val) -> Val {
        if f.size == Size::B4 {
            return bits;
        }
        let half = self.imm(32);
        self.bin(Bin::Shr, bits, half)
    }
    /// Exponents in what [`Values::upper`] gives.
    fn exponent(&self, f: &Format, e: u64) -> u64 {
        e << (f.fraction & 31)
    }
    /// Is it 0?
    fn is_low_zero(&mut self, f: &Format, bits: Val) -> Val {
        let mask = self.imm(f.size.sign() - 1);
        let magnitude = self.bin(Bin::And, bits, mask);
        let zero = self.imm(0);
        self.bin(Bin::Eq, magnitude, zero)
    }
    /// Is its exponent one of `from..to`?
    fn has_exponent(&mut self, f: &Format, bits: Val, from: u64, to: u64) -> Val {
        let upper = self.upper(f, bits);
        let (mask, from, number) = (0x7fff_ffff, self.exponent(f, from), self.exponent(f, to - from));
        let [mask, from, number, all] = [mask, from, number, u32::MAX.into()].map(|c| self.imm(c));
        let magnitude = self.bin(Bin::And, upper, mask);
        let moved = self.bin(Bin::Sub, magnitude, from);
        let moved = self.bin(Bin::And, moved, all);
        self.bin(Bin::LtU, moved, number)
    }
    /// Is it no denormal number?
    fn no_denormal(&mut self, f: &Format, bits: Val) -> Val {
        let upper = self.upper(f, bits);
        let exponent = self.exponent(f, f.special);
        let [mask, zero] = [exponent, 0].map(|c| self.imm(c));
        let exponent = self.bin(Bin::And, upper, mask);
        let some = self.bin(Bin::Ne, exponent, zero);
        let none = self.is_low_zero(f, bits);
        self.bin(Bin::Or, some, none)
    }
    /// Is it normal or zero?
    fn ordinary(&mut self, f: &Format, bits: Val) -> Val {
        let normal = self.has_exponent(f, bits, 1, f.special);
        let zero = self.is_low_zero(f, bits);
        self.bin(Bin::Or, normal, zero)
    }
    /// Are two low numbers normal or zero?
    fn both_ordinary(&mut self, f: &Format, a: Val, b: Val) -> Vec<Val> {
        let (x, y) = (self.low(f, a), self.low(f, b));
        let mut guards = vec![self.ordinary(f, x)];
        if a != b {
            guards.push(self.ordinary(f, y));
        }
        guards
    }
    /// [`Values::float`] of the low numbers.
    fn float_low(&mut self, op: LowOp, f: &Format, fast: Val, a: Val, b: Val) -> Guarded {
        let (x, y) = (self.low(f, a), self.low(f, b));
        let value = self.push(Node::Low(op, f.size, a, b), VECTOR);
        let r = self.low(f, value);
        let none = self.imm(0);
        let mut guards = vec![self.bin(Bin::Ne, fast, none), self.no_denormal(f, y)];
        if op != LowOp::Sqrt && a != b {
            guards.push(self.no_denormal(f, x));
        }
        let exact = self.exact(op, f, [a, b, value], [x, y]);
        // At least twice the smallest normal number; or an exact zero, not one that is too small.
        let normal = self.has_exponent(f, r, 2, f.special);
        let mut zero = self.is_low_zero(f, r);
        if matches!(op, LowOp::Mul | LowOp::Div) {
            let mut of_zero = self.is_low_zero(f, x);
            if op == LowOp::Mul {
                let other = self.is_low_zero(f, y);
                of_zero = self.bin(Bin::Or, of_zero, other);
            }
            zero = self.bin(Bin::And, zero, of_zero);
        }
        guards.push(self.bin(Bin::Or, normal, zero));
        let sticky = self.sticky(fast);
        guards.push(self.bin(Bin::Or, sticky, exact));
        Guarded { value, guards }
    }
    /// Is PE set, so that nobody sees whether a result is exact?
    fn sticky(&mut self, fast: Val) -> Val {
        let one = self.imm(1);
        self.bin(Bin::Shr, fast, one)
    }
    /// Is the low result of two finite numbers known to be exact? `of`: `a`, `b` and the result, `bits` those of `a`
    /// and `b`.
    fn exact(&mut self, op: LowOp, f: &Format, of: [Val; 3], bits: [Val; 2]) -> Val {
        let [a, b, r] = of;
        let mut low = |op, a, b| self.push(Node::Low(op, f.size, a, b), VECTOR);
        match op {
            // What rounding has taken away, which is a number again (Knuth, The Art of Computer Programming 2, 4.2.2 B).
            LowOp::Add => {
                let of_b = low(LowOp::Sub, r, a);
                let of_a = low(LowOp::Sub, r, of_b);
                let (x, y) = (low(LowOp::Sub, a, of_a), low(LowOp::Sub, b, of_b));
                let lost = low(LowOp::Add, x, y);
                let lost = self.low(f, lost);
                self.is_low_zero(f, lost)
            }
            LowOp::Sub => {
                let of_b = low(LowOp::Sub, a, r);
                let of_a = low(LowOp::Add, r, of_b);
                let (x, y) = (low(LowOp::Sub, a, of_a), low(LowOp::Sub, b, of_b));
                let lost = low(LowOp::Sub, x, y);
                let lost = self.low(f, lost);
                self.is_low_zero(f, lost)
            }
            // As many bits as both have together.
            LowOp::Mul => {
                let one = self.imm(1 << f.fraction);
                let [x, y] = bits.map(|v| {
                    let v = self.bin(Bin::Or, v, one);
                    self.un(Un::Ctz, v)
                });
                let (zeros, most) = (self.bin(Bin::Add, x, y), self.imm(u64::from(f.fraction)));
                self.bin(Bin::LtU, most, zeros)
            }
            LowOp::Div | LowOp::Sqrt => self.imm(0),
        }
    }
    fn merged(&mut self, of: Floats, a: Val, v: Val) -> Val {
        match of {
            Floats::Ps | Floats::Pd => v,
            Floats::Ss => self.low_of(&SINGLE, a, v),
            Floats::Sd => self.low_of(&DOUBLE, a, v),
        }
    }
    /// Lanes that can be compared without an exception.
    fn comparable(&mut self, f: &Format, a: Val, b: Val) -> Val {
        let (ma, mb) = (self.magnitude(f, a), self.magnitude(f, b));
        let (da, db) = (self.denormal(f, ma), self.denormal(f, mb));
        let (bad, good) = (self.or(da, db), self.ordered(f, a, b));
        self.without(good, bad)
    }

    /// `a op b`. `fast`: does MXCSR let the fast way be taken (`lane.rs`)? 2: yes; 1: if it is exact.
    #[inline(never)]
    pub fn float(&mut self, op: FloatOp, of: Floats, fast: Val, a: Val, b: Val) -> Guarded {
        let (f, lanes) = format(of);
        let sticky = self.sticky(fast);
        let (simd, low) = match op {
            FloatOp::Add => (f.two[0], LowOp::Add),
            FloatOp::Sub => (f.two[1], LowOp::Sub),
            FloatOp::Mul => (f.two[2], LowOp::Mul),
            FloatOp::Div => (f.two[3], LowOp::Div),
            FloatOp::Sqrt => (f.sqrt, LowOp::Sqrt),
            FloatOp::Min | FloatOp::Max | FloatOp::Compare(_) => return self.float_compared(op, of, a, b),
        };
        if lanes == 1 {
            return self.float_low(low, f, fast, a, b);
        }
        let mb = self.magnitude(f, b);
        let mut bad = self.denormal(f, mb);
        let (r, ma) = if op == FloatOp::Sqrt {
            (self.one(simd, b), mb)
        } else {
            let ma = self.magnitude(f, a);
            let da = self.denormal(f, ma);
            bad = self.or(bad, da);
            (self.two(simd, a, b), ma)
        };
        let mr = self.magnitude(f, r);
        let (normal, mut zero) = (self.normal(f, mr), self.zero(f, mr));
        // An exact zero, not one that is too small.
        if matches!(op, FloatOp::Mul | FloatOp::Div) {
            let mut of_zero = self.zero(f, ma);
            if op == FloatOp::Mul {
                let zb = self.zero(f, mb);
                of_zero = self.or(of_zero, zb);
            }
            zero = self.and(zero, of_zero);
        }
        let good = self.or(normal, zero);
        let good = self.without(good, bad);
        let good = self.all_lanes(f, good, lanes);
        Guarded { value: r, guards: vec![sticky, good] }
    }

    /// Operations that know no rounding.
    fn float_compared(&mut self, op: FloatOp, of: Floats, a: Val, b: Val) -> Guarded {
        let (f, lanes) = format(of);
        let r = match op {
            // Theirs prefer the first operand, ours the second.
            FloatOp::Min => self.two(f.two[4], b, a),
            FloatOp::Max => self.two(f.two[5], b, a),
            FloatOp::Compare(predicate @ (3 | 7)) => self.vector([0u64.wrapping_sub(u64::from(predicate >> 2)); 2]),
            FloatOp::Compare(predicate) => {
                let how = [EQ, LT, LE, EQ, NE, GE, GT, EQ][usize::from(predicate & 7)];
                self.two(f.compare[how], a, b)
            }
            _ => unreachable!("it rounds"),
        };
        let guards = if lanes == 1 {
            self.both_ordinary(f, a, b)
        } else {
            let good = self.comparable(f, a, b);
            vec![self.all_lanes(f, good, lanes)]
        };
        Guarded { value: self.merged(of, a, r), guards }
    }

    /// ZF, PF and CF of a comparison of the low numbers.
    #[inline(never)]
    pub fn float_relation(&mut self, of: Floats, a: Val, b: Val) -> Guarded {
        let (f, _) = format(of);
        let [equal, less] = [false, true].map(|less| self.push(Node::LowRelation(less, f.size, a, b), 1));
        let six = self.imm(6);
        let zf = self.bin(Bin::Shl, equal, six);
        Guarded { value: self.bin(Bin::Or, zf, less), guards: self.both_ordinary(f, a, b) }
    }

    /// The numbers of `b` in another format.
    #[inline(never)]
    pub fn float_convert(&mut self, how: FloatConversion, fast: Val, b: Val) -> Guarded {
        let fast = self.sticky(fast);
        let to_ints = |this: &mut Self, f: &Format, simd: Simd, truncate: bool, lanes: u64| {
            let within = this.int_range(f, b, truncate, 32);
            let rounded = if truncate { b } else { this.one(f.nearest, b) };
            let good = this.all_lanes(f, within, lanes);
            Guarded { value: this.one(simd, rounded), guards: vec![fast, good] }
        };
        match how {
            FloatConversion::PsToPd => self.widened(b, false),
            FloatConversion::PdToPs => self.narrowed(fast, b, false),
            FloatConversion::DqToPs => Guarded { value: self.one(Simd::F32X4_CONVERT_I32X4_S, b), guards: vec![fast] },
            FloatConversion::DqToPd => {
                Guarded { value: self.one(Simd::F64X2_CONVERT_LOW_I32X4_S, b), guards: Vec::new() }
            }
            FloatConversion::PsToDq => to_ints(self, &SINGLE, Simd::I32X4_TRUNC_SAT_F32X4_S, false, 15),
            FloatConversion::PsToDqT => to_ints(self, &SINGLE, Simd::I32X4_TRUNC_SAT_F32X4_S, true, 15),
            FloatConversion::PdToDq => to_ints(self, &DOUBLE, Simd::I32X4_TRUNC_SAT_F64X2_S_ZERO, false, 3),
            FloatConversion::PdToDqT => to_ints(self, &DOUBLE, Simd::I32X4_TRUNC_SAT_F64X2_S_ZERO, true, 3),
        }
    }
    /// Low f32 as f64. That is exact, and NaNs and denormal numbers are the only exceptions.
    fn widened(&mut self, b: Val, low: bool) -> Guarded {
        let guards = if low {
            self.both_ordinary(&SINGLE, b, b)
        } else {
            let good = self.comparable(&SINGLE, b, b);
            vec![self.all_lanes(&SINGLE, good, 3)]
        };
        Guarded { value: self.one(Simd::F64X2_PROMOTE_LOW_F32X4, b), guards }
    }
    /// f64 as low f32.
    fn narrowed(&mut self, fast: Val, b: Val, low: bool) -> Guarded {
        let r = self.one(Simd::F32X4_DEMOTE_F64X2_ZERO, b);
        if low {
            // A denormal f64 becomes zero, which is neither.
            let (from, to) = (self.low(&DOUBLE, b), self.low(&SINGLE, r));
            let (normal, zero) = (self.has_exponent(&SINGLE, to, 2, 0xff), self.is_low_zero(&DOUBLE, from));
            return Guarded { value: r, guards: vec![fast, self.bin(Bin::Or, normal, zero)] };
        }
        let (mb, mr) = (self.magnitude(&DOUBLE, b), self.magnitude(&SINGLE, r));
        let (normal, zero) = (self.normal(&SINGLE, mr), self.zero(&DOUBLE, mb));
        // A denormal f64 becomes zero, which is neither.
        let (normal, zero) = (self.bits_of(&SINGLE, normal), self.bits_of(&DOUBLE, zero));
        let good = self.bin(Bin::Or, normal, zero);
        Guarded { value: r, guards: vec![fast, self.all_set(good, 3)] }
    }
    /// The low number of `b` in the format `of`, above it `a`.
    #[inline(never)]
    pub fn float_resize(&mut self, of: Floats, fast: Val, a: Val, b: Val) -> Guarded {
        let fast = self.sticky(fast);
        let r = if of == Floats::Sd { self.widened(b, true) } else { self.narrowed(fast, b, true) };
        Guarded { value: self.merged(of, a, r.value), ..r }
    }
    /// An integer as the low number, above it `a`.
    #[inline(never)]
    pub fn float_of_int(&mut self, of: Floats, fast: Val, a: Val, x: Val, size: Size) -> Guarded {
        let fast = self.sticky(fast);
        let (f, _) = format(of);
        let value = self.push(Node::OfInt(f.size, a, x), VECTOR);
        let exact = f.size == Size::B8 && size == Size::B4;
        Guarded { value, guards: if exact { Vec::new() } else { vec![fast] } }
    }
    /// The low number of `b` as an integer of `size`, zero-extended.
    #[inline(never)]
    pub fn float_to_int(&mut self, of: Floats, fast: Val, b: Val, truncate: bool, size: Size) -> Guarded {
        let fast = self.sticky(fast);
        let (f, _) = format(of);
        let low = self.low(f, b);
        let bound = f.special / 2 + u64::from(if truncate { size.bits() - 1 } else { size.bits() - 2 });
        let good = self.has_exponent(f, low, 0, bound);
        let rounded = if truncate { b } else { self.one(f.nearest, b) };
        let value = self.push(Node::ToInt(f.size, rounded), 64);
        Guarded { value: self.cut(value, size.bits() as u8), guards: vec![fast, good] }
    }
    /// Lanes whose numbers are integers of so many bits, rounded.
    fn int_range(&mut self, f: &Format, b: Val, truncate: bool, bits: u32) -> Val {
        // 2^(bits - 1); no f32 just below that would do for rounding.
        let power = u64::from(if truncate { bits - 1 } else { bits - 2 });
        let limit = self.vector(f.all((power + f.special / 2) << f.fraction));
        let abs = self.one(f.abs, b);
        self.two(f.compare[LT], abs, limit)
    }
}

#[cfg(test)]
mod tests;
