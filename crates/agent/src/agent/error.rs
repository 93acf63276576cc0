//! Why an agent ends.

use crate::dial::DialError;
use crate::disk::DiskError;
use crate::keeper::KeeperError;
use crate::kept::Kept;
use crate::key::KeyError;
use crate::state::StateError;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tree::premises::Conflict;
use wire::id::ClientId;
use wire::limits::KEPT_VALUES_MAX;
use wire::message::{Code, Refusal};

/// Why an agent ended.
#[derive(Debug, Error)]
pub enum Error {
    /// The data directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file of the agent's own.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The hub cannot be reached, or is not the right one.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The hub let us not in, or sent us away.
    #[error("the hub refuses: {}{}", .0.text, cure(.0.code))]
    Refused(Refusal),
    /// The key was issued to another machine.
    #[error(
        "the key in {} is that of client {id} and is not used: {why}. On a cloned machine: join with --id auto, which \
         gives it an id of its own. If the machine was moved or restored: 'lockstep clients reissue {id}' on the hub \
         prints a link to join with, together with --id {id}",
        path.display()
    )]
    CopiedKey {
        /// The key file.
        path: PathBuf,
        /// Whose it is.
        id: ClientId,
        /// How that was seen.
        why: &'static str,
    },
    /// The key is of another id or hub than asked for.
    #[error(
        "this machine already is client {id}{}; leave out --id, or give another agent its own place with --data DIR (its \
         key is in {})",
        if *other_hub { " of another hub" } else { "" },
        path.display()
    )]
    OtherKey {
        /// The key file.
        path: PathBuf,
        /// Whose it is.
        id: ClientId,
        /// Whether it is the hub that differs.
        other_hub: bool,
    },
    /// No id is known yet.
    #[error("which id is this machine to have? give it with --id N, or --id auto for the next free one")]
    NoId,
    /// No hub is known yet.
    #[error("which hub? give the join link that 'lockstep hub' prints, or its address")]
    NoHub,
    /// The hub has several shares, or none.
    #[error(
        "which share? {}",
        if offered.is_empty() { "this hub shares nothing".to_owned() } else { format!("name one with --share: {}", offered.join(", ")) }
    )]
    WhichShare {
        /// What there is.
        offered: Vec<String>,
    },
    /// The hub has no such share.
    #[error("the hub has no share {share}; it has: {}", if offered.is_empty() { "none".to_owned() } else { offered.join(", ") })]
    NoSuchShare {
        /// What was asked for.
        share: String,
        /// What there is.
        offered: Vec<String>,
    },
    /// These values cannot be kept.
    #[error("--values {pattern}: {why}")]
    Pattern {
        /// As it was typed.
        pattern: String,
        /// Why.
        why: &'static str,
    },
    /// More patterns of values than one client may keep.
    #[error(
        "values of at most {KEPT_VALUES_MAX} patterns are kept by one client; a shorter beginning with * behind it covers more"
    )]
    TooManyPatterns,
    /// One directory would lie in the other.
    #[error(
        "{inner} would be kept in {}, which lies in {}, where {outer} is kept: each would undo what the other does. Give \
         one of them another directory",
        inner_directory.display(),
        outer_directory.display()
    )]
    Nested {
        /// What would lie inside.
        inner: Kept,
        /// Where.
        inner_directory: PathBuf,
        /// What is around it.
        outer: Kept,
        /// Where.
        outer_directory: PathBuf,
    },
    /// It would be a copy within what the hub shares, or the agent's own directory, or around it.
    #[error(
        "{what} cannot be kept in {}, which {}: take a directory apart from it. Nothing was touched",
        directory.display(),
        lies(of.as_deref(), *conflict)
    )]
    Overlap {
        /// What would be kept.
        what: Kept,
        /// Where it would be kept.
        directory: PathBuf,
        /// The agent's own data directory, where it is that; `None` for what the hub shares.
        of: Option<PathBuf>,
        /// How that lies to it.
        conflict: Conflict,
    },
    /// A share, or values, cannot be kept.
    #[error("{what}: {source}")]
    NotKept {
        /// Which.
        what: Kept,
        /// Why.
        source: KeeperError,
    },
    /// A connection, where none is made again.
    #[error(transparent)]
    Connection(#[from] Broken),
}

impl Error {
    /// Whether no other try helps before somebody has done something: the hub does not let this client in, or not any more, or
    /// the key is that of another machine.
    pub fn is_for_good(&self) -> bool {
        match self {
            Error::Refused(refusal) => refusal.is_for_good(),
            Error::CopiedKey { .. } => true,
            _ => false,
        }
    }
}

/// How a directory lies to the data directory `of` the agent, or to what the hub shares.
fn lies(of: Option<&Path>, conflict: Conflict) -> String {
    let key = "the data directory of this agent with its key";
    match (of, conflict) {
        (None, Conflict::Within) => "is shared, or lies within it".to_owned(),
        (None, Conflict::Around) => "has it within it".to_owned(),
        (Some(data), Conflict::Within) => format!("is {}, {key}, or lies within it", data.display()),
        (Some(data), Conflict::Around) => format!("has {}, {key}, within it", data.display()),
    }
}

/// What to do, where the hub's own words do not say it.
fn cure(code: Code) -> &'static str {
    match code {
        Code::Revoked => {
            ". What is here stays as it is. If this machine is to come back, it is as a new one: 'lockstep leave' here, then \
             join with a link that 'lockstep invite' prints on the hub, and --adopt"
        }
        Code::TakenOver => {
            ". If that was not this machine, two of them use one id: 'lockstep clients reissue ID' on the hub gives it to the \
             one that you join with the link it prints"
        }
        _ => "",
    }
}

/// A connection that broke.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Broken(pub(super) String);
