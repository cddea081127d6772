//! The whole x87 unit against the host: one instruction from a random state, full image compared.
//!
//! `TABVISOR_FLOAT_CASES=1000000 cargo test --release --test fpu_host` for the long run (cases
//! per instruction form).
#![cfg(target_arch = "x86_64")]

mod host;

use host::x87::{BODIES, Body, Image};
use host::{Rng, cases, seed};
use tabvisor_core::cpu::fpu::{Arith, Eflags, Fpu, Layout, Operand, Store};
use tabvisor_core::float::F80;
use tabvisor_core::float::x87::Constant;

type Memory = [u8; 128];

fn take<const N: usize>(m: &Memory) -> [u8; N] {
    m[..N].try_into().expect("memory is longer")
}

fn write<T>(f: &mut Fpu, m: &mut Memory, s: Store<T>, bytes: impl Fn(T) -> Vec<u8>)
where
    T: Copy,
{
    if let Some(v) = s.value {
        let b = bytes(v);
        m[..b.len()].copy_from_slice(&b);
    }
    f.commit(s);
}

fn integer(f: &mut Fpu, m: &mut Memory, s: Store<i64>, size: usize) {
    write(f, m, s, |v| v.to_le_bytes()[..size].to_vec());
}

fn arith_of(name: &str) -> Option<Arith> {
    Some(match name {
        "add" => Arith::Add,
        "mul" => Arith::Mul,
        "sub" => Arith::Sub,
        "subr" => Arith::SubR,
        "div" => Arith::Div,
        "divr" => Arith::DivR,
        _ => return None,
    })
}

fn register(text: &str) -> u8 {
    text.trim_start_matches("st(").trim_end_matches(')').parse().unwrap_or(0)
}

const ZF: u64 = 0x40;
const PF: u64 = 4;
const CF: u64 = 1;
const ARITHMETIC: u64 = 0x8d5;

fn set_flags(flags: &mut u64, e: Eflags) {
    *flags &= !ARITHMETIC;
    *flags |= if e.zf { ZF } else { 0 } | if e.pf { PF } else { 0 } | if e.cf { CF } else { 0 };
}

