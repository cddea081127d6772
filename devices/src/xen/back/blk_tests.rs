use super::super::front::{FrontRing, Guest};
use super::super::xenbus::XenbusState::{self, *};
use super::*;
use crate::backend::{DiskConfig, DiskImage};
use crate::effect::{Control, Effect, Input};
use crate::xen::abi::domid;
use crate::xen::event::Binding;
use std::sync::Arc;

/// Sectors of the test disk.
const SECTORS: u64 = 4096;

/// Sector `n` is full of its number.
fn image() -> Arc<Vec<u8>> {
    Arc::new((0..SECTORS * 64).flat_map(|k| (k / 64).to_le_bytes()).collect())
}
fn config() -> DiskConfig {
    DiskConfig { image: DiskImage::Memory(image()), ..DiskConfig::default() }
}

/// What blkfront is.
struct Front {
    guest: Guest,
    paths: DevicePaths,
    abi: Abi,
    ring: FrontRing,
    port: u32,
    next_id: u64,
}

impl Front {
    fn new(disk: DiskConfig) -> Self {
        Self::connected(disk, Abi::X86_64, None)
    }
    fn connected(disk: DiskConfig, abi: Abi, order: Option<u32>) -> Self {
        let mut guest = Guest::new(vec![disk.make(0)]);
        let paths = DevicePaths::new("vbd", domid::GUEST, 51712);
        assert_eq!(guest.state(&paths), InitWait);
        let (ring, port, keys) = Self::rings(&mut guest, abi, order);
        guest.set(&paths, &keys, Initialised);
        assert_eq!((guest.state(&paths), guest.logs().len()), (Connected, 0));
        guest.set(&paths, &[], Connected);
        Self { guest, paths, abi, ring, port, next_id: 0x1234_5678_9abc_0000 }
    }
    /// A new ring and port, and the keys that tell of them.
    fn rings(guest: &mut Guest, abi: Abi, order: Option<u32>) -> (FrontRing, u32, Vec<(&'static str, String)>) {
        let pages = 1 << order.unwrap_or(0);
        let slots = 1 << ((pages * 4096 - 64) / abi.entry()).ilog2();
        let ring = FrontRing::new(guest, pages.into(), abi.entry().into(), slots);
        let grefs = ring.grefs(guest);
        let port = guest.port();
        let name = if abi == Abi::X86_64 { "x86_64-abi" } else { "x86_32-abi" };
        let mut keys = vec![("event-channel", port.to_string()), ("protocol", name.into())];
        match order {
            None => keys.push(("ring-ref", grefs[0].to_string())),
            Some(order) => {
                const NAMES: [&str; 16] = [
                    "ring-ref0",
                    "ring-ref1",
                    "ring-ref2",
                    "ring-ref3",
                    "ring-ref4",
                    "ring-ref5",
                    "ring-ref6",
                    "ring-ref7",
                    "ring-ref8",
                    "ring-ref9",
                    "ring-ref10",
                    "ring-ref11",
                    "ring-ref12",
                    "ring-ref13",
                    "ring-ref14",
                    "ring-ref15",
                ];
                keys.push(("ring-page-order", order.to_string()));
                keys.extend(NAMES.iter().zip(&grefs).map(|(&name, gref)| (name, gref.to_string())));
            }
        }
        (ring, port, keys)
    }
    /// Fields that all requests have; `a` and `b` are bytes 1 and 2.
    fn head(&mut self, op: u8, a: u8, b: u16, sector: u64) -> Vec<u8> {
        self.next_id += 1;
        let mut r = vec![op, a];
        r.extend(b.to_le_bytes());
        if self.abi == Abi::X86_64 {
            r.extend([0xee; 4]);
        }
        r.extend(self.next_id.to_le_bytes());
        r.extend(sector.to_le_bytes());
        r
    }
    fn rw(&mut self, op: u8, sector: u64, segments: &[(u32, u8, u8)]) -> Vec<u8> {
        let mut r = self.head(op, segments.len() as u8, 0, sector);
        segments.iter().for_each(|s| r.extend(descriptor(*s)));
        r
    }
    fn indirect(&mut self, op: u8, sector: u64, segments: &[(u32, u8, u8)]) -> Vec<u8> {
        let mut r = self.head(op::INDIRECT, op, segments.len() as u16, sector);
        r.extend(0u16.to_le_bytes());
        r.extend([0; 2]);
        for page in segments.chunks(512) {
            let at = self.guest.page();
            self.guest.ram.write(at, &page.iter().flat_map(|s| descriptor(*s)).collect::<Vec<_>>());
            r.extend(self.guest.grant(at, true).to_le_bytes());
        }
        r
    }
    fn discard(&mut self, sector: u64, count: u64, flag: u8) -> Vec<u8> {
        let mut r = self.head(op::DISCARD, flag, 0, sector);
        r.extend(count.to_le_bytes());
        r
    }
    /// Sends requests; what they are answered with: id and status, or nothing yet.
    fn send(&mut self, requests: &[Vec<u8>]) -> Vec<(u64, i16)> {
        requests.iter().for_each(|r| self.ring.put(&self.guest, r));
        self.ring.push(&self.guest);
        self.guest.kick(self.port);
        self.responses()
    }
    fn responses(&mut self) -> Vec<(u64, i16)> {
        let all = self.ring.take(&self.guest, 12);
        let of =
            |r: &Vec<u8>| (u64::from_le_bytes(*r.first_chunk().expect("long")), i16::from_le_bytes([r[10], r[11]]));
        all.iter().map(of).collect()
    }
    /// Sends one request; its status.
    fn status(&mut self, request: Vec<u8>) -> i16 {
        let op = if request[0] == op::INDIRECT { request[1] } else { request[0] };
        let (slot, slots) = (self.ring.rsp_cons, self.ring.slots);
        let answer = self.send(&[request]);
        assert_eq!(answer.len(), 1);
        assert_eq!(answer[0].0, self.next_id);
        assert_eq!(self.ring.response(&self.guest, slot % slots)[8], op);
        assert!(self.guest.event(self.port), "the guest is told");
        answer[0].1
    }
    /// A granted page.
    fn data(&mut self) -> (u64, u32) {
        let page = self.guest.page();
        (page, self.guest.grant(page, false))
    }
    /// The number at the beginning of sector `k` of a page.
    fn number(&self, page: u64, k: u64) -> u64 {
        u64::from_le_bytes(self.guest.ram.read_le(page + 512 * k))
    }
    fn disk(&mut self) -> &mut dyn BlockBackend {
        &mut *self.guest.disks[0]
    }
    /// What a sector of the disk is full of.
    fn sector(&mut self, n: u64) -> u64 {
        let mut v = Vec::new();
        let outcome =
            self.disk().read(&mut Vec::new(), Sectors { first: n, count: 1 }, &mut |b| v.extend_from_slice(b));
        assert_eq!(outcome, Outcome::Done);
        u64::from_le_bytes(*v.first_chunk().expect("a sector"))
    }
    /// Brings what was asked for; how often that was.
    fn serve(&mut self) -> usize {
        let (image, mut n) = (image(), 0);
        for effect in core::mem::take(&mut self.guest.out) {
            let Effect::BlockRead { disk, first, count, ticket } = effect else { continue };
            let bytes = Some(image[first as usize * 512..][..count as usize * 512].to_vec());
            self.guest.input(&Input::BlockData { disk, ticket, bytes });
            n += 1;
        }
        n
    }
}

fn descriptor((gref, first, last): (u32, u8, u8)) -> Vec<u8> {
    let mut b = gref.to_le_bytes().to_vec();
    b.extend([first, last, 0xaa, 0xaa]);
    b
}

#[test]
fn both_sides_find_each_other() {
    let f = Front::new(config());
    let get = |key| f.guest.get(&f.paths, key).unwrap_or_default();
    assert_eq!((get("sectors"), get("sector-size"), get("info")), ("4096".into(), "512".into(), "0".into()));
    assert_eq!((get("feature-discard"), get("discard-granularity")), ("1".into(), "32768".into()));
    assert_eq!((get("feature-max-indirect-segments"), get("mode")), ("256".into(), "w".into()));
    assert_eq!(f.guest.get(&f.paths, "feature-persistent"), None);
    let front = |key: &str| f.guest.domain.store.read(&format!("{}/{key}", f.paths.frontend)).map(<[u8]>::to_vec);
    assert_eq!(front("virtual-device").as_deref(), Some(&b"51712"[..]));
    assert_eq!(device_number(1), 51728);
    assert_eq!((device_name(25), device_name(26), device_number(26)), ("xvdz".into(), "xvdaa".into(), 0x1000_1a00));
}

#[test]
fn data_is_read_into_the_sectors_of_each_segment() {
    for abi in [Abi::X86_64, Abi::X86_32] {
        let mut f = Front::connected(config(), abi, None);
        let ((a, ga), (b, gb)) = (f.data(), f.data());
        for page in [a, b] {
            f.guest.ram.write(page, &[0xff; 4096]);
        }
        let r = f.rw(op::READ, 1000, &[(ga, 0, 7), (gb, 2, 3)]);
        assert_eq!(f.status(r), rsp::OKAY);
        assert_eq!((0..8).map(|k| f.number(a, k)).collect::<Vec<_>>(), (1000..1008).collect::<Vec<_>>());
        assert_eq!((0..5).map(|k| f.number(b, k)).collect::<Vec<_>>(), [u64::MAX, u64::MAX, 1008, 1009, u64::MAX]);
        assert_eq!(f.guest.read(b + 1020, 4), [0xff; 4]);
    }
}

#[test]
fn data_is_written_and_stays() {
    let mut f = Front::new(config());
    let page = f.guest.page();
    let gref = f.guest.grant(page, true);
    f.guest.ram.write(page, &(0..512u64).flat_map(|k| (5000 + k / 64).to_le_bytes()).collect::<Vec<_>>());
    let r = f.rw(op::WRITE, 63, &[(gref, 1, 2), (gref, 7, 7)]);
    assert_eq!(f.status(r), rsp::OKAY);
    assert_eq!((62..67).map(|n| f.sector(n)).collect::<Vec<_>>(), [62, 5001, 5002, 5007, 66]);
    for request in [f.rw(op::FLUSH_DISKCACHE, u64::MAX, &[]), f.rw(op::FLUSH_DISKCACHE, 7, &[(gref, 3, 3)])] {
        f.next_id = u64::from_le_bytes(*request[8..].first_chunk().unwrap());
        assert_eq!(f.status(request), rsp::OKAY);
    }
    assert_eq!(f.sector(7), 5003);
}

#[test]
fn a_ring_of_many_pages_and_requests_of_many_segments() {
    let mut f = Front::connected(config(), Abi::X86_64, Some(4));
    assert_eq!(f.ring.slots, 512);
    let pages: Vec<(u64, u32)> = (0..256).map(|_| f.data()).collect();
    for round in 0..3u64 {
        let segments: Vec<_> = pages.iter().map(|p| (p.1, 0, 7)).collect();
        let r = f.indirect(op::READ, round * 8, &segments);
        assert_eq!(f.status(r), rsp::OKAY);
        for (k, (page, _)) in (0..).zip(&pages) {
            assert_eq!((f.number(*page, 0), f.number(*page, 7)), ((round + k) * 8, (round + k) * 8 + 7));
        }
    }
    // All slots at once, one event.
    let requests: Vec<_> = (0..512).map(|k| f.rw(op::WRITE, k * 8, &[(pages[k as usize % 256].1, 0, 7)])).collect();
    let answers = f.send(&requests);
    assert_eq!(answers.len(), 512);
    assert!(answers.iter().all(|a| a.1 == rsp::OKAY) && f.guest.event(f.port) && !f.guest.event(f.port));
    assert_eq!(f.sector(4095), 16 + 255 * 8 + 7);
}

#[test]
fn what_cannot_be_done_is_an_error_and_does_nothing() {
    let mut f = Front::new(config());
    let (page, good) = f.data();
    let read_only = f.guest.grant(page, true);
    let others = f.guest.grant(page, false);
    f.guest.set_grant(others, 1, 5, page >> 12);
    let beyond = f.guest.grant(1 << 40, false);
    let ungranted = 500;
    f.guest.ram.write(page, &[0xff; 4096]);
    let mut bad = vec![
        f.rw(op::READ, 0, &[]),
        f.rw(op::READ, 0, &[(good, 0, 8)]),
        f.rw(op::READ, 0, &[(good, 3, 2)]),
        f.rw(op::READ, 0, &[(good, 255, 255)]),
        f.rw(op::READ, 0, &[(good, 0, 7); 12]),
        f.rw(op::READ, SECTORS, &[(good, 0, 0)]),
        f.rw(op::READ, SECTORS - 1, &[(good, 0, 1)]),
        f.rw(op::READ, u64::MAX, &[(good, 0, 1)]),
        f.indirect(op::READ, 0, &[]),
        f.indirect(op::READ, 0, &[(good, 0, 0); 257]),
        f.indirect(op::FLUSH_DISKCACHE, 0, &[(good, 0, 0)]),
        f.indirect(op::INDIRECT, 0, &[(good, 0, 0)]),
        f.discard(SECTORS, 1, 0),
        f.discard(1, u64::MAX, 0),
    ];
    for gref in [read_only, others, beyond, ungranted, u32::MAX] {
        bad.push(f.rw(op::READ, 0, &[(good, 0, 7), (gref, 0, 7)]));
        bad.push(f.indirect(op::READ, 0, &[(gref, 0, 7)]));
    }
    let mut no_page = f.indirect(op::READ, 0, &[(good, 0, 0)]);
    no_page[28..32].copy_from_slice(&ungranted.to_le_bytes());
    bad.push(no_page);
    for request in bad {
        f.next_id = u64::from_le_bytes(*request[8..].first_chunk().unwrap());
        let text = format!("{:x?}", &request[..40.min(request.len())]);
        assert_eq!(f.status(request), rsp::ERROR, "{text}");
    }
    for op in [2, 4, 7, 200] {
        let r = f.rw(op, 0, &[(good, 0, 7)]);
        assert_eq!(f.status(r), rsp::EOPNOTSUPP);
    }
    let r = f.discard(0, 64, DISCARD_SECURE);
    assert_eq!(f.status(r), rsp::EOPNOTSUPP);
    assert_eq!(f.guest.read(page, 4096), [0xff; 4096]);
    assert!((0..SECTORS).all(|n| f.sector(n) == n));
    assert_eq!(f.guest.state(&f.paths), Connected);
    assert!((1..=16).contains(&f.guest.logs().len()));
}

#[test]
fn page_tables_are_not_written_to() {
    use crate::xen::mmu::Kind;
    let mut f = Front::new(config());
    let (page, gref) = f.data();
    let ram = f.guest.ram.clone();
    f.guest.domain.types.get(&ram, page >> 12, Kind::L1).unwrap();
    let r = f.rw(op::READ, 5, &[(gref, 0, 0)]);
    assert_eq!(f.status(r), rsp::ERROR);
    let r = f.rw(op::WRITE, 5, &[(gref, 0, 0)]);
    assert_eq!(f.status(r), rsp::OKAY, "but they may be read");
    f.guest.domain.types.put(page >> 12);
    // Nor is a ring that has become one.
    let ring = f.ring.pages[0] >> 12;
    ram.write(f.ring.pages[0], &[0; 4096]);
    f.guest.domain.types.get(&ram, ring, Kind::L1).unwrap();
    f.guest.kick(f.port);
    assert_eq!(f.guest.read(f.ring.pages[0], 4096), [0; 4096]);
    assert_eq!(f.guest.state(&f.paths), Closing);
}

#[test]
fn a_read_only_disk_says_so_and_refuses_writes() {
    let mut f = Front::new(DiskConfig { read_only: true, ..config() });
    assert_eq!((f.guest.get(&f.paths, "info"), f.guest.get(&f.paths, "mode")), (Some("4".into()), Some("r".into())));
    assert_eq!(f.guest.get(&f.paths, "feature-discard"), None);
    let (_, gref) = f.data();
    for (request, status) in [
        (f.rw(op::WRITE, 0, &[(gref, 0, 7)]), rsp::ERROR),
        (f.discard(0, 64, 0), rsp::EOPNOTSUPP),
        (f.rw(op::READ, 0, &[(gref, 0, 7)]), rsp::OKAY),
    ] {
        f.next_id = u64::from_le_bytes(*request[8..].first_chunk().unwrap());
        assert_eq!(f.status(request), status);
    }
}

#[test]
fn discarded_sectors_are_zeros_if_they_were_written() {
    let mut f = Front::new(config());
    let (_, gref) = f.data();
    let r = f.indirect(op::WRITE, 0, &[(gref, 0, 7); 32]);
    assert_eq!(f.status(r), rsp::OKAY);
    let r = f.discard(64, 64, 0);
    assert_eq!(f.status(r), rsp::OKAY);
    assert_eq!((f.sector(64), f.sector(127)), (0, 0));
}

#[test]
fn requests_wait_for_data_from_outside_and_are_answered_when_it_is_there() {
    let mut f = Front::new(DiskConfig { image: DiskImage::Outside(SECTORS), ..DiskConfig::default() });
    let pages: Vec<(u64, u32)> = (0..40).map(|_| f.data()).collect();
    let many: Vec<_> = pages[8..].iter().map(|p| (p.1, 0, 7)).collect();
    let requests = [
        f.rw(op::READ, 0, &[(pages[0].1, 0, 7)]),
        f.indirect(op::READ, 2000, &many),
        f.rw(op::WRITE, 2100, &[(pages[1].1, 0, 7)]),
        f.rw(op::READ, 2100, &[(pages[2].1, 0, 7)]),
        f.rw(op::READ, SECTORS - 8, &[(pages[3].1, 0, 7)]),
        f.rw(op::READ, SECTORS, &[(pages[3].1, 0, 7)]),
    ];
    let last = f.next_id;
    let at_once: Vec<u64> = f.send(&requests).iter().map(|a| a.0).collect();
    assert_eq!(at_once, [last - 3, last - 2, last], "what is here, or is wrong");
    assert!(f.guest.event(f.port));
    let waiting = f.guest.state_bytes();
    assert!(f.serve() >= 3);
    assert!(f.guest.event(f.port));
    let mut later = f.responses();
    later.sort_unstable();
    assert_eq!(later, [(last - 5, 0), (last - 4, 0), (last - 1, 0)]);
    assert_ne!(waiting, f.guest.state_bytes());
    assert_eq!((f.number(pages[0].0, 7), f.number(pages[3].0, 0)), (7, SECTORS - 8));
    // The write came first, although it was asked for later.
    for (k, (page, _)) in (0..).zip(&pages[8..]) {
        for s in 0..8 {
            let n = 2000 + 8 * k + s;
            assert_eq!(f.number(*page, s), if (2100..2108).contains(&n) { 0 } else { n });
        }
    }
}

#[test]
fn data_that_does_not_come_is_an_error_and_grants_are_looked_at_again() {
    let mut f = Front::new(DiskConfig { image: DiskImage::Outside(SECTORS), ..DiskConfig::default() });
    let (page, gref) = f.data();
    f.guest.ram.write(page, &[0xff; 4096]);
    let r = f.rw(op::READ, 0, &[(gref, 0, 7)]);
    assert_eq!(f.send(&[r]), []);
    let Some(Effect::BlockRead { ticket, .. }) = f.guest.out.pop() else { panic!() };
    f.guest.input(&Input::BlockData { disk: 0, ticket, bytes: None });
    assert_eq!(f.responses(), [(f.next_id, rsp::ERROR)]);
    let r = f.rw(op::READ, 0, &[(gref, 0, 7)]);
    assert_eq!(f.send(&[r]), []);
    f.guest.set_grant(gref, 0, 0, 0);
    f.serve();
    assert_eq!(f.responses(), [(f.next_id, rsp::ERROR)]);
    assert_eq!(f.guest.read(page, 4096), [0xff; 4096]);
}

#[test]
fn a_front_end_may_start_over_and_old_answers_are_lost() {
    let mut f = Front::new(DiskConfig { image: DiskImage::Outside(SECTORS), ..DiskConfig::default() });
    for reset in [&[Closing, Closed, Initialising][..], &[Initialising], &[Closed, Initialising]] {
        let (page, gref) = f.data();
        let r = f.rw(op::READ, 0, &[(gref, 0, 7)]);
        f.send(&[r]);
        for &state in reset {
            f.guest.set(&f.paths, &[], state);
            assert_eq!(f.guest.state(&f.paths), if state == Initialising { InitWait } else { state });
        }
        let (ring, port, keys) = Front::rings(&mut f.guest, f.abi, Some(1));
        f.guest.set(&f.paths, &keys, Initialised);
        assert_eq!(f.guest.state(&f.paths), Connected);
        (f.ring, f.port) = (ring, port);
        f.serve();
        assert_eq!(f.responses(), []);
        assert_eq!(f.guest.read(page, 4096), [0; 4096]);
        let r = f.rw(op::READ, 0, &[(gref, 0, 7)]);
        assert_eq!(f.status(r), rsp::OKAY);
        // The next round has to wait again.
        f.guest.disks[0] = DiskConfig { image: DiskImage::Outside(SECTORS), ..DiskConfig::default() }.make(0);
    }
}

#[test]
fn a_restored_guest_finds_its_disk_as_at_first_and_old_answers_are_lost() {
    let mut f = Front::new(DiskConfig { image: DiskImage::Outside(SECTORS), ..DiskConfig::default() });
    let (page, gref) = f.data();
    let r = f.rw(op::READ, 0, &[(gref, 0, 7)]);
    f.send(&[r]);
    let start_info = 3;
    f.guest.domain.suspended = Some(start_info);
    f.guest.input(&Input::Control(Control::Resume { cancelled: false }));
    assert_eq!((f.guest.state(&f.paths), f.guest.domain.ports.binding(f.port)), (InitWait, Binding::Free));
    assert_eq!(XenbusState::read(&f.guest.domain.store, &f.paths.frontend), Initialising);
    f.guest.set_grant(gref, 1, domid::DOM0, page >> 12);
    let (ring, port, keys) = Front::rings(&mut f.guest, f.abi, None);
    f.guest.set(&f.paths, &keys, Initialised);
    assert_eq!(f.guest.state(&f.paths), Connected);
    (f.ring, f.port) = (ring, port);
    f.serve();
    assert_eq!((f.responses(), f.guest.read(page, 4096)), (vec![], vec![0; 4096]));
    let r = f.rw(op::READ, 0, &[(gref, 0, 7)]);
    assert_eq!(f.status(r), rsp::OKAY);
}

#[test]
fn what_was_sent_before_the_back_end_listened_is_served() {
    let mut guest = Guest::new(vec![config().make(0)]);
    let paths = DevicePaths::new("vbd", domid::GUEST, 51712);
    let (mut ring, port, keys) = Front::rings(&mut guest, Abi::X86_64, None);
    ring.put(&guest, &[op::FLUSH_DISKCACHE; 1]);
    ring.push(&guest);
    guest.set(&paths, &keys, Initialised);
    assert_eq!(ring.take(&guest, 12).len(), 1);
    assert!(guest.event(port));
}

#[test]
fn keys_that_make_no_sense_end_the_connection() {
    let with = |key: &'static str, value: &str| {
        let mut guest = Guest::new(vec![config().make(0)]);
        let paths = DevicePaths::new("vbd", domid::GUEST, 51712);
        let (_, _, mut keys) = Front::rings(&mut guest, Abi::X86_64, None);
        keys.retain(|k| k.0 != key);
        keys.push((key, value.to_string()));
        guest.set(&paths, &keys, Initialised);
        (guest.state(&paths), guest.logs().len())
    };
    for (key, value) in [
        ("ring-ref", ""),
        ("ring-ref", "-1"),
        ("ring-ref", "99999999999"),
        ("ring-ref", "500"),
        ("ring-page-order", "5"),
        ("ring-page-order", "1"),
        ("ring-page-order", "4294967295"),
        ("event-channel", "x"),
        ("event-channel", "0"),
        ("event-channel", "4000"),
        ("protocol", "arm-abi"),
        ("multi-queue-num-queues", "2"),
    ] {
        assert_eq!(with(key, value), (Closing, 1), "{key} = {value:?}");
    }
    assert_eq!(with("multi-queue-num-queues", "1"), (Connected, 0));
}

