//! Thousands of Socket.IO clients of a hub in one process, each checking what it hears.
//!
//! They speak `docs/socketio.md` over WebSocket, acknowledge as a stock client does whose handlers call back, keep their unique ID
//! and their cursor, and come back after a cut. They come from as many addresses as it takes: a hub lets one
//! enrol no more than some hundreds at once.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::engine::{Frame, WebSocket};

/// Clients of one address.
const PER_ADDRESS: u64 = 150;
/// What a client waits before it comes back.
const AGAIN: Duration = Duration::from_millis(200);
/// Whoever puts hears something within this.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What one client has heard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// By name: the newest version, and its payload.
    pub newest: HashMap<String, (u64, Value)>,
    /// Values, all together.
    pub values: u64,
    /// Values that were not newer than what it had heard of their name before.
    pub disordered: u64,
    /// Versions that the hub said were left out.
    pub conflated: u64,
    /// How often it was told that what it holds counts no longer.
    pub resets: u64,
    /// How often it logged in.
    pub logins: u64,
    /// Values since it logged in last.
    pub values_since_login: u64,
    /// How often it stood at the head.
    pub currents: u64,
    unique_id: Option<Value>,
    cursor: Option<Value>,
}

/// One client.
#[derive(Debug)]
pub struct Member {
    /// Its id.
    pub id: u64,
    heard: Mutex<Heard>,
    stalled: AtomicBool,
    go_on: Notify,
}

/// Clients, and what drives them; they end when this is dropped.
pub struct Crowd {
    runtime: Runtime,
    address: SocketAddr,
    shared: Arc<Shared>,
    members: Vec<Arc<Member>>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    values: AtomicU64,
    currents: AtomicU64,
    errors: Mutex<Vec<String>>,
    moved: Notify,
}

impl Member {
    /// What it has heard so far.
    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads nothing more until it is called with `false`.
    pub fn stall(&self, stall: bool) {
        self.stalled.store(stall, Relaxed);
        self.go_on.notify_one();
    }

    fn from(&self) -> IpAddr {
        let [.., a, b] = u32::try_from(self.id / PER_ADDRESS).unwrap_or_default().to_be_bytes();
        IpAddr::from([127, 1 + a / 250, a % 250, 1 + b % 250])
    }

    fn auth(&self) -> Value {
        let heard = self.heard();
        let mut auth = json!({ "id": self.id });
        if let Some(unique_id) = &heard.unique_id {
            auth["unique_id"] = unique_id.clone();
        }
        if let Some(cursor) = &heard.cursor {
            auth["cursors"] = json!({ "data": cursor });
        }
        auth
    }
}

impl Crowd {
    /// Nobody yet, before the hub (or whatever speaks as one) at `address`.
    ///
    /// # Panics
    /// When there can be no threads.
    pub fn new(address: SocketAddr) -> Crowd {
        let runtime = Runtime::new().expect("threads can be started");
        Crowd { runtime, address, shared: Arc::default(), members: Vec::new(), tasks: JoinSet::new() }
    }

