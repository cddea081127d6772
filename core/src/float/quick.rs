//! The common case of x87 arithmetic, on plain numbers in registers: operands and result are normal, results have 64
//! bits and are rounded to nearest, and all exceptions are masked. It agrees with the general way (`x87.rs`) bit by
//! bit, and leaves to it what is not common.
//!
//! It is written over [`Words`], without a branch: the interpreter does it, compiled code has it in line.

use super::env::flags;
use super::f80::F80;
use super::unpacked::INTEGER_BIT;
use super::words::{Now, Words};
use crate::emit::Bin::{self, And, Eq, LtU, Mul, Or, Shl, Shr, Sub, Xor};

/// A biased exponent that no finite number has.
const SPECIAL: u64 = 0x7fff;
/// What is added to the exponent of an f64, and of an f32.
const FROM_F64: u64 = 16383 - 1023;
const FROM_F32: u64 = 16383 - 127;
/// Where the sign is in a register's upper part.
const SIGN: u64 = 0x8000;

/// A register as it is: significand, then sign and exponent.
#[derive(Clone, Copy, Debug)]
pub struct Register<W> {
    /// The significand with its integer bit.
    pub sig: W,
    /// Sign (bit 15) and biased exponent.
    pub se: W,
}

impl From<F80> for Register<u64> {
    #[inline(always)]
    fn from(v: F80) -> Self {
        Self { sig: v.sig, se: v.se.into() }
    }
}
impl From<Register<u64>> for F80 {
    #[inline(always)]
    fn from(v: Register<u64>) -> Self {
        Self { sig: v.sig, se: v.se as u16 }
    }
}

/// A normal number.
#[derive(Clone, Copy, Debug)]
pub struct Normal<W> {
    /// Bit 15: negative.
    sign: W,
    /// Biased as in [`F80`]: 1 to 7FFEh.
    exp: W,
    /// With its integer bit.
    sig: W,
}

/// A result.
#[derive(Clone, Copy, Debug)]
pub struct Quick<T, W> {
    /// The number.
    pub value: T,
    /// What it adds to the status word: PE (not exact) and C1 (rounded away from zero).
    pub status: W,
}

/// Is `from <= v < from + number`?
#[inline(always)]
fn within<A: Words>(w: &mut A, v: A::Word, from: u64, number: u64) -> A::Word {
    let v = w.with(Bin::Add, v, from.wrapping_neg());
    w.with(LtU, v, number)
}

/// PE and C1 of a result that is not exact, rounded up.
#[inline(always)]
fn status<A: Words>(w: &mut A, exact: A::Word, up: A::Word) -> A::Word {
    let inexact = w.with(Xor, exact, 1);
    let pe = w.with(Shl, inexact, flags::PE.trailing_zeros().into());
    let c1 = w.with(Shl, up, 9);
    w.or(pe, c1)
}

