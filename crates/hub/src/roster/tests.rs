use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use wire::login::{Desk, Enrol, Login, Now, Policy, Step, Then};
use wire::message::{Purpose, ToClient, ToHub};
use wire::rights::{RightsChange, Role, Sees};
use wire::roster::{Ground, Origin, Roster as _};
use wire::unique_id::UniqueId;

const MINUTE_MS: i64 = 60_000;

fn id(id: u64) -> ClientId {
    ClientId::new(id).unwrap()
}

fn grant(at: u64, unique_id: &UniqueId, invite: Option<InviteHash>, now_ms: i64) -> Grant {
    Grant {
        id: id(at),
        name: format!("machine-{at}"),
        hash: unique_id.hash(),
        origin: Origin { address: "192.0.2.1".into(), invite },
        ground: Ground::New,
        rights: Rights::default(),
        tags: Vec::new(),
        now_ms,
    }
}

/// A roster with its file, written when a test says so.
#[derive(Debug)]
struct Held {
    roster: Roster,
    store: Store,
}

impl Held {
    fn open(path: &Path) -> Result<Held, RosterError> {
        let (roster, store) = Roster::open(path)?;
        Ok(Held { roster, store })
    }

    /// Writes what waits.
    fn settle(&mut self) -> Result<(), RosterError> {
        let result = self.store.write(&self.roster.begin());
        self.roster.written(&result);
        result
    }
}

impl std::ops::Deref for Held {
    type Target = Roster;

    fn deref(&self) -> &Roster {
        &self.roster
    }
}

impl std::ops::DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Roster {
        &mut self.roster
    }
}

/// What a killed hub leaves behind: the files as they are now, opened by another.
fn killed(path: &Path) -> (tempfile::TempDir, Held) {
    let dir = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("roster.db{suffix}");
        std::fs::copy(path.with_file_name(&name), dir.path().join(&name)).unwrap();
    }
    let roster = Held::open(&dir.path().join("roster.db")).unwrap();
    (dir, roster)
}

#[test]
fn m3_4_what_was_issued_and_confirmed_survives_a_killed_hub() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roster.db");
    let mut roster = Held::open(&path).unwrap();
    let code = roster.new_invite(2, MINUTE_MS, Gives::default(), 5).unwrap();
    let keys: Vec<UniqueId> = (1..=4).map(|at| UniqueId::fresh(id(at)).unwrap()).collect();
    roster.issue(&grant(1, &keys[0], Some(code.hash()), 10)).unwrap();
    roster.issue(&grant(2, &keys[1], None, 10)).unwrap();
    assert!(roster.confirm(id(2), &keys[1].hash(), 11).unwrap());
    roster.issue(&grant(3, &keys[2], None, 10)).unwrap();
    roster.revoke(id(3)).unwrap();
    let reissue = roster.reissue(id(2), 12).unwrap();
    let newer = grant(2, &keys[3], Some(reissue.hash()), 13);
    roster.issue(&Grant { ground: Ground::Reissue, ..newer }).unwrap();
    let names = |names: [&str; 2]| names.map(str::to_owned).into();
    roster.set_kept(id(2), names(["b", "a"]), names(["price*", "*"]));
    let about = About { name: "box", address: "::1", transport: "native", version: "0.1.0" };
    roster.note_login(id(2), &about, 14);
    assert!(roster.gather());
    roster.settle().unwrap();

    let (_dir, after) = killed(&path);
    assert_eq!(after.list().collect::<Vec<_>>(), roster.list().collect::<Vec<_>>());
    assert_eq!(after.lookup_invite(&code.hash()), roster.lookup_invite(&code.hash()));
    assert_eq!(after.lookup_invite(&code.hash()).unwrap().uses_left, 1);
    assert_eq!(after.client(id(2)).unwrap().shares, ["a", "b"]);
    assert_eq!(after.client(id(2)).unwrap().values, ["*", "price*"]);
    assert_eq!(after.client(id(2)).unwrap().last_login_ms, Some(14));
}

#[test]
fn the_file_is_for_its_owner_alone_and_so_are_those_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roster.db");
    std::fs::write(&path, b"").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut roster = Held::open(&path).unwrap();
    roster.new_invite(1, MINUTE_MS, Gives::default(), 0).unwrap();
    roster.settle().unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().mode() & 0o777, 0o600);
        seen += 1;
    }
    assert!(seen >= 2, "the file and its log");
}

