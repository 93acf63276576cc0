//! The program for machines that have none: `GET /install` and what is below it, open to whoever comes.
//!
//! Whoever takes the program has one of a bounded number of places for a bounded time, and one piece of it in memory; whoever takes
//! nothing is cut as on every connection.

use super::Peer;
use super::body::{Pieces, Taker as Writer};
use super::problem::Problem;
use crate::core::Hub;
use crate::handout::{Handout, Offer, TAKE_MAX, Taker};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use wire::answer::Installer;

/// `GET /install`: what is handed out.
pub(super) async fn offer(State(hub): State<Arc<Hub>>) -> Result<Json<Installer>, Problem> {
    Ok(Json(offered(&hub)?.installer()?))
}

/// `GET /install/FILE`: the script, the program for this hub's kind of machine, or its SHA-256.
pub(super) async fn file(
    State(hub): State<Arc<Hub>>,
    Extension(peer): Extension<Peer>,
    Path(file): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let handout = &offered(&hub)?.handout;
    let name = handout.file_name();
    if file == Handout::SCRIPT_NAME {
        return Ok(text("text/x-shellscript; charset=utf-8", handout.script().to_owned()));
    }
    if file.strip_suffix(".sha256") == Some(&name) {
        return Ok(text("text/plain; charset=utf-8", format!("{}  {name}\n", handout.sha256())));
    }
    if file != name {
        let text = format!(
            "this hub hands out {name} alone, the program that it runs itself: for another kind of machine build it there (make build)"
        );
        return Err(Problem::not_found(text));
    }
    let etag = format!("\"{}\"", handout.sha256());
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let known = known.flat_map(|tags| tags.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == etag);
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => program(handout, peer.address, &method)?,
    };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

fn offered(hub: &Hub) -> Result<&Offer, Problem> {
    hub.offer.as_ref().map_err(|refusal| Problem::from(refusal.clone()))
}

fn text(content_type: &'static str, text: String) -> Response {
    ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache")], text).into_response()
}

/// All of the program, piece by piece.
fn program(handout: &Arc<Handout>, address: SocketAddr, method: &Method) -> Result<Response, Problem> {
    let mut response = match *method {
        Method::HEAD => StatusCode::OK.into_response(),
        _ => {
            let taker = handout.enter(address.ip())?;
            let (writer, body) = Pieces::channel();
            let handout = Arc::clone(handout);
            tokio::spawn(async move {
                let taken = tokio::time::timeout(TAKE_MAX, give(&handout, &writer, taker)).await;
                match taken {
                    Ok(Ok(true)) => tracing::info!(%address, "the program was fetched"),
                    Ok(Ok(false)) => tracing::info!(%address, "the program was not fetched to its end"),
                    Ok(Err(error)) => tracing::error!(%address, %error, "the program could not be read"),
                    Err(_) => tracing::info!(%address, "the program was fetched too slowly; cut"),
                }
            });
            body.into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(handout.bytes()));
    Ok(response)
}

/// Writes all of it as it is taken; whether it was. What ends early is shorter than its head told, and so known as cut.
async fn give(handout: &Arc<Handout>, writer: &Writer, _place: Taker) -> std::io::Result<bool> {
    let mut at = 0;
    while at < handout.bytes() {
        let from = Arc::clone(handout);
        let piece = tokio::task::spawn_blocking(move || from.piece(at)).await.map_err(std::io::Error::other)??;
        if piece.is_empty() {
            return Err(std::io::Error::other("it is shorter than it was"));
        }
        at += piece.len() as u64;
        if writer.send(Bytes::from(piece)).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}
