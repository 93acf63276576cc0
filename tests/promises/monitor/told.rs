//! What is told of the numbers and of the service is what they are.

use std::collections::BTreeSet;

use super::*;

#[test]
fn the_document_has_each_number_of_the_program_with_its_source_and_no_other() {
    let dir = scratch();
    let tree = Procfs::at(dir.join("proc"));
    tree.cpu(&[100, 0, 0, 100]);
    fs::write(tree.0.join("diskstats"), "8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n").unwrap();
    fs::create_dir(tree.0.join("net")).unwrap();
    let dev = "Inter-|\n face |\n eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
    fs::write(tree.0.join("net/dev"), dev).unwrap();
    let output = run(lockstep().args(["monitor", "--metrics", "help", "--procfs"]).arg(&tree.0));
    let listing = String::from_utf8(output.stdout).unwrap();
    let told: BTreeSet<String> = listing.lines().filter_map(|line| line.strip_prefix("  ")).map(row).collect();
    let document = fs::read_to_string(workspace().join("docs/monitor.md")).unwrap();
    let numbers = document.split_once("\n## Each number\n").unwrap().1;
    let documented: BTreeSet<String> =
        numbers.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect();
    let difference: Vec<&String> = told.symmetric_difference(&documented).collect();
    assert!(difference.is_empty() && told.len() > 90, "only in one of the two:\n{difference:#?}");
}

/// A line of the listing as the row of the document: CPUs and places have an N, devices a NAME.
fn row(line: &str) -> String {
    let (key, rest) = line.split_once(' ').unwrap();
    let (unit, rest) = rest.trim_start().split_once(' ').unwrap();
    let (kind, rest) = rest.trim_start().split_once(' ').unwrap();
    let (explanation, source) = rest.trim_start().strip_suffix(']').unwrap().rsplit_once(" [").unwrap();
    let numbered = ["cpu", "top_cpu", "top_mem"].iter().find_map(|stem| {
        let (number, of_it) = key.strip_prefix(stem)?.split_once('_')?;
        number.parse::<u32>().is_ok().then(|| format!("{stem}N_{of_it}"))
    });
    let key = numbered.unwrap_or_else(|| key.replace("disk_sda_", "disk_NAME_").replace("net_eth0_", "net_NAME_"));
    format!("| `{key}` | {unit}, {kind} | {explanation} | {source} |")
}

/// The unit, with the program under test in the place of the installed one.
fn unit(dir: &Path) -> PathBuf {
    let text = fs::read_to_string(workspace().join("examples/systemd/lockstep-monitor.service")).unwrap();
    let installed = "ExecStart=/usr/local/bin/lockstep ";
    assert!(text.contains(installed));
    let file = dir.join("lockstep-monitor.service");
    fs::write(&file, text.replace(installed, &format!("ExecStart={} ", support::binary().display()))).unwrap();
    file
}

/// The value of the last setting of this name, or of all where they add up.
pub(crate) fn settings<'t>(unit: &'t str, name: &str) -> Vec<&'t str> {
    unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

#[test]
fn the_service_is_one_that_systemd_takes_and_finds_little_exposed() {
    let dir = scratch();
    let unit = unit(&dir);
    let verified = run(support::systemd_analyze().arg("verify").arg(&unit));
    assert_eq!(String::from_utf8_lossy(&verified.stderr), "", "not a word");
    run(support::systemd_analyze().args(JUDGED).arg(&unit));
    let text = fs::read_to_string(&unit).unwrap();
    let open = text.replace("\nCapabilityBoundingSet=\n", "\nFrobnicate=yes\n").replace("\nSystemCallFilter=", "\n#");
    fs::write(&unit, open).unwrap();
    let verified = support::systemd_analyze().arg("verify").arg(&unit).output().unwrap();
    assert!(String::from_utf8_lossy(&verified.stderr).contains("Frobnicate"), "it looks");
    let judged = support::systemd_analyze().args(JUDGED).arg(&unit).output().unwrap();
    assert!(!judged.status.success(), "and judges");
}

/// The threshold is in tenths, a little above what docs/monitor.md tells of, as what systemd looks at grows.
const JUDGED: [&str; 3] = ["security", "--offline=true", "--threshold=15"];

