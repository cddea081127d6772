//! Conversions between floating point and integers and between formats (SDM 2).
//!
//! CVTxx2SI and CVTxx2DQ round as MXCSR says, CVTTxx truncates; what does not fit gives the
//! integer indefinite (80000000h, 8000000000000000h) and IE.

use super::float::{low_number, set_low64, source_low, source16};
use super::lane::{Lanes, join, split};
use super::*;
use crate::cpu::{Cpu, Done, Stop};
use crate::emit::{FloatConversion, Floats};

/// A signed integer from a general register or memory as the low number.
#[inline(always)]
fn of_int<E: Emit, F: Form>(e: &mut E, f: F, of: Floats) -> R<E> {
    e.simd(Unit::Sse)?;
    let size = if f.size2 == 8 { Size::B8 } else { Size::B4 };
    let x = if f.b == opnd::MEM { load_low(e, &f, size)? } else { e.get(Slot::Gpr(f.b & 15)) };
    let x = e.sx(size, x);
    let a = e.vget(f.a & 15);
    let r = e.float_of_int(of, a, x, size)?;
    e.vset(f.a & 15, r);
    Ok(())
}
/// CVTSI2SS.
pub fn cvtsi2ss<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    of_int(e, f, Floats::Ss)
}
/// CVTSI2SD.
pub fn cvtsi2sd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    of_int(e, f, Floats::Sd)
}

/// To a general register of 32 or 64 bits.
#[inline(always)]
fn to_gpr<E: Emit, F: Form>(e: &mut E, f: F, of: Floats, truncate: bool) -> R<E> {
    e.simd(Unit::Sse)?;
    let b = low_number(e, &f, if of == Floats::Ss { Size::B4 } else { Size::B8 })?;
    let r = e.float_to_int(of, b, truncate, f.size())?;
    e.set(Slot::Gpr(f.a & 15), r);
    Ok(())
}
/// CVTSS2SI.
pub fn cvtss2si<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    to_gpr(e, f, Floats::Ss, false)
}
/// CVTTSS2SI.
pub fn cvttss2si<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    to_gpr(e, f, Floats::Ss, true)
}
/// CVTSD2SI.
pub fn cvtsd2si<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    to_gpr(e, f, Floats::Sd, false)
}
/// CVTTSD2SI.
pub fn cvttsd2si<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    to_gpr(e, f, Floats::Sd, true)
}

/// The low number in the format `of`, from one of `size`.
#[inline(always)]
fn resize<E: Emit, F: Form>(e: &mut E, f: F, of: Floats, size: Size) -> R<E> {
    e.simd(Unit::Sse)?;
    let b = low_number(e, &f, size)?;
    let a = e.vget(f.a & 15);
    let r = e.float_resize(of, a, b)?;
    e.vset(f.a & 15, r);
    Ok(())
}
/// CVTSS2SD.
pub fn cvtss2sd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    resize(e, f, Floats::Sd, Size::B4)
}
/// CVTSD2SS.
pub fn cvtsd2ss<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    resize(e, f, Floats::Ss, Size::B8)
}

/// All numbers of 16 bytes, or of the low 8.
#[inline(always)]
fn all<E: Emit, F: Form>(e: &mut E, f: F, how: FloatConversion, bytes: u8) -> R<E> {
    e.simd(Unit::Sse)?;
    let b = if bytes == 16 { xmm_or_mem(e, &f, f.b)? } else { low_number(e, &f, Size::B8)? };
    let r = e.float_convert(how, b)?;
    e.vset(f.a & 15, r);
    Ok(())
}
macro_rules! all {
    ($($name:ident $how:ident $bytes:literal;)*) => { $(
        #[doc = concat!(stringify!($name), ": see [`FloatConversion::", stringify!($how), "`].")]
        pub fn $name<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
            all(e, f, FloatConversion::$how, $bytes)
        }
    )* };
}
all! {
    cvtps2pd PsToPd 8;
    cvtpd2ps PdToPs 16;
    cvtdq2ps DqToPs 16;
    cvtdq2pd DqToPd 8;
    cvtps2dq PsToDq 16;
    cvttps2dq PsToDqT 16;
    cvtpd2dq PdToDq 16;
    cvttpd2dq PdToDqT 16;
}

