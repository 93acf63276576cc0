//! Where a live mirror stands, for whoever asks. Plain values.

use tree::RelPath;

use crate::guard::Held;

/// Most failing entries that are named.
pub(super) const NAMED_MAX: usize = 20;

/// What a live mirror is at, and what it has seen since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What it is at.
    pub state: State,
    /// Passes that looked at anything.
    pub passes: u64,
    /// Passes among them that compared both trees whole: the first one, and those after lost events, by the interval, or
    /// when a root came back.
    pub walks: u64,
    /// How often the kernel said that it lost events, on either side.
    pub overflows: u64,
    /// Entries the destination has, once it was walked whole.
    pub entries: Option<u64>,
    /// Watched directories, of both sides.
    pub watches: u64,
    /// Directories without a watch, which are polled with all that is below them, of both sides.
    pub polled: u64,
    /// Entries that fail at present.
    pub problems: u64,
    /// The first of them, and why.
    pub named: Vec<(RelPath, String)>,
    /// Some of them fail because the destination's disk is full.
    pub lacks_room: bool,
    /// Deletions that a guard holds back.
    pub held: Option<Held>,
    /// What is wrong with a root, while it is away.
    pub lost: Option<String>,
}

/// What a live mirror is at. When several are true it is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The first pass is not over.
    #[default]
    Scanning,
    /// A root is away, or another directory stands in its place. Nothing is copied or deleted.
    Lost,
    /// Changes are known that are not at the destination yet.
    Behind,
    /// A guard holds deletions back; all else is the same.
    Held,
    /// Some entries fail and are tried again; all else is the same.
    Problems,
    /// Both sides are the same, by all that was reported.
    InStep,
}

impl Standing {
    /// The state after a pass; `behind` says that more is known to be done.
    pub(super) fn settle(&mut self, behind: bool) {
        self.state = match self {
            Self { lost: Some(_), .. } => State::Lost,
            _ if behind => State::Behind,
            Self { held: Some(_), .. } => State::Held,
            Self { problems: 1.., .. } => State::Problems,
            _ => State::InStep,
        };
    }
}

impl State {
    /// One word for machines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Scanning => "scanning",
            Self::Lost => "lost",
            Self::Behind => "behind",
            Self::Held => "held",
            Self::Problems => "problems",
            Self::InStep => "in-step",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::HeldWhy;

    #[test]
    fn what_keeps_both_sides_apart_most_is_the_state() {
        let held = Held { deletes: 1, dest_entries: 1, why: HeldWhy::SourceEmpty };
        let mut standing = Standing { lost: Some("gone".into()), held: Some(held), problems: 2, ..Standing::default() };
        let mut states = Vec::new();
        let mut settle = |standing: &mut Standing, behind| {
            standing.settle(behind);
            states.push(standing.state.word());
        };
        settle(&mut standing, true);
        standing.lost = None;
        settle(&mut standing, true);
        settle(&mut standing, false);
        standing.held = None;
        settle(&mut standing, false);
        standing.problems = 0;
        settle(&mut standing, false);
        assert_eq!(states, ["lost", "behind", "held", "problems", "in-step"]);
    }
}
