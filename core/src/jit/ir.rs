//! What one instruction computes: pure values as a graph, those of general registers and (`vector.rs`) of vectors.
//!
//! The graph lives for one instruction. Registers do not change before its end, so a value may be computed anywhere
//! inside it; what is used more than once is computed once (`lower.rs`).

use super::simd::Simd;
use crate::emit::{Bin, Slot, Un};
use crate::size::Size;
use crate::vector::V128;
use alloc::vec;
use alloc::vec::Vec;

/// A value of 64 bits, or a vector: its number in [`Values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Val(pub u32);

/// How a value comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A constant.
    Const(u64),
    /// What a local holds at the beginning of the instruction, or since the step that set it.
    Local(u32),
    /// What a field of the CPU holds that has no local ([`super::layout::Layout::field`]), at the beginning of the
    /// instruction.
    Field(Slot),
    /// `a op b`.
    Bin(Bin, Val, Val),
    /// `op a`.
    Un(Un, Val),
    /// `a / b`, signed or not, where no divisor is 0 or -1 (signed) after the steps before.
    Quotient(bool, Val, Val),
    /// The low bytes, sign-extended.
    Sx(Size, Val),
    /// `c != 0 ? yes : no`.
    Select(Val, Val, Val),
    /// The same, if it mostly is the second: no more is computed than has to be.
    Likely(Val, Val, Val),
    /// A RIP: this far from the beginning of the region's page.
    Rip(i64),
    /// The image of the arithmetic flags, from `op | size << 8`, `a`, `b` and `r` (`flags.rs`).
    Image([Val; 4]),
    /// A constant vector.
    Vector(V128),
    /// All lanes of a vector are this.
    Splat(Val),
    /// A lane of a vector, zero-extended.
    Lane(Size, u8, Val),
    /// A vector with a lane replaced.
    WithLane(Size, u8, Val, Val),
    /// An instruction on a vector, with a vector.
    One(Simd, Val),
    /// An instruction on a vector, with a small number.
    Mask(Simd, Val),
    /// An instruction on two vectors.
    Two(Simd, Val, Val),
    /// An instruction on a vector and a count.
    Shift(Simd, Val, Val),
    /// A vector of floating-point numbers of a size, the low one made of an integer.
    OfInt(Size, Val, Val),
    /// The low one of such a vector, truncated to an integer.
    ToInt(Size, Val),
    /// Arithmetic on the low floating-point numbers of two vectors; what is above it is the first one's.
    Low(LowOp, Size, Val, Val),
    /// Are the low numbers equal, or (`true`) is the first one less?
    LowRelation(bool, Size, Val, Val),
    /// Bytes of two vectors, as the constant third one names them.
    Shuffle(Val, Val, Val),
}

impl Node {
    /// The values it is made of.
    pub fn parts(self) -> impl Iterator<Item = Val> {
        let [a, b, c, d] = match self {
            Self::Const(_) | Self::Local(_) | Self::Field(_) | Self::Rip(_) | Self::Vector(_) => [None; 4],
            Self::Un(_, a) | Self::Sx(_, a) | Self::Splat(a) => [Some(a), None, None, None],
            Self::Lane(_, _, a) | Self::One(_, a) | Self::Mask(_, a) | Self::ToInt(_, a) => [Some(a), None, None, None],
            Self::Bin(_, a, b)
            | Self::WithLane(_, _, a, b)
            | Self::Two(_, a, b)
            | Self::Shift(_, a, b)
            | Self::OfInt(_, a, b)
            | Self::Quotient(_, a, b) => [Some(a), Some(b), None, None],
            Self::LowRelation(_, _, a, b) => [Some(a), Some(b), None, None],
            // The first is asked for twice.
            Self::Low(_, _, a, b) => [Some(a), Some(b), Some(a), None],
            // The third is not a value but a part of the instruction.
            Self::Shuffle(a, b, _) => [Some(a), Some(b), None, None],
            Self::Select(a, b, c) | Self::Likely(a, b, c) => [Some(a), Some(b), Some(c), None],
            Self::Image(of) => of.map(Some),
        };
        [a, b, c, d].into_iter().flatten()
    }
}

/// Arithmetic on one floating-point number, or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LowOp {
    Add,
    Sub,
    Mul,
    Div,
    /// Of the second.
    Sqrt,
}

/// What [`Values::bits`] says of a vector.
pub const VECTOR: u8 = 128;

/// The values of an instruction.
#[derive(Default)]
pub struct Values {
    nodes: Vec<Node>,
    /// How many low bits may be other than zero.
    bits: Vec<u8>,
}

