//! What a disk holds in one directory: names, sorted, each with its metadata.

use crate::at::{Dir, ListBuffer, Stat};
use crate::fsx::Error;
use crate::{Kind, Name};

/// One entry of a [`Listing`].
#[derive(Clone, Debug)]
pub enum Found {
    /// What the disk says about it.
    Known(Stat),
    /// It has a name here, but nothing more could be learnt: it is neither equal to anything nor gone.
    Unreadable(Error),
}

/// A directory's entries, sorted by name.
///
/// An entry that vanished between the listing and its `stat` is left out: it is gone.
#[derive(Clone, Debug, Default)]
pub struct Listing(pub Vec<(Name, Found)>);

impl Listing {
    /// Lists `dir`. Cost: one pass of `getdents` and one `statx` an entry.
    ///
    /// # Errors
    /// Only when the directory itself cannot be listed to its end.
    pub fn read(dir: &Dir, buffer: &mut ListBuffer) -> Result<Self, Error> {
        let names = dir.list(buffer)?;
        let mut entries = Vec::with_capacity(names.len());
        for entry in names {
            match dir.look(&entry.name) {
                Ok(Some(stat)) => entries.push((entry.name, Found::Known(stat))),
                Ok(None) => {}
                Err(e) => entries.push((entry.name, Found::Unreadable(e))),
            }
        }
        Ok(Self(entries))
    }
}

impl Found {
    /// Its metadata, if known.
    pub fn stat(&self) -> Option<&Stat> {
        match self {
            Found::Known(stat) => Some(stat),
            Found::Unreadable(_) => None,
        }
    }

    /// Its kind, if known.
    pub fn kind(&self) -> Option<Kind> {
        self.stat().map(|stat| stat.kind)
    }
}
