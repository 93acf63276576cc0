use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn ms(n: u32) -> Duration {
    SECOND + MS * n
}

fn name(s: &str) -> Name {
    Name::new(s.as_bytes()).unwrap()
}

fn push(settle: &mut Settle, seen: Seen, at: u32) {
    settle.push(&RelPath::root(), &name("f"), seen, ms(at));
}

/// Drives time in steps of a millisecond and returns when `f` came out.
fn out(settle: &mut Settle, from: u32, to: u32) -> Vec<u32> {
    (from..to).filter(|at| settle.due(ms(*at)).covers(&RelPath::root(), &name("f"))).collect()
}

#[test]
fn what_is_complete_comes_out_at_once() {
    use Seen::*;
    for seen in [Closed, MovedIn, MovedAway, Attributes, MadeDir, Complete] {
        let mut settle = Settle::new();
        push(&mut settle, seen, 7);
        assert_eq!(settle.next_deadline(), Some(ms(7)));
        assert_eq!(out(&mut settle, 7, 50), [7], "{seen:?}");
        assert!(settle.is_empty());
    }
}

#[test]
fn each_kind_waits_for_its_own_quiet() {
    for (seen, quiet) in [(Seen::Created, 20), (Seen::Found, 20), (Seen::Written, 100), (Seen::Removed, 5)] {
        let mut settle = Settle::new();
        push(&mut settle, seen, 0);
        assert!(settle.is_unsettled(&RelPath::new(*b"f").unwrap()));
        assert_eq!(out(&mut settle, 0, 300), [quiet], "{seen:?}");
    }
}

#[test]
fn a_close_ends_every_wait() {
    for before in [Seen::Created, Seen::Written, Seen::Removed] {
        let mut settle = Settle::new();
        push(&mut settle, before, 0);
        push(&mut settle, Seen::Closed, 3);
        assert_eq!(out(&mut settle, 3, 300), [3], "{before:?}");
    }
}

#[test]
fn a_file_removed_and_created_is_one_replacement() {
    let mut settle = Settle::new();
    push(&mut settle, Seen::Removed, 0);
    push(&mut settle, Seen::Created, 1);
    push(&mut settle, Seen::Written, 2);
    assert_eq!(out(&mut settle, 0, 10), []);
    push(&mut settle, Seen::Closed, 10);
    let due = settle.due(ms(10));
    assert!(due.hint(&RelPath::root(), &name("f")).content);
    assert!(due.removed_by_event(&RelPath::new(*b"f").unwrap()));
}

#[test]
fn mode_and_times_set_before_the_close_do_not_cut_the_wait_short() {
    let mut settle = Settle::new();
    push(&mut settle, Seen::Created, 0);
    push(&mut settle, Seen::Written, 1);
    push(&mut settle, Seen::Attributes, 2);
    assert_eq!(out(&mut settle, 2, 90), []);
    assert_eq!(out(&mut settle, 90, 300), [101]);
}

#[test]
fn a_writer_that_never_pauses_is_looked_at_each_second() {
    let mut settle = Settle::new();
    let mut seen = Vec::new();
    for at in 0..3500 {
        if at % 10 == 0 && at < 2900 {
            push(&mut settle, Seen::Written, at);
        }
        seen.extend(out(&mut settle, at, at + 1));
    }
    assert_eq!(seen, [1000, 2010, 2990], "two ceilings, then the quiet time after the last write at 2890");
}

/// A file rewritten in place each `period` ms: empty for `empty` of them, closed for the rest. When it came out, and
/// whether it was closed then.
fn rewritten(period: u32, empty: u32, until: u32) -> Vec<(u32, bool)> {
    let mut settle = Settle::new();
    let mut seen = Vec::new();
    for at in 0..until + 1000 {
        let phase = at % period;
        if at < until && phase == 0 {
            push(&mut settle, Seen::Written, at);
        } else if at < until + period && phase == empty {
            push(&mut settle, Seen::Closed, at);
        }
        // The writer is quicker than whoever is told of its close, but for once in four times.
        if phase != empty || at % (4 * period) == empty || at >= until {
            seen.extend(out(&mut settle, at, at + 1).into_iter().map(|at| (at, phase >= empty)));
        }
    }
    seen
}