impl<W: Copy> Normal<W> {
    /// From a register.
    #[inline(always)]
    pub fn of<A: Words<Word = W>>(w: &mut A, v: Register<W>) -> Self {
        let exp = w.with(And, v.se, SPECIAL);
        let normal = within(w, exp, 1, SPECIAL - 1);
        w.check(normal);
        let integer = w.with(Shr, v.sig, 63);
        w.check(integer);
        Self { sign: w.with(And, v.se, SIGN), exp, sig: v.sig }
    }
    /// From an f32.
    #[inline(always)]
    pub fn of_f32<A: Words<Word = W>>(w: &mut A, bits: W) -> Self {
        Self::of_format(w, bits, 23, 0xff, FROM_F32)
    }
    /// From an f64.
    #[inline(always)]
    pub fn of_f64<A: Words<Word = W>>(w: &mut A, bits: W) -> Self {
        Self::of_format(w, bits, 52, 0x7ff, FROM_F64)
    }
    /// From a format with so many bits of fraction, whose exponents are below `special`, and `bias` less than here.
    #[inline(always)]
    fn of_format<A: Words<Word = W>>(w: &mut A, bits: W, fraction: u64, special: u64, bias: u64) -> Self {
        let exp = w.with(Shr, bits, fraction);
        let exp = w.with(And, exp, special);
        let normal = within(w, exp, 1, special - 1);
        w.check(normal);
        // The sign is above the exponent, and here it is bit 15.
        let sign = w.with(Shr, bits, fraction + u64::from(special.count_ones()) - 15);
        let sig = w.with(Shl, bits, 63 - fraction);
        Self { sign: w.with(And, sign, SIGN), exp: w.with(Bin::Add, exp, bias), sig: w.with(Or, sig, INTEGER_BIT) }
    }
    /// From a signed integer other than 0.
    #[inline(always)]
    pub fn of_integer<A: Words<Word = W>>(w: &mut A, v: W) -> Self {
        let v = of_integer(w, v);
        Self::of(w, v)
    }
    /// For a register.
    #[inline(always)]
    pub fn pack<A: Words<Word = W>>(self, w: &mut A) -> Register<W> {
        Register { sig: self.sig, se: w.or(self.sign, self.exp) }
    }
    /// With the other sign.
    #[inline(always)]
    pub fn negated<A: Words<Word = W>>(self, w: &mut A) -> Self {
        Self { sign: w.with(Xor, self.sign, SIGN), ..self }
    }
    /// As an f32 (`single`) or f64, if that is normal.
    #[inline(always)]
    pub fn narrowed<A: Words<Word = W>>(self, w: &mut A, single: bool) -> Quick<W, W> {
        let (bias, special, fraction) = if single { (FROM_F32, 0xff, 23) } else { (FROM_F64, 0x7ff, 52) };
        // Rounding may carry into the exponent, so the largest is the general way's.
        let normal = within(w, self.exp, bias + 1, special - 2);
        w.check(normal);
        let drop = 63 - fraction;
        let rest = w.with(And, self.sig, (1 << drop) - 1);
        let kept = w.with(Shr, self.sig, drop);
        let odd = w.with(And, kept, 1);
        let most = w.less(1 << (drop - 1), odd);
        let up = w.bin(LtU, most, rest);
        // The integer bit counts in the exponent.
        let exp = w.with(Bin::Add, self.exp, (bias + 1).wrapping_neg());
        let exp = w.with(Shl, exp, fraction);
        let bits = w.add(exp, kept);
        let bits = w.add(bits, up);
        let sign = w.with(Shl, self.sign, if single { 16 } else { 48 });
        let exact = w.is_zero(rest);
        Quick { value: w.or(sign, bits), status: status(w, exact, up) }
    }
}

/// An f64 that is normal or zero, for a register.
#[inline(always)]
pub fn widened<A: Words>(w: &mut A, bits: A::Word, single: bool) -> Register<A::Word> {
    let (top, fraction, special, bias) = if single { (31, 23, 0xff, FROM_F32) } else { (63, 52, 0x7ff, FROM_F64) };
    let exp = w.with(Shr, bits, fraction);
    let exp = w.with(And, exp, special);
    let magnitude = w.with(Shl, bits, 64 - top);
    let zero = w.is_zero(magnitude);
    let normal = within(w, exp, 1, special - 1);
    let good = w.or(normal, zero);
    w.check(good);
    let sign = w.with(Shr, bits, top - 15);
    let sign = w.with(And, sign, SIGN);
    let fraction = w.with(Shl, bits, 63 - fraction);
    let sig = w.with(Or, fraction, INTEGER_BIT);
    let exp = w.with(Bin::Add, exp, bias);
    let se = w.or(sign, exp);
    // Of zero there is no fraction.
    Register { sig: w.select(zero, magnitude, sig), se: w.select(zero, sign, se) }
}

/// A signed integer, for a register.
#[inline(always)]
pub fn of_integer<A: Words>(w: &mut A, v: A::Word) -> Register<A::Word> {
    let all = w.with(Bin::Sar, v, 63);
    let magnitude = w.bin(Xor, v, all);
    let magnitude = w.bin(Sub, magnitude, all);
    let left = w.leading_zeros(magnitude);
    let sign = w.with(And, all, SIGN);
    let exp = w.less(16383 + 63, left);
    let se = w.or(sign, exp);
    let zero = w.is_zero(v);
    Register { sig: w.bin(Shl, magnitude, left), se: w.select(zero, v, se) }
}

