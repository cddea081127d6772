//! Far transfers: JMP, CALL, RET far, IRET, INT n, INT3, INTO, INT1, BOUND; LDS and friends;
//! SYSCALL, SYSRET, SYSENTER, SYSEXIT (SDM 2; 3A chapters 5 and 6).

use super::operand::*;
use crate::cpu::exception::{Frame, Source};
use crate::cpu::memory::canonical;
use crate::cpu::segment::{Descriptor, Segment, attr, sys};
use crate::cpu::task::Reason;
use crate::cpu::{Cpu, Done, Stop, Vector, efer, event, fault, gp, reg};
use crate::decode::insn::{Insn, opnd};
use crate::flags;
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
fn real_cs(cpu: &mut Cpu, sel: u16) {
    let cs = &mut cpu.seg[reg::CS as usize];
    (cs.sel, cs.base) = (sel, u64::from(sel) << 4);
}

/// Is the target within the limit of `cs` (or canonical in 64-bit code)?
fn check_target(cpu: &Cpu, cs: &Segment, rip: u64) -> Done {
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
fn set_cs(cpu: &mut Cpu, seg: Segment, cpl: u8, rip: u64) {
    cpu.seg[reg::CS as usize] = Segment { sel: seg.sel & !3 | u16::from(cpl), ..seg };
    cpu.cpl = cpl;
    cpu.rip = rip;
    cpu.mode_changed();
    cpu.events |= event::CHECK;
}

/// A call gate (SDM 3A 5.8.3 to 5.8.5).
fn gate(cpu: &mut Cpu, gate_sel: u16, g: &Descriptor, call: bool) -> Done {
    if !g.present() {
        return Err(Cpu::sel_fault(Vector::NP, gate_sel));
    }
    let sel = g.gate_selector();
    if sel & !3 == 0 {
        return Err(gp(0));
    }
    let mut d = cpu.descriptor(sel, Vector::GP)?;
    let seg = d.segment(sel);
    let long = cpu.long_mode();
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
            Frame { seg: Segment { attr: u16::from(cpl) << 5, ..Segment::null(u16::from(cpl)) }, sp, cpl, flat: true }
        } else {
            let (ss, sp) = cpu.tss_stack(cpl)?;
            Frame { seg: cpu.stack_segment(ss, cpl, Vector::TS)?, sp, cpl, flat: false }
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
    if long {
        cpu.regs[reg::RSP as usize] = f.sp;
    } else {
        cpu.set_sp(f.sp);
    }
    Ok(())
}

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
        if cpu.long {
            cpu.regs[reg::RSP as usize] = sp;
        } else {
            cpu.set_sp(sp);
        }
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
fn return_segment(cpu: &mut Cpu, sel: u16, rip: u64) -> Result<(Segment, u8), Stop> {
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
fn return_stack(cpu: &mut Cpu, sel: u16, cs: &Segment, cpl: u8) -> Result<Segment, Stop> {
    if sel & !3 == 0 {
        let ok = cpu.long_mode() && cs.attr & attr::L != 0 && cpl != 3 && (sel & 3) as u8 == cpl;
        return if ok { Ok(Segment { attr: u16::from(cpl) << 5, ..Segment::null(sel) }) } else { Err(gp(0)) };
    }
    cpu.stack_segment(sel, cpl, Vector::GP)
}

/// To an outer ring: CS:RIP, SS:RSP, and data segments that ring may not keep.
fn leave_ring(cpu: &mut Cpu, cs: Segment, cpl: u8, rip: u64, ss: Segment, sp: u64) {
    cpu.seg[reg::SS as usize] = ss;
    set_cs(cpu, cs, cpl, rip);
    if cpu.long {
        cpu.regs[reg::RSP as usize] = sp;
    } else {
        cpu.set_sp(sp);
    }
    for s in [reg::ES, reg::DS, reg::FS, reg::GS] {
        let seg = &mut cpu.seg[s as usize];
        let conforming = seg.attr & (attr::CODE | attr::DC) == attr::CODE | attr::DC;
        if seg.present() && !conforming && seg.dpl() < cpl {
            *seg = Segment { base: seg.base, ..Segment::null(0) };
        }
    }
    cpu.mode_changed();
}

/// IRET, IRETD, IRETQ.
pub fn iret(cpu: &mut Cpu, i: &Insn) -> Done {
    // SDM 3C 28.2.3 (NMI unblocking due to IRET): also if the instruction then faults.
    if core::mem::take(&mut cpu.nmi_blocked) {
        cpu.events |= event::CHECK;
    }
    if !cpu.protected() {
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
        let old = cpu.rflags_image();
        let fl = if i.size == Size::B2 { old & !0xffff | fl } else { old & 0x1a_0000 | fl & 0x25_7fd5 };
        cpu.set_rflags_image(fl);
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
            cpu.seg[reg::SS as usize] = ss;
            set_cs(cpu, cs, cpl, rip);
            if cpu.long {
                cpu.regs[reg::RSP as usize] = sp;
            } else {
                cpu.set_sp(sp);
            }
        }
        cpu.set_rflags_image(fl);
        return Ok(());
    }
    let fl = iret_flags(cpu, i, fl);
    set_cs(cpu, cs, cpl, rip);
    set_stack_ptr(cpu, Any(i), p.sp);
    cpu.set_rflags_image(fl);
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

fn iret_v86(cpu: &mut Cpu, i: &Insn) -> Done {
    if cpu.rflags & flags::IOPL != flags::IOPL {
        return Err(gp(0));
    }
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
    let keep = flags::VM | flags::IOPL | flags::VIP | flags::VIF | if i.size == Size::B2 { !0xffff } else { 0 };
    let old = cpu.rflags_image();
    cpu.set_rflags_image(old & keep | fl & !keep);
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
    cpu.set_rflags_image(fl);
    Ok(())
}

/// A trap delivered by the instruction itself; the saved RIP is the next instruction's.
fn software(cpu: &mut Cpu, vector: u8, source: Source) -> Done {
    let next = cpu.rip;
    cpu.interrupt(vector, source, next)
}

/// INT n.  #GP(0) in virtual-8086 mode with IOPL below 3.
pub fn int(cpu: &mut Cpu, i: &Insn) -> Done {
    if cpu.v86() && cpu.rflags & flags::IOPL != flags::IOPL {
        return Err(gp(0));
    }
    software(cpu, i.imm as u8, Source::Software)
}
/// INT3: #BP.
pub fn int3(cpu: &mut Cpu, _: &Insn) -> Done {
    software(cpu, 3, Source::Software)
}
/// INT1 (ICEBP): #DB, without the privilege check of the gate.
pub fn int1(cpu: &mut Cpu, _: &Insn) -> Done {
    software(cpu, 1, Source::Exception(None))
}
/// INTO: #OF if OF.
pub fn into(cpu: &mut Cpu, _: &Insn) -> Done {
    if flags::of(cpu) == 0 {
        return Ok(());
    }
    software(cpu, 4, Source::Software)
}

/// BOUND: #BR unless lower <= index <= upper (signed).
pub fn bound(cpu: &mut Cpu, i: &Insn) -> Done {
    let s = i.size;
    let index = s.sx(cpu.regs[(i.a & 15) as usize]) as i64;
    let at = linear(cpu, i, 2 * s as u8, false)?;
    let lo = s.sx(cpu.read(at, s)?) as i64;
    let hi = cpu.read(crate::emit::Linear { at: at.at.wrapping_add(s.bytes()) & 0xffff_ffff, ..at }, s)?;
    if index < lo || index > s.sx(hi) as i64 {
        return Err(fault(Vector::BR));
    }
    Ok(())
}

/// A flat segment of SYSCALL and friends.
fn flat(sel: u16, code: bool, dpl: u8, long: bool) -> Segment {
    let ty = if code { 0xb } else { 3 };
    let size = if code && long { attr::L } else { attr::DB };
    Segment { sel, base: 0, limit: u32::MAX, attr: ty | attr::S | u16::from(dpl) << 5 | attr::P | size | attr::G }
}

/// SYSCALL (64-bit mode only on the vendor we model).
pub fn syscall(cpu: &mut Cpu, _: &Insn) -> Done {
    if !cpu.long || cpu.efer & efer::SCE == 0 {
        return Err(fault(Vector::UD));
    }
    let rf = cpu.rflags_image();
    cpu.regs[reg::RCX as usize] = cpu.rip;
    cpu.regs[reg::R11 as usize] = rf & !flags::RF;
    let sel = (cpu.msr.star >> 32) as u16 & !3;
    cpu.seg[reg::SS as usize] = flat(sel.wrapping_add(8), false, 0, true);
    let target = cpu.msr.lstar;
    set_cs(cpu, flat(sel, true, 0, true), 0, target);
    let masked = rf & !cpu.msr.fmask;
    cpu.set_rflags_image(masked & !flags::RF);
    // A system call is stepped over or into as FMASK says, not as TF was before.
    cpu.single_step = cpu.flag(flags::TF);
    Ok(())
}

/// SYSRET to 64-bit (operand size 8) or compatibility mode.
pub fn sysret(cpu: &mut Cpu, i: &Insn) -> Done {
    if !cpu.long || cpu.efer & efer::SCE == 0 {
        return Err(fault(Vector::UD));
    }
    if cpu.cpl != 0 {
        return Err(gp(0));
    }
    let to64 = i.size == Size::B8;
    let rip = cpu.regs[reg::RCX as usize];
    if to64 && !canonical(rip) {
        return Err(gp(0));
    }
    let base = (cpu.msr.star >> 48) as u16;
    let cs = if to64 { base.wrapping_add(16) } else { base } | 3;
    let fl = cpu.regs[reg::R11 as usize] & 0x3c_7fd7 | 2;
    cpu.seg[reg::SS as usize] = flat(base.wrapping_add(8) | 3, false, 3, true);
    set_cs(cpu, flat(cs, true, 3, to64), 3, if to64 { rip } else { Size::B4.zx(rip) });
    cpu.set_rflags_image(fl);
    // Unlike IRET's, a TF that SYSRET sets traps right behind it.
    if cpu.flag(flags::TF) {
        cpu.single_step_trap();
    }
    Ok(())
}

/// SYSENTER.
pub fn sysenter(cpu: &mut Cpu, _: &Insn) -> Done {
    let sel = cpu.msr.sysenter_cs as u16;
    if !cpu.protected() || sel & !3 == 0 {
        return Err(gp(0));
    }
    let long = cpu.long_mode();
    let (eip, esp) = (cpu.msr.sysenter_eip, cpu.msr.sysenter_esp);
    cpu.rflags &= !(flags::VM | flags::IF);
    let sel = sel & !3;
    cpu.seg[reg::SS as usize] = flat(sel.wrapping_add(8), false, 0, long);
    set_cs(cpu, flat(sel, true, 0, long), 0, if long { eip } else { Size::B4.zx(eip) });
    cpu.regs[reg::RSP as usize] = if long { esp } else { Size::B4.zx(esp) };
    Ok(())
}

/// SYSEXIT to 32-bit code, or 64-bit with operand size 8.
pub fn sysexit(cpu: &mut Cpu, i: &Insn) -> Done {
    let sel = cpu.msr.sysenter_cs as u16;
    if !cpu.protected() || sel & !3 == 0 || cpu.cpl != 0 {
        return Err(gp(0));
    }
    let to64 = cpu.long && i.size == Size::B8;
    let (rip, rsp) = (cpu.regs[reg::RDX as usize], cpu.regs[reg::RCX as usize]);
    if to64 && (!canonical(rip) || !canonical(rsp)) {
        return Err(gp(0));
    }
    let cs = sel.wrapping_add(if to64 { 32 } else { 16 }) | 3;
    cpu.seg[reg::SS as usize] = flat(cs.wrapping_add(8), false, 3, to64);
    set_cs(cpu, flat(cs, true, 3, to64), 3, if to64 { rip } else { Size::B4.zx(rip) });
    cpu.regs[reg::RSP as usize] = if to64 { rsp } else { Size::B4.zx(rsp) };
    Ok(())
}
