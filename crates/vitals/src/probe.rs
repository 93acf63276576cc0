//! Takes one frame after another: reads what was chosen, derives rates, fills the columns.

use std::{mem, path::Path, sync::Arc};

use crate::{
    clock::Instants,
    fields::{self, Field, Reading},
    group::{Cgroup, Cores, Disk, Group, Network, Own, Processes, Psi, ScanCell, Step, Uptime},
    proc::Buffer,
    rates::{NoRate, Rates, break_between},
    sample::Sample,
    sampler::{SampleError, Sampler},
    schema::{Column, Frame, Metric, MetricSet, Schema},
};

/// Measures a chosen set of metrics of one procfs, again and again in the same room.
#[derive(Debug)]
pub struct Probe {
    metrics: MetricSet,
    sampler: Sampler,
    scans: ScanCell,
    fields: Vec<(Metric, &'static Field<Reading>)>,
    groups: Vec<Box<dyn Group>>,
    buffer: Buffer,
    /// What the next sample is read into; between samples the one before the newest.
    spare: Sample,
    newest: Reading,
    /// There is a sample in `newest`.
    begun: bool,
    /// How long the newest sample took, if that is asked for.
    cost_ns: Option<u64>,
    frame: Frame,
}

impl Probe {
    /// A probe of the tree at `procfs`, `/proc` for the machine it runs on. Nothing is opened before the first frame.
    pub fn new(procfs: &Path, metrics: MetricSet) -> Self {
        let sample = Sample::default();
        let newest = Reading { rates: Rates::first(&sample), sample };
        let scans = ScanCell::default();
        let mut probe = Self {
            metrics,
            sampler: sampler(procfs, metrics),
            fields: fields::chosen(metrics).collect(),
            groups: groups(procfs, metrics, &scans),
            scans,
            buffer: Buffer::new(),
            spare: Sample::default(),
            newest,
            begun: false,
            cost_ns: None,
            frame: Frame::default(),
        };
        probe.frame.schema = Arc::new(Schema::new(probe.columns()));
        probe
    }

    /// What is measured.
    pub fn metrics(&self) -> MetricSet {
        self.metrics
    }

    /// The columns of the next frame, unless some are added by then.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.frame.schema
    }

    /// Where scans of the processes are put ([`crate::process::Scanner`]). A scan may take long, so it is made by others, at
    /// their own pace.
    pub fn scans(&self) -> ScanCell {
        self.scans.clone()
    }

    /// The next frame goes on from where this probe is, but reads another tree: captured trees are replayed so. Only CPU and
    /// memory have the tree before as their baseline.
    pub fn turn_to(&mut self, procfs: &Path) {
        self.sampler = sampler(procfs, self.metrics);
        self.groups = groups(procfs, self.metrics, &self.scans);
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
        let passed_ns = newer.taken.monotonic_ns.saturating_sub(older.taken.monotonic_ns);
        let mut step = Step {
            seconds: if self.begun { passed_ns as f64 / 1e9 } else { 0.0 },
            broken: if self.begun { break_between(older, newer) } else { Some(NoRate::FirstSample) },
            cost_ns: self.cost_ns,
            older,
            newer,
            buffer: &mut self.buffer,
        };
        let mut grew = false;
        for group in &mut self.groups {
            grew |= group.read(&mut step);
        }
        self.begun = true;
        if grew {
            self.frame.schema = Arc::new(Schema::new(self.columns()));
        }
        self.fill(taken);
        if self.metrics.has(Metric::Own) {
            self.cost_ns = Some(Instants::now().monotonic_ns.saturating_sub(taken.monotonic_ns));
        }
        Ok(&self.frame)
    }

    /// The newest frame; before the first one it has no values.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The raw counters behind the newest frame; before the first one, nothing.
    pub fn sample(&self) -> &Sample {
        &self.newest.sample
    }

    fn columns(&self) -> Vec<Column> {
        let mut columns = self.fields.iter().map(|(metric, field)| field.column(*metric)).collect();
        self.groups.iter().for_each(|group| group.columns(&mut columns));
        columns
    }

    fn fill(&mut self, taken: Instants) {
        self.frame.taken = taken;
        let values = &mut self.frame.values;
        values.clear();
        values.extend(self.fields.iter().map(|(_, field)| (field.value)(&self.newest)));
        self.groups.iter().for_each(|group| group.values(values));
        debug_assert_eq!(values.len(), self.frame.schema.columns().len(), "a value for each column");
    }
}

/// Load averages are read with each sample only if they were asked for by name.
fn sampler(procfs: &Path, metrics: MetricSet) -> Sampler {
    let mut sampler = Sampler::new(procfs);
    if !metrics.has(Metric::Load) {
        sampler.spare();
    }
    sampler
}

fn groups(procfs: &Path, metrics: MetricSet, scans: &ScanCell) -> Vec<Box<dyn Group>> {
    let mut groups: Vec<Box<dyn Group>> = Vec::new();
    for metric in Metric::CHOICES.into_iter().filter(|metric| metrics.has(*metric)) {
        match metric {
            Metric::Cores => groups.push(Box::new(Cores::default())),
            Metric::Psi => groups.push(Box::new(Psi::of(procfs))),
            Metric::Disk => groups.push(Box::new(Disk::of(procfs))),
            Metric::Network => groups.push(Box::new(Network::of(procfs))),
            Metric::Processes => groups.push(Box::new(Processes::of(scans.clone()))),
            Metric::Cgroup => groups.push(Box::new(Cgroup::of(procfs))),
            Metric::Uptime => groups.push(Box::new(Uptime::of(procfs))),
            Metric::Own => groups.push(Box::new(Own::new())),
            Metric::Clock | Metric::Cpu | Metric::Memory | Metric::Load => {}
        }
    }
    groups
}
