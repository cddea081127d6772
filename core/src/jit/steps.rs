//! The steps of an instruction as WebAssembly: loads and stores through the TLB, and leaving the region.

use super::build::Step;
use super::code::Code;
use super::frame::store_left;
use super::helpers;
use super::ir::{Node, Val};
use super::layout::Layout;
use super::locals::{BASE, CONTEXT, ENTRY_AT, EXIT, HOST, LEFT};
use super::lower::Lower;
use super::module::import;
use super::windows::Windows;
use crate::cpu::reg;
use crate::cpu::segment::Segment;
use crate::cpu::tlb::{CTX_SHIFT, Entry};
use crate::mem::{PAGE_SHIFT, PAGE_SIZE};
use crate::size::Size;
use wasm_encoder::{BlockType, InstructionSink, MemArg, MemArgTarget, ValType};

/// Where an instruction can leave its region.
#[derive(Clone, Copy)]
pub struct Way {
    /// The exit in front of the instruction; 0: RIP is stored.
    pub exit: i32,
    /// The same for an access that is not in the page of one before it; `None`: each is looked up.
    pub apart: Option<i32>,
    /// How many labels out the code is that leaves.
    pub label: u32,
    /// See [`super::blocks::Graph::fills`].
    pub fills: bool,
    /// Is what is done here done whenever the instruction is run?
    pub sure: bool,
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
        Step::ModifyVector { at: v, .. } | Step::ModifiedVector { v } => (Some(v), None),
        Step::Segment { selector, .. } => (Some(selector), None),
        Step::Store { at, v, .. } | Step::StoreVector { at, v, .. } => (Some(at), Some(v)),
        Step::End | Step::Leave | Step::Simd | Step::Whole(_) | Step::Access(_) => (None, None),
        Step::Quiet | Step::Time { .. } => (None, None),
    };
    a.into_iter().chain(b)
}

