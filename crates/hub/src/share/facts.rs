//! What a disk said of an entry when it was hashed: kept beside it in the index, never sent.
//!
//! While the disk still says the same, the content is known without reading it.

use tree::Kind;
use tree::at::Stat;

/// Everything that changes when a file's content may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    dev: u64,
    ino: u64,
    size_bytes: u64,
    mtime_ns: i64,
    ctime_ns: i64,
}

const BYTES: usize = 40;
/// In place of the size of a directory on which something is mounted; no file is that large. Where the kind of a file system is
/// noted, which has 32 bits, it is that much less.
const MOUNTED: u64 = u64::MAX;

impl Facts {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.dev,
            ino: stat.ino,
            // The size of a directory says nothing; whether something is mounted on it does.
            size_bytes: if stat.kind == Kind::Dir {
                if stat.mount_point { MOUNTED } else { 0 }
            } else {
                stat.size_bytes
            },
            mtime_ns: stat.mtime_ns,
            ctime_ns: stat.ctime_ns,
        }
    }

    /// Of a directory that is pinned as a root is; on a file system that does not outlive a boot, of what kind that is.
    pub(crate) fn of_root(stat: &Stat, fleeting: Option<u32>) -> Self {
        let (facts, kind) = (Self::of(stat), u64::from(fleeting.unwrap_or_default()));
        Self { size_bytes: if facts.mount_point() { MOUNTED - kind } else { kind }, ..facts }
    }

    /// Of a directory: whether something is mounted on it.
    pub(crate) fn mount_point(&self) -> bool {
        self.size_bytes >= MOUNTED - u64::from(u32::MAX)
    }

    /// What kind of file system a root is on, if it is one that does not outlive a boot; 0 else.
    fn fleeting(&self) -> u64 {
        if self.mount_point() { MOUNTED - self.size_bytes } else { self.size_bytes }
    }

    /// Of a root: whether it is on a new file system in the place of that of `pinned`, which could not stay: in memory, say. Never
    /// where one was mounted and none is any more.
    pub(crate) fn follows(&self, pinned: &Facts) -> bool {
        let same_kind = self.fleeting() != 0 && self.fleeting() == pinned.fleeting();
        same_kind && self.dev != pinned.dev && (self.mount_point() || !pinned.mount_point())
    }

    /// Whether both are of the same thing, whatever became of it since.
    pub(crate) fn same_place(&self, other: &Facts) -> bool {
        self.place() == other.place()
    }

    /// Whether both are of the same directory, pinned as a root is. The id of a file system stays, but for XFS, which takes
    /// the number of its device, and that may be another after a boot: then the inode tells, together with the moment of its
    /// last change, to the nanosecond.
    pub(crate) fn same_directory(&self, other: &Facts) -> bool {
        self.same_place(other) || (self.ino, self.ctime_ns) == (other.ino, other.ctime_ns)
    }

    /// Device and inode.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }

    /// When it last changed in any way, in nanoseconds since the Unix epoch.
    pub(crate) fn ctime_ns(&self) -> i64 {
        self.ctime_ns
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BYTES);
        for word in [self.dev, self.ino, self.size_bytes] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for word in [self.mtime_ns, self.ctime_ns] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// `None` for anything but what [`Facts::to_bytes`] gave: then nothing is known and the file is read.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<8>() else { return None };
        let [dev, ino, size, mtime, ctime] = words else { return None };
        Some(Self {
            dev: u64::from_le_bytes(*dev),
            ino: u64::from_le_bytes(*ino),
            size_bytes: u64::from_le_bytes(*size),
            mtime_ns: i64::from_le_bytes(*mtime),
            ctime_ns: i64::from_le_bytes(*ctime),
        })
    }
}
