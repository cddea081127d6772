//! Trees of page tables, made and taken apart a table at a time, so that no hypercall takes longer than its share (Xen:
//! the preemptible forms of get_page_type and put_page_type in xen/arch/x86/mm.c).
//!
//! A tree grows from below: each table that is complete is *held* until the one above it uses it. In between all that
//! there is are tables as others are; what the guest does with them meanwhile is checked as always. A tree falls from
//! above: a table that nobody uses any more is *dying* until its entries have been given up.

use super::abi::pte;
use super::frames::PER_PAGE;
use super::mmu_types::{Kind, Types, bits};
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT};

/// Entries that are only passed by cost as much as one that is looked at.
const PASSED: u64 = 8;

impl Types {
    /// Makes tables of all that one of `kind` at `mfn` would lead to, as long as no more than `share` of work was done:
    /// then it can be used at once ([`Types::get`]), or that is refused at once. `false`: there is more to do. In any
    /// case [`Types::let_go_held`] has to come when it is used, or will not be.
    pub fn prepare(&mut self, ram: &GuestRam, mfn: u64, kind: Kind, share: u64) -> bool {
        if self.is_ready(mfn, kind) {
            return true;
        }
        let mut path = vec![(mfn, kind.level(), 0)];
        while let Some((table, level, index)) = path.pop() {
            if let Some((index, below)) = self.first_unready(ram, table, level, index) {
                path.push((table, level, index));
                path.push((below, level - 1, 0));
                continue;
            }
            if path.is_empty() || self.get(ram, table, Kind::of_level(level)).is_err() {
                break;
            }
            self.held.push(table);
            if self.work > share {
                return false;
            }
        }
        true
    }

    /// Gives up what [`Types::prepare`] holds.
    pub fn let_go_held(&mut self) {
        for mfn in core::mem::take(&mut self.held) {
            self.put(mfn);
        }
    }

    /// Would one more use as a table of this kind be no work, or be refused without any?
    fn is_ready(&self, mfn: u64, kind: Kind) -> bool {
        let frame = usize::try_from(mfn).ok().and_then(|n| self.frames.get(n));
        frame.is_none_or(|f| f.absent || f.uses > 0 || f.kind == kind && f.dying)
    }

    /// The first entry from `index` on whose table is not ready, and that table. None either if the entries up to there
    /// hold what is refused.
    fn first_unready(&mut self, ram: &GuestRam, table: u64, level: u8, index: u64) -> Option<(u64, u64)> {
        if level < 2 {
            return None;
        }
        for index in index..PER_PAGE {
            let entry = self.read(ram, (table << PAGE_SHIFT) + 8 * index);
            self.work += u64::from(index % PASSED == 0);
            if entry & pte::P == 0 || Self::reserved(level, index) {
                continue;
            }
            let below = (entry & pte::ADDR) >> PAGE_SHIFT;
            if entry & !bits(level) != 0 || !self.owned(below) {
                return None;
            }
            let (now, wanted) = (self.kind(below), Kind::of_level(level - 1));
            let linear = entry & pte::RW == 0 && (below == table || now.level() == level);
            match () {
                () if linear || now == wanted => {}
                () if now != Kind::None => return None,
                () if self.is_ready(below, wanted) => {}
                () => return Some((index, below)),
            }
        }
        None
    }

    /// Takes dying tables apart, as long as no more than `share` of work was done. `true`: there are no more.
    pub fn take_dying(&mut self, ram: &GuestRam, share: u64) -> bool {
        while self.work <= share {
            let Some(mfn) = self.dying.pop() else { return true };
            let Some(f) = self.frames.get_mut(mfn as usize) else { continue };
            f.listed = false;
            self.take_apart(ram, mfn);
        }
        self.dying.is_empty()
    }

    /// Gives up what the entries of a table lead to, if it is dying.
    pub fn take_apart(&mut self, ram: &GuestRam, mfn: u64) {
        let Ok(f) = self.frame(mfn) else { return };
        if !core::mem::take(&mut f.dying) {
            return;
        }
        let level = f.kind.level();
        self.work += PER_PAGE;
        for index in 0..PER_PAGE {
            let entry = self.read(ram, (mfn << PAGE_SHIFT) + 8 * index);
            self.put_entry(mfn, level, index, entry);
        }
    }
}
