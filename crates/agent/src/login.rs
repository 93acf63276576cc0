//! Getting in: dialing, the login, and further connections of a session.

use crate::conn::{ConnError, Incoming, Outgoing, Stream};
use crate::dial::{self, Dialed, Trust};
use crate::key::{Key, KeyFile};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use wire::client_login::{Act, ClientLogin, Identity};
use wire::limits::LOGIN_MAX;
use wire::link::Fingerprint;
use wire::message::{Purpose, Refusal, ToClient, ToHub, Welcome};
use wire::secret::Token;
use wire::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};

/// The halves of a connection, after its first words.
pub(crate) type Halves = (Incoming<ReadHalf<Box<dyn Stream>>>, Outgoing<WriteHalf<Box<dyn Stream>>>);

/// What opens further connections of a session: to the same hub, by its token.
#[derive(Clone, Debug)]
pub(crate) struct SessionLink {
    pub(crate) address: String,
    pub(crate) hub: Fingerprint,
    pub(crate) token: Token,
    pub(crate) software: String,
}

/// A login that succeeded.
pub(crate) struct LoggedIn {
    pub(crate) welcome: Welcome,
    /// The unique ID is new, and on disk.
    pub(crate) issued: bool,
    pub(crate) halves: Halves,
}

/// Logs in over `stream`. A unique ID that is issued is on disk before it is confirmed.
pub(crate) async fn login(
    stream: Box<dyn Stream>,
    identity: Identity,
    hub: Fingerprint,
    key_file: &KeyFile,
) -> Result<LoggedIn, LoginError> {
    let (read, write) = tokio::io::split(stream);
    let (mut incoming, mut outgoing) = (Incoming::new(read), Outgoing::new(write));
    let (mut state, hello) = ClientLogin::new(identity);
    outgoing.send(&hello).await?;
    let mut issued = false;
    loop {
        let message = incoming.expect(LOGIN_MAX).await?;
        match state.on(message) {
            Act::Say(message) => outgoing.send(&message).await?,
            Act::SaveThenConfirm(unique_id) => {
                let (key_file, key) = (key_file.clone(), Key { unique_id, hub });
                let written = tokio::task::spawn_blocking(move || key_file.write(&key)).await;
                match written {
                    Ok(written) => written.map_err(LoginError::NotSaved)?,
                    Err(_) => return Err(ConnError::Unexpected("the end of the program").into()),
                }
                issued = true;
                outgoing.send(&ToHub::Confirm).await?;
            }
            Act::Wait => {}
            Act::In(welcome) => {
                incoming.logged_in();
                return Ok(LoggedIn { welcome, issued, halves: (incoming, outgoing) });
            }
            Act::Refused(refusal) => return Err(LoginError::Refused(refusal)),
        }
    }
}

impl SessionLink {
    /// One more connection of the session, for bulk contents or a command.
    pub(crate) async fn attach(&self, purpose: Purpose) -> Result<Box<dyn Stream>, ConnError> {
        let mut stream = self.open().await?;
        {
            let (read, write) = tokio::io::split(&mut stream);
            let (mut incoming, mut outgoing) = (Incoming::new(read), Outgoing::new(write));
            outgoing.send(&hello(&self.software, purpose)).await?;
            first_words(&mut incoming).await?;
        }
        Ok(stream)
    }

    /// A connection on which nothing was said yet.
    pub(crate) async fn open(&self) -> Result<Box<dyn Stream>, ConnError> {
        let Dialed { stream, .. } = dial::dial(&self.address, &Trust::Known(self.hub))
            .await
            .map_err(|error| ConnError::Io(std::io::Error::other(error)))?;
        Ok(Box::new(stream))
    }
}

/// The first message of every connection.
pub(crate) fn hello(software: &str, purpose: Purpose) -> ToHub {
    ToHub::Hello { versions: (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION), software: software.to_owned(), purpose }
}

/// Waits for what answers [`hello`] where no login is asked for. The hub says nothing more before it is asked, so
/// nothing is read ahead.
pub(crate) async fn first_words<R: AsyncRead + Unpin>(incoming: &mut Incoming<R>) -> Result<(), ConnError> {
    loop {
        match incoming.expect(LOGIN_MAX).await? {
            ToClient::Hello { version, .. } if (PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION).contains(&version) => {}
            ToClient::Attached => {
                incoming.logged_in();
                return Ok(());
            }
            ToClient::Refused(refusal) | ToClient::Bye(refusal) => return Err(ConnError::Refused(refusal)),
            _ => return Err(ConnError::Unexpected("an answer that attaches nothing")),
        }
    }
}

/// Any stream, as one type.
pub(crate) fn boxed<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S) -> Box<dyn Stream> {
    Box::new(stream)
}

/// Why there is no session.
#[derive(Debug, Error)]
pub(crate) enum LoginError {
    #[error(transparent)]
    Conn(#[from] ConnError),
    #[error("the unique ID that was issued could not be saved, so it was not confirmed: {0}")]
    NotSaved(crate::key::KeyError),
    #[error("{}", .0.text)]
    Refused(Refusal),
}
