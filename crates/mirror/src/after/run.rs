//! One run: the command with what it is told on standard input, watched until it and all it started have ended.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, Child, ChildStderr, ChildStdin, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use rustix::process::{kill_process_group, pidfd_open, waitid};
use tree::path::escape;

use super::{Batch, Command};

/// How long what was told to end (SIGTERM) has for it before it is killed.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// How often it is asked whether the command has ended, where the kernel cannot wake us for it (before 5.3).
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Written to the command at once.
const PIECE_BYTES: usize = 64 * 1024;
/// The longest line that is remembered of what it says; the rest of a longer one is left out.
const LINE_BYTES_MAX: usize = 1_000;
/// What a service manager gives to us alone (a command that answered in our name would keep a dead service alive), and what an
/// administrator shows to a hub.
const NOT_HANDED_ON: [&str; 4] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LOCKSTEP_TOKEN"];

/// What became of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// How much it was told: of `--after`, how many changed paths.
    pub told: u64,
    /// How it ended.
    pub end: End,
    /// How long it took.
    pub took: Duration,
    /// The last line it wrote to its standard error, escaped; `None` if it wrote none.
    pub said: Option<String>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal, which was not ours.
    Signaled(i32),
    /// It took too long and was ended.
    TimedOut,
    /// It was ended because we end.
    Stopped,
    /// It could not be started.
    NotStarted(String),
}

impl Ran {
    /// What it said last, or why it could not be started.
    pub fn last_words(&self) -> Option<&str> {
        match &self.end {
            End::NotStarted(why) => Some(why),
            _ => self.said.as_deref(),
        }
    }
}

impl End {
    /// Whether it did what it should.
    pub fn is_good(&self) -> bool {
        *self == End::Exited(0)
    }

    /// One word for machines.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Exited(_) => "exited",
            Self::Signaled(_) => "signaled",
            Self::TimedOut => "timed-out",
            Self::Stopped => "stopped",
            Self::NotStarted(_) => "not-started",
        }
    }

    /// The exit code, if it has one.
    pub fn code(&self) -> Option<i32> {
        if let Self::Exited(code) = self { Some(*code) } else { None }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signaled(signal) => write!(f, "ended by signal {signal}"),
            Self::TimedOut => write!(f, "ended because it took too long"),
            Self::Stopped => write!(f, "ended because lockstep ends"),
            Self::NotStarted(why) => write!(f, "could not be started: {why}"),
        }
    }
}

/// Runs `what` for `batch` until it has ended, it has taken too long, or `kill` can be read.
///
/// It leads a process group of its own. What it leaves running in that ends with it.
pub(super) fn run(what: &Command, batch: &impl Batch, kill: &OwnedFd) -> Ran {
    let began = Instant::now();
    let ran = |end, said| Ran { told: batch.len(), end, took: began.elapsed(), said };
    let mut command = process::Command::new(&what.program);
    command.args(&what.args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    NOT_HANDED_ON.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.envs(what.variables.iter().map(|(name, value)| (name, value)));
    command.envs(batch.variables());
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return ran(End::NotStarted(error.to_string()), None),
    };
    let mut running = Running::new(child, began + what.timeout);
    let watched = running.watch(&mut batch.lines(), kill);
    let status = running.end();
    let end = match (watched, status) {
        (Err(error), _) | (_, Err(error)) => End::NotStarted(format!("it could not be watched: {error}")),
        (Ok(Some(why)), Ok(_)) => why,
        (Ok(None), Ok(status)) => end_of(status),
    };
    ran(end, running.said.last())
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Signaled(signal.unwrap_or_default()),
    }
}

/// A command that runs, and what it was given and has said.
struct Running {
    child: Child,
    pid: Pid,
    /// Can be read once it has ended.
    ended: Option<OwnedFd>,
    stdin: Option<ChildStdin>,
    stderr: Option<ChildStderr>,
    /// What is to be written next.
    piece: Vec<u8>,
    said: LastLine,
    deadline: Instant,
}

impl Running {
    fn new(mut child: Child, deadline: Instant) -> Self {
        let pid = Pid::from_child(&child);
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let ended = pidfd_open(pid, PidfdFlags::empty()).ok();
        Self { child, pid, ended, stdin, stderr, piece: Vec::new(), said: LastLine::default(), deadline }
    }

