//! `clients.csv`, which `lockstep clients export` prints as well.

use super::cell;
use crate::clock::rfc3339;
use std::io::Write;
use wire::answer::{ClientRow, ClientState};

/// The columns. They are only added to, at the end. What a client may is not among them: the table is the same for all who see all
/// clients, and not all may know that.
pub(super) const COLUMNS: [&str; 12] = [
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
    "tags",
];

/// Writes `rows` as the table of clients. Times are RFC 3339 in UTC.
///
/// The last sign of life of an active client is now; as a time that changes with every ping would mean a new table each,
/// it is told as of its login.
///
/// # Errors
/// When `out` fails.
pub fn write_clients(out: impl Write, rows: impl IntoIterator<Item = ClientRow>) -> Result<(), csv::Error> {
    let mut table = csv::Writer::from_writer(out);
    table.write_record(COLUMNS)?;
    let time = |ms: Option<i64>| ms.map(rfc3339).unwrap_or_default();
    for row in rows {
        let last_seen_ms = if row.state == ClientState::Active { row.last_login_ms } else { row.last_seen_ms };
        let shares: Vec<&str> = row.shares.iter().map(|share| share.name.as_str()).collect();
        table.write_record([
            &row.id.to_string(),
            &cell::name(row.name.as_bytes()),
            &row.state.as_str().to_owned(),
            &row.address,
            &row.transport,
            &time((row.state != ClientState::Expected).then_some(row.enrolled_at_ms)),
            &time(row.last_login_ms),
            &time(last_seen_ms),
            &cell::name(shares.join(" ").as_bytes()),
            &cell::name(row.version.as_bytes()),
            &row.in_sync.to_string(),
            &row.tags.join(" "),
        ])?;
    }
    Ok(table.flush()?)
}
