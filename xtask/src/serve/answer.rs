//! From a request and the files to an answer: status, headers, which bytes (RFC 9110).

use super::date::http_date;
use super::files::{Entry, Files, Found};
use super::request::Request;
use std::fs::File;

/// Headers on every answer: the page may use shared memory and high-resolution time only when its own
/// document and everything it loads are isolated from other sites.
const ALWAYS: &[(&str, &str)] = &[
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Embedder-Policy", "require-corp"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
    // Kept, but asked about each time: a rebuilt page is never mixed with an old one.
    ("Cache-Control", "no-cache"),
];

/// What is sent back.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers but for `Date` and `Connection`.
    pub headers: Vec<(&'static str, String)>,
    /// What follows the head.
    pub body: Body,
}

/// The bytes after an answer's head.
#[derive(Debug)]
pub enum Body {
    /// A short text.
    Text(String),
    /// Part of a file: offset and length.
    File(File, u64, u64),
    /// None is sent, whatever `Content-Length` says (HEAD, 304).
    None,
}

impl Answer {
    /// A status with its name as the text.
    pub fn plain(status: u16) -> Self {
        let text = format!("{status} {}\n", reason(status));
        let mut answer = Self { status, headers: Vec::new(), body: Body::None };
        answer.always();
        answer.put("Content-Type", "text/plain; charset=utf-8");
        answer.put("Content-Length", text.len());
        answer.body = Body::Text(text);
        answer
    }

    /// Answers a request from the files.
    pub fn to(request: &Request, files: &Files) -> Self {
        let mut answer = match request.method.as_str() {
            "GET" | "HEAD" => match files.find(&request.path) {
                Found::File(entry) => Self::file(request, entry),
                Found::Folder(to) => {
                    let mut answer = Self::plain(301);
                    answer.put("Location", encode(&to));
                    answer
                }
                Found::Nothing => Self::plain(404),
            },
            _ => {
                let mut answer = Self::plain(405);
                answer.put("Allow", "GET, HEAD");
                answer
            }
        };
        if request.method == "HEAD" {
            answer.body = Body::None;
        }
        answer
    }

    fn file(request: &Request, entry: Entry) -> Self {
        let modified = http_date(entry.modified);
        let mut answer = Self { status: 200, headers: Vec::new(), body: Body::None };
        answer.always();
        answer.put("ETag", &entry.etag);
        answer.put("Last-Modified", &modified);
        answer.put("Accept-Ranges", "bytes");
        if unchanged(request, &entry.etag, &modified) {
            answer.status = 304;
            return answer;
        }
        let (from, len) = match wanted(request, &entry, &modified) {
            Wanted::All => (0, entry.len),
            Wanted::Part(from, len) => {
                answer.status = 206;
                answer.put("Content-Range", format!("bytes {from}-{}/{}", from + len - 1, entry.len));
                (from, len)
            }
            Wanted::Beyond => {
                let mut answer = Self::plain(416);
                answer.put("Content-Range", format!("bytes */{}", entry.len));
                return answer;
            }
        };
        answer.put("Content-Type", entry.kind);
        answer.put("Content-Length", len);
        answer.body = Body::File(entry.file, from, len);
        answer
    }

    fn always(&mut self) {
        self.headers.extend(ALWAYS.iter().map(|&(name, value)| (name, value.to_owned())));
    }

    fn put(&mut self, name: &'static str, value: impl ToString) {
        self.headers.push((name, value.to_string()));
    }
}

/// RFC 9110 section 13.2.2: `If-None-Match` counts, `If-Modified-Since` only without it. A browser sends our
/// own date back, so comparing text is enough.
fn unchanged(request: &Request, etag: &str, modified: &str) -> bool {
    match request.header("if-none-match") {
        Some(tags) => {
            tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
        }
        None => request.header("if-modified-since") == Some(modified),
    }
}

/// Which part of a file a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    /// Offset and length; the length is not 0.
    Part(u64, u64),
    /// Nothing of the file.
    Beyond,
}

fn wanted(request: &Request, entry: &Entry, modified: &str) -> Wanted {
    // Section 14.2: a range of another method, or of a file that has changed since, is not one.
    let same = |tag: &str| tag == entry.etag || tag == modified;
    if request.method != "GET" || !request.header("if-range").is_none_or(same) {
        return Wanted::All;
    }
    request.header("range").map_or(Wanted::All, |range| part(range, entry.len))
}

/// One byte range (section 14.1.2). Several at once, and what is no range, mean the whole file.
fn part(range: &str, len: u64) -> Wanted {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|spec| spec.trim().split_once('-')) else {
        return Wanted::All;
    };
    // Digits only: `parse` alone would take a sign. A number past u64 is past the end of any file.
    let number = |text: &str| match text {
        _ if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) => None,
        _ => Some(text.parse::<u64>().unwrap_or(u64::MAX)),
    };
    match (first, last) {
        ("", last) => match number(last) {
            None => Wanted::All,
            Some(count) if count == 0 || len == 0 => Wanted::Beyond,
            Some(count) => Wanted::Part(len - count.min(len), count.min(len)),
        },
        (first, last) => match (number(first), if last.is_empty() { Some(u64::MAX) } else { number(last) }) {
            (Some(first), Some(last)) if first > last => Wanted::All,
            (Some(first), Some(_)) if first >= len => Wanted::Beyond,
            (Some(first), Some(last)) => Wanted::Part(first, last.min(len - 1) - first + 1),
            _ => Wanted::All,
        },
    }
}

/// A path for a `Location` header: everything unusual becomes `%XX`.
fn encode(path: &str) -> String {
    // Two slashes in front would name another host.
    let path = format!("/{}", path.trim_start_matches('/'));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The words after a status code.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_select_bytes() {
        for (range, wanted) in [
            ("bytes=0-0", Wanted::Part(0, 1)),
            ("bytes=2-5", Wanted::Part(2, 4)),
            ("bytes=2-", Wanted::Part(2, 8)),
            ("bytes=9-99", Wanted::Part(9, 1)),
            ("bytes=-3", Wanted::Part(7, 3)),
            ("bytes=-30", Wanted::Part(0, 10)),
            ("bytes=0-99999999999999999999999", Wanted::Part(0, 10)),
            ("bytes=10-", Wanted::Beyond),
            ("bytes=99999999999999999999999-", Wanted::Beyond),
            ("bytes=-0", Wanted::Beyond),
            ("bytes=5-2", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=0-1,4-5", Wanted::All),
            ("lines=0-1", Wanted::All),
            ("", Wanted::All),
        ] {
            assert_eq!(part(range, 10), wanted, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Wanted::Beyond);
        assert_eq!(part("bytes=-5", 0), Wanted::Beyond);
    }

    #[test]
    fn a_redirect_stays_on_this_host() {
        assert_eq!(encode("//evil.example/x/"), "/evil.example/x/");
        assert_eq!(encode("/a b\r\n/"), "/a%20b%0D%0A/");
    }
}
