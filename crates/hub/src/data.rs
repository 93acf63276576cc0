//! The board `data`: what users put, on disk before it is acknowledged.
//!
//! One thread owns the writer. While one commit waits for the disk the next puts gather, so many clients share one
//! sync (group commit) and nobody waits for a timer.

mod condition;
mod pace;
mod room;

pub(crate) use condition::{Condition, tag};

use crate::access::Access;
use crate::lag::Heads;
use crate::limits::{Limits, Live};
use crate::wake::Wakers;
use board::{Board, BoardError, Write, Writer};
use bytes::Bytes;
use pace::Pace;
use room::{NoRoom, Room};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use wire::codec::{decode_stored, encode_stored};
use wire::limits::{CONTENT_TYPE_BYTES_MAX, VALUE_NAME_BYTES_MAX};
use wire::message::{Content, Refusal, Stored, Version};

/// Puts that wait for the disk at most; beyond it a session waits with its next frame.
const PUTS_WAITING_MAX: usize = 4096;
/// Removals that are remembered at least; beyond it the oldest are forgotten, and who was away for longer walks anew.
const TOMBSTONES_MIN: usize = 10_000;
/// After so many changes they are counted.
const PURGE_EVERY: usize = 10_000;

/// The door to the board's one writer.
pub(crate) struct Data {
    pub(crate) board: Board,
    pub(crate) wakers: Arc<Wakers>,
    pub(crate) heads: Arc<Heads>,
    puts: SyncSender<Job>,
    limits: Arc<Live>,
    pace: Pace,
    /// Puts and removals made since the start, those that were refused, and the bytes that were put.
    pub(crate) puts_done: AtomicU64,
    pub(crate) puts_refused: AtomicU64,
    pub(crate) put_bytes: AtomicU64,
}

/// A put on its way to the disk; [`Data::done`] says what came of it.
pub(crate) struct Offered {
    answer: oneshot::Receiver<Result<(Version, bool), PutError>>,
    /// What is stored; nothing where the name is removed.
    value: Bytes,
    content_bytes: u64,
}

/// The thread that owns the writer; joined at shutdown so that the store is closed cleanly.
pub(crate) struct DataThread(JoinHandle<Result<(), BoardError>>);

/// Why a put was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum PutError {
    #[error("a value's name has 1 to {VALUE_NAME_BYTES_MAX} bytes; this one has {0}")]
    Name(usize),
    #[error("a value has at most {most} bytes; this one has {bytes}: share a file instead")]
    Value { bytes: usize, most: u64 },
    #[error("a content type has 1 to {CONTENT_TYPE_BYTES_MAX} visible characters")]
    ContentType,
    #[error("this hub already holds {0} values; remove some first")]
    TooMany(u64),
    #[error("this hub's values would take more than {} with this one; remove some first, or share files instead", size(*.0))]
    Full(u64),
    #[error(
        "this client puts more than {0} values a second, many side by side; nothing was changed: wait, and put them one after the other"
    )]
    TooFast(u64, Duration),
    #[error("the hub could not store it: {0}; nothing was changed, try again")]
    Store(String),
    #[error("the hub is stopping; nothing was changed, try again")]
    Stopping,
    #[error("the value is not as you expected it; nothing was changed: look at it again")]
    Unmet,
    #[error("{}", .0.text)]
    NotAllowed(Refusal),
}

/// What was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Put {
    pub(crate) version: Version,
    /// Of the value that was put; that of no value where another put of the name came in the same moment.
    pub(crate) tag: String,
    /// The name had no value before.
    pub(crate) created: bool,
}

enum Job {
    Put { name: Bytes, value: Option<Bytes>, condition: Condition, done: Done },
    Copy { to: PathBuf, done: oneshot::Sender<Result<(), BoardError>> },
    Stop,
}

/// Where the answer goes: the version, and whether the name had no value before.
type Done = oneshot::Sender<Result<(Version, bool), PutError>>;

impl Data {
    /// Starts the writer's thread.
    pub(crate) fn start(writer: Writer, limits: Arc<Live>) -> (Data, DataThread) {
        let room = Room::of(&writer.board());
        Data::start_with(writer, room, limits)
    }

    fn start_with(writer: Writer, room: Room, limits: Arc<Live>) -> (Data, DataThread) {
        let board = writer.board();
        let wakers = Arc::new(Wakers::default());
        let (wake, heads) = (Arc::clone(&wakers), Arc::<Heads>::default());
        let noted = Arc::clone(&heads);
        board.on_commit(Arc::new(move |head| {
            noted.note(head, crate::clock::now());
            wake.wake();
        }));
        let (puts, jobs) = sync_channel(PUTS_WAITING_MAX);
        let held_to = Arc::clone(&limits);
        let thread = std::thread::spawn(move || write_all(writer, room, &held_to, &jobs));
        let data = Data {
            board,
            wakers,
            heads,
            puts,
            limits,
            pace: Pace::default(),
            puts_done: AtomicU64::new(0),
            puts_refused: AtomicU64::new(0),
            put_bytes: AtomicU64::new(0),
        };
        (data, DataThread(thread))
    }

