//! Who sent a request: an id and its unique ID, as HTTP's Basic scheme carries them, or a bearer token.

use super::problem::Problem;
use super::{Peer, Signer, body};
use crate::access::Access;
use crate::audit::Entry;
use crate::clock;
use crate::core::Hub;
use crate::reception;
use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wire::bearer::{Bearer, BearerHash};
use wire::id::ClientId;
use wire::message::Code;
use wire::roster::Known;
use wire::secret::Secret;

/// A token's end is looked for at least this often, as the wall clock that it is told by may be set.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Who proved with this request who it is. It is not logged in by it.
#[derive(Clone)]
pub(crate) struct Who {
    client: Option<ClientId>,
    may_put: bool,
    administers: bool,
    token: Option<BearerHash>,
    /// Whose connections that of this request is among.
    signer: Signer,
    /// As of this request.
    access: Access,
}

impl Who {
    /// The client that this is; `None` for the hub's own machine.
    pub(crate) fn client(&self) -> Option<ClientId> {
        self.client
    }

    /// What it may.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// By its unique ID. Over HTTP nobody administers by that, whoever it is: browsers remember it, and send it along.
    fn by_unique_id(hub: &Hub, client: ClientId) -> Who {
        let who = Who {
            client: Some(client),
            may_put: true,
            administers: false,
            token: None,
            signer: Signer::Client(client),
            access: Access::everything(),
        };
        Who { access: who.access_now(hub), ..who }
    }

    fn access_now(&self, hub: &Hub) -> Access {
        let access = self.client.map_or_else(Access::everything, |id| hub.access_of(id));
        access.by_request(self.may_put, self.administers)
    }

    /// Resolves when it would not be let in any more: its token's time is over, or it or its token was revoked.
    pub(crate) async fn lost(&self, hub: &Hub) -> &'static str {
        let mut revoked = hub.revoked.subscribe();
        loop {
            let Some(left) = self.time_left(hub) else { return "it is not let in any more" };
            if self.access_now(hub) != self.access {
                return "what it may was changed: it is to come in anew";
            }
            tokio::select! {
                moved = revoked.changed() => if moved.is_err() { return "the hub is stopping" },
                () = clock::sleep(left.min(LOOK_EVERY)) => {}
            }
        }
    }

    /// It as it is now, and what it may by now: to be asked after whatever took a while.
    ///
    /// # Errors
    /// When it would not be let in any more.
    pub(super) fn still(self, hub: &Hub) -> Result<Who, Problem> {
        if self.time_left(hub).is_none() {
            return Err(not_proven("not_proven", "it is not let in any more"));
        }
        Ok(Who { access: self.access_now(hub), ..self })
    }

    /// All of the body that it sends, as [`body::whole`], and what it may once that is here: a body may come slowly, and
    /// meanwhile it may be revoked, or be allowed less.
    ///
    /// # Errors
    /// Those of [`body::whole`]; and as soon as it is not let in any more.
    pub(super) async fn whole(
        mut self,
        hub: &Hub,
        body: Body,
        bytes_max: usize,
        what: &str,
    ) -> Result<(Bytes, Who), Problem> {
        let read = body::whole(body, bytes_max, what);
        tokio::pin!(read);
        let bytes = loop {
            tokio::select! {
                read = &mut read => break read?,
                _ = self.lost(hub) => {}
            }
            self = self.still(hub)?;
        };
        Ok((bytes, self.still(hub)?))
    }

    fn time_left(&self, hub: &Hub) -> Option<Duration> {
        let (roster, now_ms) = (hub.roster(), clock::now_ms());
        if let Some(hash) = &self.token {
            let left_ms = roster.token(hash, now_ms)?.expires_at_ms - now_ms;
            return Some(Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)));
        }
        let revoked = self.client.and_then(|id| roster.client(id)).is_none_or(|c| matches!(c.known, Known::Revoked));
        (!revoked).then_some(Duration::MAX)
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
        let who = match Credentials::read(&parts.headers) {
            Some(Credentials::Bearer(token)) => by_token(hub, peer.address.ip(), &token)?.0,
            Some(Credentials::Basic(id, unique_id)) => {
                let proved = reception::prove(hub, peer.address.ip(), &id, unique_id.reveal()).await;
                // What is no id proves nothing either.
                let id = proved.map_err(|refusal| match refusal.code {
                    Code::BadId => not_proven("bad_id", &refusal.text),
                    _ => Problem::from(refusal),
                })?;
                Who::by_unique_id(hub, id)
            }
            None => {
                let text = "sign in with your id as the user and your unique ID as the password (HTTP Basic), or with a \
                            token of `lockstep token` (Authorization: Bearer TOKEN)";
                return Err(not_proven("not_proven", text));
            }
        };
        peer.signed_in(who.signer)?;
        Ok(who)
    }
}

impl FromRequestParts<Arc<Hub>> for MayPut {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Problem> {
        let who = Who::from_request_parts(parts, hub).await?;
        if who.may_put {
            return Ok(MayPut(who));
        }
        let text = "this token may only read: make one that may change values with `lockstep token --put`";
        Err(Problem::new(StatusCode::FORBIDDEN, "not_allowed", text))
    }
}

