//! The native transport's door: TLS and the login. Nobody who has not logged in costs more than a small buffer and a few
//! seconds.

use crate::accept;
use crate::bulk;
use crate::core::Hub;
use crate::counts::{Counted, Via};
use crate::further::{Seat, TooMany};
use crate::io::{Incoming, ReadError};
use crate::presence::Session;
use crate::reception::{Stay, at_the_desk};
use crate::session::{self, Ended, Role};
use crate::strangers::Place;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use wire::codec::encode_frame;
use wire::limits::{FRAME_BYTES_MAX_BEFORE_LOGIN, LOGIN_MAX, SILENCE_MAX};
use wire::login::{Admitted, Login, Then};
use wire::message::{Code, Purpose, Refusal, ToClient};

/// Bytes that the kernel may hold unsent for a client: what is in there can no longer be replaced by something newer.
const UNSENT_BYTES_MAX: u32 = 128 << 10;
/// A last word is given this long to get out, also when the time for the login is over.
const LAST_WORD_MAX: Duration = Duration::from_secs(1);

/// Lets in who comes, until the hub stops; returns when every connection has ended.
pub(crate) async fn open(hub: Arc<Hub>, listener: TcpListener, tls: TlsAcceptor) {
    let serve = |(stream, address): (TcpStream, SocketAddr)| {
        // One address a machine, also where the listener takes both kinds.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let place = hub.strangers.enter(address.ip());
        welcome(Arc::clone(&hub), stream, address, tls.clone(), place)
    };
    accept::all(&hub, move |cx| listener.poll_accept(cx), serve).await;
}

async fn welcome(hub: Arc<Hub>, stream: TcpStream, address: SocketAddr, tls: TlsAcceptor, place: Place) {
    if let Err(error) = tune(&stream) {
        tracing::debug!(%address, %error, "the connection could not be tuned");
    }
    let mut stopping = hub.stopping.subscribe();
    // One deadline for the handshake and the dialogue.
    let login = Login::new(&address.ip().to_string(), &hub.policy(), hub.now());
    let came = async {
        let until = hub.until(login.until());
        let stream = tokio::time::timeout(until, tls.accept(Counted::new(stream, &hub.counts.native)))
            .await
            .map_err(|_| "no TLS handshake in time")?;
        let stream = stream.map_err(|error| {
            tracing::debug!(%address, %error, "no TLS handshake");
            "no TLS handshake"
        })?;
        let (from, mut to) = tokio::io::split(stream);
        let mut incoming = Incoming::new(from);
        let who = log_in(&hub, login, address, &mut incoming, &mut to).await;
        Ok::<_, &str>((who, incoming, to))
    };
    let came = tokio::select! {
        came = came => came,
        () = place.evicted() => Err("cut: too many wait to log in, and this one waited longest"),
        _ = stopping.wait_for(|stop| *stop) => return,
    };
    drop(place);
    match came {
        Ok((Some(Who::In(admitted)), incoming, to)) => stay(&hub, admitted, address, incoming, to).await,
        Ok((Some(Who::Attached(session, bulk, _seat)), incoming, to)) => {
            let ended = if bulk {
                bulk::serve(Arc::clone(&hub), Arc::clone(&session), incoming, to).await
            } else {
                session::serve(Arc::clone(&hub), Role::Relay(Arc::clone(&session)), incoming, to).await
            };
            tracing::debug!(id = session.id, %address, bulk, why = %ended, "an attached connection ended");
        }
        Ok((None, ..)) => {}
        Err(why) => tracing::info!(%address, "not logged in: {why}"),
    }
}

enum Who {
    In(Admitted),
    Attached(Arc<Session>, bool, Seat),
}

