//! The native codec: a frame is a body's length (`u32`, little-endian) and the body, a message in postcard's format.
//!
//! What comes in is hostile until it is through here: the length is looked at before memory is spent, lists and blocks
//! are limited while they are decoded, trailing bytes are refused, and [`crate::check`] looks at the meaning last.

use crate::block;
use crate::check::BadMessage;
use crate::limits::{FRAME_BYTES_MAX, STORED_BYTES_MAX};
use crate::message::{Stored, ToClient, ToHub};
use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Bytes of a frame before its body.
pub const HEADER_BYTES: usize = 4;
/// How far the reader's buffer grows ahead of what has come.
const READ_AHEAD_BYTES: usize = 64 * 1024;
/// First byte of a stored value: how the rest is encoded.
const STORED_FORMAT: u8 = 1;

/// A message that can be sent: [`ToHub`] or [`ToClient`].
pub trait Message: Serialize + DeserializeOwned + sealed::Sealed {
    /// Whether every field is within its limits.
    ///
    /// # Errors
    /// Names the first field that is not.
    fn check(&self) -> Result<(), BadMessage>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ToHub {}
    impl Sealed for super::ToClient {}
}

impl Message for ToHub {
    fn check(&self) -> Result<(), BadMessage> {
        crate::check::to_hub(self)
    }
}

impl Message for ToClient {
    fn check(&self) -> Result<(), BadMessage> {
        crate::check::to_client(self)
    }
}

/// Appends `message` to `out` as one frame, header included.
///
/// # Errors
/// When the message breaks a limit or its body would be larger than [`FRAME_BYTES_MAX`]; `out` is then as it was.
pub fn encode<M: Message>(message: &M, out: &mut BytesMut) -> Result<(), EncodeError> {
    message.check()?;
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let body = start + HEADER_BYTES;
    let written = postcard::serialize_with_flavor(message, Frame { out: &mut *out, end: body + FRAME_BYTES_MAX })
        .map_err(into_encode);
    let length = u32::try_from(out.len() - body).map_err(|_| EncodeError::TooLarge { max: FRAME_BYTES_MAX });
    match written.and(length) {
        Ok(length) => {
            out[start..body].copy_from_slice(&length.to_le_bytes());
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// `message` as one frame of its own, to be shared between connections.
///
/// # Errors
/// As [`encode`].
pub fn encode_frame<M: Message>(message: &M) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::new();
    encode(message, &mut out)?;
    Ok(out.freeze())
}

/// The message in a frame's body (without the header) that a client sent.
///
/// # Errors
/// When the bytes are no such message, bytes are left over, or a limit is broken.
pub fn decode_to_hub(body: &[u8]) -> Result<ToHub, DecodeError> {
    decode(body)
}

/// The message in a frame's body (without the header) that a hub sent. Large contents in it share the frame's memory;
/// names and other small blocks are copies.
///
/// # Errors
/// As [`decode_to_hub`].
pub fn decode_to_client(body: Bytes) -> Result<ToClient, DecodeError> {
    block::slicing(&body, || decode(&body))
}

fn decode<M: Message>(body: &[u8]) -> Result<M, DecodeError> {
    if body.len() > FRAME_BYTES_MAX {
        return Err(DecodeError::Frame(FrameError::TooLarge { bytes: body.len(), max: FRAME_BYTES_MAX }));
    }
    let (message, rest) = postcard::take_from_bytes::<M>(body).map_err(|_| DecodeError::NotAMessage)?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing { bytes: rest.len() });
    }
    message.check()?;
    Ok(message)
}

/// A value of `data` as it stands on the board: a format byte and the value.
///
/// # Errors
/// When it would be larger than [`STORED_BYTES_MAX`].
pub fn encode_stored(stored: &Stored) -> Result<Bytes, EncodeError> {
    crate::check::content(&stored.content)?;
    let mut out = BytesMut::with_capacity(stored.content.bytes.len() + stored.content.content_type.len() + 32);
    out.extend_from_slice(&[STORED_FORMAT]);
    postcard::serialize_with_flavor(stored, Frame { out: &mut out, end: STORED_BYTES_MAX }).map_err(into_encode)?;
    Ok(out.freeze())
}

