//! Looks at all processes, on a thread of its own: a machine may have so many that a sample would be late.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use vitals::process::Scanner;
use vitals::{Instants, ScanCell, Ticker};

use crate::exit::Failure;
use crate::logging::say;

/// The thread that scans; dropping this ends it.
pub(crate) struct Scans {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scans {
    /// Scans now and then every `interval`, into `cell`.
    ///
    /// # Errors
    /// When the system refuses the thread.
    pub(crate) fn start(procfs: &Path, interval: Duration, cell: ScanCell) -> Result<Self, Failure> {
        let mut scanner = Scanner::new(procfs);
        let (stop, stopped) = mpsc::channel();
        let scan = move || {
            let mut ticker = Ticker::new(Instants::now().monotonic_ns, interval);
            let mut said = false;
            loop {
                let now = Instants::now();
                if ticker.take(now.monotonic_ns).is_some() {
                    match scanner.scan(now) {
                        Ok(top) => {
                            cell.put(top);
                            said = false;
                        }
                        Err(error) if !said => {
                            say(format_args!("no processes: {:#}", anyhow::Error::new(error)));
                            said = true;
                        }
                        Err(_) => {}
                    }
                }
                let wait = ticker.wait(Instants::now().monotonic_ns);
                if !matches!(stopped.recv_timeout(wait), Err(RecvTimeoutError::Timeout)) {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("scans".into()).spawn(scan).context("cannot look at processes")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Scans {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It only fails if it panicked, and then it said so.
            thread.join().ok();
        }
    }
}
