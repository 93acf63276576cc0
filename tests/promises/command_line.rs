//! The frame of the command line: version, help, exit codes.

use support::lockstep;

#[test]
fn the_version_is_printed_on_stdout() {
    let output = lockstep().arg("--version").output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("lockstep {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_does_not_exist_exits_with_2_and_says_so_on_stderr() {
    for args in [&["frobnicate"][..], &["--frobnicate"], &[]] {
        let output = lockstep().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}
