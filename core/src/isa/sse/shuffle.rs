//! Instructions that put lanes elsewhere: unpacks, packs, shuffles, blends, extensions (SDM 2).
//! Flags: none.

use super::*;

macro_rules! forms {
    ($how:ident $kind:ident: $($name:ident $op:ident;)*) => { $(
        #[doc = concat!(stringify!($name), ": see [`", stringify!($kind), "::", stringify!($op), "`].")]
        pub fn $name<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
            $how(e, f, $kind::$op)
        }
    )* };
}
forms! { two_joined VecOp:
    packsswb NarrowS16;
    packuswb NarrowU16;
    packssdw NarrowS32;
    packusdw NarrowU32;
}
forms! { unpack_low VecOp:
    punpcklbw InterleaveLow8;
    punpcklwd InterleaveLow16;
    punpckldq InterleaveLow32;
}
forms! { two VecOp:
    unpcklps InterleaveLow32;
    unpckhps InterleaveHigh32;
    punpcklqdq InterleaveLow64;
    punpckhqdq InterleaveHigh64;
    movsldup DuplicateEven32;
    movshdup DuplicateOdd32;
}
forms! { two_imm VecImm:
    pshufd Shuffle32;
    pshuflw ShuffleLow16;
    pshufhw ShuffleHigh16;
    shufps Shuffle32Two;
    shufpd Shuffle64Two;
    pblendw Blend16;
    blendps Blend32;
    blendpd Blend64;
}

/// Low halves interleaved; the MMX form reads only four bytes of memory.
#[inline(always)]
fn unpack_low<E: Emit, F: Form>(e: &mut E, f: F, op: VecOp) -> R<E> {
    if is_mm(f.a) { unpack_mm(e, &f, op, Size::B4, 0) } else { two(e, f, op) }
}
/// High halves interleaved. Of an MMX register that is the upper half of what interleaving the
/// low 64 bits gives.
#[inline(always)]
fn unpack_high<E: Emit, F: Form>(e: &mut E, f: F, xmm: VecOp, mm: VecOp) -> R<E> {
    if is_mm(f.a) { unpack_mm(e, &f, mm, Size::B8, 1) } else { two(e, f, xmm) }
}
#[inline(never)]
fn unpack_mm<E: Emit>(e: &mut E, i: &Insn, op: VecOp, size: Size, half: u8) -> R<E> {
    let (a, b) = operands_mm(e, i, size)?;
    let (a, b) = (widen(e, a), widen(e, b));
    let r = e.vec(op, a, b);
    commit_mm(e, i, r, half);
    Ok(())
}
/// PUNPCKHBW.
pub fn punpckhbw<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    unpack_high(e, f, VecOp::InterleaveHigh8, VecOp::InterleaveLow8)
}
/// PUNPCKHWD.
pub fn punpckhwd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    unpack_high(e, f, VecOp::InterleaveHigh16, VecOp::InterleaveLow16)
}
/// PUNPCKHDQ.
pub fn punpckhdq<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    unpack_high(e, f, VecOp::InterleaveHigh32, VecOp::InterleaveLow32)
}

/// MOVDDUP: the low half twice.
pub fn movddup<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    e.simd(Unit::Sse)?;
    let v = low(e, &f, f.b, Size::B8)?;
    let v = e.vpair(v, v);
    e.vset(f.a & 15, v);
    Ok(())
}

/// PSHUFB: bytes of dst as src names them.
pub fn pshufb<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    if !is_mm(f.a) {
        return two(e, f, VecOp::Permute8);
    }
    // Eight bytes: bit 3 of an index is ignored.
    let (a, b) = operands_mm(e, &f, Size::B8)?;
    let b = e.andi(b, 0x8787_8787_8787_8787);
    let (a, b) = (widen(e, a), widen(e, b));
    let r = e.vec(VecOp::Permute8, a, b);
    commit_mm(e, &f, r, 0);
    Ok(())
}

/// PSHUFW.
pub fn pshufw<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let (_, b) = operands_mm(e, &f, Size::B8)?;
    let b = widen(e, b);
    let r = e.vec_imm(VecImm::ShuffleLow16, b, b, f.imm as u8);
    commit_mm(e, &f, r, 0);
    Ok(())
}

