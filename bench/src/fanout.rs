//! One value to many native followers: until all have it, and how many deliveries a second a burst makes.
//!
//! The floor is a bare loop that writes the same bytes to as many plain TCP connections, without TLS, order, cursors or
//! names. Followers and hub share the machine, so a delivery's cost is that of both ends.

use crate::follower::{VALUE_BYTES, Wire, relays};
use crate::harness::{Contender, Group, Report, interleave};
use crate::machine::cpu_s;
use anyhow::{Context as _, Result, bail};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::Cluster;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// Followers.
const SIZES: [usize; 2] = [100, 1000];
/// Single puts, each to all.
const SINGLES: usize = 20;
/// Bursts of [`BURST`] puts of as many names.
const BURSTS: usize = 3;
/// Puts of a burst.
const BURST: usize = 200;
/// Clients that put at once in a burst.
const PUTTERS: usize = 8;
/// The id of those that put.
const PUTTER: u64 = 1_000_000;
/// Connections that hang on one login: a hub lets one address enrol no more than some hundreds at once.
const CONNECTIONS_PER_LOGIN: usize = 10;
/// Whatever takes longer fails the run.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the followers heard so far, all together.
#[derive(Default)]
struct Heard {
    records: AtomicUsize,
    goal: AtomicUsize,
    reached: Notify,
}

pub(crate) fn run() -> Result<Report> {
    let runtime = Runtime::new().context("no runtime")?;
    let mut groups = Vec::new();
    let mut notes = Vec::new();
    for followers in SIZES {
        let (mut found, note) = with(&runtime, followers)?;
        groups.append(&mut found);
        notes.extend(note);
    }
    Ok(Report {
        bench: "fanout",
        compares: "one put until every follower has it, and bursts; against a bare loop over plain TCP".into(),
        groups,
        notes,
    })
}

fn with(runtime: &Runtime, followers: usize) -> Result<(Vec<Group>, Vec<String>)> {
    let mut cluster = Cluster::start(|_| {}, &["--enrol", "open"]);
    let address = cluster.address();
    let heard = Arc::<Heard>::default();
    runtime.block_on(connect(&address, followers, &heard))?;
    let mut putters = runtime.block_on(relays(&address, PUTTER, PUTTERS))?;
    let hub = cluster.hub().pid();
    let bare = runtime.block_on(Bare::start(followers))?;
    let bare = std::cell::RefCell::new(bare);

    // Everybody follows, which a first value that reaches all proves.
    heard.expect(followers);
    runtime.block_on(async {
        putters[0].put("first").await?;
        heard.wait().await
    })?;

    let putters = std::cell::RefCell::new(putters);
    let singles = interleave(
        SINGLES,
        vec![
            Contender::new("bare loop, plain TCP", |_| runtime.block_on(bare.borrow_mut().send(1))),
            Contender::new("hub, durable, TLS", |round| {
                heard.expect(followers);
                let begun = Instant::now();
                let mut putters = putters.borrow_mut();
                runtime.block_on(async {
                    putters[0].put(&format!("single-{round}")).await?;
                    heard.wait().await
                })?;
                Ok(begun.elapsed().as_secs_f64() * 1e3)
            }),
        ],
    )?;
    let cpu = Cell::new(0.0);
    let bursts = interleave(
        BURSTS,
        vec![
            Contender::new("bare loop, plain TCP", |_| {
                let ms = runtime.block_on(bare.borrow_mut().send(BURST))?;
                Ok((followers * BURST) as f64 / ms * 1e3)
            }),
            Contender::new("hub, durable, TLS", |round| {
                heard.expect(followers * BURST);
                let (begun, before) = (Instant::now(), cpu_s(hub));
                let mut putters = putters.borrow_mut();
                runtime.block_on(async {
                    let puts = putters.iter_mut().enumerate().map(|(nth, putter)| async move {
                        for n in (nth..BURST).step_by(PUTTERS) {
                            putter.put(&format!("burst-{round}-{n}")).await?;
                        }
                        anyhow::Ok(())
                    });
                    all(puts).await
                })?;
                runtime.block_on(heard.wait())?;
                cpu.set(cpu.get() + cpu_s(hub) - before);
                Ok((followers * BURST) as f64 / begun.elapsed().as_secs_f64())
            }),
        ],
    )?;
    let deliveries = (followers * BURST * BURSTS) as f64;
    let rss_mib = cluster.hub().rss_bytes().unwrap_or(0) as f64 / f64::from(1 << 20);
    let note = format!(
        "{followers} followers: the hub used {:.1} µs of CPU a delivery in bursts, and {rss_mib:.0} MiB of memory",
        cpu.get() / deliveries * 1e6
    );
    let groups = vec![
        Group { title: format!("one put to {followers} followers, until all have it"), unit: "ms", series: singles },
        Group {
            title: format!("bursts of {BURST} puts to {followers} followers"),
            unit: "deliveries/s",
            series: bursts,
        },
    ];
    Ok((groups, vec![note]))
}

