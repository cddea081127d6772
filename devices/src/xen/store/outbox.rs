//! Messages that wait for a domain to take them: replies and events, in order. Sources: Xen's
//! docs/misc/xenstore.txt; xenstored for leaving out an event that waits already.
//!
//! Bounded: events are dropped when there are too many, and requests are not taken from a domain
//! while [`Outbox::is_large`].

use super::quota::QUOTA_EVENT_BYTES;
use super::wire::{Message, XS_WATCH_EVENT};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};

/// No more requests are taken while this many bytes wait.
const LARGE: usize = 16 << 10;

/// The queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    messages: VecDeque<Vec<u8>>,
    /// The events among them that are not on their way yet.
    events: BTreeSet<Vec<u8>>,
    /// Bytes in the queue.
    bytes: usize,
    /// Bytes of the first message that the domain has.
    sent: usize,
}

impl Outbox {
    /// Does nothing wait?
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
    /// Do so many bytes wait that the domain's requests should, too?
    pub fn is_large(&self) -> bool {
        self.bytes >= LARGE
    }
    /// Queues a message. Returns false if it is an event and there is no room for more.
    #[must_use]
    pub fn push(&mut self, message: &Message) -> bool {
        let bytes = message.bytes();
        if message.header.kind == XS_WATCH_EVENT {
            if self.events.contains(&bytes) {
                return true;
            }
            if self.bytes + bytes.len() > QUOTA_EVENT_BYTES {
                return false;
            }
            self.events.insert(bytes.clone());
        }
        self.bytes += bytes.len();
        self.messages.push_back(bytes);
        true
    }
    /// Takes at most `n` bytes from the front.
    pub fn take(&mut self, n: usize) -> Vec<u8> {
        let mut taken = Vec::with_capacity(n.min(self.bytes));
        while taken.len() < n {
            let Some(first) = self.messages.front() else { break };
            let rest = first.get(self.sent..).unwrap_or_default();
            let piece = rest.len().min(n - taken.len());
            if self.sent == 0 {
                self.events.remove(first);
            }
            taken.extend_from_slice(&rest[..piece]);
            self.sent += piece;
            if piece == rest.len() {
                self.messages.pop_front();
                self.sent = 0;
            }
        }
        self.bytes = self.bytes.saturating_sub(taken.len());
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Header, ok};
    use super::*;

    fn event(i: usize) -> Message {
        Message::event(&format!("/{i}"), &[b't'; 100]).expect("short")
    }

    #[test]
    fn what_is_taken_in_pieces_is_what_was_queued() {
        let reply = Message { header: Header { kind: 1, req_id: 2, tx_id: 3 }, payload: ok() };
        for n in 1..60 {
            let mut queue = Outbox::default();
            assert!(queue.push(&reply) && queue.push(&event(1)) && queue.push(&reply));
            let mut got = Vec::new();
            while !queue.is_empty() {
                let piece = queue.take(n);
                assert!(!piece.is_empty() && piece.len() <= n);
                got.extend(piece);
            }
            assert_eq!(got, [reply.bytes(), event(1).bytes(), reply.bytes()].concat());
            assert_eq!(queue, Outbox::default());
        }
    }

    #[test]
    fn an_event_that_waits_is_not_queued_again_unless_it_is_on_its_way() {
        let mut queue = Outbox::default();
        assert!(queue.push(&event(1)) && queue.push(&event(1)));
        let one = event(1).bytes().len();
        assert_eq!(queue.bytes, one);
        queue.take(1);
        assert!(queue.push(&event(1)));
        assert_eq!(queue.bytes, 2 * one - 1);
    }

    #[test]
    fn events_are_bounded() {
        let mut queue = Outbox::default();
        let lost = (0..10_000).filter(|&i| !queue.push(&event(i))).count();
        assert!(lost > 0 && queue.bytes <= QUOTA_EVENT_BYTES && queue.is_large());
    }
}
