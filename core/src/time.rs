//! Guest time. Nothing in this crate reads a clock: the runner says what time it is,
//! or derives it from the number of retired instructions.

use core::ops::{Add, AddAssign, Sub};
use serde::{Deserialize, Serialize};

/// A point in guest time: nanoseconds since the machine was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VmTime(u64);

/// A length of guest time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VmDuration(u64);

impl VmTime {
    /// The moment the machine was created.
    pub const ZERO: Self = Self(0);
    /// Later than any deadline.
    pub const NEVER: Self = Self(u64::MAX);

    /// `ns` nanoseconds after the machine was created.
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }
    /// Nanoseconds since the machine was created.
    pub const fn nanos(self) -> u64 {
        self.0
    }
    /// Ticks of a counter of `hz` that has run since [`VmTime::ZERO`], rounded down.
    pub const fn ticks(self, hz: u64) -> u64 {
        (self.0 as u128 * hz as u128 / 1_000_000_000) as u64
    }
    /// The first moment at which [`VmTime::ticks`] of `hz` reaches `ticks`.
    pub const fn of_ticks(ticks: u64, hz: u64) -> Self {
        let ns = (ticks as u128 * 1_000_000_000).div_ceil(hz as u128);
        if ns > u64::MAX as u128 { Self::NEVER } else { Self(ns as u64) }
    }
    /// How much later `self` is than `earlier`; zero if it is not.
    pub const fn since(self, earlier: Self) -> VmDuration {
        VmDuration(self.0.saturating_sub(earlier.0))
    }
}

impl VmDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// A length in nanoseconds.
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }
    /// A length in microseconds.
    pub const fn from_micros(us: u64) -> Self {
        Self(us.saturating_mul(1_000))
    }
    /// A length in milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }
    /// This length in nanoseconds.
    pub const fn nanos(self) -> u64 {
        self.0
    }
}

impl Add<VmDuration> for VmTime {
    type Output = Self;
    fn add(self, d: VmDuration) -> Self {
        Self(self.0.saturating_add(d.0))
    }
}
impl AddAssign<VmDuration> for VmTime {
    fn add_assign(&mut self, d: VmDuration) {
        *self = *self + d;
    }
}
impl Sub<VmDuration> for VmTime {
    type Output = Self;
    fn sub(self, d: VmDuration) -> Self {
        Self(self.0.saturating_sub(d.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_ticks_is_the_first_moment_that_shows_the_tick() {
        for t in [1, 2, 3, 1000, 1_193_182, 77_777_777] {
            let at = VmTime::of_ticks(t, 1_193_182);
            assert_eq!(at.ticks(1_193_182), t);
            assert_eq!(VmTime::from_nanos(at.nanos() - 1).ticks(1_193_182), t - 1);
        }
    }
}
