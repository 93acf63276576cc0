//! A bearer token: the secret with which a program signs its requests, instead of an id and its unique ID.
//!
//! Text: `lst_` and 30 characters: 26 random ones (130 bits) and 4 check characters. One word, taken whole by a double click;
//! the prefix makes a leaked one easy to search for, the check characters tell a mistyped one from a wrong one. The hub
//! keeps only [`BearerHash`]; see [`crate::unique_id`] on why a fast hash is right.

use crate::base32;
use crate::secret::{RandomError, fill_random};
use std::fmt;

/// Random characters of five bits each.
const SYMBOLS: usize = 26;
/// Check characters after them.
const CHECK_SYMBOLS: usize = 4;
/// What every token begins with.
const PREFIX: &str = "lst_";

/// A bearer token. Shows itself only through [`Bearer::reveal`].
#[derive(Clone)]
pub struct Bearer([u8; SYMBOLS]);

impl Bearer {
    /// A new one, from the OS's random bytes.
    ///
    /// # Errors
    /// When the OS gives none.
    pub fn fresh() -> Result<Bearer, RandomError> {
        let mut random = [0; SYMBOLS];
        fill_random(&mut random)?;
        Ok(Bearer(random.map(|byte| byte & 31)))
    }

    /// A token as a program sent it, in either case; `None` for a text that none looks like.
    pub fn parse(text: &str) -> Option<Bearer> {
        let (prefix, symbols) = text.split_at_checked(PREFIX.len())?;
        let symbols: &[u8; SYMBOLS + CHECK_SYMBOLS] = symbols.as_bytes().try_into().ok()?;
        let mut values = [0; SYMBOLS + CHECK_SYMBOLS];
        for (value, symbol) in values.iter_mut().zip(symbols) {
            *value = base32::value(*symbol)?;
        }
        let (key, check) = values.split_first_chunk()?;
        let bearer = Bearer(*key);
        (prefix.eq_ignore_ascii_case(PREFIX) && bearer.check_symbols() == *check).then_some(bearer)
    }

    /// The text, to be shown once.
    pub fn reveal(&self) -> String {
        let check = self.check_symbols();
        let symbols = self.0.iter().chain(&check).map(|&value| char::from(base32::SYMBOLS[usize::from(value)]));
        PREFIX.chars().chain(symbols).collect()
    }

    /// What the hub keeps of it.
    pub fn hash(&self) -> BearerHash {
        BearerHash(blake3::derive_key("lockstep bearer token v1", &self.0))
    }

    fn check_symbols(&self) -> [u8; CHECK_SYMBOLS] {
        let hash = blake3::derive_key("lockstep bearer token check characters v1", &self.0);
        std::array::from_fn(|at| hash[at] & 31)
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(..)")
    }
}

/// The hash a token is known by in the roster. It may be looked up in a map, as [`crate::link::InviteHash`] may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BearerHash(pub [u8; 32]);

impl fmt::Debug for BearerHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_nothing_else_is_one() {
        let token = Bearer::fresh().unwrap();
        let text = token.reveal();
        assert!(text.starts_with("lst_") && text.len() == 34 && !text.contains(['-', ' ']), "{text}");
        for same in [text.clone(), text.to_lowercase()] {
            assert_eq!(Bearer::parse(&same).unwrap().hash(), token.hash());
        }
        assert!(Bearer::fresh().unwrap().hash() != token.hash());
        assert_eq!(format!("{token:?} {:?}", token.hash()), "Bearer(..) BearerHash(..)");
        for wrong in ["", "lst_", "lst_é", &text[..33], &text[1..], &format!("{text}0"), "lsté", "lst-0"] {
            assert!(Bearer::parse(wrong).is_none(), "{wrong}");
        }
    }

    /// A typing mistake is no other token.
    #[test]
    fn each_changed_character_is_noticed() {
        let text = Bearer([7; SYMBOLS]).reveal();
        for at in PREFIX.len()..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(Bearer::parse(std::str::from_utf8(&bytes).unwrap()).is_none(), "at {at}");
        }
    }
}
