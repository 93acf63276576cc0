//! What a keeper promises, against a scripted hub.

use super::*;
use crate::testing::{DEADLINE, Reply, Scene, dir, file, link, noise, record, until};
use board::{Batch, Mark};
use std::os::unix::fs::PermissionsExt;
use tree::ContentId;
use wire::message::{ToClient, ToHub};

const BOTH: [(&str, &[u8]); 2] = [("a", b"one"), ("d/b", b"two")];

/// A scene in sync with a file, and one in a directory.
fn two_files() -> Scene {
    let mut scene = Scene::new();
    scene.put("d", dir());
    for (path, content) in BOTH {
        scene.put_file(path, content);
    }
    begin(&mut scene);
    scene.wait_in_sync();
    scene
}

fn begin(scene: &mut Scene) {
    scene.start();
    scene.connect();
    scene.following(true);
    scene.walk_all(true);
    scene.current();
}

#[test]
fn m2_1_a_first_walk_makes_the_copy_the_share() {
    let mut scene = Scene::new();
    scene.put("d", dir());
    scene.put("d/empty", dir());
    scene.put("l", link("d/b"));
    scene.put_file("d/b", b"two");
    scene.put_file("nothing", b"");
    begin(&mut scene);
    let ack = scene.wait_in_sync();
    assert!(ack.complete && ack.entries == 6, "{ack:?}");
    assert_eq!(ack.content_bytes, 3);
}

#[test]
fn m2_7_content_that_comes_along_is_not_asked_for() {
    let mut scene = two_files();
    let asked = scene.server.asked().len();
    let change = scene.put("a", file(b"new"));
    scene.live(vec![change], &[b"new"]);
    scene.wait_in_sync();
    assert_eq!((scene.read("a").as_str(), scene.server.asked().len()), ("new", asked));
}

#[test]
fn what_comes_along_and_is_not_what_its_entry_says_gets_no_name() {
    let mut scene = two_files();
    let change = scene.put_file("a", b"new");
    let batch = Batch {
        records: vec![change],
        mark: Mark::Live { from: scene.head - 1, to: scene.head, view: scene.head, current: true },
    };
    let lie = (ContentId::of(b"new"), bytes::Bytes::from_static(b"LIE"));
    scene.say_batch(batch, vec![lie], Some(scene.root()));
    until("it is told", || scene.problems().iter().any(|text| text.contains("does not match its hash")));
    assert_ne!(scene.read("a"), "LIE");
    // The retry asks for it.
    scene.wait_in_sync();
}

#[test]
fn what_did_not_come_along_is_fetched_once_however_many_names_want_it() {
    let mut scene = two_files();
    scene.server.has(b"new");
    let changes = ["x", "y", "d/z"].map(|path| scene.put(path, file(b"new"))).to_vec();
    scene.live(changes, &[]);
    scene.wait_in_sync();
    assert_eq!(scene.server.wants_of(b"new"), 1);
}

#[test]
fn m2_3_what_was_removed_at_the_hub_goes() {
    let mut scene = two_files();
    let gone = ["d/b", "d"].map(|path| scene.remove(path)).to_vec();
    scene.live(gone, &[]);
    scene.wait_in_sync();
    assert!(!scene.copy.join("d").exists());
}

#[test]
fn a_directory_becomes_a_file_and_a_directory_again() {
    let mut scene = two_files();
    let changes = vec![scene.remove("d/b"), scene.put_file("d", b"file now")];
    scene.live(changes, &[]);
    scene.wait_in_sync();
    let changes = vec![scene.put("d", dir()), scene.put_file("d/b", b"two again")];
    scene.live(changes, &[]);
    scene.wait_in_sync();
    assert_eq!(scene.read("d/b"), "two again");
}

#[test]
fn a_move_at_the_hub_costs_no_transfer() {
    let mut scene = two_files();
    let changes = vec![scene.put("moved", file(b"two")), scene.remove("d/b")];
    scene.live(changes, &[]);
    scene.wait_in_sync();
    assert_eq!(scene.server.wants_of(b"two"), 1, "only for the first copy");
}

