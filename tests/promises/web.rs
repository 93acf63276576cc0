//! A small HTTP client that says what it is told to say, byte by byte if need be, and reads what comes back.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{Cluster, PATIENCE};
use wire::unique_id::UniqueId;

/// A hub's HTTP port, and what every request says of who asks.
#[derive(Clone)]
pub(crate) struct Web {
    pub(crate) address: String,
    authorization: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// By name, in small letters; the last of a name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Web {
    /// The HTTP port of a hub that was started with `--http 127.0.0.1:0`.
    #[track_caller]
    pub(crate) fn of(cluster: &mut Cluster) -> Web {
        let line = cluster.hub().wait_for_line("http     http", PATIENCE);
        let url = line.split_whitespace().nth(1).unwrap();
        let address = url.trim_end_matches('/').rsplit('/').next().unwrap().to_owned();
        Web { address, authorization: None }
    }

    /// The same client, at a hub that was started anew.
    #[track_caller]
    pub(crate) fn again(&self, cluster: &mut Cluster) -> Web {
        Web { authorization: self.authorization.clone(), ..Web::of(cluster) }
    }

    /// As the client that holds this.
    pub(crate) fn basic(&self, unique_id: &UniqueId) -> Web {
        self.user(&unique_id.id().to_string(), &unique_id.reveal())
    }

    /// The same client, by another way.
    pub(crate) fn at(&self, address: String) -> Web {
        Web { address, ..self.clone() }
    }

    /// Whoever comes.
    pub(crate) fn nobody(&self) -> Web {
        Web { authorization: None, ..self.clone() }
    }

    pub(crate) fn user(&self, user: &str, password: &str) -> Web {
        let pair = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
        Web { authorization: Some(format!("Basic {pair}")), ..self.clone() }
    }

    /// With a token of `lockstep token`.
    pub(crate) fn bearer(&self, token: &str) -> Web {
        Web { authorization: Some(format!("Bearer {token}")), ..self.clone() }
    }

    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Reply {
        self.send("GET", target, &[], b"")
    }

    #[track_caller]
    pub(crate) fn put(&self, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.send("PUT", target, headers, body)
    }

    #[track_caller]
    pub(crate) fn post(&self, target: &str, body: &str) -> Reply {
        self.send("POST", target, &[("content-type", "application/json")], body.as_bytes())
    }

    #[track_caller]
    pub(crate) fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        Reply::read(self.ask(method, target, headers, body))
    }

    /// Sends a request; its answer is still to be read.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        let mut request = self.head(method, target, headers, &[("connection", "close")]);
        if !body.is_empty() || matches!(method, "PUT" | "POST") {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        // Who refuses early need not read it all; who is cut has no answer.
        stream.write_all(request.as_bytes()).ok();
        stream.write_all(body).ok();
        stream
    }

    /// The line of a head that says who asks.
    pub(crate) fn head_line(&self) -> String {
        self.authorization.as_ref().map(|value| format!("authorization: {value}\r\n")).unwrap_or_default()
    }

    /// Bytes as they are.
    #[track_caller]
    pub(crate) fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        stream.write_all(bytes).ok();
        Reply::read(stream)
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn head(&self, method: &str, target: &str, headers: &[(&str, &str)], more: &[(&str, &str)]) -> String {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            head.push_str(&format!("host: {}\r\n", self.address));
        }
        if let Some(authorization) = &self.authorization {
            head.push_str(&format!("authorization: {authorization}\r\n"));
        }
        for (name, value) in headers.iter().chain(more) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }

    /// Opens a stream of events.
    #[track_caller]
    pub(crate) fn events(&self, target: &str, last_event_id: Option<&str>) -> Events {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(last_event_id.map(|id| ("last-event-id", id)));
        let mut stream = self.connect();
        let request = self.head("GET", target, &headers, &[]) + "\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let (status, headers) = read_head(&mut reader);
        assert_eq!((status, headers["content-type"].as_str()), (200, "text/event-stream"));
        Events { reader, text: String::new() }
    }
}

