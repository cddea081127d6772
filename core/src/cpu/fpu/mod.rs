//! The x87 unit as plain data: registers, control, status, and one method per instruction.
//!
//! Methods work on values: memory operands come in as bits, results for memory go out as a
//! [`Store`] which the caller writes and then commits, so a fault on the way leaves the unit as
//! it was. Deferred exceptions show in [`Fpu::pending`]; the CPU raises #MF for it at the next
//! waiting instruction. Opcode and pointers are noted by the CPU with [`Fpu::note`].
//!
//! Sources: SDM 1 chapter 8, SDM 2 (F*, FXSAVE, EMMS). What they leave undefined (C0, C2, C3
//! after most instructions, C1 after comparisons) is kept or cleared as the tested hosts do.

mod arith;
mod compare;
mod control;
mod data;
mod image;
mod mmx;
mod transcendental;

pub use arith::{Arith, Operand};
pub use compare::Eflags;
pub use data::Store;
pub use image::{EnvImage, Layout, StateImage};

use crate::float::{Env, F80, flags};
use serde::{Deserialize, Serialize};

/// Bits of the status word (SDM 1, figure 8-4).
pub mod status {
    /// Stack fault.
    pub const SF: u16 = 1 << 6;
    /// Exception summary: an unmasked exception is pending.
    pub const ES: u16 = 1 << 7;
    /// Condition code 0.
    pub const C0: u16 = 1 << 8;
    /// Condition code 1: rounded up, stack overflow, or a sign.
    pub const C1: u16 = 1 << 9;
    /// Condition code 2: unordered, or an incomplete reduction.
    pub const C2: u16 = 1 << 10;
    /// Condition code 3.
    pub const C3: u16 = 1 << 14;
    /// "Busy": a copy of ES.
    pub const B: u16 = 1 << 15;
    /// The stack top field.
    pub const TOP: u16 = 7 << 11;
    /// The exception flags.
    pub const EXCEPTIONS: u16 = 0x3f;
    /// All condition codes.
    pub const CODES: u16 = C0 | C1 | C2 | C3;
}
#[cfg(test)]
mod tests;

use status::{B, C0, C1, C2, C3, CODES, ES, EXCEPTIONS, SF, TOP};

/// Bits of the control word that exist: masks, PC, RC and the infinity control.
const CONTROL_BITS: u16 = 0x1f3f;
/// What of the control word counts: the masks, PC and RC.
pub const CONTROLS: u16 = 0xf3f;
/// ... where results have 64 bits and are rounded to nearest, and nothing is unmasked.
pub const COMMON: u16 = 0x33f;
/// Reads as one.
const CONTROL_ONE: u16 = 0x40;

/// The state of the x87 unit, which MMX shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct Fpu {
    /// R0 to R7, physical order.
    regs: [F80; 8],
    /// Control word.
    cw: u16,
    /// Status word, TOP included; ES and B follow from flags and masks.
    sw: u16,
    /// Bit i: register Ri is in use (FXSAVE's abridged tag word).
    valid: u8,
    /// Last opcode, 11 bits.
    fop: u16,
    /// Code segment of the last non-control instruction.
    fcs: u16,
    /// Data segment of the last memory operand.
    fds: u16,
    /// Address of the last non-control instruction.
    fip: u64,
    /// Address of the last memory operand.
    fdp: u64,
}

/// Where things are in [`Fpu`], for generated code.
pub mod place {
    use super::Fpu;
    use core::mem::offset_of;

    /// R0, 16 bytes each: significand, sign and exponent.
    pub const REGS: usize = offset_of!(Fpu, regs);
    /// Control word.
    pub const CW: usize = offset_of!(Fpu, cw);
    /// Status word.
    pub const SW: usize = offset_of!(Fpu, sw);
    /// Registers in use.
    pub const VALID: usize = offset_of!(Fpu, valid);
    /// Last opcode, then FCS and FDS.
    pub const FOP: usize = offset_of!(Fpu, fop);
    /// FCS.
    pub const FCS: usize = offset_of!(Fpu, fcs);
    /// FDS.
    pub const FDS: usize = offset_of!(Fpu, fds);
    /// FIP.
    pub const FIP: usize = offset_of!(Fpu, fip);
    /// FDP.
    pub const FDP: usize = offset_of!(Fpu, fdp);
}

impl Default for Fpu {
    /// The state after FNINIT, registers zero.
    fn default() -> Self {
        Fpu { regs: [F80::ZERO; 8], cw: 0x37f, sw: 0, valid: 0, fop: 0, fcs: 0, fds: 0, fip: 0, fdp: 0 }
    }
}

