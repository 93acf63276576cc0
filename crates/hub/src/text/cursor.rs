//! A cursor as a word: what a `current` line ends with and `since` takes.
//!
//! Its form is this hub's own business. It names the pattern that it belongs to, since whoever followed another has not
//! seen everything up to it.

use board::{Cursor, Pattern, Start, Version};
use data_encoding::BASE64URL_NOPAD;

/// The first byte of every cursor of this form.
const FORM: u8 = 1;
/// Form, epoch, run, seq, seen, and the beginning of the pattern's hash.
const BYTES: usize = 1 + 16 + 8 + 8 + 8 + PATTERN_BYTES;
/// So much of its hash tells a pattern from those that it may be taken for by mistake.
const PATTERN_BYTES: usize = 4;

/// Why a cursor cannot be gone on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CursorError {
    #[error("this is no cursor: give the word that stood in a current line, all of it, or leave since away")]
    Form,
    #[error(
        "this cursor belongs to another pattern: give it with the pattern of its current line, or leave since away"
    )]
    Pattern,
}

/// The cursor of a client that was told everything of `pattern` up to `seq`, by a follow that began with `start`.
pub(crate) fn write(start: Start, seq: u64, seen: u64, pattern: &Pattern) -> String {
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.push(FORM);
    bytes.extend_from_slice(&start.epoch.to_le_bytes());
    bytes.extend_from_slice(&start.run.to_le_bytes());
    bytes.extend_from_slice(&seq.to_le_bytes());
    bytes.extend_from_slice(&seen.to_le_bytes());
    bytes.extend_from_slice(&mark(pattern));
    BASE64URL_NOPAD.encode(&bytes)
}

/// Reads a cursor that is to go on with `pattern`.
///
/// # Errors
/// When it is none, or of another pattern.
pub(crate) fn read(word: &[u8], pattern: &Pattern) -> Result<Cursor, CursorError> {
    let bytes = BASE64URL_NOPAD.decode(word).map_err(|_| CursorError::Form)?;
    let rest = bytes.strip_prefix(&[FORM]).ok_or(CursorError::Form)?;
    let (epoch, rest) = rest.split_first_chunk().ok_or(CursorError::Form)?;
    let (run, rest) = rest.split_first_chunk().ok_or(CursorError::Form)?;
    let (seq, rest) = rest.split_first_chunk().ok_or(CursorError::Form)?;
    let (seen, rest) = rest.split_first_chunk().ok_or(CursorError::Form)?;
    if rest.len() != PATTERN_BYTES {
        return Err(CursorError::Form);
    }
    if rest != mark(pattern) {
        return Err(CursorError::Pattern);
    }
    let (seq, seen) = (u64::from_le_bytes(*seq), u64::from_le_bytes(*seen));
    let version = Version { epoch: u128::from_le_bytes(*epoch), run: u64::from_le_bytes(*run), seq };
    Ok(Cursor { version, seen: seen.max(seq), walk: None })
}

fn mark(pattern: &Pattern) -> [u8; PATTERN_BYTES] {
    let hash = blake3::hash(pattern.as_bytes());
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_with_its_pattern_and_with_no_other() {
        let (all, other) = (Pattern::all(), Pattern::parse("a*").unwrap());
        let start = Start { epoch: u128::MAX - 5, run: 7, reset: true };
        let word = write(start, 40, 42, &all);
        assert!(word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{word}");
        let cursor = read(word.as_bytes(), &all).unwrap();
        assert_eq!(cursor, Cursor { version: Version { epoch: u128::MAX - 5, run: 7, seq: 40 }, seen: 42, walk: None });
        assert_eq!(read(word.as_bytes(), &other), Err(CursorError::Pattern));
        for wrong in [&word[..word.len() - 1], &word[1..], "", "12", &format!("{word}AAAA"), "é"] {
            assert!(matches!(read(wrong.as_bytes(), &all), Err(CursorError::Form)), "{wrong}");
        }
    }
}
