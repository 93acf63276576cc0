//! The embedded store from the outside: what it keeps, for whom, and what it says when it cannot.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use board::{
    Board, Durability, FORMAT, Meta, OpenOptions, Record, Replica, SqliteStore, Start, Store, StoreError, Write, Writer,
};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn open(path: &Path, durability: Durability, boot_id: &str) -> Writer {
    let store = SqliteStore::open(path, durability).unwrap();
    let mut state = 7u64.wrapping_add(path.to_string_lossy().len() as u64) ^ u64::from(std::process::id());
    state = state.wrapping_add(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into());
    let entropy = Box::new(move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        state
    });
    Writer::open(Box::new(store), OpenOptions { durable: true, boot_id: boot_id.to_owned(), entropy }).unwrap()
}

fn put(name: impl Into<Bytes>, value: impl Into<Bytes>) -> Write {
    Write::Put { name: name.into(), value: value.into(), aside: Bytes::from_static(b"aside") }
}

/// Everything on a board, tombstones included.
fn all(board: &Board) -> Vec<Record> {
    board.read(|index| index.since(0).cloned().collect())
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<(u8, Option<u8>)>),
    Forget(u64),
    Kill,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let write = (0u8..12, proptest::option::weighted(0.7, any::<u8>()));
    prop_oneof![
        6 => proptest::collection::vec(write, 1..6).prop_map(Step::Commit),
        1 => (0u64..40).prop_map(Step::Forget),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_board_is_found_as_it_was_left_also_by_a_kill(steps in proptest::collection::vec(step(), 1..25)) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("board.db");
        let mut writer = open(&path, Durability::Process, "boot");
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for step in steps {
            let before = (writer.board().version(), all(&writer.board()));
            match step {
                Step::Commit(writes) => {
                    let write = |(name, value): &(u8, Option<u8>)| match value {
                        Some(value) => put(vec![*name], vec![*value]),
                        None => Write::Remove { name: vec![*name].into() },
                    };
                    writer.commit(writes.iter().map(write).collect()).unwrap();
                    for (name, value) in writes {
                        match value {
                            Some(value) => drop(model.insert(vec![name], vec![value])),
                            None => drop(model.remove(&vec![name])),
                        }
                    }
                    continue;
                }
                Step::Forget(up_to) => {
                    writer.forget_tombstones(up_to).unwrap();
                    continue;
                }
                Step::Kill => drop(writer),
                Step::Close => writer.close().unwrap(),
            }
            writer = open(&path, Durability::Process, "boot");
            let version = writer.board().version();
            prop_assert_eq!((version.epoch, version.seq), (before.0.epoch, before.0.seq));
            prop_assert_ne!(version.run, before.0.run);
            prop_assert_eq!(all(&writer.board()), before.1);
        }
        let shown: BTreeMap<Vec<u8>, Vec<u8>> = writer.board().read(|index| {
            let pair = |record: &Record| (record.name.to_vec(), record.value.clone().unwrap_or_default().to_vec());
            index.iter_from(b"").map(pair).collect()
        });
        prop_assert_eq!(shown, model);
    }
}

#[test]
fn the_epoch_stays_through_a_kill_or_a_close_and_is_new_after_a_boot_without_a_close() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("board.db");
    let mut writer = open(&path, Durability::Process, "boot 1");
    writer.commit(vec![put("a", "1"), put("b", "1"), Write::Remove { name: "b".into() }]).unwrap();
    writer.set_complete(true).unwrap();
    let first = writer.board().version();
    drop(writer);
    let writer = open(&path, Durability::Process, "boot 1");
    assert_eq!((writer.board().version().epoch, writer.board().complete()), (first.epoch, true), "after a kill");
    writer.close().unwrap();
    let writer = open(&path, Durability::Process, "boot 2");
    assert_eq!(writer.board().version().epoch, first.epoch, "closed before the boot");
    drop(writer);
    let writer = open(&path, Durability::Process, "boot 3");
    let lost = writer.board().version();
    assert_ne!(lost.epoch, first.epoch, "not closed before the boot");
    assert!(!writer.board().complete() && lost.seq == first.seq && all(&writer.board()).len() == 1);
}

#[test]
fn the_file_is_for_its_owner_alone_and_directories_are_made() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("one/two/board.db");
    let mut writer = open(&path, Durability::EachCommit, "boot");
    writer.commit(vec![put("a", "1")]).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn a_store_of_a_later_release_is_refused_and_left_as_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("board.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", FORMAT + 1).unwrap();
    drop(connection);
    let before = std::fs::read(&path).unwrap();
    let error = SqliteStore::open(&path, Durability::Process).unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found, known, .. } if found == FORMAT + 1 && known == FORMAT),
        "{error}"
    );
    assert!(error.to_string().contains("board.db"));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn two_processes_do_not_share_a_store() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("board.db");
    let writer = open(&path, Durability::Process, "boot");
    let error = SqliteStore::open(&path, Durability::Process).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }) && error.to_string().contains("board.db"), "{error}");
    drop(writer);
    SqliteStore::open(&path, Durability::Process).unwrap();
}