impl Reply {
    #[track_caller]
    pub(crate) fn read(stream: TcpStream) -> Reply {
        Reply::try_read(stream).expect("an answer")
    }

    /// The answer; `None` where the connection ended before it did.
    pub(crate) fn try_read(stream: TcpStream) -> Option<Reply> {
        let mut reader = BufReader::new(stream);
        let (status, headers) = try_read_head(&mut reader)?;
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            while let Some(chunk) = read_chunk(&mut reader) {
                body.extend(chunk);
            }
        } else if let Some(length) = headers.get("content-length") {
            body.resize(length.parse().unwrap(), 0);
            // Of a HEAD there is none.
            if reader.read_exact(&mut body).is_err() {
                body.clear();
            }
        }
        Some(Reply { status, headers, body })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of a problem (RFC 9457).
    #[track_caller]
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert!(problem["title"].is_string() && !problem["detail"].as_str().unwrap().is_empty(), "{problem}");
        problem["code"].as_str().unwrap().to_owned()
    }
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    match reader.read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

#[track_caller]
fn read_head(reader: &mut impl BufRead) -> (u16, BTreeMap<String, String>) {
    try_read_head(reader).expect("an answer")
}

fn try_read_head(reader: &mut impl BufRead) -> Option<(u16, BTreeMap<String, String>)> {
    let first = read_line(reader).filter(|line| !line.is_empty())?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status in {first:?}"));
    let mut headers = BTreeMap::new();
    while let Some(line) = read_line(reader).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').expect("a header");
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Some((status, headers))
}

fn read_chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let length = usize::from_str_radix(read_line(reader)?.trim(), 16).ok()?;
    let mut chunk = vec![0; length];
    reader.read_exact(&mut chunk).ok()?;
    read_line(reader)?;
    (length > 0).then_some(chunk)
}

/// An open stream of events.
pub(crate) struct Events {
    reader: BufReader<TcpStream>,
    text: String,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) data: serde_json::Value,
}

impl Events {
    /// The next event; `None` when the stream ended.
    pub(crate) fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let event = Event::read(block);
                self.text = rest.to_owned();
                if event.is_some() {
                    return event;
                }
            }
            let chunk = read_chunk(&mut self.reader)?;
            self.text.push_str(&String::from_utf8(chunk).unwrap());
        }
    }

    /// Events up to and with the first `current`: each name with its value, `None` where it is gone, and the last id.
    #[track_caller]
    pub(crate) fn until_current(&mut self) -> (Vec<Event>, String) {
        let mut events = Vec::new();
        loop {
            let event = self.next().unwrap_or_else(|| panic!("the stream ended after {events:?}"));
            if event.kind == "current" {
                return (events, event.id);
            }
            events.push(event);
        }
    }

    /// Waits for an event like this.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, like: impl Fn(&Event) -> bool) -> Event {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "no such event");
            let event = self.next().expect("the stream goes on");
            if like(&event) {
                return event;
            }
        }
    }

    /// The connection itself.
    pub(crate) fn into_inner(self) -> TcpStream {
        self.reader.into_inner()
    }

    /// Whether the stream ends within this span.
    pub(crate) fn ends(&mut self, within: Duration) -> bool {
        self.reader.get_ref().set_read_timeout(Some(within)).unwrap();
        let start = Instant::now();
        while start.elapsed() < within {
            if self.next().is_none() {
                return start.elapsed() < within;
            }
        }
        false
    }
}

impl Event {
    pub(crate) fn read(block: &str) -> Option<Event> {
        let field = |name: &str| {
            let lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let values: Vec<&str> = lines.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect();
            (!values.is_empty()).then(|| values.join("\n"))
        };
        let data = serde_json::from_str(&field("data")?).unwrap();
        Some(Event { kind: field("event")?, id: field("id").unwrap_or_default(), data })
    }
}
