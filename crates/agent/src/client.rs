//! A client of a hub for one command: put, get, follow, ask.
//!
//! On a machine with a running agent or hub it goes through their local socket; elsewhere it logs in with a key of its
//! own. One request at a time.

mod follow;

pub use follow::{Follow, Update};

use crate::conn::{ConnError, Incoming, Outgoing, Stream};
use crate::control::short_path;
use crate::dial::{self, DialError, Trust};
use crate::disk::DiskError;
use crate::key::{Found, KeyError, KeyFile, Machine};
use crate::login::{LoginError, boxed, first_words, hello, login};
use crate::state::{DataDir, StateError, socket_path};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::time::Instant;
use wire::answer::{Answer, Question};
use wire::client_login::Identity;
use wire::codec::EncodeError;
use wire::id::ClientId;
use wire::limits::{PING_EVERY, SILENCE_MAX};
use wire::link::InviteCode;
use wire::message::{Code, Content, Number, Purpose, Refusal, Stored, ToClient, ToHub, Version};
use wire::secret::Token;

/// The number of the one follow or request under way.
const NUMBER: Number = 1;

/// For how long a command waits for another that is logged in from the same data directory.
const PLACE_MAX: Duration = Duration::from_secs(10);
const PLACE_AGAIN: Duration = Duration::from_millis(20);

/// Where a hub is found.
#[derive(Debug)]
pub enum Target {
    /// Through the local socket of a running agent or hub.
    Socket(PathBuf),
    /// Directly; but where an agent runs on `key_dir` as that client, through it.
    Hub {
        /// Its address.
        address: String,
        /// Why it is the right one, unless the key says so.
        trust: Trust,
        /// Who to be; `None`: who the key says, else the next free id.
        id: Option<ClientId>,
        /// The invite of a join link.
        invite: Option<InviteCode>,
        /// What people call this machine.
        name: String,
        /// Where the key is kept.
        key_dir: PathBuf,
    },
}

/// A connection to a hub, let in.
pub struct Client {
    incoming: Incoming<ReadHalf<Box<dyn Stream>>>,
    outgoing: Outgoing<WriteHalf<Box<dyn Stream>>>,
    /// When it last gave a sign of life.
    pinged: Instant,
    /// Held while this is logged in by itself, so that nobody on this machine takes over from it.
    _place: Option<DataDir>,
}

/// A data directory, looked at by a command that is to log in by itself.
enum Place {
    /// Nobody else has it, until this is dropped.
    Free(DataDir),
    /// An agent runs on it; this goes through it.
    Served(Box<Client>),
}

impl Client {
    /// Connects, and logs in where that is needed. `software` is program and version.
    ///
    /// # Errors
    /// When nobody answers there, or does not let us in.
    pub async fn connect(target: Target, software: &str) -> Result<Client, ClientError> {
        match target {
            Target::Socket(path) => Self::through(&path, software).await,
            Target::Hub { address, trust, id, invite, name, key_dir } => {
                let identity = Identity { id, unique_id: None, invite, name, software: software.to_owned() };
                let data = match Self::place(&key_dir, software).await? {
                    Place::Free(data) => data,
                    Place::Served(client) => {
                        // The agent there is who is asked for, or it is nobody's business here.
                        identify(&KeyFile::new(&key_dir, Machine::this()), identity, trust)?;
                        return Ok(*client);
                    }
                };
                let key_file = data.key_file();
                let (identity, trust) = identify(&key_file, identity, trust)?;
                let dialed = dial::dial(&address, &trust).await?;
                let logged_in = login(boxed(dialed.stream), identity, dialed.fingerprint, &key_file).await?;
                let (incoming, outgoing) = logged_in.halves;
                Ok(Client { incoming, outgoing, pinged: Instant::now(), _place: Some(data) })
            }
        }
    }

    /// Asks through the local socket of a running agent or hub.
    async fn through(socket: &Path, software: &str) -> Result<Client, ClientError> {
        let (_dir, short) = short_path(socket)?;
        let stream = UnixStream::connect(short).await.map_err(|e| DiskError::new("connect to", socket, e))?;
        let (read, write) = tokio::io::split(boxed(stream));
        let (mut incoming, mut outgoing) = (Incoming::new(read), Outgoing::new(write));
        outgoing.send(&hello(software, Purpose::Relay { token: Token([0; 32]) })).await?;
        first_words(&mut incoming).await?;
        Ok(Client { incoming, outgoing, pinged: Instant::now(), _place: None })
    }

