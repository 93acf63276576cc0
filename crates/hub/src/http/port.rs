//! How a hub serves HTTP: where, whether with TLS, and to whom.

use super::guard::{Guard, Origin};
use super::listen;
use super::routes;
use super::tls::{LOOK_EVERY, Source, Tls};
use crate::authority::Authority;
use crate::core::Hub;
use crate::socketio::SocketIo;
use crate::state::DataDir;
use crate::{Error, clock};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// How HTTP is to be served.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Where; port 0 takes a free one.
    pub address: SocketAddr,
    /// A certificate and its key, each a file in PEM. `None`: plain on loopback, else by the hub's own authority.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Without TLS wherever it is.
    pub plain: bool,
    /// The origin whose pages may read it.
    pub cors: Option<Origin>,
    /// Rings when the certificate is to be read again.
    pub reload: Arc<Notify>,
}

/// A port that is listened on and not served yet.
pub(crate) struct Port {
    listener: TcpListener,
    address: SocketAddr,
    guard: Guard,
    tls: Option<Arc<Tls>>,
    reload: Arc<Notify>,
}

impl Port {
    pub(crate) async fn open(config: &HttpConfig, data_dir: &DataDir, advertise: Option<&str>) -> Result<Port, Error> {
        let (listener, address) = crate::listen::listen(config.address, "--http").await?;
        let source = match &config.certificate {
            _ if config.plain => None,
            Some((certificate, key)) => Some(Source::Files(certificate.clone(), key.clone())),
            None if address.ip().is_loopback() => None,
            None => {
                let more = advertise.map(str::to_owned).into_iter().chain([address.ip().to_string()]).collect();
                Some(Source::Own(Box::new(Authority::open(data_dir, clock::now_ms())?), more))
            }
        };
        let tls = source.map(|source| Tls::open(source, clock::now_ms())).transpose()?.map(Arc::new);
        let guard = Guard::new(address, advertise, config.cors.clone());
        Ok(Port { listener, address, guard, tls, reload: Arc::clone(&config.reload) })
    }

    /// Where it is: scheme, address and port.
    pub(crate) fn url(&self) -> String {
        format!("http{}://{}/", if self.tls.is_some() { "s" } else { "" }, self.address)
    }

    pub(crate) fn serve(self, hub: &Arc<Hub>, tasks: &mut JoinSet<()>) {
        if let Some(tls) = &self.tls {
            let stopping = hub.stopping.subscribe();
            tasks.spawn(Arc::clone(tls).keep(LOOK_EVERY, clock::now_ms, self.reload, stopping));
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
