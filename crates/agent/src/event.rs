//! What an agent tells whoever runs it: for the log, and for people.

use crate::kept::Kept;
use std::time::Duration;
use tree::RelPath;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A hub answers and has the right key.
    Connected {
        /// Where.
        address: String,
    },
    /// The hub let this agent in.
    LoggedIn {
        /// As whom.
        id: u64,
        /// Whether the unique ID is new, and was just saved.
        issued: bool,
        /// What people call the hub.
        hub: String,
    },
    /// What is kept is on its way; told a few times a second at most.
    Progress {
        /// Of what.
        of: Kept,
        /// Entries known so far.
        entries: u64,
        /// Contents that are still to come.
        waiting: u64,
        /// Bytes of contents received since the agent started.
        content_bytes: u64,
    },
    /// An entry was put in place, changed or deleted.
    Applied {
        /// Of what.
        of: Kept,
        /// Which entry.
        path: RelPath,
        /// What was done.
        action: mirror::Action,
        /// Bytes of content written.
        bytes: u64,
    },
    /// A local change was undone: what stood as it should and did not any more, or what should not have stood there.
    Reverted {
        /// Of what.
        of: Kept,
        /// Which entry.
        path: RelPath,
    },
    /// Something could not be done; it is tried again.
    Problem {
        /// Of what.
        of: Kept,
        /// Which entry; the root for what concerns all of it.
        path: RelPath,
        /// Why, and what to do.
        text: String,
    },
    /// What is here is what the hub has, as of now.
    InSync {
        /// Of what.
        of: Kept,
        /// Entries, or values, in it.
        entries: u64,
        /// Bytes of contents received since the agent started.
        content_bytes: u64,
    },
    /// All that was told as applied or undone since the last time is in place, and nothing is known to differ from what the
    /// hub has.
    Settled {
        /// Of what.
        of: Kept,
    },
    /// The hub is not there; it is tried again.
    Disconnected {
        /// Why.
        why: String,
        /// When it is tried again.
        retry_in: Duration,
    },
}

/// Where events go; called from several threads.
pub type Events = std::sync::Arc<dyn Fn(Event) + Send + Sync>;
