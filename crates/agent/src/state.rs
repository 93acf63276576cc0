//! The data directory: what an agent remembers, so that a later `join` needs no link, and the lock that keeps a second
//! agent out.
//!
//! | file | what |
//! | --- | --- |
//! | `lock` | held by the running agent |
//! | `key.json` | see [`crate::key`] |
//! | `agent.json` | the hub's addresses and fingerprint, the shares, the values' patterns, and their directories |
//! | `shares/NAME.sqlite` | the replica of one share |
//! | `values/PATTERN.sqlite` | the replica of values that are kept as files, contents included |
//! | `control.sock` | where commands on this machine reach the hub |

use crate::disk::{self, DiskError};
use crate::kept::Kept;
use crate::key::{KeyFile, Machine};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tree::private::{self, PrivateError};
use wire::link::Fingerprint;

const LOCK: &str = "lock";
const MEMORY: &str = "agent.json";
const SHARES: &str = "shares";
const VALUES: &str = "values";
const SOCKET: &str = "control.sock";
/// The file of memory is far smaller; nobody makes us read more.
const MEMORY_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How many addresses of a hub are remembered, the newest first.
const ADDRESSES_MAX: usize = 8;

/// A data directory that this process alone uses.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Held for as long as this lives.
    _lock: File,
}

/// What is remembered of the hub and its shares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Where the hub was reached, `HOST:PORT`, the last one first.
    pub addresses: Vec<String>,
    /// Its fingerprint.
    pub hub: Option<Fingerprint>,
    /// Shares and where their copies are kept.
    pub shares: Vec<(String, PathBuf)>,
    /// Patterns of values and where their files are kept.
    pub values: Vec<(String, PathBuf)>,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
struct Form {
    format: u32,
    addresses: Vec<String>,
    hub: Option<String>,
    shares: Vec<KeptForm>,
    #[serde(default)]
    values: Vec<KeptForm>,
}

#[derive(Serialize, Deserialize)]
struct KeptForm {
    name: String,
    directory: PathForm,
}

/// A path as text, or as its bytes where they are no text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PathForm {
    Text(String),
    Bytes(Vec<u8>),
}

impl DataDir {
    /// Opens `path`, made if it is missing and closed to other users, and locks it.
    ///
    /// # Errors
    /// [`StateError::InUse`] when an agent runs on it; else when it cannot be made or locked, or is not this user's alone.
    pub fn open(path: &Path) -> Result<DataDir, StateError> {
        private::make(path, LOCK)?;
        for stores in [SHARES, VALUES].map(|stores| path.join(stores)) {
            std::fs::create_dir_all(&stores).map_err(|e| DiskError::new("create the directory", stores, e))?;
        }
        let lock_path = path.join(LOCK);
        let lock = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|e| DiskError::new("open", &lock_path, e))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(DataDir { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::InUse { path: path.to_owned() }),
            Err(e) => Err(DiskError::new("lock", lock_path, e).into()),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key file in it.
    pub fn key_file(&self) -> KeyFile {
        KeyFile::new(&self.path, Machine::this())
    }

    /// Where the agent of this data directory listens for commands.
    pub fn socket_path(&self) -> PathBuf {
        socket_path(&self.path)
    }

    /// The store of the replica of what is kept.
    pub fn store(&self, kept: &Kept) -> PathBuf {
        let stores = match kept {
            Kept::Share(_) => SHARES,
            Kept::Values(_) => VALUES,
        };
        self.path.join(stores).join(format!("{}.sqlite", file_name_of(kept.name())))
    }

    /// Forgets who this was and what was kept: the key first, and for good.
    ///
    /// # Errors
    /// When something cannot be removed; what was removed until then is gone.
    pub fn forget(&self) -> Result<(), StateError> {
        let forgotten = |path: &Path, removed: std::io::Result<()>| match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(DiskError::new("remove", path, e)),
            _ => Ok(()),
        };
        for file in [self.key_file().path(), &self.path.join(MEMORY), &self.socket_path()] {
            forgotten(file, std::fs::remove_file(file))?;
        }
        for stores in [SHARES, VALUES].map(|stores| self.path.join(stores)) {
            forgotten(&stores, std::fs::remove_dir_all(&stores))?;
        }
        let synced = File::open(&self.path).and_then(|directory| directory.sync_all());
        Ok(synced.map_err(|e| DiskError::new("sync", &self.path, e))?)
    }

    /// What is remembered; nothing at first.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn recall(&self) -> Result<Memory, StateError> {
        recall(&self.path)
    }

    /// Remembers, on disk when this returns.
    ///
    /// # Errors
    /// When the directory cannot be written; what was remembered before stays.
    pub fn remember(&self, memory: &Memory) -> Result<(), StateError> {
        let form = Form {
            format: 1,
            addresses: memory.addresses.iter().take(ADDRESSES_MAX).cloned().collect(),
            hub: memory.hub.map(|hub| hub.full()),
            shares: memory.shares.iter().map(|(name, path)| KeptForm::new(name, path)).collect(),
            values: memory.values.iter().map(|(name, path)| KeptForm::new(name, path)).collect(),
        };
        let text = serde_json::to_vec_pretty(&form).expect("strings, numbers and lists are JSON");
        disk::replace_private(&self.path, MEMORY, |_| text)?;
        Ok(())
    }
}

