//! Which of a source's entries a mirror is about: the [`Filter`], fed with what it needs from the disk.

use crate::dirty::{All, Dirty};
use crate::problem::Problem;
use rustix::io::Errno;
use std::collections::HashMap;
use std::io::Read;
use std::ops::RangeInclusive;
use std::sync::Arc;
use tree::at::ListBuffer;
use tree::filter::{Filter, PATTERN_BYTES_MAX, Patterns, Scope, Verdict};
use tree::{Dir, Found, Kind, Listing, Name, RelPath, Stat, fsx};

/// Name of the files that `--gitignore` honours.
const IGNORE_FILE: &[u8] = b".gitignore";
/// Compiled ignore files that are kept for the next directory with the same content.
const COMPILED_MAX: usize = 1_024;

/// What of the source is chosen.
#[derive(Clone, Debug)]
pub struct Choice {
    /// By path.
    pub filter: Filter,
    /// The `.gitignore` files of the source count, too.
    pub gitignore: bool,
    /// What is mounted below the source is not looked into: its mount point is mirrored as a directory, and what the
    /// destination has in there is left alone.
    pub one_file_system: bool,
    /// Files of other sizes are not copied; what the destination has under their names is left alone.
    pub size_bytes: RangeInclusive<u64>,
}

impl Default for Choice {
    fn default() -> Self {
        Self { filter: Filter::default(), gitignore: false, one_file_system: false, size_bytes: 0..=u64::MAX }
    }
}

impl Choice {
    /// Whether everything is chosen, so that nothing has to be asked.
    pub fn is_everything(&self) -> bool {
        let Self { filter, gitignore, one_file_system, size_bytes } = self;
        let filters = !filter.patterns.is_empty() || !filter.expressions.is_empty() || *gitignore;
        !filters && !one_file_system && *size_bytes == (0..=u64::MAX)
    }

    /// Directories that are left alone whatever is in them and in the source, as [`tree::premises`] has them: not all that are.
    pub(crate) fn left_alone(&self) -> &[Vec<u8>] {
        if self.filter.delete_excluded { &[] } else { self.filter.patterns.plain() }
    }

    /// Where to look after a change: an ignore file that changed has everything below it judged again.
    pub(crate) fn widen(&self, dirty: &mut Dirty) {
        if !self.gitignore {
            return;
        }
        let changed = |look: &crate::dirty::Look| {
            look.names.keys().any(|name| name.as_bytes() == IGNORE_FILE) || look.all.is_some_and(|all| !all.recursive)
        };
        let dirs: Vec<RelPath> = dirty.iter().filter(|(_, look)| changed(look)).map(|(dir, _)| dir.clone()).collect();
        for dir in dirs {
            dirty.insert_all(&dir, All { recursive: true, content: false });
        }
    }
}

/// A [`Choice`], and what was read of the source for it.
#[derive(Debug)]
pub(crate) struct Chooser {
    choice: Choice,
    /// Device of the source's root.
    device: u64,
    /// What counts in each directory from the root to the one last asked for.
    scopes: Vec<(RelPath, Arc<Scope>)>,
    compiled: HashMap<blake3::Hash, Arc<Patterns>>,
}

impl Chooser {
    pub(crate) fn new(choice: Choice, root: &Stat) -> Self {
        Self { choice, device: root.dev, scopes: Vec::new(), compiled: HashMap::new() }
    }

    /// One for another thread; what was compiled is shared, what is compiled from now on is not.
    pub(crate) fn fork(&self) -> Self {
        Self { choice: self.choice.clone(), device: self.device, scopes: Vec::new(), compiled: self.compiled.clone() }
    }

    /// Forgets what was read of ignore files, since they may have changed.
    pub(crate) fn forget(&mut self) {
        self.scopes.clear();
    }

    /// What counts in `dir`.
    pub(crate) fn scope(&mut self, root: &Dir, dir: &RelPath) -> Result<Arc<Scope>, Problem> {
        while self.scopes.last().is_some_and(|(held, _)| !dir.starts_with(held)) {
            self.scopes.pop();
        }
        if self.scopes.is_empty() {
            let ignore_file = self.ignore_file(root, &RelPath::root())?;
            self.scopes.push((RelPath::root(), Arc::new(self.choice.filter.root(ignore_file))));
        }
        let (mut at, mut scope) = match self.scopes.last() {
            Some((at, scope)) => (at.clone(), Arc::clone(scope)),
            None => return Ok(Arc::default()),
        };
        for component in dir.components().skip(at.depth()) {
            let wrong = |e| Problem::Path(dir.clone(), e);
            at = at.join(&Name::new(component).map_err(wrong)?).map_err(wrong)?;
            scope = Arc::new(self.enter(root, &scope, &at)?);
            self.scopes.push((at.clone(), Arc::clone(&scope)));
        }
        Ok(scope)
    }

    /// Whether the directory `dir` of the source, `held`, is looked into at all.
    pub(crate) fn looks_into(&self, scope: &Scope, held: &Dir) -> Result<bool, Problem> {
        Ok(!scope.is_excluded() && !self.is_foreign(held)?)
    }

