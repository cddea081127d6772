//! Ways back: RET far and IRET, to the same or an outer ring, to virtual-8086 mode, to another task (SDM 2; 3A chapters 5
//! and 6).

use super::far::{check_target, real_cs, set_cs};
use super::operand::*;
use crate::cpu::segment::{Segment, attr, sys};
use crate::cpu::task::Reason;
use crate::cpu::{Cpu, Done, Stop, Vector, event, gp, reg};
use crate::decode::insn::{Insn, opnd};
use crate::flags;
use crate::size::Size;

/// Pops values off the current stack without changing it until the end.
struct Pops {
    sp: u64,
    size: Size,
}

impl Pops {
    fn new(cpu: &mut Cpu, i: &Insn) -> Self {
        Self { sp: stack_ptr(cpu, Any(i)), size: i.size }
    }
    fn pop(&mut self, cpu: &mut Cpu, i: &Insn) -> Result<u64, Stop> {
        let at = stack_linear(cpu, Any(i), self.sp, self.size, false)?;
        let v = cpu.read(at, self.size)?;
        self.sp = stack_add(cpu, Any(i), self.sp, self.size as i64);
        Ok(v)
    }
}

/// RET far, with or without a number of bytes to release.
pub fn ret_far(cpu: &mut Cpu, i: &Insn) -> Done {
    let release = if i.a == opnd::IMM { (i.imm & 0xffff) as i64 } else { 0 };
    let mut p = Pops::new(cpu, i);
    let rip = p.pop(cpu, i)?;
    let sel = p.pop(cpu, i)? as u16;
    if !cpu.protected() || cpu.v86() {
        if rip > u64::from(cpu.seg[reg::CS as usize].limit) {
            return Err(gp(0));
        }
        let sp = stack_add(cpu, Any(i), p.sp, release);
        real_cs(cpu, sel);
        cpu.rip = rip;
        set_stack_ptr(cpu, Any(i), sp);
        return Ok(());
    }
    let (cs, cpl) = return_segment(cpu, sel, rip)?;
    if cpl == cpu.cpl {
        set_stack_ptr(cpu, Any(i), p.sp);
        set_cs(cpu, cs, cpl, rip);
        // The parameters are released with the stack pointer of the code that is returned to.
        let sp = cpu.regs[reg::RSP as usize].wrapping_add(release as u64);
        cpu.set_sp(sp);
        return Ok(());
    }
    p.sp = stack_add(cpu, Any(i), p.sp, release);
    let sp = p.pop(cpu, i)?;
    let ss = p.pop(cpu, i)? as u16;
    let ss = return_stack(cpu, ss, &cs, cpl)?;
    leave_ring(cpu, cs, cpl, rip, ss, sp.wrapping_add(release as u64));
    Ok(())
}

/// The code segment a far return goes to, and its privilege level.
pub(crate) fn return_segment(cpu: &mut Cpu, sel: u16, rip: u64) -> Result<(Segment, u8), Stop> {
    if sel & !3 == 0 {
        return Err(gp(0));
    }
    let mut d = cpu.descriptor(sel, Vector::GP)?;
    let seg = d.segment(sel);
    let rpl = (sel & 3) as u8;
    let dpl_ok = if seg.attr & attr::DC != 0 { seg.dpl() <= rpl } else { seg.dpl() == rpl };
    let both = cpu.long_mode() && seg.attr & (attr::L | attr::DB) == attr::L | attr::DB;
    if !d.is_segment() || !seg.is_code() || rpl < cpu.cpl || !dpl_ok || both {
        return Err(Cpu::sel_fault(Vector::GP, sel));
    }
    if !d.present() {
        return Err(Cpu::sel_fault(Vector::NP, sel));
    }
    check_target(cpu, &seg, rip)?;
    cpu.mark_accessed(sel, &mut d)?;
    Ok((d.segment(sel), rpl))
}

/// The stack segment a return to privilege `cpl` restores; null is allowed in 64-bit code.
pub(crate) fn return_stack(cpu: &mut Cpu, sel: u16, cs: &Segment, cpl: u8) -> Result<Segment, Stop> {
    if sel & !3 == 0 {
        let ok = cpu.long_mode() && cs.attr & attr::L != 0 && cpl != 3 && (sel & 3) as u8 == cpl;
        return if ok { Ok(Segment { attr: u16::from(cpl) << 5, ..Segment::null(sel) }) } else { Err(gp(0)) };
    }
    cpu.stack_segment(sel, cpl, Vector::GP)
}

/// CS:RIP and SS:RSP.
pub(crate) fn set_both(cpu: &mut Cpu, cs: Segment, cpl: u8, rip: u64, ss: Segment, sp: u64) {
    cpu.seg[reg::SS as usize] = ss;
    set_cs(cpu, cs, cpl, rip);
    cpu.set_sp(sp);
}

/// To an outer ring: CS:RIP, SS:RSP, and data segments that ring may not keep.
fn leave_ring(cpu: &mut Cpu, cs: Segment, cpl: u8, rip: u64, ss: Segment, sp: u64) {
    set_both(cpu, cs, cpl, rip, ss, sp);
    for s in [reg::ES, reg::DS, reg::FS, reg::GS] {
        let seg = &mut cpu.seg[s as usize];
        let conforming = seg.attr & (attr::CODE | attr::DC) == attr::CODE | attr::DC;
        if seg.present() && !conforming && seg.dpl() < cpl {
            *seg = Segment { base: seg.base, ..Segment::null(0) };
        }
    }
    cpu.segments_changed();
}

