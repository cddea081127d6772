//! Intel 8254 interval timer at 1.193182 MHz, and port 61h through which a PC reaches the gate
//! and the output of counter 2. Sources: Intel 8254 data sheet (231164-005), PIIX4 data sheet
//! section 8.4 (port 61h). Counting is not simulated: each counter keeps when its element was
//! loaded, and everything else follows from the time.
//!
//! Offsets: 0-2 counters, 3 control word (ports 40h-43h), 4 is port 61h.

use crate::device::{Cx, Device, put_state, read_bytes, write_bytes};
use crate::irq::IrqLine;
use serde::{Deserialize, Serialize};
use tabvisor_core::time::VmTime;

/// The clock of all three counters.
pub const HZ: u64 = 1_193_182;

// Port 61h (PIIX4 8.4.1).
const P61_GATE2: u8 = 0x01;
const P61_WRITABLE: u8 = 0x0f;
const P61_REFRESH: u8 = 0x10;
const P61_OUT2: u8 = 0x20;
/// Half a period of the refresh toggle: 15.085 us, counter 1's traditional 18 ticks.
const REFRESH_TICKS: u64 = 18;

/// A new count and the tick at which it is loaded.
type Next = (u32, i64);

/// One counter. Times are ticks of [`HZ`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counter {
    /// M2-M0 as programmed.
    mode: u8,
    /// RW1-RW0: 1 low byte, 2 high byte, 3 low then high.
    access: u8,
    bcd: bool,
    gate: bool,
    /// The count in use; nothing until the first one after a control word is loaded.
    count: Option<u32>,
    /// When the counting element is (or was) loaded with it.
    start: i64,
    /// The gate has stopped counting this many ticks after `start`.
    stopped: Option<i64>,
    /// A count that waits for the end of a cycle or for a trigger.
    next: Option<Next>,
    /// The first of two bytes of a new count.
    low: Option<u8>,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
    /// The next read gives the high byte.
    high_next: bool,
    /// Output edges up to this tick have been reported.
    seen: i64,
}

impl Counter {
    /// Modes 6 and 7 are 2 and 3 (data sheet, control word format).
    fn mode(&self) -> u8 {
        if self.mode > 5 { self.mode - 4 } else { self.mode }
    }
    fn modulus(&self) -> i64 {
        if self.bcd { 10_000 } else { 0x1_0000 }
    }
    fn count_of(&self, raw: u16) -> u32 {
        let value = if self.bcd {
            (0..4).rev().fold(0, |v, digit| v * 10 + u32::from(raw >> (4 * digit) & 0xf))
        } else {
            u32::from(raw)
        };
        if value == 0 { self.modulus() as u32 } else { value }
    }
    fn raw_of(&self, value: i64) -> u16 {
        let v = value.rem_euclid(self.modulus()) as u16;
        if self.bcd { (0..4).map(|digit| (v / 10u16.pow(digit) % 10) << (4 * digit)).sum() } else { v }
    }
    /// Ticks since the element was loaded; negative before that.
    fn elapsed(&self, now: i64) -> i64 {
        self.stopped.unwrap_or(now - self.start)
    }
    /// Mode 3: the output is high for this much of the count, an odd one a tick longer.
    fn high_half(n: i64) -> i64 {
        (n + 1) / 2
    }

    fn out(&self, now: i64) -> bool {
        let Some(n) = self.count.map(i64::from) else { return self.mode() != 0 };
        let d = self.elapsed(now);
        match self.mode() {
            0 => d >= n,
            1 => d < 0 || d >= n,
            2 => self.stopped.is_some() || d < 0 || d % n != n - 1,
            3 => self.stopped.is_some() || d < 0 || d % n < Self::high_half(n),
            _ => d != n,
        }
    }

    /// The counting element as OL would latch it.
    fn value(&self, now: i64) -> u16 {
        let Some(n) = self.count.map(i64::from) else { return 0 };
        let d = self.elapsed(now).max(0);
        self.raw_of(match self.mode() {
            2 => n - d % n,
            3 => {
                // Decrements by two from the (even) count in each half cycle.
                let (pos, high) = (d % n, Self::high_half(n));
                (n & !1) - 2 * if pos < high { pos } else { pos - high }
            }
            _ => n - d,
        })
    }

    /// How often the output has risen up to `d` ticks after loading.
    fn rises(&self, n: i64, d: i64) -> i64 {
        match self.mode() {
            _ if d < 0 => 0,
            0 | 1 => i64::from(d >= n),
            2 | 3 if n < 2 => 0, // a count of 1 is illegal
            2 | 3 => d / n,
            _ => i64::from(d > n),
        }
    }

