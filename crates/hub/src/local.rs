//! The local socket: commands on the hub's own machine, without a login.
//!
//! Who may open it is decided by the file system (0600 in a 0700 directory) and looked at again on each connection:
//! the hub's own user, or root.

use crate::accept;
use crate::core::Hub;
use crate::io::Incoming;
use crate::session::{self, Role};
use rustix::fs::OFlags;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use wire::codec::encode_frame;
use wire::limits::{FRAME_BYTES_MAX_BEFORE_LOGIN, LOGIN_MAX};
use wire::message::{ToClient, ToHub};

/// The socket's name in the data directory.
pub const SOCKET_NAME: &str = "control.sock";

/// Opens the socket; one that a killed hub left behind is replaced, as the data directory is locked by this one.
pub(crate) fn listen(data_dir: &Path) -> std::io::Result<UnixListener> {
    let dir =
        rustix::fs::open(data_dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
    // By the directory's descriptor, since a socket's path has at most 107 bytes.
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET_NAME}", dir.as_raw_fd()));
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves commands until the hub stops.
pub(crate) async fn serve(hub: Arc<Hub>, listener: UnixListener) {
    let serve = |(stream, _)| command(Arc::clone(&hub), stream);
    accept::all(&hub, move |cx| listener.poll_accept(cx), serve).await;
}

async fn command(hub: Arc<Hub>, stream: UnixStream) {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw() => {}
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "another user's local connection was refused");
            return;
        }
        Err(error) => {
            tracing::error!(%error, "a local connection does not say whose it is");
            return;
        }
    }
    let (from, mut to) = stream.into_split();
    let mut incoming = Incoming::new(from);
    // The same first words as everywhere, so that a command need not know whose socket it found.
    let mut stopping = hub.stopping.subscribe();
    let hello = tokio::select! {
        hello = tokio::time::timeout(LOGIN_MAX, incoming.next(FRAME_BYTES_MAX_BEFORE_LOGIN)) => hello,
        _ = stopping.wait_for(|stop| *stop) => return,
    };
    let Ok(Ok(ToHub::Hello { versions, .. })) = hello else {
        tracing::debug!("a local connection did not say hello");
        return;
    };
    if versions.0 > wire::PROTOCOL_VERSION || versions.1 < wire::PROTOCOL_VERSION_MIN {
        tracing::warn!(?versions, "a local command speaks another protocol version; install the same release");
        return;
    }
    let hello = ToClient::Hello {
        version: wire::PROTOCOL_VERSION,
        software: hub.policy().software.clone(),
        hub: hub.name.clone(),
    };
    for message in [hello, ToClient::Attached] {
        let written = match encode_frame(&message) {
            Ok(frame) => to.write_all(&frame).await,
            Err(error) => Err(std::io::Error::other(error)),
        };
        if let Err(error) = written {
            tracing::debug!(%error, "a local connection ended");
            return;
        }
    }
    let ended = session::serve(hub, Role::Local, incoming, to).await;
    tracing::debug!(why = %ended, "a local connection ended");
}
