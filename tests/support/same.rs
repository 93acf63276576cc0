//! The independent check that two trees are identical: what rsync says, and what a plain walk says. Both must agree.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::tool::rsync;

/// As many differences are told; more would hide the first.
const DIFFERENCES_TOLD_MAX: usize = 20;

/// Whether the directories `a` and `b` are identical: names, kinds, content, modification times to the nanosecond (of
/// directories and links too, and of the roots), modes, link targets, and owners as rsync sees them.
///
/// # Errors
/// Tells the differences both checkers found.
///
/// # Panics
/// When rsync is not installed.
#[track_caller]
pub fn same_trees(a: impl AsRef<Path>, b: impl AsRef<Path>) -> Result<(), String> {
    let (a, b) = (a.as_ref(), b.as_ref());
    let by_walk = walk_differences(a, b)
        .map_err(|error| format!("cannot compare {} and {}: {error}", a.display(), b.display()))?;
    let by_rsync = rsync_differences(a, b);
    if by_walk.is_empty() && by_rsync.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} and {} differ\nby a walk:\n{}by rsync:\n{}",
        a.display(),
        b.display(),
        named(&by_walk),
        named(&by_rsync)
    ))
}

/// Fails the test with all differences, unless the trees are identical.
///
/// # Panics
/// When they differ, or rsync is not installed.
#[track_caller]
pub fn assert_same_trees(a: impl AsRef<Path>, b: impl AsRef<Path>) {
    if let Err(differences) = same_trees(a, b) {
        panic!("{differences}");
    }
}

/// The walk alone, content not read: for loops that wait until two large trees have become the same, before the full
/// check says so. Not a check of its own.
///
/// # Errors
/// When a directory cannot be listed, as while it is being changed.
pub fn stat_differences(a: impl AsRef<Path>, b: impl AsRef<Path>) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    compare(a.as_ref(), b.as_ref(), Path::new(""), false, &mut found)?;
    Ok(found)
}

pub(crate) fn walk_differences(a: &Path, b: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    compare(a, b, Path::new(""), true, &mut found)?;
    Ok(found)
}

fn rsync_differences(a: &Path, b: &Path) -> Vec<String> {
    let slash = |path: &Path| {
        let mut text = path.as_os_str().to_owned();
        text.push("/");
        text
    };
    let checked = rsync().args(["-naci", "--delete", "--modify-window=-1"]).arg(slash(a)).arg(slash(b)).output();
    let checked = checked.expect("rsync was just found");
    let mut found: Vec<String> = String::from_utf8_lossy(&checked.stdout).lines().map(str::to_owned).collect();
    if !checked.status.success() {
        found.push(format!("{}: {}", checked.status, String::from_utf8_lossy(&checked.stderr).trim_end()));
    }
    found
}

