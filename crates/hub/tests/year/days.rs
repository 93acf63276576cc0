//! The days, one after the other, and what everybody has to hold at their ends.

mod mishaps;

use crate::house::House;
use crate::keeper::{KEEPER, Keeper};
use crate::machine::{Machine, forget_key, log_in};
use crate::model::{Model, Record, Token, note};
use crate::sizes::{Sizes, grown, measure};
use crate::text::Text;
use crate::web::{get, is_renewed};
use agent::client::ClientError;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use support::{PATIENCE, Rng, pick, same_trees};
use tokio::runtime::Runtime;
use wire::answer::{Answer, ClientState, Question};
use wire::id::ClientId;
use wire::link::InviteCode;
use wire::message::Content;
use wire::rights::RightsChange;

const DAY_S: u64 = 24 * 3600;
const DAY_MS: i64 = 24 * 3600 * 1000;
/// Who writes a log of each day over text lines.
const WRITER: u64 = 1;
/// Ids of those who never come back after they got one.
const HALF: u64 = 10_000;
/// So many machines there are at most, and half as many at least.
const MACHINES: usize = 6;
/// For so many days each day's log stays, and its files.
const STAYS_DAYS: u64 = 3;

/// What was so when a backup was made.
struct Backup {
    file: PathBuf,
    model: Model,
    /// How often each had got a new unique ID.
    keys: BTreeMap<u64, u64>,
}

pub(crate) struct Life {
    house: House,
    rng: Rng,
    runtime: Runtime,
    model: Model,
    machines: BTreeMap<u64, Machine>,
    keys: BTreeMap<u64, u64>,
    writer: String,
    keeper: Option<Keeper>,
    next_id: u64,
    day: u64,
    backup: Option<Backup>,
    /// What should be on record, and what was already read of logs that are not there any more.
    expected: Record,
    read: Record,
    /// With which sizes are looked at.
    looks: String,
    secrets: Vec<String>,
    log: Vec<String>,
}

impl Drop for Life {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- its days\n{}", self.log.join("\n"));
            self.keeper.iter().for_each(|keeper| eprintln!("--- {}", keeper.says()));
        }
    }
}

impl Life {
    pub(crate) fn begin(place: &Path, rng: Rng) -> Life {
        let mut life = Life {
            house: House::build(place),
            rng,
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap(),
            model: Model::default(),
            machines: BTreeMap::new(),
            keys: BTreeMap::new(),
            writer: String::new(),
            keeper: None,
            next_id: 10,
            day: 0,
            backup: None,
            expected: Record::new(),
            read: Record::new(),
            looks: String::new(),
            secrets: Vec::new(),
            log: Vec::new(),
        };
        let code = life.invite();
        life.writer = Text::connect(life.house.text()).enrol(WRITER, &code.reveal());
        life.secrets.push(life.writer.clone());
        life.knows(WRITER);
        let code = life.invite();
        life.keeper = Some(Keeper::start(&life.house, Some(code)));
        life.knows(KEEPER);
        life.looks = life.token(700 * DAY_S);
        for _ in 0..4 {
            life.enrol();
        }
        life
    }

    /// Until the last of `days`; all is measured after the first of them, and then.
    pub(crate) fn goes_on(mut self, days: [u64; 2]) {
        let mut before = None;
        let start = Instant::now();
        while self.day < days[1] {
            self.one_day();
            if self.day == days[0] {
                before = Some(self.measured());
            }
        }
        let (before, after) = (before.expect("it is long ago"), self.measured());
        println!("{} days in {:?}: {}", self.day, start.elapsed(), self.log.len());
        before.iter().for_each(|(what, size)| println!("{what}: {size}, {}", after[what]));
        let grown = grown(&before, &after);
        assert!(grown.is_empty(), "{grown:#?}");
        self.keeper.take().expect("it runs").ends();
        self.house.stop();
        self.all_is_on_record();
        self.nothing_secret_lies_about();
    }

    /// How large everything is while all machines are here and hold everything.
    fn measured(&mut self) -> Sizes {
        while self.machines.len() < MACHINES {
            self.enrol();
        }
        self.all_is_well();
        measure(&mut self.house, &self.looks)
    }

    fn told(&mut self, what: impl std::fmt::Display) {
        self.log.push(format!("day {}: {what}", self.day));
    }

