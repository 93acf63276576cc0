//! The log file of a command: whole lines, a hard cap, and no surprise when the disk is full.
//!
//! A log is LOG and its older parts LOG.1, LOG.2, LOG.3, each at most [`SEGMENT_BYTES_MAX`] long. The cap is checked before
//! a line is written; a line that does not fit moves every part one number up, and the oldest is dropped. What a line
//! says is not known here.
//!
//! - A line is one `write` in append mode, so that several processes can share a log. Each notices when another one, or a
//!   person, moved the file away. The cap is exact for one process; with several a part may pass it while one of them moves
//!   the parts, never by more than [`SLACK_BYTES_MAX`].
//! - A last line that a crash cut off is removed at the next start, because half a number is a wrong number.
//! - When a line cannot be written it is lost and counted, and that is said once; the first line that can be written again
//!   says how many are missing.
//! - A symbolic link in the place of LOG is followed only if it belongs to root or to us. Else whoever can write to a
//!   directory could make root append to any file.
//!
//! Nothing is synced: the kernel writes a log back within half a minute, and a sync for each line would cost more than what
//! is logged.

mod error;
mod line;
mod place;

use std::{
    fs::DirBuilder,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{AtFlags, FlockOperation, Stat, StatxFlags},
    io::Errno,
};

pub use self::error::LogError;
use self::line::compose;
use self::place::{close_to_others, lock_directory, lock_shared, open_file, part};
use crate::clock::Instants;

/// How large one part of a log gets.
pub const SEGMENT_BYTES_MAX: u64 = 8 << 20;

/// How many parts a log has, the one being written included.
pub const SEGMENTS_MAX: u32 = 4;

/// The longest line, without its newline. A longer one is cut and says so.
pub const LINE_BYTES_MAX: usize = 256 << 10;

/// How far past the cap a part may get while another process is moving the parts.
pub const SLACK_BYTES_MAX: u64 = 1 << 20;

/// What is particular to one kind of log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// A first line for every part, without its newline: the names of CSV's columns. With one, only a file that begins with
    /// this very line is continued.
    pub header: Option<String>,
    /// Whether a file that begins with this line can be continued. One that cannot becomes LOG.1 before the first line is
    /// written, so that no file mixes two formats.
    pub continues: fn(first_line: &[u8]) -> bool,
    /// How large one part gets.
    pub segment_bytes_max: u64,
    /// How many parts there are, the one being written included; at least 1.
    pub segments_max: u32,
    /// How old LOG gets before a new part begins. `None`: its size alone decides.
    pub age_max: Option<Duration>,
    /// Whether it is for its owner alone, mode 0600; also where it is there with another one. Else its group may read it, as far
    /// as the umask has it.
    pub private: bool,
    /// How long it may take to notice that LOG was moved away. Zero looks before each line, which is two system calls. The cap
    /// stays exact as long as nobody else writes to LOG.
    pub look_every: Duration,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            header: None,
            continues: |_| true,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            segments_max: SEGMENTS_MAX,
            age_max: None,
            private: false,
            look_every: Duration::ZERO,
        }
    }
}

/// A log being written. See the [module](self) for what it promises.
#[derive(Debug)]
pub struct CappedLog {
    /// Where LOG is, links followed.
    path: PathBuf,
    file: OwnedFd,
    options: LogOptions,
    /// Bytes of an unfinished line removed at the start.
    mended_bytes: u64,
    /// Lines lost since the last one written.
    lines_lost: u64,
    /// The end of LOG is not the end of a line, because a write was cut and could not be taken back.
    torn: bool,
    /// LOG has another header than the next line wants.
    header_changed: bool,
    /// The size LOG had when it was looked at and all that was written since, and when that was.
    looked: Option<Looked>,
    /// When LOG began, on the clock that goes on while the machine is suspended; below 0 before the machine was started.
    /// `None`: to be found out.
    begun_ns: Option<i64>,
    /// The line being composed; kept for its room.
    line: Vec<u8>,
    /// What came through [`std::io::Write`] since the last newline.
    unfinished: Vec<u8>,
    #[cfg(test)]
    room_bytes: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Looked {
    bytes: u64,
    monotonic_ns: u64,
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log.
    Written,
    /// It is in the log, and this many before it are not, because they could not be written. To be said.
    Resumed {
        /// How many lines are missing.
        lines_lost: u64,
    },
    /// It is lost for a reason that was already given as an error.
    StillLost,
}

impl CappedLog {
    /// Opens the log at `path` for appending, creating it and the directories above it. Only who owns it and its group can
    /// read it.
    ///
    /// # Errors
    /// When it cannot be created or opened, is no regular file, or is reached through somebody else's link.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        Self::open_with(path, LogOptions::default())
    }

