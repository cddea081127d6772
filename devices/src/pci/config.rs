//! A function's 256 bytes of configuration space (PCI Local Bus Specification 3.0, chapter 6).
//! Which bits can be written is a mask, so the sizing of base addresses (6.2.5.1: write ones,
//! read back the size) needs no code of its own.

use crate::bus::Widths;
use serde::{Deserialize, Serialize};

const VENDOR: u8 = 0x00;
const COMMAND: u8 = 0x04;
const STATUS: u8 = 0x06;
const REVISION: u8 = 0x08;
const HEADER_TYPE: u8 = 0x0e;
const BAR0: u8 = 0x10;
const INTERRUPT_LINE: u8 = 0x3c;

/// COMMAND: I/O space.
pub const COMMAND_IO: u16 = 1 << 0;
/// COMMAND: memory space.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// COMMAND: bus master, parity, SERR, INTx disable as well.
const COMMAND_WRITABLE: u16 = COMMAND_IO | COMMAND_MEMORY | 1 << 2 | 1 << 6 | 1 << 8 | 1 << 10;
/// STATUS bits cleared by writing ones (6.2.3).
const STATUS_CLEAR: u16 = 0xf900;
const BAR_IO: u32 = 1;

/// What a function says it is.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Class, subclass, programming interface (24 bits).
    pub class: u32,
    /// Revision ID.
    pub revision: u8,
    /// The device has other functions.
    pub multifunction: bool,
}

/// One base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Bar {
    io: bool,
    size: u32,
    /// The device's offset for the first byte.
    offset: u64,
}

/// Addresses that a function answers at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Ports instead of memory.
    pub io: bool,
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
    /// The device's offset for the first address.
    pub offset: u64,
    /// Accesses that arrive whole.
    pub widths: Widths,
}

/// Configuration space of a type 0 function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigSpace {
    bytes: Vec<u8>,
    /// Bits that can be written.
    writable: Vec<u8>,
    /// Bits that are cleared by writing ones.
    clears: Vec<u8>,
    bars: [Option<Bar>; 6],
}

impl ConfigSpace {
    /// An empty space with these identities.
    pub fn new(ids: Ids) -> Self {
        let mut c = Self { bytes: vec![0; 256], writable: vec![0; 256], clears: vec![0; 256], bars: [None; 6] };
        c.set(VENDOR, &ids.vendor.to_le_bytes());
        c.set(VENDOR + 2, &ids.device.to_le_bytes());
        c.set(REVISION, &(ids.class << 8 | u32::from(ids.revision)).to_le_bytes());
        c.set(HEADER_TYPE, &[if ids.multifunction { 0x80 } else { 0 }]);
        c.allow(COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        c.clears[usize::from(STATUS)..][..2].copy_from_slice(&STATUS_CLEAR.to_le_bytes());
        c.allow(INTERRUPT_LINE, &[0xff]);
        c
    }

    /// Sets bytes, whatever the guest may write there.
    pub fn set(&mut self, at: u8, data: &[u8]) {
        for (b, v) in self.bytes[usize::from(at)..].iter_mut().zip(data) {
            *b = *v;
        }
    }
    /// Makes bits writable by the guest.
    pub fn allow(&mut self, at: u8, mask: &[u8]) {
        for (b, m) in self.writable[usize::from(at)..].iter_mut().zip(mask) {
            *b |= *m;
        }
    }
    /// Interrupt line as firmware routed it, and pin (1 = INTA#).
    pub fn interrupt(&mut self, line: u8, pin: u8) {
        self.set(INTERRUPT_LINE, &[line, pin]);
    }
    /// Adds base address register `n` (0 to 5) of `size` bytes, a power of two of at least 16.
    pub fn add_bar(&mut self, n: u8, io: bool, size: u32, offset: u64) {
        assert!(n < 6 && size.is_power_of_two() && size >= 16, "a base address register is a power of two");
        self.bars[usize::from(n)] = Some(Bar { io, size, offset });
        let at = BAR0 + 4 * n;
        self.set(at, &(if io { BAR_IO } else { 0 }).to_le_bytes());
        self.allow(at, &(!(size - 1)).to_le_bytes());
    }

    /// One byte.
    pub fn byte(&self, at: u8) -> u8 {
        self.bytes[usize::from(at)]
    }
    fn word(&self, at: u8) -> u16 {
        u16::from_le_bytes([self.byte(at), self.byte(at + 1)])
    }
    fn dword(&self, at: u8) -> u32 {
        u32::from(self.word(at)) | u32::from(self.word(at + 2)) << 16
    }

    /// A guest's read; beyond the end, ones.
    pub fn read(&self, at: u8, data: &mut [u8]) {
        for (i, v) in data.iter_mut().enumerate() {
            *v = self.bytes.get(usize::from(at) + i).copied().unwrap_or(0xff);
        }
    }
    /// A guest's write.
    pub fn write(&mut self, at: u8, data: &[u8]) {
        for (i, &v) in (usize::from(at)..256).zip(data) {
            let (w, c) = (self.writable[i], self.clears[i]);
            self.bytes[i] = self.bytes[i] & !w & !(v & c) | v & w;
        }
    }
    /// The reset line: command register and base addresses are zero.
    pub fn reset(&mut self) {
        let (c, s) = (usize::from(COMMAND), usize::from(STATUS));
        for i in (c..s).chain(usize::from(BAR0)..usize::from(BAR0) + 24) {
            self.bytes[i] &= !self.writable[i];
        }
        self.bytes[s + 1] &= !STATUS_CLEAR.to_be_bytes()[0];
    }

    /// What the base address registers decode at the moment.
    pub fn bar_regions(&self) -> Vec<Region> {
        let command = self.word(COMMAND);
        let mut regions = Vec::new();
        for (n, bar) in (0u8..).zip(&self.bars) {
            let Some(bar) = bar else { continue };
            let enabled = command & if bar.io { COMMAND_IO } else { COMMAND_MEMORY } != 0;
            let first = self.dword(BAR0 + 4 * n) & !(bar.size - 1);
            let last = first.wrapping_add(bar.size - 1);
            // Address 0 means "not placed yet"; ports have 16 bits.
            if enabled && first != 0 && last >= first && !(bar.io && last > 0xffff) {
                let (first, last) = (u64::from(first), u64::from(last));
                regions.push(Region { io: bar.io, first, last, offset: bar.offset, widths: Widths::DWORD });
            }
        }
        regions
    }
}

/// A device as a PCI function.
pub trait PciFunction {
    /// Its configuration space.
    fn config(&mut self) -> &mut ConfigSpace;
    /// The addresses it answers, according to its configuration space.
    fn regions(&self) -> Vec<Region>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic() -> ConfigSpace {
        let ids = Ids { vendor: 0x10ec, device: 0x8029, class: 0x02_00_00, revision: 0, multifunction: false };
        let mut c = ConfigSpace::new(ids);
        c.add_bar(0, true, 32, 0);
        c.add_bar(1, false, 0x1000, 0x100);
        c
    }
    fn dword(c: &ConfigSpace, at: u8) -> u32 {
        let mut b = [0; 4];
        c.read(at, &mut b);
        u32::from_le_bytes(b)
    }

