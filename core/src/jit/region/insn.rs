//! An instruction of a region: its semantics are run and leave it behind as values and steps (`build`), which are then
//! written (`insn`).
//!
//! Between the two, those behind it are looked at: flags that are overwritten before anything can read them, or leave the
//! region, are not written. (Compilers of WebAssembly do not see that an operation overwrites all of them: what the
//! values are of is a value to them, too.)

use super::super::build::{Builder, Flags, Jump, Raw, Step};
use super::super::frame::Part;
use super::super::ir::{Node, Val, Values};
use super::super::locals::{ENTRY_AT, REGISTERS, told};
use super::super::lower::Lower;
use super::super::steps::{self, Way, at};
use super::super::x87::{Known, Note, Part87};
use super::{Exit, Function, Label, here, number};
use crate::emit::Slot;
use crate::flags::FlagOp;
use crate::isa::{self, Compile, Op, hot};
use crate::size::Size;
use alloc::boxed::Box;
use alloc::vec::Vec;
use wasm_encoder::BlockType;

/// An instruction that was looked at.
pub(super) enum Ahead {
    /// It is no instruction: the interpreter's.
    None,
    /// It is called.
    Call,
    /// It is called, and works on the x87 unit and memory alone.
    CallUnit,
    /// It is compiled.
    Insn(Box<Built>),
}

/// One that is compiled: see [`Builder`].
pub(super) struct Built {
    values: Values,
    steps: Vec<Step>,
    jump: Option<Jump>,
    guards: Vec<Val>,
    guarded: Vec<Step>,
    fields: Vec<(Slot, Val)>,
    parts: Vec<(Part87, Val, u32)>,
    read: u32,
    regs: [Option<Val>; REGISTERS],
    /// The flags it writes.
    flags: Option<([Option<Val>; 3], Raw)>,
    /// Are they all, and not bits of an image?
    overwrites: bool,
    /// Does anything read them?
    wanted: bool,
    /// What the x87 unit has not noted before it.
    noted: Note,
    after: State,
    /// Locals that its steps use.
    taken: Vec<u32>,
}

/// What is known at a place in a block.
#[derive(Clone, Copy)]
struct State {
    flags: Flags,
    /// See [`Function::simd`].
    simd: bool,
    x87: Known,
}

impl Built {
    /// Does it do nothing but compute registers and flags?
    fn is_plain(&self) -> bool {
        self.steps.is_empty()
            && self.jump.is_none()
            && self.guards.is_empty()
            && self.fields.is_empty()
            && self.parts.is_empty()
    }

    /// Does it read one of these locals (0 is none of its)? Its flags do not count if they are not wanted.
    fn reads(&self, locals: [u32; 4]) -> bool {
        let flags = self.flags.filter(|_| self.wanted);
        let (raw, of) = flags.map_or(([None; 3], None), |(raw, of)| (raw, of.value()));
        let roots = self.regs.iter().chain(&raw).flatten().copied().chain(of);
        self.values.reach(roots, |n| matches!(n, Node::Local(l) if locals.contains(&l)))
    }
}

