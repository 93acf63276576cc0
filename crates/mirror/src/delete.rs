//! Deleting: what stands at a name, and for a directory, what its own new listing says is in it.

use crate::backup::Backup;
use crate::problem::Problem;
use std::collections::HashSet;
use tree::at::{ListBuffer, TempNames, set_mode};
use tree::{Dir, Kind, Name, RelPath, Stat, fsx};

/// What deleting has to respect.
pub(crate) struct Care<'a> {
    /// Files that are our own: they stay.
    pub(crate) own: &'a HashSet<(u64, u64)>,
    /// Directories of the source: they stay, and that is an error.
    pub(crate) apart: &'a [(u64, u64)],
    /// Whether an entry stays, for it is not the mirror's business.
    pub(crate) leaves: &'a mut dyn FnMut(&RelPath, Kind) -> Result<bool, Problem>,
    /// Whether that has to be asked at all.
    pub(crate) chooses: bool,
    /// Where what goes is put.
    pub(crate) backup: Option<&'a Backup>,
    /// Set where a directory could not be looked into without changing its mode.
    pub(crate) unread: bool,
    /// Set to the first mount point that would be in the way.
    pub(crate) mount: Option<RelPath>,
    /// What of all that went, or would, lay too deep to be told of by its path.
    pub(crate) deep: Deep,
}

/// How much lay deeper than any path of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deep {
    /// Entries, files among them.
    pub(crate) entries: u64,
    /// Files.
    pub(crate) files: u64,
}

impl Deep {
    fn add(&mut self, kind: Kind) {
        self.entries += 1;
        self.files += u64::from(kind == Kind::File);
    }
}

impl<'a> Care<'a> {
    /// For what is of the destination, `leaves` being what the source has to say if it `chooses`.
    pub(crate) fn new(
        own: &'a HashSet<(u64, u64)>,
        apart: &'a [(u64, u64)],
        chooses: bool,
        leaves: &'a mut dyn FnMut(&RelPath, Kind) -> Result<bool, Problem>,
        backup: Option<&'a Backup>,
    ) -> Self {
        Self { own, apart, leaves, chooses, backup, unread: false, mount: None, deep: Deep::default() }
    }
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is gone, or would be.
    Gone,
    /// It stays.
    Stays,
    /// It is a directory, and something in it stays.
    Holds,
}

/// Removes `name` of `dir`, with everything in it, and tells `each` removed entry, children first, and each directory
/// that stays for what is in it.
///
/// `path` is the entry's, for messages. No symlink is followed and no mount point entered. What appears in a
/// directory after it was listed is not removed: the directory stays then, and that is the error.
pub(crate) fn remove_tree(
    dir: &Dir,
    name: &Name,
    path: &RelPath,
    care: &mut Care<'_>,
    each: &mut dyn FnMut(&RelPath, Kind, Fate),
) -> Result<Fate, Problem> {
    let Some(stat) = dir.look(name)? else { return Ok(Fate::Gone) };
    if care.own.contains(&stat.id()) || (care.leaves)(path, stat.kind)? {
        return Ok(Fate::Stays);
    }
    if stat.kind == Kind::Dir && care.apart.contains(&stat.id()) {
        return Err(Problem::Overlap { path: path.clone(), what: "the source" });
    }
    if stat.kind != Kind::Dir {
        if let Some(backup) = care.backup {
            backup.save(dir, name, path, &stat)?;
        }
        forgive_missing(dir.remove_file(name))?;
        each(path, stat.kind, Fate::Gone);
        return Ok(Fate::Gone);
    }
    let inner = enter(dir, name, path, &stat)?;
    let mut fate = Fate::Gone;
    for entry in inner.list(&mut ListBuffer::default())? {
        let Ok(child) = path.join(&entry.name) else {
            remove_deep(&inner, &entry.name, path, care)?;
            continue;
        };
        if remove_tree(&inner, &entry.name, &child, care, each)? != Fate::Gone {
            fate = Fate::Holds;
        }
    }
    if fate == Fate::Gone {
        if let Some(backup) = care.backup {
            backup.save_dir(path, &stat)?;
        }
        forgive_missing(dir.remove_dir(name))?;
    } else if stat.mode & 0o700 != 0o700 {
        set_mode(&inner, stat.mode, inner.path())?;
    }
    each(path, Kind::Dir, fate);
    Ok(fate)
}

/// Opens a directory that is to be emptied, `stat` being what stands at `name`.
fn enter(dir: &Dir, name: &Name, path: &RelPath, stat: &Stat) -> Result<Dir, Problem> {
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
    Ok(inner)
}

/// Removes `name` of `dir`, with everything in it, where no path of ours reaches: `path` is that of `dir`. However deep it is, one
/// directory at a time is held: those in it are moved up first. Nobody is told of single entries; they are counted.
fn remove_deep(dir: &Dir, name: &Name, path: &RelPath, care: &mut Care<'_>) -> Result<(), Problem> {
    if care.chooses || care.backup.is_some() {
        return Err(Problem::TooDeep(path.clone()));
    }
    let temps = TempNames::new();
    let mut todo = vec![name.clone()];
    while let Some(name) = todo.pop() {
        let Some(inner) = remove_or_enter(dir, &name, path, care)? else { continue };
        for entry in inner.list(&mut ListBuffer::default())? {
            // What cannot be written cannot be moved either.
            if remove_or_enter(&inner, &entry.name, path, care)?.is_some() {
                let up = temps.next_name();
                inner.move_to(&entry.name, dir, &up)?;
                todo.push(up);
            }
        }
        forgive_missing(dir.remove_dir(&name))?;
        care.deep.add(Kind::Dir);
    }
    Ok(())
}

