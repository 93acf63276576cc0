//! What became of a command that was run, on a client (`--after`) or on the hub's machine (`--on`).

use crate::limits::{RAN_END_BYTES_MAX, RAN_SAID_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// When it ended, milliseconds since the Unix epoch, by the clock of the machine it ran on.
    pub at_ms: i64,
    /// How, in one word: exited, signaled, timed-out, stopped, not-started.
    pub end: String,
    /// The exit code, if it has one.
    pub code: Option<i32>,
    /// How long it took, milliseconds.
    pub ms: u64,
    /// How much it was told: of `--after`, changed paths; of `--on`, events.
    pub told: u64,
    /// The last line of its standard error, or why it could not be started.
    pub said: Option<String>,
}

impl Ran {
    /// A run that ended at `at_ms`; what is too long is cut.
    pub fn new(at_ms: i64, end: &str, code: Option<i32>, took: Duration, told: u64, said: Option<&str>) -> Self {
        Self {
            at_ms,
            end: cut(end, RAN_END_BYTES_MAX),
            code,
            ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            told,
            said: said.map(|said| cut(said, RAN_SAID_BYTES_MAX)),
        }
    }

    /// Whether it did what it should.
    pub fn is_good(&self) -> bool {
        self.code == Some(0)
    }
}

fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_said_is_cut_between_characters_and_is_one_line() {
        let said = format!("a\n{}", "ü".repeat(RAN_SAID_BYTES_MAX));
        let ran = Ran::new(1, "exited", Some(0), Duration::from_millis(5), 1, Some(&said));
        let kept = ran.said.clone().unwrap();
        assert!(kept.len() <= RAN_SAID_BYTES_MAX && kept.starts_with("aü") && ran.is_good(), "{kept}");
    }
}
