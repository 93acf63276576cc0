//! Where the copy is: whether what stands at its path is what was kept there, or may become it.
//!
//! A disk that is not mounted leaves an empty directory, on another file system than the copy was. That is no reason to
//! fetch all of it onto the wrong disk, and then to take the copy itself for something else. So the replica remembers the
//! file system and the directory, and [`judge`] compares. File systems are known by the id that they give themselves,
//! which stays when devices are numbered anew at a boot.

use super::KeeperConfig;
use board::Replica;
use rustix::fs::{AtFlags, StatxFlags};
use std::path::Path;
use std::time::Duration;
use tree::at::{FLEETING, ListBuffer, is_temp_name};
use tree::{Dir, fsx};

/// The file system's id and the directory's inode.
const NOTE_ROOT: &str = "root";
/// What kind of file system that is; what was noted before there was this has none.
const NOTE_KIND: &str = "root kind";
/// When the directory was made, where its file system tells.
const NOTE_BORN: &str = "root born";
/// Whether it is the top of what is mounted there.
const NOTE_MOUNTED: &str = "root mounted";

/// How often the path of the copy is looked at, while it is there and while it is not.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// XFS calls itself by the number of its device, which may be another after a boot. So there a directory is also known by
/// its inode together with the moment when it was made, to the nanosecond.
const XFS: &str = "58465342";
/// Kinds that keep that moment for good (ext4, XFS, btrfs, tmpfs): there a directory made at another one is another, though
/// it got the inode of one that was deleted.
const KEEP_BIRTH: [&str; 4] = ["ef53", XFS, "9123683e", "1021994"];

/// A file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileSystem {
    /// As it calls itself; 0 where it does not.
    id: u64,
    /// What kind it is, in hexadecimal digits; empty where that was not noted.
    kind: String,
}

/// A directory that is, or was, the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    on: FileSystem,
    inode: u64,
    born_ns: Option<i128>,
    /// It is the top of what is mounted there; never where the kernel does not tell (before 5.8).
    mounted: bool,
}

/// What stands at the path of the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing; what is above it is on this file system.
    Nothing { above: FileSystem },
    /// A directory, with nothing in it that is not our own, or with something.
    Directory { itself: Noted, empty: bool },
}

/// What is known beyond the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// The agent starts; perhaps somebody said that this is to be the copy, whatever it is.
    Start { adopt: bool },
    /// The copy was here a moment ago; perhaps it was deleted.
    Gone { deleted: bool },
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the copy.
    Copy,
    /// It becomes the copy, made if it is missing.
    Begin,
    /// It holds something else: for people to decide.
    Other,
    /// The copy is somewhere else, and comes back or not; nothing is put here.
    Away,
}

/// Whether what was `found` is the copy that was `noted`, or may become it.
pub(super) fn judge(noted: Option<&Noted>, found: &Found, since: Since) -> Verdict {
    if let (Found::Directory { itself, .. }, Some(noted)) = (found, noted)
        && itself.is(noted)
    {
        return Verdict::Copy;
    }
    let (on, holds, mounted) = match found {
        Found::Nothing { above } => (above, false, false),
        Found::Directory { itself, empty } => (&itself.on, !empty, itself.mounted),
    };
    // What was mounted is not deleted but unmounted, be the mount point on the same file system.
    let unmounted = noted.is_some_and(|noted| noted.mounted && !mounted);
    match since {
        Since::Start { adopt: true } => Verdict::Begin,
        Since::Start { .. } if holds => Verdict::Other,
        Since::Start { .. } => {
            let expected = noted.is_none_or(|noted| on.is(&noted.on) || on.follows(&noted.on));
            if expected && !unmounted { Verdict::Begin } else { Verdict::Away }
        }
        // A copy that was deleted is made anew, in its place alone: never is a mount point filled whose file system is away.
        Since::Gone { deleted } => {
            let made_anew = deleted && !holds && !unmounted && noted.is_some_and(|noted| on.is(&noted.on));
            if made_anew { Verdict::Begin } else { Verdict::Away }
        }
    }
}

