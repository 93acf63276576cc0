//! The embedded store: one SQLite file in write-ahead mode.
//!
//! Format [`FORMAT`]: `records(name, seq, value, aside)` with `value` NULL for a tombstone, `meta(key, value)`, the format in
//! `user_version`. The file is held exclusively: a second process is told so instead of writing beside the first.

use super::{Meta, Store, StoreError};
use crate::index::{Name, Record};
use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The number of the format that this release writes.
pub const FORMAT: i64 = 1;

/// How long an opening waits for a process that is about to end, before it says that the store is in use.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// Pages of write-ahead log (4 KiB each) after which they are moved into the file.
const CHECKPOINT_PAGES: u32 = 2000;

/// What a finished commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Everything, a power cut included: each commit is flushed to the device before it returns.
    EachCommit,
    /// The end of the process in any manner, but not a power cut: that takes the newest commits, never the file.
    Process,
}

/// A board's or a replica's records in one SQLite file, for its owner alone (mode 0600).
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    durability: Durability,
    connection: Connection,
    /// The facts as they stand in the file, once that is known.
    facts: Option<Meta>,
}

impl SqliteStore {
    /// Opens the store at `path`, making it and the directories above it (mode 0700) if they are missing.
    ///
    /// # Errors
    /// When the file cannot be opened, is in use by another process, is not a store, or has a newer format.
    pub fn open(path: impl Into<PathBuf>, durability: Durability) -> Result<SqliteStore, StoreError> {
        let path = path.into();
        make_file(&path)?;
        let connection = Connection::open(&path).map_err(|source| failed("open", &path, source))?;
        let mut store = SqliteStore { path, durability, connection, facts: None };
        store.prepare().map_err(|error| match error {
            Preparing::Sql(source) => failed("open", &store.path, source),
            Preparing::Format(found) => StoreError::Newer { path: store.path.clone(), found, known: FORMAT },
        })?;
        Ok(store)
    }

    /// The store's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn prepare(&mut self) -> Result<(), Preparing> {
        let connection = &mut self.connection;
        connection.busy_timeout(BUSY_WAIT)?;
        connection.set_prepared_statement_cache_capacity(16);
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found > FORMAT {
            return Err(Preparing::Format(found));
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(
            "CREATE TABLE IF NOT EXISTS records (
                 name BLOB NOT NULL PRIMARY KEY, seq INTEGER NOT NULL, value BLOB, aside BLOB NOT NULL
             ) STRICT, WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS meta (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;",
        )?;
        if found < FORMAT {
            transaction.pragma_update(None, "user_version", FORMAT)?;
        }
        transaction.commit()?;
        self.synchronous(self.durability)?;
        Ok(())
    }

    fn synchronous(&self, durability: Durability) -> rusqlite::Result<()> {
        let level = match durability {
            Durability::EachCommit => "FULL",
            Durability::Process => "NORMAL",
        };
        self.connection.pragma_update(None, "synchronous", level)
    }

    fn write(&mut self, records: &[Record], forget: &[Name], meta: Option<&Meta>) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        write_records(&transaction, records, forget)?;
        if let Some(meta) = meta {
            transaction.prepare_cached("DELETE FROM meta")?.execute([])?;
            let mut insert = transaction.prepare_cached("INSERT INTO meta (key, value) VALUES (?1, ?2)")?;
            for (key, value) in meta.iter() {
                insert.execute(params![key, value])?;
            }
        }
        transaction.commit()
    }

    fn read(&mut self, each: &mut dyn FnMut(Record)) -> rusqlite::Result<Result<Meta, String>> {
        let mut select = self.connection.prepare("SELECT name, seq, value, aside FROM records ORDER BY name")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let Ok(seq) = u64::try_from(row.get::<_, i64>(1)?) else {
                return Ok(Err("a record has a negative seq".to_owned()));
            };
            let bytes = |column| row.get::<_, Vec<u8>>(column).map(Bytes::from);
            let value = row.get::<_, Option<Vec<u8>>>(2)?.map(Bytes::from);
            each(Record { name: bytes(0)?, seq, value, aside: bytes(3)? });
        }
        let mut meta = Meta::default();
        let mut select = self.connection.prepare("SELECT key, value FROM meta")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            meta.set(row.get::<_, String>(0)?, row.get(1)?);
        }
        Ok(Ok(meta))
    }
}

