//! The compiler: regions of hot blocks become WebAssembly functions, made from the same semantics that the interpreter
//! runs ([`crate::emit::Emit`]). A host ([`CodeHost`]) turns modules into functions; without one, the interpreter runs
//! everything.
//!
//! `blocks.rs` finds the blocks and `region.rs` writes their function (`frame.rs` what is around it, `chain.rs` the way
//! to the next); `build.rs` runs the semantics of an instruction and keeps what they do (`ir.rs`), which `lower.rs` and
//! `steps.rs` write down; `shape.rs` nests loops and branches.

mod blocks;
mod build;
mod chain;
pub mod code;
mod float;
mod frame;
pub mod helpers;
mod installed;
mod ir;
pub mod layout;
mod locals;
mod lower;
pub mod module;
pub mod region;
pub mod shape;
mod simd;
mod steps;
#[cfg(test)]
mod trial;
mod vector;
mod windows;
mod x87;

pub use build::{Builder, Leave};

use crate::cpu::Cpu;
use crate::decode::cache::{self, CodeCache};
use crate::decode::insn::slot;
use crate::mem::{PAGE_SHIFT, PAGE_SIZE};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use installed::{Installed, Regions};
use layout::Layout;
use region::{Exit, Region};

/// What a host allows the compiler.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of memory for compiled code, all that the host makes of it included. If there is more, all of it is dropped,
    /// and what is still hot is compiled again.
    pub code_bytes: u64,
    /// Samples that make a page hot ([`Jit::set_hot`]).
    pub hot: u16,
    /// Can functions end with the call of another? Else a region goes back to the run loop, which calls the next one.
    pub tail_calls: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { code_bytes: 128 << 20, hot: HOT, tail_calls: true }
    }
}

/// Turns modules into functions, and calls them.
pub trait CodeHost {
    /// What the compiler may do.
    fn limits(&self) -> Limits {
        Limits::default()
    }
    /// What modules will be made for, before the first.
    fn made_for(&mut self, _layout: &Layout) {}
    /// A free place in the table of functions; `None` if there is none.
    fn reserve(&mut self) -> Option<u32>;
    /// Compiles a module (`module.rs`), whose functions go to reserved places. `false` if that is not possible.
    fn install(&mut self, module: &[u8]) -> bool;
    /// Calls the function at a place with the number of an entry; returns that of an exit of the region it ended in.
    /// Generated code works on the CPU and the code cache, at the addresses it was made for.
    fn call(&mut self, cpu: &mut Cpu, code: &mut CodeCache, function: u32, entry: u32) -> u32;
    /// The place is free again, and what is there not needed any more.
    fn remove(&mut self, function: u32);
    /// All places are free again.
    fn clear(&mut self) {}
    /// How long modules have taken to compile, in microseconds; for people.
    fn took(&self) -> u64 {
        0
    }
}

/// Instructions the interpreter runs until a sample is taken of where it is.
const INTERVAL: u64 = 4096;
/// Samples of a page until the block of the last one is compiled.
const HOT: u16 = 256;
/// Samples of a page that has been rewritten again and again.
const COLD: u16 = 1 << 14;
/// Regions in a module, if there is so much to do at once. The fewer modules, the closer the machine code lies together,
/// and the cheaper each is: all of them import the table. As many samples as make a page hot are waited for them.
const BATCH: usize = 32;
/// Memory that a host needs for each byte of a module: the module, and what both of V8's compilers make of it (2.8 and 1.9
/// bytes a byte in node, of kernel code).
const EXPANSION: u64 = 6;
/// Times a region is left for a page that the TLB does not know, until it is compiled again with calls that look it up.
const MISSES: u32 = 1 << 13;
/// Times a region is left because an access is not in the page of one before, until it is compiled again
/// with each access looked up by itself in blocks in which that was so a quarter as often.
const APART: u32 = 64;
const BLOCK_APART: u8 = 16;
/// Each only if that happens once in so many instructions: leaving costs as much as some hundred, but what is compiled
/// then is slower where it does not happen, with calls up to three times.
const OFTEN_MISSED: u64 = 512;
const OFTEN_APART: u64 = 2048;
/// When a switch of a region was seen to lead out of it, to near places, so many times, it is compiled again with those.
const STRAYED: [u32; 4] = [8, 32, 128, 512];
/// Instructions after which a region is left although nothing has happened, so that the host may swap in better code.
const STRETCH: u64 = 1 << 20;

/// How often a page was seen, how often it has to be, and where it was seen last.
struct Samples {
    seen: u16,
    hot: u16,
    /// How many samples had been taken then.
    when: u64,
    last: Start,
}

