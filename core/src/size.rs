//! The width of an operand or an access.

/// 1, 2, 4 or 8 bytes. The discriminant is the number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Size {
    /// 8 bits.
    B1 = 1,
    /// 16 bits.
    B2 = 2,
    /// 32 bits.
    B4 = 4,
    /// 64 bits.
    B8 = 8,
}

impl Size {
    /// Number of bytes.
    #[inline(always)]
    pub const fn bytes(self) -> u64 {
        self as u64
    }
    /// Number of bits.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self as u32 * 8
    }
    /// All ones in this width.
    #[inline(always)]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
    /// The most significant bit of this width.
    #[inline(always)]
    pub const fn sign(self) -> u64 {
        1 << (self.bits() - 1)
    }
    /// `v` cut to this width, zero-extended.
    #[inline(always)]
    pub const fn zx(self, v: u64) -> u64 {
        v & self.mask()
    }
    /// `v` cut to this width, sign-extended.
    #[inline(always)]
    pub const fn sx(self, v: u64) -> u64 {
        let s = 64 - self.bits();
        (((v << s) as i64) >> s) as u64
    }
    /// The size of `n` bytes, if there is one.
    pub const fn of_bytes(n: usize) -> Option<Self> {
        match n {
            1 => Some(Self::B1),
            2 => Some(Self::B2),
            4 => Some(Self::B4),
            8 => Some(Self::B8),
            _ => None,
        }
    }
}
