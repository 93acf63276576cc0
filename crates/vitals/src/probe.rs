//! Takes one frame after another: reads what was chosen, derives rates, fills the columns.

use std::{mem, path::Path, sync::Arc};

use crate::{
    clock::Instants,
    fields::{self, Reading},
    rates::Rates,
    sample::Sample,
    sampler::{SampleError, Sampler},
    schema::{Column, Frame, MetricSet, Schema},
};

/// Measures a chosen set of metrics of one procfs, again and again in the same room.
#[derive(Debug)]
pub struct Probe {
    metrics: MetricSet,
    sampler: Sampler,
    /// What the next sample is read into; between samples the one before the newest.
    spare: Sample,
    newest: Reading,
    /// There is a sample in `newest`.
    begun: bool,
    frame: Frame,
}

impl Probe {
    /// A probe of the tree at `procfs`, `/proc` for the machine it runs on. Nothing is opened before the first frame.
    pub fn new(procfs: &Path, metrics: MetricSet) -> Self {
        let sample = Sample::default();
        let newest = Reading { rates: Rates::first(&sample), sample };
        let mut probe = Self {
            metrics,
            sampler: Sampler::new(procfs),
            spare: Sample::default(),
            newest,
            begun: false,
            frame: Frame::default(),
        };
        probe.frame.schema = Arc::new(Schema::new(probe.columns()));
        probe
    }

    /// The columns of the next frame, unless some are added by then.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.frame.schema
    }

    /// The next frame goes on from where this probe is, but reads another tree: captured trees are replayed so.
    pub fn turn_to(&mut self, procfs: &Path) {
        self.sampler = Sampler::new(procfs);
    }

    /// Takes a frame, stamped `taken`. Its schema is the same `Arc` as before, unless columns were added.
    ///
    /// # Errors
    /// When `stat` or `meminfo` cannot be read or is not what it should be. The next call tries again, with the newest good
    /// frame as its baseline.
    pub fn take(&mut self, taken: Instants) -> Result<&Frame, SampleError> {
        self.sampler.sample_into(&mut self.spare, taken)?;
        mem::swap(&mut self.spare, &mut self.newest.sample);
        let (older, newer) = (&self.spare, &self.newest.sample);
        self.newest.rates = if self.begun { Rates::between(older, newer) } else { Rates::first(newer) };
        self.begun = true;
        self.frame.taken = taken;
        self.fill();
        Ok(&self.frame)
    }

    fn columns(&self) -> Vec<Column> {
        fields::chosen(self.metrics).map(|(metric, field)| field.column(metric)).collect()
    }

    fn fill(&mut self) {
        let values = &mut self.frame.values;
        values.clear();
        values.extend(fields::chosen(self.metrics).map(|(_, field)| (field.value)(&self.newest)));
        debug_assert_eq!(values.len(), self.frame.schema.columns().len(), "a value for each column");
    }
}
