//! What an agent as a whole promises: which share goes where, and what it does with a hub that cuts, stops or lies.

use super::*;
use crate::event::Event;
use crate::testing::tls::{Caller, TlsHub};
use crate::testing::{DEADLINE, dir, file, record};
use bytes::Bytes;
use std::path::Path;
use std::sync::Mutex;
use wire::limits::KEPT_VALUES_MAX;
use wire::message::{Batch, Mark, Record, ShareInfo, ToClient, ToHub};
use wire::unique_id::UniqueId;

fn config(shares: &[(&str, Option<&str>)], directory: Option<&str>) -> Config {
    Config {
        data_dir: PathBuf::new(),
        addresses: Vec::new(),
        trust: Trust::Ask(Arc::new(|_, _| dial::Decision::No)),
        invite: None,
        id: Id::Auto,
        name: String::new(),
        software: String::new(),
        shares: shares.iter().map(|(name, dir)| ((*name).to_owned(), dir.map(PathBuf::from))).collect(),
        values: Vec::new(),
        directory: directory.map(PathBuf::from),
        adopt: false,
        allow_mass_delete: false,
        runs: LastRuns::default(),
        procfs: "/proc".into(),
        own: HashSet::new(),
    }
}

fn offered(names: &[&str]) -> Vec<ShareInfo> {
    let info = |name: &&str| ShareInfo { name: (*name).to_owned(), entries: 0, bytes: 0, complete: true };
    names.iter().map(info).collect()
}

#[test]
fn the_only_share_needs_no_name_and_a_later_join_nothing_at_all() {
    let memory = Memory::default();
    let chosen = choose::shares(&config(&[], Some("/copy")), &memory, &offered(&["docs"])).unwrap();
    assert_eq!(chosen, [("docs".to_owned(), "/copy".into())]);
    let later = Memory { shares: chosen.clone(), ..Memory::default() };
    assert_eq!(choose::shares(&config(&[], None), &later, &offered(&["a", "docs"])).unwrap(), chosen);
}

#[test]
fn of_several_shares_one_has_to_be_named() {
    let memory = Memory::default();
    let told = choose::shares(&config(&[], None), &memory, &offered(&["a", "b"])).unwrap_err();
    assert!(told.to_string().contains("a, b"), "{told}");
    let chosen = choose::shares(&config(&[("a", Some("/x")), ("b", Some("/y"))], None), &memory, &offered(&["a", "b"]));
    assert_eq!(chosen.unwrap().len(), 2);
    let told = choose::shares(&config(&[("c", None)], None), &memory, &offered(&["a"])).unwrap_err();
    assert!(matches!(told, Error::NoSuchShare { .. }));
}

