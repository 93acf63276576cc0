//! Rights: what a client may is what its invite or an administrator said, the same over every transport, and no more.

mod hands;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use support::{Cluster, PATIENCE, Proc, lockstep_at, until};
use wire::link::JoinLink;
use wire::message::{Purpose, ToClient, ToHub};
use wire::unique_id::UniqueId;

use crate::login::{ended, join_at, link_in, stdout};
use crate::speaker::{Asked, Speaker, hello};
use crate::web::{Events, Web};
use hands::{Doors, Hand, Names, Native, Outcome, TRANSPORTS};

/// Whose rights were changed is cut within a second; with what a busy machine adds.
const CUT_MAX: Duration = Duration::from_secs(5);

/// A hub with values and shares of which some are nobody's business, that takes new clients by invite.
struct Scene {
    cluster: Cluster,
    doors: Doors,
}

impl Scene {
    fn new() -> Scene {
        Scene::with(&["--enrol", "invite"])
    }

    fn with(args: &[&str]) -> Scene {
        let hidden = support::scratch();
        fs::write(hidden.join("f"), "x").unwrap();
        let share = format!("hidden={}", hidden.display());
        let all = ["--http", "127.0.0.1:0", "--text", "127.0.0.1:0", "--share", &share];
        let args: Vec<&str> = all.iter().chain(args).copied().collect();
        let mut cluster = Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), &args);
        // Open while the hub holds it.
        std::mem::forget(hidden);
        let web = Web::of(&mut cluster);
        let text = crate::text::typist::address_of(&mut cluster);
        let doors = Doors { native: cluster.address(), text, web };
        let scene = Scene { cluster, doors };
        for (name, value) in [("lab/a", "1"), ("open", "1"), ("secret/x", "1"), ("other", "1")] {
            scene.run(&["put", name, value]);
        }
        scene
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        stdout(self.cluster.run(args))
    }

    /// A new client by an invite with these flags.
    #[track_caller]
    fn enrol(&self, id: u64, flags: &[&str]) -> UniqueId {
        let link = JoinLink::parse(&link_in(&self.run(&[&["invite"], flags].concat()))).unwrap();
        let mut speaker = Speaker::greeted(&self.doors.native);
        let Asked::Issued(unique_id) = speaker.claim(&id.to_string(), Some(&link.invite().unwrap().reveal())) else {
            panic!("not issued");
        };
        speaker.say(&ToHub::Confirm);
        speaker.welcome();
        unique_id
    }

    /// A new client that is here for as long as this is held.
    #[track_caller]
    fn present(&self, id: u64) -> Events {
        let mut stream = self.doors.web.basic(&self.enrol(id, &[])).events("/api/values", None);
        stream.until_current();
        stream
    }

    fn rights(&self, id: u64) -> Value {
        serde_json::from_str(&self.run(&["clients", "rights", &id.to_string(), "--json"])).unwrap()
    }
}

/// What the invites of these tests give.
const SOME: [&str; 10] =
    ["--read", "lab/*", "--read", "open", "--put", "lab/*", "--share", "share", "--clients", "itself"];

fn names(list: &[&str]) -> Names {
    list.iter().map(|name| (*name).to_owned()).collect()
}

fn refused<T: std::fmt::Debug>(outcome: Outcome<T>) {
    assert_eq!(outcome.expect_err("it is refused"), "not_allowed");
}

