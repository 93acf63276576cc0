//! `POST /api/admin`: what a command asks through the local socket, asked over HTTP by a program with a token that administers.
//!
//! It is one mechanism: a body is a [`Question`] as JSON, its answer the [`Answer`], and what is allowed, done and put on record is
//! decided where it is for every other transport.

use super::auth::Administrator;
use super::body::{is_json, whole};
use super::problem::Problem;
use crate::answers;
use crate::core::Hub;
use crate::session::{Program, Role};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use std::sync::Arc;
use wire::answer::{Answer, Question};
use wire::check;
use wire::limits::FRAME_BYTES_MAX;

/// A question is no longer: what fits into a frame of the native transport, written out as JSON.
const QUESTION_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;

/// Answers a question.
pub(super) async fn post(
    State(hub): State<Arc<Hub>>,
    administrator: Administrator,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Answer>, Problem> {
    is_json(&headers, "a question")?;
    let body = whole(body, QUESTION_BYTES_MAX, "a question").await?;
    let bad = |text: String| Problem::new(StatusCode::BAD_REQUEST, "bad_request", text);
    let question: Question = serde_json::from_slice(&body).map_err(|e| bad(format!("this is no question: {e}")))?;
    check::in_question(&question).map_err(|e| bad(e.to_string()))?;
    let Administrator { who, token, address } = administrator;
    let role = Role::Program(Program { access: who.access().clone(), token, address: address.to_string() });
    if let Question::Wait { .. } = question {
        // It may take long: it ends with its connection, and with what let it in.
        return tokio::select! {
            answer = answers::answer(&hub, &role, question) => Ok(Json(answer?)),
            why = who.lost(&hub) => Err(Problem::new(StatusCode::FORBIDDEN, "not_allowed", why)),
        };
    }
    // What was begun is done, told to whom it concerns and put on record, whether its answer is waited for or not.
    let done = tokio::spawn(async move { answers::answer(&hub, &role, question).await });
    let failed =
        |e: tokio::task::JoinError| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "hub_failed", e.to_string());
    Ok(Json(done.await.map_err(failed)??))
}
