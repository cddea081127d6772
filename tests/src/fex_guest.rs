//! A process without an operating system, for FEX's tests: user mode with pages where the test wants them, and an
//! IDT whose handlers are HLT, so that where it halts names the exception. A user's HLT is #GP: the test's end.

use crate::oracle::state::{GDT as LINUX_GDT, SEL_CODE64, SEL_DATA};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use tabvisor_core::bus::Nothing;
use tabvisor_core::cpu::features::Model;
use tabvisor_core::cpu::segment::{Descriptor, Segment};
use tabvisor_core::cpu::{TableReg, cr0, cr4, efer, reg};
use tabvisor_core::mem::GuestRam;
use tabvisor_core::vcpu::{CpuExit, Vcpu};

/// Bytes of RAM.
const RAM: u64 = 16 << 20;
/// Linear address of the supervisor's megabytes; the physical address is 0.
const SYSTEM: u64 = 0xffff_8000_0000_0000;
const PML4: u64 = 0x1000;
const IDT: u64 = 0x2000;
const GDT: u64 = 0x3000;
const LDT: u64 = 0x3800;
const TSS: u64 = 0x3c00;
const HANDLERS: u64 = 0x4000;
const STACK: u64 = 0x6000;
/// The first page that is free.
const FREE: u64 = 0x8000;
const PRESENT_WRITABLE: u64 = 3;
const USER: u64 = 4;
const LARGE: u64 = 0x80;
/// Instructions after which a test counts as hung.
const BUDGET: u64 = 200_000_000;

/// The local table as the suite's own runner makes it: 1 is 32-bit code, 2 is data.
const CODE32: u16 = 0x0f;
const DATA32: u16 = 0x17;
const FLAT_CODE32: u64 = 0x00cf_fb00_0000_ffff;
const FLAT_DATA: u64 = 0x00cf_f300_0000_ffff;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With its HLT.
    Hlt,
    /// With an exception at this address.
    Exception {
        /// Which.
        vector: u8,
        /// The instruction.
        rip: u64,
    },
    /// Not at all.
    Never,
}

/// The process.
pub struct Guest {
    vcpu: Vcpu,
    ram: GuestRam,
    next: u64,
    is_32_bit: bool,
    /// Physical address of each page of the process.
    pages: BTreeMap<u64, u64>,
}

fn system_descriptor(base: u64, limit: u64, kind: u64) -> [u64; 2] {
    [limit | (base & 0xff_ffff) << 16 | (0x80 | kind) << 40 | (base >> 24 & 0xff) << 56, base >> 32]
}

impl Guest {
    /// A process without memory.
    ///
    /// # Errors
    /// If there is no memory for it here.
    pub fn new(is_32_bit: bool) -> Result<Self> {
        let ram = GuestRam::new(RAM)?;
        let put = |at: u64, v: u64| ram.write(at, &v.to_le_bytes());
        for v in 0..256u64 {
            let to = SYSTEM + HANDLERS + v;
            let low = to & 0xffff | 0x10 << 16 | 0x8e << 40 | (to >> 16 & 0xffff) << 48;
            put(IDT + 16 * v, low);
            put(IDT + 16 * v + 8, to >> 32);
        }
        ram.write(HANDLERS, &[0xf4; 256]);
        let tss = system_descriptor(SYSTEM + TSS, 0x67, 11);
        let ldt = system_descriptor(SYSTEM + LDT, 0x1f, 2);
        let mut gdt = LINUX_GDT;
        gdt[8..10].copy_from_slice(&tss);
        gdt[10..12].copy_from_slice(&ldt);
        for (i, d) in gdt.iter().enumerate() {
            put(GDT + 8 * i as u64, *d);
        }
        for (i, d) in [0, FLAT_CODE32, FLAT_DATA].into_iter().enumerate() {
            put(LDT + 8 * i as u64, d);
        }
        put(TSS + 4, SYSTEM + STACK);
        let mut vcpu = Vcpu::new(&ram, Model::X64V2);
        let c = &mut vcpu.cpu;
        c.cr3 = PML4;
        c.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE | cr4::FSGSBASE;
        c.xcr0 = 3;
        // Without SCE: SYSCALL has nobody to call and is #UD.
        c.efer = efer::LME | efer::LMA | efer::NXE;
        c.cr0 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::PG;
        c.gdtr = TableReg { base: SYSTEM + GDT, limit: 16 * 8 - 1 };
        c.idtr = TableReg { base: SYSTEM + IDT, limit: 0xfff };
        c.seg[6] = Descriptor { raw: ldt[0], high: ldt[1] }.segment(0x50);
        c.seg[7] = Descriptor { raw: tss[0], high: tss[1] }.segment(0x40);
        c.cpl = 3;
        let (code, data) = if is_32_bit { (CODE32, DATA32) } else { (SEL_CODE64, SEL_DATA) };
        let code_descriptor = if is_32_bit { FLAT_CODE32 } else { gdt[6] };
        c.seg[usize::from(reg::CS)] = Descriptor { raw: code_descriptor, high: 0 }.segment(code);
        for s in [reg::ES, reg::SS, reg::DS] {
            c.seg[usize::from(s)] = Descriptor { raw: FLAT_DATA, high: 0 }.segment(data);
        }
        for s in [reg::FS, reg::GS] {
            c.seg[usize::from(s)] = Segment::null(0);
        }
        c.regs[..16].fill(0);
        c.set_rflags_image(0x202);
        c.mode_changed();
        let mut guest = Self { vcpu, ram, next: FREE, is_32_bit, pages: BTreeMap::new() };
        let directory = guest.table(PML4, SYSTEM >> 39 & 511, 0)?;
        let directory = guest.table(directory, 0, 0)?;
        guest.put(directory, PRESENT_WRITABLE | LARGE);
        Ok(guest)
    }

