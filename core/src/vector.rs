//! What vector instructions compute: pure functions on 128-bit values, low half first.
//!
//! `a` is the destination operand and `b` the source, as the SDM writes them. MMX instructions
//! use the same operations on the low 64 bits; where the width matters, `isa/sse` arranges the
//! operands. Lanes are numbered from the least significant one.

use crate::size::Size;
use core::array::from_fn;

/// A 128-bit value: low and high half.
pub type V128 = [u64; 2];

fn bytes(v: V128) -> [u8; 16] {
    let (lo, hi) = (v[0].to_le_bytes(), v[1].to_le_bytes());
    from_fn(|k| if k < 8 { lo[k] } else { hi[k - 8] })
}
fn of_bytes(b: [u8; 16]) -> V128 {
    [u64::from_le_bytes(from_fn(|k| b[k])), u64::from_le_bytes(from_fn(|k| b[k + 8]))]
}
/// The value as one number.
#[inline(always)]
pub fn wide(v: V128) -> u128 {
    u128::from(v[1]) << 64 | u128::from(v[0])
}
/// A number as a value.
#[inline(always)]
pub fn of_wide(w: u128) -> V128 {
    [w as u64, (w >> 64) as u64]
}

macro_rules! lanes {
    ($($m:ident $t:ident $n:literal;)*) => { $(
        /// The value as lanes of this type.
        pub mod $m {
            use super::{V128, from_fn, bytes, of_bytes};
            const N: usize = $n;
            const W: usize = 16 / N;
            /// Takes the value apart.
            #[inline(always)]
            pub fn get(v: V128) -> [$t; N] {
                let b = bytes(v);
                from_fn(|k| $t::from_le_bytes(from_fn(|j| b[k * W + j])))
            }
            /// Puts lanes together.
            #[allow(clippy::modulo_one, reason = "a lane may be one byte")]
            #[inline(always)]
            pub fn put(x: [$t; N]) -> V128 {
                let parts = x.map($t::to_le_bytes);
                of_bytes(from_fn(|k| parts[k / W][k % W]))
            }
            /// Lane by lane, two values.
            #[inline(always)]
            pub fn zip(a: V128, b: V128, f: impl Fn($t, $t) -> $t) -> V128 {
                let (a, b) = (get(a), get(b));
                put(from_fn(|k| f(a[k], b[k])))
            }
            /// Lane by lane, one value.
            #[inline(always)]
            pub fn map(a: V128, f: impl Fn($t) -> $t) -> V128 {
                put(get(a).map(f))
            }
            /// All ones where `f` holds, lane by lane.
            #[inline(always)]
            pub fn test(a: V128, b: V128, f: impl Fn($t, $t) -> bool) -> V128 {
                zip(a, b, |x, y| if f(x, y) { !0 } else { 0 })
            }
            /// The lanes of `a` and `b` in turn, beginning with lane `from`.
            #[inline(always)]
            pub fn interleave(a: V128, b: V128, from: usize) -> V128 {
                let (a, b) = (get(a), get(b));
                put(from_fn(|k| if k % 2 == 0 { a[from + k / 2] } else { b[from + k / 2] }))
            }
            /// `f` of neighbours: those of `a` give the low half, those of `b` the high half.
            #[inline(always)]
            pub fn pairs(a: V128, b: V128, f: impl Fn($t, $t) -> $t) -> V128 {
                let (a, b) = (get(a), get(b));
                put(from_fn(|k| {
                    let (v, k) = if k < N / 2 { (&a, k) } else { (&b, k - N / 2) };
                    f(v[2 * k], v[2 * k + 1])
                }))
            }
        }
    )* };
}
lanes! {
    u8x16 u8 16; i8x16 i8 16; u16x8 u16 8; i16x8 i16 8; u32x4 u32 4; i32x4 i32 4; u64x2 u64 2; i64x2 i64 2;
}

/// Many narrow lanes in 64-bit arithmetic: what 64-bit hosts, and WebAssembly without its vector
/// instructions, do fastest. `H` has the top bit of every lane.
mod packed {
    use super::V128;

    /// Top bits of bytes.
    pub const H8: u64 = 0x8080_8080_8080_8080;
    /// Top bits of words.
    pub const H16: u64 = 0x8000_8000_8000_8000;
    /// Top bits of doublewords.
    pub const H32: u64 = 0x8000_0000_8000_0000;

