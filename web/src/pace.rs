//! Guest time that follows the host's clock, and how many instructions to run before looking at that
//! clock again.

use tabvisor_core::time::{VmDuration, VmTime};

/// Longest jump of guest time after the host kept us from running (a hidden tab, a sleeping laptop).
/// A guest survives a second; after an hour its watchdogs would fire all at once.
const MAX_CATCH_UP_MS: f64 = 1000.0;

/// Maps the host's milliseconds to guest time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Host time and guest time that belong together; `None` while guest time stands still.
    anchor: Option<(f64, VmTime)>,
    /// When we were last here, or when we asked to be woken, whichever is later: host milliseconds.
    expected: f64,
}

impl Pace {
    /// Guest time stands still until the first [`Pace::at`].
    pub const fn stopped() -> Self {
        Self { anchor: None, expected: 0.0 }
    }

    /// Guest time stands still from here.
    pub fn stop(&mut self) {
        self.anchor = None;
    }

    /// Guest time at `host_ms`, where the guest has so far seen `seen`. Never earlier than `seen`.
    pub fn at(&mut self, host_ms: f64, seen: VmTime) -> VmTime {
        let Some((host, guest)) = self.anchor else {
            self.anchor = Some((host_ms, seen));
            self.expected = host_ms;
            return seen;
        };
        let lost = host_ms - self.expected - MAX_CATCH_UP_MS;
        let host = if lost > 0.0 { host + lost } else { host };
        self.anchor = Some((host, guest));
        self.expected = host_ms;
        (guest + millis(host_ms - host)).max(seen)
    }

    /// Host milliseconds from `host_ms` until guest time reaches `until`, remembered as the time of the next visit.
    pub fn sleep(&mut self, host_ms: f64, until: VmTime) -> f64 {
        if until == VmTime::NEVER {
            self.expected = f64::INFINITY;
            return f64::INFINITY;
        }
        let Some((host, guest)) = self.anchor else { return 0.0 };
        let at = host + until.since(guest).nanos() as f64 / 1e6;
        self.expected = at.max(host_ms);
        (at - host_ms).max(0.0)
    }
}

fn millis(ms: f64) -> VmDuration {
    // `as` saturates: a clock that runs backwards adds nothing.
    VmDuration::from_nanos((ms * 1e6) as u64)
}

/// Instructions per look at the clock, adapted so that a portion takes about a millisecond: often enough for
/// the guest's timers, and for the browser to swap in optimized code, which it does at calls only.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    instructions: u64,
}

/// What a portion should take.
const PORTION_MS: f64 = 1.0;
const SMALLEST: u64 = 2_000;
const LARGEST: u64 = 4_000_000;

impl Budget {
    /// Starts small: the first portion may run in the slowest tier of the browser's compiler.
    pub const fn new() -> Self {
        Self { instructions: 20_000 }
    }

    /// The size of the next portion.
    pub const fn get(self) -> u64 {
        self.instructions
    }

    /// Learns from a portion of `done` instructions that took `ms`.
    pub fn learn(&mut self, done: u64, ms: f64) {
        if done < self.instructions / 4 {
            return; // It ended early, with a halt: that says nothing about speed.
        }
        // The browser's clock is coarse (up to 0.1 ms), so a very short time only means "much faster".
        let factor = if ms < 0.1 { 2.0 } else { (PORTION_MS / ms).clamp(0.25, 2.0) };
        let wanted = (done as f64 * factor) as u64;
        self.instructions = (self.instructions / 2 + wanted / 2).clamp(SMALLEST, LARGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn guest_time_follows_the_host() {
        let mut pace = Pace::stopped();
        assert_eq!(pace.at(5_000.0, VmTime::ZERO), VmTime::ZERO);
        assert_eq!(pace.at(5_010.0, VmTime::ZERO).nanos(), 10 * MS);
        assert_eq!(pace.sleep(5_010.0, VmTime::from_nanos(60 * MS)), 50.0);
    }

    #[test]
    fn a_wanted_sleep_is_caught_up_whole() {
        let mut pace = Pace::stopped();
        pace.at(0.0, VmTime::ZERO);
        pace.sleep(0.0, VmTime::from_nanos(60_000 * MS));
        assert_eq!(pace.at(60_000.0, VmTime::ZERO).nanos(), 60_000 * MS);
        pace.sleep(60_000.0, VmTime::NEVER);
        assert_eq!(pace.at(160_000.0, VmTime::ZERO).nanos(), 160_000 * MS);
    }

    #[test]
    fn lost_time_is_caught_up_only_in_part() {
        let mut pace = Pace::stopped();
        pace.at(0.0, VmTime::ZERO);
        assert_eq!(pace.at(3_600_000.0, VmTime::ZERO).nanos(), 1_000 * MS);
        assert_eq!(pace.at(3_600_010.0, VmTime::ZERO).nanos(), 1_010 * MS);
    }

    #[test]
    fn a_pause_takes_no_guest_time() {
        let mut pace = Pace::stopped();
        pace.at(0.0, VmTime::ZERO);
        let seen = pace.at(10.0, VmTime::ZERO);
        pace.stop();
        assert_eq!(pace.at(99_000.0, seen), seen);
        assert_eq!(pace.at(99_001.0, seen).nanos(), 11 * MS);
    }

    #[test]
    fn guest_time_never_runs_backwards() {
        let mut pace = Pace::stopped();
        pace.at(100.0, VmTime::ZERO);
        let seen = VmTime::from_nanos(7 * MS);
        assert_eq!(pace.at(50.0, seen), seen);
        assert_eq!(pace.at(101.0, seen), seen);
    }

    #[test]
    fn the_budget_finds_the_speed_of_the_host() {
        for mips in [1.0, 40.0, 500.0] {
            let mut budget = Budget::new();
            for _ in 0..40 {
                let n = budget.get();
                budget.learn(n, n as f64 / (mips * 1000.0));
            }
            let ms = budget.get() as f64 / (mips * 1000.0);
            assert!((0.5..2.0).contains(&ms), "{mips} MIPS: {ms} ms");
        }
    }

    #[test]
    fn a_halt_teaches_nothing() {
        let mut budget = Budget::new();
        budget.learn(3, 0.0);
        assert_eq!(budget.get(), Budget::new().get());
    }
}
