//! Reads what is drawn: lines of a log, whichever format they have, and histories.

use std::io::{self, BufRead, Read as _};

use serde_json::Value;

use super::{KEYS, Recording, Values};
use crate::{
    format::days,
    history::{History, HistoryError, Range, Skipped},
    log::LINE_BYTES_MAX,
};

/// What `lockstep monitor` calls the [`KEYS`] in lines of text.
const TITLES: [&str; KEYS.len()] = ["cpu", "system", "iowait", "steal", "used", "swap used", "total"];

/// What lines came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lines {
    /// Lines that are no sample: torn, damaged, or of something else.
    pub bad: u64,
    /// The number of the first of them, counted from 1.
    pub first_bad: Option<u64>,
}

/// Reads lines of text, CSV or JSON, also mixed, and adds those in `range` to `recording`. A line that is no sample is counted
/// and passed over.
///
/// # Errors
/// When `input` cannot be read. What was read until then is in `recording`.
pub fn lines(mut input: impl BufRead, range: Range, recording: &mut Recording) -> io::Result<Lines> {
    let mut found = Lines::default();
    let mut columns = None;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let room = LINE_BYTES_MAX as u64 + 1;
        if input.by_ref().take(room).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let whole = line.pop_if(|byte| *byte == b'\n').is_some();
        if !whole && line.len() > LINE_BYTES_MAX {
            input.skip_until(b'\n')?;
            line.clear();
            line.push(0);
        }
        line.pop_if(|byte| *byte == b'\r');
        match std::str::from_utf8(&line).ok().and_then(|line| parse(line, &mut columns)) {
            Some(Line::Sample(wall_ms, values)) => {
                if (range.from_ms..=range.to_ms).contains(&wall_ms) {
                    recording.push(wall_ms, &values);
                }
            }
            Some(Line::Other) => {}
            None => {
                found.bad += 1;
                found.first_bad.get_or_insert(number);
            }
        }
    }
    Ok(found)
}

/// Adds the rows of a history in `range` to `recording`; tells what of it could not be read.
///
/// # Errors
/// When a file cannot be read.
pub fn history(history: &History, range: Range, recording: &mut Recording) -> Result<Skipped, HistoryError> {
    let mut rows = history.rows(range);
    while let Some((schema, block)) = rows.next_block()? {
        let places = KEYS.map(|key| schema.columns.iter().position(|column| column.key == key));
        for (row, wall_ms) in block.wall_ms.iter().enumerate() {
            recording.push(*wall_ms, &places.map(|at| at.and_then(|at| block.columns[at][row])));
        }
    }
    Ok(rows.skipped())
}

enum Line {
    Sample(i64, Values),
    /// A header, or nothing.
    Other,
}

/// Where time and each of the [`KEYS`] are in lines of CSV, and how many cells such a line has.
struct Columns {
    cells: usize,
    places: [Option<usize>; KEYS.len()],
}

fn parse(line: &str, columns: &mut Option<Columns>) -> Option<Line> {
    match line.as_bytes().first() {
        None => Some(Line::Other),
        Some(b'{') => json(line),
        Some(b't') if line.starts_with("time,") => {
            let keys = cells(line)?;
            let places = KEYS.map(|key| keys.iter().position(|cell| *cell == key));
            *columns = Some(Columns { cells: keys.len(), places });
            Some(Line::Other)
        }
        Some(byte) if byte.is_ascii_digit() => match line.as_bytes().get(TIME_BYTES)? {
            b',' => csv(line, columns.as_ref()?),
            _ => text(line),
        },
        Some(_) => None,
    }
}

fn json(line: &str) -> Option<Line> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(line).ok()?;
    let wall_ms = moment(object.get("time")?.as_str()?)?;
    Some(Line::Sample(wall_ms, KEYS.map(|key| object.get(key).and_then(Value::as_f64))))
}

fn csv(line: &str, columns: &Columns) -> Option<Line> {
    let cells = cells(line)?;
    // A line that was cut has fewer, and its last number may be half a number.
    if cells.len() != columns.cells {
        return None;
    }
    let mut values = Values::default();
    for (value, at) in values.iter_mut().zip(columns.places) {
        let cell = at.map_or("", |at| cells[at]);
        *value = if cell.is_empty() { None } else { Some(cell.parse().ok()?) };
    }
    Some(Line::Sample(moment(cells[0])?, values))
}

