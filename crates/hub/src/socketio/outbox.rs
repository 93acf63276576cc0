//! What a client is sent, and how fast: at most [`FLIGHTS_MAX`] batches are on their way to it at any time.
//!
//! A batch ends with an event that the client acknowledges. A Python client does so by itself; a JavaScript client only where its
//! handler calls the callback. Of one that does not, the transport shows how far it is: that the kernel took the batch, of which
//! it takes a bounded number of bytes from a client that does not read; or, by polling, that the client asked for more. So nobody
//! has to acknowledge anything to get everything, and for nobody more than two batches wait that something newer may replace.

use super::follow::{Follow, Round, Told};
use super::talk::{Acknowledged, IsGone, Talk, Tried};
use crate::clock;
use crate::counts::Via;
use crate::presence::Session;
use board::Version;
use socketioxide::TransportType;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use wire::message::Ack;

/// Batches on their way.
const FLIGHTS_MAX: usize = 2;
/// An acknowledgement is waited for so long, before the transport is asked instead.
const ACK_PATIENCE: Duration = Duration::from_secs(1);
/// How often the transport is asked about a client that does not acknowledge.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// The number of the follow of all of `data`; there is one.
const FID: u32 = 0;
/// A client that does not acknowledge is given the occasion again with every so many batches.
const PROBE_EVERY: u32 = 16;

/// What is followed, what is to be said, and what is under way.
#[derive(Default)]
pub(super) struct Outbox {
    follows: Vec<Follow>,
    /// Whose turn is next.
    turn: usize,
    saying: Option<Saying>,
    flights: VecDeque<Flight>,
    /// Batches in a row that were not acknowledged.
    silent: u32,
    /// What the lines will have written once all that was said is out.
    target_bytes: u64,
}

/// A batch of which not everything is said yet.
struct Saying {
    round: Round,
    next: usize,
    all_data: bool,
}

/// A batch that is said.
struct Flight {
    ack: Option<Acknowledged>,
    said: Instant,
    written_bytes: u64,
    polls: u64,
    version: Version,
    all_data: bool,
    current: bool,
}

impl Outbox {
    pub(super) fn follow(&mut self, follow: Follow) {
        // Most clients have one or two.
        self.follows.reserve_exact(1);
        self.follows.push(follow);
    }

    /// Ends a follow; whether there was one. What of it is being said is said to its end.
    pub(super) fn unfollow(&mut self, session: &Session, board: &str, pattern: &[u8]) -> bool {
        let before = self.follows.len();
        self.follows.retain(|follow| {
            let it = follow.board == board && follow.pattern().as_bytes() == pattern;
            if it && follow.is_all_data() {
                session.follows_no_more(board, FID);
            }
            !it
        });
        self.follows.len() < before
    }

    pub(super) fn follows(&self) -> usize {
        self.follows.len()
    }

    pub(super) fn has(&self, board: &str, pattern: &[u8]) -> bool {
        self.follows.iter().any(|follow| follow.board == board && follow.pattern().as_bytes() == pattern)
    }

    /// Whether a further batch may be made.
    pub(super) fn has_room(&self) -> bool {
        self.saying.is_none() && self.flights.len() < FLIGHTS_MAX
    }

    /// Says what there is to say and may be said now; whether it stopped for want of room in the engine's buffer.
    pub(super) async fn send(&mut self, talk: &Talk, session: &Session) -> Result<bool, IsGone> {
        loop {
            if let Some(saying) = &mut self.saying {
                let asks = self.silent == 0 || self.silent.is_multiple_of(PROBE_EVERY);
                let Some(ack) = saying.go_on(talk, asks)? else { return Ok(true) };
                let flight = self.fly(talk, ack);
                self.flights.extend(flight);
                // Others have their turn: many sessions are told of one change.
                tokio::task::yield_now().await;
            }
            self.land(talk, session);
            if self.flights.len() >= FLIGHTS_MAX {
                return Ok(false);
            }
            let Some(saying) = self.next() else { return Ok(false) };
            self.saying = Some(saying);
        }
    }

