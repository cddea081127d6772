//! MC146818A real-time clock with the PC's NVRAM. Sources: Motorola MC146818A data sheet
//! (section names below), PIIX4 data sheet section 8.6 (ports). The time of day is the start time
//! that was injected plus [`VmTime`]; nothing ticks by itself.
//!
//! Deliberately absent: daylight saving (DSE is stored), the square wave pin.
//!
//! Offsets: 0 is port 70h (index, bit 7 masks NMI), 1 is port 71h (data).

use super::calendar::Civil;
use crate::device::{Cx, Device, put_state, read_bytes, write_bytes};
use crate::effect::Input;
use crate::irq::IrqLine;
use serde::{Deserialize, Serialize};
use tabvisor_core::time::VmTime;

/// Index of the century, where PC firmware and the ACPI FADT put it.
pub const CENTURY: u8 = 0x32;

const SECONDS: u8 = 0;
const SECONDS_ALARM: u8 = 1;
const MINUTES: u8 = 2;
const MINUTES_ALARM: u8 = 3;
const HOURS: u8 = 4;
const HOURS_ALARM: u8 = 5;
const DAY_OF_WEEK: u8 = 6;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const A: u8 = 0x0a;
const B: u8 = 0x0b;
const C: u8 = 0x0c;
const D: u8 = 0x0d;

const A_UIP: u8 = 0x80;
/// Divider: 010 runs from 32.768 kHz, 11x holds the chain in reset.
const A_DV: u8 = 0x70;
const A_DV_RUN: u8 = 0x20;
const A_DV_RESET: u8 = 0x60;
const A_RS: u8 = 0x0f;
const B_SET: u8 = 0x80;
const B_PIE: u8 = 0x40;
const B_AIE: u8 = 0x20;
const B_UIE: u8 = 0x10;
const B_SQWE: u8 = 0x08;
const B_DM: u8 = 0x04;
const B_24: u8 = 0x02;
const C_IRQF: u8 = 0x80;
const C_PF: u8 = 0x40;
const C_AF: u8 = 0x20;
const C_UF: u8 = 0x10;
const D_VRT: u8 = 0x80;
const HOUR_PM: u8 = 0x80;
/// Alarm bytes from here on match everything ("Alarm", don't care codes C0-FF).
const DONT_CARE: u8 = 0xc0;

const SECOND: i128 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;
/// UIP is set from 244 us before an update cycle of 1984 us ("Update cycle").
const UPDATE: i128 = 244_000 + 1_984_000;

/// The bytes of the time registers, while they do not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Raw {
    seconds: u8,
    minutes: u8,
    hours: u8,
    day_of_week: u8,
    day: u8,
    month: u8,
    year: u8,
    century: u8,
}

impl Raw {
    fn byte(&mut self, index: u8) -> Option<&mut u8> {
        Some(match index {
            SECONDS => &mut self.seconds,
            MINUTES => &mut self.minutes,
            HOURS => &mut self.hours,
            DAY_OF_WEEK => &mut self.day_of_week,
            DAY => &mut self.day,
            MONTH => &mut self.month,
            YEAR => &mut self.year,
            CENTURY => &mut self.century,
            _ => return None,
        })
    }
}

/// Everything the guest can tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    index: u8,
    /// Unix time when the divider chain was at `base`.
    seconds: i64,
    /// A moment (ns, may be before the machine's start) at which a second began.
    base: i64,
    /// How the guest's day of week differs from the calendar's.
    weekday_shift: u8,
    /// The registers while SET or the divider stops them.
    held: Option<Raw>,
    a: u8,
    b: u8,
    c: u8,
    /// Seconds, minutes and hours alarm.
    alarm: [u8; 3],
    /// Interrupt flags are up to date with this moment.
    seen: VmTime,
    /// 128 bytes; those of the clock are not used.
    nvram: Vec<u8>,
}

/// The clock.
pub struct Rtc146818 {
    state: State,
    irq: IrqLine,
}

