//! The unique ID: the secret with which a client proves that an id is its own.
//!
//! Text: `ls-7-XXXXX-XXXXX-XXXXX-XXXXX-XXXXX-XXXXX` is the id (7), 26 random characters (130 bits) and 4 check
//! characters, in groups of five. The check characters also cover the id, so a typing mistake anywhere is told as such
//! and never counts as an attempt. The prefix makes a leaked one easy to search for.
//!
//! The hub keeps only [`KeyHash`]. A fast hash is right for a secret of this many random bits: guessing it is hopeless,
//! and nothing is gained by making each login slow.

use crate::base32;
use crate::id::ClientId;
use crate::limits::UNIQUE_ID_TEXT_BYTES_MAX;
use crate::secret::{RandomError, fill_random};
use std::fmt;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

/// Random characters of five bits each.
const KEY_SYMBOLS: usize = 26;
/// Check characters after them.
const CHECK_SYMBOLS: usize = 4;
/// Characters between two hyphens.
const GROUP_SYMBOLS: usize = 5;
/// What every unique ID begins with.
const PREFIX: &str = "ls";

/// A unique ID. Shows itself only through [`UniqueId::reveal`].
#[derive(Clone)]
pub struct UniqueId {
    id: ClientId,
    /// Values of the random characters, each below 32.
    key: [u8; KEY_SYMBOLS],
}

impl UniqueId {
    /// A new unique ID for `id`, from the OS's random bytes.
    ///
    /// # Errors
    /// When the OS gives none.
    pub fn fresh(id: ClientId) -> Result<UniqueId, RandomError> {
        let mut random = [0; KEY_SYMBOLS];
        fill_random(&mut random)?;
        Ok(UniqueId::from_random(id, random))
    }

    /// The unique ID made of these random bytes, five bits of each. For tests that must repeat.
    pub fn from_random(id: ClientId, random: [u8; 26]) -> UniqueId {
        UniqueId { id, key: random.map(|byte| byte & 31) }
    }

    /// A unique ID as somebody typed it: in either case, O for 0, I or L for 1, hyphens and blanks anywhere.
    ///
    /// # Errors
    /// Says what is wrong with the text, which is not an attempt to guess: nobody's unique ID looks like that.
    pub fn parse(text: &str) -> Result<UniqueId, BadUniqueId> {
        if text.len() > UNIQUE_ID_TEXT_BYTES_MAX {
            return Err(BadUniqueId::Form);
        }
        let mut parts = text.trim().splitn(3, '-');
        let (prefix, id, rest) = (parts.next(), parts.next(), parts.next());
        let prefixed =
            prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX) || prefix.eq_ignore_ascii_case("1s"));
        let id = id.and_then(|id| ClientId::parse(id).ok()).filter(|_| prefixed).ok_or(BadUniqueId::Form)?;
        let mut symbols = [0; KEY_SYMBOLS + CHECK_SYMBOLS];
        let mut count = 0;
        for byte in rest.ok_or(BadUniqueId::Form)?.bytes().filter(|byte| !matches!(byte, b'-' | b' ')) {
            let value = base32::value(byte).ok_or(BadUniqueId::Character)?;
            *symbols.get_mut(count).ok_or(BadUniqueId::Length)? = value;
            count += 1;
        }
        if count != symbols.len() {
            return Err(BadUniqueId::Length);
        }
        let (key, check) = symbols.split_at(KEY_SYMBOLS);
        let key = key.try_into().map_err(|_| BadUniqueId::Length)?;
        let unique_id = UniqueId { id, key };
        if unique_id.check_symbols() != *check {
            return Err(BadUniqueId::Check);
        }
        Ok(unique_id)
    }

    /// The id it belongs to.
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// The text, to be shown once or written to the key file.
    pub fn reveal(&self) -> String {
        let mut text = format!("{PREFIX}-{}", self.id);
        for (at, &value) in self.key.iter().chain(&self.check_symbols()).enumerate() {
            if at % GROUP_SYMBOLS == 0 {
                text.push('-');
            }
            text.push(char::from(base32::SYMBOLS[usize::from(value)]));
        }
        text
    }

    /// What the hub keeps of it.
    pub fn hash(&self) -> KeyHash {
        let mut hasher = blake3::Hasher::new_derive_key("lockstep unique id v1");
        hasher.update(&self.id.get().to_le_bytes()).update(&self.key);
        KeyHash(*hasher.finalize().as_bytes())
    }

    fn check_symbols(&self) -> [u8; CHECK_SYMBOLS] {
        let mut hasher = blake3::Hasher::new_derive_key("lockstep unique id check characters v1");
        hasher.update(&self.id.get().to_le_bytes()).update(&self.key);
        let hash = *hasher.finalize().as_bytes();
        std::array::from_fn(|at| hash[at] & 31)
    }
}

/// Shows whose it is and nothing of the secret.
impl fmt::Debug for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UniqueId({}, ..)", self.id)
    }
}

