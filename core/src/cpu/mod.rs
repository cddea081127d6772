//! The state of one virtual CPU and the parts of it that are not instructions:
//! segmentation, paging, exceptions, tasks, modes, CPUID models.

pub mod board;
pub mod context;
pub mod debug;
pub mod exception;
pub mod features;
pub mod fpu;
mod kept;
pub mod memory;
pub mod mode;
pub mod paging;
pub mod paravirtual;
mod pending;
pub mod segment;
pub mod task;
pub mod tlb;

use crate::bus::Nothing;
use crate::decode::insn::slot;
use crate::flags;
use crate::mem::GuestRam;
use crate::size::Size;
use alloc::boxed::Box;
use alloc::vec::Vec;
use board::BoardSlot;
use features::Model;
use segment::Segment;
use tlb::Tlb;

/// Exceptions, by the SDM's mnemonic (3A table 6-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the SDM's mnemonics")]
pub enum Vector {
    DE = 0,
    DB = 1,
    NMI = 2,
    BP = 3,
    OF = 4,
    BR = 5,
    UD = 6,
    NM = 7,
    DF = 8,
    TS = 10,
    NP = 11,
    SS = 12,
    GP = 13,
    PF = 14,
    MF = 16,
    AC = 17,
    MC = 18,
    XM = 19,
}

impl Vector {
    /// Does the exception push an error code in protected mode?
    pub fn has_code(self) -> bool {
        matches!(self, Self::DF | Self::TS | Self::NP | Self::SS | Self::GP | Self::PF | Self::AC)
    }
}

/// An exception an instruction raised. For #PF, CR2 is already set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which one.
    pub vector: Vector,
    /// Its error code, where it has one.
    pub code: u16,
}

/// Why an instruction did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// An exception: deliver it.
    Fault(Fault),
    /// The instruction touches something (a device, code in the cache) that wants it run alone,
    /// at an exact instruction count. Nothing has been done; run it again singly.
    Alone,
}

impl From<Fault> for Stop {
    fn from(f: Fault) -> Self {
        Self::Fault(f)
    }
}

/// What instructions return.
pub type Done = Result<(), Stop>;

/// #GP with an error code.
pub fn gp(code: u16) -> Stop {
    Stop::Fault(Fault { vector: Vector::GP, code })
}
/// An exception with error code 0 (or none).
pub fn fault(vector: Vector) -> Stop {
    Stop::Fault(Fault { vector, code: 0 })
}

/// Register numbers.
#[allow(missing_docs, reason = "the SDM's names")]
pub mod reg {
    pub const RAX: u8 = 0;
    pub const RCX: u8 = 1;
    pub const RDX: u8 = 2;
    pub const RBX: u8 = 3;
    pub const RSP: u8 = 4;
    pub const RBP: u8 = 5;
    pub const RSI: u8 = 6;
    pub const RDI: u8 = 7;
    pub const R8: u8 = 8;
    pub const R11: u8 = 11;
    pub const ES: u8 = 0;
    pub const CS: u8 = 1;
    pub const SS: u8 = 2;
    pub const DS: u8 = 3;
    pub const FS: u8 = 4;
    pub const GS: u8 = 5;
}

/// Bits of CR0.
#[allow(missing_docs, reason = "the SDM's names")]
pub mod cr0 {
    pub const PE: u64 = 1;
    pub const MP: u64 = 1 << 1;
    pub const EM: u64 = 1 << 2;
    pub const TS: u64 = 1 << 3;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const WP: u64 = 1 << 16;
    pub const AM: u64 = 1 << 18;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
}