/// IRET, IRETD, IRETQ.
pub fn iret(cpu: &mut Cpu, i: &Insn) -> Done {
    // SDM 3C 28.2.3 (NMI unblocking due to IRET): also if the instruction then faults.
    if core::mem::take(&mut cpu.nmi_blocked) {
        cpu.events |= event::CHECK;
    }
    if !cpu.protected() {
        let fl = iret_real(cpu, i)?;
        let old = cpu.rflags_image();
        let fl = if i.size == Size::B2 { old & !0xffff | fl } else { old & 0x1a_0000 | fl & 0x25_7fd5 };
        cpu.put_rflags(fl);
        return Ok(());
    }
    if cpu.v86() {
        return iret_v86(cpu, i);
    }
    if cpu.flag(flags::NT) {
        if cpu.long_mode() {
            return Err(gp(0));
        }
        let tr = cpu.seg[7];
        let link = cpu.sys_read(tr.base, Size::B2)? as u16;
        let d = if link & 4 != 0 { None } else { Some(cpu.descriptor(link, Vector::TS)?) };
        let Some(d) = d.filter(|d| !d.is_segment() && matches!(d.kind(), sys::TSS16_BUSY | sys::TSS32_BUSY)) else {
            return Err(Cpu::sel_fault(Vector::TS, link));
        };
        if !d.present() {
            return Err(Cpu::sel_fault(Vector::NP, link));
        }
        let next = cpu.rip;
        return cpu.switch_task(link, &d, Reason::Return, next);
    }
    let mut p = Pops::new(cpu, i);
    let rip = p.pop(cpu, i)?;
    let sel = p.pop(cpu, i)? as u16;
    let fl = p.pop(cpu, i)?;
    if fl & flags::VM != 0 && cpu.cpl == 0 && i.size == Size::B4 && !cpu.long_mode() {
        return to_v86(cpu, i, p, rip, sel, fl);
    }
    let (cs, cpl) = return_segment(cpu, sel, rip)?;
    if cpl != cpu.cpl || cpu.long {
        let sp = p.pop(cpu, i)?;
        let ss = p.pop(cpu, i)? as u16;
        let ss = return_stack(cpu, ss, &cs, cpl)?;
        let fl = iret_flags(cpu, i, fl);
        if cpl != cpu.cpl {
            leave_ring(cpu, cs, cpl, rip, ss, sp);
        } else {
            set_both(cpu, cs, cpl, rip, ss, sp);
        }
        cpu.put_rflags(fl);
        return Ok(());
    }
    let fl = iret_flags(cpu, i, fl);
    set_cs(cpu, cs, cpl, rip);
    set_stack_ptr(cpu, Any(i), p.sp);
    cpu.put_rflags(fl);
    Ok(())
}

/// RFLAGS after IRET, by the privilege the instruction runs at.
fn iret_flags(cpu: &mut Cpu, i: &Insn, new: u64) -> u64 {
    let mut may = flags::OSZAPC | flags::TF | flags::DF | flags::NT;
    if i.size != Size::B2 {
        may |= flags::RF | flags::AC | flags::ID;
    }
    if cpu.cpl == 0 {
        may |= flags::IOPL;
        if i.size != Size::B2 {
            may |= flags::VIF | flags::VIP;
        }
    }
    if cpu.cpl <= (cpu.rflags >> 12 & 3) as u8 {
        may |= flags::IF;
    }
    cpu.rflags_image() & !may | new & may
}

/// Goes to a segment of real or virtual-8086 mode; returns the flags that were popped.
fn iret_real(cpu: &mut Cpu, i: &Insn) -> Result<u64, Stop> {
    let mut p = Pops::new(cpu, i);
    let rip = p.pop(cpu, i)?;
    let cs = p.pop(cpu, i)? as u16;
    let fl = p.pop(cpu, i)?;
    if rip > u64::from(cpu.seg[reg::CS as usize].limit) {
        return Err(gp(0));
    }
    set_stack_ptr(cpu, Any(i), p.sp);
    real_cs(cpu, cs);
    cpu.rip = rip;
    Ok(fl)
}

fn iret_v86(cpu: &mut Cpu, i: &Insn) -> Done {
    if cpu.rflags & flags::IOPL != flags::IOPL {
        return Err(gp(0));
    }
    let fl = iret_real(cpu, i)?;
    let keep = flags::VM | flags::IOPL | flags::VIP | flags::VIF | if i.size == Size::B2 { !0xffff } else { 0 };
    let old = cpu.rflags_image();
    cpu.put_rflags(old & keep | fl & !keep);
    Ok(())
}

/// IRETD from ring 0 to virtual-8086 mode.
fn to_v86(cpu: &mut Cpu, i: &Insn, mut p: Pops, rip: u64, cs: u16, fl: u64) -> Done {
    let sp = p.pop(cpu, i)?;
    let mut sel = [0u16; 6];
    for s in [reg::SS, reg::ES, reg::DS, reg::FS, reg::GS] {
        sel[s as usize] = p.pop(cpu, i)? as u16;
    }
    sel[reg::CS as usize] = cs;
    if rip > 0xffff {
        return Err(gp(0));
    }
    for (s, sel) in sel.into_iter().enumerate() {
        cpu.seg[s] = Segment::v86(sel);
    }
    cpu.cpl = 3;
    cpu.regs[reg::RSP as usize] = sp & 0xffff_ffff;
    cpu.rip = rip;
    cpu.put_rflags(fl);
    Ok(())
}
