//! HTTPS by hand, on the hub's clock: a certificate that is not good at this moment is refused, as everybody's library does.

use crate::house::House;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use support::{PATIENCE, until};

#[derive(Debug)]
struct At(i64);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(self.0).ok()?)))
    }
}

/// Waits until the certificate is one of this moment: it is looked at once a minute.
pub(crate) fn is_renewed(house: &mut House) {
    until(PATIENCE, "a certificate of now", || {
        house.pass(Duration::from_secs(61));
        !matches!(ask(house, "/healthz", ""), Err(error) if error.kind() == ErrorKind::InvalidData)
    });
}

/// Status and body of what is asked for with a token.
pub(crate) fn get(house: &House, target: &str, token: &str) -> (u16, String) {
    let answer = ask(house, target, token).unwrap_or_else(|error| panic!("{target}: {error}"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn ask(house: &House, target: &str, token: &str) -> io::Result<String> {
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_file(house.data().join(hub::CA_NAME)).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_details(provider, Arc::new(At(house.now_ms())));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(trusted);
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config.with_no_client_auth()), name).unwrap();
    let tcp = TcpStream::connect(house.http()).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(session, tcp);
    let head = format!(
        "GET {target} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // The end is as good as an orderly one.
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(String::from_utf8(answer).unwrap()),
    }
}
