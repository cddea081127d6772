//! The scalar step of the SSE instructions on f32 and f64 bits (SDM 1, 11.5; AMD APM 1, 4.8).
//!
//! Every function adds the exceptions it found to `env.flags` and returns the masked response.
//! A caller collects the flags of all elements, asks [`super::env::simd_outcome`], and writes
//! the result only if that says so.

use super::env::{Env, Rounding, flags};
use super::round::{self, Format};
use super::unpacked::{Class, INTEGER_BIT, QUIET_BIT, Relation, Unpacked};
use super::{arith, integer};

/// Single precision.
#[derive(Clone, Copy, Debug)]
pub struct F32;
/// Double precision.
#[derive(Clone, Copy, Debug)]
pub struct F64;

/// SSE's choice: the first operand if it is a NaN, else the second, made quiet (SDM 1, table 4-7).
#[cold]
fn first_nan<F: Format>(env: &mut Env, a: &Unpacked, b: &Unpacked) -> F::Bits {
    if a.class == Class::Signaling || b.class == Class::Signaling {
        env.raise(flags::IE);
    }
    F::quieted(if a.is_nan() { a } else { b })
}

macro_rules! format {
    ($name:ident, $bits:ty, $precision:literal, $bias:literal) => {
        impl Format for $name {
            type Bits = $bits;
            const PRECISION: u32 = $precision;
            const BIAS: i32 = $bias;
            const WRAP: i32 = 0;

            #[inline(always)]
            fn unpack(env: &Env, bits: $bits) -> Unpacked {
                const FRACTION: u32 = $precision - 1;
                let sign = bits >> (<$bits>::BITS - 1) != 0;
                let biased = (bits >> FRACTION) as u32 & Self::SPECIAL;
                let left = (bits as u64) << (64 - $precision) & !INTEGER_BIT;
                if biased.wrapping_sub(1) < Self::SPECIAL - 1 {
                    let sig = left | INTEGER_BIT;
                    let exp = biased as i32 - Self::BIAS;
                    return Unpacked { sign, class: Class::Finite, denormal: false, exp, sig };
                }
                if biased == 0 {
                    if left == 0 || env.daz {
                        return Unpacked::zero(sign);
                    }
                    return Unpacked { denormal: true, ..Unpacked::finite(sign, 1 - Self::BIAS, left) };
                }
                let class = match left {
                    0 => Class::Infinite,
                    _ if left & QUIET_BIT != 0 => Class::Quiet,
                    _ => Class::Signaling,
                };
                Unpacked { sign, class, denormal: false, exp: 0, sig: left | INTEGER_BIT }
            }

            #[inline(always)]
            fn assemble(sign: bool, biased: u32, sig: u64) -> $bits {
                let fraction = (sig & !INTEGER_BIT) >> (64 - $precision);
                (sign as $bits) << (<$bits>::BITS - 1) | (biased as $bits) << ($precision - 1) | fraction as $bits
            }

            fn propagate(env: &mut Env, a: &Unpacked, b: &Unpacked) -> $bits {
                first_nan::<Self>(env, a, b)
            }
        }
    };
}
format!(F32, u32, 24, 127);
format!(F64, u64, 53, 1023);

/// ADDSS/ADDSD: a + b.
#[inline]
pub fn add<F: Format>(env: &mut Env, a: F::Bits, b: F::Bits) -> F::Bits {
    arith::add::<F>(env, &F::unpack(env, a), &F::unpack(env, b), F::PRECISION)
}

/// SUBSS/SUBSD: a - b.
#[inline]
pub fn sub<F: Format>(env: &mut Env, a: F::Bits, b: F::Bits) -> F::Bits {
    let b = F::unpack(env, b);
    let b = if b.is_nan() { b } else { b.negated() };
    arith::add::<F>(env, &F::unpack(env, a), &b, F::PRECISION)
}

/// MULSS/MULSD: a * b.
#[inline]
pub fn mul<F: Format>(env: &mut Env, a: F::Bits, b: F::Bits) -> F::Bits {
    arith::mul::<F>(env, &F::unpack(env, a), &F::unpack(env, b), F::PRECISION)
}

