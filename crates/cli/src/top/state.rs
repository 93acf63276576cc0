//! What is on the screen: a span of time that ends now or earlier, and what was measured in it.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use vitals::history::{History, HistoryError, Range};
use vitals::plot::{KEYS, Recording, Values};
use vitals::{Frame, Value};

use super::keys::Go;
use crate::table::escaped;

/// The spans that can be chosen, in milliseconds: from a minute to four weeks.
const SPANS_MS: [i64; 9] = [
    60_000,
    5 * 60_000,
    15 * 60_000,
    3_600_000,
    6 * 3_600_000,
    86_400_000,
    3 * 86_400_000,
    7 * 86_400_000,
    28 * 86_400_000,
];
/// The most samples that are kept here: six hours at one a second.
const LIVE_MAX: usize = 6 * 3600;

/// What is known of one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Detail {
    /// Milliseconds since the Unix epoch; `None`: there is nothing at that moment.
    pub(super) wall_ms: Option<i64>,
    /// Numbers by the keys of their columns.
    pub(super) numbers: BTreeMap<String, f64>,
    /// Names by the keys of their columns, fit for a terminal.
    pub(super) names: BTreeMap<String, String>,
}

impl Detail {
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.numbers.get(key).copied()
    }
}

pub(super) struct State {
    history: Option<PathBuf>,
    live: VecDeque<(i64, Values)>,
    newest: Detail,
    /// Where the screen ends; `None`: now, and on with it.
    end_ms: Option<i64>,
    span: usize,
    /// What of the history lies in the span, and what is known at its end.
    kept: Recording,
    kept_last: Detail,
    complaint: Option<String>,
}

impl State {
    pub(super) fn new(history: Option<PathBuf>) -> Self {
        Self {
            history,
            live: VecDeque::new(),
            newest: Detail::default(),
            end_ms: None,
            span: 1,
            kept: Recording::default(),
            kept_last: Detail::default(),
            complaint: None,
        }
    }

    /// Takes a new sample.
    pub(super) fn take(&mut self, frame: &Frame) {
        let wall_ms = frame.taken.wall_ns / 1_000_000;
        let first = self.live.is_empty();
        self.newest = Detail { wall_ms: Some(wall_ms), ..Detail::default() };
        for (column, value) in frame.cells() {
            if let Value::Name(name) = value {
                let name = escaped(&String::from_utf8_lossy(name.as_bytes()));
                self.newest.names.insert(column.key.to_string(), name);
            } else if let Some(number) = value.number() {
                self.newest.numbers.insert(column.key.to_string(), number);
            }
        }
        self.live.push_back((wall_ms, KEYS.map(|key| self.newest.number(key))));
        if self.live.len() > LIVE_MAX {
            self.live.pop_front();
        }
        self.complaint = None;
        if first {
            self.load();
        }
    }

    /// Something went wrong; it is shown until the next sample.
    pub(super) fn complain(&mut self, words: String) {
        self.complaint = Some(escaped(&words));
    }

    pub(super) fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    pub(super) fn is_live(&self) -> bool {
        self.end_ms.is_none()
    }

    pub(super) fn span_ms(&self) -> i64 {
        SPANS_MS[self.span]
    }

    /// From when to when the screen shows.
    pub(super) fn window(&self) -> (i64, i64) {
        let end = self.end_ms.unwrap_or_else(|| self.now());
        (end.saturating_sub(self.span_ms()), end)
    }

    /// What was measured in the window.
    pub(super) fn recording(&self) -> Recording {
        let (from, to) = self.window();
        let mut all = self.kept.clone();
        for (wall_ms, values) in self.live.iter().filter(|(wall_ms, _)| (from..=to).contains(wall_ms)) {
            all.push(*wall_ms, values);
        }
        all
    }

    /// What is known of the end of the window.
    pub(super) fn detail(&self) -> Detail {
        let Some(end_ms) = self.end_ms else { return self.newest.clone() };
        let (from, _) = self.window();
        let live = self.live.iter().rev().find(|(wall_ms, _)| (from..=end_ms).contains(wall_ms));
        match live {
            Some((wall_ms, values)) => {
                let known = KEYS.iter().zip(values).filter_map(|(key, value)| Some(((*key).to_owned(), (*value)?)));
                Detail { wall_ms: Some(*wall_ms), numbers: known.collect(), names: BTreeMap::new() }
            }
            None => self.kept_last.clone(),
        }
    }

