use super::super::front::Guest;
use super::super::xenbus::XenbusState::*;
use super::*;
use crate::backend::files::{Attributes, ROOT};
use crate::xen::abi::domid;
use std::cell::RefCell;
use std::rc::Rc;

/// A guest with a ring of 2 pages: 4096 bytes each way.
struct Front {
    guest: Guest,
    paths: DevicePaths,
    tree: Share,
    page: u64,
    data: [u64; 2],
    port: u32,
    sent: u32,
    got: u32,
}

impl Front {
    fn new() -> Self {
        let mut guest = Guest::new(vec![]);
        let mut tree = Tree::new(1 << 20);
        let file = tree.create(ROOT, "hello", Attributes { mode: 0o644, ..Attributes::default() }).unwrap();
        tree.write(file, 0, b"some text").unwrap();
        let tree = Rc::new(RefCell::new(tree));
        guest.with(|domain, _| domain.share_files(&tree));
        let paths = DevicePaths::new("9pfs", domid::GUEST, 0);
        let (page, data) = (guest.page(), [guest.page(), guest.page()]);
        let port = guest.port();
        let mut f = Self { guest, paths, tree, page, data, port, sent: 0, got: 0 };
        f.connect(1);
        assert_eq!((f.guest.state(&f.paths), f.guest.logs().len()), (Connected, 0));
        f.guest.set(&f.paths, &[], Connected);
        f
    }
    fn connect(&mut self, order: u32) {
        let refs: Vec<u32> = self.data.iter().map(|&page| self.guest.grant(page, false)).collect();
        self.set(128, order);
        (0..).zip(refs).for_each(|(n, gref)| self.set(132 + 4 * n, gref));
        let gref = self.guest.grant(self.page, false);
        let keys = [("version", 1), ("num-rings", 1), ("ring-ref0", gref), ("event-channel-0", self.port)];
        let keys: Vec<_> = keys.iter().map(|(key, v)| (*key, v.to_string())).collect();
        self.guest.set(&self.paths, &keys, Initialised);
    }
    fn set(&self, at: u64, v: u32) {
        self.guest.ram.write(self.page + at, &v.to_le_bytes());
    }
    fn index(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.guest.ram.read_le(self.page + at))
    }
    /// Sends bytes.
    fn send(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.guest.ram.write(self.data[1] + u64::from(self.sent % 4096), &[*b]);
            self.sent = self.sent.wrapping_add(1);
        }
        self.set(68, self.sent);
        self.guest.kick(self.port);
    }
    /// Takes what has come.
    fn take(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while self.got != self.index(4) {
            all.extend(self.guest.ram.read_le::<1>(self.data[0] + u64::from(self.got % 4096)));
            self.got = self.got.wrapping_add(1);
        }
        self.set(0, self.got);
        all
    }
    /// A request and its answer: the type and what follows.
    fn ask(&mut self, kind: u8, body: &[&[u8]]) -> (u8, Vec<u8>) {
        let message = message(kind, body);
        self.send(&message);
        assert!(self.guest.event(self.port));
        let answer = self.take();
        assert_eq!((answer[..4].to_vec(), &answer[5..7]), ((answer.len() as u32).to_le_bytes().to_vec(), &[7, 0][..]));
        (answer[4], answer[7..].to_vec())
    }
    fn error(&mut self, kind: u8, body: &[&[u8]]) -> u32 {
        let (kind, body) = self.ask(kind, body);
        assert_eq!(kind, 7);
        u32::from_le_bytes(body.try_into().unwrap())
    }
    fn ok(&mut self, kind: u8, body: &[&[u8]]) -> Vec<u8> {
        let (answer, body) = self.ask(kind, body);
        assert_eq!(answer, kind + 1, "{body:?}");
        body
    }
    /// Version and attach: handle 1 is the root.
    fn begin(&mut self) {
        let version = self.ok(100, &[&w(4096), &s("9P2000.L")]);
        assert_eq!(version, [&w(4096)[..], &s("9P2000.L")].concat());
        assert_eq!(self.ok(104, &[&w(1), &w(u32::MAX), &s("root"), &s(""), &w(0)])[0], 0x80);
    }
}

fn message(kind: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&(7 + body.len() as u32).to_le_bytes()[..], &[kind, 7, 0], &body].concat()
}
fn w(v: u32) -> [u8; 4] {
    v.to_le_bytes()
}
fn q(v: u64) -> [u8; 8] {
    v.to_le_bytes()
}
fn s(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat()
}
fn walk(f: &mut Front, from: u32, to: u32, names: &[&str]) -> (u8, Vec<u8>) {
    let count = names.len() as u16;
    let names: Vec<u8> = names.iter().flat_map(|name| s(name)).collect();
    f.ask(110, &[&w(from), &w(to), &count.to_le_bytes(), &names])
}

#[test]
fn files_are_read_and_written() {
    let mut f = Front::new();
    f.begin();
    assert_eq!(walk(&mut f, 1, 2, &["hello"]).0, 111);
    assert_eq!(f.error(116, &[&w(2), &q(0), &w(100)]), 9, "it is not open");
    f.ok(12, &[&w(2), &w(2)]);
    assert_eq!(f.ok(116, &[&w(2), &q(5), &w(100)]), [&w(4)[..], b"text"].concat());
    assert_eq!(f.ok(118, &[&w(2), &q(5), &w(5), b"bytes"]), w(5));
    assert_eq!(f.ok(116, &[&w(2), &q(0), &w(u32::MAX)]), [&w(10)[..], b"some bytes"].concat());
    // More than a message holds is read in parts.
    f.ok(26, &[&w(2), &w(8), &w(0), &w(0), &w(0), &q(9000), &[0; 32]]);
    assert_eq!(f.ok(116, &[&w(2), &q(0), &w(9000)]).len(), 4096 - 7);
    let attributes = f.ok(24, &[&w(2), &q(0x7ff)]);
    assert_eq!((&attributes[21..25], &attributes[49..57]), (&w(0o100_644)[..], &q(9000)[..]));
    f.ok(120, &[&w(2)]);
    assert_eq!(f.error(120, &[&w(2)]), 9);
}

