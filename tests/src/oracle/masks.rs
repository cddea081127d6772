//! What may differ between two correct CPUs, and how far: results the manual calls undefined, approximations,
//! and the documented differences between the host's vendor and Intel, which Tabvisor models.
//!
//! Everything not named here is compared bit for bit. An entry is as narrow as its reason allows.

use super::compare;
use super::state::*;
use super::vendor;
use iced_x86::{Code, Instruction, Mnemonic as M, OpKind, Register};

/// CF, PF, AF, ZF, SF, OF.
pub const CF: u64 = 1;
/// Parity flag.
pub const PF: u64 = 4;
/// Auxiliary carry flag.
pub const AF: u64 = 0x10;
/// Zero flag.
pub const ZF: u64 = 0x40;
/// Sign flag.
pub const SF: u64 = 0x80;
/// Overflow flag.
pub const OF: u64 = 0x800;
const ARITH: u64 = CF | PF | AF | ZF | SF | OF;

/// Where Linux's user addresses end (TASK_SIZE_MAX: a page below the canonical hole).
const KERNEL_HALF: u64 = 0x7fff_ffff_f000;

/// How XMM or ST results are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Closeness {
    /// Bit for bit.
    #[default]
    Exact,
    /// 80-bit results may be one unit in the last place apart.
    Ulp80,
    /// Single-precision results may be 2 * 1.5 * 2^-12 apart, relative.
    Approx32,
}

/// The bits a comparison leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mask {
    /// Do not compare this test at all, because of this.
    pub skip: Option<&'static str>,
    /// RFLAGS bits.
    pub rflags: u64,
    /// Bits of each general register.
    pub gpr: [u64; 16],
    /// FSW bits.
    pub fsw: u16,
    /// FOP, FIP and FDP.
    pub pointers: bool,
    /// Error code bits.
    pub err: u32,
    /// CR2 bits.
    pub cr2: u64,
    /// Which of #SS, #GP, #PF and #AC it is, as long as both sides raise one.
    pub any_fault: bool,
    /// Ignored bytes of the data window: (first byte, length), offsets from `DATA_BASE`.
    pub memory: [(u16, u16); 4],
    /// How floating-point results are compared.
    pub closeness: Closeness,
}

impl Mask {
    /// Leaves `len` bytes of memory at linear address `at` out of the comparison.
    pub fn forget(&mut self, at: u64, len: u16) {
        let at = at.wrapping_sub(DATA_BASE);
        if at < DATA_SIZE {
            if let Some(slot) = self.memory.iter_mut().find(|m| m.1 == 0) {
                *slot = (at as u16, len);
            }
        }
    }

    /// Leaves `size` bytes of the first operand, register or memory, out of the comparison.
    pub fn forget_operand(&mut self, t: &Test, ins: &Instruction, size: usize) {
        match ins.op0_kind() {
            OpKind::Register => {
                let n = ins.op0_register().full_register().number();
                if let Some(g) = self.gpr.get_mut(n) {
                    *g |= if size >= 8 { u64::MAX } else { (1 << (8 * size)) - 1 };
                }
            }
            OpKind::Memory => {
                if let Some(at) = linear(t, ins) {
                    self.forget(at, size as u16);
                }
            }
            _ => {}
        }
    }
}

/// The base of a segment register before the test.
pub fn segment_base(t: &Test, seg: Register) -> u64 {
    if !seg.is_segment_register() {
        return 0;
    }
    t.segment_base(seg.number())
}

/// The linear address of the memory operand before the instruction ran.
pub fn linear(t: &Test, ins: &Instruction) -> Option<u64> {
    let memory = (0..ins.op_count()).find(|&i| ins.op_kind(i) == OpKind::Memory)?;
    ins.virtual_address(memory, 0, |reg, _, _| {
        if reg.is_segment_register() {
            return Some(segment_base(t, reg));
        }
        let v = *t.gpr.get(reg.full_register().number())?;
        Some(match reg.size() {
            8 => v,
            4 => v & 0xffff_ffff,
            _ => v & 0xffff,
        })
    })
    .map(|a| a & t.mode.mask())
}

/// The count of a shift or rotate, masked as the CPU does (SDM: 5 bits, 6 with a 64-bit operand).
fn shift_count(t: &Test, ins: &Instruction, size: usize) -> u32 {
    let last = ins.op_count() - 1;
    let raw = if ins.op_kind(last) == OpKind::Register { t.gpr[1] as u32 } else { ins.immediate(last) as u32 };
    raw & if size == 8 { 63 } else { 31 }
}

/// Size in bytes of the first operand.
fn operand_size(ins: &Instruction) -> usize {
    match ins.op0_kind() {
        OpKind::Register => ins.op0_register().size(),
        _ => ins.memory_size().size(),
    }
}