/// Execute the instruction with this text on ours.
fn model(text: &str, f: &mut Fpu, m: &mut Memory, flags: &mut u64) {
    let (name, operands) = text.split_once(' ').unwrap_or((text, ""));
    let memory = |m: &Memory| match operands {
        "dword ptr [rsi]" if name.starts_with("fi") => Operand::I32(i32::from_le_bytes(take(m))),
        "word ptr [rsi]" => Operand::I16(i16::from_le_bytes(take(m))),
        "dword ptr [rsi]" => Operand::F32(u32::from_le_bytes(take(m))),
        "qword ptr [rsi]" => Operand::F64(u64::from_le_bytes(take(m))),
        other => Operand::St(register(other.trim_start_matches("st, "))),
    };
    let short = name.trim_start_matches("fi").trim_start_matches('f');
    if let Some(op) = arith_of(short) {
        match operands.strip_suffix(", st") {
            Some(dst) => f.arith_to(op, register(dst), false),
            None => f.arith(op, memory(m)),
        }
        return;
    }
    if let Some(op) = short.strip_suffix('p').and_then(arith_of) {
        f.arith_to(op, register(operands.trim_end_matches(", st")), true);
        return;
    }
    if let Some(condition) = name.strip_prefix("fcmov") {
        let (z, p, c) = (*flags & ZF != 0, *flags & PF != 0, *flags & CF != 0);
        let holds = match condition.trim_start_matches('n') {
            "b" => c,
            "e" => z,
            "be" => c || z,
            _ => p,
        };
        f.fcmov(holds != condition.starts_with('n'), 2);
        return;
    }
    let env_layout = if text.starts_with(".byte 0x66") { Layout::Protected16 } else { Layout::Protected32 };
    match text.trim_start_matches(".byte 0x66; ") {
        "nop" | "fnop" => {}
        "fcompp" => f.fcom(Operand::St(1), 2),
        "fucompp" => f.fucom(1, 2),
        "ftst" => f.ftst(),
        "fxam" => f.fxam(),
        "fabs" => f.fabs(),
        "fchs" => f.fchs(),
        "fincstp" => f.fincstp(),
        "fdecstp" => f.fdecstp(),
        ".byte 0xdf, 0xc2" => f.ffreep(2),
        "fld tbyte ptr [rsi]" => f.fld_f80(F80::from_bytes(take(m))),
        "fbld tbyte ptr [rsi]" => f.fbld(take(m)),
        "fild word ptr [rsi]" => f.fild(i64::from(i16::from_le_bytes(take(m)))),
        "fild dword ptr [rsi]" => f.fild(i64::from(i32::from_le_bytes(take(m)))),
        "fild qword ptr [rsi]" => f.fild(i64::from_le_bytes(take(m))),
        "fld dword ptr [rsi]" => f.fld_f32(u32::from_le_bytes(take(m))),
        "fld qword ptr [rsi]" => f.fld_f64(u64::from_le_bytes(take(m))),
        "fst dword ptr [rsi]" => write(f, m, f.fst_f32(false), |v| v.to_le_bytes().to_vec()),
        "fst qword ptr [rsi]" => write(f, m, f.fst_f64(false), |v| v.to_le_bytes().to_vec()),
        "fstp dword ptr [rsi]" => write(f, m, f.fst_f32(true), |v| v.to_le_bytes().to_vec()),
        "fstp qword ptr [rsi]" => write(f, m, f.fst_f64(true), |v| v.to_le_bytes().to_vec()),
        "fstp tbyte ptr [rsi]" => write(f, m, f.fstp_f80(), |v| v.to_bytes().to_vec()),
        "fist word ptr [rsi]" => integer(f, m, f.fist_i16(false), 2),
        "fist dword ptr [rsi]" => integer(f, m, f.fist_i32(false), 4),
        "fistp word ptr [rsi]" => integer(f, m, f.fist_i16(true), 2),
        "fistp dword ptr [rsi]" => integer(f, m, f.fist_i32(true), 4),
        "fistp qword ptr [rsi]" => integer(f, m, f.fistp_i64(), 8),
        "fisttp word ptr [rsi]" => integer(f, m, f.fisttp_i16(), 2),
        "fisttp dword ptr [rsi]" => integer(f, m, f.fisttp_i32(), 4),
        "fisttp qword ptr [rsi]" => integer(f, m, f.fisttp_i64(), 8),
        "fbstp tbyte ptr [rsi]" => write(f, m, f.fbstp(), |v| v.to_vec()),
        "fsqrt" => f.fsqrt(),
        "frndint" => f.frndint(),
        "fscale" => f.fscale(),
        "fxtract" => f.fxtract(),
        "fprem" => f.fprem(false),
        "fprem1" => f.fprem(true),
        "f2xm1" => f.f2xm1(),
        "fyl2x" => f.fyl2x(),
        "fyl2xp1" => f.fyl2xp1(),
        "fpatan" => f.fpatan(),
        "fptan" => f.fptan(),
        "fsin" => f.fsin(),
        "fcos" => f.fcos(),
        "fsincos" => f.fsincos(),
        "fld1" => f.fld1(),
        "fldz" => f.fldz(),
        "fldpi" => f.fld_constant(Constant::Pi),
        "fldl2t" => f.fld_constant(Constant::Log2Ten),
        "fldl2e" => f.fld_constant(Constant::Log2E),
        "fldlg2" => f.fld_constant(Constant::Log10Two),
        "fldln2" => f.fld_constant(Constant::LnTwo),
        "fninit" => f.fninit(),
        "fnclex" => f.fnclex(),
        "fldcw word ptr [rsi]" => f.fldcw(u16::from_le_bytes(take(m))),
        "fnstcw word ptr [rsi]" => m[..2].copy_from_slice(&f.control_word().to_le_bytes()),
        "fnstsw word ptr [rsi]" => m[..2].copy_from_slice(&f.status_word().to_le_bytes()),
        "fnstenv [rsi]" => {
            let n = env_layout.env_len();
            m[..n].copy_from_slice(&f.fnstenv(env_layout)[..n]);
            f.fnstenv_commit();
        }
        "fldenv [rsi]" => f.fldenv(env_layout, &take(m)),
        "fnsave [rsi]" => {
            let n = env_layout.state_len();
            m[..n].copy_from_slice(&f.fnsave(env_layout)[..n]);
            f.fninit();
        }
        "frstor [rsi]" => f.frstor(env_layout, &take(m)),
        "emms" => f.emms(),
        "movq mm3, qword ptr [rsi]" => {
            f.enter_mmx();
            f.set_mm(3, u64::from_le_bytes(take(m)));
        }
        "movq qword ptr [rsi], mm5" => {
            f.enter_mmx();
            m[..8].copy_from_slice(&f.mm(5).to_le_bytes());
        }
        "paddb mm1, mm2" => {
            let (a, b) = (f.mm(1).to_le_bytes(), f.mm(2).to_le_bytes());
            f.enter_mmx();
            f.set_mm(1, u64::from_le_bytes(std::array::from_fn(|i| a[i].wrapping_add(b[i]))));
        }
        _ => match name {
            "fcom" => f.fcom(memory(m), 0),
            "fcomp" => f.fcom(memory(m), 1),
            "ficom" => f.fcom(memory(m), 0),
            "ficomp" => f.fcom(memory(m), 1),
            "fucom" => f.fucom(register(operands), 0),
            "fucomp" => f.fucom(register(operands), 1),
            "fcomi" => set_flags(flags, f.fcomi(register(&operands[4..]), false, false)),
            "fcomip" => set_flags(flags, f.fcomi(register(&operands[4..]), false, true)),
            "fucomi" => set_flags(flags, f.fcomi(register(&operands[4..]), true, false)),
            "fucomip" => set_flags(flags, f.fcomi(register(&operands[4..]), true, true)),
            "fxch" => f.fxch(register(operands)),
            "ffree" => f.ffree(register(operands)),
            "fld" => f.fld_st(register(operands)),
            "fst" => f.fst_st(register(operands), false),
            "fstp" => f.fst_st(register(operands), true),
            _ => panic!("no model for {text}"),
        },
    }
}

