//! The block cache: straight runs of decoded instructions, found by guest-physical address and
//! mode, so that they survive every change of page tables. A block lies in one page; only the
//! single instruction that crosses into the next page makes a block of two.

use super::arena::{Arena, Room};
pub use super::arena::{MAX_BLOCK, MAX_INSNS};
use super::cursor::Sealed;
use super::insn::{Insn, link};
use crate::cpu::Cpu;
use crate::mem::PAGE_SHIFT;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Blocks kept; guests' blocks have more than this many instructions in the mean. Beyond that, or beyond [`MAX_INSNS`],
/// what is not in use is dropped.
const MAX_BLOCKS: usize = MAX_INSNS / 4;
/// Buckets of the hash table: 2 to this.
const BUCKET_BITS: u32 = 17;

/// A run of instructions.
///
/// The links between blocks are in its leave record ([`Insn::leave`]). Invariant: a link stays
/// within the page. So the mapping and the mode cannot differ, the target of a direct branch is
/// always the same block, and both die together.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Guest-physical address and mode ([`key`]).
    pub key: u64,
    /// Its head record in the arena.
    pub head: u32,
    /// Its leave record.
    leave: u32,
    /// Guest-physical page of the second page, plus one; 0 if there is none.
    second: u32,
    /// The next block of the same bucket, plus one.
    next: u32,
}

impl Block {
    /// The guest-physical page that it ends in, if that is another one.
    pub fn second_page(&self) -> Option<u64> {
        self.second.checked_sub(1).map(u64::from)
    }
    /// The guest-physical page that it begins in.
    fn page(&self) -> u32 {
        page_of(self.key)
    }
    /// All guest-physical pages that it lies in.
    fn pages(&self) -> impl Iterator<Item = u32> + use<> {
        let first = self.page();
        core::iter::once(first).chain(self.second.checked_sub(1).filter(move |&second| second != first))
    }
}

/// Guest-physical address and mode in one number.
#[inline(always)]
pub fn key(pa: u64, mode: u8) -> u64 {
    pa << 8 | u64::from(mode)
}

/// The guest-physical page of a [`key`].
fn page_of(key: u64) -> u32 {
    (key >> (8 + PAGE_SHIFT)) as u32
}

/// Where a jump to a linear address led the last time; so it does again if the address still means the same page and the
/// block still exists. Compiled code looks here, too (`jit/chain.rs`).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Jump {
    /// Linear address, mode and privilege ([`Cpu::jump_key`]).
    pub key: u64,
    /// Guest-physical page.
    pub page: u32,
    /// The block's head record.
    pub head: u32,
}

/// Entries of the jump cache.
pub const JUMPS: usize = 4096;

/// All decoded code.
pub struct CodeCache {
    arena: Arena,
    /// The blocks; dead ones have key `u64::MAX`.
    blocks: Vec<Block>,
    /// The numbers of dead ones.
    free: Vec<u32>,
    heads: Vec<u32>,
    jumps: Vec<Jump>,
    pages: BTreeMap<u32, Page>,
}

/// What a page of code has: its blocks, and where they lie.
#[derive(Default)]
struct Page {
    blocks: Vec<u32>,
    room: Room,
}

impl Default for CodeCache {
    fn default() -> Self {
        Self {
            arena: Arena::default(),
            blocks: Vec::with_capacity(MAX_BLOCKS),
            free: Vec::new(),
            heads: alloc::vec![0; 1 << BUCKET_BITS],
            jumps: alloc::vec![NO_JUMP; JUMPS],
            pages: BTreeMap::new(),
        }
    }
}

#[inline(always)]
fn bucket(key: u64) -> usize {
    (key ^ key >> 17).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> (usize::BITS - BUCKET_BITS)
}

/// A key that no jump has: not canonical, no such mode.
const NO_JUMP: Jump = Jump { key: 0x5555 << 48, page: 0, head: 0 };

