//! String instructions: MOVS, STOS, LODS, SCAS, CMPS, INS, OUTS and their REP forms
//! (SDM 1 7.3.9).
//!
//! A repeated instruction works in pieces, which end where the counter is a multiple of [`PIECE`]: if there is something
//! to look at then, or the budget is used up, it stays at the instruction, as an interrupt would leave it. So no count can
//! keep the CPU from its caller.
//! What it costs in retired instructions depends on the counter alone, from where to where it goes: not on where it has
//! to be interrupted because it meets decoded code, which may have been dropped.

use super::Op;
use super::operand::{self, *};
use crate::cpu::mode::key;
use crate::cpu::{Cpu, Done, event, reg, tlb};
use crate::decode::insn::{Insn, prefix, slot};
use crate::emit::{Emit, Linear, Slot};
use crate::flags::{self, FlagOp};
use crate::mem::{Host, PAGE_SIZE};
use crate::size::Size;

type R<E> = Result<(), <E as Emit>::Stop>;

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
fn get<E: Emit>(e: &mut E, i: &Insn, r: u8) -> E::Val {
    let v = e.get(Slot::Gpr(r));
    e.andi(v, mask(i))
}
fn set<E: Emit>(e: &mut E, i: &Insn, r: u8, v: E::Val) {
    let m = mask(i);
    let mut v = e.andi(v, m);
    // A 32-bit address size clears the upper half, as a 32-bit register write does.
    if i.asize == 2 {
        let old = e.get(Slot::Gpr(r));
        let old = e.andi(old, !m);
        v = e.or(old, v);
    }
    e.set(Slot::Gpr(r), v);
}
/// Goes on by an element.
fn step<E: Emit>(e: &mut E, i: &Insn, r: u8) {
    let by = i.size.bytes();
    let system = e.get(Slot::System);
    let down = e.andi(system, flags::DF);
    let (up, back) = (e.imm(by), e.imm(by.wrapping_neg()));
    let by = e.select(down, back, up);
    let v = get(e, i, r);
    let v = e.add(v, by);
    set(e, i, r, v);
}

fn source<E: Emit>(e: &mut E, i: &Insn) -> Result<Linear<E::Val>, E::Stop> {
    let off = get(e, i, reg::RSI);
    e.segmented(i.seg, off, i.size as u8, false)
}
fn dest<E: Emit>(e: &mut E, i: &Insn, write: bool) -> Result<Linear<E::Val>, E::Stop> {
    let off = get(e, i, reg::RDI);
    e.segmented(reg::ES, off, i.size as u8, write)
}

/// Runs `element` as often as REP says; `bulk` may do several elements at once and
/// says how many (0: none). `done` is asked after each element whether to stop (REPE, REPNE).
fn repeat(
    cpu: &mut Cpu,
    i: &Insn,
    mut bulk: impl FnMut(&mut Cpu, u64) -> u64,
    mut element: impl FnMut(&mut Cpu) -> Done,
    mut done: impl FnMut(&mut Cpu) -> bool,
) -> Done {
    // What so many elements cost. What is done in several parts costs the same as at once.
    let cost = |from: u64, to: u64| {
        let shift = BYTES_PER_COUNT.ilog2() - i.size.bytes().ilog2();
        (from >> shift) - (to >> shift)
    };
    // SDM 3A 18.3.1.4: a single-step trap comes after every iteration.
    let piece = if cpu.flag(flags::TF) { 1 } else { PIECE };
    let mut paid = get(cpu, i, reg::RCX);
    let mut trap = false;
    loop {
        let count = get(cpu, i, reg::RCX);
        if count == 0 {
            break;
        }
        let within = count % piece;
        if within == 0 && count != paid || trap {
            if !trap && cpu.events == 0 && !cpu.interrupt_waiting {
                // Nothing would come in between: the next piece is run at once, and counts as if it were run again.
                cpu.charge(cost(paid, count));
                paid = count;
                if cpu.left > 0 {
                    cpu.left -= 1;
                    continue;
                }
            }
            // Not finished: come back to this instruction.
            let rip = cpu.regs[slot::BLOCK as usize].wrapping_add(u64::from(i.off));
            cpu.rip = cpu.rip_mask(rip);
            // SDM 3A 18.3.1.1: whatever comes in between pushes RF as 1.
            cpu.rflags |= flags::RF;
            cpu.rflags_changed();
            break;
        }
        let n = bulk(cpu, if within == 0 { piece } else { within });
        if n > 0 {
            set(cpu, i, reg::RCX, count - n);
            continue;
        }
        if let Err(stop) = element(cpu) {
            cpu.charge(cost(paid, count));
            return Err(stop);
        }
        set(cpu, i, reg::RCX, count - 1);
        if done(cpu) {
            break;
        }
        // So does that of a breakpoint.
        trap = cpu.pending_db != 0;
    }
    let count = get(cpu, i, reg::RCX);
    cpu.charge(cost(paid, count));
    Ok(())
}

