//! The compiler's side of [`Emit`]: an instruction's semantics, run once, leave behind the values it computes and the
//! steps it takes, which `lower.rs` then writes as WebAssembly.
//!
//! What an instruction changes is committed when it is complete, all at once. So wherever it may have to stop, the
//! locals hold the state before it, and leaving the region there is exact.

use super::float::Guarded;
use super::ir::{Node, VECTOR, Val, Values};
use super::locals::{Locals, REGISTERS, XMM, told};
use crate::cpu::Vector;
use crate::decode::insn::slot;
use crate::emit::{Bin, Emit, FloatConversion, FloatOp, Floats, Linear, Slot, Un, Unit};
use crate::flags::FlagOp;
use crate::size::Size;
use crate::vector::{V128, VecImm, VecOp, VecShift};
use alloc::vec::Vec;
use wasm_encoder::ValType;

/// The instruction cannot go on here: the interpreter runs it instead.
#[derive(Clone, Copy, Debug)]
pub struct Leave;

/// Something that happens in its place in the order.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Loads to a local.
    Load { to: u32, at: Val, size: Size },
    /// Stores.
    Store { at: Val, size: Size, v: Val },
    /// Finds where `at` may be stored to, for [`Step::Modified`], and loads to a local.
    Modify { to: u32, at: Val, size: Size },
    /// Stores where [`Step::Modify`] found.
    Modified { size: Size, v: Val },
    /// Loads 16 bytes to a local; leaves the region if they have to be aligned and are not.
    LoadVector { to: u32, at: Val, aligned: bool },
    /// Stores 16 bytes, likewise.
    StoreVector { at: Val, aligned: bool, v: Val },
    /// Sets or clears DF.
    Direction(bool),
    /// Leaves the region if vector instructions may not be used.
    Simd,
    /// Does what is up to [`Step::End`] if the value is not 0.
    If(Val),
    /// See [`Step::If`].
    End,
    /// Leaves the region in front of the instruction.
    Leave,
    /// Leaves it if this is not a canonical address.
    Canonical(Val),
}

/// What is known of the flags where an instruction begins: values in their locals, not sign-extended (`locals.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// They are of this operation in this size.
    Of(FlagOp, Size),
    /// A local says.
    Told,
}

/// Where a branch goes.
#[derive(Clone, Copy, Debug)]
pub struct Jump {
    /// It is taken if this is not 0; `None`: always.
    pub when: Option<Val>,
    /// A RIP.
    pub to: Val,
}

/// One instruction, as its semantics leave it behind.
pub struct Builder<'a> {
    /// Its values.
    pub values: Values,
    /// Its steps.
    pub steps: Vec<Step>,
    /// Where it goes, if it is a branch.
    pub jump: Option<Jump>,
    /// What it writes is right if this is not 0; else it has to be called.
    pub guard: Option<Val>,
    /// The registers it reads, numbered as in [`Locals`].
    pub read: u32,
    /// The registers it writes.
    pub regs: [Option<Val>; REGISTERS],
    /// The flags it writes: operation, then `a`, `b`, `r`.
    pub flags: [Option<Val>; 3],
    /// The operation they are of: known, or a value `op | size << 4`, in which case `a`, `b` and `r` are raw.
    pub flag_op: Option<Op>,
    /// It needs something that is not compiled.
    pub failed: bool,
    /// Is it known that vector instructions may be used?
    pub simd: bool,
    /// What is known of the flags before it.
    before: Flags,
    locals: &'a mut Locals,
    /// Mode: 64-bit code?
    long: bool,
    /// The block's first byte, counted from the beginning of the region's page.
    block: i64,
    /// Inside [`Emit::when`].
    depth: u32,
}

/// The operation of new flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// It is this; the values are sign-extended.
    Is(FlagOp),
    /// `op | size << 4`; the values are raw.
    Told(Val),
}

impl<'a> Builder<'a> {
    /// For an instruction of a block that begins this far from the beginning of the region's page.
    pub fn new(locals: &'a mut Locals, long: bool, block: i64, before: Flags, simd: bool) -> Self {
        locals.release();
        Self {
            values: Values::default(),
            steps: Vec::new(),
            jump: None,
            guard: None,
            read: 0,
            regs: [None; REGISTERS],
            flags: [None; 3],
            flag_op: None,
            failed: false,
            simd,
            before,
            locals,
            long,
            block,
            depth: 0,
        }
    }

