//! `lockstep monitor`: M1.1 and M1.2, measured and logged.

mod cost;
mod export;
mod live;
mod log;
mod names;
pub(crate) mod told;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{
    Manager, PATIENCE, Proc, Rng, for_each_seed, lockstep, lockstep_at, pick, python, scratch, until, workspace,
};

/// Long enough for any machine, short enough to see a hang.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn m1_1_memory_is_measured_and_logged() {
    let dir = scratch();
    let log = dir.join("vitals.log");
    let lines = json(run(monitor(&log).args(["--count", "3", "--interval", "100ms", "--format", "json"])));
    assert_eq!(lines.len(), 3);
    assert_eq!(json_lines(&fs::read(&log).unwrap()), lines, "the log has the very lines");

    let kernel = fs::read_to_string("/proc/meminfo").unwrap();
    let total = kernel.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    let total_bytes: u64 = total.map(|kib: u64| kib * 1024).unwrap();
    for line in &lines {
        // Memory needs no baseline: it is known from the first line on.
        assert_eq!(line["mem_total_bytes"], total_bytes);
        let (used, available) = (whole(line, "mem_used_bytes"), whole(line, "mem_available_bytes"));
        assert_eq!(used + available, total_bytes);
        assert!(used > 0 && available > 0, "{line}");
    }
}

