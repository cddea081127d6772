//! Every operation, as code, against its meaning.

use crate::jit::ir::{Val, Values};
use crate::jit::trial::{Input, Random, Trial, run};
use crate::size::Size;
use crate::vector::{self, V128, VecImm, VecOp, VecShift};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

struct Case {
    name: String,
    code: Trial,
    meaning: Box<dyn Fn(V128, V128, u64) -> V128>,
}

/// `None`: the operation has no short form.
fn case(
    name: String,
    build: impl FnOnce(&mut Values, Val, Val, Val) -> Option<Val>,
    meaning: impl Fn(V128, V128, u64) -> V128 + 'static,
) -> Option<Case> {
    Some(Case { name, code: Trial::of(build)?, meaning: Box::new(meaning) })
}

/// Compares code and meaning for these inputs.
fn compare(cases: &[Case], inputs: &[Input]) {
    let codes: Vec<&Trial> = cases.iter().map(|c| &c.code).collect();
    run(&codes, inputs, |n, (a, b, x), got| {
        let want = (cases[n].meaning)(a, b, x);
        assert_eq!(got, want, "{} of {a:x?}, {b:x?}, {x}: {got:x?}, not {want:x?}", cases[n].name);
    });
}

/// Often bytes, words and doublewords at the edges of their ranges.
fn half(random: &mut Random) -> u64 {
    const EDGES: [u16; 16] =
        [0, 1, 2, 0x7f, 0x80, 0x81, 0xff, 0x100, 0x7f80, 0x7fff, 0x8000, 0x8001, 0x80ff, 0xff7f, 0xfffe, 0xffff];
    match random.next() & 3 {
        0 => random.next(),
        1 => (0..4).fold(0, |v, _| v << 16 | u64::from(EDGES[random.next() as usize & 15])),
        2 => (0..8).fold(0, |v, _| v << 8 | u64::from(EDGES[random.next() as usize & 15] as u8)),
        _ => [0x7fff_ffff, 0x8000_0000, 0xffff_ffff_8000_0000, 0x8000_0000_0000_0000][random.next() as usize & 3],
    }
}
fn inputs(seed: u64, number: usize) -> Vec<Input> {
    let counts = [0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 1 << 31, 1 << 32, u64::MAX];
    let mut random = Random(seed);
    let mut half = || half(&mut random);
    (0..number)
        .map(|n| {
            let a = [half(), half()];
            let b = if n % 8 == 0 { a } else { [half(), half()] };
            (a, b, counts[n % counts.len()])
        })
        .collect()
}

#[test]
fn operations_are_what_they_mean() {
    let mut missing = Vec::new();
    let mut cases = Vec::new();
    for &op in VecOp::ALL {
        let before = cases.len();
        cases.extend(case(format!("{op:?}"), |v, a, b, _| v.vec(op, a, b), move |a, b, _| op.run(a, b)));
        cases.extend(case(format!("{op:?} itself"), |v, a, _, _| v.vec(op, a, a), move |a, _, _| op.run(a, a)));
        if cases.len() == before {
            missing.push(op);
        }
    }
    assert_eq!(missing, [VecOp::MinPosU16]);
    compare(&cases, &inputs(0x9e37_79b9_7f4a_7c15, 3000));
}

#[test]
fn operations_with_an_immediate_are_what_they_mean() {
    let mut missing = Vec::new();
    let mut cases = Vec::new();
    for &op in VecImm::ALL {
        let before = cases.len();
        for imm in 0..=255 {
            let name = format!("{op:?} {imm:#x}");
            cases.extend(case(name, |v, a, b, _| v.vec_imm(op, a, b, imm), move |a, b, _| op.run(a, b, imm)));
        }
        if cases.len() == before {
            missing.push(op);
        }
    }
    assert_eq!(missing, [VecImm::MultiSad8]);
    compare(&cases, &inputs(7, 20));
}

#[test]
fn shifts_are_what_they_mean() {
    let mut cases = Vec::new();
    for &op in VecShift::ALL {
        let any = |v: &mut Values, a, _, count| Some(v.vec_shift(op, a, count));
        cases.extend(case(format!("{op:?}"), any, move |a, _, count| op.run(a, count)));
        for imm in 0..=255 {
            let by = |v: &mut Values, a, _, _| {
                let count = v.imm(imm);
                Some(v.vec_shift(op, a, count))
            };
            cases.extend(case(format!("{op:?} {imm}"), by, move |a, _, _| op.run(a, imm)));
        }
    }
    compare(&cases, &inputs(11, 54));
}

#[test]
fn lanes_are_where_they_belong() {
    let mut cases = Vec::new();
    cases.extend(case("pair".into(), |v, _, _, x| Some(v.pair(x, x)), |_, _, x| [x, x]));
    let low = |v: &mut Values, _, _, x| {
        let zero = v.imm(0);
        Some(v.pair(x, zero))
    };
    cases.extend(case("low".into(), low, |_, _, x| [x, 0]));
    let both = |v: &mut Values, a, b, _| {
        let (lo, hi) = (v.lane(a, Size::B8, 0), v.lane(b, Size::B8, 1));
        Some(v.pair(lo, hi))
    };
    cases.extend(case("halves".into(), both, |a, b, _| [a[0], b[1]]));
    for size in [Size::B1, Size::B2, Size::B4, Size::B8] {
        let name = format!("signs {size:?}");
        cases.extend(case(name, |v, a, _, _| Some(v.signs(a, size)), move |a, _, _| [vector::signs(a, size), 0]));
        for k in 0..16 {
            let name = format!("lane {k} {size:?}");
            let lane = move |a, _, _| [vector::extract(a, size, k), 0];
            cases.extend(case(name.clone(), |v, a, _, _| Some(v.lane(a, size, k)), lane));
            let with = move |a, _, x| vector::insert(a, size, k, x);
            cases.extend(case(name, |v, a, _, x| Some(v.with_lane(a, size, k, x)), with));
        }
    }
    compare(&cases, &inputs(13, 100));
}
