//! A disk whose data is outside (a file, a server): blocks are asked for when they are needed, and a bounded number of
//! them is kept. It cannot be written: an [`Overlay`](super::Overlay) over it can.

use super::{BlockBackend, Completion, Outcome, SECTOR, Sectors, Ticket};
use crate::device::put_state;
use crate::effect::{Effect, Input};
use std::collections::BTreeMap;

/// Sectors of a block: the least that is asked for, and how much is kept or forgotten together.
pub const BLOCK: u64 = 128;
/// Blocks that are asked for at once, at most.
const MAX_FETCH: u64 = 16;
/// Requests to the outside that are under way, at most.
const MAX_PENDING: usize = 16;

/// A block that is here.
struct Block {
    data: Box<[u8]>,
    used: u64,
}

/// A disk whose data is outside.
pub struct Fetched {
    disk: u8,
    sectors: u64,
    blocks: BTreeMap<u64, Block>,
    /// Blocks by when they were used last.
    by_use: BTreeMap<u64, u64>,
    uses: u64,
    /// Blocks that may be here at a time.
    capacity: usize,
    /// What was asked for.
    pending: BTreeMap<Ticket, Sectors>,
    next: u64,
}

impl Fetched {
    /// Disk number `disk` of the machine, with so many bytes of memory.
    pub fn new(disk: u8, sectors: u64, cache: u64) -> Self {
        // What one request brings has to be there until it was used.
        let capacity = (cache / (BLOCK * SECTOR)).max(2 * MAX_FETCH) as usize;
        Self {
            disk,
            sectors,
            blocks: BTreeMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            capacity,
            pending: BTreeMap::new(),
            next: 0,
        }
    }

    /// Moves a block to the end of those that may be forgotten.
    fn touch(&mut self, n: u64) {
        if let Some(block) = self.blocks.get_mut(&n) {
            self.by_use.remove(&block.used);
            self.uses += 1;
            block.used = self.uses;
            self.by_use.insert(self.uses, n);
        }
    }

    fn keep(&mut self, n: u64, data: &[u8]) {
        self.blocks.insert(n, Block { data: data.into(), used: 0 });
        self.touch(n);
        while self.blocks.len() > self.capacity {
            let Some((_, old)) = self.by_use.pop_first() else { break };
            self.blocks.remove(&old);
        }
    }

    /// Blocks that are here.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.blocks.len()
    }
    fn pending(&self, n: u64) -> Option<Ticket> {
        let at = n * BLOCK;
        self.pending.iter().find(|(_, s)| (s.first..s.first + s.count).contains(&at)).map(|(&t, _)| t)
    }

    /// Asks for all blocks from `first` to `last` that are neither here nor on their way. The ticket that brings `first`.
    fn fetch(&mut self, out: &mut Vec<Effect>, first: u64, last: u64) -> Ticket {
        let mut n = first;
        while n <= last && self.pending.len() < MAX_PENDING {
            let missing = |n: u64| n <= last && !self.blocks.contains_key(&n) && self.pending(n).is_none();
            let run = (0..MAX_FETCH).take_while(|k| missing(n + k)).count() as u64;
            if run > 0 {
                let at = n * BLOCK;
                let what = Sectors { first: at, count: (run * BLOCK).min(self.sectors - at) };
                let ticket = Ticket(self.next);
                self.next += 1;
                self.pending.insert(ticket, what);
                out.push(Effect::BlockRead {
                    disk: self.disk,
                    first: what.first,
                    count: what.count as u32,
                    ticket: ticket.0,
                });
            }
            n += run.max(1);
        }
        // With too much under way already, anything that ends is a reason to look again.
        let any = self.pending.first_key_value().map(|(&t, _)| t);
        self.pending(first).or(any).expect("something was asked for")
    }
}

impl BlockBackend for Fetched {
    fn sectors(&self) -> u64 {
        self.sectors
    }
    fn read_only(&self) -> bool {
        true
    }
    fn read(&mut self, out: &mut Vec<Effect>, what: Sectors, to: &mut dyn FnMut(&[u8])) -> Outcome {
        if !self.has(what) {
            return Outcome::Failed;
        }
        let mut rest = what;
        while rest.count > 0 {
            let (n, within) = (rest.first / BLOCK, rest.first % BLOCK);
            let count = rest.count.min(BLOCK - within);
            let Some(block) = self.blocks.get(&n) else {
                return Outcome::Pending(self.fetch(out, n, (rest.first + rest.count - 1) / BLOCK));
            };
            to(&block.data[(within * SECTOR) as usize..((within + count) * SECTOR) as usize]);
            self.touch(n);
            rest = rest.skip(count);
        }
        Outcome::Done
    }
    fn write(&mut self, _out: &mut Vec<Effect>, _what: Sectors, _from: &mut dyn FnMut(&mut [u8])) -> Outcome {
        Outcome::Failed
    }
    fn input(&mut self, input: &Input) -> Option<Completion> {
        let Input::BlockData { disk, ticket, bytes } = input else { return None };
        if *disk != self.disk {
            return None;
        }
        let ticket = Ticket(*ticket);
        let what = self.pending.remove(&ticket)?;
        let Some(bytes) = bytes.as_ref().filter(|b| b.len() as u64 == what.count * SECTOR) else {
            return Some(Completion { ticket, ok: false });
        };
        for (k, data) in (0..).zip(bytes.chunks((BLOCK * SECTOR) as usize)) {
            self.keep(what.first / BLOCK + k, data);
        }
        Some(Completion { ticket, ok: true })
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        // What is here decides what the guest has to wait for.
        put_state(out, &self.next);
        for (Ticket(ticket), what) in &self.pending {
            put_state(out, &(ticket, what.first, what.count));
        }
        self.by_use.values().for_each(|n| put_state(out, n));
    }
}
