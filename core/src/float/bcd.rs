//! Packed decimal: FBLD and FBSTP (SDM 1, 4.7: 18 digits, two per byte, and a sign byte).

use super::env::{Env, flags};
use super::f80::F80;
use super::integer::magnitude;
use super::unpacked::{Class, Unpacked};
use super::x87;

/// The packed decimal indefinite (SDM 1, table 4-4).
pub const INDEFINITE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];

/// FBLD. Digits above 9 are undefined by the manual; they count with their value, and the bits of
/// the sign byte below the sign are ignored.
pub fn load(bytes: [u8; 10]) -> F80 {
    let mut v = 0u64;
    for byte in bytes.iter().take(9).rev() {
        v = v * 100 + u64::from(byte >> 4) * 10 + u64::from(byte & 15);
    }
    let sign = bytes[9] & 0x80 != 0;
    let a = Unpacked::finite(sign, 63, v);
    if a.class == Class::Zero { F80 { sig: 0, se: (sign as u16) << 15 } } else { x87::pack(&a) }
}

/// FBSTP: rounded to an integer; IE and the indefinite if that has more than 18 digits.
pub fn store(env: &mut Env, a: &Unpacked) -> [u8; 10] {
    let number = match a.class {
        Class::Zero | Class::Finite => magnitude(env.rounding, a),
        _ => None,
    };
    match number {
        Some((mut m, inexact, up)) if m <= 999_999_999_999_999_999 => {
            if inexact {
                env.flags |= flags::PE;
                env.c1 = up;
            }
            let mut out = [0; 10];
            for byte in out.iter_mut().take(9) {
                *byte = ((m / 10 % 10) as u8) << 4 | (m % 10) as u8;
                m /= 100;
            }
            out[9] = (a.sign as u8) << 7;
            out
        }
        _ => {
            env.raise(flags::IE);
            INDEFINITE
        }
    }
}