    /// Brings the counter to tick `now`; says whether the output rose since the last call.
    fn catch_up(&mut self, now: i64) -> bool {
        let mut rose = false;
        if let (Some((new, at)), None) = (self.next, self.stopped) {
            if now >= at {
                rose |= self.rose_until(at);
                self.next = None;
                let second_half =
                    self.mode() == 3 && self.count.is_some_and(|n| (at - self.start).rem_euclid(i64::from(n)) != 0);
                self.count = Some(new);
                self.start = if second_half { at - Self::high_half(i64::from(new)) } else { at };
            }
        }
        rose | self.rose_until(now)
    }
    fn rose_until(&mut self, now: i64) -> bool {
        let from = self.seen;
        self.seen = from.max(now);
        match (self.count.map(i64::from), self.stopped) {
            (Some(n), None) => self.rises(n, now - self.start) > self.rises(n, from - self.start),
            _ => false,
        }
    }

    /// The next tick after `seen` at which the output changes (mode 2: at which it rises again).
    fn next_edge(&self) -> Option<i64> {
        let n = self.count.map(i64::from)?;
        if self.stopped.is_some() {
            return None;
        }
        let d = self.seen - self.start;
        let at = match self.mode() {
            0 | 1 => (d < n).then_some(n),
            2 | 3 if n < 2 => None,
            2 => Some((d.max(0) / n + 1) * n),
            3 => {
                let (cycle, high) = (d.max(0) / n * n, Self::high_half(n));
                Some(if d < cycle + high { cycle + high } else { cycle + n })
            }
            _ if d < n => Some(n),
            _ => (d == n).then_some(n + 1),
        };
        at.map(|at| self.start + at)
    }

    fn control(&mut self, v: u8) {
        *self = Self {
            mode: v >> 1 & 7,
            access: v >> 4 & 3,
            bcd: v & 1 != 0,
            gate: self.gate,
            seen: self.seen,
            ..Self::default()
        };
    }

    fn write(&mut self, now: i64, v: u8) {
        let raw = match (self.access, self.low.take()) {
            (1, _) => u16::from(v),
            (2, _) => u16::from(v) << 8,
            (3, Some(low)) => u16::from_le_bytes([low, v]),
            (3, None) => {
                self.low = Some(v);
                if self.mode() == 0 {
                    // Mode 0: the first byte stops the counter and drops the output.
                    self.count = None;
                }
                return;
            }
            _ => return, // no control word yet
        };
        let n = self.count_of(raw);
        match self.mode() {
            1 | 5 => self.next = Some((n, i64::MAX)),
            2 | 3 if self.count.is_some() && (self.stopped.is_some() || now >= self.start) => {
                let old = self.count.map_or(1, i64::from);
                let cycle = self.start + (now - self.start) / old * old;
                let high = cycle + Self::high_half(old);
                self.next = Some((n, if self.mode() == 3 && now < high { high } else { cycle + old }));
            }
            _ => self.load(now, n),
        }
    }
    /// The next CLK pulse moves `n` into the counting element.
    fn load(&mut self, now: i64, n: u32) {
        self.count = Some(n);
        self.next = None;
        self.start = now + 1;
        self.stopped = (!self.gate && matches!(self.mode(), 0 | 2 | 3 | 4)).then_some(0);
    }

    fn set_gate(&mut self, now: i64, gate: bool) {
        if gate == core::mem::replace(&mut self.gate, gate) {
            return;
        }
        match self.mode() {
            1 | 5 if gate => {
                if let Some(n) = self.next.map(|(n, _)| n).or(self.count) {
                    self.load(now, n);
                }
            }
            0 | 4 if gate => {
                if let Some(d) = self.stopped.take() {
                    self.start = now - d;
                }
            }
            2 | 3 if gate => {
                if let Some(n) = self.next.map(|(n, _)| n).or(self.count) {
                    self.load(now, n);
                }
            }
            0 | 2 | 3 | 4 if self.count.is_some() => self.stopped = Some(self.elapsed(now).max(0)),
            _ => {}
        }
    }

