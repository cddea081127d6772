//! The compiler: regions of hot blocks become WebAssembly functions, made from the same semantics that the interpreter
//! runs ([`crate::emit::Emit`]). A host ([`CodeHost`]) turns modules into functions; without one, the interpreter runs
//! everything.
//!
//! `region.rs` finds the blocks and writes their function; `build.rs` runs the semantics of an instruction and keeps
//! what they do (`ir.rs`), which `lower.rs` and `steps.rs` write down; `shape.rs` nests loops and branches.

mod build;
pub mod helpers;
mod ir;
pub mod layout;
mod locals;
mod lower;
pub mod module;
pub mod region;
pub mod shape;
mod steps;

pub use build::{Builder, Leave};

use crate::cpu::Cpu;
use crate::decode::cache::CodeCache;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use layout::Layout;
use region::Exit;

/// Turns modules into functions, and calls them.
pub trait CodeHost {
    /// Compiles a module (`module.rs`); a number for its function, `None` if that is not possible.
    fn install(&mut self, module: &[u8]) -> Option<u32>;
    /// Calls a function with the number of an entry; returns that of an exit.
    fn call(&mut self, cpu: &mut Cpu, function: u32, entry: u32) -> u32;
    /// The function is not needed any more.
    fn remove(&mut self, function: u32);
}

/// Instructions the interpreter runs until a sample is taken of where it is.
const INTERVAL: u64 = 4096;
/// Samples of a page until the block of the last one is compiled.
const HOT: u16 = 16;
/// Instructions after which a region is left although nothing has happened, so that the host may swap in better code.
const STRETCH: u64 = 1 << 20;

/// A compiled region.
struct Installed {
    function: u32,
    page: u64,
    exits: Vec<Exit>,
    insns: u64,
}

/// Figures for people.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Regions compiled.
    pub regions: u64,
    /// Instructions in them.
    pub insns: u64,
    /// Bytes of their modules.
    pub bytes: u64,
    /// Times a region was entered from the interpreter.
    pub entered: u64,
    /// Times one was left in front of an instruction.
    pub stopped: u64,
    /// Instructions run in them.
    pub retired: u64,
}

/// What is compiled, and what may become so.
pub struct Jit {
    host: Box<dyn CodeHost>,
    layout: Layout,
    regions: Vec<Option<Installed>>,
    /// Samples by guest-physical page.
    samples: BTreeMap<u64, u16>,
    /// Samples that make a page hot.
    hot: u16,
    /// Figures.
    pub stats: Stats,
}

impl Jit {
    /// A compiler for this CPU, whose code lies in `code`.
    pub fn new(host: Box<dyn CodeHost>, cpu: &Cpu, code: &CodeCache) -> Self {
        Self {
            host,
            layout: Layout::new(cpu, code.arena()),
            regions: Vec::new(),
            samples: BTreeMap::new(),
            hot: HOT,
            stats: Stats::default(),
        }
    }

    /// Compiles pages after this many samples; 0: compiles everything before it is run (tests).
    pub fn set_hot(&mut self, samples: u16) {
        self.hot = samples;
    }

    /// Instructions the interpreter runs until a sample is taken of where it is.
    pub fn interval(&self) -> u64 {
        if self.hot == 0 { 0 } else { INTERVAL }
    }

    /// The interpreter was seen in front of the block with this head record, at guest-physical address `pa`.
    pub fn sample(&mut self, code: &mut CodeCache, pa: u64, mode: u8, head: u32) {
        let page = pa >> crate::mem::PAGE_SHIFT;
        let samples = self.samples.entry(page).or_default();
        *samples += 1;
        if *samples < self.hot || code.compiled(head) {
            return;
        }
        *samples = 0;
        let Some(region) = region::compile(code, &self.layout, pa, mode, head) else { return };
        let Some(function) = self.host.install(&region.module) else { return };
        self.stats.regions += 1;
        self.stats.insns += region.insns as u64;
        self.stats.bytes += region.module.len() as u64;
        let n = self.regions.len() as u32;
        for (entry, &head) in (0..).zip(&region.entries) {
            code.set_compiled(head, Some((n, entry)));
        }
        let (exits, insns) = (region.exits, region.insns as u64);
        self.regions.push(Some(Installed { function, page, exits, insns }));
    }

    /// Runs the compiled block with this head record, which is at RIP, and what follows. `false`: the budget is too
    /// small for it, or its first instruction has to be interpreted.
    pub fn run(&mut self, cpu: &mut Cpu, code: &CodeCache, head: u32) -> bool {
        let Some((region, entry)) = code.compiled_as(head) else { return false };
        let Some(region) = self.regions.get(region as usize).and_then(Option::as_ref) else { return false };
        if cpu.left < region.insns {
            return false;
        }
        cpu.floor = cpu.left.saturating_sub(STRETCH.max(region.insns));
        let (base, before) = (cpu.rip & !0xfff, cpu.left);
        self.stats.entered += 1;
        let exit = self.host.call(cpu, region.function, entry);
        if let Some(exit) = (exit as usize).checked_sub(1).and_then(|n| region.exits.get(n)) {
            self.stats.stopped += 1;
            cpu.rip = cpu.rip_mask(base.wrapping_add(exit.off as i64 as u64));
            cpu.left += u64::from(exit.rest);
        }
        if let Some(fault) = cpu.compiled_fault.take() {
            // It counts as an instruction, so that even a loop of faults uses the budget.
            cpu.left -= 1;
            let rip = cpu.rip;
            cpu.deliver_fault(fault, rip);
        }
        self.stats.retired += before - cpu.left;
        cpu.left < before
    }

    /// The blocks of a page are gone.
    pub fn drop_page(&mut self, page: u32) {
        for slot in &mut self.regions {
            if let Some(region) = slot.take_if(|r| r.page == u64::from(page)) {
                self.host.remove(region.function);
            }
        }
    }

    /// All blocks are gone.
    pub fn drop_all(&mut self) {
        for region in self.regions.drain(..).flatten() {
            self.host.remove(region.function);
        }
        self.samples.clear();
    }
}
