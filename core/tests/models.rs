//! What is newer than a CPU model raises #UD there, and CPUID agrees.

mod guest;

use guest::{DATA, Guest};
use tabvisor_core::cpu::cr4;
use tabvisor_core::cpu::features::Model;

const UD: Option<u8> = Some(6);

/// The models that have an instruction.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Since {
    Pentium,
    V1,
    V2,
}
use Since::*;

/// Instructions with the same meaning in 32- and 64-bit mode; memory operands are at [rBX].
const BOTH: &[(Since, &[u8], &str)] = &[
    (Pentium, &[0x0f, 0xc7, 0x0b], "cmpxchg8b [rbx]"),
    (Pentium, &[0x0f, 0xc8], "bswap eax"),
    (Pentium, &[0x0f, 0xa2], "cpuid"),
    (Pentium, &[0xf3, 0x90], "pause"),
    (Pentium, &[0xdf, 0xe0], "fnstsw ax"),
    (V1, &[0x0f, 0x44, 0xc1], "cmove eax, ecx"),
    (V1, &[0xda, 0xc0], "fcmovb st0, st0"),
    (V1, &[0xdb, 0xf0], "fcomi st0, st0"),
    (V1, &[0x0f, 0x1f, 0x00], "nop [rax]"),
    (V1, &[0x0f, 0x18, 0x0b], "prefetcht0 [rbx]"),
    (V1, &[0x0f, 0x77], "emms"),
    (V1, &[0x0f, 0xfc, 0xc1], "paddb mm0, mm1"),
    (V1, &[0x0f, 0x70, 0xc1, 0], "pshufw mm0, mm1, 0"),
    (V1, &[0x0f, 0xae, 0x03], "fxsave [rbx]"),
    (V1, &[0x0f, 0xae, 0x3b], "clflush [rbx]"),
    (V1, &[0x0f, 0xae, 0xe8], "lfence"),
    (V1, &[0x0f, 0x58, 0xc1], "addps xmm0, xmm1"),
    (V1, &[0xf2, 0x0f, 0x2c, 0x03], "cvttsd2si eax, [rbx]"),
    (V1, &[0x0f, 0xc3, 0x03], "movnti [rbx], eax"),
    (V1, &[0x66, 0x0f, 0xc5, 0xc0, 0], "pextrw eax, xmm0, 0"),
    (V2, &[0xf2, 0x0f, 0xd0, 0xc1], "addsubps xmm0, xmm1"),
    (V2, &[0xdb, 0x0b], "fisttp dword [rbx]"),
    (V2, &[0x0f, 0x38, 0x1c, 0xc1], "pabsb mm0, mm1"),
    (V2, &[0x66, 0x0f, 0x38, 0x00, 0xc1], "pshufb xmm0, xmm1"),
    (V2, &[0x66, 0x0f, 0x38, 0x17, 0xc1], "ptest xmm0, xmm1"),
    (V2, &[0x66, 0x0f, 0x3a, 0x15, 0x03, 0], "pextrw [rbx], xmm0, 0"),
    (V2, &[0x66, 0x0f, 0x38, 0x37, 0xc1], "pcmpgtq xmm0, xmm1"),
    (V2, &[0x66, 0x0f, 0x3a, 0x63, 0xc1, 0], "pcmpistri xmm0, xmm1, 0"),
    (V2, &[0xf2, 0x0f, 0x38, 0xf1, 0xc1], "crc32 eax, ecx"),
    (V2, &[0xf3, 0x0f, 0xb8, 0xc1], "popcnt eax, ecx"),
    (V2, &[0x0f, 0x01, 0xf9], "rdtscp"),
    (V2, &[0xf3, 0x0f, 0xc7, 0xf8], "rdpid eax"),
    (V2, &[0x0f, 0xc7, 0xf0], "rdrand eax"),
    (V2, &[0x0f, 0xc7, 0xf8], "rdseed eax"),
    (V2, &[0x0f, 0x01, 0xca], "clac"),
    (V2, &[0x66, 0x0f, 0xae, 0x3b], "clflushopt [rbx]"),
    (V2, &[0x66, 0x0f, 0xae, 0x33], "clwb [rbx]"),
    (V2, &[0x66, 0x0f, 0x38, 0x82, 0x03], "invpcid eax, [rbx]"),
];

/// Those of 64-bit mode.
const LONG: &[(Since, &[u8], &str)] = &[
    (V1, &[0x66, 0x48, 0x0f, 0x6e, 0xc0], "movq xmm0, rax"),
    (V2, &[0x48, 0x0f, 0xc7, 0x0b], "cmpxchg16b [rbx]"),
    (V2, &[0x9f], "lahf"),
    (V2, &[0x9e], "sahf"),
    (V2, &[0xf3, 0x48, 0x0f, 0xae, 0xc0], "rdfsbase rax"),
];

