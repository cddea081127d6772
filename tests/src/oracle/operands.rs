//! Values for a generated instruction's operands, so that rare outcomes (equal compares, fitting quotients, valid
//! selectors, return addresses that exist) are not rare.

use super::rng::Rng;
use super::state::*;
use super::values;
use iced_x86::{Instruction, MemorySize, Mnemonic as M, OpKind, Register};

/// Number of a general register's full form, if it is one.
pub fn number(reg: Register) -> Option<usize> {
    reg.is_gpr().then(|| reg.full_register().number())
}

/// Sets the part of a general register that `reg` names.
pub fn set_register(t: &mut Test, reg: Register, v: u64) {
    let Some(n) = number(reg) else { return };
    let g = &mut t.gpr[n];
    *g = match reg.size() {
        8 => v,
        4 => *g & !0xffff_ffff | v & 0xffff_ffff,
        2 => *g & !0xffff | v & 0xffff,
        // AH to BH are numbered with their full register; one byte is enough bending anyway.
        _ => *g & !0xff | v & 0xff,
    };
}

/// Puts bytes at a linear address inside the writable window.
fn put(t: &mut Test, at: u64, bytes: &[u8]) {
    for (i, part) in bytes.chunks(16).enumerate() {
        let at = at.wrapping_add(16 * i as u64).wrapping_sub(DATA_BASE);
        if at <= DATA_SIZE - 16 {
            if let Some(p) = t.patch.iter_mut().find(|p| p.len == 0) {
                p.at = at as u16;
                p.len = part.len() as u16;
                p.bytes[..part.len()].copy_from_slice(part);
            }
        }
    }
}

/// A selector that is likely to load: the usable ones, some that fault, any.
fn selector(r: &mut Rng) -> u16 {
    match r.below(8) {
        0..=3 => r.pick(&[SEL_DATA, SEL_UP, SEL_DOWN, SEL_READ, SEL_DATA16, 0, 3]),
        4 | 5 => r.pick(&[SEL_CODE32, SEL_CODE64, SEL_CODE16, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38]),
        6 => (r.below(32) * 8 + r.below(8)) as u16,
        _ => r.next() as u16,
    }
}

/// An address to jump to: mostly inside the code page.
fn code_address(r: &mut Rng, mode: Mode) -> u64 {
    let at = match r.below(10) {
        0 => r.next(),
        1 => DATA_BASE + r.below(DATA_SIZE),
        2 => CODE_BASE + CODE_SIZE - r.below(2),
        3 => 1 << (46 + r.below(4)),
        _ => CODE_BASE + r.below(0x7f0),
    };
    at.wrapping_sub(mode.code_base())
}