    /// The next batch of whoever's turn it is, so that none starves another.
    fn next(&mut self) -> Option<Saying> {
        for _ in 0..self.follows.len() {
            self.turn = (self.turn + 1) % self.follows.len();
            let follow = &mut self.follows[self.turn];
            if let Some(round) = follow.next() {
                return Some(Saying { round, next: 0, all_data: follow.is_all_data() });
            }
        }
        None
    }

    fn fly(&mut self, talk: &Talk, ack: Option<Acknowledged>) -> Option<Flight> {
        let Saying { round, all_data, .. } = self.saying.take()?;
        talk.hub.counts.told(Via::SocketIo).left_out(round.end.conflated);
        let progress = talk.track.progress();
        self.target_bytes = self.target_bytes.max(progress.written_bytes) + round.bytes;
        Some(Flight {
            ack,
            said: clock::now(),
            written_bytes: self.target_bytes,
            // One poll may be waiting already; the next but one is begun when what that brought was read.
            polls: progress.polls + 2,
            version: round.version,
            all_data,
            current: round.current,
        })
    }

    /// Resolves when a batch may have arrived.
    pub(super) async fn moved(&mut self, talk: &Talk, session: &Session) {
        let Some(first) = self.flights.front_mut() else { return std::future::pending().await };
        let patience = if self.silent > 0 { ASK_EVERY } else { ACK_PATIENCE.saturating_sub(first.said.elapsed()) };
        let patience = patience.max(ASK_EVERY);
        match &mut first.ack {
            Some(ack) => match tokio::time::timeout(patience, ack.as_mut()).await {
                // What it says with it does not matter.
                Ok(Ok(_) | Err(socketioxide::AckError::Decode(_))) => self.acknowledged(talk, session),
                Ok(Err(_)) => first.ack = None,
                Err(_) => {}
            },
            None => tokio::time::sleep(patience).await,
        }
    }

    fn acknowledged(&mut self, talk: &Talk, session: &Session) {
        self.silent = 0;
        let Some(flight) = self.flights.pop_front() else { return };
        if flight.all_data
            && let Some(follow) = self.follows.iter().find(|follow| follow.is_all_data())
        {
            // What is applied is known only of who acknowledges; nobody waits for the others.
            session.follows("data", FID, follow.pattern().clone());
            session.acked("data", applied(flight.version, flight.current));
            talk.hub.moved();
        }
    }

    /// Takes off what the transport shows to have arrived, where no acknowledgement says so.
    fn land(&mut self, talk: &Talk, session: &Session) {
        while let Some(first) = self.flights.front() {
            let waited = first.said.elapsed();
            if waited < ACK_PATIENCE && self.silent == 0 {
                return;
            }
            let progress = talk.track.progress();
            let arrived = match talk.socket.transport_type() {
                TransportType::Websocket => progress.written_bytes >= first.written_bytes,
                TransportType::Polling => progress.polls >= first.polls,
            };
            if !arrived {
                return;
            }
            if self.silent == 0 && first.all_data {
                session.follows_no_more("data", FID);
                talk.hub.moved();
            }
            self.silent = self.silent.saturating_add(1);
            self.flights.pop_front();
        }
    }
}

impl Saying {
    /// Says on; the acknowledgement to come once all is said, `None` for want of room.
    fn go_on(&mut self, talk: &Talk, asks: bool) -> Result<Option<Option<Acknowledged>>, IsGone> {
        while let Some(told) = self.round.events.get(self.next) {
            let tried = match told {
                Told::Reset(what) => talk.try_say("reset", what),
                Told::Value(value) => talk.try_say_in(value.packets(), "value", value),
                Told::Gone(what) => talk.try_say("gone", what),
                Told::Client(what) => talk.try_say("client", what),
            };
            match tried? {
                Tried::Said(()) => self.next += 1,
                Tried::NoRoom => return Ok(None),
            }
        }
        let (name, end) = (self.round.end_name, &self.round.end);
        if !asks {
            return Ok(match talk.try_say(name, end)? {
                Tried::Said(()) => Some(None),
                Tried::NoRoom => None,
            });
        }
        Ok(match talk.try_ask(name, end)? {
            Tried::Said(ack) => Some(Some(ack)),
            Tried::NoRoom => None,
        })
    }
}

fn applied(version: Version, complete: bool) -> Ack {
    let Version { epoch, run, seq } = version;
    Ack::of(FID, wire::message::Version { epoch, run, seq }, complete)
}
