//! The path system calls: the only module that makes them.
//!
//! Every call is (held directory descriptor, one checked component) and follows no symlink, so whoever swaps a
//! directory for a link in the middle of a run can send nothing outside. Metadata of files and directories is set
//! through descriptors. Every error carries the path.
//!
//! It decides nothing: what to create, replace or delete is its callers' business.

mod attributes;
mod dir;
mod grip;
mod identity;
mod meta;
mod mounts;
mod node;
mod temp;

pub use attributes::{ACL_ACCESS, ACL_DEFAULT, Attributes, Takes};
pub use dir::{Dir, DirEntry, ListBuffer};
pub use grip::Grip;
pub use identity::{FLEETING, Identity};
pub use meta::{Stat, is_beyond, let_changes_finish, set_mode, set_times, stat_of};
pub use node::Node;
pub use temp::{TEMP_PREFIX, TempNames, is_temp_name};
