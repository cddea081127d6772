//! The block back end (Xen: public/io/blkif.h; Linux: drivers/block/xen-blkback). Data goes page by page between the disk
//! and the guest's RAM, without a buffer.
//!
//! Left out: persistent grants (they make the guest copy everything), several queues, barriers, secure discards.

use super::blkif::{
    Abi, DISCARD_SECURE, MAX_INDIRECT_PAGES, MAX_INDIRECT_SEGMENTS, MAX_SEGMENTS, Request, SEGMENT, SEGMENTS_PER_PAGE,
    Segment, op, rsp,
};
use super::ring::{Broken, Ring};
use super::xenbus::{Keys, number, text};
use super::{BackEnd, Cx, Log};
use crate::backend::{BlockBackend, Completion, Outcome, SECTOR, Sectors, Ticket};
use crate::device::put_state;
use crate::effect::Input;
use crate::xen::store::DevicePaths;
use serde::Serialize;
use tabvisor_core::mem::GuestRam;

/// `max-ring-page-order`.
const MAX_RING_PAGE_ORDER: u32 = 4;
/// `VDISK_READONLY`.
const VDISK_READONLY: u32 = 4;
/// How often a ring is looked at before the guest goes on. It cannot run meanwhile; but data that it reads can change the
/// ring itself.
const MAX_ROUNDS: u32 = 2;

/// The number of disk `n` in xenstore: xvda and so on, without partitions (docs/misc/vbd-interface.txt).
pub fn device_number(n: u32) -> u32 {
    if n < 16 { 202 << 8 | n << 4 } else { 1 << 28 | n << 8 }
}

/// The name of disk `n`.
fn device_name(n: usize) -> String {
    let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
    if n < 26 { format!("xvd{}", letter(n)) } else { format!("xvd{}{}", letter(n / 26 - 1), letter(n)) }
}

/// A request that waits for the disk.
#[derive(Debug, Serialize)]
struct Waiting {
    ticket: u64,
    id: u64,
    op: u8,
    segments: Vec<Segment>,
    /// All sectors of a read, and bytes of them that are in the guest's RAM already.
    first: u64,
    count: u64,
    done: u64,
}

/// A connection with a front end.
#[derive(Debug, Serialize)]
struct Link {
    ring: Ring,
    abi: Abi,
    port: u32,
    waiting: Vec<Waiting>,
}

/// A vbd.
pub struct Blk {
    disk: usize,
    keys: (Keys, Keys),
    link: Option<Link>,
    log: Log,
    /// Room for the segments of a request, and for where they are in RAM: address and length.
    segments: Vec<Segment>,
    runs: Vec<(u64, u64)>,
}

/// What a request turns to be.
enum Verdict {
    Done,
    Wait(Waiting),
    Error,
    Unsupported,
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        if outcome == Outcome::Done { Self::Done } else { Self::Error }
    }
}

/// Goes through pieces of guest RAM.
struct Cursor<'a> {
    ram: &'a GuestRam,
    runs: &'a [(u64, u64)],
    /// Bytes that are done.
    done: u64,
    /// How far the first of `runs` is done.
    off: u64,
}

impl<'a> Cursor<'a> {
    fn new(ram: &'a GuestRam, runs: &'a [(u64, u64)]) -> Self {
        Self { ram, runs, done: 0, off: 0 }
    }
    /// At most `n` bytes more: where they are, and how many.
    fn next(&mut self, n: u64) -> Option<(u64, usize)> {
        let &(at, len) = self.runs.first()?;
        let (at, n) = (at + self.off, n.min(len - self.off));
        (self.done, self.off) = (self.done + n, self.off + n);
        if self.off == len {
            (self.runs, self.off) = (&self.runs[1..], 0);
        }
        Some((at, n as usize))
    }
    fn skip(&mut self, n: u64) {
        while self.done < n && self.next(n - self.done).is_some() {}
    }
    fn write(&mut self, mut from: &[u8]) {
        while let (false, Some((at, n))) = (from.is_empty(), self.next(from.len() as u64)) {
            self.ram.write(at, &from[..n]);
            from = &from[n..];
        }
    }
    fn read(&mut self, mut to: &mut [u8]) {
        while let (false, Some((at, n))) = (to.is_empty(), self.next(to.len() as u64)) {
            let (head, tail) = to.split_at_mut(n);
            self.ram.read(at, head);
            to = tail;
        }
    }
}

