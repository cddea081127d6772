//! The virtual CPU: the run loop around blocks of decoded instructions.
//!
//! Invariant: a block never touches a device and never overwrites decoded code. An instruction
//! that would stops with [`Stop::Alone`] before it has done anything, and is run again alone,
//! at an exact instruction count; interrupts are looked for right after it. The JIT keeps the
//! same rule, so both see interrupts at the same instruction.

use crate::bus::Bus;
use crate::cpu::exception::Source;
use crate::cpu::features::Model;
use crate::cpu::mode::key;
use crate::cpu::{Cpu, Shadow, Stop, Vector, event, fault, gp, reg};
use crate::decode::cache::{self, CodeCache, MAX_BLOCK};
use crate::decode::insn::{Insn, opnd, slot};
use crate::decode::{self, Decoded, MAX_LEN};
use crate::flags::{self, FlagOp};
use crate::isa::{self, Op, hot};
use crate::mem::{GuestRam, PAGE_SHIFT, PAGE_SIZE, page};
use crate::size::Size;
use alloc::boxed::Box;

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
    code: CodeCache,
}

/// Blocks run before the loop function is left, so that the host may swap in optimized code.
const STRETCH: u32 = 20_000;

impl Vcpu {
    /// A CPU in its reset state.
    pub fn new(ram: &GuestRam, model: Model) -> Self {
        Self { cpu: Cpu::new(ram, model), code: CodeCache::default() }
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
        let code = &mut self.code;
        self.cpu.with_board(bus, |cpu| run(cpu, code))
    }

    fn drop_all_code(&mut self) {
        drop_all(&mut self.cpu, &mut self.code);
    }
}

fn drop_all(cpu: &mut Cpu, code: &mut CodeCache) {
    for p in code.clear() {
        unmark(cpu, p);
    }
}

/// A page has no decoded code any more.
fn unmark(cpu: &mut Cpu, p: u32) {
    cpu.tlb.generation = cpu.tlb.generation.wrapping_add(1);
    if let Some(g) = cpu.code_granules.get_mut(p as usize) {
        *g = 0;
    }
    cpu.ram.change_flags(u64::from(p), 0, page::CODE);
}

fn run(cpu: &mut Cpu, code: &mut CodeCache) -> CpuExit {
    loop {
        if cpu.events != 0 || cpu.ram.has_dirty_code() {
            if let Some(exit) = events(cpu, code) {
                return exit;
            }
        }
        if cpu.left == 0 {
            return CpuExit::Budget;
        }
        if cpu.events & event::STEP != 0 {
            step(cpu, code);
            continue;
        }
        match lookup(cpu, code) {
            Ok(Some(block)) => {
                match stretch(cpu, code, block) {
                    Next::Look => {}
                    Next::Alone => step(cpu, code),
                    // Blocks that begin in the middle of others are not worth keeping.
                    Next::Short => {
                        while cpu.left > 0 && cpu.events == 0 {
                            step(cpu, code);
                        }
                    }
                }
            }
            Ok(None) => step(cpu, code),
            Err(Stop::Fault(f)) => {
                // The fetch of the first instruction faulted.
                cpu.left -= 1;
                let rip = cpu.rip;
                cpu.deliver_fault(f, rip);
            }
            Err(Stop::Alone) => step(cpu, code),
        }
    }
}

/// Deals with everything pending between instructions.
fn events(cpu: &mut Cpu, code: &mut CodeCache) -> Option<CpuExit> {
    if cpu.events & event::SHUTDOWN != 0 {
        return Some(CpuExit::Shutdown);
    }
    if cpu.events & event::FLUSH_CODE != 0 {
        cpu.events &= !event::FLUSH_CODE;
        drop_all(cpu, code);
    }
    if cpu.events & event::STALE_CODE != 0 || cpu.ram.has_dirty_code() {
        cpu.events &= !event::STALE_CODE;
        let mut pages = core::mem::take(&mut cpu.stale_code);
        pages.extend(cpu.ram.take_dirty_code());
        for p in pages {
            cpu.stats.stale_pages += 1;
            code.drop_page(p);
            unmark(cpu, p);
        }
    }
    if cpu.events & event::CHECK == 0 {
        return None;
    }
    let may = cpu.bus().allowance();
    if may < cpu.left {
        // A nearer deadline: come back for it.
        cpu.retired_end = cpu.retired_end.wrapping_sub(cpu.left - may);
        cpu.left = may;
    }
    if cpu.pending_db != 0 && cpu.shadow != Shadow::MovSs {
        cpu.dr[6] |= core::mem::take(&mut cpu.pending_db);
        cpu.deliver(Vector::DB as u8, Source::Exception(None));
    }
    if cpu.shadow == Shadow::None {
        if !cpu.nmi_blocked && cpu.bus().take_nmi() {
            cpu.stats.interrupts += 1;
            cpu.nmi_blocked = true;
            cpu.deliver(Vector::NMI as u8, Source::External);
        } else if cpu.flag(flags::IF) && cpu.bus().interrupt_pending() {
            if let Some(v) = cpu.bus().acknowledge() {
                cpu.stats.interrupts += 1;
                cpu.deliver(v, Source::External);
            }
            // There may be another one, or delivery may have failed.
            return None;
        }
    }
    cpu.events &= !event::CHECK;
    if cpu.events & event::HALTED != 0 {
        return Some(CpuExit::Halt);
    }
    None
}

