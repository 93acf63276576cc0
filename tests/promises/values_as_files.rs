//! `lockstep join --values`: each value is a file that is whole at every moment, replaced when the value is, and gone with it
//! (M2.7, M3.7).

mod scene;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use support::{PATIENCE, Proc, Rng, for_each_seed, lapse, pick, until, workspace};
use wire::message::{Ack, Content, ToClient, ToHub, Version};

use crate::readers::{Reading, readers_see_whole_files_called};
use crate::speaker::Speaker;
use crate::web::Web;

use scene::{Scene, Values, as_files, done, escaped, files_in, of_hub, put, values};

#[test]
fn m3_7_each_value_is_a_file_that_follows_it_and_a_join_needs_no_share_for_that() {
    let mut scene = Scene::hub(&[]);
    scene.put("price", "42");
    scene.put("empty", "");
    let bytes: Vec<u8> = (0..=255).cycle().take(256 * 1024).collect();
    let mut speaker = scene.speaker(90);
    put(&mut speaker, b"bytes", Some(&bytes));
    scene.join(&["--values", scene.dir().to_str().unwrap()]);
    scene.machine.as_ref().unwrap().wait_for_line("values *: in sync, 3 files", PATIENCE);
    let mut wanted = values(&[("price", "42"), ("empty", "")]);
    wanted.insert(b"bytes".to_vec(), bytes);
    scene.assert_files(&wanted);
    // As others see it, and when it was put; and the share of the hub is not here.
    let meta = fs::metadata(scene.file("price")).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o644);
    let told: Value = serde_json::from_slice(&scene.cluster.run(&["get", "price", "--json"]).stdout).unwrap();
    let at_ms = meta.mtime() * 1000 + meta.mtime_nsec() / 1_000_000;
    assert_eq!(told["changed_at_ms"].as_i64(), Some(at_ms), "{told}");
    assert!(!scene.home().join("share").exists() && !PathBuf::from("share").exists());
    // Replaced, put, removed.
    scene.put("price", "43");
    scene.put("a/b", "nested");
    scene.remove("empty");
    wanted.remove(&b"empty"[..]);
    wanted.extend(values(&[("price", "43"), ("a/b", "nested")]));
    scene.assert_files(&wanted);
    // The last one goes like all others.
    for name in ["price", "a/b", "bytes"] {
        scene.remove(name);
    }
    scene.assert_files(&Values::new());
    scene.put("price", "44");
    scene.settle();
    // What is kept is remembered, and costs no file when it comes back.
    let before = fs::metadata(scene.file("price")).unwrap();
    scene.machine.as_mut().unwrap().terminate();
    assert_eq!(scene.machine.as_mut().unwrap().wait_exit(PATIENCE).code(), Some(0));
    scene.join_again();
    scene.put("new", "n");
    scene.assert_files(&values(&[("price", "44"), ("new", "n")]));
    let after = fs::metadata(scene.file("price")).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
    let log = fs::read_to_string(scene.home().join("log/join.log")).unwrap();
    assert!(log.contains("applied") && log.contains("price") && log.contains("values"), "{log}");
}

