//! Patterns over names: what a client follows of a board.
//!
//! A pattern is an exact name, or a prefix written with a trailing `*`; `*` alone is the whole board. A `*` anywhere
//! else stands for itself, so a name that itself ends in `*` can be followed only through a prefix.

use crate::index::{NAME_BYTES_MAX, Name};
use bytes::Bytes;
use thiserror::Error;

/// Which names of a board are meant. Two patterns are equal when they were written equally.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Name);

impl Pattern {
    /// Reads a pattern as it is written by people and peers.
    ///
    /// # Errors
    /// When its literal part is longer than [`NAME_BYTES_MAX`]: no name could match it.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Pattern, PatternError> {
        let text = text.as_ref();
        let pattern = Pattern(Bytes::copy_from_slice(text));
        let literal_bytes = pattern.prefix().len();
        if literal_bytes > NAME_BYTES_MAX {
            return Err(PatternError::TooLong { literal_bytes });
        }
        Ok(pattern)
    }

    /// The pattern of the whole board.
    pub fn all() -> Pattern {
        Pattern(Bytes::from_static(b"*"))
    }

    /// Whether `name` is meant.
    pub fn matches(&self, name: &[u8]) -> bool {
        if self.is_exact() { name == self.as_bytes() } else { name.starts_with(self.prefix()) }
    }

    /// The pattern as it is written, `*` included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The pattern without its `*`: the name of an exact one, what all names of another begin with.
    pub fn prefix(&self) -> &[u8] {
        self.0.strip_suffix(b"*").unwrap_or(&self.0)
    }

    /// Whether exactly one name is meant.
    pub fn is_exact(&self) -> bool {
        !self.0.ends_with(b"*")
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

    proptest! {
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
