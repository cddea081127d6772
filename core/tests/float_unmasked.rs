//! Packed SSE with random masks: which exceptions are flagged, and when #XM suppresses the result.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod host;

use host::fault::{Outcome, PACKED};
use host::{Rng, cases, seed};
use tabvisor_core::float::env::simd_outcome;
use tabvisor_core::float::sse::{self, F32, F64};
use tabvisor_core::float::{Env, Rounding};

fn lanes32(v: [u64; 2]) -> [u32; 4] {
    [v[0] as u32, (v[0] >> 32) as u32, v[1] as u32, (v[1] >> 32) as u32]
}

fn join32(v: [u32; 4]) -> [u64; 2] {
    [u64::from(v[0]) | u64::from(v[1]) << 32, u64::from(v[2]) | u64::from(v[3]) << 32]
}

/// The same instruction on ours: the result and the flags all lanes raised.
fn ours(text: &str, env: &mut Env, a: [u64; 2], b: [u64; 2]) -> [u64; 2] {
    let rounding = env.rounding;
    let single = |env: &mut Env, f: fn(&mut Env, u32, u32) -> u32| {
        let (x, y) = (lanes32(a), lanes32(b));
        join32(std::array::from_fn(|i| f(env, x[i], y[i])))
    };
    let double = |env: &mut Env, f: fn(&mut Env, u64, u64) -> u64| std::array::from_fn(|i| f(env, a[i], b[i]));
    match text {
        "addps" => single(env, sse::add::<F32>),
        "subps" => single(env, sse::sub::<F32>),
        "mulps" => single(env, sse::mul::<F32>),
        "divps" => single(env, sse::div::<F32>),
        "minps" => single(env, sse::min::<F32>),
        "maxps" => single(env, sse::max::<F32>),
        "sqrtps" => single(env, |e, _, b| sse::sqrt::<F32>(e, b)),
        "cmpltps" => single(env, |e, a, b| u32::from(sse::predicate::<F32>(e, a, b, 1)).wrapping_neg()),
        "cmpeqps" => single(env, |e, a, b| u32::from(sse::predicate::<F32>(e, a, b, 0)).wrapping_neg()),
        "addpd" => double(env, sse::add::<F64>),
        "subpd" => double(env, sse::sub::<F64>),
        "mulpd" => double(env, sse::mul::<F64>),
        "divpd" => double(env, sse::div::<F64>),
        "minpd" => double(env, sse::min::<F64>),
        "maxpd" => double(env, sse::max::<F64>),
        "sqrtpd" => double(env, |e, _, b| sse::sqrt::<F64>(e, b)),
        "cmplepd" => double(env, |e, a, b| u64::from(sse::predicate::<F64>(e, a, b, 2)).wrapping_neg()),
        "cmpunordpd" => double(env, |e, a, b| u64::from(sse::predicate::<F64>(e, a, b, 3)).wrapping_neg()),
        "cvtps2dq" => join32(lanes32(b).map(|x| sse::to_int::<F32>(env, x, rounding, 32) as u32)),
        "cvttps2dq" => join32(lanes32(b).map(|x| sse::to_int::<F32>(env, x, Rounding::Zero, 32) as u32)),
        "cvtdq2ps" => join32(lanes32(b).map(|x| sse::from_int::<F32>(env, i64::from(x as i32)))),
        "cvtpd2ps" => {
            let [x, y] = b.map(|x| sse::convert::<F64, F32>(env, x));
            join32([x, y, 0, 0])
        }
        "cvtps2pd" => [b[0] as u32, (b[0] >> 32) as u32].map(|x| sse::convert::<F32, F64>(env, x)),
        _ => panic!("no model for {text}"),
    }
}

#[test]
fn packed_exceptions_equal_the_host_under_all_masks() {
    let n = cases(4_000);
    for (text, run) in PACKED {
        let mut rng = Rng(seed());
        let doubles = text.ends_with("pd") && *text != "cvtps2pd" || *text == "cvtpd2ps";
        let (mut wrong, mut faults) = (0, 0);
        for _ in 0..n {
            let r = rng.next();
            // Mostly one or a few unmasked, FTZ and DAZ sometimes, sticky flags sometimes set.
            let masks = match r & 3 {
                0 => (r >> 8) as u32 & 0x3f,
                1 => 0x3f,
                _ => 0x3f ^ 1 << ((r >> 8) % 6),
            };
            let modes = if r >> 16 & 3 == 0 { (r >> 18) as u32 & 0x8040 } else { 0 };
            let mxcsr = masks << 7 | (r >> 40) as u32 & 0x6000 | modes;
            let mut lane = |same: bool| {
                if doubles {
                    rng.ieee_pair(52, 11)
                } else {
                    let (x, y) = (rng.ieee_pair(23, 8), rng.ieee_pair(23, 8));
                    let y = if same { x } else { y };
                    (x.0 | y.0 << 32, x.1 | y.1 << 32)
                }
            };
            // Often all lanes alike, so that a single exception gets its chance.
            let same = r >> 50 & 1 == 0;
            let low = lane(same);
            let high = if same { low } else { lane(same) };
            let (a, b) = ([low.0, high.0], [low.1, high.1]);
            let host = run(mxcsr, a, b);
            let mut env = Env::from_mxcsr(mxcsr);
            let value = ours(text, &mut env, a, b);
            let mine = match simd_outcome(env.flags, env.masks) {
                Ok(flags) => Outcome { value, flags, fault: false },
                Err(flags) => Outcome { value: a, flags, fault: true },
            };
            faults += u64::from(host.fault);
            if mine != host {
                wrong += 1;
                if wrong <= 4 {
                    eprintln!("{text} mxcsr={mxcsr:04x} {a:x?} {b:x?}\n  host {host:x?}\n  ours {mine:x?}");
                }
            }
        }
        println!("{text}: {n} cases, {faults} faults, {wrong} differ");
        assert_eq!(wrong, 0, "{text}");
    }
}
