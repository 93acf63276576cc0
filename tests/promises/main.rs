//! Every promise of the requirement table, end to end, against the built program.

mod command_line;
mod docs;
mod fresh_clone;
mod mirror;
mod monitor;
