//! FSIN, FCOS, FSINCOS, FPTAN: reduction by the 66-bit pi of SDM 1, 8.3.8, then one series.

use super::wide::{ONE, Wide, mul_fixed, series};
use crate::float::env::Env;
use crate::float::f80::{Extended, F80};
use crate::float::round::{Format, denormal_stops};
use crate::float::unpacked::{Class, Unpacked};

/// pi to 66 bits, in units of 2^-64; as pi/2 in units of 2^-65.
const PI_66: u128 = 0x3_243f_6a88_85a3_08d3;

/// (-1)^k-less coefficients 1/(2k+1)! and 1/(2k)!.
const SIN: [u128; 15] = reciprocal_factorials(1);
const COS: [u128; 16] = reciprocal_factorials(0);

const fn reciprocal_factorials<const N: usize>(first: u128) -> [u128; N] {
    let mut c = [0; N];
    let mut value = ONE;
    let mut n = first;
    let mut k = 0;
    while k < N {
        c[k] = value;
        value /= (n + 1) * (n + 2);
        n += 2;
        k += 1;
    }
    c
}

/// An operand the instructions compute on: they leave it alone and set C2 from 2^63 on.
pub fn in_range(a: &Unpacked) -> bool {
    a.class != Class::Finite || a.exp < 63
}

/// A reduced argument.
struct Reduced {
    /// Multiples of pi/2 taken off, modulo 4.
    quadrant: u32,
    /// What is left, within pi/4 of zero; `None` for zero.
    rest: Option<Wide>,
}

fn reduce(a: &Unpacked) -> Reduced {
    // 0.785 <= 0xc90f.. / 2^64 / 2: below it there is nothing to reduce.
    if a.exp < -1 || (a.exp == -1 && a.sig <= 0xc90f_daa2_2168_c234) {
        return Reduced { quadrant: 0, rest: Some(Wide::from_unpacked(a)) };
    }
    // The operand is a multiple of 2^-64 below 2^63: exact in units of 2^-65.
    let x = u128::from(a.sig) << (a.exp + 2);
    let (mut n, mut r, mut sign) = (x / PI_66, x % PI_66, a.sign);
    if r > PI_66 / 2 {
        n += 1;
        r = PI_66 - r;
        sign = !sign;
    }
    // Unit 2^-65 = 2^(exp - 127) for exp = 62.
    let n = n as u32;
    Reduced { quadrant: if a.sign { n.wrapping_neg() } else { n } & 3, rest: Wide::normalised(sign, 62, r) }
}

/// sin(r) for a reduced nonzero argument.
fn sin_core(r: Wide) -> Wide {
    let x = r.fixed();
    // The series is 1 only if r is tiny; the true factor is then just below.
    r.mul_q(series(mul_fixed(x, x), &SIN, true).min(ONE - 1))
}

/// cos(r) for a reduced argument.
fn cos_core(r: Wide) -> Wide {
    let x = r.fixed();
    let c = series(mul_fixed(x, x), &COS, true).min(ONE - 1);
    Wide { sign: false, exp: 0, sig: c }.renormalised()
}

impl Wide {
    fn renormalised(self) -> Wide {
        let left = self.sig.leading_zeros();
        Wide { exp: self.exp - left as i32, sig: self.sig << left, ..self }
    }
}

/// sin of a multiple of pi/2 plus the rest; `None` for an exact zero, which 66-bit pi never
/// produces from a nonzero operand except by operands that are multiples of it.
fn quadrant_sin(r: &Reduced, plus: u32) -> Option<Wide> {
    let q = (r.quadrant + plus) & 3;
    let value = match (q & 1, r.rest) {
        (0, None) => return None,
        (0, Some(x)) => sin_core(x),
        (_, None) => Wide::new(0, 1 << 127),
        (_, Some(x)) => cos_core(x),
    };
    Some(if q & 2 != 0 { Wide { sign: !value.sign, ..value } } else { value })
}

/// The result of a trigonometric instruction on an operand that is [`in_range`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trig {
    /// sin (FSIN, FSINCOS) or tan (FPTAN).
    pub first: F80,
    /// cos (FSINCOS) or the 1 that FPTAN pushes.
    pub second: F80,
}

/// Operands with a known answer: NaN, infinity, zero, unmasked denormal.
fn special(env: &mut Env, a: &Unpacked) -> Option<Trig> {
    match a.class {
        Class::Finite => {
            denormal_stops(env, a.denormal).then_some(Trig { first: F80::INDEFINITE, second: F80::INDEFINITE })
        }
        Class::Zero => Some(Trig { first: Extended::zero(a.sign), second: F80::ONE }),
        Class::Infinite => {
            let nan = Extended::invalid(env);
            Some(Trig { first: nan, second: nan })
        }
        _ => {
            let nan = Extended::propagate(env, a, a);
            Some(Trig { first: nan, second: nan })
        }
    }
}

fn round_or_zero(env: &mut Env, w: Option<Wide>, sign: bool) -> F80 {
    match w {
        Some(w) => w.round(env),
        None => Extended::zero(sign),
    }
}

/// FSIN.
pub fn sin(env: &mut Env, a: &Unpacked) -> F80 {
    if let Some(t) = special(env, a) {
        return t.first;
    }
    round_or_zero(env, quadrant_sin(&reduce(a), 0), a.sign)
}

/// FCOS.
pub fn cos(env: &mut Env, a: &Unpacked) -> F80 {
    if let Some(t) = special(env, a) {
        return t.second;
    }
    round_or_zero(env, quadrant_sin(&reduce(a), 1), false)
}

/// FSINCOS: the sine and the cosine.
pub fn sin_cos(env: &mut Env, a: &Unpacked) -> Trig {
    if let Some(t) = special(env, a) {
        return t;
    }
    let r = reduce(a);
    // C1 is the sine's.
    let second = round_or_zero(env, quadrant_sin(&r, 1), false);
    let first = round_or_zero(env, quadrant_sin(&r, 0), a.sign);
    Trig { first, second }
}

/// FPTAN: the tangent and 1 (a NaN twice for an invalid operand).
pub fn tan(env: &mut Env, a: &Unpacked) -> Trig {
    if let Some(t) = special(env, a) {
        return t;
    }
    let r = reduce(a);
    let quotient = match (quadrant_sin(&r, 0), quadrant_sin(&r, 1)) {
        (Some(s), Some(c)) => Some(s.div(c)),
        (s, _) => s,
    };
    Trig { first: round_or_zero(env, quotient, a.sign), second: F80::ONE }
}
