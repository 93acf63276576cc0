//! Coming in, the same behind every transport: the login's steps at one desk, a proof for a single request, and a place
//! among the active clients until it is left.

use crate::access::{self, Access};
use crate::audit::Entry;
use crate::clock;
use crate::core::Hub;
use crate::counts::Via;
use crate::on::{Happened, OnEvent};
use crate::presence::{Arrival, Session};
use crate::roster::{About, Kept, Roster};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::OwnedSemaphorePermit;
use wire::id::ClientId;
use wire::limiter::HOLD_MAX;
use wire::limits::SILENCE_MAX;
use wire::login::{Admitted, Desk, Login, Note, Step, Then};
use wire::message::{Code, Purpose, Refusal, ShareInfo, ToClient, ToHub, Welcome};
use wire::roster::RosterError;
use wire::secret::{RandomError, Secret, Token};
use wire::unique_id::UniqueId;

/// Does one step of a login, by what its client said or because its time has come (`None`), and logs what it says of it.
/// Returns once what the step changed is on disk, so that it may be told; it is on record then, also when nobody waits for it.
pub(crate) async fn at_the_desk(
    hub: &Arc<Hub>,
    address: IpAddr,
    via: Via,
    login: &mut Login,
    said: Option<ToHub>,
) -> Step {
    let work = |roster: &mut Roster| {
        let mut limiter = hub.limiter();
        let mut desk = Desk {
            policy: &hub.policy(),
            roster,
            limiter: &mut limiter,
            known_max: hub.limits.get().known(),
            fresh: &mut |id| UniqueId::fresh(id),
        };
        match said {
            Some(message) => login.on(message, &mut desk, hub.now()),
            None => login.tick(&mut desk, hub.now()),
        }
    };
    // Who is in is in by what is on disk, be it that somebody else put it there just now.
    let admitted = |step: &Step| match &step.then {
        Then::In(admitted) => Some(admitted.id),
        _ => None,
    };
    let (step, kept) = hub.registry.step(work, admitted);
    let is_proof = login.is_proof();
    let kept = match kept {
        Kept::Already => Ok(noted(hub, address, via, is_proof, step)),
        soon @ Kept::Soon(_) => {
            let to_note = Arc::clone(hub);
            let work = async move { soon.wait().await.map(|()| noted(&to_note, address, via, is_proof, step)) };
            hub.begun.work(work).await.unwrap_or_else(|error| Err(RosterError::Storage(error.to_string())))
        }
    };
    kept.unwrap_or_else(|error| noted(hub, address, via, is_proof, login.hub_failed(&error)))
}

/// Logs what a step says of a login and puts it on record; gives what its client is told.
fn noted(hub: &Hub, address: IpAddr, via: Via, is_proof: bool, mut step: Step) -> Step {
    hub.audit.login(address, via.as_str(), &step);
    if let Then::In(admitted) = &step.then
        && !is_proof
        && let Some(full) = hub.is_full(admitted.id)
    {
        hub.counts.not_let_in.fetch_add(1, Ordering::Relaxed);
        hub.counts.told(via).refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(id = admitted.id.get(), %address, "refused: {}", full.text);
        hub.audit.note(Entry {
            event: "login",
            id: Some(admitted.id.get()),
            address: address.to_string(),
            transport: via.as_str(),
            outcome: full.code.as_str(),
            detail: full.text.clone(),
            ..Entry::default()
        });
        step = Step { say: vec![ToClient::Refused(full)], then: Then::End, note: None };
    }
    match &step.note {
        None => {}
        // A program may prove itself with every request; what changed nothing is no news.
        Some(note @ Note::Proved { .. }) => tracing::debug!(%address, "{note}"),
        Some(note) => {
            if step.say.iter().any(|said| matches!(said, ToClient::Refused(_))) {
                hub.counts.not_let_in.fetch_add(1, Ordering::Relaxed);
                hub.counts.told(via).refused.fetch_add(1, Ordering::Relaxed);
            }
            // Of a flood the audit log has lines and counts enough.
            match is_flood(hub, address, note) {
                true => tracing::debug!(%address, "{note}"),
                false => tracing::info!(%address, "{note}"),
            }
        }
    }
    step
}

