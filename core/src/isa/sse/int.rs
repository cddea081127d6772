//! Integer and logical instructions on vectors (SDM 2). Flags: none.

use super::*;

macro_rules! two {
    ($how:ident: $($name:ident $op:ident;)*) => { $(
        #[doc = concat!(stringify!($name), ": see [`VecOp::", stringify!($op), "`].")]
        pub fn $name<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
            $how(e, f, VecOp::$op)
        }
    )* };
}
two! { two:
    pand And;
    pandn AndNot;
    por Or;
    pxor Xor;
    paddb Add8;
    paddw Add16;
    paddd Add32;
    paddq Add64;
    psubb Sub8;
    psubw Sub16;
    psubd Sub32;
    psubq Sub64;
    paddsb AddSatS8;
    paddsw AddSatS16;
    paddusb AddSatU8;
    paddusw AddSatU16;
    psubsb SubSatS8;
    psubsw SubSatS16;
    psubusb SubSatU8;
    psubusw SubSatU16;
    pmullw Mul16;
    pmulld Mul32;
    pmulhw MulHiS16;
    pmulhuw MulHiU16;
    pmulhrsw MulHiRoundS16;
    pmuludq MulEvenU32;
    pmuldq MulEvenS32;
    pmaddwd DotS16;
    pmaddubsw DotU8S8;
    psadbw Sad8;
    pavgb AvgU8;
    pavgw AvgU16;
    pminub MinU8;
    pminsb MinS8;
    pminuw MinU16;
    pminsw MinS16;
    pminud MinU32;
    pminsd MinS32;
    pmaxub MaxU8;
    pmaxsb MaxS8;
    pmaxuw MaxU16;
    pmaxsw MaxS16;
    pmaxud MaxU32;
    pmaxsd MaxS32;
    pcmpeqb Eq8;
    pcmpeqw Eq16;
    pcmpeqd Eq32;
    pcmpeqq Eq64;
    pcmpgtb GtS8;
    pcmpgtw GtS16;
    pcmpgtd GtS32;
    pcmpgtq GtS64;
    psignb Sign8;
    psignw Sign16;
    psignd Sign32;
    pabsb Abs8;
    pabsw Abs16;
    pabsd Abs32;
    phminposuw MinPosU16;
}
two! { two_joined:
    phaddw PairAdd16;
    phaddd PairAdd32;
    phaddsw PairAddSatS16;
    phsubw PairSub16;
    phsubd PairSub32;
    phsubsw PairSubSatS16;
}

macro_rules! shifts {
    ($($name:ident $op:ident;)*) => { $(
        #[doc = concat!(stringify!($name), ": see [`VecShift::", stringify!($op), "`].")]
        pub fn $name<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
            shift(e, f, VecShift::$op)
        }
    )* };
}
shifts! {
    psllw Shl16;
    pslld Shl32;
    psllq Shl64;
    psrlw Shr16;
    psrld Shr32;
    psrlq Shr64;
    psraw Sar16;
    psrad Sar32;
}

/// MPSADBW.
pub fn mpsadbw<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    two_imm(e, f, VecImm::MultiSad8)
}

/// PTEST.  Flags: ZF = no bit of src is in dst, CF = no bit of src is outside dst, others 0.
pub fn ptest<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    e.simd(Unit::Sse)?;
    let b = xmm_or_mem(e, &f, f.b)?;
    let a = e.vget(f.a & 15);
    let none = |e: &mut E, op: VecOp| {
        let v = e.vec(op, a, b);
        let (lo, hi) = (e.vextract(v, Size::B8, 0), e.vextract(v, Size::B8, 1));
        let any = e.or(lo, hi);
        e.is_zero(any)
    };
    let (zf, cf) = (none(e, VecOp::And), none(e, VecOp::AndNot));
    let zf = e.shli(zf, 6);
    let image = e.or(zf, cf);
    crate::flags::write(e, image);
    Ok(())
}
