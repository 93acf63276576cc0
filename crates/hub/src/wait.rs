//! `wait`: whether everybody has everything that happened up to now.

use crate::access::Access;
use crate::answers::{client, refusal};
use crate::core::Hub;
use crate::share::Share;
use crate::standing::{self, Goal, Standing};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wire::answer::{Behind, ShareBehind, WaitAnswer};
use wire::limits::BEHIND_MAX;
use wire::message::{Code, Refusal};

/// The longest that anybody may wait.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Even if nobody's standing moves it is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// With many clients their standings move all the time: a look at each costs about this, so it is done half the time.
const LOOK_COST_PER_CLIENT: Duration = Duration::from_micros(5);

/// Waits until everybody has everything that happened before the call, or says who has not.
pub(crate) async fn wait(
    hub: &Arc<Hub>,
    target: Option<String>,
    only: &[u64],
    timeout: Duration,
    access: &Access,
) -> Result<WaitAnswer, Refusal> {
    let deadline = Instant::now() + timeout.min(WAIT_MAX);
    for id in only {
        client(hub, *id, access)?;
    }
    let (goals, shares) = goals(hub, target.as_deref(), deadline, access).await?;
    let mut moved = hub.standing.subscribe();
    loop {
        moved.mark_unchanged();
        let clients = standing::everybody(hub, access);
        let (asked, mut behind) = judge(&clients, &goals, only);
        let shares: Vec<ShareBehind> = shares.iter().filter_map(share_behind).collect();
        let done = behind.is_empty() && shares.is_empty();
        if done || Instant::now() >= deadline {
            let lagging = behind.iter().map(|b| b.id).collect::<BTreeSet<_>>().len();
            behind.truncate(BEHIND_MAX);
            return Ok(WaitAnswer {
                done,
                in_sync: (asked - lagging) as u64,
                not_in_sync: lagging as u64,
                behind,
                shares,
            });
        }
        let pause = LOOK_COST_PER_CLIENT * u32::try_from(clients.len()).unwrap_or(u32::MAX);
        tokio::time::sleep_until(deadline.min(Instant::now() + pause)).await;
        tokio::select! {
            changed = moved.changed() => if changed.is_err() {
                return Err(refusal(Code::Stopping, "the hub is stopping".into()));
            },
            () = tokio::time::sleep_until(deadline.min(Instant::now() + LOOK_EVERY)) => {}
        }
    }
}

/// A share that is waited for.
struct Awaited {
    share: Arc<Share>,
    /// What had happened in its directory before the call was not all looked at in time.
    late: bool,
}

/// Why a share itself is not at its goal; `None` if it is.
fn share_behind(awaited: &Awaited) -> Option<ShareBehind> {
    let Awaited { share, late } = awaited;
    let why = share.behind();
    let held = !late && share.only_held();
    let why = why.or_else(|| late.then(|| "what happened in its directory is still being looked at".to_owned()))?;
    Some(ShareBehind { name: share.name.clone(), why, held })
}

/// What is to be had: of a share, everything that happened in its directory until now; of a value, its newest version. Where
/// nothing is named, all shares, and the values of those that keep them as files.
async fn goals(
    hub: &Arc<Hub>,
    target: Option<&str>,
    deadline: Instant,
    access: &Access,
) -> Result<(Vec<Goal>, Vec<Awaited>), Refusal> {
    let shares: Vec<_> = match target {
        None => hub.shares.values().filter(|share| access.joins(&share.name)).collect(),
        Some(name) => match hub.shares.get(name).filter(|_| access.joins(name)) {
            Some(share) => vec![share],
            None => {
                access.to_get(name.as_bytes())?;
                let missing = || refusal(Code::NotFound, format!("no share and no value is called {name}"));
                let record = hub.data.board.get(name.as_bytes()).ok_or_else(missing)?;
                return Ok((vec![Goal::value(hub, name, record.seq)], Vec::new()));
            }
        },
    };
    let (mut goals, mut awaited) = (Vec::with_capacity(shares.len() + 1), Vec::with_capacity(shares.len()));
    for share in shares {
        let stopped = || format!("share {} has stopped; the log says why; restart the hub", share.name);
        let goal = Goal::head_of(&share);
        let (seq, late) = match tokio::time::timeout_at(deadline, share.barrier()).await {
            Ok(seq) => (seq.ok_or_else(|| refusal(Code::HubFailed, stopped()))?, false),
            // While it is scanned there is no telling what it will hold: that is said of the share, not of the clients.
            Err(_) => (goal.seq, true),
        };
        goals.push(Goal { seq, ..goal });
        awaited.push(Awaited { share, late });
    }
    if target.is_none() {
        goals.push(Goal::values(hub));
    }
    Ok((goals, awaited))
}

/// How many clients count, and what those lack that lack anything.
fn judge(clients: &[Standing], goals: &[Goal], only: &[u64]) -> (usize, Vec<Behind>) {
    let mut behind = Vec::new();
    let mut asked = 0;
    for client in clients.iter().filter(|c| only.is_empty() || only.contains(&c.id())) {
        let followed: Vec<&Goal> = goals.iter().filter(|goal| client.follows(goal)).collect();
        behind.extend(followed.iter().filter_map(|goal| client.behind(goal)));
        asked += usize::from(!followed.is_empty() || !only.is_empty());
        // Who is named is asked for: that it does not follow is an answer.
        if followed.is_empty() && !only.is_empty() {
            let what = goals.first().map(|goal| goal.what.clone()).unwrap_or_default();
            let why = format!("does not follow {what}");
            behind.push(Behind { id: client.id(), name: client.client.name.clone(), what, why, since_ms: None });
        }
    }
    (asked, behind)
}