/// DIVSS/DIVSD: a / b.
#[inline]
pub fn div<F: Format>(env: &mut Env, a: F::Bits, b: F::Bits) -> F::Bits {
    arith::div::<F>(env, &F::unpack(env, a), &F::unpack(env, b), F::PRECISION)
}

/// SQRTSS/SQRTSD.
#[inline]
pub fn sqrt<F: Format>(env: &mut Env, a: F::Bits) -> F::Bits {
    arith::sqrt::<F>(env, &F::unpack(env, a), F::PRECISION)
}

/// The comparison behind COMISx (`signaling`), UCOMISx, and the predicates of CMPxx.
#[inline]
pub fn compare<F: Format>(env: &mut Env, a: F::Bits, b: F::Bits, signaling: bool) -> Relation {
    arith::compare(env, &F::unpack(env, a), &F::unpack(env, b), signaling)
}

/// One element of CMPPS/CMPPD with predicate `imm` (0 to 7; SDM 2, CMPPD table 3-1).
#[inline]
pub fn predicate<F: Format>(env: &mut Env, a: F::Bits, b: F::Bits, imm: u8) -> bool {
    let signaling = matches!(imm & 3, 1 | 2);
    let r = compare::<F>(env, a, b, signaling);
    let positive = match imm & 3 {
        0 => r == Relation::Equal,
        1 => r == Relation::Less,
        2 => matches!(r, Relation::Less | Relation::Equal),
        _ => r == Relation::Unordered,
    };
    positive ^ (imm & 4 != 0)
}

#[inline]
fn extreme<F: Format>(env: &mut Env, a: F::Bits, b: F::Bits, wanted: Relation) -> F::Bits {
    let (ua, ub) = (F::unpack(env, a), F::unpack(env, b));
    let first = arith::compare(env, &ua, &ub, true) == wanted;
    let (bits, u) = if first { (a, ua) } else { (b, ub) };
    // A denormal that counts as zero comes out as zero.
    if u.class == Class::Zero { F::zero(u.sign) } else { bits }
}

/// MINSS/MINSD: the second operand when equal, both zero, or unordered (SDM 2, MINSD).
#[inline]
pub fn min<F: Format>(env: &mut Env, a: F::Bits, b: F::Bits) -> F::Bits {
    extreme::<F>(env, a, b, Relation::Less)
}

/// MAXSS/MAXSD: the second operand when equal, both zero, or unordered (SDM 2, MAXSD).
#[inline]
pub fn max<F: Format>(env: &mut Env, a: F::Bits, b: F::Bits) -> F::Bits {
    extreme::<F>(env, a, b, Relation::Greater)
}

/// CVTSS2SD, CVTSD2SS: from format `A` to format `B`.
#[inline]
pub fn convert<A: Format, B: Format>(env: &mut Env, a: A::Bits) -> B::Bits {
    round::convert::<B>(env, &A::unpack(env, a), true)
}

/// CVTSI2SS, CVTSI2SD, CVTDQ2PS, CVTDQ2PD: from a signed integer.
#[inline]
pub fn from_int<F: Format>(env: &mut Env, v: i64) -> F::Bits {
    integer::from_int::<F>(env, v)
}

/// CVTSx2SI (the current rounding) and CVTTSx2SI (`Rounding::Zero`) to `bits` (32 or 64) bits.
#[inline]
pub fn to_int<F: Format>(env: &mut Env, a: F::Bits, rounding: Rounding, bits: u32) -> i64 {
    integer::to_int(env, &F::unpack(env, a), rounding, bits)
}

/// ROUNDSS/ROUNDSD with the immediate of SDM 2, ROUNDPD: bits 1:0 rounding, bit 2 takes the
/// rounding of MXCSR instead, bit 3 suppresses PE.
#[inline]
pub fn round_integral<F: Format>(env: &mut Env, a: F::Bits, imm: u8) -> F::Bits {
    let rounding = if imm & 4 != 0 { env.rounding } else { Rounding::from_rc(u32::from(imm)) };
    integer::round_integral::<F>(env, &F::unpack(env, a), rounding, imm & 8 != 0)
}
