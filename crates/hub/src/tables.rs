//! The tables that pandas reads: `clients.csv`, `server.csv` and `values.csv` in the data directory; over HTTP also
//! `vitals.csv`, the newest sample of each machine.
//!
//! Written beside and renamed, so a reader sees one version whole; many changes go into one write, within a second of
//! the first, and only the tables that a change concerns are made anew. No secret is in them, and no vitals, which change
//! every second. Times are RFC 3339 in UTC; lists are separated by blanks; a value is text, or `base64:` and its bytes
//! where it is not UTF-8 or would be misread.

mod cell;
mod clients;
mod inventory;

pub use clients::write_clients;
pub use inventory::read_inventory;

use crate::access::Access;
use crate::clock;
use crate::core::Hub;
use crate::standing;
use board::Version;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use wire::codec::decode_stored;

/// Changes gather for this long; well within the promised second.
const GATHER: Duration = Duration::from_millis(300);
/// A table that could not be written is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// Longer values are left out of the table: their size is told.
pub(crate) const VALUE_SHOWN_BYTES_MAX: usize = 64 << 10;

/// One of the tables.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Table {
    Clients,
    Server,
    Values,
    Vitals,
}

impl Table {
    /// The table's bytes as of now, with what whoever asks may know.
    pub(crate) fn make(self, hub: &Hub, to: &Access) -> Result<Vec<u8>, csv::Error> {
        match self {
            Table::Clients => clients(hub, to),
            Table::Server => server(hub, to),
            Table::Values => values(hub, to),
            Table::Vitals => vitals(hub, to),
        }
    }
}

/// What stands on disk.
#[derive(Default)]
struct Written {
    /// By file, of its bytes.
    hashes: BTreeMap<&'static str, blake3::Hash>,
    /// What the clients' tables were made from is still so.
    clients: bool,
    /// The version of the data board that the values' table was made from.
    values: Option<Version>,
    /// How often tables were made anew, written or not.
    made: usize,
}

