//! Time since the machine started: `/proc/uptime`.

use std::path::Path;

use super::{Group, Step, read_optional, real};
use crate::{
    proc::KeptFile,
    schema::{Column, Kind, Metric, Missing, Unit, Value},
};

/// What the file says. In a container with lxcfs it is the container's.
#[derive(Debug)]
pub(crate) struct Uptime {
    file: KeptFile,
    seconds: Result<f64, Missing>,
}

impl Uptime {
    pub(crate) fn of(procfs: &Path) -> Self {
        Self { file: KeptFile::new(procfs.join("uptime")), seconds: Err(Missing::NotTold) }
    }
}

impl Group for Uptime {
    fn read(&mut self, step: &mut Step<'_>) -> bool {
        self.seconds =
            read_optional(&mut self.file, step.buffer).and_then(|content| parse(content).ok_or(Missing::Unreadable));
        false
    }

    fn columns(&self, out: &mut Vec<Column>) {
        out.push(Column {
            key: "uptime_seconds".into(),
            title: "up".into(),
            unit: Unit::Seconds,
            kind: Kind::Counter,
            metric: Metric::Uptime,
            source: "/proc/uptime",
            explanation: "time since the machine started, with time suspended",
            in_text: true,
        });
    }

    fn values(&self, out: &mut Vec<Value>) {
        out.push(real(self.seconds));
    }
}

fn parse(content: &[u8]) -> Option<f64> {
    let word = std::str::from_utf8(content).ok()?.split_ascii_whitespace().next()?;
    word.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_is_the_first_number() {
        assert_eq!(parse(b"37956.85 53086.16\n"), Some(37956.85));
        for bad in ["", "x", "-1 2", "inf 1", "NaN"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
