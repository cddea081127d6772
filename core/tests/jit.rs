//! Compiled code against the interpreter: the same programs, the same state.

mod guest;
mod wasm;

use guest::{CODE, DATA, Guest, TABLES};
use iced_x86::code_asm::*;
use tabvisor_core::jit::Stats;
use tabvisor_core::vcpu::CpuExit;

#[global_allocator]
static GLOBAL: wasm::Global = wasm::Global::new();

/// Runs a program interpreted and compiled; both have to end in the same state.
fn same(what: &str, long: bool, program: impl Fn(&mut CodeAssembler)) {
    run(what, long, program);
}

/// As [`same`]; and no instruction may be called.
fn all_compiled(what: &str, long: bool, program: impl Fn(&mut CodeAssembler)) {
    let stats = run(what, long, program);
    assert_eq!(stats.called, 0, "{what}: {stats:?}");
}

fn run(what: &str, long: bool, program: impl Fn(&mut CodeAssembler)) -> Stats {
    let mut a = CodeAssembler::new(if long { 64 } else { 32 }).unwrap();
    program(&mut a);
    let code = a.assemble(CODE).unwrap();
    let [plain, compiled] = [false, true].map(|jit| {
        let mut g = if long { Guest::long() } else { Guest::protected() };
        if jit {
            g.vcpu.set_code_host(Box::new(wasm::Wasmi::new()));
            g.vcpu.jit().unwrap().set_hot(1);
        }
        let end = g.run_code(&code);
        let c = &mut g.vcpu.cpu;
        let flags = c.rflags_image();
        let state = (end, c.rip, flags, c.regs[..16].to_vec(), (c.xmm, c.mxcsr, c.fpu.clone()), c.retired());
        let mut data = vec![0; 1 << 16];
        g.ram.read(DATA, &mut data);
        let stats = g.vcpu.jit().map(|j| j.stats);
        (state, data, stats)
    });
    let stats = compiled.2.unwrap();
    assert_eq!(plain.0, compiled.0, "{what}: {stats:?}");
    assert!(plain.1 == compiled.1, "{what}: memory differs, {stats:?}");
    assert!(
        stats.retired > plain.0.5 / 2,
        "{what}: {} of {} instructions compiled: {stats:?}",
        stats.retired,
        plain.0.5
    );
    stats
}

#[test]
fn a_loop_of_arithmetic() {
    same("64 bits", true, |a| {
        let mut again = a.create_label();
        a.mov(rcx, 30_000u64).unwrap();
        a.mov(rax, 0x1234_5678_9abc_def0u64).unwrap();
        a.set_label(&mut again).unwrap();
        a.add(rax, rcx).unwrap();
        a.rol(rax, 7).unwrap();
        a.xor(edx, eax).unwrap();
        a.imul_3(rbx, rax, 37).unwrap();
        a.sbb(rsi, rbx).unwrap();
        a.adc(edi, esi).unwrap();
        a.bswap(rbx).unwrap();
        a.shr(ebx, 3).unwrap();
        a.sub(r8w, bx).unwrap();
        a.inc(r9b).unwrap();
        a.setc(r10b).unwrap();
        a.cmovs(r11, rax).unwrap();
        a.dec(rcx).unwrap();
        a.jne(again).unwrap();
    });
}

#[test]
fn a_loop_over_memory() {
    for long in [true, false] {
        same("memory", long, |a| {
            let mut outer = a.create_label();
            let mut inner = a.create_label();
            a.mov(ebx, 20u32).unwrap();
            a.set_label(&mut outer).unwrap();
            a.mov(ecx, 1000u32).unwrap();
            a.mov(esi, DATA as u32).unwrap();
            a.set_label(&mut inner).unwrap();
            if long {
                a.mov(eax, dword_ptr(rsi)).unwrap();
                a.add(eax, ecx).unwrap();
                a.mov(dword_ptr(rsi), eax).unwrap();
                a.add(word_ptr(rsi + 8), bx).unwrap();
                a.inc(byte_ptr(rsi + rcx * 2 + 3)).unwrap();
                a.movzx(edx, byte_ptr(rsi + 1)).unwrap();
                a.cmp(dl, byte_ptr(rsi + 2)).unwrap();
                a.add(rsi, 4).unwrap();
            } else {
                a.mov(eax, dword_ptr(esi)).unwrap();
                a.add(eax, ecx).unwrap();
                a.mov(dword_ptr(esi), eax).unwrap();
                a.add(word_ptr(esi + 8), bx).unwrap();
                a.inc(byte_ptr(esi + ecx * 2 + 3)).unwrap();
                a.movzx(edx, byte_ptr(esi + 1)).unwrap();
                a.cmp(dl, byte_ptr(esi + 2)).unwrap();
                a.add(esi, 4).unwrap();
            }
            a.seta(dh).unwrap();
            a.add(edi, edx).unwrap();
            a.dec(ecx).unwrap();
            a.jne(inner).unwrap();
            a.dec(ebx).unwrap();
            a.jne(outer).unwrap();
        });
    }
}

