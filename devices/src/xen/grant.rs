//! A guest's grant table (Xen: xen/common/grant_table.c; public/grant_table.h). The guest's side is all memory; back ends
//! here look at that memory whenever they use a grant.
//!
//! Version 1 has entries of 8 bytes with the state (is it in use?) among their flags. Version 2 has entries of 16 bytes, which may
//! be of a part of a page, and keeps the states in frames of their own.

use super::abi::domid;
use super::frames::{Frames, GRANT_FRAMES, PER_PAGE, STATUS_FRAMES};
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT, PAGE_SIZE};

/// States in a frame of them.
const STATES: u64 = PAGE_SIZE / 2;
/// Frames of a new table.
pub const FIRST_FRAMES: u64 = 1;
/// References that the toolstack uses: console and xenstore (`GNTTAB_RESERVED_*`).
pub mod reserved {
    /// The console's ring.
    pub const CONSOLE: u32 = 0;
    /// Xenstore's ring.
    pub const XENSTORE: u32 = 1;
    /// How many there are, with those that are not used.
    pub const COUNT: u32 = 8;
}

/// Bits of an entry's flags.
pub(super) mod flag {
    pub const TYPE: u16 = 3;
    pub const PERMIT_ACCESS: u16 = 1;
    pub const READONLY: u16 = 1 << 2;
    pub const READING: u16 = 1 << 3;
    pub const WRITING: u16 = 1 << 4;
    pub const SUB_PAGE: u16 = 1 << 8;
}

/// Status of one operation (`GNTST_*`).
pub(super) mod status {
    pub const OKAY: i16 = 0;
    pub const GENERAL_ERROR: i16 = -1;
    pub const BAD_DOMAIN: i16 = -2;
    pub const BAD_GNTREF: i16 = -3;
    pub const BAD_HANDLE: i16 = -4;
    pub const PERMISSION_DENIED: i16 = -8;
    pub const BAD_PAGE: i16 = -9;
    pub const BAD_COPY_ARG: i16 = -10;
    pub const EAGAIN: i16 = -12;
    pub const NO_SPACE: i16 = -13;
}

/// An entry of the table (`grant_entry_v1`, `grant_entry_v2`), without its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub flags: u16,
    pub domid: u16,
    pub frame: u64,
    /// The part of the frame that is granted: its first byte and how many. In a transitive one this is something else.
    pub part: (u16, u16),
}

/// A guest's grant table, as its back ends see it.
#[derive(Clone, Copy, Debug)]
pub struct Grants {
    frames: Frames,
    /// 1 or 2.
    pub version: u32,
    /// Frames of the table.
    pub count: u64,
    /// Where each frame is, in machine frames.
    pub places: [u64; GRANT_FRAMES as usize],
    /// The same for the frames of states.
    pub status_places: [u64; STATUS_FRAMES as usize],
}

