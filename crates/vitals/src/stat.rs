//! The lines `cpu` and `cpuN` of `/proc/stat`, from bytes to [`CpuTimes`].

use thiserror::Error;

use crate::sample::{CPU_COLUMNS, CpuTimes, OneCpu};

/// The most CPUs that are kept apart; the kernel itself is built for at most 8,192.
pub const CPUS_MAX: usize = 8192;

/// Reads the CPU lines of `content`; `cpus` is emptied and filled, sorted by id, and its capacity is kept.
///
/// Lines may stand in any order; after the CPU lines nothing is looked at, because the interrupt line that follows them is
/// the longest of the file.
///
/// # Errors
/// When there is no line `cpu`, or one that is not numbers. `cpus` is then of no use.
pub fn parse(content: &[u8], cpus: &mut Vec<OneCpu>) -> Result<CpuTimes, StatError> {
    cpus.clear();
    let mut all = None;
    for line in content.split(|byte| *byte == b'\n') {
        let Some(rest) = line.strip_prefix(b"cpu") else {
            if all.is_some() {
                break;
            }
            continue;
        };
        let name_end = rest.iter().position(u8::is_ascii_whitespace).ok_or(StatError::NotNumbers)?;
        let (name, columns) = rest.split_at(name_end);
        if name.is_empty() {
            all = Some(times(columns)?);
            continue;
        }
        let id = number(name).and_then(|id| u32::try_from(id).ok()).ok_or(StatError::NotNumbers)?;
        if cpus.len() >= CPUS_MAX {
            return Err(StatError::TooManyCpus);
        }
        cpus.push(OneCpu { id, times: times(columns)? });
    }
    if !cpus.is_sorted_by(|a, b| a.id < b.id) {
        cpus.sort_unstable_by_key(|cpu| cpu.id);
        cpus.dedup_by_key(|cpu| cpu.id);
    }
    all.ok_or(StatError::NoCpuLine)
}

fn times(columns: &[u8]) -> Result<CpuTimes, StatError> {
    let mut ticks = [0; CPU_COLUMNS];
    let mut count = 0;
    let words = columns.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    for (slot, word) in ticks.iter_mut().zip(words) {
        *slot = number(word).ok_or(StatError::NotNumbers)?;
        count += 1;
    }
    CpuTimes::new(&ticks[..count]).ok_or(StatError::NotNumbers)
}

/// A plain decimal number: digits only, no sign, within 64 bits.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut value = 0u64;
    // Nineteen digits fit whatever they are; only a longer number is checked at each of them.
    let (fit, rest) = digits.split_at(digits.len().min(19));
    for byte in fit {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    rest.iter().try_fold(value, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Why the content is not that of `/proc/stat`.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum StatError {
    /// The line with the sum of all CPUs is missing.
    #[error("it has no line `cpu`")]
    NoCpuLine,
    /// A CPU line has something else than whole numbers, or fewer than four of them.
    #[error("a line `cpu` does not hold at least four whole numbers")]
    NotNumbers,
    /// More than [`CPUS_MAX`] CPUs.
    #[error("it lists more than {CPUS_MAX} CPUs")]
    TooManyCpus,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::CpuField;

    #[test]
    fn lines_are_keyed_by_the_id_in_their_name_and_gaps_stay_gaps() {
        let content =
            b"cpu  10 20 30 40 50 60 70 80 90 100\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu7 1 1 1 1\nintr 5 cpu\ncpu9 x\n";
        let mut cpus = Vec::new();
        let all = parse(content, &mut cpus).unwrap();
        assert_eq!(all.ticks(CpuField::Steal), Some(80));
        assert_eq!(cpus.iter().map(|cpu| cpu.id).collect::<Vec<_>>(), [0, 7]);
        assert_eq!(cpus[1].times.ticks(CpuField::Iowait), None);
    }

    #[test]
    fn lines_out_of_order_or_twice_are_put_in_order() {
        let mut cpus = Vec::new();
        parse(b"cpu3 3 3 3 3\ncpu1 1 1 1 1\ncpu3 9 9 9 9\ncpu 1 1 1 1\n", &mut cpus).unwrap();
        assert_eq!(cpus.iter().map(|cpu| cpu.id).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn what_is_not_a_stat_file_is_refused_with_the_reason() {
        let mut cpus = Vec::new();
        let mut error = |content: &str| parse(content.as_bytes(), &mut cpus).unwrap_err();
        assert_eq!(error(""), StatError::NoCpuLine);
        assert_eq!(error("intr 1 2 3\n"), StatError::NoCpuLine);
        assert_eq!(error("cpu0 1 2 3 4\n"), StatError::NoCpuLine);
        for bad in ["cpu", "cpu\n", "cpu 1 2 3\n", "cpu 1 2 3 -4\n", "cpu 1 2 3 4.5\n", "cpux 1 2 3 4\n"] {
            assert_eq!(error(bad), StatError::NotNumbers, "{bad:?}");
        }
        assert_eq!(error("cpu 1 2 3 18446744073709551616\n"), StatError::NotNumbers, "one past 64 bits");
        assert!(parse(b"cpu 1 2 3 18446744073709551615\n", &mut cpus).is_ok());
    }

    #[test]
    fn the_limit_of_cpus_holds_at_the_limit_and_one_past_it() {
        let mut content = String::from("cpu 1 1 1 1\n");
        for id in 0..CPUS_MAX {
            content.push_str(&format!("cpu{id} 1 1 1 1\n"));
        }
        let mut cpus = Vec::new();
        parse(content.as_bytes(), &mut cpus).unwrap();
        assert_eq!(cpus.len(), CPUS_MAX);
        content.push_str("cpu8192 1 1 1 1\n");
        assert_eq!(parse(content.as_bytes(), &mut cpus), Err(StatError::TooManyCpus));
    }
}
