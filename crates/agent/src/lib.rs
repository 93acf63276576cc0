//! The agent: joins a hub over the native transport, keeps directories identical and values as files, reports vitals, and
//! offers a local socket through which commands on its machine reach the hub.
//!
//! [`run`] is the whole agent; [`client::Client`] is for one command.
//!
//! | part | what it is |
//! | --- | --- |
//! | [`dial`], [`key`], [`state`] | reaching a hub with its key pinned; who this agent is; what it remembers |
//! | `login`, `session`, `conn` | one control connection: frames, the login, what is said in it |
//! | `kept`, `keeper`, `holding`, `placed` | one share, or some values: the loop, what should be and what is, what was read back |
//! | `awaiting` | contents on their way, and who waits for them |
//! | `mailbox`, `chores` | what reaches a keeper; what waits for the disk in its stead |
//! | `fetch`, `assemble` | contents that did not come along; large ones from chunks |
//! | `ran` | what became of commands that are run after a change, for the hub to know |
//! | [`leave()`] | the end of it all, but for the files |
//! | [`control`](state::socket_path), [`client`] | the local socket; the other end of it |
//! | [`program`] | asking a hub over HTTP, with a token, on a machine that is no client |
//!
//! **Promises.** A name in a copy never shows a torn file and never vanishes for a moment. Nothing is deleted before the
//! hub said that its list is complete, nor in a directory that is not the share's copy. What is here already, anywhere
//! in the copy, is not transferred again. A hub that is gone, slow or hostile costs no files outside the copy, and what waits
//! for it is bounded; only the list of entries is as long as the hub makes it, and the values that are kept as files, which
//! stand in memory and in the store as well (256 KiB each, and 256 MiB in all by the hub's own limits).
//!
//! **Never.** It prints nothing, ends no process, and believes nothing a peer says about paths, sizes or contents.

mod agent;
mod assemble;
mod awaiting;
mod chores;
pub mod client;
mod conn;
mod control;
mod convert;
pub mod dial;
pub mod disk;
pub mod event;
mod fetch;
mod holding;
mod keeper;
mod kept;
pub mod key;
mod leave;
mod login;
mod mailbox;
mod placed;
pub mod program;
mod ran;
mod session;
pub mod state;

pub use agent::{Broken, Config, Error, Id, Life, Summary, run};
pub use dial::{Decision, Trust};
pub use event::Event;
pub use keeper::{KeeperError, NotEmpty};
pub use kept::Kept;
pub use leave::{LeaveError, Left, leave};
pub use ran::LastRuns;

#[cfg(test)]
mod testing;
