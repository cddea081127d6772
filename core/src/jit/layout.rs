//! Where in memory generated code finds things: addresses that stay the same as long as the CPU lives.

use crate::cpu::{Cpu, Msrs, segment::Segment, tlb::Tlb};
use crate::decode::cache::CodeCache;
use crate::decode::insn::Insn;
use crate::emit::Slot;
use core::mem::offset_of;

/// Addresses in the memory that generated code works on: the low halves of those in this process.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "fields of `Cpu`")]
pub struct Layout {
    /// See [`super::Limits::tail_calls`].
    pub tail_calls: bool,
    /// The CPU itself.
    pub cpu: u32,
    pub simd_off: u32,
    pub mxcsr: u32,
    pub rip: u32,
    pub rflags: u32,
    pub flag_a: u32,
    pub flag_b: u32,
    pub flag_r: u32,
    pub flag_op: u32,
    pub left: u32,
    pub floor: u32,
    pub tlb_bytes: u32,
    pub fetch_bytes: u32,
    pub ac_bytes: u32,
    pub tlb_ctx: u32,
    pub interrupt_waiting: u32,
    pub kernel_gs_base: u32,
    pub cpl: u32,
    pub cr4: u32,
    pub jump_context: u32,
    pub compiled_region: u32,
    pub compiled_base: u32,
    pub hops: u32,
    pub strayed_from: u32,
    pub strayed_to: u32,
    /// The code cache itself.
    pub code: u32,
    /// The jump cache.
    pub jumps: u32,
    /// The TLB's entries for loads, those of all contexts.
    pub tlb_read: u32,
    /// The TLB's entries for stores.
    pub tlb_write: u32,
    /// The TLB's entries for fetches.
    pub tlb_exec: u32,
    regs: u32,
    xmm: u32,
    fpu: u32,
    segments: u32,
    insns: u32,
}

impl Layout {
    /// Of a CPU and its code cache; neither may move as long as code made from this lives.
    pub fn new(cpu: &Cpu, code: &CodeCache) -> Self {
        let base = core::ptr::from_ref(cpu).addr() as u32;
        let field = |offset: usize| base.wrapping_add(offset as u32);
        let table = |entries: *const crate::cpu::tlb::Entry| entries.addr() as u32;
        let tlb: &Tlb = &cpu.tlb;
        Self {
            tail_calls: true,
            cpu: base,
            simd_off: field(offset_of!(Cpu, simd_off)),
            mxcsr: field(offset_of!(Cpu, mxcsr)),
            rip: field(offset_of!(Cpu, rip)),
            rflags: field(offset_of!(Cpu, rflags)),
            flag_a: field(offset_of!(Cpu, flag_a)),
            flag_b: field(offset_of!(Cpu, flag_b)),
            flag_r: field(offset_of!(Cpu, flag_r)),
            // With its size behind it.
            flag_op: field(offset_of!(Cpu, flag_op)),
            left: field(offset_of!(Cpu, left)),
            floor: field(offset_of!(Cpu, floor)),
            tlb_bytes: field(offset_of!(Cpu, tlb_bytes)),
            fetch_bytes: field(offset_of!(Cpu, fetch_bytes)),
            ac_bytes: field(offset_of!(Cpu, ac_bytes)),
            tlb_ctx: field(offset_of!(Cpu, tlb_ctx)),
            interrupt_waiting: field(offset_of!(Cpu, interrupt_waiting)),
            kernel_gs_base: field(offset_of!(Cpu, msr) + offset_of!(Msrs, kernel_gs_base)),
            cpl: field(offset_of!(Cpu, cpl)),
            cr4: field(offset_of!(Cpu, cr4)),
            jump_context: field(offset_of!(Cpu, jump_context)),
            compiled_region: field(offset_of!(Cpu, compiled_region)),
            compiled_base: field(offset_of!(Cpu, compiled_base)),
            hops: field(offset_of!(Cpu, hops)),
            strayed_from: field(offset_of!(Cpu, strayed_from)),
            strayed_to: field(offset_of!(Cpu, strayed_to)),
            code: core::ptr::from_ref(code).addr() as u32,
            jumps: code.jumps().addr() as u32,
            tlb_read: table(tlb.read.as_ptr()),
            tlb_write: table(tlb.write.as_ptr()),
            tlb_exec: table(tlb.exec.as_ptr()),
            regs: field(offset_of!(Cpu, regs)),
            xmm: field(offset_of!(Cpu, xmm)),
            fpu: field(offset_of!(Cpu, fpu)),
            segments: field(offset_of!(Cpu, seg)),
            insns: code.arena().addr() as u32,
        }
    }
    /// The TLB's table for loads, or for stores.
    pub fn tlb(&self, write: bool) -> u32 {
        if write { self.tlb_write } else { self.tlb_read }
    }
    /// A register slot.
    pub fn gpr(&self, r: u8) -> u32 {
        self.regs + 8 * u32::from(r)
    }
    /// A vector register.
    pub fn xmm(&self, r: u8) -> u32 {
        self.xmm + 16 * u32::from(r)
    }
    /// A place in the x87 unit (`cpu::fpu::place`).
    pub fn fpu(&self, offset: usize) -> u32 {
        self.fpu + offset as u32
    }
    /// The selector of a segment.
    pub fn selector(&self, s: u8) -> u32 {
        self.segments + (u32::from(s) * size_of::<Segment>() as u32) + offset_of!(Segment, sel) as u32
    }
    /// The base of a segment.
    pub fn segment_base(&self, s: u8) -> u32 {
        self.segments + (u32::from(s) * size_of::<Segment>() as u32) + offset_of!(Segment, base) as u32
    }
    /// Eight bytes: limit, selector and attributes of a segment.
    pub fn segment_limit(&self, s: u8) -> u32 {
        self.segments + (u32::from(s) * size_of::<Segment>() as u32) + offset_of!(Segment, limit) as u32
    }
    /// Where a slot is that has no local, and its bytes.
    pub fn field(&self, s: Slot) -> Option<(u32, u64)> {
        Some(match s {
            Slot::SegBase(s) => (self.segment_base(s), 8),
            Slot::Selector(s) => {
                (self.segments + u32::from(s) * size_of::<Segment>() as u32 + offset_of!(Segment, sel) as u32, 2)
            }
            Slot::System => (self.rflags, 8),
            Slot::KernelGsBase => (self.kernel_gs_base, 8),
            Slot::Cpl => (self.cpl, 1),
            Slot::Cr4 => (self.cr4, 8),
            Slot::Gpr(_) | Slot::FlagA | Slot::FlagB | Slot::FlagR => return None,
        })
    }
    /// The instruction at a place in the arena.
    pub fn insn(&self, place: usize) -> u32 {
        self.insns + (place * size_of::<Insn>()) as u32
    }
}
