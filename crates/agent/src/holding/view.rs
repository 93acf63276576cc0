//! What a record of the board means on the disk.
//!
//! Of a share, a record's name is a path and its value the entry that is to stand there; contents are fetched. Of the
//! values, a record's name becomes the name of a file in the one directory ([`super::names`]), and the value is the
//! content itself, so it is always at hand.

use super::names::{Names, file_name};
use crate::kept::Kept;
use board::{Held, Replica};
use bytes::Bytes;
use tree::at::is_temp_name;
use tree::{ContentId, Entry, Name, RelPath};
use wire::codec::decode_stored;

/// What others may do with the file of a value: read it.
const VALUE_MODE: u32 = 0o644;

/// See the module.
#[derive(Debug)]
pub(crate) enum View {
    /// A share.
    Share,
    /// Values.
    Values(Names),
}

impl View {
    pub(crate) fn of(kept: &Kept) -> View {
        match kept {
            Kept::Share(_) => View::Share,
            Kept::Values(_) => View::Values(Names::default()),
        }
    }

    /// Whether records may stand below others; else all are in the root.
    pub(super) fn is_tree(&self) -> bool {
        matches!(self, View::Share)
    }

    /// There is a record of that name.
    pub(super) fn note(&mut self, name: &board::Name) {
        if let View::Values(names) = self {
            names.note(name);
        }
    }

    /// There is no record of that name any more.
    pub(super) fn forget(&mut self, name: &[u8]) {
        if let View::Values(names) = self {
            names.forget(name);
        }
    }

    /// Under what everything about a record is kept: its path; its name where it has none.
    pub(super) fn key(&self, name: &board::Name) -> board::Name {
        match self {
            View::Share => name.clone(),
            View::Values(_) => file_name(name).into(),
        }
    }

    /// The name of the record that is to stand at a path, if there may be one.
    pub(super) fn name(&self, path: &[u8]) -> Option<board::Name> {
        match self {
            View::Share => Some(board::Name::copy_from_slice(path)),
            View::Values(names) => names.of(path),
        }
    }

    /// What is held of the record that is to stand at a path.
    pub(super) fn held<'a>(&self, replica: &'a Replica, path: &[u8]) -> Option<&'a Held> {
        match self {
            View::Share => replica.get(path),
            View::Values(names) => replica.get(&names.of(path)?),
        }
    }

    /// Notes `aside` beside the record that is to stand at a path. Whether there is such.
    pub(super) fn set_aside(&self, replica: &mut Replica, path: &[u8], aside: Bytes) -> bool {
        match self {
            View::Share => replica.set_aside(path, aside),
            View::Values(names) => names.of(path).is_some_and(|name| replica.set_aside(&name, aside)),
        }
    }

    /// The entry that a record's value stands for.
    pub(super) fn entry(&self, value: &Bytes) -> Option<Entry> {
        match self {
            View::Share => Entry::decode(value).ok(),
            View::Values(_) => {
                let stored = decode_stored(value).ok()?;
                Some(Entry::File {
                    mode: VALUE_MODE,
                    mtime_ns: stored.at_ms.saturating_mul(1_000_000),
                    size_bytes: stored.content.bytes.len() as u64,
                    content: ContentId::of(&stored.content.bytes),
                })
            }
        }
    }

    /// The content that a record's value is; `None` where it comes by another way.
    pub(super) fn content(&self, value: &Bytes) -> Option<Bytes> {
        match self {
            View::Share => None,
            View::Values(_) => decode_stored(value).ok().map(|stored| stored.content.bytes),
        }
    }

    /// Whether the hub says that it does not know what stands there.
    pub(super) fn is_unknown(&self, value: &Bytes) -> bool {
        matches!(self, View::Share) && matches!(Entry::decode(value), Ok(Entry::Unknown))
    }

    /// Why a record of the hub's cannot be: a fault there, told and left alone.
    pub(super) fn refuses(&self, name: &board::Name, value: &Bytes) -> Option<String> {
        let path = match RelPath::new(&self.key(name)[..]) {
            Ok(path) => path,
            Err(why) => return Some(format!("the hub sent a name that is no path ({why}); it was left out")),
        };
        if path.components().any(|part| Name::new(part).is_ok_and(|name| is_temp_name(&name))) {
            return Some("the hub sent a name that is reserved for temporaries; it was left out".into());
        }
        match self {
            View::Share => match Entry::decode(value) {
                Err(why) => Some(format!("the hub sent {why}; it was left out")),
                Ok(entry) if path.is_root() && !matches!(entry, Entry::Dir { .. }) => {
                    Some("the hub says that the share itself is no directory; that was left out".into())
                }
                Ok(_) => None,
            },
            View::Values(_) if path.is_root() => Some("the hub sent a value without a name; it was left out".into()),
            View::Values(_) => {
                let why = decode_stored(value).err()?;
                Some(format!("the hub sent a value that is none ({why}); it was left out"))
            }
        }
    }
}
