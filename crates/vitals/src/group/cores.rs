//! Each CPU by its own number.

use super::{Group, Step};
use crate::{
    rates::Rates,
    schema::{Column, Kind, Metric, Missing, Unit, Value},
};

/// The most CPUs that get a column of their own, by which a line stays below the longest one of a log.
pub(crate) const CORES_MAX: usize = 1024;

/// Busy share of each CPU that was ever seen online; an offline one is missing, not 0.
#[derive(Debug, Default)]
pub(crate) struct Cores {
    /// In the order they were first seen, with what is told of each.
    cores: Vec<(u32, Value)>,
}

impl Group for Cores {
    fn read(&mut self, step: &mut Step<'_>) -> bool {
        let before = self.cores.len();
        self.cores.iter_mut().for_each(|(_, value)| *value = Value::Missing(Missing::Absent));
        for (at, (id, rates)) in Rates::per_cpu(step.older, step.newer).enumerate() {
            let why = step.broken;
            let value = match (why, rates) {
                (Some(why), _) | (None, Err(why)) => Value::Missing(why.into()),
                (None, Ok(rates)) => Value::Real(rates.busy_pct),
            };
            let known = if self.cores.get(at).is_some_and(|(known, _)| *known == id) {
                Some(at)
            } else {
                self.cores.iter().position(|(known, _)| *known == id)
            };
            match known {
                Some(at) => self.cores[at].1 = value,
                None if self.cores.len() < CORES_MAX => self.cores.push((id, value)),
                None => {}
            }
        }
        self.cores.len() > before
    }

    fn columns(&self, out: &mut Vec<Column>) {
        out.extend(self.cores.iter().map(|(id, _)| Column {
            key: format!("cpu{id}_busy_pct").into(),
            title: format!("cpu{id}").into(),
            unit: Unit::Percent,
            kind: Kind::Rate,
            metric: Metric::Cores,
            source: "/proc/stat, line `cpuN`",
            explanation: "all time of this CPU in the interval but idle and iowait; missing while it is offline",
            in_text: true,
        }));
    }

    fn values(&self, out: &mut Vec<Value>) {
        out.extend(self.cores.iter().map(|(_, value)| *value));
    }
}
