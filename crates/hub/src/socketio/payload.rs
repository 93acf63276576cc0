//! Values between the board and Socket.IO: JSON as JSON, text as text, everything else as bytes.

use super::event::Arg;
use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::Value as Json;
use wire::message::{Content, Stored};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

/// A value's content as a client gets it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Payload {
    Json(Json),
    Text(String),
    Bytes(Bytes),
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Payload::Json(json) => json.serialize(serializer),
            Payload::Text(text) => text.serialize(serializer),
            Payload::Bytes(bytes) => serializer.serialize_bytes(bytes),
        }
    }
}

/// A value, as `value` tells it and `get` answers it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Value {
    pub(super) board: &'static str,
    pub(super) name: String,
    /// Grows with every change on the board.
    pub(super) version: u64,
    pub(super) content_type: String,
    /// Who put it: the id, 0 for the hub's own machine.
    pub(super) by: u64,
    /// When, milliseconds since the Unix epoch.
    pub(super) at_ms: i64,
    pub(super) payload: Payload,
}

impl Value {
    pub(super) fn of(board: &'static str, name: &[u8], version: u64, stored: Stored) -> Value {
        let Stored { content: Content { content_type, bytes }, by, at_ms } = stored;
        let payload = payload(&content_type, bytes);
        Value { board, name: name_text(name), version, content_type, by, at_ms, payload }
    }

    /// Packets that an event with it makes.
    pub(super) fn packets(&self) -> u32 {
        if matches!(self.payload, Payload::Bytes(_)) { 2 } else { 1 }
    }
}

/// A name as text. Clients of this transport put no others; of one that is no text the broken letters are replaced.
pub(super) fn name_text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn payload(content_type: &str, bytes: Bytes) -> Payload {
    let text = |bytes: Bytes| match String::from_utf8(bytes.into()) {
        Ok(text) => Payload::Text(text),
        Err(error) => Payload::Bytes(error.into_bytes().into()),
    };
    match essence(content_type) {
        // Put by others it may be called JSON without being it.
        essence if is_json(&essence) => serde_json::from_slice(&bytes).map_or_else(|_| text(bytes), Payload::Json),
        essence if essence.starts_with("text/") => text(bytes),
        _ => Payload::Bytes(bytes),
    }
}

/// What is put for an argument. A text is JSON only where its type says so; whatever else is JSON is so by itself.
pub(super) fn content(arg: &Arg, content_type: Option<&str>) -> Content {
    let of = |own: &str, bytes: Bytes| Content { content_type: content_type.unwrap_or(own).to_owned(), bytes };
    match arg {
        Arg::Bytes(bytes) => of(BYTES, bytes.clone()),
        Arg::Json(Json::String(text)) if !content_type.is_some_and(|t| is_json(&essence(t))) => {
            of(TEXT, text.clone().into())
        }
        Arg::Json(json) => of(JSON, json.to_string().into()),
    }
}

fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(essence: &str) -> bool {
    essence == JSON || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_put_comes_back_as_it_was() {
        for arg in [json!({"k": [1, 2.5, null]}), json!(7), json!(true), json!(null), json!([])].map(Arg::Json) {
            let Content { content_type, bytes } = content(&arg, None);
            assert_eq!(content_type, JSON);
            let Arg::Json(json) = arg else { unreachable!("made above") };
            assert_eq!(payload(&content_type, bytes), Payload::Json(json));
        }
        let text = content(&Arg::Json(json!("hällo")), None);
        assert_eq!(payload(&text.content_type, text.bytes), Payload::Text("hällo".into()));
        let json_text = content(&Arg::Json(json!("7")), Some("application/json"));
        assert_eq!(payload(&json_text.content_type, json_text.bytes), Payload::Json(json!("7")));
        let bytes = content(&Arg::Bytes(Bytes::from_static(b"\xff\0")), None);
        assert_eq!(payload(&bytes.content_type, bytes.bytes), Payload::Bytes(Bytes::from_static(b"\xff\0")));
    }

    #[test]
    fn what_is_not_what_its_type_says_still_arrives() {
        assert_eq!(payload("application/json", "{".into()), Payload::Text("{".into()));
        let broken = Bytes::from_static(b"\xff");
        assert_eq!(payload("text/plain", broken.clone()), Payload::Bytes(broken.clone()));
        assert_eq!(payload("APPLICATION/JSON ; charset=x", broken.clone()), Payload::Bytes(broken));
    }
}
