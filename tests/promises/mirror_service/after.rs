//! The command of `--after`.

use support::{lapse, same_trees, until};

use super::*;

/// Notes what it is told of, and which of it is not the same on both sides. `a` changes while it looks, so that it may
/// differ by right.
const COMPARES: &str = "while read -r path; do echo \"$path\" >> paths
    [ \"$path\" != a ] && [ -f \"$LOCKSTEP_SOURCE/$path\" ] || continue
    cmp -s \"$LOCKSTEP_SOURCE/$path\" \"$LOCKSTEP_DESTINATION/$path\" || echo \"$path\" >> torn; done";

/// Run before the copy is there, as it must not be, the command sees it.
#[test]
fn canary_a_command_that_is_run_too_early_sees_it() {
    let scene = Scene::new();
    let script = scene.script("command", COMPARES);
    scene.write("told", "sub/b\n");
    let mut early = Command::new(script);
    early.env("LOCKSTEP_SOURCE", scene.path("src")).env("LOCKSTEP_DESTINATION", scene.path("dst"));
    early.stdin(fs::File::open(scene.path("told")).unwrap()).current_dir(&*scene.dir);
    assert!(early.status().unwrap().success());
    assert_eq!(scene.text("torn"), "sub/b\n");
}

#[test]
fn a_command_is_told_what_was_changed_once_both_sides_are_the_same() {
    let scene = Scene::new();
    // It compares by itself what it is told, at the moment it is told.
    let script = scene.script("command", COMPARES);
    let running = Proc::start(&mut scene.mirror(&["--after", &script]));
    until(PATIENCE, "the first copy to be told", || scene.text("paths").lines().count() >= 3);
    let told = scene.text("paths");
    for path in ["a", "sub/b", "sub"] {
        assert!(told.lines().any(|line| line == path), "{path} is missing in:\n{told}");
    }
    for n in 0..20 {
        scene.write("src/a", &format!("version {n}"));
        scene.write(&format!("src/sub/new {n}"), "new");
    }
    fs::remove_file(scene.path("src/sub/b")).unwrap();
    scene.write("src/two\nlines", "x");
    until(PATIENCE, "all changes to be told", || {
        let told = scene.text("paths");
        (0..20).all(|n| told.contains(&format!("sub/new {n}\n"))) && told.contains("two\\x0alines\n")
    });
    until(PATIENCE, "the removal to be told", || scene.text("paths").matches("sub/b\n").count() == 2);
    assert_eq!(scene.text("torn"), "", "what it is told of is there, and whole");
    until(PATIENCE, "both sides to be the same", || same_trees(scene.path("src"), scene.path("dst")).is_ok());
    assert_eq!(terminate(running), 0);
}

#[test]
fn never_two_at_a_time_and_what_changes_meanwhile_is_the_next_batch() {
    let scene = Scene::new();
    let script =
        scene.script("command", "echo begin >> log; cat >> log; until [ -e go ]; do sleep 0.02; done; echo end >> log");
    let running = Proc::start(&mut scene.mirror(&["--after", &script, "--after-match", "*.conf"]));
    running.wait_for_line("watching", PATIENCE);
    scene.write("src/one.conf", "1");
    until(PATIENCE, "the first run", || scene.text("log") == "begin\none.conf\n");
    for n in 0..10 {
        scene.write("src/two.conf", &format!("{n}"));
        scene.write("src/other", &format!("{n}"));
    }
    scene.write("src/three.conf", "3");
    let last = |name: &str| {
        fs::read(scene.path("src").join(name)).unwrap() == fs::read(scene.path("dst").join(name)).unwrap_or_default()
    };
    until(PATIENCE, "the changes to arrive while it runs", || last("two.conf") && last("three.conf") && last("other"));
    let pairs = scene.states();
    assert_eq!((&pairs[0]["after"]["running"], &pairs[0]["after"]["waiting"]), (&true.into(), &2.into()), "{pairs:?}");
    assert_eq!(scene.text("log"), "begin\none.conf\n");
    scene.write("go", "");
    until(PATIENCE, "the second run", || scene.text("log").matches("end").count() == 2);
    assert_eq!(scene.text("log"), "begin\none.conf\nend\nbegin\nthree.conf\ntwo.conf\nend\n");
    drop(running);
}

#[test]
fn its_result_is_in_the_log_and_in_the_status() {
    let scene = Scene::new();
    let script = scene.script("command", "echo first >&2; echo 'cannot reload: \\033[31mno' >&2; exit 7");
    for json in [false, true] {
        let flags: &[&str] = if json { &["--after", &script, "--json"] } else { &["--after", &script] };
        let running = Proc::start(&mut scene.mirror(flags));
        running.wait_for_line(if json { "\"action\":\"after\"" } else { "after: exit code 7 after" }, PATIENCE);
        let log = scene.text("home/log/mirror.log");
        if json {
            let line = log.lines().rfind(|line| line.contains("\"after\"")).unwrap();
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!((&record["end"], &record["code"]), (&"exited".into(), &7.into()), "{line}");
            assert_eq!(record["said"], "cannot reload: \\x1b[31mno");
            assert!(record["ms"].is_u64() && record["paths"].is_u64() && record["time"].is_string(), "{line}");
        } else {
            let line = log.lines().find(|line| line.contains(" after ")).unwrap();
            assert!(line.contains("after exit code 7 after ") && line.contains("paths: cannot reload: "), "{line}");
        }
        let pair = &scene.states()[0];
        assert_eq!((&pair["after"]["failed"], &pair["after"]["last"]["code"]), (&1.into(), &7.into()), "{pair}");
        assert_eq!(terminate(running), 0, "a copy that is right is one, whatever a command makes of it");
        fs::remove_dir_all(scene.path("dst")).unwrap();
        scene.write("home/log/mirror.log", "");
    }
}

#[test]
fn names_are_told_as_they_are_where_that_is_asked_for() {
    let scene = Scene::new();
    let script = scene.script("command", "cat >> told");
    let running = Proc::start(&mut scene.mirror(&["--after", &script, "--after-null", "--after-match", "*.c"]));
    running.wait_for_line("watching", PATIENCE);
    scene.write("src/two\nlines.c", "x");
    until(PATIENCE, "it to be told", || scene.text("told") == "two\nlines.c\0");
    drop(running);
}

#[test]
fn one_that_takes_too_long_is_ended_with_all_it_started() {
    let scene = Scene::new();
    let script = scene.script(
        "command",
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > child; while :; do sleep 1; done' &\necho $$ > pid; while :; do sleep 1; done",
    );
    let mut running = Proc::start(&mut scene.mirror(&["--after", &script, "--after-timeout", "300ms"]));
    running.wait_for_line("ended because it took too long", PATIENCE);
    until(PATIENCE, "both to be gone", || !is_alive(&scene.path("pid")) && !is_alive(&scene.path("child")));
    // The next change runs it again.
    fs::remove_file(scene.path("pid")).unwrap();
    scene.write("src/a", "again");
    until(PATIENCE, "the next run", || scene.path("pid").exists());
    // Killed, it could not end what it started.
    running.interrupt();
    running.wait_exit(PATIENCE);
    until(PATIENCE, "all to be gone", || !is_alive(&scene.path("pid")) && !is_alive(&scene.path("child")));
}

#[test]
fn at_the_end_it_is_killed_with_all_it_started_and_the_last_batch_is_told_where_there_is_time() {
    let scene = Scene::new();
    let script = scene.script("command", "cat >> told; echo $$ > pid; sh -c 'echo $$ > child; exec sleep 1000' & wait");
    let running = Proc::start(&mut scene.mirror(&["--after", &script]));
    until(PATIENCE, "the command to run", || is_alive(&scene.path("pid")) && is_alive(&scene.path("child")));
    assert_eq!(terminate(running), 0);
    assert!(!is_alive(&scene.path("pid")));
    until(PATIENCE, "what it started to be gone", || !is_alive(&scene.path("child")));
    assert!(scene.text("home/log/mirror.log").contains("ended because lockstep ends"));

    // One that ends by itself is told of what the last comparison found.
    let script = scene.script("command", "cat >> last");
    let mut running = Proc::start(&mut scene.mirror(&["--after", &script]));
    running.wait_for_line("watching", PATIENCE);
    running.pause();
    scene.write("src/at the end", "x");
    running.signal(rustix::process::Signal::TERM);
    running.resume();
    assert_eq!(running.wait_exit(PATIENCE).code(), Some(0));
    assert!(scene.text("last").contains("at the end\n"));
}

#[test]
fn nothing_is_run_in_a_dry_run_or_while_the_sides_differ() {
    let scene = Scene::new();
    let script = scene.script("command", "echo ran >> ran");
    let mut once = scene.lockstep();
    once.arg("mirror").arg(scene.path("src")).arg(scene.path("dst")).args(["--after", &script]);
    let (code, _, stderr) = super::super::mirror::run(once.arg("--dry-run"));
    assert_eq!((code, scene.path("ran").exists()), (0, false), "{stderr}");

    // An entry that fails keeps the sides apart.
    scene.fifo("src/fifo");
    let running = Proc::start(&mut scene.mirror(&["--after", &script]));
    running.wait_for_line("watching", PATIENCE);
    until(PATIENCE, "the failure to be told", || scene.states()[0]["state"] == "problems");
    lapse(Duration::from_millis(300), "the command has time to run that must not");
    let pair = &scene.states()[0];
    assert!(!scene.path("ran").exists() && pair["after"]["waiting"].as_u64() > Some(0), "{pair}");
    fs::remove_file(scene.path("src/fifo")).unwrap();
    until(PATIENCE, "it to run once they are the same", || scene.path("ran").exists());
    drop(running);
}

#[test]
fn after_a_single_run_it_is_waited_for_and_its_failure_counts() {
    let scene = Scene::new();
    let once = |flags: &[&str]| {
        let mut command = scene.lockstep();
        command.arg("mirror").arg(scene.path("src")).arg(scene.path("dst")).args(flags);
        super::super::mirror::run(&mut command)
    };
    let script = scene.script("command", "sleep 0.2; cat >> told");
    assert_eq!(once(&["--after", &script]).0, 0);
    assert!(scene.text("told").contains("sub/b\n"));
    let before = scene.text("told");
    assert_eq!(once(&["--after", &script]).0, 0);
    assert_eq!(scene.text("told"), before, "nothing changed, nothing ran");
    scene.write("src/a", "changed");
    let (code, _, stderr) = once(&["--after", "false"]);
    assert!(code == 1 && stderr.contains("--after: exit code 1"), "{code} {stderr}");
    let (code, _, stderr) = once(&["--after", "no-such-program x"]);
    assert!(code == 3 && stderr.contains("no-such-program"), "{code} {stderr}");
    assert_eq!(once(&["--after", "'open"]).0, 2);
    assert_eq!(once(&["--after-match", "*.conf"]).0, 2);
}

#[test]
fn no_shell_reads_its_words() {
    let scene = Scene::new();
    let script = scene.script("print args", "printf '%s\\n' \"$@\" > args");
    let line = format!("'{script}' $HOME `id` ';touch' 'a b' *.c > x");
    let mut once = scene.lockstep();
    once.arg("mirror").arg(scene.path("src")).arg(scene.path("dst")).args(["--after", &line]);
    assert_eq!(super::super::mirror::run(&mut once).0, 0);
    assert_eq!(scene.text("args"), "$HOME\n`id`\n;touch\na b\n*.c\n>\nx\n");
}

#[test]
fn a_command_that_changes_the_copy_does_not_keep_the_machine_busy() {
    let scene = Scene::new();
    let script = scene.script("command", "echo run >> runs; echo mine > dst/mine");
    let running = Proc::start(&mut scene.mirror(&["--after", &script]));
    // Each run is undone, which is a change. A row of runs waits ever longer, up to a second.
    until(PATIENCE, "a row of runs", || scene.text("runs").lines().count() >= 7);
    let before = scene.text("runs").lines().count();
    lapse(Duration::from_secs(3), "the span in which the runs are counted");
    let more = scene.text("runs").lines().count() - before;
    assert!(more <= 8, "{more} runs in three seconds");
    drop(running);
}
