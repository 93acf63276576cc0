//! What happened, as a command reads it: one line of JSON each, in ASCII, so that no name of a client can end a line, move a
//! cursor or be taken for anything but a text.

use super::OnEvent;
use crate::clock;
use mirror::after::Batch;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;

/// Most events that are kept apart for one run; of the others it is told how many there were.
const EVENTS_MAX: usize = 10_000;
/// The longest sentence that is kept.
const WHY_BYTES_MAX: usize = 1024;
/// Ids, and shares, that are named in a variable: an environment has room for so much and no more.
const IN_VARIABLE_MAX: usize = 1000;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) event: OnEvent,
    pub(crate) at_ms: i64,
    /// To which client; `None`: at the hub.
    pub(crate) id: Option<u64>,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) transport: &'static str,
    /// Where the other machine of a double id is.
    pub(crate) other_address: String,
    /// The share, or what of the values.
    pub(crate) what: String,
    /// `what` is a share of this hub.
    pub(crate) is_share: bool,
    /// Since when, where that is another time.
    pub(crate) since_ms: Option<i64>,
    /// Deletions that are held.
    pub(crate) deletions: Option<u64>,
    /// One sentence, as [`Happened::new`] cut it.
    pub(crate) why: String,
}

impl Happened {
    /// Something that happened now.
    pub(crate) fn new(event: OnEvent, why: &str) -> Happened {
        Happened {
            event,
            at_ms: clock::now_ms(),
            id: None,
            name: String::new(),
            address: String::new(),
            transport: "",
            other_address: String::new(),
            what: String::new(),
            is_share: false,
            since_ms: None,
            deletions: None,
            why: why[..why.floor_char_boundary(WHY_BYTES_MAX)].to_owned(),
        }
    }
}

/// What gathers for the next run: of what happens again and again to the same client, the last time and how often.
#[derive(Debug, Default)]
pub(super) struct Happenings {
    each: BTreeMap<(Option<u64>, bool, String), (Happened, u64)>,
    /// What found no room.
    others: u64,
    event: Option<OnEvent>,
}

impl Happenings {
    pub(super) fn insert(&mut self, happened: Happened) {
        self.event = Some(happened.event);
        let key = (happened.id, happened.is_share, happened.what.clone());
        if let Some((last, times)) = self.each.get_mut(&key) {
            (*last, *times) = (happened, *times + 1);
        } else if self.each.len() < EVENTS_MAX {
            self.each.insert(key, (happened, 1));
        } else {
            self.others += 1;
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    address: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    other_address: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    transport: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    what: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletions: Option<u64>,
    why: &'a str,
    times: u64,
}

#[derive(Serialize)]
struct Others {
    event: &'static str,
    others: u64,
}

impl Batch for Happenings {
    fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    fn len(&self) -> u64 {
        self.each.values().map(|(_, times)| times).sum::<u64>() + self.others
    }

    fn lines(&self) -> Box<dyn Iterator<Item = Vec<u8>> + '_> {
        let each = self.each.values().map(|(happened, times)| {
            line(&Line {
                event: happened.event.as_str(),
                at: clock::rfc3339(happened.at_ms),
                id: happened.id,
                name: &happened.name,
                address: &happened.address,
                other_address: &happened.other_address,
                transport: happened.transport,
                what: &happened.what,
                since: happened.since_ms.map(clock::rfc3339),
                deletions: happened.deletions,
                why: &happened.why,
                times: *times,
            })
        });
        let others = self.event.filter(|_| self.others > 0);
        Box::new(each.chain(others.map(|event| line(&Others { event: event.as_str(), others: self.others }))))
    }

    /// Only what nobody but the hub has a say in: ids, and names of its own shares.
    fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut ids: Vec<u64> = self.each.keys().filter_map(|(id, ..)| *id).collect();
        ids.dedup();
        let ids: Vec<String> = ids.iter().take(IN_VARIABLE_MAX).map(u64::to_string).collect();
        let shares = self.each.values().filter(|(happened, _)| happened.is_share);
        let mut shares: Vec<&str> = shares.map(|(happened, _)| happened.what.as_str()).collect();
        shares.sort_unstable();
        shares.dedup();
        shares.truncate(IN_VARIABLE_MAX);
        vec![
            ("LOCKSTEP_EVENTS", self.len().to_string().into()),
            ("LOCKSTEP_CLIENT", ids.join(" ").into()),
            ("LOCKSTEP_SHARE", shares.join(" ").into()),
        ]
    }
}

