//! The hub's side of a login: a state machine free of I/O and of clocks, the same behind every transport.
//!
//! ```text
//! client                         hub
//! Hello                ->
//!                      <-        Hello, AskId
//! Id                   ->
//!                      <-        Issued                unknown, and it may enrol (or a reissue was presented)
//! Confirm              ->        in
//!                      <-        AskUniqueId           anything else, the unknown who may not enrol included
//! UniqueId             ->        in, or Refused
//! Lost                 ->
//!                      <-        Issued, or Refused
//! ```
//!
//! Invariants, whatever comes and wherever it is cut:
//! - nobody is in without having confirmed a unique ID that was issued on this connection, or having proven one;
//! - a known id is always asked for its unique ID; only a reissue made for it, or its own origin declaring a never
//!   confirmed one lost, gets a new one;
//! - unknown, wrong, revoked and not lost are one answer, and cost the same work; who has no unique ID to show and holds an
//!   invite of this hub's is told instead what is wrong with that, whatever is known of the id;
//! - a right unique ID is never refused because of what others did.
//!
//! The caller sends what a [`Step`] says once what it changed is kept ([`Login::hub_failed`] where that fails), calls
//! [`Login::tick`] when it says so, and gives the machine every message. One call of [`Login::on`] sees one state of the
//! roster: hold its lock meanwhile. No step keeps the lock waiting.

mod invited;
mod note;

use crate::id::{BadId, ClientId};
use crate::limiter::Limiter;
use crate::limits::{BAD_ANSWERS_MAX, LOGIN_MAX};
use crate::link::{InviteCode, InviteHash};
use crate::message::{Code, Purpose, Refusal, ToClient, ToHub};
use crate::roster::{Grant, Ground, InvitePurpose, Known, Origin, Roster};
use crate::secret::{RandomError, Secret};
use crate::unique_id::{KeyHash, UniqueId};
use crate::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
pub use invited::{InviteFault, fault};
use invited::{fault_of, free_of, may_enrol, may_reissue, spends};
pub use note::Note;
use std::time::Duration;

/// What a client says instead of an ID to get the next free one.
pub const AUTO: &str = "auto";

/// Who may enrol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrol {
    /// Who comes.
    Open,
    /// Who has an invite.
    Invite,
    /// Nobody new.
    Closed,
}

/// What a hub says and allows at the door.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The hub's name.
    pub hub: String,
    /// Program and version.
    pub software: String,
    /// Who may enrol.
    pub enrol: Enrol,
    /// From the connection to being in; time that the hub holds an answer does not count.
    pub login_max: Duration,
}

impl Policy {
    /// The policy of the native transport.
    pub fn new(hub: &str, software: &str, enrol: Enrol) -> Policy {
        Policy { hub: hub.to_owned(), software: software.to_owned(), enrol, login_max: LOGIN_MAX }
    }
}

/// What every login of a hub shares, lent for one step.
pub struct Desk<'a> {
    /// What the hub says and allows.
    pub policy: &'a Policy,
    /// Who is known.
    pub roster: &'a mut dyn Roster,
    /// What went wrong lately.
    pub limiter: &'a mut Limiter,
    /// How many clients are kept at most, the expected ones included, the revoked ones not.
    pub known_max: usize,
    /// Makes unique IDs: [`UniqueId::fresh`], except in tests.
    pub fresh: &'a mut dyn FnMut(ClientId) -> Result<UniqueId, RandomError>,
}

/// The time of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// A clock that never goes back, from any beginning: for delays and deadlines.
    pub clock: Duration,
    /// Milliseconds since the Unix epoch, which may go back: for what is kept.
    pub wall_ms: i64,
}

/// What the caller does next.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// To be sent, in this order.
    pub say: Vec<ToClient>,
    /// What then.
    pub then: Then,
    /// For the hub's log.
    pub note: Option<Note>,
}

/// What comes after a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Then {
    /// Wait for the next message; call [`Login::tick`] at this time of [`Now::clock`].
    Wait {
        /// When.
        until: Duration,
    },
    /// The connection wants to attach to a session: look at its token, answer [`ToClient::Attached`] or
    /// [`ToClient::Refused`]. This machine is done.
    Attach(Purpose),
    /// In: answer [`ToClient::Welcome`]. This machine is done.
    In(Admitted),
    /// Close the connection once everything is sent. This machine is done.
    End,
}

/// A client that is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Its id.
    pub id: ClientId,
    /// What people call its machine.
    pub name: String,
    /// The software it named.
    pub software: String,
    /// The protocol version to be spoken.
    pub version: u16,
}

