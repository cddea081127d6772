//! Walking over decoded instructions without asking at each step where they end.
//!
//! (Measured: with a checked index the interpreter's loop keeps index, length and base in
//! memory and runs at three quarters of the speed.)

use super::insn::Insn;
use crate::isa::hot::LEAVE;
use core::marker::PhantomData;

/// Instructions whose last one is a leave record: who walks until a leave record stays inside.
#[derive(Clone, Copy)]
pub struct Sealed<'a>(&'a [Insn]);

/// A place in a [`Sealed`] array.
#[derive(Clone, Copy)]
pub struct Cursor<'a>(*const Insn, PhantomData<&'a [Insn]>);

impl<'a> Sealed<'a> {
    /// These instructions, if their last one is a leave record.
    pub fn new(insns: &'a [Insn]) -> Option<Self> {
        insns.last().is_some_and(|last| last.op == LEAVE).then_some(Self(insns))
    }
    /// The instruction or record at a place.
    #[inline(always)]
    pub fn get(self, at: usize) -> Option<&'a Insn> {
        self.0.get(at)
    }
    /// The instructions between two places.
    pub fn range(self, from: usize, to: usize) -> &'a [Insn] {
        self.0.get(from..to).unwrap_or_default()
    }
    /// A cursor at a place.
    #[inline(always)]
    pub fn cursor(self, at: usize) -> Option<Cursor<'a>> {
        self.0.get(at).map(|i| Cursor(i, PhantomData))
    }
    /// The place of a cursor.
    pub fn place(self, cursor: Cursor<'a>) -> usize {
        (cursor.0.addr() - self.0.as_ptr().addr()) / size_of::<Insn>()
    }
}

impl<'a> Cursor<'a> {
    /// What is there.
    #[inline(always)]
    pub fn get(self) -> &'a Insn {
        // SAFETY: a cursor is made from a reference into the array, or by `next`, which stays inside.
        unsafe { &*self.0 }
    }
    /// The next place.
    ///
    /// # Safety
    /// This one is not a leave record; so it is not the last one.
    #[inline(always)]
    pub unsafe fn next(self) -> Self {
        // SAFETY: the array goes on behind every place but the last, which is a leave record.
        Self(unsafe { self.0.add(1) }, PhantomData)
    }
}
