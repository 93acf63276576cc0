//! What was begun is finished, whether who asked for it still listens or not.
//!
//! A change is made at one moment, and told to whom it concerns and put on record at a later one. Between the two its asker may
//! hang up, which ends the task that answers it. So the work is done by a task of its own that nothing of a connection ends, and
//! a hub that stops waits for it.

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Work under way that goes on without its asker.
#[derive(Debug, Default)]
pub(crate) struct Begun(watch::Sender<usize>);

/// A piece of it; counted until it is dropped.
struct Piece(watch::Sender<usize>);

impl Drop for Piece {
    fn drop(&mut self) {
        self.0.send_modify(|pieces| *pieces -= 1);
    }
}

impl Begun {
    /// Does `work` to its end, also when what this gives, by which what came of it is waited for, is dropped before.
    pub(crate) fn work<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.0.send_modify(|pieces| *pieces += 1);
        let piece = Piece(self.0.clone());
        tokio::spawn(async move {
            let _piece = piece;
            work.await
        })
    }

    /// Waits until all of it is finished.
    pub(crate) async fn all(&self) {
        let mut pieces = self.0.subscribe();
        // It cannot be closed: its other end is here.
        drop(pieces.wait_for(|pieces| *pieces == 0).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::oneshot;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn what_was_begun_goes_on_without_who_asked_and_is_waited_for() {
        let begun = Begun::default();
        begun.all().await;
        let ((go, may_go), (told, done)) = (oneshot::channel::<()>(), oneshot::channel());
        drop(begun.work(async move {
            may_go.await.unwrap();
            told.send(7).unwrap();
        }));
        assert!(tokio::time::timeout(Duration::from_millis(5), begun.all()).await.is_err());
        go.send(()).unwrap();
        assert_eq!(tokio::time::timeout(SOON, done).await.unwrap(), Ok(7));
        tokio::time::timeout(SOON, begun.all()).await.unwrap();
        let panicked: Result<(), _> = begun.work(async { panic!("it is told, and counts as an end") }).await;
        assert!(panicked.is_err());
        tokio::time::timeout(SOON, begun.all()).await.unwrap();
    }
}
