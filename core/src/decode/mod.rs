//! From bytes to [`Insn`]: iced-x86 decodes, this file translates operands.

pub mod arena;
pub mod cache;
pub mod cursor;
pub mod insn;
pub mod needs;

use crate::cpu::features::Model;
use crate::cpu::mode::key;
use crate::isa::{self, Op};
use crate::size::Size;
use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction, MemorySize, Mnemonic, OpKind, Register};
use insn::{Ea, Insn, NOTHING, Stack, opnd, prefix, slot};

/// The longest instruction.
pub const MAX_LEN: usize = 15;

/// What our CPU models lack: TZCNT and LZCNT (then BSF and BSR with a useless prefix), WBNOINVD.
const OPTIONS: u32 = DecoderOptions::NO_MPFX_0FBC | DecoderOptions::NO_MPFX_0FBD | DecoderOptions::NO_WBNOINVD;

/// What the bytes are.
#[derive(Clone, Copy, Debug)]
pub enum Decoded {
    /// An instruction.
    Insn(Insn),
    /// No instruction: #UD.
    Undefined,
    /// Longer than 15 bytes: #GP(0).
    TooLong,
    /// The bytes end inside the instruction.
    More,
}

/// What the prefixes say, scanned once more because iced keeps it to itself.
#[derive(Clone, Copy, Default)]
struct Prefixes {
    osize: bool,
    asize: bool,
    rex_w: bool,
    repne: bool,
    rep: bool,
    /// Where the opcode begins.
    opcode: usize,
}

fn prefixes(bytes: &[u8], long: bool) -> Prefixes {
    let mut p = Prefixes::default();
    for (n, &b) in bytes.iter().enumerate() {
        p.opcode = n;
        match b {
            0x66 => p.osize = true,
            0x67 => p.asize = true,
            0xf2 => (p.repne, p.rep) = (true, false),
            0xf3 => (p.rep, p.repne) = (true, false),
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0xf0 => {}
            0x40..=0x4f if long => {
                // Only a REX right before the opcode counts.
                p.rex_w = b & 8 != 0;
                continue;
            }
            _ => break,
        }
        p.rex_w = false;
    }
    p
}

/// Decodes one instruction at `off` bytes from the start of its block; what `model` lacks is undefined.
pub fn decode(bytes: &[u8], mode: u8, model: Model, off: u16) -> Decoded {
    let bytes = &bytes[..bytes.len().min(MAX_LEN)];
    let bits = match mode & key::CODE {
        key::CODE64 => 64,
        key::CODE32 => 32,
        _ => 16,
    };
    let mut d = Decoder::new(bits, bytes, OPTIONS);
    let x = d.decode();
    match d.last_error() {
        DecoderError::None => {}
        DecoderError::NoMoreBytes => return Decoded::More,
        // Iced calls "too long" invalid, too: only with a byte less it says that it wants more. So it does of an
        // instruction of 15 bytes that is wrong in itself (LOCK before one that takes none), but lets that pass if asked.
        _ if bytes.len() == MAX_LEN => {
            let error = |bytes, options| {
                let mut d = Decoder::new(bits, bytes, options);
                let _ = d.decode();
                d.last_error()
            };
            let more = error(&bytes[..MAX_LEN - 1], OPTIONS) == DecoderError::NoMoreBytes;
            let wrong = error(bytes, OPTIONS | DecoderOptions::NO_INVALID_CHECK) == DecoderError::None;
            return if more && !wrong { Decoded::TooLong } else { Decoded::Undefined };
        }
        _ => return Decoded::Undefined,
    }
    if !model.has(needs::needs(&x, bits == 64)) {
        return Decoded::Undefined;
    }
    translate(&x, bytes, mode, off).map_or(Decoded::Undefined, Decoded::Insn)
}

/// Operand byte of a register.
fn register(r: Register) -> Option<u8> {
    let n = r as u32;
    let class = |first: Register, last: Register, base: u8| {
        (first as u32..=last as u32).contains(&n).then(|| base + (n - first as u32) as u8)
    };
    if let Some(k) = class(Register::AL, Register::R15L, 0) {
        return Some(match k {
            0..=3 => k,
            4..=7 => opnd::HIGH | (k - 4),
            _ => k - 4,
        });
    }
    class(Register::AX, Register::R15W, opnd::GPR)
        .or_else(|| class(Register::EAX, Register::R15D, opnd::GPR))
        .or_else(|| class(Register::RAX, Register::R15, opnd::GPR))
        .or_else(|| class(Register::XMM0, Register::XMM15, opnd::XMM))
        .or_else(|| class(Register::MM0, Register::MM7, opnd::MM))
        .or_else(|| class(Register::ST0, Register::ST7, opnd::ST))
        .or_else(|| class(Register::ES, Register::GS, opnd::SEG))
        .or_else(|| class(Register::CR0, Register::CR15, opnd::CR))
        .or_else(|| class(Register::DR0, Register::DR7, opnd::DR))
}

