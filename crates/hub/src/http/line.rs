//! The byte stream of one accepted connection, with a handle to it that outlives the HTTP on it.
//!
//! After an upgrade (WebSocket) the stream belongs to whoever speaks on it, and no longer to the task that accepted it. With a
//! [`Line`] it can still be cut, asked how far its client has come, and held back while what it sent is being worked off.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A handle to a connection's byte stream.
#[derive(Clone, Default)]
pub(crate) struct Line(Arc<State>);

#[derive(Default)]
struct State {
    cut: AtomicBool,
    held: AtomicBool,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    sleepers: Mutex<Sleepers>,
}

#[derive(Default)]
struct Sleepers {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Line {
    /// Cuts the connection, without another word.
    pub(crate) fn cut(&self) {
        self.0.cut.store(true, Ordering::Release);
        let mut sleepers = self.sleepers();
        let woken = [sleepers.reader.take(), sleepers.writer.take()];
        drop(sleepers);
        woken.into_iter().flatten().for_each(Waker::wake);
    }

    /// Reads nothing more from the connection until it is called with `false`: its client waits, by TCP.
    pub(crate) fn hold(&self, hold: bool) {
        if self.0.held.swap(hold, Ordering::AcqRel) && !hold {
            let reader = self.sleepers().reader.take();
            if let Some(reader) = reader {
                reader.wake();
            }
        }
    }

    /// Bytes that came in so far: it grows as long as the other end lives.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.0.read_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that the kernel, or TLS before it, took so far; of a client that does not read it takes a bounded number.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.0.written_bytes.load(Ordering::Relaxed)
    }

    /// Whether both are handles to the same connection.
    pub(crate) fn same(&self, other: &Line) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        self.0.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::Acquire)
    }
}

/// A byte stream on a [`Line`]. It keeps for as long as it lives what its connection counts by.
pub(crate) struct Lined<S> {
    stream: S,
    line: Line,
    _kept: Box<dyn Send>,
    /// Resolves when it is to be cut to make room for others; gone once it has.
    evicted: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> Lined<S> {
    pub(crate) fn new(
        stream: S,
        line: Line,
        kept: impl Send + 'static,
        evicted: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { stream, line, _kept: Box::new(kept), evicted: Some(Box::pin(evicted)) }
    }
}

fn was_cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut by the hub")
}

impl<S: AsyncRead + Unpin> AsyncRead for Lined<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Noted before it is looked at whether to stop, so that no cut and no release in between is missed.
        self.line.sleepers().reader = Some(cx.waker().clone());
        if self.evicted.as_mut().is_some_and(|evicted| evicted.as_mut().poll(cx).is_ready()) {
            self.evicted = None;
            self.line.cut();
        }
        if self.line.is_cut() {
            return Poll::Ready(Err(was_cut()));
        }
        if self.line.0.held.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let came = buf.filled().len() - before;
        self.line.0.read_bytes.fetch_add(came as u64, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> Lined<S> {
    /// Notes who writes, and whether it may.
    fn before_writing(&self, cx: &Context<'_>) -> io::Result<()> {
        self.line.sleepers().writer = Some(cx.waker().clone());
        if self.line.is_cut() { Err(was_cut()) } else { Ok(()) }
    }

    fn count(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = &polled {
            self.line.0.written_bytes.fetch_add(*written as u64, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lined<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.before_writing(cx)?;
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.count(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.before_writing(cx)?;
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.before_writing(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn pair() -> (Lined<tokio::io::DuplexStream>, Line, tokio::io::DuplexStream) {
        let (here, there) = tokio::io::duplex(64);
        let line = Line::default();
        (Lined::new(here, line.clone(), (), std::future::pending()), line, there)
    }

    #[tokio::test]
    async fn a_cut_ends_a_read_and_a_write_that_wait() {
        let (lined, line, _there) = pair();
        let (mut from, mut to) = tokio::io::split(lined);
        let reading = tokio::spawn(async move { from.read_u8().await.is_err() });
        let writing = tokio::spawn(async move { to.write_all(&[0; 1000]).await.is_err() });
        tokio::task::yield_now().await;
        line.cut();
        let ended = tokio::time::timeout(Duration::from_secs(5), async { (reading.await, writing.await) }).await;
        let (reading, writing) = ended.unwrap();
        assert!(reading.unwrap() && writing.unwrap());
    }

    #[tokio::test]
    async fn who_is_evicted_is_cut_also_where_nothing_but_its_stream_is_left() {
        let (here, _there) = tokio::io::duplex(64);
        let evict = Arc::new(tokio::sync::Notify::new());
        let evicted = Arc::clone(&evict);
        let mut lined = Lined::new(here, Line::default(), (), async move { evicted.notified().await });
        let reading = tokio::spawn(async move { (lined.read_u8().await.is_err(), lined.write_u8(0).await.is_err()) });
        tokio::task::yield_now().await;
        evict.notify_one();
        let ended = tokio::time::timeout(Duration::from_secs(5), reading).await.unwrap().unwrap();
        assert_eq!(ended, (true, true));
    }

    #[tokio::test]
    async fn a_held_line_reads_nothing_until_it_is_released() {
        let (mut lined, line, mut there) = pair();
        line.hold(true);
        there.write_all(b"x").await.unwrap();
        let reading = tokio::spawn(async move { lined.read_u8().await });
        tokio::task::yield_now().await;
        assert_eq!(line.read_bytes(), 0);
        line.hold(false);
        let byte = tokio::time::timeout(Duration::from_secs(5), reading).await.unwrap().unwrap().unwrap();
        assert_eq!((byte, line.read_bytes()), (b'x', 1));
    }
}
