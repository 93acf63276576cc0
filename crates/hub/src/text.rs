//! Lines of text over TCP, for people with `nc` and programs of ten lines; `docs/text.md` is the whole protocol.
//!
//! A connection is asked for its ID and its unique ID ([`dialogue`], the login of every transport in words), and then
//! types commands ([`grammar`]) and is sent answers and values, each a line ([`session`]). What is typed is taken apart by
//! [`lines`] and [`quote`], which know no socket.
//!
//! There are no acknowledgements. How fast a client is sent values is decided by what its TCP takes: nothing is queued for
//! it here, little in the kernel, and what was replaced meanwhile is skipped. A person may be silent for hours, so its
//! presence is its connection: keep-alive probes tell within [`wire::limits::SILENCE_MAX`] that there is nobody any more.

mod dialogue;
pub(crate) mod grammar;
pub(crate) mod lines;
pub(crate) mod quote;
mod session;

use crate::accept;
use crate::core::Hub;
use crate::counts::{Counted, Via};
use crate::reception::{Stay, at_the_desk};
use crate::strangers::Place;
use bytes::BytesMut;
use dialogue::Dialogue;
use lines::{Lines, Piece};
use socket2::{SockRef, TcpKeepalive};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use wire::login::{Admitted, Login, Policy, Then};
use wire::message::{Code, Refusal};

/// From the connection to being in: a person has to find what was issued, and to type it.
const LOGIN_MAX: Duration = Duration::from_secs(120);
/// A line before the login: the longest ID, an invite's link, and blanks.
const LINE_BYTES_MAX_BEFORE_LOGIN: usize = 1024;
/// Bytes that the kernel may hold unsent for a client: what is in there can no longer be replaced by something newer.
const UNSENT_BYTES_MAX: u32 = 16 << 10;
/// A connection on which nothing came is probed after this,
const PROBE_AFTER: Duration = Duration::from_secs(5);
/// then as often as this,
const PROBE_EVERY: Duration = Duration::from_secs(3);
/// and is gone when nothing was answered for this long, be it probes or values. Looked at with each probe, so the last
/// look before [`wire::limits::SILENCE_MAX`] must find it over.
const UNANSWERED_MAX: Duration = Duration::from_secs(12);
/// A last line is given this long to get out.
const GOODBYE_MAX: Duration = Duration::from_millis(500);
/// So much of what comes behind it is thrown away in order.
const LINGER_BYTES_MAX: usize = 1 << 20;
/// What is read from a connection at once.
const READ_BYTES: usize = 4096;

/// The two directions of a connection.
type From = Counted<OwnedReadHalf>;
type To = Counted<OwnedWriteHalf>;

/// Lets in who comes, until the hub stops; returns when every connection has ended.
pub(crate) async fn open(hub: Arc<Hub>, listener: TcpListener) {
    let serve = |(stream, address): (TcpStream, SocketAddr)| {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let place = hub.strangers.enter(address.ip());
        welcome(Arc::clone(&hub), stream, address, place)
    };
    accept::all(&hub, move |cx| listener.poll_accept(cx), serve).await;
}

async fn welcome(hub: Arc<Hub>, stream: TcpStream, address: SocketAddr, place: Place) {
    if let Err(error) = tune(&stream) {
        tracing::debug!(%address, %error, "the connection could not be tuned");
    }
    let (from, to) = stream.into_split();
    let (from, mut to) = Counted::halves(from, to, &hub.counts.text);
    let mut incoming = Incoming { from, bytes: BytesMut::new(), lines: Lines::default() };
    let mut stopping = hub.stopping.subscribe();
    let came = tokio::select! {
        came = log_in(&hub, address, &mut incoming, &mut to) => came,
        () = place.evicted() => {
            let text = "too many wait to log in, and this one waited longest: connect again".to_owned();
            Err(Refusal { code: Code::Full, text, retry_ms: Some(0) })
        }
        _ = stopping.wait_for(|stop| *stop) => Err(hub.farewell.refusal()),
    };
    drop(place);
    let (admitted, first) = match came {
        Ok(Some(came)) => came,
        Ok(None) => return incoming.linger().await,
        Err(refusal) => {
            tracing::info!(%address, "not logged in: {}", refusal.text);
            send_last(&mut to, &dialogue::refused(&refusal)).await;
            return incoming.linger().await;
        }
    };
    let stay = match Stay::begin(&hub, &admitted, address, "text") {
        Ok(stay) => stay,
        Err(error) => return tracing::error!(%error, "no session could be opened"),
    };
    let why = session::serve(&hub, stay.session(), &mut incoming, to, first).await;
    stay.leave(&why);
    incoming.linger().await;
}

/// Who came in, and what it typed to confirm, where that asks for something as well.
type Came = Option<(Admitted, Option<Vec<u8>>)>;

