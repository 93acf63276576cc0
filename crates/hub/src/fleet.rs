//! The board `fleet`: who is there (`client/ID`) and the newest vitals of each (`vitals/ID`). In memory.

use crate::access::Access;
use crate::wake::Wakers;
use board::{Board, BoardError, MemoryStore, OpenOptions, Write, Writer};
use bytes::Bytes;
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use wire::message::Vitals;

pub(crate) struct Fleet {
    pub(crate) board: Board,
    pub(crate) wakers: Arc<Wakers>,
    writer: Mutex<Writer>,
}

#[derive(Serialize)]
struct Present<'a> {
    id: u64,
    name: &'a str,
    address: &'a str,
    transport: &'a str,
}

impl Fleet {
    pub(crate) fn new() -> Result<Self, BoardError> {
        let entropy = Box::new(|| getrandom::u64().unwrap_or_default());
        let options = OpenOptions { durable: false, boot_id: String::new(), entropy };
        let writer = Writer::open(Box::new(MemoryStore), options)?;
        let board = writer.board();
        board.set_complete(true);
        let wakers = Arc::new(Wakers::default());
        let wake = Arc::clone(&wakers);
        board.on_commit(Arc::new(move |_| wake.wake()));
        Ok(Self { board, wakers, writer: Mutex::new(writer) })
    }

    pub(crate) fn arrived(&self, session: &crate::presence::Session) {
        let present =
            Present { id: session.id, name: &session.name, address: &session.address, transport: session.transport };
        self.put(format!("client/{}", session.id), serde_json::to_vec(&present));
    }

    /// Who is here, as far as whoever asks may know, and as of which version: entries of `client/ID`.
    pub(crate) fn present(&self, to: &Access) -> (Vec<Bytes>, board::Version) {
        let id = |name: &[u8]| str::from_utf8(name.strip_prefix(b"client/")?).ok()?.parse().ok();
        self.board.read(|index| {
            let here = index.by_prefix(b"client/").filter(|record| id(&record.name).is_some_and(|id| to.sees(id)));
            (here.filter_map(|record| record.value.clone()).collect(), index.version())
        })
    }

    pub(crate) fn left(&self, id: u64) {
        let remove = |name: String| Write::Remove { name: name.into() };
        self.commit(vec![remove(format!("client/{id}")), remove(format!("vitals/{id}"))]);
    }

    pub(crate) fn sampled(&self, id: u64, vitals: &Vitals) {
        self.put(format!("vitals/{id}"), serde_json::to_vec(vitals));
    }

    fn put(&self, name: String, value: serde_json::Result<Vec<u8>>) {
        match value {
            Ok(value) => self.commit(vec![Write::Put { name: name.into(), value: value.into(), aside: Bytes::new() }]),
            Err(error) => tracing::error!(%error, name, "not put to fleet"),
        }
    }

    fn commit(&self, writes: Vec<Write>) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writer.commit(writes) {
            tracing::error!(%error, "fleet was not updated");
        }
        // Presence comes and goes for years: tombstones beyond a few are of no use to anybody.
        let head = self.board.head();
        if head.is_multiple_of(FLEET_PURGE_EVERY)
            && let Err(error) = writer.forget_tombstones(head.saturating_sub(FLEET_PURGE_EVERY))
        {
            tracing::error!(%error, "fleet keeps its tombstones");
        }
    }
}

/// Tombstones of `fleet` are forgotten after so many changes.
const FLEET_PURGE_EVERY: u64 = 10_000;
