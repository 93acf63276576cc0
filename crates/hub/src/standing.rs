//! Who has what: the one judgement behind `status`, `wait`, `clients` and the tables.

use crate::access::Access;
use crate::core::Hub;
use crate::lag::Heads;
use crate::presence::{Session, Told};
use crate::share::Share;
use board::{Board, Pattern};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::answer::{Behind, ClientRow, ClientShare, ClientState};
use wire::message::Ack;
use wire::roster::{Client, Known};

/// The board of the values.
const DATA: &str = "data";
/// Entries that somebody lacks are counted up to this many: commits wait for the count.
const COUNTED_MAX: usize = 1000;

/// A client, known and perhaps logged in.
pub(crate) struct Standing {
    pub(crate) client: Client,
    pub(crate) session: Option<Arc<Session>>,
    access: Access,
    told: Told,
}

/// Everybody on the roster that whoever asks may know of.
pub(crate) fn everybody(hub: &Hub, to: &Access) -> Vec<Standing> {
    let clients: Vec<Client> = hub.roster().list().filter(|client| to.sees(client.id.get())).cloned().collect();
    clients.into_iter().map(|client| of(hub, client)).collect()
}

/// One client.
pub(crate) fn of(hub: &Hub, client: Client) -> Standing {
    let session = hub.presence.get(client.id.get());
    let told = session.as_ref().map(|s| s.told()).unwrap_or_default();
    let access = Access::of(client.id, &client.rights);
    Standing { client, session, access, told }
}

impl Standing {
    pub(crate) fn id(&self) -> u64 {
        self.client.id.get()
    }

    pub(crate) fn state(&self) -> ClientState {
        match (&self.client.known, &self.session) {
            (Known::Revoked, _) => ClientState::Revoked,
            (Known::Expected, _) => ClientState::Expected,
            (_, Some(_)) => ClientState::Active,
            (Known::Provisional { .. }, None) => ClientState::Provisional,
            (Known::Confirmed { .. }, None) => ClientState::Away,
        }
    }

    /// Whether this client is to have `goal`: it follows it now, or, where it keeps it, did when it was last here.
    pub(crate) fn follows(&self, goal: &Goal) -> bool {
        if self.state() == ClientState::Revoked || !self.may_have(goal) {
            return false;
        }
        // One that has just logged in follows what it keeps again in a moment.
        let before = || match (&goal.of, goal.key.strip_prefix("share/")) {
            (_, Some(share)) => self.client.shares.iter().any(|s| s == share),
            (Of::Value(name), _) => self.kept_values().any(|pattern| pattern.matches(name)),
            (Of::All, None) => self.kept_values().next().is_some(),
        };
        let now = || match &goal.of {
            Of::Value(name) => self.told.follows(&goal.key, |pattern| pattern.matches(name)),
            Of::All if goal.key == DATA => false,
            Of::All => self.told.follows(&goal.key, whole),
        };
        self.session.is_some() && now() || before()
    }

    /// Whether it may have `goal` at all; who may not is waited for by nobody.
    pub(crate) fn may_have(&self, goal: &Goal) -> bool {
        match (&goal.of, goal.key.strip_prefix("share/")) {
            (_, Some(share)) => self.access.joins(share),
            (Of::Value(name), None) => self.access.reads(name),
            (Of::All, None) => true,
        }
    }

    /// Why this client does not have all of `goal`; `None` if it has.
    pub(crate) fn behind(&self, goal: &Goal) -> Option<Behind> {
        let why = if self.session.is_none() {
            match self.client.last_seen_ms {
                Some(at) => format!("away since {}", crate::clock::rfc3339(at)),
                None => "away".to_owned(),
            }
        } else {
            match &goal.of {
                Of::All if goal.key == DATA => self.kept_values().find_map(|kept| self.lacks(&kept, goal))?,
                Of::All => why_not(self.told.ack(&goal.key, whole), goal, None)?,
                Of::Value(name) => {
                    let ack = self.told.ack(&goal.key, |pattern| pattern.matches(name));
                    why_not(ack, goal, Some(&|other| other == name))?
                }
            }
        };
        Some(Behind { id: self.id(), name: self.client.name.clone(), what: goal.what.clone(), why })
    }

    /// What it acknowledged of `goal`.
    pub(crate) fn ack(&self, goal: &Goal) -> Option<&Ack> {
        match &goal.of {
            Of::Value(name) => self.told.ack(&goal.key, |pattern| pattern.matches(name)),
            Of::All if goal.key == DATA => None,
            Of::All => self.told.ack(&goal.key, whole),
        }
    }

