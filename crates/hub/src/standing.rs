//! Who has what: the one judgement behind `status`, `wait`, `clients` and the tables.

use crate::access::Access;
use crate::clock;
use crate::core::Hub;
use crate::lag::Heads;
use crate::presence::{Follow, Session, Told};
use crate::share::Share;
use board::{Board, Pattern};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::answer::{AfterStatus, Behind, ClientRow, ClientShare, ClientState};
use wire::id::ClientId;
use wire::message::Ack;
use wire::roster::{Client, Known};

/// The board of the values.
const DATA: &str = "data";
/// Entries that somebody lacks are counted up to this many: commits wait for the count.
const COUNTED_MAX: usize = 1000;

/// Of all clients, so many are taken from the roster at once: nobody waits for it longer.
const AT_ONCE: usize = 256;

/// A client, known and perhaps logged in. What is known of it is shared, not copied.
pub(crate) struct Standing {
    pub(crate) client: Arc<Client>,
    pub(crate) session: Option<Arc<Session>>,
    access: Access,
    told: Arc<Told>,
}

/// Everybody on the roster that whoever asks may know of, by id: each as of the moment when it is its turn.
pub(crate) fn everybody<'a>(hub: &'a Hub, to: &'a Access) -> impl Iterator<Item = Standing> + use<'a> {
    everybody_after(hub, to, None)
}

/// As [`everybody`], those after `after` alone.
pub(crate) fn everybody_after<'a>(
    hub: &'a Hub,
    to: &'a Access,
    after: Option<ClientId>,
) -> impl Iterator<Item = Standing> + use<'a> {
    let mut after = Some(after);
    let parts = std::iter::from_fn(move || {
        let (part, last) = next(hub, to, after?, AT_ONCE);
        after = last.map(Some);
        Some(part)
    });
    parts.flatten()
}

/// The next `most` on the roster after `after`, as in [`everybody`]; and the last of them, unless there are no more.
pub(crate) fn next(hub: &Hub, to: &Access, after: Option<ClientId>, most: usize) -> (Vec<Standing>, Option<ClientId>) {
    let (mut clients, mut last, mut looked_at) = (Vec::new(), None, 0);
    for client in hub.roster().list_after(after).take(most) {
        (last, looked_at) = (Some(client.id), looked_at + 1);
        clients.extend(to.sees(client.id.get()).then(|| Arc::clone(client)));
    }
    let standings = clients.into_iter().map(|client| of(hub, client)).collect();
    (standings, last.filter(|_| looked_at == most))
}

