//! Values put a second, each on the hub's disk before it is acknowledged, by one client and by many at once.
//!
//! The floor appends the same bytes to a file and syncs it after each, in the same file system.

use crate::fanout::all;
use crate::follower::{VALUE_BYTES, relays};
use crate::harness::{Contender, Group, Report, interleave};
use anyhow::{Context as _, Result};
use std::cell::RefCell;
use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};
use support::Cluster;
use tokio::runtime::Runtime;

/// Rounds of each.
const ROUNDS: usize = 5;
/// How long each goes on in a round.
const SPAN: Duration = Duration::from_secs(2);
/// Clients at once.
const MANY: usize = 32;

pub(crate) fn run() -> Result<Report> {
    let runtime = Runtime::new().context("no runtime")?;
    // They all count as this one machine, and a client is held to some puts a second.
    let cluster = Cluster::start(|_| {}, &["--enrol", "open", "--max-puts", "1000000"]);
    let clients = runtime.block_on(relays(&cluster.address(), 1, MANY))?;
    let clients = RefCell::new(clients);
    let puts = |count: usize| {
        let clients = &mut *clients.borrow_mut();
        let done = RefCell::new(0_u32);
        let begun = Instant::now();
        let works = clients.iter_mut().take(count).enumerate().map(|(nth, client)| {
            let done = &done;
            async move {
                while begun.elapsed() < SPAN {
                    client.put(&format!("value-{nth}")).await?;
                    *done.borrow_mut() += 1;
                }
                Ok(())
            }
        });
        runtime.block_on(all(works))?;
        let done = *done.borrow();
        anyhow::Ok(f64::from(done) / begun.elapsed().as_secs_f64())
    };
    let path = cluster.path().join("appended");
    let series = interleave(
        ROUNDS,
        vec![
            Contender::new("append and fdatasync", |_| appends(&path)),
            Contender::new("1 client", |_| puts(1)),
            Contender::new(format!("{MANY} clients"), |_| puts(MANY)),
        ],
    )?;
    Ok(Report {
        bench: "put",
        compares: format!("durable puts of {VALUE_BYTES} bytes over TLS, against synced appends to a plain file"),
        groups: vec![Group { title: "durable puts".into(), unit: "puts/s", series }],
        notes: Vec::new(),
    })
}

fn appends(path: &std::path::Path) -> Result<f64> {
    let mut file = File::options().create(true).append(true).open(path)?;
    let begun = Instant::now();
    let mut done = 0_u32;
    while begun.elapsed() < SPAN {
        file.write_all(&[b'x'; VALUE_BYTES])?;
        file.sync_data()?;
        done += 1;
    }
    Ok(f64::from(done) / begun.elapsed().as_secs_f64())
}