    /// Why it does not have all values of a pattern that it keeps as files.
    fn lacks(&self, kept: &Pattern, goal: &Goal) -> Option<String> {
        why_not(self.told.ack(DATA, |pattern| pattern == kept), goal, Some(&|name| kept.matches(name)))
    }

    /// What it keeps of values, as far as it may have them.
    fn kept_values(&self) -> impl Iterator<Item = Pattern> {
        let kept = self.client.values.iter().filter_map(|text| Pattern::parse(text).ok());
        kept.filter_map(|pattern| self.access.to_follow(DATA, pattern).ok())
    }

    /// At the head of all it follows, without problems.
    pub(crate) fn in_sync(&self, hub: &Hub) -> bool {
        let mut goals = hub.shares.values().map(|share| Goal::head_of(share)).chain([Goal::values(hub)]);
        self.session.is_some() && goals.all(|goal| !self.follows(&goal) || self.behind(&goal).is_none())
    }

    /// How many versions of all it follows it lacks, and for how long at most; `None` where it does not tell what it has, as
    /// a stream or lines of text.
    pub(crate) fn lag(&self, hub: &Hub, now: Instant) -> Option<(u64, Duration)> {
        self.session.as_ref()?;
        let shares = hub.shares.values().map(|share| (share.key(), &share.board, &share.heads));
        let data = (DATA.to_owned(), &hub.data.board, &hub.data.heads);
        let of = |(key, board, heads): (String, &Board, &Arc<Heads>)| {
            let ack = self.told.ack(&key, whole)?;
            let (version, head) = (board.version(), board.head());
            let known = ack.applied.epoch == version.epoch && ack.applied.run == version.run;
            let seq = if known { ack.applied.seq } else { 0 };
            Some((head.saturating_sub(seq), heads.lag(seq, head, now)))
        };
        let lags = shares.chain([data]).filter_map(of);
        lags.reduce(|(versions, span), (more, longer)| (versions + more, span.max(longer)))
    }

    /// What whoever asks may know of it: not what else there is that it may not have itself.
    pub(crate) fn row(&self, hub: &Hub, to: &Access) -> ClientRow {
        let client = &self.client;
        let shares = hub.shares.values().filter(|share| to.joins(&share.name)).map(|share| Goal::head_of(share));
        let shares = shares.filter(|goal| self.follows(goal));
        let shares = shares.map(|goal| held_row(goal.what, self.told.ack(&goal.key, whole), goal.seq)).collect();
        let values = if self.state() == ClientState::Revoked { Vec::new() } else { self.values_rows(hub, to) };
        ClientRow {
            id: self.id(),
            name: client.name.clone(),
            state: self.state(),
            address: client.address.clone(),
            transport: client.transport.clone(),
            enrolled_at_ms: client.enrolled_at_ms,
            last_login_ms: client.last_login_ms,
            last_seen_ms: self.session.as_ref().map_or(client.last_seen_ms, |s| Some(s.last_seen_ms())),
            shares,
            version: client.version.clone(),
            in_sync: self.in_sync(hub),
            vitals: self.told.vitals.clone(),
            values,
            tags: client.tags.clone(),
            rights: to.sees_rights_of(self.id()).then(|| client.rights.clone()),
        }
    }

    fn values_rows(&self, hub: &Hub, to: &Access) -> Vec<ClientShare> {
        let board = &hub.data.board;
        let row = |kept: Pattern| {
            let ack = self.told.ack(DATA, |pattern| *pattern == kept);
            // The seq of a follow of some values moves with those alone, and stands far behind where others are put.
            let newer = |index: &board::Index| {
                let since = ack.map_or(0, |ack| ack.applied.seq);
                if index.since(since).any(|record| kept.matches(&record.name)) { index.head() } else { since }
            };
            let head = board.read(newer);
            held_row(String::from_utf8_lossy(kept.as_bytes()).into_owned(), ack, head)
        };
        self.kept_values().filter(|kept| to.to_follow(DATA, kept.clone()).as_ref() == Ok(kept)).map(row).collect()
    }
}

