//! Followers at their real limits: shared batches and private ones say the same, long ways go by name.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use board::{
    Board, Follower, LIVE_WAY_ENTRIES_MAX, Limits, MARK_SEQS, Mark, MemoryStore, OpenOptions, Pattern, Position,
    Replica, SHORT_WAY_ENTRIES_MAX, Write, Writer, live_batch,
};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

const WIDE: Limits = Limits { entries: 500, bytes: 256 << 10 };

fn open() -> Writer {
    let mut next = 0;
    let entropy = Box::new(move || {
        next += 1;
        next
    });
    let options = OpenOptions { durable: false, boot_id: String::new(), entropy };
    let writer = Writer::open(Box::new(MemoryStore), options).unwrap();
    writer.board().set_complete(true);
    writer
}

fn put(name: impl Into<Bytes>, value: impl Into<Bytes>) -> Write {
    Write::Put { name: name.into(), value: value.into(), aside: Bytes::new() }
}

fn numbered(count: usize, value: &str) -> Vec<Write> {
    (0..count).map(|n| put(format!("n{n:06}"), value.to_owned())).collect()
}

fn follow(board: &Board, pattern: &str, replica: &mut Replica) -> Follower {
    let follower = Follower::new(board, Pattern::parse(pattern).unwrap(), replica.cursor());
    replica.begin(follower.start()).unwrap();
    follower
}

fn drain(follower: &mut Follower, replica: &mut Replica) -> usize {
    std::iter::from_fn(|| follower.next(WIDE)).map(|batch| drop(replica.apply(&batch).unwrap())).count()
}

fn caught_up(board: &Board, pattern: &str) -> (Follower, Replica) {
    let mut replica = Replica::new();
    let mut follower = follow(board, pattern, &mut replica);
    drain(&mut follower, &mut replica);
    assert!(replica.is_current());
    (follower, replica)
}

proptest! {
    #[test]
    fn a_group_fed_by_shared_batches_holds_what_one_fed_alone_holds(
        commits in proptest::collection::vec(proptest::collection::vec((0u8..6, proptest::option::of(0u8..9)), 1..8), 1..20),
        pattern in proptest::sample::select(vec!["*", "\u{1}", "\u{2}*"]),
        entries in 1usize..5,
    ) {
        let mut writer = open();
        let board = writer.board();
        let limits = Limits { entries, bytes: 1000 };
        let pattern = Pattern::parse(pattern).unwrap();
        let (mut shared, mut grouped) = caught_up(&board, std::str::from_utf8(pattern.as_bytes()).unwrap());
        let (mut alone, mut single) = caught_up(&board, std::str::from_utf8(pattern.as_bytes()).unwrap());
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for commit in commits {
            let write = |(name, value): &(u8, Option<u8>)| match value {
                Some(value) => put(vec![*name], vec![*value]),
                None => Write::Remove { name: vec![*name].into() },
            };
            writer.commit(commit.iter().map(write).collect()).unwrap();
            for (name, value) in commit {
                match value {
                    Some(value) => drop(model.insert(vec![name], vec![value])),
                    None => drop(model.remove(&vec![name])),
                }
            }
            while let Position::Live(from) = shared.position()
                && let Some((batch, told)) = live_batch(&board, &pattern, from, limits)
            {
                prop_assert!(batch.records.len() <= entries);
                let own = alone.next(limits);
                prop_assert_eq!(own.as_ref(), Some(&batch), "the same batch, made for one");
                grouped.apply(&batch).unwrap();
                single.apply(&batch).unwrap();
                shared.advance_live(&batch.mark, told);
            }
            // One that was cut short by the limits is told that it is current after all, where nothing but foreign seqs follow.
            let (rest, own) = (shared.next(limits), alone.next(limits));
            prop_assert_eq!(&rest, &own);
            if let Some(batch) = rest {
                prop_assert!(batch.records.is_empty() && matches!(batch.mark, Mark::Live { current: true, .. }), "{:?}", batch);
                grouped.apply(&batch).unwrap();
                single.apply(&batch).unwrap();
            }
            prop_assert_eq!((shared.next(limits), alone.next(limits)), (None, None));
            prop_assert!(grouped.is_current() && single.is_current());
            let held = |replica: &Replica| -> BTreeMap<Vec<u8>, Vec<u8>> {
                replica.iter_from(b"").map(|(name, held)| (name.to_vec(), held.value.to_vec())).collect()
            };
            let mut expected = model.clone();
            expected.retain(|name, _| pattern.matches(name));
            prop_assert_eq!(held(&grouped), expected.clone());
            prop_assert_eq!(held(&single), expected);
        }
    }
}

