//! What invites let in, with what they bring, and what they do not.

use super::*;

#[test]
fn a_replayed_invite_enrols_nobody() {
    let mut door = Door::new(Enrol::Invite);
    let code = door.invite(InvitePurpose::Enrol(None), 1);
    let mut login = door.greet(HOME);
    issued(&door.say(&mut login, say_id_with("7", Some(&code))));
    for confirmed in [false, true] {
        if confirmed {
            assert!(matches!(door.say(&mut login, ToHub::Confirm).then, Then::In(_)));
        }
        let (said, then) = door.transcript(AWAY, 8, Some(&code), ToHub::Lost);
        assert_eq!((refusal(&said).code, then), (Code::NotInvited, Then::End));
        if confirmed {
            let mut auto = door.greet(AWAY);
            let step = door.say(&mut auto, say_id_with(AUTO, Some(&code)));
            assert_eq!(refusal(&step.say).code, Code::NotInvited);
        }
    }
    assert_eq!(door.book.clients().count(), 1);
}

/// Who comes in by an invite may what that gives: on every hub, once for each use, and whatever was lost meanwhile.
#[test]
fn an_invite_gives_its_rights_to_who_comes_by_it_and_to_nobody_else() {
    for enrol in [Enrol::Invite, Enrol::Open] {
        let mut door = Door::new(enrol);
        let change = RightsChange { role: Some(Role::Observer), ..RightsChange::default() };
        door.gives = Rights::default().changed(&change).unwrap();
        let ids = IdRange { first: ClientId::new(10).unwrap(), last: ClientId::new(11).unwrap() };
        let code = door.invite(InvitePurpose::Enrol(Some(ids)), 2);
        let role = |door: &Door, id| door.book.client(ClientId::new(id).unwrap()).map(|client| client.rights.role);
        // An id that is not among them is not to be had by it.
        let mut login = door.greet(HOME);
        let step = door.say(&mut login, say_id_with("9", Some(&code)));
        match enrol {
            Enrol::Open => assert_eq!((issued(&step).id().get(), role(&door, 9)), (9, Some(Role::Client))),
            _ => assert_eq!(step.say, [ToClient::AskUniqueId]),
        }
        // `auto` gives the first of them, then the next.
        for id in [10, 11] {
            let mut login = door.greet(HOME);
            assert_eq!(issued(&door.say(&mut login, say_id_with(AUTO, Some(&code)))).id().get(), id);
            assert_eq!(role(&door, id), Some(Role::Observer));
            let step = door.say(&mut login, ToHub::Confirm);
            assert!(matches!(step.then, Then::In(_)));
        }
        assert_eq!(door.book.invite(&code.hash()).unwrap().uses_left, 0, "{enrol:?}");
        // One that lapsed was nobody's: who has the id next has what it came with.
        door.gives = Rights::default();
        let plain = door.invite(InvitePurpose::Enrol(None), 1);
        let special = door.invite(InvitePurpose::Enrol(None), 1);
        let mut login = door.greet(HOME);
        issued(&door.say(&mut login, say_id_with("20", Some(&special))));
        door.pass(PROVISIONAL_MAX);
        let mut login = door.greet(AWAY);
        issued(&door.say(&mut login, say_id_with("20", Some(&plain))));
        assert_eq!(role(&door, 20), Some(Role::Client));
    }
}