impl Blk {
    /// The vbd of disk `disk` of the machine.
    pub fn new(disk: usize, it: &dyn BlockBackend) -> Self {
        let on = |key| (key, "1".to_string());
        let front = vec![
            ("virtual-device", device_number(disk as u32).to_string()),
            ("device-type", "disk".into()),
            on("trusted"),
        ];
        let mut back = vec![
            ("removable", "0".into()),
            on("bootable"),
            ("dev", device_name(disk)),
            ("type", "phy".into()),
            ("mode", if it.read_only() { "r" } else { "w" }.into()),
            ("device-type", "disk".into()),
            ("hotplug-status", "connected".into()),
            ("feature-max-indirect-segments", MAX_INDIRECT_SEGMENTS.to_string()),
            on("multi-queue-max-queues"),
            ("max-ring-page-order", MAX_RING_PAGE_ORDER.to_string()),
            on("feature-flush-cache"),
        ];
        if let Some(sectors) = it.discard_granularity().filter(|_| !it.read_only()) {
            back.extend([
                on("feature-discard"),
                ("discard-granularity", (sectors * SECTOR).to_string()),
                ("discard-alignment", "0".into()),
                ("discard-secure", "0".into()),
            ]);
        }
        let (segments, runs) = (Vec::new(), Vec::new());
        Self { disk, keys: (front, back), link: None, log: Log::default(), segments, runs }
    }

    /// The segments of a request, into `self.segments`; `None` if they make no sense.
    fn segments(&mut self, cx: &Cx<'_>, request: &Request<'_>) -> Option<()> {
        self.segments.clear();
        if request.op() != op::INDIRECT {
            if request.nr_segments() > MAX_SEGMENTS {
                return None;
            }
            self.segments.extend((0..request.nr_segments()).map(|n| request.segment(n)));
        } else {
            let count = request.indirect_segments();
            if count > MAX_INDIRECT_SEGMENTS {
                return None;
            }
            const { assert!(MAX_INDIRECT_SEGMENTS <= MAX_INDIRECT_PAGES * SEGMENTS_PER_PAGE) };
            for first in (0..count).step_by(SEGMENTS_PER_PAGE) {
                let page = cx.page(request.indirect_gref(first / SEGMENTS_PER_PAGE), false).ok()?;
                let mut bytes = [0; MAX_INDIRECT_SEGMENTS * SEGMENT];
                let bytes = &mut bytes[..(count - first).min(SEGMENTS_PER_PAGE) * SEGMENT];
                cx.ram.read(page, bytes);
                self.segments.extend(bytes.chunks_exact(SEGMENT).map(Segment::new));
            }
        }
        self.segments.iter().all(Segment::is_valid).then_some(())
    }

    /// Where segments are in RAM, into `self.runs`. `write`: the guest's pages are written to.
    fn place(&mut self, cx: &mut Cx<'_>, segments: &[Segment], write: bool) -> Option<()> {
        self.runs.clear();
        for s in segments {
            let page = match cx.page(s.gref, write) {
                Ok(page) => page,
                Err(why) => {
                    self.log.say(cx.out, format!("vbd {}: {why}", device_name(self.disk)));
                    return None;
                }
            };
            let (at, len) = (page + u64::from(s.first) * SECTOR, s.count() * SECTOR);
            match self.runs.last_mut() {
                Some(last) if last.0 + last.1 == at => last.1 += len,
                _ => self.runs.push((at, len)),
            }
        }
        Some(())
    }

    /// Reads into the places in `self.runs`, behind what is done.
    fn read(&self, cx: &mut Cx<'_>, what: Sectors, done: &mut u64) -> Outcome {
        let mut cursor = Cursor::new(cx.ram, &self.runs);
        cursor.skip(*done);
        let outcome = cx.disks[self.disk].read(cx.out, what.skip(*done / SECTOR), &mut |bytes| cursor.write(bytes));
        *done = cursor.done;
        outcome
    }

