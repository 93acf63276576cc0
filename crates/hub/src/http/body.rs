//! Bodies: one that came is read whole up to a limit; one that is sent is made piece by piece, as it is taken.

use super::problem::Problem;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use hyper::body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// A request's body is here after this long, or the request is refused.
const BODY_MAX: Duration = Duration::from_secs(30);

/// Whether a request's body is said to be JSON; `what` is what it holds. Also so that no page of another origin can send one
/// without having asked.
///
/// # Errors
/// When it is said to be something else, or nothing is said.
pub(super) fn is_json(headers: &HeaderMap, what: &str) -> Result<(), Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let text = format!("{what} is JSON: Content-Type: application/json");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_request", text))
}

/// All of a body, never more than `bytes_max`; `what` is what it holds, for who sent too much.
///
/// # Errors
/// When it is longer (said before anything of it is read, where its length was told), slow, or cut.
pub(super) async fn whole(mut body: Body, bytes_max: usize, what: &str) -> Result<Bytes, Problem> {
    let too_long = || {
        let text = format!("{what} has at most {bytes_max} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "limit", text)
    };
    if usize::try_from(body.size_hint().lower()).map_or(true, |told| told > bytes_max) {
        return Err(too_long());
    }
    let read = async {
        let mut all = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let cut = |error: axum::Error| format!("the body did not come whole: {error}");
            let frame = frame.map_err(|e| Problem::new(StatusCode::BAD_REQUEST, "bad_request", cut(e)))?;
            let Ok(data) = frame.into_data() else { continue };
            if all.len() + data.len() > bytes_max {
                return Err(too_long());
            }
            all.extend_from_slice(&data);
        }
        Ok(Bytes::from(all))
    };
    let late = || {
        let text = format!("the body was not here within {} s", BODY_MAX.as_secs());
        Problem::new(StatusCode::REQUEST_TIMEOUT, "timed_out", text)
    };
    tokio::time::timeout(BODY_MAX, read).await.unwrap_or_else(|_| Err(late()))
}

/// A body that somebody else writes. One piece waits at most: the next is made once this one was taken.
pub(super) struct Pieces(mpsc::Receiver<Bytes>);

/// The writer's end of [`Pieces`]; it ends the body when dropped.
pub(super) type Taker = mpsc::Sender<Bytes>;

impl Pieces {
    pub(super) fn channel() -> (Taker, Body) {
        let (taker, pieces) = mpsc::channel(1);
        (taker, Body::new(Pieces(pieces)))
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
