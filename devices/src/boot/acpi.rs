//! The ACPI tables of the PC board: RSDP, RSDT, XSDT, FADT, FACS, MADT, DSDT. There is no MCFG (PCI
//! configuration goes through ports 0xcf8/0xcfc) and no HPET.
//! Source: ACPI specification 6.5, chapter 5; section numbers below are from there.

use super::{BootError, dsdt, layout};
use tabvisor_core::mem::GuestRam;

/// What the tables say is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// CPUs, with local APIC ids from 0.
    pub cpus: u32,
    /// Serial ports from COM1 on, 0 to 2.
    pub serial_ports: u8,
    /// Is there an i8042 with keyboard and mouse ports?
    pub ps2: bool,
    /// Is there a VGA?
    pub vga: bool,
    /// Are there the devices that every PC has (8259s, I/O APIC, real-time clock, PCI)?
    pub legacy: bool,
}

impl Board {
    /// What a domain has that runs under a hypervisor with no devices: processors.
    pub const DOMAIN: Self = Self { cpus: 1, serial_ports: 0, ps2: false, vga: false, legacy: false };
}

impl Default for Board {
    /// The board of a direct boot: one CPU, COM1, keyboard controller, no VGA.
    fn default() -> Self {
        Self { cpus: 1, serial_ports: 1, ps2: true, vga: false, legacy: true }
    }
}

const OEM_ID: [u8; 6] = *b"TABVSR";
const OEM_TABLE_ID: [u8; 8] = *b"TABVISOR";
const CREATOR_ID: [u8; 4] = *b"TABV";

/// Bytes of the common table header (5.2.6).
const HEADER: usize = 36;

/// The byte that makes all bytes sum up to zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |a, b| a.wrapping_add(*b)).wrapping_neg()
}

/// A table: common header and body.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut t = Vec::with_capacity(HEADER + body.len());
    t.extend(signature);
    t.extend(((HEADER + body.len()) as u32).to_le_bytes());
    t.extend([revision, 0]);
    t.extend(OEM_ID);
    t.extend(OEM_TABLE_ID);
    t.extend(1u32.to_le_bytes());
    t.extend(CREATOR_ID);
    t.extend(1u32.to_le_bytes());
    t.extend(body);
    t[9] = checksum(&t);
    t
}

/// RSDP, revision 2 (5.2.5.3).
fn rsdp(rsdt: u32, xsdt: u64) -> Vec<u8> {
    let mut r = Vec::with_capacity(36);
    r.extend(b"RSD PTR \0");
    r.extend(OEM_ID);
    r.push(2);
    r.extend(rsdt.to_le_bytes());
    r.extend(36u32.to_le_bytes());
    r.extend(xsdt.to_le_bytes());
    r.extend([0; 4]);
    r[8] = checksum(&r[..20]);
    r[32] = checksum(&r);
    r
}

/// FACS, version 2 (5.2.10): no waking vector, the global lock is free.
fn facs() -> Vec<u8> {
    let mut f = vec![0; 64];
    f[..4].copy_from_slice(b"FACS");
    f[4..8].copy_from_slice(&64u32.to_le_bytes());
    f[32] = 2;
    f
}

/// Fixed feature flags of the FADT (5.2.9, table 5.10).
mod fadt_flag {
    pub const WBINVD: u32 = 1;
    pub const PROC_C1: u32 = 1 << 2;
    /// There is no sleep button.
    pub const SLP_BUTTON: u32 = 1 << 5;
    /// The RTC wake status is not in the fixed registers.
    pub const FIX_RTC: u32 = 1 << 6;
    pub const RESET_REG_SUP: u32 = 1 << 10;
}
/// IA-PC boot architecture flags of the FADT (5.2.9.3).
mod boot_arch {
    pub const LEGACY_DEVICES: u16 = 1;
    pub const I8042: u16 = 1 << 1;
    pub const NO_VGA: u16 = 1 << 2;
    pub const NO_CMOS_RTC: u16 = 1 << 5;
}

/// A generic address structure for I/O ports (5.2.3.2).
fn port_address(port: u16, bits: u8, access: u8) -> [u8; 12] {
    let mut g = [0; 12];
    g[..4].copy_from_slice(&[1, bits, 0, access]);
    g[4..6].copy_from_slice(&port.to_le_bytes());
    g
}

