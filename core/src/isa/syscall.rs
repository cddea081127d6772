//! Fast system calls: SYSCALL, SYSRET, SYSENTER, SYSEXIT (SDM 2B).

use super::far::set_cs;
use crate::bus::Trap;
use crate::cpu::memory::canonical;
use crate::cpu::segment::{Segment, attr};
use crate::cpu::{Cpu, Done, Vector, efer, event, fault, gp, reg};
use crate::decode::insn::Insn;
use crate::flags;
use crate::size::Size;

/// A flat segment of SYSCALL and friends.
fn flat(sel: u16, code: bool, dpl: u8, long: bool) -> Segment {
    let ty = if code { 0xb } else { 3 };
    let size = if code && long { attr::L } else { attr::DB };
    Segment { sel, base: 0, limit: u32::MAX, attr: ty | attr::S | u16::from(dpl) << 5 | attr::P | size | attr::G }
}

/// Goes to `rip` at privilege `cpl`, in flat segments: 64-bit code, or 32-bit code at the low half of `rip`.
fn go(cpu: &mut Cpu, cs: u16, ss: u16, cpl: u8, long: bool, rip: u64) {
    cpu.seg[reg::SS as usize] = flat(ss, false, cpl, long);
    set_cs(cpu, flat(cs, true, cpl, long), cpl, narrow(rip, long));
}

/// A 32-bit address unless `long`.
fn narrow(v: u64, long: bool) -> u64 {
    if long { v } else { Size::B4.zx(v) }
}

/// VMCALL, VMMCALL: to the hypervisor, if there is one; else #UD.
pub fn vmcall(cpu: &mut Cpu, _: &Insn) -> Done {
    cpu.events |= event::CHECK;
    cpu.trap(Trap::Hypercall)
}

/// SYSCALL (64-bit mode only on the vendor we model).
pub fn syscall(cpu: &mut Cpu, _: &Insn) -> Done {
    if !cpu.long || cpu.efer & efer::SCE == 0 {
        return Err(fault(Vector::UD));
    }
    let rf = cpu.rflags_image();
    cpu.regs[reg::RCX as usize] = cpu.rip;
    cpu.regs[reg::R11 as usize] = rf & !flags::RF;
    if cpu.is_paravirtual() {
        return cpu.trap(Trap::Syscall);
    }
    let sel = (cpu.msr.star >> 32) as u16 & !3;
    let target = cpu.msr.lstar;
    go(cpu, sel, sel.wrapping_add(8), 0, true, target);
    let masked = rf & !cpu.msr.fmask;
    cpu.put_rflags(masked & !flags::RF);
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
    go(cpu, cs, base.wrapping_add(8) | 3, 3, to64, rip);
    cpu.put_rflags(fl);
    // Unlike IRET's, a TF that SYSRET sets traps right behind it.
    if cpu.flag(flags::TF) {
        cpu.single_step_trap();
    }
    Ok(())
}

/// SYSENTER.
pub fn sysenter(cpu: &mut Cpu, _: &Insn) -> Done {
    if cpu.is_paravirtual() {
        return cpu.trap(Trap::Sysenter);
    }
    let sel = cpu.msr.sysenter_cs as u16;
    if !cpu.protected() || sel & !3 == 0 {
        return Err(gp(0));
    }
    let long = cpu.long_mode();
    let (eip, esp) = (cpu.msr.sysenter_eip, cpu.msr.sysenter_esp);
    cpu.rflags &= !(flags::VM | flags::IF);
    let sel = sel & !3;
    go(cpu, sel, sel.wrapping_add(8), 0, long, eip);
    cpu.regs[reg::RSP as usize] = narrow(esp, long);
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
    go(cpu, cs, cs.wrapping_add(8), 3, to64, rip);
    cpu.regs[reg::RSP as usize] = narrow(rsp, to64);
    Ok(())
}