/// A program that may administer: whose token says so, and who signs in by it may.
pub(super) struct Administrator {
    pub(super) who: Who,
    /// What its token is called.
    pub(super) token: String,
    pub(super) address: IpAddr,
}

impl Administrator {
    /// As [`Who::whole`].
    ///
    /// # Errors
    /// As there, and when it is no administrator any more.
    pub(super) async fn whole(
        self,
        hub: &Hub,
        body: Body,
        bytes_max: usize,
        what: &str,
    ) -> Result<(Bytes, Administrator), Problem> {
        let Administrator { who, token, address } = self;
        let (bytes, who) = who.whole(hub, body, bytes_max, what).await?;
        if who.access.to_administer().is_err() {
            return Err(lesser(hub, address, &who, token));
        }
        Ok((bytes, Administrator { who, token, address }))
    }
}

impl FromRequestParts<Arc<Hub>> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Problem> {
        let Some(peer) = parts.extensions.get::<Peer>() else {
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "hub_failed", "the connection has no address"));
        };
        let address = peer.address.ip();
        let refused = match Credentials::read(&parts.headers) {
            Some(Credentials::Bearer(token)) => match by_token(hub, address, &token) {
                Ok((who, token)) if who.access.to_administer().is_ok() => {
                    peer.signed_in(who.signer)?;
                    return Ok(Administrator { who, token, address });
                }
                Ok((who, token)) => lesser(hub, address, &who, token),
                Err(problem) => problem,
            },
            other => {
                let signed = if other.is_some() { "signed with an id" } else { "not signed" };
                not_an_administrator(hub, address, None, None, Code::NotProven, signed);
                let text =
                    "over HTTP a token administers, made with `lockstep token --admin` (Authorization: Bearer TOKEN)";
                not_proven("not_proven", text)
            }
        };
        // Whoever tries many is told ever later; a right one is not among them.
        let hold = hub.limiter().token_refused(&address.to_string(), hub.now().clock);
        tokio::time::sleep(hold).await;
        Err(refused)
    }
}

/// What is told to who has a good token that does not administer.
fn lesser(hub: &Hub, address: IpAddr, who: &Who, token: String) -> Problem {
    not_an_administrator(hub, address, who.client, Some(token), Code::NotAllowed, "");
    let text = match (who.administers, who.client) {
        (true, Some(id)) => format!("this token is of client {id}, which is no admin any more"),
        _ => "this token does not administer: make one that does with `lockstep token --admin`".to_owned(),
    };
    Problem::new(StatusCode::FORBIDDEN, Code::NotAllowed.as_str(), text)
}

/// Puts on record that a request to administer was refused; `signed` says how it was signed, where not with a good token.
fn not_an_administrator(
    hub: &Hub,
    address: IpAddr,
    client: Option<ClientId>,
    token: Option<String>,
    code: Code,
    signed: &str,
) {
    let id = client.map(ClientId::get);
    hub.counts.not_let_in.fetch_add(1, Ordering::Relaxed);
    tracing::info!(%address, token, id, signed, "a request to administer was refused");
    let (address, transport, outcome, detail) = (address.to_string(), "http", code.as_str(), signed.to_owned());
    hub.audit.note(Entry { event: "administer", id, token, address, transport, outcome, detail, by: None });
}

/// Whom a token lets in, and what it is called. Nothing is held back after a wrong one: 130 random bits are not guessed at any rate, and looking
/// one up costs less than answering.
fn by_token(hub: &Hub, address: IpAddr, token: &Secret) -> Result<(Who, String), Problem> {
    let text = "this is no token that is good here: it was mistyped, its time is over, or it was revoked";
    let refused = || {
        hub.counts.not_let_in.fetch_add(1, Ordering::Relaxed);
        hub.audit.note(Entry {
            event: "token",
            address: address.to_string(),
            transport: "http",
            outcome: "not_proven",
            ..Entry::default()
        });
        tracing::debug!(%address, "a request with a token that is not good was refused");
        not_proven("not_proven", text)
    };
    let hash = Bearer::parse(token.reveal()).ok_or_else(refused)?.hash();
    let token = hub.roster().token(&hash, clock::now_ms()).cloned().ok_or_else(refused)?;
    let who = Who {
        client: token.client,
        may_put: token.may_put,
        administers: token.administers,
        token: Some(hash),
        signer: token.client.map_or(Signer::Token(hash), Signer::Client),
        access: Access::everything(),
    };
    hub.audit.note(Entry {
        event: "proved",
        id: who.client.map(ClientId::get),
        token: Some(token.name.clone()),
        address: address.to_string(),
        transport: "http",
        outcome: "ok",
        ..Entry::default()
    });
    Ok((Who { access: who.access_now(hub), ..who }, token.name))
}

fn not_proven(code: &'static str, text: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, code, text)
}

/// What a request is signed with.
enum Credentials {
    /// User and password (RFC 7617).
    Basic(String, Secret),
    /// A token (RFC 6750).
    Bearer(Secret),
}

impl Credentials {
    fn read(headers: &HeaderMap) -> Option<Credentials> {
        let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Credentials::Bearer(rest.trim().into()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(data_encoding::BASE64.decode(rest.trim().as_bytes()).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Credentials::Basic(user.to_owned(), password.into()))
    }
}
