//! The software TLB: translations that loads, stores and fetches may use with one compare.
//!
//! An entry serves an access of `n` bytes at `la` if `la - tag <= 4096 - n` (unsigned), which
//! checks page and crossing at once (measured best in design/jit.md 3c). A write entry exists
//! only for a dirty, writable page without decoded code. Four contexts keep privilege (and
//! RFLAGS.AC under SMAP) apart, so a change of CPL costs nothing.

use crate::mem::{PAGE_SHIFT, PAGE_SIZE};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// log2 of the entries per context.
pub const CTX_SHIFT: u32 = 12;
/// Entries per context.
const ENTRIES: usize = 1 << CTX_SHIFT;
/// Contexts.
const CONTEXTS: usize = 4;
/// Entries per kind.
pub const LEN: usize = ENTRIES * CONTEXTS;

/// One translation.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Entry {
    /// Linear address of the page, or of one that this slot never serves.
    pub tag: u64,
    /// Add to the linear address: the host's address (loads, stores) or the guest-physical
    /// one (fetches).
    pub add: u64,
}

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Loads.
    Read = 0,
    /// Stores.
    Write = 1,
    /// Instruction fetches.
    Exec = 2,
}

/// Properties of a filled entry that decide what flushes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fill {
    /// From a global page.
    pub global: bool,
    /// From a page larger than 4 KiB.
    pub large: bool,
}

/// 64 entries' worth of bookkeeping.
#[derive(Clone, Copy, Default)]
struct Group {
    used: u64,
    global: u64,
    large: u64,
}

/// All translations of one CPU.
pub struct Tlb {
    /// Load translations.
    pub read: Box<[Entry; LEN]>,
    /// Store translations.
    pub write: Box<[Entry; LEN]>,
    /// Fetch translations.
    pub exec: Box<[Entry; LEN]>,
    groups: [[Group; LEN / 64]; 3],
    /// Which GiBs (linear address >> 30) large pages were filled from; `None`: too many to list.
    large: Option<Vec<u64>>,
}

/// What slot `i` holds while it has no translation: the tag of a page that is looked up in other slots only, and is not
/// next to one that is looked up here (compiled code asks for what lies in front of an address as well), so that
/// no address matches, canonical or not (a hit skips that check).
const fn empty(i: usize) -> Entry {
    Entry { tag: ((i & 2) as u64 ^ 2) << PAGE_SHIFT, add: 0 }
}

impl Default for Tlb {
    fn default() -> Self {
        // Through a Vec: an array this large must not pass over the stack.
        let table = || {
            let entries: Vec<Entry> = (0..LEN).map(empty).collect();
            entries.into_boxed_slice().try_into().expect("LEN entries")
        };
        Self {
            read: table(),
            write: table(),
            exec: table(),
            groups: [[Group::default(); LEN / 64]; 3],
            large: Some(Vec::new()),
        }
    }
}

/// The index of `la` in a context.
#[inline(always)]
pub fn index(ctx: u32, la: u64) -> usize {
    ((la >> PAGE_SHIFT) as usize & (ENTRIES - 1) | ctx as usize) & (LEN - 1)
}

/// Does `entry` serve `n` bytes at `la`?
#[inline(always)]
pub fn hit(entry: &Entry, la: u64, n: u64) -> bool {
    la.wrapping_sub(entry.tag) <= PAGE_SIZE - n
}

impl Tlb {
    fn table(&mut self, kind: Kind) -> &mut [Entry; LEN] {
        match kind {
            Kind::Read => &mut self.read,
            Kind::Write => &mut self.write,
            Kind::Exec => &mut self.exec,
        }
    }

    /// Installs the translation of the page of `la` in a context (already shifted).
    pub fn fill(&mut self, kind: Kind, ctx: u32, la: u64, add: u64, how: Fill) {
        let i = index(ctx, la);
        self.table(kind)[i] = Entry { tag: la & !(PAGE_SIZE - 1), add };
        let (g, bit) = (&mut self.groups[kind as usize][i / 64], 1u64 << (i % 64));
        g.used |= bit;
        g.global = if how.global { g.global | bit } else { g.global & !bit };
        if how.large {
            self.note_large(la >> 30);
        }
        let g = &mut self.groups[kind as usize][i / 64];
        g.large = if how.large { g.large | bit } else { g.large & !bit };
    }

    fn note_large(&mut self, gib: u64) {
        if let Some(list) = &mut self.large {
            if !list.contains(&gib) {
                if list.len() == MAX_LARGE {
                    self.large = None;
                } else {
                    list.push(gib);
                }
            }
        }
    }