#[test]
fn several_patterns_and_a_share_are_kept_side_by_side_and_each_has_only_its_own() {
    let mut scene = Scene::hub(&[]);
    let at = |name: &str| scene.cluster.path().join(name);
    let (site, prices, one) = (at("site"), at("prices"), at("one"));
    for (name, value) in [("price/a", "1"), ("price/b", "2"), ("load", "3"), ("loads", "4")] {
        scene.put(name, value);
    }
    let prices_arg = format!("price/*={}", prices.display());
    let one_arg = format!("load={}", one.display());
    scene.join(&[site.to_str().unwrap(), "--values", &prices_arg, "--values", &one_arg]);
    scene.settle();
    assert_eq!(files_in(&prices), as_files(&values(&[("price/a", "1"), ("price/b", "2")])));
    assert_eq!(files_in(&one), values(&[("load", "3")]));
    assert_eq!(fs::read(site.join("f")).unwrap(), b"x");
    scene.put("load", "5");
    scene.remove("price/a");
    scene.settle();
    assert_eq!((files_in(&one), files_in(&prices).len()), (values(&[("load", "5")]), 1));
    let listed = String::from_utf8(scene.cluster.run(&["clients", "list"]).stdout).unwrap();
    assert!(listed.contains("VALUES") && listed.contains("load price/*"), "{listed}");
    let shown = String::from_utf8(scene.cluster.run(&["clients", "show", "1"]).stdout).unwrap();
    assert!(shown.contains("values price/*: version") && shown.contains("share share: version"), "{shown}");
    let shown: Value = serde_json::from_slice(&scene.cluster.run(&["clients", "show", "1", "--json"]).stdout).unwrap();
    assert_eq!((&shown["values"][1]["name"], &shown["values"][1]["entries"]), (&"price/*".into(), &1.into()));
    assert_eq!((shown["values"].as_array().unwrap().len(), &shown["in_sync"]), (2, &true.into()), "{shown}");
    // Of the values it does not keep nothing is waited for.
    scene.machine.as_mut().unwrap().pause();
    scene.put("other", "x");
    done(&scene.cluster.run(&["wait", "other"]));
    done(&scene.cluster.run(&["wait", "--client", "1", "--timeout", "2s"]));
    scene.machine.as_mut().unwrap().resume();
}

#[test]
fn m2_7_m3_7_who_reads_a_values_file_never_finds_it_missing_nor_two_versions_in_it() {
    let scene = Scene::start();
    let mut speaker = scene.speaker(90);
    let reading = Reading {
        files: 20,
        updates: pick(2_000, 10_000),
        pause: Duration::from_millis(4),
        in_place: false,
        versions_min: 40,
        reads_min: pick(20_000, 100_000),
    };
    let name = |file: usize| format!("board/{file}");
    for file in 0..reading.files {
        put(&mut speaker, name(file).as_bytes(), Some(&crate::readers::content(0)));
    }
    scene.settle();
    let file = |file: usize| String::from_utf8(escaped(name(file).as_bytes())).unwrap();
    readers_see_whole_files_called(&file, reading, &[scene.dir()], |file, content| {
        put(&mut speaker, name(file).as_bytes(), Some(content));
    });
}

