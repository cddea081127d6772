//! The smallest machine around a CPU: RAM, a board with next to nothing on it, every exception handler a HLT. For
//! tests that run a few instructions and look at what they did.
#![allow(dead_code, reason = "each test binary uses its part")]

use tabvisor_core::bus::Bus;
use tabvisor_core::cpu::features::Model;
use tabvisor_core::cpu::segment::{Descriptor, Segment};
use tabvisor_core::cpu::{TableReg, cr0, cr4, efer, event};
use tabvisor_core::mem::GuestRam;
use tabvisor_core::size::Size;
use tabvisor_core::vcpu::{CpuExit, Vcpu};

/// Where the tested code lies.
pub const CODE: u64 = 0xa000;
/// Where memory operands lie.
pub const DATA: u64 = 0x10_0000;
/// The top of the stack.
pub const STACK: u64 = 0x9000;
/// The top of the stack of CPL 0, by the TSS.
pub const STACK0: u64 = 0x8c00;
/// The TSS of selector [`TSS_SEL`].
pub const TSS: u64 = 0x8000;
/// The descriptor table; entries from [`FREE_SEL`] on are for tests.
pub const GDT: u64 = 0x5000;
/// The interrupt table of all modes but real mode.
pub const IDT: u64 = 0x7000;
/// One HLT every four bytes.
pub const HANDLERS: u64 = 0x6000;
/// A port where a write asks for a non-maskable interrupt.
pub const NMI_PORT: u16 = 0xe8;
const RAM: u64 = 0x80_0000;

/// Page tables of 64-bit mode: PML4, PDPT, page directory, page table of the first 2 MiB.
pub const TABLES: [u64; 4] = [0x1000, 0x2000, 0x3000, 0x4000];

/// CPL 0 code and data, CPL 3 code and data, TSS (two entries in 64-bit mode), free entries.
pub const CODE0: u16 = 0x08;
pub const DATA0: u16 = 0x10;
pub const CODE3: u16 = 0x1b;
pub const DATA3: u16 = 0x23;
pub const TSS_SEL: u16 = 0x28;
pub const FREE_SEL: u16 = 0x40;
/// A vector that CPL 3 may use, as the end of a test.
pub const USER_END: u8 = 0x80;

/// An interrupt line, the x87 error latch of a PC, a debug console.
#[derive(Default)]
pub struct Board {
    /// Waiting vector.
    pub irq: Option<u8>,
    /// Is FERR# wired to vector 0x75, as IRQ 13 is in a PC?
    pub irq13: bool,
    /// IGNNE#, set by a write to port F0h.
    pub ignne: bool,
    /// What `fpu_error` was told, in order.
    pub errors: Vec<bool>,
    /// Non-maskable interrupts that wait; a write to [`NMI_PORT`] asks for one more.
    pub nmis: u32,
    /// IA32_APIC_BASE, if there is an APIC.
    pub apic_base: Option<u64>,
    retired: u64,
}

impl Bus for Board {
    fn sync(&mut self, retired: u64) {
        self.retired = retired;
    }
    fn port_read(&mut self, _: u16, size: Size) -> u32 {
        size.mask() as u32
    }
    fn port_write(&mut self, port: u16, _: Size, _: u32) {
        self.ignne |= port == 0xf0;
        self.nmis += u32::from(port == NMI_PORT);
    }
    fn mmio_read(&mut self, _: u64, size: Size) -> u64 {
        size.mask()
    }
    fn mmio_write(&mut self, _: u64, _: Size, _: u64) {}
    fn interrupt_pending(&self) -> bool {
        self.irq.is_some()
    }
    fn acknowledge(&mut self) -> Option<u8> {
        self.irq.take()
    }
    fn nmi_pending(&self) -> bool {
        self.nmis > 0
    }
    fn take_nmi(&mut self) -> bool {
        let waits = self.nmi_pending();
        self.nmis -= u32::from(waits);
        waits
    }
    fn msr_read(&mut self, msr: u32) -> Option<u64> {
        self.apic_base.filter(|_| msr == 0x1b)
    }
    fn msr_write(&mut self, msr: u32, v: u64) -> bool {
        let known = msr == 0x1b && self.apic_base.is_some();
        self.apic_base = if known { Some(v) } else { self.apic_base };
        known
    }
    fn tsc(&mut self) -> u64 {
        self.retired
    }
    fn random(&mut self) -> u64 {
        4
    }
    fn fpu_error(&mut self, asserted: bool) -> bool {
        self.errors.push(asserted);
        self.ignne &= asserted;
        if asserted && self.irq13 && !self.ignne {
            self.irq = Some(0x75);
        }
        self.ignne || !self.irq13
    }
}

