//! The x87 unit in compiled code. Its state stays in memory, and each instruction puts there what it changes, so that
//! whoever is called finds it. What a block has read or written is in locals, too, and need not be read again.
//!
//! TOP may be anything where a block begins; registers are counted from there, and how TOP moves within the block is
//! known. What is common (`float/quick.rs`) is in line under a guard: all exceptions are masked, results have 64 bits
//! and are rounded to nearest, the stack has the numbers that are asked for and room for those that come, and all of
//! them are normal. Else the instruction is called. It moves TOP as it should even then, because nothing is unmasked;
//! and if something is, everything is called.
//!
//! Opcode and pointers of the last instruction (SDM 1, 8.1.8) are only noted where the block ends or something is
//! called. An exit knows which instruction it was ([`Note`]).

use super::build::{Builder, Step};
use super::ir::{Val, Values};
use super::layout::Layout;
use super::locals::Locals;
use super::steps::at;
use crate::cpu::fpu::{place, status};
use crate::emit::{Bin, Linear, Number, Un, Unit87};
use crate::flags;
use crate::float::F80;
use crate::float::quick::{self, Normal, Register};
use crate::float::words::Words;
use crate::size::Size;
use wasm_encoder::InstructionSink;

/// Locals of the unit ([`Locals::x87`]): significands, upper parts, then these.
pub const LOCALS: usize = 19;
const STATUS: u8 = 16;
const TAGS: u8 = 17;
/// Where the block's first register is, in bytes; bits above those do not count.
const BASE: u8 = 18;

/// A part of the unit's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part87 {
    /// The significand of a register, counted from the block's TOP.
    Sig(u8),
    /// Its sign and exponent.
    Exp(u8),
    /// The status word.
    Status,
    /// Which registers are in use.
    Tags,
    /// FDP.
    Data,
}

impl Part87 {
    /// Its local.
    fn local(self) -> u8 {
        match self {
            Self::Sig(k) => k,
            Self::Exp(k) => 8 + k,
            Self::Status => STATUS,
            Self::Tags | Self::Data => TAGS,
        }
    }
    /// Where it is.
    fn offset(self) -> usize {
        match self {
            Self::Sig(_) => place::REGS,
            Self::Exp(_) => place::REGS + core::mem::offset_of!(F80, se),
            Self::Status => place::SW,
            Self::Tags => place::VALID,
            Self::Data => place::FDP,
        }
    }
    /// Its bytes.
    fn size(self) -> Size {
        match self {
            Self::Sig(_) | Self::Data => Size::B8,
            Self::Exp(_) | Self::Status => Size::B2,
            Self::Tags => Size::B1,
        }
    }
    /// Loads it from the address on the stack.
    pub fn load(self, out: &mut InstructionSink<'_>, layout: &Layout) {
        let at = at(layout.fpu(self.offset()));
        match self.size() {
            Size::B1 => out.i64_load8_u(at),
            Size::B2 => out.i64_load16_u(at),
            _ => out.i64_load(at),
        };
    }
    /// Stores to the address on the stack: an i64 if it has eight bytes, else an i32.
    pub fn store(self, out: &mut InstructionSink<'_>, layout: &Layout) {
        let at = at(layout.fpu(self.offset()));
        match self.size() {
            Size::B1 => out.i32_store8(at),
            Size::B2 => out.i32_store16(at),
            _ => out.i64_store(at),
        };
    }
    /// Is it stored as an i64?
    pub fn is_wide(self) -> bool {
        self.size() == Size::B8
    }
    /// Loads it to its local again.
    pub fn reload(self, out: &mut InstructionSink<'_>, locals: &mut Locals, layout: &Layout) {
        match self {
            Self::Sig(k) | Self::Exp(k) => {
                out.local_get(locals.x87(BASE)).i32_wrap_i64();
                out.i32_const(16 * i32::from(k)).i32_add().i32_const(0x70).i32_and();
            }
            _ => _ = out.i32_const(0),
        }
        self.load(out, layout);
        out.local_set(locals.x87(self.local()));
    }
}

/// The last instruction of the unit in a block, and the last one with a memory operand: their numbers and one more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// The last one.
    pub last: u8,
    /// The last one with a memory operand.
    pub data: u8,
}

/// What is known of the unit at a place in a block.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Are status, tags and TOP in their locals?
    loaded: bool,
    /// How far TOP has moved, modulo 8.
    top: u8,
    /// Registers that are in their locals.
    cached: u8,
    /// Those that are in use.
    valid: u8,
    /// Those that are not.
    empty: u8,
    /// What is still to be noted.
    pub note: Note,
}

/// Words as values; what is checked becomes the guard.
struct Graph<'a> {
    values: &'a mut Values,
    guards: &'a mut alloc::vec::Vec<Val>,
}

