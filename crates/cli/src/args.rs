//! Values people type: spans of time, sizes, rates. For `#[arg(value_parser = args::parse_duration)]`.

use std::num::NonZeroU64;
use std::time::Duration;

/// The longest span anyone may ask for. Beyond a century a clock sum could overflow, and nobody means it.
const SPAN_DAYS_MAX: u64 = 36_500;

/// Reads a span: a whole number and a unit, `500ms`, `1s`, `2m`, `1h`, `1d`. A bare number is refused, since nobody
/// can see whether it means seconds.
///
/// # Errors
/// Says which forms are understood.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("a span of time is a whole number and a unit: 500ms, 1s, 2m, 1h, 1d".into()),
    };
    let number: u64 = number.parse().map_err(|_| format!("“{number}” is not a whole number"))?;
    let span_ms = number.checked_mul(unit_ms).filter(|ms| *ms <= SPAN_DAYS_MAX * 86_400_000);
    span_ms.map(Duration::from_millis).ok_or_else(|| format!("longer than {SPAN_DAYS_MAX} days"))
}

/// A span as it may be typed: in the largest unit that needs no fraction.
pub(crate) fn duration(span: Duration) -> String {
    let ms = span.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let fits = units.into_iter().find(|(unit_ms, _)| ms.is_multiple_of(*unit_ms));
    fits.map_or_else(String::new, |(unit_ms, unit)| format!("{}{unit}", ms / unit_ms))
}

/// [`parse_duration`] of what has to last: until something expires, for one.
///
/// # Errors
/// Says which forms are understood; what lasts no time at all is over before it is told.
pub(crate) fn parse_validity(text: &str) -> Result<Duration, String> {
    let span = parse_duration(text)?;
    if span < Duration::from_secs(1) { Err("it would be over at once: at least 1s".into()) } else { Ok(span) }
}

/// Reads a size in bytes: a number, which may have a fraction, and a unit. `K`, `M`, `G`, `T` and `KiB` and so on are
/// powers of 1,024, `kB`, `MB` and so on of 1,000; without a unit it is bytes. Capital or not is the same.
///
/// # Errors
/// Says which forms are understood.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || "a size is a number and a unit: 512, 10K, 1.5GiB, 20MB".to_owned();
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let power = match unit.chars().next() {
        None | Some('b') => 0,
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some(_) => return Err(wrong()),
    };
    let step: u128 = match (power, unit.get(1..).unwrap_or_default()) {
        (_, "") | (1.., "ib") => 1_024,
        (1.., "b") => 1_000,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    // More digits than this are below a byte, or beyond any file.
    if digits.is_empty() || digits.len() > 20 || whole.is_empty() {
        return Err(wrong());
    }
    let digits: u128 = digits.parse().map_err(|_| wrong())?;
    let tenths = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| wrong())?);
    let bytes = digits.checked_mul(step.pow(power)).map(|bytes| bytes / tenths);
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(|| "larger than any file".to_owned())
}

/// Reads a rate in bytes a second: a size, `/s` behind it or not.
///
/// # Errors
/// Says which forms are understood; a rate of nothing would never end.
pub(crate) fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    let size = parse_size(text.strip_suffix("/s").unwrap_or(text))?;
    NonZeroU64::new(size).ok_or_else(|| "at least one byte a second".into())
}

/// The leading digits, and the unit behind them with spaces dropped.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_a_number_and_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("10K", 10_240),
            ("10k", 10_240),
            ("10KiB", 10_240),
            ("10kB", 10_000),
            ("1.5GiB", 3 << 29),
            ("0.5 M", 512 * 1_024),
            ("1T", 1 << 40),
            ("16777215T", 16_777_215 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", ".5K", "1.2.3", "-1", "1X", "1iB", "1KiBs", "16777216T", "1e3", "999999999999999999999"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(parse_rate("10M/s").map(NonZeroU64::get), Ok(10 << 20));
        assert!(parse_rate("0").is_err());
    }

    #[test]
    fn spans_are_a_number_and_a_unit() {
        for (text, ms) in
            [("500ms", 500), ("1s", 1_000), ("2m", 120_000), ("1h", 3_600_000), ("1d", 86_400_000), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["1ms", "1500ms", "90s", "61m", "25h", "1d", "365d"] {
            assert_eq!(parse_duration(text).map(duration), Ok(text.to_owned()));
        }
        for text in ["", "1", "s", "-1s", "1.5s", "1w", "99999999999999999999s", "40000d", "1s2"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_validity("1s"), Ok(Duration::from_secs(1)));
        assert!(parse_validity("0s").is_err() && parse_validity("999ms").is_err() && parse_validity("1").is_err());
    }
}
