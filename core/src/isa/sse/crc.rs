//! CRC32: the Castagnoli polynomial 11EDC6F41h (SDM 2). Needs no SSE state.

use super::low;
use crate::cpu::{Cpu, Done};
use crate::decode::insn::{Insn, opnd};
use crate::emit::{Emit, Slot};
use crate::isa::operand::reg;
use crate::size::Size;

/// The polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The remainder of every byte.
static TABLE: [u32; 256] = {
    let mut t = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut r = n as u32;
        let mut k = 0;
        while k < 8 {
            r = if r & 1 != 0 { r >> 1 ^ POLYNOMIAL } else { r >> 1 };
            k += 1;
        }
        t[n] = r;
        n += 1;
    }
    t
};

/// `bytes` bytes of `v`, low one first, added to a remainder.
pub fn crc32c(crc: u32, v: u64, bytes: u64) -> u32 {
    (0..bytes).fold(crc, |r, k| TABLE[usize::from(r as u8 ^ (v >> (8 * k)) as u8)] ^ r >> 8)
}

/// CRC32 r32/r64, r/m.  Flags: none.
pub fn crc32(cpu: &mut Cpu, i: &Insn) -> Done {
    let size = match i.size2 {
        1 => Size::B1,
        2 => Size::B2,
        4 => Size::B4,
        _ => Size::B8,
    };
    let v = if i.b == opnd::MEM { low(cpu, i, i.b, size)? } else { reg(cpu, i.b, size, true) };
    let r = crc32c(cpu.get(Slot::Gpr(i.a)) as u32, v, size.bytes());
    cpu.set(Slot::Gpr(i.a), u64::from(r));
    Ok(())
}
