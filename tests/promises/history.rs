//! `lockstep monitor --history` and `lockstep history`: months kept, whatever happens meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use support::{Proc, Rng, for_each_seed, lockstep, on_small_disk, pick, python, scratch, until};

/// Long enough for any machine, short enough to see a hang.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn m1_1_m1_2_killed_again_and_again_no_sample_that_was_told_is_lost() {
    let dir = scratch();
    let place = dir.join("history");
    let mut told = Vec::new();
    for_each_seed(&[1], |seed| {
        let mut rng = Rng::new(seed);
        for _ in 0..pick(8, 100) {
            let mut monitor = Proc::start(monitor(&place).args(["--interval", "10ms", "--format", "json"]));
            let lines = 1 + rng.below(60);
            until(SOON, "the lines", || printed(&monitor).len() >= lines);
            monitor.kill9();
            told.extend(printed(&monitor).iter().map(time));
        }
    });
    let output = run(history(&place).args(["--format", "json"]));
    let kept: Vec<String> = json(&output).iter().map(time).collect();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(kept.is_sorted() && kept.len() >= told.len());
    // What was kept and not told any more is what each was killed at.
    let missing: Vec<&String> = told.iter().filter(|time| kept.binary_search(time).is_err()).collect();
    assert!(missing.is_empty(), "{} of {} lost: {missing:?}", missing.len(), told.len());
    assert!(files(&place).len() <= 4, "one segment is continued: {:?}", files(&place));
}

#[test]
fn a_full_disk_is_said_once_sampling_goes_on_and_the_history_resumes() {
    let dir = scratch();
    let disk = dir.join("disk");
    fs::create_dir(&disk).unwrap();
    let mut command = on_small_disk(&disk, 256 << 10, &monitor(&disk.join("history")));
    let monitor = Proc::start(command.args(["--interval", "10ms", "--format", "json"]));
    monitor.wait_for_line("numbers a sample", SOON);
    // Only the monitor sees the small disk; others reach it by way of the monitor.
    let inside =
        PathBuf::from(format!("/proc/{}/root", monitor.pid().as_raw_nonzero())).join(disk.strip_prefix("/").unwrap());
    until(SOON, "a sample in the history", || {
        fs::metadata(inside.join("history/000000000001.rows")).is_ok_and(|rows| rows.len() > 0)
    });
    let ballast = inside.join("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap_err();
    monitor.wait_for_line("No space left", SOON);
    let mark = monitor.mark();
    monitor.wait_for_line_after(mark, "cpu_busy_pct", SOON);
    fs::remove_file(&ballast).unwrap();
    let resumed = monitor.wait_for_line("the history is written again", SOON);
    let missing: usize = resumed.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    let mark = monitor.mark();
    monitor.wait_for_line_after(mark, "cpu_busy_pct", SOON);
    let lines = monitor.output();
    assert_eq!(lines.iter().filter(|line| line.contains("No space left")).count(), 1, "said once");
    let kept = json(&run(history(&inside.join("history")).args(["--format", "json"])));
    let told = printed(&monitor);
    let last = kept.last().map(time).unwrap();
    let until_then = told.iter().filter(|line| time(line) <= last).count();
    let all = kept.len() + missing;
    assert!((until_then..=until_then + 1).contains(&all), "{until_then} told, {} kept, {missing} missing", kept.len());
}

#[test]
fn two_monitors_never_write_one_history() {
    let dir = scratch();
    let place = dir.join("history");
    let first = Proc::start(monitor(&place).args(["--interval", "100ms"]));
    first.wait_for_line("memory", SOON);
    let second = monitor(&place).args(["--count", "1"]).output().unwrap();
    assert_eq!(second.status.code(), Some(3));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        said.contains("another process writes the history") && said.contains(&place.display().to_string()),
        "{said}"
    );
}

