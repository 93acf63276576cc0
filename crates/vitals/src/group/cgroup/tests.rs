//! Control groups of either version, as directories of plain files.

use std::fs;

use super::*;
use crate::{clock::Instants, probe::Probe, schema::MetricSet};

/// A procfs whose mounts show control groups in the same scratch directory.
struct Scene {
    dir: tempfile::TempDir,
    probe: Probe,
    seconds: u64,
}

impl Scene {
    fn new(mounts: &str, membership: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mounts = mounts.replace("TOP", dir.path().to_str().unwrap());
        let scene = |name: &str, content: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        scene("proc/stat", "cpu 1 2 3 4\n");
        scene("proc/meminfo", "MemTotal: 1000 kB\n");
        scene("proc/self/mountinfo", &mounts);
        scene("proc/self/cgroup", membership);
        let probe = Probe::new(&dir.path().join("proc"), [Metric::Cgroup].into_iter().collect());
        Self { dir, probe, seconds: 0 }
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn take(&mut self) -> impl Fn(&str) -> Value + '_ {
        self.seconds += 1;
        let ns = self.seconds * 1_000_000_000;
        let frame = self.probe.take(Instants { wall_ns: 0, monotonic_ns: ns, boottime_ns: ns }).unwrap();
        |key| frame.get(key).unwrap_or_else(|| panic!("no column {key}"))
    }
}

#[test]
fn v2_is_read_with_the_tightest_limit_of_those_above() {
    let mut scene = Scene::new("41 31 0:38 / TOP/g rw - cgroup2 cgroup2 rw\n", "0::/a/b\n");
    scene.write("g/a/memory.max", "204800\n");
    scene.write("g/a/memory.current", "102400\n");
    scene.write("g/a/cpu.max", "50000 100000\n");
    scene.write("g/a/b/memory.max", "max\n");
    scene.write("g/a/b/memory.current", "81920\n");
    scene.write("g/a/b/memory.stat", "anon 1\ninactive_file 40960\ninactive_filex 3\n");
    scene.write("g/a/b/memory.events", "low 0\noom 2\noom_kill 1\n");
    scene.write("g/a/b/cpu.max", "max 100000\n");
    scene.write("g/a/b/cpu.stat", "usage_usec 1000000\nnr_throttled 3\nthrottled_usec 500000\n");
    scene.write("g/a/b/cpu.pressure", "some avg10=0.00 total=0\n");
    {
        let get = scene.take();
        assert_eq!(get("cgroup_version"), Value::Word("v2"));
        assert_eq!(get("cgroup_mem_used_bytes"), Value::Whole(40_960));
        assert_eq!(get("cgroup_mem_limit_bytes"), Value::Whole(204_800));
        assert_eq!(get("cgroup_mem_limit_pct"), Value::Real(50.0), "of the group that has the limit");
        assert_eq!(get("cgroup_oom_kills"), Value::Whole(1));
        assert_eq!(get("cgroup_cpu_limit_cpus"), Value::Real(0.5));
        assert_eq!(
            (get("cgroup_cpu_throttled"), get("cgroup_cpu_throttled_seconds")),
            (Value::Whole(3), Value::Real(0.5))
        );
        assert_eq!(get("cgroup_cpu_pct").missing().unwrap().key(), "first_sample");
    }
    scene.write("g/a/b/cpu.stat", "usage_usec 1250000\nnr_throttled 3\nthrottled_usec 500000\n");
    scene.write("g/a/b/cpu.pressure", "some avg10=0.00 total=100000\n");
    {
        let get = scene.take();
        assert_eq!((get("cgroup_cpu_pct"), get("cgroup_cpu_limit_pct")), (Value::Real(25.0), Value::Real(50.0)));
        assert_eq!(get("cgroup_psi_cpu_some_pct"), Value::Real(10.0));
        assert_eq!(get("cgroup_psi_io_some_pct"), Value::Missing(Missing::NotTold));
    }
    // Moved to another group: what was counted there is no baseline here.
    scene.write("g/c/memory.current", "4096\n");
    scene.write("g/c/memory.stat", "inactive_file 8192\n");
    scene.write("g/c/cpu.stat", "usage_usec 9000000\n");
    scene.write("proc/self/cgroup", "0::/c\n");
    let get = scene.take();
    assert_eq!(get("cgroup_cpu_pct").missing().unwrap().key(), "appeared");
    assert_eq!((get("cgroup_mem_used_bytes"), get("cgroup_cpu_seconds")), (Value::Whole(0), Value::Real(9.0)));
    assert_eq!(get("cgroup_mem_limit_bytes"), Value::Missing(Missing::NoLimit));
}

#[test]
fn a_hybrid_machine_is_read_in_v1_and_its_huge_number_is_no_limit() {
    let mounts = "35 31 0:32 / TOP/memory rw - cgroup cgroup rw,memory\n33 31 0:30 / TOP/cpu rw - cgroup cgroup rw,cpu\n\
                  34 31 0:31 / TOP/acct rw - cgroup cgroup rw,cpuacct\n41 31 0:38 / TOP/unified rw - cgroup2 cgroup2 rw\n";
    let mut scene = Scene::new(mounts, "4:memory:/m\n2:cpuacct:/\n1:cpu:/\n0::/\n");
    scene.write("memory/memory.limit_in_bytes", "9223372036854771712\n");
    scene.write("memory/m/memory.limit_in_bytes", "9223372036854771712\n");
    scene.write("memory/m/memory.usage_in_bytes", "65536\n");
    scene.write("memory/m/memory.stat", "inactive_file 1\ntotal_inactive_file 16384\n");
    scene.write("memory/m/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
    scene.write("cpu/cpu.cfs_quota_us", "-1\n");
    scene.write("cpu/cpu.cfs_period_us", "100000\n");
    scene.write("cpu/cpu.stat", "nr_periods 0\nnr_throttled 2\nthrottled_time 1500000000\n");
    scene.write("acct/cpuacct.usage", "7000000000\n");
    fs::create_dir_all(scene.dir.path().join("unified")).unwrap();
    let get = scene.take();
    assert_eq!(get("cgroup_version"), Value::Word("hybrid"));
    assert_eq!(get("cgroup_mem_used_bytes"), Value::Whole(49_152));
    assert_eq!(get("cgroup_mem_limit_bytes"), Value::Missing(Missing::NoLimit));
    assert_eq!(get("cgroup_oom_kills"), Value::Whole(4));
    assert_eq!(get("cgroup_cpu_limit_cpus"), Value::Missing(Missing::NoLimit));
    assert_eq!((get("cgroup_cpu_seconds"), get("cgroup_cpu_throttled_seconds")), (Value::Real(7.0), Value::Real(1.5)));
}

#[test]
fn without_control_groups_nothing_is_known_and_nothing_is_zero() {
    let mut scene = Scene::new("", "");
    let get = scene.take();
    for column in FIELDS {
        assert!(get(column.key).missing().is_some(), "{}", column.key);
    }
}

#[test]
fn the_machine_itself_can_be_asked() {
    let mut probe = Probe::new(Path::new("/proc"), MetricSet::all());
    let frame = probe.take(Instants::now()).unwrap();
    assert_eq!(frame.values.len(), frame.schema.columns().len());
    for key in ["uptime_seconds", "self_rss_bytes", "mem_total_bytes"] {
        assert!(frame.get(key).unwrap().number().unwrap() > 0.0, "{key}");
    }
}
