//! PUSH, POP, PUSHA, POPA, ENTER, LEAVE, PUSHF, POPF.

use super::operand::*;
use crate::cpu::{Cpu, Done, Vector};
use crate::decode::insn::{Insn, opnd};
use crate::emit::{Bin, Emit, Mode, Slot};
use crate::flags;
use crate::size::Size;

type R<E> = Result<(), <E as Emit>::Stop>;

/// PUSH of a register, memory or immediate.  Flags: none. PUSH rSP pushes the old value.
#[inline(always)]
pub fn push_op<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let v = if f.a == opnd::IMM { e.imm(f.size().zx(f.imm)) } else { read_a(e, f)? };
    push(e, f, f.size(), v)
}

/// POP to a register or memory.  Flags: none. With a memory operand based on rSP the address
/// uses rSP after the pop.
#[inline(always)]
pub fn pop_op<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let s = f.size();
    let (v, after) = peek(e, f, s)?;
    if f.a_mem() {
        let before = e.get(Slot::Gpr(4));
        set_stack_ptr(e, f, after);
        // The address is computed with the new rSP; a fault must give the old one back.
        let r = linear_of(e, f, s as u8, true);
        let new = e.get(Slot::Gpr(4));
        e.set(Slot::Gpr(4), before);
        let at = r?;
        e.store(at, s, v)?;
        e.set(Slot::Gpr(4), new);
        return Ok(());
    }
    set_stack_ptr(e, f, after);
    set_reg(e, f.a, s, false, v);
    Ok(())
}

/// LEAVE: rSP = rBP, pop rBP.  Flags: none.
#[inline(always)]
pub fn leave<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let bp = e.get(Slot::Gpr(5));
    let sp = stack_add(e, f, bp, 0);
    let at = stack_linear(e, f, sp, f.size(), false)?;
    let v = e.load(at, f.size())?;
    let after = stack_add(e, f, sp, f.size() as i64);
    set_stack_ptr(e, f, after);
    set_reg(e, 5, f.size(), false, v);
    Ok(())
}

/// PUSH of a segment register: 2 bytes are written, the slot is operand sized.
pub fn push_seg<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let sel = e.get(Slot::Selector(f.a - opnd::SEG));
    let sp = stack_ptr(e, f);
    let sp = stack_add(e, f, sp, -(f.size() as i64));
    // Current processors write only the selector with a 32-bit operand size (SDM 2: PUSH).
    let width = if f.size() == Size::B4 { Size::B2 } else { f.size() };
    let at = stack_linear(e, f, sp, f.size(), true)?;
    e.store(at, width, sel)?;
    set_stack_ptr(e, f, sp);
    Ok(())
}

/// POP of a segment register (not CS).
pub fn pop_seg<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    let sp = stack_ptr(e, f);
    let at = stack_linear(e, f, sp, if f.size() == Size::B4 { Size::B2 } else { f.size() }, false)?;
    let sel = e.load(at, Size::B2)?;
    let after = stack_add(e, f, sp, f.size() as i64);
    let seg = f.a - opnd::SEG;
    e.load_segment(seg, sel)?;
    // POP SS: the new SS does not change how this POP counts.
    set_stack_ptr(e, f, after);
    if seg == 2 {
        e.hold_off();
    }
    Ok(())
}

/// PUSHA, PUSHAD: all eight, rSP as it was.
pub fn pusha(cpu: &mut Cpu, i: &Insn) -> Done {
    let mut sp = stack_ptr(cpu, Any(i));
    for r in 0..8 {
        sp = stack_add(cpu, Any(i), sp, -(i.size as i64));
        let at = stack_linear(cpu, Any(i), sp, i.size, true)?;
        let v = cpu.regs[r];
        cpu.write(at, i.size, v)?;
    }
    set_stack_ptr(cpu, Any(i), sp);
    Ok(())
}

/// POPA, POPAD: the rSP on the stack is skipped.
pub fn popa(cpu: &mut Cpu, i: &Insn) -> Done {
    let mut sp = stack_ptr(cpu, Any(i));
    let mut v = [0; 8];
    for r in (0..8).rev() {
        let at = stack_linear(cpu, Any(i), sp, i.size, false)?;
        v[r] = cpu.read(at, i.size)?;
        sp = stack_add(cpu, Any(i), sp, i.size as i64);
    }
    for (r, v) in v.into_iter().enumerate() {
        if r != 4 {
            set_reg(cpu, r as u8, i.size, false, v);
        }
    }
    set_stack_ptr(cpu, Any(i), sp);
    Ok(())
}

