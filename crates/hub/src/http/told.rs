//! What the hub tells of itself: its state as JSON, its tables as pandas reads them, whether it is up, and what it is.

use super::auth::Who;
use super::percent::Query;
use super::problem::Problem;
use crate::answers;
use crate::core::Hub;
use crate::tables::Table;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use wire::answer::{ClientRow, ShareStatus, Status};
use wire::id::ClientId;

/// The document that says what is answered here; tests hold it against the answers.
const OPENAPI: &str = include_str!("openapi.json");

/// `GET /api/status`.
pub(super) async fn status(State(hub): State<Arc<Hub>>, who: Who) -> Json<Status> {
    Json(answers::status(&hub, who.access()))
}

#[derive(Serialize)]
struct Shares {
    shares: Vec<ShareStatus>,
}

/// `GET /api/shares`.
pub(super) async fn shares(State(hub): State<Arc<Hub>>, who: Who) -> impl IntoResponse {
    Json(Shares { shares: answers::status(&hub, who.access()).shares })
}

#[derive(Serialize)]
struct Clients {
    /// By id.
    clients: Vec<ClientRow>,
    /// There are more: to be given as `after`.
    next: Option<u64>,
}

/// `GET /api/clients`: the active ones, with `all=true` everybody.
pub(super) async fn clients(State(hub): State<Arc<Hub>>, who: Who, uri: Uri) -> Result<Response, Problem> {
    let query = Query::read(uri.query())?;
    let all = match query.text("all")? {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", "all is true or false")),
    };
    let after = query.number("after", 0, ClientId::MAX.get())?.unwrap_or(0);
    let (clients, more) = answers::clients(&hub, all, after, who.access());
    let next = clients.last().filter(|_| more).map(|row| row.id);
    Ok(Json(Clients { clients, next }).into_response())
}

/// `GET /clients.csv` and the others: the same bytes as the file of that name, for who may see all that is in it.
pub(super) async fn table(hub: &Arc<Hub>, who: Who, table: Table, headers: &HeaderMap) -> Result<Response, Problem> {
    let hub = Arc::clone(hub);
    let made = tokio::task::spawn_blocking(move || table.make(&hub, who.access())).await;
    let failed = |error: String| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "hub_failed", error);
    let bytes = made.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
    let etag = format!("\"{}\"", &blake3::hash(&bytes).to_hex()[..16]);
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let known = known.flat_map(|tags| tags.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == etag);
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Bytes::from(bytes).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
        response
    };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// `GET /healthz`: the hub answers.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: every share is complete, so what is given is all there is.
pub(super) async fn ready(State(hub): State<Arc<Hub>>) -> Result<&'static str, Problem> {
    let scanning = hub.shares.values().filter(|share| !share.info().complete).count();
    if scanning > 0 {
        let text = format!("{scanning} of {} shares are still being scanned", hub.shares.len());
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", text));
    }
    Ok("ready\n")
}

/// `GET /api/openapi.json`.
pub(super) async fn openapi(_who: Who) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}

/// `GET /`: what this is, for a person.
pub(super) async fn page(State(hub): State<Arc<Hub>>) -> axum::response::Html<String> {
    let name = escaped(&hub.name);
    axum::response::Html(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{name} – Lockstep hub</title></head>\n\
         <body><h1>{name}</h1>\n\
         <p>This is a Lockstep hub: it holds the latest values and directories, and keeps machines on them.</p>\n\
         <p>A machine joins with <code>lockstep join</code>. Programs use the API, signed in with an id and its unique ID \
         (HTTP Basic); <a href=\"/api/openapi.json\">/api/openapi.json</a> describes it. Tables for spreadsheets and pandas: \
         <a href=\"/clients.csv\">/clients.csv</a>, <a href=\"/server.csv\">/server.csv</a>, \
         <a href=\"/values.csv\">/values.csv</a>, <a href=\"/vitals.csv\">/vitals.csv</a>. For monitoring: \
         <a href=\"/metrics\">/metrics</a>, <a href=\"/healthz\">/healthz</a>, <a href=\"/readyz\">/readyz</a>.</p>\n\
         </body></html>\n"
    ))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_on_the_page_is_a_name_and_no_markup() {
        assert_eq!(super::escaped("<b a='\"'>&\u{7}"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;\u{fffd}");
    }

    #[test]
    fn the_document_is_json() {
        serde_json::from_str::<serde_json::Value>(super::OPENAPI).unwrap();
    }
}
