//! This machine while it works: the numbers are those of psutil and of free.

use super::*;

#[test]
fn m1_1_m1_2_under_a_stepped_load_raw_counters_lie_between_psutils_reads() {
    let mut script = Command::new(python());
    script.arg(workspace().join("tests/python/vitals_live.py")).arg(support::binary());
    let output = run(script.arg(pick(3, 60).to_string()));
    assert!(String::from_utf8_lossy(&output.stdout).contains("rounds"));
}

#[test]
fn everything_can_be_measured_at_once_and_each_null_has_its_reason() {
    let command = &mut lockstep();
    command.args(["monitor", "--log", "none", "--metrics", "all", "--process-interval", "1s", "--interval", "500ms"]);
    let lines = json(run(command.args(["--count", "6", "--format", "json"])));
    let last = lines.last().unwrap().as_object().unwrap();
    let reasons = last["null_reasons"].as_object().cloned().unwrap_or_default();
    for (key, value) in last {
        let without_need = ["null_reasons", "cpu_null_reason"].contains(&key.as_str());
        assert_eq!(value.is_null() && !without_need, reasons.contains_key(key), "{key}: {value}");
    }
    for key in ["cpu0_busy_pct", "uptime_seconds", "processes", "top_cpu1_pct", "top_mem1_rss_bytes", "self_cpu_pct"] {
        assert!(last[key].is_number(), "{key}: {} ({:?})", last[key], reasons.get(key));
    }
    assert!(last["top_cpu1_name"].is_string() && last.keys().any(|key| key.starts_with("net_lo_")));
}

#[test]
fn help_explains_every_number_in_one_line_with_its_source() {
    let output = run(lockstep().args(["monitor", "--metrics", "help"]));
    let listing = String::from_utf8(output.stdout).unwrap();
    let args = ["monitor", "--log", "none", "--metrics", "all", "--count", "1", "--format", "json"];
    let line = json(run(lockstep().args(args))).remove(0);
    for key in line.as_object().unwrap().keys().filter(|key| *key != "null_reasons") {
        let explained = listing.lines().filter(|line| line.split_whitespace().next() == Some(key)).count();
        assert!(explained >= 1, "{key} is not explained");
    }
    assert!(listing.lines().filter(|line| line.starts_with("  ")).all(|line| line.ends_with(']')), "{listing}");
}
