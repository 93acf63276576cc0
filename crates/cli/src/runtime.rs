//! The asynchronous runtime of the commands that talk to others.

use tokio::runtime::{Builder, Runtime};

use crate::exit::Failure;

/// One worker a core: connections wait by readiness, not in a thread each.
///
/// # Errors
/// When the system gives no threads.
pub(crate) fn start() -> Result<Runtime, Failure> {
    Builder::new_multi_thread().enable_all().build().map_err(Failure::could_not_run)
}

/// Runs `work` on a worker, and waits for it here: what a worker reads from a socket it then works on itself, where the
/// waiting thread would have to be woken for each message.
///
/// # Errors
/// As [`start`].
///
/// # Panics
/// When `work` does.
pub(crate) fn run<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Failure> {
    let runtime = start()?;
    match runtime.block_on(runtime.spawn(work)) {
        Ok(done) => Ok(done),
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    }
}