#[test]
fn a_share_that_is_named_and_was_kept_is_kept_on_while_the_hub_does_not_give_it() {
    let named = config(&[("a", Some("/x")), ("b", Some("/y"))], None);
    let kept = choose::shares(&named, &Memory::default(), &offered(&["a", "b"])).unwrap();
    let memory = Memory { shares: kept.clone(), ..Memory::default() };
    for now in [&["b"][..], &[]] {
        assert_eq!(choose::shares(&named, &memory, &offered(now)).unwrap(), kept);
    }
    // One that was never kept is a name mistyped, perhaps.
    let other = config(&[("a", None), ("c", None)], None);
    let told = choose::shares(&other, &memory, &offered(&["b"])).unwrap_err();
    assert!(told.to_string().contains("no share c; it has: b"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_would_be_the_agents_own_directory_is_refused_and_the_key_stays() {
    for leads_to in ["data", "."] {
        let (hub, home) = (TlsHub::new().await, tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(leads_to, home.path().join("copy")).unwrap();
        let serving = async {
            let mut caller = hub.accept().await;
            let_in(&mut caller, None, 4).await;
            // Whatever else it says is not answered.
            while caller.hear().await.is_some() {}
        };
        let config = Config { adopt: true, ..of_hub(&hub, home.path()) };
        let ((done, _), ()) = tokio::join!(agent_with(config, std::future::pending()), serving);
        let told = done.unwrap_err();
        assert!(matches!(told, Error::Overlap { of: Some(_), .. }), "{leads_to}: {told}");
        let (told, data) = (told.to_string(), home.path().join("data"));
        assert!(told.contains(data.to_str().unwrap()) && told.contains("with its key"), "{told}");
        assert!(data.join("key.json").exists());
    }
}

#[test]
fn who_asks_for_values_alone_gets_no_share_beside_them_also_later() {
    let asked = Config { values: vec![("price*".into(), "/values".into())], ..config(&[], None) };
    for hub in [offered(&[]), offered(&["docs"]), offered(&["a", "b"])] {
        assert_eq!(choose::shares(&asked, &Memory::default(), &hub).unwrap(), []);
        let values = choose::values(&asked, &Memory::default()).unwrap();
        let later = Memory { values, ..Memory::default() };
        assert_eq!(choose::shares(&config(&[], None), &later, &hub).unwrap(), []);
        assert_eq!(choose::values(&config(&[], None), &later).unwrap(), later.values);
        let also = [("docs", None)];
        assert_eq!(choose::shares(&config(&also, Some("/copy")), &later, &offered(&["docs"])).unwrap().len(), 1);
    }
    let both = Config { directory: Some("/copy".into()), ..asked };
    assert_eq!(choose::shares(&both, &Memory::default(), &offered(&["docs"])).unwrap().len(), 1);
}

#[test]
fn values_are_added_to_those_that_are_remembered_and_a_pattern_has_one_directory() {
    let memory = Memory { values: vec![("a*".into(), "/a".into())], ..Memory::default() };
    let values = |patterns: &[&str]| {
        let values = patterns.iter().map(|pattern| ((*pattern).to_owned(), format!("/new/{pattern}").into())).collect();
        choose::values(&Config { values, ..config(&[], None) }, &memory)
    };
    let chosen = values(&["b", "a*"]).unwrap();
    assert_eq!(chosen, [("a*".to_owned(), PathBuf::from("/new/a*")), ("b".to_owned(), "/new/b".into())]);
    assert!(matches!(values(&[""]), Err(Error::Pattern { .. })));
    let many: Vec<String> = (1..=KEPT_VALUES_MAX).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(values(&many[1..]).is_ok() && matches!(values(&many), Err(Error::TooManyPatterns)));
}

#[test]
fn reconnects_are_spread_and_never_slower_than_the_limit() {
    let waits: HashSet<Duration> = (0..100).map(|_| jittered(3)).collect();
    assert!(waits.len() > 50 && waits.iter().all(|wait| *wait <= RETRY_FIRST * 8));
    assert!((0..100).all(|tries| jittered(tries) <= RETRY_MAX));
}

type Seen = Arc<Mutex<Vec<Event>>>;

/// An agent of this hub, and what it tells.
async fn agent_of(hub: &TlsHub, home: &Path, stop: impl Future<Output = ()> + Send) -> (Result<Summary, Error>, Seen) {
    agent_with(of_hub(hub, home), stop).await
}

fn of_hub(hub: &TlsHub, home: &Path) -> Config {
    Config {
        data_dir: home.join("data"),
        addresses: vec![hub.address.clone()],
        trust: Trust::Known(hub.fingerprint),
        id: if home.join("data/key.json").exists() { Id::Remembered } else { Id::This(ClientId::new(7).unwrap()) },
        name: "machine".into(),
        software: "test".into(),
        directory: Some(home.join("copy")),
        ..config(&[], None)
    }
}

async fn agent_with(config: Config, stop: impl Future<Output = ()> + Send) -> (Result<Summary, Error>, Seen) {
    let seen = Seen::default();
    let telling = Arc::clone(&seen);
    let run = run(config, move |event| telling.lock().unwrap().push(event), stop);
    let done = tokio::time::timeout(DEADLINE, run).await;
    (done.unwrap_or_else(|_| panic!("the agent goes on: {:?}", seen.lock().unwrap())), seen)
}

/// Lets a client in, up to a step: 0 nothing, 1 hello, 2 asked, 3 issued or asked for the proof, 4 in.
async fn let_in(caller: &mut Caller, known: Option<&UniqueId>, steps: u32) -> Option<UniqueId> {
    if steps < 1 {
        return None;
    }
    assert!(matches!(caller.hear().await, Some(ToHub::Hello { .. })));
    caller.say(ToClient::Hello { version: wire::PROTOCOL_VERSION, software: "test".into(), hub: "hub".into() }).await;
    if steps < 2 {
        return None;
    }
    caller.say(ToClient::AskId).await;
    let Some(ToHub::Id { id, .. }) = caller.hear().await else { panic!("no ID") };
    assert_eq!(id, "7");
    if steps < 3 {
        return None;
    }
    let issued = match known {
        None => {
            let unique_id = UniqueId::fresh(ClientId::new(7).unwrap()).unwrap();
            caller.say(ToClient::Issued { unique_id: unique_id.reveal().into() }).await;
            assert!(matches!(caller.hear().await, Some(ToHub::Confirm)));
            unique_id
        }
        Some(known) => {
            caller.say(ToClient::AskUniqueId).await;
            let Some(ToHub::UniqueId { unique_id }) = caller.hear().await else { panic!("no proof") };
            assert_eq!(unique_id.reveal(), known.reveal());
            known.clone()
        }
    };
    if steps >= 4 {
        caller
            .say(ToClient::Welcome(Welcome {
                id: 7,
                token: wire::secret::Token([1; 32]),
                hub: "hub".into(),
                shares: offered(&["docs"]),
                silence_max_ms: 15_000,
            }))
            .await;
    }
    Some(issued)
}

/// Answers the follow of the only share; its batches are of group 5.
async fn followed(caller: &mut Caller) {
    loop {
        if let Some(ToHub::Follow { fid, .. }) = caller.hear().await {
            return caller.say(ToClient::Following { fid, group: 5, epoch: 1, run: 1, reset: true }).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_login_that_is_cut_at_any_step_ends_the_agent_and_does_not_go_on_for_ever() {
    for steps in 0..4 {
        let (hub, home) = (TlsHub::new().await, tempfile::tempdir().unwrap());
        let serving = async {
            let mut caller = hub.accept().await;
            let issued = let_in(&mut caller, None, steps).await;
            drop(caller);
            issued
        };
        let ((done, _), issued) = tokio::join!(agent_of(&hub, home.path(), std::future::pending()), serving);
        let told = done.unwrap_err();
        assert!(matches!(told, Error::Connection(_)) && told.to_string().contains(&hub.address), "{steps}: {told}");
        // What was issued is kept, and the next join proves itself with it.
        assert_eq!(home.path().join("data/key.json").exists(), issued.is_some());
        let Some(issued) = issued else { continue };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = async {
            let mut caller = hub.accept().await;
            let_in(&mut caller, Some(&issued), 4).await;
            followed(&mut caller).await;
            stop.send(()).unwrap();
        };
        let agent = agent_of(&hub, home.path(), async { drop(stopped.await) });
        let ((done, _), ()) = tokio::join!(agent, serving);
        assert_eq!(done.unwrap().id, Some(7));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_nobody_reaches_ends_a_first_join() {
    let (mut nobody, home) = (TlsHub::new().await, tempfile::tempdir().unwrap());
    nobody.address = "127.0.0.1:1".into();
    let (done, _) = agent_of(&nobody, home.path(), std::future::pending()).await;
    assert!(matches!(done, Err(Error::Dial(_))), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn once_joined_it_comes_back_at_once_after_a_stop_and_slower_to_a_hub_that_sends_it_away() {
    let (hub, home) = (TlsHub::new().await, tempfile::tempdir().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = async {
        let mut caller = hub.accept().await;
        let issued = let_in(&mut caller, None, 4).await.unwrap();
        followed(&mut caller).await;
        let text = "the hub is stopping".to_owned();
        caller.say(ToClient::Bye(Refusal { code: Code::Stopping, text, retry_ms: Some(0) })).await;
        drop(caller);
        // Then it cuts every session at once, after having let it in.
        for steps in [4, 4, 3, 0, 4] {
            let mut caller = hub.accept().await;
            let_in(&mut caller, Some(&issued), steps).await;
        }
        stop.send(()).unwrap();
    };
    let agent = agent_of(&hub, home.path(), async { drop(stopped.await) });
    let ((done, seen), ()) = tokio::join!(agent, serving);
    done.unwrap();
    let seen = seen.lock().unwrap();
    let waits = seen.iter().filter_map(|event| match event {
        Event::Disconnected { why, retry_in } => Some((why.clone(), *retry_in)),
        _ => None,
    });
    let waits: Vec<_> = waits.collect();
    assert!(waits[0].0.contains("stopping") && waits[0].1 <= RETRY_FIRST, "{waits:?}");
    for (tries, (_, wait)) in (1..).zip(&waits[1..]) {
        assert!(*wait <= RETRY_FIRST * (1 << tries), "{waits:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn once_joined_it_comes_back_also_while_it_cannot_note_where_the_hub_is() {
    let (hub, home) = (TlsHub::new().await, tempfile::tempdir().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = async {
        let mut caller = hub.accept().await;
        let issued = let_in(&mut caller, None, 4).await.unwrap();
        followed(&mut caller).await;
        // Stands where the new one would be written, and cannot be removed: as good as a full disk.
        let in_the_way = home.path().join("data/.agent.json.new");
        std::fs::create_dir(&in_the_way).unwrap();
        drop(caller);
        let mut caller = hub.accept().await;
        let_in(&mut caller, Some(&issued), 4).await;
        followed(&mut caller).await;
        assert!(in_the_way.exists(), "it could not");
        stop.send(()).unwrap();
        caller
    };
    let agent = agent_of(&hub, home.path(), async { drop(stopped.await) });
    let ((done, _), _caller) = tokio::join!(agent, serving);
    done.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_holds_something_else_ends_the_agent_with_what_would_become_of_it() {
    let (hub, home) = (TlsHub::new().await, tempfile::tempdir().unwrap());
    std::fs::create_dir(home.path().join("copy")).unwrap();
    std::fs::write(home.path().join("copy/precious"), "mine").unwrap();
    let serving = async {
        let mut caller = hub.accept().await;
        let_in(&mut caller, None, 4).await;
        followed(&mut caller).await;
        let entry =
            |record: board::Record| Record { name: record.name, seq: record.seq, value: record.value, inline: None };
        let records = vec![entry(record(b"", 1, Some(&dir()))), entry(record(b"a", 2, Some(&file(b"a"))))];
        let walk = Mark::Walk { head: 2, upto: Bytes::from_static(b"a"), last: true, reset: true };
        caller.say(ToClient::Batch(Batch { group: 5, records, mark: walk })).await;
        let current = Mark::Live { from: 2, to: 2, view: 2, current: Some([0; 32]) };
        caller.say(ToClient::Batch(Batch { group: 5, records: Vec::new(), mark: current })).await;
        caller
    };
    let ((done, _), _caller) = tokio::join!(agent_of(&hub, home.path(), std::future::pending()), serving);
    match done.unwrap_err() {
        Error::NotKept { source: KeeperError::NotEmpty(found), .. } => assert_eq!(found.deleted, 1),
        other => panic!("{other}"),
    }
    assert_eq!(std::fs::read_to_string(home.path().join("copy/precious")).unwrap(), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_group_that_nobody_follows_end_the_session() {
    let (hub, home) = (TlsHub::new().await, tempfile::tempdir().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = async {
        let mut caller = hub.accept().await;
        let issued = let_in(&mut caller, None, 4).await.unwrap();
        followed(&mut caller).await;
        let mark = Mark::Live { from: 0, to: 0, view: 0, current: None };
        caller.say(ToClient::Batch(Batch { group: 6, records: Vec::new(), mark })).await;
        // It hangs up, and comes back.
        while caller.hear().await.is_some() {}
        let mut caller = hub.accept().await;
        let_in(&mut caller, Some(&issued), 4).await;
        stop.send(()).unwrap();
        caller
    };
    let agent = agent_of(&hub, home.path(), async { drop(stopped.await) });
    let ((done, seen), _caller) = tokio::join!(agent, serving);
    done.unwrap();
    let seen = seen.lock().unwrap();
    let told = |event: &Event| matches!(event, Event::Disconnected { why, .. } if why.contains("entries that nobody"));
    assert!(seen.iter().any(told), "{seen:?}");
}
