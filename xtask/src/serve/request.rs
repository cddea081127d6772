//! Reads the head of an HTTP/1.1 request. Only what a file server answers to is kept.

use std::io::{self, BufRead, Read};

/// Longest request head: more than any browser sends here.
const MAX_HEAD: u64 = 16 << 10;

/// A request without a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`, ...
    pub method: String,
    /// Path without query, percent-decoded, always starting with `/`.
    pub path: String,
    /// Names in lower case, in the order sent.
    headers: Vec<(String, String)>,
    /// Whether the peer wants the connection kept.
    pub keep_alive: bool,
}

/// Why no request was read.
#[derive(Debug)]
pub enum Bad {
    /// The peer closed, or said nothing in time: no answer is due.
    Gone,
    /// Answer with this status and close.
    Status(u16),
}

impl From<io::Error> for Bad {
    fn from(_: io::Error) -> Self {
        Bad::Gone
    }
}

impl Request {
    /// A header's value; the first if there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Reads one head.
    pub fn read(stream: &mut impl BufRead) -> Result<Self, Bad> {
        let mut head = stream.take(MAX_HEAD);
        let mut line = String::new();
        let mut next = |line: &mut String| -> Result<(), Bad> {
            line.clear();
            match head.read_line(line) {
                Ok(0) => Err(if head.limit() == 0 { Bad::Status(431) } else { Bad::Gone }),
                Ok(_) if line.ends_with('\n') => {
                    line.truncate(line.trim_end_matches(['\r', '\n']).len());
                    Ok(())
                }
                Ok(_) => Err(if head.limit() == 0 { Bad::Status(431) } else { Bad::Gone }),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(Bad::Status(400)),
                Err(error) => Err(error.into()),
            }
        };
        next(&mut line)?;
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Bad::Status(400));
        };
        let minor = match version {
            "HTTP/1.1" => 1,
            "HTTP/1.0" => 0,
            _ => return Err(Bad::Status(505)),
        };
        let method = method.to_owned();
        let path = path_of(target).ok_or(Bad::Status(400))?;
        let mut headers = Vec::new();
        loop {
            next(&mut line)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(Bad::Status(400))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self { method, path, headers, keep_alive: false };
        let connection = request.header("connection").unwrap_or_default().to_ascii_lowercase();
        // A body is not read, so nothing behind it can be: the connection ends with the answer.
        let body =
            request.header("transfer-encoding").is_some() || request.header("content-length").is_some_and(|n| n != "0");
        request.keep_alive = minor == 1 && !connection.contains("close") && !body;
        Ok(request)
    }
}

/// The decoded path of a request target: `/a%20b?q` is `/a b`.
fn path_of(target: &str) -> Option<String> {
    let path = match target.strip_prefix("http://") {
        Some(rest) => &rest[rest.find('/')?..],
        None => target,
    };
    let path = path.split(['?', '#']).next()?;
    if !path.starts_with('/') {
        return None;
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    let path = String::from_utf8(bytes).ok()?;
    (!path.contains('\0')).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, Bad> {
        Request::read(&mut text.as_bytes())
    }

    fn refused(text: &str) -> u16 {
        match read(text) {
            Err(Bad::Status(status)) => status,
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    fn a_request_is_read() {
        let request = read("GET /a%20b.js?x=1 HTTP/1.1\r\nHost: h\r\nRange:  bytes=0-1 \r\n\r\n").unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/a b.js"));
        assert_eq!(request.header("range"), Some("bytes=0-1"));
        assert!(request.keep_alive);
    }

    #[test]
    fn the_connection_ends_where_the_peer_or_a_body_says_so() {
        for end in ["HTTP/1.0\r\n", "HTTP/1.1\r\nConnection: close\r\n", "HTTP/1.1\r\nContent-Length: 5\r\n"] {
            assert!(!read(&format!("GET / {end}\r\n")).unwrap().keep_alive, "{end}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(refused("GET /\r\n\r\n"), 400);
        assert_eq!(refused("GET / HTTP/2.0\r\n\r\n"), 505);
        assert_eq!(refused("GET x HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(refused("GET /%zz HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(refused("GET /%2 HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(refused("GET /%00 HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(refused("GET /%ff HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(refused("GET / HTTP/1.1\r\nno colon\r\n\r\n"), 400);
        assert_eq!(refused(&format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(20_000))), 431);
        assert!(matches!(read("GET / HTTP/1.1\r\nHost"), Err(Bad::Gone)));
        assert!(matches!(read(""), Err(Bad::Gone)));
    }
}
