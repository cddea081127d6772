//! Segment registers, descriptor tables and descriptors: MOV to and from Sreg, LGDT, LLDT, LTR and their kin, LAR, LSL,
//! VERR, VERW, ARPL (SDM 2; 3A chapters 3 and 5).

use super::operand::{self, *};
use super::system::{load_16, privileged, store_16, umip};
use crate::cpu::memory::canonical;
use crate::cpu::segment::{Descriptor, Segment, attr, sys};
use crate::cpu::{Cpu, Done, Fault, Stop, TableReg, Vector, fault, gp, reg};
use crate::decode::insn::Insn;
use crate::emit::{Emit, Linear, Slot};
use crate::flags;
use crate::size::Size;

type R<E> = Result<(), <E as Emit>::Stop>;

/// #UD in real and virtual-8086 mode.
fn protected_only(cpu: &Cpu) -> Done {
    if !cpu.protected() || cpu.v86() { Err(fault(Vector::UD)) } else { Ok(()) }
}

/// MOV r/m, Sreg: 16 bits to memory, zero-extended to registers.
pub fn mov_from_seg<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let sel = e.get(Slot::Selector(f.b & 7));
    if f.a_mem() {
        let at = linear_of(e, f, 2, true)?;
        return e.store(at, Size::B2, sel);
    }
    set_reg(e, f.a, f.size(), false, sel);
    Ok(())
}

/// MOV Sreg, r/m16. MOV to SS holds off interrupts and debug exceptions for one instruction.
pub fn mov_to_seg<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.a & 7;
    if s == reg::CS {
        return Err(e.raise(Vector::UD));
    }
    let sel = if f.b_mem() {
        let at = linear_of(e, f, 2, false)?;
        e.load(at, Size::B2)?
    } else {
        operand::reg(e, f.b & 15, Size::B2, false)
    };
    e.load_segment(s, sel)?;
    if s == reg::SS {
        e.hold_off();
    }
    Ok(())
}

/// The pseudo-descriptor of LGDT and LIDT.
fn load_table(cpu: &mut Cpu, i: &Insn) -> Result<TableReg, Stop> {
    privileged(cpu)?;
    let (size, n) = if cpu.long { (Size::B8, 10) } else { (Size::B4, 6) };
    let at = linear(cpu, i, n, false)?;
    let limit = cpu.read(at, Size::B2)? as u32;
    let mut base = cpu.read(Linear { at: at.at.wrapping_add(2), ..at }, size)?;
    if !cpu.long && i.bytes == 2 {
        base &= 0xff_ffff;
    }
    if cpu.long && !canonical(base) {
        return Err(gp(0));
    }
    Ok(TableReg { base, limit })
}

fn store_table(cpu: &mut Cpu, i: &Insn, t: TableReg) -> Done {
    umip(cpu)?;
    let (size, n) = if cpu.long { (Size::B8, 10) } else { (Size::B4, 6) };
    let at = linear(cpu, i, n, true)?;
    cpu.probe_write(at, u64::from(n))?;
    cpu.write(at, Size::B2, u64::from(t.limit))?;
    cpu.write(Linear { at: at.at.wrapping_add(2), ..at }, size, t.base)
}

/// LGDT.
pub fn lgdt(cpu: &mut Cpu, i: &Insn) -> Done {
    cpu.gdtr = load_table(cpu, i)?;
    Ok(())
}

/// LIDT.
pub fn lidt(cpu: &mut Cpu, i: &Insn) -> Done {
    cpu.idtr = load_table(cpu, i)?;
    Ok(())
}

/// SGDT.
pub fn sgdt(cpu: &mut Cpu, i: &Insn) -> Done {
    store_table(cpu, i, cpu.gdtr)
}

/// SIDT.
pub fn sidt(cpu: &mut Cpu, i: &Insn) -> Done {
    store_table(cpu, i, cpu.idtr)
}

/// The hidden part of LDTR or TR. Long mode's 64-bit bases must be canonical (AMD APM 3 LLDT, LTR; Intel's
/// processors do the same).
fn system_segment(d: &Descriptor, sel: u16) -> Result<Segment, Stop> {
    let seg = d.segment(sel);
    if canonical(seg.base) { Ok(seg) } else { Err(Cpu::sel_fault(Vector::GP, sel)) }
}

/// LLDT.
pub fn lldt(cpu: &mut Cpu, i: &Insn) -> Done {
    protected_only(cpu)?;
    privileged(cpu)?;
    let sel = load_16(cpu, i, i.a)?;
    if sel & !3 == 0 {
        cpu.seg[6] = Segment::null(sel);
        return Ok(());
    }
    if sel & 4 != 0 {
        return Err(Cpu::sel_fault(Vector::GP, sel));
    }
    let d = cpu.descriptor(sel, Vector::GP)?;
    if d.is_segment() || d.kind() != sys::LDT {
        return Err(Cpu::sel_fault(Vector::GP, sel));
    }
    if !d.present() {
        return Err(Cpu::sel_fault(Vector::NP, sel));
    }
    cpu.seg[6] = system_segment(&d, sel)?;
    Ok(())
}

