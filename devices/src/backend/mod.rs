//! What is behind a device: disks here, network frames in [`net`], pictures in [`display`], keys in [`input`]. Emulated
//! controllers and Xen's back ends use the same.
//!
//! Nothing here waits. What has to come from outside is asked for with an [`Effect`] and arrives as an [`Input`]; until
//! then the answer is [`Outcome::Pending`]. Data moves through closures, from where it lies straight to where it belongs.

pub mod display;
mod fetched;
pub mod files;
mod image;
pub mod input;
pub mod net;
mod overlay;

pub use fetched::Fetched;
pub use image::Image;
pub use overlay::Overlay;

use crate::effect::{Effect, Input};
use std::sync::Arc;

/// Bytes in a sector, whatever a disk says of itself.
pub const SECTOR: u64 = 512;

/// Names something that is under way; never used twice by a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A range of sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sectors {
    /// The first one.
    pub first: u64,
    /// How many there are.
    pub count: u64,
}

impl Sectors {
    /// The first sector behind them; `None` if there is no such number.
    pub fn end(self) -> Option<u64> {
        self.first.checked_add(self.count)
    }
    /// Those behind the first `n`.
    #[must_use]
    pub fn skip(self, n: u64) -> Self {
        let n = n.min(self.count);
        Self { first: self.first + n, count: self.count - n }
    }
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It waits for something from outside; see [`BlockBackend::input`].
    Pending(Ticket),
    /// It cannot be done.
    Failed,
}

/// Something that was under way has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What it was.
    pub ticket: Ticket,
    /// Did it work?
    pub ok: bool,
}

/// A disk.
pub trait BlockBackend {
    /// How large it is.
    fn sectors(&self) -> u64;
    /// Do all writes fail?
    fn read_only(&self) -> bool;
    /// In how large pieces it can forget data, in sectors; `None` if it cannot.
    fn discard_granularity(&self) -> Option<u64> {
        None
    }
    /// Hands the sectors to `to`, in order, in slices of whole sectors. When it is [`Outcome::Pending`], what was handed
    /// over stays so, and the caller asks again for the rest when the ticket is done.
    fn read(&mut self, out: &mut Vec<Effect>, what: Sectors, to: &mut dyn FnMut(&[u8])) -> Outcome;
    /// Has `from` fill the sectors, in order, in slices of whole sectors. When it is [`Outcome::Pending`], all data was
    /// taken, and the request is done with the ticket.
    fn write(&mut self, out: &mut Vec<Effect>, what: Sectors, from: &mut dyn FnMut(&mut [u8])) -> Outcome;
    /// What was written is to last.
    fn flush(&mut self, _out: &mut Vec<Effect>) -> Outcome {
        Outcome::Done
    }
    /// Nobody needs this data any more. What it reads as from now on is the disk's own choice.
    fn discard(&mut self, _out: &mut Vec<Effect>, _what: Sectors) -> Outcome {
        Outcome::Failed
    }
    /// What was written, at or behind a sector: the first sector of a run of it, and the run's data; `None` if nothing was.
    fn written(&self, _from: u64) -> Option<(u64, &[u8])> {
        None
    }
    /// News for this disk; what has ended with it.
    fn input(&mut self, _input: &Input) -> Option<Completion> {
        None
    }
    /// Appends what the guest can tell apart, in a form that is the same on all hosts.
    fn state_bytes(&self, out: &mut Vec<u8>);

    /// Does the disk have all of these sectors?
    fn has(&self, what: Sectors) -> bool {
        what.end().is_some_and(|end| end <= self.sectors())
    }
}

impl BlockBackend for Box<dyn BlockBackend> {
    fn sectors(&self) -> u64 {
        (**self).sectors()
    }
    fn read_only(&self) -> bool {
        (**self).read_only()
    }
    fn discard_granularity(&self) -> Option<u64> {
        (**self).discard_granularity()
    }
    fn read(&mut self, out: &mut Vec<Effect>, what: Sectors, to: &mut dyn FnMut(&[u8])) -> Outcome {
        (**self).read(out, what, to)
    }
    fn write(&mut self, out: &mut Vec<Effect>, what: Sectors, from: &mut dyn FnMut(&mut [u8])) -> Outcome {
        (**self).write(out, what, from)
    }
    fn flush(&mut self, out: &mut Vec<Effect>) -> Outcome {
        (**self).flush(out)
    }
    fn discard(&mut self, out: &mut Vec<Effect>, what: Sectors) -> Outcome {
        (**self).discard(out, what)
    }
    fn written(&self, from: u64) -> Option<(u64, &[u8])> {
        (**self).written(from)
    }
    fn input(&mut self, input: &Input) -> Option<Completion> {
        (**self).input(input)
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        (**self).state_bytes(out);
    }
}

/// Where a disk's contents come from.
#[derive(Clone, Debug)]
pub enum DiskImage {
    /// Bytes in memory.
    Memory(Arc<Vec<u8>>),
    /// So many sectors of zeros.
    Blank(u64),
    /// So many sectors somewhere outside; each is asked for when it is needed ([`Effect::BlockRead`]).
    Outside(u64),
}

/// A disk to be made.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// What is on it at first.
    pub image: DiskImage,
    /// Writes fail. Otherwise they go to memory, and last as long as the machine, over resets.
    pub read_only: bool,
    /// Bytes of memory that writes may take.
    pub room: u64,
    /// Bytes of memory for data from outside.
    pub cache: u64,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self { image: DiskImage::Blank(0), read_only: false, room: 1 << 30, cache: 64 << 20 }
    }
}

impl DiskConfig {
    /// The disk; `number` is its place in the machine's list.
    pub fn make(&self, number: u8) -> Box<dyn BlockBackend> {
        let base: Box<dyn BlockBackend> = match &self.image {
            DiskImage::Memory(bytes) => Box::new(Image::new(bytes.clone())),
            DiskImage::Blank(sectors) => Box::new(Image::blank(*sectors)),
            DiskImage::Outside(sectors) => Box::new(Fetched::new(number, *sectors, self.cache)),
        };
        if self.read_only { base } else { Box::new(Overlay::new(base, self.room)) }
    }
}

#[cfg(test)]
mod tests;
