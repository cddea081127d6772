//! The working precision: a float with a 128-bit significand, and fixed-point series.

use crate::float::arith::div_128_by_64;
use crate::float::env::Env;
use crate::float::f80::{Extended, F80};
use crate::float::round::round_pack;
use crate::float::unpacked::Unpacked;

/// A nonzero number `sig * 2^(exp - 127)`, bit 127 of `sig` set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wide {
    pub sign: bool,
    pub exp: i32,
    pub sig: u128,
}

/// 1.0 in the Q1.127 fixed point of the series.
pub(super) const ONE: u128 = 1 << 127;

/// The high half of a 128 by 128-bit product, short by at most 2.
#[inline]
fn mul_high(a: u128, b: u128) -> u128 {
    let (a1, a0) = (a >> 64, a & u128::from(u64::MAX));
    let (b1, b0) = (b >> 64, b & u128::from(u64::MAX));
    let middle = ((a1 * b0) >> 64) + ((a0 * b1) >> 64);
    // The middle products' low halves can carry once; they only matter below 2^-126.
    a1 * b1 + middle
}

/// Product of Q1.127 numbers.
#[inline]
pub(super) fn mul_fixed(a: u128, b: u128) -> u128 {
    mul_high(a, b) << 1
}

/// `sum c[k] * z^k`, alternating in sign if `alternate`, for `c` falling and z < 1 (both Q1.127).
/// Terms that cannot reach 2^-116 are left out.
#[inline]
pub(super) fn series(z: u128, c: &[u128], alternate: bool) -> u128 {
    let bits = z.leading_zeros().max(1); // z < 2^(1 - bits)
    let enough = if bits == 1 { c.len() } else { (116 / (bits as usize - 1) + 2).min(c.len()) };
    let (last, head) = match c.get(..enough).and_then(|c| c.split_last()) {
        Some(parts) => parts,
        None => return 0,
    };
    head.iter().rev().fold(*last, |sum, &c| {
        let term = mul_fixed(z, sum);
        if alternate { c - term } else { c + term }
    })
}

impl Wide {
    /// A positive constant from its leading 128 bits.
    pub const fn new(exp: i32, sig: u128) -> Self {
        Wide { sign: false, exp, sig }
    }

    /// An unpacked finite number, exactly.
    pub fn from_unpacked(a: &Unpacked) -> Self {
        Wide { sign: a.sign, exp: a.exp, sig: u128::from(a.sig) << 64 }
    }

    /// `v * 2^(exp - 127)` for a `v` that need not be normalised; `None` for zero.
    pub fn normalised(sign: bool, exp: i32, v: u128) -> Option<Self> {
        if v == 0 {
            return None;
        }
        let left = v.leading_zeros();
        Some(Wide { sign, exp: exp - left as i32, sig: v << left })
    }

    /// Product with a relative error below 2^-124.
    pub fn mul(self, b: Wide) -> Wide {
        let high = mul_high(self.sig, b.sig);
        let sign = self.sign ^ b.sign;
        let exp = self.exp + b.exp;
        if high >> 127 != 0 {
            Wide { sign, exp: exp + 1, sig: high }
        } else {
            Wide { sign, exp, sig: high << 1 | 1 << 127 }
        }
    }

    /// Product with a nonzero Q1.127 number.
    pub fn mul_q(self, q: u128) -> Wide {
        match Wide::normalised(false, 0, q) {
            Some(q) => self.mul(q),
            None => self,
        }
    }

    /// Quotient with a relative error below 2^-126.
    pub fn div(self, b: Wide) -> Wide {
        let sign = self.sign ^ b.sign;
        let exp = self.exp - b.exp;
        // Numerator below the divisor, so the quotient is a fraction of 128 bits.
        let (exp, rem) = if self.sig >= b.sig { (exp, self.sig - b.sig) } else { (exp - 1, self.sig) };
        let whole = self.sig >= b.sig;
        let (q1, rem) = digit(rem, b.sig);
        let (q0, _) = digit(rem, b.sig);
        let fraction = u128::from(q1) << 64 | u128::from(q0);
        // 1.fraction, or 0.1xxx fraction: in [1/2, 1).
        let sig = if whole { 1 << 127 | fraction >> 1 } else { fraction | 1 << 127 };
        Wide { sign, exp, sig }
    }

    /// Sum; `None` if it cancels to zero.
    pub fn add(self, b: Wide) -> Option<Wide> {
        let (big, small) = if (self.exp, self.sig) >= (b.exp, b.sig) { (self, b) } else { (b, self) };
        let by = (big.exp - small.exp) as u32;
        let small_sig = if by < 128 { small.sig >> by } else { 0 };
        if big.sign == small.sign {
            let (sum, carry) = big.sig.overflowing_add(small_sig);
            return Some(if carry {
                Wide { sign: big.sign, exp: big.exp + 1, sig: sum >> 1 | 1 << 127 }
            } else {
                Wide { sig: sum, ..big }
            });
        }
        Wide::normalised(big.sign, big.exp, big.sig - small_sig)
    }

    /// As Q1.127, for numbers below 2; the sign is dropped.
    pub fn fixed(self) -> u128 {
        match self.exp {
            0 => self.sig,
            -127..=-1 => self.sig >> -self.exp,
            _ => 0,
        }
    }

    /// Rounded to 80 bits as an inexact result.
    pub fn round(self, env: &mut Env) -> F80 {
        round_pack::<Extended>(env, self.sign, self.exp, (self.sig >> 64) as u64, self.sig as u64 | 1, 64)
    }
}

/// One base-2^64 digit of `rem * 2^64 / d` and what remains (Knuth, TAOCP 2, 4.3.1 D).
fn digit(rem: u128, d: u128) -> (u64, u128) {
    let (dh, dl) = ((d >> 64) as u64, d as u64);
    let rh = (rem >> 64) as u64;
    let (mut q, partial) = if rh >= dh {
        (u64::MAX, rem - u128::from(u64::MAX) * u128::from(dh))
    } else {
        let (q, r) = div_128_by_64(rh, rem as u64, dh);
        (q, u128::from(r))
    };
    let product = u128::from(q) * u128::from(dl);
    let mut rest = (partial << 64).wrapping_sub(product);
    if partial >> 64 == 0 && (partial << 64) < product {
        // Too large by one or two.
        q -= 1;
        let (sum, carry) = rest.overflowing_add(d);
        rest = sum;
        if !carry {
            q -= 1;
            rest = rest.wrapping_add(d);
        }
    }
    (q, rest)
}
