//! `wait`: whether everybody has everything that happened up to now.

use crate::access::Access;
use crate::answers::{client_id, refusal, unknown};
use crate::core::Hub;
use crate::share::Share;
use crate::standing::{self, Goal, Standing};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wire::answer::{Behind, ShareBehind, WaitAnswer};
use wire::id::ClientId;
use wire::limits::BEHIND_MAX;
use wire::message::{Code, Refusal};
use wire::roster::Client;

/// The longest that anybody may wait.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Even if nobody's standing moves it is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// With many clients their standings move all the time: a look at each costs about this, so it is done half the time.
const LOOK_COST_PER_CLIENT: Duration = Duration::from_micros(5);

/// Clients that are looked at in one go.
const LOOKED_AT_ONCE: usize = 256;

/// Waits until everybody has everything that happened before the call, or says who has not.
///
/// Until then it holds what was asked and nothing of the roster, and it stops looking at the first who lacks something: all are looked
/// at for what is told at the end. With many clients that takes long, so others have their turn in between.
pub(crate) async fn wait(
    hub: &Arc<Hub>,
    target: Option<String>,
    only: &[u64],
    timeout: Duration,
    access: &Access,
) -> Result<WaitAnswer, Refusal> {
    let deadline = Instant::now() + timeout.min(WAIT_MAX);
    let asked = Asked::of(hub, only, access)?;
    let (goals, shares) = goals(hub, target.as_deref(), deadline, access).await?;
    let mut moved = hub.standing.subscribe();
    let mut lagged = None;
    loop {
        moved.mark_unchanged();
        let last = Instant::now() >= deadline;
        let shares: Vec<ShareBehind> = shares.iter().filter_map(share_behind).collect();
        if last || shares.is_empty() && !asked.lags_still(hub, &goals, lagged) {
            let Look { clients, lagging, behind } = asked.look(hub, &goals, access, last).await;
            if last || lagging == 0 {
                let (done, in_sync) = (lagging == 0 && shares.is_empty(), clients - lagging);
                return Ok(WaitAnswer { done, in_sync, not_in_sync: lagging, behind, shares });
            }
            lagged = behind.first().and_then(|behind| ClientId::new(behind.id).ok());
        }
        let pause = LOOK_COST_PER_CLIENT * asked.count(hub);
        tokio::time::sleep_until(deadline.min(Instant::now() + pause)).await;
        tokio::select! {
            changed = moved.changed() => if changed.is_err() {
                return Err(refusal(Code::Stopping, "the hub is stopping".into()));
            },
            () = tokio::time::sleep_until(deadline.min(Instant::now() + LOOK_EVERY)) => {}
        }
    }
}

/// Whose standing counts.
enum Asked {
    Everybody,
    /// Sorted, none twice.
    Only(Vec<ClientId>),
}

/// What came of a look.
#[derive(Default)]
struct Look {
    /// How many clients count.
    clients: u64,
    /// How many of them lack something.
    lagging: u64,
    /// What they lack, of so many as an answer names.
    behind: Vec<Behind>,
}