    fn one_day(&mut self) {
        self.day += 1;
        let wrong_ms = match self.rng.below(12) {
            0 => -3 * DAY_MS,
            1 => 40 * DAY_MS,
            _ => 0,
        };
        if wrong_ms != 0 {
            self.told(format!("the clock is wrong by {} days", wrong_ms / DAY_MS));
            let now_ms = self.house.now_ms() + wrong_ms;
            // What is over for long by then is forgotten, and stays so.
            self.model.tokens.retain(|token| token.expires_ms > now_ms);
            self.set_wrong_ms(wrong_ms);
        }
        self.writes();
        self.edits();
        self.people();
        self.tokens_are_as_they_should();
        self.sync();
        if wrong_ms != 0 {
            self.set_wrong_ms(0);
            self.refused();
            self.tokens_are_as_they_should();
        }
        if self.day.is_multiple_of(7) {
            self.all_is_well();
        }
        for _ in 0..4 {
            self.house.pass(Duration::from_secs(DAY_S / 4));
        }
        // For two months every night, then for two months as it happens.
        if pick(true, (self.day / 60) % 2 == 1) {
            self.house.reboot();
        }
    }

    fn set_wrong_ms(&mut self, wrong_ms: i64) {
        self.house.set_wrong_ms(wrong_ms);
        is_renewed(&mut self.house);
    }

    /// The day's log, and the end of an older one.
    fn writes(&mut self) {
        let count = pick(1300, 400);
        let mut lines = Vec::new();
        for n in 0..count {
            let name = format!("log/{}/{n}", self.day);
            lines.push(format!("put {name} {n}"));
            self.model.values.insert(name, n.to_string());
            let old = format!("log/{}/{n}", self.day.saturating_sub(STAYS_DAYS));
            lines.extend(self.model.values.remove(&old).map(|_| format!("remove {old}")));
        }
        Text::connect(self.house.text()).logged_in(WRITER, &self.writer).say_all(&lines);
        for _ in 0..5 {
            let name = format!("state/{}", self.rng.below(20));
            let value = (!self.rng.one_in(5)).then(|| format!("{}-{}", self.day, self.rng.number()));
            self.put(&name, value.as_deref()).unwrap();
        }
    }

    fn put(&mut self, name: &str, value: Option<&str>) -> Result<(), ClientError> {
        let content = value.map(|value| Content {
            content_type: "text/plain; charset=utf-8".into(),
            bytes: Bytes::copy_from_slice(value.as_bytes()),
        });
        let house = &self.house;
        self.runtime.block_on(async { house.admin().await.put(name.to_owned(), content).await })?;
        match value {
            Some(value) => drop(self.model.values.insert(name.to_owned(), value.to_owned())),
            None => drop(self.model.values.remove(name)),
        }
        Ok(())
    }

    /// New files each day, others are changed, and those of some days ago go.
    fn edits(&mut self) {
        let share = self.house.share();
        let day = share.join(format!("day-{}", self.day));
        fs::create_dir(&day).unwrap();
        for n in 0..10 {
            let count = self.rng.below(4000);
            fs::write(day.join(format!("{n}")), self.rng.bytes(count)).unwrap();
        }
        fs::write(share.join("newest"), self.day.to_string()).unwrap();
        let old = share.join(format!("day-{}", self.day.saturating_sub(STAYS_DAYS)));
        if old.exists() {
            fs::remove_dir_all(old).unwrap();
        }
    }

    /// What people do, and what befalls the hub.
    fn people(&mut self) {
        self.half_way();
        self.refused();
        for event in 0..14 {
            // As often as once in so many days.
            let every = [3, 4, 3, 5, 8, 7, 20, 45, 10, 120, 15, 2, 30, 9][event];
            // Each comes early once.
            if self.day != 1 + event as u64 && !self.rng.one_in(every) {
                continue;
            }
            match event {
                0 => drop(self.token(7 * DAY_S)),
                // One that nobody uses.
                1 => drop(self.invite()),
                2 if self.machines.len() < MACHINES => self.enrol(),
                2 => {}
                3 => self.revoke(),
                4 => self.reissue(),
                5 => self.reboot(),
                6 => self.die(),
                7 => self.upgrade(),
                8 => self.back_up(),
                9 => self.put_back(),
                10 => self.full_disk(),
                11 => drop(self.token(DAY_S)),
                12 => drop(self.token(60 * DAY_S)),
                _ => self.keeper_reboots(),
            }
        }
    }

    fn knows(&mut self, id: u64) {
        note(&mut self.expected, "issued", id);
        note(&mut self.expected, "enrolled", id);
        self.model.clients.insert(id, false);
        *self.keys.entry(id).or_default() += 1;
    }

