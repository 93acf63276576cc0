//! Putting a backup back: all of it is looked at before anything is touched, and what was there is kept aside.

use super::archive::Whole;
use super::{BackupError, io, new_file};
use crate::clock;
use crate::roster;
use crate::state::{DataDir, LOCK_NAME, RESTORING_NAME, format, write_secret};
use board::{Durability, SqliteStore, begin_anew};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What every hub has: a backup without it is none.
const NEEDED: [&str; 4] = ["roster.db", "data.db", "hub.cert.der", "hub.key.der"];
/// What was in the directory goes there.
const BEFORE: &str = "before-restore-";

/// A backup that was put back.
#[derive(Debug)]
pub struct Restored {
    /// The data directory.
    pub data: PathBuf,
    /// When the backup was made, RFC 3339 in UTC.
    pub made_at: String,
    /// By which release.
    pub software: String,
    /// How many files were put back.
    pub files: usize,
    /// Where what was there before is kept, if there was anything.
    pub before: Option<PathBuf>,
}

/// Puts the backup `file` back as the data directory `data`, which is made where it is missing. What is in it already is
/// only touched with `replace`, and kept aside then.
///
/// # Errors
/// When the file is not a whole backup, a hub runs on the directory, or it is not empty and not to be replaced: nothing was
/// changed then. When it could not be written: a hub does not start on a directory that was left half way.
pub fn restore(file: &Path, data: &Path, replace: bool) -> Result<Restored, BackupError> {
    let mut whole = Whole::open(file)?;
    if let Some(missing) = NEEDED.iter().find(|name| !whole.head.files.iter().any(|member| member.name == **name)) {
        let why = format!("{missing} is not in it");
        return Err(BackupError::Damaged { path: file.to_owned(), why });
    }
    if !replace && !there(data)?.is_empty() {
        if data.join(LOCK_NAME).exists() {
            // That a hub runs there is the better reason.
            drop(DataDir::lock(data)?);
        }
        return Err(BackupError::NotEmpty { path: data.to_owned() });
    }
    let directory = DataDir::lock(data)?;
    let data = directory.path();
    let staged = data.join(format!("restore-{:016x}", getrandom::u64().unwrap_or_default()));
    fs::DirBuilder::new().mode(0o700).create(&staged).map_err(io("make", &staged))?;
    let ready = unpack(&mut whole, &staged).and_then(|()| make_ready(&whole, &staged));
    if let Err(error) = ready {
        super::remove(&staged);
        return Err(error);
    }
    let before = switch(&whole, data, &staged)?;
    let (made_at, software, files) = (whole.head.made_at, whole.head.software, whole.head.files.len());
    Ok(Restored { data: data.to_owned(), made_at, software, files, before })
}

/// What is in the directory, but what any hub that was refused may have left, and what earlier restores kept aside.
fn there(data: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let entries = match fs::read_dir(data) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io("list", data))?,
    };
    let mut there = Vec::new();
    for entry in entries {
        let path = entry.map_err(io("list", data))?.path();
        if path.file_name().is_none_or(|name| name != LOCK_NAME) {
            there.push(path);
        }
    }
    Ok(there)
}

fn unpack(whole: &mut Whole, staged: &Path) -> Result<(), BackupError> {
    let mut files: BTreeMap<String, File> = BTreeMap::new();
    for member in &whole.head.files {
        files.insert(member.name.clone(), new_file(&staged.join(&member.name))?);
    }
    whole.each(|member, piece| {
        let path = staged.join(&member.name);
        files.get_mut(&member.name).map_or(Ok(()), |file| file.write_all(piece)).map_err(io("write", &path))
    })
}

/// Has each store say that history was lost, and makes sure that this release can open it.
fn make_ready(whole: &Whole, staged: &Path) -> Result<(), BackupError> {
    for member in &whole.head.files {
        let path = staged.join(&member.name);
        let unusable = |why: String| BackupError::Unusable { path: PathBuf::from(&member.name), why };
        if member.name == "roster.db" {
            roster::look(&path).map_err(|e| unusable(e.to_string()))?;
        } else if member.name.ends_with(".db") {
            let anew = SqliteStore::open(&path, Durability::EachCommit).and_then(|mut store| begin_anew(&mut store));
            anew.map_err(|e| unusable(e.to_string()))?;
        }
        File::open(&path).and_then(|file| file.sync_all()).map_err(io("sync", &path))?;
    }
    Ok(())
}

/// Between the first and the last step of this the directory says so, and no hub starts on it.
fn switch(whole: &Whole, data: &Path, staged: &Path) -> Result<Option<PathBuf>, BackupError> {
    let sync = || File::open(data).and_then(|dir| dir.sync_all()).map_err(io("sync", data));
    let restoring = data.join(RESTORING_NAME);
    write_secret(&restoring, b"a backup is being put back\n")?;
    sync()?;
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        path != staged && *path != restoring && !name.starts_with(BEFORE)
    };
    let old: Vec<PathBuf> = there(data)?.into_iter().filter(is_ours).collect();
    let before = (!old.is_empty()).then(|| free_name(data));
    if let Some(before) = &before {
        fs::DirBuilder::new().mode(0o700).create(before).map_err(io("make", before))?;
        for path in old {
            let aside = before.join(path.file_name().unwrap_or_default());
            fs::rename(&path, &aside).map_err(io("move away", &path))?;
        }
    }
    for member in &whole.head.files {
        let path = data.join(&member.name);
        fs::rename(staged.join(&member.name), &path).map_err(io("put back", &path))?;
    }
    format::settle(data)?;
    super::remove(staged);
    sync()?;
    fs::remove_file(&restoring).map_err(io("remove", &restoring))?;
    sync()?;
    Ok(before)
}

/// Named after the time; with a number behind it where that is taken.
fn free_name(data: &Path) -> PathBuf {
    let now = jiff::Timestamp::from_millisecond(clock::now_ms()).unwrap_or_default();
    let time = now.strftime("%Y%m%dT%H%M%SZ");
    let names = (1_u32..).map(|n| match n {
        1 => data.join(format!("{BEFORE}{time}")),
        n => data.join(format!("{BEFORE}{time}-{n}")),
    });
    let mut free = names.filter(|path| !path.exists());
    free.next().unwrap_or_else(|| data.join(BEFORE))
}
