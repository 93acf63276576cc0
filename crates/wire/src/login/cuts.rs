//! Every login of two machines, cut after every message, in every order, against what may be true afterwards.
//!
//! The search walks all sequences of some length over: one of two machines connects and the connection breaks after its
//! k-th message; minutes pass, or more than ten; the clock goes back; the client is reissued or revoked. After each step
//! it asks, on copies of the world: is a stranger kept out, and can who has a right to it still get in?
//! `LOCKSTEP_TEST_SIZE=soak` makes the sequences longer.

use super::*;
use std::collections::BTreeMap;

/// More messages than any login has.
const CUTS: usize = 9;
const WHOLE: usize = usize::MAX;

/// A hub that is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    ConfirmsAtIssue,
    SkipsTheProof,
    IssuesToKnownIds,
    NeverLapses,
    LosesForAnybody,
    KeepsNoProvisional,
    SpendsInvitesForGood,
}

/// A book seen through a fault.
struct Bent<'a> {
    book: &'a mut Book,
    fault: Fault,
}

impl Roster for Bent<'_> {
    fn lookup(&self, id: ClientId) -> Option<Known> {
        let known = Roster::lookup(self.book, id);
        match (self.fault, known) {
            (Fault::IssuesToKnownIds, Some(Known::Confirmed { .. })) => None,
            (Fault::KeepsNoProvisional, Some(Known::Provisional { .. })) => None,
            (Fault::LosesForAnybody, Some(Known::Provisional { hash, mut origin, issued_at_ms, lapsed })) => {
                origin.address = AWAY.into();
                Some(Known::Provisional { hash, origin, issued_at_ms, lapsed })
            }
            (_, known) => known,
        }
    }
    fn places(&self) -> usize {
        self.book.places()
    }
    fn lookup_invite(&self, code: &InviteHash) -> Option<Invite> {
        Roster::lookup_invite(self.book, code)
    }
    fn provisional_of(&self, code: &InviteHash) -> Option<ClientId> {
        self.book.provisional_of(code)
    }
    fn next_free_id(&self, among: Option<IdRange>) -> Option<ClientId> {
        self.book.next_free_id(among)
    }
    fn sweep(&mut self, now_ms: i64) -> Result<(), RosterError> {
        if self.fault == Fault::NeverLapses {
            return Ok(());
        }
        let mut change = self.book.plan_sweep(now_ms);
        if self.fault == Fault::SpendsInvitesForGood {
            change.invites.clear();
        }
        self.book.apply(change);
        Ok(())
    }
    fn issue(&mut self, grant: &Grant) -> Result<(), RosterError> {
        if matches!(self.fault, Fault::IssuesToKnownIds | Fault::KeepsNoProvisional) && grant.ground == Ground::New {
            let change = crate::roster::Change { clients_gone: vec![grant.id], ..Default::default() };
            self.book.apply(change);
        }
        self.book.issue(grant)?;
        if self.fault == Fault::ConfirmsAtIssue {
            self.book.confirm(grant.id, &grant.hash, grant.now_ms)?;
        }
        Ok(())
    }
    fn confirm(&mut self, id: ClientId, hash: &KeyHash, now_ms: i64) -> Result<bool, RosterError> {
        self.book.confirm(id, hash, now_ms)
    }
}

#[derive(Clone, Debug)]
struct Machine {
    address: &'static str,
    id: Option<ClientId>,
    saved: Option<UniqueId>,
    invite: Option<InviteCode>,
    reissue: Option<InviteCode>,
}

#[derive(Clone)]
struct World {
    door: Door,
    fault: Fault,
    machines: [Machine; 2],
    /// Which machine was let in under an id.
    owners: BTreeMap<ClientId, usize>,
    revoked: Vec<ClientId>,
    /// When an id was last issued, by a clock that never goes back.
    issued_at: BTreeMap<ClientId, Duration>,
    clock_went_back: bool,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Connect { machine: usize, cut: usize },
    Minutes,
    MoreThanTen,
    ClockBack,
    Reissue,
    Revoke,
}

enum Came {
    In(ClientId),
    Out(Code),
    Cut,
}

impl World {
    fn hub(&mut self, login: &mut Login, message: Option<ToHub>) -> Step {
        let now = self.door.now();
        let fault = self.fault;
        let Door { policy, book, limiter, issued, .. } = &mut self.door;
        let mut fresh = |id| {
            *issued = issued.wrapping_add(1);
            Ok(UniqueId::from_random(id, [*issued; 26]))
        };
        let mut roster = Bent { book, fault };
        let mut desk = Desk { policy, roster: &mut roster, limiter, known_max: usize::MAX, fresh: &mut fresh };
        let step = match message {
            Some(message) => login.on(message, &mut desk, now),
            None => login.tick(&mut desk, now),
        };
        match (fault, &login.state) {
            (Fault::SkipsTheProof, State::AskedUniqueId(claim)) => {
                let admitted = Admitted { id: claim.id, name: String::new(), software: String::new(), version: 1 };
                Step { say: Vec::new(), then: Then::In(admitted), note: None }
            }
            _ => step,
        }
    }