/// `hi.lo`, with the integer bit in `hi`, rounded. `exp` may be one more after that.
#[inline(always)]
fn round<A: Words>(
    w: &mut A,
    sign: A::Word,
    exp: A::Word,
    hi: A::Word,
    lo: A::Word,
) -> Quick<Register<A::Word>, A::Word> {
    // The smallest exponents are the general way's, which rounds denormal results.
    let normal = within(w, exp, 1, SPECIAL - 2);
    w.check(normal);
    // More than half, or half and odd.
    let odd = w.with(And, hi, 1);
    let most = w.less(INTEGER_BIT, odd);
    let up = w.bin(LtU, most, lo);
    let sig = w.add(hi, up);
    let carry = w.is_zero(sig);
    let top = w.with(Shl, carry, 63);
    let exp = w.add(exp, carry);
    let exact = w.is_zero(lo);
    let status = status(w, exact, up);
    Quick { value: Register { sig: w.or(sig, top), se: w.or(sign, exp) }, status }
}

/// The product of two significands, upper half first. In halves: a wide multiplication is a call in WebAssembly.
#[inline(always)]
pub fn wide_product<A: Words>(w: &mut A, a: A::Word, b: A::Word) -> [A::Word; 2] {
    const LOW: u64 = 0xffff_ffff;
    let [(ah, al), (bh, bl)] = [a, b].map(|v| (w.with(Shr, v, 32), w.with(And, v, LOW)));
    let low = w.bin(Mul, al, bl);
    let (mid, other, high) = (w.bin(Mul, ah, bl), w.bin(Mul, al, bh), w.bin(Mul, ah, bh));
    // (2^32 - 1)^2 + 2 (2^32 - 1) is all that 64 bits hold.
    let carry = w.with(Shr, low, 32);
    let mid = w.add(mid, carry);
    let (mid_low, mid_high) = (w.with(And, mid, LOW), w.with(Shr, mid, 32));
    let other = w.add(other, mid_low);
    let other_high = w.with(Shr, other, 32);
    let hi = w.add(high, mid_high);
    let low = w.with(And, low, LOW);
    let lo = w.with(Shl, other, 32);
    [w.add(hi, other_high), w.or(lo, low)]
}

/// The sum of two significands, or their difference if `subtract` is 1, as 128 bits whose last is sticky. The smaller
/// number has an exponent that is `distance` less. One bit of head room is for the carry: the larger one sits at bit 62
/// of the upper half.
#[inline(always)]
pub fn aligned_sum<A: Words>(
    w: &mut A,
    big: A::Word,
    small: A::Word,
    distance: A::Word,
    subtract: A::Word,
) -> [A::Word; 2] {
    let right = w.with(Bin::Add, distance, 1);
    // From there on what is left is less than a quarter of the last place, and can only be told from nothing.
    let near = w.with(LtU, right, 67);
    let most = w.imm(67);
    let right = w.select(near, right, most);
    // Shifted by 64 more if it is far, with a sticky bit for what is lost.
    let shifted = w.bin(Shr, small, right);
    let twice = w.with(Shl, small, 1);
    let back = w.with(Xor, right, 63);
    let lost = w.bin(Shl, twice, back);
    let far = w.with(Shr, right, 6);
    let zero = w.imm(0);
    let any = w.bin(LtU, zero, lost);
    let sticky = w.or(shifted, any);
    let (small_hi, small_lo) = (w.select(far, zero, shifted), w.select(far, sticky, lost));
    // Subtracted: complement and one.
    let flip = w.bin(Sub, zero, subtract);
    let (small_hi, small_lo) = (w.bin(Xor, small_hi, flip), w.bin(Xor, small_lo, flip));
    let small_lo = w.add(small_lo, subtract);
    let wrapped = w.bin(LtU, small_lo, subtract);
    let (hi, half) = (w.with(Shr, big, 1), w.with(Shl, big, 63));
    let lo = w.add(small_lo, half);
    let carry = w.bin(LtU, lo, half);
    let hi = w.add(hi, small_hi);
    let hi = w.add(hi, wrapped);
    [w.add(hi, carry), lo]
}

