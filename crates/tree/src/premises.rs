//! Which directories of this machine are shared by whom, so that nobody keeps a copy of a share within it, where the copy would be
//! shared in turn and without end, or around it, where the share itself would be what is extra. And which are destinations of
//! mirrors, so that no two of them lie in each other, where one would delete what the other copies.
//!
//! Whoever shares a directory, or mirrors to one, holds a socket with a name in the kernel's abstract space for it, and one for each directory above. It
//! goes with the process, needs no file, and is seen by all processes of this network namespace; it is believed where it belongs
//! to root or to who asks.

use crate::Kind;
use crate::at::{Dir, ListBuffer};
use crate::fsx::Error;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt,
};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Connections that wait unaccepted; nobody accepts any, and where there are more the name is held all the same.
const BACKLOG: i32 = 16;

/// Mirrors that are known of below one directory; of more, some may not be noticed.
const SLOTS: u8 = 16;

/// Of more that a mirror leaves alone the others are not known of.
const LEFT_MAX: usize = 64;

/// What tells that a directory is shared or mirrored to, for as long as it lives.
#[derive(Debug)]
pub struct Claim {
    _sockets: Vec<OwnedFd>,
}

/// How a directory lies to one that is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It is the shared one, or within it.
    Within,
    /// The shared one is within it.
    Around,
}

/// Tells that `root` is what the hub of this fingerprint shares by this name.
///
/// # Errors
/// When the directories above may not be searched, or there are no sockets.
pub fn claim(hub: &str, share: &str, root: &Dir) -> Result<Claim, Error> {
    let lineage = root.lineages()?;
    let names = lineage.iter().enumerate().map(|(above, id)| name((hub, share), *id, above > 0));
    let sockets = names.filter_map(|name| hold(&name).transpose()).collect::<Result<_, _>>();
    Ok(Claim { _sockets: sockets.map_err(|e| Error::new("claim", root.path(), e))? })
}

/// Whether a copy of that hub's share must not be kept at `path`, where there may be nothing yet.
///
/// # Errors
/// When the directories above may not be searched.
pub fn conflict(hub: &str, share: &str, path: &Path) -> Result<Option<Conflict>, Error> {
    let Some((there, dir)) = path.ancestors().find_map(|there| Some((there, Dir::open_root(there).ok()?))) else {
        return Ok(None);
    };
    let lineage = dir.lineages()?;
    if lineage.iter().any(|id| is_held(&name((hub, share), *id, false))) {
        return Ok(Some(Conflict::Within));
    }
    let around = there == path && is_held(&name((hub, share), lineage[0], true));
    Ok(around.then_some(Conflict::Around))
}

/// What a mirror does with its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Whatever its source does not have goes, but for what it says it leaves alone.
    All,
    /// It deletes nothing.
    Part,
}

/// Which destinations of other mirrors lie around and within one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// It lies within one, and is not what that one says it leaves alone.
    pub around: Option<Writes>,
    /// One lies within it.
    pub within: bool,
}

/// Tells that a mirror writes to `root`, and which directories in there it leaves alone whatever they hold: those at a path, which begins
/// with a slash, and those of a name, wherever they are.
///
/// # Errors
/// As [`claim`].
pub fn claim_destination(root: &Dir, writes: Writes, left: &[Vec<u8>]) -> Result<Claim, Error> {
    let mut sockets = Vec::new();
    let id = root.stat_self()?.id();
    // First, so that nobody who sees the rest misses them.
    for left in left.iter().take(LEFT_MAX) {
        sockets.extend(hold(&left_alone(id, left)).map_err(|e| Error::new("claim", root.path(), e))?);
    }
    for (above, id) in root.lineages()?.into_iter().enumerate() {
        let names = match above {
            0 => vec![destination(id, writes)],
            _ => (0..SLOTS).map(|slot| above_destination(id, slot)).collect(),
        };
        for name in names {
            if let Some(socket) = hold(&name).map_err(|e| Error::new("claim", root.path(), e))? {
                sockets.push(socket);
                break;
            }
        }
    }
    Ok(Claim { _sockets: sockets })
}

/// Whether other mirrors write to where `root` lies, or to something in it.
///
/// # Errors
/// When the directories above may not be searched.
pub fn neighbours(root: &Dir) -> Result<Neighbours, Error> {
    let lineage = root.lineages()?;
    let above = &lineage[1..];
    let is_held_by = |writes, id: &(u64, u64)| is_held(&destination(*id, writes));
    let mut around = None;
    let mut ways: Option<Vec<Vec<u8>>> = None;
    for (n, id) in above.iter().enumerate().filter(|(_, id)| is_held_by(Writes::All, id)) {
        let ways = ways.get_or_insert_with(|| ways_from_above(root, &lineage));
        let is_left = ways.get(n).is_some_and(|way| names_of(way).iter().any(|name| is_held(&left_alone(*id, name))));
        if !is_left {
            around = Some(Writes::All);
        }
    }
    if around.is_none() && above.iter().any(|id| is_held_by(Writes::Part, id)) {
        around = Some(Writes::Part);
    }
    Ok(Neighbours { around, within: leads_to_one(lineage[0]) })
}

