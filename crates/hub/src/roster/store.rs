//! The roster's file: three tables, one row a client, one an invite, one a bearer token.
//!
//! SQLite with a write-ahead log and `synchronous=FULL`: what was committed survives a killed process and a power cut.
//! The bytes of a row are defined here alone; a change of the tables is a new [`FORMAT`].

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wire::bearer::BearerHash;
use wire::id::ClientId;
use wire::link::InviteHash;
use wire::rights::{IdRange, Rights, Role, Sees};
use wire::roster::{Change, Client, Invite, InvitePurpose, Known, Next, Origin, RosterError, Token};
use wire::unique_id::KeyHash;

/// The tables' format, kept as SQLite's `user_version`.
pub(crate) const FORMAT: i64 = 4;

const TABLES: &str = "
    CREATE TABLE clients (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        state INTEGER NOT NULL,         -- 0 provisional, 1 lapsed, 2 confirmed, 3 revoked, 4 expected
        hash BLOB,                      -- of the unique ID; none when revoked or expected
        origin_address TEXT,            -- to whom it was issued, while not confirmed
        origin_invite BLOB,
        issued_at_ms INTEGER,
        next_hash BLOB,                 -- of a newer unique ID on its way
        next_invite BLOB,
        next_issued_at_ms INTEGER,
        next_lapsed INTEGER,
        address TEXT NOT NULL,
        transport TEXT NOT NULL,
        enrolled_at_ms INTEGER NOT NULL,
        last_login_ms INTEGER,
        last_seen_ms INTEGER,
        shares TEXT NOT NULL,           -- one name a line
        version TEXT NOT NULL,
        kept_values TEXT NOT NULL       -- one pattern a line
    ) STRICT;
    CREATE TABLE invites (
        hash BLOB PRIMARY KEY,          -- of the code
        purpose INTEGER NOT NULL,       -- 0 enrol, 1 reissue
        id INTEGER,                     -- only for this one
        uses INTEGER NOT NULL,
        uses_left INTEGER NOT NULL,
        created_at_ms INTEGER NOT NULL,
        expires_at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// The tokens, which format 1 did not know.
const TOKENS: &str = "
    CREATE TABLE tokens (
        hash BLOB PRIMARY KEY,          -- of the token
        name TEXT NOT NULL UNIQUE,
        client INTEGER,                 -- none: the hub's own machine
        may_put INTEGER NOT NULL,
        created_at_ms INTEGER NOT NULL,
        expires_at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// Rights and tags, which format 2 did not know. A list of patterns is one a line with a line feed behind each, none at all is
/// everything.
const RIGHTS: &str = "
    ALTER TABLE clients ADD COLUMN role INTEGER NOT NULL DEFAULT 0;   -- 0 client, 1 observer, 2 admin
    ALTER TABLE clients ADD COLUMN may_read TEXT;
    ALTER TABLE clients ADD COLUMN may_put TEXT;
    ALTER TABLE clients ADD COLUMN may_join TEXT;
    ALTER TABLE clients ADD COLUMN sees INTEGER NOT NULL DEFAULT 0;   -- 0 all clients, 1 itself
    ALTER TABLE clients ADD COLUMN tags TEXT NOT NULL DEFAULT '';     -- with blanks between
    ALTER TABLE clients ADD COLUMN renamed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE clients ADD COLUMN administered INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE invites ADD COLUMN id_last INTEGER;                   -- and up to this one
    ALTER TABLE invites ADD COLUMN role INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE invites ADD COLUMN may_read TEXT;
    ALTER TABLE invites ADD COLUMN may_put TEXT;
    ALTER TABLE invites ADD COLUMN may_join TEXT;
    ALTER TABLE invites ADD COLUMN sees INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE invites ADD COLUMN tags TEXT NOT NULL DEFAULT '';
    UPDATE invites SET id_last = id;
";

/// Whether a token may administer, which format 3 did not know.
const ADMIN_TOKENS: &str = "ALTER TABLE tokens ADD COLUMN administers INTEGER NOT NULL DEFAULT 0";

/// From format 1, which knew no values that are kept as files either.
const FROM_1: &str = "ALTER TABLE clients ADD COLUMN kept_values TEXT NOT NULL DEFAULT ''";

/// Everything that a roster holds.
pub(super) type Rows = (Vec<Client>, Vec<Invite>, Vec<Token>);

/// The open file.
pub(super) struct Store {
    db: Connection,
    path: PathBuf,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.path.display())
    }
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Store, RosterError> {
        only_for_the_owner(path).map_err(|error| failed("open", path, &error))?;
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        // The directory may be reached by a link; the file itself may not.
        let canonical = path.canonicalize().map_err(|error| failed("open", path, &error))?;
        let db = Connection::open_with_flags(&canonical, flags).map_err(|error| failed("open", path, &error))?;
        let mut store = Store { db, path: path.to_owned() };
        store.prepare()?;
        Ok(store)
    }

    fn prepare(&mut self) -> Result<(), RosterError> {
        let path = self.path.clone();
        let open = |error: rusqlite::Error| failed("open", &path, &error);
        self.db.pragma_update(None, "journal_mode", "WAL").map_err(open)?;
        self.db.pragma_update(None, "synchronous", "FULL").map_err(open)?;
        self.db.pragma_update(None, "secure_delete", "ON").map_err(open)?;
        let begin = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(open)?;
        let format: i64 = begin.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(open)?;
        let begun: Option<i64> =
            begin.query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |row| row.get(0)).optional().map_err(open)?;
        let steps: &[&str] = match (format, begun) {
            (FORMAT, Some(_)) => &[],
            (3, Some(_)) => &[ADMIN_TOKENS],
            (2, Some(_)) => &[RIGHTS, ADMIN_TOKENS],
            (1, Some(_)) => &[FROM_1, TOKENS, RIGHTS, ADMIN_TOKENS],
            (0, None) => &[TABLES, TOKENS, RIGHTS, ADMIN_TOKENS],
            (other, _) => {
                return Err(RosterError::Storage(format!(
                    "the roster {} has format {other}, this release reads {FORMAT}: install the release that wrote it, \
                     or give the hub another --data directory",
                    path.display()
                )));
            }
        };
        for step in steps {
            begin.execute_batch(step).map_err(open)?;
        }
        if !steps.is_empty() {
            begin.pragma_update(None, "user_version", FORMAT).map_err(open)?;
        }
        begin.commit().map_err(open)
    }

    /// Gives up at once where another writer is in the way.
    #[cfg(test)]
    pub(super) fn impatient(&self) {
        self.db.busy_timeout(std::time::Duration::ZERO).expect("a setting of the connection alone");
    }

    /// All rows.
    pub(super) fn read(&self) -> Result<Rows, RosterError> {
        let read = || -> Result<_, RowError> {
            let mut clients = Vec::new();
            let mut select = self.db.prepare("SELECT * FROM clients")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                clients.push(client(row)?);
            }
            let mut invites = Vec::new();
            let mut select = self.db.prepare("SELECT * FROM invites")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                invites.push(invite(row)?);
            }
            let mut tokens = Vec::new();
            let mut select = self.db.prepare("SELECT * FROM tokens")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                tokens.push(token(row)?);
            }
            Ok((clients, invites, tokens))
        };
        read().map_err(|error| failed("read", &self.path, &error))
    }

    /// Writes changes in their order, all of them or nothing, and syncs once.
    pub(super) fn write(&mut self, changes: &[Arc<Change>]) -> Result<(), RosterError> {
        let path = self.path.clone();
        let mut all = || -> Result<(), rusqlite::Error> {
            let write = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            changes.iter().try_for_each(|change| put(&write, change))?;
            write.commit()
        };
        all().map_err(|error| failed("write", &path, &error))
    }
}