    fn transfer(&mut self, cx: &mut Cx<'_>, request: &Request<'_>, op: u8) -> Verdict {
        if self.segments(cx, request).is_none() || self.segments.is_empty() && op != op::FLUSH_DISKCACHE {
            return Verdict::Error;
        }
        let what = Sectors { first: request.sector(), count: self.segments.iter().map(Segment::count).sum() };
        let segments = core::mem::take(&mut self.segments);
        let placed = self.place(cx, &segments, op == op::READ);
        self.segments = segments;
        let (id, disk) = (request.id(), self.disk);
        // An empty flush is nowhere; Linux says that it is at sector -1.
        if placed.is_none() || what.count > 0 && !cx.disks[disk].has(what) {
            return Verdict::Error;
        }
        let mut done = 0;
        let outcome = if op == op::READ {
            self.read(cx, what, &mut done)
        } else {
            let disk = &mut cx.disks[disk];
            let mut cursor = Cursor::new(cx.ram, &self.runs);
            let mut outcome = Outcome::Done;
            if what.count > 0 {
                outcome = disk.write(cx.out, what, &mut |bytes| cursor.read(bytes));
            }
            // A flush that has data flushes that, too. A write that is still under way is so for both.
            if op == op::FLUSH_DISKCACHE && outcome == Outcome::Done { disk.flush(cx.out) } else { outcome }
        };
        let Outcome::Pending(Ticket(ticket)) = outcome else { return outcome.into() };
        let segments = if op == op::READ { self.segments.clone() } else { Vec::new() };
        Verdict::Wait(Waiting { ticket, id, op, segments, first: what.first, count: what.count, done })
    }

    fn request(&mut self, cx: &mut Cx<'_>, request: &Request<'_>) -> Verdict {
        match request.op() {
            op @ (op::READ | op::WRITE | op::FLUSH_DISKCACHE) => self.transfer(cx, request, op),
            op::INDIRECT => match request.indirect_op() {
                op @ (op::READ | op::WRITE) => self.transfer(cx, request, op),
                _ => Verdict::Error,
            },
            op::DISCARD => {
                let disk = &mut cx.disks[self.disk];
                if disk.read_only()
                    || disk.discard_granularity().is_none()
                    || request.discard_flag() & DISCARD_SECURE != 0
                {
                    return Verdict::Unsupported;
                }
                let what = Sectors { first: request.sector(), count: request.discard_sectors() };
                match disk.discard(cx.out, what) {
                    Outcome::Pending(Ticket(ticket)) => {
                        let (id, op, segments) = (request.id(), request.op(), Vec::new());
                        Verdict::Wait(Waiting { ticket, id, op, segments, first: 0, count: 0, done: 0 })
                    }
                    outcome => outcome.into(),
                }
            }
            _ => Verdict::Unsupported,
        }
    }

