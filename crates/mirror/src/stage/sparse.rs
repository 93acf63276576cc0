//! Copying a file with holes: only what holds data is read and written.

use super::{BUFFER_BYTES, Failed, Scratch, copy_range};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tree::fsx;

/// Copies a file that has holes, and leaves them. Nothing is written, and `false` returned, if it has none, or the file
/// system does not tell, or can share the blocks, which leaves the holes as well.
pub(super) fn copy_sparse(
    from: &File,
    to: &File,
    size_bytes: u64,
    scratch: &mut Scratch,
    path: &Path,
) -> Result<bool, Failed> {
    let Some(mut range) = next_data(from, 0, size_bytes, path)? else {
        // Nothing but a hole.
        to.set_len(size_bytes).map_err(|e| fsx::Error::from_io("write", path, &e))?;
        return Ok(true);
    };
    if range == (0..size_bytes) {
        return rewind(from, path).map(|()| false);
    }
    if !scratch.no_clone {
        match rustix::fs::ioctl_ficlone(to, from) {
            Ok(()) => return Ok(true),
            Err(_) => scratch.no_clone = true,
        }
    }
    let mut in_kernel = true;
    loop {
        in_kernel = in_kernel && copy_range(from, to, range.clone(), scratch, path)?;
        if !in_kernel {
            copy_by_hand(from, to, range.clone(), scratch, path)?;
        }
        match next_data(from, range.end, size_bytes, path)? {
            Some(next) => range = next,
            None => break,
        }
    }
    if range.end < size_bytes {
        to.set_len(size_bytes).map_err(|e| fsx::Error::from_io("write", path, &e))?;
    }
    Ok(true)
}

/// The next stretch of data at or after `at`; all of the rest where the file system does not know.
fn next_data(from: &File, at: u64, size_bytes: u64, path: &Path) -> Result<Option<Range<u64>>, Failed> {
    if at >= size_bytes {
        return Ok(None);
    }
    let failed = |e| Failed::Fs(fsx::Error::new("read", path, e));
    let begin = match rustix::fs::seek(from, SeekFrom::Data(at)) {
        Ok(begin) if begin >= size_bytes => return Ok(None),
        Ok(begin) => begin,
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(at..size_bytes)),
        Err(e) => return Err(failed(e)),
    };
    let end = rustix::fs::seek(from, SeekFrom::Hole(begin)).map_err(failed)?;
    Ok(Some(begin..end.min(size_bytes)))
}

fn copy_by_hand(from: &File, to: &File, range: Range<u64>, scratch: &mut Scratch, path: &Path) -> Result<(), Failed> {
    scratch.buffer.resize(BUFFER_BYTES, 0);
    let mut at = range.start;
    while at < range.end {
        let want = usize::try_from(scratch.piece(range.end - at)).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        let n = from.read_at(&mut scratch.buffer[..want], at).map_err(|e| fsx::Error::from_io("read", path, &e))?;
        if n == 0 {
            return Err(Failed::Changed);
        }
        to.write_all_at(&scratch.buffer[..n], at).map_err(|e| fsx::Error::from_io("write", path, &e))?;
        at += n as u64;
        scratch.wrote(n as u64)?;
    }
    Ok(())
}

/// Back to the begin, for whoever reads on.
fn rewind(from: &File, path: &Path) -> Result<(), Failed> {
    rustix::fs::seek(from, SeekFrom::Start(0)).map_err(|e| fsx::Error::new("read", path, e))?;
    Ok(())
}
