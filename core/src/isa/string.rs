//! String instructions: MOVS, STOS, LODS, SCAS, CMPS, INS, OUTS and their REP forms
//! (SDM 1 7.3.9).
//!
//! A repeated instruction works in pieces of at most [`PIECE`] elements: it then stays at the
//! instruction, as an interrupt would leave it, so no count can keep the CPU from its caller.
//! What a piece costs in retired instructions depends on its bytes alone.

use crate::cpu::{Cpu, Done, Stop, event, reg, tlb};
use crate::decode::insn::{Insn, prefix, slot};
use crate::emit::Linear;
use crate::flags::{self, FlagOp};
use crate::mem::{Host, PAGE_SIZE};
use crate::size::Size;

/// Elements per piece.
const PIECE: u64 = 4096;
/// Bytes that cost as much as an instruction.
const BYTES_PER_COUNT: u64 = 32;

fn mask(i: &Insn) -> u64 {
    match i.asize {
        8 => u64::MAX,
        4 => 0xffff_ffff,
        _ => 0xffff,
    }
}

/// Reads an index register or the counter in the address size.
fn get(cpu: &Cpu, i: &Insn, r: u8) -> u64 {
    cpu.regs[r as usize] & mask(i)
}
fn set(cpu: &mut Cpu, i: &Insn, r: u8, v: u64) {
    let m = mask(i);
    let old = &mut cpu.regs[r as usize];
    // A 32-bit address size clears the upper half, as a 32-bit register write does.
    *old = if i.asize == 2 { *old & !m | v & m } else { v & m };
}
fn step(cpu: &mut Cpu, i: &Insn, r: u8, n: u64) {
    let by = n.wrapping_mul(i.size.bytes());
    let v = get(cpu, i, r);
    let v = if cpu.flag(flags::DF) { v.wrapping_sub(by) } else { v.wrapping_add(by) };
    set(cpu, i, r, v);
}

fn source(cpu: &mut Cpu, i: &Insn) -> Result<Linear<u64>, Stop> {
    let off = get(cpu, i, reg::RSI);
    cpu.linear(i.seg, off, i.size as u8, false)
}
fn dest(cpu: &mut Cpu, i: &Insn, write: bool) -> Result<Linear<u64>, Stop> {
    let off = get(cpu, i, reg::RDI);
    cpu.linear(reg::ES, off, i.size as u8, write)
}

/// Runs `element` once, or as often as REP says; `bulk` may do several elements at once and
/// says how many (0: none). `done` is asked after each element whether to stop (REPE, REPNE).
fn repeat(
    cpu: &mut Cpu,
    i: &Insn,
    mut bulk: impl FnMut(&mut Cpu, u64) -> u64,
    mut element: impl FnMut(&mut Cpu) -> Done,
    mut done: impl FnMut(&mut Cpu) -> bool,
) -> Done {
    if !i.repeated() {
        return element(cpu);
    }
    // SDM 3A 18.3.1.4: a single-step trap comes after every iteration.
    let piece = if cpu.flag(flags::TF) { 1 } else { PIECE };
    let mut budget = piece;
    let mut trap = false;
    loop {
        let count = get(cpu, i, reg::RCX);
        if count == 0 {
            break;
        }
        if budget == 0 || trap {
            // Not finished: come back to this instruction.
            let rip = cpu.regs[slot::BLOCK as usize].wrapping_add(u64::from(i.off));
            cpu.rip = cpu.rip_mask(rip);
            // SDM 3A 18.3.1.1: whatever comes in between pushes RF as 1.
            cpu.rflags |= flags::RF;
            cpu.rflags_changed();
            break;
        }
        let n = bulk(cpu, count.min(budget));
        if n > 0 {
            set(cpu, i, reg::RCX, count - n);
            budget -= n;
            continue;
        }
        element(cpu)?;
        set(cpu, i, reg::RCX, count - 1);
        budget -= 1;
        if done(cpu) {
            break;
        }
        // So does that of a breakpoint.
        trap = cpu.pending_db != 0;
    }
    cpu.charge((piece - budget) * i.size.bytes() / BYTES_PER_COUNT);
    Ok(())
}

fn never(_: &mut Cpu) -> bool {
    false
}

/// How many elements starting at linear `la` lie in its page, upward.
fn in_page(la: u64, size: Size) -> u64 {
    (PAGE_SIZE - (la & (PAGE_SIZE - 1))) / size.bytes()
}

/// Can several elements be done with host pointers? Only upward, without a segment's limit, and
/// without the offset wrapping.
fn plain(cpu: &Cpu, i: &Insn, r: u8, n: u64) -> bool {
    // FS and GS are not among the segments the mode key speaks of.
    let other = r == reg::RSI && i.seg >= reg::FS && !cpu.long;
    let flat = cpu.mode & crate::cpu::mode::key::FLAT != 0 && (!other || cpu.seg[i.seg as usize].is_flat());
    let off = get(cpu, i, r);
    flat && !cpu.flag(flags::DF) && off.checked_add(n * i.size.bytes()).is_some_and(|end| end - 1 <= mask(i))
}

fn read_host(cpu: &Cpu, la: u64) -> Option<Host> {
    let e = &cpu.tlb.read[tlb::index(cpu.tlb_ctx, la)];
    tlb::hit(e, la, 1).then(|| Host::of_tlb(la.wrapping_add(e.add)))
}
fn write_host(cpu: &Cpu, la: u64) -> Option<Host> {
    let e = &cpu.tlb.write[tlb::index(cpu.tlb_ctx, la)];
    tlb::hit(e, la, 1).then(|| Host::of_tlb(la.wrapping_add(e.add)))
}

