//! What a board costs: bytes of memory an entry, time of a commit in each store.
//!
//! `cargo run --release -p lockstep-board --example measure [DIRECTORY]`; the stores are made in DIRECTORY, here by default.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that prints what it timed")]

use board::{
    Board, BoardError, Durability, Follower, Limits, MemoryStore, OpenOptions, Pattern, SqliteStore, Store, Write,
    Writer, live_batch,
};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ENTRIES: usize = 100_000;
const VALUE_BYTES: usize = 64;
const COMMITS: usize = 300;
const PAGE_BYTES: u64 = 4096;

fn main() -> Result<(), BoardError> {
    let directory = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let before = resident_bytes();
    let mut writer = open(MemoryStore)?;
    let began = Instant::now();
    fill(&mut writer)?;
    let took = began.elapsed();
    let entry_bytes = (resident_bytes() - before) / ENTRIES as u64;
    println!("memory: {entry_bytes} bytes an entry (name 22, value {VALUE_BYTES}), filled one by one in {took:.0?}");
    walk(&writer.board());
    rounds(&mut writer)?;
    for durability in [Durability::EachCommit, Durability::Process] {
        let path = directory.join(format!("measure-{}-{durability:?}.db", std::process::id()));
        let measured = store(&path, durability);
        for suffix in ["", "-wal", "-shm"] {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            // What SQLite removed itself is not there any more.
            drop(std::fs::remove_file(name));
        }
        measured?;
    }
    Ok(())
}

fn store(path: &Path, durability: Durability) -> Result<(), BoardError> {
    let mut writer = open(SqliteStore::open(path, durability)?)?;
    let began = Instant::now();
    fill(&mut writer)?;
    println!("{durability:?}: {ENTRIES} entries in commits of 1,000 in {:.0?}", began.elapsed());
    let mut times = Vec::with_capacity(COMMITS);
    for n in 0..COMMITS {
        let write = put(n * 331 % ENTRIES);
        let began = Instant::now();
        writer.commit(vec![write])?;
        times.push(began.elapsed());
    }
    println!("{durability:?}: commit of one record {}", spread(times));
    drop(writer);
    let began = Instant::now();
    let writer = open(SqliteStore::open(path, durability)?)?;
    println!("{durability:?}: loaded {} entries in {:.0?}", writer.board().len(), began.elapsed());
    Ok(())
}

fn walk(board: &Board) {
    let mut follower = Follower::new(board, Pattern::all(), None);
    let began = Instant::now();
    let mut entries = 0;
    while let Some(batch) = follower.next(Limits { entries: 500, bytes: 256 << 10 }) {
        entries += batch.records.len();
    }
    println!("walk: {entries} entries in {:.1?}", began.elapsed());
}

fn rounds(writer: &mut Writer) -> Result<(), BoardError> {
    let (board, all) = (writer.board(), Pattern::all());
    let mut times = Vec::with_capacity(COMMITS);
    for n in 0..COMMITS {
        let write = put(n * 331 % ENTRIES);
        let began = Instant::now();
        let committed = writer.commit(vec![write])?;
        drop(live_batch(&board, &all, committed.from, Limits { entries: 500, bytes: 256 << 10 }));
        times.push(began.elapsed());
    }
    println!("memory: commit of one record and its shared batch {}", spread(times));
    Ok(())
}

fn open(store: impl Store + 'static) -> Result<Writer, BoardError> {
    let mut next = 0;
    let entropy = Box::new(move || {
        next += 1;
        next
    });
    Writer::open(Box::new(store), OpenOptions { durable: true, boot_id: "boot".to_owned(), entropy })
}

fn fill(writer: &mut Writer) -> Result<(), BoardError> {
    for thousand in 0..ENTRIES / 1000 {
        writer.commit((0..1000).map(|n| put(thousand * 1000 + n)).collect())?;
    }
    Ok(())
}

fn put(n: usize) -> Write {
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    Write::Put { name: Bytes::from(format!("some/directory/{n:07}")), value, aside: Bytes::new() }
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    format!("p50 {:.1?} p95 {:.1?} p99 {:.1?}", at(50), at(95), at(99))
}

/// The process's resident memory: the second column of proc(5) statm, in pages.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE_BYTES
}
