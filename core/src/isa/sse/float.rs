//! Floating-point arithmetic on vectors (SDM 2), exact and with MXCSR's flags.
//!
//! RCPPS and RSQRTPS are documented only as approximations within 1.5 * 2^-12 relative error;
//! here they are the correctly rounded quotient, the same on every host.

use super::lane::Lanes;
use super::*;
use crate::cpu::{Cpu, Done, Stop};
use crate::emit::{FloatOp, Floats};
use crate::float::Env;
use crate::float::sse::{self, F64};
use crate::vector::{V128, u32x4};
use core::array::from_fn;

/// A 16-byte source: XMM register or aligned memory. First it asks whether SSE may be used.
pub(super) fn source16(cpu: &mut Cpu, i: &Insn) -> Result<V128, Stop> {
    cpu.simd(Unit::Sse)?;
    if i.b == opnd::MEM { load16(cpu, i, true) } else { Ok(cpu.vget(i.b & 15)) }
}
/// A scalar source of 4 or 8 bytes: XMM register (its low half) or memory.
pub(super) fn source_low(cpu: &mut Cpu, i: &Insn, size: Size) -> Result<u64, Stop> {
    cpu.simd(Unit::Sse)?;
    if i.b == opnd::MEM { load_low(cpu, i, size) } else { Ok(size.zx(cpu.vget(i.b & 15)[0])) }
}
/// Commits a scalar f32: the upper lanes stay.
pub(super) fn set_low32(cpu: &mut Cpu, i: &Insn, r: u32) {
    let d = &mut cpu.xmm[usize::from(i.a & 15)][0];
    *d = *d & !0xffff_ffff | u64::from(r);
}
/// Commits a scalar f64: the upper lane stays.
pub(super) fn set_low64(cpu: &mut Cpu, i: &Insn, r: u64) {
    cpu.xmm[usize::from(i.a & 15)][0] = r;
}

/// dst = f(dst, src) on four f32.
#[inline(always)]
fn ps(cpu: &mut Cpu, i: &Insn, f: impl Fn(&mut Lanes, usize, u32, u32) -> u32) -> Done {
    let b = u32x4::get(source16(cpu, i)?);
    let a = u32x4::get(cpu.vget(i.a & 15));
    let mut l = Lanes::new(cpu.mxcsr);
    let r = from_fn(|k| f(&mut l, k, a[k], b[k]));
    l.finish(cpu)?;
    cpu.vset(i.a & 15, u32x4::put(r));
    Ok(())
}
/// dst = f(dst, src) on two f64.
#[inline(always)]
fn pd(cpu: &mut Cpu, i: &Insn, f: impl Fn(&mut Lanes, usize, u64, u64) -> u64) -> Done {
    let b = source16(cpu, i)?;
    let a = cpu.vget(i.a & 15);
    let mut l = Lanes::new(cpu.mxcsr);
    let r = from_fn(|k| f(&mut l, k, a[k], b[k]));
    l.finish(cpu)?;
    cpu.vset(i.a & 15, r);
    Ok(())
}
/// dst = f(dst, src) on the low f32.
#[inline(always)]
fn ss(cpu: &mut Cpu, i: &Insn, f: impl Fn(&mut Lanes, u32, u32) -> u32) -> Done {
    let b = source_low(cpu, i, Size::B4)? as u32;
    let a = cpu.vget(i.a & 15)[0] as u32;
    let mut l = Lanes::new(cpu.mxcsr);
    let r = f(&mut l, a, b);
    l.finish(cpu)?;
    set_low32(cpu, i, r);
    Ok(())
}
/// dst = f(dst, src) on the low f64.
#[inline(always)]
fn sd(cpu: &mut Cpu, i: &Insn, f: impl Fn(&mut Lanes, u64, u64) -> u64) -> Done {
    let b = source_low(cpu, i, Size::B8)?;
    let a = cpu.vget(i.a & 15)[0];
    let mut l = Lanes::new(cpu.mxcsr);
    let r = f(&mut l, a, b);
    l.finish(cpu)?;
    set_low64(cpu, i, r);
    Ok(())
}

/// The source: an XMM register, or as much memory as the numbers have.
#[inline(always)]
pub(super) fn source<E: Emit, F: Form>(e: &mut E, f: F, of: Floats) -> Result<E::Vec, E::Stop> {
    match of {
        Floats::Ps | Floats::Pd => xmm_or_mem(e, &f, f.b),
        Floats::Ss => low_number(e, &f, Size::B4),
        Floats::Sd => low_number(e, &f, Size::B8),
    }
}
/// An XMM register, of which only the low part counts, or that part from memory.
#[inline(always)]
pub(super) fn low_number<E: Emit>(e: &mut E, i: &Insn, size: Size) -> Result<E::Vec, E::Stop> {
    if i.b == opnd::MEM { low_vec(e, i, i.b, size) } else { Ok(e.vget(i.b & 15)) }
}

