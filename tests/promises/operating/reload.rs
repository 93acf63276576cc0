//! SIGHUP: the configuration is read again, and nobody is cut off.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use support::{Cluster, PATIENCE, Proc, Scratch, lockstep_at, same_trees, scratch, until};

use crate::login::{empty_hub, hub_log};
use crate::speaker::{Asked, Speaker};

/// A hub with a configuration, and two clients in.
struct Scene {
    cluster: Cluster,
    file: PathBuf,
    clients: Vec<Speaker>,
    _settings: Scratch,
}

impl Scene {
    fn start(config: &str) -> Self {
        let settings = scratch();
        let file = settings.join("lockstep.toml");
        fs::write(&file, config).unwrap();
        let cluster = empty_hub(&["--config", file.to_str().unwrap(), "--http", "127.0.0.1:0"]);
        let clients = (1..=2).map(|id| Speaker::logged_in(&cluster.address(), id, None).0).collect();
        Scene { cluster, file, clients, _settings: settings }
    }

    /// Changes the configuration; returns once the hub has read it and told what came of it, which is given.
    fn reload(&mut self, config: &str) -> String {
        fs::write(&self.file, config).unwrap();
        let told = |log: &str| log.matches("the configuration was read again").count();
        let (before, from) = (told(&hub_log(&self.cluster)), hub_log(&self.cluster).len());
        self.cluster.hub().signal(Signal::HUP);
        until(PATIENCE, "the hub to read it again", || told(&hub_log(&self.cluster)) > before);
        hub_log(&self.cluster)[from..].to_owned()
    }

    /// Those who were in are in still.
    fn assert_nobody_was_cut_off(&mut self) {
        for client in &mut self.clients {
            client.put("x", "1").unwrap();
        }
        assert!(!hub_log(&self.cluster).contains("left id="), "{}", hub_log(&self.cluster));
    }

    fn enrols(&self, id: &str) -> bool {
        matches!(Speaker::greeted(&self.cluster.address()).claim(id, None), Asked::Issued(_))
    }
}

#[test]
fn who_may_enrol_the_limits_and_the_log_are_changed_without_cutting_anybody_off() {
    let mut scene = Scene::start("[hub]\n");
    assert!(scene.enrols("7"));
    let told = scene.reload("[hub]\nenrol = \"closed\"\nmax-clients = 2\nlog-level = \"debug\"\n");
    assert!(told.contains("changed: log-level, enrol, limits"), "{told}");
    assert!(!scene.enrols("8"), "nobody new may enrol");
    let told = scene.reload("[hub]\nenrol = \"open\"\nmax-clients = 2\n");
    assert!(told.contains("changed: log-level, enrol"), "{told}");
    // Two are in, so a third finds the hub full, whoever it is.
    let mut third = Speaker::greeted(&scene.cluster.address());
    let Asked::Issued(_) = third.claim("9", None) else { panic!("not issued") };
    third.say(&wire::message::ToHub::Confirm);
    let refused = third.refused();
    assert!(refused.text.contains("--max-clients") && refused.retry_ms.is_some(), "{refused:?}");
    scene.assert_nobody_was_cut_off();
    let told = scene.reload("[hub]\n");
    assert!(told.contains("changed: enrol, limits"), "{told}");
    Speaker::logged_in(&scene.cluster.address(), 10, None);
    assert!(scene.reload("[hub]\n").contains("changed: nothing"));
}

#[test]
fn what_cannot_be_changed_is_told_by_name_and_what_is_wrong_changes_nothing() {
    let mut scene = Scene::start("[hub]\n");
    let told = scene.reload("[hub]\nadvertise = \"hub.example\"\nenrol = \"closed\"\ncors = [\"https://a.example\"]\n");
    assert!(told.contains("only a new start takes it over: advertise"), "{told}");
    assert!(told.contains("changed: enrol, cors"), "{told}");
    let told = scene.reload("[hub]\nenrol = \"sometimes\"\n");
    assert!(told.contains("is wrong, so nothing is changed") && told.contains("sometimes"), "{told}");
    let told = scene.reload("[hub]\nenrl = \"open\"\n");
    assert!(told.contains("did you mean enrol?"), "{told}");
    assert!(!scene.enrols("8"), "as it was before");
    scene.assert_nobody_was_cut_off();
}

