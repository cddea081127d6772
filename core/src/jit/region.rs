//! A region: blocks that lead to each other, compiled to one function.
//!
//! The function is entered with the number of an entry, works on locals, and leaves through one piece of code that puts
//! them back. What it returns says where: 0, RIP is stored; else the number of an [`Exit`], an instruction in front of
//! which it stopped. `region/ways.rs`: where its blocks lead. `region/call.rs`: what is called.

mod call;
mod insn;
mod ways;

use self::insn::Ahead;
use super::blocks::{Block, Graph};
use super::build::Flags;
use super::code::Code;
use super::frame::around;
use super::layout::Layout;
use super::locals::{LEFT, Locals, STATE};
use super::module;
use super::shape::{Shape, shape};
use super::steps::{self, Way};
use super::windows::Windows;
use super::x87::{Known, Note};
use crate::cpu::Cpu;
use crate::decode::cache::CodeCache;
use crate::isa::x87;
use crate::mem::PAGE_SHIFT;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::replace;
use wasm_encoder::{BlockType, InstructionSink};

/// A place in front of an instruction where a region may be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The head record of its block.
    pub head: u32,
    /// RIP, counted from the beginning of the page.
    pub off: i32,
    /// Instructions of its block, from this one on, that were counted and not run.
    pub rest: u32,
    /// Is it left here because an access is not in the page of one before?
    pub apart: bool,
    /// Where its block begins, counted likewise.
    pub block: i32,
    /// Which of its instructions the x87 unit has not noted yet.
    pub x87: Note,
}

impl Exit {
    /// Has the x87 unit note what it has run. Pointers to data are in it already.
    pub fn note(&self, cpu: &mut Cpu, code: &CodeCache) {
        let start = cpu.compiled_base.wrapping_add(self.block as i64 as u64);
        let insn = |n: u8| n.checked_sub(1).and_then(|n| code.insns().get(self.head as usize + 1 + usize::from(n)));
        if let Some(i) = insn(self.x87.last) {
            x87::note(cpu, i, start.wrapping_add(i.off.into()));
        }
        if let Some(i) = insn(self.x87.data) {
            x87::note_segment(cpu, i);
        }
    }
}

/// See [`Region::entries`].
pub const PAGE_OF_ENTRY: u32 = 10;

/// A compiled region.
pub struct Region {
    /// Its function.
    pub function: module::Region,
    /// The head records of the blocks it may be entered at, with the numbers of these entries: the block, and from bit
    /// [`PAGE_OF_ENTRY`] on which of the region's pages it lies in.
    pub entries: Vec<(u32, u32)>,
    /// Its exits; the first has number 1.
    pub exits: Vec<Exit>,
    /// The guest-physical pages it is made from.
    pub pages: Vec<u64>,
    /// Instructions in it.
    pub insns: usize,
    /// Those of them that are not compiled but called.
    pub called: usize,
}

