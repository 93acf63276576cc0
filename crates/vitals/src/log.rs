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

use std::{
    ffi::OsString,
    fs::DirBuilder,
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStringExt, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, FlockOperation, Mode, OFlags, Stat},
    io::Errno,
};
use thiserror::Error;

/// How large one part of a log gets.
pub const SEGMENT_BYTES_MAX: u64 = 8 << 20;

/// How many parts a log has, the one being written included.
pub const SEGMENTS_MAX: u32 = 4;

/// The longest line, without its newline. A longer one is cut and says so.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// How far past the cap a part may get while another process is moving the parts.
pub const SLACK_BYTES_MAX: u64 = 1 << 20;

/// How many links are followed from the name given to the file.
const LINKS_MAX: usize = 8;

/// What stands at the end of a line that was cut.
const CUT: &[u8] = b" [cut]";

/// What is particular to one kind of log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// A first line for every part, without its newline: the names of CSV's columns. With one, only a file that begins with
    /// this very line is continued.
    pub header: Option<String>,
    /// Whether a file that begins with this line can be continued. One that cannot becomes LOG.1 before the first line is
    /// written, so that no file mixes two formats.
    pub continues: fn(first_line: &[u8]) -> bool,
    /// How large one part gets: [`SEGMENT_BYTES_MAX`], but for tests.
    pub segment_bytes_max: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { header: None, continues: |_| true, segment_bytes_max: SEGMENT_BYTES_MAX }
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
    /// The line being composed; kept for its room.
    line: Vec<u8>,
    /// What came through [`io::Write`] since the last newline.
    unfinished: Vec<u8>,
    #[cfg(test)]
    room_bytes: Option<usize>,
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
        let (path, file) = open_file(path)?;
        let mut log = Self {
            path,
            file,
            options,
            mended_bytes: 0,
            lines_lost: 0,
            torn: false,
            header_changed: false,
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
        match self.try_append(line) {
            Ok(()) => match std::mem::take(&mut self.lines_lost) {
                0 => Ok(Appended::Written),
                lines_lost => Ok(Appended::Resumed { lines_lost }),
            },
            Err(error) => {
                self.lines_lost += 1;
                if self.lines_lost == 1 { Err(error) } else { Ok(Appended::StillLost) }
            }
        }
    }

    fn try_append(&mut self, line: &[u8]) -> Result<(), LogError> {
        self.line.clear();
        if self.torn {
            self.line.push(b'\n');
        }
        compose(&mut self.line, line);
        let mut bytes = self.size_in_place()?;
        if bytes > 0 && (self.header_changed || bytes + length(&self.line) > self.options.segment_bytes_max) {
            bytes = self.rotate()?;
        }
        self.header_changed &= bytes > 0;
        if let Some(header) = self.options.header.as_deref().filter(|_| bytes == 0) {
            self.line.splice(0..0, header.bytes().chain([b'\n']));
        }
        self.write_line(bytes)
    }

    /// The size of LOG. Where LOG was moved or removed it is opened anew.
    fn size_in_place(&mut self) -> Result<u64, LogError> {
        let ours = self.stat()?;
        match rustix::fs::lstat(&self.path) {
            Ok(there) if same_file(&there, &ours) => Ok(size(&there)),
            Ok(_) | Err(Errno::NOENT) => {
                (self.path, self.file) = open_file(&self.path)?;
                self.torn = false;
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
        for number in (0..SEGMENTS_MAX - 1).rev() {
            let (from, to) = (part(&self.path, number), part(&self.path, number + 1));
            match rustix::fs::rename(&from, &to) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(LogError::Rotate { from, to, source: error.into() }),
            }
        }
        (self.path, self.file) = open_file(&self.path)?;
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

/// Whole lines go to the log as they become complete; what is unfinished waits for its newline, whatever is flushed. An error
/// is returned once, as by [`CappedLog::append_line`], and the bytes count as taken.
impl io::Write for CappedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut said = Ok(bytes.len());
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = (LINE_BYTES_MAX + 1).saturating_sub(self.unfinished.len());
            self.unfinished.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.unfinished);
                if let Err(error) = self.append_line(&line) {
                    said = Err(io::Error::other(error));
                }
                self.unfinished = line;
                self.unfinished.clear();
            }
        }
        said
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens LOG, following links that belong to root or to us; returns where it is.
fn open_file(path: &Path) -> Result<(PathBuf, OwnedFd), LogError> {
    let mut path = path.to_owned();
    // NONBLOCK: a FIFO in the place of LOG is to be refused, not waited for.
    let flags = OFlags::RDWR
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC
        | OFlags::NOCTTY
        | OFlags::NONBLOCK;
    for _ in 0..=LINKS_MAX {
        match rustix::fs::open(&path, flags, Mode::from_raw_mode(0o640)) {
            Ok(file) => {
                let stat = rustix::fs::fstat(&file).map_err(|error| LogError::open(&path, error))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(LogError::NotAFile { path });
                }
                lock_shared(&file);
                return Ok((path, file));
            }
            Err(Errno::LOOP) => path = follow(&path)?,
            Err(error) => return Err(LogError::open(&path, error)),
        }
    }
    Err(LogError::open(&path, Errno::LOOP))
}