    /// Drops the entries `pick` chooses among the used ones of each group, if `also` agrees.
    #[inline(always)]
    fn drop_where(&mut self, kinds: &[Kind], pick: impl Fn(&Group) -> u64, also: impl Fn(&Entry) -> bool) {
        for &kind in kinds {
            let table = match kind {
                Kind::Read => &mut self.read,
                Kind::Write => &mut self.write,
                Kind::Exec => &mut self.exec,
            };
            for (group, entries) in self.groups[kind as usize].iter_mut().zip(table.chunks_exact_mut(64)) {
                let mut bits = pick(group) & group.used;
                while bits != 0 {
                    let b = bits.trailing_zeros();
                    bits &= bits - 1;
                    let entry = &mut entries[b as usize];
                    if also(entry) {
                        // 64 is even: the slot's parity is the bit's.
                        *entry = empty(b as usize);
                        group.used &= !(1 << b);
                    }
                }
            }
        }
    }

    /// Drops everything.
    pub fn flush_all(&mut self) {
        self.drop_where(&ALL, |g| g.used, |_| true);
        self.large = Some(Vec::new());
    }

    /// Drops everything that is not global (MOV to CR3).
    pub fn flush_local(&mut self) {
        self.drop_where(&ALL, |g| g.used & !g.global, |_| true);
    }

    /// Drops everything in one context (not shifted), or everything that is not global.
    pub fn flush_context(&mut self, ctx: u32, keep_global: bool) {
        let at = (ctx as usize % CONTEXTS) * ENTRIES / 64..(ctx as usize % CONTEXTS + 1) * ENTRIES / 64;
        for kind in ALL {
            for n in at.clone() {
                let group = &mut self.groups[kind as usize][n];
                let mut bits = group.used & if keep_global { !group.global } else { u64::MAX };
                group.used &= !bits;
                let entries = &mut self.table(kind)[64 * n..64 * (n + 1)];
                while bits != 0 {
                    let b = bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    entries[b] = empty(b);
                }
            }
        }
    }

    /// Drops the page of `la` in all contexts, and the whole large page it lies in (SDM 3A 4.10.4.1).
    pub fn flush_page(&mut self, la: u64) {
        for kind in ALL {
            for c in 0..CONTEXTS as u32 {
                let i = index(c << CTX_SHIFT, la);
                if hit(&self.table(kind)[i], la, 1) {
                    self.table(kind)[i] = empty(i);
                    self.groups[kind as usize][i / 64].used &= !(1 << (i % 64));
                }
            }
        }
        // No page is larger than 1 GiB; flushing too much is allowed.
        if self.large.as_ref().is_none_or(|list| list.contains(&(la >> 30))) {
            self.drop_where(&ALL, |g| g.large, |e| (e.tag ^ la) >> 30 == 0);
        }
    }

    /// Drops store entries that lead to the host page at `host` (it now holds decoded code).
    pub fn protect_host_page(&mut self, host: u64) {
        self.drop_where(&[Kind::Write], |g| g.used, |e| e.tag.wrapping_add(e.add) == host);
    }

    /// Number of valid entries, for the curious.
    pub fn used(&self) -> u32 {
        self.groups.iter().flatten().map(|g| g.used.count_ones()).sum()
    }
}

/// Most GiBs listed in `Tlb::large`.
const MAX_LARGE: usize = 32;
const ALL: [Kind; 3] = [Kind::Read, Kind::Write, Kind::Exec];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_slot_serves_no_address() {
        let tlb = Tlb::default();
        for high in [0, 1 << 47, 1 << 62, 1 << 63, u64::MAX << 24] {
            for page in 0..2 * ENTRIES as u64 {
                for low in [0, 1, 0x7ff, 0xfff] {
                    let la = high | page << PAGE_SHIFT | low;
                    for ctx in 0..CONTEXTS as u32 {
                        assert!(!hit(&tlb.read[index(ctx << CTX_SHIFT, la)], la, 1), "{la:x}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_dropped_slot_is_as_empty_as_a_fresh_one() {
        let mut tlb = Tlb::default();
        for la in [0x1000u64, 0x2000] {
            tlb.fill(Kind::Write, 0, la, 0, Fill::default());
            assert!(hit(&tlb.write[index(0, la)], la, 1));
            tlb.flush_page(la);
            assert_eq!(tlb.write[index(0, la)].tag, empty(index(0, la)).tag);
            tlb.fill(Kind::Write, 0, la, 0, Fill::default());
            tlb.flush_all();
            assert_eq!(tlb.write[index(0, la)].tag, empty(index(0, la)).tag);
        }
    }
}