fn put(write: &Connection, change: &Change) -> Result<(), rusqlite::Error> {
    for &id in &change.clients_gone {
        write.execute("DELETE FROM clients WHERE id = ?1", [number(id)])?;
    }
    for hash in &change.invites_gone {
        write.execute("DELETE FROM invites WHERE hash = ?1", [hash.0.as_slice()])?;
    }
    for client in &change.clients {
        put_client(write, client)?;
    }
    for invite in &change.invites {
        let (purpose, ids) = match invite.purpose {
            InvitePurpose::Enrol(ids) => (0, ids),
            InvitePurpose::Reissue(id) => (1, Some(IdRange::one(id))),
        };
        let put = "INSERT OR REPLACE INTO invites VALUES
            (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
        let rights = &invite.rights;
        write.prepare_cached(put)?.execute(params![
            invite.hash.0.as_slice(),
            purpose,
            ids.map(|ids| number(ids.first)),
            invite.uses,
            invite.uses_left,
            invite.created_at_ms,
            invite.expires_at_ms,
            ids.map(|ids| number(ids.last)),
            role_number(rights.role),
            rights.read.as_deref().map(lined),
            rights.put.as_deref().map(lined),
            rights.shares.as_deref().map(lined),
            sees_number(rights.clients),
            invite.tags.join(" ")
        ])?;
    }
    for hash in &change.tokens_gone {
        write.execute("DELETE FROM tokens WHERE hash = ?1", [hash.0.as_slice()])?;
    }
    for token in &change.tokens {
        write.prepare_cached("INSERT OR REPLACE INTO tokens VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
            token.hash.0.as_slice(),
            token.name,
            token.client.map(number),
            token.may_put,
            token.created_at_ms,
            token.expires_at_ms,
            token.administers
        ])?;
    }
    Ok(())
}

