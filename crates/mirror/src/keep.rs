//! What is kept beside content, mode, time and link targets: each is asked for by itself, and costs nothing else.
//!
//! What cannot be kept (a file system without attributes, a user who may not give files away) is no failure of an entry:
//! it is counted once for each kind, with its first entry and the reason, in [`Outcome::unkept`](crate::Outcome::unkept).

pub(crate) mod give;

use std::collections::BTreeMap;
use std::fmt;
use tree::at::{ACL_ACCESS, ACL_DEFAULT, Attributes};
use tree::entry::MODE_MASK;
use tree::{RelPath, Stat, fsx};

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
/// The attribute that gives a program rights without a set-id bit.
const CAPABILITY: &[u8] = b"security.capability";

/// One thing that may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum What {
    /// The owner, and with it set-uid bits.
    Owner,
    /// The group, and with both set-gid bits.
    Group,
    /// Extended attributes: those of the `user` namespace, for root all but `system`.
    Xattrs,
    /// POSIX ACLs, a directory's default one included.
    Acls,
    /// Which names are one file.
    HardLinks,
    /// Holes of sparse files.
    Sparse,
    /// Fifos and sockets.
    Specials,
    /// Devices.
    Devices,
}

impl What {
    /// All of them.
    pub const ALL: [What; 8] = [
        What::Owner,
        What::Group,
        What::Xattrs,
        What::Acls,
        What::HardLinks,
        What::Sparse,
        What::Specials,
        What::Devices,
    ];

    /// Its name, which is that of its flag.
    pub fn name(self) -> &'static str {
        match self {
            What::Owner => "owner",
            What::Group => "group",
            What::Xattrs => "xattrs",
            What::Acls => "acls",
            What::HardLinks => "hard-links",
            What::Sparse => "sparse",
            What::Specials => "specials",
            What::Devices => "devices",
        }
    }
}

/// A set of [`What`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep(u8);

impl Keep {
    /// Nothing but content, mode, time and link targets.
    pub const NOTHING: Keep = Keep(0);
    /// Everything.
    pub const ARCHIVE: Keep = Keep(u8::MAX);

    /// This and `what`.
    #[must_use]
    pub const fn with(self, what: What) -> Self {
        Keep(self.0 | 1 << what as u8)
    }

    /// Whether `what` is kept.
    pub const fn has(self, what: What) -> bool {
        self.0 & 1 << what as u8 != 0
    }

    /// Whether nothing is.
    pub const fn is_nothing(self) -> bool {
        self.0 == 0
    }

    /// The bits of an entry's mode that are kept. A set-id bit means nothing without the id.
    pub fn mode_of(self, stat: &Stat) -> u32 {
        let mut mask = MODE_MASK;
        if self.has(What::Owner) {
            mask |= SET_UID;
            if self.has(What::Group) {
                mask |= SET_GID;
            }
        }
        stat.mode & mask
    }

    pub(crate) fn has_attributes(self) -> bool {
        self.has(What::Xattrs) || self.has(What::Acls)
    }

    /// Whether the attribute `name` is kept; `root`: by a user who may set all.
    fn takes(self, root: bool, name: &[u8]) -> bool {
        if name == ACL_ACCESS || name == ACL_DEFAULT {
            return self.has(What::Acls);
        }
        self.has(What::Xattrs) && (name.starts_with(b"user.") || (root && !name.starts_with(b"system.")))
    }
}

impl FromIterator<What> for Keep {
    fn from_iter<T: IntoIterator<Item = What>>(whats: T) -> Self {
        whats.into_iter().fold(Keep::NOTHING, Keep::with)
    }
}

/// Why something is not kept.
#[derive(Clone, Debug)]
pub enum Reason {
    /// This user may not, whatever the entry.
    NoRight,
    /// The system refused it for this entry.
    Refused(fsx::Error),
}

/// What of one entry could not be kept.
pub(crate) type Lack = (What, Reason);

/// What could not be kept, of how many entries.
#[derive(Clone, Debug)]
pub struct Unkept {
    /// What.
    pub what: What,
    /// How many entries lack it.
    pub entries: u64,
    /// The first of them.
    pub first: RelPath,
    /// Why it lacks it.
    pub reason: Reason,
}

