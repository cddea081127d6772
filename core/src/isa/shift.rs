//! Shifts and rotates (SDM 2: SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD/SHRD).
//! The count is masked to 5 bits (6 with 64-bit operands); a masked count of 0 leaves all
//! flags alone. OF is defined for a count of 1 only; for other counts we give what the
//! formula for 1 gives, as current processors do.

use super::operand::*;
use crate::emit::{Bin, Emit};
use crate::flags;
use crate::size::Size;

type R<E> = Result<(), <E as Emit>::Stop>;

/// The second operand (CL, immediate or 1) as a masked count.
#[inline(always)]
fn count<E: Emit, F: Form>(e: &mut E, f: F) -> Result<E::Val, E::Stop> {
    let n = read_b_as(e, f, Size::B1)?;
    Ok(e.andi(n, if f.size() == Size::B8 { 63 } else { 31 }))
}

/// Runs `op(e, a, n) -> r` on the first operand; `set(e, a, n, r)` writes the flags unless the
/// count is 0.
#[inline(always)]
fn shifted<E: Emit, F: Form>(
    e: &mut E,
    f: F,
    op: impl FnOnce(&mut E, E::Val, E::Val) -> E::Val,
    set: impl FnOnce(&mut E, E::Val, E::Val, E::Val),
) -> R<E> {
    let n = count(e, f)?;
    modify_a(
        e,
        f,
        #[inline(always)]
        |e, a| {
            let r = op(e, a, n);
            let _ = e.when(n, |e| {
                set(e, a, n, r);
                Ok(())
            });
            r
        },
    )?;
    Ok(())
}

/// Bit `i` of `v`, for `i` up to 63.
#[inline(always)]
fn bit<E: Emit>(e: &mut E, v: E::Val, i: E::Val) -> E::Val {
    let b = e.shr(v, i);
    e.andi(b, 1)
}

#[inline(always)]
fn top<E: Emit>(e: &mut E, s: Size, v: E::Val) -> E::Val {
    let b = e.shri(v, s.bits() - 1);
    e.andi(b, 1)
}

/// SHL, SAL.  CF = last bit out, OF = CF ^ sign, SZP written, AF undefined (0).
#[inline(always)]
pub fn shl<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    shifted(
        e,
        f,
        |e, a, n| {
            let r = e.shl(a, n);
            e.zx(s, r)
        },
        |e, a, n, r| {
            // The bit that was shifted out last: bit (bits - n), none if n > bits.
            let one = e.imm(1);
            let n1 = e.sub(n, one);
            let t = e.shl(a, n1);
            let c = top(e, s, t);
            let sign = top(e, s, r);
            let o = e.xor(c, sign);
            flags::result(e, s, r, c, o);
        },
    )
}

/// SHR.  CF = last bit out, OF = old sign, SZP written, AF undefined (0).
#[inline(always)]
pub fn shr<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    shifted(
        e,
        f,
        |e, a, n| e.shr(a, n),
        |e, a, n, r| {
            let one = e.imm(1);
            let n1 = e.sub(n, one);
            let c = bit(e, a, n1);
            // For a count of 1: the old sign, which is the xor of the result's two top bits.
            let up = e.shli(r, 1);
            let x = e.xor(up, r);
            let o = top(e, s, x);
            flags::result(e, s, r, c, o);
        },
    )
}

/// SAR.  CF = last bit out, OF = 0, SZP written, AF undefined (0).
#[inline(always)]
pub fn sar<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    shifted(
        e,
        f,
        |e, a, n| {
            let w = e.sx(s, a);
            let r = e.bin(Bin::Sar, w, n);
            e.zx(s, r)
        },
        |e, a, n, r| {
            let one = e.imm(1);
            let n1 = e.sub(n, one);
            let w = e.sx(s, a);
            let t = e.bin(Bin::Sar, w, n1);
            let c = e.andi(t, 1);
            let z = e.imm(0);
            flags::result(e, s, r, c, z);
        },
    )
}

