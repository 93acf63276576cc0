//! The tables that pandas reads: `clients.csv`, `server.csv` and `values.csv` in the data directory.
//!
//! Written beside and renamed, so a reader sees one version whole; many changes go into one write, within a second of
//! the first. No secret is in them, and no vitals, which change every second. Times are RFC 3339 in UTC; lists are
//! separated by blanks; a value is text, or `base64:` and its bytes where it is not UTF-8 or would be misread.

use crate::clock;
use crate::core::Hub;
use crate::standing;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use wire::answer::ClientState;
use wire::codec::decode_stored;

/// Changes gather for this long; well within the promised second.
const GATHER: Duration = Duration::from_millis(300);
/// Longer values are left out of the table: their size is told.
pub(crate) const VALUE_SHOWN_BYTES_MAX: usize = 64 << 10;
/// What a value begins with whose bytes follow in base64.
const BASE64: &str = "base64:";

/// Keeps the tables up to date until the hub stops, and once more then.
pub(crate) async fn keep(hub: Arc<Hub>) {
    let mut written = BTreeMap::new();
    let mut stopping = hub.stopping.subscribe();
    let mut moved = hub.standing.subscribe();
    // A share that goes on leaves behind who does not follow it at once.
    let heads = Arc::new(tokio::sync::Notify::new());
    hub.shares.values().for_each(|share| share.wakers.add(&heads));
    loop {
        moved.mark_unchanged();
        write_all(&hub, &mut written).await;
        tokio::select! {
            () = hub.tables.notified() => {}
            () = heads.notified() => {}
            changed = moved.changed() => if changed.is_err() { break },
            _ = stopping.wait_for(|stop| *stop) => break,
        }
        tokio::select! {
            () = tokio::time::sleep(GATHER) => {}
            _ = stopping.wait_for(|stop| *stop) => break,
        }
    }
}

/// Writes what differs from the last time.
pub(crate) async fn write_all(hub: &Arc<Hub>, written: &mut BTreeMap<&'static str, blake3::Hash>) {
    let (hub, mut before) = (Arc::clone(hub), std::mem::take(written));
    let work = tokio::task::spawn_blocking(move || {
        let tables = [("clients.csv", clients(&hub)), ("server.csv", server(&hub)), ("values.csv", values(&hub))];
        for (name, table) in tables {
            let result = table.map_err(std::io::Error::other).and_then(|bytes| {
                let hash = blake3::hash(&bytes);
                if before.get(name) != Some(&hash) {
                    replace(&hub.data_dir.join(name), &bytes)?;
                    before.insert(name, hash);
                }
                Ok(())
            });
            if let Err(error) = result {
                let path = hub.data_dir.join(name);
                tracing::error!(path = %path.display(), %error, "not written; it is tried again with the next change");
            }
        }
        // What is merely worth knowing of clients goes to disk at the same pace.
        if let Err(error) = hub.roster().flush() {
            tracing::error!(%error, "the roster was not written; it is tried again");
        }
        before
    });
    match work.await {
        Ok(now) => *written = now,
        Err(error) => tracing::error!(%error, "the tables were not written"),
    }
}

fn clients(hub: &Hub) -> Result<Vec<u8>, csv::Error> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record([
        "id",
        "name",
        "state",
        "address",
        "transport",
        "enrolled_at",
        "last_login",
        "last_seen",
        "shares",
        "version",
        "in_sync",
    ])?;
    for client in standing::everybody(hub) {
        let row = client.row(hub);
        let time = |ms: Option<i64>| ms.map(clock::rfc3339).unwrap_or_default();
        let state = match row.state {
            ClientState::Active => "active",
            ClientState::Away => "away",
            ClientState::Provisional => "provisional",
            ClientState::Revoked => "revoked",
        };
        // The last sign of life of an active client is now; a time that changes with every ping would mean a write each.
        let last_seen = if row.state == ClientState::Active { row.last_login_ms } else { row.last_seen_ms };
        let shares: Vec<&str> = client.client.shares.iter().map(String::as_str).collect();
        table.write_record([
            &row.id.to_string(),
            &shown(row.name.as_bytes()),
            &state.to_owned(),
            &row.address,
            &row.transport,
            &time(Some(row.enrolled_at_ms)),
            &time(row.last_login_ms),
            &time(last_seen),
            &shown(shares.join(" ").as_bytes()),
            &shown(row.version.as_bytes()),
            &row.in_sync.to_string(),
        ])?;
    }
    finish(table)
}

fn server(hub: &Hub) -> Result<Vec<u8>, csv::Error> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["name", "started_at", "addresses", "shares", "clients_active", "version"])?;
    let addresses = hub.addresses.read().unwrap_or_else(PoisonError::into_inner).join(" ");
    let shares: Vec<&str> = hub.shares.keys().map(String::as_str).collect();
    table.write_record([
        &shown(hub.name.as_bytes()),
        &clock::rfc3339(hub.started_at_ms),
        &addresses,
        &shown(shares.join(" ").as_bytes()),
        &hub.presence.count().to_string(),
        env!("CARGO_PKG_VERSION"),
    ])?;
    finish(table)
}

fn values(hub: &Hub) -> Result<Vec<u8>, csv::Error> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["name", "version", "changed_at", "changed_by", "size", "value"])?;
    let records: Vec<_> = hub
        .data
        .board
        .read(|index| index.iter_from(b"").filter_map(|r| Some((r.name.clone(), r.seq, r.value.clone()?))).collect());
    for (name, seq, value) in records {
        let Ok(stored) = decode_stored(&value) else { continue };
        let bytes = &stored.content.bytes;
        let value = if bytes.len() > VALUE_SHOWN_BYTES_MAX {
            String::new()
        } else {
            match std::str::from_utf8(bytes) {
                Ok(text) if is_plain(text) => text.to_owned(),
                _ => format!("{BASE64}{}", data_encoding::BASE64.encode(bytes)),
            }
        };
        table.write_record([
            &shown(&name),
            &seq.to_string(),
            &clock::rfc3339(stored.at_ms),
            &stored.by.to_string(),
            &bytes.len().to_string(),
            &value,
        ])?;
    }
    finish(table)
}

/// Whether a text stands in the table as it is: not one that would be taken for bytes, nor one with a NUL, which ends a
/// field for some readers.
fn is_plain(text: &str) -> bool {
    !text.starts_with(BASE64) && !text.contains('\0')
}

/// Names may hold anything; a table holds what can be read.
fn shown(bytes: &[u8]) -> String {
    tree::path::escape(bytes)
}

fn finish(mut table: csv::Writer<Vec<u8>>) -> Result<Vec<u8>, csv::Error> {
    table.flush()?;
    table.into_inner().map_err(|e| csv::Error::from(e.into_error()))
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("csv.new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&beside, path)
}
