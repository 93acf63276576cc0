//! Messages over a stream of bytes: what the codec does, on tokio.

use bytes::{Bytes, BytesMut};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use wire::codec::{self, DecodeError, EncodeError, FrameError, FrameReader};
use wire::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_BEFORE_LOGIN};
use wire::message::{Ack, BoardName, Number, Refusal, ToClient, ToHub, Vitals};

/// Frames gathered into one write.
const WRITE_BYTES: usize = 128 * 1024;

/// Any stream a hub can be behind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Incoming<R> {
    read: R,
    buffer: BytesMut,
    frames: FrameReader,
    frame_bytes_max: usize,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// Of a connection that is not logged in.
    pub(crate) fn new(read: R) -> Incoming<R> {
        Incoming {
            read,
            buffer: BytesMut::new(),
            frames: FrameReader::new(),
            frame_bytes_max: FRAME_BYTES_MAX_BEFORE_LOGIN,
        }
    }

    /// From here on frames may be large.
    pub(crate) fn logged_in(&mut self) {
        self.frame_bytes_max = FRAME_BYTES_MAX;
    }

    /// The next message; `None` when the hub closed between two. Nothing is lost if this is dropped half-way.
    pub(crate) async fn next(&mut self) -> Result<Option<ToClient>, ConnError> {
        match self.next_body().await? {
            Some(body) => Ok(Some(codec::decode_to_client(body)?)),
            None => Ok(None),
        }
    }

    /// [`Incoming::next`], not looked into.
    pub(crate) async fn next_body(&mut self) -> Result<Option<Bytes>, ConnError> {
        loop {
            if let Some(body) = self.frames.next(&mut self.buffer, self.frame_bytes_max)? {
                return Ok(Some(body));
            }
            if self.read.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ConnError::Cut) };
            }
        }
    }

    /// The next message, or what it means that there is none within `patience`.
    pub(crate) async fn expect(&mut self, patience: Duration) -> Result<ToClient, ConnError> {
        match tokio::time::timeout(patience, self.next()).await {
            Ok(message) => message?.ok_or(ConnError::Cut),
            Err(_) => Err(ConnError::Silent { for_s: patience.as_secs() }),
        }
    }

    /// The stream again, and what was read of it ahead.
    pub(crate) fn into_parts(self) -> (R, BytesMut) {
        (self.read, self.buffer)
    }
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct Outgoing<W> {
    write: W,
    buffer: BytesMut,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    pub(crate) fn new(write: W) -> Outgoing<W> {
        Outgoing { write, buffer: BytesMut::new() }
    }

    pub(crate) async fn send(&mut self, message: &ToHub) -> Result<(), ConnError> {
        codec::encode(message, &mut self.buffer)?;
        self.flush().await
    }

    /// Puts `message` among what the next [`Outgoing::flush`] writes.
    pub(crate) fn push(&mut self, message: &ToHub) -> Result<(), ConnError> {
        Ok(codec::encode(message, &mut self.buffer)?)
    }

    pub(crate) async fn flush(&mut self) -> Result<(), ConnError> {
        self.write.write_all_buf(&mut self.buffer).await?;
        Ok(self.write.flush().await?)
    }

    pub(crate) fn into_inner(self) -> W {
        self.write
    }
}

/// What waits to be written. Of each follow only the newest acknowledgement is kept, so a hub that does not read
/// costs no memory.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// So much is followed from the beginning; see [`Outbox::vitals`].
    follows: usize,
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: Vec<ToHub>,
    acks: Vec<Ack>,
    /// What the hub was asked for, by board and pattern.
    asked_for: BTreeSet<(BoardName, Bytes)>,
    vitals: Option<Vitals>,
    ping: Option<u64>,
}

impl Outbox {
    /// Of a session that follows so much from its beginning.
    pub(crate) fn new(follows: usize) -> Arc<Outbox> {
        Arc::new(Outbox { follows, ..Outbox::default() })
    }

    /// For the few messages that are not acknowledgements.
    pub(crate) fn send(&self, message: ToHub) {
        self.with(|waiting| {
            if let ToHub::Follow { board, pattern, .. } = &message {
                waiting.asked_for.insert((board.clone(), pattern.clone()));
            }
            waiting.messages.push(message);
        });
    }

    pub(crate) fn ack(&self, ack: Ack) {
        self.with(|waiting| match waiting.acks.iter_mut().find(|held| held.fid == ack.fid) {
            Some(held) => *held = ack,
            None => waiting.acks.push(ack),
        });
    }

