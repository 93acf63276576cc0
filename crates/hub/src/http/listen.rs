//! The HTTP port: its connections, each within its limits from the first byte on.
//!
//! Heads and bodies are limited in size and time. Whoever does not take what it is sent is cut by the kernel, which gives
//! up on unacknowledged or unwanted bytes after [`STALL_MAX`]. A connection that never signs in is one of the strangers,
//! of whom the hub keeps a bounded number, and the first to go; one that has is one of a bounded number of its signer.

use super::guard::{self, Guard};
use super::line::{Line, Lined};
use super::signed::{self, Signed, Signer};
use super::tls::Tls;
use crate::counts::{Counted, Counts};
use crate::strangers::{Place, Strangers};
use axum::Router;
use axum::body::Body;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;
use wire::message::Refusal;

/// Connections at a time, from everybody; a further one waits to be accepted. They are fewer where the system gives fewer open
/// files: see [`connections_max`].
const CONNECTIONS_MAX: usize = 20_000;
/// A request's head is here after this long, or the connection ends; so does one that asks nothing more.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// A request's head is no longer than this; of an answer no more is kept before it is written.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes that the kernel may hold unsent for a client: what is in there can no longer be replaced by something newer.
const UNSENT_BYTES_MAX: u32 = 128 << 10;
/// What was sent and is not taken for this long ends the connection. With a sign of life every
/// [`wire::limits::PING_EVERY`], a dead reader of a stream is found within [`wire::limits::SILENCE_MAX`].
const STALL_MAX: Duration = Duration::from_secs(10);
/// After a failed accept (no descriptors left) the next is tried after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// What is under way when the hub stops may take this much longer.
const GOODBYE_MAX: Duration = Duration::from_millis(500);

/// The other end of a request's connection; among the request's extensions.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Its byte stream.
    pub(crate) line: Line,
    signed: Signed,
    among: Arc<Mutex<Among>>,
}

/// Among whom a connection counts.
#[derive(Default)]
struct Among {
    stranger: Option<Place>,
    signer: Option<signed::Place>,
    /// It has ended, and counts nowhere.
    ended: bool,
}

impl Peer {
    /// Of a connection that just came, with its place among the strangers, and where it is to count once it is none.
    pub(super) fn new(address: SocketAddr, stranger: Option<Place>, signed: Signed) -> Peer {
        let among = Among { stranger, ..Among::default() };
        Peer { address, line: Line::default(), signed, among: Arc::new(Mutex::new(among)) }
    }

    #[cfg(test)]
    pub(crate) fn at(address: SocketAddr, stranger: Option<Place>) -> Peer {
        Peer::new(address, stranger, Signed::default())
    }

    /// Who is on it has proved who it is: it is no stranger any more, but one of its signer's.
    ///
    /// # Errors
    /// When that one has too many. It counts as what it was then.
    pub(crate) fn signed_in(&self, signer: Signer) -> Result<(), Refusal> {
        let mut among = self.among();
        if among.ended || among.signer.as_ref().is_some_and(|place| place.signer == signer) {
            return Ok(());
        }
        among.signer = Some(self.signed.enter(signer)?);
        among.stranger = None;
        Ok(())
    }

    fn among(&self) -> MutexGuard<'_, Among> {
        self.among.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another connection to the same port.
    #[cfg(test)]
    pub(crate) fn beside(&self) -> Peer {
        Peer::new(self.address, None, self.signed.clone())
    }

    #[cfg(test)]
    pub(crate) fn is_stranger(&self) -> bool {
        self.among().stranger.is_some()
    }
}

/// Kept by a connection's stream: once that is gone it counts nowhere, whoever still remembers its [`Peer`].
struct UntilGone(Peer);

impl Drop for UntilGone {
    fn drop(&mut self) {
        *self.0.among() = Among { ended: true, ..Among::default() };
    }
}

/// How many connections are served at a time, by how many files may be open: half of them, so that there are always some for
/// agents, for commands of this machine, and for what the hub keeps.
fn connections_max(files: Option<u64>) -> usize {
    let half = usize::try_from(files.unwrap_or(u64::MAX) / 2).unwrap_or(usize::MAX);
    half.clamp(1, CONNECTIONS_MAX)
}

/// What a listener shares with the rest of its hub.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) strangers: Strangers,
    pub(crate) counts: Arc<Counts>,
    pub(crate) signed: Signed,
    /// Becomes true once, when the hub stops.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Serves `app` to who comes, until the hub stops; returns when every connection has ended.
