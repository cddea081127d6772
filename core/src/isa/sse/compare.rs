//! Comparisons of floating-point numbers: CMPccPS and family, COMISS and family (SDM 2).

use super::float::{set_low32, set_low64, source_low, source16};
use super::lane::Lanes;
use crate::cpu::{Cpu, Done};
use crate::decode::insn::Insn;
use crate::emit::Emit;
use crate::flags;
use crate::float::Relation;
use crate::size::Size;
use crate::vector::u32x4;
use core::array::from_fn;

/// CMPPS: all ones or zero per lane; only bits 2:0 of the predicate exist without VEX.
pub fn cmpps(cpu: &mut Cpu, i: &Insn) -> Done {
    let b = u32x4::get(source16(cpu, i)?);
    let a = u32x4::get(cpu.vget(i.a & 15));
    let mut l = Lanes::new(cpu.mxcsr);
    let r = from_fn(|k| l.predicate32(a[k], b[k], i.imm as u8));
    l.finish(cpu)?;
    cpu.vset(i.a & 15, u32x4::put(r));
    Ok(())
}
/// CMPPD.
pub fn cmppd(cpu: &mut Cpu, i: &Insn) -> Done {
    let b = source16(cpu, i)?;
    let a = cpu.vget(i.a & 15);
    let mut l = Lanes::new(cpu.mxcsr);
    let r = from_fn(|k| l.predicate64(a[k], b[k], i.imm as u8));
    l.finish(cpu)?;
    cpu.vset(i.a & 15, r);
    Ok(())
}
/// CMPSS.
pub fn cmpss(cpu: &mut Cpu, i: &Insn) -> Done {
    let b = source_low(cpu, i, Size::B4)? as u32;
    let a = cpu.vget(i.a & 15)[0] as u32;
    let mut l = Lanes::new(cpu.mxcsr);
    let r = l.predicate32(a, b, i.imm as u8);
    l.finish(cpu)?;
    set_low32(cpu, i, r);
    Ok(())
}
/// CMPSD (the scalar comparison).
pub fn cmpsd(cpu: &mut Cpu, i: &Insn) -> Done {
    let b = source_low(cpu, i, Size::B8)?;
    let a = cpu.vget(i.a & 15)[0];
    let mut l = Lanes::new(cpu.mxcsr);
    let r = l.predicate64(a, b, i.imm as u8);
    l.finish(cpu)?;
    set_low64(cpu, i, r);
    Ok(())
}

fn relation32(cpu: &mut Cpu, i: &Insn, signaling: bool) -> Done {
    let b = source_low(cpu, i, Size::B4)? as u32;
    let a = cpu.vget(i.a & 15)[0] as u32;
    let mut l = Lanes::new(cpu.mxcsr);
    let r = l.compare32(a, b, signaling);
    set_flags(cpu, l, r)
}
fn relation64(cpu: &mut Cpu, i: &Insn, signaling: bool) -> Done {
    let b = source_low(cpu, i, Size::B8)?;
    let a = cpu.vget(i.a & 15)[0];
    let mut l = Lanes::new(cpu.mxcsr);
    let r = l.compare64(a, b, signaling);
    set_flags(cpu, l, r)
}
fn set_flags(cpu: &mut Cpu, l: Lanes, r: Relation) -> Done {
    l.finish(cpu)?;
    let image = match r {
        Relation::Greater => 0,
        Relation::Less => flags::CF,
        Relation::Equal => flags::ZF,
        Relation::Unordered => flags::ZF | flags::PF | flags::CF,
    };
    flags::write(cpu, image);
    Ok(())
}
/// COMISS.  Flags: ZF, PF, CF; others 0.
pub fn comiss(cpu: &mut Cpu, i: &Insn) -> Done {
    relation32(cpu, i, true)
}
/// UCOMISS: quiet NaNs raise nothing.  Flags: as COMISS.
pub fn ucomiss(cpu: &mut Cpu, i: &Insn) -> Done {
    relation32(cpu, i, false)
}
/// COMISD.  Flags: as COMISS.
pub fn comisd(cpu: &mut Cpu, i: &Insn) -> Done {
    relation64(cpu, i, true)
}
/// UCOMISD.  Flags: as COMISS.
pub fn ucomisd(cpu: &mut Cpu, i: &Insn) -> Done {
    relation64(cpu, i, false)
}
