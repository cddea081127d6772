use super::super::guest::{Guest, PAGE};
use super::super::wire::*;
use super::super::{quota, tests::rich_guest};
use super::*;

fn bytes(kind: u32, req_id: u32, payload: &[u8]) -> Vec<u8> {
    Message { header: Header { kind, req_id, tx_id: 0 }, payload: payload.to_vec() }.bytes()
}

#[test]
fn a_dialogue_is_the_same_wherever_the_ring_wraps() {
    for index in (0..1024).chain([u32::MAX - 5, u32::MAX - 1030]) {
        let mut g = Guest::new(index);
        assert_eq!(g.read(0, "name"), Ok("pv".into()));
        let value = "v".repeat(700);
        assert_eq!(g.write(0, "data/x", &value), Ok("OK|".into()));
        assert_eq!(g.read(0, "data/x"), Ok(value));
        assert_eq!(g.ask(XS_DIRECTORY, 0, "data|"), Ok("x|".into()));
        assert_eq!(g.index(0x808), g.index(0x80c));
    }
}

#[test]
fn requests_and_replies_may_come_and_go_in_pieces_of_any_size() {
    let long = [b"data/x\0".to_vec(), vec![b'v'; 1900]].concat();
    let requests = [
        bytes(XS_WRITE, 1, &long),
        bytes(XS_READ, 2, b"data/x\0"),
        bytes(XS_READ, 3, b"data/y\0"),
        bytes(XS_GET_PERMS, 4, b"data\0"),
    ];
    let expected = [
        bytes(XS_WRITE, 1, b"OK\0"),
        bytes(XS_READ, 2, &long[7..]),
        bytes(XS_ERROR, 3, b"ENOENT\0"),
        bytes(XS_GET_PERMS, 4, b"n1\0"),
    ]
    .concat();
    for (give, take) in [(1, 1), (1, 1024), (1024, 1), (7, 5), (16, 16), (17, 1000), (1000, 17), (1024, 1024)] {
        let mut g = Guest::new(1000);
        let (mut stream, mut got) = (&requests.concat()[..], Vec::new());
        while got.len() < expected.len() {
            let sent = g.put(&stream[..give.min(stream.len())]);
            stream = &stream[sent..];
            g.pump();
            got.extend(g.take(take));
        }
        g.pump();
        assert_eq!(got, expected, "{give} {take}");
        assert!(stream.is_empty() && g.take(1024).is_empty() && !g.store.has_output(1));
    }
}

#[test]
fn the_guest_is_notified_when_an_index_moved() {
    let mut g = Guest::new(0);
    assert!(!g.pump());
    g.put(&bytes(XS_READ, 1, b"name\0")[..10]);
    assert!(g.pump());
    assert!(!g.pump());
    g.put(&bytes(XS_READ, 1, b"name\0")[10..]);
    assert!(g.pump());
    g.take(1024);
    assert!(!g.pump());
    assert_eq!(g.ask(XS_WATCH, 0, "memory/target|t|"), Ok("OK|".into()));
    g.events();
    assert!(!g.store.has_output(1));
    g.store.write("/local/domain/1/memory/target", "1000").expect("valid");
    assert!(g.store.has_output(1));
    assert!(g.pump());
    assert_eq!(g.events(), ["memory/target t"]);
}

#[test]
fn a_full_ring_holds_replies_and_then_requests_back() {
    let mut g = Guest::new(0);
    g.write(0, "data/x", &"v".repeat(1900)).expect("may write");
    let request = bytes(XS_READ, 1, b"data/x\0");
    let mut asked = 0;
    for _ in 0..1000 {
        if g.put(&request) == request.len() {
            asked += 1;
        } else {
            break;
        }
        g.pump();
    }
    // The last one did not fit as a whole; what is in the ring stays there.
    assert!(asked < 60 && g.store.take_output(1, 0).is_empty());
    let waiting = g.index(0x804).wrapping_sub(g.index(0x800));
    assert!(waiting > 1000);
    g.pump();
    assert_eq!(g.index(0x804).wrapping_sub(g.index(0x800)), waiting);
    // As the guest takes replies, the rest is answered.
    let mut got = Vec::new();
    loop {
        let piece = g.take(1024);
        if piece.is_empty() {
            break;
        }
        got.extend(piece);
        g.pump();
    }
    assert_eq!(got.len(), asked * (16 + 1900));
    assert_eq!(g.index(0x804).wrapping_sub(g.index(0x800)), 0);
}

#[test]
fn impossible_indices_end_the_conversation_and_nothing_else() {
    for (at, v) in [(0x804, 1025), (0x800, 1), (0x80c, 1025), (0x808, 1), (0x804, 0x8000_0000)] {
        let mut g = Guest::new(0);
        g.ask(XS_WATCH, 0, "data|t|").expect("valid");
        g.events();
        let (prod, cons) = (g.index(0x804), g.index(0x80c));
        g.set_index(at, g.index(at).wrapping_add(v));
        assert!(!g.pump());
        assert!(!g.ring.is_connected());
        assert_eq!(g.index(0x818), 2);
        let log = g.store.take_log();
        assert!(log.len() == 1 && log[0].contains("indices are impossible"), "{log:?}");
        // Mended indices do not help, and watches are gone.
        for (at, v) in [(0x800, prod), (0x804, prod), (0x808, cons), (0x80c, cons)] {
            g.set_index(at, v);
        }
        g.put(&bytes(XS_READ, 1, b"name\0"));
        g.store.write("/local/domain/1/data", "x").expect("valid");
        assert!(!g.pump() && !g.store.has_output(1) && g.store.take_log().is_empty());
        assert_eq!(g.store.read("/local/domain/1/name"), Some(&b"pv"[..]));
        // A new ring is a new conversation.
        g.ring = Ring::new(1, PAGE);
        assert!(g.pump());
        assert_eq!(g.take(1024), bytes(XS_READ, 1, b"pv"));
    }
}

