//! Values as WebAssembly. A value is left on WebAssembly's stack where it is wanted, as an i64, as the i32 of its low
//! half, or as a condition: in each case with as few instructions as the other bits allow. Vectors: `simd.rs`.

use super::code::Code;
use super::ir::{Node, VECTOR, Val, Values};
use super::layout::Layout;
use super::locals::Locals;
use super::module::import;
use super::windows::{Sum, Windows};
use super::{simd, steps};
use crate::emit::{Bin, Un};
use crate::size::Size;
use alloc::vec;
use alloc::vec::Vec;
use wasm_encoder::{BlockType, InstructionSink, ValType};

/// Lane numbers that turn the first eight bytes round.
const REVERSED: i128 = i128::from_le_bytes([7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

/// Writes the values of one instruction.
pub struct Lower<'a> {
    /// The code so far.
    pub code: &'a mut Code,
    /// Where temporary locals come from.
    pub locals: &'a mut Locals,
    values: &'a Values,
    uses: Vec<u32>,
    /// Locals of values that are computed already.
    kept: Vec<Option<u32>>,
    /// Those, in the order in which they were computed.
    order: Vec<Val>,
    /// Is the code 64-bit code?
    long: bool,
    layout: &'a Layout,
}

impl<'a> Lower<'a> {
    /// `roots`: the values that will be asked for, each as often as it will.
    pub fn new(
        code: &'a mut Code,
        locals: &'a mut Locals,
        values: &'a Values,
        roots: impl Iterator<Item = Val>,
        long: bool,
        layout: &'a Layout,
    ) -> Self {
        let mut uses = vec![0; values.len()];
        let mut todo: Vec<Val> = roots.collect();
        while let Some(v) = todo.pop() {
            uses[v.0 as usize] += 1;
            if uses[v.0 as usize] == 1 {
                todo.extend(values.node(v).parts());
            }
        }
        Self { code, locals, values, uses, kept: vec![None; values.len()], order: Vec::new(), long, layout }
    }

    /// Appends instructions.
    pub fn out(&mut self) -> InstructionSink<'_> {
        self.code.out()
    }

    /// Values computed from here on are not there any more behind [`Lower::leave`], because that code may be skipped.
    pub fn enter(&mut self) -> usize {
        self.order.len()
    }
    /// See [`Lower::enter`].
    pub fn leave(&mut self, mark: usize) {
        for v in self.order.split_off(mark) {
            self.kept[v.0 as usize] = None;
        }
    }

    /// An address as a sum of what registers held.
    pub fn sum(&self, windows: &Windows, v: Val) -> Option<Sum> {
        windows.sum(self.values, self.locals, v)
    }

    /// How a value comes about.
    pub fn node(&self, v: Val) -> Node {
        self.values.node(v)
    }

    /// A local that holds the value from now on.
    pub fn keep(&mut self, v: Val) -> u32 {
        if let Some(local) = self.kept[v.0 as usize] {
            return local;
        }
        self.push(v);
        // What is used more than once is kept by itself.
        if let Some(local) = self.kept[v.0 as usize] {
            self.out().drop();
            return local;
        }
        let local = self.temporary(v);
        self.out().local_set(local);
        local
    }

    /// The value: an i64 or a v128.
    pub fn push(&mut self, v: Val) {
        if let Some(local) = self.kept[v.0 as usize] {
            self.out().local_get(local);
            return;
        }
        match self.values.node(v) {
            Node::Const(c) => {
                self.out().i64_const(c as i64);
                return;
            }
            Node::Local(local) => {
                self.out().local_get(local);
                return;
            }
            Node::Rip(off) => {
                let long = self.long;
                return steps::rip(&mut self.out(), off, long);
            }
            node => self.compute(v, node),
        }
        if self.uses[v.0 as usize] > 1 {
            let local = self.temporary(v);
            self.out().local_tee(local);
        }
    }

    /// The local that the value on the stack goes to.
    fn temporary(&mut self, v: Val) -> u32 {
        let local = self.locals.take(if self.values.bits(v) == VECTOR { ValType::V128 } else { ValType::I64 });
        self.kept[v.0 as usize] = Some(local);
        self.order.push(v);
        local
    }

    fn compute(&mut self, v: Val, node: Node) {
        match node {
            Node::Bin(Bin::And, a, mask) if self.low_mask(mask) => {
                self.push32(a);
                self.and32(mask);
                self.out().i64_extend_i32_u();
            }
            Node::Bin(Bin::Eq | Bin::Ne | Bin::LtU | Bin::LtS, ..) | Node::Un(Un::Parity, _) => {
                self.push_if(v);
                self.out().i64_extend_i32_u();
            }
            Node::Bin(op, a, b) => {
                self.push(a);
                self.push(b);
                self.bin(op);
            }
            Node::Sx(Size::B4, a) => {
                self.push32(a);
                self.out().i64_extend_i32_s();
            }
            Node::Sx(size, a) => {
                self.push(a);
                match size {
                    Size::B1 => self.out().i64_extend8_s(),
                    _ => self.out().i64_extend16_s(),
                };
            }
            Node::Un(op, a) => {
                self.push(a);
                self.un(op);
            }
            Node::Quotient(signed, a, b) => {
                self.push(a);
                self.push(b);
                let mut out = self.out();
                if signed {
                    out.i64_div_s()
                } else {
                    out.i64_div_u()
                };
            }
            Node::Select(c, yes, no) => {
                self.push(yes);
                self.push(no);
                self.push_if(c);
                self.out().select();
            }
            Node::Likely(c, yes, no) => {
                self.push_if(c);
                self.out().i32_eqz();
                self.code.if_rarely(BlockType::Result(ValType::I64));
                let mark = self.enter();
                self.push(no);
                self.leave(mark);
                self.out().else_();
                self.push(yes);
                self.leave(mark);
                self.out().end();
            }
            Node::Image(of) => {
                let cpu = self.layout.cpu as i32;
                self.out().i32_const(cpu);
                of.into_iter().for_each(|v| self.push(v));
                self.out().call(import::IMAGE);
            }
            Node::Field(s) => {
                let (place, bytes) = self.layout.field(s).expect("a field has a place");
                let mut out = self.out();
                out.i32_const(0);
                match bytes {
                    1 => out.i64_load8_u(steps::at(place)),
                    2 => out.i64_load16_u(steps::at(place)),
                    _ => out.i64_load(steps::at(place)),
                };
            }
            Node::Const(_) | Node::Local(_) | Node::Rip(_) => self.push(v),
            node => simd::write(self, node),
        }
    }

    /// Is it a constant below 2^32?
    fn low_mask(&self, v: Val) -> bool {
        self.values.constant(v).is_some_and(|m| m >> 32 == 0)
    }

    fn and32(&mut self, mask: Val) {
        let mask = self.values.constant(mask).unwrap_or(0) as i32;
        if mask != -1 {
            self.out().i32_const(mask).i32_and();
        }
    }

    fn bin(&mut self, op: Bin) {
        let mut out = self.out();
        match op {
            Bin::Add => out.i64_add(),
            Bin::Sub => out.i64_sub(),
            Bin::Mul => out.i64_mul(),
            Bin::MulHiU | Bin::MulHiS => unreachable!("made of products of halves"),
            Bin::And => out.i64_and(),
            Bin::Or => out.i64_or(),
            Bin::Xor => out.i64_xor(),
            Bin::Shl => out.i64_shl(),
            Bin::Shr => out.i64_shr_u(),
            Bin::Sar => out.i64_shr_s(),
            Bin::Eq => out.i64_eq(),
            Bin::Ne => out.i64_ne(),
            Bin::LtU => out.i64_lt_u(),
            Bin::LtS => out.i64_lt_s(),
        };
    }

    fn un(&mut self, op: Un) {
        let mut out = self.out();
        match op {
            Un::Clz => out.i64_clz(),
            Un::Ctz => out.i64_ctz(),
            Un::Popcnt => out.i64_popcnt(),
            Un::Bswap => out.i64x2_splat().v128_const(REVERSED).i8x16_swizzle().i64x2_extract_lane(0),
            Un::Parity => out.nop(),
        };
    }

    /// The low half of the value as an i32.
    pub fn push32(&mut self, v: Val) {
        let used_once = self.uses[v.0 as usize] <= 1 && self.kept[v.0 as usize].is_none();
        match self.values.node(v) {
            Node::Const(c) => {
                self.out().i32_const(c as i32);
            }
            Node::Bin(op @ (Bin::Add | Bin::Sub | Bin::Mul | Bin::Or | Bin::Xor), a, b) if used_once => {
                self.push32(a);
                self.push32(b);
                let mut out = self.out();
                match op {
                    Bin::Add => out.i32_add(),
                    Bin::Sub => out.i32_sub(),
                    Bin::Mul => out.i32_mul(),
                    Bin::Or => out.i32_or(),
                    _ => out.i32_xor(),
                };
            }
            Node::Bin(Bin::And, a, b) if used_once => {
                self.push32(a);
                if self.values.constant(b).is_some() {
                    self.and32(b);
                } else {
                    self.push32(b);
                    self.out().i32_and();
                }
            }
            Node::Bin(op @ (Bin::Shl | Bin::Shr | Bin::Sar), a, n) if used_once && self.shifts32(op, a, n) => {
                self.push32(a);
                let n = self.values.constant(n).unwrap_or(0) as i32;
                let mut out = self.out();
                out.i32_const(n);
                match op {
                    Bin::Shl => out.i32_shl(),
                    Bin::Shr => out.i32_shr_u(),
                    _ => out.i32_shr_s(),
                };
            }
            Node::Bin(Bin::Eq | Bin::Ne | Bin::LtU | Bin::LtS, ..) | Node::Un(Un::Parity, _) if used_once => {
                self.push_if(v);
            }
            Node::Sx(size, a) if used_once => {
                self.push32(a);
                match size {
                    Size::B1 => {
                        self.out().i32_extend8_s();
                    }
                    Size::B2 => {
                        self.out().i32_extend16_s();
                    }
                    _ => {}
                }
            }
            Node::Select(c, yes, no) if used_once => {
                self.push32(yes);
                self.push32(no);
                self.push_if(c);
                self.out().select();
            }
            _ => {
                self.push(v);
                self.out().i32_wrap_i64();
            }
        }
    }

    /// Can the low half of `a op n` be computed from that of `a`?
    fn shifts32(&self, op: Bin, a: Val, n: Val) -> bool {
        let below = self.values.constant(n).is_some_and(|n| n < 32);
        below
            && match op {
                Bin::Shl => true,
                Bin::Shr => self.values.bits(a) <= 32,
                _ => matches!(self.values.node(a), Node::Sx(..)),
            }
    }

    /// An i32 that is not 0 if the value is not.
    pub fn push_if(&mut self, v: Val) {
        if self.kept[v.0 as usize].is_some() {
            return self.truth(v);
        }
        match self.values.node(v) {
            Node::Bin(op @ (Bin::Eq | Bin::Ne | Bin::LtU | Bin::LtS), a, b) => self.compare(op, a, b),
            Node::Bin(Bin::Xor, a, b) if self.values.constant(b) == Some(1) && self.values.bits(a) <= 1 => {
                self.push_if(a);
                self.out().i32_eqz();
            }
            Node::Bin(op @ (Bin::And | Bin::Or), a, b) if self.values.bits(a) <= 1 && self.values.bits(b) <= 1 => {
                self.push_if(a);
                self.push_if(b);
                match op {
                    Bin::And => self.out().i32_and(),
                    _ => self.out().i32_or(),
                };
            }
            node @ Node::LowRelation(..) => simd::write32(self, node),
            Node::Un(Un::Parity, a) => {
                self.push32(a);
                self.out().i32_const(0xff).i32_and().i32_popcnt().i32_const(1).i32_and().i32_eqz();
            }
            // A sign.
            Node::Bin(Bin::Shr, a, n) if self.values.constant(n) == Some(63) => match self.values.node(a) {
                Node::Sx(Size::B4, x) => {
                    self.push32(x);
                    self.out().i32_const(0).i32_lt_s();
                }
                _ => {
                    self.push(a);
                    self.out().i64_const(0).i64_lt_s();
                }
            },
            _ => self.truth(v),
        }
    }

    /// Jumps to a label if a guard is 0, which happens rarely. The second part of an OR is computed only if it has to be.
    /// (Compilers heed hints of `if` and not of `br_if`: what is rare is out of the way only so.)
    pub fn unless(&mut self, guard: Val, label: u32) {
        match self.values.node(guard) {
            Node::Bin(Bin::Or, a, b) if self.kept[guard.0 as usize].is_none() && self.values.bits(guard) <= 1 => {
                self.push_if(a);
                self.out().i32_eqz();
                self.code.if_rarely(BlockType::Empty);
                let mark = self.enter();
                self.unless(b, label + 1);
                self.leave(mark);
                self.out().end();
            }
            _ => {
                self.push_if(guard);
                self.out().i32_eqz();
                self.code.if_rarely(BlockType::Empty);
                self.out().br(label + 1).end();
            }
        }
    }

    fn truth(&mut self, v: Val) {
        if self.values.bits(v) <= 32 {
            self.push32(v);
        } else {
            self.push(v);
            self.out().i64_const(0).i64_ne();
        }
    }

    fn compare(&mut self, op: Bin, a: Val, b: Val) {
        let zero = self.values.constant(b) == Some(0);
        if self.halves(op, a, b) {
            self.push32(a);
            if zero && op == Bin::Eq {
                self.out().i32_eqz();
                return;
            }
            self.push32(b);
            let mut out = self.out();
            match op {
                Bin::Eq => out.i32_eq(),
                Bin::Ne => out.i32_ne(),
                Bin::LtU => out.i32_lt_u(),
                _ => out.i32_lt_s(),
            };
            return;
        }
        self.push(a);
        if zero && op == Bin::Eq {
            self.out().i64_eqz();
            return;
        }
        self.push(b);
        self.bin(op);
    }

    /// Does comparing the low halves tell the same?
    fn halves(&self, op: Bin, a: Val, b: Val) -> bool {
        let signed = |v| match self.values.node(v) {
            Node::Sx(Size::B8, _) => false,
            Node::Sx(..) => true,
            Node::Const(c) => c as i32 as i64 as u64 == c,
            _ => self.values.bits(v) <= 31,
        };
        let unsigned = |v| self.values.bits(v) <= 32;
        signed(a) && signed(b) || op != Bin::LtS && unsigned(a) && unsigned(b)
    }
}
