//! The engine against real directories: trees, containment, guards, readers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod away;
mod choosing;
mod contain;
mod folding;
mod grain;
mod guards;
mod live;
mod mounts;
mod neighbours;
mod props;
mod readers;
mod rights;
mod scene;
mod space;
mod threads;
