//! WebSocket and long polling misused byte by byte: whoever does it is cut, and nobody else notices.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Cluster, Library, PATIENCE, Stock, pick};

use super::crowd::address;
use super::{WEBSOCKET, enrolled, hub};

/// What the hub may grow by, whatever is thrown at it.
const RSS_GROWTH_MAX: u64 = 64 << 20;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const TEXT: u8 = 1;
const PING: u8 = 9;

/// A WebSocket connection on which any bytes may be sent.
struct Raw(TcpStream);

impl Raw {
    fn connect(address: SocketAddr) -> Raw {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut raw = Raw(stream);
        raw.read_until("\r\n\r\n");
        raw
    }

    /// One that has logged in for the first time.
    fn enrolled(address: SocketAddr, id: u64) -> Raw {
        let mut raw = Raw::connect(address);
        raw.send(&frame(FIN | TEXT, format!("40{{\"id\":{id}}}").as_bytes()));
        raw.read_until("unique_id");
        raw.read_until("]");
        // The first event that asks for an acknowledgement asks for number 0 or 1.
        for number in 0..2 {
            raw.send(&frame(FIN | TEXT, format!("43{number}[]").as_bytes()));
        }
        raw.read_until("welcome");
        raw
    }

    /// Answers the pings on the way: who is cut later is not cut for silence.
    fn read_until(&mut self, text: &str) {
        let mut seen = Vec::new();
        let mut byte = [0];
        while !seen.ends_with(text.as_bytes()) {
            let read = self.0.read(&mut byte);
            assert!(matches!(read, Ok(1)), "{read:?} instead of {text:?} after {:?}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
            self.answer(&seen);
        }
    }

    fn answer(&mut self, seen: &[u8]) {
        if seen.ends_with(&[FIN | TEXT, 1, b'2']) {
            self.send(&frame(FIN | TEXT, b"3"));
        }
    }

    /// Who is cut may be so before all is sent.
    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).ok();
    }

    /// Whether the hub ends the connection, whatever it says first.
    fn is_cut(&mut self, within: Duration) -> bool {
        let start = Instant::now();
        let mut buffer = [0; 4096];
        while start.elapsed() < within {
            match self.0.read(&mut buffer) {
                Ok(0) => return true,
                Ok(read) => self.answer(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
        false
    }
}

/// A frame as a client sends it; the mask of nothing but zeros changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(MASKED | length.to_be_bytes()[1]),
        Ok(length) => {
            frame.push(MASKED | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(MASKED | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// One that follows all and puts, to see that others are served.
struct Witness(Stock, u64);

impl Witness {
    fn new(url: &str) -> Witness {
        Witness(enrolled(Library::Node, url, WEBSOCKET, 1_000_000).0, 0)
    }

    #[track_caller]
    fn is_served(&mut self, during: &str) {
        let mark = self.0.mark();
        self.1 += 1;
        let answer = self.0.ask(json!(["put", "witness", self.1]));
        assert_eq!(answer["ok"], true, "{during}: {answer}");
        self.0.hear_value(mark, "witness", &json!(self.1));
        assert!(self.0.heard(0, "disconnect").is_empty(), "{during}: the witness was cut");
    }
}

fn rss(cluster: &mut Cluster) -> u64 {
    cluster.hub().rss_bytes().unwrap()
}

#[test]
fn what_is_no_websocket_ends_that_connection_alone_logged_in_or_not() {
    let (mut cluster, url) = hub();
    let address = address(&url);
    let mut witness = Witness::new(&url);
    let before = rss(&mut cluster);
    let ping = |length: u8| [&[FIN | PING, MASKED | length, 0, 0, 0, 0][..], &vec![7; usize::from(length)]].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a first reserved bit", frame(FIN | 0x40 | TEXT, b"2")),
        ("a second reserved bit", frame(FIN | 0x20 | TEXT, b"2")),
        ("a third reserved bit", frame(FIN | 0x10 | TEXT, b"2")),
        ("an opcode for data that is none", frame(FIN | 3, b"2")),
        ("an opcode for control that is none", frame(FIN | 11, b"2")),
        ("a ping in fragments", frame(PING, b"2")),
        ("a close in fragments", frame(8, b"")),
        ("a ping that is too long", frame(FIN | PING, &[7; 126])),
        ("a frame without a mask", vec![FIN | TEXT, 1, b'2']),
        ("the rest of nothing", frame(FIN, b"2")),
        ("a text within a text", [frame(TEXT, b"4"), frame(FIN | TEXT, b"2")].concat()),
        ("a text that is none", frame(FIN | TEXT, b"42[\"put\",\"\xff\xfe\"]")),
        ("a length beyond all", [&[FIN | TEXT, MASKED | 127][..], &[0x7f; 8], &[0; 4]].concat()),
        ("a length with the highest bit", [&[FIN | TEXT, MASKED | 127][..], &[0xff; 8], &[0; 4]].concat()),
        ("a gibibyte announced", [&[FIN | TEXT, MASKED | 127][..], &(1_u64 << 30).to_be_bytes(), &[0; 4]].concat()),
        ("two mebibytes, sent", frame(FIN | TEXT, &vec![b'2'; 2 << 20])),
        ("a close with half a code", frame(FIN | 8, &[3])),
        ("a packet of no known kind", frame(FIN | TEXT, b"9")),
        ("an event that is no JSON", frame(FIN | TEXT, b"42[\"put\",")),
        ("an event that is no array", frame(FIN | TEXT, b"42{}")),
        ("bytes that nobody announced", frame(FIN | 2, &[0; 100])),
        ("an event with a million parts announced", frame(FIN | TEXT, b"451000000-[\"put\"]")),
        ("a packet of no known kind within a message", frame(FIN | TEXT, b"48")),
        (
            "nesting without an end",
            frame(FIN | TEXT, [&b"42[\"put\",\"x\","[..], &vec![b'['; 200_000]].concat().as_slice()),
        ),
        ("a close", frame(FIN | 8, &1000_u16.to_be_bytes())),
        ("a long ping, and a short one that is right", [ping(125), frame(FIN | 3, b"")].concat()),
    ];
    for (n, (what, bytes)) in cases.iter().enumerate() {
        let mut stranger = Raw::connect(address);
        stranger.send(bytes);
        assert!(stranger.is_cut(PATIENCE), "a stranger with {what} goes on");
        let mut client = Raw::enrolled(address, 1 + n as u64);
        client.send(bytes);
        assert!(client.is_cut(PATIENCE), "a client with {what} goes on");
        witness.is_served(what);
    }
    let grown = rss(&mut cluster).saturating_sub(before);
    assert!(grown < RSS_GROWTH_MAX, "grown by {grown}");
    let log = String::from_utf8_lossy(&std::fs::read(cluster.hub_home().join("log/hub.log")).unwrap()).into_owned();
    assert!(!log.contains("panicked"), "{log}");
}

/// What is right is not cut: else the test above would not tell anything.
#[test]
fn canary_what_is_right_goes_on() {
    let (_cluster, url) = hub();
    let mut client = Raw::enrolled(address(&url), 1);
    // In fragments with a ping between, as may be.
    client.send(&frame(TEXT, b"420[\"get\","));
    client.send(&frame(FIN | PING, b"here"));
    client.send(&frame(0, b"\"no"));
    client.send(&frame(FIN, b"ne\"]"));
    client.read_until("here");
    client.read_until("430[{\"ok\":true");
}

#[test]
fn floods_of_pings_and_events_from_who_does_not_read_cost_the_others_nothing() {
    let (mut cluster, url) = hub();
    let address = address(&url);
    let mut witness = Witness::new(&url);
    let before = rss(&mut cluster);
    let pings = frame(FIN | PING, &[7; 125]).repeat(1_000);
    let event = |name: &str| {
        frame(FIN | TEXT, format!("42[\"{name}\",\"flood\",\"{}\"]", "x".repeat(1_000)).as_bytes()).repeat(100)
    };
    let floods =
        [("pings", pings), ("puts", event("put")), ("questions", event("get")), ("no events", event("nonsense"))];
    for (n, (what, bytes)) in floods.iter().enumerate() {
        let mut flooder = Raw::enrolled(address, 1 + n as u64);
        flooder.0.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        for round in 0..pick(30, 500) {
            // It stops where the hub reads no more of it, or has cut it.
            if flooder.0.write_all(bytes).is_err() {
                break;
            }
            if round % 10 == 0 {
                witness.is_served(what);
            }
        }
        witness.is_served(what);
        let grown = rss(&mut cluster).saturating_sub(before);
        assert!(grown < RSS_GROWTH_MAX, "{what}: grown by {grown}");
    }
}

#[test]
fn who_sends_faster_than_it_is_worked_off_is_slowed_down_and_loses_nothing() {
    let (_cluster, url) = hub();
    let mut client = Raw::enrolled(address(&url), 1);
    // Each of them is on disk before it is answered; all at once they are more than the hub keeps of one client.
    let puts = pick(500, 5_000);
    let value = "x".repeat(60_000);
    let mut sender = client.0.try_clone().unwrap();
    let sent = std::thread::spawn(move || {
        (0..puts).try_for_each(|n| {
            let event = format!("42{}[\"put\",\"much/{}\",\"{value}\"]", 100 + n, n % 50);
            sender.write_all(&frame(FIN | TEXT, event.as_bytes()))
        })
    });
    for n in 0..puts {
        client.read_until(&format!("43{}[{{\"ok\":true", 100 + n));
    }
    sent.join().unwrap().unwrap();
}

#[test]
fn abandoned_polling_sessions_end_and_keep_nobody_out() {
    let (mut cluster, url) = hub();
    let address = address(&url);
    let mut witness = Witness::new(&url);
    let before = rss(&mut cluster);
    let handshake = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request =
            format!("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    // More than the hub keeps of those who have not logged in, in a soak.
    let answers: Vec<String> = (0..pick(1_000, 9_000)).map(|_| handshake()).collect();
    assert!(answers[0].contains("\"sid\""), "{}", answers[0]);
    witness.is_served("abandoned sessions");
    let grown = rss(&mut cluster).saturating_sub(before);
    assert!(grown < pick(RSS_GROWTH_MAX, 8 * RSS_GROWTH_MAX), "grown by {grown}");
    // They end by themselves: their polls are answered by “no such session”, and there is room for others.
    let sid = |answer: &str| answer.split("\"sid\":\"").nth(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    let first = sid(&answers[0]).unwrap();
    let start = Instant::now();
    loop {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = "40";
        let request = format!(
            "POST /socket.io/?EIO=4&transport=polling&sid={first} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok();
        if answer.starts_with("HTTP/1.1 400") || start.elapsed() > PATIENCE {
            assert!(answer.contains("Session ID unknown"), "{answer}");
            break;
        }
        support::lapse(Duration::from_millis(500), "a session ends by its own time");
    }
    assert!(handshake().contains("\"sid\""));
    witness.is_served("others after them");
}
