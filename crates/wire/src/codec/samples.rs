//! One message of every kind, with a different value in every field: what the golden frames say.

use crate::answer::*;
use crate::id::ClientId;
use crate::message::*;
use crate::ran::Ran;
use crate::rights::{IdRange, Rights, RightsChange, Role, Sees};
use crate::secret::Token;
use bytes::Bytes;

const HASH: Hash = [0xab; 32];
const TOKEN: Token = Token([0xcd; 32]);

fn version() -> Version {
    Version { epoch: 1 << 100, run: 1 << 40, seq: 300 }
}

fn content() -> Content {
    Content { content_type: "text/plain".into(), bytes: Bytes::from_static(b"hello") }
}

fn refusal(code: Code, retry_ms: Option<u64>) -> Refusal {
    Refusal { code, text: "why".into(), retry_ms }
}

pub(crate) fn stored() -> Stored {
    Stored { content: content(), by: 7, at_ms: 1_700_000_000_000 }
}

pub(crate) fn to_hub() -> Vec<(&'static str, ToHub)> {
    let walk = WalkMark { head: 9, upto: Bytes::from_static(b"a/b"), reset: true };
    let ack = Ack {
        fid: 1,
        applied: version(),
        complete: true,
        durable_seq: 299,
        waiting: 2,
        problems: 3,
        first_problems: vec![(Bytes::from_static(b"a\xff"), "no space".into())],
        root_agrees: Some(false),
        entries: 4,
        content_bytes: 5,
        held_deletes: 8,
        after: Some(Box::new(ran())),
    };
    let vitals = Vitals { at_ms: -1, cpu_busy_pct: Some(12.5), mem_used_bytes: Some(1024), mem_total_bytes: None };
    let hello = |purpose| ToHub::Hello { versions: (1, 2), software: "lockstep 0.1.0".into(), purpose };
    let ask = |question| ToHub::Ask { req: 6, question };
    let id = |id| ClientId::new(id).unwrap();
    let rights = RightsChange {
        role: Some(Role::Observer),
        read: some("a*"),
        put: some("b"),
        shares: some("s"),
        clients: Some(Sees::Itself),
    };
    let token =
        Question::Token { name: Some("t".into()), id: Some(7), may_put: true, expires_s: 3600, administers: true };
    let invite = Question::Invite {
        uses: 3,
        expires_s: 3600,
        ids: Some(IdRange { first: id(9), last: id(300) }),
        rights: rights.clone(),
        tags: vec!["t".into()],
    };
    let change = ClientChange {
        name: Some("box".into()),
        tags: some("t"),
        tags_add: vec!["u".into()],
        tags_remove: vec!["v".into()],
        rights,
    };
    vec![
        ("hello_login", hello(Purpose::Login)),
        ("hello_bulk", hello(Purpose::Bulk { token: TOKEN })),
        ("hello_relay", hello(Purpose::Relay { token: TOKEN })),
        ("id", ToHub::Id { id: "7".into(), invite: Some("CODE".into()), name: "box".into() }),
        ("id_without_invite", ToHub::Id { id: "auto".into(), invite: None, name: "box".into() }),
        ("unique_id", ToHub::UniqueId { unique_id: "ls-7-X".into() }),
        ("lost", ToHub::Lost),
        ("confirm", ToHub::Confirm),
        ("follow", ToHub::Follow { fid: 1, board: "data".into(), pattern: Bytes::from_static(b"*"), cursor: None }),
        (
            "follow_from",
            ToHub::Follow {
                fid: 1,
                board: "share/s".into(),
                pattern: Bytes::from_static(b"a*"),
                cursor: Some(Cursor { version: version(), seen: 301, walk: Some(walk) }),
            },
        ),
        ("unfollow", ToHub::Unfollow { fid: 1 }),
        ("put", ToHub::Put { req: 2, name: Bytes::from_static(b"n"), value: Some(content()) }),
        ("put_removal", ToHub::Put { req: 2, name: Bytes::from_static(b"n"), value: None }),
        ("get", ToHub::Get { req: 3, name: Bytes::from_static(b"n") }),
        ("ack", ToHub::Ack(ack)),
        ("vitals", ToHub::Vitals(vitals)),
        ("ask_status", ask(Question::Status)),
        ("ask_clients", ask(Question::Clients { all: true, after: 300 })),
        ("ask_client", ask(Question::Client { id: 7 })),
        ("ask_wait", ask(Question::Wait { target: Some("s".into()), clients: vec![7, 300], timeout_ms: 60_000 })),
        ("ask_invite", ask(invite)),
        ("ask_revoke", ask(Question::Revoke { id: 7 })),
        ("ask_reissue", ask(Question::Reissue { id: 7 })),
        ("ask_allow_deletes", ask(Question::AllowDeletes { share: "s".into() })),
        ("ask_token", ask(token)),
        ("ask_tokens", ask(Question::Tokens)),
        ("ask_revoke_token", ask(Question::RevokeToken { name: "t".into() })),
        ("ask_backup", ask(Question::Backup)),
        ("ask_leave", ask(Question::Leave)),
        ("ask_administer", ask(Question::Administer { id: 7, change: change.clone() })),
        ("ask_import", ask(Question::Import { rows: vec![ImportRow { id: 300, change }], dry_run: true })),
        ("ask_why", ask(Question::Why { target: Some("s/a".into()), client: Some(7) })),
        ("ask_install", ask(Question::Install)),
        ("ping", ToHub::Ping { nonce: 1 << 63 }),
        ("want", ToHub::Want { share: "s".into(), contents: vec![HASH] }),
        ("want_chunks", ToHub::WantChunks { share: "s".into(), content: HASH, chunks: vec![0, 1, 300] }),
    ]
}

