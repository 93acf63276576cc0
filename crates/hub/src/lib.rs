//! The hub: it holds the latest data, and any number of clients log in to it and always have that latest data.
//!
//! It promises that a put is on disk before it is acknowledged; that nobody is in who did not prove the unique ID that
//! was issued for the id; that a slow or silent client costs a cursor and one frame and slows nobody else; and that
//! nothing is deleted anywhere because something here could not be read.
//!
//! It never follows a path that a client names, never tells one client's secrets to another, and never prints: what
//! happened goes to `tracing`, what is asked is answered.
//!
//! From the inside out: `roster` (who is known), `access` (what each may), `presence` (who is here), `share`, `data` and `fleet` (the boards'
//! writers), `fanout` (one encoding for all who follow the same), `session` (one connection), `reception` (how anybody
//! comes in), `door`, `local`, `text`, `http` and `socketio` (by which connections), `standing` and `answers` (who has what), `tables` (what pandas reads), `audit` (what happened), `on` (commands that are run when something happens).

mod accept;
mod access;
mod answers;
mod audit;
mod authority;
pub mod backup;
mod begun;
mod bulk;
pub mod check;
#[doc(hidden)]
pub mod clock;
pub mod conformance;
mod core;
mod counts;
mod cursor;
mod data;
mod door;
mod fanout;
mod farewell;
mod fleet;
mod further;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod handout;
mod http;
mod io;
mod lag;
mod limits;
mod listen;
mod local;
mod on;
mod presence;
mod reception;
mod roster;
mod session;
mod settings;
mod share;
mod shares;
mod socketio;
mod standing;
mod state;
mod strangers;
mod tables;
mod text;
mod wait;
mod wake;
mod why;

pub use audit::{AuditError, AuditLine, AuditRead, EVENTS as AUDIT_EVENTS, read as read_audit};
pub use authority::CA_NAME;
pub use handout::GLIBC_MIN;
pub use http::{HttpConfig, Origin, TlsError};
pub use limits::Limits;
pub use local::SOCKET_NAME;
pub use on::{OnCommands, OnEvent};
pub use settings::Settings;
pub use share::ShareError;
pub use state::StateError;
pub use tables::{read_inventory, write_clients};
pub use wire::login::Enrol;

use crate::core::{Hub, Parts};
use board::{BoardError, Durability, OpenOptions, SqliteStore, Writer};
use data::Data;
use fleet::Fleet;
use listen::listen;
use roster::Registry;
use shares::Shares;
use state::{DataDir, boot_id};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use tokio_rustls::TlsAcceptor;
use wire::limits::SHARE_NAME_BYTES_MAX;
use wire::link::Fingerprint;
use wire::login::Policy;
use wire::message::ShareInfo;
use wire::roster::RosterError;

/// Shares of one hub at most.
pub use wire::limits::SHARES_MAX;

/// What a hub is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its data directory; made where it is missing.
    pub data: PathBuf,
    /// Where agents come in; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where and how HTTP is served. `None`: nowhere.
    pub http: Option<HttpConfig>,
    /// Where lines of plain text are spoken; port 0 takes a free one. `None`: nowhere.
    pub text: Option<SocketAddr>,
    /// What links name instead of the address listened on.
    pub advertise: Option<String>,
    /// What can be changed while it runs: as it is at the start, and each time that it changes.
    pub settings: tokio::sync::watch::Receiver<Settings>,
    /// What people call this hub; `None`: the machine's name.
    pub name: Option<String>,
    /// Files and directories that are never entries of a share, such as the log.
    pub ours: Vec<PathBuf>,
    /// Whether [`Up::link`] may hold an invite: not where what is said at the start is kept, as by a service manager.
    pub first_invite: bool,
}

impl Config {
    /// Whether none but this machine can connect, over any transport.
    fn only_here(&self) -> bool {
        let http = self.http.as_ref().map(|http| http.address);
        [Some(self.listen), http, self.text].iter().flatten().all(|address| address.ip().to_canonical().is_loopback())
    }
}

/// A hub that is up.
#[derive(Clone)]
pub struct Up {
    /// What people call it.
    pub name: String,
    /// Its data directory.
    pub data: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it serves HTTP: scheme, address and port.
    pub http: Option<String>,
    /// Where it speaks lines of text.
    pub text: Option<SocketAddr>,
    /// Who may enrol.
    pub enrol: Enrol,
    /// Its key's fingerprint.
    pub fingerprint: Fingerprint,
    /// What it shares, with the counts so far.
    pub shares: Vec<ShareInfo>,
    /// What to give to `lockstep join`; holds an invite where one is needed: not for a log.
    pub link: Option<String>,
    /// The line that installs the program where there is none, where other machines can fetch it.
    pub install: Option<String>,
}

/// Without the link, which may let somebody in.
impl std::fmt::Debug for Up {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Up");
        debug.field("name", &self.name).field("address", &self.address).field("enrol", &self.enrol);
        debug.finish_non_exhaustive()
    }
}