impl Rtc146818 {
    /// A clock that shows `wall_clock` (Unix seconds, UTC) at [`VmTime::ZERO`] and drives `irq`.
    pub fn new(wall_clock: i64, irq: IrqLine) -> Self {
        let state = State {
            index: 0,
            seconds: wall_clock,
            base: 0,
            weekday_shift: 0,
            held: None,
            a: A_DV_RUN | 6, // 1024 Hz, as firmware leaves it
            b: B_24,
            c: 0,
            alarm: [0; 3],
            seen: VmTime::ZERO,
            nvram: vec![0; 128],
        };
        Self { state, irq }
    }

    /// Sets a byte of NVRAM, as firmware would have.
    pub fn set_nvram(&mut self, index: u8, v: u8) {
        self.state.nvram[usize::from(index & 0x7f)] = v;
    }
    /// Bit 7 of the last index: NMI is masked.
    pub fn nmi_masked(&self) -> bool {
        self.state.index & 0x80 != 0
    }

    fn divider_runs(&self) -> bool {
        self.state.a & A_DV == A_DV_RUN
    }
    /// Nanoseconds since the divider chain's base.
    fn chain(&self, now: VmTime) -> i128 {
        i128::from(now.nanos()) - i128::from(self.state.base)
    }
    fn unix(&self, now: VmTime) -> i64 {
        self.state.seconds.saturating_add(self.chain(now).div_euclid(SECOND) as i64)
    }

    fn encode(&self, v: u8) -> u8 {
        if self.state.b & B_DM != 0 { v } else { ((v / 10) << 4) | (v % 10) }
    }
    fn decode(&self, v: u8) -> u8 {
        if self.state.b & B_DM != 0 { v } else { (v >> 4) * 10 + (v & 0xf) }
    }
    fn encode_hour(&self, h: u8) -> u8 {
        if self.state.b & B_24 != 0 {
            return self.encode(h);
        }
        let of_twelve = if h.is_multiple_of(12) { 12 } else { h % 12 };
        self.encode(of_twelve) | if h >= 12 { HOUR_PM } else { 0 }
    }
    fn decode_hour(&self, v: u8) -> u8 {
        if self.state.b & B_24 != 0 {
            return self.decode(v);
        }
        self.decode(v & !HOUR_PM) % 12 + if v & HOUR_PM != 0 { 12 } else { 0 }
    }
    fn to_raw(&self, unix: i64) -> Raw {
        let c = Civil::of_unix(unix);
        Raw {
            seconds: self.encode(c.second),
            minutes: self.encode(c.minute),
            hours: self.encode_hour(c.hour),
            day_of_week: self.encode((c.weekday + self.state.weekday_shift) % 7 + 1),
            day: self.encode(c.day),
            month: self.encode(c.month),
            year: self.encode((c.year % 100) as u8),
            century: self.encode((c.year / 100 % 100) as u8),
        }
    }
    /// The time in `raw`; also remembers its day of week.
    fn take_raw(&mut self, raw: Raw) -> i64 {
        let unix = Civil {
            year: u16::from(self.decode(raw.century)) * 100 + u16::from(self.decode(raw.year)),
            month: self.decode(raw.month),
            day: self.decode(raw.day),
            hour: self.decode_hour(raw.hours),
            minute: self.decode(raw.minutes),
            second: self.decode(raw.seconds),
            weekday: 0,
        }
        .to_unix();
        let weekday = i64::from(self.decode(raw.day_of_week)) - 1;
        self.state.weekday_shift = (weekday - i64::from(Civil::of_unix(unix).weekday)).rem_euclid(7) as u8;
        unix
    }
    fn set_unix(&mut self, now: VmTime, unix: i64) {
        self.state.seconds = unix.saturating_sub(self.chain(now).div_euclid(SECOND) as i64);
    }