impl Values {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
    /// Are these values computed from one for which `is` holds, or is it one of them?
    pub fn reach(&self, roots: impl Iterator<Item = Val>, is: impl Fn(Node) -> bool) -> bool {
        let mut reached = vec![false; self.nodes.len()];
        roots.for_each(|v| reached[v.0 as usize] = true);
        // What a value is made of has a lower number.
        (0..self.nodes.len()).rev().any(|n| {
            if reached[n] {
                self.nodes[n].parts().for_each(|v| reached[v.0 as usize] = true);
            }
            reached[n] && is(self.nodes[n])
        })
    }
    /// How the value comes about.
    #[inline]
    pub fn node(&self, v: Val) -> Node {
        self.nodes[v.0 as usize]
    }
    /// How many low bits of the value may be other than zero.
    #[inline]
    pub fn bits(&self, v: Val) -> u8 {
        self.bits[v.0 as usize]
    }
    /// The constant it is.
    pub fn constant(&self, v: Val) -> Option<u64> {
        match self.node(v) {
            Node::Const(c) => Some(c),
            _ => None,
        }
    }
    /// Is it 0 or 1?
    fn is_bool(&self, v: Val) -> bool {
        self.bits(v) <= 1
    }

    /// Another value.
    #[inline(never)]
    pub fn push(&mut self, node: Node, bits: u8) -> Val {
        self.nodes.push(node);
        self.bits.push(bits);
        Val(self.nodes.len() as u32 - 1)
    }
    /// A constant.
    pub fn imm(&mut self, c: u64) -> Val {
        self.push(Node::Const(c), 64 - c.leading_zeros() as u8)
    }
    /// What was the value of a local is a lane of a vector.
    pub fn becomes_lane(&mut self, v: Val, size: Size, of: Val) {
        self.nodes[v.0 as usize] = Node::Lane(size, 0, of);
    }
    /// A local, which has no more than `bits` bits.
    pub fn local(&mut self, local: u32, bits: u8) -> Val {
        self.push(Node::Local(local), bits)
    }
    /// A RIP this far from the beginning of the region's page.
    pub fn rip(&mut self, off: i64, bits: u8) -> Val {
        self.push(Node::Rip(off), bits)
    }
    /// The image of the flags.
    pub fn image(&mut self, of: [Val; 4]) -> Val {
        self.push(Node::Image(of), 12)
    }

    /// `v` cut to its low `bits` bits.
    pub fn cut(&mut self, v: Val, bits: u8) -> Val {
        if self.bits(v) <= bits {
            return v;
        }
        let mask = self.imm(u64::MAX >> (64 - bits));
        self.bin(Bin::And, v, mask)
    }

    /// The low bytes, sign-extended.
    #[inline(never)]
    pub fn sx(&mut self, size: Size, v: Val) -> Val {
        if size == Size::B8 || u32::from(self.bits(v)) < size.bits() {
            return v;
        }
        let v = self.uncut(v, size.bits() as u8);
        match self.node(v) {
            Node::Const(c) => self.imm(size.sx(c)),
            Node::Sx(inner, _) if inner.bytes() <= size.bytes() => v,
            _ => self.push(Node::Sx(size, v), 64),
        }
    }

    /// What `v` was before its bits above `bits` were cut off or made, for whoever does not look at those.
    pub fn uncut(&self, mut v: Val, bits: u8) -> Val {
        loop {
            v = match self.node(v) {
                Node::Bin(Bin::And, x, mask) if self.constant(mask).is_some_and(|m| covers(m, bits)) => x,
                Node::Sx(size, x) if size.bits() >= u32::from(bits) => x,
                _ => return v,
            };
        }
    }

    /// `op a`.
    pub fn un(&mut self, op: Un, a: Val) -> Val {
        let bits = match op {
            Un::Clz | Un::Ctz | Un::Popcnt => 7,
            Un::Bswap => 64,
            Un::Parity => 1,
        };
        self.push(Node::Un(op, a), bits)
    }

    /// `a / b`, see [`Node::Quotient`].
    pub fn quotient(&mut self, signed: bool, a: Val, b: Val) -> Val {
        self.push(Node::Quotient(signed, a, b), 64)
    }

    /// `c != 0 ? yes : no`.
    pub fn select(&mut self, c: Val, yes: Val, no: Val) -> Val {
        match self.constant(c) {
            Some(0) => no,
            Some(_) => yes,
            None if yes == no => yes,
            None => self.push(Node::Select(c, yes, no), self.bits(yes).max(self.bits(no))),
        }
    }

    /// See [`Node::Likely`].
    pub fn likely(&mut self, c: Val, yes: Val, no: Val) -> Val {
        self.push(Node::Likely(c, yes, no), self.bits(yes).max(self.bits(no)))
    }

    /// `a op b`.
    #[inline(never)]
    pub fn bin(&mut self, op: Bin, a: Val, b: Val) -> Val {
        use Bin::*;
        if let (Some(x), Some(y)) = (self.constant(a), self.constant(b)) {
            return self.imm(op.run(x, y));
        }
        // Constants to the right.
        let (a, b) = match op {
            Add | Mul | And | Or | Xor | Eq | Ne if self.constant(a).is_some() => (b, a),
            _ => (a, b),
        };
        if let Some(v) = self.known(op, a, b) {
            return v;
        }
        if let MulHiU | MulHiS = op {
            return self.high_product(op == MulHiS, a, b);
        }
        let (x, y) = (self.bits(a), self.bits(b));
        let bits = match op {
            And => x.min(y),
            Or | Xor => x.max(y),
            Add => (x.max(y) + 1).min(64),
            Mul => (x + y).min(64),
            Shr => match self.constant(b) {
                Some(n) => x.saturating_sub(n as u8 & 63),
                None => x,
            },
            Shl => match self.constant(b) {
                Some(n) => (x + (n as u8 & 63)).min(64),
                None => 64,
            },
            Eq | Ne | LtU | LtS => 1,
            Sub | MulHiU | MulHiS | Sar => 64,
        };
        self.push(Node::Bin(op, a, b), bits)
    }

