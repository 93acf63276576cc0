//! What the hub counts of itself, for `/metrics`: only ever more, from the start of the process on.

use board::{Batch, Mark, Pattern};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// All counters.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) native: Arc<Traffic>,
    pub(crate) http: Arc<Traffic>,
    pub(crate) text: Arc<Traffic>,
    /// What was done and not done, by how clients talk, in the order of [`Via::ALL`].
    told: [Told; Via::ALL.len()],
    /// Logins and proofs that came to nothing.
    pub(crate) not_let_in: AtomicU64,
    /// Answers over HTTP by the hundreds of their status, from 100 on.
    pub(crate) http_answers: [AtomicU64; 5],
}

/// How a client talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Native,
    Http,
    SocketIo,
    Text,
}

impl Via {
    pub(crate) const ALL: [Via; 4] = [Via::Native, Via::Http, Via::SocketIo, Via::Text];

    /// As sessions call it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Via::Native => "native",
            Via::Http => "http",
            Via::SocketIo => "socketio",
            Via::Text => "text",
        }
    }
}

/// What clients of one transport were told, and not.
#[derive(Default)]
pub(crate) struct Told {
    /// Versions that were never sent to somebody who follows everything, since newer ones had replaced them.
    pub(crate) conflated: AtomicU64,
    /// Logins and proofs that came to nothing.
    pub(crate) refused: AtomicU64,
}

impl Told {
    /// A batch goes out to somebody who follows `pattern`. Of a part of the names it cannot be told what was left out.
    pub(crate) fn sent(&self, batch: &Batch, pattern: &Pattern) {
        self.left_out(left_out(batch, pattern));
    }

    /// So many versions were left out.
    pub(crate) fn left_out(&self, versions: u64) {
        if versions > 0 {
            self.conflated.fetch_add(versions, Relaxed);
        }
    }
}

/// How many versions a batch of live entries left out, for newer ones had replaced them.
pub(crate) fn left_out(batch: &Batch, pattern: &Pattern) -> u64 {
    match batch.mark {
        Mark::Live { from, to, .. } if *pattern == Pattern::all() => {
            to.saturating_sub(from).saturating_sub(batch.records.len() as u64)
        }
        _ => 0,
    }
}

impl Counts {
    pub(crate) fn told(&self, via: Via) -> &Told {
        &self.told[via as usize]
    }

    pub(crate) fn answered(&self, status: u16) {
        if let Some(count) = usize::from(status / 100).checked_sub(1).and_then(|at| self.http_answers.get(at)) {
            count.fetch_add(1, Relaxed);
        }
    }
}

/// One transport's connections and bytes, TLS included.
#[derive(Default)]
pub(crate) struct Traffic {
    pub(crate) open: AtomicI64,
    pub(crate) accepted: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
}

/// A connection that is counted, or one of its two directions; open until all of it is dropped.
pub(crate) struct Counted<S> {
    stream: S,
    open: Arc<Open>,
}

struct Open(Arc<Traffic>);

impl Open {
    fn new(traffic: &Arc<Traffic>) -> Open {
        traffic.open.fetch_add(1, Relaxed);
        traffic.accepted.fetch_add(1, Relaxed);
        Open(Arc::clone(traffic))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

impl<S> Counted<S> {
    pub(crate) fn new(stream: S, traffic: &Arc<Traffic>) -> Counted<S> {
        Counted { stream, open: Arc::new(Open::new(traffic)) }
    }

    /// The two directions of one connection.
    pub(crate) fn halves<W>(from: S, to: W, traffic: &Arc<Traffic>) -> (Counted<S>, Counted<W>) {
        let open = Arc::new(Open::new(traffic));
        (Counted { stream: from, open: Arc::clone(&open) }, Counted { stream: to, open })
    }

    fn sent(&self, written: &Poll<std::io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.open.0.sent_bytes.fetch_add(*bytes as u64, Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        self.open.0.received_bytes.fetch_add((into.filled().len() - before) as u64, Relaxed);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.sent(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.sent(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_connection_is_open_once_until_both_directions_are_over() {
        let traffic = Arc::new(Traffic::default());
        let (here, mut there) = tokio::io::duplex(64);
        let (from, to) = tokio::io::split(here);
        let (mut from, mut to) = Counted::halves(from, to, &traffic);
        let counts = || (traffic.open.load(Relaxed), traffic.accepted.load(Relaxed));
        assert_eq!(counts(), (1, 1));
        to.write_all(b"12345").await.unwrap();
        there.write_all(b"123").await.unwrap();
        from.read_exact(&mut [0; 3]).await.unwrap();
        assert_eq!((traffic.sent_bytes.load(Relaxed), traffic.received_bytes.load(Relaxed)), (5, 3));
        drop(to);
        assert_eq!(counts(), (1, 1));
        drop(from);
        assert_eq!(counts(), (0, 1));
    }
}
