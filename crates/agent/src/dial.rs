//! Reaching a hub: TCP and TLS 1.3, with the hub's key pinned.
//!
//! Nothing is said to a hub before its fingerprint is known to be the right one: the handshake itself carries nothing
//! of the client's, and the caller gets the stream only afterwards.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wire::link::Fingerprint;

/// How long one address may take to answer, TCP and TLS each.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The hub's certificate is known by its key and not by a name; this one is sent in no form.
const SERVER_NAME: &str = "lockstep.invalid";
/// The port of a hub where an address names none.
pub const DEFAULT_PORT: u16 = 7117;

/// Why a hub is the right one.
#[derive(Clone)]
pub enum Trust {
    /// It has this key.
    Known(Fingerprint),
    /// On loopback it is believed; elsewhere a person is asked, who is shown the address and the fingerprint.
    Ask(Arc<Ask>),
}

/// Shows a person a hub's address and fingerprint. It may take its time: it is called where blocking does no harm.
pub type Ask = dyn Fn(&str, &Fingerprint) -> Decision + Send + Sync;

/// What a person says to a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is that hub.
    Yes,
    /// It is not.
    No,
    /// There is nobody to ask.
    NoTerminal,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trust::Known(fingerprint) => write!(f, "Known({fingerprint})"),
            Trust::Ask(_) => f.write_str("Ask"),
        }
    }
}

/// An encrypted connection to a hub whose key is the right one.
#[derive(Debug)]
pub struct Dialed {
    /// The connection.
    pub stream: TlsStream<TcpStream>,
    /// The hub's fingerprint.
    pub fingerprint: Fingerprint,
    /// The address that answered.
    pub peer: SocketAddr,
}

/// Connects to `address` (`HOST:PORT`, `HOST` or `[V6]:PORT`).
///
/// # Errors
/// When nothing answers there, it is no hub, or its key is not the right one.
pub async fn dial(address: &str, trust: &Trust) -> Result<Dialed, DialError> {
    let tcp = connect(address).await?;
    let unreachable = |error| DialError::Unreachable { address: address.to_owned(), source: error };
    let peer = tcp.peer_addr().map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let expected = match trust {
        Trust::Known(fingerprint) => Some(*fingerprint),
        Trust::Ask(_) => None,
    };
    let connector = TlsConnector::from(Arc::new(config(expected)));
    let name = ServerName::try_from(SERVER_NAME).expect("a constant that is a name");
    let handshake = tokio::time::timeout(CONNECT_MAX, connector.connect(name, tcp));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(refused(address, expected, error)),
        Err(_) => return Err(DialError::NoHub { address: address.to_owned(), why: "it does not answer".into() }),
    };
    let shown = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first)
        .and_then(fingerprint_of)
        .ok_or_else(|| DialError::NoHub { address: address.to_owned(), why: "it shows no key".into() })?;
    if let Trust::Ask(ask) = trust
        && !peer.ip().to_canonical().is_loopback()
    {
        let (ask, asked) = (Arc::clone(ask), address.to_owned());
        let decision = tokio::task::spawn_blocking(move || ask(&asked, &shown)).await.unwrap_or(Decision::No);
        match decision {
            Decision::Yes => {}
            Decision::No => return Err(DialError::NotTrusted { address: address.to_owned(), shown }),
            Decision::NoTerminal => return Err(DialError::NobodyToAsk { address: address.to_owned(), shown }),
        }
    }
    Ok(Dialed { stream, fingerprint: shown, peer })
}

/// `address` with a port.
pub fn with_port(address: &str) -> String {
    let bare_v6 = address.parse::<std::net::Ipv6Addr>().is_ok();
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match (bare_v6, has_port) {
        (true, _) => format!("[{address}]:{DEFAULT_PORT}"),
        (false, true) => address.to_owned(),
        (false, false) => format!("{address}:{DEFAULT_PORT}"),
    }
}

pub(crate) async fn connect(address: &str) -> Result<TcpStream, DialError> {
    let target = with_port(address);
    let unreachable = |source| DialError::Unreachable { address: target.clone(), source };
    let resolved: Vec<SocketAddr> = tokio::net::lookup_host(&target).await.map_err(unreachable)?.collect();
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for to in resolved {
        match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(to)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer"),
        }
    }
    Err(unreachable(last))
}

fn refused(address: &str, expected: Option<Fingerprint>, error: std::io::Error) -> DialError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (tls, expected) {
        (Some(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)), Some(expected)) => {
            DialError::OtherKey { address: address.to_owned(), expected }
        }
        _ => DialError::NoHub { address: address.to_owned(), why: error.to_string() },
    }
}

fn config(expected: Option<Fingerprint>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Pin { expected, provider: Arc::clone(&provider) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider knows TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.enable_sni = false;
    config
}

/// Believes a certificate for its key alone, and that the peer holds the key because it signed the handshake with it.
#[derive(Debug)]
struct Pin {
    expected: Option<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

fn fingerprint_of(certificate: &CertificateDer<'_>) -> Option<Fingerprint> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    Some(Fingerprint::of(&parsed.subject_public_key_info()))
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = fingerprint_of(end_entity).ok_or(CertificateError::BadEncoding)?;
        match self.expected {
            Some(expected) if expected != shown => Err(CertificateError::ApplicationVerificationFailure.into()),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why a hub cannot be talked to.
#[derive(Debug, Error)]
pub enum DialError {
    /// Nothing answers there.
    #[error("the hub at {address} cannot be reached: {source}; is it running, and is the address right?")]
    Unreachable {
        /// Where.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something answers that is no hub.
    #[error("what answers at {address} is no lockstep hub: {why}; check the address and the port")]
    NoHub {
        /// Where.
        address: String,
        /// What was wrong.
        why: String,
    },
    /// Another key than the pinned one.
    #[error(
        "the hub at {address} has another key than the one known here ({expected}), so nothing was said to it; if the \
         hub was set up anew, join again with the link it prints, else somebody stands in between"
    )]
    OtherKey {
        /// Where.
        address: String,
        /// The pinned one.
        expected: Fingerprint,
    },
    /// The person said no.
    #[error("the hub at {address} with the fingerprint {shown} is not trusted, so nothing was said to it")]
    NotTrusted {
        /// Where.
        address: String,
        /// Its fingerprint.
        shown: Fingerprint,
    },
    /// Nobody there to compare the fingerprint.
    #[error(
        "the hub at {address} is not known here and there is no terminal to ask at (its fingerprint is {shown}); use \
         the join link that 'lockstep hub' or 'lockstep invite' prints"
    )]
    NobodyToAsk {
        /// Where.
        address: String,
        /// Its fingerprint.
        shown: Fingerprint,
    },
}

impl DialError {
    /// Whether trying again later may help without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        matches!(self, DialError::Unreachable { .. } | DialError::NoHub { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_gets_the_usual_one() {
        for (address, target) in [
            ("hub", "hub:7117"),
            ("hub:1", "hub:1"),
            ("10.0.0.1", "10.0.0.1:7117"),
            ("::1", "[::1]:7117"),
            ("[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(with_port(address), target);
        }
    }
}
