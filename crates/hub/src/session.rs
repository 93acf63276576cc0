//! A logged-in connection: what it may say, and what it is sent.
//!
//! Two tasks. The reader takes one message after another and answers through a bounded queue; the writer sends answers
//! first, then for each follow what its cursor lacks. The writer holds no messages for a client: a client that does not
//! read costs one frame and its cursor, and its own reader stops when the queue of answers is full.

use crate::access::Access;
use crate::answers;
use crate::audit::Entry;
use crate::clock;
use crate::core::{BoardId, Hub};
use crate::fanout::Group;
use crate::io::{Incoming, ReadError};
use crate::presence::{Sampled, Session};
use crate::reception::without_port;
use board::{Cursor, Follower, Pattern, Version, WalkMark};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use wire::answer::Question;
use wire::codec::encode_frame;
use wire::id::ClientId;
use wire::limits::{FOLLOWS_MAX, FRAME_BYTES_MAX, SILENCE_MAX};
use wire::message::{Code, Refusal, ToClient, ToHub};

/// Answers that wait for a client to read; then its next message waits. Each may be as large as a value.
const ANSWERS_MAX: usize = 16;
/// Puts and questions of one client under way at once.
const REQUESTS_MAX: usize = 64;
/// A goodbye is given this long to get out.
pub(crate) const GOODBYE_MAX: Duration = Duration::from_millis(500);

/// Who speaks on a connection, and what it may.
#[derive(Clone)]
pub(crate) enum Role {
    /// A client's own connection: its presence, its acks, its vitals.
    Client(Arc<Session>),
    /// A command on a machine whose agent is logged in: may ask, put, get and follow as that client.
    Relay(Arc<Session>),
    /// The hub's own machine, through the local socket: may everything.
    Local,
    /// A program with a token that administers, for one request over HTTP.
    Program(Program),
}

/// Who signs with a token.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) access: Access,
    /// What the token is called.
    pub(crate) token: String,
    /// From where, without a port.
    pub(crate) address: String,
}

impl Role {
    pub(crate) fn id(&self) -> u64 {
        match self {
            Role::Client(session) | Role::Relay(session) => session.id,
            Role::Local => 0,
            Role::Program(program) => program.access.id(),
        }
    }

    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        match self {
            Role::Client(session) | Role::Relay(session) => Some(session),
            Role::Local | Role::Program(_) => None,
        }
    }

    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Role::Local)
    }

    /// What the audit log says of something that it did to a client.
    pub(crate) fn did(&self, event: &'static str, id: Option<u64>, detail: String) -> Entry {
        let (address, transport, token) = match self {
            Role::Client(session) | Role::Relay(session) => (without_port(&session.address), session.transport, None),
            Role::Local => (String::new(), "local", None),
            Role::Program(program) => (program.address.clone(), "http", Some(program.token.clone())),
        };
        Entry { event, id, by: Some(self.id()), token, address, transport, outcome: "ok", detail }
    }

    /// What it may.
    pub(crate) fn access(&self) -> Access {
        match self {
            Role::Client(session) | Role::Relay(session) => session.access.clone(),
            Role::Local => Access::everything(),
            Role::Program(program) => program.access.clone(),
        }
    }
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    Write(std::io::Error),
    #[error("no sign of life for {} s", SILENCE_MAX.as_secs())]
    Silent,
    #[error("{}", .0.text)]
    Told(Refusal),
}

enum Order {
    Say(Bytes),
    Follow { fid: u32, follower: Box<Follower>, group: Arc<Group>, first: Bytes },
    Unfollow { fid: u32 },
    Goodbye(Refusal),
}

