//! What is known of a name on the destination's disk: the entry as it was read back, and the identity under which it
//! was. It is kept beside the name's value in the replica, so that an agent that starts again reads no file twice.

use tree::{ContentId, Entry, Kind, Stat};

const FORMAT: u8 = 1;
/// A change within this long after another may leave the same time stamp (a coarse kernel clock ticks every 10 ms at
/// most; twice that to be safe).
pub(crate) const RACY_NS: i64 = 20_000_000;

/// An entry on the disk, as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// What stood there.
    pub(crate) entry: Entry,
    dev: u64,
    ino: u64,
    ctime_ns: i64,
    /// When it was read back, by the clock that stamps files; later if it is known that nothing has changed since.
    taken_ns: i64,
}

impl Placed {
    pub(crate) fn new(entry: Entry, stat: &Stat, taken_ns: i64) -> Placed {
        Placed { entry, dev: stat.dev, ino: stat.ino, ctime_ns: stat.ctime_ns, taken_ns }
    }

    /// A file with this content.
    pub(crate) fn file(content: ContentId, stat: &Stat, taken_ns: i64) -> Placed {
        let entry =
            Entry::File { mode: stat.kept_mode(), mtime_ns: stat.mtime_ns, size_bytes: stat.size_bytes, content };
        Placed::new(entry, stat, taken_ns)
    }

    /// Whether `stat` is of the very thing that was read back, unchanged as far as time stamps can tell.
    pub(crate) fn is(&self, stat: &Stat) -> bool {
        let (kind, size_bytes) = match &self.entry {
            Entry::Dir { .. } => (Kind::Dir, stat.size_bytes),
            Entry::File { size_bytes, .. } => (Kind::File, *size_bytes),
            Entry::Link { target, .. } => (Kind::Link, target.len() as u64),
            Entry::Unknown => return false,
        };
        (kind, size_bytes, self.entry.mtime_ns()) == (stat.kind, stat.size_bytes, Some(stat.mtime_ns))
            && self.entry.mode().is_none_or(|mode| mode == stat.kept_mode())
            && (self.dev, self.ino, self.ctime_ns) == (stat.dev, stat.ino, stat.ctime_ns)
    }

    /// Whether it was so young when it was read back that a later change may bear the same time stamp.
    pub(crate) fn is_racy(&self) -> bool {
        self.taken_ns.saturating_sub(self.ctime_ns) < RACY_NS
    }

    /// Nothing has changed until now: a watch would have told.
    pub(crate) fn confirm(&mut self, now_ns: i64) {
        self.taken_ns = self.taken_ns.max(now_ns);
    }

    pub(crate) fn content(&self) -> Option<ContentId> {
        self.entry.content().map(|(content, _)| content)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        out.push(FORMAT);
        out.extend_from_slice(&self.dev.to_le_bytes());
        out.extend_from_slice(&self.ino.to_le_bytes());
        out.extend_from_slice(&self.ctime_ns.to_le_bytes());
        out.extend_from_slice(&self.taken_ns.to_le_bytes());
        self.entry.encode(&mut out);
        out
    }

    /// `None` where nothing is known, also of a form this version does not know: it is looked at again then.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Placed> {
        let (&FORMAT, rest) = bytes.split_first()? else { return None };
        let (dev, rest) = rest.split_first_chunk()?;
        let (ino, rest) = rest.split_first_chunk()?;
        let (ctime, rest) = rest.split_first_chunk()?;
        let (taken, rest) = rest.split_first_chunk()?;
        Some(Placed {
            entry: Entry::decode(rest).ok()?,
            dev: u64::from_le_bytes(*dev),
            ino: u64::from_le_bytes(*ino),
            ctime_ns: i64::from_le_bytes(*ctime),
            taken_ns: i64::from_le_bytes(*taken),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat() -> Stat {
        Stat {
            kind: Kind::File,
            mode: 0o644,
            dev: 1,
            ino: 2,
            nlink: 1,
            uid: 0,
            gid: 0,
            size_bytes: 3,
            mtime_ns: 4,
            ctime_ns: 5,
            mount_point: false,
        }
    }

    #[test]
    fn what_was_read_back_is_known_by_every_part_of_its_identity() {
        let placed = Placed::file(ContentId([7; 32]), &stat(), 100);
        assert!(placed.is(&stat()));
        let changes: [fn(&mut Stat); 7] = [
            |s| s.kind = Kind::Link,
            |s| s.mode = 0o600,
            |s| s.dev = 9,
            |s| s.ino = 9,
            |s| s.size_bytes = 9,
            |s| s.mtime_ns = 9,
            |s| s.ctime_ns = 9,
        ];
        for change in changes {
            let mut other = stat();
            change(&mut other);
            assert!(!placed.is(&other), "{other:?}");
        }
        assert_eq!(Placed::decode(&placed.encode()), Some(placed));
        assert_eq!(Placed::decode(b""), None);
    }

    #[test]
    fn what_was_read_back_too_young_is_not_trusted_until_confirmed() {
        let mut placed = Placed::file(ContentId([7; 32]), &stat(), 5 + RACY_NS - 1);
        assert!(placed.is_racy());
        placed.confirm(5 + RACY_NS);
        assert!(!placed.is_racy());
    }
}
