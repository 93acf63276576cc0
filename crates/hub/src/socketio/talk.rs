//! One session's way out: events are said in order, and none is lost because there was no room for it at once.

use super::event::Event;
use super::inbox::{Inbox, Incoming};
use super::track::Track;
use crate::core::Hub;
use serde::Serialize;
use serde_json::{Value as Json, json};
use socketioxide::ack::AckStream;
use socketioxide::extract::SocketRef;
use socketioxide::{SendError, SocketError, TransportType};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wire::message::Refusal;

/// What is said before batches are waits so long for room; who does not read so little is cut.
const ROOM_MAX: Duration = Duration::from_secs(5);
/// How often room is looked for; the engine does not tell when there is some.
pub(super) const ROOM_AGAIN: Duration = Duration::from_millis(10);
/// A goodbye is given this long to get out.
const GOODBYE_MAX: Duration = Duration::from_millis(500);
/// A goodbye after which the client comes back is given this long: it needs no answer.
const SEE_YOU: Duration = Duration::from_millis(100);

/// Packets that one poll brings at most, twice that where one begins just then: python-socketio ends a connection by polling that
/// brings more than 16 at once.
const PACKETS_OF_POLL_MAX: u32 = 7;

/// What the parts of a session share.
pub(super) struct Talk {
    pub(super) hub: Arc<Hub>,
    pub(super) socket: SocketRef,
    pub(super) track: Arc<Track>,
    pub(super) inbox: Arc<Inbox>,
    /// Packets said for a poll, and which.
    said: Mutex<(u64, u32)>,
    /// Acknowledgements that wait for a poll.
    answers: Mutex<VecDeque<Answer>>,
}

type Answer = Box<dyn FnOnce() -> Result<(), SendError> + Send>;

/// The client cannot be spoken to any more, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct IsGone(pub(super) String);

/// What became of an event that was to be said at once.
pub(super) enum Tried<T> {
    Said(T),
    NoRoom,
}

impl Talk {
    pub(super) fn new(hub: Arc<Hub>, socket: SocketRef, track: Arc<Track>, inbox: Arc<Inbox>) -> Talk {
        Talk { hub, socket, track, inbox, said: Mutex::default(), answers: Mutex::default() }
    }

    /// Says an event, if there is room for it now.
    pub(super) fn try_say<T: Serialize>(&self, event: &str, what: &T) -> Result<Tried<()>, IsGone> {
        self.try_say_in(1, event, what)
    }

    /// As [`Talk::try_say`], an event of so many packets: bytes are packets of their own.
    pub(super) fn try_say_in<T: Serialize>(&self, packets: u32, event: &str, what: &T) -> Result<Tried<()>, IsGone> {
        if !self.has_room_for(packets) {
            return Ok(Tried::NoRoom);
        }
        tried(self.socket.emit(event, what))
    }

    /// Whether the poll that comes next may bring so many packets more; then they count as said.
    fn has_room_for(&self, packets: u32) -> bool {
        if self.socket.transport_type() != TransportType::Polling {
            return true;
        }
        let polls = self.track.progress().polls;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.0 != polls {
            *said = (polls, 0);
        }
        let room = said.1 + packets <= PACKETS_OF_POLL_MAX;
        if room {
            said.1 += packets;
        }
        room
    }

    /// Says an event that the client is to acknowledge, if there is room for it now.
    pub(super) fn try_ask<T: Serialize>(&self, event: &str, what: &T) -> Result<Tried<Acknowledged>, IsGone> {
        if !self.has_room_for(1) {
            return Ok(Tried::NoRoom);
        }
        match tried(self.socket.emit_with_ack(event, what))? {
            Tried::Said(ack) => Ok(Tried::Said(Box::pin(ack))),
            Tried::NoRoom => Ok(Tried::NoRoom),
        }
    }

    /// Says an event, and waits for room first.
    pub(super) async fn say<T: Serialize>(&self, event: &str, what: &T) -> Result<(), IsGone> {
        self.with_room(|| self.try_say(event, what)).await
    }

    /// Says an event that the client is to acknowledge, and waits for room first.
    pub(super) async fn ask<T: Serialize>(&self, event: &str, what: &T) -> Result<Acknowledged, IsGone> {
        self.with_room(|| self.try_ask(event, what)).await
    }

