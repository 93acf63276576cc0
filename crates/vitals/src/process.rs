//! All processes, looked at once in a while: which use most CPU, which hold most memory.
//!
//! A process costs three system calls. Its room is kept from one scan to the next, so that a scan allocates nothing unless
//! there are more processes than ever before. Nothing here belongs on the path of a sample: a machine may have a hundred
//! thousand processes.

use std::{
    ffi::CStr,
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, RawDir, SeekFrom},
    io::Errno,
};

use crate::{
    clock::Instants, rates::SUSPEND_NS_MIN, sample::ticks_per_second, sampler::SampleError, schema::Name, stat::number,
};

/// How many processes are named, by CPU and by memory each.
pub const TOP: usize = 5;

/// The most processes that are looked at; Linux has at most 4,194,304 ids.
pub const PROCESSES_MAX: usize = 1 << 22;

/// Longer than any `/proc/PID/stat`: 52 numbers of up to 20 digits and a name.
const STAT_BYTES_MAX: usize = 2048;

/// Where it is, below a process, with the end that the kernel asks for.
const BELOW: &[u8] = b"/stat\0";

/// What is told of one process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// What the kernel calls it; any bytes, as the process itself can choose them.
    pub name: Name,
    /// CPU between the last two scans, 100 is one CPU. `None` at its first scan.
    pub cpu_pct: Option<f64>,
    /// Memory it holds resident.
    pub rss_bytes: u64,
}

/// What one scan found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Top {
    /// How many processes there are.
    pub count: u64,
    /// There was a scan before to compare with.
    pub baseline: bool,
    /// Those that used most CPU since the scan before, most first.
    pub by_cpu: [Option<Process>; TOP],
    /// Those that hold most memory, most first.
    pub by_memory: [Option<Process>; TOP],
}

/// What is kept of a process for the next scan.
#[derive(Debug, Clone, Copy)]
struct Seen {
    pid: u32,
    /// When it started: an id is given again to others.
    started: u64,
    ticks: u64,
}

/// Looks at all processes of one procfs.
#[derive(Debug)]
pub struct Scanner {
    procfs: PathBuf,
    directory: Option<OwnedFd>,
    older: Vec<Seen>,
    newer: Vec<Seen>,
    taken: Option<Instants>,
}

impl Scanner {
    /// A scanner of the tree at `procfs`. Nothing is opened before the first scan.
    pub fn new(procfs: &Path) -> Self {
        let procfs = procfs.to_owned();
        Self { procfs, directory: None, older: Vec::new(), newer: Vec::new(), taken: None }
    }

    /// Looks at every process. One that ends meanwhile, or that we may not look at, is passed over.
    ///
    /// # Errors
    /// When the directory cannot be listed. The next scan tries again.
    pub fn scan(&mut self, now: Instants) -> Result<Top, SampleError> {
        let unreadable = |path: &Path, error: Errno| SampleError::Unreadable {
            path: path.to_owned(),
            source: io::Error::from(error),
        };
        let directory = match self.directory.take() {
            Some(directory) => directory,
            None => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let opened = rustix::fs::open(&self.procfs, flags, Mode::empty());
                opened.map_err(|error| unreadable(&self.procfs, error))?
            }
        };
        rustix::fs::seek(&directory, SeekFrom::Start(0)).map_err(|error| unreadable(&self.procfs, error))?;
        std::mem::swap(&mut self.older, &mut self.newer);
        self.newer.clear();
        // Ids come in ascending order; whoever answers them in another gets the same by a search.
        if !self.older.is_sorted_by_key(|seen| seen.pid) {
            self.older.sort_unstable_by_key(|seen| seen.pid);
        }
        let seconds = self.taken.and_then(|then| seconds_between(&then, &now));
        let mut top = Top { count: 0, baseline: seconds.is_some(), by_cpu: [None; TOP], by_memory: [None; TOP] };
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut entries = RawDir::new(&directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|error| unreadable(&self.procfs, error))?;
            let id = entry.file_name().to_bytes();
            let Some(pid) = number(id).and_then(|pid| u32::try_from(pid).ok()) else { continue };
            if self.newer.len() >= PROCESSES_MAX {
                break;
            }
            let mut content = [MaybeUninit::uninit(); STAT_BYTES_MAX];
            let Some(read) = stat_of(&directory, id, &mut content) else { continue };
            let Some(found) = parse(read) else { continue };
            top.count += 1;
            let seen = Seen { pid, started: found.started, ticks: found.ticks };
            self.newer.push(seen);
            let process = Process {
                pid,
                name: Name::new(found.name),
                cpu_pct: seconds.and_then(|seconds| self.cpu_pct(seen, seconds)),
                rss_bytes: found.rss_bytes,
            };
            insert(&mut top.by_memory, process, |a, b| a.rss_bytes > b.rss_bytes);
            if process.cpu_pct.is_some() {
                insert(&mut top.by_cpu, process, |a, b| a.cpu_pct > b.cpu_pct);
            }
        }
        self.directory = Some(directory);
        self.taken = Some(now);
        Ok(top)
    }

    /// CPU of a process since the scan before; all it ever used if it started since then.
    fn cpu_pct(&self, seen: Seen, seconds: f64) -> Option<f64> {
        let older = self.older.binary_search_by_key(&seen.pid, |older| older.pid).ok().map(|at| self.older[at]);
        let before = older.filter(|older| older.started == seen.started).map_or(0, |older| older.ticks);
        let ticks = seen.ticks.checked_sub(before)?;
        Some(ticks as f64 * 100.0 / ticks_per_second() as f64 / seconds)
    }
}

