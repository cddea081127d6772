//! What is known of accesses to the same page: an access that differs by a constant from one that the TLB has served needs
//! no entry of its own. When the TLB is asked for the first of them, it is asked for all: each that comes later widens what
//! is asked for there, and is served itself without a look. So the pushes of a function's beginning, or the fields of an
//! object, are one access. Nothing is lost by asking too early: the region is left in front of the first access then, and
//! the interpreter goes on.
//!
//! For this, addresses are written as a sum of registers as they were, and a constant. A register is followed while
//! constants are added to it. Whatever is called may change the TLB, and ends everything that is known. What is known at
//! the end of a block is known in those that only it leads to.

use super::code::Code;
use super::ir::{Node, Val, Values};
use super::locals::{Locals, XMM};
use crate::emit::Bin;
use alloc::vec::Vec;

/// The parts of a sum that are no constants, in order; 0: none.
type Parts = [u32; 3];

/// A sum: [`Parts`], and a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    parts: Parts,
    plus: i64,
}

/// Bytes that are asked for at once. The more, the more often they lie in two pages, and the interpreter has to go on.
const SPAN: i64 = 1024;

/// A page that an access has been to.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Where.
    first: Sum,
    /// In this block?
    here: bool,
    /// The number of the question to the TLB. Others may ask for more there meanwhile.
    question: usize,
    /// i32 local: the host address of `first`.
    host: u32,
}

/// What is known at a place in a block.
#[derive(Clone)]
pub struct Windows {
    /// Is the code 64-bit code?
    long: bool,
    /// What each general register holds: a number that stands for what it held once, and what was added since.
    registers: [(u32, i64); XMM as usize],
    /// The next such number.
    next: u32,
    open: Vec<Window>,
    /// How often all of them were closed.
    closed: u32,
}

/// In [`Parts`], beside the registers' numbers, which lie behind a shift count of three bits.
const RIP: u32 = u32::MAX;
const SEGMENT: u32 = u32::MAX - 8;

/// How an access in a page that is known is made.
pub struct Near {
    /// i32 local: the host address of the page's first access.
    pub host: u32,
    /// How far it is from that.
    pub distance: i32,
    /// What has to be asked for there, if that has changed: the question, from where to where, and whether for stores.
    pub ask: Option<(usize, (i64, i64), bool)>,
}

impl Windows {
    /// At the beginning of a block.
    pub fn new(long: bool) -> Self {
        let registers = core::array::from_fn(|r| (1 + r as u32, 0));
        Self { long, registers, next: 1 + u32::from(XMM), open: Vec::new(), closed: 0 }
    }

    /// At the beginning of a block to which only the one leads at whose end this is known.
    pub fn inherited(&self) -> Self {
        let mut windows = self.clone();
        windows.open.iter_mut().for_each(|w| w.here = false);
        windows
    }

    /// Something was called that may have changed the TLB, a segment's base, and these registers.
    pub fn called(&mut self, written: u32) {
        self.open.clear();
        self.closed += 1;
        for r in 0..usize::from(XMM) {
            if written >> r & 1 != 0 {
                self.registers[r] = self.fresh();
            }
        }
    }

    /// Behind what is not always run, and what was known before it.
    pub fn rejoin(&mut self, mut before: Self) {
        if self.closed != before.closed {
            before.called(0);
        }
        *self = before;
    }

    fn fresh(&mut self) -> (u32, i64) {
        self.next += 1;
        (self.next - 1, 0)
    }

    /// An instruction sets general registers, all at once.
    pub fn set(&mut self, values: &Values, locals: &Locals, registers: &[Option<Val>]) {
        let mut after = self.registers;
        for (r, v) in registers.iter().enumerate().take(after.len()) {
            let Some(v) = *v else { continue };
            after[r] = match self.sum(values, locals, v) {
                Some(Sum { parts: [part, 0, 0], plus }) if part & 7 == 0 && part < SEGMENT => (part >> 3, plus),
                _ => self.fresh(),
            };
        }
        self.registers = after;
    }

    /// A value as a sum, if it is one of registers.
    pub fn sum(&self, values: &Values, locals: &Locals, v: Val) -> Option<Sum> {
        let mut sum = Sum { parts: [0; 3], plus: 0 };
        self.add(values, locals, v, 0, &mut sum)?;
        sum.parts.sort_unstable_by(|a, b| b.cmp(a));
        if !self.long {
            sum.plus = sum.plus as i32 as i64;
        }
        Some(sum)
    }

    fn add(&self, values: &Values, locals: &Locals, v: Val, shift: u32, sum: &mut Sum) -> Option<()> {
        let mut part = |part: u32| {
            let free = sum.parts.iter_mut().find(|p| **p == 0)?;
            *free = part;
            Some(())
        };
        match values.node(v) {
            Node::Const(c) => sum.plus = sum.plus.wrapping_add((c << shift) as i64),
            Node::Local(local) => {
                if let Some(r) = locals.general_register_in(local) {
                    let (number, plus) = self.registers[usize::from(r)];
                    part(number << 3 | shift)?;
                    sum.plus = sum.plus.wrapping_add(plus << shift);
                } else {
                    let (s, _) = locals.segment_bases().find(|&(_, l)| l == local && shift == 0)?;
                    part(SEGMENT + u32::from(s))?;
                }
            }
            Node::Rip(off) if shift == 0 => {
                part(RIP)?;
                sum.plus = sum.plus.wrapping_add(off);
            }
            Node::Bin(Bin::Add, a, b) => {
                self.add(values, locals, a, shift, sum)?;
                self.add(values, locals, b, shift, sum)?;
            }
            Node::Bin(Bin::Shl, a, n) if shift == 0 => {
                let n = values.constant(n).filter(|&n| n < 4)?;
                self.add(values, locals, a, n as u32, sum)?;
            }
            // The sum is one of 32 bits in 32-bit code.
            Node::Bin(Bin::And, a, mask) if !self.long && values.constant(mask) == Some(0xffff_ffff) => {
                self.add(values, locals, a, shift, sum)?;
            }
            _ => return None,
        }
        Some(())
    }

    /// An access of `bytes` in a page that is known. `sure`: it is made whenever its instruction is run.
    pub fn near(&self, code: &Code, at: Sum, bytes: i64, write: bool, sure: bool) -> Option<Near> {
        self.open.iter().rev().filter(|w| w.first.parts == at.parts).find_map(|w| {
            let distance = at.plus.wrapping_sub(w.first.plus);
            let distance = if self.long { i32::try_from(distance).ok()? } else { distance as i32 };
            let (asked, stores) = code.asked(w.question);
            let range = (asked.0.min(distance.into()), asked.1.max(i64::from(distance) + bytes));
            let (wider, store) = (range != asked, write && !stores);
            if range.1 - range.0 > SPAN || (wider || store) && !sure || store && !w.here {
                return None;
            }
            let ask = (wider || store).then_some((w.question, range, stores || write));
            Some(Near { host: w.host, distance, ask })
        })
    }

    /// The TLB is asked for an access; `host` is as in [`Window`].
    pub fn open(&mut self, first: Sum, question: usize, host: u32) {
        self.open.push(Window { first, here: true, question, host });
    }
}
