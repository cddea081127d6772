//! Floating point of one SSE instruction, lane by lane: [`Lanes`] gathers the exceptions of all
//! of them and settles MXCSR at the end (SDM 1, 11.5).
//!
//! Every operation has a fast way through the host's own `f32` and `f64`, taken only where it
//! cannot be told apart. With the default rounding, no FTZ and DAZ and everything masked,
//! an operation can change MXCSR only by a flag. PE is sticky: once it is set, inexactness need
//! not be found again. The other flags cannot arise where the operands are not denormal and the
//! result is a normal number above the smallest one: a NaN or infinity going in or an overflow
//! would come out as NaN or infinity (or, of a division, as zero), and an underflow as
//! something no larger than the smallest normal number. Then the host's result, rounded to
//! nearest even by IEEE 754, is the result. Everything else goes through [`crate::float`].

use crate::cpu::{Cpu, Done, Stop, Vector, cr4, fault};
use crate::emit::{FloatConversion, FloatOp, Floats};
use crate::flags;
use crate::float::env::simd_outcome;
use crate::float::sse::{self, F32, F64};
use crate::float::{Env, Relation, Rounding};
use crate::vector::{V128, u32x4};
use core::array::from_fn;

/// The exceptions raised so far, and the controls.
#[derive(Clone, Copy, Debug)]
pub struct Lanes {
    mxcsr: u32,
    raised: u8,
    fast: bool,
}

/// MXCSR without the flags that do not matter here: masks, RC, FTZ, DAZ and PE.
pub const CONTROLS: u32 = 0xffe0;
/// ... when the fast way is open: all masked, to nearest, PE set.
pub const PLAIN: u32 = 0x1fa0;

