//! Grant tables, version 1 (Xen: xen/common/grant_table.c; public/grant_table.h). The guest's side is all memory; back
//! ends here look at that memory whenever they use a grant.

use super::abi::{Answer, Errno, domid};
use super::domain::Domain;
use super::frames::{Frames, GRANT_FRAMES};
use super::guest;
use super::hypercall::Call;
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT};

/// Entries in a frame of the table.
const PER_FRAME: u64 = 512;
/// Frames of a new table.
pub const FIRST_FRAMES: u64 = 1;
/// References that the toolstack uses: console and xenstore (`GNTTAB_RESERVED_*`).
pub mod reserved {
    /// The console's ring.
    pub const CONSOLE: u32 = 0;
    /// Xenstore's ring.
    pub const XENSTORE: u32 = 1;
}

/// Bits of an entry's flags.
pub(super) mod flag {
    pub const TYPE: u16 = 3;
    pub const PERMIT_ACCESS: u16 = 1;
    pub const READONLY: u16 = 1 << 2;
    pub const READING: u16 = 1 << 3;
    pub const WRITING: u16 = 1 << 4;
}

/// Status of one operation (`GNTST_*`).
pub(super) mod status {
    pub const OKAY: i16 = 0;
    pub const GENERAL_ERROR: i16 = -1;
    pub const BAD_DOMAIN: i16 = -2;
    pub const BAD_GNTREF: i16 = -3;
    pub const BAD_HANDLE: i16 = -4;
    pub const PERMISSION_DENIED: i16 = -8;
    pub const BAD_COPY_ARG: i16 = -10;
    pub const NO_SPACE: i16 = -13;
}

/// An entry of the table (`grant_entry_v1`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub flags: u16,
    pub domid: u16,
    pub frame: u64,
}

/// A guest's grant table, as its back ends see it.
#[derive(Clone, Copy, Debug)]
pub struct Grants {
    frames: Frames,
    /// Frames of the table.
    pub count: u64,
    /// Where each frame is, in machine frames.
    pub places: [u64; GRANT_FRAMES as usize],
}