pub(crate) async fn open(ground: Ground, listener: TcpListener, guard: Guard, tls: Option<Arc<Tls>>, app: Router) {
    let guard = Arc::new(guard);
    let most = connections_max(getrlimit(Resource::Nofile).current);
    if most < CONNECTIONS_MAX {
        tracing::info!(most, "fewer connections are served over HTTP at a time, for few files may be open (ulimit -n)");
    }
    let places = Arc::new(Semaphore::new(most));
    let mut connections = JoinSet::new();
    let mut stopping = ground.stopping.clone();
    loop {
        let accepted = tokio::select! {
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            (Ok(place), Ok((stream, address))) => {
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                let (ground, app, guard) = (ground.clone(), app.clone(), Arc::clone(&guard));
                let stranger = ground.strangers.enter(address.ip());
                let acceptor = tls.as_ref().map(|tls| tls.acceptor());
                connections.spawn(async move {
                    let stream = Counted::new(tuned(stream, address), &ground.counts.http);
                    match acceptor {
                        None => serve(&ground, app, &guard, stream, address, stranger, place).await,
                        Some(acceptor) => {
                            let shaken = tokio::select! {
                                shaken = tokio::time::timeout(HEAD_MAX, acceptor.accept(stream)) => shaken,
                                () = stranger.evicted() => return,
                            };
                            match shaken {
                                Ok(Ok(stream)) => serve(&ground, app, &guard, stream, address, stranger, place).await,
                                Ok(Err(error)) => tracing::debug!(%address, %error, "no TLS handshake"),
                                Err(_) => tracing::debug!(%address, "no TLS handshake in time"),
                            }
                        }
                    }
                });
            }
            (_, Err(error)) => {
                tracing::error!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
            (Err(_), _) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve<S>(
    ground: &Ground,
    app: Router,
    guard: &Guard,
    stream: S,
    address: SocketAddr,
    stranger: Place,
    place: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let evicted = stranger.evicted();
    // After an upgrade nothing here waits any more: then the stream itself ends.
    let evicted_later = stranger.evicted();
    let peer = Peer::new(address, Some(stranger), ground.signed.clone());
    let kept = (place, UntilGone(peer.clone()));
    let stream = Lined::new(stream, peer.line.clone(), kept, evicted_later);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let app = app.clone();
        async move {
            let origin = guard::origin(&request);
            let mut response = match guard.answer(&request) {
                Some(response) => response,
                None => app.oneshot(request.map(Body::new)).await?,
            };
            guard.adorn(origin.as_ref(), &mut response);
            ground.counts.answered(response.status().as_u16());
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let mut stopping = ground.stopping.clone();
    let ended = tokio::select! {
        biased;
        () = evicted => {
            tracing::info!(%address, "cut: too many wait to sign in, and this one waited longest");
            return;
        }
        ended = &mut connection => Some(ended),
        _ = stopping.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(GOODBYE_MAX, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "an HTTP connection ended");
    }
}

fn tuned(stream: TcpStream, address: SocketAddr) -> TcpStream {
    if let Err(error) = tune(&stream) {
        tracing::debug!(%address, %error, "the connection could not be tuned");
    }
    stream
}

fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.set_tcp_user_timeout(Some(STALL_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Limits, Live};
    use crate::strangers::Strangers;
    use wire::id::ClientId;

    #[test]
    fn half_of_the_files_that_may_be_open_are_left_to_others() {
        for (files, most) in
            [(None, CONNECTIONS_MAX), (Some(1 << 20), CONNECTIONS_MAX), (Some(1200), 600), (Some(0), 1)]
        {
            assert_eq!(connections_max(files), most, "{files:?}");
        }
    }

    #[test]
    fn a_connection_counts_as_a_strangers_or_its_signers_and_as_nobodys_once_it_is_gone() {
        let strangers = Strangers::new(Arc::new(Live::new(Limits::default())));
        let address: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let signed = Signed::default();
        let connect = || Peer::new(address, Some(strangers.enter(address.ip())), signed.clone());
        let [first, second] = [7, 8].map(|id| Signer::Client(ClientId::new(id).unwrap()));
        let peers: Vec<Peer> = (0..signed::CONNECTIONS_OF_ONE_MAX).map(|_| connect()).collect();
        let one_more = connect();
        for peer in &peers {
            // Twice is once.
            assert!(peer.signed_in(first).is_ok() && peer.signed_in(first).is_ok());
        }
        assert_eq!(strangers.counts().0, 1);
        assert!(one_more.signed_in(first).is_err() && one_more.is_stranger());
        // Connections of a proxy are now one's, now another's.
        assert!(peers[0].signed_in(second).is_ok() && one_more.signed_in(first).is_ok());
        assert!(peers[0].signed_in(first).is_err() && !peers[0].is_stranger());
        drop(UntilGone(one_more.clone()));
        assert!(peers[0].signed_in(first).is_ok());
        // It is remembered by a session that logs in just now.
        assert!(one_more.signed_in(first).is_ok());
        assert!(connect().signed_in(second).is_ok());
        assert_eq!(strangers.counts().0, 0);
    }
}