    fn invite(&mut self) -> InviteCode {
        note(&mut self.expected, "invited", 0);
        let rights = RightsChange::default();
        // No two alike: the same once more in a minute would be counted, and a count is lost with a hub that is killed.
        let expires_s = 2 * DAY_S + self.expected[&("invited".to_owned(), 0)];
        let asked = Question::Invite { uses: 1, expires_s, ids: None, rights, tags: Vec::new() };
        let code = self.runtime.block_on(self.house.invite(asked));
        self.secrets.push(code.reveal());
        code
    }

    fn enrol(&mut self) {
        let (code, id) = (self.invite(), self.next_id);
        self.next_id += 1;
        self.told(format!("{id} enrols"));
        let machine = self.runtime.block_on(Machine::enrolled(&self.house, id, code));
        self.machines.insert(id, machine);
        self.knows(id);
    }

    /// Somebody gets an id and is never seen again.
    fn half_way(&mut self) {
        let (code, id) = (self.invite(), HALF + self.day);
        let unique_id = Text::connect(self.house.text()).is_issued(id, &code.reveal());
        self.secrets.push(unique_id);
        note(&mut self.expected, "issued", id);
    }

    /// Somebody claims to be another.
    fn refused(&mut self) {
        let ids: Vec<u64> = self.machines.keys().copied().collect();
        let id = *self.rng.choose(&ids).expect("some are left");
        let wrong = wire::unique_id::UniqueId::fresh(ClientId::new(id).unwrap()).unwrap();
        Text::connect(self.house.text()).lies(id, &wrong.reveal());
        note(&mut self.expected, "login", id);
    }

    fn token(&mut self, expires_s: u64) -> String {
        let asked = Question::Token { name: None, id: None, may_put: false, administers: false, expires_s };
        let made_ms = self.house.now_ms();
        let Answer::Token { token, .. } = self.runtime.block_on(self.house.ask(asked)) else { panic!("no token") };
        note(&mut self.expected, "token", 0);
        let secret = token.reveal().to_owned();
        let expires_ms = made_ms + i64::try_from(expires_s).unwrap() * 1000;
        self.model.tokens.push(Token { secret: secret.clone(), made_ms, expires_ms });
        self.secrets.push(secret.clone());
        secret
    }

    fn tokens_are_as_they_should(&mut self) {
        let now_ms = self.house.now_ms();
        let recent = self.model.tokens.len().saturating_sub(6);
        for token in self.model.tokens[..1].iter().chain(&self.model.tokens[recent..]) {
            let Some(good) = token.is_good(now_ms) else { continue };
            let (status, said) = get(&self.house, "/api/status", &token.secret);
            assert_eq!(status, if good { 200 } else { 401 }, "day {}, at {now_ms}: {token:?}: {said}", self.day);
        }
        // One that is over stays so, but for a while it is tried.
        self.model.tokens.retain(|token| token.expires_ms + 30 * DAY_MS > now_ms || token.secret == self.looks);
    }

    fn revoke(&mut self) {
        let ids: Vec<u64> = self.machines.keys().copied().collect();
        if ids.len() <= MACHINES / 2 {
            return;
        }
        let id = *self.rng.choose(&ids).expect("there are some");
        let machine = self.machines.remove(&id).expect("it is one of them");
        self.revokes(id);
        self.runtime.block_on(machine.finds_itself_revoked(&self.house));
        forget_key(&self.house, id);
        note(&mut self.expected, "login", id);
    }

    fn revokes(&mut self, id: u64) {
        self.told(format!("{id} is revoked"));
        assert_eq!(self.runtime.block_on(self.house.ask(Question::Revoke { id })), Answer::Done);
        note(&mut self.expected, "revoked", id);
        self.model.clients.insert(id, true);
    }

    fn reissue(&mut self) {
        let ids: Vec<u64> = self.machines.keys().copied().collect();
        let id = *self.rng.choose(&ids).expect("some are left");
        self.told(format!("{id} gets a new unique ID"));
        let code = self.runtime.block_on(self.house.invite(Question::Reissue { id }));
        note(&mut self.expected, "reissued", id);
        drop(self.machines.remove(&id));
        forget_key(&self.house, id);
        let machine = self.runtime.block_on(Machine::enrolled(&self.house, id, code));
        self.machines.insert(id, machine);
        self.knows(id);
    }

