//! One control connection: what the hub says goes to the keepers, what they say goes to the hub.

use crate::conn::{ConnError, Outbox};
use crate::convert::batch_from_wire;
use crate::keeper::{Keeper, index_of};
use crate::login::Halves;
use crate::mailbox::{Letter, Said};
use board::Start;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};
use vitals::{Rates, Sample, Sampler};
use wire::limits::{PING_EVERY, SILENCE_MAX};
use wire::message::{Number, Refusal, ToClient, Vitals};

/// How often vitals are reported.
const VITALS_EVERY: Duration = Duration::from_secs(1);

/// How a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The hub said why.
    Bye(Refusal),
    /// The connection failed.
    Failed(ConnError),
}

/// Serves a session until it ends. Dropping the future ends it, too; nothing is lost by that.
pub(crate) async fn serve(halves: Halves, keepers: &[Keeper], procfs: PathBuf) -> End {
    let (mut incoming, outgoing) = halves;
    let outbox = Outbox::new(keepers.len());
    let mut tasks = tokio::task::JoinSet::new();
    let writing = Arc::clone(&outbox);
    tasks.spawn(async move { writing.drain(outgoing).await });
    let beating = Arc::clone(&outbox);
    tasks.spawn(async move { beat(&beating, procfs).await });
    for keeper in keepers {
        keeper.mailbox.connect(Arc::clone(&outbox));
    }
    let read = async {
        let mut groups: HashMap<Number, u32> = HashMap::new();
        loop {
            match incoming.expect(SILENCE_MAX).await {
                Ok(message) => {
                    if let Some(end) = dispatch(message, keepers, &mut groups).await {
                        return end;
                    }
                }
                Err(error) => return End::Failed(error),
            }
        }
    };
    let end = tokio::select! {
        end = read => end,
        ended = tasks.join_next() => End::Failed(match ended {
            Some(Ok(Err(error))) => error,
            _ => ConnError::Cut,
        }),
    };
    for keeper in keepers {
        keeper.mailbox.push(Letter::Lost);
    }
    end
}

async fn dispatch(message: ToClient, keepers: &[Keeper], groups: &mut HashMap<Number, u32>) -> Option<End> {
    let keeper = |index: u32| keepers.iter().find(|keeper| keeper.index == index);
    match message {
        ToClient::Batch(batch) => match groups.get(&batch.group).and_then(|index| keeper(*index)) {
            Some(keeper) => keeper.mailbox.hear(Said::Batch(batch_from_wire(batch))).await,
            None => return Some(End::Failed(ConnError::Unexpected("entries that nobody asked for"))),
        },
        ToClient::Following { fid, group, epoch, run, reset } => match keeper(index_of(fid)) {
            Some(keeper) => {
                // A share has one follow at a time: the newest.
                groups.retain(|_, index| *index != keeper.index);
                groups.insert(group, keeper.index);
                keeper.mailbox.hear(Said::Following { fid, start: Start { epoch, run, reset } }).await;
            }
            None => return Some(End::Failed(ConnError::Unexpected("a follow that nobody asked for"))),
        },
        ToClient::Failed { req, refusal } => match keeper(index_of(req)) {
            Some(keeper) => keeper.mailbox.push(Letter::NotFollowing(refusal.text)),
            None => return Some(End::Failed(ConnError::Unexpected("the answer to what nobody asked"))),
        },
        ToClient::Pong { .. } => {}
        ToClient::Bye(refusal) => return Some(End::Bye(refusal)),
        _ => return Some(End::Failed(ConnError::Unexpected("a message of a login, a command or a bulk connection"))),
    }
    None
}

/// Gives signs of life and the machine's vitals.
async fn beat(outbox: &Outbox, procfs: PathBuf) -> Result<(), ConnError> {
    let mut sampler = Sampler::new(&procfs);
    let mut before: Option<Sample> = None;
    let mut every = tokio::time::interval(VITALS_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut pinged = Instant::now();
    let mut nonce = 0;
    loop {
        every.tick().await;
        match sampler.sample() {
            Ok(sample) => {
                outbox.vitals(vitals_of(before.as_ref(), &sample));
                before = Some(sample);
            }
            Err(error) => tracing::debug!("no vitals: {error}"),
        }
        if pinged.elapsed() >= PING_EVERY {
            pinged = Instant::now();
            nonce += 1;
            outbox.ping(nonce);
        }
    }
}

fn vitals_of(before: Option<&Sample>, now: &Sample) -> Vitals {
    let rates = before.map_or_else(|| Rates::first(now), |before| Rates::between(before, now));
    Vitals {
        at_ms: now.taken.wall_ns / 1_000_000,
        cpu_busy_pct: rates.cpu.ok().map(|cpu| cpu.busy_pct.clamp(0.0, 100.0)),
        mem_used_bytes: rates.memory.used_bytes,
        mem_total_bytes: Some(rates.memory.total_bytes),
    }
}
