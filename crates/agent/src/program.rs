//! A program that asks a hub over HTTP, signed with a token that administers: for machines that are no clients of it.
//!
//! A request is a connection of its own. The token goes to nobody but a hub that shows a certificate signed by what is trusted here,
//! and over plain HTTP to this machine alone; it is never shown.

use crate::dial::{CONNECT_MAX, DialError, connect};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tree::path::escape;
use wire::answer::{Answer, Question};
use wire::limits::FRAME_BYTES_MAX;
use wire::secret::Secret;

/// Where a hub serves HTTP unless it is told otherwise.
const DEFAULT_PORT: u16 = 7118;
/// What a hub answers to this.
const PATH: &str = "/api/admin";
/// A question is answered within this, a wait within this and its own time.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// An answer is no longer: what fits into a frame of the native transport, written out as JSON.
const ANSWER_BYTES_MAX: usize = 8 * FRAME_BYTES_MAX;
/// A token with the certificates behind it is no longer than this.
pub const CREDENTIALS_BYTES_MAX: usize = 1 << 20;

/// A token, and whom it is told to.
#[derive(Debug)]
pub struct Credentials {
    token: Secret,
    trusted: Vec<CertificateDer<'static>>,
}

impl Credentials {
    /// From a text: the token in the first line that is not empty, behind it the certificates to be trusted, in PEM, if any.
    ///
    /// # Errors
    /// Says what is wrong with it, and repeats nothing of it.
    pub fn parse(text: &str) -> Result<Credentials, BadCredentials> {
        let text = text.trim_start();
        let (token, rest) = text.split_once('\n').unwrap_or((text, ""));
        let token = token.trim();
        if wire::bearer::Bearer::parse(token).is_none() {
            return Err(BadCredentials::Token);
        }
        let trusted: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(rest.as_bytes()).collect();
        let trusted = trusted.map_err(|_| BadCredentials::Certificates)?;
        if trusted.is_empty() && !rest.trim().is_empty() {
            return Err(BadCredentials::Certificates);
        }
        Ok(Credentials { token: token.into(), trusted })
    }
}

/// Why a text holds no token, or not what else it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadCredentials {
    /// The token.
    #[error(
        "its first line is no token: one begins with lst_ and is printed by `lockstep token --admin`; or it was cut short or mistyped"
    )]
    Token,
    /// What stands behind it.
    #[error(
        "what stands behind the token are no certificates in PEM, as `lockstep cert` prints them on the hub's machine"
    )]
    Certificates,
}

/// A hub, and what a program shows to it.
#[derive(Debug)]
pub struct Program {
    host: String,
    port: u16,
    tls: bool,
    credentials: Credentials,
}