/// LTR: the TSS becomes busy.
pub fn ltr(cpu: &mut Cpu, i: &Insn) -> Done {
    protected_only(cpu)?;
    privileged(cpu)?;
    let sel = load_16(cpu, i, i.a)?;
    if sel & !3 == 0 {
        return Err(gp(0));
    }
    if sel & 4 != 0 {
        return Err(Cpu::sel_fault(Vector::GP, sel));
    }
    let d = cpu.descriptor(sel, Vector::GP)?;
    let ok = d.kind() == sys::TSS32 || d.kind() == sys::TSS16 && !cpu.long_mode();
    if d.is_segment() || !ok {
        return Err(Cpu::sel_fault(Vector::GP, sel));
    }
    if !d.present() {
        return Err(Cpu::sel_fault(Vector::NP, sel));
    }
    let seg = system_segment(&d, sel)?;
    cpu.set_busy(sel, true)?;
    cpu.seg[7] = Segment { attr: seg.attr | 2, ..seg };
    Ok(())
}

/// SLDT.
pub fn sldt(cpu: &mut Cpu, i: &Insn) -> Done {
    protected_only(cpu)?;
    umip(cpu)?;
    let v = u64::from(cpu.seg[6].sel);
    store_16(cpu, i, v)
}

/// STR.
pub fn str(cpu: &mut Cpu, i: &Insn) -> Done {
    protected_only(cpu)?;
    umip(cpu)?;
    let v = u64::from(cpu.seg[7].sel);
    store_16(cpu, i, v)
}

/// The descriptor LAR, LSL, VERR, VERW look at, if it exists and the privilege allows.
fn visible(cpu: &mut Cpu, sel: u16) -> Result<Option<Descriptor>, Stop> {
    if sel & !3 == 0 {
        return Ok(None);
    }
    let d = match cpu.descriptor(sel, Vector::GP) {
        Ok(d) => d,
        Err(Stop::Fault(Fault { vector: Vector::GP, .. })) => return Ok(None),
        Err(e) => return Err(e),
    };
    let a = d.attr();
    let conforming = a & (attr::S | attr::CODE | attr::DC) == attr::S | attr::CODE | attr::DC;
    let rpl = (sel & 3) as u8;
    Ok((conforming || cpu.cpl <= d.dpl() && rpl <= d.dpl()).then_some(d))
}

fn finish_zf(cpu: &mut Cpu, z: bool) -> Done {
    flags::set_zf(cpu, u64::from(z));
    Ok(())
}

/// LAR: access rights.  ZF = valid.
pub fn lar(cpu: &mut Cpu, i: &Insn) -> Done {
    protected_only(cpu)?;
    let sel = load_16(cpu, i, i.b)?;
    let long = cpu.long_mode();
    let d = visible(cpu, sel)?.filter(|d| {
        d.is_segment()
            || if long { matches!(d.kind(), 2 | 9 | 11 | 12) } else { matches!(d.kind(), 1..=5 | 9 | 11 | 12) }
    });
    if let Some(d) = d {
        let v = i.size.zx(d.raw >> 32 & 0x00ff_ff00);
        set_reg(cpu, i.a, i.size, false, v);
    }
    finish_zf(cpu, d.is_some())
}

/// LSL: limit.  ZF = valid.
pub fn lsl(cpu: &mut Cpu, i: &Insn) -> Done {
    protected_only(cpu)?;
    let sel = load_16(cpu, i, i.b)?;
    let long = cpu.long_mode();
    let d = visible(cpu, sel)?.filter(|d| {
        d.is_segment() || if long { matches!(d.kind(), 2 | 9 | 11) } else { matches!(d.kind(), 1..=3 | 9 | 11) }
    });
    if let Some(d) = d {
        let v = i.size.zx(u64::from(d.segment(sel).limit));
        set_reg(cpu, i.a, i.size, false, v);
    }
    finish_zf(cpu, d.is_some())
}

/// VERR.  ZF = readable.
pub fn verr(cpu: &mut Cpu, i: &Insn) -> Done {
    protected_only(cpu)?;
    let sel = load_16(cpu, i, i.a)?;
    let ok = visible(cpu, sel)?.is_some_and(|d| d.is_segment() && d.attr() & (attr::CODE | attr::RW) != attr::CODE);
    finish_zf(cpu, ok)
}

/// VERW.  ZF = writable.
pub fn verw(cpu: &mut Cpu, i: &Insn) -> Done {
    protected_only(cpu)?;
    let sel = load_16(cpu, i, i.a)?;
    let ok = visible(cpu, sel)?.is_some_and(|d| d.segment(sel).is_writable());
    finish_zf(cpu, ok)
}

/// ARPL: raises the RPL.  ZF = it was raised. A destination that stays as it is need not be writable: an 80386 and
/// AMD's processors write nothing then, and SDM 2A's operation says no other.
pub fn arpl(cpu: &mut Cpu, i: &Insn) -> Done {
    protected_only(cpu)?;
    let rpl = cpu.regs[(i.b & 15) as usize] & 3;
    let sel = u64::from(load_16(cpu, i, i.a)?);
    let raised = sel & 3 < rpl;
    if raised {
        store_16(cpu, &Insn { size: Size::B2, ..*i }, sel & !3 | rpl)?;
    }
    finish_zf(cpu, raised)
}
