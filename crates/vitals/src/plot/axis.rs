//! Where the marks of an axis are, and what they say.

use super::Look;
use crate::format::date;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Steps of time in which people count.
const STEPS_MS: [i64; 25] = [
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    4 * DAY,
    7 * DAY,
    14 * DAY,
    28 * DAY,
    91 * DAY,
    364 * DAY,
];

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A mark of the axis of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// Milliseconds since the Unix epoch.
    pub(super) at_ms: i64,
    /// The time, or the day.
    pub(super) label: String,
    /// The day, or the year, where it is another than at the mark before.
    pub(super) below: Option<String>,
}

/// The marks between two moments, at most about `marks_max`.
pub(super) fn times((from_ms, to_ms): (i64, i64), marks_max: usize, look: &Look<'_>) -> Vec<Mark> {
    let span = i128::from(to_ms) - i128::from(from_ms);
    let wanted = span / i128::try_from(marks_max.max(1)).unwrap_or(1);
    let mut step =
        STEPS_MS.iter().map(|step| i128::from(*step)).find(|step| *step >= wanted).unwrap_or(364 * i128::from(DAY));
    while step < wanted {
        step *= 10;
    }
    let local = |utc_ms: i64| i128::from(utc_ms) + i128::from((look.offset_ms)(utc_ms));
    let mut marks: Vec<Mark> = Vec::new();
    let mut at = local(from_ms).div_euclid(step) * step;
    let mut said = String::new();
    while at <= local(to_ms) {
        // What the clocks of people show, back to UTC by the difference at about that moment.
        let about = i64::try_from(at).unwrap_or(to_ms);
        let about = about.saturating_sub((look.offset_ms)(about));
        let utc = at - i128::from((look.offset_ms)(about));
        if let Ok(at_ms) = i64::try_from(utc)
            && (from_ms..=to_ms).contains(&at_ms)
        {
            let (label, below) = words(i64::try_from(at).unwrap_or(at_ms), step);
            let below = (below != said).then_some(below);
            if let Some(below) = &below {
                said.clone_from(below);
            }
            marks.push(Mark { at_ms, label, below });
        }
        at += step;
    }
    marks
}

/// What a mark says, and what stands below it.
fn words(local_ms: i64, step_ms: i128) -> (String, String) {
    let (year, month, day) = date(local_ms.div_euclid(DAY));
    let month = MONTHS[usize::try_from(month - 1).unwrap_or(0) % 12];
    let of_day = local_ms.rem_euclid(DAY) / SECOND;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    if step_ms >= i128::from(DAY) {
        (format!("{day} {month}"), year.to_string())
    } else if step_ms >= i128::from(MINUTE) {
        (format!("{hour:02}:{minute:02}"), format!("{day} {month} {year}"))
    } else {
        (format!("{hour:02}:{minute:02}:{second:02}"), format!("{day} {month} {year}"))
    }
}

/// A moment in full, for the line below the title.
pub(super) fn moment(utc_ms: i64, look: &Look<'_>) -> String {
    let (time, day) = words(utc_ms.saturating_add((look.offset_ms)(utc_ms)), i128::from(SECOND));
    format!("{day}, {time}")
}

/// Where the marks of bytes are, from 0 to the first that is not below `max`.
pub(super) fn bytes(max: f64, marks_max: u32) -> Vec<f64> {
    let mut step = 1.0_f64;
    while step * f64::from(marks_max) < max {
        step *= 2.0;
    }
    let mut marks = vec![0.0];
    while marks.last().is_some_and(|last| *last < max) && marks.len() < 20 {
        marks.push(step * marks.len() as f64);
    }
    marks
}

/// Bytes in the largest unit of which it is at least one.
pub(super) fn bytes_label(bytes: f64) -> String {
    let mut scaled = bytes;
    let mut unit = 0;
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    while scaled >= 1024.0 && unit < units.len() - 1 {
        (scaled, unit) = (scaled / 1024.0, unit + 1);
    }
    let decimals = usize::from(scaled.fract() > 0.04 && scaled < 100.0);
    format!("{scaled:.decimals$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(from_ms: i64, to_ms: i64, offset_ms: i64) -> Vec<(i64, String, Option<String>)> {
        let offset = move |_| offset_ms;
        let look = Look { size: (800, 600), dark: false, title: "", offset_ms: &offset, zone: "" };
        times((from_ms, to_ms), 8, &look).into_iter().map(|mark| (mark.at_ms, mark.label, mark.below)).collect()
    }

    #[test]
    fn marks_are_at_full_times_of_the_zone_and_name_each_day_once() {
        let at = 1_700_000_000_000; // 22:13:20 UTC
        let found = marks(at, at + 3 * HOUR, 90 * MINUTE);
        let labels: Vec<_> = found.iter().map(|(_, label, _)| label.as_str()).collect();
        assert_eq!(labels, ["00:00", "00:30", "01:00", "01:30", "02:00", "02:30"]);
        assert_eq!(found[0].2.as_deref(), Some("15 Nov 2023"));
        assert!(found[1..].iter().all(|(_, _, below)| below.is_none()));
        assert!(found.iter().all(|(at_ms, ..)| (at_ms + 90 * MINUTE) % (30 * MINUTE) == 0));
        assert_eq!(marks(at, at + 60 * DAY, 0)[1].1, "7 Dec");
        assert_eq!(marks(at, at + 8 * SECOND, 0)[0].1, "22:13:20");
    }

    #[test]
    fn no_span_has_many_marks_or_none_that_ends() {
        for (from, to) in [(i64::MIN, i64::MAX), (0, i64::MAX), (0, 1), (5, 5), (i64::MIN, 0)] {
            assert!(marks(from, to, HOUR).len() <= 10, "{from} {to}");
        }
    }

    #[test]
    fn marks_of_bytes_are_round_and_reach_the_top() {
        let gib = f64::from(1 << 30);
        assert_eq!(bytes(7.7 * gib, 4), [0.0, 2.0 * gib, 4.0 * gib, 6.0 * gib, 8.0 * gib]);
        assert_eq!(bytes(0.0, 4), [0.0]);
        assert!(bytes(f64::MAX, 4).len() <= 6);
        assert_eq!([bytes_label(0.0), bytes_label(1.5 * gib), bytes_label(512.0)], ["0 B", "1.5 GiB", "512 B"]);
    }
}