    /// Looks elsewhere.
    pub(super) fn go(&mut self, go: Go) {
        match go {
            Go::Closer => self.span = self.span.saturating_sub(1),
            Go::Wider => self.span = (self.span + 1).min(SPANS_MS.len() - 1),
            Go::Live => self.end_ms = None,
            Go::First => self.end_ms = Some(self.first().saturating_add(self.span_ms())),
            Go::Tenths(tenths) => {
                let (_, end) = self.window();
                self.end_ms = Some(end.saturating_add(self.span_ms() / 10 * tenths));
            }
        }
        let (first, now) = (self.first(), self.now());
        self.end_ms = self.end_ms.map(|end| end.max(first.saturating_add(1000))).filter(|end| *end < now);
        self.load();
    }

    fn now(&self) -> i64 {
        self.live.back().map_or(0, |(wall_ms, _)| *wall_ms)
    }

    /// The earliest moment of which anything is known.
    fn first(&self) -> i64 {
        let live = self.live.front().map_or(0, |(wall_ms, _)| *wall_ms);
        let history = self.history.as_ref().and_then(|dir| History::open(dir).ok()).and_then(|history| history.span());
        history.map_or(live, |span| span.from_ms.min(live))
    }

    /// Reads what of the history lies in the window, up to where our own samples begin.
    fn load(&mut self) {
        (self.kept, self.kept_last) = (Recording::default(), Detail::default());
        let Some(dir) = &self.history else { return };
        let (from_ms, to_ms) = self.window();
        let own = self.live.front().map_or(i64::MAX, |(wall_ms, _)| wall_ms.saturating_sub(1));
        let range = Range { from_ms, to_ms: to_ms.min(own) };
        let read = || -> Result<(Recording, Detail), HistoryError> {
            let (history, mut recording, mut last) = (History::open(dir)?, Recording::default(), Detail::default());
            let mut rows = history.rows(range);
            while let Some((schema, block)) = rows.next_block()? {
                let places = KEYS.map(|key| schema.columns.iter().position(|column| column.key == key));
                for (row, wall_ms) in block.wall_ms.iter().enumerate() {
                    recording.push(*wall_ms, &places.map(|at| at.and_then(|at| block.columns[at][row])));
                }
                let Some(row) = block.wall_ms.len().checked_sub(1) else { continue };
                let columns = schema.columns.iter().zip(&block.columns);
                let numbers = columns.filter_map(|(column, values)| Some((column.key.clone(), values[row]?))).collect();
                last = Detail { wall_ms: Some(block.wall_ms[row]), numbers, names: BTreeMap::new() };
            }
            Ok((recording, last))
        };
        match read() {
            Ok((recording, last)) => (self.kept, self.kept_last) = (recording, last),
            Err(error) => self.complain(format!("the history cannot be read: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vitals::Instants;

    use super::*;

    fn live(seconds: i64) -> State {
        let mut state = State::new(None);
        for second in 0..seconds {
            let taken = Instants { wall_ns: (1_700_000_000 + second) * 1_000_000_000, ..Instants::default() };
            state.take(&Frame { taken, schema: Arc::default(), values: Vec::new() });
        }
        state
    }

    #[test]
    fn it_winds_back_no_further_than_is_known_and_on_to_now() {
        let mut state = live(600);
        let now = state.now();
        assert!(state.is_live() && state.window() == (now - 300_000, now));
        state.go(Go::Tenths(-1));
        assert_eq!((state.is_live(), state.window().1), (false, now - 30_000));
        for _ in 0..100 {
            state.go(Go::Tenths(-10));
        }
        assert_eq!(state.window().1, state.first() + 1000);
        assert_eq!(state.detail().wall_ms, Some(state.first() + 1000));
        state.go(Go::First);
        assert_eq!(state.window().0, state.first());
        state.go(Go::Tenths(10));
        assert!(state.is_live(), "the end of what is known is now");
        state.go(Go::Tenths(-1));
        state.go(Go::Live);
        assert!(state.is_live());
    }

    #[test]
    fn it_goes_closer_and_wider_within_its_spans_and_before_any_sample() {
        let mut state = live(0);
        for go in [Go::Closer, Go::Wider, Go::First, Go::Live, Go::Tenths(-10), Go::Tenths(10)] {
            for _ in 0..20 {
                state.go(go);
            }
        }
        assert_eq!(state.span_ms(), SPANS_MS[SPANS_MS.len() - 1]);
    }

    #[test]
    fn a_wound_back_screen_stands_still_while_samples_come() {
        let mut state = live(600);
        state.go(Go::Tenths(-5));
        let before = state.window();
        let taken = Instants { wall_ns: 1_700_001_000_000_000_000, ..Instants::default() };
        state.take(&Frame { taken, schema: Arc::default(), values: Vec::new() });
        assert_eq!(state.window(), before);
    }
}