#[test]
fn impossible_indices_end_the_connection() {
    for prod in [33, 0x8000_0000, u32::MAX] {
        let mut f = Front::new(config());
        f.ring.set(&f.guest, 0, prod);
        f.guest.kick(f.port);
        assert_eq!((f.guest.state(&f.paths), f.ring.index(&f.guest, 8)), (Closing, 0));
        assert!(f.guest.logs()[0].contains("impossible indices"));
        f.ring.set(&f.guest, 0, 1);
        f.guest.kick(f.port);
        assert_eq!(f.ring.index(&f.guest, 8), 0, "nobody listens any more");
    }
}

#[test]
fn data_that_is_read_into_the_ring_itself_does_not_keep_us_busy() {
    // The disk's first sector is a ring whose only request reads the first sector into the ring, for ever.
    let mut f = Front::new(config());
    let gref = f.guest.grant(f.ring.pages[0], false);
    let request = f.rw(op::READ, 0, &[(gref, 0, 7)]);
    let mut evil = vec![0; 4096];
    evil[..4].copy_from_slice(&32u32.to_le_bytes());
    (0..32).for_each(|k| evil[64 + 112 * k..][..request.len()].copy_from_slice(&request));
    f.guest.disks[0] = DiskConfig { image: DiskImage::Memory(Arc::new(evil)), ..config() }.make(0);
    f.ring.put(&f.guest, &request);
    f.ring.push(&f.guest);
    for _ in 0..100 {
        f.guest.kick(f.port);
    }
}

