//! A scripted hub for tests: it feeds a real keeper batches, reads its acknowledgements, and serves contents over frames
//! in memory, honestly or as a test says.

mod bulk;
pub(crate) mod tls;

pub(crate) use bulk::{Reply, Server, recipe};

use crate::conn::{Incoming, Outbox, Outgoing};
use crate::convert::Came;
use crate::event::{Event, Events};
use crate::fetch::Fetch;
use crate::keeper::{Keeper, KeeperConfig, KeeperError};
use crate::kept::Kept;
use crate::mailbox::{Letter, Said};
use board::{Batch, Mark, Record, Start};
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::DuplexStream;
use tree::{ContentId, Entry, RelPath, RootHash};
use wire::message::{Ack, Cursor, Number, ToHub};

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for a condition.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A file's entry.
pub(crate) fn file(content: &[u8]) -> Entry {
    Entry::File {
        mode: 0o644,
        mtime_ns: 1_000_000_001,
        size_bytes: content.len() as u64,
        content: ContentId::of(content),
    }
}

/// A directory's entry.
pub(crate) fn dir() -> Entry {
    Entry::Dir { mode: 0o755, mtime_ns: 2_000_000_002 }
}

/// A link's entry.
pub(crate) fn link(target: &str) -> Entry {
    Entry::Link { mtime_ns: 3_000_000_003, target: target.as_bytes().into() }
}

