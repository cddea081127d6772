//! The smallest machine around a CPU: RAM, a board with nothing on it, every exception handler
//! a HLT. For tests that run a few instructions and look at what they did.
#![allow(dead_code, reason = "each test binary uses its part")]

use tabvisor_core::bus::Bus;
use tabvisor_core::cpu::features::Model;
use tabvisor_core::cpu::segment::Segment;
use tabvisor_core::cpu::{TableReg, cr0, cr4, efer, event};
use tabvisor_core::mem::GuestRam;
use tabvisor_core::size::Size;
use tabvisor_core::vcpu::{CpuExit, Vcpu};

/// Where the tested code lies.
pub const CODE: u64 = 0xa000;
/// Where memory operands lie.
pub const DATA: u64 = 0x10_0000;
const STACK: u64 = 0x9000;
const HANDLERS: u64 = 0x6000;
const RAM: u64 = 0x20_0000;

/// Nothing but an interrupt line and the x87 error latch of a PC.
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
}

impl Bus for Board {
    fn sync(&mut self, _: u64) {}
    fn port_read(&mut self, _: u16, size: Size) -> u32 {
        size.mask() as u32
    }
    fn port_write(&mut self, port: u16, _: Size, _: u32) {
        self.ignne |= port == 0xf0;
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
    fn msr_read(&mut self, _: u32) -> Option<u64> {
        None
    }
    fn msr_write(&mut self, _: u32, _: u64) -> bool {
        false
    }
    fn cr8_read(&mut self) -> u8 {
        0
    }
    fn cr8_write(&mut self, _: u8) {}
    fn tsc(&mut self) -> u64 {
        0
    }
    fn random(&mut self) -> u64 {
        0
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

pub struct Guest {
    pub vcpu: Vcpu,
    pub ram: GuestRam,
    pub board: Board,
    code_len: u64,
}

impl Guest {
    fn new(model: Model) -> Self {
        let ram = GuestRam::new(RAM).expect("the host has 2 MiB");
        let vcpu = Vcpu::new(&ram, model);
        for v in 0..256 {
            ram.write(HANDLERS + 4 * v, &[0xf4]);
        }
        Guest { vcpu, ram, board: Board::default(), code_len: 0 }
    }

    /// 64-bit mode, CPL 0, everything mapped onto itself.
    pub fn long() -> Self {
        let mut g = Self::new(Model::X64V2);
        let put = |at: u64, v: u64| g.ram.write(at, &v.to_le_bytes());
        put(0x1000, 0x2003);
        put(0x2000, 0x3003);
        put(0x3000, 0x4003);
        for page in 0..RAM >> 12 {
            put(0x4000 + 8 * page, page << 12 | 3);
        }
        put(0x5008, 0x00af_9b00_0000_ffff);
        put(0x5010, 0x00cf_9300_0000_ffff);
        for v in 0..256 {
            let to = HANDLERS + 4 * v;
            put(0x7000 + 16 * v, 0x8e00_0008_0000 | to & 0xffff);
        }
        let c = &mut g.vcpu.cpu;
        c.cr0 = cr0::PE | cr0::PG | cr0::NE | cr0::ET | cr0::MP | cr0::WP;
        c.cr3 = 0x1000;
        c.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE;
        c.efer = efer::LME | efer::LMA | efer::NXE;
        c.xcr0 = 3;
        c.gdtr = TableReg { base: 0x5000, limit: 0x17 };
        c.idtr = TableReg { base: 0x7000, limit: 0xfff };
        c.seg[1] = Segment { base: 0, limit: u32::MAX, sel: 8, attr: 0xa09b };
        for s in [0, 2, 3] {
            c.seg[s] = Segment { base: 0, limit: u32::MAX, sel: 0x10, attr: 0xc093 };
        }
        c.mode_changed();
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

    /// Puts code where [`run`](Self::run) begins.
    pub fn load(&mut self, code: &[u8]) {
        self.ram.write(CODE, code);
        self.ram.write(CODE + code.len() as u64, &[0xf4]);
        self.code_len = code.len() as u64;
    }

    /// Runs the loaded code to its end; the vector if it ended in a handler instead.
    pub fn run(&mut self) -> Option<u8> {
        self.vcpu.cpu.rip = CODE;
        self.vcpu.cpu.regs[4] = STACK;
        self.go_on()
    }

    /// Runs from where it stands to the next HLT.
    pub fn go_on(&mut self) -> Option<u8> {
        self.vcpu.cpu.events = self.vcpu.cpu.events & !event::HALTED | event::CHECK;
        let exit = self.vcpu.run(&mut self.board, 10_000);
        assert_eq!(exit, CpuExit::Halt, "rip {:x}", self.vcpu.cpu.rip);
        let at = self.vcpu.cpu.rip;
        if (HANDLERS..HANDLERS + 0x400).contains(&at) {
            return Some(((at - 1 - HANDLERS) / 4) as u8);
        }
        assert_eq!(at, CODE + self.code_len + 1, "stopped somewhere else");
        None
    }
}
