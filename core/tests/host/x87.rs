//! Single x87 instructions of the host between FXRSTOR and FXSAVE.
use std::arch::asm;

/// The legacy area of FXSAVE (SDM 1, table 10-2).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Image(pub [u8; 512]);

impl Default for Image {
    fn default() -> Self {
        let mut i = Image([0; 512]);
        i.0[..2].copy_from_slice(&0x37fu16.to_le_bytes());
        i.0[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        i
    }
}

impl Image {
    pub fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }
    pub fn set_word(&mut self, at: usize, v: u16) {
        self.0[at..at + 2].copy_from_slice(&v.to_le_bytes());
    }
    /// ST(i).
    pub fn st(&self, i: usize) -> (u64, u16) {
        let at = 32 + 16 * i;
        let mut sig = [0; 8];
        sig.copy_from_slice(&self.0[at..at + 8]);
        (u64::from_le_bytes(sig), self.word(at + 8))
    }
    pub fn set_st(&mut self, i: usize, v: (u64, u16)) {
        let at = 32 + 16 * i;
        self.0[at..at + 8].copy_from_slice(&v.0.to_le_bytes());
        self.set_word(at + 8, v.1);
    }
    /// A full stack: TOP 0, all tags valid, the given control word, no flags.
    pub fn full(cw: u16, st0: (u64, u16), st1: (u64, u16)) -> Image {
        let mut i = Image::default();
        i.set_word(0, cw);
        i.0[4] = 0xff;
        i.set_st(0, st0);
        i.set_st(1, st1);
        i
    }
}

/// An instruction between FXRSTOR of the image and FXSAVE back into it; RSI points to the memory.
/// RFLAGS goes in as the last argument and comes back.
pub type Body = fn(&mut Image, &mut [u8; 128], u64) -> u64;

macro_rules! bodies {
    ($($ins:literal)*) => {
        /// All bodies with their text.
        pub const BODIES: &[(&str, Body)] = &[$(($ins, |image, memory, flags| {
            let mut f = flags;
            // SAFETY: the image is 16-byte aligned and 512 bytes; the instruction reaches at most
            // 108 bytes at RSI; all vector and x87 registers are declared lost, and MXCSR in the
            // image is the default.
            unsafe {
                asm!("fxrstor64 [rdi]", "push rdx", "popfq", $ins, "pushfq", "pop rdx", "fxsave64 [rdi]", "fninit",
                    in("rdi") image.0.as_mut_ptr(), in("rsi") memory.as_mut_ptr(), inout("rdx") f,
                    clobber_abi("C"));
            }
            f
        })),*];
    };
}

/// The body with this text.
pub fn body(text: &str) -> Body {
    BODIES.iter().find(|b| b.0 == text).unwrap_or_else(|| panic!("no body for {text}")).1
}

