//! System instructions that are neither about control registers (`control.rs`) nor about descriptors
//! (`descriptor.rs`): TLB control, HLT, FS/GS bases, AC, time stamps, random numbers (SDM 2).

use super::operand::{self, *};
use crate::cpu::memory::canonical;
use crate::cpu::{Cpu, Done, Stop, Vector, cr4, event, fault, gp, reg};
use crate::decode::insn::{Insn, opnd};
use crate::emit::{Bin, Emit, Mode, Slot};
use crate::flags;
use crate::size::Size;

type R<E> = Result<(), <E as Emit>::Stop>;

/// #GP(0) unless CPL is 0.
pub(super) fn privileged(cpu: &Cpu) -> Done {
    if cpu.cpl != 0 { Err(gp(0)) } else { Ok(()) }
}

/// #GP(0) outside ring 0 with CR4.UMIP.
pub(super) fn umip(cpu: &Cpu) -> Done {
    if cpu.cr4 & cr4::UMIP != 0 && cpu.cpl != 0 { Err(gp(0)) } else { Ok(()) }
}

/// LFENCE, MFENCE, SFENCE: memory is already in order.
pub fn fence<E: Emit, F: Form>(_: &mut E, _: F) -> R<E> {
    Ok(())
}

/// UD0, UD1, UD2.
pub fn ud(_: &mut Cpu, _: &Insn) -> Done {
    Err(fault(Vector::UD))
}

/// Stores a 16-bit value to memory, or zero-extended to a register of the operand size.
pub(super) fn store_16(cpu: &mut Cpu, i: &Insn, v: u64) -> Done {
    if i.a == opnd::MEM {
        let at = linear(cpu, i, 2, true)?;
        return cpu.write(at, Size::B2, v);
    }
    set_reg(cpu, i.a, i.size, false, v);
    Ok(())
}

/// Reads a 16-bit register or memory operand.
pub(super) fn load_16(cpu: &mut Cpu, i: &Insn, o: u8) -> Result<u16, Stop> {
    if o == opnd::MEM {
        let at = linear(cpu, i, 2, false)?;
        return Ok(cpu.read(at, Size::B2)? as u16);
    }
    Ok(cpu.regs[(o & 15) as usize] as u16)
}

/// Operand size of MOV CR/DR: 64 bits in 64-bit mode, else 32.
pub(super) fn wide(cpu: &Cpu) -> Size {
    if cpu.long { Size::B8 } else { Size::B4 }
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
    privileged(cpu)?;
    let kind = wide(cpu).zx(cpu.regs[(i.a & 15) as usize]);
    let at = linear(cpu, i, 16, false)?;
    let d = cpu.read128(at)?;
    if kind > 3 || d[0] >> 12 != 0 || kind == 0 && !canonical(d[1]) {
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

/// #UD outside 64-bit mode.
fn long_only<E: Emit>(e: &mut E) -> R<E> {
    let long = e.mode_is(Mode::Long);
    let not = e.is_zero(long);
    e.when(not, |e| Err(e.raise(Vector::UD)))
}

/// A fault unless CPL is 0.
fn ring_0<E: Emit>(e: &mut E, v: Vector) -> R<E> {
    let cpl = e.get(Slot::Cpl);
    e.when(cpl, |e| Err(e.raise(v)))
}

/// SWAPGS.
pub fn swapgs<E: Emit, F: Form>(e: &mut E, _: F) -> R<E> {
    long_only(e)?;
    ring_0(e, Vector::GP)?;
    let (base, other) = (e.get(Slot::SegBase(reg::GS)), e.get(Slot::KernelGsBase));
    e.set(Slot::SegBase(reg::GS), other);
    e.set(Slot::KernelGsBase, base);
    Ok(())
}

/// #UD outside 64-bit mode and without CR4.FSGSBASE.
fn fsgsbase<E: Emit>(e: &mut E) -> R<E> {
    long_only(e)?;
    let cr4 = e.get(Slot::Cr4);
    let on = e.andi(cr4, cr4::FSGSBASE);
    let off = e.is_zero(on);
    e.when(off, |e| Err(e.raise(Vector::UD)))
}

fn read_base<E: Emit, F: Form>(e: &mut E, f: F, s: u8) -> R<E> {
    fsgsbase(e)?;
    let v = e.get(Slot::SegBase(s));
    let v = e.zx(f.size(), v);
    set_reg(e, f.a, f.size(), false, v);
    Ok(())
}

fn write_base<E: Emit, F: Form>(e: &mut E, f: F, s: u8) -> R<E> {
    fsgsbase(e)?;
    let v = operand::reg(e, f.a & 15, f.size(), false);
    // Canonical?
    let up = e.shli(v, 16);
    let n = e.imm(16);
    let same = e.bin(Bin::Sar, up, n);
    let not = e.bin(Bin::Ne, same, v);
    e.when(not, |e| Err(e.raise(Vector::GP)))?;
    e.set(Slot::SegBase(s), v);
    Ok(())
}

/// RDFSBASE.
pub fn rdfsbase<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    read_base(e, f, reg::FS)
}

/// RDGSBASE.
pub fn rdgsbase<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    read_base(e, f, reg::GS)
}

/// WRFSBASE.
pub fn wrfsbase<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    write_base(e, f, reg::FS)
}

/// WRGSBASE.
pub fn wrgsbase<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    write_base(e, f, reg::GS)
}

/// CLAC: RFLAGS.AC = 0.
pub fn clac<E: Emit, F: Form>(e: &mut E, _: F) -> R<E> {
    ring_0(e, Vector::UD)?;
    e.set_ac(false);
    Ok(())
}

/// STAC: RFLAGS.AC = 1.
pub fn stac<E: Emit, F: Form>(e: &mut E, _: F) -> R<E> {
    ring_0(e, Vector::UD)?;
    e.set_ac(true);
    Ok(())
}

pub(super) fn set_edx_eax(cpu: &mut Cpu, v: u64) {
    cpu.regs[0] = v & 0xffff_ffff;
    cpu.regs[2] = v >> 32;
}

/// RDTSC.  #GP(0) with CR4.TSD outside ring 0.
pub fn rdtsc<E: Emit, F: Form>(e: &mut E, _: F) -> R<E> {
    let (cr4, cpl) = (e.get(Slot::Cr4), e.get(Slot::Cpl));
    let tsd = e.andi(cr4, cr4::TSD);
    let zero = e.imm(0);
    let not = e.select(tsd, cpl, zero);
    e.when(not, |e| Err(e.raise(Vector::GP)))?;
    let t = e.time_stamp();
    let (low, high) = (e.zx(Size::B4, t), e.shri(t, 32));
    e.set(Slot::Gpr(reg::RAX), low);
    e.set(Slot::Gpr(reg::RDX), high);
    Ok(())
}

/// RDTSCP: also TSC_AUX in ECX.
pub fn rdtscp(cpu: &mut Cpu, i: &Insn) -> Done {
    rdtsc(cpu, Any(i))?;
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
