//! Which names each side has: a report that compares nothing else and changes nothing.

use crate::mirror::Mirror;
use crate::plan::{self, Pair};
use crate::problem::Problem;
use crate::source::{Source, Want};
use tree::at::{DirEntry, ListBuffer, is_temp_name};
use tree::{Dir, Kind, RelPath};

/// Which sides have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Only the source.
    Source,
    /// Only the destination.
    Destination,
    /// Both.
    Both,
}

/// One name of the report.
#[derive(Debug)]
pub struct Named<'a> {
    /// Who has it.
    pub side: Side,
    /// Where.
    pub path: &'a RelPath,
    /// Its kind, at the source if both have it; `None` where it is not known.
    pub kind: Option<Kind>,
}

struct Walk<'a, S: ?Sized> {
    source: &'a mut S,
    each: &'a mut dyn FnMut(&Named<'_>),
    problems: Vec<(RelPath, Problem)>,
    own: &'a std::collections::HashSet<(u64, u64)>,
    left_alone: Option<&'a RelPath>,
    buffer: ListBuffer,
}

impl Mirror {
    /// Tells each name that is chosen, in the order of the paths within a directory; and what could not be read.
    pub fn diff(&mut self, each: &mut dyn FnMut(&Named<'_>)) -> Vec<(RelPath, Problem)> {
        self.source.begin();
        let options = &self.engine.options;
        let mut walk = Walk {
            source: &mut self.source,
            each,
            problems: Vec::new(),
            own: &options.own,
            left_alone: options.left_alone.as_ref(),
            buffer: ListBuffer::default(),
        };
        walk.both(&RelPath::root(), &self.engine.dest);
        walk.problems
    }
}

impl<S: Source + ?Sized> Walk<'_, S> {
    fn both(&mut self, path: &RelPath, dest: &Dir) {
        let wanted = match self.source.list(path) {
            Ok(wanted) => wanted,
            Err(problem) => return self.problems.push((path.clone(), problem)),
        };
        let found = match dest.list(&mut self.buffer) {
            Ok(found) => found,
            Err(e) => return self.problems.push((path.clone(), e.into())),
        };
        for pair in plan::join(wanted, found) {
            match pair {
                Pair::New(name, want) => {
                    if let Some(path) = self.join(path, &name) {
                        self.source_only(&path, &want);
                    }
                }
                Pair::Both(name, want, entry) => {
                    let Some(path) = self.join(path, &name) else { continue };
                    self.tell(Side::Both, &path, want.kind());
                    let found = self.kind(dest, &entry, &path);
                    match (&want, found) {
                        (Want::Dir { .. }, Some(Kind::Dir)) => match dest.open(&name) {
                            Ok(inner) => self.both(&path, &inner),
                            Err(e) => self.problems.push((path, e.into())),
                        },
                        (Want::Dir { .. }, _) => self.source_below(&path),
                        (_, Some(Kind::Dir)) => self.dest_below(&path, dest, &entry),
                        _ => {}
                    }
                }
                Pair::Extra(entry) => {
                    if let Some(path) = self.join(path, &entry.name) {
                        self.dest_only(&path, dest, &entry);
                    }
                }
            }
        }
    }

    fn source_only(&mut self, path: &RelPath, want: &Want) {
        if let Want::Unknown(problem) = want {
            return self.problems.push((path.clone(), problem.clone()));
        }
        self.tell(Side::Source, path, want.kind());
        if want.kind() == Some(Kind::Dir) {
            self.source_below(path);
        }
    }

    fn source_below(&mut self, path: &RelPath) {
        match self.source.list(path) {
            Ok(wanted) => {
                for (name, want) in wanted {
                    if let Some(path) = self.join(path, &name) {
                        self.source_only(&path, &want);
                    }
                }
            }
            Err(problem) => self.problems.push((path.clone(), problem)),
        }
    }

    fn dest_only(&mut self, path: &RelPath, dest: &Dir, entry: &DirEntry) {
        if is_temp_name(&entry.name) || self.left_alone == Some(path) {
            return;
        }
        let Some(kind) = self.kind(dest, entry, path) else { return };
        match self.source.leaves(path, kind) {
            Ok(false) => {}
            Ok(true) => return,
            Err(problem) => return self.problems.push((path.clone(), problem)),
        }
        self.tell(Side::Destination, path, Some(kind));
        if kind == Kind::Dir {
            self.dest_below(path, dest, entry);
        }
    }

    fn dest_below(&mut self, path: &RelPath, dest: &Dir, entry: &DirEntry) {
        let listed = dest.open(&entry.name).and_then(|inner| Ok((inner.list(&mut self.buffer)?, inner)));
        match listed {
            Ok((entries, inner)) => {
                for entry in entries {
                    if let Some(path) = self.join(path, &entry.name) {
                        self.dest_only(&path, &inner, &entry);
                    }
                }
            }
            Err(e) => self.problems.push((path.clone(), e.into())),
        }
    }

    /// The kind of a name of the destination; `None` for what is gone by now, and for what is our own.
    fn kind(&mut self, dest: &Dir, entry: &DirEntry, path: &RelPath) -> Option<Kind> {
        if let (Some(kind), true) = (entry.kind, self.own.is_empty()) {
            return Some(kind);
        }
        match dest.look(&entry.name) {
            Ok(stat) => stat.filter(|stat| !self.own.contains(&stat.id())).map(|stat| stat.kind),
            Err(e) => {
                self.problems.push((path.clone(), e.into()));
                None
            }
        }
    }

    fn join(&mut self, above: &RelPath, name: &tree::Name) -> Option<RelPath> {
        above.join(name).map_err(|e| self.problems.push((above.clone(), Problem::Path(above.clone(), e)))).ok()
    }

    fn tell(&mut self, side: Side, path: &RelPath, kind: Option<Kind>) {
        (self.each)(&Named { side, path, kind });
    }
}
