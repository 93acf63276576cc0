//! A directory that is watched, what is done to it and to the thread that watches it, and what became due.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use super::super::*;
use super::PATIENCE;

/// What tests do to the watching thread.
pub(in crate::watch) struct Hooks {
    pub(super) paused: AtomicBool,
    pub(super) lists_first: AtomicBool,
    pub(super) race: AtomicBool,
    pub(super) watches_max: AtomicUsize,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            paused: AtomicBool::new(false),
            lists_first: AtomicBool::new(false),
            race: AtomicBool::new(false),
            watches_max: AtomicUsize::new(usize::MAX),
        }
    }
}

impl Hooks {
    pub(in crate::watch) fn wait_while_paused(&self) {
        while self.paused.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    }

    /// The known-bad order: list, then watch.
    pub(in crate::watch) fn lists_first(&self) -> bool {
        self.lists_first.load(Ordering::SeqCst)
    }

    /// Makes the window between the two steps as wide as a preemption there would.
    pub(in crate::watch) fn between_watch_and_list(&self) {
        if self.race.load(Ordering::SeqCst) {
            let until = Instant::now() + Duration::from_micros(50);
            while Instant::now() < until {
                std::thread::yield_now();
            }
        }
    }

    pub(in crate::watch) fn watches_max(&self) -> usize {
        self.watches_max.load(Ordering::SeqCst)
    }
}

pub(super) struct Scene {
    pub(super) watcher: Watcher,
    pub(super) woken: Arc<(Mutex<bool>, Condvar)>,
    pub(super) top: TempDir,
}

impl Scene {
    /// A root with what `prepare` makes in it, watched from then on.
    pub(super) fn new(prepare: impl FnOnce(&Path)) -> Self {
        let top = TempDir::new().unwrap();
        let root = top.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::create_dir(top.path().join("outside")).unwrap();
        prepare(&root);
        let woken = Arc::new((Mutex::new(false), Condvar::new()));
        let waker: Waker = {
            let woken = Arc::clone(&woken);
            Arc::new(move || {
                *woken.0.lock().unwrap() = true;
                woken.1.notify_one();
            })
        };
        let watcher = Watcher::start(Dir::open_root(&root).unwrap(), waker, None).unwrap();
        watcher.add_tree(&RelPath::root());
        Self { watcher, woken, top }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.top.path().join("root")
    }

    pub(super) fn outside(&self) -> PathBuf {
        self.top.path().join("outside")
    }

    pub(super) fn hooks(&self) -> &Hooks {
        &self.watcher.shared.hooks
    }

    pub(super) fn write(&self, path: &str, content: &str) {
        fs::write(self.root().join(path), content).unwrap();
    }

    pub(super) fn mkdir(&self, path: &str) {
        fs::create_dir_all(self.root().join(path)).unwrap();
    }

    pub(super) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.root().join(from), self.root().join(to)).unwrap();
    }

    /// Waits as a consumer does until `done`, and returns all that became due.
    pub(super) fn until(&self, mut done: impl FnMut(&Due) -> bool) -> Due {
        let mut all = Due::default();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let due = self.watcher.due();
            all.dirty.merge(due.dirty);
            all.news.extend(due.news);
            if done(&all) {
                return all;
            }
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {all:#?}");
            let wait = self.watcher.next_deadline().unwrap_or(PATIENCE).min(Duration::from_millis(200));
            let mut woken = self.woken.0.lock().unwrap();
            if !*woken {
                woken = self.woken.1.wait_timeout(woken, wait).unwrap().0;
            }
            *woken = false;
        }
    }

    /// Everything that happened up to now, settled.
    pub(super) fn all_due(&self) -> Due {
        let mark = self.watcher.barrier();
        self.until(|_| self.watcher.passed(mark))
    }

    pub(super) fn no_dirt_of(&self) {
        let due = self.all_due();
        assert!(due.dirty.is_empty(), "{due:#?}");
    }
}

pub(super) fn path(s: &str) -> RelPath {
    RelPath::new(s.as_bytes()).unwrap()
}

pub(super) fn name(s: &str) -> Name {
    Name::new(s.as_bytes()).unwrap()
}

pub(super) fn covers(due: &Due, at: &str) -> bool {
    let (dir, name) = path(at).split().unwrap();
    due.dirty.covers(&dir, &name)
}

/// Whether an event, not a listing, named it.
pub(super) fn named(due: &Due, at: &str) -> bool {
    let (dir, name) = path(at).split().unwrap();
    due.dirty.get(&dir).is_some_and(|look| look.names.contains_key(&name))
}

/// Every path below `root`, relative to it.
pub(super) fn walk(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = vec![root.to_owned()];
    while let Some(dir) = rest.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                rest.push(entry.path());
            }
            let path = entry.path();
            found
                .push(std::str::from_utf8(path.strip_prefix(root).unwrap().as_os_str().as_bytes()).unwrap().to_owned());
        }
    }
    found
}

pub(super) fn exchange(a: &Path, b: &Path) {
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
}