fn never(_: &mut Cpu) -> bool {
    false
}

/// How many elements starting at linear `la` lie in its page, upward.
fn in_page(la: u64, size: Size) -> u64 {
    (PAGE_SIZE - (la & (PAGE_SIZE - 1))) >> size.bytes().trailing_zeros()
}

/// Where several elements can be done with host pointers, the linear address of the one that an index register names,
/// and how many there may be up to the end of its page. Only upward, without a segment's limit, and without the offset
/// wrapping.
#[inline(always)]
fn stretch(cpu: &Cpu, i: &Insn, r: u8) -> Option<(u64, u64)> {
    // FS and GS are not among the segments the mode key speaks of.
    let other = r == reg::RSI && i.seg >= reg::FS;
    if cpu.mode & key::FLAT == 0 || cpu.flag(flags::DF) || other && !cpu.long && !cpu.seg[i.seg as usize].is_flat() {
        return None;
    }
    let off = cpu.regs[r as usize] & mask(i);
    let la = if other { cpu.seg[i.seg as usize].base.wrapping_add(off) } else { off };
    let n = in_page(la, i.size);
    // Pages end where offsets wrap, unless the segment begins within one.
    let whole = !other || off.checked_add(PAGE_SIZE).is_some_and(|end| end <= mask(i));
    whole.then_some((la, n))
}

/// How many elements of the `want` from linear `la` on lie behind each other on the host as well, if `n` of them are in the
/// first page, whose host address is `first`. Guests often have pages side by side, and a copy of several is faster than
/// several copies.
fn side_by_side(
    cpu: &Cpu,
    size: Size,
    la: u64,
    first: Host,
    n: u64,
    want: u64,
    host: impl Fn(&Cpu, u64) -> Option<Host>,
) -> u64 {
    let mut n = n.min(want);
    while n < want {
        let bytes = n * size.bytes();
        let next = la.wrapping_add(bytes);
        let follows = |h: Host| h.value() == first.value() + bytes;
        if next & (PAGE_SIZE - 1) != 0 || !host(cpu, next).is_some_and(follows) {
            break;
        }
        n = want.min(n + in_page(next, size));
    }
    n
}

/// Goes on upward by `n` elements.
#[inline(always)]
fn forward(cpu: &mut Cpu, i: &Insn, r: u8, n: u64) {
    let (m, old) = (mask(i), cpu.regs[r as usize]);
    let v = old.wrapping_add(n * i.size.bytes()) & m;
    cpu.regs[r as usize] = if i.asize == 2 { old & !m | v } else { v };
}

fn read_host(cpu: &Cpu, la: u64) -> Option<Host> {
    let e = &cpu.tlb.read[tlb::index(cpu.tlb_ctx, la)];
    tlb::hit(e, la, 1).then(|| Host::of_tlb(la.wrapping_add(e.add)))
}
fn write_host(cpu: &Cpu, la: u64) -> Option<Host> {
    let e = &cpu.tlb.write[tlb::index(cpu.tlb_ctx, la)];
    tlb::hit(e, la, 1).then(|| Host::of_tlb(la.wrapping_add(e.add)))
}