/// dst = dst op src.
#[inline(always)]
pub(super) fn numbers<E: Emit, F: Form>(e: &mut E, f: F, op: FloatOp, of: Floats) -> R<E> {
    if E::COPIES { numbers_copy(e, f, op, of) } else { numbers_shared(e, &f, op, of) }
}
#[inline(never)]
fn numbers_shared<E: Emit>(e: &mut E, i: &Insn, op: FloatOp, of: Floats) -> R<E> {
    numbers_copy(e, Any(i), op, of)
}
#[inline(always)]
fn numbers_copy<E: Emit, F: Form>(e: &mut E, f: F, op: FloatOp, of: Floats) -> R<E> {
    e.simd(Unit::Sse)?;
    let b = source(e, f, of)?;
    let a = e.vget(f.a & 15);
    let r = e.float(op, of, a, b)?;
    e.vset(f.a & 15, r);
    Ok(())
}

macro_rules! four {
    ($($op:ident $ps:ident $pd:ident $ss:ident $sd:ident;)*) => { $(
        four! { one $op $ps Ps "four f32." }
        four! { one $op $pd Pd "two f64." }
        four! { one $op $ss Ss "the low f32." }
        four! { one $op $sd Sd "the low f64." }
    )* };
    (one $op:ident $name:ident $of:ident $what:literal) => {
        #[doc = concat!(stringify!($name), ": ", $what)]
        pub fn $name<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
            numbers(e, f, FloatOp::$op, Floats::$of)
        }
    };
}
four! {
    Add addps addpd addss addsd;
    Sub subps subpd subss subsd;
    Mul mulps mulpd mulss mulsd;
    Div divps divpd divss divsd;
    Min minps minpd minss minsd;
    Max maxps maxpd maxss maxsd;
    Sqrt sqrtps sqrtpd sqrtss sqrtsd;
}

/// RCPPS: reciprocals.
pub fn rcpps(cpu: &mut Cpu, i: &Insn) -> Done {
    ps(cpu, i, |_, _, _, b| rcp(b))
}
/// RCPSS.
pub fn rcpss(cpu: &mut Cpu, i: &Insn) -> Done {
    ss(cpu, i, |_, _, b| rcp(b))
}
/// RSQRTPS: reciprocals of square roots.
pub fn rsqrtps(cpu: &mut Cpu, i: &Insn) -> Done {
    ps(cpu, i, |_, _, _, b| rsqrt(b))
}
/// RSQRTSS.
pub fn rsqrtss(cpu: &mut Cpu, i: &Insn) -> Done {
    ss(cpu, i, |_, _, b| rsqrt(b))
}

/// ROUNDPS: to integral values in the same format.
pub fn roundps(cpu: &mut Cpu, i: &Insn) -> Done {
    ps(cpu, i, |l, _, _, b| l.round32(b, i.imm as u8))
}
/// ROUNDPD.
pub fn roundpd(cpu: &mut Cpu, i: &Insn) -> Done {
    pd(cpu, i, |l, _, _, b| l.round64(b, i.imm as u8))
}
/// ROUNDSS.
pub fn roundss(cpu: &mut Cpu, i: &Insn) -> Done {
    ss(cpu, i, |l, _, b| l.round32(b, i.imm as u8))
}
/// ROUNDSD.
pub fn roundsd(cpu: &mut Cpu, i: &Insn) -> Done {
    sd(cpu, i, |l, _, b| l.round64(b, i.imm as u8))
}

/// ADDSUBPS: even lanes subtract, odd lanes add.
pub fn addsubps(cpu: &mut Cpu, i: &Insn) -> Done {
    ps(cpu, i, |l, k, a, b| if k % 2 == 0 { l.sub32(a, b) } else { l.add32(a, b) })
}
/// ADDSUBPD.
pub fn addsubpd(cpu: &mut Cpu, i: &Insn) -> Done {
    pd(cpu, i, |l, k, a, b| if k == 0 { l.sub64(a, b) } else { l.add64(a, b) })
}

