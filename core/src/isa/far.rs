//! Far transfers: JMP and CALL far, call gates, tasks; LDS and friends (SDM 2; 3A chapters 5 and 8). The ways back are
//! in `ret.rs`.

use super::operand::*;
use crate::cpu::exception::Frame;
use crate::cpu::memory::canonical;
use crate::cpu::segment::{Descriptor, Segment, attr, sys};
use crate::cpu::task::Reason;
use crate::cpu::{Cpu, Done, Stop, Vector, gp, reg};
use crate::decode::insn::{Insn, opnd};
use crate::size::Size;

/// The far pointer of the instruction: from its bytes (`imm` = offset, `disp` = selector) or
/// from memory.
fn pointer(cpu: &mut Cpu, i: &Insn) -> Result<(u16, u64), Stop> {
    if i.a != opnd::MEM {
        return Ok((i.disp as u16, i.imm));
    }
    load_pointer(cpu, i)
}

/// selector:offset from the memory operand.
fn load_pointer(cpu: &mut Cpu, i: &Insn) -> Result<(u16, u64), Stop> {
    let n = i.size as u8 + 2;
    let at = linear(cpu, i, n, false)?;
    let off = cpu.read(at, i.size)?;
    let sel = cpu.read(crate::emit::Linear { at: at.at.wrapping_add(i.size.bytes()), ..at }, Size::B2)?;
    Ok((sel as u16, off))
}

/// LDS, LES, LSS, LFS, LGS: the segment number is in `sub`.
pub fn load_far(cpu: &mut Cpu, i: &Insn) -> Done {
    let dst = i.a;
    let (sel, off) = load_pointer(cpu, &Insn { a: opnd::MEM, ..*i })?;
    cpu.load_segment(i.sub, sel)?;
    // LSS holds nothing off: SDM 3A 6.8.3 recommends it for its being one instruction.
    set_reg(cpu, dst, i.size, false, off);
    Ok(())
}

/// A real-mode or virtual-8086 CS.
pub(super) fn real_cs(cpu: &mut Cpu, sel: u16) {
    let cs = &mut cpu.seg[reg::CS as usize];
    (cs.sel, cs.base) = (sel, u64::from(sel) << 4);
}

/// Is the target within the limit of `cs` (or canonical in 64-bit code)?
pub(super) fn check_target(cpu: &Cpu, cs: &Segment, rip: u64) -> Done {
    let long = cpu.long_mode() && cs.attr & attr::L != 0;
    let ok = if long { canonical(rip) } else { rip <= u64::from(cs.limit) };
    if ok { Ok(()) } else { Err(gp(0)) }
}

/// JMP far.
pub fn jmp_far(cpu: &mut Cpu, i: &Insn) -> Done {
    let (sel, off) = pointer(cpu, i)?;
    if !cpu.protected() || cpu.v86() {
        if off > u64::from(cpu.seg[reg::CS as usize].limit) {
            return Err(gp(0));
        }
        real_cs(cpu, sel);
        cpu.rip = off;
        return Ok(());
    }
    far(cpu, i, sel, off, false)
}

/// CALL far.
pub fn call_far(cpu: &mut Cpu, i: &Insn) -> Done {
    let (sel, off) = pointer(cpu, i)?;
    if !cpu.protected() || cpu.v86() {
        if off > u64::from(cpu.seg[reg::CS as usize].limit) {
            return Err(gp(0));
        }
        let (cs, next) = (cpu.seg[reg::CS as usize].sel, cpu.rip);
        push_pair(cpu, i, u64::from(cs), next)?;
        real_cs(cpu, sel);
        cpu.rip = off;
        return Ok(());
    }
    far(cpu, i, sel, off, true)
}

/// Pushes two values onto the current stack; all or nothing.
fn push_pair(cpu: &mut Cpu, i: &Insn, first: u64, second: u64) -> Done {
    let mut sp = stack_ptr(cpu, Any(i));
    for v in [first, second] {
        sp = stack_add(cpu, Any(i), sp, -(i.size as i64));
        let at = stack_linear(cpu, Any(i), sp, i.size, true)?;
        cpu.write(at, i.size, v)?;
    }
    set_stack_ptr(cpu, Any(i), sp);
    Ok(())
}

fn current_frame(cpu: &Cpu) -> Frame {
    Frame {
        seg: cpu.seg[reg::SS as usize],
        sp: cpu.regs[reg::RSP as usize] & cpu.stack_mask(),
        cpl: cpu.cpl,
        flat: cpu.long,
        error: 0,
    }
}

