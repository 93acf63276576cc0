//! One board, one client, from the outside: the plain way through the crate.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use board::{
    Batch, Board, Follower, Limits, Mark, MemoryStore, OpenOptions, Pattern, Position, Replica, Store, Write, Writer,
    live_batch,
};
use bytes::Bytes;

const LIMITS: Limits = Limits { entries: 2, bytes: 1 << 20 };

fn open(store: impl Store + 'static, durable: bool) -> Writer {
    let mut next = 0;
    let entropy = Box::new(move || {
        next += 1;
        next
    });
    Writer::open(Box::new(store), OpenOptions { durable, boot_id: "boot".into(), entropy }).unwrap()
}

fn put(name: &str, value: &str) -> Write {
    Write::Put { name: name.to_owned().into(), value: value.to_owned().into(), aside: Bytes::from_static(b"here") }
}

fn remove(name: &str) -> Write {
    Write::Remove { name: name.to_owned().into() }
}

fn follow(board: &Board, pattern: &str, replica: &mut Replica) -> Follower {
    let follower = Follower::new(board, Pattern::parse(pattern).unwrap(), replica.cursor());
    replica.begin(follower.start()).unwrap();
    follower
}

/// Everything the follower has to say, applied.
fn drain(follower: &mut Follower, replica: &mut Replica) -> Vec<Batch> {
    let batches: Vec<Batch> = std::iter::from_fn(|| follower.next(LIMITS)).collect();
    for batch in &batches {
        replica.apply(batch).unwrap();
    }
    batches
}

fn shown(replica: &Replica) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    replica.iter_from(b"").map(|(name, held)| (text(name), text(&held.value))).collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn m3_7_a_client_gets_the_snapshot_then_each_change_and_always_has_the_latest() {
    let mut writer = open(MemoryStore, false);
    let board = writer.board();
    board.set_complete(true);
    writer.commit(vec![put("a", "1"), put("b", "1"), put("c", "1"), put("b", "2")]).unwrap();
    let mut replica = Replica::new();
    let mut follower = follow(&board, "*", &mut replica);
    assert!(follower.start().reset);
    drain(&mut follower, &mut replica);
    assert_eq!(shown(&replica), pairs(&[("a", "1"), ("b", "2"), ("c", "1")]));
    assert!(replica.is_complete() && replica.is_current());
    assert_eq!((replica.head(), board.head()), (3, 3));

    writer.commit(vec![remove("a"), put("d", "1"), remove("never was")]).unwrap();
    let (shared, told) = live_batch(&board, &Pattern::all(), 3, Limits { entries: 99, ..LIMITS }).unwrap();
    assert_eq!(shared.mark, Mark::Live { from: 3, to: 5, view: 5, current: true });
    assert!(shared.records.iter().all(|record| record.aside.is_empty()), "what is noted here is never sent");
    replica.apply(&shared).unwrap();
    follower.advance_live(&shared.mark, told);
    assert_eq!(follower.position(), Position::Live(5));
    assert_eq!(follower.next(LIMITS), None);
    assert_eq!(shown(&replica), pairs(&[("b", "2"), ("c", "1"), ("d", "1")]));
}

#[test]
fn a_fresh_client_of_an_empty_board_is_told_that_it_is_current() {
    let writer = open(MemoryStore, false);
    let mut replica = Replica::new();
    let mut follower = follow(&writer.board(), "*", &mut replica);
    drain(&mut follower, &mut replica);
    assert!(!replica.is_complete(), "a board that is not complete gives no current");
    writer.board().set_complete(true);
    assert!(follower.owes());
    assert_eq!(drain(&mut follower, &mut replica).len(), 1);
    assert!(replica.is_complete() && replica.is_current() && !follower.owes());
}

#[test]
fn a_client_that_comes_back_gets_only_what_changed() {
    let mut writer = open(MemoryStore, false);
    let board = writer.board();
    board.set_complete(true);
    writer.commit((0..50).map(|n| put(&format!("n{n:02}"), "1")).collect()).unwrap();
    let mut replica = Replica::new();
    drain(&mut follow(&board, "*", &mut replica), &mut replica);
    writer.commit(vec![put("n07", "2"), remove("n08")]).unwrap();
    let mut follower = follow(&board, "*", &mut replica);
    assert!(!follower.start().reset);
    let sent: usize = drain(&mut follower, &mut replica).iter().map(|batch| batch.records.len()).sum();
    assert_eq!((sent, replica.len()), (2, 49));
    let mut again = follow(&board, "*", &mut replica);
    let batches = drain(&mut again, &mut replica);
    assert_eq!(batches.len(), 1, "told once that it is current");
    assert!(batches[0].records.is_empty() && replica.is_current());
}