    async fn with_room<T>(&self, mut say: impl FnMut() -> Result<Tried<T>, IsGone>) -> Result<T, IsGone> {
        let saying = async {
            loop {
                match say()? {
                    Tried::Said(said) => return Ok(said),
                    Tried::NoRoom => tokio::time::sleep(ROOM_AGAIN).await,
                }
            }
        };
        tokio::time::timeout(ROOM_MAX, saying).await.unwrap_or_else(|_| Err(IsGone("it does not read".into())))
    }

    pub(super) async fn refused(&self, refusal: &Refusal) -> Result<(), IsGone> {
        self.say("refused", &told(refusal)).await
    }

    /// Answers an event that is acknowledged by its sender's wish. What is left out is `ok`.
    pub(super) fn answer(&self, event: Event, mut answer: Json) -> Result<(), IsGone> {
        if let Json::Object(fields) = &mut answer {
            fields.insert("ok".into(), true.into());
        }
        self.acknowledge(event, answer)
    }

    pub(super) fn acknowledge<T>(&self, event: Event, answer: T) -> Result<(), IsGone>
    where
        T: Serialize + Send + 'static,
    {
        if event.asks {
            let ack = event.ack;
            self.answers().push_back(Box::new(move || ack.send(&answer)));
        }
        self.send_answers()
    }

    /// Says the acknowledgements that wait and may be said now.
    pub(super) fn send_answers(&self) -> Result<(), IsGone> {
        let mut answers = self.answers();
        while !answers.is_empty() && self.has_room_for(2) {
            let Some(answer) = answers.pop_front() else { break };
            if let Tried::NoRoom = tried(answer())? {
                // Lost to its client, which waits for it: so it is to come back and see how things are.
                return Err(IsGone("it does not read its answers".into()));
            }
        }
        Ok(())
    }

    /// How many acknowledgements wait.
    pub(super) fn answers_waiting(&self) -> usize {
        self.answers().len()
    }

    fn answers(&self) -> MutexGuard<'_, VecDeque<Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that an event was not done: as its acknowledgement, or, where none is wished, by an event of its own.
    pub(super) async fn fail(&self, event: Event, refusal: &Refusal) -> Result<(), IsGone> {
        let mut told = told(refusal);
        if event.asks {
            told["ok"] = false.into();
            return self.acknowledge(event, told);
        }
        told["event"] = event.name.chars().take(64).collect::<String>().into();
        self.say("failed", &told).await
    }

    /// Ends the session. Who is not to come back is told so by a DISCONNECT packet, which stock clients take for the last
    /// word; who is to come back is cut, which they take for a lost connection.
    pub(super) async fn goodbye(&self, refusal: &Refusal) {
        let told = self.try_say("bye", &told(refusal)).is_ok();
        let comes_back = refusal.retry_ms.is_some();
        let patience = match (told, comes_back) {
            (false, _) => Duration::ZERO,
            (true, true) => SEE_YOU,
            // A right client ends the connection itself then.
            (true, false) if self.socket.clone().disconnect().is_ok() => GOODBYE_MAX,
            (true, false) => Duration::ZERO,
        };
        let gone = async { while !matches!(self.inbox.next().await, Incoming::Left(_)) {} };
        if comes_back {
            tokio::time::timeout(patience, gone).await.ok();
        } else {
            tokio::time::sleep(patience).await;
        }
        self.track.cut();
    }
}

/// An acknowledgement to come.
pub(super) type Acknowledged = Pin<Box<AckStream<Json>>>;

fn tried<T>(result: Result<T, SendError>) -> Result<Tried<T>, IsGone> {
    match result {
        Ok(said) => Ok(Tried::Said(said)),
        Err(SendError::Socket(SocketError::InternalChannelFull)) => Ok(Tried::NoRoom),
        Err(SendError::Socket(SocketError::Closed)) => Err(IsGone("its connection has ended".into())),
        Err(SendError::Serialize(error)) => Err(IsGone(format!("an event could not be encoded: {error}"))),
    }
}

/// A refusal as clients get it: `{code, text, retry_ms?}`.
pub(super) fn told(refusal: &Refusal) -> Json {
    let mut told = json!({ "code": refusal.code.as_str(), "text": refusal.text });
    if let Some(retry_ms) = refusal.retry_ms {
        told["retry_ms"] = retry_ms.into();
    }
    told
}
