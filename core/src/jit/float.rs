//! Floating point of SSE, guarded: WebAssembly's own arithmetic where nothing can be told apart.
//!
//! The reasons are those of `isa/sse/lane.rs`. A guard says whether MXCSR and the numbers are such that no flag changes
//! and the result is the one rounded to nearest; if not, the instruction is called. Scalar instructions work on whole
//! vectors, and only the guard looks at the low lane alone.

use super::ir::{Node, VECTOR, Val, Values};
use super::simd::Simd;
use crate::emit::{Bin, FloatConversion, FloatOp, Floats};
use crate::size::Size;
use crate::vector::V128;

/// A result, and whether it is the right one (0 or 1).
pub struct Guarded {
    pub value: Val,
    pub guard: Val,
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

    /// `a op b`. `fast`: does MXCSR let the fast way be taken (`lane.rs`)?
    #[inline(never)]
    pub fn float(&mut self, op: FloatOp, of: Floats, fast: Val, a: Val, b: Val) -> Guarded {
        let (f, lanes) = format(of);
        let simd = match op {
            FloatOp::Add => f.two[0],
            FloatOp::Sub => f.two[1],
            FloatOp::Mul => f.two[2],
            FloatOp::Div => f.two[3],
            FloatOp::Sqrt => f.sqrt,
            FloatOp::Min | FloatOp::Max | FloatOp::Compare(_) => return self.float_compared(op, of, a, b),
        };
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
        Guarded { value: self.merged(of, a, r), guard: self.bin(Bin::And, fast, good) }
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
        let good = self.comparable(f, a, b);
        let guard = self.all_lanes(f, good, lanes);
        Guarded { value: self.merged(of, a, r), guard }
    }

    /// ZF, PF and CF of a comparison of the low numbers.
    #[inline(never)]
    pub fn float_relation(&mut self, of: Floats, a: Val, b: Val) -> Guarded {
        let (f, _) = format(of);
        let [equal, less] = [EQ, LT].map(|how| {
            let v = self.two(f.compare[how], a, b);
            let mask = self.bits_of(f, v);
            self.cut(mask, 1)
        });
        let six = self.imm(6);
        let zf = self.bin(Bin::Shl, equal, six);
        let good = self.comparable(f, a, b);
        let guard = self.all_lanes(f, good, 1);
        Guarded { value: self.bin(Bin::Or, zf, less), guard }
    }

    /// The numbers of `b` in another format.
    #[inline(never)]
    pub fn float_convert(&mut self, how: FloatConversion, fast: Val, b: Val) -> Guarded {
        let to_ints = |this: &mut Self, f: &Format, simd: Simd, truncate: bool, lanes: u64| {
            let within = this.int_range(f, b, truncate, 32);
            let rounded = if truncate { b } else { this.one(f.nearest, b) };
            let good = this.all_lanes(f, within, lanes);
            Guarded { value: this.one(simd, rounded), guard: this.bin(Bin::And, fast, good) }
        };
        match how {
            FloatConversion::PsToPd => self.widened(b, 3),
            FloatConversion::PdToPs => self.narrowed(fast, b, 3),
            FloatConversion::DqToPs => Guarded { value: self.one(Simd::F32X4_CONVERT_I32X4_S, b), guard: fast },
            FloatConversion::DqToPd => {
                Guarded { value: self.one(Simd::F64X2_CONVERT_LOW_I32X4_S, b), guard: self.imm(1) }
            }
            FloatConversion::PsToDq => to_ints(self, &SINGLE, Simd::I32X4_TRUNC_SAT_F32X4_S, false, 15),
            FloatConversion::PsToDqT => to_ints(self, &SINGLE, Simd::I32X4_TRUNC_SAT_F32X4_S, true, 15),
            FloatConversion::PdToDq => to_ints(self, &DOUBLE, Simd::I32X4_TRUNC_SAT_F64X2_S_ZERO, false, 3),
            FloatConversion::PdToDqT => to_ints(self, &DOUBLE, Simd::I32X4_TRUNC_SAT_F64X2_S_ZERO, true, 3),
        }
    }
    /// Low f32 as f64. That is exact, and NaNs and denormal numbers are the only exceptions.
    fn widened(&mut self, b: Val, lanes: u64) -> Guarded {
        let good = self.comparable(&SINGLE, b, b);
        Guarded { value: self.one(Simd::F64X2_PROMOTE_LOW_F32X4, b), guard: self.all_lanes(&SINGLE, good, lanes) }
    }
    /// f64 as low f32.
    fn narrowed(&mut self, fast: Val, b: Val, lanes: u64) -> Guarded {
        let r = self.one(Simd::F32X4_DEMOTE_F64X2_ZERO, b);
        let (mb, mr) = (self.magnitude(&DOUBLE, b), self.magnitude(&SINGLE, r));
        let (normal, zero) = (self.normal(&SINGLE, mr), self.zero(&DOUBLE, mb));
        // A denormal f64 becomes zero, which is neither.
        let (normal, zero) = (self.bits_of(&SINGLE, normal), self.bits_of(&DOUBLE, zero));
        let good = self.bin(Bin::Or, normal, zero);
        let good = self.all_set(good, lanes);
        Guarded { value: r, guard: self.bin(Bin::And, fast, good) }
    }
    /// The low number of `b` in the format `of`, above it `a`.
    #[inline(never)]
    pub fn float_resize(&mut self, of: Floats, fast: Val, a: Val, b: Val) -> Guarded {
        let r = if of == Floats::Sd { self.widened(b, 1) } else { self.narrowed(fast, b, 1) };
        Guarded { value: self.merged(of, a, r.value), ..r }
    }
    /// An integer as the low number, above it `a`.
    #[inline(never)]
    pub fn float_of_int(&mut self, of: Floats, fast: Val, a: Val, x: Val, size: Size) -> Guarded {
        let (f, _) = format(of);
        let value = self.push(Node::OfInt(f.size, a, x), VECTOR);
        let exact = f.size == Size::B8 && size == Size::B4;
        Guarded { value, guard: if exact { self.imm(1) } else { fast } }
    }
    /// The low number of `b` as an integer of `size`, zero-extended.
    #[inline(never)]
    pub fn float_to_int(&mut self, of: Floats, fast: Val, b: Val, truncate: bool, size: Size) -> Guarded {
        let (f, _) = format(of);
        let within = self.int_range(f, b, truncate, size.bits());
        let good = self.all_lanes(f, within, 1);
        let rounded = if truncate { b } else { self.one(f.nearest, b) };
        let value = self.push(Node::ToInt(f.size, rounded), 64);
        Guarded { value: self.cut(value, size.bits() as u8), guard: self.bin(Bin::And, fast, good) }
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
