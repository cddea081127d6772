use super::super::front::{FrontRing, Guest};
use super::super::xenbus::XenbusState::*;
use super::*;
use crate::backend::net::tests::{is_right, tcp};
use crate::effect::Effect;
use crate::xen::abi::domid;

/// What netfront is.
struct Front {
    guest: Guest,
    paths: DevicePaths,
    tx: FrontRing,
    rx: FrontRing,
    ports: [u32; 2],
    /// Pages for what arrives, by the low bits of their ids.
    buffers: Vec<u64>,
}

const ALL: &[&str] =
    &["request-rx-copy", "feature-sg", "feature-gso-tcpv4", "feature-gso-tcpv6", "feature-ipv6-csum-offload"];

impl Front {
    fn new(features: &[&str], split: bool) -> Self {
        let mut guest = Guest::with_nics(vec![], &[NicConfig::default()]);
        let paths = DevicePaths::new("vif", domid::GUEST, 0);
        assert_eq!(guest.state(&paths), InitWait);
        let mut f = Self {
            tx: FrontRing::new(&mut guest, 1, 12, 256),
            rx: FrontRing::new(&mut guest, 1, 8, 256),
            ports: [0; 2],
            buffers: Vec::new(),
            guest,
            paths,
        };
        f.connect(features, split);
        assert_eq!((f.guest.state(&f.paths), f.guest.logs().len()), (Connected, 0));
        f
    }
    fn connect(&mut self, features: &[&str], split: bool) {
        let mut keys: Vec<(&str, String)> = features.iter().map(|&f| (f, "1".into())).collect();
        for (name, ring) in [("tx-ring-ref", &self.tx), ("rx-ring-ref", &self.rx)] {
            keys.push((name, ring.grefs(&mut self.guest)[0].to_string()));
        }
        if split {
            self.ports = [self.guest.port(), self.guest.port()];
            keys.push(("event-channel-tx", self.ports[0].to_string()));
            keys.push(("event-channel-rx", self.ports[1].to_string()));
        } else {
            self.ports = [self.guest.port(); 2];
            keys.push(("event-channel", self.ports[0].to_string()));
        }
        self.guest.set(&self.paths, &keys, Connected);
    }
    /// Writes a slot of the ring for sending.
    fn slot(&mut self, gref: u32, offset: u16, flags: u16, id: u16, size: usize) {
        let mut b = gref.to_le_bytes().to_vec();
        [offset, flags, id, size as u16].iter().for_each(|v| b.extend(v.to_le_bytes()));
        self.tx.put(&self.guest, &b);
    }
    fn extra(&mut self, kind: u8, flags: u8, size: u16, gso: u8) {
        let [a, b] = size.to_le_bytes();
        self.tx.put(&self.guest, &[kind, flags, a, b, gso, 0, 0, 0]);
    }
    /// A granted page with data from an offset on.
    fn data(&mut self, offset: u64, bytes: &[u8]) -> u32 {
        let page = self.guest.page();
        self.guest.ram.write(page + offset, bytes);
        self.guest.grant(page, true)
    }
    /// Sends a packet as Linux does: a fragment a page. Ids begin with `id`.
    fn packet(&mut self, bytes: &[u8], flags: u16, gso: Option<Gso>, id: u16) {
        let parts: Vec<&[u8]> = bytes.chunks(4000).collect();
        for (n, part) in (0..).zip(&parts) {
            let gref = self.data(50, part);
            let mut f = if usize::from(n) + 1 < parts.len() { txf::MORE_DATA } else { 0 };
            let mut size = part.len();
            if n == 0 {
                (f, size) = (f | flags | if gso.is_some() { txf::EXTRA_INFO } else { 0 }, bytes.len());
            }
            self.slot(gref, 50, f, id + n, size);
            if let (0, Some(gso)) = (n, gso) {
                self.extra(extra::GSO, 0, gso.size, if gso.v6 { extra::TCPV6 } else { extra::TCPV4 });
            }
        }
    }
    /// Shows what was put; ids and statuses of the answers.
    fn send(&mut self) -> Vec<(u16, i16)> {
        self.tx.push(&self.guest);
        self.guest.kick(self.ports[0]);
        let pair = |r: &Vec<u8>| (u16::from_le_bytes([r[0], r[1]]), i16::from_le_bytes([r[2], r[3]]));
        self.tx.take(&self.guest, 4).iter().map(pair).collect()
    }
    /// Frames that have left.
    fn frames(&mut self) -> Vec<Vec<u8>> {
        let all = core::mem::take(&mut self.guest.out).into_iter();
        all.filter_map(|e| if let Effect::Frame { nic: 0, bytes } = e { Some(bytes) } else { None }).collect()
    }
    /// Gives `n` buffers.
    fn post(&mut self, n: usize) {
        for _ in 0..n {
            let page = self.guest.page();
            let gref = self.guest.grant(page, false);
            let [a, b] = (self.buffers.len() as u16).to_le_bytes();
            let [c, d, e, f] = gref.to_le_bytes();
            self.rx.put(&self.guest, &[a, b, 0, 0, c, d, e, f]);
            self.buffers.push(page);
        }
        // As netfront: an event only if it was asked for.
        let (old, event) = (self.rx.index(&self.guest, 0), self.rx.index(&self.guest, 4));
        self.rx.push(&self.guest);
        let new = self.rx.req_prod;
        if new.wrapping_sub(event) < new.wrapping_sub(old) {
            self.guest.kick(self.ports[1]);
        }
    }
    fn arrive(&mut self, bytes: &[u8]) {
        self.guest.input(&Input::Frame { nic: 0, bytes: bytes.into() });
    }
    /// What has arrived: flags of the first slot, an extra slot, the bytes.
    fn received(&mut self) -> Vec<(u16, Option<Vec<u8>>, Vec<u8>)> {
        let mut all: Vec<(u16, Option<Vec<u8>>, Vec<u8>)> = Vec::new();
        let (mut more, mut extra) = (false, false);
        for r in self.rx.take(&self.guest, 8) {
            let u16 = |at: usize| u16::from_le_bytes([r[at], r[at + 1]]);
            if core::mem::take(&mut extra) {
                all.last_mut().expect("behind a first").1 = Some(r);
                continue;
            }
            let (id, offset, flags, size) = (u16(0), u16(2), u16(4), u16(6) as i16);
            assert_eq!(offset, 0);
            let bytes = self.guest.read(self.buffers[usize::from(id)], size.try_into().expect("no error"));
            if !more {
                all.push((flags & !rxf::MORE_DATA, None, Vec::new()));
                extra = flags & rxf::EXTRA_INFO != 0;
            }
            all.last_mut().expect("a first").2.extend(bytes);
            more = flags & rxf::MORE_DATA != 0;
        }
        assert!(!more);
        all
    }
}

