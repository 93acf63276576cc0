//! Board, followers and replicas against a simple model, under a seeded scheduler.
//!
//! A schedule is a world ([`world::World`]) and a list of random steps; the seed alone decides all of it. Size: some hundreds
//! of schedules, 100,000 with `LOCKSTEP_TEST_SIZE=soak`. A failure prints its seed and every step.

mod client;
mod disk;
mod random;
mod restart;
mod world;

use crate::mutant::{self, Mutant};
use random::Random;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use world::World;

/// Schedules of the fixed seeds.
const FIXED: u64 = 400;
/// Schedules that begin at the fresh seed.
const FRESH: u64 = 100;
/// The same for a soak.
const FIXED_SOAK: u64 = 100_000;
const FRESH_SOAK: u64 = 20_000;
/// Within so many schedules each mutant is found.
const CANARY_SCHEDULES: u64 = 20_000;
const STEPS: usize = 250;

#[test]
fn m3_7_every_client_ends_equal_to_the_model_and_no_name_goes_back_or_is_lost() {
    let soak = std::env::var("LOCKSTEP_TEST_SIZE").is_ok_and(|size| size == "soak");
    let fixed = if soak { FIXED_SOAK } else { FIXED };
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs() << 20);
    let more = if soak { FRESH_SOAK } else { FRESH };
    println!("{fixed} schedules from seed 1, {more} from the fresh seed {fresh}");
    for (first, count) in [(1, fixed), (fresh, more)] {
        if let Some(seed) = first_failure(first, count, None) {
            panic!("{}", scene(seed));
        }
    }
}

/// A seed to look at again: `LOCKSTEP_TEST_SEED=n`.
#[test]
fn a_named_seed_can_be_run_alone() {
    let seed = std::env::var("LOCKSTEP_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    if run(seed, None).is_err() {
        panic!("{}", scene(seed));
    }
}

macro_rules! canaries {
    ($($test:ident: $mutant:ident,)*) => {$(
        #[test]
        fn $test() {
            let found = first_failure(1, CANARY_SCHEDULES, Some(Mutant::$mutant));
            assert!(found.is_some(), "the model does not notice {:?} in {CANARY_SCHEDULES} schedules", Mutant::$mutant);
            println!("{:?} is noticed in schedule {found:?}", Mutant::$mutant);
        }
    )*};
}

canaries! {
    canary_followers_that_forget_tombstones_are_caught: FollowerForgetsTombstones,
    canary_purges_past_a_follower_are_caught: PurgePastFollowers,
    canary_cursors_below_the_horizon_are_caught: HorizonIgnored,
    canary_a_validity_check_without_the_run_list_is_caught: NoRunList,
    canary_a_validity_check_without_the_newest_entry_sent_is_caught: SeenIgnored,
    canary_batches_whose_view_is_not_noted_are_caught: ViewUnnoted,
    canary_walks_that_end_at_the_present_head_are_caught: WalkEndsAtPresentHead,
    canary_walks_that_hide_removals_above_their_head_are_caught: WalkHidesRemovals,
    canary_replicas_that_ignore_a_reset_are_caught: ReplicaIgnoresReset,
    canary_replicas_that_take_older_entries_are_caught: ReplicaTakesOlder,
    canary_replicas_that_forget_tombstones_are_caught: ReplicaForgetsTombstones,
    canary_replicas_that_keep_what_was_not_sent_are_caught: ReplicaKeepsUnsent,
    canary_drops_for_an_incomplete_board_are_caught: DropsWhileIncomplete,
    canary_followers_that_are_told_they_are_current_only_at_the_head_are_caught: CurrentOnlyAtTheHead,
    canary_current_of_an_incomplete_board_is_caught: CurrentWhileIncomplete,
    canary_boards_complete_by_their_epoch_alone_are_caught: CompleteByEpochAlone,
    canary_commits_shown_before_they_are_stored_are_caught: ShownUnstored,
}

/// The first failing seed of `first..first + count`, on two threads.
fn first_failure(first: u64, count: u64, mutant: Option<Mutant>) -> Option<u64> {
    let (next, found) = (AtomicU64::new(first), AtomicU64::new(u64::MAX));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || seed >= found.load(Ordering::Relaxed) {
                        return;
                    }
                    mutant::set(mutant);
                    if run(seed, None).is_err() {
                        found.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    Some(found.into_inner()).filter(|seed| *seed != u64::MAX)
}

/// The whole story of a failing seed.
fn scene(seed: u64) -> String {
    let mut story = Vec::new();
    let failure = run(seed, Some(&mut story)).err().unwrap_or_else(|| "it does not fail again".to_owned());
    format!("seed {seed} fails: {failure}\n{}", story.join("\n"))
}

fn run(seed: u64, story: Option<&mut Vec<String>>) -> Result<(), String> {
    let mut world = World::new(Random::new(seed), story);
    let steps = || -> Result<(), String> {
        for _ in 0..STEPS {
            world.step()?;
        }
        world.settle()
    };
    // A panic is a failure like any other, told with the seed.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(steps)) {
        Ok(ended) => ended,
        Err(_) => Err("it panicked".to_owned()),
    }
}