/// Why a hub cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its data directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// A share.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// Its audit log.
    #[error("the audit log: {0}")]
    Audit(#[from] vitals::log::LogError),
    /// Its roster.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// A board.
    #[error("the board {board}: {source}")]
    Board {
        /// Which.
        board: &'static str,
        /// What is wrong.
        source: BoardError,
    },
    /// A share's name.
    #[error(
        "{name:?} is no name for a share: 1 to {SHARE_NAME_BYTES_MAX} letters, digits, '.', '-' or '_', not beginning with '.'; name it yourself: --share NAME={path}"
    )]
    ShareName {
        /// The name.
        name: String,
        /// Its directory.
        path: String,
    },
    /// Two shares of one name, or one inside the other.
    #[error("{0}")]
    Shares(String),
    /// The address.
    #[error("cannot listen on {address}: {source}{hint}")]
    Listen {
        /// Which.
        address: String,
        /// What the system said.
        source: std::io::Error,
        /// What to do.
        hint: String,
    },
    /// What HTTPS is to present.
    #[error("HTTPS: {0}")]
    Https(#[from] TlsError),
    /// A command of `--on`.
    #[error("--on: {0}")]
    On(#[from] mirror::after::AfterError),
    /// The certificate.
    #[error("the hub's certificate cannot be used: {0}")]
    Tls(String),
}

/// A hub's life, boxed: so that all that it awaits is compiled with this crate, as this crate is, and not with who runs it.
pub type Life<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>;

/// Runs a hub until `stop` resolves; `up` is called once it listens.
///
/// Returns when every connection has ended and every store is closed.
///
/// # Errors
/// When it cannot start; nothing is left behind then but its data directory.
pub fn run<'a>(config: Config, up: impl FnOnce(Up) + 'a, stop: impl Future<Output = ()> + 'a) -> Life<'a> {
    life(config, Box::new(up), Box::pin(stop))
}

fn life<'a>(config: Config, up: Box<dyn FnOnce(Up) + 'a>, stop: Pin<Box<dyn Future<Output = ()> + 'a>>) -> Life<'a> {
    Box::pin(live(config, up, stop))
}

async fn live(
    config: Config,
    up: Box<dyn FnOnce(Up) + '_>,
    stop: Pin<Box<dyn Future<Output = ()> + '_>>,
) -> Result<(), Error> {
    let data_dir = DataDir::open(&config.data)?;
    backup::sweep(data_dir.path(), std::time::Duration::ZERO);
    let name = config.name.clone().unwrap_or_else(state::host_name);
    let (listener, address) = listen(config.listen, "--listen").await?;
    let mut settings = config.settings.clone();
    let set = settings.borrow_and_update().clone();
    let http = match &config.http {
        Some(http) => Some(http::Port::open(http, &set, &data_dir, config.advertise.as_deref()).await?),
        None => None,
    };
    let text = match config.text {
        Some(address) => Some(listen(address, "--text").await?),
        None => None,
    };
    set.on.values().try_for_each(mirror::after::Command::check)?;
    let only_loopback = address.ip().is_loopback();
    let only_here = config.only_here();
    let enrol = settings::enrol_or_default(set.enrol, only_here);
    let limits = Arc::new(limits::Live::new(set.limits));
    let identity = data_dir.identity(&name)?;
    let (tls, fingerprint) = tls(identity)?;
    let of = |board| move |source| Error::Board { board, source };
    let data_writer = data_writer(&data_dir).map_err(of("data"))?;
    let tables = Arc::new(tokio::sync::Notify::new());
    let (registry, registry_thread) = Registry::start(&data_dir.file("roster.db"), Arc::clone(&tables))?;
    let fleet = Fleet::new().map_err(of("fleet"))?;
    let shares = Shares::start(&set.shares, fingerprint.full(), data_dir.path(), &config.ours)?;
    let (data, data_thread) = Data::start(data_writer, Arc::clone(&limits));
    let software = format!("lockstep {}", env!("CARGO_PKG_VERSION"));
    let hub = Arc::new(Hub::new(Parts {
        policy: Policy::new(&name, &software, enrol),
        limits,
        name,
        fingerprint,
        data_dir: data_dir.path().to_owned(),
        data,
        shares,
        fleet,
        registry,
        tables,
        audit: audit::Audit::open(data_dir.path())?,
        offer: handout::offer(config.http.as_ref(), http.as_ref(), config.advertise.as_deref(), only_loopback),
    }));
    let host = config.advertise.clone().unwrap_or_else(|| reachable(address));
    *hub.advertise.write().unwrap_or_else(PoisonError::into_inner) = Some((host, address.port()));
    *hub.addresses.write().unwrap_or_else(PoisonError::into_inner) = std::iter::once(address.to_string())
        .chain(http.as_ref().map(http::Port::url))
        .chain(text.as_ref().map(|(_, at)| format!("text://{at}")))
        .collect();
    let commands = local::listen(data_dir.path()).map_err(|source| Error::Listen {
        address: data_dir.file(SOCKET_NAME).display().to_string(),
        source,
        hint: String::new(),
    })?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(door::open(Arc::clone(&hub), listener, tls));
    let http_url = http.as_ref().map(http::Port::url);
    let targets = settings::Targets {
        hub: Arc::clone(&hub),
        only_here,
        cors: http.as_ref().map(http::Port::cors).unwrap_or_default(),
        tls: http.as_ref().and_then(http::Port::tls),
    };
    tasks.spawn(targets.keep(settings));
    if let Some(port) = http {
        port.serve(&hub, &mut tasks);
    }
    let text_address = text.as_ref().map(|(_, address)| *address);
    if let Some((listener, _)) = text {
        tasks.spawn(text::open(Arc::clone(&hub), listener));
    }
    tasks.spawn(local::serve(Arc::clone(&hub), commands));
    tasks.spawn(tables::keep(Arc::clone(&hub)));
    tasks.spawn(audit::keep(Arc::clone(&hub)));
    hub.on.set(&set.on, &hub.name)?;
    tasks.spawn(on::keep(Arc::clone(&hub)));
    tracing::info!(%address, fingerprint = %fingerprint, ?enrol, data = %data_dir.path().display(), "the hub is up");
    let link = first_link(&hub, enrol, config.first_invite).await;
    up(Up {
        name: hub.name.clone(),
        data: data_dir.path().to_owned(),
        address,
        http: http_url,
        text: text_address,
        enrol,
        fingerprint,
        shares: reception::shares(&hub, &access::Access::everything()),
        link,
        install: hub.offer.as_ref().ok().and_then(|offer| offer.installer().ok()).map(|installer| installer.line),
    });
    stop.await;
    let clients = hub.presence.count(&access::Access::everything());
    let span = hub.farewell.begin(clients);
    tracing::info!(clients, span_ms = span.as_millis(), "stopping; clients are told to come back within the span");
    hub.stopping.send_replace(true);
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task had panicked");
        }
    }
    // Nobody asks any more; what was asked for is done, told and put on record first.
    hub.begun.all().await;
    // The tables once more, now that nobody is here; then the stores, so that the next start finds them closed.
    tables::write_all(&hub).await;
    hub.audit.write_counts(true);
    let closed = tokio::task::spawn_blocking(move || {
        hub.on.finish();
        hub.data.stop();
        hub.registry.stop();
        hub.shares.end();
        registry_thread.join();
        data_thread.join()
    });
    match closed.await {
        Ok(result) => result.map_err(of("data"))?,
        Err(error) => tracing::error!(%error, "closing had panicked"),
    }
    tracing::info!("stopped");
    drop(data_dir);
    Ok(())
}

