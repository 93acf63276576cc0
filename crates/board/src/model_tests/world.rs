//! The world of one schedule: a directory or a set of values, the hub with its board, and the clients.

use super::client::{Client, Frame, State, stamp};
use super::disk::{Content, Disk, Fault};
use super::random::Random;
use super::restart::Start;
use crate::{Board, Follower, Limits, Mark, Name, Pattern, Position, Told, Write, Writer, live_batch};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

pub(super) const NAMES: [&str; 9] = ["hot", "", "a", "a/1", "a/2", "b", "b/1", "b/2", "c"];
const PATTERNS: [&str; 8] = ["*", "*", "*", "a*", "a/1", "b/*", "", "hot"];
/// Steps after which a settled world must have nothing more to say.
const QUIET_STEPS: usize = 2_000;

/// Batches that the hub keeps at most.
const KEPT_MAX: usize = 12;

/// What the board distributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Values that people put: the store is all there is of them.
    Data,
    /// A share: the directory is the truth, the board follows it and can be made again.
    Share,
}

pub(super) struct World<'story> {
    pub(super) random: Random,
    story: Option<&'story mut Vec<String>>,
    pub(super) kind: Kind,
    weights: Vec<usize>,
    pub(super) disk: Disk,
    /// Copies of the store, oldest first.
    pub(super) copies: Vec<Content>,
    pub(super) writer: Option<Writer>,
    pub(super) boot: u64,
    /// What the board shows, as far as the model knows.
    pub(super) shown: State,
    /// What it should show once all scans are done.
    pub(super) truth: State,
    /// Names whose commit failed since the last one that succeeded.
    pub(super) doubtful: BTreeSet<Name>,
    /// What a scan still has to look at.
    to_scan: VecDeque<Name>,
    pub(super) removals: BTreeMap<Name, Vec<u64>>,
    pub(super) last_stamp: u64,
    /// How often the hub's history was rewound.
    pub(super) rewinds: u64,
    pub(super) clients: Vec<Client>,
    /// Batches kept by the hub for groups.
    pub(super) kept: Vec<(Pattern, Frame)>,
}

