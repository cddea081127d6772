//! The listening socket and its connections: one thread each, few and short-lived.

use super::answer::{Answer, Body, reason};
use super::date::http_date;
use super::files::Files;
use super::request::{Bad, Request};
use anyhow::{Context, Result, bail};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

/// Connections at once; a browser opens six.
const MAX_CONNECTIONS: usize = 64;
/// Requests on one connection before it is closed.
const MAX_REQUESTS: usize = 10_000;
/// How long a peer may be silent before, within or after a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many ports after the wanted one are tried.
const NEXT_PORTS: u16 = 20;

/// A bound server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    files: Arc<Files>,
}

impl Server {
    /// Binds `port` on the loopback interface, or one of the next ones if it is taken; 0 takes any.
    pub fn bind(port: u16, files: Files) -> Result<Self> {
        for candidate in port..=port.saturating_add(if port == 0 { 0 } else { NEXT_PORTS }) {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, candidate)) {
                Ok(listener) => {
                    let address = listener.local_addr().context("a bound socket has an address")?;
                    return Ok(Self { listener, address, files: Arc::new(files) });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    println!("port {candidate} is taken, trying the next one");
                }
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot listen on port {candidate}; try another with --port"));
                }
            }
        }
        bail!("ports {port} to {} are all taken; choose another with --port", port.saturating_add(NEXT_PORTS))
    }

    /// Where it listens, as an address for a browser.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Serves until the process ends.
    pub fn run(self) -> Result<()> {
        let open = Arc::new(AtomicUsize::new(0));
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // Out of descriptors, or the peer was gone already: go on, but do not spin.
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                }
            };
            if open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
                open.fetch_sub(1, Ordering::Relaxed);
                refuse(stream);
                continue;
            }
            let guard = Open(open.clone());
            let files = self.files.clone();
            let spawned = std::thread::Builder::new().name("connection".into()).spawn(move || {
                let _guard = guard;
                let _ = connection(stream, &files); // a peer that went away needs no report
            });
            drop(spawned); // a thread that could not start has dropped its guard and stream
        }
    }
}

/// Counts one open connection as long as it lives.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn refuse(mut stream: TcpStream) {
    let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
    let _ = send(&mut stream, Answer::plain(503), false);
}

fn connection(stream: TcpStream, files: &Files) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    for _ in 0..MAX_REQUESTS {
        match Request::read(&mut reader) {
            Ok(request) => {
                send(&mut writer, Answer::to(&request, files), request.keep_alive)?;
                if !request.keep_alive {
                    return Ok(());
                }
            }
            Err(Bad::Status(status)) => return send(&mut writer, Answer::plain(status), false),
            Err(Bad::Gone) => return Ok(()),
        }
    }
    Ok(())
}

