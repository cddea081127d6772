//! What a domain has outside of it: disks whose data is with the host, and network cards. Requests and frames wait here
//! until the caller comes for them, once per slice. What the guest has written to its disks can be asked for.

use crate::shared::Shared;
use tabvisor_devices::backend::display::DisplayConfig;
use tabvisor_devices::backend::net::NicConfig;
use tabvisor_devices::backend::{BlockBackend, DiskConfig, DiskImage, SECTOR};
use tabvisor_devices::effect::{Effect, Input};

/// What only domains have is an array of so many: without the hypervisor it takes no place, and no code.
pub const DOMAINS: usize = cfg!(feature = "xen") as usize;
/// Bytes in front of each frame of a batch: the card's number and the frame's length, the lower byte first.
const FRAME_HEAD: usize = 3;
/// Bytes in front of each run of sectors that were written: the first one, how many, the lower bytes first.
const RUN_HEAD: usize = 16;
/// Bytes of such runs that are handed out at a time, or one run more.
const WRITTEN: usize = 1 << 20;
/// Numbers per request for sectors.
const REQUEST: usize = 4;

/// What a domain is made of beside its files.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// In the order the guest finds them.
    pub disks: Vec<DiskConfig>,
    /// Likewise.
    pub nics: Vec<NicConfig>,
    /// A display, with keyboard and pointer.
    pub display: Option<DisplayConfig>,
    /// Files that it may mount.
    pub shared: Option<Shared>,
    /// MiB of memory that it may come to have; no less than it boots with.
    pub most_mib: u32,
}

impl Parts {
    /// One more disk: of these bytes, or of so many sectors that are asked for when they are needed.
    pub fn add_disk(&mut self, bytes: Option<Vec<u8>>, sectors: u64, read_only: bool) {
        let image = bytes.map_or(DiskImage::Outside(sectors), |bytes| DiskImage::Memory(bytes.into()));
        self.disks.push(DiskConfig { image, read_only, ..DiskConfig::default() });
    }

    /// One more network card.
    pub fn add_nic(&mut self, mac: [u8; 6]) {
        self.nics.push(NicConfig { mac });
    }
}

/// What waits for the caller.
#[derive(Debug, Default)]
pub struct Outbox {
    requests: Vec<f64>,
    frames: Vec<u8>,
}

impl Outbox {
    /// Is there nothing?
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.frames.is_empty()
    }

    /// Keeps what is for outside; other effects are none of this.
    pub fn add(&mut self, effect: &Effect) {
        match effect {
            Effect::BlockRead { disk, first, count, ticket } => {
                let request: [f64; REQUEST] = [f64::from(*disk), *first as f64, f64::from(*count), *ticket as f64];
                self.requests.extend(request);
            }
            Effect::Frame { nic, bytes } => {
                // Nothing longer comes from a card.
                let Ok(len) = u16::try_from(bytes.len()) else { return };
                let [low, high] = len.to_le_bytes();
                self.frames.extend([*nic, low, high]);
                self.frames.extend_from_slice(bytes);
            }
            _ => {}
        }
    }

    /// Requests for sectors, four numbers each: disk, first sector, how many, ticket.
    pub fn take_requests(&mut self) -> Vec<f64> {
        core::mem::take(&mut self.requests)
    }

    /// Frames, each with its head.
    pub fn take_frames(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.frames)
    }
}

/// What was written to a disk, at and behind a sector: runs of sectors, each after its head. If it is not all, the rest comes
/// from the sector on that follows the last; nothing, if there is no more.
pub fn written(disk: &dyn BlockBackend, mut from: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut head, mut start) = (0, 0);
    while let Some((first, bytes)) = disk.written(from).filter(|_| out.len() < WRITTEN) {
        if out.is_empty() || first != from {
            (head, start) = (out.len(), first);
            out.extend([0; RUN_HEAD]);
        }
        out.extend_from_slice(bytes);
        from = first + bytes.len() as u64 / SECTOR;
        let numbers = [start, from - start].map(u64::to_le_bytes);
        out[head..head + RUN_HEAD].copy_from_slice(numbers.as_flattened());
    }
    out
}

/// The frames of a batch. One that is cut off ends it.
pub fn frames(batch: &[u8]) -> impl Iterator<Item = Input> {
    let mut rest = batch;
    core::iter::from_fn(move || {
        let ([nic, low, high], after) = rest.split_first_chunk::<FRAME_HEAD>()?;
        let (bytes, after) = after.split_at_checked(u16::from_le_bytes([*low, *high]).into())?;
        rest = after;
        Some(Input::Frame { nic: *nic, bytes: bytes.to_vec() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tabvisor_devices::backend::{Outcome, Sectors};

    #[test]
    fn what_was_written_comes_in_runs() {
        const SECTORS: u64 = 1 << 14;
        let mut disk = DiskConfig { image: DiskImage::Blank(SECTORS), ..DiskConfig::default() }.make(0);
        assert!(written(&*disk, 0).is_empty());
        let mut write = |first, count, byte| {
            let what = Sectors { first, count };
            assert_eq!(disk.write(&mut Vec::new(), what, &mut |slice| slice.fill(byte)), Outcome::Done);
        };
        write(5, 200, 1);
        write(300, 1, 2);
        write(1000, 8000, 3);
        let (mut runs, mut from) = (Vec::new(), 0);
        loop {
            let bytes = written(&*disk, from);
            if bytes.is_empty() {
                break;
            }
            assert!(bytes.len() <= WRITTEN + (1 << 16));
            let mut rest = &bytes[..];
            while let Some((head, after)) = rest.split_first_chunk::<RUN_HEAD>() {
                let [first, count] = [0, 8].map(|k| u64::from_le_bytes(*head[k..].first_chunk().expect("eight bytes")));
                let (data, after) = after.split_at((count * SECTOR) as usize);
                assert!(data.iter().all(|byte| *byte == data[0]));
                runs.push((first, count, data[0]));
                (from, rest) = (first + count, after);
            }
        }
        assert_eq!(runs[..2], [(5, 200, 1), (300, 1, 2)]);
        // The long one is cut.
        assert!(runs.len() > 3 && runs[2..].iter().map(|(_, count, _)| count).sum::<u64>() == 8000);
        assert_eq!((from, runs[2].0), (9000, 1000));
    }

    #[test]
    fn what_is_for_outside_waits_until_it_is_taken() {
        let mut outbox = Outbox::default();
        outbox.add(&Effect::Debug(vec![1]));
        assert!(outbox.is_empty());
        outbox.add(&Effect::BlockRead { disk: 1, first: 1 << 40, count: 8, ticket: 3 });
        outbox.add(&Effect::Frame { nic: 0, bytes: vec![7; 300] });
        outbox.add(&Effect::Frame { nic: 2, bytes: vec![] });
        assert!(!outbox.is_empty());
        assert_eq!(outbox.take_requests(), [1.0, (1u64 << 40) as f64, 8.0, 3.0]);
        let batch = outbox.take_frames();
        assert!(outbox.is_empty());
        let back: Vec<Input> = frames(&batch).collect();
        assert_eq!(back, [Input::Frame { nic: 0, bytes: vec![7; 300] }, Input::Frame { nic: 2, bytes: vec![] }]);
        for cut in 0..batch.len() {
            assert!(frames(&batch[..cut]).count() < 2, "{cut}");
        }
    }
}
