//! Many at once: none is lost, nothing comes out of order, and who does not read costs the others nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::crowd::{Member, Putter};
use support::{Cluster, Crowd, PATIENCE, Rng, Stock, for_each_seed, lapse, pick};

use super::{ROUTES, active, enrolled, hub};

/// Clients that log in at a time: a hub lets some hundreds of strangers wait.
const AT_ONCE: usize = 256;
/// The id of who puts; above all others.
const PUTTER: u64 = 1_000_000;
/// The ids of the crowd begin here; stock clients are below.
const FIRST: u64 = 1_000;

type Newest = BTreeMap<String, Value>;

pub(super) fn address(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap().parse().unwrap()
}

fn rss_mib(cluster: &mut Cluster) -> f64 {
    cluster.hub().rss_bytes().unwrap() as f64 / f64::from(1 << 20)
}

/// Some thousand bytes under one of `names` names each; noted in `newest`.
fn values(rng: &mut Rng, count: usize, names: usize, bytes_max: usize, newest: &mut Newest) -> Vec<(String, Value)> {
    let mut value = |n: usize| {
        let text = format!("{n}-{:x}-{}", rng.number(), "x".repeat(rng.below(bytes_max)));
        let name = format!("hot/{}", rng.below(names));
        newest.insert(name.clone(), json!(text));
        (name, json!(text))
    };
    (0..count).map(&mut value).collect()
}

fn has(member: &Member, newest: &Newest) -> bool {
    let heard = member.heard();
    newest.iter().all(|(name, payload)| heard.newest.get(name).is_some_and(|(_, got)| got == payload))
}

#[track_caller]
fn all_have(crowd: &Crowd, newest: &Newest, within: Duration) {
    let all = crowd.wait(within, || crowd.members().iter().all(|member| has(member, newest)));
    if let Err(error) = all {
        let behind: Vec<_> = crowd.members().iter().filter(|member| !has(member, newest)).collect();
        panic!("{} of {} lack something newest; {error:#}\n{:?}", behind.len(), crowd.members().len(), behind[0]);
    }
    let disordered: Vec<_> = crowd.members().iter().filter(|member| member.heard().disordered > 0).collect();
    assert!(disordered.is_empty(), "{} heard something out of order: {:?}", disordered.len(), disordered[0]);
}

/// Every kind of stock client, among the others.
fn sample(url: &str) -> Vec<Stock> {
    ROUTES.iter().zip(1..).map(|((library, transports), id)| enrolled(*library, url, transports, id).0).collect()
}

fn putter(crowd: &Crowd) -> Putter {
    crowd.putter(PUTTER).unwrap_or_else(|error| panic!("nobody to put: {error:#}"))
}

#[test]
fn m3_1_of_many_that_log_in_at_once_none_is_lost_and_nothing_comes_out_of_order() {
    let count = pick(300, 10_000);
    for_each_seed(&[], |seed| {
        let mut rng = Rng::new(seed);
        let (mut cluster, url) = hub();
        let before = rss_mib(&mut cluster);
        let mut crowd = Crowd::new(address(&url));
        let start = Instant::now();
        crowd.enter(FIRST..FIRST + count, AT_ONCE, PATIENCE * 5).unwrap_or_else(|error| panic!("{error:#}"));
        let took = start.elapsed();
        let each = (rss_mib(&mut cluster) - before) * 1024.0 / count as f64;
        println!("seed {seed}: {count} log-ins in {took:.1?}, {each:.1} KiB of the hub's memory each");
        assert_eq!(active(&cluster).len() as u64, count);
        assert!(crowd.errors().is_empty(), "{:?}", crowd.errors());
        let stock = sample(&url);
        let mut newest = Newest::new();
        let puts = values(&mut rng, 200, 10, 100, &mut newest);
        let start = Instant::now();
        crowd.run(putter(&crowd).put_all(&puts)).unwrap();
        all_have(&crowd, &newest, PATIENCE * 2);
        println!("{} puts were heard by all after {:.1?}", puts.len(), start.elapsed());
        for (client, (name, payload)) in stock.iter().flat_map(|client| newest.iter().map(move |value| (client, value)))
        {
            client.hear_value(0, name, payload);
        }
        // Each is still here, by its one login.
        assert!(crowd.members().iter().all(|member| member.heard().logins == 1));
        assert_eq!(active(&cluster).len() as u64, count + stock.len() as u64);
        let each = (rss_mib(&mut cluster) - before) * 1024.0 / count as f64;
        println!("{each:.1} KiB of the hub's memory each after it");
    });
}

