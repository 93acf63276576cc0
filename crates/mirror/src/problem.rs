//! Why one entry could not be made equal while the rest went on.

use tree::path::PathError;
use tree::{Kind, RelPath, fsx};

/// One entry's failure: named, counted, tried again later, and never a reason to stop the others.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Problem {
    /// A file system call failed.
    #[error(transparent)]
    Fs(#[from] fsx::Error),
    /// The destination changed between looking and touching, so it was left as it is.
    #[error("{0} changed at the destination in this very moment; it was left alone and is looked at again")]
    Moved(RelPath),
    /// The source did not stand still for as long as reading it takes.
    #[error("{0} keeps changing while it is read; the copy stays at its last whole version and is tried again")]
    Unsettled(RelPath),
    /// What came is not what was announced, so it got no name.
    #[error("{0} came with content that does not match its hash; it was discarded and is asked for again")]
    Mismatch(RelPath),
    /// A fifo, socket or device.
    #[error("{0} is a fifo, socket or device, which is mirrored only with --specials or --devices")]
    Special(RelPath),
    /// A source name of the form of our own temporaries.
    #[error("{0} has a name that is reserved for temporaries; rename it at the source")]
    Reserved(RelPath),
    /// A path longer or deeper than is handled.
    #[error("a path in {0} is {1}; shorten it at the source")]
    Path(RelPath, PathError),
    /// Something else is mounted there, which is never emptied.
    #[error("{0} is a mount point at the destination, so it is not deleted; unmount it first")]
    MountPoint(RelPath),
    /// A root or a mount point is not the one that was pinned, so nothing below it is deleted.
    #[error("{0}")]
    Pin(#[from] crate::guard::PinBroken),
    /// The kinds of entry that stand in each other's way and cannot be exchanged here.
    #[error("{path} is a {found} at the destination and cannot be replaced by a {wanted} on this file system")]
    Kinds {
        /// Where.
        path: RelPath,
        /// What stands there.
        found: Kind,
        /// What should.
        wanted: Kind,
    },
    /// The source itself does not know what stands there.
    #[error("the source could not read it and so does not know what it is; what stands here is left alone")]
    SourceUnknown,
    /// What another kind of source has to say.
    #[error("{0}")]
    Source(String),
}

impl Problem {
    /// Whether the disk was full: worth another try once something was deleted.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Problem::Fs(e) if e.is_no_space())
    }
}
