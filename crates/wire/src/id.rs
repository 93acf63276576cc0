//! The integer a client is known by.

use crate::limits::ID_TEXT_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// A client's id: an integer from [`ClientId::MIN`] to [`ClientId::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct ClientId(u64);

impl ClientId {
    /// The smallest id; 0 stands for the hub's own machine and is nobody's id.
    pub const MIN: ClientId = ClientId(1);
    /// The largest id, 2^53 - 1: the largest integer that JavaScript and every JSON reader keep exactly.
    pub const MAX: ClientId = ClientId((1 << 53) - 1);

    /// An id from a number.
    ///
    /// # Errors
    /// When it is 0 or above [`ClientId::MAX`].
    pub fn new(id: u64) -> Result<ClientId, BadId> {
        match id {
            0 => Err(BadId::Zero),
            id if id > Self::MAX.0 => Err(BadId::TooLarge),
            id => Ok(ClientId(id)),
        }
    }

    /// An id as somebody typed it: decimal digits and nothing else.
    ///
    /// # Errors
    /// Says what is wrong with the text and what an ID is.
    pub fn parse(text: &str) -> Result<ClientId, BadId> {
        if text.len() > ID_TEXT_BYTES_MAX {
            return Err(BadId::TooLarge);
        }
        if text.is_empty() {
            return Err(BadId::Empty);
        }
        if text.contains(char::is_whitespace) {
            return Err(BadId::Blank);
        }
        if let Some(rest) = text.strip_prefix(['+', '-']) {
            let number = rest.starts_with(|c: char| c.is_ascii_digit());
            return Err(if number { BadId::Sign } else { BadId::NotDigits });
        }
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            let number = text.parse::<f64>().is_ok_and(f64::is_finite);
            return Err(if number { BadId::Float } else { BadId::NotDigits });
        }
        if text.len() > 1 && text.starts_with('0') {
            return Err(BadId::LeadingZero);
        }
        // Only digits are left, so this fails for nothing but size.
        ClientId::new(text.parse().map_err(|_| BadId::TooLarge)?)
    }

    /// The id as a plain number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl TryFrom<u64> for ClientId {
    type Error = BadId;

    fn try_from(id: u64) -> Result<ClientId, BadId> {
        ClientId::new(id)
    }
}

impl From<ClientId> for u64 {
    fn from(id: ClientId) -> u64 {
        id.0
    }
}

impl std::str::FromStr for ClientId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<ClientId, BadId> {
        ClientId::parse(text)
    }
}

/// Why a text is not an ID. The text itself is not repeated: it may be a secret in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadId {
    /// Nothing was given.
    #[error("an ID is needed: an integer from 1 to {}, such as 7", ClientId::MAX)]
    Empty,
    /// Blanks in it.
    #[error("an ID has no blanks: give digits only, such as 7")]
    Blank,
    /// Letters or other characters.
    #[error("an ID is an integer from 1 to {}: give digits only, such as 7", ClientId::MAX)]
    NotDigits,
    /// A number, not an integer.
    #[error("an ID is an integer: give digits only, without point or exponent, such as 7")]
    Float,
    /// A sign before it.
    #[error("an ID has no sign: give digits only, such as 7")]
    Sign,
    /// A zero before it.
    #[error("an ID does not begin with 0: give it without leading zeros, such as 7")]
    LeadingZero,
    /// Zero.
    #[error("0 is not an ID: the smallest is 1")]
    Zero,
    /// Above the largest.
    #[error("the ID is too large: the largest is {}", ClientId::MAX)]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m3_2_only_plain_integers_are_ids() {
        for (text, reason) in [
            ("", BadId::Empty),
            ("seven", BadId::NotDigits),
            ("7a", BadId::NotDigits),
            ("0x7", BadId::NotDigits),
            ("NaN", BadId::NotDigits),
            ("inf", BadId::NotDigits),
            ("-", BadId::NotDigits),
            ("-inf", BadId::NotDigits),
            ("٧", BadId::NotDigits),
            ("7\0", BadId::NotDigits),
            ("1_000", BadId::NotDigits),
            ("7.0", BadId::Float),
            ("7.", BadId::Float),
            (".5", BadId::Float),
            ("1e3", BadId::Float),
            ("+7", BadId::Sign),
            ("-7", BadId::Sign),
            ("07", BadId::LeadingZero),
            ("00", BadId::LeadingZero),
            (" 7", BadId::Blank),
            ("7\n", BadId::Blank),
            ("7 8", BadId::Blank),
            ("0", BadId::Zero),
            ("9007199254740992", BadId::TooLarge),
            ("1152921504606846976", BadId::TooLarge),
            ("99999999999999999999999999", BadId::TooLarge),
        ] {
            assert_eq!(ClientId::parse(text), Err(reason), "{text:?}");
        }
        assert_eq!(ClientId::parse("1"), Ok(ClientId::MIN));
        assert_eq!(ClientId::parse("9007199254740991"), Ok(ClientId::MAX));
        assert_eq!(ClientId::parse(&"1".repeat(ID_TEXT_BYTES_MAX + 1)), Err(BadId::TooLarge));
    }

    #[test]
    fn every_reason_says_what_to_do_and_repeats_nothing_that_was_typed() {
        for text in ["", "secret", "7 secret", "6.5", "-7", "07", "0", "1152921504606846976"] {
            let reason = ClientId::parse(text).unwrap_err().to_string();
            assert!(
                reason.contains("such as 7") || reason.contains("smallest") || reason.contains("largest"),
                "{reason}"
            );
            assert!(!reason.contains("secret"), "{reason}");
        }
    }
}
