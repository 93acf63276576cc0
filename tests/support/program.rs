//! The built program, and where things are in the repository.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the repository.
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests/ stands in the repository").to_owned()
}

/// The release build of `lockstep`: `LOCKSTEP_BIN`, else in the target directory this test was built in.
///
/// # Panics
/// When there is none.
pub fn binary() -> PathBuf {
    let binary = match env::var_os("LOCKSTEP_BIN") {
        Some(path) => workspace().join(path),
        None => {
            let test = env::current_exe().expect("a process knows its program");
            let target = test.ancestors().nth(3).expect("tests lie in TARGET/PROFILE/deps").to_owned();
            target.join("release/lockstep")
        }
    };
    assert!(binary.is_file(), "{} is missing: make build", binary.display());
    binary
}

/// The program, for commands that keep no state: its logs go below the target directory, also for root, and nothing of
/// the machine's own state is read or written. A hub or a client needs [`lockstep_at`], with a home of its own.
pub fn lockstep() -> Command {
    let release = binary();
    let target = release.ancestors().nth(2).expect("the program lies in TARGET/release");
    lockstep_at(target.join("test-home"))
}

/// The program, as on a machine of its own whose state is below `home`. Logs are in `home/log/COMMAND.log`, data in
/// `home/hub`, `home/agent` and `home/mirror`, unless flags say otherwise. Commands that ask a running hub or client (`put`, `status` ...)
/// are told which with `--data`.
///
/// # Panics
/// When the program was not built.
pub fn lockstep_at(home: impl AsRef<Path>) -> Command {
    let home = home.as_ref();
    let mut command = Command::new(binary());
    for (variable, _) in env::vars_os() {
        let ours = variable.to_string_lossy().starts_with("LOCKSTEP_");
        if ours && variable != "LOCKSTEP_LOG" {
            command.env_remove(variable);
        }
    }
    for name in ["monitor", "mirror", "hub", "join", "leave", "demo"] {
        command.env(format!("LOCKSTEP_{}_LOG", name.to_uppercase()), home.join("log").join(format!("{name}.log")));
    }
    command.env("LOCKSTEP_HUB_DATA", home.join("hub")).env("LOCKSTEP_JOIN_DATA", home.join("agent"));
    command.env("LOCKSTEP_MIRROR_DATA", home.join("mirror"));
    // Hubs of tests that run at the same time must not meet on one port.
    command.env("LOCKSTEP_HUB_HTTP", "none");
    command.env("HOME", home).env("XDG_STATE_HOME", home);
    command
}
