//! `lockstep status --mirror`.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::time::Instant;

use support::{binary, on_small_disk, root, until};

use super::*;

/// The user whom nothing belongs to.
const NOBODY: u32 = 65_534;

#[test]
fn where_none_runs_that_is_said() {
    let scene = Scene::new();
    let nobody = |flags: &[&str]| {
        let (code, stdout, stderr) = scene.status(flags);
        assert!(code == 3 && stdout.is_empty() && stderr.contains("no mirror runs"), "{code} {stdout}{stderr}");
    };
    nobody(&[]);
    nobody(&["--json"]);
    // One that was killed leaves its socket, and is not there all the same.
    let mut running = Proc::start(&mut scene.mirror(&[]));
    running.wait_for_line("watching", PATIENCE);
    assert_eq!(scene.states().len(), 1);
    running.kill9();
    assert_eq!(fs::read_dir(scene.path("home/mirror")).unwrap().count(), 1);
    nobody(&[]);
    // The next one clears it away, and takes its own along.
    let running = Proc::start(&mut scene.mirror(&[]));
    running.wait_for_line("watching", PATIENCE);
    assert_eq!(scene.states().len(), 1);
    assert_eq!(terminate(running), 0);
    assert_eq!(fs::read_dir(scene.path("home/mirror")).unwrap().count(), 0);
}

#[test]
fn each_state_is_told_as_it_is() {
    let scene = Scene::new();
    scene.write("src/large", &"x".repeat(40_000));
    let running = Proc::start(&mut scene.mirror(&["--bwlimit", "20K"]));
    let state = || scene.states().first().map(|pair| pair["state"].as_str().unwrap().to_owned()).unwrap_or_default();
    until(PATIENCE, "the first pass", || state() == "first-pass");
    let (code, text, _) = scene.status(&[]);
    assert!(code == 0 && text.contains("first pass, ") && text.contains(" entries so far"), "{text}");
    until(PATIENCE, "both sides to be the same", || state() == "watching");
    let pair = &scene.states()[0];
    assert_eq!((&pair["name"], &pair["entries"], &pair["problems"]), (&"src".into(), &4.into(), &0.into()), "{pair}");
    assert_eq!(pair["source"], scene.path("src").to_str().unwrap());
    assert_eq!(pair["destination"], scene.path("dst").to_str().unwrap());
    assert!(pair["bytes"] == 40_006 && pair["walks"] == 1 && pair["watches"].as_u64() >= Some(4), "{pair}");
    scene.write("src/a", "changed");
    until(PATIENCE, "the last change", || scene.states()[0]["last_change"]["path"] == "a");
    assert_eq!(scene.states()[0]["last_change"]["action"], "updated");
    // What fails, with its path and why.
    scene.fifo("src/fifo");
    until(PATIENCE, "the problem", || state() == "problems");
    let (_, text, _) = scene.status(&[]);
    assert!(text.contains("problem: fifo: "), "{text}");
    fs::remove_file(scene.path("src/fifo")).unwrap();
    until(PATIENCE, "it to be gone", || state() == "watching");
    // A side that is away.
    fs::rename(scene.path("src"), scene.path("elsewhere")).unwrap();
    until(PATIENCE, "the source to be away", || state() == "away");
    let why = scene.states()[0]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("the source"), "{why}");
    fs::rename(scene.path("elsewhere"), scene.path("src")).unwrap();
    until(PATIENCE, "it to be back", || state() == "watching");
    drop(running);
}

#[test]
fn one_that_waits_for_space_says_so() {
    let scene = Scene::new();
    fs::create_dir(scene.path("dst")).unwrap();
    scene.write("src/large", &"x".repeat(900_000));
    let running = Proc::start(&mut on_small_disk(&scene.path("dst"), 256 * 1024, &scene.mirror(&[])));
    until(PATIENCE, "it to be full", || {
        scene.states().first().is_some_and(|pair| pair["state"] == "waiting-for-space")
    });
    let named = scene.states()[0]["named"][0].clone();
    assert!(named["path"] == "large" && named["error"].as_str().unwrap().contains("space"), "{named}");
    fs::remove_file(scene.path("src/large")).unwrap();
    until(PATIENCE, "it to be well again", || scene.states()[0]["state"] == "watching");
    drop(running);
}

#[test]
fn one_that_does_not_answer_is_named_and_keeps_nobody_waiting() {
    let scene = Scene::new();
    let mut stuck = Proc::start(&mut scene.mirror(&[]));
    stuck.wait_for_line("watching", PATIENCE);
    Tree::at(scene.path("other")).file("a", "a");
    let mut other = scene.lockstep();
    other.arg("mirror").arg(scene.path("other")).args(["--watch", "--name", "well"]);
    let well = Proc::start(&mut other);
    well.wait_for_line("watching", PATIENCE);
    assert_eq!(scene.states().len(), 2);
    stuck.pause();
    let began = Instant::now();
    let (code, stdout, stderr) = scene.status(&[]);
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(code, 1, "{stdout}{stderr}");
    let pid = stuck.pid().as_raw_nonzero();
    assert!(stderr.contains(&format!("the mirror of process {pid} does not answer")), "{stderr}");
    stuck.resume();
    assert_eq!(scene.states().len(), 2);
    drop((stuck, well));
}

#[test]
fn only_its_owner_is_answered() {
    let scene = Scene::new();
    let data = scene.path("state");
    let running = Proc::start(scene.mirror(&[]).arg("--data").arg(&data));
    running.wait_for_line("watching", PATIENCE);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let socket = fs::read_dir(&data).unwrap().next().unwrap().unwrap().path();
    assert_eq!((mode(&data), mode(&socket)), (0o700, 0o600));
    if !root() {
        return;
    }
    // Even where the directories would let him.
    let program = scene.path("lockstep");
    fs::copy(binary(), &program).unwrap();
    for (path, mode) in [(&*scene.dir, 0o755), (&*program, 0o755), (&*data, 0o755), (&*socket, 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut command = Command::new(&program);
    command.args(["status", "--mirror", "--json", "--data"]).arg(&data).env_clear();
    let (code, stdout, stderr) = super::super::mirror::run(command.uid(NOBODY).gid(NOBODY));
    assert!(code == 1 && stdout.is_empty() && stderr.contains("another user's"), "{code} {stdout}{stderr}");
    let (code, stdout, _) = scene.status(&["--data", data.to_str().unwrap()]);
    assert!(code == 0 && stdout.contains("pair     src"), "its owner is: {stdout}");
    drop(running);
}
