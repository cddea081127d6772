//! Intel 82093AA I/O APIC (data sheet 290566-001): 24 pins. It has no EOI register; an interrupt
//! ends by the local APIC's broadcast.
//!
//! Deliberately absent: input polarity. Lines carry "asserted", whatever level means that on a
//! real board, so INTPOL is stored and has no effect.
//!
//! Offsets: 00h IOREGSEL, 10h IOWIN.

use crate::device::{Cx, Device, le, put_le, put_state};
use crate::irq::{Changes, Delivery, LINES, Message};
use serde::{Deserialize, Serialize};

const IOREGSEL: u64 = 0x00;
const IOWIN: u64 = 0x10;
// Indirect registers (section 3.2).
const IOAPICID: u8 = 0x00;
const IOAPICVER: u8 = 0x01;
const IOAPICARB: u8 = 0x02;
const IOREDTBL: u8 = 0x10;
/// Version 11h, entry 23 is the last.
const VERSION: u32 = 0x0017_0011;

// Redirection table entries (section 3.2.4).
const DESTMOD: u64 = 1 << 11;
const REMOTE_IRR: u64 = 1 << 14;
const TRIGGER_LEVEL: u64 = 1 << 15;
const MASK: u64 = 1 << 16;
/// Vector, modes, polarity, trigger, mask, destination; not DELIVS and Remote IRR.
const WRITABLE: u64 = 0xff00_0000_0001_afff;

/// Everything the guest can tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    select: u8,
    id: u8,
    redtbl: [u64; LINES],
    /// Pins with an edge that still has to be sent.
    edges: u32,
}

impl Default for State {
    fn default() -> Self {
        Self { select: 0, id: 0, redtbl: [MASK; LINES], edges: 0 }
    }
}

/// The I/O APIC. The board feeds it the lines and carries its messages.
#[derive(Default)]
pub struct IoApic {
    state: State,
    /// Levels of the pins; derived from the board's lines.
    pins: u32,
}

impl IoApic {
    /// New levels and edges of the pins.
    pub fn set_lines(&mut self, c: Changes) {
        self.pins = c.level;
        for pin in bits(c.rose) {
            // Section 3.2.4, bit 16: an edge on a masked pin is ignored, not held pending.
            if self.state.redtbl[pin] & (MASK | TRIGGER_LEVEL) == 0 {
                self.state.edges |= 1 << pin;
            }
        }
    }

    /// Sends what can be sent. `deliver` says whether a local APIC took the message. An ExtINT
    /// pin sends nothing: see [`IoApic::ext_int`].
    pub fn service(&mut self, mut deliver: impl FnMut(Message) -> bool) {
        let mut ready = core::mem::take(&mut self.state.edges);
        for pin in bits(self.pins) {
            let e = self.state.redtbl[pin];
            if e & (TRIGGER_LEVEL | MASK | REMOTE_IRR) == TRIGGER_LEVEL {
                ready |= 1 << pin;
            }
        }
        for pin in bits(ready) {
            let e = self.state.redtbl[pin];
            let mode = Delivery::of_bits((e >> 8) as u32);
            if mode == Delivery::ExtInt {
                continue;
            }
            let level = e & TRIGGER_LEVEL != 0;
            let message = Message { dest: (e >> 56) as u32, logical: e & DESTMOD != 0, mode, vector: e as u8, level };
            if deliver(message) && level {
                self.state.redtbl[pin] |= REMOTE_IRR;
            }
        }
    }

    /// Is `pin` programmed to pass the 8259A's interrupts (delivery mode ExtINT, unmasked)?
    pub fn ext_int(&self, pin: usize) -> bool {
        self.state
            .redtbl
            .get(pin)
            .is_some_and(|&e| e & MASK == 0 && Delivery::of_bits((e >> 8) as u32) == Delivery::ExtInt)
    }

    /// A local APIC has ended the level-triggered interrupt `vector`.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        for e in &mut self.state.redtbl {
            if *e as u8 == vector {
                *e &= !REMOTE_IRR;
            }
        }
    }

    fn read_register(&self) -> u32 {
        match self.state.select {
            IOAPICID | IOAPICARB => u32::from(self.state.id) << 24,
            IOAPICVER => VERSION,
            n => match self.entry_of(n) {
                Some((pin, shift)) => (self.state.redtbl[pin] >> shift) as u32,
                None => u32::MAX,
            },
        }
    }
    fn entry_of(&self, register: u8) -> Option<(usize, u32)> {
        let n = usize::from(register.checked_sub(IOREDTBL)?);
        (n / 2 < LINES).then_some((n / 2, n as u32 % 2 * 32))
    }
    fn write_register(&mut self, v: u32) {
        if self.state.select == IOAPICID {
            self.state.id = (v >> 24) as u8 & 0xf;
        } else if let Some((pin, shift)) = self.entry_of(self.state.select) {
            let mask = WRITABLE & 0xffff_ffff << shift;
            let e = &mut self.state.redtbl[pin];
            *e = *e & !mask | u64::from(v) << shift & mask;
            if *e & TRIGGER_LEVEL == 0 {
                // Remote IRR has no meaning for an edge; kernels clear a stuck one by switching
                // the entry to edge and back.
                *e &= !REMOTE_IRR;
            }
            if *e & MASK != 0 {
                self.state.edges &= !(1 << pin);
            }
        }
    }
}

/// The numbers of the set bits that are pins.
fn bits(mut of: u32) -> impl Iterator<Item = usize> {
    of &= (1 << LINES) - 1;
    core::iter::from_fn(move || {
        let n = of.trailing_zeros() as usize;
        of &= of.wrapping_sub(1);
        (n < LINES).then_some(n)
    })
}

