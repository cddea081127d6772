//! From one region to the next: whoever leaves for a RIP looks into the jump cache itself, and goes straight on if the
//! block there is compiled. The cache's key has mode and privilege in it, and its generation number moves with every
//! change of what addresses mean, so nothing else needs to be checked.

use super::layout::Layout;
use super::locals::{ENTRY_AT, EXIT, LEFT};
use super::module::REGION_TYPE;
use super::steps::at;
use crate::decode::cache::{CodeCache, JUMPS, Jump};
use core::mem::offset_of;
use wasm_encoder::{BlockType, InstructionSink};

/// Goes on in the region that RIP leads to, if it is known. The state is in memory; LEFT is free.
pub fn go_on(out: &mut InstructionSink<'_>, layout: &Layout, mode: u8) {
    const SIZE: i32 = size_of::<Jump>() as i32;
    let key = LEFT;
    let field = |offset: usize| at(layout.jumps + offset as u32);
    out.local_get(EXIT).i32_eqz().if_(BlockType::Empty);
    // `CodeCache::jump_key` and `CodeCache::slot`.
    out.i32_const(0).i64_load8_u(at(layout.cpl)).i64_const(52).i64_shl();
    out.i64_const(CodeCache::jump_key(0, mode, 0) as i64).i64_or();
    out.i32_const(0).i64_load(at(layout.rip)).i64_xor().local_tee(key);
    out.local_get(key).i64_const(12).i64_shr_u().i64_xor().i32_wrap_i64();
    out.i32_const(JUMPS as i32 - 1).i32_and().i32_const(SIZE).i32_mul().local_tee(ENTRY_AT);
    out.i64_load(field(offset_of!(Jump, key))).local_get(key).i64_eq();
    out.local_get(ENTRY_AT).i64_load(field(offset_of!(Jump, generation)));
    out.i32_const(0).i64_load(at(layout.generation)).i64_eq().i32_and();
    out.local_get(ENTRY_AT).i32_load(field(offset_of!(Jump, function))).i32_const(0).i32_ne().i32_and();
    out.if_(BlockType::Empty);
    out.local_get(ENTRY_AT).i32_load(field(offset_of!(Jump, entry)));
    out.local_get(ENTRY_AT).i32_load(field(offset_of!(Jump, function)));
    out.return_call_indirect(0, REGION_TYPE);
    out.end().end();
}
