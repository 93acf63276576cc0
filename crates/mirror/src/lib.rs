//! Reconciling one directory with another: plan, stage, switch; watch, settle.
//!
//! [`Engine::reconcile`] makes a destination directory what a [`Source`] says it should be. It promises that a name
//! never shows a torn file and never vanishes for a moment (unless nothing but its spelling changes, and the disk takes both
//! for one name), that nothing is deleted because something could not be read, and that nothing outside the destination is
//! touched, whoever swaps directories for links meanwhile.
//!
//! It never talks to a network and never prints: results go to a sink, problems into the [`Outcome`].

pub mod after;
pub mod backup;
pub mod choose;
mod delete;
pub mod diff;
pub mod dirty;
pub mod disk;
pub mod engine;
mod fold;
mod grain;
pub mod guard;
pub mod keep;
mod links;
pub mod live;
mod memory;
pub mod mirror;
mod pass;
pub mod plan;
pub mod policy;
pub mod problem;
pub mod settle;
pub mod source;
mod stage;
pub mod sweep;
mod switch;
pub mod watch;
mod writes;

pub use after::{After, Runner};
pub use backup::Backup;
pub use choose::Choice;
pub use diff::{Named, Side};
pub use dirty::Dirty;
pub use disk::DiskSource;
pub use engine::{Action, Counts, Engine, Event, Options, Outcome, Sink};
pub use guard::DeleteLimit;
pub use keep::{Keep, Unkept, What};
pub use live::{Pulse, Report, Standing, State, Stopper};
pub use mirror::{Mirror, MirrorError, MirrorOptions};
pub use policy::{Left, Policy};
pub use problem::Problem;
pub use source::{Look, Same, Source, Supply, Want, WantDir, WantFile, WantLink, WantNode};
pub use stage::Writing;
