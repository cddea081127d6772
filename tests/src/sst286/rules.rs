//! What a 286 does that the processors Tabvisor models do not, and the flags its manual leaves undefined
//! (80286 and 80287 Programmer's Reference Manual, appendix B). A rule is as narrow as its reason allows.

use super::moo::Case;

const PREFIXES: [u8; 7] = [0x26, 0x2e, 0x36, 0x3e, 0xf0, 0xf2, 0xf3];
const CF: u32 = 1;
const PF: u32 = 4;
const AF: u32 = 0x10;
const ZF: u32 = 0x40;
const SF: u32 = 0x80;
const OF: u32 = 0x800;
const ALL: u32 = CF | PF | AF | ZF | SF | OF;

/// Offset and value of the opcode byte.
pub fn opcode(bytes: &[u8]) -> Option<(usize, u8)> {
    let at = bytes.iter().position(|b| !PREFIXES.contains(b))?;
    Some((at, bytes[at]))
}

/// The opcode byte and the reg field of the byte behind it.
fn parts(c: &Case) -> (u8, u8) {
    opcode(&c.bytes).map_or((0x90, 0), |(at, op)| (op, c.bytes.get(at + 1).copied().unwrap_or(0) >> 3 & 7))
}

/// The count of a shift or rotate, 5 bits as since the 286, and the operand's bits.
fn shift(c: &Case, op: u8) -> (u32, u32) {
    let count = match op {
        0xd0 | 0xd1 => 1,
        0xd2 | 0xd3 => u32::from(c.before[2]),
        // The immediate is the last byte before the HLT.
        _ => c.bytes.iter().rev().nth(1).copied().unwrap_or(0).into(),
    };
    (count & 31, if op & 1 == 0 { 8 } else { 16 })
}

/// Flags that are undefined after the instruction.
pub fn undefined_flags(c: &Case) -> u32 {
    match parts(c) {
        (0x27 | 0x2f, _) => OF,
        (0x37 | 0x3f, _) => OF | SF | ZF | PF,
        (0xd4 | 0xd5, _) => OF | AF | CF,
        (0x08..=0x0d | 0x20..=0x25 | 0x30..=0x35 | 0x84 | 0x85 | 0xa8 | 0xa9, _) => AF,
        (0x80..=0x83, 1 | 4 | 6) | (0xf6 | 0xf7, 0 | 1) => AF,
        (0x69 | 0x6b, _) | (0xf6 | 0xf7, 4 | 5) => SF | ZF | AF | PF,
        (0xf6 | 0xf7, 6 | 7) => ALL,
        // A 286 in real mode cannot set IOPL and NT.
        (0x9d | 0xcf, _) => 0xf000,
        (op @ (0xc0 | 0xc1 | 0xd0..=0xd3), reg) => {
            let (count, bits) = shift(c, op);
            match count {
                0 => 0,
                n => {
                    let of = if n > 1 { OF } else { 0 };
                    let af = if reg >= 4 { AF } else { 0 };
                    // SHL and SHR by the operand's width or more; SAR goes on with the sign.
                    let cf = if matches!(reg, 4..=6) && n >= bits { CF } else { 0 };
                    of | af | cf
                }
            }
        }
        _ => 0,
    }
}

/// May the instruction have LOCK on a 386 and later (SDM 2A LOCK)?
fn lockable(c: &Case) -> bool {
    let Some((at, op)) = opcode(&c.bytes) else { return false };
    let modrm = c.bytes.get(at + 1).copied().unwrap_or(0xc0);
    let to_memory = modrm < 0xc0;
    to_memory
        && match (op, modrm >> 3 & 7) {
            (0x00..=0x37, _) => op & 7 <= 1,
            (0x80..=0x83, reg) => reg != 7,
            (0x86 | 0x87, _) => true,
            (0xf6 | 0xf7, 2 | 3) | (0xfe | 0xff, 0 | 1) => true,
            _ => false,
        }
}

/// Has a 286 moved SI and DI, and counted CX, although the string instruction faulted? Since the 386 faults are precise.
pub fn moves_anyway(c: &Case) -> bool {
    matches!(parts(c).0, 0x6c..=0x6f | 0xa4..=0xa7 | 0xaa..=0xaf) && c.exception.is_some()
}

/// Why a test is not run at all.
pub fn leaves_out(c: &Case) -> Option<&'static str> {
    let at = opcode(&c.bytes)?.0;
    if c.bytes.len() - 1 > 10 {
        return Some("more than 10 bytes fault on a 286, more than 15 since the 386");
    }
    if matches!(parts(c), (0x8c | 0x8e, 4 | 5)) {
        return Some("a 286 has no FS and GS");
    }
    if c.bytes[..at].contains(&0xf0) && !lockable(c) {
        return Some("LOCK before any instruction is allowed on a 286, #UD from the 386 on");
    }
    None
}