/// Connects all followers; their tasks end with the hub.
async fn connect(address: &str, followers: usize, heard: &Arc<Heard>) -> Result<()> {
    for n in (0..followers).step_by(CONNECTIONS_PER_LOGIN) {
        let (wire, token) = Wire::login(address, n as u64 + 1).await?;
        let mut wires = vec![wire];
        for _ in 1..CONNECTIONS_PER_LOGIN.min(followers - n) {
            wires.push(Wire::relay(address, token).await?);
        }
        for wire in wires {
            let heard = Arc::clone(heard);
            // Its end is the hub's; a follower that is cut before leaves the goal out of reach.
            drop(tokio::spawn(wire.follow(move |_| heard.one())));
        }
    }
    Ok(())
}

/// Runs all of them at once in this task.
pub(crate) async fn all<F: Future<Output = Result<()>>>(works: impl Iterator<Item = F>) -> Result<()> {
    let mut works: Vec<_> = works.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        let mut failed = None;
        works.retain_mut(|work| match work.as_mut().poll(context) {
            std::task::Poll::Ready(Ok(())) => false,
            std::task::Poll::Ready(Err(error)) => {
                failed = Some(error);
                false
            }
            std::task::Poll::Pending => true,
        });
        match failed {
            Some(error) => std::task::Poll::Ready(Err(error)),
            None if works.is_empty() => std::task::Poll::Ready(Ok(())),
            None => std::task::Poll::Pending,
        }
    })
    .await
}

impl Heard {
    /// From here on `count` records are waited for.
    fn expect(&self, count: usize) {
        self.goal.store(self.records.load(Ordering::SeqCst) + count, Ordering::SeqCst);
    }

    fn one(&self) {
        if self.records.fetch_add(1, Ordering::SeqCst) + 1 == self.goal.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }

    /// Until all are there; each follower gets each record exactly once, or this does not end well.
    async fn wait(&self) -> Result<()> {
        let counts = || (self.records.load(Ordering::SeqCst), self.goal.load(Ordering::SeqCst));
        if counts().0 < counts().1 && tokio::time::timeout(DEADLINE, self.reached.notified()).await.is_err() {
            bail!("{:?} records of all were heard within {DEADLINE:?}", counts());
        }
        let (heard, goal) = counts();
        if heard != goal {
            bail!("{heard} records were heard and not {goal}");
        }
        // Where the goal was reached before anybody waited, a permit is left behind.
        tokio::time::timeout(Duration::ZERO, self.reached.notified()).await.ok();
        Ok(())
    }
}

/// Plain connections, and readers that count.
struct Bare {
    writers: Vec<TcpStream>,
    heard: Arc<Heard>,
}

impl Bare {
    async fn start(count: usize) -> Result<Bare> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let heard = Arc::<Heard>::default();
        let mut writers = Vec::new();
        for _ in 0..count {
            let (reader, writer) =
                tokio::try_join!(TcpStream::connect(address), async { Ok(listener.accept().await?.0) })?;
            writer.set_nodelay(true)?;
            let (heard, mut reader) = (Arc::clone(&heard), reader);
            drop(tokio::spawn(async move {
                let mut value = [0; VALUE_BYTES];
                while reader.read_exact(&mut value).await.is_ok() {
                    heard.one();
                }
            }));
            writers.push(writer);
        }
        Ok(Bare { writers, heard })
    }

    /// Milliseconds until all have `values` values, sent one after the other.
    async fn send(&mut self, values: usize) -> Result<f64> {
        self.heard.expect(values * self.writers.len());
        let begun = Instant::now();
        for _ in 0..values {
            for writer in &mut self.writers {
                writer.write_all(&[b'x'; VALUE_BYTES]).await?;
            }
        }
        self.heard.wait().await?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }
}
