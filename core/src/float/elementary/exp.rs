//! F2XM1: 2^x - 1 for |x| <= 1 (SDM 2, F2XM1).

use super::wide::{ONE, Wide, series};
use crate::float::env::{Env, flags};
use crate::float::f80::{Extended, F80};
use crate::float::round::{Format, denormal_stops};
use crate::float::unpacked::{Class, INTEGER_BIT, Unpacked};
use crate::float::x87;

const LN_2: Wide = Wide::new(-1, 0xb172_17f7_d1cf_79ab_c9e3_b398_03f2_f6af);

/// 1/(k+1)!, the series of (e^y - 1) / y.
const EXPM1: [u128; 27] = {
    let mut c = [0; 27];
    let mut value = ONE;
    let mut k = 0;
    while k < 27 {
        c[k] = value;
        value /= k as u128 + 2;
        k += 1;
    }
    c
};

/// F2XM1. The result for |x| > 1 is undefined by the manual; the operand comes back as inexact.
pub fn exp2_minus_1(env: &mut Env, x: &Unpacked) -> F80 {
    match x.class {
        Class::Finite => {}
        Class::Zero => return Extended::zero(x.sign),
        Class::Infinite if x.sign => return Extended::assemble(true, 0x3fff, 1 << 63),
        Class::Infinite => return Extended::infinity(false),
        _ => return Extended::propagate(env, x, x),
    }
    if denormal_stops(env, x.denormal) {
        return F80::INDEFINITE;
    }
    if x.exp >= 0 {
        env.raise(flags::PE);
        let minus_one = x.sign && x.exp == 0 && x.sig == INTEGER_BIT;
        return x87::pack(&Unpacked { exp: x.exp - i32::from(minus_one), ..*x });
    }
    let y = Wide::from_unpacked(x).mul(LN_2);
    let factor = series(y.fixed(), &EXPM1, x.sign);
    // 1 only if y is tiny; the true factor is then just off it.
    let factor = if x.sign { factor.min(ONE - 1) } else { factor };
    y.mul_q(factor).round(env)
}