    /// One connection, cut after `cut` messages in either direction; `who` is changed as its disk would be.
    fn connect(&mut self, who: &mut Machine, cut: usize) -> (Came, bool) {
        let mut left = cut;
        let mut deliver = || {
            let delivered = left > 0;
            left = left.saturating_sub(1);
            delivered
        };
        let mut asked = false;
        let identity = Identity {
            id: who.id,
            unique_id: who.saved.clone(),
            invite: who.reissue.clone().or_else(|| who.invite.clone()),
            name: "box".into(),
            software: "test".into(),
        };
        let (mut client, first) = ClientLogin::new(identity);
        let mut login = Login::new(who.address, &self.door.policy.clone(), self.door.now());
        let mut to_hub = vec![first];
        loop {
            let message = to_hub.pop();
            if message.is_some() && !deliver() {
                return (Came::Cut, asked);
            }
            let step = self.hub(&mut login, message);
            for message in step.say {
                if let ToClient::Issued { unique_id } = &message {
                    let unique_id = UniqueId::parse(unique_id.reveal()).unwrap();
                    self.issued_at.insert(unique_id.id(), self.door.clock);
                }
                if !deliver() {
                    return (Came::Cut, asked);
                }
                asked |= message == ToClient::AskUniqueId;
                match client.on(message) {
                    Act::Say(answer) => to_hub.push(answer),
                    Act::SaveThenConfirm(unique_id) => {
                        who.id = Some(unique_id.id());
                        who.saved = Some(unique_id);
                        to_hub.push(ToHub::Confirm);
                    }
                    Act::Wait => {}
                    Act::Refused(refusal) => return (Came::Out(refusal.code), asked),
                    Act::In(_) => unreachable!("the welcome is the hub's, not the login's"),
                }
            }
            match step.then {
                Then::In(admitted) => return (Came::In(admitted.id), asked),
                Then::End | Then::Attach(_) => return (Came::Cut, asked),
                Then::Wait { until } if to_hub.is_empty() => self.door.pass(until - self.door.clock),
                Then::Wait { .. } => {}
            }
        }
    }

    fn connect_machine(&mut self, at: usize, cut: usize) -> Result<Came, String> {
        let mut machine = self.machines[at].clone();
        let (came, _) = self.connect(&mut machine, cut);
        self.machines[at] = machine;
        if let Came::In(id) = came {
            if self.revoked.contains(&id) {
                return Err(format!("machine {at} came in as {id}, which was revoked"));
            }
            let owner = *self.owners.entry(id).or_insert(at);
            if owner != at {
                return Err(format!("machine {at} came in as {id}, which is machine {owner}'s"));
            }
            self.machines[at].reissue = None;
        }
        Ok(came)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Connect { machine, cut } => self.connect_machine(machine, cut).map(|_| ())?,
            Event::Minutes => self.door.pass(Duration::from_secs(120)),
            Event::MoreThanTen => self.door.pass(PROVISIONAL_MAX + Duration::from_secs(1)),
            Event::ClockBack => {
                self.door.wall_ms -= 3_600_000;
                self.clock_went_back = true;
            }
            Event::Reissue => {
                let Some((&id, &owner)) = self.owners.first_key_value() else { return Ok(()) };
                if !self.revoked.contains(&id) {
                    self.machines[owner].reissue = Some(self.door.invite(InvitePurpose::Reissue(id), 1));
                }
            }
            Event::Revoke => {
                let Some((&id, _)) = self.owners.first_key_value() else { return Ok(()) };
                if !self.revoked.contains(&id) {
                    self.door.revoke(id.get());
                    self.revoked.push(id);
                }
            }
        }
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        let ids: Vec<ClientId> = self.issued_at.keys().copied().collect();
        for id in ids {
            self.check_stranger(id)?;
        }
        (0..2).try_for_each(|at| self.check_right(at))
    }

    /// A known id is asked for its unique ID and a stranger does not get in; an id nobody confirmed in time is unknown.
    fn check_stranger(&self, id: ClientId) -> Result<(), String> {
        let mut world = self.clone();
        let mut stranger = Machine { address: AWAY, id: Some(id), saved: None, invite: None, reissue: None };
        let (came, asked) = world.connect(&mut stranger, WHOLE);
        let known = self.owners.contains_key(&id);
        let fresh = self.door.clock - self.issued_at[&id] < PROVISIONAL_MAX;
        match came {
            Came::In(_) if known || fresh => Err(format!("a stranger came in as {id}")),
            Came::Out(_) if !known && !fresh && !self.clock_went_back && self.door.policy.enrol == Enrol::Open => {
                Err(format!("id {id} was never confirmed and is not unknown again after ten minutes"))
            }
            Came::Out(Code::NotProven) if !asked => Err(format!("id {id} was refused and not asked for its unique ID")),
            _ => Ok(()),
        }
    }

    /// Who has a right to an id gets in: its owner at once, anybody else after the ten minutes of others are over.
    fn check_right(&self, at: usize) -> Result<(), String> {
        let mut world = self.clone();
        let owned = self.owners.iter().find(|&(_, &owner)| owner == at).map(|(&id, _)| id);
        let taken = self.machines[at].id.is_some_and(|id| self.owners.get(&id).is_some_and(|&owner| owner != at));
        if owned.is_some_and(|id| self.revoked.contains(&id)) || taken {
            return Ok(());
        }
        for _ in 0..3 {
            if matches!(world.connect_machine(at, WHOLE)?, Came::In(_)) {
                return Ok(());
            }
            if owned.is_some() {
                return Err(format!("machine {at} owns {owned:?} and is locked out"));
            }
            world.door.pass(PROVISIONAL_MAX + Duration::from_secs(1));
        }
        Err(format!("machine {at} never gets in"))
    }
}