impl Grants {
    /// A table of one frame.
    pub fn new(frames: Frames) -> Self {
        Self { frames, count: FIRST_FRAMES, places: core::array::from_fn(|n| frames.grants + n as u64) }
    }
    fn entry(&self, reference: u32) -> Option<u64> {
        let n = u64::from(reference);
        let place = self.places.get((n / PER_FRAME) as usize).filter(|_| n < self.count * PER_FRAME)?;
        Some((place << PAGE_SHIFT) + 8 * (n % PER_FRAME))
    }
    /// An entry, if the table has it.
    pub(super) fn read(&self, ram: &GuestRam, reference: u32) -> Option<Entry> {
        let e = u64::from_le_bytes(ram.read_le(self.entry(reference)?));
        Some(Entry { flags: e as u16, domid: (e >> 16) as u16, frame: e >> 32 })
    }
    /// Sets those of an entry's flags that `mask` has.
    pub(super) fn set_flags(&self, ram: &GuestRam, reference: u32, flags: u16, mask: u16) {
        let Some(at) = self.entry(reference) else { return };
        let old = u16::from_le_bytes(ram.read_le(at));
        ram.write(at, &(old & !mask | flags & mask).to_le_bytes());
    }
    /// Grants a frame to domain 0, as a toolstack does before the guest runs.
    pub fn put(&self, ram: &GuestRam, reference: u32, frame: u64) {
        if let Some(at) = self.entry(reference) {
            let e = u64::from(flag::PERMIT_ACCESS) | u64::from(domid::DOM0) << 16 | frame << 32;
            ram.write(at, &e.to_le_bytes());
        }
    }
    /// The guest-physical address of the page that a reference grants to domain 0, for reading or for writing, too.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub fn page(&self, ram: &GuestRam, reference: u32, write: bool) -> Result<u64, String> {
        let e = self.read(ram, reference).ok_or_else(|| format!("grant {reference} is beyond the table"))?;
        let Entry { flags, domid: dom, frame } = e;
        if flags & flag::TYPE != flag::PERMIT_ACCESS || dom != domid::DOM0 {
            return Err(format!("grant {reference} is not for domain 0 (flags {flags:#x}, domain {dom})"));
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

/// One operation of a list, at its address.
type Operation = fn(&mut Domain, &mut Call<'_, '_>, u64) -> Result<(), Errno>;

impl Domain {
    /// Hypercall 20.
    pub(super) fn grant_table_op(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [cmd, arg, count, ..] = call.args;
        let count = count & 0xffff_ffff;
        let (size, f): (u64, Operation) = match cmd as u32 {
            0 => (32, Self::map_grant),
            1 => (24, Self::unmap_grant),
            7 => (24, Self::unmap_and_replace),
            2 => (24, Self::setup_table),
            5 => (40, Self::copy_grant),
            6 => (16, Self::query_size),
            8 => return self.set_version(call, arg),
            10 => return get_version(call, arg),
            3 | 4 | 9 | 11 | 12 => return Err(Errno::ENOSYS),
            _ => return Err(Errno::ENOSYS),
        };
        // Operations other than mapping and copying come one at a time.
        if matches!(cmd, 2 | 6) && count != 1 {
            return Err(Errno::EINVAL);
        }
        for n in 0..count {
            let at = arg.wrapping_add(size * n);
            if n > 0 && self.has_done_its_share() {
                call.again = Some([cmd, at, count - n, 0, 0, 0]);
                break;
            }
            f(self, call, at)?;
        }
        Ok(0)
    }

    fn setup_table(&mut self, call: &mut Call<'_, '_>, at: u64) -> Result<(), Errno> {
        let a = guest::get::<16>(call.cpu, at)?;
        let list = if call.narrow() { a.u32(12).into() } else { call.get_word(at.wrapping_add(16))? };
        let (dom, n) = (a.u16(0), u64::from(a.u32(4)));
        let result = if !matches!(dom, domid::SELF | domid::GUEST) {
            bad_domain(dom)
        } else if n > GRANT_FRAMES {
            status::GENERAL_ERROR
        } else {
            self.grants.count = self.grants.count.max(n);
            for k in 0..n {
                call.put_word(list.wrapping_add(call.word() * k), self.grants.places[k as usize])?;
            }
            status::OKAY
        };
        guest::put_u16(call.cpu, at.wrapping_add(8), result as u16)
    }

    fn query_size(&mut self, call: &mut Call<'_, '_>, at: u64) -> Result<(), Errno> {
        let dom = guest::get::<16>(call.cpu, at)?.u16(0);
        if !matches!(dom, domid::SELF | domid::GUEST) {
            return guest::put_u16(call.cpu, at.wrapping_add(12), bad_domain(dom) as u16);
        }
        guest::put_u32(call.cpu, at.wrapping_add(4), self.grants.count as u32)?;
        guest::put_u32(call.cpu, at.wrapping_add(8), GRANT_FRAMES as u32)?;
        guest::put_u16(call.cpu, at.wrapping_add(12), status::OKAY as u16)
    }

    /// Copies within the domain's own memory; nobody else's is within its reach.
    fn copy_grant(&mut self, call: &mut Call<'_, '_>, at: u64) -> Result<(), Errno> {
        const GREFS: u16 = 3;
        let a = guest::get::<40>(call.cpu, at)?;
        let (from, to) = ((a.u64(0), a.u16(8), a.u16(10)), (a.u64(16), a.u16(24), a.u16(26)));
        let (len, flags) = (u64::from(a.u16(32)), a.u16(34));
        let own = |d: u16| matches!(d, domid::SELF | domid::GUEST);
        let result = if flags & GREFS != 0 {
            status::BAD_GNTREF
        } else if !own(from.1) || !own(to.1) {
            status::PERMISSION_DENIED
        } else if u64::from(from.2) + len > 4096 || u64::from(to.2) + len > 4096 {
            status::BAD_COPY_ARG
        } else if !self.types.owned(from.0) || self.types.get(&self.ram, to.0, super::mmu::Kind::Writable).is_err() {
            status::GENERAL_ERROR
        } else {
            let mut bytes = vec![0; len as usize];
            self.ram.read((from.0 << PAGE_SHIFT) + u64::from(from.2), &mut bytes);
            self.ram.write((to.0 << PAGE_SHIFT) + u64::from(to.2), &bytes);
            self.types.put(to.0);
            status::OKAY
        };
        guest::put_u16(call.cpu, at.wrapping_add(36), result as u16)
    }

    fn set_version(&mut self, call: &mut Call<'_, '_>, arg: u64) -> Answer {
        match guest::get::<4>(call.cpu, arg)?.u32(0) {
            1 => Ok(0),
            2 => {
                guest::put_u32(call.cpu, arg, 1)?;
                Err(Errno::ENOSYS)
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

fn get_version(call: &mut Call<'_, '_>, arg: u64) -> Answer {
    let dom = guest::get::<8>(call.cpu, arg)?.u16(0);
    if !matches!(dom, domid::SELF | domid::GUEST) {
        return Err(Errno::ESRCH);
    }
    guest::put_u32(call.cpu, arg.wrapping_add(4), 1)?;
    Ok(0)
}

/// The status for another domain's number.
pub(super) fn bad_domain(dom: u16) -> i16 {
    match dom {
        domid::SELF | domid::GUEST => status::BAD_GNTREF,
        domid::DOM0 => status::PERMISSION_DENIED,
        _ => status::BAD_DOMAIN,
    }
}