#[test]
fn an_entry_implies_that_its_ancestors_are_directories() {
    let mut scene = two_files();
    scene.server.has(b"deep");
    let deep = scene.put("p/q/r", file(b"deep"));
    scene.live(vec![deep], &[]);
    until("the file is there", || scene.copy.join("p/q/r").exists());
    let ancestors = vec![scene.put("p", dir()), scene.put("p/q", dir())];
    scene.live(ancestors, &[]);
    scene.wait_in_sync();
}

#[test]
fn nothing_is_deleted_before_the_first_current_and_what_is_gone_afterwards() {
    let mut scene = two_files();
    scene.lose();
    scene.connect();
    scene.epoch = 2;
    scene.entries.remove(&b"a"[..]);
    scene.put_file("new", b"new");
    scene.following(true);
    scene.walk_all(true);
    // What is new is there, so the walk was dealt with, and nothing is gone.
    until("the new file is there", || scene.copy.join("new").exists());
    let ack = scene.wait_ack("the walk is applied", |ack| ack.applied.epoch == 2 && ack.waiting == 0);
    assert!(!ack.complete && scene.copy.join("a").exists());
    scene.current();
    scene.wait_in_sync();
    assert!(!scene.copy.join("a").exists());
}

/// The share anew, as a hub tells of it that lost its index and says `told` of `d`; then the copy's `d/b`, if it is there.
fn after_a_new_epoch_with(told: Option<tree::Entry>) -> (Scene, Option<String>) {
    let mut scene = two_files();
    scene.lose();
    scene.connect();
    scene.epoch = 2;
    scene.entries.retain(|name, _| !name.starts_with(b"d"));
    told.into_iter().for_each(|entry| drop(scene.put("d", entry)));
    scene.following(true);
    scene.walk_all(true);
    scene.current();
    scene.wait_ack("the walk is applied", |ack| ack.complete && ack.applied.epoch == 2);
    let there = std::fs::read_to_string(scene.copy.join("d/b")).ok();
    (scene, there)
}

#[test]
fn m2_3_what_the_hub_does_not_know_stays_as_it_is_with_all_below() {
    // What a hub would say that knew no better: then it goes.
    assert_eq!(after_a_new_epoch_with(None).1, None);
    assert_eq!(after_a_new_epoch_with(Some(dir())).1, None);
    let (mut scene, there) = after_a_new_epoch_with(Some(tree::Entry::Unknown));
    assert_eq!(there.as_deref(), Some("two"));
    let ack = scene
        .wait_ack("it is a problem, and the root agrees", |ack| ack.problems == 1 && ack.root_agrees == Some(true));
    assert_eq!(&ack.first_problems[0].0[..], b"d");
    // Also after a restart, and whatever happens there.
    scene.stop();
    std::fs::write(scene.copy.join("d/mine"), "edited here").unwrap();
    scene.start();
    scene.connect();
    scene.following(false);
    scene.current();
    scene.wait_ack("it is one problem still", |ack| ack.complete && ack.problems == 1);
    assert_eq!((scene.read("d/b").as_str(), scene.read("d/mine").as_str()), ("two", "edited here"));
    // Once it is known, it is the share's.
    let known = vec![scene.put("d", dir()), scene.put_file("d/b", b"two")];
    scene.live(known, &[]);
    scene.wait_in_sync();
    assert_eq!(scene.server.wants_of(b"two"), 1, "only for the first copy");
}

#[test]
fn a_new_epoch_costs_no_transfer_and_its_durable_seq_begins_anew() {
    let mut scene = two_files();
    scene.wait_ack("durable", |ack| ack.durable_seq == ack.applied.seq);
    let asked = scene.server.asked().len();
    scene.lose();
    assert_eq!(scene.connect().unwrap().version.epoch, 1);
    scene.epoch = 2;
    scene.following(true);
    let ack = scene.wait_ack("an answer in the new epoch", |ack| ack.applied.epoch == 2);
    assert_eq!((ack.applied.seq, ack.durable_seq, ack.complete), (0, 0, false));
    scene.walk_all(true);
    scene.current();
    scene.wait_in_sync();
    assert_eq!(scene.server.asked().len(), asked);
}