/// The login's dialogue; what is decided is decided by [`Login`].
async fn log_in<R, W>(
    hub: &Arc<Hub>,
    mut login: Login,
    address: SocketAddr,
    incoming: &mut Incoming<R>,
    to: &mut W,
) -> Option<Who>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        let until = hub.until(login.until());
        let step = match tokio::time::timeout(until, incoming.next(FRAME_BYTES_MAX_BEFORE_LOGIN)).await {
            Ok(Ok(message)) => at_the_desk(hub, address.ip(), Via::Native, &mut login, Some(message)).await,
            Ok(Err(ReadError::Closed | ReadError::Io(_))) => {
                tracing::info!(%address, "left without logging in");
                return None;
            }
            Ok(Err(error)) => {
                tracing::warn!(%address, %error, "not logged in");
                let refusal =
                    Refusal { code: Code::Protocol, text: format!("not understood: {error}"), retry_ms: None };
                send_last(to, &[ToClient::Refused(refusal)]).await;
                return None;
            }
            Err(_) => at_the_desk(hub, address.ip(), Via::Native, &mut login, None).await,
        };
        let mut frames = Vec::new();
        for message in &step.say {
            match encode_frame(message) {
                Ok(frame) => frames.extend_from_slice(&frame),
                Err(error) => tracing::error!(%error, "a login's answer could not be encoded"),
            }
        }
        let write = async {
            to.write_all(&frames).await?;
            to.flush().await
        };
        let until = hub.until(login.until()).max(LAST_WORD_MAX);
        if !matches!(tokio::time::timeout(until, write).await, Ok(Ok(()))) {
            tracing::info!(%address, "went away while logging in");
            return None;
        }
        match step.then {
            Then::Wait { .. } => {}
            Then::In(admitted) => return Some(Who::In(admitted)),
            Then::Attach(purpose) => return attach(hub, address, &purpose, to).await,
            Then::End => {
                send_last(to, &[]).await;
                return None;
            }
        }
    }
}

async fn attach<W: AsyncWrite + Unpin>(hub: &Hub, address: SocketAddr, purpose: &Purpose, to: &mut W) -> Option<Who> {
    let (token, bulk) = match purpose {
        Purpose::Bulk { token } => (token, true),
        Purpose::Relay { token } => (token, false),
        Purpose::Login => return None,
    };
    let Some(session) = hub.presence.by_token(token) else {
        tracing::info!(%address, "wanted to attach to a session that is not here");
        let text = "the session this belongs to has ended: log in again".to_owned();
        send_last(to, &[ToClient::Refused(Refusal { code: Code::NotProven, text, retry_ms: Some(0) })]).await;
        return None;
    };
    let seat = match hub.further.enter(&session) {
        Ok(seat) => seat,
        Err(whose) => {
            tracing::warn!(id = session.id, %address, ?whose, "too many further connections; one was refused");
            let text = match whose {
                TooMany::OfClient => "this session has too many connections: wait until some have ended",
                TooMany::OfAll => {
                    "the clients of this hub have too many connections beside their first: try again; the hub may have more \
                     where more files may be open (ulimit -n)"
                }
            };
            let refusal = Refusal { code: Code::Limit, text: text.to_owned(), retry_ms: Some(1000) };
            send_last(to, &[ToClient::Refused(refusal)]).await;
            return None;
        }
    };
    let attached = encode_frame(&ToClient::Attached).ok()?;
    to.write_all(&attached).await.ok()?;
    to.flush().await.ok()?;
    Some(Who::Attached(session, bulk, seat))
}

/// From being let in to leaving: the client is on the list of active ones.
async fn stay<R, W>(hub: &Arc<Hub>, admitted: Admitted, address: SocketAddr, incoming: Incoming<R>, mut to: W)
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let stay = match Stay::begin(hub, &admitted, address, "native") {
        Ok(stay) => stay,
        Err(error) => return tracing::error!(%error, "no session could be opened"),
    };
    let ended = match encode_frame(&ToClient::Welcome(stay.welcome())) {
        Ok(frame) => {
            match tokio::time::timeout(LOGIN_MAX, to.write_all(&frame)).await.unwrap_or_else(|e| Err(e.into())) {
                Ok(()) => session::serve(Arc::clone(hub), Role::Client(Arc::clone(stay.session())), incoming, to).await,
                Err(error) => Ended::Write(error),
            }
        }
        Err(error) => Ended::Write(std::io::Error::other(error)),
    };
    stay.leave(&ended);
}

async fn send_last<W: AsyncWrite + Unpin>(to: &mut W, messages: &[ToClient]) {
    let write = async {
        for message in messages {
            let frame = encode_frame(message).map_err(std::io::Error::other)?;
            to.write_all(&frame).await?;
        }
        to.flush().await?;
        to.shutdown().await
    };
    if !matches!(tokio::time::timeout(LAST_WORD_MAX, write).await, Ok(Ok(()))) {
        tracing::debug!("a last word did not get out");
    }
}

/// No delay for small frames; little that is unsent in the kernel; a peer that vanished is noticed there too.
fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.set_tcp_user_timeout(Some(SILENCE_MAX))
}
