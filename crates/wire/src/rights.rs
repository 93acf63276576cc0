//! What a client may: its role, and which values, shares and clients it may deal with.
//!
//! The default is everything a client could ever do: follow every value and share, put every value, see every client. An invite
//! hands its rights on to whoever enrols by it, and an administrator changes those of a known client. Lists hold patterns: a name,
//! or the beginning of names with `*` behind it; an empty one, `""`, is no name and gives nothing.

use crate::id::ClientId;
use crate::limits::{RIGHTS_PATTERNS_MAX, TAG_BYTES_MAX, TAGS_MAX, VALUE_NAME_BYTES_MAX};
use crate::message::Code;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The pattern of everything.
const ALL: &str = "*";

/// What a client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes part: gets what it may, puts what it may.
    #[default]
    Client,
    /// Only gets. What it says of itself, such as its vitals, is no putting.
    Observer,
    /// A client that may also do what the hub's own machine can: invite, revoke, change rights.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::Client, Role::Observer, Role::Admin];

    /// The one word for it, in tables, JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Client => "client",
            Role::Observer => "observer",
            Role::Admin => "admin",
        }
    }

    /// The role called so.
    pub fn parse(text: &str) -> Option<Role> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// Which clients somebody sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sees {
    /// All of them.
    #[default]
    All,
    /// None but itself.
    Itself,
}

impl Sees {
    /// All of them.
    pub const ALL: [Sees; 2] = [Sees::All, Sees::Itself];

    /// The one word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Sees::All => "all",
            Sees::Itself => "itself",
        }
    }

    /// What is called so.
    pub fn parse(text: &str) -> Option<Sees> {
        Self::ALL.into_iter().find(|sees| sees.as_str() == text)
    }
}

/// What a client may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// What it is.
    pub role: Role,
    /// The values it may follow and get; `None`: all.
    #[serde(deserialize_with = "crate::bounded::option_vec::<_, _, { crate::limits::CHANGE_LIST_MAX }>")]
    pub read: Option<Vec<String>>,
    /// The values it may put and remove, unless its role is [`Role::Observer`]; `None`: all.
    #[serde(deserialize_with = "crate::bounded::option_vec::<_, _, { crate::limits::CHANGE_LIST_MAX }>")]
    pub put: Option<Vec<String>>,
    /// The shares it may join; `None`: all.
    #[serde(deserialize_with = "crate::bounded::option_vec::<_, _, { crate::limits::CHANGE_LIST_MAX }>")]
    pub shares: Option<Vec<String>>,
    /// The clients it sees; a [`Role::Admin`] sees all.
    pub clients: Sees,
}

/// A change of some of the rights; `None` leaves as it is. A list with `*` in it is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RightsChange {
    /// The role.
    pub role: Option<Role>,
    /// What may be read.
    #[serde(deserialize_with = "crate::bounded::option_vec::<_, _, { crate::limits::CHANGE_LIST_MAX }>")]
    pub read: Option<Vec<String>>,
    /// What may be put.
    #[serde(deserialize_with = "crate::bounded::option_vec::<_, _, { crate::limits::CHANGE_LIST_MAX }>")]
    pub put: Option<Vec<String>>,
    /// What may be joined.
    #[serde(deserialize_with = "crate::bounded::option_vec::<_, _, { crate::limits::CHANGE_LIST_MAX }>")]
    pub shares: Option<Vec<String>>,
    /// Who is seen.
    pub clients: Option<Sees>,
}

/// Why rights, tags or a range of ids are not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadRights {
    /// Too many patterns.
    #[error("{0} patterns of {1}: at most {RIGHTS_PATTERNS_MAX} are allowed, so name what they have in common")]
    TooMany(usize, &'static str),
    /// A pattern that is none.
    #[error("a pattern of {0} has at most {max} bytes and no control characters", max = VALUE_NAME_BYTES_MAX + 1)]
    Pattern(&'static str),
    /// A `*` where it stands for itself, which nobody means.
    #[error("{text:?}: a pattern of {what} is a name, or the beginning of names with one * behind it, as price/*")]
    Star {
        /// Of what.
        what: &'static str,
        /// The pattern.
        text: String,
    },
    /// A tag that is none.
    #[error(
        "a tag has 1 to {TAG_BYTES_MAX} letters, digits, '.', '-', '_' or ':', and begins with a letter or a digit"
    )]
    Tag,
    /// Too many tags.
    #[error("a client has at most {TAGS_MAX} tags")]
    Tags,
    /// The range ends before it begins.
    #[error("a range of IDs is FIRST-LAST, and does not end before it begins: 100-199")]
    Range,
}

