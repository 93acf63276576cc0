//! What a client sent and was not looked at yet: in its order, and bounded.
//!
//! The engine calls a handler for each packet in the order they came, and never waits for it. So the handler does nothing but put
//! the event in here; and when much has gathered, the connection is not read from until it has been worked off.

use super::event::Event;
use super::track::Track;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// From here on the connection is held. What the engine has read already still comes.
const HELD_EVENTS: usize = 256;
const HELD_BYTES: usize = 1 << 20;
/// From here on it is read again.
const RELEASED_EVENTS: usize = 32;
const RELEASED_BYTES: usize = 128 << 10;
/// Beyond this the session is cut. Only by polling, where requests run side by side, can a client come here.
const EVENTS_MAX: usize = 16 * 1024;
const BYTES_MAX: usize = 8 << 20;
/// Before the login: enough for every answer that it asks for.
const EVENTS_MAX_BEFORE_LOGIN: usize = 64;
const BYTES_MAX_BEFORE_LOGIN: usize = 64 << 10;

/// What comes in.
pub(super) enum Incoming {
    Event(Event),
    /// The client is gone, and why.
    Left(String),
}

/// One session's.
pub(super) struct Inbox {
    track: Arc<Track>,
    state: Mutex<State>,
    bell: Notify,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    bytes: usize,
    held: bool,
    logged_in: bool,
    left: Option<String>,
    closed: bool,
}

impl Inbox {
    pub(super) fn new(track: Arc<Track>) -> Arc<Inbox> {
        Arc::new(Inbox { track, state: Mutex::default(), bell: Notify::new() })
    }

    /// Takes an event. Never waits.
    pub(super) fn push(&self, event: Event) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.bytes += event.bytes;
        state.events.push_back(event);
        let (events, bytes) = (state.events.len(), state.bytes);
        let (events_max, bytes_max) = match state.logged_in {
            true => (EVENTS_MAX, BYTES_MAX),
            false => (EVENTS_MAX_BEFORE_LOGIN, BYTES_MAX_BEFORE_LOGIN),
        };
        if events > events_max || bytes > bytes_max {
            state.left = Some("cut: it sent more than it may before it was answered".to_owned());
            state.close();
            self.track.cut();
        } else if !state.held && (events > HELD_EVENTS || bytes > HELD_BYTES) {
            state.held = true;
            self.track.hold(true);
        }
        drop(state);
        self.bell.notify_one();
    }

    /// The client is gone.
    pub(super) fn left(&self, why: String) {
        let mut state = self.state();
        state.left.get_or_insert(why);
        drop(state);
        self.bell.notify_one();
    }

    /// The next, if there is any. Who has left has nothing more to say.
    pub(super) fn pop(&self) -> Option<Incoming> {
        let mut state = self.state();
        if let Some(why) = &state.left {
            return Some(Incoming::Left(why.clone()));
        }
        let event = state.events.pop_front()?;
        state.bytes -= event.bytes;
        if state.held && state.events.len() <= RELEASED_EVENTS && state.bytes <= RELEASED_BYTES {
            state.held = false;
            self.track.hold(false);
        }
        Some(Incoming::Event(event))
    }

    /// Resolves when there is something.
    pub(super) async fn next(&self) -> Incoming {
        loop {
            if let Some(incoming) = self.pop() {
                return incoming;
            }
            self.bell.notified().await;
        }
    }

    /// Somebody who logged in may send more at a time.
    pub(super) fn logged_in(&self) {
        self.state().logged_in = true;
    }

    /// Nothing more is looked at.
    pub(super) fn close(&self) {
        self.state().close();
        self.track.hold(false);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close(&mut self) {
        self.closed = true;
        // Events hold the socket, by which to acknowledge them, and the socket's handlers hold this inbox.
        self.events.clear();
        self.bytes = 0;
    }
}
