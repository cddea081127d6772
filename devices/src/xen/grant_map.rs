//! Mapping grants into the domain's own address space: map_grant_ref, unmap_grant_ref, unmap_and_replace
//! (public/grant_table.h; Xen: xen/common/grant_table.c). There is one guest, so a guest can map what it has granted to
//! itself.

use super::abi::{Errno, domid, pte};
use super::domain::Domain;
use super::grant::{flag, status};
use super::grant_ops::{bad_domain, is_own};
use super::guest;
use super::hypercall::Call;
use super::mmu::Kind;
use serde::Serialize;
use tabvisor_core::mem::PAGE_SHIFT;

/// Handles a guest may have at once.
const MAX_HANDLES: usize = 4096;

/// `GNTMAP_*`.
mod map {
    pub const DEVICE: u32 = 1;
    pub const HOST: u32 = 2;
    pub const READONLY: u32 = 4;
    pub const APPLICATION: u32 = 8;
    pub const CONTAINS_PTE: u32 = 16;
}

/// A mapped grant.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Mapping {
    pub(super) reference: u32,
    pub(super) frame: u64,
    pub(super) readonly: bool,
    /// It is mapped in page tables.
    host: bool,
    /// `host_addr` is the machine address of an entry, not linear.
    by_entry: bool,
    /// It is held for a device.
    pub(super) device: bool,
}

impl Domain {
    /// The L1 entry that `host_addr` names.
    fn place(&self, call: &Call<'_, '_>, host: u64, by_entry: bool) -> Option<u64> {
        let at = if by_entry { Some(host).filter(|at| at.is_multiple_of(8)) } else { self.entry_of(call.cpu, host) };
        at.filter(|at| self.types.kind(at >> PAGE_SHIFT) == Kind::L1)
    }
    fn use_frame(&mut self, frame: u64, readonly: bool) -> Result<(), Errno> {
        if readonly { self.types.hold(frame) } else { self.types.get(&self.ram, frame, Kind::Writable) }
    }
    fn drop_frame(&mut self, frame: u64, readonly: bool) {
        if readonly { self.types.let_go(frame) } else { self.types.put(frame) }
    }

    pub(super) fn map_grant(&mut self, call: &mut Call<'_, '_>, at: u64) -> Result<(), Errno> {
        let a = guest::get::<32>(call.cpu, at)?;
        let (host, flags, reference, dom) = (a.u64(0), a.u32(8), a.u32(12), a.u16(16));
        let result = if is_own(dom) {
            self.try_map(call, host, flags, reference)
        } else if dom == domid::DOM0 {
            // Domain 0 has granted nothing.
            Err(status::GENERAL_ERROR)
        } else {
            Err(bad_domain(dom))
        };
        if let Ok((handle, frame)) = result {
            guest::put_u32(call.cpu, at.wrapping_add(20), handle)?;
            guest::put_u64(call.cpu, at.wrapping_add(24), frame << PAGE_SHIFT)?;
        }
        guest::put_u16(call.cpu, at.wrapping_add(18), result.err().unwrap_or(status::OKAY) as u16)
    }

