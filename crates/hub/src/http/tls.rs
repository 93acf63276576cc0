//! What the HTTP port presents: a certificate of the hub's own authority, or one from files that may change.
//!
//! A certificate that cannot be used never takes the place of one that can.

use crate::authority::{Authority, RENEW_DAYS, local_names};
use crate::clock;
use crate::core::Hub;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// How often the names of this machine and the age of its certificate are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
const DAY_MS: i64 = 24 * 3600 * 1000;

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of it.
    #[error("{path} cannot be used: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The two do not belong together, or are of a kind that is not understood.
    #[error("the certificate and its key cannot be used: {0}")]
    Pair(String),
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
    source: Source,
    present: RwLock<Present>,
}

struct Present {
    config: Arc<ServerConfig>,
    names: BTreeSet<String>,
    made_ms: i64,
}

impl Tls {
    pub(crate) fn open(source: Source) -> Result<Tls, TlsError> {
        let present = RwLock::new(make(&source)?);
        Ok(Tls { source, present })
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner).config))
    }

    /// Reads or makes the certificate anew; the old one stays where that fails.
    fn renew(&self) {
        match make(&self.source) {
            Ok(present) => {
                *self.present.write().unwrap_or_else(PoisonError::into_inner) = present;
                tracing::info!("a new certificate is presented over HTTPS");
            }
            Err(error) => tracing::error!(%error, "the certificate of HTTPS was not replaced; the old one stays"),
        }
    }

    /// Whether ours is old, or the machine is called something else by now.
    fn is_due(&self) -> bool {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        match &self.source {
            Source::Own(_, more) => {
                let old = clock::now_ms().saturating_sub(present.made_ms) > RENEW_DAYS * DAY_MS;
                old || present.names != local_names(more.iter().cloned())
            }
            Source::Files(..) => false,
        }
    }

    /// Renews what is due, and whenever `reload` rings, until the hub stops.
    pub(crate) async fn keep(self: Arc<Self>, hub: Arc<Hub>, reload: Arc<Notify>) {
        let mut stopping = hub.stopping.subscribe();
        loop {
            let asked = tokio::select! {
                () = reload.notified() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
                _ = stopping.wait_for(|stop| *stop) => return,
            };
            if asked || self.is_due() {
                self.renew();
            }
        }
    }
}

fn make(source: &Source) -> Result<Present, TlsError> {
    let made_ms = clock::now_ms();
    let (chain, key, names) = match source {
        Source::Own(authority, more) => {
            let names = local_names(more.iter().cloned());
            let leaf = authority.sign(&names, made_ms).map_err(|e| TlsError::Pair(e.to_string()))?;
            (leaf.chain, leaf.key, names)
        }
        Source::Files(certificate, key) => (read_chain(certificate)?, read_key(key)?, BTreeSet::new()),
    };
    let pair = |e: rustls::Error| TlsError::Pair(e.to_string());
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Present { config: Arc::new(config), names, made_ms })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |why: String| TlsError::File { path: path.to_owned(), why };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = read.map_err(|e| bad(e.to_string()))?;
    if chain.is_empty() { Err(bad("it holds no certificate in PEM".into())) } else { Ok(chain) }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| TlsError::File { path: path.to_owned(), why: e.to_string() })
}
