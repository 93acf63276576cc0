//! How a hub serves HTTP: where, whether with TLS, and to whom.

use super::guard::{CorsOrigins, Guard};
use super::listen;
use super::routes;
use super::tls::{LOOK_EVERY, Source, Tls};
use crate::authority::Authority;
use crate::core::Hub;
use crate::socketio::SocketIo;
use crate::state::DataDir;
use crate::{Error, Settings, clock};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How HTTP is to be served.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Where; port 0 takes a free one.
    pub address: SocketAddr,
    /// Without TLS wherever it is. Else it presents the certificate that the hub's [`Settings`] name; without one it is plain
    /// on loopback, and elsewhere has one by the hub's own authority.
    pub plain: bool,
    /// Whether the program that runs is handed out to machines that have none.
    pub handout: bool,
}

/// A port that is listened on and not served yet.
pub(crate) struct Port {
    listener: TcpListener,
    address: SocketAddr,
    guard: Guard,
    tls: Option<Arc<Tls>>,
    cors: CorsOrigins,
}

impl Port {
    pub(crate) async fn open(
        config: &HttpConfig,
        set: &Settings,
        data_dir: &DataDir,
        advertise: Option<&str>,
    ) -> Result<Port, Error> {
        let (listener, address) = crate::listen::listen(config.address, "--http").await?;
        let source = match &set.certificate {
            _ if config.plain => None,
            Some((certificate, key)) => Some(Source::Files(certificate.clone(), key.clone())),
            None if address.ip().is_loopback() => None,
            None => {
                let more = advertise.map(str::to_owned).into_iter().chain([address.ip().to_string()]).collect();
                Some(Source::Own(Box::new(Authority::open(data_dir, clock::now_ms())?), more))
            }
        };
        let tls = source.map(|source| Tls::open(source, clock::now_ms())).transpose()?.map(Arc::new);
        let cors = CorsOrigins::new(set.cors.clone());
        let guard = Guard::new(address, advertise, cors.clone());
        Ok(Port { listener, address, guard, tls, cors })
    }

    /// Where it is: scheme, address and port.
    pub(crate) fn url(&self) -> String {
        format!("http{}://{}/", if self.tls.is_some() { "s" } else { "" }, self.address)
    }

    /// What other machines call the one it is on: `advertise`, where they reach it.
    pub(crate) fn host(&self, advertise: Option<&str>) -> String {
        match advertise.filter(|_| !self.address.ip().is_loopback()) {
            Some(host) => host.to_owned(),
            None => crate::reachable(self.address),
        }
    }

    /// Where they find it, if they do: scheme, host and port.
    pub(crate) fn base(&self, advertise: Option<&str>) -> String {
        let host = self.host(advertise);
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
        format!("http{}://{host}:{}", if self.tls.is_some() { "s" } else { "" }, self.address.port())
    }

    /// Whether only this machine reaches it.
    pub(crate) fn is_only_here(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// Whose pages may read it.
    pub(crate) fn cors(&self) -> CorsOrigins {
        self.cors.clone()
    }

    /// What it presents, if anything.
    pub(crate) fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    pub(crate) fn serve(self, hub: &Arc<Hub>, tasks: &mut JoinSet<()>) {
        if let Some(tls) = &self.tls {
            let stopping = hub.stopping.subscribe();
            tasks.spawn(Arc::clone(tls).keep(LOOK_EVERY, clock::now_ms, stopping));
        }
        let hub = Arc::clone(hub);
        tasks.spawn(async move {
            let socketio = SocketIo::new(&hub);
            let app = routes(Arc::clone(&hub), &socketio);
            listen::open(hub.ground(), self.listener, self.guard, self.tls, app).await;
            socketio.ended().await;
        });
    }
}
