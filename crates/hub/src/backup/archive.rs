//! The one file of a backup: a first line, what is in it as JSON, and then the contents one behind the other.
//!
//! ```text
//! lockstep hub backup 1 <bytes of the JSON> <BLAKE3 of the JSON, hex>\n
//! {"software":…,"made_at":…,"directory_format":…,"files":[{"name":…,"bytes":…,"blake3":…},…]}
//! contents, in the order of "files", up to the end of the file
//! ```
//!
//! So no byte of it can differ unseen, and none can be missing. It is no proof against whoever could have written all of it.

use super::{BackupError, io, is_kept, remove};
use crate::clock;
use crate::state::format::Format;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What a backup begins with, its format included.
const BEGINNING: &str = "lockstep hub backup 1";
/// The first line.
const LINE_BYTES_MAX: u64 = 256;
/// What is said of the contents: some hundred bytes for each file.
const HEAD_BYTES_MAX: u64 = 4 << 20;
/// Files in a backup: one for each share that there ever was, and a few.
const FILES_MAX: usize = 16 * 1024;
/// Copied at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// What a backup says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    /// Which release made it.
    pub(super) software: String,
    /// When, RFC 3339 in UTC.
    pub(super) made_at: String,
    /// Of the data directory.
    pub(super) directory_format: i64,
    pub(super) files: Vec<Member>,
}

/// A file in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// As in the data directory.
    pub name: String,
    /// How long it is.
    pub bytes: u64,
    /// Its hash, in hex.
    blake3: String,
}

/// A backup that was made.
#[derive(Debug)]
pub struct Packed {
    /// Where it is.
    pub file: PathBuf,
    /// How long it is.
    pub bytes: u64,
    /// What is in it.
    pub files: Vec<Member>,
}

/// Packs what was staged into one file that only its owner can read, and takes the copies away. The file appears when it is
/// whole and on disk; one that was there before is replaced then.
///
/// # Errors
/// When it cannot be written. What was there before is still there then.
pub fn pack(staged: &Path, file: &Path) -> Result<Packed, BackupError> {
    let packed = pack_beside(staged, file);
    remove(staged);
    packed
}

fn pack_beside(staged: &Path, file: &Path) -> Result<Packed, BackupError> {
    let name = file.file_name().ok_or_else(|| io("write", file)(std::io::ErrorKind::InvalidFilename.into()))?;
    let directory = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut beside_name = std::ffi::OsString::from(format!(".lockstep-tmp-{:016x}-", getrandom::u64().unwrap_or(0)));
    beside_name.push(name);
    let beside = directory.join(beside_name);
    let out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
    let out = out.map_err(io("make", &beside))?;
    let written = write(staged, &beside, out).and_then(|files| {
        fs::rename(&beside, file).map_err(io("write", file))?;
        File::open(directory).and_then(|dir| dir.sync_all()).map_err(io("sync", directory))?;
        Ok(files)
    });
    if written.is_err()
        && let Err(error) = fs::remove_file(&beside)
    {
        tracing::warn!(path = %beside.display(), %error, "half a backup was left");
    }
    let files = written?;
    let bytes = fs::metadata(file).map_err(io("look at", file))?.len();
    Ok(Packed { file: file.to_owned(), bytes, files })
}

fn write(staged: &Path, path: &Path, mut out: File) -> Result<Vec<Member>, BackupError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(staged).map_err(io("list", staged))? {
        let name = entry.map_err(io("list", staged))?.file_name().to_string_lossy().into_owned();
        // SQLite leaves nothing beside a copy; if it did, it would not belong to it.
        if is_kept(&name) {
            let (bytes, blake3) = sum(&staged.join(&name))?;
            files.push(Member { name, bytes, blake3 });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let Format { number, software } = Format::ours();
    let made_at = jiff::Timestamp::from_millisecond(clock::now_ms()).unwrap_or_default().to_string();
    let head = Head { software, made_at, directory_format: number, files };
    let json = serde_json::to_vec(&head).map_err(|e| io("write", path)(e.into()))?;
    let line = format!("{BEGINNING} {} {}\n", json.len(), blake3::hash(&json).to_hex());
    out.write_all(line.as_bytes()).and_then(|()| out.write_all(&json)).map_err(io("write", path))?;
    for member in &head.files {
        let from = staged.join(&member.name);
        let mut content = File::open(&from).map_err(io("read", &from))?;
        let copied = std::io::copy(&mut content, &mut out).map_err(io("write", path))?;
        if copied != member.bytes {
            return Err(BackupError::Copy { path: from, why: "it changed while it was read".into() });
        }
    }
    out.sync_all().map_err(io("sync", path))?;
    Ok(head.files)
}

fn sum(path: &Path) -> Result<(u64, String), BackupError> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).map_err(io("read", path))?;
    let bytes = std::io::copy(&mut file, &mut hasher).map_err(io("read", path))?;
    Ok((bytes, hasher.finalize().to_hex().to_string()))
}

