//! The steps of an instruction as WebAssembly: loads and stores through the TLB, and leaving the region.

use super::build::Step;
use super::code::Code;
use super::helpers;
use super::ir::{Node, Val};
use super::layout::Layout;
use super::locals::{BASE, CONTEXT, ENTRY_AT, EXIT, HOST};
use super::lower::Lower;
use super::module::import;
use crate::cpu::segment::Segment;
use crate::cpu::tlb::{CTX_SHIFT, Entry};
use crate::flags;
use crate::mem::{PAGE_SHIFT, PAGE_SIZE};
use crate::size::Size;
use wasm_encoder::{BlockType, InstructionSink, MemArg, MemArgTarget, ValType};

/// Where an instruction can leave its region.
#[derive(Clone, Copy)]
pub struct Way {
    /// The exit in front of the instruction; 0: RIP is stored.
    pub exit: i32,
    /// How many labels out the code is that leaves.
    pub label: u32,
    /// See [`super::blocks::Graph::fills`].
    pub fills: bool,
}

/// A place in memory.
pub fn at(address: u32) -> MemArg {
    MemArg { offset: u64::from(address), align: 0, target: MemArgTarget::Memory(0), ordering: None }
}

/// The values a step asks for.
pub fn values(step: &Step) -> impl Iterator<Item = Val> + use<> {
    let (a, b) = match *step {
        Step::Load { at: v, .. }
        | Step::LoadLow { at: v, .. }
        | Step::Modify { at: v, .. }
        | Step::LoadVector { at: v, .. } => (Some(v), None),
        Step::Get { index, .. } => (index, None),
        Step::Put { index, v, .. } => (index, Some(v)),
        Step::Canonical(v) | Step::Set { v, .. } | Step::Modified { v, .. } | Step::If(v) => (Some(v), None),
        Step::Store { at, v, .. } | Step::StoreVector { at, v, .. } => (Some(at), Some(v)),
        Step::End | Step::Leave | Step::Simd | Step::Whole(_) | Step::Direction(_) => (None, None),
    };
    a.into_iter().chain(b)
}

/// Writes steps, in order.
pub fn write(lower: &mut Lower<'_>, layout: &Layout, steps: &[Step], mut way: Way) {
    // Where the values stood when each `If` began.
    let mut marks = alloc::vec::Vec::new();
    for step in steps {
        match *step {
            Step::Load { to, at, size } => {
                access(lower, layout, way, at, size.bytes(), false);
                load(lower, size);
                lower.out().local_set(to);
            }
            Step::Store { at, size, v } => {
                access(lower, layout, way, at, size.bytes(), true);
                store(lower, size, v);
            }
            Step::Modify { to, at, size } => {
                access(lower, layout, way, at, size.bytes(), true);
                lower.out().local_tee(HOST);
                load(lower, size);
                lower.out().local_set(to);
            }
            Step::Modified { size, v } => {
                lower.out().local_get(HOST);
                store(lower, size, v);
            }
            Step::LoadVector { to, at: la, aligned } => {
                access_vector(lower, layout, way, la, aligned, false);
                lower.out().v128_load(at(0)).local_set(to);
            }
            Step::LoadLow { to, at: la, size } => {
                access(lower, layout, way, la, size.bytes(), false);
                let mut out = lower.out();
                if size == Size::B4 {
                    out.v128_load32_zero(at(0));
                } else {
                    out.v128_load64_zero(at(0));
                }
                out.local_set(to);
            }
            Step::StoreVector { at: la, aligned, v } => {
                access_vector(lower, layout, way, la, aligned, true);
                lower.push(v);
                lower.out().v128_store(at(0));
            }
            Step::Get { to, of, index } => {
                push_index(lower, index);
                of.load(&mut lower.out(), layout);
                lower.out().local_set(to);
            }
            Step::Put { of, index, v } => {
                push_index(lower, index);
                if of.is_wide() {
                    lower.push(v);
                } else {
                    lower.push32(v);
                }
                of.store(&mut lower.out(), layout);
            }
            Step::Set { to, v } => {
                lower.push(v);
                lower.out().local_set(to);
            }
            Step::Simd => {
                lower.out().i32_const(0).i32_load8_u(at(layout.simd_off));
                leave_if(lower.code, way);
            }
            Step::Whole(s) => {
                let (mask, whole) = Segment::WHOLE;
                let mut out = lower.out();
                out.i32_const(0).i64_load(at(layout.segment_limit(s))).i64_const(mask as i64).i64_and();
                out.i64_const(whole as i64).i64_ne();
                leave_if(lower.code, way);
            }
            Step::Direction(down) => {
                let mut out = lower.out();
                out.i32_const(0).i32_const(0).i64_load(at(layout.rflags));
                if down {
                    out.i64_const(flags::DF as i64).i64_or();
                } else {
                    out.i64_const(!flags::DF as i64).i64_and();
                }
                out.i64_store(at(layout.rflags));
            }
            Step::If(c) => {
                lower.push_if(c);
                lower.out().if_(BlockType::Empty);
                way.label += 1;
                marks.push(lower.enter());
            }
            Step::End => {
                lower.out().end();
                way.label -= 1;
                lower.leave(marks.pop().unwrap_or(0));
            }
            Step::Leave => leave(&mut lower.out(), way),
            Step::Canonical(v) => {
                let v = local(lower, v);
                not_canonical(&mut lower.out(), v);
                leave_if(lower.code, way);
            }
        }
    }
}

