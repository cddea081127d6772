//! What is around a region's body: the state comes from memory into locals, and goes back.

use super::chain;
use super::code::Code;
use super::layout::Layout;
use super::locals::{BASE, CONTEXT, ENTRY, EXIT, LEFT, Locals, STATE, XMM};
use super::region::{Around, NOWHERE, PAGE_OF_ENTRY};
use super::steps::{at, not_canonical};
use crate::cpu::fpu;
use crate::cpu::mode::simd_off;
use crate::isa::sse::lane::{CONTROLS, PLAIN};
use crate::mem::PAGE_SIZE;
use wasm_encoder::{BlockType, InstructionSink};

/// The prologue, the body, and the code that leaves.
pub fn around(locals: &Locals, layout: &Layout, Around { number, pages, targets }: Around, body: &Code) -> Code {
    let mut code = Code::default();
    let mut out = code.out();
    load_state(&mut out, locals, layout, Part::ALL);
    out.i32_const(0).i32_const(0).i64_load(at(layout.rip)).i64_const(!(PAGE_SIZE as i64 - 1)).i64_and();
    for &(page, distance) in &pages {
        distance_if(&mut out, distance, page, |out| {
            out.local_get(ENTRY).i32_const(PAGE_OF_ENTRY as i32).i32_shr_u();
        });
        out.i64_sub();
    }
    // Through memory: compilers repeat what they can compute wherever it is asked for, but not loads.
    out.i64_store(at(layout.compiled_base)).i32_const(0).i64_load(at(layout.compiled_base)).local_set(BASE);
    // No branch checks its target if it is fixed.
    for distance in targets {
        out.local_get(BASE).i64_const(distance).i64_add().local_set(LEFT);
        not_canonical(&mut out, LEFT);
        code.if_rarely(BlockType::Empty);
        out = code.out();
        out.i32_const(NOWHERE).return_().end();
    }
    load_left(&mut out, layout);
    out.i32_const(0).i32_load(at(layout.tlb_bytes)).local_set(CONTEXT);
    if let Some(local) = locals.known_fetch_context() {
        out.i32_const(0).i32_load(at(layout.fetch_bytes)).local_set(local);
    }
    out.local_get(ENTRY).i32_const((1 << PAGE_OF_ENTRY) - 1).i32_and().local_set(STATE);
    // The outer one for whoever has stored the state already.
    out.block(BlockType::Empty).block(BlockType::Empty);
    code.append(body);
    let mut out = code.out();
    out.end();
    store_state(&mut out, locals, layout, Part::ALL);
    store_left(&mut out, layout);
    out.end();
    chain::go_on(&mut out, layout);
    out.i32_const(0).i32_const(number as i32).i32_store(at(layout.compiled_region));
    out.local_get(EXIT).end();
    code
}

/// The distance of a page from the region's, if the page that is pushed is that one, else 0.
pub fn distance_if(
    out: &mut InstructionSink<'_>,
    distance: i64,
    page: u32,
    push: impl FnOnce(&mut InstructionSink<'_>),
) {
    out.i64_const(distance).i64_const(0);
    push(out);
    out.i32_const(page as i32).i32_eq().select();
}

/// Takes what is left of the budget.
pub fn load_left(out: &mut InstructionSink<'_>, layout: &Layout) {
    out.i32_const(0).i64_load(at(layout.left)).i32_const(0).i64_load(at(layout.floor)).i64_sub().local_set(LEFT);
}

/// Puts back what is left of the budget.
pub fn store_left(out: &mut InstructionSink<'_>, layout: &Layout) {
    out.i32_const(0).local_get(LEFT).i32_const(0).i64_load(at(layout.floor)).i64_add().i64_store(at(layout.left));
}

/// A part of the state.
#[derive(Clone, Copy)]
pub struct Part {
    /// Registers, by number.
    pub registers: u32,
    /// The flags?
    pub flags: bool,
}

impl Part {
    /// All of it.
    pub const ALL: Self = Self { registers: u32::MAX, flags: true };
}

/// Puts the CPU state into the locals.
pub fn load_state(out: &mut InstructionSink<'_>, locals: &Locals, layout: &Layout, part: Part) {
    if let Some(local) = locals.fast_used() {
        const PE: i32 = crate::float::flags::PE as i32;
        out.i32_const(0).i32_load(at(layout.mxcsr)).i32_const(CONTROLS as i32 & !PE).i32_and();
        out.i32_const(PLAIN as i32 & !PE).i32_eq();
        out.i32_const(0).i32_load(at(layout.mxcsr)).i32_const(PE).i32_and().i32_const(PE.trailing_zeros() as i32);
        out.i32_shr_u().i32_shl().i64_extend_i32_u().local_set(local);
    }
    if let Some(local) = locals.common_used() {
        let (controls, common) = (i64::from(fpu::CONTROLS), i64::from(fpu::COMMON));
        out.i32_const(0).i64_load16_u(at(layout.fpu(fpu::place::CW))).i64_const(controls).i64_and();
        // What keeps the unit from being used is added above.
        out.i32_const(0).i64_load8_u(at(layout.simd_off)).i64_const((simd_off::MMX | simd_off::TASK).into()).i64_and();
        out.i64_const(16).i64_shl().i64_or().i64_const(common).i64_eq().i64_extend_i32_u().local_set(local);
    }
    for (r, local) in locals.registers().filter(|(r, _)| part.registers >> r & 1 != 0) {
        out.i32_const(0);
        match r.checked_sub(XMM) {
            None => out.i64_load(at(layout.gpr(r))),
            Some(r) => out.v128_load(at(layout.xmm(r))),
        };
        out.local_set(local);
    }
    for (s, local) in locals.segment_bases() {
        out.i32_const(0).i64_load(at(layout.segment_base(s))).local_set(local);
    }
    if let (true, Some([a, b, r, op])) = (part.flags, locals.flags()) {
        for (place, local) in [(layout.flag_a, a), (layout.flag_b, b), (layout.flag_r, r)] {
            out.i32_const(0).i64_load(at(place)).local_set(local);
        }
        out.i32_const(0).i64_load16_u(at(layout.flag_op)).local_set(op);
    }
}

/// Puts back what is written.
pub fn store_state(out: &mut InstructionSink<'_>, locals: &Locals, layout: &Layout, part: Part) {
    for (r, local) in locals.registers().filter(|(r, _)| locals.written & part.registers & 1 << r != 0) {
        out.i32_const(0).local_get(local);
        match r.checked_sub(XMM) {
            None => out.i64_store(at(layout.gpr(r))),
            Some(r) => out.v128_store(at(layout.xmm(r))),
        };
    }
    if let (true, Some([a, b, r, op])) = (locals.flags_written && part.flags, locals.flags()) {
        // As they are, with their size: only who leaves compiled code has them extended (`Cpu::extend_flags`).
        for (place, local) in [(layout.flag_a, a), (layout.flag_b, b), (layout.flag_r, r)] {
            out.i32_const(0).local_get(local).i64_store(at(place));
        }
        out.i32_const(0).local_get(op).i64_store16(at(layout.flag_op));
    }
}