/// a * b.
#[inline(always)]
pub fn mul<A: Words>(w: &mut A, a: Normal<A::Word>, b: Normal<A::Word>) -> Quick<Register<A::Word>, A::Word> {
    let [hi, lo] = wide_product(w, a.sig, b.sig);
    // The product of two numbers of [1, 2) is below 4.
    let top = w.with(Shr, hi, 63);
    let left = w.with(Xor, top, 1);
    let next = w.with(Shr, lo, 63);
    let next = w.bin(And, next, left);
    let hi = w.bin(Shl, hi, left);
    let hi = w.or(hi, next);
    let lo = w.bin(Shl, lo, left);
    let exp = w.add(a.exp, b.exp);
    let exp = w.add(exp, top);
    let exp = w.with(Bin::Add, exp, 16383u64.wrapping_neg());
    let sign = w.bin(Xor, a.sign, b.sign);
    round(w, sign, exp, hi, lo)
}

/// a + b.
#[inline(always)]
pub fn add<A: Words>(w: &mut A, a: Normal<A::Word>, b: Normal<A::Word>) -> Quick<Register<A::Word>, A::Word> {
    let same = w.bin(Eq, a.exp, b.exp);
    let (less, less_sig) = (w.bin(LtU, a.exp, b.exp), w.bin(LtU, a.sig, b.sig));
    let swap = w.bin(And, same, less_sig);
    let swap = w.or(swap, less);
    let (big, small) = (w.select(swap, b.sig, a.sig), w.select(swap, a.sig, b.sig));
    let sign = w.select(swap, b.sign, a.sign);
    let (exp, small_exp) = (w.select(swap, b.exp, a.exp), w.select(swap, a.exp, b.exp));
    let distance = w.bin(Sub, exp, small_exp);
    let differ = w.bin(Xor, a.sign, b.sign);
    let subtract = w.with(Shr, differ, 15);
    let [hi, lo] = aligned_sum(w, big, small, distance, subtract);
    // Where the whole upper half is gone it is the general way's.
    w.check(hi);
    let left = w.leading_zeros(hi);
    let exp = w.with(Bin::Add, exp, 1);
    let exp = w.bin(Sub, exp, left);
    let back = w.with(Xor, left, 63);
    let next = w.with(Shr, lo, 1);
    let next = w.bin(Shr, next, back);
    let hi = w.bin(Shl, hi, left);
    let hi = w.or(hi, next);
    let lo = w.bin(Shl, lo, left);
    round(w, sign, exp, hi, lo)
}

/// The next 32 bits of a quotient, and what remains. `hi` is below `b`, which has its integer bit; `next` are the
/// 32 bits behind `hi` (Knuth, The Art of Computer Programming 2, 4.3.1 D).
#[inline(always)]
fn digit<A: Words>(w: &mut A, hi: A::Word, next: A::Word, b: A::Word) -> [A::Word; 2] {
    let (top, low) = (w.with(Shr, b, 32), w.with(And, b, 0xffff_ffff));
    let mut q = w.quotient(hi, top);
    let back = w.bin(Mul, q, top);
    let mut rest = w.bin(Sub, hi, back);
    // It may be two too large.
    for _ in 0..2 {
        let high = w.with(Shr, q, 32);
        let part = w.bin(Mul, q, low);
        let have = w.with(Shl, rest, 32);
        let have = w.or(have, next);
        let more = w.bin(LtU, have, part);
        let more = w.or(more, high);
        let small = w.with(LtU, rest, 1 << 32);
        let none = w.imm(0);
        let more = w.select(more, small, none);
        q = w.bin(Sub, q, more);
        let add = w.select(more, top, none);
        rest = w.add(rest, add);
    }
    let part = w.bin(Mul, q, b);
    let have = w.with(Shl, hi, 32);
    let have = w.or(have, next);
    [q, w.bin(Sub, have, part)]
}