    #[inline(always)]
    fn halves(a: V128, b: V128, f: impl Fn(u64, u64) -> u64) -> V128 {
        [f(a[0], b[0]), f(a[1], b[1])]
    }
    /// Sums, without carries from lane to lane.
    #[inline(always)]
    pub fn add<const H: u64>(a: V128, b: V128) -> V128 {
        halves(a, b, |a, b| ((a & !H) + (b & !H)) ^ ((a ^ b) & H))
    }
    /// Differences.
    #[inline(always)]
    pub fn sub<const H: u64>(a: V128, b: V128) -> V128 {
        halves(a, b, |a, b| ((a | H) - (b & !H)) ^ ((a ^ !b) & H))
    }
    /// All ones in the lanes whose top bit is set in `m`, which has no others.
    #[inline(always)]
    fn fill<const H: u64>(m: u64) -> u64 {
        (m << 1).wrapping_sub(m >> H.trailing_zeros())
    }
    /// Equal?
    #[inline(always)]
    pub fn eq<const H: u64>(a: V128, b: V128) -> V128 {
        halves(a, b, |a, b| {
            let x = a ^ b;
            let differ = ((x & !H) + !H) | x;
            fill::<H>(!differ & H)
        })
    }
    /// Ones where `a >= b`, unsigned.
    #[inline(always)]
    fn ge<const H: u64>(a: u64, b: u64) -> u64 {
        let low = (a | H) - (b & !H);
        fill::<H>(((a & !b) | (!(a ^ b) & low)) & H)
    }
    /// Ones where `a > b`, signed.
    #[inline(always)]
    pub fn gt_s<const H: u64>(a: V128, b: V128) -> V128 {
        halves(a, b, |a, b| !ge::<H>(b ^ H, a ^ H))
    }
    /// The lesser, unsigned.
    #[inline(always)]
    pub fn min_u<const H: u64>(a: V128, b: V128) -> V128 {
        halves(a, b, |a, b| {
            let m = ge::<H>(a, b);
            b & m | a & !m
        })
    }
    /// The greater, unsigned.
    #[inline(always)]
    pub fn max_u<const H: u64>(a: V128, b: V128) -> V128 {
        halves(a, b, |a, b| {
            let m = ge::<H>(a, b);
            a & m | b & !m
        })
    }
}
use packed::{H8, H16, H32};

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident $f:expr;)*) => {
        /// An operation on two vectors. Names end in the width of a lane in bits; S and U are
        /// signed and unsigned. Comparisons give all ones or zero per lane.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names say it")]
        pub enum VecOp { $($(#[$doc])* $name,)* }

        impl VecOp {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
            /// The function.
            #[inline(always)]
            pub const fn meaning(self) -> fn(V128, V128) -> V128 {
                match self { $(Self::$name => $f,)* }
            }
        }
    };
}
operations! {
    And |a, b| [a[0] & b[0], a[1] & b[1]];
    /// `!a & b`
    AndNot |a, b| [!a[0] & b[0], !a[1] & b[1]];
    Or |a, b| [a[0] | b[0], a[1] | b[1]];
    Xor |a, b| [a[0] ^ b[0], a[1] ^ b[1]];
    Add8 packed::add::<H8>;
    Add16 packed::add::<H16>;
    Add32 packed::add::<H32>;
    Add64 |a, b| [a[0].wrapping_add(b[0]), a[1].wrapping_add(b[1])];
    Sub8 packed::sub::<H8>;
    Sub16 packed::sub::<H16>;
    Sub32 packed::sub::<H32>;
    Sub64 |a, b| [a[0].wrapping_sub(b[0]), a[1].wrapping_sub(b[1])];
    AddSatS8 |a, b| i8x16::zip(a, b, i8::saturating_add);
    AddSatS16 |a, b| i16x8::zip(a, b, i16::saturating_add);
    AddSatU8 |a, b| u8x16::zip(a, b, u8::saturating_add);
    AddSatU16 |a, b| u16x8::zip(a, b, u16::saturating_add);
    SubSatS8 |a, b| i8x16::zip(a, b, i8::saturating_sub);
    SubSatS16 |a, b| i16x8::zip(a, b, i16::saturating_sub);
    SubSatU8 |a, b| u8x16::zip(a, b, u8::saturating_sub);
    SubSatU16 |a, b| u16x8::zip(a, b, u16::saturating_sub);
    Mul16 |a, b| u16x8::zip(a, b, u16::wrapping_mul);
    Mul32 |a, b| u32x4::zip(a, b, u32::wrapping_mul);
    MulHiS16 |a, b| i16x8::zip(a, b, |x, y| ((i32::from(x) * i32::from(y)) >> 16) as i16);
    MulHiU16 |a, b| u16x8::zip(a, b, |x, y| ((u32::from(x) * u32::from(y)) >> 16) as u16);
    /// The product's bits 30:15, rounded.
    MulHiRoundS16 |a, b| i16x8::zip(a, b, |x, y| ((((i32::from(x) * i32::from(y)) >> 14) + 1) >> 1) as i16);
    /// 64-bit products of the even lanes.
    MulEvenU32 |a, b| u64x2::zip(a, b, |x, y| (x & 0xffff_ffff) * (y & 0xffff_ffff));
    /// 64-bit products of the even lanes.
    MulEvenS32 |a, b| i64x2::zip(a, b, |x, y| i64::from(x as i32) * i64::from(y as i32));
    /// 32-bit sums of the products of neighbours.
    DotS16 |a, b| i32x4::zip(a, b, |x, y| {
        let half = |v: i32| (v as i16 as i32, v >> 16);
        let ((x0, x1), (y0, y1)) = (half(x), half(y));
        (x0 * y0).wrapping_add(x1 * y1)
    });
    /// 16-bit saturated sums of products of neighbours; `a` unsigned, `b` signed.
    DotU8S8 |a, b| u16x8::zip(a, b, |x, y| {
        let low = i32::from(x as u8) * i32::from(y as i8);
        let high = i32::from(x >> 8) * i32::from((y >> 8) as i8);
        sat_s16(low + high) as u16
    });
    /// Sums of absolute differences of eight bytes each.
    Sad8 |a, b| {
        let (a, b) = (u8x16::get(a), u8x16::get(b));
        let sum = |from: usize| (from..from + 8).map(|k| u64::from(a[k].abs_diff(b[k]))).sum();
        [sum(0), sum(8)]
    };
    AvgU8 |a, b| u8x16::zip(a, b, |x, y| ((u16::from(x) + u16::from(y) + 1) >> 1) as u8);
    AvgU16 |a, b| u16x8::zip(a, b, |x, y| ((u32::from(x) + u32::from(y) + 1) >> 1) as u16);
    MinU8 packed::min_u::<H8>;
    MinS8 |a, b| i8x16::zip(a, b, Ord::min);
    MinU16 packed::min_u::<H16>;
    MinS16 |a, b| i16x8::zip(a, b, Ord::min);
    MinU32 |a, b| u32x4::zip(a, b, Ord::min);
    MinS32 |a, b| i32x4::zip(a, b, Ord::min);
    MaxU8 packed::max_u::<H8>;
    MaxS8 |a, b| i8x16::zip(a, b, Ord::max);
    MaxU16 packed::max_u::<H16>;
    MaxS16 |a, b| i16x8::zip(a, b, Ord::max);
    MaxU32 |a, b| u32x4::zip(a, b, Ord::max);
    MaxS32 |a, b| i32x4::zip(a, b, Ord::max);
    Eq8 packed::eq::<H8>;
    Eq16 packed::eq::<H16>;
    Eq32 packed::eq::<H32>;
    Eq64 |a, b| u64x2::test(a, b, |x, y| x == y);
    GtS8 packed::gt_s::<H8>;
    GtS16 packed::gt_s::<H16>;
    GtS32 packed::gt_s::<H32>;
    GtS64 |a, b| i64x2::test(a, b, |x, y| x > y);
    /// 16 to 8 bits with signed saturation: `a` to the low half, `b` to the high half.
    NarrowS16 |a, b| {
        let (a, b) = (i16x8::get(a), i16x8::get(b));
        i8x16::put(from_fn(|k| sat_s8(if k < 8 { a[k] } else { b[k - 8] })))
    };
    /// 16 to 8 bits with unsigned saturation.
    NarrowU16 |a, b| {
        let (a, b) = (i16x8::get(a), i16x8::get(b));
        u8x16::put(from_fn(|k| sat_u8(if k < 8 { a[k] } else { b[k - 8] })))
    };
    /// 32 to 16 bits with signed saturation.
    NarrowS32 |a, b| {
        let (a, b) = (i32x4::get(a), i32x4::get(b));
        i16x8::put(from_fn(|k| sat_s16(if k < 4 { a[k] } else { b[k - 4] })))
    };
    /// 32 to 16 bits with unsigned saturation.
    NarrowU32 |a, b| {
        let (a, b) = (i32x4::get(a), i32x4::get(b));
        u16x8::put(from_fn(|k| (if k < 4 { a[k] } else { b[k - 4] }).clamp(0, 0xffff) as u16))
    };
    InterleaveLow8 |a, b| u8x16::interleave(a, b, 0);
    InterleaveLow16 |a, b| u16x8::interleave(a, b, 0);
    InterleaveLow32 |a, b| u32x4::interleave(a, b, 0);
    InterleaveLow64 |a, b| [a[0], b[0]];
    InterleaveHigh8 |a, b| u8x16::interleave(a, b, 8);
    InterleaveHigh16 |a, b| u16x8::interleave(a, b, 4);
    InterleaveHigh32 |a, b| u32x4::interleave(a, b, 2);
    InterleaveHigh64 |a, b| [a[1], b[1]];
    PairAdd16 |a, b| u16x8::pairs(a, b, u16::wrapping_add);
    PairAdd32 |a, b| u32x4::pairs(a, b, u32::wrapping_add);
    PairAddSatS16 |a, b| i16x8::pairs(a, b, i16::saturating_add);
    PairSub16 |a, b| u16x8::pairs(a, b, u16::wrapping_sub);
    PairSub32 |a, b| u32x4::pairs(a, b, u32::wrapping_sub);
    PairSubSatS16 |a, b| i16x8::pairs(a, b, i16::saturating_sub);
    /// `a` with the sign of `b`: negated, zero or as it is.
    Sign8 |a, b| i8x16::zip(a, b, |x, y| x.wrapping_mul(y.signum()));
    Sign16 |a, b| i16x8::zip(a, b, |x, y| x.wrapping_mul(y.signum()));
    Sign32 |a, b| i32x4::zip(a, b, |x, y| x.wrapping_mul(y.signum()));
    /// The absolute value of `b`, as the instructions have it.
    Abs8 |_, b| i8x16::map(b, i8::wrapping_abs);
    Abs16 |_, b| i16x8::map(b, i16::wrapping_abs);
    Abs32 |_, b| i32x4::map(b, i32::wrapping_abs);
    /// The low lanes of `b`, widened.
    ExtendS8To16 |_, b| { let v = i8x16::get(b); i16x8::put(from_fn(|k| v[k].into())) };
    ExtendS8To32 |_, b| { let v = i8x16::get(b); i32x4::put(from_fn(|k| v[k].into())) };
    ExtendS8To64 |_, b| { let v = i8x16::get(b); i64x2::put(from_fn(|k| v[k].into())) };
    ExtendS16To32 |_, b| { let v = i16x8::get(b); i32x4::put(from_fn(|k| v[k].into())) };
    ExtendS16To64 |_, b| { let v = i16x8::get(b); i64x2::put(from_fn(|k| v[k].into())) };
    ExtendS32To64 |_, b| { let v = i32x4::get(b); i64x2::put(from_fn(|k| v[k].into())) };
    ExtendU8To16 |_, b| { let v = u8x16::get(b); u16x8::put(from_fn(|k| v[k].into())) };
    ExtendU8To32 |_, b| { let v = u8x16::get(b); u32x4::put(from_fn(|k| v[k].into())) };
    ExtendU8To64 |_, b| { let v = u8x16::get(b); u64x2::put(from_fn(|k| v[k].into())) };
    ExtendU16To32 |_, b| { let v = u16x8::get(b); u32x4::put(from_fn(|k| v[k].into())) };
    ExtendU16To64 |_, b| { let v = u16x8::get(b); u64x2::put(from_fn(|k| v[k].into())) };
    ExtendU32To64 |_, b| { let v = u32x4::get(b); u64x2::put(from_fn(|k| v[k].into())) };
    /// The bytes of `a` that the lanes of `b` (bits 3:0) name; zero where bit 7 is set.
    Permute8 |a, b| {
        let (a, b) = (u8x16::get(a), u8x16::get(b));
        u8x16::put(from_fn(|k| if b[k] & 0x80 != 0 { 0 } else { a[usize::from(b[k] & 15)] }))
    };
    /// PHMINPOSUW: the least lane of `b` and its number.
    MinPosU16 |_, b| {
        let v = u16x8::get(b);
        let (at, least) = v.iter().enumerate().min_by_key(|(_, x)| **x).unwrap_or((0, &0));
        [u64::from(*least) | (at as u64) << 16, 0]
    };
    /// Even lanes of `b`, each twice.
    DuplicateEven32 |_, b| { let v = u32x4::get(b); u32x4::put([v[0], v[0], v[2], v[2]]) };
    /// Odd lanes of `b`, each twice.
    DuplicateOdd32 |_, b| { let v = u32x4::get(b); u32x4::put([v[1], v[1], v[3], v[3]]) };
}

fn sat_s8(v: i16) -> i8 {
    v.clamp(-0x80, 0x7f) as _
}
fn sat_u8(v: i16) -> u8 {
    v.clamp(0, 0xff) as _
}
fn sat_s16(v: i32) -> i16 {
    v.clamp(-0x8000, 0x7fff) as _
}

impl VecOp {
    /// The operation done.
    #[inline(always)]
    pub fn run(self, a: V128, b: V128) -> V128 {
        self.meaning()(a, b)
    }
}

macro_rules! with_immediate {
    ($($(#[$doc:meta])* $name:ident $f:expr;)*) => {
        /// An operation on two vectors that a constant byte selects.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names say it")]
        pub enum VecImm { $($(#[$doc])* $name,)* }

        impl VecImm {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
            /// The function.
            #[inline(always)]
            pub const fn meaning(self) -> fn(V128, V128, u8) -> V128 {
                match self { $(Self::$name => $f,)* }
            }
            /// The operation done.
            #[inline(always)]
            pub fn run(self, a: V128, b: V128, imm: u8) -> V128 {
                self.meaning()(a, b, imm)
            }
        }
    };
}
with_immediate! {
    /// PSHUFD: four lanes of `b`.
    Shuffle32 |_, b, imm| { let v = u32x4::get(b); u32x4::put(from_fn(|k| v[two(imm, k)])) };
    /// PSHUFLW, PSHUFW: four low lanes of `b`, the high half stays `b`'s.
    ShuffleLow16 |_, b, imm| [shuffle_words(b[0], imm), b[1]];
    /// PSHUFHW.
    ShuffleHigh16 |_, b, imm| [b[0], shuffle_words(b[1], imm)];
    /// SHUFPS: two lanes of `a`, two of `b`.
    Shuffle32Two |a, b, imm| {
        let (a, b) = (u32x4::get(a), u32x4::get(b));
        u32x4::put(from_fn(|k| if k < 2 { a[two(imm, k)] } else { b[two(imm, k)] }))
    };
    /// SHUFPD.
    Shuffle64Two |a, b, imm| [a[usize::from(imm & 1)], b[usize::from(imm >> 1 & 1)]];
    /// PBLENDW: lanes of `b` where a bit is set.
    Blend16 |a, b, imm| {
        let (a, b) = (u16x8::get(a), u16x8::get(b));
        u16x8::put(from_fn(|k| if imm >> k & 1 != 0 { b[k] } else { a[k] }))
    };
    /// BLENDPS.
    Blend32 |a, b, imm| {
        let (a, b) = (u32x4::get(a), u32x4::get(b));
        u32x4::put(from_fn(|k| if imm >> k & 1 != 0 { b[k] } else { a[k] }))
    };
    /// BLENDPD.
    Blend64 |a, b, imm| from_fn(|k| if imm >> k & 1 != 0 { b[k] } else { a[k] });
    /// PALIGNR: bytes `imm`.. of `a:b`, zeros beyond.
    Align8 |a, b, imm| {
        let n = 8 * u32::from(imm);
        of_wide(match n {
            0 => wide(b),
            1..=127 => wide(b) >> n | wide(a) << (128 - n),
            128..=255 => wide(a) >> (n - 128),
            _ => 0,
        })
    };
    /// PSLLDQ: the whole value left by bytes.
    ShlBytes |a, _, imm| of_wide(wide(a).checked_shl(8 * u32::from(imm)).unwrap_or(0));
    /// PSRLDQ.
    ShrBytes |a, _, imm| of_wide(wide(a).checked_shr(8 * u32::from(imm)).unwrap_or(0));
    /// MPSADBW: eight sums of differences of four bytes each.
    MultiSad8 |a, b, imm| {
        let (a, b) = (u8x16::get(a), u8x16::get(b));
        let (from, block) = (usize::from(imm >> 2 & 1) * 4, usize::from(imm & 3) * 4);
        u16x8::put(from_fn(|k| (0..4).map(|j| u16::from(a[from + k + j].abs_diff(b[block + j]))).sum()))
    };
    /// INSERTPS with the source lane in lane 0 of `b` if bits 7:6 are 0 (memory).
    Insert32 |a, b, imm| {
        let (mut a, b) = (u32x4::get(a), u32x4::get(b));
        a[two(imm, 2)] = b[two(imm, 3)];
        u32x4::put(from_fn(|k| if imm >> k & 1 != 0 { 0 } else { a[k] }))
    };
}

/// Field `k` of two bits.
fn two(imm: u8, k: usize) -> usize {
    usize::from(imm >> (2 * k) & 3)
}
fn shuffle_words(v: u64, imm: u8) -> u64 {
    (0..4).fold(0, |r, k| r | (v >> (16 * two(imm, k)) & 0xffff) << (16 * k))
}

/// A shift of all lanes by one count. Counts of the lane's width or more give zeros, or copies
/// of the sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum VecShift {
    Shl16,
    Shl32,
    Shl64,
    Shr16,
    Shr32,
    Shr64,
    Sar16,
    Sar32,
}

impl VecShift {
    /// All of them.
    pub const ALL: &[Self] =
        &[Self::Shl16, Self::Shl32, Self::Shl64, Self::Shr16, Self::Shr32, Self::Shr64, Self::Sar16, Self::Sar32];
    /// The operation done.
    #[inline(always)]
    pub fn run(self, v: V128, count: u64) -> V128 {
        let n = count.min(64) as u32;
        match self {
            Self::Shl16 => u16x8::map(v, |x| x.checked_shl(n).unwrap_or(0)),
            Self::Shl32 => u32x4::map(v, |x| x.checked_shl(n).unwrap_or(0)),
            Self::Shl64 => v.map(|x| x.checked_shl(n).unwrap_or(0)),
            Self::Shr16 => u16x8::map(v, |x| x.checked_shr(n).unwrap_or(0)),
            Self::Shr32 => u32x4::map(v, |x| x.checked_shr(n).unwrap_or(0)),
            Self::Shr64 => v.map(|x| x.checked_shr(n).unwrap_or(0)),
            Self::Sar16 => i16x8::map(v, |x| x >> n.min(15)),
            Self::Sar32 => i32x4::map(v, |x| x >> n.min(31)),
        }
    }
}

/// The sign bits of the lanes, lane 0 in bit 0.
#[inline(always)]
pub fn signs(v: V128, lane: Size) -> u64 {
    // Collects the top bits of eight bytes in the top byte of a product.
    let eight = |h: u64| (h >> 7 & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    match lane {
        Size::B1 => eight(v[0]) | eight(v[1]) << 8,
        Size::B2 => i16x8::get(v).iter().enumerate().fold(0, |r, (k, x)| r | u64::from(*x < 0) << k),
        Size::B4 => v[0] >> 31 & 1 | v[0] >> 63 << 1 | (v[1] >> 31 & 1) << 2 | v[1] >> 63 << 3,
        Size::B8 => v[0] >> 63 | v[1] >> 63 << 1,
    }
}

/// Lane `k` (modulo the number of lanes), zero-extended.
#[inline(always)]
pub fn extract(v: V128, lane: Size, k: u8) -> u64 {
    let at = (u32::from(k) * lane.bits()) & 127;
    lane.zx(v[(at >> 6) as usize & 1] >> (at & 63))
}

/// `v` with lane `k` (modulo the number of lanes) replaced by the low bits of `x`.
#[inline(always)]
pub fn insert(v: V128, lane: Size, k: u8, x: u64) -> V128 {
    let at = (u32::from(k) * lane.bits()) & 127;
    let (half, at) = ((at >> 6) as usize & 1, at & 63);
    let mut r = v;
    r[half] = v[half] & !(lane.mask() << at) | lane.zx(x) << at;
    r
}
