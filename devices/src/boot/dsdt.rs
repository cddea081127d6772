//! The board's description in AML: the PCI host bridge with its windows and interrupt routing, the
//! ISA devices, soft-off. Built with `acpi_tables`. Source: ACPI specification 6.5, chapters 6 and 19.

use super::acpi::Board;
use super::layout::{self, PCI_HOLE, PCI_HOLE_LAST, PCI_SLOTS, PM_BASE, PM_LEN, RESET_PORT};
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Name, PackageBuilder, Path, ResourceTemplate,
    Scope, ZERO,
};
use acpi_tables::{Aml, AmlSink};

/// An edge-triggered ISA interrupt as a resource.
fn isa_irq(irq: u8) -> Interrupt {
    Interrupt::new(true, true, false, false, irq.into())
}

fn ports(first: u16, count: u8) -> IO {
    IO::new(first, first, 1, count)
}

fn hid(id: &str) -> Name {
    Name::new("_HID".into(), &EISAName::new(id))
}

fn crs(resources: Vec<&dyn Aml>) -> Name {
    Name::new("_CRS".into(), &ResourceTemplate::new(resources))
}

/// A device with an id, a unit number and resources.
fn device(out: &mut Vec<u8>, name: &str, id: &str, unit: u8, resources: Vec<&dyn Aml>) {
    let uid = Name::new("_UID".into(), &unit);
    Device::new(name.into(), vec![&hid(id), &uid, &crs(resources)]).to_aml_bytes(out);
}

/// The PCI routing table (6.2.13): {slot << 16 | any function, pin, no link device, interrupt}.
fn prt() -> Name {
    let mut routes = PackageBuilder::new();
    for slot in 0..PCI_SLOTS {
        for pin in 0..4u8 {
            let mut route = PackageBuilder::new();
            route.add_element(&(u32::from(slot) << 16 | 0xffff));
            route.add_element(&pin);
            route.add_element(&ZERO);
            route.add_element(&layout::pci_irq(slot, pin));
            routes.add_element(&route);
        }
    }
    Name::new("_PRT".into(), &routes)
}

fn pci_root(out: &mut Vec<u8>, vga: bool) {
    let buses = AddressSpace::new_bus_number(0u16, 0xff);
    let config = ports(0xcf8, 8);
    let io_low = AddressSpace::new_io(0u16, 0xcf7, None);
    let io_high = AddressSpace::new_io(0xd00u16, 0xffff, None);
    let cache = AddressSpaceCacheable::NotCacheable;
    let vga_memory = AddressSpace::new_memory(cache, true, 0xa_0000u32, 0xb_ffff, None);
    let memory = AddressSpace::new_memory(cache, true, PCI_HOLE as u32, PCI_HOLE_LAST as u32, None);
    let mut windows: Vec<&dyn Aml> = vec![&buses, &config, &io_low, &io_high, &memory];
    if vga {
        windows.push(&vga_memory);
    }
    let (adr, uid) = (Name::new("_ADR".into(), &ZERO), Name::new("_UID".into(), &ZERO));
    Device::new("PCI0".into(), vec![&hid("PNP0A03"), &adr, &uid, &crs(windows), &prt()]).to_aml_bytes(out);
}

/// The body of the DSDT.
pub(super) fn build(board: &Board) -> Vec<u8> {
    let mut devices = Vec::new();
    if board.legacy {
        legacy(board, &mut devices);
    }
    let mut aml = Scope::raw(Path::new("_SB_"), devices);
    let mut s5 = PackageBuilder::new();
    for value in [layout::SLP_TYP_S5, layout::SLP_TYP_S5, 0, 0] {
        s5.add_element(&value);
    }
    Name::new("_S5_".into(), &s5).to_aml_bytes(&mut aml as &mut dyn AmlSink);
    aml
}

/// The devices of a PC.
fn legacy(board: &Board, devices: &mut Vec<u8>) {
    pci_root(devices, board.vga);
    // Ports of the board itself, so that nothing else is put there.
    device(devices, "MBRD", "PNP0C02", 0, vec![&ports(PM_BASE, PM_LEN), &ports(RESET_PORT, 1)]);
    device(devices, "RTC_", "PNP0B00", 0, vec![&ports(0x70, 2), &isa_irq(layout::RTC_IRQ)]);
    let coms = [("COM1", layout::COM1, layout::COM1_IRQ), ("COM2", layout::COM2, layout::COM2_IRQ)];
    for (i, (name, port, irq)) in coms.into_iter().enumerate().take(board.serial_ports.into()) {
        device(devices, name, "PNP0501", i as u8 + 1, vec![&ports(port, 8), &isa_irq(irq)]);
    }
    if board.ps2 {
        let irq = isa_irq(layout::KBD_IRQ);
        device(devices, "KBD_", "PNP0303", 0, vec![&ports(0x60, 1), &ports(0x64, 1), &irq]);
        device(devices, "MOU_", "PNP0F13", 0, vec![&isa_irq(layout::AUX_IRQ)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(aml: &[u8], what: &[u8]) -> bool {
        aml.windows(what.len()).any(|w| w == what)
    }

    #[test]
    fn the_devices_follow_the_board() {
        let all = build(&Board { cpus: 1, serial_ports: 2, ps2: true, vga: true, legacy: true });
        let few = build(&Board { cpus: 1, serial_ports: 0, ps2: false, vga: false, legacy: true });
        for name in [b"COM1", b"COM2", b"KBD_", b"MOU_"] {
            assert!(contains(&all, name) && !contains(&few, name));
        }
        for name in [b"PCI0", b"_PRT", b"_CRS", b"RTC_", b"_S5_"] {
            assert!(contains(&all, name) && contains(&few, name));
        }
    }

    /// AML PkgLength (20.2.4): the value and the number of its bytes.
    fn pkg_length(aml: &[u8]) -> (usize, usize) {
        let more = usize::from(aml[0] >> 6);
        if more == 0 {
            return (usize::from(aml[0] & 0x3f), 1);
        }
        (1..=more).fold((usize::from(aml[0] & 0xf), 1), |(v, n), i| (v | usize::from(aml[i]) << (8 * i - 4), n + 1))
    }

    #[test]
    fn the_outer_lengths_add_up() {
        let aml = build(&Board::default());
        assert_eq!(aml[0], 0x10, "ScopeOp");
        let (len, _) = pkg_length(&aml[1..]);
        // What follows the scope is Name(_S5_, Package(4){...}).
        let rest = &aml[1 + len..];
        assert_eq!(&rest[..6], b"\x08_S5_\x12");
        let (len, n) = pkg_length(&rest[6..]);
        assert_eq!((rest.len(), rest[6 + n]), (6 + len, 4));
    }
}
