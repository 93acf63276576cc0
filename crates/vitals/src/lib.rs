//! Samples the machine: CPU and memory, rates, the log of them.
//!
//! A [`Sampler`] reads raw counters into a [`Sample`]; two samples give [`Rates`]; one table, [`fields::FIELDS`], says what
//! is shown of them, in [`text`], [`csv`] and [`json`]. [`log::CappedLog`] is the log file of every command.
//!
//! It promises: a number that is not known is `None` and says why, never 0 or 100; a sample in steady state allocates
//! nothing; nothing here sleeps, prints, or asks the clock where time can be passed in.
//!
//! It never does: open a socket, start a thread, know a hub, or read more of procfs than four small files.

pub mod clock;
pub mod csv;
pub mod fields;
pub mod json;
pub mod log;
pub mod meminfo;
mod proc;
pub mod rates;
pub mod report;
pub mod sample;
pub mod sampler;
pub mod stat;
pub mod text;
pub mod ticker;

pub use crate::{
    clock::Instants,
    fields::{Format, Row},
    log::CappedLog,
    rates::{NoRate, Rates},
    report::Report,
    sample::Sample,
    sampler::{SampleError, Sampler},
    ticker::Ticker,
};
