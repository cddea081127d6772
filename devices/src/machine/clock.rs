//! The machine's clock: guest time as a function of retired instructions.
//!
//! Between two adjustments, time is `base + (retired - base_retired) * rate`. A deterministic
//! machine adjusts only when it jumps to the next deadline while halted; a paced one is also
//! moved by its runner, between slices, to follow the host.

use serde::{Deserialize, Serialize};
use tabvisor_core::time::{VmDuration, VmTime};

/// A paced clock never moves further than this in one adjustment, so that a tab that was hidden
/// for an hour does not run an hour of timer interrupts.
pub const MAX_CATCH_UP: VmDuration = VmDuration::from_millis(1000);

/// Guest nanoseconds per retired instruction, as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    nanos: u32,
    instructions: u32,
}

impl Rate {
    /// One instruction takes one nanosecond.
    pub const ONE: Self = Self { nanos: 1, instructions: 1 };

    /// `nanos` nanoseconds for `instructions` instructions. Zeros count as one, so that time
    /// always moves and always takes instructions.
    pub const fn new(nanos: u32, instructions: u32) -> Self {
        let (nanos, instructions) =
            (if nanos == 0 { 1 } else { nanos }, if instructions == 0 { 1 } else { instructions });
        Self { nanos, instructions }
    }
    fn nanos(self, instructions: u64) -> u64 {
        if self.nanos == self.instructions {
            return instructions;
        }
        // The time is asked for at every system call; dividing 128 bits takes as long as many instructions.
        if let Ok(n) = u32::try_from(instructions) {
            let product = u64::from(n) * u64::from(self.nanos);
            return match self.instructions.is_power_of_two() {
                true => product >> self.instructions.trailing_zeros(),
                false => product / u64::from(self.instructions),
            };
        }
        let ns = u128::from(instructions) * u128::from(self.nanos) / u128::from(self.instructions);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
    /// Instructions until at least `nanos` have passed.
    fn instructions(self, nanos: u64) -> u64 {
        if self.nanos == self.instructions {
            return nanos;
        }
        let n = (u128::from(nanos) * u128::from(self.instructions)).div_ceil(u128::from(self.nanos));
        u64::try_from(n).unwrap_or(u64::MAX)
    }
}

/// Who says how fast guest time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockPolicy {
    /// Instructions alone: two runs are the same run.
    Deterministic(Rate),
    /// The runner, who knows the host's time.
    Paced,
}

/// The clock.
#[derive(Clone, Debug)]
pub struct Clock {
    base: VmTime,
    base_retired: u64,
    rate: Rate,
    retired: u64,
    now: VmTime,
    /// Where the host's clock is, in guest time (paced).
    host: VmTime,
}

impl Clock {
    /// A clock at zero.
    pub fn new(rate: Rate) -> Self {
        let zero = VmTime::ZERO;
        Self { base: zero, base_retired: 0, rate, retired: 0, now: zero, host: zero }
    }
    /// The time at the last [`Clock::sync`].
    #[inline]
    pub fn now(&self) -> VmTime {
        self.now
    }
    /// Instructions at the last [`Clock::sync`].
    pub fn retired(&self) -> u64 {
        self.retired
    }
    /// `retired` instructions have run. Never goes back.
    #[inline]
    pub fn sync(&mut self, retired: u64) {
        if retired > self.retired {
            self.retired = retired;
            self.now = self.base + VmDuration::from_nanos(self.rate.nanos(retired - self.base_retired));
        }
    }
    /// The first instruction count at which the clock shows `time`.
    pub fn retired_at(&self, time: VmTime) -> u64 {
        if time == VmTime::NEVER {
            return u64::MAX;
        }
        self.base_retired.saturating_add(self.rate.instructions(time.since(self.base).nanos()))
    }
    /// Moves the clock forward to `time` without instructions.
    pub fn jump(&mut self, time: VmTime) {
        self.now = self.now.max(time);
        self.base = self.now;
        self.base_retired = self.retired;
    }
    /// `elapsed` has passed on the host since the last call, and from now on an instruction takes
    /// `rate`. Returns how far guest time is ahead of the host's.
    pub fn pace(&mut self, elapsed: VmDuration, rate: Rate) -> VmDuration {
        self.host += elapsed;
        if self.host > self.now {
            let to = self.host.min(self.now + MAX_CATCH_UP);
            // What is beyond the bound never happened for the guest.
            self.host = to;
            self.jump(to);
        } else {
            self.jump(self.now);
        }
        self.rate = rate;
        self.now.since(self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(n: u64) -> VmTime {
        VmTime::from_nanos(n)
    }

    #[test]
    fn time_is_instructions_times_rate() {
        let mut c = Clock::new(Rate::new(3, 2));
        for (retired, time) in [(1, 1), (2, 3), (101, 151)] {
            c.sync(retired);
            assert_eq!(c.now(), ns(time));
        }
        for t in 0..1000 {
            let n = c.retired_at(ns(t));
            let at = |n| Rate::new(3, 2).nanos(n);
            assert!(at(n) >= t && (n == 0 || at(n - 1) < t));
        }
        assert_eq!(c.retired_at(VmTime::NEVER), u64::MAX);
    }

    #[test]
    fn a_jump_needs_no_instructions() {
        let mut c = Clock::new(Rate::ONE);
        c.sync(10);
        c.jump(ns(1000));
        assert_eq!(c.now(), ns(1000));
        c.sync(15);
        assert_eq!((c.now(), c.retired_at(ns(1010))), (ns(1005), 20));
        c.jump(ns(5)); // never back
        assert_eq!(c.now(), ns(1005));
    }

    #[test]
    fn pacing_follows_the_host_and_bounds_the_catch_up() {
        let mut c = Clock::new(Rate::ONE);
        c.sync(1_000_000); // 1 ms by instructions
        assert_eq!(c.pace(VmDuration::from_millis(3), Rate::new(2, 1)), VmDuration::ZERO);
        assert_eq!(c.now(), ns(3_000_000));
        c.sync(2_000_000);
        assert_eq!(c.now(), ns(5_000_000));
        // Too fast: time does not go back, and the runner learns by how much.
        assert_eq!(c.pace(VmDuration::from_millis(1), Rate::ONE), VmDuration::from_millis(1));
        assert_eq!(c.now(), ns(5_000_000));
        // Hidden for an hour.
        assert_eq!(c.pace(VmDuration::from_millis(3_600_000), Rate::ONE), VmDuration::ZERO);
        assert_eq!(c.now(), ns(1_005_000_000));
        c.pace(VmDuration::from_millis(10), Rate::ONE);
        assert_eq!(c.now(), ns(1_015_000_000));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut c = Clock::new(Rate::new(u32::MAX, 1));
        c.sync(u64::MAX);
        assert_eq!(c.now(), VmTime::NEVER);
        let mut d = Clock::new(Rate::new(0, 0));
        d.sync(7);
        assert_eq!(d.now(), ns(7));
    }
}
