//! 80-bit arithmetic against the host's x87: every rounding mode, precision and set of masks.
//!
//! `TABVISOR_FLOAT_CASES=20000000 cargo test --release --test float_x87` for the long run.
#![cfg(target_arch = "x86_64")]

mod host;

use host::x87::{Image, body};
use host::{Rng, cases, seed};
use tabvisor_core::float::x87::Constant;
use tabvisor_core::float::{Env, F80, Relation, Rounding, Unpacked, bcd, flags, x87};

const C0: u16 = 0x100;
const C1: u16 = 0x200;
const C2: u16 = 0x400;
const C3: u16 = 0x4000;

fn control(rng: &mut Rng) -> u16 {
    let r = rng.next();
    let masks = if r & 3 == 0 && host::is_reference_make() { (r >> 8) as u16 & 0x3f } else { 0x3f };
    0x40 | masks | ((r >> 16) as u16 & 3) << 10 | [0, 0x200, 0x300, 0x300][(r >> 20) as usize & 3]
}

/// What an operation leaves: ST(0) afterwards, memory bytes, condition codes other than C1.
#[derive(Default)]
struct Out {
    st0: Option<F80>,
    memory: Option<Vec<u8>>,
    codes: u16,
    /// Which condition codes to compare besides C1.
    defined: u16,
}

fn value(v: F80) -> Out {
    Out { st0: Some(v), ..Out::default() }
}

fn bytes(v: &[u8]) -> Out {
    Out { memory: Some(v.to_vec()), ..Out::default() }
}

/// One case of `text` on the host and on ours; `Some(message)` if they differ.
fn differs(
    text: &str,
    run: host::x87::Body,
    cw: u16,
    a: F80,
    b: F80,
    memory: [u8; 10],
    ours: &dyn Fn(&mut Env, F80, F80) -> Out,
) -> Option<String> {
    let mut image = Image::full(cw, (a.sig, a.se), (b.sig, b.se));
    if text.starts_with("fld") || text.starts_with("fbld") {
        // Room to push: the register under the top is empty.
        image.0[4] = 0x7f;
    }
    let mut mem = [0u8; 128];
    mem[..10].copy_from_slice(&memory);
    run(&mut image, &mut mem, 0);
    let sw = image.word(2);
    let mut env = Env::from_control_word(cw);
    let out = ours(&mut env, a, b);
    let stopped = env.unmasked() & flags::BEFORE != 0;
    let mut wrong = u16::from(env.flags) != sw & 0x3f;
    // C1 belongs to a result that exists.
    wrong |= !stopped && env.flags & flags::PE != 0 && env.c1 != (sw & C1 != 0);
    if !stopped {
        if let Some(v) = out.st0 {
            wrong |= image.st(0) != (v.sig, v.se);
        }
        if let Some(m) = &out.memory {
            // Unmasked overflow and underflow of a store write nothing.
            let kept = env.unmasked() & (flags::OE | flags::UE) != 0;
            let expected = if kept { &memory[..m.len()] } else { m };
            wrong |= mem[..m.len()] != *expected;
        }
        wrong |= sw & out.defined != out.codes;
    } else if out.memory.is_some() {
        wrong |= mem[..10] != memory;
    } else {
        wrong |= image.st(0) != (a.sig, a.se) && text != "fxtract";
    }
    wrong.then(|| {
        let (st, ours) = (image.st(0), out.st0);
        format!(
            "{text} cw={cw:04x} a={:04x}:{:016x} b={:04x}:{:016x} m={memory:02x?}: host sw={sw:04x} st0={:04x}:{:016x} m={:02x?}, ours {:02x} c1={} {ours:x?} {:02x?} codes={:04x}",
            a.se, a.sig, b.se, b.sig, st.1, st.0, &mem[..10], env.flags, env.c1, out.memory, out.codes
        )
    })
}

fn check(text: &str, n: u64, ours: &dyn Fn(&mut Env, F80, F80) -> Out) {
    check_with(text, n, &|r| r.f80_pair(), ours);
}

type Pair = ((u64, u16), (u64, u16));