    fn try_map(&mut self, call: &mut Call<'_, '_>, host: u64, flags: u32, reference: u32) -> Result<(u32, u64), i16> {
        let wants_host = flags & map::HOST != 0;
        if flags & (map::HOST | map::DEVICE) == 0 || self.hvm.is_some() {
            return Err(status::BAD_GNTREF);
        }
        let readonly = flags & map::READONLY != 0;
        let entry = self.grants.read(&self.ram, reference).ok_or(status::BAD_GNTREF)?;
        // Who maps a page has all of it.
        let part = self.grants.version == 2 && entry.flags & flag::SUB_PAGE != 0;
        if entry.flags & flag::TYPE != flag::PERMIT_ACCESS || part || !is_own(entry.domid) {
            return Err(status::GENERAL_ERROR);
        }
        if !self.types.owned(entry.frame) && !self.frames.is_shared(entry.frame) {
            return Err(status::GENERAL_ERROR);
        }
        if !readonly && entry.flags & flag::READONLY != 0 {
            return Err(status::GENERAL_ERROR);
        }
        let handle = match self.mappings.iter().position(Option::is_none) {
            Some(free) => free,
            None if self.mappings.len() >= MAX_HANDLES => return Err(status::NO_SPACE),
            None => {
                self.mappings.push(None);
                self.mappings.len() - 1
            }
        };
        let by_entry = flags & map::CONTAINS_PTE != 0;
        let frame = entry.frame;
        if flags & map::DEVICE != 0 {
            self.use_frame(frame, readonly).map_err(|_| status::GENERAL_ERROR)?;
        }
        if wants_host {
            let rw = if readonly { 0 } else { pte::RW };
            let user = if flags & map::APPLICATION != 0 { pte::US } else { 0 };
            let new = super::memory::entry(frame, pte::A | pte::D | rw | user);
            let done = self.place(call, host, by_entry).map(|slot| self.write_entry(call.cpu, slot, new, false));
            if !matches!(done, Some(Ok(()))) {
                if flags & map::DEVICE != 0 {
                    self.drop_frame(frame, readonly);
                }
                return Err(status::GENERAL_ERROR);
            }
        }
        let device = flags & map::DEVICE != 0;
        self.mappings[handle] = Some(Mapping { reference, frame, readonly, host: wants_host, by_entry, device });
        self.show_uses(reference);
        Ok((handle as u32, frame))
    }

    /// The guest sees in its table whether a grant is in use, and how.
    fn show_uses(&self, reference: u32) {
        let of: Vec<&Mapping> = self.mappings.iter().flatten().filter(|m| m.reference == reference).collect();
        let reading = if of.is_empty() { 0 } else { flag::READING };
        let writing = if of.iter().any(|m| !m.readonly) { flag::WRITING } else { 0 };
        self.grants.set_uses(&self.ram, reference, reading | writing);
    }

    pub(super) fn unmap_grant(&mut self, call: &mut Call<'_, '_>, at: u64) -> Result<(), Errno> {
        let a = guest::get::<24>(call.cpu, at)?;
        let result = self.try_unmap(call, a.u64(0), a.u64(8), a.u32(16), 0);
        guest::put_u16(call.cpu, at.wrapping_add(20), result.err().unwrap_or(status::OKAY) as u16)
    }

    pub(super) fn unmap_and_replace(&mut self, call: &mut Call<'_, '_>, at: u64) -> Result<(), Errno> {
        let a = guest::get::<24>(call.cpu, at)?;
        let (host, new, handle) = (a.u64(0), a.u64(8), a.u32(16));
        let result = match self.place(call, new, false) {
            None => Err(status::GENERAL_ERROR),
            Some(from) => {
                let entry = self.types.read(&self.ram, from);
                self.try_unmap(call, host, 0, handle, entry)
                    .and_then(|()| self.write_entry(call.cpu, from, 0, false).map_err(|_| status::GENERAL_ERROR))
            }
        };
        guest::put_u16(call.cpu, at.wrapping_add(20), result.err().unwrap_or(status::OKAY) as u16)
    }

    /// Gives up what `host` and `device` name, if that is what was mapped. `instead` goes where it was.
    fn try_unmap(
        &mut self,
        call: &mut Call<'_, '_>,
        host: u64,
        device: u64,
        handle: u32,
        instead: u64,
    ) -> Result<(), i16> {
        let known = self.mappings.get(handle as usize).copied().flatten();
        let mut m = known.ok_or(status::BAD_HANDLE)?;
        if host != 0 && m.host {
            let slot = self.place(call, host, m.by_entry).ok_or(status::GENERAL_ERROR)?;
            let old = self.types.read(&self.ram, slot);
            let same = (old & pte::ADDR) >> PAGE_SHIFT == m.frame && old & pte::P != 0;
            if !same || (old & pte::RW == 0) != m.readonly {
                return Err(status::GENERAL_ERROR);
            }
            self.write_entry(call.cpu, slot, instead, false).map_err(|_| status::GENERAL_ERROR)?;
            call.cpu.flush_guest();
            m.host = false;
        }
        if device != 0 && m.device {
            if device >> PAGE_SHIFT != m.frame {
                return Err(status::GENERAL_ERROR);
            }
            self.drop_frame(m.frame, m.readonly);
            m.device = false;
        }
        let over = !m.host && !m.device;
        self.mappings[handle as usize] = (!over).then_some(m);
        self.show_uses(m.reference);
        Ok(())
    }
}
