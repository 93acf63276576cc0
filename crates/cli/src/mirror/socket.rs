//! The socket at which a running mirror tells how its pairs stand, and who asks there.
//!
//! Each mirror has one, under a name of its own in one directory, so that all that run are found together. Who may open
//! it is decided by the file system (0600 in a 0700 directory) and looked at again on each connection. An answer is a
//! copy of what the pairs last said of themselves: a pair that hangs keeps nobody waiting.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::standing::Process;

/// What the names of the sockets end with; until one can be connected to it ends with something else.
const SUFFIX: &str = "sock";
/// An answer that is not taken within this time is dropped.
const TAKE_MAX: Duration = Duration::from_secs(1);
/// How long one waits for the answer of all of them.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(5);
/// The longest answer that is read: thousands of pairs with all that is told of each.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Most sockets that are asked.
const SOCKETS_MAX: usize = 1_024;
/// No directory of ours is open to others while it holds this; see [`tree::private::make`].
const MARK: &str = "mirror";

/// A socket that is served, and gone with this value.
#[derive(Debug)]
pub(super) struct Served {
    path: PathBuf,
    id: (u64, u64),
}

impl Served {
    /// Serves what `answer` says, in a thread of its own. What killed mirrors left in `dir` is removed.
    ///
    /// # Errors
    /// When the directory is not this user's alone, or no socket can be made in it.
    pub(super) fn start(dir: &Path, answer: impl Fn() -> Process + Send + 'static) -> anyhow::Result<Self> {
        tree::private::make(dir, MARK)?;
        for socket in sockets(dir)? {
            if connect(&socket).is_err_and(|error| error == Errno::CONNREFUSED) {
                remove(&socket);
            }
        }
        // Of a temporary name what is random in it.
        let name = tree::at::TempNames::new().next_name().to_string();
        let name = name.rsplit('-').next().unwrap_or_default().to_owned();
        let path = dir.join(&name).with_extension(SUFFIX);
        let listener = bind(dir, &name, &path)
            .map_err(|error| anyhow::Error::new(error).context(format!("cannot make a socket in {}", dir.display())))?;
        let meta = std::fs::symlink_metadata(&path)?;
        let served = Self { path, id: (meta.dev(), meta.ino()) };
        std::thread::Builder::new().name("status".into()).spawn(move || serve(&listener, &answer))?;
        Ok(served)
    }

    /// Device and inode of the socket.
    pub(super) fn id(&self) -> (u64, u64) {
        self.id
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(%error, "{} stays", path.display());
        }
        _ => {}
    }
}

/// Only once it can be connected to it gets the name by which it is looked for.
fn bind(dir: &Path, name: &str, path: &Path) -> io::Result<UnixListener> {
    let (_held, short) = short_path(&dir.join(name))?;
    let listener = UnixListener::bind(&short)?;
    let named = std::fs::set_permissions(&short, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(dir.join(name), path));
    match named {
        Ok(()) => Ok(listener),
        Err(error) => {
            remove(&dir.join(name));
            Err(error)
        }
    }
}

/// A way to a socket however long its path is: a socket's own path has at most 107 bytes. Hold the descriptor while the
/// path is used.
fn short_path(socket: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    Ok((dir, path))
}

fn serve(listener: &UnixListener, answer: &dyn Fn() -> Process) {
    for stream in listener.incoming() {
        let told = stream.and_then(|stream| tell(stream, answer));
        if let Err(error) = told {
            tracing::debug!(%error, "a question for the status was not answered");
            // One that fails at once, as where no descriptor is left, is not asked again and again.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn tell(mut stream: UnixStream, answer: &dyn Fn() -> Process) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(&stream)?;
    if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
        tracing::warn!(uid = peer.uid.as_raw(), "another user's question for the status was refused");
        return Ok(());
    }
    stream.set_write_timeout(Some(TAKE_MAX))?;
    let mut text = serde_json::to_vec(&answer())?;
    text.push(b'\n');
    stream.write_all(&text)
}

/// What came of asking one mirror.
#[derive(Debug)]
pub(crate) enum Asked {
    /// How its pairs stand.
    Answered(Process),
    /// It is there and did not say, for this reason.
    Silent(String),
}

/// Asks all mirrors whose sockets are in `dir`; none if there is no such directory.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn ask_all(dir: &Path) -> anyhow::Result<Vec<Asked>> {
    let until = Instant::now() + ANSWER_MAX;
    let mut asked = Vec::new();
    for socket in sockets(dir)? {
        match connect(&socket) {
            Ok(stream) => asked.push(read(stream, until)),
            // Left by one that was killed, or gone by now.
            Err(Errno::CONNREFUSED | Errno::NOENT) => {}
            Err(Errno::AGAIN) => asked.push(Asked::Silent("a mirror runs there and answers nobody".into())),
            Err(error) => asked.push(Asked::Silent(format!("cannot ask at {}: {error}", socket.display()))),
        }
    }
    Ok(asked)
}

