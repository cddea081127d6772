//! Where decoded instructions lie: an array that never moves, as generated code has addresses in it.
//!
//! Code that is rewritten again and again leaves places behind, which are used again: else the array would be full soon,
//! and everything dropped for the sake of one page. A place is free only when nobody can mean the block that was there.

use super::cursor::Sealed;
use super::insn::{Insn, link};
use alloc::vec::Vec;

/// Decoded instructions and records kept (32 bytes each).
pub const MAX_INSNS: usize = 512 * 1024;
/// Most instructions in a block.
pub const MAX_BLOCK: usize = 48;
/// Records of the longest block, and of the shortest.
const LONGEST: usize = MAX_BLOCK + 2;
const SHORTEST: usize = 3;
/// Places given up until they are made free, as that takes a look at all that may lead to them.
const MANY: usize = 1024;

/// All of them.
pub struct Arena {
    /// Instructions of all blocks, with their records; a leave record is the last.
    insns: Vec<Insn>,
    /// Where there is room for so many records.
    free: [Vec<u32>; LONGEST + 1],
    /// Head and leave records of dead blocks that somebody may still mean.
    dead: Vec<(u32, u32)>,
}

impl Default for Arena {
    fn default() -> Self {
        // All at once: lists that double copy themselves again and again, and each time leave a hole in a
        // WebAssembly heap, which never shrinks. What is not used yet is not touched, so it costs addresses only.
        let mut insns = Vec::with_capacity(MAX_INSNS);
        // Place 0 is no block's.
        insns.push(Insn::leave(0, link::UNKNOWN));
        Self { insns, free: core::array::from_fn(|_| Vec::new()), dead: Vec::new() }
    }
}

impl Arena {
    /// All instructions and records.
    #[inline]
    pub fn insns(&self) -> Sealed<'_> {
        Sealed::new(&self.insns).expect("blocks are added whole, with their leave records")
    }
    /// Where the array begins.
    pub fn start(&self) -> *const Insn {
        self.insns.as_ptr()
    }
    /// The record at a place.
    #[inline(always)]
    pub fn get(&self, at: u32) -> Option<&Insn> {
        self.insns.get(at as usize)
    }
    /// The same, to be changed.
    pub fn get_mut(&mut self, at: u32) -> Option<&mut Insn> {
        self.insns.get_mut(at as usize)
    }

    /// Adds a block with these records around it. Returns the places of both; `None`: there is no room.
    pub fn add(&mut self, head: Insn, insns: &[Insn], leave: Insn) -> Option<(u32, u32)> {
        let records = insns.len() + 2;
        let at = self.place(records)? as usize;
        if at == self.insns.len() {
            self.insns.push(head);
            self.insns.extend_from_slice(insns);
            self.insns.push(leave);
        } else {
            let place = self.insns.get_mut(at..at + records)?;
            let (first, rest) = place.split_first_mut()?;
            let (last, middle) = rest.split_last_mut()?;
            (*first, *last) = (head, leave);
            middle.copy_from_slice(insns);
        }
        Some((at as u32, (at + records - 1) as u32))
    }

    /// Room for so many records: where as many were, or at the end, or a part of where more were.
    fn place(&mut self, records: usize) -> Option<u32> {
        if let Some(at) = self.free.get_mut(records)?.pop() {
            return Some(at);
        }
        if self.insns.len() + records <= MAX_INSNS {
            return Some(self.insns.len() as u32);
        }
        let more = (records + SHORTEST..=LONGEST).find(|&n| !self.free[n].is_empty())?;
        let at = self.free[more].pop()?;
        self.free[more - records].push(at + records as u32);
        Some(at)
    }

    /// The block with these records is gone. Returns whether it is time to [`Arena::reclaim`].
    pub fn kill(&mut self, head: u32, leave: u32) -> bool {
        self.insns[leave as usize] = Insn::leave(0, link::NEVER);
        self.insns[head as usize].kill();
        self.dead.push((head, leave));
        self.dead.len() >= MANY
    }
    /// Makes the places of dead blocks free, but not those that generated code looks at. Nobody else knows them any more.
    pub fn reclaim(&mut self) {
        for (head, leave) in self.dead.drain(..) {
            if !self.insns[head as usize].is_watched() {
                self.free[(leave - head + 1) as usize].push(head);
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.insns.truncate(1);
        self.free.iter_mut().for_each(Vec::clear);
        self.dead.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::insn::NOTHING;

    fn add(arena: &mut Arena, n: usize) -> Option<(u32, u32)> {
        arena.add(Insn::head(n, 1), &[NOTHING; MAX_BLOCK][..n], Insn::leave(1, link::UNKNOWN))
    }

    #[test]
    fn places_are_used_again_when_nobody_means_them() {
        let mut arena = Arena::default();
        let (head, leave) = add(&mut arena, 5).unwrap();
        let watched = add(&mut arena, 5).unwrap();
        arena.get_mut(watched.0).unwrap().watch();
        assert_eq!((head, leave, watched.0), (1, 7, 8));
        arena.kill(head, leave);
        arena.kill(watched.0, watched.1);
        // Somebody may still look there.
        assert_eq!(add(&mut arena, 5), Some((15, 21)));
        arena.reclaim();
        assert_eq!(add(&mut arena, 5), Some((1, 7)));
        assert!(!arena.get(1).unwrap().is_dead() && arena.get(watched.0).unwrap().is_dead());
        assert_eq!(add(&mut arena, 5), Some((22, 28)));
    }

    #[test]
    fn a_full_arena_divides_longer_places() {
        let mut arena = Arena::default();
        let mut all = Vec::new();
        while let Some(block) = add(&mut arena, MAX_BLOCK) {
            all.push(block);
        }
        while add(&mut arena, 1).is_some() {}
        for &(head, leave) in all.iter().take(2) {
            arena.kill(head, leave);
        }
        arena.reclaim();
        // 50 records: 20, 20, and 10 are left.
        let (a, _) = add(&mut arena, 18).unwrap();
        let (b, _) = add(&mut arena, 18).unwrap();
        let (c, _) = add(&mut arena, 8).unwrap();
        assert_eq!((b, c), (a + 20, a + 40));
        assert!(add(&mut arena, MAX_BLOCK).is_some());
        assert_eq!(add(&mut arena, 1), None);
        arena.insns();
    }
}