/// One check of a client with the rights of [`SOME`], by what it is about.
type Check = (&'static str, fn(&mut dyn Hand, u64));

const CHECKS: [Check; 9] = [
    ("puts", |hand, id| {
        assert_eq!(hand.put(&format!("lab/{id}")), Ok(()));
        for name in ["open", "secret/x", "secret/new", "la", "lab"] {
            refused(hand.put(name));
        }
    }),
    ("removes", |hand, id| {
        assert_eq!(hand.remove(&format!("lab/{id}")), Ok(()));
        for name in ["open", "secret/x", "secret/none"] {
            refused(hand.remove(name));
        }
    }),
    ("gets", |hand, _| {
        assert_eq!([hand.get("lab/a"), hand.get("open"), hand.get("lab/none")], [Ok(true), Ok(true), Ok(false)]);
        // Whether there is such a value or not, the answer is the same.
        for name in ["secret/x", "secret/none", "other", "lab", "open2"] {
            refused(hand.get(name));
        }
    }),
    ("follows all", |hand, _| {
        let (_, told, _) = hand.follow("*", None).unwrap();
        assert_eq!(told, names(&["lab/a", "open"]));
    }),
    ("follows some", |hand, _| {
        for (pattern, some) in [("lab/*", "lab/a"), ("o*", "open")] {
            assert_eq!(hand.follow(pattern, None).unwrap().1, names(&[some]), "{pattern}");
        }
    }),
    ("puts after it has followed", |hand, id| {
        assert_eq!(hand.put(&format!("lab/{id}")), Ok(()));
        refused(hand.put("open"));
        assert_eq!(hand.remove(&format!("lab/{id}")), Ok(()));
    }),
    ("follows what it may not", |hand, _| {
        for pattern in ["secret/*", "secret/x*", "q*"] {
            refused(hand.follow(pattern, None));
        }
    }),
    ("sees itself alone", |hand, id| {
        // Over HTTP it is not among the active ones by a request; the roster has it.
        assert_eq!(hand.clients(), BTreeSet::from([id]));
    }),
    ("is offered its shares", |hand, _| assert_eq!(hand.shares(), names(&["share"]))),
];

#[test]
fn rights_are_the_same_over_every_transport() {
    let scene = Scene::new();
    let _other = scene.present(5);
    for (transport, id) in TRANSPORTS.into_iter().zip(11..) {
        let unique_id = scene.enrol(id, &SOME);
        let mut hand = scene.doors.open(transport, &unique_id);
        for (what, check) in CHECKS {
            eprintln!("{transport} {what}");
            check(&mut *hand, id);
        }
    }
}

/// Else the test above could not fail: pointed at a client that may everything, each of its checks sees it.
#[test]
fn canary_a_client_that_may_everything_fails_each_check() {
    let scene = Scene::new();
    let _other = scene.present(5);
    for (transport, id) in TRANSPORTS.into_iter().zip(11..) {
        let unique_id = scene.enrol(id, &[]);
        let mut hand = scene.doors.open(transport, &unique_id);
        for (what, check) in CHECKS {
            // Lines of text tell of no shares, so there is nothing to see.
            let blind = transport == "text" && what == "is offered its shares";
            let failed = catch_unwind(AssertUnwindSafe(|| check(&mut *hand, id))).is_err();
            assert!(failed || blind, "{transport}: {what}: it was not seen");
        }
        hand.put("secret/x").unwrap();
        hand.put("open").unwrap();
    }
}

#[test]
fn an_observer_puts_nothing_over_any_transport_and_sees_everything() {
    let scene = Scene::new();
    for (transport, id) in TRANSPORTS.into_iter().zip(11..) {
        let unique_id = scene.enrol(id, &["--role", "observer"]);
        let mut hand = scene.doors.open(transport, &unique_id);
        refused(hand.put("lab/a"));
        refused(hand.remove("lab/a"));
        assert_eq!(hand.follow("*", None).unwrap().1, names(&["lab/a", "open", "other", "secret/x"]), "{transport}");
        assert!(hand.clients().contains(&id));
    }
    // Its own vitals are no putting.
    let unique_id = scene.enrol(30, &["--role", "observer"]);
    let (mut speaker, _) = Speaker::logged_in(&scene.doors.native, 30, Some(&unique_id));
    speaker.say(&ToHub::Vitals(wire::message::Vitals { mem_used_bytes: Some(77), ..Default::default() }));
    until(PATIENCE, "its vitals", || scene.run(&["clients", "show", "30", "--json"]).contains("\"mem_used_bytes\":77"));
}

#[test]
fn a_change_of_rights_cuts_who_is_here_and_who_comes_back_is_shown_what_it_may_by_now() {
    let scene = Scene::new();
    for (transport, id) in TRANSPORTS.into_iter().zip(11..) {
        let unique_id = scene.enrol(id, &SOME);
        let (reset, told, cursor) = scene.doors.open(transport, &unique_id).follow("*", None).unwrap();
        assert!(reset && told == names(&["lab/a", "open"]), "{transport}");
        // As it was: nothing new.
        let (reset, told, cursor) = scene.doors.open(transport, &unique_id).follow("*", Some(&cursor)).unwrap();
        assert!(!reset && told.is_empty(), "{transport}: {told:?}");
        // With more it would miss for ever what was put before, had it not to begin anew.
        scene.run(&["clients", "rights", &id.to_string(), "--read", "secret/*", "--read", "open"]);
        let (reset, told, cursor) = scene.doors.open(transport, &unique_id).follow("*", Some(&cursor)).unwrap();
        assert!(reset && told == names(&["open", "secret/x"]), "{transport}: {told:?}");
        scene.run(&["clients", "rights", &id.to_string(), "--read", "*"]);
        let (reset, told, _) = scene.doors.open(transport, &unique_id).follow("*", Some(&cursor)).unwrap();
        assert!(reset && told.len() == 4, "{transport}: {told:?}");
    }
    // Who is here is cut.
    let unique_id = scene.enrol(40, &[]);
    let (mut speaker, _) = Speaker::logged_in(&scene.doors.native, 40, Some(&unique_id));
    let mut stream = scene.doors.web.basic(&scene.enrol(41, &[])).events("/api/values", None);
    stream.until_current();
    let start = Instant::now();
    scene.run(&["clients", "rights", "40", "--role", "observer"]);
    scene.run(&["clients", "rights", "41", "--role", "observer"]);
    assert!(speaker.is_cut(CUT_MAX) && stream.ends(CUT_MAX) && start.elapsed() < CUT_MAX);
    // One that changes nothing cuts nobody.
    let (mut speaker, _) = Speaker::logged_in(&scene.doors.native, 40, Some(&unique_id));
    scene.run(&["clients", "rights", "40", "--role", "observer"]);
    scene.run(&["clients", "tag", "40", "+x"]);
    assert_eq!(speaker.put("x", "1"), Err("the hub says something else"), "refused, and still here");
}

/// What is told of the hub over HTTP holds nothing of what its reader may not know.
#[test]
fn pages_tables_and_metrics_hold_nothing_that_their_reader_may_not_know() {
    let scene = Scene::new();
    scene.enrol(77, &["--tag", "secret-tag"]);
    scene.run(&["clients", "rename", "77", "secret-name"]);
    let (restricted, plain) = (scene.enrol(11, &SOME), scene.enrol(12, &[]));
    let pages = [
        "/values.csv",
        "/clients.csv",
        "/vitals.csv",
        "/server.csv",
        "/metrics",
        "/api/status",
        "/api/shares",
        "/api/clients?all=true",
        "/api/values",
    ];
    let mut seen = 0;
    for page in pages {
        let told = scene.doors.web.basic(&restricted).get(page);
        assert_eq!(told.status, 200, "{page}");
        for word in ["secret", "hidden"] {
            assert!(!told.text().contains(word), "{page} tells of {word}:\n{}", told.text());
        }
        let all = scene.doors.web.basic(&plain).get(page).text();
        seen += usize::from(all.contains("secret") || all.contains("hidden"));
    }
    assert!(seen >= 7, "what is looked for is there for who may see it: on {seen} pages");
    assert!(scene.doors.web.basic(&restricted).get("/values.csv").text().contains("lab/a"));
    let stats = scene.doors.web.basic(&restricted).get("/api/status").json();
    assert_eq!((&stats["values"], stats["shares"].as_array().unwrap().len()), (&2.into(), 1));
    // A token of a client is no more than the client.
    let token = scene.run(&["token", "--as", "11", "--put"]);
    let bearer = scene.doors.web.bearer(token.trim());
    assert_eq!(bearer.get("/api/values/secret/x").problem(), "not_allowed");
    assert_eq!(bearer.put("/api/values/open", &[], b"1").problem(), "not_allowed");
    assert_eq!(bearer.put("/api/values/lab/t", &[], b"1").status, 201);
}

#[test]
fn over_the_native_transport_no_board_content_or_answer_is_beyond_the_rights() {
    let scene = Scene::new();
    let (_other, unique_id) = (scene.enrol(5, &[]), scene.enrol(11, &SOME));
    let mut native = Native::open(&scene.doors, &unique_id);
    assert!(native.follow_board("share/share", "*", None).is_ok());
    for board in ["share/hidden", "share/none"] {
        assert_eq!(native.follow_board(board, "*", None).unwrap_err(), "not_allowed", "{board}");
    }
    let (_, told, _) = native.follow_board("fleet", "*", None).unwrap();
    assert_eq!(told, names(&["client/11"]));
    use wire::answer::Question;
    let wait = |target: &str, clients: &[u64]| Question::Wait {
        target: Some(target.into()),
        clients: clients.to_vec(),
        timeout_ms: 1,
    };
    for question in [
        Question::Client { id: 5 },
        Question::Client { id: 99 },
        wait("hidden", &[]),
        wait("secret/x", &[]),
        wait("share", &[5]),
        Question::Revoke { id: 5 },
        Question::Reissue { id: 5 },
        Question::Administer { id: 11, change: Default::default() },
        Question::Import { rows: Vec::new(), dry_run: true },
        Question::AllowDeletes { share: "share".into() },
    ] {
        let said = format!("{question:?}");
        assert_eq!(native.ask(|req| ToHub::Ask { req, question }).unwrap_err(), "not_allowed", "{said}");
    }
    // Contents go by another connection, which is not beyond them either.
    let (token, mut bulk) = (native.token, Speaker::connect(&scene.doors.native));
    bulk.say(&hello(Purpose::Bulk { token }));
    assert!(matches!(bulk.hear(), ToClient::Hello { .. }) && bulk.hear() == ToClient::Attached);
    bulk.say(&ToHub::Want { share: "hidden".into(), contents: vec![[7; 32]] });
    assert_eq!(bulk.refused().code.as_str(), "not_allowed");
}

#[test]
fn an_invite_is_for_its_ids_and_gives_its_tags_and_rights() {
    let scene = Scene::new();
    let link = link_in(
        &scene.run(&[&["invite", "--uses", "3", "--ids", "100-101", "--tag", "lab", "--tag", "b"], &SOME[..]].concat()),
    );
    let code = JoinLink::parse(&link).unwrap().invite().unwrap().reveal();
    let mut speaker = Speaker::greeted(&scene.doors.native);
    assert!(matches!(speaker.claim("7", Some(&code)), Asked::UniqueId), "it is not for that id");
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut speaker = Speaker::greeted(&scene.doors.native);
        let Asked::Issued(unique_id) = speaker.claim("auto", Some(&code)) else { panic!("not issued") };
        speaker.say(&ToHub::Confirm);
        speaker.welcome();
        ids.push(unique_id.id().get());
    }
    assert_eq!(ids, [100, 101]);
    let mut speaker = Speaker::greeted(&scene.doors.native);
    assert!(matches!(speaker.claim("auto", Some(&code)), Asked::Refused(_)), "all its ids are taken");
    let rights = scene.rights(101);
    assert_eq!((&rights["read"], &rights["clients"]), (&serde_json::json!(["lab/*", "open"]), &"itself".into()));
    let row: Value = serde_json::from_str(&scene.run(&["clients", "show", "101", "--json"])).unwrap();
    assert_eq!(row["tags"], serde_json::json!(["b", "lab"]));
    // They outlive a killed hub.
    let mut scene = scene;
    scene.cluster.kill_hub();
    scene.cluster.start_hub();
    assert_eq!(scene.rights(101), rights);
    for (flags, code) in [
        (&["--ids", "9-8"][..], 2),
        (&["--ids", "x"], 2),
        (&["--role", "king"], 2),
        (&["--tag", "a b"], 2),
        (&["--read", "a\nb"], 2),
    ] {
        assert_eq!(ended(&mut scene.cluster.ask(&[&["invite"], flags].concat())).0, Some(code), "{flags:?}");
    }
}

