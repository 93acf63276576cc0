//! Boards: compacted logs of named values, their cursors, replicas and stores.
//!
//! A board holds the newest value of each name. A put gives its name the board's next **seq** and replaces the older
//! entry; a removal leaves a **tombstone**. There is no history and no queue for a client: two indexes, by name and by
//! seq, over the newest entries alone, answer snapshot, resume and live delivery.
//!
//! The parts, each in its own room:
//!
//! | part | what it is |
//! | --- | --- |
//! | [`Writer`] | the one that gives seqs: stores a commit first, then shows it |
//! | [`Board`] | the shared view for readers: everything up to the head, nothing above it |
//! | [`Follower`] | the hub's side of one following client, a state machine free of I/O |
//! | [`Replica`] | the client's side: what it holds, and the [`Cursor`] it comes back with |
//! | [`Store`] | where records stay: [`SqliteStore`] or, for what may be lost, [`MemoryStore`] |
//!
//! **Promises.** What a reader sees is stored. A client that applies every batch it gets holds exactly what its pattern
//! matches on the board each time [`Replica::is_current`] says so. A name never goes back in one history: an entry not
//! newer than what is held for its name is ignored, tombstones included. A cursor from a history that the board does not
//! share (another epoch, an unlisted run, beyond what was found of its run, below the horizon of purged tombstones) walks
//! from zero.
//!
//! **Never.** No socket, no task, no clock, no thread; no I/O but the store's, and none while a reader is locked out.

mod follower;
mod index;
mod mutant;
mod pattern;
mod replica;
mod store;
mod version;
mod writer;

#[cfg(test)]
mod model_tests;

pub use follower::{
    Batch, Follower, LIVE_WAY_ENTRIES_MAX, Limits, MARK_SEQS, Mark, Position, SHORT_WAY_ENTRIES_MAX, Start, Told,
    live_batch,
};
pub use index::{Board, Index, NAME_BYTES_MAX, Name, Record, Wake};
pub use pattern::{Pattern, PatternError};
pub use replica::{Change, Held, Replica, ReplicaError, Unsaved};
pub use store::memory::MemoryStore;
pub use store::sqlite::{Durability, FORMAT, SqliteStore};
pub use store::{Meta, Store, StoreError};
pub use version::{Cursor, Epoch, RUNS_MAX, Run, Version, WalkMark};
pub use writer::{BoardError, Committed, OpenOptions, Write, Writer, begin_anew};