#[test]
fn m3_7_after_a_burst_everybody_has_the_newest_of_every_name() {
    let (count, puts) = pick((100, 600), (1000, 3000));
    for_each_seed(&[], |seed| {
        let mut rng = Rng::new(seed);
        let (mut cluster, url) = hub();
        let mut crowd = Crowd::new(address(&url));
        crowd.enter(FIRST..FIRST + count, AT_ONCE, PATIENCE * 2).unwrap_or_else(|error| panic!("{error:#}"));
        let stock = sample(&url);
        let before = rss_mib(&mut cluster);
        let mut newest = Newest::new();
        let values = values(&mut rng, puts, 300, 1000, &mut newest);
        let start = Instant::now();
        crowd.run(putter(&crowd).put_all(&values)).unwrap();
        let put = start.elapsed();
        all_have(&crowd, &newest, PATIENCE * 2);
        let took = start.elapsed();
        for (client, (name, payload)) in stock.iter().flat_map(|client| newest.iter().map(move |value| (client, value)))
        {
            client.hear_value(0, name, payload);
        }
        let heard: u64 = crowd.members().iter().map(|member| member.heard().values).sum();
        let conflated: u64 = crowd.members().iter().map(|member| member.heard().conflated).sum();
        // What was left out was told, and nothing else is missing. Puts of one name that reach the disk together are one version.
        let newest = crowd.members()[0].heard().newest.values().map(|(version, _)| *version).max().unwrap_or_default();
        assert_eq!(heard + conflated, count * newest, "{heard} heard, {conflated} left out");
        println!(
            "seed {seed}: {puts} puts in {put:.1?}, heard by {count} after {took:.1?}: {heard} deliveries, {conflated} \
             left out; the hub's memory {before:.0} MiB before, {:.0} MiB after",
            rss_mib(&mut cluster)
        );
        assert!(crowd.members().iter().all(|member| member.heard().logins == 1), "{:?}", crowd.errors());
    });
}

/// What a client that reads nothing may cost: what two batches, and the engine's buffers, hold at most.
const STALLED_MIB_MAX: f64 = 1.0;

#[test]
fn m3_7_a_tenth_that_does_not_read_costs_the_others_nothing_and_gets_exactly_the_newest() {
    let (count, stall) = pick((50, Duration::from_secs(4)), (1000, Duration::from_secs(60)));
    const NAMES: usize = 40;
    for_each_seed(&[], |seed| {
        let mut rng = Rng::new(seed);
        let (mut cluster, url) = hub();
        let mut crowd = Crowd::new(address(&url));
        crowd.enter(FIRST..FIRST + count, AT_ONCE, PATIENCE * 2).unwrap_or_else(|error| panic!("{error:#}"));
        let putter = putter(&crowd);
        let mut newest = Newest::new();
        crowd.run(putter.put_all(&values(&mut rng, 400, NAMES, 4000, &mut newest))).unwrap();
        all_have(&crowd, &newest, PATIENCE);
        let before = rss_mib(&mut cluster);
        let (stalled, reading) = crowd.members().split_at(crowd.members().len() / 10);
        stalled.iter().for_each(|member| member.stall(true));
        let start = Instant::now();
        let (mut rounds, mut slowest, mut most) = (0, Duration::ZERO, before);
        while start.elapsed() < stall {
            let round = Instant::now();
            crowd.run(putter.put_all(&values(&mut rng, NAMES, NAMES, 4000, &mut newest))).unwrap();
            let all = crowd.wait(PATIENCE, || reading.iter().all(|member| has(member, &newest)));
            all.unwrap_or_else(|error| panic!("others lack something while some do not read: {error:#}"));
            slowest = slowest.max(round.elapsed());
            most = most.max(rss_mib(&mut cluster));
            rounds += 1;
            lapse(Duration::from_millis(250).saturating_sub(round.elapsed()), "a round every quarter of a second");
        }
        assert!(stalled.iter().any(|member| !has(member, &newest)), "those that read nothing have everything");
        assert!(reading.iter().all(|member| member.heard().logins == 1), "who reads was cut: {:?}", crowd.errors());
        stalled.iter().for_each(|member| member.stall(false));
        all_have(&crowd, &newest, PATIENCE);
        let back = stalled.iter().filter(|member| member.heard().logins > 1).count();
        println!(
            "seed {seed}: {rounds} rounds of {NAMES} puts while {} of {count} did not read for {stall:?}, heard by the others \
             after {slowest:.1?} at most; {back} of the former were cut and came back; the hub's memory {before:.0} MiB before, \
             at most {most:.0} MiB",
            stalled.len()
        );
        let bound = before + stalled.len() as f64 * STALLED_MIB_MAX + 32.0;
        assert!(most < bound, "the hub's memory grew from {before:.0} to {most:.0} MiB");
        for member in stalled {
            let heard = member.heard();
            assert!(heard.values < reading[0].heard().values, "nothing was left out: {member:?}");
            // Who came back went on from its cursor, and heard of each name once, the newest.
            assert_eq!(heard.resets, 1, "{member:?}");
            assert!(heard.logins == 1 || heard.values_since_login <= NAMES as u64, "{member:?}");
        }
    });
}