#[test]
fn no_secret_is_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roster.db");
    let mut roster = Held::open(&path).unwrap();
    let code = roster.new_invite(2, MINUTE_MS, Gives::default(), 5).unwrap();
    let unique_id = UniqueId::fresh(id(1)).unwrap();
    roster.issue(&grant(1, &unique_id, Some(code.hash()), 10)).unwrap();
    roster.settle().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend(std::fs::read(path.with_file_name("roster.db-wal")).unwrap());
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("machine-1"), "the search works");
    assert!(!holds(&unique_id.reveal()) && !holds(&unique_id.reveal()[5..20]) && !holds(&code.reveal()));
}

/// The tables as the releases made them that kept formats 1 to 3.
const FORMAT_1: &str = "
    CREATE TABLE clients (id INTEGER PRIMARY KEY, name TEXT NOT NULL, state INTEGER NOT NULL, hash BLOB, origin_address TEXT,
        origin_invite BLOB, issued_at_ms INTEGER, next_hash BLOB, next_invite BLOB, next_issued_at_ms INTEGER,
        next_lapsed INTEGER, address TEXT NOT NULL, transport TEXT NOT NULL, enrolled_at_ms INTEGER NOT NULL,
        last_login_ms INTEGER, last_seen_ms INTEGER, shares TEXT NOT NULL, version TEXT NOT NULL) STRICT;
    CREATE TABLE invites (hash BLOB PRIMARY KEY, purpose INTEGER NOT NULL, id INTEGER, uses INTEGER NOT NULL,
        uses_left INTEGER NOT NULL, created_at_ms INTEGER NOT NULL, expires_at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO clients VALUES (7, 'desk', 2, zeroblob(32), NULL, NULL, NULL, NULL, NULL, NULL, NULL, '::1', 'native', 5, 6, 7,
        'a' || char(10) || 'b', '0.0.1');
    INSERT INTO clients VALUES (8, 'gone', 3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '::1', 'text', 5, 6, 7, '', '');
    INSERT INTO invites VALUES (zeroblob(32), 0, 9, 2, 1, 10, 20);
    PRAGMA user_version = 1;
";
const FORMAT_2: &str = "
    ALTER TABLE clients ADD COLUMN kept_values TEXT NOT NULL DEFAULT '';
    CREATE TABLE tokens (hash BLOB PRIMARY KEY, name TEXT NOT NULL UNIQUE, client INTEGER, may_put INTEGER NOT NULL,
        created_at_ms INTEGER NOT NULL, expires_at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO tokens VALUES (zeroblob(32), 'probe', 7, 1, 10, 9000000000000);
    UPDATE clients SET kept_values = 'price*' WHERE id = 7;
    PRAGMA user_version = 2;
";
const FORMAT_3: &str = "
    ALTER TABLE clients ADD COLUMN role INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE clients ADD COLUMN may_read TEXT;
    ALTER TABLE clients ADD COLUMN may_put TEXT;
    ALTER TABLE clients ADD COLUMN may_join TEXT;
    ALTER TABLE clients ADD COLUMN sees INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE clients ADD COLUMN tags TEXT NOT NULL DEFAULT '';
    ALTER TABLE clients ADD COLUMN renamed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE clients ADD COLUMN administered INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE invites ADD COLUMN id_last INTEGER;
    ALTER TABLE invites ADD COLUMN role INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE invites ADD COLUMN may_read TEXT;
    ALTER TABLE invites ADD COLUMN may_put TEXT;
    ALTER TABLE invites ADD COLUMN may_join TEXT;
    ALTER TABLE invites ADD COLUMN sees INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE invites ADD COLUMN tags TEXT NOT NULL DEFAULT '';
    UPDATE invites SET id_last = id;
    PRAGMA user_version = 3;
";

#[test]
fn a_roster_of_each_older_format_goes_on_with_its_clients_who_may_what_they_could() {
    for (format, tables) in [(1, &[FORMAT_1][..]), (2, &[FORMAT_1, FORMAT_2]), (3, &[FORMAT_1, FORMAT_2, FORMAT_3])] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roster.db");
        let db = rusqlite::Connection::open(&path).unwrap();
        tables.iter().for_each(|step| db.execute_batch(step).unwrap());
        drop(db);
        // Opened again it is of the newest format, and as whole.
        for _ in 0..2 {
            let mut roster = Held::open(&path).unwrap();
            let desk = roster.client(id(7)).unwrap();
            assert_eq!((desk.name.as_str(), desk.shares.len(), desk.last_seen_ms), ("desk", 2, Some(7)));
            assert!(desk.rights.are_plain() && desk.tags.is_empty() && !desk.renamed && !desk.administered);
            assert!(matches!(desk.known, Known::Confirmed { .. }));
            assert_eq!(desk.values.len(), if format == 1 { 0 } else { 1 });
            assert_eq!(roster.client(id(8)).unwrap().known, Known::Revoked);
            assert_eq!(roster.tokens().len(), if format == 1 { 0 } else { 1 });
            assert!(roster.tokens().iter().all(|token| token.may_put && !token.administers), "format {format}");
            let invite = roster.lookup_invite(&InviteHash([0; 32])).unwrap();
            assert_eq!(invite.purpose, InvitePurpose::Enrol(Some(IdRange::one(id(9)))));
            assert!(invite.uses_left == 1 && !invite.is_special());
            roster.note_seen(id(7), 7);
            roster.settle().unwrap();
        }
    }
}

#[test]
fn rights_tags_and_names_survive_a_killed_hub() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roster.db");
    let mut roster = Held::open(&path).unwrap();
    let list = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let rights = RightsChange {
        role: Some(Role::Observer),
        read: list(&["", "a*"]),
        put: list(&[""]),
        shares: list(&[]),
        clients: Some(Sees::Itself),
    };
    let rights = Rights::default().changed(&rights).unwrap();
    let ids = Some(IdRange { first: id(10), last: id(19) });
    let gives = Gives { ids, rights: rights.clone(), tags: vec!["lab".into(), "x".into()] };
    let code = roster.new_invite(2, MINUTE_MS, gives, 5).unwrap();
    let key = UniqueId::fresh(id(10)).unwrap();
    roster.issue(&Grant { rights, ..grant(10, &key, Some(code.hash()), 10) }).unwrap();
    assert!(roster.confirm(id(10), &key.hash(), 11).unwrap());
    let renamed = ClientChange { name: Some("desk".into()), tags_add: vec!["t".into()], ..ClientChange::default() };
    roster.administer(id(10), &renamed).unwrap();
    roster.import(&[ImportRow { id: 11, change: renamed }], false).unwrap();
    roster.settle().unwrap();
    let (_dir, after) = killed(&path);
    assert_eq!(after.list().collect::<Vec<_>>(), roster.list().collect::<Vec<_>>());
    assert_eq!(after.lookup_invite(&code.hash()), roster.lookup_invite(&code.hash()));
    let client = after.client(id(10)).unwrap();
    assert_eq!((&client.rights.read, &client.rights.shares), (&list(&["", "a*"]), &list(&[])));
    assert_eq!((client.name.as_str(), client.renamed, client.rights.role), ("desk", true, Role::Observer));
    assert_eq!(after.client(id(11)).unwrap().known, Known::Expected);
}

