//! Cursors as clients keep them: a text that means something to the hub alone.

use board::{Cursor, Version, WalkMark};
use data_encoding::HEXLOWER;

/// A cursor's text is no longer than this: names have at most 4 KiB, which is 8 KiB in hexadecimal.
const TEXT_BYTES_MAX: usize = 9 * 1024;

/// The text of a cursor of `pattern` on `board`.
pub(super) fn text(board: &str, pattern: &[u8], cursor: &Cursor) -> String {
    let Cursor { version: Version { epoch, run, seq }, seen, walk } = cursor;
    let walk = walk.as_ref().map(|walk| {
        let WalkMark { head, upto, reset } = walk;
        format!("-{head}-{}-{}", u8::from(*reset), HEXLOWER.encode(upto))
    });
    format!("1-{}-{epoch:x}-{run:x}-{seq}-{seen}{}", tag(board, pattern), walk.unwrap_or_default())
}

/// The cursor that a text says; `None` for one of something else, or of another release: its client begins anew.
pub(super) fn parse(board: &str, pattern: &[u8], text: &str) -> Option<Cursor> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let mut parts = text.split('-');
    let mut next = || parts.next();
    if next()? != "1" || next()? != tag(board, pattern) {
        return None;
    }
    let epoch = u128::from_str_radix(next()?, 16).ok()?;
    let run = u64::from_str_radix(next()?, 16).ok()?;
    let seq = next()?.parse().ok()?;
    let seen = next()?.parse().ok()?;
    let walk = match next() {
        None => None,
        Some(head) => {
            let head = head.parse().ok()?;
            let reset = match next()? {
                "0" => false,
                "1" => true,
                _ => return None,
            };
            let upto = HEXLOWER.decode(next()?.as_bytes()).ok()?.into();
            Some(WalkMark { head, upto, reset })
        }
    };
    next().is_none().then_some(Cursor { version: Version { epoch, run, seq }, seen, walk })
}

/// A cursor belongs to one pattern of one board, and is of no use for another.
fn tag(board: &str, pattern: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(board.as_bytes()).update(b"\0").update(pattern);
    HEXLOWER.encode(&hasher.finalize().as_bytes()[..4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_and_only_for_what_it_is_of() {
        let version = Version { epoch: u128::MAX, run: u64::MAX, seq: 7 };
        let walk = WalkMark { head: 9, upto: b"a-\xff".as_slice().into(), reset: true };
        for walk in [None, Some(walk)] {
            let cursor = Cursor { version, seen: 9, walk };
            let written = text("data", b"*", &cursor);
            assert_eq!(parse("data", b"*", &written), Some(cursor));
            assert_eq!(parse("data", b"a*", &written), None);
            assert_eq!(parse("fleet", b"*", &written), None);
            for end in 0..written.len() {
                // A cut one is no cursor, or a smaller one: then more is sent, never less.
                if let Some(less) = parse("data", b"*", &written[..end]) {
                    assert!(less.version.seq <= 7 && less.seen <= 9);
                }
            }
        }
        for junk in ["", "1", "2-x", "1-00000000-0-0-0-0-0", "7"] {
            assert_eq!(parse("data", b"*", junk), None);
        }
    }
}
