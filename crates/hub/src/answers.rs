//! What the hub answers to questions.

use crate::access::{self, Access};
use crate::backup;
use crate::clock;
use crate::core::Hub;
use crate::data::PutError;
use crate::roster::{Gives, Powers, Roster, TOKEN_DAYS_MAX};
use crate::session::Role;
use crate::share::{Held, Share};
use crate::standing::{self, Goal, Standing};
use crate::wait;
use crate::why;
use std::sync::Arc;
use std::time::Duration;
use wire::answer::{Answer, Behind, ClientChange, ClientRow, ClientShare, Question, ShareStatus, Status, TokenRow};
use wire::id::ClientId;
use wire::limits::{BEHIND_MAX, CLIENT_ROWS_MAX, FRAME_BYTES_MAX};
use wire::link::{InviteCode, JoinLink};
use wire::message::{Code, Refusal};
use wire::rights::{BadRights, IdRange, Rights, tags_changed};
use wire::roster::{RosterError, Token};

/// What the rows of one answer take at most, so that it fits into its frame.
const CLIENT_ROWS_BYTES_MAX: usize = FRAME_BYTES_MAX / 2;

/// Answers a question of `role`. What was begun is done, told to whom it concerns and put on record, whether its answer is waited
/// for or not; only a wait, which changes nothing and may take long, ends with who asked.
pub(crate) async fn to_the_end(hub: &Arc<Hub>, role: &Role, question: Question) -> Result<Answer, Refusal> {
    if let Question::Wait { .. } = question {
        return answer(hub, role, question).await;
    }
    let (to_answer, role) = (Arc::clone(hub), role.clone());
    let done = hub.begun.work(async move { answer(&to_answer, &role, question).await }).await;
    done.unwrap_or_else(|error| Err(refusal(Code::HubFailed, error.to_string())))
}