/// As the service runs it, by a user who has no right, calling nothing that its filter stops.
#[test]
fn the_service_makes_no_call_that_its_sandbox_forbids_and_needs_no_right() {
    let dir = scratch();
    let unit = fs::read_to_string(unit(&dir)).unwrap();
    let (log, history, calls) = (dir.join("log"), dir.join("history"), dir.join("calls"));
    for place in [&log, &history] {
        fs::create_dir(place).unwrap();
    }
    let mut command = support::strace();
    command.args(["--follow-forks", "--summary-only", "--output"]).arg(&calls);
    if support::root() {
        // Nobody, and unable to become anybody; what it has to write is its own, as with systemd.
        for place in [&*dir, &log, &history] {
            std::os::unix::fs::chown(place, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let id = NOBODY.to_string();
        command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"]);
        command.args(["--bounding-set=-all", "--inh-caps=-all"]);
    }
    for (name, value) in settings(&unit, "Environment").iter().map(|setting| setting.split_once('=').unwrap()) {
        command.env(name, value);
    }
    let start = settings(&unit, "ExecStart")[0];
    let expanded = start
        .replace("${LOGS_DIRECTORY}", log.to_str().unwrap())
        .replace("${STATE_DIRECTORY}", history.to_str().unwrap())
        .replace("127.0.0.1:9100", "127.0.0.1:0");
    command.args(expanded.split(' ')).args(["--count", "5", "--interval", "100ms"]);
    run(&mut command);
    assert!(!lines(&fs::read(log.join("monitor.log")).unwrap()).is_empty());
    assert!(fs::read_dir(&history).unwrap().count() > 0);

    let allowed = allowed_calls(&unit);
    assert!(allowed.contains("read") && !allowed.contains("mount") && !allowed.contains("setuid"), "{allowed:?}");
    let made = fs::read_to_string(&calls).unwrap();
    let made = made.lines().filter_map(|line| line.split_whitespace().last());
    // setpriv makes these before the program begins, as systemd does.
    let before = ["setresuid", "setresgid", "setgroups", "capset", "total", "syscall"];
    let forbidden: Vec<&str> =
        made.filter(|call| !call.starts_with('-') && !before.contains(call) && !allowed.contains(*call)).collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
}

#[test]
fn a_sampler_that_hangs_gives_no_sign_of_life_and_one_that_waits_for_long_does() {
    let dir = scratch();
    let manager = Manager::at(dir.join("notify"));
    let watchdog = Duration::from_secs(4);
    let mut command = lockstep();
    let running = Proc::start(manager.starts(command.args(["monitor", "--interval", "1h"]), watchdog));
    until(PATIENCE, "signs of life between two samples", || manager.count("WATCHDOG=1") >= 3);
    assert_eq!(manager.count("READY=1"), 1, "ready with the first line");
    drop(running);

    // A sampler that nobody takes the lines of hangs: that is how this test makes one.
    let mut command = lockstep();
    command.args(["monitor", "--interval", "10ms", "--metrics", "all"]);
    manager.starts(&mut command, watchdog).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut hangs = command.spawn().unwrap();
    until(PATIENCE, "the second to be ready", || manager.count("READY=1") == 2);
    until(PATIENCE, "the signs of life to stop", || manager.since("WATCHDOG=1") > watchdog);
    let mut lines = hangs.stdout.take().unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    until(PATIENCE, "signs of life once it goes on", || manager.since("WATCHDOG=1") < watchdog / 2);
    rustix::process::kill_process(rustix::process::Pid::from_child(&hangs), rustix::process::Signal::TERM).unwrap();
    assert!(hangs.wait().unwrap().success());
    reader.join().unwrap().unwrap();
}

/// The calls that the filters of a unit let through.
pub(crate) fn allowed_calls(unit: &str) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for filter in settings(unit, "SystemCallFilter") {
        let (taken, sets) = filter.strip_prefix('~').map_or((false, filter), |sets| (true, sets));
        for call in sets.split(' ').flat_map(calls_of) {
            if taken {
                allowed.remove(&call)
            } else {
                allowed.insert(call)
            };
        }
    }
    allowed
}

/// The user whom nothing belongs to.
const NOBODY: u32 = 65534;

/// The system calls of a set such as `@system-service`, and of the sets in it.
fn calls_of(set: &str) -> BTreeSet<String> {
    if !set.starts_with('@') {
        return BTreeSet::from([set.to_owned()]);
    }
    let output = run(support::systemd_analyze().args(["syscall-filter", set]));
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.lines().filter_map(|line| line.strip_prefix("    ")).filter(|word| !word.starts_with('#'));
    words.flat_map(|word| calls_of(word.trim())).collect()
}
