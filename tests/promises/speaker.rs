//! A client in a few lines: frames by hand over TLS, one message at a time, as anybody could write one from the protocol's
//! description. It does what a well-behaved client never does: says things at the wrong time, says half of them, and
//! leaves at any point.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use support::PATIENCE;
use wire::codec::{decode_to_client, encode_frame};
use wire::message::{Content, Purpose, Refusal, ToClient, ToHub, Welcome};
use wire::unique_id::UniqueId;

/// A connection to a hub.
pub(crate) struct Speaker {
    stream: StreamOwned<ClientConnection, TcpStream>,
    heard: Vec<u8>,
}

/// What came of listening.
#[derive(Debug)]
pub(crate) enum Heard {
    Said(Box<ToClient>),
    Nothing,
    Closed,
}

/// What came of answering the question for an ID.
#[derive(Debug)]
pub(crate) enum Asked {
    Issued(UniqueId),
    UniqueId,
    Refused(Refusal),
}

impl Asked {
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Asked::Refused(_))
    }
}

impl Speaker {
    /// TCP and TLS, nothing said yet.
    #[track_caller]
    pub(crate) fn connect(address: &str) -> Self {
        Self::over(TcpStream::connect(address).expect("the hub listens"))
    }

    /// TLS over a connection that is there already.
    pub(crate) fn over(tcp: TcpStream) -> Self {
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("lockstep.invalid").unwrap();
        let session = ClientConnection::new(Arc::new(tls()), name).unwrap();
        Self { stream: StreamOwned::new(session, tcp), heard: Vec::new() }
    }

    /// Connected and greeted: asked for its ID.
    #[track_caller]
    pub(crate) fn greeted(address: &str) -> Self {
        let mut speaker = Self::connect(address);
        speaker.say(&hello(Purpose::Login));
        assert!(matches!(speaker.hear(), ToClient::Hello { .. }));
        assert_eq!(speaker.hear(), ToClient::AskId);
        speaker
    }

    /// Logged in as `id`: with `unique_id`, or enrolling anew.
    #[track_caller]
    pub(crate) fn logged_in(address: &str, id: u64, unique_id: Option<&UniqueId>) -> (Self, UniqueId) {
        let mut speaker = Self::greeted(address);
        match (speaker.claim(&id.to_string(), None), unique_id) {
            (Asked::UniqueId, Some(unique_id)) => {
                speaker.say(&prove(unique_id));
                speaker.welcome();
                (speaker, unique_id.clone())
            }
            (Asked::Issued(issued), None) => {
                speaker.say(&ToHub::Confirm);
                speaker.welcome();
                (speaker, issued)
            }
            (other, _) => panic!("{other:?}"),
        }
    }

    /// Says which ID it has.
    #[track_caller]
    pub(crate) fn claim(&mut self, id: &str, invite: Option<&str>) -> Asked {
        self.say(&ToHub::Id { id: id.to_owned(), invite: invite.map(Into::into), name: "speaker".to_owned() });
        match self.hear() {
            ToClient::Issued { unique_id } => {
                Asked::Issued(UniqueId::parse(unique_id.reveal()).expect("what is issued can be read"))
            }
            ToClient::AskUniqueId => Asked::UniqueId,
            ToClient::Refused(refusal) => Asked::Refused(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Hears that it is in.
    #[track_caller]
    pub(crate) fn welcome(&mut self) -> Welcome {
        match self.hear() {
            ToClient::Welcome(welcome) => welcome,
            other => panic!("not in: {other:?}"),
        }
    }

    /// Hears that it is refused.
    #[track_caller]
    pub(crate) fn refused(&mut self) -> Refusal {
        match self.hear() {
            ToClient::Refused(refusal) | ToClient::Bye(refusal) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn say(&mut self, message: &ToHub) {
        self.try_say(message).expect("the hub listens");
    }

    pub(crate) fn try_say(&mut self, message: &ToHub) -> std::io::Result<()> {
        self.write(&encode_frame(message).unwrap())
    }

    /// Any bytes, inside TLS.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> ToClient {
        match self.listen(PATIENCE) {
            Heard::Said(message) => *message,
            other => panic!("the hub said nothing: {other:?}"),
        }
    }

    /// The next message, if one comes within the span.
    pub(crate) fn listen(&mut self, within: Duration) -> Heard {
        let start = Instant::now();
        loop {
            if let Some(body) = self.frame() {
                return Heard::Said(Box::new(decode_to_client(body).expect("the hub speaks the protocol")));
            }
            let left = within.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Heard::Nothing;
            }
            self.stream.sock.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Heard::Closed,
                Ok(count) => self.heard.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return Heard::Closed,
            }
        }
    }

    /// Whether the hub ends the connection within the span, whatever it says before.
    pub(crate) fn is_cut(&mut self, within: Duration) -> bool {
        let start = Instant::now();
        loop {
            match self.listen(within.saturating_sub(start.elapsed())) {
                Heard::Closed => return true,
                Heard::Nothing => return false,
                Heard::Said(_) => {}
            }
        }
    }

    /// Puts a value and waits until it is on disk; an error when the hub goes away instead.
    pub(crate) fn put(&mut self, name: &str, value: &str) -> Result<u64, &'static str> {
        let content = Content {
            content_type: "text/plain; charset=utf-8".to_owned(),
            bytes: Bytes::copy_from_slice(value.as_bytes()),
        };
        let put = ToHub::Put { req: 1, name: Bytes::copy_from_slice(name.as_bytes()), value: Some(content) };
        self.try_say(&put).map_err(|_| "the hub does not listen")?;
        match self.listen(PATIENCE) {
            Heard::Said(message) => match *message {
                ToClient::PutDone { version, .. } => Ok(version.seq),
                _ => Err("the hub says something else"),
            },
            _ => Err("the hub does not answer"),
        }
    }

    /// The local end's port, by which the hub's log names this connection.
    pub(crate) fn local_address(&self) -> String {
        self.stream.sock.local_addr().unwrap().to_string()
    }

    fn frame(&mut self) -> Option<Bytes> {
        let header: [u8; 4] = self.heard.get(..4)?.try_into().ok()?;
        let end = 4 + usize::try_from(u32::from_le_bytes(header)).ok()?;
        let body = Bytes::copy_from_slice(self.heard.get(4..end)?);
        self.heard.drain(..end);
        Some(body)
    }
}

/// The first message of every connection.
pub(crate) fn hello(purpose: Purpose) -> ToHub {
    ToHub::Hello { versions: (1, 1), software: "a test".to_owned(), purpose }
}

/// The answer to the question for a unique ID.
pub(crate) fn prove(unique_id: &UniqueId) -> ToHub {
    ToHub::UniqueId { unique_id: unique_id.reveal().into() }
}

/// The unique ID that an agent's or a command's data directory holds.
#[track_caller]
pub(crate) fn unique_id_in(data: &std::path::Path) -> UniqueId {
    let text = std::fs::read_to_string(data.join("key.json")).expect("there is a key");
    let key: serde_json::Value = serde_json::from_str(&text).unwrap();
    UniqueId::parse(key["unique_id"].as_str().unwrap()).unwrap()
}

fn tls() -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyHub(provider)))
        .with_no_client_auth();
    config.enable_sni = false;
    config
}

/// Believes every certificate: who these tests talk to is known.
#[derive(Debug)]
struct AnyHub(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyHub {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("a hub speaks TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
