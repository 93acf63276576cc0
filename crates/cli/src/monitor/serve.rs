//! `--prometheus ADDR`: the machine's counters over HTTP, for whoever scrapes.
//!
//! A server for one page, so small that what strangers can do to it can be seen at once: a request has [`HEAD_BYTES_MAX`] and
//! [`REQUEST_TIME`], as many as [`CONNECTIONS_MAX`] are answered at a time, each connection carries one request, and a page is
//! made at most every [`PAGE_HOLDS`] however often it is asked for. Nothing a client sends changes anything.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use vitals::exporter::Flavour;
use vitals::{Exporter, Instants};

use crate::exit::Failure;
use crate::logging::say;

/// The longest head of a request: Prometheus sends 300 bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// How long a client may take to send its request, and again to take the page.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// How many are answered at the same time; more are turned away.
const CONNECTIONS_MAX: usize = 8;
/// How long a page is good for another client, so that many questions cost no more than one.
const PAGE_HOLDS: Duration = Duration::from_millis(100);
/// The stack of a thread that answers.
const STACK_BYTES: usize = 128 << 10;
/// How long accepting waits after it failed, as when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
struct Shared {
    pages: Mutex<Pages>,
    answering: AtomicUsize,
    /// Bound to this machine alone: then a name that is not this machine's is a web page's trick to read through a browser.
    loopback: bool,
}

struct Pages {
    exporter: Exporter,
    /// The newest page in each flavour.
    made: [Option<(Instant, Arc<Vec<u8>>)>; 2],
}

/// Begins to serve the tree at `procfs` on `address`, and says where. It goes on until the process ends.
///
/// # Errors
/// When the address cannot be taken; says what to do.
pub(super) fn start(address: SocketAddr, procfs: &Path) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("cannot serve on {address}; name another address with --prometheus, port 0 for any")
    })?;
    let bound = listener.local_addr().with_context(|| format!("cannot serve on {address}"))?;
    say(format_args!("metrics: http://{bound}/metrics"));
    let shared = Arc::new(Shared {
        pages: Mutex::new(Pages { exporter: Exporter::new(procfs), made: [None, None] }),
        answering: AtomicUsize::new(0),
        loopback: bound.ip().is_loopback(),
    });
    let accept = move || {
        loop {
            match listener.accept() {
                Ok((stream, _)) => answer_apart(stream, &shared),
                Err(_) => thread::sleep(ACCEPT_PAUSE),
            }
        }
    };
    thread::Builder::new()
        .name("metrics".into())
        .stack_size(STACK_BYTES)
        .spawn(accept)
        .context("cannot serve metrics")?;
    Ok(())
}

/// Answers on a thread of its own, so that who is slow holds up nobody else.
fn answer_apart(stream: TcpStream, shared: &Arc<Shared>) {
    struct Place(Arc<Shared>);
    impl Drop for Place {
        fn drop(&mut self) {
            self.0.answering.fetch_sub(1, Ordering::AcqRel);
        }
    }
    let place = Place(Arc::clone(shared));
    if shared.answering.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
        // Closing says enough; an answer would have to wait for the client.
        return;
    }
    let answer = move || {
        // A client that went away, or was too slow, has itself to blame and nobody to be told.
        answer(stream, &place.0).unwrap_or(());
    };
    if let Err(error) = thread::Builder::new().name("scrape".into()).stack_size(STACK_BYTES).spawn(answer) {
        say(format_args!("a scrape was not answered: {error}"));
    }
}

fn answer(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let deadline = Instant::now() + REQUEST_TIME;
    let mut head = [0; HEAD_BYTES_MAX];
    let mut length = 0;
    let end = loop {
        if let Some(end) = find(&head[..length], b"\r\n\r\n") {
            break Some(end);
        }
        if length == head.len() {
            break None;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut head[length..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => length += count,
        }
    };
    let answer = end.map_or_else(
        || Answer::refused("431 Request Header Fields Too Large", "the request is too long\n"),
        |end| respond(&head[..end], shared),
    );
    send(&mut stream, &answer)?;
    // A close with bytes unread would be a reset, which can take the answer with it.
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut rest = [0; 512];
    for _ in 0..HEAD_BYTES_MAX / rest.len() {
        if stream.read(&mut rest)? == 0 {
            break;
        }
    }
    Ok(())
}

fn send(stream: &mut TcpStream, answer: &Answer) -> io::Result<()> {
    let body: &[u8] = if answer.head_only { b"" } else { &answer.body };
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        answer.status,
        answer.content_type,
        answer.body.len(),
        answer.more
    );
    let deadline = Instant::now() + REQUEST_TIME;
    for mut bytes in [head.as_bytes(), body] {
        while !bytes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            stream.set_write_timeout(Some(left))?;
            let count = stream.write(bytes)?;
            bytes = &bytes[count..];
        }
    }
    Ok(())
}

struct Answer {
    status: &'static str,
    content_type: &'static str,
    more: &'static str,
    body: Arc<Vec<u8>>,
    head_only: bool,
}

impl Answer {
    fn refused(status: &'static str, words: &str) -> Self {
        let more = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let body = Arc::new(words.as_bytes().to_vec());
        Self { status, content_type: "text/plain; charset=utf-8", more, body, head_only: false }
    }
}