/// One client.
pub(crate) fn of(hub: &Hub, client: Arc<Client>) -> Standing {
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

    /// Why this client does not have all of `goal`, and since when; `None` if it has.
    pub(crate) fn behind(&self, goal: &Goal) -> Option<Behind> {
        let (why, since_ms) = if let Some(session) = &self.session {
            let Lack { why, since } = self.lack(goal)?;
            // What is older than its session it has lacked since it is here.
            let since_ms = since.map(|since| clock::ms_of(since.max(session.began)));
            (since_ms.map_or(why.clone(), |at| format!("{why}, since {}", clock::rfc3339(at))), since_ms)
        } else {
            match self.client.last_seen_ms {
                Some(at) => (format!("away since {}", clock::rfc3339(at)), Some(at)),
                None => ("away".to_owned(), None),
            }
        };
        Some(Behind { id: self.id(), name: self.client.name.clone(), what: goal.what.clone(), why, since_ms })
    }

    /// What a client that is here lacks of `goal`; `None` if it lacks nothing.
    pub(crate) fn lack(&self, goal: &Goal) -> Option<Lack> {
        let began = self.session.as_ref()?.began;
        match &goal.of {
            Of::All if goal.key == DATA => self.kept_values().find_map(|kept| {
                let follow = self.told.follow(DATA, |pattern| *pattern == kept);
                lack(follow, began, goal, Some(&|name| kept.matches(name)))
            }),
            Of::All => lack(self.told.follow(&goal.key, whole), began, goal, None),
            Of::Value(name) => {
                let follow = self.told.follow(&goal.key, |pattern| pattern.matches(name));
                lack(follow, began, goal, Some(&|other| other == name))
            }
        }
    }

    /// What it said of itself.
    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// What it acknowledged of `goal`.
    pub(crate) fn ack(&self, goal: &Goal) -> Option<&Ack> {
        match &goal.of {
            Of::Value(name) => self.told.ack(&goal.key, |pattern| pattern.matches(name)),
            Of::All if goal.key == DATA => None,
            Of::All => self.told.ack(&goal.key, whole),
        }
    }

    /// What it keeps of values, as far as it may have them.
    fn kept_values(&self) -> impl Iterator<Item = Pattern> {
        let kept = self.client.values.iter().filter_map(|text| Pattern::parse(text).ok());
        kept.filter_map(|pattern| self.access.to_follow(DATA, pattern).ok())
    }

    /// At the head of all it follows, without problems.
    pub(crate) fn in_sync(&self, hub: &Hub) -> bool {
        let mut goals = hub.shares.values().map(|share| Goal::head_of(&share)).chain([Goal::values(hub)]);
        self.session.is_some() && goals.all(|goal| !self.follows(&goal) || self.behind(&goal).is_none())
    }

    /// How many versions of all it follows it lacks, and for how long at most; `None` where it does not tell what it has, as
    /// a stream or lines of text.
    pub(crate) fn lag(&self, hub: &Hub, now: Instant) -> Option<(u64, Duration)> {
        self.session.as_ref()?;
        let shares = hub.shares.values().map(|share| (share.key(), share.board.clone(), Arc::clone(&share.heads)));
        let data = (DATA.to_owned(), hub.data.board.clone(), Arc::clone(&hub.data.heads));
        let of = |(key, board, heads): (String, Board, Arc<Heads>)| {
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
        let shares = hub.shares.values().filter(|share| to.joins(&share.name)).map(|share| Goal::head_of(&share));
        let shares = shares.filter(|goal| self.follows(goal));
        let mut shares: Vec<_> =
            shares.map(|goal| held_row(goal.what, self.told.ack(&goal.key, whole), goal.seq)).collect();
        let mut values = if self.state() == ClientState::Revoked { Vec::new() } else { self.values_rows(hub, to) };
        if !to.sees_rights_of(self.id()) {
            // What its command said is no matter of others.
            shares.iter_mut().chain(&mut values).for_each(|held| held.after = None);
        }
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

    /// The last runs of `--after` there, of what whoever asks may know of: its own, and those that failed on others.
    pub(crate) fn after(&self, to: &Access) -> Vec<AfterStatus> {
        let own = to.id() == self.id();
        let told = |follow: &Follow| {
            let ran = follow.ack.as_ref()?.after.as_deref().filter(|ran| own || !ran.is_good())?;
            let what = match follow.board.strip_prefix("share/") {
                Some(share) => to.joins(share).then(|| share.to_owned())?,
                None => {
                    to.to_follow(&follow.board, follow.pattern.clone()).ok()?;
                    String::from_utf8_lossy(follow.pattern.as_bytes()).into_owned()
                }
            };
            Some(AfterStatus { id: self.id(), name: self.client.name.clone(), what, ran: ran.clone() })
        };
        self.told.all().filter_map(told).collect()
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
            held_deletes: 0,
            after: None,
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
        held_deletes: ack.held_deletes,
        after: ack.after.as_deref().cloned(),
    }
}

fn problem((name, text): &(Bytes, String)) -> String {
    if name.is_empty() {
        return text.clone();
    }
    format!("{}: {text}", tree::path::escape(name))
}

/// What somebody is to have: everything up to `seq` of a board, or of some of it.
pub(crate) struct Goal {
    /// The board's name, as clients follow it.
    pub(crate) key: String,
    /// The share's or value's name, for people.
    pub(crate) what: String,
    pub(crate) board: Board,
    /// When its versions came to be.
    pub(crate) heads: Arc<Heads>,
    pub(crate) seq: u64,
    pub(crate) of: Of,
    /// A guard holds everything: what is known is all that there is to have, though the hub is not done with it.
    pub(crate) held: bool,
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
        let (board, heads, seq) = (share.board.clone(), Arc::clone(&share.heads), share.board.head());
        Self { key: share.key(), what: share.name.clone(), board, heads, seq, of: Of::All, held: share.held_whole() }
    }

    /// Every value, for those that keep values as files.
    pub(crate) fn values(hub: &Hub) -> Self {
        let (board, heads) = (hub.data.board.clone(), Arc::clone(&hub.data.heads));
        Self {
            key: DATA.to_owned(),
            what: "values".to_owned(),
            seq: board.head(),
            board,
            heads,
            of: Of::All,
            held: false,
        }
    }

    /// Since when who has all up to `seq` lacks something; `None` where it lacks nothing, or did before the hub started.
    pub(crate) fn lacked_since(&self, seq: u64) -> Option<Instant> {
        let now = clock::now();
        let lag = self.heads.lag(seq, self.board.head(), now);
        now.checked_sub(lag).filter(|_| !lag.is_zero())
    }

    /// One value, whose newest version is of `seq`.
    pub(crate) fn value(hub: &Hub, name: &str, seq: u64) -> Self {
        let of = Of::Value(Bytes::copy_from_slice(name.as_bytes()));
        let (board, heads) = (hub.data.board.clone(), Arc::clone(&hub.data.heads));
        Self { key: DATA.to_owned(), what: name.to_owned(), board, heads, seq, of, held: false }
    }
}

fn whole(pattern: &Pattern) -> bool {
    *pattern == Pattern::all()
}

/// Which values count, by their names.
type Meant<'a> = &'a dyn Fn(&[u8]) -> bool;

/// What somebody who is here lacks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    /// One sentence.
    pub(crate) why: String,
    /// Since when, at the latest; `None` where it is the hub that is not done.
    pub(crate) since: Option<Instant>,
}

