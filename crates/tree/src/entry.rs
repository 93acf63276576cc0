//! What stands at a path, as both sides agree on it.
//!
//! An [`Entry`] holds what is kept identical and nothing that differs from disk to disk (inode, ctime). Its
//! [`Entry::encode`]d form is the value on a share's board and what the [root](crate::root) is made of, so it has
//! exactly one byte string for each entry; golden bytes are tested below.

use std::fmt;

/// Longest link target in bytes (`PATH_MAX` of Linux, without its NUL).
pub const TARGET_BYTES_MAX: usize = 4095;
/// The permission bits that are kept: read, write, execute and sticky. Set-id bits need `--owner`.
pub const MODE_MASK: u32 = 0o1777;

const FORMAT: u8 = 1;

/// The BLAKE3 hash of a file's whole content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(pub [u8; 32]);

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory; what is in it are entries of their own.
    Dir {
        /// Permission bits, masked by [`MODE_MASK`].
        mode: u32,
        /// Nanoseconds since the Unix epoch; negative before it.
        mtime_ns: i64,
    },
    /// A regular file.
    File {
        /// Permission bits, masked by [`MODE_MASK`].
        mode: u32,
        /// Nanoseconds since the Unix epoch; negative before it.
        mtime_ns: i64,
        /// Length of the content.
        size_bytes: u64,
        /// Hash of the content.
        content: ContentId,
    },
    /// A symbolic link, which is data: it is never followed.
    Link {
        /// Nanoseconds since the Unix epoch; negative before it.
        mtime_ns: i64,
        /// Where it points, as found; 1 to [`TARGET_BYTES_MAX`] bytes without NUL.
        target: Box<[u8]>,
    },
    /// Something stands there, and what it is, or what is in it, is not known (yet): it could not be read. Nothing is to
    /// be made or deleted there, nor below.
    Unknown,
}

/// The kind of an [`Entry`], or of what was found on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A fifo, socket or device: told, never copied.
    Special,
}

/// Why bytes are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The bytes end too early, or go on behind the entry.
    #[error("an entry of the wrong length")]
    Length,
    /// A format, a kind or a mode bit this version does not know.
    #[error("an entry of an unknown form")]
    Unknown,
    /// An empty or too long link target, or one with a NUL.
    #[error("a link target that no link can hold")]
    Target,
}

impl ContentId {
    /// The id of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(blake3::hash(content).into())
    }
}

