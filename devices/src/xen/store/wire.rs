//! Messages of the store. Source: Xen's public/io/xs_wire.h and docs/misc/xenstore.txt.
//!
//! A message is a header of four little-endian words and a payload. It may arrive in pieces of any
//! size; [`Parser`] puts it together.

use super::errno::Errno;
use serde::{Deserialize, Serialize};

/// A control command for the daemon; for the toolstack alone.
pub const XS_CONTROL: u32 = 0;
/// Names of a node's children.
pub const XS_DIRECTORY: u32 = 1;
/// Value of a node.
pub const XS_READ: u32 = 2;
/// Permissions of a node.
pub const XS_GET_PERMS: u32 = 3;
/// Registers a watch.
pub const XS_WATCH: u32 = 4;
/// Removes a watch.
pub const XS_UNWATCH: u32 = 5;
/// Opens a transaction.
pub const XS_TRANSACTION_START: u32 = 6;
/// Commits or drops a transaction.
pub const XS_TRANSACTION_END: u32 = 7;
/// Makes a domain known; for the toolstack alone.
pub const XS_INTRODUCE: u32 = 8;
/// Forgets a domain; for the toolstack alone.
pub const XS_RELEASE: u32 = 9;
/// Where a domain's relative paths start.
pub const XS_GET_DOMAIN_PATH: u32 = 10;
/// Sets a value, making the node if need be.
pub const XS_WRITE: u32 = 11;
/// Makes a node.
pub const XS_MKDIR: u32 = 12;
/// Removes a node and all below.
pub const XS_RM: u32 = 13;
/// Sets the permissions of a node.
pub const XS_SET_PERMS: u32 = 14;
/// News of a watch; never a request.
pub const XS_WATCH_EVENT: u32 = 15;
/// A failed request's reply; never a request.
pub const XS_ERROR: u32 = 16;
/// Is a domain known? For the toolstack alone.
pub const XS_IS_DOMAIN_INTRODUCED: u32 = 17;
/// A domain runs again; for the toolstack alone.
pub const XS_RESUME: u32 = 18;
/// A domain serves another; for the toolstack alone.
pub const XS_SET_TARGET: u32 = 19;
/// Drops all watches and transactions of the caller.
pub const XS_RESET_WATCHES: u32 = 21;
/// A part of the names of a node's children.
pub const XS_DIRECTORY_PART: u32 = 22;

/// Most bytes of a payload.
pub const XENSTORE_PAYLOAD_MAX: usize = 4096;
/// Bytes of a header.
pub const HEADER_SIZE: usize = 16;

/// What is in front of a payload, but for its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// One of `XS_*`.
    pub kind: u32,
    /// The caller's name for the request; the reply has the same.
    pub req_id: u32,
    /// The transaction, 0 for none.
    pub tx_id: u32,
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub header: Header,
    /// Its contents, at most [`XENSTORE_PAYLOAD_MAX`] bytes.
    pub payload: Vec<u8>,
}

impl Message {
    /// The message as it travels.
    pub fn bytes(&self) -> Vec<u8> {
        let Header { kind, req_id, tx_id } = self.header;
        let words = [kind, req_id, tx_id, self.payload.len() as u32];
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        bytes.extend_from_slice(&self.payload);
        bytes
    }
    /// The reply to `request`: what was asked for, or the name of an error.
    pub fn reply(request: Header, result: Result<Vec<u8>, Errno>) -> Self {
        let result = result.and_then(|p| if p.len() > XENSTORE_PAYLOAD_MAX { Err(Errno::E2big) } else { Ok(p) });
        match result {
            Ok(payload) => Self { header: request, payload },
            Err(e) => {
                let payload = strings([e.name().as_bytes()]);
                Self { header: Header { kind: XS_ERROR, ..request }, payload }
            }
        }
    }
    /// A watch's event; `None` if it would be too long, as in Xen.
    pub fn event(path: &str, token: &[u8]) -> Option<Self> {
        let payload = strings([path.as_bytes(), token]);
        let header = Header { kind: XS_WATCH_EVENT, req_id: 0, tx_id: 0 };
        (payload.len() <= XENSTORE_PAYLOAD_MAX).then_some(Self { header, payload })
    }
}

/// Strings in a payload: each ends with a NUL.
pub fn strings<T: AsRef<[u8]>>(list: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut payload = Vec::new();
    for s in list {
        payload.extend_from_slice(s.as_ref());
        payload.push(0);
    }
    payload
}

/// The payload `OK`.
pub fn ok() -> Vec<u8> {
    b"OK\0".to_vec()
}

/// Takes the string at the start of `payload`, without its NUL, and leaves what follows.
///
/// # Errors
/// `EINVAL` if no NUL ends it.
pub fn take_string<'a>(payload: &mut &'a [u8]) -> Result<&'a [u8], Errno> {
    let end = payload.iter().position(|&b| b == 0).ok_or(Errno::Einval)?;
    let string = &payload[..end];
    *payload = &payload[end + 1..];
    Ok(string)
}

