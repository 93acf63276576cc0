//! The cursor as one opaque text, for clients that only carry it back: over HTTP, Socket.IO and text lines alike, so
//! that what one gave another takes.
//!
//! It stands for everything up to one entry, so a client that was cut between any two of them resumes with exactly what
//! it missed. It belongs to one board and pattern: with another it stands for nothing, and the walk begins anew. A text that
//! somebody made up harms nobody but its author, since a cursor only says what its client claims to have seen.

use board::{Batch, Cursor, Follower, Mark, NAME_BYTES_MAX, Record, Version, WalkMark};
use bytes::Buf;
use data_encoding::BASE64URL_NOPAD;

/// The first byte: how the rest is laid out. All numbers are little-endian.
const FORMAT: u8 = 1;
/// Format, scope, epoch, run, seq, seen, and how a walk stands; a walk's head and last name follow.
const BYTES_MIN: usize = 1 + 8 + 16 + 8 + 8 + 8 + 1;
/// The longest text: longer ones are not looked at.
pub(crate) const TEXT_BYTES_MAX: usize = (BYTES_MIN + 8 + NAME_BYTES_MAX).div_ceil(3) * 4;

/// How far a client has come; moves with every entry it is sent.
pub(crate) struct Passage {
    scope: [u8; 8],
    cursor: Cursor,
}

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is no cursor of this hub: give back what it gave, or nothing to begin anew")]
pub(crate) struct BadCursor;

impl Passage {
    /// Where `follower` begins, which was made with the cursor `before`.
    pub(crate) fn begin(board: &str, follower: &Follower, before: Option<Cursor>) -> Passage {
        let start = follower.start();
        let cursor = match before {
            // The hub found it in its history, so it is as well one of the present run.
            Some(cursor) if !start.reset => Cursor { version: Version { run: start.run, ..cursor.version }, ..cursor },
            _ => Cursor { version: Version { epoch: start.epoch, run: start.run, seq: 0 }, seen: 0, walk: None },
        };
        Passage { scope: scope(board, follower.pattern().as_bytes()), cursor }
    }

    /// The client was sent this entry of a batch with this mark, and those before it.
    pub(crate) fn passed(&mut self, record: &Record, mark: &Mark) {
        self.cursor.seen = self.cursor.seen.max(record.seq);
        match mark {
            Mark::Live { view, .. } => {
                self.cursor.seen = self.cursor.seen.max(*view);
                self.cursor.version.seq = record.seq;
                self.cursor.walk = None;
            }
            Mark::Walk { head, reset, .. } => {
                self.cursor.seen = self.cursor.seen.max(*head);
                self.cursor.walk = Some(WalkMark { head: *head, upto: record.name.clone(), reset: *reset });
            }
        }
    }

    /// The client was sent all of this batch.
    pub(crate) fn passed_all(&mut self, Batch { records, mark }: &Batch) {
        self.cursor.seen = records.iter().map(|record| record.seq).fold(self.cursor.seen, u64::max);
        match mark {
            Mark::Live { to, view, .. } => {
                self.cursor.seen = self.cursor.seen.max(*view).max(*to);
                self.cursor.version.seq = *to;
                self.cursor.walk = None;
            }
            Mark::Walk { head, upto, last, reset } => {
                self.cursor.seen = self.cursor.seen.max(*head);
                self.cursor.walk = (!last).then(|| WalkMark { head: *head, upto: upto.clone(), reset: *reset });
                if *last {
                    self.cursor.version.seq = *head;
                }
            }
        }
    }

    /// Where the client is.
    pub(crate) fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// What the client brings back.
    pub(crate) fn text(&self) -> String {
        written(self.scope, &self.cursor)
    }
}

/// The text of a cursor of this scope.
pub(crate) fn written(scope: [u8; 8], Cursor { version, seen, walk }: &Cursor) -> String {
    let mut bytes = Vec::with_capacity(BYTES_MIN);
    bytes.push(FORMAT);
    bytes.extend(scope);
    bytes.extend(version.epoch.to_le_bytes());
    for number in [version.run, version.seq, *seen] {
        bytes.extend(number.to_le_bytes());
    }
    match walk {
        None => bytes.push(0),
        Some(WalkMark { head, upto, reset }) => {
            bytes.push(1 + u8::from(*reset));
            bytes.extend(head.to_le_bytes());
            bytes.extend_from_slice(upto);
        }
    }
    BASE64URL_NOPAD.encode(&bytes)
}

/// Reads a cursor that was given for this board and pattern; `None` where it was given for others.
///
/// # Errors
/// When it is none at all.
pub(crate) fn read(text: impl AsRef<[u8]>, board: &str, pattern: &[u8]) -> Result<Option<Cursor>, BadCursor> {
    let text = text.as_ref();
    if text.len() > TEXT_BYTES_MAX {
        return Err(BadCursor);
    }
    let bytes = BASE64URL_NOPAD.decode(text).map_err(|_| BadCursor)?;
    if bytes.len() < BYTES_MIN || bytes[0] != FORMAT {
        return Err(BadCursor);
    }
    let (given, mut rest) = (&bytes[1..9], &bytes[9..]);
    let version = Version { epoch: rest.get_u128_le(), run: rest.get_u64_le(), seq: rest.get_u64_le() };
    let seen = rest.get_u64_le();
    let walk = match rest.get_u8() {
        0 if rest.is_empty() => None,
        how @ (1 | 2) if rest.len() >= 8 && rest.len() - 8 <= NAME_BYTES_MAX => {
            let head = rest.get_u64_le();
            Some(WalkMark { head, upto: bytes::Bytes::copy_from_slice(rest), reset: how == 2 })
        }
        _ => return Err(BadCursor),
    };
    Ok((given == scope(board, pattern)).then_some(Cursor { version, seen, walk }))
}

