//! A follow of a board for one command, which outlives the connections it goes over.

use super::{Client, ClientError, NUMBER, unexpected};
use crate::conn::ConnError;
use crate::convert::{Came, batch_from_wire, cursor_to_wire};
use board::{Replica, ReplicaError, Start};
use bytes::Bytes;
use std::collections::{HashMap, HashSet, VecDeque};
use wire::message::{Batch, ToClient, ToHub, Version};

/// A follow of a board, see [`Client::follow`].
///
/// It remembers of each name the version it told and the value's hash, not the value.
pub struct Follow {
    /// `None` after it broke.
    client: Option<Client>,
    board: String,
    pattern: Bytes,
    replica: Replica,
    ready: VecDeque<Update>,
}

/// What a follow tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A name has a new value, or none any more.
    Changed {
        /// The name.
        name: Bytes,
        /// The version of the board with it.
        version: Version,
        /// The value as it stands on the board; on `data`, for [`wire::codec::decode_stored`].
        value: Option<Bytes>,
    },
    /// All there is was told; what comes from here on is new.
    Current {
        /// The version of the board.
        version: Version,
    },
}

impl Follow {
    pub(super) async fn begin(client: Client, board: &str, pattern: Bytes) -> Result<Follow, ClientError> {
        let (replica, ready) = (Replica::new(), VecDeque::new());
        let mut follow = Follow { client: None, board: board.to_owned(), pattern, replica, ready };
        follow.resume(client).await?;
        Ok(follow)
    }

    /// Goes on over another connection, where the last one broke: with the newest of what was missed, and nothing twice.
    ///
    /// # Errors
    /// When the hub refuses, or this connection breaks, too; it may be tried again with another.
    pub async fn resume(&mut self, mut client: Client) -> Result<(), ClientError> {
        let cursor = self.replica.cursor().map(cursor_to_wire);
        let (board, pattern) = (self.board.clone(), self.pattern.clone());
        client.outgoing.send(&ToHub::Follow { fid: NUMBER, board, pattern, cursor }).await?;
        match client.receive().await? {
            ToClient::Following { fid: NUMBER, epoch, run, reset, .. } => {
                self.replica.begin(Start { epoch, run, reset }).map_err(does_not_fit)?;
                self.client = Some(client);
                Ok(())
            }
            other => Err(unexpected(other)),
        }
    }

    /// The next thing that happened. Nothing is lost if this is dropped half-way.
    ///
    /// # Errors
    /// When the connection breaks; the way on is [`Follow::resume`], where [`ClientError::is_passing`].
    pub async fn next(&mut self) -> Result<Update, ClientError> {
        loop {
            if let Some(update) = self.ready.pop_front() {
                return Ok(update);
            }
            let Some(client) = &mut self.client else { return Err(ConnError::Cut.into()) };
            let heard = match client.receive().await {
                Ok(ToClient::Batch(batch)) => self.take(batch),
                Ok(other) => Err(unexpected(other)),
                Err(error) => Err(error),
            };
            if let Err(error) = heard {
                // At once, so that its place is free for the one that comes after it.
                self.client = None;
                return Err(error);
            }
        }
    }

    fn take(&mut self, batch: Batch) -> Result<(), ClientError> {
        let Came { mut batch, .. } = batch_from_wire(batch);
        let (mut put, mut stale) = (HashMap::new(), HashSet::new());
        for record in &mut batch.records {
            if self.replica.get(&record.name).is_some_and(|held| held.seq == 0) {
                stale.insert(record.name.clone());
            }
            let hash = record.value.as_ref().map(|value| Bytes::copy_from_slice(blake3::hash(value).as_bytes()));
            let value = std::mem::replace(&mut record.value, hash);
            put.insert(record.name.clone(), (record.seq, value));
        }
        let changes = self.replica.apply(&batch).map_err(does_not_fit)?;
        // Nothing of it is ever written.
        drop(self.replica.take_unsaved());
        let Some(now) = self.replica.cursor().map(|cursor| cursor.version) else { return Ok(()) };
        let version = |seq| Version { epoch: now.epoch, run: now.run, seq };
        for change in changes {
            // After history was lost everything is sent anew, also what was told before.
            if change.old == change.new && stale.contains(&change.name) {
                continue;
            }
            let (seq, value) = put.remove(&change.name).unwrap_or((now.seq, None));
            self.ready.push_back(Update::Changed { name: change.name, version: version(seq), value });
        }
        if self.replica.is_current() {
            self.ready.push_back(Update::Current { version: version(now.seq) });
        }
        Ok(())
    }
}

