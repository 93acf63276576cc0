//! What the scenario knows of a program: what it says, what it is told, and that it can be cut, stopped and killed. Each transport
//! only translates.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use support::{PATIENCE, until};

/// What a program says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Say<'a> {
    /// Its id, as JSON.
    Id(&'a str),
    UniqueId(&'a str),
    /// That the unique ID never came.
    Lost,
    /// That it holds the unique ID it was issued.
    Confirm,
    /// That it follows all values; from its cursor on, if it was given one.
    Follow,
    /// A value that is a text.
    Put(&'a str, &'a str),
}

/// What a program is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    /// It is asked for its id.
    Id,
    Issued(String),
    /// It is asked for its unique ID.
    UniqueId,
    Refused {
        code: String,
        text: String,
    },
    Welcome,
    /// What it holds does not count.
    Reset,
    Value(String, String),
    Gone(String),
    /// There is nothing newer; its cursor.
    Current(String),
    /// What it put is on disk.
    Done,
    /// The version of what is told next: a value, one that is gone, or what it put. Not every transport tells it of all.
    Version(u64),
    /// The end, by its code.
    Bye(String),
    /// The connection is over.
    Cut,
}

impl Told {
    pub(super) fn refused(code: impl Into<String>, text: impl Into<String>) -> Told {
        Told::Refused { code: code.into(), text: text.into() }
    }

    pub(super) fn is_refused(&self, with: &str) -> bool {
        matches!(self, Told::Refused { code, .. } if code == with)
    }

    pub(super) fn is_value(&self, of: &str) -> bool {
        matches!(self, Told::Value(name, _) if name == of)
    }
}

/// A program that logs in. Dropping it cuts it.
pub(super) trait Program: Send {
    fn say(&mut self, what: Say<'_>);

    /// All it was told so far, in order.
    fn told(&mut self) -> &[Told];

    /// Stops it where it stands, its connection open.
    fn stand_still(&mut self);

    fn go_on(&mut self);

    /// Kills it, as `kill -9` does.
    fn kill(&mut self);

    /// Whether it connects again by itself after a cut.
    fn comes_back(&self) -> bool {
        false
    }

    /// How long it may take until it is told what it is to be told.
    fn patience(&self) -> Duration {
        PATIENCE
    }
}

/// How programs reach the hub.
pub(super) trait Transport: Send + Sync {
    fn name(&self) -> &'static str;

    /// A program that connects; it kept this cursor.
    fn connect(&self, cursor: Option<&str>) -> Box<dyn Program>;

    /// A program that stands still is off the list after so long.
    fn silence(&self) -> Duration {
        super::SILENCE_MAX
    }
}

impl dyn Program + '_ {
    /// How much it was told: a place to look from.
    pub(super) fn mark(&mut self) -> usize {
        self.told().len()
    }

