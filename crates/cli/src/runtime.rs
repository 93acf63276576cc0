//! The asynchronous runtime of the commands that talk to others.

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

use crate::exit::Failure;

/// One worker a core: connections wait by readiness, not in a thread each.
///
/// # Errors
/// When the system gives no threads.
pub(crate) fn start() -> Result<Runtime, Failure> {
    raise_descriptors();
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

/// The usual soft limit of 1,024 open files is there for programs that use `select`; a connection is one of them. What the
/// hard limit allows is asked for, and without it fewer come in at a time.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it was");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_may_be_open_as_the_system_allows() {
        start().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
