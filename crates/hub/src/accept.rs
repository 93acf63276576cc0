//! Taking in connections, whatever they come over.

use crate::core::Hub;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinSet;

/// After a failed accept (no descriptors left) the next is tried after this.
const AGAIN: Duration = Duration::from_millis(100);

/// Serves each connection that `poll` accepts in a task of its own, until the hub stops; returns when all have ended.
pub(crate) async fn all<C, F>(
    hub: &Hub,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<C>>,
    mut serve: impl FnMut(C) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut stopping = hub.stopping.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = std::future::poll_fn(&mut poll) => accepted,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok(connection) => {
                connections.spawn(serve(connection));
            }
            Err(error) => {
                tracing::error!(%error, "a connection could not be accepted");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
    // Nobody is to come in any more while the others end.
    drop(poll);
    while connections.join_next().await.is_some() {}
}
