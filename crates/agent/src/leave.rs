//! Leaving a hub for good: the agent is stopped, the hub told, the key forgotten. The files stay.
//!
//! What can be done is done, whatever fails beside it: a hub that is gone keeps nobody from leaving. What was not done is
//! said, with what to do about it.

use crate::client::{Client, Target};
use crate::control::short_path;
use crate::dial::Trust;
use crate::disk::DiskError;
use crate::key::{Found, KeyError, KeyFile, Machine};
use crate::state::{self, DataDir, StateError, socket_path};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use wire::answer::Question;

/// An agent that was asked to stop has this long: it finishes what it is writing.
const STOP_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What came of leaving.
#[derive(Debug, Default)]
pub struct Left {
    /// Who this machine was, if its key said so.
    pub id: Option<u64>,
    /// Whether an agent ran and was stopped.
    pub stopped: bool,
    /// Whether the hub knows that it left.
    pub hub_told: bool,
    /// What was kept here, which stays.
    pub kept: Vec<PathBuf>,
    /// Temporaries that were removed from it.
    pub swept: usize,
    /// What was not done, each with what to do.
    pub not_done: Vec<String>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// Nobody ever joined here.
    #[error("there is nothing to leave: no agent ever joined a hub with its data in {}; name its directory with --data DIR", path.display())]
    Nothing {
        /// The data directory.
        path: PathBuf,
    },
    /// The agent that runs there does not end.
    #[error(
        "the agent with its data in {} did not end within {} s; nothing else was done: end it yourself (its process is \
         {process}) and try again",
        path.display(),
        STOP_MAX.as_secs()
    )]
    Runs {
        /// The data directory.
        path: PathBuf,
        /// Its process.
        process: String,
    },
    /// The data directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file of our own.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Leaves the hub that the agent with this data directory is a client of. `name` and `software` are what the hub is told.
///
/// # Errors
/// When there is nothing to leave, or the agent does not end. Where its own files cannot be removed: what was removed
/// until then is gone.
pub async fn leave(data_dir: &Path, name: &str, software: &str) -> Result<Left, LeaveError> {
    let memory = state::recall(data_dir)?;
    let key_file = KeyFile::new(data_dir, Machine::this());
    let nothing = memory == state::Memory::default() && !key_file.path().exists();
    if nothing {
        return Err(LeaveError::Nothing { path: data_dir.to_owned() });
    }
    let mut left = Left { stopped: stop(data_dir).await?, ..Left::default() };
    let revoke = |id: u64| format!("there, 'lockstep clients revoke {id}' does it");
    match key_file.read() {
        Ok(Found::Ours(key)) => {
            let id = key.unique_id.id();
            left.id = Some(id.get());
            let told = async {
                let mut why = "no address of the hub is known".to_owned();
                for address in &memory.addresses {
                    let target = Target::Hub {
                        address: address.clone(),
                        trust: Trust::Known(key.hub),
                        id: Some(id),
                        invite: None,
                        name: name.to_owned(),
                        key_dir: data_dir.to_owned(),
                    };
                    let asked = match Client::connect(target, software).await {
                        Ok(mut client) => client.ask(Question::Leave).await.map(drop),
                        Err(error) => Err(error),
                    };
                    match asked {
                        Ok(()) => return Ok(()),
                        Err(error) => why = format!("{address}: {error}"),
                    }
                }
                Err(why)
            };
            match told.await {
                Ok(()) => left.hub_told = true,
                Err(why) => left
                    .not_done
                    .push(format!("the hub was not told and still knows client {id} ({why}); {}", revoke(id.get()))),
            }
        }
        Ok(Found::Copied { id, why }) => {
            left.id = Some(id.get());
            left.not_done.push(format!("the hub was not told, as the key here is not this machine's: {why}"));
        }
        Ok(Found::Nothing) => {}
        Err(error) => left.not_done.push(format!(
            "the hub was not told and still knows this machine ({error}); 'lockstep clients revoke' there does it"
        )),
    }
    // From here on no agent can start.
    let directory = DataDir::open(data_dir)?;
    directory.forget()?;
    for (_, kept) in memory.shares.iter().chain(&memory.values) {
        left.kept.push(kept.clone());
        match mirror::sweep::sweep(kept) {
            Ok(Some(swept)) => {
                left.swept += swept.removed;
                let not = |problem| format!("a temporary file stays in {}: {problem}", kept.display());
                left.not_done.extend(swept.problems.iter().map(not));
            }
            Ok(None) => left.not_done.push(format!("{} was not swept: somebody else keeps it", kept.display())),
            Err(error) if error.is_missing() => {}
            Err(error) => left.not_done.push(format!("{} was not swept: {error}", kept.display())),
        }
    }
    Ok(left)
}

/// Ends the agent that runs on the directory, if one does, and waits until it has.
async fn stop(data_dir: &Path) -> Result<bool, LeaveError> {
    let began = Instant::now();
    let mut asked: Option<Pid> = None;
    loop {
        match DataDir::open(data_dir) {
            Ok(_free) => return Ok(asked.is_some()),
            Err(StateError::InUse { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // Also a command that is logged in from there has it for a moment; that one listens nowhere.
        if asked.is_none()
            && let Some(process) = listening(data_dir).await?
        {
            asked = end(data_dir, process).await?;
        }
        if began.elapsed() >= STOP_MAX {
            let process = asked.map_or_else(|| "not known".to_owned(), |pid| pid.as_raw_nonzero().to_string());
            return Err(LeaveError::Runs { path: data_dir.to_owned(), process });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The process that serves the directory's socket.
async fn listening(data_dir: &Path) -> Result<Option<Pid>, LeaveError> {
    let socket = socket_path(data_dir);
    let (_dir, short) = short_path(&socket)?;
    let Ok(stream) = UnixStream::connect(short).await else { return Ok(None) };
    let peer = stream.peer_cred().map_err(|e| DiskError::new("look who serves", &socket, e))?;
    Ok(peer.pid().and_then(Pid::from_raw))
}

/// Asks the process to end, if it still is the one that serves the directory: it is held before it is looked at again, so
/// the number cannot be another's by then.
async fn end(data_dir: &Path, process: Pid) -> Result<Option<Pid>, LeaveError> {
    let failed = |e: rustix::io::Errno| DiskError::new("end the agent that serves", socket_path(data_dir), e);
    let held = match pidfd_open(process, PidfdFlags::empty()) {
        Ok(held) => held,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(e) => return Err(failed(e).into()),
    };
    if listening(data_dir).await? != Some(process) {
        return Ok(None);
    }
    match pidfd_send_signal(&held, Signal::TERM) {
        Ok(()) => Ok(Some(process)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(e) => Err(failed(e).into()),
    }
}
