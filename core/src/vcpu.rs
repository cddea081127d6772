//! The virtual CPU: the run loop around blocks of decoded instructions.
//!
//! Invariant: a block never touches a device and never overwrites decoded code. An instruction
//! that would stops with [`Stop::Alone`] before it has done anything, and is run again alone,
//! at an exact instruction count; interrupts are looked for right after it. The JIT keeps the
//! same rule, so both see interrupts at the same instruction.

use crate::bus::Bus;
use crate::cpu::debug::dr6;
use crate::cpu::features::Model;
use crate::cpu::{Cpu, Shadow, Stop, Vector, event, fault, gp, reg};
use crate::decode::cache::{CodeCache, MAX_BLOCK};
use crate::decode::cursor::Sealed;
use crate::decode::insn::{HEAD, Insn, NOTHING, link, slot};
use crate::decode::{self, Decoded, MAX_LEN};
use crate::flags;
use crate::isa::hot::{self, Left};
use crate::jit::{CodeHost, Jit, Ran};
use crate::lookup::lookup;
use crate::mem::{GuestRam, PAGE_SHIFT, PAGE_SIZE, page};
use crate::size::Size;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Why [`Vcpu::run`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuExit {
    /// The budget is used up, or the board asked for the CPU to come back.
    Budget,
    /// HLT, and no interrupt is waiting.
    Halt,
    /// A triple fault.
    Shutdown,
}

/// A CPU with its decoded code.
pub struct Vcpu {
    /// Registers and all other state.
    pub cpu: Box<Cpu>,
    code: Box<CodeCache>,
    jit: Option<Jit>,
}

/// Instructions run before the loop function is left, so that the host may swap in optimized code.
const STRETCH: u64 = 100_000;
/// Decoded code that was seen within so many samples is kept, if there is room for all of that.
const LATELY: u64 = 1 << 15;

impl Vcpu {
    /// A CPU in its reset state.
    pub fn new(ram: &GuestRam, model: Model) -> Self {
        Self { cpu: Cpu::new(ram, model), code: Box::default(), jit: None }
    }

    /// From now on hot code is compiled.
    pub fn set_code_host(&mut self, host: Box<dyn CodeHost>) {
        self.drop_all_code();
        self.jit = Some(Jit::new(host, &self.cpu, &self.code));
    }

    /// The compiler, if there is one.
    pub fn jit(&mut self) -> Option<&mut Jit> {
        self.jit.as_mut()
    }

    /// The WebAssembly module of the code at a linear address, or at CS:RIP, as it would be compiled now; for people. The
    /// guest's state stays as it is. `None`: no compiler, or nothing has been run there lately.
    pub fn module_at(&self, la: Option<u64>) -> Option<Vec<u8>> {
        let la = la.unwrap_or_else(|| self.cpu.code_address());
        let page = self.cpu.known_fetch_page(self.cpu.ring(), la)?;
        self.jit.as_ref()?.module_at(&self.cpu, &self.code, la, page << PAGE_SHIFT | la & (PAGE_SIZE - 1))
    }

    /// Instructions retired since the CPU was created.
    pub fn retired(&self) -> u64 {
        self.cpu.retired()
    }

    /// Back to the reset state; the instruction count goes on.
    pub fn reset(&mut self) {
        self.cpu.reset();
        self.drop_all_code();
    }

    /// Runs up to `budget` instructions (a long string instruction may overshoot a little).
    pub fn run(&mut self, bus: &mut dyn Bus, budget: u64) -> CpuExit {
        let retired = self.cpu.retired();
        self.cpu.left = budget;
        self.cpu.retired_end = retired.wrapping_add(budget);
        self.cpu.events |= event::CHECK;
        let (code, jit) = (&mut self.code, &mut self.jit);
        self.cpu.with_board(bus, |cpu| run(cpu, code, jit.as_mut()))
    }

    fn drop_all_code(&mut self) {
        drop_all(&mut self.cpu, &mut self.code, self.jit.as_mut());
    }
}

fn drop_all(cpu: &mut Cpu, code: &mut CodeCache, jit: Option<&mut Jit>) {
    if let Some(jit) = jit {
        jit.drop_all();
    }
    for p in code.clear() {
        unmark(cpu, p);
    }
}

/// Drops compiled code if there is too much of it; else decoded code that is not compiled and was not seen running lately,
/// then what is not compiled, then everything, until there is room.
fn make_room(cpu: &mut Cpu, code: &mut CodeCache, mut jit: Option<&mut Jit>) {
    if let Some(jit) = jit.as_deref_mut().filter(|jit| jit.full()) {
        return jit.drop_code(code);
    }
    for lately in [LATELY, 0] {
        for p in code.pages() {
            if !jit.as_ref().is_some_and(|jit| jit.uses(p, lately)) {
                code.drop_page(p);
                unmark(cpu, p);
            }
        }
        code.reclaim();
        if !code.is_crowded() {
            return;
        }
    }
    drop_all(cpu, code, jit);
}

/// A page has no decoded code any more.
fn unmark(cpu: &mut Cpu, p: u32) {
    if let Some(g) = cpu.code_granules.get_mut(p as usize) {
        *g = 0;
    }
    cpu.ram.change_flags(u64::from(p), 0, page::CODE);
}

fn run(cpu: &mut Cpu, code: &mut CodeCache, mut jit: Option<&mut Jit>) -> CpuExit {
    loop {
        if cpu.events != 0 || cpu.ram.has_dirty_code() {
            if let Some(exit) = events(cpu, code, jit.as_deref_mut()) {
                return exit;
            }
        }
        if cpu.left == 0 {
            return CpuExit::Budget;
        }
        if cpu.events & event::STEP != 0 {
            step(cpu, code, None);
            continue;
        }
        match lookup(cpu, code) {
            Ok(Some(block)) => {
                if let Some(alone) = stretch(cpu, code, jit.as_deref_mut(), block) {
                    step(cpu, code, Some(alone));
                }
            }
            Ok(None) => step(cpu, code, None),
            Err(Stop::Fault(f)) => {
                // The fetch of the first instruction faulted.
                cpu.left -= 1;
                let rip = cpu.rip;
                cpu.deliver_fault(f, rip);
            }
            Err(Stop::Alone) => step(cpu, code, None),
        }
    }
}

/// Deals with everything pending between instructions.
fn events(cpu: &mut Cpu, code: &mut CodeCache, mut jit: Option<&mut Jit>) -> Option<CpuExit> {
    if cpu.events & event::SHUTDOWN != 0 {
        return Some(CpuExit::Shutdown);
    }
    if cpu.events & event::FLUSH_CODE != 0 {
        cpu.events &= !event::FLUSH_CODE;
        drop_all(cpu, code, jit.as_deref_mut());
    }
    if cpu.events & event::CODE_FULL != 0 {
        cpu.events &= !event::CODE_FULL;
        make_room(cpu, code, jit.as_deref_mut());
    }
    if cpu.events & event::STALE_CODE != 0 || cpu.ram.has_dirty_code() {
        cpu.events &= !event::STALE_CODE;
        let mut pages = core::mem::take(&mut cpu.stale_code);
        pages.extend(cpu.ram.take_dirty_code());
        for p in pages {
            cpu.stats.stale_pages += 1;
            code.drop_page(p);
            if let Some(jit) = &mut jit {
                jit.drop_page(code, p);
            }
            unmark(cpu, p);
        }
    }
    if cpu.events & event::CHECK == 0 {
        return None;
    }
    if cpu.take_pending() {
        return None;
    }
    cpu.events &= !event::CHECK;
    if cpu.events & event::HALTED != 0 {
        return Some(CpuExit::Halt);
    }
    None
}

/// Runs blocks from the one with this head record on for a while. Returns the instruction at RIP
/// if it must be run alone.
fn stretch(cpu: &mut Cpu, code: &mut CodeCache, mut jit: Option<&mut Jit>, head: u32) -> Option<Insn> {
    let mut from = From::Block(head);
    loop {
        let before = cpu.retired();
        cpu.floor = cpu.left.saturating_sub(jit.as_ref().map_or(STRETCH, |jit| jit.until_sample));
        let end = interpret(cpu, code, from);
        if let Some(jit) = &mut jit {
            jit.until_sample = jit.until_sample.saturating_sub(cpu.retired().wrapping_sub(before));
        }
        return match end {
            Left::Short(head) => match short(cpu, code, jit.as_deref_mut(), head) {
                Then::Within(at) => {
                    from = From::Within(at);
                    continue;
                }
                Then::Look => None,
                Then::Alone(insn) => Some(insn),
            },
            Left::Stopped(at, stop) => stopped(cpu, code.insns(), at, stop),
            Left::Look | Left::Unlinked(_) => None,
        };
    }
}

/// Where the interpreter begins.
enum From {
    /// With the block that has this head record, if the budget covers it.
    Block(u32),
    /// With the instruction that has this record; its block is counted.
    Within(usize),
}

/// Interprets blocks, until there is something to do.
fn interpret(cpu: &mut Cpu, code: &mut CodeCache, from: From) -> Left {
    let mut at = match from {
        From::Within(at) => at,
        From::Block(head) => match hot::enter(cpu, code.insns(), head) {
            Some(first) => first,
            None => return Left::Short(head),
        },
    };
    loop {
        match hot::run(cpu, code.insns(), code, at) {
            // Nothing is fetched that this run does not reach: a fault would show in CR2 before it happens.
            Left::Unlinked(_) if cpu.left == 0 => return Left::Look,
            Left::Unlinked(leave) => {
                // The outer loop meets what goes wrong again, and handles it.
                let Ok(Some(head)) = lookup(cpu, code) else { return Left::Look };
                tie(cpu, code, leave, head);
                match hot::enter(cpu, code.insns(), head) {
                    Some(first) => at = first,
                    None => return Left::Short(head),
                }
            }
            end => return end,
        }
    }
}

/// The interpreter did not begin the block with this head record, which is at RIP: it is compiled, or the stretch is
/// over, or the budget covers only part of it.
#[inline(never)]
fn short(cpu: &mut Cpu, code: &mut CodeCache, jit: Option<&mut Jit>, head: u32) -> Then {
    let (count, _) = code.extent(head);
    if let Some(jit) = jit {
        if code.compiled(head) {
            return match jit.run(cpu, code, head) {
                Ran::Some => Then::Look,
                Ran::Within(at) => Then::Within(at),
                Ran::Nothing => part(cpu, code, head),
            };
        }
        if cpu.left >= count {
            // It is time for a sample. A fault here is the outer loop's.
            if let Ok(pa) = cpu.fetch_page(cpu.code_address()) {
                jit.sample(cpu, code, pa, head);
                if jit.full() {
                    cpu.events |= event::CODE_FULL;
                }
            }
            // With no time between samples nothing else is interpreted.
            return if jit.until_sample > 0 || code.compiled(head) { Then::Look } else { part(cpu, code, head) };
        }
    } else if cpu.left >= count {
        return Then::Look;
    }
    part(cpu, code, head)
}

/// What comes next.
enum Then {
    /// Whatever the run loop finds.
    Look,
    /// This instruction, alone.
    Alone(Insn),
    /// The interpreter goes on with the instruction that has this record.
    Within(usize),
}

/// Lets the block that is left through this record know that it led to `head`, for next time.
fn tie(cpu: &Cpu, code: &mut CodeCache, leave: usize, head: u32) {
    let entry = cpu.regs[slot::BLOCK as usize];
    let Some(record) = code.insns().get(leave) else { return };
    if code.insns().get(leave - 1).is_some_and(Insn::jumps_anywhere) {
        return code.set_target(head);
    }
    let side = cpu.rip == cpu.rip_mask(entry.wrapping_add(record.block_bytes()));
    let same_page = cpu.rip >> PAGE_SHIFT == entry >> PAGE_SHIFT;
    let within = (cpu.rip & (PAGE_SIZE - 1)) + code.extent(head).1 <= PAGE_SIZE;
    code.tie(leave as u32, side, if same_page && within { head } else { link::NEVER });
}

/// Runs what the budget covers of the block with this head record, and stops there.
#[cold]
#[inline(never)]
fn part(cpu: &mut Cpu, code: &CodeCache, head: u32) -> Then {
    part_of(cpu, code, head).map_or(Then::Look, Then::Alone)
}

fn part_of(cpu: &mut Cpu, code: &CodeCache, head: u32) -> Option<Insn> {
    let first = head as usize + 1;
    let (count, bytes) = code.extent(head);
    let n = cpu.left.min(count) as usize;
    if n == 0 {
        // The outer loop knows what to do.
        return None;
    }
    let end = if n as u64 == count { bytes as u16 } else { code.insns().get(first + n)?.off };
    let mut insns = [NOTHING; MAX_BLOCK + 2];
    insns[0] = Insn::head(n, end);
    insns.get_mut(1..=n)?.copy_from_slice(code.insns().range(first, first + n));
    insns[n + 1] = Insn::leave(end, link::UNKNOWN);
    let insns = Sealed::new(&insns[..n + 2])?;
    cpu.floor = 0;
    let at = hot::enter(cpu, insns, 0)?;
    match hot::run(cpu, insns, code, at) {
        Left::Stopped(at, stop) => stopped(cpu, insns, at, stop),
        _ => None,
    }
}

/// The instruction at this place did not complete; neither it nor those behind it count. Returns
/// it if it must be run alone.
#[cold]
#[inline(never)]
fn stopped(cpu: &mut Cpu, insns: Sealed<'_>, at: usize, stop: Stop) -> Option<Insn> {
    let i = *insns.get(at)?;
    let before = insns.range(at.saturating_sub(MAX_BLOCK), at);
    let done = before.iter().rev().take_while(|i| i.op != HEAD).count();
    let head = insns.get(at - done - 1)?;
    cpu.left += head.block_count() - done as u64;
    let rip = cpu.rip_mask(cpu.regs[slot::BLOCK as usize].wrapping_add(u64::from(i.off)));
    match stop {
        Stop::Alone => {
            cpu.rip = rip;
            Some(i)
        }
        Stop::Fault(f) => {
            // A fault counts as an instruction, so that even a loop of faults uses the budget.
            cpu.left -= 1;
            cpu.deliver_fault(f, rip);
            None
        }
    }
}

/// Runs the one instruction at CS:RIP; fetches and decodes it if it is not `known` from its block,
/// which began at the address in [`slot::BLOCK`].
fn step(cpu: &mut Cpu, code: &CodeCache, known: Option<Insn>) {
    cpu.stats.alone += 1;
    cpu.left -= 1;
    cpu.alone = true;
    let rip = cpu.rip;
    let shadow = cpu.shadow;
    let pending = cpu.pending_db;
    cpu.single_step = cpu.flag(flags::TF);
    let result = match cpu.code_breakpoint() {
        Some(bits) => {
            cpu.tell_dr6(bits);
            Err(fault(Vector::DB))
        }
        None => known.map_or_else(|| fetch(cpu), Ok).and_then(|i| {
            #[cfg(feature = "profile")]
            crate::profile::alone(&i);
            cpu.regs[slot::BLOCK as usize] = cpu.rip_mask(rip.wrapping_sub(u64::from(i.off)));
            let next = cpu.rip_mask(rip.wrapping_add(u64::from(i.len)));
            cpu.rip = next;
            let insns = [i, Insn::leave(0, link::UNKNOWN)];
            let result = match Sealed::new(&insns).map(|insns| hot::run(cpu, insns, code, 0)) {
                Some(Left::Stopped(_, stop)) => Err(stop),
                _ => Ok(()),
            };
            cpu.skip_unless_branched(next, i.repeated());
            result
        }),
    };
    cpu.alone = false;
    // A shadow lasts for the instruction after the one that made it.
    if shadow != Shadow::None && cpu.shadow == shadow {
        cpu.shadow = Shadow::None;
        cpu.mode_changed();
        cpu.events |= event::CHECK;
    }
    match result {
        Ok(()) => {
            // SDM 3A 18.3.1.4: TF as it was before the instruction counts, and what delivered an
            // interrupt does not trap.
            if cpu.single_step && cpu.shadow != Shadow::MovSs {
                cpu.single_step_trap();
            }
            if cpu.pending_db != 0 {
                cpu.events |= event::CHECK;
            }
        }
        Err(Stop::Fault(f)) => {
            // An instruction that did not complete has met no breakpoint.
            cpu.pending_db &= pending | dr6::BT;
            cpu.deliver_fault(f, rip);
        }
        // It waits.
        Err(Stop::Alone) => cpu.rip = rip,
    }
}

/// Fetches and decodes the instruction at CS:RIP, byte by byte if it must be.
pub(crate) fn fetch(cpu: &mut Cpu) -> Result<Insn, Stop> {
    let mut bytes = [0u8; MAX_LEN];
    let cs = cpu.seg[reg::CS as usize];
    let mut n = 0;
    let mut stop = None;
    while n < MAX_LEN {
        let off = cpu.rip_mask(cpu.rip.wrapping_add(n as u64));
        if !cpu.long && off > u64::from(cs.limit) {
            stop = Some(gp(0));
            break;
        }
        let la = if cpu.long { off } else { cs.base.wrapping_add(off) & 0xffff_ffff };
        match cpu.fetch_page(la) {
            Ok(pa) => {
                let in_page = (PAGE_SIZE - (pa & (PAGE_SIZE - 1))) as usize;
                let mut k = in_page.min(MAX_LEN - n);
                if !cpu.long {
                    k = k.min((u64::from(cs.limit) - off + 1) as usize);
                }
                if cpu.ram.flags(pa >> PAGE_SHIFT) & page::DEVICE == 0 {
                    cpu.ram.read(pa, &mut bytes[n..n + k]);
                } else {
                    for (j, b) in bytes[n..n + k].iter_mut().enumerate() {
                        *b = cpu.bus().mmio_read(pa + j as u64, Size::B1) as u8;
                        cpu.events |= event::CHECK;
                    }
                }
                n += k;
            }
            Err(s) => {
                stop = Some(s);
                break;
            }
        }
        if let Decoded::Insn(i) = decode::decode(&bytes[..n], cpu.mode, cpu.model, 0) {
            return Ok(i);
        }
    }
    match decode::decode(&bytes[..n], cpu.mode, cpu.model, 0) {
        Decoded::Insn(i) => Ok(i),
        Decoded::Undefined => Err(fault(Vector::UD)),
        Decoded::TooLong => Err(gp(0)),
        Decoded::More => Err(stop.unwrap_or(gp(0))),
    }
}
