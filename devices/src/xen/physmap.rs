//! Pages of the hypervisor at frame numbers of a guest with its own paging: add_to_physmap, remove_from_physmap (Xen:
//! xenmem_add_to_physmap_one in xen/arch/x86/mm.c; public/memory.h).

use super::abi::{Answer, Errno, domid};
use super::domain::Domain;
use super::frames::{GRANT_FRAMES, STATUS_FRAMES};
use super::guest;
use super::hypercall::Call;
use tabvisor_core::mem::{PAGE_SHIFT, PAGE_SIZE};

/// Pages beyond its RAM that a guest may have.
const MAX_ALIASES: usize = 256;

/// A page that the hypervisor shares with a guest.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shared {
    /// shared_info.
    Info,
    /// A frame of the grant table, by number.
    Grants(usize),
    /// A frame of its entries' states.
    Status(usize),
}

impl Domain {
    /// Puts a page of the hypervisor at one of the guest's frame numbers. Within the guest's RAM the page moves there;
    /// what was there is gone.
    pub(super) fn add_to_physmap(&mut self, call: &mut Call<'_, '_>, arg: u64) -> Answer {
        const SHARED_INFO: u32 = 0;
        const GRANT_TABLE: u32 = 1;
        /// In the index: the states of grants are meant (`XENMAPIDX_grant_table_status`).
        const STATUS: u64 = 1 << 31;
        let (dom, space, index, gpfn) = if call.narrow() {
            let a = guest::get::<16>(call.cpu, arg)?;
            (a.u16(0), a.u32(4), a.u32(8).into(), a.u32(12).into())
        } else {
            let a = guest::get::<24>(call.cpu, arg)?;
            (a.u16(0), a.u32(4), a.u64(8), a.u64(16))
        };
        if self.hvm.is_none() {
            return Err(Errno::EACCES);
        }
        if !matches!(dom, domid::SELF | domid::GUEST) {
            return Err(Errno::ESRCH);
        }
        if gpfn >= 1 << (tabvisor_core::cpu::paging::PHYS_BITS - PAGE_SHIFT) {
            return Err(Errno::EINVAL);
        }
        let page = match space {
            SHARED_INFO => Shared::Info,
            GRANT_TABLE => {
                let status = self.grants.version == 2 && index & STATUS != 0;
                let n = if status { index & !STATUS } else { index };
                let frames = if status { n.saturating_add(1).saturating_mul(8) } else { n.saturating_add(1) };
                if status && n >= STATUS_FRAMES || !status && n >= GRANT_FRAMES {
                    return Err(Errno::EINVAL);
                }
                self.grow_grants(frames);
                if status { Shared::Status(n as usize) } else { Shared::Grants(n as usize) }
            }
            _ => return Err(Errno::ENOSYS),
        };
        self.show_at(page, gpfn)?;
        call.cpu.tlb.flush_all();
        Ok(0)
    }

    /// Where a page of the hypervisor is now, and the hypervisor's frame for it.
    fn place_of(&self, page: Shared) -> (u64, u64) {
        match page {
            Shared::Info => (self.shared_info, self.frames.shared_info),
            Shared::Grants(n) => (self.grants.places[n], self.frames.grants + n as u64),
            Shared::Status(n) => (self.grants.status_places[n], self.frames.status + n as u64),
        }
    }

    /// Lets the guest see a page of the hypervisor at `gpfn`: in its RAM the page moves there, beyond it the number becomes
    /// another one of the page's own frame.
    fn show_at(&mut self, page: Shared, gpfn: u64) -> Result<(), Errno> {
        let (from, own) = self.place_of(page);
        if gpfn < self.frames.guest {
            if from == gpfn {
                return Ok(());
            }
            if !self.types.is_absent(gpfn) {
                // What was there is displaced: the guest has a frame less.
                self.types.release(&self.ram, gpfn)?;
            }
            self.take_back(gpfn);
            self.move_page(page, gpfn);
            return Ok(());
        }
        if !self.aliases.contains_key(&gpfn) && self.aliases.len() >= MAX_ALIASES {
            return Err(Errno::ENOSPC);
        }
        self.move_page(page, own);
        self.aliases.insert(gpfn, own);
        self.ram.set_alias(gpfn, Some(own));
        Ok(())
    }

    /// A page of the hypervisor that is at `gpfn` in the guest's RAM goes back to where it came from. Was there one?
    pub(super) fn take_back(&mut self, gpfn: u64) -> bool {
        let at = |places: &[u64]| places.iter().position(|&place| place == gpfn);
        let page = at(&self.grants.places).map(Shared::Grants);
        let page = page.or_else(|| at(&self.grants.status_places).map(Shared::Status));
        let page = page.or((self.shared_info == gpfn).then_some(Shared::Info));
        let Some(page) = page.filter(|_| gpfn < self.frames.guest) else { return false };
        let (_, own) = self.place_of(page);
        self.move_page(page, own);
        true
    }

    /// Where the guest sees a page, as it is told: the frame itself in a PV domain; nowhere is all ones.
    pub(super) fn seen_at(&self, page: Shared) -> u64 {
        let (place, own) = self.place_of(page);
        if self.hvm.is_none() || place < self.frames.guest {
            return place;
        }
        self.aliases.iter().find(|(_, to)| **to == own).map_or(u64::MAX, |(gpfn, _)| *gpfn)
    }

    /// The guest sees a page nowhere any more.
    pub(super) fn hide(&mut self, page: Shared) {
        let (place, own) = self.place_of(page);
        self.take_back(place);
        let of_it = |(gpfn, to): (&u64, &u64)| (*to == own).then_some(*gpfn);
        for gpfn in self.aliases.iter().filter_map(of_it).collect::<Vec<_>>() {
            self.aliases.remove(&gpfn);
            self.ram.set_alias(gpfn, None);
        }
    }

    /// Moves a page of the hypervisor to another frame. Where it was there is nothing then.
    fn move_page(&mut self, page: Shared, to: u64) {
        let (from, _) = self.place_of(page);
        if to == from {
            return;
        }
        let mut bytes = [0; PAGE_SIZE as usize];
        self.ram.read(from << PAGE_SHIFT, &mut bytes);
        self.ram.write(to << PAGE_SHIFT, &bytes);
        self.ram.write(from << PAGE_SHIFT, &[0; PAGE_SIZE as usize]);
        match page {
            Shared::Grants(n) => self.grants.places[n] = to,
            Shared::Status(n) => self.grants.status_places[n] = to,
            Shared::Info => {
                self.shared_info = to;
                for v in self.vcpus.iter_mut().filter(|v| !v.info_registered) {
                    v.info = to << PAGE_SHIFT | v.info & 0xfff;
                }
            }
        }
    }

    pub(super) fn remove_from_physmap(&mut self, call: &mut Call<'_, '_>, arg: u64) -> Answer {
        let dom = guest::get::<2>(call.cpu, arg)?.u16(0);
        if !matches!(dom, domid::SELF | domid::GUEST) {
            return Err(Errno::ESRCH);
        }
        let gpfn = call.get_word(arg.wrapping_add(call.word()))?;
        if self.aliases.remove(&gpfn).is_some() {
            self.ram.set_alias(gpfn, None);
        } else if !self.take_back(gpfn) {
            return Err(Errno::EINVAL);
        }
        call.cpu.tlb.flush_all();
        Ok(0)
    }
}
