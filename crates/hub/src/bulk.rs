//! Bulk connections: contents for a session that is logged in, apart from its live batches.
//!
//! Files are read by blocking threads a few frames ahead of the socket, so memory is bounded by the frames in between
//! and a slow client slows only itself.

use crate::core::Hub;
use crate::io::Incoming;
use crate::presence::Session;
use crate::session::Ended;
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
        loop {
            match incoming.next(FRAME_BYTES_MAX).await {
                Ok(message) => {
                    if let Err(ended) = supply(&hub, message, &ready).await {
                        return ended;
                    }
                }
                Err(error) => return error.into(),
            }
        }
    };
    let write = async {
        while let Some(frame) = frames.recv().await {
            if let Err(error) = outgoing.write_all(&frame).await {
                return error;
            }
            if frames.is_empty()
                && let Err(error) = outgoing.flush().await
            {
                return error;
            }
        }
        std::io::ErrorKind::BrokenPipe.into()
    };
    tokio::select! {
        ended = read => ended,
        error = write => Ended::Write(error),
        why = session.ended() => Ended::Told(why),
        _ = stopping.wait_for(|stop| *stop) => Ended::Silent,
    }
}

async fn supply(hub: &Arc<Hub>, message: ToHub, ready: &mpsc::Sender<Bytes>) -> Result<(), Ended> {
    let (share, wanted) = match message {
        ToHub::Want { share, contents } => (share, Wanted::Contents(contents)),
        ToHub::WantChunks { share, content, chunks } => (share, Wanted::Chunks(content, chunks)),
        _ => return Err(Ended::Write(std::io::Error::other("only wants belong on a bulk connection"))),
    };
    let Some(share) = hub.shares.get(&share).map(Arc::clone) else {
        return Err(Ended::Write(std::io::Error::other(format!("no share {share}"))));
    };
    let ready = ready.clone();
    let read = tokio::task::spawn_blocking(move || match wanted {
        Wanted::Contents(contents) => contents.iter().try_for_each(|content| send_content(&share, content, &ready)),
        Wanted::Chunks(content, chunks) => send_chunks(&share, &content, &chunks, &ready),
    });
    match read.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Ended::Write(std::io::Error::other(error))),
        Err(error) => Err(Ended::Write(std::io::Error::other(error))),
    }
}

enum Wanted {
    Contents(Vec<Hash>),
    Chunks(Hash, Vec<u32>),
}

fn send_content(share: &Share, content: &Hash, ready: &mpsc::Sender<Bytes>) -> Result<(), EncodeError> {
    match share.contents.get(content) {
        Supply::Whole(bytes) => send(&ToClient::Content { content: *content, bytes }, ready),
        Supply::Gone => send(&ToClient::Gone { content: *content }, ready),
        Supply::Recipe(recipe) => {
            let total = u32::try_from(recipe.len()).unwrap_or(u32::MAX);
            let mut first = 0;
            for part in recipe.chunks(CHUNKS_MAX) {
                let chunks: Vec<(Hash, u32)> = part.iter().map(|chunk| (chunk.hash.0, chunk.len)).collect();
                send(&ToClient::Recipe { content: *content, first, total, chunks }, ready)?;
                first += u32::try_from(part.len()).unwrap_or(u32::MAX);
            }
            Ok(())
        }
    }
}

fn send_chunks(share: &Share, content: &Hash, wanted: &[u32], ready: &mpsc::Sender<Bytes>) -> Result<(), EncodeError> {
    // In portions, so that a slow client does not make the hub hold all that it asked for.
    for portion in wanted.chunks(AHEAD_MAX) {
        let found = share.contents.chunks(content, portion);
        let complete = found.len() == portion.len();
        for (index, bytes) in found {
            send(&ToClient::Chunk { content: *content, index, bytes }, ready)?;
        }
        if !complete {
            return send(&ToClient::Gone { content: *content }, ready);
        }
    }
    Ok(())
}

fn send(message: &ToClient, ready: &mpsc::Sender<Bytes>) -> Result<(), EncodeError> {
    if ready.blocking_send(encode_frame(message)?).is_err() {
        tracing::trace!("a bulk connection ended while its contents were read");
    }
    Ok(())
}
