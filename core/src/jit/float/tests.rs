//! Guarded floating point against the interpreter's: where the guard holds, the result is the same, and so is MXCSR.

use crate::emit::{Bin, FloatConversion, FloatOp, Floats};
use crate::isa::sse::lane::{Lanes, PLAIN};
use crate::jit::float::Guarded;
use crate::jit::ir::{Val, Values};
use crate::jit::trial::{Input, Random, Trial, run};
use crate::size::Size;
use crate::vector::{V128, u32x4};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What the interpreter makes of two vectors and a number.
type Meaning = Box<dyn Fn(&mut Lanes, V128, V128, u64) -> V128>;

struct Case {
    name: String,
    value: Trial,
    guard: Trial,
    meaning: Meaning,
    /// What is known of MXCSR: it has PE set and default controls (2), it has those (1), nothing (0).
    fast: u64,
}

fn cases(
    cases: &mut Vec<Case>,
    name: &str,
    build: impl Fn(&mut Values, Val, Val, Val, Val) -> Guarded,
    meaning: impl Fn(&mut Lanes, V128, V128, u64) -> V128 + Clone + 'static,
) {
    for known in [0, 1, 2] {
        let of = |v: &mut Values, a, b, x| {
            let fast = v.imm(known);
            build(v, fast, a, b, x)
        };
        let value = Trial::of(|v, a, b, x| Some(of(v, a, b, x).value)).expect("a value");
        let all = |v: &mut Values, a, b, x| {
            let guards = of(v, a, b, x).guards;
            guards.into_iter().fold(v.imm(1), |all, g| v.bin(Bin::And, all, g))
        };
        let guard = Trial::of(|v, a, b, x| Some(all(v, a, b, x))).expect("a value");
        cases.push(Case {
            name: format!("{name} {known}"),
            value,
            guard,
            meaning: Box::new(meaning.clone()),
            fast: known,
        });
    }
}

/// How often each guard held.
fn compare(cases: &[Case], inputs: &[Input]) -> Vec<u32> {
    let mut guards: Vec<Vec<bool>> = cases.iter().map(|_| Vec::new()).collect();
    let codes: Vec<&Trial> = cases.iter().map(|c| &c.guard).collect();
    run(&codes, inputs, |n, _, guard| {
        assert!(guard[0] <= 1 && guard[1] == 0);
        guards[n].push(guard[0] != 0);
    });
    let mut at: Vec<usize> = cases.iter().map(|_| 0).collect();
    let codes: Vec<&Trial> = cases.iter().map(|c| &c.value).collect();
    run(&codes, inputs, |n, (a, b, x), got| {
        at[n] += 1;
        if !guards[n][at[n] - 1] {
            return;
        }
        // Default, with PE set; rounding down and up, flush to zero, denormals are zeros; nothing masked.
        let all = [PLAIN, 0x1f80, 0x3f80, 0x5f80, 0x9f80, 0x1fc0, 0];
        for &mxcsr in [&all[..], &all[1..2], &all[..1]][cases[n].fast as usize] {
            let mut l = Lanes::new(mxcsr);
            let want = (cases[n].meaning)(&mut l, a, b, x);
            assert_eq!(got, want, "{} of {a:x?}, {b:x?}, {x:x} under {mxcsr:x}: {got:x?}", cases[n].name);
            let raised = u32::from(l.raised());
            assert_eq!(mxcsr | raised, mxcsr, "{} of {a:x?}, {b:x?}, {x:x} under {mxcsr:x}", cases[n].name);
        }
    });
    guards.iter().map(|g| g.iter().map(|&g| u32::from(g)).sum()).collect()
}

fn f32(random: &mut Random) -> u32 {
    const EDGES: [u32; 16] = [
        0,
        1,
        0x7f_ffff,
        0x80_0000,
        0x80_0001,
        0x100_0000,
        0x3f80_0000,
        0x3f80_0001,
        0x4b80_0000,
        0x4eff_ffff,
        0x4f00_0000,
        0x5f00_0000,
        0x7f7f_ffff,
        0x7f80_0000,
        0x7f80_0001,
        0x7fc0_0000,
    ];
    let r = random.next();
    let v = match r & 3 {
        0 => EDGES[(r >> 8) as usize & 15],
        // Near 1, with few bits.
        1 => 0x3f00_0000 + ((r >> 8) as u32 & 0x3ff0_0000 >> 3),
        2 => ((r >> 8) as u32 & 0x00ff_ffff) + 0x3f00_0000,
        _ => (r >> 8) as u32 & 0x7fff_ffff,
    };
    v | (r >> 40) as u32 & 1 << 31
}
fn f64(random: &mut Random) -> u64 {
    const EDGES: [u64; 16] = [
        0,
        1,
        0xf_ffff_ffff_ffff,
        0x10_0000_0000_0000,
        0x20_0000_0000_0000,
        0x3810_0000_0000_0000,
        0x3ff0_0000_0000_0000,
        0x3ff0_0000_0000_0001,
        0x41df_ffff_ffc0_0000,
        0x41e0_0000_0000_0000,
        0x43df_ffff_ffff_ffff,
        0x43e0_0000_0000_0000,
        0x47ef_ffff_f000_0000,
        0x7fef_ffff_ffff_ffff,
        0x7ff0_0000_0000_0000,
        0x7ff8_0000_0000_0000,
    ];
    let r = random.next();
    let v = match r & 3 {
        0 => EDGES[(r >> 8) as usize & 15],
        1 => (((r >> 8 & 0x7ff) + 0x3f8) << 51) & !(1 << 63),
        2 => (random.next() & 0x1f_ffff_ffff_ffff) + 0x3fe0_0000_0000_0000,
        _ => random.next() & !(1 << 63),
    };
    v | r & 1 << 63
}
fn inputs(number: usize, single: bool) -> Vec<Input> {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut vector = |same: Option<V128>| match same {
        Some(v) if random.next() & 15 == 0 => v,
        _ if single => u32x4::put([(); 4].map(|()| f32(&mut random))),
        _ => [(); 2].map(|()| f64(&mut random)),
    };
    let mut ints = Random(99);
    (0..number)
        .map(|_| {
            let a = vector(None);
            let b = vector(Some(a));
            let x = ints.next();
            (a, b, (ints.next() as i64 >> (x & 63)) as u64)
        })
        .collect()
}

