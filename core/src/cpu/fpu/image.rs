//! Memory images: FNSTENV/FLDENV, FNSAVE/FRSTOR in four layouts, and FXSAVE's x87 part.

use super::{CONTROL_BITS, CONTROL_ONE, EXCEPTIONS, Fpu};
use crate::float::{Class, F80};

/// The layout of an environment (SDM 1, figures 8-9 to 8-12). Virtual-8086 mode uses the real ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// 16-bit operand size, real or virtual-8086 mode.
    Real16,
    /// 16-bit operand size, protected mode.
    Protected16,
    /// 32-bit operand size, real or virtual-8086 mode.
    Real32,
    /// 32-bit operand size, protected and 64-bit mode.
    Protected32,
}

impl Layout {
    /// Bytes of the environment.
    pub const fn env_len(self) -> usize {
        match self {
            Layout::Real16 | Layout::Protected16 => 14,
            Layout::Real32 | Layout::Protected32 => 28,
        }
    }

    /// Bytes of the whole state.
    pub const fn state_len(self) -> usize {
        self.env_len() + 80
    }

    /// The `n`th field; the 32-bit layouts have each in a doubleword.
    fn get(self, image: &EnvImage, n: usize) -> u32 {
        let at = n * self.env_len() / 7;
        let byte = |k: usize| u32::from(image.get(at + k).copied().unwrap_or(0));
        let low = byte(0) | byte(1) << 8;
        if self.env_len() == 14 { low } else { low | byte(2) << 16 | byte(3) << 24 }
    }

    fn put(self, image: &mut EnvImage, n: usize, v: u32) {
        let size = self.env_len() / 7;
        let bytes = v.to_le_bytes();
        image[n * size..(n + 1) * size].copy_from_slice(&bytes[..size]);
    }
}

/// Room for an environment; the first [`Layout::env_len`] bytes count.
pub type EnvImage = [u8; 28];
/// Room for a state; the first [`Layout::state_len`] bytes count.
pub type StateImage = [u8; 108];

fn read_word(image: &[u8; 512], at: usize) -> u16 {
    u16::from_le_bytes([image[at], image[at + 1]])
}

fn read_long(image: &[u8; 512], at: usize) -> u32 {
    u32::from(read_word(image, at)) | u32::from(read_word(image, at + 2)) << 16
}

impl Fpu {
    /// The two-bit tags: 0 valid, 1 zero, 2 special, 3 empty, by physical register.
    pub fn tag_word(&self) -> u16 {
        let tag = |p: usize| {
            if self.valid >> p & 1 == 0 {
                return 3;
            }
            let u = self.regs[p].unpack();
            match u.class {
                Class::Zero => 1,
                Class::Finite if !u.denormal => 0,
                _ => 2,
            }
        };
        (0..8).fold(0, |word, p| word | tag(p) << (2 * p))
    }

    fn set_tag_word(&mut self, word: u16) {
        self.valid = (0..8).fold(0, |valid, p| valid | u8::from(word >> (2 * p) & 3 != 3) << p);
    }

    fn set_words(&mut self, cw: u16, sw: u16) {
        self.cw = cw & CONTROL_BITS | CONTROL_ONE;
        self.sw = sw;
        self.summarize();
    }

    /// The environment FNSTENV writes; then [`Fpu::fnstenv_commit`].
    pub fn fnstenv(&self, layout: Layout) -> EnvImage {
        let mut image = [0; 28];
        let high = 0xffff_0000; // reserved halves read as ones
        let (fip, fdp) = (self.fip as u32, self.fdp as u32);
        layout.put(&mut image, 0, high | u32::from(self.cw));
        layout.put(&mut image, 1, high | u32::from(self.sw));
        layout.put(&mut image, 2, high | u32::from(self.tag_word()));
        let fields = match layout {
            Layout::Protected16 => [fip, u32::from(self.fcs), fdp, u32::from(self.fds)],
            Layout::Protected32 => {
                [fip, u32::from(self.fcs) | u32::from(self.fop) << 16, fdp, high | u32::from(self.fds)]
            }
            Layout::Real16 | Layout::Real32 => {
                let ip = (u32::from(self.fcs) << 4).wrapping_add(fip);
                let dp = (u32::from(self.fds) << 4).wrapping_add(fdp);
                let fop = u32::from(self.fop);
                if layout == Layout::Real16 {
                    [ip, ip >> 4 & 0xf000 | fop, dp, dp >> 4 & 0xf000]
                } else {
                    [high | ip & 0xffff, ip >> 4 & 0x0fff_f000 | fop, high | dp & 0xffff, dp >> 4 & 0x0fff_f000]
                }
            }
        };
        for (n, v) in fields.into_iter().enumerate() {
            layout.put(&mut image, n + 3, v);
        }
        image
    }

