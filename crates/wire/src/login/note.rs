//! What happened in a login, in words for the log.

use super::InviteFault;
use crate::id::ClientId;
use crate::roster::Ground;

/// What happened, for the log; no secret in it, and nothing that was not said aloud already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// A unique ID was issued.
    #[error("id {id} was issued its unique ID ({ground:?}), not confirmed yet")]
    Issued {
        /// Whose.
        id: ClientId,
        /// Why.
        ground: Ground,
    },
    /// In by confirming what was issued.
    #[error("id {id} confirmed its unique ID")]
    Confirmed {
        /// Whose.
        id: ClientId,
    },
    /// In by proving the id.
    #[error("id {id} proved itself")]
    Proved {
        /// Whose.
        id: ClientId,
    },
    /// A well-formed unique ID was not right, or nothing is lost.
    #[error("id {id} was not proven: {why}")]
    NotProven {
        /// Whose.
        id: ClientId,
        /// The reason, which the client is not told.
        why: &'static str,
    },
    /// Not an ID, or mistyped.
    #[error("a bad answer: {0}")]
    BadAnswer(String),
    /// An enrolment that is not allowed.
    #[error("not let in: {0}")]
    NotEnrolled(&'static str),
    /// An invite that does not let in any more, or not under this id.
    #[error("not let in: its invite {fault}")]
    BadInvite {
        /// Under which id it was to be; `None`: under any.
        id: Option<ClientId>,
        /// What is wrong with it.
        fault: InviteFault,
        /// When it was made, in milliseconds since the Unix epoch: by that people know it.
        made_at_ms: i64,
    },
    /// No common version.
    #[error("the client speaks protocol {low} to {high}")]
    Version {
        /// Its lowest.
        low: u16,
        /// Its highest.
        high: u16,
    },
    /// A message at the wrong time.
    #[error("a message that does not belong here")]
    OutOfOrder,
    /// Too slow.
    #[error("no login in time")]
    TimedOut,
    /// The hub's own trouble.
    #[error("{0}")]
    HubFailed(String),
}
