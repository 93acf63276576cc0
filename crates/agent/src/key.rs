//! The key file: who this agent is, and the secret that proves it.
//!
//! It names the machine and the inode it was written on, so that the copy in a cloned machine or a copied data
//! directory is known for what it is and not used: two machines with one id would take over from each other for ever.
//! A clone of a whole disk image that kept its machine id cannot be told apart here; the hub sees it by the take-overs.
//!
//! It is on disk, for good, before [`KeyFile::write`] returns; only then may the client confirm.

use crate::disk::{self, DiskError};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;
use wire::id::ClientId;
use wire::link::Fingerprint;
use wire::unique_id::UniqueId;

/// The key file's name in the data directory.
const FILE_NAME: &str = "key.json";
/// A key file is a few hundred bytes; nobody makes us read more.
const KEY_FILE_BYTES_MAX: u64 = 16 * 1024;
/// The one format there is.
const FORMAT: u32 = 1;
/// Where Linux keeps the number of this installation, the usual place first.
const MACHINE_ID_PATHS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// An id on a hub and its proof.
#[derive(Clone, Debug)]
pub struct Key {
    /// The secret, which also holds the id.
    pub unique_id: UniqueId,
    /// The hub it was issued by; it is shown to no other.
    pub hub: Fingerprint,
}

/// What tells this installation of an operating system from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine(String);

/// What was found where the key file should be.
#[derive(Debug)]
pub enum Found {
    /// No key file: this agent never logged in.
    Nothing,
    /// Our own.
    Ours(Key),
    /// A key that was issued to another machine or data directory.
    Copied {
        /// Whose it is.
        id: ClientId,
        /// How that was seen, for people.
        why: &'static str,
    },
}

/// The place of the key file.
#[derive(Clone, Debug)]
pub struct KeyFile {
    directory: PathBuf,
    path: PathBuf,
    machine: Machine,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
struct Form {
    format: u32,
    id: u64,
    unique_id: String,
    hub: String,
    machine: String,
    inode: u64,
}

impl Machine {
    /// This machine. Where it has no machine id (some containers), only the inode tells copies apart.
    pub fn this() -> Machine {
        let read = |path: &&str| std::fs::read_to_string(path).ok().filter(|id| !id.trim().is_empty());
        Machine::of(MACHINE_ID_PATHS.iter().find_map(read).unwrap_or_default().trim())
    }

    /// The machine with this machine id. The id itself is confidential (machine-id(5)), so a hash of it is kept.
    pub fn of(machine_id: &str) -> Machine {
        Machine(hex(&blake3::derive_key("lockstep agent key file v1 machine", machine_id.as_bytes())[..16]))
    }
}

impl KeyFile {
    /// The key file in the data directory `directory` of an agent on `machine`.
    pub fn new(directory: &Path, machine: Machine) -> KeyFile {
        KeyFile { directory: directory.to_owned(), path: directory.join(FILE_NAME), machine }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it. One that others may read is closed to them, and that is told in the log.
    ///
    /// # Errors
    /// When it cannot be read or is not a key file.
    pub fn read(&self) -> Result<Found, KeyError> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
            opened => opened.map_err(|e| DiskError::new("read", &self.path, e))?,
        };
        let metadata = file.metadata().map_err(|e| DiskError::new("read", &self.path, e))?;
        if metadata.mode() & 0o077 != 0 {
            tracing::warn!(path = %self.path.display(), "the key file was open to others; it is closed to them now");
            disk::set_private(&file, &self.path)?;
        }
        let mut text = String::new();
        (&mut file)
            .take(KEY_FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|e| DiskError::new("read", &self.path, e))?;
        self.parse(&text, metadata.ino())
    }

    fn parse(&self, text: &str, inode: u64) -> Result<Found, KeyError> {
        // The parser's own message could quote the secret.
        let form: Form = serde_json::from_str(text).map_err(|_| self.damaged("it is not of the form of a key file"))?;
        if form.format != FORMAT {
            return Err(self.damaged("it was written by another version of lockstep"));
        }
        let unique_id = UniqueId::parse(&form.unique_id).map_err(|_| self.damaged("its unique ID is damaged"))?;
        let hub = Fingerprint::parse(&form.hub).ok_or_else(|| self.damaged("its hub's fingerprint is damaged"))?;
        if unique_id.id().get() != form.id {
            return Err(self.damaged("its id and its unique ID do not belong together"));
        }
        let id = unique_id.id();
        if form.machine != self.machine.0 {
            return Ok(Found::Copied { id, why: "it was issued to another machine" });
        }
        if form.inode != inode {
            return Ok(Found::Copied { id, why: "it is a copy of the file that was issued" });
        }
        Ok(Found::Ours(Key { unique_id, hub }))
    }

