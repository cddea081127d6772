//! Comparisons of floating-point numbers: CMPccPS and family, COMISS and family (SDM 2).

use super::float::{numbers, source};
use super::*;
use crate::emit::{FloatOp, Floats};
use crate::flags;

/// All ones or zero per lane; only bits 2:0 of the predicate exist without VEX.
#[inline(always)]
fn by_predicate<E: Emit, F: Form>(e: &mut E, f: F, of: Floats) -> R<E> {
    numbers(e, f, FloatOp::Compare(f.imm as u8 & 7), of)
}
/// CMPPS.
pub fn cmpps<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    by_predicate(e, f, Floats::Ps)
}
/// CMPPD.
pub fn cmppd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    by_predicate(e, f, Floats::Pd)
}
/// CMPSS.
pub fn cmpss<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    by_predicate(e, f, Floats::Ss)
}
/// CMPSD (the scalar comparison).
pub fn cmpsd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    by_predicate(e, f, Floats::Sd)
}

#[inline(always)]
fn relation<E: Emit, F: Form>(e: &mut E, f: F, of: Floats, signaling: bool) -> R<E> {
    e.simd(Unit::Sse)?;
    let b = source(e, f, of)?;
    let a = e.vget(f.a & 15);
    let image = e.float_relation(signaling, of, a, b)?;
    flags::write(e, image);
    Ok(())
}
/// COMISS.  Flags: ZF, PF, CF; others 0.
pub fn comiss<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    relation(e, f, Floats::Ss, true)
}
/// UCOMISS: quiet NaNs raise nothing.  Flags: as COMISS.
pub fn ucomiss<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    relation(e, f, Floats::Ss, false)
}
/// COMISD.  Flags: as COMISS.
pub fn comisd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    relation(e, f, Floats::Sd, true)
}
/// UCOMISD.  Flags: as COMISS.
pub fn ucomisd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    relation(e, f, Floats::Sd, false)
}