/// Width in bytes of a register operand.
fn width(r: Register) -> usize {
    let n = r as u32;
    let within = |a: Register, b: Register| (a as u32..=b as u32).contains(&n);
    if within(Register::AL, Register::R15L) {
        1
    } else if within(Register::AX, Register::R15W) || within(Register::ES, Register::GS) {
        2
    } else if within(Register::EAX, Register::R15D) {
        4
    } else if within(Register::XMM0, Register::XMM15) {
        16
    } else {
        8
    }
}

/// Bytes of a memory operand (iced tells only with a feature that costs the page 15 KB);
/// 0 for areas that are not one value.
fn memory_bytes(m: MemorySize) -> usize {
    use MemorySize::*;
    match m {
        UInt8 | Int8 => 1,
        UInt16 | Int16 | WordOffset | Packed16_UInt8 | Packed16_Int8 => 2,
        UInt32 | Int32 | Float32 | DwordOffset | SegPtr16 | Bound16_WordWord | Packed32_UInt8 | Packed32_Int8
        | Packed32_UInt16 | Packed32_Int16 => 4,
        SegPtr32 | Fword6 => 6,
        UInt64 | Int64 | Float64 | QwordOffset | Bound32_DwordDword | Packed64_UInt8 | Packed64_Int8
        | Packed64_UInt16 | Packed64_Int16 | Packed64_UInt32 | Packed64_Int32 | Packed64_Float32 => 8,
        SegPtr64 | Fword10 | Float80 | Bcd => 10,
        UInt128 | Int128 | Packed128_UInt8 | Packed128_Int8 | Packed128_UInt16 | Packed128_Int16 | Packed128_UInt32
        | Packed128_Int32 | Packed128_UInt64 | Packed128_Int64 | Packed128_Float32 | Packed128_Float64 => 16,
        _ => 0,
    }
}

fn translate(x: &Instruction, bytes: &[u8], mode: u8, off: u16) -> Option<Insn> {
    let long = mode & key::CODE == key::CODE64;
    let p = prefixes(bytes, long);
    let (op, sub) = isa::op_of(x)?;
    let osize = match (mode & key::CODE, p.osize) {
        _ if p.rex_w => Size::B8,
        (key::CODE16, false) | (key::CODE32 | key::CODE64, true) => Size::B2,
        _ => Size::B4,
    };
    let asize = match (mode & key::CODE, p.asize) {
        (key::CODE64, false) => 8,
        (key::CODE16, false) | (key::CODE32, true) => 2,
        _ => 4,
    };
    let mut i = Insn {
        off,
        len: x.len() as u8,
        size: osize,
        ea: Ea::Segmented,
        seg: 3,
        prefix: if long { prefix::LONG } else { 0 },
        sub,
        asize,
        stack: stack(mode),
        bytes: osize as u8,
        ..NOTHING
    };
    if x.has_lock_prefix() {
        i.prefix |= prefix::LOCK;
    }
    let mut sizes = [0usize; 5];
    for n in 0..x.op_count().min(5) {
        let o = operand(x, n, &mut i, mode)?;
        sizes[n as usize] = match x.op_kind(n) {
            OpKind::Register => width(x.op_register(n)),
            OpKind::Memory => memory_bytes(x.memory_size()),
            _ => 0,
        };
        match n {
            0 => i.a = o,
            1 => i.b = o,
            2 => i.c = o,
            // A fourth operand: the second immediate of nothing we decode.
            _ => {}
        }
    }
    if let Some(s) = Size::of_bytes(sizes[0]) {
        i.size = s;
    }
    i.size2 = if i.a == opnd::MEM { sizes[0] } else { sizes[1] } as u8;
    string_segment(x, &mut i, long);
    special(x, &mut i, osize, p, long);
    // x87: the opcode as FOP has it (SDM 1, 8.1.9), which also names ST(i).
    if let Some(&[first @ 0xd8..=0xdf, modrm]) = bytes.get(p.opcode..p.opcode + 2) {
        i.imm = u64::from(first & 7) << 8 | u64::from(modrm);
    }
    i.op = isa::dispatch(op, &i);
    Some(i)
}