/// Compares the secrets in constant time.
impl PartialEq for UniqueId {
    fn eq(&self, other: &UniqueId) -> bool {
        self.id == other.id && bool::from(self.key.ct_eq(&other.key))
    }
}

impl Eq for UniqueId {}

/// The hash of a unique ID and the id it belongs to.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// What no unique ID hashes to, as far as anybody can find out: compared with where there is nothing to compare with.
    pub const NOBODY: KeyHash = KeyHash([0; 32]);

    /// From the roster's bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> KeyHash {
        KeyHash(bytes)
    }

    /// For the roster.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both are the same, in constant time.
    pub fn same(&self, other: &KeyHash) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// A hash lets nobody in, yet it has no business in a log either.
impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &KeyHash) -> bool {
        self.same(other).into()
    }
}

impl Eq for KeyHash {}

/// Why a text is no unique ID. The text itself is not repeated: it is nearly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadUniqueId {
    /// Not `ls-ID-...`.
    #[error("a unique ID looks like ls-7-XXXXX-XXXXX-XXXXX-XXXXX-XXXXX-XXXXX: copy all of it")]
    Form,
    /// Characters are missing or too many.
    #[error("the unique ID has not the right length: copy all of it, from ls- to the last group of five")]
    Length,
    /// A character that is never used.
    #[error("the unique ID has a character that none has: only digits and letters are used, never U")]
    Character,
    /// The check characters do not agree with the rest.
    #[error("the unique ID is mistyped: its check characters do not agree; copy it again")]
    Check,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(id: u64) -> ClientId {
        ClientId::new(id).unwrap()
    }

    #[test]
    fn m3_3_a_unique_id_reads_back_however_it_is_typed() {
        let unique_id = UniqueId::fresh(id(7)).unwrap();
        let text = unique_id.reveal();
        assert!(text.starts_with("ls-7-") && text.len() == 5 + 6 * 5 + 5, "{}", text.len());
        let sloppy = text.to_lowercase().replace('0', "o").replace('1', "l");
        let bunched = format!("LS-7-{}", text[5..].replace('-', ""));
        for typed in [text.clone(), sloppy, bunched, format!("  {text}\n"), text.replacen("-7-", "-7- ", 1)] {
            assert!(UniqueId::parse(&typed).unwrap() == unique_id, "typed differently");
        }
    }

    #[test]
    fn a_unique_id_never_shows_itself_by_accident() {
        let unique_id = UniqueId::fresh(id(7)).unwrap();
        assert_eq!(format!("{unique_id:?}"), "UniqueId(7, ..)");
        assert_eq!(format!("{:?}", unique_id.hash()), "KeyHash(..)");
    }

    #[test]
    fn the_hash_and_the_text_of_protocol_1_stay_as_they_are() {
        let unique_id = UniqueId::from_random(id(7), std::array::from_fn(|at| u8::try_from(at).unwrap()));
        assert_eq!(unique_id.reveal(), "ls-7-01234-56789-ABCDE-FGHJK-MNPQR-S5AP7");
        let hash = data_encoding::HEXLOWER.encode(unique_id.hash().as_bytes());
        assert_eq!(hash, "0caf78f7758c56b83a901c5cacaba5d735db0d0068224526a3aacddabe72dea9");
    }

    #[test]
    fn what_is_no_unique_id_is_told_apart_from_a_wrong_one() {
        for (text, reason) in [
            ("", BadUniqueId::Form),
            ("7", BadUniqueId::Form),
            ("ls-x-00000", BadUniqueId::Form),
            ("xx-7-00000", BadUniqueId::Form),
            ("ls-7-00000-00000", BadUniqueId::Length),
            ("ls-7-UUUUU-00000-00000-00000-00000-00000", BadUniqueId::Character),
            ("ls-7-00000-00000-00000-00000-00000-00000", BadUniqueId::Check),
            ("ls-7-00000-00000-00000-00000-00000-00000-0", BadUniqueId::Length),
        ] {
            assert_eq!(UniqueId::parse(text).unwrap_err(), reason, "{text}");
        }
    }

    proptest! {
        #[test]
        fn one_mistyped_character_never_passes(random: [u8; 26], at in 5_usize..40, to in 0_usize..32) {
            let text = UniqueId::from_random(id(7), random).reveal();
            let mut typed = text.clone().into_bytes();
            prop_assume!(typed[at] != b'-' && typed[at] != base32::SYMBOLS[to]);
            typed[at] = base32::SYMBOLS[to];
            prop_assert!(UniqueId::parse(std::str::from_utf8(&typed).unwrap()).is_err());
        }

        #[test]
        fn another_id_before_the_same_secret_never_passes(random: [u8; 26], other in 1_u64..1 << 53) {
            prop_assume!(other != 7);
            let text = UniqueId::from_random(id(7), random).reveal().replacen("-7-", &format!("-{other}-"), 1);
            prop_assert!(UniqueId::parse(&text).is_err());
        }

        #[test]
        fn whatever_is_typed_is_answered(text in ".{0,300}") {
            let _answer = UniqueId::parse(&text);
        }
    }
}
