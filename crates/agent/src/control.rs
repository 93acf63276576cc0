//! The local socket: commands on this machine talk to the hub through the running agent and never log in beside it.
//!
//! Who may open it is decided by the file system (0600 in a 0700 directory) and looked at again on each connection. Of
//! what goes through it only the first frame is looked at; the rest is copied both ways.

use crate::conn::{ConnError, Incoming, Outgoing};
use crate::disk::DiskError;
use crate::login::{SessionLink, hello};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use wire::codec::{decode_to_hub, encode_frame};
use wire::limits::LOGIN_MAX;
use wire::message::{Code, Purpose, Refusal, ToClient, ToHub};

/// Commands served at the same time.
const COMMANDS_MAX: usize = 64;

/// A way to a socket however long its path is: a socket's own path has at most 107 bytes. Hold the descriptor while the
/// path is used.
pub(crate) fn short_path(socket: &Path) -> Result<(OwnedFd, PathBuf), DiskError> {
    let (parent, name) = match (socket.parent(), socket.file_name()) {
        (Some(parent), Some(name)) if !parent.as_os_str().is_empty() => (parent, name),
        (_, name) => (Path::new("."), name.unwrap_or_default()),
    };
    let dir = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| DiskError::new("open", parent, e))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    Ok((dir, path))
}

/// Opens the socket. One that is there was left by an agent that was killed: the data directory is locked by this one.
pub(crate) fn listen(socket: &Path) -> Result<UnixListener, DiskError> {
    let (_dir, path) = short_path(socket)?;
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(DiskError::new("replace", socket, e)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(|e| DiskError::new("listen on", socket, e))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .map_err(|e| DiskError::new("set the mode of", socket, e))?;
    Ok(listener)
}

/// The way to the hub.
#[derive(Clone)]
pub(crate) enum Link {
    /// It is logged in.
    Here(SessionLink),
    /// It is not, for this reason.
    Away(String),
}

/// Serves commands for ever.
pub(crate) async fn serve(listener: UnixListener, session: watch::Receiver<Link>) {
    let room = Arc::new(Semaphore::new(COMMANDS_MAX));
    let mut commands = JoinSet::new();
    loop {
        while commands.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let session = session.clone();
                commands.spawn(async move {
                    if let Err(error) = command(stream, session).await {
                        tracing::debug!("a command's connection ended: {error}");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::error!("a command's connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn command(stream: UnixStream, session: watch::Receiver<Link>) -> Result<(), ConnError> {
    let peer = stream.peer_cred()?;
    if peer.uid() != 0 && peer.uid() != rustix::process::geteuid().as_raw() {
        tracing::warn!(uid = peer.uid(), "another user's local connection was refused");
        return Ok(());
    }
    let link = session.borrow().clone();
    relay(stream, link).await
}

/// Serves one command over `stream`.
pub(crate) async fn relay<S>(stream: S, link: Link) -> Result<(), ConnError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (read, mut write) = tokio::io::split(stream);
    let mut incoming = Incoming::new(read);
    let body = tokio::time::timeout(LOGIN_MAX, incoming.next_body()).await;
    let Ok(Some(body)) = body.map_err(|_| ConnError::Silent { for_s: LOGIN_MAX.as_secs() })? else {
        return Ok(());
    };
    let ToHub::Hello { software, .. } = decode_to_hub(&body)? else {
        return Err(ConnError::Unexpected("a command that does not say hello"));
    };
    let opened = match &link {
        Link::Away(why) => {
            Err(format!("the agent on this machine is not connected to its hub: {why}; it tries again by itself"))
        }
        Link::Here(link) => match link.open().await {
            Ok(stream) => Ok((stream, link.token)),
            Err(error) => Err(format!("the agent on this machine cannot reach its hub: {error}")),
        },
    };
    let (hub, token) = match opened {
        Ok(opened) => opened,
        Err(text) => {
            let refusal = Refusal { code: Code::HubFailed, text, retry_ms: Some(1000) };
            write.write_all(&encode_frame(&ToClient::Refused(refusal))?).await?;
            return Ok(write.shutdown().await?);
        }
    };
    let (hub_read, hub_write) = tokio::io::split(hub);
    let mut outgoing = Outgoing::new(hub_write);
    outgoing.send(&hello(&software, Purpose::Relay { token })).await?;
    let (mut read, ahead) = incoming.into_parts();
    let (mut hub_read, mut hub_write) = (hub_read, outgoing.into_inner());
    hub_write.write_all(&ahead).await?;
    let there = async {
        tokio::io::copy(&mut read, &mut hub_write).await?;
        hub_write.shutdown().await
    };
    let back = async {
        tokio::io::copy(&mut hub_read, &mut write).await?;
        write.shutdown().await
    };
    // Whichever side ends first ends both: a command that has its answer does not wait for the other direction.
    tokio::select! {
        done = there => done?,
        done = back => done?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_is_told_when_the_agent_has_no_hub() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let serving = tokio::spawn(relay(theirs, Link::Away("the cable is out".into())));
        let (read, write) = tokio::io::split(ours);
        let (mut incoming, mut outgoing) = (Incoming::new(read), Outgoing::new(write));
        outgoing.send(&hello("test", Purpose::Relay { token: wire::secret::Token([0; 32]) })).await.unwrap();
        match incoming.expect(Duration::from_secs(5)).await.unwrap() {
            ToClient::Refused(refusal) => {
                assert!(refusal.text.contains("not connected to its hub: the cable is out"), "{}", refusal.text)
            }
            other => panic!("{other:?}"),
        }
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_socket_may_lie_deeper_than_sockets_can_be_named() {
        let scratch = tempfile::tempdir().unwrap();
        let deep = scratch.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let socket = deep.join("control.sock");
        let listener = listen(&socket).unwrap();
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        let (_dir, short) = short_path(&socket).unwrap();
        let (_one, _other) = tokio::try_join!(UnixStream::connect(short), listener.accept()).unwrap();
        drop(listener);
        // What a killed agent left does not stand in the way.
        listen(&socket).unwrap();
    }
}