#[test]
fn what_is_no_store_is_named_and_left_as_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("board.db");
    let garbage = vec![b'x'; 8192];
    std::fs::write(&path, &garbage).unwrap();
    let error = SqliteStore::open(&path, Durability::Process).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }) && error.to_string().contains("board.db"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), garbage);
    let error = SqliteStore::open(scratch.path(), Durability::Process).unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "a directory: {error}");
}

#[test]
fn a_replica_comes_back_with_what_it_held_its_asides_and_notes() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("replica.db");
    let mut store = SqliteStore::open(&path, Durability::Process).unwrap();
    let mut replica = Replica::load(&mut store).unwrap();
    assert_eq!(replica.cursor(), None);
    let record =
        |name: &'static str, seq| Record { name: name.into(), seq, value: Some("v".into()), aside: Bytes::new() };
    replica.begin(Start { epoch: 1, run: 2, reset: true }).unwrap();
    let mark = board::Mark::Walk { head: 4, upto: "m".into(), last: false, reset: true };
    replica.apply(&board::Batch { records: vec![record("a", 3), record("m", 9)], mark }).unwrap();
    assert!(replica.set_aside(b"a", "inode 7".into()) && !replica.set_aside(b"z", Bytes::new()));
    replica.set_note("root", b"dev 1".to_vec());
    replica.save(&mut store).unwrap();
    drop(store);
    let mut store = SqliteStore::open(&path, Durability::Process).unwrap();
    let loaded = Replica::load(&mut store).unwrap();
    assert_eq!(loaded.cursor(), replica.cursor());
    assert_eq!(loaded.cursor().unwrap().seen, 9);
    assert_eq!(loaded.get(b"a"), replica.get(b"a"));
    assert_eq!(loaded.get(b"a").unwrap().aside, "inode 7");
    assert_eq!(loaded.note("root"), Some(&b"dev 1"[..]));
    assert!(!loaded.is_complete());
}

#[test]
fn a_save_that_changes_nothing_writes_nothing_and_facts_that_move_come_back() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("replica.db");
    let mut store = SqliteStore::open(&path, Durability::Process).unwrap();
    let mut replica = Replica::load(&mut store).unwrap();
    replica.set_note("root", b"dev 1".to_vec());
    replica.save(&mut store).unwrap();
    let log_bytes = || std::fs::metadata(scratch.path().join("replica.db-wal")).unwrap().len();
    let before = log_bytes();
    replica.save(&mut store).unwrap();
    assert_eq!(log_bytes(), before);
    replica.set_note("durable~", b"7".to_vec());
    replica.save(&mut store).unwrap();
    assert!(log_bytes() > before);
    drop(store);
    let mut store = SqliteStore::open(&path, Durability::Process).unwrap();
    let loaded = Replica::load(&mut store).unwrap();
    assert_eq!((loaded.note("root"), loaded.note("durable~")), (Some(&b"dev 1"[..]), Some(&b"7"[..])));
}

#[test]
fn a_store_that_cannot_be_written_says_which_and_shows_nothing() {
    /// A store whose commits fail while they are told to.
    struct Failing(SqliteStore, std::sync::Arc<std::sync::atomic::AtomicBool>);
    impl Store for Failing {
        fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<Meta, StoreError> {
            self.0.load(each)
        }
        fn commit(&mut self, records: &[Record], forget: &[Bytes], meta: Option<&Meta>) -> Result<(), StoreError> {
            self.0.commit(records, forget, meta)?;
            // The worst kind: written, and reported as failed.
            match self.1.load(std::sync::atomic::Ordering::SeqCst) {
                true => Err(StoreError::Other("no space".to_owned())),
                false => Ok(()),
            }
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("board.db");
    let fails = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let store = Failing(SqliteStore::open(&path, Durability::Process).unwrap(), fails.clone());
    let mut next = 0;
    let entropy = Box::new(move || {
        next += 1;
        next
    });
    let mut writer =
        Writer::open(Box::new(store), OpenOptions { durable: true, boot_id: "boot".into(), entropy }).unwrap();
    writer.commit(vec![put("a", "1")]).unwrap();
    fails.store(true, std::sync::atomic::Ordering::SeqCst);
    writer.commit(vec![put("a", "2"), put("b", "2")]).unwrap_err();
    assert_eq!((writer.board().head(), writer.board().get(b"b")), (1, None));
    fails.store(false, std::sync::atomic::Ordering::SeqCst);
    let committed = writer.commit(vec![put("c", "3")]).unwrap();
    assert_eq!((committed.from, committed.to), (1, 4), "the seqs of the failed commit are never given again");
    let shown = all(&writer.board());
    drop(writer);
    assert_eq!(all(&open(&path, Durability::Process, "boot").board()), shown, "the store was put right");
}