#[test]
fn what_happens_seldom_is_nothing_to_compile_again_for() {
    // Two accesses next to each other that are not in one page, once in so many instructions.
    let regions = |pause: u32| {
        let stats = run("seldom", true, |a| {
            let (mut again, mut wait) = (a.create_label(), a.create_label());
            a.mov(edx, 400u32).unwrap();
            a.mov(ebx, DATA as u32 + 0xffc).unwrap();
            a.set_label(&mut again).unwrap();
            a.add(eax, dword_ptr(rbx)).unwrap();
            a.add(eax, dword_ptr(rbx + 4)).unwrap();
            a.mov(ecx, pause).unwrap();
            a.set_label(&mut wait).unwrap();
            a.dec(ecx).unwrap();
            a.jnz(wait).unwrap();
            a.dec(edx).unwrap();
            a.jnz(again).unwrap();
        });
        stats.regions
    };
    assert_eq!([30, 100, 1_200].map(regions), [2, 2, 1]);
}

#[test]
fn accesses_near_each_other_also_across_pages() {
    // A run of accesses from one register, and pushes, at all places around the ends of pages.
    for long in [true, false] {
        same("near", long, |a| {
            let mut again = a.create_label();
            a.mov(ecx, 30_000u32).unwrap();
            a.mov(esi, DATA as u32 + 0x2000).unwrap();
            a.set_label(&mut again).unwrap();
            a.mov(ebx, ecx).unwrap();
            a.imul_3(ebx, ebx, 77).unwrap();
            a.and(ebx, 0x1fff).unwrap();
            a.add(ebx, DATA as u32 + 0x1000).unwrap();
            a.mov(ebp, esp).unwrap();
            if long {
                a.mov(qword_ptr(rbx + 24), rcx).unwrap();
                a.mov(rax, qword_ptr(rbx - 40)).unwrap();
                a.add(dword_ptr(rbx + 8), ecx).unwrap();
                a.xor(rdx, rax).unwrap();
                a.add(rdx, qword_ptr(rbx)).unwrap();
                a.lea(rsp, rbx + 64).unwrap();
                a.push(rdx).unwrap();
                a.push(rcx).unwrap();
                a.mov(edi, dword_ptr(rsp + 12)).unwrap();
                a.pop(rax).unwrap();
                a.movups(xmm0, xmmword_ptr(rbx - 16)).unwrap();
                a.mov(r8, rbx).unwrap();
                a.add(r8, 100).unwrap();
                a.movups(xmmword_ptr(r8 - 60), xmm0).unwrap();
                a.mov(al, byte_ptr(rbx + rcx * 2 - 60_000 + 7)).unwrap();
                a.add(al, byte_ptr(rbx + rcx * 2 - 60_000 + 9)).unwrap();
                a.mov(byte_ptr(rsi), al).unwrap();
                a.mov(rsp, rbp).unwrap();
            } else {
                a.mov(dword_ptr(ebx + 24), ecx).unwrap();
                a.mov(eax, dword_ptr(ebx - 40)).unwrap();
                a.add(dword_ptr(ebx + 8), ecx).unwrap();
                a.xor(edx, eax).unwrap();
                a.add(edx, dword_ptr(ebx)).unwrap();
                a.lea(esp, ebx + 64).unwrap();
                a.push(edx).unwrap();
                a.push(ecx).unwrap();
                a.mov(di, word_ptr(esp + 6)).unwrap();
                a.pop(eax).unwrap();
                a.movups(xmm0, xmmword_ptr(ebx - 16)).unwrap();
                a.movups(xmmword_ptr(ebx + 40), xmm0).unwrap();
                a.mov(al, byte_ptr(ebx + ecx * 2 - 60_000 + 7)).unwrap();
                a.add(al, byte_ptr(ebx + ecx * 2 - 60_000 + 9)).unwrap();
                a.mov(byte_ptr(esi), al).unwrap();
                a.mov(esp, ebp).unwrap();
            }
            a.dec(ecx).unwrap();
            a.jne(again).unwrap();
        });
    }
}

