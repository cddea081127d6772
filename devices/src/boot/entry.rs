//! The state a CPU starts in when a kernel is entered without firmware, and the tables in RAM
//! (GDT, page tables) that the state refers to.

use super::layout;
use tabvisor_core::mem::GuestRam;

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The selector.
    pub selector: u16,
    /// The linear base address.
    pub base: u64,
    /// The limit in bytes, granularity applied.
    pub limit: u32,
    /// Bits 8..=23 of the descriptor's upper half, shifted down by 8: type, S, DPL, P, (limit) AVL, L, D/B, G
    /// (SDM 3A 3.4.5).
    pub access: u16,
}

/// A descriptor table register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// The linear base address.
    pub base: u64,
    /// The limit in bytes: size - 1.
    pub limit: u16,
}

/// Everything a CPU needs to begin at a kernel's entry point. General registers that are not named
/// are zero, interrupts are off, RFLAGS is 2, the IDT is empty and TR holds [`Entry::tr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first instruction (linear = physical).
    pub rip: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// RAX; where Multiboot passes its magic number.
    pub rax: u64,
    /// RBX; where PVH passes its start info and Multiboot its information.
    pub rbx: u64,
    /// RSI; where Linux gets its zero page.
    pub rsi: u64,
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// The GDT, which lies in RAM.
    pub gdt: Table,
    /// CS.
    pub cs: Segment,
    /// DS, ES, SS, FS and GS.
    pub ds: Segment,
    /// The task register: a busy TSS, as VM-entry and SDM 3A 9.8 want to see one.
    pub tr: Segment,
}

impl Entry {
    /// Is the CPU in 64-bit mode?
    pub const fn is_64_bit(&self) -> bool {
        self.efer & EFER_LMA != 0
    }
}

/// The selector of the code segment (Linux: `__BOOT_CS`).
pub const BOOT_CS: u16 = 0x10;
/// The selector of the data segment (Linux: `__BOOT_DS`).
pub const BOOT_DS: u16 = 0x18;
/// The selector of the TSS.
pub const BOOT_TSS: u16 = 0x20;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// Present, accessed, execute/read, G and D.
const CODE32: u16 = 0xc09b;
/// Present, accessed, execute/read, G and L.
const CODE64: u16 = 0xa09b;
/// Present, accessed, read/write, G and B.
const DATA: u16 = 0xc093;
/// Present, busy 32-bit TSS.
const TSS: u16 = 0x008b;

/// A GDT entry for a segment of base 0 (SDM 3A 3.4.5).
fn descriptor(access: u16, limit: u64) -> u64 {
    limit & 0xffff | u64::from(access) << 40 | (limit >> 16 & 0xf) << 48
}

fn write_gdt(ram: &GuestRam, code: u16) -> Table {
    let gdt = [0, 0, descriptor(code, 0xf_ffff), descriptor(DATA, 0xf_ffff), descriptor(TSS, 0x67)];
    for (i, d) in gdt.iter().enumerate() {
        ram.write(layout::BOOT_GDT + 8 * i as u64, &d.to_le_bytes());
    }
    // The upper half of the TSS descriptor, which is 16 bytes long in 64-bit mode.
    ram.write(layout::BOOT_GDT + 8 * gdt.len() as u64, &[0; 8]);
    Table { base: layout::BOOT_GDT, limit: 8 * (gdt.len() as u16 + 1) - 1 }
}

fn segment(selector: u16, access: u16) -> Segment {
    Segment { selector, base: 0, limit: u32::MAX, access }
}

const TR: Segment = Segment { selector: BOOT_TSS, base: 0, limit: 0x67, access: TSS };

/// Page tables that map the first 4 GiB to themselves in pages of 2 MiB.
fn write_identity_map(ram: &GuestRam) -> u64 {
    const TABLE: u64 = 3; // present, writable
    const PAGE_2M: u64 = 0x83; // and PS
    let (pml4, pdpt, pd) =
        (layout::BOOT_PAGE_TABLES, layout::BOOT_PAGE_TABLES + 0x1000, layout::BOOT_PAGE_TABLES + 0x2000);
    let mut page = [0u8; 0x1000];
    page[..8].copy_from_slice(&(pdpt | TABLE).to_le_bytes());
    ram.write(pml4, &page);
    for (i, e) in page[..32].chunks_exact_mut(8).enumerate() {
        e.copy_from_slice(&((pd + 0x1000 * i as u64) | TABLE).to_le_bytes());
    }
    ram.write(pdpt, &page);
    for gib in 0..4u64 {
        for (i, e) in page.chunks_exact_mut(8).enumerate() {
            e.copy_from_slice(&(gib << 30 | (i as u64) << 21 | PAGE_2M).to_le_bytes());
        }
        ram.write(pd + 0x1000 * gib, &page);
    }
    pml4
}

