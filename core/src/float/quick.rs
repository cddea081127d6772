//! The common case of x87 arithmetic, on plain numbers in registers: operands and result are normal, results have 64
//! bits and are rounded to nearest, and all exceptions are masked. It agrees with the general way (`x87.rs`) bit by
//! bit, and leaves to it what is not common.

use super::arith::{aligned_sum, wide_product};
use super::env::{Rounding, flags};
use super::f80::F80;
use super::round::{Rounded, round_at};
use super::unpacked::INTEGER_BIT;

/// A normal number.
#[derive(Clone, Copy, Debug)]
pub struct Normal {
    /// Bit 15: negative.
    sign: u16,
    /// Biased as in [`F80`]: 1 to 7FFEh.
    exp: i32,
    /// With its integer bit.
    sig: u64,
}

/// A result.
#[derive(Clone, Copy, Debug)]
pub struct Quick<T> {
    /// The number.
    pub value: T,
    /// It is not exact ([`flags::PE`]).
    pub flags: u8,
    /// It was rounded away from zero.
    pub up: bool,
}

impl<T> Quick<T> {
    #[inline(always)]
    fn new(value: T, r: &Rounded) -> Self {
        Self { value, flags: if r.inexact { flags::PE } else { 0 }, up: r.up }
    }
    /// What it adds to the status word: PE and C1.
    #[inline(always)]
    pub fn status(&self) -> u16 {
        u16::from(self.flags) | u16::from(self.up) << 9
    }
}

impl Normal {
    /// From a register.
    #[inline(always)]
    pub fn of(v: F80) -> Option<Self> {
        let exp = i32::from(v.se & 0x7fff);
        ((1..0x7fff).contains(&exp) && v.sig & INTEGER_BIT != 0).then_some(Self {
            sign: v.se & 0x8000,
            exp,
            sig: v.sig,
        })
    }
    /// From an f32.
    #[inline(always)]
    pub fn of_f32(bits: u32) -> Option<Self> {
        let exp = (bits >> 23 & 0xff) as i32;
        let sig = INTEGER_BIT | u64::from(bits) << 40;
        (1..0xff).contains(&exp).then_some(Self { sign: (bits >> 16) as u16 & 0x8000, exp: exp - 127 + 16383, sig })
    }
    /// From an f64.
    #[inline(always)]
    pub fn of_f64(bits: u64) -> Option<Self> {
        let exp = (bits >> 52 & 0x7ff) as i32;
        let sig = INTEGER_BIT | bits << 11;
        (1..0x7ff).contains(&exp).then_some(Self { sign: (bits >> 48) as u16 & 0x8000, exp: exp - 1023 + 16383, sig })
    }
    /// For a register.
    #[inline(always)]
    pub fn pack(self) -> F80 {
        F80 { sig: self.sig, se: self.sign | self.exp as u16 }
    }
    /// With the other sign.
    #[inline(always)]
    pub fn negated(self) -> Self {
        Self { sign: self.sign ^ 0x8000, ..self }
    }
    /// As an f64, if that is normal.
    #[inline(always)]
    pub fn to_f64(self) -> Option<Quick<u64>> {
        let exp = self.exp - 16383 + 1023;
        if !(1..0x7fe).contains(&exp) {
            return None;
        }
        let r = round_at(Rounding::Nearest, self.sign != 0, self.sig, 0, 53);
        // The integer bit counts in the exponent.
        let bits = ((exp + i32::from(r.carry) - 1) as u64) << 52;
        let sign = u64::from(self.sign) << 48;
        Some(Quick::new(sign | (bits + (r.sig >> 11)), &r))
    }
}

/// `hi.lo`, with the integer bit in `hi`, rounded.
#[inline(always)]
fn round(sign: u16, exp: i32, hi: u64, lo: u64) -> Option<Quick<F80>> {
    let r = round_at(Rounding::Nearest, sign != 0, hi, lo, 64);
    let exp = exp + i32::from(r.carry);
    let normal = (1..0x7fff).contains(&exp);
    normal.then_some(Quick::new(F80 { sig: r.sig, se: sign | exp as u16 }, &r))
}