/// The worlds to begin in: who may enrol, whether the machines share an address, an invite, and an id.
fn worlds(fault: Fault) -> Vec<World> {
    let mut worlds = Vec::new();
    for address in [HOME, "192.0.2.2"] {
        for id in [ClientId::new(7).ok(), None] {
            for invites in 0..3 {
                let mut door = Door::new(if invites == 0 { Enrol::Open } else { Enrol::Invite });
                let codes = match invites {
                    0 => [None, None],
                    1 => std::array::from_fn(|_| Some(door.invite(InvitePurpose::Enrol(None), 1))),
                    _ => {
                        let code = door.invite(InvitePurpose::Enrol(None), 2);
                        [Some(code.clone()), Some(code)]
                    }
                };
                let [one, two] = codes;
                let machine = |address, invite| Machine { address, id, saved: None, invite, reissue: None };
                worlds.push(World {
                    door,
                    fault,
                    machines: [machine(HOME, one), machine(address, two)],
                    owners: BTreeMap::new(),
                    revoked: Vec::new(),
                    issued_at: BTreeMap::new(),
                    clock_went_back: false,
                });
            }
        }
    }
    worlds
}

fn events() -> Vec<Event> {
    let mut events = vec![Event::Minutes, Event::MoreThanTen, Event::ClockBack, Event::Reissue, Event::Revoke];
    for machine in 0..2 {
        events.extend((0..CUTS).map(|cut| Event::Connect { machine, cut }));
    }
    events
}

/// Walks all sequences of `depth` events; the first that breaks a promise, or how many there were.
fn walk(world: &World, depth: usize, events: &[Event], path: &mut Vec<Event>) -> Result<usize, String> {
    if depth == 0 {
        return Ok(1);
    }
    let mut walked = 0;
    for &event in events {
        path.push(event);
        let mut after = world.clone();
        after.happen(event).map_err(|broken| format!("{broken}\nafter {path:?}\nmachines {:#?}", world.machines))?;
        walked += walk(&after, depth - 1, events, path)?;
        path.pop();
    }
    Ok(walked)
}

fn walk_all(fault: Fault, depth: usize) -> Result<usize, String> {
    worlds(fault).iter().map(|world| walk(world, depth, &events(), &mut Vec::new())).sum()
}

#[test]
fn m3_3_m3_4_a_login_cut_anywhere_locks_nobody_out_and_gives_nobody_anothers_id() {
    let soak = std::env::var("LOCKSTEP_TEST_SIZE").is_ok_and(|size| size == "soak");
    let depth = if soak { 4 } else { 3 };
    let walked = walk_all(Fault::None, depth).unwrap_or_else(|broken| panic!("{broken}"));
    assert_eq!(walked, 12 * events().len().pow(u32::try_from(depth).unwrap()));
}

#[test]
fn canary_a_wrong_login_breaks_the_same_test() {
    for fault in [
        Fault::ConfirmsAtIssue,
        Fault::SkipsTheProof,
        Fault::IssuesToKnownIds,
        Fault::NeverLapses,
        Fault::LosesForAnybody,
        Fault::KeepsNoProvisional,
        Fault::SpendsInvitesForGood,
    ] {
        assert!(walk_all(fault, 3).is_err(), "{fault:?} was not found");
    }
}

#[test]
fn a_whole_login_has_fewer_messages_than_are_cut() {
    let mut world = worlds(Fault::None).remove(0);
    let mut machine = world.machines[0].clone();
    assert!(matches!(world.connect(&mut machine, CUTS - 1).0, Came::In(_)));
    assert!(matches!(world.connect(&mut machine, CUTS - 1).0, Came::In(_)));
}
