//! What a test is, independent of who runs it.
//!
//! A test is a complete user-mode CPU state, a few code bytes and two pages of data. It runs until the
//! first exception; the pages around the code are full of INT3, so an instruction that completes normally
//! ends in #BP. Whoever runs it (the host CPU, an interpreter, a JIT) maps the same windows and the same
//! descriptor tables. Plain data in `repr(C)`: tests live in memory shared with the sandbox process.

pub use super::outcome::*;
use super::rng::Rng;
use super::values;

/// The page the code lies in: readable and executable for the test, filled with INT3.
pub const CODE_BASE: u64 = 0x1000_0000;
/// Size of the code page. The pages before and after are not mapped.
pub const CODE_SIZE: u64 = 0x1000;
/// Two pages the test may read and write. The page before is not mapped.
pub const DATA_BASE: u64 = 0x2000_0000;
/// Size of the writable window.
pub const DATA_SIZE: u64 = 0x2000;
/// One read-only page right behind the writable ones. The page after is not mapped.
pub const RO_BASE: u64 = DATA_BASE + DATA_SIZE;
/// Size of the read-only window.
pub const RO_SIZE: u64 = 0x1000;
/// Number of background patterns of the data windows.
pub const FILLS: u8 = 16;
/// The byte the code page is filled with: INT3.
pub const FILLER: u8 = 0xcc;

/// A flat 64-bit code segment, as Linux has it.
pub const SEL_CODE64: u16 = 0x33;
/// A flat 32-bit code segment, as Linux has it.
pub const SEL_CODE32: u16 = 0x23;
/// A flat data segment, as Linux has it.
pub const SEL_DATA: u16 = 0x2b;
/// Expand-up data, base `DATA_BASE`, byte limit 17FFh.
pub const SEL_UP: u16 = 0x63;
/// Expand-down data, base `DATA_BASE`, valid from offset 800h up.
pub const SEL_DOWN: u16 = 0x6b;
/// Read-only data, base `DATA_BASE + 1000h`, byte limit FFFh.
pub const SEL_READ: u16 = 0x73;

/// 16-bit code in the local table, base `CODE_BASE`, limit FFFFh.
pub const SEL_CODE16: u16 = 0x07;
/// A 16-bit stack (or data) in the local table, base `DATA_BASE`, limit 1FFFh.
pub const SEL_DATA16: u16 = 0x0f;

/// The local descriptor table every runner provides.
pub const LDT: [u64; 2] =
    [segment(CODE_BASE as u32, 0xffff, 0xfb) & !(0x4 << 52), segment(DATA_BASE as u32, 0x1fff, 0xf3) & !(0x4 << 52)];

/// The descriptor table every runner provides; entry 1 to 15, the rest is beyond the limit.
/// Linux's table (arch/x86/include/asm/segment.h) with three thread-local segments of ours. The system
/// entries 8 to 11 and entry 15 differ per machine in base and limit only, which user code cannot see
/// but through LSL; the generator leaves that out.
pub const GDT: [u64; 16] = [
    0,
    0x00cf_9b00_0000_ffff, // 08 kernel 32-bit code
    0x00af_9b00_0000_ffff, // 10 kernel 64-bit code
    0x00cf_9300_0000_ffff, // 18 kernel data
    0x00cf_fb00_0000_ffff, // 23 user 32-bit code
    0x00cf_f300_0000_ffff, // 2b user data
    0x00af_fb00_0000_ffff, // 33 user 64-bit code
    0,
    0x0000_8b00_0000_206f, // 40 TSS, low half
    0,
    0, // 50 LDT: none
    0,
    segment(DATA_BASE as u32, 0x17ff, 0xf3),          // 63
    segment(DATA_BASE as u32, 0x07ff, 0xf7),          // 6b
    segment(DATA_BASE as u32 + 0x1000, 0x0fff, 0xf1), // 73
    0x0040_f500_0000_0000,                            // 7b CPU number
];

/// A byte-granular 32-bit segment descriptor (SDM 3A 3.4.5).
const fn segment(base: u32, limit: u32, access: u8) -> u64 {
    let (base, limit) = (base as u64, limit as u64);
    (limit & 0xffff)
        | (base & 0xff_ffff) << 16
        | (access as u64) << 40
        | (limit >> 16) << 48
        | 0x4 << 52
        | (base >> 24) << 56
}

/// The mode a test runs in, always at CPL 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mode {
    /// 64-bit mode, CS = 33h.
    Long64 = 0,
    /// 32-bit code in a flat segment (compatibility mode on a 64-bit host), CS = 23h.
    Prot32 = 1,
    /// 16-bit code in a segment of its own (compatibility mode on a 64-bit host), CS = 07h.
    Prot16 = 2,
}

impl Mode {
    /// Code size in bits, as the decoder wants it.
    pub fn bits(self) -> u32 {
        match self {
            Mode::Long64 => 64,
            Mode::Prot32 => 32,
            Mode::Prot16 => 16,
        }
    }