impl Grants {
    /// A table of one frame.
    pub fn new(frames: Frames) -> Self {
        Self {
            frames,
            version: 1,
            count: FIRST_FRAMES,
            places: core::array::from_fn(|n| frames.grants + n as u64),
            status_places: core::array::from_fn(|n| frames.status + n as u64),
        }
    }
    /// Bytes of an entry.
    fn size(&self) -> u64 {
        if self.version == 2 { 16 } else { 8 }
    }
    /// Entries there are.
    pub(super) fn entries(&self) -> u64 {
        self.count * PAGE_SIZE / self.size()
    }
    /// Frames of states there are.
    pub(super) fn status_count(&self) -> u64 {
        if self.version == 2 { self.entries().div_ceil(STATES) } else { 0 }
    }
    /// The address of an entry, if the table has it.
    fn entry(&self, reference: u32) -> Option<u64> {
        let at = u64::from(reference) * self.size();
        let place = self.places.get((at >> PAGE_SHIFT) as usize).filter(|_| u64::from(reference) < self.entries())?;
        Some((place << PAGE_SHIFT) + at % PAGE_SIZE)
    }
    /// The address of an entry's state in version 2.
    fn state(&self, reference: u32) -> Option<u64> {
        let n = u64::from(reference);
        let place = self.status_places.get((n / STATES) as usize).filter(|_| n < self.entries())?;
        Some((place << PAGE_SHIFT) + 2 * (n % STATES))
    }
    /// An entry, if the table has it.
    pub(super) fn read(&self, ram: &GuestRam, reference: u32) -> Option<Entry> {
        let at = self.entry(reference)?;
        let e = u64::from_le_bytes(ram.read_le(at));
        let (flags, domid) = (e as u16, (e >> 16) as u16);
        if self.version == 1 {
            return Some(Entry { flags, domid, frame: e >> 32, part: (0, PAGE_SIZE as u16) });
        }
        let part =
            if flags & flag::SUB_PAGE == 0 { (0, PAGE_SIZE as u16) } else { ((e >> 32) as u16, (e >> 48) as u16) };
        Some(Entry { flags, domid, frame: u64::from_le_bytes(ram.read_le(at + 8)), part })
    }
    /// Writes an entry of a whole frame.
    pub(super) fn write(&self, ram: &GuestRam, reference: u32, e: &Entry) {
        let Some(at) = self.entry(reference) else { return };
        let head = u64::from(e.flags) | u64::from(e.domid) << 16;
        if self.version == 1 {
            ram.write(at, &(head | e.frame << 32).to_le_bytes());
        } else {
            ram.write(at + 8, &e.frame.to_le_bytes());
            ram.write(at, &head.to_le_bytes());
        }
    }
    /// Is it in use: `READING`, `WRITING`?
    pub(super) fn uses(&self, ram: &GuestRam, reference: u32) -> u16 {
        let at = if self.version == 1 { self.entry(reference) } else { self.state(reference) };
        at.map_or(0, |at| u16::from_le_bytes(ram.read_le(at)) & (flag::READING | flag::WRITING))
    }
    /// Says so.
    pub(super) fn set_uses(&self, ram: &GuestRam, reference: u32, uses: u16) {
        if self.version == 2 {
            if let Some(at) = self.state(reference) {
                ram.write(at, &uses.to_le_bytes());
            }
        } else if let Some(at) = self.entry(reference) {
            let old = u16::from_le_bytes(ram.read_le(at));
            ram.write(at, &(old & !(flag::READING | flag::WRITING) | uses).to_le_bytes());
        }
    }
    /// Exchanges two entries with their states; both are in the table.
    pub(super) fn swap(&self, ram: &GuestRam, a: u32, b: u32) {
        let exchange = |a: Option<u64>, b: Option<u64>, len: usize| {
            let (Some(a), Some(b)) = (a, b) else { return };
            let mut bytes = [[0; 16]; 2];
            ram.read(a, &mut bytes[0][..len]);
            ram.read(b, &mut bytes[1][..len]);
            ram.write(a, &bytes[1][..len]);
            ram.write(b, &bytes[0][..len]);
        };
        exchange(self.entry(a), self.entry(b), self.size() as usize);
        if self.version == 2 {
            exchange(self.state(a), self.state(b), 2);
        }
    }
    /// Empties the table and the states.
    pub(super) fn clear(&self, ram: &GuestRam) {
        let states = &self.status_places[..self.status_count() as usize];
        for place in self.places[..self.count as usize].iter().chain(states) {
            ram.write(place << PAGE_SHIFT, &[0; PAGE_SIZE as usize]);
        }
    }
    /// Grants a frame to domain 0, as a toolstack does before the guest runs.
    pub fn put(&self, ram: &GuestRam, reference: u32, frame: u64) {
        let entry = Entry { flags: flag::PERMIT_ACCESS, domid: domid::DOM0, frame, part: (0, PAGE_SIZE as u16) };
        self.write(ram, reference, &entry);
    }
    /// The guest-physical address of the page that a reference grants to domain 0, for reading or for writing, too.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub fn page(&self, ram: &GuestRam, reference: u32, write: bool) -> Result<u64, String> {
        let e = self.read(ram, reference).ok_or_else(|| format!("grant {reference} is beyond the table"))?;
        let Entry { flags, domid: dom, frame, .. } = e;
        if flags & flag::TYPE != flag::PERMIT_ACCESS || dom != domid::DOM0 {
            return Err(format!("grant {reference} is not for domain 0 (flags {flags:#x}, domain {dom})"));
        }
        if self.version == 2 && flags & flag::SUB_PAGE != 0 {
            // Who maps a page, as back ends do, has all of it.
            return Err(format!("grant {reference} is of a part of a page"));
        }
        if write && flags & flag::READONLY != 0 {
            return Err(format!("grant {reference} is read-only"));
        }
        if frame >= self.frames.guest {
            return Err(format!("grant {reference} is of frame {frame:#x}, which the guest has not"));
        }
        Ok(frame << PAGE_SHIFT)
    }
}

const _: () = assert!(PER_PAGE * 8 == PAGE_SIZE && GRANT_FRAMES * (PAGE_SIZE / 16) <= STATUS_FRAMES * STATES);
