//! CPUID models, by name. The vendor is Intel, so that kernels read the TSC's frequency from
//! leaves 15h and 16h instead of measuring it with 100,000 PIT reads.

use super::{cr4, paging::PHYS_BITS};

/// Frequency of the TSC, the LAPIC timer and the nominal core, in Hz: one tick per nanosecond.
pub const TSC_HZ: u32 = 1_000_000_000;

/// Which processor the guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Model {
    /// 32-bit, family 5: no CMOV, SSE, APIC clock or long mode.
    Pentium,
    /// 64-bit baseline: SSE2, CMOV, NX, SYSCALL.
    X64V1,
    /// x86-64-v2: CMPXCHG16B, LAHF, POPCNT, SSE3 to SSE4.2.
    #[default]
    X64V2,
}

/// What a model may lack and instructions may need (`decode/needs.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the SDM's names, table 3-8 and following")]
pub enum Feature {
    /// As old as the oldest model.
    Always,
    Cmov,
    /// NOPs with operands, prefetches, and what has been added among them since.
    Hints,
    Sep,
    Syscall,
    Fxsr,
    Clflush,
    Mmx,
    /// And SSE.
    Sse2,
    Sse3,
    Ssse3,
    Sse41,
    Sse42,
    Popcnt,
    Cx16,
    /// LAHF and SAHF in 64-bit mode.
    Lahf64,
    Rdtscp,
    Rdpid,
    Rdrand,
    Rdseed,
    Invpcid,
    Smap,
    Clflushopt,
    Clwb,
    Fsgsbase,
    Xsave,
    Pse36,
    /// Pages of 1 GiB.
    Page1Gb,
    Mtrr,
    Pat,
    LongMode,
    TscAdjust,
    TscDeadline,
    X2apic,
    /// IA32_SPEC_CTRL and IA32_PRED_CMD.
    SpecCtrl,
    ArchCapabilities,
}

/// Bits of leaf 1 EDX.
pub(crate) mod edx1 {
    pub const FPU: u32 = 1;
    pub const DE: u32 = 1 << 2;
    pub const PSE: u32 = 1 << 3;
    pub const TSC: u32 = 1 << 4;
    pub const MSR: u32 = 1 << 5;
    pub const PAE: u32 = 1 << 6;
    pub const MCE: u32 = 1 << 7;
    pub const CX8: u32 = 1 << 8;
    pub const APIC: u32 = 1 << 9;
    pub const SEP: u32 = 1 << 11;
    pub const MTRR: u32 = 1 << 12;
    pub const PGE: u32 = 1 << 13;
    pub const MCA: u32 = 1 << 14;
    pub const CMOV: u32 = 1 << 15;
    pub const PAT: u32 = 1 << 16;
    pub const PSE36: u32 = 1 << 17;
    pub const CLFSH: u32 = 1 << 19;
    pub const MMX: u32 = 1 << 23;
    pub const FXSR: u32 = 1 << 24;
    pub const SSE: u32 = 1 << 25;
    pub const SSE2: u32 = 1 << 26;
    pub const SS: u32 = 1 << 27;
}
/// Bits of leaf 1 ECX.
mod ecx1 {
    pub const SSE3: u32 = 1;
    pub const SSSE3: u32 = 1 << 9;
    pub const CX16: u32 = 1 << 13;
    pub const PCID: u32 = 1 << 17;
    pub const SSE41: u32 = 1 << 19;
    pub const SSE42: u32 = 1 << 20;
    pub const X2APIC: u32 = 1 << 21;
    pub const POPCNT: u32 = 1 << 23;
    pub const TSC_DEADLINE: u32 = 1 << 24;
    pub const XSAVE: u32 = 1 << 26;
    pub const RDRAND: u32 = 1 << 30;
    pub const HYPERVISOR: u32 = 1 << 31;
}

const BRAND: [&[u8; 48]; 3] = [
    b"Tabvisor Virtual CPU (pentium)\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    b"Tabvisor Virtual CPU (x86-64-v1)\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    b"Tabvisor Virtual CPU (x86-64-v2)\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
];

