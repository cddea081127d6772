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

/// Instruction bodies: each loads `image`, runs with RSI at `memory`, and stores `image`.
/// The value of RFLAGS after the instruction is returned for FCOMI and friends; it enters as
/// `flags`.
macro_rules! bodies {
    ($($name:ident $ins:literal;)*) => {
        $(fn $name(image: &mut Image, memory: &mut [u8; 128], flags: u64) -> u64 {
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
        })*
        /// All bodies by their text.
        pub const BODIES: &[(&str, Body)] = &[$(($ins, $name as Body)),*];
    };
}
pub type Body = fn(&mut Image, &mut [u8; 128], u64) -> u64;

pub fn body(text: &str) -> Body {
    BODIES.iter().find(|b| b.0 == text).unwrap_or_else(|| panic!("no body for {text}")).1
}

bodies! {
    fadd "fadd st, st(1)"; fsub "fsub st, st(1)"; fsubr "fsubr st, st(1)"; fmul "fmul st, st(1)";
    fdiv "fdiv st, st(1)"; fdivr "fdivr st, st(1)"; fsqrt "fsqrt"; fprem "fprem"; fprem1 "fprem1";
    frndint "frndint"; fscale "fscale"; fxtract "fxtract"; fcom "fcom st(1)"; fucom "fucom st(1)"; ftst "ftst";
    fst32 "fst dword ptr [rsi]"; fst64 "fst qword ptr [rsi]"; fist16 "fist word ptr [rsi]"; fist32 "fist dword ptr [rsi]";
    fistp64 "fistp qword ptr [rsi]"; fisttp16 "fisttp word ptr [rsi]"; fisttp32 "fisttp dword ptr [rsi]";
    fisttp64 "fisttp qword ptr [rsi]"; fbstp "fbstp tbyte ptr [rsi]"; fbld "fbld tbyte ptr [rsi]";
    fadd32 "fadd dword ptr [rsi]"; fmul64 "fmul qword ptr [rsi]";
    f2xm1 "f2xm1"; fyl2x "fyl2x"; fyl2xp1 "fyl2xp1"; fpatan "fpatan"; fptan "fptan"; fsin "fsin"; fcos "fcos";
    fsincos "fsincos"; fldpi "fldpi"; fldl2t "fldl2t"; fldl2e "fldl2e"; fldlg2 "fldlg2"; fldln2 "fldln2";
}