    /// The data directory for this command alone, or the agent that runs on it: one machine, one login. Another command
    /// that is logged in from there is waited for.
    async fn place(key_dir: &Path, software: &str) -> Result<Place, ClientError> {
        let began = Instant::now();
        loop {
            let in_use = match DataDir::open(key_dir) {
                Ok(data) => return Ok(Place::Free(data)),
                Err(error @ StateError::InUse { .. }) => error,
                Err(error) => return Err(error.into()),
            };
            match Self::through(&socket_path(key_dir), software).await {
                Ok(client) => return Ok(Place::Served(Box::new(client))),
                Err(ClientError::Disk(_)) if began.elapsed() < PLACE_MAX => tokio::time::sleep(PLACE_AGAIN).await,
                Err(ClientError::Disk(_)) => return Err(in_use.into()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Puts a value, or with `None` removes it. It is on the hub's disk when this returns.
    ///
    /// # Errors
    /// When the hub refuses or the connection breaks: then the put may have been done all the same.
    pub async fn put(&mut self, name: impl Into<Bytes>, value: Option<Content>) -> Result<Version, ClientError> {
        self.outgoing.send(&ToHub::Put { req: NUMBER, name: name.into(), value }).await?;
        match self.receive().await? {
            ToClient::PutDone { req: NUMBER, version } => Ok(version),
            other => Err(unexpected(other)),
        }
    }

    /// The newest value of a name; `None` where there is none.
    ///
    /// # Errors
    /// When the hub refuses or the connection breaks.
    pub async fn get(&mut self, name: impl Into<Bytes>) -> Result<Option<(Version, Stored)>, ClientError> {
        self.outgoing.send(&ToHub::Get { req: NUMBER, name: name.into() }).await?;
        match self.receive().await? {
            ToClient::Got { req: NUMBER, value } => Ok(value),
            other => Err(unexpected(other)),
        }
    }

    /// Asks; for [`Question::Wait`] this takes as long as it says.
    ///
    /// # Errors
    /// When the hub refuses or the connection breaks.
    pub async fn ask(&mut self, question: Question) -> Result<Answer, ClientError> {
        self.outgoing.send(&ToHub::Ask { req: NUMBER, question }).await?;
        match self.receive().await? {
            ToClient::Answer { req: NUMBER, answer } => Ok(answer),
            other => Err(unexpected(other)),
        }
    }

    /// Follows the names of `board` that match `pattern`: all there are, then each new one.
    ///
    /// # Errors
    /// When the hub refuses or the connection breaks.
    pub async fn follow(self, board: &str, pattern: impl Into<Bytes>) -> Result<Follow, ClientError> {
        Follow::begin(self, board, pattern.into()).await
    }

    /// The next message that is not a sign of life. Gives signs of life meanwhile, however much is heard.
    async fn receive(&mut self) -> Result<ToClient, ClientError> {
        let mut heard = Instant::now();
        loop {
            if self.pinged.elapsed() >= PING_EVERY {
                self.pinged = Instant::now();
                self.outgoing.send(&ToHub::Ping { nonce: 0 }).await?;
            }
            match tokio::time::timeout_at(self.pinged + PING_EVERY, self.incoming.next()).await {
                Ok(Ok(Some(ToClient::Pong { .. }))) => heard = Instant::now(),
                Ok(Ok(Some(ToClient::Failed { refusal, .. } | ToClient::Bye(refusal)))) => {
                    return Err(ClientError::Refused(refusal));
                }
                Ok(Ok(Some(message))) => return Ok(message),
                Ok(Ok(None)) => return Err(ConnError::Cut.into()),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if heard.elapsed() >= SILENCE_MAX => {
                    return Err(ConnError::Silent { for_s: heard.elapsed().as_secs() }.into());
                }
                Err(_) => {}
            }
        }
    }
}

/// Who to log in as, and the hub it has to be, by the key that is there. A key is never replaced by another id's or
/// hub's: what it proves would be lost.
fn identify(key_file: &KeyFile, identity: Identity, trust: Trust) -> Result<(Identity, Trust), ClientError> {
    match key_file.read()? {
        Found::Nothing => Ok((identity, trust)),
        Found::Ours(key) => {
            let other_hub = matches!(trust, Trust::Known(hub) if hub != key.hub);
            let other_id = identity.id.is_some_and(|id| id != key.unique_id.id());
            if other_hub || other_id {
                return Err(ClientError::OtherKey {
                    path: key_file.path().to_owned(),
                    id: key.unique_id.id(),
                    other_hub,
                });
            }
            let trust = Trust::Known(key.hub);
            Ok((Identity { id: Some(key.unique_id.id()), unique_id: Some(key.unique_id), ..identity }, trust))
        }
        Found::Copied { id, why } => match identity.invite {
            // As reissuing gives one: the id is proven anew and the copy replaced.
            Some(_) => Ok((identity, trust)),
            None => Err(ClientError::CopiedKey { path: key_file.path().to_owned(), id, why }),
        },
    }
}

fn unexpected(message: ToClient) -> ClientError {
    match message {
        ToClient::Refused(refusal) => ClientError::Refused(refusal),
        _ => ConnError::Unexpected("an answer to something else").into(),
    }
}

/// Why a command came to nothing.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The local socket, or a file of our own.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The hub cannot be reached, or is not the right one.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The data directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The key in the data directory is another's.
    #[error(
        "the key in {} is that of client {id}{}; ask as that client, or give this one a place of its own with --data DIR",
        path.display(),
        if *other_hub { " of another hub" } else { "" }
    )]
    OtherKey {
        /// The key file.
        path: PathBuf,
        /// Whose it is.
        id: ClientId,
        /// Whether it is the hub that differs.
        other_hub: bool,
    },
    /// The key was issued to another machine.
    #[error(
        "the key in {} is that of client {id} and is not used: {why}; give this machine a place of its own with \
         --data DIR, or ask with the link that 'lockstep clients reissue {id}' prints on the hub",
        path.display()
    )]
    CopiedKey {
        /// The key file.
        path: PathBuf,
        /// Whose it is.
        id: ClientId,
        /// How that was seen.
        why: &'static str,
    },
    /// The hub, or the agent on the way to it, says no.
    #[error("{}", .0.text)]
    Refused(Refusal),
    /// What was asked for breaks a limit or a rule of its own: nothing was sent.
    #[error("{0}; nothing was sent")]
    Unsaid(EncodeError),
    /// The connection broke.
    #[error("{0}")]
    Connection(String),
}