/// Serves a connection until it ends; says why it did.
pub(crate) async fn serve<R, W>(hub: Arc<Hub>, role: Role, incoming: Incoming<R>, outgoing: W) -> Ended
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let (orders, queue) = mpsc::channel(ANSWERS_MAX);
    let awake = Arc::new(Notify::new());
    let write = Writer { outgoing, queue, awake: Arc::clone(&awake), follows: Vec::new() }.run();
    let read = Reader {
        hub: Arc::clone(&hub),
        access: role.access(),
        role: role.clone(),
        orders: orders.clone(),
        awake,
        follows: HashMap::new(),
        in_vain: BTreeSet::new(),
        requests: JoinSet::new(),
        permits: Arc::new(Semaphore::new(REQUESTS_MAX)),
    }
    .run(incoming);
    tokio::pin!(write, read);
    let mut stopping = hub.stopping.subscribe();
    let ended = async {
        match role.session() {
            Some(session) => {
                let why = session.ended().await;
                // A command is not the one that was taken over from: it may come back through the session that is now.
                let again = why.code == Code::TakenOver && matches!(role, Role::Relay(_));
                Refusal { retry_ms: if again { Some(0) } else { why.retry_ms }, ..why }
            }
            None => std::future::pending().await,
        }
    };
    let goodbye = tokio::select! {
        result = &mut write => return Ended::Write(result.err().unwrap_or_else(|| std::io::ErrorKind::BrokenPipe.into())),
        ended = &mut read => match ended {
            // Told what was wrong, so that its author can find it.
            Ended::Read(ReadError::Frame(ref e)) => protocol_error(e),
            Ended::Read(ReadError::Decode(ref e)) => protocol_error(e),
            Ended::Told(refusal) => refusal,
            Ended::Silent => Refusal { code: Code::TimedOut, text: ended.to_string(), retry_ms: Some(0) },
            other => return other,
        },
        why = ended => why,
        _ = stopping.wait_for(|stop| *stop) => hub.farewell.refusal(),
    };
    let told = async {
        if orders.send(Order::Goodbye(goodbye.clone())).await.is_ok()
            && let Err(error) = write.await
        {
            tracing::debug!(%error, "a goodbye did not get out");
        }
    };
    // Who does not read gets no goodbye; the cut says it.
    if tokio::time::timeout(GOODBYE_MAX, told).await.is_err() {
        tracing::debug!("a goodbye did not get out in time");
    }
    Ended::Told(goodbye)
}

pub(crate) fn protocol_error(error: &dyn std::fmt::Display) -> Refusal {
    Refusal { code: Code::Protocol, text: format!("not understood: {error}"), retry_ms: None }
}

struct Reader {
    hub: Arc<Hub>,
    role: Role,
    access: Access,
    orders: mpsc::Sender<Order>,
    awake: Arc<Notify>,
    follows: HashMap<u32, Followed>,
    /// Boards that it asked for and that there are not; at most [`FOLLOWS_MAX`].
    in_vain: BTreeSet<String>,
    requests: JoinSet<()>,
    permits: Arc<Semaphore>,
}

/// Something that is followed.
struct Followed {
    /// The board's name.
    board: String,
    pattern: Pattern,
    /// Whether the client's standing there is told.
    counts: bool,
    /// Which of those that came to this name.
    id: BoardId,
}

impl Reader {
    async fn run<R: AsyncRead + Unpin>(mut self, mut incoming: Incoming<R>) -> Ended {
        let mut moved = self.hub.revoked.subscribe();
        // Only what is heard moves it, however often all else does.
        let mut silent_at = Instant::now() + SILENCE_MAX;
        loop {
            let silence = async {
                match self.role {
                    Role::Client(_) => tokio::time::sleep_until(silent_at).await,
                    // A command lives as long as its connection: following may be all it does.
                    Role::Relay(_) | Role::Local | Role::Program(_) => std::future::pending().await,
                }
            };
            let message = tokio::select! {
                message = incoming.next(FRAME_BYTES_MAX) => message,
                () = silence => return Ended::Silent,
                Ok(()) = moved.changed() => match self.moved() {
                    Some(refusal) => return Ended::Told(refusal),
                    None => continue,
                },
            };
            if let Role::Client(session) = &self.role {
                session.seen();
                silent_at = Instant::now() + SILENCE_MAX;
            }
            let handled = match message {
                Ok(message) => self.handle(message).await,
                Err(error) => return error.into(),
            };
            if let Err(ended) = handled {
                return ended;
            }
            while self.requests.try_join_next().is_some() {}
        }
    }

