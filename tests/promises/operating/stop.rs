//! How a hub stops: whoever was there is told when to come back, each at a moment of its own.

use std::time::Duration;

use support::{PATIENCE, pick};
use wire::message::{Code, ToClient};

use crate::login::empty_hub;
use crate::speaker::{Heard, Speaker};

/// As the document says: so many come back in a second.
const BACK_PER_S: u64 = 500;

#[test]
fn clients_of_a_hub_that_stops_are_told_to_come_back_at_moments_spread_over_a_span_that_grows_with_their_number() {
    let mut cluster = empty_hub(&[]);
    let count = pick(150, 1000);
    let mut speakers: Vec<Speaker> = (1..=count).map(|id| Speaker::logged_in(&cluster.address(), id, None).0).collect();
    cluster.hub().terminate();
    let told = |speaker: &mut Speaker| loop {
        match speaker.listen(PATIENCE) {
            Heard::Said(said) => {
                if let ToClient::Bye(refusal) = *said {
                    assert_eq!(refusal.code, Code::Stopping);
                    return refusal.retry_ms.expect("it may come back");
                }
            }
            other => panic!("no goodbye: {other:?}"),
        }
    };
    let mut moments: Vec<u64> = speakers.iter_mut().map(told).collect();
    let span_ms = count * 1000 / BACK_PER_S;
    moments.sort_unstable();
    assert!(moments.iter().all(|ms| *ms <= span_ms), "{moments:?}");
    // Not one moment for many: quarters of the span have about a quarter of them each.
    let in_quarter = |n: u64| moments.iter().filter(|ms| (**ms * 4 / (span_ms + 1)) == n).count() as u64;
    for quarter in (0..4).map(in_quarter) {
        assert!(quarter * 12 >= count, "a quarter of the span has {quarter} of {count}: {moments:?}");
    }
    cluster.hub().wait_exit(PATIENCE);
}

#[test]
fn agents_come_back_when_they_were_told_to_and_are_in_sync() {
    let mut cluster = empty_hub(&[]).with_agents(3);
    cluster.stop_hub();
    cluster.start_hub();
    cluster.settle();
    let said = cluster.scene();
    assert!(said.contains("connect again in 0.0 s"), "{said}");
    assert!(Duration::from_millis(3 * 1000 / BACK_PER_S) < Duration::from_millis(10));
}
