//! Telling a service manager how it goes: sd_notify(3), over the socket that NOTIFY_SOCKET names. Without one nothing
//! is told and nothing changes.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// This is up.
pub(crate) const READY: &str = "READY=1";
/// This is about to end.
pub(crate) const STOPPING: &str = "STOPPING=1";
/// This is alive.
const ALIVE: &str = "WATCHDOG=1";
/// The longest status line; managers cut longer ones.
const STATUS_BYTES_MAX: usize = 1_000;

/// A service manager that listens.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: UnixDatagram,
    to: SocketAddr,
    /// It ends us if it hears no sign of life for so long.
    watchdog: Option<Duration>,
    status: String,
}

impl Notify {
    /// The one that started us, if it wants to hear. One that cannot be reached is told about in the log alone: a service
    /// that works is better than one that is listened to.
    pub(crate) fn from_environment() -> Option<Self> {
        let named = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        let opened = address(&named).and_then(|to| Ok((to, UnixDatagram::unbound()?)));
        let (to, socket) =
            match opened.and_then(|(to, socket)| Ok((to, socket.set_nonblocking(true).map(|()| socket)?))) {
                Ok(opened) => opened,
                Err(error) => {
                    tracing::warn!(%error, socket = %named.display(), "the service manager cannot be told anything");
                    return None;
                }
            };
        let watchdog = watchdog(env::var_os("WATCHDOG_USEC"), env::var_os("WATCHDOG_PID"), std::process::id());
        Some(Self { socket, to, watchdog, status: String::new() })
    }

    /// How long it may hear nothing of us.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// All works, or works again.
    pub(crate) fn ready(&self) {
        self.send(READY);
    }

    /// The configuration is read anew; [`Notify::ready`] ends it.
    pub(crate) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let usec = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// It ends.
    pub(crate) fn stopping(&self) {
        self.send(STOPPING);
    }

    /// It goes on.
    pub(crate) fn alive(&self) {
        self.send(ALIVE);
    }

    /// One line about how it goes; the same one is told once.
    pub(crate) fn status(&mut self, line: &str) {
        let mut end = line.len().min(STATUS_BYTES_MAX);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let line = &line[..end];
        if line != self.status {
            self.status = line.to_owned();
            self.send(&format!("STATUS={line}"));
        }
    }

    fn send(&self, text: &str) {
        if let Err(error) = self.socket.send_to_addr(text.as_bytes(), &self.to) {
            tracing::debug!(%error, text, "the service manager was not told");
        }
    }
}

/// Tells the service manager, if there is one. That it does not hear is no reason not to go on.
pub(crate) fn tell(what: &str) {
    if let Some(manager) = Notify::from_environment() {
        manager.send(what);
    }
}

/// Whether what we say on stdout is kept for others to read: a service manager started us, which listens or whose journal it is.
pub(crate) fn keeps_what_is_said() -> bool {
    let manager = env::var_os("NOTIFY_SOCKET").is_some_and(|name| !name.is_empty());
    let stdout = rustix::fs::fstat(io::stdout()).map(|stat| (stat.st_dev, stat.st_ino));
    manager || stdout.is_ok_and(|(device, inode)| is_journal(env::var_os("JOURNAL_STREAM"), device, inode))
}

/// Whether a file is the journal that JOURNAL_STREAM names: everything below a service inherits that, also a shell whose stdout is a
/// terminal or a pipe.
fn is_journal(named: Option<OsString>, device: u64, inode: u64) -> bool {
    named.is_some_and(|named| named == OsString::from(format!("{device}:{inode}")))
}

/// Gives signs of life for as long as this is polled, twice as often as they would be missed: one that comes says that tasks
/// are run.
pub(crate) async fn keep_alive() -> std::convert::Infallible {
    let Some((manager, watchdog)) = Notify::from_environment().and_then(|manager| {
        let watchdog = manager.watchdog?;
        Some((manager, watchdog))
    }) else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(watchdog / 2);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        manager.alive();
    }
}

/// The signs of life of a loop that goes round by itself: one that comes says that the loop did, however long a round takes
/// within half of the time after which they would be missed.
pub(crate) struct Pulse {
    manager: Option<Notify>,
    /// From one sign to the next.
    every: Duration,
    last: Option<Instant>,
}

impl Pulse {
    /// For the one that started us; without one that watches, it waits for ever and tells nothing.
    pub(crate) fn from_environment() -> Self {
        let manager = Notify::from_environment();
        let every = manager.as_ref().and_then(Notify::watchdog).map_or(Duration::MAX, |watchdog| watchdog / 2);
        Self { manager: manager.filter(|manager| manager.watchdog.is_some()), every, last: None }
    }

    /// The loop came round.
    pub(crate) fn beat(&mut self) {
        if let Some(manager) = &self.manager
            && self.last.is_none_or(|last| last.elapsed() >= self.every)
        {
            manager.alive();
            self.last = Some(Instant::now());
        }
    }

    /// How long the loop may sleep.
    pub(crate) fn sleep_max(&self) -> Duration {
        self.every / 2
    }
}

fn address(named: &OsString) -> io::Result<SocketAddr> {
    match named.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(named),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name")),
    }
}

fn watchdog(usec: Option<OsString>, pid: Option<OsString>, own: u32) -> Option<Duration> {
    let ours = pid.is_none_or(|pid| pid.to_str().and_then(|pid| pid.parse().ok()) == Some(own));
    let usec: u64 = usec?.to_str()?.parse().ok()?;
    (ours && usec > 0).then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_the_one_that_is_named_and_not_what_inherits_its_name() {
        let is = |named: &str| is_journal(Some(named.into()), 9, 1234);
        assert!(is("9:1234"));
        assert!(!is("9:1235") && !is("8:1234") && !is("") && !is("9:1234 ") && !is_journal(None, 9, 1234));
    }

    #[test]
    fn the_watchdog_is_that_of_this_process() {
        let found = |usec: &str, pid: Option<&str>| watchdog(Some(usec.into()), pid.map(Into::into), 7);
        assert_eq!(found("2000000", Some("7")), Some(Duration::from_secs(2)));
        assert_eq!(found("2000000", None), Some(Duration::from_secs(2)));
        assert_eq!((found("2000000", Some("8")), found("0", None), found("x", None)), (None, None, None));
        assert_eq!(watchdog(None, None, 7), None);
    }

    #[test]
    fn a_manager_is_told_at_a_path_or_under_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let named = OsString::from(format!("@lockstep-notify-{}", std::process::id()));
        let there = [UnixDatagram::bind(&path).unwrap(), UnixDatagram::bind_addr(&address(&named).unwrap()).unwrap()];
        for (manager, named) in there.iter().zip([path.clone().into_os_string(), named]) {
            let to = address(&named).unwrap();
            let mut notify =
                Notify { socket: UnixDatagram::unbound().unwrap(), to, watchdog: None, status: String::new() };
            let heard = || {
                let mut buffer = [0; 2_000];
                let n = manager.recv(&mut buffer).unwrap();
                String::from_utf8(buffer[..n].to_vec()).unwrap()
            };
            notify.ready();
            assert_eq!(heard(), "READY=1");
            notify.status(&"é".repeat(STATUS_BYTES_MAX));
            notify.status("é");
            notify.status("é");
            notify.alive();
            assert_eq!(heard().len(), "STATUS=".len() + STATUS_BYTES_MAX);
            assert_eq!((heard().as_str(), heard().as_str()), ("STATUS=é", "WATCHDOG=1"));
            notify.reloading();
            assert!(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        }
        assert!(address(&"relative".into()).is_err());
    }
}
