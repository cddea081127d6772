//! The x87's basic instructions on unpacked operands, so that one function serves register,
//! m32, m64 and integer forms (SDM 1, chapter 8; SDM 2, the F* pages).
//!
//! Functions add exceptions to `env.flags` and return the masked response, or for unmasked
//! overflow and underflow the result with its exponent wrapped. If an unmasked exception out of
//! IE, DE, ZE was raised the returned value is not a result and must be dropped.

use super::env::{Env, Precision, Rounding, flags};
use super::f80::{Extended, F80};
use super::round::{self, Format, denormal_stops, round_pack};
use super::sse::{F32, F64};
use super::unpacked::{Class, Relation, Unpacked};
use super::{arith, integer};

/// An m32 operand. A denormal is marked, a signalling NaN stays signalling.
#[inline]
pub fn unpack_f32(bits: u32) -> Unpacked {
    F32::unpack(&Env::default(), bits)
}

/// An m64 operand. A denormal is marked, a signalling NaN stays signalling.
#[inline]
pub fn unpack_f64(bits: u64) -> Unpacked {
    F64::unpack(&Env::default(), bits)
}

/// FADD: a + b.
#[inline]
pub fn add(env: &mut Env, a: &Unpacked, b: &Unpacked) -> F80 {
    arith::add::<Extended>(env, a, b, env.precision as u32)
}

/// FSUB: a - b.
#[inline]
pub fn sub(env: &mut Env, a: &Unpacked, b: &Unpacked) -> F80 {
    let b = if b.is_nan() { *b } else { b.negated() };
    arith::add::<Extended>(env, a, &b, env.precision as u32)
}

/// FMUL: a * b.
#[inline]
pub fn mul(env: &mut Env, a: &Unpacked, b: &Unpacked) -> F80 {
    arith::mul::<Extended>(env, a, b, env.precision as u32)
}

/// FDIV: a / b.
#[inline]
pub fn div(env: &mut Env, a: &Unpacked, b: &Unpacked) -> F80 {
    arith::div::<Extended>(env, a, b, env.precision as u32)
}

/// FSQRT.
pub fn sqrt(env: &mut Env, a: &Unpacked) -> F80 {
    arith::sqrt::<Extended>(env, a, env.precision as u32)
}

/// FCOM, FTST, FCOMI (`signaling`: any NaN is invalid) and FUCOM, FUCOMI.
#[inline]
pub fn compare(env: &mut Env, a: &Unpacked, b: &Unpacked, signaling: bool) -> Relation {
    arith::compare(env, a, b, signaling)
}

/// FLD m32/m64: exact, with DE and IE.
#[inline]
pub fn load(env: &mut Env, a: &Unpacked) -> F80 {
    round::convert::<Extended>(env, a, true)
}

/// FILD: any 64-bit integer is exact.
#[inline]
pub fn from_int(v: i64) -> F80 {
    let a = Unpacked::integer(v);
    if a.class == Class::Zero { F80::ZERO } else { pack(&a) }
}

/// A finite number with a normal exponent, packed.
#[inline]
pub(super) fn pack(a: &Unpacked) -> F80 {
    Extended::assemble(a.sign, (a.exp + Extended::BIAS) as u32, a.sig)
}

/// Store in a narrower format. Unmasked overflow and underflow write nothing, so there is no
/// rounded result and no PE (SDM 1, 4.9.1.4).
#[inline]
fn narrow<F: Format>(env: &mut Env, a: &Unpacked) -> F::Bits {
    let mut own = Env { flags: 0, c1: false, ..*env };
    let bits = round::convert::<F>(&mut own, a, false);
    if own.unmasked() & (flags::OE | flags::UE) != 0 {
        own.flags &= !flags::PE;
        own.c1 = false;
    }
    env.flags |= own.flags;
    env.c1 = own.c1;
    bits
}

