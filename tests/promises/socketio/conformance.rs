//! The protocols below: what a hub serves Socket.IO with, under plain echo handlers, spoken to byte by byte.
//!
//! Published protocol suites expect what is tested here as well; they can be pointed at the same example.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use support::engine::{Frame, Polling, WebSocket};
use support::{PATIENCE, Proc};

const PING_MS: u64 = 300;
const PONG_MS: u64 = 200;
const BYTES_MAX: usize = 10_000;
/// Both engines answer alike below.
const PATHS: [&str; 2] = ["/socket.io/", "/engine.io/"];
/// A poll is given up after so long.
const GIVEN_UP: Duration = Duration::from_millis(500);
const POLLING: &str = "?EIO=4&transport=polling";
const WEBSOCKET: &str = "?EIO=4&transport=websocket";

/// The example, and where it listens.
struct Server {
    _proc: Proc,
    address: SocketAddr,
}

/// Runs `test` against a server that pings every [`PING_MS`], or never where `quiet`.
#[track_caller]
fn against<F: Future<Output = Result<()>>>(quiet: bool, test: impl FnOnce(Server) -> F) {
    let own = std::env::current_exe().unwrap();
    let example = own.ancestors().nth(2).unwrap().join("examples/conformance");
    assert!(
        example.exists(),
        "{} is missing: build it with cargo build --workspace --example conformance",
        example.display()
    );
    let ping_ms = if quiet { 60_000 } else { PING_MS };
    let mut command = Command::new(example);
    command.args(["--port", "0", "--ping-interval", &ping_ms.to_string(), "--ping-timeout"]);
    command.args([&PONG_MS.max(ping_ms / 2).to_string(), "--max-payload", &BYTES_MAX.to_string()]);
    let proc = Proc::start(&mut command);
    let line = proc.wait_for_line("listening on ", PATIENCE);
    let address = line.rsplit(' ').next().unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tested =
        runtime.block_on(async { tokio::time::timeout(PATIENCE, test(Server { _proc: proc, address })).await });
    if let Err(error) = tested.unwrap_or_else(|_| panic!("not over within {PATIENCE:?}")) {
        panic!("{error:#}");
    }
}

impl Server {
    async fn polling(&self, path: &str) -> Result<(Polling, String)> {
        let mut polling = Polling::connect(self.address).await?;
        let (status, body) = polling.get(&format!("{path}{POLLING}")).await?;
        assert_eq!(status, 200, "{body}");
        let target = format!("{path}{POLLING}&sid={}", handshake(&body, json!(["websocket"])));
        // The engine pings at once.
        assert_eq!(polling.get(&target).await?, (200, "2".into()));
        assert_eq!(polling.request("POST", &target, b"3").await?, (200, "ok".into()));
        Ok((polling, target))
    }

    async fn websocket(&self, path: &str) -> Result<WebSocket> {
        let mut socket = WebSocket::connect(None, self.address, &format!("{path}{WEBSOCKET}")).await?;
        handshake(&text(&mut socket).await?, json!([]));
        assert_eq!(text(&mut socket).await?, "2");
        socket.send("3").await?;
        Ok(socket)
    }

    /// In the namespace, with the `auth` that came back.
    async fn namespace(&self, name: &str, auth: &str, echoed: &str) -> Result<WebSocket> {
        let mut socket = self.websocket("/socket.io/").await?;
        socket.send(&format!("40{name}{auth}")).await?;
        let connected = text(&mut socket).await?;
        let sid: Value = serde_json::from_str(connected.strip_prefix(&format!("40{name}")).unwrap())?;
        assert_eq!(sid.as_object().unwrap().keys().collect::<Vec<_>>(), ["sid"], "{connected}");
        assert_eq!(text(&mut socket).await?, format!("42{name}[\"auth\",{echoed}]"));
        Ok(socket)
    }

    async fn status(&self, method: &str, target: &str) -> Result<u16> {
        Ok(Polling::connect(self.address).await?.request(method, target, b"").await?.0)
    }
}

