//! WebAssembly code as it grows.

use alloc::vec::Vec;
use wasm_encoder::{BlockType, BranchHint, Encode, InstructionSink};

/// A function's code, or a part of it.
#[derive(Default)]
pub struct Code {
    bytes: Vec<u8>,
    /// Where conditions stand whose outcome is known nearly always, and the outcome. Compilers move the other one out of
    /// the way, which makes the rest half as long; guests' kernels run more code than caches hold, so that counts.
    hints: Vec<(usize, bool)>,
}

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
