//! Reconciling one directory with another: plan, stage, switch; watch, settle.

pub mod dirty;
pub mod settle;
pub mod watch;
