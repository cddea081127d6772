//! Time as a busy host might let it pass, made from a number: when portions end, how fast the host seems to be, and when
//! it does something else for a while. What goes wrong with one number goes wrong with it each time.

use tabvisor_core::time::VmDuration;
use tabvisor_devices::machine::{Rate, next_random};

/// What a seed makes of a run. Sizes are spread evenly over their numbers of bits.
#[derive(Clone, Debug)]
pub struct Schedule {
    random: u64,
    /// Bits of a portion, in instructions, at most.
    portion: u64,
    /// Bits of the time of an instruction, in picoseconds, at most.
    rate: u64,
    /// One portion in so many is followed by a pause.
    pauses: u64,
    /// Bits of a pause, in nanoseconds, at most.
    pause: u64,
}

impl Schedule {
    /// The same for the same seed.
    pub fn new(seed: u64) -> Self {
        let mut s = Self { random: seed, portion: 0, rate: 0, pauses: 0, pause: 0 };
        s.portion = 12 + s.below(10);
        s.rate = 9 + s.below(7);
        s.pauses = 8 + s.up_to_bits(8);
        // In proportion, so that a guest gets on: in the worst case 64 ns go by for each instruction.
        s.pause = s.portion + s.below(10);
        s
    }

    fn below(&mut self, n: u64) -> u64 {
        next_random(&mut self.random) % n
    }
    fn up_to_bits(&mut self, most: u64) -> u64 {
        let bits = self.below(most + 1);
        next_random(&mut self.random) & ((1 << bits) - 1)
    }

    /// Instructions of the next portion.
    pub fn portion(&mut self) -> u64 {
        1 + self.up_to_bits(self.portion)
    }
    /// What an instruction takes from now on.
    pub fn rate(&mut self) -> Rate {
        Rate::new(200 + self.up_to_bits(self.rate) as u32, 1000)
    }
    /// How long the host does something else after a portion.
    pub fn pause(&mut self) -> VmDuration {
        let nanos = if self.below(self.pauses) == 0 { self.up_to_bits(self.pause) } else { 0 };
        VmDuration::from_nanos(nanos)
    }
    /// How late it wakes a guest that sleeps.
    pub fn late(&mut self) -> VmDuration {
        let nanos = if self.below(3) == 0 { self.up_to_bits(22) } else { 0 };
        VmDuration::from_nanos(nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_schedule() {
        let portions = |seed| {
            let mut s = Schedule::new(seed);
            [(); 100].map(|()| (s.portion(), s.rate(), s.pause(), s.late()))
        };
        assert_eq!(portions(7), portions(7));
        assert_ne!(portions(7), portions(8));
        let all: Vec<_> = (0..100).flat_map(portions).collect();
        assert!(all.iter().any(|s| s.0 == 1) && all.iter().any(|s| s.0 > 1 << 20));
        assert!(all.iter().any(|s| s.2 > VmDuration::from_millis(100)));
        assert!(all.iter().all(|s| s.0 <= 1 << 21 && s.2 < VmDuration::from_millis(1100)));
    }
}