impl CodeCache {
    /// What is mixed (XOR) into a linear address to make its key in the jump cache. The bits above a canonical address
    /// are copies of bit 47, so mode and privilege can be there.
    pub fn jump_context(mode: u8, ring: u8) -> u64 {
        u64::from(mode | ring << 4) << 48
    }
    /// The head record of the block at CS:RIP, if a jump there is known.
    #[inline(always)]
    pub fn jump(&self, cpu: &Cpu) -> Option<u32> {
        self.jump_in(cpu.jump_key(), cpu.known_fetch_page(cpu.ring(), cpu.code_address())?)
    }
    /// The same, if the guest-physical page that CS:RIP is in is known.
    #[inline(always)]
    pub fn jump_in(&self, key: u64, page: u64) -> Option<u32> {
        let j = &self.jumps[Self::slot(key)];
        (j.key == key && u64::from(j.page) == page && self.lives(j.head)).then_some(j.head)
    }
    /// Remembers that a jump led to the block with this head record, at a guest-physical address.
    #[inline(always)]
    pub fn set_jump(&mut self, key: u64, pa: u64, head: u32) {
        self.jumps[Self::slot(key)] = Jump { key, page: (pa >> PAGE_SHIFT) as u32, head };
    }
    /// Blocks of a guest-physical page in one mode that jumps have led to which may lead anywhere: where they begin.
    pub fn targets_in(&self, page: u64, mode: u8) -> impl Iterator<Item = u64> {
        let all = self.pages.get(&(page as u32)).into_iter().flat_map(|page| &page.blocks);
        all.map(|&n| &self.blocks[n as usize]).filter_map(move |b| {
            let here = u64::from(b.page()) == page && b.key as u8 == mode;
            (here && self.arena.get(b.head).is_some_and(Insn::is_target)).then_some(b.key >> 8)
        })
    }
    /// A jump that may lead anywhere has led to the block with this head record.
    pub fn set_target(&mut self, head: u32) {
        if let Some(record) = self.arena.get_mut(head) {
            record.set_target();
        }
    }
    /// Does the block with this head record exist?
    #[inline(always)]
    fn lives(&self, head: u32) -> bool {
        self.arena.get(head).is_some_and(|head| !head.is_dead())
    }
    #[inline(always)]
    fn slot(key: u64) -> usize {
        (key ^ key >> 12) as usize & (JUMPS - 1)
    }

