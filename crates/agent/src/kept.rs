//! What a keeper keeps: a share as a directory, or values as files.

use bytes::Bytes;
use std::fmt;
use wire::limits::VALUE_NAME_BYTES_MAX;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kept {
    /// The share of this name.
    Share(String),
    /// The values whose names match this pattern: a name, or the beginning of names with `*` behind it.
    Values(String),
}

impl Kept {
    /// The values of a pattern as it is typed.
    ///
    /// # Errors
    /// When no value could match it, or it is not one line of text.
    pub(crate) fn values(pattern: &str) -> Result<Kept, &'static str> {
        if pattern.is_empty() {
            return Err("a value's name is not empty; * stands for all values");
        }
        if pattern.strip_suffix('*').unwrap_or(pattern).len() > VALUE_NAME_BYTES_MAX {
            return Err("no value's name is that long");
        }
        if pattern.contains(char::is_control) {
            return Err("control characters cannot stand in it; name the beginning before them, with * behind it");
        }
        Ok(Kept::Values(pattern.to_owned()))
    }

    /// The share's name, or the pattern.
    pub fn name(&self) -> &str {
        match self {
            Kept::Share(name) | Kept::Values(name) => name,
        }
    }

    /// The board it is on.
    pub(crate) fn board(&self) -> String {
        match self {
            Kept::Share(name) => format!("share/{name}"),
            Kept::Values(_) => "data".to_owned(),
        }
    }

    /// What of that board it is.
    pub(crate) fn pattern(&self) -> Bytes {
        match self {
            Kept::Share(_) => Bytes::from_static(b"*"),
            Kept::Values(pattern) => Bytes::copy_from_slice(pattern.as_bytes()),
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kept::Share(name) => write!(f, "share {name}"),
            Kept::Values(pattern) => write!(f, "values {pattern}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_can_match_nothing_is_refused_with_the_reason() {
        let longest = "n".repeat(VALUE_NAME_BYTES_MAX);
        for good in ["*", "price", "price/*", "preis €*", &longest] {
            assert_eq!(Kept::values(good), Ok(Kept::Values(good.to_owned())));
        }
        for bad in ["", "two\nlines*", &format!("{longest}n")] {
            assert!(Kept::values(bad).is_err(), "{bad:?}");
        }
    }
}
