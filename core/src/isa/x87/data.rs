//! Loads and stores: FLD, FILD, FBLD, FST(P), FIST(P), FISTTP, FBSTP, FXCH, constants.

use super::arith::on_the_stack;
use super::{enter, integer, integer_size, note_memory, operand, real, sti};
use crate::cpu::fpu::{Fpu, Store};
use crate::cpu::{Cpu, Done, Stop};
use crate::decode::insn::{Insn, opnd};
use crate::emit::{Emit, Linear, Number, Unit87};
use crate::float::F80;
use crate::float::x87::Constant;
use crate::isa::operand::{Form, linear};
use crate::size::Size;

/// Reads ten bytes, as eight and two: faults of the eight come before the end of the segment (so the host).
fn read80(cpu: &mut Cpu, i: &Insn) -> Result<[u8; 10], Stop> {
    let at = linear(cpu, i, 8, false)?;
    let low = cpu.read(at, Size::B8)?;
    linear(cpu, i, 10, false)?;
    let high = cpu.read(upper(cpu, at), Size::B2)?;
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&low.to_le_bytes());
    bytes[8..].copy_from_slice(&(high as u16).to_le_bytes());
    Ok(bytes)
}

/// Writes ten bytes; both accesses are checked first.
fn write80(cpu: &mut Cpu, at: Linear<u64>, bytes: [u8; 10]) -> Done {
    cpu.check_address(at, Size::B8)?;
    cpu.probe_write(at, 10)?;
    let [b0, b1, b2, b3, b4, b5, b6, b7, h0, h1] = bytes;
    cpu.write(at, Size::B8, u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]))?;
    cpu.write(upper(cpu, at), Size::B2, u64::from(u16::from_le_bytes([h0, h1])))
}

/// Bytes 8 and 9 of a ten-byte operand.
fn upper(cpu: &Cpu, at: Linear<u64>) -> Linear<u64> {
    let la = at.at.wrapping_add(8);
    Linear { at: if cpu.long { la } else { la & 0xffff_ffff }, ..at }
}

/// FLD.
pub fn fld<E: Emit, F: Form>(e: &mut E, f: F) -> Result<(), E::Stop> {
    if f.a == opnd::MEM && f.size2 == 10 {
        return e.x87_plain(&f, fld80);
    }
    e.x87()?;
    let (v, at) = real(e, &f)?;
    e.x87_note(&f, at);
    e.x87_do(Unit87::Load(v));
    Ok(())
}
fn fld80(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    let bytes = read80(cpu, i)?;
    note_memory(cpu, i);
    cpu.fpu.fld_f80(F80::from_bytes(bytes));
    Ok(())
}

/// FILD.
pub fn fild<E: Emit, F: Form>(e: &mut E, f: F) -> Result<(), E::Stop> {
    e.x87()?;
    let (v, at) = integer(e, &f)?;
    e.x87_note(&f, Some(at));
    e.x87_do(Unit87::Load(v));
    Ok(())
}

/// FBLD.
pub fn fbld(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    let bytes = read80(cpu, i)?;
    note_memory(cpu, i);
    cpu.fpu.fbld(bytes);
    Ok(())
}

/// Ends a store: memory, then the unit. An unmasked exception that keeps the value from memory
/// does not hide a fault of the address.
#[inline(always)]
pub(crate) fn finish<T: Copy>(
    cpu: &mut Cpu,
    at: Linear<u64>,
    size: Size,
    s: Store<T>,
    bits: impl Fn(T) -> u64,
) -> Done {
    match s.value {
        Some(v) => cpu.write(at, size, bits(v))?,
        None => {
            cpu.check_address(at, size)?;
            cpu.probe_write(at, size.bytes())?;
        }
    }
    cpu.fpu.commit(s);
    Ok(())
}

fn finish80<T: Copy>(cpu: &mut Cpu, i: &Insn, s: Store<T>, bytes: impl Fn(T) -> [u8; 10]) -> Done {
    let at = linear(cpu, i, 10, true)?;
    match s.value {
        Some(v) => write80(cpu, at, bytes(v))?,
        None => {
            cpu.check_address(at, Size::B8)?;
            cpu.probe_write(at, 10)?;
        }
    }
    note_memory(cpu, i);
    cpu.fpu.commit(s);
    Ok(())
}

