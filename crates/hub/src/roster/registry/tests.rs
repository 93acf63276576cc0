use super::*;
use crate::core::testing;
use crate::counts::Via;
use crate::io::Incoming;
use crate::presence::Arrival;
use crate::reception::at_the_desk;
use crate::session::{self, Role};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use wire::answer::Question;
use wire::codec::encode_frame;
use wire::login::{Login, Then};
use wire::message::{Code, Purpose, ToClient, ToHub};
use wire::roster::{Grant, Ground, Known, Origin, Roster as _};
use wire::unique_id::UniqueId;

/// A registry on a file that somebody else can hold, and look into.
struct Scene {
    registry: Registry,
    thread: RegistryThread,
    other: rusqlite::Connection,
    tables: Arc<Notify>,
    dir: tempfile::TempDir,
}

/// `patient`: waits for whoever holds the file; else fails at once.
fn scene(patient: bool) -> Scene {
    let (dir, tables) = (tempfile::tempdir().unwrap(), Arc::new(Notify::new()));
    let path = dir.path().join("roster.db");
    let (roster, store) = Roster::open(&path).unwrap();
    if !patient {
        store.impatient();
    }
    let (registry, thread) = Registry::start_with(roster, store, Arc::clone(&tables));
    let other = rusqlite::Connection::open(&path).unwrap();
    other.busy_timeout(Duration::from_secs(30)).unwrap();
    Scene { registry, thread, other, tables, dir }
}

impl Scene {
    fn hold(&self) {
        self.other.execute_batch("BEGIN IMMEDIATE").unwrap();
    }

    fn let_go(&self) {
        self.other.execute_batch("ROLLBACK").unwrap();
    }

    /// The state of a client on disk.
    fn on_disk(&self, at: u64) -> Option<i64> {
        let at = i64::try_from(at).unwrap();
        self.other.query_row("SELECT state FROM clients WHERE id = ?1", [at], |row| row.get(0)).ok()
    }

    fn known(&self, at: u64) -> Option<Known> {
        self.registry.look().lookup(id(at))
    }
}

fn id(at: u64) -> ClientId {
    ClientId::new(at).unwrap()
}

fn issue(unique_id: &UniqueId) -> impl FnOnce(&mut Roster) -> Result<(), RosterError> {
    let grant = Grant {
        id: unique_id.id(),
        name: "machine".into(),
        hash: unique_id.hash(),
        origin: Origin { address: "192.0.2.1".into(), invite: None },
        ground: Ground::New,
        rights: Default::default(),
        tags: Vec::new(),
        now_ms: 10,
    };
    move |roster| roster.issue(&grant)
}

fn confirm(unique_id: &UniqueId) -> impl FnOnce(&mut Roster) -> Result<bool, RosterError> {
    let (id, hash) = (unique_id.id(), unique_id.hash());
    move |roster| roster.confirm(id, &hash, 11)
}

