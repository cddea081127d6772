//! Where the blocks of a region lead: to each other, to what is known outside, and to what only RIP says.

use super::super::blocks::Block;
use super::super::chain;
use super::super::frame::{Part, distance_if, load_left, load_state};
use super::super::locals::{BASE, CONTEXT, ENTRY_AT, LINK, STATE};
use super::super::steps::{self, Way, at};
use super::{Function, Label, PAGE_OF_ENTRY};
use crate::cpu::tlb::Entry;
use crate::decode::insn::{COMPILED, Insn, place};
use crate::mem::{PAGE_SHIFT, PAGE_SIZE};
use alloc::vec;
use core::mem::offset_of;
use wasm_encoder::{BlockType, ValType};

impl Function<'_> {
    /// Goes on at a place that is fixed.
    pub(super) fn go_to(&mut self, from: &Block, at: i64) {
        match self.graph.find(at) {
            Some(n) => self.go_over(from, n),
            None => self.go_out(from, at),
        }
    }

    /// Leaves for a place that is not in the region.
    fn go_out(&mut self, from: &Block, at: i64) {
        let (layout, graph) = (self.layout, self.graph);
        self.store_address(layout.rip, at);
        if let Some(link) = graph.link(at) {
            let page = at >> PAGE_SHIFT;
            if page != from.page() && page != from.last_page() {
                self.if_elsewhere(page, link.physical);
                self.leave(0);
                self.labels.pop();
                self.out().end();
            }
            let place = layout.insn(link.head as usize) + offset_of!(Insn, imm) as u32;
            self.out().i32_const(0).i64_load(steps::at(place)).local_set(LINK);
        }
        self.leave(0);
    }

    /// Stores the RIP that is so far from the region's page.
    pub(super) fn store_address(&mut self, place: u32, off: i64) {
        let long = self.long;
        let mut out = self.out();
        out.i32_const(0);
        steps::rip(&mut out, off, long);
        out.i64_store(at(place));
    }

    /// Goes on at a block. In another page it counts only if the TLB says that this is the page it was made from.
    fn go_over(&mut self, from: &Block, to: u32) {
        let block = &self.graph.blocks[to as usize];
        // What is in two pages has been compared.
        if block.page() != from.page() && block.page() != from.last_page() {
            self.if_elsewhere(block.page(), self.graph.physical(block.page()));
            self.store_address(self.layout.rip, block.at);
            self.leave(0);
            self.labels.pop();
            self.out().end();
        }
        self.go(to);
    }

    /// Begins what is run if the page that is so many pages behind the region's is not this one, in which its code was
    /// found, or the TLB does not know.
    pub(super) fn if_elsewhere(&mut self, page: i64, physical: u64) {
        let (long, layout) = (self.long, self.layout);
        self.locals.release();
        let linear = self.locals.take(ValType::I64);
        let exec = self.locals.fetch_context();
        let mut out = self.out();
        steps::rip(&mut out, page << PAGE_SHIFT, long);
        steps::tlb_index(out.local_tee(linear));
        out.local_get(exec).i32_or().local_tee(ENTRY_AT);
        out.i64_load(at(layout.tlb_exec + offset_of!(Entry, tag) as u32)).local_get(linear).i64_ne();
        out.local_get(ENTRY_AT).i64_load(at(layout.tlb_exec + offset_of!(Entry, add) as u32));
        out.local_get(linear).i64_add().i64_const((physical << PAGE_SHIFT) as i64).i64_ne().i32_or();
        self.body.if_rarely(BlockType::Empty);
        self.labels.push(Label::Other);
    }

    /// Goes on where the return at the end of a block leads, which RIP says.
    pub(super) fn go_back(&mut self, from: &Block, n: u32) {
        let graph = self.graph;
        for &back in &graph.next[n as usize] {
            let (long, rip, to) = (self.long, self.layout.rip, graph.blocks[back as usize].at);
            let mut out = self.out();
            out.i32_const(0).i64_load(at(rip));
            steps::rip(&mut out, to, long);
            out.i64_eq().if_(BlockType::Empty);
            self.labels.push(Label::Other);
            self.go_over(from, back);
            self.labels.pop();
            self.out().end();
        }
        self.leave(0);
    }

    /// Goes on where the switch at the end of a block leads, which RIP says, if it has led there before.
    pub(super) fn go_by_cache(&mut self, n: u32) {
        let graph = self.graph;
        let targets = &graph.next[n as usize];
        if !targets.is_empty() {
            let function = COMPILED | u64::from(self.function) << place::FUNCTION;
            let mask = COMPILED | u64::from(u32::MAX) << place::FUNCTION;
            let mut table = vec![0; graph.blocks.len()];
            for &to in targets {
                // Out of the `if`.
                table[to as usize] = self.label(to).0 + 1;
            }
            self.locals.release();
            let key = self.locals.take(ValType::I64);
            let layout = self.layout;
            let mut out = self.out();
            chain::compiled_at_rip(&mut out, layout, key, |out| _ = out.i64_const(0));
            out.local_tee(key).i64_const(mask as i64).i64_and().i64_const(function as i64).i64_eq();
            // The code there may also be somewhere else: only if it is this far away is it what was compiled.
            out.i32_const(0).i64_load(at(layout.rip)).i64_const(!(PAGE_SIZE as i64 - 1)).i64_and();
            let led_to = |page: i64| targets.iter().any(|&to| graph.blocks[to as usize].page() == page);
            for (n, page) in (0..).zip(&graph.pages).filter(|p| p.1.0 != 0 && led_to(p.1.0)) {
                distance_if(&mut out, page.0 << PAGE_SHIFT, n, |out| {
                    out.local_get(key).i64_const(place::ENTRY + i64::from(PAGE_OF_ENTRY)).i64_shr_u().i32_wrap_i64();
                    out.i32_const(place::ENTRIES >> PAGE_OF_ENTRY).i32_and();
                });
                out.i64_sub();
            }
            out.local_get(BASE).i64_eq().i32_and();
            out.if_(BlockType::Empty);
            out.local_get(key).i64_const(place::ENTRY).i64_shr_u().i32_wrap_i64();
            out.i32_const((1 << PAGE_OF_ENTRY) - 1).i32_and().local_tee(STATE).br_table(table, 0);
            out.end();
        }
        // It may be compiled again, with this place as well.
        let (number, layout) = (self.number as i32, self.layout);
        let mut out = self.out();
        out.i32_const(0).i32_const(number + 1).i32_store(at(layout.strayed_from));
        out.i32_const(0).i32_const(0).i64_load(at(layout.rip)).i64_store(at(layout.strayed_to));
        self.leave(0);
    }

    /// Goes on behind a called instruction that ends a block, if it is in the region and RIP says so. The state is in
    /// memory; the instruction may have changed it, and what the TLB knows.
    pub(super) fn go_behind(&mut self, block: &Block) {
        let (long, layout, behind) = (self.long, self.layout, block.at + block.bytes);
        let Some(next) = self.graph.behind(block) else { return };
        let mut out = self.body.out();
        out.i32_const(0).i64_load(at(layout.rip));
        steps::rip(&mut out, behind, long);
        // The context of fetches is another one only if the privilege is.
        out.i64_eq().i32_const(0).i32_load(at(layout.tlb_bytes)).local_get(CONTEXT).i32_eq().i32_and();
        out.if_(BlockType::Empty);
        load_left(&mut out, layout);
        self.labels.push(Label::Other);
        let page = behind >> PAGE_SHIFT;
        self.if_elsewhere(page, self.graph.physical(page));
        // Past the code that stores the state.
        let label = self.labels.len() as u32 + 1;
        let way = Way { label, ..self.way(0) };
        steps::leave(&mut self.out(), way);
        self.labels.pop();
        self.out().end();
        load_state(&mut self.body.out(), self.locals, layout, Part::ALL);
        self.go(next);
        self.labels.pop();
        self.out().end();
    }
}
