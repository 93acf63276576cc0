//! Values people type: spans of time, and sizes. For `#[arg(value_parser = args::parse_duration)]`.

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

/// Reads a size in bytes: a whole number and a unit of 1024, `512KiB`, `32MiB`, `1GiB`, also `32M` for short. A bare number is
/// bytes.
///
/// # Errors
/// Says which forms are understood.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let power = match unit.strip_suffix("iB").unwrap_or(unit) {
        "" | "B" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err("a size is a whole number and a unit: 512KiB, 32MiB, 1GiB".into()),
    };
    let number: u64 = number.parse().map_err(|_| format!("“{number}” is not a whole number"))?;
    number.checked_mul(1 << (10 * power)).ok_or_else(|| "larger than any disk".into())
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
        for (text, bytes) in [("0", 0), ("7B", 7), ("512KiB", 512 << 10), ("32M", 32 << 20), ("3 TiB", 3 << 40)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "-1", "1.5M", "1KB", "1iBM", "99999999999T"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_are_a_number_and_a_unit() {
        for (text, ms) in
            [("500ms", 500), ("1s", 1_000), ("2m", 120_000), ("1h", 3_600_000), ("1d", 86_400_000), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "1", "s", "-1s", "1.5s", "1w", "99999999999999999999s", "40000d", "1s2"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
