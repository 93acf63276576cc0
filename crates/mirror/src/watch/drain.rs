//! The thread of a watcher: reads the kernel's queue, keeps the paths of the watches right, and puts what it read
//! into the settle.
//!
//! Between two looks at the queue it watches and lists a few directories that are new ([`growth`]), so the queue stays
//! short however large a tree is moved in.
//!
//! **Paths** ([`moves`]). A watch follows its directory through renames, so the path of each watch is kept by applying the
//! reported renames. Two things make a report ambiguous: a directory opened by its path while older reports were
//! still unread, and an exchange of two directories. Against the first, a rename read while directories were added
//! since the queue was last seen empty drops the subtree and makes it again. Against the second, both places of a
//! renamed directory are opened again, and a watch that is not the expected one drops what was believed of it.

mod growth;
mod moves;

use std::collections::{HashMap, HashSet, VecDeque};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::inotify::{self, ReadFlags};
use rustix::io::Errno;
use tree::at::{ListBuffer, is_temp_name};
use tree::{Dir, Name, RelPath, fsx};

use super::limits::{limit, watches_hint};
use super::nodes::{NodeId, Nodes, ROOT};
use super::{News, Request, RootGone, Shared, State, WatchError, now};
use crate::dirty::All;
use crate::settle::Seen;
use growth::{Grow, Why, add_watch};
use moves::{MOVE_WAIT, Move};

/// Bytes asked for in one read: some 8,000 events.
const READ_BYTES: usize = 256 * 1024;
/// How often the root is asked whether it still has a name: whoever holds it open keeps the kernel from reporting
/// its removal.
const ROOT_CHECK: Duration = Duration::from_secs(1);
/// The same, right after something directly in the root was removed.
const ROOT_CHECK_SOON: Duration = Duration::from_millis(10);

/// See the module.
pub(super) struct Drainer {
    root: Dir,
    inotify: Arc<OwnedFd>,
    shared: Arc<Shared>,
    /// From the first event until the queue is read.
    patience: Duration,
    nodes: Nodes,
    growth: VecDeque<Grow>,
    /// Directories were added since the queue was last seen empty.
    grew: bool,
    moves: HashMap<u32, Move>,
    moves_in_order: VecDeque<(Duration, u32)>,
    unwatched: HashSet<NodeId>,
    unwatched_changed: bool,
    used_up_told: bool,
    rebuild: Option<Rebuild>,
    /// The path of the directory of the last event.
    last_path: Option<(NodeId, RelPath)>,
    root_check: Duration,
    root_gone: bool,
    queue_len: usize,
    buffer: Vec<MaybeUninit<u8>>,
    list_buffer: ListBuffer,
}

/// All watches are being verified after lost events.
struct Rebuild {
    /// Watches of before that were not found again yet.
    strays: HashSet<i32>,
    /// Events were lost again meanwhile.
    again: bool,
}

/// One event of the kernel.
struct Raw {
    watch: i32,
    flags: ReadFlags,
    cookie: u32,
    name: Option<Name>,
}

