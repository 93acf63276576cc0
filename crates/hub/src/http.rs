//! HTTP: what a browser, `curl` or a monitoring system asks of a hub, on a port of its own.
//!
//! Connections are accepted here, not by a framework, so that each has its limits from the first byte on and can be cut
//! by whoever serves it ([`Peer`]). What is answered is in the modules below; who asks is found out by [`auth`].

mod auth;
mod problem;

use crate::core::Hub;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use problem::Problem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tower::ServiceExt;
use wire::limits::SILENCE_MAX;

/// Connections at a time, from everybody; a further one waits to be accepted.
const CONNECTIONS_MAX: usize = 20_000;
/// A request's head is here after this long, or the connection ends.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// A request's head is no longer than this.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// After a failed accept (no descriptors left) the next is tried after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The other end of a request's connection; among the request's extensions.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    cut: Arc<Notify>,
}

impl Peer {
    /// Cuts the connection, without another word.
    #[expect(dead_code, reason = "for transports that cannot close a connection themselves")]
    pub(crate) fn cut(&self) {
        self.cut.notify_one();
    }
}

/// Everything that is answered over HTTP.
fn routes(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/api/status", get(status))
        .fallback(|| async { Problem::not_found("there is nothing here; the API is below /api/") })
        .with_state(hub)
}

async fn status(State(hub): State<Arc<Hub>>, _who: auth::Who) -> impl IntoResponse {
    axum::Json(crate::answers::status(&hub))
}

/// Serves who comes, until the hub stops; returns when every connection has ended.
pub(crate) async fn open(hub: Arc<Hub>, listener: TcpListener) {
    let app = routes(Arc::clone(&hub));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut stopping = hub.stopping.subscribe();
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
                let (hub, app) = (Arc::clone(&hub), app.clone());
                connections.spawn(async move {
                    serve(&hub, app, stream, address).await;
                    drop(place);
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

async fn serve(hub: &Hub, app: Router, stream: TcpStream, address: SocketAddr) {
    if let Err(error) = tune(&stream) {
        tracing::debug!(%address, %error, "the connection could not be tuned");
    }
    let peer = Peer { address, cut: Arc::default() };
    let cut = Arc::clone(&peer.cut);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer.clone());
        app.clone().oneshot(request.map(Body::new))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let mut stopping = hub.stopping.subscribe();
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = cut.notified() => return,
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

/// What is under way when the hub stops may take this much longer.
const GOODBYE_MAX: Duration = Duration::from_millis(500);

fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(SILENCE_MAX))
}