impl BadRights {
    /// What it is refused as.
    pub fn code(&self) -> Code {
        match self {
            BadRights::TooMany(..) | BadRights::Tags => Code::Limit,
            BadRights::Pattern(_) | BadRights::Star { .. } | BadRights::Tag | BadRights::Range => Code::Protocol,
        }
    }
}

/// Whether `*` stands nowhere in `pattern` but at its end. Elsewhere it is a character of a name, which nobody means who writes a
/// pattern by hand.
pub fn stars_at_the_end_alone(pattern: &str) -> bool {
    !pattern.strip_suffix('*').unwrap_or(pattern).contains('*')
}

impl Rights {
    /// Whether nothing is restricted or given beyond what every client has.
    pub fn are_plain(&self) -> bool {
        *self == Rights::default()
    }

    /// These rights with a change made.
    ///
    /// # Errors
    /// When the change holds what is no pattern, or too many.
    pub fn changed(&self, change: &RightsChange) -> Result<Rights, BadRights> {
        let list = |what, now: &Option<Vec<String>>, then: &Option<Vec<String>>| match then {
            None => Ok(now.clone()),
            Some(patterns) => patterns_of(what, patterns),
        };
        Ok(Rights {
            role: change.role.unwrap_or(self.role),
            read: list("values to read", &self.read, &change.read)?,
            put: list("values to put", &self.put, &change.put)?,
            shares: list("shares", &self.shares, &change.shares)?,
            clients: change.clients.unwrap_or(self.clients),
        })
    }
}

impl RightsChange {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == RightsChange::default()
    }
}

/// A list as it is kept: sorted, each once; `None` where everything is in it.
fn patterns_of(what: &'static str, given: &[String]) -> Result<Option<Vec<String>>, BadRights> {
    let fits = |text: &String| text.len() <= VALUE_NAME_BYTES_MAX + 1 && !text.contains(char::is_control);
    if !given.iter().all(fits) {
        return Err(BadRights::Pattern(what));
    }
    if let Some(text) = given.iter().find(|text| !stars_at_the_end_alone(text)) {
        return Err(BadRights::Star { what, text: text.clone() });
    }
    let mut patterns = given.to_vec();
    patterns.sort();
    patterns.dedup();
    if patterns.iter().any(|text| text == ALL) {
        return Ok(None);
    }
    if patterns.len() > RIGHTS_PATTERNS_MAX {
        return Err(BadRights::TooMany(patterns.len(), what));
    }
    Ok(Some(patterns))
}

/// The tags of a client after some were added and some taken away: sorted, each once.
///
/// # Errors
/// When one to be added is no tag, or there would be too many. Any may be taken away.
pub fn tags_changed(now: &[String], add: &[String], remove: &[String]) -> Result<Vec<String>, BadRights> {
    if !add.iter().all(|tag| is_tag(tag)) {
        return Err(BadRights::Tag);
    }
    let mut tags: Vec<String> = now.iter().filter(|tag| !remove.contains(tag)).chain(add).cloned().collect();
    tags.sort();
    tags.dedup();
    if tags.len() > TAGS_MAX { Err(BadRights::Tags) } else { Ok(tags) }
}

fn is_tag(tag: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    tag.len() <= TAG_BYTES_MAX && tag.starts_with(|c: char| c.is_ascii_alphanumeric()) && tag.bytes().all(fits)
}

/// Ids from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdRange {
    /// The first.
    pub first: ClientId,
    /// The last, not below the first.
    pub last: ClientId,
}

impl IdRange {
    /// A range.
    ///
    /// # Errors
    /// When it ends before it begins.
    pub fn new(first: ClientId, last: ClientId) -> Result<IdRange, BadRights> {
        if first <= last { Ok(IdRange { first, last }) } else { Err(BadRights::Range) }
    }

