//! The columns of the processes that use most; what fills them is a scan, which is made elsewhere and less often.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Group, Step};
use crate::{
    process::{Process, TOP, Top},
    schema::{Column, Kind, Metric, Missing, Unit, Value},
};

/// The newest scan, handed from whoever scans to whoever samples.
#[derive(Debug, Clone, Default)]
pub struct ScanCell(Arc<Mutex<Option<Top>>>);

impl ScanCell {
    /// Puts a scan in the place of the one before.
    pub fn put(&self, top: Top) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(top);
    }

    /// Whoever scans never waits for long: only a copy is made under the lock.
    fn newest(&self) -> Option<Top> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The processes of the newest scan.
#[derive(Debug)]
pub(crate) struct Processes {
    cell: ScanCell,
    newest: Option<Top>,
}

impl Processes {
    pub(crate) fn of(cell: ScanCell) -> Self {
        Self { cell, newest: None }
    }

    /// The columns of the `rank`-th by CPU, then by memory.
    fn of_rank(rank: usize, out: &mut Vec<Column>) {
        let column = |key: String, title: String, (unit, kind): (Unit, Kind), explanation, in_text| Column {
            key: key.into(),
            title: title.into(),
            unit,
            kind,
            metric: Metric::Processes,
            source: "/proc/PID/stat, scanned every --process-interval",
            explanation,
            in_text: in_text && rank == 1,
        };
        let word = (Unit::Word, Kind::Label);
        let number = (Unit::Number, Kind::Label);
        for (by, what) in [("cpu", "uses most CPU"), ("mem", "uses most memory")] {
            let key = |what: &str| format!("top_{by}{rank}_{what}");
            let (name, amount) = match what {
                "uses most CPU" => ("name of the process that used most CPU between the last two scans", true),
                _ => ("name of the process that held most memory at the last scan", false),
            };
            let cpu = (Unit::Percent, Kind::Rate);
            out.push(column(key("name"), format!("top {by}"), word, name, true));
            out.push(column(key("pid"), "pid".into(), number, "its process id", false));
            if amount {
                out.push(column(
                    key("pct"),
                    "at".into(),
                    cpu,
                    "its CPU between the last two scans; 100 is one CPU",
                    true,
                ));
            } else {
                let gauge = (Unit::Bytes, Kind::Gauge);
                out.push(column(
                    key("rss_bytes"),
                    "at".into(),
                    gauge,
                    "memory it held resident at the last scan",
                    true,
                ));
            }
        }
    }
}

impl Group for Processes {
    fn read(&mut self, _: &mut Step<'_>) -> bool {
        self.newest = self.cell.newest();
        false
    }

    fn columns(&self, out: &mut Vec<Column>) {
        out.push(Column {
            key: "processes".into(),
            title: "processes".into(),
            unit: Unit::Number,
            kind: Kind::Gauge,
            metric: Metric::Processes,
            source: "/proc, scanned every --process-interval",
            explanation: "how many processes there were at the last scan, those of the kernel included",
            in_text: true,
        });
        (1..=TOP).for_each(|rank| Self::of_rank(rank, out));
    }

    fn values(&self, out: &mut Vec<Value>) {
        let Some(top) = &self.newest else {
            out.extend(std::iter::repeat_n(Value::Missing(Missing::NotYet), 1 + TOP * 6));
            return;
        };
        out.push(Value::Whole(top.count));
        let none = if top.baseline { Missing::NoSuch } else { Missing::NotYet };
        for rank in 0..TOP {
            let by_cpu = top.by_cpu[rank].ok_or(none);
            let by_memory = top.by_memory[rank].ok_or(Missing::NoSuch);
            named(by_cpu, out);
            out.push(by_cpu.map_or_else(Value::Missing, |process| Value::Real(process.cpu_pct.unwrap_or(0.0))));
            named(by_memory, out);
            out.push(by_memory.map_or_else(Value::Missing, |process| Value::Whole(process.rss_bytes)));
        }
    }
}

fn named(process: Result<Process, Missing>, out: &mut Vec<Value>) {
    out.push(process.map_or_else(Value::Missing, |process| Value::Name(process.name)));
    out.push(process.map_or_else(Value::Missing, |process| Value::Whole(u64::from(process.pid))));
}
