//! Conversions between floating point and integers and between formats (SDM 2).
//!
//! CVTxx2SI and CVTxx2DQ round as MXCSR says, CVTTxx truncates; what does not fit gives the
//! integer indefinite (80000000h, 8000000000000000h) and IE.

use super::float::{set_low32, set_low64, source_low, source16};
use super::lane::Lanes;
use super::{is_mm, load_low};
use crate::cpu::{Cpu, Done, Stop};
use crate::decode::insn::{Insn, opnd};
use crate::emit::{Emit, Slot, Unit};
use crate::size::Size;
use crate::vector::{V128, u32x4};

/// Two 32-bit lanes in one half.
fn pack(lo: u32, hi: u32) -> u64 {
    u64::from(lo) | u64::from(hi) << 32
}
/// The two 32-bit lanes of a half.
fn split(v: u64) -> [u32; 2] {
    [v as u32, (v >> 32) as u32]
}
/// Commits a whole vector after the flags.
fn commit(cpu: &mut Cpu, i: &Insn, l: Lanes, r: V128) -> Done {
    l.finish(cpu)?;
    cpu.vset(i.a & 15, r);
    Ok(())
}

/// A signed integer from a general register or memory (CVTSI2SS, CVTSI2SD).
fn source_int(cpu: &mut Cpu, i: &Insn) -> Result<i64, Stop> {
    cpu.simd(Unit::Sse)?;
    let size = if i.size2 == 8 { Size::B8 } else { Size::B4 };
    let v = if i.b == opnd::MEM { load_low(cpu, i, size)? } else { cpu.get(Slot::Gpr(i.b & 15)) };
    Ok(size.sx(v) as i64)
}
/// CVTSI2SS.
pub fn cvtsi2ss(cpu: &mut Cpu, i: &Insn) -> Done {
    let v = source_int(cpu, i)?;
    let mut l = Lanes::new(cpu.mxcsr);
    let r = l.int_to32(v);
    l.finish(cpu)?;
    set_low32(cpu, i, r);
    Ok(())
}
/// CVTSI2SD.
pub fn cvtsi2sd(cpu: &mut Cpu, i: &Insn) -> Done {
    let v = source_int(cpu, i)?;
    let mut l = Lanes::new(cpu.mxcsr);
    let r = l.int_to64(v);
    l.finish(cpu)?;
    set_low64(cpu, i, r);
    Ok(())
}

/// To a general register of 32 or 64 bits.
fn to_gpr(cpu: &mut Cpu, i: &Insn, from: Size, truncate: bool) -> Done {
    let b = source_low(cpu, i, from)?;
    let mut l = Lanes::new(cpu.mxcsr);
    let bits = i.size.bits();
    let r = if from == Size::B4 { l.to_int32(b as u32, truncate, bits) } else { l.to_int64(b, truncate, bits) };
    l.finish(cpu)?;
    cpu.set(Slot::Gpr(i.a & 15), i.size.zx(r as u64));
    Ok(())
}
/// CVTSS2SI.
pub fn cvtss2si(cpu: &mut Cpu, i: &Insn) -> Done {
    to_gpr(cpu, i, Size::B4, false)
}
/// CVTTSS2SI.
pub fn cvttss2si(cpu: &mut Cpu, i: &Insn) -> Done {
    to_gpr(cpu, i, Size::B4, true)
}
/// CVTSD2SI.
pub fn cvtsd2si(cpu: &mut Cpu, i: &Insn) -> Done {
    to_gpr(cpu, i, Size::B8, false)
}
/// CVTTSD2SI.
pub fn cvttsd2si(cpu: &mut Cpu, i: &Insn) -> Done {
    to_gpr(cpu, i, Size::B8, true)
}