impl Device for IoApic {
    fn read(&mut self, _cx: &mut Cx<'_>, at: u64, data: &mut [u8]) {
        let v = match at & !3 {
            IOREGSEL => u32::from(self.state.select),
            IOWIN => self.read_register(),
            _ => u32::MAX,
        };
        put_le(data, u64::from(v) >> (8 * (at & 3)));
    }

    fn write(&mut self, _cx: &mut Cx<'_>, at: u64, data: &[u8]) {
        // Registers are written as whole double words (section 3.0).
        match (at, data.len()) {
            (IOREGSEL, _) => self.state.select = le(data) as u8,
            (IOWIN, 4) => self.write_register(le(data) as u32),
            _ => {}
        }
    }

    fn reset(&mut self, _cx: &mut Cx<'_>) {
        self.state = State::default();
    }

    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::bench::Bench;

    struct Io(IoApic, Bench, u32);
    impl Io {
        fn new() -> Self {
            Self(IoApic::default(), Bench::new(), 0)
        }
        fn reg(&mut self, n: u8, v: u32) {
            self.1.write(&mut self.0, IOREGSEL, n);
            self.0.write(&mut self.1.cx(), IOWIN, &v.to_le_bytes());
        }
        fn get(&mut self, n: u8) -> u32 {
            let mut b = [0; 4];
            self.1.write(&mut self.0, IOREGSEL, n);
            self.0.read(&mut self.1.cx(), IOWIN, &mut b);
            u32::from_le_bytes(b)
        }
        fn set(&mut self, pin: u32, high: bool) -> Vec<u8> {
            let new = if high { self.2 | 1 << pin } else { self.2 & !(1 << pin) };
            self.0.set_lines(Changes { level: new, rose: new & !self.2 });
            self.2 = new;
            self.sent()
        }
        fn sent(&mut self) -> Vec<u8> {
            let mut v = Vec::new();
            self.0.service(|m| {
                v.push(m.vector);
                true
            });
            v
        }
    }

    #[test]
    fn registers_after_reset() {
        let mut io = Io::new();
        assert_eq!(io.get(1), 0x0017_0011);
        assert_eq!(io.get(0x10), 0x0001_0000);
        assert_eq!(io.get(0x3f), 0);
        assert_eq!(io.get(0x40), 0xffff_ffff);
        io.reg(0, 0xffff_ffff);
        assert_eq!((io.get(0), io.get(2)), (0x0f00_0000, 0x0f00_0000));
        io.reg(0x10, 0xffff_ffff);
        io.reg(0x11, 0xffff_ffff);
        assert_eq!((io.get(0x10), io.get(0x11)), (0x0001_afff, 0xff00_0000));
    }

    #[test]
    fn an_edge_is_sent_once_and_lost_while_masked() {
        let mut io = Io::new();
        io.reg(0x18, 0x34); // pin 4, edge
        assert_eq!(io.set(4, true), [0x34]);
        assert_eq!(io.sent(), []);
        io.set(4, false);
        io.reg(0x18, 0x1_0034);
        assert_eq!(io.set(4, true), []);
        io.reg(0x18, 0x34);
        assert_eq!(io.sent(), []);
    }

    #[test]
    fn a_level_waits_for_the_end_of_interrupt() {
        let mut io = Io::new();
        io.reg(0x22, 0x1_8055); // pin 9, level, masked
        assert_eq!(io.set(9, true), []);
        io.reg(0x22, 0x8055);
        assert_eq!(io.sent(), [0x55]);
        assert_eq!(io.get(0x22), 0xc055); // remote IRR
        assert_eq!(io.sent(), []);
        io.0.end_of_interrupt(0x54);
        assert_eq!(io.sent(), []);
        io.0.end_of_interrupt(0x55);
        assert_eq!(io.sent(), [0x55]);
        io.set(9, false);
        io.0.end_of_interrupt(0x55);
        assert_eq!((io.sent(), io.get(0x22)), (vec![], 0x8055));
    }

    #[test]
    fn switching_to_edge_clears_remote_irr() {
        let mut io = Io::new();
        io.reg(0x22, 0x8055);
        assert_eq!(io.set(9, true), [0x55]);
        io.reg(0x22, 0x1_0055);
        io.reg(0x22, 0x1_8055);
        assert_eq!(io.get(0x22), 0x1_8055);
    }

    #[test]
    fn a_refused_level_does_not_set_remote_irr() {
        let mut io = Io::new();
        io.reg(0x22, 0x8055);
        io.0.set_lines(Changes { level: 1 << 9, rose: 1 << 9 });
        io.0.service(|_| false);
        assert_eq!(io.get(0x22), 0x8055);
    }

    #[test]
    fn destination_and_mode_travel_with_the_message() {
        let mut io = Io::new();
        io.reg(0x13, 0x8100_0000);
        io.reg(0x12, 0x0941); // logical, lowest priority
        io.0.set_lines(Changes { level: 2, rose: 2 });
        let mut got = None;
        io.0.service(|m| {
            got = Some(m);
            true
        });
        let want = Message { dest: 0x81, logical: true, mode: Delivery::LowestPriority, vector: 0x41, level: false };
        assert_eq!(got, Some(want));
    }

    #[test]
    fn ext_int_pins_are_the_8259s() {
        let mut io = Io::new();
        assert!(!io.0.ext_int(0));
        io.reg(0x10, 0x700);
        assert!(io.0.ext_int(0));
        assert_eq!(io.set(0, true), []);
    }

    #[test]
    fn any_access_is_survived() {
        let mut b = Bench::new();
        let mut io = IoApic::default();
        b.torture(&mut io, 0x18);
        io.set_lines(Changes { level: u32::MAX, rose: u32::MAX });
        io.service(|_| true);
    }
}