fn ran() -> Ran {
    Ran::new(1, "exited", Some(-1), std::time::Duration::from_millis(300), 2, Some("no"))
}

fn some(text: &str) -> Option<Vec<String>> {
    Some(vec![text.to_owned()])
}

pub(crate) fn to_client() -> Vec<(&'static str, ToClient)> {
    let info = ShareInfo { name: "s".into(), entries: 4, bytes: 5, complete: true };
    let behind = Behind { id: 7, name: "box".into(), what: "s".into(), why: "slow".into(), since_ms: Some(3) };
    let share = ShareStatus {
        info: info.clone(),
        directory: "/d".into(),
        head: 300,
        root: "ab".into(),
        problems: vec!["p".into()],
        held_deletes: 6,
        in_sync: 1,
        not_in_sync: 300,
        behind: vec![behind.clone()],
    };
    let status = Status {
        hub: "h".into(),
        version: "0.1.0".into(),
        started_at_ms: 1,
        addresses: vec!["a:1".into()],
        clients_active: 2,
        values: 3,
        shares: vec![share],
        values_in_sync: 4,
        values_not_in_sync: 301,
        values_behind: vec![behind.clone()],
        after: vec![AfterStatus { id: 7, name: "box".into(), what: "s".into(), ran: ran() }],
        on: vec![OnStatus {
            event: "away".into(),
            program: "page".into(),
            running: true,
            waiting: 1,
            runs: 300,
            failed: 2,
            last: Some(ran()),
        }],
    };
    let held = ClientShare {
        name: "s".into(),
        applied_seq: 1,
        durable_seq: 2,
        head: 3,
        entries: 4,
        waiting: 5,
        problems: 6,
        first_problems: vec!["p".into()],
        root_agrees: Some(true),
        content_bytes: 7,
        held_deletes: 8,
        after: Some(ran()),
    };
    let row = ClientRow {
        id: 7,
        name: "box".into(),
        state: ClientState::Active,
        address: "::1".into(),
        transport: "native".into(),
        enrolled_at_ms: 1,
        last_login_ms: Some(2),
        last_seen_ms: None,
        shares: vec![held.clone()],
        version: "0.1.0".into(),
        in_sync: false,
        vitals: Some(Vitals::default()),
        values: vec![ClientShare { name: "v*".into(), root_agrees: None, ..held }],
        tags: vec!["t".into()],
        rights: Some(Rights { role: Role::Admin, read: some("a*"), ..Rights::default() }),
    };
    let state =
        |state| ClientRow { state, rights: None, shares: Vec::new(), vitals: None, values: Vec::new(), ..row.clone() };
    let states = [ClientState::Away, ClientState::Provisional, ClientState::Revoked, ClientState::Expected].map(state);
    let why = WhyRow {
        what: "s/a".into(),
        id: Some(7),
        name: "box".into(),
        has: false,
        reason: "behind".into(),
        text: "slow".into(),
        since_ms: None,
    };
    let imported = Imported { changed: 1, unchanged: 2, wrong: vec![(300, "why".into())] };
    let share_behind = ShareBehind { name: "s".into(), why: "moved".into(), held: true };
    let wait =
        WaitAnswer { done: false, in_sync: 1, not_in_sync: 300, behind: vec![behind], shares: vec![share_behind] };
    let token = TokenRow {
        name: "t".into(),
        id: 7,
        may_put: true,
        created_at_ms: 1,
        expires_at_ms: 2,
        good: true,
        administers: true,
    };
    let installer = Installer {
        line: "sh".into(),
        url: "http://h:1/i".into(),
        sha256: "ab".into(),
        bytes: 300,
        version: "0.1.0".into(),
        glibc: Some("2.34".into()),
    };
    let answer = |answer| ToClient::Answer { req: 6, answer };
    let record = |name: &'static [u8], value: Option<&'static [u8]>, inline: Option<&'static [u8]>| Record {
        name: Bytes::from_static(name),
        seq: 300,
        value: value.map(Bytes::from_static),
        inline: inline.map(Bytes::from_static),
    };
    let mut samples = vec![
        ("hello", ToClient::Hello { version: 1, software: "lockstep 0.1.0".into(), hub: "h".into() }),
        ("ask_id", ToClient::AskId),
        ("issued", ToClient::Issued { unique_id: "ls-7-X".into() }),
        ("ask_unique_id", ToClient::AskUniqueId),
        (
            "welcome",
            ToClient::Welcome(Welcome {
                id: 7,
                token: TOKEN,
                hub: "h".into(),
                shares: vec![info],
                silence_max_ms: 15_000,
            }),
        ),
        ("attached", ToClient::Attached),
        ("following", ToClient::Following { fid: 1, group: 2, epoch: 3, run: 4, reset: true }),
        (
            "batch_live",
            ToClient::Batch(Batch {
                group: 2,
                records: vec![record(b"a", Some(b"value"), Some(b"content")), record(b"b\xff", None, None)],
                mark: Mark::Live { from: 298, to: 300, view: 301, current: Some(HASH) },
            }),
        ),
        (
            "batch_walk",
            ToClient::Batch(Batch {
                group: 2,
                records: Vec::new(),
                mark: Mark::Walk { head: 300, upto: Bytes::from_static(b"a"), last: false, reset: true },
            }),
        ),
        ("put_done", ToClient::PutDone { req: 2, version: version() }),
        ("got", ToClient::Got { req: 3, value: Some((version(), stored())) }),
        ("got_nothing", ToClient::Got { req: 3, value: None }),
        ("answer_status", answer(Answer::Status(status))),
        ("answer_clients", answer(Answer::Clients(vec![row]))),
        ("answer_clients_states", answer(Answer::Clients(states.into()))),
        ("answer_wait", answer(Answer::Wait(wait))),
        ("answer_link", answer(Answer::Link { link: "lsj1.X".into() })),
        ("answer_done", answer(Answer::Done)),
        ("answer_token", answer(Answer::Token { token: "lst_X".into(), row: token.clone() })),
        ("answer_tokens", answer(Answer::Tokens(vec![token]))),
        ("answer_backup", answer(Answer::Backup { directory: "/b".into() })),
        ("answer_imported", answer(Answer::Imported(imported))),
        ("answer_why", answer(Answer::Why(vec![why]))),
        ("answer_install", answer(Answer::Install(installer))),
        ("failed", ToClient::Failed { req: 2, refusal: refusal(Code::NotAllowed, None) }),
        ("pong", ToClient::Pong { nonce: 1 << 63 }),
        ("bye", ToClient::Bye(refusal(Code::Stopping, Some(1000)))),
        ("content", ToClient::Content { content: HASH, bytes: Bytes::from_static(b"hello") }),
        ("recipe", ToClient::Recipe { content: HASH, first: 2, total: 3, chunks: vec![([1; 32], 65_536)] }),
        ("chunk", ToClient::Chunk { content: HASH, index: 300, bytes: Bytes::from_static(b"hello") }),
        ("gone", ToClient::Gone { content: HASH }),
    ];
    let codes = [
        ("refused_bad_id", Code::BadId),
        ("refused_not_proven", Code::NotProven),
        ("refused_not_invited", Code::NotInvited),
        ("refused_rate_limited", Code::RateLimited),
        ("refused_version", Code::Version),
        ("refused_protocol", Code::Protocol),
        ("refused_taken_over", Code::TakenOver),
        ("refused_revoked", Code::Revoked),
        ("refused_timed_out", Code::TimedOut),
        ("refused_stopping", Code::Stopping),
        ("refused_full", Code::Full),
        ("refused_not_found", Code::NotFound),
        ("refused_not_allowed", Code::NotAllowed),
        ("refused_limit", Code::Limit),
        ("refused_hub_failed", Code::HubFailed),
    ];
    samples.extend(codes.map(|(name, code)| (name, ToClient::Refused(refusal(code, None)))));
    samples
}
