//! What cannot be kept is said once for each kind, and fails nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use rustix::fs::FileType;
use support::archive::{self, own, set_xattr};
use support::tool::root;
use support::{Tree, binary, scratch};

use super::{mirror, run};

/// Nobody of any system.
const NOBODY: &str = "65534";

fn as_nobody(command: &Command) -> Command {
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    nobody.arg(command.get_program()).args(command.get_args());
    nobody
}

/// A source of root's that all may read, and a directory of nobody's for the copy.
fn scene(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    Tree::at(dir.join("src")).file("a", "1").file("d/b", "2").file("d/program", "3").link("l", "a");
    fs::set_permissions(dir.join("src/d/program"), fs::Permissions::from_mode(0o4755)).unwrap();
    set_xattr(&dir.join("src/a"), "user.note", b"kept").unwrap();
    set_xattr(&dir.join("src/a"), "trusted.note", b"not seen by all").unwrap();
    archive::node(&dir.join("src/null"), FileType::CharacterDevice, rustix::fs::makedev(1, 3)).unwrap();
    fs::create_dir(dir.join("home")).unwrap();
    own(&dir.join("home"), 65_534, 65_534).unwrap();
}

#[test]
fn who_may_not_give_files_away_is_told_once_and_all_else_is_kept() {
    if !root() {
        return;
    }
    let dir = scratch();
    scene(&dir);
    // The binary may lie where nobody else may go.
    let program = dir.join("lockstep");
    fs::copy(binary(), &program).unwrap();
    let (source, dest, log) = (dir.join("src"), dir.join("home/dst"), dir.join("home/log"));
    let go = |json: bool| {
        let mut command = Command::new(&program);
        command.arg("mirror").arg(&source).arg(&dest).arg("-a").arg("--log").arg(&log);
        command.args(json.then_some("--json"));
        run(&mut as_nobody(&command))
    };
    let (code, stdout, stderr) = go(false);
    assert_eq!(code, 0, "{stdout}{stderr}");
    let said = |text: &str, what: &str| text.lines().filter(|line| line.contains(what)).count();
    // The root, a, d, b, program and l.
    let owner = "cannot keep the owner of 6 entries, . the first: only root may do that";
    assert_eq!(said(&stderr, owner), 1, "{stderr}");
    assert_eq!(
        said(&stderr, "cannot keep the device of 1 entry, null the first: only root may do that"),
        1,
        "{stderr}"
    );
    assert_eq!(said(&stderr, "cannot keep"), 3, "owner, group and device: {stderr}");
    assert_eq!(said(&fs::read_to_string(&log).unwrap(), "unkept cannot keep the owner of 6 entries"), 1);
    let mut value = [0; 10];
    assert_eq!(rustix::fs::getxattr(dest.join("a"), "user.note", &mut value), Ok(4));
    let program = dest.join("d/program").metadata().unwrap();
    assert_eq!((program.uid(), program.mode() & 0o7777), (65_534, 0o755), "no rights of the wrong owner");
    assert!(dest.join("null").symlink_metadata().is_err());

    // Nothing is done about it again, and machines are told as well.
    let before = super::touched(&dest);
    let (code, stdout, _) = go(true);
    let pass: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((code, &pass["updated"], &pass["failed"]), (0, &0.into(), &0.into()), "{stdout}");
    let owner = &pass["unkept"][0];
    assert_eq!(
        (&owner["what"], &owner["entries"], &owner["first"]),
        (&"owner".into(), &6.into(), &"".into()),
        "{pass}"
    );
    assert_eq!(before, super::touched(&dest));
}

#[test]
fn a_file_system_without_attributes_is_told_once_and_all_else_is_kept() {
    if !root() {
        return;
    }
    let dir = scratch();
    scene(&dir);
    fs::create_dir(dir.join("ram")).unwrap();
    // In a view of its own: what is mounted is gone with the shell. ramfs keeps no attributes of users.
    let script = r#"mount -t ramfs none "$1/ram" && "$2" mirror "$1/src" "$1/ram/dst" -a --log none &&
        ls -l "$1/ram/dst" && "$2" mirror "$1/src" "$1/ram/dst" -a --log none"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&*dir).arg(binary());
    let (code, stdout, stderr) = run(&mut command);
    assert_eq!(code, 0, "{stdout}{stderr}");
    let told =
        stderr.lines().filter(|line| line.contains("cannot keep extended attributes of 1 entry, a the first")).count();
    assert_eq!((told, stderr.matches("cannot keep").count()), (2, 2), "once a run: {stderr}");
    assert!(stderr.contains("Operation not supported") && stderr.contains("leave out --xattrs"), "{stderr}");
    assert!(stdout.lines().last().unwrap().contains("copied 0, updated 0,"), "{stdout}");
}

#[test]
fn an_attribute_that_has_no_room_fails_neither_its_file_nor_the_others() {
    let dir = scratch();
    let shm = support::scratch::scratch_in("/dev/shm");
    Tree::at(shm.join("src")).file("a", "1").file("b", "2");
    // More than a block of the other file system can hold, if that is ext4.
    if set_xattr(&shm.join("src/a"), "user.large", &vec![b'x'; 60_000]).is_err() {
        return;
    }
    set_xattr(&shm.join("src/b"), "user.note", b"1").unwrap();
    let (code, stdout, stderr) = run(&mut mirror(&shm.join("src"), &dir.join("dst"), &["--xattrs"]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_eq!(fs::read(dir.join("dst/a")).unwrap(), b"1");
    assert_eq!(rustix::fs::getxattr(dir.join("dst/b"), "user.note", &mut [0; 10]), Ok(1));
    let kept = rustix::fs::getxattr(dir.join("dst/a"), "user.large", &mut vec![0; 60_000]).is_ok();
    assert_eq!(!kept, stderr.contains("cannot keep extended attributes of 1 entry, a the first"), "{stderr}");
}
