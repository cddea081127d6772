//! f32 and f64 against the host's SSE unit, every rounding mode, with and without FTZ and DAZ.
//!
//! `TABVISOR_FLOAT_CASES=20000000 cargo test --release --test float_sse` for the long run.
#![cfg(target_arch = "x86_64")]

mod host;

use host::{Rng, cases, seed, sse as hw};
use tabvisor_core::float::sse::{self, F32, F64};
use tabvisor_core::float::{Env, Relation, Rounding};

fn mxcsr(rng: &mut Rng) -> u32 {
    let r = rng.next() as u32;
    let zeroing = if r & 7 == 0 { r >> 8 & 0x8040 } else { 0 };
    0x1f80 | (r >> 4 & 3) << 13 | zeroing
}

/// Compare `n` cases of one operation; prints the first few differences and panics on any.
fn check<I: core::fmt::Debug + Copy>(
    name: &str,
    n: u64,
    mut input: impl FnMut(&mut Rng) -> I,
    hardware: impl Fn(u32, I) -> (u64, u32),
    ours: impl Fn(&mut Env, I) -> u64,
) {
    let mut rng = Rng(seed() ^ name.bytes().fold(0u64, |h, b| h.wrapping_mul(131) + u64::from(b)));
    let mut wrong = 0;
    for _ in 0..n {
        let m = mxcsr(&mut rng);
        let i = input(&mut rng);
        let (value, after) = hardware(m, i);
        let mut env = Env::from_mxcsr(m);
        let mine = ours(&mut env, i);
        if mine != value || u32::from(env.flags) != after & 0x3f {
            wrong += 1;
            if wrong <= 5 {
                eprintln!(
                    "{name} mxcsr={m:04x} {i:x?}: host {value:x} {:02x}, ours {mine:x} {:02x}",
                    after & 0x3f,
                    env.flags
                );
            }
        }
    }
    println!("{name}: {n} cases, {wrong} differ");
    assert_eq!(wrong, 0, "{name}");
}

macro_rules! binary {
    ($n:expr, $format:ty, $bits:ty, $f:literal, $e:literal: $($hw:ident = $op:expr;)*) => { $(
        check(stringify!($hw), $n, |r| r.ieee_pair($f, $e), |m, (a, b)| {
            let (v, after) = hw::$hw(m, a as $bits, b as $bits);
            (v as u64, after)
        }, |env, (a, b)| {
            let op: fn(&mut Env, $bits, $bits) -> $bits = $op;
            op(env, a as $bits, b as $bits) as u64
        });
    )* };
}

#[test]
fn arithmetic_of_f32_equals_the_host() {
    let n = cases(150_000);
    binary! { n, F32, u32, 23, 8:
        addss = sse::add::<F32>; subss = sse::sub::<F32>; mulss = sse::mul::<F32>; divss = sse::div::<F32>;
        minss = sse::min::<F32>; maxss = sse::max::<F32>; sqrtss = |e, _, b| sse::sqrt::<F32>(e, b);
        cmp0ss = |e, a, b| mask32(sse::predicate::<F32>(e, a, b, 0)); cmp1ss = |e, a, b| mask32(sse::predicate::<F32>(e, a, b, 1));
        cmp2ss = |e, a, b| mask32(sse::predicate::<F32>(e, a, b, 2)); cmp3ss = |e, a, b| mask32(sse::predicate::<F32>(e, a, b, 3));
        cmp4ss = |e, a, b| mask32(sse::predicate::<F32>(e, a, b, 4)); cmp5ss = |e, a, b| mask32(sse::predicate::<F32>(e, a, b, 5));
        cmp6ss = |e, a, b| mask32(sse::predicate::<F32>(e, a, b, 6)); cmp7ss = |e, a, b| mask32(sse::predicate::<F32>(e, a, b, 7));
    }
}

#[test]
fn arithmetic_of_f64_equals_the_host() {
    let n = cases(150_000);
    binary! { n, F64, u64, 52, 11:
        addsd = sse::add::<F64>; subsd = sse::sub::<F64>; mulsd = sse::mul::<F64>; divsd = sse::div::<F64>;
        minsd = sse::min::<F64>; maxsd = sse::max::<F64>; sqrtsd = |e, _, b| sse::sqrt::<F64>(e, b);
        cmp0sd = |e, a, b| mask64(sse::predicate::<F64>(e, a, b, 0)); cmp1sd = |e, a, b| mask64(sse::predicate::<F64>(e, a, b, 1));
        cmp2sd = |e, a, b| mask64(sse::predicate::<F64>(e, a, b, 2)); cmp3sd = |e, a, b| mask64(sse::predicate::<F64>(e, a, b, 3));
        cmp4sd = |e, a, b| mask64(sse::predicate::<F64>(e, a, b, 4)); cmp5sd = |e, a, b| mask64(sse::predicate::<F64>(e, a, b, 5));
        cmp6sd = |e, a, b| mask64(sse::predicate::<F64>(e, a, b, 6)); cmp7sd = |e, a, b| mask64(sse::predicate::<F64>(e, a, b, 7));
    }
}

fn mask32(b: bool) -> u32 {
    if b { u32::MAX } else { 0 }
}

fn mask64(b: bool) -> u64 {
    if b { u64::MAX } else { 0 }
}

fn eflags(r: Relation) -> u64 {
    match r {
        Relation::Less => 1,
        Relation::Equal => 0x40,
        Relation::Greater => 0,
        Relation::Unordered => 0x45,
    }
}

