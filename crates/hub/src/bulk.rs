//! Bulk connections: contents for a session that is logged in, apart from its live batches.
//!
//! Files are read by blocking threads a few frames ahead of the socket, so memory is bounded by the frames in between
//! and a slow client slows only itself.

use crate::access::Access;
use crate::answers::find;
use crate::core::Hub;
use crate::io::{Incoming, ReadError};
use crate::presence::Session;
use crate::session::{Ended, GOODBYE_MAX, protocol_error};
use crate::share::{Share, Supply};
use bytes::Bytes;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use wire::codec::{EncodeError, encode_frame};
use wire::limits::{CHUNKS_MAX, FRAME_BYTES_MAX};
use wire::message::{Hash, ToClient, ToHub};

/// Frames that are read ahead of the socket.
const AHEAD_MAX: usize = 8;

/// Serves a bulk connection until it, or its session, ends.
pub(crate) async fn serve<R, W>(
    hub: Arc<Hub>,
    session: Arc<Session>,
    mut incoming: Incoming<R>,
    mut outgoing: W,
) -> Ended
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let (ready, mut frames) = mpsc::channel::<Bytes>(AHEAD_MAX);
    let mut stopping = hub.stopping.subscribe();
    let read = async {
        let ready = ready;
        loop {
            let ended = match incoming.next(FRAME_BYTES_MAX).await {
                Ok(message) => match supply(&hub, &session.access, message, &ready).await {
                    Ok(()) => continue,
                    Err(ended) => ended,
                },
                Err(ReadError::Frame(error)) => Ended::Told(protocol_error(&error)),
                Err(ReadError::Decode(error)) => Ended::Told(protocol_error(&error)),
                Err(error) => return error.into(),
            };
            // Behind the whole frames that are on their way, so that it can be understood.
            if let Ended::Told(refusal) = &ended
                && let Ok(frame) = encode_frame(&ToClient::Bye(refusal.clone()))
                && ready.send(frame).await.is_err()
            {
                tracing::debug!("a refusal did not get out");
            }
            return ended;
        }
    };
    let write = async {
        while let Some(frame) = frames.recv().await {
            outgoing.write_all(&frame).await?;
            if frames.is_empty() {
                outgoing.flush().await?;
            }
        }
        outgoing.shutdown().await
    };
    tokio::pin!(read, write);
    let ended = tokio::select! {
        ended = &mut read => ended,
        written = &mut write => {
            return Ended::Write(written.err().unwrap_or_else(|| std::io::ErrorKind::BrokenPipe.into()));
        }
        why = session.ended() => return Ended::Told(why),
        _ = stopping.wait_for(|stop| *stop) => return Ended::Silent,
    };
    if matches!(ended, Ended::Told(_)) && tokio::time::timeout(GOODBYE_MAX, write).await.is_err() {
        tracing::debug!("a refusal did not get out in time");
    }
    ended
}

async fn supply(hub: &Arc<Hub>, access: &Access, message: ToHub, ready: &mpsc::Sender<Bytes>) -> Result<(), Ended> {
    let (share, wanted) = match message {
        ToHub::Want { share, contents } => (share, Wanted::Contents(contents)),
        ToHub::WantChunks { share, content, chunks } => (share, Wanted::Chunks(content, chunks)),
        _ => return Err(Ended::Told(protocol_error(&"only wants belong on a bulk connection"))),
    };
    let share = find(hub, &share, access).map_err(Ended::Told)?;
    for portion in wanted.portions() {
        let share = Arc::clone(&share);
        let read = tokio::task::spawn_blocking(move || read(&share, portion)).await;
        let failed = |error: &dyn std::fmt::Display| Ended::Write(std::io::Error::other(error.to_string()));
        let (frames, complete) = read.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        for frame in frames {
            // Here, and not on the thread that reads: those are few, and a slow client is not to keep one.
            ready.send(frame).await.map_err(|_| Ended::Write(std::io::ErrorKind::BrokenPipe.into()))?;
        }
        if !complete {
            break;
        }
    }
    Ok(())
}

enum Wanted {
    Contents(Vec<Hash>),
    Chunks(Hash, Vec<u32>),
}

impl Wanted {
    /// What is read at once, so that a slow client does not make the hub hold all that it asked for.
    fn portions(self) -> Vec<Wanted> {
        match self {
            Wanted::Contents(all) => all.chunks(AHEAD_MAX).map(|some| Wanted::Contents(some.to_vec())).collect(),
            Wanted::Chunks(of, all) => all.chunks(AHEAD_MAX).map(|some| Wanted::Chunks(of, some.to_vec())).collect(),
        }
    }
}

/// The frames for a portion, and whether there is sense in going on.
fn read(share: &Share, wanted: Wanted) -> Result<(Vec<Bytes>, bool), EncodeError> {
    let mut frames = Vec::new();
    match wanted {
        Wanted::Contents(contents) => {
            for content in &contents {
                read_content(share, content, &mut frames)?;
            }
            Ok((frames, true))
        }
        Wanted::Chunks(content, chunks) => {
            let found = share.contents.chunks(&content, &chunks);
            let complete = found.len() == chunks.len();
            for (index, bytes) in found {
                frames.push(encode_frame(&ToClient::Chunk { content, index, bytes })?);
            }
            if !complete {
                frames.push(encode_frame(&ToClient::Gone { content })?);
            }
            Ok((frames, complete))
        }
    }
}

fn read_content(share: &Share, content: &Hash, frames: &mut Vec<Bytes>) -> Result<(), EncodeError> {
    match share.contents.get(content) {
        Supply::Whole(bytes) => frames.push(encode_frame(&ToClient::Content { content: *content, bytes })?),
        Supply::Gone => frames.push(encode_frame(&ToClient::Gone { content: *content })?),
        Supply::Recipe(recipe) => {
            let total = u32::try_from(recipe.len()).unwrap_or(u32::MAX);
            let mut first = 0;
            for part in recipe.chunks(CHUNKS_MAX) {
                let chunks: Vec<(Hash, u32)> = part.iter().map(|chunk| (chunk.hash.0, chunk.len)).collect();
                frames.push(encode_frame(&ToClient::Recipe { content: *content, first, total, chunks })?);
                first += u32::try_from(part.len()).unwrap_or(u32::MAX);
            }
        }
    }
    Ok(())
}