/// `a` rotated left by `n` (already modulo the width).
#[inline(always)]
fn rotate<E: Emit>(e: &mut E, s: Size, a: E::Val, n: E::Val) -> E::Val {
    let w = e.imm(u64::from(s.bits()));
    let back = e.sub(w, n);
    let back = e.andi(back, u64::from(s.bits()) - 1);
    let (l, r) = (e.shl(a, n), e.shr(a, back));
    let v = e.or(l, r);
    e.zx(s, v)
}

/// ROL.  CF = low bit of the result, OF = CF ^ sign of the result; SZAP kept.
#[inline(always)]
pub fn rol<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    shifted(
        e,
        f,
        |e, a, n| {
            let n = e.andi(n, u64::from(s.bits()) - 1);
            rotate(e, s, a, n)
        },
        |e, _, _, r| {
            let c = e.andi(r, 1);
            let sign = top(e, s, r);
            let o = e.xor(c, sign);
            flags::set_cf_of(e, c, o);
        },
    )
}

/// ROR.  CF = sign of the result, OF = xor of its two top bits; SZAP kept.
#[inline(always)]
pub fn ror<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    shifted(
        e,
        f,
        |e, a, n| {
            let w = e.imm(u64::from(s.bits()));
            let n = e.sub(w, n);
            let n = e.andi(n, u64::from(s.bits()) - 1);
            rotate(e, s, a, n)
        },
        |e, _, _, r| {
            let c = top(e, s, r);
            let up = e.shli(r, 1);
            let next = top(e, s, up);
            let o = e.xor(c, next);
            flags::set_cf_of(e, c, o);
        },
    )
}

/// The count of RCL/RCR modulo width + 1.
#[inline(always)]
fn carry_count<E: Emit>(e: &mut E, s: Size, n: E::Val) -> E::Val {
    match s {
        Size::B4 | Size::B8 => n,
        _ => {
            let w = u64::from(s.bits()) + 1;
            let mut n = n;
            for k in [2, 1] {
                // n is below 32: at most 3 times 9.
                let lim = e.imm(k * w);
                let less = e.bin(Bin::LtU, n, lim);
                let cut = e.sub(n, lim);
                n = e.select(less, n, cut);
            }
            n
        }
    }
}

/// Rotates the `bits + 1` bit number CF:a left by `n` below `bits + 1`: the new a and CF.
#[inline(always)]
fn rotate_carry<E: Emit>(e: &mut E, s: Size, a: E::Val, n: E::Val) -> (E::Val, E::Val) {
    let c = flags::cf(e);
    let bits = u64::from(s.bits());
    let one = e.imm(1);
    let zero = e.imm(0);
    // r = a << n | c << (n - 1) | a >> (bits + 1 - n), where shifts of 64 give 0 and n = 0 is
    // the identity.
    let n1 = e.sub(n, one);
    let hi = e.shl(a, n);
    let mid = e.shl(c, n1);
    let w = e.imm(bits + 1);
    let back = e.sub(w, n);
    let lo = e.shr(a, back);
    let too_far = e.imm(64);
    let in_range = e.bin(Bin::LtU, back, too_far);
    let lo = e.select(in_range, lo, zero);
    let r = e.or(hi, mid);
    let r = e.or(r, lo);
    let r = e.zx(s, r);
    let r = e.select(n, r, a);
    // The new CF: bit (bits - n) of a.
    let w = e.imm(bits);
    let at = e.sub(w, n);
    let b = e.shr(a, at);
    let b = e.andi(b, 1);
    let c = e.select(n, b, c);
    (r, c)
}

/// RCL.  CF = bit rotated out, OF = CF ^ sign; SZAP kept.
#[inline(always)]
pub fn rcl<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    let n = count(e, f)?;
    modify_a(e, f, |e, a| {
        let m = carry_count(e, s, n);
        let (r, c) = rotate_carry(e, s, a, m);
        let _ = e.when(n, |e| {
            let sign = top(e, s, r);
            let o = e.xor(c, sign);
            flags::set_cf_of(e, c, o);
            Ok(())
        });
        r
    })?;
    Ok(())
}