fn frame(n: usize) -> Vec<u8> {
    let mut f = vec![0xff; 12];
    f.extend([0x88, 0xb5]);
    f.extend((0..n).map(|k| (k * 7 / 8) as u8));
    f
}

#[test]
fn both_sides_find_each_other() {
    let f = Front::new(ALL, true);
    let get = |key| f.guest.get(&f.paths, key);
    assert_eq!((get("mac"), get("feature-rx-copy")), (Some("00:16:3e:00:00:01".into()), Some("1".into())));
    assert_eq!((get("feature-xdp-headroom"), get("feature-multicast-control")), (None, None));
    let front = |key: &str| f.guest.domain.store.read(&format!("{}/{key}", f.paths.frontend)).map(<[u8]>::to_vec);
    assert_eq!(front("mac").as_deref(), Some(&b"00:16:3e:00:00:01"[..]));
}

#[test]
fn frames_leave_and_their_slots_are_answered() {
    let mut f = Front::new(ALL, false);
    f.packet(&frame(40), 0, None, 5);
    f.packet(&frame(9000), 0, None, 10);
    assert_eq!(f.send(), [(5, 0), (10, 0), (11, 0), (12, 0)]);
    assert!(f.guest.event(f.ports[0]));
    assert_eq!(f.frames(), [frame(40), frame(9000)]);
}

#[test]
fn what_the_guest_left_to_the_card_is_done() {
    let mut f = Front::new(ALL, true);
    f.packet(&tcp(false, 500), txf::CSUM_BLANK | txf::DATA_VALIDATED, None, 0);
    f.packet(&tcp(true, 5000), txf::CSUM_BLANK, Some(Gso { v6: true, size: 1400 }), 1);
    assert_eq!(f.send(), [(0, 0), (1, 0), (0, rsp::NULL), (2, 0)]);
    let frames = f.frames();
    assert_eq!(frames.len(), 1 + 4);
    assert!(frames.iter().all(|f| is_right(f)));
    assert!(f.guest.event(f.ports[0]) && !f.guest.event(f.ports[1]));
}