macro_rules! format {
    ($t:ident $bits:ident $format:ident $fraction:literal:
     $zero_or_normal:ident $denormal:ident $normal:ident
     $add:ident $sub:ident $mul:ident $div:ident $min:ident $max:ident $sqrt:ident
     $compare:ident $predicate:ident $round:ident) => {
        /// Zero or normal.
        #[inline(always)]
        fn $zero_or_normal(x: $bits) -> bool {
            $normal(x, 1) || x << 1 == 0
        }
        /// Denormal.
        #[inline(always)]
        fn $denormal(x: $bits) -> bool {
            (x << 1).wrapping_sub(1) < (2 << $fraction) - 1
        }
        /// Finite with a biased exponent of at least `least`.
        #[inline(always)]
        fn $normal(x: $bits, least: $bits) -> bool {
            const SPECIAL: $bits = $bits::MAX >> ($fraction + 1);
            ((x << 1) >> ($fraction + 1)).wrapping_sub(least) < SPECIAL - least
        }
        impl Lanes {
            /// a + b
            #[inline(always)]
            pub fn $add(&mut self, a: $bits, b: $bits) -> $bits {
                if self.fast && !$denormal(a) && !$denormal(b) {
                    let r = ($t::from_bits(a) + $t::from_bits(b)).to_bits();
                    // A zero sum is exact, and infinite operands never give one.
                    if $normal(r, 2) || r << 1 == 0 {
                        return r;
                    }
                }
                self.exact(|env| sse::add::<$format>(env, a, b))
            }
            /// a - b
            #[inline(always)]
            pub fn $sub(&mut self, a: $bits, b: $bits) -> $bits {
                if self.fast && !$denormal(a) && !$denormal(b) {
                    let r = ($t::from_bits(a) - $t::from_bits(b)).to_bits();
                    if $normal(r, 2) || r << 1 == 0 {
                        return r;
                    }
                }
                self.exact(|env| sse::sub::<$format>(env, a, b))
            }
            /// a * b
            #[inline(always)]
            pub fn $mul(&mut self, a: $bits, b: $bits) -> $bits {
                if self.fast && !$denormal(a) && !$denormal(b) {
                    let r = ($t::from_bits(a) * $t::from_bits(b)).to_bits();
                    // Zero times infinity is a NaN, so a zero operand makes a zero product exact.
                    if $normal(r, 2) || r << 1 == 0 && (a << 1 == 0 || b << 1 == 0) {
                        return r;
                    }
                }
                self.exact(|env| sse::mul::<$format>(env, a, b))
            }
            /// a / b
            #[inline(always)]
            pub fn $div(&mut self, a: $bits, b: $bits) -> $bits {
                if self.fast && !$denormal(a) && !$denormal(b) {
                    let r = ($t::from_bits(a) / $t::from_bits(b)).to_bits();
                    if $normal(r, 2) || r << 1 == 0 && a << 1 == 0 {
                        return r;
                    }
                }
                self.exact(|env| sse::div::<$format>(env, a, b))
            }
            /// The square root of b.
            #[inline(always)]
            pub fn $sqrt(&mut self, b: $bits) -> $bits {
                self.exact(|env| sse::sqrt::<$format>(env, b))
            }
            /// MIN: b when equal or unordered.
            #[inline(always)]
            pub fn $min(&mut self, a: $bits, b: $bits) -> $bits {
                if $zero_or_normal(a) && $zero_or_normal(b) {
                    return if $t::from_bits(a) < $t::from_bits(b) { a } else { b };
                }
                self.exact(|env| sse::min::<$format>(env, a, b))
            }
            /// MAX: b when equal or unordered.
            #[inline(always)]
            pub fn $max(&mut self, a: $bits, b: $bits) -> $bits {
                if $zero_or_normal(a) && $zero_or_normal(b) {
                    return if $t::from_bits(a) > $t::from_bits(b) { a } else { b };
                }
                self.exact(|env| sse::max::<$format>(env, a, b))
            }
            /// COMI (`signaling`) and UCOMI.
            #[inline(always)]
            pub fn $compare(&mut self, a: $bits, b: $bits, signaling: bool) -> Relation {
                if $zero_or_normal(a) && $zero_or_normal(b) {
                    let (a, b) = ($t::from_bits(a), $t::from_bits(b));
                    return if a < b {
                        Relation::Less
                    } else if a > b {
                        Relation::Greater
                    } else {
                        Relation::Equal
                    };
                }
                self.exact(|env| sse::compare::<$format>(env, a, b, signaling))
            }
            /// CMP with one of eight predicates: all ones or zero.
            #[inline(always)]
            pub fn $predicate(&mut self, a: $bits, b: $bits, imm: u8) -> $bits {
                let yes = if $zero_or_normal(a) && $zero_or_normal(b) {
                    let (a, b) = ($t::from_bits(a), $t::from_bits(b));
                    let positive = match imm & 3 {
                        0 => a == b,
                        1 => a < b,
                        2 => a <= b,
                        _ => false,
                    };
                    positive ^ (imm & 4 != 0)
                } else {
                    self.exact(|env| sse::predicate::<$format>(env, a, b, imm & 7))
                };
                if yes { $bits::MAX } else { 0 }
            }
            /// ROUND with its immediate.
            pub fn $round(&mut self, b: $bits, imm: u8) -> $bits {
                self.exact(|env| sse::round_integral::<$format>(env, b, imm))
            }
        }
    };
}
format!(f32 u32 F32 23: ordinary32 denormal32 normal32
    add32 sub32 mul32 div32 min32 max32 sqrt32 compare32 predicate32 round32);
format!(f64 u64 F64 52: ordinary64 denormal64 normal64
    add64 sub64 mul64 div64 min64 max64 sqrt64 compare64 predicate64 round64);

impl Lanes {
    /// Under this MXCSR.
    #[inline(always)]
    pub fn new(mxcsr: u32) -> Self {
        Self { mxcsr, raised: 0, fast: mxcsr & CONTROLS == PLAIN }
    }

    /// What `f` computes under the CPU's MXCSR, which then has its flags.
    ///
    /// # Errors
    /// As [`Lanes::finish`].
    #[inline(always)]
    pub fn settled<T>(cpu: &mut Cpu, f: impl FnOnce(&mut Self) -> T) -> Result<T, Stop> {
        let mut l = Self::new(cpu.mxcsr);
        let r = f(&mut l);
        l.finish(cpu)?;
        Ok(r)
    }

