//! Address decode: which device answers at an address, and in which pieces.
//!
//! A device says how wide an access it takes. A wider one, or one that crosses the end of a
//! range, is cut in halves until each piece fits, as the bridge to an 8- or 16-bit bus does.
//! Nobody answering means all ones and a write that goes nowhere.

use core::ops::RangeInclusive;

/// A device of a board, by its place in the board's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handle(pub u16);

/// The access widths a range takes whole, as a sum of 1, 2, 4 and 8 (bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths(pub u8);

impl Widths {
    /// Byte registers.
    pub const BYTE: Self = Self(1);
    /// Bytes and words.
    pub const WORD: Self = Self(1 | 2);
    /// Everything up to a double word.
    pub const DWORD: Self = Self(1 | 2 | 4);
    /// Double words only.
    pub const ONLY_DWORD: Self = Self(4);
    /// Everything up to a quad word.
    pub const QWORD: Self = Self(1 | 2 | 4 | 8);

    const fn takes(self, bytes: usize) -> bool {
        self.0 as usize & bytes != 0
    }
}

/// A range of addresses that a device answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
    /// Accesses that arrive in one piece.
    pub widths: Widths,
    /// Who answers.
    pub device: Handle,
    /// The device's offset for the first address.
    pub offset: u64,
}

impl Claim {
    fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last && self.widths.0 & other.widths.0 != 0
    }
}

/// Why a range was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Somebody else answers there.
    #[error("addresses {0:#x}..={1:#x} overlap {2:#x}..={3:#x}")]
    Overlap(u64, u64, u64, u64),
    /// The range ends before it begins.
    #[error("addresses {0:#x}..={1:#x} are no range")]
    Empty(u64, u64),
}

/// A part of an access, for one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Who answers.
    pub device: Handle,
    /// The offset at that device.
    pub at: u64,
    /// First byte of the access that belongs to this piece.
    pub from: u8,
    /// Number of bytes.
    pub bytes: u8,
}

/// The table of one address space (ports, or memory).
#[derive(Clone, Debug, Default)]
pub struct AddressMap {
    /// Sorted by first address.
    fixed: Vec<Claim>,
    /// Ranges that the guest places (PCI base addresses); the fixed ones win over them.
    movable: Vec<Claim>,
}

impl AddressMap {
    /// `device` answers `range`; its offset there begins at `offset`.
    ///
    /// # Errors
    /// [`MapError`] if another device already answers one of these addresses at the same width.
    pub fn claim(
        &mut self,
        range: RangeInclusive<u64>,
        widths: Widths,
        device: Handle,
        offset: u64,
    ) -> Result<(), MapError> {
        let new = Claim { first: *range.start(), last: *range.end(), widths, device, offset };
        if new.first > new.last {
            return Err(MapError::Empty(new.first, new.last));
        }
        if let Some(old) = self.fixed.iter().find(|c| c.overlaps(&new)) {
            return Err(MapError::Overlap(new.first, new.last, old.first, old.last));
        }
        let place = self.fixed.partition_point(|c| c.first <= new.first);
        self.fixed.insert(place, new);
        Ok(())
    }

    /// Replaces the ranges of `device` that the guest has placed.
    pub fn place(&mut self, device: Handle, claims: impl Iterator<Item = Claim>) {
        self.movable.retain(|c| c.device != device);
        self.movable.extend(claims.filter(|c| c.first <= c.last).map(|c| Claim { device, ..c }));
    }

