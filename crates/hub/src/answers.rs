//! What the hub answers to questions.

use crate::clock;
use crate::core::Hub;
use crate::data::PutError;
use crate::session::Role;
use crate::share::Share;
use crate::standing::{self, Standing};
use std::sync::Arc;
use std::time::Duration;
use wire::answer::{Answer, Behind, Question, ShareStatus, Status, WaitAnswer};
use wire::id::ClientId;
use wire::link::{InviteCode, JoinLink};
use wire::message::{Code, Refusal};
use wire::roster::RosterError;

/// The longest that `wait` waits.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// While somebody waits, a share that lost events is looked at no later than this.
const WAIT_LOOKS_EVERY: Duration = Duration::from_secs(1);

/// Answers a question of `role`.
pub(crate) async fn answer(hub: &Arc<Hub>, role: &Role, question: Question) -> Result<Answer, Refusal> {
    match question {
        Question::Status => Ok(Answer::Status(status(hub))),
        Question::Clients { all } => {
            let rows = standing::everybody(hub);
            let rows = rows.iter().filter(|s| all || s.session.is_some()).map(|s| s.row(hub)).collect();
            Ok(Answer::Clients(rows))
        }
        Question::Client { id } => Ok(Answer::Clients(vec![client(hub, id)?.row(hub)])),
        Question::Wait { target, clients, timeout_ms } => {
            wait(hub, target, &clients, Duration::from_millis(timeout_ms).min(WAIT_MAX)).await.map(Answer::Wait)
        }
        Question::Invite { uses, expires_s, id } => {
            only_here(role)?;
            let id = id.map(client_id).transpose()?;
            let expires_ms = i64::try_from(expires_s.saturating_mul(1000)).unwrap_or(i64::MAX);
            let code = hub.roster().new_invite(uses, expires_ms, id, clock::now_ms()).map_err(roster_refusal)?;
            tracing::info!(uses, expires_s, "an invite was made");
            Ok(Answer::Link { link: link(hub, Some(code))?.reveal().into() })
        }
        Question::Reissue { id } => {
            only_here(role)?;
            let code = hub.roster().reissue(client_id(id)?, clock::now_ms()).map_err(roster_refusal)?;
            tracing::info!(id, "a new unique ID may be fetched once");
            Ok(Answer::Link { link: link(hub, Some(code))?.reveal().into() })
        }
        Question::Revoke { id } => {
            only_here(role)?;
            hub.roster().revoke(client_id(id)?).map_err(roster_refusal)?;
            if let Some(session) = hub.presence.get(id) {
                session.end(Refusal { code: Code::Revoked, text: format!("id {id} was revoked"), retry_ms: None });
            }
            tracing::warn!(id, "revoked");
            hub.tables.notify_one();
            hub.moved();
            Ok(Answer::Done)
        }
        Question::AllowDeletes { share } => {
            only_here(role)?;
            let gone = find(hub, &share)?.allow_deletes().await;
            gone.map(|_| Answer::Done).ok_or_else(|| {
                refusal(Code::HubFailed, format!("share {share} has stopped; the log says why; restart the hub"))
            })
        }
    }
}

