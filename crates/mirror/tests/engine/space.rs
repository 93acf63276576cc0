//! A full disk: the old file stays, nothing is left over, and what was deleted makes room for another try.

use std::fs;
use std::process::Command;

use crate::scene::Scene;

/// Mounts a small file system at the destination; `None` where this user may not.
fn small(scene: &Scene) -> Option<Mounted> {
    let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "lockstep-test"]).arg(scene.d("")).status();
    if !done.is_ok_and(|status| status.success()) {
        eprintln!("not run: mounting a tmpfs needs root");
        return None;
    }
    Some(Mounted(scene.d("")))
}

struct Mounted(std::path::PathBuf);
impl Drop for Mounted {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().unwrap();
    }
}

fn names(scene: &Scene) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(scene.d("")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn on_a_full_disk_the_old_file_stays_and_nothing_is_left_over() {
    let scene = Scene::new();
    let Some(_mounted) = small(&scene) else { return };
    fs::write(scene.d("a"), vec![1; 300_000]).unwrap();
    fs::write(scene.s("a"), vec![2; 900_000]).unwrap();
    fs::write(scene.s("small"), "fits").unwrap();
    let outcome = scene.run();
    let [(path, problem)] = &outcome.problems[..] else { panic!("{:?}", outcome.problems) };
    assert_eq!(path.to_string(), "a");
    assert!(problem.to_string().contains("free some space"), "{problem}");
    assert_eq!(fs::read(scene.d("a")).unwrap(), vec![1; 300_000]);
    assert_eq!(names(&scene), ["a", "small"]);
}

#[test]
fn what_had_no_room_is_tried_again_once_something_was_deleted() {
    let scene = Scene::new();
    let Some(_mounted) = small(&scene) else { return };
    fs::write(scene.d("junk"), vec![1; 700_000]).unwrap();
    fs::write(scene.s("a"), vec![2; 600_000]).unwrap();
    let outcome = scene.run();
    assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
    assert_eq!(names(&scene), ["a"]);
    scene.assert_equal();
}
