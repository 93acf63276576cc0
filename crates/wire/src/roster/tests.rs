use super::*;
use crate::answer::ClientChange;
use crate::link::InviteCode;
use crate::unique_id::UniqueId;
use proptest::prelude::*;

const DAY_MS: i64 = 24 * 3600 * 1000;

fn id(id: u64) -> ClientId {
    ClientId::new(id).unwrap()
}

/// One operation of each kind on one of a few ids, codes and names; `None` where the book does not allow it.
fn plan(book: &Book, kind: u8, at: u64, codes: &[InviteCode], keys: &[UniqueId], now_ms: i64) -> Option<Change> {
    let key = &keys[usize::try_from(at).unwrap() - 1];
    let code = codes[usize::try_from(at).unwrap() % codes.len()].hash();
    let invite = |purpose| Invite {
        hash: code,
        purpose,
        uses: 2,
        uses_left: 2,
        created_at_ms: now_ms,
        expires_at_ms: now_ms + DAY_MS,
        rights: Rights::default(),
        tags: Vec::new(),
    };
    let grant = |ground, invite| Grant {
        id: id(at),
        name: format!("machine-{at}"),
        hash: key.hash(),
        origin: Origin { address: "192.0.2.1".into(), invite },
        ground,
        rights: Rights::default(),
        tags: Vec::new(),
        now_ms,
    };
    let token = |client| Token {
        hash: BearerHash([u8::try_from(at).unwrap(); 32]),
        name: format!("token-{at}"),
        client,
        may_put: true,
        administers: false,
        created_at_ms: now_ms,
        expires_at_ms: now_ms + DAY_MS,
    };
    match kind {
        0 => book.plan_issue(&grant(Ground::New, None)).ok(),
        1 => book.plan_issue(&grant(Ground::New, Some(code))).ok(),
        2 => book.plan_issue(&grant(Ground::Lost, None)).ok(),
        3 => book.plan_issue(&grant(Ground::Reissue, Some(code))).ok(),
        4 => book.plan_confirm(id(at), &key.hash(), now_ms),
        5 => Some(book.plan_sweep(now_ms)),
        6 => book.plan_invite(invite(InvitePurpose::Enrol(None))).ok(),
        7 => book.plan_invite(invite(InvitePurpose::Reissue(id(at)))).ok(),
        8 => book.plan_token(token((at > 2).then(|| id(at)))).ok(),
        9 => book.plan_token_gone(&format!("token-{at}"), None).ok().map(|(change, _)| change),
        10 => book.plan_revoke(id(at)).ok(),
        11 => {
            let change = ClientChange { tags_add: vec![format!("tag-{at}")], ..ClientChange::default() };
            book.plan_administer(id(at), &change, now_ms % 2 == 0).ok()
        }
        _ => Some(book.plan_edit(id(at), |client| client.last_seen_ms = Some(now_ms))),
    }
}

proptest! {
    #[test]
    fn whatever_was_applied_is_undone_in_the_reverse_order(
        operations in prop::collection::vec((0..13_u8, 1..5_u64, 0..DAY_MS), 1..60),
    ) {
        let keys: Vec<UniqueId> = (1..5).map(|at| UniqueId::fresh(id(at)).unwrap()).collect();
        let codes: Vec<InviteCode> = (0..3).map(|_| InviteCode::fresh().unwrap()).collect();
        let (mut book, mut made, mut now_ms) = (Book::default(), Vec::new(), 0);
        for (kind, at, later_ms) in operations {
            now_ms += later_ms;
            let Some(change) = plan(&book, kind, at, &codes, &keys, now_ms) else { continue };
            let before = book.clone();
            made.push((before, book.apply(change)));
        }
        while let Some((before, undo)) = made.pop() {
            book.apply(undo);
            prop_assert_eq!(&book, &before);
        }
    }
}