    /// Bits of RIP.
    fn width(&self) -> u8 {
        if self.long { 64 } else { 32 }
    }

    /// A register as it was before the instruction. Its upper half counts even in 32-bit code: it may be left over
    /// from 64-bit code.
    fn register(&mut self, r: u8) -> Val {
        self.read |= 1 << r;
        let local = self.locals.register(r);
        self.values.local(local, if r < XMM { 64 } else { VECTOR })
    }

    /// The instruction is not compiled; some value.
    fn fail(&mut self) -> Val {
        self.failed = true;
        self.values.imm(0)
    }

    /// Can a branch to this RIP fault? The region's page is there; and code without limit has no other addresses.
    fn may_leave_canonical(&self, to: Val) -> bool {
        self.long && !matches!(self.values.node(to), Node::Rip(0..0x1000))
    }
    fn check_target(&mut self, to: Val) {
        if self.may_leave_canonical(to) {
            self.steps.push(Step::Canonical(to));
        }
    }

    /// Does MXCSR let floating point take the fast way?
    fn fast(&mut self) -> Val {
        let local = self.locals.fast();
        self.values.local(local, 1)
    }
    /// The value, which is right if the instruction's guard holds.
    fn guarded(&mut self, r: Guarded) -> Val {
        self.guard = match self.guard {
            None => Some(r.guard),
            Some(guard) => Some(self.values.bin(Bin::And, guard, r.guard)),
        };
        r.value
    }

    /// Leaves the region if the value is not 0.
    fn leave_if(&mut self, c: Val) {
        if self.values.constant(c) != Some(0) {
            self.steps.extend([Step::If(c), Step::Leave, Step::End]);
        }
    }

    fn flag(&mut self, n: usize) -> Val {
        if let Some(v) = self.flags[n] {
            return v;
        }
        let local = self.locals.flag(n);
        let raw = self.values.local(local, 64);
        match self.before {
            Flags::Of(_, size) => self.values.sx(size, raw),
            Flags::Told => raw,
        }
    }

    /// The operation the flags belong to now. If only a local knows, they become an image.
    #[inline(never)]
    fn known_flags(&mut self) -> FlagOp {
        match (self.flag_op, self.before) {
            (Some(Op::Is(op)), _) | (None, Flags::Of(op, _)) => op,
            (told, _) => {
                let of = match told {
                    Some(Op::Told(op)) => op,
                    _ => {
                        let local = self.locals.flag_op();
                        self.values.local(local, 8)
                    }
                };
                let [a, b, r] = [0, 1, 2].map(|n| self.flag(n));
                let image = self.values.image([of, a, b, r]);
                self.flags = [None, None, Some(image)];
                self.flag_op = Some(Op::Is(FlagOp::Image));
                FlagOp::Image
            }
        }
    }

    /// The new flags as raw values and `op | size << 4`; values that do not count are left out.
    pub fn raw_flags(&mut self) -> Option<([Option<Val>; 3], Raw)> {
        let op = match (self.flag_op, self.before) {
            (Some(Op::Told(op)), _) => return Some((self.flags, Raw::Told(op))),
            (Some(Op::Is(op)), _) => op,
            // Bits of an image change, and it stays one.
            (None, Flags::Of(op, _)) if self.flags.iter().any(Option::is_some) => op,
            (None, _) => return None,
        };
        // All have to be of one size. Small values may be taken for sign-extended ones of any.
        let size = self.flags.iter().flatten().find_map(|&v| match self.values.node(v) {
            Node::Sx(size, _) => Some(size),
            _ => None,
        });
        let fits = |size: Size| {
            self.flags.iter().flatten().all(|&v| match self.values.node(v) {
                Node::Sx(s, _) => s == size,
                _ => u32::from(self.values.bits(v)) < size.bits(),
            })
        };
        let size = size.filter(|&s| op != FlagOp::Image && fits(s)).unwrap_or(Size::B8);
        let raw = self.flags.map(|v| {
            v.map(|v| match self.values.node(v) {
                Node::Sx(s, x) if s == size => x,
                _ => v,
            })
        });
        Some((raw, Raw::Is(op, size)))
    }

