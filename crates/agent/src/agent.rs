//! The agent as a whole: logs in, starts a keeper for each share and for values, comes back when the hub was gone, ends in
//! order.

mod choose;
mod error;

pub use error::{Broken, Error};

use crate::control::{self, Link};
use crate::dial::{self, Trust};
use crate::event::{Event, Events};
use crate::fetch::{Connect, Fetch};
use crate::keeper::{Keeper, KeeperConfig, KeeperError};
use crate::kept::Kept;
use crate::key::Found;
use crate::login::{LoggedIn, LoginError, SessionLink, boxed, login};
use crate::ran::LastRuns;
use crate::session::{self, End};
use crate::state::{DataDir, Memory};
use std::collections::HashSet;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tree::premises;
use wire::client_login::Identity;
use wire::id::ClientId;
use wire::link::InviteCode;
use wire::message::{Code, Purpose, Refusal, Welcome};

/// The first wait before a reconnect is up to this, then up to twice as long each time.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// A session that lasted this long was one: a reconnect after it is a first try.
const SESSION_GOOD: Duration = Duration::from_secs(5);
/// For how long a hub may ask to be left alone.
const RETRY_ASKED_MAX: Duration = Duration::from_secs(600);

/// What an agent needs to know.
pub struct Config {
    /// Where it keeps its key, its memory and its replicas.
    pub data_dir: PathBuf,
    /// Where the hub may be, tried in order; empty: where it was.
    pub addresses: Vec<String>,
    /// Why the hub is the right one, if it was never met before. A fingerprint that is remembered wins.
    pub trust: Trust,
    /// The invite of a join link.
    pub invite: Option<InviteCode>,
    /// Who to be.
    pub id: Id,
    /// What people call this machine.
    pub name: String,
    /// Program and version.
    pub software: String,
    /// Shares to keep, each with its directory; without one, `./NAME`. Empty: those that are remembered, else, where no
    /// values are kept, the only one there is.
    pub shares: Vec<(String, Option<PathBuf>)>,
    /// Values to keep as files: patterns, a name or the beginning of names with `*` behind it, each with its directory. Added
    /// to those that are remembered.
    pub values: Vec<(String, PathBuf)>,
    /// The directory of the only share, where none is named.
    pub directory: Option<PathBuf>,
    /// A directory that is not empty and not what is kept there may become it.
    pub adopt: bool,
    /// Deletions that a guard would hold are done.
    pub allow_mass_delete: bool,
    /// What became of commands that whoever runs it runs after a change; the hub is told.
    pub runs: LastRuns,
    /// Where vitals are read; `/proc`.
    pub procfs: PathBuf,
    /// Files of our own that are never touched in a copy (device, inode), such as the log.
    pub own: HashSet<(u64, u64)>,
}

/// Who an agent wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    /// Who it was the last time.
    Remembered,
    /// This one.
    This(ClientId),
    /// The next that is free, unless it has one.
    Auto,
}

/// What an agent did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// As whom it was logged in last.
    pub id: Option<u64>,
    /// The shares it kept.
    pub shares: Vec<String>,
    /// The patterns of the values it kept as files.
    pub values: Vec<String>,
}

/// An agent's life, boxed: so that all that it awaits is compiled with this crate, as this crate is, and not with who runs it.
pub type Life<'a> = Pin<Box<dyn Future<Output = Result<Summary, Error>> + Send + 'a>>;

/// Runs an agent until `stop`, or until it cannot go on.
///
/// Before the first login ever, a hub that cannot be reached ends it; later it comes back by itself.
///
/// # Errors
/// See [`enum@Error`]: each says what to do.
pub fn run<'a>(
    config: Config,
    events: impl Fn(Event) + Send + Sync + 'static,
    stop: impl Future<Output = ()> + Send + 'a,
) -> Life<'a> {
    life(config, Arc::new(events), Box::pin(stop))
}

fn life<'a>(config: Config, events: Events, stop: Pin<Box<dyn Future<Output = ()> + Send + 'a>>) -> Life<'a> {
    Box::pin(live(config, events, stop))
}

