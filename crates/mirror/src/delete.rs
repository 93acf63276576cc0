//! Deleting: what stands at a name, and for a directory, what its own new listing says is in it.

use crate::problem::Problem;
use tree::at::{ListBuffer, set_mode};
use tree::{Dir, Kind, Name, RelPath, fsx};

/// Removes `name` of `dir`, with everything in it, and tells `each` removed entry, children first.
///
/// `path` is the entry's, for messages. No symlink is followed and no mount point entered. What appears in a
/// directory after it was listed is not removed: the directory stays then, and that is the error.
pub(crate) fn remove_tree(
    dir: &Dir,
    name: &Name,
    path: &RelPath,
    each: &mut dyn FnMut(&RelPath, Kind),
) -> Result<(), Problem> {
    let Some(stat) = dir.look(name)? else { return Ok(()) };
    if stat.kind != Kind::Dir {
        forgive_missing(dir.remove_file(name))?;
        each(path, stat.kind);
        return Ok(());
    }
    if stat.mount_point || stat.dev != dir.stat_self()?.dev {
        return Err(Problem::MountPoint(path.clone()));
    }
    let (inner, _) = dir.open_forced(name)?;
    if inner.stat_self()?.id() != stat.id() {
        return Err(Problem::Moved(path.clone()));
    }
    if stat.mode & 0o300 != 0o300 {
        set_mode(&inner, stat.mode | 0o700, inner.path())?;
    }
    for entry in inner.list(&mut ListBuffer::default())? {
        let child = path.join(&entry.name).map_err(|e| Problem::Path(path.clone(), e))?;
        remove_tree(&inner, &entry.name, &child, each)?;
    }
    forgive_missing(dir.remove_dir(name))?;
    each(path, Kind::Dir);
    Ok(())
}

/// Tells each entry that [`remove_tree`] would remove, children first, and touches nothing. What cannot be read is told
/// without what is in it.
pub(crate) fn each_in_tree(dir: &Dir, name: &Name, path: &RelPath, kind: Kind, each: &mut dyn FnMut(&RelPath, Kind)) {
    if kind == Kind::Dir
        && let Ok(inner) = dir.open(name)
        && let Ok(entries) = inner.list(&mut ListBuffer::default())
    {
        for entry in entries {
            if let (Ok(child), Ok(Some(stat))) = (path.join(&entry.name), inner.look(&entry.name)) {
                each_in_tree(&inner, &entry.name, &child, stat.kind, each);
            }
        }
    }
    each(path, kind);
}

/// How many entries stand at `name` of `dir`, itself included. What cannot be read counts as one.
pub(crate) fn count_tree(dir: &Dir, name: &Name, depth: usize) -> u64 {
    let Ok(inner) = dir.open(name) else { return 1 };
    1 + count_in(&inner, depth)
}

/// How many entries are below `dir`.
pub(crate) fn count_in(dir: &Dir, depth: usize) -> u64 {
    if depth >= tree::path::PATH_DEPTH_MAX {
        return 0;
    }
    let Ok(entries) = dir.list(&mut ListBuffer::default()) else { return 0 };
    entries
        .iter()
        .map(|entry| match entry.kind {
            Some(Kind::Dir) | None => count_tree(dir, &entry.name, depth + 1),
            Some(_) => 1,
        })
        .sum()
}

fn forgive_missing(done: Result<(), fsx::Error>) -> Result<(), fsx::Error> {
    match done {
        Err(e) if e.is_missing() => Ok(()),
        done => done,
    }
}
