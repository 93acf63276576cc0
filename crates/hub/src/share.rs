//! A share: a directory, published live.
//!
//! One plain thread ([`keeper`]) owns the index (the board's writer) and reconciles the board with the directory. A
//! [`Share`] is what the rest of the hub has of it: its board, its contents, and what there is to say of it.
//!
//! It never follows a link, never publishes what changed while it was read, and deletes nothing that it merely failed
//! to see.

mod contents;
mod facts;
mod guard;
mod keeper;
mod roots;
mod scan;
#[cfg(test)]
mod tests;

pub(crate) use contents::Supply;

use crate::fanout::Extras;
use crate::lag::Heads;
use crate::wake::Wakers;
use board::{Board, BoardError, Durability, OpenOptions, SqliteStore, Writer};
use bytes::Bytes;
use contents::Contents;
pub(crate) use guard::Held;
use keeper::{Command, Keeper};
use roots::Roots;
use scan::{Counts, ScanError, Scanner};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use tree::at::Dir;
use tree::{Entry, RelPath};
use wire::message::{Hash, ShareInfo};

/// A directory that is published.
pub(crate) struct Share {
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
    pub(crate) board: Board,
    pub(crate) wakers: Arc<Wakers>,
    pub(crate) heads: Arc<Heads>,
    pub(crate) contents: Arc<Contents>,
    roots: Arc<Roots>,
    counts: Arc<Counts>,
    state: Arc<Mutex<State>>,
    stopping: Arc<AtomicBool>,
    commands: Sender<Command>,
}

/// The share's thread. Dropping it ends the thread and waits until the index is closed cleanly.
pub(crate) struct ShareThread {
    name: String,
    stopping: Arc<AtomicBool>,
    commands: Sender<Command>,
    thread: Option<JoinHandle<Result<(), ScanError>>>,
}

/// What there is to say of a share beyond its board.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) problems: Vec<String>,
    pub(crate) held: Option<Held>,
    /// Why the board may not be what the directory holds.
    pub(crate) behind: Option<String>,
}

/// Why a directory cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// It is missing, not a directory, or may not be read.
    #[error("{path} cannot be shared: {source}")]
    Directory {
        /// What was asked for.
        path: PathBuf,
        /// What the system said.
        source: tree::fsx::Error,
    },
    /// Its index cannot be used.
    #[error("the index of share {share}: {source}")]
    Index {
        /// The share.
        share: String,
        /// What is wrong.
        source: Box<BoardError>,
    },
    /// No thread could be started.
    #[error("no thread for share {share}: {source}")]
    Thread {
        /// The share.
        share: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where a share's index, spool and exceptions are.
pub(crate) struct Place<'a> {
    pub(crate) index: PathBuf,
    pub(crate) spool: &'a Path,
    pub(crate) boot_id: String,
    /// Directories and files of ours: never entries.
    pub(crate) ours: &'a [PathBuf],
}

impl Share {
    /// Opens the index and starts the thread; the first scan goes on in it.
    pub(crate) fn start(name: &str, directory: &Path, place: Place<'_>) -> Result<(Share, ShareThread), ShareError> {
        let at = |source| ShareError::Directory { path: directory.to_owned(), source };
        let of = |source| ShareError::Index { share: name.to_owned(), source: Box::new(source) };
        let root = Dir::open_root(directory).map_err(at)?;
        let spool = Dir::open_root(place.spool).map_err(at)?;
        let store = SqliteStore::open(place.index, Durability::Process).map_err(|e| of(e.into()))?;
        let entropy = Box::new(|| getrandom::u64().unwrap_or_default());
        let options = OpenOptions { durable: true, boot_id: place.boot_id, entropy };
        let writer = Writer::open(Box::new(store), options).map_err(of)?;
        let board = writer.board();
        let wakers = Arc::new(Wakers::default());
        let (wake, heads) = (Arc::clone(&wakers), Arc::<Heads>::default());
        let noted = Arc::clone(&heads);
        board.on_commit(Arc::new(move |head| {
            noted.note(head, crate::clock::now());
            wake.wake();
        }));
        let contents = Arc::new(Contents::new(root.walk(&RelPath::root()).map_err(at)?, spool, board.clone()));
        let (roots, counts, state) =
            (Arc::<Roots>::default(), Arc::<Counts>::default(), Arc::<Mutex<State>>::default());
        let stopping = Arc::<AtomicBool>::default();
        let (commands, inbox) = channel();
        let share = Share {
            name: name.to_owned(),
            directory: directory.to_owned(),
            board: board.clone(),
            wakers: Arc::clone(&wakers),
            heads,
            contents: Arc::clone(&contents),
            roots: Arc::clone(&roots),
            counts: Arc::clone(&counts),
            state: Arc::clone(&state),
            stopping: Arc::clone(&stopping),
            commands: commands.clone(),
        };
        let watched = root.walk(&RelPath::root()).map_err(at)?;
        // Before anybody can follow: who stands at the head already is to get its root with it.
        let ours = place.ours.to_vec();
        let ended = Arc::clone(&stopping);
        let scanner = Scanner::new(root, directory, writer, contents, roots, counts, ours).ended_by(ended);
        let stop = commands.clone();
        let name = name.to_owned();
        let thread = std::thread::Builder::new().name(format!("share {name}")).spawn({
            let (name, error_name) = (name.clone(), name.clone());
            move || {
                let keeper = Keeper::new(name, scanner, board, wakers, state, watched, commands);
                let result = keeper.run(&inbox);
                if let Err(error) = &result {
                    tracing::error!(share = error_name, %error, "the share stops; what was published stays");
                }
                result
            }
        });
        match thread {
            Ok(thread) => Ok((share, ShareThread { name, stopping, commands: stop, thread: Some(thread) })),
            Err(source) => Err(ShareError::Thread { share: name, source }),
        }
    }