    fn keeper_reboots(&mut self) {
        self.told("the machine that keeps the share is started anew");
        self.keeper.take().expect("it runs").ends();
        self.keeper = Some(Keeper::start(&self.house, None));
    }

    /// Most machines hold what the hub holds; some sleep.
    fn sync(&mut self) {
        let today = self.day.to_string();
        self.put("day", Some(&today)).unwrap();
        let awake: Vec<u64> = self.machines.keys().copied().filter(|_| !self.rng.one_in(3)).collect();
        self.catch_up(&awake, &today);
    }

    fn catch_up(&mut self, ids: &[u64], today: &str) {
        for id in ids {
            let machine = self.machines.get_mut(id).expect("it is one of them");
            self.runtime.block_on(machine.catch_up(&self.house, "day", today));
            assert!(machine.held == self.model.values, "day {}: machine {id}: {}", self.day, {
                let differs = |name: &&String| machine.held.get(*name) != self.model.values.get(*name);
                let names = machine.held.keys().chain(self.model.values.keys()).filter(differs);
                names.take(10).cloned().collect::<Vec<_>>().join(" ")
            });
        }
    }

    /// Everybody holds everything, and the hub knows whom it should.
    fn all_is_well(&mut self) {
        let today = format!("{}, looked at", self.day);
        self.put("day", Some(&today)).unwrap();
        let all: Vec<u64> = self.machines.keys().copied().collect();
        self.catch_up(&all, &today);
        // Whoever has just been cut is away until it comes back, which it does by itself.
        let start = Instant::now();
        loop {
            let asked = Question::Wait { target: Some("share".into()), clients: vec![KEEPER], timeout_ms: 10_000 };
            match self.runtime.block_on(self.house.ask(asked)) {
                Answer::Wait(wait) if wait.done => break,
                waits => assert!(start.elapsed() < PATIENCE, "the share is not kept: {waits:?}"),
            }
        }
        same_trees(self.house.share(), self.house.place.join("copy"))
            .unwrap_or_else(|difference| panic!("{difference}"));
        let known: BTreeMap<u64, bool> = self.roster();
        assert_eq!(known, self.model.clients, "day {}", self.day);
        // A key that was lost with what was put back is refused, and nobody else's.
        assert!(self.runtime.block_on(log_in(&self.house, self.next_id + 100, None)).is_err(), "it has no invite");
    }

    /// Who is known, and whether it was revoked; without those of today who never confirmed.
    fn roster(&self) -> BTreeMap<u64, bool> {
        let (mut known, mut after) = (BTreeMap::new(), 0);
        loop {
            let asked = Question::Clients { all: true, after };
            let Answer::Clients(rows) = self.runtime.block_on(self.house.ask(asked)) else { panic!("no rows") };
            let Some(last) = rows.last() else { return known };
            after = last.id;
            let today = |id: u64, state: ClientState| id == HALF + self.day && state == ClientState::Provisional;
            let rows = rows.iter().filter(|row| !today(row.id, row.state));
            known.extend(rows.map(|row| (row.id, row.state == ClientState::Revoked)));
        }
    }

    fn all_is_on_record(&mut self) {
        let mut found = std::mem::take(&mut self.read);
        record_of(&self.house.data(), &mut found);
        for (event, times) in &self.expected {
            assert_eq!(found.get(event), Some(times), "{event:?}");
        }
    }

    fn nothing_secret_lies_about(&self) {
        for file in fs::read_dir(self.house.data()).unwrap().map(|file| file.unwrap().path()) {
            let Ok(bytes) = fs::read(&file) else { continue };
            let text = String::from_utf8_lossy(&bytes);
            let found = self.secrets.iter().filter(|secret| text.contains(secret.as_str())).count();
            assert_eq!(found, 0, "{} holds secrets", file.display());
        }
    }
}

/// Adds what is on record in a data directory.
fn record_of(data: &Path, record: &mut Record) {
    for (file, refused) in [("audit.jsonl", false), ("audit-refused.jsonl", true)] {
        for part in ["", ".1", ".2", ".3"] {
            let text = fs::read_to_string(data.join(format!("{file}{part}"))).unwrap_or_default();
            for line in text.lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                let event = line["event"].as_str().unwrap();
                // Who comes in is not counted here, as it depends on who was cut; nor whose token is not good.
                if (event == "login") != refused {
                    continue;
                }
                let times = line["repeated"].as_u64().unwrap_or(1);
                let id = line["id"].as_u64().unwrap_or_default();
                *record.entry((event.to_owned(), id)).or_default() += times;
            }
        }
    }
}