/// The mask for `t`, whose first instruction is `ins` and whose truth is `truth` on a CPU of `host`.
pub fn mask(t: &Test, ins: &Instruction, truth: &Out, host: Vendor) -> Mask {
    let mut m = Mask::default();
    if truth.vector == VEC_KILLED {
        m.skip = Some("the host could not run it");
        return m;
    }
    undefined(&mut m, t, ins, truth);
    vendor::differences(&mut m, t, ins, truth, host);
    m
}

/// ST(i) before the test.
fn st(t: &Test, i: usize) -> (u16, u64) {
    (t.fx.u16(Fx::st(i) + 8), t.fx.u64(Fx::st(i)))
}

/// Is the source outside the range for which F2XM1 and FYL2XP1 are defined (SDM 2A)?
fn out_of_range(t: &Test, ins: &Instruction) -> bool {
    let (se, m) = st(t, 0);
    let e = se & 0x7fff;
    match ins.mnemonic() {
        M::F2xm1 => e >= 0x3fff && !(e == 0x3fff && m == 1 << 63),
        // 1 - sqrt(2)/2 is 0.2928932, between 2^-2 and 2^-1.
        M::Fyl2xp1 => e > 0x3ffd || e == 0x3ffd && m > 0x95f6_1998_0c43_37a7,
        _ => false,
    }
}

/// Does FBLD's operand have digits above 9 (undefined, SDM 2A FBLD)? Unknown counts as yes.
fn bad_bcd(t: &Test, ins: &Instruction) -> bool {
    let Some(at) = linear(t, ins) else { return true };
    let mut bytes = (0..9).map(|i| compare::byte_before(t, at.wrapping_add(i)));
    bytes.any(|b| b.is_none_or(|b| b >> 4 > 9 || b & 15 > 9))
}

/// Does a masked store store nothing?
fn empty_mask(t: &Test, ins: &Instruction) -> bool {
    let n = ins.op2_register().number();
    let (at, len) = if ins.mnemonic() == M::Maskmovq { (Fx::st(n), 8) } else { (Fx::xmm(n), 16) };
    t.fx.0[at..at + len].iter().all(|b| b & 0x80 == 0)
}