impl Drainer {
    /// Watches the root.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub(super) fn new(
        root: Dir,
        inotify: Arc<OwnedFd>,
        shared: Arc<Shared>,
        patience: Duration,
    ) -> Result<Self, WatchError> {
        let mut nodes = Nodes::new();
        let watch = add_watch(&inotify, &root).map_err(|e| match e {
            Errno::NOSPC => WatchError::WatchesUsedUp { hint: watches_hint() },
            e => fsx::Error::new("watch", root.path(), e).into(),
        })?;
        nodes.set_watch(ROOT, Some(watch));
        let queue_len = limit("max_queued_events").and_then(|n| usize::try_from(n).ok()).unwrap_or(16_384);
        Ok(Self {
            root,
            inotify,
            shared,
            patience,
            nodes,
            growth: VecDeque::new(),
            grew: false,
            moves: HashMap::new(),
            moves_in_order: VecDeque::new(),
            unwatched: HashSet::new(),
            unwatched_changed: false,
            used_up_told: false,
            rebuild: None,
            last_path: None,
            root_check: now() + ROOT_CHECK,
            root_gone: false,
            queue_len,
            buffer: vec![MaybeUninit::uninit(); READ_BYTES],
            list_buffer: ListBuffer::default(),
        })
    }

    /// Runs until the watcher is dropped or the queue cannot be read.
    pub(super) fn run(mut self) {
        if let Err(errno) = self.run_until_stopped() {
            let error = fsx::Error::new("read the events of", self.root.path(), errno);
            self.shared.lock().tell(News::Broken(error.to_string()));
        }
        let mut state = self.shared.lock();
        state.ended = true;
        drop(state);
        self.shared.answered.notify_all();
        (self.shared.waker)();
    }

    fn run_until_stopped(&mut self) -> Result<(), Errno> {
        loop {
            #[cfg(test)]
            self.shared.hooks.wait_while_paused();
            let mut state = self.shared.lock();
            if state.stop {
                return Ok(());
            }
            // Taken before the queue is read: what was queued before it was asked for is read behind this line.
            let ticket = state.asked;
            let requests = std::mem::take(&mut state.requests);
            drop(state);
            for request in requests {
                self.accept(request);
            }
            let emptied = self.drain()?;
            self.expire_moves();
            if emptied {
                self.grew = false;
            }
            self.grow_some();
            if self.growth.is_empty() {
                self.finish_rebuild();
            }
            self.publish_unwatched();
            self.check_root();
            let mut state = self.shared.lock();
            state.growing = !self.growth.is_empty();
            state.watches = self.nodes.watched() as u64;
            if !state.growing && state.reached < ticket {
                state.reached = ticket;
                self.shared.answered.notify_all();
            }
            let growing = state.growing;
            self.shared.wake_if_due(state);
            if emptied && !growing {
                self.wait()?;
            }
        }
    }

    fn accept(&mut self, request: Request) {
        match request {
            Request::Tree(path) => {
                let mut id = ROOT;
                for component in path.components() {
                    let name = Name::new(component).expect("the components of a checked path are names");
                    id = self.nodes.add(id, &name);
                }
                self.growth.push_back(Grow { id, why: Why::Asked });
            }
            Request::Retry => {
                self.used_up_told = false;
                self.growth.extend(self.unwatched.iter().map(|id| Grow { id: *id, why: Why::New }));
            }
        }
    }

    /// Waits for the kernel, for the bell, or until something of ours is due.
    fn wait(&mut self) -> Result<(), Errno> {
        let mut until = self.root_check;
        // What becomes due without another event; a consumer that was woken already looks after that itself.
        let state = self.shared.lock();
        if let Some(due) = state.settle.next_deadline().filter(|_| !state.rung) {
            until = until.min(due);
        }
        drop(state);
        if let Some((at, _)) = self.moves_in_order.front() {
            until = until.min(*at);
        }
        let mut fds = [PollFd::new(&self.shared.bell, PollFlags::IN), PollFd::new(&self.inotify, PollFlags::IN)];
        poll(&mut fds, until.saturating_sub(now()))?;
        if fds[0].revents().is_empty() && !fds[1].revents().is_empty() && !self.patience.is_zero() {
            poll(&mut fds[..1], self.patience)?;
        }
        if !fds[0].revents().is_empty() {
            let mut count = [0; 8];
            // It is not blocking; an empty one says the same as a full one, as requests are looked for anyway.
            let _ = rustix::io::read(&self.shared.bell, &mut count);
        }
        Ok(())
    }

    /// Reads until the queue is empty, or as much as it can have held at the start. Returns whether it was empty.
    fn drain(&mut self) -> Result<bool, Errno> {
        let shared = Arc::clone(&self.shared);
        let inotify = Arc::clone(&self.inotify);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut reader = inotify::Reader::new(inotify.as_fd(), &mut buffer);
        let mut events = 0;
        let emptied = loop {
            // Held from before the kernel hands them over until they are noted, so that at no moment nobody knows of them.
            let mut state = shared.lock();
            let first = match reader.next() {
                Ok(event) => Raw::new(&event),
                Err(Errno::AGAIN) => break Ok(true),
                Err(Errno::INTR) => continue,
                Err(e) => break Err(e),
            };
            let now = now();
            self.event(&mut state, first, now);
            events += 1;
            while !reader.is_buffer_empty() {
                let Ok(event) = reader.next() else { break };
                self.event(&mut state, Raw::new(&event), now);
                events += 1;
            }
            state.growing |= !self.growth.is_empty();
            shared.wake_if_due(state);
            if events > self.queue_len {
                break Ok(false);
            }
        };
        self.buffer = buffer;
        emptied
    }

    fn event(&mut self, state: &mut State, raw: Raw, now: Duration) {
        if raw.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            state.tell(News::Overflow);
            self.lost();
            return;
        }
        // Events of a dropped watch may still be queued: its directory is looked at where it is now.
        let Some(id) = self.nodes.by_watch(raw.watch) else { return };
        let Some(name) = raw.name else {
            self.event_of_itself(state, id, raw.flags);
            return;
        };
        let Some(dir) = self.path(id) else { return };
        let ours = is_temp_name(&name) || self.shared.ignore.as_ref().is_some_and(|ignore| ignore(&dir, &name));
        if ours {
            return;
        }
        let is_dir = raw.flags.contains(ReadFlags::ISDIR);
        if raw.flags.contains(ReadFlags::MOVED_TO) {
            self.moved_in(state, id, &dir, &name, raw.cookie, is_dir, now);
        } else if raw.flags.contains(ReadFlags::MOVED_FROM) {
            state.push(&dir, &name, Seen::Removed, now);
            let node = if is_dir { self.nodes.child(id, &name) } else { None };
            self.moves.insert(raw.cookie, Move { parent: id, dir, name, is_dir, node });
            self.moves_in_order.push_back((now + MOVE_WAIT, raw.cookie));
            self.check_root_soon(id, now);
        } else if raw.flags.contains(ReadFlags::CREATE) {
            state.push(&dir, &name, if is_dir { Seen::MadeDir } else { Seen::Created }, now);
            if is_dir {
                self.forget_moving(id, &name);
                self.grow(id, &name, Why::New);
            }
        } else if raw.flags.contains(ReadFlags::DELETE) {
            state.push(&dir, &name, Seen::Removed, now);
            if let Some(child) = self.nodes.child(id, &name) {
                self.remove(child);
            }
            self.check_root_soon(id, now);
        } else if raw.flags.contains(ReadFlags::CLOSE_WRITE) {
            state.push(&dir, &name, Seen::Closed, now);
        } else if raw.flags.contains(ReadFlags::MODIFY) {
            state.push(&dir, &name, Seen::Written, now);
        } else if raw.flags.contains(ReadFlags::ATTRIB) {
            state.push(&dir, &name, Seen::Attributes, now);
            // It may have become readable.
            if is_dir && self.nodes.child(id, &name).is_none_or(|child| self.unwatched.contains(&child)) {
                self.grow(id, &name, Why::New);
            }
        }
    }

    /// An event of a watched directory itself. Its parent reports the same for all but the root.
    fn event_of_itself(&mut self, state: &mut State, id: NodeId, flags: ReadFlags) {
        if id == ROOT {
            if flags.contains(ReadFlags::UNMOUNT) {
                self.root_is_gone(state, RootGone::Unmounted);
            } else if flags.contains(ReadFlags::MOVE_SELF) {
                self.root_is_gone(state, RootGone::Moved);
            } else if flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::IGNORED) {
                self.root_is_gone(state, RootGone::Deleted);
            } else if flags.contains(ReadFlags::ATTRIB) {
                state.settle.push_root_entry();
            }
            return;
        }
        if flags.contains(ReadFlags::UNMOUNT)
            && let Some(path) = self.path(id)
        {
            state.settle.push_all(&path, All { recursive: true, content: true });
            state.tell(News::Unmounted(path));
        }
        if flags.contains(ReadFlags::IGNORED) {
            // The watch is gone. If its path still leads to a directory, that one is new.
            self.nodes.set_watch(id, None);
            self.growth.push_back(Grow { id, why: Why::New });
        }
    }

    /// Events were lost: nothing that is believed of the tree is certain, so all of it is found again.
    fn lost(&mut self) {
        self.moves.clear();
        self.moves_in_order.clear();
        if let Some(rebuild) = &mut self.rebuild {
            // Beginning anew each time would never end under a steady flood.
            rebuild.again = true;
            return;
        }
        let mut strays = HashSet::new();
        self.nodes.remove_below(ROOT, |_, watch| strays.extend(watch));
        self.forget_all();
        self.rebuild = Some(Rebuild { strays, again: false });
        self.growth.push_back(Grow { id: ROOT, why: Why::Asked });
    }

    fn forget_all(&mut self) {
        self.last_path = None;
        self.growth.clear();
        self.unwatched_changed |= !self.unwatched.is_empty();
        self.unwatched.clear();
    }

    fn finish_rebuild(&mut self) {
        let Some(rebuild) = self.rebuild.take() else { return };
        for watch in rebuild.strays {
            // It may be gone by itself.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
        self.shared.lock().settle.push_lost();
        if rebuild.again {
            self.lost();
        }
    }

    fn remove(&mut self, id: NodeId) {
        self.last_path = None;
        let Self { nodes, inotify, unwatched, unwatched_changed, .. } = self;
        nodes.remove(id, |id, watch| forget(inotify, unwatched, unwatched_changed, id, watch));
    }

    fn remove_below(&mut self, id: NodeId) {
        self.last_path = None;
        let Self { nodes, inotify, unwatched, unwatched_changed, .. } = self;
        nodes.remove_below(id, |id, watch| forget(inotify, unwatched, unwatched_changed, id, watch));
    }

    fn publish_unwatched(&mut self) {
        if !std::mem::replace(&mut self.unwatched_changed, false) {
            return;
        }
        let mut paths: Vec<RelPath> = self.unwatched.iter().filter_map(|id| self.nodes.path(*id)).collect();
        paths.sort_unstable();
        self.used_up_told &= !paths.is_empty();
        self.shared.lock().unwatched = paths;
    }

    fn check_root_soon(&mut self, id: NodeId, now: Duration) {
        if id == ROOT {
            self.root_check = self.root_check.min(now + ROOT_CHECK_SOON);
        }
    }

    fn check_root(&mut self) {
        let now = now();
        if now < self.root_check {
            return;
        }
        self.root_check = now + ROOT_CHECK;
        if self.root.stat_self().is_ok_and(|stat| stat.nlink == 0) {
            let shared = Arc::clone(&self.shared);
            self.root_is_gone(&mut shared.lock(), RootGone::Deleted);
        }
    }

    fn root_is_gone(&mut self, state: &mut State, how: RootGone) {
        // Once: a deleted root reports itself, then its watch.
        if !std::mem::replace(&mut self.root_gone, true) {
            state.tell(News::RootGone(how));
        }
    }

    fn path(&mut self, id: NodeId) -> Option<RelPath> {
        match &self.last_path {
            Some((last, path)) if *last == id => Some(path.clone()),
            _ => {
                let path = self.nodes.path(id)?;
                self.last_path = Some((id, path.clone()));
                Some(path)
            }
        }
    }
}

impl Raw {
    fn new(event: &inotify::Event<'_>) -> Self {
        // The kernel gives no name for the directory itself, and only valid ones else.
        let name = event.file_name().and_then(|name| Name::new(name.to_bytes()).ok());
        Self { watch: event.wd(), flags: event.events(), cookie: event.cookie(), name }
    }
}

/// Waits for one of `fds`, and at most so long.
fn poll(fds: &mut [PollFd<'_>], most: Duration) -> Result<(), Errno> {
    let timeout =
        Timespec { tv_sec: i64::try_from(most.as_secs()).unwrap_or(1), tv_nsec: i64::from(most.subsec_nanos()) };
    match rustix::event::poll(fds, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Takes a directory that is no longer watched out of what is known, and its watch away.
fn forget(
    inotify: &OwnedFd,
    unwatched: &mut HashSet<NodeId>,
    unwatched_changed: &mut bool,
    id: NodeId,
    watch: Option<i32>,
) {
    *unwatched_changed |= unwatched.remove(&id);
    if let Some(watch) = watch {
        // With its directory deleted the watch is gone by itself.
        let _ = inotify::remove_watch(inotify, watch);
    }
}