#[test]
fn a_hostile_front_end_harms_only_itself() {
    let mut x = 0x1234_5678_9abc_def1u64;
    let mut random = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    for n in 0..40 {
        let image = if n % 2 == 0 { DiskImage::Memory(image()) } else { DiskImage::Outside(SECTORS) };
        let abi = if n % 3 == 0 { Abi::X86_32 } else { Abi::X86_64 };
        let mut f = Front::connected(DiskConfig { image, room: 1 << 20, ..config() }, abi, Some(n % 3));
        let ring = f.guest.grant(f.ring.pages[0], false);
        let mut grefs: Vec<u32> = (0..8).map(|_| f.data().1).collect();
        grefs.push(ring);
        for _ in 0..300 {
            let mut gref = || if random() % 8 == 0 { random() as u32 } else { grefs[random() as usize % grefs.len()] };
            let segments: Vec<_> = (0..4).map(|k| (gref(), k, 7 + u8::from(gref() % 16 == 0))).collect();
            match random() % 10 {
                0..=3 => {
                    let sector = random() % (SECTORS + 8);
                    let op = (random() % 8) as u8;
                    let mut r = f.rw(op, sector, &segments);
                    if random() % 4 == 0 {
                        let k = random() as usize % r.len();
                        r[k] = random() as u8;
                    }
                    f.ring.put(&f.guest, &r);
                }
                4 => {
                    let r = f.indirect((random() % 3) as u8, random() % SECTORS, &segments);
                    f.ring.put(&f.guest, &r);
                }
                5 => {
                    let r: Vec<u8> = (0..108).map(|_| random() as u8).collect();
                    f.ring.put(&f.guest, &r);
                }
                6 => f.ring.push(&f.guest),
                7 => drop(f.ring.take(&f.guest, 12)),
                8 => {
                    if random() % 8 == 0 {
                        f.ring.set(&f.guest, [0, 4, 8, 12][random() as usize % 4], random() as u32);
                    }
                    f.serve();
                }
                _ => {
                    if random() % 16 == 0 {
                        let states = [Unknown, Initialising, InitWait, Initialised, Connected, Closing, Closed];
                        let state: XenbusState = states[random() as usize % states.len()];
                        f.guest.set(&f.paths, &[], state);
                    }
                }
            }
            f.guest.kick(f.port);
            assert!(f.guest.logs().len() <= 16);
        }
        f.guest.state_bytes();
    }
}

/// For people: `cargo test --release -p tabvisor-devices how_fast -- --ignored --nocapture`.
#[test]
#[ignore = "says how fast it is"]
fn how_fast_disks_are() {
    let mut f = Front::connected(config(), Abi::X86_64, None);
    let pages: Vec<(u64, u32)> = (0..256).map(|_| f.data()).collect();
    for op in [op::READ, op::WRITE] {
        for segments in [1, 11, 32, 256] {
            let list: Vec<_> = pages[..segments].iter().map(|p| (p.1, 0, 7)).collect();
            let r = if segments > 11 { f.indirect(op, 0, &list) } else { f.rw(op, 0, &list) };
            let begin = std::time::Instant::now();
            let rounds = 40_000 / segments;
            for _ in 0..rounds {
                assert_eq!(f.status(r.clone()), rsp::OKAY);
            }
            let mb = (rounds * segments * 4096) as f64 / 1e6;
            println!("op {op}, {segments} pages: {:.0} MB/s", mb / begin.elapsed().as_secs_f64());
        }
    }
}
