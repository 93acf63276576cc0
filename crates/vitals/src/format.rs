//! The three ways a frame is written as a line.

use crate::{
    csv, json,
    schema::{Frame, Schema},
    text,
};

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people: [`crate::text`].
    #[default]
    Text,
    /// For spreadsheets and pandas: [`crate::csv`].
    Csv,
    /// One object a line: [`crate::json`].
    Json,
}

impl Format {
    /// The line that stands above all others, without its newline; only CSV has one.
    pub fn header(self, schema: &Schema) -> Option<String> {
        (self == Self::Csv).then(|| csv::header(schema))
    }

    /// Appends the line of `frame` to `out`, without a newline.
    pub fn line(self, out: &mut Vec<u8>, frame: &Frame) {
        match self {
            Self::Text => text::line(out, frame),
            Self::Csv => csv::line(out, frame),
            Self::Json => json::line(out, frame),
        }
    }

    /// Whether a file that begins with `first_line` can be continued in this format. Lines of CSV can only if they are those
    /// of the same columns, which is for whoever knows the header to see.
    pub fn continues(self, first_line: &[u8]) -> bool {
        match self {
            Self::Text => first_line.first().is_some_and(u8::is_ascii_digit) && !first_line.contains(&b','),
            Self::Csv => first_line.starts_with(csv::FIRST_KEY),
            Self::Json => first_line.first() == Some(&b'{'),
        }
    }
}

/// Appends formatted words to a line.
pub(crate) fn put(out: &mut Vec<u8>, words: std::fmt::Arguments<'_>) {
    std::io::Write::write_fmt(out, words).expect("a Vec takes every byte");
}

/// Appends a moment in RFC 3339, UTC, with milliseconds, what is below them cut off.
pub(crate) fn put_time(out: &mut Vec<u8>, wall_ns: i64) {
    let milliseconds = wall_ns.div_euclid(1_000_000);
    let (seconds, millisecond) = (milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    put_digits::<4>(out, year);
    for (mark, part) in
        [(b'-', month), (b'-', day), (b'T', second / 3600), (b':', second / 60 % 60), (b':', second % 60)]
    {
        out.push(mark);
        put_digits::<2>(out, part);
    }
    out.push(b'.');
    put_digits::<3>(out, millisecond);
    out.push(b'Z');
}

/// Year, month and day of the day that is so many after 1970-01-01, by Howard Hinnant's `civil_from_days`: years begin in
/// March, so that the leap day is the last of one.
pub(crate) fn date(days: i64) -> (i64, i64, i64) {
    const ERA_DAYS: i64 = 146_097;
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// How many days after 1970-01-01 a day is: the other way round.
pub(crate) fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The last `N` decimal digits of a number that is not negative.
fn put_digits<const N: usize>(out: &mut Vec<u8>, mut number: i64) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    out.extend_from_slice(&digits);
}

/// Appends a whole number.
pub(crate) fn put_whole(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] += u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a number with one decimal, right-aligned in `columns`. What is not usual takes the long way.
pub(crate) fn put_tenths(out: &mut Vec<u8>, number: f64, columns: usize) {
    if !(0.0..1e9).contains(&number) {
        return put(out, format_args!("{number:>columns$.1}"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 10^10")]
    let tenths = (number * 10.0).round() as u64;
    let mut length = 3;
    let mut rest = tenths / 100;
    while rest > 0 {
        rest /= 10;
        length += 1;
    }
    out.extend(std::iter::repeat_n(b' ', columns.saturating_sub(length)));
    put_whole(out, tenths / 10);
    out.push(b'.');
    out.push(b'0' + u8::try_from(tenths % 10).unwrap_or(0));
}

/// A name of somebody else's as text: characters that could steer a terminal or end a line, and bytes that are no UTF-8, become
/// `?`. So it is one word on one line, whoever chose it.
pub(crate) fn printable(name: &[u8]) -> impl Iterator<Item = char> + '_ {
    name.utf8_chunks().flat_map(|chunk| {
        let bad = (!chunk.invalid().is_empty()).then_some('?');
        chunk.valid().chars().map(|char| if steers(char) { '?' } else { char }).chain(bad)
    })
}

/// Controls, line separators, and what turns the direction of text or hides in it.
pub(crate) fn steers(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::tests::full;

    #[test]
    fn a_format_continues_its_own_files_and_no_other() {
        let frame = full();
        let formats = [Format::Text, Format::Csv, Format::Json];
        for writer in formats {
            let mut first = writer.header(&frame.schema).map(String::into_bytes).unwrap_or_default();
            if first.is_empty() {
                writer.line(&mut first, &frame);
            }
            for reader in formats {
                assert_eq!(reader.continues(&first), reader == writer, "{reader:?} after {writer:?}");
            }
        }
    }

    #[test]
    fn numbers_and_moments_are_written_as_the_library_writes_them() {
        let written = |put: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            put(&mut out);
            String::from_utf8(out).unwrap()
        };
        for number in [0.0, 0.04, 0.06, 1.0, 9.96, 33.333, 99.94, 99.96, 100.0, 1023.9, 123_456.7, 1e9, 1e12, -1.0] {
            assert_eq!(written(&|out| put_tenths(out, number, 6)), format!("{number:>6.1}"), "{number}");
        }
        for number in [0, 9, 10, 1_234_567, u64::MAX] {
            assert_eq!(written(&|out| put_whole(out, number)), number.to_string());
        }
        let mut wall_ns = i64::MIN / 4;
        while wall_ns < i64::MAX / 2 {
            let library =
                jiff::Timestamp::from_nanosecond(i128::from(wall_ns.div_euclid(1_000_000) * 1_000_000)).unwrap();
            assert_eq!(written(&|out| put_time(out, wall_ns)), format!("{library:.3}"), "{wall_ns}");
            // A prime number of nanoseconds somewhat below eight days.
            wall_ns += 691_190_000_000_003;
        }
        assert_eq!(written(&|out| put_time(out, 951_782_400_000_000_000)), "2000-02-29T00:00:00.000Z");
    }

    #[test]
    fn nothing_in_a_name_ends_a_line_or_steers_a_terminal() {
        let shown: String = printable(b"a\nb\x1b[31m\xff\xe2\x80\xae\xc2\x9b\xc3\xa4\x00").collect();
        assert_eq!(shown, "a?b?[31m???\u{e4}?");
    }
}