/// The block at CS:RIP, decoded if need be. `None`: there is none here (the instruction must
/// be run alone).
#[inline]
fn lookup(cpu: &mut Cpu, code: &mut CodeCache) -> Result<Option<u32>, Stop> {
    let la = if cpu.long { cpu.rip } else { cpu.seg[reg::CS as usize].base.wrapping_add(cpu.rip) & 0xffff_ffff };
    let jump = CodeCache::jump_key(la, cpu.mode, cpu.cpl);
    if let Some(b) = code.jump(jump, cpu.tlb.generation) {
        return Ok(Some(b));
    }
    let pa = cpu.fetch_page(la)?;
    let found = match code.find(cache::key(pa, cpu.mode)) {
        Some(b) => Some(b),
        None => translate(cpu, code, la, pa),
    };
    let Some(n) = found else { return Ok(None) };
    let b = &code.blocks[n as usize];
    if b.second != 0 {
        let next = (la | (PAGE_SIZE - 1)).wrapping_add(1);
        let next = if cpu.long { next } else { next & 0xffff_ffff };
        if cpu.fetch_page(next)? >> PAGE_SHIFT != u64::from(b.second - 1) {
            return Ok(None);
        }
    }
    if !cpu.long && cpu.rip + u64::from(b.bytes) - 1 > u64::from(cpu.seg[reg::CS as usize].limit) {
        return Ok(None);
    }
    // What was checked above stays true in flat code within a page until the TLB changes.
    if b.second == 0 && cpu.mode & key::FLAT != 0 {
        code.set_jump(jump, cpu.tlb.generation, n);
    }
    Ok(found)
}

/// Decodes the block at `pa`. `None` if its first instruction cannot be part of a block.
fn translate(cpu: &mut Cpu, code: &mut CodeCache, la: u64, pa: u64) -> Option<u32> {
    if !cpu.ram.contains(pa, 1) || cpu.ram.flags(pa >> PAGE_SHIFT) & page::DEVICE != 0 {
        return None;
    }
    if code.full() {
        // Whoever called may hold block numbers: the run loop empties the cache.
        cpu.events |= event::FLUSH_CODE;
        return None;
    }
    let room = (PAGE_SIZE - (pa & (PAGE_SIZE - 1))) as usize;
    let mut bytes = [0u8; MAX_BLOCK * MAX_LEN];
    let n = room.min(bytes.len());
    cpu.ram.read(pa, &mut bytes[..n]);
    let mut insns: [Insn; MAX_BLOCK] = [NOTHING; MAX_BLOCK];
    let (mut count, mut at) = (0, 0);
    let mut second = None;
    while count < MAX_BLOCK && at < n {
        let i = match decode::decode(&bytes[at..n], cpu.mode, at as u16) {
            Decoded::Insn(i) => i,
            Decoded::More if count == 0 => {
                // The instruction crosses the page: a block of its own, tied to both pages.
                let next = (la | (PAGE_SIZE - 1)).wrapping_add(1);
                let next = if cpu.long { next } else { next & 0xffff_ffff };
                let pa2 = cpu.fetch_page(next).ok()?;
                if cpu.ram.flags(pa2 >> PAGE_SHIFT) & page::DEVICE != 0 {
                    return None;
                }
                let mut both = [0u8; MAX_LEN];
                both[..n].copy_from_slice(&bytes[..n]);
                cpu.ram.read(pa2 & !(PAGE_SIZE - 1), &mut both[n..]);
                let Decoded::Insn(i) = decode::decode(&both, cpu.mode, 0) else { return None };
                second = Some(pa2 >> PAGE_SHIFT);
                insns[0] = i;
                count = 1;
                at = i.len as usize;
                break;
            }
            _ => break,
        };
        insns[count] = i;
        count += 1;
        at += i.len as usize;
        if ends(&i) {
            break;
        }
    }
    if count == 0 {
        return None;
    }
    know_flags(&mut insns[..count]);
    cpu.stats.blocks += 1;
    mark(cpu, pa, at.min(room));
    if let Some(p) = second {
        mark(cpu, p << PAGE_SHIFT, at - room);
    }
    let last = &insns[count - 1];
    let linkable = cpu.mode & key::FLAT != 0 && (!ends(last) || direct(last));
    Some(code.add(cache::key(pa, cpu.mode), &insns[..count], at as u16, second, linkable))
}