    #[test]
    fn identity_cannot_be_written() {
        let mut c = nic();
        c.write(0, &[0; 16]);
        assert_eq!((dword(&c, 0), dword(&c, 8)), (0x8029_10ec, 0x0200_0000));
    }

    #[test]
    fn ones_written_to_a_base_address_show_its_size() {
        let mut c = nic();
        for (at, want) in [(0x10, 0xffff_ffe1), (0x14, 0xffff_f000), (0x18, 0)] {
            c.write(at, &[0xff; 4]);
            assert_eq!(dword(&c, at), want);
        }
    }

    #[test]
    fn regions_follow_the_command_register() {
        let mut c = nic();
        c.write(0x10, &0xc001u32.to_le_bytes());
        c.write(0x14, &0xfebf_0000u32.to_le_bytes());
        assert!(c.bar_regions().is_empty());
        c.write(0x04, &[3, 0]);
        let r = c.bar_regions();
        assert_eq!(r.len(), 2);
        assert_eq!((r[0].io, r[0].first, r[0].last), (true, 0xc000, 0xc01f));
        assert_eq!((r[1].io, r[1].first, r[1].last, r[1].offset), (false, 0xfebf_0000, 0xfebf_0fff, 0x100));
        c.write(0x10, &0xffff_ffffu32.to_le_bytes()); // ports above 64 KiB
        assert_eq!(c.bar_regions().len(), 1);
        c.reset();
        assert_eq!((dword(&c, 0x14), c.bar_regions().len()), (0, 0));
    }

    #[test]
    fn status_bits_clear_by_writing_ones() {
        let mut c = nic();
        c.set(0x06, &[0, 0xa0]);
        c.write(0x06, &[0xff, 0x20]);
        assert_eq!(dword(&c, 4) >> 16, 0x8000);
    }

    #[test]
    fn the_end_of_the_space_is_the_end() {
        let mut c = nic();
        c.write(0xfe, &[1, 2, 3, 4]);
        let mut b = [0; 4];
        c.read(0xfe, &mut b);
        assert_eq!(b, [0, 0, 0xff, 0xff]);
    }
}