/// Stack addressing of a mode.
fn stack(mode: u8) -> Stack {
    if mode & key::CODE == key::CODE64 {
        Stack::Flat64
    } else if mode & (key::FLAT | key::STACK32) == key::FLAT | key::STACK32 {
        Stack::Flat32
    } else if mode & key::STACK32 != 0 {
        Stack::Seg32
    } else {
        Stack::Seg16
    }
}

/// Translates operand `n`; fills in the memory fields or the immediate.
fn operand(x: &Instruction, n: u32, i: &mut Insn, mode: u8) -> Option<u8> {
    Some(match x.op_kind(n) {
        OpKind::Register => register(x.op_register(n))?,
        OpKind::Memory => memory(x, i, mode)?,
        OpKind::NearBranch16 => {
            i.imm = u64::from(i.off).wrapping_add(Size::B2.sx(x.near_branch_target()));
            i.size = Size::B2;
            opnd::IMM
        }
        OpKind::NearBranch32 => {
            i.imm = u64::from(i.off).wrapping_add(Size::B4.sx(x.near_branch_target()));
            i.size = Size::B4;
            opnd::IMM
        }
        OpKind::NearBranch64 => {
            i.imm = u64::from(i.off).wrapping_add(x.near_branch_target());
            i.size = Size::B8;
            opnd::IMM
        }
        OpKind::FarBranch16 => {
            (i.imm, i.disp) = (u64::from(x.far_branch16()), i32::from(x.far_branch_selector()));
            i.size = Size::B2;
            opnd::IMM
        }
        OpKind::FarBranch32 => {
            (i.imm, i.disp) = (u64::from(x.far_branch32()), i32::from(x.far_branch_selector()));
            i.size = Size::B4;
            opnd::IMM
        }
        OpKind::Immediate8_2nd => {
            i.sub = x.immediate8_2nd();
            opnd::IMM
        }
        OpKind::Immediate8
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64 => {
            i.imm = x.immediate(n);
            opnd::IMM
        }
        // The implied operands of string instructions; their code knows them.
        _ => opnd::MEM,
    })
}

/// Fills in the memory fields; the operand's byte.
fn memory(x: &Instruction, i: &mut Insn, mode: u8) -> Option<u8> {
    let long = mode & key::CODE == key::CODE64;
    i.seg = register(x.memory_segment())? & 7;
    if long && i.seg < 4 {
        // Overrides other than FS and GS count for nothing (SDM 1 3.3.7.1), not even for which fault it is.
        let stack = matches!(x.memory_base(), Register::RSP | Register::ESP | Register::RBP | Register::EBP);
        i.seg = if stack { 2 } else { 3 };
    }
    if i.seg == 2 {
        i.prefix |= prefix::STACK_EA;
    }
    let gpr = |r: Register| if r == Register::None { Some(slot::ZERO) } else { register(r) };
    if x.is_ip_rel_memory_operand() {
        // Decoded at 0, so this is length + displacement.
        let rel = x.memory_displacement64();
        let rel = if i.asize == 4 { Size::B4.sx(rel) } else { rel };
        i.base = slot::BLOCK;
        i.disp = i32::try_from(rel as i64 + i64::from(i.off)).ok()?;
    } else {
        i.base = gpr(x.memory_base())?;
        i.index = gpr(x.memory_index())?;
        i.scale = x.memory_index_scale().trailing_zeros() as u8;
        let d = x.memory_displacement64();
        i.disp = match i32::try_from(d as i64) {
            Ok(d) => d,
            // 32-bit displacements come zero-extended outside 64-bit addressing.
            Err(_) if i.asize != 8 => d as i32,
            Err(_) => {
                // A 64-bit displacement, which only MOV with rAX has.
                i.imm = d;
                return Some(opnd::MOFFS);
            }
        };
    }
    i.ea = if long {
        if i.seg >= 4 {
            Ea::Based64
        } else if i.asize == 8 {
            Ea::Flat64
        } else {
            Ea::Flat32
        }
    } else if mode & key::FLAT != 0 && i.asize == 4 && matches!(i.seg, 0 | 2 | 3) {
        Ea::Flat32
    } else {
        Ea::Segmented
    };
    Some(opnd::MEM)
}

