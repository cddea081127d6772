//! Bit tests and scans: BT, BTS, BTR, BTC, BSF, BSR, POPCNT.

use super::operand::*;
use crate::emit::{Bin, Emit, Linear, Un};
use crate::flags;

type R<E> = Result<(), <E as Emit>::Stop>;

/// What a bit test does to the bit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    Test,
    Set,
    Reset,
    Complement,
}

fn change<E: Emit>(e: &mut E, op: Op, a: E::Val, mask: E::Val) -> E::Val {
    match op {
        Op::Test => a,
        Op::Set => e.or(a, mask),
        Op::Complement => e.xor(a, mask),
        Op::Reset => {
            let m = e.not(mask);
            e.and(a, m)
        }
    }
}

/// BT and friends.  CF = the bit; the others are kept (SDM: OF, SF, AF, PF undefined).
/// With a memory operand and a register index the bit string reaches beyond the operand.
#[inline(always)]
fn bit_op<E: Emit, F: Form>(e: &mut E, f: F, op: Op) -> R<E> {
    let s = f.size();
    let bits = u64::from(s.bits());
    let index = if f.b_imm() { e.imm(f.imm & 0xff) } else { reg(e, f.b, s, false) };
    let n = e.andi(index, bits - 1);
    let one = e.imm(1);
    let mask = e.shl(one, n);
    let old = if f.a_mem() {
        let at = bit_string_at(e, f, index, op != Op::Test)?;
        if op == Op::Test { e.load(at, s)? } else { e.modify(at, s, |e, a| change(e, op, a, mask))? }
    } else {
        let a = reg(e, f.a, s, false);
        if op != Op::Test {
            let r = change(e, op, a, mask);
            set_reg(e, f.a, s, false, r);
        }
        a
    };
    let c = e.shr(old, n);
    let c = e.andi(c, 1);
    flags::set_cf(e, c);
    Ok(())
}

/// The address of the word that has the bit.
fn bit_string_at<E: Emit, F: Form>(e: &mut E, f: F, index: E::Val, write: bool) -> Result<Linear<E::Val>, E::Stop> {
    let s = f.size();
    if f.b_imm() {
        return linear_of(e, f, s as u8, write);
    }
    // Signed index / bits, in words of the operand size.
    let wide = e.sx(s, index);
    let sh = e.imm(u64::from(s.bits().trailing_zeros()));
    let words = e.bin(Bin::Sar, wide, sh);
    let delta = e.shli(words, (s as u32).trailing_zeros());
    let off = offset(e, &f);
    let off = e.add(off, delta);
    let off = match f.asize {
        8 => off,
        4 => e.andi(off, 0xffff_ffff),
        _ => e.andi(off, 0xffff),
    };
    if f.long() && f.seg < 4 {
        return Ok(Linear { at: off, stack: f.stack_ea() });
    }
    e.segmented(f.seg, off, s as u8, write)
}

/// BT: CF = bit.
pub fn bt<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    bit_op(e, f, Op::Test)
}
/// BTS: CF = bit, then set it.
pub fn bts<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    bit_op(e, f, Op::Set)
}
/// BTR: CF = bit, then clear it.
pub fn btr<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    bit_op(e, f, Op::Reset)
}
/// BTC: CF = bit, then flip it.
pub fn btc<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    bit_op(e, f, Op::Complement)
}

/// BSF: index of the lowest one.  ZF = source is 0, and then the destination is kept (the SDM
/// says undefined; software relies on what processors do).
pub fn bsf<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let v = read_b(e, f)?;
    let i = e.un(Un::Ctz, v);
    scan(e, f, v, i);
    Ok(())
}

/// BSR: index of the highest one.  ZF = source is 0, and then the destination is kept.
pub fn bsr<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let v = read_b(e, f)?;
    let z = e.un(Un::Clz, v);
    let top = e.imm(63);
    let i = e.sub(top, z);
    scan(e, f, v, i);
    Ok(())
}

fn scan<E: Emit, F: Form>(e: &mut E, f: F, v: E::Val, i: E::Val) {
    // With a zero source the whole register stays, even the upper half with 32-bit operands.
    let s = f.size();
    let old = e.get(crate::emit::Slot::Gpr(f.a));
    let new = if s == crate::size::Size::B2 {
        let keep = e.andi(old, !0xffff);
        e.or(keep, i)
    } else {
        i
    };
    let r = e.select(v, new, old);
    e.set(crate::emit::Slot::Gpr(f.a), r);
    let z = e.imm(0);
    flags::result(e, s, v, z, z);
}

/// POPCNT.  ZF = source is 0, the other five are 0.
pub fn popcnt<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let v = read_b(e, f)?;
    let n = e.un(Un::Popcnt, v);
    set_reg(e, f.a, f.size(), false, n);
    let z = e.is_zero(v);
    let z = e.shli(z, 6);
    flags::write(e, z);
    Ok(())
}