/// What a failed put is told.
pub(crate) fn put_refusal(error: &PutError) -> Refusal {
    let (code, retry_ms) = match error {
        PutError::Name(_) | PutError::Value(_) | PutError::ContentType | PutError::TooMany => (Code::Limit, None),
        PutError::Store(_) => (Code::HubFailed, Some(1000)),
        PutError::Stopping => (Code::Stopping, Some(1000)),
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

fn status(hub: &Hub) -> Status {
    let clients = standing::everybody(hub);
    Status {
        hub: hub.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at_ms: hub.started_at_ms,
        addresses: hub.addresses.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
        clients_active: hub.presence.count() as u64,
        values: hub.data.board.len() as u64,
        shares: hub.shares.values().map(|share| share_status(share, &clients)).collect(),
    }
}

fn share_status(share: &Share, clients: &[Standing]) -> ShareStatus {
    let (head, state) = (share.board.head(), share.state());
    let (mut in_sync, mut behind) = (Vec::new(), Vec::new());
    for client in clients.iter().filter(|c| c.follows(&share.name)) {
        match client.behind(share, head) {
            None => in_sync.push(client.id()),
            Some(why) => behind.push(why),
        }
    }
    let mut problems = state.problems;
    problems.extend(state.held.as_ref().map(|held| held.why.clone()));
    ShareStatus {
        info: share.info(),
        directory: share.directory.display().to_string(),
        head,
        root: share.root_hex(),
        problems,
        held_deletes: state.held.map_or(0, |held| held.count as u64),
        in_sync,
        behind,
    }
}

/// Waits until everybody has everything that happened before the call, or says who has not.
async fn wait(hub: &Arc<Hub>, target: Option<String>, only: &[u64], timeout: Duration) -> Result<WaitAnswer, Refusal> {
    let deadline = tokio::time::Instant::now() + timeout;
    let shares: Vec<Arc<Share>> = match &target {
        None => hub.shares.values().cloned().collect(),
        Some(name) => match hub.shares.get(name) {
            Some(share) => vec![Arc::clone(share)],
            // A value is with whoever follows it as soon as it is on the board: nobody keeps a copy to compare.
            None if hub.data.get(name.as_bytes()).is_some() => Vec::new(),
            None => return Err(refusal(Code::NotFound, format!("no share and no value is called {name}"))),
        },
    };
    for id in only {
        client(hub, *id)?;
    }
    let mut heads = Vec::with_capacity(shares.len());
    for share in &shares {
        let head = share.barrier().await;
        let head = head.ok_or_else(|| {
            refusal(Code::HubFailed, format!("share {} has stopped; the log says why; restart the hub", share.name))
        })?;
        heads.push(head);
    }
    let mut moved = hub.standing.subscribe();
    loop {
        moved.mark_unchanged();
        let clients = standing::everybody(hub);
        let mut behind: Vec<Behind> = Vec::new();
        let mut asked = std::collections::BTreeSet::new();
        for (share, head) in shares.iter().zip(&heads) {
            let wanted = clients.iter().filter(|c| {
                if only.is_empty() { c.follows(&share.name) } else { only.contains(&c.id()) && c.follows(&share.name) }
            });
            for client in wanted {
                asked.insert(client.id());
                behind.extend(client.behind(share, *head));
            }
        }
        let followers = asked.clone();
        let strangers = clients.iter().filter(|c| only.contains(&c.id()) && !followers.contains(&c.id()));
        for client in strangers.filter(|_| !shares.is_empty()) {
            asked.insert(client.id());
            let what = target.clone().unwrap_or_else(|| "any share".to_owned());
            let why = format!("does not follow {what}");
            behind.push(Behind { id: client.id(), name: client.client.name.clone(), what, why });
        }
        let lagging: std::collections::BTreeSet<u64> = behind.iter().map(|b| b.id).collect();
        let in_sync = asked.difference(&lagging).count() as u64;
        if behind.is_empty() || tokio::time::Instant::now() >= deadline {
            return Ok(WaitAnswer { done: behind.is_empty(), in_sync, behind });
        }
        let look = deadline.min(tokio::time::Instant::now() + WAIT_LOOKS_EVERY);
        tokio::select! {
            changed = moved.changed() => if changed.is_err() {
                return Err(refusal(Code::Stopping, "the hub is stopping".into()));
            },
            () = tokio::time::sleep_until(look) => {}
        }
    }
}

fn find<'a>(hub: &'a Hub, share: &str) -> Result<&'a Arc<Share>, Refusal> {
    hub.shares.get(share).ok_or_else(|| {
        let known: Vec<&str> = hub.shares.keys().map(String::as_str).collect();
        refusal(Code::NotFound, format!("no share is called {share}; this hub shares: {}", known.join(", ")))
    })
}

fn client(hub: &Hub, id: u64) -> Result<Standing, Refusal> {
    let found = hub.roster().client(client_id(id)?).cloned();
    let found = found.ok_or_else(|| refusal(Code::NotFound, format!("no client has the id {id}")))?;
    Ok(standing::of(hub, found))
}

fn client_id(id: u64) -> Result<ClientId, Refusal> {
    ClientId::new(id).map_err(|e| refusal(Code::BadId, e.to_string()))
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

fn refusal(code: Code, text: String) -> Refusal {
    Refusal { code, text, retry_ms: None }
}