/// MOVS.  Flags: none.
pub fn movs(cpu: &mut Cpu, i: &Insn) -> Done {
    let bulk = |cpu: &mut Cpu, want: u64| -> u64 {
        if want < 2 {
            return 0;
        }
        let (Ok(s), Ok(d)) = (source(cpu, i), dest(cpu, i, true)) else { return 0 };
        let n = want.min(in_page(s.at, i.size)).min(in_page(d.at, i.size));
        if n == 0 || !plain(cpu, i, reg::RSI, n) || !plain(cpu, i, reg::RDI, n) {
            return 0;
        }
        let (Some(src), Some(dst)) = (read_host(cpu, s.at), write_host(cpu, d.at)) else { return 0 };
        if !dst.copy_from(src, (n * i.size.bytes()) as usize) {
            return 0;
        }
        step(cpu, i, reg::RSI, n);
        step(cpu, i, reg::RDI, n);
        n
    };
    let one = |cpu: &mut Cpu| {
        let s = source(cpu, i)?;
        let v = cpu.read(s, i.size)?;
        let d = dest(cpu, i, true)?;
        cpu.write(d, i.size, v)?;
        step(cpu, i, reg::RSI, 1);
        step(cpu, i, reg::RDI, 1);
        Ok(())
    };
    repeat(cpu, i, bulk, one, never)
}

/// STOS.  Flags: none.
pub fn stos(cpu: &mut Cpu, i: &Insn) -> Done {
    let bulk = |cpu: &mut Cpu, want: u64| -> u64 {
        if want < 2 {
            return 0;
        }
        let Ok(d) = dest(cpu, i, true) else { return 0 };
        let n = want.min(in_page(d.at, i.size));
        if n == 0 || !plain(cpu, i, reg::RDI, n) {
            return 0;
        }
        let Some(dst) = write_host(cpu, d.at) else { return 0 };
        dst.fill(i.size, cpu.regs[0], n as usize);
        step(cpu, i, reg::RDI, n);
        n
    };
    let one = |cpu: &mut Cpu| {
        let d = dest(cpu, i, true)?;
        let v = cpu.regs[0];
        cpu.write(d, i.size, v)?;
        step(cpu, i, reg::RDI, 1);
        Ok(())
    };
    repeat(cpu, i, bulk, one, never)
}

/// LODS.  Flags: none.
pub fn lods(cpu: &mut Cpu, i: &Insn) -> Done {
    let one = |cpu: &mut Cpu| {
        let s = source(cpu, i)?;
        let v = cpu.read(s, i.size)?;
        super::operand::set_reg(cpu, 0, i.size, false, v);
        step(cpu, i, reg::RSI, 1);
        Ok(())
    };
    repeat(cpu, i, |_, _| 0, one, never)
}

/// Should REPE/REPNE stop after this element?
fn until_zf(i: &Insn) -> impl Fn(&mut Cpu) -> bool {
    let stop_on = if i.prefix & prefix::REPNE != 0 { 1 } else { 0 };
    move |cpu: &mut Cpu| flags::zf(cpu) == stop_on
}

fn compare(cpu: &mut Cpu, size: Size, a: u64, b: u64) {
    let a = size.zx(a);
    flags::record(cpu, FlagOp::Sub, size, a, b, size.zx(a.wrapping_sub(b)));
}

/// SCAS: rAX - [rDI].  OSZAPC of the last comparison.
pub fn scas(cpu: &mut Cpu, i: &Insn) -> Done {
    let one = |cpu: &mut Cpu| {
        let d = dest(cpu, i, false)?;
        let v = cpu.read(d, i.size)?;
        let a = cpu.regs[0];
        compare(cpu, i.size, a, v);
        step(cpu, i, reg::RDI, 1);
        Ok(())
    };
    repeat(cpu, i, |_, _| 0, one, until_zf(i))
}

/// CMPS: [rSI] - [rDI].  OSZAPC of the last comparison.
pub fn cmps(cpu: &mut Cpu, i: &Insn) -> Done {
    let one = |cpu: &mut Cpu| {
        let s = source(cpu, i)?;
        let a = cpu.read(s, i.size)?;
        let d = dest(cpu, i, false)?;
        let b = cpu.read(d, i.size)?;
        compare(cpu, i.size, a, b);
        step(cpu, i, reg::RSI, 1);
        step(cpu, i, reg::RDI, 1);
        Ok(())
    };
    repeat(cpu, i, |_, _| 0, one, until_zf(i))
}

/// INS: [rDI] = port DX.  Flags: none.
pub fn ins(cpu: &mut Cpu, i: &Insn) -> Done {
    let port = cpu.regs[reg::RDX as usize] as u16;
    cpu.check_port(port, i.size)?;
    let one = |cpu: &mut Cpu| {
        // The destination is checked first: a port read cannot be taken back.
        let d = dest(cpu, i, true)?;
        cpu.probe_write(d, i.size.bytes())?;
        let v = cpu.port_in(port, i.size);
        cpu.write(d, i.size, v)?;
        step(cpu, i, reg::RDI, 1);
        Ok(())
    };
    let r = repeat(cpu, i, |_, _| 0, one, never);
    cpu.events |= event::CHECK;
    r
}

/// OUTS: port DX = [rSI].  Flags: none.
pub fn outs(cpu: &mut Cpu, i: &Insn) -> Done {
    let port = cpu.regs[reg::RDX as usize] as u16;
    cpu.check_port(port, i.size)?;
    let one = |cpu: &mut Cpu| {
        let s = source(cpu, i)?;
        let v = cpu.read(s, i.size)?;
        cpu.port_out(port, i.size, v);
        step(cpu, i, reg::RSI, 1);
        Ok(())
    };
    let r = repeat(cpu, i, |_, _| 0, one, never);
    cpu.events |= event::CHECK;
    r
}
