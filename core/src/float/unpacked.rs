//! A number taken apart: what every operation works on, whatever format it came from.

/// What kind of datum an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub enum Class {
    /// Nonzero and finite: `sig` has bit 63 set, value `sig * 2^(exp - 63)`.
    Finite = 0,
    /// Zero of either sign.
    Zero = 1,
    /// Infinity of either sign.
    Infinite = 2,
    /// Quiet NaN.
    Quiet = 3,
    /// Signalling NaN.
    Signaling = 4,
    /// An 80-bit pattern the x87 does not support: unnormal, pseudo-NaN, pseudo-infinity.
    Unsupported = 5,
}

/// An operand in the common form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Negative?
    pub sign: bool,
    /// What it is.
    pub class: Class,
    /// It was denormal (or pseudo-denormal) in its own format: DE is due.
    pub denormal: bool,
    /// Exponent of the leading bit, for [`Class::Finite`].
    pub exp: i32,
    /// Left-aligned significand; for a NaN the integer bit (63) and the payload, quiet bit 62.
    pub sig: u64,
}

/// The integer bit of a left-aligned significand.
pub const INTEGER_BIT: u64 = 1 << 63;
/// The bit that tells quiet from signalling NaNs.
pub const QUIET_BIT: u64 = 1 << 62;

impl Unpacked {
    /// Zero with a sign.
    #[inline]
    pub const fn zero(sign: bool) -> Self {
        Unpacked { sign, class: Class::Zero, denormal: false, exp: 0, sig: 0 }
    }

    /// A finite number `sig * 2^(exp - 63)`; `sig` need not be normalised.
    #[inline]
    pub const fn finite(sign: bool, exp: i32, sig: u64) -> Self {
        if sig == 0 {
            return Self::zero(sign);
        }
        let shift = sig.leading_zeros();
        Unpacked { sign, class: Class::Finite, denormal: false, exp: exp - shift as i32, sig: sig << shift }
    }

    /// An integer, exactly.
    #[inline]
    pub const fn integer(v: i64) -> Self {
        Self::finite(v < 0, 63, v.unsigned_abs())
    }

    /// A NaN of either kind.
    #[inline]
    pub const fn is_nan(&self) -> bool {
        matches!(self.class, Class::Quiet | Class::Signaling)
    }

    /// The same datum with the sign changed.
    #[inline]
    pub const fn negated(self) -> Self {
        Unpacked { sign: !self.sign, ..self }
    }
}

/// How two numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// a < b
    Less,
    /// a == b
    Equal,
    /// a > b
    Greater,
    /// At least one NaN (or unsupported pattern).
    Unordered,
}