/// An agent keeps what it may of what it is to keep, and is in sync with that.
#[test]
fn an_agent_keeps_what_it_may_and_is_waited_for_with_that() {
    let scene = Scene::new();
    let link = link_in(&scene.run(&[&["invite"], &SOME[..]].concat()));
    let (home, copy) = (scene.cluster.agent_home(1), scene.cluster.copy(1));
    let values = scene.cluster.path().join("values");
    let agent = Proc::start(join_at(home, &link, &copy, "1").arg("--values").arg(&values));
    agent.wait_for_line("logged in", PATIENCE);
    let kept = || -> Names {
        let entries = fs::read_dir(&values).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with('.')).collect()
    };
    until(PATIENCE, "its values", || kept() == names(&["lab%2Fa", "open"]));
    scene.run(&["put", "secret/y", "1"]);
    scene.run(&["put", "lab/b", "1"]);
    // Nobody waits for what it is not to have; and what it is to have it provably has.
    scene.run(&["wait", "--timeout", "60s"]);
    scene.run(&["wait", "lab/b", "--client", "1", "--timeout", "60s"]);
    assert_eq!(kept(), names(&["lab%2Fa", "lab%2Fb", "open"]));
    scene.run(&["wait", "secret/y", "--timeout", "1s"]);
    // Given more, it comes back by itself and has it; given less, what it may not have any more goes.
    scene.run(&["clients", "rights", "1", "--read", "secret/*"]);
    until(PATIENCE, "its values by now", || kept() == names(&["secret%2Fx", "secret%2Fy"]));
}

