//! Values as server-sent events.
//!
//! `reset`: what the client holds does not count, all comes anew. `value` and `gone`: one name's newest state, in the
//! form of [`shown`]. `current`: there is nothing newer. Each event's `id` is the cursor behind it, so a browser that was
//! cut anywhere comes back with exactly what it missed. A piece is made only once the one before was taken, from what is
//! newest by then: a slow reader costs one piece here and what the kernel holds for it, and skips what was replaced.

use super::Peer;
use super::auth::Who;
use super::body::{Pieces, Taker};
use super::follow::Following;
use super::problem::Problem;
use super::shown;
use crate::core::Hub;
use crate::reception::Guest;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use board::{Batch, Limits, Mark};
use bytes::Bytes;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use wire::limits::{PING_EVERY, SOFTWARE_BYTES_MAX};

/// One piece of a stream: a single larger value makes a larger one.
const PIECE: Limits = Limits { entries: 64, bytes: 32 << 10 };
/// What a stream opens with: a client that was cut comes back after this many milliseconds.
const OPENING: &str = "retry: 1000\n\n";
/// A last word waits for this long until there is room for it.
const GOODBYE_MAX: Duration = Duration::from_millis(200);
/// A sign of life, which every client ignores.
const ALIVE: &str = ": alive\n\n";

/// The stream; while it is open its client is among the active ones.
pub(super) async fn stream(
    hub: Arc<Hub>,
    who: Who,
    peer: &Peer,
    headers: &HeaderMap,
    following: Following,
) -> Result<Response, Problem> {
    let software = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let software: String = software.chars().filter(|c| !c.is_control()).take(SOFTWARE_BYTES_MAX).collect();
    let guest = Guest::begin(&hub, who.client(), peer.address, software)?;
    let (taker, body) = Pieces::channel();
    tokio::spawn(write(hub, who, guest, following, taker));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that gather answers would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Writes until the client is gone, is not let in any more, or the hub stops.
async fn write(hub: Arc<Hub>, who: Who, mut guest: Guest, following: Following, taker: Taker) {
    let mut stopping = hub.stopping.subscribe();
    let why = tokio::select! {
        () = pieces(following, &taker) => Some("its stream was closed".to_owned()),
        why = guest.ended() => Some(why.text),
        why = who.lost(&hub) => Some(why.to_owned()),
        () = async { drop(stopping.wait_for(|stop| *stop).await) } => None,
    };
    let why = match why {
        Some(why) => why,
        None => {
            say_when_to_come_back(&hub, &taker).await;
            "the hub is stopping".to_owned()
        }
    };
    guest.leave(&why);
}

/// Browsers take the word of `retry` for when to connect again.
async fn say_when_to_come_back(hub: &Hub, taker: &Taker) {
    let told = hub.farewell.refusal();
    let text = format!("retry: {}\n: {}\n\n", told.retry_ms.unwrap_or_default(), told.text);
    // Whoever does not take what it was sent before is cut without a word.
    if let Ok(Ok(room)) = tokio::time::timeout(GOODBYE_MAX, taker.reserve()).await {
        room.send(Bytes::from(text));
    }
}

async fn pieces(mut following: Following, taker: &Taker) {
    let mut opening = Some(OPENING);
    loop {
        // Nothing is made before there is room for it.
        let Ok(room) = taker.reserve().await else { return };
        let mut text = String::new();
        if let Some(opening) = opening.take() {
            text.push_str(opening);
            if following.reset {
                event(&mut text, "reset", &following.passage.text(), "{}");
            }
        }
        match following.next(PIECE) {
            Some(batch) => {
                write_batch(&mut text, &mut following, &batch);
                room.send(Bytes::from(text));
            }
            None if !text.is_empty() => room.send(Bytes::from(text)),
            None => {
                drop(room);
                tokio::select! {
                    () = following.changed() => {}
                    () = tokio::time::sleep(PING_EVERY) => {
                        let Ok(room) = taker.reserve().await else { return };
                        room.send(Bytes::from_static(ALIVE.as_bytes()));
                    }
                    () = taker.closed() => return,
                }
            }
        }
    }
}

fn write_batch(text: &mut String, following: &mut Following, batch: &Batch) {
    for record in &batch.records {
        following.passage.passed(record, &batch.mark);
        if let Some((is_value, json)) = shown::json(following.epoch, record) {
            event(text, if is_value { "value" } else { "gone" }, &following.passage.text(), json.get());
        }
    }
    following.passage.passed_all(batch);
    let id = following.passage.text();
    if matches!(batch.mark, Mark::Live { current: true, .. }) {
        event(text, "current", &id, "{}");
    } else {
        // Moves where the client comes back, and is no event.
        let _written = write!(text, "id: {id}\n\n");
    }
}

/// One event; `json` is one line.
fn event(text: &mut String, kind: &str, id: &str, json: &str) {
    // Writing to a string cannot fail.
    let _written = write!(text, "event: {kind}\nid: {id}\ndata: {json}\n\n");
}