/// A backup whose every byte was looked at.
pub(super) struct Whole {
    path: PathBuf,
    file: BufReader<File>,
    pub(super) head: Head,
    contents_at: u64,
}

impl Whole {
    /// Reads all of the file `path`.
    ///
    /// # Errors
    /// When it is not what [`pack`] wrote, to the last byte, or of a newer release.
    pub(super) fn open(path: &Path) -> Result<Whole, BackupError> {
        let damaged = |why: &str| BackupError::Damaged { path: path.to_owned(), why: why.to_owned() };
        let mut file = BufReader::new(File::open(path).map_err(io("read", path))?);
        let mut line = Vec::new();
        (&mut file).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(io("read", path))?;
        let line = std::str::from_utf8(&line).ok().and_then(|line| line.strip_suffix('\n'));
        let line = line.and_then(|line| line.strip_prefix(BEGINNING)?.strip_prefix(' '));
        let (bytes, hash) = line.and_then(|l| l.split_once(' ')).ok_or_else(|| damaged("it does not begin as one"))?;
        let head_bytes = Some(bytes).filter(|b| !b.starts_with(['0', '+'])).and_then(|b| b.parse().ok());
        let head_bytes: u64 =
            head_bytes.filter(|bytes| *bytes <= HEAD_BYTES_MAX).ok_or_else(|| damaged("it does not begin as one"))?;
        let mut json = Vec::new();
        (&mut file).take(head_bytes).read_to_end(&mut json).map_err(io("read", path))?;
        if json.len() as u64 != head_bytes || blake3::hash(&json).to_hex().as_str() != hash {
            return Err(damaged("what it says of itself was changed or cut off"));
        }
        let head: Head = serde_json::from_slice(&json).map_err(|_| damaged("it says nothing that is understood"))?;
        Format { number: head.directory_format, software: head.software.clone() }.usable(path)?;
        let mut names = std::collections::BTreeSet::new();
        if head.files.len() > FILES_MAX || !head.files.iter().all(|m| is_kept(&m.name) && names.insert(&m.name)) {
            return Err(damaged("it names files that no backup holds"));
        }
        let contents_at = file.stream_position().map_err(io("read", path))?;
        let mut whole = Whole { path: path.to_owned(), file, head, contents_at };
        whole.each(|_, _| Ok(()))?;
        Ok(whole)
    }

    /// Gives each content piece by piece, in order, and looks at all of it once more.
    pub(super) fn each(
        &mut self,
        mut piece: impl FnMut(&Member, &[u8]) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        let damaged = |why: String| BackupError::Damaged { path: self.path.clone(), why };
        self.file.seek(SeekFrom::Start(self.contents_at)).map_err(io("read", &self.path))?;
        let mut buffer = vec![0; PIECE_BYTES];
        for member in &self.head.files {
            let (mut left, mut hasher) = (member.bytes, blake3::Hasher::new());
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
                let got = self.file.read(&mut buffer[..most]).map_err(io("read", &self.path))?;
                if got == 0 {
                    return Err(damaged(format!("it is cut off in {}", member.name)));
                }
                hasher.update(&buffer[..got]);
                piece(member, &buffer[..got])?;
                left -= got as u64;
            }
            if hasher.finalize().to_hex().as_str() != member.blake3 {
                return Err(damaged(format!("{} in it was changed", member.name)));
            }
        }
        match self.file.read(&mut buffer[..1]).map_err(io("read", &self.path))? {
            0 => Ok(()),
            _ => Err(damaged("something stands behind its end".into())),
        }
    }
}