fn no_wait(text: &str) -> bool {
    matches!(
        text.trim_start_matches(".byte 0x66; "),
        "nop"
            | "fninit"
            | "fnclex"
            | "fnstcw word ptr [rsi]"
            | "fnstsw word ptr [rsi]"
            | "fnstenv [rsi]"
            | "fnsave [rsi]"
    )
}

fn random_image(rng: &mut Rng, text: &str) -> Image {
    let mut image = Image::default();
    let r = rng.next();
    let masks = match r & 3 {
        0 => (r >> 8) as u16 & 0x3f,
        1 => 0x3f ^ 1 << (r >> 8 & 7),
        _ => 0x3f,
    } & 0x3f;
    let mut cw = 0x40 | masks | (r >> 16) as u16 & 0x1f00;
    let mut sw = (r >> 32) as u16 & 0x7f7f;
    if no_wait(text) {
        cw = rng.next() as u16;
        sw = rng.next() as u16;
    } else {
        if r >> 60 & 3 != 0 {
            sw &= !0x7f;
        }
        sw &= !(!masks & 0x3f);
    }
    image.set_word(0, cw);
    image.set_word(2, sw);
    image.0[4] = match r >> 48 & 7 {
        0 => 0xff,
        1 => 0,
        2 => rng.next() as u8,
        // Two or more valid from the top, the rest empty: the common case.
        _ => {
            let top = u32::from(sw >> 11 & 7);
            (0xffu8 >> rng.below(7)).rotate_left(top)
        }
    };
    // Opcode and pointers, within 47 bits.
    image.set_word(6, rng.next() as u16 & 0x7ff);
    image.0[8..16].copy_from_slice(&(rng.next() >> 17).to_le_bytes());
    image.0[16..24].copy_from_slice(&(rng.next() >> 17).to_le_bytes());
    let (a, b) = rng.f80_pair();
    image.set_st(0, a);
    image.set_st(1, b);
    for i in 2..8 {
        image.set_st(i, rng.f80());
    }
    image
}

