//! The local APIC's timer (SDM 3A 11.5.4): one-shot, periodic, TSC deadline; and its divider.

use serde::{Deserialize, Serialize};
use tabvisor_core::time::{VmDuration, VmTime};

/// A guest may ask for a period of nanoseconds; interrupts come no closer together than this.
const MIN_PERIOD: u64 = 1_000;

/// LVT timer bits 18:17.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Mode {
    #[default]
    OneShot,
    Periodic,
    TscDeadline,
}

/// The timer: when it was started, and everything else follows from the time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    mode: Mode,
    /// Divide configuration register.
    divide: u32,
    initial: u32,
    /// The count was `first` at `start`; from then on it is the time's.
    first: u32,
    start: VmTime,
    /// When it fires next, if it does. In deadline mode this is the MSR.
    fires: Option<VmTime>,
}

impl Timer {
    /// Figure 11-10: bits 3, 1 and 0 select 2, 4, 8, ... 128, and 111 is 1.
    fn divider(&self) -> u64 {
        let bits = self.divide & 3 | self.divide >> 1 & 4;
        if bits == 7 { 1 } else { 2 << bits }
    }
    fn period(&self) -> u64 {
        u64::from(self.initial) * self.divider()
    }
    fn spacing(&self) -> u64 {
        self.period().max(MIN_PERIOD)
    }

    /// Initial count register.
    pub fn initial(&self) -> u32 {
        self.initial
    }
    /// Divide configuration register.
    pub fn divide_register(&self) -> u32 {
        self.divide
    }

    /// Bits 18:17 of the LVT entry. Going to or from deadline mode disarms the timer (11.5.4.1), between the other
    /// two a running count goes on and one that has run out stays at zero.
    pub fn set_mode(&mut self, now: VmTime, bits: u32) {
        let new = match bits {
            0 => Mode::OneShot,
            1 => Mode::Periodic,
            2 => Mode::TscDeadline,
            _ => return, // reserved
        };
        if (new == Mode::TscDeadline) != (self.mode == Mode::TscDeadline) {
            self.fires = None;
            self.initial = 0;
        } else if new != self.mode {
            self.first = self.current(now);
            self.start = now;
        }
        self.mode = new;
    }

    /// A write of the initial count starts the timer, zero stops it; ignored in deadline mode.
    pub fn set_initial(&mut self, now: VmTime, v: u32) {
        if self.mode == Mode::TscDeadline {
            return;
        }
        self.initial = v;
        self.first = v;
        self.start = now;
        let first = if self.mode == Mode::Periodic { self.spacing() } else { self.period() };
        self.fires = (v != 0).then(|| now + VmDuration::from_nanos(first));
    }

    /// A new divider: the count goes on from where it is.
    pub fn set_divide(&mut self, now: VmTime, v: u32) {
        let left = self.current(now);
        self.divide = v & 0xb;
        if self.mode == Mode::TscDeadline || self.fires.is_none() {
            return;
        }
        self.first = left;
        self.start = now;
        self.fires = Some(now + VmDuration::from_nanos((u64::from(left) * self.divider()).max(1)));
    }

    /// Current count register.
    pub fn current(&self, now: VmTime) -> u32 {
        if self.mode == Mode::TscDeadline || self.fires.is_none() {
            return 0;
        }
        let ticks = now.since(self.start).nanos() / self.divider();
        let (initial, first) = (u64::from(self.initial), u64::from(self.first));
        match self.mode {
            Mode::Periodic if ticks >= first => (initial - (ticks - first) % initial) as u32,
            _ => first.saturating_sub(ticks) as u32,
        }
    }

    /// IA32_TSC_DEADLINE: zero when disarmed, or outside of deadline mode.
    pub fn deadline_msr(&self) -> u64 {
        if self.mode == Mode::TscDeadline { self.fires.map_or(0, VmTime::nanos) } else { 0 }
    }
    /// Writes IA32_TSC_DEADLINE; ignored outside of deadline mode.
    pub fn set_deadline_msr(&mut self, v: u64) {
        if self.mode == Mode::TscDeadline {
            self.fires = (v != 0).then(|| VmTime::from_nanos(v));
        }
    }

    /// When the timer fires next.
    pub fn deadline(&self) -> Option<VmTime> {
        self.fires
    }

