//! NS16550A serial port. Source: National Semiconductor PC16550D data sheet (section 8,
//! registers). On a PC, OUT2 connects the interrupt output to the bus, and loopback disconnects it.
//!
//! Output leaves at once, but the transmitter stays busy for a while, so that a driver that
//! writes from its interrupt handler gets out of it between two fills. That while is the
//! character time of the programmed speed divided by [`SPEED_UP`]: fast enough that polling
//! drivers do not wait. Input waits in a bounded queue until the receiver has room, so nothing a
//! user types is overrun; overruns happen in loopback only.

use crate::device::{Cx, Device, put_state, read_bytes, write_bytes};
use crate::effect::{Input, push_serial};
use crate::irq::IrqLine;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use tabvisor_core::time::{VmDuration, VmTime};

/// How much faster than its programmed speed the port transmits.
pub const SPEED_UP: u64 = 512;
/// Bytes of input that wait for the guest; more are refused.
pub const QUEUE: usize = 4096;
const FIFO: usize = 16;
/// The crystal divided by 16: bits per second with divisor 1.
const BASE_BAUD: u64 = 115_200;

const IER_RDA: u8 = 0x01;
const IER_THRE: u8 = 0x02;
const IER_RLS: u8 = 0x04;
const IER_MS: u8 = 0x08;
const IIR_NONE: u8 = 0x01;
const IIR_RLS: u8 = 0x06;
const IIR_RDA: u8 = 0x04;
const IIR_TIME_OUT: u8 = 0x0c;
const IIR_THRE: u8 = 0x02;
const IIR_MS: u8 = 0x00;
const IIR_FIFO: u8 = 0xc0;
const FCR_ENABLE: u8 = 0x01;
const FCR_CLEAR_RX: u8 = 0x02;
const FCR_CLEAR_TX: u8 = 0x04;
const LCR_DLAB: u8 = 0x80;
const MCR_DTR: u8 = 0x01;
const MCR_RTS: u8 = 0x02;
const MCR_OUT1: u8 = 0x04;
const MCR_OUT2: u8 = 0x08;
const MCR_LOOP: u8 = 0x10;
const LSR_DR: u8 = 0x01;
const LSR_OE: u8 = 0x02;
const LSR_BI: u8 = 0x10;
const LSR_THRE: u8 = 0x20;
const LSR_TEMT: u8 = 0x40;
const LSR_FIFO_ERROR: u8 = 0x80;
const MSR_TERI: u8 = 0x04;
const MSR_CTS: u8 = 0x10;
const MSR_DSR: u8 = 0x20;
const MSR_RI: u8 = 0x40;
const MSR_DCD: u8 = 0x80;
/// The other end is there and ready.
const CONNECTED: u8 = MSR_CTS | MSR_DSR | MSR_DCD;

/// A received character and its error bits (as in LSR).
type Received = (u8, u8);

/// Everything the guest can tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    msr: u8,
    scr: u8,
    divisor: u16,
    rx: VecDeque<Received>,
    /// The last character read, which an empty receiver shows again.
    last_rx: u8,
    overrun: bool,
    /// The error bits of the character at the top were read.
    top_seen: bool,
    /// When the receiver last got or gave a character.
    rx_at: VmTime,
    /// A character waited for four character times.
    rx_timed_out: bool,
    /// When the transmitter will be empty; until then it is busy.
    tx_until: Option<VmTime>,
    /// The THRE interrupt is pending.
    thre: bool,
    /// Input that the receiver has no room for yet.
    queue: VecDeque<Received>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            msr: CONNECTED,
            scr: 0,
            divisor: 12,
            rx: VecDeque::new(),
            last_rx: 0,
            overrun: false,
            top_seen: false,
            rx_at: VmTime::ZERO,
            rx_timed_out: false,
            tx_until: None,
            thre: false,
            queue: VecDeque::new(),
        }
    }
}

/// A serial port.
pub struct Uart16550 {
    state: State,
    port: u8,
    irq: IrqLine,
}

impl Uart16550 {
    /// Serial port number `port` (0 = COM1).
    pub fn new(port: u8, irq: IrqLine) -> Self {
        Self { state: State::default(), port, irq }
    }

    /// How many more bytes of input the port takes.
    pub fn room(&self) -> usize {
        QUEUE.saturating_sub(self.state.queue.len())
    }

