//! What is pending between instructions: a nearer deadline of the board, debug traps, interrupts.

use super::exception::Source;
use super::{Cpu, Shadow, Vector, event};
use crate::bus::Trap;
use crate::flags;

impl Cpu {
    /// Delivers what is pending, if the instruction before lets it. `true`: there may be more.
    pub(crate) fn take_pending(&mut self) -> bool {
        self.keep_to_allowance();
        if self.preempted() {
            // It answers to nobody's instruction, so it cannot fail.
            let _ = self.trap(Trap::Preempted);
        }
        self.interrupt_waiting = self.bus().interrupt_pending();
        if self.pending_db != 0 && self.shadow != Shadow::MovSs {
            let bits = core::mem::take(&mut self.pending_db);
            self.tell_dr6(bits);
            self.deliver(Vector::DB as u8, Source::Exception(None));
        }
        if self.shadow != Shadow::None {
            return false;
        }
        if !self.nmi_blocked && self.bus().take_nmi() {
            self.stats.interrupts += 1;
            self.nmi_blocked = true;
            self.deliver(Vector::NMI as u8, Source::External);
        } else if self.flag(flags::IF) && self.interrupt_waiting {
            if let Some(v) = self.bus().acknowledge() {
                self.stats.interrupts += 1;
                self.deliver(v, Source::External);
            }
            // Delivery may also have failed.
            return true;
        }
        false
    }

    /// Is [`Cpu::take_pending`] all there is to do, and would it find nothing? Then there are no events any more. A
    /// shadow of the instruction before is given up as well: with nothing to hold off, and one more instruction sure to
    /// run before the board can bring something, nobody can tell.
    pub(crate) fn nothing_pending(&mut self) -> bool {
        let steps = self.events & event::STEP != 0;
        let shadow = self.shadow != Shadow::None;
        if self.events & !(event::CHECK | event::STEP) != 0 || self.pending_db != 0 || steps && !shadow {
            return false;
        }
        self.keep_to_allowance();
        if self.preempted() {
            return false;
        }
        self.interrupt_waiting = self.bus().interrupt_pending();
        let interrupt = self.flag(flags::IF) && self.interrupt_waiting;
        if interrupt || !self.nmi_blocked && self.bus().nmi_pending() || shadow && self.left == 0 {
            return false;
        }
        self.events &= !event::CHECK;
        if shadow {
            self.shadow = Shadow::None;
            self.update_step();
        }
        self.events == 0
    }

    /// IF has changed from 0 to 1, at the end of a block. As long as the board has nothing to say, and one more
    /// instruction is sure to run before it can have, there is nothing to look for, and nobody can tell whether this one
    /// holds interrupts off (`held`).
    pub(crate) fn interrupts_let_in(&mut self, held: bool) {
        if !self.interrupt_waiting && self.left > 0 {
            return;
        }
        self.events |= event::CHECK;
        if held {
            self.shadow = Shadow::Interrupts;
            self.events |= event::STEP;
        }
    }

    fn preempted(&mut self) -> bool {
        let halted = self.events & event::HALTED != 0;
        self.bus().preempts(halted)
    }

    /// Comes back for a nearer deadline of the board.
    fn keep_to_allowance(&mut self) {
        let may = self.bus().allowance();
        if may < self.left {
            self.retired_end = self.retired_end.wrapping_sub(self.left - may);
            self.left = may;
        }
    }
}