    /// Resolves once everything that happened in the directory before the call is on the board; gives its head.
    pub(crate) async fn barrier(&self) -> Option<u64> {
        self.ask(Command::Barrier).await
    }

    /// Lets the deletions that are held go on; gives how many entries went.
    pub(crate) async fn allow_deletes(&self) -> Option<u64> {
        self.ask(Command::AllowDeletes).await
    }

    /// Copies the index as it is stored by then into the file `to`, which is missing or empty; says why where there is no
    /// copy. `None`: the share's thread has ended, and the index is open nowhere.
    pub(crate) async fn copy_to(&self, to: PathBuf) -> Option<Result<(), String>> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Copy(to, answer)).ok()?;
        answered.await.ok().map(|copied| copied.map_err(|e| e.to_string()))
    }

    /// Tells the thread to end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if self.commands.send(Command::Stop).is_err() {
            tracing::debug!(share = self.name, "had stopped already");
        }
    }

    /// What clients call its board.
    pub(crate) fn key(&self) -> String {
        format!("share/{}", self.name)
    }

    pub(crate) fn info(&self) -> ShareInfo {
        let entries = if self.board.complete() {
            self.board.len() as u64
        } else {
            // While it is scanned for the first time: how far that has come.
            self.counts.looked_at.load(Ordering::Relaxed)
        };
        ShareInfo {
            name: self.name.clone(),
            entries,
            bytes: self.counts.bytes.load(Ordering::Relaxed),
            complete: self.board.complete(),
        }
    }

    pub(crate) fn state(&self) -> State {
        lock(&self.state).clone()
    }

    /// Why the board may not be what the directory holds, in one sentence; `None` when it is.
    pub(crate) fn behind(&self) -> Option<String> {
        let state = lock(&self.state);
        if state.behind.is_some() {
            return state.behind.clone();
        }
        if let Some(held) = state.held.as_ref().filter(|held| held.is_everything()) {
            return Some(held.text());
        }
        if !self.board.complete() {
            let looked_at = self.counts.looked_at.load(Ordering::Relaxed);
            return Some(format!("it is still being scanned for the first time; {looked_at} entries so far"));
        }
        state.held.as_ref().map(Held::text)
    }

    /// Whether all that keeps the board from being what the directory holds is a guard.
    pub(crate) fn only_held(&self) -> bool {
        let state = lock(&self.state);
        let everything = state.held.as_ref().is_some_and(Held::is_everything);
        state.behind.is_none() && state.held.is_some() && (everything || self.board.complete())
    }

    /// Whether a guard holds all of it, so that nothing more than is known goes out.
    pub(crate) fn held_whole(&self) -> bool {
        lock(&self.state).held.as_ref().is_some_and(Held::is_everything)
    }

    /// The root at the head, in hex; empty in the moment between two heads.
    pub(crate) fn root_hex(&self) -> String {
        let root = self.roots.at(self.board.head()).map(|root| root.to_bytes());
        root.map(|bytes| data_encoding::HEXLOWER.encode(&bytes)).unwrap_or_default()
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<u64>) -> Command) -> Option<u64> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).ok()?;
        answered.await.ok()
    }
}

impl Extras for Share {
    fn inline(&self, value: &[u8]) -> Option<Bytes> {
        let (content, _) = Entry::decode(value).ok()?.content()?;
        self.contents.recent(&content.0)
    }

    fn root_at(&self, seq: u64) -> Option<Hash> {
        self.roots.at(seq).map(|root| root.to_bytes())
    }
}

impl Drop for ShareThread {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if self.commands.send(Command::Stop).is_err() {
            tracing::debug!(share = self.name, "had stopped already");
        }
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => tracing::error!(share = self.name, %error, "ended"),
            Some(Err(_)) => tracing::error!(share = self.name, "its thread had panicked"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
