//! The flags that say what of an entry is kept beside content, mode, time and link targets, and what is told of what
//! could not be kept.

use std::collections::BTreeSet;

use mirror::keep::UnkeptByWhat;
use mirror::{Keep, Unkept, What};
use serde_json::{Value, json};
use tree::path::escape;

/// What to keep.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "What is kept")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct KeepArgs {
    /// Keeps everything the flags below name
    #[arg(short = 'a', long)]
    archive: bool,

    /// Keeps owners, and with them set-user-id bits
    #[arg(short = 'o', long)]
    owner: bool,

    /// Keeps groups, and with --owner set-group-id bits
    #[arg(short = 'g', long)]
    group: bool,

    /// Keeps extended attributes: the user's, and for root all others too
    #[arg(short = 'X', long)]
    xattrs: bool,

    /// Keeps POSIX ACLs
    #[arg(short = 'A', long)]
    acls: bool,

    /// Keeps hard links: names that are one file stay one file
    #[arg(short = 'H', long)]
    hard_links: bool,

    /// Keeps the holes of sparse files
    #[arg(short = 'S', long)]
    sparse: bool,

    /// Keeps fifos and sockets
    #[arg(long)]
    specials: bool,

    /// Keeps devices, which only root can make
    #[arg(long)]
    devices: bool,
}

impl KeepArgs {
    /// What the flags name.
    pub(crate) fn keep(&self) -> Keep {
        if self.archive {
            return Keep::ARCHIVE;
        }
        let named = |what: &What| match what {
            What::Owner => self.owner,
            What::Group => self.group,
            What::Xattrs => self.xattrs,
            What::Acls => self.acls,
            What::HardLinks => self.hard_links,
            What::Sparse => self.sparse,
            What::Specials => self.specials,
            What::Devices => self.devices,
        };
        What::ALL.into_iter().filter(named).collect()
    }
}

/// What was said already: each kind once.
#[derive(Debug, Default)]
pub(crate) struct Said(BTreeSet<What>);

impl Said {
    /// What of `unkept` was not said before, as lines.
    pub(crate) fn lines(&mut self, unkept: &UnkeptByWhat) -> Vec<String> {
        unkept.values().filter(|unkept| self.0.insert(unkept.what)).map(ToString::to_string).collect()
    }
}

/// What could not be kept, for machines.
pub(crate) fn record(unkept: &UnkeptByWhat) -> Value {
    let one = |unkept: &Unkept| {
        json!({
            "what": unkept.what.name(), "entries": unkept.entries, "first": escape(unkept.first.as_bytes()),
            "reason": unkept.reason.to_string(),
        })
    };
    unkept.values().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_is_called_as_what_it_keeps() {
        use clap::{Args, FromArgMatches};
        for what in What::ALL {
            let command = KeepArgs::augment_args(clap::Command::new("x"));
            let matches = command.get_matches_from(["x".to_owned(), format!("--{}", what.name())]);
            assert_eq!(KeepArgs::from_arg_matches(&matches).unwrap().keep(), [what].into_iter().collect());
        }
        let archive = KeepArgs { archive: true, ..KeepArgs::default() };
        assert!(What::ALL.into_iter().all(|what| archive.keep().has(what)));
        assert!(KeepArgs::default().keep().is_nothing());
    }
}
