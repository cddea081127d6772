//! Addition, multiplication, division, square root and comparison for every format.

use super::env::{Env, Rounding, flags};
use super::quick::{aligned_sum, wide_product};
use super::round::{Format, denormal_stops, round_pack};
use super::unpacked::{Class, INTEGER_BIT, Relation, Unpacked};
use super::words::Now;

/// True if `a` and `b` are both finite and nonzero: the case worth being fast.
#[inline(always)]
fn both_finite(a: &Unpacked, b: &Unpacked) -> bool {
    a.class as u8 | b.class as u8 == 0
}

#[inline(always)]
fn is_special(class: Class) -> bool {
    class as u8 >= Class::Quiet as u8
}

/// The sign of an exact zero sum of two numbers of opposite sign.
#[inline(always)]
fn zero_sum<F: Format>(env: &Env) -> F::Bits {
    F::zero(env.rounding == Rounding::Down)
}

/// a + b.
#[inline(always)]
pub(super) fn add<F: Format>(env: &mut Env, a: &Unpacked, b: &Unpacked, precision: u32) -> F::Bits {
    if !both_finite(a, b) {
        return add_special::<F>(env, a, b, precision);
    }
    if denormal_stops(env, a.denormal | b.denormal) {
        return F::default_nan();
    }
    let (big, small) = if (a.exp, a.sig) >= (b.exp, b.sig) { (a, b) } else { (b, a) };
    let (distance, subtract) = ((big.exp - small.exp) as u64, u64::from(big.sign != small.sign));
    let [hi, lo] = aligned_sum(&mut Now { good: true }, big.sig, small.sig, distance, subtract);
    let (hi, lo, left) = if hi != 0 {
        let left = hi.leading_zeros();
        if left == 0 { (hi, lo, 0) } else { (hi << left | lo >> (64 - left), lo << left, left) }
    } else if lo != 0 {
        let left = lo.leading_zeros();
        (lo << left, 0, left + 64)
    } else {
        return zero_sum::<F>(env);
    };
    round_pack::<F>(env, big.sign, big.exp + 1 - left as i32, hi, lo, precision)
}

#[cold]
#[inline(never)]
fn add_special<F: Format>(env: &mut Env, a: &Unpacked, b: &Unpacked, precision: u32) -> F::Bits {
    if is_special(a.class) || is_special(b.class) {
        return F::propagate(env, a, b);
    }
    match (a.class, b.class) {
        (Class::Infinite, Class::Infinite) if a.sign != b.sign => return F::invalid(env),
        (Class::Zero, Class::Zero) => {
            return if a.sign == b.sign { F::zero(a.sign) } else { zero_sum::<F>(env) };
        }
        _ => {}
    }
    if denormal_stops(env, a.denormal | b.denormal) {
        return F::default_nan();
    }
    if a.class == Class::Infinite {
        return F::infinity(a.sign);
    }
    if b.class == Class::Infinite {
        return F::infinity(b.sign);
    }
    let x = if a.class == Class::Zero { b } else { a };
    round_pack::<F>(env, x.sign, x.exp, x.sig, 0, precision)
}

/// a * b.
#[inline(always)]
pub(super) fn mul<F: Format>(env: &mut Env, a: &Unpacked, b: &Unpacked, precision: u32) -> F::Bits {
    if !both_finite(a, b) {
        return mul_special::<F>(env, a, b);
    }
    if denormal_stops(env, a.denormal | b.denormal) {
        return F::default_nan();
    }
    let [hi, lo] = wide_product(&mut Now { good: true }, a.sig, b.sig);
    let exp = a.exp + b.exp;
    let sign = a.sign ^ b.sign;
    if hi & INTEGER_BIT != 0 {
        round_pack::<F>(env, sign, exp + 1, hi, lo, precision)
    } else {
        round_pack::<F>(env, sign, exp, hi << 1 | lo >> 63, lo << 1, precision)
    }
}

