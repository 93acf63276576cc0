//! Socket.IO: stock clients, in whatever language, over WebSocket and long polling on the port of HTTP.
//!
//! ```text
//! client                               hub
//! (connects, with or without auth)
//!                                <-    id?                      where auth has no id
//! id 7                           ->
//!                                <-    unique_id "ls-7-..."     new: to be acknowledged, once it is kept
//!                                <-    unique_id?               known
//! unique_id "ls-7-..."           ->
//!                                <-    refused {code, text}     and asked again, three times
//!                                <-    welcome {id, hub, shares}
//!                                <-    reset {board, pattern}   what is held counts no longer
//!                                <-    value {name, version, payload, ...} | gone {name, version}
//!                                <-    cursor | current {board, pattern, cursor, conflated}
//! put name, value[, type]        ->    acknowledged {ok, version} once it is on disk, or {ok: false, code, text}
//! remove name                    ->    the same
//! get name                       ->    acknowledged {ok, value}
//! follow pattern | {board, pattern, cursor}; unfollow pattern
//! clients                        ->    acknowledged {ok, clients}
//!                                <-    client {id, active, ...} from then on
//!                                <-    bye {code, text}
//! ```
//!
//! `auth` may hold `{id, unique_id, invite, name, cursors, follow}`, the answer `id` the same. An id is a JSON integer. All of `data`
//! is followed from the login on, unless `follow` (a list of patterns) says otherwise. `cursors` is a map from board to what the last
//! `cursor` or `current` said: with it, exactly what is newer comes, without a `reset`. Every change of a name comes in the order
//! of its versions; a client that is slow gets fewer versions of it, and always the newest.
//!
//! Whoever was taken over, revoked or refused gets a DISCONNECT packet, after which stock clients do not come back by themselves. Who
//! lags, and whoever is here when the hub stops, is cut: stock clients come back, and go on from their cursors.
//!
//! The engine's id of a session is a secret of that session, and is told to nobody else.

mod engine;
mod event;
mod follow;
mod guard;
mod inbox;
mod login;
mod outbox;
mod payload;
mod session;
mod talk;
mod track;

use crate::core::Hub;
use crate::reception::Stay;
pub use engine::Engine;
use engine::Guarded;
use event::{Event, Parts};
use inbox::Inbox;
use login::{NotIn, log_in};
use serde_json::{Value as Json, json};
use session::{Ended, Serving};
use socketioxide::extract::{AckSender, SocketRef, TryData};
use socketioxide::handler::ConnectHandler;
use socketioxide::socket::DisconnectReason;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use talk::Talk;
use tokio::task::JoinSet;
use track::Track;

/// The engine's own ends are given this long when the hub stops.
const CLOSE_MAX: Duration = Duration::from_millis(500);

/// The transport: a service for HTTP, and the sessions behind it.
pub(crate) struct SocketIo {
    guard: Guarded,
    io: socketioxide::SocketIo,
    sessions: Arc<Mutex<JoinSet<()>>>,
}

impl SocketIo {
    /// Where stock clients look for it.
    pub(crate) const PATH: &str = "/socket.io/";

    pub(crate) fn new(hub: &Arc<Hub>) -> SocketIo {
        let (guard, io) = Engine::default().socketio(Self::PATH, &hub.limits);
        let sessions: Arc<Mutex<JoinSet<()>>> = Arc::default();
        let (hub, begun) = (Arc::clone(hub), Arc::clone(&sessions));
        let connected = async move |socket: SocketRef, TryData(auth): TryData<Json>| {
            let (Some(track), Some(inbox)) = (track_of(&socket), socket.extensions.get::<Arc<Inbox>>()) else { return };
            let talk = Talk::new(Arc::clone(&hub), socket, track, inbox);
            let mut sessions = begun.lock().unwrap_or_else(PoisonError::into_inner);
            while sessions.try_join_next().is_some() {}
            sessions.spawn(serve(talk, auth.unwrap_or_default()));
        };
        // In a middleware, since that ends before the client hears that it is connected: so nothing it sends comes too early.
        io.ns("/", connected.with(listen));
        SocketIo { guard, io, sessions }
    }

    pub(crate) fn service(&self) -> Guarded {
        self.guard.clone()
    }

    /// Returns when every session has ended, which they do by themselves once the hub stops.
    pub(crate) async fn ended(&self) {
        loop {
            let sessions = std::mem::take(&mut *self.sessions.lock().unwrap_or_else(PoisonError::into_inner));
            if sessions.is_empty() {
                break;
            }
            sessions.join_all().await;
        }
        if tokio::time::timeout(CLOSE_MAX, self.io.close()).await.is_err() {
            tracing::debug!("not every Socket.IO session ended in time");
        }
    }
}

fn track_of(socket: &SocketRef) -> Option<Arc<Track>> {
    socket.req_parts().extensions.get::<Arc<Track>>().cloned()
}

/// Hears everything that a client says from its first event on.
async fn listen(socket: SocketRef) -> Result<(), &'static str> {
    let track = track_of(&socket).ok_or("hub_failed: the session is not known")?;
    track.named(socket.id.as_str());
    let inbox = Inbox::new(track);
    socket.extensions.insert(Arc::clone(&inbox));
    let heard = Arc::clone(&inbox);
    // No async block: the engine calls closures in the order of the events, and spawns what they return.
    socket.on_fallback(move |parts: Parts, ack: AckSender| {
        let Parts { name, args, asks, bytes } = parts;
        heard.push(Event { name, args, asks, ack, bytes });
        std::future::ready(())
    });
    socket.on_disconnect(async move |why: DisconnectReason| inbox.left(why.to_string()));
    Ok(())
}

/// One client, from its connection to its end.
async fn serve(talk: Talk, auth: Json) {
    let address = talk.track.address;
    // In a box of its own: what a login needs is given back before the client stays.
    let end = match Box::pin(log_in(&talk, auth)).await {
        Ok((admitted, wishes)) => {
            talk.track.logged_in(admitted.id);
            talk.inbox.logged_in();
            match Stay::begin(&talk.hub, &admitted, address, "socketio") {
                Ok(stay) => {
                    let ended = stay_in(&talk, &stay, wishes).await;
                    stay.leave(&ended);
                    match ended {
                        Ended::Told(refusal) => Some(refusal),
                        Ended::Gone(_) => None,
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "no session could be opened");
                    None
                }
            }
        }
        Err(NotIn::Refused(refusal)) => Some(refusal),
        Err(NotIn::Gone(why)) => {
            tracing::info!(%address, why, "left without logging in");
            None
        }
    };
    match end {
        Some(refusal) => talk.goodbye(&refusal).await,
        // Also where the client does not know yet that it is gone: it has to come back.
        None => talk.track.cut(),
    }
    talk.inbox.close();
}

async fn stay_in(talk: &Talk, stay: &Stay, wishes: login::Wishes) -> Ended {
    let welcome = stay.welcome();
    let welcome = json!({
        "id": welcome.id,
        "hub": welcome.hub,
        "version": env!("CARGO_PKG_VERSION"),
        "shares": welcome.shares.iter().map(|share| json!({
            "name": share.name, "entries": share.entries, "bytes": share.bytes, "complete": share.complete,
        })).collect::<Vec<_>>(),
    });
    match talk.say("welcome", &welcome).await {
        Ok(()) => Serving::new(talk, stay.session()).run(wishes).await,
        Err(gone) => gone.into(),
    }
}