fn held_row(name: String, ack: Option<&Ack>, head: u64) -> ClientShare {
    let Some(ack) = ack else {
        return ClientShare {
            name,
            applied_seq: 0,
            durable_seq: 0,
            head,
            entries: 0,
            waiting: 0,
            problems: 0,
            first_problems: Vec::new(),
            root_agrees: None,
            content_bytes: 0,
        };
    };
    ClientShare {
        name,
        applied_seq: ack.applied.seq,
        durable_seq: ack.durable_seq,
        head,
        entries: ack.entries,
        waiting: ack.waiting,
        problems: ack.problems,
        first_problems: ack.first_problems.iter().map(problem).collect(),
        root_agrees: ack.root_agrees,
        content_bytes: ack.content_bytes,
    }
}

fn problem((name, text): &(Bytes, String)) -> String {
    format!("{}: {text}", tree::path::escape(name))
}

/// What somebody is to have: everything up to `seq` of a board, or of some of it.
pub(crate) struct Goal {
    /// The board's name, as clients follow it.
    pub(crate) key: String,
    /// The share's or value's name, for people.
    pub(crate) what: String,
    pub(crate) board: Board,
    pub(crate) seq: u64,
    pub(crate) of: Of,
}

/// How much of a board is meant.
pub(crate) enum Of {
    /// All of a share; of the values, all that a client keeps as files.
    All,
    /// The value of this name, for whoever follows it.
    Value(Bytes),
}

impl Goal {
    pub(crate) fn head_of(share: &Share) -> Self {
        let (board, seq) = (share.board.clone(), share.board.head());
        Self { key: share.key(), what: share.name.clone(), board, seq, of: Of::All }
    }

    /// Every value, for those that keep values as files.
    pub(crate) fn values(hub: &Hub) -> Self {
        let board = hub.data.board.clone();
        Self { key: DATA.to_owned(), what: "values".to_owned(), seq: board.head(), board, of: Of::All }
    }

    /// One value, whose newest version is of `seq`.
    pub(crate) fn value(hub: &Hub, name: &str, seq: u64) -> Self {
        let of = Of::Value(Bytes::copy_from_slice(name.as_bytes()));
        Self { key: DATA.to_owned(), what: name.to_owned(), board: hub.data.board.clone(), seq, of }
    }
}

fn whole(pattern: &Pattern) -> bool {
    *pattern == Pattern::all()
}

/// Which values count, by their names.
type Meant<'a> = &'a dyn Fn(&[u8]) -> bool;

/// Why who acknowledged `ack` lacks some of `goal`; of values, only those count that `meant` says.
fn why_not(ack: Option<&Ack>, goal: &Goal, meant: Option<Meant<'_>>) -> Option<String> {
    let Some(ack) = ack else { return Some("logged in, and has not told yet what it holds".to_owned()) };
    let version = goal.board.version();
    let all_named = ack.problems as usize == ack.first_problems.len();
    let elsewhere = |(name, _): &(Bytes, String)| meant.is_some_and(|meant| !name.is_empty() && !meant(name));
    if ack.problems > 0 && !(all_named && ack.first_problems.iter().all(elsewhere)) {
        let first = ack.first_problems.iter().find(|problem| !elsewhere(problem)).map(problem).unwrap_or_default();
        return Some(format!("{} could not be applied; the first is {first}", entries(u64::from(ack.problems))));
    }
    if ack.applied.epoch != version.epoch || ack.applied.run != version.run {
        return Some("comparing what it holds with this hub".to_owned());
    }
    let lacking = goal.board.read(|index| {
        let lacking = index.since(ack.applied.seq);
        match meant {
            _ if ack.applied.seq >= goal.seq => None,
            None => Some(lacking.take_while(|r| r.seq <= goal.seq).take(COUNTED_MAX).count()),
            // By the seq alone nobody can tell: it moves with what is followed. What was replaced since the goal was set is
            // lacked, too.
            Some(meant) => {
                Some(lacking.filter(|r| meant(&r.name)).take(COUNTED_MAX).count()).filter(|lacking| *lacking > 0)
            }
        }
    });
    if let Some(behind) = lacking {
        let waiting = match ack.waiting {
            0 => String::new(),
            waiting => format!(", {waiting} contents on their way"),
        };
        let more = if behind == COUNTED_MAX { " or more" } else { "" };
        return Some(format!("{}{more} behind{waiting}", entries(behind as u64)));
    }
    if !ack.complete {
        return Some("has everything that is known so far; the hub is still scanning".to_owned());
    }
    if ack.root_agrees == Some(false) {
        return Some("its copy does not add up to the hub's root; it is checking every file".to_owned());
    }
    None
}

fn entries(n: u64) -> String {
    match n {
        1 => "1 entry".to_owned(),
        n => format!("{n} entries"),
    }
}
