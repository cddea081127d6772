//! Which instruction bytes are tried: every legacy encoding of x86-64-v2 with every kind of prefix, valid and
//! (a few) invalid ones. What the host cannot show, or shows differently by configuration, is left out here.

use super::rng::Rng;
use super::state::{Mode, Test};
use iced_x86::{Code, CpuidFeature, Decoder, DecoderOptions, Instruction, Mnemonic};

const OPTIONS: u32 = DecoderOptions::NONE;

/// Decodes the first instruction of `bytes`.
pub fn decode_bytes(bytes: &[u8], mode: Mode, rip: u64) -> Instruction {
    Decoder::with_ip(mode.bits(), bytes, rip, OPTIONS).decode()
}

/// Decodes the first instruction of a test.
pub fn decode(t: &Test) -> Instruction {
    decode_bytes(t.bytes(), t.mode, t.rip())
}

/// The prefixes and opcode of an instruction, as far as they decide what it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    /// Opcode map: 0 one-byte, 1 0F, 2 0F38, 3 0F3A.
    pub map: u8,
    /// The opcode byte in its map.
    pub opcode: u8,
    /// Offset of the byte behind the opcode: ModRM, if there is one.
    pub modrm: usize,
    /// 66h is among the prefixes.
    pub p66: bool,
    /// 67h is among the prefixes.
    pub p67: bool,
    /// F0h is among the prefixes.
    pub lock: bool,
    /// The last of F2h and F3h, or 0.
    pub rep: u8,
    /// The REX byte in effect, or 0.
    pub rex: u8,
}

/// Reads prefixes and opcode (SDM 2A 2.1, 2.2.1).
pub fn shape(bytes: &[u8], mode: Mode) -> Shape {
    let mut s = Shape::default();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let mut i = 0;
    while i < 15 {
        match at(i) {
            0x66 => s.p66 = true,
            0x67 => s.p67 = true,
            0xf0 => s.lock = true,
            b @ (0xf2 | 0xf3) => s.rep = b,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 => {}
            b @ 0x40..=0x4f if mode == Mode::Long64 => {
                s.rex = b;
                i += 1;
                continue;
            }
            _ => break,
        }
        s.rex = 0;
        i += 1;
    }
    if at(i) == 0x0f {
        (s.map, i) = match at(i + 1) {
            0x38 => (2, i + 2),
            0x3a => (3, i + 2),
            _ => (1, i + 1),
        };
    }
    s.opcode = at(i);
    s.modrm = i + 1;
    s
}

/// Opcodes of the 0F38 and 0F3A maps that x86-64-v2 defines.
const MAP38: &[u8] = &[
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x14, 0x15, 0x17, 0x1c, 0x1d, 0x1e,
    0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x28, 0x29, 0x2a, 0x2b, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x37, 0x38, 0x39,
    0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x41, 0xf0, 0xf1,
];
const MAP3A: &[u8] = &[
    0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x14, 0x15, 0x16, 0x17, 0x20, 0x21, 0x22, 0x40, 0x41, 0x42, 0x60,
    0x61, 0x62, 0x63,
];

/// Opcodes of the 0F map worth drawing: the privileged and excluded ones are rare enough by themselves.
fn opcode_0f(r: &mut Rng) -> u8 {
    loop {
        let op = r.next() as u8;
        match op {
            0x0f | 0x38 | 0x3a => continue,
            // System instructions: all the same #GP, keep a few.
            0x00..=0x0e | 0x18..=0x27 | 0x30..=0x37 | 0x78..=0x7b | 0xff if r.chance(80) => continue,
            _ => return op,
        }
    }
}

/// An opcode of the one-byte map; those that only ever raise #GP or #DB in user mode are drawn less often.
fn opcode_1(r: &mut Rng) -> u8 {
    loop {
        let op = r.next() as u8;
        match op {
            0x6c..=0x6f | 0xcc | 0xcd | 0xe4..=0xe7 | 0xec..=0xef | 0xf4 | 0xfa | 0xfb if r.chance(80) => {}
            _ => return op,
        }
    }
}

