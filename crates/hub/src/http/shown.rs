//! How a value stands in JSON, by one rule for lists, long polls and event streams:
//!
//! - `encoding: "json"`, and `value` is that JSON, where the content type says JSON (`application/json`, or one that
//!   ends in `+json`) and the bytes are JSON, nested at most 127 deep;
//! - `encoding: "text"`, and `value` is a string, where the bytes are UTF-8;
//! - `encoding: "base64"`, and `value` is the bytes in base64, everywhere else.
//!
//! A name is text in the same way: `name_encoding` is `text` or `base64`. `path` is always the address of the value.

use super::percent;
use crate::clock;
use board::Record;
use data_encoding::BASE64;
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use wire::codec::decode_stored;
use wire::message::Stored;

/// Below this path stand the values.
pub(super) const PATH: &str = "/api/values/";

/// A name, for all that tells of one.
#[derive(Serialize)]
pub(super) struct Named<'a> {
    name: Cow<'a, str>,
    name_encoding: Encoding,
    path: String,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Json,
    Text,
    Base64,
}

/// A value with all that is known of it.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    #[serde(flatten)]
    named: Named<'a>,
    version: String,
    content_type: &'a str,
    changed_by: u64,
    changed_at: String,
    size: usize,
    encoding: Encoding,
    value: Box<RawValue>,
}

/// A name that has no value any more.
#[derive(Serialize)]
pub(super) struct Gone<'a> {
    #[serde(flatten)]
    named: Named<'a>,
    gone: bool,
}

impl<'a> Named<'a> {
    pub(super) fn new(name: &'a [u8]) -> Named<'a> {
        let path = format!("{PATH}{}", percent::path(name));
        match std::str::from_utf8(name) {
            Ok(text) => Named { name: Cow::Borrowed(text), name_encoding: Encoding::Text, path },
            Err(_) => Named { name: Cow::Owned(BASE64.encode(name)), name_encoding: Encoding::Base64, path },
        }
    }
}

/// An entry of the board as one line of JSON, and whether it is a value; `None` for one that cannot be read.
pub(super) fn json(epoch: u128, record: &Record) -> Option<(bool, Box<RawValue>)> {
    let named = Named::new(&record.name);
    let Some(bytes) = &record.value else {
        return Some((false, raw(&Gone { named, gone: true })?));
    };
    let stored = decode_stored(bytes).ok()?;
    let Stored { content, by, at_ms } = &stored;
    let (encoding, value) = value(&content.content_type, &content.bytes)?;
    let shown = Shown {
        named,
        version: crate::data::tag(epoch, record.seq, bytes),
        content_type: &content.content_type,
        changed_by: *by,
        changed_at: clock::rfc3339(*at_ms),
        size: content.bytes.len(),
        encoding,
        value,
    };
    Some((true, raw(&shown)?))
}

fn value(content_type: &str, bytes: &[u8]) -> Option<(Encoding, Box<RawValue>)> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Some((Encoding::Base64, raw(&BASE64.encode(bytes))?));
    };
    // Looked at as a value first: that bounds how deep it is nested, for the sake of its readers.
    if is_json(content_type) && serde_json::from_str::<serde_json::Value>(text).is_ok() {
        // Blank outside of strings, and strings hold none: so it is one line.
        let line = text.replace(['\n', '\r'], " ");
        return Some((Encoding::Json, RawValue::from_string(line).ok()?));
    }
    Some((Encoding::Text, raw(&text)?))
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

fn raw(of: &impl Serialize) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(of).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use wire::codec::encode_stored;
    use wire::message::Content;

    fn shown(name: &[u8], content_type: &str, bytes: &[u8]) -> serde_json::Value {
        let content = Content { content_type: content_type.into(), bytes: Bytes::copy_from_slice(bytes) };
        let value = encode_stored(&Stored { content, by: 7, at_ms: 0 }).unwrap();
        let name = Bytes::copy_from_slice(name);
        let record = Record { name, seq: 3, value: Some(value), aside: Bytes::new() };
        let (is_value, json) = json(1, &record).unwrap();
        assert!(is_value && !json.get().contains(['\n', '\r']));
        serde_json::from_str(json.get()).unwrap()
    }

    #[test]
    fn json_is_json_text_is_text_and_all_else_base64() {
        let of = |content_type: &str, bytes: &[u8]| {
            let shown = shown(b"n", content_type, bytes);
            (shown["encoding"].as_str().unwrap().to_owned(), shown["value"].clone())
        };
        assert_eq!(of("application/json", b"{\"a\":\r\n [1]}"), ("json".into(), serde_json::json!({"a": [1]})));
        assert_eq!(of("application/geo+JSON; v=1", b"1"), ("json".into(), serde_json::json!(1)));
        assert_eq!(of("application/json", b"{"), ("text".into(), "{".into()));
        assert_eq!(of("application/json", "[".repeat(200).as_bytes()).0, "text");
        assert_eq!(of("application/json", format!("{}{}", "[".repeat(200), "]".repeat(200)).as_bytes()).0, "text");
        assert_eq!(of("text/plain", b"1"), ("text".into(), "1".into()));
        assert_eq!(of("text/plain", b"\xff"), ("base64".into(), "/w==".into()));
        // Digits that no floating-point number holds stay as they are.
        let long = b"123456789012345678901234567890.5";
        let content = Content { content_type: "application/json".into(), bytes: Bytes::from_static(long) };
        assert_eq!(value(&content.content_type, &content.bytes).unwrap().1.get().as_bytes(), long);
    }

    #[test]
    fn a_name_that_is_no_text_is_told_in_base64() {
        let shown = shown(b"\xff/ ", "a/b", b"");
        assert_eq!((shown["name"].as_str(), shown["name_encoding"].as_str()), (Some("/y8g"), Some("base64")));
        assert_eq!(shown["path"], "/api/values/%FF/%20");
        assert_eq!((shown["size"].as_u64(), shown["changed_by"].as_u64()), (Some(0), Some(7)));
    }
}
