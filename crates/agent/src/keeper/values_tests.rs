//! Values as files: the same keeper, and what differs.

use super::*;
use crate::testing::{Scene, until};
use board::{Batch, Mark, Record};
use board::{Durability, SqliteStore};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use wire::codec::encode_stored;
use wire::message::{Content, Stored};

const AT_MS: i64 = 1_700_000_000_123;

/// The values a hub has, and a keeper that follows them.
struct Values {
    scene: Scene,
    values: BTreeMap<Vec<u8>, (u64, Bytes)>,
}

fn stored(value: &[u8]) -> Bytes {
    let content = Content { content_type: "text/plain".into(), bytes: Bytes::copy_from_slice(value) };
    encode_stored(&Stored { content, by: 3, at_ms: AT_MS }).unwrap()
}

impl Values {
    /// Nothing is started.
    fn new() -> Values {
        let mut scene = Scene::new();
        scene.kept = Kept::Values("*".into());
        scene.head = 0;
        Values { scene, values: BTreeMap::new() }
    }

    fn in_sync(values: &[(&str, &str)]) -> Values {
        let mut hub = Values::new();
        values.iter().for_each(|(name, value)| drop(hub.put(name.as_bytes(), value.as_bytes())));
        hub.scene.start();
        hub.scene.connect();
        hub.walk(true);
        hub.wait_in_sync();
        hub
    }

    fn put(&mut self, name: &[u8], value: &[u8]) -> Record {
        self.scene.head += 1;
        let (seq, value) = (self.scene.head, stored(value));
        self.values.insert(name.to_vec(), (seq, value.clone()));
        Record { name: Bytes::copy_from_slice(name), seq, value: Some(value), aside: Bytes::new() }
    }

    fn remove(&mut self, name: &[u8]) -> Record {
        self.scene.head += 1;
        self.values.remove(name);
        Record { name: Bytes::copy_from_slice(name), seq: self.scene.head, value: None, aside: Bytes::new() }
    }

    fn say(&self, records: Vec<Record>, mark: Mark) {
        // As a hub says `current` of a board without roots.
        self.scene.say_batch(Batch { records, mark }, Vec::new(), Some([0; 32]));
    }

    fn live(&self, records: Vec<Record>) {
        let to = self.scene.head;
        let from = records.iter().map(|record| record.seq).min().unwrap_or(to + 1) - 1;
        self.say(records, Mark::Live { from, to, view: to, current: true });
    }

    /// The answer to a follow that begins anew, and all values.
    fn walk(&mut self, reset: bool) {
        self.scene.following(reset);
        let record = |(name, (seq, value)): (&Vec<u8>, &(u64, Bytes))| Record {
            name: name.clone().into(),
            seq: *seq,
            value: Some(value.clone()),
            aside: Bytes::new(),
        };
        let upto = self.values.last_key_value().map(|(name, _)| name.clone().into()).unwrap_or_default();
        self.say(
            self.values.iter().map(record).collect(),
            Mark::Walk { head: self.scene.head, upto, last: true, reset },
        );
        self.live(Vec::new());
    }

    fn wait_in_sync(&mut self) -> wire::message::Ack {
        let (head, len) = (self.scene.head, self.values.len() as u64);
        self.scene.wait_ack("in sync", |ack| {
            ack.complete && ack.applied.seq == head && ack.problems == 0 && ack.waiting == 0 && ack.entries == len
        })
    }

    fn files(&self) -> BTreeMap<Vec<u8>, String> {
        let file = |entry: std::io::Result<fs::DirEntry>| {
            let entry = entry.unwrap();
            // What is being undone may be a directory, or gone by now.
            let text = fs::read_to_string(entry.path()).unwrap_or_else(|why| why.to_string());
            (entry.file_name().into_vec(), text)
        };
        fs::read_dir(&self.scene.copy).unwrap().map(file).collect()
    }

    /// Makes the directory `name` with `below` in it, at once: what is made piece by piece may be undone in between.
    fn make_dirs(&self, name: &str, below: &str) {
        let aside = self.scene.scratch.path().join("aside");
        fs::create_dir_all(aside.join(below)).unwrap();
        // Where the file is back already, it is the directory that comes late.
        fs::rename(&aside, self.path(name)).or_else(|_| fs::remove_dir_all(&aside)).unwrap();
    }

