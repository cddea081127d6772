//! Moves: MOV, MOVZX, MOVSX, MOVSXD, LEA, CMOVcc, SETcc, BSWAP, XLAT, MOVBE-free conversions.

use super::operand::*;
use crate::cpu::{Cpu, Done};
use crate::decode::insn::{Insn, opnd};
use crate::emit::{Emit, Slot, Un};
use crate::flags;
use crate::size::Size;

type R<E> = Result<(), <E as Emit>::Stop>;

/// MOV between registers, memory and immediates.  Flags: none.
#[inline(always)]
pub fn mov<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let v = read_b(e, f)?;
    write_a(e, f, v)
}

/// MOVZX: dst = zero-extended src.  Flags: none.
#[inline(always)]
pub fn movzx<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let v = if f.size2 == 1 { read_b_as(e, f, Size::B1)? } else { read_b_as(e, f, Size::B2)? };
    set_reg(e, f.a, f.size(), false, v);
    Ok(())
}

/// MOVSX, MOVSXD: dst = sign-extended src.  Flags: none.
#[inline(always)]
pub fn movsx<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let v = match f.size2 {
        1 => {
            let v = read_b_as(e, f, Size::B1)?;
            e.sx(Size::B1, v)
        }
        2 => {
            let v = read_b_as(e, f, Size::B2)?;
            e.sx(Size::B2, v)
        }
        _ => {
            let v = read_b_as(e, f, Size::B4)?;
            e.sx(Size::B4, v)
        }
    };
    let v = e.zx(f.size(), v);
    set_reg(e, f.a, f.size(), false, v);
    Ok(())
}

/// LEA: dst = effective address.  Flags: none.
#[inline(always)]
pub fn lea<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let v = wrapped_offset(e, &f);
    let v = e.zx(f.size(), v);
    set_reg(e, f.a, f.size(), false, v);
    Ok(())
}

/// CMOVcc: the source is read even if the condition is false.  Flags: none.
#[inline(always)]
pub fn cmovcc<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let v = read_b(e, f)?;
    let old = reg(e, f.a, f.size(), false);
    let c = flags::cond(e, f.cc());
    let v = e.select(c, v, old);
    set_reg(e, f.a, f.size(), false, v);
    Ok(())
}

/// SETcc.  Flags: none.
#[inline(always)]
pub fn setcc<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let c = flags::cond(e, f.cc());
    write_a(e, f, c)
}

/// BSWAP (with 16 bits the result is zero, as processors do).  Flags: none.
#[inline(always)]
pub fn bswap<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let v = reg(e, f.a, f.size(), false);
    let v = match f.size() {
        Size::B8 => e.un(Un::Bswap, v),
        Size::B4 => {
            let v = e.un(Un::Bswap, v);
            e.shri(v, 32)
        }
        _ => e.imm(0),
    };
    set_reg(e, f.a, f.size(), false, v);
    Ok(())
}

/// XLAT: AL = [rBX + AL].  Flags: none.
pub fn xlatb<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    // The decoder gives base rBX and index AL as memory operand without a scale; AL is only
    // the low byte of the index register, so the sum is made here.
    let b = e.get(Slot::Gpr(3));
    let a = e.get(Slot::Gpr(0));
    let a = e.andi(a, 0xff);
    let off = e.add(b, a);
    let off = match f.asize {
        8 => off,
        4 => e.andi(off, 0xffff_ffff),
        _ => e.andi(off, 0xffff),
    };
    let at = e.segmented(f.seg, off, 1, false)?;
    let v = e.load(at, Size::B1)?;
    set_reg(e, 0, Size::B1, false, v);
    Ok(())
}

/// CBW, CWDE, CDQE: sign-extends the lower half of rAX.  Flags: none.
pub fn cbw<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let half = match f.size() {
        Size::B8 => Size::B4,
        Size::B4 => Size::B2,
        _ => Size::B1,
    };
    let v = e.get(Slot::Gpr(0));
    let v = e.sx(half, v);
    let v = e.zx(f.size(), v);
    set_reg(e, 0, f.size(), false, v);
    Ok(())
}

/// CWD, CDQ, CQO: rDX = sign of rAX.  Flags: none.
pub fn cwd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let v = e.get(Slot::Gpr(0));
    let v = e.sx(f.size(), v);
    let n = e.imm(63);
    let s = e.bin(crate::emit::Bin::Sar, v, n);
    let s = e.zx(f.size(), s);
    set_reg(e, 2, f.size(), false, s);
    Ok(())
}

/// MOVNTI: a store; the cache hint has no effect.
pub fn movnti<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    mov(e, f)
}

/// NOP, PREFETCHh, ENDBR, PAUSE and other hints.
#[inline(always)]
pub fn nop<E: Emit, F: Form>(_: &mut E, _: F) -> R<E> {
    Ok(())
}

/// MOV between rAX and a 64-bit absolute address.
pub fn mov_moffs(cpu: &mut Cpu, i: &Insn) -> Done {
    let store = i.a == opnd::MOFFS;
    let at = cpu.linear(i.seg, i.imm, i.size as u8, store)?;
    if store {
        let v = cpu.regs[0];
        return cpu.write(at, i.size, v);
    }
    let v = cpu.read(at, i.size)?;
    set_reg(cpu, 0, i.size, false, v);
    Ok(())
}
