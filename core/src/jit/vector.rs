//! Operations on vectors (`crate::vector` says what they mean) as WebAssembly's.

use super::ir::{Node, VECTOR, Val, Values};
use super::simd::Simd;
use crate::emit::Bin;
use crate::size::Size;
use crate::vector::{V128, VecImm, VecOp, VecShift, of_wide, wide};

impl Values {
    /// A constant.
    pub fn vector(&mut self, v: V128) -> Val {
        self.push(Node::Vector(v), VECTOR)
    }
    /// An instruction on a vector.
    pub(super) fn one(&mut self, op: Simd, a: Val) -> Val {
        self.push(Node::One(op, a), VECTOR)
    }
    /// An instruction on two vectors.
    pub(super) fn two(&mut self, op: Simd, a: Val, b: Val) -> Val {
        self.push(Node::Two(op, a, b), VECTOR)
    }
    /// All lanes shifted by a constant.
    pub(super) fn shifted(&mut self, op: Simd, v: Val, count: u32) -> Val {
        let count = self.imm(count.into());
        self.push(Node::Shift(op, v, count), VECTOR)
    }
    /// Bytes of `a` (0 to 15) and `b` (16 to 31).
    pub(super) fn shuffle(&mut self, a: Val, b: Val, bytes: [u8; 16]) -> Val {
        let bytes = self.vector(of_wide(u128::from_le_bytes(bytes)));
        self.push(Node::Shuffle(a, b, bytes), VECTOR)
    }

    /// Two halves, the low one first.
    pub fn pair(&mut self, lo: Val, hi: Val) -> Val {
        if lo == hi {
            return self.push(Node::Splat(lo), VECTOR);
        }
        let (v, lane, x) = match self.constant(hi) {
            Some(0) => (self.vector([0; 2]), 0, lo),
            _ => (self.push(Node::Splat(lo), VECTOR), 1, hi),
        };
        self.with_lane(v, Size::B8, lane, x)
    }
    /// Lane `k` (modulo the number of lanes), zero-extended.
    pub fn lane(&mut self, v: Val, lane: Size, k: u8) -> Val {
        self.push(Node::Lane(lane, k & (16 / lane as u8 - 1), v), lane.bits() as u8)
    }
    /// `v` with lane `k` (modulo the number of lanes) replaced by the low bits of `x`.
    pub fn with_lane(&mut self, v: Val, lane: Size, k: u8, x: Val) -> Val {
        self.push(Node::WithLane(lane, k & (16 / lane as u8 - 1), v, x), VECTOR)
    }
    /// The sign bits of the lanes.
    pub fn signs(&mut self, v: Val, lane: Size) -> Val {
        let op = match lane {
            Size::B1 => Simd::I8X16_BITMASK,
            Size::B2 => Simd::I16X8_BITMASK,
            Size::B4 => Simd::I32X4_BITMASK,
            Size::B8 => Simd::I64X2_BITMASK,
        };
        self.push(Node::Mask(op, v), 16 / lane as u8)
    }

    /// An operation that puts every byte of its result from a fixed place of `a` or `b`, or makes it 0. Which, it tells
    /// by doing it to the numbers of the bytes.
    fn moved(&mut self, a: Val, b: Val, op: impl Fn(V128, V128) -> V128) -> Val {
        let numbers = |first: u8| of_wide(u128::from_le_bytes(core::array::from_fn(|k| first + k as u8)));
        let from = wide(op(numbers(1), numbers(17))).to_le_bytes();
        let r = self.shuffle(a, b, from.map(|n| n.saturating_sub(1)));
        if !from.contains(&0) {
            return r;
        }
        let kept = from.map(|n| if n == 0 { 0 } else { 0xff });
        let kept = self.vector(of_wide(u128::from_le_bytes(kept)));
        self.two(Simd::V128_AND, r, kept)
    }