#[test]
fn a_restart_shows_the_cursor_and_costs_nothing() {
    let mut scene = two_files();
    let asked = scene.server.asked().len();
    scene.stop();
    scene.start();
    let cursor = scene.connect().unwrap();
    assert_eq!(cursor.version.seq, scene.head);
    scene.following(false);
    scene.current();
    scene.wait_in_sync();
    assert_eq!(scene.server.asked().len(), asked);
}

#[test]
fn a_walk_that_was_cut_goes_on_where_it_was() {
    let mut scene = Scene::new();
    for path in ["a", "b", "c"] {
        scene.put_file(path, path.as_bytes());
    }
    scene.start();
    assert_eq!(scene.connect(), None);
    scene.following(true);
    let half = |scene: &Scene, from: &str, upto: &str, last: bool| {
        let names =
            scene.entries.iter().filter(|(path, _)| &path[..] >= from.as_bytes() && &path[..] <= upto.as_bytes());
        let records = names.map(|(path, (seq, entry))| record(path, *seq, Some(entry))).collect();
        let mark = Mark::Walk { head: scene.head, upto: upto.to_owned().into(), last, reset: true };
        scene.say_batch(Batch { records, mark }, Vec::new(), None);
    };
    half(&scene, "", "b", false);
    until("half of it is there", || scene.copy.join("b").exists());
    scene.stop();
    scene.start();
    let cursor = scene.connect().unwrap();
    assert_eq!(cursor.walk.unwrap().upto, "b");
    scene.following(false);
    half(&scene, "c", "c", true);
    scene.current();
    scene.wait_in_sync();
}

#[test]
fn a_root_that_never_agrees_is_told_and_asked_for_once_and_not_in_a_loop() {
    let mut scene = two_files();
    let change = scene.put("a", file(b"new"));
    let mark = Mark::Live { from: scene.head - 1, to: scene.head, view: scene.head, current: true };
    scene.server.has(b"new");
    scene.say_batch(Batch { records: vec![change], mark }, Vec::new(), Some([7; 32]));
    // It was looked at, and everything is asked for again.
    assert_eq!(scene.followed(), None);
    scene.following(true);
    scene.walk_all(true);
    let mark = Mark::Live { from: scene.head, to: scene.head, view: scene.head, current: true };
    scene.say_batch(Batch { records: Vec::new(), mark }, Vec::new(), Some([7; 32]));
    let ack = scene.wait_ack("it is told", |ack| ack.root_agrees == Some(false) && ack.problems == 1);
    assert!(ack.first_problems[0].1.contains("not what the hub says"), "{ack:?}");
    assert_eq!(scene.read("a"), "new");
    // The next root is right, nothing else was asked before, and the fault is over.
    scene.current();
    scene.wait_in_sync();
}

#[test]
fn batches_that_do_not_follow_are_answered_by_following_anew_at_growing_distances() {
    let mut scene = two_files();
    let wrong = |scene: &Scene| {
        let mark = Mark::Live { from: scene.head + 7, to: scene.head + 8, view: scene.head + 8, current: true };
        scene.say_batch(Batch { records: Vec::new(), mark }, Vec::new(), Some([0; 32]));
    };
    let began = Instant::now();
    for _ in 0..4 {
        wrong(&scene);
        let cursor = scene.followed().unwrap();
        assert_eq!(cursor.version.seq, scene.head, "the cursor is as it was");
        scene.following(false);
    }
    // At once, then after 200, 400 and 800 ms.
    assert!(began.elapsed() >= 7 * RETRY_FIRST, "a hub that talks nonsense is asked in a tight loop");
    scene.wait_ack("it is told", |ack| ack.problems == 1);
    scene.current();
    scene.wait_in_sync();
}

#[test]
fn a_local_edit_is_undone_without_a_transfer_where_another_copy_is_here() {
    let mut scene = Scene::in_sync(&[("a", b"same"), ("b", b"same"), ("c", b"other")]);
    std::fs::write(scene.copy.join("a"), "edited").unwrap();
    std::fs::remove_file(scene.copy.join("c")).unwrap();
    std::fs::write(scene.copy.join("extra"), "x").unwrap();
    until("all is undone", || {
        let read = |path| std::fs::read(scene.copy.join(path)).unwrap_or_default();
        read("a") == b"same" && read("c") == b"other" && !scene.copy.join("extra").exists()
    });
    until("it is told", || {
        let events = scene.events.lock().unwrap();
        events.iter().filter(|event| matches!(event, Event::Reverted { .. })).count() >= 2
    });
    assert_eq!((scene.server.wants_of(b"same"), scene.server.wants_of(b"other")), (1, 2));
    scene.wait_in_sync();
}

