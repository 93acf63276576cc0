//! Real input: the sources of the crates in our own lock file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::program::workspace;
use crate::size::{Size, size};

/// Fills `dst` with the sources of our own dependencies, a directory for each crate, and returns how many files that
/// were: all crates of the lock file under soak, else whole crates until there are at least `files_min` files.
///
/// # Panics
/// When cargo cannot find the sources, or the copy fails.
pub fn vendor_tree(dst: impl AsRef<Path>, files_min: usize) -> usize {
    let dst = dst.as_ref();
    fs::create_dir_all(dst).expect("the directory can be made");
    if size() == Size::Soak {
        let mut vendor = cargo();
        let status = vendor.args(["vendor", "--quiet", "--locked", "--versioned-dirs"]).arg(dst).output();
        let status = status.expect("cargo can be started");
        assert!(status.status.success(), "cargo vendor: {}", String::from_utf8_lossy(&status.stderr));
        return count(dst);
    }
    let mut files = 0;
    for source in sources() {
        if files >= files_min {
            break;
        }
        let name = source.file_name().expect("a crate's directory has a name");
        files += copy(&source, &dst.join(name));
    }
    assert!(files >= files_min, "all crates together have {files} files, not {files_min}");
    files
}

/// The source directories of the crates this machine builds, sorted by name.
fn sources() -> Vec<PathBuf> {
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc can be started");
    let rustc = String::from_utf8(rustc.stdout).expect("rustc speaks UTF-8");
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version=1", "--locked", "--filter-platform", host]);
    let metadata = metadata.output().expect("cargo can be started");
    assert!(metadata.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    let manifest = |package: &Value| Path::new(package["manifest_path"].as_str()?).parent().map(Path::to_owned);
    let foreign = packages.iter().filter(|package| !package["source"].is_null());
    let mut sources: Vec<PathBuf> = foreign.filter_map(manifest).collect();
    sources.sort();
    sources
}

fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace());
    cargo
}

/// Copies a tree with its modes, times and links; returns the number of files and links.
fn copy(from: &Path, to: &Path) -> usize {
    fs::create_dir(to).expect("the directory can be made");
    let mut files = 0;
    for entry in fs::read_dir(from).expect("the sources can be listed") {
        let entry = entry.expect("the sources can be listed");
        let (kind, target) = (entry.file_type().expect("an entry has a kind"), to.join(entry.file_name()));
        if kind.is_dir() {
            files += copy(&entry.path(), &target);
        } else if kind.is_symlink() {
            let link = fs::read_link(entry.path()).expect("a link can be read");
            std::os::unix::fs::symlink(link, target).expect("a link can be made");
            files += 1;
        } else {
            fs::copy(entry.path(), &target).expect("a file can be copied");
            let time = entry.metadata().and_then(|meta| meta.modified()).expect("a file has a time");
            crate::tree::set_mtime(&target, time);
            files += 1;
        }
    }
    files
}

fn count(dir: &Path) -> usize {
    let listing = fs::read_dir(dir).expect("the directory can be listed");
    listing
        .map(|entry| entry.expect("the directory can be listed"))
        .map(|entry| if entry.path().is_dir() && !entry.path().is_symlink() { count(&entry.path()) } else { 1 })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_enough_real_files() {
        let dir = crate::scratch();
        let files = vendor_tree(&*dir, 100);
        assert!(files >= 100 && files == count(&dir), "{files}");
    }
}
