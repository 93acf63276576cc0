//! What an administrator does with a hub over the years: back it up and put it back, look before a start, reload, stop,
//! let machines leave, move between releases.

mod backup;
mod check;
mod first_hour;
mod format;
mod leave;
mod limits;
mod on;
mod reload;
mod service;
mod stop;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every file below a directory with what is in it.
fn all_of(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => open.push(entry.path()),
                kind if kind.is_file() => drop(found.insert(entry.path(), fs::read(entry.path()).unwrap())),
                _ => {}
            }
        }
    }
    found
}
