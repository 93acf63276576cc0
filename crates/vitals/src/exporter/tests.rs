//! Pages of written trees, and what a dashboard relies on.

use std::fs;

use super::*;

fn tree(stat: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("stat"), stat).unwrap();
    fs::write(dir.path().join("meminfo"), "MemTotal: 8 kB\nActive(anon): 2 kB\nHugePages_Total: 3\nBad key: 1 kB\n")
        .unwrap();
    dir
}

fn page(exporter: &mut Exporter, flavour: Flavour) -> String {
    let mut out = Vec::new();
    exporter.page(flavour, &Instants::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn names_types_and_units_are_node_exporters() {
    let dir = tree(
        "cpu 1 2 3 4 5 6 7 8 9 10\ncpu3 100 200 300 400 500 600 700 800 900 1000\nintr 42 1 1\nctxt 7\nbtime 5\nprocesses 9\n",
    );
    fs::write(dir.path().join("diskstats"), "8 0 sda 1 2 3 4000 5 6 7 8 9 10 11\n8 1 sda1 1 1 1 1 1 1 1 1 1 1 1\n")
        .unwrap();
    fs::create_dir(dir.path().join("net")).unwrap();
    let header = "Inter-|   Receive\n face |bytes    packets errs\n";
    let dev = format!("{header}  e\"\n: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n").replace("\"\n:", "\":");
    fs::write(dir.path().join("net/dev"), dev).unwrap();
    let page = page(&mut Exporter::new(dir.path()), Flavour::Prometheus);
    for line in [
        "# TYPE node_cpu_seconds_total counter",
        "node_cpu_seconds_total{cpu=\"3\",mode=\"idle\"} 4",
        "node_cpu_seconds_total{cpu=\"3\",mode=\"steal\"} 8",
        "node_cpu_guest_seconds_total{cpu=\"3\",mode=\"user\"} 9",
        "node_memory_MemTotal_bytes 8192",
        "node_memory_Active_anon_bytes 2048",
        "node_memory_HugePages_Total 3",
        "node_intr_total 42",
        "# TYPE node_boot_time_seconds gauge",
        "node_disk_read_bytes_total{device=\"sda\"} 1536",
        "node_disk_read_time_seconds_total{device=\"sda\"} 4",
        "node_network_transmit_bytes_total{device=\"e\\\"\"} 9",
    ] {
        assert!(page.lines().any(|found| found == line), "no {line} in\n{page}");
    }
    assert!(!page.contains("sda1") && !page.contains("Bad key") && !page.contains("pressure"), "{page}");
    assert!(!page.contains("# EOF"));
}

#[test]
fn in_openmetrics_a_counters_family_has_no_total_and_the_page_an_end() {
    let dir = tree("cpu 1 2 3 4\ncpu0 1 2 3 4\n");
    let page = page(&mut Exporter::new(dir.path()), Flavour::OpenMetrics);
    assert!(
        page.contains("# TYPE node_cpu_seconds counter\nnode_cpu_seconds_total{cpu=\"0\",mode=\"idle\"}"),
        "{page}"
    );
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn a_counter_that_fell_a_little_stays_and_one_that_was_reset_begins_anew() {
    let dir = tree("cpu 0 0 0 0\ncpu0 0 0 0 1000 500\ncpu1 0 0 0 1000 500\n");
    let mut exporter = Exporter::new(dir.path());
    page(&mut exporter, Flavour::Prometheus);
    fs::write(dir.path().join("stat"), "cpu 0 0 0 0\ncpu0 1 0 0 900 400\ncpu1 1 0 0 600 400\n").unwrap();
    let told = page(&mut exporter, Flavour::Prometheus);
    for (cpu, idle, iowait, user) in [(0, "10", "5", "0.01"), (1, "6", "4", "0.01")] {
        for (mode, seconds) in [("idle", idle), ("iowait", iowait), ("user", user)] {
            let line = format!("node_cpu_seconds_total{{cpu=\"{cpu}\",mode=\"{mode}\"}} {seconds}");
            assert!(told.lines().any(|found| found == line), "no {line} in\n{told}");
        }
    }
    fs::write(dir.path().join("stat"), "cpu 0 0 0 0\ncpu1 1 0 0 601 400\n").unwrap();
    assert!(!page(&mut exporter, Flavour::Prometheus).contains("cpu=\"0\""), "offline: absent, not still");
}

#[test]
fn what_node_exporter_leaves_out_is_left_out() {
    for name in ["sda1", "vda12", "xvda1", "nvme0n1p1", "loop0", "ram3", "zram0", "hda1", "fd0"] {
        assert!(is_left_out(name.as_bytes()), "{name}");
    }
    for name in ["sda", "vdb", "nvme0n1", "dm-0", "md0", "mmcblk0p1", "sdaa1", "sr0"] {
        assert!(!is_left_out(name.as_bytes()), "{name}");
    }
}