/// CVTSS2SD.
pub fn cvtss2sd(cpu: &mut Cpu, i: &Insn) -> Done {
    let b = source_low(cpu, i, Size::B4)? as u32;
    let mut l = Lanes::new(cpu.mxcsr);
    let r = l.widen(b);
    l.finish(cpu)?;
    set_low64(cpu, i, r);
    Ok(())
}
/// CVTSD2SS.
pub fn cvtsd2ss(cpu: &mut Cpu, i: &Insn) -> Done {
    let b = source_low(cpu, i, Size::B8)?;
    let mut l = Lanes::new(cpu.mxcsr);
    let r = l.narrow(b);
    l.finish(cpu)?;
    set_low32(cpu, i, r);
    Ok(())
}
/// CVTPS2PD.
pub fn cvtps2pd(cpu: &mut Cpu, i: &Insn) -> Done {
    let b = split(source_low(cpu, i, Size::B8)?);
    let mut l = Lanes::new(cpu.mxcsr);
    let r = b.map(|x| l.widen(x));
    commit(cpu, i, l, r)
}
/// CVTPD2PS: the upper half becomes zero.
pub fn cvtpd2ps(cpu: &mut Cpu, i: &Insn) -> Done {
    let b = source16(cpu, i)?;
    let mut l = Lanes::new(cpu.mxcsr);
    let r = [pack(l.narrow(b[0]), l.narrow(b[1])), 0];
    commit(cpu, i, l, r)
}
/// CVTDQ2PS.
pub fn cvtdq2ps(cpu: &mut Cpu, i: &Insn) -> Done {
    let b = u32x4::get(source16(cpu, i)?);
    let mut l = Lanes::new(cpu.mxcsr);
    let r = u32x4::put(b.map(|x| l.int_to32(i64::from(x as i32))));
    commit(cpu, i, l, r)
}
/// CVTDQ2PD.
pub fn cvtdq2pd(cpu: &mut Cpu, i: &Insn) -> Done {
    let b = split(source_low(cpu, i, Size::B8)?);
    let mut l = Lanes::new(cpu.mxcsr);
    let r = b.map(|x| l.int_to64(i64::from(x as i32)));
    commit(cpu, i, l, r)
}

fn ps_to_dq(cpu: &mut Cpu, i: &Insn, truncate: bool) -> Done {
    let b = u32x4::get(source16(cpu, i)?);
    let mut l = Lanes::new(cpu.mxcsr);
    let r = u32x4::put(b.map(|x| l.to_int32(x, truncate, 32) as u32));
    commit(cpu, i, l, r)
}
/// CVTPS2DQ.
pub fn cvtps2dq(cpu: &mut Cpu, i: &Insn) -> Done {
    ps_to_dq(cpu, i, false)
}
/// CVTTPS2DQ.
pub fn cvttps2dq(cpu: &mut Cpu, i: &Insn) -> Done {
    ps_to_dq(cpu, i, true)
}
fn pd_to_dq(l: &mut Lanes, b: V128, truncate: bool) -> u64 {
    let (lo, hi) = (l.to_int64(b[0], truncate, 32), l.to_int64(b[1], truncate, 32));
    pack(lo as u32, hi as u32)
}
/// CVTPD2DQ: the upper half becomes zero.
pub fn cvtpd2dq(cpu: &mut Cpu, i: &Insn) -> Done {
    let b = source16(cpu, i)?;
    let mut l = Lanes::new(cpu.mxcsr);
    let r = pd_to_dq(&mut l, b, false);
    commit(cpu, i, l, [r, 0])
}
/// CVTTPD2DQ.
pub fn cvttpd2dq(cpu: &mut Cpu, i: &Insn) -> Done {
    let b = source16(cpu, i)?;
    let mut l = Lanes::new(cpu.mxcsr);
    let r = pd_to_dq(&mut l, b, true);
    commit(cpu, i, l, [r, 0])
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
    set_low64(cpu, i, pack(lo, hi));
    Ok(())
}
/// CVTPI2PD: with memory it leaves the MMX state alone (SDM 2, CVTPI2PD).
pub fn cvtpi2pd(cpu: &mut Cpu, i: &Insn) -> Done {
    cpu.simd(if is_mm(i.b) { Unit::SseMmx } else { Unit::Sse })?;
    let b = source_pi(cpu, i)?;
    let mut l = Lanes::new(cpu.mxcsr);
    let r = b.map(|x| l.int_to64(i64::from(x as i32)));
    commit(cpu, i, l, r)?;
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
    commit_pi(cpu, i, l, pack(lo, hi))
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
    let r = pd_to_dq(&mut l, b, truncate);
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