/// Answers a question of `role`.
async fn answer(hub: &Arc<Hub>, role: &Role, question: Question) -> Result<Answer, Refusal> {
    let access = role.access();
    if let Role::Program(_) = role {
        for_programs(&question)?;
    }
    match question {
        Question::Status => Ok(Answer::Status(status(hub, &access))),
        Question::Clients { all, after } => Ok(Answer::Clients(clients(hub, all, after, &access).0)),
        Question::Client { id } => Ok(Answer::Clients(vec![client(hub, id, &access)?.row(hub, &access)])),
        Question::Wait { target, clients, timeout_ms } => {
            let _place = role.session().map(|session| session.to_wait()).transpose()?;
            wait::wait(hub, target, &clients, Duration::from_millis(timeout_ms), &access).await.map(Answer::Wait)
        }
        Question::Why { target, client } => why::why(hub, target.as_deref(), client, &access).map(Answer::Why),
        Question::Invite { uses, expires_s, ids, rights, tags } => {
            access.to_administer()?;
            let bad = |bad: BadRights| refusal(bad.code(), bad.to_string());
            let rights = Rights::default().changed(&rights).map_err(bad)?;
            let tags = tags_changed(&[], &tags, &[]).map_err(bad)?;
            let detail = format!("uses {uses}, for {expires_s} s{}{}", told_ids(ids), told_rights(&rights, &tags));
            let gives = Gives { ids, rights, tags };
            let expires_ms = i64::try_from(expires_s.saturating_mul(1000)).unwrap_or(i64::MAX);
            let made = hub.registry.change(|roster| roster.new_invite(uses, expires_ms, gives, clock::now_ms())).await;
            let code = made.map_err(roster_refusal)?;
            tracing::info!(uses, expires_s, by = access.id(), "an invite was made");
            hub.audit.note(role.did("invited", None, detail));
            Ok(Answer::Link { link: link(hub, Some(code))?.reveal().into() })
        }
        Question::Administer { id, change } => {
            access.to_administer()?;
            let client_id = client_id(id)?;
            let made = hub.registry.change(|roster| roster.administer(client_id, &change)).await;
            // Also where it was not kept: what was decided meanwhile may have been by what is undone.
            rights_moved(hub, client_id);
            made.map_err(roster_refusal)?;
            tracing::info!(id, by = access.id(), "its name, tags or rights were changed");
            hub.audit.note(role.did("changed", Some(id), told_change(&change)));
            hub.tables.notify_one();
            Ok(Answer::Clients(vec![client(hub, id, &access)?.row(hub, &access)]))
        }
        Question::Import { rows, dry_run } => {
            access.to_administer()?;
            let made = hub.registry.change(|roster| roster.import(&rows, dry_run)).await;
            rows.iter().filter_map(|row| ClientId::new(row.id).ok()).for_each(|id| rights_moved(hub, id));
            let (imported, changed) = made.map_err(roster_refusal)?;
            if !changed.is_empty() {
                tracing::info!(clients = changed.len(), by = access.id(), "an inventory was imported");
                for row in rows.iter().filter(|row| changed.iter().any(|id| id.get() == row.id)) {
                    hub.audit.note(role.did("imported", Some(row.id), told_change(&row.change)));
                }
                hub.tables.notify_one();
            }
            Ok(Answer::Imported(imported))
        }
        Question::Reissue { id } => {
            access.to_administer()?;
            let client = client_id(id)?;
            let made = hub.registry.change(|roster| roster.reissue(client, clock::now_ms())).await;
            let code = made.map_err(roster_refusal)?;
            tracing::info!(id, "a new unique ID may be fetched once");
            hub.audit.note(role.did("reissued", Some(id), String::new()));
            Ok(Answer::Link { link: link(hub, Some(code))?.reveal().into() })
        }
        Question::Revoke { id } => {
            access.to_administer()?;
            let client = client_id(id)?;
            hub.registry.change(|roster| roster.revoke(client)).await.map_err(roster_refusal)?;
            if let Some(session) = hub.presence.get(id) {
                session.end(Refusal { code: Code::Revoked, text: format!("id {id} was revoked"), retry_ms: None });
            }
            tracing::warn!(id, "revoked");
            hub.audit.note(role.did("revoked", Some(id), String::new()));
            hub.revoked.send_replace(());
            hub.tables.notify_one();
            hub.moved();
            Ok(Answer::Done)
        }
        Question::Token { name, id, may_put, expires_s, administers } => {
            let client = acts_as(role, id)?;
            if administers {
                to_give_power(hub, &access, client)?;
            }
            if !(1..=TOKEN_DAYS_MAX * 86_400).contains(&expires_s) {
                let text = format!("a token lasts from one second to {TOKEN_DAYS_MAX} days");
                return Err(refusal(Code::Protocol, text));
            }
            // Each is a line of the audit log, and so is its end.
            if let (Some(id), false) = (client, role.is_local()) {
                hub.limiter().token_made(id, hub.now().clock).map_err(|again| too_many_tokens(id, again))?;
            }
            let expires_ms = i64::try_from(expires_s * 1000).unwrap_or(i64::MAX);
            let may = Powers { put: may_put, administer: administers };
            let new = |roster: &mut Roster| {
                let name = name.or_else(|| role.is_local().then(|| roster.free_token_name(None)));
                roster.new_token(name, client, may, expires_ms, clock::now_ms())
            };
            let made = hub.registry.change(new).await;
            let (bearer, token) = made.map_err(roster_refusal)?;
            let puts = if may_put { ", may put" } else { "" };
            let admin = if administers { ", administers" } else { "" };
            hub.audit.note(role.did("token", client.map(ClientId::get), format!("{}{puts}{admin}", token.name)));
            tracing::info!(name = token.name, id = client.map(ClientId::get), may_put, administers, "a token was made");
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
            let ended = hub.registry.change(|roster| roster.revoke_token(&name, of)).await;
            let whose = ended.map_err(roster_refusal)?.map(ClientId::get);
            tracing::warn!(name, id = whose, "a token was revoked");
            hub.audit.note(role.did("token_revoked", whose, name.clone()));
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
        Question::Install => hub.offer.as_ref().map_err(Refusal::clone)?.installer().map(Answer::Install),
        Question::AllowDeletes { share } => {
            access.to_administer()?;
            let found = find(hub, &share, &access)?;
            if found.allow_deletes().await.is_none() {
                let text = format!("share {share} has stopped; the log says why; restart the hub");
                return Err(refusal(Code::HubFailed, text));
            }
            match found.state().held {
                Some(held) => Err(refusal(Code::NotAllowed, format!("still so: {}", held.text()))),
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
    hub.audit.note(role.did("left", Some(session.id), String::new()));
    hub.revoked.send_replace(());
    hub.tables.notify_one();
    hub.moved();
    Ok(Answer::Done)
}

fn told_ids(ids: Option<IdRange>) -> String {
    ids.map_or_else(String::new, |ids| format!(", for ids {} to {}", ids.first, ids.last))
}

/// What rights and tags are, for the audit log; nothing of those that everybody has.
fn told_rights(rights: &Rights, tags: &[String]) -> String {
    let mut told = String::new();
    if rights.role != Default::default() {
        told.push_str(&format!(", role {}", rights.role.as_str()));
    }
    for (what, list) in [("reads", &rights.read), ("puts", &rights.put), ("joins", &rights.shares)] {
        if let Some(list) = list {
            told.push_str(&format!(", {what} {list:?}"));
        }
    }
    if rights.clients != Default::default() {
        told.push_str(&format!(", sees {}", rights.clients.as_str()));
    }
    if !tags.is_empty() {
        told.push_str(&format!(", tags {tags:?}"));
    }
    told
}

/// What was changed, for the audit log.
fn told_change(change: &ClientChange) -> String {
    let ClientChange { name, tags, tags_add, tags_remove, rights } = change;
    let mut told = Vec::new();
    told.extend(name.as_ref().map(|name| format!("name {name:?}")));
    told.extend(tags.as_ref().map(|tags| format!("tags {tags:?}")));
    told.extend((!tags_add.is_empty()).then(|| format!("+{tags_add:?}")));
    told.extend((!tags_remove.is_empty()).then(|| format!("-{tags_remove:?}")));
    told.extend(rights.role.map(|role| format!("role {}", role.as_str())));
    for (what, list) in [("reads", &rights.read), ("puts", &rights.put), ("joins", &rights.shares)] {
        told.extend(list.as_ref().map(|list| format!("{what} {list:?}")));
    }
    told.extend(rights.clients.map(|sees| format!("sees {}", sees.as_str())));
    told.join(", ")
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
        PutError::NotAllowed(refusal) => return refusal.clone(),
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

/// Cuts who is here with other rights than it has now; it comes back with those.
fn rights_moved(hub: &Hub, id: ClientId) {
    if let Some(session) = hub.presence.get(id.get()).filter(|session| session.access != hub.access_of(id)) {
        session.end(access::changed());
    }
    hub.revoked.send_replace(());
    hub.moved();
}

/// The next part of the list of clients, and whether there is more; what went wrong with single files is told of one client at
/// a time.
pub(crate) fn clients(hub: &Hub, all: bool, after: u64, access: &Access) -> (Vec<ClientRow>, bool) {
    let after = match after {
        0 => None,
        after => match ClientId::new(after) {
            Ok(after) => Some(after),
            Err(_) => return (Vec::new(), false),
        },
    };
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for standing in standing::everybody_after(hub, access, after).filter(|s| all || s.session.is_some()) {
        let mut row = standing.row(hub, access);
        row.shares.iter_mut().chain(&mut row.values).for_each(|held| held.first_problems.clear());
        bytes += row_bytes(&row);
        if rows.len() == CLIENT_ROWS_MAX || bytes > CLIENT_ROWS_BYTES_MAX && !rows.is_empty() {
            return (rows, true);
        }
        rows.push(row);
    }
    (rows, false)
}

/// About how much a row takes in an answer, with room to spare.
fn row_bytes(row: &ClientRow) -> usize {
    let said = |held: &ClientShare| held.after.as_ref().and_then(|ran| ran.said.as_ref()).map_or(0, String::len);
    let held = row.shares.iter().chain(&row.values).map(|held| held.name.len() + said(held) + 160).sum::<usize>();
    let lists = row.rights.iter().flat_map(|rights| [&rights.read, &rights.put, &rights.shares]).flatten().flatten();
    let texts = lists.chain(&row.tags).map(|text| text.len() + 4).sum::<usize>();
    row.name.len() + row.version.len() + row.address.len() + held + texts + 256
}

pub(crate) fn status(hub: &Hub, access: &Access) -> Status {
    let values_seen = match access.reads_all() {
        true => hub.data.board.len(),
        false => hub.data.board.read(|index| index.iter_from(b"").filter(|record| access.reads(&record.name)).count()),
    };
    let shares: Vec<_> = hub.shares.values().filter(|share| access.joins(&share.name)).collect();
    let mut of_shares: Vec<Followers> = shares.iter().map(|share| Followers::of(Goal::head_of(share))).collect();
    let (mut values, mut active, mut after) = (Followers::of(Goal::values(hub)), 0, Vec::new());
    for client in standing::everybody(hub, access) {
        active += u64::from(client.session.is_some());
        of_shares.iter_mut().chain([&mut values]).for_each(|followers| followers.count(&client));
        if after.len() < BEHIND_MAX && access.sees_rights_of(client.id()) {
            after.extend(client.after(access));
        }
    }
    after.truncate(BEHIND_MAX);
    Status {
        hub: hub.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at_ms: hub.started_at_ms,
        addresses: hub.addresses.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
        clients_active: active,
        values: values_seen as u64,
        shares: shares.iter().zip(of_shares).map(|(share, followers)| share_status(share, followers)).collect(),
        values_in_sync: values.in_sync,
        values_not_in_sync: values.not_in_sync,
        values_behind: values.behind,
        after,
        on: if access.to_administer().is_ok() { hub.on.status() } else { Vec::new() },
    }
}

/// Who is to have something, and who has not.
struct Followers {
    goal: Goal,
    in_sync: u64,
    not_in_sync: u64,
    behind: Vec<Behind>,
}

impl Followers {
    /// Nobody yet.
    fn of(goal: Goal) -> Followers {
        Followers { goal, in_sync: 0, not_in_sync: 0, behind: Vec::new() }
    }

    fn count(&mut self, client: &Standing) {
        if !client.follows(&self.goal) {
            return;
        }
        let Some(behind) = client.behind(&self.goal) else { return self.in_sync += 1 };
        self.not_in_sync += 1;
        if self.behind.len() < BEHIND_MAX {
            self.behind.push(behind);
        }
    }
}

fn share_status(share: &Share, followers: Followers) -> ShareStatus {
    let state = share.state();
    let Followers { goal, in_sync, not_in_sync, behind } = followers;
    let mut problems = state.problems;
    let told = |held: &Held| if held.is_everything() { held.text() } else { held.why.clone() };
    problems.extend(state.held.as_ref().map(told));
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

/// The share of that name; else what there is for whoever asks.
pub(crate) fn find(hub: &Hub, share: &str, access: &Access) -> Result<Arc<Share>, Refusal> {
    access.to_join(share)?;
    hub.shares.get(share).ok_or_else(|| {
        let known = hub.shares.known(access);
        refusal(Code::NotFound, format!("no share is called {share}; this hub shares: {known}"))
    })
}

pub(crate) fn client(hub: &Hub, id: u64, access: &Access) -> Result<Standing, Refusal> {
    access.to_see(id)?;
    let found = hub.roster().share(client_id(id)?);
    Ok(standing::of(hub, found.ok_or_else(|| unknown(id))?))
}

pub(crate) fn unknown(id: u64) -> Refusal {
    refusal(Code::NotFound, format!("no client has the id {id}"))
}

pub(crate) fn client_id(id: u64) -> Result<ClientId, Refusal> {
    ClientId::new(id).map_err(|e| refusal(Code::BadId, e.to_string()))
}

fn too_many_tokens(id: ClientId, again: Duration) -> Refusal {
    let text = format!("client {id} makes too many tokens: try again in {} s", again.as_secs() + 1);
    let retry_ms = Some(u64::try_from(again.as_millis()).unwrap_or(u64::MAX));
    Refusal { code: Code::RateLimited, text, retry_ms }
}

/// As whom a token of `role` signs in: of the hub's machine as anybody, of a client as that client.
fn acts_as(role: &Role, id: Option<u64>) -> Result<Option<ClientId>, Refusal> {
    match (role.session(), id) {
        (None, id) => id.map(client_id).transpose(),
        (Some(session), id) if id.is_none_or(|id| id == session.id) => client_id(session.id).map(Some),
        (Some(_), _) => only_here(role).map(|()| None),
    }
}

/// Whether who asks may make a token that administers, for whom it is to sign in as: nobody gets by it what it has not.
fn to_give_power(hub: &Hub, access: &Access, client: Option<ClientId>) -> Result<(), Refusal> {
    access.to_administer()?;
    match client {
        Some(id) if hub.access_of(id).to_administer().is_err() => {
            let text = format!(
                "client {id} is no admin, so a token of it cannot be: lockstep clients rights {id} --role admin"
            );
            Err(refusal(Code::NotAllowed, text))
        }
        _ => Ok(()),
    }
}

fn token_row(token: &Token, good: bool) -> TokenRow {
    TokenRow {
        name: token.name.clone(),
        id: token.client.map_or(0, ClientId::get),
        may_put: token.may_put,
        administers: token.administers,
        created_at_ms: token.created_at_ms,
        expires_at_ms: token.expires_at_ms,
        good,
    }
}

/// Whether a program with a token may ask this at all: tokens come from machines, so that none makes another that outlives it.
fn for_programs(question: &Question) -> Result<(), Refusal> {
    let text = match question {
        Question::Token { .. } | Question::Tokens | Question::RevokeToken { .. } => {
            "a token makes, lists and revokes no tokens: run lockstep token on the hub's machine, or on that of its client"
        }
        Question::Backup => "only the hub's own machine may do that: run the command there",
        Question::Leave => "only a client itself can leave: lockstep leave, on its machine",
        _ => return Ok(()),
    };
    Err(refusal(Code::NotAllowed, text.into()))
}

fn only_here(role: &Role) -> Result<(), Refusal> {
    if role.is_local() {
        return Ok(());
    }
    Err(refusal(Code::NotAllowed, "only the hub's own machine may do that: run the command there".into()))
}

fn roster_refusal(error: RosterError) -> Refusal {
    let code = match &error {
        RosterError::Storage(_) | RosterError::Unfit { .. } => Code::HubFailed,
        RosterError::Unknown { .. } | RosterError::TokenUnknown => Code::NotFound,
        RosterError::Rights(bad) => bad.code(),
        RosterError::Name => Code::Protocol,
        RosterError::TokensFull { .. } | RosterError::TokensOfAllFull => Code::Limit,
        RosterError::TokenOfSeveral { .. } => Code::NotAllowed,
        RosterError::TokenTaken | RosterError::Revoked { .. } | RosterError::AdminToBe { .. } => Code::NotAllowed,
    };
    refusal(code, error.to_string())
}

pub(crate) fn refusal(code: Code, text: String) -> Refusal {
    Refusal { code, text, retry_ms: None }
}