/// What the agent says of each path that it put in order: `true` where it undid a local change.
fn said_of(scene: &Scene, path: &str) -> Vec<bool> {
    let events = scene.events.lock().unwrap();
    let said = |event: &Event| match event {
        Event::Reverted { path: at, .. } if at.to_string() == path => Some(true),
        Event::Applied { path: at, .. } if at.to_string() == path => Some(false),
        _ => None,
    };
    events.iter().filter_map(said).collect()
}

#[test]
fn every_local_change_that_is_undone_is_told_alike_and_nothing_else_is() {
    let mut scene = two_files();
    scene.put_file("c", b"three");
    scene.put("l", link("a"));
    let news = ["c", "l"].map(|path| {
        let (seq, entry) = &scene.entries[path.as_bytes()];
        record(path.as_bytes(), *seq, Some(entry))
    });
    scene.live(news.to_vec(), &[]);
    scene.wait_in_sync();
    for path in ["a", "d/b", "c", "l"] {
        assert_eq!(said_of(&scene, path), [false], "{path}: it came from the hub");
    }
    scene.events.lock().unwrap().clear();
    // An edit, which has to be fetched; the same of the same size; a deletion; a link that is another; something extra.
    std::fs::write(scene.copy.join("a"), "edited").unwrap();
    std::fs::write(scene.copy.join("c"), "thr33").unwrap();
    std::fs::remove_file(scene.copy.join("d/b")).unwrap();
    std::fs::remove_file(scene.copy.join("l")).unwrap();
    std::os::unix::fs::symlink("elsewhere", scene.copy.join("l")).unwrap();
    std::fs::write(scene.copy.join("extra"), "x").unwrap();
    for path in ["a", "c", "d/b", "l", "extra"] {
        until(&format!("{path} to be told"), || !said_of(&scene, path).is_empty());
        assert_eq!(said_of(&scene, path), [true], "{path}");
    }
    until("all is undone", || scene.read("a") == "one" && scene.read("c") == "three" && scene.read("d/b") == "two");
    scene.wait_in_sync();
    scene.events.lock().unwrap().clear();
    // What the hub wants next is the hub's, also of what was edited.
    let change = scene.put_file("a", b"new");
    let gone = scene.remove("c");
    scene.live(vec![change, gone], &[]);
    scene.wait_in_sync();
    assert_eq!((said_of(&scene, "a"), said_of(&scene, "c")), (vec![false], vec![false]));
}

#[test]
fn what_was_on_its_way_when_the_agent_ended_is_no_local_change() {
    let mut scene = two_files();
    scene.server.script(|_, _| Some(Vec::new()));
    let change = scene.put_file("late", b"late");
    scene.live(vec![change], &[]);
    scene.wait_ack("it waits", |ack| ack.waiting == 1);
    scene.stop();
    scene.server.script(|_, _| None);
    // It is found to be missing by a look of the agent's own, before the hub says anything.
    scene.start();
    scene.connect();
    scene.following(false);
    scene.current();
    scene.wait_in_sync();
    assert_eq!(said_of(&scene, "late"), [false]);
}

#[test]
fn what_cannot_be_written_is_a_problem_that_holds_up_nobody_and_is_tried_again() {
    let mut scene = two_files();
    // Larger than the disk.
    let disk = rustix::fs::statvfs(&scene.copy).unwrap();
    let chunk_bytes = wire::limits::CHUNK_BYTES_MAX as u64;
    let count = 2 * disk.f_bavail * disk.f_frsize / chunk_bytes + 1;
    let huge =
        tree::Entry::File { mode: 0o644, mtime_ns: 5, size_bytes: count * chunk_bytes, content: ContentId([9; 32]) };
    scene.server.script(move |message, _| match message {
        ToHub::Want { contents, .. } if contents.contains(&[9; 32]) => Some(recipe_of(count, chunk_bytes)),
        _ => None,
    });
    let changes = vec![scene.put("huge", huge), scene.put_file("small", b"small")];
    scene.live(changes, &[]);
    let head = scene.head;
    let ack = scene.wait_ack("the cursor passes", |ack| ack.applied.seq == head && ack.problems == 1);
    assert!(ack.first_problems[0].1.contains("No space"), "{ack:?}");
    assert_eq!(scene.read("small"), "small");
    assert_eq!(ack.root_agrees, Some(true), "open problems are counted as if they were done");
    until("it is tried again", || scene.server.wants_of(b"small") == 1 && asked_for(&scene, [9; 32]) >= 3);
    let gone = scene.remove("huge");
    scene.live(vec![gone], &[]);
    scene.wait_in_sync();
}

