//! A directory on disk as a [`Source`].
//!
//! It only reads. What stands still between two looks is taken; what changes meanwhile is never sent torn. Nothing is read
//! of a directory that is no longer the one that was pinned (see `pinned`).

mod contents;
mod pinned;

use crate::choose::{Choice, Chooser};
use crate::fold::{self, Folding};
use crate::grain::is_stand_in;
use crate::guard::Pin;
use crate::keep::{Keep, What};
use crate::live::Pulse;
use crate::memory::{Memory, Recall};
use crate::problem::Problem;
use crate::source::{Look, Same, Source, Supply, Want, WantDir, WantFile, WantLink, WantNode};
use crate::watch::Watcher;
use crate::writes::Writes;
use crate::{plan, policy};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tree::at::{Attributes, Grip, ListBuffer, Node, Takes, is_beyond};
use tree::filter::Scope;
use tree::{Dir, Found, Kind, Listing, Name, RelPath, Stat, fsx};

/// A directory on disk; see the module.
pub struct DiskSource {
    root: Arc<Dir>,
    path: PathBuf,
    pin: Pin,
    options: DiskOptions,
    /// The directories from the root to the one last asked for, held.
    held: Vec<(RelPath, Arc<Dir>)>,
    list_buffer: ListBuffer,
    writes: Writes,
    /// Which names its disk takes for one.
    folding: Arc<Folding>,
    compare: [Vec<u8>; 2],
    watcher: Option<Arc<Watcher>>,
    /// What the last run left, and this one leaves.
    pub(crate) memory: Option<Memory>,
    /// `None` where everything is chosen.
    chooser: Option<Chooser>,
    /// The directory last asked about, and its answer.
    unsettled_here: Option<(RelPath, Vec<Name>)>,
    /// The last file whose content was found to be the same.
    read: Option<RelPath>,
    /// What must not be met here.
    pub(crate) others: Others,
    /// Beats with each piece that is compared.
    pub(crate) pulse: Pulse,
}

/// Directories (device, inode) that no walk of the source may meet: it would mirror its own copy, or what it replaced.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Others {
    pub(crate) dest: Option<(u64, u64)>,
    pub(crate) backup: Option<(u64, u64)>,
}

/// How a [`DiskSource`] looks.
#[derive(Clone, Debug, Default)]
pub struct DiskOptions {
    /// Compare contents also where size, time and mode are equal.
    pub checksum: bool,
    /// A file that changed in any way since the destination's time is copied again.
    pub ctime: bool,
    /// Which entries there are.
    pub choice: Choice,
    /// What is told of an entry beside content, mode, time and target.
    pub keep: Keep,
    /// Files that are our own (device, inode): they do not exist here.
    pub own: HashSet<(u64, u64)>,
}

impl DiskSource {
    /// Opens and pins the directory at `path`.
    ///
    /// # Errors
    /// When it is missing, not a directory, or may not be read: nothing was touched.
    pub fn open(path: &Path, options: DiskOptions) -> Result<Self, fsx::Error> {
        let root = Dir::open_root(path)?;
        let stat = root.stat_self()?;
        let pin = Pin::new(root.file_system_id()?, &stat);
        let chooser = (!options.choice.is_everything()).then(|| Chooser::new(options.choice.clone(), &stat));
        Ok(Self {
            memory: None,
            chooser,
            root: Arc::new(root),
            path: path.to_owned(),
            pin,
            options,
            held: Vec::new(),
            list_buffer: ListBuffer::default(),
            writes: Writes::default(),
            folding: Arc::default(),
            compare: <[Vec<u8>; 2]>::default(),
            watcher: None,
            unsettled_here: None,
            read: None,
            others: Others::default(),
            pulse: Pulse::default(),
        })
    }

    /// The root, held.
    pub fn root(&self) -> &Arc<Dir> {
        &self.root
    }

    /// What the root was when it was opened.
    pub fn pin(&self) -> &Pin {
        &self.pin
    }

    /// Has `watcher`, of this directory, say what is in the middle of a change.
    pub fn set_watcher(&mut self, watcher: Arc<Watcher>) {
        self.watcher = Some(watcher);
    }

    /// The directory, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Nothing is watched any more.
    pub fn forget_watcher(&mut self) {
        self.watcher = None;
    }

    /// Holds nothing but the root any more: what is mounted below it can be unmounted.
    pub(crate) fn let_go(&mut self) {
        self.held.clear();
    }

