//! A disk in memory on which names fall together, mounted by FUSE: no kernel that tests run on has to have FAT or `casefold`.
//!
//! As with those, what stands somewhere keeps the spelling by which it was made, whatever name it is replaced by, and to rename
//! it to another spelling of its own does nothing (that is the kernel's doing).

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

/// Nothing is remembered by the kernel: another spelling may have come.
const TTL: Duration = Duration::ZERO;

/// What a disk makes of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Letter case and accents make no difference, and stay as they were put in.
    Folds,
    /// The same, but all comes out in small letters.
    Lowers,
    /// The same as the first, but only in the directory of this name, and in those that are made in there.
    FoldsIn(&'static str),
}

/// Mounted until it is dropped.
pub(crate) struct FoldingDisk(Option<BackgroundSession>, Arc<AtomicBool>);

impl FoldingDisk {
    /// `None` where this user may not mount.
    pub(crate) fn at(place: &Path, manner: Manner) -> Option<Self> {
        let state = State::new(manner);
        let fails = Arc::clone(&state.fails);
        match fuser::spawn_mount(Folding(Mutex::new(state)), place, &Config::default()) {
            Ok(session) => Some(Self(Some(session), fails)),
            Err(e) => {
                eprintln!("not run: mounting with FUSE: {e}");
                None
            }
        }
    }
}

impl FoldingDisk {
    /// Whether, from now on, what has a name of ours keeps it.
    pub(crate) fn fails(&self, fails: bool) {
        self.1.store(fails, Ordering::SeqCst);
    }
}

impl Drop for FoldingDisk {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

struct Folding(Mutex<State>);

struct State {
    manner: Manner,
    nodes: HashMap<u64, Node>,
    next: u64,
    fails: Arc<AtomicBool>,
}

struct Node {
    what: What,
    mode: u16,
    owner: (u32, u32),
    mtime: SystemTime,
    ctime: SystemTime,
}

enum What {
    Dir { folds: bool, entries: Entries },
    File(Vec<u8>),
    Link(OsString),
}

type Done<T> = Result<T, Errno>;
/// By what makes names one: the name as it is spelt, and what it is a name of.
type Entries = BTreeMap<Vec<u8>, (OsString, u64)>;

impl State {
    fn new(manner: Manner) -> Self {
        let root =
            Node::new(What::Dir { folds: !matches!(manner, Manner::FoldsIn(_)), entries: BTreeMap::new() }, 0o755);
        Self { manner, nodes: HashMap::from([(1, root)]), next: 2, fails: Arc::default() }
    }

    fn node(&mut self, ino: INodeNo) -> Done<&mut Node> {
        self.nodes.get_mut(&ino.0).ok_or(Errno::ENOENT)
    }

