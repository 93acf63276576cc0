//! What a client put and was told, and the judge of it: nothing acknowledged is lost, no name goes back, and who is in sync holds
//! what the hub holds.
//!
//! Each value is put once in a run, so a value says which put it was of. A put whose answer never came may have been done or not, and
//! at any time after it was said; one that was refused was not done. Puts of one name that reach the disk in the same moment share a
//! version, and one of them stands.

use std::collections::{BTreeMap, BTreeSet};

use super::super::program::Told;

/// What stands under each name: its version, and its value.
pub(super) type Board = BTreeMap<String, (u64, String)>;

/// A put.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Put {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) answer: Answer,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// None yet, or never.
    Unknown,
    /// It is on disk, as of this version.
    Done(u64),
    Refused(String),
}

/// The life of one client, through all its programs.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) id: u64,
    pub(super) puts: Vec<Put>,
    /// The put that waits for its answer.
    pub(super) waits: bool,
    /// What it holds.
    pub(super) held: Board,
    /// The highest version it was told of each name, in all its life.
    highest: BTreeMap<String, u64>,
    /// Since it was told that what it holds does not count: what it was told again.
    anew: Option<BTreeSet<String>>,
    version: Option<u64>,
    /// It has all there is, as far as it knows.
    pub(super) is_current: bool,
    pub(super) cuts: usize,
    pub(super) values_told: usize,
    /// What broke a promise.
    pub(super) broken: Vec<String>,
}

impl Life {
    pub(super) fn of(id: u64) -> Life {
        Life { id, ..Life::default() }
    }

    pub(super) fn puts(&mut self, name: String, value: String) {
        assert!(!self.waits, "one at a time");
        self.puts.push(Put { name, value, answer: Answer::Unknown });
        self.waits = true;
    }

    /// Its program is gone; an answer cannot come any more.
    pub(super) fn is_cut(&mut self) {
        self.waits = false;
        self.is_current = false;
        self.version = None;
        self.cuts += 1;
    }

    /// Takes in what a program that is in was told.
    pub(super) fn told(&mut self, told: &Told) {
        match told {
            Told::Version(version) => return self.version = Some(*version),
            Told::Reset => {
                self.anew = Some(BTreeSet::new());
                self.is_current = false;
            }
            Told::Value(name, value) => {
                let Some(version) = self.version else {
                    return self.broken.push(format!("{}: {name} came without a version", self.id));
                };
                self.goes_on(name, version);
                self.held.insert(name.clone(), (version, value.clone()));
                self.values_told += 1;
            }
            Told::Gone(name) => {
                // Not every transport tells as of when.
                if let Some(version) = self.version {
                    self.goes_on(name, version);
                }
                self.held.remove(name);
            }
            Told::Current(_) => {
                self.is_current = true;
                if let Some(anew) = self.anew.take() {
                    self.held.retain(|name, _| anew.contains(name));
                }
            }
            Told::Done => self.answered(self.version.map(Answer::Done)),
            Told::Refused { code, .. } if self.waits => self.answered(Some(Answer::Refused(code.clone()))),
            _ => {}
        }
        self.version = None;
    }

    fn answered(&mut self, answer: Option<Answer>) {
        match (std::mem::take(&mut self.waits), answer) {
            (true, Some(answer)) => self.puts.last_mut().expect("it waits for one").answer = answer,
            (waits, answer) => self.broken.push(format!("{}: answered with {answer:?}, waiting: {waits}", self.id)),
        }
    }

    fn goes_on(&mut self, name: &str, version: u64) {
        let highest = self.highest.entry(name.to_owned()).or_default();
        if version < *highest {
            self.broken.push(format!("{}: {name} went back from version {highest} to {version}", self.id));
        }
        *highest = version.max(*highest);
        if let Some(anew) = &mut self.anew {
            anew.insert(name.to_owned());
        }
        self.is_current = false;
    }
}