impl Asked {
    fn of(hub: &Hub, only: &[u64], access: &Access) -> Result<Asked, Refusal> {
        if only.is_empty() {
            return Ok(Asked::Everybody);
        }
        let seen = |id: &u64| access.to_see(*id).and_then(|()| client_id(*id));
        let mut ids = only.iter().map(seen).collect::<Result<Vec<ClientId>, Refusal>>()?;
        let roster = hub.roster();
        if let Some(id) = ids.iter().find(|id| roster.client(**id).is_none()) {
            return Err(unknown(id.get()));
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(Asked::Only(ids))
    }

    /// About how many are looked at.
    fn count(&self, hub: &Hub) -> u32 {
        let count = match self {
            Asked::Everybody => hub.roster().count(),
            Asked::Only(ids) => ids.len(),
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Whether one that lacked something a moment ago still does: then nobody else needs to be looked at.
    fn lags_still(&self, hub: &Hub, goals: &[Goal], lagged: Option<ClientId>) -> bool {
        let client = lagged.and_then(|id| hub.roster().share(id));
        client.is_some_and(|client| {
            let mut look = Look::default();
            look.judge(&standing::of(hub, client), goals, matches!(self, Asked::Only(_)));
            look.lagging > 0
        })
    }

    /// Looks at all that count, some at a time; not `whole`, only until somebody lacks something.
    async fn look(&self, hub: &Hub, goals: &[Goal], access: &Access, whole: bool) -> Look {
        let (mut look, mut after) = (Look::default(), None);
        loop {
            after = self.look_at_some(hub, goals, access, after, &mut look);
            if after.is_none() || !whole && look.lagging > 0 {
                return look;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Looks at the next of those after `after`. The last that was looked at, unless there are no more.
    fn look_at_some(
        &self,
        hub: &Hub,
        goals: &[Goal],
        access: &Access,
        after: Option<ClientId>,
        look: &mut Look,
    ) -> Option<ClientId> {
        let (clients, last) = match self {
            Asked::Everybody => standing::next(hub, access, after, LOOKED_AT_ONCE),
            Asked::Only(ids) => {
                let ids = &ids[ids.partition_point(|id| Some(*id) <= after)..];
                let some = &ids[..ids.len().min(LOOKED_AT_ONCE)];
                let roster = hub.roster();
                let clients: Vec<Arc<Client>> = some.iter().filter_map(|id| roster.share(*id)).collect();
                drop(roster);
                let clients = clients.into_iter().map(|client| standing::of(hub, client)).collect();
                (clients, some.last().copied().filter(|_| some.len() < ids.len()))
            }
        };
        let named = matches!(self, Asked::Only(_));
        clients.iter().for_each(|client| look.judge(client, goals, named));
        last
    }
}

impl Look {
    /// Whether a client counts, and what it lacks. Who is `named` is asked for: that it does not follow is an answer.
    fn judge(&mut self, client: &Standing, goals: &[Goal], named: bool) {
        let followed: Vec<&Goal> = goals.iter().filter(|goal| client.follows(goal)).collect();
        let mut behind: Vec<Behind> = followed.iter().filter_map(|goal| client.behind(goal)).collect();
        if followed.is_empty() {
            if !named {
                return;
            }
            let what = goals.first().map(|goal| goal.what.clone()).unwrap_or_default();
            let why = format!("does not follow {what}");
            behind.push(Behind { id: client.id(), name: client.client.name.clone(), what, why, since_ms: None });
        }
        self.clients += 1;
        self.lagging += u64::from(!behind.is_empty());
        behind.truncate(BEHIND_MAX - self.behind.len());
        self.behind.append(&mut behind);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing;
    use std::cell::Cell;
    use wire::answer::{ClientChange, ImportRow};
    use wire::limits::WAIT_CLIENTS_MAX;

    /// A hub that expects so many clients.
    async fn hub(dir: &std::path::Path, clients: u64) -> Arc<Hub> {
        let (hub, _threads) = testing::opened(dir);
        let change = |id| ClientChange { name: Some(format!("machine {id}")), ..ClientChange::default() };
        let rows: Vec<ImportRow> = (1..=clients).map(|id| ImportRow { id, change: change(id) }).collect();
        hub.registry.change(|roster| roster.import(&rows, false)).await.unwrap();
        hub
    }

    #[tokio::test]
    async fn who_is_named_is_looked_at_once_however_often_and_in_however_many_parts() {
        let dir = tempfile::tempdir().unwrap();
        let count = LOOKED_AT_ONCE as u64 * 2 + 7;
        let hub = hub(dir.path(), count).await;
        let wait = async |only: &[u64]| wait(&hub, None, only, Duration::ZERO, &Access::everything()).await;
        let all: Vec<u64> = (1..=count).rev().chain([7, 7, 7]).collect();
        let told = wait(&all).await.unwrap();
        assert_eq!((told.done, told.in_sync, told.not_in_sync, told.behind.len()), (false, 0, count, BEHIND_MAX));
        assert_eq!(told.behind.iter().map(|b| b.id).collect::<Vec<_>>(), (1..=BEHIND_MAX as u64).collect::<Vec<_>>());
        let told = wait(&[3, 1, 3]).await.unwrap();
        assert_eq!(told.behind.iter().map(|b| b.id).collect::<Vec<_>>(), [1, 3]);
        // Who follows nothing and is not named does not count.
        let told = wait(&[]).await.unwrap();
        assert_eq!((told.done, told.in_sync, told.not_in_sync), (true, 0, 0));
        let unknown = wait(&[1, count + 1]).await.unwrap_err();
        assert!(unknown.code == Code::NotFound && unknown.text.contains(&(count + 1).to_string()), "{unknown:?}");
    }

    #[tokio::test]
    async fn a_long_look_lets_others_have_their_turn() {
        let dir = tempfile::tempdir().unwrap();
        let hub = hub(dir.path(), WAIT_CLIENTS_MAX as u64).await;
        let all: Vec<u64> = (1..=WAIT_CLIENTS_MAX as u64).collect();
        for only in [&all[..], &[]] {
            let (done, turns) = (Cell::new(false), Cell::new(0));
            let waited = async {
                let told = wait(&hub, None, only, Duration::ZERO, &Access::everything()).await;
                done.set(true);
                told
            };
            let other = async {
                while !done.get() {
                    turns.set(turns.get() + 1);
                    tokio::task::yield_now().await;
                }
            };
            let (told, ()) = tokio::join!(waited, other);
            assert_eq!(told.unwrap().not_in_sync, only.len() as u64);
            assert!(turns.get() >= WAIT_CLIENTS_MAX / LOOKED_AT_ONCE, "{} turns", turns.get());
        }
    }
}