/// The only string of a payload.
///
/// # Errors
/// `EINVAL` if there is not exactly one.
pub fn one_string(mut payload: &[u8]) -> Result<&[u8], Errno> {
    let string = take_string(&mut payload)?;
    if payload.is_empty() { Ok(string) } else { Err(Errno::Einval) }
}

/// The number at the start of a string, as C's `atoi` finds it: 0 if there is none.
pub fn number(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|b| b.is_ascii_digit());
    digits.fold(0u64, |n, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0')))
}

/// A header announces a payload of this many bytes, more than [`XENSTORE_PAYLOAD_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong(pub u32);

/// Puts messages together from pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parser {
    /// A header and a payload as far as they have arrived: never a whole message.
    bytes: Vec<u8>,
}

impl Parser {
    /// Takes bytes from the front of `input` up to the end of a message, and returns that.
    ///
    /// # Errors
    /// [`TooLong`]; the stream makes no sense from here on.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Option<Message>, TooLong> {
        if !self.fill(HEADER_SIZE, input) {
            return Ok(None);
        }
        let [kind, req_id, tx_id, len] = self.words();
        if len > XENSTORE_PAYLOAD_MAX as u32 {
            return Err(TooLong(len));
        }
        if !self.fill(HEADER_SIZE + len as usize, input) {
            return Ok(None);
        }
        let payload = self.bytes.split_off(HEADER_SIZE);
        self.bytes.clear();
        Ok(Some(Message { header: Header { kind, req_id, tx_id }, payload }))
    }
    /// Are there `len` bytes, now that `input` has given what it can?
    fn fill(&mut self, len: usize, input: &mut &[u8]) -> bool {
        let missing = len.saturating_sub(self.bytes.len()).min(input.len());
        let (head, rest) = input.split_at(missing);
        self.bytes.extend_from_slice(head);
        *input = rest;
        self.bytes.len() >= len
    }
    /// The header's words; called when it is complete.
    fn words(&self) -> [u32; 4] {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(self.bytes.chunks_exact(4)) {
            *word = bytes.iter().rev().fold(0, |w, &b| w << 8 | u32::from(b));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u32, payload: &[u8]) -> Message {
        Message { header: Header { kind, req_id: 0x0102_0304, tx_id: 5 }, payload: payload.to_vec() }
    }

    #[test]
    fn messages_are_put_together_from_pieces_of_any_size() {
        let sent = [message(XS_READ, b"a\0"), message(XS_WRITE, &[7; 4096]), message(XS_RESET_WATCHES, b"")];
        let stream: Vec<u8> = sent.iter().flat_map(Message::bytes).collect();
        for piece in [1, 2, 3, 15, 16, 17, 18, 33, 1000, 4112, 5000] {
            let (mut parser, mut got) = (Parser::default(), Vec::new());
            for mut input in stream.chunks(piece) {
                while let Some(m) = parser.feed(&mut input).expect("short enough") {
                    got.push(m);
                }
                assert!(input.is_empty());
            }
            assert_eq!(got, sent, "{piece}");
            assert_eq!(parser, Parser::default());
        }
    }

    #[test]
    fn a_payload_that_is_too_long_is_refused_by_its_header() {
        let mut bytes = message(XS_WRITE, b"").bytes();
        bytes[12..].copy_from_slice(&4097u32.to_le_bytes());
        assert_eq!(Parser::default().feed(&mut &bytes[..]), Err(TooLong(4097)));
    }

    #[test]
    fn errors_travel_by_name_and_replies_that_are_too_long_become_one() {
        let request = Header { kind: XS_READ, req_id: 3, tx_id: 4 };
        let reply = Message::reply(request, Err(Errno::Enoent));
        assert_eq!((reply.header, &reply.payload[..]), (Header { kind: XS_ERROR, ..request }, &b"ENOENT\0"[..]));
        assert_eq!(Message::reply(request, Ok(vec![0; 4097])).payload, b"E2BIG\0");
        assert_eq!(Message::reply(request, Ok(vec![0; 4096])).header, request);
        assert_eq!(Message::event(&"/x".repeat(2048), b""), None);
    }

    #[test]
    fn strings_end_with_nul() {
        let mut rest = &b"path\0value\0x"[..];
        assert_eq!(take_string(&mut rest), Ok(&b"path"[..]));
        assert_eq!(rest, b"value\0x");
        assert_eq!(one_string(b"a\0b\0"), Err(Errno::Einval));
        assert_eq!(one_string(b"a"), Err(Errno::Einval));
        assert_eq!(one_string(b"\0"), Ok(&b""[..]));
        assert_eq!((number(b"12x"), number(b""), number(b"99999999999999999999")), (12, 0, u64::MAX));
    }
}
