//! Finds what a segment holds by its heads alone, also behind damage.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::{
    dir::read_at,
    frame::{HEAD_BYTES, Head, Kind, MARK},
    schema::Schema,
};

/// How much is looked through at once for the next mark.
const WINDOW_BYTES: usize = 64 << 10;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The first schema that can be read.
    pub(super) schema: Option<Schema>,
    /// The whole blocks: where their content begins, and their heads. Whether the content is right is not known yet.
    pub(super) blocks: Vec<(u64, Head)>,
    /// Blocks whose heads say more than there is.
    pub(super) cut: Vec<Head>,
    /// Places, and the bytes there, that no head leads to.
    pub(super) places_damaged: u64,
    pub(super) bytes_skipped: u64,
    /// How far the file goes.
    pub(super) bytes: u64,
}

impl Scan {
    /// Whether a block can be appended, and will be found.
    pub(super) fn is_whole(&self) -> bool {
        self.places_damaged == 0 && self.schema.is_some()
    }

    /// The number of the row after the last one.
    pub(super) fn next_row(&self) -> u64 {
        let ends = self.blocks.iter().map(|(_, head)| head.first_row.saturating_add(u64::from(head.rows)));
        ends.max().unwrap_or(0)
    }
}

/// Scans a segment of so many bytes.
pub(super) fn scan(file: &OwnedFd, bytes: u64) -> Result<Scan, Errno> {
    let mut found = Scan { bytes, ..Scan::default() };
    let mut at = 0;
    while at < bytes {
        let mut head = [0; HEAD_BYTES];
        let count = read_at(file, &mut head, at)?;
        let head = Head::read(&head[..count]);
        match head.filter(|head| at + head.frame_bytes() <= bytes) {
            Some(head) => {
                let content_at = at + HEAD_BYTES as u64;
                match head.kind {
                    Kind::Block => found.blocks.push((content_at, head)),
                    Kind::Schema if found.schema.is_none() => {
                        found.schema = content(file, content_at, &head)?.as_deref().and_then(Schema::from_bytes);
                    }
                    Kind::Schema => {}
                }
                at += head.frame_bytes();
            }
            None => {
                found.cut.extend(head.filter(|head| head.kind == Kind::Block));
                let next = next_mark(file, at + 1, bytes)?;
                found.places_damaged += 1;
                found.bytes_skipped += next - at;
                at = next;
            }
        }
    }
    Ok(found)
}

/// The content behind a head; `None` where it is not what was written.
pub(super) fn content(file: &OwnedFd, at: u64, head: &Head) -> Result<Option<Vec<u8>>, Errno> {
    let mut content = vec![0; usize::try_from(head.content_bytes).unwrap_or(0)];
    let count = read_at(file, &mut content, at)?;
    content.truncate(count);
    Ok(head.holds(&content).then_some(content))
}

/// Where the next head may begin; the end of the file, if nowhere. A mark within a block is found to be none by its checksum.
fn next_mark(file: &OwnedFd, from: u64, bytes: u64) -> Result<u64, Errno> {
    let mut window = vec![0; WINDOW_BYTES];
    let mut at = from;
    while at < bytes {
        let count = read_at(file, &mut window, at)?;
        let places = window[..count].windows(MARK.len()).enumerate();
        for (place, _) in places.filter(|(_, bytes)| *bytes == MARK) {
            let mut head = [0; HEAD_BYTES];
            let count = read_at(file, &mut head, at + place as u64)?;
            if Head::read(&head[..count]).is_some() {
                return Ok(at + place as u64);
            }
        }
        if count < WINDOW_BYTES {
            break;
        }
        at += (WINDOW_BYTES - MARK.len() + 1) as u64;
    }
    Ok(bytes)
}
