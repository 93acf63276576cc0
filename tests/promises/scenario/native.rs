//! The native protocol, frame by frame. A thread listens and pings, as a well-behaved client does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wire::limits::PING_EVERY;
use wire::message::{Content, Cursor, Mark, Purpose, ToClient, ToHub, Version};

use super::program::{Program, Say, Told, Transport};
use crate::speaker::{Heard, Speaker, hello};

pub(super) struct Native {
    pub(super) address: String,
}

impl Transport for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn connect(&self, cursor: Option<&str>) -> Box<dyn Program> {
        let mut speaker = Speaker::connect(&self.address);
        // Whether it arrives shows in what is heard.
        speaker.try_say(&hello(Purpose::Login)).ok();
        let (orders, queue) = channel();
        let shared = Arc::new(Shared::default());
        let listening = Arc::clone(&shared);
        thread::spawn(move || listen(speaker, &queue, &listening));
        let cursor = cursor.map(|cursor| serde_json::from_str(cursor).unwrap());
        Box::new(Raw { orders: Some(orders), shared, heard: Vec::new(), cursor })
    }
}

#[derive(Default)]
struct Shared {
    told: Mutex<Vec<Told>>,
    still: AtomicBool,
}

struct Raw {
    /// Gone once it is cut.
    orders: Option<Sender<ToHub>>,
    shared: Arc<Shared>,
    heard: Vec<Told>,
    cursor: Option<Cursor>,
}

impl Program for Raw {
    fn say(&mut self, what: Say<'_>) {
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let message = match what {
            Say::Id(id) => ToHub::Id { id: id.to_owned(), invite: None, name: "raw".to_owned() },
            Say::UniqueId(unique_id) => ToHub::UniqueId { unique_id: unique_id.into() },
            Say::Lost => ToHub::Lost,
            Say::Confirm => ToHub::Confirm,
            Say::Follow => {
                ToHub::Follow { fid: 1, board: "data".into(), pattern: "*".into(), cursor: self.cursor.clone() }
            }
            Say::Put(name, value) => {
                let content = Content { content_type: "text/plain; charset=utf-8".to_owned(), bytes: text(value) };
                ToHub::Put { req: 1, name: text(name), value: Some(content) }
            }
        };
        // One that is cut says nothing any more.
        if let Some(orders) = &self.orders {
            orders.send(message).ok();
        }
    }

    fn told(&mut self) -> &[Told] {
        self.heard.extend_from_slice(&self.shared.told.lock().unwrap()[self.heard.len()..]);
        &self.heard
    }

    fn stand_still(&mut self) {
        self.shared.still.store(true, Ordering::Release);
    }

    fn go_on(&mut self) {
        self.shared.still.store(false, Ordering::Release);
    }

    /// Its connection is closed, as the system closes that of a killed process; agents are killed in [`crate::presence`].
    fn kill(&mut self) {
        self.orders = None;
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- a raw native connection was told\n{:#?}", self.told());
        }
    }
}

/// Until the connection is over, or nobody gives orders any more.
fn listen(mut speaker: Speaker, orders: &Receiver<ToHub>, shared: &Shared) {
    let (mut pinged, mut at) = (None, Cursor { version: Version { epoch: 0, run: 0, seq: 0 }, seen: 0, walk: None });
    let tell = |told: Told| shared.told.lock().unwrap().push(told);
    loop {
        match orders.recv_timeout(Duration::from_millis(5)) {
            // Whether it arrives shows in what is heard.
            Ok(message) => drop(speaker.try_say(&message)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if shared.still.load(Ordering::Acquire) {
            continue;
        }
        if pinged.is_some_and(|pinged: Instant| pinged.elapsed() > PING_EVERY) {
            pinged = Some(Instant::now());
            speaker.try_say(&ToHub::Ping { nonce: 1 }).ok();
        }
        while let heard @ (Heard::Said(_) | Heard::Closed) = speaker.listen(Duration::from_millis(5)) {
            let Heard::Said(message) = heard else { return tell(Told::Cut) };
            if matches!(*message, ToClient::Welcome(_)) {
                pinged = Some(Instant::now());
            }
            translate(*message, &mut at).into_iter().for_each(tell);
        }
    }
}

fn translate(message: ToClient, at: &mut Cursor) -> Vec<Told> {
    let one = match message {
        ToClient::AskId => Told::Id,
        ToClient::Issued { unique_id } => Told::Issued(unique_id.reveal().to_owned()),
        ToClient::AskUniqueId => Told::UniqueId,
        ToClient::Refused(refusal) | ToClient::Failed { refusal, .. } => {
            Told::refused(refusal.code.as_str(), refusal.text)
        }
        ToClient::Welcome(_) => Told::Welcome,
        ToClient::Following { epoch, run, reset, .. } => {
            (at.version.epoch, at.version.run) = (epoch, run);
            return if reset { vec![Told::Reset] } else { Vec::new() };
        }
        ToClient::Batch(batch) => {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let mut told = Vec::new();
            for record in batch.records {
                at.seen = at.seen.max(record.seq);
                told.push(Told::Version(record.seq));
                told.push(match record.value {
                    Some(value) => {
                        let stored = wire::codec::decode_stored(&value).unwrap();
                        Told::Value(text(&record.name), text(&stored.content.bytes))
                    }
                    None => Told::Gone(text(&record.name)),
                });
            }
            let current = match batch.mark {
                Mark::Live { to, current, .. } => {
                    at.version.seq = to;
                    current.is_some()
                }
                Mark::Walk { head, last, .. } => {
                    at.version.seq = if last { head } else { at.version.seq };
                    false
                }
            };
            at.seen = at.seen.max(at.version.seq);
            told.extend(current.then(|| Told::Current(serde_json::to_string(at).unwrap())));
            return told;
        }
        ToClient::PutDone { version, .. } => return vec![Told::Version(version.seq), Told::Done],
        ToClient::Bye(refusal) => Told::Bye(refusal.code.as_str().to_owned()),
        _ => return Vec::new(),
    };
    vec![one]
}