impl Store for SqliteStore {
    fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<Meta, StoreError> {
        match self.read(each) {
            Ok(Ok(meta)) => {
                self.facts = Some(meta.clone());
                Ok(meta)
            }
            Ok(Err(what)) => Err(StoreError::Damaged { path: self.path.clone(), what }),
            Err(source) => Err(failed("read", &self.path, source)),
        }
    }

    fn commit(&mut self, records: &[Record], forget: &[Name], meta: Option<&Meta>) -> Result<(), StoreError> {
        let meta = meta.filter(|meta| self.facts.as_ref() != Some(*meta));
        if records.is_empty() && forget.is_empty() && meta.is_none() {
            return Ok(());
        }
        // Facts decide whether history counts as lost, so they never wait for a later flush. Those that move with the
        // records would have every save wait for the disk, and are right as of the records they came with.
        let stands = |meta: &Meta| self.facts.as_ref().is_some_and(|facts| facts.stands_as(meta));
        let flush = self.durability == Durability::Process && meta.is_some_and(|meta| !stands(meta));
        // What is in the file after a failure is not known.
        let before = self.facts.take();
        let write = |store: &mut SqliteStore| {
            if flush {
                store.synchronous(Durability::EachCommit)?;
            }
            let written = store.write(records, forget, meta);
            if flush {
                store.synchronous(store.durability)?;
            }
            written
        };
        write(self).map_err(|source| failed("write", &self.path, source))?;
        self.facts = meta.cloned().or(before);
        Ok(())
    }

    fn copy_to(&mut self, path: &Path) -> Result<(), StoreError> {
        make_file(path)?;
        let Some(target) = path.to_str() else {
            return Err(StoreError::Other(format!("{} is no UTF-8: copy it to another place", path.display())));
        };
        self.connection
            .execute("VACUUM INTO ?1", [target])
            .map(drop)
            .map_err(|source| failed("copy", &self.path, source))
    }
}

fn write_records(transaction: &Transaction<'_>, records: &[Record], forget: &[Name]) -> rusqlite::Result<()> {
    let mut put = transaction.prepare_cached(
        "INSERT INTO records (name, seq, value, aside) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (name) DO UPDATE SET seq = excluded.seq, value = excluded.value, aside = excluded.aside",
    )?;
    for record in records {
        let seq = i64::try_from(record.seq).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        put.execute(params![&record.name[..], seq, record.value.as_deref(), &record.aside[..]])?;
    }
    let mut delete = transaction.prepare_cached("DELETE FROM records WHERE name = ?1")?;
    for name in forget {
        delete.execute(params![&name[..]])?;
    }
    Ok(())
}

/// Makes the file before SQLite would, so that it, its log and its lock file are never readable by others.
fn make_file(path: &Path) -> Result<(), StoreError> {
    let open = |path: &Path| fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| StoreError::Open { path, source }
    };
    match (open(path), path.parent()) {
        (Ok(_), _) => Ok(()),
        (Err(error), Some(parent)) if error.kind() == ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed(parent))?;
            open(path).map(drop).map_err(failed(path))
        }
        (Err(error), _) => Err(failed(path)(error)),
    }
}

fn failed(step: &'static str, path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse { path },
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Damaged { path, what: source.to_string() }
        }
        _ => StoreError::Io { step, path, source },
    }
}

enum Preparing {
    Sql(rusqlite::Error),
    Format(i64),
}

impl From<rusqlite::Error> for Preparing {
    fn from(error: rusqlite::Error) -> Preparing {
        Preparing::Sql(error)
    }
}