    /// The code segment selector of this mode.
    pub fn cs(self) -> u16 {
        match self {
            Mode::Long64 => SEL_CODE64,
            Mode::Prot32 => SEL_CODE32,
            Mode::Prot16 => SEL_CODE16,
        }
    }

    /// The base of this mode's code segment.
    pub fn code_base(self) -> u64 {
        if self == Mode::Prot16 { CODE_BASE } else { 0 }
    }

    /// The mask of an address or a full-width register.
    pub fn mask(self) -> u64 {
        match self {
            Mode::Long64 => u64::MAX,
            Mode::Prot32 | Mode::Prot16 => u64::from(u32::MAX),
        }
    }
}

/// Index of a segment register in `Test::sel` and `Out::sel`, in encoding order.
pub const ES: usize = 0;
/// See [`ES`].
pub const CS: usize = 1;
/// See [`ES`].
pub const SS: usize = 2;
/// See [`ES`].
pub const DS: usize = 3;
/// See [`ES`].
pub const FS: usize = 4;
/// See [`ES`].
pub const GS: usize = 5;

/// x87, MMX, MXCSR and XMM in the layout of a 64-bit FXSAVE (SDM 1, table 10-2). Bytes 416 to 511 are zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(16))]
pub struct Fx(pub [u8; 512]);

impl Fx {
    /// The state after FNINIT with zero registers and MXCSR = 1F80h.
    pub const INIT: Fx = {
        let mut b = [0; 512];
        b[0] = 0x7f;
        b[1] = 0x03;
        b[24] = 0x80;
        b[25] = 0x1f;
        Fx(b)
    };

    /// The 16-bit word at `at`.
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    /// Sets the 16-bit word at `at`.
    pub fn set_u16(&mut self, at: usize, v: u16) {
        self.0[at..at + 2].copy_from_slice(&v.to_le_bytes());
    }

    /// The 64-bit word at `at`.
    pub fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    /// Sets the 64-bit word at `at`.
    pub fn set_u64(&mut self, at: usize, v: u64) {
        self.0[at..at + 8].copy_from_slice(&v.to_le_bytes());
    }

    /// MXCSR.
    pub fn mxcsr(&self) -> u32 {
        u32::from_le_bytes(self.0[24..28].try_into().expect("four bytes"))
    }

    /// Sets MXCSR.
    pub fn set_mxcsr(&mut self, v: u32) {
        self.0[24..28].copy_from_slice(&v.to_le_bytes());
    }

    /// Offset of ST(i) and MM(i).
    pub fn st(i: usize) -> usize {
        32 + 16 * (i & 7)
    }

    /// Offset of XMM(i).
    pub fn xmm(i: usize) -> usize {
        160 + 16 * (i & 15)
    }

    /// Makes the image one that a CPU can hold: reserved bits fixed, the summary bits ES and B of FSW in step
    /// with flags and masks, 80-bit registers with zero padding.
    pub fn make_valid(&mut self, mode: Mode) {
        let fcw = self.u16(0) & 0x1f3f | 0x40;
        self.set_u16(0, fcw);
        let pending = self.u16(2) & !fcw & 0x3f != 0;
        self.set_u16(2, self.u16(2) & 0x7f7f | if pending { 0x8080 } else { 0 });
        self.0[5] = 0;
        self.set_u16(6, 0);
        self.0[8..24].fill(0);
        self.set_mxcsr(self.mxcsr() & 0xffff);
        self.0[28..32].fill(0);
        for i in 0..8 {
            self.0[Fx::st(i) + 10..Fx::st(i) + 16].fill(0);
        }
        let xmms = if mode == Mode::Long64 { 16 } else { 8 };
        self.0[Fx::xmm(0) + 16 * xmms..].fill(0);
    }
}

/// Bytes laid over the background of the data windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Patch {
    /// Offset from `DATA_BASE`.
    pub at: u16,
    /// How many of `bytes` count; 0 is an unused patch.
    pub len: u16,
    /// What is there instead of the background.
    pub bytes: [u8; 16],
}

/// One test: the whole state before the first instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Test {
    /// General registers in encoding order: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub gpr: [u64; 16],
    /// RFLAGS. NT, ID, IOPL, RF, VM, VIF and VIP are clear, IF is set.
    pub rflags: u64,
    /// FS base (64-bit mode).
    pub fs_base: u64,
    /// GS base (64-bit mode).
    pub gs_base: u64,
    /// Floating-point state.
    pub fx: Fx,
    /// What differs from the background in the data window.
    pub patch: [Patch; 4],
    /// ES, CS, SS, DS, FS, GS.
    pub sel: [u16; 6],
    /// The code.
    pub code: [u8; 32],
    /// Number of code bytes.
    pub len: u8,
    /// The mode.
    pub mode: Mode,
    /// Offset of the code in its page.
    pub entry: u16,
    /// Which background the data windows have (below `FILLS`).
    pub fill: u8,
    /// The seed this test's [`Test::background`] came from.
    pub seed: u64,
}

