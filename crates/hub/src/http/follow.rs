//! Following values over HTTP: from a cursor to the newest, in one answer, by waiting for it, or as a stream.
//!
//! `GET /api/values?prefix=&since=` gives a page; with `wait` it is answered once there is something new (a long poll);
//! with `Accept: text/event-stream` it never ends (server-sent events). All three are a [`Follower`] of the board, so a
//! slow reader gets the newest and nothing piles up for it.

use super::auth::Who;
use super::percent::Query;
use super::problem::Problem;
use super::{events, shown};
use crate::access::Access;
use crate::core::Hub;
use crate::counts::{Counts, Via};
use crate::cursor::{self, Passage};
use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use board::{Batch, Cursor, Follower, Limits, Mark, Pattern};
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use wire::limits::VALUE_NAME_BYTES_MAX;
use wire::message::Refusal;

/// The board that is followed here.
const BOARD: &str = "data";
/// What a browser's `EventSource` sends when it comes back.
const LAST_EVENT_ID: &str = "last-event-id";
/// The longest that a poll waits.
const WAIT_S_MAX: u64 = 60;
/// Entries of one page, unless fewer are asked for.
const PAGE_ENTRIES_MAX: u64 = 1000;
/// Bytes of the names and values of one page; beyond it at most one entry goes.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Someone's way through the values.
pub(super) struct Following {
    follower: Follower,
    counts: Arc<Counts>,
    pub(super) passage: Passage,
    awake: Arc<Notify>,
    /// The board's, of which the values' tags are made.
    pub(super) epoch: u128,
    /// What was held before does not count any more.
    pub(super) reset: bool,
}

impl Following {
    fn begin(hub: &Hub, pattern: Pattern, since: Option<Cursor>, to: &Access) -> Result<Following, Refusal> {
        let (what, pattern) = hub.to_follow(BOARD, pattern, to)?;
        let awake = Arc::new(Notify::new());
        what.wakers.add(&awake);
        let follower = Follower::new(&what.board, pattern, since.clone());
        let passage = Passage::begin(BOARD, &follower, since);
        let (epoch, reset) = (what.board.version().epoch, follower.start().reset);
        Ok(Following { follower, counts: Arc::clone(&hub.counts), passage, awake, epoch, reset })
    }

    /// The next entries, or where it stands; `None` at the newest.
    pub(super) fn next(&mut self, limits: Limits) -> Option<Batch> {
        let batch = self.follower.next(limits)?;
        self.counts.told(Via::Http).sent(&batch, self.follower.pattern());
        Some(batch)
    }

    /// Resolves when there may be something new; at once, if there was since it was last looked.
    pub(super) async fn changed(&self) {
        self.awake.notified().await;
    }
}

#[derive(Serialize)]
struct Page {
    /// Values, and names that are gone, in the order of their changes or, on a first way, of their names.
    values: Vec<Box<RawValue>>,
    /// To be given as `since` next time.
    next: String,
    /// There is nothing newer.
    current: bool,
    /// What was given before does not count any more: this page begins anew.
    reset: bool,
}

/// `GET /api/values`.
pub(super) async fn get(
    State(hub): State<Arc<Hub>>,
    who: Who,
    peer: axum::Extension<super::Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = Query::read(uri.query())?;
    let pattern = pattern(&query)?;
    let wait_s = query.number("wait", 0, WAIT_S_MAX)?.unwrap_or(0);
    let entries = query.number("limit", 1, PAGE_ENTRIES_MAX)?.unwrap_or(PAGE_ENTRIES_MAX);
    let since = query.text("since")?.filter(|text| !text.is_empty());
    if wants_events(&headers) {
        // Who comes back says where it was by its header; the address still says where it began.
        let last = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or("-")).filter(|id| !id.is_empty());
        let since = since_cursor(last.or(since), &pattern)?;
        let following = Following::begin(&hub, pattern, since, who.access())?;
        return events::stream(hub, who, &peer, &headers, following).await;
    }
    let since = since_cursor(since, &pattern)?;
    let came_back = since.is_some();
    let mut following = Following::begin(&hub, pattern, since, who.access())?;
    let limits = Limits { entries: usize::try_from(entries).unwrap_or(usize::MAX), bytes: PAGE_BYTES_MAX };
    let mut page = fill(&mut following, limits);
    if wait_s > 0 && page.values.is_empty() && !page.reset {
        page = tokio::select! {
            page = wait(&hub, &mut following, limits, Duration::from_secs(wait_s)) => page,
            why = who.lost(&hub) => return Err(Problem::new(StatusCode::UNAUTHORIZED, "not_proven", why)),
        };
    }
    page.reset &= came_back;
    let comeback_ms = (wait_s > 0 && *hub.stopping.borrow()).then(|| hub.farewell.refusal().retry_ms).flatten();
    let mut response = Json(page).into_response();
    if let Some(comeback_ms) = comeback_ms {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(comeback_ms.div_ceil(1000)));
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Looks again whenever something was put, until there is something, time is up, or the hub stops.
async fn wait(hub: &Hub, following: &mut Following, limits: Limits, span: Duration) -> Page {
    let mut stopping = hub.stopping.subscribe();
    let over = tokio::time::sleep(span);
    tokio::pin!(over);
    loop {
        let last = tokio::select! {
            () = following.changed() => false,
            () = &mut over => true,
            _ = stopping.wait_for(|stop| *stop) => true,
        };
        let page = fill(following, limits);
        if last || !page.values.is_empty() {
            return page;
        }
    }
}

/// What there is by now, up to the limits.
fn fill(following: &mut Following, limits: Limits) -> Page {
    let (mut values, mut bytes, mut current) = (Vec::new(), 0, false);
    while values.len() < limits.entries && bytes < limits.bytes {
        let left = Limits { entries: limits.entries - values.len(), bytes: limits.bytes - bytes };
        let Some(batch) = following.next(left) else {
            current = true;
            break;
        };
        for record in &batch.records {
            if let Some((_, json)) = shown::json(following.epoch, record) {
                bytes += json.get().len();
                values.push(json);
            }
        }
        following.passage.passed_all(&batch);
        current = matches!(batch.mark, Mark::Live { current: true, .. });
        if current {
            break;
        }
    }
    Page { values, next: following.passage.text(), current, reset: following.reset }
}

fn pattern(query: &Query) -> Result<Pattern, Problem> {
    let mut pattern = query.bytes("prefix")?.unwrap_or_default().to_vec();
    if pattern.len() > VALUE_NAME_BYTES_MAX {
        let text = format!("a prefix has at most {VALUE_NAME_BYTES_MAX} bytes: no name is longer");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", text));
    }
    pattern.push(b'*');
    Pattern::parse(pattern).map_err(|e| Problem::new(StatusCode::BAD_REQUEST, "bad_request", e.to_string()))
}

fn since_cursor(text: Option<&str>, pattern: &Pattern) -> Result<Option<Cursor>, Problem> {
    let Some(text) = text else { return Ok(None) };
    cursor::read(text, BOARD, pattern.as_bytes())
        .map_err(|e| Problem::new(StatusCode::BAD_REQUEST, "bad_cursor", e.to_string()))
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream"))
}
