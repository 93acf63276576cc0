//! What should be: anything that can list a directory and give content.
//!
//! A directory on disk is one source ([`crate::disk`]), the replica of a board another. The engine asks, the source
//! answers; it never touches the destination itself.

use crate::problem::Problem;
use bytes::Bytes;
use std::fs::File;
use tree::at::{Attributes, Node, Takes};
use tree::entry::Entry;
use tree::{ContentId, Dir, Kind, Name, RelPath, Stat};

/// What should stand at a path.
#[derive(Clone, Debug)]
pub enum Want {
    /// A directory; what is in it is listed apart.
    Dir(WantDir),
    /// A regular file.
    File(WantFile),
    /// A symlink.
    Link(WantLink),
    /// A fifo, socket or device.
    Node(WantNode),
    /// Something stands there that is not known well enough to be copied. What the destination has there is left
    /// alone, with everything below it.
    Unknown(Problem),
}

/// What a directory itself should be.
#[derive(Clone, Copy, Debug)]
pub struct WantDir {
    /// Permission bits.
    pub mode: u32,
    /// Nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// What the source's disk said of it, where the source is a disk.
    pub found: Option<Stat>,
}

/// What a symlink should be.
#[derive(Clone, Debug)]
pub struct WantLink {
    /// Nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// Where it points, as found.
    pub target: Box<[u8]>,
    /// What the source's disk said of it, where the source is a disk.
    pub found: Option<Stat>,
}

/// What a fifo, socket or device should be.
#[derive(Clone, Copy, Debug)]
pub struct WantNode {
    /// Which of them.
    pub node: Node,
    /// Permission bits.
    pub mode: u32,
    /// Nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// What the source's disk said of it, where the source is a disk.
    pub found: Option<Stat>,
}

/// What a file should be.
#[derive(Clone, Copy, Debug)]
pub struct WantFile {
    /// Permission bits.
    pub mode: u32,
    /// Nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Hash of the content, where the source knows it: then nothing else ever gets the name.
    pub content: Option<ContentId>,
    /// What the source's disk said of it, where the source is a disk.
    pub found: Option<Stat>,
}

/// How hard to look whether a file is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// As the source sees fit; equal metadata may be enough.
    Stat,
    /// An event named the content: equal metadata proves nothing.
    Content,
}

/// How what was found compares to what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Same {
    /// Nothing to do.
    Same,
    /// The content is the wanted one; mode or time are not.
    MetaOnly,
    /// The content has to be put there.
    Different,
}

/// The content of a wanted file, or why it is not here.
#[derive(Debug)]
pub enum Supply {
    /// All of it.
    Bytes(Bytes),
    /// An open file to copy from.
    File {
        /// Positioned at its begin.
        file: File,
        /// What it was when it was looked at. If the descriptor says anything else after copying, the copy is
        /// thrown away and asked for again.
        before: Stat,
    },
    /// A file without a name in the destination's file system, already holding the content, verified by whoever
    /// wrote it. It gets its mode, time and name.
    Staged(File),
    /// Not here yet: what stands at the destination stays, and the path is told in
    /// [`Outcome::waiting`](crate::engine::Outcome::waiting). The caller marks it dirty once the content is here.
    Pending,
    /// It changes faster than it can be read: left for later.
    Unsettled,
    /// It is not there any more: looked at again.
    Gone,
    /// It cannot be had.
    Problem(Problem),
}

