//! The agent: joins a hub, keeps directories identical, reports vitals.

pub mod dial;
pub mod disk;
pub mod key;
pub mod state;
mod conn;