/// Whether each mirror's destination within `root` is in one of the directories `left`, as [`claim_destination`] has them. `false` as well if
/// that cannot be told.
pub fn are_left(root: &Dir, left: &[Vec<u8>]) -> bool {
    !left.is_empty() && find_within(root, &mut Vec::new(), left).unwrap_or(false)
}

/// Whether any was found below `dir`, at `way` from the root, and all of them are left alone.
fn find_within(dir: &Dir, way: &mut Vec<u8>, left: &[Vec<u8>]) -> Result<bool, Error> {
    let (before, mut any) = (way.len(), false);
    for entry in dir.list(&mut ListBuffer::default())? {
        if entry.kind.is_some_and(|kind| kind != Kind::Dir) {
            continue;
        }
        let Some(stat) = dir.look(&entry.name)?.filter(|stat| stat.kind == Kind::Dir) else { continue };
        let is_one = [Writes::All, Writes::Part].into_iter().any(|writes| is_held(&destination(stat.id(), writes)));
        if !is_one && !leads_to_one(stat.id()) {
            continue;
        }
        way.push(b'/');
        way.extend_from_slice(entry.name.as_bytes());
        let is_left = names_of(way).iter().any(|name| left.contains(name));
        let all = is_left || !is_one && find_within(&dir.open(&entry.name)?, way, left)?;
        way.truncate(before);
        if !all {
            return Ok(false);
        }
        any = true;
    }
    Ok(any)
}

/// How one comes to `root` from the directory above it, from the one above that, and so on, each as names with a slash before them. Fewer
/// where somebody moves them meanwhile.
fn ways_from_above(root: &Dir, lineage: &[(u64, u64)]) -> Vec<Vec<u8>> {
    let Ok(full) = std::fs::canonicalize(root.path()) else { return Vec::new() };
    let is_it = |path: &Path, id: &(u64, u64)| {
        std::fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == *id)
    };
    let same = full.ancestors().zip(lineage).take_while(|(path, id)| is_it(path, id)).map(|(path, _)| path);
    let way = |above: &Path| {
        let below = full.strip_prefix(above).map(|below| below.as_os_str().as_bytes()).unwrap_or_default();
        [b"/", below].concat()
    };
    same.skip(1).map(way).collect()
}

/// By which names a directory at `way` is left alone: its path, those of what it is in, and each single name.
fn names_of(way: &[u8]) -> Vec<Vec<u8>> {
    let ends = (1..=way.len()).filter(|end| way.get(*end).is_none_or(|b| *b == b'/'));
    let paths = ends.map(|end| way[..end].to_vec());
    paths.chain(way.split(|b| *b == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec)).collect()
}

fn leads_to_one(id: (u64, u64)) -> bool {
    (0..SLOTS).any(|slot| is_held(&above_destination(id, slot)))
}

fn left_alone(id: (u64, u64), left: &[u8]) -> String {
    name_of(("mirror leaves", left), id, false)
}

fn destination(id: (u64, u64), writes: Writes) -> String {
    name(("mirror", if writes == Writes::All { "all" } else { "part" }), id, false)
}

fn above_destination(id: (u64, u64), slot: u8) -> String {
    name(("mirror", &slot.to_string()), id, true)
}

fn name((hub, share): (&str, &str), id: (u64, u64), above: bool) -> String {
    name_of((hub, share.as_bytes()), id, above)
}

fn name_of((hub, share): (&str, &[u8]), (device, inode): (u64, u64), above: bool) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("lockstep premises v1");
    for part in [&device.to_le_bytes()[..], &inode.to_le_bytes(), &[u8::from(above)], hub.as_bytes(), b"/", share] {
        hasher.update(part);
    }
    format!("lockstep/{}", hasher.finalize().to_hex())
}

fn open(name: &str) -> Result<(OwnedFd, SocketAddrUnix), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Ok((socket, SocketAddrUnix::new_abstract_name(name.as_bytes())?))
}

