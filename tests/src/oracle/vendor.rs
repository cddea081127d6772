//! Documented differences between AMD and Intel CPUs. Tabvisor models Intel, so on an AMD host the tests
//! concerned are left out or compared without the bits concerned; on an Intel host nothing here applies.

use super::compare;
use super::encoding::{Shape, shape};
use super::masks::{Mask, linear};
use super::state::*;
use iced_x86::{Instruction, Mnemonic as M};

/// One difference.
struct Difference {
    /// When it applies.
    when: fn(&Context) -> bool,
    /// What is left out.
    what: fn(&mut Mask, &Context),
    /// Why, with the manuals that disagree.
    reason: &'static str,
}

struct Context<'a> {
    t: &'a Test,
    ins: &'a Instruction,
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
        what: |m, _| m.skip = Some("66h near branch"),
        reason: "66h before a near branch in 64-bit mode: Intel ignores it, AMD cuts RIP to 16 bits (SDM 2 Jcc; APM 3 1.2.1)",
    },
    Difference {
        when: |c| matches!(c.ins.mnemonic(), M::Sysenter | M::Sysexit | M::Sysexitq | M::Syscall | M::Sysret | M::Sysretq),
        what: |m, _| m.skip = Some("system call instruction"),
        reason: "SYSENTER and SYSEXIT are invalid in long mode on AMD, SYSCALL outside 64-bit mode on Intel (APM 3, SDM 2)",
    },
    Difference {
        when: |c| {
            c.t.mode == Mode::Long64
                && c.shape.rex & 8 != 0
                && (c.shape.map == 0 && c.shape.opcode == 0xff && matches!(c.t.code[c.shape.modrm] >> 3 & 7, 3 | 5)
                    || c.shape.map == 1 && matches!(c.shape.opcode, 0xb2 | 0xb4 | 0xb5))
        },
        what: |m, _| m.skip = Some("far pointer with REX.W"),
        reason: "AMD has no 64-bit offset in far pointers: REX.W is ignored (APM 3 CALL far, LSS; SDM 2 CALL)",
    },
    Difference {
        when: |c| c.shape.map == 1 && c.shape.opcode == 0x0d && c.t.code[c.shape.modrm] >= 0xc0,
        what: |m, _| m.skip = Some("PREFETCHW with a register"),
        reason: "0F 0D with a register operand: reserved no-operation on Intel, #UD on AMD (SDM 2D opcode map; APM 3 PREFETCH)",
    },
    Difference {
        when: |c| matches!(c.ins.mnemonic(), M::Fxsave | M::Fxsave64),
        what: |m, c| {
            if let Some(at) = linear(c.t, c.ins) {
                m.forget(at.wrapping_add(28), 4);
            }
        },
        reason: "MXCSR_MASK has bit 17 (misaligned SSE) on AMD only (APM 2 11.5.6)",
    },
    Difference {
        when: |c| {
            let at = match c.ins.mnemonic() {
                M::Ldmxcsr => 0,
                M::Fxrstor | M::Fxrstor64 => 24,
                _ => return false,
            };
            let Some(m) = linear(c.t, c.ins) else { return false };
            compare::byte_before(c.t, m.wrapping_add(at + 2)).is_some_and(|b| b & 2 != 0)
        },
        what: |m, _| m.skip = Some("MXCSR bit 17"),
        reason: "MXCSR bit 17 (misaligned SSE) can be set on AMD, raises #GP on Intel (APM 2 3.1.10)",
    },
];

/// Adds the differences between `host` and Intel that apply to this test.
pub fn differences(m: &mut Mask, t: &Test, ins: &Instruction, host: Vendor) {
    if host == Vendor::Intel {
        return;
    }
    let c = Context { t, ins, shape: shape(t.bytes(), t.mode) };
    for d in AMD {
        if (d.when)(&c) {
            (d.what)(m, &c);
        }
    }
}

/// The reasons for all differences known on `host`, for reports.
pub fn reasons(host: Vendor) -> impl Iterator<Item = &'static str> {
    let list = if host == Vendor::Amd { AMD } else { &[] };
    list.iter().map(|d| d.reason)
}
