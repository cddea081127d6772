//! The environment an operation runs in: rounding, precision, masks, and the flags it raises.

/// Exception flag bits, as in the x87 status word and in MXCSR (SDM 1, 8.1.3 and 10.2.3).
pub mod flags {
    /// Invalid operation.
    pub const IE: u8 = 1;
    /// Denormal operand.
    pub const DE: u8 = 2;
    /// Division of a finite number by zero.
    pub const ZE: u8 = 4;
    /// Overflow.
    pub const OE: u8 = 8;
    /// Underflow.
    pub const UE: u8 = 16;
    /// Inexact result ("precision").
    pub const PE: u8 = 32;
    /// All six.
    pub const ALL: u8 = 0x3f;
    /// The ones found before the computation starts (SDM 1, 4.9.1).
    pub const BEFORE: u8 = IE | DE | ZE;
}

/// Rounding control, encoded as the RC field of the x87 control word, MXCSR and ROUNDSS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rounding {
    /// To nearest, ties to even.
    Nearest = 0,
    /// Towards minus infinity.
    Down = 1,
    /// Towards plus infinity.
    Up = 2,
    /// Towards zero (truncate).
    Zero = 3,
}

impl Rounding {
    /// From a two-bit RC field; higher bits are ignored.
    #[inline]
    pub const fn from_rc(rc: u32) -> Self {
        match rc & 3 {
            0 => Rounding::Nearest,
            1 => Rounding::Down,
            2 => Rounding::Up,
            _ => Rounding::Zero,
        }
    }
}

/// x87 precision control: significand bits of FADD, FSUB, FMUL, FDIV and FSQRT results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Precision {
    /// 24 bits.
    Single = 24,
    /// 53 bits.
    Double = 53,
    /// 64 bits.
    Extended = 64,
}

impl Precision {
    /// From the PC field of the control word. The reserved encoding 1 acts as 64 bits.
    #[inline]
    pub const fn from_pc(pc: u16) -> Self {
        match pc & 3 {
            0 => Precision::Single,
            2 => Precision::Double,
            _ => Precision::Extended,
        }
    }
}

/// Controls in, flags out. Operations only ever add to `flags`; start an instruction with 0
/// to learn what it alone raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Env {
    /// Rounding direction.
    pub rounding: Rounding,
    /// x87 precision control; f32 and f64 operations ignore it.
    pub precision: Precision,
    /// Set bit = exception masked (bits as in [`flags`]).
    pub masks: u8,
    /// Exceptions raised so far (bits as in [`flags`]).
    pub flags: u8,
    /// MXCSR.FZ: a tiny result becomes zero while underflow is masked.
    pub ftz: bool,
    /// MXCSR.DAZ: a denormal operand counts as zero.
    pub daz: bool,
    /// The last inexact result was rounded away from zero: x87's C1.
    pub c1: bool,
}

impl Default for Env {
    fn default() -> Self {
        Env {
            rounding: Rounding::Nearest,
            precision: Precision::Extended,
            masks: flags::ALL,
            flags: 0,
            ftz: false,
            daz: false,
            c1: false,
        }
    }
}

impl Env {
    /// The controls of an MXCSR value, no flags raised yet (SDM 1, figure 10-3).
    #[inline]
    pub const fn from_mxcsr(mxcsr: u32) -> Self {
        Env {
            rounding: Rounding::from_rc(mxcsr >> 13),
            precision: Precision::Extended,
            masks: (mxcsr >> 7) as u8 & flags::ALL,
            flags: 0,
            ftz: mxcsr & 0x8000 != 0,
            daz: mxcsr & 0x40 != 0,
            c1: false,
        }
    }

    /// The controls of an x87 control word, no flags raised yet (SDM 1, figure 8-6).
    #[inline]
    pub const fn from_control_word(cw: u16) -> Self {
        Env {
            rounding: Rounding::from_rc(cw as u32 >> 10),
            precision: Precision::from_pc(cw >> 8),
            masks: cw as u8 & flags::ALL,
            flags: 0,
            ftz: false,
            daz: false,
            c1: false,
        }
    }

    /// Raise `which` (bits as in [`flags`]). True if one of them is unmasked.
    #[inline]
    pub fn raise(&mut self, which: u8) -> bool {
        self.flags |= which;
        which & !self.masks != 0
    }

    /// The raised exceptions that are not masked.
    #[inline]
    pub const fn unmasked(&self) -> u8 {
        self.flags & !self.masks
    }
}

/// What one SIMD instruction leaves in MXCSR, from the flags its elements raised together
/// (SDM 1, 11.5.3): with an unmasked pre-computation exception only those are flagged.
/// `Err` carries the flags when #XM must be raised and no result may be written.
#[inline]
pub const fn simd_outcome(raised: u8, masks: u8) -> Result<u8, u8> {
    let before = raised & flags::BEFORE;
    if before & !masks != 0 {
        Err(before)
    } else if raised & !masks != 0 {
        Err(raised)
    } else {
        Ok(raised)
    }
}