impl Fpu {
    /// An unmasked exception waits: the next waiting instruction raises #MF.
    #[inline]
    pub fn pending(&self) -> bool {
        self.sw & ES != 0
    }

    /// Remember the instruction (SDM 1, 8.1.8): 11 opcode bits, code segment and address.
    #[inline]
    pub fn note(&mut self, fop: u16, fcs: u16, fip: u64) {
        self.fop = fop & 0x7ff;
        self.fcs = fcs;
        self.fip = fip;
    }

    /// Remember the memory operand's segment.
    #[inline]
    pub fn note_segment(&mut self, fds: u16) {
        self.fds = fds;
    }

    /// Remember the memory operand's address.
    #[inline]
    pub fn note_offset(&mut self, fdp: u64) {
        self.fdp = fdp;
    }

    /// ST(i) as it is, empty or not.
    #[inline]
    pub fn st(&self, i: u8) -> F80 {
        self.regs[self.physical(i)]
    }

    /// True if ST(i) is empty.
    #[inline]
    pub fn is_empty(&self, i: u8) -> bool {
        self.valid >> self.physical(i) & 1 == 0
    }

    #[inline]
    fn top(&self) -> u8 {
        (self.sw >> 11) as u8 & 7
    }

    #[inline]
    fn set_top(&mut self, top: u8) {
        self.sw = self.sw & !TOP | (u16::from(top) & 7) << 11;
    }

    #[inline]
    fn physical(&self, i: u8) -> usize {
        usize::from(self.top().wrapping_add(i) & 7)
    }

    /// Write ST(i) and mark it valid.
    #[inline]
    fn put(&mut self, i: u8, v: F80) {
        let p = self.physical(i);
        self.regs[p] = v;
        self.valid |= 1 << p;
    }

    #[inline]
    fn pop(&mut self) {
        self.valid &= !(1 << self.physical(0));
        self.set_top(self.top().wrapping_add(1));
    }

    #[inline]
    fn push(&mut self, v: F80) {
        self.set_top(self.top().wrapping_sub(1));
        self.put(0, v);
    }

    #[inline]
    fn env(&self) -> Env {
        Env::from_control_word(self.cw)
    }

    /// Are all exceptions masked, and are results of 64 bits rounded to nearest, as [`quick`](crate::float::quick) has
    /// it? Then none can be pending.
    #[inline(always)]
    fn is_common(&self) -> bool {
        self.cw & CONTROLS == COMMON
    }

    /// ES and B follow from the flags and masks (SDM 1, 8.1.3.3).
    #[inline]
    fn summarize(&mut self) {
        self.sw = summarized(self.sw, self.cw);
    }

    /// Take over what an operation raised. True if its result is to be written.
    #[inline]
    fn settle(&mut self, env: &Env) -> bool {
        self.sw = self.sw & !C1 | u16::from(env.flags) | if env.c1 { C1 } else { 0 };
        self.summarize();
        env.unmasked() & flags::BEFORE == 0
    }

    /// Stack overflow or underflow. True if invalid operation is masked and the instruction
    /// goes on with the indefinite.
    #[cold]
    fn stack_fault(&mut self, overflow: bool) -> bool {
        self.sw = self.sw & !C1 | SF | u16::from(flags::IE) | if overflow { C1 } else { 0 };
        self.summarize();
        self.cw & u16::from(flags::IE) != 0
    }

    /// Push the result of `f`, unless the stack is full or `f` stops at an unmasked exception.
    #[inline]
    fn push_with(&mut self, f: impl FnOnce(&mut Env) -> F80) {
        if !self.is_empty(7) {
            if self.stack_fault(true) {
                self.push(F80::INDEFINITE);
            }
            return;
        }
        let mut env = self.env();
        let v = f(&mut env);
        if self.settle(&env) {
            self.push(v);
        }
    }

    /// Replace ST(0) by a function of it.
    #[inline]
    fn unary(&mut self, f: impl FnOnce(&mut Env, F80) -> F80) {
        if self.is_empty(0) {
            if self.stack_fault(false) {
                self.put(0, F80::INDEFINITE);
            }
            return;
        }
        let mut env = self.env();
        let v = f(&mut env, self.st(0));
        if self.settle(&env) {
            self.put(0, v);
        }
    }
}

#[inline]
fn summarized(sw: u16, cw: u16) -> u16 {
    if sw & !cw & EXCEPTIONS != 0 { sw | ES | B } else { sw & !(ES | B) }
}
