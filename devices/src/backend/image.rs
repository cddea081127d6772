//! A disk image in memory. It cannot be written: an [`Overlay`](super::Overlay) over it can.

use super::{BlockBackend, Outcome, SECTOR, Sectors};
use crate::effect::Effect;
use std::sync::Arc;

/// What lies behind the bytes of an image.
pub(super) static ZEROS: [u8; 1 << 15] = [0; 1 << 15];

/// An image in memory, shared by all who use it.
pub struct Image {
    bytes: Arc<Vec<u8>>,
    sectors: u64,
}

impl Image {
    /// A disk of these bytes; a last sector that is not whole is filled up with zeros.
    pub fn new(bytes: Arc<Vec<u8>>) -> Self {
        let sectors = (bytes.len() as u64).div_ceil(SECTOR);
        Self { bytes, sectors }
    }
    /// A disk of zeros.
    pub fn blank(sectors: u64) -> Self {
        Self { bytes: Arc::default(), sectors: sectors.min(u64::MAX / SECTOR) }
    }
}

impl BlockBackend for Image {
    fn sectors(&self) -> u64 {
        self.sectors
    }
    fn read_only(&self) -> bool {
        true
    }
    fn read(&mut self, _out: &mut Vec<Effect>, what: Sectors, to: &mut dyn FnMut(&[u8])) -> Outcome {
        if !self.has(what) {
            return Outcome::Failed;
        }
        let (mut at, mut left) = (what.first * SECTOR, what.count * SECTOR);
        let whole = self.bytes.len() as u64 / SECTOR * SECTOR;
        if at < whole && left > 0 {
            let n = left.min(whole - at);
            to(&self.bytes[at as usize..(at + n) as usize]);
            (at, left) = (at + n, left - n);
        }
        // The sector in which the bytes end.
        if left > 0 && at == whole && whole < self.bytes.len() as u64 {
            let mut sector = [0; SECTOR as usize];
            let rest = &self.bytes[whole as usize..];
            sector[..rest.len()].copy_from_slice(rest);
            to(&sector);
            left -= SECTOR;
        }
        while left > 0 {
            let n = left.min(ZEROS.len() as u64);
            to(&ZEROS[..n as usize]);
            left -= n;
        }
        Outcome::Done
    }
    fn write(&mut self, _out: &mut Vec<Effect>, _what: Sectors, _from: &mut dyn FnMut(&mut [u8])) -> Outcome {
        Outcome::Failed
    }
    fn state_bytes(&self, _out: &mut Vec<u8>) {}
}
