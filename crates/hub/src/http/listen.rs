//! The HTTP port: its connections, each within its limits from the first byte on.
//!
//! Heads and bodies are limited in size and time. Whoever does not take what it is sent is cut by the kernel, which gives
//! up on unacknowledged or unwanted bytes after [`STALL_MAX`]. A connection that never signs in is one of the strangers,
//! of whom the hub keeps a bounded number, and the first to go.

use super::guard::{self, Guard};
use super::line::{Line, Lined};
use super::tls::Tls;
use crate::counts::{Counted, Counts};
use crate::strangers::{Place, Strangers};
use axum::Router;
use axum::body::Body;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

/// Connections at a time, from everybody; a further one waits to be accepted.
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
    stranger: Arc<Mutex<Option<Place>>>,
}

impl Peer {
    /// Of a connection that just came, with its place among the strangers.
    pub(crate) fn at(address: SocketAddr, stranger: Option<Place>) -> Peer {
        Peer { address, line: Line::default(), stranger: Arc::new(Mutex::new(stranger)) }
    }

    /// Who is on it has proved who it is: it is no stranger any more.
    pub(crate) fn signed_in(&self) {
        drop(self.stranger.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    #[cfg(test)]
    pub(crate) fn is_stranger(&self) -> bool {
        self.stranger.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// What a listener shares with the rest of its hub.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) strangers: Strangers,
    pub(crate) counts: Arc<Counts>,
    /// Becomes true once, when the hub stops.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Serves `app` to who comes, until the hub stops; returns when every connection has ended.
pub(crate) async fn open(ground: Ground, listener: TcpListener, guard: Guard, tls: Option<Arc<Tls>>, app: Router) {
    let guard = Arc::new(guard);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
    let peer = Peer::at(address, Some(stranger));
    let stream = Lined::new(stream, peer.line.clone(), place, evicted_later);
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