/// a / b.
#[inline(always)]
pub fn div<A: Words>(w: &mut A, a: Normal<A::Word>, b: Normal<A::Word>) -> Quick<Register<A::Word>, A::Word> {
    // Half of the dividend is below the divisor, and so is all of it if the quotient is below 1.
    let below = w.bin(LtU, a.sig, b.sig);
    let (half, last, zero) = (w.with(Shr, a.sig, 1), w.with(Shl, a.sig, 31), w.imm(0));
    let last = w.with(And, last, 1 << 31);
    let hi = w.select(below, a.sig, half);
    let next = w.select(below, zero, last);
    let [high, rest] = digit(w, hi, next, b.sig);
    let [low, rest] = digit(w, rest, zero, b.sig);
    let high = w.with(Shl, high, 32);
    let sig = w.or(high, low);
    // The remainder against half of the divisor; it never is just that.
    let exact = w.is_zero(rest);
    let other = w.bin(Sub, b.sig, rest);
    let more = w.bin(LtU, other, rest);
    let (most, least) = (w.imm(u64::MAX), w.imm(1));
    let lo = w.select(more, most, least);
    let lo = w.select(exact, zero, lo);
    let exp = w.bin(Sub, a.exp, b.exp);
    let exp = w.bin(Sub, exp, below);
    let exp = w.with(Bin::Add, exp, 16383);
    let sign = w.bin(Xor, a.sign, b.sign);
    round(w, sign, exp, sig, lo)
}

/// Of two numbers that are normal or zero: are they equal, and is the first one less?
#[inline(always)]
pub fn relation<A: Words>(w: &mut A, a: Register<A::Word>, b: Register<A::Word>) -> [A::Word; 2] {
    let [ea, eb] = [a, b].map(|v| {
        let exp = w.with(And, v.se, SPECIAL);
        let normal = within(w, exp, 1, SPECIAL - 1);
        let integer = w.with(Shr, v.sig, 63);
        let normal = w.bin(And, normal, integer);
        let all = w.or(exp, v.sig);
        let zero = w.is_zero(all);
        let good = w.or(normal, zero);
        w.check(good);
        exp
    });
    let same_exp = w.bin(Eq, ea, eb);
    let same_sig = w.bin(Eq, a.sig, b.sig);
    let same = w.bin(And, same_exp, same_sig);
    let (less, less_sig) = (w.bin(LtU, ea, eb), w.bin(LtU, a.sig, b.sig));
    let less_sig = w.bin(And, same_exp, less_sig);
    let below = w.or(less, less_sig);
    let not_above = w.or(below, same);
    let above = w.with(Xor, not_above, 1);
    let (sa, sb) = (w.with(Shr, a.se, 15), w.with(Shr, b.se, 15));
    let differ = w.bin(Xor, sa, sb);
    // Zeros are equal whatever their signs.
    let either = w.or(a.sig, b.sig);
    let zeros = w.is_zero(either);
    let same_sign = w.with(Xor, differ, 1);
    let comparable = w.or(same_sign, zeros);
    let equal = w.bin(And, same, comparable);
    let of_one_sign = w.select(sa, above, below);
    let less = w.select(differ, sa, of_one_sign);
    let not_zeros = w.with(Xor, zeros, 1);
    [equal, w.bin(And, less, not_zeros)]
}

