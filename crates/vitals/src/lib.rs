//! Samples the machine: CPU and memory, rates, the log of them.
//!
//! A [`Sampler`] reads raw counters into a [`Sample`]; two samples give [`Rates`]; a [`Probe`] puts what was chosen of them into
//! the columns of a [`Frame`], whose [`Schema`] says what each means; [`text`], [`csv`] and [`json`] write it as a line.
//! [`Exporter`] writes the raw counters as node_exporter does.
//! [`log::CappedLog`] is the log file of every command, [`history`] keeps months of frames in little room,
//! [`plot`] draws either.
//!
//! It promises: a number that is not known is `None` and says why, never 0 or 100; a sample in steady state allocates
//! nothing; nothing here sleeps, prints, or asks the clock where time can be passed in.
//!
//! It never does: open a socket, start a thread, know a hub, or read more than was chosen.

pub mod clock;
pub mod csv;
pub mod exporter;
mod fields;
pub mod format;
mod group;
pub mod history;
pub mod json;
pub mod log;
pub mod meminfo;
pub mod plot;
pub mod probe;
mod proc;
pub mod process;
pub mod rates;
pub mod report;
pub mod sample;
pub mod sampler;
pub mod schema;
pub mod stat;
pub mod text;
pub mod ticker;

pub use crate::{
    clock::Instants,
    exporter::Exporter,
    format::Format,
    group::ScanCell,
    log::CappedLog,
    probe::Probe,
    rates::{NoRate, Rates},
    report::Report,
    sample::Sample,
    sampler::{SampleError, Sampler},
    schema::{Column, Frame, Metric, MetricSet, Schema, Value},
    ticker::Ticker,
};
