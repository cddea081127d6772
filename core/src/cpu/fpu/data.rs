//! Loads and stores, integer and decimal conversions, constants.

use super::{C1, Fpu, SF, summarized};
use crate::float::quick::{self, Normal, Register};
use crate::float::x87::Constant;
use crate::float::{Env, F80, Rounding, Unpacked, bcd, flags, x87};

/// A store worked out but not yet done: write `value`, then [`Fpu::commit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the instruction is complete only after commit"]
pub struct Store<T> {
    /// What goes to memory; nothing at an unmasked exception that suppresses the store.
    pub value: Option<T>,
    /// The status word after the instruction, before the pop.
    sw: u16,
    pop: bool,
}

impl Fpu {
    /// FLD of a narrow format. It completes even if it found a denormal and DE is unmasked.
    #[inline]
    fn fld(&mut self, a: &Unpacked) {
        self.push_with(|env| {
            env.masks |= flags::DE;
            x87::load(env, a)
        });
    }

    /// Pushes a number that needs no look at the controls, unless the stack is full.
    #[inline(always)]
    fn quick_load(&mut self, v: Option<Register<u64>>) -> bool {
        let (Some(v), true) = (v, self.is_empty(7)) else { return false };
        self.sw &= !C1;
        self.push(v.into());
        true
    }

    /// FLD m32fp.
    pub fn fld_f32(&mut self, bits: u32) {
        if !self.quick_load(quick::now(|w| quick::widened(w, bits.into(), true))) {
            self.fld(&x87::unpack_f32(bits));
        }
    }

    /// FLD m64fp.
    pub fn fld_f64(&mut self, bits: u64) {
        if !self.quick_load(quick::now(|w| quick::widened(w, bits, false))) {
            self.fld(&x87::unpack_f64(bits));
        }
    }

    /// FLD m80fp: any pattern, no exception but stack overflow.
    pub fn fld_f80(&mut self, v: F80) {
        self.push_with(|_| v);
    }

    /// FLD ST(i).
    pub fn fld_st(&mut self, i: u8) {
        if self.is_empty(i) {
            if self.stack_fault(false) {
                self.push(F80::INDEFINITE);
            }
            return;
        }
        let v = self.st(i);
        self.push_with(|_| v);
    }

    /// FILD of any width.
    pub fn fild(&mut self, v: i64) {
        if !self.quick_load(quick::now(|w| quick::of_integer(w, v as u64))) {
            self.push_with(|_| x87::from_int(v));
        }
    }

    /// FBLD.
    pub fn fbld(&mut self, bytes: [u8; 10]) {
        self.push_with(|_| bcd::load(bytes));
    }

    /// FLD1.
    pub fn fld1(&mut self) {
        self.push_with(|_| F80::ONE);
    }

    /// FLDZ.
    pub fn fldz(&mut self) {
        self.push_with(|_| F80::ZERO);
    }

    /// FLDPI, FLDL2T, FLDL2E, FLDLG2, FLDLN2.
    pub fn fld_constant(&mut self, which: Constant) {
        self.push_with(|env| x87::constant(env.rounding, which));
    }

    /// Work out a store of ST(0) without changing anything.
    fn store<T>(&self, pop: bool, indefinite: T, convert: impl FnOnce(&mut Env, &Unpacked) -> T) -> Store<T> {
        let mut env = self.env();
        let mut sw = self.sw & !C1;
        let value = if self.is_empty(0) {
            env.raise(flags::IE);
            sw |= SF;
            indefinite
        } else {
            convert(&mut env, &self.st(0).unpack())
        };
        sw |= u16::from(env.flags) | if env.c1 { C1 } else { 0 };
        // An unmasked PE alone still stores (SDM 1, 8.5.6).
        let write = env.unmasked() & !flags::PE == 0;
        Store { value: write.then_some(value), sw: summarized(sw, self.cw), pop: pop && write }
    }

    /// Finish a store after its value, if any, is in memory.
    pub fn commit<T>(&mut self, store: Store<T>) {
        self.sw = store.sw;
        if store.pop {
            self.pop();
        }
    }

    /// A store in the common case.
    #[inline(always)]
    fn quick_store(&self, single: bool, pop: bool) -> Option<Store<u64>> {
        if !self.is_common() || self.is_empty(0) {
            return None;
        }
        let r = quick::now(|w| Normal::of(w, self.st(0).into()).narrowed(w, single))?;
        Some(Store { value: Some(r.value), sw: self.sw & !C1 | r.status as u16, pop })
    }

    /// FST(P) m32fp.
    pub fn fst_f32(&self, pop: bool) -> Store<u32> {
        match self.quick_store(true, pop) {
            Some(s) => Store { value: s.value.map(|v| v as u32), sw: s.sw, pop: s.pop },
            None => self.store(pop, 0xffc0_0000, x87::to_f32),
        }
    }

    /// FST(P) m64fp.
    pub fn fst_f64(&self, pop: bool) -> Store<u64> {
        self.quick_store(false, pop).unwrap_or_else(|| self.store(pop, 0xfff8_0000_0000_0000, x87::to_f64))
    }

    /// FSTP m80fp: the register as it is.
    pub fn fstp_f80(&self) -> Store<F80> {
        self.store(true, F80::INDEFINITE, |_, _| self.st(0))
    }

    /// FST(P) ST(i): a copy of any pattern.
    pub fn fst_st(&mut self, i: u8, pop: bool) {
        let store = self.store(pop, F80::INDEFINITE, |_, _| self.st(0));
        if let Some(v) = store.value {
            self.put(i, v);
        }
        self.commit(store);
    }

    fn store_int(&self, bits: u32, rounding: Rounding, pop: bool) -> Store<i64> {
        self.store(pop, i64::MIN >> (64 - bits), |env, a| x87::to_int(env, a, rounding, bits))
    }

    /// FIST(P) m16int.
    pub fn fist_i16(&self, pop: bool) -> Store<i64> {
        self.store_int(16, self.env().rounding, pop)
    }

    /// FIST(P) m32int.
    pub fn fist_i32(&self, pop: bool) -> Store<i64> {
        self.store_int(32, self.env().rounding, pop)
    }

    /// FISTP m64int.
    pub fn fistp_i64(&self) -> Store<i64> {
        self.store_int(64, self.env().rounding, true)
    }

    /// FISTTP m16int.
    pub fn fisttp_i16(&self) -> Store<i64> {
        self.store_int(16, Rounding::Zero, true)
    }

    /// FISTTP m32int.
    pub fn fisttp_i32(&self) -> Store<i64> {
        self.store_int(32, Rounding::Zero, true)
    }

    /// FISTTP m64int.
    pub fn fisttp_i64(&self) -> Store<i64> {
        self.store_int(64, Rounding::Zero, true)
    }

    /// FBSTP.
    pub fn fbstp(&self) -> Store<[u8; 10]> {
        self.store(true, bcd::INDEFINITE, bcd::store)
    }
}