/// Makes the linear address on the stack the distance of its TLB entry, in bytes, from the beginning of a context:
/// `tlb::index`.
pub fn tlb_index(out: &mut InstructionSink<'_>) {
    const MASK: i32 = ((1 << CTX_SHIFT) - 1) * size_of::<Entry>() as i32;
    const SHIFT: i64 = PAGE_SHIFT as i64 - size_of::<Entry>().ilog2() as i64;
    out.i64_const(SHIFT).i64_shr_u().i32_wrap_i64().i32_const(MASK).i32_and();
}

/// Is the address in this local not canonical? (`cpu::memory::canonical`)
pub fn not_canonical(out: &mut InstructionSink<'_>, la: u32) {
    out.local_get(la).i64_const(16).i64_shl().i64_const(16).i64_shr_s().local_get(la).i64_ne();
}

/// Leaves the region if the i32 on the stack is not 0.
pub fn leave_if(code: &mut Code, way: Way) {
    code.if_rarely(BlockType::Empty);
    leave(&mut code.out(), Way { label: way.label + 1, ..way });
    code.out().end();
}

/// Leaves the region.
pub fn leave(out: &mut InstructionSink<'_>, way: Way) {
    out.i32_const(way.exit).local_set(EXIT).br(way.label);
}

/// The RIP that is so far from the beginning of the region's page.
pub fn rip(out: &mut InstructionSink<'_>, off: i64, long: bool) {
    out.local_get(BASE).i64_const(off).i64_add();
    if !long {
        out.i32_wrap_i64().i64_extend_i32_u();
    }
}

/// A local that holds the value.
fn local(lower: &mut Lower<'_>, v: Val) -> u32 {
    match lower.node(v) {
        Node::Local(local) => local,
        _ => lower.keep(v),
    }
}

/// As [`access`], of 16 bytes; leaves the region if they are not `aligned` and have to be.
fn access_vector(lower: &mut Lower<'_>, layout: &Layout, way: Way, la: Val, aligned: bool, write: bool) {
    if aligned {
        let la = local(lower, la);
        lower.out().local_get(la).i32_wrap_i64().i32_const(15).i32_and();
        leave_if(lower.code, way);
    }
    access(lower, layout, way, la, 16, write);
}

/// Leaves an index, or 0, on the stack.
fn push_index(lower: &mut Lower<'_>, index: Option<Val>) {
    match index {
        Some(v) => lower.push32(v),
        None => _ = lower.out().i32_const(0),
    }
}

/// Leaves the host's address of some bytes at a linear address on the stack.
fn access(lower: &mut Lower<'_>, layout: &Layout, way: Way, la: Val, bytes: u64, write: bool) {
    let la = local(lower, la);
    let table = if write { layout.tlb_write } else { layout.tlb_read };
    let how = helpers::how(bytes, write);
    let mut out = lower.out();
    tlb_index(out.local_get(la));
    out.local_get(CONTEXT).i32_or().local_set(ENTRY_AT);
    out.local_get(la).local_get(ENTRY_AT).i64_load(at(table)).i64_sub();
    out.i64_const(PAGE_SIZE as i64 - bytes as i64).i64_gt_u();
    if way.fills {
        lower.code.if_rarely(BlockType::Result(ValType::I32));
        let mut out = lower.out();
        out.i32_const(layout.cpu as i32).local_get(la).i32_const(how).call(import::FILL).local_tee(ENTRY_AT).i32_eqz();
        leave_if(lower.code, Way { label: way.label + 1, ..way });
        lower.out().local_get(ENTRY_AT).else_();
    } else {
        leave_if(lower.code, way);
    }
    let mut out = lower.out();
    out.local_get(la).i32_wrap_i64().local_get(ENTRY_AT).i32_load(at(table + 8)).i32_add();
    if way.fills {
        out.end();
    }
}

/// Loads from the address on the stack.
fn load(lower: &mut Lower<'_>, size: Size) {
    let mut out = lower.out();
    match size {
        Size::B1 => out.i64_load8_u(at(0)),
        Size::B2 => out.i64_load16_u(at(0)),
        Size::B4 => out.i64_load32_u(at(0)),
        Size::B8 => out.i64_load(at(0)),
    };
}

/// Stores to the address on the stack.
fn store(lower: &mut Lower<'_>, size: Size, v: Val) {
    if size == Size::B8 {
        lower.push(v);
        lower.out().i64_store(at(0));
        return;
    }
    lower.push32(v);
    let mut out = lower.out();
    match size {
        Size::B1 => out.i32_store8(at(0)),
        Size::B2 => out.i32_store16(at(0)),
        _ => out.i32_store(at(0)),
    };
}