    /// Writes `key`, mode 0600, in place of what was there. On disk when this returns.
    ///
    /// # Errors
    /// When the directory cannot be written; the old file is then still there.
    pub fn write(&self, key: &Key) -> Result<(), KeyError> {
        disk::replace_private(&self.directory, FILE_NAME, |inode| {
            let form = Form {
                format: FORMAT,
                id: key.unique_id.id().get(),
                unique_id: key.unique_id.reveal(),
                hub: key.hub.full(),
                machine: self.machine.0.clone(),
                inode,
            };
            serde_json::to_vec_pretty(&form).expect("strings and numbers are JSON")
        })?;
        Ok(())
    }

    fn damaged(&self, why: &'static str) -> KeyError {
        KeyError::Damaged { path: self.path.clone(), why }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file could not be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Not a key file of ours.
    #[error(
        "the key file {} cannot be used: {why}; restore it, or move it away and join again with the link that \
         'lockstep clients reissue ID' prints on the hub",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn key(id: u64) -> Key {
        Key { unique_id: UniqueId::fresh(ClientId::new(id).unwrap()).unwrap(), hub: Fingerprint::of(b"certificate") }
    }

    #[test]
    fn m3_4_a_key_reads_back_and_is_for_its_owner_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let file = KeyFile::new(scratch.path(), Machine::this());
        assert!(matches!(file.read().unwrap(), Found::Nothing));
        let written = key(7);
        file.write(&written).unwrap();
        let Found::Ours(read) = file.read().unwrap() else { panic!("it is ours") };
        assert!(read.unique_id == written.unique_id && read.hub == written.hub);
        assert_eq!(std::fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        file.write(&key(8)).unwrap();
        let Found::Ours(read) = file.read().unwrap() else { panic!("it is ours") };
        assert_eq!(read.unique_id.id().get(), 8);
    }

    #[test]
    fn a_key_on_another_machine_is_not_used() {
        let scratch = tempfile::tempdir().unwrap();
        KeyFile::new(scratch.path(), Machine::of("one")).write(&key(7)).unwrap();
        let found = KeyFile::new(scratch.path(), Machine::of("two")).read().unwrap();
        assert!(matches!(found, Found::Copied { id, .. } if id.get() == 7), "{found:?}");
    }

    #[test]
    fn a_copied_data_directory_is_not_used() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let original = KeyFile::new(a.path(), Machine::this());
        original.write(&key(7)).unwrap();
        std::fs::copy(original.path(), b.path().join(FILE_NAME)).unwrap();
        let found = KeyFile::new(b.path(), Machine::this()).read().unwrap();
        assert!(matches!(found, Found::Copied { id, .. } if id.get() == 7), "{found:?}");
        assert!(matches!(original.read().unwrap(), Found::Ours(_)));
    }

    #[test]
    fn a_key_that_others_can_read_is_closed_to_them() {
        let scratch = tempfile::tempdir().unwrap();
        let file = KeyFile::new(scratch.path(), Machine::this());
        file.write(&key(7)).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(file.read().unwrap(), Found::Ours(_)));
        assert_eq!(std::fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_file_is_told_without_its_secret() {
        let scratch = tempfile::tempdir().unwrap();
        let file = KeyFile::new(scratch.path(), Machine::this());
        let key = key(7);
        file.write(&key).unwrap();
        let secret = key.unique_id.reveal();
        let text = std::fs::read_to_string(file.path()).unwrap();
        for damage in
            [text.replace(&secret, &secret[..20]), text[..40].to_owned(), text.replace("\"id\": 7", "\"id\": 8")]
        {
            std::fs::write(file.path(), damage).unwrap();
            let told = file.read().unwrap_err().to_string();
            assert!(told.contains("reissue") && !told.contains(&secret[5..16]), "{told}");
        }
    }
}
