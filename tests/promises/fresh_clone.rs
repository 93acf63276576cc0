//! A fresh machine: what is promised to need only git, make, a C compiler and Rust needs no more.

use std::env;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{scratch, workspace};

/// What stands in the PATH of the fresh machine. The compiler calls the linker and the assembler, and a C library is
/// packed with `ar`: they come with `cc` on every system.
const PROGRAMS: [&str; 8] = ["git", "make", "cc", "ld", "as", "ar", "cargo", "rustc"];

fn in_path(name: &str) -> PathBuf {
    let path = env::var_os("PATH").expect("there is a PATH");
    let found = env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not in the PATH"))
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
}

/// A clone of what is committed, as another machine would get it.
fn clone_into(dir: &Path) -> PathBuf {
    let clone = dir.join("clone");
    run(Command::new("git").args(["clone", "--quiet", "--no-hardlinks"]).arg(workspace()).arg(&clone));
    clone
}

#[test]
#[ignore = "builds everything once more, minutes: make test runs it where CI=true, make soak always"]
fn fresh_clone_builds_with_only_git_make_cc_and_cargo() {
    let dir = scratch();
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    for program in PROGRAMS {
        symlink(in_path(program), bin.join(program)).unwrap();
    }
    let clone = clone_into(&dir);
    let make = || {
        let mut make = Command::new(bin.join("make"));
        make.current_dir(&clone).env("PATH", &bin).env_remove("CARGO_TARGET_DIR").env_remove("MAKEFLAGS");
        for (variable, _) in env::vars_os() {
            // What cargo told this test about itself is not known on a fresh machine.
            let name = variable.to_string_lossy();
            let told = name.starts_with("CARGO_") && name != "CARGO_HOME" && !name.starts_with("CARGO_REGISTR");
            if told
                || name.starts_with("PKG_CONFIG")
                || ["CARGO", "RUSTC", "RUSTFLAGS", "CC", "CFLAGS"].contains(&&*name)
            {
                make.env_remove(&variable);
            }
        }
        make
    };
    run(make().arg("build"));
    let version = Command::new(clone.join("target/release/lockstep")).arg("--version").output().unwrap();
    assert!(version.status.success());
}

#[test]
fn an_old_rust_is_refused_with_a_clear_word() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = scratch();
    let (fake, sh) = (dir.join("rustc"), in_path("sh"));
    std::fs::write(&fake, "#!/bin/sh\necho 'rustc 1.70.0 (90c541806 2023-05-31)'\n").unwrap();
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink(in_path("cc"), dir.join("cc")).unwrap();
    let check = |path: &Path| {
        let script = workspace().join("make/rust.sh");
        Command::new(&sh).arg(script).current_dir(workspace()).env("PATH", path).output().unwrap()
    };
    let refused = check(&dir);
    assert_eq!(refused.status.code(), Some(1));
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(words.contains("Rust 1.70.0 is too old") && words.contains("rustup update"), "{words}");
    std::fs::remove_file(&fake).unwrap();
    let words = check(&dir).stderr;
    assert!(String::from_utf8_lossy(&words).contains("Rust is missing"));
}