    /// `a op b`; what is not part of it is `a`'s.
    #[inline(always)]
    pub fn run(&mut self, op: FloatOp, of: Floats, a: V128, b: V128) -> V128 {
        match of {
            Floats::Ps => {
                let (a, b) = (u32x4::get(a), u32x4::get(b));
                u32x4::put(from_fn(|k| self.one32(op, a[k], b[k])))
            }
            Floats::Pd => from_fn(|k| self.one64(op, a[k], b[k])),
            Floats::Ss => with_low32(a, self.one32(op, a[0] as u32, b[0] as u32)),
            Floats::Sd => [self.one64(op, a[0], b[0]), a[1]],
        }
    }
    #[inline(always)]
    fn one32(&mut self, op: FloatOp, a: u32, b: u32) -> u32 {
        match op {
            FloatOp::Add => self.add32(a, b),
            FloatOp::Sub => self.sub32(a, b),
            FloatOp::Mul => self.mul32(a, b),
            FloatOp::Div => self.div32(a, b),
            FloatOp::Min => self.min32(a, b),
            FloatOp::Max => self.max32(a, b),
            FloatOp::Sqrt => self.sqrt32(b),
            FloatOp::Compare(predicate) => self.predicate32(a, b, predicate),
        }
    }
    #[inline(always)]
    fn one64(&mut self, op: FloatOp, a: u64, b: u64) -> u64 {
        match op {
            FloatOp::Add => self.add64(a, b),
            FloatOp::Sub => self.sub64(a, b),
            FloatOp::Mul => self.mul64(a, b),
            FloatOp::Div => self.div64(a, b),
            FloatOp::Min => self.min64(a, b),
            FloatOp::Max => self.max64(a, b),
            FloatOp::Sqrt => self.sqrt64(b),
            FloatOp::Compare(predicate) => self.predicate64(a, b, predicate),
        }
    }
    /// ZF, PF and CF of a comparison.
    #[inline(always)]
    pub fn relation(&mut self, signaling: bool, of: Floats, a: V128, b: V128) -> u64 {
        let relation = match of {
            Floats::Ps | Floats::Ss => self.compare32(a[0] as u32, b[0] as u32, signaling),
            Floats::Pd | Floats::Sd => self.compare64(a[0], b[0], signaling),
        };
        match relation {
            Relation::Greater => 0,
            Relation::Less => flags::CF,
            Relation::Equal => flags::ZF,
            Relation::Unordered => flags::ZF | flags::PF | flags::CF,
        }
    }
    /// The numbers of `b` in another format.
    #[inline(always)]
    pub fn convert(&mut self, how: FloatConversion, b: V128) -> V128 {
        let low = split(b[0]);
        match how {
            FloatConversion::PsToPd => low.map(|x| self.widen(x)),
            FloatConversion::PdToPs => [join(b.map(|x| self.narrow(x))), 0],
            FloatConversion::DqToPs => u32x4::put(u32x4::get(b).map(|x| self.int_to32(i64::from(x as i32)))),
            FloatConversion::DqToPd => low.map(|x| self.int_to64(i64::from(x as i32))),
            FloatConversion::PsToDq => u32x4::put(u32x4::get(b).map(|x| self.to_int32(x, false, 32) as u32)),
            FloatConversion::PsToDqT => u32x4::put(u32x4::get(b).map(|x| self.to_int32(x, true, 32) as u32)),
            FloatConversion::PdToDq => [join(b.map(|x| self.to_int64(x, false, 32) as u32)), 0],
            FloatConversion::PdToDqT => [join(b.map(|x| self.to_int64(x, true, 32) as u32)), 0],
        }
    }
    /// The low number of `b` in the format `of`, above it `a`.
    #[inline(always)]
    pub fn resize(&mut self, of: Floats, a: V128, b: V128) -> V128 {
        match of {
            Floats::Ps | Floats::Ss => with_low32(a, self.narrow(b[0])),
            Floats::Pd | Floats::Sd => [self.widen(b[0] as u32), a[1]],
        }
    }
    /// An integer as the low number, above it `a`.
    #[inline(always)]
    pub fn of_int(&mut self, of: Floats, a: V128, x: i64) -> V128 {
        match of {
            Floats::Ps | Floats::Ss => with_low32(a, self.int_to32(x)),
            Floats::Pd | Floats::Sd => [self.int_to64(x), a[1]],
        }
    }
    /// The low number as an integer of so many bits.
    #[inline(always)]
    pub fn to_int(&mut self, of: Floats, b: V128, truncate: bool, bits: u32) -> i64 {
        match of {
            Floats::Ps | Floats::Ss => self.to_int32(b[0] as u32, truncate, bits),
            Floats::Pd | Floats::Sd => self.to_int64(b[0], truncate, bits),
        }
    }

    /// Runs an operation of [`crate::float`].
    #[cold]
    #[inline(never)]
    fn exact<T>(&mut self, f: impl FnOnce(&mut Env) -> T) -> T {
        let mut env = Env::from_mxcsr(self.mxcsr);
        let r = f(&mut env);
        self.raised |= env.flags;
        r
    }