/// What is wrong with how it ended, if anything is.
pub(super) fn judge<'a>(lives: impl IntoIterator<Item = &'a Life>, hub: &Board) -> Vec<String> {
    let lives: Vec<&Life> = lives.into_iter().collect();
    let mut wrong: Vec<String> = lives.iter().flat_map(|life| life.broken.clone()).collect();
    let puts = || lives.iter().flat_map(|life| &life.puts);
    let mut names = BTreeMap::new();
    for put in puts() {
        let now = hub.get(&put.name);
        let stands = now.is_some_and(|(_, value)| *value == put.value);
        match put.answer {
            Answer::Done(version) => {
                let at = now.map_or(0, |(version, _)| *version);
                if at < version {
                    wrong.push(format!("lost: {} = {} of version {version}; the hub has {at}", put.name, put.value));
                }
                let stood_beside = |other: &Put| {
                    let beside = matches!(other.answer, Answer::Unknown) || other.answer == put.answer;
                    beside && other.name == put.name && now.is_some_and(|(_, value)| *value == other.value)
                };
                if at == version && !puts().any(stood_beside) || at != version && stands {
                    wrong.push(format!("{} = {} of version {version}, and the hub has {now:?}", put.name, put.value));
                }
                if let Some(other) = names.insert(version, &put.name).filter(|other| **other != put.name) {
                    wrong.push(format!("one version for two names: {other} and {}: {version}", put.name));
                }
            }
            Answer::Refused(_) if stands => wrong.push(format!("refused, and done: {put:?}")),
            Answer::Refused(_) | Answer::Unknown => {}
        }
    }
    for (name, (version, value)) in hub {
        let tried = puts().any(|put| put.name == *name && put.value == *value);
        if !tried {
            wrong.push(format!("nobody put {name} = {value} of version {version}"));
        }
    }
    for life in lives {
        if life.held != *hub {
            let differs = |name: &&String| life.held.get(*name) != hub.get(*name);
            let names: BTreeSet<_> = life.held.keys().chain(hub.keys()).filter(differs).collect();
            let told = |name: &&String| format!("{name}: {:?}, not {:?}", life.held.get(*name), hub.get(*name));
            wrong.push(format!("{} is not in sync: {:?}", life.id, names.iter().map(told).collect::<Vec<_>>()));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that put `a` twice and has it, and the hub that it put it to.
    fn fine() -> (Life, Board) {
        let mut life = Life::of(7);
        for (version, value) in [(3, "old"), (5, "newest")] {
            life.puts("a".into(), value.into());
            let done = [Told::Version(version), Told::Done];
            let told = [Told::Version(version), Told::Value("a".into(), value.into()), Told::Current("c".into())];
            done.iter().chain(&told).for_each(|told| life.told(told));
        }
        (life, Board::from([("a".to_owned(), (5, "newest".to_owned()))]))
    }

    #[track_caller]
    fn wrong(life: &Life, hub: &Board, with: &str) {
        let wrong = judge([life], hub);
        assert!(wrong.iter().any(|why| why.contains(with)), "{wrong:?}");
    }

    #[test]
    fn a_good_end_is_good() {
        let (mut life, mut hub) = fine();
        assert_eq!(judge([&life], &hub), Vec::<String>::new());
        // What was never answered may stand or not; what was refused may not.
        life.puts("a".into(), "unknown".into());
        life.is_cut();
        assert_eq!(judge([&life], &hub), Vec::<String>::new());
        hub.insert("a".into(), (6, "unknown".into()));
        [Told::Version(6), Told::Value("a".into(), "unknown".into())].iter().for_each(|told| life.told(told));
        assert_eq!(judge([&life], &hub), Vec::<String>::new());
        // Two at once have one version, and the newer one stands.
        let ((one, mut hub), mut other) = (fine(), fine().0);
        (other.id, other.puts) = (8, Vec::new());
        other.puts("a".into(), "beside".into());
        [Told::Version(5), Told::Done].iter().for_each(|told| other.told(told));
        assert_eq!(judge([&one, &other], &hub), Vec::<String>::new());
        hub.insert("a".into(), (5, "neither".into()));
        assert!(!judge([&one, &other], &hub).is_empty());
    }

    #[test]
    fn canary_what_breaks_a_promise_is_told() {
        let (life, hub) = fine();
        wrong(&life, &Board::new(), "lost: a = newest");
        wrong(&life, &Board::from([("a".to_owned(), (3, "old".to_owned()))]), "lost: a = newest");
        wrong(&life, &Board::from([("a".to_owned(), (6, "old".to_owned()))]), "a = old of version 3");
        wrong(&life, &Board::from([("a".to_owned(), (5, "other".to_owned()))]), "nobody put a = other");
        let (mut life, hub_now) = (fine().0, hub.clone());
        [Told::Version(3), Told::Value("a".into(), "old".into())].iter().for_each(|told| life.told(told));
        wrong(&life, &hub_now, "went back from version 5 to 3");
        wrong(&life, &hub_now, "7 is not in sync");
        let mut life = fine().0;
        life.puts("a".into(), "refused".into());
        life.told(&Told::refused("limit", "too much"));
        let hub = Board::from([("a".to_owned(), (6, "refused".to_owned()))]);
        wrong(&life, &hub, "refused, and done");
        let mut life = fine().0;
        life.puts("b".into(), "x".into());
        [Told::Version(5), Told::Done].iter().for_each(|told| life.told(told));
        wrong(&life, &hub_now, "one version for two names");
        // What it was not told again, after it was told to begin anew, it does not hold.
        let mut life = fine().0;
        [Told::Reset, Told::Current("d".into())].iter().for_each(|told| life.told(told));
        wrong(&life, &hub_now, "7 is not in sync");
    }
}
