//! What a keeper has done for it by another thread, because it waits for the disk: saving the replica, making what was
//! applied survive a power cut, and freeing what was replaced.

use crate::mailbox::{Letter, Mailbox};
use board::{SqliteStore, Unsaved};
use rustix::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tree::Dir;

enum Chore {
    Save(Unsaved),
    Sync,
    Free(Vec<OwnedFd>),
}

/// The thread, and the way to it. Dropping it waits until all is done.
pub(crate) struct Chores {
    send: Option<mpsc::Sender<Chore>>,
    thread: Option<JoinHandle<()>>,
}

impl Chores {
    /// Starts the thread; what comes of a chore goes to `mailbox`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(mut store: SqliteStore, dest: Dir, mailbox: Arc<Mailbox>) -> std::io::Result<Chores> {
        let (send, receive) = mpsc::channel();
        let work = move || {
            for chore in receive {
                mailbox.push(match chore {
                    Chore::Free(replaced) => {
                        drop(replaced);
                        continue;
                    }
                    Chore::Save(unsaved) => match unsaved.write(&mut store) {
                        Ok(()) => Letter::Saved(None),
                        Err(error) => Letter::Saved(Some((unsaved, error.to_string()))),
                    },
                    Chore::Sync => Letter::Synced(dest.sync_file_system().map_err(|error| error.to_string())),
                });
            }
        };
        let thread = std::thread::Builder::new().name("chores".into()).spawn(work)?;
        Ok(Chores { send: Some(send), thread: Some(thread) })
    }

    /// Answered by [`Letter::Saved`].
    pub(crate) fn save(&self, unsaved: Unsaved) {
        self.give(Chore::Save(unsaved));
    }

    /// Answered by [`Letter::Synced`].
    pub(crate) fn sync(&self) {
        self.give(Chore::Sync);
    }

    /// Frees contents that were replaced. No answer.
    pub(crate) fn free(&self, replaced: Vec<OwnedFd>) {
        self.give(Chore::Free(replaced));
    }

    fn give(&self, chore: Chore) {
        if let Some(send) = &self.send {
            // The thread ends only after `send` is dropped, so it takes everything.
            let _taken = send.send(chore);
        }
    }
}

impl Drop for Chores {
    fn drop(&mut self) {
        drop(self.send.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