    /// The table in address order, for people.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.fixed.iter().chain(&self.movable)
    }

    fn find(&self, at: u64, bytes: usize) -> Option<&Claim> {
        let last = at.checked_add(bytes as u64 - 1)?;
        let fits = |c: &&Claim| c.first <= at && last <= c.last && c.widths.takes(bytes);
        let before = self.fixed.partition_point(|c| c.first <= at);
        // Fixed ranges overlap only where they take different widths, so a few steps back suffice.
        self.fixed[..before].iter().rev().take(4).find(fits).or_else(|| self.movable.iter().find(fits))
    }

    /// Cuts an access of `bytes` (1, 2, 4 or 8) at `at` into pieces and hands them over in
    /// ascending order. Bytes that nobody answers are left out.
    pub fn route(&self, at: u64, bytes: usize, each: &mut impl FnMut(Piece)) {
        self.route_part(at, bytes, 0, each);
    }

    fn route_part(&self, at: u64, bytes: usize, from: u8, each: &mut impl FnMut(Piece)) {
        if let Some(c) = self.find(at, bytes) {
            let offset = c.offset.wrapping_add(at - c.first);
            each(Piece { device: c.device, at: offset, from, bytes: bytes as u8 });
        } else if bytes > 1 {
            let half = bytes / 2;
            self.route_part(at, half, from, each);
            if let Some(second) = at.checked_add(half as u64) {
                self.route_part(second, half, from + half as u8, each);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Handle = Handle(0);
    const B: Handle = Handle(1);

    fn pieces(m: &AddressMap, at: u64, bytes: usize) -> Vec<(u16, u64, u8, u8)> {
        let mut v = Vec::new();
        m.route(at, bytes, &mut |p| v.push((p.device.0, p.at, p.from, p.bytes)));
        v
    }

    #[test]
    fn a_wide_access_to_byte_registers_is_split() {
        let mut m = AddressMap::default();
        m.claim(0x20..=0x21, Widths::BYTE, A, 0).unwrap();
        assert_eq!(pieces(&m, 0x20, 2), [(0, 0, 0, 1), (0, 1, 1, 1)]);
        assert_eq!(pieces(&m, 0x1f, 4), [(0, 0, 1, 1), (0, 1, 2, 1)]);
        assert_eq!(pieces(&m, 0x22, 4), []);
    }

    #[test]
    fn overlaps_are_refused() {
        let mut m = AddressMap::default();
        m.claim(0x60..=0x64, Widths::BYTE, A, 0).unwrap();
        assert_eq!(m.claim(0x64..=0x70, Widths::DWORD, B, 0), Err(MapError::Overlap(0x64, 0x70, 0x60, 0x64)));
        assert!(m.claim(0x65..=0x70, Widths::DWORD, B, 0).is_ok());
        assert_eq!(m.claim(RangeInclusive::new(9, 8), Widths::BYTE, B, 0), Err(MapError::Empty(9, 8)));
    }

    #[test]
    fn the_width_of_an_access_selects_between_cf8_and_cf9() {
        let mut m = AddressMap::default();
        m.claim(0xcf8..=0xcfb, Widths::ONLY_DWORD, A, 0).unwrap();
        m.claim(0xcf9..=0xcf9, Widths::BYTE, B, 0).unwrap();
        assert_eq!(pieces(&m, 0xcf8, 4), [(0, 0, 0, 4)]);
        assert_eq!(pieces(&m, 0xcf9, 1), [(1, 0, 0, 1)]);
        assert_eq!(pieces(&m, 0xcf8, 2), [(1, 0, 1, 1)]);
    }

    #[test]
    fn an_access_across_two_devices_reaches_both() {
        let mut m = AddressMap::default();
        m.claim(0..=3, Widths::DWORD, A, 0x10).unwrap();
        m.claim(4..=7, Widths::DWORD, B, 0x20).unwrap();
        assert_eq!(pieces(&m, 2, 4), [(0, 0x12, 0, 2), (1, 0x20, 2, 2)]);
        assert_eq!(pieces(&m, u64::MAX - 1, 8), []);
    }

    #[test]
    fn placed_ranges_move_and_yield_to_fixed_ones() {
        let mut m = AddressMap::default();
        m.claim(0x100..=0x1ff, Widths::DWORD, A, 0).unwrap();
        let at = |first| Claim { first, last: first + 0xff, widths: Widths::DWORD, device: B, offset: 0 };
        m.place(B, [at(0x100)].into_iter());
        assert_eq!(pieces(&m, 0x100, 4), [(0, 0, 0, 4)]);
        m.place(B, [at(0x200)].into_iter());
        assert_eq!(pieces(&m, 0x204, 4), [(1, 4, 0, 4)]);
        m.place(B, core::iter::empty());
        assert_eq!(pieces(&m, 0x204, 4), []);
    }
}