/// The session's id of a handshake that says all it has to.
#[track_caller]
fn handshake(packet: &str, upgrades: Value) -> String {
    let open: Value = serde_json::from_str(packet.strip_prefix('0').unwrap_or_default()).unwrap_or_default();
    assert_eq!((&open["upgrades"], &open["maxPayload"]), (&upgrades, &json!(BYTES_MAX)), "{packet}");
    assert!(open["pingInterval"].is_u64() && open["pingTimeout"].is_u64(), "{packet}");
    assert_eq!(open.as_object().unwrap().len(), 5, "{packet}");
    open["sid"].as_str().unwrap().to_owned()
}

async fn text(socket: &mut WebSocket) -> Result<String> {
    match socket.next().await? {
        Some(Frame::Text(text)) => Ok(text),
        other => anyhow::bail!("{other:?} instead of a text"),
    }
}

/// What comes until the connection ends.
async fn until_it_ends(socket: &mut WebSocket) -> Result<Vec<Frame>> {
    let mut frames = Vec::new();
    while let Some(frame) = socket.next().await? {
        frames.push(frame);
    }
    Ok(frames)
}

#[test]
fn a_handshake_says_what_it_must_and_a_wrong_one_is_refused() {
    against(false, async |server| {
        for path in PATHS {
            server.polling(path).await?;
            server.websocket(path).await?;
            for query in ["", "?transport=polling", "?EIO=abc&transport=polling", "?EIO=4", "?EIO=4&transport=abc"] {
                assert_eq!(server.status("GET", &format!("{path}{query}")).await?, 400, "{query}");
            }
            for method in ["POST", "PUT"] {
                assert_eq!(server.status(method, &format!("{path}{POLLING}")).await?, 400, "{method}");
            }
            for wrong in ["?transport=websocket", "?EIO=4&transport=websocket&sid=nobody"] {
                let refused = WebSocket::connect(None, server.address, &format!("{path}{wrong}")).await;
                assert!(refused.unwrap_err().to_string().starts_with("400"), "{wrong}");
            }
            // In the right form, but nobody's.
            let stranger = format!("{path}{POLLING}&sid=AAAAAAAAAAAAAAAA");
            assert_eq!(server.status("GET", &stranger).await?, 400);
        }
        Ok(())
    });
}

#[test]
fn it_pings_and_who_answers_stays_and_who_does_not_goes() {
    against(false, async |server| {
        for path in PATHS {
            let (mut polling, target) = server.polling(path).await?;
            for _ in 0..3 {
                assert_eq!(polling.get(&target).await?, (200, "2".into()));
                assert_eq!(polling.request("POST", &target, b"3").await?, (200, "ok".into()));
            }
            // Silent from here on: the ping that comes is the last thing it gets.
            let start = Instant::now();
            while polling.get(&target).await?.0 == 200 {
                assert!(start.elapsed() < PATIENCE);
            }
            assert!(start.elapsed() >= Duration::from_millis(PONG_MS), "ended after {:?}", start.elapsed());
        }
        let mut socket = server.websocket("/engine.io/").await?;
        for _ in 0..3 {
            assert_eq!(text(&mut socket).await?, "2");
            socket.send("3").await?;
        }
        let start = Instant::now();
        until_it_ends(&mut socket).await?;
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(PONG_MS), "ended after {took:?}");
        // Who never asks for a namespace goes as well, if only for its silence.
        let mut idle = WebSocket::connect(None, server.address, &format!("/socket.io/{WEBSOCKET}")).await?;
        until_it_ends(&mut idle).await?;
        Ok(())
    });
}

