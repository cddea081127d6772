//! Bytes of code with labels, and the length of each instruction.

/// A place in the code that may not be known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// How a place is written down.
#[derive(Clone, Copy)]
enum How {
    /// Four bytes, counted from their end.
    Relative,
    /// Its linear address in so many bytes, plus something.
    Absolute(usize, u64),
}

/// Writes code into a fixed area.
pub struct Asm {
    /// 64-bit code?
    pub long: bool,
    /// The linear address of the area.
    base: u64,
    /// The area.
    pub bytes: Vec<u8>,
    /// For each byte the length of the instruction that begins there, or 0.
    pub lengths: Vec<u8>,
    at: usize,
    labels: Vec<Option<usize>>,
    open: Vec<(usize, How, Label)>,
}

impl Asm {
    /// An area of `fill` at a linear address.
    pub fn new(long: bool, base: u64, fill: Vec<u8>) -> Self {
        let lengths = vec![0; fill.len()];
        Self { long, base, bytes: fill, lengths, at: 0, labels: Vec::new(), open: Vec::new() }
    }
    /// How far the area is written.
    pub fn at(&self) -> usize {
        self.at
    }
    /// Goes on somewhere else in the area.
    pub fn go(&mut self, at: usize) {
        self.at = at;
    }
    /// A new label.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }
    /// The label is here.
    pub fn set(&mut self, label: Label) {
        self.labels[label.0] = Some(self.at);
    }
    /// A new label that is here.
    pub fn here(&mut self) -> Label {
        let label = self.label();
        self.set(label);
        label
    }
    fn raw(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
    /// One instruction.
    pub fn ins(&mut self, bytes: &[u8]) {
        self.lengths[self.at] = bytes.len() as u8;
        self.raw(bytes);
    }
    /// One instruction, with REX.W in 64-bit code.
    pub fn wide(&mut self, bytes: &[u8]) {
        if self.long {
            let with: Vec<u8> = [0x48].iter().chain(bytes).copied().collect();
            self.ins(&with);
        } else {
            self.ins(bytes);
        }
    }
    /// One instruction of these bytes and a value of four, and perhaps one more byte.
    pub fn ins4(&mut self, bytes: &[u8], v: u64, more: &[u8]) {
        let v = (v as u32).to_le_bytes();
        let all: Vec<u8> = bytes.iter().chain(&v).chain(more).copied().collect();
        self.ins(&all);
    }
    /// The same with REX.W in 64-bit code.
    pub fn wide4(&mut self, bytes: &[u8], v: u64, more: &[u8]) {
        let v = (v as u32).to_le_bytes();
        let all: Vec<u8> = bytes.iter().chain(&v).chain(more).copied().collect();
        self.wide(&all);
    }
    /// A branch: opcode bytes, then the distance to the label in four.
    pub fn branch(&mut self, opcode: &[u8], to: Label) {
        self.open.push((self.at + opcode.len(), How::Relative, to));
        self.ins4(opcode, 0, &[]);
    }
    /// An instruction with the label's address, plus `more`, as its last four bytes or what is before `tail`.
    pub fn address(&mut self, bytes: &[u8], of: Label, more: u64, tail: &[u8]) {
        self.open.push((self.at + bytes.len(), How::Absolute(4, more), of));
        self.ins4(bytes, 0, tail);
    }
    /// The label's address, plus `more`, as data.
    pub fn pointer(&mut self, to: Label, more: u64) {
        let n = if self.long { 8 } else { 4 };
        self.open.push((self.at, How::Absolute(n, more), to));
        self.raw(&[0; 8][..n]);
    }
    /// Fills in where labels are.
    pub fn finish(&mut self) {
        for (at, how, label) in std::mem::take(&mut self.open) {
            let to = self.labels[label.0].expect("every label is set");
            let (v, n) = match how {
                How::Relative => ((to as u64).wrapping_sub(at as u64 + 4), 4),
                How::Absolute(n, more) => ((self.base + to as u64).wrapping_add(more), n),
            };
            self.bytes[at..at + n].copy_from_slice(&v.to_le_bytes()[..n]);
        }
    }
}
