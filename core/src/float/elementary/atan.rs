//! FPATAN: the angle of (x, y) in all four quadrants (SDM 2, table 3-30).

use super::wide::{ONE, Wide, mul_fixed, series};
use crate::float::env::Env;
use crate::float::f80::{Extended, F80};
use crate::float::round::{Format, denormal_stops};
use crate::float::unpacked::{Class, Unpacked};

const PI: Wide = Wide::new(1, 0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1);
const PI_2: Wide = Wide { exp: 0, ..PI };
const PI_4: Wide = Wide { exp: -1, ..PI };
const THREE_PI_4: Wide = Wide::new(1, 0x96cb_e3f9_990e_91a7_9394_c9e8_a0a5_159d);

/// atan(k/16) in units of 2^-128.
const ATAN: [u128; 17] = [
    0,
    0x0ffa_addb_967e_f4e3_6cb2_792d_c0e2_e0d5,
    0x1fd5_ba9a_ac2f_6dc6_5912_f313_e7d1_11de,
    0x2f72_f697_9cb6_044d_1ec2_d3e2_0727_1d21,
    0x3eb6_ebf2_5901_bac5_5b71_e7bd_7de8_85f9,
    0x4d89_dcdc_1faf_2f34_e2d5_da4c_693d_7994,
    0x5bd8_6507_937b_c239_c551_9091_6e7f_2241,
    0x6993_bb0f_308f_f2db_213e_4af4_800f_389b,
    0x76b1_9c15_86ed_3da2_b7f2_22f6_5e1d_4681,
    0x832b_f4a6_d986_7e2a_4b6a_09cb_61a5_15c0,
    0x8f00_5d5e_f7f5_9f9b_5c83_5e16_65c4_3747,
    0x9a2f_80e6_71bd_da20_4226_f8e2_204f_f3bc,
    0xa4bc_7d19_34f7_0924_19a8_7f2a_457d_ac9e,
    0xaeac_4c38_b4d8_c080_1472_5e2f_3e52_070a,
    0xb805_3e2b_c231_9e73_cb2d_a552_10a4_443d,
    0xc0ce_85b8_ac52_6640_89dd_62c4_6e92_fa24,
    0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1,
];

/// 1/(2k+1).
const ODD: [u128; 16] = {
    let mut c = [0; 16];
    let mut k = 0;
    while k < 16 {
        c[k] = ONE / (2 * k as u128 + 1);
        k += 1;
    }
    c
};

/// atan(u) for |u| <= 1/16 or so.
fn small(u: Wide) -> Wide {
    let x = u.fixed();
    u.mul_q(series(mul_fixed(x, x), &ODD, true).min(ONE - 1))
}

/// atan(num/den) for positive finite num <= den.
fn first_octant(num: &Unpacked, den: &Unpacked) -> Wide {
    let distance = den.exp - num.exp;
    // Both significands on one scale with room to multiply by 16.
    let aligned = if distance < 8 {
        let n = u128::from(num.sig) << 40 >> distance;
        let d = u128::from(den.sig) << 40;
        ((n >> 56) * 32 / (d >> 56)).div_ceil(2) as usize
    } else {
        0
    };
    let k = aligned.min(16);
    if k == 0 {
        let q = Wide { sign: false, ..Wide::from_unpacked(num) }.div(Wide { sign: false, ..Wide::from_unpacked(den) });
        return small(q);
    }
    // atan(n/d) = atan(k/16) + atan((16 n - k d) / (16 d + k n)); all integers, exact.
    let n = u128::from(num.sig) << 40 >> distance;
    let d = u128::from(den.sig) << 40;
    let (kn, kd, n16, d16) = (k as u128 * n, k as u128 * d, n << 4, d << 4);
    let base = Wide::normalised(false, -1, ATAN[k]);
    let top = Wide::normalised(n16 < kd, 0, n16.abs_diff(kd));
    let bottom = Wide::normalised(false, 0, d16 + kn);
    match (base, top, bottom) {
        (Some(base), Some(top), Some(bottom)) => base.add(small(top.div(bottom))).unwrap_or(base),
        (Some(base), _, _) => base,
        _ => PI_4, // ATAN[k] is nonzero for k > 0
    }
}

/// FPATAN: atan2(y, x) with y = ST(1), x = ST(0).
pub fn atan2(env: &mut Env, y: &Unpacked, x: &Unpacked) -> F80 {
    if y.class >= Class::Quiet || x.class >= Class::Quiet {
        return Extended::propagate(env, y, x);
    }
    if denormal_stops(env, y.denormal | x.denormal) {
        return F80::INDEFINITE;
    }
    let angle = match (y.class, x.class) {
        (Class::Zero, _) if x.sign => PI,
        (Class::Zero, _) => return Extended::zero(y.sign),
        (Class::Infinite, Class::Infinite) => {
            if x.sign {
                THREE_PI_4
            } else {
                PI_4
            }
        }
        (Class::Infinite, _) | (_, Class::Zero) => PI_2,
        (_, Class::Infinite) if x.sign => PI,
        (_, Class::Infinite) => return Extended::zero(y.sign),
        _ => {
            let steep = (y.exp, y.sig) > (x.exp, x.sig);
            let a = if steep { first_octant(x, y) } else { first_octant(y, x) };
            let minus = Wide { sign: true, ..a };
            match (steep, x.sign) {
                (false, false) => a,
                (false, true) => PI.add(minus).unwrap_or(PI),
                (true, false) => PI_2.add(minus).unwrap_or(PI_2),
                (true, true) => PI_2.add(a).unwrap_or(PI_2),
            }
        }
    };
    Wide { sign: y.sign, ..angle }.round(env)
}