/// Bits of CR4.
#[allow(missing_docs, reason = "the SDM's names")]
pub mod cr4 {
    pub const VME: u64 = 1;
    pub const PVI: u64 = 1 << 1;
    pub const TSD: u64 = 1 << 2;
    pub const DE: u64 = 1 << 3;
    pub const PSE: u64 = 1 << 4;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const PGE: u64 = 1 << 7;
    pub const PCE: u64 = 1 << 8;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
    pub const UMIP: u64 = 1 << 11;
    pub const FSGSBASE: u64 = 1 << 16;
    pub const PCIDE: u64 = 1 << 17;
    pub const OSXSAVE: u64 = 1 << 18;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
}

/// Bits of EFER.
#[allow(missing_docs, reason = "the SDM's names")]
pub mod efer {
    pub const SCE: u64 = 1;
    pub const LME: u64 = 1 << 8;
    pub const LMA: u64 = 1 << 10;
    pub const NXE: u64 = 1 << 11;
}

/// Things the run loop looks at between blocks: bits of [`Cpu::events`].
pub mod event {
    /// The board or IF may have changed: look for interrupts and a nearer deadline.
    pub const CHECK: u32 = 1;
    /// HLT: wait for an interrupt.
    pub const HALTED: u32 = 2;
    /// A store hit decoded code: see `Cpu::stale_code`.
    pub const STALE_CODE: u32 = 4;
    /// TF, breakpoints or an interrupt shadow: run one instruction at a time.
    pub const STEP: u32 = 8;
    /// A triple fault.
    pub const SHUTDOWN: u32 = 16;
    /// Everything decoded is stale (a change of what memory is).
    pub const FLUSH_CODE: u32 = 32;
    /// There is no room for more decoded or compiled code.
    pub const CODE_FULL: u32 = 64;
}

/// A descriptor-table register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableReg {
    /// Linear address.
    pub base: u64,
    /// Last valid byte.
    pub limit: u32,
}

/// The model-specific registers kept here (the board keeps the others).
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the SDM's names")]
pub struct Msrs {
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub fmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub pat: u64,
    pub tsc_adjust: u64,
    pub tsc_aux: u64,
    pub misc_enable: u64,
    pub mtrr_def_type: u64,
    pub mtrr_fix: [u64; 11],
    pub mtrr_var: [u64; 16],
    pub debugctl: u64,
    pub spec_ctrl: u64,
    pub mcg_status: u64,
    pub bios_sign: u64,
}

