//! Reading back what was written, before it gets its name.

use rustix::fs::Advice;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use tree::fsx;

use crate::live::Pulse;

/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;

/// Whether `written` holds what `from` holds, both from their begin.
///
/// What was written goes to the disk first, and the kernel is asked to forget it, so that it comes from the disk again.
/// It may decline (other users of the file, a file system in memory), and a disk may answer from memory of its own.
pub(super) fn is_same(from: &mut File, written: &mut File, path: &Path, pulse: &Pulse) -> Result<bool, fsx::Error> {
    let wanted = hash(from, u64::MAX, path, pulse)?;
    Ok(wanted == read_back(written, path, pulse)?)
}

/// Whether `written` still is what `from` begins with. What was read of a file twice the same stood there in between, all of it at
/// once.
pub(super) fn is_begin(from: &mut File, written: &mut File, path: &Path, pulse: &Pulse) -> Result<bool, fsx::Error> {
    let written_bytes = written.seek(SeekFrom::End(0)).map_err(|e| fsx::Error::from_io("read back", path, &e))?;
    Ok(hash(written, u64::MAX, path, pulse)? == hash(from, written_bytes, path, pulse)?)
}

/// Whether `written` holds `bytes`.
pub(super) fn holds(bytes: &[u8], written: &mut File, path: &Path, pulse: &Pulse) -> Result<bool, fsx::Error> {
    Ok(blake3::hash(bytes) == read_back(written, path, pulse)?)
}

fn read_back(written: &mut File, path: &Path, pulse: &Pulse) -> Result<blake3::Hash, fsx::Error> {
    rustix::fs::fdatasync(&*written).map_err(|e| fsx::Error::new("write to disk", path, e))?;
    // A hint: where it is not heard, what is read is still compared.
    if let Err(e) = rustix::fs::fadvise(&*written, 0, None, Advice::DontNeed) {
        tracing::debug!("cannot have {} read from the disk: {e}", path.display());
    }
    hash(written, u64::MAX, path, pulse)
}

/// Of the first `most` bytes.
fn hash(file: &mut File, most: u64, path: &Path, pulse: &Pulse) -> Result<blake3::Hash, fsx::Error> {
    let error = |e: &std::io::Error| fsx::Error::from_io("read back", path, e);
    file.seek(SeekFrom::Start(0)).map_err(|e| error(&e))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut file = file.take(most);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize()),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                pulse.beat();
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(error(&e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn one_wrong_bit_is_found_wherever_it_is() {
        let (mut from, mut written) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let content: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
        from.write_all_at(&content, 0).unwrap();
        written.write_all_at(&content, 0).unwrap();
        let (path, pulse) = (Path::new("f"), &Pulse::default());
        assert!(
            is_same(&mut from, &mut written, path, pulse).unwrap()
                && holds(&content, &mut written, path, pulse).unwrap()
        );
        for at in [0, content.len() as u64 - 1, READ_BYTES as u64] {
            written.write_all_at(&[content[usize::try_from(at).unwrap()] ^ 1], at).unwrap();
            assert!(!is_same(&mut from, &mut written, path, pulse).unwrap(), "byte {at}");
            assert!(!holds(&content, &mut written, path, pulse).unwrap());
            written.write_all_at(&content[usize::try_from(at).unwrap()..][..1], at).unwrap();
        }
        written.set_len(content.len() as u64 - 1).unwrap();
        assert!(!is_same(&mut from, &mut written, path, pulse).unwrap());
        assert!(is_begin(&mut from, &mut written, path, pulse).unwrap());
        written.write_all_at(&[content[9] ^ 1], 9).unwrap();
        assert!(!is_begin(&mut from, &mut written, path, pulse).unwrap());
        written.set_len(9).unwrap();
        assert!(is_begin(&mut from, &mut written, path, pulse).unwrap());
        assert!(!is_begin(&mut written, &mut from, path, pulse).unwrap(), "longer than what it should begin");
    }
}
