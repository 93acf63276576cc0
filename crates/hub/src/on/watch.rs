//! Who stays away or behind, and where deletions are held: looked for every second, told when it begins.

use super::{Happened, OnEvent};
use crate::access::Access;
use crate::clock;
use crate::core::Hub;
use crate::presence::Session;
use crate::standing::{self, Goal, Lack, Standing};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::roster::Known;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A look at many clients takes a while: it is looked no more often than that costs a twentieth of a processor.
const LOOK_COST: u32 = 20;

/// Looks and tells, until the hub stops. Where no command wants to know, nothing is looked at.
pub(crate) async fn keep(hub: Arc<Hub>) {
    let mut stopping = hub.stopping.subscribe();
    let mut watch = Watch::default();
    let mut pause = LOOK_EVERY;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        if !OnEvent::ALL.into_iter().any(|event| hub.on.wants(event)) {
            continue;
        }
        let (looked_by, begun) = (Arc::clone(&hub), clock::now());
        let looked = tokio::task::spawn_blocking(move || {
            watch.look(&looked_by, clock::now());
            watch
        });
        watch = match looked.await {
            Ok(watch) => watch,
            Err(error) => {
                tracing::error!(%error, "looking for what --on is to be told had panicked");
                Watch::default()
            }
        };
        pause = LOOK_EVERY.max(begun.elapsed() * LOOK_COST);
    }
}

/// At whom, of what.
type Place = (Option<u64>, String);

/// What was told and is not over.
#[derive(Debug, Default)]
struct Watch {
    behind: Ongoing,
    held_there: Ongoing,
    held_here: Ongoing,
}

/// What goes on, by place.
#[derive(Debug, Default)]
struct Ongoing(BTreeSet<Place>);

impl Ongoing {
    /// It goes on at these places now, and at those of before of which nobody can tell; gives the places where it is new.
    fn now(&mut self, at: BTreeSet<Place>, unknown: impl Fn(&Place) -> bool) -> BTreeSet<Place> {
        let new = at.difference(&self.0).cloned().collect();
        self.0.retain(|place| !at.contains(place) && unknown(place));
        self.0.extend(at);
        new
    }
}

impl Watch {
    fn look(&mut self, hub: &Hub, now: Instant) {
        let limits = hub.limits.get();
        for happened in hub.on.long_gone(limits.away_after, now) {
            if happened.id.is_some_and(|id| is_away(hub, id)) {
                hub.on.tell(happened);
            }
        }
        if hub.on.wants(OnEvent::Guard) {
            self.look_at_shares(hub);
        }
        if hub.on.wants(OnEvent::Behind) || hub.on.wants(OnEvent::Guard) {
            self.look_at_guards(hub);
            self.look_who_is_behind(hub, limits.behind_after, now);
        }
    }

    fn look_at_shares(&mut self, hub: &Hub) {
        let held = hub.shares.values().filter_map(|share| Some((share.name.clone(), share.state().held?)));
        let held: Vec<_> = held.collect();
        let at = held.iter().map(|(share, _)| (None, share.clone())).collect();
        let new = self.held_here.now(at, |_| false);
        for (share, held) in held.into_iter().filter(|(share, _)| new.contains(&(None, share.clone()))) {
            hub.on.tell(Happened {
                what: share,
                is_share: true,
                deletions: (!held.is_everything()).then_some(held.count as u64),
                ..Happened::new(OnEvent::Guard, &held.why)
            });
        }
    }

