//! What can be measured beside CPU and memory, each in a file of its own. A group reads its files at each sample, keeps what
//! it needs as a baseline, and adds its columns and values to the frame.

use std::fmt;

use crate::{
    proc::{Buffer, KeptFile},
    rates::NoRate,
    sample::Sample,
    sampler::SampleError,
    schema::{Column, Missing, Value},
};

mod cgroup;
mod cores;
mod devices;
mod disk;
mod mounts;
mod network;
mod own;
mod processes;
mod psi;
mod uptime;

pub use self::processes::ScanCell;
pub(crate) use self::{
    cgroup::Cgroup, cores::Cores, disk::Disk, network::Network, own::Own, processes::Processes, psi::Psi,
    uptime::Uptime,
};
pub(crate) use self::{own::rss_bytes, psi::total_us as pressure_total_us};

/// The step from the sample before to this one.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    /// Time since the sample before, without time suspended. 0 without one.
    pub(crate) seconds: f64,
    /// Why no rate can be given of anything.
    pub(crate) broken: Option<NoRate>,
    /// How long the sample before took; `None` at the first.
    pub(crate) cost_ns: Option<u64>,
    pub(crate) older: &'a Sample,
    pub(crate) newer: &'a Sample,
    pub(crate) buffer: &'a mut Buffer,
}

impl Step<'_> {
    /// How fast a counter grew, a second.
    pub(crate) fn rate(&self, older: Option<u64>, newer: u64) -> Result<f64, Missing> {
        if let Some(why) = self.broken {
            return Err(why.into());
        }
        let older = older.ok_or(Missing::NoRate(NoRate::Appeared))?;
        let grown = newer.checked_sub(older).ok_or(Missing::NoRate(NoRate::CounterFell))?;
        if self.seconds <= 0.0 {
            return Err(NoRate::NoTimePassed.into());
        }
        Ok(grown as f64 / self.seconds)
    }
}

/// One group of columns.
pub(crate) trait Group: fmt::Debug + Send {
    /// Reads what is to be read. True: there are columns that were not there before; they are added at the end of the group.
    fn read(&mut self, step: &mut Step<'_>) -> bool;

    /// Appends the columns.
    fn columns(&self, out: &mut Vec<Column>);

    /// Appends a value for each of the columns, of the newest reading.
    fn values(&self, out: &mut Vec<Value>);
}

/// Reads a file that may be missing in this kernel or this container.
pub(crate) fn read_optional<'b>(file: &mut KeptFile, buffer: &'b mut Buffer) -> Result<&'b [u8], Missing> {
    file.read(buffer).map_err(|error| match error {
        SampleError::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Missing::NotTold,
        // CONFIG_PSI_DEFAULT_DISABLED: the file is there, and says so when it is opened or read.
        SampleError::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::Unsupported => Missing::NotTold,
        _ => Missing::Unreadable,
    })
}

/// A value, or why there is none.
pub(crate) fn real(value: Result<f64, Missing>) -> Value {
    value.map_or_else(Value::Missing, Value::Real)
}

/// A value, or why there is none.
pub(crate) fn whole(value: Result<u64, Missing>) -> Value {
    value.map_or_else(Value::Missing, Value::Whole)
}
