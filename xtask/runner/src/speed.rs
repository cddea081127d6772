//! How fast the host runs the guest: how many instructions to run before looking again, and how long the guest
//! should believe that one takes.

use std::time::Duration;
use tabvisor_devices::machine::Rate;

/// How long a portion should take: often enough for input and timers, rarely enough to cost nothing.
const PORTION: Duration = Duration::from_millis(2);
const SMALLEST: u64 = 10_000;
const LARGEST: u64 = 20_000_000;
/// The host did something else during a portion that took longer: it was suspended, or the runner was stopped.
const STALL: Duration = Duration::from_millis(100);

/// Learns from portions that were run.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    portion: u64,
    rate: Rate,
}

impl Speed {
    /// Of a host that is not known yet.
    pub const fn new() -> Self {
        Self { portion: SMALLEST, rate: Rate::ONE }
    }

    /// The size of the next portion, in instructions.
    pub const fn portion(&self) -> u64 {
        self.portion
    }

    /// Guest time per instruction: a guest second is then as many instructions as a host second.
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// `done` instructions have taken `time`.
    pub fn learn(&mut self, done: u64, time: Duration) {
        if done < self.portion / 4 || done == 0 {
            return; // ended early, by a halt or a limit: that says nothing about speed
        }
        let nanos = time.as_nanos().max(1) as f64;
        let wanted = done as f64 * (PORTION.as_nanos() as f64 / nanos).clamp(0.25, 2.0);
        self.portion = (self.portion / 2 + wanted as u64 / 2).clamp(SMALLEST, LARGEST);
        // With the rate of a stall the next portion would take the guest about as far as the stall has lasted, and the
        // runner would sleep until the host is there. A slow host gets there with smaller portions.
        if time <= STALL {
            let picos = (nanos * 1000.0 / done as f64).clamp(1.0, 1e9);
            self.rate = Rate::new(picos as u32, 1000);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A speed that has learned from a host that does a million instructions in `time`.
    fn learned(time: Duration) -> Speed {
        let mut speed = Speed::new();
        for _ in 0..60 {
            let portion = speed.portion();
            speed.learn(portion, time.mul_f64(portion as f64 / 1e6));
        }
        speed
    }

    #[test]
    fn portions_and_rate_follow_the_host() {
        for (micros, portion, rate) in [(5_000, 400_000, 5_000), (500_000, SMALLEST, 500_000)] {
            let speed = learned(Duration::from_micros(micros));
            let error = speed.portion().abs_diff(portion);
            assert!(error <= portion / 50, "{micros} us: {}", speed.portion());
            assert_eq!(speed.rate(), Rate::new(rate, 1000), "{micros} us");
        }
    }

    #[test]
    fn a_halt_teaches_nothing() {
        let mut speed = learned(Duration::from_millis(5));
        let before = (speed.portion(), speed.rate());
        speed.learn(10, Duration::from_micros(1));
        assert_eq!((speed.portion(), speed.rate()), before);
    }

    /// The machine of a boot that seemed to hang was suspended for four minutes; then the runner slept for two.
    #[test]
    fn a_host_that_was_suspended_is_not_a_slow_host() {
        let mut speed = learned(Duration::from_millis(5));
        let before = speed.rate();
        speed.learn(speed.portion(), Duration::from_secs(225));
        assert_eq!(speed.rate(), before);
    }
}
