//! What the hub answers to questions.

use crate::backup;
use crate::clock;
use crate::core::Hub;
use crate::data::PutError;
use crate::roster::{Roster, TOKEN_DAYS_MAX};
use crate::session::Role;
use crate::share::Share;
use crate::standing::{self, Goal, Standing};
use crate::wait;
use std::sync::Arc;
use std::time::Duration;
use wire::answer::{Answer, Behind, ClientRow, Question, ShareStatus, Status, TokenRow};
use wire::id::ClientId;
use wire::limits::{BEHIND_MAX, CLIENT_ROWS_MAX};
use wire::link::{InviteCode, JoinLink};
use wire::message::{Code, Refusal};
use wire::roster::{RosterError, Token};

/// Answers a question of `role`.
pub(crate) async fn answer(hub: &Arc<Hub>, role: &Role, question: Question) -> Result<Answer, Refusal> {
    match question {
        Question::Status => Ok(Answer::Status(status(hub))),
        Question::Clients { all, after } => Ok(Answer::Clients(clients(hub, all, after))),
        Question::Client { id } => Ok(Answer::Clients(vec![client(hub, id)?.row(hub)])),
        Question::Wait { target, clients, timeout_ms } => {
            wait::wait(hub, target, &clients, Duration::from_millis(timeout_ms)).await.map(Answer::Wait)
        }
        Question::Invite { uses, expires_s, id } => {
            only_here(role)?;
            let id = id.map(client_id).transpose()?;
            let expires_ms = i64::try_from(expires_s.saturating_mul(1000)).unwrap_or(i64::MAX);
            let made = hub.registry.change(|roster| roster.new_invite(uses, expires_ms, id, clock::now_ms())).await;
            let code = made.map_err(roster_refusal)?;
            tracing::info!(uses, expires_s, "an invite was made");
            Ok(Answer::Link { link: link(hub, Some(code))?.reveal().into() })
        }
        Question::Reissue { id } => {
            only_here(role)?;
            let client = client_id(id)?;
            let made = hub.registry.change(|roster| roster.reissue(client, clock::now_ms())).await;
            let code = made.map_err(roster_refusal)?;
            tracing::info!(id, "a new unique ID may be fetched once");
            Ok(Answer::Link { link: link(hub, Some(code))?.reveal().into() })
        }
        Question::Revoke { id } => {
            only_here(role)?;
            let client = client_id(id)?;
            hub.registry.change(|roster| roster.revoke(client)).await.map_err(roster_refusal)?;
            if let Some(session) = hub.presence.get(id) {
                session.end(Refusal { code: Code::Revoked, text: format!("id {id} was revoked"), retry_ms: None });
            }
            tracing::warn!(id, "revoked");
            hub.revoked.send_replace(());
            hub.tables.notify_one();
            hub.moved();
            Ok(Answer::Done)
        }
        Question::Token { name, id, may_put, expires_s } => {
            let client = acts_as(role, id)?;
            if !(1..=TOKEN_DAYS_MAX * 86_400).contains(&expires_s) {
                let text = format!("a token lasts from one second to {TOKEN_DAYS_MAX} days");
                return Err(refusal(Code::Limit, text));
            }
            let expires_ms = i64::try_from(expires_s * 1000).unwrap_or(i64::MAX);
            let new = |roster: &mut Roster| roster.new_token(name, client, may_put, expires_ms, clock::now_ms());
            let made = hub.registry.change(new).await;
            let (bearer, token) = made.map_err(roster_refusal)?;
            tracing::info!(name = token.name, id = client.map(ClientId::get), may_put, "a token was made");
            Ok(Answer::Token { token: bearer.reveal().into(), row: token_row(&token, true) })
        }
        Question::Tokens => {
            let (roster, now_ms) = (hub.roster(), clock::now_ms());
            let of = role.session().map(|session| session.id);
            let tokens = roster
                .tokens()
                .into_iter()
                .filter(|token| of.is_none_or(|id| token.client.is_some_and(|c| c.get() == id)));
            Ok(Answer::Tokens(
                tokens.map(|token| token_row(token, roster.token(&token.hash, now_ms).is_some())).collect(),
            ))
        }
        Question::RevokeToken { name } => {
            let of = if role.is_local() { None } else { acts_as(role, None)? };
            hub.registry.change(|roster| roster.revoke_token(&name, of)).await.map_err(roster_refusal)?;
            tracing::warn!(name, "a token was revoked");
            hub.revoked.send_replace(());
            Ok(Answer::Done)
        }
        Question::Backup => {
            only_here(role)?;
            let staged = backup::stage(hub).await.map_err(|e| refusal(Code::HubFailed, e.to_string()))?;
            tracing::info!(directory = %staged.display(), "copied for a backup");
            Ok(Answer::Backup { directory: staged.display().to_string() })
        }
        Question::Leave => leave(hub, role).await,
        Question::AllowDeletes { share } => {
            only_here(role)?;
            let found = find(hub, &share)?;
            if found.allow_deletes().await.is_none() {
                let text = format!("share {share} has stopped; the log says why; restart the hub");
                return Err(refusal(Code::HubFailed, text));
            }
            match found.state().held {
                Some(held) => Err(refusal(Code::NotAllowed, format!("still held: {}", held.why))),
                None => Ok(Answer::Done),
            }
        }
    }
}

