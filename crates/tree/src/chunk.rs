//! Content-defined chunks of large files, so that of a changed one only what changed travels.

use crate::entry::ContentId;
use fastcdc::v2020::StreamCDC;
use std::io::{self, Read};

/// Smallest, average and largest chunk of files up to a size, in bytes: small enough that a change costs little,
/// large enough that a file is not tens of thousands of chunks.
const CLASSES: [(u64, [usize; 3]); 2] =
    [(16 << 20, [1 << 10, 4 << 10, 16 << 10]), (256 << 20, [4 << 10, 16 << 10, 64 << 10])];
const LARGEST_CLASS: [usize; 3] = [16 << 10, 64 << 10, 256 << 10];

/// No chunk is longer than this, whatever the file.
pub const CHUNK_BYTES_MAX: usize = LARGEST_CLASS[2];

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes; at most [`CHUNK_BYTES_MAX`].
    pub len: u32,
    /// Hash of its bytes.
    pub hash: ContentId,
}

/// Cuts what `reader` gives; `size_bytes` is the file's length and chooses the size of the chunks.
///
/// The chunks follow each other without gaps. Memory: one largest chunk, and what is returned.
///
/// # Errors
/// Those of the reader.
pub fn chunks(reader: impl Read, size_bytes: u64) -> io::Result<Vec<Chunk>> {
    let mut found = Vec::new();
    each_chunk(reader, size_bytes, |chunk, _| found.push(chunk))?;
    Ok(found)
}

/// [`chunks`], each handed over with its bytes as soon as it is cut.
///
/// # Errors
/// Those of the reader.
pub fn each_chunk(reader: impl Read, size_bytes: u64, mut take: impl FnMut(Chunk, &[u8])) -> io::Result<()> {
    let [min, average, max] = class(size_bytes);
    for cut in StreamCDC::new(reader, min, average, max) {
        let cut = cut?;
        let len = u32::try_from(cut.length).expect("no chunk is longer than CHUNK_BYTES_MAX");
        take(Chunk { offset: cut.offset, len, hash: ContentId::of(&cut.data) }, &cut.data);
    }
    Ok(())
}

/// The most chunks that a file of this length is ever cut into.
pub fn count_max(size_bytes: u64) -> usize {
    let [min, ..] = class(size_bytes);
    // The last chunk alone may be shorter.
    usize::try_from(size_bytes / min as u64).unwrap_or(usize::MAX).saturating_add(1)
}

fn class(size_bytes: u64) -> [usize; 3] {
    CLASSES.iter().find(|(limit, _)| size_bytes <= *limit).map_or(LARGEST_CLASS, |(_, sizes)| *sizes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_file_is_cut_into_more_chunks_than_its_length_allows() {
        for len in [0, 1, 1 << 10, 300_000, (16 << 20) + 1] {
            for bytes in [noise(3, len), vec![0; len]] {
                let count = chunks(&bytes[..], len as u64).unwrap().len();
                assert!(count <= count_max(len as u64), "{count} chunks of {len} bytes");
            }
        }
        assert_eq!(count_max(1 << 20), 1025);
    }

    /// Bytes that look random, from a seed.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn chunks_are_the_file_and_nothing_else(seed in any::<u64>(), len in 0usize..300_000) {
            let bytes = noise(seed, len);
            let mut end = 0;
            for chunk in chunks(&bytes[..], len as u64).unwrap() {
                let at = usize::try_from(chunk.offset).unwrap();
                prop_assert_eq!(at, end);
                end = at + chunk.len as usize;
                prop_assert_eq!(chunk.hash, ContentId::of(&bytes[at..end]));
                prop_assert!(chunk.len as usize <= CHUNK_BYTES_MAX);
            }
            prop_assert_eq!(end, len);
        }
    }

    #[test]
    fn one_inserted_byte_changes_few_chunks() {
        let old = noise(1, 1 << 20);
        let mut new = old.clone();
        new.insert(500_000, 7);
        let held: std::collections::HashSet<_> = chunks(&old[..], 1 << 20).unwrap().iter().map(|c| c.hash).collect();
        let missing: u32 =
            chunks(&new[..], 1 << 20).unwrap().iter().filter(|c| !held.contains(&c.hash)).map(|c| c.len).sum();
        assert!(missing <= 32 * 1024, "{missing} bytes would travel");
    }

    #[test]
    fn the_size_of_a_file_chooses_the_size_of_its_chunks() {
        let bytes = noise(2, 4 << 20);
        let count = |size_bytes| chunks(&bytes[..], size_bytes).unwrap().len();
        assert!(count(16 << 20) > 2 * count((16 << 20) + 1));
        assert!(count(256 << 20) > 2 * count((256 << 20) + 1));
    }
}