fn check_with(text: &str, n: u64, input: &dyn Fn(&mut Rng) -> Pair, ours: &dyn Fn(&mut Env, F80, F80) -> Out) {
    let run = body(text);
    let mut rng = Rng(seed() ^ text.bytes().fold(0u64, |h, b| h.wrapping_mul(131) + u64::from(b)));
    let mut wrong = 0;
    for _ in 0..n {
        let cw = control(&mut rng);
        let (a, b) = input(&mut rng);
        let (a, b) = (F80 { sig: a.0, se: a.1 }, F80 { sig: b.0, se: b.1 });
        if let Some(message) = differs(text, run, cw, a, b, [0xa5; 10], ours) {
            wrong += 1;
            if wrong <= 4 {
                eprintln!("{message}");
            }
        }
    }
    println!("{text}: {n} cases, {wrong} differ");
    assert_eq!(wrong, 0, "{text}");
}

#[test]
fn arithmetic_equals_the_host() {
    let n = cases(150_000);
    check("fadd st, st(1)", n, &|e, a, b| value(x87::add(e, &a.unpack(), &b.unpack())));
    check("fsub st, st(1)", n, &|e, a, b| value(x87::sub(e, &a.unpack(), &b.unpack())));
    check("fsubr st, st(1)", n, &|e, a, b| value(x87::sub(e, &b.unpack(), &a.unpack())));
    check("fmul st, st(1)", n, &|e, a, b| value(x87::mul(e, &a.unpack(), &b.unpack())));
    check("fdiv st, st(1)", n, &|e, a, b| value(x87::div(e, &a.unpack(), &b.unpack())));
    check("fdivr st, st(1)", n, &|e, a, b| value(x87::div(e, &b.unpack(), &a.unpack())));
    check("fsqrt", n, &|e, a, _| value(x87::sqrt(e, &a.unpack())));
}

#[test]
fn denormal_plus_pseudo_denormal_carries() {
    // Berkeley SoftFloat 3 loses the carry of this sum.
    let a = F80 { se: 0x8000, sig: 0x7288_baff_7b69_91f8 };
    let b = F80 { se: 0x8000, sig: 0xdfcd_7a80_d873_91dc };
    let mut env = Env::default();
    assert_eq!(x87::add(&mut env, &a.unpack(), &b.unpack()), F80 { se: 0x8002, sig: 0xa92b_1ac0_29ee_91ea });
    assert_eq!(env.flags & flags::DE, flags::DE);
    let ours = |e: &mut Env, a: F80, b: F80| value(x87::add(e, &a.unpack(), &b.unpack()));
    assert_eq!(differs("fadd st, st(1)", body("fadd st, st(1)"), 0x37f, a, b, [0; 10], &ours), None);
}

#[test]
fn rounding_scaling_and_extraction_equal_the_host() {
    let n = cases(150_000);
    check("frndint", n, &|e, a, _| value(x87::round_integral(e, &a.unpack())));
    check("fscale", n, &|e, a, b| value(x87::scale(e, &a.unpack(), &b.unpack())));
    let small = |r: &mut Rng| {
        let (a, b) = (r.f80(), r.f80());
        (a, (b.0, b.1 & 0x8000 | (0x3fff + r.below(17)) as u16))
    };
    check_with("fscale", n, &small, &|e, a, b| value(x87::scale(e, &a.unpack(), &b.unpack())));
    let run = |e: &mut Env, a: F80| x87::extract(e, &a.unpack());
    let mut rng = Rng(seed());
    let mut wrong = 0;
    for _ in 0..n {
        let (cw, a) = (control(&mut rng), rng.f80());
        let a = F80 { sig: a.0, se: a.1 };
        let mut image = Image::full(cw, (a.sig, a.se), (0, 0));
        image.0[4] = 0x7f;
        body("fxtract")(&mut image, &mut [0; 128], 0);
        let mut env = Env::from_control_word(cw);
        let (exponent, significand) = run(&mut env, a);
        let same = u16::from(env.flags) == image.word(2) & 0x3f
            && if env.unmasked() != 0 {
                image.st(0) == (a.sig, a.se)
            } else {
                image.st(0) == (significand.sig, significand.se) && image.st(1) == (exponent.sig, exponent.se)
            };
        if !same {
            wrong += 1;
            if wrong < 5 {
                eprintln!(
                    "fxtract cw={cw:04x} {a:x?}: host {:04x} {:x?} {:x?}, ours {:02x} {significand:x?} {exponent:x?}",
                    image.word(2),
                    image.st(0),
                    image.st(1),
                    env.flags
                );
            }
        }
    }
    println!("fxtract: {n} cases, {wrong} differ");
    assert_eq!(wrong, 0);
}