/// What an exception left on the handler's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The error code, 0 if the exception has none.
    pub code: u64,
    pub ip: u64,
    pub cs: u16,
    pub flags: u64,
    /// Stack pointer and segment, where they were pushed.
    pub outer: Option<(u64, u16)>,
}

pub struct Guest {
    pub vcpu: Vcpu,
    pub ram: GuestRam,
    pub board: Board,
    code_len: u64,
}

impl Guest {
    fn new(model: Model) -> Self {
        let ram = GuestRam::new(RAM).expect("the host has 8 MiB");
        let vcpu = Vcpu::new(&ram, model);
        for v in 0..256 {
            ram.write(HANDLERS + 4 * v, &[0xf4]);
        }
        Guest { vcpu, ram, board: Board::default(), code_len: 0 }
    }

    /// 64-bit mode, CPL 0, everything mapped onto itself for the supervisor.
    pub fn long() -> Self {
        Self::long_model(Model::X64V2)
    }

    /// The same with another CPU model.
    pub fn long_model(model: Model) -> Self {
        let mut g = Self::new(model);
        let [pml4, pdpt, pd, pt] = TABLES;
        g.put(pml4, pdpt | 7);
        g.put(pdpt, pd | 7);
        g.put(pd, pt | 7);
        for page in 0..512 {
            g.put(pt + 8 * page, page << 12 | 3);
        }
        for page in 1..RAM >> 21 {
            g.put(pd + 8 * page, page << 21 | 0x83);
        }
        g.tables(0x00af_9b00_0000_ffff, true);
        let c = &mut g.vcpu.cpu;
        let known = model.cr4_mask();
        c.cr0 = cr0::PE | cr0::PG | cr0::NE | cr0::ET | cr0::MP | cr0::WP;
        c.cr3 = pml4;
        c.cr4 = (cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE) & known;
        c.efer = efer::LME | efer::LMA | efer::NXE | efer::SCE;
        c.xcr0 = 3;
        g.segments();
        g
    }

    /// 32-bit protected mode, CPL 0, flat, without paging.
    pub fn protected() -> Self {
        Self::protected_model(Model::X64V2)
    }

    /// The same with another CPU model.
    pub fn protected_model(model: Model) -> Self {
        let mut g = Self::new(model);
        g.tables(0x00cf_9b00_0000_ffff, false);
        let c = &mut g.vcpu.cpu;
        c.cr0 = cr0::PE | cr0::NE | cr0::ET | cr0::MP | cr0::WP;
        c.cr4 = (cr4::OSFXSR | cr4::OSXMMEXCPT) & model.cr4_mask();
        g.segments();
        g
    }

    /// Real mode, all segments at 0.
    pub fn real() -> Self {
        let mut g = Self::new(Model::X64V2);
        for v in 0..256 {
            g.ram.write(4 * v, &(HANDLERS + 4 * v).to_le_bytes()[..4]);
        }
        let c = &mut g.vcpu.cpu;
        for s in 0..6 {
            c.seg[s] = Segment::real(0);
        }
        c.cr0 = cr0::ET | cr0::NE;
        c.cr4 = cr4::OSFXSR;
        c.idtr = TableReg { base: 0, limit: 0x3ff };
        c.mode_changed();
        g
    }

    /// GDT, IDT and TSS.
    fn tables(&mut self, code0: u64, long: bool) {
        let tss = 0x67 | TSS << 16 | 0x8b << 40;
        let gdt = [0, code0, 0x00cf_9300_0000_ffff, code0 | 0x60 << 40, 0x00cf_f300_0000_ffff, tss, 0];
        for (d, n) in gdt.iter().zip(0..) {
            self.put(GDT + 8 * n, *d);
        }
        for v in 0..=255 {
            self.gate(v, CODE0, HANDLERS + 4 * u64::from(v), 0x8e | if v == USER_END { 0x60 } else { 0 }, long);
        }
        if long {
            self.put(TSS + 4, STACK0);
        } else {
            self.put(TSS + 4, STACK0 | u64::from(DATA0) << 32);
        }
        self.put(TSS + 0x66, 0x68);
        let c = &mut self.vcpu.cpu;
        c.gdtr = TableReg { base: GDT, limit: 0xff };
        c.idtr = TableReg { base: IDT, limit: if long { 0xfff } else { 0x7ff } };
    }

    /// Points a vector somewhere else.
    pub fn gate(&mut self, vector: u8, sel: u16, to: u64, kind: u64, long: bool) {
        let low = to & 0xffff | u64::from(sel) << 16 | kind << 40 | (to >> 16 & 0xffff) << 48;
        let v = u64::from(vector);
        if long {
            self.put(IDT + 16 * v, low);
            self.put(IDT + 16 * v + 8, to >> 32);
        } else {
            self.put(IDT + 8 * v, low);
        }
    }