#[test]
fn pandas_reads_the_history_and_its_means_are_those_of_pandas() {
    let dir = scratch();
    let place = dir.join("history");
    run(monitor(&place).args(["--interval", "20ms", "--count", "150"]));
    let csv = |name: &str, arguments: &[&str]| {
        let file = dir.join(name);
        fs::write(&file, run(history(&place).args(["--format", "csv"]).args(arguments)).stdout).unwrap();
        file
    };
    let rows = csv("rows.csv", &[]);
    let steps = csv("steps.csv", &["--step", "1s", "--min-max"]);
    let code = "import pandas, sys\n\
                rows, steps = (pandas.read_csv(f, parse_dates=['time']).set_index('time') for f in sys.argv[1:])\n\
                assert len(rows) == 150 and str(rows.index.tz) == 'UTC' and rows.index.is_monotonic_increasing\n\
                assert rows.cpu_busy_pct.isna().iloc[0] and rows.clock_set_seconds.isna().all()\n\
                assert (rows.mem_used_bytes + rows.mem_available_bytes == rows.mem_total_bytes).all()\n\
                ours = rows.resample('1s')\n\
                def same(a, b): pandas.testing.assert_series_equal(a, b, check_freq=False, check_names=False, check_dtype=False)\n\
                for column in ['cpu_busy_pct', 'mem_used_bytes', 'load_1m']:\n\
                \x20   same(ours[column].mean(), steps[column])\n\
                \x20   same(ours[column].min(), steps[column + '_min'])\n\
                \x20   same(ours[column].max(), steps[column + '_max'])\n\
                assert (ours.size() == steps.samples).all()\n";
    run(Command::new(python()).args(["-c", code]).args([&rows, &steps]));
}

#[test]
fn damage_is_counted_on_stderr_and_all_else_is_told() {
    let dir = scratch();
    let place = dir.join("history");
    run(monitor(&place).args(["--interval", "10ms", "--count", "30"]));
    let rows = files(&place).into_iter().find(|file| file.extension().is_some_and(|kind| kind == "rows")).unwrap();
    let whole = fs::read(&rows).unwrap();
    for_each_seed(&[1, 2, 3], |seed| {
        let mut damaged = whole.clone();
        let bit = Rng::new(seed).below(whole.len() * 8);
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&rows, &damaged).unwrap();
        let output = run(history(&place).args(["--format", "json"]));
        assert_eq!(json(&output).len(), 29, "bit {bit}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("1 single samples") && said.lines().count() == 1, "{said}");
    });
    fs::write(&rows, &whole).unwrap();
    assert!(run(&mut history(&place)).stderr.is_empty());
}

#[test]
fn other_metrics_are_kept_beside_and_read_as_one() {
    let dir = scratch();
    let place = dir.join("history");
    run(monitor(&place).args(["--interval", "10ms", "--count", "3"]));
    run(monitor(&place).args(["--interval", "10ms", "--count", "3", "--metrics", "memory,psi"]));
    let rows = json(&run(history(&place).args(["--format", "json"])));
    assert_eq!(rows.len(), 6);
    assert!(rows[1]["cpu_busy_pct"].is_number() && rows[4]["cpu_busy_pct"].is_null());
    assert!(rows.iter().all(|row| row["mem_used_bytes"].is_number()));
    let one = run(history(&place).args(["--columns", "mem_used_pct", "--format", "csv"]));
    assert!(one.stdout.starts_with(b"time,boottime_seconds,clock_set_seconds,mem_used_pct\n"));
}

#[test]
fn wrong_questions_are_refused_with_what_to_ask() {
    let dir = scratch();
    let place = dir.join("history");
    let nothing = history(&place).output().unwrap();
    assert_eq!(nothing.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("lockstep monitor --history DIR makes one"));
    assert!(!place.exists(), "a reader makes nothing");
    run(monitor(&place).args(["--count", "1"]));
    let wrong = [
        &["--from", "yesterday"][..],
        &["--from", "-1m", "--to", "-1h"],
        &["--step", "0s"],
        &["--min-max"],
        &["--columns", "nothing"],
    ];
    for wrong in wrong {
        let output = history(&place).args(wrong).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{wrong:?}");
    }
    assert_eq!(json(&run(history(&place).args(["--from", "-1h", "--format", "json"]))).len(), 1);
    assert_eq!(json(&run(history(&place).args(["--to", "-1h", "--format", "json"]))).len(), 0);
    for wrong in [&["--history-max", "1MiB"][..], &["--history", "x", "--history-max", "1KiB"]] {
        let output = lockstep().args(["monitor", "--log", "none", "--count", "1"]).args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

/// `lockstep monitor` that keeps a history and no log.
fn monitor(place: &Path) -> Command {
    let mut command = lockstep();
    command.args(["monitor", "--log", "none", "--history"]).arg(place);
    command
}

fn history(place: &Path) -> Command {
    let mut command = lockstep();
    command.arg("history").arg(place);
    command
}

/// Runs to the end and demands success.
#[track_caller]
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[track_caller]
fn json(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The samples a monitor has printed so far.
fn printed(monitor: &Proc) -> Vec<Value> {
    monitor.output().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn time(line: &Value) -> String {
    line["time"].as_str().unwrap().to_owned()
}

fn files(place: &Path) -> Vec<PathBuf> {
    fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect()
}