impl Program {
    /// Of the hub that serves HTTP at `address`: a URL, or a host with or without a port – then over TLS, and without it where the host is this machine.
    ///
    /// # Errors
    /// When it is no address, or one where the token would be for everybody to read.
    pub fn new(address: &str, credentials: Credentials) -> Result<Program, ProgramError> {
        let bad = || ProgramError::Address { address: address.to_owned() };
        let bare_v6 = address.parse::<std::net::Ipv6Addr>().is_ok();
        let (scheme, rest) = match address.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest.to_owned()),
            Some(_) => return Err(bad()),
            None if bare_v6 => (None, format!("[{address}]")),
            None => (None, address.to_owned()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(&rest);
        let uri: Uri = format!("http://{authority}/").parse().map_err(|_| bad())?;
        let host = uri.host().filter(|_| !authority.contains(['@', '/', '?', '#'])).ok_or_else(bad)?;
        let port = match authority.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')) {
            Some(port) => port.parse().map_err(|_| bad())?,
            None if authority == host => DEFAULT_PORT,
            None => return Err(bad()),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let here = bare == "localhost" || bare.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback());
        let tls = scheme.map_or(!here, |scheme| scheme == "https");
        if !tls && !here {
            return Err(ProgramError::Readable { address: address.to_owned() });
        }
        Ok(Program { host: bare.to_owned(), port, tls, credentials })
    }

    /// Asks; for [`Question::Wait`] this takes as long as it says.
    ///
    /// # Errors
    /// When the hub is not reached, is not one that is trusted, or refuses.
    pub async fn ask(&self, question: &Question) -> Result<Answer, ProgramError> {
        let waits = match question {
            Question::Wait { timeout_ms, .. } => Duration::from_millis(*timeout_ms),
            _ => Duration::ZERO,
        };
        let body = serde_json::to_vec(question).map_err(|e| self.other(&e))?;
        let asked = tokio::time::timeout(ANSWER_MAX.saturating_add(waits), self.request(body));
        let (status, body) = asked.await.map_err(|_| self.other(&"it does not answer"))??;
        if status == 200 {
            return serde_json::from_slice(&body)
                .map_err(|e| self.other(&format!("its answer is not understood: {e}")));
        }
        let refused: Refused =
            serde_json::from_slice(&body).map_err(|_| self.other(&format!("it answers with {status}")))?;
        Err(ProgramError::Refused { status, code: refused.code, text: refused.detail })
    }

    async fn request(&self, body: Vec<u8>) -> Result<(u16, Bytes), ProgramError> {
        let tcp = connect(&self.address()).await?;
        if !self.tls {
            // By a name, this machine is whatever its resolver says.
            let here = tcp.peer_addr().is_ok_and(|at| at.ip().to_canonical().is_loopback());
            return if here {
                self.send(tcp, body).await
            } else {
                Err(ProgramError::Readable { address: self.address() })
            };
        }
        let mut roots = RootCertStore::empty();
        for certificate in &self.credentials.trusted {
            roots.add(certificate.clone()).map_err(|e| self.other(&e))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| self.other(&e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(self.host.clone()).map_err(|e| self.other(&e))?;
        let handshake = tokio::time::timeout(CONNECT_MAX, TlsConnector::from(Arc::new(config)).connect(name, tcp));
        let stream = handshake.await.map_err(|_| self.other(&"it does not answer"))?.map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(rustls::Error::InvalidCertificate(why)) => self.untrusted(why),
                _ => self.other(&error),
            }
        })?;
        self.send(stream, body).await
    }

    async fn send<S>(&self, stream: S, body: Vec<u8>) -> Result<(u16, Bytes), ProgramError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.other(&e))?;
        let mut signed = HeaderValue::from_str(&format!("Bearer {}", self.credentials.token.reveal()))
            .map_err(|e| self.other(&e))?;
        signed.set_sensitive(true);
        let request = Request::builder()
            .method(Method::POST)
            .uri(PATH)
            .header(HOST, self.address())
            .header(AUTHORIZATION, signed)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| self.other(&e))?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|e| self.other(&e))?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok((status, body.map_err(|e| self.other(&e))?.to_bytes()))
        };
        // The connection does the work; that it ended well with the answer is no news.
        tokio::pin!(connection, exchange);
        tokio::select! {
            biased;
            exchanged = &mut exchange => exchanged,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(self.other(&error)),
            },
        }
    }

    /// Host and port, an address of IPv6 in brackets.
    fn address(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }

    fn other(&self, why: &dyn std::fmt::Display) -> ProgramError {
        ProgramError::NoHub { address: self.address(), why: escape(why.to_string().as_bytes()) }
    }

    fn untrusted(&self, why: &CertificateError) -> ProgramError {
        let none = self.credentials.trusted.is_empty();
        ProgramError::NotTrusted {
            address: self.address(),
            why: if none { "none is named".into() } else { format!("{why:?}") },
        }
    }
}

/// A problem, as the hub tells it.
#[derive(Deserialize)]
struct Refused {
    code: String,
    detail: String,
}