bodies! {
    "fadd st, st(1)"
    "fadd st, st(0)"
    "fadd st, st(5)"
    "fadd st(2), st"
    "faddp st(3), st"
    "faddp st(1), st"
    "fadd dword ptr [rsi]"
    "fadd qword ptr [rsi]"
    "fiadd word ptr [rsi]"
    "fiadd dword ptr [rsi]"
    "fmul st, st(1)"
    "fmul st, st(0)"
    "fmul st, st(5)"
    "fmul st(2), st"
    "fmulp st(3), st"
    "fmulp st(1), st"
    "fmul dword ptr [rsi]"
    "fmul qword ptr [rsi]"
    "fimul word ptr [rsi]"
    "fimul dword ptr [rsi]"
    "fsub st, st(1)"
    "fsub st, st(0)"
    "fsub st, st(5)"
    "fsub st(2), st"
    "fsubp st(3), st"
    "fsubp st(1), st"
    "fsub dword ptr [rsi]"
    "fsub qword ptr [rsi]"
    "fisub word ptr [rsi]"
    "fisub dword ptr [rsi]"
    "fsubr st, st(1)"
    "fsubr st, st(0)"
    "fsubr st, st(5)"
    "fsubr st(2), st"
    "fsubrp st(3), st"
    "fsubrp st(1), st"
    "fsubr dword ptr [rsi]"
    "fsubr qword ptr [rsi]"
    "fisubr word ptr [rsi]"
    "fisubr dword ptr [rsi]"
    "fdiv st, st(1)"
    "fdiv st, st(0)"
    "fdiv st, st(5)"
    "fdiv st(2), st"
    "fdivp st(3), st"
    "fdivp st(1), st"
    "fdiv dword ptr [rsi]"
    "fdiv qword ptr [rsi]"
    "fidiv word ptr [rsi]"
    "fidiv dword ptr [rsi]"
    "fdivr st, st(1)"
    "fdivr st, st(0)"
    "fdivr st, st(5)"
    "fdivr st(2), st"
    "fdivrp st(3), st"
    "fdivrp st(1), st"
    "fdivr dword ptr [rsi]"
    "fdivr qword ptr [rsi]"
    "fidivr word ptr [rsi]"
    "fidivr dword ptr [rsi]"
    "fcom st(1)"
    "fcom st(6)"
    "fcom dword ptr [rsi]"
    "fcom qword ptr [rsi]"
    "ficom word ptr [rsi]"
    "ficom dword ptr [rsi]"
    "fcomp st(1)"
    "fcomp st(6)"
    "fcomp dword ptr [rsi]"
    "fcomp qword ptr [rsi]"
    "ficomp word ptr [rsi]"
    "ficomp dword ptr [rsi]"
    "fcompp"
    "fucom st(1)"
    "fucom st(4)"
    "fucomp st(2)"
    "fucompp"
    "ftst"
    "fxam"
    "fabs"
    "fchs"
    "fcomi st, st(1)"
    "fcomi st, st(3)"
    "fcomip st, st(1)"
    "fcomip st, st(3)"
    "fucomi st, st(1)"
    "fucomi st, st(3)"
    "fucomip st, st(1)"
    "fucomip st, st(3)"
    "fcmovb st, st(2)"
    "fcmove st, st(2)"
    "fcmovbe st, st(2)"
    "fcmovu st, st(2)"
    "fcmovnb st, st(2)"
    "fcmovne st, st(2)"
    "fcmovnbe st, st(2)"
    "fcmovnu st, st(2)"
    "fxch st(1)"
    "fxch st(7)"
    "fxch st(0)"
    "fincstp"
    "fdecstp"
    "ffree st(0)"
    "ffree st(5)"
    ".byte 0xdf, 0xc2"
    "fnop"
    "fld dword ptr [rsi]"
    "fld qword ptr [rsi]"
    "fld tbyte ptr [rsi]"
    "fld st(0)"
    "fld st(1)"
    "fld st(7)"
    "fild word ptr [rsi]"
    "fild dword ptr [rsi]"
    "fild qword ptr [rsi]"
    "fbld tbyte ptr [rsi]"
    "fst dword ptr [rsi]"
    "fst qword ptr [rsi]"
    "fstp dword ptr [rsi]"
    "fstp qword ptr [rsi]"
    "fstp tbyte ptr [rsi]"
    "fst st(2)"
    "fstp st(0)"
    "fstp st(3)"
    "fist word ptr [rsi]"
    "fist dword ptr [rsi]"
    "fistp word ptr [rsi]"
    "fistp dword ptr [rsi]"
    "fistp qword ptr [rsi]"
    "fisttp word ptr [rsi]"
    "fisttp dword ptr [rsi]"
    "fisttp qword ptr [rsi]"
    "fbstp tbyte ptr [rsi]"
    "fsqrt"
    "frndint"
    "fscale"
    "fxtract"
    "fprem"
    "fprem1"
    "f2xm1"
    "fyl2x"
    "fyl2xp1"
    "fpatan"
    "fptan"
    "fsin"
    "fcos"
    "fsincos"
    "fld1"
    "fldz"
    "fldpi"
    "fldl2t"
    "fldl2e"
    "fldlg2"
    "fldln2"
    "nop"
    "fninit"
    "fnclex"
    "fldcw word ptr [rsi]"
    "fnstcw word ptr [rsi]"
    "fnstsw word ptr [rsi]"
    "fnstenv [rsi]"
    "fldenv [rsi]"
    "fnsave [rsi]"
    "frstor [rsi]"
    ".byte 0x66; fnstenv [rsi]"
    ".byte 0x66; fldenv [rsi]"
    ".byte 0x66; fnsave [rsi]"
    ".byte 0x66; frstor [rsi]"
    "emms"
    "movq mm3, qword ptr [rsi]"
    "movq qword ptr [rsi], mm5"
    "paddb mm1, mm2"
}
