//! What a sample costs, counted: system calls, memory, and that the period does not drift.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

/// A short run and a longer one; what one has more than the other is what samples cost.
const SAMPLES: (u64, u64) = (50, 350);

#[test]
fn a_sample_is_two_reads_one_wait_and_one_write() {
    let dir = scratch();
    let counted = |samples: u64| {
        let table = dir.join("calls");
        let mut command = support::strace();
        command.args(["--follow-forks", "--summary-only", "--output"]).arg(&table).arg(support::binary());
        command.args(["monitor", "--quiet", "--interval", "10ms", "--count", &samples.to_string(), "--log"]);
        run(command.arg(dir.join("x.log")));
        calls(&table)
    };
    let (few, many) = (counted(SAMPLES.0), counted(SAMPLES.1));
    let more = |name: &str| many.get(name).unwrap_or(&0).saturating_sub(*few.get(name).unwrap_or(&0));
    let samples = SAMPLES.1 - SAMPLES.0;
    let scene = || format!("{few:?}\n{many:?}");
    // strace slows it down, so the load averages may be read anew once or twice.
    let reads = more("pread64");
    assert!((2 * samples..=2 * samples + 8).contains(&reads), "{reads} reads of {samples} samples\n{}", scene());
    assert_eq!(more("write"), samples, "{}", scene());
    // A wait that ends early is taken up again.
    let waits = more("futex") + more("clock_nanosleep");
    assert!(waits <= samples + samples / 20, "{waits} waits\n{}", scene());
    let all: u64 = many.keys().map(|name| more(name)).sum();
    let others = all - reads - waits - more("write");
    assert!(
        others <= samples / 5,
        "{others} other calls, but where the log is, is looked at once a second\n{}",
        scene()
    );
}

/// Name and number of the calls in a table of strace.
fn calls(table: &Path) -> BTreeMap<String, u64> {
    let table = fs::read_to_string(table).unwrap();
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let count = words.get(3)?.parse().ok()?;
        Some((words.last()?.to_string(), count)).filter(|(name, _)| name != "total")
    };
    let calls: BTreeMap<String, u64> = table.lines().filter_map(row).collect();
    assert!(calls.contains_key("execve"), "a table of calls\n{table}");
    calls
}

#[test]
fn of_its_own_it_holds_at_most_two_mib_however_long_it_runs() {
    let dir = scratch();
    let command = &mut monitor(&dir.join("x.log"));
    let monitor = Proc::start(command.args(["--interval", "10ms"]));
    let after = |lines: usize| {
        until(SOON * 10, "samples", || monitor.mark() > lines);
        monitor.own_rss_bytes().unwrap()
    };
    let (first, last) = (after(100), after(pick(500, 10_000)));
    // All that is resident is more, but those are pages of its program and of libraries, which the kernel maps in pieces of
    // its liking, shares, and takes back.
    assert!(first <= 2 << 20, "{first} bytes, {:?} with shared files", monitor.rss_bytes());
    assert!(last <= first + (64 << 10), "{first} bytes, then {last}");
}

/// From one sample to the next, here.
const PERIOD_S: f64 = 0.010;
/// How far behind a multiple of the kernel's longest tick each deadline lies.
const OFFSET_S: f64 = 0.0024;

#[test]
fn the_period_does_not_drift() {
    let count = pick(300, 3600);
    let command = &mut lockstep();
    command.args(["monitor", "--log", "none", "--format", "json", "--interval", "10ms", "--count", &count.to_string()]);
    let taken = json(run(command)).iter().map(|line| line["monotonic_seconds"].as_f64().unwrap()).collect();
    on_the_grid(taken).unwrap();
    let drifting = |each_s: f64| (0..300).map(|n| 5.0 + OFFSET_S + f64::from(n) * (PERIOD_S + each_s)).collect();
    on_the_grid(drifting(0.0)).unwrap();
    on_the_grid(drifting(0.0001)).expect_err("the work of each sample added to the wait");
    on_the_grid(drifting(-0.0001)).expect_err("a clock that runs fast");
}

/// Whether samples taken at these times have deadlines that do not move.
fn on_the_grid(taken: Vec<f64>) -> Result<(), String> {
    // Deadlines lie on a grid of the clock itself; each sample has one of its own and comes no earlier.
    let since = |at: &f64| at - OFFSET_S + 1e-8;
    let deadlines: Vec<f64> = taken.iter().map(|at| (since(at) / PERIOD_S).floor()).collect();
    if let Some(at) = deadlines.windows(2).position(|pair| pair[0] >= pair[1]) {
        return Err(format!("two samples of one deadline: {:?}", &taken[at..at + 2]));
    }
    // One that waits for so long after its work comes later and later, all the way round the grid. What a busy machine makes
    // late now and then is no drift.
    for tenth in taken.chunks(taken.len() / 10) {
        let mut late: Vec<f64> = tenth.iter().map(|at| since(at) % PERIOD_S).collect();
        late.sort_by(f64::total_cmp);
        if late[late.len() / 4] > PERIOD_S / 4.0 {
            return Err(format!("late by {late:?}"));
        }
    }
    Ok(())
}

#[test]
fn its_own_cost_is_one_of_its_metrics() {
    let command = &mut lockstep();
    let args =
        ["monitor", "--log", "none", "--metrics", "self", "--format", "json", "--count", "3", "--interval", "100ms"];
    let lines = json(run(command.args(args)));
    let last = &lines[2];
    assert!(last["self_cpu_pct"].as_f64().is_some_and(|percent| (0.0..=100.0).contains(&percent)), "{last}");
    assert!(whole(last, "self_rss_bytes") > 1 << 20, "{last}");
    let (cpu_s, sample_s) = (last["self_cpu_seconds"].as_f64().unwrap(), last["self_sample_seconds"].as_f64().unwrap());
    assert!(cpu_s > 0.0 && sample_s > 0.0 && sample_s < 1.0, "{last}");
    assert!(last.get("cpu_busy_pct").is_none(), "only what was chosen");
}