/// Where a region begins: a block.
#[derive(Clone, Copy)]
pub struct Start {
    /// Its linear address.
    pub la: u64,
    /// Its guest-physical address.
    pub pa: u64,
    /// The mode it is decoded for.
    pub mode: u8,
    /// The privilege it was seen with.
    pub ring: u8,
}

impl Start {
    /// The head record of the block, if there is one.
    fn head(&self, code: &CodeCache) -> Option<u32> {
        code.find(cache::key(self.pa, self.mode)).map(|b| b.head)
    }
}

/// A region that is to be compiled.
struct Wanted {
    start: Start,
    /// Is there one that begins there, which was left too often?
    again: Option<u32>,
}

/// How often something happens.
#[derive(Clone, Copy)]
struct Rate {
    times: u32,
    /// Instructions that had been run when counting began.
    since: u64,
}

impl Rate {
    /// It happens. After so many `times`: was that within so many instructions each? Counting begins anew.
    fn count(&mut self, now: u64, times: u32, within: u64) -> Option<bool> {
        self.times += 1;
        (self.times >= times).then(|| {
            let often = now - self.since < u64::from(times) * within;
            *self = Self { times: 0, since: now };
            often
        })
    }
}

/// What [`Jit::run`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// It ran something; RIP says where to go on.
    Some,
    /// The budget is too small for the block, or there are events to look at first.
    Nothing,
    /// It stopped within a block: the interpreter goes on with the instruction that has this record.
    Within(usize),
}

/// Figures for people.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Modules compiled.
    pub modules: u64,
    /// Regions compiled.
    pub regions: u64,
    /// Instructions in them.
    pub insns: u64,
    /// Those of them that are not compiled but called.
    pub called: u64,
    /// Bytes of their modules.
    pub bytes: u64,
    /// Times a region was entered from the interpreter.
    pub entered: u64,
    /// Times one led to another.
    pub hops: u64,
    /// Times one was left in front of an instruction, which has to be interpreted.
    pub stopped: u64,
    /// Times one was left because the budget, or what may be run at once, was used up.
    pub short: u64,
    /// Times one was left with a fault.
    pub faults: u64,
    /// Instructions run in them.
    pub retired: u64,
    /// Bytes of memory that the host is taken to need for all code since it was dropped last.
    pub memory: u64,
    /// Microseconds the host has taken to compile modules.
    pub took: u64,
}

/// What is compiled, and what may become so.
pub struct Jit {
    host: Box<dyn CodeHost>,
    layout: Layout,
    regions: Regions,
    /// By guest-physical page.
    samples: BTreeMap<u64, Samples>,
    /// Samples that make a page hot.
    hot: u16,
    /// Instructions the interpreter may run until a sample is taken of where it is.
    pub(crate) until_sample: u64,
    /// Samples taken.
    taken: u64,
    /// Regions to be compiled in one module.
    waiting: Vec<Wanted>,
    /// Samples taken since the first of them came.
    waited: u32,
    /// Figures.
    pub stats: Stats,
}

impl Jit {
    /// A compiler for this CPU, whose code lies in `code`.
    pub fn new(mut host: Box<dyn CodeHost>, cpu: &Cpu, code: &CodeCache) -> Self {
        let Limits { hot, tail_calls, .. } = host.limits();
        let mut layout = Layout::new(cpu, code);
        layout.tail_calls = tail_calls;
        host.made_for(&layout);
        let mut jit = Self {
            host,
            layout,
            regions: Regions::default(),
            samples: BTreeMap::new(),
            hot,
            until_sample: 0,
            taken: 0,
            waiting: Vec::new(),
            waited: 0,
            stats: Stats::default(),
        };
        jit.set_hot(hot);
        jit
    }

    /// Compiles pages after this many samples; 0: compiles everything before it is run (tests).
    pub fn set_hot(&mut self, samples: u16) {
        self.hot = samples;
        self.until_sample = self.interval();
    }

    fn interval(&self) -> u64 {
        if self.hot == 0 { 0 } else { INTERVAL }
    }

    /// The interpreter was seen in front of the block with this head record, at guest-physical address `pa`, which is at
    /// RIP.
    pub fn sample(&mut self, cpu: &Cpu, code: &mut CodeCache, pa: u64, head: u32) {
        self.until_sample = self.interval();
        self.taken += 1;
        let last = Start { la: cpu.code_address(), pa, mode: cpu.mode, ring: cpu.ring() };
        let samples = self.samples.entry(pa >> PAGE_SHIFT).or_insert(Samples { seen: 0, hot: self.hot, when: 0, last });
        samples.seen = samples.seen.saturating_add(1);
        (samples.last, samples.when) = (last, self.taken);
        code.count_sample(head);
        if samples.seen >= samples.hot && !code.compiled(head) {
            samples.seen = 0;
            self.waiting.push(Wanted { start: last, again: None });
        }
        if self.waiting.is_empty() {
            return;
        }
        self.waited += 1;
        if self.waiting.len() >= BATCH || self.waited >= u32::from(self.hot) {
            self.compile(cpu, code);
        }
    }