/// a * b.
#[inline(always)]
pub fn mul(a: Normal, b: Normal) -> Option<Quick<F80>> {
    let (hi, lo) = wide_product(a.sig, b.sig);
    let (sign, exp) = (a.sign ^ b.sign, a.exp + b.exp - 16383);
    // The smallest exponents are the general way's, which rounds denormal results.
    if exp < 1 {
        return None;
    }
    if hi & INTEGER_BIT != 0 { round(sign, exp + 1, hi, lo) } else { round(sign, exp, hi << 1 | lo >> 63, lo << 1) }
}

/// a + b.
#[inline(always)]
pub fn add(a: Normal, b: Normal) -> Option<Quick<F80>> {
    let (big, small) = if (a.exp, a.sig) >= (b.exp, b.sig) { (a, b) } else { (b, a) };
    let (hi, lo) = aligned_sum(big.sig, small.sig, big.exp - small.exp, big.sign != small.sign);
    if hi == 0 {
        return None;
    }
    let left = hi.leading_zeros();
    let exp = big.exp + 1 - left as i32;
    if exp < 1 {
        return None;
    }
    let (hi, lo) = if left == 0 { (hi, lo) } else { (hi << left | lo >> (64 - left), lo << left) };
    round(big.sign, exp, hi, lo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::float::{Env, Unpacked, x87};

    /// Numbers of all kinds, most of them close to each other, with long rows of equal bits.
    fn number(seed: &mut u64) -> F80 {
        let mut next = || {
            *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            *seed ^ *seed >> 29
        };
        let (a, b, c) = (next(), next(), next());
        let sig = match a % 5 {
            0 => b << (c % 64),
            1 => u64::MAX << (c % 64),
            2 => u64::MAX >> (c % 64) ^ b & 1,
            _ => b,
        };
        let exp = match a >> 8 & 7 {
            0 => c >> 20 & 0x7fff,
            1 => c >> 20 & 3,
            2 => 0x7fff - (c >> 20 & 3),
            3 => 0x3fff - 1023 + (c >> 20 & 3),
            _ => 0x3fff - 70 + (c >> 20) % 140,
        };
        F80 { sig: if a & 64 != 0 { sig } else { sig | INTEGER_BIT }, se: exp as u16 | (a >> 40) as u16 & 0x8000 }
    }

    #[test]
    fn it_agrees_with_the_general_way() {
        let mut seed = 1;
        let mut quick = [0; 4];
        for _ in 0..300_000 {
            let (x, y) = (number(&mut seed), number(&mut seed));
            let general = |f: fn(&mut Env, &Unpacked, &Unpacked) -> F80| {
                let mut env = Env::default();
                let v = f(&mut env, &x.unpack(), &y.unpack());
                (v, env.flags, env.c1)
            };
            let (Some(a), Some(b)) = (Normal::of(x), Normal::of(y)) else { continue };
            assert_eq!(a.pack(), x);
            let all = [
                (mul(a, b), general(x87::mul)),
                (add(a, b), general(x87::add)),
                (add(a, b.negated()), general(x87::sub)),
            ];
            for (n, (got, want)) in all.into_iter().enumerate() {
                if let Some(r) = got {
                    quick[n] += 1;
                    assert_eq!((r.value, r.flags, r.up), want, "{n}: {x:?} {y:?}");
                }
            }
            if let Some(r) = a.to_f64() {
                quick[3] += 1;
                let mut env = Env::default();
                let want = x87::to_f64(&mut env, &x.unpack());
                assert_eq!((r.value, r.flags, r.up), (want, env.flags, env.c1), "{x:?}");
                let back = Normal::of_f64(want).expect("it is normal").pack();
                assert_eq!(back, x87::load(&mut env, &x87::unpack_f64(want)));
            }
            let single = (x.sig >> 17) as u32;
            if let Some(v) = Normal::of_f32(single) {
                assert_eq!(v.pack(), x87::load(&mut Env::default(), &x87::unpack_f32(single)));
            }
        }
        assert!(quick.iter().all(|&n| n > 50_000), "{quick:?}");
    }
}
