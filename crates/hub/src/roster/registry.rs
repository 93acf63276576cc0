//! The roster of a running hub: whoever decides waits for the disk without holding anybody up.
//!
//! One thread owns the file. While one commit waits for the disk the next changes gather, so many enrolments share one
//! sync (group commit) and nobody waits for a timer. Decisions go on in memory meanwhile.

use super::store::Store;
use super::{About, Roster};
use std::collections::BTreeSet;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{Notify, oneshot};
use wire::id::ClientId;
use wire::roster::{Client, RosterError};

/// The door to the roster.
pub(crate) struct Registry(Arc<Shared>);

struct Shared {
    roster: Mutex<Roster>,
    /// Rings when there is more to write, or nothing is to be written any more.
    more: Condvar,
}

/// The thread that owns the file; joined at shutdown so that it is closed cleanly.
pub(crate) struct RegistryThread(JoinHandle<()>);

/// The roster, to be looked at.
pub(crate) struct Looking<'a>(MutexGuard<'a, Roster>);

impl Deref for Looking<'_> {
    type Target = Roster;

    fn deref(&self) -> &Roster {
        &self.0
    }
}

/// Until when something is not to be told.
#[must_use = "what is not on disk is not to be told"]
pub(crate) enum Kept {
    /// It rests on nothing that is not on disk.
    Already,
    /// It is on disk once this says so.
    Soon(oneshot::Receiver<Result<(), RosterError>>),
}

impl Kept {
    /// Waits until it is on disk.
    ///
    /// # Errors
    /// When it could not be written. Then it was undone, with everything that was decided after it.
    pub(crate) async fn wait(self) -> Result<(), RosterError> {
        match self {
            Kept::Already => Ok(()),
            Kept::Soon(answer) => answer.await.unwrap_or_else(|_| Err(closed())),
        }
    }
}

fn closed() -> RosterError {
    RosterError::Storage("the roster is not written any more; the hub's log says why".into())
}

impl Registry {
    /// Opens the roster in the file `path`, or begins one there, and starts its thread. `changed` rings whenever more
    /// than notes came to disk.
    ///
    /// # Errors
    /// When it cannot be read or written, is of another release, or does not hold together; the text has the path.
    pub(crate) fn start(path: &Path, changed: Arc<Notify>) -> Result<(Registry, RegistryThread), RosterError> {
        let (roster, store) = Roster::open(path)?;
        Ok(Registry::start_with(roster, store, changed))
    }

    pub(super) fn start_with(roster: Roster, store: Store, changed: Arc<Notify>) -> (Registry, RegistryThread) {
        let shared = Arc::new(Shared { roster: Mutex::new(roster), more: Condvar::new() });
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || write_all(&shared, store, &changed))
        };
        (Registry(shared), RegistryThread(thread))
    }

    /// What is known now. What is shown of it need not be on disk yet.
    pub(crate) fn look(&self) -> Looking<'_> {
        Looking(self.0.lock())
    }

    /// Does something that nobody comes between. What it gives is not to be told before [`Kept`] says so: if it changed
    /// something, or tells of the client that `rests_on` names.
    pub(crate) fn step<T>(
        &self,
        work: impl FnOnce(&mut Roster) -> T,
        rests_on: impl FnOnce(&T) -> Option<ClientId>,
    ) -> (T, Kept) {
        let mut roster = self.0.lock();
        let before = roster.pending.len();
        let done = work(&mut roster);
        let changed = roster.pending.len() > before;
        let rests = changed || rests_on(&done).is_some_and(|id| roster.is_pending(id));
        let kept = match roster.pending.back_mut() {
            Some(last) if rests => {
                let (tell, answer) = oneshot::channel();
                last.waiting.push(tell);
                Kept::Soon(answer)
            }
            _ => Kept::Already,
        };
        drop(roster);
        if changed {
            self.0.more.notify_one();
        }
        (done, kept)
    }

    /// Changes something, and returns once that is on disk.
    ///
    /// # Errors
    /// Those of `work`, and when it could not be written; nothing has changed then.
    pub(crate) async fn change<T>(
        &self,
        work: impl FnOnce(&mut Roster) -> Result<T, RosterError>,
    ) -> Result<T, RosterError> {
        let (done, kept) = self.step(work, |_| None);
        let done = done?;
        kept.wait().await?;
        Ok(done)
    }

    /// A client is in. Written by the next [`Registry::flush`].
    pub(crate) fn note_login(&self, id: ClientId, about: &About<'_>, now_ms: i64) {
        self.0.lock().note_login(id, about, now_ms);
    }

    /// A sign of life. Written by the next [`Registry::flush`].
    pub(crate) fn note_seen(&self, id: ClientId, now_ms: i64) {
        self.0.lock().note_seen(id, now_ms);
    }

    /// What a client keeps, its shares and its values, made from what was known of it; whether that is something else
    /// now. Written by the next [`Registry::flush`].
    pub(crate) fn note_kept(
        &self,
        id: ClientId,
        kept: impl FnOnce(Option<&Client>) -> (BTreeSet<String>, BTreeSet<String>),
    ) -> bool {
        let mut roster = self.0.lock();
        let before = roster.client(id);
        let (shares, values) = kept(before);
        let (shares_before, values_before) = before.map(|c| (&*c.shares, &*c.values)).unwrap_or_default();
        let same = shares.iter().eq(shares_before) && values.iter().eq(values_before);
        if !same {
            roster.set_kept(id, shares, values);
        }
        !same
    }

    /// Writes what is merely worth knowing, and waits for it: not to be called by a task. To be called every few seconds, when a
    /// client leaves, and at the end.
    ///
    /// # Errors
    /// When the roster cannot be written; the next call tries again.
    pub(crate) fn flush(&self) -> Result<(), RosterError> {
        let mut gathered = false;
        let (_, kept) = self.step(|roster| gathered = !roster.closed && roster.gather(), |()| None);
        match kept {
            Kept::Already => Ok(()),
            Kept::Soon(answer) => answer.blocking_recv().unwrap_or_else(|_| Err(closed())),
        }
    }

    /// Tells the thread to write what it has and close the file; whatever comes after is refused.
    pub(crate) fn stop(&self) {
        self.0.close();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

impl RegistryThread {
    /// Waits until the file is closed.
    pub(crate) fn join(self) {
        if let Err(panic) = self.0.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.more.notify_all();
    }
}

fn write_all(shared: &Shared, mut store: Store, changed: &Notify) {
    /// Whatever ends the thread: nobody waits for it any longer.
    struct Ended<'a>(&'a Shared);
    impl Drop for Ended<'_> {
        fn drop(&mut self) {
            let mut roster = self.0.lock();
            roster.closed = true;
            let undone = roster.undo_all();
            drop(roster);
            drop(undone);
        }
    }
    let _ended = Ended(shared);
    loop {
        let mut roster = shared.lock();
        while roster.pending.is_empty() && !roster.closed {
            roster = shared.more.wait(roster).unwrap_or_else(PoisonError::into_inner);
        }
        let changes = roster.begin();
        drop(roster);
        if changes.is_empty() {
            return;
        }
        let result = store.write(&changes);
        if let Err(error) = &result {
            tracing::error!(%error, "what changed in the roster was not kept and is undone");
        }
        let (waiting, counts) = shared.lock().written(&result);
        for tell in waiting {
            if tell.send(result.clone()).is_err() {
                tracing::debug!("who changed the roster did not wait for the answer");
            }
        }
        if counts {
            changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