#[test]
fn what_is_rewritten_in_place_all_the_time_comes_out_closed_and_never_empty() {
    for (period, empty) in [(10, 2), (10, 9), (4, 3), (50, 49)] {
        let seen = rewritten(period, empty, 30_000);
        assert!(seen.iter().all(|(_, closed)| *closed), "{period} {empty}: {seen:?}");
        let late = seen.iter().filter(|(at, _)| (20_000..30_000).contains(at)).count();
        assert!(late >= 10, "{period} {empty}: {late} looks in ten seconds");
        let (last, _) = *seen.last().unwrap();
        assert!(last >= 30_000 - period, "{period} {empty}: the last state came out at {last}");
    }
}

#[test]
fn what_is_begun_anew_before_anybody_came_is_looked_at_as_a_last_resort() {
    let mut settle = Settle::new();
    let mut seen = Vec::new();
    for at in 0..14_000 {
        push(&mut settle, if at % 2 == 0 { Seen::Written } else { Seen::Closed }, at);
        if at % 2 == 0 {
            seen.extend(out(&mut settle, at, at + 1));
        }
    }
    assert_eq!(seen, [5000, 10_002]);
}

#[test]
fn what_changes_many_times_a_second_is_thinned_and_its_last_state_goes_out() {
    let mut settle = Settle::new();
    let mut seen = Vec::new();
    for at in 0..20_000 {
        if at % 5 == 0 && at < 15_003 {
            push(&mut settle, Seen::Closed, at);
        }
        seen.extend(out(&mut settle, at, at + 1));
    }
    assert_eq!(seen.iter().filter(|at| **at < 1000).count(), 200, "a burst is not thinned");
    let late = seen.iter().filter(|at| (10_000..15_000).contains(*at)).count();
    assert!((9..=12).contains(&late), "{late} looks in five seconds");
    let last = *seen.last().unwrap();
    assert!((15_000..=15_500).contains(&last), "the last state came out at {last}");
    push(&mut settle, Seen::Closed, 19_990);
    assert_eq!(out(&mut settle, 19_990, 20_500), [19_990], "the first close after quiet is immediate");
}

#[test]
fn a_pace_is_forgotten() {
    let mut settle = Settle::new();
    for i in 0..PACED_MAX + 10 {
        settle.push(&RelPath::root(), &name(&i.to_string()), Seen::Closed, ms(0));
    }
    let _all = settle.due(ms(0));
    assert_eq!(settle.index[&RelPath::root()].len(), PACED_MAX);
    let _none = settle.due(ms(3000));
    assert!(settle.index.is_empty() && settle.free.len() == settle.slots.len());
}

#[test]
fn too_many_held_names_come_early_and_none_is_lost() {
    let mut settle = Settle::new();
    let dir = RelPath::new(*b"d").unwrap();
    for i in 0..HELD_MAX + 10 {
        settle.push(&dir, &name(&i.to_string()), Seen::Created, ms(0));
    }
    assert_eq!(settle.len(), HELD_MAX);
    assert!(settle.due(ms(0)).covers(&dir, &name(&(HELD_MAX + 5).to_string())));
    assert!(settle.due(ms(20)).covers(&dir, &name("5")));
}

#[test]
fn a_mark_is_passed_when_all_before_it_came_out() {
    let mut settle = Settle::new();
    let other = |settle: &mut Settle| settle.push(&RelPath::root(), &name("g"), Seen::Written, ms(0));
    push(&mut settle, Seen::Created, 0);
    let mark = settle.mark();
    other(&mut settle);
    assert!(!settle.passed(mark));
    let _first = settle.due(ms(20));
    assert!(settle.passed(mark) && !settle.passed(settle.mark()));
    settle.push_all(&RelPath::root(), All::default());
    let mark = settle.mark();
    assert_eq!(settle.next_deadline(), Some(Duration::ZERO));
    let _rest = settle.due(ms(100));
    assert!(settle.passed(mark));
}

#[test]
fn a_rename_takes_what_is_held_along() {
    let mut settle = Settle::new();
    let [a, ab, b] = ["a", "a/b", "z"].map(|p| RelPath::new(p.as_bytes()).unwrap());
    settle.push(&a, &name("f"), Seen::Written, ms(0));
    settle.push(&ab, &name("g"), Seen::Created, ms(0));
    settle.push(&b, &name("f"), Seen::Closed, ms(0));
    settle.rename(&a, &b);
    let due = settle.due(ms(200));
    assert!(settle.is_empty());
    let dirs: Vec<_> = due.iter().map(|(dir, _)| dir.to_string()).collect();
    assert_eq!(dirs, ["z", "z/b"]);
}

fn any_seen() -> impl Strategy<Value = Seen> {
    use Seen::*;
    prop::sample::select(vec![
        Closed, MovedIn, MovedAway, Attributes, MadeDir, Complete, Created, Found, Written, Removed,
    ])
}

