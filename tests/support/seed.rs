//! Randomness that can be repeated.

use std::env;
use std::panic::{self, AssertUnwindSafe};

/// A small generator (xorshift64*). The same seed gives the same numbers on every machine and in every release.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator for `seed`.
    pub fn new(seed: u64) -> Self {
        // SplitMix64 spreads small seeds; zero is the one state xorshift cannot leave.
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((z ^ (z >> 31)).max(1))
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("usize fits u64 where this runs");
        usize::try_from(self.number() % end).expect("it is below a usize")
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One element, or none of an empty slice.
    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { Some(&from[self.below(from.len())]) }
    }

    /// `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

/// Runs `test` with each fixed seed and one fresh one, or only with `LOCKSTEP_TEST_SEED` if that is set. Prints the
/// seed of a run that fails, with the words that repeat it.
///
/// # Panics
/// As `test` does.
#[allow(clippy::print_stdout, reason = "the test harness captures it and shows it when the test fails")]
pub fn for_each_seed(fixed: &[u64], mut test: impl FnMut(u64)) {
    let seeds = match env::var("LOCKSTEP_TEST_SEED") {
        Ok(text) => vec![text.parse().expect("LOCKSTEP_TEST_SEED is a whole number")],
        Err(_) => fixed.iter().copied().chain([fresh()]).collect(),
    };
    for seed in seeds {
        println!("seed {seed}");
        if let Err(why) = panic::catch_unwind(AssertUnwindSafe(|| test(seed))) {
            eprintln!("failed with seed {seed}: repeat it with LOCKSTEP_TEST_SEED={seed}");
            panic::resume_unwind(why);
        }
    }
}

fn fresh() -> u64 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    u32::from_le_bytes(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_for_ever() {
        let mut rng = Rng::new(1);
        let first: Vec<usize> = (0..5).map(|_| rng.below(1000)).collect();
        let mut again = Rng::new(1);
        assert_eq!(first, (0..5).map(|_| again.below(1000)).collect::<Vec<_>>());
        assert_ne!(first, {
            let mut other = Rng::new(2);
            (0..5).map(|_| other.below(1000)).collect::<Vec<_>>()
        });
        assert_eq!(Rng::new(0).bytes(13).len(), 13);
    }
}