/// Eight bytes for a board and a pattern.
pub(crate) fn scope(board: &str, pattern: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new_derive_key("lockstep cursor scope v1");
    hasher.update(board.as_bytes()).update(&[0]).update(pattern);
    let mut scope = [0; 8];
    scope.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    scope
}

#[cfg(test)]
mod tests {
    use super::*;
    use board::{Board, Limits, MemoryStore, OpenOptions, Pattern, Write, Writer};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn writer() -> Writer {
        let options = OpenOptions { durable: false, boot_id: String::new(), entropy: Box::new(|| 7) };
        let writer = Writer::open(Box::new(MemoryStore), options).unwrap();
        writer.board().set_complete(true);
        writer
    }

    fn put(writer: &mut Writer, name: u8, value: Option<u8>) {
        let name = bytes::Bytes::from(vec![name]);
        let write = match value {
            Some(value) => Write::Put { name, value: vec![value].into(), aside: bytes::Bytes::new() },
            None => Write::Remove { name },
        };
        writer.commit(vec![write]).unwrap();
    }

    type Held = BTreeMap<Vec<u8>, Vec<u8>>;

    /// Follows from `since` on, is cut after `entries` entries at most, and comes back with what it holds by then.
    fn follow(board: &Board, held: &mut Held, since: Option<&str>, mut entries: usize) -> String {
        let cursor = since.and_then(|text| read(text, "data", b"*").unwrap());
        let mut follower = Follower::new(board, Pattern::all(), cursor.clone());
        let mut passage = Passage::begin("data", &follower, cursor);
        if follower.start().reset {
            held.clear();
        }
        while let Some(batch) = follower.next(Limits { entries: 4, bytes: 1 << 20 }) {
            for record in &batch.records {
                if entries == 0 {
                    return passage.text();
                }
                entries -= 1;
                passage.passed(record, &batch.mark);
                match &record.value {
                    Some(value) => drop(held.insert(record.name.to_vec(), value.to_vec())),
                    None => drop(held.remove(&record.name[..])),
                }
            }
            passage.passed_all(&batch);
        }
        passage.text()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        /// Cut anywhere, between any two entries, with changes in between: who comes back with the text ends with exactly
        /// the board.
        #[test]
        fn who_is_cut_between_any_two_entries_resumes_with_exactly_what_it_missed(
            rounds in proptest::collection::vec(
                (proptest::collection::vec((0_u8..24, proptest::option::of(any::<u8>())), 0..30), 0_usize..12),
                1..8,
            ),
        ) {
            let (mut writer, mut held, mut since) = (writer(), Held::new(), None);
            let board = writer.board();
            for (writes, entries) in rounds {
                for (name, value) in writes {
                    put(&mut writer, name, value);
                }
                since = Some(follow(&board, &mut held, since.as_deref(), entries));
            }
            follow(&board, &mut held, since.as_deref(), usize::MAX);
            let all: Held = board.read(|index| {
                index.iter_from(b"").filter_map(|r| Some((r.name.to_vec(), r.value.clone()?.to_vec()))).collect()
            });
            prop_assert_eq!(held, all);
        }

        #[test]
        fn what_somebody_made_up_never_harms(text in "[A-Za-z0-9_-]{0,120}") {
            let _read = read(&text, "data", b"*");
        }
    }

    /// A walk of one who was live before is none from zero: who goes on in the middle of it hears also what is gone.
    #[test]
    fn who_was_live_and_is_cut_in_a_later_walk_hears_what_was_removed_meanwhile() {
        let (mut writer, mut held) = (writer(), Held::new());
        let board = writer.board();
        let since = follow(&board, &mut held, None, usize::MAX);
        let name = |n: u32| bytes::Bytes::from(format!("{n:05}"));
        let all = 0..u32::try_from(board::SHORT_WAY_ENTRIES_MAX).unwrap() * 2;
        let put = |n| Write::Put { name: name(n), value: bytes::Bytes::from_static(b"x"), aside: bytes::Bytes::new() };
        let since = {
            writer.commit(all.clone().map(put).collect()).unwrap();
            let since = follow(&board, &mut held, Some(&since), usize::MAX);
            writer.commit(all.clone().map(put).collect()).unwrap();
            follow(&board, &mut held, Some(&since), 100)
        };
        writer.commit(all.filter(|n| n % 2 == 1).map(|n| Write::Remove { name: name(n) }).collect()).unwrap();
        follow(&board, &mut held, Some(&since), usize::MAX);
        assert_eq!(held.len(), board.len());
    }

    #[test]
    fn a_cursor_stands_for_nothing_with_another_pattern_or_board() {
        let mut writer = writer();
        put(&mut writer, 1, Some(1));
        let text = follow(&writer.board(), &mut Held::new(), None, usize::MAX);
        assert!(read(&text, "data", b"*").unwrap().is_some());
        assert_eq!(read(&text, "data", b"a*"), Ok(None));
        assert_eq!(read(&text, "fleet", b"*"), Ok(None));
        for bad in ["", "x", "AAAA", &text[1..], &format!("{text}AAAA")] {
            assert_eq!(read(bad, "data", b"*"), Err(BadCursor), "{bad}");
        }
    }
}
