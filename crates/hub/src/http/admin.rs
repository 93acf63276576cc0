//! `POST /api/admin`: what a command asks through the local socket, asked over HTTP by a program with a token that administers.
//!
//! It is one mechanism: a body is a [`Question`] as JSON, its answer the [`Answer`], and what is allowed, done and put on record is
//! decided where it is for every other transport.

use super::auth::Administrator;
use super::body::is_json;
use super::problem::Problem;
use crate::answers;
use crate::core::Hub;
use crate::session::{Program, Role};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize as _;
use serde_json::Value;
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
    let (body, administrator) = administrator.whole(&hub, body, QUESTION_BYTES_MAX, "a question").await?;
    let bad = |text: String| Problem::new(StatusCode::BAD_REQUEST, "bad_request", text);
    let question = read(&body).map_err(bad)?;
    let Administrator { who, token, address } = administrator;
    let role = Role::Program(Program { access: who.access().clone(), token, address: address.to_string() });
    if let Question::Wait { .. } = question {
        // It may take long: it ends with its connection, and with what let it in.
        return tokio::select! {
            answer = answers::to_the_end(&hub, &role, question) => Ok(Json(answer?)),
            why = who.lost(&hub) => Err(Problem::new(StatusCode::FORBIDDEN, "not_allowed", why)),
        };
    }
    Ok(Json(answers::to_the_end(&hub, &role, question).await?))
}

/// The question that a body is.
fn read(body: &[u8]) -> Result<Question, String> {
    let no_question = |e: serde_json::Error| format!("this is no question: {e}");
    let given: Value = serde_json::from_slice(body).map_err(no_question)?;
    let question = Question::deserialize(&given).map_err(no_question)?;
    if !is_named(&given, &serde_json::to_value(&question).map_err(no_question)?) {
        return Err("this is no question: there is a list where names and what they are should stand".to_owned());
    }
    check::in_question(&question).map_err(|e| e.to_string())?;
    Ok(question)
}

/// Whether there are lists only where lists were understood: as serde has it, one might stand for anything with names, told by their order.
fn is_named(given: &Value, understood: &Value) -> bool {
    match (given, understood) {
        (Value::Array(given), Value::Array(understood)) => {
            given.iter().zip(understood).all(|(given, understood)| is_named(given, understood))
        }
        (Value::Array(_), _) => false,
        (Value::Object(given), understood) => {
            given.iter().all(|(name, given)| understood.get(name).is_none_or(|understood| is_named(given, understood)))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_question_is_told_by_names_and_by_nothing_else() {
        let read = |question: Value| read(question.to_string().as_bytes());
        let change = json!({"tags": ["a", "b"], "rights": {"read": ["x*"]}});
        let import = json!({"import": {"rows": [{"id": 1, "change": change}]}});
        let Ok(Question::Import { rows, dry_run: false }) = read(import) else { panic!("not understood") };
        assert_eq!(rows[0].change.rights.read.as_deref(), Some(&["x*".to_owned()][..]));
        assert_eq!(read(json!("status")), Ok(Question::Status));
        assert_eq!(read(json!({"clients": {}})), Ok(Question::Clients { all: false, after: 0 }));
        for wrong in [
            json!({"client": [7]}),
            json!({"administer": {"id": 7, "change": []}}),
            json!({"administer": {"id": 7, "change": {"rights": [null, null]}}}),
            json!({"import": {"rows": [[1, {}]]}}),
            json!({"invite": {"uses": 1, "expires_s": 1, "ids": [1, 2]}}),
            json!({"client": {"id": 7, "ids": 8}}),
            json!({"import": {"rows": [{"id": 1, "change": {"tag": []}}]}}),
            json!({"status": 1}),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