impl FileSystem {
    pub(super) fn of(dir: &Dir) -> Result<FileSystem, fsx::Error> {
        let stat = rustix::fs::fstatfs(dir).map_err(|e| fsx::Error::new("read the file system of", dir.path(), e))?;
        Ok(FileSystem { id: dir.file_system_id()?, kind: format!("{:x}", stat.f_type) })
    }

    fn is(&self, noted: &FileSystem) -> bool {
        self.id == noted.id && (noted.kind.is_empty() || self.kind == noted.kind)
    }

    /// Whether it is a new one in the place of one of the same kind that could not stay.
    fn follows(&self, noted: &FileSystem) -> bool {
        let fleeting = u32::from_str_radix(&self.kind, 16).is_ok_and(|kind| FLEETING.contains(&kind));
        fleeting && (noted.kind.is_empty() || self.kind == noted.kind)
    }
}

impl Noted {
    pub(super) fn of(dir: &Dir) -> Result<Noted, fsx::Error> {
        let stat = dir.stat_self()?;
        Ok(Noted { on: FileSystem::of(dir)?, inode: stat.ino, born_ns: born_ns(dir), mounted: stat.mount_point })
    }

    /// What `replica` remembers.
    pub(super) fn read(replica: &Replica) -> Option<Noted> {
        let (id, rest) = replica.note(NOTE_ROOT)?.split_first_chunk()?;
        let kind = String::from_utf8_lossy(replica.note(NOTE_KIND).unwrap_or_default()).into_owned();
        let on = FileSystem { id: u64::from_le_bytes(*id), kind };
        let born_ns = replica.note(NOTE_BORN).and_then(|bytes| bytes.try_into().ok()).map(i128::from_le_bytes);
        let mounted = replica.note(NOTE_MOUNTED) == Some(b"1");
        Some(Noted { on, inode: u64::from_le_bytes(rest.try_into().ok()?), born_ns, mounted })
    }

    /// Has `replica` remember it. To be saved before anything is put there, lest a crash leave a directory that is nobody's.
    pub(super) fn write(&self, replica: &mut Replica) {
        replica.set_note(NOTE_ROOT, [self.on.id.to_le_bytes(), self.inode.to_le_bytes()].concat());
        replica.set_note(NOTE_KIND, self.on.kind.clone().into_bytes());
        replica.set_note(NOTE_MOUNTED, if self.mounted { b"1".to_vec() } else { b"0".to_vec() });
        replica.set_note(NOTE_BORN, self.born_ns.map(|born| born.to_le_bytes().to_vec()).unwrap_or_default());
    }

    fn is(&self, noted: &Noted) -> bool {
        let born = self.born_ns.zip(noted.born_ns).filter(|_| KEEP_BIRTH.contains(&&*self.on.kind));
        let (same_birth, other_birth) = (born.is_some_and(|(a, b)| a == b), born.is_some_and(|(a, b)| a != b));
        let renumbered = self.on.kind == XFS && noted.on.kind == XFS && same_birth;
        self.inode == noted.inode && !other_birth && (self.on.is(&noted.on) || renumbered)
    }

    /// Whether this and `other` are on the same file system.
    pub(super) fn is_beside(&self, other: &Noted) -> bool {
        self.on.is(&other.on)
    }
}

/// Looks at the path of the copy; what is found there is held.
///
/// # Errors
/// When it cannot be looked at, or is no directory.
pub(super) fn look(config: &KeeperConfig, path: &Path) -> Result<(Found, Option<Dir>), fsx::Error> {
    match Dir::open_root(path) {
        Ok(dir) => {
            let found = Found::Directory { itself: Noted::of(&dir)?, empty: is_empty(&dir, config)? };
            Ok((found, Some(dir)))
        }
        Err(e) if e.is_missing() => Ok((Found::Nothing { above: FileSystem::of(&above(path, e)?)? }, None)),
        Err(e) => Err(e),
    }
}

/// The nearest directory above `path` that is there.
fn above(path: &Path, mut missing: fsx::Error) -> Result<Dir, fsx::Error> {
    for above in path.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match Dir::open_root(above) {
            Err(e) if e.is_missing() => missing = e,
            opened => return opened,
        }
    }
    Err(missing)
}

