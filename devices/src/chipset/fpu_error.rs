//! The x87 error logic of a PIIX3 (data sheet 290550-002: port F0h, "coprocessor error register", and the signals
//! FERR# and IGNNE#), the PC's way to report x87 errors to software that leaves CR0.NE clear (SDM 1, 8.7 and
//! appendix D.2).
//!
//! When FERR# becomes active, interrupt 13 is raised and stays. A write to port F0h takes it back and, while FERR# is
//! active, drives IGNNE# until FERR# is not. Enabling this by bit 5 of XBCS is firmware's work, so here it is always
//! enabled. Offset 0 is port F0h, which cannot be read.

use crate::device::{Cx, Device, put_state};
use crate::irq::IrqLine;
use serde::{Deserialize, Serialize};

/// Everything the guest can tell apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// FERR# is active.
    ferr: bool,
    /// Interrupt 13 is requested.
    request: bool,
    /// IGNNE# is active.
    ignne: bool,
}

/// The error logic.
pub struct FpuError {
    state: State,
    irq: IrqLine,
}

impl FpuError {
    /// Raises `irq` for errors.
    pub fn new(irq: IrqLine) -> Self {
        Self { state: State::default(), irq }
    }

    /// The processor drives FERR#. Is IGNNE# active?
    pub fn set_ferr(&mut self, cx: &mut Cx<'_>, active: bool) -> bool {
        let s = &mut self.state;
        s.request |= active && !s.ferr;
        s.ignne &= active;
        s.ferr = active;
        self.update_irq(cx);
        self.state.ignne
    }

    fn update_irq(&self, cx: &mut Cx<'_>) {
        cx.irq.set(self.irq, self.state.request);
    }
}

impl Device for FpuError {
    fn read(&mut self, _cx: &mut Cx<'_>, _at: u64, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: u64, _data: &[u8]) {
        if at == 0 {
            self.state.request = false;
            self.state.ignne = self.state.ferr;
        }
        self.update_irq(cx);
    }

    fn reset(&mut self, cx: &mut Cx<'_>) {
        self.state = State::default();
        self.update_irq(cx);
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::bench::Bench;

    const IRQ: u8 = 13;

    fn logic() -> (FpuError, Bench) {
        let mut b = Bench::new();
        let d = FpuError::new(b.irq.connect(IRQ).unwrap());
        (d, b)
    }

    #[test]
    fn an_error_is_an_interrupt_until_port_f0_is_written() {
        let (mut d, mut b) = logic();
        assert!(!d.set_ferr(&mut b.cx(), true));
        assert!(b.level(IRQ));
        b.write(&mut d, 0, 0);
        assert!(!b.level(IRQ));
        // FERR# is still active: no new interrupt, but IGNNE#.
        assert!(d.set_ferr(&mut b.cx(), true));
        assert!(!b.level(IRQ));
        // The error is gone; the next one is a new one.
        assert!(!d.set_ferr(&mut b.cx(), false));
        assert!(!d.set_ferr(&mut b.cx(), true));
        assert!(b.level(IRQ));
    }

    #[test]
    fn ignne_needs_ferr() {
        let (mut d, mut b) = logic();
        b.write(&mut d, 0, 0xff);
        assert!(!d.set_ferr(&mut b.cx(), true));
        assert!(b.level(IRQ));
    }

    #[test]
    fn the_interrupt_outlives_the_error_but_not_a_reset() {
        let (mut d, mut b) = logic();
        d.set_ferr(&mut b.cx(), true);
        d.set_ferr(&mut b.cx(), false);
        assert!(b.level(IRQ));
        d.reset(&mut b.cx());
        assert!(!b.level(IRQ));
        assert_eq!(d.state, State::default());
    }

    #[test]
    fn any_access_is_survived() {
        let (mut d, mut b) = logic();
        b.torture(&mut d, 2);
    }
}