/// RFLAGS bits a test may set.
pub const RFLAGS_IN: u64 = 0x40dd5; // CF PF AF ZF SF TF DF OF AC
/// RFLAGS bits that are always set.
pub const RFLAGS_SET: u64 = 0x202;
/// Trap flag.
pub const TF: u64 = 0x100;

impl Test {
    /// The random state a seed stands for: registers, floating point, data, no code. Recorded corpora store
    /// tests as differences from this, so changing what it returns makes them unreadable.
    pub fn background(mode: Mode, seed: u64) -> Test {
        let mut r = Rng::new(seed);
        let mut t = Test {
            gpr: [0; 16],
            rflags: RFLAGS_SET | r.next() & 0x8d5,
            fs_base: 0,
            gs_base: 0,
            fx: Fx([0; 512]),
            patch: [Patch::default(); 4],
            sel: if mode == Mode::Prot16 {
                [SEL_UP, mode.cs(), SEL_DATA16, SEL_UP, 0, 0]
            } else {
                [SEL_DATA, mode.cs(), SEL_DATA, SEL_DATA, 0, 0]
            },
            code: [0; 32],
            len: 0,
            mode,
            entry: 0x800,
            fill: r.below(u64::from(FILLS)) as u8,
            seed,
        };
        for (i, g) in t.gpr.iter_mut().enumerate() {
            let v = values::integer(&mut r);
            if mode == Mode::Long64 || i < 8 {
                *g = v & mode.mask();
            }
        }
        values::fx(&mut r, &mut t.fx);
        t.fx.make_valid(mode);
        t
    }

    /// Forces every field into the range the runners rely on; generated tests are unchanged by it, tests read
    /// from a file may not be.
    pub fn make_valid(&mut self) {
        self.rflags = self.rflags & RFLAGS_IN | RFLAGS_SET;
        self.len = self.len.clamp(1, self.code.len() as u8);
        self.code[self.len as usize..].fill(0);
        self.entry = self.entry.min(CODE_SIZE as u16 - 1);
        self.fill %= FILLS;
        self.fx.make_valid(self.mode);
        for p in &mut self.patch {
            p.len = p.len.min(16);
            p.at = p.at.min((DATA_SIZE - 16) as u16);
        }
        for i in [ES, DS, FS, GS] {
            let usable = [0, SEL_DATA, SEL_UP, SEL_DOWN, SEL_READ];
            if !usable.contains(&self.sel[i]) || self.mode == Mode::Long64 {
                self.sel[i] = if i < FS { SEL_DATA } else { 0 };
            }
        }
        self.sel[CS] = self.mode.cs();
        if self.mode != Mode::Prot16 || self.sel[SS] != SEL_DATA16 {
            self.sel[SS] = SEL_DATA;
        }
        if self.mode == Mode::Long64 {
            // A base must be canonical and below the kernel's half.
            self.fs_base &= 0x7fff_ffff_ffff;
            self.gs_base &= 0x7fff_ffff_ffff;
        } else {
            (self.fs_base, self.gs_base) = (0, 0);
            for (i, g) in self.gpr.iter_mut().enumerate() {
                *g &= if i < 8 { 0xffff_ffff } else { 0 };
            }
        }
    }

    /// RIP at the first instruction: an offset in CS.
    pub fn rip(&self) -> u64 {
        CODE_BASE + u64::from(self.entry) - self.mode.code_base()
    }

    /// The base of segment register `n`.
    pub fn segment_base(&self, n: usize) -> u64 {
        match (self.mode, n) {
            (Mode::Long64, FS) => self.fs_base,
            (Mode::Long64, GS) => self.gs_base,
            (Mode::Long64, _) => 0,
            _ => match self.sel[n] {
                SEL_UP | SEL_DOWN | SEL_DATA16 => DATA_BASE,
                SEL_READ => DATA_BASE + 0x1000,
                SEL_CODE16 => CODE_BASE,
                _ => 0,
            },
        }
    }

    /// The linear address the stack pointer stands for.
    pub fn stack_top(&self) -> u64 {
        if self.sel[SS] == SEL_DATA16 { DATA_BASE + (self.gpr[4] & 0xffff) } else { self.gpr[4] & self.mode.mask() }
    }

    /// The code bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.code[..self.len as usize]
    }

    /// The code bytes that fit into the code page; an instruction may hang over its end.
    pub fn bytes_in_page(&self) -> &[u8] {
        let room = (CODE_SIZE as usize).saturating_sub(self.entry as usize);
        &self.code[..(self.len as usize).min(room)]
    }

    /// Lays the patches over `window`, which holds the background of the writable pages.
    pub fn apply_patches(&self, window: &mut [u8]) {
        for p in &self.patch {
            let (at, len) = (p.at as usize, p.len as usize);
            window[at..at + len].copy_from_slice(&p.bytes[..len]);
        }
    }

    /// Takes the patches off again.
    pub fn remove_patches(&self, window: &mut [u8], background: &[u8]) {
        for p in &self.patch {
            let (at, len) = (p.at as usize, p.len as usize);
            window[at..at + len].copy_from_slice(&background[at..at + len]);
        }
    }
}