    /// The value of a local that a step sets.
    fn temporary(&mut self, bits: u8) -> (u32, Val) {
        let local = self.locals.take(if bits == VECTOR { ValType::V128 } else { ValType::I64 });
        (local, self.values.local(local, bits))
    }

    /// `op | size << 4` of the flags as they are now.
    #[inline(never)]
    fn told(&mut self) -> ([Val; 3], Val) {
        match (self.raw_flags(), self.before) {
            (Some((raw, is)), _) => {
                let zero = self.values.imm(0);
                let of = match is {
                    Raw::Told(v) => v,
                    Raw::Is(op, size) => self.values.imm(told(op, size)),
                };
                (raw.map(|v| v.unwrap_or(zero)), of)
            }
            (None, before) => {
                let raw = [0, 1, 2].map(|n| {
                    let local = self.locals.flag(n);
                    self.values.local(local, 64)
                });
                let of = match before {
                    Flags::Of(op, size) => self.values.imm(told(op, size)),
                    Flags::Told => {
                        let local = self.locals.flag_op();
                        self.values.local(local, 8)
                    }
                };
                (raw, of)
            }
        }
    }
}

/// New flags: what they are of.
#[derive(Clone, Copy, Debug)]
pub enum Raw {
    /// Known.
    Is(FlagOp, Size),
    /// A value `op | size << 4`.
    Told(Val),
}

