//! The common harness: contenders run interleaved in one run, and what they took becomes medians, spread and ratios.
//!
//! Figures of two runs are never compared: the machine may have been busy with something else in one of them. Within a
//! run every round lets each contender go once, in an order that moves on by one each round, and a ratio is the median
//! of the rounds' own ratios. A contender checks its result itself and fails the whole run when it is wrong.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// One who takes part: a name, and what it does in round `n`, which gives a figure in the group's unit.
pub(crate) struct Contender<'a> {
    pub(crate) name: String,
    pub(crate) run: Box<dyn FnMut(usize) -> Result<f64> + 'a>,
}

/// The figures of one contender, in the order of the rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) figures: Vec<f64>,
}

/// Contenders that can be compared: same work, same unit.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) unit: &'static str,
    /// The first is what the others are measured by.
    pub(crate) series: Vec<Series>,
}

/// What a program found out.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) bench: &'static str,
    /// What is compared with what, in a sentence.
    pub(crate) compares: String,
    pub(crate) groups: Vec<Group>,
    /// What was not run and why, and figures that are counted and not timed.
    pub(crate) notes: Vec<String>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut(usize) -> Result<f64> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// Runs all contenders `rounds` times, interleaved.
///
/// # Errors
/// The first that a contender gives, with its name.
pub(crate) fn interleave(rounds: usize, mut contenders: Vec<Contender<'_>>) -> Result<Vec<Series>> {
    let empty = |contender: &Contender<'_>| Series { name: contender.name.clone(), figures: Vec::new() };
    let mut series: Vec<Series> = contenders.iter().map(empty).collect();
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let index = (turn + round) % contenders.len();
            let contender = &mut contenders[index];
            let figure = (contender.run)(round).with_context(|| format!("{}, round {round}", contender.name))?;
            series[index].figures.push(figure);
        }
    }
    Ok(series)
}

impl Series {
    /// The figure that the share `p` (0 to 1) of all does not exceed; by the nearest rank, so it is one that occurred.
    pub(crate) fn percentile(&self, p: f64) -> f64 {
        let mut sorted = self.figures.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, reason = "a rank below the number of figures")]
        let rank = (p * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1).min(last)).copied().unwrap_or(f64::NAN)
    }

    /// Half of the figures are not above it; between the two middle ones where their number is even.
    pub(crate) fn median(&self) -> f64 {
        median(self.figures.clone())
    }

    /// The median distance from the median: the spread, which a few outliers do not move.
    pub(crate) fn spread(&self) -> f64 {
        let middle = self.median();
        median(self.figures.iter().map(|figure| (figure - middle).abs()).collect())
    }

    /// The median of the rounds' own ratios to `base`.
    pub(crate) fn ratio_to(&self, base: &Series) -> f64 {
        median(self.figures.iter().zip(&base.figures).map(|(mine, other)| mine / other).collect())
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => figures[n / 2],
        n => f64::midpoint(figures[n / 2 - 1], figures[n / 2]),
    }
}

impl Report {
    /// For people: one table a group.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("{}: {}\n", self.bench, self.compares);
        for group in &self.groups {
            let width = group.series.iter().map(|series| series.name.len()).max().unwrap_or(0);
            out.push_str(&format!("\n  {} ({})\n", group.title, group.unit));
            let head = ["n", "median", "±MAD", "p95", "p99", "ratio"];
            out.push_str(&format!("  {:width$}", ""));
            head.iter().for_each(|word| write!(out, " {word:>9}").unwrap_or_default());
            out.push('\n');
            for series in &group.series {
                write!(out, "  {:width$} {:>9}", series.name, series.figures.len()).unwrap_or_default();
                let figures = [series.median(), series.spread(), series.percentile(0.95), series.percentile(0.99)];
                figures.iter().for_each(|figure| write!(out, " {:>9}", short(*figure)).unwrap_or_default());
                let ratio = group.series.first().map_or(f64::NAN, |base| series.ratio_to(base));
                writeln!(out, " {:>8}×", short(ratio)).unwrap_or_default();
            }
        }
        if !self.notes.is_empty() {
            out.push('\n');
        }
        self.notes.iter().for_each(|note| writeln!(out, "  {note}").unwrap_or_default());
        out
    }

    /// For programs; `machine` is where it ran and how busy that was.
    pub(crate) fn json(&self, machine: Value) -> Value {
        let group = |group: &Group| {
            let base = group.series.first();
            let series = |series: &Series| {
                json!({
                    "name": series.name,
                    "n": series.figures.len(),
                    "median": series.median(),
                    "mad": series.spread(),
                    "p25": series.percentile(0.25),
                    "p75": series.percentile(0.75),
                    "p95": series.percentile(0.95),
                    "p99": series.percentile(0.99),
                    "ratio_to_first": base.map(|base| series.ratio_to(base)),
                    "figures": series.figures,
                })
            };
            let all: Vec<Value> = group.series.iter().map(series).collect();
            json!({ "title": group.title, "unit": group.unit, "series": all })
        };
        json!({
            "bench": self.bench,
            "compares": self.compares,
            "machine": machine,
            "groups": self.groups.iter().map(group).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

/// Three digits that mean something.
fn short(figure: f64) -> String {
    match figure.abs() {
        _ if !figure.is_finite() => "-".into(),
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 1.0 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(figures: &[f64]) -> Series {
        Series { name: String::new(), figures: figures.to_vec() }
    }

    #[test]
    fn percentiles_are_figures_that_occurred() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        let hundred = series(&hundred);
        assert_eq!([0.5, 0.95, 0.99, 1.0].map(|p| hundred.percentile(p)), [50.0, 95.0, 99.0, 100.0]);
        assert_eq!(series(&[7.0]).percentile(0.99), 7.0);
        assert!(series(&[]).percentile(0.5).is_nan());
    }

    #[test]
    fn medians_and_spread_ignore_one_outlier() {
        let odd = series(&[1.0, 2.0, 3.0, 4.0, 1000.0]);
        assert_eq!((odd.median(), odd.spread()), (3.0, 1.0));
        assert_eq!(series(&[4.0, 2.0]).median(), 3.0);
    }

    #[test]
    fn every_contender_goes_once_a_round_and_the_first_is_not_always_the_same() {
        let order = std::cell::RefCell::new(String::new());
        let contender = |name: &str| {
            let (order, name) = (&order, name.to_owned());
            Contender::new(name.clone(), move |round| {
                order.borrow_mut().push_str(&name);
                Ok(round as f64)
            })
        };
        let series = interleave(3, vec![contender("a"), contender("b")]).unwrap();
        assert_eq!(*order.borrow(), "abbaab");
        assert!(series.iter().all(|series| series.figures == [0.0, 1.0, 2.0]));
    }

    #[test]
    fn a_ratio_is_that_of_the_same_round() {
        // The machine got ten times slower half-way: the ratio does not notice.
        let (base, other) = (series(&[1.0, 1.0, 10.0, 10.0]), series(&[2.0, 2.0, 20.0, 20.0]));
        assert_eq!(other.ratio_to(&base), 2.0);
    }
}