#[test]
fn an_admin_does_over_the_network_what_the_hubs_own_machine_can_and_others_do_not() {
    let scene = Scene::new();
    let admin_link = link_in(&scene.run(&["invite", "--role", "admin"]));
    let home = scene.cluster.path().join("admin-home");
    let at = |link: &str, id: &str, args: &[&str]| {
        let mut command = lockstep_at(&home);
        command.args(args).args(["--hub", link, "--id", id]).arg("--data").arg(home.join(id));
        command.output().unwrap()
    };
    let admin = |args: &[&str]| stdout(at(&admin_link, "50", args));
    scene.enrol(5, &[]);
    // An invite by an admin over the network is as good as any.
    let link = link_in(&admin(&["invite", "--ids", "60", "--role", "observer"]));
    assert!(at(&link, "60", &["status"]).status.success());
    assert_eq!(scene.rights(60)["role"], "observer");
    admin(&["clients", "rename", "5", "the desk"]);
    admin(&["clients", "tag", "5", "+lab", "+x"]);
    admin(&["clients", "tag", "5", "-x"]);
    admin(&["clients", "rights", "5", "--put", "lab/*"]);
    let row: Value = serde_json::from_str(&admin(&["clients", "show", "5", "--json"])).unwrap();
    assert_eq!((&row["name"], &row["tags"]), (&"the desk".into(), &serde_json::json!(["lab"])));
    assert_eq!(row["rights"]["put"], serde_json::json!(["lab/*"]));
    assert!(admin(&["clients", "reissue", "5"]).contains("lockstep join"));
    admin(&["clients", "revoke", "5"]);
    assert!(scene.run(&["clients", "list", "--all"]).contains("revoked"));
    // Who is none does nothing of it, and is told who could.
    for args in [
        &["invite"][..],
        &["clients", "rename", "60", "x"],
        &["clients", "tag", "60", "+x"],
        &["clients", "rights", "60", "--role", "admin"],
        &["clients", "reissue", "60"],
        &["clients", "revoke", "50"],
    ] {
        let output = at(&link, "60", args);
        assert_eq!(output.status.code(), Some(3), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("role is admin"), "{args:?}: {output:?}");
    }
    assert_eq!(scene.rights(60)["role"], "observer");
    // One that is none any more does nothing either.
    scene.run(&["clients", "rights", "50", "--role", "client"]);
    assert_eq!(at(&admin_link, "50", &["invite"]).status.code(), Some(3));
}

