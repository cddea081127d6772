//! What programs run on: a CPU with RAM, its tables, a timer, a watchdog, and ports and device memory that answer by
//! the number of instructions that have run.

use super::generate::Program;
use super::layout::*;
use super::{kernel, kernel::remap_at};
use iced_x86::{Decoder, FastFormatter};
use tabvisor_core::bus::Bus;
use tabvisor_core::cpu::features::Model;
use tabvisor_core::cpu::segment::Descriptor;
use tabvisor_core::cpu::{TableReg, cr0, cr4, efer};
use tabvisor_core::flags;
use tabvisor_core::mem::GuestRam;
use tabvisor_core::size::Size;
use tabvisor_core::vcpu::{CpuExit, Vcpu};
use tabvisor_devices::machine::processor::Processor;

/// Present, writable, user, accessed, dirty.
const OPEN: u64 = 0x67;
/// The same for privilege level 0, read-only.
const CLOSED: u64 = 0x61;

/// The board: everything it says follows from the number of instructions.
pub struct Board {
    retired: u64,
    /// When the timer is due, and how often it comes.
    timer: (u64, u64),
    /// When the watchdog is due, and how often it comes.
    watchdog: (u64, u64),
    /// A hash of all that was written.
    written: u64,
}

fn mix(a: u64, b: u64) -> u64 {
    let v = (a ^ b.rotate_left(23)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    v ^ v >> 29
}

impl Bus for Board {
    fn sync(&mut self, retired: u64) {
        self.retired = retired;
    }
    fn allowance(&mut self) -> u64 {
        // A timer that is due already waits for IF.
        let [a, b] = [self.timer.0, self.watchdog.0].map(|at| at.checked_sub(self.retired).filter(|n| *n > 0));
        a.unwrap_or(u64::MAX).min(b.unwrap_or(u64::MAX))
    }
    fn port_read(&mut self, port: u16, size: Size) -> u32 {
        (mix(self.retired, port.into()) & size.mask()) as u32
    }
    fn port_write(&mut self, port: u16, _: Size, v: u32) {
        self.written = mix(self.written, mix(u64::from(port) << 32 | u64::from(v), self.retired));
    }
    fn mmio_read(&mut self, at: u64, size: Size) -> u64 {
        mix(self.retired, at) & size.mask()
    }
    fn mmio_write(&mut self, at: u64, _: Size, v: u64) {
        self.written = mix(self.written, mix(at ^ v, self.retired));
    }
    fn interrupt_pending(&self) -> bool {
        self.retired >= self.timer.0
    }
    fn acknowledge(&mut self) -> Option<u8> {
        self.timer.0 = self.retired + self.timer.1;
        Some(TIMER)
    }
    fn nmi_pending(&self) -> bool {
        self.retired >= self.watchdog.0
    }
    fn take_nmi(&mut self) -> bool {
        let due = self.nmi_pending();
        if due {
            self.watchdog.0 = self.retired + self.watchdog.1;
        }
        due
    }
    fn tsc(&mut self) -> u64 {
        self.retired
    }
    fn random(&mut self) -> u64 {
        mix(self.retired, 1)
    }
}

/// A program on its machine.
pub struct Machine {
    /// The CPU.
    pub vcpu: Vcpu,
    ram: GuestRam,
    board: Board,
}

impl Machine {
    /// Ready for the program's first instruction.
    pub fn new(p: &Program) -> Self {
        let ram = GuestRam::new(RAM).expect("the host has two megabytes");
        let put = |at: u64, v: u64| ram.write(at, &v.to_le_bytes());
        let put4 = |at: u64, v: u64| ram.write(at, &(v as u32).to_le_bytes());
        let [top, middle, low] = TABLES;
        let word = if p.long { 8 } else { 4 };
        if p.long {
            put(top, middle | OPEN);
            put(top + 8 * 256, middle | OPEN);
            put(middle, low | OPEN);
            put(low, PT | OPEN);
        } else {
            put4(top, PT | OPEN);
            put4(top + 4 * (HIGH32 >> 22), PT | OPEN);
        }
        for page in 0..RAM >> 12 {
            let at = page << 12;
            let entry = match at {
                ..CODE => at | CLOSED,
                SYSTEM.. => (at - SYSTEM) | (OPEN & !4),
                _ => at | OPEN,
            };
            if p.long { put(PT + 8 * page, entry) } else { put4(PT + 4 * page, entry) }
        }
        for &(page, entry) in &p.entries {
            if p.long { put(PT + 8 * page, entry) } else { put4(PT + 4 * page, entry) }
        }
        for (n, remap) in p.remaps.iter().enumerate() {
            let at = remap_at(n) - SYSTEM;
            put(at, remap.entry);
            put(at + 8, remap.value);
            put(at + 16, remap.page);
            put(at + 24, remap.all.into());
        }
        let code0 = if p.long { 0x00af_9b00_0000_ffff } else { 0x00cf_9b00_0000_ffff };
        let task = SYSTEM + TSS;
        let task = 0x67 | (task & 0xff_ffff) << 16 | 0x8b << 40 | (task >> 24 & 0xff) << 56;
        let gdt = [0, code0, 0x00cf_9300_0000_ffff, code0 | 0x60 << 40, 0x00cf_f300_0000_ffff, task, 0];
        for (d, n) in gdt.iter().zip(0..) {
            put(GDT + 8 * n, *d);
        }
        for v in 0..256 {
            // Interrupt gates; software interrupts may come from anywhere. In 64-bit mode all have a stack of their own.
            let to = ENTRIES + 16 * v;
            let low = to & 0xffff | u64::from(CODE0) << 16 | 0xee << 40 | (to >> 16) << 48;
            if p.long {
                put(IDT + 16 * v, low | 1 << 32);
                put(IDT + 16 * v + 8, 0);
            } else {
                put(IDT + 8 * v, low);
            }
        }
        put(TSS + 4, SYSTEM + STACK0);
        if p.long {
            put(TSS + 0x24, SYSTEM + STACK0);
        } else {
            put4(TSS + 8, DATA0.into());
        }
        ram.write(TSS + 0x66, &0x68u16.to_le_bytes());
        ram.write(ENTRIES, &kernel::entries(p.long));
        ram.write(HANDLER, &kernel::handler(p.long, p.user, CODE));
        ram.write(LENGTHS, &p.lengths);
        ram.write(CODE, &p.code);
        ram.write(DATA, &p.data);

        let mut vcpu = Vcpu::new(&ram, Model::X64V2);
        let c = &mut *vcpu.cpu;
        c.cr3 = top;
        c.cr0 = cr0::PE | cr0::PG | cr0::NE | cr0::ET | cr0::MP | cr0::WP;
        c.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT;
        if p.long {
            c.cr4 |= cr4::PAE | cr4::OSXSAVE | cr4::FSGSBASE;
            c.efer = efer::LME | efer::LMA | efer::NXE | efer::SCE;
            c.xcr0 = 3;
        }
        c.gdtr = TableReg { base: GDT, limit: 0xff };
        c.idtr = TableReg { base: IDT, limit: 256 * 2 * word - 1 };
        let (code, data) = if p.user { (CODE3, DATA3) } else { (CODE0, DATA0) };
        for (s, sel) in [(0, data), (1, code), (2, data), (3, data), (4, data), (5, data), (7, TASK)] {
            c.seg[s] = Descriptor { raw: gdt[usize::from(sel >> 3)], high: 0 }.segment(sel);
        }
        c.cpl = if p.user { 3 } else { 0 };
        (c.rip, c.regs[4]) = (CODE, STACK);
        c.set_rflags_image(0x202);
        c.mode_changed();
        c.tlb.flush_all();
        let board = Board { retired: 0, timer: (p.timer, p.timer), watchdog: (p.watchdog, p.watchdog), written: 0 };
        Self { vcpu, ram, board }
    }

    /// Runs so many instructions, or until the CPU comes back by itself.
    pub fn run(&mut self, budget: u64) -> CpuExit {
        let exit = self.vcpu.run(&mut self.board, budget);
        if exit == CpuExit::Halt {
            // Time passes until something is due that ends it.
            let now = self.vcpu.retired();
            let due = if self.vcpu.cpu.flag(flags::IF) { &mut self.board.timer } else { &mut self.board.watchdog };
            due.0 = due.0.min(now);
        }
        exit
    }

    /// What a device does: bytes appear in RAM.
    pub fn poke(&mut self, at: u64, bytes: &[u8]) {
        self.ram.write(at, bytes);
    }

    /// Everything the guest can tell apart, but for RAM.
    pub fn state(&mut self) -> (Vec<u8>, u64, u64) {
        let mut bytes = Vec::new();
        Processor::state_bytes(&mut self.vcpu, &mut bytes);
        (bytes, self.vcpu.retired(), self.board.written)
    }

    /// The registers, for people.
    pub fn describe(&mut self) -> String {
        let retired = self.vcpu.retired();
        let written = self.board.written;
        format!("{retired} instructions, board {written:x}\n{}", Processor::describe(&mut self.vcpu))
    }

    /// The next instructions, as far as they lie in a row.
    pub fn listing(&self, count: usize) -> String {
        let c = &self.vcpu.cpu;
        let (word, mut bytes) = (if c.long { 8 } else { 4 }, vec![0; 15 * count]);
        let mut entry = [0; 8];
        self.ram.read(PT + word * ((c.rip & (RAM - 1)) >> 12), &mut entry[..word as usize]);
        let at = u64::from_le_bytes(entry) & 0xffff_f000 | c.rip & 0xfff;
        bytes.truncate(bytes.len().min(RAM.saturating_sub(at) as usize));
        self.ram.read(at, &mut bytes);
        let mut decoder = Decoder::with_ip(if c.long { 64 } else { 32 }, &bytes, c.rip, 0);
        let mut text = String::new();
        let mut formatter = FastFormatter::new();
        for i in decoder.iter().take(count) {
            text += &format!("{:x}  ", i.ip());
            formatter.format(&i, &mut text);
            text.push('\n');
        }
        text
    }

    /// RAM.
    pub fn memory(&self, to: &mut Vec<u8>) {
        to.resize(RAM as usize, 0);
        self.ram.read(0, to);
    }
}
