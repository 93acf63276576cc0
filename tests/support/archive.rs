//! What `--archive` keeps: trees with all of it, and the independent check that two have the same.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid, XattrFlags};

use crate::same::{named, walk_differences};
use crate::tool::rsync;

/// The attribute that is an entry's ACL.
pub const ACL_ACCESS: &str = "system.posix_acl_access";
/// The attribute that is the ACL of what is made in a directory.
pub const ACL_DEFAULT: &str = "system.posix_acl_default";
/// A copy may take so much more room than its source: file systems count their own blocks differently.
const ROOM_BYTES: u64 = 256 << 10;

/// The bytes of an ACL that gives `user` the rights `perm` and the mask `mask`, beside owner rw, group r and others `other`.
pub fn acl(user: u32, perm: u16, mask: u16, other: u16) -> Vec<u8> {
    let none = u32::MAX;
    let entries = [(0x01, 6, none), (0x02, perm, user), (0x04, 4, none), (0x10, mask, none), (0x20, other, none)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        let (tag, perm): (u16, u16) = (tag, perm);
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&perm.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// Sets an attribute of `path` itself.
///
/// # Errors
/// As the system has it.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())?)
}

/// Removes an attribute of `path` itself.
///
/// # Errors
/// As the system has it.
pub fn remove_xattr(path: &Path, name: &str) -> io::Result<()> {
    Ok(rustix::fs::lremovexattr(path, name)?)
}

/// Gives `path` itself to `uid` and `gid`.
///
/// # Errors
/// As the system has it.
pub fn own(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    Ok(rustix::fs::chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Makes a fifo, socket or device.
///
/// # Errors
/// As the system has it.
pub fn node(path: &Path, kind: FileType, number: u64) -> io::Result<()> {
    Ok(rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), number)?)
}

/// A file of `size` bytes with data at these places only.
///
/// # Errors
/// As the system has it.
pub fn sparse(path: &Path, size: u64, data: &[(u64, &[u8])]) -> io::Result<()> {
    let file = fs::File::create(path)?;
    file.set_len(size)?;
    data.iter().try_for_each(|(at, bytes)| file.write_all_at(bytes, *at))
}

/// Fills `dir` with one of everything that `--archive` keeps. Needs root.
///
/// # Panics
/// When the system refuses.
pub fn fill(dir: &Path) {
    try_fill(dir).expect("the scene can be built");
}

fn try_fill(dir: &Path) -> io::Result<()> {
    let at = |name: &str| dir.join(name);
    fs::create_dir_all(at("sub/deep"))?;
    for (name, content) in [("plain", "1"), ("owned", "2"), ("program", "#!/bin/sh\n"), ("sub/noted", "3")] {
        fs::write(at(name), content)?;
    }
    own(&at("owned"), 1234, 2345)?;
    own(&at("sub"), 1234, 0)?;
    own(&at("program"), 1234, 2345)?;
    fs::set_permissions(at("program"), fs::Permissions::from_mode(0o6755))?;
    symlink("plain", at("link"))?;
    own(&at("link"), 77, 78)?;
    set_xattr(&at("link"), "trusted.of-a-link", b"kept")?;
    set_xattr(&at("sub/noted"), "user.note", b"some\0bytes\xff")?;
    set_xattr(&at("sub/noted"), "user.empty", b"")?;
    set_xattr(&at("sub/noted"), "user.long", &[b'x'; 1_000])?;
    set_xattr(&at("sub/noted"), "trusted.note", b"root's")?;
    set_xattr(&at("sub/deep"), "user.of-a-directory", b"1")?;
    set_xattr(dir, "user.of-the-root", b"1")?;
    own(dir, 55, 66)?;
    fs::write(at("listed"), "4")?;
    set_xattr(&at("listed"), ACL_ACCESS, &acl(1234, 6, 6, 0))?;
    set_xattr(&at("sub/deep"), ACL_DEFAULT, &acl(1234, 7, 7, 5))?;
    set_xattr(&at("sub/deep"), ACL_ACCESS, &acl(4321, 5, 5, 5))?;
    // Made in a directory with a default ACL, which it inherits.
    fs::write(at("sub/deep/inherits"), "5")?;
    fs::create_dir(at("sub/deep/too"))?;
    fs::write(at("one"), "linked")?;
    own(&at("one"), 9, 9)?;
    for name in ["another", "sub/third", "sub/deep/fourth"] {
        fs::hard_link(at("one"), at(name))?;
    }
    sparse(&at("holes"), 64 << 20, &[(1 << 20, b"data"), (40 << 20, &[7; 5_000])])?;
    sparse(&at("sub/hole"), 8 << 20, &[])?;
    sparse(&at("ends with a hole"), 3 << 20, &[(0, b"data")])?;
    sparse(&at("begins with a hole"), (2 << 20) + 3, &[(2 << 20, b"end")])?;
    node(&at("fifo"), FileType::Fifo, 0)?;
    node(&at("sub/socket"), FileType::Socket, 0)?;
    node(&at("null"), FileType::CharacterDevice, rustix::fs::makedev(1, 3))?;
    node(&at("sub/loop"), FileType::BlockDevice, rustix::fs::makedev(7, 200))?;
    own(&at("fifo"), 5, 6)?;
    Ok(())
}

/// Whether `a` and `b` are the same with everything that `--archive` keeps: by rsync, and by a plain walk.
///
/// # Errors
/// Tells the differences.
///
/// # Panics
/// When rsync is not installed.
pub fn same_archives(a: impl AsRef<Path>, b: impl AsRef<Path>) -> Result<(), String> {
    let (a, b) = (a.as_ref(), b.as_ref());
    let mut found =
        walk_archive(a, b).map_err(|error| format!("cannot compare {} and {}: {error}", a.display(), b.display()))?;
    found.extend(rsync_archive(a, b));
    if found.is_empty() { Ok(()) } else { Err(format!("{} and {}:\n{}", a.display(), b.display(), named(&found))) }
}

fn rsync_archive(a: &Path, b: &Path) -> Vec<String> {
    let slash = |path: &Path| {
        let mut text = path.as_os_str().to_owned();
        text.push("/");
        text
    };
    // --checksum reads devices as files, so content is the walk's.
    let args = ["-naiHAX", "--delete", "--modify-window=-1"];
    let checked = rsync().args(args).arg(slash(a)).arg(slash(b)).output().expect("rsync was just found");
    let mut found: Vec<String> =
        String::from_utf8_lossy(&checked.stdout).lines().map(|line| format!("rsync: {line}")).collect();
    if !checked.status.success() {
        found.push(format!("rsync: {}: {}", checked.status, String::from_utf8_lossy(&checked.stderr).trim_end()));
    }
    found
}

fn walk_archive(a: &Path, b: &Path) -> io::Result<Vec<String>> {
    let mut found = walk_differences(a, b)?;
    let (seen_a, seen_b) = (look(a)?, look(b)?);
    for (path, a) in &seen_a.entries {
        let Some(b) = seen_b.entries.get(path) else { continue };
        for (what, differs) in [
            ("owner", a.owner != b.owner),
            ("set-id bits", a.set_id != b.set_id),
            ("attributes", a.xattrs != b.xattrs),
            ("device", a.device != b.device),
            ("room", b.bytes > a.bytes + a.bytes / 4 + ROOM_BYTES),
        ] {
            if differs {
                found.push(format!("{path:?}: {what}: {a:?} and {b:?}"));
            }
        }
    }
    if seen_a.groups() != seen_b.groups() {
        found.push(format!("hard links: {:?} and {:?}", seen_a.groups(), seen_b.groups()));
    }
    Ok(found)
}

#[derive(Debug)]
struct Entry {
    owner: (u32, u32),
    set_id: u32,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    device: Option<u64>,
    bytes: u64,
}

#[derive(Default)]
struct Seen {
    entries: BTreeMap<PathBuf, Entry>,
    inodes: BTreeMap<(u64, u64), Vec<PathBuf>>,
}

impl Seen {
    /// Names that are one file, those with more than one here.
    fn groups(&self) -> Vec<&Vec<PathBuf>> {
        let mut groups: Vec<_> = self.inodes.values().filter(|names| names.len() > 1).collect();
        groups.sort();
        groups
    }
}

fn look(root: &Path) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let full = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(&path) };
        let meta = full.symlink_metadata()?;
        if meta.is_dir() {
            for entry in fs::read_dir(&full)? {
                todo.push(path.join(entry?.file_name()));
            }
        } else if meta.is_file() {
            seen.inodes.entry((meta.dev(), meta.ino())).or_default().push(path.clone());
        }
        let is_device =
            matches!(FileType::from_raw_mode(meta.mode()), FileType::CharacterDevice | FileType::BlockDevice);
        let entry = Entry {
            owner: (meta.uid(), meta.gid()),
            set_id: if meta.is_symlink() { 0 } else { meta.mode() & 0o6000 },
            xattrs: xattrs(&full)?,
            device: is_device.then(|| meta.rdev()),
            bytes: if meta.is_file() { meta.blocks() * 512 } else { 0 },
        };
        seen.entries.insert(path, entry);
    }
    seen.inodes.values_mut().for_each(|names| names.sort());
    Ok(seen)
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut buffer = vec![0; 64 << 10];
    let size = match rustix::fs::llistxattr(path, &mut buffer[..]) {
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(BTreeMap::new()),
        listed => listed?,
    };
    let names: Vec<Vec<u8>> = buffer[..size].split(|b| *b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect();
    let mut found = BTreeMap::new();
    for name in names {
        let size = rustix::fs::lgetxattr(path, OsStr::from_bytes(&name), &mut buffer[..])?;
        found.insert(name, buffer[..size].to_vec());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::scratch;
    use crate::tool::root;

    /// A difference: its name, and how it is planted.
    type Planted = (&'static str, fn(&Path));

    const PLANTED: [Planted; 13] = [
        ("an owner", |d| own(&d.join("plain"), 1, 0).unwrap()),
        ("the group of a link", |d| own(&d.join("link"), 77, 1).unwrap()),
        ("a set-id bit", |d| fs::set_permissions(d.join("program"), fs::Permissions::from_mode(0o2755)).unwrap()),
        ("an attribute that is missing", |d| remove_xattr(&d.join("sub/noted"), "user.note").unwrap()),
        ("an attribute of a link", |d| set_xattr(&d.join("link"), "trusted.of-a-link", b"other").unwrap()),
        ("an attribute too many", |d| set_xattr(&d.join("plain"), "user.more", b"").unwrap()),
        ("an ACL", |d| set_xattr(&d.join("listed"), ACL_ACCESS, &acl(1235, 6, 6, 0)).unwrap()),
        ("a default ACL", |d| remove_xattr(&d.join("sub/deep"), ACL_DEFAULT).unwrap()),
        ("a broken hard link", |d| {
            fs::rename(d.join("one"), d.join("x")).unwrap();
            fs::copy(d.join("x"), d.join("one")).unwrap();
            fs::remove_file(d.join("x")).unwrap();
            own(&d.join("one"), 9, 9).unwrap();
        }),
        ("one file where there were two", |d| {
            fs::remove_file(d.join("plain")).unwrap();
            fs::hard_link(d.join("owned"), d.join("plain")).unwrap();
        }),
        ("a filled hole", |d| sparse(&d.join("sub/hole"), 8 << 20, &[(0, &[0; 4 << 20])]).unwrap()),
        ("another device", |d| {
            fs::remove_file(d.join("null")).unwrap();
            node(&d.join("null"), FileType::CharacterDevice, rustix::fs::makedev(1, 5)).unwrap();
        }),
        ("a missing fifo", |d| fs::remove_file(d.join("fifo")).unwrap()),
    ];

    #[test]
    fn a_copy_by_rsync_is_the_same_and_each_planted_difference_is_seen() {
        if !root() {
            return;
        }
        for (what, plant) in [("nothing", (|_| {}) as fn(&Path))].into_iter().chain(PLANTED) {
            let dir = scratch();
            let (a, b) = (dir.join("a"), dir.join("b"));
            fs::create_dir(&a).unwrap();
            fill(&a);
            let copied =
                rsync().args(["-aHAXS", "--modify-window=-1"]).arg(a.join("")).arg(b.join("")).status().unwrap();
            assert!(copied.success());
            plant(&b);
            let seen = same_archives(&a, &b);
            assert_eq!(seen.is_ok(), what == "nothing", "{what}: {seen:?}");
        }
    }
}