#[test]
fn a_short_way_goes_by_seq_and_one_entry_more_by_name() {
    let mut writer = open();
    let board = writer.board();
    let (mut near, mut near_held) = caught_up(&board, "*");
    let (mut far, mut far_held) = caught_up(&board, "*");
    writer.commit(numbered(SHORT_WAY_ENTRIES_MAX, "1")).unwrap();
    let batch = near.next(WIDE).unwrap();
    assert!(matches!(batch.mark, Mark::Live { .. }), "{:?}", batch.mark);
    near_held.apply(&batch).unwrap();
    writer.commit(vec![put("z", "1")]).unwrap();
    let batch = far.next(WIDE).unwrap();
    assert!(matches!(batch.mark, Mark::Walk { reset: false, last: false, .. }), "{:?}", batch.mark);
    assert_eq!(far.position(), Position::Walking);
    far_held.apply(&batch).unwrap();
    drain(&mut near, &mut near_held);
    drain(&mut far, &mut far_held);
    assert!(near_held.is_current() && far_held.is_current());
    assert_eq!((near_held.len(), far_held.len()), (SHORT_WAY_ENTRIES_MAX + 1, SHORT_WAY_ENTRIES_MAX + 1));
}

#[test]
fn one_large_commit_is_shared_up_to_its_limit() {
    let mut writer = open();
    let board = writer.board();
    writer.commit(numbered(LIVE_WAY_ENTRIES_MAX, "1")).unwrap();
    assert!(live_batch(&board, &Pattern::all(), 0, WIDE).is_some());
    writer.commit(vec![put("z", "1")]).unwrap();
    assert_eq!(live_batch(&board, &Pattern::all(), 0, WIDE), None);
}

#[test]
fn a_name_that_changes_all_the_time_does_not_starve_the_others_nor_itself() {
    let mut writer = open();
    let board = writer.board();
    let (mut follower, mut replica) = caught_up(&board, "*");
    writer.commit(numbered(3_000, "1")).unwrap();
    // For each entry that the client takes, the hot name changes once, and a fresh name besides.
    let one = Limits { entries: 1, bytes: 1000 };
    let mut hot = 0;
    for round in 0..3_500u32 {
        writer.commit(vec![put("hot", round.to_string()), put(format!("n{:06}", round % 3_000), "2")]).unwrap();
        if let Some(batch) = follower.next(one) {
            hot += batch.records.iter().filter(|record| record.name == "hot").count();
            replica.apply(&batch).unwrap();
        }
    }
    assert!(hot >= 1, "the hot name came at least once");
    assert_eq!(replica.len(), 3_001);
}

#[test]
fn foreign_commits_move_a_narrow_cursor_only_now_and_then_or_when_asked() {
    let mut writer = open();
    let board = writer.board();
    let (mut follower, mut replica) = caught_up(&board, "mine/*");
    let mut batches = 0;
    for n in 0..MARK_SEQS * 3 {
        writer.commit(vec![put("theirs", n.to_string())]).unwrap();
        batches += drain(&mut follower, &mut replica);
    }
    assert_eq!(batches, 3);
    writer.commit(vec![put("theirs", "last")]).unwrap();
    assert_eq!(follower.next(WIDE), None);
    let batch = follower.mark(WIDE).unwrap();
    replica.apply(&batch).unwrap();
    assert_eq!((replica.head(), replica.is_current(), follower.mark(WIDE)), (board.head(), true, None));
}