/// The client that asks is not known any more: neither its id, nor its tokens. Its session goes on until it ends it.
async fn leave(hub: &Hub, role: &Role) -> Result<Answer, Refusal> {
    let Role::Client(session) = role else {
        return Err(refusal(Code::NotAllowed, "only a client itself can leave: lockstep leave, on its machine".into()));
    };
    let client = client_id(session.id)?;
    hub.registry.change(|roster| roster.leave(client)).await.map_err(roster_refusal)?;
    tracing::warn!(id = session.id, name = session.name, address = session.address, "left for good");
    hub.revoked.send_replace(());
    hub.tables.notify_one();
    hub.moved();
    Ok(Answer::Done)
}

/// What a failed put is told.
pub(crate) fn put_refusal(error: &PutError) -> Refusal {
    let (code, retry_ms) = match error {
        PutError::Name(_)
        | PutError::Value { .. }
        | PutError::ContentType
        | PutError::TooMany(_)
        | PutError::Full(_) => (Code::Limit, None),
        PutError::TooFast(_, again) => (Code::RateLimited, Some(u64::try_from(again.as_millis()).unwrap_or(u64::MAX))),
        PutError::Store(_) => (Code::HubFailed, Some(1000)),
        PutError::Stopping => (Code::Stopping, Some(1000)),
        PutError::Unmet => (Code::NotAllowed, None),
    };
    Refusal { code, text: error.to_string(), retry_ms }
}

/// The link with which a machine joins this hub.
pub(crate) fn link(hub: &Hub, invite: Option<InviteCode>) -> Result<JoinLink, Refusal> {
    let advertised = hub.advertise.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let (host, port) =
        advertised.ok_or_else(|| refusal(Code::HubFailed, "the hub does not listen yet; try again".into()))?;
    JoinLink::new(&host, port, hub.fingerprint, invite).map_err(|e| refusal(Code::HubFailed, e.to_string()))
}

/// The next part of the list of clients; what went wrong with single files is told of one client at a time.
pub(crate) fn clients(hub: &Hub, all: bool, after: u64) -> Vec<ClientRow> {
    let listed = standing::everybody(hub).into_iter().filter(|s| s.id() > after && (all || s.session.is_some()));
    let brief = |standing: Standing| {
        let mut row = standing.row(hub);
        row.shares.iter_mut().chain(&mut row.values).for_each(|held| held.first_problems.clear());
        row
    };
    listed.take(CLIENT_ROWS_MAX).map(brief).collect()
}