/// What an administrator said of an id holds for whoever comes under it, however often that does not come to its end; and nobody
/// becomes an admin by coming first.
#[test]
fn who_is_expected_comes_in_as_what_was_said_of_it() {
    let mut door = Door::new(Enrol::Open);
    let id = ClientId::new(7).unwrap();
    let rights = RightsChange { role: Some(Role::Observer), ..RightsChange::default() };
    let change = ClientChange { name: Some("desk".into()), rights, ..ClientChange::default() };
    assert_eq!(door.book.plan_administer(id, &change, false), Err(RosterError::Unknown { id }));
    let planned = door.book.plan_administer(id, &change, true).unwrap();
    door.book.apply(planned);
    assert!(door.book.plan_administer(id, &change, true).unwrap().is_empty());
    let admin = ClientChange {
        rights: RightsChange { role: Some(Role::Admin), ..RightsChange::default() },
        ..ClientChange::default()
    };
    assert_eq!(door.book.plan_administer(id, &admin, true), Err(RosterError::AdminToBe { id }));
    assert_eq!(door.book.next_free_id(None).unwrap().get(), 1);
    assert_eq!(door.book.next_free_id(Some(IdRange::parse("7-9").unwrap())).unwrap().get(), 8);
    // It is unknown to who comes: asked for no unique ID, and proven by none.
    for _ in 0..3 {
        let mut login = door.greet(HOME);
        issued(&door.say(&mut login, say_id(7)));
        let client = door.book.client(id).unwrap();
        assert_eq!((client.name.as_str(), client.rights.role), ("desk", Role::Observer));
        door.pass(PROVISIONAL_MAX);
    }
    door.pass(Duration::from_secs(30 * 24 * 3600));
    for id in [8, 9] {
        assert_eq!(door.transcript(HOME, id, None, wrong_key(id)).0.len(), 1);
    }
    assert_eq!(door.book.client(id).unwrap().known, Known::Expected);
    door.enrol(HOME, 7);
    assert_eq!(door.book.client(id).unwrap().rights.role, Role::Observer);
    let planned = door.book.plan_administer(id, &admin, false).unwrap();
    door.book.apply(planned);
    assert_eq!(door.book.client(id).unwrap().rights.role, Role::Admin);
}

#[test]
fn an_invite_for_one_id_enrols_no_other_and_an_expired_one_none() {
    let mut door = Door::new(Enrol::Invite);
    let nine = ClientId::new(9).unwrap();
    let code = door.invite(InvitePurpose::Enrol(Some(IdRange::one(nine))), 1);
    assert_eq!(door.transcript(HOME, 8, Some(&code), ToHub::Lost).1, Then::End);
    let mut late = door.clone();
    late.pass(Duration::from_secs(24 * 3600));
    assert_eq!(late.transcript(HOME, 9, Some(&code), ToHub::Lost).1, Then::End);
    let mut login = door.greet(HOME);
    assert_eq!(issued(&door.say(&mut login, say_id_with(AUTO, Some(&code)))).id(), nine);
}

