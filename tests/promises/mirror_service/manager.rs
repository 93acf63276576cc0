//! What a service manager is told: sd_notify, heard by a manager of the test's own.

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use support::{Manager, lapse, same_trees, until};

use super::*;

#[test]
fn it_is_ready_once_every_copy_is_equal_and_not_before() {
    let scene = Scene::new();
    Tree::at(scene.path("quick")).file("a", "a");
    Tree::at(scene.path("slow")).file("large", vec![b'x'; 60_000]);
    let manager = Manager::at(scene.path("notify"));
    let mut command = scene.pairs(&["quick", "slow"], "bwlimit = \"20K\"");
    let mut running = Proc::start(manager.starts(&mut command, Duration::from_secs(60)));
    let same = |name: &str| same_trees(scene.path(name), scene.path(&format!("{name}-copy"))).is_ok();
    until(PATIENCE, "the quick one", || same("quick"));
    until(PATIENCE, "word of the first pass", || manager.count("STATUS=2 pairs, 1 the same; slow: first pass") == 1);
    assert!(manager.hears_ready_in_time(|| same("slow")), "ready before the copy was equal");
    until(PATIENCE, "word of how it goes", || manager.count("STATUS=2 pairs, 2 the same") > 0);
    // Reading the configuration again is told with its begin and its end.
    running.signal(rustix::process::Signal::HUP);
    until(PATIENCE, "word of the reload", || manager.count("RELOADING=1\nMONOTONIC_USEC=") == 1);
    until(PATIENCE, "it to be ready again", || manager.count("READY=1") == 2);
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.wait_exit(PATIENCE).code(), Some(0));
    until(PATIENCE, "word of the end", || manager.count("STOPPING=1") == 1);
}

#[test]
fn canary_a_service_that_says_so_too_early_is_seen() {
    let scene = Scene::new();
    let manager = Manager::at(scene.path("notify"));
    UnixDatagram::unbound().unwrap().send_to(b"READY=1", &manager.socket).unwrap();
    assert!(!manager.hears_ready_in_time(|| same_trees(scene.path("src"), scene.path("dst")).is_ok()));
}

/// A loop that nobody takes the lines of hangs: that is how this test makes one.
#[test]
fn a_loop_that_hangs_gives_no_sign_of_life_and_one_that_goes_on_does() {
    let scene = Scene::new();
    let manager = Manager::at(scene.path("notify"));
    let watchdog = Duration::from_secs(4);
    let mut command = scene.mirror(&["--json"]);
    manager.starts(&mut command, watchdog).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    until(PATIENCE, "signs of life of a loop that has nothing to do", || manager.count("WATCHDOG=1") >= 4);
    assert!(manager.count("READY=1") == 1 && manager.since("WATCHDOG=1") < watchdog);
    // More lines than a pipe holds.
    for n in 0..2_000 {
        scene.write(&format!("src/file {n}"), "x");
    }
    until(PATIENCE, "the signs of life to stop", || manager.since("WATCHDOG=1") > watchdog);
    // Who asks is answered all the same, with the truth.
    let (code, stdout, _) = scene.status(&[]);
    assert!(code == 0 && stdout.contains("gives no sign of life for"), "{stdout}");
    let mut lines = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    until(PATIENCE, "signs of life once it goes on", || manager.since("WATCHDOG=1") < Duration::from_secs(1));
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    reader.join().unwrap().unwrap();
}

#[test]
fn long_work_is_no_hanging() {
    let scene = Scene::new();
    let manager = Manager::at(scene.path("notify"));
    // One content that takes several times as long as a silence may last.
    scene.write("src/large", &"x".repeat(64_000));
    let mut command = scene.mirror(&["--bwlimit", "8K"]);
    let watchdog = Duration::from_secs(4);
    let running = Proc::start(manager.starts(&mut command, watchdog));
    let mut longest = Duration::ZERO;
    until(PATIENCE, "the first sign of life", || manager.count("WATCHDOG=1") > 0);
    until(PATIENCE, "the copy to be made", || {
        longest = longest.max(manager.since("WATCHDOG=1"));
        scene.path("dst/large").exists()
    });
    assert!(longest < watchdog, "silent for {longest:?}");
    drop(running);
}

#[test]
fn without_a_manager_or_with_one_that_is_gone_it_works_the_same() {
    let scene = Scene::new();
    for socket in ["", "relative", "/no/such/socket", "@lockstep-nobody-listens-here"] {
        let running = Proc::start(scene.mirror(&[]).env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", "nonsense"));
        running.wait_for_line("watching", PATIENCE);
        assert_eq!(terminate(running), 0, "{socket}");
    }
}

#[test]
fn a_command_of_after_cannot_speak_in_its_name() {
    let scene = Scene::new();
    let manager = Manager::at(scene.path("notify"));
    let script = scene.script("command", "env > env.new; mv env.new env");
    let mut command = scene.mirror(&["--after", &script]);
    let running = Proc::start(manager.starts(&mut command, Duration::from_secs(60)));
    until(PATIENCE, "the command to run", || scene.path("env").exists());
    let env = scene.text("env");
    assert!(
        env.contains("LOCKSTEP_DESTINATION=") && !env.contains("NOTIFY_SOCKET") && !env.contains("WATCHDOG"),
        "{env}"
    );
    lapse(Duration::from_millis(50), "the manager hears what else was said");
    drop(running);
}