    /// One id alone.
    pub fn one(id: ClientId) -> IdRange {
        IdRange { first: id, last: id }
    }

    /// A range as people write it: `100-199`, or `7`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<IdRange, String> {
        let id = |text: &str| ClientId::parse(text).map_err(|bad| bad.to_string());
        match text.split_once('-') {
            Some((first, last)) => IdRange::new(id(first)?, id(last)?).map_err(|bad| bad.to_string()),
            None => Ok(IdRange::one(id(text)?)),
        }
    }

    /// Whether an id is in it.
    pub fn holds(&self, id: ClientId) -> bool {
        (self.first..=self.last).contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Option<Vec<String>> {
        Some(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn a_change_changes_what_it_names_and_a_star_is_everything() {
        let first =
            RightsChange { read: list(&["b", "a*", "b"]), role: Some(Role::Observer), ..RightsChange::default() };
        let rights = Rights::default().changed(&first).unwrap();
        assert_eq!((rights.read.clone(), rights.put.clone(), rights.role), (list(&["a*", "b"]), None, Role::Observer));
        let second = RightsChange { read: list(&["x", "*"]), put: list(&[""]), ..RightsChange::default() };
        let rights = rights.changed(&second).unwrap();
        assert_eq!((rights.read.clone(), rights.put.clone(), rights.role), (None, list(&[""]), Role::Observer));
        assert!(!rights.are_plain() && Rights::default().are_plain());
        assert_eq!(rights.changed(&RightsChange::default()), Ok(rights));
    }

    #[test]
    fn lists_are_bounded_and_one_past_each_limit_is_refused() {
        let names = |count| (0..count).map(|n| format!("n{n}")).collect::<Vec<_>>();
        let with = |read| Rights::default().changed(&RightsChange { read: Some(read), ..RightsChange::default() });
        assert!(with(names(RIGHTS_PATTERNS_MAX)).is_ok());
        assert!(matches!(with(names(RIGHTS_PATTERNS_MAX + 1)), Err(BadRights::TooMany(..))));
        assert!(with(vec!["x".repeat(VALUE_NAME_BYTES_MAX + 1)]).is_ok());
        for bad in ["x".repeat(VALUE_NAME_BYTES_MAX + 2), "a\nb".to_owned()] {
            assert!(matches!(with(vec![bad]), Err(BadRights::Pattern(_))));
        }
        for (pattern, good) in [("a*b", false), ("**", false), ("*a", false), ("a**", false), ("a*", true), ("", true)]
        {
            let taken = with(vec![pattern.to_owned()]);
            assert_eq!(taken.is_ok(), good, "{pattern}");
            assert!(good || matches!(taken, Err(BadRights::Star { .. })), "{pattern}");
        }
        assert!(tags_changed(&[], &names(TAGS_MAX), &[]).is_ok());
        assert_eq!(tags_changed(&[], &names(TAGS_MAX + 1), &[]), Err(BadRights::Tags));
        assert!(tags_changed(&[], &["x".repeat(TAG_BYTES_MAX)], &[]).is_ok());
        for bad in ["", "-a", "+a", "a b", "a\n", "ä", &"x".repeat(TAG_BYTES_MAX + 1)] {
            assert_eq!(tags_changed(&[], &[bad.to_owned()], &[]), Err(BadRights::Tag), "{bad}");
        }
        let now = ["b".to_owned(), "c".to_owned()];
        assert_eq!(tags_changed(&now, &["a".to_owned(), "b".to_owned()], &["c".to_owned()]).unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_range_is_two_ids_or_one() {
        let range = IdRange::parse("100-199").unwrap();
        let id = |id| ClientId::new(id).unwrap();
        assert!(range.holds(id(100)) && range.holds(id(199)) && !range.holds(id(200)) && !range.holds(id(99)));
        assert_eq!(IdRange::parse("7"), Ok(IdRange::one(id(7))));
        for bad in ["", "-", "9-8", "0-5", "a-b", "1-", "-1", "1-2-3", "1.5"] {
            assert!(IdRange::parse(bad).is_err(), "{bad}");
        }
    }
}