/// What should be.
pub trait Source: Send {
    /// Another one of the same for another thread, if there can be one. What is told to it is known to this one after
    /// [`Source::join`].
    fn fork(&self) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }

    /// Takes in what was told to one of [`Source::fork`].
    fn join(&mut self, other: Self)
    where
        Self: Sized,
    {
        drop(other);
    }

    /// What should stand in `dir`, sorted by name.
    ///
    /// # Errors
    /// When that is not known to its last entry. Then nothing below `dir` is changed or deleted at the destination.
    fn list(&mut self, dir: &RelPath) -> Result<Vec<(Name, Want)>, Problem>;

    /// What should stand at one path; `None` for nothing. The root is a path, too.
    ///
    /// # Errors
    /// When that is not known: the destination is left alone there.
    fn entry(&mut self, path: &RelPath) -> Result<Option<Want>, Problem>;

    /// Whether `found`, a regular file called `name` in the held directory `dest`, is what is wanted at `path`.
    ///
    /// # Errors
    /// When it had to be read and could not be.
    fn same(
        &mut self,
        path: &RelPath,
        want: &WantFile,
        found: &Stat,
        dest: &Dir,
        name: &Name,
        look: Look,
    ) -> Result<Same, Problem>;

    /// The content of the file wanted at `path`.
    fn content(&mut self, path: &RelPath, want: &WantFile) -> Supply;

    /// A pass begins: what was remembered of how the source is chosen is read again.
    fn begin(&mut self) {}

    /// Whether it is only about some of what there is, so that [`Source::leaves`] has to be asked.
    fn chooses(&self) -> bool {
        false
    }

    /// Whether `path`, which is at the destination and not wanted there, is none of this source's business: it stays.
    ///
    /// # Errors
    /// When that is not known: it stays, too.
    fn leaves(&mut self, path: &RelPath, kind: Kind) -> Result<bool, Problem> {
        let _ = (path, kind);
        Ok(false)
    }

    /// The attributes of what stands at `path`, of those that `takes` means; none where the source's file system has none.
    /// Asked only if they are kept. With `found`, an error unless they are those of what was found.
    ///
    /// # Errors
    /// When they cannot be read.
    fn attributes(&mut self, path: &RelPath, found: Option<&Stat>, takes: Takes<'_>) -> Result<Attributes, Problem> {
        let _ = (path, found, takes);
        Ok(Attributes::default())
    }

    /// Whether `name` of `dir` is in the middle of a change: it is left alone by this pass, also if it is extra.
    /// Whoever says so brings it back once it has settled.
    fn is_unsettled(&mut self, dir: &RelPath, name: &Name) -> bool {
        let _ = (dir, name);
        false
    }

    /// The same of `path`, by all that was reported up to now: asked once its content is staged, which is thrown away if
    /// it may not be one whole version.
    fn is_unsettled_by_now(&mut self, path: &RelPath) -> bool {
        let _ = path;
        false
    }

    /// Whether the source is still the one that was pinned; asked before anything is deleted.
    ///
    /// # Errors
    /// When it is not: nothing is deleted in this pass.
    fn check_pin(&mut self) -> Result<(), Problem> {
        Ok(())
    }

    /// Device and inode of each directory in which something of this source begins: its root, and what is mounted below it.
    /// Met at the destination, none of them is touched.
    fn roots(&self) -> Vec<(u64, u64)> {
        Vec::new()
    }

    /// Whether `path`, which is not wanted, may be deleted with all that is below it, as far as what was pinned of the source
    /// there is still what it was.
    ///
    /// # Errors
    /// When it is not: then it stays.
    fn check_deletion(&mut self, path: &RelPath) -> Result<(), Problem> {
        let _ = path;
        Ok(())
    }

    /// `path` was found to be what is wanted; `stat` is what the destination's disk says of it.
    fn kept(&mut self, path: &RelPath, want: &Want, stat: &Stat) {
        let _ = (path, want, stat);
    }

    /// `path` was put in place, or its metadata was; `stat` was read back from the destination's disk afterwards.
    fn placed(&mut self, path: &RelPath, want: &Want, stat: &Stat) {
        let _ = (path, want, stat);
    }

    /// `path`, and all that was below it, is no longer at the destination.
    fn removed(&mut self, path: &RelPath) {
        let _ = path;
    }
}

impl Want {
    /// When it was last modified; `None` where nothing is known.
    pub fn mtime_ns(&self) -> Option<i64> {
        match self {
            Want::Dir(WantDir { mtime_ns, .. })
            | Want::File(WantFile { mtime_ns, .. })
            | Want::Link(WantLink { mtime_ns, .. })
            | Want::Node(WantNode { mtime_ns, .. }) => Some(*mtime_ns),
            Want::Unknown(_) => None,
        }
    }

    /// The same with another time of last modification.
    pub(crate) fn at(mut self, ns: i64) -> Self {
        match &mut self {
            Want::Dir(WantDir { mtime_ns, .. })
            | Want::File(WantFile { mtime_ns, .. })
            | Want::Link(WantLink { mtime_ns, .. })
            | Want::Node(WantNode { mtime_ns, .. }) => *mtime_ns = ns,
            Want::Unknown(_) => {}
        }
        self
    }

    /// Its kind; `None` where nothing is known.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Want::Dir(_) => Some(Kind::Dir),
            Want::File(_) => Some(Kind::File),
            Want::Link(_) => Some(Kind::Link),
            Want::Node(_) => Some(Kind::Special),
            Want::Unknown(_) => None,
        }
    }

    /// What the source's disk said of it, where the source is a disk.
    pub fn found(&self) -> Option<&Stat> {
        match self {
            Want::Dir(want) => want.found.as_ref(),
            Want::File(want) => want.found.as_ref(),
            Want::Link(want) => want.found.as_ref(),
            Want::Node(want) => want.found.as_ref(),
            Want::Unknown(_) => None,
        }
    }
}

impl From<&Entry> for Want {
    fn from(entry: &Entry) -> Self {
        match entry {
            Entry::Dir { mode, mtime_ns } => Want::Dir(WantDir { mode: *mode, mtime_ns: *mtime_ns, found: None }),
            Entry::File { mode, mtime_ns, size_bytes, content } => Want::File(WantFile {
                mode: *mode,
                mtime_ns: *mtime_ns,
                size_bytes: *size_bytes,
                content: Some(*content),
                found: None,
            }),
            Entry::Link { mtime_ns, target } => {
                Want::Link(WantLink { mtime_ns: *mtime_ns, target: target.clone(), found: None })
            }
            Entry::Unknown => Want::Unknown(Problem::SourceUnknown),
        }
    }
}