    /// All instructions and records.
    #[inline]
    pub fn insns(&self) -> Sealed<'_> {
        self.arena.insns()
    }
    /// Where the arena lies, which never moves.
    pub fn arena(&self) -> *const Insn {
        self.arena.start()
    }
    /// Where the jump cache lies, which never moves.
    pub fn jumps(&self) -> *const Jump {
        self.jumps.as_ptr()
    }
    /// Is the block with this head record compiled?
    pub fn compiled(&self, head: u32) -> bool {
        self.compiled_as(head).is_some()
    }
    /// Generated code looks at this head record from now on.
    pub fn watch(&mut self, head: u32) {
        if let Some(record) = self.arena.get_mut(head) {
            record.watch();
        }
    }
    /// The function, and its entry, in which the block with this head record is compiled.
    pub fn compiled_as(&self, head: u32) -> Option<(u32, u32)> {
        self.arena.get(head).and_then(Insn::compiled)
    }
    /// See [`CodeCache::compiled_as`].
    pub fn set_compiled(&mut self, head: u32, to: Option<(u32, u32)>) {
        if let Some(record) = self.arena.get_mut(head) {
            record.set_compiled(to);
        }
    }
    /// The block with this head record was seen.
    pub fn count_sample(&mut self, head: u32) {
        if let Some(record) = self.arena.get_mut(head) {
            record.count_sample();
        }
    }
    /// How often the block with this head record was seen.
    pub fn samples(&self, head: u32) -> u16 {
        self.arena.get(head).map_or(0, Insn::block_samples)
    }
    /// How often an access of the block with this head record was not in the page of one before it.
    pub fn apart(&self, head: u32) -> u8 {
        self.arena.get(head).map_or(0, Insn::block_apart)
    }
    /// See [`CodeCache::apart`].
    pub fn set_apart(&mut self, head: u32, times: u8) {
        if let Some(record) = self.arena.get_mut(head) {
            record.set_apart(times);
        }
    }
    /// Instructions and bytes of the block with this head record.
    pub fn extent(&self, head: u32) -> (u64, u64) {
        self.arena.get(head).map_or((0, 0), |head| (head.block_count(), head.block_bytes()))
    }
    /// Lets a leave record know where `side` leads.
    pub fn tie(&mut self, leave: u32, side: bool, to: u32) {
        if let Some(record) = self.arena.get_mut(leave) {
            if record.link(side) == link::UNKNOWN {
                record.set_link(side, to);
            }
        }
    }

    /// The block with this key.
    #[inline]
    pub fn find(&self, key: u64) -> Option<Block> {
        let mut b = self.heads[bucket(key)];
        while b != 0 {
            let block = &self.blocks[b as usize - 1];
            if block.key == key {
                return Some(*block);
            }
            b = block.next;
        }
        None
    }

    /// Adds a block. `linkable`: it ends with a direct branch or nowhere special, in flat code. `None`: there is no room.
    pub fn add(&mut self, key: u64, insns: &[Insn], bytes: u16, second: Option<u64>, linkable: bool) -> Option<Block> {
        if self.free.is_empty() && self.blocks.len() == MAX_BLOCKS {
            return None;
        }
        let links = if linkable && second.is_none() { link::UNKNOWN } else { link::NEVER };
        let room = &mut self.pages.entry(page_of(key)).or_default().room;
        let (head, leave) = self.arena.add(room, Insn::head(insns.len(), bytes), insns, Insn::leave(bytes, links))?;
        let bucket = &mut self.heads[bucket(key)];
        let second = second.map_or(0, |p| p as u32 + 1);
        let block = Block { key, head, leave, second, next: *bucket };
        let n = match self.free.pop() {
            Some(n) => {
                self.blocks[n as usize] = block;
                n
            }
            None => {
                self.blocks.push(block);
                self.blocks.len() as u32 - 1
            }
        };
        *bucket = n + 1;
        for page in block.pages() {
            self.pages.entry(page).or_default().blocks.push(n);
        }
        Some(block)
    }

    /// Pages with blocks.
    pub fn pages(&self) -> Vec<u32> {
        self.pages.keys().copied().collect()
    }
    /// Is so much in use that there will soon be no room again?
    pub fn is_crowded(&self) -> bool {
        self.arena.is_crowded() || self.blocks.len() - self.free.len() > MAX_BLOCKS / 4 * 3
    }

    /// Forgets all blocks of a page. Nobody runs any of them.
    pub fn drop_page(&mut self, page: u32) {
        let Page { blocks, room } = self.pages.remove(&page).unwrap_or_default();
        for n in blocks {
            self.unlink(n);
        }
        if self.arena.give_back(room) {
            self.reclaim();
        }
    }

    fn unlink(&mut self, n: u32) {
        let block = self.blocks[n as usize];
        let b = bucket(block.key);
        if self.heads[b] == n + 1 {
            self.heads[b] = block.next;
        } else {
            let mut at = self.heads[b];
            while at != 0 {
                let before = &mut self.blocks[at as usize - 1];
                at = before.next;
                if at == n + 1 {
                    before.next = block.next;
                    break;
                }
            }
        }
        for page in block.pages() {
            if let Some(others) = self.pages.get_mut(&page) {
                others.blocks.retain(|&other| other != n);
            }
        }
        self.blocks[n as usize].key = u64::MAX;
        self.free.push(n);
        self.arena.kill(block.head, block.leave);
    }

    /// Lets what dead blocks have left be used again.
    pub fn reclaim(&mut self) {
        for k in 0..JUMPS {
            if !self.lives(self.jumps[k].head) {
                self.jumps[k] = NO_JUMP;
            }
        }
        self.arena.reclaim();
    }

    /// Forgets everything; returns the pages that had code.
    pub fn clear(&mut self) -> Vec<u32> {
        let pages = core::mem::take(&mut self.pages).into_keys().collect();
        self.arena.clear();
        self.blocks.clear();
        self.free.clear();
        self.heads.fill(0);
        self.jumps.fill(NO_JUMP);
        pages
    }
}
