//! When SSE and MMX instructions fault, and with what: cases a host process cannot make.

#[path = "host/guest.rs"]
mod guest;

use guest::Guest;
use tabvisor_core::cpu::{cr0, cr4};

/// Everything an instruction can see or change.
#[derive(Clone)]
pub struct State {
    /// As FXSAVE64 writes it.
    pub fx: [u8; 512],
    /// General registers.
    pub gpr: [u64; 16],
    /// RFLAGS.
    pub rflags: u64,
    /// The exception, or 0xff.
    pub vector: u64,
}
/// Bytes of the data window; the page behind it is not mapped.
pub const WINDOW: usize = 4096;

const DONE: u64 = 0xff;
const UD: u64 = 6;
const NM: u64 = 7;
const GP: u64 = 13;
const PF: u64 = 14;
const MF: u64 = 16;
const XM: u64 = 19;

const PADDB_XMM: &[u8] = &[0x66, 0x0f, 0xfc, 0xc1];
const PADDB_MM: &[u8] = &[0x0f, 0xfc, 0xc1];
const MOVQ2DQ: &[u8] = &[0xf3, 0x0f, 0xd6, 0xc1];
const DIVSS: &[u8] = &[0xf3, 0x0f, 0x5e, 0xc1];
const CRC32: &[u8] = &[0xf2, 0x0f, 0x38, 0xf0, 0xc1];
const MOVAPS_RBX: &[u8] = &[0x0f, 0x28, 0x03];
const MOVUPS_RBX: &[u8] = &[0x0f, 0x10, 0x03];

fn state() -> State {
    let mut fx = [0; 512];
    fx[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
    fx[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
    State { fx, gpr: [0; 16], rflags: 2, vector: 0 }
}

fn vector(g: &mut Guest, bytes: &[u8], s: &State) -> u64 {
    g.run(bytes, s, &[0; WINDOW], None).0.vector
}

/// A guest with other control registers.
fn with(clear0: u64, set0: u64, clear4: u64) -> Guest {
    let mut g = Guest::new();
    let c = g.cpu();
    c.cr0 = c.cr0 & !clear0 | set0;
    c.cr4 &= !clear4;
    c.mode_changed();
    g
}

#[test]
fn a_unit_that_is_off_faults_in_the_order_of_the_manual() {
    let s = state();
    let table = [
        (0, 0, [DONE, DONE, DONE]),
        (0, cr4::OSFXSR, [UD, DONE, UD]),
        (cr0::TS, 0, [NM, NM, NM]),
        (cr0::TS, cr4::OSFXSR, [UD, NM, UD]),
        (cr0::EM, 0, [UD, UD, UD]),
        (cr0::EM | cr0::TS, 0, [UD, UD, UD]),
    ];
    for (set0, clear4, expected) in table {
        let mut g = with(0, set0, clear4);
        let got = [PADDB_XMM, PADDB_MM, MOVQ2DQ].map(|b| vector(&mut g, b, &s));
        assert_eq!(got, expected, "CR0 with {set0:x}, CR4 without {clear4:x}");
        assert_eq!(vector(&mut g, CRC32, &s), DONE, "CRC32 uses general registers only");
    }
}

#[test]
fn clts_switches_the_units_on_again() {
    let mut g = with(0, cr0::TS, 0);
    let s = state();
    assert_eq!(vector(&mut g, PADDB_XMM, &s), NM);
    assert_eq!(vector(&mut g, &[0x0f, 0x06], &s), DONE);
    assert_eq!(vector(&mut g, PADDB_XMM, &s), DONE);
}

#[test]
fn a_pending_x87_exception_is_reported_by_mmx_only() {
    let mut s = state();
    (s.fx[0], s.fx[2]) = (0x7e, 1);
    let mut g = Guest::new();
    let got = [PADDB_XMM, PADDB_MM, MOVQ2DQ].map(|b| vector(&mut g, b, &s));
    assert_eq!(got, [DONE, MF, MF]);
}

#[test]
fn an_unmasked_simd_exception_is_xm_or_ud_and_writes_nothing() {
    let mut s = state();
    s.fx[24..28].copy_from_slice(&0x1d80u32.to_le_bytes());
    // 1.0 / 0
    s.fx[160..164].copy_from_slice(&1f32.to_bits().to_le_bytes());
    for (clear4, expected) in [(0, XM), (cr4::OSXMMEXCPT, UD)] {
        let mut g = with(0, 0, clear4);
        let (after, _) = g.run(DIVSS, &s, &[0; WINDOW], None);
        assert_eq!(after.vector, expected);
        assert_eq!(after.fx[160..176], s.fx[160..176]);
        assert_eq!(after.fx[24], 0x84, "ZE is flagged all the same");
    }
}

#[test]
fn alignment_comes_before_canonical_and_canonical_before_the_page() {
    let mut g = Guest::new();
    let mut at = |address: u64, bytes: &[u8]| {
        let mut s = state();
        s.gpr[3] = address;
        vector(&mut g, bytes, &s)
    };
    let hole = 0x11000;
    assert_eq!(at(hole, MOVAPS_RBX), PF);
    assert_eq!(at(hole + 1, MOVAPS_RBX), GP);
    assert_eq!(at(hole + 1, MOVUPS_RBX), PF);
    assert_eq!(at(hole - 1, MOVUPS_RBX), PF);
    assert_eq!(at(0x8000_0000_0000, MOVUPS_RBX), GP);
    assert_eq!(at(0x7fff_ffff_fff8, MOVUPS_RBX), GP);
    // [rbp]: the stack's fault, unless it is not aligned (so the host).
    let mut s = state();
    for (address, expected) in [(0x8000_0000_0000, 12), (0x8000_0000_0001, GP)] {
        s.gpr[5] = address;
        assert_eq!(vector(&mut g, &[0x0f, 0x28, 0x45, 0x00], &s), expected);
    }
}

#[test]
fn a_store_across_pages_that_faults_stores_nothing() {
    let mut g = Guest::new();
    let mut s = state();
    s.fx[160..176].fill(0xee);
    let (after, window) = g.run(&[0x0f, 0x11, 0x03], &s, &[0; WINDOW], Some((3, WINDOW - 8)));
    assert_eq!(after.vector, PF);
    assert_eq!(window, [0; WINDOW]);
}
