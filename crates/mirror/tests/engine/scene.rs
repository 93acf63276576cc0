//! Scratch trees made and compared with plain file calls, never with the code under test.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mirror::{Action, Mirror, MirrorError, MirrorOptions, Outcome};
use tree::RelPath;

/// For who had the lock.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// A source and a destination in a directory of their own.
pub(crate) struct Scene {
    pub(crate) scratch: tempfile::TempDir,
}

/// What an independent walker sees at a path: kind, mode, time and content or target.
pub(crate) type Seen = BTreeMap<Vec<u8>, (char, u32, i64, i64, Vec<u8>)>;

impl Scene {
    pub(crate) fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("s")).unwrap();
        fs::create_dir(scratch.path().join("d")).unwrap();
        Self { scratch }
    }

    pub(crate) fn s(&self, path: &str) -> PathBuf {
        self.scratch.path().join("s").join(path)
    }

    pub(crate) fn d(&self, path: &str) -> PathBuf {
        self.scratch.path().join("d").join(path)
    }

    pub(crate) fn open(&self) -> Mirror {
        self.open_with(&MirrorOptions::default())
    }

    pub(crate) fn run(&self) -> Outcome {
        self.open().once(&mut |_| {})
    }

    fn open_with(&self, options: &MirrorOptions) -> Mirror {
        open(&self.s(""), &self.d(""), options).unwrap()
    }

    /// Mirrors, and gives each result as a word and a path.
    pub(crate) fn told(&self, options: MirrorOptions) -> (Outcome, Vec<(Action, String)>) {
        let mut told = Vec::new();
        let mut mirror = self.open_with(&options);
        let outcome = mirror.once(&mut |event| told.push((event.action, event.path.to_string())));
        (outcome, told)
    }

    pub(crate) fn assert_equal(&self) {
        let (s, d) = (look(&self.s("")), look(&self.d("")));
        for path in s.keys().chain(d.keys()) {
            let shown = String::from_utf8_lossy(path);
            if s.get(path) != d.get(path) {
                let tell = |seen: Option<&(char, u32, i64, i64, Vec<u8>)>| {
                    seen.map(|(kind, mode, s, ns, content)| {
                        let head = String::from_utf8_lossy(&content[..content.len().min(40)]).into_owned();
                        format!("{kind} {mode:o} {s}.{ns} {} bytes: {head:?}", content.len())
                    })
                };
                panic!("at {shown:?}: source {:?}, destination {:?}", tell(s.get(path)), tell(d.get(path)));
            }
        }
    }
}

/// The lock of a mirror before may last a moment longer: what another test starts has a copy of all descriptors until it is the
/// program that it is to be.
pub(crate) fn open(source: &Path, dest: &Path, options: &MirrorOptions) -> Result<Mirror, MirrorError> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match Mirror::open(source, dest, options.clone()) {
            Err(MirrorError::Busy(_)) if Instant::now() < deadline => std::thread::yield_now(),
            opened => return opened,
        }
    }
}

pub(crate) fn rel(path: &str) -> RelPath {
    RelPath::new(path.as_bytes()).unwrap()
}

pub(crate) fn look(root: &Path) -> Seen {
    let mut seen = Seen::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let (kind, mode, content) = if meta.is_dir() {
            for entry in fs::read_dir(&full).unwrap() {
                todo.push(path.join(entry.unwrap().file_name()));
            }
            ('d', meta.mode() & 0o1777, Vec::new())
        } else if meta.is_symlink() {
            ('l', 0, fs::read_link(&full).unwrap().as_os_str().as_bytes().to_vec())
        } else if meta.is_file() {
            ('f', meta.mode() & 0o1777, fs::read(&full).unwrap())
        } else {
            ('?', 0, Vec::new())
        };
        seen.insert(path.as_os_str().as_bytes().to_vec(), (kind, mode, meta.mtime(), meta.mtime_nsec(), content));
    }
    seen
}

/// Sets mode and time of what stands at `path`; a link only gets the time.
pub(crate) fn stamp(path: &Path, mode: u32, mtime_ns: i64) {
    if !fs::symlink_metadata(path).unwrap().is_symlink() {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let time = rustix::fs::Timespec {
        tv_sec: mtime_ns.div_euclid(1_000_000_000),
        tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
    };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A kind of entry, made at a path where nothing stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Make {
    Nothing,
    File,
    Empty,
    Executable,
    EmptyDir,
    FullDir,
    Link,
    Broken,
}

impl Make {
    pub(crate) const ALL: [Make; 8] = [
        Make::Nothing,
        Make::File,
        Make::Empty,
        Make::Executable,
        Make::EmptyDir,
        Make::FullDir,
        Make::Link,
        Make::Broken,
    ];

    pub(crate) fn at(self, path: &Path) {
        match self {
            Make::Nothing => return,
            Make::File => fs::write(path, "content").unwrap(),
            Make::Empty => fs::write(path, "").unwrap(),
            Make::Executable => fs::write(path, "#!/bin/sh\n").unwrap(),
            Make::EmptyDir => fs::create_dir(path).unwrap(),
            Make::FullDir => {
                fs::create_dir_all(path.join("in/deep")).unwrap();
                fs::write(path.join("a"), "a").unwrap();
                fs::write(path.join("in/deep/b"), "b").unwrap();
                symlink("../a", path.join("in/l")).unwrap();
            }
            Make::Link => symlink(".", path).unwrap(),
            Make::Broken => symlink(OsStr::from_bytes(b"no\xffwhere"), path).unwrap(),
        }
        let mode = if matches!(self, Make::Executable) { 0o755 } else { 0o640 };
        let mode = if path.is_dir() && !path.is_symlink() { 0o750 } else { mode };
        stamp(path, mode, 1_234_567_890_123_456_789);
    }
}

/// What a source of a test leaves to the one of the disk that it stands before.
macro_rules! as_the_disk {
    ($($what:ident)*) => { $(crate::scene::as_the_disk!(@ $what);)* };
    (@ list) => {
        fn list(&mut self, dir: &tree::RelPath) -> Result<Vec<(tree::Name, mirror::Want)>, mirror::Problem> {
            self.0.list(dir)
        }
    };
    (@ rest) => {
        fn entry(&mut self, path: &tree::RelPath) -> Result<Option<mirror::Want>, mirror::Problem> {
            self.0.entry(path)
        }
        fn same(
            &mut self,
            path: &tree::RelPath,
            want: &mirror::WantFile,
            found: &tree::Stat,
            dir: &tree::Dir,
            name: &tree::Name,
            look: mirror::Look,
        ) -> Result<mirror::Same, mirror::Problem> {
            self.0.same(path, want, found, dir, name, look)
        }
        fn content(&mut self, path: &tree::RelPath, want: &mirror::WantFile) -> mirror::Supply {
            self.0.content(path, want)
        }
    };
}
pub(crate) use as_the_disk;