/// The recipe of a file that is the same chunk `count` times.
fn recipe_of(count: u64, chunk_bytes: u64) -> Vec<Reply> {
    let (total, len) = (u32::try_from(count).unwrap(), u32::try_from(chunk_bytes).unwrap());
    let part = u32::try_from(wire::limits::CHUNKS_MAX).unwrap();
    let parts = (0..total).step_by(part as usize);
    let say = |first: u32| {
        let chunks = vec![([1; 32], len); (total - first).min(part) as usize];
        Reply::Say(ToClient::Recipe { content: [9; 32], first, total, chunks })
    };
    parts.map(say).collect()
}

fn asked_for(scene: &Scene, content: [u8; 32]) -> usize {
    let wants = |asked: &&ToHub| matches!(asked, ToHub::Want { contents, .. } if contents.contains(&content));
    scene.server.asked().iter().filter(wants).count()
}

#[test]
fn what_is_applied_is_told_up_to_the_first_content_that_is_missing() {
    let mut scene = two_files();
    let first = scene.head + 1;
    scene.server.script(|message, server| match message {
        ToHub::Want { contents, .. } => {
            let late = ContentId::of(b"late").0;
            let others: Vec<_> = contents.iter().copied().filter(|content| *content != late).collect();
            Some(server.answer(&ToHub::Want { share: "docs".into(), contents: others }))
        }
        _ => None,
    });
    let changes = vec![scene.put_file("x", b"early"), scene.put_file("y", b"late"), scene.put_file("z", b"after")];
    scene.live(changes, &[]);
    let ack = scene.wait_ack("one is missing", |ack| ack.waiting == 1);
    assert_eq!(ack.applied.seq, first, "x is there, y is not");
    until("what came after is there all the same", || scene.copy.join("z").exists());
    let change = scene.put_file("y", b"newer");
    scene.live(vec![change], &[]);
    scene.wait_in_sync();
}

#[test]
fn what_is_applied_becomes_durable() {
    let mut scene = two_files();
    let ack = scene.wait_ack("durable", |ack| ack.durable_seq > 0 && ack.durable_seq == ack.applied.seq);
    assert_eq!(ack.durable_seq, scene.head);
    let change = scene.put("a", file(b"new"));
    scene.live(vec![change], &[b"new"]);
    let head = scene.head;
    scene.wait_ack("durable again", |ack| ack.durable_seq == head);
}

#[test]
fn a_fault_of_the_whole_share_is_over_when_it_is_over() {
    let mut scene = two_files();
    scene.keeper.as_ref().unwrap().mailbox.push(Letter::NotFollowing("no such share".into()));
    scene.wait_ack("it is told", |ack| ack.problems == 1 && ack.first_problems[0].1.contains("no such share"));
    scene.lose();
    scene.connect();
    scene.following(false);
    scene.current();
    scene.wait_in_sync();
}

#[test]
fn a_full_disk_for_the_notes_is_told_once_and_forgotten() {
    let mut scene = two_files();
    let mailbox = Arc::clone(&scene.keeper.as_ref().unwrap().mailbox);
    let mut replica = board::Replica::new();
    mailbox.push(Letter::Saved(Some((replica.take_unsaved(), "no space left".into()))));
    mailbox.push(Letter::Saved(Some((replica.take_unsaved(), "no space left".into()))));
    until("it is told", || scene.problems().iter().any(|text| text.contains("no space left")));
    // The next save succeeds.
    let change = scene.put("a", file(b"new"));
    scene.live(vec![change], &[b"new"]);
    scene.wait_in_sync();
    assert_eq!(scene.problems().iter().filter(|text| text.contains("no space left")).count(), 1);
}

