//! System instructions: control and debug registers, descriptor tables, TLB control, HLT,
//! FS/GS bases, time stamps, random numbers (SDM 2).

use super::operand::*;
use crate::cpu::memory::canonical;
use crate::cpu::segment::{Descriptor, Segment, attr, sys};
use crate::cpu::{Cpu, Done, Fault, Shadow, Stop, TableReg, Vector, cr0, cr4, efer, event, fault, gp, reg};
use crate::decode::insn::{Insn, opnd};
use crate::emit::Linear;
use crate::flags;
use crate::size::Size;

/// #GP(0) unless CPL is 0.
fn privileged(cpu: &Cpu) -> Done {
    if cpu.cpl != 0 { Err(gp(0)) } else { Ok(()) }
}
/// #UD in real and virtual-8086 mode.
fn protected_only(cpu: &Cpu) -> Done {
    if !cpu.protected() || cpu.v86() { Err(fault(Vector::UD)) } else { Ok(()) }
}
/// #GP(0) outside ring 0 with CR4.UMIP.
fn umip(cpu: &Cpu) -> Done {
    if cpu.cr4 & cr4::UMIP != 0 && cpu.cpl != 0 { Err(gp(0)) } else { Ok(()) }
}

/// MOV between rAX and a 64-bit absolute address.
pub fn mov_moffs(cpu: &mut Cpu, i: &Insn) -> Done {
    let at = cpu.linear(i.seg, i.imm, i.size as u8, i.a == opnd::MEM)?;
    if i.a == opnd::MEM {
        let v = cpu.regs[0];
        return cpu.write(at, i.size, v);
    }
    let v = cpu.read(at, i.size)?;
    set_reg(cpu, 0, i.size, false, v);
    Ok(())
}

/// LFENCE, MFENCE, SFENCE: memory is already in order.
pub fn fence(_: &mut Cpu, _: &Insn) -> Done {
    Ok(())
}

/// UD0, UD1, UD2.
pub fn ud(_: &mut Cpu, _: &Insn) -> Done {
    Err(fault(Vector::UD))
}

/// MOV r/m, Sreg: 16 bits to memory, zero-extended to registers.
pub fn mov_from_seg(cpu: &mut Cpu, i: &Insn) -> Done {
    let sel = u64::from(cpu.seg[(i.b & 7) as usize].sel);
    store_16(cpu, i, sel)
}

/// Stores a 16-bit value to memory, or zero-extended to a register of the operand size.
fn store_16(cpu: &mut Cpu, i: &Insn, v: u64) -> Done {
    if i.a == opnd::MEM {
        let at = linear(cpu, i, 2, true)?;
        return cpu.write(at, Size::B2, v);
    }
    set_reg(cpu, i.a, i.size, false, v);
    Ok(())
}

/// Reads a 16-bit register or memory operand.
fn load_16(cpu: &mut Cpu, i: &Insn, o: u8) -> Result<u16, Stop> {
    if o == opnd::MEM {
        let at = linear(cpu, i, 2, false)?;
        return Ok(cpu.read(at, Size::B2)? as u16);
    }
    Ok(cpu.regs[(o & 15) as usize] as u16)
}

/// MOV Sreg, r/m16. MOV to SS holds off interrupts and debug exceptions for one instruction.
pub fn mov_to_seg(cpu: &mut Cpu, i: &Insn) -> Done {
    let s = i.a & 7;
    if s == reg::CS {
        return Err(fault(Vector::UD));
    }
    let sel = load_16(cpu, i, i.b)?;
    cpu.load_segment(s, sel)?;
    if s == reg::SS {
        cpu.shadow = Shadow::MovSs;
        cpu.events |= event::STEP;
    }
    Ok(())
}

/// Operand size of MOV CR/DR: 64 bits in 64-bit mode, else 32.
fn wide(cpu: &Cpu) -> Size {
    if cpu.long { Size::B8 } else { Size::B4 }
}