/// Keeps the tables up to date until the hub stops.
pub(crate) async fn keep(hub: Arc<Hub>) {
    let mut written = Written::default();
    let mut stopping = hub.stopping.subscribe();
    let mut moved = hub.standing.subscribe();
    // A share that goes on leaves behind who does not follow it at once.
    let heads = Arc::new(tokio::sync::Notify::new());
    hub.shares.wake(&heads);
    let puts = Arc::new(tokio::sync::Notify::new());
    hub.data.wakers.add(&puts);
    loop {
        if !written.clients {
            // Before it is looked at: what moves from here on is looked at again.
            moved.mark_unchanged();
        }
        written = write(&hub, written).await;
        let again = async {
            match written.is_up_to_date(&hub) {
                true => std::future::pending().await,
                false => tokio::time::sleep(AGAIN).await,
            }
        };
        let clients = tokio::select! {
            () = hub.tables.notified() => true,
            () = heads.notified() => true,
            changed = moved.changed() => if changed.is_err() { break } else { true },
            // Who keeps values as files and does not follow at once is left behind as well.
            () = puts.notified() => hub.roster().list().any(|client| !client.values.is_empty()),
            () = again => false,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        tokio::select! {
            () = tokio::time::sleep(GATHER) => {}
            _ = stopping.wait_for(|stop| *stop) => break,
        }
        written.clients &= !clients;
    }
}

/// Writes all tables, at the end.
pub(crate) async fn write_all(hub: &Arc<Hub>) {
    write(hub, Written::default()).await;
}

impl Written {
    fn is_up_to_date(&self, hub: &Hub) -> bool {
        self.clients && self.values == Some(hub.data.board.version())
    }

    /// Makes anew what is out of date, and writes what differs from the last time.
    fn write(&mut self, hub: &Hub) {
        let all = Access::everything();
        if !self.clients {
            self.clients = self.replace(hub, "clients.csv", clients(hub, &all))
                & self.replace(hub, "server.csv", server(hub, &all));
            // What is merely worth knowing of clients goes to disk at the same pace.
            if let Err(error) = hub.registry.flush() {
                tracing::error!(%error, "the roster was not written; it is tried again");
                self.clients = false;
            }
        }
        // Before its values are: what is put from here on is looked at again.
        let version = hub.data.board.version();
        if self.values != Some(version) && self.replace(hub, "values.csv", values(hub, &all)) {
            self.values = Some(version);
        }
    }

    /// Whether the table stands on disk.
    fn replace(&mut self, hub: &Hub, name: &'static str, table: Result<Vec<u8>, csv::Error>) -> bool {
        self.made += 1;
        let path = hub.data_dir.join(name);
        let result = table.map_err(std::io::Error::other).and_then(|bytes| {
            let hash = blake3::hash(&bytes);
            if self.hashes.get(name) != Some(&hash) {
                replace(&path, &bytes)?;
                self.hashes.insert(name, hash);
            }
            Ok(())
        });
        if let Err(error) = &result {
            tracing::error!(path = %path.display(), %error, "not written; it is tried again");
        }
        result.is_ok()
    }
}

async fn write(hub: &Arc<Hub>, mut written: Written) -> Written {
    let hub = Arc::clone(hub);
    let work = tokio::task::spawn_blocking(move || {
        written.write(&hub);
        written
    });
    work.await.unwrap_or_else(|error| {
        tracing::error!(%error, "the tables were not written");
        Written::default()
    })
}

fn clients(hub: &Hub, to: &Access) -> Result<Vec<u8>, csv::Error> {
    let mut table = Vec::new();
    write_clients(&mut table, standing::everybody(hub, to).map(|client| client.row(hub, to)))?;
    Ok(table)
}

fn server(hub: &Hub, to: &Access) -> Result<Vec<u8>, csv::Error> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["name", "started_at", "addresses", "shares", "clients_active", "version"])?;
    let addresses = hub.addresses.read().unwrap_or_else(PoisonError::into_inner).join(" ");
    let shares = hub.shares.values().map(|share| share.name.clone()).filter(|share| to.joins(share));
    let shares: Vec<String> = shares.collect();
    table.write_record([
        &cell::name(hub.name.as_bytes()),
        &clock::rfc3339(hub.started_at_ms),
        &addresses,
        &cell::name(shares.join(" ").as_bytes()),
        &hub.presence.count(to).to_string(),
        env!("CARGO_PKG_VERSION"),
    ])?;
    finish(table)
}

fn values(hub: &Hub, to: &Access) -> Result<Vec<u8>, csv::Error> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["name", "version", "changed_at", "changed_by", "size", "value"])?;
    let records: Vec<_> = hub.data.board.read(|index| {
        let readable = index.iter_from(b"").filter(|record| to.reads(&record.name));
        readable.filter_map(|r| Some((r.name.clone(), r.seq, r.value.clone()?))).collect()
    });
    for (name, seq, value) in records {
        let Ok(stored) = decode_stored(&value) else { continue };
        let bytes = &stored.content.bytes;
        let value = if bytes.len() > VALUE_SHOWN_BYTES_MAX { String::new() } else { cell::value(bytes) };
        table.write_record([
            &cell::name(&name),
            &seq.to_string(),
            &clock::rfc3339(stored.at_ms),
            &stored.by.to_string(),
            &bytes.len().to_string(),
            &value,
        ])?;
    }
    finish(table)
}

fn vitals(hub: &Hub, to: &Access) -> Result<Vec<u8>, csv::Error> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["id", "name", "sampled_at", "cpu_busy_pct", "mem_used_bytes", "mem_total_bytes"])?;
    for client in standing::everybody(hub, to) {
        let row = client.row(hub, to);
        let Some(vitals) = &row.vitals else { continue };
        // What is not known is an empty field, which pandas reads as missing.
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        table.write_record([
            &row.id.to_string(),
            &cell::name(row.name.as_bytes()),
            &clock::rfc3339(vitals.at_ms),
            &vitals.cpu_busy_pct.map(|pct| pct.to_string()).unwrap_or_default(),
            &number(vitals.mem_used_bytes),
            &number(vitals.mem_total_bytes),
        ])?;
    }
    finish(table)
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

#[cfg(test)]
mod tests;
