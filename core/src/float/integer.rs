//! Between floating point and integers, for every format.

use super::env::{Env, Rounding, flags};
use super::round::{Format, round_at, round_pack, shift_right_sticky};
use super::unpacked::{Class, Unpacked};

/// Magnitude of `a` rounded to an integer: `None` if it is 2^64 or more. Also whether that was
/// inexact and whether the magnitude grew.
#[inline]
pub(super) fn magnitude(rounding: Rounding, a: &Unpacked) -> Option<(u64, bool, bool)> {
    if a.class == Class::Zero {
        return Some((0, false, false));
    }
    if a.exp > 63 {
        return None;
    }
    let (int, frac) = shift_right_sticky(a.sig, 0, (63 - a.exp).min(200) as u32);
    let r = round_at(rounding, a.sign, int, frac, 64);
    if r.carry { None } else { Some((r.sig, r.inexact, r.up)) }
}

/// To a signed integer of `bits` (16, 32 or 64) bits, sign-extended. NaN, infinity and values
/// out of range raise IE and give the integer indefinite (SDM 1, table 4-1): the minimum.
#[inline]
pub fn to_int(env: &mut Env, a: &Unpacked, rounding: Rounding, bits: u32) -> i64 {
    let indefinite = i64::MIN >> (64 - bits);
    let number = match a.class {
        Class::Finite | Class::Zero => magnitude(rounding, a),
        _ => None,
    };
    let limit = (1u64 << (bits - 1)) - u64::from(!a.sign);
    match number {
        Some((m, inexact, up)) if m <= limit => {
            if inexact {
                env.flags |= flags::PE;
                env.c1 = up;
            }
            if a.sign { (m as i64).wrapping_neg() } else { m as i64 }
        }
        _ => {
            env.raise(flags::IE);
            indefinite
        }
    }
}

/// From a signed integer, rounded to the format.
#[inline]
pub(super) fn from_int<F: Format>(env: &mut Env, v: i64) -> F::Bits {
    let a = Unpacked::integer(v);
    if a.class == Class::Zero {
        return F::zero(false);
    }
    round_pack::<F>(env, a.sign, a.exp, a.sig, 0, F::PRECISION)
}

/// Round to an integral value in the same format. Inexact raises PE unless `quiet`.
/// NaNs follow the format's rule; denormal operands raise nothing here.
#[inline]
pub(super) fn round_integral<F: Format>(env: &mut Env, a: &Unpacked, rounding: Rounding, quiet: bool) -> F::Bits {
    match a.class {
        Class::Zero => F::zero(a.sign),
        Class::Infinite => F::infinity(a.sign),
        Class::Finite if a.exp >= F::PRECISION as i32 - 1 => F::assemble(a.sign, (a.exp + F::BIAS) as u32, a.sig),
        Class::Finite => {
            // a.exp < 63, so the rounded magnitude always fits.
            let (m, inexact, up) = magnitude(rounding, a).unwrap_or_default();
            if inexact && !quiet {
                env.flags |= flags::PE;
                env.c1 = up;
            }
            let r = Unpacked::finite(a.sign, 63, m);
            if r.class == Class::Zero { F::zero(a.sign) } else { F::assemble(a.sign, (r.exp + F::BIAS) as u32, r.sig) }
        }
        _ => F::propagate(env, a, a),
    }
}