#[test]
fn accesses_near_one_before_a_branch() {
    // What the TLB is asked for before it covers both ways.
    for long in [true, false] {
        same("near", long, |a| {
            let [mut again, mut second, mut third, mut join] = [(); 4].map(|()| a.create_label());
            a.mov(ecx, 30_000u32).unwrap();
            a.set_label(&mut again).unwrap();
            a.imul_3(ebx, ecx, 77).unwrap();
            a.and(ebx, 0x1fff).unwrap();
            a.add(ebx, DATA as u32 + 0x1000).unwrap();
            let at = |distance: i32| if long { dword_ptr(rbx + distance) } else { dword_ptr(ebx + distance) };
            a.add(eax, at(0)).unwrap();
            a.test(cl, 4).unwrap();
            a.je(second).unwrap();
            a.add(edx, at(-40)).unwrap();
            a.test(cl, 8).unwrap();
            a.je(third).unwrap();
            a.add(edx, at(60)).unwrap();
            a.add(at(64), ecx).unwrap();
            a.jmp(join).unwrap();
            a.set_label(&mut second).unwrap();
            a.xor(edx, at(200)).unwrap();
            a.mov(at(8), edx).unwrap();
            a.jmp(join).unwrap();
            a.set_label(&mut third).unwrap();
            a.xor(edx, at(-120)).unwrap();
            a.mov(at(-20), edx).unwrap();
            a.set_label(&mut join).unwrap();
            a.dec(ecx).unwrap();
            a.jne(again).unwrap();
        });
    }
}

#[test]
fn calls_and_returns() {
    for long in [true, false] {
        same("fib", long, |a| {
            let [mut fib, mut small] = [(); 2].map(|()| a.create_label());
            a.mov(ecx, 17u32).unwrap();
            a.call(fib).unwrap();
            a.mov(ebx, eax).unwrap();
            let mut end = a.create_label();
            a.jmp(end).unwrap();
            a.set_label(&mut fib).unwrap();
            a.cmp(ecx, 2).unwrap();
            a.jb(small).unwrap();
            if long {
                a.push(rcx).unwrap();
            } else {
                a.push(ecx).unwrap();
            }
            a.sub(ecx, 1).unwrap();
            a.call(fib).unwrap();
            if long {
                a.pop(rcx).unwrap();
                a.push(rax).unwrap();
            } else {
                a.pop(ecx).unwrap();
                a.push(eax).unwrap();
            }
            a.sub(ecx, 2).unwrap();
            a.call(fib).unwrap();
            if long {
                a.pop(rdx).unwrap();
            } else {
                a.pop(edx).unwrap();
            }
            a.add(eax, edx).unwrap();
            a.ret().unwrap();
            a.set_label(&mut small).unwrap();
            a.mov(eax, ecx).unwrap();
            a.ret().unwrap();
            a.set_label(&mut end).unwrap();
            a.nop().unwrap();
        });
    }
}