/// Compiles blocks that lead to each other as region `number`, for a place in the table.
pub fn compile(graph: &Graph, layout: &Layout, number: u32, function: u32) -> Region {
    let Graph { blocks, next, .. } = graph;
    let entries: Vec<u32> = (0..).zip(blocks).filter(|(_, b)| b.entry).map(|(n, _)| n).collect();
    let shapes = shape(next, &entries);
    let insns: usize = blocks.iter().map(|b| b.insns.len()).sum();
    let mut locals = Locals::default();
    let mut before = vec![Vec::new(); blocks.len()];
    for (from, to) in (0..).zip(&graph.next) {
        to.iter().for_each(|&to| before[to as usize].push(from));
    }
    // Instructions that are called spill what is written anywhere: the second time it is known what that is.
    loop {
        let known = locals.sets();
        let mut f = Function {
            graph,
            layout,
            number,
            function,
            long: graph.long,
            body: Code::default(),
            locals: &mut locals,
            labels: Vec::new(),
            exits: Vec::new(),
            flags: vec![None; blocks.len()],
            total: insns as i64,
            simd: false,
            windows: Windows::new(graph.long),
            ends: vec![None; blocks.len()],
            before: &before,
            x87: Known::default(),
            ahead: VecDeque::new(),
            decided: 0,
            called: 0,
            spills: false,
        };
        f.nest(&shapes);
        f.out().unreachable();
        let (body, mut exits, called) = (f.body, f.exits, f.called);
        if f.spills && locals.sets() != known {
            continue;
        }
        // They are kept: thousands of regions have hundreds each.
        exits.shrink_to_fit();
        let entry = |n: u32| {
            let block = &blocks[n as usize];
            let page = graph.pages.iter().position(|p| p.0 == block.page()).unwrap_or(0);
            (block.head, n | (page as u32) << PAGE_OF_ENTRY)
        };
        let entries: Vec<(u32, u32)> = entries.into_iter().map(entry).collect();
        let entered = |n: u32| entries.iter().any(|e| e.1 >> PAGE_OF_ENTRY == n);
        let pages = (0..).zip(&graph.pages).filter(|p| p.0 > 0 && entered(p.0));
        let pages: Vec<(u32, i64)> = pages.map(|(n, page)| (n, page.0 << PAGE_SHIFT)).collect();
        let code = around(&locals, layout, Around { number, pages, targets: graph.targets() }, &body);
        return Region {
            function: module::Region { locals: locals.types().to_vec(), code },
            entries,
            exits,
            pages: graph.pages.iter().map(|p| p.1).collect(),
            insns,
            called,
        };
    }
}

/// What the code around a region's body has to know.
pub struct Around {
    /// The region's number.
    pub number: u32,
    /// The pages but the first that are entered, with their distances from it.
    pub pages: Vec<(u32, i64)>,
    /// How far from its page branches lead whose targets have to be canonical.
    pub targets: Vec<i64>,
}

/// A label that jumps can name.
enum Label {
    /// What follows it, or repeats, is these blocks.
    Blocks(Vec<u32>),
    /// Something else.
    Other,
}

struct Function<'a> {
    graph: &'a Graph,
    layout: &'a Layout,
    /// Its number, and its place in the table.
    number: u32,
    function: u32,
    long: bool,
    body: Code,
    locals: &'a mut Locals,
    labels: Vec<Label>,
    exits: Vec<Exit>,
    /// The flags at the ends of blocks that are written already.
    flags: Vec<Option<Flags>>,
    /// Instructions of all blocks.
    total: i64,
    /// Is it known in this block that vector instructions may be used? Only its end can change that.
    simd: bool,
    /// The pages that this block has been to, and those that blocks which are written already had been to at their ends.
    windows: Windows,
    ends: Vec<Option<Windows>>,
    /// Which blocks lead to each.
    before: &'a [Vec<u32>],
    /// What is known of the x87 unit in this block.
    x87: Known,
    /// The next instructions of this block, if they were looked at, and of how many of them it is known whether their
    /// flags are wanted.
    ahead: VecDeque<Ahead>,
    decided: usize,
    /// Instructions that are called.
    called: usize,
    /// Is there one that may be?
    spills: bool,
}

