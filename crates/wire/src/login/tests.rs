use super::*;
use crate::answer::ClientChange;
use crate::client_login::{Act, ClientLogin, Identity};
use crate::limiter::HOLD_MAX;
use crate::limits::PROVISIONAL_MAX;
use crate::message::Welcome;
use crate::rights::{IdRange, Rights, RightsChange, Role};
use crate::roster::{Book, Invite, RosterError};
use crate::secret::Token;

mod cuts;
mod invited_tests;

const HOME: &str = "192.0.2.1";
const AWAY: &str = "198.51.100.9";
const START_MS: i64 = 1_700_000_000_000;

/// A hub's door in memory, with a clock that a test turns.
#[derive(Clone)]
struct Door {
    policy: Policy,
    book: Book,
    limiter: Limiter,
    clock: Duration,
    wall_ms: i64,
    /// Makes unique IDs that differ and repeat from run to run.
    issued: u8,
    /// What its invites give.
    gives: Rights,
    known_max: usize,
}

impl Door {
    fn new(enrol: Enrol) -> Door {
        Door {
            policy: Policy::new("hub", "lockstep 0.1.0", enrol),
            book: Book::default(),
            limiter: Limiter::new(),
            known_max: usize::MAX,
            clock: Duration::ZERO,
            wall_ms: START_MS,
            issued: 0,
            gives: Rights::default(),
        }
    }

    fn now(&self) -> Now {
        Now { clock: self.clock, wall_ms: self.wall_ms }
    }

    fn pass(&mut self, time: Duration) {
        self.clock += time;
        self.wall_ms += i64::try_from(time.as_millis()).unwrap();
    }

