//! HTTP: what a browser, `curl` or a monitoring system asks of a hub, on a port of its own.
//!
//! Connections are accepted by [`listen`], not by a framework, so that each has its limits from the first byte on and can
//! be cut by whoever serves it ([`Peer`]). What is answered is in the modules below; who asks is found out by [`auth`].

mod admin;
mod auth;
mod body;
mod events;
mod follow;
mod guard;
mod install;
mod line;
mod listen;
mod login;
mod metrics;
mod percent;
mod port;
mod problem;
mod shown;
mod signed;
mod tls;
mod told;
mod values;

pub use guard::Origin;
pub(crate) use guard::{CorsOrigins, Guard};
pub(crate) use listen::{Ground, Peer, open};
pub use port::HttpConfig;
pub(crate) use port::Port;
pub(crate) use problem::Problem;
pub(crate) use signed::Signer;
pub use tls::TlsError;
pub(crate) use tls::{Source, Tls, read_chain, usable};

use crate::core::Hub;
use crate::socketio::SocketIo;
use crate::tables::Table;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use std::sync::Arc;

/// Everything that is answered over HTTP.
fn routes(hub: Arc<Hub>, socketio: &SocketIo) -> Router {
    let table = |table| {
        get(move |State(hub): State<Arc<Hub>>, who: auth::Who, headers: HeaderMap| async move {
            told::table(&hub, who, table, &headers).await
        })
    };
    Router::new()
        .route_service(SocketIo::PATH, socketio.service())
        .route("/", get(told::page))
        .route("/healthz", get(told::health))
        .route("/install", get(install::offer))
        .route("/install/{file}", get(install::file))
        .route("/readyz", get(told::ready))
        .route("/metrics", get(metrics::get))
        .route("/api/openapi.json", get(told::openapi))
        .route("/api/login", post(login::post))
        .route("/api/admin", post(admin::post))
        .route("/api/status", get(told::status))
        .route("/api/clients", get(told::clients))
        .route("/api/shares", get(told::shares))
        .route("/api/values", get(follow::get))
        .route("/api/values/{*name}", get(values::get).put(values::put).delete(values::delete))
        .route("/clients.csv", table(Table::Clients))
        .route("/server.csv", table(Table::Server))
        .route("/values.csv", table(Table::Values))
        .route("/vitals.csv", table(Table::Vitals))
        .fallback(|| async { Problem::not_found("there is nothing here; the API is below /api/") })
        .method_not_allowed_fallback(|| async {
            let text = "this address does not take that method; the Allow header has those it takes";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "bad_method", text)
        })
        .with_state(hub)
}
