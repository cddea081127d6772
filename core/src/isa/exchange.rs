//! XCHG, XADD, CMPXCHG, CMPXCHG8B, CMPXCHG16B.

use super::operand::*;
use crate::decode::insn::opnd;
use crate::emit::{Bin, Emit, Slot};
use crate::flags::{self, FlagOp};
use crate::size::Size;

type R<E> = Result<(), <E as Emit>::Stop>;

/// XCHG.  Flags: none. With memory it is locked whether or not LOCK is there.
#[inline(always)]
pub fn xchg<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    // The register is whichever operand is not memory; both orders decode.
    if f.b_mem() {
        let v = reg(e, f.a, s, f.high());
        let at = linear_of(e, f, s as u8, true)?;
        let old = e.modify(at, s, |_, _| v)?;
        set_reg(e, f.a, s, f.high(), old);
        return Ok(());
    }
    let v = reg(e, f.b, s, f.high());
    let old = modify_a(e, f, |_, _| v)?;
    set_reg(e, f.b, s, f.high(), old);
    Ok(())
}

/// XADD: src = old dst, dst += src.  OSZAPC all written.
pub fn xadd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    let b = reg(e, f.b, s, f.high());
    if f.a_mem() {
        let old = modify_a(e, f, |e, a| {
            let r = e.add(a, b);
            let r = e.zx(s, r);
            e.flags(FlagOp::Add, s, a, b, r);
            r
        })?;
        set_reg(e, f.b, s, f.high(), old);
        return Ok(());
    }
    let a = reg(e, f.a, s, f.high());
    let r = e.add(a, b);
    let r = e.zx(s, r);
    e.flags(FlagOp::Add, s, a, b, r);
    set_reg(e, f.b, s, f.high(), a);
    set_reg(e, f.a, s, f.high(), r);
    Ok(())
}

/// CMPXCHG: if rAX == dst, dst = src, else rAX = dst.  OSZAPC as CMP rAX, dst.
/// A destination in memory is written in both cases; a register that is not equal keeps even the
/// upper half that a 32-bit write clears.
pub fn cmpxchg<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    let acc = reg(e, 0, s, false);
    let new = reg(e, f.b, s, f.high());
    let old = if f.a_mem() {
        modify_a(e, f, |e, a| {
            let same = e.bin(Bin::Eq, acc, a);
            e.select(same, new, a)
        })?
    } else {
        reg(e, f.a, s, f.high())
    };
    let r = e.sub(acc, old);
    let r = e.zx(s, r);
    if !f.a_mem() {
        // rAX itself as the destination is always equal.
        let whole = Slot::Gpr(f.a & if f.high() && f.a & opnd::HIGH != 0 { 3 } else { 15 });
        let before = e.get(whole);
        set_reg(e, f.a, s, f.high(), new);
        let after = e.get(whole);
        let kept = e.select(r, before, after);
        e.set(whole, kept);
    }
    e.flags(FlagOp::Sub, s, acc, old, r);
    // The accumulator is left alone if equal: a 32-bit write would clear its upper half.
    let rax = e.get(Slot::Gpr(0));
    let keep = e.andi(rax, if s == Size::B4 { 0 } else { !s.mask() });
    let loaded = e.or(keep, old);
    let rax = e.select(r, loaded, rax);
    e.set(Slot::Gpr(0), rax);
    Ok(())
}

/// CMPXCHG8B: EDX:EAX against m64, ECX:EBX to store.  ZF written, the others kept.
pub fn cmpxchg8b<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let half = |e: &mut E, r: u8| reg(e, r, Size::B4, false);
    let pair = |e: &mut E, hi: u8, lo: u8| {
        let (h, l) = (half(e, hi), half(e, lo));
        let h = e.shli(h, 32);
        e.or(h, l)
    };
    let want = pair(e, 2, 0);
    let new = pair(e, 1, 3);
    let at = linear_of(e, f, 8, true)?;
    let old = e.modify(at, Size::B8, |e, a| {
        let same = e.bin(Bin::Eq, a, want);
        e.select(same, new, a)
    })?;
    let same = e.bin(Bin::Eq, old, want);
    let (lo, hi) = (e.zx(Size::B4, old), e.shri(old, 32));
    let (rax, rdx) = (e.get(Slot::Gpr(0)), e.get(Slot::Gpr(2)));
    let (rax, rdx) = (e.select(same, rax, lo), e.select(same, rdx, hi));
    e.set(Slot::Gpr(0), rax);
    e.set(Slot::Gpr(2), rdx);
    flags::set_zf(e, same);
    Ok(())
}

/// CMPXCHG16B: RDX:RAX against m128, RCX:RBX to store.  #GP(0) unless aligned to 16 bytes.  ZF written, the others kept.
pub fn cmpxchg16b<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let at = linear_of(e, f, 16, true)?;
    let [rax, rcx, rdx, rbx] = [0, 1, 2, 3].map(|r| e.get(Slot::Gpr(r)));
    let equal = |e: &mut E, v: E::Vec| {
        let (lo, hi) = (e.vextract(v, Size::B8, 0), e.vextract(v, Size::B8, 1));
        let (l, h) = (e.bin(Bin::Eq, lo, rax), e.bin(Bin::Eq, hi, rdx));
        (lo, hi, e.and(l, h))
    };
    let old = e.vmodify(at, |e, v| {
        let (lo, hi, same) = equal(e, v);
        let (lo, hi) = (e.select(same, rbx, lo), e.select(same, rcx, hi));
        e.vpair(lo, hi)
    })?;
    let (lo, hi, same) = equal(e, old);
    e.set(Slot::Gpr(0), lo);
    e.set(Slot::Gpr(2), hi);
    flags::set_zf(e, same);
    Ok(())
}