/// FST m32. Denormal operands raise nothing of their own.
#[inline]
pub fn to_f32(env: &mut Env, a: &Unpacked) -> u32 {
    narrow::<F32>(env, a)
}

/// FST m64. Denormal operands raise nothing of their own.
#[inline]
pub fn to_f64(env: &mut Env, a: &Unpacked) -> u64 {
    narrow::<F64>(env, a)
}

/// FIST(P) with the current rounding, FISTTP with [`Rounding::Zero`]; `bits` is 16, 32 or 64.
#[inline]
pub fn to_int(env: &mut Env, a: &Unpacked, rounding: Rounding, bits: u32) -> i64 {
    integer::to_int(env, a, rounding, bits)
}

/// FRNDINT.
pub fn round_integral(env: &mut Env, a: &Unpacked) -> F80 {
    if a.class == Class::Finite && denormal_stops(env, a.denormal) {
        return F80::INDEFINITE;
    }
    integer::round_integral::<Extended>(env, a, env.rounding, false)
}

/// FSCALE: `a * 2^trunc(b)` (SDM 2, FSCALE). Precision control does not apply.
pub fn scale(env: &mut Env, a: &Unpacked, b: &Unpacked) -> F80 {
    if a.class >= Class::Quiet || b.class >= Class::Quiet {
        return Extended::propagate(env, a, b);
    }
    match (a.class, b.class) {
        (Class::Infinite, Class::Infinite) if b.sign => return Extended::invalid(env),
        (Class::Zero, Class::Infinite) if !b.sign => return Extended::invalid(env),
        _ => {}
    }
    if denormal_stops(env, a.denormal | b.denormal) {
        return F80::INDEFINITE;
    }
    if b.class == Class::Infinite {
        return if b.sign { Extended::zero(a.sign) } else { Extended::infinity(a.sign) };
    }
    match a.class {
        Class::Zero => return Extended::zero(a.sign),
        Class::Infinite => return Extended::infinity(a.sign),
        _ => {}
    }
    // 2^17 moves any number out of range even when the exponent wraps.
    const LIMIT: i32 = 1 << 17;
    let by = match b.class {
        Class::Finite if b.exp >= 17 => LIMIT,
        Class::Finite if b.exp >= 0 => (b.sig >> (63 - b.exp)) as i32,
        _ => 0,
    };
    let exp = a.exp + if b.sign { -by } else { by };
    round_pack::<Extended>(env, a.sign, exp, a.sig, 0, Precision::Extended as u32)
}

/// FXTRACT: (exponent as a number, significand in [1, 2)).
pub fn extract(env: &mut Env, a: &Unpacked) -> (F80, F80) {
    match a.class {
        Class::Zero => {
            env.raise(flags::ZE);
            (Extended::infinity(true), Extended::zero(a.sign))
        }
        Class::Infinite => (Extended::infinity(false), Extended::infinity(a.sign)),
        Class::Finite => {
            denormal_stops(env, a.denormal);
            (from_int(i64::from(a.exp)), pack(&Unpacked { exp: 0, ..*a }))
        }
        _ => {
            let nan = Extended::propagate(env, a, a);
            (nan, nan)
        }
    }
}

/// What FPREM and FPREM1 leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remainder {
    /// The (partial) remainder.
    pub value: F80,
    /// The low bits of the quotient's magnitude; meaningless while `partial`.
    pub quotient: u64,
    /// The reduction is incomplete: C2.
    pub partial: bool,
    /// A NaN came out: there is no quotient.
    pub invalid: bool,
}

