//! Up to which seq what was applied survives a power cut. Plain values: whoever syncs the file system says so here.

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Durable {
    seq: u64,
    /// What the sync under way will have made durable, if nothing below it is put in place meanwhile.
    syncing: Option<u64>,
}

impl Durable {
    /// As it was noted.
    pub(super) fn new(seq: u64) -> Durable {
        Durable { seq, syncing: None }
    }

    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    pub(super) fn is_syncing(&self) -> bool {
        self.syncing.is_some()
    }

    /// A sync begins that covers everything up to `applied`.
    pub(super) fn begin(&mut self, applied: u64) {
        self.syncing = Some(applied);
    }

    /// The entry of `seq` was put in place just now (restored, or after a problem): it waits for a sync of its own.
    pub(super) fn placed(&mut self, seq: u64) {
        let below = seq.saturating_sub(1);
        self.seq = self.seq.min(below);
        if let Some(covered) = &mut self.syncing {
            *covered = (*covered).min(below);
        }
    }

    /// A new history begins: nothing of the old one counts, a sync under way included.
    pub(super) fn reset(&mut self) {
        self.seq = 0;
        if let Some(covered) = &mut self.syncing {
            *covered = 0;
        }
    }

    /// The sync under way ended. Whether more is durable than before.
    pub(super) fn end(&mut self, done: bool) -> bool {
        let covered = self.syncing.take().filter(|_| done).unwrap_or(0);
        let more = covered > self.seq;
        self.seq = self.seq.max(covered);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_covers_what_was_applied_when_it_began() {
        let mut durable = Durable::new(3);
        durable.begin(10);
        durable.placed(11);
        assert!(durable.is_syncing() && durable.seq() == 3);
        assert!(durable.end(true));
        assert_eq!(durable.seq(), 10);
        durable.begin(12);
        assert!(!durable.end(false));
        assert_eq!(durable.seq(), 10);
    }

    #[test]
    fn what_is_restored_while_a_sync_runs_is_not_covered_by_it() {
        let mut durable = Durable::new(10);
        durable.begin(20);
        durable.placed(5);
        assert_eq!(durable.seq(), 4);
        durable.end(true);
        assert_eq!(durable.seq(), 4);
    }

    #[test]
    fn a_sync_of_an_older_history_says_nothing_of_the_new_one() {
        let mut durable = Durable::new(3);
        durable.begin(500);
        durable.reset();
        durable.end(true);
        assert_eq!(durable.seq(), 0);
    }
}
