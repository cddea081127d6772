//! Copy on write in memory: what is written to a disk that cannot be written itself.
//!
//! Data is kept by clusters, each with a bit per sector, so no write has to read what it does not replace.

use super::image::ZEROS;
use super::{BlockBackend, Completion, Outcome, SECTOR, Sectors};
use crate::device::put_state;
use crate::effect::{Effect, Input};
use crate::machine::hash::StateHash;
use std::collections::BTreeMap;

/// Sectors of a cluster: as many as there are bits in [`Cluster::written`].
const CLUSTER: u64 = 64;
/// Clusters that are remembered as zeros without having data; they cost memory, too.
const MAX_ZEROS: u64 = 1 << 20;
const CLUSTER_BYTES: usize = (CLUSTER * SECTOR) as usize;

/// What was written within a cluster.
struct Cluster {
    /// Which sectors are here; the others are still the base's.
    written: u64,
    /// Their data; `None` for zeros.
    data: Option<Box<[u8]>>,
}

/// A disk over another.
pub struct Overlay<B> {
    base: B,
    clusters: BTreeMap<u64, Cluster>,
    /// Clusters that may get data yet.
    room: u64,
    /// Clusters without data.
    zeros: u64,
}

/// Bits of `count` sectors from `first` on.
fn bits(first: u64, count: u64) -> u64 {
    (u64::MAX >> (CLUSTER - count)) << first
}

/// The part of `what` that lies in one cluster: the cluster, the first sector within, how many.
fn piece(what: Sectors) -> (u64, u64, u64) {
    let within = what.first % CLUSTER;
    (what.first / CLUSTER, within, what.count.min(CLUSTER - within))
}

fn bytes(first: u64, count: u64) -> core::ops::Range<usize> {
    (first * SECTOR) as usize..((first + count) * SECTOR) as usize
}

/// A cluster of zeros, if there is memory for it.
fn new_data(room: &mut u64) -> Option<Box<[u8]>> {
    let mut data = Vec::new();
    if *room == 0 || data.try_reserve_exact(CLUSTER_BYTES).is_err() {
        return None;
    }
    *room -= 1;
    data.resize(CLUSTER_BYTES, 0);
    Some(data.into())
}

impl<B: BlockBackend> Overlay<B> {
    /// Over `base`, with so many bytes of memory for what is written.
    pub fn new(base: B, room: u64) -> Self {
        Self { base, clusters: BTreeMap::new(), room: room / CLUSTER_BYTES as u64, zeros: 0 }
    }
}

impl<B: BlockBackend> BlockBackend for Overlay<B> {
    fn sectors(&self) -> u64 {
        self.base.sectors()
    }
    fn read_only(&self) -> bool {
        false
    }
    fn discard_granularity(&self) -> Option<u64> {
        Some(CLUSTER)
    }
    fn read(&mut self, out: &mut Vec<Effect>, what: Sectors, to: &mut dyn FnMut(&[u8])) -> Outcome {
        if !self.has(what) {
            return Outcome::Failed;
        }
        let mut rest = what;
        while rest.count > 0 {
            let (n, within, count) = piece(rest);
            let run = if let Some(cluster) = self.clusters.get(&n) {
                let written = cluster.written >> within;
                if written & 1 != 0 {
                    let run = count.min((!written).trailing_zeros().into());
                    to(&cluster.data.as_deref().unwrap_or(&ZEROS)[bytes(within, run)]);
                    rest = rest.skip(run);
                    continue;
                }
                count.min(written.trailing_zeros().into())
            } else {
                let next = self.clusters.range(n..).next().map_or(u64::MAX, |(&next, _)| next * CLUSTER);
                rest.count.min(next - rest.first)
            };
            match self.base.read(out, Sectors { first: rest.first, count: run }, to) {
                Outcome::Done => rest = rest.skip(run),
                other => return other,
            }
        }
        Outcome::Done
    }
    fn write(&mut self, _out: &mut Vec<Effect>, what: Sectors, from: &mut dyn FnMut(&mut [u8])) -> Outcome {
        if !self.has(what) {
            return Outcome::Failed;
        }
        let mut rest = what;
        while rest.count > 0 {
            let (n, within, count) = piece(rest);
            let cluster = self.clusters.entry(n).or_insert(Cluster { written: 0, data: None });
            if cluster.data.is_none() {
                cluster.data = new_data(&mut self.room);
                self.zeros -= u64::from(cluster.data.is_some() && cluster.written != 0);
            }
            let Some(data) = &mut cluster.data else {
                if cluster.written == 0 {
                    self.clusters.remove(&n);
                }
                return Outcome::Failed;
            };
            from(&mut data[bytes(within, count)]);
            cluster.written |= bits(within, count);
            rest = rest.skip(count);
        }
        Outcome::Done
    }
    fn flush(&mut self, out: &mut Vec<Effect>) -> Outcome {
        self.base.flush(out)
    }
    fn discard(&mut self, _out: &mut Vec<Effect>, what: Sectors) -> Outcome {
        if !self.has(what) {
            return Outcome::Failed;
        }
        // Only what is here: a disk may be far larger than what one request should touch.
        let end = what.first + what.count;
        for (&n, cluster) in self.clusters.range_mut(what.first / CLUSTER..end.div_ceil(CLUSTER)) {
            let Some(data) = &mut cluster.data else { continue };
            let first = what.first.max(n * CLUSTER) - n * CLUSTER;
            let count = end.min((n + 1) * CLUSTER) - n * CLUSTER - first;
            if count == CLUSTER && self.zeros < MAX_ZEROS {
                *cluster = Cluster { written: u64::MAX, data: None };
                (self.zeros, self.room) = (self.zeros + 1, self.room + 1);
            } else {
                data[bytes(first, count)].fill(0);
                cluster.written |= bits(first, count);
            }
        }
        Outcome::Done
    }
    fn written(&self, from: u64) -> Option<(u64, &[u8])> {
        self.clusters.range(from / CLUSTER..).find_map(|(&n, cluster)| {
            let behind = cluster.written & (u64::MAX << from.saturating_sub(n * CLUSTER));
            let first = u64::from(behind.trailing_zeros());
            let count = u64::from((!behind.checked_shr(first as u32)?).trailing_zeros());
            Some((n * CLUSTER + first, &cluster.data.as_deref().unwrap_or(&ZEROS)[bytes(first, count)]))
        })
    }
    fn input(&mut self, input: &Input) -> Option<Completion> {
        self.base.input(input)
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        for (n, Cluster { written, data }) in &self.clusters {
            let mut hash = StateHash::default();
            data.iter().for_each(|data| hash.add(data));
            put_state(out, &(n, written, data.is_some(), hash.finish()));
        }
        self.base.state_bytes(out);
    }
}