fn keys(count: u64) -> Vec<UniqueId> {
    (1..=count).map(|at| UniqueId::fresh(id(at)).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m3_3_each_of_many_at_once_is_on_disk_when_it_is_told() {
    let scene = Arc::new(Mutex::new(scene(true)));
    let registry = Registry(Arc::clone(&scene.lock().unwrap().registry.0));
    let registry = Arc::new(registry);
    let begun = Instant::now();
    let mut told = tokio::task::JoinSet::new();
    for unique_id in keys(400) {
        let (registry, scene) = (Arc::clone(&registry), Arc::clone(&scene));
        told.spawn(async move {
            let at = unique_id.id().get();
            registry.change(issue(&unique_id)).await.unwrap();
            assert!(scene.lock().unwrap().on_disk(at).is_some(), "{at} was told and is not on disk");
            assert!(registry.change(confirm(&unique_id)).await.unwrap());
            assert_eq!(scene.lock().unwrap().on_disk(at), Some(2), "{at} was confirmed and is not on disk");
        });
    }
    while let Some(done) = told.join_next().await {
        done.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn who_waits_for_the_disk_is_told_nothing_and_holds_nobody_up() {
    let scene = scene(true);
    let all = keys(4);
    scene.registry.change(issue(&all[0])).await.unwrap();
    scene.registry.change(confirm(&all[0])).await.unwrap();
    scene.hold();
    let (issued, first) = scene.registry.step(issue(&all[1]), |_| None);
    // It is known to whoever decides next: nobody else is issued the same id.
    assert_eq!((issued, scene.known(2).is_some()), (Ok(()), true));
    let (again, nothing) = scene.registry.step(issue(&all[1]), |_| None);
    assert!(again.is_err() && matches!(nothing, Kept::Already));
    // A known client proves itself without the disk; one that is only about to be confirmed waits for it.
    let (known, at_once) = scene.registry.step(confirm(&all[0]), |_| Some(id(1)));
    assert!(matches!((known, at_once), (Ok(true), Kept::Already)));
    let (confirmed, second) = scene.registry.step(confirm(&all[1]), |_| Some(id(2)));
    let (proved, third) = scene.registry.step(confirm(&all[1]), |_| Some(id(2)));
    assert_eq!((confirmed, proved), (Ok(true), Ok(true)));
    let mut waiting = Vec::new();
    for kept in [first, second, third] {
        let Kept::Soon(mut answer) = kept else { panic!("told before it is on disk") };
        assert!(answer.try_recv().is_err());
        waiting.push(answer);
    }
    assert_eq!(scene.on_disk(2), None);
    scene.let_go();
    for answer in waiting {
        assert_eq!(answer.await, Ok(Ok(())));
    }
    assert_eq!(scene.on_disk(2), Some(2));
}

#[tokio::test]
async fn what_gathers_while_the_disk_is_busy_is_synced_at_once() {
    let scene = scene(true);
    let log = scene.dir.path().join("roster.db-wal");
    // A log is a head of 32 bytes and frames: a head of 24, in which bytes 4 to 8 are not zero where a commit ends, and a page.
    let commits = || {
        let bytes = std::fs::read(&log).unwrap();
        bytes[32..].chunks_exact(24 + 4096).filter(|frame| frame[4..8] != [0; 4]).count()
    };
    let all = keys(100);
    scene.registry.change(issue(&all[0])).await.unwrap();
    let before = commits();
    scene.hold();
    let waiting: Vec<Kept> = all[1..].iter().map(|key| scene.registry.step(issue(key), |_| None).1).collect();
    scene.let_go();
    for kept in waiting {
        kept.wait().await.unwrap();
    }
    assert!((2..=100).all(|at| scene.on_disk(at).is_some()));
    // What was begun when the disk became busy, and what gathered behind it.
    assert!(commits() - before <= 2, "{} commits", commits() - before);
}

#[tokio::test]
async fn what_the_disk_does_not_take_is_undone_for_each_and_the_next_is_kept_again() {
    let scene = scene(false);
    let all = keys(3);
    scene.registry.change(issue(&all[0])).await.unwrap();
    scene.hold();
    let (_, issued) = scene.registry.step(issue(&all[1]), |_| None);
    let error = issued.wait().await.unwrap_err().to_string();
    assert!(error.contains("roster.db"), "{error}");
    let error = scene.registry.change(confirm(&all[0])).await.unwrap_err().to_string();
    assert!(error.contains("roster.db"), "{error}");
    assert!(scene.known(2).is_none() && matches!(scene.known(1), Some(Known::Provisional { .. })));
    // Notes wait for the next time.
    let about = About { name: "box", address: "::1", transport: "native", version: "0.1.0" };
    scene.registry.note_login(id(1), &about, 12);
    let registry = Registry(Arc::clone(&scene.registry.0));
    let (registry, failed) = tokio::task::spawn_blocking(move || {
        let failed = registry.flush();
        (registry, failed)
    })
    .await
    .unwrap();
    assert!(failed.is_err());
    scene.let_go();
    scene.registry.change(issue(&all[1])).await.unwrap();
    assert_eq!((scene.on_disk(1), scene.on_disk(2)), (Some(0), Some(0)));
    tokio::task::spawn_blocking(move || registry.flush().unwrap()).await.unwrap();
    let name: String = scene.other.query_row("SELECT name FROM clients WHERE id = 1", [], |row| row.get(0)).unwrap();
    assert_eq!(name, "box");
}

#[tokio::test]
async fn a_login_whose_change_is_not_kept_is_told_so_and_no_unique_id() {
    let Scene { registry, thread: _thread, other, tables, dir } = scene(false);
    let (hub, _data) = testing::hub("hub", dir.path(), registry, tables);
    let address = "192.0.2.1".parse().unwrap();
    let hello = || ToHub::Hello { versions: (1, 1), software: "test".into(), purpose: Purpose::Login };
    let asked = || ToHub::Id { id: "7".into(), invite: None, name: String::new() };
    let mut login = Login::new("192.0.2.1", &hub.policy(), hub.now());
    at_the_desk(&hub, address, Via::Native, &mut login, Some(hello())).await;
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let step = at_the_desk(&hub, address, Via::Native, &mut login, Some(asked())).await;
    let [ToClient::Refused(refusal)] = step.say.as_slice() else { panic!("{step:?}") };
    assert!(refusal.code == Code::HubFailed && refusal.retry_ms.is_some(), "{refusal:?}");
    assert_eq!(step.then, Then::End);
    other.execute_batch("ROLLBACK").unwrap();
    // As if it had never come.
    let mut login = Login::new("192.0.2.1", &hub.policy(), hub.now());
    at_the_desk(&hub, address, Via::Native, &mut login, Some(hello())).await;
    let step = at_the_desk(&hub, address, Via::Native, &mut login, Some(asked())).await;
    assert!(matches!(step.say.as_slice(), [ToClient::Issued { .. }]), "{step:?}");
}

/// What is on record of that event.
fn on_record(dir: &tempfile::TempDir, event: &str) -> usize {
    let text = std::fs::read_to_string(dir.path().join("audit.jsonl")).unwrap();
    text.lines().filter(|line| line.contains(&format!("\"event\":\"{event}\""))).count()
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(30), "no {what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_change_whose_asker_hangs_up_is_told_to_whom_it_concerns_and_put_on_record() {
    let Scene { registry, thread: _thread, other, tables, dir } = scene(true);
    registry.change(issue(&keys(1)[0])).await.unwrap();
    let (hub, _data) = testing::hub("hub", dir.path(), registry, tables);
    let arrival = Arrival {
        id: 1,
        token: wire::secret::Token::fresh().unwrap(),
        name: "machine".into(),
        address: "192.0.2.1:7".into(),
        transport: "native",
        access: hub.access_of(id(1)),
    };
    let session = hub.presence.enter(arrival);
    let (mut asker, stream) = tokio::io::duplex(4096);
    let (from, to) = tokio::io::split(stream);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let serving = tokio::spawn(session::serve(Arc::clone(&hub), Role::Local, Incoming::new(from), to));
    let question = ToHub::Ask { req: 1, question: Question::Revoke { id: 1 } };
    asker.write_all(&encode_frame(&question).unwrap()).await.unwrap();
    until("change", || hub.roster().client(id(1)).unwrap().known == Known::Revoked).await;
    drop(asker);
    serving.await.unwrap();
    assert_eq!(on_record(&dir, "revoked"), 0, "nothing is said before it is on disk");
    other.execute_batch("ROLLBACK").unwrap();
    // As a hub does that stops.
    tokio::time::timeout(Duration::from_secs(30), hub.begun.all()).await.unwrap();
    assert_eq!(on_record(&dir, "revoked"), 1);
    let ended = tokio::time::timeout(Duration::from_secs(30), session.ended()).await.unwrap();
    assert_eq!(ended.code, Code::Revoked);
}

#[tokio::test]
async fn a_login_that_hangs_up_while_the_disk_is_waited_for_is_on_record() {
    let Scene { registry, thread: _thread, other, tables, dir } = scene(true);
    let (hub, _data) = testing::hub("hub", dir.path(), registry, tables);
    let address = "192.0.2.1".parse().unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let login = {
        let hub = Arc::clone(&hub);
        tokio::spawn(async move {
            let mut login = Login::new("192.0.2.1", &hub.policy(), hub.now());
            let hello = ToHub::Hello { versions: (1, 1), software: "test".into(), purpose: Purpose::Login };
            at_the_desk(&hub, address, Via::Http, &mut login, Some(hello)).await;
            let asked = ToHub::Id { id: "7".into(), invite: None, name: String::new() };
            at_the_desk(&hub, address, Via::Http, &mut login, Some(asked)).await;
        })
    };
    until("issued id", || hub.roster().client(id(7)).is_some()).await;
    login.abort();
    assert!(login.await.unwrap_err().is_cancelled());
    assert_eq!(on_record(&dir, "issued"), 0);
    other.execute_batch("ROLLBACK").unwrap();
    tokio::time::timeout(Duration::from_secs(30), hub.begun.all()).await.unwrap();
    assert_eq!(on_record(&dir, "issued"), 1);
}

#[tokio::test]
async fn a_stopped_registry_writes_what_it_has_and_takes_nothing_more() {
    let Scene { registry, thread, other, dir: _dir, .. } = scene(true);
    let all = keys(2);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (_, kept) = registry.step(issue(&all[0]), |_| None);
    registry.stop();
    let error = registry.change(issue(&all[1])).await.unwrap_err().to_string();
    assert!(error.contains("stopping"), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(kept.wait().await, Ok(()));
    tokio::task::spawn_blocking(move || thread.join()).await.unwrap();
    assert!(registry.change(issue(&all[1])).await.is_err());
}