fn send(stream: &mut TcpStream, answer: Answer, keep_alive: bool) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Date: {}\r\n", http_date(SystemTime::now())));
    head.push_str(if keep_alive { "Connection: keep-alive\r\n\r\n" } else { "Connection: close\r\n\r\n" });
    stream.write_all(head.as_bytes())?;
    match answer.body {
        Body::None => Ok(()),
        Body::Text(text) => stream.write_all(text.as_bytes()),
        Body::File(mut file, from, len) => {
            file.seek(SeekFrom::Start(from))?;
            // A file that shrank meanwhile leaves the answer short, which only closing can tell.
            match io::copy(&mut file.take(len), stream)? {
                sent if sent == len => Ok(()),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::OnceLock;

    /// One server for all tests of this file, on a folder of its own.
    fn address() -> SocketAddr {
        static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
        *ADDRESS.get_or_init(|| {
            let base: PathBuf = std::env::temp_dir().join(format!("tabvisor-serve-{}", std::process::id()));
            std::fs::create_dir_all(base.join("www/sub")).unwrap();
            std::fs::create_dir_all(base.join("www/empty")).unwrap();
            std::fs::create_dir_all(base.join("out")).unwrap();
            std::fs::write(base.join("secret"), "secret").unwrap();
            std::fs::write(base.join("www/index.html"), "<p>page</p>").unwrap();
            std::fs::write(base.join("www/sub/index.html"), "sub").unwrap();
            std::fs::write(base.join("www/a.wasm"), "0123456789").unwrap();
            std::fs::write(base.join("out/disk.img"), "disk").unwrap();
            let files = Files::new(&[("/images/", base.join("out")), ("/", base.join("www"))]).unwrap();
            let server = Server::bind(0, files).unwrap();
            let address = server.address;
            std::thread::spawn(move || server.run());
            address
        })
    }

    /// Sends raw text, reads until the server closes.
    fn raw(text: &str) -> String {
        let mut stream = TcpStream::connect(address()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(path: &str, headers: &str) -> String {
        raw(&format!("GET {path} HTTP/1.1\r\nHost: t\r\n{headers}Connection: close\r\n\r\n"))
    }

    fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
        answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    #[test]
    fn the_page_is_isolated_and_typed() {
        let answer = get("/", "");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("<p>page</p>"), "{answer}");
        assert_eq!(header(&answer, "Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(header(&answer, "Cross-Origin-Opener-Policy"), Some("same-origin"));
        assert_eq!(header(&answer, "Cross-Origin-Embedder-Policy"), Some("require-corp"));
        assert_eq!(header(&answer, "Cross-Origin-Resource-Policy"), Some("same-origin"));
        assert_eq!(header(&get("/a.wasm", ""), "Content-Type"), Some("application/wasm"));
        assert!(get("/images/disk.img", "").ends_with("\r\n\r\ndisk"));
    }

    #[test]
    fn ranges_are_partial_content_or_refused() {
        let answer = get("/a.wasm", "Range: bytes=2-4\r\n");
        assert!(answer.starts_with("HTTP/1.1 206 ") && answer.ends_with("\r\n\r\n234"), "{answer}");
        assert_eq!(header(&answer, "Content-Range"), Some("bytes 2-4/10"));
        assert_eq!(header(&answer, "Content-Length"), Some("3"));
        let answer = get("/a.wasm", "Range: bytes=10-\r\n");
        assert!(answer.starts_with("HTTP/1.1 416 "), "{answer}");
        assert_eq!(header(&answer, "Content-Range"), Some("bytes */10"));
        let answer = get("/a.wasm", "Range: bytes=2-4\r\nIf-Range: \"another\"\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("0123456789"), "{answer}");
    }

    #[test]
    fn an_unchanged_file_is_not_sent_again() {
        let first = get("/a.wasm", "");
        let (etag, date) = (header(&first, "ETag").unwrap(), header(&first, "Last-Modified").unwrap());
        for same in [format!("If-None-Match: {etag}"), "If-None-Match: *".into(), format!("If-Modified-Since: {date}")]
        {
            let answer = get("/a.wasm", &format!("{same}\r\n"));
            assert!(answer.starts_with("HTTP/1.1 304 ") && answer.ends_with("\r\n\r\n"), "{same}: {answer}");
        }
        let answer = get("/a.wasm", &format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    #[test]
    fn head_has_the_length_and_no_bytes() {
        let answer = raw("HEAD /a.wasm HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert_eq!(header(&answer, "Content-Length"), Some("10"));
    }

    #[test]
    fn nothing_outside_the_folders_and_no_listing() {
        for path in
            ["/../secret", "/%2e%2e/secret", "/sub/../../secret", "/images/../../secret", "/empty/", "/no", "/images/"]
        {
            let answer = get(path, "");
            assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
        }
        assert!(get("/sub/", "").ends_with("sub"));
        assert_eq!(header(&get("/sub", ""), "Location"), Some("/sub/"));
    }

    #[test]
    fn other_methods_and_nonsense_are_refused() {
        let answer = raw("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc");
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert_eq!(header(&answer, "Allow"), Some("GET, HEAD"));
        assert!(raw("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    }

    #[test]
    fn a_connection_serves_several_requests() {
        let one = "GET /a.wasm HTTP/1.1\r\nHost: t\r\n\r\n";
        let last = "GET /a.wasm HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        assert_eq!(raw(&format!("{one}{one}{last}")).matches("0123456789").count(), 3);
    }

    #[test]
    fn a_taken_port_is_passed_over() {
        let files = || Files::new(&[("/", std::env::temp_dir())]).unwrap();
        let first = Server::bind(0, files()).unwrap();
        let second = Server::bind(first.address.port(), files()).unwrap();
        assert_ne!(first.address.port(), second.address.port());
    }
}