fn born_ns(dir: &Dir) -> Option<i128> {
    let stat = rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?;
    let told = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    told.then(|| i128::from(stat.stx_btime.tv_sec) * 1_000_000_000 + i128::from(stat.stx_btime.tv_nsec))
}

fn is_empty(dir: &Dir, config: &KeeperConfig) -> Result<bool, fsx::Error> {
    for entry in dir.list(&mut ListBuffer::default())? {
        let ours =
            is_temp_name(&entry.name) || dir.look(&entry.name)?.is_some_and(|stat| config.own.contains(&stat.id()));
        if !ours {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::Since::{Gone, Start};
    use super::*;

    const EXT4: &str = "ef53";
    const TMPFS: &str = "1021994";

    fn on(id: u64, kind: &str) -> FileSystem {
        FileSystem { id, kind: kind.to_owned() }
    }

    fn noted(id: u64, kind: &str, inode: u64) -> Noted {
        Noted { on: on(id, kind), inode, born_ns: Some(5), mounted: false }
    }

    fn directory(itself: Noted, empty: bool) -> Found {
        Found::Directory { itself, empty }
    }

    #[test]
    fn an_empty_directory_on_another_file_system_is_not_filled_unless_somebody_says_so() {
        let was = noted(7, EXT4, 2);
        let mount_point = directory(noted(1, EXT4, 99), true);
        assert_eq!(judge(Some(&was), &mount_point, Start { adopt: false }), Verdict::Away);
        assert_eq!(judge(Some(&was), &mount_point, Start { adopt: true }), Verdict::Begin);
        // What was kept below the mount point is missing with it.
        let nothing = Found::Nothing { above: on(1, EXT4) };
        assert_eq!(judge(Some(&was), &nothing, Start { adopt: false }), Verdict::Away);
        // Another disk in its place that happens to have the same inode there, and a memory in place of a disk.
        assert_eq!(judge(Some(&was), &directory(noted(8, EXT4, 2), true), Start { adopt: false }), Verdict::Away);
        assert_eq!(judge(Some(&was), &directory(noted(9, TMPFS, 1), true), Start { adopt: false }), Verdict::Away);
        assert_eq!(judge(Some(&was), &directory(noted(7, EXT4, 2), true), Start { adopt: false }), Verdict::Copy);
    }

    #[test]
    fn a_copy_that_was_deleted_begins_anew_on_its_own_file_system() {
        let was = noted(7, EXT4, 40);
        for found in [directory(noted(7, EXT4, 41), true), Found::Nothing { above: on(7, EXT4) }] {
            assert_eq!(judge(Some(&was), &found, Start { adopt: false }), Verdict::Begin);
            assert_eq!(judge(Some(&was), &found, Gone { deleted: true }), Verdict::Begin);
            // One that was moved is put back, perhaps.
            assert_eq!(judge(Some(&was), &found, Gone { deleted: false }), Verdict::Away);
        }
        assert_eq!(judge(None, &Found::Nothing { above: on(7, EXT4) }, Start { adopt: false }), Verdict::Begin);
    }

    #[test]
    fn what_holds_something_else_is_for_people_to_decide() {
        let other = directory(noted(7, EXT4, 41), false);
        for was in [None, Some(&noted(7, EXT4, 40)), Some(&noted(6, EXT4, 41))] {
            assert_eq!(judge(was, &other, Start { adopt: false }), Verdict::Other);
            assert_eq!(judge(was, &other, Start { adopt: true }), Verdict::Begin);
            assert_eq!(judge(was, &other, Gone { deleted: true }), Verdict::Away);
        }
    }

    #[test]
    fn a_copy_in_memory_begins_anew_after_each_boot_and_not_while_the_agent_runs() {
        let was = noted(7, TMPFS, 1);
        let new = directory(noted(8, TMPFS, 1), true);
        assert_eq!(judge(Some(&was), &new, Start { adopt: false }), Verdict::Begin);
        assert_eq!(judge(Some(&was), &Found::Nothing { above: on(8, TMPFS) }, Start { adopt: false }), Verdict::Begin);
        // The memory is not mounted, and what is below it is a disk.
        assert_eq!(judge(Some(&was), &directory(noted(1, EXT4, 9), true), Start { adopt: false }), Verdict::Away);
        assert_eq!(judge(Some(&was), &new, Gone { deleted: true }), Verdict::Away);
    }

    #[test]
    fn what_was_mounted_is_waited_for_also_where_its_mount_point_is_on_the_same_file_system() {
        for kind in [EXT4, TMPFS] {
            let was = Noted { mounted: true, ..noted(7, kind, 40) };
            let mount_point = directory(noted(7, kind, 9), true);
            let nothing = Found::Nothing { above: on(7, kind) };
            for found in [&mount_point, &nothing] {
                assert_eq!(judge(Some(&was), found, Start { adopt: false }), Verdict::Away);
                assert_eq!(judge(Some(&was), found, Start { adopt: true }), Verdict::Begin);
                assert_eq!(judge(Some(&was), found, Gone { deleted: true }), Verdict::Away);
            }
        }
        // A memory that is mounted anew is one all the same; and the copy is the copy, mounted or not.
        let was = Noted { mounted: true, ..noted(7, TMPFS, 1) };
        let new = Noted { mounted: true, ..noted(8, TMPFS, 1) };
        assert_eq!(judge(Some(&was), &directory(new, true), Start { adopt: false }), Verdict::Begin);
        let elsewhere = Noted { mounted: false, ..was.clone() };
        assert_eq!(judge(Some(&was), &directory(elsewhere, false), Start { adopt: false }), Verdict::Copy);
    }

    #[test]
    fn what_was_noted_before_kinds_were_is_known_by_its_id_alone() {
        let was = noted(7, "", 2);
        assert_eq!(judge(Some(&was), &directory(noted(7, EXT4, 2), false), Start { adopt: false }), Verdict::Copy);
        assert_eq!(judge(Some(&was), &directory(noted(1, EXT4, 9), true), Start { adopt: false }), Verdict::Away);
        assert_eq!(judge(Some(&was), &directory(noted(1, TMPFS, 9), true), Start { adopt: false }), Verdict::Begin);
    }

    #[test]
    fn a_copy_on_xfs_is_known_also_when_its_device_has_another_number() {
        let (was, now) = (noted(7, XFS, 128), noted(8, XFS, 128));
        let judged = |now: Noted| judge(Some(&was), &directory(now, false), Start { adopt: false });
        assert_eq!(judged(now.clone()), Verdict::Copy);
        assert_eq!(judged(Noted { born_ns: Some(6), ..now.clone() }), Verdict::Other);
        assert_eq!(judged(Noted { inode: 129, ..now }), Verdict::Other);
        assert_eq!(
            judge(Some(&noted(7, EXT4, 2)), &directory(noted(8, EXT4, 2), false), Start { adopt: false }),
            Verdict::Other
        );
    }

    #[test]
    fn a_directory_that_got_the_inode_of_the_copy_is_not_the_copy() {
        let was = noted(7, EXT4, 40);
        let other = |kind: &str| Noted { born_ns: Some(6), ..noted(7, kind, 40) };
        assert_eq!(judge(Some(&was), &directory(other(EXT4), false), Start { adopt: false }), Verdict::Other);
        assert_eq!(judge(Some(&was), &directory(other(EXT4), true), Start { adopt: false }), Verdict::Begin);
        // Where that moment is not known, or not to be relied on, the inode has to do.
        let unknown = Noted { born_ns: None, ..was.clone() };
        assert_eq!(judge(Some(&unknown), &directory(other(EXT4), false), Start { adopt: false }), Verdict::Copy);
        let (there, nfs) = (noted(7, "6969", 40), directory(other("6969"), false));
        assert_eq!(judge(Some(&there), &nfs, Start { adopt: false }), Verdict::Copy);
    }

    #[test]
    fn what_is_noted_is_read_again() {
        let mut replica = Replica::new();
        assert_eq!(Noted::read(&replica), None);
        let mounted = Noted { mounted: true, ..noted(7, EXT4, 2) };
        for written in [noted(7, EXT4, 2), mounted, Noted { born_ns: None, ..noted(7, EXT4, 2) }] {
            written.write(&mut replica);
            assert_eq!(Noted::read(&replica), Some(written));
        }
    }
}
