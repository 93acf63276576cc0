//! What an agent tells whoever runs it: for the log, and for people.

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
    /// A share is on its way; told a few times a second at most.
    Progress {
        /// The share.
        share: String,
        /// Entries known so far.
        entries: u64,
        /// Contents that are still to come.
        waiting: u64,
        /// Bytes of contents received since the agent started.
        content_bytes: u64,
    },
    /// An entry was put in place, changed or deleted.
    Applied {
        /// The share.
        share: String,
        /// Which entry.
        path: RelPath,
        /// What was done.
        action: mirror::Action,
        /// Bytes of content written.
        bytes: u64,
    },
    /// A local change was undone.
    Reverted {
        /// The share.
        share: String,
        /// Which entry.
        path: RelPath,
    },
    /// Something could not be done; it is tried again.
    Problem {
        /// The share.
        share: String,
        /// Which entry; the root for what concerns the whole share.
        path: RelPath,
        /// Why, and what to do.
        text: String,
    },
    /// The copy is the share, as of now.
    InSync {
        /// The share.
        share: String,
        /// Entries in it.
        entries: u64,
        /// Bytes of contents received since the agent started.
        content_bytes: u64,
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
