//! A hub that lies, or that somebody else speaks for.

use super::*;
use crate::mailbox::Said;
use crate::testing::{DEADLINE, Reply, Scene, dir, file, link, record, tree_of, until};
use board::{Batch, Mark};
use bytes::Bytes;
use std::fs;
use tree::{ContentId, Entry};

/// Tells of entries under these names and values, as the newest.
fn tell(scene: &mut Scene, records: Vec<(Vec<u8>, Bytes)>) {
    let (from, count) = (scene.head, records.len());
    let records = (from + 1..)
        .zip(records)
        .map(|(seq, (name, value))| board::Record { name: name.into(), seq, value: Some(value), aside: Bytes::new() })
        .collect();
    scene.head += count as u64;
    let mark = Mark::Live { from, to: scene.head, view: scene.head, current: true };
    // Without a root: what is compared with one that counts the nonsense is another test's.
    scene.say_batch(Batch { records, mark }, Vec::new(), None);
}

fn value(entry: &Entry) -> Bytes {
    entry.to_bytes().into()
}

#[test]
fn names_that_are_no_paths_touch_nothing_and_hold_up_nobody() {
    let mut scene = Scene::in_sync(&[("a", b"one")]);
    let outside = tree_of(scene.scratch.path()).into_keys().collect::<Vec<_>>();
    let long_name = vec![b'n'; 256];
    let deep = [b"d/".repeat(tree::path::PATH_DEPTH_MAX), b"x".to_vec()].concat();
    let names: Vec<Vec<u8>> = vec![
        b"..".to_vec(),
        b"../escape".to_vec(),
        b"d/../../escape".to_vec(),
        b"/escape".to_vec(),
        b"./escape".to_vec(),
        b"d//escape".to_vec(),
        b"escape/".to_vec(),
        b"nul\0escape".to_vec(),
        b".lockstep-tmp-0123456789abcdef".to_vec(),
        b"d/.lockstep-tmp-0123456789abcdef/escape".to_vec(),
        long_name,
        deep,
    ];
    let bad = u32::try_from(names.len()).unwrap();
    tell(&mut scene, names.into_iter().map(|name| (name, value(&file(b"")))).collect());
    scene.server.has(b"good");
    tell(&mut scene, vec![(b"good".to_vec(), value(&file(b"good")))]);
    let head = scene.head;
    let ack = scene.wait_ack("each is a problem", |ack| ack.problems >= bad && ack.applied.seq == head);
    let refused = |text: &String| text.contains("no path") || text.contains("reserved for temporaries");
    assert!(ack.first_problems.iter().filter(|(name, _)| !name.is_empty()).all(|(_, text)| refused(text)), "{ack:?}");
    assert_eq!(scene.read("good"), "good");
    assert_eq!(tree_of(&scene.copy).into_keys().collect::<Vec<_>>(), ["a", "good"]);
    let now = tree_of(scene.scratch.path()).into_keys().filter(|path| path != "copy/good");
    assert_eq!(now.filter(|path| !path.contains("sqlite")).collect::<Vec<_>>(), {
        outside.into_iter().filter(|path| !path.contains("sqlite")).collect::<Vec<_>>()
    });
}

