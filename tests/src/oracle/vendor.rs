//! Documented differences between AMD and Intel CPUs. Tabvisor models Intel, so on an AMD host the tests
//! concerned are left out or compared without the bits concerned. What Intel CPUs were seen to do that Tabvisor does not
//! do yet is in a list of its own (`intel.rs`).

use super::compare;
use super::encoding::{Shape, shape};
use super::intel::INTEL;
use super::masks::{Mask, linear, segment_base};
use super::state::*;
use iced_x86::{Code, Instruction, Mnemonic as M, OpKind};

/// One difference.
pub(super) struct Difference {
    /// When it applies.
    pub(super) when: fn(&Context) -> bool,
    /// What is left out.
    pub(super) what: fn(&mut Mask, &Context),
    /// Why, with the manuals that disagree.
    pub(super) reason: &'static str,
}

pub(super) struct Context<'a> {
    pub(super) t: &'a Test,
    pub(super) ins: &'a Instruction,
    pub(super) truth: &'a Out,
    shape: Shape,
}

/// How far from its operand a bit test reaches, in bytes.
fn bit_string(t: &Test, ins: &Instruction) -> u64 {
    let bits = matches!(ins.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc) && ins.op1_kind() == OpKind::Register;
    if !bits {
        return 0;
    }
    let size = ins.op1_register().size() as u32;
    let index = t.gpr[ins.op1_register().full_register().number() & 15] << (64 - 8 * size);
    let units = (index as i64 >> (64 - 8 * size)).div_euclid(8 * i64::from(size));
    (units * i64::from(size)) as u64
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
        when: |c| {
            matches!(c.ins.mnemonic(), M::Sysenter | M::Sysexit | M::Sysexitq | M::Syscall | M::Sysret | M::Sysretq)
        },
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
    Difference {
        when: |c| c.ins.code() == Code::Pause && c.shape.rex & 1 != 0,
        what: |m, _| m.skip = Some("F3 REX.B 90"),
        reason: "F3h with REX.B before 90h: PAUSE in Intel's tables, XCHG r8, rAX on AMD (SDM 2B NOP, PAUSE; measured)",
    },
    Difference {
        when: |c| {
            let far_off = |a: u64| (a << 16) as i64 >> 16 != a as i64;
            c.t.mode == Mode::Long64
                && linear(c.t, c.ins).is_some_and(|a| {
                    let offset = a.wrapping_sub(segment_base(c.t, c.ins.memory_segment()));
                    far_off(offset.wrapping_add(bit_string(c.t, c.ins)))
                })
                && matches!(c.truth.vector, 12 | 13)
        },
        what: |m, _| m.any_fault = true,
        reason: "a non-canonical offset whose sum with the base of FS or GS is canonical: #GP on AMD (SDM 1 3.3.7.1; measured)",
    },
    Difference {
        when: |c| (c.ins.is_call_far() || c.ins.is_call_far_indirect()) && matches!(c.truth.vector, 12 | 13 | 14 | 17),
        what: |m, c| {
            m.any_fault = c.truth.vector != 13;
            let top = c.t.stack_top();
            let from = top.wrapping_sub(16).max(DATA_BASE);
            m.forget(from, top.saturating_sub(from).min(16) as u16);
        },
        reason: "far CALL beyond the limit of its target: Intel raises #GP before it pushes, AMD pushes first (SDM 2A CALL; measured)",
    },
    Difference {
        when: |c| matches!(c.ins.mnemonic(), M::Popa | M::Popad) && matches!(c.truth.vector, 12..=14 | 17),
        what: |m, _| m.gpr = [u64::MAX; 16],
        reason: "a faulting POPA: AMD keeps what was popped before the fault (SDM 2B POPA; measured)",
    },
    Difference {
        when: |c| c.ins.mnemonic() == M::Fxrstor64,
        what: |m, _| m.pointers = true,
        reason: "FXRSTOR64: AMD makes FIP and FDP canonical (SDM 2A FXRSTOR; measured)",
    },
    Difference {
        when: |c| c.shape.lock && c.shape.map == 1 && matches!(c.shape.opcode, 0x20 | 0x22),
        what: |m, _| m.skip = Some("LOCK MOV CR"),
        reason: "LOCK before MOV CR0 names CR8 on AMD and is privileged, not invalid (APM 3 MOV CRn, AltMovCr8)",
    },
    Difference {
        when: |c| match c.ins.mnemonic() {
            M::Loope => c.shape.rep == 0xf2,
            M::Loopne => c.shape.rep == 0xf3,
            _ => false,
        },
        what: |m, _| m.skip = Some("LOOPE or LOOPNE with the other's prefix"),
        reason: "F2h before LOOPE, F3h before LOOPNE: Intel ignores it, on AMD it says which it is (SDM 2A 2.1.1; measured)",
    },
    Difference {
        when: |c| c.ins.code() == Code::Cvtpi2ps_xmm_mmm64 && c.ins.op1_kind() == OpKind::Memory,
        what: |m, _| m.skip = Some("CVTPI2PS from memory"),
        reason: "CVTPI2PS with a source in memory: Intel enters the MMX state, AMD does not (SDM 2A CVTPI2PS; measured)",
    },
    Difference {
        when: |c| c.t.rflags & TF != 0 && c.ins.is_string_instruction() && c.truth.rip == c.t.rip(),
        what: |m, _| m.rflags |= 1 << 16,
        reason: "a trap between the iterations of a string instruction: Intel pushes RF as 1 (SDM 3A 18.3.1.1), AMD as it was (measured)",
    },
    Difference {
        when: |c| c.ins.mnemonic() == M::Retf && c.ins.op_count() == 1,
        what: |m, c| m.any_fault = c.truth.vector != 13,
        reason: "RETF imm16: AMD reads the outer stack's words before it checks the selector (SDM 2B RET; measured)",
    },
    Difference {
        when: |c| {
            c.ins.mnemonic() == M::Call
                && (near_branch(c) || c.ins.is_call_near() || c.ins.is_call_near_indirect())
                && matches!(c.truth.vector, 12 | 14 | 17)
        },
        what: |m, _| m.any_fault = true,
        reason: "near CALL to a non-canonical address or beyond the limit: Intel raises #GP before it pushes, AMD pushes first (SDM 2A CALL; measured)",
    },
    Difference {
        when: |c| matches!(c.ins.mnemonic(), M::Ud0 | M::Ud1) && u64::from(c.t.entry) + u64::from(c.t.len) > CODE_SIZE,
        what: |m, _| m.skip = Some("UD0 or UD1 across the end of the code"),
        reason: "UD0, UD1: AMD raises #UD without fetching the operand's bytes (SDM 2B UD; APM 3 UD1)",
    },
    Difference {
        when: |c| c.ins.mnemonic() == M::Enter && c.truth.vector == 17,
        what: |m, _| m.skip = Some("ENTER with alignment checks"),
        reason: "ENTER: AMD checks the alignment of its probe of the new stack top, and before it pushes (SDM 2A ENTER; measured)",
    },
    Difference {
        when: |c| c.ins.code() == Code::Movsxd_r16_rm16 && matches!(c.truth.vector, 14 | 17),
        what: |m, _| m.skip = Some("faulting MOVSXD with 66h"),
        reason: "66 63: MOVSXD r16 reads 16 bits on Intel, 32 bits on AMD (SDM 2B MOVSXD; APM 3 MOVSXD)",
    },
];

/// Adds the differences between `host` and Intel that apply to this test.
pub fn differences(m: &mut Mask, t: &Test, ins: &Instruction, truth: &Out, host: Vendor) {
    let c = Context { t, ins, truth, shape: shape(t.bytes(), t.mode) };
    for d in list(host) {
        if (d.when)(&c) {
            (d.what)(m, &c);
        }
    }
}

/// The reasons for all differences known on `host`, for reports.
pub fn reasons(host: Vendor) -> impl Iterator<Item = &'static str> {
    list(host).iter().map(|d| d.reason)
}

fn list(host: Vendor) -> &'static [Difference] {
    match host {
        Vendor::Amd => AMD,
        Vendor::Intel => INTEL,
    }
}
