//! Reading a file, and what is told of everything that cannot be read.

use super::round::is_dir;
use super::{Asked, Next, ScanError, Scanner};
use crate::clock;
use crate::share::facts::Facts;
use board::{Name as Key, Write};
use bytes::Bytes;
use mirror::dirty::Hint;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tree::at::Dir;
use tree::fsx;
use tree::hash::{Hashed, hash_file};
use tree::{Entry, Name, RelPath};
use wire::limits::INLINE_BYTES_MAX;

/// A file that changed under this many readings in a row, and for so long, is copied once, and the copy is published. One
/// that is rewritten in place many times a second has been read between two writes by then.
const READS_MAX: u32 = 8;
const RESTLESS_MIN: Duration = Duration::from_secs(5);

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Concern {
    /// It is not shared, and that is as it should be.
    LeftOut(String),
    /// It could not be read, so clients may not have what it holds.
    Unread(String),
}

impl Scanner {
    /// Reads and hashes a file: stat, read, stat.
    pub(super) fn read(
        &mut self,
        held: &Dir,
        dir: &RelPath,
        name: &Name,
        path: &RelPath,
        hint: Hint,
    ) -> Result<Next, ScanError> {
        let (mut file, before) = match held.open_file(name) {
            Ok(opened) => opened,
            Err(e) => return self.failed(dir, name, path, &e),
        };
        self.counts.read.fetch_add(1, Ordering::Relaxed);
        let full = held.path_of(name);
        let hashed = hash_file(&mut file, &before, INLINE_BYTES_MAX as u64, &mut self.buffer, &full);
        // Being written again: what was read is what a writer left for a moment, such as nothing after a truncation.
        let hashed = match hashed {
            Ok(Hashed::Stable(_)) if (self.is_unsettled)(path, Asked::AfterReading) => Ok(Hashed::Changed),
            other => other,
        };
        let (stable, restless) = match hashed {
            Ok(Hashed::Stable(stable)) => (stable, false),
            Ok(Hashed::Changed) => {
                let now = clock::now();
                let (reads, since) = self.restless.entry(path.clone()).or_insert((0, now));
                *reads += 1;
                self.again.insert(dir, name, Hint { content: true, ..hint });
                if *reads < READS_MAX || now.saturating_duration_since(*since) < RESTLESS_MIN {
                    self.pass_over(path);
                    return Ok(Next::Known);
                }
                match self.contents.spool(&mut file, &before, &full) {
                    Ok(Some(copy)) => (copy, true),
                    Ok(None) => {
                        let why = "changes all the time and is too large to be copied; tried again";
                        self.problems.insert(path.clone(), Concern::Unread(why.into()));
                        self.put_unknown(path)?;
                        return Ok(Next::Known);
                    }
                    Err(e) => return self.failed(dir, name, path, &e),
                }
            }
            Err(e) => return self.failed(dir, name, path, &e),
        };
        self.restless.remove(path);
        let record = self.known(path);
        if is_dir(record.as_ref()) {
            self.became_something_else(path);
        }
        let entry = Entry::File {
            mode: stable.stat.kept_mode(),
            mtime_ns: stable.stat.mtime_ns,
            size_bytes: stable.stat.size_bytes,
            content: stable.content,
        };
        if let Some(bytes) = stable.bytes {
            self.contents.keep(stable.content.0, bytes.into());
        }
        // A spooled copy is not what the disk holds: without facts it is read again next time.
        let facts = if restless { None } else { Some(Facts::of(&stable.stat)) };
        self.put_with(path.clone(), &entry, facts, record)?;
        Ok(Next::Known)
    }

    pub(super) fn failed(
        &mut self,
        dir: &RelPath,
        name: &Name,
        path: &RelPath,
        e: &fsx::Error,
    ) -> Result<Next, ScanError> {
        if is_no_directory(e) {
            // It changed its kind or went between two looks; nothing is known of it now.
            self.again.insert(dir, name, Hint::LISTED);
            self.pass_over(path);
        } else {
            self.problem(path, e);
            self.put_unknown(path)?;
        }
        Ok(Next::Known)
    }

    pub(super) fn problem(&mut self, path: &RelPath, e: &fsx::Error) {
        let why = Concern::Unread(e.to_string());
        // It is tried again and again; once is enough for the log.
        if self.problems.get(path) != Some(&why) {
            tracing::warn!(%path, error = %e, "not shared");
        }
        self.problems.insert(path.clone(), why);
    }

    /// A directory that could not be opened or listed: what is in it stays as it is known.
    pub(super) fn not_listed(&mut self, dir: &RelPath, e: &fsx::Error) -> Result<(), ScanError> {
        self.not_reached(dir, e);
        if !dir.is_root() && !self.board.complete() && is_dir(self.known(dir).as_ref()) {
            // What the index has of it may be a part, or older than what clients hold, so it is no longer told.
            self.became_something_else(dir);
            let name = Key::copy_from_slice(dir.as_bytes());
            let value = Bytes::from(Entry::Unknown.to_bytes());
            self.round.insert(name.clone(), Write::Put { name, value, aside: Bytes::new() });
            return Ok(());
        }
        self.put_unknown(dir)
    }

    /// A directory that could not be got at, perhaps because of one above it.
    pub(super) fn not_reached(&mut self, dir: &RelPath, e: &fsx::Error) {
        self.problem(dir, e);
        self.unlisted.insert(dir.clone());
    }
}

impl Concern {
    pub(crate) fn is_unread(&self) -> bool {
        matches!(self, Concern::Unread(_))
    }
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Concern::LeftOut(why) | Concern::Unread(why)) = self;
        f.write_str(why)
    }
}

/// Whether something else stands there, or nothing.
pub(super) fn is_no_directory(e: &fsx::Error) -> bool {
    e.is_missing() || matches!(e.errno, rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR)
}