fn check(mut g: Guest, model: Since, &(since, code, name): &(Since, &[u8], &str)) {
    g.vcpu.cpu.regs[3] = DATA;
    g.vcpu.cpu.fpu.fld1();
    g.vcpu.cpu.cr4 |= cr4::FSGSBASE & g.vcpu.cpu.model.cr4_mask();
    let end = g.run_code(code);
    assert_eq!(end, if model < since { UD } else { None }, "{name} on {model:?}");
}

#[test]
fn instructions_newer_than_the_model_are_undefined() {
    for case in BOTH {
        check(Guest::protected_model(Model::Pentium), Pentium, case);
        for (model, since) in [(Model::X64V1, V1), (Model::X64V2, V2)] {
            check(Guest::protected_model(model), since, case);
            check(Guest::long_model(model), since, case);
        }
    }
    for case in LONG {
        check(Guest::long_model(Model::X64V1), V1, case);
        check(Guest::long_model(Model::X64V2), V2, case);
    }
    // LAHF and SAHF are as old as the 8086 outside 64-bit mode.
    check(Guest::protected_model(Model::Pentium), Pentium, &(Pentium, &[0x9f, 0x9e], "lahf; sahf"));
}

#[test]
fn what_no_model_has_is_undefined_everywhere() {
    for code in [
        &[0x0f, 0x01, 0xc8][..],         // monitor
        &[0x0f, 0x01, 0xc9],             // mwait
        &[0x0f, 0x38, 0xf0, 0x03],       // movbe eax, [rbx]
        &[0x66, 0x0f, 0x38, 0xdc, 0xc1], // aesenc xmm0, xmm1
        &[0xc5, 0xf8, 0x58, 0xc1],       // vaddps xmm0, xmm0, xmm1
    ] {
        let mut g = Guest::long();
        g.vcpu.cpu.regs[3] = DATA;
        assert_eq!(g.run_code(code), UD, "{code:x?}");
    }
    // With F3 before it, LZCNT is BSR to all of them.
    let mut g = Guest::long();
    g.vcpu.cpu.regs[1] = 0x100;
    assert_eq!(g.run_code(&[0xf3, 0x0f, 0xbd, 0xc1]), None);
    assert_eq!(g.vcpu.cpu.regs[0], 8);
}

#[test]
fn control_bits_follow_the_model() {
    // mov cr4, rax with a bit the model lacks, and one it has.
    for (model, lacks) in [(Model::X64V1, cr4::SMEP), (Model::X64V1, cr4::OSXSAVE), (Model::X64V2, 1 << 22)] {
        let mut g = Guest::long_model(model);
        g.vcpu.cpu.regs[0] = g.vcpu.cpu.cr4 | lacks;
        assert_eq!(g.run_code(&[0x0f, 0x22, 0xe0]), Some(13));
        g.vcpu.cpu.regs[0] = g.vcpu.cpu.cr4 | cr4::PGE;
        assert_eq!(g.run_code(&[0x0f, 0x22, 0xe0]), None);
    }
    let mut g = Guest::protected_model(Model::Pentium);
    g.vcpu.cpu.regs[0] = cr4::OSFXSR;
    assert_eq!(g.run_code(&[0x0f, 0x22, 0xe0]), Some(13));
}

#[test]
fn msrs_follow_the_model() {
    const RDMSR: &[u8] = &[0x0f, 0x32];
    // TSC_ADJUST, SPEC_CTRL, ARCH_CAPABILITIES, TSC_AUX.
    for msr in [0x3b, 0x48, 0x10a, 0xc000_0103u64] {
        for (model, stop) in [(Model::X64V1, Some(13)), (Model::X64V2, None)] {
            let mut g = Guest::long_model(model);
            g.vcpu.cpu.regs[1] = msr;
            assert_eq!(g.run_code(RDMSR), stop, "{model:?} {msr:x}");
        }
    }
    // SYSENTER_CS, MTRRCAP, PAT, EFER, GS_BASE: all newer than a Pentium; its own time stamp counter.
    for (msr, stop) in
        [(0x174, true), (0xfe, true), (0x277, true), (0xc000_0080, true), (0xc000_0101, true), (0x10, false)]
    {
        let mut g = Guest::protected_model(Model::Pentium);
        g.vcpu.cpu.regs[1] = msr;
        assert_eq!(g.run_code(RDMSR), stop.then_some(13), "{msr:x}");
    }
    // wrmsr: x2APIC mode where there is none.
    for (model, stop) in [(Model::X64V1, Some(13)), (Model::X64V2, None)] {
        let mut g = Guest::long_model(model);
        g.board.apic_base = Some(0xfee0_0900);
        (g.vcpu.cpu.regs[1], g.vcpu.cpu.regs[0], g.vcpu.cpu.regs[2]) = (0x1b, 0xfee0_0d00, 0);
        assert_eq!(g.run_code(&[0x0f, 0x30]), stop, "{model:?}");
    }
}