#[test]
fn calls_without_tail_calls() {
    // A function that no region has, because it is called by a register.
    let code = |a: &mut CodeAssembler| {
        let mut again = a.create_label();
        a.xor(edx, edx).unwrap();
        a.mov(ecx, 100_000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(eax, ecx).unwrap();
        a.mov(rbx, DATA + 0x8000).unwrap();
        a.call(rbx).unwrap();
        a.add(edx, eax).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    };
    let mut a = CodeAssembler::new(64).unwrap();
    code(&mut a);
    let program = a.assemble(CODE).unwrap();
    let hops = [true, false].map(|tail_calls| {
        let mut g = Guest::long();
        // imul eax, eax, 3; ret
        g.ram.write(DATA + 0x8000, &[0x6b, 0xc0, 3, 0xc3]);
        let mut host = wasm::Wasmi::new();
        host.limits.tail_calls = tail_calls;
        g.vcpu.set_code_host(Box::new(host));
        g.vcpu.jit().unwrap().set_hot(1);
        assert_eq!(g.run_code(&program), None);
        let sum = (1..=100_000u32).fold(0u32, |sum, n| sum.wrapping_add(n.wrapping_mul(3)));
        assert_eq!(g.vcpu.cpu.regs[2], sum.into());
        let stats = g.vcpu.jit().unwrap().stats;
        assert!(stats.retired > 500_000, "{stats:?}");
        stats.hops
    });
    assert!(hops[0] > 100_000 && hops[1] == 0, "{hops:?}");
}

#[test]
fn vectors() {
    all_compiled("vectors", true, |a| {
        let mut again = a.create_label();
        a.mov(ecx, 3000u32).unwrap();
        a.mov(esi, DATA as u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.movd(xmm0, ecx).unwrap();
        a.movq(xmm1, rsi).unwrap();
        a.punpcklqdq(xmm0, xmm1).unwrap();
        a.paddq(xmm2, xmm0).unwrap();
        a.pshufb(xmm2, xmm3).unwrap();
        a.pxor(xmm3, xmm2).unwrap();
        a.movdqu(xmmword_ptr(rsi + 3), xmm2).unwrap();
        a.movaps(xmm4, xmmword_ptr(rsi)).unwrap();
        a.psubb(xmm4, xmm3).unwrap();
        a.pmovmskb(eax, xmm4).unwrap();
        a.add(ebx, eax).unwrap();
        a.psllq(xmm4, xmm1).unwrap();
        a.psrad(xmm4, 3).unwrap();
        a.ptest(xmm4, xmm2).unwrap();
        a.adc(ebx, 0).unwrap();
        a.sete(r8b).unwrap();
        a.pcmpgtw(xmm5, xmm4).unwrap();
        a.pblendvb(xmm5, xmm2).unwrap();
        a.movhps(qword_ptr(rsi + 40), xmm5).unwrap();
        a.movss(xmm6, dword_ptr(rsi + 36)).unwrap();
        a.movsd_2(xmm6, xmm5).unwrap();
        a.pinsrw(xmm6, ebx, 5).unwrap();
        a.pextrq(rdx, xmm6, 1).unwrap();
        a.xor(r9, rdx).unwrap();
        a.pcmpeqd(xmm7, xmm7).unwrap();
        a.psadbw(xmm7, xmm6).unwrap();
        a.movaps(xmmword_ptr(rsi + 64), xmm7).unwrap();
        a.add(rsi, 16).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
}

#[test]
fn vectors_that_may_not_be_used() {
    // At last CR0.TS is set, and the handler is a HLT.
    same("CR0.TS", true, |a| {
        let mut again = a.create_label();
        a.mov(ecx, 9000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.paddd(xmm0, xmm1).unwrap();
        a.pcmpeqb(xmm1, xmm1).unwrap();
        a.mov(rax, cr0).unwrap();
        a.cmp(ecx, 2).unwrap();
        a.sete(dl).unwrap();
        a.shl(dl, 3).unwrap();
        a.or(al, dl).unwrap();
        a.mov(cr0, rax).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
    same("an address that is not aligned", true, |a| {
        let mut again = a.create_label();
        a.mov(esi, DATA as u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.paddd(xmm0, xmmword_ptr(rsi)).unwrap();
        a.inc(ecx).unwrap();
        a.bt(ecx, 12).unwrap();
        a.adc(rsi, 0).unwrap();
        a.jmp(again).unwrap();
    });
    // From page to page, the last of which is not there.
    same("page fault", true, |a| {
        let mut again = a.create_label();
        a.mov(esi, 0x7f_0000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.movups(xmm1, xmmword_ptr(rsi - 5)).unwrap();
        a.paddb(xmm1, xmm0).unwrap();
        a.movups(xmmword_ptr(rsi), xmm1).unwrap();
        a.psubd(xmm0, xmm1).unwrap();
        a.add(rsi, 9).unwrap();
        a.jmp(again).unwrap();
    });
}

#[test]
fn floats() {
    // Over numbers that grow, shrink, and become denormal and infinite.
    all_compiled("floats", true, |a| {
        let [mut again, mut less, mut odd] = [(); 3].map(|()| a.create_label());
        a.mov(esi, DATA as u32).unwrap();
        a.mov(rax, 1.5f64.to_bits()).unwrap();
        a.mov(qword_ptr(rsi + 16), rax).unwrap();
        a.mov(qword_ptr(rsi + 24), rax).unwrap();
        a.mov(dword_ptr(rsi + 32), 1e-3f32.to_bits()).unwrap();
        a.mov(ecx, 9000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.cvtsi2sd(xmm0, ecx).unwrap();
        a.cvtsi2ss(xmm1, rcx).unwrap();
        a.divsd(xmm0, qword_ptr(rsi + 16)).unwrap();
        a.addsd(xmm2, xmm0).unwrap();
        a.mulsd(xmm3, qword_ptr(rsi + 24)).unwrap();
        a.addsd(xmm3, xmm0).unwrap();
        a.mulss(xmm4, dword_ptr(rsi + 32)).unwrap();
        a.sqrtss(xmm5, xmm1).unwrap();
        a.test(cl, 63).unwrap();
        a.jne(odd).unwrap();
        a.addss(xmm4, xmm5).unwrap();
        a.set_label(&mut odd).unwrap();
        a.comisd(xmm2, xmm3).unwrap();
        a.jb(less).unwrap();
        a.add(ebx, 3).unwrap();
        a.set_label(&mut less).unwrap();
        a.ucomiss(xmm4, xmm5).unwrap();
        a.adc(ebx, 0).unwrap();
        a.cvttsd2si(rdx, xmm2).unwrap();
        a.xor(rbx, rdx).unwrap();
        a.cvtsd2si(r8d, xmm0).unwrap();
        a.add(rbx, r8).unwrap();
        a.movapd(xmm6, xmmword_ptr(rsi + 16)).unwrap();
        a.subpd(xmm6, xmm0).unwrap();
        a.minpd(xmm6, xmm2).unwrap();
        a.cvtpd2ps(xmm7, xmm6).unwrap();
        a.mulps(xmm7, xmm7).unwrap();
        a.cmpps(xmm7, xmm4, 5).unwrap();
        a.cvtss2sd(xmm8, xmm4).unwrap();
        a.maxsd(xmm8, xmm6).unwrap();
        a.cvtps2dq(xmm9, xmm1).unwrap();
        a.cvtdq2ps(xmm10, xmm9).unwrap();
        a.paddd(xmm11, xmm10).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
}

#[test]
fn floats_that_may_fault() {
    // Late in the loop exceptions that are not masked come up; the handler is a HLT.
    let all = [("masked", 0x1f80), ("zero", 0x1d80), ("underflow", 0x1780), ("denormal", 0x1e80), ("down", 0x3f80)];
    for (what, mxcsr) in all {
        same(what, true, |a| {
            let mut again = a.create_label();
            a.mov(esi, DATA as u32).unwrap();
            a.mov(dword_ptr(rsi), mxcsr).unwrap();
            a.ldmxcsr(dword_ptr(rsi)).unwrap();
            a.mov(rax, 0.9f64.to_bits()).unwrap();
            a.movq(xmm1, rax).unwrap();
            a.mov(rax, 1f64.to_bits()).unwrap();
            a.movq(xmm2, rax).unwrap();
            a.mov(ecx, 19_000u32).unwrap();
            a.set_label(&mut again).unwrap();
            a.lea(edi, ptr(rcx - 500)).unwrap();
            a.cvtsi2sd(xmm3, edi).unwrap();
            a.movapd(xmm4, xmm1).unwrap();
            a.divsd(xmm4, xmm3).unwrap();
            a.mulsd(xmm2, xmm1).unwrap();
            a.addsd(xmm5, xmm4).unwrap();
            a.dec(ecx).unwrap();
            a.jne(again).unwrap();
        });
    }
}

/// Numbers in memory, in loops: normal ones, then all kinds; with the controls that are common, and with others.
#[test]
fn x87_numbers() {
    let numbers: [u64; 8] = [
        0x3ff3_c0ca_428c_59fb,
        0xbff0_0000_0000_0001,
        0x4009_21fb_5444_2d18,
        0x3f1a_36e2_eb1c_432d,
        0,
        0x7ff0_0000_0000_0000,
        1,
        0xfff4_0000_0000_0000,
    ];
    let extended_nearest = 0x37f;
    for (control, kinds, long) in
        [(extended_nearest, 4, true), (extended_nearest, 8, false), (0x27f, 4, true), (0xb7f, 8, true)]
    {
        let program = |a: &mut CodeAssembler| {
            let (mut again, mut less) = (a.create_label(), a.create_label());
            a.mov(esi, DATA as u32).unwrap();
            for (n, v) in numbers.into_iter().enumerate() {
                for half in 0..2 {
                    a.mov(dword_ptr(esi + 8 * n + 4 * half), (v >> (32 * half)) as u32).unwrap();
                }
            }
            a.mov(dword_ptr(esi + 0x100), control).unwrap();
            a.mov(dword_ptr(esi + 0x104), 12_345).unwrap();
            a.fninit().unwrap();
            a.fldcw(word_ptr(esi + 0x100)).unwrap();
            a.fld1().unwrap();
            a.mov(ecx, 20_000).unwrap();
            a.set_label(&mut again).unwrap();
            a.mov(eax, ecx).unwrap();
            a.and(eax, kinds - 1).unwrap();
            a.fld(qword_ptr(esi + eax * 8)).unwrap();
            a.fmul(qword_ptr(esi)).unwrap();
            a.faddp(st1, st0).unwrap();
            a.fld(st0).unwrap();
            a.fsub(qword_ptr(esi + eax * 8)).unwrap();
            a.fdivr(qword_ptr(esi + 16)).unwrap();
            a.fild(dword_ptr(esi + 0x104)).unwrap();
            a.fxch(st0, st1).unwrap();
            a.fchs().unwrap();
            a.fst(dword_ptr(esi + 0x108)).unwrap();
            a.fmulp(st1, st0).unwrap();
            a.fldz().unwrap();
            a.fcomip(st0, st1).unwrap();
            a.jb(less).unwrap();
            a.fabs().unwrap();
            a.set_label(&mut less).unwrap();
            a.fst(qword_ptr(esi + 0x110)).unwrap();
            a.fsubp(st1, st0).unwrap();
            a.fcom(dword_ptr(esi + 0x108)).unwrap();
            a.fiadd(dword_ptr(esi + 0x104)).unwrap();
            a.fmul(qword_ptr(esi + 24)).unwrap();
            a.dec(ecx).unwrap();
            a.jne(again).unwrap();
            a.fstp(qword_ptr(esi + 0x118)).unwrap();
            // What is left of it, and where it was.
            a.fxsave(ptr(esi + 0x200)).unwrap();
        };
        run(&format!("control word {control:x}, {kinds} kinds"), long, program);
    }
}

/// A stack that runs over and empty.
#[test]
fn x87_stack_faults() {
    for control in [0x37f, 0x27f] {
        same(&format!("control word {control:x}"), true, |a| {
            let mut again = a.create_label();
            a.mov(rsi, DATA).unwrap();
            a.mov(dword_ptr(rsi), control).unwrap();
            a.fninit().unwrap();
            a.fldcw(word_ptr(rsi)).unwrap();
            a.mov(ecx, 10_000).unwrap();
            a.set_label(&mut again).unwrap();
            for _ in 0..5 {
                a.fld1().unwrap();
            }
            a.fadd_2(st0, st3).unwrap();
            for _ in 0..4 {
                a.fstp(qword_ptr(rsi + rcx * 1 + 16)).unwrap();
                a.fxch(st0, st2).unwrap();
            }
            a.test(ecx, 15).unwrap();
            let mut on = a.create_label();
            a.jne(on).unwrap();
            for _ in 0..9 {
                a.fmulp(st1, st0).unwrap();
            }
            a.set_label(&mut on).unwrap();
            a.fnclex().unwrap();
            a.dec(ecx).unwrap();
            a.jne(again).unwrap();
        });
    }
}

#[test]
fn divisions() {
    all_compiled("divisions", true, |a| {
        let mut again = a.create_label();
        a.mov(ecx, 3000u32).unwrap();
        a.mov(rbx, 0x9e37_79b9_7f4a_7c15u64).unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(rax, rbx).unwrap();
        a.xor(edx, edx).unwrap();
        a.div(rcx).unwrap();
        a.add(rbx, rdx).unwrap();
        a.mov(r8, rcx).unwrap();
        a.neg(r8).unwrap();
        a.mov(rax, rbx).unwrap();
        a.cqo().unwrap();
        a.idiv(r8).unwrap();
        a.xor(rbx, rax).unwrap();
        a.mov(eax, ebx).unwrap();
        a.cdq().unwrap();
        a.idiv(r8d).unwrap();
        a.sub(rbx, rdx).unwrap();
        a.mov(eax, 0x1234).unwrap();
        a.mov(dl, cl).unwrap();
        a.or(dl, 0x40).unwrap();
        a.div(dl).unwrap();
        a.lea(rbx, qword_ptr(rbx + rax)).unwrap();
        a.rol(rbx, 5).unwrap();
        a.mul(rbx).unwrap();
        a.add(rbx, rdx).unwrap();
        a.cld().unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
    // What does not fit 64 bits, or has a divisor of -1, is left to the interpreter; so is the fault at the end.
    for (least, divisor) in [(false, -1), (false, 3), (true, -1)] {
        same("wide divisions", true, |a| {
            let [mut again, mut skip] = [(); 2].map(|()| a.create_label());
            a.mov(ecx, 9000u32).unwrap();
            a.set_label(&mut again).unwrap();
            a.lea(rax, qword_ptr(rcx * 8 + 5)).unwrap();
            a.xor(edx, edx).unwrap();
            a.test(cl, 15).unwrap();
            a.jne(skip).unwrap();
            a.mov(r8, i64::from(divisor)).unwrap();
            if least {
                a.bt(ecx, 5).unwrap();
                a.rcr(rax, 1).unwrap();
                a.and(rax, -64).unwrap();
                a.shl(rax, 40).unwrap();
                a.cqo().unwrap();
            }
            a.idiv(r8).unwrap();
            a.add(rbx, rax).unwrap();
            a.mov(edx, 7).unwrap();
            a.mov(r9, -50i64).unwrap();
            a.div(r9).unwrap();
            a.xor(rbx, rdx).unwrap();
            a.set_label(&mut skip).unwrap();
            a.dec(ecx).unwrap();
            a.jne(again).unwrap();
        });
    }
}

#[test]
fn instructions_that_are_called() {
    same("division, x87, strings", true, |a| {
        let mut again = a.create_label();
        a.mov(ecx, 3000u32).unwrap();
        a.mov(edi, DATA as u32).unwrap();
        a.fld1().unwrap();
        a.fldz().unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(eax, 123_456_789u32).unwrap();
        a.xor(edx, edx).unwrap();
        a.div(ecx).unwrap();
        a.adc(ebx, edx).unwrap();
        a.fadd_2(st0, st1).unwrap();
        a.stosd().unwrap();
        a.movd(xmm0, ebx).unwrap();
        a.pshufd(xmm1, xmm0, 0).unwrap();
        a.paddd(xmm2, xmm1).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
        a.fistp(qword_ptr(rdi)).unwrap();
    });
}

/// FS: a segment at `DATA` with this limit and granularity.
fn set_fs(a: &mut CodeAssembler, low: u32, high: u32) {
    let descriptor = guest::GDT as u32 + u32::from(guest::FREE_SEL);
    a.mov(dword_ptr(descriptor), low).unwrap();
    a.mov(dword_ptr(descriptor + 4), high).unwrap();
    a.mov(eax, u32::from(guest::FREE_SEL)).unwrap();
    a.mov(fs, ax).unwrap();
}

#[test]
fn segments_with_a_base() {
    const ALL: (u32, u32) = (0xffff, 0x00cf_9210);
    const PAGE: (u32, u32) = (0x0fff, 0x0040_9210);
    same("the whole address space", false, |a| {
        let (mut again, mut begin) = (a.create_label(), a.create_label());
        a.jmp(begin).unwrap();
        // Behind a short jump.
        let function = CODE as u32 + 2;
        a.add(ebx, dword_ptr(edi).fs()).unwrap();
        a.ret().unwrap();
        a.set_label(&mut begin).unwrap();
        set_fs(a, ALL.0, ALL.1);
        a.xor(edi, edi).unwrap();
        a.mov(dword_ptr(edi + 0x800).fs(), function).unwrap();
        a.mov(ecx, 5000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.add(dword_ptr(edi + 16).fs(), ecx).unwrap();
        a.call(dword_ptr(0x800).fs()).unwrap();
        a.mov(dx, word_ptr(edi + 2).fs()).unwrap();
        a.xor(ebx, edx).unwrap();
        a.add(edi, 4).unwrap();
        a.and(edi, 0x3ff).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
    // At last the offset is beyond the segment.
    same("a limit", false, |a| {
        let mut again = a.create_label();
        set_fs(a, PAGE.0, PAGE.1);
        a.xor(edi, edi).unwrap();
        a.set_label(&mut again).unwrap();
        for _ in 0..12 {
            a.rol(ebx, 3).unwrap();
        }
        a.add(ebx, dword_ptr(edi).fs()).unwrap();
        a.inc(edi).unwrap();
        a.jmp(again).unwrap();
    });
    same("the end of the address space", false, |a| {
        let mut again = a.create_label();
        set_fs(a, ALL.0, ALL.1);
        a.mov(edi, 0xffff_f000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.add(ebx, dword_ptr(edi).fs()).unwrap();
        a.inc(edi).unwrap();
        a.jmp(again).unwrap();
    });
}

#[test]
fn faults_in_the_middle() {
    // The loop runs until its address leaves RAM; the handler is a HLT.
    same("page fault", true, |a| {
        let mut again = a.create_label();
        a.mov(esi, 0x7f_0000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.add(eax, dword_ptr(rsi - 2)).unwrap();
        a.sub(dword_ptr(rsi), ecx).unwrap();
        a.rcl(ebx, 3).unwrap();
        a.inc(ecx).unwrap();
        a.add(rsi, 4).unwrap();
        a.jmp(again).unwrap();
    });
    same("division by zero", true, |a| {
        let mut again = a.create_label();
        a.mov(ecx, 20_000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(eax, 5u32).unwrap();
        a.xor(edx, edx).unwrap();
        a.div(ecx).unwrap();
        a.dec(ecx).unwrap();
        a.jmp(again).unwrap();
    });
}

#[test]
fn code_that_changes_itself() {
    same("an immediate", true, |a| {
        let mut again = a.create_label();
        a.mov(ecx, 9000u32).unwrap();
        a.lea(rdi, ptr(again)).unwrap();
        a.set_label(&mut again).unwrap();
        a.add(eax, 0x1234_5678).unwrap();
        a.rol(eax, 5).unwrap();
        a.mov(edx, ecx).unwrap();
        a.and(edx, 0xfff).unwrap();
        let mut keep = a.create_label();
        a.jne(keep).unwrap();
        a.mov(dword_ptr(rdi + 1), ecx).unwrap();
        a.set_label(&mut keep).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
}

#[test]
fn a_switch_that_leads_elsewhere_later() {
    let stats = run("a switch", true, |a| {
        let [mut again, mut one, mut other, mut on] = [(); 4].map(|()| a.create_label());
        a.mov(ecx, 100_000u32).unwrap();
        a.lea(rsi, ptr(one)).unwrap();
        a.lea(rdi, ptr(other)).unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(rdx, rsi).unwrap();
        a.cmp(ecx, 80_000u32).unwrap();
        a.cmovb(rdx, rdi).unwrap();
        a.jmp(rdx).unwrap();
        a.set_label(&mut one).unwrap();
        a.inc(ebx).unwrap();
        a.jmp(on).unwrap();
        a.set_label(&mut other).unwrap();
        a.add(ebx, 3).unwrap();
        a.set_label(&mut on).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
    assert!(stats.hops + stats.entered < 1000, "the second place is in the region, too: {stats:?}");
}

#[test]
fn a_switch_to_the_same_code_in_another_page() {
    const OTHER: u64 = 0x12_1000;
    let stats = run("a switch", true, |a| {
        let [mut again, mut one, mut on] = [(); 3].map(|()| a.create_label());
        a.mov(qword_ptr(TABLES[3] + 8 * (OTHER >> 12)), CODE as i32 | 3).unwrap();
        a.mov(ecx, 60_000u32).unwrap();
        a.lea(rsi, ptr(one)).unwrap();
        a.lea(rdi, ptr(on)).unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(rdx, rsi).unwrap();
        a.lea(rax, ptr(rsi + (OTHER - CODE) as i32)).unwrap();
        a.test(cl, 7).unwrap();
        a.cmove(rdx, rax).unwrap();
        a.jmp(rdx).unwrap();
        a.set_label(&mut one).unwrap();
        a.lea(rax, ptr(one)).unwrap();
        a.add(rbx, rax).unwrap();
        a.jmp(rdi).unwrap();
        a.set_label(&mut on).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
    assert!(stats.regions > 0, "{stats:?}");
}

#[test]
fn a_bit_of_an_image_of_the_flags() {
    // A condition that makes the flags an image, and behind it an instruction that changes CF alone.
    for long in [true, false] {
        same("CF in an image", long, |a| {
            let [mut again, mut clear] = [(); 2].map(|()| a.create_label());
            a.mov(ecx, 20_000u32).unwrap();
            a.mov(esi, DATA as u32).unwrap();
            a.set_label(&mut again).unwrap();
            a.cmova(edx, ebp).unwrap();
            a.bt(ecx, 3).unwrap();
            a.jae(clear).unwrap();
            a.inc(ebx).unwrap();
            a.set_label(&mut clear).unwrap();
            a.sbb(edi, ebx).unwrap();
            a.sub(ecx, 1).unwrap();
            a.jne(again).unwrap();
        });
    }
}

#[test]
fn what_was_decoded_makes_no_difference_to_counts() {
    // A repeated store overwrites code, which was run before, and in one of two runs is forgotten in between.
    let mut a = CodeAssembler::new(64).unwrap();
    let [mut f, mut main] = [(); 2].map(|()| a.create_label());
    a.jmp(main).unwrap();
    (0..4096).for_each(|_| a.nop().unwrap());
    a.set_label(&mut f).unwrap();
    a.add(eax, 1).unwrap();
    a.ret().unwrap();
    (0..9000).for_each(|_| a.nop().unwrap());
    a.set_label(&mut main).unwrap();
    a.call(f).unwrap();
    a.lea(rdi, qword_ptr(f)).unwrap();
    a.sub(rdi, 100).unwrap();
    a.mov(ecx, 8500u32).unwrap();
    a.rep().stosb().unwrap();
    let code = a.assemble(CODE).unwrap();
    let ends = [false, true].map(|forget| {
        let mut g = Guest::long();
        g.load(&code);
        g.start();
        g.run_for(5);
        if forget {
            g.vcpu.set_code_host(Box::new(wasm::Wasmi::new()));
        }
        (g.go_on(), g.vcpu.retired(), g.vcpu.cpu.regs[..16].to_vec())
    });
    assert_eq!(ends[0], ends[1]);
}

#[test]
fn more_code_than_there_is_room_for() {
    // A hot loop, then three times more code than is kept decoded, then the loop again.
    const FAR: u64 = 0x20_0000;
    const FAR_LEN: usize = 0x30_0000;
    let mut a = CodeAssembler::new(32).unwrap();
    let [mut all, mut hot] = [(); 2].map(|()| a.create_label());
    a.mov(esi, 2u32).unwrap();
    a.set_label(&mut all).unwrap();
    a.mov(ecx, 2_000_000u32).unwrap();
    a.set_label(&mut hot).unwrap();
    a.lea(ebx, dword_ptr(ebx + ecx)).unwrap();
    a.dec(ecx).unwrap();
    a.jne(hot).unwrap();
    a.call(FAR).unwrap();
    a.dec(esi).unwrap();
    a.jne(all).unwrap();
    let code = a.assemble(CODE).unwrap();
    let ends = [false, true].map(|jit| {
        let mut g = Guest::protected();
        if jit {
            g.vcpu.set_code_host(Box::new(wasm::Wasmi::new()));
        }
        // INC EAX, and RET.
        g.ram.write(FAR, &[0x40; FAR_LEN]);
        g.ram.write(FAR + FAR_LEN as u64, &[0xc3]);
        g.load(&code);
        assert_eq!(g.run_for(100_000_000), CpuExit::Halt);
        let stats = g.vcpu.jit().map(|jit| jit.stats);
        (g.vcpu.retired(), g.vcpu.cpu.regs[..16].to_vec(), stats)
    });
    assert_eq!(ends[0].1[0], 2 * FAR_LEN as u64);
    assert_eq!((ends[0].0, &ends[0].1), (ends[1].0, &ends[1].1));
    let stats = ends[1].2.unwrap();
    assert!(stats.regions == 1 && stats.retired > 8_000_000, "the loop stays compiled: {stats:?}");
}
