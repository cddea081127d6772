//! Register-level tests of the 8259A pair.

use super::*;
use crate::device::bench::Bench;

struct Pair(Pic8259, Bench, u32);
impl Pair {
    /// The usual set-up: vectors 20h and 28h, nothing masked.
    fn new() -> Self {
        Self::with_icw4(0x01)
    }
    fn with_icw4(icw4: u8) -> Self {
        let mut p = Self(Pic8259::default(), Bench::new(), 0);
        for (base, icw2, icw3) in [(0, 0x20, 0x04), (2, 0x28, 0x02)] {
            p.out(base, 0x11);
            p.out(base + 1, icw2);
            p.out(base + 1, icw3);
            p.out(base + 1, icw4);
            p.out(base + 1, 0);
        }
        p
    }
    fn out(&mut self, at: u64, v: u8) {
        self.1.write(&mut self.0, at, v);
    }
    fn inp(&mut self, at: u64) -> u8 {
        self.1.read(&mut self.0, at)
    }
    fn set(&mut self, irq: u32, high: bool) {
        let new = if high { self.2 | 1 << irq } else { self.2 & !(1 << irq) };
        self.0.set_lines(Changes { level: new, rose: new & !self.2 });
        self.2 = new;
    }
    fn ack(&mut self) -> Option<u8> {
        self.0.int().then(|| self.0.acknowledge())
    }
}

#[test]
fn requests_are_served_by_priority_and_nest() {
    let mut p = Pair::new();
    p.set(4, true);
    p.set(1, true);
    assert_eq!(p.ack(), Some(0x21));
    assert_eq!(p.ack(), None); // 4 waits for 1
    p.out(0, 0x20);
    assert_eq!(p.ack(), Some(0x24));
    p.set(0, true);
    assert_eq!(p.ack(), Some(0x20)); // 0 interrupts 4
    p.out(0, 0x0b);
    assert_eq!(p.inp(0), 0x11);
}

#[test]
fn an_edge_counts_once() {
    let mut p = Pair::new();
    p.set(3, true);
    assert_eq!(p.ack(), Some(0x23));
    p.out(0, 0x63); // specific EOI
    assert_eq!(p.ack(), None); // still high, no new edge
    p.set(3, false);
    p.set(3, true);
    assert_eq!(p.ack(), Some(0x23));
}

#[test]
fn a_level_input_asks_again_until_it_falls() {
    let mut p = Pair::new();
    p.out(4, 0xff);
    p.out(5, 0xff);
    assert_eq!((p.inp(4), p.inp(5)), (0xf8, 0xde));
    p.set(5, true);
    assert_eq!(p.ack(), Some(0x25));
    assert_eq!(p.ack(), None);
    p.out(0, 0x20);
    assert_eq!(p.ack(), Some(0x25));
    p.set(5, false);
    p.out(0, 0x20);
    assert_eq!(p.ack(), None);
}

#[test]
fn a_request_that_went_away_is_spurious_7_without_isr() {
    let mut p = Pair::new();
    p.set(3, true);
    assert!(p.0.int());
    p.set(3, false);
    assert!(!p.0.int());
    assert_eq!(p.0.acknowledge(), 0x27);
    p.out(0, 0x0b);
    assert_eq!(p.inp(0), 0);
}

#[test]
fn a_spurious_request_of_the_slave_is_15_and_leaves_the_cascade_in_service() {
    let mut p = Pair::new();
    p.set(10, true);
    assert!(p.0.int());
    // The slave's request vanishes between the master's decision and its own INTA.
    p.0.state.slave.edges = 0;
    assert_eq!(p.0.acknowledge(), 0x2f);
    p.out(0, 0x0b);
    p.out(2, 0x0b);
    assert_eq!((p.inp(0), p.inp(2)), (0x04, 0));
}

#[test]
fn the_slave_goes_through_input_2_and_needs_two_eois() {
    let mut p = Pair::new();
    p.set(8, true);
    p.set(12, true);
    assert_eq!(p.ack(), Some(0x28));
    p.out(2, 0x20);
    assert_eq!(p.ack(), None);
    p.out(0, 0x20);
    assert_eq!(p.ack(), Some(0x2c));
}