#[cold]
#[inline(never)]
fn mul_special<F: Format>(env: &mut Env, a: &Unpacked, b: &Unpacked) -> F::Bits {
    if is_special(a.class) || is_special(b.class) {
        return F::propagate(env, a, b);
    }
    let infinite = a.class == Class::Infinite || b.class == Class::Infinite;
    let zero = a.class == Class::Zero || b.class == Class::Zero;
    if infinite && zero {
        return F::invalid(env);
    }
    if denormal_stops(env, a.denormal | b.denormal) {
        return F::default_nan();
    }
    if infinite { F::infinity(a.sign ^ b.sign) } else { F::zero(a.sign ^ b.sign) }
}

/// `(hi:lo) / d` as quotient and remainder; needs `hi < d` and bit 63 of `d` set. Two steps of
/// schoolbook division by 32-bit digits (Knuth, TAOCP 2, 4.3.1 D), fast without a wide divide.
#[inline]
pub(super) fn div_128_by_64(hi: u64, lo: u64, d: u64) -> (u64, u64) {
    debug_assert!(hi < d && d & INTEGER_BIT != 0);
    let (d1, d0) = (d >> 32, d & 0xffff_ffff);
    let step = |rem: u64, digit: u64| {
        let mut q = rem / d1;
        let mut r = rem % d1;
        while q >> 32 != 0 || q * d0 > (r << 32 | digit) {
            q -= 1;
            r += d1;
            if r >> 32 != 0 {
                break;
            }
        }
        let rem = (rem << 32 | digit).wrapping_sub(q.wrapping_mul(d));
        (q, rem)
    };
    let (q1, rem) = step(hi, lo >> 32);
    let (q0, rem) = step(rem, lo & 0xffff_ffff);
    (q1 << 32 | q0, rem)
}

/// a / b.
#[inline(always)]
pub(super) fn div<F: Format>(env: &mut Env, a: &Unpacked, b: &Unpacked, precision: u32) -> F::Bits {
    if !both_finite(a, b) {
        return div_special::<F>(env, a, b);
    }
    if denormal_stops(env, a.denormal | b.denormal) {
        return F::default_nan();
    }
    let sign = a.sign ^ b.sign;
    let exp = a.exp - b.exp;
    if F::PRECISION <= 24 {
        // Both significands fit 24 bits, so one 64-by-32-bit division gives 31 bits and a remainder.
        let d = b.sig >> 32;
        let (q, r) = ((a.sig >> 1) / d, (a.sig >> 1) % d);
        let left = q.leading_zeros();
        let hi = q << left | u64::from(r != 0);
        return round_pack::<F>(env, sign, exp + 32 - left as i32, hi, 0, precision);
    }
    let (exp, hi, lo) = if a.sig >= b.sig { (exp, a.sig >> 1, a.sig << 63) } else { (exp - 1, a.sig, 0) };
    let (q, r) = div_128_by_64(hi, lo, b.sig);
    // The fraction below the quotient, to the half and a sticky bit.
    let lo = match (r << 1).cmp(&b.sig) {
        _ if r == 0 => 0,
        _ if r & INTEGER_BIT != 0 => INTEGER_BIT | 1,
        core::cmp::Ordering::Less => 1,
        core::cmp::Ordering::Equal => INTEGER_BIT,
        core::cmp::Ordering::Greater => INTEGER_BIT | 1,
    };
    round_pack::<F>(env, sign, exp, q, lo, precision)
}

#[cold]
#[inline(never)]
fn div_special<F: Format>(env: &mut Env, a: &Unpacked, b: &Unpacked) -> F::Bits {
    if is_special(a.class) || is_special(b.class) {
        return F::propagate(env, a, b);
    }
    let sign = a.sign ^ b.sign;
    if a.class == b.class {
        return F::invalid(env); // 0/0 and inf/inf
    }
    if b.class == Class::Zero && a.class == Class::Finite {
        // Ranks above a denormal dividend (SDM 1, table 4-11): no DE.
        env.raise(flags::ZE);
        return F::infinity(sign);
    }
    if denormal_stops(env, a.denormal | b.denormal) {
        return F::default_nan();
    }
    if a.class == Class::Infinite || b.class == Class::Zero { F::infinity(sign) } else { F::zero(sign) }
}

