//! The host's floating-point unit as the reference, and operands that find trouble.
//! Only for x86-64 hosts.
#![allow(dead_code, reason = "each test binary uses its part")]

#[cfg(target_os = "linux")]
pub mod fault;
pub mod sse;
pub mod stub;
pub mod x87;

/// SplitMix64: small, seeded, good enough to pick operands.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Bits with long runs of zeros or ones, single bits, or nothing special.
    pub fn pattern(&mut self) -> u64 {
        let r = self.next();
        match r & 7 {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << (r >> 58),
            3 => u64::MAX << (r >> 58),
            4 => u64::MAX >> (r >> 58),
            5 => (1 << (r >> 58)) ^ (u64::MAX << (r >> 8 & 63)),
            _ => self.next(),
        }
    }

    /// An f32 or f64 encoding of `fraction` fraction bits and `exponent` exponent bits.
    pub fn ieee(&mut self, fraction: u32, exponent: u32) -> u64 {
        let special = (1u64 << exponent) - 1;
        let bias = special >> 1;
        let r = self.next();
        let e = match r & 15 {
            0 | 1 => 0,
            2 => special,
            3 => 1,
            4 => special - 1,
            5 => 1 + (r >> 8 & 3),
            6 => special - 1 - (r >> 8 & 3),
            7 => bias + (r >> 8 & 63),
            8 => bias - (r >> 8 & 31),
            9 | 10 => bias + (r >> 8 & 1),
            11 => (bias + fraction as u64 + (r >> 8 & 3)).min(special),
            12 => (bias / 2 + (r >> 8 & 31)) & special,
            13 => bias + bias / 2 - (r >> 8 & 31),
            _ => (r >> 8) & special,
        };
        let f = self.pattern() & ((1 << fraction) - 1);
        (r >> 63) << (fraction + exponent) | e << fraction | f
    }

    /// An operand pair; the second is often close to the first.
    pub fn ieee_pair(&mut self, fraction: u32, exponent: u32) -> (u64, u64) {
        let a = self.ieee(fraction, exponent);
        let r = self.next();
        let sign = 1u64 << (fraction + exponent);
        let all = sign | (sign - 1);
        let b = match r & 15 {
            0 => a,
            1 => a ^ sign,
            2 => a.wrapping_add(r >> 8 & 3) & all,
            3 => (a ^ sign).wrapping_sub(r >> 8 & 3) & all,
            4 => (a ^ (r & sign)).wrapping_add((r >> 8 & 63) << fraction) & all,
            _ => self.ieee(fraction, exponent),
        };
        (a, b)
    }

    /// An 80-bit operand (significand, sign and exponent), unsupported encodings included.
    pub fn f80(&mut self) -> (u64, u16) {
        let r = self.next();
        let e = match r & 31 {
            0..=2 => 0,
            3 | 4 => 0x7fff,
            5 => 1 + (r >> 8 & 63),
            6 => 0x7ffe - (r >> 8 & 63),
            7..=10 => 0x3fff + (r >> 8 & 127),
            11..=14 => 0x3fff - (r >> 8 & 127),
            15..=18 => 0x3fff + (r >> 8 & 3),
            19 => 0x2000 + (r >> 8 & 31) - 16,
            20 => 0x6000 + (r >> 8 & 31) - 16,
            21 => 0x3fff + 1023 + (r >> 8 & 3),
            22 => 0x3fff - 1023 - (r >> 8 & 63),
            23 => 0x3fff + 127 + (r >> 8 & 3),
            24 => 0x3fff - 127 - (r >> 8 & 31),
            _ => r >> 8 & 0x7fff,
        };
        let s = self.pattern();
        let integer = match r >> 60 & 15 {
            0 => 0,
            _ if e == 0 => s & 1 << 63,
            _ => 1 << 63,
        };
        (s & !(1 << 63) | integer, e as u16 | (r >> 40 & 0x8000) as u16)
    }

    /// An 80-bit pair; the second is often close to the first.
    pub fn f80_pair(&mut self) -> ((u64, u16), (u64, u16)) {
        let a = self.f80();
        let r = self.next();
        let b = match r & 15 {
            0 => a,
            1 => (a.0, a.1 ^ 0x8000),
            2 => (a.0.wrapping_add(r >> 8 & 3), a.1),
            3 => (a.0.wrapping_sub(r >> 8 & 3), a.1 ^ 0x8000),
            4 | 5 => (self.pattern() | 1 << 63, a.1 ^ (r >> 48 & 0x8000) as u16 ^ (r >> 8 & 127) as u16),
            _ => self.f80(),
        };
        (a, b)
    }
}

/// Whether the host is of the make whose undefined behaviour we follow (AMD, family 19h). Elsewhere
/// the tests keep to what both makers document: masked exceptions, no exact last bits of
/// transcendentals, no undefined condition codes.
pub fn is_reference_make() -> bool {
    use std::sync::OnceLock;
    static AMD: OnceLock<bool> = OnceLock::new();
    *AMD.get_or_init(|| std::arch::x86_64::__cpuid(0).ecx == u32::from_le_bytes(*b"cAMD"))
}

/// How many cases per operation: a quick share by default, `TABVISOR_FLOAT_CASES` for more.
pub fn cases(default: u64) -> u64 {
    std::env::var("TABVISOR_FLOAT_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// The seed: fixed, or `TABVISOR_FLOAT_SEED`.
pub fn seed() -> u64 {
    std::env::var("TABVISOR_FLOAT_SEED").ok().and_then(|v| v.parse().ok()).unwrap_or(1)
}
