//! What a hub serves Socket.IO with, under plain echo handlers: for the published protocol suites.
//!
//! ```text
//! cargo run -p lockstep-hub --example conformance -- --port 3000
//! ```
//!
//! On the namespaces `/` and `/custom` of `/socket.io/` what a client connected with comes back as the event `auth`, `message` as
//! `message-back`, and `message-with-ack` as its own acknowledgement. On `/engine.io/` messages come back as they are.

#![allow(clippy::print_stdout, reason = "whoever starts it reads where it listens")]

use bytes::Bytes;
use clap::Parser;
use engineioxide::handler::EngineIoHandler;
use engineioxide::{DisconnectReason, Str};
use hub::conformance::{Engine, Stack};
use serde::ser::SerializeTuple;
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use socketioxide::adapter::Adapter;
use socketioxide::extract::{AckSender, SocketRef, TryData};
use socketioxide::handler::{ConnectHandler, FromMessageParts};
use socketioxide_core::Value;
use std::future::ready;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A hub's HTTP listener, limits and Socket.IO engine under plain echo handlers
#[derive(Debug, Parser)]
struct Args {
    /// On loopback; 0 takes a free one
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// How often it pings
    #[arg(long, value_name = "MS", default_value_t = 300)]
    ping_interval: u64,
    /// How long it waits for the answer to a ping
    #[arg(long, value_name = "MS", default_value_t = 200)]
    ping_timeout: u64,
    /// How many bytes a message may have
    #[arg(long, value_name = "BYTES", default_value_t = 1_000_000)]
    max_payload: usize,
}

#[tokio::main]
async fn main() -> Result<(), hub::Error> {
    let args = Args::parse();
    let mut stack = Stack::new(Engine {
        ping_every: Duration::from_millis(args.ping_interval),
        pong_max: Duration::from_millis(args.ping_timeout),
        message_bytes_max: args.max_payload,
    });
    let io = stack.socketio("/socket.io/");
    for namespace in ["/", "/custom"] {
        // In a middleware, as a hub has it: nothing that a client says comes before somebody listens.
        io.ns(namespace, greet.with(listen));
    }
    stack.engineio("/engine.io/", Echo);
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), args.port);
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    stack.serve(address, |address| println!("listening on {address}"), interrupted).await
}

// What cannot be said any more needs no echo: here and below a client that has gone is no error.
async fn listen(socket: SocketRef) -> Result<(), &'static str> {
    socket.on("message", |socket: SocketRef, arguments: Arguments| {
        socket.emit("message-back", &arguments).ok();
        ready(())
    });
    socket.on("message-with-ack", |arguments: Arguments, ack: AckSender| {
        ack.send(&arguments).ok();
        ready(())
    });
    Ok(())
}

async fn greet(socket: SocketRef, TryData(auth): TryData<Json>) {
    socket.emit("auth", &auth.unwrap_or_else(|_| json!({}))).ok();
}

/// What came with an event, to be sent as it came.
struct Arguments(Vec<Argument>);

#[derive(Serialize)]
#[serde(untagged)]
enum Argument {
    Json(Json),
    #[serde(serialize_with = "bytes_as_bytes")]
    Bytes(Bytes),
}

fn bytes_as_bytes<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

impl<A: Adapter> FromMessageParts<A> for Arguments {
    type Error = serde_json::Error;

    fn from_message_parts(
        _: &Arc<socketioxide::socket::Socket<A>>,
        value: &mut Value,
        _: &Option<i64>,
    ) -> Result<Self, serde_json::Error> {
        let Value::Str(text, attachments) = value else { return Ok(Arguments(Vec::new())) };
        let mut attachments = attachments.take().unwrap_or_default();
        let named = serde_json::from_str::<Vec<Json>>(text)?;
        let argument = |json: Json| match json.get("_placeholder").and_then(|_| attachments.pop_front()) {
            Some(bytes) => Argument::Bytes(bytes),
            None => Argument::Json(json),
        };
        Ok(Arguments(named.into_iter().skip(1).map(argument).collect()))
    }
}

/// Each an argument of its own, as a tuple's fields are.
impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|argument| tuple.serialize_element(argument))?;
        tuple.end()
    }
}

/// Engine.IO alone.
#[derive(Debug)]
struct Echo;

type EngineSocket = Arc<engineioxide::Socket<()>>;

impl EngineIoHandler for Echo {
    type Data = ();

    fn on_connect(self: Arc<Self>, _: EngineSocket) {}

    fn on_disconnect(&self, _: EngineSocket, _: DisconnectReason) {}

    fn on_message(self: &Arc<Self>, message: Str, socket: EngineSocket) {
        socket.emit(message).ok();
    }

    fn on_binary(self: &Arc<Self>, bytes: Bytes, socket: EngineSocket) {
        socket.emit_binary(bytes).ok();
    }
}
