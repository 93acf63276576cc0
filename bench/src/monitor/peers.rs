//! Who takes part, how each is started, and which of them are here.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use support::{PATIENCE, Proc, lockstep, workspace};

use crate::peers::{built, find};

/// The programs that are here.
pub(super) struct Peers {
    dir: PathBuf,
    floor: PathBuf,
    scan_floor: PathBuf,
    clock: PathBuf,
    python: Option<PathBuf>,
    vmstat: Option<PathBuf>,
    sadc: Option<PathBuf>,
    collectd: Option<PathBuf>,
    node_exporter: Option<PathBuf>,
}

/// One that samples at an interval.
#[derive(Clone)]
pub(super) struct Loop {
    pub(super) name: &'static str,
    /// Started so that it writes to this log.
    pub(super) command: Rc<dyn Fn(&Path) -> Command>,
    /// A sample is a line.
    pub(super) lines: bool,
    pub(super) on_stdout: bool,
}

/// One that measures when it is asked.
#[derive(Clone)]
pub(super) struct Scraped {
    pub(super) name: &'static str,
    pub(super) command: Rc<dyn Fn() -> Command>,
    pub(super) address: Rc<dyn Fn(&Proc) -> SocketAddr>,
}

impl Peers {
    /// Looks for them, and says which are missing.
    pub(super) fn found(dir: &Path) -> Result<(Self, Vec<String>)> {
        let mut notes = Vec::new();
        let mut program = |name: &str| {
            let found = find(name);
            if found.is_none() {
                notes.push(format!("{name} is not here and was left out; make peers gets it"));
            }
            found
        };
        let [vmstat, sadc, collectd] = ["vmstat", "sadc", "collectd"].map(&mut program);
        let node_exporter = find("node_exporter").or_else(|| program("prometheus-node-exporter"));
        let python = workspace().join("target/venv/bin/python");
        let mut import = Command::new(&python);
        import.args(["-c", "import psutil"]).stdout(Stdio::null()).stderr(Stdio::null());
        let python = import.status().is_ok_and(|status| status.success()).then_some(python);
        if python.is_none() {
            notes.push("psutil is not here and was left out; make test gets it".into());
        }
        let [floor, scan_floor, clock] = ["monitor_floor", "scan_floor", "cpu_clock"].map(|name| built(name, dir));
        let (floor, scan_floor, clock) = (floor?, scan_floor?, clock?);
        Ok((
            Self { dir: dir.to_owned(), floor, scan_floor, clock, python, vmstat, sadc, collectd, node_exporter },
            notes,
        ))
    }