/// String instructions name their source segment in an implied operand.
fn string_segment(x: &Instruction, i: &mut Insn, long: bool) {
    for n in 0..x.op_count() {
        if matches!(
            x.op_kind(n),
            OpKind::MemorySegSI
                | OpKind::MemorySegESI
                | OpKind::MemorySegRSI
                | OpKind::MemorySegDI
                | OpKind::MemorySegEDI
                | OpKind::MemorySegRDI
        ) {
            i.seg = register(x.memory_segment()).map_or(3, |s| s & 7);
            if long && i.seg < 4 {
                i.seg = 3;
            }
        }
    }
}

/// Operand sizes and details that the operands do not tell.
fn special(x: &Instruction, i: &mut Insn, osize: Size, p: Prefixes, long: bool) {
    use Mnemonic as M;
    // 64-bit mode: pushes, pops and near branches are 64 bits wide (SDM 2 table 2-?: D64, F64).
    let stack_size = match (long, osize) {
        (true, Size::B2) => Size::B2,
        (true, _) => Size::B8,
        (false, s) => s,
    };
    let strings = |s: Size, i: &mut Insn| {
        i.size = s;
        if p.rep {
            i.prefix |= prefix::REP;
        } else if p.repne {
            i.prefix |= prefix::REPNE;
        }
    };
    match x.mnemonic() {
        M::Push | M::Pop | M::Pushf | M::Popf | M::Enter | M::Leave | M::Pusha | M::Popa => i.size = stack_size,
        M::Pushfd | M::Popfd | M::Pushad | M::Popad => i.size = Size::B4,
        M::Pushfq | M::Popfq => i.size = Size::B8,
        // Near branches: Intel ignores 66h in 64-bit mode.
        M::Call | M::Jmp | M::Ret => match i.a {
            opnd::MEM if matches!(op_far(x), Some(true)) => i.size = osize,
            _ if x.mnemonic() != M::Ret && is_far_ptr(x) => {}
            _ => i.size = if long { Size::B8 } else { osize },
        },
        M::Retf | M::Iret | M::Iretd | M::Iretq => i.size = osize,
        M::Movsb | M::Stosb | M::Lodsb | M::Scasb | M::Cmpsb | M::Insb | M::Outsb => strings(Size::B1, i),
        M::Movsw | M::Stosw | M::Lodsw | M::Scasw | M::Cmpsw | M::Insw | M::Outsw => strings(Size::B2, i),
        M::Stosd | M::Lodsd | M::Scasd | M::Insd | M::Outsd => strings(Size::B4, i),
        M::Movsd | M::Cmpsd if isa::is_string(x) => strings(Size::B4, i),
        M::Movsq | M::Stosq | M::Lodsq | M::Scasq | M::Cmpsq => strings(Size::B8, i),
        M::Out => i.size = if i.b == 0 { Size::of_bytes(width(x.op_register(1))).unwrap_or(osize) } else { osize },
        M::Cbw | M::Cwd => i.size = Size::B2,
        M::Cwde | M::Cdq => i.size = Size::B4,
        M::Cdqe | M::Cqo => i.size = Size::B8,
        M::Sysret | M::Sysexit => i.size = Size::B4,
        M::Sysretq | M::Sysexitq => i.size = Size::B8,
        M::Lds | M::Les | M::Lss | M::Lfs | M::Lgs | M::Bound => i.size = osize,
        _ => {}
    }
}

/// Is a memory-indirect CALL or JMP far?
fn op_far(x: &Instruction) -> Option<bool> {
    use iced_x86::MemorySize as S;
    Some(matches!(x.memory_size(), S::SegPtr16 | S::SegPtr32 | S::SegPtr64))
}

fn is_far_ptr(x: &Instruction) -> bool {
    matches!(x.op0_kind(), OpKind::FarBranch16 | OpKind::FarBranch32)
}

/// Is this CALL or JMP far (through memory or with a pointer in the code)?
pub(crate) fn is_far(x: &Instruction) -> bool {
    is_far_ptr(x) || x.op0_kind() == OpKind::Memory && op_far(x) == Some(true)
}

/// For tests: the mnemonic-level operation of some bytes.
pub fn op_of_bytes(bytes: &[u8], mode: u8) -> Option<Op> {
    let bits = match mode & key::CODE {
        key::CODE64 => 64,
        key::CODE32 => 32,
        _ => 16,
    };
    let mut d = Decoder::new(bits, bytes, OPTIONS);
    isa::op_of(&d.decode()).map(|(op, _)| op)
}