    /// Puts a value, or removes it; returns once it is on disk.
    pub(crate) async fn put(&self, name: Bytes, content: Option<Content>, by: &Access) -> Result<Version, PutError> {
        self.put_if(name, content, by, Condition::Any).await.map(|put| put.version)
    }

    /// As [`Data::put`], if the name holds what `condition` says by then.
    pub(crate) async fn put_if(
        &self,
        name: Bytes,
        content: Option<Content>,
        by: &Access,
        condition: Condition,
    ) -> Result<Put, PutError> {
        let mut offered = self.offer(name, content, by, condition).await?;
        self.done(&mut offered).await
    }

    /// Begins what [`Data::put_if`] does; returns once it has its place before the disk. What is offered one after the other is
    /// done in that order.
    pub(crate) async fn offer(
        &self,
        name: Bytes,
        content: Option<Content>,
        by: &Access,
        condition: Condition,
    ) -> Result<Offered, PutError> {
        let offered = self.take(name, content, by, condition).await;
        if offered.is_err() {
            self.puts_refused.fetch_add(1, Ordering::Relaxed);
        }
        offered
    }

    async fn take(
        &self,
        name: Bytes,
        content: Option<Content>,
        by: &Access,
        condition: Condition,
    ) -> Result<Offered, PutError> {
        let limits = self.limits.get();
        check(&name, content.as_ref(), &limits)?;
        by.to_put(&name).map_err(PutError::NotAllowed)?;
        match self.pace.next(by.id(), limits.puts_per_s, crate::clock::now()) {
            Ok(Duration::ZERO) => {}
            Ok(wait) => tokio::time::sleep(wait).await,
            Err(again) => return Err(PutError::TooFast(limits.puts_per_s, again)),
        }
        let content_bytes = content.as_ref().map_or(0, |content| content.bytes.len() as u64);
        let stored = content.map(|content| Stored { content, by: by.id(), at_ms: crate::clock::now_ms() });
        let value = stored.map(|s| encode_stored(&s)).transpose().map_err(|e| PutError::Store(e.to_string()))?;
        let (done, answer) = oneshot::channel();
        let bytes = value.clone().unwrap_or_default();
        let mut job = Job::Put { name, value, condition, done };
        // The channel is only full while the disk is slow: then the session that puts waits, nobody else.
        loop {
            match self.puts.try_send(job) {
                Ok(()) => break,
                Err(std::sync::mpsc::TrySendError::Full(back)) => {
                    job = back;
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                Err(std::sync::mpsc::TrySendError::Disconnected(_)) => return Err(PutError::Stopping),
            }
        }
        Ok(Offered { answer, value: bytes, content_bytes })
    }

    /// Waits until it is on disk. Where the wait is given up, another may go on with it; none after it has resolved.
    pub(crate) async fn done(&self, offered: &mut Offered) -> Result<Put, PutError> {
        let answer = (&mut offered.answer).await.unwrap_or(Err(PutError::Stopping));
        if answer.is_err() {
            self.puts_refused.fetch_add(1, Ordering::Relaxed);
        }
        let (version, created) = answer?;
        self.puts_done.fetch_add(1, Ordering::Relaxed);
        self.put_bytes.fetch_add(offered.content_bytes, Ordering::Relaxed);
        Ok(Put { version, tag: tag(version.epoch, version.seq, &offered.value), created })
    }

    /// The newest value of one name, with its tag.
    ///
    /// # Errors
    /// When it may not be read.
    pub(crate) fn tagged(&self, name: &[u8], to: &Access) -> Result<Option<(String, Stored)>, Refusal> {
        to.to_get(name)?;
        let found = self.board.get(name).and_then(|record| Some((record.seq, record.value?)));
        Ok(found
            .and_then(|(seq, bytes)| Some((tag(self.board.version().epoch, seq, &bytes), decode_stored(&bytes).ok()?))))
    }

    /// The newest value of one name.
    ///
    /// # Errors
    /// When it may not be read.
    pub(crate) fn get(&self, name: &[u8], to: &Access) -> Result<Option<(Version, Stored)>, Refusal> {
        to.to_get(name)?;
        let found = self.board.get(name).and_then(|record| Some((record.seq, record.value?)));
        let version = self.board.version();
        Ok(found.and_then(|(seq, bytes)| {
            Some((Version { epoch: version.epoch, run: version.run, seq }, decode_stored(&bytes).ok()?))
        }))
    }

    /// Copies the board as it is stored by then into the file `to`, which is missing or empty; puts wait meanwhile.
    ///
    /// # Errors
    /// Says why there is no copy.
    pub(crate) async fn copy_to(&self, to: PathBuf) -> Result<(), String> {
        let (done, copied) = oneshot::channel();
        let (puts, job) = (self.puts.clone(), Job::Copy { to, done });
        let sent = tokio::task::spawn_blocking(move || puts.send(job).is_ok()).await;
        match (sent, copied.await) {
            (Ok(true), Ok(copied)) => copied.map_err(|e| e.to_string()),
            _ => Err("the hub is stopping".to_owned()),
        }
    }

    /// Tells the thread to finish what it has and close the store.
    pub(crate) fn stop(&self) {
        // A full channel is being emptied; a closed one has stopped already.
        if self.puts.send(Job::Stop).is_err() {
            tracing::debug!("the data board had stopped already");
        }
    }
}

impl DataThread {
    /// Waits until the store is closed.
    pub(crate) fn join(self) -> Result<(), BoardError> {
        match self.0.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// As people read it: in the largest unit that says it whole.
fn size(bytes: u64) -> String {
    match bytes {
        0 => "0 bytes".to_owned(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}

fn check(name: &[u8], content: Option<&Content>, limits: &Limits) -> Result<(), PutError> {
    if name.is_empty() || name.len() > VALUE_NAME_BYTES_MAX {
        return Err(PutError::Name(name.len()));
    }
    if let Some(content) = content {
        if content.bytes.len() as u64 > limits.value_bytes {
            return Err(PutError::Value { bytes: content.bytes.len(), most: limits.value_bytes });
        }
        let visible = content.content_type.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if content.content_type.is_empty() || content.content_type.len() > CONTENT_TYPE_BYTES_MAX || !visible {
            return Err(PutError::ContentType);
        }
    }
    Ok(())
}

/// Else whoever puts and removes ever new names would fill memory and disk.
fn purge(writer: &mut Writer) {
    let up_to = writer.board().read(|index| {
        let removed: Vec<u64> = index.since(0).filter(|r| r.value.is_none()).map(|r| r.seq).collect();
        removed.len().checked_sub(TOMBSTONES_MIN + 1).map(|last| removed[last])
    });
    if let Some(Err(error)) = up_to.map(|up_to| writer.forget_tombstones(up_to)) {
        tracing::error!(%error, "old removals were not forgotten");
    }
}

fn write_all(mut writer: Writer, mut room: Room, limits: &Live, jobs: &Receiver<Job>) -> Result<(), BoardError> {
    let board = writer.board();
    let mut stopping = false;
    // As if it was time: what was removed before this start is counted with its first change.
    let mut changes = PURGE_EVERY;
    let mut held_back = None;
    while !stopping {
        let Some(first) = held_back.take().or_else(|| jobs.recv().ok()) else { break };
        let (mut writes, mut waiting) = (Vec::new(), Vec::new());
        let most = limits.get();
        let mut filling = room.filling(&board, Room { values: most.values, bytes: most.values_bytes });
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                // What a condition is about must be on the board first.
                Job::Put { ref name, ref condition, .. } if *condition != Condition::Any && filling.changes(name) => {
                    held_back = Some(job);
                    break;
                }
                Job::Put { name, condition, done, .. } if !condition.holds(&board, &name) => {
                    tell(done, Err(PutError::Unmet));
                }
                Job::Put { name, value, condition: _, done } => {
                    let created = value.is_some() && Condition::Nothing.holds(&board, &name);
                    let write = match value {
                        Some(value) => Write::Put { name: name.clone(), value, aside: Bytes::new() },
                        None => Write::Remove { name: name.clone() },
                    };
                    match filling.take(&write) {
                        Ok(()) => {
                            writes.push(write);
                            waiting.push((name, created, done));
                        }
                        Err(NoRoom::Values) => tell(done, Err(PutError::TooMany(most.values))),
                        Err(NoRoom::Bytes) => tell(done, Err(PutError::Full(most.values_bytes))),
                    }
                }
                // What was put before is in the copy.
                Job::Copy { .. } if !writes.is_empty() => {
                    held_back = Some(job);
                    break;
                }
                Job::Copy { to, done } => {
                    if done.send(writer.copy_to(&to)).is_err() {
                        tracing::debug!("who wanted a copy of the values did not wait for it");
                    }
                }
                Job::Stop => {
                    stopping = true;
                    break;
                }
            }
            next = jobs.try_recv().ok();
        }
        if writes.is_empty() {
            continue;
        }
        let filled = filling.room();
        changes += writes.len();
        let committed = writer.commit(writes);
        if committed.is_ok() {
            room = filled;
        }
        let version = board.version();
        for (name, created, done) in waiting {
            let answer = match &committed {
                // Where two puts of one name met in one commit, both are answered with the newer's version.
                Ok(_) => {
                    let seq = board.get(&name).map_or(version.seq, |record| record.seq);
                    Ok((Version { epoch: version.epoch, run: version.run, seq }, created))
                }
                Err(error) => Err(PutError::Store(error.to_string())),
            };
            tell(done, answer);
        }
        if let Err(error) = committed {
            tracing::error!(%error, "puts were not stored");
        }
        if changes >= PURGE_EVERY {
            changes = 0;
            purge(&mut writer);
        }
    }
    writer.close()
}

fn tell(done: Done, answer: Result<(Version, bool), PutError>) {
    if done.send(answer).is_err() {
        tracing::debug!("who put a value did not wait for the answer");
    }
}

#[cfg(test)]
mod tests;