/// MOV r, CRn.
pub fn mov_from_cr(cpu: &mut Cpu, i: &Insn) -> Done {
    let v = match i.b & 15 {
        0 => cpu.cr0,
        2 => cpu.cr2,
        3 => cpu.cr3,
        4 => cpu.cr4,
        8 => 0,
        _ => return Err(fault(Vector::UD)),
    };
    privileged(cpu)?;
    let v = if i.b & 15 == 8 { u64::from(cpu.bus().cr8_read()) } else { v };
    let s = wide(cpu);
    set_reg(cpu, i.a, s, false, s.zx(v));
    Ok(())
}

/// MOV CRn, r.
pub fn mov_to_cr(cpu: &mut Cpu, i: &Insn) -> Done {
    if !matches!(i.a & 15, 0 | 2 | 3 | 4 | 8) {
        return Err(fault(Vector::UD));
    }
    privileged(cpu)?;
    let v = wide(cpu).zx(cpu.regs[(i.b & 15) as usize]);
    match i.a & 15 {
        0 => set_cr0(cpu, v)?,
        2 => cpu.cr2 = v,
        3 => set_cr3(cpu, v)?,
        4 => set_cr4(cpu, v)?,
        _ => {
            if v & !15 != 0 {
                return Err(gp(0));
            }
            cpu.bus().cr8_write(v as u8);
            cpu.events |= event::CHECK;
        }
    }
    Ok(())
}

/// Flushes translations after a change of what they mean.
fn flush_all(cpu: &mut Cpu) {
    cpu.stats.tlb_flushes += 1;
    cpu.tlb.flush_all();
}

fn set_cr0(cpu: &mut Cpu, v: u64) -> Done {
    const KNOWN: u64 =
        cr0::PE | cr0::MP | cr0::EM | cr0::TS | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::NW | cr0::CD | cr0::PG;
    if v >> 32 != 0 || v & cr0::PG != 0 && v & cr0::PE == 0 || v & cr0::NW != 0 && v & cr0::CD == 0 {
        return Err(gp(0));
    }
    let new = v & KNOWN | cr0::ET;
    let changed = cpu.cr0 ^ new;
    if changed & cr0::PG != 0 {
        let long = cpu.efer & efer::LME != 0;
        if new & cr0::PG != 0 {
            if long {
                if cpu.cr4 & cr4::PAE == 0 || cpu.seg[reg::CS as usize].attr & attr::L != 0 {
                    return Err(gp(0));
                }
                cpu.efer |= efer::LMA;
            }
        } else {
            // SDM 2 MOV: not from 64-bit mode, nor with PCIDs on.
            if cpu.long || cpu.cr4 & cr4::PCIDE != 0 {
                return Err(gp(0));
            }
            cpu.efer &= !efer::LMA;
        }
    }
    if new & cr0::PG != 0
        && cpu.cr4 & cr4::PAE != 0
        && cpu.efer & efer::LMA == 0
        && changed & (cr0::PG | cr0::CD | cr0::NW) != 0
    {
        let cr3 = cpu.cr3;
        cpu.load_pdptes(cr3)?;
    }
    cpu.cr0 = new;
    if changed & (cr0::PG | cr0::WP | cr0::PE) != 0 {
        flush_all(cpu);
    }
    cpu.mode_changed();
    Ok(())
}

fn set_cr3(cpu: &mut Cpu, v: u64) -> Done {
    let keep = cpu.cr4 & cr4::PCIDE != 0 && v >> 63 != 0;
    let v = if cpu.cr4 & cr4::PCIDE != 0 { v & !(1 << 63) } else { v };
    if cpu.long_mode() && v >> crate::cpu::paging::PHYS_BITS != 0 {
        return Err(gp(0));
    }
    if cpu.cr0 & cr0::PG != 0 && cpu.cr4 & cr4::PAE != 0 && !cpu.long_mode() {
        cpu.load_pdptes(v)?;
    }
    // With a PCID kept, the old space's translations still must not serve the new one: the TLB
    // is not tagged by PCID.
    let same = cpu.cr3 == v;
    cpu.cr3 = v;
    if !(keep && same) {
        cpu.stats.tlb_flushes += 1;
        cpu.tlb.flush_local();
    }
    Ok(())
}