#[test]
fn remainders_equal_the_host() {
    let n = cases(150_000);
    let of = |nearest| {
        move |e: &mut Env, a: F80, b: F80| {
            let r = x87::remainder(e, &a.unpack(), &b.unpack(), nearest);
            let bit = |n: u64, c: u16| if r.quotient >> n & 1 != 0 { c } else { 0 };
            let codes = if r.partial { C2 } else { bit(0, C1) | bit(1, C3) | bit(2, C0) };
            Out { st0: Some(r.value), memory: None, codes, defined: C0 | C1 | C2 | C3 }
        }
    };
    let near = |r: &mut Rng| {
        let (a, b) = r.f80_pair();
        (a, (b.0 | 1 << 63, (a.1 & 0x7fff).wrapping_sub(r.below(130) as u16).wrapping_add(2) & 0x7fff | b.1 & 0x8000))
    };
    check("fprem", n, &of(false));
    check_with("fprem", n, &near, &of(false));
    check("fprem1", n, &of(true));
    check_with("fprem1", n, &near, &of(true));
}

fn codes(r: Relation) -> u16 {
    match r {
        Relation::Greater => 0,
        Relation::Less => C0,
        Relation::Equal => C3,
        Relation::Unordered => C0 | C2 | C3,
    }
}

#[test]
fn comparisons_equal_the_host() {
    let n = cases(150_000);
    let of = |signaling| {
        move |e: &mut Env, a: F80, b: F80| {
            let c = codes(x87::compare(e, &a.unpack(), &b.unpack(), signaling));
            Out { codes: c, defined: C0 | C2 | C3, ..Out::default() }
        }
    };
    check("fcom st(1)", n, &of(true));
    check("fucom st(1)", n, &of(false));
    check("ftst", n, &|e, a, _| {
        let c = codes(x87::compare(e, &a.unpack(), &Unpacked::zero(false), true));
        Out { codes: c, defined: C0 | C2 | C3, ..Out::default() }
    });
}

#[test]
fn stores_equal_the_host() {
    let n = cases(150_000);
    check("fst dword ptr [rsi]", n, &|e, a, _| bytes(&x87::to_f32(e, &a.unpack()).to_le_bytes()));
    check("fst qword ptr [rsi]", n, &|e, a, _| bytes(&x87::to_f64(e, &a.unpack()).to_le_bytes()));
    fn integer(bits: u32, truncate: bool) -> impl Fn(&mut Env, F80, F80) -> Out {
        move |e, a, _| {
            let rounding = if truncate { Rounding::Zero } else { e.rounding };
            let v = x87::to_int(e, &a.unpack(), rounding, bits);
            bytes(&v.to_le_bytes()[..bits as usize / 8])
        }
    }
    let near = |r: &mut Rng| {
        let (a, b) = r.f80_pair();
        ((a.0 | 1 << 63, a.1 & 0x8000 | (0x3fff - 3 + r.below(70)) as u16), b)
    };
    for (text, bits, truncate) in [
        ("fist word ptr [rsi]", 16, false),
        ("fist dword ptr [rsi]", 32, false),
        ("fistp qword ptr [rsi]", 64, false),
        ("fisttp word ptr [rsi]", 16, true),
        ("fisttp dword ptr [rsi]", 32, true),
        ("fisttp qword ptr [rsi]", 64, true),
    ] {
        let ours = integer(bits, truncate);
        let only_memory = |e: &mut Env, a: F80, b: F80| ours(e, a, b);
        check_with(text, n / 2, &|r| r.f80_pair(), &only_memory);
        check_with(text, n / 2, &near, &only_memory);
    }
    let decimal = |e: &mut Env, a: F80, _| bytes(&bcd::store(e, &a.unpack()));
    check("fbstp tbyte ptr [rsi]", n / 2, &decimal);
    check_with("fbstp tbyte ptr [rsi]", n / 2, &near, &decimal);
}

