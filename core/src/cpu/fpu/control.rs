//! Control and status words, stack pointer and tags.

use super::{B, C1, CONTROL_BITS, CONTROL_ONE, ES, EXCEPTIONS, Fpu, SF};

impl Fpu {
    /// FNINIT. Register contents stay, as empty.
    pub fn fninit(&mut self) {
        *self = Fpu { regs: self.regs, ..Fpu::default() };
    }

    /// FNCLEX.
    pub fn fnclex(&mut self) {
        self.sw &= !(EXCEPTIONS | SF | ES | B);
    }

    /// FNSTCW.
    #[inline]
    pub fn control_word(&self) -> u16 {
        self.cw
    }

    /// FLDCW. Unmasking a raised exception makes it pending.
    pub fn fldcw(&mut self, cw: u16) {
        self.cw = cw & CONTROL_BITS | CONTROL_ONE;
        self.summarize();
    }

    /// FNSTSW.
    #[inline]
    pub fn status_word(&self) -> u16 {
        self.sw
    }

    /// FINCSTP.
    pub fn fincstp(&mut self) {
        self.sw &= !C1;
        self.set_top(self.top().wrapping_add(1));
    }

    /// FDECSTP.
    pub fn fdecstp(&mut self) {
        self.sw &= !C1;
        self.set_top(self.top().wrapping_sub(1));
    }

    /// FFREE ST(i).
    pub fn ffree(&mut self, i: u8) {
        self.sw &= !C1;
        self.valid &= !(1 << self.physical(i));
    }

    /// FFREEP ST(i) (undocumented by Intel): FFREE, then pop.
    pub fn ffreep(&mut self, i: u8) {
        self.ffree(i);
        self.pop();
    }
}
