//! RCPSS and RSQRTSS: 12-bit approximations (SDM 2, RCPPS, RSQRTPS).
//!
//! The manual promises a relative error of at most 1.5 * 2^-12 and fixes the special operands;
//! the tables of Intel and AMD differ. Ours takes the middle of the 2^-12 wide interval the
//! operand lies in and rounds the exact answer to 13 bits. No exceptions, no MXCSR.

const SIGN: u32 = 1 << 31;
const INFINITY: u32 = 0x7f80_0000;
const QUIET: u32 = 1 << 22;

/// Middle of the operand's interval, in units of 2^-13: odd, from 8193 to 16383.
fn middle(bits: u32) -> u64 {
    u64::from((bits & 0x7f_ffff) >> 11) * 2 + 1 + (1 << 13)
}

/// A result `q * 2^(exponent - 12)` with `q` in 4096..=8191, and results below the normal range zero.
fn assemble(sign: u32, exponent: i32, q: u64) -> u32 {
    if exponent <= -127 {
        return sign;
    }
    sign | ((exponent + 127) as u32) << 23 | (q as u32 & 0xfff) << 11
}

/// RCPSS. Denormal operands count as zero, denormal results become zero.
pub fn reciprocal(bits: u32) -> u32 {
    let sign = bits & SIGN;
    let magnitude = bits & !SIGN;
    let biased = (magnitude >> 23) as i32;
    match biased {
        0 => return sign | INFINITY,
        255 if magnitude == INFINITY => return sign,
        255 => return bits | QUIET,
        _ => {}
    }
    let d = middle(bits);
    assemble(sign, 126 - biased, ((1 << 26) + d / 2) / d)
}

/// RSQRTSS. Denormal operands count as zero; negative ones give the default NaN.
pub fn reciprocal_sqrt(bits: u32) -> u32 {
    let sign = bits & SIGN;
    let magnitude = bits & !SIGN;
    let biased = (magnitude >> 23) as i32;
    match biased {
        0 => return sign | INFINITY,
        255 if magnitude > INFINITY => return bits | QUIET,
        _ if sign != 0 => return SIGN | INFINITY | QUIET,
        255 => return 0,
        _ => {}
    }
    let exponent = biased - 127;
    let d = middle(bits) << (exponent & 1);
    // 2^13 / sqrt(d / 2^13), rounded.
    let q = ((1u64 << 41) / d).isqrt().div_ceil(2).min(8191);
    assemble(0, -1 - (exponent >> 1), q)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bits: u32) -> f64 {
        f64::from(f32::from_bits(bits))
    }

    #[test]
    fn errors_stay_within_the_promise() {
        let bound = 1.5 / 4096.0;
        for index in 0..1u32 << 12 {
            for low in [0, 1, 0x3ff, 0x7ff] {
                for exponent in [1u32, 2, 64, 126, 127, 128, 200, 251, 252] {
                    let bits = exponent << 23 | index << 11 | low;
                    let exact = 1.0 / value(bits);
                    assert!((value(reciprocal(bits)) / exact - 1.0).abs() <= bound, "{bits:x}");
                    let squared = value(reciprocal_sqrt(bits)).powi(2) / exact;
                    assert!((squared - 1.0).abs() <= 2.0 * bound, "{bits:x}");
                }
            }
        }
    }

    #[test]
    fn special_operands_are_as_recorded_on_hardware() {
        for (bits, rcp, rsqrt) in [
            (0, 0x7f80_0000, 0x7f80_0000),
            (0x8000_0000, 0xff80_0000, 0xff80_0000),
            (1, 0x7f80_0000, 0x7f80_0000),
            (0x8000_0001, 0xff80_0000, 0xff80_0000),
            (0x7f80_0000, 0, 0),
            (0xff80_0000, 0x8000_0000, 0xffc0_0000),
            (0x7f80_0001, 0x7fc0_0001, 0x7fc0_0001),
            (0xffc1_2345, 0xffc1_2345, 0xffc1_2345),
        ] {
            assert_eq!((reciprocal(bits), reciprocal_sqrt(bits)), (rcp, rsqrt), "{bits:x}");
        }
        assert_eq!(reciprocal_sqrt(0xbf80_0000), 0xffc0_0000);
        assert_eq!(reciprocal(0x7e80_0000), 0);
    }
}