impl<'story> World<'story> {
    pub(super) fn new(mut random: Random, story: Option<&'story mut Vec<String>>) -> World<'story> {
        let kind = if random.once_in(2) { Kind::Data } else { Kind::Share };
        // Each world likes some steps more than others, so that rare sequences come up in some.
        let base = [20, 8, 12, 3, 20, 6, 20, 4, 2, 2, 2, 3];
        let weights = base.iter().map(|weight| weight * (1 + random.below(4))).collect();
        let clients =
            (0..1 + random.below(3)).map(|_| Client::new(pattern(PATTERNS[random.below(PATTERNS.len())]))).collect();
        World {
            random,
            story,
            kind,
            weights,
            disk: Disk::default(),
            copies: Vec::new(),
            writer: None,
            boot: 0,
            shown: State::new(),
            truth: State::new(),
            doubtful: BTreeSet::new(),
            to_scan: VecDeque::new(),
            removals: BTreeMap::new(),
            last_stamp: 0,
            rewinds: 0,
            clients,
            kept: Vec::new(),
        }
    }

    /// One random step.
    pub(super) fn step(&mut self) -> Result<(), String> {
        if self.writer.is_none() {
            return self.open_hub(Start::First);
        }
        let client = self.random.below(self.clients.len());
        match self.random.weighted(&self.weights) {
            0 => self.write(),
            1 => self.scan(),
            2 => self.connect(client),
            3 => {
                self.say(|_| format!("cut {client}"));
                self.clients[client].link = None;
                Ok(())
            }
            4 => self.send(client, false).map(drop),
            5 => self.keep_batch(client),
            6 => self.deliver(client).map(drop),
            7 => {
                let fails = self.random.once_in(10);
                let fault = fails.then(|| *self.random.pick(&[Fault::Before, Fault::After]));
                self.say(|_| format!("save {client}, fault {fault:?}"));
                self.clients[client].save(fault);
                Ok(())
            }
            8 => {
                self.say(|_| format!("crash {client}"));
                self.clients[client].crash()
            }
            9 => self.purge(),
            10 => self.copy(),
            _ if self.random.once_in(4) => self.settle(),
            _ => self.restart_hub(),
        }
    }

    /// Lets everything come to rest, and compares.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.say(|_| "settle".to_owned());
        if self.writer.is_none() {
            self.open_hub(Start::First)?;
        }
        while !self.to_scan.is_empty() || !self.board()?.complete() {
            self.scan()?;
        }
        let board = self.board()?;
        let shown: State = board.read(|index| {
            let values = index.iter_from(b"");
            values.map(|record| (record.name.clone(), stamp(record.value.as_deref().unwrap_or_default()))).collect()
        });
        if shown != self.shown || shown != self.truth || board.len() != shown.len() {
            return Err(format!("the board shows {shown:?}, not {:?} or {:?}", self.shown, self.truth));
        }
        for client in 0..self.clients.len() {
            self.rest(client, false)?;
            // Unasked, a cursor may lie behind by foreign seqs; the client knows all the same that it has all.
            let Client { replica, .. } = &self.clients[client];
            if !replica.is_complete() || !replica.is_current() {
                return Err(format!("client {client} is not told that it has all: {replica:?}"));
            }
            self.rest(client, true)?;
            let Client { replica, .. } = &self.clients[client];
            let (shows, expected) = (self.clients[client].state(), self.clients[client].expected(&self.truth));
            if shows != expected {
                return Err(format!("client {client} ends with {shows:?}, not {expected:?}"));
            }
            if !replica.is_complete() || !replica.is_current() || replica.head() != board.head() {
                return Err(format!("client {client} has all, but does not know it: {replica:?}"));
            }
        }
        Ok(())
    }

    /// Lets the hub send this client all that it has for it.
    fn rest(&mut self, client: usize, asked: bool) -> Result<(), String> {
        for _ in 0..QUIET_STEPS {
            self.connect(client)?;
            let delivered = self.deliver(client)?;
            if !self.send(client, asked)? && !delivered && self.clients[client].link.is_some() {
                return Ok(());
            }
        }
        Err(format!("client {client} never comes to rest"))
    }

    fn write(&mut self) -> Result<(), String> {
        let count = if self.random.once_in(12) { 9 } else { 1 + self.random.below(3) };
        let mut truth = self.truth.clone();
        let mut writes = Vec::new();
        for _ in 0..count {
            let name = if self.random.once_in(3) { NAMES[0] } else { *self.random.pick(&NAMES[..]) };
            let name = Bytes::from_static(name.as_bytes());
            match self.random.below(8) {
                0 => writes.push(Write::Aside { name, aside: Bytes::from_static(b"beside") }),
                1..=3 => {
                    writes.push(Write::Remove { name: name.clone() });
                    if truth.remove(&name).is_some() || self.shown.contains_key(&name) {
                        self.last_stamp += 1;
                        self.removals.entry(name).or_default().push(self.last_stamp);
                    }
                }
                _ => {
                    self.last_stamp += 1;
                    writes.push(put(&name, self.last_stamp));
                    truth.insert(name, self.last_stamp);
                }
            }
        }
        if self.random.once_in(30) {
            let fault = *self.random.pick(&[Fault::Before, Fault::After]);
            self.say(|_| format!("the store fails: {fault:?}"));
            self.disk.fail_next(fault);
        }
        if self.kind == Kind::Share {
            // The directory changed, whatever becomes of the commit.
            self.truth = truth.clone();
        }
        let names: BTreeSet<Name> = writes.iter().map(|write| write.name().clone()).collect();
        if self.commit(writes)? {
            if self.kind == Kind::Data {
                self.truth = truth;
            }
        } else if self.kind == Kind::Share {
            self.to_scan.extend(names);
        }
        Ok(())
    }