    fn entries(&mut self, dir: INodeNo) -> Done<(bool, &mut Entries)> {
        match &mut self.node(dir)?.what {
            What::Dir { folds, entries } => Ok((*folds, entries)),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn find(&mut self, dir: INodeNo, name: &OsStr) -> Done<u64> {
        let (folds, entries) = self.entries(dir)?;
        entries.get(&key(folds, name)).map(|(_, ino)| *ino).ok_or(Errno::ENOENT)
    }

    fn attr(&mut self, ino: u64) -> Done<FileAttr> {
        let node = self.node(INodeNo(ino))?;
        let (kind, size) = match &node.what {
            What::Dir { .. } => (FileType::Directory, 0),
            What::File(content) => (FileType::RegularFile, content.len() as u64),
            What::Link(target) => (FileType::Symlink, target.len() as u64),
        };
        Ok(FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: node.mtime,
            mtime: node.mtime,
            ctime: node.ctime,
            crtime: node.ctime,
            kind,
            perm: node.mode,
            nlink: 1,
            uid: node.owner.0,
            gid: node.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn touch(&mut self, ino: INodeNo) -> Done<()> {
        let now = SystemTime::now();
        let node = self.node(ino)?;
        (node.mtime, node.ctime) = (now, now);
        Ok(())
    }

    fn make(&mut self, dir: INodeNo, name: &OsStr, what: What, mode: u32) -> Done<FileAttr> {
        if self.find(dir, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, Node::new(what, u16::try_from(mode & 0o7777).unwrap()));
        self.put(dir, name, ino)?;
        self.attr(ino)
    }

    /// What stands there keeps its spelling.
    fn put(&mut self, dir: INodeNo, name: &OsStr, ino: u64) -> Done<()> {
        let lowers = self.manner == Manner::Lowers;
        let (folds, entries) = self.entries(dir)?;
        let spelt = if lowers { OsString::from(name.to_string_lossy().to_lowercase()) } else { name.to_owned() };
        entries.entry(key(folds, name)).or_insert((spelt, ino)).1 = ino;
        self.touch(dir)
    }

    fn remove(&mut self, dir: INodeNo, name: &OsStr, is_dir: bool) -> Done<()> {
        let ino = self.find(dir, name)?;
        match &self.node(INodeNo(ino))?.what {
            What::Dir { .. } if !is_dir => return Err(Errno::EISDIR),
            What::Dir { entries, .. } if !entries.is_empty() => return Err(Errno::ENOTEMPTY),
            What::File(_) | What::Link(_) if is_dir => return Err(Errno::ENOTDIR),
            _ => {}
        }
        // Whoever has it open goes on reading: the node stays until the disk goes.
        let (folds, entries) = self.entries(dir)?;
        entries.remove(&key(folds, name));
        self.touch(dir)
    }

    fn rename(&mut self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr), flags: RenameFlags) -> Done<()> {
        if self.fails.load(Ordering::SeqCst) && from.1.as_bytes().starts_with(b".lockstep-") {
            return Err(Errno::EIO);
        }
        let moved = self.find(from.0, from.1)?;
        let there = self.find(to.0, to.1).ok();
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            let there = there.ok_or(Errno::ENOENT)?;
            self.put(from.0, from.1, there)?;
            return self.put(to.0, to.1, moved);
        }
        if there.is_some() && flags.contains(RenameFlags::RENAME_NOREPLACE) {
            return Err(Errno::EEXIST);
        }
        if let Some(there) = there {
            match &self.node(INodeNo(there))?.what {
                What::Dir { entries, .. } if !entries.is_empty() => return Err(Errno::ENOTEMPTY),
                _ => {}
            }
        }
        let (folds, entries) = self.entries(from.0)?;
        entries.remove(&key(folds, from.1));
        self.touch(from.0)?;
        self.put(to.0, to.1, moved)
    }
}

impl Node {
    fn new(what: What, mode: u16) -> Self {
        let now = SystemTime::now();
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Self { what, mode, owner: (uid.as_raw(), gid.as_raw()), mtime: now, ctime: now }
    }
}

/// What makes names one.
fn key(folds: bool, name: &OsStr) -> Vec<u8> {
    match name.to_str() {
        Some(name) if folds => name.replace("e\u{301}", "\u{e9}").to_lowercase().into_bytes(),
        _ => name.as_bytes().to_vec(),
    }
}

impl Folding {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Filesystem for Folding {
    fn lookup(&self, _: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        match state.find(dir, name).and_then(|ino| state.attr(ino)) {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(e) => reply.error(e),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.state().attr(ino.0) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(e) => reply.error(e),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state();
        let done = state.node(ino).map(|node| {
            node.ctime = SystemTime::now();
            if let Some(mode) = mode {
                node.mode = u16::try_from(mode & 0o7777).unwrap();
            }
            node.owner = (uid.unwrap_or(node.owner.0), gid.unwrap_or(node.owner.1));
            if let (Some(size), What::File(content)) = (size, &mut node.what) {
                content.resize(usize::try_from(size).unwrap(), 0);
                node.mtime = node.ctime;
            }
            match mtime {
                Some(TimeOrNow::SpecificTime(time)) => node.mtime = time,
                Some(TimeOrNow::Now) => node.mtime = node.ctime,
                None => {}
            }
        });
        match done.and_then(|()| state.attr(ino.0)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(e) => reply.error(e),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.state().node(ino).map(|node| &node.what) {
            Ok(What::Link(target)) => reply.data(target.as_bytes()),
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn mkdir(&self, _: &Request, dir: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let mut state = self.state();
        let folds = match state.manner {
            Manner::FoldsIn(only) => name == only || state.entries(dir).is_ok_and(|(folds, _)| folds),
            Manner::Folds | Manner::Lowers => true,
        };
        match state.make(dir, name, What::Dir { folds, entries: BTreeMap::new() }, mode & !umask) {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(e) => reply.error(e),
        }
    }

    fn unlink(&self, _: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match self.state().remove(dir, name, false) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn rmdir(&self, _: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match self.state().remove(dir, name, true) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn symlink(&self, _: &Request, dir: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        match self.state().make(dir, name, What::Link(target.as_os_str().to_owned()), 0o777) {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(e) => reply.error(e),
        }
    }

    fn rename(
        &self,
        _: &Request,
        dir: INodeNo,
        name: &OsStr,
        to_dir: INodeNo,
        to: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        match self.state().rename((dir, name), (to_dir, to), flags) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.state().node(ino).map(|node| &node.what) {
            Ok(What::File(content)) => {
                let begin = usize::try_from(offset).unwrap().min(content.len());
                let end = begin.saturating_add(usize::try_from(size).unwrap()).min(content.len());
                reply.data(&content[begin..end]);
            }
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.state();
        let done = state.node(ino).and_then(|node| match &mut node.what {
            What::File(content) => {
                let begin = usize::try_from(offset).unwrap();
                content.resize(content.len().max(begin + data.len()), 0);
                content[begin..begin + data.len()].copy_from_slice(data);
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        });
        match done.and_then(|()| state.touch(ino)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap()),
            Err(e) => reply.error(e),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut state = self.state();
        let named: Vec<(u64, OsString)> = match state.entries(ino) {
            Ok((_, entries)) => entries.values().map(|(name, ino)| (*ino, name.clone())).collect(),
            Err(e) => return reply.error(e),
        };
        let dots = [".", ".."].map(|dot| (ino.0, OsString::from(dot)));
        let all = dots.into_iter().chain(named).zip(1..);
        for ((ino, name), next) in all.skip(usize::try_from(offset).unwrap()) {
            let kind = state.attr(ino).map_or(FileType::RegularFile, |attr| attr.kind);
            if reply.add(INodeNo(ino), next, kind, &name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19, 4096, 255, 4096);
    }

    fn create(&self, _: &Request, dir: INodeNo, name: &OsStr, mode: u32, umask: u32, _: i32, reply: ReplyCreate) {
        match self.state().make(dir, name, What::File(Vec::new()), mode & !umask) {
            Ok(attr) => reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::empty()),
            Err(e) => reply.error(e),
        }
    }
}