fn set_cr4(cpu: &mut Cpu, v: u64) -> Done {
    if v & !cpu.model.cr4_mask() != 0 {
        return Err(gp(0));
    }
    let changed = cpu.cr4 ^ v;
    if cpu.long_mode() && v & cr4::PAE == 0 {
        return Err(gp(0));
    }
    if changed & v & cr4::PCIDE != 0 && (!cpu.long_mode() || cpu.cr3 & 0xfff != 0) {
        return Err(gp(0));
    }
    let paging = cr4::PAE | cr4::PSE | cr4::PGE | cr4::SMEP;
    if cpu.cr0 & cr0::PG != 0 && v & cr4::PAE != 0 && !cpu.long_mode() && changed & paging != 0 {
        let cr3 = cpu.cr3;
        cpu.load_pdptes(cr3)?;
    }
    cpu.cr4 = v;
    if changed & (paging | cr4::SMAP | cr4::PCIDE) != 0 {
        flush_all(cpu);
    }
    cpu.mode_changed();
    Ok(())
}

/// CLTS: CR0.TS = 0.
pub fn clts(cpu: &mut Cpu, _: &Insn) -> Done {
    privileged(cpu)?;
    cpu.cr0 &= !cr0::TS;
    cpu.mode_changed();
    Ok(())
}

/// LMSW: the low four bits of CR0; PE cannot be cleared.
pub fn lmsw(cpu: &mut Cpu, i: &Insn) -> Done {
    privileged(cpu)?;
    let v = u64::from(load_16(cpu, i, i.a)?);
    let new = cpu.cr0 & !0xe | v & 0xf;
    set_cr0(cpu, new)
}

/// SMSW: CR0, 16 bits to memory.
pub fn smsw(cpu: &mut Cpu, i: &Insn) -> Done {
    umip(cpu)?;
    let v = i.size.zx(cpu.cr0);
    store_16(cpu, i, v)
}

/// MOV r, DRn.
pub fn mov_from_dr(cpu: &mut Cpu, i: &Insn) -> Done {
    let n = debug_register(cpu, i.b)?;
    let s = wide(cpu);
    let v = s.zx(cpu.dr[n]);
    set_reg(cpu, i.a, s, false, v);
    Ok(())
}

/// MOV DRn, r.
pub fn mov_to_dr(cpu: &mut Cpu, i: &Insn) -> Done {
    let n = debug_register(cpu, i.a)?;
    let v = wide(cpu).zx(cpu.regs[(i.b & 15) as usize]);
    if n >= 6 && v >> 32 != 0 {
        return Err(gp(0));
    }
    cpu.dr[n] = match n {
        6 => v & 0xe00f | 0xffff_0ff0,
        7 => v & 0xffff_2bff | 0x400,
        _ => v,
    };
    cpu.mode_changed();
    Ok(())
}