/// What is lacked of `goal` by who follows it as `follow` says, and came in at `began`; of values, only those count that `meant`
/// says.
fn lack(follow: Option<&Follow>, began: Instant, goal: &Goal, meant: Option<Meant<'_>>) -> Option<Lack> {
    let lack = |why: String, since: Instant| Some(Lack { why, since: Some(since) });
    let begun = follow.map_or(began, |follow| follow.since);
    let Some((follow, ack)) = follow.and_then(|follow| Some((follow, follow.ack.as_ref()?))) else {
        return lack("logged in, and has not told yet what it holds".to_owned(), begun);
    };
    let version = goal.board.version();
    let all_named = ack.problems as usize == ack.first_problems.len();
    let elsewhere = |(name, _): &(Bytes, String)| meant.is_some_and(|meant| !name.is_empty() && !meant(name));
    if ack.problems > 0 && !(all_named && ack.first_problems.iter().all(elsewhere)) {
        let first = ack.first_problems.iter().find(|problem| !elsewhere(problem));
        let why = match first {
            // Of no entry, but of all that is kept there.
            Some((name, text)) if name.is_empty() && ack.problems == 1 => text.clone(),
            _ => {
                let first = first.map(problem).unwrap_or_default();
                format!("{} could not be applied; the first is {first}", entries(u64::from(ack.problems)))
            }
        };
        return lack(why, follow.problems_since.unwrap_or(begun));
    }
    if ack.applied.epoch != version.epoch || ack.applied.run != version.run {
        return lack("comparing what it holds with this hub".to_owned(), begun);
    }
    // How many entries, and behind which version the first of them came.
    let lacking = goal.board.read(|index| {
        let seq = ack.applied.seq;
        match meant {
            _ if seq >= goal.seq => None,
            None => {
                let lacking = index.since(seq).take_while(|r| r.seq <= goal.seq).take(COUNTED_MAX).count();
                Some((lacking, seq))
            }
            // By the seq alone nobody can tell: it moves with what is followed. What was replaced since the goal was set is
            // lacked, too; what it replaced is not known any more, so it is lacked at least since the oldest there is.
            Some(meant) => {
                let mut lacking = index.since(seq).filter(|r| meant(&r.name));
                let first = lacking.next()?.seq;
                Some((lacking.take(COUNTED_MAX - 1).count() + 1, first - 1))
            }
        }
    });
    if let Some((behind, seq)) = lacking {
        let waiting = match ack.waiting {
            0 => String::new(),
            waiting => format!(", {waiting} contents on their way"),
        };
        let more = if behind == COUNTED_MAX { " or more" } else { "" };
        // What was there before the hub started has been lacked since it was first asked for.
        let since = goal.lacked_since(seq).unwrap_or(begun);
        return lack(format!("{}{more} behind{waiting}", entries(behind as u64)), since);
    }
    if !ack.complete && !goal.held {
        let why = "has everything that is known so far; the hub is still scanning".to_owned();
        return Some(Lack { why, since: None });
    }
    if ack.root_agrees == Some(false) {
        let why = "its copy does not add up to the hub's root; it is checking every file".to_owned();
        return lack(why, follow.root_since.unwrap_or(begun));
    }
    None
}