    fn path(&self, file: &str) -> PathBuf {
        self.scene.copy.join(file)
    }
}

fn files(files: &[(&str, &str)]) -> BTreeMap<Vec<u8>, String> {
    files.iter().map(|(name, value)| (name.as_bytes().to_vec(), (*value).to_owned())).collect()
}

#[test]
fn each_value_is_a_file_that_is_replaced_and_goes() {
    let mut hub = Values::in_sync(&[("price", "42"), ("empty", ""), ("a/b", "nested"), ("a", "both")]);
    assert_eq!(hub.files(), files(&[("price", "42"), ("empty", ""), ("a%2Fb", "nested"), ("a", "both")]));
    let meta = fs::metadata(hub.path("price")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()), (0o644, AT_MS / 1000, 123_000_000));
    let inode = meta.ino();
    let changes = vec![hub.put(b"price", b"43"), hub.remove(b"a")];
    hub.live(changes);
    hub.wait_in_sync();
    assert_eq!(hub.files(), files(&[("price", "43"), ("empty", ""), ("a%2Fb", "nested")]));
    assert_ne!(fs::metadata(hub.path("price")).unwrap().ino(), inode, "it is another file, not another content");
    assert!(hub.scene.server.asked().is_empty(), "nothing was fetched");
}

#[test]
fn the_directory_keeps_its_own_mode_and_nothing_of_it_is_reverted() {
    use std::os::unix::fs::PermissionsExt;
    let mut hub = Values::in_sync(&[("price", "42")]);
    fs::set_permissions(&hub.scene.copy, fs::Permissions::from_mode(0o2750)).unwrap();
    let change = hub.put(b"price", b"43");
    hub.live(vec![change]);
    hub.wait_in_sync();
    assert_eq!(fs::metadata(&hub.scene.copy).unwrap().mode() & 0o7777, 0o2750);
}

#[test]
fn local_edits_are_undone_also_while_the_hub_is_away_and_after_a_restart() {
    let mut hub = Values::in_sync(&[("price", "42"), ("a/b", "nested")]);
    let wanted = hub.files();
    let edit = |hub: &Values| {
        fs::write(hub.path("price"), "mine").unwrap();
        fs::remove_file(hub.path("a%2Fb")).unwrap();
        fs::write(hub.path("extra"), "x").unwrap();
        hub.make_dirs("a", "b");
        fs::write(hub.path("%2e"), "no name").unwrap();
    };
    edit(&hub);
    until("all is undone", || hub.path("a").symlink_metadata().is_err() && hub.files() == wanted);
    hub.scene.lose();
    edit(&hub);
    until("all is undone without a hub", || hub.path("a").symlink_metadata().is_err() && hub.files() == wanted);
    hub.scene.stop();
    edit(&hub);
    hub.scene.start();
    until("all is undone after a restart", || hub.path("a").symlink_metadata().is_err() && hub.files() == wanted);
}

#[test]
fn a_directory_where_a_file_is_to_be_goes_and_forgets_no_other_value() {
    let mut hub = Values::in_sync(&[("a", "1"), ("a/b", "2"), ("a/c", "3")]);
    let wanted = hub.files();
    fs::remove_file(hub.path("a")).unwrap();
    hub.make_dirs("a", "b/c");
    until("the file is back", || hub.path("a").is_file() && hub.files() == wanted);
    let change = hub.put(b"a/b", b"4");
    hub.live(vec![change]);
    hub.wait_in_sync();
    assert_eq!(fs::read_to_string(hub.path("a%2Fb")).unwrap(), "4");
}

#[test]
fn a_restart_shows_the_cursor_and_replaces_no_file() {
    let mut hub = Values::in_sync(&[("price", "42"), ("a/b", "nested"), (&"n".repeat(256), "long")]);
    let print = |hub: &Values| -> BTreeMap<_, _> {
        let entries = fs::read_dir(&hub.scene.copy).unwrap().map(|entry| entry.unwrap());
        entries.map(|e| (e.file_name(), (e.metadata().unwrap().ino(), e.metadata().unwrap().ctime_nsec()))).collect()
    };
    let before = print(&hub);
    hub.scene.stop();
    hub.scene.start();
    assert_eq!(hub.scene.connect().unwrap().version.seq, hub.scene.head);
    hub.scene.following(false);
    hub.live(Vec::new());
    hub.wait_in_sync();
    assert_eq!(print(&hub), before);
}

