//! The page through which a guest talks to the store. Source: Xen's public/io/xs_wire.h,
//! `xenstore_domain_interface`, and docs/misc/xenstore-ring.txt.
//!
//! Two rings of bytes with free-running indices, all in memory that the guest can write at any time.
//! So indices are read once per call, bytes are copied before they are looked at, and impossible
//! indices end the conversation. Neither reconnection nor errors are offered as features; the error
//! is written all the same.

use super::Store;
use super::wire::{Parser, TooLong, XENSTORE_PAYLOAD_MAX};
use serde::{Deserialize, Serialize};
use tabvisor_core::mem::{GuestRam, PAGE_SIZE};

/// Bytes in each direction.
pub const XENSTORE_RING_SIZE: u32 = 1024;
const SIZE: usize = XENSTORE_RING_SIZE as usize;

const REQ: u64 = 0;
const RSP: u64 = 0x400;
const REQ_CONS: u64 = 0x800;
const RSP_PROD: u64 = 0x80c;
const ERROR: u64 = 0x818;

/// XENSTORE_ERROR_RINGIDX: an index makes no sense.
const ERROR_RINGIDX: u32 = 2;
/// XENSTORE_ERROR_PROTO: a message makes no sense.
const ERROR_PROTO: u32 = 3;

/// The daemon's end of a ring.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ring {
    domid: u16,
    /// Guest-physical address.
    page: u64,
    parser: Parser,
    connected: bool,
}

impl Ring {
    /// The ring of domain `domid` in the page at guest-physical address `page`. It need not be empty:
    /// a guest that was moved here comes with its indices. A ring that replaces another comes with
    /// [`Store::introduce`], or it would begin amid a message.
    pub fn new(domid: u16, page: u64) -> Self {
        Self { domid, page, parser: Parser::default(), connected: true }
    }
    /// The domain at the other end.
    pub fn domid(&self) -> u16 {
        self.domid
    }
    /// Does the conversation go on, or has the guest broken it?
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Answers what the guest has asked, and hands out what waits for it, as far as there is room.
    /// Returns true if the guest must be notified through the event channel. To be called when the
    /// guest has notified us, and while [`Store::has_output`].
    pub fn pump(&mut self, store: &mut Store, ram: &GuestRam) -> bool {
        if !self.connected {
            return false;
        }
        if !self.page.is_multiple_of(PAGE_SIZE) || !ram.contains(self.page, PAGE_SIZE) {
            return self.disconnect(store, None, format!("there is no page at {:#x}", self.page));
        }
        let indices: [u8; 16] = ram.read_le(self.page + REQ_CONS);
        let index = |i: usize| u32::from_le_bytes([0, 1, 2, 3].map(|b| indices[4 * i + b]));
        let (req_cons, req_prod, rsp_cons, rsp_prod) = (index(0), index(1), index(2), index(3));
        for (name, prod, cons) in [("request", req_prod, req_cons), ("reply", rsp_prod, rsp_cons)] {
            if prod.wrapping_sub(cons) > XENSTORE_RING_SIZE {
                let text = format!("{name} indices are impossible (producer {prod:#x}, consumer {cons:#x})");
                return self.disconnect(store, Some((ram, ERROR_RINGIDX)), text);
            }
        }

        let mut requests = [0; SIZE];
        let requests = &mut requests[..req_prod.wrapping_sub(req_cons) as usize];
        let (at, split) = place(req_cons, requests.len());
        let (head, tail) = requests.split_at_mut(split);
        ram.read(self.page + REQ + at, head);
        ram.read(self.page + REQ, tail);

        let mut room = SIZE - rsp_prod.wrapping_sub(rsp_cons) as usize;
        let (mut input, mut output) = (&*requests, Vec::new());
        loop {
            let reply = store.take_output(self.domid, room);
            room -= reply.len();
            output.extend(reply);
            if input.is_empty() || !store.takes_requests(self.domid) {
                break;
            }
            match self.parser.feed(&mut input) {
                Ok(None) => {}
                Ok(Some(message)) => store.request(self.domid, &message),
                Err(TooLong(len)) => {
                    let text = format!("a message of {len} bytes is longer than {XENSTORE_PAYLOAD_MAX}");
                    return self.disconnect(store, Some((ram, ERROR_PROTO)), text);
                }
            }
        }

        let taken = requests.len() - input.len();
        let (at, split) = place(rsp_prod, output.len());
        let (head, tail) = output.split_at(split);
        ram.write(self.page + RSP + at, head);
        ram.write(self.page + RSP, tail);
        if taken > 0 {
            ram.write(self.page + REQ_CONS, &req_cons.wrapping_add(taken as u32).to_le_bytes());
        }
        if !output.is_empty() {
            ram.write(self.page + RSP_PROD, &rsp_prod.wrapping_add(output.len() as u32).to_le_bytes());
        }
        taken > 0 || !output.is_empty()
    }

    fn disconnect(&mut self, store: &mut Store, error: Option<(&GuestRam, u32)>, text: String) -> bool {
        self.connected = false;
        self.parser = Parser::default();
        if let Some((ram, error)) = error {
            ram.write(self.page + ERROR, &error.to_le_bytes());
        }
        store.disconnect(self.domid);
        store.note(format!("xenstore: the ring of domain {} is disconnected: {text}", self.domid));
        false
    }
}

/// Where `len` bytes from `index` on begin in a ring, and how many of them lie before its end.
fn place(index: u32, len: usize) -> (u64, usize) {
    let at = index % XENSTORE_RING_SIZE;
    (u64::from(at), len.min(SIZE - at as usize))
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