fn random_memory(rng: &mut Rng, text: &str) -> Memory {
    let mut m = [0u8; 128];
    for chunk in m.chunks_exact_mut(8) {
        chunk.copy_from_slice(&rng.pattern().to_le_bytes());
    }
    let f80 = rng.f80();
    if text.contains("dword ptr") && !text.starts_with("fi") {
        m[..4].copy_from_slice(&(rng.ieee(23, 8) as u32).to_le_bytes());
    } else if text.contains("qword ptr") && !text.starts_with("fi") {
        m[..8].copy_from_slice(&rng.ieee(52, 11).to_le_bytes());
    } else if text == "fld tbyte ptr [rsi]" {
        m[..8].copy_from_slice(&f80.0.to_le_bytes());
        m[8..10].copy_from_slice(&f80.1.to_le_bytes());
    } else if text.contains("frstor") || text.contains("fldenv") {
        m[..108].iter_mut().for_each(|b| *b = rng.next() as u8);
    }
    m
}

fn is_transcendental(text: &str) -> bool {
    matches!(text, "fsin" | "fcos" | "fsincos" | "fptan" | "fpatan" | "f2xm1" | "fyl2x" | "fyl2xp1")
}

/// Registers equal, or for a transcendental within one ulp.
fn near(text: &str, a: (u64, u16), b: (u64, u16)) -> bool {
    let order = |x: (u64, u16)| u128::from(x.1 & 0x7fff) << 63 | u128::from(x.0 << 1 >> 1);
    a == b || is_transcendental(text) && a.1 >> 15 == b.1 >> 15 && order(a).abs_diff(order(b)) <= 1
}

/// Instructions that leave opcode and pointers alone, or set them. AMD's FXSAVE shows them only
/// while an exception is pending (XSaveErPtr), Intel's always; ours is Intel's.
fn defines_pointers(text: &str) -> bool {
    no_wait(text) || text.contains("fldenv") || text.contains("frstor") || text.contains("fldcw")
}

fn images_differ(text: &str, ours: &Image, host: &Image) -> bool {
    if defines_pointers(text) && host.word(2) & 0x80 != 0 && ours.0[6..24] != host.0[6..24] {
        return true;
    }
    let c1 = if is_transcendental(text) { 0x200 } else { 0 };
    ours.word(0) != host.word(0)
        || (ours.word(2) ^ host.word(2)) & !c1 != 0
        || ours.0[4] != host.0[4]
        || (0..8).any(|i| !near(text, ours.st(i), host.st(i)))
}

fn describe(i: &Image) -> String {
    let regs: Vec<String> = (0..8).map(|k| format!("{:04x}:{:016x}", i.st(k).1, i.st(k).0)).collect();
    format!(
        "cw={:04x} sw={:04x} tags={:02x} {} pointers {:02x?}",
        i.word(0),
        i.word(2),
        i.0[4],
        regs.join(" "),
        &i.0[6..24]
    )
}

