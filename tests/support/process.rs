//! A process of ours, its lines, and its end.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// A started process. It leads a process group of its own, and the whole group is killed when this is dropped.
#[derive(Debug)]
pub struct Proc {
    child: Child,
    pid: Pid,
    lines: Arc<Lines>,
    said: String,
}

#[derive(Debug, Default)]
struct Lines {
    heard: Mutex<Heard>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Heard {
    lines: Vec<String>,
    streams_closed: usize,
}

impl Proc {
    /// Starts `command` with its stdout and stderr captured line by line, in the order they come, and no stdin.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null());
        Self::start_with_stdin(command)
    }

    /// As [`Proc::start`], with the stdin that `command` was given.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start_with_stdin(command: &mut Command) -> Self {
        let said = format!("{command:?}").chars().take(300).collect();
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {said}: {error}"));
        let lines = Arc::new(Lines::default());
        listen(child.stdout.take().expect("it is piped"), &lines);
        listen(child.stderr.take().expect("it is piped"), &lines);
        let pid = Pid::from_child(&child);
        Self { child, pid, lines, said }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Takes its stdin, if it was piped.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Everything it wrote so far, stdout and stderr as they came.
    pub fn output(&self) -> Vec<String> {
        self.lines.lock().lines.clone()
    }

    /// What it wrote from `mark` on.
    pub fn output_after(&self, mark: usize) -> Vec<String> {
        self.lines.lock().lines.iter().skip(mark).cloned().collect()
    }

    /// Whether it closed its stdout and its stderr, so that [`Proc::output`] has all of it.
    pub fn output_is_over(&self) -> bool {
        self.lines.lock().streams_closed == 2
    }

    /// How many lines it wrote so far: a place to wait from.
    pub fn mark(&self) -> usize {
        self.lines.lock().lines.len()
    }

    /// Waits for a line that contains `pattern`, among all it ever wrote, and returns the first.
    ///
    /// # Panics
    /// When none comes within the span, or the process closed its output before; shows all it wrote.
    #[track_caller]
    pub fn wait_for_line(&self, pattern: &str, within: Duration) -> String {
        self.wait_for_line_after(0, pattern, within)
    }

    /// As [`Proc::wait_for_line`], looking only at lines from `mark` on.
    ///
    /// # Panics
    /// As [`Proc::wait_for_line`].
    #[track_caller]
    pub fn wait_for_line_after(&self, mark: usize, pattern: &str, within: Duration) -> String {
        let start = Instant::now();
        let mut heard = self.lines.lock();
        loop {
            if let Some(line) = heard.lines.iter().skip(mark).find(|line| line.contains(pattern)) {
                return line.clone();
            }
            let left = within.saturating_sub(start.elapsed());
            let over = heard.streams_closed == 2;
            if left.is_zero() || over {
                let why = if over { "it ended" } else { "time was up" };
                let output = heard.lines.join("\n");
                drop(heard);
                panic!("no line with “{pattern}” before {why} ({within:?})\n{}\n--- its output\n{output}", self.said);
            }
            heard = self.lines.more.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// When it does not end within the span; shows all it wrote.
    #[track_caller]
    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours can be waited for") {
                return status;
            }
            if start.elapsed() >= within {
                let output = self.output().join("\n");
                panic!("still running after {within:?}\n{}\n--- its output\n{output}", self.said);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Ends it at once (SIGKILL), without any chance to save something, and waits until it is gone.
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().ok();
    }

    /// Stops it where it stands (SIGSTOP), and returns once each of its threads has stopped: a busy machine may let one
    /// finish what it is at. [`Proc::resume`] lets it go on.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
        let start = Instant::now();
        while !self.has_stopped() && self.is_running() {
            assert!(start.elapsed() < Duration::from_secs(30), "not stopped\n{}", self.said);
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn has_stopped(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid.as_raw_nonzero()));
        tasks.into_iter().flatten().flatten().all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // A thread that has just ended does not go on either.
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with(['T', 'Z', 'X']))
        })
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Interrupts it as a person at the terminal does (SIGINT).
    pub fn interrupt(&mut self) {
        self.signal(Signal::INT);
    }

    /// Sends `signal`, unless it has ended: its id could by then be another's.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            kill_process(self.pid, signal).expect("a running child of ours can be signalled");
        }
    }

    /// The memory it holds resident, in bytes; `None` once it has ended.
    pub fn rss_bytes(&self) -> Option<u64> {
        self.status_bytes("VmRSS:")
    }

    /// The part of that which is its own: heap, stacks and what it changed of its program. The rest is files it shares with
    /// the cache, more or less of them as the kernel sees fit. `None` once it has ended.
    pub fn own_rss_bytes(&self) -> Option<u64> {
        self.status_bytes("RssAnon:")
    }

    fn status_bytes(&self, key: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_nonzero())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    }

    /// How many threads it has; `None` once it has ended.
    pub fn threads(&self) -> Option<usize> {
        Some(fs::read_dir(format!("/proc/{}/task", self.pid.as_raw_nonzero())).ok()?.count())
    }

    /// How many descriptors it has open; `None` once it has ended.
    pub fn open_files(&self) -> Option<usize> {
        Some(fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero())).ok()?.count())
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        if self.is_running() {
            // What it started itself is in its group and ends with it.
            kill_process_group(self.pid, Signal::KILL).ok();
            self.child.wait().ok();
        }
        if thread::panicking() {
            eprintln!("--- {}\n{}", self.said, self.output().join("\n"));
        }
    }
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(stream: impl Read + Send + 'static, lines: &Arc<Lines>) {
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            line.clear();
            lines.lock().lines.push(text);
            lines.more.notify_all();
        }
        lines.lock().streams_closed += 1;
        lines.more.notify_all();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_heard_and_the_process_is_gone_when_dropped() {
        let proc = Proc::start(Command::new("sh").args(["-c", "echo one; echo two >&2; sleep 1000"]));
        assert_eq!(proc.wait_for_line("two", Duration::from_secs(10)), "two");
        assert_eq!(proc.wait_for_line("one", Duration::from_secs(10)), "one");
        let pid = proc.pid();
        drop(proc);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[test]
    fn a_paused_process_says_nothing_until_resumed() {
        let mut proc = Proc::start(Command::new("sh").args(["-c", "while :; do echo tick; sleep 0.01; done"]));
        proc.wait_for_line("tick", Duration::from_secs(10));
        proc.pause();
        let state = |pid: Pid| fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
        crate::until(Duration::from_secs(10), "the process to stop", || state(proc.pid()).contains(") T "));
        proc.resume();
        let mark = proc.mark();
        proc.wait_for_line_after(mark, "tick", Duration::from_secs(10));
        proc.kill9();
        assert!(!proc.is_running());
    }
}