// Out of line: every instruction's semantics call these, and how fast they are matters little.
impl Emit for Builder<'_> {
    type Val = Val;
    type Vec = Val;
    type Stop = Leave;

    #[inline(never)]
    fn imm(&mut self, v: u64) -> Val {
        self.values.imm(v)
    }
    #[inline(never)]
    fn get(&mut self, s: Slot) -> Val {
        match s {
            Slot::Gpr(slot::ZERO) => self.values.imm(0),
            Slot::Gpr(slot::BLOCK) => self.values.rip(self.block, self.width()),
            Slot::Gpr(r @ 0..16) => match self.regs[usize::from(r)] {
                Some(v) => v,
                None => self.register(r),
            },
            Slot::FlagA => self.flag(0),
            Slot::FlagB => self.flag(1),
            Slot::FlagR => self.flag(2),
            Slot::SegBase(n) => {
                let local = self.locals.segment_base(n);
                self.values.local(local, 64)
            }
            Slot::Gpr(_) => self.fail(),
        }
    }
    #[inline(never)]
    fn set(&mut self, s: Slot, v: Val) {
        match s {
            Slot::Gpr(r @ 0..16) => self.regs[usize::from(r)] = Some(v),
            Slot::FlagA => self.flags[0] = Some(v),
            Slot::FlagB => self.flags[1] = Some(v),
            Slot::FlagR => self.flags[2] = Some(v),
            Slot::Gpr(_) | Slot::SegBase(_) => self.failed = true,
        }
    }
    #[inline(never)]
    fn bin(&mut self, op: Bin, a: Val, b: Val) -> Val {
        self.values.bin(op, a, b)
    }
    #[inline(never)]
    fn un(&mut self, op: Un, a: Val) -> Val {
        self.values.un(op, a)
    }
    #[inline(never)]
    fn select(&mut self, c: Val, yes: Val, no: Val) -> Val {
        self.values.select(c, yes, no)
    }
    fn when(&mut self, c: Val, then: impl FnOnce(&mut Self) -> Result<(), Leave>) -> Result<(), Leave> {
        match self.values.constant(c) {
            Some(0) => return Ok(()),
            Some(_) => return then(self),
            None => {}
        }
        let (regs, flags, flag_op) = (self.regs, self.flags, self.flag_op);
        let before = self.told();
        let begin = self.steps.len();
        self.steps.push(Step::If(c));
        self.depth += 1;
        let done = then(self);
        self.depth -= 1;
        if self.steps.len() == begin + 1 && done.is_ok() {
            self.steps.pop();
        } else {
            if done.is_err() {
                self.steps.push(Step::Leave);
            }
            self.steps.push(Step::End);
        }
        if done.is_err() {
            (self.regs, self.flags, self.flag_op) = (regs, flags, flag_op);
            return Ok(());
        }
        // What it has set is set only if it was done.
        for (r, before) in (0..).zip(regs) {
            if let Some(new) = self.regs[usize::from(r)].filter(|&new| Some(new) != before) {
                let old = before.unwrap_or_else(|| self.register(r));
                self.regs[usize::from(r)] = Some(self.values.select(c, new, old));
            }
        }
        if (self.flags, self.flag_op) != (flags, flag_op) {
            let (old, old_op) = before;
            let (new, new_op) = self.told();
            for (n, (new, old)) in new.into_iter().zip(old).enumerate() {
                self.flags[n] = Some(self.values.select(c, new, old));
            }
            self.flag_op = Some(Op::Told(self.values.select(c, new_op, old_op)));
        }
        Ok(())
    }
    #[inline(never)]
    fn load(&mut self, at: Linear<Val>, size: Size) -> Result<Val, Leave> {
        let (to, v) = self.temporary(size.bits() as u8);
        self.steps.push(Step::Load { to, at: at.at, size });
        Ok(v)
    }
    #[inline(never)]
    fn store(&mut self, at: Linear<Val>, size: Size, v: Val) -> Result<(), Leave> {
        self.steps.push(Step::Store { at: at.at, size, v });
        Ok(())
    }
    fn modify(&mut self, at: Linear<Val>, size: Size, f: impl FnOnce(&mut Self, Val) -> Val) -> Result<Val, Leave> {
        let (to, old) = self.temporary(size.bits() as u8);
        self.steps.push(Step::Modify { to, at: at.at, size });
        let v = f(self, old);
        self.steps.push(Step::Modified { size, v });
        Ok(old)
    }
    #[inline(never)]
    fn segmented(&mut self, _: u8, offset: Val, _: u8, _: bool) -> Result<Linear<Val>, Leave> {
        self.failed = true;
        Ok(Linear { at: offset, stack: false })
    }
    fn raise(&mut self, _: Vector) -> Leave {
        Leave
    }
    #[inline(never)]
    fn jump(&mut self, to: Val) -> Result<(), Leave> {
        // A branch that is taken sometimes says so itself.
        self.failed |= self.depth > 0 || self.jump.is_some();
        self.check_target(to);
        self.jump = Some(Jump { when: None, to });
        Ok(())
    }
    #[inline(never)]
    fn jump_if(&mut self, c: Val, to: Val) -> Result<(), Leave> {
        self.failed |= self.jump.is_some();
        if self.may_leave_canonical(to) {
            self.steps.push(Step::If(c));
            self.check_target(to);
            self.steps.push(Step::End);
        }
        self.jump = Some(Jump { when: Some(c), to });
        Ok(())
    }
    #[inline(never)]
    fn set_flag_op(&mut self, op: FlagOp) {
        if op == FlagOp::Given && self.flags[2].is_none() {
            // The result is kept: with its size, which the operation before it had.
            self.flags[2] = Some(self.flag(2));
        }
        self.flag_op = Some(Op::Is(op));
    }
    fn by_flag_op<T, X: Copy>(&mut self, f: impl Fn(&mut Self, FlagOp, X) -> T, x: X) -> T {
        let op = self.known_flags();
        f(self, op, x)
    }
    fn by_flag_image<T, X: Copy>(&mut self, f: impl Fn(&mut Self, FlagOp, X) -> T, x: X) -> T {
        self.by_flag_op(f, x)
    }

    fn set_direction(&mut self, down: bool) {
        self.steps.push(Step::Direction(down));
    }
    #[inline(never)]
    fn divide(&mut self, signed: bool, hi: Val, lo: Val, d: Val) -> Result<Val, Leave> {
        // More than 64 bits, a fault, and what WebAssembly traps at: the interpreter's.
        let wide = match self.values.node(hi) {
            Node::Bin(Bin::Sar, v, n) if signed && v == lo && self.values.constant(n) == Some(63) => self.values.imm(0),
            _ => {
                let above = if signed { self.sign(lo) } else { self.values.imm(0) };
                self.values.bin(Bin::Ne, hi, above)
            }
        };
        self.leave_if(wide);
        let bad = if signed {
            let one = self.values.imm(1);
            let next = self.values.bin(Bin::Add, d, one);
            let two = self.values.imm(2);
            self.values.bin(Bin::LtU, next, two)
        } else {
            self.is_zero(d)
        };
        self.leave_if(bad);
        Ok(self.values.push(Node::Quotient(signed, lo, d), 64))
    }

    // What has no short form, and MMX registers, are the interpreter's.
    fn simd(&mut self, unit: Unit) -> Result<(), Leave> {
        self.failed |= unit != Unit::Sse;
        if !self.simd {
            self.simd = true;
            self.steps.push(Step::Simd);
        }
        Ok(())
    }
    #[inline(never)]
    fn vget(&mut self, n: u8) -> Val {
        let n = XMM + (n & 15);
        self.regs[usize::from(n)].unwrap_or_else(|| self.register(n))
    }
    #[inline(never)]
    fn vset(&mut self, n: u8, v: Val) {
        self.regs[usize::from(XMM + (n & 15))] = Some(v);
    }
    fn mget(&mut self, _: u8) -> Val {
        self.fail()
    }
    fn mset(&mut self, _: u8, _: Val) {
        self.failed = true;
    }
    fn enter_mmx(&mut self) {
        self.failed = true;
    }
    #[inline(never)]
    fn vload(&mut self, at: Linear<Val>, aligned: bool) -> Result<Val, Leave> {
        let (to, v) = self.temporary(VECTOR);
        self.steps.push(Step::LoadVector { to, at: at.at, aligned });
        Ok(v)
    }
    #[inline(never)]
    fn vstore(&mut self, at: Linear<Val>, aligned: bool, v: Val) -> Result<(), Leave> {
        self.steps.push(Step::StoreVector { at: at.at, aligned, v });
        Ok(())
    }
    #[inline(never)]
    fn vimm(&mut self, v: V128) -> Val {
        self.values.vector(v)
    }
    #[inline(never)]
    fn vpair(&mut self, lo: Val, hi: Val) -> Val {
        self.values.pair(lo, hi)
    }
    #[inline(never)]
    fn vextract(&mut self, v: Val, lane: Size, k: u8) -> Val {
        self.values.lane(v, lane, k)
    }
    #[inline(never)]
    fn vinsert(&mut self, v: Val, lane: Size, k: u8, x: Val) -> Val {
        self.values.with_lane(v, lane, k, x)
    }
    #[inline(never)]
    fn vsigns(&mut self, v: Val, lane: Size) -> Val {
        self.values.signs(v, lane)
    }
    #[inline(never)]
    fn vec(&mut self, op: VecOp, a: Val, b: Val) -> Val {
        match self.values.vec(op, a, b) {
            Some(v) => v,
            None => self.fail(),
        }
    }
    #[inline(never)]
    fn vec_imm(&mut self, op: VecImm, a: Val, b: Val, imm: u8) -> Val {
        match self.values.vec_imm(op, a, b, imm) {
            Some(v) => v,
            None => self.fail(),
        }
    }
    #[inline(never)]
    fn vec_shift(&mut self, op: VecShift, v: Val, count: Val) -> Val {
        self.values.vec_shift(op, v, count)
    }

    fn float(&mut self, op: FloatOp, of: Floats, a: Val, b: Val) -> Result<Val, Leave> {
        let fast = self.fast();
        let r = self.values.float(op, of, fast, a, b);
        Ok(self.guarded(r))
    }
    fn float_relation(&mut self, _: bool, of: Floats, a: Val, b: Val) -> Result<Val, Leave> {
        let r = self.values.float_relation(of, a, b);
        Ok(self.guarded(r))
    }
    fn float_convert(&mut self, how: FloatConversion, b: Val) -> Result<Val, Leave> {
        let fast = self.fast();
        let r = self.values.float_convert(how, fast, b);
        Ok(self.guarded(r))
    }
    fn float_resize(&mut self, of: Floats, a: Val, b: Val) -> Result<Val, Leave> {
        let fast = self.fast();
        let r = self.values.float_resize(of, fast, a, b);
        Ok(self.guarded(r))
    }
    fn float_of_int(&mut self, of: Floats, a: Val, x: Val, size: Size) -> Result<Val, Leave> {
        let fast = self.fast();
        let r = self.values.float_of_int(of, fast, a, x, size);
        Ok(self.guarded(r))
    }
    fn float_to_int(&mut self, of: Floats, b: Val, truncate: bool, size: Size) -> Result<Val, Leave> {
        let fast = self.fast();
        let r = self.values.float_to_int(of, fast, b, truncate, size);
        Ok(self.guarded(r))
    }
}
