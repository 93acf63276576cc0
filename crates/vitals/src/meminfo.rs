//! `/proc/meminfo`, from bytes to [`Memory`].

use thiserror::Error;

use crate::{sample::Memory, stat::number};

/// How many fields are read.
const FIELDS: usize = 9;

/// Reads the fields of [`Memory`] from `content`; all others are passed over. A field given twice counts the first time.
///
/// The key ends at the colon: some kernels print `Key:123 kB` without a space. The unit is kibibytes whether it is printed
/// or not, as it is for every field read here.
///
/// # Errors
/// When `MemTotal` is missing, or a field that is read is not a number of bytes within 64 bits.
pub fn parse(content: &[u8]) -> Result<Memory, MeminfoError> {
    let mut memory = Memory::default();
    let mut total_bytes = None;
    let mut fields_left = FIELDS;
    for line in content.split(|byte| *byte == b'\n') {
        // What is read here stands in the first half of the file.
        if fields_left == 0 {
            break;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let slot = match &line[..colon] {
            b"MemTotal" => &mut total_bytes,
            b"MemFree" => &mut memory.free_bytes,
            b"MemAvailable" => &mut memory.available_bytes,
            b"Buffers" => &mut memory.buffers_bytes,
            b"Cached" => &mut memory.cached_bytes,
            b"SReclaimable" => &mut memory.sreclaimable_bytes,
            b"Shmem" => &mut memory.shmem_bytes,
            b"SwapTotal" => &mut memory.swap_total_bytes,
            b"SwapFree" => &mut memory.swap_free_bytes,
            _ => continue,
        };
        let value = bytes(&line[colon + 1..]).ok_or(MeminfoError::NotBytes)?;
        fields_left -= usize::from(slot.is_none());
        slot.get_or_insert(value);
    }
    memory.total_bytes = total_bytes.ok_or(MeminfoError::NoTotal)?;
    Ok(memory)
}

fn bytes(value: &[u8]) -> Option<u64> {
    let mut words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let kibibytes = number(words.next()?)?;
    match words.next() {
        None | Some(b"kB") => kibibytes.checked_mul(1024),
        Some(_) => None,
    }
}

/// Why the content is not that of `/proc/meminfo`.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum MeminfoError {
    /// `MemTotal` is missing; without it nothing else can be judged.
    #[error("it has no line `MemTotal`")]
    NoTotal,
    /// A field that is read has something else than a number of kibibytes.
    #[error("a field of it is not a number of kB")]
    NotBytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_bytes_and_missing_ones_are_unknown() {
        let memory =
            parse(b"MemTotal:       1000 kB\nMemFree:10 kB\nBuffers: 7\nHugePages_Total:  x\nnonsense\n").unwrap();
        assert_eq!(memory.total_bytes, 1_024_000);
        assert_eq!(memory.free_bytes, Some(10_240), "no space after the colon");
        assert_eq!(memory.buffers_bytes, Some(7168), "no unit");
        assert_eq!(memory.available_bytes, None);
    }

    #[test]
    fn what_is_not_a_meminfo_file_is_refused_with_the_reason() {
        assert_eq!(parse(b""), Err(MeminfoError::NoTotal));
        assert_eq!(parse(b"MemFree: 1 kB\n"), Err(MeminfoError::NoTotal));
        for bad in ["MemTotal:\n", "MemTotal: -1 kB\n", "MemTotal: 1 MB\n", "MemTotal: 18014398509481984 kB\n"] {
            assert_eq!(parse(bad.as_bytes()), Err(MeminfoError::NotBytes), "{bad:?}");
        }
        assert!(parse(b"MemTotal: 18014398509481983 kB\n").is_ok(), "the last that fits");
    }
}
