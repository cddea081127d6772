//! Formats, and the one place where a result is rounded, packed and its flags raised.

use super::env::{Env, Rounding, flags};
use super::unpacked::{Class, INTEGER_BIT, QUIET_BIT, Unpacked};
use core::fmt::Debug;

/// A floating-point format with the NaN rule of the unit that uses it.
pub trait Format: Copy {
    /// The encoding.
    type Bits: Copy + PartialEq + Debug;
    /// Significand bits including the integer bit.
    const PRECISION: u32;
    /// Exponent bias, which is also the largest exponent.
    const BIAS: i32;
    /// Added to (subtracted from) the exponent of a result whose underflow (overflow) is
    /// unmasked; 0 where such a result is never written.
    const WRAP: i32;

    /// Take an encoding apart.
    fn unpack(env: &Env, bits: Self::Bits) -> Unpacked;
    /// Build an encoding from a biased exponent and a left-aligned significand.
    fn assemble(sign: bool, biased: u32, sig: u64) -> Self::Bits;
    /// The result when at least one operand is a NaN or unsupported; raises IE as needed.
    fn propagate(env: &mut Env, a: &Unpacked, b: &Unpacked) -> Self::Bits;

    /// Biased exponent of infinities and NaNs.
    const SPECIAL: u32 = (2 * Self::BIAS + 1) as u32;

    /// Signed zero.
    #[inline]
    fn zero(sign: bool) -> Self::Bits {
        Self::assemble(sign, 0, 0)
    }

    /// Signed infinity.
    #[inline]
    fn infinity(sign: bool) -> Self::Bits {
        Self::assemble(sign, Self::SPECIAL, INTEGER_BIT)
    }

    /// The NaN the processor makes itself: negative and quiet (SDM 1, table 4-3).
    #[inline]
    fn default_nan() -> Self::Bits {
        Self::assemble(true, Self::SPECIAL, INTEGER_BIT | QUIET_BIT)
    }

    /// Raise IE and answer with the default NaN.
    #[cold]
    fn invalid(env: &mut Env) -> Self::Bits {
        env.raise(flags::IE);
        Self::default_nan()
    }

    /// A NaN operand made quiet.
    #[inline]
    fn quieted(nan: &Unpacked) -> Self::Bits {
        Self::assemble(nan.sign, Self::SPECIAL, nan.sig | INTEGER_BIT | QUIET_BIT)
    }
}

/// One rounding decision.
pub(super) struct Rounded {
    /// The kept bits, normalised again after a carry.
    pub sig: u64,
    /// Rounding up carried into the next binade.
    pub carry: bool,
    /// Something was dropped.
    pub inexact: bool,
    /// The magnitude grew.
    pub up: bool,
}

/// Round `hi.lo` (a 128-bit significand whose last bit is sticky) to the top `precision` bits
/// of `hi`. `precision` is 1..=64.
#[inline(always)]
pub(super) fn round_at(rounding: Rounding, sign: bool, hi: u64, lo: u64, precision: u32) -> Rounded {
    let drop = 64 - precision;
    let step = 1u64 << drop;
    let rest = hi & (step - 1);
    let kept = hi & !(step - 1);
    let inexact = rest | lo != 0;
    let up = match rounding {
        Rounding::Nearest => {
            if drop == 0 {
                lo > INTEGER_BIT || (lo == INTEGER_BIT && hi & 1 != 0)
            } else {
                let half = step >> 1;
                rest > half || (rest == half && (lo != 0 || kept & step != 0))
            }
        }
        Rounding::Down => inexact & sign,
        Rounding::Up => inexact & !sign,
        Rounding::Zero => false,
    };
    if up {
        let (sig, carry) = kept.overflowing_add(step);
        Rounded { sig: if carry { INTEGER_BIT } else { sig }, carry, inexact, up }
    } else {
        Rounded { sig: kept, carry: false, inexact, up }
    }
}

/// Shift `hi.lo` right, collecting lost bits in the last one.
#[inline(always)]
pub(super) fn shift_right_sticky(hi: u64, lo: u64, by: u32) -> (u64, u64) {
    match by {
        0 => (hi, lo),
        1..=63 => (hi >> by, hi << (64 - by) | lo >> by | u64::from(lo << (64 - by) != 0)),
        64 => (0, hi | u64::from(lo != 0)),
        65..=127 => (0, hi >> (by - 64) | u64::from(hi << (128 - by) != 0 || lo != 0)),
        _ => (0, u64::from(hi | lo != 0)),
    }
}