    /// The directory at `path`, held until one elsewhere is asked for.
    fn hold(&mut self, path: &RelPath) -> Result<Arc<Dir>, Problem> {
        while self.held.last().is_some_and(|(held, _)| !path.starts_with(held)) {
            self.held.pop();
        }
        match self.held.last() {
            Some((held, dir)) if held == path => Ok(Arc::clone(dir)),
            _ if path.is_root() => Ok(Arc::clone(&self.root)),
            last => {
                let opened = match (last, path.split()) {
                    (Some((held, dir)), Some((parent, name))) if *held == parent => {
                        let opened = dir.open(&name)?;
                        self.check_mount(path, &opened)?;
                        opened
                    }
                    _ => self.walk(path)?,
                };
                let opened = Arc::new(opened);
                self.held.push((path.clone(), Arc::clone(&opened)));
                Ok(opened)
            }
        }
    }

    /// Like [`DiskSource::hold`], but what was held, and whatever is above it, may have been renamed or replaced since, so
    /// everything but the root is opened anew.
    fn hold_anew(&mut self, path: &RelPath) -> Result<Arc<Dir>, Problem> {
        self.held.clear();
        self.hold(path)
    }

    /// What counts in `dir`, which is `held`; `None` where nothing is chosen.
    fn scope(&mut self, dir: &RelPath, held: &Dir) -> Result<Option<Arc<Scope>>, Problem> {
        let Some(chooser) = &mut self.chooser else { return Ok(Some(Arc::default())) };
        let scope = chooser.scope(&self.root, dir)?;
        Ok(chooser.looks_into(&scope, held)?.then_some(scope))
    }

    fn chooses_entry(
        &mut self,
        dir: &Dir,
        scope: &Scope,
        above: &RelPath,
        name: &Name,
        found: &Found,
    ) -> Result<bool, Problem> {
        let Some(chooser) = &mut self.chooser else { return Ok(true) };
        let path = above.join(name).map_err(|e| Problem::Path(above.clone(), e))?;
        chooser.wants(&self.root, dir, scope, &path, found)
    }

    /// What stands at `name`, and bears that very name: a disk may take another one for it.
    fn look(&mut self, dir: &Dir, above: &RelPath, name: &Name) -> Result<Option<Stat>, fsx::Error> {
        let found = dir.look(name)?;
        let other = found.is_some()
            && self.folding.find_out(dir, above, name)?
            && !fold::is_spelt(&dir.list(&mut self.list_buffer)?, name);
        Ok(found.filter(|_| !other))
    }

    /// `None` for what does not exist here.
    fn want(&mut self, dir: &Dir, path: &RelPath, name: &Name, stat: &Stat) -> Option<Want> {
        if self.options.own.contains(&stat.id()) {
            return None;
        }
        let (mode, mtime_ns, found) = (self.options.keep.mode_of(stat), stat.mtime_ns, Some(*stat));
        Some(match stat.kind {
            Kind::Dir => match (self.others.name(stat), self.pin.check_dir(path, stat)) {
                (Some(what), _) => Want::Unknown(Problem::Overlap { path: path.clone(), what }),
                (None, Ok(())) => {
                    if stat.mount_point {
                        self.remember_mount(dir, name, path, stat);
                    }
                    Want::Dir(WantDir { mode, mtime_ns, found })
                }
                (None, Err(broken)) => Want::Unknown(broken.into()),
            },
            Kind::File => Want::File(WantFile { mode, mtime_ns, size_bytes: stat.size_bytes, content: None, found }),
            Kind::Link => match dir.read_link(name) {
                Ok(target) => Want::Link(WantLink { mtime_ns, target, found }),
                Err(e) if e.is_missing() => return None,
                Err(e) => Want::Unknown(e.into()),
            },
            Kind::Special => match self.node(dir, name) {
                Ok(Some(node)) => Want::Node(WantNode { node, mode, mtime_ns, found }),
                Ok(None) => Want::Unknown(Problem::Special(path.clone())),
                Err(e) if e.is_missing() => return None,
                Err(e) => Want::Unknown(e.into()),
            },
        })
    }

    /// Which special file `name` is, if it is kept; nothing is asked of the disk if none is.
    fn node(&self, dir: &Dir, name: &Name) -> Result<Option<Node>, fsx::Error> {
        let keep = self.options.keep;
        if !keep.has(What::Specials) && !keep.has(What::Devices) {
            return Ok(None);
        }
        let kept = |node: &Node| keep.has(if node.is_device() { What::Devices } else { What::Specials });
        Ok(dir.node(name)?.filter(kept))
    }
}