fn sockets(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot look into {}", dir.display()))),
    };
    let mut found = Vec::new();
    for entry in entries.take(SOCKETS_MAX) {
        let entry = entry?;
        let path = entry.path();
        if path.extension() == Some(OsStr::new(SUFFIX)) && entry.file_type().is_ok_and(|kind| kind.is_socket()) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Connects without waiting for room, which a process that is stopped never has.
fn connect(socket: &Path) -> Result<UnixStream, Errno> {
    let failed = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let (_held, short) = short_path(socket).map_err(failed)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(&short)?)?;
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false).map_err(failed)?;
    Ok(stream)
}

fn read(mut stream: UnixStream, until: Instant) -> Asked {
    let pid = rustix::net::sockopt::socket_peercred(&stream).map(|peer| peer.pid.as_raw_nonzero().get());
    let whose = pid.map_or_else(|_| "a mirror".to_owned(), |pid| format!("the mirror of process {pid}"));
    let mut text = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let silent = |why: String| Asked::Silent(format!("{whose} {why}"));
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return silent(format!("does not answer within {} s", ANSWER_MAX.as_secs()));
        }
        let n = stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut buffer));
        match n {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&buffer[..n]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return silent(format!("cannot be asked: {error}")),
        }
        if text.len() as u64 > ANSWER_BYTES_MAX {
            return silent(format!("answers with more than {ANSWER_BYTES_MAX} bytes"));
        }
    }
    match serde_json::from_slice(&text) {
        Ok(process) => Asked::Answered(process),
        Err(_) if text.is_empty() => silent("is ending, or another user's".into()),
        Err(error) => silent(format!("answers what is not understood ({error}); is it another release?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        Process { version: "1".into(), pid: 7, started_at: "now".into(), pairs: Vec::new() }
    }

    #[test]
    fn all_that_run_are_found_and_what_a_killed_one_left_is_not_in_the_way() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("d".repeat(100)).join("status");
        assert!(ask_all(&dir).unwrap().is_empty(), "there is no directory yet");
        let one = Served::start(&dir, process).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&one.path)), (0o700, 0o600));
        let left = dir.join("left.sock");
        let (_held, short) = short_path(&left).unwrap();
        drop(UnixListener::bind(short).unwrap());
        let answered = |n: usize| {
            let asked = ask_all(&dir).unwrap();
            assert!(asked.len() == n && asked.iter().all(|asked| matches!(asked, Asked::Answered(_))), "{asked:?}");
        };
        answered(1);
        let two = Served::start(&dir, process).unwrap();
        assert!(!left.exists());
        answered(2);
        drop((one, two));
        answered(0);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    }

    #[test]
    fn one_that_does_not_answer_is_told_and_waited_for_no_longer_than_that() {
        let scratch = tempfile::tempdir().unwrap();
        let (_held, short) = short_path(&scratch.path().join("deaf.sock")).unwrap();
        let _deaf = UnixListener::bind(short).unwrap();
        let began = Instant::now();
        let asked = ask_all(scratch.path()).unwrap();
        assert!(matches!(&asked[..], [Asked::Silent(why)] if why.contains("does not answer")), "{asked:?}");
        assert!(began.elapsed() < ANSWER_MAX * 4);
    }
}