    fn look_at_guards(&mut self, hub: &Hub) {
        let (mut held, mut away): (Vec<(Place, Happened)>, BTreeSet<u64>) = Default::default();
        for client in standing::everybody(hub, &Access::everything()) {
            let Some(session) = client.session.as_deref() else {
                away.insert(client.id());
                continue;
            };
            for follow in client.told().all() {
                let Some(ack) = follow.ack.as_ref().filter(|ack| ack.held_deletes > 0) else { continue };
                let share = follow.board.strip_prefix("share/");
                let what = share.map_or_else(|| tree::path::escape(follow.pattern.as_bytes()), str::to_owned);
                let why = ack.first_problems.first().map_or("deletions are held there", |(_, text)| text.as_str());
                let happened = Happened {
                    what: what.clone(),
                    is_share: share.is_some_and(|share| hub.shares.contains_key(share)),
                    deletions: Some(ack.held_deletes),
                    since_ms: follow.problems_since.map(clock::ms_of),
                    ..of(&client, session, OnEvent::Guard, why)
                };
                held.push(((Some(client.id()), what), happened));
            }
        }
        let at = held.iter().map(|(place, _)| place.clone()).collect();
        // Who is away holds what it held.
        let new = self.held_there.now(at, |(id, _)| id.is_some_and(|id| away.contains(&id)));
        held.into_iter().filter(|(place, _)| new.contains(place)).for_each(|(_, happened)| hub.on.tell(happened));
    }

    fn look_who_is_behind(&mut self, hub: &Hub, after: Duration, now: Instant) {
        let goals: Vec<Goal> =
            hub.shares.values().map(|share| Goal::head_of(&share)).chain([Goal::values(hub)]).collect();
        let mut behind: Vec<(Place, Happened)> = Vec::new();
        for client in standing::everybody(hub, &Access::everything()) {
            let Some(session) = client.session.as_deref() else { continue };
            for goal in goals.iter().filter(|goal| client.follows(goal)) {
                let Some(Lack { why, since: Some(since) }) = client.lack(goal) else { continue };
                // Who was away has until it has been back for as long.
                let since = since.max(session.began);
                if now.saturating_duration_since(since) < after {
                    continue;
                }
                let happened = Happened {
                    what: goal.what.clone(),
                    is_share: goal.key.starts_with("share/"),
                    since_ms: Some(clock::ms_of(since)),
                    ..of(&client, session, OnEvent::Behind, &why)
                };
                behind.push(((Some(client.id()), goal.key.clone()), happened));
            }
        }
        let at = behind.iter().map(|(place, _)| place.clone()).collect();
        let new = self.behind.now(at, |_| false);
        behind.into_iter().filter(|(place, _)| new.contains(place)).for_each(|(_, happened)| hub.on.tell(happened));
    }
}

fn of(client: &Standing, session: &Session, event: OnEvent, why: &str) -> Happened {
    Happened {
        id: Some(client.id()),
        name: client.client.name.clone(),
        address: session.address.clone(),
        transport: session.transport,
        ..Happened::new(event, why)
    }
}

/// Neither back, nor revoked, nor gone for good.
fn is_away(hub: &Hub, id: u64) -> bool {
    let Ok(client) = wire::id::ClientId::new(id) else { return false };
    let known = hub.roster().client(client).is_some_and(|client| matches!(client.known, Known::Confirmed { .. }));
    known && hub.presence.get(id).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(ids: &[u64]) -> BTreeSet<Place> {
        ids.iter().map(|id| (Some(*id), "s".to_owned())).collect()
    }

    #[test]
    fn what_goes_on_is_news_once_until_it_is_over() {
        let mut ongoing = Ongoing::default();
        let known = |_: &Place| false;
        assert_eq!(ongoing.now(places(&[7, 8]), known), places(&[7, 8]));
        assert_eq!(ongoing.now(places(&[7, 9]), known), places(&[9]));
        assert_eq!(ongoing.now(places(&[8]), known), places(&[8]), "it was over, so it is news again");
        assert!(ongoing.now(places(&[]), |_| true).is_empty());
        assert_eq!(ongoing.now(places(&[8]), known), places(&[]), "of which nobody could tell");
        assert!(ongoing.now(places(&[]), known).is_empty());
        assert!(ongoing.0.is_empty());
    }
}
