//! The text of a page: families with their samples, labels escaped.

use super::families::{Family, Kind};
use crate::format::{put, steers};

/// Which of the two text formats a page is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flavour {
    /// What Prometheus has read from the beginning.
    #[default]
    Prometheus,
    /// OpenMetrics 1.0: a counter's family is named without `_total`, and the page has an end.
    OpenMetrics,
}

impl Flavour {
    /// What a client that says `accept` understands.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The media type of a page.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A page being written.
pub(super) struct Page<'a> {
    flavour: Flavour,
    out: &'a mut Vec<u8>,
    /// The family whose samples come next; its head is written with the first.
    name: String,
    head: Vec<u8>,
}

impl<'a> Page<'a> {
    pub(super) fn new(flavour: Flavour, out: &'a mut Vec<u8>) -> Self {
        Self { flavour, out, name: String::new(), head: Vec::new() }
    }

    /// The samples that follow are of this family. One without samples leaves nothing behind.
    pub(super) fn family(&mut self, family: &Family<'_>) {
        family.name.clone_into(&mut self.name);
        let shown = match (self.flavour, family.kind) {
            (Flavour::OpenMetrics, Kind::Counter) => family.name.strip_suffix("_total").unwrap_or(family.name),
            _ => family.name,
        };
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.head.clear();
        put(&mut self.head, format_args!("# HELP {shown} {}\n# TYPE {shown} {kind}\n", family.help));
    }

    pub(super) fn sample(&mut self, labels: &[(&str, &[u8])], value: f64) {
        self.out.append(&mut self.head);
        self.out.extend_from_slice(self.name.as_bytes());
        for (at, (name, value)) in labels.iter().enumerate() {
            put(self.out, format_args!("{}{name}=\"", if at == 0 { '{' } else { ',' }));
            put_label(self.out, value);
            self.out.push(b'"');
        }
        if !labels.is_empty() {
            self.out.push(b'}');
        }
        put(self.out, format_args!(" {value}\n"));
    }

    /// A family of one sample without labels.
    pub(super) fn one(&mut self, family: &Family<'_>, value: f64) {
        self.family(family);
        self.sample(&[], value);
    }

    pub(super) fn end(self) {
        if self.flavour == Flavour::OpenMetrics {
            self.out.extend_from_slice(b"# EOF\n");
        }
    }
}

/// A label's value: UTF-8, with what could steer a terminal and what is not UTF-8 as `%1b`, so that two names stay two.
fn put_label(out: &mut Vec<u8>, value: &[u8]) {
    let escape = |out: &mut Vec<u8>, bytes: &[u8]| bytes.iter().for_each(|byte| put(out, format_args!("%{byte:02x}")));
    for chunk in value.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\\' => out.extend_from_slice(b"\\\\"),
                '"' => out.extend_from_slice(b"\\\""),
                char if steers(char) || char == '%' => escape(out, char.encode_utf8(&mut [0; 4]).as_bytes()),
                char => put(out, format_args!("{char}")),
            }
        }
        escape(out, chunk.invalid());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_line_or_its_quotes() {
        let mut out = Vec::new();
        put_label(&mut out, b"a\"b\\c\nd\xff%\x1b<x>");
        assert_eq!(out, br#"a\"b\\c%0ad%ff%25%1b<x>"#);
    }

    #[test]
    fn openmetrics_is_for_who_asks_for_it() {
        assert_eq!(Flavour::accepted("*/*"), Flavour::Prometheus);
        assert_eq!(Flavour::accepted(""), Flavour::Prometheus);
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(Flavour::accepted(prometheus), Flavour::OpenMetrics);
    }
}