/// Results the manual leaves open (SDM 2, "Flags Affected" and "Description" of each instruction).
fn undefined(m: &mut Mask, t: &Test, ins: &Instruction, truth: &Out) {
    let size = operand_size(ins);
    let faulted = truth.vector != 1 && !truth.completed(t);
    if faulted && matches!(ins.mnemonic(), M::Maskmovq | M::Maskmovdqu) && empty_mask(t, ins) {
        // Whether a fully masked store faults is up to the CPU (SDM 2B MASKMOVQ, MASKMOVDQU).
        m.skip = Some("a masked store of nothing");
    }
    match ins.code() {
        // With two bad operands it shows which is read first; that is not documented.
        Code::Cmpsb_m8_m8 | Code::Cmpsw_m16_m16 | Code::Cmpsd_m32_m32 | Code::Cmpsq_m64_m64 => m.any_fault = faulted,
        // Neither is whether all of a far pointer or a pair of bounds is within its segment before its first part is read.
        _ if matches!(ins.mnemonic(), M::Lds | M::Les | M::Lss | M::Lfs | M::Lgs)
            || ins.mnemonic() == M::Bound
            || ins.is_jmp_far_indirect()
            || ins.is_call_far_indirect() =>
        {
            m.any_fault = matches!(truth.vector, 14 | 17);
        }
        // The order in which the words of a frame are popped is not documented.
        _ if matches!(ins.mnemonic(), M::Retf | M::Iret | M::Iretd | M::Iretq) && faulted => {
            m.any_fault = truth.vector != 13;
            m.cr2 = u64::MAX;
        }
        // Nor is the order in which the words of an x87 environment or an FXSAVE area are moved.
        _ if matches!(
            ins.mnemonic(),
            M::Fnstenv | M::Fnsave | M::Fldenv | M::Frstor | M::Fxsave | M::Fxsave64 | M::Fxrstor | M::Fxrstor64
        ) && faulted =>
        {
            m.any_fault = true;
            (m.cr2, m.err) = (u64::MAX, 1);
        }
        _ => {}
    }
    let selector = ins.op_count() == 1 && ins.op0_register().is_segment_register();
    if selector && matches!(ins.mnemonic(), M::Push | M::Pop) && matches!(truth.vector, 12 | 14 | 17) {
        // The selector may be moved alone or as a whole stack word (SDM 2B PUSH), so different bytes are checked.
        m.skip = Some("a faulting push or pop of a selector");
    }
    if ins.is_invalid() && u64::from(t.entry) + u64::from(t.len) > CODE_SIZE {
        // How many bytes are fetched before #UD is not documented.
        m.skip = Some("an invalid instruction across the end of the code");
    }
    // Accesses across the end of a segment of 4 GiB "may or may not" fault (SDM 3A 5.3).
    let size_of_it = ins.memory_size().size().max(16) as u32;
    let edge = |a: u64| (a as u32).wrapping_add(size_of_it) < 2 * size_of_it;
    let offset = |a: u64| a.wrapping_sub(segment_base(t, ins.memory_segment()));
    let at_edge = linear(t, ins).is_some_and(|a| edge(a) || edge(offset(a))) || t.gpr[4..8].iter().any(|&a| edge(a));
    if t.mode != Mode::Long64 && at_edge {
        m.any_fault = matches!(truth.vector, 12..=14 | 17);
    }
    let whole = ins.memory_size().size() == 16 && linear(t, ins).is_some_and(|a| a & 15 != 0);
    if whole && truth.vector == 13 {
        // Whether the segment's limit or the alignment of a 16-byte operand is looked at first is not documented.
        m.any_fault = true;
    }
    if truth.vector == 17 && ins.memory_size().size() >= 16 {
        // Whether a 16-byte access that is aligned to 8 raises #AC is up to the CPU (SDM 3A 6.15, vector 17).
        m.skip = Some("alignment check of a 16-byte access");
    }
    match ins.mnemonic() {
        // Undefined even when they raise #DE.
        M::Div | M::Idiv => m.rflags |= ARITH,
        _ if faulted => {}
        M::And | M::Or | M::Xor | M::Test => m.rflags |= AF,
        M::Mul | M::Imul => m.rflags |= SF | ZF | AF | PF,
        M::Shl | M::Sal | M::Shr | M::Sar => match shift_count(t, ins, size) {
            0 => {} // nothing changes; software relies on it
            n => {
                m.rflags |= AF;
                if n > 1 {
                    m.rflags |= OF;
                }
                if n as usize >= 8 * size && ins.mnemonic() != M::Sar {
                    m.rflags |= CF;
                }
            }
        },
        M::Rol | M::Ror | M::Rcl | M::Rcr if shift_count(t, ins, size) > 1 => m.rflags |= OF,
        M::Shld | M::Shrd => match shift_count(t, ins, size) {
            0 => {}
            n => {
                m.rflags |= AF;
                if n > 1 {
                    m.rflags |= OF;
                }
                if n as usize > 8 * size {
                    m.rflags |= ARITH;
                    m.forget_operand(t, ins, size);
                }
            }
        },
        // With a zero source the destination is kept; that is asserted.
        M::Bsf | M::Bsr => m.rflags |= CF | OF | SF | AF | PF,
        M::Bt | M::Bts | M::Btr | M::Btc => m.rflags |= OF | SF | AF | PF,
        M::Aaa | M::Aas => m.rflags |= OF | SF | ZF | PF,
        M::Aam | M::Aad => m.rflags |= OF | AF | CF,
        M::Daa | M::Das => m.rflags |= OF,
        M::Bswap if size == 2 => m.forget_operand(t, ins, 2),
        M::Rcpps | M::Rcpss | M::Rsqrtps | M::Rsqrtss => m.closeness = Closeness::Approx32,
        M::F2xm1 | M::Fyl2x | M::Fyl2xp1 | M::Fpatan | M::Fptan | M::Fsin | M::Fcos | M::Fsincos => {
            // "Error less than 1 ulp" (SDM 1, 8.3.10): whether it was rounded, and which way, may differ too.
            m.closeness = Closeness::Ulp80;
            m.fsw |= 0x0200 | 0x0020;
            if out_of_range(t, ins) {
                m.skip = Some("source out of range");
            }
        }
        // How far an incomplete reduction goes is up to the CPU (SDM 2A FPREM).
        M::Fprem | M::Fprem1 if truth.fx.u16(2) & 0x400 != 0 => m.skip = Some("incomplete reduction"),
        M::Fbld if bad_bcd(t, ins) => m.skip = Some("invalid packed BCD"),
        M::Push if ins.op0_register().is_segment_register() => {
            // The selector may be written alone or zero-extended (SDM 2B PUSH).
            let sp = Test { gpr: truth.gpr, ..*t }.stack_top();
            let width = t.gpr[4].wrapping_sub(truth.gpr[4]) as u16 & 15;
            m.forget(sp.wrapping_add(2), width.saturating_sub(2));
        }
        _ => {}
    }
    // FIP, FDP and FOP have a common meaning only while an unmasked exception is pending: AMD saves zeros
    // otherwise (APM 2 11.4.4.3), Intel updates FOP, and newer ones FDP, only then (SDM 1 8.1.8, 8.1.9).
    m.pointers = truth.fx.u16(2) & 0x80 == 0;
    // Kernels report kernel-half addresses as present so as not to leak their page tables.
    if truth.vector == 14 && truth.cr2 >= KERNEL_HALF {
        m.err |= 1;
    }
    if truth.vector == VEC_INT80 {
        // Linux rolls RAX back from its 32-bit system call number.
        m.gpr[0] |= 0xffff_ffff_0000_0000;
    }
    if t.mode != Mode::Long64 {
        // High halves and the other registers are undefined outside 64-bit mode (SDM 1, 3.4.1.1).
        for (i, g) in m.gpr.iter_mut().enumerate() {
            *g |= if i < 8 { 0xffff_ffff_0000_0000 } else { u64::MAX };
        }
    }
}
