//! Moves between XMM, MMX and general registers and memory (SDM 2). None of them changes flags.

use super::*;
use crate::cpu::{Cpu, Done};
use crate::emit::Linear;

/// Moves 16 bytes.
#[inline(always)]
fn mov16<E: Emit, F: Form>(e: &mut E, f: F, aligned: bool) -> R<E> {
    e.simd(Unit::Sse)?;
    if f.a_mem() {
        let v = e.vget(f.b & 15);
        return store16(e, &f, aligned, v);
    }
    let v = if f.b_mem() { load16(e, &f, aligned)? } else { e.vget(f.b & 15) };
    e.vset(f.a & 15, v);
    Ok(())
}

/// MOVAPS, MOVAPD, MOVDQA, and the non-temporal MOVNTPS, MOVNTPD, MOVNTDQ, MOVNTDQA.
#[inline(always)]
pub fn movaps<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    mov16(e, f, true)
}
/// MOVUPS, MOVUPD, MOVDQU, LDDQU.
#[inline(always)]
pub fn movups<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    mov16(e, f, false)
}

/// A scalar move: loads clear what is above, moves between registers keep it.
#[inline(always)]
fn scalar<E: Emit, F: Form>(e: &mut E, f: F, size: Size) -> R<E> {
    e.simd(Unit::Sse)?;
    let v = low(e, &f, f.b, size)?;
    if f.a == opnd::MEM {
        return store_low(e, &f, size, v);
    }
    let r = if f.b == opnd::MEM {
        widen(e, v)
    } else {
        let old = e.vget(f.a & 15);
        e.vinsert(old, size, 0, v)
    };
    e.vset(f.a & 15, r);
    Ok(())
}
/// MOVSS.
pub fn movss<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    scalar(e, f, Size::B4)
}
/// MOVSD (the scalar move).
pub fn movsd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    scalar(e, f, Size::B8)
}

/// MOVD, MOVQ, MOVNTQ: `size` bytes between registers of all kinds and memory, zero-extended.
#[inline(always)]
fn movd_q<E: Emit, F: Form>(e: &mut E, f: F, size: Size) -> R<E> {
    let mmx = f.mmx() && (is_mm(f.a) || is_mm(f.b));
    e.simd(if mmx { Unit::Mmx } else { Unit::Sse })?;
    let v = low(e, &f, f.b, size)?;
    if f.a == opnd::MEM {
        store_low(e, &f, size, v)?;
    } else if is_xmm(f.a) {
        let v = widen(e, v);
        e.vset(f.a & 15, v);
    } else if f.mmx() && is_mm(f.a) {
        e.mset(f.a & 7, v);
    } else {
        e.set(Slot::Gpr(f.a & 15), v);
    }
    if mmx {
        e.enter_mmx();
    }
    Ok(())
}
/// MOVD.
pub fn movd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    movd_q(e, f, Size::B4)
}
/// MOVQ, MOVNTQ.
pub fn movq<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    movd_q(e, f, Size::B8)
}
/// MOVQ2DQ, MOVDQ2Q: between MMX and XMM registers.
pub fn movq2dq<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    e.simd(Unit::SseMmx)?;
    let v = low(e, &f, f.b, Size::B8)?;
    if is_mm(f.a) {
        e.mset(f.a & 7, v);
    } else {
        let v = widen(e, v);
        e.vset(f.a & 15, v);
        e.enter_mmx();
    }
    Ok(())
}

/// One half of the destination, or memory: MOVLPS, MOVHPS and their register forms.
#[inline(always)]
fn half<E: Emit, F: Form>(e: &mut E, f: F, to: u8, from: u8) -> R<E> {
    e.simd(Unit::Sse)?;
    if f.a == opnd::MEM {
        let v = e.vget(f.b & 15);
        let v = e.vextract(v, Size::B8, to);
        return store_low(e, &f, Size::B8, v);
    }
    let v = if f.b == opnd::MEM {
        load_low(e, &f, Size::B8)?
    } else {
        let v = e.vget(f.b & 15);
        e.vextract(v, Size::B8, from)
    };
    let old = e.vget(f.a & 15);
    let r = e.vinsert(old, Size::B8, to, v);
    e.vset(f.a & 15, r);
    Ok(())
}
/// MOVLPS, MOVLPD, MOVHLPS: the low half, from memory or a high half.
pub fn movlps<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    half(e, f, 0, 1)
}
/// MOVHPS, MOVHPD, MOVLHPS: the high half, from memory or a low half.
pub fn movhps<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    half(e, f, 1, 0)
}