/// [`Unkept`] by what.
pub type UnkeptByWhat = BTreeMap<What, Unkept>;

/// Counts one more.
pub(crate) fn count(unkept: &mut UnkeptByWhat, path: &RelPath, (what, reason): Lack) {
    let first = || Unkept { what, entries: 0, first: path.clone(), reason };
    unkept.entry(what).or_insert_with(first).entries += 1;
}

impl fmt::Display for Unkept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unkept { what, entries, first, reason } = self;
        let flag = what.name();
        let what = match what {
            What::Owner => "the owner",
            What::Group => "the group",
            What::Xattrs => "extended attributes",
            What::Acls => "the ACL",
            What::HardLinks => "hard links",
            What::Sparse => "holes",
            What::Specials => "the fifo or socket",
            What::Devices => "the device",
        };
        let of = if *entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
        let first = if first.is_root() { ".".to_owned() } else { first.to_string() };
        write!(f, "cannot keep {what} of {of}, {first} the first: ")?;
        match reason {
            Reason::NoRight => write!(f, "{reason}; run as root, or leave out --{flag}"),
            Reason::Refused(_) => write!(f, "{reason}; leave out --{flag} to have it not tried"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoRight => f.write_str("only root may do that"),
            // Without the cure of a failed call: nothing has to be done about it.
            Reason::Refused(error) => f.write_str(&error.plain()),
        }
    }
}

/// What is kept, and what this process may do about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keeping {
    pub(crate) keep: Keep,
    rights: Rights,
}

/// What the process may do, whatever the entry.
#[derive(Clone, Debug, Default)]
struct Rights {
    /// Give files away.
    chown: bool,
    mknod: bool,
    root: bool,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Rights {
    fn of_this_process() -> Self {
        use rustix::thread::CapabilitySet;
        let root = rustix::process::geteuid().is_root();
        // Where the kernel does not tell them, the user's id decides, and the calls say the rest.
        let capabilities = rustix::thread::capabilities(None).map(|sets| sets.effective);
        let may = |capability| capabilities.as_ref().map_or(root, |held: &CapabilitySet| held.contains(capability));
        let groups = rustix::process::getgroups().unwrap_or_default();
        Self {
            chown: may(CapabilitySet::CHOWN),
            mknod: may(CapabilitySet::MKNOD),
            root,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            groups: groups.into_iter().map(|gid| gid.as_raw()).collect(),
        }
    }
}

/// Owner and attributes that one entry gets; the default: what it has by itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) attributes: Option<Attributes>,
    /// Owner and group it has; `None` if nothing is kept.
    now: Option<(u32, u32)>,
    keep: Keep,
    root: bool,
    /// Its owner will not be the wanted one, so set-id bits would give rights to the wrong one.
    foreign: bool,
}

impl Keeping {
    pub(crate) fn new(keep: Keep) -> Self {
        let rights = if keep.is_nothing() { Rights::default() } else { Rights::of_this_process() };
        Self { keep, rights }
    }

    /// Whether the attribute `name` is kept.
    pub(crate) fn takes(&self, name: &[u8]) -> bool {
        self.keep.takes(self.rights.root, name)
    }

    pub(crate) fn may_make_devices(&self) -> bool {
        self.rights.mknod
    }

    /// Owner and group of what this process makes, but for directories that give theirs on.
    pub(crate) fn own(&self) -> (u32, u32) {
        (self.rights.uid, self.rights.gid)
    }