#[test]
fn a_roster_of_another_release_is_left_alone_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roster.db");
    drop(Held::open(&path).unwrap());
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Held::open(&path).unwrap_err().to_string();
    assert!(error.contains("format 99") && error.contains(&path.display().to_string()), "{error}");

    std::fs::write(dir.path().join("garbage.db"), [7; 4096]).unwrap();
    let error = Held::open(&dir.path().join("garbage.db")).unwrap_err().to_string();
    assert!(error.contains("garbage.db"), "{error}");
    assert!(Held::open(&dir.path().join("missing/roster.db")).unwrap_err().to_string().contains("missing"));
}

#[test]
fn what_cannot_be_written_has_not_happened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roster.db");
    let mut roster = Held::open(&path).unwrap();
    // Another writer holds the file for good; the roster waits for SQLite's time and gives up.
    let other = rusqlite::Connection::open(&path).unwrap();
    roster.store.impatient();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let unique_id = UniqueId::fresh(id(1)).unwrap();
    roster.issue(&grant(1, &unique_id, None, 10)).unwrap();
    let error = roster.settle().unwrap_err().to_string();
    assert!(error.contains("roster.db"), "{error}");
    assert_eq!(roster.lookup(id(1)), None);
    other.execute_batch("ROLLBACK").unwrap();
    roster.issue(&grant(1, &unique_id, None, 10)).unwrap();
    roster.settle().unwrap();
    assert!(roster.lookup(id(1)).is_some());
}

