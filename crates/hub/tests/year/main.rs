//! A hub's life on a clock of its own: a year of it, or some weeks under `make test`.
//!
//! Each day has its puts, its edits of the share and what people do, drawn by a seed: they enrol, are revoked, get a new unique ID, make
//! invites and tokens; the hub is started anew, killed, backed up, put back, upgraded; its disk is full, its clock is wrong. At the end of
//! each day everybody is in sync, and at the end of all roster and boards are what a model of them is, the audit log has every event,
//! nothing secret lies about, and nothing has grown since the second month but what has a bound.
//!
//! All of it lies on a small disk, which the test sees alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and tells its figures"
)]

mod days;
mod house;
mod keeper;
mod machine;
mod model;
mod sizes;
mod text;
mod web;

use days::Life;
use std::env;
use std::process::Command;
use support::{Rng, for_each_seed, on_small_disk, pick, scratch};

/// Where the disk is; whoever is told so sees it.
const DISK: &str = "LOCKSTEP_YEAR_DISK";
/// Room for the hub, its share, a copy of it, a backup and what was there before one was put back.
const DISK_BYTES: u64 = 256 << 20;

/// So many days, and a look at all sizes after the first of these.
fn days() -> [u64; 2] {
    pick([10, 28], [60, 365])
}

#[test]
fn a_year_of_a_hub_ends_with_all_in_sync_and_nothing_grown() {
    for_each_seed(pick(&[], &[1]), |seed| match env::var_os(DISK) {
        Some(disk) => Life::begin(disk.as_ref(), Rng::new(seed)).goes_on(days()),
        None => {
            let disk = scratch();
            let mut again = Command::new(env::current_exe().unwrap());
            again
                .args(["a_year_of_a_hub", "--nocapture"])
                .env(DISK, &*disk)
                .env("LOCKSTEP_TEST_SEED", seed.to_string());
            // One heap for all threads: each start of the hub has its own, and what is held is to show, not over how many heaps it is spread.
            again.env("MALLOC_ARENA_MAX", "1");
            let output = on_small_disk(&disk, DISK_BYTES, &again).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            println!("{said}");
            assert!(output.status.success(), "{said}");
        }
    });
}