    /// As [`CappedLog::open`], for a log with a header or another size.
    ///
    /// # Errors
    /// As [`CappedLog::open`].
    pub fn open_with(path: &Path, options: LogOptions) -> Result<Self, LogError> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            let made = DirBuilder::new().recursive(true).mode(0o750).create(parent);
            made.map_err(|source| LogError::Directory { path: parent.to_owned(), source })?;
        }
        let (path, file) = open_file(path, options.private)?;
        if options.private {
            (1..options.segments_max).try_for_each(|number| close_to_others(&part(&path, number)))?;
        }
        let mut log = Self {
            path,
            file,
            options,
            mended_bytes: 0,
            lines_lost: 0,
            torn: false,
            header_changed: false,
            looked: None,
            begun_ns: None,
            line: Vec::new(),
            unfinished: Vec::new(),
            #[cfg(test)]
            room_bytes: None,
        };
        log.mend()?;
        if !log.continues()? {
            log.rotate()?;
        }
        Ok(log)
    }

    /// From the next line on the log has another header: that line begins a new part.
    pub fn set_header(&mut self, header: Option<String>) {
        if self.options.header != header {
            self.options.header = header;
            self.header_changed = true;
        }
    }

    /// Where the log is, links followed. Its older parts are beside it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes of an unfinished last line were removed when the log was opened; 0 but after a crash.
    pub fn mended_bytes(&self) -> u64 {
        self.mended_bytes
    }

    /// Appends one line; its newline is added. A newline inside is written as `\n`, so that what is logged cannot forge a
    /// line, and a line longer than [`LINE_BYTES_MAX`] is cut.
    ///
    /// # Errors
    /// When the line could not be written and the one before could: said once. Until one is written again, each next one
    /// is tried, counted, and [`Appended::StillLost`].
    pub fn append_line(&mut self, line: &[u8]) -> Result<Appended, LogError> {
        self.append(line, None)
    }

    /// As [`CappedLog::append_line`] at the time `now`, which decides whether LOG is too old, and whether to look for it.
    ///
    /// # Errors
    /// As [`CappedLog::append_line`].
    pub fn append_line_at(&mut self, line: &[u8], now: &Instants) -> Result<Appended, LogError> {
        self.append(line, Some(now))
    }

    fn append(&mut self, line: &[u8], now: Option<&Instants>) -> Result<Appended, LogError> {
        match self.try_append(line, now) {
            Ok(()) => match std::mem::take(&mut self.lines_lost) {
                0 => Ok(Appended::Written),
                lines_lost => Ok(Appended::Resumed { lines_lost }),
            },
            Err(error) => {
                self.looked = None;
                self.lines_lost += 1;
                if self.lines_lost == 1 { Err(error) } else { Ok(Appended::StillLost) }
            }
        }
    }

    fn try_append(&mut self, line: &[u8], now: Option<&Instants>) -> Result<(), LogError> {
        self.line.clear();
        if self.torn {
            self.line.push(b'\n');
        }
        compose(&mut self.line, line);
        let header_bytes = self.options.header.as_ref().map_or(0, |header| length(header.as_bytes()) + 1);
        if header_bytes + length(&self.line) > self.options.segment_bytes_max {
            let (path, bytes_max) = (self.path.clone(), self.options.segment_bytes_max);
            return Err(LogError::LineTooLong { path, bytes: header_bytes + length(&self.line), bytes_max });
        }
        let mut bytes = match (self.looked, now) {
            (Some(looked), Some(now)) if looked.holds(now, self.options.look_every) => looked.bytes,
            _ => self.look(now)?,
        };
        let full = bytes + length(&self.line) > self.options.segment_bytes_max;
        if bytes > 0 && (self.header_changed || full || self.is_old(now)?) {
            bytes = self.rotate()?;
            (self.looked, self.begun_ns) = (None, None);
        }
        if bytes == 0 {
            self.begun_ns = now.map(|now| i64::try_from(now.boottime_ns).unwrap_or(i64::MAX));
        }
        self.header_changed &= bytes > 0;
        if let Some(header) = self.options.header.as_deref().filter(|_| bytes == 0) {
            self.line.splice(0..0, header.bytes().chain([b'\n']));
        }
        self.write_line(bytes)?;
        if let Some(looked) = &mut self.looked {
            looked.bytes = bytes + length(&self.line);
        }
        Ok(())
    }

    /// The size of LOG, known for a while.
    fn look(&mut self, now: Option<&Instants>) -> Result<u64, LogError> {
        let bytes = self.size_in_place()?;
        self.looked = now.map(|now| Looked { bytes, monotonic_ns: now.monotonic_ns });
        Ok(bytes)
    }

    /// Whether LOG is older than it should get. Its age from before we opened it is told by the wall clock, which may have been
    /// set since; that can begin one part too early or too late. From then on only a clock that never jumps counts.
    fn is_old(&mut self, now: Option<&Instants>) -> Result<bool, LogError> {
        let (Some(age_max), Some(now)) = (self.options.age_max, now) else { return Ok(false) };
        let boottime_ns = i64::try_from(now.boottime_ns).unwrap_or(i64::MAX);
        let begun_ns = match self.begun_ns {
            Some(begun_ns) => begun_ns,
            None => {
                let age_ns = now.wall_ns.saturating_sub(self.born_ns()?.unwrap_or(now.wall_ns)).max(0);
                boottime_ns.saturating_sub(age_ns)
            }
        };
        self.begun_ns = Some(begun_ns);
        Ok(boottime_ns.saturating_sub(begun_ns) >= i64::try_from(age_max.as_nanos()).unwrap_or(i64::MAX))
    }

    /// When LOG was made, in nanoseconds since the Unix epoch; `None` if the file system does not keep that.
    fn born_ns(&self) -> Result<Option<i64>, LogError> {
        let stat = rustix::fs::statx(&self.file, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME)
            .map_err(|error| self.failed("look at", error))?;
        let known = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let ns = stat.stx_btime.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(stat.stx_btime.tv_nsec));
        Ok(known.then_some(ns))
    }

    /// Lets go of LOG and opens what is there now by its name: whoever moved it away can have the file to himself.
    ///
    /// # Errors
    /// When it cannot be opened; the file that was open is written to until a line finds out better.
    pub fn reopen(&mut self) -> Result<(), LogError> {
        (self.looked, self.begun_ns) = (None, None);
        (self.path, self.file) = open_file(&self.path, self.options.private)?;
        self.torn = false;
        if !self.continues()? {
            self.rotate()?;
        }
        Ok(())
    }

    /// The size of LOG. Where LOG was moved or removed it is opened anew.
    fn size_in_place(&mut self) -> Result<u64, LogError> {
        let ours = self.stat()?;
        match rustix::fs::lstat(&self.path) {
            Ok(there) if same_file(&there, &ours) => Ok(size(&there)),
            Ok(_) | Err(Errno::NOENT) => {
                (self.path, self.file) = open_file(&self.path, self.options.private)?;
                (self.torn, self.begun_ns) = (false, None);
                Ok(size(&self.stat()?))
            }
            Err(error) => Err(self.failed("look at", error)),
        }
    }

    /// Moves every part one number up and begins an empty LOG. Returns the size of LOG afterwards, which is not 0 when
    /// another process did the same a moment ago or is at it.
    fn rotate(&mut self) -> Result<u64, LogError> {
        let ours = self.stat()?;
        let Some(_guard) = lock_directory(&self.path) else {
            // Whoever is moving the parts will be done soon; what is appended meanwhile lands in LOG.1.
            let limit = self.options.segment_bytes_max + SLACK_BYTES_MAX;
            let fits = !self.header_changed && size(&ours) + length(&self.line) <= limit;
            return if fits { Ok(size(&ours)) } else { Err(self.failed("make room in", Errno::AGAIN)) };
        };
        let bytes = self.size_in_place()?;
        if !same_file(&self.stat()?, &ours) {
            return Ok(bytes);
        }
        for number in (0..self.options.segments_max.saturating_sub(1)).rev() {
            let (from, to) = (part(&self.path, number), part(&self.path, number + 1));
            match rustix::fs::rename(&from, &to) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(LogError::Rotate { from, to, source: error.into() }),
            }
        }
        if self.options.segments_max <= 1 {
            rustix::fs::unlink(&self.path).map_err(|error| self.failed("make room in", error))?;
        }
        (self.path, self.file) = open_file(&self.path, self.options.private)?;
        self.torn = false;
        Ok(size(&self.stat()?))
    }

    /// Writes what was composed. What was written of a line that did not fit is taken back, unless somebody else has
    /// appended behind it.
    fn write_line(&mut self, bytes_before: u64) -> Result<(), LogError> {
        let mut written = 0;
        while written < self.line.len() {
            match self.write_some(written) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(count) => written += count,
                Err(error) => {
                    if written > 0 {
                        let only_ours =
                            self.stat().is_ok_and(|stat| size(&stat) == bytes_before + length(&self.line[..written]));
                        self.torn = !only_ours || rustix::fs::ftruncate(&self.file, bytes_before).is_err();
                    }
                    return Err(self.failed("write to", error));
                }
            }
        }
        self.torn = false;
        Ok(())
    }

    #[cfg(not(test))]
    fn write_some(&mut self, from: usize) -> Result<usize, Errno> {
        rustix::io::write(&self.file, &self.line[from..])
    }

    /// With a fuse: a disk that has room for `room_bytes` more.
    #[cfg(test)]
    fn write_some(&mut self, from: usize) -> Result<usize, Errno> {
        let mut until = self.line.len();
        if let Some(room) = &mut self.room_bytes {
            if *room == 0 {
                return Err(Errno::NOSPC);
            }
            until = until.min(from + *room);
            *room -= until - from;
        }
        rustix::io::write(&self.file, &self.line[from..until])
    }

    /// Removes the unfinished last line that a crash left. A file whose last line is too long to be ours is only given
    /// a newline.
    ///
    /// Each writer holds a shared lock on its LOG. Where another one lives, what looks torn is its line being written.
    fn mend(&mut self) -> Result<(), LogError> {
        if rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let bytes = size(&self.stat()?);
            let mut tail = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX).min(LINE_BYTES_MAX + 2)];
            let tail_at = bytes - length(&tail);
            self.read_at(&mut tail, tail_at)?;
            let keep = tail.iter().rposition(|byte| *byte == b'\n').map(|newline| newline + 1);
            let keep = keep.or((tail_at == 0).then_some(0));
            match keep {
                Some(keep) if keep < tail.len() => {
                    self.mended_bytes = length(&tail[keep..]);
                    let cut = rustix::fs::ftruncate(&self.file, bytes - self.mended_bytes);
                    cut.map_err(|error| self.failed("mend", error))?;
                }
                Some(_) => {}
                None => self.torn = true,
            }
        }
        // A file system without locks leaves us without this courtesy, not without a log.
        lock_shared(&self.file);
        Ok(())
    }

    fn continues(&self) -> Result<bool, LogError> {
        let bytes = usize::try_from(size(&self.stat()?)).unwrap_or(usize::MAX);
        let mut head = vec![0; bytes.min(LINE_BYTES_MAX)];
        self.read_at(&mut head, 0)?;
        let first_line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let same = self.options.header.as_ref().is_none_or(|header| header.as_bytes() == first_line);
        Ok(bytes == 0 || same && (self.options.continues)(first_line))
    }

    /// Fills `buffer` from `offset`; what is past the end stays zero.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), LogError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + length(&buffer[..filled]);
            match rustix::io::pread(&self.file, &mut buffer[filled..], at) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed("read", error)),
            }
        }
        Ok(())
    }

    fn stat(&self) -> Result<Stat, LogError> {
        rustix::fs::fstat(&self.file).map_err(|error| self.failed("look at", error))
    }

    fn failed(&self, step: &'static str, error: Errno) -> LogError {
        LogError::Failed { step, path: self.path.clone(), source: error.into() }
    }
}

impl Looked {
    fn holds(&self, now: &Instants, look_every: Duration) -> bool {
        let since = now.monotonic_ns.checked_sub(self.monotonic_ns);
        since.is_some_and(|ns| u128::from(ns) < look_every.as_nanos())
    }
}

fn same_file(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length in memory fits in 64 bits")
}

#[cfg(test)]
mod tests;