    /// What an entry that belongs to `now` needs to belong to the owner of `want`; what cannot be done by this user
    /// is added to `lacks`.
    pub(crate) fn owner(&self, want: Option<&Stat>, now: (u32, u32), lacks: &mut Vec<Lack>) -> Kept {
        let Some(want) = want.filter(|_| !self.keep.is_nothing()) else { return Kept::default() };
        let mut kept = Kept { now: Some(now), keep: self.keep, root: self.rights.root, ..Kept::default() };
        let Rights { chown, uid, gid, groups, .. } = &self.rights;
        if self.keep.has(What::Owner) {
            if *chown || want.uid == now.0 {
                kept.uid = Some(want.uid);
            } else {
                lacks.push((What::Owner, Reason::NoRight));
                kept.foreign = true;
            }
        }
        if self.keep.has(What::Group) {
            let ours = now.0 == *uid && (want.gid == *gid || groups.contains(&want.gid));
            if *chown || ours || want.gid == now.1 {
                kept.gid = Some(want.gid);
            } else {
                lacks.push((What::Group, Reason::NoRight));
                kept.foreign = true;
            }
        }
        kept
    }
}

impl Kept {
    /// Whether something with `stat` belongs to somebody else than it should.
    pub(crate) fn is_foreign(&self, stat: &Stat) -> bool {
        self.uid.is_some_and(|uid| uid != stat.uid) || self.gid.is_some_and(|gid| gid != stat.gid)
    }

    /// The bits of `stat`'s mode that are kept.
    pub(crate) fn mode_of(&self, stat: &Stat) -> u32 {
        self.keep.mode_of(stat)
    }

    /// `mode`, as far as it may be given.
    pub(crate) fn mode(&self, mode: u32) -> u32 {
        if self.foreign { mode & MODE_MASK } else { mode }
    }

    /// Whether who runs it would get rights by it: such an entry gets them only together with its content.
    pub(crate) fn gives_rights(&self, mode: u32) -> bool {
        self.mode(mode) & (SET_UID | SET_GID) != 0
            || self.attributes.as_ref().is_some_and(|attributes| attributes.0.contains_key(CAPABILITY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_bit_of_its_own() {
        for what in What::ALL {
            let one: Keep = [what].into_iter().collect();
            assert_eq!(What::ALL.map(|other| one.has(other)), What::ALL.map(|other| other == what));
            assert!(Keep::ARCHIVE.has(what) && !Keep::NOTHING.has(what));
        }
    }

    #[test]
    fn the_namespaces_are_those_that_rsync_copies() {
        let xattrs = Keep::NOTHING.with(What::Xattrs);
        let acls = Keep::NOTHING.with(What::Acls);
        for (name, by_user, by_root) in [
            (&b"user.a"[..], true, true),
            (b"trusted.a", false, true),
            (b"security.capability", false, true),
            (b"system.nfs4_acl", false, false),
            (ACL_ACCESS, false, false),
        ] {
            assert_eq!((xattrs.takes(false, name), xattrs.takes(true, name)), (by_user, by_root));
            assert_eq!(acls.takes(true, name), name == ACL_ACCESS);
        }
    }

    #[test]
    fn a_set_id_bit_is_kept_only_with_its_id() {
        let stat = Stat { mode: 0o7755, ..crate::stage::UNKNOWN };
        let keeps = [
            (Keep::NOTHING, 0o1755),
            (Keep::NOTHING.with(What::Group), 0o1755),
            (Keep::NOTHING.with(What::Owner), 0o5755),
            (Keep::ARCHIVE, 0o7755),
        ];
        for (keep, mode) in keeps {
            assert_eq!(keep.mode_of(&stat), mode);
        }
    }

    #[test]
    fn who_may_not_give_files_away_gets_no_set_id_bits_either() {
        let rights = Rights { uid: 7, gid: 7, groups: vec![8], ..Rights::default() };
        let keeping = Keeping { keep: Keep::ARCHIVE, rights };
        let want = Stat { uid: 0, gid: 8, ..crate::stage::UNKNOWN };
        let mut lacks = Vec::new();
        let kept = keeping.owner(Some(&want), (7, 7), &mut lacks);
        assert_eq!((kept.uid, kept.gid, kept.mode(0o6755)), (None, Some(8), 0o755));
        assert!(matches!(lacks[..], [(What::Owner, Reason::NoRight)]));
        lacks.clear();
        let ours = keeping.owner(Some(&Stat { uid: 7, ..want }), (7, 7), &mut lacks);
        assert_eq!((ours.uid, ours.gid, ours.mode(0o6755), lacks.len()), (Some(7), Some(8), 0o6755, 0));
    }
}