#[test]
fn long_names_are_cut_and_found_again_when_they_are_removed_and_restored() {
    let long: Vec<Vec<u8>> = [b"a", b"b"].map(|last| [&[b'n'; 255][..], last].concat()).to_vec();
    let mut hub = Values::in_sync(&[]);
    let changes = long.iter().map(|name| hub.put(name, name)).collect();
    hub.live(changes);
    hub.wait_in_sync();
    let wanted = hub.files();
    assert!(wanted.len() == 2 && wanted.keys().all(|file| file.len() == 255 && file.starts_with(&[b'n'; 189])));
    for file in wanted.keys() {
        fs::write(hub.scene.copy.join(std::ffi::OsString::from_vec(file.clone())), "mine").unwrap();
    }
    until("both are restored", || hub.files() == wanted);
    let gone = hub.remove(&long[0]);
    hub.live(vec![gone]);
    hub.wait_in_sync();
    assert_eq!(hub.files().into_values().collect::<Vec<_>>(), [String::from_utf8(long[1].clone()).unwrap()]);
}

#[test]
fn what_was_removed_goes_however_many_and_what_a_new_history_lacks_is_held_back() {
    let names: Vec<String> = (0..1_200).map(|n| format!("v{n:04}")).collect();
    let mut hub = Values::new();
    names.iter().for_each(|name| drop(hub.put(name.as_bytes(), b"1")));
    hub.scene.start();
    hub.scene.connect();
    hub.walk(true);
    hub.wait_in_sync();
    // A hub that lost its values is not believed that nobody wants them.
    hub.scene.lose();
    hub.scene.connect();
    hub.scene.epoch = 2;
    let all = std::mem::take(&mut hub.values);
    hub.scene.head = 0;
    hub.walk(true);
    let ack = hub.scene.wait_ack("it is held", |ack| ack.applied.epoch == 2 && ack.complete && ack.problems == 1);
    assert!(ack.first_problems[0].1.contains("values of the hub any more"), "{ack:?}");
    assert_eq!(hub.files().len(), names.len());
    // They are put again, and then removed one by one: that is what somebody did.
    let puts = all.keys().map(|name| hub.put(name, b"1")).collect();
    hub.live(puts);
    let head = hub.scene.head;
    hub.scene.wait_ack("they are back", |ack| ack.applied.seq == head && ack.entries == 1_200);
    let gone = names.iter().map(|name| hub.remove(name.as_bytes())).collect();
    hub.live(gone);
    until("all are gone", || fs::read_dir(&hub.scene.copy).unwrap().count() == 0);
}

#[test]
fn what_came_while_nothing_was_kept_goes_or_is_held_also_where_there_are_no_values() {
    let mut hub = Values::in_sync(&[("price", "42")]);
    let gone = hub.remove(b"price");
    hub.live(vec![gone]);
    hub.wait_in_sync();
    hub.scene.stop();
    fs::write(hub.path("extra"), "x").unwrap();
    let resume = |hub: &mut Values| {
        hub.scene.start();
        hub.scene.connect();
        hub.scene.following(false);
        hub.live(Vec::new());
    };
    resume(&mut hub);
    hub.scene.wait_ack("it is held", |ack| ack.complete && ack.problems == 1);
    assert_eq!(hub.files(), files(&[("extra", "x")]));
    hub.scene.stop();
    hub.scene.allow_mass_delete = true;
    resume(&mut hub);
    hub.wait_in_sync();
    assert_eq!(hub.files(), files(&[]));
}

