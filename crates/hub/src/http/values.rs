//! One value: `GET`, `PUT` and `DELETE` of `/api/values/NAME`.
//!
//! NAME is bytes, percent-encoded, and may hold `/`. A value keeps the content type it was put with. Its version is the
//! `ETag`; `If-Match` and `If-None-Match` of a change are judged by the board's one writer, so of two who change the same
//! version exactly one does.

use super::auth::{MayPut, Who};
use super::percent;
use super::problem::Problem;
use super::shown::{Named, PATH};
use crate::answers::put_refusal;
use crate::core::Hub;
use crate::data::{Condition, PutError};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use wire::limits::{VALUE_BYTES_MAX, VALUE_NAME_BYTES_MAX};
use wire::message::Content;

/// The content type of a value that came without.
const UNTYPED: &str = "application/octet-stream";

#[derive(Serialize)]
struct Changed<'a> {
    #[serde(flatten)]
    named: Named<'a>,
    version: String,
}

/// Gives a value as it was put.
pub(super) async fn get(
    State(hub): State<Arc<Hub>>,
    who: Who,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = name(&uri)?;
    let (tag, stored) = hub.data.tagged(&name, who.access())?.ok_or_else(no_value)?;
    let known = Tags::read(&headers, &IF_NONE_MATCH).is_some_and(|tags| tags.any(&tag));
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Body::from(stored.content.bytes).into_response();
        let content_type = HeaderValue::from_str(&stored.content.content_type);
        let content_type = content_type.unwrap_or(HeaderValue::from_static(UNTYPED));
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    };
    response.headers_mut().insert(ETAG, etag(&tag));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// Puts a value; it is on disk before this is answered.
pub(super) async fn put(
    State(hub): State<Arc<Hub>>,
    MayPut(who): MayPut,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = name(&uri)?;
    let condition = condition(&headers)?;
    let content_type = match headers.get(CONTENT_TYPE) {
        None => UNTYPED.to_owned(),
        Some(given) => given.to_str().map_err(|_| put_problem(&PutError::ContentType))?.trim().to_owned(),
    };
    let (bytes, who) = who.whole(&hub, body, VALUE_BYTES_MAX, "a value (a file may be larger: share it)").await?;
    let content = Content { content_type, bytes };
    let put = hub.data.put_if(name.clone(), Some(content), who.access(), condition).await;
    let put = put.map_err(|error| put_problem(&error))?;
    let status = if put.created { StatusCode::CREATED } else { StatusCode::OK };
    let etag = etag(&put.tag);
    let mut response = (status, Json(Changed { named: Named::new(&name), version: put.tag })).into_response();
    response.headers_mut().insert(ETAG, etag);
    Ok(response)
}

/// Removes a value; on disk before this is answered.
pub(super) async fn delete(
    State(hub): State<Arc<Hub>>,
    MayPut(who): MayPut,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = name(&uri)?;
    let condition = match condition(&headers)? {
        Condition::Any => Condition::Something,
        given => given,
    };
    let plain = condition == Condition::Something && !headers.contains_key(IF_MATCH);
    match hub.data.put_if(name, None, who.access(), condition).await {
        Ok(_) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(PutError::Unmet) if plain => Err(no_value()),
        Err(error) => Err(put_problem(&error)),
    }
}

/// The name that an address means.
fn name(uri: &Uri) -> Result<Bytes, Problem> {
    let escaped = uri.path().strip_prefix(PATH).unwrap_or_default();
    let name = percent::decode(escaped, false)?;
    if name.is_empty() || name.len() > VALUE_NAME_BYTES_MAX {
        return Err(put_problem(&PutError::Name(name.len())));
    }
    Ok(name.into())
}

fn no_value() -> Problem {
    Problem::not_found("there is no value of that name")
}

/// What a change is told that was not made.
fn put_problem(error: &PutError) -> Problem {
    let status = match error {
        PutError::Name(0) | PutError::ContentType => StatusCode::BAD_REQUEST,
        PutError::Name(_) => StatusCode::URI_TOO_LONG,
        PutError::Value { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        PutError::TooMany(_) | PutError::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
        PutError::Unmet => return Problem::new(StatusCode::PRECONDITION_FAILED, "changed", error.to_string()),
        PutError::Store(_) | PutError::Stopping | PutError::TooFast(..) | PutError::NotAllowed(_) => {
            return put_refusal(error).into();
        }
    };
    Problem::new(status, "limit", error.to_string())
}

fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let both = "If-Match and If-None-Match together are not understood: give one";
    match (Tags::read(headers, &IF_MATCH), Tags::read(headers, &IF_NONE_MATCH)) {
        (None, None) => Ok(Condition::Any),
        (Some(Tags::Every), None) => Ok(Condition::Something),
        (Some(Tags::These(tags)), None) => Ok(Condition::OneOf(tags)),
        (None, Some(Tags::Every)) => Ok(Condition::Nothing),
        (None, Some(Tags::These(_))) => {
            let text = "for a change, If-None-Match is understood as * only: the name must be free";
            Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", text))
        }
        (Some(_), Some(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", both)),
    }
}

/// The tags of `If-Match` or `If-None-Match`.
enum Tags {
    Every,
    These(Vec<String>),
}

impl Tags {
    fn read(headers: &HeaderMap, name: &HeaderName) -> Option<Tags> {
        let mut tags = Vec::new();
        for value in headers.get_all(name) {
            // Ours are plain characters, so no tag that holds a comma or anything odd can be one of them.
            let text = value.to_str().unwrap_or_default();
            for tag in text.split(',').map(str::trim) {
                match tag.strip_prefix("W/") {
                    None if tag == "*" => return Some(Tags::Every),
                    // A weak tag says equal enough to be shown, not the same to be changed.
                    Some(_) if name == IF_MATCH => {}
                    weak => tags.push(weak.unwrap_or(tag).trim_matches('"').to_owned()),
                }
            }
        }
        headers.contains_key(name).then_some(Tags::These(tags))
    }

    fn any(&self, tag: &str) -> bool {
        match self {
            Tags::Every => true,
            Tags::These(tags) => tags.iter().any(|given| given == tag),
        }
    }
}

fn etag(tag: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}