fn entries(n: u64) -> String {
    match n {
        1 => "1 entry".to_owned(),
        n => format!("{n} entries"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::{Arrival, Presence};
    use board::{MemoryStore, OpenOptions, Write, Writer};
    use wire::message::Version;
    use wire::secret::Token;

    const SECOND: Duration = Duration::from_secs(1);

    fn put(writer: &mut Writer, name: &'static str) -> u64 {
        let (name, value) = (Bytes::from_static(name.as_bytes()), Bytes::from_static(b"x"));
        writer.commit(vec![Write::Put { name, value, aside: Bytes::new() }]).unwrap();
        writer.board().head()
    }

    /// What whoever asks for everybody is given is what the roster has, and no copy of it; nor is what a session said copied.
    #[tokio::test]
    async fn an_answer_over_all_clients_copies_none() {
        let scratch = tempfile::tempdir().unwrap();
        let (hub, _threads) = crate::core::testing::opened(scratch.path());
        // More than are looked up at once, twice.
        let ids = 1..=2 * AT_ONCE as u64 + 7;
        let row = |id| wire::answer::ImportRow {
            id,
            change: wire::answer::ClientChange { name: Some(format!("desk {id}")), ..Default::default() },
        };
        let rows: Vec<_> = ids.clone().map(row).collect();
        hub.registry.change(|roster| roster.import(&rows, false)).await.unwrap();
        let (name, address) = (String::new(), String::new());
        let arrival =
            Arrival { id: 9, token: Token([7; 32]), name, address, transport: "native", access: Access::everything() };
        let session = hub.presence.enter(arrival);
        session.follows("share/s", 1, Pattern::all());
        let all = Access::everything();
        let mut seen = Vec::new();
        for standing in everybody(&hub, &all) {
            let known = hub.roster().share(standing.client.id).unwrap();
            assert!(Arc::ptr_eq(&standing.client, &known), "client {} was copied", standing.id());
            if standing.session.is_some() {
                assert!(Arc::ptr_eq(&standing.told, &session.told()), "what it said was copied");
            }
            seen.push(standing.id());
        }
        assert_eq!(seen, ids.clone().collect::<Vec<_>>(), "each once, in order");
        // A part of the list begins behind the last of the part before, and looks at nobody before it.
        let after = ClientId::new(300).unwrap();
        assert_eq!(everybody_after(&hub, &all, Some(after)).next().unwrap().id(), 301);
        assert_eq!(everybody_after(&hub, &all, ClientId::new(*ids.end()).ok()).count(), 0);
        let mut listed = Vec::new();
        loop {
            let after = listed.last().copied().unwrap_or(0);
            let (rows, more) = crate::answers::clients(&hub, true, after, &all);
            listed.extend(rows.iter().map(|row| row.id));
            if !more {
                break;
            }
        }
        assert_eq!(listed, seen);
        assert_eq!(crate::answers::clients(&hub, true, u64::MAX, &all).0.len(), 0);
        assert_eq!(crate::answers::status(&hub, &all).clients_active, 1);
        // What a look was given stays as it was; what is said meanwhile is in the next.
        let before = session.told();
        session.follows("share/t", 2, Pattern::all());
        assert_eq!((before.all().count(), session.told().all().count()), (1, 2));
    }

    #[test]
    fn what_is_lacked_is_lacked_since_it_came_and_what_was_there_before_since_it_was_asked_for() {
        let options = OpenOptions { durable: false, boot_id: String::new(), entropy: Box::new(|| 7) };
        let mut writer = Writer::open(Box::new(MemoryStore), options).unwrap();
        let (board, heads) = (writer.board(), Arc::<Heads>::default());
        let (now, version) = (clock::now(), board.version());
        let ago = |seconds: u32| now.checked_sub(SECOND * seconds).unwrap();
        let old = put(&mut writer, "old");
        let came = [("a", 90), ("b", 60), ("a", 30)].map(|(name, seconds)| (put(&mut writer, name), ago(seconds)));
        let noted = Arc::clone(&heads);
        let (id, name, address) = (7, String::new(), String::new());
        let arrival =
            Arrival { id, token: Token([7; 32]), name, address, transport: "native", access: Access::everything() };
        let session = Presence::default().enter(arrival);
        session.follows("share/s", 1, Pattern::all());
        let of = Of::All;
        let goal = Goal {
            key: "share/s".into(),
            what: "s".into(),
            board: board.clone(),
            heads,
            seq: board.head(),
            of,
            held: false,
        };
        let lacks = |ack: Ack, meant: Option<Meant<'_>>| {
            session.acked("share/s", ack);
            let told = session.told();
            let follow = told.follow("share/s", whole);
            lack(follow, session.began, &goal, meant).map(|lack| (follow.unwrap().since, lack.since))
        };
        let has = |seq: u64| Ack::of(1, Version { epoch: version.epoch, run: version.run, seq }, true);
        let is = |since: Option<(Instant, Option<Instant>)>, at: Instant| {
            let since = since.unwrap().1.unwrap();
            assert!(since.max(at) - since.min(at) < SECOND, "{since:?} is not {at:?}");
        };
        let (asked, since) = lacks(has(0), None).unwrap();
        assert_eq!(since, Some(asked), "of what was there before nobody knows more");
        came.into_iter().for_each(|(head, at)| noted.note(head, at));
        is(lacks(has(old), None), ago(90));
        is(lacks(has(old + 1), None), ago(60));
        // Of some names, since the oldest of them that is there now.
        is(lacks(has(old), Some(&|name| name == b"a")), ago(30));
        is(lacks(has(old), Some(&|name| name == b"b")), ago(60));
        assert!(lacks(has(old), Some(&|name| name == b"c")).is_none() && lacks(has(old + 3), None).is_none());
        // What cannot be applied, since it could not; what the hub itself is not done with, since nobody's time.
        let problem = Ack { problems: 1, ..has(old + 3) };
        is(lacks(problem.clone(), None), clock::now());
        let unfinished = Ack { complete: false, ..has(old + 3) };
        assert_eq!(lacks(unfinished, None).unwrap().1, None);
        let elsewhere = Ack { root_agrees: Some(false), ..has(old + 3) };
        is(lacks(elsewhere, None), clock::now());
        session.acked("share/s", Ack { complete: false, ..has(old + 3) });
        let (told, held) = (session.told(), Goal { held: true, ..goal });
        assert_eq!(lack(told.follow("share/s", whole), session.began, &held, None), None, "more is not to be had");
    }
}
