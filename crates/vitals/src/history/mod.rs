//! The history: months of samples at 1 Hz in a directory, in about a byte a number.
//!
//! A history is a directory of *segments*, numbered in the order they were begun. A segment `N.seg` is its schema, twice, and
//! then *blocks* of up to [`BLOCK_ROWS`] rows, each column compressed by itself, each block with a checksum. Rows that do
//! not fill a block yet are in `N.rows`, one record with its own checksum for each, and move into a block when there are enough.
//!
//! It promises:
//! - a row is in a file when [`Writer::append`] returns, so that a killed process loses none; a block is on disk before its rows
//!   leave `N.rows`. What the kernel had not written back when the power failed is lost, half a minute at most;
//! - damage costs the block or the row it lies in and nothing else: it is skipped and counted, and what cannot be read is never
//!   written over or cut away;
//! - all files together never take more than the cap, which is checked before a write. The oldest segment goes first, by its
//!   number: a clock that is wrong removes nothing;
//! - rows come back in the order they were taken, each with the wall clock and the clock since boot, so that it is seen where the
//!   wall clock was set;
//! - numbers come back bit by bit as they went in, but for percent, which are kept to a hundredth.
//!
//! It never does: read or write outside of its directory, follow a link there, or share it between two writers.

mod block;
mod dir;
mod error;
mod frame;
mod journal;
mod reader;
mod recorder;
mod scan;
mod schema;
mod step;
mod writer;

pub use self::{
    block::Block,
    error::HistoryError,
    reader::{History, Range, Rows, Skipped},
    recorder::Recorder,
    schema::{Column, Schema},
    step::{Step, Stepper},
    writer::{Appended, Options, Writer},
};

/// How many rows make a block: 17 minutes at 1 Hz. More compress better, and wait longer in `N.rows`, where a row takes eight
/// bytes a number.
pub const BLOCK_ROWS: usize = 1024;

/// The most a history takes unless told otherwise: a month at 1 Hz of a hundred series.
pub const BYTES_MAX_DEFAULT: u64 = 256 << 20;

/// The smallest cap. Below it a segment would hold little more than its schema.
pub const BYTES_MAX_MIN: u64 = 1 << 20;

/// The most columns a schema has.
pub const COLUMNS_MAX: usize = 4096;

#[cfg(test)]
mod tests;
