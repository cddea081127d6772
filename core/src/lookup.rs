//! From CS:RIP to a block of decoded instructions.

use crate::cpu::mode::key;
use crate::cpu::{Cpu, Stop, event, reg};
use crate::decode::cache::{self, Block, CodeCache, MAX_BLOCK};
use crate::decode::insn::{Insn, NOTHING, opnd};
use crate::decode::{self, Decoded, MAX_LEN};
use crate::flags::FlagOp;
use crate::isa::{self, Op, hot};
use crate::mem::{PAGE_SHIFT, PAGE_SIZE, page};

/// The head record of the block at CS:RIP, decoded if need be. `None`: there is none here (the
/// instruction must be run alone).
#[inline]
pub fn lookup(cpu: &mut Cpu, code: &mut CodeCache) -> Result<Option<u32>, Stop> {
    if let Some(head) = code.jump(cpu) {
        return Ok(Some(head));
    }
    let la = cpu.code_address();
    let pa = cpu.fetch_page(la)?;
    // The TLB may not have known it.
    if let Some(head) = code.jump_in(cpu.jump_key(), pa >> PAGE_SHIFT) {
        return Ok(Some(head));
    }
    let found = code.find(cache::key(pa, cpu.mode)).or_else(|| translate(cpu, code, la, pa));
    let Some(b) = found else { return Ok(None) };
    if let Some(second) = b.second_page() {
        let next = (la | (PAGE_SIZE - 1)).wrapping_add(1);
        let next = if cpu.long { next } else { next & 0xffff_ffff };
        if cpu.fetch_page(next)? >> PAGE_SHIFT != second {
            return Ok(None);
        }
    }
    let (_, bytes) = code.extent(b.head);
    if !cpu.long && cpu.rip + bytes - 1 > u64::from(cpu.seg[reg::CS as usize].limit) {
        return Ok(None);
    }
    // What was checked above stays true in flat code within a page.
    if b.second_page().is_none() && cpu.mode & key::FLAT != 0 {
        code.set_jump(cpu.jump_key(), pa, b.head);
    }
    Ok(Some(b.head))
}

/// Decodes the block at `pa`. `None` if its first instruction cannot be part of a block.
fn translate(cpu: &mut Cpu, code: &mut CodeCache, la: u64, pa: u64) -> Option<Block> {
    if !cpu.ram.contains(pa, 1) || cpu.ram.flags(pa >> PAGE_SHIFT) & page::DEVICE != 0 {
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
        let i = match decode::decode(&bytes[at..n], cpu.mode, cpu.model, at as u16) {
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
                let Decoded::Insn(i) = decode::decode(&both, cpu.mode, cpu.model, 0) else { return None };
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
    let last = &insns[count - 1];
    let linkable = cpu.mode & key::FLAT != 0 && (!ends(last) || direct(last));
    let block = code.add(cache::key(pa, cpu.mode), &insns[..count], at as u16, second, linkable);
    if block.is_none() {
        // Whoever called may hold block numbers: the run loop makes room.
        cpu.events |= event::CODE_FULL;
        return None;
    }
    cpu.stats.blocks += 1;
    mark(cpu, pa, at.min(room));
    if let Some(p) = second {
        mark(cpu, p << PAGE_SHIFT, at - room);
    }
    block
}

/// Does a decoded instruction end its block?
fn ends(i: &Insn) -> bool {
    hot::op(i.op).is_none_or(|op| isa::ends(op) || i.repeated() && i.op >= hot::COLD)
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
