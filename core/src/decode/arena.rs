//! Where decoded instructions lie: an array that never moves, as generated code has addresses in it.
//!
//! Each page of guest code takes chunks of it, and gives them back as a whole. Code that is rewritten again and again, or
//! is not run any more, would fill the array otherwise. A chunk is used again only when nobody can mean what was there.

use super::cursor::Sealed;
use super::insn::{HEAD, Insn, link};
use alloc::vec::Vec;

/// Decoded instructions and records kept (32 bytes each).
pub const MAX_INSNS: usize = 1008 * 1024;
/// Most instructions in a block.
pub const MAX_BLOCK: usize = 48;
/// Records in a chunk: more than the longest block has.
const CHUNK: usize = 64;
const _: () = assert!(MAX_BLOCK + 2 <= CHUNK && MAX_INSNS.is_multiple_of(CHUNK));
/// Chunks given back until they are free, as that takes a look at all that may lead there.
const MANY: usize = 64;

/// All of them.
pub struct Arena {
    /// Instructions of all blocks, with their records; a leave record is the last.
    insns: Vec<Insn>,
    /// Chunks to be used again: where they begin.
    free: Vec<u32>,
    /// Chunks of blocks that somebody may still mean.
    dead: Vec<u32>,
}

/// What a page has of it.
#[derive(Default)]
pub struct Room {
    /// Where its chunks begin; the last has room.
    chunks: Vec<u32>,
    /// Records used in the last.
    used: usize,
}

impl Default for Arena {
    fn default() -> Self {
        // All at once: lists that double copy themselves again and again, and each time leave a hole in a
        // WebAssembly heap, which never shrinks. What is not used yet is not touched, so it costs addresses only.
        let mut insns = Vec::with_capacity(MAX_INSNS);
        // Place 0 is no block's.
        insns.resize(CHUNK, Insn::leave(0, link::UNKNOWN));
        Self { insns, free: Vec::new(), dead: Vec::new() }
    }
}

impl Arena {
    /// All instructions and records.
    #[inline]
    pub fn insns(&self) -> Sealed<'_> {
        Sealed::new(&self.insns).expect("a chunk begins as leave records, and blocks end with one")
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
    pub fn add(&mut self, room: &mut Room, head: Insn, insns: &[Insn], leave: Insn) -> Option<(u32, u32)> {
        let records = insns.len() + 2;
        if room.chunks.is_empty() || room.used + records > CHUNK {
            room.chunks.push(self.chunk()?);
            room.used = 0;
        }
        let at = *room.chunks.last()? as usize + room.used;
        let (first, rest) = self.insns.get_mut(at..at + records)?.split_first_mut()?;
        let (last, middle) = rest.split_last_mut()?;
        (*first, *last) = (head, leave);
        middle.copy_from_slice(insns);
        room.used += records;
        Some((at as u32, (at + records - 1) as u32))
    }

    fn chunk(&mut self) -> Option<u32> {
        let end = self.insns.len();
        self.free.pop().or_else(|| {
            (end < MAX_INSNS).then(|| {
                self.insns.resize(end + CHUNK, Insn::leave(0, link::NEVER));
                end as u32
            })
        })
    }

    /// The block with these records is gone.
    pub fn kill(&mut self, head: u32, leave: u32) {
        self.insns[leave as usize] = Insn::leave(0, link::NEVER);
        self.insns[head as usize].kill();
    }
    /// The blocks that were here are gone. Returns whether it is time to [`Arena::reclaim`].
    pub fn give_back(&mut self, room: Room) -> bool {
        self.dead.extend(room.chunks);
        self.dead.len() >= MANY
    }
    /// Makes the chunks of dead blocks free, but not those that generated code looks at. Nobody else knows them any more.
    pub fn reclaim(&mut self) {
        for at in self.dead.drain(..) {
            let chunk = &mut self.insns[at as usize..at as usize + CHUNK];
            if !chunk.iter().any(|i| i.op == HEAD && i.is_watched()) {
                chunk.fill(Insn::leave(0, link::NEVER));
                self.free.push(at);
            }
        }
    }
    /// Is so much in use that there will soon be no room again?
    pub fn is_crowded(&self) -> bool {
        self.insns.len() - (self.free.len() + self.dead.len()) * CHUNK > MAX_INSNS / 4 * 3
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.insns.truncate(CHUNK);
        self.free.clear();
        self.dead.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::insn::NOTHING;

    fn add(arena: &mut Arena, room: &mut Room, n: usize) -> Option<(u32, u32)> {
        arena.add(room, Insn::head(n, 1), &[NOTHING; MAX_BLOCK][..n], Insn::leave(1, link::UNKNOWN))
    }

    #[test]
    fn chunks_are_used_again_when_nobody_means_them() {
        let mut arena = Arena::default();
        let mut room = Room::default();
        assert_eq!(add(&mut arena, &mut room, 5), Some((64, 70)));
        assert_eq!(add(&mut arena, &mut room, 48), Some((71, 120)));
        assert_eq!(add(&mut arena, &mut room, 6), Some((128, 135)));
        arena.get_mut(128).unwrap().watch();
        for (head, leave) in [(64, 70), (71, 120), (128, 135)] {
            arena.kill(head, leave);
        }
        assert!(!arena.give_back(room));
        // Somebody may still look there.
        assert!(arena.get(64).unwrap().is_dead());
        let mut other = Room::default();
        assert_eq!(add(&mut arena, &mut other, 30), Some((192, 223)));
        arena.reclaim();
        assert_eq!(add(&mut arena, &mut other, 40), Some((64, 105)));
        assert_eq!(add(&mut arena, &mut other, 40), Some((256, 297)));
        assert!(!arena.get(64).unwrap().is_dead() && arena.get(128).unwrap().is_dead());
        arena.insns();
    }

    #[test]
    fn a_full_arena_says_so() {
        let mut arena = Arena::default();
        let mut rooms: Vec<Room> = (0..2).map(|_| Room::default()).collect();
        while add(&mut arena, &mut rooms[0], MAX_BLOCK).is_some() {
            add(&mut arena, &mut rooms[1], MAX_BLOCK);
        }
        assert!(arena.is_crowded());
        assert!(arena.give_back(rooms.swap_remove(0)));
        assert_eq!(add(&mut arena, &mut rooms[0], MAX_BLOCK), None);
        arena.reclaim();
        assert!(!arena.is_crowded());
        assert!(add(&mut arena, &mut rooms[0], MAX_BLOCK).is_some());
        arena.insns();
    }
}