#[test]
fn special_fully_nested_lets_the_slave_interrupt_itself() {
    let mut p = Pair::with_icw4(0x11);
    p.set(12, true);
    assert_eq!(p.ack(), Some(0x2c));
    p.set(8, true);
    assert_eq!(p.ack(), Some(0x28));
    let mut q = Pair::new();
    q.set(12, true);
    assert_eq!(q.ack(), Some(0x2c));
    q.set(8, true);
    assert_eq!(q.ack(), None);
}

#[test]
fn special_mask_mode_lets_lower_levels_through() {
    let mut p = Pair::new();
    p.set(1, true);
    assert_eq!(p.ack(), Some(0x21));
    p.set(6, true);
    assert_eq!(p.ack(), None);
    p.out(1, 0x02); // mask the one in service
    p.out(0, 0x68); // ESMM | SMM
    assert_eq!(p.ack(), Some(0x26));
    p.out(0, 0x20); // non-specific EOI skips the masked 1
    p.out(0, 0x0b);
    assert_eq!(p.inp(0), 0x02);
    p.out(0, 0x48); // leave special mask mode
    p.set(3, true);
    assert_eq!(p.ack(), None);
}

#[test]
fn a_poll_is_an_acknowledge() {
    let mut p = Pair::new();
    p.out(0, 0x0c);
    assert_eq!(p.inp(0), 0);
    p.set(5, true);
    p.out(0, 0x0c);
    assert_eq!(p.inp(1), 0x85); // any read of the chip is the poll
    assert_eq!(p.inp(1), 0); // IMR again
    p.out(0, 0x0b);
    assert_eq!(p.inp(0), 0x20);
    assert_eq!(p.ack(), None);
}

#[test]
fn automatic_eoi_never_sets_isr_and_can_rotate() {
    let mut p = Pair::with_icw4(0x03);
    p.out(0, 0x80); // rotate in automatic EOI mode
    p.set(4, true);
    assert_eq!(p.ack(), Some(0x24));
    p.out(0, 0x0b);
    assert_eq!(p.inp(0), 0);
    p.set(3, true);
    p.set(5, true);
    assert_eq!(p.ack(), Some(0x25)); // 5 now comes before 3
}

#[test]
fn priorities_rotate_on_command() {
    let mut p = Pair::new();
    p.out(0, 0xc4); // set priority: 4 is the lowest
    p.set(4, true);
    p.set(6, true);
    assert_eq!(p.ack(), Some(0x26));
    p.out(0, 0xa0); // rotate on non-specific EOI: 6 becomes the lowest
    assert_eq!(p.ack(), Some(0x24));
    p.out(0, 0xe4); // rotate on specific EOI of 4
    p.set(7, true);
    p.set(5, true);
    assert_eq!(p.ack(), Some(0x25));
}

#[test]
fn masked_requests_wait_in_irr() {
    let mut p = Pair::new();
    p.out(1, 0x10);
    p.set(4, true);
    assert_eq!(p.ack(), None);
    p.out(0, 0x0a);
    assert_eq!(p.inp(0), 0x10);
    p.out(1, 0);
    assert_eq!(p.ack(), Some(0x24));
}

#[test]
fn icw1_clears_mask_and_edges_but_not_level_inputs() {
    let mut p = Pair::new();
    p.out(1, 0xff);
    p.set(3, true);
    p.out(0, 0x13); // single, ICW4
    p.out(1, 0x40);
    p.out(1, 0x01);
    assert_eq!(p.inp(1), 0);
    assert_eq!(p.ack(), None); // the edge is forgotten
    p.set(3, false);
    p.set(3, true);
    assert_eq!(p.ack(), Some(0x43));
    p.out(0, 0x1b); // LTIM
    p.out(1, 0x40);
    p.out(1, 0x01);
    assert_eq!(p.ack(), Some(0x43));
}

#[test]
fn any_access_is_survived() {
    Bench::new().torture(&mut Pic8259::default(), 9);
}
