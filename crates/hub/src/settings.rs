//! What of a hub can be changed while it runs, and changing it: nobody is cut off by that.

use crate::Origin;
use crate::core::Hub;
use crate::http::{CorsOrigins, Tls};
use crate::limits::Limits;
use crate::on::OnCommands;
use crate::shares::Moved;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use wire::login::Enrol;

/// What can be changed while a hub runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Who may enrol; `None`: open where only this machine can connect, else by invite.
    pub enrol: Option<Enrol>,
    /// What it takes before it says no.
    pub limits: Limits,
    /// The origins whose pages may read over HTTP.
    pub cors: Vec<Origin>,
    /// The certificate that HTTP presents and its key, each a file in PEM. That there is one or none cannot be changed.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The commands that are run when something happens.
    pub on: OnCommands,
    /// Name and directory of each share. Those who have one that goes, or moves to another directory, come in anew.
    pub shares: Vec<(String, PathBuf)>,
}

/// Where new settings go.
pub(crate) struct Targets {
    pub(crate) hub: Arc<Hub>,
    pub(crate) only_here: bool,
    pub(crate) cors: CorsOrigins,
    pub(crate) tls: Option<Arc<Tls>>,
}

/// Who may enrol, where nobody said so.
pub(crate) fn enrol_or_default(enrol: Option<Enrol>, only_here: bool) -> Enrol {
    enrol.unwrap_or(if only_here { Enrol::Open } else { Enrol::Invite })
}

impl Targets {
    /// Takes over each new settings, until the hub stops. The same once more has the certificate read again.
    pub(crate) async fn keep(self, mut settings: watch::Receiver<Settings>) {
        let mut stopping = self.hub.stopping.subscribe();
        loop {
            let changed = tokio::select! {
                changed = settings.changed() => changed.is_ok(),
                _ = stopping.wait_for(|stop| *stop) => return,
            };
            if !changed {
                // Nobody is left who could change anything.
                return;
            }
            let new = settings.borrow_and_update().clone();
            self.take(new).await;
        }
    }

    async fn take(&self, new: Settings) {
        let enrol = enrol_or_default(new.enrol, self.only_here);
        if self.hub.set_enrol(enrol) {
            tracing::warn!(?enrol, "who may enrol has changed");
        }
        self.hub.limits.set(new.limits);
        self.cors.set(new.cors);
        if let Some(tls) = &self.tls {
            tls.reload(new.certificate);
        }
        self.set_shares(new.shares).await;
        // One that is replaced is given time to end.
        let hub = Arc::clone(&self.hub);
        match tokio::task::spawn_blocking(move || hub.on.set(&new.on, &hub.name)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "--on is as it was"),
            Err(error) => tracing::error!(%error, "--on: setting it had panicked"),
        }
    }

    /// Those who are here learn of a new share when they come in the next time; who comes now gets it. Who follows one that is gone is
    /// told, and keeps its copy as it is.
    async fn set_shares(&self, named: Vec<(String, PathBuf)>) {
        let hub = Arc::clone(&self.hub);
        let Moved { come, gone, failed } = match tokio::task::spawn_blocking(move || hub.shares.set(&named)).await {
            Ok(done) => done,
            Err(error) => return tracing::error!(%error, "changing what is shared had panicked"),
        };
        failed.iter().for_each(|error| tracing::error!("a share was not taken over: {error}"));
        if !come.is_empty() {
            tracing::warn!("shared from now on: {}", come.join(", "));
        }
        if !gone.is_empty() {
            tracing::warn!("not shared any more: {}; the copies stay as they are", gone.join(", "));
        }
        if !come.is_empty() || !gone.is_empty() {
            self.hub.revoked.send_replace(());
            self.hub.tables.notify_one();
            self.hub.moved();
        }
    }
}
