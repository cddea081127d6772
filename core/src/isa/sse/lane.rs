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

use crate::cpu::{Cpu, Done, Vector, cr4, fault};
use crate::float::env::simd_outcome;
use crate::float::sse::{self, F32, F64};
use crate::float::{Env, Relation, Rounding};

/// The exceptions raised so far, and the controls.
#[derive(Clone, Copy, Debug)]
pub struct Lanes {
    mxcsr: u32,
    raised: u8,
    fast: bool,
}

/// MXCSR without the flags that do not matter here: masks, RC, FTZ, DAZ and PE.
const CONTROLS: u32 = 0xffe0;
/// ... when the fast way is open: all masked, to nearest, PE set.
const PLAIN: u32 = 0x1fa0;

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

fn rounding(env: &Env, truncate: bool) -> Rounding {
    if truncate { Rounding::Zero } else { env.rounding }
}
