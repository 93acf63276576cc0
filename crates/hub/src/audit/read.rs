//! Reading the audit log: both files, with their older parts, whether a hub runs or not.

use super::{FILE, REFUSED_FILE};
use serde::Deserialize;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use vitals::log::{LINE_BYTES_MAX, SEGMENTS_MAX};

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AuditLine {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// What happened; one of [`super::EVENTS`].
    pub event: String,
    /// To which client.
    pub id: Option<u64>,
    /// Who did it; 0 for the hub's own machine.
    pub by: Option<u64>,
    /// By the token of that name.
    pub token: Option<String>,
    /// From where.
    pub address: String,
    /// How it came.
    pub transport: String,
    /// `ok`, or the code of the refusal.
    pub outcome: String,
    /// In words.
    pub detail: String,
    /// How often beyond the line before it.
    pub repeated: Option<u64>,
    /// Since when it was counted.
    pub since: Option<String>,
    /// From how many addresses.
    pub addresses: Option<u64>,
    /// The line as it stands in the file.
    #[serde(skip)]
    pub json: String,
}

/// What was read.
#[derive(Debug, Default)]
pub struct AuditRead {
    /// The lines that were wanted, by time.
    pub lines: Vec<AuditLine>,
    /// Files there are.
    pub files: usize,
    /// Lines that could not be read: torn by a crash, or not ours.
    pub unread: u64,
}

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {source}")]
pub struct AuditError {
    /// Which.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

/// Reads what `wanted` says of the audit log in a hub's data directory. A log that is not there is empty.
///
/// # Errors
/// When a file that is there cannot be read: the log is for the hub's user and root.
pub fn read(data: &Path, mut wanted: impl FnMut(&AuditLine) -> bool) -> Result<AuditRead, AuditError> {
    let mut read = AuditRead::default();
    for file in [FILE, REFUSED_FILE] {
        for part in parts(&data.join(file))? {
            read.files += 1;
            part.read(&mut read, &mut wanted)?;
        }
    }
    // By their time, which is told in one form; what happened at once stays in its order.
    read.lines.sort_by(|a, b| a.at.cmp(&b.at));
    Ok(read)
}

struct Part {
    path: PathBuf,
    file: File,
    /// As it was when it was opened: what is written meanwhile is another reader's.
    bytes: u64,
}

/// The parts of one file, the oldest first. The newest is opened first: parts that are moved meanwhile are met again, and
/// known by their inode, and none is missed but one that was thrown away.
fn parts(path: &Path) -> Result<Vec<Part>, AuditError> {
    let mut parts = Vec::new();
    let mut seen = HashSet::new();
    for n in 0..SEGMENTS_MAX {
        let mut name = path.as_os_str().to_owned();
        if n > 0 {
            name.push(format!(".{n}"));
        }
        let path = PathBuf::from(name);
        let opened = File::open(&path).and_then(|file| file.metadata().map(|meta| (file, meta)));
        match opened {
            Ok((file, meta)) if seen.insert((meta.dev(), meta.ino())) => {
                parts.push(Part { path, file, bytes: meta.len() });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(AuditError { path, source }),
        }
    }
    parts.reverse();
    Ok(parts)
}

impl Part {
    fn read(self, read: &mut AuditRead, wanted: &mut dyn FnMut(&AuditLine) -> bool) -> Result<(), AuditError> {
        let Part { path, file, bytes } = self;
        let mut from = BufReader::new(file.take(bytes));
        let mut line = Vec::new();
        loop {
            line.clear();
            let got = from.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line);
            if got.map_err(|source| AuditError { path: path.clone(), source })? == 0 {
                return Ok(());
            }
            match parsed(&line) {
                Some(line) if wanted(&line) => read.lines.push(line),
                Some(_) => {}
                None => read.unread += 1,
            }
        }
    }
}

fn parsed(line: &[u8]) -> Option<AuditLine> {
    let text = str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let line: AuditLine = serde_json::from_str(text).ok()?;
    (!line.event.is_empty()).then(|| AuditLine { json: text.to_owned(), ..line })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn line(at: u32, event: &str, id: u64) -> String {
        format!(
            r#"{{"at":"2026-01-01T00:00:{at:02}.000Z","event":"{event}","id":{id},"transport":"native","outcome":"ok"}}"#
        ) + "\n"
    }

    fn ids(read: &AuditRead) -> Vec<u64> {
        read.lines.iter().filter_map(|line| line.id).collect()
    }

    #[test]
    fn all_parts_of_both_files_are_read_by_time_and_what_is_torn_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path(), |_| true).unwrap().files == 0, "no log yet");
        let write = |file: &str, text: String| fs::write(dir.path().join(file), text).unwrap();
        write("audit.jsonl.3", line(1, "login", 1));
        write("audit.jsonl.1", line(2, "login", 2) + "{\"at\n" + &line(4, "changed", 4));
        let torn = line(9, "login", 9);
        write("audit.jsonl", line(6, "login", 6) + &torn[..torn.len() - 8]);
        write("audit-refused.jsonl", line(3, "login", 3) + &line(5, "login", 5));
        let all = read(dir.path(), |_| true).unwrap();
        assert_eq!((ids(&all), all.files, all.unread), (vec![1, 2, 3, 4, 5, 6], 4, 2));
        assert_eq!(format!("{}\n", all.lines[3].json), line(4, "changed", 4), "as it stands there");
        assert_eq!(ids(&read(dir.path(), |line| line.event == "changed").unwrap()), [4]);
        // What was torn and never ended does not swallow what is written behind it in the next part.
        fs::rename(dir.path().join("audit.jsonl"), dir.path().join("audit.jsonl.2")).unwrap();
        write("audit.jsonl", line(7, "login", 7));
        assert_eq!(ids(&read(dir.path(), |_| true).unwrap()).last(), Some(&7));
    }

    #[test]
    fn a_part_that_was_moved_while_it_is_read_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), line(1, "login", 1)).unwrap();
        // As it is met again under its next name.
        fs::hard_link(dir.path().join(FILE), dir.path().join("audit.jsonl.1")).unwrap();
        assert_eq!(ids(&read(dir.path(), |_| true).unwrap()), [1]);
    }

    #[test]
    fn a_line_without_an_end_costs_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), vec![b'x'; 300 * 1024]).unwrap();
        let read = read(dir.path(), |_| true).unwrap();
        assert!(read.lines.is_empty() && read.unread >= 1);
    }
}