/// What a string instruction does with registers, by number as bits: reads and writes when it is repeated, and whether
/// it writes flags. `None`: it is none that compiled code calls for memory alone.
pub fn registers(op: Op) -> Option<(u32, u32, bool)> {
    let [rax, rcx, rsi, rdi] = [reg::RAX, reg::RCX, reg::RSI, reg::RDI].map(|r| 1 << r);
    match op {
        Op::Movs => Some((rcx | rsi | rdi, rcx | rsi | rdi, false)),
        Op::Stos => Some((rax | rcx | rdi, rcx | rdi, false)),
        Op::Lods => Some((rax | rcx | rsi, rax | rcx | rsi, false)),
        Op::Scas => Some((rax | rcx | rdi, rcx | rdi, true)),
        Op::Cmps => Some((rcx | rsi | rdi, rcx | rsi | rdi, true)),
        _ => None,
    }
}

/// MOVS.  Flags: none.
pub fn movs<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    if f.repeated() { e.whole(&f, rep_movs) } else { movs_one(e, &f) }
}

fn movs_one<E: Emit>(e: &mut E, i: &Insn) -> R<E> {
    let s = source(e, i)?;
    let v = e.load(s, i.size)?;
    let d = dest(e, i, true)?;
    e.store(d, i.size, v)?;
    step(e, i, reg::RSI);
    step(e, i, reg::RDI);
    Ok(())
}

fn rep_movs(cpu: &mut Cpu, i: &Insn) -> Done {
    let bulk = |cpu: &mut Cpu, want: u64| -> u64 {
        if want < 2 {
            return 0;
        }
        let (Some((s, far)), Some((d, near))) = (stretch(cpu, i, reg::RSI), stretch(cpu, i, reg::RDI)) else {
            return 0;
        };
        let (Some(src), Some(dst)) = (read_host(cpu, s), write_host(cpu, d)) else { return 0 };
        let n = want.min(far).min(near);
        if n == 0 {
            return 0;
        }
        // Offsets do not wrap before this.
        let most = |r: u8| (mask(i) - (cpu.regs[r as usize] & mask(i))) / i.size.bytes();
        let want = want.min(most(reg::RSI)).min(most(reg::RDI)).max(n);
        let n = side_by_side(cpu, i.size, s, src, far, want, read_host);
        let n = side_by_side(cpu, i.size, d, dst, near, n, write_host);
        dst.copy_from(src, i.size, n as usize);
        forward(cpu, i, reg::RSI, n);
        forward(cpu, i, reg::RDI, n);
        n
    };
    repeat(cpu, i, bulk, |cpu| movs_one(cpu, i), never)
}

/// STOS.  Flags: none.
pub fn stos<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    if f.repeated() { e.whole(&f, rep_stos) } else { stos_one(e, &f) }
}

fn stos_one<E: Emit>(e: &mut E, i: &Insn) -> R<E> {
    let d = dest(e, i, true)?;
    let v = e.get(Slot::Gpr(reg::RAX));
    e.store(d, i.size, v)?;
    step(e, i, reg::RDI);
    Ok(())
}

fn rep_stos(cpu: &mut Cpu, i: &Insn) -> Done {
    let bulk = |cpu: &mut Cpu, want: u64| -> u64 {
        if want < 2 {
            return 0;
        }
        let Some((d, near)) = stretch(cpu, i, reg::RDI) else { return 0 };
        let Some(dst) = write_host(cpu, d) else { return 0 };
        let n = want.min(near);
        if n == 0 {
            return 0;
        }
        dst.fill(i.size, cpu.regs[0], n as usize);
        forward(cpu, i, reg::RDI, n);
        n
    };
    repeat(cpu, i, bulk, |cpu| stos_one(cpu, i), never)
}

/// LODS.  Flags: none.
pub fn lods<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    if f.repeated() { e.whole(&f, rep_lods) } else { lods_one(e, &f) }
}

