//! A service manager of the test's own, which hears what sd_notify(3) sends.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::{PATIENCE, until};

/// A manager that remembers what it heard, and when.
pub struct Manager {
    /// Where it listens.
    pub socket: PathBuf,
    heard: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Manager {
    /// Listens at `socket`.
    pub fn at(socket: PathBuf) -> Self {
        let listener = UnixDatagram::bind(&socket).expect("a socket can be bound in a scratch directory");
        let heard: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
        let hears = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n) = listener.recv(&mut buffer) {
                let message = String::from_utf8_lossy(&buffer[..n]).into_owned();
                hears.lock().expect("who hears does not panic").push((Instant::now(), message));
            }
        });
        Self { socket, heard }
    }

    /// Has what `command` starts tell it all, and give a sign of life within `watchdog`.
    pub fn starts<'c>(&self, command: &'c mut Command, watchdog: Duration) -> &'c mut Command {
        command.env("NOTIFY_SOCKET", &self.socket).env("WATCHDOG_USEC", watchdog.as_micros().to_string())
    }

    /// How often it heard what begins with this.
    pub fn count(&self, message: &str) -> usize {
        self.heard
            .lock()
            .expect("who hears does not panic")
            .iter()
            .filter(|(_, heard)| heard.starts_with(message))
            .count()
    }

    /// Whether what is to be true is so once it hears that all is ready.
    pub fn hears_ready_in_time(&self, is_so: impl Fn() -> bool) -> bool {
        until(PATIENCE, "it to be ready", || self.count("READY=1") > 0);
        is_so()
    }

    /// How long ago it heard this last.
    pub fn since(&self, message: &str) -> Duration {
        let heard = self.heard.lock().expect("who hears does not panic");
        heard.iter().rev().find(|(_, heard)| heard == message).map_or(Duration::MAX, |(at, _)| at.elapsed())
    }
}