#[test]
fn each_origin_that_is_named_may_read_and_that_changes_with_the_configuration() {
    let mut scene = Scene::start("[hub]\ncors = [\"https://a.example\", \"https://b.example\"]\n");
    let line = scene.cluster.hub().wait_for_line("http ", PATIENCE);
    let url = line.split_whitespace().nth(1).unwrap().to_owned();
    let may = |origin: &str| {
        let header = format!("origin: {origin}");
        let output = support::curl()
            .args(["-s", "-o", "/dev/null", "-D", "-", "-H", &header])
            .arg(format!("{url}healthz"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().contains(&format!("access-control-allow-origin: {origin}"))
    };
    assert!(may("https://a.example") && may("https://b.example") && !may("https://c.example"));
    scene.reload("[hub]\ncors = [\"https://c.example\"]\n");
    assert!(!may("https://a.example") && may("https://c.example"));
    scene.assert_nobody_was_cut_off();
}

#[test]
fn a_share_comes_without_cutting_anybody_off_goes_without_touching_a_copy_and_comes_back() {
    let dir = scratch();
    let (file, home) = (dir.join("lockstep.toml"), dir.join("home"));
    for share in ["a", "b"] {
        fs::create_dir(dir.join(share)).unwrap();
        fs::write(dir.join(share).join("f"), share).unwrap();
    }
    let share = |name: &str| format!("\"{name}={}\"", dir.join(name).display());
    let write = |shares: &[&str]| {
        let shares = shares.iter().map(|name| share(name)).collect::<Vec<_>>().join(", ");
        fs::write(&file, format!("[hub]\nlisten = \"127.0.0.1:0\"\nhttp = \"none\"\nshare = [{shares}]\n")).unwrap();
    };
    write(&["a"]);
    let mut hub = Proc::start(lockstep_at(&home).args(["hub", "--config"]).arg(&file));
    let link = hub.wait_for_line("lockstep join", PATIENCE).split_whitespace().last().unwrap().to_owned();
    let join = |n: usize, share: &str| {
        let kept = format!("{share}={}", dir.join(format!("copy{n}")).display());
        let mut join = lockstep_at(dir.join(format!("home{n}")));
        let agent = Proc::start(join.args(["join", &link, "--id", &n.to_string(), "--share", &kept]));
        agent.wait_for_line("in sync", PATIENCE);
        agent
    };
    let first = join(1, "a");
    let log = || fs::read_to_string(home.join("log/hub.log")).unwrap();
    let reload = |hub: &mut Proc| {
        let told = || log().matches("the configuration was read again").count();
        let (before, from) = (told(), log().len());
        hub.signal(Signal::HUP);
        until(PATIENCE, "the hub to read it again", || told() > before);
        log()[from..].to_owned()
    };
    // One that cannot be shared keeps no other from it.
    write(&["a", "b", "missing"]);
    let told = reload(&mut hub);
    assert!(told.contains("changed: share"), "{told}");
    until(PATIENCE, "both to be dealt with", || {
        log().contains("shared from now on: b") && log().contains("a share was not taken over: ")
    });
    assert!(log().contains("missing"), "{}", log());
    let second = join(2, "b");
    assert_eq!(same_trees(dir.join("b"), dir.join("copy2")), Ok(()));
    fs::write(dir.join("b/f"), "changed").unwrap();
    until(PATIENCE, "a change of it", || fs::read(dir.join("copy2/f")).is_ok_and(|f| f == b"changed"));
    // Once it is there it is taken over, by the next time.
    fs::create_dir(dir.join("missing")).unwrap();
    reload(&mut hub);
    until(PATIENCE, "what was missing", || log().contains("shared from now on: missing"));
    assert!(!log().contains("left id="), "nobody was cut off: {}", log());
    // Taken away: who had it is told and keeps its copy, the others go on.
    write(&["b"]);
    let told = reload(&mut hub);
    assert!(told.contains("changed: share"), "{told}");
    until(PATIENCE, "it to go", || log().contains("not shared any more: a, missing; the copies stay as they are"));
    let ended = || log().matches("left id=").count();
    until(PATIENCE, "who had it to come in anew", || ended() == 1);
    first.wait_for_line("this hub has no share/a", PATIENCE);
    fs::write(dir.join("a/f"), "unseen").unwrap();
    fs::write(dir.join("b/f"), "goes on").unwrap();
    until(PATIENCE, "a change of the other", || fs::read(dir.join("copy2/f")).is_ok_and(|f| f == b"goes on"));
    assert_eq!(fs::read(dir.join("copy1/f")).unwrap(), b"a");
    // One that cannot be told by its name takes none away.
    fs::write(
        &file,
        format!("[hub]\nlisten = \"127.0.0.1:0\"\nhttp = \"none\"\nshare = [\"{}\"]\n", dir.join("none").display()),
    )
    .unwrap();
    let told = reload(&mut hub);
    assert!(told.contains("none is taken away") && told.contains("changed: nothing"), "{told}");
    // It comes back, and its copy with it.
    write(&["a", "b"]);
    reload(&mut hub);
    until(PATIENCE, "it to come back", || fs::read(dir.join("copy1/f")).is_ok_and(|f| f == b"unseen"));
    assert_eq!(ended(), 2, "who waited for it came in anew, and nobody else was cut off: {}", log());
    // From another directory: nothing of it goes out before somebody says that it is the right one.
    fs::create_dir(dir.join("elsewhere")).unwrap();
    fs::write(dir.join("elsewhere/f"), "another").unwrap();
    let moved = share("b").replace("/b\"", "/elsewhere\"");
    let text = fs::read_to_string(&file).unwrap().replace(&share("b"), &moved);
    fs::write(&file, text).unwrap();
    reload(&mut hub);
    until(PATIENCE, "it to be guarded", || log().contains("is not the directory that was shared before"));
    assert_eq!(fs::read(dir.join("copy2/f")).unwrap(), b"goes on");
    let allow = || {
        lockstep_at(&home)
            .args(["allow-deletes", "b", "--data"])
            .arg(home.join("hub"))
            .output()
            .unwrap()
            .status
            .success()
    };
    until(PATIENCE, "it to be allowed", allow);
    until(PATIENCE, "the other directory", || fs::read(dir.join("copy2/f")).is_ok_and(|f| f == b"another"));
    fs::write(dir.join("elsewhere/f"), "live").unwrap();
    until(PATIENCE, "a change in it", || fs::read(dir.join("copy2/f")).is_ok_and(|f| f == b"live"));
    // In order, with what was added: it is as any other.
    drop((first, second));
    hub.terminate();
    assert_eq!(hub.wait_exit(PATIENCE).code(), Some(0));
    assert!(!log().contains("panicked"), "{}", log());
}
