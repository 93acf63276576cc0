//! The log of a monitor that runs for a year: full disks, kills, moved files, disks and CPUs that come and go.

use super::*;
use rustix::process::Signal;
use support::on_small_disk;

#[test]
fn a_full_disk_stops_no_sampling_is_said_once_and_the_log_resumes() {
    let dir = scratch();
    let disk = dir.join("disk");
    fs::create_dir(&disk).unwrap();
    let mut command = on_small_disk(&disk, 4 << 20, &monitor(&disk.join("x.log")));
    let monitor = Proc::start(command.args(["--interval", "20ms", "--format", "json"]));
    monitor.wait_for_line("mem_used_bytes", SOON);
    // Only the monitor sees the small disk; others reach it by way of the monitor.
    let inside = format!("/proc/{}/root{}", monitor.pid().as_raw_nonzero(), disk.display());
    let (log, ballast) = (Path::new(&inside).join("x.log"), Path::new(&inside).join("ballast"));
    until(SOON, "a line in the log", || fs::read(&log).is_ok_and(|log| log.contains(&b'\n')));
    fs::write(&ballast, vec![0; 8 << 20]).unwrap_err();
    monitor.wait_for_line("sampling goes on", SOON);
    let mark = monitor.mark();
    until(SOON, "samples while the disk is full", || monitor.mark() > mark + 20);
    fs::remove_file(&ballast).unwrap();
    let resumed = monitor.wait_for_line_after(mark, "the log is written again", SOON);
    let lost: usize = resumed.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    let mark = monitor.mark();
    until(SOON, "more lines", || monitor.mark() > mark + 3);

    let log = fs::read(&log).unwrap();
    let kept = lines(&log[..=log.iter().rposition(|byte| *byte == b'\n').unwrap()]);
    monitor.wait_for_line(kept.last().unwrap(), SOON);
    let said = monitor.output();
    let said_once = |words: &str| said.iter().filter(|line| line.contains(words)).count() == 1;
    assert!(said_once("sampling goes on") && said_once("written again"), "{said:?}");
    // Each line that was printed is in the log as it was, or among those said to be lost.
    let printed: Vec<&String> = said.iter().filter(|line| line.starts_with('{')).collect();
    json_lines(kept.join("\n").as_bytes());
    let last = printed.iter().position(|line| Some(*line) == kept.last()).expect("the log's last line was printed");
    let missing = printed[..=last].iter().filter(|line| !kept.contains(line)).count();
    assert!(lost >= 20, "{resumed}");
    assert_eq!((missing, kept.len()), (lost, last + 1 - lost), "{resumed}");
}

#[test]
fn after_kill_9_at_any_moment_every_line_can_be_read() {
    let dir = scratch();
    let log = dir.join("x.log");
    for_each_seed(&[1, 2], |seed| {
        let mut rng = Rng::new(seed);
        for _ in 0..pick(5, 100) {
            let command = &mut monitor(&log);
            let mut monitor = Proc::start(command.args(["--quiet", "--interval", "10ms", "--format", "json"]));
            let bytes = || fs::metadata(&log).map_or(0, |metadata| metadata.len());
            let (begun, more) = (bytes(), rng.below(20_000) as u64);
            until(SOON, "more lines", || bytes() > begun + more);
            monitor.kill9();
        }
        run(monitor(&log).args(["--count", "1", "--format", "json"]));
        assert!(!json_lines(&fs::read(&log).unwrap()).is_empty());
    });
}

#[test]
fn a_log_moved_away_is_let_go_at_sighup() {
    let dir = scratch();
    let log = dir.join("x.log");
    // The next sample is a day away: the file must not wait for it.
    let mut monitor = Proc::start(monitor(&log).args(["--interval", "24h"]));
    monitor.wait_for_line("memory", SOON);
    fs::rename(&log, dir.join("moved")).unwrap();
    monitor.signal(Signal::HUP);
    monitor.wait_for_line("opened again", SOON);
    assert!(log.exists() && monitor.is_running());
    monitor.terminate();
    assert_eq!(monitor.wait_exit(SOON).code(), Some(0));
}

#[test]
fn a_log_never_passes_its_size_and_begins_anew_when_columns_come() {
    let dir = scratch();
    let (log, tree) = (dir.join("x.csv"), Procfs::at(dir.join("proc")));
    tree.cpus(&[100, 0, 0, 100], &[0]);
    let command = &mut monitor(&log);
    command.args(["--metrics", "cores", "--format", "csv", "--interval", "10ms"]);
    command.args(["--log-max-size", "128KiB", "--log-parts", "2"]);
    let monitor = Proc::start(command.arg("--procfs").arg(&tree.0));
    monitor.wait_for_line("cpu0_busy_pct", SOON);
    until(SOON, "a few lines", || monitor.output().len() > 5);
    tree.cpus(&[200, 0, 0, 200], &[0, 5]);
    monitor.wait_for_line("cpu5_busy_pct", SOON);
    // The header is the first word of the new columns, on stdout and in the new part.
    until(SOON, "the log of the new columns", || {
        let header = lines(&fs::read(&log).unwrap_or_default()).first().cloned().unwrap_or_default();
        header.contains("cpu0_busy_pct,cpu5_busy_pct,")
    });
    let older = fs::read_to_string(dir.join("x.csv.1")).unwrap();
    assert!(!older.contains("cpu5") && older.starts_with("time,"), "{older}");
    let columns = |file: &str| {
        let code = "import csv, sys\nrows = list(csv.reader(open(sys.argv[1])))[:-1]\n\
                    assert len({len(row) for row in rows}) == 1, rows\n";
        run(Command::new(python()).args(["-c", code]).arg(dir.join(file)));
    };
    columns("x.csv");
    columns("x.csv.1");
    // An offline CPU keeps its column and is missing in it, with the reason.
    tree.cpus(&[300, 0, 0, 300], &[0]);
    monitor.wait_for_line("cpu5_busy_pct:absent", SOON);
    let bytes = || {
        let sizes = ["x.csv", "x.csv.1"].map(|file| fs::metadata(dir.join(file)).map_or(0, |metadata| metadata.len()));
        (sizes[0] + sizes[1], dir.join("x.csv.2").exists())
    };
    let mark = monitor.mark();
    until(Duration::from_secs(60), "more lines than fit", || {
        let (bytes, third) = bytes();
        assert!(bytes <= 128 << 10 && !third, "{bytes} bytes");
        monitor.output().len() > mark + pick(800, 3000)
    });
}

#[test]
fn limits_that_cannot_hold_are_refused() {
    let dir = scratch();
    let refused: [&[&str]; 5] = [
        &["--log-max-size", "100KiB"],
        &["--log-max-size", "ten"],
        &["--log-max-age", "5s"],
        &["--log-parts", "0"],
        &["--metrics", "cpu,gpu"],
    ];
    for wrong in refused {
        let output = monitor(&dir.join("x.log")).args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(!dir.join("x.log").exists(), "{wrong:?}");
    }
}
