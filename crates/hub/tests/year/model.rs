//! What should be: who is known, what stands on the board, which tokens are good, and what is on record.

use crate::machine::Values;
use std::collections::BTreeMap;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// What is in a backup, and what the hub has when it was put back.
#[derive(Clone, Default)]
pub(crate) struct Model {
    /// Whether each was revoked.
    pub(crate) clients: BTreeMap<u64, bool>,
    pub(crate) values: Values,
    pub(crate) tokens: Vec<Token>,
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) secret: String,
    pub(crate) made_ms: i64,
    pub(crate) expires_ms: i64,
}

impl Token {
    /// Whether it lets in; `None` where that is a matter of moments.
    pub(crate) fn is_good(&self, now_ms: i64) -> Option<bool> {
        // One that is of tomorrow is believed, not one of later.
        let ends = [self.made_ms - DAY_MS, self.expires_ms];
        let near = ends.iter().any(|end| (now_ms - end).abs() < DAY_MS / 24);
        (!near).then_some((ends[0]..ends[1]).contains(&now_ms))
    }
}

/// How often each event is on record, of whom.
pub(crate) type Record = BTreeMap<(String, u64), u64>;

/// Adds one.
pub(crate) fn note(record: &mut Record, event: &str, id: u64) {
    *record.entry((event.to_owned(), id)).or_default() += 1;
}
