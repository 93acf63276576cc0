//! What the HTTP port presents: a certificate of the hub's own authority, or one from files that may change.
//!
//! A certificate that cannot be used never takes the place of one that can.

use crate::authority::{Authority, RENEW_DAYS, local_names};
use crate::clock;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

/// How often the names of this machine and the age of its certificate are looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(60);
const DAY_MS: i64 = 24 * 3600 * 1000;

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of it.
    #[error(
        "{path} cannot be used: {why}; --cert takes a certificate with what goes along with it, --key its key, both in PEM"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The two do not belong together, or are of a kind that is not understood.
    #[error(
        "the certificate {certificate} and the key {key} cannot be used: {why}; give --cert and --key what was made together"
    )]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// That of the key.
        key: PathBuf,
        /// What is wrong with them.
        why: String,
    },
    /// One of our own could not be made.
    #[error("a certificate of the hub's own could not be made: {0}; give it one by --cert and --key")]
    Own(String),
}

/// Where the certificate comes from.
pub(crate) enum Source {
    /// Signed for all names of this machine, and these.
    Own(Box<Authority>, Vec<String>),
    /// A certificate (with what goes along with it) and its key, in PEM.
    Files(PathBuf, PathBuf),
}

/// What is presented now.
pub(crate) struct Tls {
    source: RwLock<Source>,
    present: RwLock<Present>,
    /// Rings when the certificate is to be read again.
    reload: Notify,
}

struct Present {
    config: Arc<ServerConfig>,
    names: BTreeSet<String>,
    made_ms: i64,
}

impl Tls {
    /// What is presented from `now_ms` on, by the wall clock: certificates live by it.
    pub(crate) fn open(source: Source, now_ms: i64) -> Result<Tls, TlsError> {
        let present = RwLock::new(make(&source, now_ms)?);
        Ok(Tls { source: RwLock::new(source), present, reload: Notify::new() })
    }

    /// For one connection, which keeps what it began with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner).config))
    }

    /// Has the certificate read or made again, from these files where it comes from files.
    pub(crate) fn reload(&self, files: Option<(PathBuf, PathBuf)>) {
        if let (Source::Files(certificate, key), Some(files)) = (&mut *self.source_to_change(), files) {
            (*certificate, *key) = files;
        }
        self.reload.notify_one();
    }

    fn source_to_change(&self) -> RwLockWriteGuard<'_, Source> {
        self.source.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn source(&self) -> RwLockReadGuard<'_, Source> {
        self.source.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads or makes the certificate anew; the old one stays where that fails.
    fn renew(&self, now_ms: i64) {
        let made = make(&self.source(), now_ms);
        match made {
            Ok(present) => {
                *self.present.write().unwrap_or_else(PoisonError::into_inner) = present;
                tracing::info!("a new certificate is presented over HTTPS");
            }
            Err(error) => tracing::error!(%error, "the certificate of HTTPS was not replaced; the old one stays"),
        }
    }

    /// Whether ours is old, the machine is called something else by now, or its clock was wrong when ours was made: then it
    /// would begin in the future.
    fn is_due(&self, now_ms: i64) -> bool {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        match &*self.source() {
            Source::Own(_, more) => {
                let age_ms = now_ms.saturating_sub(present.made_ms);
                let fresh = (-DAY_MS..=RENEW_DAYS * DAY_MS).contains(&age_ms);
                !fresh || present.names != local_names(more.iter().cloned())
            }
            Source::Files(..) => false,
        }
    }

    /// Renews what is due, looked at as often as `every`, and whenever [`Tls::reload`] says so, until the hub stops.
    pub(crate) async fn keep(
        self: Arc<Self>,
        every: Duration,
        now_ms: impl Fn() -> i64,
        mut stopping: watch::Receiver<bool>,
    ) {
        loop {
            let asked = tokio::select! {
                () = self.reload.notified() => true,
                () = clock::sleep(every) => false,
                _ = stopping.wait_for(|stop| *stop) => return,
            };
            if asked || self.is_due(now_ms()) {
                self.renew(now_ms());
            }
        }
    }
}

/// Whether this can be presented.
pub(crate) fn usable(source: &Source, now_ms: i64) -> Result<(), TlsError> {
    make(source, now_ms).map(drop)
}

fn make(source: &Source, now_ms: i64) -> Result<Present, TlsError> {
    match source {
        Source::Own(authority, more) => {
            let names = local_names(more.iter().cloned());
            let own = |why: &dyn std::fmt::Display| TlsError::Own(why.to_string());
            let leaf = authority.sign(&names, now_ms).map_err(|e| own(&e))?;
            let config = config(leaf.chain, leaf.key).map_err(|e| own(&e))?;
            Ok(Present { config, names, made_ms: now_ms })
        }
        Source::Files(certificate, key) => {
            let pair = |why: rustls::Error| TlsError::Pair {
                certificate: certificate.clone(),
                key: key.clone(),
                why: why.to_string(),
            };
            let config = config(read_chain(certificate)?, read_key(key)?).map_err(pair)?;
            Ok(Present { config, names: BTreeSet::new(), made_ms: now_ms })
        }
    }
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificate in a file, and what goes along with it.
pub(crate) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |why: String| TlsError::File { path: path.to_owned(), why };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = read.map_err(|e| bad(e.to_string()))?;
    if chain.is_empty() { Err(bad("it holds no certificate in PEM".into())) } else { Ok(chain) }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| TlsError::File { path: path.to_owned(), why: e.to_string() })
}

#[cfg(test)]
mod tests;
