//! Documented differences between AMD and Intel CPUs. Tabvisor models Intel, so on an AMD host the tests
//! concerned are left out or compared without the bits concerned; on an Intel host nothing here applies.

use super::encoding::{Shape, shape};
use super::masks::Mask;
use super::state::*;
use iced_x86::{Instruction, Mnemonic as M};

/// One difference.
struct Difference {
    /// When it applies.
    when: fn(&Context) -> bool,
    /// What is left out.
    what: fn(&mut Mask),
    /// Why, with the manuals that disagree.
    reason: &'static str,
}

struct Context<'a> {
    t: &'a Test,
    ins: &'a Instruction,
    truth: &'a Out,
    shape: Shape,
}

fn near_branch(c: &Context) -> bool {
    match (c.shape.map, c.shape.opcode) {
        (0, 0x70..=0x7f | 0xc2 | 0xc3 | 0xe0..=0xe3 | 0xe8 | 0xe9 | 0xeb) | (1, 0x80..=0x8f) => true,
        (0, 0xff) => matches!(c.t.code[c.shape.modrm] >> 3 & 7, 2 | 4),
        _ => false,
    }
}

const AMD: &[Difference] = &[
    Difference {
        when: |c| c.t.mode == Mode::Long64 && c.shape.p66 && near_branch(c),
        what: |m| m.skip = Some("66h near branch"),
        reason: "66h before a near branch in 64-bit mode: Intel ignores it, AMD cuts RIP to 16 bits (SDM 2 Jcc; APM 3 1.2.1)",
    },
    Difference {
        when: |c| matches!(c.ins.mnemonic(), M::Sysenter | M::Sysexit | M::Sysexitq | M::Syscall | M::Sysret | M::Sysretq),
        what: |m| m.skip = Some("system call instruction"),
        reason: "SYSENTER and SYSEXIT are invalid in long mode on AMD, SYSCALL outside 64-bit mode on Intel (APM 3, SDM 2)",
    },
    Difference {
        when: |c| {
            c.t.mode == Mode::Long64
                && c.shape.rex & 8 != 0
                && (c.shape.map == 0 && c.shape.opcode == 0xff && matches!(c.t.code[c.shape.modrm] >> 3 & 7, 3 | 5)
                    || c.shape.map == 1 && matches!(c.shape.opcode, 0xb2 | 0xb4 | 0xb5))
        },
        what: |m| m.skip = Some("far pointer with REX.W"),
        reason: "AMD has no 64-bit offset in far pointers: REX.W is ignored (APM 3 CALL far, LSS; SDM 2 CALL)",
    },
    Difference {
        when: |c| {
            c.t.mode == Mode::Long64
                && (matches!(c.ins.mnemonic(), M::Lfs | M::Lgs | M::Retf | M::Iretq | M::Iretd | M::Iret)
                    || matches!(c.ins.mnemonic(), M::Mov | M::Pop)
                        && c.ins.op0_register().is_segment_register())
                && (c.truth.sel[FS] | c.truth.sel[GS]) & 0xfffc == 0
        },
        what: |m| m.bases = true,
        reason: "loading a null selector clears the base on Intel; on AMD the base stays (APM 2 4.5.3; CPUID Fn8000_0021 NullSelectorClearsBase)",
    },
];

/// Adds the differences between `host` and Intel that apply to this test.
pub fn differences(m: &mut Mask, t: &Test, ins: &Instruction, truth: &Out, host: Vendor) {
    if host == Vendor::Intel {
        return;
    }
    let c = Context { t, ins, truth, shape: shape(t.bytes(), t.mode) };
    for d in AMD {
        if (d.when)(&c) {
            (d.what)(m);
        }
    }
}

/// The reasons for all differences known on `host`, for reports.
pub fn reasons(host: Vendor) -> impl Iterator<Item = &'static str> {
    let list = if host == Vendor::Amd { AMD } else { &[] };
    list.iter().map(|d| d.reason)
}