    fn fifo(&self) -> bool {
        self.state.fcr & FCR_ENABLE != 0
    }
    fn depth(&self) -> usize {
        if self.fifo() { FIFO } else { 1 }
    }
    fn looped(&self) -> bool {
        self.state.mcr & MCR_LOOP != 0
    }
    /// Characters in the receiver that make the data interrupt (FCR bits 7:6).
    fn trigger(&self) -> usize {
        if self.fifo() { [1, 4, 8, 14][usize::from(self.state.fcr >> 6)] } else { 1 }
    }
    fn character(&self) -> u64 {
        let lcr = self.state.lcr;
        let bits = 1 + 5 + u64::from(lcr & 3) + u64::from(lcr >> 3 & 1) + 1 + u64::from(lcr >> 2 & 1);
        let divisor = u64::from(self.state.divisor.max(1));
        bits * divisor * 1_000_000_000 / BASE_BAUD / SPEED_UP
    }
    fn time_out_at(&self) -> VmTime {
        self.state.rx_at + VmDuration::from_nanos(4 * self.character())
    }

    /// Lets pass what happens by itself.
    fn catch_up(&mut self, now: VmTime) {
        if self.state.tx_until.is_some_and(|t| t <= now) {
            self.state.tx_until = None;
            self.state.thre = true;
        }
        if self.fifo() && !self.state.rx.is_empty() && now >= self.time_out_at() {
            self.state.rx_timed_out = true;
        }
    }

    /// Moves queued input to the receiver.
    fn refill(&mut self, now: VmTime) {
        while !self.looped() && self.state.rx.len() < self.depth() {
            let Some(c) = self.state.queue.pop_front() else { return };
            self.receive(now, c);
        }
    }
    fn receive(&mut self, now: VmTime, c: Received) {
        let s = &mut self.state;
        if s.rx.len() >= if s.fcr & FCR_ENABLE != 0 { FIFO } else { 1 } {
            s.overrun = true;
            if s.fcr & FCR_ENABLE == 0 {
                // Without FIFO the new character overwrites the old one (LSR bit 1).
                s.rx.clear();
                s.rx.push_back(c);
                s.top_seen = false;
            }
            return;
        }
        if s.rx.is_empty() {
            s.top_seen = false;
        }
        s.rx.push_back(c);
        s.rx_at = now;
    }
    fn clear_rx(&mut self) {
        self.state.rx.clear();
        self.state.rx_timed_out = false;
        self.state.top_seen = false;
    }

    fn top_errors(&self) -> u8 {
        self.state.rx.front().filter(|_| !self.state.top_seen).map_or(0, |c| c.1)
    }
    fn lsr(&self) -> u8 {
        let s = &self.state;
        let mut v = self.top_errors();
        v |= if s.rx.is_empty() { 0 } else { LSR_DR };
        v |= if s.overrun { LSR_OE } else { 0 };
        v |= if s.tx_until.is_none() { LSR_THRE | LSR_TEMT } else { 0 };
        let waiting = s.rx.iter().skip(usize::from(s.top_seen)).any(|c| c.1 != 0);
        v | if self.fifo() && waiting { LSR_FIFO_ERROR } else { 0 }
    }

    /// The source with the highest priority (table IV).
    fn interrupt(&self) -> u8 {
        let s = &self.state;
        if s.ier & IER_RLS != 0 && (s.overrun || self.top_errors() != 0) {
            IIR_RLS
        } else if s.ier & IER_RDA != 0 && s.rx.len() >= self.trigger() {
            IIR_RDA
        } else if s.ier & IER_RDA != 0 && s.rx_timed_out {
            IIR_TIME_OUT
        } else if s.ier & IER_THRE != 0 && s.thre {
            IIR_THRE
        } else if s.ier & IER_MS != 0 && s.msr & 0x0f != 0 {
            IIR_MS
        } else {
            IIR_NONE
        }
    }
    fn update_irq(&self, cx: &mut Cx<'_>) {
        let connected = self.state.mcr & MCR_OUT2 != 0 && !self.looped();
        cx.irq.set(self.irq, connected && self.interrupt() != IIR_NONE);
    }

    /// Modem status lines, with their change bits.
    fn update_msr(&mut self) {
        let mcr = self.state.mcr;
        let lines = if mcr & MCR_LOOP != 0 {
            let map = [(MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD)];
            map.iter().filter(|(out, _)| mcr & out != 0).map(|(_, line)| line).sum()
        } else {
            CONNECTED
        };
        let changed = (self.state.msr ^ lines) & 0xf0;
        // Ring has a bit for its end only (TERI).
        let ring_began = lines & MSR_RI != 0;
        let deltas = changed >> 4 & if ring_began { !MSR_TERI } else { 0xff };
        self.state.msr = lines | self.state.msr & 0x0f | deltas;
    }

    fn transmit(&mut self, cx: &mut Cx<'_>, v: u8) {
        if self.looped() {
            self.receive(cx.now, (v, 0));
        } else {
            push_serial(cx.out, self.port, v);
        }
        let character = VmDuration::from_nanos(self.character().max(1));
        let full = cx.now + VmDuration::from_nanos(self.depth() as u64 * character.nanos());
        self.state.tx_until = Some((self.state.tx_until.unwrap_or(cx.now) + character).min(full));
        self.state.thre = false;
    }

