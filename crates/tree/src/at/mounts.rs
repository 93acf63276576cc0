//! Where a directory can be reached besides: what is mounted at several places is below what is above each of them, and
//! `..` leads up from one of them only.

use super::Dir;
use crate::fsx::Error;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The kernel's list of what is mounted where.
const MOUNTS: &str = "/proc/self/mountinfo";

/// A directory of a file system, and where it is mounted.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: u64,
    /// The directory, from the root of its file system on.
    root: PathBuf,
    at: PathBuf,
}

impl Dir {
    /// Device and inode of this directory and of all above it, as [`Dir::lineage`] gives them, first itself; then of all
    /// above it by any other way, as far as this process sees what is mounted.
    ///
    /// # Errors
    /// When one above may not be searched.
    pub fn lineages(&self) -> Result<Vec<(u64, u64)>, Error> {
        let mut ids = self.lineage()?;
        // Without a list there is one way only.
        let mounts = std::fs::read(MOUNTS).map(|list| parse(&list)).unwrap_or_default();
        let mut seen = 0;
        while seen < ids.len() {
            let devices: Vec<u64> = ids[seen..].iter().map(|(device, _)| *device).collect();
            seen = ids.len();
            // Of other file systems nothing is asked: one that is away would not answer.
            for mount in mounts.iter().filter(|mount| devices.contains(&mount.device)) {
                let Some(top) = lineage_of(&mount.at).and_then(|line| line.first().copied()) else { continue };
                if !ids.contains(&top) {
                    continue;
                }
                for way in mounts.iter().filter_map(|other| mount.seen_in(other)) {
                    let line = lineage_of(&way).filter(|line| line.first() == Some(&top)).unwrap_or_default();
                    let new: Vec<_> = line.into_iter().filter(|id| !ids.contains(id)).collect();
                    ids.extend(new);
                }
            }
        }
        Ok(ids)
    }
}

impl Mount {
    /// Where its directory is seen through `other`, should it be in there.
    fn seen_in(&self, other: &Mount) -> Option<PathBuf> {
        let below = self.root.strip_prefix(&other.root).ok().filter(|_| self.device == other.device)?;
        Some(other.at.join(below))
    }
}

fn lineage_of(path: &Path) -> Option<Vec<(u64, u64)>> {
    Dir::open_root(path).and_then(|dir| dir.lineage()).ok()
}

/// Reads lines as proc(5) describes them; what is not understood is left out.
fn parse(list: &[u8]) -> Vec<Mount> {
    let mount = |line: &[u8]| {
        let mut words = line.split(|byte| *byte == b' ').skip(2);
        let (device, root, at) = (words.next()?, words.next()?, words.next()?);
        let (major, minor) = std::str::from_utf8(device).ok()?.split_once(':')?;
        let device = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
        Some(Mount { device, root: unescape(root), at: unescape(at) })
    };
    list.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

/// A space, tab, newline or backslash is written as `\` and three octal digits.
fn unescape(word: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let code = after.first_chunk::<3>().filter(|_| *first == b'\\');
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_mounts_is_read_with_its_escapes_and_whatever_stands_in_it() {
        let list = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            30 22 8:1 /a\\040b/c /m\\134n rw - ext4 /dev/sda1 rw\n\ngarbage\n31 22 x:1 / /y rw\n";
        let mounts = parse(list);
        let device = rustix::fs::makedev(8, 1);
        let mount = |root: &str, at: &str| Mount { device, root: root.into(), at: at.into() };
        assert_eq!(mounts, [mount("/", "/"), mount("/a b/c", "/m\\n")]);
        assert_eq!(mounts[1].seen_in(&mounts[0]), Some("/a b/c".into()));
        assert_eq!(mounts[0].seen_in(&mounts[1]), None);
        assert_eq!(mounts[0].seen_in(&Mount { device: 0, ..mount("/", "/") }), None);
        assert_eq!(unescape(b"a\\"), Path::new("a\\"));
        assert_eq!(unescape(b"a\\9xx"), Path::new("a\\9xx"));
    }

    #[test]
    fn what_is_above_by_dots_comes_first() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(scratch.path()).unwrap();
        let line = dir.lineage().unwrap();
        assert!(dir.lineages().unwrap().starts_with(&line));
    }
}
