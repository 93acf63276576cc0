//! Programs to be measured beside: installed ones, those of `make peers`, and the C programs of `bench/peers`.

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::workspace;

/// Where a program is: on the path, where Debian puts those that are not for people, or in target/peers.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/sbin", "/usr/lib/sysstat"].map(PathBuf::from));
    places.extend(["bin", "sbin", "lib/sysstat"].map(|part| workspace().join("target/peers/usr").join(part)));
    // What `make test` installs for Python, and what cargo installs into target/peers.
    places.extend(["venv/bin", "peers/bin"].map(|part| workspace().join("target").join(part)));
    places.into_iter().map(|place| place.join(name)).find(|program| program.is_file())
}

/// A C program of `bench/peers`, built in `dir`.
pub(crate) fn built(name: &str, dir: &Path) -> Result<PathBuf> {
    let (source, program) = (workspace().join("bench/peers").join(name).with_extension("c"), dir.join(name));
    let mut cc = Command::new("cc");
    let status = cc.args(["-O2", "-pthread", "-o"]).arg(&program).arg(&source).status().context("cannot run cc")?;
    ensure!(status.success(), "cc {}: {status}", source.display());
    Ok(program)
}
