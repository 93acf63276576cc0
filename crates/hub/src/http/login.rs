//! `POST /api/login`: the same login as everywhere, as one request.
//!
//! An id that is new gets its unique ID (201), which is confirmed by the first request that proves it. A known one is
//! asked for its unique ID (401, code `unique_id?`) until it brings it (200). It is logged in by neither: each request
//! carries its proof, and an open stream is the sign of life.

use super::body::{is_json, whole};
use super::problem::Problem;
use super::{Peer, Signer};
use crate::core::Hub;
use crate::counts::Via;
use crate::reception::{at_the_desk, bad_invite};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::USER_AGENT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use wire::id::{BadId, ClientId};
use wire::limits::{
    FRAME_BYTES_MAX_BEFORE_LOGIN, INVITE_BYTES_MAX, NAME_BYTES_MAX, SOFTWARE_BYTES_MAX, UNIQUE_ID_TEXT_BYTES_MAX,
};
use wire::login::{Login, Step, Then};
use wire::message::{Purpose, ToClient, ToHub};
use wire::secret::Secret;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    id: serde_json::Value,
    unique_id: Option<Secret>,
    invite: Option<Secret>,
    #[serde(default)]
    name: String,
    /// The answer that issued the unique ID never came.
    #[serde(default)]
    lost: bool,
}

#[derive(Serialize)]
struct Issued<'a> {
    id: u64,
    unique_id: &'a str,
    confirmed: bool,
    hub: &'a str,
}

#[derive(Serialize)]
struct Proved<'a> {
    id: u64,
    confirmed: bool,
    hub: &'a str,
}

/// Answers a login.
pub(super) async fn post(
    State(hub): State<Arc<Hub>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    is_json(&headers, "a login")?;
    let asked = read(&whole(body, FRAME_BYTES_MAX_BEFORE_LOGIN, "a login").await?)?;
    let id = integer(&asked.id).map_err(|bad| Problem::new(StatusCode::BAD_REQUEST, "bad_id", bad.to_string()))?;
    let software = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let software = software.chars().take(SOFTWARE_BYTES_MAX).collect();
    let mut dialogue = Dialogue::new(&hub, peer.address.ip());
    let versions = (wire::PROTOCOL_VERSION, wire::PROTOCOL_VERSION);
    dialogue.say(ToHub::Hello { versions, software, purpose: Purpose::Login }).await?;
    let claim = ToHub::Id { id: id.to_string(), invite: asked.invite.clone(), name: asked.name };
    let step = dialogue.say(claim).await?;
    if let Some(issued) = issued(&hub, id, &step) {
        return Ok(issued);
    }
    let proof = match (asked.unique_id, asked.lost) {
        (Some(unique_id), _) => ToHub::UniqueId { unique_id },
        (None, true) => ToHub::Lost,
        (None, false) => {
            if let Some(invite) = &asked.invite
                && let Some(refusal) = bad_invite(&hub, peer.address.ip(), Via::Http, id, invite).await
            {
                return Err(refusal.into());
            }
            let text =
                format!("id {id} is known, or not to be had without an invite: what is its unique ID, or the invite?");
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "unique_id?", text));
        }
    };
    let step = dialogue.say(proof).await?;
    if let Some(issued) = issued(&hub, id, &step) {
        return Ok(issued);
    }
    match step.then {
        Then::In(admitted) => {
            peer.signed_in(Signer::Client(admitted.id))?;
            Ok(Json(Proved { id: admitted.id.get(), confirmed: true, hub: &hub.name }).into_response())
        }
        _ => Err(Problem::new(StatusCode::UNAUTHORIZED, "not_proven", "the unique ID was not looked at")),
    }
}

/// The answer to who was issued a unique ID.
fn issued(hub: &Hub, id: ClientId, step: &Step) -> Option<Response> {
    step.say.iter().find_map(|said| match said {
        ToClient::Issued { unique_id } => {
            let issued = Issued { id: id.get(), unique_id: unique_id.reveal(), confirmed: false, hub: &hub.name };
            Some((StatusCode::CREATED, Json(issued)).into_response())
        }
        _ => None,
    })
}