#[test]
fn names_are_made_listed_moved_and_removed() {
    let mut f = Front::new();
    f.begin();
    f.ok(72, &[&w(1), &s("dir"), &w(0o755), &w(0)]);
    assert_eq!(walk(&mut f, 1, 2, &["dir"]).0, 111);
    assert_eq!(walk(&mut f, 1, 3, &["dir"]).0, 111);
    f.ok(14, &[&w(3), &s("new"), &w(2), &w(0o600), &w(0)]);
    f.ok(118, &[&w(3), &q(0), &w(3), b"abc"]);
    f.ok(16, &[&w(2), &s("link"), &s("new"), &w(0)]);
    f.ok(12, &[&w(2), &w(0)]);
    let list = f.ok(40, &[&w(2), &q(0), &w(4000)]);
    assert_eq!(list.len(), 4 + 24 + 3 + 24 + 4);
    assert_eq!((list[4], list[4 + 21], &list[4 + 24..4 + 27]), (0, 8, &b"new"[..]));
    assert_eq!(f.ok(40, &[&w(2), &q(1), &w(4000)]).len(), 4 + 24 + 4, "from a place on");
    assert_eq!(f.error(76, &[&w(1), &s("dir"), &w(0x200)]), 39);
    f.ok(74, &[&w(2), &s("new"), &w(1), &s("moved")]);
    assert_eq!(f.error(76, &[&w(2), &s("new"), &w(0)]), 2);
    // An open file outlives its name.
    f.ok(76, &[&w(1), &s("moved"), &w(0)]);
    assert_eq!(f.ok(116, &[&w(3), &q(0), &w(9)]), [&w(3)[..], b"abc"].concat());
    assert_eq!(f.error(116, &[&w(77), &q(0), &w(9)]), 9);
    for kind in [30, 32, 70, 18, 102, 0, 255] {
        assert_eq!(f.error(kind, &[&[0; 40]]), 95, "{kind}");
    }
    assert_eq!(f.error(110, &[&w(1)]), 22, "too short");
}

#[test]
fn answers_wait_for_room_and_messages_for_their_end() {
    let mut f = Front::new();
    f.begin();
    let m = message(24, &[&w(1), &q(0x7ff)]);
    let (head, tail) = m.split_at(9);
    f.send(head);
    assert_eq!(f.take(), []);
    f.send(tail);
    assert_eq!(f.take().len(), 160);
    // 30 answers of 160 bytes are more than 4096.
    f.send(&m.repeat(30));
    assert_eq!(f.take().len(), 25 * 160);
    f.guest.kick(f.port);
    assert_eq!(f.take().len(), 5 * 160);
}

#[test]
fn what_makes_no_sense_ends_the_connection() {
    for (at, v) in [(68, 5000), (0, 1)] {
        let mut f = Front::new();
        f.begin();
        f.set(at, v + if at == 0 { f.got } else { f.sent });
        f.guest.kick(f.port);
        if at == 0 {
            f.send(&message(24, &[&w(1), &q(0)]));
        }
        assert_eq!((f.guest.state(&f.paths), f.guest.logs().len()), (Closing, 1), "{at}");
    }
    for size in [0u32, 6, 4097, u32::MAX] {
        let mut f = Front::new();
        f.begin();
        f.send(&[&size.to_le_bytes()[..], &[0; 20]].concat());
        assert_eq!(f.guest.state(&f.paths), Closing, "{size}");
    }
    for order in [0, 7, u32::MAX] {
        let mut f = Front::new();
        f.guest.set(&f.paths, &[], Initialising);
        f.connect(order);
        assert_eq!(f.guest.state(&f.paths), Closing);
    }
}

#[test]
fn a_hostile_client_harms_only_itself() {
    let mut seed = 0x1234_5678_9abc_def1u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed >> 11
    };
    for _ in 0..40 {
        let mut f = Front::new();
        f.begin();
        for _ in 0..400 {
            let kinds =
                [8, 12, 14, 16, 20, 22, 24, 26, 40, 52, 54, 72, 74, 76, 100, 104, 110, 110, 110, 116, 118, 120, 122];
            let kind = kinds[random() as usize % kinds.len()];
            let mut body = Vec::new();
            for _ in 0..random() % 6 {
                match random() % 4 {
                    0 => body.extend(s(["a", "b", "hello", "..", ""][random() as usize % 5])),
                    1 => body.extend(w((random() % 6) as u32)),
                    2 => body.extend(q(random() % 5000)),
                    _ => body.extend(random().to_le_bytes()),
                }
            }
            let message = message(kind, &[&body]);
            f.send(&message);
            f.take();
            if random() % 64 == 0 {
                f.set([0, 64, 68, 132][random() as usize % 4], random() as u32);
                f.guest.kick(f.port);
            }
            if f.guest.state(&f.paths) != Connected {
                break;
            }
        }
        let (used, limit) = f.tree.borrow().usage();
        assert!(used <= limit && f.guest.logs().len() <= 16);
        f.guest.state_bytes();
    }
}