impl Words for Graph<'_> {
    type Word = Val;

    fn imm(&mut self, v: u64) -> Val {
        self.values.imm(v)
    }
    fn bin(&mut self, op: Bin, a: Val, b: Val) -> Val {
        self.values.bin(op, a, b)
    }
    fn quotient(&mut self, a: Val, b: Val) -> Val {
        self.values.quotient(false, a, b)
    }
    fn leading_zeros(&mut self, a: Val) -> Val {
        self.values.un(Un::Clz, a)
    }
    fn select(&mut self, c: Val, yes: Val, no: Val) -> Val {
        self.values.select(c, yes, no)
    }
    fn check(&mut self, c: Val) {
        self.guards.push(c);
    }
}

impl Builder<'_> {
    fn words(&mut self) -> Graph<'_> {
        Graph { values: &mut self.values, guards: &mut self.guards }
    }
    fn x87_local(&mut self, n: u8, bits: u8) -> Val {
        let local = self.locals.x87(n);
        self.values.local(local, bits)
    }

    /// First thing in every instruction: the guard begins with the controls.
    pub(super) fn x87_begin(&mut self) {
        self.unit = true;
        let common = self.locals.common();
        let common = self.values.local(common, 1);
        self.guards.push(common);
        if self.x87.loaded {
            return;
        }
        self.x87.loaded = true;
        for of in [Part87::Status, Part87::Tags] {
            let to = self.locals.x87(of.local());
            self.steps.push(Step::Get { to, of, index: None });
        }
        let status = self.x87_local(STATUS, 16);
        let v = self.words().with(Bin::Shr, status, 7);
        let to = self.locals.x87(BASE);
        self.steps.push(Step::Set { to, v });
    }

    /// The number of ST(i).
    fn x87_number(&self, i: u8) -> u8 {
        (self.x87.top + i) & 7
    }
    /// Where a register is among the others, in bytes.
    fn x87_index(&mut self, k: u8) -> Val {
        let base = self.x87_local(BASE, 9);
        let mut w = self.words();
        let sum = w.with(Bin::Add, base, 16 * u64::from(k));
        w.with(Bin::And, sum, 0x70)
    }
    /// Its bit in the tags.
    fn x87_tag(&mut self, k: u8) -> Val {
        let index = self.x87_index(k);
        let mut w = self.words();
        let number = w.with(Bin::Shr, index, 4);
        let one = w.imm(1);
        w.bin(Bin::Shl, one, number)
    }

    /// ST(i).
    fn x87_get(&mut self, i: u8) -> Register<Val> {
        let k = self.x87_number(i);
        if self.x87.cached >> k & 1 == 0 {
            self.x87.cached |= 1 << k;
            let index = Some(self.x87_index(k));
            for of in [Part87::Sig(k), Part87::Exp(k)] {
                let to = self.locals.x87(of.local());
                self.steps.push(Step::Get { to, of, index });
            }
        }
        Register { sig: self.x87_local(k, 64), se: self.x87_local(8 + k, 16) }
    }
    /// Checks that ST(i) is in use.
    fn x87_in_use(&mut self, i: u8) {
        let k = self.x87_number(i);
        if self.x87.valid >> k & 1 == 0 {
            let (tag, tags) = (self.x87_tag(k), self.x87_local(TAGS, 8));
            let mut w = self.words();
            let used = w.bin(Bin::And, tags, tag);
            let used = w.with(Bin::Ne, used, 0);
            w.check(used);
        }
    }
    /// A number as it would be in a register, if it is normal or zero there.
    fn x87_register(&mut self, n: Number<Val>) -> Register<Val> {
        if let Number::St(i) = n {
            self.x87_in_use(i);
            return self.x87_get(i);
        }
        let mut w = self.words();
        match n {
            Number::Single(bits) => quick::widened(&mut w, bits, true),
            Number::Double(bits) => quick::widened(&mut w, bits, false),
            Number::Integer(v) => quick::of_integer(&mut w, v),
            Number::One => Register { sig: w.imm(F80::ONE.sig), se: w.imm(F80::ONE.se.into()) },
            Number::Zero | Number::St(_) => Register { sig: w.imm(0), se: w.imm(0) },
        }
    }
    /// A number that is normal.
    fn x87_normal(&mut self, n: Number<Val>) -> Normal<Val> {
        match n {
            Number::Single(bits) => Normal::of_f32(&mut self.words(), bits),
            Number::Double(bits) => Normal::of_f64(&mut self.words(), bits),
            _ => {
                let v = self.x87_register(n);
                Normal::of(&mut self.words(), v)
            }
        }
    }

    pub(super) fn x87_what(&mut self, what: Unit87<Val>) {
        let c1 = u64::from(status::C1);
        match what {
            Unit87::Load(n) => {
                let k = (self.x87.top + 7) & 7;
                if self.x87.empty >> k & 1 == 0 {
                    let (tag, tags) = (self.x87_tag(k), self.x87_local(TAGS, 8));
                    let mut w = self.words();
                    let used = w.bin(Bin::And, tags, tag);
                    let free = w.is_zero(used);
                    w.check(free);
                }
                let v = self.x87_register(n);
                self.x87_end(&[(k, v)], -1, c1, None);
            }
            Unit87::Arith(op, i, src, pop) => {
                self.x87_in_use(i);
                let dst = self.x87_normal(Number::St(i));
                let src = self.x87_normal(src);
                let r = op.quick(&mut self.words(), dst, src);
                self.x87_end(&[(self.x87_number(i), r.value)], i8::from(pop), c1, Some(r.status));
            }
            Unit87::Negate | Unit87::Absolute => {
                let v = self.x87_register(Number::St(0));
                let mut w = self.words();
                let se = match what {
                    Unit87::Negate => w.with(Bin::Xor, v.se, 0x8000),
                    _ => w.with(Bin::And, v.se, 0x7fff),
                };
                self.x87_end(&[(self.x87.top, Register { se, ..v })], 0, c1, None);
            }
            Unit87::Root => {
                // Called always.
                let never = self.values.imm(0);
                self.guards.push(never);
                self.x87_end(&[(self.x87.top, Register { sig: never, se: never })], 0, c1, None);
            }
            Unit87::Exchange(i) => {
                let (a, b) = (self.x87_register(Number::St(0)), self.x87_register(Number::St(i)));
                self.x87_end(&[(self.x87.top, b), (self.x87_number(i), a)], 0, c1, None);
            }
            Unit87::Copy(i, pop) => {
                let v = self.x87_register(Number::St(0));
                self.x87_end(&[(self.x87_number(i), v)], i8::from(pop), c1, None);
            }
            Unit87::Compare { with, pops, .. } => {
                let (a, b) = (self.x87_register(Number::St(0)), self.x87_register(with));
                let mut w = self.words();
                let [equal, less] = quick::relation(&mut w, a, b);
                let c3 = w.with(Bin::Shl, equal, status::C3.trailing_zeros().into());
                let c0 = w.with(Bin::Shl, less, status::C0.trailing_zeros().into());
                let codes = w.or(c3, c0);
                self.x87_end(&[], pops as i8, status::CODES.into(), Some(codes));
            }
        }
    }

    pub(super) fn x87_store_number(&mut self, to: Linear<Val>, single: bool, pop: bool) {
        let v = self.x87_normal(Number::St(0));
        let r = v.narrowed(&mut self.words(), single);
        let size = if single { Size::B4 } else { Size::B8 };
        self.guarded.push(Step::Store { at: to.at, size, v: r.value });
        self.x87_end(&[], i8::from(pop), status::C1.into(), Some(r.status));
    }

    pub(super) fn x87_flags(&mut self, i: u8, pop: bool) -> Val {
        let (a, b) = (self.x87_register(Number::St(0)), self.x87_register(Number::St(i)));
        let mut w = self.words();
        let [equal, less] = quick::relation(&mut w, a, b);
        let zf = w.with(Bin::Shl, equal, flags::ZF.trailing_zeros().into());
        let image = w.or(zf, less);
        if pop {
            self.x87_end(&[], 1, 0, None);
        } else {
            // It has changed if the instruction was called.
            let local = self.locals.x87(STATUS);
            let same = self.values.local(local, 16);
            self.parts.push((Part87::Status, same, local));
        }
        image
    }

    /// Writes registers, moves TOP (up: pops), and changes the status word.
    fn x87_end(&mut self, writes: &[(u8, Register<Val>)], up: i8, clear: u64, add: Option<Val>) {
        let mut tags = self.x87_local(TAGS, 8);
        let before = tags;
        for &(k, v) in writes {
            if self.x87.valid >> k & 1 == 0 {
                let tag = self.x87_tag(k);
                tags = self.values.bin(Bin::Or, tags, tag);
            }
            self.x87_put(Part87::Sig(k), Some(k), v.sig);
            self.x87_put(Part87::Exp(k), Some(k), v.se);
            self.x87.cached |= 1 << k;
            self.x87.valid |= 1 << k;
            self.x87.empty &= !(1 << k);
        }
        for n in 0..up {
            let k = self.x87_number(n as u8);
            let tag = self.x87_tag(k);
            let mut w = self.words();
            let others = w.with(Bin::Xor, tag, 0xff);
            tags = w.bin(Bin::And, tags, others);
            self.x87.valid &= !(1 << k);
            self.x87.empty |= 1 << k;
        }
        self.x87.top = (self.x87.top as i8 + up) as u8 & 7;
        if tags != before {
            self.x87_put(Part87::Tags, None, tags);
        }
        let old = self.x87_local(STATUS, 16);
        let top = u64::from(if up == 0 { 0 } else { status::TOP });
        let mut w = self.words();
        let mut new = w.with(Bin::And, old, 0xffff & !(clear | top));
        if up != 0 {
            let moved = w.with(Bin::Add, old, ((up as i64) << 11) as u64);
            let moved = w.with(Bin::And, moved, top);
            new = w.or(new, moved);
        }
        if let Some(add) = add {
            new = w.or(new, add);
        }
        self.x87_put(Part87::Status, None, new);
    }

    /// Puts a part of the state to memory and to its local.
    fn x87_put(&mut self, of: Part87, k: Option<u8>, v: Val) {
        let index = k.map(|k| self.x87_index(k));
        self.guarded.push(Step::Put { of, index, v });
        let local = self.locals.x87(of.local());
        self.parts.push((of, v, local));
    }
}
