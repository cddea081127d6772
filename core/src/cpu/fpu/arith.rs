//! Arithmetic: FADD to FDIVR in all operand forms, and the one-operand instructions.

use super::{C0, C1, C2, C3, Fpu};
use crate::emit::{Number, Unit87};
use crate::float::quick::{self, Normal, Quick, Register};
use crate::float::words::{Now, Words};
use crate::float::{Env, F80, Unpacked, x87};

/// The six two-operand operations, in opcode order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arith {
    /// FADD: dst + src
    Add,
    /// FMUL: dst * src
    Mul,
    /// FSUB: dst - src
    Sub,
    /// FSUBR: src - dst
    SubR,
    /// FDIV: dst / src
    Div,
    /// FDIVR: src / dst
    DivR,
}

/// The second operand of an arithmetic instruction or comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// ST(i).
    St(u8),
    /// m32fp bits.
    F32(u32),
    /// m64fp bits.
    F64(u64),
    /// m16int.
    I16(i16),
    /// m32int.
    I32(i32),
}

impl Operand {
    #[inline]
    pub(super) fn is_empty(self, fpu: &Fpu) -> bool {
        matches!(self, Operand::St(i) if fpu.is_empty(i))
    }

    /// The operand as a normal floating-point number.
    #[inline(always)]
    fn normal(self, w: &mut Now, fpu: &Fpu) -> Normal<u64> {
        match self {
            Operand::St(i) => Normal::of(w, fpu.st(i).into()),
            Operand::F32(bits) => Normal::of_f32(w, bits.into()),
            Operand::F64(bits) => Normal::of_f64(w, bits),
            Operand::I16(v) => Normal::of_integer(w, i64::from(v) as u64),
            Operand::I32(v) => Normal::of_integer(w, i64::from(v) as u64),
        }
    }

    #[inline]
    pub(super) fn unpack(self, fpu: &Fpu) -> Unpacked {
        match self {
            Operand::St(i) => fpu.st(i).unpack(),
            Operand::F32(bits) => x87::unpack_f32(bits),
            Operand::F64(bits) => x87::unpack_f64(bits),
            Operand::I16(v) => Unpacked::integer(i64::from(v)),
            Operand::I32(v) => Unpacked::integer(i64::from(v)),
        }
    }
}

impl Arith {
    /// `dst op src` in the common case.
    #[inline(always)]
    pub fn quick<A: Words>(
        self,
        w: &mut A,
        dst: Normal<A::Word>,
        src: Normal<A::Word>,
    ) -> Quick<Register<A::Word>, A::Word> {
        match self {
            Arith::Add => quick::add(w, dst, src),
            Arith::Mul => quick::mul(w, dst, src),
            Arith::Sub => {
                let src = src.negated(w);
                quick::add(w, dst, src)
            }
            Arith::SubR => {
                let dst = dst.negated(w);
                quick::add(w, src, dst)
            }
            Arith::Div => quick::div(w, dst, src),
            Arith::DivR => quick::div(w, src, dst),
        }
    }
}

#[inline]
fn compute(env: &mut Env, op: Arith, dst: &Unpacked, src: &Unpacked) -> F80 {
    match op {
        Arith::Add => x87::add(env, dst, src),
        Arith::Mul => x87::mul(env, dst, src),
        Arith::Sub => x87::sub(env, dst, src),
        Arith::SubR => x87::sub(env, src, dst),
        Arith::Div => x87::div(env, dst, src),
        Arith::DivR => x87::div(env, src, dst),
    }
}

impl From<Number<u64>> for Operand {
    #[inline(always)]
    fn from(n: Number<u64>) -> Self {
        match n {
            Number::St(i) => Operand::St(i),
            Number::Single(bits) => Operand::F32(bits as u32),
            Number::Double(bits) => Operand::F64(bits),
            Number::Integer(v) => Operand::I32(v as i32),
            Number::One => Operand::I32(1),
            Number::Zero => Operand::I32(0),
        }
    }
}

impl Fpu {
    /// Does what an instruction says.
    #[inline(always)]
    pub fn run(&mut self, what: Unit87<u64>) {
        match what {
            Unit87::Load(Number::St(i)) => self.fld_st(i),
            Unit87::Load(Number::Single(bits)) => self.fld_f32(bits as u32),
            Unit87::Load(Number::Double(bits)) => self.fld_f64(bits),
            Unit87::Load(Number::Integer(v)) => self.fild(v as i64),
            Unit87::Load(Number::One) => self.fld1(),
            Unit87::Load(Number::Zero) => self.fldz(),
            Unit87::Arith(op, i, src, pop) => self.combine(op, i, src.into(), pop),
            Unit87::Negate => self.fchs(),
            Unit87::Absolute => self.fabs(),
            Unit87::Root => self.fsqrt(),
            Unit87::Exchange(i) => self.fxch(i),
            Unit87::Copy(i, pop) => self.fst_st(i, pop),
            Unit87::Compare { with: Number::St(i), quiet: true, pops } => self.fucom(i, pops),
            Unit87::Compare { with, pops, .. } => self.fcom(with.into(), pops),
        }
    }