    /// Microseconds of CPU that a process used so far.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn cpu_us(&self, process: &Proc) -> Result<f64> {
        let output = Command::new(&self.clock).arg(process.pid().as_raw_nonzero().to_string()).output();
        let output = output.context("cannot start cpu_clock")?;
        let said = String::from_utf8_lossy(&output.stdout).trim().parse::<f64>();
        let gone = || format!("{}{}", String::from_utf8_lossy(&output.stderr), process.output().join("\n"));
        Ok(said.with_context(gone)? / 1e3)
    }

    /// A script with psutil that looks at all processes, as often as its last argument will say.
    pub(super) fn psutil_scan(&self) -> Option<Command> {
        let mut script = Command::new(self.python.as_ref()?);
        script.arg(workspace().join("bench/peers/monitor_psutil.py")).arg("scan");
        Some(script)
    }

    /// The same in C.
    pub(super) fn scan_floor(&self) -> Command {
        Command::new(&self.scan_floor)
    }

    /// Those that sample every so often; the C program first.
    pub(super) fn loops(&self, interval: Duration) -> Vec<Loop> {
        let ms = interval.as_millis().to_string();
        let floor = (self.floor.clone(), ms.clone());
        let mut loops = vec![
            line("C program", move |log| {
                let mut command = Command::new(&floor.0);
                command.arg(log).args([&floor.1, "1000000"]);
                command
            }),
            ours("lockstep", "text", &ms, None),
            ours("lockstep, CSV", "csv", &ms, None),
            ours("lockstep, JSON", "json", &ms, None),
            ours("lockstep, and a history", "text", &ms, Some(self.dir.join("history"))),
        ];
        if let Some(python) = self.python.clone() {
            loops.push(line("psutil", move |log| {
                let mut script = Command::new(&python);
                script.arg(workspace().join("bench/peers/monitor_psutil.py")).arg(log).arg(&ms);
                script
            }));
        }
        if interval < Duration::from_secs(1) {
            return loops;
        }
        // These have no shorter interval, or are not made for one.
        if let Some(vmstat) = self.vmstat.clone() {
            let command = move |_: &Path| {
                let mut command = Command::new(&vmstat);
                command.args(["-n", "1"]);
                command
            };
            loops.push(Loop { name: "vmstat", command: Rc::new(command), lines: true, on_stdout: true });
        }
        if let Some(sadc) = self.sadc.clone() {
            let command = move |log: &Path| {
                let mut command = Command::new(&sadc);
                command.args(["1", "1000000"]).arg(log);
                command
            };
            loops.push(Loop { name: "sadc", command: Rc::new(command), lines: false, on_stdout: false });
        }
        if let Some(collectd) = self.collectd.clone() {
            let dir = self.dir.clone();
            let command = move |_: &Path| collectd_at(&collectd, &dir);
            loops.push(Loop { name: "collectd", command: Rc::new(command), lines: false, on_stdout: false });
        }
        loops
    }

    /// Those that are asked over HTTP.
    pub(super) fn scraped(&self) -> Vec<Scraped> {
        let ours = || {
            let mut command = lockstep();
            command.args(["monitor", "--log", "none", "--quiet", "--interval", "24h", "--prometheus", "0"]);
            command
        };
        let bound = |process: &Proc| {
            let line = process.wait_for_line("metrics: http://", PATIENCE);
            let address = line.trim_start_matches("metrics: http://").trim_end_matches("/metrics").parse();
            address.expect("an address is in that line")
        };
        let mut scraped =
            vec![Scraped { name: "lockstep --prometheus", command: Rc::new(ours), address: Rc::new(bound) }];
        let Some(exporter) = &self.node_exporter else { return scraped };
        const TWO: &[&str] = &["--collector.disable-defaults", "--collector.cpu", "--collector.meminfo"];
        for (name, collectors) in [("node_exporter, cpu and meminfo", TWO), ("node_exporter, its defaults", &[])] {
            let (exporter, address) = (exporter.clone(), free_address());
            let command = move || {
                let mut command = Command::new(&exporter);
                command.args(collectors).arg(format!("--web.listen-address={address}"));
                command
            };
            scraped.push(Scraped { name, command: Rc::new(command), address: Rc::new(move |_| address) });
        }
        scraped
    }
}

fn line(name: &'static str, command: impl Fn(&Path) -> Command + 'static) -> Loop {
    Loop { name, command: Rc::new(command), lines: true, on_stdout: false }
}

fn ours(name: &'static str, format: &'static str, ms: &str, history: Option<PathBuf>) -> Loop {
    let interval = format!("{ms}ms");
    line(name, move |log| {
        let mut command = lockstep();
        command.args(["monitor", "--quiet", "--format", format, "--interval", &interval, "--log"]).arg(log);
        if let Some(history) = &history {
            command.arg("--history").arg(history);
        }
        command
    })
}

/// A collectd with CPU and memory into CSV files, below `dir`.
fn collectd_at(collectd: &Path, dir: &Path) -> Command {
    let root = collectd.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    let settings = format!(
        "BaseDir \"{0}\"\nPIDFile \"{0}/collectd.pid\"\nPluginDir \"{1}/lib/collectd\"\nTypesDB \"{1}/share/collectd/types.db\"\n\
         Interval 1\nLoadPlugin cpu\nLoadPlugin memory\nLoadPlugin csv\n<Plugin csv>\nDataDir \"{0}/collectd\"\n</Plugin>\n",
        dir.display(),
        root.display()
    );
    let file = dir.join("collectd.conf");
    fs::write(&file, settings).expect("the scratch directory can be written");
    let mut command = Command::new(collectd);
    command.arg("-f").arg("-C").arg(file);
    command
}

fn free_address() -> SocketAddr {
    let taken = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    taken.context("no free port").expect("the loopback has a free port")
}