impl Model {
    /// The model of this name, as the page and the runner write it.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "pentium" => Self::Pentium,
            "x86-64-v1" => Self::X64V1,
            "x86-64-v2" => Self::X64V2,
            _ => return None,
        })
    }
    /// All names.
    pub const NAMES: [&'static str; 3] = ["pentium", "x86-64-v1", "x86-64-v2"];

    /// Family, model, stepping as leaf 1 EAX and as EDX after reset.
    pub fn signature(self) -> u32 {
        match self {
            Self::Pentium => 0x0000_0543,
            // Family 6, model 5Eh, stepping 3.
            Self::X64V1 | Self::X64V2 => 0x0005_06e3,
        }
    }

    fn is64(self) -> bool {
        self != Self::Pentium
    }

    /// Does CPUID announce the feature?
    pub fn has(self, f: Feature) -> bool {
        let edx = |bits: u32| self.features_edx() & bits == bits;
        let ecx = |bits: u32| self.features_ecx() & bits != 0;
        let leaf7 = |register: usize, bit: u32| self.leaf(7, 0)[register] >> bit & 1 != 0;
        let extended = |register: usize, bit: u32| self.leaf(0x8000_0001, 0)[register] >> bit & 1 != 0;
        match f {
            Feature::Always => true,
            Feature::Cmov => edx(edx1::CMOV),
            // Not announced; every processor since the Pentium Pro has them.
            Feature::Hints => self.is64(),
            Feature::Sep => edx(edx1::SEP),
            Feature::Syscall => extended(3, 11),
            Feature::Fxsr => edx(edx1::FXSR),
            Feature::Clflush => edx(edx1::CLFSH),
            Feature::Mmx => edx(edx1::MMX),
            Feature::Sse2 => edx(edx1::SSE | edx1::SSE2),
            Feature::Sse3 => ecx(ecx1::SSE3),
            Feature::Ssse3 => ecx(ecx1::SSSE3),
            Feature::Sse41 => ecx(ecx1::SSE41),
            Feature::Sse42 => ecx(ecx1::SSE42),
            Feature::Popcnt => ecx(ecx1::POPCNT),
            Feature::Cx16 => ecx(ecx1::CX16),
            Feature::Lahf64 => extended(2, 0),
            Feature::Rdtscp => extended(3, 27),
            Feature::Rdpid => leaf7(2, 22),
            Feature::Rdrand => ecx(ecx1::RDRAND),
            Feature::Rdseed => leaf7(1, 18),
            Feature::Invpcid => leaf7(1, 10),
            Feature::Smap => leaf7(1, 20),
            Feature::Clflushopt => leaf7(1, 23),
            Feature::Clwb => leaf7(1, 24),
            Feature::Fsgsbase => leaf7(1, 0),
            Feature::Xsave => ecx(ecx1::XSAVE),
            Feature::Pse36 => edx(edx1::PSE36),
            Feature::Page1Gb => extended(3, 26),
            Feature::Mtrr => edx(edx1::MTRR),
            Feature::Pat => edx(edx1::PAT),
            Feature::LongMode => extended(3, 29),
            Feature::TscAdjust => leaf7(1, 1),
            Feature::TscDeadline => ecx(ecx1::TSC_DEADLINE),
            Feature::X2apic => ecx(ecx1::X2APIC),
            Feature::SpecCtrl => leaf7(3, 26),
            Feature::ArchCapabilities => leaf7(3, 29),
        }
    }

    /// Which bits of CR4 may be set.
    pub fn cr4_mask(self) -> u64 {
        let base = cr4::TSD | cr4::DE | cr4::PSE | cr4::MCE | cr4::PCE;
        let v1 = base | cr4::PAE | cr4::PGE | cr4::OSFXSR | cr4::OSXMMEXCPT;
        match self {
            Self::Pentium => base,
            Self::X64V1 => v1,
            Self::X64V2 => v1 | cr4::UMIP | cr4::FSGSBASE | cr4::PCIDE | cr4::OSXSAVE | cr4::SMEP | cr4::SMAP,
        }
    }

    fn features_edx(self) -> u32 {
        use edx1::*;
        let old = FPU | DE | PSE | TSC | MSR | MCE | CX8 | APIC;
        if !self.is64() {
            return old;
        }
        old | PAE | SEP | MTRR | PGE | MCA | CMOV | PAT | PSE36 | CLFSH | MMX | FXSR | SSE | SSE2 | SS
    }

    fn features_ecx(self) -> u32 {
        use ecx1::*;
        match self {
            Self::Pentium | Self::X64V1 => HYPERVISOR,
            Self::X64V2 => {
                SSE3 | SSSE3
                    | CX16
                    | PCID
                    | SSE41
                    | SSE42
                    | X2APIC
                    | POPCNT
                    | TSC_DEADLINE
                    | XSAVE
                    | RDRAND
                    | HYPERVISOR
            }
        }
    }

    /// EAX, EBX, ECX, EDX of a leaf, without the bits that follow CR4 and XCR0.
    pub fn leaf(self, leaf: u32, sub: u32) -> [u32; 4] {
        let v2 = self == Self::X64V2;
        let max = if self.is64() { 0x16 } else { 1 };
        match leaf {
            0 => {
                let word = |b: &[u8; 4]| u32::from_le_bytes(*b);
                [max, word(b"Genu"), word(b"ntel"), word(b"ineI")]
            }
            // EBX: CLFLUSH line of 8 * 8 bytes, APIC id 0.
            1 => [self.signature(), 0x0001_0800, self.features_ecx(), self.features_edx()],
            // Descriptors: no information but "see leaf 4".
            2 if max >= 2 => [0x00ff_ff01, 0, 0, 0],
            4 if max >= 4 => cache(sub),
            // ARAT: the LAPIC timer runs in every C-state.
            6 if max >= 6 => [4, 0, 0, 0],
            7 if max >= 7 && sub == 0 && v2 => {
                // FSGSBASE, TSC_ADJUST, SMEP, ERMS, INVPCID, RDSEED, SMAP, CLFLUSHOPT, CLWB.
                let ebx = 1 | 1 << 1 | 1 << 7 | 1 << 9 | 1 << 10 | 1 << 18 | 1 << 20 | 1 << 23 | 1 << 24;
                // UMIP, RDPID; FSRM, SPEC_CTRL, ARCH_CAPABILITIES.
                [0, ebx, 1 << 2 | 1 << 22, 1 << 4 | 1 << 26 | 1 << 29]
            }
            0xd if max >= 0xd && v2 => match sub {
                0 => [3, 576, 576, 0],
                _ => [0; 4],
            },
            // TSC / crystal = 1 / 1, crystal in Hz.
            0x15 if max >= 0x15 => [1, 1, TSC_HZ, 0],
            // Base, maximum and bus frequency in MHz.
            0x16 if max >= 0x16 => [TSC_HZ / 1_000_000, TSC_HZ / 1_000_000, 100, 0],
            0x8000_0000 => [if self.is64() { 0x8000_0008 } else { 0x8000_0004 }, 0, 0, 0],
            0x8000_0001 if self.is64() => {
                // LAHF in 64-bit mode; SYSCALL, NX, 1 GiB pages, RDTSCP, long mode.
                let edx = 1 << 11 | 1 << 20 | 1 << 29 | if v2 { 1 << 26 | 1 << 27 } else { 0 };
                [0, 0, u32::from(v2), edx]
            }
            0x8000_0002..=0x8000_0004 => {
                let text = BRAND[self as usize];
                let at = (leaf - 0x8000_0002) as usize * 16;
                let w = |k: usize| {
                    let p = at + 4 * k;
                    u32::from_le_bytes([text[p], text[p + 1], text[p + 2], text[p + 3]])
                };
                [w(0), w(1), w(2), w(3)]
            }
            0x8000_0006 if self.is64() => [0, 0, 0x0100_8040, 0],
            // Invariant TSC.
            0x8000_0007 if self.is64() => [0, 0, 0, 1 << 8],
            0x8000_0008 if self.is64() => [PHYS_BITS | 48 << 8, 0, 0, 0],
            _ => [0; 4],
        }
    }
}

/// Leaf 4: 32 KiB of L1 data and code, 256 KiB of L2, 64-byte lines, not shared.
fn cache(sub: u32) -> [u32; 4] {
    let level =
        |kind: u32, level: u32, ways: u32, sets: u32| [kind | level << 5 | 1 << 8, 63 | (ways - 1) << 22, sets - 1, 0];
    match sub {
        0 => level(1, 1, 8, 64),
        1 => level(2, 1, 8, 64),
        2 => level(3, 2, 4, 1024),
        _ => [0; 4],
    }
}