#[test]
fn what_was_decided_upon_what_is_undone_is_undone_and_what_is_on_disk_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roster.db");
    let mut roster = Held::open(&path).unwrap();
    let keys: Vec<UniqueId> = (1..=4).map(|at| UniqueId::fresh(id(at)).unwrap()).collect();
    let about = About { name: "box", address: "::1", transport: "native", version: "0.1.0" };
    let code = roster.new_invite(2, MINUTE_MS, Gives::default(), 5).unwrap();
    roster.issue(&grant(1, &keys[0], Some(code.hash()), 10)).unwrap();
    roster.issue(&grant(2, &keys[1], None, 10)).unwrap();
    roster.settle().unwrap();
    let before = roster.book.clone();
    // Under way: one id issued, another confirmed. Behind them: what was decided with these in view.
    roster.note_login(id(1), &about, 11);
    roster.issue(&grant(3, &keys[2], Some(code.hash()), 12)).unwrap();
    assert!(roster.confirm(id(1), &keys[0].hash(), 12).unwrap());
    assert_eq!(roster.begin().len(), 2);
    assert!(roster.confirm(id(3), &keys[2].hash(), 13).unwrap());
    roster.revoke(id(2)).unwrap();
    assert!([1, 2, 3].into_iter().all(|at| roster.is_pending(id(at))) && !roster.is_pending(id(4)));
    let result = Err(RosterError::Storage("no space".into()));
    roster.roster.written(&result);
    assert!([1, 2, 3].into_iter().all(|at| !roster.is_pending(id(at))));
    assert_eq!(roster.lookup(id(3)), None);
    assert_eq!(roster.lookup_invite(&code.hash()).unwrap().uses_left, 1);
    assert!(matches!(roster.lookup(id(2)), Some(Known::Provisional { .. })));
    // What was merely noted is not lost by it, and is written the next time.
    assert_eq!(roster.client(id(1)).unwrap().last_login_ms, Some(11));
    let noted = |book: &Book| book.client(id(1)).map(|client| client.last_login_ms);
    assert_ne!(noted(&before), noted(&roster.book));
    assert!(roster.gather());
    roster.settle().unwrap();
    let (_dir, after) = killed(&path);
    assert_eq!(after.book, roster.book);
    assert!(matches!(after.lookup(id(1)), Some(Known::Provisional { .. })));
}

#[test]
fn automatic_ids_are_never_given_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut roster = Held::open(&dir.path().join("roster.db")).unwrap();
    roster.new_invite(1, MINUTE_MS, Gives { ids: Some(IdRange::one(id(3))), ..Gives::default() }, 0).unwrap();
    let mut given = Vec::new();
    for _ in 0..4 {
        let free = roster.next_free_id(None).unwrap();
        roster.issue(&grant(free.get(), &UniqueId::fresh(free).unwrap(), None, 10)).unwrap();
        given.push(free.get());
    }
    assert_eq!(given, [1, 2, 4, 5], "3 is kept for whom the invite is for");
}

#[test]
fn m3_3_m3_4_a_login_over_the_roster_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut roster = Held::open(&dir.path().join("roster.db")).unwrap();
    let Then::Wait { .. } = login(&mut roster, 7).then else { panic!("asked to confirm") };
    let again = login(&mut roster, 7);
    assert_eq!(again.say, [ToClient::AskUniqueId]);
}