/// Run one instruction on the host and on ours from the same state. The host's state after it,
/// or what differs.
fn step(text: &str, run: Body, before: &Image, memory: &Memory, flags: u64) -> Result<Image, String> {
    let reference = || {
        let (mut image, mut memory) = (*before, *memory);
        let flags = run(&mut image, &mut memory, 0x202 | flags) & ARITHMETIC;
        (image, memory, flags)
    };
    let mut fpu = Fpu::default();
    fpu.fxrstor(&before.0, true);
    let (mut ours_memory, mut ours_flags) = (*memory, flags);
    model(text, &mut fpu, &mut ours_memory, &mut ours_flags);
    let mut ours = *before;
    fpu.fxsave(&mut ours.0, true);

    let mut message = String::new();
    // A context switch on AMD drops the pointers while no exception is pending: ask twice.
    for _ in 0..2 {
        let (host, host_memory, host_flags) = reference();
        if text.contains("fnstenv") || text.contains("fnsave") {
            // The host stores its own selectors.
            let size = if text.starts_with('.') { 2 } else { 4 };
            for field in [4, 6] {
                ours_memory[field * size..][..2].copy_from_slice(&host_memory[field * size..][..2]);
            }
        }
        if !images_differ(text, &ours, &host) && ours_memory == host_memory && ours_flags == host_flags {
            return Ok(host);
        }
        message = format!(
            "{text}: flags {flags:x} memory {:02x?}\n  from {}\n  host {}\n  ours {}\n  host {host_flags:x} {:02x?}\n  ours {ours_flags:x} {:02x?}",
            &memory[..10],
            describe(before),
            describe(&host),
            describe(&ours),
            &host_memory[..28],
            &ours_memory[..28]
        );
    }
    Err(message)
}

#[test]
fn every_instruction_equals_the_host_from_random_states() {
    if !host::is_reference_make() {
        return println!("not run: full images include what the manuals leave undefined, as AMD has it");
    }
    let n = cases(6_000);
    let only = std::env::var("TABVISOR_FLOAT_ONLY").ok();
    let mut failed = Vec::new();
    let mut total = 0;
    for (text, run) in BODIES {
        if only.as_ref().is_some_and(|o| o != text) {
            continue;
        }
        let mut rng = Rng(seed() ^ text.bytes().fold(0u64, |h, b| h.wrapping_mul(131) + u64::from(b)));
        let mut wrong = 0;
        for _ in 0..n {
            let before = random_image(&mut rng, text);
            let memory = random_memory(&mut rng, text);
            if let Err(message) = step(text, *run, &before, &memory, rng.next() & ARITHMETIC) {
                wrong += 1;
                if wrong <= 2 {
                    eprintln!("{message}");
                }
            }
        }
        total += n;
        if wrong != 0 {
            failed.push(format!("{text}: {wrong}"));
        }
    }
    println!("{} instruction forms, {total} cases", BODIES.len());
    assert!(failed.is_empty(), "differ from the host, of {n} each: {failed:#?}");
}

#[test]
fn sequences_of_instructions_equal_the_host() {
    if !host::is_reference_make() {
        return println!("not run: full images include what the manuals leave undefined, as AMD has it");
    }
    let n = cases(6_000);
    let mut rng = Rng(seed() ^ 0x5e9);
    let (mut steps, mut longest) = (0u64, 0);
    for _ in 0..n {
        let mut state = random_image(&mut rng, "");
        for length in 0..48 {
            let (text, run) = BODIES[rng.below(BODIES.len() as u64) as usize];
            // A pending exception would fault; these reset the unit, which ends the fun.
            if state.word(2) & 0x80 != 0 || matches!(text, "fninit" | "emms") || text.contains("fnsave") {
                continue;
            }
            let memory = random_memory(&mut rng, text);
            state = match step(text, run, &state, &memory, rng.next() & ARITHMETIC) {
                Ok(host) => host,
                Err(message) => panic!("after {length} steps: {message}"),
            };
            if state.word(2) & 0x80 != 0 {
                // As a handler would.
                state.set_word(2, state.word(2) & 0x7f00);
            }
            steps += 1;
            longest = longest.max(length);
        }
    }
    println!("{n} sequences, {steps} steps, the longest {longest}");
}
