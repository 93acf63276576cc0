//! Lines for spreadsheets and pandas: all columns of a schema, a header of their keys, nothing for what is not known, full
//! precision. The last column, [`REASONS_KEY`], says `key:reason` of each value that is not known, with spaces between.
//!
//! Names of somebody else's stand in quotes, made printable, so that a line stays one line whatever a process is called.

use crate::{
    format::{printable, put, put_time, put_whole},
    schema::{Frame, Schema, Value},
};

/// The key of the last column, which says why values are not known.
pub const REASONS_KEY: &str = "null_reasons";

/// How a header begins.
pub(crate) const FIRST_KEY: &[u8] = b"time,";

/// The header line, without a newline: the keys of all columns.
pub fn header(schema: &Schema) -> String {
    let mut header = String::new();
    for column in schema.columns() {
        header.push_str(&quoted_if_needed(&column.key));
        header.push(',');
    }
    header.push_str(REASONS_KEY);
    header
}

/// Appends the line of `frame` to `out`, without a newline.
pub fn line(out: &mut Vec<u8>, frame: &Frame) {
    let mut missing = false;
    for value in &frame.values {
        match value {
            Value::Missing(_) => missing = true,
            Value::Nothing => {}
            Value::Time(wall_ns) => put_time(out, *wall_ns),
            Value::Whole(whole) => put_whole(out, *whole),
            Value::Real(real) => put(out, format_args!("{real}")),
            Value::Word(word) => out.extend_from_slice(word.as_bytes()),
            Value::Boot(boot) => out.extend_from_slice(boot.as_str().as_bytes()),
            Value::Name(name) => put_name(out, name.as_bytes()),
        }
        out.push(b',');
    }
    if missing {
        put_reasons(out, frame);
    }
}

fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    out.push(b'"');
    for char in printable(name) {
        if char == '"' {
            out.push(b'"');
        }
        put(out, format_args!("{char}"));
    }
    out.push(b'"');
}

fn put_reasons(out: &mut Vec<u8>, frame: &Frame) {
    let start = out.len();
    // A device's name can have a comma or a quote in it, and stands in the key.
    out.push(b'"');
    for (column, value) in frame.cells() {
        let Some(why) = value.missing() else { continue };
        if out.len() > start + 1 {
            out.push(b' ');
        }
        for char in column.key.chars() {
            if char == '"' {
                out.push(b'"');
            }
            put(out, format_args!("{char}"));
        }
        put(out, format_args!(":{}", why.key()));
    }
    out.push(b'"');
}

fn quoted_if_needed(key: &str) -> std::borrow::Cow<'_, str> {
    if key.contains(['"', ',', ' ']) { format!("\"{}\"", key.replace('"', "\"\"")).into() } else { key.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fields::tests::{bare, full},
        schema::Name,
    };

    fn csv(frame: &Frame) -> String {
        let mut out = Vec::new();
        line(&mut out, frame);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_line_has_as_many_columns_as_the_header_and_unknown_is_empty_with_the_reason() {
        for frame in [full(), bare()] {
            let columns = header(&frame.schema).split(',').count();
            assert_eq!(columns, frame.schema.columns().len() + 1);
            assert_eq!(csv(&frame).split(',').count(), columns);
        }
        let bare = csv(&bare());
        assert!(bare.starts_with("1970-01-01T00:00:00.000Z,,,,,,,,,,first_sample,"), "{bare}");
        assert!(bare.contains(",\"cpu_busy_pct:first_sample cpu_user_pct:first_sample "), "{bare}");
        assert!(bare.ends_with(" boot_id:not_told\""), "{bare}");
        assert!(csv(&full()).ends_with(','), "all is known");
    }

    #[test]
    fn a_name_cannot_end_its_cell_or_its_line() {
        let mut frame = full();
        frame.values[1] = Value::Name(Name::new(b"a\",\n\xff=b"));
        assert!(csv(&frame).contains("Z,\"a\"\",??=b\",10,"), "{}", csv(&frame));
    }
}
