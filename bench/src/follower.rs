//! A native client as small as one can be, so that a thousand of them cost the machine little.

use agent::dial::{Decision, Dialed, Trust, dial};
use anyhow::{Result, bail};
use bytes::BytesMut;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use wire::client_login::{Act, ClientLogin, Identity};
use wire::codec::{FrameReader, decode_to_client, encode_frame};
use wire::id::ClientId;
use wire::limits::{FRAME_BYTES_MAX, PING_EVERY};
use wire::message::{Content, Purpose, ToClient, ToHub};
use wire::secret::Token;

/// A session that stays, and `count` further connections of it; the hub cuts none of these for being silent.
pub(crate) async fn relays(address: &str, id: u64, count: usize) -> Result<Vec<Wire>> {
    let (session, token) = Wire::login(address, id).await?;
    // Its end is the hub's.
    drop(tokio::spawn(session.follow(|_| ())));
    let mut wires = Vec::new();
    for _ in 0..count {
        wires.push(Wire::relay(address, token).await?);
    }
    Ok(wires)
}

/// Reads and writes.
trait Both: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Both for S {}

/// What [`Dialed`] holds, whatever its type.
type Tls = Box<dyn Both>;

/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 100;

/// A connection that was let in.
pub(crate) struct Wire {
    read: ReadHalf<Tls>,
    write: WriteHalf<Tls>,
    buffer: BytesMut,
    frames: FrameReader,
}

impl Wire {
    /// Logs in as `id`, which the hub must not know yet. Also gives what lets further connections in.
    pub(crate) async fn login(address: &str, id: u64) -> Result<(Wire, Token)> {
        let mut wire = Wire::open(address).await?;
        let identity = Identity {
            id: Some(ClientId::new(id)?),
            unique_id: None,
            invite: None,
            name: format!("bench-{id}"),
            software: "lockstep-bench".into(),
        };
        let (mut login, hello) = ClientLogin::new(identity);
        wire.say(&hello).await?;
        loop {
            let message = wire.hear().await?;
            match login.on(message) {
                Act::Say(message) => wire.say(&message).await?,
                // Nobody comes back with it.
                Act::SaveThenConfirm(_) => wire.say(&ToHub::Confirm).await?,
                Act::Wait => {}
                Act::In(welcome) => return Ok((wire, welcome.token)),
                Act::Refused(refusal) => bail!("the hub refuses: {}", refusal.text),
            }
        }
    }

    /// One more connection of a session, as a command on that machine has it.
    pub(crate) async fn relay(address: &str, token: Token) -> Result<Wire> {
        let mut wire = Wire::open(address).await?;
        let versions = (wire::PROTOCOL_VERSION_MIN, wire::PROTOCOL_VERSION);
        let purpose = Purpose::Relay { token };
        wire.say(&ToHub::Hello { versions, software: "lockstep-bench".into(), purpose }).await?;
        loop {
            match wire.hear().await? {
                ToClient::Hello { .. } => {}
                ToClient::Attached => return Ok(wire),
                other => bail!("not attached but {other:?}"),
            }
        }
    }

    /// Puts a value of [`VALUE_BYTES`] bytes; it is on the hub's disk when this returns.
    pub(crate) async fn put(&mut self, name: &str) -> Result<()> {
        let content = Content { content_type: "text/plain".into(), bytes: vec![b'x'; VALUE_BYTES].into() };
        self.say(&ToHub::Put { req: 1, name: name.to_owned().into(), value: Some(content) }).await?;
        match self.hear().await? {
            ToClient::PutDone { .. } => Ok(()),
            other => bail!("not put but {other:?}"),
        }
    }

    /// Follows all of `data`; each record that comes is given to `heard` by its name. Ends only with an error.
    pub(crate) async fn follow(mut self, heard: impl Fn(&[u8])) -> Result<()> {
        self.say(&ToHub::Follow { fid: 1, board: "data".into(), pattern: "*".into(), cursor: None }).await?;
        let mut ping = tokio::time::interval(PING_EVERY);
        loop {
            tokio::select! {
                message = hear(&mut self.read, &mut self.buffer, &mut self.frames) => {
                    if let ToClient::Batch(batch) = message? {
                        batch.records.iter().for_each(|record| heard(&record.name));
                    }
                }
                _ = ping.tick() => say(&mut self.write, &ToHub::Ping { nonce: 0 }).await?,
            }
        }
    }

    async fn open(address: &str) -> Result<Wire> {
        let trust = Trust::Ask(Arc::new(|_, _| Decision::No));
        let Dialed { stream, .. } = dial(address, &trust).await?;
        let (read, write) = tokio::io::split(Box::new(stream) as Tls);
        Ok(Wire { read, write, buffer: BytesMut::new(), frames: FrameReader::new() })
    }

    async fn say(&mut self, message: &ToHub) -> Result<()> {
        say(&mut self.write, message).await
    }

    async fn hear(&mut self) -> Result<ToClient> {
        let patience = Duration::from_secs(60);
        tokio::time::timeout(patience, hear(&mut self.read, &mut self.buffer, &mut self.frames)).await?
    }
}

async fn say(write: &mut WriteHalf<Tls>, message: &ToHub) -> Result<()> {
    write.write_all(&encode_frame(message)?).await?;
    Ok(write.flush().await?)
}

/// The next message; nothing is lost when this is dropped half-way.
async fn hear(read: &mut ReadHalf<Tls>, buffer: &mut BytesMut, frames: &mut FrameReader) -> Result<ToClient> {
    loop {
        if let Some(body) = frames.next(buffer, FRAME_BYTES_MAX)? {
            return Ok(decode_to_client(body)?);
        }
        if read.read_buf(buffer).await? == 0 {
            bail!("the hub closed the connection");
        }
    }
}
