//! PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM: comparisons of strings of bytes or words
//! (SDM 1, 14.11 on SSE4.2 string processing; SDM 2, "PCMPxSTRx").

use super::load16;
use crate::cpu::{Cpu, Done};
use crate::decode::insn::{Insn, opnd};
use crate::emit::{Emit, Unit};
use crate::flags;
use crate::size::Size;
use crate::vector::{V128, extract};

/// One operand: its elements and how many of them are valid.
struct Text {
    elements: [i32; 16],
    len: usize,
}

impl Text {
    /// `len` valid elements, or (None) those before the first zero.
    fn new(v: V128, imm: u8, len: Option<usize>) -> Self {
        let size = if imm & 1 != 0 { Size::B2 } else { Size::B1 };
        let n = count(imm);
        let mut elements = [0; 16];
        for (k, x) in elements.iter_mut().enumerate().take(n) {
            let raw = extract(v, size, k as u8);
            *x = if imm & 2 != 0 { size.sx(raw) as i32 } else { raw as i32 };
        }
        let len = len.unwrap_or_else(|| elements[..n].iter().position(|x| *x == 0).unwrap_or(n));
        Self { elements, len: len.min(n) }
    }
    fn get(&self, k: usize) -> Option<i32> {
        (k < self.len).then(|| self.elements[k])
    }
}

/// Elements of a vector.
fn count(imm: u8) -> usize {
    if imm & 1 != 0 { 8 } else { 16 }
}

/// The bits of "IntRes2": one per element of `b`.
fn compare(a: &Text, b: &Text, imm: u8) -> u32 {
    let n = count(imm);
    let holds = |j: usize| match imm >> 2 & 3 {
        // Equal any: is b[j] among a's elements?
        0 => b.get(j).is_some_and(|y| a.elements[..a.len].contains(&y)),
        // Ranges: is b[j] within one of a's pairs?
        1 => b.get(j).is_some_and(|y| a.elements[..a.len].chunks_exact(2).any(|r| r[0] <= y && y <= r[1])),
        // Equal each: element by element, ends count as equal.
        2 => a.get(j) == b.get(j),
        // Equal ordered: does a's text begin at j?
        _ => (0..n - j).all(|k| match (a.get(k), b.get(j + k)) {
            (None, _) => true,
            (x, y) => x == y,
        }),
    };
    let res = (0..n).fold(0, |r, j| r | u32::from(holds(j)) << j);
    let all = (1u32 << n) - 1;
    match imm >> 4 & 3 {
        1 => res ^ all,
        3 => res ^ ((1 << b.len) - 1),
        _ => res,
    }
}

/// Compares and sets the flags: CF any, ZF b ends, SF a ends, OF bit 0; AF = PF = 0.
fn run(cpu: &mut Cpu, i: &Insn, a: &Text, b: &Text) -> u32 {
    let imm = i.imm as u8;
    let res = compare(a, b, imm);
    let n = count(imm);
    let bit = |c: bool, f: u64| if c { f } else { 0 };
    let image =
        bit(res != 0, flags::CF) | bit(b.len < n, flags::ZF) | bit(a.len < n, flags::SF) | bit(res & 1 != 0, flags::OF);
    flags::write(cpu, image);
    res
}

/// ECX = the lowest (or, bit 6, highest) bit that is set, or the number of elements.
fn index(cpu: &mut Cpu, i: &Insn, a: &Text, b: &Text) {
    let res = run(cpu, i, a, b);
    let at = match (res, i.imm & 0x40 != 0) {
        (0, _) => count(i.imm as u8) as u32,
        (_, false) => res.trailing_zeros(),
        (_, true) => 31 - res.leading_zeros(),
    };
    cpu.regs[1] = u64::from(at);
}

/// XMM0 = the bits, or (bit 6) elements of ones and zeros.
fn mask(cpu: &mut Cpu, i: &Insn, a: &Text, b: &Text) {
    let res = run(cpu, i, a, b);
    let imm = i.imm as u8;
    let mut r = [u64::from(res), 0];
    if imm & 0x40 != 0 {
        let size = if imm & 1 != 0 { Size::B2 } else { Size::B1 };
        r = [0; 2];
        for k in 0..count(imm) as u8 {
            let ones = if res >> k & 1 != 0 { u64::MAX } else { 0 };
            r = crate::vector::insert(r, size, k, ones);
        }
    }
    cpu.xmm[0] = r;
}

/// Both operands; explicit lengths come from EAX and EDX or, with REX.W, RAX and RDX.
fn operands(cpu: &mut Cpu, i: &Insn, explicit: Option<Size>) -> Result<(Text, Text), crate::cpu::Stop> {
    cpu.simd(Unit::Sse)?;
    let b = if i.b == opnd::MEM { load16(cpu, i, false)? } else { cpu.vget(i.b & 15) };
    let a = cpu.vget(i.a & 15);
    let len = |r: u64| explicit.map(|s| (s.sx(r) as i64).unsigned_abs().min(16) as usize);
    let imm = i.imm as u8;
    Ok((Text::new(a, imm, len(cpu.regs[0])), Text::new(b, imm, len(cpu.regs[2]))))
}

/// PCMPISTRI: strings that end at a zero.
pub fn pcmpistri(cpu: &mut Cpu, i: &Insn) -> Done {
    let (a, b) = operands(cpu, i, None)?;
    index(cpu, i, &a, &b);
    Ok(())
}
/// PCMPISTRM.
pub fn pcmpistrm(cpu: &mut Cpu, i: &Insn) -> Done {
    let (a, b) = operands(cpu, i, None)?;
    mask(cpu, i, &a, &b);
    Ok(())
}
/// PCMPESTRI: lengths in EAX and EDX.
pub fn pcmpestri(cpu: &mut Cpu, i: &Insn) -> Done {
    let (a, b) = operands(cpu, i, Some(Size::B4))?;
    index(cpu, i, &a, &b);
    Ok(())
}
/// PCMPESTRI with REX.W: lengths in RAX and RDX.
pub fn pcmpestri64(cpu: &mut Cpu, i: &Insn) -> Done {
    let (a, b) = operands(cpu, i, Some(Size::B8))?;
    index(cpu, i, &a, &b);
    Ok(())
}
/// PCMPESTRM.
pub fn pcmpestrm(cpu: &mut Cpu, i: &Insn) -> Done {
    let (a, b) = operands(cpu, i, Some(Size::B4))?;
    mask(cpu, i, &a, &b);
    Ok(())
}
/// PCMPESTRM with REX.W.
pub fn pcmpestrm64(cpu: &mut Cpu, i: &Insn) -> Done {
    let (a, b) = operands(cpu, i, Some(Size::B8))?;
    mask(cpu, i, &a, &b);
    Ok(())
}
