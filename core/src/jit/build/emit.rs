//! [`Emit`] that keeps what is to be done.

use super::{Builder, Flags, Jump, Leave, Op, Step};
use crate::cpu::{Cpu, Done, Vector, reg};
use crate::decode::insn::{Insn, slot};
use crate::emit::{Bin, Emit, FloatConversion, FloatOp, Floats, Linear, Mode, Slot, Un, Unit, Unit87};
use crate::flags::{self, FlagOp};
use crate::isa::Handler;
use crate::jit::ir::{Node, VECTOR, Val};
use crate::jit::locals::XMM;
use crate::jit::x87::Part87;
use crate::size::Size;
use crate::vector::{V128, VecImm, VecOp, VecShift};

// Out of line: every instruction's semantics call these, and how fast they are matters little.
impl Emit for Builder<'_> {
    type Val = Val;
    type Vec = Val;
    type Stop = Leave;
    const COPIES: bool = false;

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
            Slot::System => self.field(s, 32),
            Slot::Selector(_) => self.field(s, 16),
            Slot::Cpl => self.field(s, 2),
            Slot::KernelGsBase | Slot::Cr4 => self.field(s, 64),
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
            Slot::System | Slot::KernelGsBase | Slot::SegBase(reg::FS..) => self.set_field(s, v),
            Slot::Gpr(_) | Slot::SegBase(_) | Slot::Selector(_) | Slot::Cpl | Slot::Cr4 => self.failed = true,
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
    fn segmented(&mut self, seg: u8, offset: Val, size: u8, write: bool) -> Result<Linear<Val>, Leave> {
        if self.long {
            let base = if seg >= reg::FS { self.get(Slot::SegBase(seg)) } else { self.values.imm(0) };
            return Ok(Linear { at: self.values.bin(Bin::Add, base, offset), stack: false });
        }
        // All but FS and GS are flat in code that is compiled; a code segment cannot be written.
        if seg < reg::FS {
            self.failed |= seg == reg::CS && write;
            return Ok(Linear { at: self.values.cut(offset, 32), stack: false });
        }
        self.steps.push(Step::Whole(seg));
        let (last, four) = (self.values.imm((1 << 32) - u64::from(size)), self.values.imm(u32::MAX.into()));
        let beyond = self.values.bin(Bin::LtU, last, offset);
        self.leave_if(beyond);
        let base = self.get(Slot::SegBase(seg));
        let at = self.values.bin(Bin::Add, base, offset);
        Ok(Linear { at: self.values.bin(Bin::And, at, four), stack: false })
    }
    #[inline(never)]
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
    #[inline(never)]
    fn carry(&mut self) -> Val {
        match (self.flag_op, self.before) {
            (None, Flags::Told) => self.carry_told(),
            _ => self.by_flag_op(flags::cf_of_op, ()),
        }
    }
    fn by_flag_image<T, X: Copy>(&mut self, f: impl Fn(&mut Self, FlagOp, X) -> T, x: X) -> T {
        self.by_flag_op(f, x)
    }

    #[inline(never)]
    fn mode_is(&mut self, mode: Mode) -> Val {
        // Code that is compiled runs in flat segments, which neither real nor virtual-8086 mode has.
        let is = match mode {
            Mode::Protected => true,
            Mode::V86 => false,
            Mode::Long => self.long,
        };
        self.values.imm(is.into())
    }
    #[inline(never)]
    fn set_system(&mut self, v: Val) -> Result<(), Leave> {
        // What something else follows from is the interpreter's.
        let old = self.get(Slot::System);
        let changed = self.values.bin(Bin::Xor, old, v);
        let more = self.andi(changed, flags::TF | flags::RF | flags::VM | flags::AC);
        self.leave_if(more);
        self.set(Slot::System, v);
        Ok(())
    }
    #[inline(never)]
    fn let_interrupts_in(&mut self, c: Val, _: bool) -> Result<(), Leave> {
        self.steps.extend([Step::If(c), Step::Quiet, Step::End]);
        Ok(())
    }
    fn hold_off(&mut self) {
        self.failed = true;
    }
    #[inline(never)]
    fn set_ac(&mut self, on: bool) {
        let old = self.get(Slot::System);
        let new = if on { self.ori(old, flags::AC) } else { self.andi(old, !flags::AC) };
        self.set(Slot::System, new);
        self.steps.push(Step::Access(on));
    }
    #[inline(never)]
    fn load_segment(&mut self, s: u8, selector: Val) -> Result<(), Leave> {
        self.failed |= s == reg::SS;
        self.steps.push(Step::Segment { s, selector });
        Ok(())
    }
    #[inline(never)]
    fn time_stamp(&mut self) -> Val {
        let (to, v) = self.temporary(64);
        self.steps.push(Step::Time { to });
        v
    }
    #[inline(never)]
    fn whole(&mut self, _: &Insn, _: fn(&mut Cpu, &Insn) -> Done) -> Result<(), Leave> {
        Err(Leave)
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
        Ok(self.values.quotient(signed, lo, d))
    }

    // What has no short form, and MMX registers, are the interpreter's.
    #[inline(never)]
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
    #[inline(never)]
    fn mget(&mut self, _: u8) -> Val {
        self.fail()
    }
    #[inline(never)]
    fn mset(&mut self, _: u8, _: Val) {
        self.failed = true;
    }
    #[inline(never)]
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
    fn vmodify(&mut self, at: Linear<Val>, f: impl FnOnce(&mut Self, Val) -> Val) -> Result<Val, Leave> {
        let (to, old) = self.temporary(VECTOR);
        self.steps.push(Step::ModifyVector { to, at: at.at });
        let v = f(self, old);
        self.steps.push(Step::ModifiedVector { v });
        Ok(old)
    }
    #[inline(never)]
    fn vimm(&mut self, v: V128) -> Val {
        self.values.vector(v)
    }
    #[inline(never)]
    fn vpair(&mut self, lo: Val, hi: Val) -> Val {
        if let (Some(0), Node::Local(local)) = (self.values.constant(hi), self.values.node(lo)) {
            if let Some(v) = self.loaded_low(lo, local) {
                return v;
            }
        }
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

    #[inline(never)]
    fn float(&mut self, op: FloatOp, of: Floats, a: Val, b: Val) -> Result<Val, Leave> {
        let fast = self.fast();
        let r = self.values.float(op, of, fast, a, b);
        Ok(self.guarded(r))
    }
    #[inline(never)]
    fn float_relation(&mut self, _: bool, of: Floats, a: Val, b: Val) -> Result<Val, Leave> {
        let r = self.values.float_relation(of, a, b);
        Ok(self.guarded(r))
    }
    #[inline(never)]
    fn float_convert(&mut self, how: FloatConversion, b: Val) -> Result<Val, Leave> {
        let fast = self.fast();
        let r = self.values.float_convert(how, fast, b);
        Ok(self.guarded(r))
    }
    #[inline(never)]
    fn float_resize(&mut self, of: Floats, a: Val, b: Val) -> Result<Val, Leave> {
        let fast = self.fast();
        let r = self.values.float_resize(of, fast, a, b);
        Ok(self.guarded(r))
    }
    #[inline(never)]
    fn float_of_int(&mut self, of: Floats, a: Val, x: Val, size: Size) -> Result<Val, Leave> {
        let fast = self.fast();
        let r = self.values.float_of_int(of, fast, a, x, size);
        Ok(self.guarded(r))
    }
    #[inline(never)]
    fn float_to_int(&mut self, of: Floats, b: Val, truncate: bool, size: Size) -> Result<Val, Leave> {
        let fast = self.fast();
        let r = self.values.float_to_int(of, fast, b, truncate, size);
        Ok(self.guarded(r))
    }

    #[inline(never)]
    fn x87(&mut self) -> Result<(), Leave> {
        self.x87_begin();
        Ok(())
    }
    #[inline(never)]
    fn x87_note(&mut self, _: &Insn, at: Option<Val>) {
        self.noted = Some(at.is_some());
        if let Some(v) = at {
            self.guarded.push(Step::Put { of: Part87::Data, index: None, v });
        }
    }
    #[inline(never)]
    fn x87_do(&mut self, what: Unit87<Val>) {
        self.x87_what(what);
    }
    #[inline(never)]
    fn x87_store(&mut self, at: Linear<Val>, single: bool, pop: bool) -> Result<(), Leave> {
        self.x87_store_number(at, single, pop);
        Ok(())
    }
    #[inline(never)]
    fn x87_relation(&mut self, i: u8, _: bool, pop: bool) -> Val {
        self.x87_flags(i, pop)
    }
    #[inline(never)]
    fn x87_plain(&mut self, _: &Insn, _: Handler) -> Result<(), Leave> {
        (self.unit, self.failed) = (true, true);
        Ok(())
    }
}