    /// CVTSS2SD.
    #[inline(always)]
    pub fn widen(&mut self, b: u32) -> u64 {
        if ordinary32(b) {
            return f64::from(f32::from_bits(b)).to_bits();
        }
        self.exact(|env| sse::convert::<F32, F64>(env, b))
    }
    /// CVTSD2SS.
    #[inline(always)]
    pub fn narrow(&mut self, b: u64) -> u32 {
        if self.fast && ordinary64(b) {
            let r = (f64::from_bits(b) as f32).to_bits();
            if normal32(r, 2) || b << 1 == 0 {
                return r;
            }
        }
        self.exact(|env| sse::convert::<F64, F32>(env, b))
    }
    /// CVTSI2SS.
    #[inline(always)]
    pub fn int_to32(&mut self, v: i64) -> u32 {
        if self.fast || v.unsigned_abs() <= 1 << 24 {
            return (v as f32).to_bits();
        }
        self.exact(|env| sse::from_int::<F32>(env, v))
    }
    /// CVTSI2SD.
    #[inline(always)]
    pub fn int_to64(&mut self, v: i64) -> u64 {
        if self.fast || v.unsigned_abs() <= 1 << 53 {
            return (v as f64).to_bits();
        }
        self.exact(|env| sse::from_int::<F64>(env, v))
    }
    /// CVTSS2SI and CVTTSS2SI (`truncate`) to `bits` bits.
    #[inline(always)]
    pub fn to_int32(&mut self, b: u32, truncate: bool, bits: u32) -> i64 {
        // Every f32 is an f64; only denormals differ, and they are not ordinary.
        if ordinary32(b) {
            if let Some(r) = self.whole(f64::from(f32::from_bits(b)), truncate, bits) {
                return r;
            }
        }
        self.exact(|env| sse::to_int::<F32>(env, b, rounding(env, truncate), bits))
    }
    /// CVTSD2SI and CVTTSD2SI (`truncate`) to `bits` bits.
    #[inline(always)]
    pub fn to_int64(&mut self, b: u64, truncate: bool, bits: u32) -> i64 {
        if ordinary64(b) {
            if let Some(r) = self.whole(f64::from_bits(b), truncate, bits) {
                return r;
            }
        }
        self.exact(|env| sse::to_int::<F64>(env, b, rounding(env, truncate), bits))
    }
    /// `x` as an integer, if that is exact or (truncating) PE is masked and set.
    #[inline(always)]
    fn whole(&self, x: f64, truncate: bool, bits: u32) -> Option<i64> {
        let r = x as i64;
        let limit = 1i64 << (bits - 1).min(62);
        let fits = -limit <= r && r < limit;
        let known = truncate && self.mxcsr & 0x1020 == 0x1020;
        (fits && (known || r as f64 == x)).then_some(r)
    }

    /// The exceptions so far, as MXCSR's flags.
    #[cfg(test)]
    pub fn raised(&self) -> u8 {
        self.raised
    }

    /// Adds the flags to MXCSR.
    ///
    /// # Errors
    /// #XM for an unmasked exception (#UD without CR4.OSXMMEXCPT): nothing else may be written.
    #[inline(always)]
    pub fn finish(self, cpu: &mut Cpu) -> Done {
        if self.raised == 0 { Ok(()) } else { self.settle(cpu) }
    }
    #[cold]
    #[inline(never)]
    fn settle(self, cpu: &mut Cpu) -> Done {
        let masks = Env::from_mxcsr(self.mxcsr).masks;
        let outcome = simd_outcome(self.raised, masks);
        let (Ok(flags) | Err(flags)) = outcome;
        cpu.mxcsr |= u32::from(flags);
        match outcome {
            Ok(_) => Ok(()),
            Err(_) if cpu.cr4 & cr4::OSXMMEXCPT != 0 => Err(fault(Vector::XM)),
            Err(_) => Err(fault(Vector::UD)),
        }
    }
}

/// Two 32-bit lanes in one half.
pub fn join([lo, hi]: [u32; 2]) -> u64 {
    u64::from(lo) | u64::from(hi) << 32
}
/// The two 32-bit lanes of a half.
pub fn split(v: u64) -> [u32; 2] {
    [v as u32, (v >> 32) as u32]
}
/// `v` with another low lane.
fn with_low32(v: V128, low: u32) -> V128 {
    [v[0] & !0xffff_ffff | u64::from(low), v[1]]
}

fn rounding(env: &Env, truncate: bool) -> Rounding {
    if truncate { Rounding::Zero } else { env.rounding }
}