    /// Compiles what is waiting, and what would be soon.
    fn compile(&mut self, cpu: &Cpu, code: &mut CodeCache) {
        self.waited = 0;
        let mut wanted = core::mem::take(&mut self.waiting);
        let warm = self.samples.values_mut().filter(|s| s.seen > s.hot / 4).take(BATCH.saturating_sub(wanted.len()));
        wanted.extend(warm.map(|s| {
            s.seen = 0;
            Wanted { start: s.last, again: None }
        }));
        let mut made = Vec::new();
        let mut functions = Vec::new();
        for Wanted { start, again } in wanted {
            let old = again
                .and_then(|n| self.regions.get(n))
                .filter(|r| (r.start.pa, r.start.mode) == (start.pa, start.mode));
            let counts = old.map(|r| (r.fills, r.strayed));
            if let (Some(_), Some(n)) = (counts, again) {
                self.regions.remove(n, &mut self.host, code);
            }
            let (fills, strayed) = counts.unwrap_or_default();
            if start.head(code).is_none_or(|head| code.compiled(head)) {
                continue;
            }
            let n = self.regions.next();
            let Some(graph) = blocks::discover(cpu, code, start, fills) else { continue };
            let Some(function) = self.host.reserve() else { break };
            let region = region::compile(&graph, &self.layout, n, function);
            let bytes = region.function.code.bytes().len() as u64;
            self.stats.regions += 1;
            self.stats.insns += region.insns as u64;
            self.stats.called += region.called as u64;
            self.stats.bytes += bytes;
            let mut heads = Vec::new();
            for &(head, entry) in &region.entries {
                if !code.compiled(head) {
                    code.set_compiled(head, Some((function, entry)));
                    heads.push(head);
                }
            }
            graph.links.iter().for_each(|link| code.watch(link.head));
            functions.push((function, region.function));
            let Region { pages, exits, .. } = region;
            let rate = Rate { times: 0, since: self.stats.retired };
            let (misses, apart) = (rate, rate);
            let region = Installed { start, function, bytes, pages, heads, exits, misses, apart, fills, strayed };
            self.regions.add(region);
            made.push(n);
        }
        if functions.is_empty() {
            return;
        }
        self.stats.modules += 1;
        if !self.host.install(&module::module(&functions)) {
            made.into_iter().for_each(|n| self.regions.remove(n, &mut self.host, code));
        }
    }

    /// Runs the compiled block with this head record, which is at RIP, and what follows.
    pub fn run(&mut self, cpu: &mut Cpu, code: &mut CodeCache, head: u32) -> Ran {
        if cpu.events != 0 {
            return Ran::Nothing;
        }
        let Some((function, entry)) = code.compiled_as(head) else { return Ran::Nothing };
        cpu.floor = cpu.left.saturating_sub(STRETCH);
        let (before, retired) = (cpu.left, cpu.retired());
        self.stats.entered += 1;
        let exit = self.host.call(cpu, code, function, entry) as usize;
        cpu.extend_flags();
        let mut within = None;
        let mut wanted = self.strayed(cpu, code);
        let region = self.regions.get(cpu.compiled_region);
        let exit = region.as_ref().and_then(|region| region.exits.get(exit.wrapping_sub(1))).copied();
        if let (Some(exit), Some(region)) = (exit, region) {
            if exit.rest == 0 {
                self.stats.short += 1
            } else {
                self.stats.stopped += 1;
                let now = self.stats.retired;
                let again = if exit.apart {
                    let times = code.apart(exit.head).saturating_add(1);
                    let often = region.apart.count(now, APART, OFTEN_APART);
                    code.set_apart(exit.head, if often == Some(true) { times.max(BLOCK_APART) } else { times });
                    if often == Some(false) {
                        region.exits.iter().filter(|e| e.apart).for_each(|e| code.set_apart(e.head, 0));
                    }
                    often
                } else {
                    let often = region.misses.count(now, MISSES, OFTEN_MISSED);
                    region.fills |= often == Some(true);
                    often
                };
                if again == Some(true) {
                    wanted = Some(Wanted { start: region.start, again: Some(cpu.compiled_region) });
                }
                if cpu.events == 0 && cpu.compiled_fault.is_none() {
                    within = Some(exit);
                }
            }
            exit.note(cpu, code);
            cpu.rip = cpu.rip_mask(cpu.compiled_base.wrapping_add(exit.off as i64 as u64));
            cpu.left += u64::from(exit.rest);
        }
        if let Some(fault) = cpu.compiled_fault.take() {
            // It counts as an instruction, so that even a loop of faults uses the budget.
            self.stats.faults += 1;
            cpu.left -= 1;
            let rip = cpu.rip;
            cpu.deliver_fault(fault, rip);
        }
        // Not what is left: the board may have cut that short.
        self.stats.retired += cpu.retired().wrapping_sub(retired);
        self.stats.hops = cpu.hops;
        if let Some(wanted) = wanted.filter(|_| cpu.events == 0) {
            self.waiting.push(wanted);
            self.compile(cpu, code);
        }
        match within.and_then(|exit| resume(cpu, code, exit)) {
            Some(at) => Ran::Within(at),
            None if cpu.left < before => Ran::Some,
            None => Ran::Nothing,
        }
    }