/// Up to the answer to the ID; an issued unique ID is not confirmed.
fn login(roster: &mut Roster, id: u64) -> Step {
    let policy = Policy::new("hub", "lockstep 0", Enrol::Open);
    let now = Now { clock: std::time::Duration::ZERO, wall_ms: 1 };
    let mut limiter = wire::limiter::Limiter::new();
    let mut fresh = UniqueId::fresh;
    let mut desk = Desk { policy: &policy, roster, limiter: &mut limiter, known_max: usize::MAX, fresh: &mut fresh };
    let mut login = Login::new("192.0.2.1", &policy, now);
    let hello = ToHub::Hello { versions: (1, 1), software: "test".into(), purpose: Purpose::Login };
    let _asked = login.on(hello, &mut desk, now);
    login.on(ToHub::Id { id: id.to_string(), invite: None, name: "box".into() }, &mut desk, now)
}

#[test]
fn revoked_clients_stay_out_and_cannot_be_reissued() {
    let dir = tempfile::tempdir().unwrap();
    let mut roster = Held::open(&dir.path().join("roster.db")).unwrap();
    assert_eq!(roster.revoke(id(1)), Err(RosterError::Unknown { id: id(1) }));
    let unique_id = UniqueId::fresh(id(1)).unwrap();
    roster.issue(&grant(1, &unique_id, None, 10)).unwrap();
    assert!(roster.confirm(id(1), &unique_id.hash(), 10).unwrap());
    roster.revoke(id(1)).unwrap();
    assert!(!roster.confirm(id(1), &unique_id.hash(), 11).unwrap());
    assert_eq!(roster.reissue(id(1), 12).map(|_| ()), Err(RosterError::Revoked { id: id(1) }));
}

#[test]
fn a_token_survives_a_killed_hub_lets_in_for_its_time_and_ends_with_its_client() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roster.db");
    let mut roster = Held::open(&path).unwrap();
    let key = UniqueId::fresh(id(7)).unwrap();
    roster.issue(&grant(7, &key, None, 10)).unwrap();
    let made = |roster: &mut Roster, name: &str, client| {
        roster
            .new_token(Some(name.to_owned()), client, Powers { put: true, administer: false }, MINUTE_MS, 10)
            .map(|(bearer, _)| bearer.hash())
    };
    assert_eq!(made(&mut roster, "early", Some(id(7))), Err(RosterError::Unknown { id: id(7) }));
    roster.confirm(id(7), &key.hash(), 11).unwrap();
    let of_client = made(&mut roster, "seven", Some(id(7))).unwrap();
    let of_hub = made(&mut roster, "probe", None).unwrap();
    assert_eq!(made(&mut roster, "probe", None), Err(RosterError::TokenTaken));
    assert_eq!(made(&mut roster, "seven", Some(id(7))), Err(RosterError::TokenTaken));
    let (_bearer, unnamed) =
        roster.new_token(None, None, Powers { put: false, administer: true }, 5 * MINUTE_MS, 12).unwrap();
    assert_eq!(unnamed.name, "token-1");
    roster.settle().unwrap();

    let (_dir, mut after) = killed(&path);
    assert_eq!(after.tokens(), roster.tokens());
    let good = |roster: &Roster, hash, now_ms| roster.token(&hash, now_ms).is_some();
    assert!(good(&after, of_hub, 11) && good(&after, of_client, 9 + MINUTE_MS));
    assert!(!good(&after, of_hub, 10 + MINUTE_MS));
    // Made by a clock that was a day ahead, or more.
    let (tomorrow_ms, now_ms) = (24 * 60 * MINUTE_MS, 1_000_000 * MINUTE_MS);
    let ahead = |roster: &mut Roster, by_ms| {
        let name = Some(format!("ahead by {by_ms}"));
        roster
            .new_token(name, None, Powers { put: true, administer: false }, MINUTE_MS, now_ms + by_ms)
            .unwrap()
            .0
            .hash()
    };
    let (little, much) = (ahead(&mut after, tomorrow_ms), ahead(&mut after, tomorrow_ms + 1));
    assert!(good(&after, little, now_ms) && !good(&after, much, now_ms));
    assert!(good(&after, much, now_ms + tomorrow_ms + 1), "it is as good as it was meant to be by then");
    for by_ms in [tomorrow_ms, tomorrow_ms + 1] {
        after.revoke_token(&format!("ahead by {by_ms}"), None).unwrap();
    }
    after.revoke(id(7)).unwrap();
    assert!(!good(&after, of_client, 11) && good(&after, of_hub, 11));
    // One of a client's machine ends its own alone.
    assert_eq!(after.revoke_token("probe", Some(id(7))), Err(RosterError::TokenUnknown));
    after.revoke_token("probe", None).unwrap();
    // An expired one is told for a week.
    let week_ms = 7 * 24 * 60 * MINUTE_MS;
    after.sweep(11 + 5 * MINUTE_MS + week_ms).unwrap();
    assert_eq!(after.tokens(), [&unnamed]);
    after.sweep(12 + 5 * MINUTE_MS + week_ms).unwrap();
    assert!(after.tokens().is_empty());
    for n in 0..wire::limits::TOKENS_MAX {
        made(&mut after, &n.to_string(), None).unwrap();
    }
    let most = wire::limits::TOKENS_MAX;
    assert_eq!(made(&mut after, "one more", None), Err(RosterError::TokensFull { of: None, most }));
}

