//! Samples, thinned to what a picture can show, in room that does not grow with them.

use std::collections::BTreeMap;

use super::{KEYS, Values};

/// The most points a series has: more than one a pixel cannot be seen.
pub const BUCKETS_MAX: usize = 1600;

/// Time that nothing was recorded in is a gap if it is so many times longer than the usual time between samples.
const GAP_INTERVALS: i64 = 3;

/// The same, where samples stand alone and nothing beside them says what is usual there.
const GAP_INTERVALS_ALONE: i64 = 20;

/// Samples by the wall clock. In what order they come does not matter.
#[derive(Debug, Clone)]
pub struct Recording {
    /// How long each bucket is; doubled whenever there are too many.
    bucket_ms: i64,
    buckets: BTreeMap<i64, Bucket>,
    samples: u64,
}

/// What fell into one span of time.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    /// The first and the last sample in it, milliseconds since the Unix epoch.
    pub first_ms: i64,
    /// See `first_ms`.
    pub last_ms: i64,
    rows: u32,
    each: [Sum; KEYS.len()],
}

/// What is known of one series in a bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: u32,
    mean: f64,
    min: f64,
    max: f64,
}

/// One point of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The middle of what it stands for, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The mean of it.
    pub mean: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Default for Recording {
    fn default() -> Self {
        Self { bucket_ms: 1, buckets: BTreeMap::new(), samples: 0 }
    }
}

impl Recording {
    /// Takes a sample.
    pub fn push(&mut self, wall_ms: i64, values: &Values) {
        self.samples += 1;
        self.add(Bucket::new(wall_ms, values));
        while self.buckets.len() > BUCKETS_MAX {
            self.bucket_ms = self.bucket_ms.saturating_mul(2);
            for (_, bucket) in std::mem::take(&mut self.buckets) {
                self.add(bucket);
            }
        }
    }

    /// How many samples were taken.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The first and the last moment; `None` without a sample.
    pub fn span(&self) -> Option<(i64, i64)> {
        let (first, last) = (self.buckets.values().next()?, self.buckets.values().next_back()?);
        Some((first.first_ms, last.last_ms))
    }

    /// The most the series ever came to; `None` if it was never known.
    pub fn max(&self, series: usize) -> Option<f64> {
        self.buckets
            .values()
            .filter(|bucket| bucket.each[series].count > 0)
            .map(|bucket| bucket.each[series].max)
            .reduce(f64::max)
    }

    /// The mean over all that is known of the series.
    pub fn mean(&self, series: usize) -> Option<f64> {
        let (count, sum) = self.buckets.values().fold((0.0, 0.0), |(count, sum), bucket| {
            let one = bucket.each[series];
            (count + f64::from(one.count), sum + one.mean * f64::from(one.count))
        });
        (count > 0.0).then(|| sum / count)
    }