fn put_client(write: &Connection, client: &Client) -> Result<(), rusqlite::Error> {
    let (mut hash, mut origin, mut issued_at_ms, mut next) = (None, None, None, None);
    let state = match &client.known {
        Known::Provisional { hash: held, origin: from, issued_at_ms: at, lapsed } => {
            (hash, origin, issued_at_ms) = (Some(held), Some(from), Some(*at));
            i64::from(*lapsed)
        }
        Known::Confirmed { hash: held, next: newer } => {
            (hash, next) = (Some(held), newer.as_ref());
            2
        }
        Known::Revoked => 3,
        Known::Expected => 4,
    };
    let put = "INSERT OR REPLACE INTO clients VALUES
        (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
         ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27)";
    let rights = &client.rights;
    write.prepare_cached(put)?.execute(params![
        number(client.id),
        client.name,
        state,
        hash.map(|hash| hash.as_bytes().as_slice()),
        origin.map(|origin| &origin.address),
        origin.and_then(|origin| origin.invite.as_ref()).map(|code| code.0.as_slice()),
        issued_at_ms,
        next.map(|next| next.hash.as_bytes().as_slice()),
        next.map(|next| next.invite.0.as_slice()),
        next.map(|next| next.issued_at_ms),
        next.map(|next| next.lapsed),
        client.address,
        client.transport,
        client.enrolled_at_ms,
        client.last_login_ms,
        client.last_seen_ms,
        client.shares.join("\n"),
        client.version,
        client.values.join("\n"),
        role_number(rights.role),
        rights.read.as_deref().map(lined),
        rights.put.as_deref().map(lined),
        rights.shares.as_deref().map(lined),
        sees_number(rights.clients),
        client.tags.join(" "),
        client.renamed,
        client.administered
    ])?;
    Ok(())
}

fn client(row: &Row<'_>) -> Result<Client, RowError> {
    let hash = || -> Result<KeyHash, RowError> { Ok(KeyHash::from_bytes(row.get("hash")?)) };
    let known = match row.get::<_, i64>("state")? {
        state @ (0 | 1) => Known::Provisional {
            hash: hash()?,
            origin: Origin {
                address: row.get("origin_address")?,
                invite: row.get::<_, Option<[u8; 32]>>("origin_invite")?.map(InviteHash),
            },
            issued_at_ms: row.get("issued_at_ms")?,
            lapsed: state == 1,
        },
        2 => Known::Confirmed { hash: hash()?, next: next(row)? },
        3 => Known::Revoked,
        4 => Known::Expected,
        other => return Err(RowError::Value("state of a client", other)),
    };
    let lines = |column| -> Result<Vec<String>, RowError> {
        Ok(row.get::<_, String>(column)?.lines().map(str::to_owned).collect())
    };
    Ok(Client {
        id: id(row.get("id")?)?,
        name: row.get("name")?,
        known,
        address: row.get("address")?,
        transport: row.get("transport")?,
        enrolled_at_ms: row.get("enrolled_at_ms")?,
        last_login_ms: row.get("last_login_ms")?,
        last_seen_ms: row.get("last_seen_ms")?,
        shares: lines("shares")?,
        version: row.get("version")?,
        values: lines("kept_values")?,
        rights: rights(row)?,
        tags: tags(row)?,
        renamed: row.get("renamed")?,
        administered: row.get("administered")?,
    })
}