#[test]
fn names_and_number_of_tokens_are_each_owners_own() {
    let mut book = Book::default();
    let confirmed =
        |n| Client { known: Known::Confirmed { hash: KeyHash::NOBODY, next: None }, ..Client::expected(id(n)) };
    book.apply(Change { clients: (1..=400).map(confirmed).collect(), ..Change::default() });
    let make = |book: &mut Book, name: &str, client: Option<ClientId>| {
        let (hash, name) = (Bearer::fresh().unwrap().hash(), name.to_owned());
        let (created_at_ms, expires_at_ms) = (0, MINUTE_MS);
        let may = (false, false);
        let token = Token { hash, name, client, may_put: may.0, administers: may.1, created_at_ms, expires_at_ms };
        book.plan_token(token).map(|change| drop(book.apply(change)))
    };
    make(&mut book, "adm", None).unwrap();
    // A client that asks for that name learns nothing by it, and neither does another.
    make(&mut book, "adm", Some(id(7))).unwrap();
    make(&mut book, "adm", Some(id(8))).unwrap();
    assert_eq!(make(&mut book, "adm", Some(id(7))), Err(RosterError::TokenTaken));
    make(&mut book, "token-1", Some(id(8))).unwrap();
    let free = |of| book.free_token_name(of);
    assert_eq!((free(None), free(Some(id(7)))), ("token-2".to_owned(), "token-1".to_owned()));
    let most = wire::limits::TOKENS_OF_CLIENT_MAX;
    for n in 1..most {
        make(&mut book, &n.to_string(), Some(id(7))).unwrap();
    }
    assert_eq!(make(&mut book, "more", Some(id(7))), Err(RosterError::TokensFull { of: Some(id(7)), most }));
    make(&mut book, "more", Some(id(8))).unwrap();
    // All of them together take none of the hub's own.
    let mut made = book.tokens().iter().filter(|token| token.client.is_some()).count();
    for client in (9..=400).map(id) {
        for n in 0..most {
            if make(&mut book, &n.to_string(), Some(client)).is_ok() {
                made += 1;
            }
        }
    }
    assert_eq!(made, wire::limits::TOKENS_OF_CLIENTS_MAX);
    assert_eq!(make(&mut book, "last", Some(id(400))), Err(RosterError::TokensOfAllFull));
    make(&mut book, "of the hub", None).unwrap();
    // The hub's own machine ends its own first, else whose it says, else the only one of that name.
    let mut end = |name: &str, of: Option<ClientId>| {
        book.plan_token_gone(name, of).map(|(change, whose)| {
            book.apply(change);
            whose
        })
    };
    assert_eq!(end("adm", Some(id(9))), Err(RosterError::TokenUnknown));
    assert_eq!(end("adm", None), Ok(None));
    let several = end("adm", None).unwrap_err();
    assert_eq!(several, RosterError::TokenOfSeveral { of: vec![id(7), id(8)] });
    assert!(several.to_string().contains("7, 8") && several.to_string().contains("revoke 7/NAME"), "{several}");
    assert_eq!(end("8/adm", None), Ok(Some(id(8))));
    assert_eq!(end("adm", None), Ok(Some(id(7))));
    assert_eq!(
        (end("7/1", Some(id(7))), end("9/none", None)),
        (Err(RosterError::TokenUnknown), Err(RosterError::TokenUnknown))
    );
}
