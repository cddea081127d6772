//! FYL2X and FYL2XP1: y times a binary logarithm (SDM 2, tables 3-43 and 3-44).

use super::wide::{ONE, Wide, mul_fixed, series};
use crate::float::env::{Env, flags};
use crate::float::f80::{Extended, F80};
use crate::float::round::{Format, denormal_stops, round_pack};
use crate::float::unpacked::{Class, INTEGER_BIT, Unpacked};
use crate::float::x87;

/// 2/ln(2)
const TWO_LOG2_E: Wide = Wide::new(1, 0xb8aa_3b29_5c17_f0bb_be87_fed0_691d_3e88);
/// The significand of sqrt(2).
const SQRT_2: u64 = 0xb504_f333_f9de_6484;

/// 1/(2k+1).
const ODD: [u128; 26] = {
    let mut c = [0; 26];
    let mut k = 0;
    while k < 26 {
        c[k] = ONE / (2 * k as u128 + 1);
        k += 1;
    }
    c
};

/// log2((1 + s) / (1 - s)) = 2/ln 2 * atanh(s) for |s| < 0.18.
fn from_ratio(s: Wide) -> Wide {
    let x = s.fixed();
    s.mul_q(series(mul_fixed(x, x), &ODD, false)).mul(TWO_LOG2_E)
}

/// log2 of a positive finite number; the flag says it is exact. `None` for log2(1).
fn log2(a: &Unpacked) -> Option<(Wide, bool)> {
    // a = 2^e * m with m in (sqrt(1/2), sqrt(2)].
    let high = a.sig > SQRT_2;
    let e = a.exp + i32::from(high);
    let whole = Wide::normalised(e < 0, 127, u128::from(e.unsigned_abs()));
    if a.sig == INTEGER_BIT {
        return whole.map(|w| (w, true));
    }
    // (m - 1) / (m + 1) in units of 2^-63 (2^-64 for the upper half).
    let one = u128::from(INTEGER_BIT) << u32::from(high);
    let m = u128::from(a.sig);
    let (top, bottom) = (Wide::normalised(m < one, 0, m.abs_diff(one)), Wide::normalised(false, 0, m + one));
    let part = match (top, bottom) {
        (Some(t), Some(b)) => from_ratio(t.div(b)),
        _ => return whole.map(|w| (w, true)),
    };
    match whole {
        Some(w) => w.add(part).map(|w| (w, false)),
        None => Some((part, false)),
    }
}

fn product(env: &mut Env, y: &Unpacked, log: Wide, exact: bool) -> F80 {
    if exact {
        // A whole number below 2^15 times y: the product fits 80 bits, so nothing is lost here.
        let p = u128::from(y.sig) * (log.sig >> 64);
        let (exp, p) = if p >> 127 != 0 { (1, p) } else { (0, p << 1) };
        let exp = exp + y.exp + log.exp;
        let r = round_pack::<Extended>(env, y.sign ^ log.sign, exp, (p >> 64) as u64, p as u64, 64);
        // The processor does not notice that it was exact.
        env.raise(if r.biased() == 0 { flags::UE | flags::PE } else { flags::PE });
        return r;
    }
    Wide::from_unpacked(y).mul(log).round(env)
}

/// FYL2X: y * log2(x) with y = ST(1), x = ST(0).
pub fn y_log2(env: &mut Env, y: &Unpacked, x: &Unpacked) -> F80 {
    if y.class >= Class::Quiet || x.class >= Class::Quiet {
        return Extended::propagate(env, y, x);
    }
    if x.sign && x.class != Class::Zero {
        return Extended::invalid(env);
    }
    let one = x.class == Class::Finite && x.exp == 0 && x.sig == INTEGER_BIT;
    match (y.class, x.class) {
        (Class::Zero, Class::Zero | Class::Infinite) => return Extended::invalid(env),
        (Class::Infinite, _) if one => return Extended::invalid(env),
        (Class::Finite, Class::Zero) => {
            env.raise(flags::ZE);
            return Extended::infinity(!y.sign);
        }
        (Class::Infinite, Class::Zero) => return Extended::infinity(!y.sign),
        _ => {}
    }
    if denormal_stops(env, y.denormal | x.denormal) {
        return F80::INDEFINITE;
    }
    // log2(x) is negative below 1.
    let negative = x.class == Class::Finite && x.exp < 0;
    match (y.class, x.class) {
        (Class::Infinite, _) | (_, Class::Infinite) => Extended::infinity(y.sign ^ negative),
        (Class::Zero, _) => Extended::zero(y.sign ^ negative),
        _ => match log2(x) {
            Some((log, exact)) => product(env, y, log, exact),
            None => Extended::zero(y.sign),
        },
    }
}

/// FYL2XP1: y * log2(1 + x) with y = ST(1), x = ST(0). The manual defines |x| <= 1 - sqrt(1/2);
/// beyond it the logarithm is continued, and from -1 down x itself comes back as inexact.
pub fn y_log2_plus_1(env: &mut Env, y: &Unpacked, x: &Unpacked) -> F80 {
    if y.class >= Class::Quiet || x.class >= Class::Quiet {
        return Extended::propagate(env, y, x);
    }
    match (y.class, x.class) {
        (Class::Infinite, Class::Zero) | (Class::Zero, Class::Infinite) => return Extended::invalid(env),
        (_, Class::Infinite) if x.sign => return Extended::invalid(env),
        _ => {}
    }
    if denormal_stops(env, y.denormal | x.denormal) {
        return F80::INDEFINITE;
    }
    let sign = y.sign ^ x.sign;
    if y.class == Class::Infinite || x.class == Class::Infinite {
        return Extended::infinity(sign);
    }
    if y.class == Class::Zero || x.class == Class::Zero {
        return Extended::zero(sign);
    }
    if x.sign && x.exp >= 0 {
        env.raise(flags::PE);
        return x87::pack(x);
    }
    let wide = Wide::from_unpacked(x);
    let log = if x.exp < -2 || (x.exp == -2 && x.sig <= 0x95f6_1998_0c43_36f7) {
        // s = x / (2 + x)
        let two = Wide::new(1, 1 << 127);
        from_ratio(wide.div(two.add(wide).unwrap_or(two)))
    } else {
        // 1 + x to 128 bits, split as in log2.
        let sum = Wide::new(0, 1 << 127).add(wide).unwrap_or(wide);
        let high = sum.sig > u128::from(SQRT_2) << 64;
        let e = sum.exp + i32::from(high);
        let m = Wide { exp: -i32::from(high), ..sum };
        let minus_one = Wide { sign: true, ..Wide::new(0, 1 << 127) };
        let part = match m.add(minus_one) {
            Some(top) => {
                let two = Wide::new(0, 1 << 127);
                Some(from_ratio(top.div(m.add(two).unwrap_or(two))))
            }
            None => None,
        };
        let whole = Wide::normalised(e < 0, 127, u128::from(e.unsigned_abs()));
        match (whole, part) {
            (Some(w), Some(p)) => w.add(p).unwrap_or(w),
            (Some(w), None) => return product(env, y, w, true),
            (None, Some(p)) => p,
            (None, None) => return Extended::zero(sign),
        }
    };
    product(env, y, log, false)
}