/// A name as its pushes alone describe it.
#[derive(Debug)]
struct Model {
    first: Duration,
    /// When it stopped being complete; `None` while it is.
    begun: Option<Duration>,
    /// Until when it is to be quiet, were it not for a ceiling.
    quiet_until: Duration,
    removed_last: bool,
    content: bool,
    removed: bool,
}

impl Model {
    fn push(held: Option<Model>, seen: Seen, now: Duration) -> Model {
        use Seen::*;
        let is_new = held.is_none();
        let mut held = held.unwrap_or(Model {
            first: now,
            begun: None,
            quiet_until: now,
            removed_last: false,
            content: false,
            removed: false,
        });
        held.content |= seen.names_content();
        held.removed |= matches!(seen, Removed | MovedAway);
        let quiet = match seen {
            Attributes | Found if !is_new => return held,
            Written if held.removed_last => return held,
            Created | Found => Some(CREATED_QUIET),
            Written => Some(WRITTEN_QUIET),
            Removed => Some(REMOVED_QUIET),
            _ => None,
        };
        held.removed_last = seen == Removed;
        held.begun = quiet.map(|_| held.begun.unwrap_or(now));
        held.quiet_until = now + quiet.unwrap_or_default();
        held
    }

    /// By when it must have come out.
    fn latest(&self) -> Duration {
        let ceiling = self.begun.map_or(self.quiet_until + GAP_MAX, |begun| begun + CEILING);
        ceiling.min(self.first + LAST_RESORT.max(CEILING + GAP_MAX))
    }

    /// Whether it may come out: it is complete, was quiet, or has waited for too long.
    fn may_come(&self, now: Duration) -> bool {
        let waited = |since: Duration, span| now >= since + span;
        self.begun
            .is_none_or(|begun| now >= self.quiet_until || waited(begun, CEILING) || waited(self.first, LAST_RESORT))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The promises of the module against their simplest reading, kept for each name from its pushes alone.
    #[test]
    fn every_push_is_followed_by_a_look_within_the_ceiling_and_none_is_too_early(
        pushes in prop::collection::vec(
            (0..3usize, 0..2usize, any_seen(), prop_oneof![3 => 0..300u32, 5 => 0..20u32], any::<bool>()),
            1..200,
        ),
    ) {
        let dirs = ["", "a"].map(|p| RelPath::new(p.as_bytes()).unwrap());
        let names = ["f", "g", "h"].map(name);
        let mut settle = Settle::new();
        let mut model: HashMap<(usize, usize), Model> = HashMap::new();
        let mut now = ms(0);
        let look = |settle: &mut Settle, model: &mut HashMap<(usize, usize), Model>, now| {
            let due = settle.due(now);
            for (n, name) in names.iter().enumerate() {
                for (d, dir) in dirs.iter().enumerate() {
                    let path = dir.join(name).unwrap();
                    if due.covers(dir, name) {
                        let held = model.remove(&(n, d));
                        prop_assert!(held.is_some(), "{path} came out and was not pushed");
                        let held = held.unwrap();
                        prop_assert!(held.may_come(now), "{path} came out at {now:?}, too early: {held:?}");
                        prop_assert_eq!(due.hint(dir, name).content, held.content);
                        prop_assert_eq!(due.removed_by_event(&path), held.removed);
                    }
                    prop_assert_eq!(settle.is_unsettled(&path), model.contains_key(&(n, d)));
                }
            }
            for held in model.values() {
                prop_assert!(now < held.latest(), "held past its ceiling at {now:?}: {held:?}");
            }
            prop_assert_eq!(settle.len(), model.len());
            Ok(())
        };
        for (n, d, seen, wait, looks) in pushes {
            let then = now + MS * wait;
            // A consumer that comes when it is told to, and sometimes in between.
            while let Some(at) = settle.next_deadline().filter(|at| *at <= then) {
                now = now.max(at);
                look(&mut settle, &mut model, now)?;
            }
            now = then;
            settle.push(&dirs[d], &names[n], seen, now);
            let held = Model::push(model.remove(&(n, d)), seen, now);
            model.insert((n, d), held);
            if looks {
                look(&mut settle, &mut model, now)?;
            }
        }
        while let Some(at) = settle.next_deadline() {
            now = now.max(at);
            look(&mut settle, &mut model, now)?;
        }
        prop_assert!(model.is_empty(), "never came out: {model:?}");
    }
}