    /// Of the vitals, too, only the newest are kept. They go out once the session has asked for all that it follows: the
    /// first of them tell the hub so.
    pub(crate) fn vitals(&self, vitals: Vitals) {
        self.with(|waiting| waiting.vitals = Some(vitals));
    }

    pub(crate) fn ping(&self, nonce: u64) {
        self.with(|waiting| waiting.ping = Some(nonce));
    }

    /// A follow that begins anew: what was said of the old one is not to be said any more.
    pub(crate) fn forget_acks(&self, fid: Number) {
        self.with(|waiting| waiting.acks.retain(|held| held.fid != fid));
    }

    /// Writes what comes; ends with an error only, or by being dropped.
    pub(crate) async fn drain<W: AsyncWrite + Unpin>(&self, mut out: Outgoing<W>) -> Result<(), ConnError> {
        loop {
            let woken = self.wake.notified();
            let messages = self.take();
            let idle = messages.is_empty();
            for message in messages {
                out.push(&message)?;
                if out.buffer.len() >= WRITE_BYTES {
                    out.flush().await?;
                }
            }
            if idle {
                woken.await;
            } else {
                out.flush().await?;
            }
        }
    }

    fn take(&self) -> Vec<ToHub> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut messages = std::mem::take(&mut waiting.messages);
        messages.extend(std::mem::take(&mut waiting.acks).into_iter().map(ToHub::Ack));
        if waiting.asked_for.len() >= self.follows {
            messages.extend(waiting.vitals.take().map(ToHub::Vitals));
        }
        messages.extend(waiting.ping.take().map(|nonce| ToHub::Ping { nonce }));
        messages
    }

    fn with(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }
}

/// Why a connection is of no more use.
#[derive(Debug, Error)]
pub(crate) enum ConnError {
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("the hub closed the connection")]
    Cut,
    #[error("the hub said nothing for {for_s} s")]
    Silent { for_s: u64 },
    #[error("the hub sent a frame that makes no sense: {0}")]
    Frame(#[from] FrameError),
    #[error("the hub sent a message that makes no sense: {0}")]
    Message(#[from] DecodeError),
    #[error("a message cannot be sent: {0}")]
    Encode(#[from] EncodeError),
    #[error("the hub sent something that has no place here: {0}")]
    Unexpected(&'static str),
    #[error("the hub says: {}", .0.text)]
    Refused(Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::message::Version;

    fn ack(fid: Number, seq: u64) -> Ack {
        Ack::of(fid, Version { epoch: 1, run: 1, seq }, true)
    }

    #[tokio::test]
    async fn of_many_acknowledgements_only_the_newest_of_each_follow_is_sent() {
        let outbox = Outbox::new(0);
        for seq in 1..=10_000 {
            outbox.ack(ack(1, seq));
            outbox.ack(ack(2, 2 * seq));
        }
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let draining = Arc::clone(&outbox);
        let _drain = tokio::spawn(async move { draining.drain(Outgoing::new(ours)).await });
        let mut theirs = Incoming::new(theirs);
        let mut seqs = Vec::new();
        while seqs.len() < 2 {
            let body = theirs.next_body().await.unwrap().unwrap();
            match codec::decode_to_hub(&body).unwrap() {
                ToHub::Ack(ack) => seqs.push((ack.fid, ack.applied.seq)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seqs, [(1, 10_000), (2, 20_000)]);
    }

    #[test]
    fn vitals_go_out_behind_the_last_of_the_first_follows() {
        let outbox = Outbox::new(2);
        let follow = |share: &str| ToHub::Follow {
            fid: 1,
            board: format!("share/{share}"),
            pattern: Bytes::from_static(b"*"),
            cursor: None,
        };
        outbox.vitals(Vitals::default());
        // One that asks twice is still one.
        for share in ["a", "a"] {
            outbox.send(follow(share));
            assert_eq!(outbox.take(), [follow(share)]);
        }
        outbox.ping(1);
        outbox.send(follow("b"));
        assert_eq!(outbox.take(), [follow("b"), ToHub::Vitals(Vitals::default()), ToHub::Ping { nonce: 1 }]);
        outbox.vitals(Vitals::default());
        assert_eq!(outbox.take(), [ToHub::Vitals(Vitals::default())]);
    }

    #[tokio::test]
    async fn a_frame_of_a_gibibyte_is_refused_before_it_is_read() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(&(1_u32 << 30).to_le_bytes()).await.unwrap();
        let mut incoming = Incoming::new(ours);
        incoming.logged_in();
        assert!(matches!(incoming.next().await, Err(ConnError::Frame(_))));
    }
}
