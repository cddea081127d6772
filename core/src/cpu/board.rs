//! The board, lent to the CPU for the length of one run.
//!
//! UNSAFETY: instructions reach the board through the CPU, and so will code generated at run
//! time, which has only a pointer to the CPU. The slot holds the board's address while
//! `Vcpu::run` has it mutably borrowed; outside a run it is empty and every access says so.

use crate::bus::{Bus, Trap};
use core::ptr::NonNull;

/// Holds the board while a run lasts.
#[derive(Default)]
pub(crate) struct BoardSlot(Option<NonNull<dyn Bus>>);

impl super::Cpu {
    /// Runs `f` with `bus` in reach of the instructions.
    pub(crate) fn with_board<R>(&mut self, bus: &mut dyn Bus, f: impl FnOnce(&mut Self) -> R) -> R {
        let ptr: NonNull<dyn Bus + '_> = NonNull::from(bus);
        // SAFETY: only the lifetime changes. The slot is cleared below before the borrow of
        // `bus` ends; panics abort, so there is no way around it.
        let ptr: NonNull<dyn Bus + 'static> = unsafe { core::mem::transmute(ptr) };
        self.board = BoardSlot(Some(ptr));
        let r = f(self);
        self.board = BoardSlot(None);
        r
    }

    /// Lets the board's hypervisor work on this CPU.
    ///
    /// # Errors
    /// As [`Bus::trap`].
    pub(crate) fn trap(&mut self, trap: Trap) -> super::Done {
        let Some(mut ptr) = self.board.0.take() else { return Err(super::fault(super::Vector::UD)) };
        let retired = self.retired();
        // SAFETY: `with_board` holds the exclusive borrow that this points to. The slot is empty while the reference
        // lives, so `bus` cannot make a second one from it.
        let bus = unsafe { ptr.as_mut() };
        bus.sync(retired);
        let r = bus.trap(self, trap);
        self.board = BoardSlot(Some(ptr));
        r
    }

    /// The board, with its clock at the running instruction. While the board's hypervisor works on the CPU nobody
    /// answers.
    pub(crate) fn bus(&mut self) -> &mut dyn Bus {
        let retired = self.retired();
        let Some(mut ptr) = self.board.0 else { return &mut self.nobody };
        // SAFETY: `with_board` holds the exclusive borrow that this points to, and the result
        // borrows the whole CPU, so there is no second reference at the same time.
        let bus = unsafe { ptr.as_mut() };
        bus.sync(retired);
        bus
    }
}