impl Function<'_> {
    /// Runs the semantics of an instruction.
    fn build(&mut self, n: u32, k: usize, before: State) -> Ahead {
        let block = &self.graph.blocks[n as usize];
        let i = &block.insns[k];
        let State { flags: before, simd, mut x87 } = before;
        if k + 1 == block.insns.len() {
            // `insn` has it noted there.
            x87.note = Note::default();
        }
        let Some(op) = hot::op(i.op) else { return Ahead::None };
        let f = match isa::compile(op) {
            Compile::Emit(f) => f,
            Compile::Call => return Ahead::Call,
            Compile::CallUnit => return Ahead::CallUnit,
        };
        // They keep CF, so they have to know it even if nobody asks.
        let keeps = matches!(op, Op::Inc | Op::Dec) && before == Flags::Told;
        let likely = if keeps { self.likely_flags(n) } else { None };
        let mut b = Builder::new(self.locals, self.long, block.at, before, simd, x87);
        b.likely = likely;
        if f(&mut b, i).is_err() || b.failed {
            let unit = b.unit;
            self.locals.release();
            return if unit { Ahead::CallUnit } else { Ahead::Call };
        }
        let (overwrites, flags) = (b.flag_op.is_some(), b.raw_flags());
        let Builder { values, steps, jump, regs, simd, mut guards, guarded, fields, parts, noted: notes, read, .. } = b;
        let (noted, mut x87) = (x87.note, b.x87);
        if let Some(data) = notes {
            x87.note.last = k as u8 + 1;
            if data {
                x87.note.data = k as u8 + 1;
            }
        }
        // One that always holds is none.
        guards.retain(|&g| values.constant(g) != Some(1));
        let flags_after = match flags {
            Some((_, Raw::Is(op, size))) => Flags::Of(op, size),
            Some((_, Raw::Told(_))) => Flags::Told,
            None => before,
        };
        let after = State { flags: flags_after, simd, x87 };
        Ahead::Insn(Box::new(Built {
            values,
            steps,
            jump,
            guards,
            guarded,
            fields,
            parts,
            read,
            regs,
            flags,
            overwrites,
            wanted: true,
            noted,
            after,
            taken: self.locals.taken(),
        }))
    }

    /// What the flags at the beginning of a block probably are of: a loop that leads back to it says.
    fn likely_flags(&mut self, n: u32) -> Option<(FlagOp, Size)> {
        let from = *self.before[n as usize].iter().find(|&&from| self.flags[from as usize].is_none())?;
        let block = &self.graph.blocks[from as usize];
        block.insns.iter().rev().find_map(|i| {
            let Compile::Emit(f) = isa::compile(hot::op(i.op)?) else { return None };
            let mut b = Builder::new(self.locals, self.long, block.at, Flags::Told, true, Known::default());
            let done = f(&mut b, i).is_ok() && !b.failed;
            let of = match b.raw_flags() {
                // (What reads them makes them an image.)
                Some((_, Raw::Is(op, size))) if done && op != FlagOp::Image => Some((op, size)),
                _ => None,
            };
            self.locals.release();
            of
        })
    }

    /// Has the next instruction looked at, with as many behind it as it takes to know whether its flags are wanted.
    fn look_ahead(&mut self, n: u32, k: usize, flags: Flags) {
        let count = self.graph.blocks[n as usize].insns.len();
        if self.decided > 0 {
            return;
        }
        if self.ahead.is_empty() {
            let first = self.build(n, k, State { flags, simd: self.simd, x87: self.x87 });
            self.ahead.push_back(first);
        }
        self.decided = 1;
        let deciding = |b: &Built| b.flags.is_some() && b.guards.is_empty() && b.jump.is_none();
        let mut last = match self.ahead.front() {
            Some(Ahead::Insn(b)) if deciding(b) => b.after,
            _ => return,
        };
        // Flags are wanted where the region may be left, and by who is called.
        while k + self.ahead.len() < count {
            let next = self.build(n, k + self.ahead.len(), last);
            let plain = matches!(&next, Ahead::Insn(b) if b.is_plain());
            if let Ahead::Insn(b) = &next {
                last = b.after;
            }
            self.ahead.push_back(next);
            if !plain {
                break;
            }
            self.decided += 1;
        }
        let locals = self.locals.flags().unwrap_or_default();
        let mut wanted = true;
        for a in self.ahead.iter_mut().take(self.decided).rev() {
            let Ahead::Insn(b) = a else { continue };
            b.wanted = wanted;
            wanted = wanted && !b.overwrites || b.reads(locals);
        }
    }

    /// Compiles an instruction. Returns the flags behind it, and whether it went elsewhere.
    pub(super) fn insn(&mut self, n: u32, k: usize, before: Flags) -> (Flags, bool) {
        let block = &self.graph.blocks[n as usize];
        let i = &block.insns[k];
        let rest = block.insns.len() - k;
        if rest == 1 {
            // It may go elsewhere.
            self.note_x87(block);
        }
        self.locals.release();
        self.look_ahead(n, k, before);
        self.decided -= 1;
        let built = match self.ahead.pop_front() {
            Some(Ahead::Insn(built)) => *built,
            Some(Ahead::Call) => return self.call(block, k),
            Some(Ahead::CallUnit) => return self.call_unit(block, k, before),
            Some(Ahead::None) | None => {
                let exit = self.exit(block, block.at + i64::from(i.off), rest);
                self.leave(exit);
                return (before, true);
            }
        };
        let Built {
            values, steps, jump, guards, guarded, fields, parts, read, regs, wanted, noted, after, taken, ..
        } = built;
        self.locals.take_over(taken);
        self.simd = after.simd;
        let flags = built.flags.filter(|_| wanted);
        let x87 = after.x87;
        let never = guards.iter().any(|&g| values.constant(g) == Some(0));

        // What is committed, and to which locals.
        let mut commit: Vec<(Val, u32)> = Vec::new();
        for (r, v) in (0..).zip(regs) {
            if let Some(v) = v {
                self.locals.written |= 1 << r;
                commit.push((v, self.locals.register(r)));
            }
        }
        let after = if wanted { after.flags } else { before };
        if let Some((raw, of)) = flags {
            self.locals.flags_written = true;
            for (n, v) in raw.into_iter().enumerate() {
                commit.extend(v.map(|v| (v, self.locals.flag(n))));
            }
            commit.extend(of.value().map(|v| (v, self.locals.flag_op())));
        }
        commit.extend(fields.iter().filter_map(|&(s, v)| match s {
            Slot::SegBase(s) => Some((v, self.locals.segment_base(s))),
            _ => None,
        }));
        commit.extend(parts.iter().map(|&(_, v, local)| (v, local)));
        commit.retain(|&(v, local)| values.node(v) != Node::Local(local));
        let condition = jump.and_then(|j| j.when);
        let target = jump.map(|j| j.to);
        let fixed = target.and_then(|t| match values.node(t) {
            Node::Rip(off) => Some(off),
            _ => None,
        });

        let roots = steps
            .iter()
            .chain(&guarded)
            .flat_map(steps::values)
            .chain(commit.iter().map(|c| c.0))
            .chain(fields.iter().map(|f| f.1))
            .chain(condition)
            .chain(target)
            .chain(guards.iter().copied());
        let here = here(block, block.at + i64::from(i.off), rest, noted);
        let mut exit = |apart| number(&mut self.exits, Exit { apart, ..here });
        let none = steps.is_empty() && guarded.is_empty();
        let [exit, apart] = if none { [0; 2] } else { [false, true].map(&mut exit) };
        let way = Way {
            exit,
            apart: (!block.apart).then_some(apart),
            label: self.labels.len() as u32,
            fills: self.graph.fills,
            sure: true,
        };
        let mut lower = Lower::new(&mut self.body, self.locals, &values, roots, self.long, self.layout);
        steps::write(&mut lower, self.layout, &steps, way, &mut self.windows);
        if !guards.is_empty() {
            // The inner one is for whoever has to be called.
            lower.out().block(BlockType::Empty).block(BlockType::Empty);
        }
        for &guard in guards.iter().filter(|_| !never) {
            lower.unless(guard, 0);
        }
        if never {
            commit.clear();
        } else {
            let label = way.label + if guards.is_empty() { 0 } else { 2 };
            steps::write(&mut lower, self.layout, &guarded, Way { label, ..way }, &mut self.windows);
        }
        // A branch may depend on what is committed now.
        if let (Some(target), None) = (target, fixed) {
            lower.out().i32_const(0);
            lower.push(target);
            lower.out().i64_store(at(self.layout.rip));
        }
        if let Some(c) = condition {
            lower.push_if(c);
            if !commit.is_empty() {
                lower.out().local_set(ENTRY_AT);
            }
        }
        for &(_, v) in &fields {
            lower.out().i32_const(0);
            lower.push(v);
        }
        commit.iter().for_each(|c| lower.push(c.0));
        for &(_, local) in commit.iter().rev() {
            lower.out().local_set(local);
        }
        for (place, _) in fields.iter().rev().filter_map(|f| self.layout.field(f.0)) {
            lower.out().i64_store(at(place));
        }
        if let Flags::Of(op, size) = after {
            if after != before {
                let local = lower.locals.flag_op();
                lower.out().i64_const(told(op, size) as i64).local_set(local);
            }
        }
        if !guards.is_empty() {
            if !never {
                self.out().br(1);
            }
            self.out().end();
            self.labels.push(Label::Other);
            let written = regs.iter().enumerate().fold(0, |set, (r, v)| set | u32::from(v.is_some()) << r);
            // Both ways leave flags that are of the same operation.
            // What it would write is loaded behind it even if it faults, so that has to be there.
            let read = Part { registers: read | written, flags: flags.is_some() };
            self.x87 = x87;
            self.plain(block, k, read, Part { registers: written, flags: flags.is_some() }, noted);
            for &(part, ..) in &parts {
                part.reload(&mut self.body.out(), self.locals, self.layout);
            }
            self.labels.pop();
            self.out().end();
            self.windows.called(written);
        } else {
            self.windows.set(&values, self.locals, &regs);
        }
        if fields.iter().any(|f| matches!(f.0, Slot::SegBase(_))) {
            self.windows.called(0);
        }
        self.x87 = x87;
        let Some(jump) = jump else { return (after, false) };
        if jump.when.is_some() {
            if !commit.is_empty() {
                self.out().local_get(ENTRY_AT);
            }
            self.out().if_(BlockType::Empty);
            self.labels.push(Label::Other);
        }
        // Whoever comes behind is told what the flags are of.
        match fixed {
            Some(off) => self.go_to(block, off),
            None if block.returns() => self.go_back(block, n),
            None if block.switches() => self.go_by_cache(n),
            None => self.leave(0),
        }
        if jump.when.is_some() {
            self.labels.pop();
            self.out().end();
            self.go_to(block, block.at + i64::from(i.off) + i64::from(i.len));
        }
        (after, true)
    }
}