#[test]
fn m1_2_cpu_is_measured_and_logged() {
    let dir = scratch();
    let (log, tree) = (dir.join("vitals.log"), Procfs::at(dir.join("proc")));
    tree.cpu(&[100, 0, 100, 1000, 100, 0, 0, 100, 0, 0]);
    let command = &mut monitor(&log);
    let monitor = Proc::start(command.args(["--interval", "100ms", "--format", "json", "--procfs"]).arg(&tree.0));
    monitor.wait_for_line("first_sample", SOON);
    // 100 ticks: 10 user, 20 system, 50 idle, 10 iowait, 10 stolen. Time a hypervisor steals is not idle.
    tree.cpu(&[110, 0, 120, 1050, 110, 0, 0, 110, 0, 0]);
    let line = monitor.wait_for_line(r#""cpu_busy_pct":40,"#, SOON);
    let line: Value = serde_json::from_str(&line).unwrap();
    let shares = [("user", 10), ("system", 20), ("idle", 50), ("iowait", 10), ("steal", 10), ("irq", 0)];
    for (share, percent) in shares {
        assert_eq!(line[format!("cpu_{share}_pct")].as_f64(), Some(f64::from(percent)), "{share}: {line}");
    }
    until(SOON, "the line in the log", || json_lines(&fs::read(&log).unwrap()).contains(&line));
}

#[test]
fn m1_2_the_real_load_of_the_machine_is_seen() {
    let busy = Proc::start(Command::new("sh").args(["-c", "while :; do :; done"]));
    let dir = scratch();
    let command = &mut monitor(&dir.join("x.log"));
    let lines = json(run(command.args(["--count", "2", "--interval", "1s", "--format", "json"])));
    drop(busy);
    let cpus = lines[1]["cpus_online"].as_f64().unwrap();
    let percent = lines[1]["cpu_busy_pct"].as_f64().unwrap();
    // One loop is the whole of one CPU; half of it allows for what else the machine does in that second.
    assert!((50.0 / cpus..=100.0).contains(&percent), "{percent} % of {cpus} CPUs");
}

/// Thousands of generated trees, memory equal to the byte and CPU equal at 0.1. The script proves its checks first.
#[test]
fn m1_1_m1_2_the_figures_are_those_of_psutil() {
    let python = python();
    for_each_seed(&[1], |seed| {
        let mut script = Command::new(&python);
        script.arg(workspace().join("tests/python/vitals_vs_psutil.py")).arg(support::binary());
        let output = run(script.args([seed.to_string(), pick(200, 5000).to_string()]));
        assert!(String::from_utf8_lossy(&output.stdout).contains("pairs"));
    });
}

#[test]
fn pandas_reads_the_csv_log_as_it_is() {
    let dir = scratch();
    let log = dir.join("vitals.csv");
    let printed = run(monitor(&log).args(["--count", "3", "--interval", "100ms", "--format", "csv"])).stdout;
    assert_eq!(fs::read(&log).unwrap(), printed, "the log has the very lines, header and all");
    assert_eq!(lines(&printed).len(), 4, "a header and three lines");
    let code = "import pandas, sys\n\
                t = pandas.read_csv(sys.argv[1], parse_dates=['time'])\n\
                assert len(t) == 3 and t.time.is_monotonic_increasing and str(t.time.dt.tz) == 'UTC'\n\
                assert (t.mem_used_bytes + t.mem_available_bytes == t.mem_total_bytes).all()\n\
                assert t.cpu_busy_pct.isna().tolist()[0] and t.cpu_null_reason[0] == 'first_sample'\n";
    run(Command::new(python()).args(["-c", code]).arg(&log));
}

#[test]
fn text_tells_time_memory_and_cpu_and_a_dash_for_what_is_not_known() {
    let dir = scratch();
    let log = dir.join("x.log");
    let output = run(monitor(&log).args(["--count", "2", "--interval", "100ms"]));
    assert_eq!(lines(&output.stderr), [format!("log: {}", log.display())], "stderr names the log and nothing else");
    let lines = lines(&output.stdout);
    assert_eq!(lines.len(), 2);
    let words: Vec<&str> = lines[0].split_whitespace().collect();
    assert!(words[0].len() == 24 && words[0].ends_with('Z') && words[0].contains('T'), "RFC 3339: {}", words[0]);
    assert_eq!(words[1..3], ["cpu", "-"]);
    assert!(lines[0].contains("first_sample") && lines[0].contains("memory"), "{}", lines[0]);
    assert_eq!(fs::read(&log).unwrap(), output.stdout);
}

#[test]
fn the_log_has_a_default_place_and_none_turns_it_off() {
    let home = scratch();
    run(lockstep_at(&home).args(["monitor", "--count", "1"]));
    assert_eq!(lines(&fs::read(home.join("log/monitor.log")).unwrap()).len(), 1);
    let other = scratch();
    let output = run(lockstep_at(&other).args(["monitor", "--count", "1", "--log", "none"]));
    assert_eq!(lines(&output.stderr), ["log: none"]);
    assert!(!other.join("log").exists());
}

#[test]
fn m1_2_counters_that_fall_and_cpus_that_change_give_no_number() {
    let dir = scratch();
    let tree = |name: &str, cpu: &[u64], ids: &[u32]| {
        let tree = Procfs::at(dir.join(name));
        tree.cpus(cpu, ids);
        tree
    };
    let trees = [
        tree("a", &[100, 0, 100, 10_000], &[0, 1]),
        tree("b", &[90, 0, 90, 9_990], &[0, 1]),
        tree("c", &[190, 0, 90, 10_000], &[0, 3]),
        tree("d", &[9_190, 0, 90, 9_600], &[0, 3]),
        tree("e", &[9_200, 0, 90, 9_610], &[0, 3]),
    ];
    let mut command = lockstep();
    command.args(["monitor", "--format", "json", "--log", "none"]);
    for tree in &trees {
        command.arg("--procfs").arg(&tree.0);
    }
    let lines = json(run(&mut command));
    let reasons: Vec<Option<&str>> = lines.iter().map(|line| line["cpu_null_reason"].as_str()).collect();
    let expected = ["first_sample", "total_not_larger", "cpus_changed", "idle_fell"].map(Some);
    assert_eq!(reasons, [&expected[..], &[None]].concat());
    for line in &lines[..4] {
        assert!(line["cpu_busy_pct"].is_null() && line["cpu_idle_pct"].is_null(), "never 0, never 100: {line}");
    }
    assert_eq!(lines[4]["cpu_busy_pct"], 50);
}

#[test]
fn a_tree_away_for_a_while_is_said_once_and_sampling_goes_on() {
    let dir = scratch();
    let tree = Procfs::at(dir.join("proc"));
    tree.cpu(&[100, 0, 0, 100]);
    let command = &mut monitor(&dir.join("x.log"));
    let mut monitor = Proc::start(command.args(["--interval", "100ms", "--format", "json", "--procfs"]).arg(&tree.0));
    monitor.wait_for_line("first_sample", SOON);
    fs::write(tree.0.join("stat"), "").unwrap();
    monitor.wait_for_line("no sample", SOON);
    let mark = monitor.mark();
    tree.cpu(&[175, 0, 0, 125]);
    monitor.wait_for_line_after(mark, "can be read again", SOON);
    monitor.wait_for_line_after(mark, r#""cpu_busy_pct":75,"#, SOON);
    assert_eq!(monitor.output().iter().filter(|line| line.contains("no sample")).count(), 1);
    monitor.terminate();
    assert_eq!(monitor.wait_exit(SOON).code(), Some(0), "ended by the system: in order");
}

#[test]
fn what_cannot_run_says_why_and_touches_nothing() {
    let dir = scratch();
    let missing = dir.join("nothing here");
    let output = monitor(&dir.join("x.log")).arg("--procfs").arg(&missing).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains(&missing.display().to_string()));
    for wrong in [&["--interval", "9ms"][..], &["--interval", "1"], &["--count", "0"], &["--format", "xml"]] {
        let output = monitor(&dir.join("y.log")).args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(output.stdout.is_empty() && !dir.join("y.log").exists(), "{wrong:?}");
    }
    let output = monitor(&dir).args(["--count", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "a log that is a directory");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--log none"), "and how to cure it");
}

#[test]
fn a_reader_that_goes_away_is_quiet_success_and_an_interrupt_is_130() {
    let dir = scratch();
    let mut command = monitor(&dir.join("x.log"));
    command.args(["--interval", "100ms"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(lines(&output.stderr).len(), 1, "only the name of the log");

    let mut monitor = Proc::start(monitor(&dir.join("y.log")).args(["--interval", "24h"]));
    monitor.wait_for_line("memory", SOON);
    monitor.interrupt();
    assert_eq!(monitor.wait_exit(SOON).code(), Some(130));
    assert_eq!(lines(&fs::read(dir.join("y.log")).unwrap()).len(), 1);
}

#[test]
fn a_log_cut_by_a_crash_is_mended_and_one_of_another_format_is_kept() {
    let dir = scratch();
    let log = dir.join("x.log");
    let mut whole = Vec::new();
    for_each_seed(&[1, 2, 3], |seed| {
        fs::remove_file(&log).ok();
        run(monitor(&log).args(["--count", "2", "--interval", "100ms", "--format", "json"]));
        whole = fs::read(&log).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let cut = first + Rng::new(seed).below(whole.len() - first);
        fs::write(&log, &whole[..cut]).unwrap();
        run(monitor(&log).args(["--count", "1", "--format", "json"]));
        assert_eq!(json_lines(&fs::read(&log).unwrap()).len(), 2, "cut at {cut} of {}", whole.len());
    });
    let before = fs::read(&log).unwrap();
    run(monitor(&log).args(["--count", "1", "--format", "csv"]));
    assert_eq!(fs::read(dir.join("x.log.1")).unwrap(), before);
    assert!(fs::read(&log).unwrap().starts_with(b"time,"));
}

/// `lockstep monitor`, logging to `log`.
fn monitor(log: &Path) -> Command {
    let mut command = lockstep();
    command.arg("monitor").arg("--log").arg(log);
    command
}

/// Runs to the end and demands success.
#[track_caller]
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}

#[track_caller]
fn json_lines(bytes: &[u8]) -> Vec<Value> {
    lines(bytes).iter().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"))).collect()
}

#[track_caller]
fn json(output: Output) -> Vec<Value> {
    json_lines(&output.stdout)
}

#[track_caller]
fn whole(line: &Value, key: &str) -> u64 {
    line[key].as_u64().unwrap_or_else(|| panic!("{key} is no whole number in {line}"))
}

/// A procfs of a machine with as much memory as is needed to have one.
struct Procfs(PathBuf);

impl Procfs {
    fn at(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        fs::write(path.join("meminfo"), "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 600 kB\n").unwrap();
        Self(path)
    }

    fn cpu(&self, columns: &[u64]) {
        self.cpus(columns, &[0]);
    }

    /// The sum of all CPUs is `columns`; each CPU stands still, so that only the sum is judged. Written in place, because
    /// the monitor keeps the file open as it does in the real one.
    fn cpus(&self, columns: &[u64], ids: &[u32]) {
        let sum: String = columns.iter().map(|ticks| format!(" {ticks}")).collect();
        let each: String = ids.iter().map(|id| format!("cpu{id} 1 1 1 1\n")).collect();
        fs::write(self.0.join("stat"), format!("cpu {sum}\n{each}intr 5\n")).unwrap();
    }
}