/// FADT, revision 4 (5.2.9). SMI_CMD is 0: the hardware is always in ACPI mode.
fn fadt(board: &Board, facs: u32, dsdt: u32) -> Vec<u8> {
    use boot_arch::{I8042, LEGACY_DEVICES, NO_CMOS_RTC, NO_VGA};
    use fadt_flag::{FIX_RTC, PROC_C1, RESET_REG_SUP, SLP_BUTTON, WBINVD};
    let mut t = vec![0; 244];
    // Offsets as the specification counts them, from the beginning of the table.
    let mut put = |at: usize, b: &[u8]| t[at..at + b.len()].copy_from_slice(b);
    put(36, &facs.to_le_bytes());
    put(40, &dsdt.to_le_bytes());
    put(45, &[1]); // Preferred_PM_Profile: desktop
    put(46, &u16::from(layout::SCI_IRQ).to_le_bytes());
    put(56, &u32::from(layout::PM1_EVT).to_le_bytes());
    put(64, &u32::from(layout::PM1_CNT).to_le_bytes());
    put(76, &u32::from(layout::PM_TMR).to_le_bytes());
    put(88, &[4, 2]); // PM1_EVT_LEN, PM1_CNT_LEN
    put(91, &[4]); // PM_TMR_LEN
    put(96, &0xfffu16.to_le_bytes()); // P_LVL2_LAT: no C2
    put(98, &0xfffu16.to_le_bytes()); // P_LVL3_LAT: no C3
    put(108, &[0x32]); // CENTURY: where the RTC's RAM has it
    let i8042 = if board.ps2 { I8042 } else { 0 };
    let no_vga = if board.vga { 0 } else { NO_VGA };
    let legacy = if board.legacy { LEGACY_DEVICES } else { NO_CMOS_RTC };
    put(109, &(legacy | i8042 | no_vga).to_le_bytes());
    put(112, &(WBINVD | PROC_C1 | SLP_BUTTON | FIX_RTC | RESET_REG_SUP).to_le_bytes());
    put(116, &port_address(layout::RESET_PORT, 8, 1));
    put(128, &[layout::RESET_VALUE]);
    put(132, &u64::from(facs).to_le_bytes());
    put(140, &u64::from(dsdt).to_le_bytes());
    put(148, &port_address(layout::PM1_EVT, 32, 2));
    put(172, &port_address(layout::PM1_CNT, 16, 2));
    put(208, &port_address(layout::PM_TMR, 32, 3));
    table(b"FACP", 4, &t[HEADER..])
}

/// MPS INTI flags (table 5.26): level triggered, active low.
const LEVEL_LOW: u16 = 0xf;

/// MADT, revision 4 (5.2.12): local APICs, one I/O APIC, where ISA interrupts differ, NMI on LINT1.
fn madt(board: &Board) -> Vec<u8> {
    let mut b = Vec::new();
    b.extend((layout::LAPIC_BASE as u32).to_le_bytes());
    b.extend(u32::from(board.legacy).to_le_bytes()); // PCAT_COMPAT: there are two 8259s as well
    for id in 0..board.cpus {
        b.extend([0, 8, id as u8, id as u8]);
        b.extend(1u32.to_le_bytes()); // enabled
    }
    if !board.legacy {
        return table(b"APIC", 4, &b);
    }
    b.extend([1, 12, layout::IOAPIC_ID, 0]);
    b.extend((layout::IOAPIC_BASE as u32).to_le_bytes());
    b.extend(0u32.to_le_bytes());
    let mut interrupt_override = |irq: u8, gsi: u8, flags: u16| {
        b.extend([2, 10, 0, irq]);
        b.extend(u32::from(gsi).to_le_bytes());
        b.extend(flags.to_le_bytes());
    };
    interrupt_override(layout::PIT_IRQ, layout::PIT_GSI, 0);
    let mut levels = vec![layout::SCI_IRQ];
    for irq in layout::PCI_IRQS {
        if !levels.contains(&irq) {
            levels.push(irq);
        }
    }
    for irq in levels {
        interrupt_override(irq, irq, LEVEL_LOW);
    }
    b.extend([4, 6, 0xff, 0, 0, 1]); // NMI, all CPUs, LINT1
    table(b"APIC", 4, &b)
}