/// A directory to be emptied; anything else is removed at once.
fn remove_or_enter(dir: &Dir, name: &Name, path: &RelPath, care: &mut Care<'_>) -> Result<Option<Dir>, Problem> {
    let Some(stat) = dir.look(name)? else { return Ok(None) };
    if care.own.contains(&stat.id()) {
        return Err(Problem::Protected(path.clone()));
    }
    if stat.kind != Kind::Dir {
        forgive_missing(dir.remove_file(name))?;
        care.deep.add(stat.kind);
        return Ok(None);
    }
    if care.apart.contains(&stat.id()) {
        return Err(Problem::Overlap { path: path.clone(), what: "the source" });
    }
    enter(dir, name, path, &stat).map(Some)
}

/// Tells each entry what [`remove_tree`] would make of it, children first, and touches nothing. What cannot be read is
/// told without what is in it.
pub(crate) fn each_in_tree(
    dir: &Dir,
    name: &Name,
    path: &RelPath,
    kind: Kind,
    care: &mut Care<'_>,
    each: &mut dyn FnMut(&RelPath, Kind, Fate),
) -> Fate {
    // What is not known to go stays.
    if (care.leaves)(path, kind).unwrap_or(true) {
        return Fate::Stays;
    }
    let mut fate = Fate::Gone;
    if kind == Kind::Dir {
        let listed = dir.open(name).and_then(|inner| Ok((inner.list(&mut ListBuffer::default())?, inner)));
        care.unread |= listed.is_err();
        for (entry, inner) in listed.iter().flat_map(|(entries, inner)| entries.iter().map(move |entry| (entry, inner)))
        {
            let Ok(child) = path.join(&entry.name) else {
                care.unread = true;
                count_deep(inner, &entry.name, &mut care.deep);
                continue;
            };
            let Ok(Some(stat)) = inner.look(&entry.name) else {
                care.unread = true;
                continue;
            };
            if stat.mount_point {
                care.mount.get_or_insert_with(|| child.clone());
            }
            let own = care.own.contains(&stat.id()) || care.apart.contains(&stat.id());
            if own || stat.mount_point || each_in_tree(inner, &entry.name, &child, stat.kind, care, each) != Fate::Gone
            {
                fate = Fate::Holds;
            }
        }
    }
    each(path, kind, fate);
    fate
}

/// How many entries [`remove_tree`] would remove at `name` of `dir`, itself included. What cannot be read counts as
/// one, and so does each directory that stays for what is in it.
pub(crate) fn count_tree(dir: &Dir, name: &Name, path: &RelPath, care: &mut Care<'_>) -> u64 {
    let Ok(inner) = dir.open(name) else { return 1 };
    1 + count_in(&inner, path, care)
}

/// How many entries below `dir` are not left alone.
pub(crate) fn count_in(dir: &Dir, path: &RelPath, care: &mut Care<'_>) -> u64 {
    let Ok(entries) = dir.list(&mut ListBuffer::default()) else { return 0 };
    let mut count = 0;
    for entry in entries {
        let Ok(child) = path.join(&entry.name) else {
            let mut deep = Deep::default();
            count_deep(dir, &entry.name, &mut deep);
            count += deep.entries;
            continue;
        };
        if (care.leaves)(&child, entry.kind.unwrap_or(Kind::Dir)).unwrap_or(true) {
            continue;
        }
        count += match entry.kind {
            Some(Kind::Dir) | None => count_tree(dir, &entry.name, &child, care),
            Some(_) => 1,
        };
    }
    count
}

/// Counts `name` of `dir`, and everything in it, where no path of ours reaches. However deep it is, one directory at a time is held. What
/// cannot be read, or moves meanwhile, is counted without what is in it.
fn count_deep(dir: &Dir, name: &Name, deep: &mut Deep) {
    if let Err(e) = try_count_deep(dir, name, deep) {
        tracing::debug!("{e}");
    }
}

fn try_count_deep(dir: &Dir, name: &Name, deep: &mut Deep) -> Result<(), fsx::Error> {
    let (mut at, top, mut buffer) = (dir.walk(&RelPath::root())?, dir.stat_self()?, ListBuffer::default());
    // The directories down to this one, each with what of it is still to be counted.
    let mut levels = vec![(top.id(), vec![name.clone()])];
    while let Some((_, names)) = levels.last_mut() {
        let Some(name) = names.pop() else {
            levels.pop();
            match levels.last().map(|(above, _)| at.open_above(*above)) {
                Some(above) => match above? {
                    Some(above) => at = above,
                    None => return Ok(()),
                },
                None => return Ok(()),
            }
            continue;
        };
        let Some(stat) = at.look(&name)? else { continue };
        deep.add(stat.kind);
        if stat.kind != Kind::Dir || stat.mount_point || stat.dev != top.dev {
            continue;
        }
        if let Ok(inner) = at.open(&name)
            && let Ok(entries) = inner.list(&mut buffer)
        {
            levels.push((inner.stat_self()?.id(), entries.into_iter().map(|entry| entry.name).collect()));
            at = inner;
        }
    }
    Ok(())
}

fn forgive_missing(done: Result<(), fsx::Error>) -> Result<(), fsx::Error> {
    match done {
        Err(e) if e.is_missing() => Ok(()),
        done => done,
    }
}