#[test]
fn m2_5_no_name_of_a_value_leads_out_of_the_directory_nor_onto_another_values_file() {
    let scene = Scene::start();
    let mut speaker = scene.speaker(90);
    let outside = || {
        let names = fs::read_dir(scene.cluster.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let before = outside();
    let temporary = ".lockstep-tmp-0123456789abcdef";
    let hostile: Vec<&[u8]> = vec![
        b".",
        b"..",
        b"../escape",
        b"../../../../../../../../tmp/escape",
        b"/etc/escape",
        b"a/../../escape",
        b"-rf",
        b"--",
        b".hidden",
        temporary.as_bytes(),
        b"a/b",
        b"a%2Fb",
        b"a%252Fb",
        b"a%2fb",
        b"%",
        b"%~",
        b"a\nb",
        b"a\0b",
        b"\x1b[31mred",
        b"\x7f",
        b" ",
        b"$(touch escape)",
        b"*",
        b"\xff\xfe",
        "pr\u{e9}cis €".as_bytes(),
        b"CON",
        b"a",
        b"A",
    ];
    let mut wanted = Values::new();
    for (n, name) in hostile.iter().enumerate() {
        wanted.insert(name.to_vec(), n.to_string().into_bytes());
        put(&mut speaker, name, Some(n.to_string().as_bytes()));
    }
    let files = as_files(&wanted);
    assert_eq!(files.len(), hostile.len(), "the test's own names are different");
    scene.assert_files(&wanted);
    assert_eq!(outside(), before);
    // Longer than a file's name may be: each has one all the same, and it is told how to know it.
    let long: Vec<Vec<u8>> = [(b'n', b'1'), (b'n', b'2'), (b'/', b'1'), (b'/', b'2')]
        .iter()
        .map(|(fill, last)| [&vec![*fill; 255][..], &[*last]].concat())
        .collect();
    for name in &long {
        put(&mut speaker, name, Some(name));
    }
    put(&mut speaker, &[b'n'; 255], Some(b"just fits"));
    scene.settle();
    let found = files_in(&scene.dir());
    assert_eq!(found.len(), wanted.len() + long.len() + 1);
    assert_eq!(found[&vec![b'n'; 255]], b"just fits");
    for name in &long {
        let (file, _) = found.iter().find(|(_, content)| *content == name).unwrap();
        let (kept, hash) = file.split_at(189);
        assert!(escaped(name).starts_with(kept) && hash.starts_with(b"%~") && hash.len() == 66, "{file:?}");
        assert!(hash[2..].iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    }
    // And they all go.
    for name in hostile.iter().copied().chain(long.iter().map(Vec::as_slice)) {
        put(&mut speaker, name, None);
    }
    put(&mut speaker, &[b'n'; 255], None);
    scene.assert_files(&Values::new());
}

/// Changes everything there is in the directory of the values.
fn edit(scene: &Scene) {
    fs::write(scene.file("price"), "mine").unwrap();
    fs::remove_file(scene.file("gone")).unwrap();
    fs::set_permissions(scene.file("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(scene.file("a%2Fb")).unwrap();
    fs::create_dir(scene.file("a%2Fb")).unwrap();
    fs::write(scene.file("a%2Fb").join("inside"), "x").unwrap();
    fs::write(scene.file("extra"), "x").unwrap();
    std::os::unix::fs::symlink("price", scene.file("link")).unwrap();
}

#[test]
fn m2_6_local_edits_are_undone_also_while_the_hub_is_away() {
    let mut scene = Scene::start();
    let wanted = values(&[("price", "42"), ("gone", "g"), ("mode", "m"), ("a/b", "nested")]);
    for (name, value) in &wanted {
        scene.put(str::from_utf8(name).unwrap(), str::from_utf8(value).unwrap());
    }
    scene.assert_files(&wanted);
    let files = as_files(&wanted);
    let undone = |scene: &Scene| {
        files_in(&scene.dir()) == files && fs::metadata(scene.file("mode")).is_ok_and(|m| m.mode() & 0o7777 == 0o644)
    };
    edit(&scene);
    until(PATIENCE, "all to be undone", || undone(&scene));
    scene.cluster.kill_hub();
    edit(&scene);
    until(PATIENCE, "all to be undone without a hub", || undone(&scene));
    let log = fs::read_to_string(scene.home().join("log/join.log")).unwrap();
    assert!(log.contains("a local change was undone"), "{log}");
    // An edit while nobody keeps it is undone once somebody does.
    scene.kill();
    edit(&scene);
    scene.cluster.start_hub();
    scene.join_again();
    until(PATIENCE, "all to be undone afterwards", || undone(&scene));
}

/// The machine and the hub are killed again and again while values come, change and go; in the end the files are the values.
#[test]
fn m2_4_m3_7_the_files_are_the_values_whatever_is_killed_meanwhile() {
    for_each_seed(&[1, 2], |seed| {
        let mut rng = Rng::new(seed);
        let mut scene = Scene::start();
        for round in 0..pick(4, 40) {
            let id = 100 + round;
            let mut speaker = scene.speaker(id);
            for _ in 0..60 {
                let name = format!("{}/{}", rng.below(3), rng.below(12));
                let count = rng.below(3000);
                let value = rng.bytes(count);
                put(&mut speaker, name.as_bytes(), (!rng.one_in(4)).then_some(&value[..]));
            }
            match rng.below(4) {
                0 => {
                    scene.kill();
                    let mut speaker = scene.speaker(id + 1000);
                    put(&mut speaker, b"meanwhile", Some(round.to_string().as_bytes()));
                    scene.join_again();
                }
                1 => {
                    scene.cluster.kill_hub();
                    scene.cluster.start_hub();
                }
                2 => {
                    scene.cluster.kill_hub();
                    scene.kill();
                    scene.cluster.start_hub();
                    scene.join_again();
                }
                _ => {}
            }
            if rng.one_in(2) {
                scene.assert_files(&of_hub(&mut scene.speaker(id + 2000)));
            }
        }
        scene.assert_files(&of_hub(&mut scene.speaker(99)));
    });
}

#[test]
fn values_that_a_hub_lost_stay_until_it_has_others_and_then_the_files_are_those() {
    let mut scene = Scene::start();
    let before = values(&[("price", "42"), ("load", "1"), ("a/b", "nested")]);
    for (name, value) in &before {
        scene.put(str::from_utf8(name).unwrap(), str::from_utf8(value).unwrap());
    }
    scene.assert_files(&before);
    scene.cluster.stop_hub();
    for file in ["data.db", "data.db-wal", "data.db-shm"] {
        fs::remove_file(scene.cluster.hub_data().join(file)).ok();
    }
    scene.cluster.start_hub();
    // Nothing at all is more likely lost than meant: that is told, and nothing is deleted.
    until(PATIENCE, "the guard to be told", || {
        let behind = &scene.status()["values_behind"][0];
        behind["why"].as_str().is_some_and(|why| why.contains("values of the hub any more"))
    });
    assert_eq!(files_in(&scene.dir()), as_files(&before));
    let waited = scene.cluster.run(&["wait", "--timeout", "300ms"]);
    assert_eq!(waited.status.code(), Some(1), "{waited:?}");
    // Told that it is meant, it follows.
    scene.kill();
    scene.machine = Some(Proc::start(&mut scene.command(&["--allow-mass-delete"])));
    scene.assert_files(&Values::new());
    scene.put("price", "43");
    scene.assert_files(&values(&[("price", "43")]));
}

#[test]
fn a_burst_of_values_ends_with_each_in_its_file() {
    let mut scene = Scene::hub(&["--http", "127.0.0.1:0"]);
    let (_, unique_id) = Speaker::logged_in(&scene.cluster.address(), 90, None);
    let web = Web::of(&mut scene.cluster).basic(&unique_id);
    scene.join(&["--values", scene.dir().to_str().unwrap()]);
    scene.settle();
    let count = pick(1_000, 20_000);
    std::thread::scope(|scope| {
        for (writer, id) in (0..4).zip(100..) {
            let mut speaker = scene.speaker(id);
            scope.spawn(move || {
                // Sent at once, so that they gather; some names are put twice.
                let names = (0..count).filter(|n| n % 4 == writer);
                let mut asked = 0;
                for n in names.clone().chain(names.take(50)) {
                    let content = Content {
                        content_type: "text/plain".into(),
                        bytes: format!("{writer}:{n}:{asked}").into_bytes().into(),
                    };
                    let name = format!("burst/{n}").into_bytes().into();
                    speaker.say(&ToHub::Put { req: 1, name, value: Some(content) });
                    asked += 1;
                }
                (0..asked).for_each(|_| assert!(matches!(speaker.hear(), ToClient::PutDone { .. })));
            });
        }
    });
    scene.settle();
    let (mut told, mut since) = (Values::new(), String::new());
    loop {
        let page = web.get(&format!("/api/values?prefix=burst%2F&limit=1000{since}")).json();
        for value in page["values"].as_array().unwrap() {
            let text = |key: &str| value[key].as_str().unwrap().as_bytes().to_vec();
            told.insert(text("name"), text("value"));
        }
        if page["current"] == true {
            break;
        }
        since = format!("&since={}", page["next"].as_str().unwrap());
    }
    assert_eq!(told.len(), count);
    scene.assert_files(&told);
}

#[test]
fn m3_7_who_does_not_have_the_newest_files_is_named() {
    let mut scene = Scene::start();
    scene.put("price", "42");
    done(&scene.cluster.run(&["wait", "price"]));
    assert_eq!(fs::read(scene.file("price")).unwrap(), b"42");
    let status = scene.status();
    assert_eq!((&status["values_in_sync"], &status["values_not_in_sync"]), (&1.into(), &0.into()), "{status}");
    // It stands still.
    scene.machine.as_mut().unwrap().pause();
    scene.put("price", "43");
    for args in [&["wait", "price", "--timeout", "300ms"][..], &["wait", "--timeout", "300ms"]] {
        let told = scene.cluster.run(args);
        let said = String::from_utf8_lossy(&told.stderr).into_owned();
        assert_eq!(told.status.code(), Some(1), "{said}");
        assert!(said.contains("client 1") && said.contains("1 entry behind"), "{said}");
    }
    let status = scene.status();
    assert_eq!((&status["values_not_in_sync"], &status["values_behind"][0]["id"]), (&1.into(), &1.into()));
    let text = String::from_utf8(scene.cluster.run(&["status"]).stdout).unwrap();
    assert!(text.contains("as files: 0 in sync, 1 not") && text.contains("1 entry behind"), "{text}");
    let rows =
        || -> Value { serde_json::from_slice(&scene.cluster.run(&["clients", "show", "1", "--json"]).stdout).unwrap() };
    assert_eq!(rows()["in_sync"], false);
    scene.machine.as_mut().unwrap().resume();
    done(&scene.cluster.run(&["wait", "price"]));
    assert_eq!(fs::read(scene.file("price")).unwrap(), b"43");
    // It is away: who keeps values is waited for like who keeps a share.
    scene.kill();
    let away = || String::from_utf8(scene.cluster.run(&["wait", "price", "--timeout", "300ms"]).stderr).unwrap();
    until(PATIENCE, "it to be away", || away().contains("away since"));
    scene.join_again();
    done(&scene.cluster.run(&["wait", "price"]));
}

/// What a client could not do with one value says nothing of the others, where all that it could not do is known.
#[test]
fn a_value_is_waited_for_by_itself_and_what_failed_with_others_does_not_count() {
    let scene = Scene::hub(&[]);
    for name in ["price/a", "price/b", "other"] {
        scene.put(name, "1");
    }
    let mut keeper = scene.speaker(5);
    keeper.say(&ToHub::Follow { fid: 1, board: "data".into(), pattern: "price/*".into(), cursor: None });
    let ToClient::Following { epoch, run, .. } = keeper.hear() else { panic!("it may follow") };
    let wait = |name: &str| {
        let told = scene.cluster.run(&["wait", name, "--timeout", "300ms"]);
        (told.status.code(), String::from_utf8(told.stderr).unwrap())
    };
    assert_eq!(wait("price/a").0, Some(0), "who only looks at some values has nothing to prove");
    let mut tell = |seq: u64, problems: u32, first_problems: &[&str]| {
        let told = |name: &&str| (Bytes::copy_from_slice(name.as_bytes()), "no room".to_owned());
        let first_problems = first_problems.iter().map(told).collect();
        let applied = Ack::of(1, Version { epoch, run, seq }, true);
        keeper.say(&ToHub::Ack(Ack { problems, first_problems, entries: 2, ..applied }));
        keeper.say(&ToHub::Ping { nonce: 1 });
        while !matches!(keeper.hear(), ToClient::Pong { .. }) {}
    };
    tell(0, 0, &[]);
    let (code, said) = wait("price/a");
    assert!(code == Some(1) && said.contains("client 5") && said.contains("1 entry behind"), "{said}");
    assert_eq!(wait("other").0, Some(0), "it does not follow that");
    tell(3, 1, &["price/b"]);
    assert_eq!(wait("price/a").0, Some(0));
    let (code, said) = wait("price/b");
    assert!(code == Some(1) && said.contains("price/b: no room"), "{said}");
    // Not all is named, or it concerns the whole directory: then it may be this one.
    for (problems, first) in [(2, &["price/b"][..]), (1, &[""]), (2, &["price/b", "price/a"])] {
        tell(3, problems, first);
        assert_eq!(wait("price/a").0, Some(1), "{first:?}");
    }
    tell(3, 0, &[]);
    assert_eq!(wait("price/b").0, Some(0));
}

#[test]
fn m2_3_a_directory_that_holds_something_else_is_not_touched_unless_adopted() {
    let mut scene = Scene::hub(&[]);
    scene.put("price", "42");
    fs::create_dir(scene.dir()).unwrap();
    fs::write(scene.file("precious"), "mine").unwrap();
    let (dir, link) = (scene.dir(), scene.cluster.link());
    let args = [&link, "--id", "1", "--values", dir.to_str().unwrap()];
    let refused = scene.command(&args).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(
        said.contains("does not hold the values *") && said.contains("--adopt") && said.contains("precious"),
        "{said}"
    );
    assert_eq!(files_in(&dir), values(&[("precious", "mine")]));
    scene.machine = Some(Proc::start(scene.command(&args).arg("--adopt")));
    scene.assert_files(&values(&[("price", "42")]));
}

#[test]
fn m3_5_a_revoked_client_leaves_its_files_alone() {
    let mut scene = Scene::start();
    scene.put("price", "42");
    scene.settle();
    done(&scene.cluster.run(&["clients", "revoke", "1"]));
    assert_eq!(scene.machine.as_mut().unwrap().wait_exit(PATIENCE).code(), Some(5), "{}", scene.said());
    scene.put("price", "43");
    scene.remove("price");
    lapse(Duration::from_millis(300), "for a file that could go");
    assert_eq!(files_in(&scene.dir()), values(&[("price", "42")]));
    // Nobody waits for it, and it is not told as one that keeps values.
    done(&scene.cluster.run(&["wait", "--timeout", "5s"]));
    assert_eq!(scene.status()["values_not_in_sync"], 0);
}

#[test]
fn what_cannot_be_kept_is_refused_with_the_reason_and_leaves_nothing() {
    let scene = Scene::hub(&[]);
    let (link, at) = (scene.cluster.link(), |name: &str| scene.cluster.path().join(name).display().to_string());
    let (inner, outer) = (at("site/values"), at("site"));
    let long = format!("{}*={}", "n".repeat(257), at("v"));
    let many: Vec<String> = (0..9).map(|n| format!("{n}*={}", at(&format!("v{n}")))).collect();
    let many: Vec<&str> = many.iter().flat_map(|values| ["--values", values]).collect();
    for (args, word) in [
        (vec!["--values", "price*="], "which directory"),
        (vec!["--values", "=v"], "not empty"),
        (vec!["--values", &long], "that long"),
        (vec!["--values", "a\nb*=v"], "control characters"),
        (vec![&outer[..], "--values", &inner], "undo"),
        (many, "at most 8"),
    ] {
        let refused = scene.command(&[&link, "--id", "1"]).args(&args).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && said.contains(word), "{args:?}: {said}");
    }
    for name in ["site", "v", "v0"] {
        assert!(!scene.cluster.path().join(name).exists(), "{name}");
    }
}

#[test]
fn the_example_for_the_shell_reads_what_is_kept() {
    let mut scene = Scene::hub(&[]);
    scene.put("price", "42");
    let prices = format!("price*={}", scene.dir().display());
    scene.join(&["--values", &prices]);
    scene.settle();
    let example = || {
        let mut script = Command::new(workspace().join("examples/shell/values.sh"));
        let output = script.arg(scene.dir()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(example(), "price 42\n");
    scene.put("price", "43");
    scene.put("price/old", "41");
    scene.settle();
    assert_eq!(example(), "price 43\nprice/old 41\n");
    assert_eq!(
        std::ffi::OsStr::from_bytes(b"price%2Fold"),
        fs::read_dir(scene.dir()).unwrap().map(|e| e.unwrap().file_name()).max().unwrap()
    );
}