    /// Does it run 32-bit code?
    pub fn is_32_bit(&self) -> bool {
        self.is_32_bit
    }

    fn put(&self, at: u64, v: u64) {
        self.ram.write(at, &v.to_le_bytes());
    }
    fn page(&mut self) -> Result<u64> {
        let page = self.next;
        self.next += 0x1000;
        ensure!(self.next <= RAM, "the test wants more than {} MiB", RAM >> 20);
        Ok(page)
    }
    /// The table that entry `n` of a table leads to.
    fn table(&mut self, table: u64, n: u64, user: u64) -> Result<u64> {
        let at = table + 8 * n;
        let old = u64::from_le_bytes(self.ram.read_le(at));
        if old != 0 {
            return Ok(old & !0xfff);
        }
        let new = self.page()?;
        self.put(at, new | PRESENT_WRITABLE | user);
        Ok(new)
    }

    /// Gives the process zeroed memory from `at` on, where it has none yet.
    ///
    /// # Errors
    /// If it is too much.
    pub fn map(&mut self, at: u64, bytes: u64) -> Result<()> {
        for page in at >> 12..(at + bytes).div_ceil(0x1000) {
            if self.pages.contains_key(&page) {
                continue;
            }
            let mut table = PML4;
            for shift in [27, 18, 9] {
                table = self.table(table, page >> shift & 511, USER)?;
            }
            let frame = self.page()?;
            self.put(table + 8 * (page & 511), frame | PRESENT_WRITABLE | USER);
            self.pages.insert(page, frame);
        }
        Ok(())
    }

    /// Writes to the process's memory.
    ///
    /// # Errors
    /// If it has none there.
    pub fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        for (at, byte) in (at..).zip(data) {
            let frame = self.pages.get(&(at >> 12)).with_context(|| format!("no memory at {at:x}"))?;
            self.ram.write(frame + (at & 0xfff), &[*byte]);
        }
        Ok(())
    }

    /// Runs from `rip` to the first exception.
    pub fn run(&mut self, rip: u64) -> End {
        self.vcpu.cpu.rip = rip;
        if self.vcpu.run(&mut Nothing, BUDGET) != CpuExit::Halt {
            return End::Never;
        }
        let c = &mut self.vcpu.cpu;
        let vector = (c.rip - 1 - SYSTEM - HANDLERS) as u8;
        let mut frame = c.regs[usize::from(reg::RSP)] - SYSTEM;
        frame += if matches!(vector, 8 | 10..=14 | 17) { 8 } else { 0 };
        let word = |n: u64| u64::from_le_bytes(self.ram.read_le(frame + 8 * n));
        let (rip, rsp) = (word(0), word(3));
        c.rip = rip;
        c.regs[usize::from(reg::RSP)] = rsp;
        if vector == 13 && self.code(rip).first() == Some(&0xf4) { End::Hlt } else { End::Exception { vector, rip } }
    }

    /// Up to 15 bytes of the process's memory, as far as it goes.
    pub fn code(&self, at: u64) -> Vec<u8> {
        let byte = |at: u64| self.pages.get(&(at >> 12)).map(|p| self.ram.read_le::<1>(p + (at & 0xfff))[0]);
        (at..at.saturating_add(15)).map_while(byte).collect()
    }

    /// A register by the suite's name: low and high half. MM0 to MM7 are the x87 unit's R0 to R7.
    pub fn register(&self, name: &str) -> Option<[u64; 2]> {
        const NAMES: [&str; 8] = ["RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI"];
        let c = &self.vcpu.cpu;
        if name == "RIP" {
            return Some([c.rip, 0]);
        }
        if let Some(n) = NAMES.iter().position(|r| *r == name) {
            return Some([c.regs[n], 0]);
        }
        let number = |prefix: &str, end: usize| {
            name.strip_prefix(prefix).and_then(|n| n.parse::<usize>().ok()).filter(|n| *n < end)
        };
        if let Some(n) = number("XMM", 16) {
            return Some(c.xmm[n]);
        }
        if let Some(n) = number("MM", 8) {
            let top = c.fpu.status_word() >> 11 & 7;
            let v = c.fpu.st((n as u8).wrapping_sub(top as u8) & 7);
            return Some([v.sig, v.se.into()]);
        }
        number("R", 16).filter(|n| *n >= 8).map(|n| [c.regs[n], 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_ends_at_its_hlt_or_with_an_exception() {
        for (is_32_bit, code, end) in [
            (false, &[0xb8u8, 7, 0, 0, 0, 0x0f, 0x6e, 0xc8, 0xf4][..], End::Hlt), // mov eax, 7; movd mm1, eax; hlt
            (true, &[0xb8, 7, 0, 0, 0, 0x0f, 0x6e, 0xc8, 0xf4], End::Hlt),
            (true, &[0x0f, 0x0b], End::Exception { vector: 6, rip: 0x1_0000 }), // ud2
            (false, &[0x0f, 0x05], End::Exception { vector: 6, rip: 0x1_0000 }), // syscall
            (false, &[0xeb, 0xfe], End::Never),
        ] {
            let mut g = Guest::new(is_32_bit).unwrap();
            g.map(0x1_0000, 0x1000).unwrap();
            g.write(0x1_0000, code).unwrap();
            assert_eq!(g.run(0x1_0000), end);
            if end == End::Hlt {
                assert_eq!((g.register("RAX"), g.register("RIP")), (Some([7, 0]), Some([0x1_0008, 0])));
                assert_eq!((g.register("MM1"), g.register("MM8")), (Some([7, 0xffff]), None));
            }
        }
        assert!(Guest::new(false).unwrap().write(0x1_0000, &[0]).is_err());
    }
}
