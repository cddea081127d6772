//! Straight instructions of random programs: the oracle's encodings, without those that would end the program, and
//! with memory operands bent towards RSI, which points somewhere interesting.

use crate::oracle::encoding::{decode_bytes, draw, shape, wanted};
use crate::oracle::rng::Rng;
use crate::oracle::state::Mode;
use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic as M, OpAccess, OpKind, Register};

/// An instruction for a program at privilege level 0 or 3 (`user`).
pub fn instruction(r: &mut Rng, mode: Mode, user: bool) -> Vec<u8> {
    let mut factory = InstructionInfoFactory::new();
    loop {
        let mut bytes = draw(r, mode);
        let ins = decode_bytes(&bytes[..15], mode, 0);
        if ins.is_invalid() && !r.chance(1) || !wanted(&ins, &bytes[..15], mode) {
            continue;
        }
        if (0..ins.op_count()).any(|n| ins.op_kind(n) == OpKind::Memory) {
            let s = shape(&bytes, mode);
            if s.p67 && mode != Mode::Long64 {
                // 16-bit addresses are those of tables.
                continue;
            }
            let moffs = s.map == 0 && matches!(s.opcode, 0xa0..=0xa3);
            if !moffs && r.chance(94) {
                aim(r, &mut bytes, s.modrm, s.rex);
            }
        }
        let ins = decode_bytes(&bytes[..15], mode, 0);
        if ins.is_invalid() || harmless(r, &mut factory, &ins, user) {
            let len = if ins.is_invalid() { 15 } else { ins.len() };
            return bytes[..len].to_vec();
        }
    }
}

/// Makes the memory operand `[rsi + disp8]` or `[rsi + disp32]`.
fn aim(r: &mut Rng, bytes: &mut [u8; 16], modrm: usize, rex: u8) {
    let long = r.chance(20);
    bytes[modrm] = bytes[modrm] & 0x38 | if long { 0x86 } else { 0x46 };
    if long {
        let v = (r.below(0x2000) as i32 - 0x1000).to_le_bytes();
        let end = (modrm + 5).min(15);
        bytes[modrm + 1..end].copy_from_slice(&v[..end - modrm - 1]);
    }
    // No index, and a base below R8.
    if rex != 0 {
        if let Some(at) = (0..modrm).rev().find(|&n| bytes[n] == rex) {
            bytes[at] &= !3;
        }
    }
}

/// May it stand in the middle of a program?
fn harmless(r: &mut Rng, factory: &mut InstructionInfoFactory, ins: &Instruction, user: bool) -> bool {
    match ins.flow_control() {
        FlowControl::Next => {}
        FlowControl::Interrupt | FlowControl::Exception => {
            let coded = matches!(ins.mnemonic(), M::Int) && matches!(ins.immediate8(), 0..=0x1f);
            if coded || !r.chance(10) {
                return false;
            }
        }
        // Into the blue.
        _ => {
            let far = matches!(ins.mnemonic(), M::Retf | M::Iret | M::Iretd | M::Iretq)
                || matches!(ins.op0_kind(), OpKind::FarBranch16 | OpKind::FarBranch32)
                || ins.is_jmp_far_indirect()
                || ins.is_call_far_indirect();
            return r.chance(1) && (user || !far) && !matches!(ins.mnemonic(), M::Sysret | M::Sysretq | M::Sysexit);
        }
    }
    if matches!(ins.mnemonic(), M::Hlt | M::Cli | M::Rdpmc | M::Popf | M::Popfd | M::Popfq) && !r.chance(15) {
        return false;
    }
    if !user
        && matches!(
            ins.mnemonic(),
            M::Lgdt | M::Lidt | M::Lldt | M::Ltr | M::Lmsw | M::Wrmsr | M::Xsetbv | M::Swapgs | M::Clts
        )
    {
        return false;
    }
    let control =
        |k: u32| ins.op_kind(k) == OpKind::Register && (ins.op_register(k).is_cr() || ins.op_register(k).is_dr());
    if !user && control(0) {
        return false;
    }
    // Selectors of a flat program stay; FS and GS may go.
    let segment = ins.op0_register();
    if segment.is_segment_register() && !matches!(segment, Register::FS | Register::GS) {
        return false;
    }
    if matches!(ins.mnemonic(), M::Lds | M::Les | M::Lss | M::Enter | M::Leave) {
        return false;
    }
    let writes = |reg: Register, used: &iced_x86::UsedRegister| {
        used.register().full_register() == reg
            && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None)
    };
    let used = factory.info(ins).used_registers();
    if used.iter().any(|u| writes(Register::RSP, u)) {
        return false;
    }
    let lost = used.iter().any(|u| writes(Register::RSI, u));
    !lost || r.chance(12)
}
