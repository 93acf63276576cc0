//! Reading a file so that what was read is one version of it: stat, read, stat, on one descriptor.
//!
//! Guarded by `bench/` (first scan of a share): buffers are passed in, a small file is one read.

use crate::at::{Stat, let_changes_finish, stat_of};
use crate::entry::ContentId;
use crate::fsx::Error;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes of the reading buffer; past this nothing is gained (the page cache copies at full speed).
pub const READ_BUFFER_BYTES: usize = 256 * 1024;

/// What a file held while it stood still.
#[derive(Clone, Debug)]
pub struct Stable {
    /// Hash of the content.
    pub content: ContentId,
    /// The metadata before and after reading: they were equal.
    pub stat: Stat,
    /// The content itself, if it is not longer than was asked for.
    pub bytes: Option<Vec<u8>>,
}

/// What came of reading a file.
#[derive(Clone, Debug)]
pub enum Hashed {
    /// It stood still.
    Stable(Stable),
    /// It changed while it was read; nothing is known of it, read it again later.
    Changed,
}

/// Reads all of `file`, hashes it, and keeps the bytes of content up to `keep_bytes_max`.
///
/// `before` is its metadata from the moment of opening; `buffer` is scratch space, [`READ_BUFFER_BYTES`] long.
///
/// # Errors
/// When reading fails; `path` is for the message.
pub fn hash_file(
    file: &mut File,
    before: &Stat,
    keep_bytes_max: u64,
    buffer: &mut Vec<u8>,
    path: &Path,
) -> Result<Hashed, Error> {
    buffer.resize(READ_BUFFER_BYTES, 0);
    let mut hasher = blake3::Hasher::new();
    let mut kept = (before.size_bytes <= keep_bytes_max).then(Vec::new);
    let mut left = before.size_bytes;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let n = file.read(&mut buffer[..want]).map_err(|e| Error::from_io("read", path, &e))?;
        if n == 0 {
            // Shorter than it was a moment ago.
            return Ok(Hashed::Changed);
        }
        hasher.update(&buffer[..n]);
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&buffer[..n]);
        }
        left -= n as u64;
    }
    let_changes_finish(&*file);
    if !before.is_unchanged(&stat_of(&*file, path)?) {
        return Ok(Hashed::Changed);
    }
    Ok(Hashed::Stable(Stable { content: ContentId(hasher.finalize().into()), stat: *before, bytes: kept }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dir, Name};
    use std::io::Write;

    #[test]
    fn a_still_file_gives_its_id_and_its_bytes() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("a"), b"hello").unwrap();
        let dir = Dir::open_root(scratch.path()).unwrap();
        for (keep, kept) in [(5, Some(b"hello".to_vec())), (4, None)] {
            let (mut file, before) = dir.open_file(&Name::new(*b"a").unwrap()).unwrap();
            let hashed = hash_file(&mut file, &before, keep, &mut Vec::new(), scratch.path()).unwrap();
            let Hashed::Stable(stable) = hashed else { panic!("it stood still") };
            assert_eq!((stable.content, stable.bytes), (ContentId::of(b"hello"), kept));
        }
    }

    #[test]
    fn a_file_that_moves_while_it_is_read_is_never_taken() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a");
        std::fs::write(&path, b"hello").unwrap();
        let dir = Dir::open_root(scratch.path()).unwrap();
        for change in ["longer", "shorter", "as long"] {
            let (mut file, before) = dir.open_file(&Name::new(*b"a").unwrap()).unwrap();
            // Past the granularity of the clock that stamps files.
            std::thread::sleep(std::time::Duration::from_millis(15));
            match change {
                "longer" => std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"!").unwrap(),
                "shorter" => std::fs::write(&path, b"hi").unwrap(),
                _ => std::fs::write(&path, b"ho").unwrap(),
            }
            let hashed = hash_file(&mut file, &before, 9, &mut Vec::new(), &path).unwrap();
            assert!(matches!(hashed, Hashed::Changed), "{change}");
        }
    }
}
