//! Which blocks become a region.

use super::{BLOCK_APART, Start};
use crate::cpu::Cpu;
use crate::cpu::mode::key;
use crate::decode::cache::{self, CodeCache};
use crate::decode::insn::{Insn, opnd};
use crate::isa::{self, Compile, hot};
use crate::mem::{PAGE_SHIFT, PAGE_SIZE};
use crate::size::Size;
use alloc::collections::{BinaryHeap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

/// Most instructions in a region: compilers' time grows faster than their number.
const MAX_INSNS: usize = 400;
/// Most pages it is made from.
const MAX_PAGES: usize = 6;
/// Most places that a switch leads to within the region, and how far away.
const MAX_TARGETS: usize = 32;
pub const SWITCH: u64 = PAGE_SIZE;
/// Most places that a return is compared with.
const MAX_RETURNS: usize = 6;

/// A block of the region.
pub struct Block {
    /// Its head record.
    pub head: u32,
    /// Where it begins, from the beginning of the region's page.
    pub at: i64,
    /// Its bytes.
    pub bytes: i64,
    /// Is it the first, a function that is called, where a call comes back to, or behind an instruction that pauses, or
    /// did a switch lead there?
    pub entry: bool,
    pub insns: Vec<Insn>,
    /// Where its last instruction has led that may lead anywhere.
    pub targets: Vec<i64>,
    /// Are accesses that differ by a constant often in different pages?
    pub apart: bool,
}

impl Block {
    /// Where the branch at its end leads, from the beginning of the page, if that is fixed.
    pub fn target(&self, bits32: bool) -> Option<i64> {
        let last = self.insns.last()?;
        let op = hot::op(last.op)?;
        let fixed = matches!(op, isa::Op::Jcc | isa::Op::Jcxz | isa::Op::Loop)
            || matches!(op, isa::Op::Jmp | isa::Op::Call) && last.a == opnd::IMM;
        // Branches of 16 bits cut RIP.
        (fixed && (last.size != Size::B2 || !bits32)).then(|| self.at + last.imm as i64)
    }
    /// Does it end with a near return?
    pub fn returns(&self) -> bool {
        self.insns.last().is_some_and(|i| hot::op(i.op) == Some(isa::Op::Ret))
    }
    /// The page it lies in, counted from the region's.
    pub fn page(&self) -> i64 {
        self.at >> PAGE_SHIFT
    }
    /// The page its last byte lies in; another one only if it is an instruction that crosses the boundary.
    pub fn last_page(&self) -> i64 {
        (self.at + self.bytes - 1) >> PAGE_SHIFT
    }
    /// Does it end with a call?
    pub fn calls(&self) -> bool {
        self.insns.last().is_some_and(|i| hot::op(i.op) == Some(isa::Op::Call))
    }
    /// Does it end with a jump that may lead anywhere?
    pub fn switches(&self) -> bool {
        self.insns.last().is_some_and(Insn::jumps_anywhere)
    }
    /// Does it end with an instruction that is called, and behind which there may be something to look at?
    pub fn pauses(&self) -> bool {
        let pauses = |op| isa::ends(op) && !matches!(isa::compile(op), Compile::Emit(_));
        self.insns.last().is_some_and(|i| i.repeated() || hot::op(i.op).is_some_and(pauses))
    }
    /// May it go on behind its end?
    pub fn falls_through(&self) -> bool {
        let last = self.insns.last().and_then(|i| hot::op(i.op));
        !matches!(last, Some(isa::Op::Jmp | isa::Op::Call | isa::Op::Ret))
    }
}

/// A block outside of the region that one inside leads to.
pub struct Link {
    /// Where it begins, from the beginning of the region's page.
    pub at: i64,
    /// Its head record.
    pub head: u32,
    /// Its guest-physical page.
    pub physical: u64,
}

/// What is found: blocks, and where their ways out lead within the region.
pub struct Graph {
    /// The first is the one it begins with.
    pub blocks: Vec<Block>,
    /// For each block, those it may lead to. For one that ends with a return: where the calls come back to that can
    /// have led there.
    pub next: Vec<Vec<u32>>,
    /// The pages of the blocks: counted from the region's, and guest-physical.
    pub pages: Vec<(i64, u64)>,
    /// Where fixed ways out of the region lead, as far as that is decoded.
    pub links: Vec<Link>,
    /// Is it 64-bit code?
    pub long: bool,
    /// Is a page that the TLB does not know looked up by a call? Else the region is left, which takes longer. A call that
    /// is hardly ever made costs half of the compilers' time, as everything has to be where it does not touch it.
    pub fills: bool,
}

impl Graph {
    /// The guest-physical page that is so many pages behind the region's.
    pub fn physical(&self, page: i64) -> u64 {
        self.pages.iter().find(|p| p.0 == page).map_or(0, |p| p.1)
    }
    /// The places that are furthest from the region's page of all that branches lead to, if they can lie where addresses
    /// are not canonical. What lies between is canonical if they are.
    pub fn targets(&self) -> Vec<i64> {
        let long = self.long;
        let targets = || self.blocks.iter().filter_map(|b| b.target(!long));
        let low = targets().min().filter(|&at| long && at < 0);
        let high = targets().max().filter(|&at| long && at >= PAGE_SIZE as i64);
        low.into_iter().chain(high).collect()
    }
    /// The block at a place.
    pub fn find(&self, at: i64) -> Option<u32> {
        self.blocks.iter().position(|b| b.at == at).map(|n| n as u32)
    }
    /// The block outside of the region at a place that a fixed way leads to.
    pub fn link(&self, at: i64) -> Option<&Link> {
        self.links.iter().find(|link| link.at == at)
    }
    /// The block behind one, if it may lead there and anything may have happened before.
    pub fn behind(&self, block: &Block) -> Option<u32> {
        let next = self.next.get(self.find(block.at)? as usize)?;
        let behind = |&n: &u32| self.blocks[n as usize].entry && self.blocks[n as usize].at == block.at + block.bytes;
        next.iter().copied().find(behind)
    }
    /// What [`Graph::next`] holds.
    fn edges(&self) -> Vec<Vec<u32>> {
        let bits32 = !self.long;
        let through = |b: &Block| b.falls_through().then_some(b.at + b.bytes);
        let direct = |b: &Block| {
            let targets = b.target(bits32).into_iter().chain(b.targets.iter().copied());
            targets.chain(through(b)).filter_map(|at| self.find(at)).collect()
        };
        let mut next: Vec<Vec<u32>> = self.blocks.iter().map(direct).collect();
        for b in self.blocks.iter().filter(|b| b.calls()) {
            let called = b.target(bits32).and_then(|at| self.find(at));
            let (Some(called), Some(back)) = (called, self.find(b.at + b.bytes)) else { continue };
            // The blocks of the function that is called; calls in it come back.
            let mut seen = vec![false; self.blocks.len()];
            let mut todo = vec![called];
            while let Some(n) = todo.pop() {
                let block = &self.blocks[n as usize];
                if core::mem::replace(&mut seen[n as usize], true) {
                    continue;
                }
                if block.calls() {
                    todo.extend(self.find(block.at + block.bytes));
                } else if block.returns() {
                    let back_to = &mut next[n as usize];
                    if back_to.len() < MAX_RETURNS && !back_to.contains(&back) {
                        back_to.push(back);
                    }
                } else {
                    todo.extend(&next[n as usize]);
                }
            }
        }
        next
    }
}

/// The guest-physical page of the code so far from the beginning of a region's page, if the TLB knows it.
fn fetched(cpu: &Cpu, start: Start, bits32: bool, at: i64) -> Option<u64> {
    let linear = (start.la & !(PAGE_SIZE - 1)).wrapping_add(at as u64);
    cpu.known_fetch_page(start.ring, if bits32 { linear & 0xffff_ffff } else { linear })
}

/// The guest-physical address of a place in a page.
fn place(page: u64, at: i64) -> u64 {
    page << PAGE_SHIFT | at as u64 & (PAGE_SIZE - 1)
}

/// The place of a guest-physical address in a page that is so many behind the region's.
fn in_page(page: i64, pa: u64) -> i64 {
    page << PAGE_SHIFT | (pa & (PAGE_SIZE - 1)) as i64
}

/// The blocks that can be reached from the first, as far as they are decoded: in its page, and in the pages its calls
/// and jumps lead to, if they are where the TLB says now.
pub fn discover(cpu: &Cpu, code: &CodeCache, start: Start, fills: bool) -> Option<Graph> {
    let mode = start.mode;
    if mode & key::FLAT == 0 || mode & key::CODE == key::CODE16 {
        return None;
    }
    let bits32 = mode & key::CODE != key::CODE64;
    let base = start.la & !(PAGE_SIZE - 1);
    let mut pages = vec![(0, start.pa >> PAGE_SHIFT)];
    // The guest-physical page that is so many pages behind the region's, if there may be one more.
    let mut physical = |page: i64| {
        pages.iter().find(|p| p.0 == page).map(|p| p.1).or_else(|| {
            let physical = fetched(cpu, start, bits32, page << PAGE_SHIFT).filter(|_| pages.len() < MAX_PAGES)?;
            pages.push((page, physical));
            Some(physical)
        })
    };
    let mut blocks: Vec<Block> = Vec::new();
    let mut todo = VecDeque::from([((start.la - base) as i64, true)]);
    // What has been seen running comes first, as long as there is room.
    let mut hot = BinaryHeap::new();
    let mut total = 0;
    while let Some((at, entry)) = hot.pop().map(|(_, at, entry)| (at, entry)).or_else(|| todo.pop_front()) {
        if let Some(known) = blocks.iter_mut().find(|b| b.at == at) {
            known.entry |= entry;
            continue;
        }
        let Some(page) = physical(at >> PAGE_SHIFT) else { continue };
        let Some(known) = code.find(cache::key(place(page, at), mode)) else { continue };
        let (count, bytes) = code.extent(known.head);
        let first = known.head as usize + 1;
        let insns = code.insns().range(first, first + count as usize).to_vec();
        let apart = code.apart(known.head) >= BLOCK_APART;
        let mut block = Block { head: known.head, at, bytes: bytes as i64, entry, insns, targets: Vec::new(), apart };
        if block.last_page() != block.page() && physical(block.last_page()) != known.second_page() {
            continue;
        }
        total += block.insns.len();
        if total > MAX_INSNS && !blocks.is_empty() {
            break;
        }
        let mut next: Vec<(i64, bool)> = block.target(bits32).map(|to| (to, block.calls())).into_iter().collect();
        if block.falls_through() || block.calls() {
            next.push((at + bytes as i64, block.calls() || block.pauses()));
        }
        if block.switches() {
            let page = at >> PAGE_SHIFT;
            let mut targets: Vec<i64> = (page - 1..=page + 1)
                .filter_map(|page| Some((page, fetched(cpu, start, bits32, page << PAGE_SHIFT)?)))
                .flat_map(|(page, physical)| code.targets_in(physical, mode).map(move |pa| in_page(page, pa)))
                .filter(|to| to.abs_diff(at) < SWITCH)
                .collect();
            targets.sort_unstable_by_key(|to| to.abs_diff(at));
            targets.truncate(MAX_TARGETS);
            next.extend(targets.iter().map(|&to| (to, true)));
            block.targets = targets;
        }
        for (at, entry) in next {
            let known = physical(at >> PAGE_SHIFT).and_then(|page| code.find(cache::key(place(page, at), mode)));
            match known.map_or(0, |b| code.samples(b.head)) {
                0 => todo.push_back((at, entry)),
                seen => hot.push((seen, at, entry)),
            }
        }
        blocks.push(block);
    }
    blocks.first()?;
    pages.retain(|&(page, _)| page == 0 || blocks.iter().any(|b| b.page() == page || b.last_page() == page));
    let mut graph = Graph { blocks, next: Vec::new(), pages, links: Vec::new(), long: !bits32, fills };
    graph.next = graph.edges();
    graph.links = links(cpu, code, &graph, start);
    Some(graph)
}

/// What [`Graph::links`] holds. An instruction that lies in two pages is no link: one comparison is not enough for it.
fn links(cpu: &Cpu, code: &CodeCache, graph: &Graph, start: Start) -> Vec<Link> {
    let bits32 = !graph.long;
    let mut links: Vec<Link> = Vec::new();
    for block in &graph.blocks {
        for at in block.target(bits32).into_iter().chain(block.falls_through().then_some(block.at + block.bytes)) {
            if graph.find(at).is_some() || links.iter().any(|link| link.at == at) {
                continue;
            }
            let Some(physical) = fetched(cpu, start, bits32, at) else { continue };
            let known = code.find(cache::key(place(physical, at), start.mode));
            links.extend(known.filter(|b| b.second_page().is_none()).map(|b| Link { at, head: b.head, physical }));
        }
    }
    links
}