/// Sign bits of lanes to a general register.
#[inline(always)]
fn signs<E: Emit, F: Form>(e: &mut E, f: F, lane: Size) -> R<E> {
    if is_mm(f.b) {
        e.simd(Unit::Mmx)?;
        let v = e.mget(f.b & 7);
        let v = widen(e, v);
        let r = e.vsigns(v, lane);
        e.enter_mmx();
        e.set(Slot::Gpr(f.a & 15), r);
        return Ok(());
    }
    e.simd(Unit::Sse)?;
    let v = e.vget(f.b & 15);
    let r = e.vsigns(v, lane);
    e.set(Slot::Gpr(f.a & 15), r);
    Ok(())
}
/// PMOVMSKB.
pub fn pmovmskb<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    signs(e, f, Size::B1)
}
/// MOVMSKPS.
pub fn movmskps<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    signs(e, f, Size::B4)
}
/// MOVMSKPD.
pub fn movmskpd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    signs(e, f, Size::B8)
}

/// A lane to a general register (zero-extended) or memory.
#[inline(always)]
fn extract<E: Emit, F: Form>(e: &mut E, f: F, lane: Size) -> R<E> {
    let mmx = is_mm(f.b);
    let v = if mmx {
        e.simd(Unit::Mmx)?;
        let v = e.mget(f.b & 7);
        e.vpair(v, v)
    } else {
        e.simd(Unit::Sse)?;
        e.vget(f.b & 15)
    };
    let v = e.vextract(v, lane, f.imm as u8 & 15);
    if f.a == opnd::MEM {
        return store_low(e, &f, lane, v);
    }
    if mmx {
        e.enter_mmx();
    }
    e.set(Slot::Gpr(f.a & 15), v);
    Ok(())
}
/// PEXTRB.
pub fn pextrb<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    extract(e, f, Size::B1)
}
/// PEXTRW.
pub fn pextrw<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    extract(e, f, Size::B2)
}
/// PEXTRD, EXTRACTPS.
pub fn pextrd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    extract(e, f, Size::B4)
}
/// PEXTRQ.
pub fn pextrq<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    extract(e, f, Size::B8)
}

/// A lane from a general register or memory.
#[inline(always)]
fn insert<E: Emit, F: Form>(e: &mut E, f: F, lane: Size) -> R<E> {
    if is_mm(f.a) {
        let (old, v) = operands_mm(e, &f, lane)?;
        let old = widen(e, old);
        let r = e.vinsert(old, lane, f.imm as u8 & 3, v);
        commit_mm(e, &f, r, 0);
        return Ok(());
    }
    e.simd(Unit::Sse)?;
    let v = low(e, &f, f.b, lane)?;
    let old = e.vget(f.a & 15);
    let r = e.vinsert(old, lane, f.imm as u8 & 15, v);
    e.vset(f.a & 15, r);
    Ok(())
}
/// PINSRB.
pub fn pinsrb<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    insert(e, f, Size::B1)
}
/// PINSRW.
pub fn pinsrw<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    insert(e, f, Size::B2)
}
/// PINSRD.
pub fn pinsrd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    insert(e, f, Size::B4)
}
/// PINSRQ.
pub fn pinsrq<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    insert(e, f, Size::B8)
}

/// MASKMOVDQU, MASKMOVQ: stores the bytes whose mask byte has its top bit set to DS:rDI.
/// All 16 or 8 bytes must be writable, whatever the mask (the SDM leaves that open).
pub fn maskmov(cpu: &mut Cpu, i: &Insn) -> Done {
    let (v, mask, n) = if is_mm(i.b) {
        cpu.simd(Unit::Mmx)?;
        ([cpu.mget(i.b & 7), 0], [cpu.mget(i.c & 7), 0], 8)
    } else {
        cpu.simd(Unit::Sse)?;
        (cpu.vget(i.b & 15), cpu.vget(i.c & 15), 16)
    };
    if n == 8 {
        // The x87 becomes MMX even if a fault follows (so the host; the manuals do not say).
        cpu.enter_mmx();
    }
    let rdi = cpu.regs[7];
    let off = match i.asize {
        8 => rdi,
        4 => rdi & 0xffff_ffff,
        _ => rdi & 0xffff,
    };
    let at = cpu.linear(i.seg, off, n, true)?;
    if n == 8 {
        cpu.check_address(at, Size::B8)?;
    }
    cpu.probe_write(at, u64::from(n))?;
    for k in 0..n {
        if cpu.vextract(mask, Size::B1, k) & 0x80 != 0 {
            let b = cpu.vextract(v, Size::B1, k);
            let to = at.at.wrapping_add(u64::from(k));
            let to = if cpu.long { to } else { to & 0xffff_ffff };
            cpu.store(Linear { at: to, ..at }, Size::B1, b)?;
        }
    }
    Ok(())
}
