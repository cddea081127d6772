//! Which frames a guest has: giving some back, and getting them again (Xen: xen/common/memory.c, and for guests that see
//! more than they have, xen/arch/x86/mm/p2m-pod.c).

use super::abi::Errno;
use super::mmu_types::{Frame, Types};
use tabvisor_core::mem::GuestRam;

/// Frames that are looked at for the price of one entry of a table.
const LOOKED_AT: u64 = 16;

impl Types {
    /// Frames the guest has.
    pub fn count(&self) -> u64 {
        self.layout.guest - self.absent - self.on_demand
    }

    /// Could the guest give this frame back? A table that is dying is taken apart for that.
    ///
    /// # Errors
    /// EINVAL if it has not got it, EBUSY while it is used.
    pub fn can_release(&mut self, ram: &GuestRam, mfn: u64) -> Result<(), Errno> {
        self.take_apart(ram, mfn);
        let f = self.frame(mfn)?;
        if f.uses > 0 || f.refs > 0 || f.pinned { Err(Errno::EBUSY) } else { Ok(()) }
    }
    /// The guest gives a frame back.
    ///
    /// # Errors
    /// Those of [`Types::can_release`].
    pub fn release(&mut self, ram: &GuestRam, mfn: u64) -> Result<(), Errno> {
        self.can_release(ram, mfn)?;
        let f = self.frame(mfn)?;
        // It may still be in the list of dying tables, where nobody will find it dying. Translations for writing to it may
        // outlast this, too.
        *f = Frame { absent: true, listed: f.listed, was_writable: f.was_writable, ..Frame::default() };
        self.absent += 1;
        self.on_demand = self.on_demand.saturating_sub(1);
        self.next_absent = mfn;
        Ok(())
    }

    /// Is this a frame that the guest could have and has not?
    pub fn is_absent(&self, mfn: u64) -> bool {
        usize::try_from(mfn).ok().and_then(|n| self.frames.get(n)).is_some_and(|f| f.absent)
    }
    /// `1 << order` absent frames in a row, from a multiple of that on: those at `near`, else any.
    pub fn find_absent(&mut self, near: u64, order: u32) -> Option<u64> {
        let run = 1u64 << order;
        let all_absent = |types: &Self, first: u64| {
            let end = first.checked_add(run).filter(|_| first.is_multiple_of(run));
            end.is_some_and(|end| (first..end).all(|mfn| types.is_absent(mfn)))
        };
        if all_absent(self, near) {
            return Some(near);
        }
        if self.absent < run {
            return None;
        }
        let places = self.layout.guest / run;
        let begin = (self.next_absent / run).min(places.saturating_sub(1));
        let mut looked = 0;
        let found = (begin..places).chain(0..begin).map(|n| n * run).find(|&first| {
            looked += 1;
            all_absent(self, first)
        });
        self.work += looked / LOOKED_AT;
        found
    }
    /// The guest gets a frame.
    ///
    /// # Errors
    /// EINVAL if there is no such frame or the guest has it.
    pub fn populate(&mut self, mfn: u64) -> Result<(), Errno> {
        let f = usize::try_from(mfn).ok().and_then(|n| self.frames.get_mut(n)).filter(|f| f.absent);
        f.ok_or(Errno::EINVAL)?.absent = false;
        self.absent -= 1;
        self.next_absent = mfn + 1;
        Ok(())
    }
}