/// RCR.  CF = bit rotated out, OF = xor of the result's two top bits; SZAP kept.
#[inline(always)]
pub fn rcr<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    let n = count(e, f)?;
    modify_a(e, f, |e, a| {
        // Right by m is left by width + 1 - m.
        let m = carry_count(e, s, n);
        let w = e.imm(u64::from(s.bits()) + 1);
        let left = e.sub(w, m);
        let zero = e.imm(0);
        let left = e.select(m, left, zero);
        let (r, c) = rotate_carry_wide(e, s, a, left);
        let _ = e.when(n, |e| {
            let up = e.shli(r, 1);
            let x = e.xor(up, r);
            let o = top(e, s, x);
            flags::set_cf_of(e, c, o);
            Ok(())
        });
        r
    })?;
    Ok(())
}

/// [`rotate_carry`] for counts up to `bits` (a left shift of the whole width gives 0).
#[inline(always)]
fn rotate_carry_wide<E: Emit>(e: &mut E, s: Size, a: E::Val, n: E::Val) -> (E::Val, E::Val) {
    if s != Size::B8 {
        return rotate_carry(e, s, a, n);
    }
    // n = 64 (RCR by 1): CF moves to the top, bit 0 to CF.
    let c = flags::cf(e);
    let (r, k) = rotate_carry(e, s, a, n);
    let w = e.imm(64);
    let full = e.bin(Bin::Eq, n, w);
    let half = e.shri(a, 1);
    let top = e.shli(c, 63);
    let v = e.or(half, top);
    let b = e.andi(a, 1);
    (e.select(full, v, r), e.select(full, b, k))
}

/// SHLD: dst = dst:src << n.  CF = last bit out, OF = sign changed, SZP written.
#[inline(always)]
pub fn shld<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    double_shift(e, f, true)
}

/// SHRD: dst = src:dst >> n.  CF = last bit out, OF = sign changed, SZP written.
#[inline(always)]
pub fn shrd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    double_shift(e, f, false)
}

/// The count is operand `c`: CL or an immediate. With 16-bit operands and counts above 16 the
/// result is undefined; we rotate through dst:src:dst as processors do.
#[inline(always)]
fn double_shift<E: Emit, F: Form>(e: &mut E, f: F, left: bool) -> R<E> {
    let s = f.size();
    let n = if f.c == crate::decode::insn::opnd::IMM { e.imm(f.imm & 0xff) } else { reg(e, f.c, Size::B1, false) };
    let n = e.andi(n, if s == Size::B8 { 63 } else { 31 });
    let b = reg(e, f.b, s, false);
    modify_a(e, f, |e, a| {
        let w = u64::from(s.bits());
        let one = e.imm(1);
        let n1 = e.sub(n, one);
        let (r, c) = if s == Size::B2 {
            // 48 bits: dst:src:dst, so that counts up to 31 find their bits.
            let (hi, mid) = (e.shli(a, 32), e.shli(b, 16));
            let wide = e.or(hi, mid);
            let wide = e.or(wide, a);
            if left {
                let t = e.shl(wide, n1);
                let c = e.shri(t, 47);
                let t = e.shl(wide, n);
                (e.shri(t, 32), c)
            } else {
                let t = e.shr(wide, n1);
                (e.shri(t, 1), t)
            }
        } else {
            let wide = e.imm(w);
            let back = e.sub(wide, n);
            let (x, y, c) = if left {
                let t = e.shl(a, n1);
                let c = e.shri(t, s.bits() - 1);
                (e.shl(a, n), e.shr(b, back), c)
            } else {
                (e.shr(a, n), e.shl(b, back), e.shr(a, n1))
            };
            (e.or(x, y), c)
        };
        let r = e.zx(s, r);
        let r = e.select(n, r, a);
        let _ = e.when(n, |e| {
            let c = e.andi(c, 1);
            let x = e.xor(a, r);
            let o = top(e, s, x);
            flags::result(e, s, r, c, o);
            Ok(())
        });
        r
    })?;
    Ok(())
}