pub(crate) fn status(hub: &Hub) -> Status {
    let clients = standing::everybody(hub);
    let values = Followers::of(&Goal::values(hub), &clients);
    Status {
        hub: hub.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at_ms: hub.started_at_ms,
        addresses: hub.addresses.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
        clients_active: hub.presence.count() as u64,
        values: hub.data.board.len() as u64,
        shares: hub.shares.values().map(|share| share_status(share, &clients)).collect(),
        values_in_sync: values.in_sync,
        values_not_in_sync: values.not_in_sync,
        values_behind: values.behind,
    }
}

/// Who is to have something, and who has not.
struct Followers {
    in_sync: u64,
    not_in_sync: u64,
    behind: Vec<Behind>,
}

impl Followers {
    fn of(goal: &Goal, clients: &[Standing]) -> Followers {
        let followers: Vec<&Standing> = clients.iter().filter(|c| c.follows(goal)).collect();
        let mut behind: Vec<Behind> = followers.iter().filter_map(|c| c.behind(goal)).collect();
        let not_in_sync = behind.len();
        behind.truncate(BEHIND_MAX);
        Followers { in_sync: (followers.len() - not_in_sync) as u64, not_in_sync: not_in_sync as u64, behind }
    }
}

fn share_status(share: &Share, clients: &[Standing]) -> ShareStatus {
    let (goal, state) = (Goal::head_of(share), share.state());
    let Followers { in_sync, not_in_sync, behind } = Followers::of(&goal, clients);
    let mut problems = state.problems;
    problems.extend(state.held.as_ref().map(|held| held.why.clone()));
    ShareStatus {
        info: share.info(),
        directory: share.directory.display().to_string(),
        head: goal.seq,
        root: share.root_hex(),
        problems,
        held_deletes: state.held.map_or(0, |held| held.count as u64),
        in_sync,
        not_in_sync,
        behind,
    }
}

/// The share of that name; else what there is.
pub(crate) fn find<'a>(hub: &'a Hub, share: &str) -> Result<&'a Arc<Share>, Refusal> {
    hub.shares.get(share).ok_or_else(|| {
        let known: Vec<&str> = hub.shares.keys().map(String::as_str).collect();
        refusal(Code::NotFound, format!("no share is called {share}; this hub shares: {}", known.join(", ")))
    })
}

pub(crate) fn client(hub: &Hub, id: u64) -> Result<Standing, Refusal> {
    let found = hub.roster().client(client_id(id)?).cloned();
    let found = found.ok_or_else(|| refusal(Code::NotFound, format!("no client has the id {id}")))?;
    Ok(standing::of(hub, found))
}

fn client_id(id: u64) -> Result<ClientId, Refusal> {
    ClientId::new(id).map_err(|e| refusal(Code::BadId, e.to_string()))
}

/// As whom a token of `role` signs in: of the hub's machine as anybody, of a client as that client.
fn acts_as(role: &Role, id: Option<u64>) -> Result<Option<ClientId>, Refusal> {
    match (role.session(), id) {
        (None, id) => id.map(client_id).transpose(),
        (Some(session), id) if id.is_none_or(|id| id == session.id) => client_id(session.id).map(Some),
        (Some(_), _) => only_here(role).map(|()| None),
    }
}

fn token_row(token: &Token, good: bool) -> TokenRow {
    TokenRow {
        name: token.name.clone(),
        id: token.client.map_or(0, ClientId::get),
        may_put: token.may_put,
        created_at_ms: token.created_at_ms,
        expires_at_ms: token.expires_at_ms,
        good,
    }
}

fn only_here(role: &Role) -> Result<(), Refusal> {
    if role.is_local() {
        return Ok(());
    }
    Err(refusal(Code::NotAllowed, "only the hub's own machine may do that: run the command there".into()))
}

fn roster_refusal(error: RosterError) -> Refusal {
    refusal(Code::HubFailed, error.to_string())
}

pub(crate) fn refusal(code: Code, text: String) -> Refusal {
    Refusal { code, text, retry_ms: None }
}