    /// Waits for something, from `mark` on; where it is, and what is made of it.
    #[track_caller]
    pub(super) fn find<T>(&mut self, mark: usize, what: &str, it: impl Fn(&Told) -> Option<T>) -> (usize, T) {
        let (patience, start) = (self.patience(), Instant::now());
        loop {
            let told = self.told();
            let from = mark.min(told.len());
            if let Some((at, found)) = told.iter().enumerate().skip(from).find_map(|(at, told)| Some((at, it(told)?))) {
                return (at, found);
            }
            assert!(start.elapsed() < patience, "it was not told {what} from {mark} on, but {:#?}", self.told());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it is told this, from `mark` on; the place behind it.
    #[track_caller]
    pub(super) fn hear(&mut self, mark: usize, told: &Told) -> usize {
        self.find(mark, &format!("{told:?}"), |heard| (heard == told).then_some(())).0 + 1
    }

    #[track_caller]
    pub(super) fn hear_value(&mut self, mark: usize, name: &str, value: &str) -> usize {
        self.hear(mark, &Told::Value(name.to_owned(), value.to_owned()))
    }

    /// Waits until it has all there is, from `mark` on.
    #[track_caller]
    pub(super) fn settle(&mut self, mark: usize) {
        self.find(mark, "that there is nothing newer", |told| matches!(told, Told::Current(_)).then_some(()));
    }

    /// Says something at the login; the answer to it.
    #[track_caller]
    pub(super) fn ask(&mut self, what: Say<'_>) -> Told {
        let mark = self.mark();
        self.say(what);
        let answer = |told: &Told| {
            let is = matches!(told, Told::Issued(_) | Told::UniqueId | Told::Refused { .. } | Told::Welcome);
            is.then(|| told.clone())
        };
        self.find(mark, &format!("the answer to {what:?}"), answer).1
    }

    /// The code and the text of a refusal.
    #[track_caller]
    pub(super) fn refused(&mut self, what: Say<'_>) -> (String, String) {
        match self.ask(what) {
            Told::Refused { code, text } => (code, text),
            other => panic!("{what:?} was not refused: {other:?}"),
        }
    }

    /// The cursor it heard last.
    pub(super) fn cursor(&mut self) -> Option<String> {
        self.told().iter().rev().find_map(|told| match told {
            Told::Current(cursor) => Some(cursor.clone()),
            _ => None,
        })
    }

    /// The newest it was told from `mark` on, all of it: a value by its name, or none where it is gone.
    pub(super) fn changes(&mut self, mark: usize) -> BTreeSet<(String, Option<String>)> {
        let told = self.told()[mark..].iter();
        told.filter_map(|told| match told {
            Told::Value(name, value) => Some((name.clone(), Some(value.clone()))),
            Told::Gone(name) => Some((name.clone(), None)),
            _ => None,
        })
        .collect()
    }
}

/// A program that is in, with what it needs to come again.
pub(super) struct Session<'a> {
    pub(super) transport: &'a dyn Transport,
    pub(super) program: Box<dyn Program>,
    pub(super) id: u64,
    pub(super) unique_id: String,
}

impl<'a> Session<'a> {
    /// Logs in for the first time.
    #[track_caller]
    pub(super) fn enrolled(transport: &'a dyn Transport, id: u64) -> Session<'a> {
        let mut program = transport.connect(None);
        program.hear(0, &Told::Id);
        let Told::Issued(unique_id) = program.ask(Say::Id(&id.to_string())) else { panic!("{id} is new") };
        assert_eq!(program.ask(Say::Confirm), Told::Welcome);
        program.say(Say::Follow);
        program.settle(0);
        Session { transport, program, id, unique_id }
    }

    /// Logs in again with its cursor: the same program, where it connects again by itself; what it is told from then on is
    /// behind the place that is returned.
    #[track_caller]
    pub(super) fn back(&mut self, mark: usize) -> usize {
        let by_itself = self.program.comes_back();
        let mark = if by_itself { mark } else { 0 };
        if !by_itself {
            let cursor = self.program.cursor();
            self.program = self.transport.connect(cursor.as_deref());
        }
        let mark = self.program.hear(mark, &Told::Id);
        match self.program.ask(Say::Id(&self.id.to_string())) {
            Told::UniqueId => assert_eq!(self.program.ask(Say::UniqueId(&self.unique_id)), Told::Welcome),
            // It proved its id as it connected.
            Told::Welcome if by_itself => {}
            other => panic!("{} came again and was told {other:?}", self.id),
        }
        self.program.say(Say::Follow);
        self.program.settle(mark);
        mark
    }

    /// Whether it is among the active clients, once it is so.
    #[track_caller]
    pub(super) fn is_listed(&self, cluster: &support::Cluster, listed: bool) {
        let is = || crate::http::active(cluster).iter().any(|(id, _)| *id == self.id) == listed;
        until(self.program.patience(), &format!("{} to be listed: {listed}", self.transport.name()), is);
    }
}
