//! What reaches a share's keeper: letters at once, the hub's batches in order and only as many as fit.
//!
//! The keeper is a plain thread, its senders are tasks. A batch that does not fit makes the session wait, and so the
//! hub: nothing is ever dropped, and memory stays bounded.

use crate::conn::Outbox;
use crate::convert::Came;
use crate::holding::Arrived;
use board::Start;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tree::ContentId;
use wire::message::Number;

/// Batches that wait for the keeper, in bytes; one more may be on top.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Batches taken at once, in bytes; one more may be on top. Small enough that contents are asked for while more entries
/// come.
const TAKEN_BYTES_MAX: usize = 1024 * 1024;

/// What a keeper hears, apart from batches.
pub(crate) enum Letter {
    /// A session is there: follow through this outbox.
    Connected(Arc<Outbox>),
    /// The session is gone.
    Lost,
    /// A content came.
    Content(ContentId, Arrived),
    /// The hub has not got a content (any more).
    Gone(ContentId),
    /// A content cannot be had, and why.
    Unfit(ContentId, String),
    /// A save ended; what could not be written, and why.
    Saved(Option<(board::Unsaved, String)>),
    /// What was applied when a sync began survives a power cut.
    Synced(Result<(), String>),
    /// The hub does not let us follow.
    NotFollowing(String),
    /// A command was run: there is something new to acknowledge with.
    Ran,
    /// Save and end.
    Stop,
}

/// What the hub says of a follow, in order.
pub(crate) enum Said {
    /// It begins.
    Following {
        /// Which follow.
        fid: Number,
        /// Where.
        start: Start,
    },
    /// Entries.
    Batch(Came),
}

/// See the module.
#[derive(Default)]
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    wake: Condvar,
    room: Notify,
}

#[derive(Default)]
struct Inner {
    letters: VecDeque<Letter>,
    said: VecDeque<Said>,
    said_bytes: usize,
    watch: bool,
}

/// What was taken at once.
#[derive(Default)]
pub(crate) struct Mail {
    pub(crate) letters: VecDeque<Letter>,
    pub(crate) said: VecDeque<Said>,
}

impl Mailbox {
    pub(crate) fn new() -> Arc<Mailbox> {
        Arc::default()
    }

    pub(crate) fn push(&self, letter: Letter) {
        self.lock().letters.push_back(letter);
        self.wake.notify_one();
    }

    /// The watch of the destination has something.
    pub(crate) fn push_watch(&self) {
        self.lock().watch = true;
        self.wake.notify_one();
    }

    /// A new session: what an older one said and was not read yet is of no use.
    pub(crate) fn connect(&self, outbox: Arc<Outbox>) {
        let mut inner = self.lock();
        inner.said.clear();
        inner.said_bytes = 0;
        inner.letters.push_back(Letter::Connected(outbox));
        drop(inner);
        self.room.notify_one();
        self.wake.notify_one();
    }

    /// Waits until there is room.
    pub(crate) async fn hear(&self, said: Said) {
        loop {
            let room = self.room.notified();
            {
                let mut inner = self.lock();
                if inner.said_bytes <= BATCH_BYTES_MAX {
                    inner.said_bytes += bytes_of(&said);
                    inner.said.push_back(said);
                    break;
                }
            }
            room.await;
        }
        self.wake.notify_one();
    }

    /// Takes all there is; waits up to `patience` (for ever if `None`) if there is nothing. What the hub said is left
    /// where it is unless `all`.
    pub(crate) fn take(&self, all: bool, patience: Option<Duration>) -> Mail {
        let mut inner = self.lock();
        let nothing = |inner: &mut Inner| inner.letters.is_empty() && !inner.watch && (!all || inner.said.is_empty());
        if nothing(&mut inner) {
            inner = match patience {
                None => self.wake.wait_while(inner, nothing).unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    self.wake.wait_timeout_while(inner, patience, nothing).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        inner.watch = false;
        let mut mail = Mail { letters: std::mem::take(&mut inner.letters), said: VecDeque::new() };
        if all {
            let mut taken = 0;
            while taken <= TAKEN_BYTES_MAX
                && let Some(said) = inner.said.pop_front()
            {
                taken += bytes_of(&said);
                mail.said.push_back(said);
            }
            inner.said_bytes -= taken;
            drop(inner);
            self.room.notify_one();
        }
        mail
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes_of(said: &Said) -> usize {
    match said {
        Said::Following { .. } => 0,
        Said::Batch(came) => came.bytes,
    }
}