#[test]
fn most_of_the_copy_is_not_deleted_unasked_and_the_problem_says_what_to_do() {
    let mut scene = Scene::new();
    let many: Vec<String> = (0..1_100).map(|n| format!("n{n:04}")).collect();
    for path in &many {
        scene.put_file(path, b"");
    }
    begin(&mut scene);
    scene.wait_in_sync();
    scene.lose();
    scene.connect();
    scene.epoch = 2;
    for path in &many[1..] {
        scene.entries.remove(path.as_bytes());
    }
    scene.following(true);
    scene.walk_all(true);
    scene.current();
    let ack = scene.wait_ack("it is told", |ack| ack.complete && ack.problems == 1);
    let text = &ack.first_problems[0].1;
    assert!(text.contains("1099 of the 1100") && text.contains("lockstep join --allow-mass-delete"), "{text}");
    assert!(many.iter().all(|path| scene.copy.join(path).exists()));
    assert_eq!(ack.held_deletes, 1_099);
    // Started anew with the flag, they go.
    scene.stop();
    scene.allow_mass_delete = true;
    scene.start();
    scene.connect();
    scene.following(false);
    scene.current();
    assert_eq!(scene.wait_in_sync().held_deletes, 0);
}

#[test]
fn what_a_command_did_is_acknowledged_at_once_and_again_in_the_next_session() {
    let mut scene = two_files();
    let run = |code: i32| mirror::after::Ran {
        told: 2,
        end: mirror::after::End::Exited(code),
        took: std::time::Duration::from_millis(5),
        said: Some("no such service".into()),
    };
    let of = scene.kept.clone();
    for code in [3, 0] {
        scene.runs.note(&of, &run(code));
        let ack = scene.wait_ack("the run", |ack| ack.after.as_ref().is_some_and(|ran| ran.code == Some(code)));
        let after = ack.after.unwrap();
        assert_eq!((after.end.as_str(), after.told, after.said.as_deref()), ("exited", 2, Some("no such service")));
        assert_eq!((after.is_good(), ack.problems), (code == 0, 0), "it is no problem of the copy");
    }
    scene.runs.note(&crate::Kept::Share("another".into()), &run(9));
    scene.lose();
    scene.connect();
    scene.following(false);
    scene.wait_ack("the last run of this one", |ack| ack.after.as_ref().is_some_and(|ran| ran.code == Some(0)));
}

#[test]
fn deletions_that_the_hub_told_of_are_done_however_many() {
    let mut scene = Scene::new();
    let many: Vec<String> = (0..1_100).map(|n| format!("n{n:04}")).collect();
    for path in &many {
        scene.put_file(path, b"");
    }
    begin(&mut scene);
    scene.wait_in_sync();
    let gone = many.iter().map(|path| scene.remove(path)).collect();
    scene.live(gone, &[]);
    scene.wait_in_sync();
}

#[test]
fn a_directory_that_lets_nobody_write_is_written_to_all_the_same_and_gets_its_rights_back() {
    let mut scene = Scene::new();
    scene.put("ro", tree::Entry::Dir { mode: 0o555, mtime_ns: 7 });
    scene.put_file("ro/f", b"1");
    begin(&mut scene);
    scene.wait_in_sync();
    let change = scene.put_file("ro/f", b"2");
    scene.live(vec![change], &[]);
    scene.wait_in_sync();
    assert_eq!(std::fs::metadata(scene.copy.join("ro")).unwrap().permissions().mode() & 0o777, 0o555);
}

#[test]
fn a_keeper_ends_soon_also_while_contents_are_missing() {
    let mut scene = two_files();
    scene.server.script(|_, _| Some(Vec::new()));
    let change = scene.put_file("a", &noise(1, 100_000));
    scene.live(vec![change], &[]);
    scene.wait_ack("it waits", |ack| ack.waiting == 1);
    let began = Instant::now();
    scene.stop();
    assert!(began.elapsed() < DEADLINE / 2);
    assert_eq!(scene.read("a"), "one");
}