/// One login, message by message.
struct Dialogue<'a> {
    hub: &'a Arc<Hub>,
    address: IpAddr,
    login: Login,
}

impl Dialogue<'_> {
    fn new(hub: &Arc<Hub>, address: IpAddr) -> Dialogue<'_> {
        let login = Login::new(&address.to_string(), &hub.policy(), hub.now());
        Dialogue { hub, address, login }
    }

    /// Says something and gives what comes back; an answer that is held is waited for.
    async fn say(&mut self, message: ToHub) -> Result<Step, Problem> {
        let Dialogue { hub, address, login } = self;
        let mut step = at_the_desk(hub, *address, Via::Http, login, Some(message)).await;
        loop {
            for said in &step.say {
                if let ToClient::Refused(refusal) = said {
                    return Err(refusal.clone().into());
                }
            }
            match step.then {
                Then::Wait { until } if step.say.is_empty() => {
                    tokio::time::sleep(hub.until(until)).await;
                    step = at_the_desk(hub, *address, Via::Http, login, None).await;
                }
                _ => return Ok(step),
            }
        }
    }
}

fn read(bytes: &[u8]) -> Result<Asked, Problem> {
    let bad = |text: String| Problem::new(StatusCode::BAD_REQUEST, "bad_request", text);
    // What is wrong is told, never what was there: it may be a secret.
    let wrong = |e: serde_json::Error| {
        bad(format!(
            "a login is a JSON object with id (an integer), and where there is one unique_id, invite, name (texts) or lost (true or false); wrong at line {} column {}",
            e.line(),
            e.column()
        ))
    };
    let asked: Asked = serde_json::from_slice(bytes).map_err(wrong)?;
    let within = |text: &Option<Secret>, max: usize| text.as_ref().is_none_or(|text| text.reveal().len() <= max);
    if !within(&asked.unique_id, UNIQUE_ID_TEXT_BYTES_MAX) || !within(&asked.invite, INVITE_BYTES_MAX) {
        return Err(bad(format!(
            "a unique ID has at most {UNIQUE_ID_TEXT_BYTES_MAX} bytes, an invite {INVITE_BYTES_MAX}"
        )));
    }
    if asked.name.len() > NAME_BYTES_MAX || asked.name.chars().any(char::is_control) {
        return Err(bad(format!("a name has at most {NAME_BYTES_MAX} bytes and no control characters")));
    }
    Ok(asked)
}

/// The id as JSON has it: an integer and nothing else.
fn integer(id: &serde_json::Value) -> Result<ClientId, BadId> {
    match id {
        serde_json::Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(id), _) => ClientId::new(id),
            (None, Some(_)) => Err(BadId::Sign),
            (None, None) => Err(BadId::Float),
        },
        serde_json::Value::Null => Err(BadId::Empty),
        _ => Err(BadId::NotDigits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m3_2_only_a_json_integer_is_an_id() {
        let of = |json: &str| integer(&serde_json::from_str(json).unwrap());
        assert_eq!(of("7"), ClientId::new(7));
        assert_eq!(of("9007199254740991"), Ok(ClientId::MAX));
        for (json, bad) in [
            ("\"7\"", BadId::NotDigits),
            ("\"seven\"", BadId::NotDigits),
            ("7.0", BadId::Float),
            ("7.5", BadId::Float),
            ("1e3", BadId::Float),
            ("-7", BadId::Sign),
            ("0", BadId::Zero),
            ("9007199254740992", BadId::TooLarge),
            ("true", BadId::NotDigits),
            ("[7]", BadId::NotDigits),
            ("null", BadId::Empty),
        ] {
            assert_eq!(of(json), Err(bad), "{json}");
        }
    }
}