/// Writes the tables into the ROM area; the address of the RSDP, which is also where a search by
/// the rules of 5.2.5.1 finds it.
///
/// # Errors
/// [`BootError::Cpus`], [`BootError::NeedsMemory`].
pub fn install(ram: &GuestRam, board: &Board) -> Result<u64, BootError> {
    if !(1..=255).contains(&board.cpus) {
        return Err(BootError::Cpus(board.cpus));
    }
    if ram.len() < layout::HIGH_RAM {
        return Err(BootError::NeedsMemory { what: "the ACPI tables", needs: layout::HIGH_RAM, has: ram.len() });
    }
    // The RSDP comes first, at a multiple of 16; the others follow in the order in which each can
    // already point at those before it. The FACS wants a multiple of 64.
    let root = layout::ROM_AREA;
    let mut at = root + 64;
    let mut place = |t: Vec<u8>| -> u32 {
        let here = at;
        ram.write(here, &t);
        at = (here + t.len() as u64).next_multiple_of(64);
        here as u32
    };
    let facs = place(facs());
    let dsdt = place(table(b"DSDT", 2, &dsdt::build(board)));
    let fadt = place(fadt(board, facs, dsdt));
    let madt = place(madt(board));
    let rsdt = place(table(b"RSDT", 1, &[fadt, madt].map(u32::to_le_bytes).concat()));
    let xsdt = place(table(b"XSDT", 1, &[fadt, madt].map(|a| u64::from(a).to_le_bytes()).concat()));
    assert!(at <= layout::HIGH_RAM, "the ACPI tables fit in the ROM area");
    ram.write(root, &rsdp(rsdt, xsdt.into()));
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(b: &[u8]) -> u8 {
        b.iter().fold(0, |a, x| a.wrapping_add(*x))
    }
    fn u32_at(b: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(b[at..at + 4].try_into().unwrap())
    }
    fn u64_at(b: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
    }
    /// A table in RAM, its length and checksum checked.
    fn read(ram: &GuestRam, at: u64, signature: &[u8; 4]) -> Vec<u8> {
        let len = u32_at(&ram.read_le::<8>(at), 4) as usize;
        assert!((HEADER..0x1_0000).contains(&len));
        let mut t = vec![0; len];
        ram.read(at, &mut t);
        assert_eq!(&t[..4], signature);
        assert_eq!(sum(&t), 0, "{signature:?}");
        t
    }

    /// Finds every table as an operating system does, by RSDT and by XSDT.
    fn tables(board: &Board) -> (GuestRam, Vec<u8>, Vec<u8>) {
        let ram = GuestRam::new(2 << 20).unwrap();
        let at = install(&ram, board).unwrap();
        assert!(at.is_multiple_of(16) && (0xe_0000..0x10_0000).contains(&at));
        let r = ram.read_le::<36>(at);
        assert_eq!(&r[..8], b"RSD PTR ");
        assert_eq!((sum(&r[..20]), sum(&r), r[15]), (0, 0, 2));
        let rsdt = read(&ram, u32_at(&r, 16).into(), b"RSDT");
        let xsdt = read(&ram, u64_at(&r, 24), b"XSDT");
        let old: Vec<u64> = rsdt[HEADER..].chunks_exact(4).map(|c| u32_at(c, 0).into()).collect();
        let new: Vec<u64> = xsdt[HEADER..].chunks_exact(8).map(|c| u64_at(c, 0)).collect();
        assert_eq!(old, new);
        let fadt = read(&ram, new[0], b"FACP");
        let madt = read(&ram, new[1], b"APIC");
        (ram, fadt, madt)
    }

    #[test]
    fn fadt_points_at_dsdt_and_facs_and_names_the_registers() {
        let (ram, fadt, _) = tables(&Board::default());
        assert_eq!(fadt.len(), 244);
        read(&ram, u32_at(&fadt, 40).into(), b"DSDT");
        assert_eq!(u64::from(u32_at(&fadt, 40)), u64_at(&fadt, 140));
        let facs = u32_at(&fadt, 36);
        assert_eq!((facs % 64, u64_at(&fadt, 132)), (0, facs.into()));
        assert_eq!(&ram.read_le::<4>(facs.into()), b"FACS");
        // Old and extended register addresses agree.
        for (old, new) in [(56, 148), (64, 172), (76, 208)] {
            assert_eq!(u64::from(u32_at(&fadt, old)), u64_at(&fadt, new + 4));
            assert_eq!(fadt[new], 1);
        }
        assert_eq!((u64_at(&fadt, 120), fadt[128]), (0xcf9, 6));
        assert_eq!(u32_at(&fadt, 112) >> 20 & 1, 0, "not hardware-reduced");
    }

    #[test]
    fn boot_flags_follow_the_board() {
        let flags = |b: &Board| tables(b).1[109];
        assert_eq!(flags(&Board { ps2: true, vga: true, ..Board::default() }), 0b011);
        assert_eq!(flags(&Board { ps2: false, vga: false, ..Board::default() }), 0b101);
    }

    #[test]
    fn madt_entries_fill_it_exactly_and_count_the_cpus() {
        for cpus in [1, 2, 255] {
            let (_, _, madt) = tables(&Board { cpus, ..Board::default() });
            let (mut at, mut kinds) = (44, [0u32; 5]);
            while at < madt.len() {
                let (kind, len) = (madt[at] as usize, madt[at + 1] as usize);
                assert_eq!(len, [8, 12, 10, 0, 6][kind]);
                if kind == 0 {
                    assert_eq!(u32::from(madt[at + 3]), kinds[0], "APIC ids count up");
                }
                kinds[kind] += 1;
                at += len;
            }
            assert_eq!(at, madt.len());
            // Overrides: the PIT, the SCI, and the two PCI interrupts.
            assert_eq!(kinds, [cpus, 1, 4, 0, 1]);
        }
    }

    #[test]
    fn impossible_boards_are_refused() {
        let ram = GuestRam::new(2 << 20).unwrap();
        for cpus in [0, 256, u32::MAX] {
            assert_eq!(install(&ram, &Board { cpus, ..Board::default() }), Err(BootError::Cpus(cpus)));
        }
        let small = GuestRam::new(4096).unwrap();
        assert!(matches!(install(&small, &Board::default()), Err(BootError::NeedsMemory { .. })));
    }
}