    /// Feeds it and listens to it until it has ended. Returns why it was ended, if it was.
    fn watch(
        &mut self,
        lines: &mut dyn Iterator<Item = Vec<u8>>,
        kill: &OwnedFd,
    ) -> Result<Option<End>, std::io::Error> {
        if let Some(stdin) = &self.stdin {
            never_wait(stdin.as_fd())?;
        }
        if let Some(stderr) = &self.stderr {
            never_wait(stderr.as_fd())?;
        }
        let mut why: Option<End> = None;
        let mut killed = false;
        loop {
            let ready = self.wait(kill, why.is_none())?;
            if ready.stderr {
                self.listen();
            }
            if self.has_ended()? {
                // What it wrote before its end is in the pipe by now.
                self.listen();
                return Ok(why);
            }
            if ready.stdin {
                self.feed(lines);
            }
            let now = Instant::now();
            if why.is_none() && (ready.kill || now >= self.deadline) {
                why = Some(if ready.kill { End::Stopped } else { End::TimedOut });
                self.signal(Signal::TERM);
                self.deadline = now + GRACE;
            } else if why.is_some() && !killed && now >= self.deadline {
                killed = true;
                self.signal(Signal::KILL);
            }
            if killed {
                // Nothing is left to do but to wait for the kernel, which may be waiting for a disk.
                self.deadline = now + GRACE;
            }
        }
    }

    /// Ends what it left running in its group, and takes its status. Only now its id may become another's.
    fn end(&mut self) -> Result<ExitStatus, std::io::Error> {
        self.signal(Signal::KILL);
        self.child.wait()
    }

    fn signal(&self, signal: Signal) {
        match kill_process_group(self.pid, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => tracing::warn!("cannot end process group {}: {error}", self.pid.as_raw_nonzero()),
        }
    }

    /// Waits until there is something to do, or the deadline.
    fn wait(&self, kill: &OwnedFd, may_be_killed: bool) -> Result<Ready, Errno> {
        let wanted = [
            self.stderr.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)),
            self.stdin.as_ref().map(|fd| PollFd::new(fd, PollFlags::OUT)),
            may_be_killed.then(|| PollFd::new(kill, PollFlags::IN)),
            self.ended.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)),
        ];
        let asked = wanted.each_ref().map(Option::is_some);
        let mut fds: Vec<PollFd<'_>> = wanted.into_iter().flatten().collect();
        let mut span = self.deadline.saturating_duration_since(Instant::now());
        if self.ended.is_none() {
            span = span.min(LOOK_EVERY);
        }
        let span = Timespec::try_from(span).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut fds, Some(&span)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let mut answers = fds.iter().map(|fd| !fd.revents().is_empty());
        let [stderr, stdin, kill, _] = asked.map(|asked| asked && answers.next().unwrap_or_default());
        Ok(Ready { stderr, stdin, kill })
    }

    /// Whether it has ended. Its status is left where it is, so its id stays its own.
    fn has_ended(&self) -> Result<bool, Errno> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(self.pid), options) {
            Ok(status) => Ok(status.is_some()),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn feed(&mut self, lines: &mut dyn Iterator<Item = Vec<u8>>) {
        let Some(stdin) = &mut self.stdin else { return };
        loop {
            while self.piece.len() < PIECE_BYTES
                && let Some(line) = lines.next()
            {
                self.piece.extend_from_slice(&line);
            }
            if self.piece.is_empty() {
                break;
            }
            match stdin.write(&self.piece) {
                Ok(written) => self.piece.drain(..written),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                // It does not want to know all of it.
                Err(_) => break,
            };
        }
        self.stdin = None;
    }

    fn listen(&mut self) {
        let Some(stderr) = &mut self.stderr else { return };
        let mut buffer = [0; 4096];
        loop {
            match stderr.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => self.said.push(&buffer[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.stderr = None;
    }
}

/// What can be done now.
struct Ready {
    stderr: bool,
    stdin: bool,
    kill: bool,
}

fn never_wait(fd: rustix::fd::BorrowedFd<'_>) -> Result<(), Errno> {
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)
}

/// The last line with anything in it, of all that came.
#[derive(Debug, Default)]
struct LastLine {
    last: Vec<u8>,
    line: Vec<u8>,
}

impl LastLine {
    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX - self.line.len();
            self.line.extend(piece.iter().filter(|byte| **byte != b'\n').take(room));
            if piece.ends_with(b"\n") && !self.line.trim_ascii().is_empty() {
                self.last = std::mem::take(&mut self.line);
            } else if piece.ends_with(b"\n") {
                self.line.clear();
            }
        }
    }

    fn last(&self) -> Option<String> {
        let line = [&self.line, &self.last].into_iter().map(|line| line.trim_ascii()).find(|line| !line.is_empty())?;
        Some(escape(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_bounded_and_escaped_and_blank_ones_do_not_count() {
        let said = |pieces: &[&[u8]]| {
            let mut line = LastLine::default();
            pieces.iter().for_each(|piece| line.push(piece));
            line.last()
        };
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[b"one\ntw", b"o\n", b" \n\n"]).as_deref(), Some("two"));
        assert_eq!(said(&[b"one\nno end \x1b[0m"]).as_deref(), Some("no end \\x1b[0m"));
        assert_eq!(said(&[&[b'x'; 5_000], &[b'x'; 5_000], b"\n"]).map(|line| line.len()), Some(LINE_BYTES_MAX));
    }
}