    fn step(&mut self, act: impl FnOnce(&mut Desk<'_>, Now) -> Step) -> Step {
        let now = self.now();
        let Door { policy, book, limiter, known_max, issued, .. } = self;
        let mut fresh = |id| {
            *issued += 1;
            Ok(UniqueId::from_random(id, [*issued; 26]))
        };
        let step = act(&mut Desk { policy, roster: book, limiter, known_max: *known_max, fresh: &mut fresh }, now);
        if let Some(note) = &step.note {
            let text = format!("{note} {note:?} {step:?}");
            // What this door issues is one character throughout.
            let shown =
                |at: u8| text.contains(&char::from(crate::base32::SYMBOLS[usize::from(at & 31)]).to_string().repeat(5));
            assert!(!(1..=*issued).any(shown), "a log line holds a secret: {text}");
        }
        step
    }

    fn invite(&mut self, purpose: InvitePurpose, uses: u32) -> InviteCode {
        self.issued += 1;
        let code = InviteCode::from_random([self.issued; 26]);
        let (created_at_ms, expires_at_ms) = (self.wall_ms, self.wall_ms + 24 * 3600 * 1000);
        let (rights, tags) = (self.gives.clone(), Vec::new());
        let invite =
            Invite { hash: code.hash(), purpose, uses, uses_left: uses, created_at_ms, expires_at_ms, rights, tags };
        let change = self.book.plan_invite(invite).unwrap();
        self.book.apply(change);
        code
    }

    fn revoke(&mut self, id: u64) {
        let change = self.book.plan_revoke(ClientId::new(id).unwrap()).unwrap();
        self.book.apply(change);
    }

    /// A connection from `address` that said hello and is asked for its ID.
    fn greet(&mut self, address: &str) -> Login {
        let mut login = Login::new(address, &self.policy, self.now());
        let step = self.step(|desk, now| login.on(hello(), desk, now));
        assert!(matches!(&step.say[..], [ToClient::Hello { version: 1, .. }, ToClient::AskId]), "{step:?}");
        login
    }

    fn say(&mut self, login: &mut Login, message: ToHub) -> Step {
        self.step(|desk, now| login.on(message, desk, now))
    }

    /// Enrols `id` from `address` to the end, and gives its unique ID.
    fn enrol(&mut self, address: &str, id: u64) -> UniqueId {
        let mut login = self.greet(address);
        let unique_id = issued(&self.say(&mut login, say_id(id)));
        let step = self.say(&mut login, ToHub::Confirm);
        assert!(matches!(&step.then, Then::In(admitted) if admitted.id.get() == id), "{step:?}");
        unique_id
    }

    /// All that a hub says to `id` and then `answer` from `address`.
    fn transcript(
        &mut self,
        address: &str,
        id: u64,
        invite: Option<&InviteCode>,
        answer: ToHub,
    ) -> (Vec<ToClient>, Then) {
        let mut login = self.greet(address);
        let mut step = self.say(&mut login, say_id_with(&id.to_string(), invite));
        let mut said = std::mem::take(&mut step.say);
        if said == [ToClient::AskUniqueId] {
            step = self.say(&mut login, answer);
            said.append(&mut step.say);
        }
        (said, step.then)
    }
}

fn hello() -> ToHub {
    ToHub::Hello { versions: (1, 1), software: "test 1".into(), purpose: Purpose::Login }
}

fn say_id(id: u64) -> ToHub {
    say_id_with(&id.to_string(), None)
}

fn say_id_with(id: &str, invite: Option<&InviteCode>) -> ToHub {
    ToHub::Id { id: id.into(), invite: invite.map(|code| code.reveal().into()), name: "box".into() }
}

fn say_key(unique_id: &UniqueId) -> ToHub {
    ToHub::UniqueId { unique_id: unique_id.reveal().into() }
}

fn wrong_key(id: u64) -> ToHub {
    say_key(&UniqueId::from_random(ClientId::new(id).unwrap(), [31; 26]))
}

fn issued(step: &Step) -> UniqueId {
    match &step.say[..] {
        [ToClient::Issued { unique_id }] => UniqueId::parse(unique_id.reveal()).unwrap(),
        other => panic!("issued nothing: {other:?}"),
    }
}

fn refusal(said: &[ToClient]) -> &Refusal {
    match said.iter().find(|message| matches!(message, ToClient::Refused(_))) {
        Some(ToClient::Refused(refusal)) => refusal,
        _ => panic!("not refused: {said:?}"),
    }
}

#[test]
fn m3_2_words_floats_signs_zero_and_two_to_the_sixty_are_refused_with_a_reason_and_asked_again() {
    let texts = ["seven", "7.5", "-7", "+7", "07", "0", "1152921504606846976", "", " 7", "AUTO"];
    for text in texts {
        let mut door = Door::new(Enrol::Open);
        let mut login = door.greet(HOME);
        for round in 1..=BAD_ANSWERS_MAX {
            let step = door.say(&mut login, say_id_with(text, None));
            assert_eq!(refusal(&step.say).code, Code::BadId, "{text:?}");
            let over = round == BAD_ANSWERS_MAX;
            assert_eq!(step.say.contains(&ToClient::AskId), !over, "{text:?}");
            assert_eq!(step.then == Then::End, over, "{text:?}");
        }
        assert_eq!(door.book.clients().count(), 0);
    }
    let mut door = Door::new(Enrol::Open);
    let mut login = door.greet(HOME);
    door.say(&mut login, say_id_with("seven", None));
    issued(&door.say(&mut login, say_id(7)));
}

#[test]
fn m3_3_m3_4_a_new_id_is_issued_a_unique_id_and_a_known_one_proves_itself_with_it() {
    let mut door = Door::new(Enrol::Open);
    let unique_id = door.enrol(HOME, 7);
    for address in [HOME, AWAY] {
        let (said, then) = door.transcript(address, 7, None, say_key(&unique_id));
        assert_eq!(said, [ToClient::AskUniqueId]);
        assert!(matches!(then, Then::In(_)));
        for answer in [wrong_key(7), ToHub::Lost] {
            let (said, then) = door.transcript(address, 7, None, answer);
            assert_eq!(
                (said[0].clone(), refusal(&said).code, then),
                (ToClient::AskUniqueId, Code::NotProven, Then::End)
            );
        }
        door.pass(Duration::from_secs(3600));
    }
}

#[test]
fn unknown_wrong_and_revoked_are_one_answer_also_to_who_holds_a_spent_invite() {
    let mut door = Door::new(Enrol::Invite);
    let code = door.invite(InvitePurpose::Enrol(None), 2);
    for id in [7, 8] {
        let mut login = door.greet(HOME);
        issued(&door.say(&mut login, say_id_with(&id.to_string(), Some(&code))));
        door.say(&mut login, ToHub::Confirm);
    }
    door.revoke(8);
    let (mut transcripts, mut with_invite) = (Vec::new(), Vec::new());
    for id in [7, 8, 9] {
        for answer in [wrong_key(id), ToHub::Lost] {
            for invite in [None, Some(&code)] {
                // Who has nothing else to show is told of its invite, and of nothing else.
                let of_invite = invite.is_some() && answer == ToHub::Lost;
                let transcripts = if of_invite { &mut with_invite } else { &mut transcripts };
                transcripts.push(door.clone().transcript(AWAY, id, invite, answer.clone()));
            }
        }
    }
    assert_eq!((transcripts.len(), with_invite.len()), (9, 3));
    for alike in [transcripts, with_invite] {
        assert!(alike.iter().all(|transcript| *transcript == alike[0]), "{alike:#?}");
    }
}

#[test]
fn a_hub_that_knows_as_many_as_it_keeps_takes_nobody_new_and_lets_in_who_is_known() {
    let mut door = Door::new(Enrol::Open);
    let unique_id = door.enrol(HOME, 7);
    door.enrol(HOME, 8);
    door.known_max = 2;
    for id in ["9", AUTO] {
        let mut login = door.greet(AWAY);
        let step = door.say(&mut login, say_id_with(id, None));
        let refused = refusal(&step.say);
        assert_eq!((refused.code, &step.then), (Code::Full, &Then::End));
        assert!(refused.text.contains("knows 2 clients") && refused.text.contains("--max-clients"), "{}", refused.text);
        assert!(refused.text.contains("SIGHUP"), "{}", refused.text);
    }
    // Who was revoked leaves a place, and never comes back to it.
    let mut after = door.clone();
    let revoked = after.book.plan_revoke(ClientId::new(8).unwrap()).unwrap();
    let undo = after.book.apply(revoked);
    assert_eq!((after.book.count(), after.book.places()), (2, 1));
    after.enrol(AWAY, 9);
    assert_eq!(after.book.places(), 2);
    after.book.apply(undo);
    assert_eq!(after.book.places(), 3);
    assert!(matches!(door.transcript(AWAY, 7, None, say_key(&unique_id)).1, Then::In(_)));
    // Who is expected has a place already.
    door.known_max = 3;
    let change = ClientChange { name: Some("desk".into()), ..ClientChange::default() };
    let planned = door.book.plan_administer(ClientId::new(20).unwrap(), &change, true).unwrap();
    door.book.apply(planned);
    door.enrol(HOME, 20);
}

#[test]
fn a_closed_hub_takes_nobody_new_and_lets_in_who_is_known() {
    let mut door = Door::new(Enrol::Open);
    let unique_id = door.enrol(HOME, 7);
    door.policy.enrol = Enrol::Closed;
    let code = door.invite(InvitePurpose::Enrol(None), 1);
    assert_eq!(door.transcript(HOME, 8, Some(&code), ToHub::Lost).1, Then::End);
    assert!(matches!(door.transcript(HOME, 7, None, say_key(&unique_id)).1, Then::In(_)));
}

#[test]
fn a_mistyped_unique_id_is_told_and_costs_no_attempt() {
    let mut door = Door::new(Enrol::Open);
    let unique_id = door.enrol(HOME, 7);
    let other = UniqueId::from_random(ClientId::new(8).unwrap(), [3; 26]);
    let mut login = door.greet(HOME);
    door.say(&mut login, say_id(7));
    for (typed, word) in [(format!("{}X", unique_id.reveal()), "length"), (other.reveal(), "for id 8")] {
        let step = door.say(&mut login, ToHub::UniqueId { unique_id: typed.into() });
        assert!(refusal(&step.say).text.contains(word), "{step:?}");
        assert!(step.say.contains(&ToClient::AskUniqueId));
    }
    assert!(door.limiter.hold(HOME, unique_id.id(), door.clock).is_zero());
    assert!(matches!(door.say(&mut login, say_key(&unique_id)).then, Then::In(_)));
}

#[test]
fn strangers_cannot_lock_a_client_out() {
    let mut door = Door::new(Enrol::Open);
    let unique_id = door.enrol(HOME, 7);
    for _ in 0..1000 {
        let mut login = door.greet(AWAY);
        door.say(&mut login, say_id(7));
        let step = door.say(&mut login, wrong_key(7));
        if let Then::Wait { until } = step.then {
            door.pass(until - door.clock);
            assert_eq!(door.step(|desk, now| login.tick(desk, now)).then, Then::End);
        }
    }
    assert!(matches!(door.transcript(HOME, 7, None, say_key(&unique_id)).1, Then::In(_)), "from elsewhere, at once");

    // From the strangers' own address it takes a moment longer, and is never refused.
    let mut login = door.greet(AWAY);
    door.say(&mut login, say_id(7));
    let step = door.say(&mut login, say_key(&unique_id));
    assert_eq!(step.then, Then::Wait { until: door.clock + HOLD_MAX });
    door.pass(HOLD_MAX);
    assert!(matches!(door.step(|desk, now| login.tick(desk, now)).then, Then::In(_)));
}

#[test]
fn a_held_answer_is_not_looked_at_before_its_time() {
    let mut door = Door::new(Enrol::Open);
    let unique_id = door.enrol(HOME, 7);
    door.transcript(HOME, 7, None, wrong_key(7));
    let mut login = door.greet(HOME);
    door.say(&mut login, say_id(7));
    let step = door.say(&mut login, say_key(&unique_id));
    let Then::Wait { until } = step.then else { panic!("{step:?}") };
    assert_eq!((step.say.len(), until), (0, door.clock + Duration::from_secs(1)));
    let early = door.step(|desk, now| login.tick(desk, now));
    assert_eq!((early.say.len(), early.then), (0, Then::Wait { until }));
    let step = door.say(&mut login, ToHub::Confirm);
    assert_eq!((refusal(&step.say).code, step.then), (Code::Protocol, Then::End), "nothing is said meanwhile");
}

#[test]
fn a_clock_that_goes_back_takes_no_id_from_anybody_and_keeps_none_for_ever() {
    let mut door = Door::new(Enrol::Open);
    let mut login = door.greet(HOME);
    let unique_id = issued(&door.say(&mut login, say_id(7)));
    door.wall_ms -= 365 * 24 * 3600 * 1000;
    assert_eq!(door.clone().transcript(AWAY, 7, None, ToHub::Lost).1, Then::End, "still its own");
    assert!(matches!(door.clone().transcript(HOME, 7, None, say_key(&unique_id)).1, Then::In(_)));
    assert_eq!(door.transcript(AWAY, 7, None, wrong_key(7)).1, Then::End);
    door.pass(PROVISIONAL_MAX);
    let mut stranger = door.greet(AWAY);
    issued(&door.say(&mut stranger, say_id(7)));
}

#[test]
fn a_unique_id_never_confirmed_is_lost_only_from_home_and_within_ten_minutes() {
    let second = Duration::from_secs(1);
    let mut door = Door::new(Enrol::Open);
    let mut login = door.greet(HOME);
    let first = issued(&door.say(&mut login, say_id(7)));
    door.pass(PROVISIONAL_MAX - second);
    assert_eq!(door.clone().transcript(AWAY, 7, None, ToHub::Lost).1, Then::End);
    let mut again = door.clone();
    let (said, _) = again.transcript(HOME, 7, None, ToHub::Lost);
    assert!(matches!(said[1], ToClient::Issued { .. }));
    assert_eq!(again.transcript(HOME, 7, None, say_key(&first)).1, Then::End, "the first is replaced");
    door.pass(second);
    assert!(matches!(door.transcript(AWAY, 7, None, ToHub::Lost).0[0], ToClient::Issued { .. }), "unknown again");
}

#[test]
fn the_right_key_of_a_lapsed_id_still_confirms_unless_another_took_it_or_its_invite() {
    let mut door = Door::new(Enrol::Invite);
    let code = door.invite(InvitePurpose::Enrol(None), 1);
    let mut login = door.greet(HOME);
    let unique_id = issued(&door.say(&mut login, say_id_with("7", Some(&code))));
    door.pass(2 * PROVISIONAL_MAX);
    assert!(matches!(door.clone().transcript(AWAY, 7, None, say_key(&unique_id)).1, Then::In(_)));
    let mut other = door.greet(AWAY);
    issued(&door.say(&mut other, say_id_with("8", Some(&code))));
    assert!(matches!(door.say(&mut other, ToHub::Confirm).then, Then::In(_)), "the invite was given back");
    assert_eq!(door.transcript(HOME, 7, None, say_key(&unique_id)).1, Then::End, "and is not used twice");
}

#[test]
fn what_was_replaced_meanwhile_cannot_be_confirmed() {
    let mut door = Door::new(Enrol::Open);
    let mut slow = door.greet(HOME);
    issued(&door.say(&mut slow, say_id(7)));
    let (said, _) = door.transcript(HOME, 7, None, ToHub::Lost);
    assert!(matches!(said[1], ToClient::Issued { .. }));
    let step = door.say(&mut slow, ToHub::Confirm);
    assert_eq!((refusal(&step.say).code, step.then), (Code::NotProven, Then::End));
}

#[test]
fn who_says_nothing_is_cut_and_held_time_does_not_count() {
    let mut door = Door::new(Enrol::Open);
    let unique_id = door.enrol(HOME, 7);
    let mut login = door.greet(HOME);
    assert_eq!(login.until(), door.clock + LOGIN_MAX);
    door.pass(LOGIN_MAX - Duration::from_millis(1));
    assert!(matches!(door.step(|desk, now| login.tick(desk, now)).then, Then::Wait { .. }));
    door.transcript(HOME, 7, None, wrong_key(7));
    door.say(&mut login, say_id(7));
    let step = door.say(&mut login, say_key(&unique_id));
    let Then::Wait { until } = step.then else { panic!("{step:?}") };
    door.pass(until - door.clock);
    assert!(matches!(door.step(|desk, now| login.tick(desk, now)).then, Then::In(_)));

    let mut silent = door.greet(HOME);
    door.pass(LOGIN_MAX);
    let mut late = door.clone();
    let step = late.step(|desk, now| silent.tick(desk, now));
    assert_eq!((refusal(&step.say).code, step.then), (Code::TimedOut, Then::End));
}

#[test]
fn another_protocol_version_is_told_what_to_install() {
    for (versions, word) in [((2, 3), "on the hub"), ((0, 0), "on this machine")] {
        let mut door = Door::new(Enrol::Open);
        let mut login = Login::new(HOME, &door.policy.clone(), door.now());
        let greeting = ToHub::Hello { versions, software: "test".into(), purpose: Purpose::Login };
        let step = door.say(&mut login, greeting);
        let refusal = refusal(&step.say);
        assert_eq!((refusal.code, step.then), (Code::Version, Then::End));
        assert!(refusal.text.contains(word) && refusal.text.contains("lockstep 0.1.0"), "{}", refusal.text);
    }
    let mut door = Door::new(Enrol::Open);
    let mut login = Login::new(HOME, &door.policy.clone(), door.now());
    let greeting = ToHub::Hello { versions: (0, 9), software: "test".into(), purpose: Purpose::Login };
    assert!(matches!(door.say(&mut login, greeting).say[0], ToClient::Hello { version: 1, .. }));
}

#[test]
fn every_message_at_the_wrong_time_ends_the_login() {
    let token = Token([1; 32]);
    let messages = [
        hello(),
        say_id(7),
        wrong_key(7),
        ToHub::Lost,
        ToHub::Confirm,
        ToHub::Ping { nonce: 1 },
        ToHub::Hello { versions: (1, 1), software: "test".into(), purpose: Purpose::Bulk { token } },
        ToHub::Unfollow { fid: 1 },
    ];
    let mut door = Door::new(Enrol::Open);
    door.enrol(HOME, 8);
    for message in &messages {
        let mut before = Login::new(HOME, &door.policy.clone(), door.now());
        let mut issued_to = door.greet(HOME);
        let mut asked_id = door.greet(HOME);
        let mut asked_key = door.greet(HOME);
        let mut world = door.clone();
        world.say(&mut issued_to, say_id(7));
        world.say(&mut asked_key, say_id(8));
        for (login, right) in [
            (&mut before, matches!(message, ToHub::Hello { .. })),
            (&mut asked_id, matches!(message, ToHub::Id { .. })),
            (&mut asked_key, matches!(message, ToHub::UniqueId { .. } | ToHub::Lost)),
            (&mut issued_to, matches!(message, ToHub::Confirm)),
        ] {
            let step = world.clone().say(login, message.clone());
            let wrong = matches!(&step.say[..], [ToClient::Refused(refusal)] if refusal.code == Code::Protocol);
            assert_eq!(wrong, !right, "{message:?}: {step:?}");
            assert!(right || step.then == Then::End);
            if !right {
                assert_eq!(world.clone().say(login, say_id(7)).then, Then::End, "it stays ended");
            }
        }
    }
}

#[test]
fn further_connections_of_a_session_are_handed_on() {
    let mut door = Door::new(Enrol::Open);
    let purpose = Purpose::Relay { token: Token([5; 32]) };
    let mut login = Login::new(HOME, &door.policy.clone(), door.now());
    let step = door.say(&mut login, ToHub::Hello { versions: (1, 1), software: "t".into(), purpose: purpose.clone() });
    assert_eq!(step.then, Then::Attach(purpose));
}

/// A roster whose disk is full.
struct Full(Book);

impl Roster for Full {
    fn lookup(&self, id: ClientId) -> Option<Known> {
        self.0.lookup(id)
    }
    fn places(&self) -> usize {
        self.0.places()
    }
    fn lookup_invite(&self, code: &InviteHash) -> Option<Invite> {
        self.0.lookup_invite(code)
    }
    fn provisional_of(&self, code: &InviteHash) -> Option<ClientId> {
        self.0.provisional_of(code)
    }
    fn next_free_id(&self, among: Option<IdRange>) -> Option<ClientId> {
        self.0.next_free_id(among)
    }
    fn sweep(&mut self, _now_ms: i64) -> Result<(), RosterError> {
        Ok(())
    }
    fn issue(&mut self, _grant: &Grant) -> Result<(), RosterError> {
        Err(RosterError::Storage("cannot write roster.db: no space".into()))
    }
    fn confirm(&mut self, id: ClientId, hash: &KeyHash, now_ms: i64) -> Result<bool, RosterError> {
        self.0.confirm(id, hash, now_ms)
    }
}

#[test]
fn a_hub_that_cannot_keep_a_unique_id_does_not_issue_it() {
    let door = Door::new(Enrol::Open);
    let (mut roster, mut limiter, mut fresh) = (Full(Book::default()), Limiter::new(), UniqueId::fresh);
    let policy = &door.policy;
    let mut desk =
        Desk { policy, roster: &mut roster, limiter: &mut limiter, known_max: usize::MAX, fresh: &mut fresh };
    let mut login = Login::new(HOME, policy, door.now());
    let _greeted = login.on(hello(), &mut desk, door.now());
    let step = login.on(say_id(7), &mut desk, door.now());
    assert_eq!((refusal(&step.say).code, &step.then), (Code::HubFailed, &Then::End));
    assert!(step.note.unwrap().to_string().contains("no space"));
    assert!(!refusal(&step.say).text.contains("no space"), "what is inside stays inside");
}

#[test]
fn a_client_believes_no_hub_that_answers_out_of_turn() {
    let identity = Identity {
        id: Some(ClientId::new(7).unwrap()),
        unique_id: Some(UniqueId::from_random(ClientId::new(7).unwrap(), [1; 26])),
        invite: None,
        name: "box".into(),
        software: "test".into(),
    };
    let greeting = ToClient::Hello { version: 1, software: "hub".into(), hub: "hub".into() };
    let welcome = Welcome { id: 7, token: Token([0; 32]), hub: "hub".into(), shares: Vec::new(), silence_max_ms: 1 };
    let refused = |act: Act| matches!(act, Act::Refused(Refusal { code: Code::Protocol | Code::Version, .. }));

    let (mut client, _) = ClientLogin::new(identity.clone());
    assert!(refused(client.on(ToClient::AskUniqueId)), "its unique ID goes to nobody who has not greeted");
    let (mut client, _) = ClientLogin::new(identity.clone());
    assert!(refused(client.on(ToClient::Hello { version: 9, software: "hub".into(), hub: "hub".into() })));

    let (mut client, _) = ClientLogin::new(identity.clone());
    assert_eq!(client.on(greeting.clone()), Act::Wait);
    assert!(refused(client.on(ToClient::Welcome(welcome.clone()))), "in without proof");

    let (mut client, _) = ClientLogin::new(identity.clone());
    client.on(greeting.clone());
    client.on(ToClient::AskId);
    let foreign = UniqueId::from_random(ClientId::new(8).unwrap(), [1; 26]);
    assert!(refused(client.on(ToClient::Issued { unique_id: foreign.reveal().into() })), "another's unique ID");

    let (mut client, _) = ClientLogin::new(identity);
    client.on(greeting);
    client.on(ToClient::AskId);
    client.on(ToClient::AskUniqueId);
    assert!(refused(client.on(ToClient::Welcome(Welcome { id: 8, ..welcome }))), "another id");
}

#[test]
fn who_is_only_to_prove_itself_is_never_issued_anything() {
    let mut door = Door::new(Enrol::Open);
    let unique_id = door.enrol(HOME, 7);
    let code = door.invite(InvitePurpose::Enrol(None), 5);
    for (id, answer, is_in) in [
        ("7", say_key(&unique_id), true),
        ("7", wrong_key(7), false),
        ("7", ToHub::Lost, false),
        ("8", wrong_key(8), false),
        ("8", ToHub::Confirm, false),
    ] {
        let mut login = Login::proof_only(HOME, &door.policy, door.now());
        door.say(&mut login, hello());
        let asked = door.say(&mut login, say_id_with(id, Some(&code)));
        assert_eq!(asked.say, [ToClient::AskUniqueId], "{id}");
        let step = door.say(&mut login, answer);
        assert_eq!(matches!(step.then, Then::In(_)), is_in, "{id} {step:?}");
    }
    let mut login = Login::proof_only(HOME, &door.policy, door.now());
    door.say(&mut login, hello());
    assert_eq!(refusal(&door.say(&mut login, say_id_with(AUTO, Some(&code))).say).code, Code::BadId);
    assert_eq!(door.book.clients().count(), 1);
}
