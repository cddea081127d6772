//! What follows from CR0, CR4, EFER, RFLAGS and the segment attributes, computed when they
//! change instead of at every instruction: the decoder's mode key, the TLB context.

use super::{Cpu, cr0, cr4, event, reg, segment::attr};
use crate::decode::cache::CodeCache;
use crate::flags;
use crate::size::Size;

/// The decoder's mode key: bits of [`Cpu::mode`].
pub mod key {
    /// Code size: 0 = 16, 1 = 32, 2 = 64 bits.
    pub const CODE: u8 = 3;
    /// 16-bit code.
    pub const CODE16: u8 = 0;
    /// 32-bit code.
    pub const CODE32: u8 = 1;
    /// 64-bit code.
    pub const CODE64: u8 = 2;
    /// The stack pointer is ESP (SS.B), outside 64-bit mode.
    pub const STACK32: u8 = 4;
    /// DS, ES and SS are flat, present and writable, CS is flat; always in 64-bit mode.
    pub const FLAT: u8 = 8;
    /// A bound above all keys.
    pub const COUNT: usize = 16;
}

/// TLB contexts (`tlb.rs`).
pub mod ctx {
    /// Supervisor.
    pub const SUPER: u32 = 0;
    /// User.
    pub const USER: u32 = 1;
    /// Supervisor with RFLAGS.AC set while SMAP is on.
    pub const SUPER_AC: u32 = 2;
    /// User with alignment checks: never filled, so every access takes the slow path.
    pub const CHECKED: u32 = 3;
}

/// Why SSE and MMX instructions would fault: bits of [`Cpu::simd_off`].
pub mod simd_off {
    /// SSE raises #UD (CR0.EM, or no CR4.OSFXSR).
    pub const SSE: u8 = 1;
    /// MMX raises #UD (CR0.EM).
    pub const MMX: u8 = 2;
    /// Both raise #NM (CR0.TS).
    pub const TASK: u8 = 4;
}

impl Cpu {
    /// Call after any change of CR0, CR4, EFER, RFLAGS.VM/AC/TF, CPL or a segment's attributes.
    pub fn mode_changed(&mut self) {
        self.segments_changed();
        let bit = |c: bool, b: u8| if c { b } else { 0 };
        let em = self.cr0 & cr0::EM != 0;
        self.simd_off = bit(em || self.cr4 & cr4::OSFXSR == 0, simd_off::SSE)
            | bit(em, simd_off::MMX)
            | bit(self.cr0 & cr0::TS != 0, simd_off::TASK);
        self.update_step();
    }

    /// Call after any change of CPL, [`Cpu::guest_kernel`] or a segment's attributes.
    pub fn segments_changed(&mut self) {
        let cs = self.seg[reg::CS as usize].attr;
        self.long = self.long_mode() && cs & attr::L != 0;
        self.mode = if self.long {
            key::CODE64 | key::FLAT | key::STACK32
        } else {
            let code = if cs & attr::DB != 0 { key::CODE32 } else { key::CODE16 };
            let ss = &self.seg[reg::SS as usize];
            let stack = if ss.attr & attr::DB != 0 { key::STACK32 } else { 0 };
            let flat = [reg::ES, reg::SS, reg::DS].iter().all(|&s| self.seg[s as usize].is_flat());
            let cs = &self.seg[reg::CS as usize];
            let flat = flat && cs.base == 0 && cs.limit == u32::MAX && self.protected() && !self.v86();
            code | stack | if flat { key::FLAT } else { 0 }
        };
        self.jump_context = CodeCache::jump_context(self.mode, self.ring());
        self.rip_bits = match self.mode & key::CODE {
            key::CODE64 => u64::MAX,
            key::CODE32 => Size::B4.mask(),
            _ => Size::B2.mask(),
        };
        self.update_tlb_ctx();
    }

    /// Are instructions run one at a time? Call after any change of TF, RF, the shadow or breakpoints.
    pub(crate) fn update_step(&mut self) {
        let step = self.rflags & (flags::TF | flags::RF) != 0
            || self.shadow != super::Shadow::None
            || self.has_code_breakpoints();
        if step {
            self.events |= event::STEP;
        } else {
            self.events &= !event::STEP;
        }
    }

    /// Chooses the TLB context of ordinary data accesses.
    pub fn update_tlb_ctx(&mut self) {
        let ac = self.rflags & flags::AC != 0;
        let with_ac = if self.cr4 & cr4::SMAP != 0 { ctx::SUPER_AC } else { ctx::SUPER };
        let c = match (self.ring() == 3, ac) {
            (true, true) if self.cr0 & cr0::AM != 0 => ctx::CHECKED,
            (true, _) => ctx::USER,
            (false, true) => with_ac,
            (false, false) => ctx::SUPER,
        };
        self.tlb_ctx = c << super::tlb::CTX_SHIFT;
        let bytes = |ctx: u32| ctx * size_of::<super::tlb::Entry>() as u32;
        self.ac_bytes = bytes(with_ac << super::tlb::CTX_SHIFT);
        self.tlb_bytes = bytes(self.tlb_ctx);
        self.fetch_bytes = bytes(Self::fetch_ctx(self.ring()));
    }

    /// `v` as a RIP of the current code size.
    #[inline(always)]
    pub fn rip_mask(&self, v: u64) -> u64 {
        v & self.rip_bits
    }

    /// The linear address of CS:RIP.
    #[inline(always)]
    pub fn code_address(&self) -> u64 {
        if self.long { self.rip } else { self.seg[reg::CS as usize].base.wrapping_add(self.rip) & 0xffff_ffff }
    }

    /// Key of CS:RIP in the jump cache.
    #[inline(always)]
    pub fn jump_key(&self) -> u64 {
        self.code_address() ^ self.jump_context
    }

    /// The mask of offsets in the stack segment.
    pub fn stack_mask(&self) -> u64 {
        if self.long {
            u64::MAX
        } else if self.mode & key::STACK32 != 0 {
            0xffff_ffff
        } else {
            0xffff
        }
    }
}