/// Two integers from an MMX register or memory.
fn source_pi(cpu: &mut Cpu, i: &Insn) -> Result<[u32; 2], Stop> {
    Ok(split(if is_mm(i.b) { cpu.mget(i.b & 7) } else { load_low(cpu, i, Size::B8)? }))
}
/// CVTPI2PS: the low half; the upper one stays. It enters the MMX state with memory too (SDM 2,
/// CVTPI2PS, against CVTPI2PD); AMD's processors do not.
pub fn cvtpi2ps(cpu: &mut Cpu, i: &Insn) -> Done {
    cpu.simd(Unit::SseMmx)?;
    let b = source_pi(cpu, i)?;
    let mut l = Lanes::new(cpu.mxcsr);
    let [lo, hi] = b.map(|x| l.int_to32(i64::from(x as i32)));
    cpu.enter_mmx();
    l.finish(cpu)?;
    set_low64(cpu, i, join([lo, hi]));
    Ok(())
}
/// CVTPI2PD: with memory it leaves the MMX state alone (SDM 2, CVTPI2PD).
pub fn cvtpi2pd(cpu: &mut Cpu, i: &Insn) -> Done {
    cpu.simd(if is_mm(i.b) { Unit::SseMmx } else { Unit::Sse })?;
    let b = source_pi(cpu, i)?;
    let mut l = Lanes::new(cpu.mxcsr);
    let r = b.map(|x| l.int_to64(i64::from(x as i32)));
    l.finish(cpu)?;
    cpu.vset(i.a & 15, r);
    if is_mm(i.b) {
        cpu.enter_mmx();
    }
    Ok(())
}
/// Commits two integers to an MMX register. The x87 becomes MMX even if #XM follows (so the
/// host; the manuals do not say).
fn commit_pi(cpu: &mut Cpu, i: &Insn, l: Lanes, r: u64) -> Done {
    cpu.enter_mmx();
    l.finish(cpu)?;
    cpu.mset(i.a & 7, r);
    Ok(())
}
fn ps_to_pi(cpu: &mut Cpu, i: &Insn, truncate: bool) -> Done {
    cpu.simd(Unit::SseMmx)?;
    let b = split(source_low(cpu, i, Size::B8)?);
    let mut l = Lanes::new(cpu.mxcsr);
    let [lo, hi] = b.map(|x| l.to_int32(x, truncate, 32) as u32);
    commit_pi(cpu, i, l, join([lo, hi]))
}
/// CVTPS2PI.
pub fn cvtps2pi(cpu: &mut Cpu, i: &Insn) -> Done {
    ps_to_pi(cpu, i, false)
}
/// CVTTPS2PI.
pub fn cvttps2pi(cpu: &mut Cpu, i: &Insn) -> Done {
    ps_to_pi(cpu, i, true)
}
fn pd_to_pi(cpu: &mut Cpu, i: &Insn, truncate: bool) -> Done {
    cpu.simd(Unit::SseMmx)?;
    let b = source16(cpu, i)?;
    let mut l = Lanes::new(cpu.mxcsr);
    let r = join(b.map(|x| l.to_int64(x, truncate, 32) as u32));
    commit_pi(cpu, i, l, r)
}
/// CVTPD2PI.
pub fn cvtpd2pi(cpu: &mut Cpu, i: &Insn) -> Done {
    pd_to_pi(cpu, i, false)
}
/// CVTTPD2PI.
pub fn cvttpd2pi(cpu: &mut Cpu, i: &Insn) -> Done {
    pd_to_pi(cpu, i, true)
}
