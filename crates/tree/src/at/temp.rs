//! Names of temporaries: one known prefix that scans ignore, watchers drop, and start-up sweeps.

use crate::Name;
use std::sync::atomic::{AtomicU32, Ordering};

/// What every temporary's name begins with; 16 hexadecimal digits follow.
pub const TEMP_PREFIX: &str = ".lockstep-tmp-";

const DIGITS: usize = 16;

/// Whether `name` has exactly the form of a temporary.
pub fn is_temp_name(name: &Name) -> bool {
    name.as_bytes()
        .strip_prefix(TEMP_PREFIX.as_bytes())
        .is_some_and(|d| d.len() == DIGITS && d.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// Gives names for temporaries that nobody else gives: eight random digits, then a counter.
#[derive(Debug)]
pub struct TempNames {
    run: u32,
    next: AtomicU32,
}

impl TempNames {
    /// A giver with a random part of its own.
    pub fn new() -> Self {
        // Without random numbers the process and the moment still tell two runs apart; O_EXCL does the rest.
        let run = getrandom::u32().unwrap_or_else(|_| std::process::id().rotate_left(16));
        Self { run, next: AtomicU32::new(0) }
    }

    /// The next name.
    pub fn next_name(&self) -> Name {
        let name = format!("{TEMP_PREFIX}{:08x}{:08x}", self.run, self.next.fetch_add(1, Ordering::Relaxed));
        Name::new(name.into_bytes()).expect("a prefix and hexadecimal digits are a name")
    }

    /// Whether this giver gave `name`.
    pub fn is_ours(&self, name: &Name) -> bool {
        is_temp_name(name) && name.as_bytes()[TEMP_PREFIX.len()..].starts_with(format!("{:08x}", self.run).as_bytes())
    }
}

impl Default for TempNames {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_a_temporary() {
        let name = |s: &str| Name::new(s.as_bytes()).unwrap();
        let names = TempNames::new();
        let (a, b) = (names.next_name(), names.next_name());
        assert!(is_temp_name(&a) && names.is_ours(&a) && a != b);
        assert!(!TempNames { run: !names.run, next: AtomicU32::new(0) }.is_ours(&a));
        assert!(is_temp_name(&name(".lockstep-tmp-0123456789abcdef")));
        for not in [".lockstep-tmp-", ".lockstep-tmp-0123456789abcdeF", ".lockstep-tmp-0123456789abcdef0", "x"] {
            assert!(!is_temp_name(&name(not)), "{not}");
        }
    }
}
