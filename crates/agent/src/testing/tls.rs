//! A hub on a loopback port, with TLS and a key of its own, that says what a test has it say.

use crate::conn::Incoming;
use crate::testing::DEADLINE;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ParsedCertificate;
use std::sync::Arc;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use wire::link::Fingerprint;
use wire::message::{ToClient, ToHub};

/// See the module.
pub(crate) struct TlsHub {
    pub(crate) address: String,
    pub(crate) fingerprint: Fingerprint,
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

/// Somebody who connected.
pub(crate) struct Caller {
    incoming: Incoming<ReadHalf<TlsStream<TcpStream>>>,
    write: WriteHalf<TlsStream<TcpStream>>,
}

impl TlsHub {
    pub(crate) async fn new() -> TlsHub {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["hub".into()]).unwrap().self_signed(&key).unwrap();
        let certificate = certificate.der().clone();
        let public_key = ParsedCertificate::try_from(&certificate).unwrap().subject_public_key_info();
        let fingerprint = Fingerprint::of(&public_key);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        TlsHub { address, fingerprint, listener, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// The next who connects.
    pub(crate) async fn accept(&self) -> Caller {
        let (stream, _) = tokio::time::timeout(DEADLINE, self.listener.accept()).await.expect("nobody comes").unwrap();
        let (read, write) = tokio::io::split(self.acceptor.accept(stream).await.unwrap());
        let mut incoming = Incoming::new(read);
        incoming.logged_in();
        Caller { incoming, write }
    }
}

impl Caller {
    /// The next message; `None` once it hung up.
    pub(crate) async fn hear(&mut self) -> Option<ToHub> {
        let body = tokio::time::timeout(DEADLINE, self.incoming.next_body()).await.expect("nothing is said");
        Some(wire::codec::decode_to_hub(&body.ok().flatten()?).unwrap())
    }

    pub(crate) async fn say(&mut self, message: ToClient) {
        self.write.write_all(&wire::codec::encode_frame(&message).unwrap()).await.unwrap();
        self.write.flush().await.unwrap();
    }
}