#[test]
fn a_packet_that_makes_no_sense_is_not_sent() {
    let mut f = Front::new(ALL, false);
    let gref = f.data(0, &frame(100));
    let bad: [&dyn Fn(&mut Front); 9] = [
        &|f| f.slot(gref, 0, 0, 1, 13),
        &|f| f.slot(gref, 0, 0, 1, 0),
        &|f| f.slot(gref, 4000, 0, 1, 97),
        &|f| f.slot(gref, 0xffff, 0, 1, 60),
        &|f| f.slot(gref, 0, 0, 1, 65535),
        &|f| f.slot(500, 0, 0, 1, 60),
        &|f| {
            f.slot(gref, 0, txf::MORE_DATA, 1, 60);
            f.slot(gref, 0, 0, 2, 61);
        },
        &|f| {
            f.slot(gref, 0, txf::EXTRA_INFO, 1, 60);
            f.extra(extra::GSO, 0, 0, extra::TCPV4);
        },
        &|f| {
            f.slot(gref, 0, txf::EXTRA_INFO, 1, 60);
            f.extra(extra::GSO, 0, 1000, 3);
        },
    ];
    for (n, put) in bad.iter().enumerate() {
        put(&mut f);
        let answers = f.send();
        assert!(answers.iter().all(|a| matches!(a.1, rsp::ERROR | rsp::NULL)), "{n}: {answers:?}");
        assert!(f.frames().is_empty());
    }
    f.packet(&frame(1), 0, None, 3);
    assert_eq!(f.send(), [(3, 0)]);
}

#[test]
fn a_packet_without_an_end_ends_the_connection() {
    let broken: [&dyn Fn(&mut Front); 4] = [
        &|f| f.slot(1, 0, txf::MORE_DATA, 1, 60),
        &|f| f.slot(1, 0, txf::EXTRA_INFO, 1, 60),
        &|f| (0..19).for_each(|n| f.slot(1, 0, txf::MORE_DATA, n, 1)),
        &|f| {
            f.slot(1, 0, txf::EXTRA_INFO, 1, 60);
            (0..5).for_each(|_| f.extra(1, extra::MORE, 1000, extra::TCPV4));
        },
    ];
    for put in broken {
        let mut f = Front::new(ALL, false);
        put(&mut f);
        assert_eq!(f.send(), []);
        assert_eq!((f.guest.state(&f.paths), f.guest.logs().len()), (Closing, 1));
    }
}

#[test]
fn frames_arrive_in_the_buffers_of_the_guest() {
    let mut f = Front::new(ALL, true);
    f.post(8);
    f.arrive(&frame(50));
    f.arrive(&frame(9000));
    assert!(f.guest.event(f.ports[1]) && !f.guest.event(f.ports[0]));
    assert_eq!(f.received(), [(0, None, frame(50)), (0, None, frame(9000))]);
}

#[test]
fn frames_wait_for_buffers_and_too_many_are_lost() {
    let mut f = Front::new(ALL, false);
    (0..300).for_each(|n| f.arrive(&frame(n)));
    assert!(f.received().is_empty());
    f.post(2);
    f.post(5);
    assert_eq!(f.received().len(), 7);
    // A large frame waits for as many as it needs, and is told of each.
    let mut f = Front::new(ALL, false);
    f.arrive(&frame(9000));
    for posted in 0..3 {
        assert!(f.received().is_empty(), "{posted}");
        f.post(1);
    }
    assert_eq!(f.received(), [(0, None, frame(9000))]);
    let mut f = Front::new(ALL, false);
    (0..300).for_each(|n| f.arrive(&frame(n)));
    let count = |f: &mut Front| -> usize {
        (0..30)
            .map(|_| {
                f.post(10);
                f.received().len()
            })
            .sum()
    };
    assert_eq!(count(&mut f), 256);
    let mut f = Front::new(ALL, false);
    (0..30).for_each(|_| f.arrive(&frame(60_000)));
    f.post(255);
    assert_eq!(f.received().len(), (1 << 20) / 60_014);
}

#[test]
fn packets_of_other_guests_come_as_they_are_if_the_guest_can_take_them() {
    let gso = Some(Gso { v6: false, size: 1000 });
    let packet = Packet { bytes: tcp(false, 5000), checksum: Checksum::Blank, gso };
    for features in [ALL, &ALL[..1]] {
        let mut f = Front::new(features, false);
        f.post(12);
        let mut link = None;
        // What a switch between guests will do.
        let mut net = Net::new(0, &NicConfig::default());
        f.guest.with(|domain, cx| {
            domain.with_back_ends(cx, |_, cx| {
                let ring = |page| Ring::attach(cx.ram, vec![page], 8).expect("a ring");
                let (tx, rx) = (ring(f.tx.pages[0]), ring(f.rx.pages[0]));
                let on = features.len() > 1;
                let features = Features { sg: on, gso_tcpv4: on, gso_tcpv6: on, csum: on, csum_v6: on };
                let mut l = Link { tx, rx, tx_port: 0, rx_port: 0, features, queue: VecDeque::new(), queued: 0 };
                l.receive(packet.clone());
                net.deliver(cx, &mut l).expect("a sound ring");
                link = Some(l);
            });
        });
        let all = f.received();
        if features.len() > 1 {
            let flags = rxf::CSUM_BLANK | rxf::DATA_VALIDATED | rxf::EXTRA_INFO;
            assert_eq!(all, [(flags, Some(gso_extra(false, 1000).to_vec()), packet.bytes.clone())]);
        } else {
            assert_eq!(all.len(), 5);
            assert!(all.iter().all(|p| p.0 == rxf::DATA_VALIDATED && is_right(&p.2)));
        }
    }
}