    /// The series in pieces: between two pieces it is not known, or nothing was recorded.
    pub fn pieces(&self, series: usize) -> Vec<Vec<Point>> {
        let mut pieces: Vec<Vec<Point>> = vec![Vec::new()];
        for (bucket, gap) in self.buckets.values().zip(self.gaps()) {
            let sum = bucket.each[series];
            if (gap || sum.count == 0) && pieces.last().is_some_and(|piece| !piece.is_empty()) {
                pieces.push(Vec::new());
            }
            if sum.count == 0 {
                continue;
            }
            let at_ms = bucket.first_ms + bucket.last_ms.saturating_sub(bucket.first_ms) / 2;
            if let Some(piece) = pieces.last_mut() {
                piece.push(Point { at_ms, mean: sum.mean, min: sum.min, max: sum.max });
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    /// The spans in which nothing was recorded.
    pub fn silences(&self) -> Vec<(i64, i64)> {
        let buckets: Vec<&Bucket> = self.buckets.values().collect();
        let pairs = buckets.windows(2).zip(self.gaps().into_iter().skip(1));
        pairs.filter(|(_, gap)| *gap).map(|(pair, _)| (pair[0].last_ms, pair[1].first_ms)).collect()
    }

    /// For each bucket whether there is a gap before it.
    fn gaps(&self) -> Vec<bool> {
        let buckets: Vec<&Bucket> = self.buckets.values().collect();
        // How long it takes from one bucket to the next, and how long from one sample to the next in each.
        let between: Vec<i64> =
            buckets.windows(2).map(|pair| pair[1].first_ms.saturating_sub(pair[0].last_ms)).collect();
        let within = |at: usize| {
            let bucket = buckets[at];
            let steps = i64::from(bucket.rows) - 1;
            (steps > 0).then(|| bucket.last_ms.saturating_sub(bucket.first_ms) / steps)
        };
        let mut sorted = between.clone();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0).max(1);
        let gap = |at: usize| {
            if at == 0 {
                return false;
            }
            let wait = between[at - 1];
            // The interval may have been another from here on, and one sample late, so the longest beside it counts.
            let around =
                |from: usize, to: usize| between[from.min(between.len())..to.min(between.len())].iter().copied().max();
            let before = within(at - 1).or_else(|| around(at.saturating_sub(3), at - 1));
            let after = within(at).or_else(|| around(at, at + 2));
            let usual = before.max(after).unwrap_or(i64::MAX);
            wait > usual.saturating_mul(GAP_INTERVALS) || wait > median.saturating_mul(GAP_INTERVALS_ALONE)
        };
        (0..buckets.len()).map(gap).collect()
    }

    fn add(&mut self, bucket: Bucket) {
        let at = bucket.first_ms.div_euclid(self.bucket_ms);
        self.buckets.entry(at).and_modify(|old| old.merge(&bucket)).or_insert(bucket);
    }
}

impl Bucket {
    fn new(wall_ms: i64, values: &Values) -> Self {
        let sum = |value: &Option<f64>| match value {
            Some(value) if value.is_finite() => Sum { count: 1, mean: *value, min: *value, max: *value },
            _ => Sum::default(),
        };
        Self { first_ms: wall_ms, last_ms: wall_ms, rows: 1, each: std::array::from_fn(|at| sum(&values[at])) }
    }

    fn merge(&mut self, other: &Self) {
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.rows = self.rows.saturating_add(other.rows);
        for (sum, other) in self.each.iter_mut().zip(&other.each) {
            sum.merge(other);
        }
    }
}

impl Sum {
    fn merge(&mut self, other: &Self) {
        if self.count == 0 || other.count == 0 {
            if self.count == 0 {
                *self = *other;
            }
            return;
        }
        let count = self.count.saturating_add(other.count);
        self.mean += (other.mean - self.mean) * (f64::from(other.count) / f64::from(count));
        (self.min, self.max, self.count) = (self.min.min(other.min), self.max.max(other.max), count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(rows: impl IntoIterator<Item = (i64, Option<f64>)>) -> Recording {
        let mut recording = Recording::default();
        for (at_ms, value) in rows {
            let mut values = Values::default();
            values[0] = value;
            recording.push(at_ms, &values);
        }
        recording
    }

    fn ends(recording: &Recording) -> Vec<(i64, i64)> {
        recording.pieces(0).iter().map(|piece| (piece[0].at_ms, piece[piece.len() - 1].at_ms)).collect()
    }

    #[test]
    fn a_line_never_bridges_what_is_not_known_or_was_not_recorded() {
        let unknown = recording((0..10).map(|second| (second * 1000, (second != 4).then_some(1.0))));
        assert_eq!(ends(&unknown), [(0, 3000), (5000, 9000)]);
        assert_eq!(unknown.silences(), []);
        let silent = recording((0..10).chain(60..70).map(|second| (second * 1000, Some(1.0))));
        assert_eq!(ends(&silent), [(0, 9000), (60_000, 69_000)]);
        assert_eq!(silent.silences(), [(9000, 60_000)]);
    }

    #[test]
    fn another_interval_is_no_gap_and_a_late_sample_neither() {
        let slower = recording((0..10).chain((20..100).step_by(10)).map(|second| (second * 1000, Some(1.0))));
        assert_eq!(slower.silences(), []);
        let late = recording([0, 1000, 2000, 4900, 5000, 6000].map(|at_ms| (at_ms, Some(1.0))));
        assert_eq!(late.silences(), []);
    }

    #[test]
    fn any_number_of_samples_takes_the_same_room_and_peaks_and_gaps_stay() {
        let rows = (0..400_000_i64).filter(|second| !(100_000..120_000).contains(second));
        let many = recording(rows.map(|second| (second * 1000, Some(if second == 300_000 { 99.0 } else { 1.0 }))));
        let pieces = many.pieces(0);
        assert!(many.buckets.len() <= BUCKETS_MAX && many.buckets.len() > BUCKETS_MAX / 3, "{}", many.buckets.len());
        assert_eq!((pieces.len(), many.silences()), (2, vec![(99_999_000, 120_000_000)]));
        assert_eq!((many.max(0), many.samples()), (Some(99.0), 380_000));
        assert!((many.mean(0).unwrap() - (1.0 + 98.0 / 380_000.0)).abs() < 1e-9);
    }

    #[test]
    fn order_does_not_matter_and_no_clock_is_too_far() {
        let rows = [5000, 1000, 3000, 2000, 4000, i64::MAX, i64::MIN].map(|at_ms| (at_ms, Some(1.0)));
        let all = recording(rows);
        assert_eq!(all.span(), Some((i64::MIN, i64::MAX)));
        assert_eq!(ends(&recording(rows[..5].to_vec())), [(1000, 5000)]);
        assert_eq!(all.max(1), None);
        assert_eq!(Recording::default().span(), None);
        assert!(recording([(0, Some(f64::INFINITY))]).pieces(0).is_empty());
    }
}