/// Compares the entry `rel` of both roots, and for directories all below.
fn compare(a: &Path, b: &Path, rel: &Path, content: bool, found: &mut Vec<String>) -> io::Result<()> {
    let at = |root: &Path| if rel.as_os_str().is_empty() { root.to_owned() } else { root.join(rel) };
    let (path_a, path_b) = (at(a), at(b));
    let (meta_a, meta_b) = (path_a.symlink_metadata()?, path_b.symlink_metadata()?);
    let mut differs = |what: String| found.push(format!("{rel:?}: {what}"));
    let (kind_a, kind_b) = (kind(&meta_a), kind(&meta_b));
    if kind_a != kind_b {
        differs(format!("{kind_a} and {kind_b}"));
        return Ok(());
    }
    if kind_a != "link" && meta_a.mode() != meta_b.mode() {
        differs(format!("mode {:o} and {:o}", meta_a.mode() & 0o7777, meta_b.mode() & 0o7777));
    }
    let time = |meta: &fs::Metadata| (meta.mtime(), meta.mtime_nsec());
    if time(&meta_a) != time(&meta_b) {
        differs(format!("mtime {:?} and {:?}", time(&meta_a), time(&meta_b)));
    }
    match kind_a {
        "file" if meta_a.len() != meta_b.len() => differs(format!("size {} and {}", meta_a.len(), meta_b.len())),
        "file" if content && fs::read(&path_a)? != fs::read(&path_b)? => differs("content".into()),
        "link" => {
            let (to_a, to_b) = (fs::read_link(&path_a)?, fs::read_link(&path_b)?);
            if to_a != to_b {
                differs(format!("links to {to_a:?} and {to_b:?}"));
            }
        }
        "dir" => {
            let (names_a, names_b) = (names(&path_a)?, names(&path_b)?);
            for name in names_a.iter().filter(|name| names_b.binary_search(name).is_err()) {
                found.push(format!("{:?}: only in the first", rel.join(OsStr::from_bytes(name))));
            }
            for name in names_b.iter().filter(|name| names_a.binary_search(name).is_err()) {
                found.push(format!("{:?}: only in the second", rel.join(OsStr::from_bytes(name))));
            }
            for name in names_a.iter().filter(|name| names_b.binary_search(name).is_ok()) {
                compare(a, b, &PathBuf::from(rel).join(OsStr::from_bytes(name)), content, found)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The names in `dir`, sorted by their bytes.
fn names(dir: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().as_bytes().to_owned());
    }
    names.sort_unstable();
    Ok(names)
}

fn kind(meta: &fs::Metadata) -> &'static str {
    let kind = meta.file_type();
    if kind.is_file() {
        "file"
    } else if kind.is_dir() {
        "dir"
    } else if kind.is_symlink() {
        "link"
    } else if kind.is_fifo() {
        "fifo"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

pub(crate) fn named(differences: &[String]) -> String {
    let mut text: String = differences.iter().take(DIFFERENCES_TOLD_MAX).map(|line| format!("  {line}\n")).collect();
    match differences.len() {
        0 => text.push_str("  nothing\n"),
        n if n > DIFFERENCES_TOLD_MAX => text.push_str(&format!("  and {} more\n", n - DIFFERENCES_TOLD_MAX)),
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::scratch;
    use crate::tree::Tree;

    /// A difference: its name, the change that plants it, and whether a look at metadata alone can see it.
    type Planted = (&'static str, fn(Tree) -> Tree, bool);

    const PLANTED: [Planted; 13] = [
        ("one byte, same size and mtime", |t| t.file("a", "onf").mtime("a", 5_000_000_001).mtime("", 7), false),
        ("one nanosecond of mtime", |t| t.mtime("a", 5_000_000_002), true),
        ("one nanosecond of a directory's mtime", |t| t.mtime("d", 6_000_000_002), true),
        ("one nanosecond of the root's mtime", |t| t.mtime("", 8), true),
        ("mode of a file", |t| t.mode("a", 0o640), true),
        ("mode of a directory", |t| t.mode("d", 0o700), true),
        ("link target", |t| t.remove("l").link("l", "b").mtime("", 7), true),
        ("extra file", |t| t.file("extra", "").mtime("", 7), true),
        ("missing file", |t| t.remove("a").mtime("", 7), true),
        ("missing empty directory", |t| t.remove("d/empty").mtime("d", 6_000_000_001), true),
        ("extra empty directory", |t| t.dir("d/more").mtime("d", 6_000_000_001), true),
        ("a file where a directory was", |t| t.remove("d/empty").file("d/empty", "").mtime("d", 6_000_000_001), true),
        ("a link where a file was", |t| t.remove("a").link("a", "one").mtime("", 7), true),
    ];

    fn plain(dir: PathBuf) -> Tree {
        let tree = Tree::at(dir).file("a", "one").dir("d/empty").link("l", "a");
        tree.mtime("a", 5_000_000_001).mtime("d/empty", 3).mtime("d", 6_000_000_001).mtime("", 7)
    }

    /// Two trees that are the same but for nothing: links made at different moments get the same time.
    fn twins(dir: &Path) -> (Tree, Tree) {
        let (a, b) = (plain(dir.join("a")), plain(dir.join("b")));
        let of_a = a.path().join("l");
        let time = of_a.symlink_metadata().unwrap();
        let time = rustix::fs::Timespec { tv_sec: time.mtime(), tv_nsec: time.mtime_nsec() };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let no_follow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, b.path().join("l"), &times, no_follow).unwrap();
        (a, b)
    }

    #[test]
    fn identical_trees_pass() {
        let dir = scratch();
        let (a, b) = twins(&dir);
        assert_eq!(same_trees(a.path(), b.path()), Ok(()));
    }

    #[test]
    fn the_checker_sees_each_planted_difference() {
        for (what, plant, in_metadata) in PLANTED {
            let dir = scratch();
            let (a, b) = twins(&dir);
            let b = plant(b);
            assert!(!walk_differences(a.path(), b.path()).unwrap().is_empty(), "the walk misses: {what}");
            assert!(!rsync_differences(a.path(), b.path()).is_empty(), "rsync misses: {what}");
            assert!(same_trees(a.path(), b.path()).is_err(), "{what}");
            assert_eq!(!stat_differences(a.path(), b.path()).unwrap().is_empty(), in_metadata, "{what}");
        }
    }

    #[test]
    fn a_tree_that_is_not_there_is_no_success() {
        let dir = scratch();
        let (a, _) = twins(&dir);
        assert!(same_trees(a.path(), dir.join("nowhere")).is_err());
        assert!(same_trees(dir.join("nowhere"), a.path()).is_err());
    }
}