/// PALIGNR: dst:src shifted right by bytes.
pub fn palignr<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    if !is_mm(f.a) {
        return two_imm(e, f, VecImm::Align8);
    }
    let (a, b) = operands_mm(e, &f, Size::B8)?;
    let v = e.vpair(b, a);
    let r = e.vec_imm(VecImm::ShrBytes, v, v, f.imm as u8);
    commit_mm(e, &f, r, 0);
    Ok(())
}

/// PSLLDQ.
pub fn pslldq<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    shift_bytes(e, f, VecImm::ShlBytes)
}
/// PSRLDQ.
pub fn psrldq<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    shift_bytes(e, f, VecImm::ShrBytes)
}
#[inline(always)]
fn shift_bytes<E: Emit, F: Form>(e: &mut E, f: F, op: VecImm) -> R<E> {
    e.simd(Unit::Sse)?;
    let v = e.vget(f.a & 15);
    let r = e.vec_imm(op, v, v, f.imm as u8);
    e.vset(f.a & 15, r);
    Ok(())
}

/// INSERTPS: a lane of src (or four bytes of memory) into dst, others cleared as the immediate says.
pub fn insertps<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    e.simd(Unit::Sse)?;
    let imm = f.imm as u8;
    let (b, imm) =
        if f.b == opnd::MEM { (low_vec(e, &f, f.b, Size::B4)?, imm & 0x3f) } else { (e.vget(f.b & 15), imm) };
    let a = e.vget(f.a & 15);
    let r = e.vec_imm(VecImm::Insert32, a, b, imm);
    e.vset(f.a & 15, r);
    Ok(())
}

/// Lanes of src where the sign of XMM0's lane is set, else of dst.
#[inline(always)]
fn blend<E: Emit, F: Form>(e: &mut E, f: F, negative: impl FnOnce(&mut E, E::Vec) -> E::Vec) -> R<E> {
    e.simd(Unit::Sse)?;
    let b = xmm_or_mem(e, &f, f.b)?;
    let a = e.vget(f.a & 15);
    let m = e.vget(0);
    let m = negative(e, m);
    let (keep, take) = (e.vec(VecOp::AndNot, m, a), e.vec(VecOp::And, m, b));
    let r = e.vec(VecOp::Or, keep, take);
    e.vset(f.a & 15, r);
    Ok(())
}
/// PBLENDVB.
pub fn pblendvb<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    blend(e, f, |e, m| {
        let zero = e.vimm([0; 2]);
        e.vec(VecOp::GtS8, zero, m)
    })
}
/// BLENDVPS.
pub fn blendvps<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    blend(e, f, |e, m| {
        let zero = e.vimm([0; 2]);
        e.vec(VecOp::GtS32, zero, m)
    })
}
/// BLENDVPD.
pub fn blendvpd<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    blend(e, f, |e, m| {
        let zero = e.vimm([0; 2]);
        e.vec(VecOp::GtS64, zero, m)
    })
}

/// Widened low lanes of src; memory has just those.
#[inline(always)]
fn extend<E: Emit, F: Form>(e: &mut E, f: F, op: VecOp, size: Size) -> R<E> {
    e.simd(Unit::Sse)?;
    let b = low_vec(e, &f, f.b, size)?;
    let r = e.vec(op, b, b);
    e.vset(f.a & 15, r);
    Ok(())
}
macro_rules! extensions {
    ($($name:ident $op:ident $size:ident;)*) => { $(
        #[doc = concat!(stringify!($name), ": see [`VecOp::", stringify!($op), "`].")]
        pub fn $name<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
            extend(e, f, VecOp::$op, Size::$size)
        }
    )* };
}
extensions! {
    pmovsxbw ExtendS8To16 B8;
    pmovsxbd ExtendS8To32 B4;
    pmovsxbq ExtendS8To64 B2;
    pmovsxwd ExtendS16To32 B8;
    pmovsxwq ExtendS16To64 B4;
    pmovsxdq ExtendS32To64 B8;
    pmovzxbw ExtendU8To16 B8;
    pmovzxbd ExtendU8To32 B4;
    pmovzxbq ExtendU8To64 B2;
    pmovzxwd ExtendU16To32 B8;
    pmovzxwq ExtendU16To64 B4;
    pmovzxdq ExtendU32To64 B8;
}
