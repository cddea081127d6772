//! The x87's 80-bit double extended format, and its NaN rule.

use super::env::{Env, flags};
use super::round::Format;
use super::unpacked::{Class, INTEGER_BIT, QUIET_BIT, Unpacked};
use serde::{Deserialize, Serialize};

/// An 80-bit number as the registers hold it (SDM 1, 4.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct F80 {
    /// The significand with its explicit integer bit.
    pub sig: u64,
    /// Sign (bit 15) and biased exponent.
    pub se: u16,
}

impl F80 {
    /// +0.
    pub const ZERO: F80 = F80 { sig: 0, se: 0 };
    /// +1.
    pub const ONE: F80 = F80 { sig: INTEGER_BIT, se: 0x3fff };
    /// The real indefinite, the NaN of a masked invalid operation.
    pub const INDEFINITE: F80 = F80 { sig: INTEGER_BIT | QUIET_BIT, se: 0xffff };

    /// From the ten bytes of memory format.
    #[inline]
    pub fn from_bytes(b: [u8; 10]) -> F80 {
        let [s0, s1, s2, s3, s4, s5, s6, s7, e0, e1] = b;
        F80 { sig: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]), se: u16::from_le_bytes([e0, e1]) }
    }

    /// The ten bytes of memory format.
    #[inline]
    pub fn to_bytes(self) -> [u8; 10] {
        let [s0, s1, s2, s3, s4, s5, s6, s7] = self.sig.to_le_bytes();
        let [e0, e1] = self.se.to_le_bytes();
        [s0, s1, s2, s3, s4, s5, s6, s7, e0, e1]
    }

    /// The sign bit.
    #[inline]
    pub const fn sign(self) -> bool {
        self.se >> 15 != 0
    }

    /// The biased exponent field.
    #[inline]
    pub const fn biased(self) -> u32 {
        self.se as u32 & 0x7fff
    }

    /// Take it apart.
    #[inline]
    pub const fn unpack(self) -> Unpacked {
        let (sign, biased, sig) = (self.sign(), self.biased(), self.sig);
        if biased == 0 {
            return Unpacked { denormal: sig != 0, ..Unpacked::finite(sign, -16382, sig) };
        }
        if sig & INTEGER_BIT == 0 {
            return Unpacked { sign, class: Class::Unsupported, denormal: false, exp: 0, sig };
        }
        if biased != 0x7fff {
            return Unpacked { sign, class: Class::Finite, denormal: false, exp: biased as i32 - 16383, sig };
        }
        let class = if sig == INTEGER_BIT {
            Class::Infinite
        } else if sig & QUIET_BIT != 0 {
            Class::Quiet
        } else {
            Class::Signaling
        };
        Unpacked { sign, class, denormal: false, exp: 0, sig }
    }
}

/// Extended precision as a [`Format`], with x87's NaN rule and bias adjustment.
#[derive(Clone, Copy, Debug)]
pub struct Extended;

impl Format for Extended {
    type Bits = F80;
    const PRECISION: u32 = 64;
    const BIAS: i32 = 16383;
    // SDM 1, 4.9.1.4 and 4.9.1.5.
    const WRAP: i32 = 24576;

    #[inline(always)]
    fn unpack(_env: &Env, bits: F80) -> Unpacked {
        bits.unpack()
    }

    #[inline(always)]
    fn assemble(sign: bool, biased: u32, sig: u64) -> F80 {
        F80 { sig, se: (sign as u16) << 15 | biased as u16 }
    }

    /// SDM 1, table 4-7: a quiet NaN wins over a signalling one; of two alike the larger
    /// significand, and of equal ones the positive.
    #[cold]
    fn propagate(env: &mut Env, a: &Unpacked, b: &Unpacked) -> F80 {
        if a.class == Class::Unsupported || b.class == Class::Unsupported {
            return Self::invalid(env);
        }
        if a.class == Class::Signaling || b.class == Class::Signaling {
            env.raise(flags::IE);
        }
        let first = match (a.is_nan(), b.is_nan()) {
            (true, false) => true,
            (false, _) => false,
            (true, true) if a.class != b.class => a.class == Class::Quiet,
            (true, true) if a.sig != b.sig => a.sig > b.sig,
            (true, true) => !a.sign,
        };
        Self::quieted(if first { a } else { b })
    }
}
