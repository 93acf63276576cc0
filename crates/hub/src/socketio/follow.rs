//! One follow of a client: batches of the board as events, and the cursor behind each.

use super::payload::{Value, name_text};
use crate::cursor::Passage;
use board::{Batch, Cursor, Follower, Limits, Mark, Pattern, Record, Version};
use serde::Serialize;
use serde_json::{Value as Json, json};
use wire::codec::decode_stored;
use wire::message::{Content, Stored};

/// What one batch holds at most: it waits as a whole in a buffer that has room for `engine::BUFFER_EVENTS`.
const LIMITS: Limits = Limits { entries: 128, bytes: 64 << 10 };

/// Something followed.
pub(super) struct Follow {
    pub(super) board: &'static str,
    /// Tells of clients by `client` instead of `value` and `gone`.
    clients: bool,
    follower: Follower,
    passage: Passage,
    /// The client does not know yet that what it holds counts no longer.
    resets: bool,
    /// Entries that the walk under way has sent.
    walked: u64,
}

/// A batch as events, in their order.
pub(super) struct Round {
    pub(super) events: Vec<Told>,
    pub(super) end: End,
    /// The event's name for [`Round::end`].
    pub(super) end_name: &'static str,
    /// Where the client stands with it.
    pub(super) version: Version,
    pub(super) current: bool,
    /// At least so many bytes go over the line for it.
    pub(super) bytes: u64,
}

/// One change.
pub(super) enum Told {
    Reset(Json),
    Value(Box<Value>),
    Gone(Json),
    Client(Json),
}

/// The end of a batch: `current` when nothing newer is known, else `cursor`.
#[derive(Serialize)]
pub(super) struct End {
    board: &'static str,
    pattern: String,
    /// What to come back with.
    cursor: String,
    /// Versions that this client was not sent, since newer ones replaced them.
    pub(super) conflated: u64,
}

impl Follow {
    /// Begins where `cursor` says, if it is of any use; `clients` tells of clients instead of values.
    pub(super) fn new(
        board: &'static str,
        of: &board::Board,
        pattern: Pattern,
        cursor: Option<Cursor>,
        clients: bool,
    ) -> Follow {
        let follower = Follower::new(of, pattern, cursor.clone());
        let passage = Passage::begin(board, &follower, cursor);
        let resets = follower.start().reset;
        Follow { board, clients, follower, passage, resets, walked: 0 }
    }

    /// What is followed.
    pub(super) fn pattern(&self) -> &Pattern {
        self.follower.pattern()
    }

    /// All of `data`, or all that its client may have of it.
    pub(super) fn is_all_data(&self) -> bool {
        self.board == "data" && self.pattern().as_bytes() == Pattern::all().as_bytes()
    }

    /// What comes next; `None` at the head.
    pub(super) fn next(&mut self) -> Option<Round> {
        let batch = self.follower.next(LIMITS)?;
        let (current, skipped) = self.note(&batch);
        let bytes = batch.records.iter().map(|r| (r.name.len() + r.value.as_ref().map_or(0, |v| v.len())) as u64).sum();
        let mut events = Vec::with_capacity(batch.records.len() + 1);
        let pattern = name_text(self.pattern().as_bytes());
        if std::mem::take(&mut self.resets) && !self.clients {
            events.push(Told::Reset(json!({ "board": self.board, "pattern": pattern })));
        }
        events.extend(batch.records.into_iter().map(|record| self.told(record)));
        let mut version = self.passage.cursor().version;
        version.epoch = self.pattern().disguised(version.epoch);
        let end = End { board: self.board, pattern, cursor: self.passage.text(), conflated: skipped };
        Some(Round { events, end, end_name: if current { "current" } else { "cursor" }, version, current, bytes })
    }

    /// The client is behind `batch` then. Whether that is the head, and how many versions were left out.
    fn note(&mut self, batch: &Batch) -> (bool, u64) {
        let before = self.passage.cursor().version.seq;
        let walked = self.passage.cursor().walk.is_some();
        self.passage.passed_all(batch);
        // Of a part of the names it cannot be told: the versions of the others are none of this client's.
        let counts = *self.follower.pattern() == Pattern::all();
        match &batch.mark {
            Mark::Live { to, current, .. } => {
                let skipped = to.saturating_sub(before).saturating_sub(batch.records.len() as u64);
                (*current && self.passage.cursor().seen == *to, if counts { skipped } else { 0 })
            }
            Mark::Walk { head, last, reset, .. } => {
                let sent = batch.records.iter().filter(|record| record.seq <= *head).count() as u64;
                self.walked = if walked { self.walked + sent } else { sent };
                let skipped = head.saturating_sub(before).saturating_sub(self.walked);
                (false, if *last && counts && !reset { skipped } else { 0 })
            }
        }
    }

    fn told(&self, record: Record) -> Told {
        let Record { name, seq, value, .. } = record;
        let Some(value) = value else {
            return match self.clients {
                true => Told::Client(json!({ "id": client_id(&name), "active": false })),
                false => Told::Gone(json!({ "board": self.board, "name": name_text(&name), "version": seq })),
            };
        };
        if self.clients {
            return Told::Client(client(&value));
        }
        let stored = match self.board {
            "data" => decode_stored(&value).ok(),
            _ => None,
        };
        let stored = stored.unwrap_or_else(|| {
            let content = Content { content_type: "application/json".into(), bytes: value };
            Stored { content, by: 0, at_ms: 0 }
        });
        Told::Value(Box::new(Value::of(self.board, &name, seq, stored)))
    }
}

/// A client that is here, as `fleet` has it.
pub(super) fn client(value: &[u8]) -> Json {
    let mut client: Json = serde_json::from_slice(value).unwrap_or_default();
    if let Json::Object(fields) = &mut client {
        fields.insert("active".into(), true.into());
    }
    client
}

/// The id in a name of `fleet`.
fn client_id(name: &[u8]) -> Json {
    let digits = name.strip_prefix(b"client/").and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse::<u64>().ok()).map_or(Json::Null, Json::from)
}