/// `f` of neighbours of dst, then of src.
fn horizontal32(cpu: &mut Cpu, i: &Insn, f: fn(&mut Lanes, u32, u32) -> u32) -> Done {
    let b = u32x4::get(source16(cpu, i)?);
    let a = u32x4::get(cpu.vget(i.a & 15));
    let mut l = Lanes::new(cpu.mxcsr);
    let r = [f(&mut l, a[0], a[1]), f(&mut l, a[2], a[3]), f(&mut l, b[0], b[1]), f(&mut l, b[2], b[3])];
    l.finish(cpu)?;
    cpu.vset(i.a & 15, u32x4::put(r));
    Ok(())
}
/// `f` of the halves of dst, then of src.
fn horizontal64(cpu: &mut Cpu, i: &Insn, f: fn(&mut Lanes, u64, u64) -> u64) -> Done {
    let b = source16(cpu, i)?;
    let a = cpu.vget(i.a & 15);
    let mut l = Lanes::new(cpu.mxcsr);
    let r = [f(&mut l, a[0], a[1]), f(&mut l, b[0], b[1])];
    l.finish(cpu)?;
    cpu.vset(i.a & 15, r);
    Ok(())
}
/// HADDPS.
pub fn haddps(cpu: &mut Cpu, i: &Insn) -> Done {
    horizontal32(cpu, i, Lanes::add32)
}
/// HSUBPS.
pub fn hsubps(cpu: &mut Cpu, i: &Insn) -> Done {
    horizontal32(cpu, i, Lanes::sub32)
}
/// HADDPD.
pub fn haddpd(cpu: &mut Cpu, i: &Insn) -> Done {
    horizontal64(cpu, i, Lanes::add64)
}
/// HSUBPD.
pub fn hsubpd(cpu: &mut Cpu, i: &Insn) -> Done {
    horizontal64(cpu, i, Lanes::sub64)
}

/// DPPS: the dot product of the lanes that bits 7:4 choose, to the lanes of bits 3:0. Products
/// and each level of sums settle their exceptions by themselves (SDM 2, DPPS).
pub fn dpps(cpu: &mut Cpu, i: &Insn) -> Done {
    let b = u32x4::get(source16(cpu, i)?);
    let a = u32x4::get(cpu.vget(i.a & 15));
    let imm = i.imm as u8;
    let mut l = Lanes::new(cpu.mxcsr);
    let p: [u32; 4] = from_fn(|k| if imm >> (4 + k) & 1 != 0 { l.mul32(a[k], b[k]) } else { 0 });
    let mut l = next_stage(cpu, l)?;
    let (low, high) = (l.add32(p[0], p[1]), l.add32(p[2], p[3]));
    let mut l = next_stage(cpu, l)?;
    let sum = l.add32(low, high);
    l.finish(cpu)?;
    cpu.vset(i.a & 15, u32x4::put(from_fn(|k| if imm >> k & 1 != 0 { sum } else { 0 })));
    Ok(())
}
/// DPPD.
pub fn dppd(cpu: &mut Cpu, i: &Insn) -> Done {
    let b = source16(cpu, i)?;
    let a = cpu.vget(i.a & 15);
    let imm = i.imm as u8;
    let mut l = Lanes::new(cpu.mxcsr);
    let p: [u64; 2] = from_fn(|k| if imm >> (4 + k) & 1 != 0 { l.mul64(a[k], b[k]) } else { 0 });
    let mut l = next_stage(cpu, l)?;
    let sum = l.add64(p[0], p[1]);
    l.finish(cpu)?;
    cpu.vset(i.a & 15, from_fn(|k| if imm >> k & 1 != 0 { sum } else { 0 }));
    Ok(())
}
/// Ends one stage and begins another.
fn next_stage(cpu: &mut Cpu, l: Lanes) -> Result<Lanes, Stop> {
    l.finish(cpu)?;
    Ok(Lanes::new(cpu.mxcsr))
}

const SIGN: u32 = 1 << 31;
const INFINITY: u32 = 0x7f80_0000;
const QUIET: u32 = 0x0040_0000;

/// RCPSS: 1 / b. Denormals count as zero, tiny results become zero, no exceptions.
fn rcp(b: u32) -> u32 {
    let (sign, m) = (b & SIGN, b & !SIGN);
    match m {
        0..0x0080_0000 => sign | INFINITY,
        INFINITY => sign,
        _ if m > INFINITY => b | QUIET,
        _ => {
            let r = ((1.0 / f64::from(f32::from_bits(b))) as f32).to_bits();
            if r & !SIGN < 0x0080_0000 { sign } else { r }
        }
    }
}
/// RSQRTSS: 1 / sqrt(b). Denormals count as zero, negative numbers give the default NaN.
fn rsqrt(b: u32) -> u32 {
    let (sign, m) = (b & SIGN, b & !SIGN);
    match m {
        0..0x0080_0000 => sign | INFINITY,
        _ if m > INFINITY => b | QUIET,
        _ if sign != 0 => 0xffc0_0000,
        INFINITY => 0,
        _ => {
            let root = sse::sqrt::<F64>(&mut Env::default(), f64::from(f32::from_bits(b)).to_bits());
            ((1.0 / f64::from_bits(root)) as f32).to_bits()
        }
    }
}