/// FPREM (`nearest` false: quotient truncated) and FPREM1 (`nearest`: quotient rounded to even).
/// Reduces the exponent by less than 64 at a time.
pub fn remainder(env: &mut Env, a: &Unpacked, b: &Unpacked, nearest: bool) -> Remainder {
    let nan = |value| Remainder { value, quotient: 0, partial: false, invalid: true };
    if a.class >= Class::Quiet || b.class >= Class::Quiet {
        return nan(Extended::propagate(env, a, b));
    }
    if a.class == Class::Infinite || b.class == Class::Zero {
        return nan(Extended::invalid(env));
    }
    if denormal_stops(env, a.denormal | b.denormal) {
        return nan(F80::INDEFINITE);
    }
    if a.class == Class::Zero {
        return Remainder { value: Extended::zero(a.sign), quotient: 0, partial: false, invalid: false };
    }
    let finish = |env: &mut Env, sign: bool, exp: i32, sig: u64, quotient: u64, partial: bool| {
        let r = Unpacked::finite(sign, exp, sig);
        let value = match r.class {
            Class::Zero => Extended::zero(a.sign),
            _ => round_pack::<Extended>(env, sign, r.exp, r.sig, 0, Precision::Extended as u32),
        };
        Remainder { value, quotient, partial, invalid: false }
    };
    let distance = a.exp - b.exp;
    if b.class == Class::Infinite || distance < -1 || (distance < 0 && !nearest) {
        return finish(env, a.sign, a.exp, a.sig, 0, false);
    }
    if distance >= 64 {
        // Neither manual fixes how far one step goes; this is what the tested processors do.
        let step = 32 + (distance as u32 & 31);
        let wide = u128::from(a.sig) << step;
        let (_, r) = arith::div_128_by_64((wide >> 64) as u64, wide as u64, b.sig);
        return finish(env, a.sign, a.exp - step as i32, r, 0, true);
    }
    if distance < 0 {
        // |a| < |b| < 4|a|: the quotient rounds to 1 if |a| is more than half of |b|.
        if a.sig <= b.sig {
            return finish(env, a.sign, a.exp, a.sig, 0, false);
        }
        let rest = (u128::from(b.sig) << 1) - u128::from(a.sig);
        return finish(env, !a.sign, a.exp, rest as u64, 1, false);
    }
    let wide = u128::from(a.sig) << distance;
    let (quotient, r) = if distance == 0 {
        (u64::from(a.sig >= b.sig), if a.sig >= b.sig { a.sig - b.sig } else { a.sig })
    } else {
        arith::div_128_by_64((wide >> 64) as u64, wide as u64, b.sig)
    };
    let beyond = b.sig - r; // r < b.sig
    if nearest && (r > beyond || (r == beyond && quotient & 1 != 0)) {
        return finish(env, !a.sign, b.exp, beyond, quotient.wrapping_add(1), false);
    }
    finish(env, a.sign, b.exp, r, quotient, false)
}

/// The constants of FLDL2T, FLDL2E, FLDPI, FLDLG2 and FLDLN2 (SDM 1, 8.3.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constant {
    /// log2(10)
    Log2Ten,
    /// log2(e)
    Log2E,
    /// pi
    Pi,
    /// log10(2)
    Log10Two,
    /// ln(2)
    LnTwo,
}

/// A constant rounded as RC says, without raising PE. Precision control does not apply.
pub fn constant(rounding: Rounding, which: Constant) -> F80 {
    let (exp, hi, lo) = match which {
        Constant::Log2Ten => (1, 0xd49a_784b_cd1b_8afe, 0x492b_f6ff_4daf_db4c),
        Constant::Log2E => (0, 0xb8aa_3b29_5c17_f0bb, 0xbe87_fed0_691d_3e88),
        Constant::Pi => (1, 0xc90f_daa2_2168_c234, 0xc4c6_628b_80dc_1cd1),
        Constant::Log10Two => (-2, 0x9a20_9a84_fbcf_f798, 0x8f89_59ac_0b7c_9178),
        Constant::LnTwo => (-1, 0xb172_17f7_d1cf_79ab, 0xc9e3_b398_03f2_f6af),
    };
    let mut env = Env { rounding, ..Env::default() };
    round_pack::<Extended>(&mut env, false, exp, hi, lo, 64)
}