#[test]
fn values_that_are_none_are_problems_that_hold_up_nobody() {
    let mut hub = Values::in_sync(&[("price", "42")]);
    let from = hub.scene.head;
    let record = |seq: u64, name: &'static [u8], value: Bytes| Record {
        name: Bytes::from_static(name),
        seq: from + seq,
        value: Some(value),
        aside: Bytes::new(),
    };
    let huge = vec![7; wire::limits::STORED_BYTES_MAX + 1];
    let nonsense = vec![
        record(1, b"", stored(b"nameless")),
        record(2, b"price", Bytes::from_static(b"\xff\xff")),
        record(3, b"huge", huge.into()),
        record(4, b"good", stored(b"good")),
    ];
    hub.scene.head += 4;
    hub.live(nonsense);
    let ack = hub.scene.wait_ack("they are told", |ack| ack.applied.seq == from + 4 && ack.problems == 3);
    assert_eq!(&ack.first_problems[2].0[..], b"price");
    // What is no value leaves alone what is there.
    assert_eq!(hub.files(), files(&[("price", "42"), ("good", "good")]));
    let change = vec![hub.put(b"price", b"43"), hub.remove(b""), hub.remove(b"huge")];
    hub.live(change);
    hub.scene.wait_ack("it is over", |ack| ack.problems == 0);
    assert_eq!(hub.files(), files(&[("price", "43"), ("good", "good")]));
}

#[test]
fn a_directory_that_holds_something_else_is_counted_and_not_touched_and_adopted_when_asked() {
    let mut hub = Values::new();
    hub.put(b"price", b"42");
    fs::create_dir(&hub.scene.copy).unwrap();
    fs::write(hub.path("precious"), "mine").unwrap();
    let follow = |hub: &mut Values| {
        hub.scene.start();
        hub.scene.connect();
        hub.walk(true);
    };
    follow(&mut hub);
    match hub.scene.end() {
        KeeperError::NotEmpty(found) => {
            assert_eq!((found.deleted, &found.of), (1, &Kept::Values("*".into())));
            assert!(found.to_string().contains("does not hold the values *"), "{found}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(hub.files(), files(&[("precious", "mine")]));
    hub.scene.adopt = true;
    follow(&mut hub);
    hub.wait_in_sync();
    assert_eq!(hub.files(), files(&[("price", "42")]));
}

/// What is received is noted a moment later, so whoever is killed in between knows less than the copy holds.
#[test]
fn m2_6_m3_7_after_a_kill_nothing_is_undone_before_the_hub_has_said_what_is_newest() {
    let mut hub = Values::in_sync(&[("price", "42")]);
    hub.scene.stop();
    let store = hub.scene.scratch.path().join("replica.sqlite");
    let noted = fs::read(&store).unwrap();
    hub.scene.start();
    hub.scene.connect();
    hub.scene.following(false);
    let news = vec![hub.put(b"price", b"43"), hub.put(b"new", b"1")];
    hub.live(news.clone());
    hub.wait_in_sync();
    hub.scene.stop();
    // As if it had been killed before it noted them.
    for name in ["replica.sqlite-wal", "replica.sqlite-shm"] {
        fs::remove_file(store.with_file_name(name)).ok();
    }
    fs::write(&store, noted).unwrap();
    let mut opened = SqliteStore::open(&store, Durability::Process).unwrap();
    let mut replica = Replica::load(&mut opened).unwrap();
    assert_eq!((replica.len(), replica.note(NOTE_IN_ORDER)), (1, Some(&b"1"[..])));
    replica.set_note(NOTE_IN_ORDER, b"0".to_vec());
    replica.save(&mut opened).unwrap();
    drop(opened);
    fs::write(hub.path("extra"), "x").unwrap();
    hub.scene.events.lock().unwrap().clear();
    hub.scene.start();
    // Without a hub, then with one that has not said anything yet.
    hub.scene.connect();
    assert_eq!(hub.files(), files(&[("extra", "x"), ("new", "1"), ("price", "43")]));
    assert!(hub.scene.events.lock().unwrap().iter().all(|event| !matches!(event, Event::Reverted { .. })));
    let inode = fs::metadata(hub.path("price")).unwrap().ino();
    hub.scene.following(false);
    hub.live(news);
    hub.wait_in_sync();
    until("what nobody put is undone", || hub.files() == files(&[("new", "1"), ("price", "43")]));
    assert_eq!(fs::metadata(hub.path("price")).unwrap().ino(), inode, "it was the newest already");
    // Who ends in order knows all, also without a hub.
    hub.scene.stop();
    fs::write(hub.path("extra"), "x").unwrap();
    fs::write(hub.path("price"), "mine").unwrap();
    hub.scene.start();
    until("it is undone without a hub", || hub.files() == files(&[("new", "1"), ("price", "43")]));
}