    /// Looks where a switch has led out of a region. It may be one that should be compiled again.
    fn strayed(&mut self, cpu: &mut Cpu, code: &mut CodeCache) -> Option<Wanted> {
        let n = core::mem::take(&mut cpu.strayed_from).checked_sub(1)?;
        let region = self.regions.get(n)?;
        let Start { la, mode, ring, .. } = region.start;
        let to = cpu.strayed_to;
        if to.abs_diff(la) >= blocks::SWITCH {
            return None;
        }
        let page = cpu.known_fetch_page(ring, to)?;
        let head = code.find(cache::key(page << PAGE_SHIFT | to & (PAGE_SIZE - 1), mode))?.head;
        if code.compiled_as(head).is_some_and(|(function, _)| function == region.function) {
            return None;
        }
        code.set_target(head);
        region.strayed += 1;
        STRAYED.contains(&region.strayed).then_some(Wanted { start: region.start, again: Some(n) })
    }

    /// The module of a region that begins with the block around this address, as it would be compiled now; for people.
    /// `None`: nothing is decoded there, or it cannot be compiled.
    pub fn module_at(&self, cpu: &Cpu, code: &CodeCache, la: u64, pa: u64) -> Option<Vec<u8>> {
        let (page, mode) = (pa & !(PAGE_SIZE - 1), cpu.mode);
        let block = |at| code.find(cache::key(at, mode)).filter(|b| at + code.extent(b.head).1 > pa);
        let at = (page..=pa).rev().find(|&at| block(at).is_some())?;
        let start = Start { la: la - (pa - at), pa: at, mode, ring: cpu.ring() };
        let region = region::compile(&blocks::discover(cpu, code, start, false)?, &self.layout, 0, 0);
        Some(module::module(&[(0, region.function)]))
    }

    /// Figures for people.
    pub fn figures(&self) -> Stats {
        Stats { memory: self.bytes_made(), took: self.host.took(), ..self.stats }
    }

    /// Is there so much code that all of it should be dropped ([`Jit::drop_code`])?
    pub fn full(&self) -> bool {
        self.bytes_made() > self.host.limits().code_bytes
    }

    /// Bytes that the host has made of all modules.
    fn bytes_made(&self) -> u64 {
        self.regions.bytes * EXPANSION
    }

    /// The blocks of a page are gone.
    pub fn drop_page(&mut self, code: &mut CodeCache, page: u32) {
        let page = u64::from(page);
        let lost = self.regions.drop_page(page, &mut self.host, code);
        if let Some(samples) = self.samples.get_mut(&page).filter(|_| lost) {
            samples.hot = samples.hot.saturating_mul(2).min(COLD);
        }
    }

    /// Has this page of decoded code been compiled, or was it seen within so many samples?
    pub fn uses(&self, page: u32, lately: u64) -> bool {
        let page = u64::from(page);
        self.regions.made_from(page) || self.samples.get(&page).is_some_and(|s| self.taken - s.when < lately)
    }

    /// Drops all compiled code.
    pub fn drop_code(&mut self, code: &mut CodeCache) {
        self.regions.forget(code);
        self.regions.clear(&mut self.host);
        self.waiting.clear();
    }

    /// All blocks are gone.
    pub fn drop_all(&mut self) {
        self.regions.clear(&mut self.host);
        self.samples.clear();
        self.waiting.clear();
    }
}

/// Prepares to interpret a block from an exit on, where RIP is: the place of the instruction's record.
fn resume(cpu: &mut Cpu, code: &CodeCache, exit: Exit) -> Option<usize> {
    let (count, bytes) = code.extent(exit.head);
    let at = exit.head as usize + 1 + count.checked_sub(exit.rest.into())? as usize;
    let off = code.insns().get(at)?.off;
    let block = cpu.rip_mask(cpu.rip.wrapping_sub(off.into()));
    cpu.regs[slot::BLOCK as usize] = block;
    cpu.rip = cpu.rip_mask(block.wrapping_add(bytes));
    cpu.left -= u64::from(exit.rest);
    Some(at)
}