/// Round a nonzero `(hi.lo) * 2^(exp - 63)` (bit 63 of `hi` set) to `precision` bits in the
/// format `F`, with overflow, underflow and inexact as SDM 1, 4.9.1.4 to 4.9.1.6 have them.
#[inline(always)]
pub(super) fn round_pack<F: Format>(env: &mut Env, sign: bool, exp: i32, hi: u64, lo: u64, precision: u32) -> F::Bits {
    debug_assert!(hi & INTEGER_BIT != 0);
    if exp < 1 - F::BIAS {
        return underflow::<F>(env, sign, exp, hi, lo, precision);
    }
    let r = round_at(env.rounding, sign, hi, lo, precision);
    let exp = exp + i32::from(r.carry);
    if exp > F::BIAS {
        return overflow::<F>(env, sign, exp, &r, precision);
    }
    if r.inexact {
        env.flags |= flags::PE;
        env.c1 = r.up;
    }
    F::assemble(sign, (exp + F::BIAS) as u32, r.sig)
}

#[cold]
#[inline(never)]
fn overflow<F: Format>(env: &mut Env, sign: bool, exp: i32, r: &Rounded, precision: u32) -> F::Bits {
    if env.raise(flags::OE) {
        if r.inexact {
            env.flags |= flags::PE;
            env.c1 = r.up;
        }
        if F::WRAP == 0 {
            return F::infinity(sign);
        }
        let exp = exp - F::WRAP;
        if exp > F::BIAS {
            // Out of reach even so ("massive", SDM 1, 4.9.1.4): FSCALE only.
            env.flags |= flags::PE;
            env.c1 = true;
            return F::infinity(sign);
        }
        return F::assemble(sign, (exp + F::BIAS) as u32, r.sig);
    }
    env.flags |= flags::PE;
    let away = match env.rounding {
        Rounding::Nearest => true,
        Rounding::Down => sign,
        Rounding::Up => !sign,
        Rounding::Zero => false,
    };
    env.c1 = away;
    if away { F::infinity(sign) } else { F::assemble(sign, F::SPECIAL - 1, u64::MAX << (64 - precision)) }
}

#[cold]
#[inline(never)]
fn underflow<F: Format>(env: &mut Env, sign: bool, exp: i32, hi: u64, lo: u64, precision: u32) -> F::Bits {
    let least = 1 - F::BIAS;
    let free = round_at(env.rounding, sign, hi, lo, precision);
    // Tiny is judged after rounding as if the exponent had no limit (SDM 1, 4.9.1.5).
    let tiny = exp + i32::from(free.carry) < least;
    if tiny && env.masks & flags::UE == 0 {
        env.flags |= flags::UE;
        if free.inexact {
            env.flags |= flags::PE;
            env.c1 = free.up;
        }
        if F::WRAP == 0 {
            return F::zero(sign);
        }
        let exp = exp + i32::from(free.carry) + F::WRAP;
        if exp < least {
            env.flags |= flags::PE;
            env.c1 = false;
            return F::zero(sign);
        }
        return F::assemble(sign, (exp + F::BIAS) as u32, free.sig);
    }
    if tiny && env.ftz {
        env.flags |= flags::UE | flags::PE;
        return F::zero(sign);
    }
    let (hi, lo) = shift_right_sticky(hi, lo, least.saturating_sub(exp) as u32);
    let r = round_at(env.rounding, sign, hi, lo, precision);
    if r.inexact {
        env.flags |= if tiny { flags::UE | flags::PE } else { flags::PE };
        env.c1 = r.up;
    }
    F::assemble(sign, u32::from(r.sig & INTEGER_BIT != 0), r.sig)
}

/// DE for the operands of a computation that takes place. True if it is unmasked and the
/// computation must stop (SDM 1, 4.9.1.2).
#[inline(always)]
pub(super) fn denormal_stops(env: &mut Env, denormal: bool) -> bool {
    denormal && env.raise(flags::DE)
}

/// Convert any datum to format `F`. `denormals`: whether the conversion raises DE.
#[inline]
pub(super) fn convert<F: Format>(env: &mut Env, a: &Unpacked, denormals: bool) -> F::Bits {
    match a.class {
        Class::Finite => {
            if denormals && denormal_stops(env, a.denormal) {
                return F::zero(a.sign);
            }
            round_pack::<F>(env, a.sign, a.exp, a.sig, 0, F::PRECISION)
        }
        Class::Zero => F::zero(a.sign),
        Class::Infinite => F::infinity(a.sign),
        Class::Quiet => F::quieted(a),
        Class::Signaling => {
            env.raise(flags::IE);
            F::quieted(a)
        }
        Class::Unsupported => F::invalid(env),
    }
}