/// The login's dialogue; what is decided is decided by [`Login`]. `None` when the connection is over.
async fn log_in(hub: &Arc<Hub>, address: SocketAddr, incoming: &mut Incoming, to: &mut To) -> Result<Came, Refusal> {
    let policy = Policy { login_max: LOGIN_MAX, ..Policy::clone(&hub.policy()) };
    let mut login = Login::new(&address.ip().to_string(), &policy, hub.now());
    let (mut dialogue, hello) = Dialogue::begin();
    let mut step = at_the_desk(hub, address.ip(), Via::Text, &mut login, Some(hello)).await;
    let mut first = None;
    loop {
        let mut text = String::new();
        for message in &step.say {
            dialogue.say(message, &mut text);
        }
        match step.then {
            Then::Wait { .. } => {}
            Then::In(admitted) => return Ok(Some((admitted, first))),
            Then::Attach(_) | Then::End => {
                send_last(to, &text).await;
                return Ok(None);
            }
        }
        if step.say.is_empty() {
            // An answer is held back; what is typed meanwhile comes after it.
            tokio::time::sleep(hub.until(login.until())).await;
            step = at_the_desk(hub, address.ip(), Via::Text, &mut login, None).await;
            continue;
        }
        let heard = async {
            to.write_all(text.as_bytes()).await?;
            loop {
                match incoming.next(LINE_BYTES_MAX_BEFORE_LOGIN).await? {
                    Some(Piece::Line(line)) => return Ok::<_, std::io::Error>(Some(line)),
                    Some(Piece::Decline(answer)) => to.write_all(&answer).await?,
                    Some(Piece::TooLong) | None => return Ok(None),
                }
            }
        };
        step = match tokio::time::timeout(hub.until(login.until()), heard).await {
            Ok(Ok(Some(line))) => {
                let message = dialogue.hear(&line)?;
                first = (!dialogue::is_blank(&line)).then_some(line);
                at_the_desk(hub, address.ip(), Via::Text, &mut login, Some(message)).await
            }
            Ok(Ok(None)) if incoming.lines.is_too_long() => {
                let text = format!("an answer has at most {LINE_BYTES_MAX_BEFORE_LOGIN} bytes: type the ID alone");
                return Err(Refusal { code: Code::Limit, text, retry_ms: None });
            }
            Ok(Ok(None) | Err(_)) => {
                tracing::info!(%address, "left without logging in");
                return Ok(None);
            }
            Err(_) => at_the_desk(hub, address.ip(), Via::Text, &mut login, None).await,
        };
    }
}

/// The reading half of a connection.
struct Incoming {
    from: From,
    bytes: BytesMut,
    lines: Lines,
}

impl Incoming {
    /// The next piece, `None` at the end; also before the end of a line that is too long already, for who has not logged
    /// in. Safe to be dropped while it waits: what was read stays.
    async fn next(&mut self, line_bytes_max: usize) -> std::io::Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.lines.next(&mut self.bytes, line_bytes_max) {
                return Ok(Some(piece));
            }
            if self.lines.is_too_long() && line_bytes_max == LINE_BYTES_MAX_BEFORE_LOGIN {
                return Ok(None);
            }
            self.bytes.reserve(READ_BYTES);
            if self.from.read_buf(&mut self.bytes).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads and throws away until the other side closes too, for a moment: the system takes unread bytes for a reason to
    /// throw away the last line that was said.
    async fn linger(mut self) {
        let rest = async {
            let mut left = LINGER_BYTES_MAX;
            while let Ok(count @ 1..) = self.from.read(&mut [0; READ_BYTES]).await {
                left = left.checked_sub(count)?;
            }
            Some(())
        };
        if tokio::time::timeout(GOODBYE_MAX, rest).await.is_err() {
            tracing::trace!("the other side did not close");
        }
    }
}

/// No delay for small lines; little that is unsent in the kernel; a peer that vanished is noticed there.
fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.set_tcp_user_timeout(Some(UNANSWERED_MAX))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY))
}

/// Says a last word and closes this direction; [`Incoming::linger`] is to follow.
async fn send_last(to: &mut To, text: &str) {
    let write = async {
        to.write_all(text.as_bytes()).await?;
        to.shutdown().await
    };
    if !matches!(tokio::time::timeout(GOODBYE_MAX, write).await, Ok(Ok(()))) {
        tracing::debug!("a last word did not get out");
    }
}

/// One line of what was refused, or why a connection ends.
fn refusal_line(word: &str, refusal: &Refusal) -> String {
    format!("{word} {} {}\n", refusal.code.as_str(), refusal.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::limits::SILENCE_MAX;

    #[tokio::test]
    async fn m3_5_a_vanished_peer_is_noticed_before_the_longest_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        tune(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        let (after, every) = (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
        let unanswered = socket.tcp_user_timeout().unwrap().unwrap();
        // The system looks at each probe whether the time is over.
        let mut noticed = after;
        while noticed < unanswered {
            noticed += every;
        }
        assert!(noticed < SILENCE_MAX, "{noticed:?}");
        drop(client);
    }
}
