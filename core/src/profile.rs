//! Execution counts per instruction form, to choose hot forms from. Only with the feature `profile`. Blocks are
//! sampled, so that a profiled guest runs nearly as fast as any; instructions run alone are all counted.

use crate::decode::insn::{Ea, Insn, opnd};
use crate::isa::{self, hot};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bits of a shape: size, second size, kinds of the first two operands, addressing, run alone.
const SHAPE_BITS: u32 = 2 + 2 + 3 + 3 + 2 + 1;
const ALONE: usize = 1 << (SHAPE_BITS - 1);
/// One block in so many is counted, on average.
const EVERY: u32 = 64;
const OPS: usize = hot::COLD as usize + isa::COUNT;

static COUNTS: [AtomicU64; OPS << SHAPE_BITS] = [const { AtomicU64::new(0) }; OPS << SHAPE_BITS];

static RANDOM: AtomicU32 = AtomicU32::new(1);

const KINDS: [&str; 8] = ["R", "H", "X", "F", "S", "M", "I", "-"];
const EAS: [&str; 4] = ["", " ea32", " based", " seg"];

/// One form and how often it ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Operation, operand size, kinds of operands (R general register, H high byte, X XMM, F MMX or x87,
    /// S system register, M memory, I immediate), and how memory is addressed if not flat with 64 bits.
    pub form: String,
    /// Does it have an arm in the interpreter's `match`?
    pub hot: bool,
    /// Was it run alone, outside of its block?
    pub alone: bool,
    /// Executions.
    pub count: u64,
}

fn kind(o: u8) -> usize {
    match o {
        0..=15 => 0,
        0x10..=0x1f => 1,
        0x20..=0x2f => 2,
        0x30..=0x3f => 3,
        opnd::MEM => 5,
        opnd::IMM => 6,
        opnd::NONE => 7,
        _ => 4,
    }
}

fn log2(n: u8) -> usize {
    n.trailing_zeros() as usize & 3
}

/// Perhaps counts a block that is about to run.
#[inline(always)]
pub fn sample(block: &[Insn]) {
    // A linear congruence (Knuth, TAOCP 2, 3.3.4): no loop in the guest keeps step with it.
    let n = RANDOM.load(Ordering::Relaxed).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    RANDOM.store(n, Ordering::Relaxed);
    if n >> 26 == 0 {
        block.iter().for_each(|i| add(i, 0, EVERY));
    }
}

/// Counts an instruction that is run alone.
pub fn alone(i: &Insn) {
    add(i, ALONE, 1);
}

fn add(i: &Insn, alone: usize, by: u32) {
    let memory = i.a == opnd::MEM || i.b == opnd::MEM;
    let ea = match i.ea {
        Ea::Flat64 => 0,
        Ea::Flat32 => 1,
        Ea::Based64 => 2,
        Ea::Segmented => 3,
    };
    let size2 = if i.size2 == 0 { 3 } else { log2(i.size2) };
    let shape =
        log2(i.size as u8) | size2 << 2 | kind(i.a) << 4 | kind(i.b) << 7 | if memory { ea << 10 } else { 0 } | alone;
    if let Some(n) = COUNTS.get((usize::from(i.op) << SHAPE_BITS) + shape) {
        n.store(n.load(Ordering::Relaxed) + u64::from(by), Ordering::Relaxed);
    }
}

/// What was counted since the last call, most frequent first.
pub fn take() -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (at, n) in COUNTS.iter().enumerate() {
        let count = n.swap(0, Ordering::Relaxed);
        if count == 0 {
            continue;
        }
        let (op, shape) = (at >> SHAPE_BITS, at & ((1 << SHAPE_BITS) - 1));
        let hot = op < usize::from(hot::COUNT);
        let name = if hot { hot::NAMES[op] } else { isa::NAMES[op - usize::from(hot::COLD)] };
        let (size, size2) = (8 << (shape & 3), shape >> 2 & 3);
        let second = if size2 == 3 { String::new() } else { format!("/{}", 8 << size2) };
        let (a, b, ea) = (KINDS[shape >> 4 & 7], KINDS[shape >> 7 & 7], EAS[shape >> 10 & 3]);
        let alone = shape & ALONE != 0;
        lines.push(Line { form: format!("{name} {size}{second} {a} {b}{ea}"), hot, alone, count });
    }
    lines.sort_by_key(|line| core::cmp::Reverse(line.count));
    lines
}
