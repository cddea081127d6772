//! Compares two outcomes of a test under a mask and names the fields that differ.

use super::masks::{Closeness, Mask};
use super::state::*;
use super::values;
use std::fmt;
use std::sync::OnceLock;

/// Names of the general registers in encoding order.
pub const GPR: [&str; 16] =
    ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
/// Names of the segment registers in encoding order.
pub const SEG: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];

/// One differing field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diff {
    /// Its name.
    pub field: String,
    /// What the truth says.
    pub want: u128,
    /// What the subject says.
    pub got: u128,
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:x}, should be {:x}", self.field, self.got, self.want)
    }
}

/// Null selectors are all the same: a kernel's IRET to the handler may make 1 to 3 zero on the way
/// (SDM 2A IRET, return to outer privilege level).
fn selector(sel: u16) -> u16 {
    if sel < 4 { 0 } else { sel }
}

/// All differences, in a fixed order.
pub fn compare(t: &Test, want: &Out, got: &Out, m: &Mask) -> Vec<Diff> {
    let mut d = Vec::new();
    if m.skip.is_some() || want == got {
        return d;
    }
    let mut check = |field: &dyn fmt::Display, want: u128, got: u128, ignore: u128| {
        if (want ^ got) & !ignore != 0 {
            d.push(Diff { field: field.to_string(), want, got });
        }
    };
    let access = |v: u16| matches!(v, 12 | 13 | 14 | 17);
    let same = m.any_fault && access(want.vector) && access(got.vector);
    if !same {
        check(&"vector", want.vector.into(), got.vector.into(), 0);
        check(&"err", want.err.into(), got.err.into(), m.err.into());
        check(&"cr2", want.cr2.into(), got.cr2.into(), m.cr2.into());
    }
    check(&"rip", want.rip.into(), got.rip.into(), 0);
    check(&"rflags", want.rflags.into(), got.rflags.into(), m.rflags.into());
    for (i, name) in GPR.iter().enumerate() {
        check(name, want.gpr[i].into(), got.gpr[i].into(), m.gpr[i].into());
    }
    for (i, name) in SEG.iter().enumerate() {
        check(name, selector(want.sel[i]).into(), selector(got.sel[i]).into(), 0);
    }
    check(&"fsbase", want.fs_base.into(), got.fs_base.into(), 0);
    check(&"gsbase", want.gs_base.into(), got.gs_base.into(), 0);
    let (a, b) = (&want.fx, &got.fx);
    check(&"fcw", a.u16(0).into(), b.u16(0).into(), 0);
    check(&"fsw", a.u16(2).into(), b.u16(2).into(), m.fsw.into());
    check(&"ftw", a.u16(4).into(), b.u16(4).into(), 0);
    if !m.pointers {
        check(&"fop", a.u16(6).into(), b.u16(6).into(), 0);
        check(&"fip", a.u64(8).into(), b.u64(8).into(), 0);
        check(&"fdp", a.u64(16).into(), b.u64(16).into(), 0);
    }
    check(&"mxcsr", a.mxcsr().into(), b.mxcsr().into(), 0);
    let wide = |f: &Fx, at: usize| u128::from(f.u64(at)) | u128::from(f.u64(at + 8)) << 64;
    for i in 0..8 {
        let (x, y) = (wide(a, Fx::st(i)), wide(b, Fx::st(i)));
        if m.closeness == Closeness::Ulp80 && ulp80(x, y) {
            continue;
        }
        check(&format_args!("st{i}"), x, y, 0);
    }
    for i in 0..16 {
        let (x, y) = (wide(a, Fx::xmm(i)), wide(b, Fx::xmm(i)));
        if m.closeness == Closeness::Approx32 && approx32(x, y) {
            continue;
        }
        check(&format_args!("xmm{i}"), x, y, 0);
    }
    memory(t, want, got, m, &mut d);
    d
}

/// The data windows, writable and read-only, of each fill.
fn fills() -> &'static [Vec<u8>] {
    static FILLS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    FILLS.get_or_init(|| (0..super::state::FILLS).map(|k| [values::data_fill(k), values::ro_fill()].concat()).collect())
}

/// The data windows before the test.
fn windows(t: &Test) -> Vec<u8> {
    let mut w = fills()[t.fill as usize].clone();
    t.apply_patches(&mut w);
    w
}

/// The word at offset `at` of the data window before the test.
fn before(t: &Test, at: u16) -> u64 {
    let at = at as usize;
    u64::from_le_bytes(windows(t)[at..at + 8].try_into().expect("eight bytes"))
}

/// The byte at a linear address before the test, if it lies in the data windows.
pub fn byte_before(t: &Test, at: u64) -> Option<u8> {
    windows(t).get(usize::try_from(at.wrapping_sub(DATA_BASE)).ok()?).copied()
}

/// Compares the changed words, each side's missing ones counting as unchanged.
fn memory(t: &Test, want: &Out, got: &Out, m: &Mask, d: &mut Vec<Diff>) {
    if want.deltas == got.deltas && want.delta_hash == got.delta_hash {
        return;
    }
    if want.deltas as usize > DELTAS || got.deltas as usize > DELTAS {
        d.push(Diff { field: "mem".into(), want: want.delta_hash.into(), got: got.delta_hash.into() });
        return;
    }
    let ignored = |at: u16| {
        let mut bits = 0u64;
        for (first, len) in m.memory {
            for byte in 0..8 {
                if (first..first.saturating_add(len)).contains(&(at + byte)) {
                    bits |= 0xff << (8 * byte);
                }
            }
        }
        bits
    };
    let find = |o: &Out, at: u16| o.deltas().find(|x| x.0 == at).map(|x| x.1);
    let mut all: Vec<u16> = want.deltas().chain(got.deltas()).map(|x| x.0).collect();
    all.sort_unstable();
    all.dedup();
    for at in all {
        let (a, b) = (find(want, at), find(got, at));
        let ignore = ignored(at);
        let (a, b) = (a.unwrap_or_else(|| before(t, at)), b.unwrap_or_else(|| before(t, at)));
        if (a ^ b) & !ignore != 0 {
            d.push(Diff { field: format!("mem[{at:04x}]"), want: a.into(), got: b.into() });
        }
    }
}

