//! The frames a segment is made of: a head of fixed size with a checksum of its own, then what it says follows.
//!
//! A head that is damaged does not say where the next one is, so the reader looks for it, byte by byte, at the mark every head
//! begins with. Blocks are only ever appended behind a whole frame, which is why a head with a right checksum can be trusted to
//! say how far the next one is, without reading what lies between.

/// What every head begins with.
pub(super) const MARK: [u8; 4] = *b"LkH\x01";

/// How long a head is.
pub(super) const HEAD_BYTES: usize = 48;

/// The longest content of a frame: a block of the most columns, none of which compresses.
pub(super) const CONTENT_BYTES_MAX: u32 = 64 << 20;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The schema of the segment.
    Schema,
    /// Rows, by columns.
    Block,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    /// How many bytes follow, and their checksum.
    pub(super) content_bytes: u32,
    pub(super) content_crc: u32,
    /// The number of the first row within the segment, and how many rows there are. Both 0 in a schema.
    pub(super) first_row: u64,
    pub(super) rows: u32,
    /// The earliest and the latest wall clock in it, milliseconds since the Unix epoch.
    pub(super) wall_ms_min: i64,
    pub(super) wall_ms_max: i64,
}

impl Head {
    /// The head of a frame with this content.
    pub(super) fn new(kind: Kind, content: &[u8]) -> Self {
        Self {
            kind,
            content_bytes: u32::try_from(content.len()).unwrap_or(u32::MAX),
            content_crc: crc32fast::hash(content),
            first_row: 0,
            rows: 0,
            wall_ms_min: 0,
            wall_ms_max: 0,
        }
    }

    /// Appends the head to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MARK);
        let kind: u32 = match self.kind {
            Kind::Schema => 1,
            Kind::Block => 2,
        };
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&self.content_bytes.to_le_bytes());
        out.extend_from_slice(&self.content_crc.to_le_bytes());
        out.extend_from_slice(&self.first_row.to_le_bytes());
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(&self.wall_ms_min.to_le_bytes());
        out.extend_from_slice(&self.wall_ms_max.to_le_bytes());
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// Reads a head; `None` where there is none or it is damaged.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEAD_BYTES)?;
        let (body, crc) = bytes.split_at(HEAD_BYTES - 4);
        let mut fields = Fields(body);
        if fields.take::<4>()? != MARK || u32::from_le_bytes(crc.try_into().ok()?) != crc32fast::hash(body) {
            return None;
        }
        let kind = match u32::from_le_bytes(fields.take()?) {
            1 => Kind::Schema,
            2 => Kind::Block,
            _ => return None,
        };
        let head = Self {
            kind,
            content_bytes: u32::from_le_bytes(fields.take()?),
            content_crc: u32::from_le_bytes(fields.take()?),
            first_row: u64::from_le_bytes(fields.take()?),
            rows: u32::from_le_bytes(fields.take()?),
            wall_ms_min: i64::from_le_bytes(fields.take()?),
            wall_ms_max: i64::from_le_bytes(fields.take()?),
        };
        (head.content_bytes <= CONTENT_BYTES_MAX).then_some(head)
    }

    /// Head and content together.
    pub(super) fn frame_bytes(&self) -> u64 {
        HEAD_BYTES as u64 + u64::from(self.content_bytes)
    }

    /// Whether `content` is what was written.
    pub(super) fn holds(&self, content: &[u8]) -> bool {
        content.len() as u64 == u64::from(self.content_bytes) && crc32fast::hash(content) == self.content_crc
    }
}

/// Appends a frame of a schema to `out`.
pub(super) fn write_schema(out: &mut Vec<u8>, content: &[u8]) {
    Head::new(Kind::Schema, content).write(out);
    out.extend_from_slice(content);
}

/// Takes numbers off the front of bytes.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn slice(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_and_no_damaged_one_does() {
        let head = Head {
            first_row: 7,
            rows: 1024,
            wall_ms_min: -5,
            wall_ms_max: i64::MAX,
            ..Head::new(Kind::Block, b"content")
        };
        let mut bytes = Vec::new();
        head.write(&mut bytes);
        assert_eq!((bytes.len(), Head::read(&bytes)), (HEAD_BYTES, Some(head)));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::read(&damaged), None, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(Head::read(&bytes[..cut]), None);
        }
        assert!(head.holds(b"content") && !head.holds(b"contenT") && !head.holds(b"conten"));
    }

    #[test]
    fn a_content_longer_than_any_is_refused_before_room_is_made_for_it() {
        let head = Head { content_bytes: CONTENT_BYTES_MAX, ..Head::new(Kind::Block, b"") };
        let read = |head: Head| {
            let mut bytes = Vec::new();
            head.write(&mut bytes);
            Head::read(&bytes)
        };
        assert_eq!(read(head), Some(head));
        assert_eq!(read(Head { content_bytes: CONTENT_BYTES_MAX + 1, ..head }), None);
    }
}