/// Whether so much went wrong lately, from there and for that id or for any, that answers are held for as long as they ever are.
fn is_flood(hub: &Hub, address: IpAddr, note: &Note) -> bool {
    let (Note::NotProven { id, .. } | Note::BadInvite { id: Some(id), .. }) = note else { return false };
    hub.limiter().hold(&address.to_string(), *id, hub.now().clock) >= HOLD_MAX
}

/// What is wrong with an invite that came with `id` and without a unique ID, if it is one of this hub's; it is on record, and
/// counts as a wrong answer: whoever tries many is told ever later.
pub(crate) async fn bad_invite(hub: &Hub, address: IpAddr, via: Via, id: ClientId, invite: &Secret) -> Option<Refusal> {
    let (fault, made_at_ms) = wire::login::fault(invite, id, &*hub.roster(), clock::now_ms())?;
    let hold = {
        let (mut limiter, address, now) = (hub.limiter(), address.to_string(), hub.now().clock);
        let hold = limiter.hold(&address, id, now);
        limiter.failed(&address, id, now);
        hold
    };
    let (refusal, note) = (fault.refusal(), Note::BadInvite { id: Some(id), fault, made_at_ms });
    let step = Step { say: vec![ToClient::Refused(refusal.clone())], then: Then::End, note: Some(note) };
    noted(hub, address, via, true, step);
    tokio::time::sleep(hold).await;
    Some(refusal)
}

/// Proves a single request: that who sent it holds the unique ID of `id`. Nobody enrols by this.
///
/// # Errors
/// The refusal that the login would give.
pub(crate) async fn prove(hub: &Arc<Hub>, address: IpAddr, id: &str, unique_id: &str) -> Result<ClientId, Refusal> {
    let mut login = Login::proof_only(&address.to_string(), &hub.policy(), hub.now());
    let words = [
        ToHub::Hello {
            versions: (wire::PROTOCOL_VERSION, wire::PROTOCOL_VERSION),
            software: String::new(),
            purpose: Purpose::Login,
        },
        ToHub::Id { id: id.to_owned(), invite: None, name: String::new() },
        ToHub::UniqueId { unique_id: unique_id.into() },
    ];
    for word in words {
        let mut step = at_the_desk(hub, address, Via::Http, &mut login, Some(word)).await;
        loop {
            if let Some(ToClient::Refused(refusal)) = step.say.iter().find(|said| matches!(said, ToClient::Refused(_)))
            {
                return Err(refusal.clone());
            }
            match step.then {
                Then::In(admitted) => return Ok(admitted.id),
                // After wrong answers the next one is held for a while before it is looked at.
                Then::Wait { until } if step.say.is_empty() => {
                    tokio::time::sleep(hub.until(until)).await;
                    step = at_the_desk(hub, address, Via::Http, &mut login, None).await;
                }
                Then::Wait { .. } => break,
                Then::Attach(_) | Then::End => {
                    return Err(Refusal { code: Code::HubFailed, text: "the login ended".into(), retry_ms: None });
                }
            }
        }
    }
    Err(Refusal { code: Code::NotProven, text: "the unique ID was not looked at".into(), retry_ms: None })
}

/// A client among the active ones; it leaves when this is dropped.
pub(crate) struct Stay {
    hub: Arc<Hub>,
    session: Arc<Session>,
    why: Option<String>,
}

impl Stay {
    /// Enters a client that was let in; whoever held its id before is told so and ends.
    ///
    /// # Errors
    /// When the system gives no random numbers for the session's token. Nothing has changed then.
    pub(crate) fn begin(
        hub: &Arc<Hub>,
        admitted: &Admitted,
        address: SocketAddr,
        transport: &'static str,
    ) -> Result<Stay, RandomError> {
        let session = hub.presence.enter(arrival(hub, admitted, address, transport)?);
        Ok(Stay::entered(hub, session, admitted))
    }