/// One virtual CPU. Generated code will reach into this by offset, so the layout is C's.
#[repr(C)]
pub struct Cpu {
    /// General registers and the extra slots of `decode::insn::slot`.
    pub regs: [u64; slot::COUNT],
    /// The next instruction, an offset in CS.
    pub rip: u64,
    /// First operand of the last flag-setting operation (`flags.rs`).
    pub flag_a: u64,
    /// Second operand.
    pub flag_b: u64,
    /// Result.
    pub flag_r: u64,
    /// Which operation it was.
    pub flag_op: flags::FlagOp,
    /// Bytes of its operands, if compiled code has left them zero-extended ([`Cpu::extend_flags`]); else 0.
    pub flag_size: u8,
    /// RFLAGS without the six arithmetic flags.
    pub rflags: u64,
    /// Pending work, bits of [`event`].
    pub events: u32,
    /// Is exactly one instruction being run, so that devices may be touched?
    pub alone: bool,
    /// Current privilege level.
    pub cpl: u8,
    /// Does the kernel run at CPL 3, under a hypervisor that gets all that goes through the IDT, and system calls?
    pub paravirtual: bool,
    /// That kernel runs, not its users: accesses to memory are a supervisor's.
    pub guest_kernel: bool,
    /// Where a supervisor may write to a read-only page: to eight bytes at a linear address
    /// ([`Cpu::run_for_guest`](Cpu::run_for_guest)).
    pub(crate) write_through: Option<u64>,
    /// What the decoder must know ([`mode::key`]).
    pub mode: u8,
    /// `CodeCache::jump_context` of now.
    pub(crate) jump_context: u64,
    /// May SS-relative data and such be addressed without segments?
    pub long: bool,
    /// All ones in the width of RIP.
    pub rip_bits: u64,
    /// What keeps SSE and MMX from being used ([`mode::simd_off`]); 0 if nothing does.
    pub simd_off: u8,
    /// The TLB context in use, already shifted (`tlb.rs`).
    pub tlb_ctx: u32,
    /// The same as a distance in bytes, for compiled code.
    pub(crate) tlb_bytes: u32,
    /// That of fetches.
    pub(crate) fetch_bytes: u32,
    /// What `tlb_bytes` is at privilege level 0 with RFLAGS.AC set.
    pub(crate) ac_bytes: u32,
    /// Did the board want to interrupt when it was asked last, which is after everything that may change the answer?
    pub(crate) interrupt_waiting: bool,
    /// Instructions left of the budget of this run.
    pub left: u64,
    /// What `left` may not fall below before the interpreter's loop is left.
    pub floor: u64,
    /// `retired` plus `left` at the beginning of the run.
    pub retired_end: u64,
    /// ES, CS, SS, DS, FS, GS, LDTR, TR.
    pub seg: [Segment; 8],
    /// XMM0..XMM15, low and high half.
    pub xmm: [[u64; 2]; 16],
    /// MXCSR.
    pub mxcsr: u32,
    /// GDTR.
    pub gdtr: TableReg,
    /// IDTR.
    pub idtr: TableReg,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// XCR0.
    pub xcr0: u64,
    /// EFER.
    pub efer: u64,
    /// The four page-directory-pointer registers of PAE paging (SDM 3A 4.4.1).
    pub pdpte: [u64; 4],
    /// DR0..DR7 (4 and 5 unused).
    pub dr: [u64; 8],
    /// Model-specific registers.
    pub msr: Msrs,
    /// x87 and MMX.
    pub fpu: fpu::Fpu,
    /// FERR# is driven: the board knows of an x87 error (CR0.NE = 0).
    pub ferr: bool,
    /// NMIs are held off from the delivery of one until IRET (SDM 3A 6.7.1).
    pub nmi_blocked: bool,
    /// Interrupts are held off for one instruction after STI, MOV SS, POP SS.
    pub shadow: Shadow,
    /// Debug conditions (DR6 bits) found while the instruction ran.
    pub pending_db: u64,
    /// TF was set when the running instruction began, and it has not delivered an interrupt since.
    pub single_step: bool,
    /// A task switch failed behind the point of no return: the fault belongs to the new task, at its own RIP.
    pub(crate) task_entered: bool,
    /// What CPUID says, and with it which instructions there are.
    pub model: Model,
    /// Translations.
    pub tlb: Tlb,
    /// Which of them outlast flushes.
    pub(crate) kept: kept::Kept,
    /// RAM.
    pub ram: GuestRam,
    /// Which 64-byte granules of each page hold decoded code, one bit each.
    pub code_granules: Vec<u64>,
    /// Pages whose decoded code was overwritten.
    pub stale_code: Vec<u32>,
    /// The compiled region that was left last, and the linear address of its page.
    pub(crate) compiled_region: u32,
    pub(crate) compiled_base: u64,
    /// Times that compiled regions went on to others by themselves.
    pub(crate) hops: u64,
    /// The number, plus one, of a compiled region that a switch led out of, and where to.
    pub(crate) strayed_from: u32,
    pub(crate) strayed_to: u64,
    /// What an instruction raised that compiled code called.
    pub(crate) compiled_fault: Option<Fault>,
    /// The board, while a run lasts.
    pub(crate) board: BoardSlot,
    /// Who answers while the board is busy with this CPU.
    pub(crate) nobody: Nothing,
    /// Figures for people.
    pub stats: Stats,
}

/// What is held off after STI, MOV SS and POP SS (SDM 3A 6.8.1, 6.8.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shadow {
    /// Nothing.
    #[default]
    None,
    /// Maskable interrupts (STI).
    Interrupts,
    /// Interrupts and debug exceptions (MOV SS, POP SS).
    MovSs,
}