/// One connection's login.
#[derive(Debug)]
pub struct Login {
    address: String,
    deadline: Duration,
    bad_answers: u32,
    software: String,
    version: u16,
    /// Whether an unknown id may get its unique ID here.
    issues: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Greeting,
    AskedId,
    AskedUniqueId(Claim),
    /// An answer that is looked at later; see [`crate::limiter`].
    Held {
        claim: Claim,
        hash: KeyHash,
        until: Duration,
    },
    Issued {
        claim: Claim,
        hash: KeyHash,
    },
    Done,
}

/// Who somebody says to be.
#[derive(Clone, Debug)]
struct Claim {
    id: ClientId,
    name: String,
    invite: Option<InviteHash>,
}

impl Login {
    /// A login from `address` (without a port), which begins at `now`; until when to call [`Login::tick`] is
    /// [`Login::until`].
    pub fn new(address: &str, policy: &Policy, now: Now) -> Login {
        Login {
            address: address.to_owned(),
            deadline: now.clock + policy.login_max,
            bad_answers: 0,
            software: String::new(),
            version: PROTOCOL_VERSION,
            issues: true,
            state: State::Greeting,
        }
    }

    /// One that only proves what is known already: nobody enrols by it, as with a request that carries its proof.
    pub fn proof_only(address: &str, policy: &Policy, now: Now) -> Login {
        Login { issues: false, ..Login::new(address, policy, now) }
    }

    /// Whether it only proves somebody, and lets nobody in.
    pub fn is_proof(&self) -> bool {
        !self.issues
    }

    /// When to call [`Login::tick`] next.
    pub fn until(&self) -> Duration {
        match &self.state {
            State::Held { until, .. } => *until,
            _ => self.deadline,
        }
    }

