//! Gives back what only the start needed.
//!
//! The kernel maps a program's file in pieces, and keeps them mapped although nobody looks at them again: the arguments' parser, the
//! other commands, what the linker read. A monitor that runs for a year held 7 MiB of which it used 3. This takes the
//! files' clean pages out of the process; they stay in the system's cache, and what is needed again is mapped again.

use rustix::mm::{Advice, madvise};
use std::ops::Range;
use std::{fs, ptr};

/// Takes clean pages of files out of this process. To be called once all has been done once that is done again.
pub(super) fn give_back() {
    let smaps = match fs::read("/proc/self/smaps") {
        Ok(smaps) => smaps,
        Err(error) => {
            return tracing::debug!(%error, "what the start needed stays mapped: cannot read /proc/self/smaps");
        }
    };
    for range in clean_files(&String::from_utf8_lossy(&smaps)) {
        if let Err(error) = take_out(&range) {
            tracing::debug!(%error, ?range, "what the start needed stays mapped");
        }
    }
}

/// Where files are mapped privately, cannot be written through the mapping, and no page differs from the file.
fn clean_files(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut mapping = None;
    // What has to be said of it yet. A page of its own that was swapped out is not among the anonymous ones.
    let mut unsaid = 0;
    for line in smaps.lines() {
        match header(line) {
            Header::File(range) => (mapping, unsaid) = (Some(range), 2),
            Header::Other => mapping = None,
            Header::None => {
                let Some(own) = line.strip_prefix("Anonymous:").or_else(|| line.strip_prefix("Swap:")) else {
                    continue;
                };
                unsaid = u8::saturating_sub(unsaid, 1);
                if own.trim() != "0 kB" {
                    mapping = None;
                } else if unsaid == 0 {
                    found.extend(mapping.take());
                }
            }
        }
    }
    found
}

/// The first line of a mapping, or one of those that tell of it.
enum Header {
    File(Range<usize>),
    Other,
    None,
}

fn header(line: &str) -> Header {
    let mut words = line.split_ascii_whitespace();
    let range = words
        .next()
        .and_then(|range| range.split_once('-'))
        .and_then(|(start, end)| Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?));
    let Some(range) = range else { return Header::None };
    let rights = words.next().unwrap_or_default();
    let file = words.nth(3).is_some_and(|path| path.starts_with('/'));
    match file && rights.starts_with("r-") && rights.ends_with('p') {
        true => Header::File(range),
        false => Header::Other,
    }
}

#[allow(unsafe_code, reason = "there is no other way to say which pages are not needed")]
fn take_out(range: &Range<usize>) -> rustix::io::Result<()> {
    let start = ptr::with_exposed_provenance_mut(range.start);
    // SAFETY: a private mapping of a file without a page of its own: what is read there next is read from the file, and is the
    // same. Nothing of this program maps files itself, so it is the program's or a library's, mapped until it ends.
    unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
1000-3000 r--p 00000000 fe:00 12 /usr/bin/lockstep
Rss:                   8 kB
Anonymous:             0 kB
Swap:                  0 kB
SwapPss:               0 kB
VmFlags: rd mr mw me
3000-9000 r-xp 00002000 fe:00 12 /usr/bin/lock step (deleted)
Anonymous:             0 kB
Swap:                  0 kB
9000-a000 r--p 00008000 fe:00 12 /usr/bin/lockstep
Rss:                   4 kB
Anonymous:             4 kB
Swap:                  0 kB
9000-a000 r--p 00008000 fe:00 12 /usr/bin/lockstep
Anonymous:             0 kB
Swap:                  4 kB
a000-b000 rw-p 00009000 fe:00 12 /usr/bin/lockstep
Anonymous:             0 kB
Swap:                  0 kB
b000-c000 r--s 00000000 fe:00 13 /usr/share/cache
Anonymous:             0 kB
Swap:                  0 kB
c000-d000 r--p 00000000 00:00 0 
Anonymous:             0 kB
Swap:                  0 kB
d000-e000 ---p 00000000 fe:00 12 /usr/bin/lockstep
Anonymous:             0 kB
Swap:                  0 kB
ffffe000-fffff000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
Swap:                  0 kB
";

    #[test]
    fn only_what_is_as_the_file_is_and_cannot_be_written_is_given_back() {
        assert_eq!(clean_files(SMAPS), [0x1000..0x3000, 0x3000..0x9000]);
        // Without the last word on it, nothing is known of a mapping.
        assert!(clean_files("1000-3000 r--p 00000000 fe:00 12 /usr/bin/lockstep\nAnonymous: 0 kB\n").is_empty());
        assert!(clean_files("Anonymous: 0 kB\nSwap: 0 kB\n").is_empty());
    }

    #[test]
    fn the_program_goes_on_with_what_it_gave_back() {
        let own = clean_files(&fs::read_to_string("/proc/self/smaps").unwrap());
        let code = give_back as *const () as usize;
        assert!(own.iter().any(|range| range.contains(&code)), "{own:x?} without {code:x}");
        give_back();
        assert_eq!(clean_files(SMAPS).len(), 2);
    }
}