    /// Whether `path`, which is `found` in the source's directory `dir`, is chosen.
    pub(crate) fn wants(
        &mut self,
        root: &Dir,
        dir: &Dir,
        scope: &Scope,
        path: &RelPath,
        found: &Found,
    ) -> Result<bool, Problem> {
        let filter = &self.choice.filter;
        let Some(stat) = found.stat() else {
            // It is one or the other.
            let wanted = |is_dir| filter.source(scope, path, is_dir) == Verdict::Wanted;
            return Ok(wanted(false) || wanted(true));
        };
        let is_dir = stat.kind == Kind::Dir;
        if filter.source(scope, path, is_dir) == Verdict::Wanted {
            return Ok(self.is_sized(stat));
        }
        if !is_dir || !filter.looks_below() {
            return Ok(false);
        }
        let Some((_, name)) = path.split() else { return Ok(true) };
        match dir.open(&name) {
            Ok(inner) => self.wants_below(root, &inner, scope, path),
            Err(e) if is_no_dir(e.errno) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether anything below `path` is chosen: then the directory has to be there, too.
    fn wants_below(&mut self, root: &Dir, dir: &Dir, above: &Scope, path: &RelPath) -> Result<bool, Problem> {
        let scope = self.enter(root, above, path)?;
        if !self.looks_into(&scope, dir)? {
            return Ok(false);
        }
        for (name, found) in Listing::read(dir, &mut ListBuffer::default())?.0 {
            let path = path.join(&name).map_err(|e| Problem::Path(path.clone(), e))?;
            // What is never mirrored is no reason for a directory.
            if found.kind() != Some(Kind::Special) && self.wants(root, dir, &scope, &path, &found)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether `path` of the destination, which is not wanted there, stays nevertheless.
    pub(crate) fn leaves(&mut self, root: &Dir, path: &RelPath, kind: Kind) -> Result<bool, Problem> {
        let Some((parent, name)) = path.split() else { return Ok(true) };
        let scope = self.scope(root, &parent)?;
        if self.choice.filter.extra(&scope, path, kind == Kind::Dir) == Verdict::LeaveAlone {
            return Ok(true);
        }
        let any_size = self.choice.size_bytes == (0..=u64::MAX);
        if any_size && !self.choice.one_file_system {
            return Ok(false);
        }
        let dir = match root.walk(&parent) {
            Ok(dir) => dir,
            Err(e) if is_no_dir(e.errno) => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        if self.is_foreign(&dir)? {
            return Ok(true);
        }
        Ok(!any_size && dir.look(&name)?.is_some_and(|stat| !self.is_sized(&stat)))
    }

    fn enter(&mut self, root: &Dir, above: &Scope, path: &RelPath) -> Result<Scope, Problem> {
        let scope = self.choice.filter.enter(above, path, None);
        if scope.is_excluded() || !self.choice.gitignore {
            return Ok(scope);
        }
        let ignore_file = self.ignore_file(root, path)?;
        Ok(self.choice.filter.enter(above, path, ignore_file))
    }

    fn is_sized(&self, stat: &Stat) -> bool {
        stat.kind != Kind::File || self.choice.size_bytes.contains(&stat.size_bytes)
    }

    fn is_foreign(&self, dir: &Dir) -> Result<bool, Problem> {
        Ok(self.choice.one_file_system && dir.stat_self()?.dev != self.device)
    }

    /// What the `.gitignore` in `dir` of the source says, if there is one. One that cannot be read leaves open what is
    /// excluded, so the directory counts as unreadable.
    fn ignore_file(&mut self, root: &Dir, dir: &RelPath) -> Result<Option<Arc<Patterns>>, Problem> {
        if !self.choice.gitignore {
            return Ok(None);
        }
        let name = Name::new(IGNORE_FILE).map_err(|e| Problem::Path(dir.clone(), e))?;
        let dir = match root.walk(dir) {
            Ok(dir) => dir,
            Err(e) if is_no_dir(e.errno) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let file = match dir.open_file(&name) {
            Ok((file, _)) => file,
            // Nothing, a link (git follows none here either), a directory or a fifo.
            Err(e) if is_no_dir(e.errno) || e.errno == Errno::INVAL => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut content = Vec::new();
        file.take(PATTERN_BYTES_MAX as u64 + 1)
            .read_to_end(&mut content)
            .map_err(|e| fsx::Error::from_io("read", dir.path_of(&name), &e))?;
        let hash = blake3::hash(&content);
        if let Some(known) = self.compiled.get(&hash) {
            return Ok(Some(Arc::clone(known)));
        }
        let patterns = Patterns::parse(&content);
        let shown = || tree::path::escape(dir.path_of(&name).as_os_str().as_encoded_bytes());
        let patterns = Arc::new(patterns.map_err(|e| Problem::IgnoreFile(shown(), e))?);
        if self.compiled.len() >= COMPILED_MAX {
            self.compiled.clear();
        }
        self.compiled.insert(hash, Arc::clone(&patterns));
        Ok(Some(patterns))
    }
}

/// Whether an error says that there is no such thing to open.
fn is_no_dir(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}