/// The answer to the head of a request, without its last empty line.
fn respond(head: &[u8], shared: &Shared) -> Answer {
    let bad = || Answer::refused("400 Bad Request", "that is no request\n");
    let Ok(head) = std::str::from_utf8(head) else { return bad() };
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return bad();
    };
    if !version.starts_with("HTTP/1.") {
        return bad();
    }
    let (mut accept, mut host) = ("", None);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return bad() };
        if name.eq_ignore_ascii_case("accept") {
            accept = value.trim();
        } else if name.eq_ignore_ascii_case("host") {
            host = Some(value.trim());
        }
    }
    if shared.loopback && !host.is_none_or(is_this_machine) {
        let words = "this address is for this machine alone; ask for it as localhost\n";
        return Answer::refused("421 Misdirected Request", words);
    }
    if !matches!(method, "GET" | "HEAD") {
        return Answer::refused("405 Method Not Allowed", "only GET and HEAD\n");
    }
    if target.split('?').next() != Some("/metrics") {
        return Answer::refused("404 Not Found", "what there is, is at /metrics\n");
    }
    let flavour = Flavour::accepted(accept);
    match shared.pages.lock().unwrap_or_else(PoisonError::into_inner).page(flavour, Instant::now()) {
        Ok(body) => Answer {
            status: "200 OK",
            content_type: flavour.content_type(),
            more: "",
            body,
            head_only: method == "HEAD",
        },
        Err(error) => {
            say(format_args!("no metrics: {:#}", anyhow::Error::new(error)));
            Answer::refused("503 Service Unavailable", "the machine cannot be measured now; the monitor says why\n")
        }
    }
}

impl Pages {
    fn page(&mut self, flavour: Flavour, now: Instant) -> Result<Arc<Vec<u8>>, vitals::SampleError> {
        let Self { exporter, made } = self;
        let made = &mut made[usize::from(flavour == Flavour::OpenMetrics)];
        if let Some((at, page)) = made.as_ref()
            && now.saturating_duration_since(*at) < PAGE_HOLDS
        {
            return Ok(Arc::clone(page));
        }
        let mut page = Vec::new();
        exporter.page(flavour, &Instants::now(), &mut page)?;
        let page = Arc::new(page);
        *made = Some((now, Arc::clone(&page)));
        Ok(page)
    }
}

/// Whether `Host` names this machine from within: an address of the loopback, or localhost.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

/// Reads `ADDR`: an address and a port, or a port alone, which is then for this machine alone.
///
/// # Errors
/// Says what is understood.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    text.parse()
        .map_err(|_| "an address and a port, 127.0.0.1:9100 or [::]:9100, or a port alone for this machine".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(loopback: bool) -> Shared {
        let pages = Pages { exporter: Exporter::new(Path::new("/proc")), made: [None, None] };
        Shared { pages: Mutex::new(pages), answering: AtomicUsize::new(0), loopback }
    }

    #[test]
    fn only_the_page_is_served_and_only_to_this_machine_by_its_own_name() {
        let shared = shared(true);
        let status = |head: &str| respond(head.as_bytes(), &shared).status;
        for (head, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: localhost:9100", "200 OK"),
            ("GET /metrics?x=1 HTTP/1.0", "200 OK"),
            ("HEAD /metrics HTTP/1.1\r\nHost: [::1]:9100", "200 OK"),
            ("GET /metrics HTTP/1.1\r\nHost: evil.example:9100", "421 Misdirected Request"),
            ("GET / HTTP/1.1\r\nHost: 127.0.0.1", "404 Not Found"),
            ("GET /../metrics HTTP/1.1\r\nHost: 127.0.0.1", "404 Not Found"),
            ("POST /metrics HTTP/1.1\r\nHost: 127.0.0.1", "405 Method Not Allowed"),
            ("GET /metrics", "400 Bad Request"),
            ("GET /metrics HTTP/2", "400 Bad Request"),
            ("GET /metrics HTTP/1.1\r\nno colon", "400 Bad Request"),
            ("", "400 Bad Request"),
        ] {
            assert_eq!(status(head), expected, "{head:?}");
        }
        let open = super::tests::shared(false);
        assert_eq!(respond(b"GET /metrics HTTP/1.1\r\nHost: node1.example:9100", &open).status, "200 OK");
    }

    #[test]
    fn many_questions_cost_one_page() {
        let mut pages = shared(true).pages.into_inner().unwrap();
        let begun = Instant::now();
        let first = pages.page(Flavour::Prometheus, begun).unwrap();
        assert!(first.starts_with(b"# HELP node_cpu_seconds_total"), "{}", first.escape_ascii());
        let mut again = |after: Duration| Arc::ptr_eq(&first, &pages.page(Flavour::Prometheus, begun + after).unwrap());
        assert!(again(PAGE_HOLDS - Duration::from_nanos(1)));
        assert!(!again(PAGE_HOLDS));
    }

    #[test]
    fn a_port_alone_is_for_this_machine_alone() {
        for (text, address) in [
            ("9100", "127.0.0.1:9100"),
            (":9100", "127.0.0.1:9100"),
            ("[::]:0", "[::]:0"),
            ("10.0.0.1:1", "10.0.0.1:1"),
        ] {
            assert_eq!(parse_address(text), Ok(address.parse().unwrap()), "{text}");
        }
        for text in ["", "x", "localhost:9100", "1.2.3.4", "70000"] {
            assert!(parse_address(text).is_err(), "{text}");
        }
    }
}
