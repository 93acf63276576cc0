//! What became of commands that whoever runs the agent ran for it (`join --after`): the hub is told of the last one.

use crate::kept::Kept;
use crate::mailbox::{Letter, Mailbox};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;
use wire::ran::Ran;

/// The last run for each share and each pattern of values. A copy of it is the same one.
#[derive(Clone, Debug, Default)]
pub struct LastRuns(Arc<Mutex<HashMap<Kept, Noted>>>);

#[derive(Debug, Default)]
struct Noted {
    last: Option<Ran>,
    keeper: Weak<Mailbox>,
}

impl LastRuns {
    /// A command was run for what is kept; its hub hears of it with the next acknowledgement, which follows at once.
    pub fn note(&self, of: &Kept, ran: &mirror::after::Ran) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        let last = Ran::new(at_ms, ran.end.word(), ran.end.code(), ran.took, ran.told, ran.last_words());
        let mut noted = self.lock();
        let noted = noted.entry(of.clone()).or_default();
        noted.last = Some(last);
        if let Some(mailbox) = noted.keeper.upgrade() {
            mailbox.push(Letter::Ran);
        }
    }

    /// A keeper acknowledges: it is to hear of runs.
    pub(crate) fn heard_by(&self, of: &Kept, mailbox: &Arc<Mailbox>) {
        self.lock().entry(of.clone()).or_default().keeper = Arc::downgrade(mailbox);
    }

    pub(crate) fn last(&self, of: &Kept) -> Option<Ran> {
        self.lock().get(of).and_then(|noted| noted.last.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kept, Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