/// Where the link at `path` points to. Owner and target are read from one held inode, so that the link cannot be exchanged
/// between the two.
fn follow(path: &Path) -> Result<PathBuf, LogError> {
    let failed = |error| LogError::open(path, error);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let link = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let owner = rustix::fs::fstat(&link).map_err(failed)?.st_uid;
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(LogError::ForeignLink { path: path.to_owned(), owner });
    }
    let target = rustix::fs::readlinkat(&link, "", Vec::new()).map_err(failed)?;
    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
    Ok(path.parent().unwrap_or(Path::new("")).join(target))
}

/// Says to others that LOG has a living writer. Where files cannot be locked nothing is said.
fn lock_shared(file: &OwnedFd) {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockShared).unwrap_or(());
}

/// Keeps other processes from moving the parts as long as the descriptor lives. `None`: another one is at it.
fn lock_directory(log: &Path) -> Option<Option<OwnedFd>> {
    let directory = match log.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // A directory that cannot be opened or locked is no reason to log nothing.
    let Ok(directory) = rustix::fs::open(directory, flags, Mode::empty()) else { return Some(None) };
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => None,
        _ => Some(Some(directory)),
    }
}

/// The name of a part: LOG itself for 0.
fn part(log: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return log.to_owned();
    }
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn compose(out: &mut Vec<u8>, line: &[u8]) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let end = out.len() + LINE_BYTES_MAX;
    for (at, piece) in line.split(|byte| *byte == b'\n').enumerate() {
        if at > 0 {
            out.extend_from_slice(b"\\n");
        }
        // One byte more than fits is enough to know that the line is too long.
        out.extend_from_slice(&piece[..piece.len().min((end + 1).saturating_sub(out.len()))]);
    }
    if out.len() > end {
        out.truncate(end - CUT.len());
        out.extend_from_slice(CUT);
    }
    out.push(b'\n');
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

/// Why a log cannot be opened, or a line not be written.
#[derive(Debug, Error)]
pub enum LogError {
    /// The directory of the log cannot be made.
    #[error(
        "cannot make the directory {path} for the log; name another place with --log FILE, or none with --log none"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The log cannot be opened.
    #[error("cannot open the log {path}; name another place with --log FILE, or none with --log none")]
    Open {
        /// The log.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The log is a directory, a device or a FIFO.
    #[error("the log {path} is not a regular file; name another place with --log FILE, or none with --log none")]
    NotAFile {
        /// What was to be the log.
        path: PathBuf,
    },
    /// The log is a link that somebody else put there.
    #[error("the log {path} is a link made by user {owner}, which is not followed; remove it, or use --log FILE")]
    ForeignLink {
        /// The link.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// A part of the log could not be moved to its next name, so there is no room below the cap.
    #[error("cannot move the log {from} to {to} to make room for more")]
    Rotate {
        /// The part.
        from: PathBuf,
        /// Its next name.
        to: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A step on the open log failed.
    #[error("cannot {step} the log {path}")]
    Failed {
        /// What was tried.
        step: &'static str,
        /// The log.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl LogError {
    fn open(path: &Path, error: Errno) -> Self {
        Self::Open { path: path.to_owned(), source: error.into() }
    }
}

#[cfg(test)]
mod tests;
