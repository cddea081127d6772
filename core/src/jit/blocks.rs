//! Which blocks become a region.

use crate::cpu::mode::key;
use crate::decode::cache::{self, CodeCache};
use crate::decode::insn::{Insn, opnd};
use crate::isa::{self, hot};
use crate::mem::PAGE_SIZE;
use crate::size::Size;
use alloc::vec;
use alloc::vec::Vec;

/// Most instructions in a region: compilers' time grows faster than their number.
const MAX_INSNS: usize = 300;

/// A block of the region.
pub struct Block {
    /// Its head record.
    pub head: u32,
    /// Where it begins in the page.
    pub at: i64,
    /// Its bytes.
    pub bytes: i64,
    /// Is it the first, or where a call comes back to?
    pub entry: bool,
    pub insns: Vec<Insn>,
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
    /// Does it end with a call?
    pub fn calls(&self) -> bool {
        self.insns.last().is_some_and(|i| hot::op(i.op) == Some(isa::Op::Call))
    }
    /// May it go on behind its end?
    pub fn falls_through(&self) -> bool {
        let last = self.insns.last().and_then(|i| hot::op(i.op));
        !matches!(last, Some(isa::Op::Jmp | isa::Op::Call | isa::Op::Ret))
    }
}

/// The blocks that can be reached from the first within its page, as far as they are decoded.
pub fn discover(code: &CodeCache, pa: u64, mode: u8, head: u32) -> Option<Vec<Block>> {
    let page = pa & !(PAGE_SIZE - 1);
    let bits32 = mode & key::CODE != key::CODE64;
    let mut found: Vec<Block> = Vec::new();
    let mut todo = vec![((pa - page) as i64, true)];
    let mut total = 0;
    let mut at = 0;
    while at < todo.len() {
        let (off, entry) = todo[at];
        at += 1;
        if !(0..PAGE_SIZE as i64).contains(&off) {
            continue;
        }
        if let Some(known) = found.iter_mut().find(|b| b.at == off) {
            known.entry |= entry;
            continue;
        }
        let Some(block) = code.find(cache::key(page + off as u64, mode)) else { continue };
        if block.second != 0 {
            continue;
        }
        let (count, bytes) = code.extent(block.head);
        total += count as usize;
        if total > MAX_INSNS && !found.is_empty() {
            break;
        }
        let first = block.head as usize + 1;
        let insns = code.insns().range(first, first + count as usize).to_vec();
        let block = Block { head: block.head, at: off, bytes: bytes as i64, entry, insns };
        if block.falls_through() || block.calls() {
            todo.push((off + bytes as i64, block.calls()));
        }
        todo.extend(block.target(bits32).map(|to| (to, false)));
        found.push(block);
    }
    found.first().is_some_and(|b| b.head == head).then_some(found)
}