#[inline(always)]
fn store<E: Emit>(e: &mut E, i: &Insn, pop: bool) -> Result<(), E::Stop> {
    if i.a != opnd::MEM {
        return on_the_stack(e, i, Unit87::Copy(sti(i), pop));
    }
    if i.size2 == 10 {
        return e.x87_plain(i, fstp80);
    }
    e.x87()?;
    let (at, offset) = operand(e, i, true)?;
    e.x87_store(at, i.size2 == 4, pop)?;
    e.x87_note(i, Some(offset));
    Ok(())
}
fn fstp80(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    let s = cpu.fpu.fstp_f80();
    finish80(cpu, i, s, F80::to_bytes)
}
/// FST.
pub fn fst<E: Emit, F: Form>(e: &mut E, f: F) -> Result<(), E::Stop> {
    store(e, &f, false)
}
/// FSTP.
pub fn fstp<E: Emit, F: Form>(e: &mut E, f: F) -> Result<(), E::Stop> {
    store(e, &f, true)
}

/// D9 D8+i, undocumented: FSTP ST(i) without the check. From an empty register it only pops.
pub fn fstpnce(cpu: &mut Cpu, i: &Insn) -> Done {
    if !cpu.fpu.is_empty(0) {
        return store(cpu, i, true);
    }
    enter(cpu)?;
    cpu.x87_note(i, None);
    cpu.fpu.fincstp();
    Ok(())
}

#[inline(always)]
fn store_integer(cpu: &mut Cpu, i: &Insn, value: fn(&Fpu, Size) -> Store<i64>) -> Done {
    enter(cpu)?;
    let size = integer_size(i);
    let at = linear(cpu, i, i.size2, true)?;
    let s = value(&cpu.fpu, size);
    finish(cpu, at, size, s, |v| size.zx(v as u64))?;
    note_memory(cpu, i);
    Ok(())
}
/// FIST.
pub fn fist(cpu: &mut Cpu, i: &Insn) -> Done {
    store_integer(cpu, i, |f, size| if size == Size::B2 { f.fist_i16(false) } else { f.fist_i32(false) })
}
/// FISTP.
pub fn fistp(cpu: &mut Cpu, i: &Insn) -> Done {
    store_integer(cpu, i, |f, size| match size {
        Size::B2 => f.fist_i16(true),
        Size::B4 => f.fist_i32(true),
        _ => f.fistp_i64(),
    })
}
/// FISTTP.
pub fn fisttp(cpu: &mut Cpu, i: &Insn) -> Done {
    store_integer(cpu, i, |f, size| match size {
        Size::B2 => f.fisttp_i16(),
        Size::B4 => f.fisttp_i32(),
        _ => f.fisttp_i64(),
    })
}

/// FBSTP.
pub fn fbstp(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    let s = cpu.fpu.fbstp();
    finish80(cpu, i, s, |v| v)
}

/// FXCH.
pub fn fxch<E: Emit, F: Form>(e: &mut E, f: F) -> Result<(), E::Stop> {
    on_the_stack(e, &f, Unit87::Exchange(sti(&f)))
}

/// FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ: D9 E8 to D9 EE.
pub fn fld_constant<E: Emit, F: Form>(e: &mut E, f: F) -> Result<(), E::Stop> {
    match sti(&f) {
        0 => on_the_stack(e, &f, Unit87::Load(Number::One)),
        6 => on_the_stack(e, &f, Unit87::Load(Number::Zero)),
        _ => e.x87_plain(&f, load_constant),
    }
}
fn load_constant(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    cpu.x87_note(i, None);
    cpu.fpu.fld_constant(match sti(i) {
        1 => Constant::Log2Ten,
        2 => Constant::Log2E,
        3 => Constant::Pi,
        4 => Constant::Log10Two,
        _ => Constant::LnTwo,
    });
    Ok(())
}
