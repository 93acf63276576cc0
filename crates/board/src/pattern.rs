//! Patterns over names: what a client follows of a board.
//!
//! A pattern is an exact name, or a prefix written with a trailing `*`; `*` alone is the whole board. A `*` anywhere
//! else stands for itself, so a name that itself ends in `*` can be followed only through a prefix.
//!
//! A pattern may be narrowed to a part of what it is written as, for who may not see all of it ([`Pattern::narrowed`]). What
//! is followed through it is then a board of its own, as far as its client can tell: the epoch that it is told, and the cursors
//! that it brings back, are of that part alone. So whoever is given another part later begins anew, instead of missing for ever
//! what it was not shown before.

use crate::index::{NAME_BYTES_MAX, Name};
use crate::version::Epoch;
use bytes::Bytes;
use std::sync::Arc;
use thiserror::Error;

/// Which names of a board are meant. Two patterns are equal when they were written equally, and narrowed to the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    written: Name,
    /// Of these alone, each a part of what is written, and none of another; sorted. `None`: all of it.
    within: Option<Arc<[Name]>>,
}

impl Pattern {
    /// Reads a pattern as it is written by people and peers.
    ///
    /// # Errors
    /// When its literal part is longer than [`NAME_BYTES_MAX`]: no name could match it.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Pattern, PatternError> {
        let text = text.as_ref();
        let pattern = Pattern { written: Bytes::copy_from_slice(text), within: None };
        let literal_bytes = pattern.prefix().len();
        if literal_bytes > NAME_BYTES_MAX {
            return Err(PatternError::TooLong { literal_bytes });
        }
        Ok(pattern)
    }

    /// The pattern of the whole board.
    pub fn all() -> Pattern {
        Pattern { written: Bytes::from_static(b"*"), within: None }
    }

    /// The part of this pattern that is in one of `allowed` as well; `None` where there is no such name.
    pub fn narrowed(self, allowed: &[Pattern]) -> Option<Pattern> {
        if allowed.iter().any(|allowed| allowed.covers(&self)) {
            return Some(self);
        }
        // Prefixes lie one in the other, or apart.
        let inner: Vec<&Pattern> = allowed.iter().filter(|allowed| self.covers(allowed)).collect();
        // None in another, so that their names follow each other in this order.
        let outermost = |one: &&&Pattern| !inner.iter().any(|other| other.covers(one) && other.written != one.written);
        let mut within: Vec<Name> = inner.iter().filter(outermost).map(|one| one.written.clone()).collect();
        within.sort();
        within.dedup();
        (!within.is_empty()).then(|| Pattern { within: Some(within.into()), ..self })
    }

    /// Whether every name of `other`, as it is written, is one of this pattern, as it is written.
    fn covers(&self, other: &Pattern) -> bool {
        match (self.is_exact(), other.is_exact()) {
            (true, true) => self.written == other.written,
            (true, false) => false,
            (false, _) => other.prefix().starts_with(self.prefix()),
        }
    }

    /// Whether `name` is meant.
    pub fn matches(&self, name: &[u8]) -> bool {
        match &self.within {
            None => written_matches(&self.written, name),
            Some(within) => within.iter().any(|written| written_matches(written, name)),
        }
    }

    /// The pattern as it is written, `*` included, whatever it was narrowed to.
    pub fn as_bytes(&self) -> &[u8] {
        &self.written
    }

    /// The pattern without its `*`: the name of an exact one, what all names of another begin with.
    pub fn prefix(&self) -> &[u8] {
        self.written.strip_suffix(b"*").unwrap_or(&self.written)
    }

    /// Whether exactly one name is meant, as it is written.
    pub fn is_exact(&self) -> bool {
        !self.written.ends_with(b"*")
    }

    /// What it consists of, as written, in the order of the names.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let (whole, parts) = match &self.within {
            None => (Some(self.as_bytes()), &[][..]),
            Some(within) => (None, &within[..]),
        };
        whole.into_iter().chain(parts.iter().map(|part| &part[..]))
    }

    /// What the board's epoch is called for followers of this pattern, and back again: the same where it was not narrowed.
    pub fn disguised(&self, epoch: Epoch) -> Epoch {
        let Some(within) = &self.within else { return epoch };
        // FNV-1a: nobody gains by finding two parts of equal sums, since a cursor says only what its client claims to have seen.
        let mut sum: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        for written in within.iter() {
            let length = (written.len() as u64).to_le_bytes();
            for byte in length.iter().chain(written.iter()) {
                sum = (sum ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
            }
        }
        epoch ^ sum
    }
}