const NOTHING: Insn = Insn {
    op: u16::MAX,
    off: 0,
    len: 0,
    size: Size::B1,
    a: 0,
    b: 0,
    c: 0,
    base: 0,
    index: 0,
    scale: 0,
    ea: decode::insn::Ea::Flat64,
    seg: 0,
    prefix: 0,
    sub: 0,
    disp: 0,
    size2: 0,
    asize: 8,
    stack: decode::insn::Stack::Flat64,
    bytes: 0,
    imm: 0,
};

/// Does a decoded instruction end its block?
fn ends(i: &Insn) -> bool {
    if i.op < hot::COUNT {
        return hot::ends(i.op);
    }
    i.repeated() || isa::ends_at(i.op - hot::COUNT)
}

/// Lets conditional jumps know which operation set the flags they read.
fn know_flags(block: &mut [Insn]) {
    let mut last = FlagOp::Image;
    for i in block {
        match hot::op(i.op) {
            Some(Op::Cmp | Op::Sub | Op::Neg) => last = FlagOp::Sub,
            Some(Op::Test | Op::And | Op::Or | Op::Xor) => last = FlagOp::Logic,
            Some(Op::Jcc) => i.op = hot::after_flags(i.op, last),
            // These leave the flags alone.
            Some(Op::Mov | Op::Movzx | Op::Movsx | Op::Lea | Op::Push | Op::Pop | Op::Cmovcc | Op::Setcc | Op::Not) => {
            }
            _ => last = FlagOp::Image,
        }
    }
}

/// Is this a branch to a fixed target?
fn direct(i: &Insn) -> bool {
    let op = hot::op(i.op);
    matches!(op, Some(Op::Jcc | Op::Jcxz | Op::Loop)) || matches!(op, Some(Op::Jmp | Op::Call)) && i.a == opnd::IMM
}

/// Remembers which granules hold decoded code, and takes stores away from the fast path.
fn mark(cpu: &mut Cpu, pa: u64, n: usize) {
    let p = pa >> PAGE_SHIFT;
    let first = pa >> 6 & 63;
    let last = (pa & (PAGE_SIZE - 1)).wrapping_add(n as u64 - 1) >> 6;
    let mask = (u64::MAX << first) & (u64::MAX >> (63 - last.min(63)));
    if let Some(g) = cpu.code_granules.get_mut(p as usize) {
        *g |= mask;
    }
    if cpu.ram.flags(p) & page::CODE == 0 {
        cpu.ram.change_flags(p, page::CODE, 0);
        if let Some(host) = cpu.ram.host(p << PAGE_SHIFT) {
            cpu.tlb.protect_host_page(host.value());
        }
    }
}

/// What the run loop does after a stretch.
enum Next {
    /// Looks at events and for the next block.
    Look,
    /// Runs the instruction at RIP alone.
    Alone,
    /// The budget does not cover the block at RIP.
    Short,
}

/// Runs blocks from `block` on for a while.
fn stretch(cpu: &mut Cpu, code: &mut CodeCache, mut block: u32) -> Next {
    for _ in 0..STRETCH {
        let b = &code.blocks[block as usize];
        let count = u64::from(b.count);
        if cpu.left < count {
            return Next::Short;
        }
        cpu.left -= count;
        let entry = cpu.rip;
        let through = cpu.rip_mask(entry.wrapping_add(u64::from(b.bytes)));
        cpu.regs[slot::BLOCK as usize] = entry;
        cpu.rip = through;
        let insns = &code.insns[b.start as usize..b.start as usize + b.count as usize];
        #[cfg(feature = "profile")]
        crate::profile::sample(insns);
        if let Some((i, stop)) = hot::run(cpu, insns) {
            return stopped(cpu, stop, entry, i, insns);
        }
        if cpu.events != 0 {
            return Next::Look;
        }
        let side = usize::from(cpu.rip == through);
        let link = code.blocks[block as usize].links[side];
        if link != 0 {
            block = link - 1;
            continue;
        }
        match lookup(cpu, code) {
            Ok(Some(next)) => {
                let same_page = cpu.rip >> PAGE_SHIFT == entry >> PAGE_SHIFT;
                if same_page && code.blocks[next as usize].second == 0 && code.blocks[block as usize].linkable {
                    code.blocks[block as usize].links[side] = next + 1;
                }
                block = next;
            }
            // The outer loop meets the same and handles it.
            _ => return Next::Look,
        }
    }
    Next::Look
}

