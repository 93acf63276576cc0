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