fn written_matches(written: &[u8], name: &[u8]) -> bool {
    match written.strip_suffix(b"*") {
        None => name == written,
        Some(prefix) => name.starts_with(prefix),
    }
}

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    /// No name is that long.
    #[error("a pattern of {literal_bytes} bytes matches nothing: names have at most {NAME_BYTES_MAX}; shorten it")]
    TooLong {
        /// The length of the pattern without its `*`, in bytes.
        literal_bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn exact_prefix_and_all_mean_what_they_say() {
        assert!(pattern("a/b").matches(b"a/b") && !pattern("a/b").matches(b"a/b/c") && !pattern("a/b").matches(b"a/"));
        assert!(pattern("a/*").matches(b"a/") && pattern("a/*").matches(b"a/b") && !pattern("a/*").matches(b"a"));
        assert!(Pattern::all().matches(b"") && Pattern::all().matches(b"\xff\x00"));
        assert!(pattern("").is_exact() && pattern("").matches(b"") && !pattern("").matches(b"a"));
        assert!(pattern("a*b").is_exact() && pattern("a*b").matches(b"a*b"));
        assert!(pattern("a**").matches(b"a*") && pattern("a**").matches(b"a*b") && !pattern("a**").matches(b"ab"));
    }

    #[test]
    fn the_longest_pattern_passes_and_one_byte_more_does_not() {
        let longest = vec![b'n'; NAME_BYTES_MAX];
        assert!(Pattern::parse(&longest).unwrap().is_exact());
        assert!(!Pattern::parse([&longest[..], b"*"].concat()).unwrap().is_exact());
        let literal_bytes = NAME_BYTES_MAX + 1;
        assert_eq!(Pattern::parse([&longest[..], b"n"].concat()), Err(PatternError::TooLong { literal_bytes }));
    }

    #[test]
    fn a_narrowed_pattern_means_what_both_mean_and_calls_its_epoch_otherwise() {
        let allowed = |texts: &[&str]| texts.iter().map(|text| pattern(text)).collect::<Vec<_>>();
        let all = || Pattern::all();
        // Wholly allowed: nothing changes.
        for (text, by) in [("a/*", "*"), ("a/*", "a/*"), ("a/b", "a/*"), ("a", "a"), ("a/b*", "a/*")] {
            assert_eq!(pattern(text).narrowed(&allowed(&["x", by])), Some(pattern(text)), "{text} by {by}");
        }
        let part = all().narrowed(&allowed(&["a/*", "b"])).unwrap();
        assert!(part.matches(b"a/x") && part.matches(b"b") && !part.matches(b"b/") && !part.matches(b"c"));
        assert!(part != all() && part.as_bytes() == b"*");
        let parts = ["a/*", "b", "*"].map(|text| all().narrowed(&allowed(&[text])).unwrap().disguised(7));
        assert!(parts[2] == 7 && parts[0] != 7 && parts[0] != parts[1] && part.disguised(7) != parts[0]);
        assert_eq!(part.disguised(part.disguised(7)), 7);
        // The order and the repetitions of what is allowed say nothing.
        assert_eq!(all().narrowed(&allowed(&["b", "a/*", "b"])), Some(part));
        for (text, by) in [("a", "b"), ("a/*", "b/*"), ("a", "a/*"), ("a*", "b"), ("a", "")] {
            assert_eq!(pattern(text).narrowed(&allowed(&[by])), None, "{text} by {by}");
        }
        assert_eq!(all().narrowed(&[]), None);
    }

    proptest! {
        #[test]
        fn what_is_narrowed_matches_exactly_what_both_match(
            written in "[ab]{0,3}\\*?", by in proptest::collection::vec("[ab]{0,3}\\*?", 0..4), name in "[ab]{0,5}",
        ) {
            let allowed: Vec<Pattern> = by.iter().map(|text| pattern(text)).collect();
            let both = pattern(&written).matches(name.as_bytes())
                && allowed.iter().any(|allowed| allowed.matches(name.as_bytes()));
            let narrowed = pattern(&written).narrowed(&allowed);
            prop_assert_eq!(narrowed.is_some_and(|narrowed| narrowed.matches(name.as_bytes())), both);
        }

        #[test]
        fn a_prefix_matches_exactly_what_starts_with_it(literal in proptest::collection::vec(97u8..100, 0..4),
                                                        name in proptest::collection::vec(97u8..100, 0..6)) {
            let exact = Pattern::parse(&literal).unwrap();
            let prefix = Pattern::parse([&literal[..], b"*"].concat()).unwrap();
            prop_assert_eq!(exact.matches(&name), name == literal);
            prop_assert_eq!(prefix.matches(&name), name.get(..literal.len()) == Some(&literal[..]));
            prop_assert!(Pattern::all().matches(&name));
            prop_assert_eq!(Pattern::parse(prefix.as_bytes()).unwrap(), prefix);
        }
    }
}