#[test]
fn decimal_loads_equal_the_host() {
    let n = cases(150_000);
    let run = body("fbld tbyte ptr [rsi]");
    let mut rng = Rng(seed());
    for _ in 0..n {
        let mut m = [0u8; 10];
        m[..8].copy_from_slice(&rng.pattern().to_le_bytes());
        m[8] = rng.next() as u8;
        m[9] = rng.next() as u8;
        if rng.next() & 1 == 0 {
            for b in &mut m[..9] {
                *b = ((*b >> 4) % 10) * 16 + (*b & 15) % 10;
            }
        }
        let ours = move |_: &mut Env, _: F80, _: F80| value(bcd::load(m));
        let one = F80::ONE;
        if let Some(message) = differs("fbld tbyte ptr [rsi]", run, control(&mut rng), one, one, m, &ours) {
            panic!("{message}");
        }
    }
    println!("fbld: {n} cases, 0 differ");
}

#[test]
fn memory_operands_equal_the_host() {
    let n = cases(150_000);
    let mut rng = Rng(seed());
    for _ in 0..n {
        let (cw, a) = (control(&mut rng), rng.f80());
        let a = F80 { sig: a.0, se: a.1 };
        let mut m = [0u8; 10];
        let wide = rng.ieee(52, 11);
        let narrow = rng.ieee(23, 8) as u32;
        m[..8].copy_from_slice(&wide.to_le_bytes());
        let text = "fmul qword ptr [rsi]";
        let ours = |e: &mut Env, a: F80, _: F80| value(x87::mul(e, &a.unpack(), &x87::unpack_f64(wide)));
        if let Some(message) = differs(text, body(text), cw, a, a, m, &ours) {
            panic!("{message}");
        }
        m[..4].copy_from_slice(&narrow.to_le_bytes());
        let text = "fadd dword ptr [rsi]";
        let ours = |e: &mut Env, a: F80, _: F80| value(x87::add(e, &a.unpack(), &x87::unpack_f32(narrow)));
        if let Some(message) = differs(text, body(text), cw, a, a, m, &ours) {
            panic!("{message}");
        }
    }
    println!("fmul m64, fadd m32: {n} cases each, 0 differ");
}

#[test]
fn constants_equal_the_host() {
    for (text, which) in [
        ("fldpi", Constant::Pi),
        ("fldl2t", Constant::Log2Ten),
        ("fldl2e", Constant::Log2E),
        ("fldlg2", Constant::Log10Two),
        ("fldln2", Constant::LnTwo),
    ] {
        for cw in [0x37f, 0x77f, 0xb7f, 0xf7f, 0x07f] {
            let one = F80::ONE;
            let ours = |e: &mut Env, _: F80, _: F80| value(x87::constant(e.rounding, which));
            assert_eq!(differs(text, body(text), cw, one, one, [0; 10], &ours), None);
        }
    }
}

/// Ulps between two numbers of the same sign, saturated.
fn ulps(a: F80, b: F80) -> u64 {
    if a.se >> 15 != b.se >> 15 {
        return u64::MAX;
    }
    let order = |x: F80| u128::from(x.se & 0x7fff) << 63 | u128::from(x.sig << 1 >> 1);
    u64::try_from(order(a).abs_diff(order(b))).unwrap_or(u64::MAX)
}

