//! Lines for spreadsheets and pandas: all fields in the order of the table, a header of their keys, nothing for what is not
//! known, full precision. No value needs quoting: numbers, times, and words of ours.

use crate::fields::{FIELDS, Row, Value, put, put_time};

/// The header line, without a newline: the keys of all fields.
pub fn header() -> String {
    FIELDS.iter().map(|field| field.key).collect::<Vec<_>>().join(",")
}

/// Appends the line of `row` to `out`, without a newline.
pub fn line(out: &mut Vec<u8>, row: &Row<'_>) {
    for (at, field) in FIELDS.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match (field.value)(row) {
            Value::Missing => {}
            Value::Time(wall_ns) => put_time(out, wall_ns),
            Value::Whole(whole) => put(out, format_args!("{whole}")),
            Value::Real(real) => put(out, format_args!("{real}")),
            Value::Word(word) => put(out, format_args!("{word}")),
            Value::Boot(boot) => put(out, format_args!("{}", boot.as_str())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::tests::{bare, full};

    #[test]
    fn every_line_has_as_many_columns_as_the_header_and_unknown_is_empty() {
        for (sample, rates) in [full(), bare()] {
            let mut out = Vec::new();
            line(&mut out, &Row { sample: &sample, rates: &rates });
            let out = String::from_utf8(out).unwrap();
            assert_eq!(out.split(',').count(), FIELDS.len());
            assert!(!out.contains(['"', '\n']), "{out}");
        }
        let (sample, rates) = bare();
        let mut out = Vec::new();
        line(&mut out, &Row { sample: &sample, rates: &rates });
        assert!(out.starts_with(b"1970-01-01T00:00:00.000Z,,,,,,,,,,first_sample,"), "{}", out.escape_ascii());
    }
}