/// Draws the bytes of an instruction: prefixes and opcode by plan, the rest random.
pub fn draw(r: &mut Rng, mode: Mode) -> [u8; 16] {
    let mut b = [0u8; 16];
    let mut n = 0;
    let mut put = |x: u8| {
        b[n] = x;
        n += 1;
    };
    let map = match r.below(100) {
        0..=37 => 0,
        38..=70 => 1,
        71..=83 => 4, // x87
        84..=93 => 2,
        _ => 3,
    };
    let op = match map {
        0 => opcode_1(r),
        1 => opcode_0f(r),
        2 => r.pick(MAP38),
        3 => r.pick(MAP3A),
        _ => 0xd8 | r.below(8) as u8,
    };
    if r.chance(4) {
        put(0xf0);
    }
    if r.chance(8) {
        put(r.pick(&[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x64, 0x65, 0x65]));
    }
    if r.chance(6) {
        put(0x67);
    }
    // The mandatory prefixes of the SSE maps, else the operand size and repeat prefixes.
    let string = map == 0 && matches!(op, 0x6c..=0x6f | 0xa4..=0xa7 | 0xaa..=0xaf);
    let (p66, p_rep) = match map {
        1 => (35, 30),
        2 | 3 => (80, if op >= 0xf0 { 85 } else { 2 }),
        4 => (3, 3),
        _ if string => (25, 55),
        _ => (20, 7),
    };
    if r.chance(p66) {
        put(0x66);
    }
    if r.chance(p_rep) {
        put(if map == 2 { 0xf2 } else { r.pick(&[0xf2, 0xf3]) });
    }
    if mode == Mode::Long64 {
        if r.chance(45) {
            put(0x40 | r.below(16) as u8);
            if r.chance(2) {
                put(0x66); // a REX in front of another prefix does not count
            }
        }
    }
    if matches!(map, 1..=3) {
        put(0x0f);
    }
    if matches!(map, 2 | 3) {
        put(if map == 2 { 0x38 } else { 0x3a });
    }
    put(op);
    for x in &mut b[n..] {
        *x = r.next() as u8;
    }
    if map == 1 && r.chance(1) {
        // One ModRM byte each of thousands: LFENCE, MFENCE and SFENCE in all spellings, the wide NOPs, SWAPGS.
        (b[n - 1], b[n]) = match r.below(100) {
            0..=69 => (0xae, 0xe8 + r.below(24) as u8),
            70..=94 => (0x1f, b[n] & 0xc7),
            _ => (0x01, 0xf8),
        };
    }
    // Register operands are a quarter of random ModRM bytes; that is too few for MMX, SSE and x87.
    if map != 0 && r.chance(20) || map == 0 && r.chance(10) {
        b[n] |= 0xc0;
    }
    b
}

/// Features of x86-64-v2 (System V ABI, AMD64 supplement, table 3.1) and what came before.
fn in_v2(f: CpuidFeature) -> bool {
    use CpuidFeature as F;
    matches!(
        f,
        F::INTEL8086
            | F::INTEL186
            | F::INTEL286
            | F::INTEL386
            | F::INTEL486
            | F::X64
            | F::CMOV
            | F::CMPXCHG16B
            | F::CX8
            | F::FPU
            | F::FPU287
            | F::FPU387
            | F::FXSR
            | F::MMX
            | F::MSR
            | F::MULTIBYTENOP
            | F::PAUSE
            | F::POPCNT
            | F::PREFETCHW
            | F::CLFSH
            | F::SSE
            | F::SSE2
            | F::SSE3
            | F::SSSE3
            | F::SSE4_1
            | F::SSE4_2
    )
}

/// Is this an instruction the host's user mode can show, the same on every machine?
pub fn wanted(ins: &Instruction, bytes: &[u8], mode: Mode) -> bool {
    if ins.is_invalid() {
        return wanted_invalid(bytes, mode);
    }
    if !ins.cpuid_features().iter().all(|&f| in_v2(f)) {
        return false;
    }
    !left_out(ins.mnemonic())
}

/// Instructions whose outcome depends on more than the CPU model.
fn left_out(m: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        m,
        // Emulated by kernels under UMIP.
        M::Sgdt | M::Sidt | M::Sldt | M::Str | M::Smsw
        // Depend on the kernel's descriptor tables and CPU number.
        | M::Lar | M::Lsl | M::Verr | M::Verw
        // System calls; SYSENTER would leave through the kernel's 32-bit entry.
        | M::Syscall | M::Sysenter
        // Kernels may allow it.
        | M::Rdpmc
        // Hypervisors intercept it, and some report the address of the instruction itself.
        | M::Int1
        // SMM: the hypervisor sees it first.
        | M::Rsm | M::Getsec
    )
}

/// Invalid encodings are tried where no CPU of this decade has put an extension.
fn wanted_invalid(bytes: &[u8], mode: Mode) -> bool {
    let s = shape(bytes, mode);
    if s.lock {
        // Invalid only because of LOCK?
        let ins = Decoder::with_ip(mode.bits(), bytes, 0, OPTIONS | DecoderOptions::NO_INVALID_CHECK).decode();
        return !ins.is_invalid() && wanted(&ins, bytes, mode);
    }
    match s.map {
        0 => !matches!(s.opcode, 0xc4 | 0xc5 | 0x62 | 0x8f),
        1 => matches!(
            s.opcode,
            0x04 | 0x0a | 0x0c | 0x10..=0x17 | 0x24..=0x27 | 0x28..=0x2f | 0x39 | 0x3b..=0x3f
                | 0x50..=0x77 | 0x7c..=0x7f | 0xba | 0xc2..=0xc6 | 0xd0..=0xfe
        ),
        _ => false,
    }
}

/// All encodings a long stream must show in `mode`.
pub fn all_wanted(mode: Mode) -> Vec<Code> {
    Code::values()
        .filter(|c| {
            let o = c.op_code();
            let there = match mode {
                Mode::Long64 => o.mode64() && o.intel_decoder64(),
                Mode::Prot32 => o.mode32() && o.intel_decoder32(),
                Mode::Prot16 => o.mode16() && o.intel_decoder16(),
            };
            there
                && o.is_instruction()
                && !o.fwait()
                && o.decoder_option() == 0
                && c.cpuid_features().iter().all(|&f| in_v2(f))
                && !left_out(c.mnemonic())
        })
        .collect()
}

/// The length to give a test whose bytes decode to `ins`: an invalid instruction keeps all 15 bytes.
pub fn length(ins: &Instruction) -> usize {
    if ins.code() == Code::INVALID { 15 } else { ins.len() }
}