    /// Stops or restarts the time registers after a write of A or B.
    fn update_hold(&mut self, now: VmTime, old_a: u8) {
        let hold = self.state.b & B_SET != 0 || !self.divider_runs();
        if hold && self.state.held.is_none() {
            self.state.held = Some(self.to_raw(self.unix(now)));
        }
        if self.divider_runs() && old_a & A_DV_RESET == A_DV_RESET {
            // "Divider control": the first update is half a second after the reset ends.
            self.state.base = now.nanos().min(i64::MAX as u64) as i64 - (SECOND / 2) as i64;
            self.state.seen = now;
        }
        if !hold {
            if let Some(raw) = self.state.held.take() {
                let unix = self.take_raw(raw);
                self.set_unix(now, unix);
            }
        }
    }

    fn write_time(&mut self, now: VmTime, index: u8, v: u8) {
        let running = self.state.held.is_none();
        let mut raw = self.state.held.unwrap_or_else(|| self.to_raw(self.unix(now)));
        if let Some(byte) = raw.byte(index) {
            *byte = v;
        }
        if running {
            let unix = self.take_raw(raw);
            self.set_unix(now, unix);
        } else {
            self.state.held = Some(raw);
        }
    }

    /// Hz of the periodic interrupt ("Rate selection", table 5, 32.768 kHz column).
    fn rate(&self) -> Option<i128> {
        match self.state.a & A_RS {
            _ if !self.divider_runs() => None,
            0 => None,
            1 => Some(256),
            2 => Some(128),
            rs => Some(32768 >> (rs - 1)),
        }
    }

    /// The first second after `after` (Unix time) that the alarm bytes match.
    fn next_alarm(&self, after: i64) -> Option<i64> {
        let [s, m, h] = self.state.alarm;
        let hit = |alarm: u8, encoded: u8| alarm >= DONT_CARE || alarm == encoded;
        let (day, from) = (after.div_euclid(DAY_SECONDS), after.rem_euclid(DAY_SECONDS) + 1);
        let first_from = |from: i64| {
            let hours = (0..24u8).filter(|&x| hit(h, self.encode_hour(x)) && i64::from(x) * 3600 + 3599 >= from);
            hours
                .flat_map(|x| {
                    (0..60u8).filter(|&y| hit(m, self.encode(y))).map(move |y| i64::from(x) * 60 + i64::from(y))
                })
                .filter(|minute| minute * 60 + 59 >= from)
                .find_map(|minute| {
                    (0..60u8)
                        .filter(|&z| hit(s, self.encode(z)))
                        .map(|z| minute * 60 + i64::from(z))
                        .find(|&t| t >= from)
                })
        };
        let same_day = first_from(from).map(|t| day * DAY_SECONDS + t);
        same_day.or_else(|| first_from(0).map(|t| (day + 1).saturating_mul(DAY_SECONDS).saturating_add(t)))
    }

    /// Sets the flags of everything that has happened since `seen`.
    fn catch_up(&mut self, now: VmTime) {
        let from = self.state.seen;
        self.state.seen = from.max(now);
        if let Some(hz) = self.rate() {
            let periods = |t| (self.chain(t) * hz).div_euclid(SECOND);
            if periods(now) > periods(from) {
                self.state.c |= C_PF;
            }
        }
        if self.state.held.is_none() && self.unix(now) > self.unix(from) {
            self.state.c |= C_UF;
            if self.next_alarm(self.unix(from)).is_some_and(|t| t <= self.unix(now)) {
                self.state.c |= C_AF;
            }
        }
    }
    fn irqf(&self) -> bool {
        self.state.b & self.state.c & (C_PF | C_AF | C_UF) != 0
    }
    fn update_irq(&self, cx: &mut Cx<'_>) {
        cx.irq.set(self.irq, self.irqf());
    }

    fn read_data(&mut self, now: VmTime) -> u8 {
        let index = self.state.index & 0x7f;
        match index {
            SECONDS_ALARM => self.state.alarm[0],
            MINUTES_ALARM => self.state.alarm[1],
            HOURS_ALARM => self.state.alarm[2],
            A => {
                let soon = self.chain(now).rem_euclid(SECOND) >= SECOND - UPDATE;
                self.state.a | if soon && self.state.held.is_none() { A_UIP } else { 0 }
            }
            B => self.state.b,
            C => {
                let irqf = if self.irqf() { C_IRQF } else { 0 };
                core::mem::take(&mut self.state.c) | irqf
            }
            D => D_VRT,
            _ => {
                let mut raw = self.state.held.unwrap_or_else(|| self.to_raw(self.unix(now)));
                raw.byte(index).copied().unwrap_or(self.state.nvram[usize::from(index)])
            }
        }
    }