    /// What a client is told that follows what is not there any more, or asked in vain for what has come; it comes back at once,
    /// and is given what there is.
    fn moved(&self) -> Option<Refusal> {
        let anew = |text: String| Some(Refusal { code: Code::NotFound, text, retry_ms: Some(0) });
        if let Some(gone) = self.follows.values().find(|followed| !self.hub.is_still(&followed.board, followed.id)) {
            return anew(format!("{} is not shared any more, or from another directory: it comes in anew", gone.board));
        }
        let come = self.in_vain.iter().find(|board| self.hub.has(board))?;
        anew(format!("{come} is shared again: it comes in anew"))
    }

    async fn handle(&mut self, message: ToHub) -> Result<(), Ended> {
        match message {
            ToHub::Ping { nonce } => {
                // A pong that finds no room is no loss: the ping did its work.
                if let Ok(frame) = encode_frame(&ToClient::Pong { nonce })
                    && self.orders.try_send(Order::Say(frame)).is_err()
                {
                    tracing::trace!("no room for a pong");
                }
                Ok(())
            }
            ToHub::Follow { fid, board, pattern, cursor } => self.follow(fid, board, &pattern, cursor).await,
            ToHub::Unfollow { fid } => {
                if let Some(Followed { board, counts: true, .. }) = self.follows.remove(&fid)
                    && let Role::Client(session) = &self.role
                {
                    session.follows_no_more(&board, fid);
                    self.hub.moved();
                }
                self.order(Order::Unfollow { fid }).await
            }
            ToHub::Put { req, name, value } => {
                let (hub, access) = (Arc::clone(&self.hub), self.access.clone());
                self.request(async move {
                    match hub.data.put(name, value, &access).await {
                        Ok(version) => ToClient::PutDone { req, version },
                        Err(error) => ToClient::Failed { req, refusal: answers::put_refusal(&error) },
                    }
                })
                .await
            }
            ToHub::Get { req, name } => {
                let got = match self.hub.data.get(&name, &self.access) {
                    Ok(value) => ToClient::Got { req, value },
                    Err(refusal) => ToClient::Failed { req, refusal },
                };
                self.say(&got).await
            }
            ToHub::Ack(mut ack) => {
                let Role::Client(session) = &self.role else { return Err(self.misplaced("an ack")) };
                if let Some(Followed { board, pattern, counts: true, .. }) = self.follows.get(&ack.fid) {
                    ack.applied.epoch = pattern.disguised(ack.applied.epoch);
                    session.acked(board, ack);
                    self.hub.moved();
                }
                Ok(())
            }
            ToHub::Vitals(vitals) => {
                let Role::Client(session) = &self.role else { return Err(self.misplaced("vitals")) };
                let sampled = session.sampled(vitals.clone(), clock::now());
                if sampled != Sampled::TooMany {
                    self.hub.fleet.sampled(session.id, &vitals);
                }
                if sampled == Sampled::First {
                    self.note_kept(session, false);
                }
                Ok(())
            }
            ToHub::Ask { req, question } => self.ask(req, question).await,
            ToHub::Want { .. } | ToHub::WantChunks { .. } => {
                Err(self.misplaced("a want, which belongs on a bulk connection"))
            }
            ToHub::Hello { .. } | ToHub::Id { .. } | ToHub::UniqueId { .. } | ToHub::Lost | ToHub::Confirm => {
                Err(self.misplaced("a login"))
            }
        }
    }