impl ClientError {
    /// The hub's code, where it was the hub that said no.
    pub fn code(&self) -> Option<Code> {
        match self {
            ClientError::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    /// Whether no other try helps before somebody has done something: the hub does not let this client in, or the key is that
    /// of another machine.
    pub fn is_for_good(&self) -> bool {
        match self {
            ClientError::Refused(refusal) => refusal.is_for_good(),
            ClientError::CopiedKey { .. } => true,
            _ => false,
        }
    }

    /// Whether another try may help: the hub or the agent was cut off, stopped, or is just being started.
    pub fn is_passing(&self) -> bool {
        use std::io::ErrorKind::{ConnectionRefused, NotFound};
        match self {
            ClientError::Refused(refusal) => refusal.retry_ms.is_some(),
            ClientError::Dial(error) => error.is_passing(),
            ClientError::Disk(error) => matches!(error.source.kind(), NotFound | ConnectionRefused),
            ClientError::Connection(_) | ClientError::State(StateError::InUse { .. }) => true,
            ClientError::State(_)
            | ClientError::Unsaid(_)
            | ClientError::Key(_)
            | ClientError::OtherKey { .. }
            | ClientError::CopiedKey { .. } => false,
        }
    }
}

impl From<ConnError> for ClientError {
    fn from(error: ConnError) -> ClientError {
        match error {
            ConnError::Refused(refusal) => ClientError::Refused(refusal),
            ConnError::Encode(error) => ClientError::Unsaid(error),
            error => ClientError::Connection(error.to_string()),
        }
    }
}

impl From<LoginError> for ClientError {
    fn from(error: LoginError) -> ClientError {
        match error {
            LoginError::Conn(error) => error.into(),
            LoginError::NotSaved(error) => ClientError::Key(error),
            LoginError::Refused(refusal) => ClientError::Refused(refusal),
        }
    }
}
