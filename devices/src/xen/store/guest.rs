//! A guest for tests: it talks through the ring page as a kernel does.

use super::wire::*;
use super::*;
use tabvisor_core::mem::GuestRam;

pub const PAGE: u64 = 0x3000;
pub const UUID: &str = "7627dd3a-0503-4eb1-875c-503b7b966c5e";

/// A store, a domain 1 with the usual nodes, and its ring.
pub struct Guest {
    pub ram: GuestRam,
    pub store: Store,
    pub ring: Ring,
    parser: Parser,
    next_id: u32,
    pub events: Vec<(String, String)>,
}

pub fn domu(domid: u16) -> DomU<'static> {
    DomU {
        domid,
        name: "pv",
        uuid: UUID,
        vcpus: 2,
        memory: 196_608,
        static_max: 262_144,
        store: RingPort { port: 1, ring_ref: 1_498_113 },
        console: RingPort { port: 2, ring_ref: 1_498_114 },
    }
}

/// A store with domain 1.
pub fn store() -> Store {
    let mut store = Store::new();
    store.add_domain(&domu(1)).expect("valid");
    store.introduce(1);
    store
}

impl Guest {
    /// `index`: where all indices of the ring start.
    pub fn new(index: u32) -> Self {
        let ram = GuestRam::new(0x8000).expect("small");
        for at in [0x800, 0x804, 0x808, 0x80c] {
            ram.write(PAGE + at, &index.to_le_bytes());
        }
        let (store, ring) = (store(), Ring::new(1, PAGE));
        Self { ram, store, ring, parser: Parser::default(), next_id: 7, events: Vec::new() }
    }
    pub fn index(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.ram.read_le(PAGE + at))
    }
    pub fn set_index(&self, at: u64, v: u32) {
        self.ram.write(PAGE + at, &v.to_le_bytes());
    }
    /// Puts as much of `bytes` into the ring as fits. Returns how much that was.
    pub fn put(&self, bytes: &[u8]) -> usize {
        let (cons, prod) = (self.index(0x800), self.index(0x804));
        let n = bytes.len().min(1024usize.saturating_sub(prod.wrapping_sub(cons) as usize));
        for (i, &b) in bytes[..n].iter().enumerate() {
            self.ram.write(PAGE + u64::from(prod.wrapping_add(i as u32) % 1024), &[b]);
        }
        self.set_index(0x804, prod.wrapping_add(n as u32));
        n
    }
    /// Takes at most `max` bytes of replies from the ring.
    pub fn take(&self, max: usize) -> Vec<u8> {
        let (cons, prod) = (self.index(0x808), self.index(0x80c));
        let n = (prod.wrapping_sub(cons) as usize).min(1024).min(max);
        let byte = |i: u32| self.ram.read_le::<1>(PAGE + 0x400 + u64::from(cons.wrapping_add(i) % 1024))[0];
        let bytes = (0..n as u32).map(byte).collect();
        self.set_index(0x808, cons.wrapping_add(n as u32));
        bytes
    }
    pub fn pump(&mut self) -> bool {
        self.ring.pump(&mut self.store, &self.ram)
    }
    /// Sends a request and returns the messages that come up to its reply, the reply last.
    fn call(&mut self, kind: u32, tx_id: u32, payload: &[u8]) -> Message {
        self.next_id += 1;
        let header = Header { kind, req_id: self.next_id, tx_id };
        let bytes = Message { header, payload: payload.to_vec() }.bytes();
        let mut sent = 0;
        loop {
            sent += self.put(&bytes[sent..]);
            self.pump();
            if let Some(reply) = self.receive() {
                assert_eq!((reply.header.req_id, reply.header.tx_id), (self.next_id, tx_id));
                return reply;
            }
            assert!(self.ring.is_connected());
        }
    }
    /// Takes what has come. Events are kept, a reply is returned.
    fn receive(&mut self) -> Option<Message> {
        let mut reply = None;
        loop {
            let bytes = self.take(1024);
            if bytes.is_empty() {
                return reply;
            }
            let mut input = &bytes[..];
            while let Some(m) = self.parser.feed(&mut input).expect("short messages") {
                if m.header.kind == XS_WATCH_EVENT {
                    assert_eq!((m.header.req_id, m.header.tx_id), (0, 0));
                    let mut payload = &m.payload[..];
                    let mut text = || String::from_utf8_lossy(take_string(&mut payload).expect("NUL")).into_owned();
                    self.events.push((text(), text()));
                } else {
                    assert!(reply.replace(m).is_none());
                }
            }
            self.pump();
        }
    }
    /// The payload of the reply as text with `|` for NUL, or the error's name.
    pub fn ask(&mut self, kind: u32, tx_id: u32, payload: &str) -> Result<String, String> {
        let reply = self.call(kind, tx_id, payload.replace('|', "\0").as_bytes());
        let text = String::from_utf8_lossy(&reply.payload).replace('\0', "|");
        if reply.header.kind == XS_ERROR {
            return Err(text.trim_end_matches('|').into());
        }
        assert_eq!(reply.header.kind, kind);
        Ok(text)
    }
    pub fn read(&mut self, tx_id: u32, path: &str) -> Result<String, String> {
        self.ask(XS_READ, tx_id, &format!("{path}|"))
    }
    pub fn write(&mut self, tx_id: u32, path: &str, value: &str) -> Result<String, String> {
        self.ask(XS_WRITE, tx_id, &format!("{path}|{value}"))
    }
    pub fn start(&mut self) -> u32 {
        let reply = self.ask(XS_TRANSACTION_START, 0, "|").expect("below the quota");
        reply.trim_end_matches('|').parse().expect("a number")
    }
    pub fn end(&mut self, tx_id: u32) -> Result<String, String> {
        self.ask(XS_TRANSACTION_END, tx_id, "T|")
    }
    /// Takes the events that have come, as `path token`.
    pub fn events(&mut self) -> Vec<String> {
        self.pump();
        assert_eq!(self.receive(), None);
        self.events.drain(..).map(|(path, token)| format!("{path} {token}")).collect()
    }
}
