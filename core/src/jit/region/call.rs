//! Instructions of a region that are not compiled but called: the interpreter's function is, with what it reads in memory.

use super::super::blocks::Block;
use super::super::build::Flags;
use super::super::frame::{Part, load_left, load_state, store_left, store_state};
use super::super::layout::Layout;
use super::super::locals::{ENTRY_AT, EXIT, XMM};
use super::super::module::import;
use super::super::steps::{self, Way, at};
use super::super::x87::{Known, Note};
use super::{Function, NOWHERE, here, number};
use crate::cpu::{fpu, reg};
use crate::decode::insn::slot;
use crate::isa::{self, hot, x87};
use wasm_encoder::{BlockType, InstructionSink};

impl Function<'_> {
    /// Calls the interpreter's function for an instruction that is not compiled.
    pub(super) fn call(&mut self, block: &Block, k: usize) -> (Flags, bool) {
        self.called += 1;
        self.note_x87(block);
        self.x87 = Known::default();
        let i = &block.insns[k];
        let string = hot::op(i.op).filter(|_| i.repeated()).and_then(isa::string::registers);
        if let (Some((read, written, flags)), true) = (string, k + 1 == block.insns.len()) {
            return self.string(block, k, Part { registers: read, flags }, Part { registers: written, flags });
        }
        (Flags::Told, self.plain(block, k, Part::ALL, Part::ALL, Note::default()))
    }

    /// Calls it for one that works on the x87 unit and memory alone.
    pub(super) fn call_unit(&mut self, block: &Block, k: usize, flags: Flags) -> (Flags, bool) {
        self.called += 1;
        self.note_x87(block);
        self.x87 = Known::default();
        let i = &block.insns[k];
        let address = [i.base, i.index].into_iter().filter(|&r| r < XMM).fold(0, |set, r| set | 1 << r);
        let read = Part { registers: address, flags: false };
        (flags, self.plain(block, k, read, Part { registers: 0, flags: false }, Note::default()))
    }

    /// Stores what the x87 unit has not noted yet.
    pub(super) fn note_x87(&mut self, block: &Block) {
        let Note { last, data } = core::mem::take(&mut self.x87.note);
        let insn = |n: u8| n.checked_sub(1).map(|n| &block.insns[usize::from(n)]);
        let layout = self.layout;
        if let Some(i) = insn(last) {
            self.store_address(layout.fpu(fpu::place::FIP), block.at + i64::from(i.off));
            let mut out = self.out();
            out.i32_const(0).i32_const(x87::opcode(i).into()).i32_store16(at(layout.fpu(fpu::place::FOP)));
            copy_selector(&mut out, layout, reg::CS, fpu::place::FCS);
        }
        if let Some(i) = insn(data) {
            copy_selector(&mut self.body.out(), layout, i.seg & 7, fpu::place::FDS);
        }
    }

    /// Calls the interpreter's function for a repeated string instruction, the last of its block, which reads and writes
    /// no more than this.
    fn string(&mut self, block: &Block, k: usize, read: Part, written: Part) -> (Flags, bool) {
        let layout = self.layout;
        let exit = self.exit(block, block.at + i64::from(block.insns[k].off), 1);
        // What it costs depends on its bytes.
        self.call_handler(block, k, read, written, true);
        let mut out = self.body.out();
        out.local_set(ENTRY_AT);
        load_left(&mut out, layout);
        load_state(&mut out, self.locals, layout, written);
        out.local_get(ENTRY_AT);
        self.body.if_rarely(BlockType::Empty);
        let label = self.labels.len() as u32;
        let mut out = self.body.out();
        out.i32_const(exit).i32_const(NOWHERE).local_get(ENTRY_AT).i32_const(1).i32_eq().select();
        out.local_set(EXIT).br(label + 1).end();
        self.go_to(block, block.at + block.bytes);
        (Flags::Told, true)
    }

    /// Puts what an instruction reads into memory, with what is `left` of the budget if it may ask for that, and calls
    /// its handler, behind which nothing is known of pages. What that returns is left on the stack.
    fn call_handler(&mut self, block: &Block, k: usize, read: Part, written: Part, left: bool) {
        self.spills = true;
        self.windows.called(written.registers);
        let layout = self.layout;
        store_state(&mut self.body.out(), self.locals, layout, read);
        self.store_address(layout.gpr(slot::BLOCK), block.at);
        self.store_address(layout.rip, block.at + block.bytes);
        let mut out = self.body.out();
        if left {
            store_left(&mut out, layout);
        }
        let insn = layout.insn(block.head as usize + 1 + k);
        out.i32_const(layout.cpu as i32).i32_const(insn as i32).call(import::PLAIN);
    }

    /// Calls the interpreter's function for an instruction, which reads and writes no more than this. Returns whether
    /// it went elsewhere. `note`: what the x87 unit has not noted before it.
    pub(super) fn plain(&mut self, block: &Block, k: usize, read: Part, written: Part, note: Note) -> bool {
        let i = &block.insns[k];
        let rest = block.insns.len() - k;
        let ends = rest == 1 && (i.repeated() || hot::op(i.op).is_none_or(isa::ends));
        let exit_before = number(&mut self.exits, here(block, block.at + i64::from(i.off), rest, note));
        let exit_after =
            if ends { NOWHERE } else { self.exit(block, block.at + i64::from(i.off) + i64::from(i.len), rest - 1) };
        // One that ends its block may read the clock.
        self.call_handler(block, k, read, written, ends);
        let mut out = self.body.out();
        out.local_tee(ENTRY_AT);
        // Out of the region, or behind the code there that stores the state.
        let label = self.labels.len() as u32 + u32::from(ends);
        if !ends {
            load_state(&mut out, self.locals, self.layout, written);
        }
        self.body.if_rarely(BlockType::Empty);
        let mut out = self.body.out();
        out.i32_const(exit_before)
            .i32_const(exit_after)
            .i32_const(0)
            .local_get(ENTRY_AT)
            .i32_const(2)
            .i32_eq()
            .select();
        out.local_get(ENTRY_AT).i32_const(1).i32_eq().select();
        out.local_set(EXIT).br(label + 1).end();
        if ends {
            self.go_behind(block);
            let way = Way { label, ..self.way(0) };
            steps::leave(&mut self.out(), way);
        }
        ends
    }
}

/// Copies a selector into the x87 unit.
fn copy_selector(out: &mut InstructionSink<'_>, layout: &Layout, s: u8, to: usize) {
    out.i32_const(0).i32_const(0).i64_load16_u(at(layout.selector(s))).i32_wrap_i64().i32_store16(at(layout.fpu(to)));
}
