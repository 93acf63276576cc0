//! Frames on a connection: reading is bounded before memory is spent, writing is whole frames.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use wire::codec::{DecodeError, FrameError, FrameReader, decode_to_hub};
use wire::message::ToHub;

/// The reading half of a connection.
pub(crate) struct Incoming<R> {
    from: R,
    buffer: BytesMut,
    frames: FrameReader,
}

/// Why a connection gives no more messages.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("closed")]
    Closed,
    #[error("{}", words(.0))]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Who stops rarely takes leave of TLS first: that is an end as any other.
fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "its end closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, buffer: BytesMut::new(), frames: FrameReader::new() }
    }

    /// The next message. Safe to be dropped while it waits: what was read stays.
    pub(crate) async fn next(&mut self, bytes_max: usize) -> Result<ToHub, ReadError> {
        Ok(decode_to_hub(&self.frame(bytes_max).await?)?)
    }

    async fn frame(&mut self, bytes_max: usize) -> Result<Bytes, ReadError> {
        loop {
            if let Some(body) = self.frames.next(&mut self.buffer, bytes_max)? {
                return Ok(body);
            }
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Err(ReadError::Closed);
            }
        }
    }
}