#[test]
fn entries_that_could_not_stand_on_a_disk_are_refused() {
    let mut scene = Scene::in_sync(&[("a", b"one")]);
    let mut set_id = file(b"").to_bytes();
    set_id[2..6].copy_from_slice(&0o4755_u32.to_le_bytes());
    let nul_link = [&link("x").to_bytes()[..10], b"a\0b"].concat();
    let values: Vec<Bytes> = vec![set_id.into(), nul_link.into(), Bytes::new(), Bytes::from_static(&[9; 40])];
    let bad = u32::try_from(values.len()).unwrap();
    tell(&mut scene, (0..).zip(values).map(|(n, value)| (format!("bad{n}").into_bytes(), value)).collect());
    // The share itself as a link: the root stays a directory.
    tell(&mut scene, vec![(Vec::new(), value(&link("/etc")))]);
    let ack = scene.wait_ack("each is a problem", |ack| ack.problems > bad);
    assert!(ack.first_problems.iter().any(|(_, text)| text.contains("the share itself is no directory")), "{ack:?}");
    assert_eq!(tree_of(&scene.copy).into_keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn a_link_that_leads_out_is_data_and_never_followed() {
    let mut scene = Scene::in_sync(&[("a", b"one")]);
    let outside = scene.scratch.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "untouched").unwrap();
    let before = tree_of(&outside);
    let out = scene.put("out", link(outside.to_str().unwrap()));
    scene.live(vec![out], &[]);
    scene.wait_in_sync();
    assert_eq!(fs::read_link(scene.copy.join("out")).unwrap(), outside);
    // Entries below a link: it has to become a directory, and nothing lands where it led.
    scene.server.has(b"pwned");
    let below = vec![scene.put("out/victim", file(b"pwned")), scene.put("out/sub", dir())];
    scene.live(below, &[b"pwned"]);
    until("it is a directory now", || scene.copy.join("out/victim").exists() && !scene.copy.join("out").is_symlink());
    assert_eq!(tree_of(&outside), before);
}

#[test]
fn a_directory_that_somebody_swaps_for_a_link_is_not_written_through() {
    let mut scene = Scene::new();
    scene.put("d", dir());
    scene.put_file("d/x", b"one");
    scene.start();
    scene.connect();
    scene.following(true);
    scene.walk_all(true);
    scene.current();
    scene.wait_in_sync();
    let outside = scene.scratch.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::rename(scene.copy.join("d"), scene.scratch.path().join("aside")).unwrap();
    std::os::unix::fs::symlink(&outside, scene.copy.join("d")).unwrap();
    let change = scene.put_file("d/x", b"two");
    scene.live(vec![change], &[b"two"]);
    scene.wait_ack("repaired", |ack| ack.waiting == 0 && ack.problems == 0);
    until("it is a directory again", || !scene.copy.join("d").is_symlink() && scene.copy.join("d/x").exists());
    assert_eq!(tree_of(&outside).len(), 0);
    scene.wait_in_sync();
}

#[test]
fn a_batch_that_contradicts_its_own_mark_changes_nothing() {
    let mut scene = Scene::in_sync(&[("a", b"one")]);
    let records = vec![record(b"a", scene.head + 5, Some(&file(b"")))];
    let mark = Mark::Live { from: scene.head, to: scene.head + 1, view: scene.head + 1, current: true };
    scene.say_batch(Batch { records, mark }, Vec::new(), Some([0; 32]));
    assert_eq!(scene.followed().unwrap().version.seq, scene.head);
    scene.following(false);
    scene.current();
    scene.wait_in_sync();
    assert_eq!(scene.read("a"), "one");
}

#[test]
fn entries_whose_contents_never_come_make_the_hub_wait_and_not_memory_grow() {
    let mut scene = Scene::in_sync(&[("a", b"one")]);
    scene.server.script(|_, _| Some(vec![Reply::Cut]));
    let many = (0..=WAITING_MAX).map(|n| {
        let content = format!("content {n}");
        scene.server.has(content.as_bytes());
        (format!("n{n}"), content)
    });
    let many: Vec<_> = many.collect();
    let records = many.iter().map(|(path, content)| scene.put(path, file(content.as_bytes()))).collect();
    scene.live(records, &[]);
    scene.wait_ack("all wait", |ack| ack.waiting as usize == many.len());
    // More is not taken; what the mailbox holds is bounded in bytes, and then the hub waits.
    let mailbox = Arc::clone(&scene.keeper.as_ref().unwrap().mailbox);
    let mut taken = 0;
    let filling = scene.runtime.block_on(async {
        tokio::time::timeout(DEADLINE / 40, async {
            loop {
                let mark = Mark::Live { from: scene.head, to: scene.head, view: scene.head, current: false };
                let batch = Batch { records: Vec::new(), mark };
                let came = crate::convert::Came { batch, inline: Vec::new(), root: None, bytes: 1 << 20 };
                mailbox.hear(Said::Batch(came)).await;
                taken += 1;
            }
        })
        .await
    });
    assert!(filling.is_err() && taken <= 12, "{taken} MiB were taken in");
    // When the contents come at last, all of it goes on.
    scene.server.honest();
    let more = scene.put_file("more", b"more");
    scene.live(vec![more], &[]);
    scene.wait_in_sync();
}

#[test]
fn a_size_that_lies_is_a_problem_of_that_file_alone() {
    let mut scene = Scene::in_sync(&[("a", b"one")]);
    scene.server.has(b"truth");
    let lie = Entry::File { mode: 0o644, mtime_ns: 1, size_bytes: 1, content: ContentId::of(b"truth") };
    let change = vec![scene.put("lie", lie), scene.put_file("good", b"good")];
    scene.live(change, &[]);
    let ack = scene.wait_ack("it is told", |ack| ack.problems == 1 && ack.waiting == 0);
    assert!(ack.first_problems[0].1.contains("hash and size"), "{ack:?}");
    assert_eq!(tree_of(&scene.copy).into_keys().collect::<Vec<_>>(), ["a", "good"]);
}