#[test]
fn a_message_that_is_too_long_ends_the_conversation() {
    let mut g = Guest::new(0);
    let mut header = bytes(XS_WRITE, 1, b"");
    header[12..].copy_from_slice(&0xffff_ffffu32.to_le_bytes());
    g.put(&header);
    assert!(!g.pump());
    assert!(!g.ring.is_connected());
    assert_eq!(g.index(0x818), 3);
    assert!(g.store.take_log()[0].contains("4294967295 bytes"));
}

#[test]
fn a_page_that_is_no_memory_is_a_ring_without_a_guest() {
    for page in [0x8000, 0x7800, u64::MAX - 0xfff, u64::MAX] {
        let mut g = Guest::new(0);
        g.ring = Ring::new(1, page);
        assert!(!g.pump());
        assert!(g.store.take_log()[0].contains("there is no page"));
    }
}

fn xorshift(x: &mut u64) -> u64 {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    *x
}

/// A request that is nearly right.
fn request(x: &mut u64) -> Vec<u8> {
    const NAMES: [&str; 12] = [
        "data",
        "data/a",
        "data/a/b",
        "data/a/b/c",
        "device",
        "/",
        "/local/domain/1",
        "@releaseDomain",
        "",
        "error//",
        "/local/domain/0/backend",
        "device/vbd/51712/state",
    ];
    let kind = (xorshift(x) % 25) as u32;
    let mut payload = strings([NAMES[(xorshift(x) % 12) as usize]]);
    match xorshift(x) % 6 {
        0 => payload.extend(b"n1\0r0\0"),
        1 => payload.extend(strings([format!("{}", xorshift(x) % 64)])),
        2 => payload.extend(vec![b'v'; (xorshift(x) % 2200) as usize]),
        3 => payload = b"T\0".to_vec(),
        4 => payload = vec![0; (xorshift(x) % 3) as usize],
        _ => {}
    }
    if xorshift(x).is_multiple_of(40) {
        payload = (0..xorshift(x) % 4097).map(|_| xorshift(x) as u8).collect();
    }
    let header = Header { kind, req_id: xorshift(x) as u32, tx_id: (xorshift(x) % 14) as u32 };
    Message { header, payload }.bytes()
}

#[test]
fn no_bytes_and_no_indices_can_break_or_fill_the_store() {
    let mut x = 0x1234_5678_9abc_def1u64;
    let (mut g, mut broken) = (rich_guest(), 0);
    for i in 0..40_000 {
        match xorshift(&mut x) % 64 {
            0..=44 => {
                let bytes = request(&mut x);
                let mut sent = 0;
                // A guest that does not take its replies leaves requests half sent.
                for _ in 0..6 {
                    sent += g.put(&bytes[sent..]);
                    g.pump();
                    if !xorshift(&mut x).is_multiple_of(8) {
                        g.take(1024);
                    }
                }
            }
            45..=59 => drop(g.take((xorshift(&mut x) % 1025) as usize)),
            60 => drop(g.store.write("/local/domain/1/device/vbd/51712/state", format!("{i}"))),
            61 => g.ram.write(PAGE + xorshift(&mut x) % 0x800, &[xorshift(&mut x) as u8]),
            62 if i % 8 == 0 => g.set_index(0x800 + 4 * (xorshift(&mut x) % 4), xorshift(&mut x) as u32),
            _ => {
                g.pump();
            }
        }
        if !g.ring.is_connected() {
            broken += 1;
            for at in [0x800, 0x804, 0x808, 0x80c] {
                g.set_index(at, xorshift(&mut x) as u32);
            }
            let same = g.index(0x800);
            g.set_index(0x804, same);
            g.set_index(0x808, g.index(0x80c));
            g.ring = Ring::new(1, PAGE);
        }
        if i % 1000 == 0 {
            g.store.tree.check();
            let mut state = Vec::new();
            crate::device::put_state(&mut state, &g.store);
            assert!(state.len() < 8 << 20, "{}", state.len());
        }
    }
    assert!(broken > 10 && g.store.tree.owned_by(1) <= quota::QUOTA_NODES);
    g.store.tree.check();
}

#[test]
fn a_guest_that_hoards_stays_within_bounds() {
    let mut g = rich_guest();
    let mut payloads = Vec::new();
    for i in 0..200 {
        payloads.push((
            XS_WATCH,
            0,
            [b"data\0".to_vec(), vec![b'a' + (i % 26) as u8; 3900 + i / 26], vec![0]].concat(),
        ));
    }
    for _ in 0..12 {
        payloads.push((XS_TRANSACTION_START, 0, vec![0]));
    }
    for i in 0..4000 {
        let path = format!("data/{}/{i}\0", i % 40);
        payloads.push((XS_WRITE, i % 11, [path.into_bytes(), vec![b'v'; 1900]].concat()));
    }
    for (kind, tx_id, payload) in payloads {
        let header = Header { kind, req_id: 1, tx_id };
        g.store.request(1, &Message { header, payload });
        // Replies are taken, as far as they come before what is left of 4 KiB of events.
        g.store.take_output(1, 64);
    }
    g.store.tree.check();
    assert_eq!(g.store.take_log().len(), 1);
    let mut state = Vec::new();
    crate::device::put_state(&mut state, &g.store);
    assert!(state.len() < 8 << 20, "{}", state.len());
}