/// The number of a debug register, with the checks of SDM 3A 18.2.2; DR4 and DR5 are aliases.
fn debug_register(cpu: &mut Cpu, o: u8) -> Result<usize, Stop> {
    let n = (o & 7) as usize;
    if matches!(n, 4 | 5) && cpu.cr4 & cr4::DE != 0 {
        return Err(fault(Vector::UD));
    }
    privileged(cpu)?;
    if cpu.dr[7] & 1 << 13 != 0 {
        cpu.dr[7] &= !(1 << 13);
        cpu.dr[6] |= 1 << 13;
        cpu.rflags |= flags::RF;
        return Err(fault(Vector::DB));
    }
    Ok(if matches!(n, 4 | 5) { n + 2 } else { n })
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

/// INVLPG.
pub fn invlpg(cpu: &mut Cpu, i: &Insn) -> Done {
    privileged(cpu)?;
    // No segment check; a non-canonical address is a no-op.
    let off = wrapped_offset(cpu, i);
    let base = if !cpu.long || i.seg >= 4 { cpu.seg[i.seg as usize].base } else { 0 };
    let la = base.wrapping_add(off);
    let la = if cpu.long { la } else { la & 0xffff_ffff };
    cpu.tlb.flush_page(la);
    Ok(())
}

/// INVPCID: the TLB is not tagged, so every type flushes at least what it names.
pub fn invpcid(cpu: &mut Cpu, i: &Insn) -> Done {
    if cpu.model.cr4_mask() & cr4::PCIDE == 0 {
        return Err(fault(Vector::UD));
    }
    privileged(cpu)?;
    let kind = wide(cpu).zx(cpu.regs[(i.a & 15) as usize]);
    let at = linear(cpu, i, 16, false)?;
    let d = cpu.read128(at)?;
    if kind > 3 || kind < 2 && d[0] >> 12 != 0 || kind == 0 && !canonical(d[1]) {
        return Err(gp(0));
    }
    if kind < 2 && cpu.cr4 & cr4::PCIDE == 0 && d[0] != 0 {
        return Err(gp(0));
    }
    match kind {
        0 => cpu.tlb.flush_page(d[1]),
        1 | 3 => cpu.tlb.flush_local(),
        _ => cpu.tlb.flush_all(),
    }
    cpu.stats.tlb_flushes += 1;
    Ok(())
}

/// WBINVD, INVD, WBNOINVD: there is no cache to write back.
pub fn wbinvd(cpu: &mut Cpu, _: &Insn) -> Done {
    privileged(cpu)
}

/// CLFLUSH, CLFLUSHOPT, CLWB: a byte load's faults, nothing else.
pub fn clflush(cpu: &mut Cpu, i: &Insn) -> Done {
    let at = linear(cpu, i, 1, false)?;
    cpu.read(at, Size::B1)?;
    Ok(())
}

/// HLT.
pub fn hlt(cpu: &mut Cpu, _: &Insn) -> Done {
    privileged(cpu)?;
    cpu.events |= event::HALTED | event::CHECK;
    Ok(())
}

/// MONITOR: the address is checked as a load; nothing is armed.
pub fn monitor(cpu: &mut Cpu, i: &Insn) -> Done {
    privileged(cpu).map_err(|_| fault(Vector::UD))?;
    let off = cpu.regs[0] & if i.asize == 8 { u64::MAX } else { 0xffff_ffff };
    let at = cpu.linear(i.seg, off, 1, false)?;
    cpu.read(at, Size::B1)?;
    Ok(())
}

/// MWAIT: waits as HLT does. With ECX bit 0 an interrupt ends it even if IF is clear; waiting
/// for one that cannot be seen would hang, so then it does not wait.
pub fn mwait(cpu: &mut Cpu, _: &Insn) -> Done {
    privileged(cpu).map_err(|_| fault(Vector::UD))?;
    if cpu.regs[1] as u32 & !1 != 0 {
        return Err(gp(0));
    }
    if cpu.flag(flags::IF) {
        cpu.events |= event::HALTED | event::CHECK;
    }
    Ok(())
}

/// SWAPGS.
pub fn swapgs(cpu: &mut Cpu, _: &Insn) -> Done {
    if !cpu.long {
        return Err(fault(Vector::UD));
    }
    privileged(cpu)?;
    core::mem::swap(&mut cpu.seg[reg::GS as usize].base, &mut cpu.msr.kernel_gs_base);
    Ok(())
}

fn fsgsbase(cpu: &Cpu) -> Done {
    if !cpu.long || cpu.cr4 & cr4::FSGSBASE == 0 { Err(fault(Vector::UD)) } else { Ok(()) }
}
fn read_base(cpu: &mut Cpu, i: &Insn, s: u8) -> Done {
    fsgsbase(cpu)?;
    let v = i.size.zx(cpu.seg[s as usize].base);
    set_reg(cpu, i.a, i.size, false, v);
    Ok(())
}
fn write_base(cpu: &mut Cpu, i: &Insn, s: u8) -> Done {
    fsgsbase(cpu)?;
    let v = i.size.zx(cpu.regs[(i.a & 15) as usize]);
    if !canonical(v) {
        return Err(gp(0));
    }
    cpu.seg[s as usize].base = v;
    Ok(())
}
/// RDFSBASE.
pub fn rdfsbase(cpu: &mut Cpu, i: &Insn) -> Done {
    read_base(cpu, i, reg::FS)
}
/// RDGSBASE.
pub fn rdgsbase(cpu: &mut Cpu, i: &Insn) -> Done {
    read_base(cpu, i, reg::GS)
}
/// WRFSBASE.
pub fn wrfsbase(cpu: &mut Cpu, i: &Insn) -> Done {
    write_base(cpu, i, reg::FS)
}
/// WRGSBASE.
pub fn wrgsbase(cpu: &mut Cpu, i: &Insn) -> Done {
    write_base(cpu, i, reg::GS)
}

fn set_ac(cpu: &mut Cpu, on: bool) -> Done {
    if cpu.model.cr4_mask() & cr4::SMAP == 0 || cpu.cpl != 0 {
        return Err(fault(Vector::UD));
    }
    cpu.rflags = if on { cpu.rflags | flags::AC } else { cpu.rflags & !flags::AC };
    cpu.update_tlb_ctx();
    Ok(())
}
/// CLAC: RFLAGS.AC = 0.
pub fn clac(cpu: &mut Cpu, _: &Insn) -> Done {
    set_ac(cpu, false)
}
/// STAC: RFLAGS.AC = 1.
pub fn stac(cpu: &mut Cpu, _: &Insn) -> Done {
    set_ac(cpu, true)
}

fn set_edx_eax(cpu: &mut Cpu, v: u64) {
    cpu.regs[0] = v & 0xffff_ffff;
    cpu.regs[2] = v >> 32;
}

/// The time stamp counter as the guest sees it.
pub(super) fn tsc(cpu: &mut Cpu) -> u64 {
    cpu.bus().tsc().wrapping_add(cpu.msr.tsc_adjust)
}

/// RDTSC.  #GP(0) with CR4.TSD outside ring 0.
pub fn rdtsc(cpu: &mut Cpu, _: &Insn) -> Done {
    if cpu.cr4 & cr4::TSD != 0 && cpu.cpl != 0 {
        return Err(gp(0));
    }
    let t = tsc(cpu);
    set_edx_eax(cpu, t);
    Ok(())
}
/// RDTSCP: also TSC_AUX in ECX.
pub fn rdtscp(cpu: &mut Cpu, i: &Insn) -> Done {
    rdtsc(cpu, i)?;
    cpu.regs[1] = cpu.msr.tsc_aux & 0xffff_ffff;
    Ok(())
}
/// RDPID.
pub fn rdpid(cpu: &mut Cpu, i: &Insn) -> Done {
    let v = cpu.msr.tsc_aux;
    let s = wide(cpu);
    set_reg(cpu, i.a, s, false, s.zx(v));
    Ok(())
}
/// RDPMC: there are no counters.
pub fn rdpmc(_: &mut Cpu, _: &Insn) -> Done {
    Err(gp(0))
}

/// RDRAND, RDSEED from the injected source.  CF = 1, the others 0.
pub fn rdrand(cpu: &mut Cpu, i: &Insn) -> Done {
    let v = i.size.zx(cpu.bus().random());
    set_reg(cpu, i.a, i.size, false, v);
    flags::write(cpu, flags::CF);
    Ok(())
}

/// XGETBV.
pub fn xgetbv(cpu: &mut Cpu, _: &Insn) -> Done {
    if cpu.cr4 & cr4::OSXSAVE == 0 {
        return Err(fault(Vector::UD));
    }
    match cpu.regs[1] as u32 {
        0 => {
            let v = cpu.xcr0;
            set_edx_eax(cpu, v);
            Ok(())
        }
        _ => Err(gp(0)),
    }
}

/// XSETBV: x87 (always) and SSE.
pub fn xsetbv(cpu: &mut Cpu, _: &Insn) -> Done {
    if cpu.cr4 & cr4::OSXSAVE == 0 {
        return Err(fault(Vector::UD));
    }
    privileged(cpu)?;
    let v = cpu.regs[2] << 32 | cpu.regs[0] & 0xffff_ffff;
    if cpu.regs[1] as u32 != 0 || v & 1 == 0 || v & !3 != 0 {
        return Err(gp(0));
    }
    cpu.xcr0 = v;
    Ok(())
}