#[test]
fn tombstones_stay_for_who_may_need_them_and_no_longer() {
    let mut writer = open();
    let board = writer.board();
    writer.commit(numbered(10, "1")).unwrap();
    let (follower, mut replica) = caught_up(&board, "*");
    writer.commit(vec![Write::Remove { name: "n000003".into() }]).unwrap();
    writer.forget_tombstones(u64::MAX).unwrap();
    assert!(board.get(b"n000003").is_some(), "a live client has not seen it");
    drop(follower);
    writer.forget_tombstones(u64::MAX).unwrap();
    assert_eq!(board.get(b"n000003"), None);
    let mut follower = follow(&board, "*", &mut replica);
    assert!(follower.start().reset, "below the horizon");
    drain(&mut follower, &mut replica);
    assert_eq!((replica.len(), replica.is_current()), (9, true));
}

#[test]
fn one_entry_larger_than_a_batch_still_goes() {
    let mut writer = open();
    let board = writer.board();
    let (mut follower, mut replica) = caught_up(&board, "*");
    writer.commit(vec![put("large", vec![7u8; 1 << 20]), put("small", "1")]).unwrap();
    let batch = follower.next(Limits { entries: 9, bytes: 1000 }).unwrap();
    assert_eq!(batch.records.len(), 1);
    replica.apply(&batch).unwrap();
    drain(&mut follower, &mut replica);
    assert_eq!(replica.len(), 2);
}

#[test]
fn readers_go_on_while_the_store_is_written() {
    use board::{Meta, Name, Record, Store, StoreError};
    use std::sync::mpsc;

    /// A store that waits for a word before each commit of records ends.
    struct Slow(mpsc::Sender<()>, mpsc::Receiver<()>);
    impl Store for Slow {
        fn load(&mut self, _: &mut dyn FnMut(Record)) -> Result<Meta, StoreError> {
            Ok(Meta::default())
        }
        fn commit(&mut self, records: &[Record], _: &[Name], _: Option<&Meta>) -> Result<(), StoreError> {
            if !records.is_empty() {
                self.0.send(()).unwrap();
                self.1.recv().unwrap();
            }
            Ok(())
        }
    }
    let ((writing, is_writing), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
    let options = OpenOptions { durable: false, boot_id: String::new(), entropy: Box::new(|| 1) };
    let mut writer = Writer::open(Box::new(Slow(writing, may_go_on)), options).unwrap();
    let board = writer.board();
    let committing = std::thread::spawn(move || writer.commit(vec![put("a", "1")]).map(|committed| committed.to));
    is_writing.recv().unwrap();
    assert_eq!((board.head(), board.get(b"a"), board.len()), (0, None, 0), "nothing above the head is shown");
    go_on.send(()).unwrap();
    assert_eq!(committing.join().unwrap().unwrap(), 1);
    assert_eq!((board.head(), board.len()), (1, 1));
}

#[test]
fn m3_7_who_comes_back_with_nothing_of_its_names_missing_is_told_so() {
    let mut writer = open();
    let board = writer.board();
    let (follower, mut replica) = caught_up(&board, "mine*");
    drop(follower);
    writer.commit(vec![put("others", "1")]).unwrap();
    let mut follower = follow(&board, "mine*", &mut replica);
    assert!(!replica.is_current() && follower.owes());
    drain(&mut follower, &mut replica);
    assert!(replica.is_current() && !follower.owes());
    // Nobody is told again for what is not theirs.
    writer.commit(vec![put("others", "2")]).unwrap();
    assert_eq!(follower.next(WIDE), None);
}
