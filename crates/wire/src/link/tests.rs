use super::*;
use proptest::prelude::*;

fn link(host: &str) -> JoinLink {
    JoinLink::new(host, 7117, Fingerprint::of(b"a key"), Some(InviteCode::from_random([9; 26]))).unwrap()
}

#[test]
fn a_link_reads_back_and_needs_no_quotes_in_any_shell() {
    for host in ["hub.example", "hub", "192.0.2.7", "2001:db8::7", "[::1]", "fe80::1%eth0", "a-b_c.d"] {
        let link = link(host);
        let text = link.reveal();
        assert_eq!(JoinLink::parse(&format!(" {text}\r\n")), Ok(link), "{text}");
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-_%".contains(&b)), "{text}");
        assert!(JoinLink::looks_like(&text));
    }
    assert_eq!(link("::1").address(), "[::1]:7117");
    assert_eq!(link("hub.example").address(), "hub.example:7117");
}

#[test]
fn a_link_without_an_invite_reads_back() {
    let link = JoinLink::new("hub", 1, Fingerprint::of(b"a key"), None).unwrap();
    assert_eq!(JoinLink::parse(&link.reveal()), Ok(link));
}

#[test]
fn an_invite_is_found_in_whatever_was_printed_of_it() {
    let (link, code) = (link("hub.example"), InviteCode::from_random([9; 26]));
    for text in [code.reveal(), link.reveal(), format!("lockstep join {}\n", link.reveal())] {
        assert_eq!(InviteCode::within(&text).unwrap().reveal(), code.reveal(), "{text}");
    }
    let without = JoinLink::new("hub", 7117, Fingerprint::of(b"a key"), None).unwrap().reveal();
    for none in ["", " ", "lsj1.x", &without, &code.reveal()[1..]] {
        assert!(InviteCode::within(none).is_none(), "{none}");
    }
}

#[test]
fn an_invite_does_not_show_itself() {
    let text = format!("{:?}", link("hub"));
    assert!(!text.contains(&InviteCode::from_random([9; 26]).reveal()), "{text}");
}

#[test]
fn hosts_that_could_be_something_else_are_refused() {
    for host in ["", "-oProxyCommand", "a b", "a/b", "a\nb", "a..b", ".a", "a.", "::zz", "fe80::1%", "ü", "a@b", "$(x)"]
    {
        let got = JoinLink::new(host, 7117, Fingerprint::of(b""), None);
        assert_eq!(got, Err(BadLink::Host), "{host:?}");
    }
    assert_eq!(JoinLink::new(&"a".repeat(253), 1, Fingerprint::of(b""), None).map(|_| ()), Ok(()));
    assert_eq!(JoinLink::new(&"a".repeat(254), 1, Fingerprint::of(b""), None), Err(BadLink::Host));
    assert_eq!(JoinLink::new("a", 0, Fingerprint::of(b""), None), Err(BadLink::Port));
}

#[test]
fn the_longest_link_is_still_looked_at() {
    let text = link(&"a".repeat(253)).reveal();
    assert!(text.len() < LINK_BYTES_MAX && JoinLink::parse(&text).is_ok());
    assert_eq!(JoinLink::parse(&format!("{text}{}", "A".repeat(LINK_BYTES_MAX))), Err(BadLink::Form));
}

proptest! {
    #[test]
    fn a_link_cut_short_anywhere_is_told_so(host in "[a-z][a-z0-9.-]{0,20}[a-z0-9]", random: [u8; 26], cut in 5_usize..60) {
        prop_assume!(!host.contains(".."));
        let link = JoinLink::new(&host, 7117, Fingerprint::of(host.as_bytes()), Some(InviteCode::from_random(random))).unwrap();
        let text = link.reveal();
        prop_assert_eq!(JoinLink::parse(&text).unwrap(), link);
        prop_assert!(JoinLink::parse(&text[..text.len() - cut]).is_err());
    }

    #[test]
    fn one_changed_character_never_passes(at in 5_usize..80, to in "[A-Z0-9.]") {
        let text = link("hub.example").reveal();
        prop_assume!(!text[at..=at].eq_ignore_ascii_case(&to));
        let same = |a: &str, b: &str| [a, b].iter().all(|c| "0Oo".contains(*c)) || [a, b].iter().all(|c| "1IiLl".contains(*c));
        prop_assume!(!same(&text[at..=at], &to));
        let changed = format!("{}{to}{}", &text[..at], &text[at + 1..]);
        prop_assert!(JoinLink::parse(&changed).is_err());
    }

    #[test]
    fn whatever_is_pasted_is_answered(text in "(lsj1\\.)?.{0,600}") {
        let _answer = JoinLink::parse(&text);
    }
}
