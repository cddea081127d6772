//! FSIN, FCOS, FSINCOS, FPTAN, FPATAN, F2XM1, FYL2X, FYL2XP1 on the stack.

use super::{C1, C2, Fpu};
use crate::float::elementary::{self, Trig};
use crate::float::{Env, F80, Unpacked};

impl Fpu {
    /// True if ST(0) is beyond the range of the trigonometric instructions; C2 says so.
    fn out_of_range(&mut self) -> bool {
        let out = !elementary::in_range(&self.st(0).unpack());
        if out {
            self.sw = self.sw & !C1 | C2;
        }
        out
    }

    fn trig(&mut self, f: fn(&mut Env, &Unpacked) -> F80) {
        self.sw &= !C2;
        if !self.is_empty(0) && self.out_of_range() {
            return;
        }
        self.unary(|env, a| f(env, &a.unpack()));
    }

    /// FSIN.
    pub fn fsin(&mut self) {
        self.trig(elementary::sin);
    }

    /// FCOS.
    pub fn fcos(&mut self) {
        self.trig(elementary::cos);
    }

    fn trig_and_push(&mut self, f: fn(&mut Env, &Unpacked) -> Trig) {
        self.sw &= !C2;
        let (underflow, overflow) = (self.is_empty(0), !self.is_empty(7));
        if underflow || overflow {
            if self.stack_fault(!underflow) {
                self.put(0, F80::INDEFINITE);
                self.push(F80::INDEFINITE);
            }
            return;
        }
        if self.out_of_range() {
            return;
        }
        let mut env = self.env();
        let t = f(&mut env, &self.st(0).unpack());
        if self.settle(&env) {
            self.put(0, t.first);
            self.push(t.second);
        }
    }

    /// FSINCOS: ST(0) becomes the sine, then the cosine is pushed.
    pub fn fsincos(&mut self) {
        self.trig_and_push(elementary::sin_cos);
    }

    /// FPTAN: ST(0) becomes the tangent, then 1 is pushed.
    pub fn fptan(&mut self) {
        self.trig_and_push(elementary::tan);
    }

    /// F2XM1: ST(0) = 2^ST(0) - 1.
    pub fn f2xm1(&mut self) {
        self.unary(|env, a| elementary::exp2_minus_1(env, &a.unpack()));
    }

    /// ST(1) = f(ST(1), ST(0)), then pop.
    fn binary_and_pop(&mut self, f: fn(&mut Env, &Unpacked, &Unpacked) -> F80) {
        let go_on = if self.is_empty(0) || self.is_empty(1) {
            self.stack_fault(false).then_some(F80::INDEFINITE)
        } else {
            let mut env = self.env();
            let v = f(&mut env, &self.st(1).unpack(), &self.st(0).unpack());
            self.settle(&env).then_some(v)
        };
        if let Some(v) = go_on {
            self.put(1, v);
            self.pop();
        }
    }

    /// FPATAN: ST(1) = atan2(ST(1), ST(0)), pop.
    pub fn fpatan(&mut self) {
        self.binary_and_pop(elementary::atan2);
    }

    /// FYL2X: ST(1) = ST(1) * log2(ST(0)), pop.
    pub fn fyl2x(&mut self) {
        self.binary_and_pop(elementary::y_log2);
    }

    /// FYL2XP1: ST(1) = ST(1) * log2(ST(0) + 1), pop.
    pub fn fyl2xp1(&mut self) {
        self.binary_and_pop(elementary::y_log2_plus_1);
    }
}
