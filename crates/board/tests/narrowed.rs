//! A follow that was narrowed is a board of its own: nothing of the other names shows, and a cursor of another part is of no use.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use board::{Board, Follower, Limits, Mark, MemoryStore, OpenOptions, Pattern, Replica, Write, Writer};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Small, so that every way is cut often.
const NARROW: Limits = Limits { entries: 2, bytes: 1 << 10 };

type Held = BTreeMap<Bytes, Bytes>;

fn open() -> Writer {
    let options = OpenOptions { durable: false, boot_id: String::new(), entropy: Box::new(|| 7) };
    let writer = Writer::open(Box::new(MemoryStore), options).unwrap();
    writer.board().set_complete(true);
    writer
}

fn patterns(texts: &[String]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
}

/// Follows with what the replica holds, at most so many batches, and looks that nothing else shows in them.
fn follow(board: &Board, pattern: &Pattern, replica: &mut Replica, batches: usize) -> bool {
    let mut follower = Follower::new(board, pattern.clone(), replica.cursor());
    replica.begin(follower.start()).unwrap();
    for _ in 0..batches {
        let Some(batch) = follower.next(NARROW) else { break };
        assert!(batch.records.iter().all(|record| pattern.matches(&record.name)), "{batch:?}");
        if let Mark::Walk { upto, .. } = &batch.mark {
            assert!(upto.is_empty() || pattern.matches(upto), "a walk tells of {upto:?}");
        }
        replica.apply(&batch).unwrap();
    }
    follower.start().reset
}

fn held(replica: &Replica) -> Held {
    replica.iter_from(b"").map(|(name, held)| (name.clone(), held.value.clone())).collect()
}

fn on(board: &Board, pattern: &Pattern) -> Held {
    board.read(|index| {
        let live = index.iter_from(b"").filter(|record| pattern.matches(&record.name));
        live.map(|record| (record.name.clone(), record.value.clone().unwrap())).collect()
    })
}

proptest! {
    #[test]
    fn whoever_follows_a_part_holds_exactly_that_part_whatever_it_followed_before(
        commits in proptest::collection::vec(
            proptest::collection::vec(("[ab]{1,3}", proptest::option::of(0u8..9)), 1..6), 1..12),
        parts in proptest::collection::vec(proptest::collection::vec("[ab]{0,2}\\*?", 1..4), 1..4),
        batches in 1usize..6,
    ) {
        let mut writer = open();
        let board = writer.board();
        let mut replica = Replica::new();
        let mut before: Option<Pattern> = None;
        for (n, commit) in commits.iter().enumerate() {
            let writes = commit.iter().map(|(name, value)| match value {
                Some(value) => Write::Put { name: name.clone().into(), value: vec![*value].into(), aside: Bytes::new() },
                None => Write::Remove { name: name.clone().into() },
            });
            writer.commit(writes.collect()).unwrap();
            // Its rights change now and then, and it is cut anywhere.
            let Some(pattern) = Pattern::all().narrowed(&patterns(&parts[n / 3 % parts.len()])) else { continue };
            let other = before.as_ref().is_some_and(|before| *before != pattern);
            let reset = follow(&board, &pattern, &mut replica, batches);
            prop_assert!(reset || !other, "a cursor of another part was taken");
            before = Some(pattern);
        }
        if let Some(pattern) = before {
            follow(&board, &pattern, &mut replica, usize::MAX);
            prop_assert_eq!(held(&replica), on(&board, &pattern));
        }
    }
}

/// Else the test above could not fail: a board that called all parts alike would never show what was put before.
#[test]
fn canary_were_all_parts_called_alike_what_was_hidden_would_stay_so() {
    let mut writer = open();
    let put = |name: &'static [u8]| Write::Put { name: name.into(), value: Bytes::new(), aside: Bytes::new() };
    writer.commit(vec![put(b"a"), put(b"b")]).unwrap();
    let board = writer.board();
    let [first, second] = ["a", "b"].map(|part| Pattern::all().narrowed(&patterns(&[part.to_owned()])).unwrap());
    let mut replica = Replica::new();
    follow(&board, &first, &mut replica, usize::MAX);
    let told = |cursor| {
        let mut follower = Follower::new(&board, second.clone(), Some(cursor));
        std::iter::from_fn(move || follower.next(NARROW)).map(|batch| batch.records.len()).sum::<usize>()
    };
    let cursor = replica.cursor().unwrap();
    assert_eq!(told(cursor.clone()), 1);
    let mut alike = cursor;
    alike.version.epoch = second.disguised(first.disguised(alike.version.epoch));
    assert_eq!(told(alike), 0, "b would be missed");
}
