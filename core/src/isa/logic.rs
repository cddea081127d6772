//! AND, OR, XOR, TEST, NOT.

use super::operand::*;
use crate::emit::{Bin, Emit};
use crate::flags::FlagOp;

type R<E> = Result<(), <E as Emit>::Stop>;

#[inline(always)]
fn logic<E: Emit, F: Form>(e: &mut E, f: F, op: Bin) -> R<E> {
    let s = f.size();
    let b = read_b(e, f)?;
    modify_a(
        e,
        f,
        #[inline(always)]
        |e, a| {
            let r = e.bin(op, a, b);
            e.flags(FlagOp::Logic, s, a, b, r);
            r
        },
    )?;
    Ok(())
}

/// AND.  OF = CF = 0, SZP written, AF undefined (0).
#[inline(always)]
pub fn and<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    logic(e, f, Bin::And)
}

/// OR.  OF = CF = 0, SZP written, AF undefined (0).
#[inline(always)]
pub fn or<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    logic(e, f, Bin::Or)
}

/// XOR.  OF = CF = 0, SZP written, AF undefined (0).
#[inline(always)]
pub fn xor<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    logic(e, f, Bin::Xor)
}

/// TEST: flags of dst & src.  OF = CF = 0, SZP written, AF undefined (0).
#[inline(always)]
pub fn test<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let a = read_a(e, f)?;
    let b = read_b(e, f)?;
    let r = e.and(a, b);
    e.flags(FlagOp::Logic, f.size(), a, b, r);
    Ok(())
}

/// NOT.  Flags: none.
#[inline(always)]
pub fn not<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    modify_a(
        e,
        f,
        #[inline(always)]
        |e, a| {
            let r = e.not(a);
            e.zx(s, r)
        },
    )?;
    Ok(())
}