    /// Has it fired? Periods that were missed count as one.
    pub fn advance(&mut self, now: VmTime) -> bool {
        let Some(at) = self.fires.filter(|&at| at <= now) else { return false };
        self.fires = match self.mode {
            Mode::Periodic if self.initial != 0 => {
                let spacing = self.spacing();
                let missed = now.since(at).nanos() / spacing;
                Some(at + VmDuration::from_nanos((missed + 1).saturating_mul(spacing)))
            }
            _ => None,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(n: u64) -> VmTime {
        VmTime::from_nanos(n)
    }

    #[test]
    fn one_shot_counts_down_by_the_divider_and_stops() {
        let mut t = Timer::default();
        t.set_divide(ns(0), 0b0011); // by 16
        t.set_initial(ns(100), 10);
        assert_eq!((t.current(ns(100)), t.current(ns(116)), t.current(ns(259))), (10, 9, 1));
        assert_eq!(t.deadline(), Some(ns(260)));
        assert!(!t.advance(ns(259)));
        assert!(t.advance(ns(260)));
        assert!(!t.advance(ns(1000)));
        assert_eq!((t.current(ns(1000)), t.initial(), t.deadline()), (0, 10, None));
    }

    #[test]
    fn dividers_are_as_in_figure_11_10() {
        let want = [
            (0b0000, 2),
            (0b0001, 4),
            (0b0010, 8),
            (0b0011, 16),
            (0b1000, 32),
            (0b1001, 64),
            (0b1010, 128),
            (0b1011, 1),
        ];
        for (bits, divider) in want {
            let mut t = Timer::default();
            t.set_divide(ns(0), bits);
            assert_eq!(t.divider(), divider);
        }
    }

    #[test]
    fn periodic_repeats_and_coalesces_what_was_missed() {
        let mut t = Timer::default();
        t.set_mode(ns(0), 1);
        t.set_divide(ns(0), 0b1011);
        t.set_initial(ns(0), 5000);
        assert!(t.advance(ns(5000)));
        assert_eq!(t.deadline(), Some(ns(10_000)));
        assert_eq!(t.current(ns(7000)), 3000);
        assert!(t.advance(ns(1_000_001)));
        assert!(!t.advance(ns(1_000_001)));
        assert_eq!(t.deadline(), Some(ns(1_005_000)));
        t.set_initial(ns(2_000_000), 0);
        assert_eq!(t.deadline(), None);
    }

    #[test]
    fn a_tiny_period_is_spaced_out() {
        let mut t = Timer::default();
        t.set_mode(ns(0), 1);
        t.set_divide(ns(0), 0b1011);
        t.set_initial(ns(0), 1);
        assert!(t.advance(ns(1000)));
        assert_eq!(t.deadline(), Some(ns(2000)));
    }

    #[test]
    fn a_tsc_deadline_fires_once_and_reads_zero_afterwards() {
        let mut t = Timer::default();
        t.set_deadline_msr(500);
        assert_eq!((t.deadline(), t.deadline_msr()), (None, 0)); // not in deadline mode
        t.set_mode(ns(0), 2);
        t.set_deadline_msr(500);
        t.set_initial(ns(0), 77); // ignored
        assert_eq!((t.deadline(), t.deadline_msr(), t.initial()), (Some(ns(500)), 500, 0));
        assert!(t.advance(ns(500)));
        assert_eq!((t.deadline(), t.deadline_msr()), (None, 0));
        t.set_deadline_msr(9000);
        t.set_mode(ns(500), 0);
        assert_eq!(t.deadline(), None);
    }

    #[test]
    fn a_running_count_goes_on_in_another_mode() {
        let mut t = Timer::default();
        t.set_divide(ns(0), 0b1011);
        t.set_mode(ns(0), 1);
        t.set_initial(ns(0), 5000);
        assert!(t.advance(ns(5000)));
        // Periodic to one-shot in the second period: what is left of it runs out, and nothing after it.
        t.set_mode(ns(7000), 0);
        assert_eq!((t.current(ns(7000)), t.current(ns(9999)), t.deadline()), (3000, 1, Some(ns(10_000))));
        assert!(t.advance(ns(10_000)));
        assert_eq!((t.current(ns(10_000)), t.deadline()), (0, None));
        // One that has run out stays so until it is written, and its initial value can be read.
        t.set_mode(ns(11_000), 1);
        assert_eq!((t.current(ns(12_000)), t.deadline(), t.initial()), (0, None, 5000));
        // One-shot to periodic: the first period is what is left.
        t.set_mode(ns(20_000), 0);
        t.set_initial(ns(20_000), 5000);
        t.set_mode(ns(24_000), 1);
        assert_eq!((t.current(ns(24_500)), t.deadline()), (500, Some(ns(25_000))));
        assert!(t.advance(ns(25_000)));
        assert_eq!((t.current(ns(26_000)), t.deadline()), (4000, Some(ns(30_000))));
    }

    #[test]
    fn a_new_divider_keeps_the_count() {
        let mut t = Timer::default();
        t.set_divide(ns(0), 0b1011);
        t.set_initial(ns(0), 1000);
        t.set_divide(ns(400), 0b0000);
        assert_eq!(t.current(ns(400)), 600);
        assert_eq!(t.deadline(), Some(ns(1600)));
    }
}
