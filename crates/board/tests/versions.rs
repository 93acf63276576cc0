//! Which cursors go on and which begin anew; what a commit gives; what a replica refuses.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use board::{
    Batch, BoardError, Committed, Cursor, Follower, Limits, Mark, Meta, NAME_BYTES_MAX, Name, OpenOptions, Pattern,
    RUNS_MAX, Record, Replica, ReplicaError, Start, Store, StoreError, Version, WalkMark, Write, Writer,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A store that outlives its writer, and can be copied.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<(BTreeMap<Name, Record>, Meta)>>);

impl Kept {
    fn copy(&self) -> Kept {
        Kept(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }
}

impl Store for Kept {
    fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<Meta, StoreError> {
        let (records, meta) = self.0.lock().unwrap().clone();
        records.into_values().for_each(each);
        Ok(meta)
    }

    fn commit(&mut self, records: &[Record], forget: &[Name], meta: Option<&Meta>) -> Result<(), StoreError> {
        let (kept, facts) = &mut *self.0.lock().unwrap();
        kept.extend(records.iter().map(|record| (record.name.clone(), record.clone())));
        kept.retain(|name, _| !forget.contains(name));
        if let Some(meta) = meta {
            facts.clone_from(meta);
        }
        Ok(())
    }
}

/// Runs count from the start of a test, over all its openings.
struct Hub(u64);

impl Hub {
    fn open(&mut self, store: &Kept) -> Writer {
        self.0 += 100;
        let mut next = self.0;
        let entropy = Box::new(move || {
            next += 1;
            next
        });
        let options = OpenOptions { durable: true, boot_id: "boot".into(), entropy };
        let mut writer = Writer::open(Box::new(store.clone()), options).unwrap();
        writer.set_complete(true).unwrap();
        writer
    }
}

fn put(name: &'static str, value: &'static str) -> Write {
    Write::Put { name: name.into(), value: value.into(), aside: Bytes::new() }
}

fn remove(name: &'static str) -> Write {
    Write::Remove { name: name.into() }
}

fn resets(writer: &Writer, cursor: Cursor) -> bool {
    Follower::new(&writer.board(), Pattern::all(), Some(cursor)).start().reset
}

fn at(version: Version) -> Cursor {
    Cursor { version, seen: version.seq, walk: None }
}

#[test]
fn cursors_of_the_lost_future_of_a_restored_store_begin_anew() {
    let (store, mut hub) = (Kept::default(), Hub(0));
    let mut writer = hub.open(&store);
    writer.commit(vec![put("a", "1")]).unwrap();
    let (copy, kept) = (store.copy(), writer.board().version());
    writer.commit(vec![put("a", "2")]).unwrap();
    let beyond = writer.board().version();
    drop(writer);
    let mut writer = hub.open(&store);
    assert!(!resets(&writer, at(kept)) && !resets(&writer, at(beyond)), "a killed hub goes on");
    writer.commit(vec![put("b", "1")]).unwrap();
    let unlisted = writer.board().version();
    drop(writer);

    let mut writer = hub.open(&copy);
    writer.commit((0..9).map(|_| put("c", "1")).collect()).unwrap();
    writer.commit(vec![put("c", "2")]).unwrap();
    assert!(!resets(&writer, at(kept)), "before the copy was made");
    assert!(resets(&writer, at(beyond)), "above what was found of its run, though not above the head");
    assert!(resets(&writer, at(unlisted)), "of a run that this store never had");
    let ahead = Version { seq: writer.board().head() + 1, ..writer.board().version() };
    assert!(resets(&writer, at(ahead)) && !resets(&writer, at(writer.board().version())));
    let elsewhere = Version { epoch: kept.epoch + 1, ..kept };
    assert!(resets(&writer, at(elsewhere)));
    let knows_more = Cursor { seen: beyond.seq, ..at(kept) };
    assert!(resets(&writer, knows_more), "its seq was kept, but it was sent something that was not");
    let walk = |head, reset| Some(WalkMark { head, upto: "m".into(), reset });
    assert!(!resets(&writer, Cursor { walk: walk(kept.seq, false), ..at(kept) }));
    assert!(resets(&writer, Cursor { walk: walk(beyond.seq, true), ..at(kept) }));
    assert!(resets(&writer, Cursor { walk: walk(kept.seq - 1, false), ..at(kept) }), "no walk ends before it begins");
}

#[test]
fn the_newest_runs_are_listed_up_to_a_limit() {
    let (store, mut hub) = (Kept::default(), Hub(0));
    let mut writer = hub.open(&store);
    writer.commit(vec![put("a", "1")]).unwrap();
    let first = writer.board().version();
    for _ in 1..RUNS_MAX {
        drop(writer);
        writer = hub.open(&store);
    }
    assert!(!resets(&writer, at(first)), "the oldest of {RUNS_MAX}");
    drop(writer);
    assert!(resets(&hub.open(&store), at(first)), "one run more");
}

#[test]
fn the_horizon_outlives_the_hub_and_the_head_never_falls_below_it() {
    let (store, mut hub) = (Kept::default(), Hub(0));
    let mut writer = hub.open(&store);
    writer.commit(vec![put("a", "1"), put("b", "1")]).unwrap();
    let before = writer.board().version();
    writer.commit(vec![remove("b")]).unwrap();
    writer.forget_tombstones(u64::MAX).unwrap();
    assert_eq!((writer.board().head(), writer.board().get(b"b")), (3, None));
    drop(writer);
    let writer = hub.open(&store);
    assert_eq!(writer.board().head(), 3, "the newest seq was that of a purged tombstone");
    assert!(resets(&writer, at(before)), "it would never hear of the removal");
}

#[test]
fn of_several_changes_of_a_name_the_last_counts_and_nothing_is_not_a_change() {
    let mut writer = Hub(0).open(&Kept::default());
    let beside = |name: &'static str| Write::Aside { name: name.into(), aside: "beside".into() };
    let committed = writer
        .commit(vec![put("a", "1"), put("b", "1"), put("a", "2"), beside("a"), put("c", "1"), remove("c"), remove("d")])
        .unwrap();
    assert_eq!(committed, Committed { from: 0, to: 2 });
    let board = writer.board();
    let a = board.get(b"a").unwrap();
    assert_eq!((a.seq, a.value, a.aside), (2, Some("2".into()), "beside".into()));
    assert_eq!((board.get(b"c"), board.get(b"d"), board.len()), (None, None, 2));
    assert_eq!(writer.commit(vec![beside("b"), beside("none")]).unwrap(), Committed { from: 2, to: 2 });
    assert_eq!((board.get(b"b").unwrap().seq, board.get(b"b").unwrap().aside), (1, Bytes::from("beside")));
    writer.commit(vec![remove("b"), beside("b")]).unwrap();
    assert_eq!(board.get(b"b"), Some(Record { name: "b".into(), seq: 3, value: None, aside: Bytes::new() }));
    assert_eq!(writer.commit(vec![remove("b")]).unwrap(), Committed { from: 3, to: 3 });
}

#[test]
fn the_longest_name_passes_and_one_byte_more_does_not() {
    let mut writer = Hub(0).open(&Kept::default());
    let named = |bytes| Write::Put { name: vec![b'n'; bytes].into(), value: Bytes::new(), aside: Bytes::new() };
    writer.commit(vec![named(NAME_BYTES_MAX), named(0)]).unwrap();
    let error = writer.commit(vec![put("a", "1"), named(NAME_BYTES_MAX + 1)]).unwrap_err();
    assert!(matches!(error, BoardError::NameTooLong { .. }), "{error}");
    assert_eq!((writer.board().head(), writer.board().len()), (2, 2), "nothing of the commit was done");
}

#[test]
fn damaged_facts_are_an_error_and_no_new_history() {
    let (store, mut hub) = (Kept::default(), Hub(0));
    hub.open(&store).commit(vec![put("a", "1")]).unwrap();
    store.0.lock().unwrap().1.set("run", vec![1, 2, 3]);
    let options = OpenOptions { durable: true, boot_id: "boot".into(), entropy: Box::new(|| 1) };
    let error = Writer::open(Box::new(store), options).unwrap_err();
    assert!(matches!(error, BoardError::Store(StoreError::Meta { .. })), "{error}");
}

#[test]
fn notes_are_kept_with_the_board() {
    let (store, mut hub) = (Kept::default(), Hub(0));
    let mut writer = hub.open(&store);
    writer.set_note("root", b"dev 1".to_vec()).unwrap();
    writer.commit(vec![put("a", "1")]).unwrap();
    drop(writer);
    assert_eq!(hub.open(&store).note("root"), Some(&b"dev 1"[..]));
}

#[test]
fn a_replica_refuses_what_an_honest_hub_cannot_send_and_stays_as_it_is() {
    let record =
        |name: &str, seq| Record { name: name.to_owned().into(), seq, value: Some("v".into()), aside: Bytes::new() };
    let batch = |records: Vec<Record>, mark: Mark| Batch { records, mark };
    let live = |from, to, view, current| Mark::Live { from, to, view, current };
    let walk = |head, upto: &str, last| Mark::Walk { head, upto: upto.to_owned().into(), last, reset: true };
    let mut replica = Replica::new();
    let resumes = Start { epoch: 1, run: 1, reset: false };
    assert_eq!(replica.apply(&batch(vec![], walk(0, "", true))), Err(ReplicaError::NotBegun));
    assert_eq!(replica.begin(resumes), Err(ReplicaError::NothingToResume));
    replica.begin(Start { reset: true, ..resumes }).unwrap();
    let refused = |replica: &mut Replica, what: Batch| {
        let (cursor, count) = (replica.cursor(), replica.len());
        let error = replica.apply(&what).unwrap_err();
        assert_eq!((replica.cursor(), replica.len()), (cursor, count));
        error
    };
    assert!(matches!(refused(&mut replica, batch(vec![], live(0, 1, 1, true))), ReplicaError::NotNext { .. }));
    replica.apply(&batch(vec![record("a", 2)], walk(5, "b", false))).unwrap();
    for contradictory in [vec![record("a", 3)], vec![record("z", 3)], vec![record("c", 0)]] {
        assert_eq!(refused(&mut replica, batch(contradictory, walk(5, "d", false))), ReplicaError::Contradictory);
    }
    assert_eq!(refused(&mut replica, batch(vec![], walk(6, "d", false))), ReplicaError::OtherWalk);
    assert_eq!(refused(&mut replica, batch(vec![], walk(5, "a", false))), ReplicaError::OtherWalk);
    assert!(matches!(refused(&mut replica, batch(vec![], live(0, 5, 5, true))), ReplicaError::NotNext { .. }));
    replica.apply(&batch(vec![record("c", 5)], walk(5, "c", true))).unwrap();
    for (records, mark) in [
        (vec![record("a", 5)], live(5, 7, 7, true)),
        (vec![record("a", 8)], live(5, 7, 9, false)),
        (vec![], live(5, 4, 9, false)),
        (vec![], live(5, 7, 6, false)),
        (vec![], live(5, 7, 9, true)),
    ] {
        assert_eq!(refused(&mut replica, batch(records, mark)), ReplicaError::Contradictory);
    }
    let long = vec![record(&"n".repeat(NAME_BYTES_MAX + 1), 6)];
    assert!(matches!(refused(&mut replica, batch(long, live(5, 7, 7, true))), ReplicaError::NameTooLong { .. }));
    let changes = replica.apply(&batch(vec![record("a", 7)], live(5, 7, 7, true))).unwrap();
    assert_eq!((changes.len(), replica.is_current(), replica.head()), (1, true, 7));
    assert_eq!(replica.begin(Start { epoch: 2, ..resumes }), Err(ReplicaError::OtherEpoch));
}

#[test]
fn nothing_is_dropped_for_a_board_that_is_not_complete() {
    let (store, mut hub) = (Kept::default(), Hub(0));
    let mut replica = Replica::new();
    let take = |writer: &Writer, replica: &mut Replica| {
        let mut follower = Follower::new(&writer.board(), Pattern::all(), replica.cursor());
        replica.begin(follower.start()).unwrap();
        let mut dropped = 0;
        while let Some(batch) = follower.next(Limits { entries: 1, bytes: 1000 }) {
            dropped += replica.apply(&batch).unwrap().iter().filter(|change| change.dropped).count();
        }
        dropped
    };
    let mut writer = hub.open(&store);
    writer.commit(vec![put("a", "1"), put("b", "1"), put("c", "1")]).unwrap();
    take(&writer, &mut replica);
    assert!(replica.is_complete());

    // The index is lost, and made again name by name.
    let mut writer = hub.open(&Kept::default());
    writer.set_complete(false).unwrap();
    writer.commit(vec![put("b", "1")]).unwrap();
    assert_eq!(take(&writer, &mut replica), 0);
    assert_eq!((replica.len(), replica.is_complete()), (3, false));
    assert_eq!(replica.get(b"a").map(|held| held.seq), Some(0), "stale, but held");
    writer.commit(vec![put("a", "1")]).unwrap();
    writer.set_complete(true).unwrap();
    assert_eq!(take(&writer, &mut replica), 1);
    assert_eq!((replica.len(), replica.is_complete(), replica.get(b"c")), (2, true, None));
}