impl Memory {
    /// Puts `address` first.
    pub fn reached_at(&mut self, address: &str) {
        self.addresses.retain(|known| known != address);
        self.addresses.insert(0, address.to_owned());
        self.addresses.truncate(ADDRESSES_MAX);
    }
}

/// Where the agent with the data directory `data_dir` listens for commands.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET)
}

/// What is remembered in `data_dir`, without locking it: a command may look while the agent runs.
///
/// # Errors
/// When the file cannot be read or is damaged.
pub fn recall(data_dir: &Path) -> Result<Memory, StateError> {
    let path = data_dir.join(MEMORY);
    let damaged = || StateError::Damaged { path: path.clone() };
    let text = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Memory::default()),
        opened => {
            let mut text = Vec::new();
            opened
                .and_then(|file| {
                    std::io::Read::read_to_end(&mut std::io::Read::take(file, MEMORY_BYTES_MAX), &mut text)
                })
                .map_err(|e| DiskError::new("read", &path, e))?;
            text
        }
    };
    let form: Form = serde_json::from_slice(&text).map_err(|_| damaged())?;
    if form.format != 1 {
        return Err(damaged());
    }
    Ok(Memory {
        addresses: form.addresses,
        hub: match form.hub {
            Some(hub) => Some(Fingerprint::parse(&hub).ok_or_else(damaged)?),
            None => None,
        },
        shares: form.shares.into_iter().map(KeptForm::into_parts).collect(),
        values: form.values.into_iter().map(KeptForm::into_parts).collect(),
    })
}

/// A share's name, or a pattern of values, as a file name: what could mislead a path is written as `%XX`.
fn file_name_of(share: &str) -> String {
    let mut out = String::new();
    for (at, b) in share.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => out.push(char::from(b)),
            b'.' if at > 0 => out.push('.'),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    // Names may be longer than file names once escaped; the hash keeps them apart.
    if out.len() > 200 {
        out.truncate(160);
        out.push('%');
        out.push_str(&blake3::hash(share.as_bytes()).to_hex()[..32]);
    }
    out
}

impl KeptForm {
    fn new(name: &str, path: &Path) -> KeptForm {
        let directory = match path.to_str() {
            Some(text) => PathForm::Text(text.to_owned()),
            None => PathForm::Bytes(path.as_os_str().as_bytes().to_vec()),
        };
        KeptForm { name: name.to_owned(), directory }
    }

    fn into_parts(self) -> (String, PathBuf) {
        (self.name, self.directory.into())
    }
}

impl From<PathForm> for PathBuf {
    fn from(form: PathForm) -> PathBuf {
        match form {
            PathForm::Text(text) => text.into(),
            PathForm::Bytes(bytes) => OsString::from_vec(bytes).into(),
        }
    }
}

/// Why a data directory is of no use.
#[derive(Debug, Error)]
pub enum StateError {
    /// Another agent has it.
    #[error(
        "an agent is already running with the data in {}; stop it, or give this one another place with --data DIR",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The memory is not ours or broken.
    #[error("{} is damaged; move it away and join again with a link", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// It is not this user's alone.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// A file call failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_comes_back_also_paths_that_are_no_text() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = DataDir::open(scratch.path()).unwrap();
        assert_eq!(dir.recall().unwrap(), Memory::default());
        let mut memory = Memory {
            addresses: vec!["a:1".into()],
            hub: Some(Fingerprint::of(b"key")),
            shares: vec![
                ("docs".into(), "/srv/docs".into()),
                ("odd".into(), OsString::from_vec(b"/srv/\xff".to_vec()).into()),
            ],
            values: vec![("price/*".into(), "/run/prices".into())],
        };
        memory.reached_at("b:2");
        memory.reached_at("a:1");
        assert_eq!(memory.addresses, ["a:1", "b:2"]);
        dir.remember(&memory).unwrap();
        assert_eq!(dir.recall().unwrap(), memory);
    }

    #[test]
    fn what_was_remembered_before_there_were_values_as_files_comes_back() {
        let scratch = tempfile::tempdir().unwrap();
        let before =
            r#"{"format": 1, "addresses": ["a:1"], "hub": null, "shares": [{"name": "s", "directory": "/s"}]}"#;
        std::fs::write(scratch.path().join(MEMORY), before).unwrap();
        let memory = recall(scratch.path()).unwrap();
        assert_eq!((memory.shares.len(), memory.values.len()), (1, 0));
    }

    #[test]
    fn a_second_agent_is_kept_out_until_the_first_is_gone() {
        let scratch = tempfile::tempdir().unwrap();
        let first = DataDir::open(scratch.path()).unwrap();
        let told = DataDir::open(scratch.path()).unwrap_err();
        assert!(matches!(told, StateError::InUse { .. }), "{told}");
        drop(first);
        DataDir::open(scratch.path()).unwrap();
    }

    #[test]
    fn no_share_name_leads_out_of_the_directory() {
        for name in ["..", "../x", ".hidden", "a/b", "a b", "é"] {
            let file = file_name_of(name);
            assert!(!file.starts_with('.') && !file.contains('/'), "{name} became {file}");
        }
        assert_eq!(file_name_of("docs-1.2"), "docs-1.2");
        let long = |last| file_name_of(&format!("{}{last}", "é".repeat(60)));
        assert!(long('a') != long('b') && long('a').len() < 240);
    }
}
