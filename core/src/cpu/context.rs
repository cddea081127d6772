//! The state of a processor that a hypervisor keeps while another virtual processor has the physical one.

use super::{Cpu, Msrs, Shadow, TableReg, event, fpu::Fpu, segment::Segment};
use crate::flags;

/// Everything of a [`Cpu`] that belongs to the software it runs.
#[derive(Clone)]
pub struct Context {
    /// The sixteen general registers.
    pub regs: [u64; 16],
    /// The next instruction, an offset in CS.
    pub rip: u64,
    /// RFLAGS, as PUSHF would show them.
    pub rflags: u64,
    /// Current privilege level.
    pub cpl: u8,
    /// A paravirtualized kernel runs ([`Cpu::guest_kernel`]).
    pub guest_kernel: bool,
    /// It waits for an interrupt.
    pub halted: bool,
    /// ES, CS, SS, DS, FS, GS, LDTR, TR.
    pub seg: [Segment; 8],
    /// GDTR and IDTR.
    pub tables: [TableReg; 2],
    /// CR0, CR2, CR3, CR4.
    pub cr: [u64; 4],
    /// IA32_EFER.
    pub efer: u64,
    /// XCR0.
    pub xcr0: u64,
    /// PAE's page-directory-pointer registers.
    pub pdpte: [u64; 4],
    /// DR0 to DR7.
    pub dr: [u64; 8],
    /// Model-specific registers.
    pub msr: Msrs,
    /// x87 and MMX.
    pub fpu: Fpu,
    /// SSE.
    pub xmm: [[u64; 2]; 16],
    /// MXCSR.
    pub mxcsr: u32,
    /// NMIs are held off.
    pub nmi_blocked: bool,
    /// Interrupts are held off for an instruction.
    pub shadow: Shadow,
    /// Debug conditions that have not been delivered.
    pub pending_db: u64,
}

impl Cpu {
    /// The running software's state.
    pub fn context(&mut self) -> Context {
        let rflags = self.rflags_image();
        let mut regs = [0; 16];
        regs.copy_from_slice(&self.regs[..16]);
        Context {
            regs,
            rip: self.rip,
            rflags,
            cpl: self.cpl,
            guest_kernel: self.guest_kernel,
            halted: self.events & event::HALTED != 0,
            seg: self.seg,
            tables: [self.gdtr, self.idtr],
            cr: [self.cr0, self.cr2, self.cr3, self.cr4],
            efer: self.efer,
            xcr0: self.xcr0,
            pdpte: self.pdpte,
            dr: self.dr,
            msr: self.msr.clone(),
            fpu: self.fpu.clone(),
            xmm: self.xmm,
            mxcsr: self.mxcsr,
            nmi_blocked: self.nmi_blocked,
            shadow: self.shadow,
            pending_db: self.pending_db,
        }
    }

    /// Goes on where another virtual processor was; its translations are not known any more.
    pub fn set_context(&mut self, c: &Context) {
        self.regs[..16].copy_from_slice(&c.regs);
        self.rip = c.rip;
        (self.cpl, self.guest_kernel) = (c.cpl, c.guest_kernel);
        self.seg = c.seg;
        [self.gdtr, self.idtr] = c.tables;
        [self.cr0, self.cr2, self.cr3, self.cr4] = c.cr;
        (self.efer, self.xcr0, self.pdpte, self.dr) = (c.efer, c.xcr0, c.pdpte, c.dr);
        self.msr = c.msr.clone();
        self.fpu = c.fpu.clone();
        (self.xmm, self.mxcsr) = (c.xmm, c.mxcsr);
        (self.nmi_blocked, self.shadow, self.pending_db) = (c.nmi_blocked, c.shadow, c.pending_db);
        self.single_step = false;
        flags::write(self, c.rflags);
        self.rflags = c.rflags & !flags::OSZAPC | 2;
        self.events = self.events & !event::HALTED | event::CHECK | if c.halted { event::HALTED } else { 0 };
        self.mode_changed();
        self.tlb.flush_all();
    }
}
