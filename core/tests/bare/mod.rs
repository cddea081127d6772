//! A bare guest for tests: 64-bit mode at CPL 0, the first GiB mapped to itself, a board that
//! answers all ones.
#![allow(dead_code, reason = "each test uses a part")]

use tabvisor_core::bus::Bus;
use tabvisor_core::cpu::features::Model;
use tabvisor_core::cpu::segment::Segment;
use tabvisor_core::cpu::{TableReg, cr0, cr4, efer, reg};
use tabvisor_core::mem::GuestRam;
use tabvisor_core::size::Size;
use tabvisor_core::vcpu::{CpuExit, Vcpu};

/// A board with nothing on it.
#[derive(Default)]
pub struct Bare {
    pub retired: u64,
    /// What was written to port E9h.
    pub out: Vec<u8>,
    /// Non-maskable interrupts that wait.
    pub nmis: u32,
    /// IA32_APIC_BASE, if there is an APIC.
    pub apic_base: Option<u64>,
}

/// A port where a write asks for one more non-maskable interrupt.
pub const NMI_PORT: u16 = 0xe8;

impl Bus for Bare {
    fn sync(&mut self, retired: u64) {
        self.retired = retired;
    }
    fn port_read(&mut self, _: u16, _: Size) -> u32 {
        u32::MAX
    }
    fn port_write(&mut self, port: u16, _: Size, value: u32) {
        if port == 0xe9 {
            self.out.push(value as u8);
        }
        self.nmis += u32::from(port == NMI_PORT);
    }
    fn mmio_read(&mut self, _: u64, _: Size) -> u64 {
        u64::MAX
    }
    fn mmio_write(&mut self, _: u64, _: Size, _: u64) {}
    fn interrupt_pending(&self) -> bool {
        false
    }
    fn acknowledge(&mut self) -> Option<u8> {
        None
    }
    fn take_nmi(&mut self) -> bool {
        let waits = self.nmis > 0;
        self.nmis -= u32::from(waits);
        waits
    }
    fn msr_read(&mut self, msr: u32) -> Option<u64> {
        self.apic_base.filter(|_| msr == 0x1b)
    }
    fn msr_write(&mut self, _: u32, _: u64) -> bool {
        false
    }
    fn cr8_read(&mut self) -> u8 {
        0
    }
    fn cr8_write(&mut self, _: u8) {}
    fn tsc(&mut self) -> u64 {
        self.retired
    }
    fn random(&mut self) -> u64 {
        4
    }
}

/// Where code is put.
pub const CODE: u64 = 0x10_0000;
/// Free memory for data.
pub const DATA: u64 = 0x20_0000;
/// The top of the stack.
pub const STACK: u64 = 0x18_0000;

/// A CPU about to run `code` in 64-bit mode.
pub fn long64(code: &[u8]) -> (GuestRam, Vcpu) {
    let ram = GuestRam::new(8 << 20).expect("8 MiB");
    ram.write(0x1000, &(0x2000u64 | 7).to_le_bytes());
    ram.write(0x2000, &(0x83u64 | 4).to_le_bytes());
    ram.write(CODE, code);
    let mut v = Vcpu::new(&ram, Model::X64V2);
    let c = &mut v.cpu;
    c.cr3 = 0x1000;
    c.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE;
    c.efer = efer::LME | efer::LMA | efer::SCE;
    c.cr0 = cr0::PE | cr0::PG | cr0::ET | cr0::NE | cr0::WP;
    let data = Segment { base: 0, limit: u32::MAX, sel: 0x18, attr: 0xc093 };
    for s in [0, 2, 3, 4, 5] {
        c.seg[s] = data;
    }
    c.seg[1] = Segment { base: 0, limit: u32::MAX, sel: 0x10, attr: 0xa09b };
    c.rip = CODE;
    c.regs[4] = STACK;
    c.mode_changed();
    (ram, v)
}

/// Runs until HLT, at most `budget` instructions.
pub fn run(v: &mut Vcpu, budget: u64) -> CpuExit {
    v.run(&mut Bare::default(), budget)
}

/// Where [`with_handlers`] puts the IDT ...
pub const IDT: u64 = 0x30_0000;
/// ... the GDT ...
pub const GDT: u64 = 0x30_1000;
/// ... and the TSS.
pub const TSS: u64 = 0x30_2000;
/// Handler of every vector: HLT.
pub const HANDLER: u64 = 0x30_3000;

/// A CPU about to run `code` at CPL 0, whose exceptions all end in HLT.
pub fn with_handlers(code: &[u8]) -> (GuestRam, Vcpu) {
    let (ram, mut v) = long64(code);
    for vector in 0..32 {
        let low = HANDLER & 0xffff | 0x10 << 16 | 0x8e << 40 | (HANDLER >> 16 & 0xffff) << 48;
        ram.write(IDT + 16 * vector, &low.to_le_bytes());
    }
    ram.write(HANDLER, &[0xf4]);
    ram.write(GDT + 0x10, &0x00af_9b00_0000_ffffu64.to_le_bytes());
    ram.write(GDT + 0x18, &0x00cf_9300_0000_ffffu64.to_le_bytes());
    ram.write(TSS + 4, &(STACK - 0x1000).to_le_bytes());
    let c = &mut v.cpu;
    c.idtr = TableReg { base: IDT, limit: 0xfff };
    c.gdtr = TableReg { base: GDT, limit: 0xff };
    c.seg[7] = Segment { base: TSS, limit: 0x67, sel: 0x40, attr: 0x8b };
    (ram, v)
}

/// RIP and RFLAGS of the frame the handler was entered with.
pub fn frame(ram: &GuestRam, v: &Vcpu) -> (u64, u64) {
    let at = v.cpu.regs[reg::RSP as usize];
    assert_eq!(v.cpu.rip, HANDLER + 1, "in the handler");
    (u64::from_le_bytes(ram.read_le(at)), u64::from_le_bytes(ram.read_le(at + 16)))
}