/// JMP/CALL far in protected mode: code segment, call gate, task gate or TSS.
fn far(cpu: &mut Cpu, i: &Insn, sel: u16, off: u64, call: bool) -> Done {
    if sel & !3 == 0 {
        return Err(gp(0));
    }
    let mut d = cpu.descriptor(sel, Vector::GP)?;
    if d.is_segment() {
        let seg = d.segment(sel);
        let rpl = (sel & 3) as u8;
        let ok = if seg.attr & attr::DC != 0 { seg.dpl() <= cpu.cpl } else { rpl <= cpu.cpl && seg.dpl() == cpu.cpl };
        let both = cpu.long_mode() && seg.attr & (attr::L | attr::DB) == attr::L | attr::DB;
        if !seg.is_code() || !ok || both {
            return Err(Cpu::sel_fault(Vector::GP, sel));
        }
        if !d.present() {
            return Err(Cpu::sel_fault(Vector::NP, sel));
        }
        check_target(cpu, &seg, off)?;
        let (cs, next) = (cpu.seg[reg::CS as usize].sel, cpu.rip);
        if call {
            push_pair(cpu, i, u64::from(cs), next)?;
        }
        cpu.mark_accessed(sel, &mut d)?;
        let cpl = cpu.cpl;
        set_cs(cpu, d.segment(sel), cpl, off);
        return Ok(());
    }
    let (dpl, rpl) = (d.dpl(), (sel & 3) as u8);
    if dpl < cpu.cpl || dpl < rpl {
        return Err(Cpu::sel_fault(Vector::GP, sel));
    }
    let long = cpu.long_mode();
    match d.kind() {
        sys::CALL32 => gate(cpu, sel, &d, call),
        sys::CALL16 if !long => gate(cpu, sel, &d, call),
        sys::TSS16 | sys::TSS32 if !long => {
            if !d.present() {
                return Err(Cpu::sel_fault(Vector::NP, sel));
            }
            let next = cpu.rip;
            cpu.switch_task(sel, &d, if call { Reason::Call } else { Reason::Jump }, next)
        }
        sys::TASK_GATE if !long => {
            if !d.present() {
                return Err(Cpu::sel_fault(Vector::NP, sel));
            }
            let tss = d.gate_selector();
            if tss & 4 != 0 {
                return Err(Cpu::sel_fault(Vector::GP, tss));
            }
            let t = cpu.descriptor(tss, Vector::GP)?;
            if t.is_segment() || !matches!(t.kind(), sys::TSS16 | sys::TSS32) {
                return Err(Cpu::sel_fault(Vector::GP, tss));
            }
            if !t.present() {
                return Err(Cpu::sel_fault(Vector::NP, tss));
            }
            let next = cpu.rip;
            cpu.switch_task(tss, &t, if call { Reason::Call } else { Reason::Jump }, next)
        }
        _ => Err(Cpu::sel_fault(Vector::GP, sel)),
    }
}

/// CS, CPL and RIP at once. The selector's RPL becomes the CPL.
pub(super) fn set_cs(cpu: &mut Cpu, seg: Segment, cpl: u8, rip: u64) {
    cpu.seg[reg::CS as usize] = Segment { sel: seg.sel & !3 | u16::from(cpl), ..seg };
    cpu.cpl = cpl;
    cpu.rip = rip;
    cpu.segments_changed();
}

/// A call gate (SDM 3A 5.8.3 to 5.8.5).
fn gate(cpu: &mut Cpu, gate_sel: u16, g: &Descriptor, call: bool) -> Done {
    if !g.present() {
        return Err(Cpu::sel_fault(Vector::NP, gate_sel));
    }
    let long = cpu.long_mode();
    // SDM 3A 5.8.3.1: the type field of the upper half must be zero.
    if long && g.high >> 40 & 0x1f != 0 {
        return Err(Cpu::sel_fault(Vector::GP, gate_sel));
    }
    let sel = g.gate_selector();
    if sel & !3 == 0 {
        return Err(gp(0));
    }
    let mut d = cpu.descriptor(sel, Vector::GP)?;
    let seg = d.segment(sel);
    let conforming = seg.attr & attr::DC != 0;
    if !d.is_segment()
        || !seg.is_code()
        || seg.dpl() > cpu.cpl
        || !call && !conforming && seg.dpl() != cpu.cpl
        || long && seg.attr & (attr::L | attr::DB) != attr::L
    {
        return Err(Cpu::sel_fault(Vector::GP, sel));
    }
    if !d.present() {
        return Err(Cpu::sel_fault(Vector::NP, sel));
    }
    let wide = g.kind() & 8 != 0;
    let size = if long {
        Size::B8
    } else if wide {
        Size::B4
    } else {
        Size::B2
    };
    let off = g.gate_offset() & if long { u64::MAX } else { size.mask() };
    check_target(cpu, &seg, off)?;
    let cpl = if conforming || !call { cpu.cpl } else { seg.dpl() };
    let (old_cs, next) = (u64::from(cpu.seg[reg::CS as usize].sel), cpu.rip);
    if !call {
        cpu.mark_accessed(sel, &mut d)?;
        set_cs(cpu, d.segment(sel), cpl, off);
        return Ok(());
    }
    let mut f = current_frame(cpu);
    f.flat = long;
    if cpl != cpu.cpl {
        let (old_ss, old_sp) = (cpu.seg[reg::SS as usize], cpu.regs[reg::RSP as usize]);
        let sp_mask = cpu.stack_mask();
        f = if long {
            let sp = cpu.tss64(4 + 8 * u64::from(cpl))?;
            let seg = Segment { attr: u16::from(cpl) << 5, ..Segment::null(u16::from(cpl)) };
            Frame { seg, sp, cpl, flat: true, error: 0 }
        } else {
            let (ss, sp) = cpu.tss_stack(cpl)?;
            Frame { seg: cpu.stack_segment(ss, cpl, Vector::TS)?, sp, cpl, flat: false, error: ss & !3 }
        };
        f.push(cpu, size, u64::from(old_ss.sel))?;
        f.push(cpu, size, old_sp)?;
        if !long {
            let n = g.raw >> 32 & 31;
            for k in (0..n).rev() {
                let from = old_sp.wrapping_add(k * size.bytes()) & sp_mask;
                let at = cpu.linear(reg::SS, from, size as u8, false)?;
                let v = cpu.read(at, size)?;
                f.push(cpu, size, v)?;
            }
        }
    }
    f.push(cpu, size, old_cs)?;
    f.push(cpu, size, next)?;
    cpu.mark_accessed(sel, &mut d)?;
    if cpl != cpu.cpl {
        cpu.seg[reg::SS as usize] = f.seg;
    }
    set_cs(cpu, d.segment(sel), cpl, off);
    cpu.set_sp(f.sp);
    Ok(())
}