    /// `a op b`, if it is short.
    #[inline(never)]
    pub fn vec(&mut self, op: VecOp, a: Val, b: Val) -> Option<Val> {
        // A value with itself.
        if a == b || matches!(self.node(a), Node::Local(_)) && self.node(a) == self.node(b) {
            match op {
                VecOp::Xor | VecOp::AndNot | VecOp::Sub8 | VecOp::Sub16 | VecOp::Sub32 | VecOp::Sub64 => {
                    return Some(self.vector([0; 2]));
                }
                VecOp::Eq8 | VecOp::Eq16 | VecOp::Eq32 | VecOp::Eq64 => return Some(self.vector([!0; 2])),
                _ => {}
            }
        }
        Some(match op {
            VecOp::AndNot => self.two(Simd::V128_ANDNOT, b, a),
            VecOp::MulHiS16 => self.high_products(Simd::I32X4_EXTMUL_LOW_S, Simd::I32X4_EXTMUL_HIGH_S, a, b),
            VecOp::MulHiU16 => self.high_products(Simd::I32X4_EXTMUL_LOW_U, Simd::I32X4_EXTMUL_HIGH_U, a, b),
            VecOp::MulHiRoundS16 => {
                // WebAssembly saturates the one product that does not fit; here it wraps.
                let r = self.two(Simd::I16X8_Q15MULR_SAT_S, a, b);
                let least = self.vector([0x8000_8000_8000_8000; 2]);
                let (x, y) = (self.two(Simd::I16X8_EQ, a, least), self.two(Simd::I16X8_EQ, b, least));
                let both = self.two(Simd::V128_AND, x, y);
                self.two(Simd::V128_XOR, r, both)
            }
            VecOp::MulEvenU32 => self.even_products(Simd::I64X2_EXTMUL_LOW_U, a, b),
            VecOp::MulEvenS32 => self.even_products(Simd::I64X2_EXTMUL_LOW_S, a, b),
            VecOp::DotU8S8 => {
                let low = self.vector([0x00ff_00ff_00ff_00ff; 2]);
                let (x, y) = (self.two(Simd::V128_AND, a, low), self.shifted(Simd::I16X8_SHL, b, 8));
                let y = self.shifted(Simd::I16X8_SHR_S, y, 8);
                let even = self.two(Simd::I16X8_MUL, x, y);
                let (x, y) = (self.shifted(Simd::I16X8_SHR_U, a, 8), self.shifted(Simd::I16X8_SHR_S, b, 8));
                let odd = self.two(Simd::I16X8_MUL, x, y);
                self.two(Simd::I16X8_ADD_SAT_S, even, odd)
            }
            VecOp::Sad8 => {
                let (more, less) = (self.two(Simd::I8X16_MAX_U, a, b), self.two(Simd::I8X16_MIN_U, a, b));
                let v = self.two(Simd::I8X16_SUB, more, less);
                let v = self.one(Simd::I16X8_EXTADD_PAIRWISE_U, v);
                let v = self.one(Simd::I32X4_EXTADD_PAIRWISE_U, v);
                let high = self.shifted(Simd::I64X2_SHR_U, v, 32);
                let v = self.two(Simd::I64X2_ADD, v, high);
                let low = self.vector([0xffff_ffff; 2]);
                self.two(Simd::V128_AND, v, low)
            }
            VecOp::PairAdd16 => self.pairs(Simd::I16X8_ADD, 2, a, b),
            VecOp::PairAdd32 => self.pairs(Simd::I32X4_ADD, 4, a, b),
            VecOp::PairAddSatS16 => self.pairs(Simd::I16X8_ADD_SAT_S, 2, a, b),
            VecOp::PairSub16 => self.pairs(Simd::I16X8_SUB, 2, a, b),
            VecOp::PairSub32 => self.pairs(Simd::I32X4_SUB, 4, a, b),
            VecOp::PairSubSatS16 => self.pairs(Simd::I16X8_SUB_SAT_S, 2, a, b),
            VecOp::Sign8 => self.signed(Simd::I8X16_SHR_S, Simd::I8X16_SUB, Simd::I8X16_EQ, a, b),
            VecOp::Sign16 => self.signed(Simd::I16X8_SHR_S, Simd::I16X8_SUB, Simd::I16X8_EQ, a, b),
            VecOp::Sign32 => self.signed(Simd::I32X4_SHR_S, Simd::I32X4_SUB, Simd::I32X4_EQ, a, b),
            VecOp::Permute8 => {
                // WebAssembly looks at all bits of an index.
                let known = self.vector([0x8f8f_8f8f_8f8f_8f8f; 2]);
                let index = self.two(Simd::V128_AND, b, known);
                self.two(Simd::I8X16_SWIZZLE, a, index)
            }
            VecOp::InterleaveLow8
            | VecOp::InterleaveLow16
            | VecOp::InterleaveLow32
            | VecOp::InterleaveLow64
            | VecOp::InterleaveHigh8
            | VecOp::InterleaveHigh16
            | VecOp::InterleaveHigh32
            | VecOp::InterleaveHigh64
            | VecOp::DuplicateEven32
            | VecOp::DuplicateOdd32 => self.moved(a, b, op.meaning()),
            VecOp::MinPosU16 => return None,
            _ => {
                if let Some(op) = of_two(op) {
                    return Some(self.two(op, a, b));
                }
                of_source(op).iter().fold(b, |v, &op| self.one(op, v))
            }
        })
    }

