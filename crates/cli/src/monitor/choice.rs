//! `--metrics`: what is measured, and the listing of what each number means.

use std::io::{self, Write};
use std::path::Path;

use vitals::{Column, Instants, Metric, MetricSet, Probe};

use crate::exit::{Exit, Failure};

/// What `--metrics` asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// These.
    Of(MetricSet),
    /// The listing.
    Help,
}

impl Choice {
    /// Reads `cpu,memory`, `all` or `help`.
    ///
    /// # Errors
    /// Names the word that is none, and those there are.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let words = || text.split(',').map(str::trim);
        if words().any(|word| word == "help") {
            return Ok(Self::Help);
        }
        if words().eq(["all"]) {
            return Ok(Self::Of(MetricSet::all()));
        }
        let metric = |word: &str| {
            let known = Metric::CHOICES.into_iter().find(|metric| metric.name() == word);
            known.ok_or_else(|| format!("“{word}” is no metric; there are {}, and all", names()))
        };
        words().map(metric).collect::<Result<MetricSet, String>>().map(Self::Of)
    }
}

fn names() -> String {
    Metric::CHOICES.map(Metric::name).join(", ")
}

/// What one choice brings on this machine.
pub(crate) struct Chosen {
    /// How it is chosen.
    pub(crate) by: String,
    pub(crate) columns: Vec<Column>,
}

/// All columns of this machine, by what chooses them.
///
/// # Errors
/// When this machine cannot be measured.
pub(crate) fn columns(procfs: &Path) -> Result<Vec<Chosen>, Failure> {
    let chosen = |metric: Metric| {
        // Each by itself: a column can be chosen by more than one.
        let mut probe = Probe::new(procfs, [metric].into_iter().collect());
        probe.take(Instants::now()).map_err(Failure::could_not_run)?;
        let by = match metric {
            Metric::Clock => "in every line".to_owned(),
            _ => format!("--metrics {}", metric.name()),
        };
        let columns = probe.schema().columns().iter().filter(|column| column.metric == metric).cloned().collect();
        Ok(Chosen { by, columns })
    };
    [Metric::Clock].into_iter().chain(Metric::CHOICES).map(chosen).collect()
}

/// Prints each column of this machine in one line: key, unit, kind, source, meaning.
///
/// # Errors
/// When this machine cannot be measured, or stdout not be written.
pub(super) fn explain(procfs: &Path) -> Result<Exit, Failure> {
    let mut stdout = io::stdout().lock();
    let mut say = |words: std::fmt::Arguments<'_>| writeln!(stdout, "{words}").map_err(Failure::output);
    for Chosen { by, columns } in columns(procfs)? {
        say(format_args!("{by}"))?;
        for Column { key, unit, kind, explanation, source, .. } in columns {
            let (unit, kind) = (unit.name(), kind.name());
            say(format_args!("  {key:<36} {unit:<8} {kind:<8} {explanation} [{source}]"))?;
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_words_with_commas_between() {
        let of = |metrics: &[Metric]| Ok(Choice::Of(metrics.iter().copied().collect()));
        assert_eq!(Choice::parse("cpu,memory"), of(&[Metric::Cpu, Metric::Memory]));
        assert_eq!(Choice::parse("psi, self"), of(&[Metric::Psi, Metric::Own]));
        assert_eq!(Choice::parse("all"), Ok(Choice::Of(MetricSet::all())));
        assert_eq!(Choice::parse("help"), Ok(Choice::Help));
        for wrong in ["", "cpu,", "CPU", "clock", "all,cpu", "cpu memory"] {
            assert!(Choice::parse(wrong).unwrap_err().contains("cpu, cores, memory"), "{wrong}");
        }
    }
}
