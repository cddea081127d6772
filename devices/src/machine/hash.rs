//! A 128-bit hash of machine state, the same on every host. It tells runs apart; it does not
//! resist anybody who wants a collision.

use tabvisor_core::mem::{GuestRam, PAGE_SIZE};

const K: [u64; 4] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0xd6e8_feb8_6659_fd93];

/// Mixes all bits of a word (an xor-shift-multiply finalizer).
fn mix(mut v: u64) -> u64 {
    v = (v ^ v >> 32).wrapping_mul(K[3]);
    v = (v ^ v >> 29).wrapping_mul(K[1]);
    v ^ v >> 32
}

/// The hash, fed piece by piece.
#[derive(Clone, Debug)]
pub struct StateHash {
    lanes: [u64; 4],
    length: u64,
}

impl Default for StateHash {
    fn default() -> Self {
        Self { lanes: K, length: 0 }
    }
}

impl StateHash {
    fn word(lane: &mut u64, word: u64) {
        *lane = (*lane ^ mix(word)).wrapping_mul(K[0]).rotate_left(29).wrapping_add(K[2]);
    }

    /// Adds bytes. How they are divided into calls matters.
    pub fn add(&mut self, bytes: &[u8]) {
        self.length = self.length.wrapping_add(bytes.len() as u64);
        let (chunks, rest) = bytes.as_chunks::<32>();
        let mut last = [0; 32];
        last[..rest.len()].copy_from_slice(rest);
        for chunk in chunks.iter().chain((!rest.is_empty()).then_some(&last)) {
            for (lane, word) in self.lanes.iter_mut().zip(chunk.as_chunks::<8>().0) {
                Self::word(lane, u64::from_le_bytes(*word));
            }
        }
        let length = self.length;
        self.lanes.iter_mut().for_each(|lane| Self::word(lane, length));
    }

    /// Adds RAM, page by page; pages of zeros cost nothing but their look.
    pub fn add_ram(&mut self, ram: &GuestRam) {
        let mut page = [0; PAGE_SIZE as usize];
        for n in 0..ram.len() / PAGE_SIZE {
            ram.read(n * PAGE_SIZE, &mut page);
            if !is_zero(&page) {
                self.add(&n.to_le_bytes());
                self.add(&page);
            }
        }
        self.add(&ram.len().to_le_bytes());
    }

    /// The hash of what was added.
    pub fn finish(&self) -> u128 {
        let [a, b, c, d] = self.lanes;
        let low = mix(a ^ mix(b ^ self.length));
        let high = mix(c ^ mix(d ^ low));
        u128::from(high) << 64 | u128::from(mix(low ^ high))
    }
}

/// Is every byte of `page` zero?
pub fn is_zero(page: &[u8]) -> bool {
    let (words, rest) = page.as_chunks::<8>();
    words.iter().all(|w| *w == [0; 8]) && rest.iter().all(|&b| b == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn of(bytes: &[u8]) -> u128 {
        let mut h = StateHash::default();
        h.add(bytes);
        h.finish()
    }

    #[test]
    fn every_bit_and_the_length_matter() {
        let mut seen = HashSet::new();
        for n in 0..80 {
            let mut bytes = vec![0; n];
            assert!(seen.insert(of(&bytes)));
            for bit in 0..8 * n {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(seen.insert(of(&bytes)));
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn ram_is_told_apart_by_place() {
        let hash = |at: Option<u64>| {
            let ram = GuestRam::new(4 * PAGE_SIZE).unwrap();
            if let Some(at) = at {
                ram.write(at, &[1]);
            }
            let mut h = StateHash::default();
            h.add_ram(&ram);
            h.finish()
        };
        let all: HashSet<u128> = [None, Some(0), Some(1), Some(4096), Some(3 * 4096)].map(hash).into();
        assert_eq!(all.len(), 5);
        assert_eq!(hash(Some(5)), hash(Some(5)));
    }

    #[test]
    fn the_value_is_the_same_everywhere() {
        assert_eq!(of(b"tabvisor"), EXPECTED);
    }
    const EXPECTED: u128 = 35_342_492_811_320_435_688_678_764_118_831_245_472;
}