    /// The high halves of all products of words.
    fn high_products(&mut self, low: Simd, high: Simd, a: Val, b: Val) -> Val {
        let (low, high) = (self.two(low, a, b), self.two(high, a, b));
        self.shuffle(low, high, every_other(2, 1))
    }
    /// The products of even doublewords.
    fn even_products(&mut self, op: Simd, a: Val, b: Val) -> Val {
        let even = every_other(4, 0);
        let (a, b) = (self.shuffle(a, a, even), self.shuffle(b, b, even));
        self.two(op, a, b)
    }
    /// An operation on neighbours of `bytes` bytes.
    fn pairs(&mut self, op: Simd, bytes: u8, a: Val, b: Val) -> Val {
        let (even, odd) = (self.shuffle(a, b, every_other(bytes, 0)), self.shuffle(a, b, every_other(bytes, 1)));
        self.two(op, even, odd)
    }
    /// `a` negated where `b` is negative, zero where it is.
    fn signed(&mut self, shift: Simd, sub: Simd, eq: Simd, a: Val, b: Val) -> Val {
        // 31 modulo the width of a lane.
        let negative = self.shifted(shift, b, 31);
        let flipped = self.two(Simd::V128_XOR, a, negative);
        let r = self.two(sub, flipped, negative);
        let zero = self.vector([0; 2]);
        let zero = self.two(eq, b, zero);
        self.two(Simd::V128_ANDNOT, r, zero)
    }

    /// `a op b` with a constant, if it is short.
    #[inline(never)]
    pub fn vec_imm(&mut self, op: VecImm, a: Val, b: Val, imm: u8) -> Option<Val> {
        (op != VecImm::MultiSad8).then(|| self.moved(a, b, |a, b| op.run(a, b, imm)))
    }

    /// All lanes of `v` shifted.
    #[inline(never)]
    pub fn vec_shift(&mut self, op: VecShift, v: Val, count: Val) -> Val {
        let (simd, width, arithmetic) = match op {
            VecShift::Shl16 => (Simd::I16X8_SHL, 16, false),
            VecShift::Shl32 => (Simd::I32X4_SHL, 32, false),
            VecShift::Shl64 => (Simd::I64X2_SHL, 64, false),
            VecShift::Shr16 => (Simd::I16X8_SHR_U, 16, false),
            VecShift::Shr32 => (Simd::I32X4_SHR_U, 32, false),
            VecShift::Shr64 => (Simd::I64X2_SHR_U, 64, false),
            VecShift::Sar16 => (Simd::I16X8_SHR_S, 16, true),
            VecShift::Sar32 => (Simd::I32X4_SHR_S, 32, true),
        };
        // WebAssembly takes counts modulo the width.
        let all = self.imm(width);
        let less = self.bin(Bin::LtU, count, all);
        if arithmetic {
            let most = self.imm(width - 1);
            let count = self.select(less, count, most);
            return self.push(Node::Shift(simd, v, count), VECTOR);
        }
        let r = self.push(Node::Shift(simd, v, count), VECTOR);
        let zero = self.vector([0; 2]);
        self.select(less, r, zero)
    }
}

/// Of two vectors, as one of 32 bytes, every other group of `bytes` bytes, from group `first` on.
fn every_other(bytes: u8, first: u8) -> [u8; 16] {
    core::array::from_fn(|k| {
        let k = k as u8;
        (k / bytes * 2 + first) * bytes + k % bytes
    })
}