#[test]
fn messages_come_back_as_they_were_over_each_transport() {
    against(true, async |server| {
        let (mut polling, target) = server.polling("/engine.io/").await?;
        for body in ["4hello", "4test1\u{1e}4test2\u{1e}4h\u{e4}\u{1f600}", "4hello\u{1e}bAQIDBA=="] {
            assert_eq!(polling.request("POST", &target, body.as_bytes()).await?, (200, "ok".into()));
            assert_eq!(polling.get(&target).await?, (200, body.to_owned()));
        }
        let mut socket = server.websocket("/engine.io/").await?;
        socket.send("4hell\u{f6}").await?;
        assert_eq!(text(&mut socket).await?, "4hell\u{f6}");
        socket.send_binary(&[1, 2, 3, 4]).await?;
        assert_eq!(socket.next().await?, Some(Frame::Binary((&[1, 2, 3, 4][..]).into())));
        // In fragments, with a ping of WebSocket's own in between.
        socket.send_frame(0x01, b"4in ").await?;
        socket.send_frame(0x89, b"?").await?;
        socket.send_frame(0x80, b"parts").await?;
        assert_eq!(text(&mut socket).await?, "4in parts");
        Ok(())
    });
}

#[test]
fn what_is_no_packet_ends_the_session() {
    against(true, async |server| {
        for path in PATHS {
            let (mut polling, target) = server.polling(path).await?;
            assert_eq!(polling.request("POST", &target, b"abc").await?.0, 400);
            assert_eq!(polling.get(&target).await?.0, 400);
            let mut socket = server.websocket(path).await?;
            socket.send("abc").await?;
            until_it_ends(&mut socket).await?;
        }
        // A masked frame that says it goes on without having begun, and a text that is none.
        for (first, payload) in [(0x80, &b"4x"[..]), (0x81, &b"4\xff\xfe"[..]), (0xf1, &b"4x"[..])] {
            let mut socket = server.websocket("/engine.io/").await?;
            socket.send_frame(first, payload).await?;
            until_it_ends(&mut socket).await?;
        }
        let attachments = "45999-[\"message\"]";
        for packet in ["4abc", "42{}", "42abc[\"message-with-ack\",1]", "49", attachments, "42/custom,[\"message\"]"] {
            let mut socket = server.namespace("", "", "{}").await?;
            socket.send(packet).await?;
            until_it_ends(&mut socket).await?;
        }
        // Of two polls at a time neither is right.
        let (mut polling, target) = server.polling("/engine.io/").await?;
        let (first, second) = tokio::join!(polling.get(&target), server.status("GET", &target));
        let mut statuses = [first?.0, second?];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 400]);
        // Who gives its poll up is gone. One that the server never saw was not given up, but the next one is.
        let (mut polling, target) = server.polling("/engine.io/").await?;
        polling.ask("GET", &target, b"").await?;
        loop {
            polling = Polling::connect(server.address).await?;
            if let Ok(answer) = tokio::time::timeout(GIVEN_UP, polling.get(&target)).await
                && answer?.0 != 200
            {
                return Ok(());
            }
        }
    });
}

/// Polls by another connection until the answer is no longer that of a session that goes on.
async fn until_refused(server: &Server, target: &str) -> Result<u16> {
    loop {
        let status = server.status("GET", target).await?;
        if status != 200 {
            return Ok(status);
        }
    }
}

#[test]
fn what_is_too_large_is_refused_at_the_limit_over_each_transport() {
    against(true, async |server| {
        let fits = format!("4{}", "x".repeat(BYTES_MAX - 1));
        let (mut polling, target) = server.polling("/engine.io/").await?;
        assert_eq!(polling.request("POST", &target, fits.as_bytes()).await?, (200, "ok".into()));
        assert_eq!(polling.get(&target).await?, (200, fits.clone()));
        let (mut polling, target) = server.polling("/engine.io/").await?;
        let refused = polling.request("POST", &target, format!("{fits}x").as_bytes()).await?;
        assert_eq!(refused.0, 413);
        let mut socket = server.websocket("/engine.io/").await?;
        socket.send(&fits).await?;
        assert_eq!(text(&mut socket).await?, fits);
        // Also in fragments, each of which would fit.
        socket.send_frame(0x01, fits.as_bytes()).await?;
        socket.send_frame(0x80, b"x").await?;
        assert_eq!(until_it_ends(&mut socket).await?, []);
        let mut socket = server.websocket("/engine.io/").await?;
        socket.send(&format!("{fits}x")).await?;
        assert_eq!(until_it_ends(&mut socket).await?, []);
        Ok(())
    });
}

