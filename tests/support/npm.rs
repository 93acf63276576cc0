//! Our package for JavaScript, as it is installed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use crate::program::workspace;
use crate::tool::{node, node_packages};

/// Installs `lockstep-client` into `dir`, where scripts in it find the package: what it publishes and nothing else, beside the
/// library it needs.
///
/// # Panics
/// When Node or the library is missing, or the package does not have what it names.
#[track_caller]
pub fn install_client(dir: &Path) {
    drop(node());
    let source = workspace().join("javascript");
    let manifest = fs::read_to_string(source.join("package.json")).expect("the package has a manifest");
    let manifest: Value = serde_json::from_str(&manifest).expect("the manifest is JSON");
    let place = dir.join("node_modules/lockstep-client");
    fs::create_dir_all(&place).expect("the directory is ours");
    let files = manifest["files"].as_array().expect("it names what it publishes");
    for name in files.iter().filter_map(Value::as_str).chain(["package.json"]) {
        copy(&source.join(name), &place.join(name));
    }
    symlink(node_packages().join("socket.io-client"), dir.join("node_modules/socket.io-client"))
        .expect("the directory is ours");
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        return;
    }
    fs::create_dir(to).expect("the directory is ours");
    for entry in fs::read_dir(from).expect("the package can be read") {
        let entry = entry.expect("the package can be read");
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}
