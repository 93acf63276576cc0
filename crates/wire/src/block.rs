//! [`Bytes`] in messages: one block each, cut out of the received frame without a copy where that pays.
//!
//! Serde gives a visitor a borrowed slice, which on its own could only be copied. While a frame is decoded it is
//! therefore known to this thread, and a large slice of it becomes a shared piece of it. Small ones are copied all the
//! same: whoever keeps a name must not keep a whole frame alive with it.

use bytes::Bytes;
use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};
use std::cell::RefCell;
use std::fmt;

/// From this size on a block is a piece of the frame; below it is a copy.
pub(crate) const SLICE_BYTES_MIN: usize = 1024;

thread_local! {
    static FRAME: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// Runs `decode` while blocks may be cut out of `frame`.
pub(crate) fn slicing<R>(frame: &Bytes, decode: impl FnOnce() -> R) -> R {
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            FRAME.set(None);
        }
    }
    FRAME.set(Some(frame.clone()));
    let _forget = Forget;
    decode()
}

fn block(slice: &[u8]) -> Bytes {
    if slice.len() < SLICE_BYTES_MIN {
        return Bytes::copy_from_slice(slice);
    }
    FRAME.with_borrow(|frame| match frame {
        Some(frame) if holds(frame, slice) => frame.slice_ref(slice),
        _ => Bytes::copy_from_slice(slice),
    })
}

fn holds(frame: &Bytes, slice: &[u8]) -> bool {
    let (outer, inner) = (frame.as_ptr_range(), slice.as_ptr_range());
    outer.start <= inner.start && inner.end <= outer.end
}

pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    deserializer.deserialize_bytes(BlockVisitor)
}

struct BlockVisitor;

impl<'de> Visitor<'de> for BlockVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a block of bytes")
    }

    fn visit_borrowed_bytes<E: Error>(self, slice: &'de [u8]) -> Result<Bytes, E> {
        Ok(block(slice))
    }

    fn visit_bytes<E: Error>(self, slice: &[u8]) -> Result<Bytes, E> {
        Ok(Bytes::copy_from_slice(slice))
    }

    fn visit_byte_buf<E: Error>(self, owned: Vec<u8>) -> Result<Bytes, E> {
        Ok(Bytes::from(owned))
    }
}

/// The same for a block that may be absent.
pub(crate) mod option {
    use super::{BlockVisitor, Bytes, Deserializer, Error, Serializer, Visitor, fmt};
    use serde::Serialize;

    struct Block<'a>(&'a Bytes);

    impl Serialize for Block<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }

    pub(crate) fn serialize<S: Serializer>(bytes: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
        match bytes {
            None => serializer.serialize_none(),
            Some(bytes) => serializer.serialize_some(&Block(bytes)),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
        deserializer.deserialize_option(OptionVisitor)
    }

    struct OptionVisitor;

    impl<'de> Visitor<'de> for OptionVisitor {
        type Value = Option<Bytes>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a block of bytes, or none")
        }

        fn visit_none<E: Error>(self) -> Result<Option<Bytes>, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Bytes>, D::Error> {
            deserializer.deserialize_bytes(BlockVisitor).map(Some)
        }
    }
}