fn lods_one<E: Emit>(e: &mut E, i: &Insn) -> R<E> {
    let s = source(e, i)?;
    let v = e.load(s, i.size)?;
    set_reg(e, reg::RAX, i.size, false, v);
    step(e, i, reg::RSI);
    Ok(())
}

fn rep_lods(cpu: &mut Cpu, i: &Insn) -> Done {
    repeat(cpu, i, |_, _| 0, |cpu| lods_one(cpu, i), never)
}

/// Should REPE/REPNE stop after this element?
fn until_zf(i: &Insn) -> impl Fn(&mut Cpu) -> bool {
    let stop_on = if i.prefix & prefix::REPNE != 0 { 1 } else { 0 };
    move |cpu: &mut Cpu| flags::zf(cpu) == stop_on
}

fn compare<E: Emit>(e: &mut E, size: Size, a: E::Val, b: E::Val) {
    let r = e.sub(a, b);
    let r = e.zx(size, r);
    e.flags(FlagOp::Sub, size, a, b, r);
}

/// SCAS: rAX - [rDI].  OSZAPC of the last comparison.
pub fn scas<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    if f.repeated() { e.whole(&f, rep_scas) } else { scas_one(e, &f) }
}

fn scas_one<E: Emit>(e: &mut E, i: &Insn) -> R<E> {
    let d = dest(e, i, false)?;
    let v = e.load(d, i.size)?;
    let a = operand::reg(e, reg::RAX, i.size, false);
    compare(e, i.size, a, v);
    step(e, i, reg::RDI);
    Ok(())
}

fn rep_scas(cpu: &mut Cpu, i: &Insn) -> Done {
    repeat(cpu, i, |_, _| 0, |cpu| scas_one(cpu, i), until_zf(i))
}

/// CMPS: [rSI] - [rDI].  OSZAPC of the last comparison.
pub fn cmps<E: Emit, F: Form>(e: &mut E, f: F) -> R<E> {
    if f.repeated() { e.whole(&f, rep_cmps) } else { cmps_one(e, &f) }
}

fn cmps_one<E: Emit>(e: &mut E, i: &Insn) -> R<E> {
    let s = source(e, i)?;
    let a = e.load(s, i.size)?;
    let d = dest(e, i, false)?;
    let b = e.load(d, i.size)?;
    compare(e, i.size, a, b);
    step(e, i, reg::RSI);
    step(e, i, reg::RDI);
    Ok(())
}

fn rep_cmps(cpu: &mut Cpu, i: &Insn) -> Done {
    repeat(cpu, i, |_, _| 0, |cpu| cmps_one(cpu, i), until_zf(i))
}

/// INS: [rDI] = port DX.  Flags: none.
pub fn ins(cpu: &mut Cpu, i: &Insn) -> Done {
    let port = cpu.regs[reg::RDX as usize] as u16;
    cpu.check_port(port, i.size)?;
    let one = |cpu: &mut Cpu| -> Done {
        // The destination is checked first: a port read cannot be taken back.
        let d = dest(cpu, i, true)?;
        cpu.probe_write(d, i.size.bytes())?;
        let v = cpu.port_in(port, i.size);
        cpu.write(d, i.size, v)?;
        step(cpu, i, reg::RDI);
        Ok(())
    };
    // The board may have something to say: also between pieces.
    cpu.events |= event::CHECK;
    if i.repeated() { repeat(cpu, i, |_, _| 0, one, never) } else { one(cpu) }
}

/// OUTS: port DX = [rSI].  Flags: none.
pub fn outs(cpu: &mut Cpu, i: &Insn) -> Done {
    let port = cpu.regs[reg::RDX as usize] as u16;
    cpu.check_port(port, i.size)?;
    let one = |cpu: &mut Cpu| -> Done {
        let s = source(cpu, i)?;
        let v = cpu.read(s, i.size)?;
        cpu.port_out(port, i.size, v);
        step(cpu, i, reg::RSI);
        Ok(())
    };
    // The board may have something to say: also between pieces.
    cpu.events |= event::CHECK;
    if i.repeated() { repeat(cpu, i, |_, _| 0, one, never) } else { one(cpu) }
}
