//! One client of the model: its replica, its link to the hub, and what may never happen to it.

use super::disk::{Disk, Fault};
use crate::{Batch, Change, Follower, Mark, Name, Pattern, Replica, Told};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Which value each name has; values are stamps that only grow.
pub(super) type State = BTreeMap<Name, u64>;

/// A batch on its way, and the board at the moment it was made.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) batch: Batch,
    /// What a shared one tells.
    pub(super) told: Told,
    pub(super) board: Rc<State>,
    pub(super) complete: bool,
}

/// A connection. Without a follower its hub is gone, and what was under way still arrives.
pub(super) struct Link {
    pub(super) follower: Option<Follower>,
    pub(super) under_way: VecDeque<Frame>,
}

pub(super) struct Client {
    pub(super) pattern: Pattern,
    pub(super) replica: Replica,
    pub(super) disk: Disk,
    pub(super) link: Option<Link>,
    /// The rewinds of the hub's history that this client knows of.
    pub(super) rewinds: u64,
    /// The lowest stamp that may be seen next, by name.
    floors: State,
    /// Floors and rewinds as of the last save.
    saved: (State, u64),
}

impl Client {
    pub(super) fn new(pattern: Pattern) -> Client {
        Client {
            pattern,
            replica: Replica::new(),
            disk: Disk::default(),
            link: None,
            rewinds: 0,
            floors: State::new(),
            saved: Default::default(),
        }
    }

    /// Follows anew with a cursor as it is.
    pub(super) fn connect(&mut self, follower: Follower, rewinds: u64) -> Result<(), String> {
        let start = follower.start();
        self.replica.begin(start).map_err(|error| format!("the hub's answer was refused: {error}"))?;
        if start.reset && self.rewinds != rewinds {
            // Only here may a name go back: the hub's own history did.
            self.floors.clear();
            self.rewinds = rewinds;
        }
        self.link = Some(Link { follower: Some(follower), under_way: VecDeque::new() });
        Ok(())
    }

    /// Takes the oldest batch under way. Whether there was one.
    pub(super) fn deliver(&mut self, removals: &BTreeMap<Name, Vec<u64>>) -> Result<bool, String> {
        let Some(link) = &mut self.link else { return Ok(false) };
        let Some(frame) = link.under_way.pop_front() else {
            if link.follower.is_none() {
                self.link = None;
            }
            return Ok(false);
        };
        let changes =
            self.replica.apply(&frame.batch).map_err(|error| format!("refused {:?}: {error}", frame.batch))?;
        for change in &changes {
            self.check_change(change, &frame, removals)?;
        }
        if self.replica.is_current() {
            let expected: State = self.expected(&frame.board);
            if self.state() != expected || self.replica.iter_from(b"").any(|(_, held)| held.seq == 0) {
                let shown = self.state();
                return Err(format!("current, but shows {shown:?} and not {expected:?}"));
            }
            if !frame.complete || !matches!(frame.batch.mark, Mark::Live { current: true, .. }) {
                return Err("current by a batch that cannot say so".to_owned());
            }
        }
        Ok(true)
    }

    /// Saves the replica, if its store lets it; else the next save has to bring all of it.
    pub(super) fn save(&mut self, fault: Option<Fault>) {
        if let Some(fault) = fault {
            self.disk.fail_next(fault);
        }
        // A save that only its answer failed is what a crash finds.
        if self.replica.save(&mut self.disk).is_ok() || fault == Some(Fault::After) {
            self.saved = (self.floors.clone(), self.rewinds);
        }
    }

    /// Dies and comes back as it was last saved.
    pub(super) fn crash(&mut self) -> Result<(), String> {
        self.link = None;
        // What was not saved is not known any more; its own going back is no fault.
        (self.floors, self.rewinds) = self.saved.clone();
        self.replica = Replica::load(&mut self.disk).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// What this client should show of a board.
    pub(super) fn expected(&self, board: &State) -> State {
        let matching = board.iter().filter(|(name, _)| self.pattern.matches(name));
        matching.map(|(name, stamp)| (name.clone(), *stamp)).collect()
    }

    /// What it shows.
    pub(super) fn state(&self) -> State {
        self.replica.iter_from(b"").map(|(name, held)| (name.clone(), stamp(&held.value))).collect()
    }

    fn check_change(
        &mut self,
        change: &Change,
        frame: &Frame,
        removals: &BTreeMap<Name, Vec<u64>>,
    ) -> Result<(), String> {
        let name = &change.name;
        let floor = self.floors.get(name).copied().unwrap_or(0);
        let seen = match &change.new {
            Some(value) if stamp(value) >= floor => stamp(value),
            Some(value) => return Err(format!("{name:?} goes back from {floor} to {}", stamp(value))),
            None => {
                let later = removals.get(name).and_then(|stamps| stamps.iter().find(|stamp| **stamp > floor));
                match later {
                    Some(removed) => *removed,
                    None => return Err(format!("{name:?} was at {floor} and is gone, but nobody removed it")),
                }
            }
        };
        if change.dropped && !frame.complete {
            return Err(format!("{name:?} is dropped for a board that is not complete"));
        }
        self.floors.insert(name.clone(), seen);
        Ok(())
    }
}

pub(super) fn stamp(value: &[u8]) -> u64 {
    value.try_into().map_or(0, u64::from_be_bytes)
}
