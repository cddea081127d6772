//! WebAssembly code as it grows.

use super::layout::Layout;
use super::locals::EXIT;
use crate::cpu::tlb::Entry;
use crate::mem::PAGE_SIZE;
use alloc::vec::Vec;
use core::mem::offset_of;
use wasm_encoder::{BlockType, BranchHint, Encode, InstructionSink};

/// A function's code, or a part of it.
#[derive(Default)]
pub struct Code {
    bytes: Vec<u8>,
    /// Where conditions stand whose outcome is known nearly always, and the outcome. Compilers move the other one out of
    /// the way, which makes the rest half as long; guests' kernels run more code than caches hold, so that counts.
    hints: Vec<(usize, bool)>,
    /// What the TLB is asked, by number.
    questions: Vec<Question>,
}

/// A question to the TLB whose numbers may change as long as code is added: do these bytes lie in one page that it has?
#[derive(Clone, Copy)]
struct Question {
    /// From where to where, from an address on.
    range: (i64, i64),
    /// May they be stored to?
    write: bool,
    /// Where the numbers stand in the code: two `from`, two of how much room is behind it, and where the table's tags
    /// and distances are.
    from: [usize; 2],
    most: [usize; 2],
    tag: usize,
    add: usize,
}

impl Code {
    /// `i64.const` or `i32.const` of a small number; returns the place of it.
    fn small(&mut self, op: u8) -> usize {
        self.bytes.extend([op, 0x80, 0]);
        self.bytes.len() - 2
    }
    fn set_small(&mut self, place: usize, v: i64) {
        debug_assert!((-(1 << 13)..1 << 13).contains(&v));
        self.bytes[place] = v as u8 | 0x80;
        self.bytes[place + 1] = (v >> 7) as u8 & 0x7f;
    }
    /// `i64.load` or `i32.load` with an offset; returns the place of it.
    fn load(&mut self, op: u8) -> usize {
        self.bytes.extend([op, 0, 0x80, 0x80, 0x80, 0x80, 0]);
        self.bytes.len() - 5
    }
    fn set_offset(&mut self, place: usize, v: u32) {
        for (n, byte) in self.bytes[place..place + 5].iter_mut().enumerate() {
            *byte = (v >> (7 * n)) as u8 & 0x7f | u8::from(n < 4) << 7;
        }
    }

    /// Leaves on the stack the host address of what is at the linear address in `la` (i64), whose TLB entry is at `entry`
    /// (i32); or leaves the region by `apart` if not all that is asked for ([`Code::ask`]) lies in one page, and by `exit` if
    /// the TLB does not have that page. `label` is how many labels out that leads. Returns the question's number.
    pub fn question(&mut self, la: u32, entry: u32, [apart, exit]: [i32; 2], label: u32) -> usize {
        // Tags are whole pages, so XOR gives the distance in the page, or more than any. The tag is first: as the second
        // operand, or subtracted, V8 loads it twice.
        self.out().local_get(entry);
        let tag = self.load(I64_LOAD);
        self.out().local_get(la);
        let from = self.small(I64_CONST);
        self.out().i64_add().i64_xor();
        let most = self.small(I64_CONST);
        self.out().i64_gt_u();
        self.if_rarely(BlockType::Empty);
        self.out().i32_const(apart).i32_const(exit).local_get(la).i32_wrap_i64();
        let from = [from, self.small(I32_CONST)];
        self.out().i32_add().i32_const(PAGE_SIZE as i32 - 1).i32_and();
        let most = [most, self.small(I32_CONST)];
        self.out().i32_gt_u().select().local_set(EXIT).br(label + 1).end();
        self.out().local_get(la).i32_wrap_i64().local_get(entry);
        let add = self.load(I32_LOAD);
        self.out().i32_add();
        self.questions.push(Question { range: (0, 0), write: false, from, most, tag, add });
        self.questions.len() - 1
    }

    /// What a question is about: from where to where, from its address on, and whether that may be stored to.
    pub fn asked(&self, question: usize) -> ((i64, i64), bool) {
        let q = &self.questions[question];
        (q.range, q.write)
    }

    /// From now on a question is about this.
    pub fn ask(&mut self, question: usize, range: (i64, i64), write: bool, layout: &Layout) {
        let q = &mut self.questions[question];
        (q.range, q.write) = (range, write);
        let (Question { from, most, tag, add, .. }, table) = (*q, layout.tlb(write));
        for k in 0..2 {
            self.set_small(from[k], range.0);
            self.set_small(most[k], PAGE_SIZE as i64 - (range.1 - range.0));
        }
        self.set_offset(tag, table + offset_of!(Entry, tag) as u32);
        self.set_offset(add, table + offset_of!(Entry, add) as u32);
    }
}

const I64_CONST: u8 = 0x42;
const I32_CONST: u8 = 0x41;
const I64_LOAD: u8 = 0x29;
const I32_LOAD: u8 = 0x28;

impl Code {
    /// Writes at the end.
    pub fn out(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(&mut self.bytes)
    }
    /// `if`, of a condition that holds rarely.
    pub fn if_rarely(&mut self, ty: BlockType) {
        self.hints.push((self.bytes.len(), false));
        self.out().if_(ty);
    }
    /// The instruction with this number behind a prefix byte.
    pub fn number(&mut self, prefix: u8, number: u8) {
        self.bytes.push(prefix);
        u32::from(number).encode(&mut self.bytes);
    }
    /// Adds other code.
    pub fn append(&mut self, other: &Self) {
        let at = self.bytes.len();
        self.hints.extend(other.hints.iter().map(|&(place, holds)| (at + place, holds)));
        self.bytes.extend_from_slice(&other.bytes);
    }
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// What to tell compilers, if the function has so many bytes before this code.
    pub fn hints(&self, before: usize) -> Vec<BranchHint> {
        let hint = |&(at, holds): &(usize, bool)| BranchHint {
            branch_func_offset: (before + at) as u32,
            branch_hint_value: u32::from(holds),
        };
        self.hints.iter().map(hint).collect()
    }
}
