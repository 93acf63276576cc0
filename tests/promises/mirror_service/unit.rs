//! The unit in `examples/systemd`.

use support::{systemd_analyze, until, workspace};

use super::*;
use crate::monitor::told::{allowed_calls, settings};

/// In tenths: it keeps owners, so it needs more than a service that only looks.
const JUDGED: [&str; 3] = ["security", "--offline=true", "--threshold=20"];

fn unit() -> String {
    let text = fs::read_to_string(workspace().join("examples/systemd/lockstep-mirror.service")).unwrap();
    let installed = "ExecStart=/usr/local/bin/lockstep ";
    assert!(text.contains(installed));
    text.replace(installed, &format!("ExecStart={} ", support::binary().display()))
}

#[test]
fn systemd_takes_it_and_finds_little_exposed() {
    let scene = Scene::new();
    let file = scene.path("lockstep-mirror.service");
    let analyze = |args: &[&str], text: &str| {
        fs::write(&file, text).unwrap();
        let output = systemd_analyze().args(args).arg(&file).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let text = unit();
    assert_eq!(analyze(&["verify"], &text), (true, String::new()), "not a word");
    assert!(analyze(&JUDGED, &text).0);
    let wrong = text.replace("\nWatchdogSec=5min\n", "\nFrobnicate=yes\n");
    assert!(wrong != text && analyze(&["verify"], &wrong).1.contains("Frobnicate"), "it looks");
    let open = text.replace("\nCapabilityBoundingSet=", "\n#").replace("\nSystemCallFilter=", "\n#");
    assert!(!analyze(&JUDGED, &open).0, "and judges");
}

/// The calls of a first copy that keeps everything, of changes, of questions for the status, and of an end in order.
#[test]
fn it_makes_no_call_that_its_sandbox_forbids() {
    let scene = Scene::new();
    let unit = unit();
    Tree::at(scene.path("src")).every_kind();
    scene.configure(&["src"], "archive = true\nspecials = true\nverify = true\nfsync = true\nbackup-dir = \"kept\"");
    let (logs, state) = (scene.path("logs"), scene.path("state"));
    let start = settings(&unit, "ExecStart")[0]
        .replace("${LOGS_DIRECTORY}", logs.to_str().unwrap())
        .replace("${STATE_DIRECTORY}", state.to_str().unwrap());
    let mut command = support::strace();
    command.args(["--follow-forks", "--summary-only", "--output"]).arg(scene.path("calls"));
    command.args(start.split(' ')).env("LOCKSTEP_CONFIG", scene.path("mirror.toml")).current_dir(&*scene.dir);
    let mut running = Proc::start(&mut command);
    let data = ["--json", "--data", state.to_str().unwrap()];
    let pair =
        || scene.status(&data).1.lines().next().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    until(PATIENCE, "both sides to be the same", || pair().is_some_and(|pair| pair["state"] == "watching"));
    scene.write("src/a", "changed");
    fs::remove_file(scene.path("src/sub/b")).unwrap();
    until(PATIENCE, "the changes to arrive", || {
        scene.text("src-copy/a") == "changed" && !scene.path("src-copy/sub/b").exists()
    });
    let pid = pair().and_then(|pair| i32::try_from(pair["process"].as_i64()?).ok()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(running.wait_exit(PATIENCE).success());
    assert!(logs.join("mirror.log").exists());

    let allowed = allowed_calls(&unit);
    assert!(allowed.contains("fchown") && !allowed.contains("mount") && !allowed.contains("ptrace"), "{allowed:?}");
    let calls = scene.text("calls");
    let made = calls.lines().filter_map(|line| line.split_whitespace().last());
    let forbidden: Vec<&str> = made
        .filter(|call| !call.starts_with('-') && !["total", "syscall"].contains(call) && !allowed.contains(*call))
        .collect();
    assert!(forbidden.is_empty() && calls.contains("inotify_add_watch"), "{forbidden:?}\n{calls}");
}
