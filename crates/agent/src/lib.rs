//! The agent: joins a hub, keeps directories identical, reports vitals.

mod assemble;
mod chores;
mod conn;
mod convert;
pub mod dial;
pub mod disk;
pub mod event;
mod fetch;
mod holding;
pub mod key;
mod keeper;
mod mailbox;
mod placed;
pub mod state;