/// The instruction that does the operation.
fn of_two(op: VecOp) -> Option<Simd> {
    Some(match op {
        VecOp::And => Simd::V128_AND,
        VecOp::Or => Simd::V128_OR,
        VecOp::Xor => Simd::V128_XOR,
        VecOp::Add8 => Simd::I8X16_ADD,
        VecOp::Add16 => Simd::I16X8_ADD,
        VecOp::Add32 => Simd::I32X4_ADD,
        VecOp::Add64 => Simd::I64X2_ADD,
        VecOp::Sub8 => Simd::I8X16_SUB,
        VecOp::Sub16 => Simd::I16X8_SUB,
        VecOp::Sub32 => Simd::I32X4_SUB,
        VecOp::Sub64 => Simd::I64X2_SUB,
        VecOp::AddSatS8 => Simd::I8X16_ADD_SAT_S,
        VecOp::AddSatS16 => Simd::I16X8_ADD_SAT_S,
        VecOp::AddSatU8 => Simd::I8X16_ADD_SAT_U,
        VecOp::AddSatU16 => Simd::I16X8_ADD_SAT_U,
        VecOp::SubSatS8 => Simd::I8X16_SUB_SAT_S,
        VecOp::SubSatS16 => Simd::I16X8_SUB_SAT_S,
        VecOp::SubSatU8 => Simd::I8X16_SUB_SAT_U,
        VecOp::SubSatU16 => Simd::I16X8_SUB_SAT_U,
        VecOp::Mul16 => Simd::I16X8_MUL,
        VecOp::Mul32 => Simd::I32X4_MUL,
        VecOp::DotS16 => Simd::I32X4_DOT_S,
        VecOp::AvgU8 => Simd::I8X16_AVGR_U,
        VecOp::AvgU16 => Simd::I16X8_AVGR_U,
        VecOp::MinU8 => Simd::I8X16_MIN_U,
        VecOp::MinS8 => Simd::I8X16_MIN_S,
        VecOp::MinU16 => Simd::I16X8_MIN_U,
        VecOp::MinS16 => Simd::I16X8_MIN_S,
        VecOp::MinU32 => Simd::I32X4_MIN_U,
        VecOp::MinS32 => Simd::I32X4_MIN_S,
        VecOp::MaxU8 => Simd::I8X16_MAX_U,
        VecOp::MaxS8 => Simd::I8X16_MAX_S,
        VecOp::MaxU16 => Simd::I16X8_MAX_U,
        VecOp::MaxS16 => Simd::I16X8_MAX_S,
        VecOp::MaxU32 => Simd::I32X4_MAX_U,
        VecOp::MaxS32 => Simd::I32X4_MAX_S,
        VecOp::Eq8 => Simd::I8X16_EQ,
        VecOp::Eq16 => Simd::I16X8_EQ,
        VecOp::Eq32 => Simd::I32X4_EQ,
        VecOp::Eq64 => Simd::I64X2_EQ,
        VecOp::GtS8 => Simd::I8X16_GT_S,
        VecOp::GtS16 => Simd::I16X8_GT_S,
        VecOp::GtS32 => Simd::I32X4_GT_S,
        VecOp::GtS64 => Simd::I64X2_GT_S,
        VecOp::NarrowS16 => Simd::I8X16_NARROW_S,
        VecOp::NarrowU16 => Simd::I8X16_NARROW_U,
        VecOp::NarrowS32 => Simd::I16X8_NARROW_S,
        VecOp::NarrowU32 => Simd::I16X8_NARROW_U,
        _ => return None,
    })
}

/// The instructions that make the operation's result of its source, in order.
fn of_source(op: VecOp) -> &'static [Simd] {
    match op {
        VecOp::Abs8 => &[Simd::I8X16_ABS],
        VecOp::Abs16 => &[Simd::I16X8_ABS],
        VecOp::Abs32 => &[Simd::I32X4_ABS],
        VecOp::ExtendS8To16 => &[Simd::I16X8_EXTEND_LOW_S],
        VecOp::ExtendS8To32 => &[Simd::I16X8_EXTEND_LOW_S, Simd::I32X4_EXTEND_LOW_S],
        VecOp::ExtendS8To64 => &[Simd::I16X8_EXTEND_LOW_S, Simd::I32X4_EXTEND_LOW_S, Simd::I64X2_EXTEND_LOW_S],
        VecOp::ExtendS16To32 => &[Simd::I32X4_EXTEND_LOW_S],
        VecOp::ExtendS16To64 => &[Simd::I32X4_EXTEND_LOW_S, Simd::I64X2_EXTEND_LOW_S],
        VecOp::ExtendS32To64 => &[Simd::I64X2_EXTEND_LOW_S],
        VecOp::ExtendU8To16 => &[Simd::I16X8_EXTEND_LOW_U],
        VecOp::ExtendU8To32 => &[Simd::I16X8_EXTEND_LOW_U, Simd::I32X4_EXTEND_LOW_U],
        VecOp::ExtendU8To64 => &[Simd::I16X8_EXTEND_LOW_U, Simd::I32X4_EXTEND_LOW_U, Simd::I64X2_EXTEND_LOW_U],
        VecOp::ExtendU16To32 => &[Simd::I32X4_EXTEND_LOW_U],
        VecOp::ExtendU16To64 => &[Simd::I32X4_EXTEND_LOW_U, Simd::I64X2_EXTEND_LOW_U],
        VecOp::ExtendU32To64 => &[Simd::I64X2_EXTEND_LOW_U],
        _ => unreachable!("every operation is of one kind"),
    }
}

#[cfg(test)]
mod tests;