fn rights(row: &Row<'_>) -> Result<Rights, RowError> {
    let list = |column| -> Result<Option<Vec<String>>, RowError> {
        let text: Option<String> = row.get(column)?;
        Ok(text.map(|text| text.split_terminator('\n').map(str::to_owned).collect()))
    };
    let role = match row.get("role")? {
        0 => Role::Client,
        1 => Role::Observer,
        2 => Role::Admin,
        other => return Err(RowError::Value("role", other)),
    };
    let clients = match row.get("sees")? {
        0 => Sees::All,
        1 => Sees::Itself,
        other => return Err(RowError::Value("sight of a client", other)),
    };
    Ok(Rights { role, read: list("may_read")?, put: list("may_put")?, shares: list("may_join")?, clients })
}

fn tags(row: &Row<'_>) -> Result<Vec<String>, RowError> {
    Ok(row.get::<_, String>("tags")?.split_ascii_whitespace().map(str::to_owned).collect())
}

/// A list, which may hold an empty text, as lines.
fn lined(list: &[String]) -> String {
    list.iter().flat_map(|text| [text.as_str(), "\n"]).collect()
}

fn role_number(role: Role) -> i64 {
    match role {
        Role::Client => 0,
        Role::Observer => 1,
        Role::Admin => 2,
    }
}

fn sees_number(sees: Sees) -> i64 {
    match sees {
        Sees::All => 0,
        Sees::Itself => 1,
    }
}

fn next(row: &Row<'_>) -> Result<Option<Next>, RowError> {
    let Some(hash) = row.get::<_, Option<[u8; 32]>>("next_hash")? else { return Ok(None) };
    Ok(Some(Next {
        hash: KeyHash::from_bytes(hash),
        invite: InviteHash(row.get("next_invite")?),
        issued_at_ms: row.get("next_issued_at_ms")?,
        lapsed: row.get("next_lapsed")?,
    }))
}

fn invite(row: &Row<'_>) -> Result<Invite, RowError> {
    let first = row.get::<_, Option<i64>>("id")?.map(id).transpose()?;
    let last = row.get::<_, Option<i64>>("id_last")?.map(id).transpose()?;
    let ids = first.map(|first| IdRange { first, last: last.unwrap_or(first) });
    let purpose = match (row.get::<_, i64>("purpose")?, ids) {
        (0, ids) => InvitePurpose::Enrol(ids),
        (1, Some(ids)) => InvitePurpose::Reissue(ids.first),
        (other, _) => return Err(RowError::Value("purpose of an invite", other)),
    };
    Ok(Invite {
        hash: InviteHash(row.get("hash")?),
        purpose,
        uses: row.get("uses")?,
        uses_left: row.get("uses_left")?,
        created_at_ms: row.get("created_at_ms")?,
        expires_at_ms: row.get("expires_at_ms")?,
        rights: rights(row)?,
        tags: tags(row)?,
    })
}

fn token(row: &Row<'_>) -> Result<Token, RowError> {
    Ok(Token {
        hash: BearerHash(row.get("hash")?),
        name: row.get("name")?,
        client: row.get::<_, Option<i64>>("client")?.map(id).transpose()?,
        may_put: row.get("may_put")?,
        administers: row.get("administers")?,
        created_at_ms: row.get("created_at_ms")?,
        expires_at_ms: row.get("expires_at_ms")?,
    })
}

fn id(id: i64) -> Result<ClientId, RowError> {
    u64::try_from(id).ok().and_then(|id| ClientId::new(id).ok()).ok_or(RowError::Value("id", id))
}

/// An id as SQLite has it; the largest one fits by far.
fn number(id: ClientId) -> i64 {
    i64::try_from(id.get()).unwrap_or(i64::MAX)
}

/// Makes the file where it is missing, and nobody else's business. SQLite gives the files beside it the same mode.
fn only_for_the_owner(path: &Path) -> std::io::Result<()> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o777 != 0o600 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum RowError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{1} is no {0}: the file was changed by something else; restore it from a copy")]
    Value(&'static str, i64),
}

fn failed(verb: &str, path: &Path, error: &dyn std::error::Error) -> RosterError {
    RosterError::Storage(format!("cannot {verb} the roster {}: {error}", path.display()))
}
