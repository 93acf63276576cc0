//! Why one entry could not be made equal while the rest went on.

use tree::path::PathError;
use tree::{Kind, Name, RelPath, fsx};

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
    #[error(
        "{0} kept changing while it was read, so the copy stays at its last whole version; run this again once it is at \
         rest, or mirror a snapshot of it"
    )]
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
    /// A name of the source that the destination's disk takes for another one.
    #[error(
        "{path} is not copied: to the disk of the destination that is the same name as {other}, which stands there and is left \
         as it is; {}", if *.is_wanted { "give one of them another name at the source" } else {
            "the mirror is not about that one (it is left out, or its name is too long to be changed): give this one another name at the source, \
             or that one at the destination"
        }
    )]
    Collision {
        /// The one that has no place there.
        path: RelPath,
        /// The name beside it that has.
        other: Name,
        /// Whether that is a name of the source, too.
        is_wanted: bool,
    },
    /// What was to get another spelling of its name, and has neither.
    #[error("{at} was called {name} and could not get that name back, so it stays as it is: {why}")]
    Respelt {
        /// Where it is.
        at: String,
        /// Its name.
        name: Name,
        /// What went wrong, and what to do.
        why: String,
    },
    /// A path longer or deeper than is handled.
    #[error("a path in {0} is {1}; shorten it at the source")]
    Path(RelPath, PathError),
    /// A directory of the destination holds what is deeper than any path of ours, and has to be judged or saved by its path.
    #[error(
        "{0} holds, at the destination, what lies too deep to be named, so whether it is excluded is not known, and it cannot be \
         saved; remove it there"
    )]
    TooDeep(RelPath),
    /// Something else is mounted there, which is never emptied.
    #[error("{0} is a mount point at the destination, so it is not deleted; unmount it first")]
    MountPoint(RelPath),
    /// A root or a mount point is not the one that was pinned, so nothing below it is deleted.
    #[error("{0}")]
    Pin(#[from] crate::guard::PinBroken),
    /// One of the two directories, or that of the backups, was met in the other, mounted there as well.
    #[error(
        "{path} is {what} itself, or is in it, mounted there as well; nothing at or below it is touched, and nothing is \
         deleted; choose another destination, or unmount it there"
    )]
    Overlap {
        /// Where it was met.
        path: RelPath,
        /// What it is.
        what: &'static str,
    },
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
    /// A directory that would have to be emptied, in a mode that deletes nothing.
    #[error(
        "{0} is a directory at the destination and something else at the source, and nothing is deleted; remove it there"
    )]
    InTheWay(RelPath),
    /// Something the mirror leaves alone is where something else should be.
    #[error(
        "{0} holds, at the destination, what is left alone (excluded, a log or a backup), so it is not replaced; move that away"
    )]
    Protected(RelPath),
    /// What would be lost could not be kept first.
    #[error("{path} stays as it is, for it could not be saved in {backup}: {error}")]
    NotSaved {
        /// Which entry.
        path: RelPath,
        /// The directory of backups, as the operator named it.
        backup: String,
        /// What went wrong.
        error: fsx::Error,
    },
    /// A temporary that is nobody's any more, or what was replaced and bears its name, is still there.
    #[error("{at} is left over and could not be removed ({why}); the next pass tries again")]
    LeftOver {
        /// Where.
        at: String,
        /// What went wrong.
        why: String,
    },
    /// What was written is not what is read back.
    #[error("{0} was not copied: what the disk gives back is not what was written; check the disk and the memory")]
    NotVerified(RelPath),
    /// An ignore file that is none, so it is not known what is excluded.
    #[error("{0} is {1}; nothing in its directory is mirrored until it is mended")]
    IgnoreFile(String, tree::filter::FilterError),
    /// The source itself does not know what stands there.
    #[error("the source could not read it and so does not know what it is; what stands here is left alone")]
    SourceUnknown,
    /// What another kind of source has to say.
    #[error("{0}")]
    Source(String),
}

impl Problem {
    /// Whether the two directories turned out to be one in the other.
    pub fn is_overlap(&self) -> bool {
        matches!(self, Problem::Overlap { .. })
    }

    /// Whether the disk was full: worth another try once something was deleted.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Problem::Fs(e) if e.is_no_space())
    }
}