#[test]
fn transcendentals_are_within_an_ulp_of_the_host() {
    use tabvisor_core::float::elementary as el;
    type Ours = fn(&mut Env, &Unpacked, &Unpacked) -> (F80, Option<F80>);
    let n = cases(40_000);
    let ops: [(&str, Ours, i32, i32); 8] = [
        ("fsin", |e, a, _| (el::sin(e, a), None), -70, 62),
        ("fcos", |e, a, _| (el::cos(e, a), None), -70, 62),
        (
            "fsincos",
            |e, a, _| {
                let t = el::sin_cos(e, a);
                (t.second, Some(t.first))
            },
            -70,
            62,
        ),
        (
            "fptan",
            |e, a, _| {
                let t = el::tan(e, a);
                (t.second, Some(t.first))
            },
            -70,
            62,
        ),
        ("fpatan", |e, a, b| (el::atan2(e, b, a), None), -70, 70),
        ("f2xm1", |e, a, _| (el::exp2_minus_1(e, a), None), -80, -1),
        ("fyl2x", |e, a, b| (el::y_log2(e, b, a), None), -70, 70),
        ("fyl2xp1", |e, a, b| (el::y_log2_plus_1(e, b, a), None), -70, -3),
    ];
    for (text, ours, least, most) in ops {
        let run = body(text);
        let mut rng = Rng(seed());
        let (mut equal, mut one, mut more, mut flag, mut total, mut c1) = (0, 0, 0, 0, 0, 0);
        let (mut sequal, mut smore) = (0, 0);
        for i in 0..n {
            let special = i % 4 == 0;
            let cw = if special { control(&mut rng) } else { 0x37f | (rng.next() as u16 & 3) << 10 };
            let (mut a, mut b) = rng.f80_pair();
            if !special {
                let e = 0x3fff + least + rng.below((most - least + 1) as u64) as i32;
                let sign = if text == "fyl2x" { 0 } else { a.1 & 0x8000 };
                a = (a.0 | 1 << 63, sign | e as u16);
                b = (b.0 | 1 << 63, b.1 & 0x8000 | (0x3fff - 40 + rng.below(80)) as u16);
                if i % 4 == 1 && text == "fyl2x" {
                    a.1 = 0x3fff - (i >> 2 & 1) as u16;
                    if a.1 == 0x3ffe {
                        a.0 |= rng.next() | 0xfff << 52
                    } else {
                        a.0 = 1 << 63 | a.0 << 1 >> (2 + rng.below(60))
                    };
                }
            }
            let (a, b) = (F80 { sig: a.0, se: a.1 }, F80 { sig: b.0, se: b.1 });
            if matches!(text, "fsin" | "fcos" | "fsincos" | "fptan") && !el::in_range(&a.unpack()) {
                continue;
            }
            let mut image = Image::full(cw, (a.sig, a.se), (b.sig, b.se));
            image.0[4] = 0x7f;
            run(&mut image, &mut [0; 128], 0);
            let mut env = Env::from_control_word(cw);
            let (first, second) = ours(&mut env, &a.unpack(), &b.unpack());
            let at = |k: usize| {
                let v = image.st(k);
                F80 { sig: v.0, se: v.1 }
            };
            let mut off = 0;
            if env.unmasked() & flags::BEFORE == 0 {
                off = ulps(first, at(0));
                if let Some(s) = second {
                    off = off.max(ulps(s, at(1)));
                }
            }
            let host_flags = image.word(2) & 0x3f;
            let flags_differ = u16::from(env.flags) != host_flags;
            flag += u64::from(flags_differ);
            if special {
                sequal += u64::from(off == 0);
                smore += u64::from(off > 1);
            } else {
                total += 1;
                equal += u64::from(off == 0);
                one += u64::from(off == 1);
                more += u64::from(off > 1);
                c1 += u64::from(off == 0 && env.c1 == (image.word(2) & C1 != 0));
            }
            if off > 1 && more + smore < 8 || flags_differ && flag < 8 {
                eprintln!(
                    "{text} cw={cw:04x} a={:04x}:{:016x} b={:04x}:{:016x}: host sw={:04x} {:x?} {:x?}, ours {:02x} {first:x?} {second:x?}",
                    a.se,
                    a.sig,
                    b.se,
                    b.sig,
                    image.word(2),
                    at(0),
                    at(1),
                    env.flags
                );
            }
        }
        println!(
            "{text}: {total} cases, {equal} equal, {one} one ulp off, {more} more; C1 alike in {c1}; special: {sequal} equal, {smore} more than one ulp; flags differ {flag}"
        );
        assert_eq!((more, smore), (0, 0), "{text}: more than one ulp");
        if !host::is_reference_make() {
            continue;
        }
        // FPTAN is the least exact one of the host's.
        assert!(equal * 10 >= total * 7, "{text}: {equal} of {total} equal");
        assert_eq!(flag, 0, "{text}: flags");
    }
}
