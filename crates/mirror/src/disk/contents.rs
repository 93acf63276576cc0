//! Whether a file and its copy hold the same bytes.

use super::DiskSource;
use crate::problem::Problem;
use std::io::Read;
use tree::at::stat_of;
use tree::{Dir, Name, RelPath, Stat, fsx};

/// Bytes read at once of each side.
const COMPARE_BYTES: usize = 128 * 1024;

impl DiskSource {
    /// Whether both files hold the same bytes. A source that changes meanwhile is different: copying it sorts it out.
    pub(super) fn same_content(
        &mut self,
        path: &RelPath,
        before: &Stat,
        dest: &Dir,
        name: &Name,
    ) -> Result<bool, Problem> {
        let Some((parent, source_name)) = path.split() else { return Ok(false) };
        let source = self.hold(&parent)?;
        let (Ok(mut a), Ok((mut b, _))) = (source.open_bare(&source_name), dest.open_file(name)) else {
            return Ok(false);
        };
        let [left, right] = &mut self.compare;
        left.resize(COMPARE_BYTES, 0);
        right.resize(COMPARE_BYTES, 0);
        loop {
            self.pulse.beat();
            let n =
                read_full(&mut a, left).map_err(|e| fsx::Error::from_io("read", source.path_of(&source_name), &e))?;
            let m = read_full(&mut b, right).map_err(|e| fsx::Error::from_io("read", dest.path_of(name), &e))?;
            if left[..n] != right[..m] {
                return Ok(false);
            }
            if n == 0 {
                return Ok(before.is_unchanged(&stat_of(&a, &source.path_of(&source_name))?));
            }
        }
    }
}

/// Fills `buffer` as far as the file goes.
fn read_full(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}
