//! The MMX view of the registers (SDM 1, 9.2 and 9.5; SDM 3A, 12.2).

use super::{Fpu, TOP};
use crate::float::F80;

impl Fpu {
    /// MMi.
    #[inline]
    pub fn mm(&self, i: u8) -> u64 {
        self.regs[usize::from(i & 7)].sig
    }

    /// Write MMi: sign and exponent of the register become all ones.
    #[inline]
    pub fn set_mm(&mut self, i: u8, v: u64) {
        self.regs[usize::from(i & 7)] = F80 { sig: v, se: 0xffff };
    }

    /// What every MMX instruction but EMMS does besides its work: TOP = 0, all tags valid.
    #[inline]
    pub fn enter_mmx(&mut self) {
        self.sw &= !TOP;
        self.valid = 0xff;
    }

    /// EMMS: all tags empty.
    #[inline]
    pub fn emms(&mut self) {
        self.sw &= !TOP;
        self.valid = 0;
    }
}