fn seconds_between(then: &Instants, now: &Instants) -> Option<f64> {
    let ns = now.monotonic_ns.checked_sub(then.monotonic_ns).filter(|ns| *ns > 0)?;
    (now.suspended_since_ns(then) < SUSPEND_NS_MIN).then_some(ns as f64 / 1e9)
}

/// Puts `process` where it belongs among the first, if it does.
fn insert(top: &mut [Option<Process>; TOP], process: Process, more: fn(&Process, &Process) -> bool) {
    let Some(at) = top.iter().position(|other| other.as_ref().is_none_or(|other| more(&process, other))) else {
        return;
    };
    top[at..].rotate_right(1);
    top[at] = Some(process);
}

fn stat_of<'b>(directory: &OwnedFd, id: &[u8], content: &'b mut [MaybeUninit<u8>]) -> Option<&'b [u8]> {
    // An id has at most ten digits.
    let mut path = [0; 16];
    path.get_mut(..id.len())?.copy_from_slice(id);
    path.get_mut(id.len()..)?.get_mut(..BELOW.len())?.copy_from_slice(BELOW);
    let path = CStr::from_bytes_until_nul(&path).ok()?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = rustix::fs::openat(directory, path, flags, Mode::empty()).ok()?;
    let (read, _) = rustix::io::read(&file, content).ok()?;
    Some(read)
}

#[derive(Debug, PartialEq)]
struct Found<'a> {
    name: &'a [u8],
    ticks: u64,
    started: u64,
    rss_bytes: u64,
}

/// `PID (NAME) S ...`: a name can hold spaces, newlines and parentheses, so it ends at the last one.
fn parse(content: &[u8]) -> Option<Found<'_>> {
    let open = content.iter().position(|byte| *byte == b'(')?;
    let close = content.iter().rposition(|byte| *byte == b')')?;
    let name = content.get(open + 1..close)?;
    let mut words = content[close + 1..].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    // Behind the name: the state is the 3rd field of proc(5), user time the 14th, the start the 22nd, pages the 24th.
    let user = number(words.nth(11)?)?;
    let system = number(words.next()?)?;
    let started = number(words.nth(6)?)?;
    let pages = number(words.nth(1)?)?;
    let page_bytes = u64::try_from(rustix::param::page_size()).ok()?;
    Some(Found { name, ticks: user.checked_add(system)?, started, rss_bytes: pages.checked_mul(page_bytes)? })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(pid: u32, name: &str, ticks: u64, started: u64, pages: u64) -> String {
        format!("{pid} ({name}) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 {started} 4096 {pages} 0 0 0\n")
    }

    fn at(seconds: u64) -> Instants {
        let ns = seconds * 1_000_000_000;
        Instants { wall_ns: 0, monotonic_ns: ns, boottime_ns: ns }
    }

    #[test]
    fn a_name_can_hold_anything_and_a_cut_line_is_no_process() {
        let hostile = line(7, "a) S 1 (b\n) R", 5, 9, 2);
        let found = parse(hostile.as_bytes()).unwrap();
        assert_eq!((found.name, found.ticks, found.started), (&b"a) S 1 (b\n) R"[..], 5, 9));
        assert_eq!(found.rss_bytes, 2 * rustix::param::page_size() as u64);
        for cut in 0..hostile.rfind(" 4096 2").unwrap() + 6 {
            assert_eq!(parse(&hostile.as_bytes()[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn the_first_are_found_and_an_id_given_again_is_another_process() {
        let dir = tempfile::tempdir().unwrap();
        let put = |pid: u32, content: String| {
            fs::create_dir_all(dir.path().join(pid.to_string())).unwrap();
            fs::write(dir.path().join(format!("{pid}/stat")), content).unwrap();
        };
        fs::create_dir(dir.path().join("self")).unwrap();
        for pid in 1..=9 {
            put(pid, line(pid, &format!("p{pid}"), 1000, 5, u64::from(pid)));
        }
        let mut scanner = Scanner::new(dir.path());
        let first = scanner.scan(at(10)).unwrap();
        assert_eq!((first.count, first.baseline, first.by_cpu), (9, false, [None; TOP]));
        let pids = |top: [Option<Process>; TOP]| top.map(|process| process.map_or(0, |process| process.pid));
        assert_eq!(pids(first.by_memory), [9, 8, 7, 6, 5]);

        put(3, line(3, "p3", 1100, 5, 3));
        put(4, line(4, "new", 300, 77, 4));
        put(5, line(5, "p5", 900, 5, 5));
        fs::remove_dir_all(dir.path().join("9")).unwrap();
        let second = scanner.scan(at(12)).unwrap();
        let hz = ticks_per_second() as f64;
        let by_cpu =
            second.by_cpu.map(|process| process.map(|process| (process.pid, process.cpu_pct.unwrap() * hz / 100.0)));
        assert_eq!(by_cpu[..2], [Some((4, 150.0)), Some((3, 50.0))], "ticks a second");
        assert!(by_cpu[2..].iter().flatten().all(|(pid, ticks)| *pid != 5 && *ticks == 0.0), "{by_cpu:?}");
        assert_eq!((second.count, pids(second.by_memory)), (8, [8, 7, 6, 5, 4]));
    }

    #[test]
    fn the_machine_itself_can_be_scanned_and_we_are_in_it() {
        let mut scanner = Scanner::new(Path::new("/proc"));
        let top = scanner.scan(Instants::now()).unwrap();
        assert!(top.count > 0 && top.by_memory[0].is_some_and(|process| process.rss_bytes > 0));
        let own = std::process::id();
        assert!(scanner.newer.iter().any(|seen| seen.pid == own));
    }
}
