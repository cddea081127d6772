//! Makes test `index` of stream `seed`: random bytes that decode to something wanted, a random state, and
//! then operands bent so that memory accesses land in and around the data window and rare outcomes (equal
//! compares, fitting quotients, valid selectors) are not rare.

use super::encoding::{decode_bytes, draw, length, wanted};
use super::operands::{number, operands, set_register};
use super::rng::Rng;
use super::state::*;
use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic as M, OpKind, Register};

/// Test `index` of stream `seed`.
pub fn generate(mode: Mode, seed: u64, index: u64) -> Test {
    let r = &mut Rng::at(seed ^ (mode as u64) << 63, index);
    let mut t = Test::background(mode, r.next());
    if r.chance(3) {
        t.entry = CODE_SIZE as u16 - 1 - r.below(15) as u16; // at or over the end of the page
    } else {
        t.entry += r.below(64) as u16;
    }
    let rip = t.rip();
    let ins = loop {
        let bytes = draw(r, mode);
        let bytes = &bytes[..15];
        let ins = decode_bytes(bytes, mode, rip);
        // Invalid ones are expensive on the host and dull; keep a tenth.
        if wanted(&ins, bytes, mode) && (!ins.is_invalid() || r.chance(10)) {
            t.len = length(&ins) as u8;
            t.code[..t.len as usize].copy_from_slice(&bytes[..t.len as usize]);
            break ins;
        }
    };
    segments(r, &mut t);
    stack(r, &mut t, &ins);
    let target = memory(r, &mut t, &ins);
    operands(r, &mut t, &ins, target);
    if r.chance(1) {
        t.rflags |= TF;
    }
    if r.chance(2) {
        t.rflags |= 1 << 18; // AC
    }
    if r.chance(15) {
        t.rflags |= 1 << 10; // DF
    }
    // A branch into its own bytes could go on for ever.
    let near = t.len > 0 && ins.near_branch_target().wrapping_sub(rip) < u64::from(t.len);
    if near && ins.flow_control() != FlowControl::Next {
        t.rflags |= TF;
    }
    t.make_valid();
    t
}

fn segments(r: &mut Rng, t: &mut Test) {
    if t.mode != Mode::Long64 {
        let any = [0, SEL_DATA, SEL_UP, SEL_DOWN, SEL_READ];
        for i in [FS, GS] {
            t.sel[i] = r.pick(&any);
        }
        for i in [ES, DS] {
            if r.chance(8) {
                t.sel[i] = r.pick(&any);
            }
        }
        if t.mode == Mode::Prot16 && r.chance(20) {
            t.sel[SS] = SEL_DATA;
        }
    } else {
        for base in [&mut t.fs_base, &mut t.gs_base] {
            *base = match r.below(4) {
                0 => 0,
                1 => DATA_BASE,
                2 => r.below(DATA_BASE + DATA_SIZE),
                _ => r.next() & 0x7fff_ffff_f000,
            };
        }
    }
}

/// The stack lies in the data window; sometimes at an edge, sometimes anywhere.
fn stack(r: &mut Rng, t: &mut Test, ins: &Instruction) {
    let at = match r.below(20) {
        0 => DATA_BASE + r.below(24),
        1 => RO_BASE - r.below(40),
        2 => DATA_BASE + r.below(DATA_SIZE),
        3 => DATA_BASE + 0x1000 - r.below(16),
        _ => DATA_BASE + 0x800 + 8 * r.below(0x100),
    };
    let small = t.sel[SS] == SEL_DATA16;
    // A 16-bit stack uses SP alone, whatever the rest of ESP is.
    let offset = |old: u64, at: u64| if small { old & 0xffff_0000 | (at - DATA_BASE) & 0xffff } else { at };
    if !r.chance(2) {
        t.gpr[4] = offset(t.gpr[4], at);
    }
    if matches!(ins.mnemonic(), M::Leave | M::Enter) || r.chance(20) {
        let at = if r.chance(90) { DATA_BASE + 0x800 + 4 * r.below(0x200) } else { at };
        t.gpr[5] = offset(t.gpr[5], at);
    }
}

/// An address for an access of `size` bytes, or none: leave the registers random.
fn target(r: &mut Rng, size: u64, whole: bool) -> Option<u64> {
    let end = DATA_SIZE - size.min(DATA_SIZE);
    let at = match r.below(100) {
        0..=57 => DATA_BASE + (r.below(end + 1) & !15),
        58..=75 if !whole => DATA_BASE + r.below(end + 1),
        58..=75 => DATA_BASE + (r.below(end + 1) & !15),
        76..=82 if !whole => DATA_BASE + 0x1000 - r.below(size + 1),
        76..=82 => RO_BASE - 16,
        83..=87 => RO_BASE - if whole { 0 } else { r.below(size + 1) },
        88..=91 => RO_BASE + (r.below(RO_SIZE) & !15),
        92..=94 => DATA_BASE - if whole { 16 } else { r.below(size + 1) },
        95..=96 => RO_BASE + RO_SIZE - r.below(size + 1),
        97 => CODE_BASE + r.below(CODE_SIZE),
        _ => return None,
    };
    Some(at)
}

