//! The host's clock and speed: how much host time has passed, how many instructions to run before looking
//! again, and how long the guest should believe that one takes.

use tabvisor_core::time::VmDuration;
use tabvisor_devices::machine::Rate;

/// Measures host time between visits. Stands still while the machine is paused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stopwatch {
    last: Option<f64>,
}

impl Stopwatch {
    /// The time until the next [`Stopwatch::lap`] does not count.
    pub fn stop(&mut self) {
        self.last = None;
    }

    /// Host time since the last call; nothing the first time, or if the clock ran backwards.
    pub fn lap(&mut self, host_ms: f64) -> VmDuration {
        let elapsed = self.last.map_or(0.0, |last| host_ms - last);
        self.last = Some(host_ms);
        // `as` saturates: negative and not-a-number become 0.
        VmDuration::from_nanos((elapsed * 1e6) as u64)
    }
}

/// What a portion should take: often enough for the guest's timers, and for the browser to swap in optimized
/// code, which it does at calls only.
const PORTION_MS: f64 = 1.0;
const SMALLEST: u64 = 1_000;
/// The host did something else during a portion that took longer: it was suspended, or the page was.
const STALL_MS: f64 = 100.0;
const LARGEST: u64 = 2_000_000;
/// A guest whose time is this far ahead of the host's is slowed to a tenth.
const AHEAD_MS: f64 = 20.0;
/// Rates are fractions with this denominator.
const PER: u32 = 1 << 12;

/// Learns how fast the host runs the guest.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// Instructions per portion.
    portion: u64,
    /// Host nanoseconds per instruction.
    nanos: f64,
}

impl Speed {
    /// Starts small: the first portion may run in the slowest tier of the browser's compiler.
    pub const fn new() -> Self {
        Self { portion: 20_000, nanos: 10.0 }
    }

    /// The size of the next portion, in instructions.
    pub const fn portion(self) -> u64 {
        self.portion
    }

    /// Guest time per instruction, where guest time is `ahead` of the host's: slower, so that the host catches up.
    pub fn rate(self, ahead: VmDuration) -> Rate {
        let brake = (1.0 - ahead.nanos() as f64 / 1e6 / AHEAD_MS).clamp(0.1, 1.0);
        Rate::new((self.nanos * brake * f64::from(PER)) as u32, PER)
    }

    /// Learns from a portion of `done` instructions that took `ms`.
    pub fn learn(&mut self, done: u64, ms: f64) {
        if done < self.portion / 4 {
            return; // It ended early, with a halt: that says nothing about speed.
        }
        // The browser's clock is coarse (up to 0.1 ms), so a very short time only means "much faster".
        let factor = if ms < 0.1 { 2.0 } else { (PORTION_MS / ms).clamp(0.25, 2.0) };
        let wanted = (done as f64 * factor) as u64;
        self.portion = (self.portion / 2 + wanted / 2).clamp(SMALLEST, LARGEST);
        // A stall says nothing about the guest: with its rate the next portion would take guest time seconds ahead, and the
        // machine would wait for as long. A slow host gets there with smaller portions.
        if ms > STALL_MS {
            return;
        }
        let nanos = (ms.max(0.0) * 1e6 / done as f64).clamp(0.05, 10_000.0);
        self.nanos = self.nanos * 0.8 + nanos * 0.2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stopwatch_counts_between_laps_and_not_while_stopped() {
        let mut w = Stopwatch::default();
        assert_eq!(w.lap(5000.0), VmDuration::ZERO);
        assert_eq!(w.lap(5010.5), VmDuration::from_micros(10_500));
        assert_eq!(w.lap(5000.0), VmDuration::ZERO);
        w.stop();
        assert_eq!(w.lap(9000.0), VmDuration::ZERO);
        assert_eq!(w.lap(f64::NAN), VmDuration::ZERO);
    }

    #[test]
    fn the_portion_finds_the_speed_of_the_host() {
        for mips in [1.0, 40.0, 500.0] {
            let mut speed = Speed::new();
            for _ in 0..60 {
                let n = speed.portion();
                speed.learn(n, n as f64 / (mips * 1000.0));
            }
            let ms = speed.portion() as f64 / (mips * 1000.0);
            assert!((0.5..2.0).contains(&ms), "{mips} MIPS: {ms} ms");
            let nanos = 1000.0 / mips;
            assert!((speed.nanos / nanos - 1.0).abs() < 0.05, "{mips} MIPS: {} ns", speed.nanos);
        }
    }

    #[test]
    fn a_halt_teaches_nothing() {
        let mut speed = Speed::new();
        speed.learn(3, 0.0);
        assert_eq!(speed.portion(), Speed::new().portion());
    }

    #[test]
    fn a_host_that_was_suspended_is_not_a_slow_host() {
        let mut speed = Speed::new();
        let before = speed.nanos;
        speed.learn(speed.portion(), 225_000.0);
        assert_eq!(speed.nanos, before);
        assert!(speed.portion() < Speed::new().portion());
    }

    #[test]
    fn a_guest_that_is_ahead_is_slowed_down() {
        let speed = Speed { portion: 1000, nanos: 2.0 };
        assert_eq!(speed.rate(VmDuration::ZERO), Rate::new(2 * PER, PER));
        assert_eq!(speed.rate(VmDuration::from_millis(10)), Rate::new(PER, PER));
        assert_eq!(speed.rate(VmDuration::from_millis(10_000)), Rate::new(PER / 5, PER));
    }
}