/// `None` where somebody holds it already.
fn hold(name: &str) -> Result<Option<OwnedFd>, Errno> {
    let (socket, address) = open(name)?;
    match bind(&socket, &address) {
        Ok(()) => listen(&socket, BACKLOG).map(|()| Some(socket)),
        Err(Errno::ADDRINUSE) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_held(name: &str) -> bool {
    let Ok((socket, address)) = open(name) else { return false };
    match connect(&socket, &address) {
        Ok(()) => sockopt::socket_peercred(&socket).is_ok_and(|peer| {
            let (theirs, ours) = (peer.uid, rustix::process::geteuid());
            theirs.is_root() || theirs == ours
        }),
        Err(Errno::AGAIN) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// Waits until a claim that was dropped is gone: a child that some other test is just starting has its sockets as well, for a
    /// moment.
    #[track_caller]
    fn until(gone: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !gone() {
            assert!(Instant::now() < deadline, "what was dropped is still claimed");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_copy_is_kept_neither_within_what_is_shared_nor_around_it_as_long_as_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |path: &str| scratch.path().join(path);
        std::fs::create_dir_all(at("around/share/within")).unwrap();
        std::fs::create_dir(at("beside")).unwrap();
        std::os::unix::fs::symlink(at("around/share"), at("link")).unwrap();
        let look = |share: &str, path: &str| conflict("hub", share, &at(path)).unwrap();
        let claimed = claim("hub", "one", &Dir::open_root(&at("around/share")).unwrap()).unwrap();
        for within in ["around/share", "around/share/within", "around/share/not/yet", "link/within"] {
            assert_eq!(look("one", within), Some(Conflict::Within), "{within}");
        }
        assert_eq!(look("one", "around"), Some(Conflict::Around));
        // More of them than wait at a socket.
        for _ in 0..BACKLOG * 4 {
            assert_eq!(look("one", "around/share"), Some(Conflict::Within));
        }
        for (share, path) in [("one", "beside"), ("one", "around/not yet"), ("two", "around/share"), ("two", "around")]
        {
            assert_eq!(look(share, path), None, "{path}");
        }
        drop(claimed);
        until(|| look("one", "around/share").is_none());
    }

    #[test]
    fn mirrors_around_and_within_a_destination_are_known_as_long_as_any_of_them_is_there() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(scratch.path().join("d/x/deep")).unwrap();
        std::fs::create_dir(scratch.path().join("d/y")).unwrap();
        let at = |path: &str| Dir::open_root(&scratch.path().join(path)).unwrap();
        let look = |path: &str| neighbours(&at(path)).unwrap();
        let (nobody, around) = (Neighbours::default(), |writes| Neighbours { around: Some(writes), within: false });
        let x = claim_destination(&at("d/x"), Writes::Part, &[]).unwrap();
        let y = claim_destination(&at("d/y"), Writes::All, &[]).unwrap();
        assert_eq!(look("d"), Neighbours { around: None, within: true });
        assert_eq!((look("d/x"), look("d/y")), (nobody, nobody), "beside each other, and not of themselves");
        assert_eq!(look("d/x/deep"), around(Writes::Part));
        drop(x);
        until(|| look("d/x/deep") == nobody);
        assert!(look("d").within, "the other one is still there");
        drop(y);
        until(|| look("d") == nobody);
        let d = claim_destination(&at("d"), Writes::All, &[]).unwrap();
        assert_eq!((look("d"), look("d/x"), look("d/x/deep")), (nobody, around(Writes::All), around(Writes::All)));
        drop(d);
        until(|| look("d/x") == nobody);
    }

    #[test]
    fn a_mirror_within_one_that_deletes_is_no_neighbour_only_where_it_is_left_alone_by_its_path_or_name() {
        // Each in a directory of its own: what was dropped a moment ago is nobody's neighbour.
        let new = || {
            let scratch = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(scratch.path().join("d/x/deep/er")).unwrap();
            std::os::unix::fs::symlink("d/x/deep", scratch.path().join("link")).unwrap();
            scratch
        };
        let left = [&b"/x/deep"[..], b"/x", b"deep", b"/x/deep/er", b"er", b"/deep", b"/", b"x/deep"];
        for (n, left) in left.into_iter().enumerate() {
            let scratch = new();
            let at = |path: &str| Dir::open_root(&scratch.path().join(path)).unwrap();
            let (is_left, left) = (n < 3, vec![b"zzz".to_vec(), left.to_vec()]);
            let outer = claim_destination(&at("d"), Writes::All, &left).unwrap();
            for inner in ["d/x/deep", "link"] {
                let around = neighbours(&at(inner)).unwrap().around;
                assert_eq!(around, (!is_left).then_some(Writes::All), "{}", left[1].escape_ascii());
            }
            drop(outer);
            let inner = claim_destination(&at("d/x/deep"), Writes::All, &[]).unwrap();
            assert_eq!(are_left(&at("d"), &left), is_left, "{}", left[1].escape_ascii());
            drop(inner);
        }
        let scratch = new();
        let at = |path: &str| Dir::open_root(&scratch.path().join(path)).unwrap();
        let [_one, _two] = ["d/x", "d/x/deep"].map(|path| claim_destination(&at(path), Writes::All, &[]).unwrap());
        assert!(!are_left(&at("d"), &[b"deep".to_vec()]), "only one of the two");
    }
}
