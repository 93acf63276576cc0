//! `lockstep mirror --watch` under random edits: afterwards both sides are the same.

use std::fs;
use std::time::{Duration, Instant};

use support::{Edits, Proc, Tree, for_each_seed, pick, same_trees, scratch};

use super::mirror::mirror;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn m2_7_under_random_edits_of_the_source_the_destination_becomes_the_same() {
    for_each_seed(pick(&[21][..], &[21, 22, 23, 24, 25, 26][..]), |seed| {
        for dir in [scratch(), support::scratch::scratch_in("/dev/shm")] {
            let (source, dest, log) = (dir.join("src"), dir.join("dst"), dir.join("log"));
            Tree::at(&source).every_kind();
            let running =
                Proc::start(mirror(&source, &dest).args(["--watch", "--allow-mass-delete", "--log"]).arg(&log));
            running.wait_for_line("watching", PATIENCE);
            for round in 0..pick(20, 200) {
                Edits::new(&source, seed + round).run(100);
                let deadline = Instant::now() + PATIENCE;
                while let Err(differences) = same_trees(&source, &dest) {
                    let log = || fs::read_to_string(&log).unwrap_or_default();
                    assert!(Instant::now() < deadline, "seed {seed}, round {round}: {differences}\n{}", log());
                    support::lapse(
                        std::time::Duration::from_millis(20),
                        "a comparison costs more than the mirror does",
                    );
                }
            }
        }
    });
}
