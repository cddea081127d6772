//! Comparisons, FXAM, and the conditional moves.

use super::arith::Operand;
use super::{C0, C1, C2, C3, CODES, Fpu};
use crate::float::{Class, Env, F80, Relation, Unpacked, x87};

/// What FCOMI and FUCOMI write; OF, SF and AF are cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eflags {
    /// Equal or unordered.
    pub zf: bool,
    /// Unordered.
    pub pf: bool,
    /// Less or unordered.
    pub cf: bool,
}

impl From<Relation> for Eflags {
    fn from(r: Relation) -> Self {
        let unordered = r == Relation::Unordered;
        Eflags { zf: unordered || r == Relation::Equal, pf: unordered, cf: unordered || r == Relation::Less }
    }
}

/// Condition codes of a comparison (SDM 2, table 3-21).
fn codes(r: Relation) -> u16 {
    match r {
        Relation::Greater => 0,
        Relation::Less => C0,
        Relation::Equal => C3,
        Relation::Unordered => C0 | C2 | C3,
    }
}

impl Fpu {
    /// Compare ST(0) with an operand that may be missing: the relation, which is delivered even
    /// at an unmasked exception, and whether the instruction may pop.
    fn relation(&mut self, src: Option<Unpacked>, quiet: bool) -> (Relation, bool) {
        let (Some(src), false) = (src, self.is_empty(0)) else {
            return (Relation::Unordered, self.stack_fault(false));
        };
        let mut env: Env = self.env();
        let r = x87::compare(&mut env, &self.st(0).unpack(), &src, !quiet);
        (r, self.settle(&env))
    }

    fn operand(&self, src: Operand) -> Option<Unpacked> {
        (!src.is_empty(self)).then(|| src.unpack(self))
    }

    fn compare(&mut self, src: Option<Unpacked>, quiet: bool, pops: u8) {
        let (r, go_on) = self.relation(src, quiet);
        self.sw = self.sw & !CODES | codes(r);
        if go_on {
            for _ in 0..pops {
                self.pop();
            }
        }
    }

    /// FCOM, FCOMP (`pops` 1), FCOMPP (`pops` 2), FICOM, FICOMP: a quiet NaN is invalid.
    pub fn fcom(&mut self, src: Operand, pops: u8) {
        self.compare(self.operand(src), false, pops);
    }

    /// FUCOM, FUCOMP, FUCOMPP: a quiet NaN is just unordered.
    pub fn fucom(&mut self, i: u8, pops: u8) {
        self.compare(self.operand(Operand::St(i)), true, pops);
    }

    /// FTST: compare with +0.
    pub fn ftst(&mut self) {
        self.compare(Some(Unpacked::zero(false)), false, 0);
    }

    /// FCOMI, FCOMIP, FUCOMI (`quiet`), FUCOMIP. EFLAGS are written even at an unmasked exception.
    /// C1 stays, unless the stack underflows.
    pub fn fcomi(&mut self, i: u8, quiet: bool, pop: bool) -> Eflags {
        let c1 = self.sw & C1;
        let underflow = self.is_empty(0) || self.is_empty(i);
        let (r, go_on) = self.relation(self.operand(Operand::St(i)), quiet);
        if !underflow {
            self.sw |= c1;
        }
        if go_on && pop {
            self.pop();
        }
        r.into()
    }

    /// FXAM: the class of ST(0) in C3, C2, C0 and its sign in C1 (SDM 2, table 3-48).
    pub fn fxam(&mut self) {
        let a = self.st(0);
        let class = if self.is_empty(0) {
            C3 | C0
        } else {
            let u = a.unpack();
            match u.class {
                Class::Unsupported => 0,
                Class::Quiet | Class::Signaling => C0,
                Class::Finite if u.denormal => C3 | C2,
                Class::Finite => C2,
                Class::Infinite => C2 | C0,
                Class::Zero => C3,
            }
        };
        self.sw = self.sw & !CODES | class | if a.sign() { C1 } else { 0 };
    }

    /// FCMOVcc: ST(0) = ST(i) if the caller's condition holds.
    pub fn fcmov(&mut self, condition: bool, i: u8) {
        if self.is_empty(0) || self.is_empty(i) {
            if self.stack_fault(false) {
                self.put(0, F80::INDEFINITE);
            }
            return;
        }
        if condition {
            self.put(0, self.st(i));
        }
    }

    /// FXCH: an empty register counts as the indefinite.
    pub fn fxch(&mut self, i: u8) {
        if self.is_empty(0) || self.is_empty(i) {
            if !self.stack_fault(false) {
                return;
            }
        } else {
            self.sw &= !C1;
        }
        let or_indefinite = |fpu: &Fpu, i| if fpu.is_empty(i) { F80::INDEFINITE } else { fpu.st(i) };
        let (a, b) = (or_indefinite(self, 0), or_indefinite(self, i));
        self.put(0, b);
        self.put(i, a);
    }
}