/// Why a question over HTTP came to nothing.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// No address.
    #[error(
        "{address} is no address of a hub's HTTP, such as https://hub.example:{DEFAULT_PORT}; with a token a join link is of no use"
    )]
    Address {
        /// What was given.
        address: String,
    },
    /// Not encrypted, and not on this machine.
    #[error(
        "over {address} the token would cross the network for everybody to read: ask by https://, or through ssh -L \
         {DEFAULT_PORT}:localhost:{DEFAULT_PORT} with http://localhost:{DEFAULT_PORT}"
    )]
    Readable {
        /// What was given.
        address: String,
    },
    /// Nothing answers there.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Something answers, and not as a hub.
    #[error("what answers at {address} is no HTTP of a lockstep hub: {why}; check the address and the port")]
    NoHub {
        /// Where.
        address: String,
        /// What was wrong.
        why: String,
    },
    /// Its certificate is signed by nobody who is trusted, or is another's.
    #[error(
        "the certificate of {address} is signed by none that is trusted here ({why}), so the token was not told: put what \
         `lockstep cert` prints on the hub's machine behind the token"
    )]
    NotTrusted {
        /// Where.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The hub says no.
    #[error("{}", tree::path::escape(.text.as_bytes()))]
    Refused {
        /// Of HTTP.
        status: u16,
        /// For programs.
        code: String,
        /// For people.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::bearer::Bearer;

    fn credentials() -> Credentials {
        Credentials::parse(&Bearer::fresh().unwrap().reveal()).unwrap()
    }

    #[test]
    fn an_address_is_encrypted_unless_it_is_this_machine() {
        for (address, to) in [
            ("hub.example", "https hub.example:7118"),
            ("hub.example:1", "https hub.example:1"),
            ("https://hub.example:7118/", "https hub.example:7118"),
            ("localhost", "http localhost:7118"),
            ("127.0.0.1:9", "http 127.0.0.1:9"),
            ("https://127.0.0.1:9", "https 127.0.0.1:9"),
            ("::1", "http [::1]:7118"),
            ("[2001:db8::7]:9", "https [2001:db8::7]:9"),
            ("http://[::1]:9", "http [::1]:9"),
        ] {
            let program = Program::new(address, credentials()).unwrap_or_else(|e| panic!("{address}: {e}"));
            assert_eq!(
                format!("{} {}", if program.tls { "https" } else { "http" }, program.address()),
                to,
                "{address}"
            );
        }
        for readable in ["http://hub.example", "http://10.0.0.1:7118", "http://localhost.evil.example"] {
            assert!(matches!(Program::new(readable, credentials()), Err(ProgramError::Readable { .. })), "{readable}");
        }
        let odd =
            ["", "ftp://hub", "https://", "https://a b", "https://u:p@hub", "https://hub/x", "hub:", "hub:0x1", "a?b"];
        for odd in odd {
            assert!(matches!(Program::new(odd, credentials()), Err(ProgramError::Address { .. })), "{odd}");
        }
    }

    #[test]
    fn a_token_is_the_first_line_and_behind_it_are_certificates_or_nothing() {
        let token = Bearer::fresh().unwrap().reveal();
        let key = rcgen::generate_simple_self_signed(["hub.example".to_owned()]).unwrap();
        let pem = key.cert.pem();
        for (text, certificates) in [
            (token.clone(), 0),
            (format!("\n {token} \r\n\n"), 0),
            (format!("{token}\n{pem}"), 1),
            (format!("{token}\n{pem}\n{pem}"), 2),
        ] {
            assert_eq!(Credentials::parse(&text).unwrap().trusted.len(), certificates, "{text}");
        }
        for wrong in ["", "lst_", &token[..30], &format!("x{token}"), &pem] {
            assert_eq!(Credentials::parse(wrong).unwrap_err(), BadCredentials::Token);
        }
        for wrong in [format!("{token}\nand more"), format!("{token}\n{}", &pem[..pem.len() / 2])] {
            assert_eq!(Credentials::parse(&wrong).unwrap_err(), BadCredentials::Certificates);
        }
        let shown = format!("{:?}", Program::new("localhost", Credentials::parse(&token).unwrap()).unwrap());
        assert!(!shown.contains(&token[4..]) && !BadCredentials::Token.to_string().contains(&token), "{shown}");
    }
}