impl Entry {
    /// The kind of this entry, if it is known.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Entry::Dir { .. } => Some(Kind::Dir),
            Entry::File { .. } => Some(Kind::File),
            Entry::Link { .. } => Some(Kind::Link),
            Entry::Unknown => None,
        }
    }

    /// When it was last modified, in nanoseconds since the Unix epoch, if that is known.
    pub fn mtime_ns(&self) -> Option<i64> {
        match self {
            Entry::Dir { mtime_ns, .. } | Entry::File { mtime_ns, .. } | Entry::Link { mtime_ns, .. } => {
                Some(*mtime_ns)
            }
            Entry::Unknown => None,
        }
    }

    /// The permission bits; `None` for a link, which has none of its own, and where they are not known.
    pub fn mode(&self) -> Option<u32> {
        match self {
            Entry::Dir { mode, .. } | Entry::File { mode, .. } => Some(*mode),
            Entry::Link { .. } | Entry::Unknown => None,
        }
    }

    /// The content's id and length in bytes; `None` unless it is a file.
    pub fn content(&self) -> Option<(ContentId, u64)> {
        match self {
            Entry::File { content, size_bytes, .. } => Some((*content, *size_bytes)),
            _ => None,
        }
    }

    /// Appends the one byte string of this entry: format, kind, then its fields little-endian.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        match self {
            Entry::Dir { mode, mtime_ns } => {
                out.push(b'd');
                out.extend_from_slice(&mode.to_le_bytes());
                out.extend_from_slice(&mtime_ns.to_le_bytes());
            }
            Entry::File { mode, mtime_ns, size_bytes, content } => {
                out.push(b'f');
                out.extend_from_slice(&mode.to_le_bytes());
                out.extend_from_slice(&mtime_ns.to_le_bytes());
                out.extend_from_slice(&size_bytes.to_le_bytes());
                out.extend_from_slice(&content.0);
            }
            Entry::Link { mtime_ns, target } => {
                out.push(b'l');
                out.extend_from_slice(&mtime_ns.to_le_bytes());
                out.extend_from_slice(target);
            }
            Entry::Unknown => out.push(b'?'),
        }
    }

    /// [`Entry::encode`] into a new vector.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(54);
        self.encode(&mut out);
        out
    }

    /// Reads what [`Entry::encode`] wrote; the bytes may come from a peer.
    ///
    /// # Errors
    /// When the bytes are anything but one entry that could stand on a disk.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let [FORMAT, kind, rest @ ..] = bytes else {
            return Err(if bytes.len() < 2 { EntryError::Length } else { EntryError::Unknown });
        };
        let mut rest = Reader(rest);
        let entry = match kind {
            b'd' => Entry::Dir { mode: rest.mode()?, mtime_ns: i64::from_le_bytes(rest.take()?) },
            b'f' => Entry::File {
                mode: rest.mode()?,
                mtime_ns: i64::from_le_bytes(rest.take()?),
                size_bytes: u64::from_le_bytes(rest.take()?),
                content: ContentId(rest.take()?),
            },
            b'l' => {
                let mtime_ns = i64::from_le_bytes(rest.take()?);
                let target = std::mem::take(&mut rest.0);
                if target.is_empty() || target.len() > TARGET_BYTES_MAX || target.contains(&0) {
                    return Err(EntryError::Target);
                }
                Entry::Link { mtime_ns, target: target.into() }
            }
            b'?' => Entry::Unknown,
            _ => return Err(EntryError::Unknown),
        };
        if rest.0.is_empty() { Ok(entry) } else { Err(EntryError::Length) }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], EntryError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(EntryError::Length)?;
        self.0 = rest;
        Ok(*head)
    }

    fn mode(&mut self) -> Result<u32, EntryError> {
        let mode = u32::from_le_bytes(self.take()?);
        if mode & !MODE_MASK != 0 { Err(EntryError::Unknown) } else { Ok(mode) }
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Dir => "directory",
            Kind::File => "file",
            Kind::Link => "link",
            Kind::Special => "special file",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_entry() -> impl Strategy<Value = Entry> {
        let mode = (0..=MODE_MASK).prop_map(|m| m & MODE_MASK);
        prop_oneof![
            (mode.clone(), any::<i64>()).prop_map(|(mode, mtime_ns)| Entry::Dir { mode, mtime_ns }),
            (mode, any::<i64>(), any::<u64>(), any::<[u8; 32]>()).prop_map(|(mode, mtime_ns, size_bytes, content)| {
                Entry::File { mode, mtime_ns, size_bytes, content: ContentId(content) }
            }),
            (any::<i64>(), prop::collection::vec(1..=255u8, 1..40))
                .prop_map(|(mtime_ns, target)| Entry::Link { mtime_ns, target: target.into() }),
            Just(Entry::Unknown),
        ]
    }

    #[test]
    fn the_bytes_of_a_directory_are_these() {
        let bytes = Entry::Dir { mode: 0o755, mtime_ns: 1 }.to_bytes();
        assert_eq!(bytes, [1, b'd', 0xed, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Entry::Unknown.to_bytes(), [1, b'?']);
    }

    #[test]
    fn set_id_bits_and_impossible_targets_are_refused() {
        let mut set_uid = vec![1, b'd'];
        set_uid.extend_from_slice(&0o4755u32.to_le_bytes());
        set_uid.extend_from_slice(&[0; 8]);
        assert_eq!(Entry::decode(&set_uid), Err(EntryError::Unknown));
        for target in [&b""[..], b"a\0b", &[b'a'; TARGET_BYTES_MAX + 1]] {
            let mut link = vec![1, b'l', 0, 0, 0, 0, 0, 0, 0, 0];
            link.extend_from_slice(target);
            assert_eq!(Entry::decode(&link), Err(EntryError::Target));
        }
    }

    proptest! {
        #[test]
        fn an_entry_survives_its_bytes(entry in any_entry()) {
            prop_assert_eq!(Entry::decode(&entry.to_bytes()), Ok(entry));
        }

        #[test]
        fn bytes_have_one_reading(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(entry) = Entry::decode(&bytes) {
                prop_assert_eq!(entry.to_bytes(), bytes);
            }
        }
    }
}