impl Source for DiskSource {
    fn fork(&self) -> Option<Self> {
        Some(Self {
            root: Arc::clone(&self.root),
            path: self.path.clone(),
            pin: self.pin.clone(),
            options: self.options.clone(),
            held: Vec::new(),
            list_buffer: ListBuffer::default(),
            writes: self.writes.fork(),
            folding: Arc::clone(&self.folding),
            compare: <[Vec<u8>; 2]>::default(),
            watcher: self.watcher.clone(),
            memory: self.memory.as_ref().map(Memory::fork),
            chooser: self.chooser.as_ref().map(Chooser::fork),
            unsettled_here: None,
            read: None,
            others: self.others,
            pulse: self.pulse.clone(),
        })
    }

    fn join(&mut self, other: Self) {
        self.writes.join(other.writes);
        // A mount point is listed, and so pinned, by one thread.
        self.pin.mounts.extend(other.pin.mounts);
        if let (Some(memory), Some(other)) = (&mut self.memory, other.memory) {
            memory.join(other);
        }
    }

    fn list(&mut self, dir: &RelPath) -> Result<Vec<(Name, Want)>, Problem> {
        // What was said to be unsettled is asked again for every look at the disk.
        self.unsettled_here = None;
        let held = self.hold_anew(dir)?;
        let Some(scope) = self.scope(dir, &held)? else { return Ok(Vec::new()) };
        let listing = Listing::read(&held, &mut self.list_buffer)?;
        let mut wanted = Vec::with_capacity(listing.0.len());
        for (name, found) in listing.0 {
            match self.chooses_entry(&held, &scope, dir, &name, &found) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(problem) => {
                    wanted.push((name, Want::Unknown(problem)));
                    continue;
                }
            }
            let want = match found {
                Found::Unreadable(e) => Some(Want::Unknown(e.into())),
                Found::Known(stat) if stat.kind == Kind::File => self.want(&held, dir, &name, &stat),
                Found::Known(stat) => {
                    let path = dir.join(&name).map_err(|e| Problem::Path(dir.clone(), e))?;
                    self.want(&held, &path, &name, &stat)
                }
            };
            wanted.extend(want.map(|want| (name, want)));
        }
        Ok(wanted)
    }

    fn entry(&mut self, path: &RelPath) -> Result<Option<Want>, Problem> {
        let Some((parent, name)) = path.split() else {
            let stat = self.root.stat_self()?;
            let mode = self.options.keep.mode_of(&stat);
            return Ok(Some(Want::Dir(WantDir { mode, mtime_ns: stat.mtime_ns, found: Some(stat) })));
        };
        self.unsettled_here = None;
        let dir = match self.hold_anew(&parent) {
            Ok(dir) => dir,
            Err(Problem::Fs(e)) if matches!(e.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return Ok(None);
            }
            Err(problem) => return Err(problem),
        };
        let Some(scope) = self.scope(&parent, &dir)? else { return Ok(None) };
        match self.look(&dir, &parent, &name)? {
            Some(stat) if self.chooses_entry(&dir, &scope, &parent, &name, &Found::Known(stat))? => {
                Ok(self.want(&dir, path, &name, &stat))
            }
            _ => Ok(None),
        }
    }

    fn same(
        &mut self,
        path: &RelPath,
        want: &WantFile,
        found: &Stat,
        dest: &Dir,
        name: &Name,
        look: Look,
    ) -> Result<Same, Problem> {
        if want.size_bytes != found.size_bytes {
            return Ok(Same::Different);
        }
        if self.options.ctime && want.found.is_some_and(|now| policy::is_changed_since(&now, found)) {
            return Ok(Same::Different);
        }
        let meta = plan::meta_same(want.mode, want.mtime_ns, found);
        // Two versions of a size can bear one time, for the clock that stamps files ticks slowly. What we copied
        // ourselves tells them apart by inode and ctime.
        let copied = want.found.is_some_and(|now| self.writes.is_outdated(path, &now));
        let known = self.memory.as_ref().zip(want.found).map(|(memory, now)| memory.recall(path, &now, found));
        let recalled = match known {
            Some(Recall::Unknown) => self.memory.as_ref().is_some_and(Memory::reads_unknown),
            known => known == Some(Recall::Changed),
        };
        // Two times of which nobody knows what they were are no sign that the content is the same.
        let stands_in = want.found.is_some_and(|now| is_stand_in(now.mtime_ns, want.mtime_ns));
        let beyond = (is_beyond(want.mtime_ns) || stands_in) && known != Some(Recall::Unchanged);
        let named = look == Look::Content || copied || recalled || beyond;
        let read = self.options.checksum || (named && want.mtime_ns == found.mtime_ns);
        if !read {
            return Ok(if want.mtime_ns == found.mtime_ns { meta } else { Same::Different });
        }
        let Some(before) = want.found else { return Ok(Same::Different) };
        if !self.options.checksum && self.writes.is_same(path, &before, found) {
            self.read = Some(path.clone());
            return Ok(meta);
        }
        if !self.same_content(path, &before, dest, name)? {
            return Ok(Same::Different);
        }
        self.read = Some(path.clone());
        // Read once, for as long as both sides stay as they are.
        if self.writes.contains(path) {
            self.writes.insert(path, &before, found);
        }
        Ok(meta)
    }

    fn content(&mut self, path: &RelPath, want: &WantFile) -> Supply {
        let (Some((parent, name)), Some(before)) = (path.split(), want.found) else { return Supply::Gone };
        match self.hold(&parent).and_then(|dir| Ok(dir.open_bare(&name)?)) {
            Ok(file) => Supply::File { file, before },
            Err(Problem::Fs(e)) if e.is_missing() => Supply::Gone,
            Err(problem) => Supply::Problem(problem),
        }
    }

    fn begin(&mut self) {
        self.writes.share();
        if let Some(chooser) = &mut self.chooser {
            chooser.forget();
        }
    }

    fn chooses(&self) -> bool {
        self.chooser.is_some()
    }

    fn leaves(&mut self, path: &RelPath, kind: Kind) -> Result<bool, Problem> {
        match &mut self.chooser {
            Some(chooser) => chooser.leaves(&self.root, path, kind),
            None => Ok(false),
        }
    }

    fn attributes(&mut self, path: &RelPath, found: Option<&Stat>, takes: Takes<'_>) -> Result<Attributes, Problem> {
        let read = match path.split() {
            None => Grip::Open(self.root.as_fd()).attributes(takes, &self.path),
            Some((parent, name)) => {
                let dir = self.hold(&parent)?;
                match found {
                    None => dir.attributes(&name, takes),
                    Some(found) => {
                        let (held, now) = dir.hold(&name)?;
                        if !found.is_unchanged(&now) {
                            return Err(Problem::Unsettled(path.clone()));
                        }
                        Grip::Bare(held.as_fd()).attributes(takes, &dir.path_of(&name))
                    }
                }
            }
        };
        match read {
            Err(e) if e.errno == Errno::OPNOTSUPP => Ok(Attributes::default()),
            read => Ok(read?),
        }
    }

    fn is_unsettled(&mut self, dir: &RelPath, name: &Name) -> bool {
        let Some(watcher) = &self.watcher else { return false };
        if self.unsettled_here.as_ref().is_none_or(|(here, _)| here != dir) {
            self.unsettled_here = Some((dir.clone(), watcher.unsettled_in(dir)));
        }
        self.unsettled_here.as_ref().is_some_and(|(_, names)| names.contains(name))
    }

    fn is_unsettled_by_now(&mut self, path: &RelPath) -> bool {
        self.watcher.as_ref().is_some_and(|watcher| watcher.is_unsettled_by_now(path))
    }

    fn check_pin(&mut self) -> Result<(), Problem> {
        Ok(self.check_root()?)
    }

    fn roots(&self) -> Vec<(u64, u64)> {
        // What is not looked into is none of this source.
        let mounts = self.pin.mounts.values().filter(|_| !self.options.choice.one_file_system);
        std::iter::once(self.pin.root).chain(mounts.copied()).collect()
    }

    fn check_deletion(&mut self, path: &RelPath) -> Result<(), Problem> {
        Ok(self.check_mounts_of(path)?)
    }

    fn kept(&mut self, path: &RelPath, want: &Want, stat: &Stat) {
        let (Some(memory), Want::File(WantFile { found: Some(found), .. })) = (&mut self.memory, want) else { return };
        // Size and time alone do not make it the same.
        if self.read.as_ref() == Some(path) || memory.recall(path, found, stat) == Recall::Unchanged {
            memory.remember(path, found, stat);
        }
    }

    fn placed(&mut self, path: &RelPath, want: &Want, stat: &Stat) {
        if let (Some(memory), Want::File(WantFile { found: Some(found), .. })) = (&mut self.memory, want) {
            memory.remember(path, found, stat);
        }
        if let Want::File(WantFile { found: Some(found), .. }) = want {
            self.writes.insert(path, found, stat);
        }
    }

    fn removed(&mut self, path: &RelPath) {
        if let Some(memory) = &mut self.memory {
            memory.forget(path);
        }
    }
}

impl Others {
    /// Which of them it is.
    fn name(&self, stat: &Stat) -> Option<&'static str> {
        match Some(stat.id()) {
            id if id == self.dest => Some("the destination"),
            id if id == self.backup => Some("the backup directory"),
            _ => None,
        }
    }
}

impl std::fmt::Debug for DiskSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DiskSource({})", self.path.display())
    }
}