/// A value of `data` from the board.
///
/// # Errors
/// When the format is not known here or the bytes are not such a value.
pub fn decode_stored(bytes: &[u8]) -> Result<Stored, DecodeError> {
    if bytes.len() > STORED_BYTES_MAX {
        return Err(DecodeError::Frame(FrameError::TooLarge { bytes: bytes.len(), max: STORED_BYTES_MAX }));
    }
    let (&format, body) = bytes.split_first().ok_or(DecodeError::NotAMessage)?;
    if format != STORED_FORMAT {
        return Err(DecodeError::Format { format });
    }
    let (stored, rest) = postcard::take_from_bytes::<Stored>(body).map_err(|_| DecodeError::NotAMessage)?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing { bytes: rest.len() });
    }
    crate::check::content(&stored.content)?;
    Ok(stored)
}

/// Cuts frames out of what was received.
#[derive(Debug, Default)]
pub struct FrameReader {}

impl FrameReader {
    /// A reader at the beginning of a frame.
    pub fn new() -> FrameReader {
        FrameReader {}
    }

    /// The next frame's body, or `None` when `buf` does not hold it all yet. The body shares `buf`'s memory.
    ///
    /// `max` is [`crate::limits::FRAME_BYTES_MAX_BEFORE_LOGIN`] or [`FRAME_BYTES_MAX`]. When `None` is returned `buf`
    /// has room for a good part of what is missing, so that the next read is a large one.
    ///
    /// # Errors
    /// When the frame announces more than `max` bytes, or none. The connection is of no more use then.
    pub fn next(&mut self, buf: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameError> {
        let Some(header) = buf.first_chunk::<HEADER_BYTES>() else {
            buf.reserve(HEADER_BYTES);
            return Ok(None);
        };
        let bytes = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
        if bytes > max {
            return Err(FrameError::TooLarge { bytes, max });
        }
        if bytes == 0 {
            return Err(FrameError::Empty);
        }
        let whole = HEADER_BYTES + bytes;
        if buf.len() < whole {
            buf.reserve((whole - buf.len()).min(READ_AHEAD_BYTES));
            return Ok(None);
        }
        buf.advance(HEADER_BYTES);
        Ok(Some(buf.split_to(bytes).freeze()))
    }
}

/// Where postcard writes: appends to a buffer and stops at its end.
struct Frame<'a> {
    out: &'a mut BytesMut,
    end: usize,
}

impl postcard::ser_flavors::Flavor for Frame<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if self.out.len() + bytes.len() > self.end {
            return Err(postcard::Error::SerializeBufferFull);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

fn into_encode(error: postcard::Error) -> EncodeError {
    match error {
        postcard::Error::SerializeBufferFull => EncodeError::TooLarge { max: FRAME_BYTES_MAX },
        other => EncodeError::Format(other.to_string()),
    }
}

/// Why a message cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// It would not fit its frame.
    #[error("the message is larger than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// A field breaks its limit.
    #[error(transparent)]
    Bad(#[from] BadMessage),
    /// The format cannot express it; our own mistake.
    #[error("the message cannot be written: {0}")]
    Format(String),
}

/// Why received bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// It announces more than is allowed here. Also what another protocol on this port looks like.
    #[error("a frame of {bytes} bytes, at most {max} are allowed here")]
    TooLarge {
        /// What was announced.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// It announces nothing.
    #[error("an empty frame")]
    Empty,
}

/// Why a frame is not a message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Too large.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Unknown message, a list that is too long, or garbage.
    #[error("the bytes are no message of protocol {}", crate::PROTOCOL_VERSION)]
    NotAMessage,
    /// More bytes than the message has.
    #[error("{bytes} bytes too many after the message")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A stored value of another release.
    #[error("a stored value of format {format}, this release reads format {STORED_FORMAT}")]
    Format {
        /// What it says.
        format: u8,
    },
    /// A field breaks its limit.
    #[error(transparent)]
    Bad(#[from] BadMessage),
}

#[cfg(test)]
#[path = "codec/tests.rs"]
pub(crate) mod tests;