#[test]
fn a_session_goes_from_polling_to_websocket_and_is_then_only_there() {
    against(true, async |server| {
        for path in PATHS {
            let (mut polling, target) = server.polling(path).await?;
            let upgrade = target.replace("polling", "websocket");
            // A poll that waits is answered, so that nothing is lost in it.
            polling.ask("GET", &target, b"").await?;
            let mut socket = WebSocket::connect(None, server.address, &upgrade).await?;
            socket.send("2probe").await?;
            assert_eq!(text(&mut socket).await?, "3probe");
            assert_eq!(polling.answer().await?, (200, "6".into()));
            socket.send("5").await?;
            assert_eq!(until_refused(&server, &target).await?, 400);
            // Nor does it come twice by WebSocket.
            let mut second = WebSocket::connect(None, server.address, &upgrade).await?;
            assert_eq!(until_it_ends(&mut second).await?, []);
            let (sent, got) = match path {
                "/engine.io/" => ("4hello", "4hello"),
                _ => ("40/random,", "44/random,{\"message\":\"Invalid namespace\"}"),
            };
            socket.send(sent).await?;
            assert_eq!(text(&mut socket).await?, got);
            // Its end is the client's to say.
            socket.send("1").await?;
            until_it_ends(&mut socket).await?;
        }
        let (mut polling, target) = server.polling("/engine.io/").await?;
        assert_eq!(polling.request("POST", &target, b"1").await?, (200, "ok".into()));
        assert_eq!(polling.get(&target).await?.0, 400);
        Ok(())
    });
}

#[test]
fn namespaces_events_attachments_and_acknowledgements() {
    against(true, async |server| {
        for name in ["", "/custom,"] {
            server.namespace(name, "", "{}").await?;
            let mut socket = server.namespace(name, r#"{"token":"123"}"#, r#"{"token":"123"}"#).await?;
            for (sent, got) in [
                (r#"["message",1,"2",{"3":[true]}]"#, r#"["message-back",1,"2",{"3":[true]}]"#),
                (r#"["message"]"#, r#"["message-back"]"#),
            ] {
                socket.send(&format!("42{name}{sent}")).await?;
                assert_eq!(text(&mut socket).await?, format!("42{name}{got}"));
            }
            socket.send(&format!(r#"42{name}456["message-with-ack",1,"2",{{"3":[false]}}]"#)).await?;
            assert_eq!(text(&mut socket).await?, format!(r#"43{name}456[1,"2",{{"3":[false]}}]"#));
            let places = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;
            for (sent, got) in [
                (format!(r#"452-{name}["message",{places}]"#), format!(r#"452-{name}["message-back",{places}]"#)),
                (format!(r#"452-{name}789["message-with-ack",{places}]"#), format!("462-{name}789[{places}]")),
            ] {
                socket.send(&sent).await?;
                socket.send_binary(&[1, 2, 3]).await?;
                socket.send_binary(&[4, 5, 6]).await?;
                assert_eq!(text(&mut socket).await?, got);
                for bytes in [[1, 2, 3], [4, 5, 6]] {
                    assert_eq!(socket.next().await?, Some(Frame::Binary(bytes.to_vec().into())));
                }
            }
        }
        let mut socket = server.namespace("", "", "{}").await?;
        socket.send("40/random").await?;
        assert_eq!(text(&mut socket).await?, r#"44/random,{"message":"Invalid namespace"}"#);
        // Out of one namespace, and still in the other.
        socket.send("40/custom").await?;
        assert!(text(&mut socket).await?.starts_with("40/custom,"));
        assert_eq!(text(&mut socket).await?, r#"42/custom,["auth",{}]"#);
        socket.send("41/custom").await?;
        socket.send(r#"42["message","still here"]"#).await?;
        assert_eq!(text(&mut socket).await?, r#"42["message-back","still here"]"#);
        Ok(())
    });
}
