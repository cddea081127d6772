//! Scalar SSE instructions of the host under a chosen MXCSR, all exceptions masked.
use std::arch::asm;

const DEFAULT: u32 = 0x1f80;

macro_rules! binary {
    ($($name:ident $float:ty, $bits:ty, $ins:literal;)*) => { $(
        pub fn $name(mxcsr: u32, a: $bits, b: $bits) -> ($bits, u32) {
            let mut control = mxcsr;
            let mut x = <$float>::from_bits(a);
            // SAFETY: touches only the named registers and `control`; MXCSR is put back.
            unsafe {
                asm!("ldmxcsr [{m}]", concat!($ins, " {x}, {y}"), "stmxcsr [{m}]", "ldmxcsr [{d}]",
                    m = in(reg) &mut control, d = in(reg) &DEFAULT,
                    x = inout(xmm_reg) x, y = in(xmm_reg) <$float>::from_bits(b), options(nostack));
            }
            (x.to_bits(), control)
        }
    )* };
}
binary! {
    addss f32, u32, "addss"; subss f32, u32, "subss"; mulss f32, u32, "mulss"; divss f32, u32, "divss";
    minss f32, u32, "minss"; maxss f32, u32, "maxss"; sqrtss f32, u32, "sqrtss";
    addsd f64, u64, "addsd"; subsd f64, u64, "subsd"; mulsd f64, u64, "mulsd"; divsd f64, u64, "divsd";
    minsd f64, u64, "minsd"; maxsd f64, u64, "maxsd"; sqrtsd f64, u64, "sqrtsd";
    cmp0ss f32, u32, "cmpeqss"; cmp1ss f32, u32, "cmpltss"; cmp2ss f32, u32, "cmpless"; cmp3ss f32, u32, "cmpunordss";
    cmp4ss f32, u32, "cmpneqss"; cmp5ss f32, u32, "cmpnltss"; cmp6ss f32, u32, "cmpnless"; cmp7ss f32, u32, "cmpordss";
    cmp0sd f64, u64, "cmpeqsd"; cmp1sd f64, u64, "cmpltsd"; cmp2sd f64, u64, "cmplesd"; cmp3sd f64, u64, "cmpunordsd";
    cmp4sd f64, u64, "cmpneqsd"; cmp5sd f64, u64, "cmpnltsd"; cmp6sd f64, u64, "cmpnlesd"; cmp7sd f64, u64, "cmpordsd";
    cvtss2sd_raw f64, u64, "cvtss2sd"; cvtsd2ss_raw f64, u64, "cvtsd2ss";
}

macro_rules! rounds {
    ($($name:ident $float:ty, $bits:ty, $ins:literal, $imm:literal;)*) => { $(
        pub fn $name(mxcsr: u32, a: $bits) -> ($bits, u32) {
            let mut control = mxcsr;
            let mut x = <$float>::from_bits(a);
            // SAFETY: touches only the named registers and `control`; MXCSR is put back.
            unsafe {
                asm!("ldmxcsr [{m}]", concat!($ins, " {x}, {x}, ", $imm), "stmxcsr [{m}]", "ldmxcsr [{d}]",
                    m = in(reg) &mut control, d = in(reg) &DEFAULT, x = inout(xmm_reg) x, options(nostack));
            }
            (x.to_bits(), control)
        }
    )* };
}
rounds! {
    round0ss f32, u32, "roundss", "0"; round1ss f32, u32, "roundss", "1"; round2ss f32, u32, "roundss", "2";
    round3ss f32, u32, "roundss", "3"; round4ss f32, u32, "roundss", "4"; round8ss f32, u32, "roundss", "8";
    round12ss f32, u32, "roundss", "12";
    round0sd f64, u64, "roundsd", "0"; round1sd f64, u64, "roundsd", "1"; round2sd f64, u64, "roundsd", "2";
    round3sd f64, u64, "roundsd", "3"; round4sd f64, u64, "roundsd", "4"; round8sd f64, u64, "roundsd", "8";
    round12sd f64, u64, "roundsd", "12";
}

macro_rules! to_int {
    ($($name:ident $float:ty, $bits:ty, $ins:literal, $modifier:literal;)*) => { $(
        pub fn $name(mxcsr: u32, a: $bits) -> (i64, u32) {
            let mut control = mxcsr;
            let r: i64;
            // SAFETY: touches only the named registers and `control`; MXCSR is put back.
            unsafe {
                asm!("ldmxcsr [{m}]", concat!($ins, " {r", $modifier, "}, {x}"), "stmxcsr [{m}]", "ldmxcsr [{d}]",
                    m = in(reg) &mut control, d = in(reg) &DEFAULT, x = in(xmm_reg) <$float>::from_bits(a),
                    r = out(reg) r, options(nostack));
            }
            (r, control)
        }
    )* };
}
to_int! {
    cvtss2si32 f32, u32, "cvtss2si", ":e"; cvtss2si64 f32, u32, "cvtss2si", ":r";
    cvttss2si32 f32, u32, "cvttss2si", ":e"; cvttss2si64 f32, u32, "cvttss2si", ":r";
    cvtsd2si32 f64, u64, "cvtsd2si", ":e"; cvtsd2si64 f64, u64, "cvtsd2si", ":r";
    cvttsd2si32 f64, u64, "cvttsd2si", ":e"; cvttsd2si64 f64, u64, "cvttsd2si", ":r";
}

macro_rules! from_int {
    ($($name:ident $float:ty, $bits:ty, $ins:literal, $modifier:literal;)*) => { $(
        pub fn $name(mxcsr: u32, v: i64) -> ($bits, u32) {
            let mut control = mxcsr;
            let mut x: $float = 0.0;
            // SAFETY: touches only the named registers and `control`; MXCSR is put back.
            unsafe {
                asm!("ldmxcsr [{m}]", concat!($ins, " {x}, {v", $modifier, "}"), "stmxcsr [{m}]", "ldmxcsr [{d}]",
                    m = in(reg) &mut control, d = in(reg) &DEFAULT, x = inout(xmm_reg) x,
                    v = in(reg) v, options(nostack));
            }
            (x.to_bits(), control)
        }
    )* };
}
from_int! {
    cvtsi2ss32 f32, u32, "cvtsi2ss", ":e"; cvtsi2ss64 f32, u32, "cvtsi2ss", ":r";
    cvtsi2sd32 f64, u64, "cvtsi2sd", ":e"; cvtsi2sd64 f64, u64, "cvtsi2sd", ":r";
}

macro_rules! compares {
    ($($name:ident $float:ty, $bits:ty, $ins:literal;)*) => { $(
        /// ZF, PF, CF as bits 6, 2, 0.
        pub fn $name(mxcsr: u32, a: $bits, b: $bits) -> (u8, u32) {
            let mut control = mxcsr;
            let flags: u64;
            // SAFETY: touches only the named registers and `control`; MXCSR is put back.
            unsafe {
                asm!("ldmxcsr [{m}]", concat!($ins, " {x}, {y}"), "lahf", "stmxcsr [{m}]", "ldmxcsr [{d}]",
                    m = in(reg) &mut control, d = in(reg) &DEFAULT, x = in(xmm_reg) <$float>::from_bits(a),
                    y = in(xmm_reg) <$float>::from_bits(b), out("rax") flags, options(nostack));
            }
            ((flags >> 8) as u8 & 0x45, control)
        }
    )* };
}
compares! {
    comiss f32, u32, "comiss"; ucomiss f32, u32, "ucomiss"; comisd f64, u64, "comisd"; ucomisd f64, u64, "ucomisd";
}
