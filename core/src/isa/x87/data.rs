//! Loads and stores: FLD, FILD, FBLD, FST(P), FIST(P), FISTTP, FBSTP, FXCH, constants.

use super::{enter, note, note_memory, sti};
use crate::cpu::fpu::{Fpu, Store};
use crate::cpu::{Cpu, Done, Stop};
use crate::decode::insn::{Insn, opnd};
use crate::emit::Linear;
use crate::float::F80;
use crate::float::x87::Constant;
use crate::isa::operand::linear;
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
pub fn fld(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    if i.a != opnd::MEM {
        note(cpu, i);
        cpu.fpu.fld_st(sti(i));
        return Ok(());
    }
    if i.size2 == 10 {
        let bytes = read80(cpu, i)?;
        note_memory(cpu, i);
        cpu.fpu.fld_f80(F80::from_bytes(bytes));
        return Ok(());
    }
    let at = linear(cpu, i, i.size2, false)?;
    if i.size2 == 4 {
        let v = cpu.read(at, Size::B4)?;
        note_memory(cpu, i);
        cpu.fpu.fld_f32(v as u32);
    } else {
        let v = cpu.read(at, Size::B8)?;
        note_memory(cpu, i);
        cpu.fpu.fld_f64(v);
    }
    Ok(())
}

/// FILD.
pub fn fild(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    let size = integer_size(i);
    let at = linear(cpu, i, i.size2, false)?;
    let v = size.sx(cpu.read(at, size)?);
    note_memory(cpu, i);
    cpu.fpu.fild(v as i64);
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

/// The width of an integer in memory.
#[inline(always)]
fn integer_size(i: &Insn) -> Size {
    match i.size2 {
        2 => Size::B2,
        4 => Size::B4,
        _ => Size::B8,
    }
}

/// Ends a store: memory, then the unit. An unmasked exception that keeps the value from memory
/// does not hide a fault of the address.
#[inline(always)]
fn finish<T: Copy>(cpu: &mut Cpu, i: &Insn, at: Linear<u64>, size: Size, s: Store<T>, bits: impl Fn(T) -> u64) -> Done {
    match s.value {
        Some(v) => cpu.write(at, size, bits(v))?,
        None => {
            cpu.check_address(at, size)?;
            cpu.probe_write(at, size.bytes())?;
        }
    }
    note_memory(cpu, i);
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
fn store(cpu: &mut Cpu, i: &Insn, pop: bool) -> Done {
    enter(cpu)?;
    if i.a != opnd::MEM {
        note(cpu, i);
        cpu.fpu.fst_st(sti(i), pop);
        return Ok(());
    }
    if i.size2 == 10 {
        let s = cpu.fpu.fstp_f80();
        return finish80(cpu, i, s, F80::to_bytes);
    }
    let at = linear(cpu, i, i.size2, true)?;
    if i.size2 == 4 {
        let s = cpu.fpu.fst_f32(pop);
        finish(cpu, i, at, Size::B4, s, u64::from)
    } else {
        let s = cpu.fpu.fst_f64(pop);
        finish(cpu, i, at, Size::B8, s, |v| v)
    }
}
/// FST.
pub fn fst(cpu: &mut Cpu, i: &Insn) -> Done {
    store(cpu, i, false)
}
/// FSTP.
pub fn fstp(cpu: &mut Cpu, i: &Insn) -> Done {
    store(cpu, i, true)
}

/// D9 D8+i, undocumented: FSTP ST(i) without the check. From an empty register it only pops.
pub fn fstpnce(cpu: &mut Cpu, i: &Insn) -> Done {
    if !cpu.fpu.is_empty(0) {
        return store(cpu, i, true);
    }
    enter(cpu)?;
    note(cpu, i);
    cpu.fpu.fincstp();
    Ok(())
}

#[inline(always)]
fn store_integer(cpu: &mut Cpu, i: &Insn, value: fn(&Fpu, Size) -> Store<i64>) -> Done {
    enter(cpu)?;
    let size = integer_size(i);
    let at = linear(cpu, i, i.size2, true)?;
    let s = value(&cpu.fpu, size);
    finish(cpu, i, at, size, s, |v| size.zx(v as u64))
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
pub fn fxch(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    note(cpu, i);
    cpu.fpu.fxch(sti(i));
    Ok(())
}

/// FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ: D9 E8 to D9 EE.
pub fn fld_constant(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    note(cpu, i);
    match sti(i) {
        0 => cpu.fpu.fld1(),
        1 => cpu.fpu.fld_constant(Constant::Log2Ten),
        2 => cpu.fpu.fld_constant(Constant::Log2E),
        3 => cpu.fpu.fld_constant(Constant::Pi),
        4 => cpu.fpu.fld_constant(Constant::Log10Two),
        5 => cpu.fpu.fld_constant(Constant::LnTwo),
        _ => cpu.fpu.fldz(),
    }
    Ok(())
}