    /// Logs in with each of `ids`, `at_once` at a time; returns when each stands at the head.
    ///
    /// # Errors
    /// When they do not all get there within `within`; says how many did, and what some of them met.
    pub fn enter(&mut self, ids: Range<u64>, at_once: usize, within: Duration) -> Result<()> {
        let before = self.shared.currents.load(Relaxed);
        let count = ids.end - ids.start;
        let turn = Arc::new(Semaphore::new(at_once));
        let _entered = self.runtime.enter();
        for id in ids {
            let member = Member { id, heard: Mutex::default(), stalled: AtomicBool::new(false), go_on: Notify::new() };
            let member = Arc::new(member);
            self.members.push(Arc::clone(&member));
            let (shared, turn, address) = (Arc::clone(&self.shared), Arc::clone(&turn), self.address);
            self.tasks.spawn(async move {
                let mut turn = turn.acquire_owned().await.ok();
                loop {
                    if let Err(error) = stay(&member, &shared, address, &mut turn).await {
                        let mut errors = shared.errors.lock().unwrap_or_else(PoisonError::into_inner);
                        errors.push(format!("{}: {error:#}", member.id));
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
        self.wait(within, || self.shared.currents.load(Relaxed) >= before + count)
            .with_context(|| format!("{} of {count} got in", self.shared.currents.load(Relaxed) - before))
    }

    /// Everybody.
    pub fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// Values that all of them heard together.
    pub fn values(&self) -> u64 {
        self.shared.values.load(Relaxed)
    }

    /// Waits for what some client's hearing brings about.
    ///
    /// # Errors
    /// When it does not come within `within`; says what clients met.
    pub fn wait(&self, within: Duration, is: impl Fn() -> bool) -> Result<()> {
        let start = Instant::now();
        self.runtime.block_on(async {
            while !is() {
                let errors = self.errors();
                ensure!(
                    start.elapsed() < within,
                    "not within {within:?}; {} clients met trouble, the last: {:?}",
                    errors.len(),
                    errors.iter().rev().take(5).collect::<Vec<_>>()
                );
                tokio::time::timeout(Duration::from_millis(50), self.shared.moved.notified()).await.ok();
            }
            Ok(())
        })
    }

    /// What clients met that ended a connection of theirs.
    pub fn errors(&self) -> Vec<String> {
        self.shared.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client that puts, of an id that is none of theirs.
    ///
    /// # Errors
    /// When it does not get in.
    pub fn putter(&self, id: u64) -> Result<Putter> {
        let member = Member { id, heard: Mutex::default(), stalled: AtomicBool::new(false), go_on: Notify::new() };
        self.runtime.block_on(async {
            let mut socket = log_in(&member, self.address).await?;
            let shared = Shared::default();
            while member.heard().currents == 0 {
                let heard = tokio::time::timeout(ANSWER_MAX, hear(&mut socket, &member, &shared)).await;
                heard.with_context(|| format!("silence: {member:?}"))??;
            }
            let (orders, taken) = mpsc::channel(1);
            let putting = Putting { socket, member, asked: 0, answered: 0 };
            // It ends with the crowd.
            drop(tokio::spawn(putting.serve(taken)));
            Ok(Putter { orders })
        })
    }

    /// Runs something among its clients' threads.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

/// A client that puts; between its puts it hears what comes, as the others do.
pub struct Putter {
    orders: mpsc::Sender<Order>,
}

/// What to put, and whom to tell that it was.
type Order = (Vec<(String, Value)>, oneshot::Sender<Result<()>>);

impl Putter {
    /// Puts each, several on their way at a time; returns when all are acknowledged.
    ///
    /// # Errors
    /// When one is not done.
    pub async fn put_all(&self, values: &[(String, Value)]) -> Result<()> {
        let (done, told) = oneshot::channel();
        self.orders.send((values.to_vec(), done)).await.ok().context("the client that puts has ended")?;
        told.await.context("the client that puts has ended")?
    }
}

/// Its connection.
struct Putting {
    socket: WebSocket,
    member: Member,
    asked: u64,
    answered: u64,
}

impl Putting {
    async fn serve(mut self, mut orders: mpsc::Receiver<Order>) {
        let shared = Shared::default();
        loop {
            let heard = tokio::select! {
                order = orders.recv() => {
                    let Some((values, done)) = order else { return };
                    // Nobody waits where the test has failed already.
                    done.send(self.put_all(&values).await).ok();
                    continue;
                }
                readable = self.socket.readable() => readable,
            };
            if heard.is_err() || hear(&mut self.socket, &self.member, &shared).await.is_err() {
                return;
            }
        }
    }

    async fn put_all(&mut self, values: &[(String, Value)]) -> Result<()> {
        const AT_ONCE: usize = 32;
        let shared = Shared::default();
        for chunk in values.chunks(AT_ONCE) {
            let first = self.asked;
            let packets: Vec<String> = (first..)
                .zip(chunk)
                .map(|(number, (name, value))| format!("42{number}{}", json!(["put", name, value])))
                .collect();
            self.asked += chunk.len() as u64;
            self.socket.send_all(&packets).await?;
            while self.answered < self.asked {
                let heard = tokio::time::timeout(ANSWER_MAX, hear(&mut self.socket, &self.member, &shared)).await;
                let (answered, asked) = (self.answered, self.asked);
                let heard = heard.with_context(|| format!("{answered} of {asked} puts answered, and then silence"))?;
                if let Some(answer) = heard? {
                    ensure!(answer["ok"] != false, "not put: {answer}");
                    self.answered += 1;
                }
            }
        }
        Ok(())
    }
}

/// From the connection until it is lost.
async fn stay(
    member: &Member,
    shared: &Shared,
    address: SocketAddr,
    turn: &mut Option<tokio::sync::OwnedSemaphorePermit>,
) -> Result<()> {
    let mut socket = log_in(member, address).await?;
    loop {
        hear(&mut socket, member, shared).await?;
        if turn.is_some() && member.heard().currents > 0 {
            *turn = None;
        }
        while member.stalled.load(Relaxed) {
            member.go_on.notified().await;
        }
    }
}

async fn log_in(member: &Member, address: SocketAddr) -> Result<WebSocket> {
    let target = "/socket.io/?EIO=4&transport=websocket";
    let mut socket = WebSocket::connect(Some(member.from()), address, target).await?;
    let auth = member.auth();
    match socket.next().await? {
        Some(Frame::Text(open)) if open.starts_with('0') => socket.send(&format!("40{auth}")).await?,
        other => bail!("no handshake but {other:?}"),
    }
    Ok(socket)
}

/// Hears one packet; the answer, if it is an acknowledgement.
async fn hear(socket: &mut WebSocket, member: &Member, shared: &Shared) -> Result<Option<Value>> {
    let Some(frame) = socket.next().await? else { bail!("the connection was lost") };
    let Frame::Text(packet) = frame else { return Ok(None) };
    if packet == "2" {
        socket.send("3").await?;
        return Ok(None);
    }
    if packet.starts_with("44") {
        bail!("refused: {packet}");
    }
    let (is_event, rest) = match (packet.strip_prefix("42"), packet.strip_prefix("43")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Ok(None),
    };
    let (number, json) = rest.split_at(rest.find('[').unwrap_or(rest.len()));
    let args: Vec<Value> = serde_json::from_str(json).with_context(|| packet.clone())?;
    if !is_event {
        return Ok(Some(args.into_iter().next().unwrap_or_default()));
    }
    let mut args = args.into_iter();
    let name = args.next().unwrap_or_default();
    note(member, shared, name.as_str().unwrap_or_default(), args.next().unwrap_or_default())?;
    if !number.is_empty() {
        socket.send(&format!("43{number}[]")).await?;
    }
    Ok(None)
}

fn note(member: &Member, shared: &Shared, event: &str, mut what: Value) -> Result<()> {
    let mut heard = member.heard();
    match event {
        "unique_id" => heard.unique_id = Some(what),
        "welcome" => {
            heard.logins += 1;
            heard.values_since_login = 0;
        }
        "reset" => heard.resets += 1,
        "value" => {
            let version = what["version"].as_u64().unwrap_or_default();
            let name = what["name"].as_str().unwrap_or_default().to_owned();
            let before = heard.newest.insert(name, (version, what["payload"].take()));
            heard.disordered += u64::from(before.is_some_and(|(before, _)| before >= version));
            heard.values += 1;
            heard.values_since_login += 1;
            shared.values.fetch_add(1, Relaxed);
            shared.moved.notify_one();
        }
        "cursor" | "current" => {
            heard.conflated += what["conflated"].as_u64().unwrap_or_default();
            heard.cursor = Some(what["cursor"].take());
            if event == "current" {
                heard.currents += 1;
                if heard.currents == 1 {
                    shared.currents.fetch_add(1, Relaxed);
                    shared.moved.notify_one();
                }
            }
        }
        "refused" | "bye" | "id?" | "unique_id?" => bail!("{event} {what}"),
        _ => {}
    }
    Ok(())
}