/// Integer square root of `hi:lo` and the remainder; needs `hi >= 2^62`. One step of Zimmermann's
/// "Karatsuba Square Root" (INRIA RR-3805) on top of a 64-bit root.
#[inline]
fn root_128(hi: u64, lo: u64) -> (u64, u128) {
    let s = hi.isqrt();
    let r = hi - s * s; // at most 2s
    // (r * 2^32 + upper half of lo) / 2s; the dividend has up to 65 bits, so halve both.
    let half = r << 31 | lo >> 33;
    let (q, u) = (half / s, (half % s) << 1 | lo >> 32 & 1);
    let root = (s << 32).wrapping_add(q);
    let have = u128::from(u) << 32 | u128::from(lo & 0xffff_ffff);
    let square = u128::from(q) * u128::from(q);
    if have >= square {
        return (root, have - square);
    }
    let root = root.wrapping_sub(1);
    (root, (have + (u128::from(root) << 1) + 1) - square)
}

/// Square root.
#[inline(always)]
pub(super) fn sqrt<F: Format>(env: &mut Env, a: &Unpacked, precision: u32) -> F::Bits {
    if is_special(a.class) {
        return F::propagate(env, a, a);
    }
    if a.class == Class::Zero {
        return F::zero(a.sign);
    }
    if a.sign {
        return F::invalid(env);
    }
    if a.class == Class::Infinite {
        return F::infinity(false);
    }
    if denormal_stops(env, a.denormal) {
        return F::default_nan();
    }
    // An even exponent, then the root of the significand is in [1, 2).
    let odd = a.exp & 1 != 0;
    let exp = a.exp >> 1;
    if F::PRECISION <= 24 {
        let n = if odd { a.sig } else { a.sig >> 1 };
        let root = n.isqrt();
        let hi = root << 32 | u64::from(root * root != n);
        return round_pack::<F>(env, false, exp, hi, 0, precision);
    }
    let (root, rest) = if odd { root_128(a.sig, 0) } else { root_128(a.sig >> 1, a.sig << 63) };
    // (root + 1/2)^2 = root^2 + root + 1/4: the fraction is above a half exactly if rest > root.
    let lo = if rest == 0 {
        0
    } else if rest > u128::from(root) {
        INTEGER_BIT | 1
    } else {
        1
    };
    round_pack::<F>(env, false, exp, root, lo, precision)
}

/// Compare without looking at NaN flags: the caller decides which NaNs are invalid.
#[inline]
pub(super) fn relation(a: &Unpacked, b: &Unpacked) -> Relation {
    use core::cmp::Ordering;
    if is_special(a.class) || is_special(b.class) {
        return Relation::Unordered;
    }
    // Rank by magnitude: zero < finite < infinite.
    let key = |x: &Unpacked| match x.class {
        Class::Zero => (0u8, 0, 0),
        Class::Finite => (1, x.exp, x.sig),
        _ => (2, 0, 0),
    };
    let (ka, kb) = (key(a), key(b));
    let order = if ka.0 == 0 && kb.0 == 0 {
        Ordering::Equal
    } else if a.sign != b.sign {
        if a.sign { Ordering::Less } else { Ordering::Greater }
    } else if a.sign {
        kb.cmp(&ka)
    } else {
        ka.cmp(&kb)
    };
    match order {
        Ordering::Less => Relation::Less,
        Ordering::Equal => Relation::Equal,
        Ordering::Greater => Relation::Greater,
    }
}

/// Compare, with IE for signalling NaNs (and quiet ones if `signaling`) and DE for denormals.
#[inline]
pub(super) fn compare(env: &mut Env, a: &Unpacked, b: &Unpacked, signaling: bool) -> Relation {
    if is_special(a.class) || is_special(b.class) {
        let bad = |x: &Unpacked| match x.class {
            Class::Signaling | Class::Unsupported => true,
            Class::Quiet => signaling,
            _ => false,
        };
        if bad(a) || bad(b) {
            env.raise(flags::IE);
        }
        return Relation::Unordered;
    }
    denormal_stops(env, a.denormal | b.denormal);
    relation(a, b)
}
