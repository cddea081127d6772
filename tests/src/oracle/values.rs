//! Operand values worth testing: integer boundaries, every class of floating-point number, and the
//! background patterns of the data windows. Part of the corpus format: see `Test::background`.

use super::rng::Rng;
use super::state::{DATA_SIZE, Fx, RO_SIZE};

/// A 64-bit integer, more often one near a boundary than not.
pub fn integer(r: &mut Rng) -> u64 {
    match r.below(10) {
        0 => 0,
        1 => r.pick(&[1, u64::MAX, 2, 0x7f, 0x80, 0xff, 0x100]),
        2 => (1u64 << r.below(64)).wrapping_add(r.below(3)).wrapping_sub(1),
        3 => !(1u64 << r.below(64)),
        4 => r.below(256),
        5 => r.below(70),
        6 => (r.next() as i16) as u64,
        7 => (r.next() as i32) as u64,
        _ => r.next() >> r.below(64),
    }
}

/// The bits of a binary float of `exp` exponent bits and `frac` fraction bits (no integer bit).
fn ieee(r: &mut Rng, exp: u32, frac: u32) -> u64 {
    let bias = (1u64 << (exp - 1)) - 1;
    let top = (1u64 << exp) - 1;
    let fmask = (1u64 << frac) - 1;
    let few = |r: &mut Rng| match r.below(5) {
        0 => 0,
        1 => fmask,
        2 => 1 << r.below(u64::from(frac)),
        3 => fmask << r.below(u64::from(frac)) & fmask,
        _ => r.next() & fmask,
    };
    let (e, f) = match r.below(14) {
        0 => (0, 0),
        1 => (0, few(r)),                                            // denormal
        2 => (top, 0),                                               // infinity
        3 => (top, few(r) | 1 << (frac - 1)),                        // quiet NaN
        4 => (top, few(r) & !(1 << (frac - 1)) | 1),                 // signalling NaN
        5 => (bias, 0),                                              // one
        6 => (1 + r.below(3), few(r)),                               // near the smallest normal
        7 => (top - 1 - r.below(3), few(r)),                         // near the largest
        8..=10 => ((bias + r.below(70)).min(top - 1), few(r)),       // around the integer ranges
        11 => (bias - 1 - r.below(u64::from(frac.min(30))), few(r)), // fractions
        _ => (r.below(top), few(r)),
    };
    (r.below(2) << (exp + frac)) | e << frac | f
}

/// A single-precision number of any class.
pub fn f32_bits(r: &mut Rng) -> u32 {
    ieee(r, 8, 23) as u32
}

/// A double-precision number of any class.
pub fn f64_bits(r: &mut Rng) -> u64 {
    ieee(r, 11, 52)
}

/// An 80-bit number of any class, the unsupported ones (unnormal, pseudo-infinity, pseudo-NaN) included.
pub fn f80_bytes(r: &mut Rng) -> [u8; 10] {
    let few = |r: &mut Rng| match r.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << r.below(63),
        3 => u64::MAX << r.below(63),
        4 => r.next() << r.below(63),
        _ => r.next(),
    };
    const INT: u64 = 1 << 63;
    let (e, m) = match r.below(20) {
        0 => (0, 0),
        1 => (0, few(r) & !INT),                                                     // denormal
        2 => (0, few(r) | INT),                                                      // pseudo-denormal
        3 => (0x7fff, INT),                                                          // infinity
        4 => (0x7fff, few(r) | 3 << 62),                                             // quiet NaN
        5 => (0x7fff, few(r) & !(1 << 62) | INT | 1),                                // signalling NaN
        6 => (0x7fff, few(r) & !INT),                                                // pseudo-infinity, pseudo-NaN
        7 => (1 + r.below(0x7ffe), few(r) & !INT),                                   // unnormal
        8 => (0x3fff, INT),                                                          // one
        9 => (1 + r.below(70), few(r) | INT),                                        // near the smallest normal
        10 => (0x7ffe - r.below(70), few(r) | INT),                                  // near the largest
        11..=14 => (0x3fff + r.below(68), few(r) | INT),                             // around the integer ranges
        15 => (0x3fff - r.below(70), few(r) | INT),                                  // fractions
        16 => (0x3fff - 0x3fe + r.below(0x7ff), u64::from(f32_bits(r)) << 40 | INT), // exact as a double
        _ => (r.below(0x7fff), few(r) | INT),
    };
    let mut b = [0; 10];
    b[..8].copy_from_slice(&m.to_le_bytes());
    b[8..].copy_from_slice(&((e | r.below(2) << 15) as u16).to_le_bytes());
    b
}