    /// Commits and keeps the model in step. Whether the store took it.
    fn commit(&mut self, writes: Vec<Write>) -> Result<bool, String> {
        self.say(|_| format!("commit {writes:?}"));
        let writer = self.writer.as_mut().ok_or("no hub")?;
        let before = writer.board().version();
        let committed = writer.commit(writes.clone());
        let head = writer.board().head();
        match committed {
            Ok(committed) => {
                if committed.from != before.seq || committed.to != head {
                    return Err(format!("{committed:?} from {before:?} to {head}"));
                }
                for write in writes {
                    match write {
                        Write::Put { name, value, .. } => drop(self.shown.insert(name, stamp(&value))),
                        Write::Remove { name } => drop(self.shown.remove(&name)),
                        Write::Aside { .. } => {}
                    }
                }
                if committed.to > committed.from {
                    self.doubtful.clear();
                    self.keep_round(committed.from)?;
                }
                Ok(true)
            }
            Err(_) => {
                self.doubtful.extend(writes.iter().map(|write| write.name().clone()));
                Ok(false)
            }
        }
    }

    /// Looks at one name of the directory, and says that the board is complete when none is left.
    fn scan(&mut self) -> Result<(), String> {
        let Some(name) = self.to_scan.pop_front() else {
            let board = self.board()?;
            if board.complete() && self.kind == Kind::Share && self.random.once_in(20) {
                self.say(|_| "scan everything again".to_owned());
                board.set_complete(false);
                self.scan_all();
            } else if !board.complete() {
                self.say(|_| "complete".to_owned());
                match &mut self.writer {
                    // Either way holds for this run; only a kept one holds for the next.
                    Some(writer) if self.random.once_in(2) => drop(writer.set_complete(true)),
                    _ => board.set_complete(true),
                }
            }
            return Ok(());
        };
        self.say(|_| format!("scan {name:?}"));
        let writes = match (self.truth.get(&name), self.shown.get(&name)) {
            (Some(truth), shown) if shown != Some(truth) => vec![put(&name, *truth)],
            (None, Some(_)) => {
                self.last_stamp += 1;
                self.removals.entry(name.clone()).or_default().push(self.last_stamp);
                vec![Write::Remove { name: name.clone() }]
            }
            _ => return Ok(()),
        };
        if !self.commit(writes)? {
            self.to_scan.push_back(name);
        }
        Ok(())
    }

    pub(super) fn scan_all(&mut self) {
        let names: BTreeSet<Name> = self.truth.keys().chain(self.shown.keys()).cloned().collect();
        self.to_scan = names.into_iter().collect();
    }

    fn connect(&mut self, client: usize) -> Result<(), String> {
        if self.clients[client].link.is_some() {
            return Ok(());
        }
        let board = self.board()?;
        let Client { pattern, replica, .. } = &self.clients[client];
        let cursor = replica.cursor();
        let follower = Follower::new(&board, pattern.clone(), cursor.clone());
        let start = follower.start();
        self.say(|_| format!("connect {client} with {cursor:?}: {start:?}"));
        self.clients[client].connect(follower, self.rewinds)
    }

    /// Has the hub send one batch to a client that has room for it. Whether it had one.
    fn send(&mut self, client: usize, asked: bool) -> Result<bool, String> {
        let limits = Limits { entries: 1 + self.random.below(3), bytes: *self.random.pick(&[1, 40, 1000]) };
        let kept = (!asked && !self.random.once_in(4)).then(|| self.kept_for(client)).flatten();
        let (board, complete) = (Rc::new(self.shown.clone()), self.board()?.complete());
        let head = self.board()?.head();
        let Some(link) = &mut self.clients[client].link else { return Ok(false) };
        let Some(follower) = &mut link.follower else { return Ok(false) };
        if link.under_way.len() >= 3 {
            return Ok(false);
        }
        let frame = match kept {
            Some(frame) => {
                follower.advance_live(&frame.batch.mark, frame.told);
                frame
            }
            None => {
                let batch = if asked { follower.mark(limits) } else { follower.next(limits) };
                let Some(batch) = batch else { return Ok(false) };
                Frame { batch, told: Told::Nothing, board, complete }
            }
        };
        if frame.batch.records.iter().any(|record| record.seq > head || !record.aside.is_empty()) {
            return Err(format!("above the head {head}, or with an aside: {:?}", frame.batch));
        }
        link.under_way.push_back(frame.clone());
        self.say(|_| format!("send {client} {:?}", frame.batch));
        Ok(true)
    }