/// Content for memory operands and special registers, by instruction.
pub fn operands(r: &mut Rng, t: &mut Test, ins: &Instruction, target: Option<u64>) {
    if let Some(at) = target {
        match ins.memory_size() {
            MemorySize::Float80 => put(t, at, &values::f80_bytes(r)),
            MemorySize::Float32 | MemorySize::Packed128_Float32 => {
                let b: Vec<u8> = (0..4).flat_map(|_| values::f32_bits(r).to_le_bytes()).collect();
                put(t, at, &b);
            }
            MemorySize::Float64 | MemorySize::Packed128_Float64 => {
                let b: Vec<u8> = (0..2).flat_map(|_| values::f64_bits(r).to_le_bytes()).collect();
                put(t, at, &b);
            }
            _ if r.chance(50) => put(t, at, &values::sixteen(r)),
            _ => {}
        }
    }
    let sp = t.stack_top();
    let wide = t.mode.bits() as usize / 8;
    // Fields of a stack frame or far pointer: (value, field size).
    let field = |b: &mut Vec<u8>, v: u64, n: usize| b.extend_from_slice(&v.to_le_bytes()[..n]);
    match ins.mnemonic() {
        M::Ret | M::Retf | M::Iret | M::Iretd | M::Iretq if r.chance(85) => {
            let n = match ins.mnemonic() {
                M::Iret => 2,
                M::Iretd => 4,
                M::Iretq => 8,
                _ => ins.stack_pointer_increment().unsigned_abs() as usize, // corrected below for far returns
            };
            let n = match ins.mnemonic() {
                M::Ret if n >= wide => wide,
                M::Retf => retf_size(ins),
                _ => n.min(8),
            };
            let mut b = Vec::new();
            field(&mut b, code_address(r, t.mode), n);
            if ins.mnemonic() != M::Ret {
                let cs = if r.chance(60) { t.mode.cs() } else { selector(r) };
                field(&mut b, u64::from(cs), n);
                if ins.mnemonic() != M::Retf {
                    let flags = if r.chance(50) { r.next() & 0xcd5 | 0x202 } else { r.next() };
                    field(&mut b, flags, n);
                    field(&mut b, DATA_BASE + 0x800 + r.below(64), n);
                    let ss = if r.chance(80) { SEL_DATA } else { selector(r) };
                    field(&mut b, u64::from(ss), n);
                }
            }
            put(t, sp, &b);
        }
        M::Jmp | M::Call => {
            let v = code_address(r, t.mode);
            if let Some(at) = target {
                let far = matches!(ins.op0_kind(), OpKind::Memory) && is_far(ins);
                let n = ins.memory_size().size().min(10);
                let mut b = Vec::new();
                field(&mut b, v, if far { n.saturating_sub(2).min(8) } else { n.min(8) });
                if far {
                    field(&mut b, u64::from(if r.chance(60) { t.mode.cs() } else { selector(r) }), 2);
                }
                if r.chance(85) {
                    t.patch[0] = Patch::default();
                    put(t, at, &b);
                }
            } else if ins.op0_kind() == OpKind::Register {
                set_register(t, ins.op0_register(), v);
            } else if matches!(ins.op0_kind(), OpKind::FarBranch16 | OpKind::FarBranch32) && r.chance(70) {
                let at = t.len as usize - 2;
                let cs = if r.chance(70) { t.mode.cs() } else { selector(r) };
                t.code[at..at + 2].copy_from_slice(&cs.to_le_bytes());
                if ins.op0_kind() == OpKind::FarBranch32 {
                    t.code[at - 4..at].copy_from_slice(&(v as u32).to_le_bytes());
                } else if t.mode == Mode::Prot16 {
                    t.code[at - 2..at].copy_from_slice(&(v as u16).to_le_bytes());
                }
            }
        }
        M::Mov | M::Push | M::Pop if ins.op0_register().is_segment_register() => {
            let s = selector(r);
            if ins.mnemonic() == M::Pop {
                put(t, sp, &s.to_le_bytes());
            } else if let Some(at) = target {
                put(t, at, &s.to_le_bytes());
            } else if ins.op_count() > 1 {
                set_register(t, ins.op1_register(), u64::from(s) | t.gpr[0] & !0xffff);
            }
        }
        M::Lds | M::Les | M::Lss | M::Lfs | M::Lgs => {
            if let Some(at) = target {
                let n = ins.op0_register().size() as u64;
                t.patch[0] = Patch::default();
                put(t, at.wrapping_add(n), &selector(r).to_le_bytes());
            }
        }
        M::Popf | M::Popfd | M::Popfq if r.chance(70) => put(t, sp, &(r.next() & 0x40cd5 | 0x202).to_le_bytes()),
        M::Fxrstor | M::Fxrstor64 => {
            if let Some(at) = target {
                let mxcsr = if r.chance(85) { r.next() as u32 & 0xffff } else { r.next() as u32 };
                t.patch[0] = Patch::default();
                put(t, at.wrapping_add(24), &mxcsr.to_le_bytes());
            }
        }
        M::Ldmxcsr => {
            if let Some(at) = target {
                t.patch[0] = Patch::default();
                put(t, at, &(r.next() as u32 & if r.chance(80) { 0xffff } else { 0x3ffff }).to_le_bytes());
            }
        }
        M::Cmpxchg | M::Cmpxchg8b | M::Cmpxchg16b if r.chance(50) => {
            let n = if ins.mnemonic() == M::Cmpxchg16b { 8 } else { 4 };
            let mut b = Vec::new();
            if ins.mnemonic() == M::Cmpxchg {
                field(&mut b, t.gpr[0], 8);
            } else {
                field(&mut b, t.gpr[0], n);
                field(&mut b, t.gpr[2], n);
            }
            match target {
                Some(at) => {
                    t.patch[0] = Patch::default();
                    put(t, at, &b);
                }
                None => set_register(t, ins.op0_register(), t.gpr[0]),
            }
        }
        M::Div | M::Idiv if r.chance(60) => match ins.op0_register().size().max(ins.memory_size().size()) {
            1 => t.gpr[0] &= !0xff00,
            _ => t.gpr[2] = if ins.mnemonic() == M::Div { r.below(4) } else { ((t.gpr[0] as i64) >> 63) as u64 },
        },
        M::Bt | M::Bts | M::Btr | M::Btc if target.is_some() && r.chance(75) => {
            let v = r.below(0x8000) as i64 - 0x4000;
            if number(ins.op1_register()) != number(ins.memory_base()) {
                set_register(t, ins.op1_register(), v as u64);
            }
        }
        M::Pcmpestri | M::Pcmpestrm => {
            for g in [0, 2] {
                if r.chance(70) && number(ins.memory_base()) != Some(g) && number(ins.memory_index()) != Some(g) {
                    t.gpr[g] = (r.below(40) as i64 - 20) as u64;
                }
            }
        }
        _ => {}
    }
}

/// Operand size of a far return.
fn retf_size(ins: &Instruction) -> usize {
    use iced_x86::Code::*;
    match ins.code() {
        Retfw | Retfw_imm16 => 2,
        Retfq | Retfq_imm16 => 8,
        _ => 4,
    }
}

/// Is the memory operand of this JMP or CALL a far pointer?
fn is_far(ins: &Instruction) -> bool {
    matches!(ins.memory_size(), MemorySize::SegPtr16 | MemorySize::SegPtr32 | MemorySize::SegPtr64)
}