    async fn follow(
        &mut self,
        fid: u32,
        name: String,
        pattern: &[u8],
        cursor: Option<wire::message::Cursor>,
    ) -> Result<(), Ended> {
        let fail = |code, text: String| ToClient::Failed { req: fid, refusal: Refusal { code, text, retry_ms: None } };
        if self.follows.len() >= FOLLOWS_MAX || self.follows.contains_key(&fid) {
            let text = format!("a connection follows at most {FOLLOWS_MAX} things, each under its own number");
            return self.say(&fail(Code::Limit, text)).await;
        }
        let pattern = match Pattern::parse(pattern) {
            Ok(pattern) => pattern,
            Err(error) => return self.say(&fail(Code::Protocol, error.to_string())).await,
        };
        let (what, pattern) = match self.hub.to_follow(&name, pattern, &self.access) {
            Ok(followable) => followable,
            Err(refusal) => {
                if refusal.code == Code::NotFound && self.in_vain.len() < FOLLOWS_MAX {
                    self.in_vain.insert(name);
                }
                return self.say(&ToClient::Failed { req: fid, refusal }).await;
            }
        };
        // Of a share, only who follows all of it has it; of values, each by itself is of use.
        let counts = pattern == Pattern::all() || name == "data";
        what.wakers.add(&self.awake);
        let follower = Follower::new(&what.board, pattern.clone(), cursor.map(board_cursor));
        let group = self.hub.group(&name, &what, &pattern);
        let start = follower.start();
        let following =
            ToClient::Following { fid, group: group.number, epoch: start.epoch, run: start.run, reset: start.reset };
        let first = encode_frame(&following).map_err(|e| Ended::Write(std::io::Error::other(e)))?;
        if counts && let Role::Client(session) = &self.role {
            session.follows(&name, fid, pattern.clone());
            self.note_kept(session, true);
            self.hub.moved();
        }
        self.follows.insert(fid, Followed { board: name, pattern, counts, id: what.id() });
        self.order(Order::Follow { fid, follower: Box::new(follower), group, first }).await
    }

    /// Notes for good which shares and values the client keeps. Until it has said all, those that it kept before stay with
    /// it: it is only about to follow them again, and who waits for everybody waits for that.
    fn note_kept(&self, session: &Session, and_before: bool) {
        let Ok(id) = ClientId::new(session.id) else { return };
        let told = session.told();
        let (mut shares, mut values): (BTreeSet<_>, BTreeSet<_>) =
            (told.shares().collect(), told.kept_values().collect());
        let moved = self.hub.registry.note_kept(id, |before| {
            if let Some(before) = before {
                // A share that is gone for now is kept all the same: once it is back, its client is waited for.
                let is_waited_for = |share: &&String| and_before || self.in_vain.contains(&format!("share/{share}"));
                shares.extend(before.shares.iter().filter(is_waited_for).cloned());
                values.extend(before.values.iter().filter(|_| and_before).cloned());
            }
            (shares, values)
        });
        if moved {
            self.hub.tables.notify_one();
        }
    }

    async fn ask(&mut self, req: u32, question: Question) -> Result<(), Ended> {
        let (hub, role) = (Arc::clone(&self.hub), self.role.clone());
        self.request(async move {
            match answers::to_the_end(&hub, &role, question).await {
                Ok(answer) => ToClient::Answer { req, answer },
                Err(refusal) => ToClient::Failed { req, refusal },
            }
        })
        .await
    }

    /// Runs a request beside the others, a bounded number at a time.
    async fn request(&mut self, work: impl Future<Output = ToClient> + Send + 'static) -> Result<(), Ended> {
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return Ok(()) };
        let orders = self.orders.clone();
        self.requests.spawn(async move {
            let answer = work.await;
            match encode_frame(&answer) {
                Ok(frame) => {
                    if orders.send(Order::Say(frame)).await.is_err() {
                        tracing::debug!("who asked is gone");
                    }
                }
                Err(error) => tracing::error!(%error, "an answer could not be encoded"),
            }
            // Held until there was room for the answer, so that who does not read cannot pile answers up.
            drop(permit);
        });
        Ok(())
    }

    async fn say(&self, message: &ToClient) -> Result<(), Ended> {
        let frame = encode_frame(message).map_err(|e| Ended::Write(std::io::Error::other(e)))?;
        self.order(Order::Say(frame)).await
    }

    async fn order(&self, order: Order) -> Result<(), Ended> {
        self.orders.send(order).await.map_err(|_| Ended::Write(std::io::ErrorKind::BrokenPipe.into()))
    }

    fn misplaced(&self, what: &str) -> Ended {
        let text = format!("{what} does not belong on this connection");
        tracing::warn!(id = self.role.id(), "{text}");
        Ended::Told(Refusal { code: Code::Protocol, text, retry_ms: None })
    }
}