/// Counters, none of them visible to the guest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Exceptions delivered.
    pub exceptions: u64,
    /// Interrupts delivered.
    pub interrupts: u64,
    /// Instructions run alone.
    pub alone: u64,
    /// Blocks decoded.
    pub blocks: u64,
    /// Pages whose code was thrown away because it was written to.
    pub stale_pages: u64,
    /// TLB fills.
    pub tlb_fills: u64,
    /// TLB flushes.
    pub tlb_flushes: u64,
    /// Port accesses.
    pub ports: u64,
    /// Device memory accesses.
    pub mmio: u64,
}

impl Cpu {
    /// A CPU in its reset state.
    pub fn new(ram: &GuestRam, model: Model) -> Box<Self> {
        let pages = (ram.len() >> crate::mem::PAGE_SHIFT) as usize;
        let mut cpu = Box::new(Self {
            regs: [0; slot::COUNT],
            rip: 0,
            flag_a: 0,
            flag_b: 0,
            flag_r: 0,
            flag_op: flags::FlagOp::Image,
            flag_size: 0,
            rflags: 2,
            events: 0,
            alone: false,
            cpl: 0,
            jump_context: 0,
            paravirtual: false,
            guest_kernel: false,
            write_through: None,
            mode: 0,
            long: false,
            rip_bits: 0xffff,
            simd_off: 0,
            tlb_ctx: 0,
            tlb_bytes: 0,
            fetch_bytes: 0,
            ac_bytes: 0,
            interrupt_waiting: true,
            left: 0,
            floor: 0,
            retired_end: 0,
            seg: [Segment::default(); 8],
            xmm: [[0; 2]; 16],
            mxcsr: 0x1f80,
            gdtr: TableReg::default(),
            idtr: TableReg::default(),
            cr0: 0,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            xcr0: 1,
            efer: 0,
            pdpte: [0; 4],
            dr: [0; 8],
            msr: Msrs::default(),
            fpu: Default::default(),
            ferr: false,
            nmi_blocked: false,
            shadow: Shadow::None,
            pending_db: 0,
            single_step: false,
            task_entered: false,
            model,
            tlb: Tlb::default(),
            kept: Default::default(),
            ram: ram.clone(),
            code_granules: alloc::vec![0; pages],
            stale_code: Vec::new(),
            compiled_region: 0,
            compiled_base: 0,
            hops: 0,
            strayed_from: 0,
            strayed_to: 0,
            compiled_fault: None,
            board: BoardSlot::default(),
            nobody: Nothing,
            stats: Stats::default(),
        });
        cpu.reset();
        cpu
    }

    /// The state after RESET (SDM 3A table 9-1). The instruction count goes on.
    pub fn reset(&mut self) {
        self.regs = [0; slot::COUNT];
        self.regs[reg::RDX as usize] = u64::from(self.model.signature());
        self.rip = 0xfff0;
        self.rflags = 2;
        flags::write(self, 0);
        self.cpl = 0;
        (self.paravirtual, self.guest_kernel, self.write_through) = (false, false, None);
        for s in &mut self.seg {
            *s = Segment::real(0);
        }
        self.seg[reg::CS as usize] = Segment { sel: 0xf000, base: 0xffff_0000, limit: 0xffff, attr: 0x9b };
        self.seg[6] = Segment { sel: 0, base: 0, limit: 0xffff, attr: 0x82 };
        self.seg[7] = Segment { sel: 0, base: 0, limit: 0xffff, attr: 0x8b };
        self.gdtr = TableReg { base: 0, limit: 0xffff };
        self.idtr = TableReg { base: 0, limit: 0xffff };
        (self.cr0, self.cr2, self.cr3, self.cr4, self.efer) = (cr0::CD | cr0::NW | cr0::ET, 0, 0, 0, 0);
        self.xcr0 = 1;
        self.pdpte = [0; 4];
        self.dr = [0, 0, 0, 0, 0, 0, debug::dr6::ONES, debug::dr7::ONE];
        self.xmm = [[0; 2]; 16];
        self.mxcsr = 0x1f80;
        self.fpu = Default::default();
        self.ferr = false;
        let aux = self.msr.tsc_adjust;
        self.msr = Msrs { pat: 0x0007_0406_0007_0406, misc_enable: 1, tsc_adjust: aux, ..Msrs::default() };
        self.nmi_blocked = false;
        self.shadow = Shadow::None;
        self.pending_db = 0;
        self.task_entered = false;
        self.events = event::CHECK | event::FLUSH_CODE;
        self.mode_changed();
        self.tlb.flush_all();
    }

