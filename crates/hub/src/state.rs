//! The hub's data directory: who may use it, what lies in it, and who the hub is.
//!
//! One hub at a time (an advisory lock that dies with the process); the directory says its [mod@format], and one of a newer
//! format is left as it is. Everything in it that is secret has mode 0600,
//! the directory 0700; the tables that pandas reads hold no secret and keep the same rights.

pub(crate) mod format;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tree::private::PrivateError;

/// Held while a hub runs on the directory.
pub(crate) const LOCK_NAME: &str = "lock";
/// There while a backup is put back: what is in the directory is not whole.
pub(crate) const RESTORING_NAME: &str = "restoring";

/// The hub's data directory, locked for this process.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: OwnedFd,
}

/// The hub's own certificate and key, made at the first start and never changed: agents pin it.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another hub runs on it.
    #[error("{path} is in use by another hub; stop that one, or give this one another --data directory")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A newer release wrote it.
    #[error(
        "{path} has format {found}, which {software} wrote; this release knows up to {}: install {software} or newer, or name \
         another --data directory; nothing was changed",
        format::FORMAT
    )]
    Newer {
        /// The directory, or the backup of one.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// Program and version to install.
        software: String,
    },
    /// The file that tells its format is not understood.
    #[error(
        "{path} does not say what it should; nothing was changed: put back a backup, or name another --data directory"
    )]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A restore came to no end there.
    #[error(
        "a restore into {path} was cut off, so what is there is not whole: do it again, with --replace; what was there \
         before lies in {path} under before-restore-*"
    )]
    Unfinished {
        /// The directory.
        path: PathBuf,
    },
    /// It is not this user's alone.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// It, or a file in it, cannot be read or written.
    #[error("cannot {verb} {path}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate could not be made or read.
    #[error(
        "the hub's certificate in {path} cannot be used: {why}; move it away to have a new one made (agents must then join again)"
    )]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The authority that signs what HTTPS presents could not be made or read.
    #[error(
        "the hub's certificate authority in {path} cannot be used: {why}; move it away to have a new one made (who trusts the old one must then be given the new one: lockstep cert)"
    )]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl DataDir {
    /// Makes the directory where it is missing, closes it to others, locks it, and looks whether this release can use it.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let directory = Self::lock(path)?;
        if directory.file(RESTORING_NAME).exists() {
            return Err(StateError::Unfinished { path: directory.path });
        }
        format::settle(&directory.path)?;
        Ok(directory)
    }

    /// As [`DataDir::open`], whatever lies in it.
    pub(crate) fn lock(path: &Path) -> Result<Self, StateError> {
        let io = |verb: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source: std::io::Error| StateError::Io { verb, path, source }
        };
        tree::private::make(path, LOCK_NAME)?;
        let path = path.canonicalize().map_err(io("open", path))?;
        let lock_path = path.join(LOCK_NAME);
        let lock = rustix::fs::open(
            &lock_path,
            OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::from_raw_mode(0o600),
        )
        .map_err(|e| io("open", &lock_path)(e.into()))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::InUse { path }),
            Err(e) => Err(io("lock", &lock_path)(e.into())),
        }
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads the hub's identity, or makes it at the first start.
    pub(crate) fn identity(&self, name: &str) -> Result<Identity, StateError> {
        let (cert_path, key_path) = (self.file("hub.cert.der"), self.file("hub.key.der"));
        let broken = |path: &Path, why: String| StateError::Identity { path: path.to_owned(), why };
        match (fs::read(&cert_path), fs::read(&key_path)) {
            (Ok(certificate), Ok(key)) => Ok(Identity {
                certificate: CertificateDer::from(certificate),
                key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)),
            }),
            // The certificate is written last: without it the key was never shown to anybody.
            (Err(e), _) if e.kind() == std::io::ErrorKind::NotFound => {
                let key = rcgen::KeyPair::generate().map_err(|e| broken(&key_path, e.to_string()))?;
                let mut params = rcgen::CertificateParams::new(vec!["lockstep-hub".to_owned()])
                    .map_err(|e| broken(&cert_path, e.to_string()))?;
                params.distinguished_name.push(rcgen::DnType::CommonName, name);
                params.not_before = rcgen::date_time_ymd(2020, 1, 1);
                params.not_after = rcgen::date_time_ymd(4096, 1, 1);
                let certificate = params.self_signed(&key).map_err(|e| broken(&cert_path, e.to_string()))?;
                write_secret(&key_path, &key.serialize_der())?;
                write_secret(&cert_path, certificate.der())?;
                Ok(Identity {
                    certificate: certificate.der().clone(),
                    key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
                })
            }
            (Err(source), _) => Err(StateError::Io { verb: "read", path: cert_path, source }),
            (_, Err(source)) => Err(StateError::Io { verb: "read", path: key_path, source }),
        }
    }
}

/// The file of a share's board: one database a share, named by the hash of its name so that any name will do.
pub(crate) fn share_file_name(share: &str) -> String {
    let hash = blake3::hash(share.as_bytes()).to_hex();
    format!("share-{}.db", &hash[..16])
}

/// Names this boot of the machine: a store that was not closed cleanly is trusted only within one.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// The machine's name, for people.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Writes a file that only its owner can read: beside, synced, then renamed.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let beside = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|source| StateError::Io { verb: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_hub_on_one_data_directory_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let first = DataDir::open(&scratch.path().join("hub")).unwrap();
        let second = DataDir::open(&scratch.path().join("hub")).unwrap_err();
        assert!(matches!(second, StateError::InUse { .. }), "{second}");
        drop(first);
        DataDir::open(&scratch.path().join("hub")).unwrap();
    }

    #[test]
    fn the_identity_is_made_once_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().unwrap();
        let data = DataDir::open(scratch.path()).unwrap();
        let first = data.identity("a").unwrap();
        let second = data.identity("b").unwrap();
        assert_eq!(first.certificate, second.certificate);
        let mode = fs::metadata(data.file("hub.key.der")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