/// One line of JSON in printable ASCII.
fn line(what: &impl Serialize) -> Vec<u8> {
    // Of texts and numbers there is always JSON; should there be none, the line says so.
    let json = serde_json::to_string(what).unwrap_or_else(|_| r#"{"event":"unknown"}"#.to_owned());
    let mut line = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if matches!(c, ' '..='~') {
            line.push(c);
        } else {
            // Only within texts: all else is ASCII. Writing to memory does not fail.
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write!(line, "\\u{unit:04x}").unwrap_or(()));
        }
    }
    line.push('\n');
    line.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(id: u64, name: &str) -> Happened {
        Happened { id: Some(id), name: name.to_owned(), ..Happened::new(OnEvent::Away, "closed") }
    }

    fn told(happenings: &Happenings) -> Vec<String> {
        let bytes = happenings.lines().collect::<Vec<_>>().concat();
        String::from_utf8(bytes).unwrap().split_terminator('\n').map(str::to_owned).collect()
    }

    fn variable(happenings: &Happenings, name: &str) -> OsString {
        happenings.variables().into_iter().find(|(found, _)| *found == name).unwrap().1
    }

    const HOSTILE: &str = "a\nb\r\u{0}\u{85}\u{2028}\u{202e}\u{1b}[2J\"',$(x)`;\u{7f}é\u{1f600}";

    #[test]
    fn no_name_ends_a_line_or_reaches_a_terminal_and_each_reads_back_as_it_was() {
        let mut happenings = Happenings::default();
        happenings.insert(of(7, HOSTILE));
        let lines = told(&happenings);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", lines[0]);
        let read: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!((&read["name"], &read["id"], &read["event"]), (&HOSTILE.into(), &7.into(), &"away".into()));
        // The environment has nothing of it.
        assert_eq!(variable(&happenings, "LOCKSTEP_CLIENT"), "7");
        assert!(happenings.variables().iter().all(|(_, value)| !value.to_string_lossy().contains("$(x)")));
    }

    /// What the test above looks for is there where nothing is done about it.
    #[test]
    fn canary_json_as_it_comes_has_ends_of_lines_and_orders_for_terminals() {
        let plain = serde_json::to_string(HOSTILE).unwrap();
        assert!(plain.contains('\u{2028}') && plain.contains('\u{202e}') && plain.contains('\u{7f}'));
    }

    #[test]
    fn what_happens_again_is_one_line_and_what_is_too_much_is_counted() {
        let mut happenings = Happenings::default();
        assert!(happenings.is_empty());
        (0..3).for_each(|n| happenings.insert(of(7, &n.to_string())));
        let read: serde_json::Value = serde_json::from_str(&told(&happenings)[0]).unwrap();
        assert_eq!((&read["name"], &read["times"], happenings.len()), (&"2".into(), &3.into(), 3));
        (1..=EVENTS_MAX as u64 + 4).for_each(|id| happenings.insert(of(1000 + id, "")));
        let lines = told(&happenings);
        assert_eq!(lines.len(), EVENTS_MAX + 1);
        assert_eq!(lines[EVENTS_MAX], r#"{"event":"away","others":5}"#);
        assert_eq!(happenings.len(), 3 + EVENTS_MAX as u64 + 4);
        assert_eq!(variable(&happenings, "LOCKSTEP_CLIENT").to_string_lossy().split(' ').count(), IN_VARIABLE_MAX);
        assert_eq!(variable(&happenings, "LOCKSTEP_EVENTS"), (3 + EVENTS_MAX + 4).to_string().as_str());
        let taken = happenings.take();
        assert!(happenings.is_empty() && happenings.len() == 0 && !taken.is_empty());
    }

    #[test]
    fn a_long_sentence_is_cut_between_characters() {
        let why = "ü".repeat(WHY_BYTES_MAX);
        assert_eq!(Happened::new(OnEvent::Behind, &why).why.len(), WHY_BYTES_MAX);
        assert_eq!(Happened::new(OnEvent::Behind, &format!("a{why}")).why.len(), WHY_BYTES_MAX - 1);
    }
}