#[test]
fn an_inventory_is_taken_over_as_a_whole_or_not_at_all() {
    let scene = Scene::with(&["--enrol", "open"]);
    let (_speaker, _) = Speaker::logged_in(&scene.doors.native, 7, None);
    let file = scene.cluster.path().join("inventory.csv");
    let import = |text: &str, more: &[&str]| {
        fs::write(&file, text).unwrap();
        scene.cluster.run(&[&["clients", "import", file.to_str().unwrap()], more].concat())
    };
    let before = scene.run(&["clients", "export"]);
    for (text, line) in [
        ("id,name,tags\n7,desk,lab\nx,b,\n", "line 3"),
        ("id,role\n7,observer\n8,admin\n", "line 3"),
        ("id,tags\n7,-x\n", "line 2"),
        ("id\n7\n7\n", "line 3"),
        ("id,unique_id\n7,x\n", "line 1"),
    ] {
        let output = import(text, &[]);
        assert_eq!(output.status.code(), Some(2), "{text}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(line) && said.contains("nothing was changed"), "{text}: {said}");
        assert_eq!(scene.run(&["clients", "export"]), before);
    }
    let good = "id,name,tags,role,read\n7,desk,lab x,,\n8,printer,lab,observer,lab/*\n";
    assert_eq!(stdout(import(good, &["--dry-run"])), "would change: 2, as they were: 0\n");
    assert_eq!(scene.run(&["clients", "export"]), before);
    assert_eq!(stdout(import(good, &[])), "changed: 2, as they were: 0\n");
    assert_eq!(stdout(import(good, &["--json"])).trim(), r#"{"changed":0,"dry_run":false,"unchanged":2}"#);
    let listed = scene.run(&["clients", "list", "--all"]);
    assert!(listed.contains("expected") && listed.contains("printer") && listed.contains("desk"), "{listed}");
    // What never came is waited for by nobody, is not handed out, and is what was said of it once it comes.
    scene.run(&["wait", "--timeout", "10s"]);
    let (mut printer, unique_id) = Speaker::logged_in(&scene.doors.native, 8, None);
    assert_eq!(printer.put("lab/a", "1"), Err("the hub says something else"));
    assert!(unique_id.reveal().starts_with("ls-8-"));
    let row: Value = serde_json::from_str(&scene.run(&["clients", "show", "8", "--json"])).unwrap();
    assert_eq!(
        (&row["name"], &row["state"], &row["rights"]["role"]),
        (&"printer".into(), &"active".into(), &"observer".into())
    );
    // What was exported is an inventory, too, and changes nothing: nobody's name is fixed by it either.
    let (_machine, _) = Speaker::logged_in(&scene.doors.native, 20, None);
    let exported = scene.run(&["clients", "export"]);
    assert!(stdout(import(&exported, &[])).starts_with("changed: 0"), "{exported}");
}

#[test]
fn what_was_held_by_a_name_goes_with_it_and_bytes_are_no_way_around() {
    let scene = Scene::new();
    let mut native = Native::open(&scene.doors, &scene.enrol(11, &SOME));
    // A pattern or a name that only looks allowed.
    for name in [&b"lab\0/"[..], b"LAB/a", b"lab", b"\xfflab/", b"open\0", b"./lab/a"] {
        let name = Bytes::copy_from_slice(name);
        assert_eq!(native.ask(|req| ToHub::Get { req, name }).unwrap_err(), "not_allowed");
    }
    for name in [&b"lab/\0"[..], b"lab/\xff", b"lab/../secret/x"] {
        let name = Bytes::copy_from_slice(name);
        let got = native.ask(|req| ToHub::Get { req, name });
        assert!(matches!(got, Ok(ToClient::Got { value: None, .. })), "names are bytes: {got:?}");
    }
}
