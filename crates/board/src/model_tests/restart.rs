//! How the hub of a world ends and starts again: closed, killed, after a boot, with an older copy of its store, with none.

use super::client::{State, stamp};
use super::disk::Content;
use super::random::Random;
use super::world::{Kind, NAMES, World};
use crate::{Name, OpenOptions, Writer};
use bytes::Bytes;

/// What the hub finds when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Nothing yet.
    First,
    /// What it left.
    Same,
    /// Less than it left, or something older: values go back.
    Rewound,
    /// Nothing, but a directory from which all can be made again.
    Lost,
}

impl World<'_> {
    pub(super) fn purge(&mut self) -> Result<(), String> {
        let head = self.board()?.head();
        let up_to = if self.random.once_in(2) { u64::MAX } else { head.saturating_sub(self.random.below(5) as u64) };
        self.say(|_| format!("purge up to {up_to}"));
        let writer = self.writer.as_mut().ok_or("no hub")?;
        let failed = writer.forget_tombstones(up_to).is_err();
        self.say(|_| format!("purge failed: {failed}"));
        Ok(())
    }

    pub(super) fn copy(&mut self) -> Result<(), String> {
        self.copies.push(self.disk.content());
        if self.copies.len() > 8 {
            let gone = self.random.below(8);
            self.copies.remove(gone);
        }
        Ok(())
    }

    /// Ends the hub in one of the ways it can end, and starts it again.
    pub(super) fn restart_hub(&mut self) -> Result<(), String> {
        let before = self.board()?.version();
        let how = self.random.below(8);
        self.say(|_| format!("the hub at {before:?} ends in way {how}"));
        self.kept.clear();
        for client in &mut self.clients {
            if let Some(link) = &mut client.link {
                link.follower = None;
            }
        }
        let writer = self.writer.take().ok_or("no hub")?;
        let closed = how <= 1 && writer.close().is_ok();
        if closed {
            self.doubtful.clear();
        }
        if self.random.once_in(2) {
            self.copy()?;
        }
        // Another boot, the same store as far as the process knew.
        self.boot += u64::from(matches!(how, 1 | 3 | 5));
        let mut start = Start::Same;
        match how {
            // Killed, or closed, in the same boot or in another.
            0..=3 => {}
            // An older copy was put back, or a power cut took what was newest.
            4..=6 if !self.copies.is_empty() => {
                let copy = self.random.pick(&self.copies).clone();
                self.disk.put_back(copy);
                self.rewinds += 1;
                start = Start::Rewound;
            }
            _ => {
                self.disk.put_back(Content::default());
                self.rewinds += u64::from(self.kind == Kind::Data);
                start = if self.kind == Kind::Data { Start::Rewound } else { Start::Lost };
            }
        }
        self.open_hub(start)?;
        let after = self.board()?.version();
        self.say(|_| format!("the hub starts at {after:?}"));
        let kept = after.epoch == before.epoch;
        // A close that failed may have been kept all the same.
        if start == Start::Same && closed == (how <= 1) && kept != (closed || matches!(how, 0 | 2)) {
            return Err(format!("closed {closed}, way {how}: the epoch of {before:?} and {after:?}"));
        }
        if after.run == before.run {
            return Err("a run was listed twice".to_owned());
        }
        if start != Start::Same && self.random.once_in(3) {
            self.copies.clear();
        }
        Ok(())
    }

    pub(super) fn open_hub(&mut self, start: Start) -> Result<(), String> {
        let mut entropy = Random::new(self.random.next());
        let boot_id = self.boot.to_string();
        let options = OpenOptions { durable: true, boot_id, entropy: Box::new(move || entropy.next()) };
        let writer = match Writer::open(Box::new(self.disk.clone()), options) {
            Ok(writer) => writer,
            // The one commit of an opening may be the one that was to fail.
            Err(_) => return self.open_hub(start),
        };
        let found = self.disk.content().records;
        let living = found.into_values().filter_map(|record| Some((record.name, stamp(&record.value?))));
        let stored: State = living.collect();
        if start == Start::Same {
            for name in NAMES.iter().map(|name| Bytes::from_static(name.as_bytes())) {
                if stored.get(&name) != self.shown.get(&name) && !self.doubtful.contains(&name) {
                    return Err(format!("{name:?} was {:?}, found {:?}", self.shown.get(&name), stored.get(&name)));
                }
            }
        }
        // A client may hold any of them, be it from long ago.
        let missing = NAMES.iter().map(|name| Bytes::from_static(name.as_bytes()));
        let missing: Vec<Name> = missing.filter(|name| !stored.contains_key(name)).collect();
        self.shown = stored;
        self.doubtful.clear();
        if start == Start::Rewound {
            // To the clients what the store lost was removed at this moment, and what a scan brings back is new.
            for name in missing {
                self.last_stamp += 2;
                self.removals.entry(name.clone()).or_default().push(self.last_stamp - 1);
                if let Some(truth) = self.truth.get_mut(&name) {
                    *truth = self.last_stamp;
                }
            }
        }
        match self.kind {
            Kind::Data => {
                self.truth = self.shown.clone();
                writer.board().set_complete(true);
            }
            Kind::Share => {
                self.scan_all();
                if start == Start::First {
                    writer.board().set_complete(true);
                }
            }
        }
        self.writer = Some(writer);
        Ok(())
    }
}