/// Bytes that look random, from a seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// A keeper, and the hub it follows.
pub(crate) struct Scene {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) scratch: tempfile::TempDir,
    pub(crate) copy: PathBuf,
    pub(crate) store: PathBuf,
    pub(crate) kept: Kept,
    pub(crate) adopt: bool,
    pub(crate) allow_mass_delete: bool,
    pub(crate) runs: crate::LastRuns,
    pub(crate) server: Arc<Server>,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    pub(crate) keeper: Option<Keeper>,
    ended: Arc<Mutex<bool>>,
    heard: Option<Incoming<DuplexStream>>,
    fid: Number,
    pub(crate) epoch: u128,
    pub(crate) head: u64,
    /// What the hub has.
    pub(crate) entries: BTreeMap<Vec<u8>, (u64, Entry)>,
    pub(crate) ack: Option<Ack>,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        let scratch = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut scene = Scene {
            copy: scratch.path().join("copy"),
            store: scratch.path().join("replica.sqlite"),
            kept: Kept::Share("docs".into()),
            server: Server::new(),
            runtime,
            scratch,
            adopt: false,
            allow_mass_delete: false,
            runs: crate::LastRuns::default(),
            events: Arc::default(),
            keeper: None,
            ended: Arc::default(),
            heard: None,
            fid: 0,
            epoch: 1,
            head: 0,
            entries: BTreeMap::new(),
            ack: None,
        };
        scene.put("", dir());
        scene
    }

    /// A keeper that is in sync with these files.
    pub(crate) fn in_sync(files: &[(&str, &[u8])]) -> Scene {
        let mut scene = Scene::new();
        for (path, content) in files {
            scene.put_file(path, content);
        }
        scene.start();
        scene.connect();
        scene.following(true);
        scene.walk_all(true);
        scene.current();
        scene.wait_in_sync();
        scene
    }

    pub(crate) fn try_start(&mut self) -> Result<(), KeeperError> {
        let config = KeeperConfig {
            kept: self.kept.clone(),
            index: 0,
            directory: self.copy.clone(),
            store: self.store.clone(),
            adopt: self.adopt,
            allow_mass_delete: self.allow_mass_delete,
            runs: self.runs.clone(),
            own: HashSet::new(),
            boot_id: "boot".into(),
        };
        let events = Arc::clone(&self.events);
        let events: Events = Arc::new(move |event| events.lock().unwrap().push(event));
        self.ended = Arc::default();
        let ended = Arc::clone(&self.ended);
        let session = self.server.session(self.runtime.handle());
        let runtime = self.runtime.handle().clone();
        let values = matches!(self.kept, Kept::Values(_));
        let fetch = move |mailbox: &Arc<_>, dest| {
            let _in = runtime.enter();
            match values {
                true => Ok(Fetch::nothing()),
                false => Fetch::start("docs".into(), Arc::clone(mailbox), dest, session.clone()),
            }
        };
        self.keeper = Some(Keeper::start(config, Box::new(fetch), events, move || *ended.lock().unwrap() = true)?);
        Ok(())
    }

    pub(crate) fn start(&mut self) {
        self.try_start().unwrap();
    }

    pub(crate) fn stop(&mut self) {
        self.keeper.take().unwrap().stop().unwrap();
        self.heard = None;
        self.ack = None;
    }

    /// Why the keeper ended by itself.
    pub(crate) fn end(&mut self) -> KeeperError {
        let ended = Arc::clone(&self.ended);
        until("the keeper ends", || *ended.lock().unwrap());
        self.keeper.take().unwrap().stop().unwrap_err()
    }

    /// A new session. The cursor that the keeper shows.
    pub(crate) fn connect(&mut self) -> Option<Cursor> {
        let outbox = Outbox::new(0);
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let draining = Arc::clone(&outbox);
        self.runtime.spawn(async move { draining.drain(Outgoing::new(ours)).await });
        self.heard = Some(Incoming::new(theirs));
        self.keeper.as_ref().unwrap().mailbox.connect(outbox);
        self.followed()
    }

    pub(crate) fn lose(&mut self) {
        self.keeper.as_ref().unwrap().mailbox.push(Letter::Lost);
    }

    /// The next message of the keeper's.
    pub(crate) fn hear(&mut self) -> ToHub {
        let heard = self.heard.as_mut().unwrap();
        let body = self.runtime.block_on(async { tokio::time::timeout(DEADLINE, heard.next_body()).await });
        let body = body.unwrap_or_else(|_| panic!("the keeper says nothing; last: {:?}", self.ack)).unwrap().unwrap();
        let message = wire::codec::decode_to_hub(&body).unwrap();
        if let ToHub::Ack(ack) = &message {
            self.ack = Some(ack.clone());
        }
        message
    }

    /// Waits until the keeper follows. The cursor that it shows.
    pub(crate) fn followed(&mut self) -> Option<Cursor> {
        loop {
            if let ToHub::Follow { fid, board, cursor, .. } = self.hear() {
                assert_eq!(board, self.kept.board());
                self.fid = fid;
                self.ack = None;
                return cursor;
            }
        }
    }

    /// Waits for an acknowledgement.
    pub(crate) fn wait_ack(&mut self, what: &str, holds: impl Fn(&Ack) -> bool) -> Ack {
        let began = Instant::now();
        loop {
            if let Some(ack) = self.ack.as_ref().filter(|ack| holds(ack)) {
                return ack.clone();
            }
            assert!(began.elapsed() < DEADLINE, "in vain: {what}; last: {:?}", self.ack);
            self.hear();
        }
    }

    /// Waits until everything is applied and the roots agree, and looks whether that is true.
    pub(crate) fn wait_in_sync(&mut self) -> Ack {
        let head = self.head;
        let ack = self.wait_ack("in sync", |ack| {
            ack.complete
                && ack.applied.seq == head
                && ack.waiting == 0
                && ack.problems == 0
                && ack.root_agrees == Some(true)
        });
        let (wanted, found) = (self.wanted(), tree_of(&self.copy));
        assert_eq!(wanted, found, "the copy is not the share");
        ack
    }

    pub(crate) fn following(&mut self, reset: bool) {
        let start = Start { epoch: self.epoch, run: 1, reset };
        self.say(Said::Following { fid: self.fid, start });
    }

    pub(crate) fn say(&self, said: Said) {
        let mailbox = Arc::clone(&self.keeper.as_ref().unwrap().mailbox);
        self.runtime.block_on(async { tokio::time::timeout(DEADLINE, mailbox.hear(said)).await }).unwrap();
    }

    pub(crate) fn say_batch(&self, batch: Batch, inline: Vec<(ContentId, Bytes)>, root: Option<[u8; 32]>) {
        self.say(Said::Batch(Came { batch, inline, root, bytes: 1 }));
    }

    /// Changes the hub's share; tells nobody.
    pub(crate) fn put(&mut self, path: &str, entry: Entry) -> Record {
        self.head += 1;
        self.entries.insert(path.into(), (self.head, entry.clone()));
        record(path.as_bytes(), self.head, Some(&entry))
    }

    pub(crate) fn put_file(&mut self, path: &str, content: &[u8]) -> Record {
        self.server.has(content);
        self.put(path, file(content))
    }

    pub(crate) fn remove(&mut self, path: &str) -> Record {
        self.head += 1;
        self.entries.remove(path.as_bytes());
        record(path.as_bytes(), self.head, None)
    }

    /// Tells of changes since the last time, as a live hub does; `inline` are contents that come along.
    pub(crate) fn live(&self, records: Vec<Record>, inline: &[&[u8]]) {
        let from = records.iter().map(|record| record.seq).min().unwrap_or(self.head + 1) - 1;
        let mark = Mark::Live { from, to: self.head, view: self.head, current: true };
        let inline = inline.iter().map(|bytes| (ContentId::of(bytes), Bytes::copy_from_slice(bytes))).collect();
        self.say_batch(Batch { records, mark }, inline, Some(self.root()));
    }

    /// All entries in one batch of a walk, which ends with it.
    pub(crate) fn walk_all(&self, reset: bool) {
        let records = self.entries.iter().map(|(path, (seq, entry))| record(path, *seq, Some(entry))).collect();
        let upto = self.entries.last_key_value().map(|(path, _)| Bytes::copy_from_slice(path)).unwrap_or_default();
        let mark = Mark::Walk { head: self.head, upto, last: true, reset };
        self.say_batch(Batch { records, mark }, Vec::new(), None);
    }

    /// Says `current`.
    pub(crate) fn current(&self) {
        self.live(Vec::new(), &[]);
    }

    pub(crate) fn root(&self) -> [u8; 32] {
        let mut root = RootHash::default();
        for (path, (_, entry)) in &self.entries {
            root.add(&RelPath::new(&path[..]).unwrap(), &entry.to_bytes());
        }
        root.to_bytes()
    }

    /// What the copy should be, as [`tree_of`] tells it.
    fn wanted(&self) -> BTreeMap<String, String> {
        let entries = self.entries.iter().filter(|(path, _)| !path.is_empty());
        entries.map(|(path, (_, entry))| (String::from_utf8_lossy(path).into_owned(), told(entry))).collect()
    }

    pub(crate) fn read(&self, path: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.copy.join(path)).unwrap()).into_owned()
    }

    /// The texts of all problems that were told.
    pub(crate) fn problems(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let text = |event: &Event| match event {
            Event::Problem { path, text, .. } => Some(format!("{path}: {text}")),
            _ => None,
        };
        events.iter().filter_map(text).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            let _ended = keeper.stop();
        }
    }
}

