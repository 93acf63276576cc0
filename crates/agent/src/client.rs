//! A client of a hub for one command: put, get, follow, ask.
//!
//! On a machine with a running agent or hub it goes through their local socket; elsewhere it logs in with a key of its
//! own. One request at a time.

use crate::conn::{ConnError, Incoming, Outgoing, Stream};
use crate::control::short_path;
use crate::dial::{self, DialError, Trust};
use crate::disk::DiskError;
use crate::key::{Found, KeyError, KeyFile, Machine};
use crate::login::{LoginError, boxed, first_words, hello, login};
use bytes::Bytes;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use wire::answer::{Answer, Question};
use wire::client_login::Identity;
use wire::id::ClientId;
use wire::limits::{PING_EVERY, SILENCE_MAX};
use wire::link::InviteCode;
use wire::message::{Batch, Code, Content, Mark, Number, Purpose, Refusal, Stored, ToClient, ToHub, Version};
use wire::secret::Token;

/// The number of the one follow or request under way.
const NUMBER: Number = 1;

/// Where a hub is found.
#[derive(Debug)]
pub enum Target {
    /// Through the local socket of a running agent or hub.
    Socket(PathBuf),
    /// Directly.
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
}

/// A follow of a board, see [`Client::follow`].
pub struct Follow {
    client: Client,
    epoch: u128,
    run: u64,
    ready: VecDeque<Update>,
}

/// What a follow tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A name has a new value, or none any more.
    Changed {
        /// The name.
        name: Bytes,
        /// The version of the board with it.
        version: Version,
        /// The value as it stands on the board; on `data`, for [`wire::codec::decode_stored`].
        value: Option<Bytes>,
    },
    /// All there is was told; what comes from here on is new.
    Current {
        /// The version of the board.
        version: Version,
    },
}

impl Client {
    /// Connects, and logs in where that is needed. `software` is program and version.
    ///
    /// # Errors
    /// When nobody answers there, or does not let us in.
    pub async fn connect(target: Target, software: &str) -> Result<Client, ClientError> {
        match target {
            Target::Socket(path) => {
                let (_dir, short) = short_path(&path)?;
                let stream = UnixStream::connect(short).await.map_err(|e| DiskError::new("connect to", &path, e))?;
                let (read, write) = tokio::io::split(boxed(stream));
                let (mut incoming, mut outgoing) = (Incoming::new(read), Outgoing::new(write));
                outgoing.send(&hello(software, Purpose::Relay { token: Token([0; 32]) })).await?;
                first_words(&mut incoming).await?;
                Ok(Client { incoming, outgoing })
            }
            Target::Hub { address, trust, id, invite, name, key_dir } => {
                crate::disk::make_private_dir(&key_dir)?;
                let key_file = KeyFile::new(&key_dir, Machine::this());
                let mut identity = Identity { id, unique_id: None, invite, name, software: software.to_owned() };
                let mut trust = trust;
                match key_file.read()? {
                    Found::Ours(key) if id.is_none_or(|id| id == key.unique_id.id()) => {
                        if matches!(trust, Trust::Ask(_)) {
                            trust = Trust::Known(key.hub);
                        }
                        // A unique ID is shown to the hub that issued it and to no other.
                        if matches!(trust, Trust::Known(hub) if hub == key.hub) {
                            identity.id = Some(key.unique_id.id());
                            identity.unique_id = Some(key.unique_id);
                        }
                    }
                    _ => {}
                }
                let dialed = dial::dial(&address, &trust).await?;
                let logged_in = login(boxed(dialed.stream), identity, dialed.fingerprint, &key_file).await?;
                let (incoming, outgoing) = logged_in.halves;
                Ok(Client { incoming, outgoing })
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
    pub async fn follow(mut self, board: &str, pattern: impl Into<Bytes>) -> Result<Follow, ClientError> {
        let follow = ToHub::Follow { fid: NUMBER, board: board.to_owned(), pattern: pattern.into(), cursor: None };
        self.outgoing.send(&follow).await?;
        match self.receive().await? {
            ToClient::Following { fid: NUMBER, epoch, run, .. } => {
                Ok(Follow { client: self, epoch, run, ready: VecDeque::new() })
            }
            other => Err(unexpected(other)),
        }
    }

    /// The next message that is not a sign of life. Gives signs of life meanwhile.
    async fn receive(&mut self) -> Result<ToClient, ClientError> {
        let mut silent_for = Duration::ZERO;
        loop {
            match tokio::time::timeout(PING_EVERY, self.incoming.next()).await {
                Ok(Ok(Some(ToClient::Pong { .. }))) => silent_for = Duration::ZERO,
                Ok(Ok(Some(ToClient::Failed { refusal, .. } | ToClient::Bye(refusal)))) => {
                    return Err(ClientError::Refused(refusal));
                }
                Ok(Ok(Some(message))) => return Ok(message),
                Ok(Ok(None)) => return Err(ConnError::Cut.into()),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if silent_for >= SILENCE_MAX => {
                    return Err(ConnError::Silent { for_s: silent_for.as_secs() }.into());
                }
                Err(_) => {
                    silent_for += PING_EVERY;
                    self.outgoing.send(&ToHub::Ping { nonce: 0 }).await?;
                }
            }
        }
    }
}

impl Follow {
    /// The next thing that happened. Nothing is lost if this is dropped half-way.
    ///
    /// # Errors
    /// When the connection breaks; following anew begins with all there is.
    pub async fn next(&mut self) -> Result<Update, ClientError> {
        loop {
            if let Some(update) = self.ready.pop_front() {
                return Ok(update);
            }
            match self.client.receive().await? {
                ToClient::Batch(batch) => self.take(batch),
                other => return Err(unexpected(other)),
            }
        }
    }

    fn take(&mut self, batch: Batch) {
        let version = |seq| Version { epoch: self.epoch, run: self.run, seq };
        for record in batch.records {
            self.ready.push_back(Update::Changed {
                name: record.name,
                version: version(record.seq),
                value: record.value,
            });
        }
        if let Mark::Live { to, current: Some(_), .. } = batch.mark {
            self.ready.push_back(Update::Current { version: version(to) });
        }
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
    /// The hub, or the agent on the way to it, says no.
    #[error("{}", .0.text)]
    Refused(Refusal),
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
}

impl From<ConnError> for ClientError {
    fn from(error: ConnError) -> ClientError {
        match error {
            ConnError::Refused(refusal) => ClientError::Refused(refusal),
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