fn board_cursor(cursor: wire::message::Cursor) -> Cursor {
    let version = cursor.version;
    Cursor {
        version: Version { epoch: version.epoch, run: version.run, seq: version.seq },
        seen: cursor.seen,
        walk: cursor.walk.map(|walk| WalkMark { head: walk.head, upto: walk.upto, reset: walk.reset }),
    }
}

struct Writer<W> {
    outgoing: W,
    queue: mpsc::Receiver<Order>,
    awake: Arc<Notify>,
    follows: Vec<(u32, Box<Follower>, Arc<Group>)>,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    async fn run(mut self) -> std::io::Result<()> {
        loop {
            while let Ok(order) = self.queue.try_recv() {
                if !self.obey(order).await? {
                    return Ok(());
                }
            }
            // One batch of each follow in turn, so that none starves another.
            let mut wrote = false;
            for (_, follower, group) in &mut self.follows {
                if let Some(frame) = group.next(follower).map_err(std::io::Error::other)? {
                    self.outgoing.write_all(&frame).await?;
                    wrote = true;
                }
            }
            if wrote {
                continue;
            }
            self.outgoing.flush().await?;
            tokio::select! {
                order = self.queue.recv() => match order {
                    Some(order) => {
                        if !self.obey(order).await? {
                            return Ok(());
                        }
                    }
                    None => return Ok(()),
                },
                () = self.awake.notified() => {}
            }
        }
    }

    /// Carries out an order; `false` ends the connection.
    async fn obey(&mut self, order: Order) -> std::io::Result<bool> {
        match order {
            Order::Say(frame) => self.outgoing.write_all(&frame).await?,
            Order::Follow { fid, follower, group, first } => {
                self.outgoing.write_all(&first).await?;
                self.follows.push((fid, follower, group));
            }
            Order::Unfollow { fid } => self.follows.retain(|(number, ..)| *number != fid),
            Order::Goodbye(refusal) => {
                let frame = encode_frame(&ToClient::Bye(refusal)).map_err(std::io::Error::other)?;
                self.outgoing.write_all(&frame).await?;
                self.outgoing.flush().await?;
                self.outgoing.shutdown().await?;
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing;
    use crate::presence::Arrival;
    use wire::secret::Token;

    #[tokio::test]
    async fn who_says_nothing_is_cut_however_often_anybodys_rights_move() {
        let dir = tempfile::tempdir().unwrap();
        let (hub, _threads) = testing::opened(dir.path());
        let arrival = Arrival {
            id: 1,
            token: Token([7; 32]),
            name: "m".into(),
            address: "a".into(),
            transport: "native",
            access: Access::everything(),
        };
        let session = hub.presence.enter(arrival);
        let (_theirs, ours) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(ours);
        let began = Instant::now();
        let ringing = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                hub.revoked.send_replace(());
            }
        };
        let ended = tokio::select! {
            ended = serve(Arc::clone(&hub), Role::Client(session), Incoming::new(read), write) => ended,
            () = ringing => unreachable!("it rings for ever"),
            () = tokio::time::sleep(10 * SILENCE_MAX) => panic!("it is still there"),
        };
        assert!(matches!(&ended, Ended::Told(why) if why.code == Code::TimedOut), "{ended}");
        assert!(began.elapsed() >= SILENCE_MAX, "{:?}", began.elapsed());
    }
}