    /// Instructions retired since the CPU was created, the running one included.
    pub fn retired(&self) -> u64 {
        self.retired_end.wrapping_sub(self.left)
    }

    /// Sign-extends what the flags come from, which compiled code leaves undone: from one region to the next nobody may
    /// ever look.
    #[inline(always)]
    pub fn extend_flags(&mut self) {
        if let Some(size) = Size::of_bytes(core::mem::take(&mut self.flag_size).into()) {
            for v in [&mut self.flag_a, &mut self.flag_b, &mut self.flag_r] {
                *v = size.sx(*v);
            }
        }
    }

    /// The privilege of accesses to memory: the privilege level, but for a paravirtualized kernel, which is a supervisor.
    #[inline(always)]
    pub fn ring(&self) -> u8 {
        if self.is_paravirtual() && self.guest_kernel { 0 } else { self.cpl }
    }

    /// RFLAGS as PUSHF would show it.
    pub fn rflags_image(&mut self) -> u64 {
        let arith = flags::read(self);
        self.rflags & !flags::OSZAPC | arith | 2
    }

    /// Sets all of RFLAGS and whatever follows from it.
    pub fn set_rflags_image(&mut self, v: u64) {
        self.put_rflags(v);
        self.mode_changed();
    }

    /// Sets all of RFLAGS, and whatever follows from what has changed there.
    pub fn put_rflags(&mut self, v: u64) {
        const ALL: u64 = 0x003f_7fd7;
        flags::write(self, v);
        let v = v & ALL & !flags::OSZAPC | 2;
        if v & !self.rflags & flags::IF != 0 {
            self.interrupts_let_in(false);
        }
        self.set_system_flags(v);
    }

    /// Sets all of RFLAGS but the arithmetic flags, and what follows from it but for IF.
    pub(crate) fn set_system_flags(&mut self, v: u64) {
        let changed = self.rflags ^ v;
        self.rflags = v;
        if changed & flags::VM != 0 {
            self.mode_changed();
            return;
        }
        if changed & flags::AC != 0 {
            self.update_tlb_ctx();
        }
        if changed & (flags::TF | flags::RF) != 0 {
            self.update_step();
        }
    }

    /// Brings up to date what depends on IF, TF, AC, VM.
    pub fn rflags_changed(&mut self) {
        self.events |= event::CHECK;
        self.mode_changed();
    }

    /// A single-step trap comes before the next instruction.
    pub(crate) fn single_step_trap(&mut self) {
        self.single_step = false;
        self.pending_db |= debug::dr6::BS;
        self.events |= event::CHECK;
    }

    /// Is bit `f` of RFLAGS (not an arithmetic one) set?
    pub fn flag(&self, f: u64) -> bool {
        self.rflags & f != 0
    }
    /// Virtual-8086 mode?
    pub fn v86(&self) -> bool {
        self.rflags & flags::VM != 0
    }
    /// Protected mode (CR0.PE)?
    pub fn protected(&self) -> bool {
        self.cr0 & cr0::PE != 0
    }
    /// Long mode active (EFER.LMA), compatibility mode included?
    pub fn long_mode(&self) -> bool {
        self.efer & efer::LMA != 0
    }
}
