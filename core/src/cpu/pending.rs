//! What is pending between instructions: a nearer deadline of the board, debug traps, interrupts.

use super::exception::Source;
use super::{Cpu, Shadow, Vector, event};
use crate::flags;

impl Cpu {
    /// Delivers what is pending, if the instruction before lets it. `true`: there may be more.
    pub(crate) fn take_pending(&mut self) -> bool {
        self.keep_to_allowance();
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
        } else if self.flag(flags::IF) && self.bus().interrupt_pending() {
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
        let interrupt = self.flag(flags::IF) && self.bus().interrupt_pending();
        if interrupt || !self.nmi_blocked && self.bus().nmi_pending() || shadow && self.left == 0 {
            return false;
        }
        self.events &= !event::CHECK;
        if shadow {
            self.shadow = Shadow::None;
            self.mode_changed();
        }
        self.events == 0
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