    /// FNSTENV's effect after the write: all exceptions masked.
    pub fn fnstenv_commit(&mut self) {
        self.cw |= EXCEPTIONS;
        self.summarize();
    }

    /// FLDENV.
    pub fn fldenv(&mut self, layout: Layout, image: &EnvImage) {
        let field = |n| layout.get(image, n);
        self.set_words(field(0) as u16, field(1) as u16);
        self.set_tag_word(field(2) as u16);
        let (ip, second, dp, fourth) = (field(3), field(4), field(5), field(6));
        match layout {
            Layout::Protected16 | Layout::Protected32 => {
                self.fip = u64::from(ip);
                self.fcs = second as u16;
                self.fdp = u64::from(dp);
                self.fds = fourth as u16;
                // The 16-bit layout has no opcode.
                self.fop = (second >> 16) as u16 & 0x7ff;
            }
            Layout::Real16 | Layout::Real32 => {
                let mask = if layout == Layout::Real16 { 0xf000 } else { 0x0fff_f000 };
                self.fip = u64::from(ip & 0xffff | (second & mask) << 4);
                self.fdp = u64::from(dp & 0xffff | (fourth & mask) << 4);
                (self.fcs, self.fds) = (0, 0);
                self.fop = second as u16 & 0x7ff;
            }
        }
    }

    /// The image FNSAVE writes; then [`Fpu::fninit`].
    pub fn fnsave(&self, layout: Layout) -> StateImage {
        let mut image = [0; 108];
        let env = self.fnstenv(layout);
        let start = layout.env_len();
        image[..start].copy_from_slice(&env[..start]);
        for (i, chunk) in image[start..].chunks_exact_mut(10).take(8).enumerate() {
            chunk.copy_from_slice(&self.st(i as u8).to_bytes());
        }
        image
    }

    /// FRSTOR.
    pub fn frstor(&mut self, layout: Layout, image: &StateImage) {
        let start = layout.env_len();
        let mut env = [0; 28];
        env[..start].copy_from_slice(&image[..start]);
        self.fldenv(layout, &env);
        for (i, chunk) in image[start..].chunks_exact(10).take(8).enumerate() {
            let p = self.physical(i as u8);
            self.regs[p] = F80::from_bytes(chunk.try_into().unwrap_or([0; 10]));
        }
    }

    /// The x87 part of FXSAVE and XSAVE: bytes 0 to 23 and 32 to 159 (SDM 1, table 10-2).
    /// `wide` is the REX.W form with 64-bit pointers. MXCSR and XMM are the caller's.
    pub fn fxsave(&self, image: &mut [u8; 512], wide: bool) {
        image[0..2].copy_from_slice(&self.cw.to_le_bytes());
        image[2..4].copy_from_slice(&self.sw.to_le_bytes());
        image[4..6].copy_from_slice(&u16::from(self.valid).to_le_bytes());
        image[6..8].copy_from_slice(&self.fop.to_le_bytes());
        let pointer = |p: u64, s: u16| if wide { p } else { p & 0xffff_ffff | u64::from(s) << 32 };
        image[8..16].copy_from_slice(&pointer(self.fip, self.fcs).to_le_bytes());
        image[16..24].copy_from_slice(&pointer(self.fdp, self.fds).to_le_bytes());
        for (i, chunk) in image[32..160].chunks_exact_mut(16).enumerate() {
            chunk[..10].copy_from_slice(&self.st(i as u8).to_bytes());
            chunk[10..].fill(0);
        }
    }

    /// The x87 part of FXRSTOR and XRSTOR. Any contents are accepted.
    pub fn fxrstor(&mut self, image: &[u8; 512], wide: bool) {
        self.set_words(read_word(image, 0), read_word(image, 2));
        self.valid = image[4];
        self.fop = read_word(image, 6) & 0x7ff;
        let pointer = |at: usize| {
            let (low, high) = (read_long(image, at), read_long(image, at + 4));
            if wide { (u64::from(low) | u64::from(high) << 32, 0) } else { (u64::from(low), high as u16) }
        };
        (self.fip, self.fcs) = pointer(8);
        (self.fdp, self.fds) = pointer(16);
        for (i, chunk) in image[32..160].chunks_exact(16).enumerate() {
            let p = self.physical(i as u8);
            self.regs[p] = F80::from_bytes(chunk[..10].try_into().unwrap_or([0; 10]));
        }
    }
}
