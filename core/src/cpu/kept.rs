//! Translations of the upper half of the address space that outlast a paravirtualized guest's flushes.
//!
//! A processor has to drop what a flush names, as it does not know what has changed. The hypervisor of a PV guest does: it
//! makes every change of a page table itself. The kernel's half is the same in all address spaces and hardly changes, so
//! its translations are kept like those of global pages; what went through a page table whose entry has changed is dropped
//! with the next flush (at once, if it was no entry of a leaf). Which tables that are is known: [`page::WALKED`].
//!
//! Without this a guest that maps and unmaps memory takes four times as long: its kernel meets an empty TLB several times
//! per system call.

use super::Cpu;
use super::mode::ctx;
use crate::mem::{PAGE_SHIFT, page};
use alloc::vec::Vec;

/// What is known of them.
#[derive(Default)]
pub(crate) struct Kept {
    /// Tables with [`page::WALKED`].
    walked: Vec<u64>,
    /// Frames that entries of such tables led to.
    stale: Vec<u64>,
    /// There are more than [`MOST_STALE`] of those.
    all_stale: bool,
}

/// Dropping translations takes a look at all of them, and at each of these.
const MOST_STALE: usize = 16;
/// Entries of an L4 below this are of the lower half.
const UPPER_SLOT: u64 = 256;

/// Does `la` lie in the upper half?
fn upper(la: u64) -> bool {
    la >> 63 != 0
}

impl Cpu {
    /// Does a translation of `la` outlast flushes?
    #[inline(always)]
    pub(super) fn keeps(&self, la: u64) -> bool {
        self.is_paravirtual() && upper(la)
    }

    /// The entries at these guest-physical addresses have led to a translation that is kept.
    pub(super) fn note_walk(&mut self, entries: &[u64]) {
        for at in entries {
            let table = at >> PAGE_SHIFT;
            if self.ram.flags(table) & page::WALKED == 0 {
                self.ram.change_flags(table, page::WALKED, 0);
                self.kept.walked.push(table);
            }
        }
    }

    /// An entry of a page table of this level (4: the top), at guest-physical `at`, has changed. It was present and led
    /// to the frame `old`.
    pub fn entry_changed(&mut self, at: u64, level: u8, old: u64) {
        let kept = match level {
            4 => at >> 3 & 0x1ff >= UPPER_SLOT,
            _ => self.ram.flags(at >> PAGE_SHIFT) & page::WALKED != 0,
        };
        if level > 1 {
            // Whatever it led to may be no page table any more.
            self.stats.tlb_flushes += 1;
            if kept { self.flush_everything() } else { self.tlb.flush_local() }
        } else if kept && !self.kept.stale.contains(&old) {
            if self.kept.stale.len() < MOST_STALE {
                self.kept.stale.push(old);
            } else {
                self.kept.all_stale = true;
            }
        }
    }

    /// Drops all translations that may not be what the page tables say.
    pub fn flush_guest(&mut self) {
        self.stats.tlb_flushes += 1;
        if !self.flush_stale() {
            self.tlb.flush_local();
        }
    }

    /// The kernel has other page tables now, and those of its users stay. `same`: the entries of the upper half are as
    /// they were.
    pub fn flush_guest_kernel(&mut self, same: bool) {
        self.stats.tlb_flushes += 1;
        if !same {
            self.flush_everything();
        } else if !self.flush_stale() {
            self.tlb.flush_context(ctx::SUPER, true);
        }
    }

    /// The users have other page tables now.
    pub fn flush_guest_users(&mut self) {
        self.stats.tlb_flushes += 1;
        self.tlb.flush_context(ctx::USER, false);
    }

    /// Drops what is stale of what is kept. `true`: that was everything there is.
    fn flush_stale(&mut self) -> bool {
        if self.kept.all_stale {
            self.flush_everything();
            return true;
        }
        let stale = core::mem::take(&mut self.kept.stale);
        if !stale.is_empty() {
            let hosts: Vec<u64> = stale.iter().filter_map(|&f| Some(self.ram.host(f << PAGE_SHIFT)?.value())).collect();
            self.tlb.drop_kept(&stale, &hosts);
        }
        false
    }

    fn flush_everything(&mut self) {
        self.tlb.flush_all();
        for table in self.kept.walked.drain(..) {
            self.ram.change_flags(table, 0, page::WALKED);
        }
        self.kept.stale.clear();
        self.kept.all_stale = false;
    }
}
