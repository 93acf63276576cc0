//! Who has what: the one judgement behind `status`, `wait`, `clients` and the tables.

use crate::core::Hub;
use crate::presence::{Session, Told};
use crate::share::Share;
use board::Board;
use std::sync::Arc;
use wire::answer::{Behind, ClientRow, ClientShare, ClientState};
use wire::message::Ack;
use wire::roster::{Client, Known};

/// Entries that somebody lacks are counted up to this many: commits wait for the count.
const COUNTED_MAX: usize = 1000;

/// A client, known and perhaps logged in.
pub(crate) struct Standing {
    pub(crate) client: Client,
    pub(crate) session: Option<Arc<Session>>,
    told: Told,
}

/// Everybody on the roster.
pub(crate) fn everybody(hub: &Hub) -> Vec<Standing> {
    let clients: Vec<Client> = hub.roster().list().cloned().collect();
    clients.into_iter().map(|client| of(hub, client)).collect()
}

/// One client.
pub(crate) fn of(hub: &Hub, client: Client) -> Standing {
    let session = hub.presence.get(client.id.get());
    let told = session.as_ref().map(|s| s.told()).unwrap_or_default();
    Standing { client, session, told }
}

impl Standing {
    pub(crate) fn id(&self) -> u64 {
        self.client.id.get()
    }

    pub(crate) fn state(&self) -> ClientState {
        match (&self.client.known, &self.session) {
            (Known::Revoked, _) => ClientState::Revoked,
            (_, Some(_)) => ClientState::Active,
            (Known::Provisional { .. }, None) => ClientState::Provisional,
            (Known::Confirmed { .. }, None) => ClientState::Away,
        }
    }

    /// Whether this client is to have all of a board: it follows it now, or, for a share, did when it was last here.
    pub(crate) fn follows(&self, board: &str) -> bool {
        if self.state() == ClientState::Revoked {
            return false;
        }
        // One that has just logged in follows its shares again in a moment.
        let before = || board.strip_prefix("share/").is_some_and(|share| self.client.shares.iter().any(|s| s == share));
        self.session.is_some() && self.told.follows(board) || before()
    }

    /// Why this client does not have all of `goal`; `None` if it has.
    pub(crate) fn behind(&self, goal: &Goal) -> Option<Behind> {
        let why = match (&self.session, self.ack(&goal.key)) {
            (None, _) => match self.client.last_seen_ms {
                Some(at) => format!("away since {}", crate::clock::rfc3339(at)),
                None => "away".to_owned(),
            },
            (Some(_), None) => "logged in, and has not told yet what it holds".to_owned(),
            (Some(_), Some(ack)) => why_not(ack, goal)?,
        };
        Some(Behind { id: self.id(), name: self.client.name.clone(), what: goal.what.clone(), why })
    }

    fn ack(&self, board: &str) -> Option<&Ack> {
        self.told.ack(board)
    }

    /// At the head of all it follows, without problems.
    pub(crate) fn in_sync(&self, hub: &Hub) -> bool {
        self.session.is_some()
            && hub.shares.values().map(|s| Goal::head_of(s)).all(|g| !self.follows(&g.key) || self.behind(&g).is_none())
    }

    pub(crate) fn row(&self, hub: &Hub) -> ClientRow {
        let client = &self.client;
        let followed = hub.shares.values().filter(|s| self.follows(&s.key()));
        let shares = followed.map(|s| self.share_row(s)).collect();
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
        }
    }

    fn share_row(&self, share: &Share) -> ClientShare {
        let head = share.board.head();
        let Some(ack) = self.ack(&share.key()) else {
            return ClientShare {
                name: share.name.clone(),
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
        let problem = |(name, text): &(bytes::Bytes, String)| format!("{}: {text}", tree::path::escape(name));
        ClientShare {
            name: share.name.clone(),
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
}

/// What somebody is to have: everything up to `seq` of a board.
pub(crate) struct Goal {
    /// The board's name, as clients follow it.
    pub(crate) key: String,
    /// The share's or value's name, for people.
    pub(crate) what: String,
    pub(crate) board: Board,
    pub(crate) seq: u64,
}

impl Goal {
    pub(crate) fn head_of(share: &Share) -> Self {
        Self { key: share.key(), what: share.name.clone(), board: share.board.clone(), seq: share.board.head() }
    }
}

fn why_not(ack: &Ack, goal: &Goal) -> Option<String> {
    let version = goal.board.version();
    if ack.problems > 0 {
        let first = ack.first_problems.first();
        let first = first.map(|(name, text)| format!("{}: {text}", tree::path::escape(name))).unwrap_or_default();
        return Some(format!("{} could not be applied; the first is {first}", entries(u64::from(ack.problems))));
    }
    if ack.applied.epoch != version.epoch || ack.applied.run != version.run {
        return Some("comparing what it holds with this hub".to_owned());
    }
    if ack.applied.seq < goal.seq {
        let behind = goal
            .board
            .read(|index| index.since(ack.applied.seq).take_while(|r| r.seq <= goal.seq).take(COUNTED_MAX).count());
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
