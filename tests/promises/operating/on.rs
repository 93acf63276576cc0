//! `lockstep hub --on EVENT=CMD`: a command of the administrator's is run when something happens, and nothing waits for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use support::{Cluster, PATIENCE, Scratch, Tree, scratch, until};
use wire::answer::Question;
use wire::message::{Ack, Code, ToClient, ToHub};
use wire::unique_id::UniqueId;

use crate::login::{empty_hub, hub_log, stdout};
use crate::speaker::Speaker;
use crate::web::Web;

/// A script, and what it was told.
struct Script {
    dir: Scratch,
}

impl Script {
    /// Notes its environment and its standard input, then does `more`.
    fn new(more: &str) -> Self {
        let dir = scratch();
        let path = dir.join("script");
        let told = dir.join("told").display().to_string();
        let text = format!(
            "#!/bin/sh\necho begin >> {told}-runs\ncat > {told}-now\n\
             echo \"$LOCKSTEP_EVENT|$LOCKSTEP_CLIENT|$LOCKSTEP_SHARE|$LOCKSTEP_EVENTS|$*\" >> {told}-env\n\
             cat {told}-now >> {told}\n{more}\necho end >> {told}-runs\n"
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("script")
    }

    /// What `--on` is given.
    fn on(&self, event: &str) -> String {
        format!("{event}={}", self.path().display())
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    /// The events it was told, each a line of printable ASCII.
    fn told(&self) -> Vec<Value> {
        let text = self.text("told");
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let line = |line: &str| {
            assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        whole.split('\n').filter(|line| !line.is_empty()).map(line).collect()
    }

    fn environments(&self) -> Vec<String> {
        self.text("told-env").lines().map(str::to_owned).collect()
    }
}

/// A client that follows something, so that it is more than a command that comes and goes.
fn member(cluster: &Cluster, id: u64, unique_id: Option<&UniqueId>) -> (Speaker, UniqueId) {
    let (mut speaker, unique_id) = Speaker::logged_in(&cluster.address(), id, unique_id);
    follow(&mut speaker, "data");
    (speaker, unique_id)
}

/// Follows a whole board, and acknowledges nothing.
fn follow(speaker: &mut Speaker, board: &str) -> wire::message::Version {
    speaker.say(&ToHub::Follow { fid: 1, board: board.to_owned(), pattern: "*".into(), cursor: None });
    loop {
        if let ToClient::Following { epoch, run, .. } = speaker.hear() {
            return wire::message::Version { epoch, run, seq: 0 };
        }
    }
}

fn status(cluster: &Cluster) -> Value {
    serde_json::from_str(&stdout(cluster.run(&["status", "--json"]))).unwrap()
}

fn ids(told: &[Value]) -> Vec<u64> {
    told.iter().filter_map(|event| event["id"].as_u64()).collect()
}

const HOSTILE: &str = "a\u{2028}b\u{85}c $(touch pwned) `id` \u{202e}\"';|";

#[test]
fn m3_5_who_goes_away_is_told_and_who_comes_back_leaves_for_good_or_is_revoked_is_not() {
    let script = Script::new("");
    let cluster = empty_hub(&["--on", &script.on("away")]);
    let (first, unique_id) = member(&cluster, 7, None);
    drop(first);
    stdout(cluster.run(&["clients", "rename", "7", &HOSTILE.replace('\u{85}', "")]));
    let (back, again) = member(&cluster, 8, None);
    let (revoked, _) = member(&cluster, 9, None);
    let (mut leaves, _) = member(&cluster, 10, None);
    let visitor = Speaker::logged_in(&cluster.address(), 11, None).0;
    let (seven, _) = member(&cluster, 7, Some(&unique_id));
    drop((back, visitor));
    let _eight = member(&cluster, 8, Some(&again));
    stdout(cluster.run(&["clients", "revoke", "9"]));
    leaves.say(&ToHub::Ask { req: 1, question: Question::Leave });
    while !matches!(leaves.hear(), ToClient::Answer { .. }) {}
    drop((revoked, leaves));
    // The last to leave, so that whoever is told of it had been told of the others.
    drop(seven);
    until(PATIENCE, "the one that is away", || !script.told().is_empty());
    let told = script.told();
    assert_eq!(ids(&told), [7], "{told:#?}");
    let event = &told[0];
    assert_eq!(event["event"], "away");
    assert_eq!(event["name"], HOSTILE.replace('\u{85}', ""), "as it is, and on one line");
    assert!(event["address"].as_str().unwrap().starts_with("127.0.0.1:") && event["why"].is_string(), "{event}");
    assert!(event["since"].as_str().unwrap() <= event["at"].as_str().unwrap(), "{event}");
    // Nothing that a client says is an argument, a variable, or is run.
    assert_eq!(script.environments(), ["away|7||1|"]);
    assert!(!Path::new("pwned").exists() && !cluster.path().join("pwned").exists());
    until(PATIENCE, "the run to be told", || status(&cluster)["on"][0]["runs"] == 1);
    let on = &status(&cluster)["on"][0];
    assert_eq!(
        (&on["event"], &on["failed"], &on["last"]["code"], &on["last"]["told"]),
        (&"away".into(), &0.into(), &0.into(), &1.into())
    );
    assert!(hub_log(&cluster).contains("on away: "), "{}", hub_log(&cluster));
}

#[test]
fn what_happens_while_a_command_runs_is_told_to_the_next_run_and_nobody_waits_for_it() {
    let script = Script::new("[ -e \"${0%/*}/go\" ] || while [ ! -e \"${0%/*}/go\" ]; do sleep 0.05; done");
    let cluster = empty_hub(&["--on", &script.on("away"), "--away-after", "1ms"]);
    let clients: Vec<Speaker> = (1..=4).map(|id| member(&cluster, id, None).0).collect();
    let mut clients = clients.into_iter();
    drop(clients.next());
    until(PATIENCE, "the first run to begin", || script.told().len() == 1);
    drop(clients);
    until(PATIENCE, "the others to wait", || status(&cluster)["on"][0]["waiting"] == 3);
    let on = &status(&cluster)["on"][0];
    assert!(on["running"] == true && on["runs"] == 0, "{on}");
    // The hub is as quick as ever.
    stdout(cluster.run(&["put", "x", "1"]));
    assert_eq!(script.text("told-runs"), "begin\n");
    fs::write(script.dir.join("go"), "").unwrap();
    until(PATIENCE, "both runs", || status(&cluster)["on"][0]["runs"] == 2);
    assert_eq!(script.text("told-runs"), "begin\nend\nbegin\nend\n", "never two at a time");
    assert_eq!(ids(&script.told()), [1, 2, 3, 4]);
    assert_eq!(script.environments(), ["away|1||1|", "away|2 3 4||3|"]);
}

#[test]
fn a_command_that_fails_or_takes_too_long_is_told_by_status_log_and_metrics() {
    let fails = Script::new("echo no such pager >&2; exit 3");
    let hangs = Script::new("sleep 1000");
    let (away, double) = (fails.on("away"), hangs.on("double-id"));
    let args = ["--on", &away, "--on", &double, "--away-after", "1ms", "--on-timeout", "1s", "--http", "127.0.0.1:0"];
    let mut cluster = empty_hub(&args);
    let web = Web::of(&mut cluster);
    let (mut seven, unique_id) = member(&cluster, 7, None);
    // Four machines after another claim to be it: three take-overs.
    let others: Vec<Speaker> = (0..3).map(|_| member(&cluster, 7, Some(&unique_id)).0).collect();
    while !matches!(seven.hear(), ToClient::Bye(refusal) if refusal.code == Code::TakenOver) {}
    until(PATIENCE, "the double id to be told", || ids(&hangs.told()) == [7]);
    let event = &hangs.told()[0];
    assert_eq!(event["event"], "double-id");
    assert!(event["other_address"].is_string() && event["other_address"] != event["address"], "{event}");
    drop(others);
    let on = |event: &str| {
        let status = status(&cluster);
        status["on"].as_array().unwrap().iter().find(|on| on["event"] == event).unwrap().clone()
    };
    until(PATIENCE, "both to be told as failed", || on("away")["failed"] == 1 && on("double-id")["failed"] == 1);
    assert_eq!((&on("away")["last"]["code"], &on("away")["last"]["said"]), (&3.into(), &"no such pager".into()));
    assert_eq!(on("double-id")["last"]["end"], "timed-out");
    let people = stdout(cluster.run(&["status"]));
    assert!(people.contains("1 runs, 1 failed") && people.contains("last exited with 3 at"), "{people}");
    assert!(hub_log(&cluster).contains("--on away: ") && hub_log(&cluster).contains("no such pager"));
    let token = stdout(cluster.run(&["token"]));
    let metrics = web.bearer(token.trim()).get("/metrics").text();
    for line in ["lockstep_on_runs_total{event=\"away\"} 1", "lockstep_on_failed_total{event=\"double-id\"} 1"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    // What the hub runs is its own affair.
    let (mut client, _) = member(&cluster, 12, None);
    client.say(&ToHub::Ask { req: 1, question: Question::Status });
    loop {
        if let ToClient::Answer { answer: wire::answer::Answer::Status(status), .. } = client.hear() {
            assert!(status.on.is_empty());
            break;
        }
    }
}

#[test]
fn who_lacks_something_for_too_long_and_who_holds_deletions_is_told_once() {
    let (behind, guard) = (Script::new(""), Script::new(""));
    let (on_behind, on_guard) = (behind.on("behind"), guard.on("guard"));
    let fill = |share: &Path| drop(Tree::at(share).file("a", "one"));
    let args = ["--on", &on_behind, "--on", &on_guard, "--behind-after", "200ms"];
    let mut cluster = Cluster::start(fill, &args);
    stdout(cluster.run(&["wait", "share"]));
    // One has all, one tells nothing, one holds deletions and says so in words that are none.
    let (mut good, _) = Speaker::logged_in(&cluster.address(), 1, None);
    let version = follow(&mut good, "share/share");
    let head = status(&cluster)["shares"][0]["head"].as_u64().unwrap();
    let applied = wire::message::Version { seq: head, ..version };
    good.say(&ToHub::Ack(Ack::of(1, applied, true)));
    let (mut mute, _) = Speaker::logged_in(&cluster.address(), 2, None);
    follow(&mut mute, "share/share");
    let (mut holds, _) = Speaker::logged_in(&cluster.address(), 3, None);
    follow(&mut holds, "share/share");
    let first_problems = vec![(bytes::Bytes::new(), HOSTILE.to_owned())];
    let ack = Ack { problems: 1, first_problems, held_deletes: 12, ..Ack::of(1, applied, true) };
    holds.say(&ToHub::Ack(ack.clone()));
    let of = |script: &Script, id: u64| script.told().iter().filter(|event| event["id"] == id).count();
    until(PATIENCE, "both to be told", || of(&behind, 2) == 1 && of(&behind, 3) == 1 && of(&guard, 3) == 1);
    let told = guard.told();
    assert_eq!((ids(&told), &told[0]["deletions"], &told[0]["what"]), (vec![3], &12.into(), &"share".into()));
    assert_eq!(told[0]["why"], HOSTILE);
    assert_eq!(guard.environments(), ["guard|3|share|1|"]);
    let event = behind.told().into_iter().find(|event| event["id"] == 2).unwrap();
    assert!(event["what"] == "share" && event["since"].is_string() && event["event"] == "behind", "{event}");
    // `why` says the same, and since when.
    let why = cluster.run(&["why", "share", "--client", "2", "--json"]);
    let row: Value = serde_json::from_str(String::from_utf8(why.stdout).unwrap().lines().next().unwrap()).unwrap();
    assert!(row["since_ms"].is_i64() && row["text"].as_str().unwrap().contains(", since 20"), "{row}");
    // Over, and again: that is news.
    holds.say(&ToHub::Ack(Ack::of(1, applied, true)));
    until(PATIENCE, "all to be well", || status(&cluster)["shares"][0]["in_sync"] == 2);
    support::lapse(std::time::Duration::from_secs(2), "a look that finds it over, as one is made every second");
    holds.say(&ToHub::Ack(ack));
    until(PATIENCE, "it to be told again", || of(&guard, 3) == 2);
    assert_eq!((of(&behind, 1), of(&guard, 1)), (0, 0), "of who has all there is nothing to tell");
    assert_eq!((of(&behind, 2), behind.told()[0]["times"].as_u64()), (1, Some(1)), "once, as it goes on");
    // At the share itself.
    drop((good, mute, holds));
    cluster.stop_hub();
    fs::remove_file(cluster.share().join("a")).unwrap();
    cluster.start_hub();
    until(PATIENCE, "the share's guard", || guard.told().iter().any(|event| event["id"].is_null()));
    let told = guard.told();
    let event = told.iter().find(|event| event["id"].is_null()).unwrap();
    assert_eq!((&event["what"], &event["deletions"], &event["event"]), (&"share".into(), &1.into(), &"guard".into()));
}

#[test]
fn commands_change_with_the_configuration_and_one_that_is_not_there_changes_nothing() {
    let (before, after) = (Script::new(""), Script::new(""));
    let settings = scratch();
    let file = settings.join("lockstep.toml");
    let write = |on: &str| fs::write(&file, format!("[hub]\naway-after = \"1ms\"\n{on}")).unwrap();
    write(&format!("on = [\"{}\"]\n", before.on("away")));
    let mut cluster = empty_hub(&["--config", file.to_str().unwrap()]);
    let (client, unique_id) = member(&cluster, 7, None);
    drop(client);
    until(PATIENCE, "the command of before", || ids(&before.told()) == [7]);
    let reload = |cluster: &mut Cluster| {
        let told = |log: &str| log.matches("the configuration was read again").count();
        let (seen, from) = (told(&hub_log(cluster)), hub_log(cluster).len());
        cluster.hub().signal(Signal::HUP);
        until(PATIENCE, "the hub to read it again", || told(&hub_log(cluster)) > seen);
        hub_log(cluster)[from..].to_owned()
    };
    write("[hub.on]\naway = \"/no/such/program\"\n");
    let told = reload(&mut cluster);
    assert!(told.contains("on is not changed") && told.contains("/no/such/program"), "{told}");
    write(&format!("[hub.on]\naway = \"{} 'two words'\"\n", after.path().display()));
    let told = reload(&mut cluster);
    assert!(told.contains("changed: on"), "{told}");
    until(PATIENCE, "the new command in force", || {
        status(&cluster)["on"][0]["program"] == after.path().to_str().unwrap()
    });
    drop(member(&cluster, 7, Some(&unique_id)));
    until(PATIENCE, "the command of after", || ids(&after.told()) == [7]);
    assert_eq!(after.environments(), ["away|7||1|two words"]);
    assert_eq!(ids(&before.told()), [7]);
    assert_eq!(status(&cluster)["on"][0]["runs"], 2, "counted on");
    write("");
    reload(&mut cluster);
    until(PATIENCE, "none", || status(&cluster)["on"].as_array().unwrap().is_empty());
    // At a start, too.
    cluster.stop_hub();
    cluster.set_hub_args(&["--on", "away=/no/such/program"]);
    let (code, said) = crate::login::ended(&mut cluster.hub_command());
    assert!(code == Some(3) && said.contains("/no/such/program"), "{said}");
}