    fn read_register(&mut self, cx: &mut Cx<'_>, at: u64) -> u8 {
        let dlab = self.state.lcr & LCR_DLAB != 0;
        match at {
            0 if dlab => self.state.divisor as u8,
            0 => {
                if let Some((v, _)) = self.state.rx.pop_front() {
                    self.state.last_rx = v;
                    self.state.rx_at = cx.now;
                    self.state.rx_timed_out = false;
                    self.state.top_seen = false;
                }
                self.refill(cx.now);
                self.state.last_rx
            }
            1 if dlab => (self.state.divisor >> 8) as u8,
            1 => self.state.ier,
            2 => {
                let source = self.interrupt();
                if source == IIR_THRE {
                    self.state.thre = false;
                }
                source | if self.fifo() { IIR_FIFO } else { 0 }
            }
            3 => self.state.lcr,
            4 => self.state.mcr,
            5 => {
                let v = self.lsr();
                self.state.overrun = false;
                self.state.top_seen = !self.state.rx.is_empty();
                v
            }
            6 => {
                let v = self.state.msr;
                self.state.msr &= 0xf0;
                v
            }
            7 => self.state.scr,
            _ => 0xff,
        }
    }

    fn write_register(&mut self, cx: &mut Cx<'_>, at: u64, v: u8) {
        let dlab = self.state.lcr & LCR_DLAB != 0;
        match at {
            0 if dlab => self.state.divisor = self.state.divisor & 0xff00 | u16::from(v),
            0 => self.transmit(cx, v),
            1 if dlab => self.state.divisor = self.state.divisor & 0x00ff | u16::from(v) << 8,
            1 => {
                // Enabling the THRE interrupt while the register is empty raises it.
                if v & !self.state.ier & IER_THRE != 0 && self.state.tx_until.is_none() {
                    self.state.thre = true;
                }
                self.state.ier = v & 0x0f;
            }
            2 => {
                if (v ^ self.state.fcr) & FCR_ENABLE != 0 {
                    self.clear_rx();
                }
                // The other bits are taken only together with the enable bit.
                self.state.fcr = if v & FCR_ENABLE != 0 { v & 0xc9 } else { 0 };
                if v & FCR_ENABLE != 0 && v & FCR_CLEAR_RX != 0 {
                    self.clear_rx();
                }
                if v & FCR_ENABLE != 0 && v & FCR_CLEAR_TX != 0 && self.state.tx_until.take().is_some() {
                    self.state.thre = true;
                }
                self.refill(cx.now);
            }
            3 => self.state.lcr = v,
            4 => {
                self.state.mcr = v & 0x1f;
                self.update_msr();
                self.refill(cx.now);
            }
            7 => self.state.scr = v,
            _ => {} // 5: factory test; 6: read-only
        }
    }
}

impl Device for Uart16550 {
    fn read(&mut self, cx: &mut Cx<'_>, at: u64, data: &mut [u8]) {
        self.catch_up(cx.now);
        read_bytes(at, data, |at| self.read_register(cx, at));
        self.update_irq(cx);
    }
    fn write(&mut self, cx: &mut Cx<'_>, at: u64, data: &[u8]) {
        self.catch_up(cx.now);
        write_bytes(at, data, |at, v| self.write_register(cx, at, v));
        self.update_irq(cx);
    }

    fn deadline(&self) -> Option<VmTime> {
        let s = &self.state;
        let tx = s.tx_until.filter(|_| s.ier & IER_THRE != 0);
        let waits = self.fifo() && !s.rx.is_empty() && s.rx.len() < self.trigger() && !s.rx_timed_out;
        let rx = (waits && s.ier & IER_RDA != 0).then(|| self.time_out_at());
        [tx, rx].into_iter().flatten().min()
    }
    fn advance(&mut self, cx: &mut Cx<'_>) {
        self.catch_up(cx.now);
        self.update_irq(cx);
    }

    fn input(&mut self, cx: &mut Cx<'_>, input: &Input) {
        self.catch_up(cx.now);
        match input {
            Input::Serial { port, bytes } if *port == self.port => {
                let room = self.room();
                self.state.queue.extend(bytes.iter().take(room).map(|&b| (b, 0)));
            }
            Input::SerialBreak { port } if *port == self.port && self.room() > 0 => {
                self.state.queue.push_back((0, LSR_BI));
            }
            _ => return,
        }
        self.refill(cx.now);
        self.update_irq(cx);
    }

    fn reset(&mut self, cx: &mut Cx<'_>) {
        // What the user has typed and the guest has not seen waits for the next system.
        let queue = core::mem::take(&mut self.state.queue);
        self.state = State { queue, ..State::default() };
        self.refill(cx.now);
        self.update_irq(cx);
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.state);
    }
}

#[cfg(test)]
#[path = "uart16550_tests.rs"]
mod tests;
