use super::*;
use crate::http::{Ground, Guard, open};
use crate::state::DataDir;
use axum::Router;
use axum::routing::get;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const NOW_MS: i64 = 1_790_000_000_000;
const NAME: &str = "hub.example";

/// A client's clock.
#[derive(Debug)]
struct At(i64);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(self.0).unwrap())))
    }
}

/// A port that presents certificates of its own authority, and a client that trusts this one.
struct Scene {
    tls: Arc<Tls>,
    address: SocketAddr,
    authority: CertificateDer<'static>,
    stopping: watch::Sender<bool>,
    _scratch: tempfile::TempDir,
}

async fn scene(made_ms: i64) -> Scene {
    let scratch = tempfile::tempdir().unwrap();
    let data = DataDir::open(scratch.path()).unwrap();
    let authority = Authority::open(&data, made_ms).unwrap();
    let ca = CertificateDer::from_pem_file(data.file(crate::CA_NAME)).unwrap();
    let tls = Arc::new(Tls::open(Source::Own(Box::new(authority), vec![NAME.to_owned()]), made_ms).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stopping = watch::Sender::new(false);
    let ground = Ground {
        strangers: Default::default(),
        counts: Arc::default(),
        signed: Default::default(),
        stopping: stopping.subscribe(),
    };
    let app = Router::new().route("/", get(async || "ok"));
    tokio::spawn(open(ground, listener, Guard::default(), Some(Arc::clone(&tls)), app));
    Scene { tls, address, authority: ca, stopping, _scratch: scratch }
}

impl Scene {
    /// Connects, if what is presented is good at that time.
    async fn connect(&self, at_ms: i64) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_details(provider, Arc::new(At(at_ms)))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).unwrap(), stream).await
    }

    async fn is_good(&self, at_ms: i64) -> bool {
        self.connect(at_ms).await.is_ok()
    }

    fn look(&self, now_ms: i64) {
        if self.tls.is_due(now_ms) {
            self.tls.renew(now_ms);
        }
    }
}

async fn ask(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: hub.example\r\n\r\n").await.unwrap();
    let mut reply = Vec::new();
    while !reply.ends_with(b"\r\n\r\nok") {
        assert_ne!(stream.read_buf(&mut reply).await.unwrap(), 0, "{}", String::from_utf8_lossy(&reply));
    }
}

fn leaf(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test]
async fn a_certificate_is_renewed_long_before_it_ends_and_open_connections_go_on() {
    let scene = scene(NOW_MS).await;
    let mut old = scene.connect(NOW_MS).await.unwrap();
    ask(&mut old).await;
    let mut leaves = vec![leaf(&old)];
    // One day after the other for more than a year: what is presented is good by then, and for 58 days more at least.
    for day in 0..400 {
        let now_ms = NOW_MS + day * DAY_MS;
        scene.look(now_ms);
        let new = scene.connect(now_ms).await.unwrap();
        assert!(scene.is_good(now_ms + 58 * DAY_MS).await, "day {day}");
        if leaf(&new) != *leaves.last().unwrap() {
            leaves.push(leaf(&new));
            // The day after it was renewed, and all along.
            ask(&mut old).await;
        }
    }
    assert!((13..=14).contains(&leaves.len()), "{} certificates in 400 days", leaves.len());
    // What would have been presented without that.
    assert!(!scene.is_good(NOW_MS).await, "the last one begins later");
    ask(&mut old).await;
}

#[tokio::test]
async fn a_running_hub_looks_by_itself_and_makes_none_anew_that_is_fresh() {
    let scene = scene(NOW_MS).await;
    let first = leaf(&scene.connect(NOW_MS).await.unwrap());
    let (wall_ms, looks) = (Arc::new(AtomicI64::new(NOW_MS)), Arc::new(AtomicI64::new(0)));
    let clock = {
        let (wall_ms, looks) = (Arc::clone(&wall_ms), Arc::clone(&looks));
        move || {
            looks.fetch_add(1, Ordering::SeqCst);
            wall_ms.load(Ordering::SeqCst)
        }
    };
    let keeping = Arc::clone(&scene.tls).keep(Duration::from_millis(1), clock, scene.stopping.subscribe());
    let keeping = tokio::spawn(keeping);
    let begun = Instant::now();
    let until = async |what: &str, is: &mut dyn FnMut() -> bool| {
        while !is() {
            assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    wall_ms.store(NOW_MS + 29 * DAY_MS, Ordering::SeqCst);
    let seen = looks.load(Ordering::SeqCst);
    until("three looks", &mut || looks.load(Ordering::SeqCst) >= seen + 3).await;
    assert_eq!(leaf(&scene.connect(NOW_MS).await.unwrap()), first);
    // Asleep for longer than the certificate lasts.
    let later_ms = NOW_MS + 200 * DAY_MS;
    wall_ms.store(later_ms, Ordering::SeqCst);
    let made = || scene.tls.present.read().unwrap().made_ms;
    until("a new certificate", &mut || made() == later_ms).await;
    assert!(scene.is_good(later_ms).await && !scene.is_good(NOW_MS).await);
    // And back, as the clock of a machine without a battery for it goes.
    wall_ms.store(NOW_MS, Ordering::SeqCst);
    until("one that has begun", &mut || made() == NOW_MS).await;
    assert!(scene.is_good(NOW_MS).await && !scene.is_good(later_ms).await);
    scene.stopping.send_replace(true);
    keeping.await.unwrap();
}

#[tokio::test]
async fn an_authority_made_while_the_clock_stood_in_1970_is_good_once_it_is_right() {
    let scene = scene(20_000).await;
    scene.look(NOW_MS);
    assert!(scene.is_good(NOW_MS).await);
    // Clients other than this one look at the authority's own time too.
    let (first, last) = dates(&scene.authority);
    assert!(first.as_str() <= "200101" && last.as_str() > "450101", "from {first} to {last}");
}

/// First and last day of a certificate, YYMMDD, as they stand in it: two texts of the kind UTCTime, one behind the other.
fn dates(certificate: &[u8]) -> (String, String) {
    let is_time = |window: &[u8]| window[..2] == [0x17, 13] && window[15..17] == [0x17, 13];
    let at = certificate.windows(17).position(is_time).expect("a certificate has two times");
    let day = |at: usize| String::from_utf8(certificate[at..at + 6].to_vec()).unwrap();
    (day(at + 2), day(at + 17))
}