async fn live(
    config: Config,
    events: Events,
    stop: Pin<Box<dyn Future<Output = ()> + Send + '_>>,
) -> Result<Summary, Error> {
    let data = DataDir::open(&config.data_dir)?;
    let memory = data.recall()?;
    let (links, link) = watch::channel(Link::Away("it is just being started".into()));
    let (bulk, _) = watch::channel(None);
    let listener = control::listen(&data.socket_path())?;
    let (ended, endings) = mpsc::unbounded_channel();
    let mut background = tokio::task::JoinSet::new();
    background.spawn(control::serve(listener, link));
    let mut agent = Agent {
        keepers: Vec::new(),
        summary: Summary::default(),
        config,
        events,
        data,
        memory,
        links,
        bulk,
        ended,
        endings,
        background,
    };
    let done = agent.run(stop).await;
    agent.end(done).await
}

struct Agent {
    config: Config,
    events: Events,
    data: DataDir,
    memory: Memory,
    keepers: Vec<Keeper>,
    links: watch::Sender<Link>,
    bulk: watch::Sender<Option<Connect>>,
    ended: mpsc::UnboundedSender<()>,
    endings: mpsc::UnboundedReceiver<()>,
    summary: Summary,
    background: tokio::task::JoinSet<()>,
}

/// Whether another try may help.
enum Failure {
    Passing {
        why: String,
        after: Option<Duration>,
    },
    Final(Error),
    /// A keeper ended by itself and knows why.
    Ended,
}

