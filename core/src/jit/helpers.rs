//! What generated code calls (`module::import`).

use crate::cpu::{Cpu, Stop};
use crate::decode::cache::CodeCache;
use crate::decode::insn::Insn;
use crate::emit::Emit;
use crate::flags::{self, FlagOp};
use crate::isa::{self, HANDLERS, hot};
use crate::lookup::lookup;
use crate::mem::PAGE_SIZE;

/// How an access is made, in one number for [`fill`].
pub fn how(bytes: u64, write: bool) -> i32 {
    bytes as i32 | i32::from(write) << 8
}

/// The host's address (its low half) of an access at `la` that the TLB does not serve, which it does from now on if it
/// can. 0: the interpreter has to look at it.
pub fn fill(cpu: &mut Cpu, la: u64, how: u32) -> u32 {
    let bytes = u64::from(how & 0xff);
    if la & (PAGE_SIZE - 1) > PAGE_SIZE - bytes {
        return 0;
    }
    cpu.host_of(la, bytes, how >> 8 != 0).unwrap_or(0) as u32
}

/// Runs an instruction; 0: it is complete, 1: it is not, 2: it is, and there are events to look at, 3: it is, and code
/// is now run in another mode or with another privilege. What is pending behind the last instruction of a block is
/// looked at here, as long as it is nothing. A fault is kept for [`super::Jit::run`]: the instruction may have done a
/// part of its work, and is not run again.
pub fn plain(cpu: &mut Cpu, i: &Insn) -> u32 {
    let Some(op) = hot::op(i.op) else { return 1 };
    cpu.extend_flags();
    let context = cpu.jump_context;
    if let Err(stop) = HANDLERS[op as usize](cpu, i) {
        if let Stop::Fault(fault) = stop {
            cpu.compiled_fault = Some(fault);
        }
        return 1;
    }
    if cpu.events != 0 && !(isa::ends(op) && cpu.nothing_pending()) {
        return 2;
    }
    if cpu.jump_context == context { 0 } else { 3 }
}

/// Loads a segment register, if code is run in the same mode then; else, or if it faults, 1, and nothing is done.
pub fn segment(cpu: &mut Cpu, s: u32, selector: u32) -> u32 {
    let (s, context) = (s as u8 & 7, cpu.jump_context);
    let before = cpu.seg[usize::from(s)];
    if cpu.load_segment(s, selector as u16).is_err() {
        return 1;
    }
    if cpu.jump_context != context {
        cpu.seg[usize::from(s)] = before;
        cpu.segments_changed();
        return 1;
    }
    0
}

/// The time stamp counter as the guest sees it. What is left of the budget is exact.
pub fn time(cpu: &mut Cpu) -> u64 {
    cpu.time_stamp()
}

/// Where the block at RIP is compiled: `imm` of its head record, if there is one. Whatever is wrong with RIP is left to
/// the run loop, which meets it again. At the end of a budget nothing is fetched, or a fault would show in CR2 too soon.
pub fn follow(cpu: &mut Cpu, code: &mut CodeCache) -> u64 {
    if cpu.left == 0 {
        return 0;
    }
    match lookup(cpu, code) {
        Ok(Some(head)) => code.insns().get(head as usize).map_or(0, |head| head.imm),
        _ => 0,
    }
}

/// The six flags that values in locals are for; `told`: `op | size << 8`. The CPU has them then, too.
pub fn image(cpu: &mut Cpu, told: u64, a: u64, b: u64, r: u64) -> u64 {
    [cpu.flag_a, cpu.flag_b, cpu.flag_r] = [a, b, r];
    (cpu.flag_op, cpu.flag_size) = (FlagOp::from_number(told as u8), (told >> 8) as u8);
    cpu.extend_flags();
    flags::read(cpu)
}
