//! Other mirrors that write to where the destination lies, or to something in it: of two live ones, one would delete for ever what
//! the other copies.
//!
//! Only live ones tell of themselves, so a single run is no hindrance, whatever its source is. They are known to each other within one
//! network namespace.

use tree::path::escape;
use tree::premises::{self, Neighbours, Writes};

use crate::mirror::{Mirror, MirrorError};

impl Mirror {
    /// A note on those there are, for a person.
    pub(crate) fn note_neighbours(&self) -> Option<String> {
        let dest = self.engine.dest();
        let found = premises::neighbours(dest).inspect_err(|e| tracing::debug!("{e}")).ok()?;
        let how = match found {
            _ if self.engine.options.dry_run => return None,
            Neighbours { around: Some(_), .. } => "is in",
            Neighbours { within: true, .. } if !premises::are_left(dest, self.choice.left_alone()) => "has in it",
            Neighbours { .. } => return None,
        };
        Some(format!(
            "{} {how} the destination of another live mirror; what one of the two copies the other deletes, unless it is excluded there or \
             both sources have it",
            escape(self.dest_path.as_os_str().as_encoded_bytes())
        ))
    }

    /// Tells others that this one writes to its destination from now on, and refuses one within or around that of another mirror, where
    /// one of the two deletes whatever it does not know, unless that one leaves the other's alone by its very path or name.
    ///
    /// RACE: Of two that start at the same time both may be refused.
    pub(super) fn settle_in(&mut self) -> Result<(), MirrorError> {
        let writes = self.claim();
        let why = match (premises::neighbours(self.engine.dest())?, writes) {
            (Neighbours { around: Some(Writes::All), .. }, _) => {
                "is in the destination of another live mirror, which would delete what this one copies"
            }
            (Neighbours { within: true, .. }, Writes::All)
                if !premises::are_left(self.engine.dest(), self.choice.left_alone()) =>
            {
                "has in it the destination of another live mirror, and what that one copies would be deleted"
            }
            _ => return Ok(()),
        };
        self.claim = None;
        Err(MirrorError::Nested { path: self.dest_path.clone(), why })
    }

    /// Tells others that this one writes to its destination, which may be another directory by now.
    pub(super) fn claim(&mut self) -> Writes {
        let deletes = self.engine.options.policy.delete && !self.engine.options.dry_run;
        let writes = if deletes { Writes::All } else { Writes::Part };
        self.claim = None;
        // Without it others are not warned, which is no reason to do nothing.
        let claim = premises::claim_destination(self.engine.dest(), writes, self.choice.left_alone());
        self.claim = claim.inspect_err(|e| tracing::debug!("{e}")).ok();
        writes
    }
}