    /// A kept batch that begins where the client stands.
    fn kept_for(&self, client: usize) -> Option<Frame> {
        let client = &self.clients[client];
        let follower = client.link.as_ref()?.follower.as_ref()?;
        let begins = |frame: &Frame| match frame.batch.mark {
            Mark::Live { from, .. } => follower.position() == Position::Live(from),
            Mark::Walk { .. } => false,
        };
        let kept = self.kept.iter().find(|(pattern, frame)| *pattern == client.pattern && begins(frame));
        kept.map(|(_, frame)| frame.clone())
    }

    /// Makes a shared batch and keeps it.
    fn keep_batch(&mut self, client: usize) -> Result<(), String> {
        let board = self.board()?;
        let Client { pattern, link, .. } = &self.clients[client];
        let at = link.as_ref().and_then(|link| link.follower.as_ref()).map(Follower::position);
        let from = match at {
            Some(Position::Live(from)) => from,
            // Others of the group may stand near the head, and this one come to one of their batches later.
            _ => board.head().saturating_sub(1 + self.random.below(3) as u64),
        };
        let limits = Limits { entries: 1 + self.random.below(5), bytes: 1000 };
        if let Some((batch, told)) = live_batch(&board, pattern, from, limits) {
            let frame = Frame { batch, told, board: Rc::new(self.shown.clone()), complete: board.complete() };
            let pattern = pattern.clone();
            self.say(|_| format!("keep for {:?} {:?}", pattern, frame.batch));
            self.kept.push((pattern, frame));
        }
        Ok(())
    }

    /// The round after a commit: a batch for each group, as a hub keeps it for those who come to where it begins.
    fn keep_round(&mut self, from: u64) -> Result<(), String> {
        let limits = Limits { entries: 9, bytes: 1000 };
        let board = self.board()?;
        let groups: BTreeSet<Pattern> = self.clients.iter().map(|client| client.pattern.clone()).collect();
        let shown = Rc::new(self.shown.clone());
        for pattern in groups {
            if let Some((batch, told)) = live_batch(&board, &pattern, from, limits) {
                let frame = Frame { batch, told, board: shown.clone(), complete: board.complete() };
                self.kept.push((pattern, frame));
            }
        }
        let surplus = self.kept.len().saturating_sub(KEPT_MAX);
        self.kept.drain(..surplus);
        Ok(())
    }

    fn deliver(&mut self, client: usize) -> Result<bool, String> {
        let delivered = self.clients[client].deliver(&self.removals);
        self.say(|world| format!("deliver {client}: {delivered:?}, shows {:?}", world.clients[client].state()));
        delivered
    }

    pub(super) fn board(&self) -> Result<Board, String> {
        self.writer.as_ref().map(Writer::board).ok_or_else(|| "no hub".to_owned())
    }

    pub(super) fn say(&mut self, line: impl FnOnce(&World<'_>) -> String) {
        if self.story.is_some() {
            let line = line(self);
            if let Some(story) = &mut self.story {
                story.push(line);
            }
        }
    }
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn put(name: &Name, stamp: u64) -> Write {
    let aside = Bytes::from_static(b"here");
    Write::Put { name: name.clone(), value: Bytes::copy_from_slice(&stamp.to_be_bytes()), aside }
}