    fn latch_count(&mut self, now: i64) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.value(now));
        }
    }
    fn latch_status(&mut self, now: i64) {
        let null = self.count.is_none() || self.next.is_some() || (self.stopped.is_none() && now < self.start);
        let status =
            u8::from(self.out(now)) << 7 | u8::from(null) << 6 | self.access << 4 | self.mode << 1 | u8::from(self.bcd);
        self.latched_status.get_or_insert(status);
    }
    fn read(&mut self, now: i64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = self.latched_count.unwrap_or_else(|| self.value(now)).to_le_bytes();
        let first_of_two = self.access == 3 && !self.high_next;
        let v = if self.access == 1 || first_of_two { low } else { high };
        self.high_next = first_of_two;
        if !first_of_two {
            self.latched_count = None;
        }
        v
    }
}

/// Everything the guest can tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    counters: [Counter; 3],
    /// Port 61h, bits 3:0.
    port61: u8,
}

impl Default for State {
    fn default() -> Self {
        let mut counters: [Counter; 3] = Default::default();
        // Undefined by the data sheet; firmware leaves counter 0 in mode 3, whose output is high.
        counters[0].mode = 3;
        counters[0].access = 3;
        // The gates of counters 0 and 1 are tied high on the board.
        counters[0].gate = true;
        counters[1].gate = true;
        Self { counters, port61: 0 }
    }
}

/// The timer. Counter 0's output drives `irq`.
pub struct Pit8254 {
    state: State,
    irq: IrqLine,
}

fn tick(now: VmTime) -> i64 {
    now.ticks(HZ) as i64
}

impl Pit8254 {
    /// A timer whose counter 0 drives `irq`.
    pub fn new(irq: IrqLine) -> Self {
        Self { state: State::default(), irq }
    }

    fn catch_up(&mut self, cx: &mut Cx<'_>) {
        let now = tick(cx.now);
        let [a, b, c] = &mut self.state.counters;
        let rose = a.catch_up(now);
        b.catch_up(now);
        c.catch_up(now);
        if rose {
            cx.irq.pulse(self.irq, a.out(now));
        }
    }
    fn update_irq(&self, cx: &mut Cx<'_>) {
        cx.irq.set(self.irq, self.state.counters[0].out(tick(cx.now)));
    }

    fn control(&mut self, now: i64, v: u8) {
        if v >> 6 == 3 {
            // Read-back: COUNT# and STATUS# for each selected counter.
            for (n, counter) in self.state.counters.iter_mut().enumerate() {
                if v >> (n + 1) & 1 != 0 {
                    if v & 0x20 == 0 {
                        counter.latch_count(now);
                    }
                    if v & 0x10 == 0 {
                        counter.latch_status(now);
                    }
                }
            }
            return;
        }
        let counter = &mut self.state.counters[usize::from(v >> 6)];
        if v & 0x30 == 0 {
            counter.latch_count(now);
        } else {
            counter.control(v);
        }
    }
}

impl Device for Pit8254 {
    fn read(&mut self, cx: &mut Cx<'_>, at: u64, data: &mut [u8]) {
        self.catch_up(cx);
        let now = tick(cx.now);
        let s = &mut self.state;
        read_bytes(at, data, |at| match at {
            0..=2 => s.counters[at as usize].read(now),
            4 => {
                let refresh = (now as u64 / REFRESH_TICKS) & 1 != 0;
                s.port61 | if refresh { P61_REFRESH } else { 0 } | if s.counters[2].out(now) { P61_OUT2 } else { 0 }
            }
            _ => 0xff, // the control word cannot be read
        });
        self.update_irq(cx);
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: u64, data: &[u8]) {
        self.catch_up(cx);
        let now = tick(cx.now);
        write_bytes(at, data, |at, v| match at {
            0..=2 => self.state.counters[at as usize].write(now, v),
            3 => self.control(now, v),
            4 => {
                self.state.port61 = v & P61_WRITABLE;
                self.state.counters[2].set_gate(now, v & P61_GATE2 != 0);
            }
            _ => {}
        });
        self.update_irq(cx);
    }

    fn deadline(&self) -> Option<VmTime> {
        self.state.counters[0].next_edge().map(|t| VmTime::of_ticks(t as u64, HZ))
    }

    fn advance(&mut self, cx: &mut Cx<'_>) {
        self.catch_up(cx);
        self.update_irq(cx);
    }

    fn reset(&mut self, cx: &mut Cx<'_>) {
        self.state = State::default();
        for c in &mut self.state.counters {
            c.seen = tick(cx.now);
        }
        self.update_irq(cx);
    }

    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.state);
    }
}

#[cfg(test)]
#[path = "pit8254_tests.rs"]
mod tests;