impl Function<'_> {
    fn out(&mut self) -> InstructionSink<'_> {
        self.body.out()
    }

    fn nest(&mut self, shapes: &[Shape]) {
        for s in shapes {
            match s {
                Shape::Block(n) => self.block(*n),
                Shape::Ahead { heads, body } | Shape::Loop { heads, body } => {
                    match s {
                        Shape::Loop { .. } => self.out().loop_(BlockType::Empty),
                        _ => self.out().block(BlockType::Empty),
                    };
                    self.labels.push(Label::Blocks(heads.clone()));
                    self.nest(body);
                    self.labels.pop();
                    self.out().end();
                }
                Shape::Dispatch(heads) => {
                    let table: Vec<u32> = (0..self.graph.blocks.len() as u32)
                        .map(|n| if heads.contains(&n) { self.label(n).0 } else { 0 })
                        .collect();
                    self.out().local_get(STATE).br_table(table, 0);
                }
            }
        }
    }

    /// How many labels out the one for this block is, and whether it is for others, too.
    fn label(&self, block: u32) -> (u32, bool) {
        let found = self.labels.iter().rev().enumerate().find_map(|(depth, l)| match l {
            Label::Blocks(blocks) if blocks.contains(&block) => Some((depth as u32, blocks.len() > 1)),
            _ => None,
        });
        found.expect("whatever a block leads to has a label around it")
    }

    /// Jumps to a block.
    fn go(&mut self, block: u32) {
        let (depth, several) = self.label(block);
        if several {
            self.out().i32_const(block as i32).local_set(STATE);
        }
        self.out().br(depth);
    }

    /// The number of the exit in front of an instruction.
    fn exit(&mut self, block: &Block, off: i64, rest: usize) -> i32 {
        number(&mut self.exits, here(block, off, rest, self.x87.note))
    }

    /// The way out to an exit.
    fn way(&self, exit: i32) -> Way {
        Way { exit, apart: None, label: self.labels.len() as u32, fills: self.graph.fills, sure: true }
    }

    /// Leaves for an exit.
    fn leave(&mut self, exit: i32) {
        let way = self.way(exit);
        steps::leave(&mut self.out(), way);
    }

    /// The flags at the beginning of a block.
    fn flags_before(&self, block: u32) -> Flags {
        let mut same = None;
        // Entries are entered with any flags.
        if self.graph.blocks[block as usize].entry {
            return Flags::Told;
        }
        for &from in &self.before[block as usize] {
            match (self.flags[from as usize], same) {
                (Some(f), None) => same = Some(f),
                (Some(f), Some(other)) if f == other => {}
                _ => return Flags::Told,
            }
        }
        same.unwrap_or(Flags::Told)
    }

    /// What is known of pages at the beginning of a block.
    fn windows_before(&mut self, block: u32) -> Windows {
        if self.locals.held() > HELD {
            self.locals.let_go();
            self.ends.fill(None);
        }
        match self.before[block as usize][..] {
            // Entries are entered with any registers.
            [from] if !self.graph.blocks[block as usize].entry => self.ends[from as usize].as_ref(),
            _ => None,
        }
        .map_or_else(|| Windows::new(self.long), Windows::inherited)
    }

    fn block(&mut self, n: u32) {
        let block = &self.graph.blocks[n as usize];
        let count = block.insns.len();
        self.x87 = Known::default();
        // A budget that covers every block once covers all up to the next block that asks: loops do, and entries.
        let head = self.labels.iter().any(|l| matches!(l, Label::Blocks(b) if b.contains(&n)));
        if head || block.entry {
            let exit = self.exit(block, block.at, 0);
            let total = self.total;
            self.out().local_get(LEFT).i64_const(total).i64_lt_s();
            let way = self.way(exit);
            steps::leave_if(&mut self.body, way);
        }
        if block.last_page() != block.page() {
            self.if_elsewhere(block.last_page(), self.graph.physical(block.last_page()));
            let exit = self.exit(block, block.at, 0);
            self.leave(exit);
            self.labels.pop();
            self.out().end();
        }
        self.out().local_get(LEFT).i64_const(count as i64).i64_sub().local_set(LEFT);
        let mut flags = self.flags_before(n);
        self.simd = false;
        self.windows = self.windows_before(n);
        for k in 0..count {
            let (after, ended) = self.insn(n, k, flags);
            flags = after;
            if k + 1 == count {
                self.flags[n as usize] = Some(flags);
                self.ends[n as usize] = Some(replace(&mut self.windows, Windows::new(self.long)));
            }
            if ended {
                return;
            }
        }
        self.note_x87(block);
        self.go_to(block, block.at + block.bytes);
    }
}

/// Locals that hold host addresses of pages until it is forgotten which.
const HELD: usize = 24;

/// What a region returns when RIP is stored, and nothing may be run before the run loop has looked at the events.
pub const NOWHERE: i32 = -1;

/// The exit in front of an instruction.
fn here(block: &Block, off: i64, rest: usize, x87: Note) -> Exit {
    Exit { head: block.head, off: off as i32, rest: rest as u32, apart: false, block: block.at as i32, x87 }
}

/// The number of an exit.
fn number(exits: &mut Vec<Exit>, exit: Exit) -> i32 {
    let n = exits.iter().position(|e| *e == exit).unwrap_or_else(|| {
        exits.push(exit);
        exits.len() - 1
    });
    n as i32 + 1
}
