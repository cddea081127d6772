//! Where things are on the PC board: physical addresses, I/O ports and interrupt numbers that both
//! the board (which decodes them) and the boot code (which tells the guest about them) use.
//!
//! The interrupt lines follow one rule: a line of ours is "asserted" or not. The tables below call
//! the level-triggered ones active-low because ACPI does by default; the I/O APIC and the 8259
//! therefore look at the assertion and leave the programmed polarity alone.

/// First legacy serial port (16550): 8 ports.
pub const COM1: u16 = 0x3f8;
/// Second legacy serial port: 8 ports.
pub const COM2: u16 = 0x2f8;
/// Interrupt of [`COM1`].
pub const COM1_IRQ: u8 = 4;
/// Interrupt of [`COM2`].
pub const COM2_IRQ: u8 = 3;
/// Interrupt of the 8254's channel 0; it arrives at I/O APIC pin [`PIT_GSI`].
pub const PIT_IRQ: u8 = 0;
/// The I/O APIC pin of [`PIT_IRQ`]: pin 0 belongs to the 8259 on a PC, hence the override in the MADT.
pub const PIT_GSI: u8 = 2;
/// Interrupt of the MC146818.
pub const RTC_IRQ: u8 = 8;
/// Interrupt of the first PS/2 port.
pub const KBD_IRQ: u8 = 1;
/// Interrupt of the second PS/2 port.
pub const AUX_IRQ: u8 = 12;
/// Interrupt of x87 errors that are not exceptions (CR0.NE = 0).
pub const FPU_IRQ: u8 = 13;

/// The ACPI fixed-register block, in the order of the PIIX4 (PIIX4 datasheet, section 7.2).
pub const PM_BASE: u16 = 0x600;
/// PM1a status and enable: 4 ports.
pub const PM1_EVT: u16 = PM_BASE;
/// PM1a control: 2 ports. SCI_EN reads 1 always: the board has no SMI and is born in ACPI mode.
pub const PM1_CNT: u16 = PM_BASE + 4;
/// The 24-bit, 3.579545 MHz power management timer: 4 ports.
pub const PM_TMR: u16 = PM_BASE + 8;
/// Ports of the block at [`PM_BASE`] that belong to it.
pub const PM_LEN: u8 = 0x40;
/// The SLP_TYP value of soft-off (PIIX4: 0); writing it with SLP_EN to [`PM1_CNT`] ends the machine.
pub const SLP_TYP_S5: u8 = 0;
/// Interrupt of the ACPI registers, level triggered, shared.
pub const SCI_IRQ: u8 = 9;
/// The reset control register of the PIIX3 (and of the FADT).
pub const RESET_PORT: u16 = 0xcf9;
/// What to write to [`RESET_PORT`]: full reset.
pub const RESET_VALUE: u8 = 6;

/// Interrupts of the PCI lines INTA..INTD of slot 0; each further slot rotates by one.
pub const PCI_IRQS: [u8; 4] = [10, 11, 10, 11];
/// Slots on PCI bus 0 that the routing table covers.
pub const PCI_SLOTS: u8 = 32;
/// The interrupt of pin `pin` (0 = INTA) of slot `slot`.
pub const fn pci_irq(slot: u8, pin: u8) -> u8 {
    PCI_IRQS[(slot as usize + pin as usize) % 4]
}

/// The CPUs' local APICs.
pub const LAPIC_BASE: u64 = 0xfee0_0000;
/// The I/O APIC: 24 pins from global system interrupt 0.
pub const IOAPIC_BASE: u64 = 0xfec0_0000;
/// The value of the I/O APIC's ID register after reset.
pub const IOAPIC_ID: u8 = 0;
/// Memory addresses PCI devices can be given: from here, above the largest RAM ...
pub const PCI_HOLE: u64 = tabvisor_core::mem::MAX_RAM;
/// ... to this one, below the I/O APIC, inclusive.
pub const PCI_HOLE_LAST: u64 = IOAPIC_BASE - 1;

/// Where conventional memory ends and a PC's extended BIOS data would begin.
pub const LOW_RAM_END: u64 = 0x9_fc00;
/// The ROM area, reserved in the memory map; the ACPI tables lie in it.
pub const ROM_AREA: u64 = 0xe_0000;
/// Where memory above the legacy area begins.
pub const HIGH_RAM: u64 = 0x10_0000;

/// The GDT a kernel is entered with.
pub const BOOT_GDT: u64 = 0x500;
/// Linux's "zero page", one page.
pub const ZERO_PAGE: u64 = 0x7000;
/// What Multiboot tells a kernel: information, memory map, module, command line.
pub const MULTIBOOT: u64 = 0x1000;
/// Where [`MULTIBOOT`] ends; a Multiboot kernel may begin here.
pub const MULTIBOOT_END: u64 = 0x2000;
/// A stack for kernels that want one before they have their own: it grows down from here.
pub const BOOT_STACK: u64 = 0x7000;
/// The page tables a 64-bit kernel is entered with: one PML4, one PDPT, four page directories.
pub const BOOT_PAGE_TABLES: u64 = 0x9000;
/// The kernel's command line.
pub const CMDLINE: u64 = 0x2_0000;
/// Bytes kept for the command line, its final zero included.
pub const CMDLINE_MAX: usize = 0x1_0000;