/// Writes steps, in order.
pub fn write(lower: &mut Lower<'_>, layout: &Layout, steps: &[Step], mut way: Way, windows: &mut Windows) {
    // Where the values stood when each `If` began, and what was known of pages.
    let mut marks = alloc::vec::Vec::new();
    let mut modified = 0;
    let sure = way.sure;
    for step in steps {
        match *step {
            Step::Load { to, at, size } => {
                let off = access(lower, layout, way, windows, at, size.bytes(), false);
                load(lower, size, off);
                lower.out().local_set(to);
            }
            Step::Store { at, size, v } => {
                let off = access(lower, layout, way, windows, at, size.bytes(), true);
                store(lower, size, off, v);
            }
            Step::Modify { to, at, size } => {
                modified = access(lower, layout, way, windows, at, size.bytes(), true);
                lower.out().local_tee(HOST);
                load(lower, size, modified);
                lower.out().local_set(to);
            }
            Step::Modified { size, v } => {
                lower.out().local_get(HOST);
                store(lower, size, modified, v);
            }
            Step::LoadVector { to, at: la, aligned } => {
                let off = access_vector(lower, layout, way, windows, la, aligned, false);
                lower.out().v128_load(at(off)).local_set(to);
            }
            Step::LoadLow { to, at: la, size } => {
                let off = access(lower, layout, way, windows, la, size.bytes(), false);
                let mut out = lower.out();
                if size == Size::B4 {
                    out.v128_load32_zero(at(off));
                } else {
                    out.v128_load64_zero(at(off));
                }
                out.local_set(to);
            }
            Step::StoreVector { at: la, aligned, v } => {
                let off = access_vector(lower, layout, way, windows, la, aligned, true);
                lower.push(v);
                lower.out().v128_store(at(off));
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
            Step::ModifyVector { to, at: la } => {
                modified = access_vector(lower, layout, way, windows, la, true, true);
                lower.out().local_tee(HOST).v128_load(at(modified)).local_set(to);
            }
            Step::ModifiedVector { v } => {
                lower.out().local_get(HOST);
                lower.push(v);
                lower.out().v128_store(at(modified));
            }
            Step::Access(ac) => {
                let mut out = lower.out();
                out.i32_const(0).i32_const(0);
                if ac {
                    out.i32_load(at(layout.ac_bytes));
                }
                out.i32_store(at(layout.tlb_bytes)).i32_const(0).i32_const(0).i32_load(at(layout.tlb_bytes));
                out.local_tee(CONTEXT).i32_const(size_of::<Entry>().ilog2() as i32).i32_shr_u();
                out.i32_store(at(layout.tlb_ctx));
                windows.called(0);
            }
            Step::Quiet => {
                let mut out = lower.out();
                out.i32_const(0).i32_load8_u(at(layout.interrupt_waiting));
                out.local_get(LEFT).i64_const(1).i64_lt_s().i32_or();
                leave_if(lower.code, way);
            }
            Step::Segment { s, selector } => {
                lower.out().i32_const(layout.cpu as i32).i32_const(s.into());
                lower.push32(selector);
                lower.out().call(import::SEGMENT);
                leave_if(lower.code, way);
                windows.called(0);
                // The others' are 0 or not looked at.
                if s >= reg::FS {
                    let base = lower.locals.segment_base(s);
                    lower.out().i32_const(0).i64_load(at(layout.segment_base(s))).local_set(base);
                }
            }
            Step::Time { to } => {
                let mut out = lower.out();
                store_left(&mut out, layout);
                out.i32_const(layout.cpu as i32).call(import::TIME).local_set(to);
                windows.called(0);
            }
            Step::If(c) => {
                lower.push_if(c);
                lower.out().if_(BlockType::Empty);
                way.label += 1;
                way.sure = false;
                marks.push((lower.enter(), windows.clone()));
            }
            Step::End => {
                lower.out().end();
                way.label -= 1;
                if let Some((mark, known)) = marks.pop() {
                    lower.leave(mark);
                    windows.rejoin(known);
                    way.sure = sure && marks.is_empty();
                }
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
    const SHIFT: i32 = PAGE_SHIFT as i32 - size_of::<Entry>().ilog2() as i32;
    // All bits that count are in the low half.
    out.i32_wrap_i64().i32_const(SHIFT).i32_shr_u().i32_const(MASK).i32_and();
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
fn access_vector(
    lower: &mut Lower<'_>,
    layout: &Layout,
    way: Way,
    windows: &mut Windows,
    la: Val,
    aligned: bool,
    write: bool,
) -> u32 {
    if aligned {
        let la = local(lower, la);
        lower.out().local_get(la).i32_wrap_i64().i32_const(15).i32_and();
        leave_if(lower.code, way);
    }
    access(lower, layout, way, windows, la, 16, write)
}

/// Leaves an index, or 0, on the stack.
fn push_index(lower: &mut Lower<'_>, index: Option<Val>) {
    match index {
        Some(v) => lower.push32(v),
        None => _ = lower.out().i32_const(0),
    }
}

/// Leaves the host's address of some bytes at a linear address on the stack, but for the offset that is returned.
fn access(
    lower: &mut Lower<'_>,
    layout: &Layout,
    way: Way,
    windows: &mut Windows,
    la: Val,
    bytes: u64,
    write: bool,
) -> u32 {
    let apart = way.apart.filter(|_| !way.fills);
    let sum = apart.and_then(|exit| Some((lower.sum(windows, la)?, exit)));
    let near = |(sum, _)| windows.near(lower.code, sum, bytes as i64, write, way.sure);
    if let Some(near) = sum.and_then(near) {
        if let Some((question, range, write)) = near.ask {
            lower.code.ask(question, range, write, layout);
        }
        let mut out = lower.out();
        out.local_get(near.host);
        return u32::try_from(near.distance).unwrap_or_else(|_| {
            out.i32_const(near.distance).i32_add();
            0
        });
    }
    let la = local(lower, la);
    tlb_index(lower.out().local_get(la));
    lower.out().local_get(CONTEXT).i32_or().local_set(ENTRY_AT);
    if let Some((sum, exit)) = sum {
        let question = lower.code.question(la, ENTRY_AT, [exit, way.exit], way.label);
        lower.code.ask(question, (0, bytes as i64), write, layout);
        let host = lower.locals.hold(ValType::I32);
        lower.out().local_tee(host);
        windows.open(sum, question, host);
        return 0;
    }
    let table = layout.tlb(write);
    let how = helpers::how(bytes, write);
    let mut out = lower.out();
    // As in `Code::question`.
    out.local_get(ENTRY_AT).i64_load(at(table)).local_get(la).i64_xor();
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
    0
}

/// Loads from the address on the stack.
fn load(lower: &mut Lower<'_>, size: Size, off: u32) {
    let mut out = lower.out();
    match size {
        Size::B1 => out.i64_load8_u(at(off)),
        Size::B2 => out.i64_load16_u(at(off)),
        Size::B4 => out.i64_load32_u(at(off)),
        Size::B8 => out.i64_load(at(off)),
    };
}

/// Stores to the address on the stack.
fn store(lower: &mut Lower<'_>, size: Size, off: u32, v: Val) {
    if size == Size::B8 {
        lower.push(v);
        lower.out().i64_store(at(off));
        return;
    }
    lower.push32(v);
    let mut out = lower.out();
    match size {
        Size::B1 => out.i32_store8(at(off)),
        Size::B2 => out.i32_store16(at(off)),
        _ => out.i32_store(at(off)),
    };
}