/// Who holds an invite that is of no use any more is told so, whatever is known of the id; who guesses learns nothing.
#[test]
fn who_holds_a_bad_invite_is_told_what_is_wrong_with_it_and_of_no_id_anything() {
    let mut door = Door::new(Enrol::Invite);
    let known = door.invite(InvitePurpose::Enrol(None), 1);
    let mut login = door.greet(HOME);
    issued(&door.say(&mut login, say_id_with("7", Some(&known))));
    door.say(&mut login, ToHub::Confirm);
    let revoked = door.book.plan_revoke(ClientId::new(7).unwrap()).unwrap();
    let (spent, ids) = (known, IdRange::parse("20-29").unwrap());
    let expired = door.invite(InvitePurpose::Enrol(None), 5);
    door.pass(Duration::from_secs(24 * 3600 - 60));
    let bound = door.invite(InvitePurpose::Enrol(Some(ids)), 2);
    door.pass(Duration::from_secs(60));
    let mut without = door.clone();
    without.book.apply(revoked);
    for door in [&door, &without] {
        for (code, fault) in
            [(&spent, InviteFault::Spent), (&expired, InviteFault::Expired), (&bound, InviteFault::OtherIds)]
        {
            // Known or revoked, and unknown.
            for id in [7, 8] {
                let mut door = door.clone();
                let mut login = door.greet(AWAY);
                assert_eq!(door.say(&mut login, say_id_with(&id.to_string(), Some(code))).say, [ToClient::AskUniqueId]);
                let step = door.say(&mut login, ToHub::Lost);
                assert_eq!((refusal(&step.say), &step.then), (&fault.refusal(), &Then::End));
                let note = step.note.clone();
                assert!(matches!(note, Some(Note::BadInvite { fault: told, .. }) if told == fault), "{note:?}");
                assert!(!format!("{step:?}").contains(&code.reveal()), "no secret is told");
            }
        }
        for (code, fault) in [(&spent, InviteFault::Spent), (&expired, InviteFault::Expired)] {
            let mut door = door.clone();
            let mut login = door.greet(AWAY);
            let step = door.say(&mut login, say_id_with(AUTO, Some(code)));
            assert_eq!(refusal(&step.say), &fault.refusal());
        }
    }
    // A code that is none is told nothing of, and is as good as none.
    let guessed = InviteCode::from_random([31; 26]);
    let answers = [Some(&guessed), None].map(|code| door.clone().transcript(AWAY, 7, code, ToHub::Lost).0);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(refusal(&answers[0]).code, Code::NotProven);
    // Whoever can prove the id is let in, whatever it brings.
    door.policy.enrol = Enrol::Open;
    let key = door.enrol(HOME, 9);
    assert!(matches!(door.transcript(HOME, 9, Some(&spent), say_key(&key)).1, Then::In(_)));
    // What was over for a day is forgotten.
    door.pass(Duration::from_secs(3 * 24 * 3600));
    let mut login = door.greet(AWAY);
    door.say(&mut login, say_id_with("7", Some(&spent)));
    assert_eq!(refusal(&door.say(&mut login, ToHub::Lost).say).code, Code::NotProven);
}

#[test]
fn a_reissue_gives_a_new_unique_id_and_the_old_one_stays_right_until_it_is_confirmed() {
    let mut door = Door::new(Enrol::Closed);
    door.policy.enrol = Enrol::Open;
    let old = door.enrol(HOME, 7);
    door.policy.enrol = Enrol::Closed;
    let code = door.invite(InvitePurpose::Reissue(old.id()), 1);
    let mut login = door.greet(AWAY);
    let new = issued(&door.say(&mut login, say_id_with("7", Some(&code))));
    assert!(matches!(door.transcript(HOME, 7, None, say_key(&old)).1, Then::In(_)), "the old one is still right");
    assert_eq!(door.clone().transcript(AWAY, 7, None, ToHub::Lost).1, Then::End, "a neighbour has no say");
    let (said, _) = door.clone().transcript(HOME, 7, Some(&code), ToHub::Lost);
    assert!(matches!(said[1], ToClient::Issued { .. }), "the invite's holder has");
    assert!(matches!(door.transcript(HOME, 7, None, say_key(&new)).1, Then::In(_)), "the new one confirms itself");
    assert_eq!(door.transcript(HOME, 7, None, say_key(&old)).1, Then::End, "and ends the old one");
    assert_eq!(door.transcript(AWAY, 7, Some(&code), ToHub::Lost).1, Then::End, "the invite is spent");
}

#[test]
fn automatic_ids_differ_and_a_lost_reply_is_found_again_by_its_one_off_invite() {
    let mut door = Door::new(Enrol::Open);
    let ids: Vec<u64> = (0..3)
        .map(|_| {
            let mut login = door.greet(HOME);
            issued(&door.say(&mut login, say_id_with(AUTO, None))).id().get()
        })
        .collect();
    assert_eq!(ids, [1, 2, 3]);
    door.policy.enrol = Enrol::Invite;
    let code = door.invite(InvitePurpose::Enrol(None), 1);
    for _ in 0..2 {
        let mut login = door.greet(HOME);
        assert_eq!(issued(&door.say(&mut login, say_id_with(AUTO, Some(&code)))).id().get(), 4);
    }
    let mut login = door.greet(HOME);
    assert_eq!(refusal(&door.say(&mut login, say_id_with(AUTO, None)).say).code, Code::NotInvited);
}
