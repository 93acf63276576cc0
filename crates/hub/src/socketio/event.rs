//! Events as clients send them: a name and arguments, each JSON or bytes.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value as Json;
use socketioxide::adapter::Adapter;
use socketioxide::extract::AckSender;
use socketioxide::handler::FromMessageParts;
use socketioxide::socket::Socket;
use socketioxide_core::Value;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

/// An event, as far as it was understood.
pub(super) struct Event {
    pub(super) name: String,
    pub(super) args: Vec<Arg>,
    /// Whether the client waits for an acknowledgement.
    pub(super) asks: bool,
    pub(super) ack: AckSender,
    /// What it counts for while it waits.
    pub(super) bytes: usize,
}

/// One argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Arg {
    Json(Json),
    Bytes(Bytes),
}

/// Name and arguments out of a packet.
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) args: Vec<Arg>,
    pub(super) asks: bool,
    pub(super) bytes: usize,
}

impl<A: Adapter> FromMessageParts<A> for Parts {
    type Error = Infallible;

    fn from_message_parts(_: &Arc<Socket<A>>, value: &mut Value, ack: &Option<i64>) -> Result<Self, Infallible> {
        let asks = ack.is_some();
        let Value::Str(text, attachments) = value else {
            return Ok(Parts { name: String::new(), args: Vec::new(), asks, bytes: 0 });
        };
        let mut attachments = std::mem::take(attachments).unwrap_or_default();
        let bytes = text.len() + attachments.iter().map(Bytes::len).sum::<usize>();
        let (name, args) = parse(text, &mut attachments).unwrap_or_default();
        Ok(Parts { name, args, asks, bytes })
    }
}

/// `["name", arg, ...]`; an argument that is a placeholder stands for the next attachment. `None`: not understood.
fn parse(text: &str, attachments: &mut VecDeque<Bytes>) -> Option<(String, Vec<Arg>)> {
    let mut args = serde_json::from_str::<Vec<Json>>(text).ok()?.into_iter();
    let Some(Json::String(name)) = args.next() else { return None };
    let arg = |json: Json| match is_placeholder(&json) {
        true => attachments.pop_front().map(Arg::Bytes),
        false => Some(Arg::Json(json)),
    };
    let args = args.map(arg).collect::<Option<Vec<Arg>>>()?;
    // Bytes deep inside JSON are no value that others could read.
    attachments.is_empty().then_some((name, args))
}

fn is_placeholder(json: &Json) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Placeholder {
        #[serde(rename = "_placeholder")]
        placeholder: bool,
        #[serde(rename = "num")]
        _num: u64,
    }
    Placeholder::deserialize(json).is_ok_and(|p| p.placeholder)
}

impl Event {
    /// The argument at `index`, where it is JSON.
    pub(super) fn json(&self, index: usize) -> Option<&Json> {
        match self.args.get(index) {
            Some(Arg::Json(json)) => Some(json),
            _ => None,
        }
    }

    /// The argument at `index`, where it is a text.
    pub(super) fn text(&self, index: usize) -> Option<&str> {
        self.json(index).and_then(Json::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(text: &str, attachments: &[&'static [u8]]) -> Option<(String, Vec<Arg>)> {
        parse(text, &mut attachments.iter().map(|a| Bytes::from_static(a)).collect())
    }

    #[test]
    fn arguments_are_json_or_bytes_in_their_order() {
        let (name, args) = parsed(r#"["put","a",{"_placeholder":true,"num":0},{"k":1}]"#, &[b"\x00\xff"]).unwrap();
        assert_eq!(name, "put");
        assert_eq!(
            args,
            [Arg::Json(json!("a")), Arg::Bytes(Bytes::from_static(b"\x00\xff")), Arg::Json(json!({"k": 1}))]
        );
        // A first key with an escape, as Python writes every letter beyond ASCII.
        let (_, args) = parsed(r#"["put","a",{"\u00e4":1}]"#, &[]).unwrap();
        assert_eq!(args[1], Arg::Json(json!({"ä": 1})));
    }

    #[test]
    fn what_is_no_event_is_not_understood() {
        for text in ["{}", "[]", "[7]", "x", r#"["put",{"_placeholder":true,"num":0}]"#] {
            assert_eq!(parsed(text, &[]), None, "{text}");
        }
        assert_eq!(parsed(r#"["put","a",{"deep":{"_placeholder":true,"num":0}}]"#, &[b"x"]), None);
    }
}