/// `f` of plain numbers, if it is the common case.
#[inline(always)]
pub fn now<T>(f: impl FnOnce(&mut Now) -> T) -> Option<T> {
    let mut w = Now { good: true };
    let v = f(&mut w);
    w.good.then_some(v)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::float::{Env, Relation, Unpacked, x87};

    /// Numbers of all kinds, most of them close to each other, with long rows of equal bits.
    fn number(seed: &mut u64) -> F80 {
        let mut next = || {
            *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            *seed ^ *seed >> 29
        };
        let (a, b, c) = (next(), next(), next());
        let sig = match a % 5 {
            0 => b << (c % 64),
            1 => u64::MAX << (c % 64),
            2 => u64::MAX >> (c % 64) ^ b & 1,
            _ => b,
        };
        let exp = match a >> 8 & 7 {
            0 => c >> 20 & 0x7fff,
            1 => c >> 20 & 3,
            2 => 0x7fff - (c >> 20 & 3),
            3 => 0x3fff - 1023 + (c >> 20 & 3),
            _ => 0x3fff - 70 + (c >> 20) % 140,
        };
        F80 { sig: if a & 64 != 0 { sig } else { sig | INTEGER_BIT }, se: exp as u16 | (a >> 40) as u16 & 0x8000 }
    }

    #[test]
    fn it_agrees_with_the_general_way() {
        let mut seed = 1;
        let mut quick = [0; 6];
        for _ in 0..300_000 {
            let (x, y) = (number(&mut seed), number(&mut seed));
            let general = |f: fn(&mut Env, &Unpacked, &Unpacked) -> F80| {
                let mut env = Env::default();
                let v = f(&mut env, &x.unpack(), &y.unpack());
                (v, env.flags, env.c1)
            };
            let settled = |r: Quick<u64, u64>| (r.value, r.status as u8 & flags::PE, r.status >> 9 != 0);
            let (r, q): (Register<u64>, Register<u64>) = (x.into(), y.into());
            let compared = now(|w| relation(w, r, q)).map(|r| r.map(|v| v != 0));
            if let Some(got) = compared {
                let want = x87::compare(&mut Env::default(), &x.unpack(), &y.unpack(), false);
                assert_eq!(got, [want == Relation::Equal, want == Relation::Less], "{x:?} {y:?}");
            }
            let integer = F80::from(now(|w| of_integer(w, x.sig >> (y.sig & 63))).expect("all are common"));
            assert_eq!(integer, x87::from_int((x.sig >> (y.sig & 63)) as i64));
            for (bits, single) in [(x.sig, false), (x.sig >> 32, true), (0, false), (1 << 63, false), (1 << 31, true)] {
                let Some(v) = now(|w| widened(w, bits, single)) else { continue };
                let of = if single { x87::unpack_f32(bits as u32) } else { x87::unpack_f64(bits) };
                assert_eq!(F80::from(v), x87::load(&mut Env::default(), &of), "{bits:x}");
            }
            let Some((a, b)) = now(|w| (Normal::of(w, r), Normal::of(w, q))) else { continue };
            assert_eq!(now(|w| a.pack(w)).map(F80::from), Some(x));
            let all = [
                (now(|w| mul(w, a, b)), general(x87::mul)),
                (now(|w| add(w, a, b)), general(x87::add)),
                (now(|w| div(w, a, b)), general(x87::div)),
                (
                    now(|w| {
                        let b = b.negated(w);
                        add(w, a, b)
                    }),
                    general(x87::sub),
                ),
            ];
            for (n, (got, want)) in all.into_iter().enumerate() {
                if let Some(r) = got {
                    quick[n] += 1;
                    let (_, pe, up) = settled(Quick { value: 0, status: r.status });
                    assert_eq!((F80::from(r.value), pe, up), want, "{n}: {x:?} {y:?}");
                }
            }
            if let Some(r) = now(|w| a.narrowed(w, false)) {
                quick[4] += 1;
                let mut env = Env::default();
                let want = x87::to_f64(&mut env, &x.unpack());
                assert_eq!(settled(r), (want, env.flags, env.c1), "{x:?}");
                let back = now(|w| Normal::of_f64(w, want).pack(w)).expect("it is normal");
                assert_eq!(F80::from(back), x87::load(&mut env, &x87::unpack_f64(want)));
            }
            if let Some(r) = now(|w| a.narrowed(w, true)) {
                quick[5] += 1;
                let mut env = Env::default();
                let want = x87::to_f32(&mut env, &x.unpack());
                assert_eq!(settled(r), (want.into(), env.flags, env.c1), "{x:?}");
                let back = now(|w| Normal::of_f32(w, want.into()).pack(w)).expect("it is normal");
                assert_eq!(F80::from(back), x87::load(&mut env, &x87::unpack_f32(want)));
            }
        }
        assert!(quick.iter().all(|&n| n > 50_000), "{quick:?}");
    }
}