fn does_not_fit(error: ReplicaError) -> ClientError {
    ClientError::Connection(format!("the hub said what does not fit ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::message::{Mark, Record};

    fn follow() -> Follow {
        Follow {
            client: None,
            board: "data".into(),
            pattern: "*".into(),
            replica: Replica::new(),
            ready: VecDeque::new(),
        }
    }

    fn start(follow: &mut Follow, epoch: u128, reset: bool) {
        follow.replica.begin(Start { epoch, run: 1, reset }).unwrap();
    }

    /// What a walk over all of the board tells.
    fn walk(follow: &mut Follow, head: u64, reset: bool, records: &[(&'static str, u64, &'static str)]) {
        let mark = Mark::Walk { head, upto: Bytes::new(), last: true, reset };
        take(follow, mark, records);
        take(follow, Mark::Live { from: head, to: head, view: head, current: Some([0; 32]) }, &[]);
    }

    fn take(follow: &mut Follow, mark: Mark, records: &[(&'static str, u64, &'static str)]) {
        let record = |&(name, seq, value): &(&'static str, u64, &'static str)| Record {
            name: name.into(),
            seq,
            value: (!value.is_empty()).then(|| value.into()),
            inline: None,
        };
        follow.take(Batch { group: 1, records: records.iter().map(record).collect(), mark }).unwrap();
    }

    fn told(follow: &mut Follow) -> Vec<String> {
        let shown = |update| match update {
            Update::Changed { name, version, value } => {
                let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                Some(format!("{}={} @{}", text(name), value.map(text).unwrap_or_default(), version.seq))
            }
            Update::Current { .. } => None,
        };
        follow.ready.drain(..).filter_map(shown).collect()
    }

    #[test]
    fn m3_7_what_was_told_is_not_told_again_and_what_was_missed_is() {
        let mut follow = follow();
        start(&mut follow, 1, true);
        walk(&mut follow, 5, true, &[("a", 3, "x"), ("b", 5, "y")]);
        assert_eq!(told(&mut follow), ["a=x @3", "b=y @5"]);
        let cursor = follow.replica.cursor().unwrap();
        assert_eq!(cursor.version.seq, 5, "the cursor it comes back with");
        start(&mut follow, 1, false);
        take(&mut follow, Mark::Live { from: 5, to: 9, view: 9, current: None }, &[("a", 9, "z"), ("c", 7, "w")]);
        assert_eq!(told(&mut follow), ["a=z @9", "c=w @7"]);
        take(&mut follow, Mark::Live { from: 9, to: 10, view: 10, current: None }, &[("a", 10, "")]);
        assert_eq!(told(&mut follow), ["a= @10"]);
        // The same value, put again, is news.
        take(&mut follow, Mark::Live { from: 10, to: 11, view: 11, current: None }, &[("c", 11, "w")]);
        assert_eq!(told(&mut follow), ["c=w @11"]);
    }

    #[test]
    fn m3_7_after_history_was_lost_only_what_differs_is_told() {
        let mut follow = follow();
        start(&mut follow, 1, true);
        walk(&mut follow, 5, true, &[("a", 3, "x"), ("b", 4, "y"), ("c", 5, "z")]);
        told(&mut follow);
        start(&mut follow, 2, true);
        walk(&mut follow, 2, true, &[("a", 1, "x"), ("b", 2, "other")]);
        assert_eq!(told(&mut follow), ["b=other @2", "c= @2"]);
    }
}
