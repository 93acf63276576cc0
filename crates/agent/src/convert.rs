//! Between the wire's messages and the board's values, both ways, side by side.

use board::{Batch, Cursor, Mark, Record, Version, WalkMark};
use bytes::Bytes;
use tree::{ContentId, Entry};
use wire::message;

/// A batch as the board knows it, the contents that came with it, and the root at its `current`.
pub(crate) struct Came {
    pub(crate) batch: Batch,
    pub(crate) inline: Vec<(ContentId, Bytes)>,
    pub(crate) root: Option<[u8; 32]>,
    /// Roughly what it takes in memory.
    pub(crate) bytes: usize,
}

pub(crate) fn batch_from_wire(batch: message::Batch) -> Came {
    let (mut inline, mut bytes) = (Vec::new(), 0);
    let mut records = Vec::with_capacity(batch.records.len());
    for message::Record { name, seq, value, inline: content } in batch.records {
        bytes += 64 + name.len() + value.as_ref().map_or(0, Bytes::len) + content.as_ref().map_or(0, Bytes::len);
        if let (Some(content), Some(value)) = (content, &value)
            && let Some((id, size_bytes)) = Entry::decode(value).ok().and_then(|entry| entry.content())
            && size_bytes == content.len() as u64
        {
            inline.push((id, content));
        }
        records.push(Record { name, seq, value, aside: Bytes::new() });
    }
    let (mark, root) = match batch.mark {
        message::Mark::Live { from, to, view, current } => {
            (Mark::Live { from, to, view, current: current.is_some() }, current)
        }
        message::Mark::Walk { head, upto, last, reset } => (Mark::Walk { head, upto, last, reset }, None),
    };
    Came { batch: Batch { records, mark }, inline, root, bytes }
}

pub(crate) fn cursor_to_wire(cursor: Cursor) -> message::Cursor {
    let Cursor { version, seen, walk } = cursor;
    message::Cursor {
        version: version_to_wire(version),
        seen,
        walk: walk.map(|WalkMark { head, upto, reset }| message::WalkMark { head, upto, reset }),
    }
}

pub(crate) fn version_to_wire(version: Version) -> message::Version {
    let Version { epoch, run, seq } = version;
    message::Version { epoch, run, seq }
}