/// The instruction `i` of `block` did not complete; neither it nor those behind it count.
#[cold]
#[inline(never)]
fn stopped(cpu: &mut Cpu, stop: Stop, entry: u64, i: &Insn, block: &[Insn]) -> Next {
    let done = block.iter().take_while(|b| b.off != i.off).count();
    cpu.left += (block.len() - done) as u64;
    let rip = cpu.rip_mask(entry.wrapping_add(u64::from(i.off)));
    match stop {
        Stop::Alone => {
            cpu.rip = rip;
            Next::Alone
        }
        Stop::Fault(f) => {
            // A fault counts as an instruction, so that even a loop of faults uses the budget.
            cpu.left -= 1;
            cpu.deliver_fault(f, rip);
            Next::Look
        }
    }
}

/// Fetches, decodes and runs the one instruction at CS:RIP.
fn step(cpu: &mut Cpu, code: &mut CodeCache) {
    let _ = code;
    cpu.stats.alone += 1;
    cpu.left -= 1;
    cpu.alone = true;
    let rip = cpu.rip;
    let shadow = cpu.shadow;
    cpu.single_step = cpu.flag(flags::TF);
    let result = match instruction_breakpoint(cpu) {
        Some(bits) => {
            cpu.dr[6] |= bits;
            Err(fault(Vector::DB))
        }
        None => fetch(cpu).and_then(|i| {
            #[cfg(feature = "profile")]
            crate::profile::alone(&i);
            cpu.regs[slot::BLOCK as usize] = rip;
            cpu.rip = cpu.rip_mask(rip.wrapping_add(u64::from(i.len)));
            hot::run(cpu, core::slice::from_ref(&i)).map_or(Ok(()), |(_, stop)| Err(stop))
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
        }
        Err(Stop::Fault(f)) => cpu.deliver_fault(f, rip),
        Err(Stop::Alone) => {}
    }
}

/// DR6 bits of instruction breakpoints at CS:RIP (SDM 3A 17.2), unless RF is set. RF lasts for
/// one instruction (3A 18.3.1.1); a fault of that instruction sets it again.
fn instruction_breakpoint(cpu: &mut Cpu) -> Option<u64> {
    if cpu.rflags & flags::RF != 0 {
        cpu.rflags &= !flags::RF;
        cpu.mode_changed();
        return None;
    }
    if cpu.dr[7] & 0xff == 0 || cpu.shadow == Shadow::MovSs {
        return None;
    }
    let base = if cpu.long { 0 } else { cpu.seg[reg::CS as usize].base };
    let la = base.wrapping_add(cpu.rip);
    let mut bits = 0;
    for n in 0..4 {
        let enabled = cpu.dr[7] >> (2 * n) & 3 != 0;
        let kind = cpu.dr[7] >> (16 + 4 * n) & 0xf;
        if enabled && kind == 0 && cpu.dr[n as usize] == la {
            bits |= 1 << n;
        }
    }
    (bits != 0).then_some(bits)
}

/// Fetches and decodes the instruction at CS:RIP, byte by byte if it must be.
fn fetch(cpu: &mut Cpu) -> Result<Insn, Stop> {
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
                    }
                }
                n += k;
            }
            Err(s) => {
                stop = Some(s);
                break;
            }
        }
        if let Decoded::Insn(i) = decode::decode(&bytes[..n], cpu.mode, 0) {
            return Ok(i);
        }
    }
    match decode::decode(&bytes[..n], cpu.mode, 0) {
        Decoded::Insn(i) => Ok(i),
        Decoded::Undefined => Err(fault(Vector::UD)),
        Decoded::TooLong => Err(gp(0)),
        Decoded::More => Err(stop.unwrap_or(gp(0))),
    }
}
