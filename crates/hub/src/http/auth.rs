//! Who sent a request: an id and its unique ID, as HTTP's Basic scheme carries them.

use super::Peer;
use super::problem::Problem;
use crate::core::Hub;
use crate::reception;
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use std::sync::Arc;
use wire::id::ClientId;
use wire::message::Code;
use wire::secret::Secret;

/// Who proved with this request who it is. It is not logged in by it.
#[derive(Clone)]
pub(crate) struct Who {
    /// The client's id.
    pub(crate) id: u64,
}

impl Who {
    /// The client that this is, if it is one.
    pub(crate) fn client(&self) -> Option<ClientId> {
        ClientId::new(self.id).ok()
    }
}

/// As [`Who`], and it may change something.
pub(crate) struct MayPut(pub(crate) Who);

impl FromRequestParts<Arc<Hub>> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Problem> {
        let Some(peer) = parts.extensions.get::<Peer>() else {
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "hub_failed", "the connection has no address"));
        };
        let (id, unique_id) = basic(&parts.headers).ok_or_else(|| {
            let text = "sign in with your id as the user and your unique ID as the password (HTTP Basic)";
            Problem::new(StatusCode::UNAUTHORIZED, "not_proven", text)
        })?;
        let proved = reception::prove(hub, peer.address.ip(), &id, unique_id.reveal()).await;
        // What is no id proves nothing either.
        let id = proved.map_err(|refusal| match refusal.code {
            Code::BadId => Problem::new(StatusCode::UNAUTHORIZED, "bad_id", refusal.text),
            _ => Problem::from(refusal),
        })?;
        peer.signed_in();
        Ok(Who { id: id.get() })
    }
}

impl FromRequestParts<Arc<Hub>> for MayPut {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Problem> {
        Who::from_request_parts(parts, hub).await.map(MayPut)
    }
}

/// User and password of the Basic scheme (RFC 7617).
fn basic(headers: &HeaderMap) -> Option<(String, Secret)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(data_encoding::BASE64.decode(encoded.trim().as_bytes()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.into()))
}