pub(crate) fn record(path: &[u8], seq: u64, entry: Option<&Entry>) -> Record {
    Record {
        name: Bytes::copy_from_slice(path),
        seq,
        value: entry.map(|entry| entry.to_bytes().into()),
        aside: Bytes::new(),
    }
}

fn told(entry: &Entry) -> String {
    match entry {
        Entry::Dir { mode, mtime_ns } => format!("dir {mode:o} {mtime_ns}"),
        Entry::File { mode, mtime_ns, content, .. } => format!("file {mode:o} {mtime_ns} {content}"),
        Entry::Unknown => "unknown".to_owned(),
        Entry::Link { mtime_ns, target } => format!("link {mtime_ns} {}", String::from_utf8_lossy(target)),
    }
}

/// What is in a directory, by plain file calls: path, and kind, mode, time and content as text.
pub(crate) fn tree_of(root: &Path) -> BTreeMap<String, String> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    let (mut found, mut dirs) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(at) = dirs.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let (mode, mtime_ns) =
                (meta.permissions().mode() & 0o7777, meta.mtime() * 1_000_000_000 + meta.mtime_nsec());
            let text = if meta.is_dir() {
                dirs.push(path.clone());
                format!("dir {mode:o} {mtime_ns}")
            } else if meta.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                format!("link {mtime_ns} {}", String::from_utf8_lossy(target.as_os_str().as_bytes()))
            } else {
                format!("file {mode:o} {mtime_ns} {}", ContentId::of(&std::fs::read(&path).unwrap()))
            };
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            found.insert(String::from_utf8_lossy(&name).into_owned(), text);
        }
    }
    found
}
