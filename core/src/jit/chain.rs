//! From one region to the next: whoever leaves for a RIP looks into the jump cache itself, and goes straight on if the
//! block there is compiled. If that block was known when the region was compiled, its head record is asked right away.
//! As in [`CodeCache::jump`], what it finds counts if the TLB still leads to the same page and the block still exists
//! (a dead block's head record says that it is not compiled). What is not in the cache is looked up by
//! `helpers::follow`.

use super::layout::Layout;
use super::locals::{ENTRY_AT, EXIT, HOST, LEFT, LINK};
use super::module::{REGION_TYPE, import};
use super::steps::{at, tlb_index};
use crate::cpu::tlb::Entry;
use crate::decode::cache::{JUMPS, Jump};
use crate::decode::insn::{Insn, place};
use crate::mem::{PAGE_SHIFT, PAGE_SIZE};
use core::mem::offset_of;
use wasm_encoder::{BlockType, InstructionSink, ValType};

/// Goes on in the region that RIP leads to, if there is one. The state is in memory; LEFT is free.
pub fn go_on(out: &mut InstructionSink<'_>, layout: &Layout) {
    if !layout.tail_calls {
        return;
    }
    let key = LEFT;
    out.local_get(EXIT).i32_eqz().if_(BlockType::Empty);
    out.local_get(LINK).i64_eqz().if_(BlockType::Result(ValType::I64));
    compiled_at_rip(out, layout, key, |out| {
        out.i32_const(layout.cpu as i32).i32_const(layout.code as i32).call(import::FOLLOW);
    });
    out.else_().local_get(LINK).end();
    out.local_tee(key).i64_const(0).i64_lt_s().if_(BlockType::Empty);
    out.i32_const(0).i32_const(0).i64_load(at(layout.hops)).i64_const(1).i64_add().i64_store(at(layout.hops));
    out.local_get(key).i64_const(place::ENTRY).i64_shr_u().i32_wrap_i64().i32_const(place::ENTRIES).i32_and();
    out.local_get(key).i64_const(place::FUNCTION).i64_shr_u().i32_wrap_i64();
    out.return_call_indirect(0, REGION_TYPE);
    out.end().end();
}

/// Leaves `imm` of the head record of the block at RIP on the stack, or what `miss` does if the jump cache does not know
/// it. `key`: an i64 that is free.
pub fn compiled_at_rip(
    out: &mut InstructionSink<'_>,
    layout: &Layout,
    key: u32,
    miss: impl FnOnce(&mut InstructionSink<'_>),
) {
    let (jump, entry) = (ENTRY_AT, HOST);
    let in_jump = |offset: usize| at(layout.jumps + offset as u32);
    let in_entry = |offset: usize| at(layout.tlb_exec + offset as u32);
    let rip = |out: &mut InstructionSink<'_>| {
        out.i32_const(0).i64_load(at(layout.rip));
    };
    out.block(BlockType::Result(ValType::I64)).block(BlockType::Empty);
    // `Cpu::jump_key` and `CodeCache::slot`.
    out.i32_const(0).i64_load(at(layout.jump_context));
    rip(out);
    out.i64_xor().local_tee(key);
    out.local_get(key).i64_const(12).i64_shr_u().i64_xor().i32_wrap_i64();
    out.i32_const(JUMPS as i32 - 1).i32_and().i32_const(size_of::<Jump>() as i32).i32_mul().local_tee(jump);
    out.i64_load(in_jump(offset_of!(Jump, key))).local_get(key).i64_ne().br_if(0);
    // `Cpu::known_fetch_page`.
    rip(out);
    tlb_index(out);
    out.i32_const(0).i32_load(at(layout.fetch_bytes)).i32_or().local_set(entry);
    out.local_get(entry).i64_load(in_entry(offset_of!(Entry, tag)));
    rip(out);
    out.i64_xor();
    out.i64_const(PAGE_SIZE as i64).i64_ge_u().br_if(0);
    rip(out);
    out.local_get(entry).i64_load(in_entry(offset_of!(Entry, add))).i64_add().i64_const(i64::from(PAGE_SHIFT));
    out.i64_shr_u().local_get(jump).i64_load32_u(in_jump(offset_of!(Jump, page))).i64_ne().br_if(0);
    // `Insn::compiled`.
    out.local_get(jump).i32_load(in_jump(offset_of!(Jump, head))).i32_const(size_of::<Insn>() as i32).i32_mul();
    out.i64_load(at(layout.insn(0) + offset_of!(Insn, imm) as u32)).br(1).end();
    miss(out);
    out.end();
}