    /// Takes all requests of the ring.
    fn serve(&mut self, cx: &mut Cx<'_>, link: &mut Link) -> Result<(), Broken> {
        let mut n = link.ring.waiting(cx.ram)?;
        for _ in 0..MAX_ROUNDS {
            for _ in 0..n {
                let bytes = link.ring.take(cx.ram);
                let request = Request::new(link.abi, &bytes);
                let status = match self.request(cx, &request) {
                    Verdict::Done => rsp::OKAY,
                    Verdict::Error => rsp::ERROR,
                    Verdict::Unsupported => rsp::EOPNOTSUPP,
                    Verdict::Wait(waiting) => {
                        link.waiting.push(waiting);
                        continue;
                    }
                };
                link.respond(cx, request.id(), request.real_op(), status);
            }
            link.push(cx);
            n = link.ring.await_more(cx.ram, 0)?;
            if n == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Something that the disk was doing has ended.
    fn complete(&mut self, cx: &mut Cx<'_>, link: &mut Link, completion: Completion) {
        for mut w in core::mem::take(&mut link.waiting) {
            if w.ticket != completion.ticket.0 {
                link.waiting.push(w);
                continue;
            }
            let mut outcome = if completion.ok { Outcome::Done } else { Outcome::Failed };
            if completion.ok && !w.segments.is_empty() {
                // The grants may be others by now, so they are looked at again.
                outcome = match self.place(cx, &w.segments, true) {
                    Some(()) => self.read(cx, Sectors { first: w.first, count: w.count }, &mut w.done),
                    None => Outcome::Failed,
                };
            }
            match outcome {
                Outcome::Pending(Ticket(ticket)) => link.waiting.push(Waiting { ticket, ..w }),
                Outcome::Done => link.respond(cx, w.id, w.op, rsp::OKAY),
                Outcome::Failed => link.respond(cx, w.id, w.op, rsp::ERROR),
            }
        }
        link.push(cx);
    }
}

impl Link {
    fn respond(&mut self, cx: &Cx<'_>, id: u64, op: u8, status: i16) {
        let (bytes, len) = self.abi.response(id, op, status);
        self.ring.put(cx.ram, &bytes[..len]);
    }
    fn push(&mut self, cx: &mut Cx<'_>) {
        if self.ring.push(cx.ram) {
            cx.notify(self.port);
        }
    }
}

impl BackEnd for Blk {
    fn keys(&self) -> (Keys, Keys) {
        self.keys.clone()
    }
    fn connect(&mut self, cx: &mut Cx<'_>, paths: &DevicePaths) -> Result<(), String> {
        let front = &paths.frontend;
        let key = |cx: &Cx<'_>, key: &str| {
            number::<u32>(cx.store, front, key).ok_or_else(|| format!("its key {key} is no number"))
        };
        let abi = text(cx.store, front, "protocol");
        let abi = Abi::by_name(abi).ok_or_else(|| format!("there is no protocol {abi:?}"))?;
        if number(cx.store, front, "multi-queue-num-queues").is_some_and(|n: u32| n > 1) {
            return Err("it has several queues".into());
        }
        let mut pages = Vec::new();
        if let Some(order) = number::<u32>(cx.store, front, "ring-page-order") {
            if order > MAX_RING_PAGE_ORDER {
                return Err(format!("its ring has 2^{order} pages"));
            }
            for n in 0..1 << order {
                pages.push(cx.page(key(cx, &format!("ring-ref{n}"))?, true)?);
            }
        } else {
            pages.push(cx.page(key(cx, "ring-ref")?, true)?);
        }
        let port = key(cx, "event-channel")?;
        let ring = Ring::attach(cx.ram, pages, abi.entry()).map_err(|Broken(why)| why)?;
        if !cx.ports.bind_back_end(port) {
            return Err(format!("port {port} does not wait for us"));
        }
        self.link = Some(Link { ring, abi, port, waiting: Vec::new() });
        let disk = &cx.disks[self.disk];
        let keys = [
            ("sectors", disk.sectors()),
            ("info", if disk.read_only() { VDISK_READONLY.into() } else { 0 }),
            ("sector-size", SECTOR),
            ("physical-sector-size", SECTOR),
        ];
        for (key, value) in keys {
            let path = format!("{}/{key}", paths.backend);
            cx.store.write(&path, value.to_string()).expect("our own path is valid");
        }
        Ok(())
    }
    fn disconnect(&mut self, cx: &mut Cx<'_>) {
        if let Some(link) = self.link.take() {
            cx.ports.unbind_back_end(link.port);
        }
    }
    fn has_port(&self, port: u32) -> bool {
        self.link.as_ref().is_some_and(|link| link.port == port)
    }
    fn kick(&mut self, cx: &mut Cx<'_>) -> Result<(), Broken> {
        let Some(mut link) = self.link.take() else { return Ok(()) };
        let result = cx.check_ring(&link.ring).and_then(|()| self.serve(cx, &mut link));
        self.link = Some(link);
        result
    }
    fn input(&mut self, cx: &mut Cx<'_>, input: &Input) -> Result<(), Broken> {
        if !matches!(input, Input::BlockData { disk, .. } if usize::from(*disk) == self.disk) {
            return Ok(());
        }
        let Some(completion) = cx.disks[self.disk].input(input) else { return Ok(()) };
        let Some(mut link) = self.link.take() else { return Ok(()) };
        let result = cx.check_ring(&link.ring);
        if result.is_ok() {
            self.complete(cx, &mut link, completion);
        }
        self.link = Some(link);
        result
    }
    fn log(&mut self) -> &mut Log {
        &mut self.log
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.link);
    }
}

#[cfg(test)]
#[path = "blk_tests.rs"]
mod tests;
