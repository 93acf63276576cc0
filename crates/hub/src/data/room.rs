//! How much the board `data` holds, counted exactly, and whether a put still fits.

use board::{Board, Write};
use bytes::Bytes;
use std::collections::HashMap;

/// What the board holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) values: u64,
    pub(super) bytes: u64,
}

/// What a put would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// [`crate::Limits::values`].
    Values,
    /// [`crate::Limits::values_bytes`].
    Bytes,
}

/// The writes of one commit, each counted as it is taken. Nothing is counted for good before they are committed.
pub(super) struct Filling<'a> {
    board: &'a Board,
    room: Room,
    /// As much as there may be.
    most: Room,
    /// What the writes taken so far make of their names: the size of the value, `None` if there is none.
    taken: HashMap<Bytes, Option<u64>>,
}

impl Room {
    /// Counts what is on the board.
    pub(super) fn of(board: &Board) -> Room {
        board.read(|index| {
            let sizes = index.iter_from(b"").filter_map(|r| Some(size(&r.name, r.value.as_ref()?)));
            sizes.fold(Room::default(), |room, bytes| Room { values: room.values + 1, bytes: room.bytes + bytes })
        })
    }

    /// Begins a commit to `board`, which holds what was counted here, and may come to hold as much as `most`.
    pub(super) fn filling(self, board: &Board, most: Room) -> Filling<'_> {
        Filling { board, room: self, most, taken: HashMap::new() }
    }

    /// What is held once a name that took `before` takes `after`.
    ///
    /// # Errors
    /// When that is more than there may be. What takes nothing more always fits, so whoever finds the board full can
    /// still replace and remove.
    fn changed(self, before: Option<u64>, after: Option<u64>, most: Room) -> Result<Room, NoRoom> {
        let values = self.values - u64::from(before.is_some()) + u64::from(after.is_some());
        let bytes = self.bytes - before.unwrap_or(0) + after.unwrap_or(0);
        if values > self.values.max(most.values) {
            return Err(NoRoom::Values);
        }
        if bytes > self.bytes.max(most.bytes) {
            return Err(NoRoom::Bytes);
        }
        Ok(Room { values, bytes })
    }
}

impl Filling<'_> {
    /// Whether a write of this name was taken.
    pub(super) fn changes(&self, name: &Bytes) -> bool {
        self.taken.contains_key(name)
    }

    /// Takes a write, if there is room for what it puts.
    pub(super) fn take(&mut self, write: &Write) -> Result<(), NoRoom> {
        let (name, after) = match write {
            Write::Put { name, value, .. } => (name, Some(size(name, value))),
            Write::Remove { name } => (name, None),
            Write::Aside { .. } => return Ok(()),
        };
        let before = match self.taken.get(name) {
            Some(taken) => *taken,
            None => self.board.get(name).and_then(|record| Some(size(name, record.value.as_ref()?))),
        };
        self.room = self.room.changed(before, after, self.most)?;
        self.taken.insert(name.clone(), after);
        Ok(())
    }

    /// What is held once all that was taken is committed.
    pub(super) fn room(self) -> Room {
        self.room
    }
}

fn size(name: &[u8], value: &[u8]) -> u64 {
    (name.len() + value.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES_MAX: u64 = 100;
    const VALUES_BYTES_MAX: u64 = 10_000;
    const FULL: Room = Room { values: VALUES_MAX, bytes: VALUES_BYTES_MAX };

    #[test]
    fn the_last_byte_fits_and_one_more_does_not() {
        let room = Room { values: 1, bytes: VALUES_BYTES_MAX - 10 };
        assert_eq!(room.changed(None, Some(10), FULL), Ok(Room { values: 2, bytes: VALUES_BYTES_MAX }));
        assert_eq!(room.changed(None, Some(11), FULL), Err(NoRoom::Bytes));
        assert_eq!(room.changed(Some(5), Some(15), FULL), Ok(Room { values: 1, bytes: VALUES_BYTES_MAX }));
        assert_eq!(room.changed(Some(5), Some(16), FULL), Err(NoRoom::Bytes));
    }

    #[test]
    fn the_last_name_fits_and_one_more_does_not() {
        let room = Room { values: VALUES_MAX - 1, bytes: 0 };
        assert_eq!(room.changed(None, Some(0), FULL), Ok(Room { values: VALUES_MAX, bytes: 0 }));
        assert_eq!(FULL.changed(None, Some(0), FULL), Err(NoRoom::Values));
    }

    #[test]
    fn a_full_board_can_be_changed_and_emptied() {
        assert_eq!(FULL.changed(Some(7), Some(7), FULL), Ok(FULL));
        assert_eq!(FULL.changed(Some(7), None, FULL), Ok(Room { values: VALUES_MAX - 1, bytes: VALUES_BYTES_MAX - 7 }));
        assert_eq!(FULL.changed(None, None, FULL), Ok(FULL), "removing what is not there");
        let over = Room { values: VALUES_MAX + 5, bytes: VALUES_BYTES_MAX + 5 };
        assert!(over.changed(Some(7), Some(6), FULL).is_ok() && over.changed(None, Some(1), FULL).is_err());
    }
}
