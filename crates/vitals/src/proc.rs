//! A file of procfs that is kept open and read again and again, into a buffer that is kept as well.
//!
//! The kernel renders such a file anew for a read at offset 0, so one descriptor serves for months and one `pread` gives a
//! consistent picture. What a file means is decided elsewhere.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::sampler::SampleError;

/// The largest file that is read. `/proc/stat` has some bytes for each interrupt line and CPU; the largest machines stay
/// below 1 MiB.
pub(crate) const FILE_BYTES_MAX: usize = 16 << 20;

/// Room enough for `/proc/stat` and `/proc/meminfo` of a usual machine, so that the first read is the only one.
const BUFFER_BYTES_START: usize = 8 << 10;

/// The buffer shared by all files of a sampler. It only grows, up to [`FILE_BYTES_MAX`].
#[derive(Debug)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    pub(crate) fn new() -> Self {
        Self(vec![0; BUFFER_BYTES_START])
    }
}

/// One file, opened at its first reading and kept open.
#[derive(Debug)]
pub(crate) struct KeptFile {
    path: PathBuf,
    open: Option<OwnedFd>,
}

impl KeptFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the whole file into `buffer`. A kept descriptor that went bad (a restarted lxcfs answers every one with an
    /// error) is replaced once by a new one.
    pub(crate) fn read<'b>(&mut self, buffer: &'b mut Buffer) -> Result<&'b [u8], SampleError> {
        let kept = self.open.take();
        let mut length = Err(Errno::BADF);
        if let Some(file) = kept {
            length = read_whole(&file, &mut buffer.0);
            self.open = Some(file);
        }
        if length.is_err_and(|error| error != Errno::FBIG) {
            // Without NONBLOCK a FIFO in the place of the file would hold up the sampler for ever.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
            let file = rustix::fs::open(&self.path, flags, Mode::empty()).map_err(|error| self.unreadable(error))?;
            length = read_whole(&file, &mut buffer.0);
            self.open = Some(file);
        }
        let length = length.map_err(|error| self.unreadable(error))?;
        Ok(&buffer.0[..length])
    }

    fn unreadable(&self, error: Errno) -> SampleError {
        if error == Errno::FBIG {
            return SampleError::TooLarge { path: self.path.clone(), bytes_max: FILE_BYTES_MAX };
        }
        SampleError::Unreadable { path: self.path.clone(), source: io::Error::from(error) }
    }
}

/// Fills `buffer` from offset 0 and returns the length; [`Errno::FBIG`] when it is larger than [`FILE_BYTES_MAX`].
///
/// A full buffer is grown and the file read again from its start, because what a second read at an offset gives belongs to
/// a newer picture. A short read that ends in a newline is the whole file; procfs costs its full price for another read that
/// says so. Anything else is read on until the end.
fn read_whole(file: &OwnedFd, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    let mut length = 0;
    loop {
        let offset = u64::try_from(length).unwrap_or(u64::MAX);
        let read = match rustix::io::pread(file, &mut buffer[length..], offset) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        length += read;
        if length == buffer.len() {
            if length >= FILE_BYTES_MAX {
                return Err(Errno::FBIG);
            }
            buffer.resize((length * 2).min(FILE_BYTES_MAX), 0);
            length = 0;
        } else if read == 0 || buffer[length - 1] == b'\n' {
            return Ok(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        (dir, path)
    }

    #[test]
    fn a_file_changed_in_place_is_seen_through_the_kept_descriptor() {
        let (_dir, path) = scratch();
        let mut buffer = Buffer::new();
        fs::write(&path, "one\n").unwrap();
        let mut file = KeptFile::new(path.clone());
        assert_eq!(file.read(&mut buffer).unwrap(), b"one\n");
        fs::write(&path, "second").unwrap();
        assert_eq!(file.read(&mut buffer).unwrap(), b"second", "also without a newline at the end");
        fs::write(&path, "").unwrap();
        assert_eq!(file.read(&mut buffer).unwrap(), b"");
    }

    #[test]
    fn a_file_larger_than_the_buffer_is_read_whole_and_one_too_large_is_refused() {
        let (_dir, path) = scratch();
        let mut buffer = Buffer::new();
        for bytes in [BUFFER_BYTES_START - 1, BUFFER_BYTES_START, BUFFER_BYTES_START + 1, 3 * BUFFER_BYTES_START] {
            let content = vec![b'7'; bytes];
            fs::write(&path, &content).unwrap();
            assert_eq!(KeptFile::new(path.clone()).read(&mut buffer).unwrap(), content, "{bytes} bytes");
        }
        fs::write(&path, vec![b'7'; FILE_BYTES_MAX - 1]).unwrap();
        assert_eq!(KeptFile::new(path.clone()).read(&mut buffer).unwrap().len(), FILE_BYTES_MAX - 1);
        fs::write(&path, vec![b'7'; FILE_BYTES_MAX]).unwrap();
        let error = KeptFile::new(path.clone()).read(&mut buffer).unwrap_err();
        assert!(matches!(error, SampleError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let (dir, path) = scratch();
        let mut buffer = Buffer::new();
        let missing = KeptFile::new(path.clone()).read(&mut buffer).unwrap_err();
        assert!(missing.to_string().contains(&path.display().to_string()), "{missing}");
        let directory = KeptFile::new(dir.path().to_owned()).read(&mut buffer).unwrap_err();
        assert!(matches!(directory, SampleError::Unreadable { .. }), "{directory}");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let fifo = KeptFile::new(path).read(&mut buffer).unwrap_err();
        assert!(matches!(fifo, SampleError::Unreadable { .. }), "a FIFO does not hold up the sampler: {fifo}");
    }
}
