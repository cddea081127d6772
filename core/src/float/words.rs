//! Computing with words, which is done at once or written down as code: so the common case of floating point is one
//! text for the interpreter and for compiled code.

use crate::emit::Bin;

/// What can be done with words. Shift counts are taken modulo 64; comparisons give 0 or 1.
pub trait Words {
    /// 64 bits.
    type Word: Copy;

    /// A constant.
    fn imm(&mut self, v: u64) -> Self::Word;
    /// `a op b`.
    fn bin(&mut self, op: Bin, a: Self::Word, b: Self::Word) -> Self::Word;
    /// `a / b`, unsigned; `b` is not 0 where all that was checked holds.
    fn quotient(&mut self, a: Self::Word, b: Self::Word) -> Self::Word;
    /// Leading zeros.
    fn leading_zeros(&mut self, a: Self::Word) -> Self::Word;
    /// `c != 0 ? yes : no`.
    fn select(&mut self, c: Self::Word, yes: Self::Word, no: Self::Word) -> Self::Word;
    /// What is computed counts only if this is not 0.
    fn check(&mut self, c: Self::Word);

    /// `a op n`
    #[inline(always)]
    fn with(&mut self, op: Bin, a: Self::Word, n: u64) -> Self::Word {
        let n = self.imm(n);
        self.bin(op, a, n)
    }
    /// `n - a`
    #[inline(always)]
    fn less(&mut self, n: u64, a: Self::Word) -> Self::Word {
        let n = self.imm(n);
        self.bin(Bin::Sub, n, a)
    }
    /// `a + b`
    #[inline(always)]
    fn add(&mut self, a: Self::Word, b: Self::Word) -> Self::Word {
        self.bin(Bin::Add, a, b)
    }
    /// `a | b`
    #[inline(always)]
    fn or(&mut self, a: Self::Word, b: Self::Word) -> Self::Word {
        self.bin(Bin::Or, a, b)
    }
    /// Is it 0?
    #[inline(always)]
    fn is_zero(&mut self, a: Self::Word) -> Self::Word {
        self.with(Bin::Eq, a, 0)
    }
}

/// Does it at once.
pub struct Now {
    /// Has everything that was checked held?
    pub good: bool,
}

impl Words for Now {
    type Word = u64;

    #[inline(always)]
    fn imm(&mut self, v: u64) -> u64 {
        v
    }
    #[inline(always)]
    fn bin(&mut self, op: Bin, a: u64, b: u64) -> u64 {
        op.run(a, b)
    }
    #[inline(always)]
    fn quotient(&mut self, a: u64, b: u64) -> u64 {
        a.checked_div(b).unwrap_or(0)
    }
    #[inline(always)]
    fn leading_zeros(&mut self, a: u64) -> u64 {
        u64::from(a.leading_zeros())
    }
    #[inline(always)]
    fn select(&mut self, c: u64, yes: u64, no: u64) -> u64 {
        if c != 0 { yes } else { no }
    }
    #[inline(always)]
    fn check(&mut self, c: u64) {
        self.good &= c != 0;
    }
}