/// The cells of a line of CSV; quotes are left as they are, as no number has any. `None`: a quote without its other one.
fn cells(line: &str) -> Option<Vec<&str>> {
    let mut cells = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                cells.push(&line[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    cells.push(&line[start..]);
    (!quoted).then_some(cells)
}

fn text(line: &str) -> Option<Line> {
    let (time, rest) = line.split_at_checked(TIME_BYTES)?;
    let mut values = Values::default();
    let mut any = false;
    for (value, title) in values.iter_mut().zip(TITLES) {
        let Some(at) = rest.find(&format!("  {title} ")) else { continue };
        let mut words = rest[at + title.len() + 3..].split_ascii_whitespace();
        let number = words.next()?;
        any = true;
        *value = match (number, number.strip_suffix('%')) {
            ("-", _) => None,
            (_, Some(percent)) => Some(percent.parse().ok()?),
            (bytes, None) => Some(bytes.parse::<f64>().ok()? * unit(words.next()?)?),
        };
    }
    any.then_some(Line::Sample(moment(time)?, values))
}

fn unit(word: &str) -> Option<f64> {
    let power = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].iter().position(|unit| *unit == word)?;
    Some(1024_f64.powi(i32::try_from(power).ok()?))
}

/// How long a moment is, as every format writes it.
const TIME_BYTES: usize = "2026-01-31T12:00:00.000Z".len();

/// Milliseconds since the Unix epoch of RFC 3339 in UTC, as [`crate::format`] writes it.
fn moment(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != TIME_BYTES {
        return None;
    }
    for (at, mark) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (23, b'Z')] {
        if bytes[at] != mark {
            return None;
        }
    }
    let part = |from: usize, to: usize, max: i64| {
        let digits = &text.get(from..to)?;
        let number: i64 = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
        (number <= max).then_some(number)
    };
    let (year, month, day) = (part(0, 4, 9999)?, part(5, 7, 12)?, part(8, 10, 31)?);
    let (hour, minute, second) = (part(11, 13, 23)?, part(14, 16, 59)?, part(17, 19, 60)?);
    if month == 0 || day == 0 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(seconds * 1000 + part(20, 23, 999)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, fields::tests::full};

    fn read(content: &[u8]) -> (Recording, Lines) {
        let mut recording = Recording::default();
        let found = lines(content, Range::ALL, &mut recording).unwrap();
        (recording, found)
    }

    fn log(format: Format) -> Vec<u8> {
        let mut frame = full();
        let mut log = format.header(&frame.schema).map(|header| header + "\n").unwrap_or_default().into_bytes();
        for second in 0..3 {
            frame.values[0] = crate::Value::Time((1_700_000_000 + second) * 1_000_000_000);
            format.line(&mut log, &frame);
            log.push(b'\n');
        }
        log
    }

    #[test]
    fn each_format_of_the_monitor_is_read_and_they_say_the_same() {
        for format in [Format::Text, Format::Csv, Format::Json] {
            let (recording, found) = read(&log(format));
            assert_eq!((found.bad, recording.samples()), (0, 3), "{format:?}");
            assert_eq!(recording.span(), Some((1_700_000_000_000, 1_700_000_002_000)));
            let max: Vec<_> = (0..KEYS.len()).map(|series| recording.max(series)).collect();
            let gib = f64::from(1 << 30);
            let expected = [35.0, 10.0, 5.0, 7.0, 2.0 * gib, 1536.0, 8.0 * gib].map(Some);
            assert_eq!(max, expected, "{format:?}");
        }
    }

    #[test]
    fn a_log_cut_anywhere_loses_its_last_line_alone_and_counts_it() {
        for format in [Format::Text, Format::Csv, Format::Json] {
            let log = log(format);
            let begin = log[..log.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
            // Text says nothing at its end by which a cut could be seen, but rounds to a digit behind the point anyway.
            let last = if format == Format::Text { begin + 30 } else { log.len() - 1 };
            for cut in begin + 1..last {
                let (recording, found) = read(&log[..cut]);
                assert_eq!((recording.samples(), found.bad), (2, 1), "{format:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_sample_is_counted_and_the_rest_is_read() {
        let mut content = log(Format::Json);
        content.extend_from_slice(b"\xff\xfe\n{\"time\":5}\n2026-13-01T00:00:00.000Z  cpu 1.0%\n\n");
        content.extend(std::iter::repeat_n(b'x', LINE_BYTES_MAX * 2));
        content.extend_from_slice(b"\n2026-01-01T00:00:00.000Z,5\n");
        content.extend(log(Format::Csv));
        let (recording, found) = read(&content);
        assert_eq!(found, Lines { bad: 5, first_bad: Some(4) });
        assert_eq!(recording.samples(), 6);
    }

    #[test]
    fn moments_are_read_as_they_are_written() {
        for wall_ms in [0, 951_782_400_000, 1_700_000_000_123, 4_102_444_799_999, 1_709_210_096_001] {
            let mut written = Vec::new();
            crate::format::put_time(&mut written, wall_ms * 1_000_000);
            assert_eq!(moment(std::str::from_utf8(&written).unwrap()), Some(wall_ms));
        }
        for wrong in ["2026-00-01T00:00:00.000Z", "2026-01-01 00:00:00.000Z", "2026-01-01T24:00:00.000Z", "", "é"] {
            assert_eq!(moment(wrong), None, "{wrong}");
        }
    }
}