/// 64-bit mode with the first 4 GiB mapped to themselves (Linux 64-bit boot protocol).
pub fn long_mode(ram: &GuestRam, rip: u64, rsi: u64) -> Entry {
    Entry {
        rip,
        rsp: layout::BOOT_STACK,
        rax: 0,
        rbx: 0,
        rsi,
        cr0: CR0_PE | CR0_ET | CR0_PG,
        cr3: write_identity_map(ram),
        cr4: CR4_PAE,
        efer: EFER_LME | EFER_LMA,
        gdt: write_gdt(ram, CODE64),
        cs: segment(BOOT_CS, CODE64),
        ds: segment(BOOT_DS, DATA),
        tr: TR,
    }
}

/// Flat 32-bit protected mode without paging, and without a GDT: the kernel brings its own (PVH).
pub fn pvh(rip: u64, rbx: u64) -> Entry {
    Entry {
        rip,
        rsp: 0,
        rax: 0,
        rbx,
        rsi: 0,
        cr0: CR0_PE | CR0_ET,
        cr3: 0,
        cr4: 0,
        efer: 0,
        gdt: Table { base: 0, limit: 0 },
        cs: segment(BOOT_CS, CODE32),
        ds: segment(BOOT_DS, DATA),
        tr: TR,
    }
}

/// Flat 32-bit protected mode without paging (Linux 32-bit boot protocol).
pub fn protected_mode(ram: &GuestRam, rip: u64, rsi: u64) -> Entry {
    Entry {
        rip,
        rsp: layout::BOOT_STACK,
        rax: 0,
        rbx: 0,
        rsi,
        cr0: CR0_PE | CR0_ET,
        cr3: 0,
        cr4: 0,
        efer: 0,
        gdt: write_gdt(ram, CODE32),
        cs: segment(BOOT_CS, CODE32),
        ds: segment(BOOT_DS, DATA),
        tr: TR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the boot page tables as the CPU would.
    fn walk(ram: &GuestRam, cr3: u64, at: u64) -> u64 {
        let read = |p| u64::from_le_bytes(ram.read_le::<8>(p));
        let e4 = read(cr3 + 8 * (at >> 39 & 511));
        let e3 = read((e4 & !0xfff) + 8 * (at >> 30 & 511));
        let e2 = read((e3 & !0xfff) + 8 * (at >> 21 & 511));
        assert_eq!((e4 & 3, e3 & 3, e2 & 0x83), (3, 3, 0x83), "{at:#x}");
        (e2 & !0x1f_ffff) | at & 0x1f_ffff
    }

    #[test]
    fn the_first_4_gib_are_mapped_to_themselves() {
        let ram = GuestRam::new(1 << 20).unwrap();
        let e = long_mode(&ram, 0x10_0200, 0x7000);
        for at in [0, 0x10_0200, 0x3fff_ffff, 0x4000_0000, 0xfee0_0020, 0xffff_ffff] {
            assert_eq!(walk(&ram, e.cr3, at), at);
        }
        assert!(e.is_64_bit());
        // Nothing above 4 GiB is mapped.
        assert_eq!(u64::from_le_bytes(ram.read_le::<8>(layout::BOOT_PAGE_TABLES + 0x1000 + 32)), 0);
    }

    #[test]
    fn the_gdt_in_ram_describes_the_loaded_segments() {
        for make in [long_mode, protected_mode] {
            let ram = GuestRam::new(1 << 20).unwrap();
            let e = make(&ram, 0, 0);
            for s in [e.cs, e.ds, e.tr] {
                assert!(s.selector + 7 <= e.gdt.limit);
                let d = u64::from_le_bytes(ram.read_le::<8>(e.gdt.base + u64::from(s.selector)));
                let raw = (d & 0xffff | d >> 32 & 0xf_0000) as u32;
                let limit = if d >> 55 & 1 != 0 { raw << 12 | 0xfff } else { raw };
                assert_eq!((limit, (d >> 40) as u16 & 0xf0ff), (s.limit, s.access));
                assert_eq!(d >> 16 & 0xff_ffff | d >> 56 << 24, s.base);
            }
        }
        let ram = GuestRam::new(1 << 20).unwrap();
        assert!(!protected_mode(&ram, 0, 0).is_64_bit());
    }
}