#[test]
fn ordered_and_unordered_comparison_equal_the_host() {
    let n = cases(150_000);
    type Host<B> = fn(u32, B, B) -> (u8, u32);
    for (name, f, signaling) in [("comiss", hw::comiss as Host<u32>, true), ("ucomiss", hw::ucomiss, false)] {
        check(
            name,
            n,
            |r| r.ieee_pair(23, 8),
            |m, (a, b)| {
                let (v, after) = f(m, a as u32, b as u32);
                (u64::from(v), after)
            },
            |env, (a, b)| eflags(sse::compare::<F32>(env, a as u32, b as u32, signaling)),
        );
    }
    for (name, f, signaling) in [("comisd", hw::comisd as Host<u64>, true), ("ucomisd", hw::ucomisd, false)] {
        check(
            name,
            n,
            |r| r.ieee_pair(52, 11),
            |m, (a, b)| {
                let (v, after) = f(m, a, b);
                (u64::from(v), after)
            },
            |env, (a, b)| eflags(sse::compare::<F64>(env, a, b, signaling)),
        );
    }
}

#[test]
fn conversions_between_formats_equal_the_host() {
    let n = cases(150_000);
    check(
        "cvtss2sd",
        n,
        |r| r.ieee(23, 8),
        |m, a| hw::cvtss2sd_raw(m, 0, a),
        |env, a| sse::convert::<F32, F64>(env, a as u32),
    );
    check(
        "cvtsd2ss",
        n,
        |r| {
            let a = r.ieee(52, 11);
            // Half of them in and around the range of f32.
            let near = r.next();
            if near & 1 == 0 { a & !(0x7ff << 52) | (1023 - 160 + (near >> 8) % 300) << 52 } else { a }
        },
        |m, a| {
            let (v, after) = hw::cvtsd2ss_raw(m, 0, a);
            (v & 0xffff_ffff, after)
        },
        |env, a| u64::from(sse::convert::<F64, F32>(env, a)),
    );
}

#[test]
fn conversions_to_integers_equal_the_host() {
    let n = cases(150_000);
    macro_rules! to {
        ($($hw:ident $format:ty, $bits:ty, $f:literal, $e:literal, $width:literal, $rounding:expr;)*) => { $(
            check(stringify!($hw), n, |r| {
                let a = r.ieee($f, $e);
                let near = r.next();
                let e = ((1u64 << ($e - 1)) - 5 + (near >> 8) % 72) << $f;
                if near & 1 == 0 { a & !(((1u64 << $e) - 1) << $f) | e } else { a }
            }, |m, a| {
                let (v, after) = hw::$hw(m, a as $bits);
                (v as u64, after)
            }, |env, a| {
                let rounding: Option<Rounding> = $rounding;
                let v = sse::to_int::<$format>(env, a as $bits, rounding.unwrap_or(env.rounding), $width);
                if $width == 32 { u64::from(v as u32) } else { v as u64 }
            });
        )* };
    }
    to! {
        cvtss2si32 F32, u32, 23, 8, 32, None; cvtss2si64 F32, u32, 23, 8, 64, None;
        cvttss2si32 F32, u32, 23, 8, 32, Some(Rounding::Zero); cvttss2si64 F32, u32, 23, 8, 64, Some(Rounding::Zero);
        cvtsd2si32 F64, u64, 52, 11, 32, None; cvtsd2si64 F64, u64, 52, 11, 64, None;
        cvttsd2si32 F64, u64, 52, 11, 32, Some(Rounding::Zero); cvttsd2si64 F64, u64, 52, 11, 64, Some(Rounding::Zero);
    }
}

#[test]
fn conversions_from_integers_equal_the_host() {
    let n = cases(150_000);
    macro_rules! from {
        ($($hw:ident $format:ty, $int:ty;)*) => { $(
            check(stringify!($hw), n, |r| { let p = r.pattern(); i64::from(p as $int) >> (p >> 58) }, |m, a| {
                let (v, after) = hw::$hw(m, a);
                (v as u64, after)
            }, |env, a| sse::from_int::<$format>(env, a) as u64);
        )* };
    }
    from! { cvtsi2ss32 F32, i32; cvtsi2ss64 F32, i64; cvtsi2sd32 F64, i32; cvtsi2sd64 F64, i64; }
}

#[test]
fn rounding_to_integral_equals_the_host() {
    let n = cases(100_000);
    macro_rules! round {
        ($($hw:ident $format:ty, $bits:ty, $f:literal, $e:literal, $imm:literal;)*) => { $(
            check(stringify!($hw), n, |r| {
                let a = r.ieee($f, $e);
                let near = r.next();
                let e = ((1u64 << ($e - 1)) - 5 + (near >> 8) % 64) << $f;
                if near & 1 == 0 { a & !(((1u64 << $e) - 1) << $f) | e } else { a }
            }, |m, a| {
                let (v, after) = hw::$hw(m, a as $bits);
                (v as u64, after)
            }, |env, a| sse::round_integral::<$format>(env, a as $bits, $imm) as u64);
        )* };
    }
    round! {
        round0ss F32, u32, 23, 8, 0; round1ss F32, u32, 23, 8, 1; round2ss F32, u32, 23, 8, 2; round3ss F32, u32, 23, 8, 3;
        round4ss F32, u32, 23, 8, 4; round8ss F32, u32, 23, 8, 8; round12ss F32, u32, 23, 8, 12;
        round0sd F64, u64, 52, 11, 0; round1sd F64, u64, 52, 11, 1; round2sd F64, u64, 52, 11, 2; round3sd F64, u64, 52, 11, 3;
        round4sd F64, u64, 52, 11, 4; round8sd F64, u64, 52, 11, 8; round12sd F64, u64, 52, 11, 12;
    }
}