#[test]
fn frames_that_no_card_could_send_are_lost() {
    let mut f = Front::new(&ALL[..1], false);
    f.post(8);
    for n in [0, 13, 4097, 70_000] {
        f.arrive(&vec![0; n]);
    }
    f.guest.input(&Input::Frame { nic: 1, bytes: frame(60) });
    assert!(f.received().is_empty());
    f.arrive(&frame(4096 - 14));
    assert_eq!(f.received().len(), 1);
}

#[test]
fn a_buffer_that_may_not_be_written_is_an_error() {
    let mut f = Front::new(ALL, false);
    f.rx.put(&f.guest, &[9, 0, 0, 0, 0xff, 0xff, 0, 0]);
    f.rx.push(&f.guest);
    f.arrive(&frame(60));
    assert_eq!(f.rx.take(&f.guest, 8), [[9, 0, 0, 0, 0, 0, 0xff, 0xff]]);
}

#[test]
fn a_front_end_may_start_over() {
    let mut f = Front::new(ALL, true);
    f.arrive(&frame(60));
    for state in [Closing, Closed, Initialising] {
        f.guest.set(&f.paths, &[], state);
    }
    f.arrive(&frame(60));
    assert_eq!(f.guest.state(&f.paths), InitWait);
    f.tx = FrontRing::new(&mut f.guest, 1, 12, 256);
    f.rx = FrontRing::new(&mut f.guest, 1, 8, 256);
    f.connect(ALL, true);
    f.post(4);
    assert!(f.received().is_empty(), "what has arrived before is lost");
    f.arrive(&frame(61));
    assert_eq!(f.received().len(), 1);
}

#[test]
fn a_front_end_without_what_we_need_is_not_connected() {
    let mut guest = Guest::with_nics(vec![], &[NicConfig::default()]);
    let paths = DevicePaths::new("vif", domid::GUEST, 0);
    guest.set(&paths, &[("request-rx-copy", "0".into())], Connected);
    assert_eq!((guest.state(&paths), guest.logs().len()), (Closing, 1));
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
    for n in 0..100 {
        let mut f = Front::new(&ALL[..1 + n % 5], n % 2 == 0);
        let mut grefs: Vec<u32> = (0..4).map(|_| f.data(0, &tcp(false, 3000))).collect();
        for page in [f.tx.pages[0], f.rx.pages[0]] {
            grefs.push(f.guest.grant(page, false));
        }
        for _ in 0..200 {
            let gref = if random() % 8 == 0 { random() as u32 } else { grefs[random() as usize % grefs.len()] };
            match random() % 8 {
                0..=2 => {
                    let flags = (random() & random()) as u16 & 0xf;
                    f.slot(gref, (random() % 2000) as u16, flags, random() as u16, random() as usize % 4000);
                    if flags & txf::EXTRA_INFO != 0 {
                        let r = random();
                        f.extra((r % 3) as u8, (r >> 8) as u8 & 1, (r >> 16) as u16, (r >> 32) as u8 % 3);
                    }
                }
                3 => f.tx.put(&f.guest, &random().to_le_bytes()),
                4 => {
                    let [a, b, c, d] = gref.to_le_bytes();
                    f.rx.put(&f.guest, &[random() as u8, 0, 0, 0, a, b, c, d]);
                    f.rx.push(&f.guest);
                }
                5 => f.arrive(&frame(random() as usize % 10_000)),
                6 => {
                    if random() % 16 == 0 {
                        f.rx.set(&f.guest, [0, 4, 8, 12][random() as usize % 4], random() as u32);
                    }
                    f.tx.take(&f.guest, 4);
                    f.rx.take(&f.guest, 8);
                }
                _ => f.tx.push(&f.guest),
            }
            f.guest.kick(f.ports[random() as usize % 2]);
            assert!(f.guest.logs().len() <= 16);
            f.guest.out.retain(|e| matches!(e, Effect::Log(_)));
        }
        f.guest.state_bytes();
    }
}