/// The base the test gives segment register `seg`.
fn segment_base(t: &Test, seg: Register) -> u64 {
    if seg.is_segment_register() { t.segment_base(seg.number()) } else { 0 }
}

/// Points the memory operands somewhere interesting; returns where the first explicit one lies.
fn memory(r: &mut Rng, t: &mut Test, ins: &Instruction) -> Option<u64> {
    let mut found = None;
    let size = (ins.memory_size().size() as u64).clamp(1, 512);
    let mut factory = InstructionInfoFactory::new();
    let locked = ins.has_lock_prefix() || ins.mnemonic() == M::Xchg;
    for i in 0..ins.op_count() {
        use OpKind as K;
        match ins.op_kind(i) {
            K::Memory => {
                // A split lock stalls the whole machine on Intel hosts, so locked operands are aligned.
                if let Some(at) = target(r, size, locked) {
                    aim(r, t, ins, at);
                    found = Some(at);
                }
            }
            k @ (K::MemorySegSI
            | K::MemorySegESI
            | K::MemorySegRSI
            | K::MemorySegDI
            | K::MemorySegEDI
            | K::MemorySegRDI
            | K::MemoryESDI
            | K::MemoryESEDI
            | K::MemoryESRDI) => {
                let (reg, seg) = match k {
                    K::MemorySegSI => (Register::SI, ins.memory_segment()),
                    K::MemorySegESI => (Register::ESI, ins.memory_segment()),
                    K::MemorySegRSI => (Register::RSI, ins.memory_segment()),
                    K::MemorySegDI => (Register::DI, ins.memory_segment()),
                    K::MemorySegEDI => (Register::EDI, ins.memory_segment()),
                    K::MemorySegRDI => (Register::RDI, ins.memory_segment()),
                    K::MemoryESDI => (Register::DI, Register::ES),
                    K::MemoryESEDI => (Register::EDI, Register::ES),
                    _ => (Register::RDI, Register::ES),
                };
                if reg.size() == 2 && r.chance(80) {
                    t.sel[seg.number()] =
                        if matches!(seg, Register::SS | Register::CS) { t.sel[seg.number()] } else { SEL_UP };
                }
                if let Some(at) = target(r, size, false) {
                    set_register(t, reg, at.wrapping_sub(segment_base(t, seg)));
                    found = found.or(Some(at));
                }
            }
            _ => {}
        }
    }
    if ins.is_string_instruction() {
        let n = match r.below(10) {
            0 => r.below(3000),
            1 => r.next(),
            _ => r.below(20),
        };
        t.gpr[1] = n;
    }
    if ins.mnemonic() == M::Xlatb {
        if let Some(used) = factory.info(ins).used_memory().first() {
            if let Some(at) = target(r, 1, false) {
                let base = at.wrapping_sub(segment_base(t, used.segment())).wrapping_sub(t.gpr[0] & 0xff);
                set_register(t, used.base(), base);
                found = Some(at);
            }
        }
    }
    found
}

/// Changes registers or displacement so that the memory operand's linear address is `at`, if possible.
fn aim(r: &mut Rng, t: &mut Test, ins: &Instruction, at: u64) {
    let (base, index) = (ins.memory_base(), ins.memory_index());
    let seg = ins.memory_segment();
    if base.size() == 2 || index.size() == 2 {
        // 16-bit addresses reach nothing in a flat segment.
        if !matches!(seg, Register::SS | Register::CS) && r.chance(85) {
            t.sel[seg.number()] = SEL_UP;
        }
    }
    let offset = at.wrapping_sub(segment_base(t, seg));
    let scale = u64::from(ins.memory_index_scale());
    let disp = ins.memory_displacement64();
    if ins.is_ip_rel_memory_operand() {
        let next = t.rip() + u64::from(t.len);
        put_displacement(t, ins, offset.wrapping_sub(next));
    } else if base != Register::None && number(base) != number(index) {
        let n = if index == Register::None { 0 } else { t.gpr[number(index).unwrap_or(0)].wrapping_mul(scale) };
        set_register(t, base, offset.wrapping_sub(disp).wrapping_sub(n));
    } else if base != Register::None {
        // The same register twice: (1 + scale) * x.
        set_register(t, base, offset.wrapping_sub(disp) / (1 + scale));
    } else if index != Register::None {
        set_register(t, index, offset.wrapping_sub(disp) / scale.max(1));
    } else {
        put_displacement(t, ins, offset);
    }
}

/// Overwrites the displacement (or the address of a moffs form) in the code bytes.
fn put_displacement(t: &mut Test, ins: &Instruction, v: u64) {
    let mut d = iced_x86::Decoder::with_ip(t.mode.bits(), &t.code[..t.len as usize], t.rip(), 0);
    let mut again = Instruction::default();
    d.decode_out(&mut again);
    let c = d.get_constant_offsets(&again);
    if c.has_displacement() && again.len() == ins.len() {
        let (at, n) = (c.displacement_offset(), c.displacement_size());
        t.code[at..at + n].copy_from_slice(&v.to_le_bytes()[..n]);
    }
}