    /// A simpler value that `a op b` is equal to.
    fn known(&mut self, op: Bin, a: Val, b: Val) -> Option<Val> {
        use Bin::*;
        let c = self.constant(b);
        match (op, c) {
            (Add | Sub | Or | Xor | Shl | Shr | Sar, Some(0)) | (Mul, Some(1)) => Some(a),
            (And | Mul, Some(0)) => Some(b),
            (And, Some(m)) if covers(m, self.bits(a)) => Some(a),
            (Add | Sub, Some(n)) => {
                let n = if op == Sub { n.wrapping_neg() } else { n };
                match self.node(a) {
                    Node::Rip(off) => Some(self.push(Node::Rip(off.wrapping_add(n as i64)), self.bits(a))),
                    Node::Bin(Add, x, k) if self.constant(k).is_some() => {
                        let sum = n.wrapping_add(self.constant(k)?);
                        let sum = self.imm(sum);
                        Some(self.bin(Add, x, sum))
                    }
                    // One shape for what differs in nothing else.
                    _ if op == Sub => {
                        let n = self.imm(n);
                        Some(self.bin(Add, a, n))
                    }
                    _ => None,
                }
            }
            (And, Some(m)) => match self.node(a) {
                Node::Bin(And, x, k) if self.constant(k).is_some() => {
                    let both = m & self.constant(k)?;
                    let both = self.imm(both);
                    Some(self.bin(And, x, both))
                }
                _ => None,
            },
            // Both shifts by the same: sign extension.
            (Sar, Some(n @ (32 | 48 | 56))) => match self.node(a) {
                Node::Bin(Shl, x, k) if self.constant(k) == Some(n) => Some(self.sx(
                    if n == 32 {
                        Size::B4
                    } else if n == 48 {
                        Size::B2
                    } else {
                        Size::B1
                    },
                    x,
                )),
                _ => None,
            },
            (Shr, Some(n)) if u64::from(self.bits(a)) <= n & 63 => Some(self.imm(0)),
            (Xor, Some(1)) => match self.node(a) {
                Node::Bin(Eq, x, y) => Some(self.bin(Ne, x, y)),
                Node::Bin(Ne, x, y) => Some(self.bin(Eq, x, y)),
                _ => None,
            },
            // Comparisons do not mind whether both sides are sign-extended or cut.
            (Eq | Ne | LtU | LtS, _) => self.compared(op, a, b),
            (Xor | Sub, None) if a == b => Some(self.imm(0)),
            _ => None,
        }
    }

    /// The high half of a product, from those of the factors' halves.
    fn high_product(&mut self, signed: bool, a: Val, b: Val) -> Val {
        use Bin::*;
        let half = self.imm(32);
        let [(a0, a1), (b0, b1)] = [a, b].map(|v| (self.cut(v, 32), self.bin(Shr, v, half)));
        let [p00, p01, p10, p11] = [(a0, b0), (a0, b1), (a1, b0), (a1, b1)].map(|(x, y)| self.bin(Mul, x, y));
        let carry = self.bin(Shr, p00, half);
        let middle = self.bin(Add, p01, carry);
        let (low, high) = (self.cut(middle, 32), self.bin(Shr, middle, half));
        let middle = self.bin(Add, p10, low);
        let middle = self.bin(Shr, middle, half);
        let sum = self.bin(Add, p11, high);
        let mut r = self.bin(Add, sum, middle);
        if signed {
            // A negative factor was taken for one that is 2^64 larger.
            for (x, y) in [(a, b), (b, a)] {
                let all = self.imm(63);
                let sign = self.bin(Sar, x, all);
                let extra = self.bin(And, sign, y);
                r = self.bin(Sub, r, extra);
            }
        }
        r
    }

    fn compared(&mut self, op: Bin, a: Val, b: Val) -> Option<Val> {
        use Bin::*;
        let c = self.constant(b);
        match (op, c) {
            (Eq, Some(0)) if self.is_bool(a) => match self.node(a) {
                Node::Bin(Eq, x, y) => Some(self.bin(Ne, x, y)),
                Node::Bin(Ne, x, y) => Some(self.bin(Eq, x, y)),
                _ => None,
            },
            (Ne, Some(0)) if self.is_bool(a) => Some(a),
            _ => None,
        }
    }
}

/// Does `mask` keep all of the low `bits` bits?
fn covers(mask: u64, bits: u8) -> bool {
    mask.trailing_ones() >= u32::from(bits)
}
