//! What is handed to a log becomes whole lines, each of one line and not too long.

use std::io;

use super::{CappedLog, LINE_BYTES_MAX};

/// What stands at the end of a line that was cut.
const CUT: &[u8] = b" [cut]";

/// Whole lines go to the log as they become complete; what is unfinished waits for its newline, whatever is flushed. An error
/// is returned once, as by [`CappedLog::append_line`], and the bytes count as taken.
impl io::Write for CappedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut said = Ok(bytes.len());
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = (LINE_BYTES_MAX + 1).saturating_sub(self.unfinished.len());
            self.unfinished.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.unfinished);
                if let Err(error) = self.append_line(&line) {
                    said = Err(io::Error::other(error));
                }
                self.unfinished = line;
                self.unfinished.clear();
            }
        }
        said
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends `line` and a newline to `out`, cut if it is too long, newlines inside written as `\\n`.
pub(super) fn compose(out: &mut Vec<u8>, line: &[u8]) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let end = out.len() + LINE_BYTES_MAX;
    for (at, piece) in line.split(|byte| *byte == b'\n').enumerate() {
        if at > 0 {
            out.extend_from_slice(b"\\n");
        }
        // One byte more than fits is enough to know that the line is too long.
        out.extend_from_slice(&piece[..piece.len().min((end + 1).saturating_sub(out.len()))]);
    }
    if out.len() > end {
        out.truncate(end - CUT.len());
        out.extend_from_slice(CUT);
    }
    out.push(b'\n');
}