impl Agent {
    async fn run(&mut self, stop: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let mut stop = pin!(stop);
        let mut tries = 0;
        loop {
            let failure = tokio::select! {
                () = &mut stop => return Ok(()),
                failure = self.attempt(&mut tries) => failure,
            };
            self.links.send_replace(Link::Away("the connection has just ended".into()));
            self.bulk.send_replace(None);
            let (why, after) = match failure {
                Failure::Final(error) => return Err(error),
                Failure::Ended => return Ok(()),
                Failure::Passing { why, after } => (why, after),
            };
            // A hub may ask for more patience, never for less.
            let retry_in = after.unwrap_or_default().min(RETRY_ASKED_MAX).max(jittered(tries));
            tries = tries.saturating_add(1);
            self.links.send_replace(Link::Away(why.clone()));
            (self.events)(Event::Disconnected { why, retry_in });
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = tokio::time::sleep(retry_in) => {}
                Some(()) = self.endings.recv() => return Ok(()),
            }
        }
    }

    /// One session, from dialing to its end. `tries` becomes 0 if it was one.
    async fn attempt(&mut self, tries: &mut u32) -> Failure {
        let (logged_in, link) = match self.establish().await {
            Ok(established) => established,
            Err(failure) => return failure,
        };
        let began = Instant::now();
        let LoggedIn { welcome, halves, .. } = logged_in;
        if let Err(error) = self.start_keepers(&welcome).await {
            return Failure::Final(error);
        }
        let attaching = link.clone();
        self.bulk.send_replace(Some(Arc::new(move || {
            let link = attaching.clone();
            Box::pin(async move { link.attach(Purpose::Bulk { token: link.token }).await })
        })));
        self.links.send_replace(Link::Here(link));
        let end = tokio::select! {
            end = session::serve(halves, &self.keepers, self.config.procfs.clone()) => end,
            _ = self.endings.recv() => return Failure::Ended,
        };
        // A hub that lets us in and sends us away at once is not asked ever faster.
        if began.elapsed() >= SESSION_GOOD {
            *tries = 0;
        }
        match end {
            End::Failed(error) => Failure::Passing { why: error.to_string(), after: None },
            End::Bye(refusal) => match refusal.code {
                // It is about to be back, so this is a first try; all others have the same thought, hence the moment that
                // each was given for itself.
                Code::Stopping => {
                    *tries = 0;
                    Failure::Passing { why: refusal.text, after: refusal.retry_ms.map(Duration::from_millis) }
                }
                Code::TakenOver | Code::Revoked => Failure::Final(Error::Refused(refusal)),
                _ => refused(refusal),
            },
        }
    }

    async fn establish(&mut self) -> Result<(LoggedIn, SessionLink), Failure> {
        let (identity, known_hub) = self.identity().map_err(Failure::Final)?;
        let first_time = identity.unique_id.is_none();
        let addresses = match self.config.addresses.is_empty() {
            true => self.memory.addresses.clone(),
            false => self.config.addresses.clone(),
        };
        if addresses.is_empty() {
            return Err(Failure::Final(Error::NoHub));
        }
        let trust = match (&self.config.trust, known_hub.or(self.memory.hub)) {
            // A link that names another key than the one remembered: whoever gave it knows better, but the unique ID of
            // the old hub is nothing for the new one, see `identity`.
            (Trust::Known(hub), _) => Trust::Known(*hub),
            (Trust::Ask(_), Some(hub)) => Trust::Known(hub),
            (Trust::Ask(ask), None) => Trust::Ask(Arc::clone(ask)),
        };
        let mut last = None;
        for address in addresses {
            let dialed = match dial::dial(&address, &trust).await {
                Ok(dialed) => dialed,
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            (self.events)(Event::Connected { address: address.clone() });
            let logged_in = login(boxed(dialed.stream), identity, dialed.fingerprint, &self.data.key_file())
                .await
                .map_err(|error| match error {
                    LoginError::Refused(refusal) => refused(refusal),
                    LoginError::NotSaved(error) => Failure::Final(error.into()),
                    // Before the first login ever there is nothing to come back to.
                    LoginError::Conn(error) if first_time => {
                        let why = format!("the login at {address} did not come to its end: {error}; try again");
                        Failure::Final(Error::Connection(Broken(why)))
                    }
                    LoginError::Conn(error) => Failure::Passing { why: error.to_string(), after: None },
                })?;
            self.memory.reached_at(&dial::with_port(&address));
            self.memory.hub = Some(dialed.fingerprint);
            match self.data.remember(&self.memory) {
                Ok(()) => {}
                Err(error) if first_time => return Err(Failure::Final(error.into())),
                // On a full disk, say: what it knew before is still there, and the next login tries again.
                Err(error) => tracing::warn!(%error, "where the hub is was not noted anew; the agent goes on"),
            }
            let LoggedIn { welcome, issued, .. } = &logged_in;
            self.summary.id = Some(welcome.id);
            (self.events)(Event::LoggedIn { id: welcome.id, issued: *issued, hub: welcome.hub.clone() });
            let link = SessionLink {
                address,
                hub: dialed.fingerprint,
                token: welcome.token,
                software: self.config.software.clone(),
            };
            return Ok((logged_in, link));
        }
        Err(match last {
            Some(error) if error.is_passing() && !first_time => {
                Failure::Passing { why: error.to_string(), after: None }
            }
            Some(error) => Failure::Final(error.into()),
            None => Failure::Final(Error::NoHub),
        })
    }

    /// Who to log in as, and the hub that the key is of.
    fn identity(&self) -> Result<(Identity, Option<wire::link::Fingerprint>), Error> {
        let config = &self.config;
        let identity = |id, unique_id| Identity {
            id,
            unique_id,
            invite: config.invite.clone(),
            name: config.name.clone(),
            software: config.software.clone(),
        };
        let wanted = match config.id {
            Id::This(id) => Some(id),
            Id::Remembered | Id::Auto => None,
        };
        let key_file = self.data.key_file();
        match key_file.read()? {
            Found::Ours(key) => {
                let other_hub = matches!(&config.trust, Trust::Known(hub) if *hub != key.hub);
                let other_id = wanted.is_some_and(|id| id != key.unique_id.id());
                if !other_hub && !other_id {
                    let hub = key.hub;
                    return Ok((identity(Some(key.unique_id.id()), Some(key.unique_id)), Some(hub)));
                }
                // A key is not thrown away by a flag mistyped: another hub's or another id's asks for its own place.
                Err(Error::OtherKey { path: key_file.path().to_owned(), id: key.unique_id.id(), other_hub })
            }
            Found::Copied { id, why } => match (config.id, &config.invite) {
                (Id::Auto, _) => Ok((identity(None, None), None)),
                // With an invite in hand (as reissuing gives), the id is proven anew and the copy replaced.
                (Id::This(id), Some(_)) => Ok((identity(Some(id), None), None)),
                _ => Err(Error::CopiedKey { path: key_file.path().to_owned(), id, why }),
            },
            Found::Nothing => match config.id {
                Id::This(id) => Ok((identity(Some(id), None), None)),
                Id::Auto => Ok((identity(None, None), None)),
                Id::Remembered => Err(Error::NoId),
            },
        }
    }

    /// Whether a directory is neither within what the hub shares, if that is on this machine, nor around it; nor so to our own.
    fn is_apart(&self, what: &Kept, directory: &Path) -> Result<(), Error> {
        let overlap =
            |of, conflict| Error::Overlap { what: what.clone(), directory: directory.to_owned(), of, conflict };
        let not_kept = |source| Error::NotKept { what: what.clone(), source: KeeperError::from(source) };
        let data = self.data.path();
        if let Some(conflict) = choose::conflict(directory, data).map_err(not_kept)? {
            return Err(overlap(Some(data.to_owned()), conflict));
        }
        let (Kept::Share(share), Some(hub)) = (what, &self.memory.hub) else { return Ok(()) };
        match premises::conflict(&hub.full(), share, directory).map_err(not_kept)? {
            None => Ok(()),
            Some(conflict) => Err(overlap(None, conflict)),
        }
    }

    async fn start_keepers(&mut self, welcome: &Welcome) -> Result<(), Error> {
        if !self.keepers.is_empty() {
            return Ok(());
        }
        let shares = choose::shares(&self.config, &self.memory, &welcome.shares)?;
        let values = choose::values(&self.config, &self.memory)?;
        let all = choose::all(&shares, &values)?;
        for (kept, directory) in &all {
            self.is_apart(kept, directory)?;
        }
        let own = self.own_files();
        for (index, (kept, directory)) in (0..).zip(all) {
            let config = KeeperConfig {
                kept: kept.clone(),
                index,
                directory,
                store: self.data.store(&kept),
                adopt: self.config.adopt,
                allow_mass_delete: self.config.allow_mass_delete,
                runs: self.config.runs.clone(),
                own: own.clone(),
                boot_id: boot_id(),
            };
            let (session, ended, fetched) = (self.bulk.subscribe(), self.ended.clone(), kept.clone());
            let events = Arc::clone(&self.events);
            let runtime = tokio::runtime::Handle::current();
            // Reading what is stored waits for the disk.
            let starting = tokio::task::spawn_blocking(move || {
                let fetch = move |mailbox: &Arc<_>, dest| {
                    let _within = runtime.enter();
                    match &fetched {
                        Kept::Share(name) => Fetch::start(name.clone(), Arc::clone(mailbox), dest, session.clone()),
                        Kept::Values(_) => Ok(Fetch::nothing()),
                    }
                };
                Keeper::start(config, Box::new(fetch), events, move || {
                    // Nobody listens once the agent has ended.
                    let _heard = ended.send(());
                })
            });
            let started = starting.await.unwrap_or(Err(KeeperError::Panicked));
            let keeper = started.map_err(|source| Error::NotKept { what: kept.clone(), source })?;
            self.keepers.push(keeper);
            match kept {
                Kept::Share(name) => self.summary.shares.push(name),
                Kept::Values(pattern) => self.summary.values.push(pattern),
            }
        }
        (self.memory.shares, self.memory.values) = (shares, values);
        self.data.remember(&self.memory)?;
        Ok(())
    }

    /// What must not be touched if a copy happens to contain it.
    fn own_files(&self) -> HashSet<(u64, u64)> {
        let mut own = self.config.own.clone();
        own.extend(std::fs::metadata(self.data.path()).map(|m| (m.dev(), m.ino())));
        own
    }

    /// Stops all there is, and says what an end by itself was.
    async fn end(mut self, done: Result<(), Error>) -> Result<Summary, Error> {
        self.background.abort_all();
        let _socket_gone = std::fs::remove_file(self.data.socket_path());
        let keepers = std::mem::take(&mut self.keepers);
        let stopping = tokio::task::spawn_blocking(move || {
            let mut first = Ok(());
            for keeper in keepers {
                let what = keeper.kept.clone();
                let done = keeper.stop().map_err(|source| Error::NotKept { what, source });
                first = first.and(done);
            }
            first
        });
        let kept = stopping.await.unwrap_or(Ok(()));
        done.and(kept)?;
        Ok(self.summary)
    }
}

fn refused(refusal: Refusal) -> Failure {
    match refusal.retry_ms {
        Some(retry_ms) => Failure::Passing { why: refusal.text, after: Some(Duration::from_millis(retry_ms)) },
        None => Failure::Final(Error::Refused(refusal)),
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Full jitter: anything up to the limit, so that a thousand agents do not come back at the same moment.
fn jittered(tries: u32) -> Duration {
    let most = RETRY_FIRST.saturating_mul(1 << tries.min(16)).min(RETRY_MAX);
    // Without random numbers the process id still spreads agents of one machine.
    let random = getrandom::u32().unwrap_or_else(|_| std::process::id().wrapping_mul(2_654_435_761));
    most.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
