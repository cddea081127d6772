//! Translations of the upper half of the address space that outlast a paravirtualized guest's flushes.
//!
//! A processor has to drop what a flush names, as it does not know what has changed. The hypervisor of a PV guest does: it
//! makes every change of a page table itself. The kernel's half is the same in all address spaces and hardly changes, so
//! its translations are kept like those of global pages; what went through a page table whose entry has changed is
//! dropped. Which tables that are is known ([`page::WALKED`]), and where each frame is mapped, which is one place of the
//! kernel's as a rule.
//!
//! Without this a guest that maps and unmaps memory takes four times as long: its kernel meets an empty TLB several times
//! per system call.

use super::Cpu;
use super::mode::ctx;
use super::paging::{A, ADDR, D, P, RW, US, XD};
use crate::mem::{PAGE_SHIFT, PAGE_SIZE, page};
use alloc::vec::Vec;

/// What is known of them.
#[derive(Default)]
pub(crate) struct Kept {
    /// Tables with [`page::WALKED`].
    walked: Vec<u64>,
    /// By frame: [`NOWHERE`], the page of the upper half that has led there, or [`MANY`].
    places: Vec<u64>,
    /// One of many places of a frame has changed: with the next flush all is dropped.
    stale: bool,
}

/// No page of the upper half.
const NOWHERE: u64 = 0;
/// Several pages.
const MANY: u64 = 1;

/// Bits of an entry of which a translation with fewer is no mistake; XD takes away.
const GIVES: u64 = P | RW | US | A | D;
/// The page of a linear address.
const PAGE: u64 = !(PAGE_SIZE - 1);

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

    /// There is a translation of `la` to this frame now, which may be one that is kept.
    #[inline(always)]
    pub(super) fn note_place(&mut self, la: u64, frame: u64) {
        if self.keeps(la) {
            self.keep_place(la, frame);
        }
    }

    fn keep_place(&mut self, la: u64, frame: u64) {
        let pages = self.ram.len() >> PAGE_SHIFT;
        let places = &mut self.kept.places;
        places.resize(pages as usize, NOWHERE);
        let page = la & PAGE;
        match places.get_mut(frame as usize) {
            Some(place) if *place == NOWHERE || *place == page => *place = page,
            Some(place) => *place = MANY,
            // An alias beyond the end of RAM: the hypervisor's own pages, whose changes it flushes itself.
            None => {}
        }
    }

    /// An entry of a page table of this level (4: the top), at guest-physical `at`, which was present, has changed.
    pub fn entry_changed(&mut self, at: u64, level: u8, old: u64, new: u64) {
        let kept = match level {
            4 => at >> 3 & 0x1ff >= UPPER_SLOT,
            _ => self.ram.flags(at >> PAGE_SHIFT) & page::WALKED != 0,
        };
        if level > 1 {
            // Whatever it led to may be no page table any more.
            self.stats.tlb_flushes += 1;
            if kept { self.flush_everything() } else { self.tlb.flush_local() }
        } else if kept && ((old ^ new) & ADDR | old & !new & GIVES | new & !old & XD) != 0 {
            let place = self.kept.places.get_mut(((old & ADDR) >> PAGE_SHIFT) as usize);
            match place.map_or(NOWHERE, core::mem::take) {
                NOWHERE => {}
                MANY => self.kept.stale = true,
                la => self.tlb.flush_page(la),
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

    /// Drops all there is, if some of it is stale and nobody knows what. Did it?
    fn flush_stale(&mut self) -> bool {
        let stale = self.kept.stale;
        if stale {
            self.flush_everything();
        }
        stale
    }

    fn flush_everything(&mut self) {
        self.tlb.flush_all();
        for table in self.kept.walked.drain(..) {
            self.ram.change_flags(table, 0, page::WALKED);
        }
        // Whatever is mapped from now on is noted again; places that are not true any more cost a look.
        self.kept.stale = false;
    }
}