const OPS: [FloatOp; 15] = [
    FloatOp::Add,
    FloatOp::Sub,
    FloatOp::Mul,
    FloatOp::Div,
    FloatOp::Min,
    FloatOp::Max,
    FloatOp::Sqrt,
    FloatOp::Compare(0),
    FloatOp::Compare(1),
    FloatOp::Compare(2),
    FloatOp::Compare(3),
    FloatOp::Compare(4),
    FloatOp::Compare(5),
    FloatOp::Compare(6),
    FloatOp::Compare(7),
];

#[test]
fn arithmetic_is_the_interpreters_where_its_guard_holds() {
    for (single, formats) in [(true, [Floats::Ps, Floats::Ss]), (false, [Floats::Pd, Floats::Sd])] {
        let mut all = Vec::new();
        for of in formats {
            for op in OPS {
                let run = move |l: &mut Lanes, a, b, _| l.run(op, of, a, b);
                cases(&mut all, &format!("{op:?} {of:?}"), |v, fast, a, b, _| v.float(op, of, fast, a, b), run);
            }
            for signaling in [false, true] {
                let run = move |l: &mut Lanes, a, b, _| [l.relation(signaling, of, a, b), 0];
                cases(&mut all, &format!("relation {of:?}"), |v, _, a, b, _| v.float_relation(of, a, b), run);
            }
        }
        let inputs = inputs(6000, single);
        let held = compare(&all, &inputs);
        for (case, held) in all.iter().zip(held) {
            let rounds = ["Add", "Sub", "Mul", "Div", "Sqrt"].iter().any(|op| case.name.starts_with(op));
            // Half of the numbers have no edges, and a packed operation needs several of them.
            let scalar = case.name.contains("Ss") || case.name.contains("Sd");
            let exact = scalar && ["Add", "Sub", "Mul"].iter().any(|op| case.name.starts_with(op));
            let least = if case.fast < 2 && rounds {
                if case.fast == 1 && exact { 50 } else { 0 }
            } else if scalar {
                2000
            } else {
                300
            };
            assert!(held >= least, "{}: {held} of {}", case.name, inputs.len());
            assert!(held == 0 || !rounds || case.fast == 2 || case.fast == 1 && exact, "{}: {held}", case.name);
        }
    }
}

#[test]
fn conversions_are_the_interpreters_where_their_guards_hold() {
    use FloatConversion::*;
    for single in [true, false] {
        let mut all = Vec::new();
        let convert: &[_] =
            if single { &[PsToPd, DqToPs, DqToPd, PsToDq, PsToDqT] } else { &[PdToPs, PdToDq, PdToDqT] };
        for &how in convert {
            let run = move |l: &mut Lanes, _, b, _| l.convert(how, b);
            cases(&mut all, &format!("{how:?}"), |v, fast, _, b, _| v.float_convert(how, fast, b), run);
        }
        let (of, other) = if single { (Floats::Ss, Floats::Sd) } else { (Floats::Sd, Floats::Ss) };
        let run = move |l: &mut Lanes, a, b, _| l.resize(other, a, b);
        cases(&mut all, &format!("to {other:?}"), |v, fast, a, b, _| v.float_resize(other, fast, a, b), run);
        for size in [Size::B4, Size::B8] {
            let run = move |l: &mut Lanes, a, _, x| l.of_int(of, a, size.sx(x) as i64);
            let build = |v: &mut Values, fast, a, _, x| {
                let x = v.sx(size, x);
                v.float_of_int(of, fast, a, x, size)
            };
            cases(&mut all, &format!("{of:?} of {size:?}"), build, run);
            for truncate in [false, true] {
                let bits = size.bits();
                let run = move |l: &mut Lanes, _, b, _| [size.zx(l.to_int(of, b, truncate, bits) as u64), 0];
                let build = |v: &mut Values, fast, _, b, _| v.float_to_int(of, fast, b, truncate, size);
                cases(&mut all, &format!("{of:?} to {size:?} {truncate}"), build, run);
            }
        }
        let inputs = inputs(6000, single);
        for (case, held) in all.iter().zip(compare(&all, &inputs)) {
            assert!(case.fast < 2 || held > 300, "{}: {held} of {}", case.name, inputs.len());
        }
    }
}