    fn write_data(&mut self, now: VmTime, v: u8) {
        let index = self.state.index & 0x7f;
        match index {
            SECONDS_ALARM => self.state.alarm[0] = v,
            MINUTES_ALARM => self.state.alarm[1] = v,
            HOURS_ALARM => self.state.alarm[2] = v,
            A => {
                let old = core::mem::replace(&mut self.state.a, v & !A_UIP);
                self.update_hold(now, old);
            }
            B => {
                // "SET": a program that sets it also clears UIE.
                let v = if v & B_SET != 0 { v & !B_UIE } else { v };
                if self.state.held.is_none() && v & B_SET != 0 {
                    self.state.held = Some(self.to_raw(self.unix(now)));
                }
                // "Data mode": the registers are not converted when DM or 24/12 changes, which
                // shows only while they are held; running ones are encoded as they are read.
                self.state.b = v;
                self.update_hold(now, self.state.a);
            }
            C | D => {} // read-only
            _ => {
                if Raw::default().byte(index).is_some() {
                    self.write_time(now, index, v);
                } else {
                    self.state.nvram[usize::from(index)] = v;
                }
            }
        }
    }
}

impl Device for Rtc146818 {
    fn read(&mut self, cx: &mut Cx<'_>, at: u64, data: &mut [u8]) {
        self.catch_up(cx.now);
        read_bytes(at, data, |at| match at {
            1 => self.read_data(cx.now),
            _ => 0xff, // the index is write-only
        });
        self.update_irq(cx);
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: u64, data: &[u8]) {
        self.catch_up(cx.now);
        write_bytes(at, data, |at, v| match at {
            0 => self.state.index = v,
            1 => self.write_data(cx.now, v),
            _ => {}
        });
        self.update_irq(cx);
    }

    fn deadline(&self) -> Option<VmTime> {
        let s = &self.state;
        let wanted = s.b & !s.c;
        let at = |chain: i128| {
            let ns = chain + i128::from(s.base);
            if ns >= i128::from(u64::MAX) { VmTime::NEVER } else { VmTime::from_nanos(ns.max(0) as u64) }
        };
        let periodic = self.rate().filter(|_| wanted & B_PIE != 0).map(|hz| {
            let next = (self.chain(s.seen) * hz).div_euclid(SECOND) + 1;
            at(-(-next * SECOND).div_euclid(hz))
        });
        let running = s.held.is_none();
        let second = (running && wanted & B_UIE != 0).then(|| at((self.chain(s.seen).div_euclid(SECOND) + 1) * SECOND));
        let alarm = (running && wanted & B_AIE != 0)
            .then(|| self.next_alarm(self.unix(s.seen)))
            .flatten()
            .map(|t| at((i128::from(t) - i128::from(s.seconds)) * SECOND));
        [periodic, second, alarm].into_iter().flatten().min()
    }

    fn advance(&mut self, cx: &mut Cx<'_>) {
        self.catch_up(cx.now);
        self.update_irq(cx);
    }

    fn input(&mut self, cx: &mut Cx<'_>, input: &Input) {
        if let Input::WallClock(unix) = *input {
            self.catch_up(cx.now);
            if self.state.held.is_some() {
                self.state.held = Some(self.to_raw(unix));
            } else {
                self.set_unix(cx.now, unix);
            }
        }
    }

    fn reset(&mut self, cx: &mut Cx<'_>) {
        // "RESET": time, alarms and NVRAM live on; interrupt enables and flags are cleared.
        self.catch_up(cx.now);
        self.state.b &= !(B_PIE | B_AIE | B_UIE | B_SQWE);
        self.state.c = 0;
        self.state.index = 0;
        self.update_irq(cx);
    }

    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.state);
    }
}

#[cfg(test)]
#[path = "rtc146818_tests.rs"]
mod tests;
