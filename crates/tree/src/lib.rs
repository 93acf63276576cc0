//! What a directory is: paths, entries, listings, content ids, and the path system calls.
//!
//! It promises that a [`RelPath`] or a [`Name`] can never leave the directory it is used in, and that every
//! system call on a path goes through [`at`]: held directory descriptors, one component at a time, no symlink
//! followed.
//!
//! It never talks to a network, never decides what to copy or delete, and knows no other crate of the house.

pub mod at;
pub mod chunk;
pub mod entry;
pub mod filter;
pub mod fsx;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod hash;
pub mod listing;
pub mod path;
pub mod premises;
pub mod private;
pub mod root;

pub use at::{Dir, Stat};
pub use entry::{ContentId, Entry, EntryError, Kind};
pub use hash::hash_file;
pub use listing::{Found, Listing};
pub use path::{Name, PathError, RelPath};
pub use root::RootHash;