fn data_writer(data_dir: &DataDir) -> Result<Writer, BoardError> {
    let store = SqliteStore::open(data_dir.file("data.db"), Durability::EachCommit)?;
    let entropy = Box::new(|| getrandom::u64().unwrap_or_default());
    let writer = Writer::open(Box::new(store), OpenOptions { durable: true, boot_id: boot_id(), entropy })?;
    writer.board().set_complete(true);
    Ok(writer)
}

fn tls(identity: state::Identity) -> Result<(TlsAcceptor, Fingerprint), Error> {
    let broken = |e: &dyn std::fmt::Display| Error::Tls(e.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = provider.key_provider.load_private_key(identity.key.clone_key()).map_err(|e| broken(&e))?;
    let public = key.public_key().ok_or_else(|| Error::Tls("its key does not tell its public half".into()))?;
    let fingerprint = Fingerprint::of(&public);
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| broken(&e))?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate], identity.key)
        .map_err(|e| broken(&e))?;
    Ok((TlsAcceptor::from(Arc::new(config)), fingerprint))
}

/// What other machines would call this address: a wildcard is reached by the machine's name.
fn reachable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { state::host_name() } else { address.ip().to_string() }
}

/// The link that is shown at start; with a one-off invite where one is needed and may be shown.
async fn first_link(hub: &Hub, enrol: Enrol, may_invite: bool) -> Option<String> {
    const FIRST_INVITE_S: i64 = 24 * 3600;
    let invite = match enrol {
        Enrol::Open => None,
        Enrol::Closed => return None,
        Enrol::Invite if !may_invite => return None,
        Enrol::Invite => {
            let now_ms = clock::now_ms();
            let made =
                hub.registry.change(|r| r.new_invite(1, FIRST_INVITE_S * 1000, Default::default(), now_ms)).await;
            match made {
                Ok(code) => {
                    let detail = format!("uses 1, for {FIRST_INVITE_S} s, shown at the start");
                    hub.audit.note(session::Role::Local.did("invited", None, detail));
                    Some(code)
                }
                Err(error) => {
                    tracing::error!(%error, "no invite could be made");
                    return None;
                }
            }
        }
    };
    match answers::link(hub, invite) {
        Ok(link) => Some(link.reveal()),
        Err(refusal) => {
            tracing::error!("no join link: {}", refusal.text);
            None
        }
    }
}
