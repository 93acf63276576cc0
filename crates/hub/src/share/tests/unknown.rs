//! What is there and cannot be read: told as unknown, never left out, never taken for removed.

use super::{Scene, fs};
use mirror::dirty::{All, Dirty};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tree::{Entry, RelPath};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// From here on modes count for this thread, also if it is root's.
fn obey_modes() {
    let mut sets = capabilities(None).unwrap();
    sets.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
    set_capabilities(None, sets).unwrap();
}

/// A share with `d/e/f` and `g`.
fn scene() -> Scene {
    obey_modes();
    let scene = Scene::new();
    fs::create_dir_all(scene.share().join("d/e")).unwrap();
    fs::write(scene.share().join("d/e/f"), "deep").unwrap();
    fs::write(scene.share().join("g"), "flat").unwrap();
    scene
}

impl Scene {
    fn first_scan(&mut self) {
        self.look();
        self.scanner.set_complete().unwrap();
    }

    /// What the board says, but for the root.
    fn told(&self) -> BTreeMap<String, Option<Entry>> {
        let known = |entry| Some(entry).filter(|entry| *entry != Entry::Unknown);
        let all = self.on_board().into_iter().filter(|(name, _)| !name.is_empty());
        all.map(|(name, entry)| (String::from_utf8(name).unwrap(), known(entry))).collect()
    }

    /// The names that are told as unknown.
    fn unknown(&self) -> Vec<String> {
        self.told().into_iter().filter(|(_, entry)| entry.is_none()).map(|(name, _)| name).collect()
    }
}

#[test]
fn m2_3_a_directory_that_cannot_be_listed_is_told_as_unknown_until_it_can() {
    // Neither opened, nor listed though it can be gone through.
    for mode in [0o000, 0o311] {
        let mut scene = scene();
        let shut = scene.share().join("d/e");
        set_mode(&shut, mode);
        scene.first_scan();
        assert!(scene.scanner.problems().keys().any(|path| path.as_bytes() == b"d/e"), "and it is a problem");
        let names: Vec<String> = scene.told().into_keys().collect();
        assert_eq!(names, ["d", "d/e", "g"]);
        assert_eq!(scene.told()["d/e"], None);
        // Nothing below is told of either, whatever an event names there, and nothing is said twice.
        let head = scene.board.head();
        scene.event("d/e", "f", false);
        let mut dirty = Dirty::new();
        dirty.insert_all(&RelPath::new(*b"d/e").unwrap(), All { recursive: true, content: false });
        scene.scanner.look(&dirty, |_, _| false, false).unwrap();
        scene.look();
        assert_eq!(scene.board.head(), head);
        set_mode(&shut, 0o755);
        scene.scanner.look(&dirty, |_, _| false, false).unwrap();
        scene.look();
        scene.assert_same();
        assert!(scene.scanner.problems().is_empty(), "{:?}", scene.scanner.problems());
    }
}

#[test]
fn m2_3_a_file_that_cannot_be_read_is_told_as_unknown_until_it_can() {
    let mut scene = scene();
    set_mode(&scene.share().join("g"), 0o000);
    scene.first_scan();
    assert_eq!(scene.unknown(), ["g"]);
    set_mode(&scene.share().join("g"), 0o644);
    scene.look();
    scene.assert_same();
}

#[test]
fn what_the_index_knows_stays_as_it_is_known_when_it_cannot_be_read_any_more() {
    let mut scene = scene();
    scene.first_scan();
    let before = scene.told();
    set_mode(&scene.share().join("d/e"), 0o000);
    fs::write(scene.share().join("g"), "other").unwrap();
    set_mode(&scene.share().join("g"), 0o000);
    scene.look();
    let mut scene = scene.restarted();
    scene.look();
    let after = scene.told();
    assert_eq!((&before["d/e/f"], &before["g"]), (&after["d/e/f"], &after["g"]));
    set_mode(&scene.share().join("d/e"), 0o755);
    set_mode(&scene.share().join("g"), 0o644);
    scene.look();
    scene.assert_same();
}

#[test]
fn a_part_that_is_known_from_a_first_scan_that_never_ended_is_not_told_for_the_whole() {
    let mut scene = scene();
    // Not set complete: the hub was killed, or lost its history.
    scene.look();
    set_mode(&scene.share().join("d/e"), 0o000);
    scene.first_scan();
    assert_eq!(scene.told().into_keys().collect::<Vec<_>>(), ["d", "d/e", "g"]);
    assert_eq!(scene.told()["d/e"], None);
    set_mode(&scene.share().join("d/e"), 0o755);
    scene.look();
    scene.assert_same();
}

#[test]
fn what_is_written_while_the_first_scan_passes_is_told_as_unknown_and_not_left_out() {
    let mut scene = scene();
    scene.scanner.look(&Dirty::everything(), |path, _| path.as_bytes() == b"g", false).unwrap();
    assert_eq!(scene.unknown(), Vec::<String>::new(), "it may be still before the scan ends");
    scene.scanner.set_complete().unwrap();
    assert_eq!(scene.unknown(), ["g"]);
    scene.event("", "g", false);
    scene.assert_same();
    // Later, what is new and not finished is nobody's business.
    fs::write(scene.share().join("new"), "half").unwrap();
    scene.scanner.look(&Dirty::everything(), |path, _| path.as_bytes() == b"new", false).unwrap();
    assert_eq!(scene.unknown(), Vec::<String>::new());
}

#[test]
fn what_was_unknown_and_goes_is_gone() {
    let mut scene = scene();
    set_mode(&scene.share().join("d/e"), 0o000);
    scene.first_scan();
    set_mode(&scene.share().join("d/e"), 0o755);
    fs::remove_dir_all(scene.share().join("d")).unwrap();
    scene.event("", "d", true);
    scene.assert_same();
}
