//! What an agent tells its hub about its machine: the few numbers a list of machines has room for.

use serde::{Deserialize, Serialize};

use crate::{rates::Rates, sample::Sample};

/// The newest figures of one machine. `None`: not known, never 0. Fields a newer agent adds are passed over by an older hub.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// When the sample was taken, by the machine's own wall clock, in milliseconds since the Unix epoch.
    pub sampled_at_ms: i64,
    /// Busy share of all CPUs over the last interval, 0 to 100.
    pub cpu_busy_pct: Option<f64>,
    /// How many CPUs are online.
    pub cpus_online: Option<u32>,
    /// What the kernel can use.
    pub mem_total_bytes: u64,
    /// Total less available.
    pub mem_used_bytes: Option<u64>,
    /// What new work could have without swapping.
    pub mem_available_bytes: Option<u64>,
    /// Size of swap.
    pub swap_total_bytes: Option<u64>,
    /// Swap in use.
    pub swap_used_bytes: Option<u64>,
    /// Load average over one minute.
    pub load_1m: Option<f64>,
}

impl Report {
    /// Takes the figures out of a sample and what was derived from it.
    pub fn new(sample: &Sample, rates: &Rates) -> Self {
        Self {
            sampled_at_ms: sample.taken.wall_ns / 1_000_000,
            cpu_busy_pct: rates.cpu.ok().map(|cpu| cpu.busy_pct),
            cpus_online: u32::try_from(sample.cpus.len()).ok().filter(|count| *count > 0),
            mem_total_bytes: rates.memory.total_bytes,
            mem_used_bytes: rates.memory.used_bytes,
            mem_available_bytes: rates.memory.available_bytes,
            swap_total_bytes: rates.memory.swap_total_bytes,
            swap_used_bytes: rates.memory.swap_used_bytes,
            load_1m: sample.load.map(|load| load.one_minute),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::tests::{bare_reading, full_reading};

    #[test]
    fn a_report_survives_its_way_and_unknown_stays_unknown() {
        for reading in [full_reading(), bare_reading()] {
            let report = Report::new(&reading.sample, &reading.rates);
            let json = serde_json::to_string(&report).unwrap();
            assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report, "{json}");
        }
        let reading = bare_reading();
        let report = Report::new(&reading.sample, &reading.rates);
        assert_eq!((report.cpu_busy_pct, report.cpus_online, report.mem_used_bytes), (None, None, None));
    }

    #[test]
    fn fields_of_a_newer_agent_are_passed_over() {
        let report: Report = serde_json::from_str(r#"{"sampled_at_ms":5,"mem_total_bytes":7,"new":[1]}"#).unwrap();
        assert_eq!((report.sampled_at_ms, report.mem_total_bytes, report.load_1m), (5, 7, None));
    }
}