/// Are two 80-bit numbers at most one unit in the last place apart?
fn ulp80(a: u128, b: u128) -> bool {
    const M: u128 = u64::MAX as u128;
    let key = |x: u128| {
        let magnitude = ((x >> 64 & 0x7fff) as i128) << 64 | (x & M & !(1 << 63)) as i128;
        // Without the integer bit neighbours across a binade are 2^63 + 1 apart, so leave it out of the key.
        let magnitude = (magnitude >> 64 << 63) + (magnitude & ((1 << 63) - 1));
        if x >> 79 & 1 != 0 { -magnitude } else { magnitude }
    };
    (key(a) - key(b)).abs() <= 1
}

/// Are the four single-precision lanes equal or near enough for RCPPS and RSQRTPS?
fn approx32(a: u128, b: u128) -> bool {
    (0..4).all(|i| {
        let (x, y) = ((a >> (32 * i)) as u32, (b >> (32 * i)) as u32);
        let (f, g) = (f64::from(f32::from_bits(x)), f64::from(f32::from_bits(y)));
        // Tiny results may be flushed to zero or not, up to a bound above the smallest normal number.
        let tiny = |x: f64| x.abs() < f64::from(f32::MIN_POSITIVE) * (1.0 + 1.0 / 1024.0);
        x == y
            || tiny(f) && tiny(g) && (x ^ y) >> 31 == 0
            || f.is_finite() && g.is_finite() && (f - g).abs() <= f.abs() * 3.0 / 4096.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::encoding::decode;
    use crate::oracle::masks::{AF, CF, OF, mask};

    /// The flags left out for `code` with CL = `count`.
    fn undefined(code: &[u8], count: u64) -> u64 {
        let mut t = Test::background(Mode::Long64, 1);
        t.gpr[1] = count;
        t.code[..code.len()].copy_from_slice(code);
        t.len = code.len() as u8;
        let mut o = Out::unchanged(&t);
        (o.vector, o.rip) = (3, t.rip() + code.len() as u64 + 1);
        mask(&t, &decode(&t), &o, Vendor::Intel).rflags
    }

    #[test]
    fn flags_of_shifts_depend_on_the_count() {
        for (code, size) in [(&[0xd2u8, 0xe0][..], 8), (&[0xd3, 0xe0], 32), (&[0x48, 0xd3, 0xe0], 64)] {
            assert_eq!(undefined(code, 0), 0);
            assert_eq!(undefined(code, if size == 64 { 64 } else { 32 }), 0, "masked to zero");
            assert_eq!(undefined(code, 1), AF);
            assert_eq!(undefined(code, 2), AF | OF);
        }
        assert_eq!(undefined(&[0xd2, 0xe0], 8), AF | OF | CF, "shl al, 8");
        assert_eq!(undefined(&[0xd2, 0xf8], 8), AF | OF, "sar al, 8");
        assert_eq!(undefined(&[0xd3, 0xc0], 5), OF, "rol eax, 5");
        assert_eq!(undefined(&[0x01, 0xc8], 5), 0, "add");
    }

    #[test]
    fn every_field_is_compared() {
        let t = Test::background(Mode::Long64, 7);
        let a = Out::unchanged(&t);
        let none = Mask::default();
        assert!(compare(&t, &a, &a, &none).is_empty());
        let changes: [fn(&mut Out); 12] = [
            |o| o.gpr[15] ^= 1 << 63,
            |o| o.rflags ^= 1,
            |o| o.rip ^= 1,
            |o| o.cr2 ^= 1,
            |o| o.err ^= 1,
            |o| o.vector ^= 1,
            |o| o.sel[GS] ^= 0x10,
            |o| o.gs_base ^= 1,
            |o| o.fx.0[Fx::xmm(15) + 15] ^= 0x80,
            |o| o.fx.0[Fx::st(7) + 9] ^= 0x80,
            |o| o.fx.0[24] ^= 1,
            |o| o.push_delta(8, 0x1234),
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut b = a;
            change(&mut b);
            assert_eq!(compare(&t, &a, &b, &none).len(), 1, "change {i}");
        }
    }

    #[test]
    fn one_ulp_is_near_and_two_are_not() {
        let x = |se: u128, m: u128| se << 64 | m;
        assert!(ulp80(x(0x3fff, 1 << 63), x(0x3fff, 1 << 63 | 1)));
        assert!(ulp80(x(0x3ffe, u64::MAX.into()), x(0x3fff, 1 << 63)), "across a power of two");
        assert!(!ulp80(x(0x3fff, 1 << 63), x(0x3fff, 1 << 63 | 2)));
        assert!(!ulp80(x(0x3fff, 1 << 63), x(0xbfff, 1 << 63)), "the sign");
        let f = |v: f32| u128::from(v.to_bits());
        assert!(approx32(f(1.0), f(1.0005)));
        assert!(!approx32(f(1.0), f(1.001)));
    }
}