    /// The time that a [`Step`] named has come. Too early does no harm.
    pub fn tick(&mut self, desk: &mut Desk<'_>, now: Now) -> Step {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Done => self.end(Vec::new(), None),
            State::Held { claim, hash, until } if now.clock >= until => self.prove(&claim, &hash, desk, now),
            state if now.clock >= self.until_of(&state) => {
                let text = "no login in time: connect again";
                self.refuse(Code::TimedOut, text, Some(0), Note::TimedOut)
            }
            state => {
                self.state = state;
                self.wait(Vec::new(), None)
            }
        }
    }

    /// A message came.
    pub fn on(&mut self, message: ToHub, desk: &mut Desk<'_>, now: Now) -> Step {
        if now.clock >= self.deadline && !matches!(self.state, State::Held { .. }) {
            return self.tick(desk, now);
        }
        match (std::mem::replace(&mut self.state, State::Done), message) {
            (State::Greeting, ToHub::Hello { versions, software, purpose }) => {
                self.on_hello(versions, software, purpose, desk)
            }
            (State::AskedId, ToHub::Id { id, invite, name }) => self.on_id(&id, invite.as_ref(), name, desk, now),
            (State::AskedUniqueId(claim), ToHub::UniqueId { unique_id }) => {
                self.on_unique_id(claim, &unique_id, desk, now)
            }
            (State::AskedUniqueId(claim), ToHub::Lost) if self.issues => self.on_lost(claim, desk, now),
            (State::Issued { claim, hash }, ToHub::Confirm) => self.on_confirm(&claim, &hash, desk, now),
            _ => {
                let text =
                    "this message does not belong here: the programs on both sides disagree, install the same version";
                self.refuse(Code::Protocol, text, None, Note::OutOfOrder)
            }
        }
    }

    fn on_hello(&mut self, (low, high): (u16, u16), software: String, purpose: Purpose, desk: &Desk<'_>) -> Step {
        let version = high.min(PROTOCOL_VERSION);
        if version < low.max(PROTOCOL_VERSION_MIN) {
            let (older, newer) = (high < PROTOCOL_VERSION_MIN, desk.policy.software.as_str());
            let cure = if older { "install this version on this machine" } else { "install your version on the hub" };
            let text = format!(
                "this hub ({newer}) speaks protocol {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}, you speak {low} to {high}: {cure}"
            );
            return self.refuse(Code::Version, &text, None, Note::Version { low, high });
        }
        (self.software, self.version) = (software, version);
        let hello = ToClient::Hello { version, software: desk.policy.software.clone(), hub: desk.policy.hub.clone() };
        match purpose {
            Purpose::Login => {
                self.state = State::AskedId;
                self.wait(vec![hello, ToClient::AskId], None)
            }
            Purpose::Bulk { .. } | Purpose::Relay { .. } => {
                Step { say: vec![hello], then: Then::Attach(purpose), note: None }
            }
        }
    }

    fn on_id(&mut self, text: &str, invite: Option<&Secret>, name: String, desk: &mut Desk<'_>, now: Now) -> Step {
        if let Err(error) = desk.roster.sweep(now.wall_ms) {
            return self.hub_failed(&error);
        }
        let invite = invite.and_then(|code| InviteCode::within(code.reveal())).map(|code| code.hash());
        if text == AUTO && self.issues {
            return self.on_auto(invite, name, desk, now);
        }
        let id = match ClientId::parse(text) {
            Ok(id) => id,
            Err(bad) => return self.on_bad_id(bad),
        };
        let claim = Claim { id, name, invite };
        let ground = match desk.roster.lookup(id) {
            _ if !self.issues => None,
            Some(Known::Confirmed { .. }) => may_reissue(id, invite.as_ref(), desk, now).then_some(Ground::Reissue),
            known if known.as_ref().is_none_or(Known::is_free) => {
                may_enrol(Some(id), invite.as_ref(), desk, now).then_some(Ground::New)
            }
            _ => None,
        };
        match ground {
            Some(ground) => self.issue(claim, ground, desk, now),
            None => {
                self.state = State::AskedUniqueId(claim);
                self.wait(vec![ToClient::AskUniqueId], None)
            }
        }
    }

    /// The next free id; or that of the invite, where it is for one client and names it or was used already.
    fn on_auto(&mut self, invite: Option<InviteHash>, name: String, desk: &mut Desk<'_>, now: Now) -> Step {
        let known = invite.and_then(|code| desk.roster.lookup_invite(&code));
        let claim = |id| Claim { id, name: name.clone(), invite };
        match known.as_ref().map(|invite| (invite.purpose, invite.uses, invite.is_good(now.wall_ms))) {
            Some((InvitePurpose::Reissue(id), _, true)) if may_reissue(id, invite.as_ref(), desk, now) => {
                return self.issue(claim(id), Ground::Reissue, desk, now);
            }
            Some((InvitePurpose::Enrol(Some(ids)), _, true))
                if may_enrol(Some(ids.first), invite.as_ref(), desk, now) =>
            {
                return match free_of(ids, desk) {
                    Some(id) => self.issue(claim(id), Ground::New, desk, now),
                    None => self.not_invited(None, "the ids this invite is for are taken", desk, now),
                };
            }
            // Whoever holds a one-off invite is the one it was made for: the reply that issued the id was lost, and the
            // client cannot know which id that was.
            Some((InvitePurpose::Enrol(_), 1, false)) => {
                return match known.and_then(|invite| desk.roster.provisional_of(&invite.hash)) {
                    Some(id) => self.issue(claim(id), Ground::Lost, desk, now),
                    None => self.not_invited(invite.as_ref(), "the invite is spent or has expired", desk, now),
                };
            }
            _ => {}
        }
        if !may_enrol(None, invite.as_ref(), desk, now) {
            return self.not_invited(invite.as_ref(), "no invite, or none that is good", desk, now);
        }
        match desk.roster.next_free_id(None) {
            Some(id) => self.issue(claim(id), Ground::New, desk, now),
            None => self.not_invited(None, "no id is free", desk, now),
        }
    }

    fn on_bad_id(&mut self, bad: BadId) -> Step {
        self.state = State::AskedId;
        self.bad_answer(Code::BadId, bad.to_string(), ToClient::AskId)
    }

    fn on_unique_id(&mut self, claim: Claim, text: &Secret, desk: &mut Desk<'_>, now: Now) -> Step {
        let wrong = match UniqueId::parse(text.reveal()) {
            Ok(unique_id) if unique_id.id() == claim.id => {
                let hash = unique_id.hash();
                let hold = desk.limiter.hold(&self.address, claim.id, now.clock);
                if hold.is_zero() {
                    return self.prove(&claim, &hash, desk, now);
                }
                self.deadline += hold;
                self.state = State::Held { claim, hash, until: now.clock + hold };
                return self.wait(Vec::new(), None);
            }
            Ok(unique_id) => format!("this unique ID is for id {}, not for {}", unique_id.id(), claim.id),
            Err(bad) => bad.to_string(),
        };
        self.state = State::AskedUniqueId(claim);
        self.bad_answer(Code::NotProven, wrong, ToClient::AskUniqueId)
    }

    /// Looks at a unique ID. Compares two hashes whatever is known, so that nothing shows in the time it takes.
    fn prove(&mut self, claim: &Claim, hash: &KeyHash, desk: &mut Desk<'_>, now: Now) -> Step {
        let known = desk.roster.lookup(claim.id);
        let provisional = matches!(known, Some(Known::Provisional { .. }));
        let (held, next) = match known {
            Some(Known::Provisional { hash, .. }) => (hash, KeyHash::NOBODY),
            Some(Known::Confirmed { hash, next }) => (hash, next.map_or(KeyHash::NOBODY, |next| next.hash)),
            Some(Known::Revoked | Known::Expected) | None => (KeyHash::NOBODY, KeyHash::NOBODY),
        };
        if !bool::from(held.same(hash) | next.same(hash)) {
            return self.not_proven(claim.id, "unknown, wrong or revoked", desk, now);
        }
        // What was issued and not confirmed is confirmed by being right.
        let note = match provisional || bool::from(next.same(hash)) {
            true => Note::Confirmed { id: claim.id },
            false => Note::Proved { id: claim.id },
        };
        self.admit(claim, hash, note, desk, now)
    }

    fn on_lost(&mut self, claim: Claim, desk: &mut Desk<'_>, now: Now) -> Step {
        if let Err(error) = desk.roster.sweep(now.wall_ms) {
            return self.hub_failed(&error);
        }
        let ground = match desk.roster.lookup(claim.id) {
            Some(Known::Provisional { origin, lapsed: false, .. }) => {
                let same_invite = claim.invite.is_some() && claim.invite == origin.invite;
                (same_invite || origin.address == self.address).then_some(Ground::Lost)
            }
            // Here the address does not do: the id has an owner, and neighbours share addresses.
            Some(Known::Confirmed { next: Some(next), .. }) if !next.lapsed => {
                (claim.invite == Some(next.invite)).then_some(Ground::ReissueLost)
            }
            _ => None,
        };
        match ground {
            Some(ground) => self.issue(claim, ground, desk, now),
            None => match claim.invite.and_then(|code| fault_of(&code, Some(claim.id), desk.roster, now.wall_ms)) {
                Some((fault, made_at_ms)) => {
                    desk.limiter.failed(&self.address, claim.id, now.clock);
                    self.bad_invite(Some(claim.id), fault, made_at_ms)
                }
                None => self.not_proven(claim.id, "it has no unique ID to give, and none is lost", desk, now),
            },
        }
    }

    fn issue(&mut self, claim: Claim, ground: Ground, desk: &mut Desk<'_>, now: Now) -> Step {
        let invite = claim.invite.filter(|code| spends(code, claim.id, desk, now));
        if ground == Ground::New && desk.roster.places() >= desk.known_max && desk.roster.lookup(claim.id).is_none() {
            let text = format!(
                "this hub knows {} clients, and takes no more (ten times its --max-clients): nobody new is let in, until its \
                 administrator gives it a larger --max-clients, which it takes over at a reload (SIGHUP), or revokes who never \
                 comes back",
                desk.known_max
            );
            return self.refuse(Code::Full, &text, None, Note::NotEnrolled("as many clients are known as are kept"));
        }
        if let Err(wait) = desk.limiter.enrol(&self.address, invite.is_some(), now.clock) {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
            let text = "too many new clients from this address: try again in a moment";
            return self.refuse(
                Code::RateLimited,
                text,
                Some(wait_ms),
                Note::NotEnrolled("too many from this address"),
            );
        }
        let unique_id = match (desk.fresh)(claim.id) {
            Ok(unique_id) => unique_id,
            Err(error) => return self.hub_failed(&error),
        };
        let hash = unique_id.hash();
        let origin = Origin { address: self.address.clone(), invite };
        let brought = origin.invite.filter(|_| ground == Ground::New).and_then(|code| desk.roster.lookup_invite(&code));
        let (rights, tags) = brought.map(|invite| (invite.rights, invite.tags)).unwrap_or_default();
        let name = claim.name.clone();
        let grant = Grant { id: claim.id, name, hash, origin, ground, rights, tags, now_ms: now.wall_ms };
        if let Err(error) = desk.roster.issue(&grant) {
            return self.hub_failed(&error);
        }
        let note = Note::Issued { id: claim.id, ground };
        self.state = State::Issued { claim, hash };
        self.wait(vec![ToClient::Issued { unique_id: unique_id.reveal().into() }], Some(note))
    }

    fn on_confirm(&mut self, claim: &Claim, hash: &KeyHash, desk: &mut Desk<'_>, now: Now) -> Step {
        self.admit(claim, hash, Note::Confirmed { id: claim.id }, desk, now)
    }

    /// Confirms and lets in. What was issued may have been replaced since: then this is not its client any more.
    fn admit(&mut self, claim: &Claim, hash: &KeyHash, note: Note, desk: &mut Desk<'_>, now: Now) -> Step {
        match desk.roster.confirm(claim.id, hash, now.wall_ms) {
            Ok(true) => {
                desk.limiter.proved(&self.address, claim.id);
                let (name, software) = (claim.name.clone(), std::mem::take(&mut self.software));
                let admitted = Admitted { id: claim.id, name, software, version: self.version };
                Step { say: Vec::new(), then: Then::In(admitted), note: Some(note) }
            }
            Ok(false) => {
                self.not_proven(claim.id, "its unique ID was replaced, or its invite used by another", desk, now)
            }
            Err(error) => self.hub_failed(&error),
        }
    }

    fn not_proven(&mut self, id: ClientId, why: &'static str, desk: &mut Desk<'_>, now: Now) -> Step {
        desk.limiter.failed(&self.address, id, now.clock);
        self.refuse(Code::NotProven, NOT_PROVEN, None, Note::NotProven { id, why })
    }

    /// Nobody enrols like that: for what is wrong with the invite, where something is, else for what is said.
    fn not_invited(&mut self, invite: Option<&InviteHash>, why: &'static str, desk: &Desk<'_>, now: Now) -> Step {
        match invite.and_then(|code| fault_of(code, None, desk.roster, now.wall_ms)) {
            Some((fault, made_at_ms)) => self.bad_invite(None, fault, made_at_ms),
            None => self.refuse(Code::NotInvited, NOT_INVITED, None, Note::NotEnrolled(why)),
        }
    }

    fn bad_invite(&mut self, id: Option<ClientId>, fault: InviteFault, made_at_ms: i64) -> Step {
        let Refusal { code, text, retry_ms } = fault.refusal();
        self.refuse(code, &text, retry_ms, Note::BadInvite { id, fault, made_at_ms })
    }

    /// What came instead of a step's answer where the hub could not keep what the step changed; ends the login.
    pub fn hub_failed(&mut self, error: &dyn std::error::Error) -> Step {
        let text = "the hub could not read or write its roster: its log says why";
        self.refuse(Code::HubFailed, text, Some(5_000), Note::HubFailed(error.to_string()))
    }

    /// Says what is wrong and asks again, until it was wrong too often.
    fn bad_answer(&mut self, code: Code, text: String, question: ToClient) -> Step {
        self.bad_answers += 1;
        let note = Note::BadAnswer(text.clone());
        let refused = ToClient::Refused(Refusal { code, text, retry_ms: None });
        if self.bad_answers >= BAD_ANSWERS_MAX {
            self.state = State::Done;
            return self.end(vec![refused], Some(note));
        }
        self.wait(vec![refused, question], Some(note))
    }

    fn refuse(&mut self, code: Code, text: &str, retry_ms: Option<u64>, note: Note) -> Step {
        let refusal = Refusal { code, text: text.to_owned(), retry_ms };
        self.state = State::Done;
        self.end(vec![ToClient::Refused(refusal)], Some(note))
    }

    fn wait(&self, say: Vec<ToClient>, note: Option<Note>) -> Step {
        Step { say, then: Then::Wait { until: self.until() }, note }
    }

    fn end(&self, say: Vec<ToClient>, note: Option<Note>) -> Step {
        Step { say, then: Then::End, note }
    }

    fn until_of(&self, state: &State) -> Duration {
        match state {
            State::Held { until, .. } => *until,
            _ => self.deadline,
        }
    }
}

/// The one answer to unknown, wrong, revoked and not lost.
const NOT_PROVEN: &str = "not let in: this id is unknown here, or its unique ID is another, or it was revoked. Check both. \
    A new machine needs an id that is free and, unless the hub is open, an invite that is not spent (lockstep invite); \
    one that lost its unique ID needs a new one (lockstep clients reissue ID)";
/// The answer to `auto` where nobody can enrol like that.
const NOT_INVITED: &str = "not let in: this hub takes new clients only with an invite that is neither spent nor expired, or \
    none at all. Ask for a join link (lockstep invite, on the hub)";

#[cfg(test)]
#[path = "login/tests.rs"]
mod tests;