    fn segments(&mut self) {
        self.set_seg(1, CODE0);
        for s in [0, 2, 3, 4, 5] {
            self.set_seg(s, DATA0);
        }
        self.set_seg(7, TSS_SEL);
        self.vcpu.cpu.mode_changed();
    }

    /// Puts the descriptor of `sel` into segment register `s` without checks.
    pub fn set_seg(&mut self, s: usize, sel: u16) {
        let raw = self.get(GDT + u64::from(sel & !7));
        self.vcpu.cpu.seg[s] = Descriptor { raw, high: 0 }.segment(sel);
    }

    /// Goes on at CPL 0.
    pub fn kernel(&mut self) {
        for s in [0, 2, 3] {
            self.set_seg(s, DATA0);
        }
        self.set_seg(1, CODE0);
        self.vcpu.cpu.cpl = 0;
        self.vcpu.cpu.mode_changed();
    }

    /// Goes on at CPL 3, on the same stack.
    pub fn user(&mut self) {
        self.set_seg(1, CODE3);
        for s in [0, 2, 3] {
            self.set_seg(s, DATA3);
        }
        self.vcpu.cpu.cpl = 3;
        self.vcpu.cpu.mode_changed();
    }

    /// Writes eight bytes of RAM.
    pub fn put(&self, at: u64, v: u64) {
        self.ram.write(at, &v.to_le_bytes());
    }
    /// Writes four bytes of RAM.
    pub fn put4(&self, at: u64, v: u64) {
        self.ram.write(at, &(v as u32).to_le_bytes());
    }
    /// Reads eight bytes of RAM.
    pub fn get(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.ram.read_le(at))
    }
    /// Reads four bytes of RAM.
    pub fn get4(&self, at: u64) -> u64 {
        u32::from_le_bytes(self.ram.read_le(at)).into()
    }

    /// Puts code where [`run`](Self::run) begins.
    pub fn load(&mut self, code: &[u8]) {
        self.ram.write(CODE, code);
        self.ram.write(CODE + code.len() as u64, &[0xf4]);
        self.code_len = code.len() as u64;
        self.start();
    }

    /// Back to the beginning of the loaded code.
    pub fn start(&mut self) {
        let c = &mut self.vcpu.cpu;
        (c.rip, c.regs[4]) = (CODE, STACK);
        c.events = c.events & !event::HALTED | event::CHECK;
    }

    /// Runs the loaded code to its end; the vector if it ended in a handler instead.
    pub fn run(&mut self) -> Option<u8> {
        self.start();
        self.go_on()
    }

    /// Loads and runs.
    pub fn run_code(&mut self, code: &[u8]) -> Option<u8> {
        self.load(code);
        self.go_on()
    }

    /// Runs from where it stands to the next HLT.
    pub fn go_on(&mut self) -> Option<u8> {
        self.vcpu.cpu.events = self.vcpu.cpu.events & !event::HALTED | event::CHECK;
        let exit = self.run_for(1_000_000);
        assert_eq!(exit, CpuExit::Halt, "rip {:x}", self.vcpu.cpu.rip);
        let at = self.vcpu.cpu.rip;
        if (HANDLERS..HANDLERS + 0x400).contains(&at) {
            return Some(((at - 1 - HANDLERS) / 4) as u8);
        }
        assert_eq!(at, CODE + self.code_len + 1, "stopped somewhere else");
        None
    }

    /// Runs at most `budget` instructions.
    pub fn run_for(&mut self, budget: u64) -> CpuExit {
        self.vcpu.run(&mut self.board, budget)
    }

    /// The frame in front of the handler of `vector`.
    pub fn frame(&self, vector: u8) -> Frame {
        let c = &self.vcpu.cpu;
        let size = if c.long { 8 } else { 4 };
        let coded = matches!(vector, 8 | 10..=14 | 17);
        let base = if c.long { 0 } else { c.seg[2].base };
        let word = |n: u64| {
            let at = base + c.regs[4] + size * n;
            if size == 8 { self.get(at) } else { self.get4(at) }
        };
        let k = u64::from(coded);
        let cs = word(k + 1) as u16;
        let outer = c.long || cs & 3 != u16::from(c.cpl);
        Frame {
            code: if coded { word(0) } else { 0 },
            ip: word(k),
            cs,
            flags: word(k + 2),
            outer: outer.then(|| (word(k + 3), word(k + 4) as u16)),
        }
    }
}
