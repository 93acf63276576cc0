//! Before the engine: notes which connection belongs to which session, bounds who has not logged in, and turns away who was cut.

use super::track::{Track, Tracks};
use crate::http::{Peer, Problem};
use crate::limits::Live;
use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::Service;

/// The answer to a handshake is no longer than this.
const HANDSHAKE_BYTES_MAX: usize = 4096;
/// A request's body is here, and taken, after this long, or the request is refused.
const BODY_MAX: Duration = Duration::from_secs(30);
/// When it is worth trying again, in seconds.
const RETRY_S: &str = "2";

/// An engine behind its guard.
#[derive(Clone)]
pub(crate) struct Guard<E> {
    tracks: Arc<Tracks>,
    engine: E,
}

/// What the engine asks for paths that are not its own; none of them is routed to it.
#[derive(Clone)]
pub(crate) struct NotHere;

impl Service<Request> for NotHere {
    type Response = Response;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        std::future::ready(Ok(StatusCode::NOT_FOUND.into_response()))
    }
}

impl<E, B> Service<Request> for Guard<E>
where
    E: Service<Request, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}

impl<E> Guard<E> {
    pub(super) fn new(engine: E, limits: Arc<Live>) -> Guard<E> {
        Guard { tracks: Tracks::new(limits), engine }
    }
}

impl<E, B> Guard<E>
where
    E: Service<Request, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    async fn answer(mut self, mut request: Request) -> Response {
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            return (StatusCode::INTERNAL_SERVER_ERROR, "the connection has no address").into_response();
        };
        let (sid, polling) = {
            let query = request.uri().query().unwrap_or_default();
            let field = |name: &str| query.split('&').find_map(|field| field.strip_prefix(name));
            (field("sid=").map(str::to_owned), field("transport=") == Some("polling"))
        };
        if let Some(sid) = sid {
            let poll = polling && request.method() == Method::GET;
            let upgrade = !polling;
            let known = self.tracks.find(&sid);
            match known.as_ref().map(|track| track.request(&peer, poll, upgrade)) {
                None | Some(Ok(true)) => {}
                Some(Ok(false)) => return unknown_session(),
                Some(Err(full)) => return Problem::from(full).into_response(),
            }
            let pending = known.filter(|_| poll).map(Pending::new);
            let response = self.engine(request).await;
            pending.into_iter().for_each(Pending::answered);
            return response;
        }
        let address = peer.address;
        let Some(track) = Tracks::begin(&self.tracks, peer) else {
            tracing::warn!(%address, "a Socket.IO session was refused: too many wait to log in");
            let text = "too many wait to log in: try again in a moment";
            return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_S)], text).into_response();
        };
        request.extensions_mut().insert(Arc::clone(&track));
        let response = self.engine(lean(request)).await;
        if !polling || response.status() != StatusCode::OK {
            return response;
        }
        // The engine does not tell otherwise which id it gave.
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, HANDSHAKE_BYTES_MAX).await.unwrap_or_default();
        if let Some(sid) = session_id(&bytes) {
            track.named(&sid);
        }
        Response::from_parts(parts, Body::from(bytes))
    }

    async fn engine(&mut self, request: Request) -> Response {
        let sends = request.method() == Method::POST;
        let answer = self.engine.call(request);
        let answered = match sends {
            true => tokio::time::timeout(BODY_MAX, answer).await,
            false => Ok(answer.await),
        };
        match answered {
            Ok(Ok(response)) => response.map(Body::new),
            Ok(Err(never)) => match never {},
            Err(_) => (StatusCode::REQUEST_TIMEOUT, "the request did not come whole in time").into_response(),
        }
    }
}

/// What the engine may look at of a session's first request.
const HEADERS: [HeaderName; 5] = [
    header::CONNECTION,
    header::CONTENT_TYPE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::UPGRADE,
];

/// A session's first request without what nobody needs, and with copies of the rest: the engine keeps its head for as long as the
/// session lives, and what stands in there shares the 8 KiB that were read from the connection, and keeps these as well.
fn lean(request: Request) -> Request {
    let (mut parts, body) = request.into_parts();
    let copied = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).ok();
    let found = |name: HeaderName| parts.headers.get(&name).and_then(copied).map(|value| (name, value));
    parts.headers = HEADERS.into_iter().filter_map(found).collect();
    // It was read from a text that is the same.
    parts.uri = parts.uri.to_string().parse().unwrap_or(parts.uri);
    Request::from_parts(parts, body)
}

/// A poll that waits. Who gives it up is gone, so its session need not be waited for until it answers no ping; and stock servers
/// end one as well. Unless it goes on by WebSocket: then polls end by and by.
struct Pending {
    track: Arc<Track>,
    answered: bool,
}

impl Pending {
    fn new(track: Arc<Track>) -> Pending {
        Pending { track, answered: false }
    }

    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.answered && !self.track.is_websocket() {
            self.track.cut();
        }
    }
}

/// The session's id in the answer to a handshake: `0{"sid":"...",...}`.
fn session_id(answer: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Open {
        sid: String,
    }
    serde_json::from_slice::<Open>(answer.strip_prefix(b"0")?).ok().map(|open| open.sid)
}

/// What the engine says of a session that it does not know; stock clients begin a new one.
fn unknown_session() -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::BAD_REQUEST, json, r#"{"code":1,"message":"Session ID unknown"}"#).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_keeps_of_a_first_request_shares_no_memory_with_what_was_read() {
        let read = Bytes::from(b"/socket.io/?EIO=4 dGhlIHNhbXBsZSBub25jZQ== a secret".to_vec());
        let (uri, key, secret) = (read.slice(..17), read.slice(18..42), read.slice(43..));
        let value = |bytes| HeaderValue::from_maybe_shared(bytes).unwrap();
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = axum::http::Uri::from_maybe_shared(uri).unwrap();
        request.headers_mut().insert(header::SEC_WEBSOCKET_KEY, value(key));
        request.headers_mut().insert(header::COOKIE, value(secret));
        assert!(!read.is_unique());
        let lean = lean(request);
        assert!(read.is_unique());
        assert_eq!(lean.uri(), "/socket.io/?EIO=4");
        assert_eq!(lean.headers().len(), 1);
        assert_eq!(lean.headers()[header::SEC_WEBSOCKET_KEY], "dGhlIHNhbXBsZSBub25jZQ==");
    }

    #[test]
    fn the_session_is_known_by_the_answer_to_its_handshake() {
        assert_eq!(session_id(br#"0{"sid":"AAAB","upgrades":["websocket"]}"#).as_deref(), Some("AAAB"));
        assert_eq!(session_id(b"1"), None);
    }
}
