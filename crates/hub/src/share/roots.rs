//! The root of a share at its last heads.
//!
//! A root is noted *before* its head is committed, so whoever sees a head finds its root.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tree::RootHash;

/// Heads whose root is remembered; a batch is encoded within a few of the newest.
const ROOTS_MAX: usize = 4096;

#[derive(Default)]
pub(crate) struct Roots(Mutex<VecDeque<(u64, RootHash)>>);

impl Roots {
    pub(crate) fn note(&self, seq: u64, root: RootHash) {
        let mut roots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A commit that failed left its predicted head behind; the next one replaces it.
        while roots.back().is_some_and(|(noted, _)| *noted >= seq) {
            roots.pop_back();
        }
        roots.push_back((seq, root));
        if roots.len() > ROOTS_MAX {
            roots.pop_front();
        }
    }

    pub(crate) fn at(&self, seq: u64) -> Option<RootHash> {
        let roots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        roots.iter().rev().find(|(noted, _)| *noted == seq).map(|(_, root)| *root)
    }
}