    /// D8 group, DC with memory, DA and DE with memory: ST(0) = ST(0) op src.
    #[inline(always)]
    pub fn arith(&mut self, op: Arith, src: Operand) {
        self.combine(op, 0, src, false);
    }

    /// DC and DE groups with registers: ST(i) = ST(i) op ST(0), then pop for the P forms.
    #[inline(always)]
    pub fn arith_to(&mut self, op: Arith, i: u8, pop: bool) {
        self.combine(op, i, Operand::St(0), pop);
    }

    /// ST(i) = ST(i) op src, then pop if asked for.
    #[inline(always)]
    fn combine(&mut self, op: Arith, i: u8, src: Operand, pop: bool) {
        if src.is_empty(self) || self.is_empty(i) || !self.is_common() || !self.quick(op, i, src) {
            self.arith_any(op, i, src, pop);
        } else if pop {
            self.pop();
        }
    }

    /// ST(i) = ST(i) op src, in the common case ([`quick`]). `false`: it is not.
    #[inline(always)]
    fn quick(&mut self, op: Arith, i: u8, src: Operand) -> bool {
        let dst = self.st(i).into();
        let operands = quick::now(|w| (Normal::of(w, dst), src.normal(w, self)));
        let r = operands.and_then(|(a, b)| quick::now(|w| op.quick(w, a, b)));
        let Some(r) = r else { return false };
        self.sw = self.sw & !C1 | r.status as u16;
        self.put(i, r.value.into());
        true
    }

    /// ST(i) = ST(i) op src, then pop if asked for, in all cases.
    #[inline(never)]
    fn arith_any(&mut self, op: Arith, i: u8, src: Operand, pop: bool) {
        let v = if self.is_empty(i) || src.is_empty(self) {
            self.stack_fault(false).then_some(F80::INDEFINITE)
        } else {
            let mut env = self.env();
            let v = compute(&mut env, op, &self.st(i).unpack(), &src.unpack(self));
            self.settle(&env).then_some(v)
        };
        if let Some(v) = v {
            self.put(i, v);
            if pop {
                self.pop();
            }
        }
    }

    /// FCHS. No exception but stack underflow.
    pub fn fchs(&mut self) {
        self.unary(|_, a| F80 { se: a.se ^ 0x8000, ..a });
    }

    /// FABS. No exception but stack underflow.
    pub fn fabs(&mut self) {
        self.unary(|_, a| F80 { se: a.se & 0x7fff, ..a });
    }

    /// FSQRT.
    pub fn fsqrt(&mut self) {
        self.unary(|env, a| x87::sqrt(env, &a.unpack()));
    }

    /// FRNDINT.
    pub fn frndint(&mut self) {
        self.unary(|env, a| x87::round_integral(env, &a.unpack()));
    }

    /// FSCALE: ST(0) * 2^trunc(ST(1)).
    pub fn fscale(&mut self) {
        let by = self.st(1);
        if self.is_empty(1) && !self.is_empty(0) {
            if self.stack_fault(false) {
                self.put(0, F80::INDEFINITE);
            }
            return;
        }
        self.unary(|env, a| x87::scale(env, &a.unpack(), &by.unpack()));
    }

    /// FXTRACT: ST(0) becomes the exponent, then the significand is pushed.
    pub fn fxtract(&mut self) {
        let (underflow, overflow) = (self.is_empty(0), !self.is_empty(7));
        if underflow || overflow {
            if self.stack_fault(!underflow) {
                self.put(0, F80::INDEFINITE);
                self.push(F80::INDEFINITE);
            }
            return;
        }
        let mut env = self.env();
        let (exponent, significand) = x87::extract(&mut env, &self.st(0).unpack());
        if self.settle(&env) {
            self.put(0, exponent);
            self.push(significand);
        }
    }

    /// FPREM (`nearest` false) and FPREM1: the partial remainder of ST(0) by ST(1).
    /// C2 says incomplete; C0, C3, C1 are quotient bits 2, 1, 0,
    /// unless there is no quotient, which leaves C0 and C3.
    pub fn fprem(&mut self, nearest: bool) {
        if self.is_empty(0) || self.is_empty(1) {
            self.sw &= !C2;
            if self.stack_fault(false) {
                self.put(0, F80::INDEFINITE);
            }
            return;
        }
        let mut env = self.env();
        let r = x87::remainder(&mut env, &self.st(0).unpack(), &self.st(1).unpack(), nearest);
        self.sw &= !C2;
        if !self.settle(&env) {
            return;
        }
        self.put(0, r.value);
        if r.partial {
            self.sw = self.sw & !(C0 | C3) | C2;
        } else if !r.invalid {
            let bit = |n: u64, c: u16| if r.quotient >> n & 1 != 0 { c } else { 0 };
            self.sw = self.sw & !(C0 | C3) | bit(2, C0) | bit(1, C3) | bit(0, C1);
        }
    }
}
