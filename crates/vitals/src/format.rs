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

/// Appends a moment in RFC 3339, UTC, with milliseconds.
pub(crate) fn put_time(out: &mut Vec<u8>, wall_ns: i64) {
    let time = jiff::Timestamp::from_nanosecond(i128::from(wall_ns))
        .expect("64 bits of nanoseconds are the years 1677 to 2262");
    put(out, format_args!("{time:.3}"));
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
    fn nothing_in_a_name_ends_a_line_or_steers_a_terminal() {
        let shown: String = printable(b"a\nb\x1b[31m\xff\xe2\x80\xae\xc2\x9b\xc3\xa4\x00").collect();
        assert_eq!(shown, "a?b?[31m???\u{e4}?");
    }
}