/// ENTER imm16, imm8: a stack frame with up to 31 links.
pub fn enter(cpu: &mut Cpu, i: &Insn) -> Done {
    let (alloc, level) = (i.imm & 0xffff, i.sub & 31);
    let s = i.size;
    let mut sp = stack_ptr(cpu, Any(i));
    let mut push = |cpu: &mut Cpu, v: u64| -> Result<u64, crate::cpu::Stop> {
        sp = stack_add(cpu, Any(i), sp, -(s as i64));
        let at = stack_linear(cpu, Any(i), sp, s, true)?;
        cpu.write(at, s, v)?;
        Ok(sp)
    };
    let bp = cpu.regs[5];
    let mut top = push(cpu, bp)?;
    // SDM 2 ENTER: a 32-bit frame pointer is all of ESP, even if only SP counts.
    let frame = cpu.regs[4] & !cpu.stack_mask() | top;
    let mut link = bp;
    for _ in 1..level {
        link = stack_add(cpu, Any(i), link, -(s as i64));
        let at = stack_linear(cpu, Any(i), link, s, false)?;
        let v = cpu.read(at, s)?;
        top = push(cpu, v)?;
    }
    if level > 0 {
        top = push(cpu, frame)?;
    }
    let top = stack_add(cpu, Any(i), top, -(alloc as i64));
    // SDM 2 ENTER: faults if a write to the new top of the stack would.
    let at = stack_linear(cpu, Any(i), top, s, true)?;
    cpu.probe_write(at, s.bytes())?;
    set_reg(cpu, 5, s, false, s.zx(frame));
    set_stack_ptr(cpu, Any(i), top);
    Ok(())
}

/// #GP(0) in virtual-8086 mode with IOPL below 3.
fn may_see_flags<E: Emit>(e: &mut E) -> R<E> {
    let system = e.get(Slot::System);
    let iopl = e.andi(system, flags::IOPL);
    let all = e.imm(flags::IOPL);
    let below = e.bin(Bin::LtU, iopl, all);
    let v86 = e.mode_is(Mode::V86);
    let not = e.and(below, v86);
    e.when(not, |e| Err(e.raise(Vector::GP)))
}

/// RFLAGS without VM and RF.
fn rflags<E: Emit>(e: &mut E) -> E::Val {
    let system = e.get(Slot::System);
    let system = e.andi(system, !(flags::OSZAPC | flags::VM | flags::RF));
    let system = e.ori(system, 2);
    let arith = flags::read(e);
    e.or(system, arith)
}

/// PUSHF, PUSHFD, PUSHFQ.  #GP(0) in virtual-8086 mode with IOPL below 3. VM and RF read 0.
pub fn pushf<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    may_see_flags(e)?;
    let v = rflags(e);
    push(e, f, f.size(), v)
}

/// POPF, POPFD, POPFQ (SDM 2: POPF, table of what may change at which privilege).
pub fn popf<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    may_see_flags(e)?;
    let (v, after) = peek(e, f, f.size())?;
    let wide = f.size() != Size::B2;
    let old = e.get(Slot::System);
    let (v86, cpl) = (e.mode_is(Mode::V86), e.get(Slot::Cpl));
    let none = e.imm(0);
    let iopl = e.shri(old, 12);
    let iopl = e.andi(iopl, 3);
    let above = e.bin(Bin::LtU, iopl, cpl);
    let allowed = e.xori(above, 1);
    let allowed = e.or(allowed, v86);
    let interrupts = e.imm(flags::IF);
    let interrupts = e.select(allowed, interrupts, none);
    let privilege = e.imm(flags::IOPL);
    let privilege = e.select(cpl, none, privilege);
    let may = e.or(interrupts, privilege);
    let always = flags::TF | flags::DF | flags::NT | if wide { flags::AC | flags::ID } else { 0 };
    let may = e.ori(may, always);
    let keep = e.not(may);
    let (kept, changed) = (e.and(old, keep), e.and(v, may));
    let mut new = e.or(kept, changed);
    if wide {
        // They stay in virtual-8086 mode.
        let virtual_too = e.andi(new, !flags::RF);
        let cleared = e.andi(new, !(flags::RF | flags::VIP | flags::VIF));
        new = e.select(v86, virtual_too, cleared);
    }
    let not_before = e.not(old);
    let rises = e.and(new, not_before);
    let rises = e.andi(rises, flags::IF);
    e.let_interrupts_in(rises, false)?;
    e.set_system(new)?;
    set_stack_ptr(e, f, after);
    flags::write(e, v);
    Ok(())
}