    fn entered(hub: &Arc<Hub>, session: Arc<Session>, admitted: &Admitted) -> Stay {
        let (id, transport) = (admitted.id, session.transport);
        // Revoked while it logged in: the roster was asked before, the list of sessions is looked at after.
        if hub.roster().client(id).is_some_and(|c| c.known == wire::roster::Known::Revoked) {
            session.end(Refusal { code: Code::Revoked, text: format!("id {id} was revoked"), retry_ms: None });
        } else if hub.access_of(id) != session.access {
            session.end(access::changed());
        }
        let (name, version) = (&admitted.name, &admitted.software);
        let about = About { name, address: &session.address, transport, version };
        hub.registry.note_login(id, &about, clock::now_ms());
        hub.fleet.arrived(&session);
        hub.moved();
        hub.tables.notify_one();
        let entry = |event, detail| Entry {
            event,
            id: Some(session.id),
            address: without_port(&session.address),
            transport,
            outcome: "ok",
            detail,
            ..Entry::default()
        };
        hub.audit.note(entry("login", String::new()));
        if let Some(before) = &session.took_over {
            hub.audit.note(entry("taken_over", format!("from {}", without_port(before))));
            if session.doubled {
                let why =
                    format!("two machines use id {id}; give one of them an id of its own: lockstep join --id auto");
                hub.on.tell(Happened {
                    id: Some(session.id),
                    name: name.clone(),
                    address: session.address.clone(),
                    transport,
                    other_address: before.clone(),
                    ..Happened::new(OnEvent::DoubleId, &why)
                });
            }
        }
        tracing::info!(%id, name, address = session.address, transport, "logged in");
        Stay { hub: Arc::clone(hub), session, why: None }
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// What the client is told first.
    pub(crate) fn welcome(&self) -> Welcome {
        Welcome {
            id: self.session.id,
            token: self.session.token,
            hub: self.hub.name.clone(),
            shares: shares(&self.hub, &self.session.access),
            silence_max_ms: u64::try_from(SILENCE_MAX.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Leaves, and says why in the log.
    pub(crate) fn leave(mut self, why: &dyn Display) {
        self.why = Some(why.to_string());
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let Stay { hub, session, why } = self;
        // Further connections of this session end with it.
        session.end(Refusal { code: Code::TimedOut, text: "the session has ended".into(), retry_ms: Some(0) });
        let why = why.as_deref().unwrap_or("its connection was dropped");
        if hub.presence.leave(session) {
            hub.fleet.left(session.id);
            hub.on.left(session, why, *hub.stopping.borrow());
            // Somebody may have come in under the same id in between.
            if let Some(successor) = hub.presence.get(session.id) {
                hub.fleet.arrived(&successor);
            }
            if let Ok(id) = ClientId::new(session.id) {
                // On disk with the tables, many in one write.
                hub.registry.note_seen(id, session.last_seen_ms());
            }
        }
        hub.moved();
        hub.tables.notify_one();
        tracing::info!(id = session.id, address = session.address, why, "left");
    }
}

/// Where somebody came from, without the port, which is another each time.
pub(crate) fn without_port(address: &str) -> String {
    address.parse::<SocketAddr>().map_or_else(|_| address.to_owned(), |address| address.ip().to_string())
}

fn arrival(
    hub: &Hub,
    admitted: &Admitted,
    address: SocketAddr,
    transport: &'static str,
) -> Result<Arrival, RandomError> {
    let renamed = hub.roster().client(admitted.id).filter(|client| client.renamed).map(|client| client.name.clone());
    Ok(Arrival {
        id: admitted.id.get(),
        token: Token::fresh()?,
        name: renamed.unwrap_or_else(|| admitted.name.clone()),
        address: address.to_string(),
        transport,
        access: hub.access_of(admitted.id),
    })
}

/// Somebody with an open stream: a sign of life. Its client is among the active ones, by this stream where it has no
/// other session, until this is dropped.
pub(crate) struct Guest {
    hub: Arc<Hub>,
    admitted: Option<Admitted>,
    address: SocketAddr,
    place: Place,
}

enum Place {
    /// A stream of no client.
    Nobody,
    Own(Stay),
    /// That of another session, which goes on when this stream ends.
    Beside(Arc<Session>, #[expect(dead_code, reason = "counts until it is dropped")] OwnedSemaphorePermit),
}

impl Guest {
    /// A stream of the client `id`, or of nobody's.
    ///
    /// # Errors
    /// When the client was revoked or has too many connections.
    pub(crate) fn begin(
        hub: &Arc<Hub>,
        id: Option<ClientId>,
        address: SocketAddr,
        software: String,
    ) -> Result<Guest, Refusal> {
        let admitted = id.map(|id| {
            let name = hub.roster().client(id).map(|client| client.name.clone()).unwrap_or_default();
            Admitted { id, name, software, version: wire::PROTOCOL_VERSION }
        });
        let mut guest = Guest { hub: Arc::clone(hub), admitted, address, place: Place::Nobody };
        guest.enter()?;
        Ok(guest)
    }

    fn enter(&mut self) -> Result<(), Refusal> {
        let Some(admitted) = &self.admitted else { return Ok(()) };
        if let Some(full) = self.hub.is_full(admitted.id) {
            return Err(full);
        }
        let arrival = arrival(&self.hub, admitted, self.address, "http").map_err(|error| Refusal {
            code: Code::HubFailed,
            text: error.to_string(),
            retry_ms: Some(1000),
        })?;
        self.place = match self.hub.presence.enter_as_guest(arrival) {
            Ok(session) => Place::Own(Stay::entered(&self.hub, session, admitted)),
            Err(present) => match present.attach() {
                Some(permit) => Place::Beside(present, permit),
                None => {
                    let text = format!("id {} has too many connections: close some", admitted.id);
                    return Err(Refusal { code: Code::Full, text, retry_ms: Some(1000) });
                }
            },
        };
        Ok(())
    }

    /// Resolves when the stream is to end: its client was revoked. That another session of it comes or goes ends nothing.
    pub(crate) async fn ended(&mut self) -> Refusal {
        loop {
            let why = match &self.place {
                Place::Nobody => std::future::pending().await,
                Place::Own(stay) => stay.session.ended().await,
                Place::Beside(session, _) => session.ended().await,
            };
            if matches!(why.code, Code::Revoked | Code::Stopping) {
                return why;
            }
            if let Err(refusal) = self.enter() {
                return refusal;
            }
        }
    }

    /// Leaves, and says why in the log.
    pub(crate) fn leave(self, why: &dyn Display) {
        if let Place::Own(stay) = self.place {
            stay.leave(why);
        }
    }
}

/// What this hub shares with whoever asks.
pub(crate) fn shares(hub: &Hub, to: &Access) -> Vec<ShareInfo> {
    hub.shares.values().filter(|share| to.joins(&share.name)).map(|share| share.info()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing;
    use std::time::{Duration, Instant};
    use wire::login::InviteFault;

    #[tokio::test]
    async fn whoever_brings_a_bad_invite_over_and_over_is_told_ever_later_and_takes_few_lines_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let (hub, _threads) = testing::opened(dir.path());
        let now_ms = clock::now_ms();
        let make =
            |at_ms| move |roster: &mut Roster| roster.new_invite(1, 1000, crate::roster::Gives::default(), at_ms);
        let good = hub.registry.change(make(now_ms)).await.unwrap();
        let expired = hub.registry.change(make(now_ms - 10_000)).await.unwrap();
        let (address, id) = ([127, 0, 0, 1].into(), ClientId::new(7).unwrap());
        let bring = async |invite: &str| bad_invite(&hub, address, Via::Http, id, &invite.into()).await;
        let hold = || hub.limiter().hold(&address.to_string(), id, hub.now().clock);
        for nothing_wrong in [good.reveal().to_string(), "guessed".to_owned()] {
            assert_eq!(bring(&nothing_wrong).await, None);
        }
        assert_eq!(hold(), Duration::ZERO);
        let note = Note::BadInvite { id: Some(id), fault: InviteFault::Expired, made_at_ms: 0 };
        let mut held = Duration::ZERO;
        for next in [1, 2].map(Duration::from_secs) {
            let began = Instant::now();
            assert_eq!(bring(&expired.reveal()).await, Some(InviteFault::Expired.refusal()));
            assert!(began.elapsed() >= held, "{held:?}");
            assert!(hold() == next && !is_flood(&hub, address, &note), "{next:?}");
            held = next;
        }
        hub.limiter().failed(&address.to_string(), id, hub.now().clock);
        assert!(is_flood(&hub, address, &note) && !is_flood(&hub, [127, 0, 0, 2].into(), &note));
    }
}