/// Packed BCD of 18 digits and a sign; now and then with digits that are none.
fn bcd(r: &mut Rng) -> [u8; 16] {
    let mut b = [0u8; 16];
    for x in &mut b[..9] {
        *x = (r.below(10) << 4 | r.below(10)) as u8;
    }
    b[9] = r.pick(&[0, 0x80, 0x80, 0x7f]);
    if r.chance(20) {
        b[r.below(10) as usize] = r.next() as u8;
    }
    b
}

/// Sixteen bytes of one kind: floats of one size, integers, text or BCD.
pub fn sixteen(r: &mut Rng) -> [u8; 16] {
    let mut b = [0u8; 16];
    match r.below(8) {
        0 | 1 => b.chunks_exact_mut(4).for_each(|c| c.copy_from_slice(&f32_bits(r).to_le_bytes())),
        2 | 3 => b.chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&f64_bits(r).to_le_bytes())),
        4 => b[..10].copy_from_slice(&f80_bytes(r)),
        5 => b.chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&integer(r).to_le_bytes())),
        6 => {
            // Text with short runs and zeros, for string compares.
            for x in &mut b {
                *x = if r.chance(10) { 0 } else { b"aab\x80"[r.below(4) as usize] };
            }
        }
        _ => {
            return if r.chance(30) {
                bcd(r)
            } else {
                (u128::from(r.next()) << 64 | u128::from(r.next())).to_le_bytes()
            };
        }
    }
    b
}

/// A whole floating-point state; the caller makes it valid.
pub fn fx(r: &mut Rng, fx: &mut Fx) {
    let fcw = match r.below(10) {
        0..=5 => 0x037f,
        6 => 0x037f & !0x0f00 | (r.next() as u16 & 0x0f00),
        7 => 0x027f,
        _ => r.next() as u16,
    };
    fx.set_u16(0, fcw);
    let mut fsw = r.next() as u16;
    if r.chance(60) {
        fsw &= 0x7f00; // no flags yet
    } else if r.chance(70) {
        fsw &= !0x3f | fcw & 0x3f; // no unmasked exception pending
    }
    fx.set_u16(2, fsw);
    fx.0[4] = match r.below(4) {
        0 => 0xff,
        1 => r.next() as u8,
        2 => 0xff << r.below(8),
        _ => (r.next() | r.next()) as u8,
    };
    let mxcsr = match r.below(8) {
        0..=3 => 0x1f80,
        4 => 0x1f80 | r.next() as u32 & 0xe07f,
        5 => 0x1f80 | r.next() as u32 & 0x6000,
        6 => 0x1f80 & !(1 << (7 + r.below(6))) | r.next() as u32 & 0xe000,
        _ => r.next() as u32 & 0xffff,
    };
    fx.set_mxcsr(mxcsr);
    for i in 0..8 {
        let at = Fx::st(i);
        if r.chance(20) {
            // As MMX leaves it.
            let v = if r.chance(50) { integer(r) } else { r.next() };
            fx.set_u64(at, v);
            fx.0[at + 8..at + 10].fill(0xff);
        } else {
            fx.0[at..at + 10].copy_from_slice(&f80_bytes(r));
        }
    }
    for i in 0..16 {
        fx.0[Fx::xmm(i)..Fx::xmm(i) + 16].copy_from_slice(&sixteen(r));
    }
}

/// Background `k` of the writable window.
pub fn data_fill(k: u8) -> Vec<u8> {
    let mut r = Rng::at(0x7461_6276_6973_6f72, u64::from(k));
    (0..DATA_SIZE / 16).flat_map(|_| sixteen(&mut r)).collect()
}

/// Content of the read-only window.
pub fn ro_fill() -> Vec<u8> {
    let mut r = Rng::at(0x7461_6276_6973_6f72, 1000);
    (0..RO_SIZE / 16).flat_map(|_| sixteen(&mut r)).collect()
}
