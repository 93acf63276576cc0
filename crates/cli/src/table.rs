//! Rows of results: an aligned table for people, or the same rows as JSON lines.

use std::io::{self, Write};

use serde_json::{Map, Value};

/// The space between two columns.
const GAP: &str = "  ";
/// What a person sees where there is no value.
const NOTHING: &str = "-";

/// One column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Heads the column for people.
    pub(crate) title: &'static str,
    /// Names the value in JSON; stable between releases.
    pub(crate) key: &'static str,
    /// Numbers stand to the right.
    pub(crate) right: bool,
}

/// One value.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// For people; escaped when printed.
    shown: String,
    /// For programs.
    value: Value,
}

impl Cell {
    /// The same for people and for programs. `null` is shown as a dash.
    pub(crate) fn new(value: impl Into<Value>) -> Self {
        let value = value.into();
        let shown = match &value {
            Value::Null => NOTHING.into(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Self { shown, value }
    }

    /// One form for people (`1.2 MiB`, `3 s ago`) and another for programs (bytes, a time stamp).
    pub(crate) fn shown_as(shown: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { shown: shown.into(), value: value.into() }
    }
}

/// Writes `rows` under `columns`: aligned with a heading, or with `json` one object a line and no heading. A column in which no
/// row has anything takes no room of a person's screen.
///
/// Each row has as many cells as there are columns.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn write(out: &mut impl Write, columns: &[Column], rows: &[Vec<Cell>], json: bool) -> io::Result<()> {
    if json {
        for row in rows {
            let object: Map<String, Value> =
                columns.iter().zip(row).map(|(column, cell)| (column.key.to_owned(), cell.value.clone())).collect();
            writeln!(out, "{}", Value::Object(object))?;
        }
        return Ok(());
    }
    let shown: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| escaped(&cell.shown)).collect()).collect();
    let width = |index: usize| {
        let cells = shown.iter().filter_map(|row| row.get(index)).map(|text| text.chars().count());
        cells.chain([columns[index].title.chars().count()]).max().unwrap_or(0)
    };
    let says = |text: &String| !text.is_empty() && text != NOTHING;
    let is_shown = |index: &usize| shown.is_empty() || shown.iter().any(|row| row.get(*index).is_some_and(says));
    let columns_shown: Vec<(usize, usize)> =
        (0..columns.len()).filter(is_shown).map(|index| (index, width(index))).collect();
    let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    for row in [&titles].into_iter().chain(&shown) {
        let mut line = String::new();
        for (index, width) in columns_shown.iter().copied() {
            let (text, column) = (&row[index], &columns[index]);
            if !line.is_empty() {
                line.push_str(GAP);
            }
            line.push_str(&if column.right { format!("{text:>width$}") } else { format!("{text:<width$}") });
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A number of things, in words: `1 entry`, `3 entries`.
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Names come from other machines: what would move the cursor or break the line is shown as an escape.
pub(crate) fn escaped(text: &str) -> String {
    let unsafe_char = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().flat_map(|c| if unsafe_char(c) { c.escape_unicode().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] =
        [Column { title: "CLIENT", key: "client", right: false }, Column { title: "FILES", key: "files", right: true }];

    fn text(rows: &[Vec<Cell>], json: bool) -> String {
        let mut out = Vec::new();
        write(&mut out, &COLUMNS, rows, json).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec![Cell::new("7"), Cell::new(12_345)], vec![Cell::new("workshop"), Cell::new(Value::Null)]];
        assert_eq!(text(&rows, false), "CLIENT    FILES\n7         12345\nworkshop      -\n");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!([0, 1, 2].map(|n| count(n, "entry", "entries")), ["0 entries", "1 entry", "2 entries"]);
    }

    #[test]
    fn a_column_without_anything_is_for_programs_alone() {
        let rows = [vec![Cell::new("a"), Cell::new(Value::Null)], vec![Cell::new("b"), Cell::shown_as("", 3)]];
        assert_eq!(text(&rows, false), "CLIENT\na\nb\n");
        assert!(text(&rows, true).contains("{\"client\":\"b\",\"files\":3}"));
        assert_eq!(text(&[], false), "CLIENT  FILES\n", "without rows it says what there could be");
    }

    #[test]
    fn json_is_one_object_a_line_with_the_value_for_programs() {
        let rows = [vec![Cell::new("a"), Cell::shown_as("12 k", 12_000)], vec![Cell::new("b"), Cell::new(Value::Null)]];
        assert_eq!(text(&rows, true), "{\"client\":\"a\",\"files\":12000}\n{\"client\":\"b\",\"files\":null}\n");
    }

    #[test]
    fn a_name_cannot_write_to_the_terminal() {
        let shown = text(&[vec![Cell::new("\u{1b}[2Jx\n"), Cell::new(1)]], false);
        assert!(shown.contains("\\u{1b}[2Jx\\u{a}"), "{shown}");
    }
}
