//! The two roots of a live mirror: whether their paths still lead to them, and how they are taken up again.
//!
//! The kernel says nothing when a directory above a root is renamed, when something is mounted over it, or when its file
//! system is unmounted while it is held. So the paths are asked, too.

use std::path::Path;

use rustix::io::Errno;
use tree::at::ListBuffer;
use tree::path::escape;
use tree::{Dir, fsx};

use crate::guard::{Pin, PinBroken, not_itself};
use crate::mirror::Mirror;

/// What stands where a root was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Return {
    /// The root itself, and it is held anew.
    Back,
    /// Nothing, or what cannot be looked at.
    Away,
    /// What is not the root, in words.
    Other(String),
}

/// The destination as it was; the source has its own pin.
pub(super) fn pin_of(dir: &Dir) -> Result<Pin, fsx::Error> {
    Ok(Pin::new(dir.file_system_id()?, &dir.stat_self()?))
}

/// What is wrong with the path of a root, if anything is.
pub(super) fn broken(mirror: &Mirror, dest: &Pin) -> Option<String> {
    if let Err(broken) = mirror.source.check_root() {
        return Some(format!("the source {}", without_end(broken)));
    }
    let now = Dir::open_root(&mirror.dest_path).and_then(|dir| Ok((dir.file_system_id()?, dir.stat_self()?))).ok();
    let (file_system, stat) = now.map_or((0, None), |(file_system, stat)| (file_system, Some(stat)));
    let broken = dest.check_root(file_system, stat.as_ref(), &shown(&mirror.dest_path)).err()?;
    Some(format!("the destination {}", without_end(broken)))
}

/// What is wrong; that nothing is deleted is told of all that is lost.
fn without_end(broken: PinBroken) -> String {
    match broken {
        PinBroken::Root { path } => not_itself(&path),
        broken => broken.to_string(),
    }
}

/// Takes the source up again, if its path leads to it.
pub(super) fn return_source(mirror: &mut Mirror) -> Return {
    let path = mirror.source.path().to_owned();
    match Dir::open_root(&path) {
        Err(_) => Return::Away,
        Ok(dir) => match mirror.source.take_up(dir) {
            Ok(true) => Return::Back,
            Ok(false) => Return::Other(other("source", &path)),
            Err(_) => Return::Away,
        },
    }
}

/// Takes the destination up again, if its path leads to it. One that was deleted is made anew: it held nothing but what
/// the source has.
pub(super) fn return_dest(mirror: &mut Mirror, pin: &mut Pin) -> Return {
    let path = mirror.dest_path.clone();
    let deleted = mirror.engine.dest().stat_self().is_ok_and(|stat| stat.nlink == 0);
    let opened = match Dir::open_root(&path) {
        Err(e) if e.errno == Errno::NOENT && deleted && is_beside(&path, pin) => Dir::make_root(&path),
        opened => opened,
    };
    let Ok(dir) = opened else { return Return::Away };
    let Ok(now) = pin_of(&dir) else { return Return::Away };
    let instead = deleted && now.file_system == pin.file_system && is_empty(&dir);
    if !pin.is_same_tree(&now) && !instead {
        return Return::Other(other("destination", &path));
    }
    // Its lock is that of the descriptor, so the old one goes first.
    mirror.engine.hold_dest(dir);
    match mirror.engine.dest().try_lock() {
        Ok(true) => {
            mirror.source.others.dest = Some(now.root);
            *pin = now;
            mirror.claim();
            Return::Back
        }
        Ok(false) => Return::Other(format!("another lockstep is writing to {}", shown(&path))),
        Err(_) => Return::Away,
    }
}

/// Bytes that this user may still write there.
pub(super) fn room(dest: &Dir) -> Option<u64> {
    let stat = rustix::fs::fstatvfs(dest).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether what is above `path` is on the file system that was pinned: never is a mount point filled whose file system is
/// away.
fn is_beside(path: &Path, pin: &Pin) -> bool {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Dir::open_root(above).and_then(|dir| dir.file_system_id()).is_ok_and(|id| id == pin.file_system)
}

fn is_empty(dir: &Dir) -> bool {
    dir.list(&mut ListBuffer::default()).is_ok_and(|entries| entries.is_empty())
}

fn other(side: &str, path: &Path) -> String {
    format!(
        "{} is another directory than the {side} that was mirrored, so nothing is copied or deleted; \
         if it is the right one, stop lockstep and start it again",
        shown(path)
    )
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}
