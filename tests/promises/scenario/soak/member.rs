//! A client in bad weather: it puts, is cut, stopped and killed, and comes back by itself until all is calm and it has everything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use support::{Rng, lapse};

use super::super::program::{Program, Say, Session, Told, Transport};
use super::life::Life;

/// A program gives up on an answer, and on getting in, after so long. The hub itself cuts who is silent for 15 s.
const PATIENCE: Duration = Duration::from_secs(25);
/// Names of each client's own.
const OWN_NAMES: usize = 4;
/// Names that all put to.
const SHARED_NAMES: usize = 3;

/// What all members are told.
#[derive(Default)]
pub(super) struct Weather {
    /// Nobody puts, and nothing happens to programs.
    pub(super) calm: AtomicBool,
    pub(super) over: AtomicBool,
}

/// What is known of a member while it lives.
pub(super) struct Member {
    pub(super) name: &'static str,
    life: Mutex<Life>,
    /// What it does just now, and since when.
    does: Mutex<(&'static str, Instant)>,
}

impl Member {
    pub(super) fn new(name: &'static str, id: u64) -> Member {
        Member { name, life: Mutex::new(Life::of(id)), does: Mutex::new(("begins", Instant::now())) }
    }

    pub(super) fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn does(&self) -> String {
        let (does, since) = *self.does.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{} {does} since {:?}", self.name, since.elapsed())
    }

    fn now(&self, does: &'static str) {
        *self.does.lock().unwrap_or_else(PoisonError::into_inner) = (does, Instant::now());
    }
}

/// A program of it, and where it stands with the hub.
struct Run<'a> {
    member: &'a Member,
    transport: &'a dyn Transport,
    unique_id: String,
    program: Box<dyn Program>,
    read: usize,
    is_in: bool,
    /// When it began to wait for the hub.
    waits_since: Instant,
    cursor: Option<String>,
    rng: Rng,
}

/// Lives until the weather is over. `pace` is the mean span between two puts.
pub(super) fn live(member: &Member, session: Session<'_>, weather: &Weather, seed: u64, pace: Duration) {
    let Session { transport, program, unique_id, .. } = session;
    let mut run = Run {
        member,
        transport,
        unique_id,
        program,
        read: 0,
        is_in: true,
        waits_since: Instant::now(),
        cursor: None,
        rng: Rng::new(seed),
    };
    let mut next_put = Instant::now();
    while !weather.over.load(Ordering::Acquire) {
        run.hear();
        let calm = weather.calm.load(Ordering::Acquire);
        let waits = member.life().waits;
        if run.is_in && !waits && !calm && Instant::now() >= next_put {
            run.put();
            let pace = usize::try_from(pace.as_millis()).expect("a pace is short");
            next_put = Instant::now() + Duration::from_millis(run.rng.below(2 * pace) as u64);
            if run.rng.one_in(40) {
                run.suffers();
            }
        }
        if (waits || !run.is_in) && run.waits_since.elapsed() > PATIENCE {
            run.again(true);
        }
        lapse(Duration::from_millis(5), "the pace of a member's looks and puts");
    }
}

impl Run<'_> {
    fn put(&mut self) {
        let mut life = self.member.life();
        let (id, number) = (life.id, life.puts.len());
        let name = match self.rng.below(OWN_NAMES + SHARED_NAMES) {
            own @ 0..OWN_NAMES => format!("own/{id}/{own}"),
            shared => format!("shared/{}", shared - OWN_NAMES),
        };
        // Now and then one that fills more than a buffer.
        let bytes = if self.rng.one_in(20) { 60_000 } else { self.rng.below(300) };
        let value = format!("{id}:{number}:{}", "x".repeat(bytes));
        life.puts(name.clone(), value.clone());
        drop(life);
        self.waits_since = Instant::now();
        self.program.say(Say::Put(&name, &value));
    }

    /// Stopped for a while, or killed.
    fn suffers(&mut self) {
        if self.rng.one_in(3) {
            self.program.kill();
            let remembers = !self.rng.one_in(4);
            self.again(remembers);
        } else {
            self.member.now("stands still");
            self.program.stand_still();
            lapse(Duration::from_millis(self.rng.below(1500) as u64), "it is stopped for so long: that is the fault");
            self.program.go_on();
            self.member.now("goes on");
        }
    }

    fn hear(&mut self) {
        let told = self.program.told()[self.read..].to_vec();
        self.read += told.len();
        for told in told {
            match &told {
                Told::Cut => return self.is_cut(),
                Told::Id if !self.is_in => self.program.say(Say::Id(&self.member.life().id.to_string())),
                Told::UniqueId if !self.is_in => self.program.say(Say::UniqueId(&self.unique_id)),
                Told::Welcome if !self.is_in => {
                    self.is_in = true;
                    self.member.now("is in");
                    self.program.say(Say::Follow);
                }
                // At the door, or for a name: what the hub has no room for. That it is itself it can always prove.
                Told::Refused { code, text } if code == "not_proven" => {
                    let id = self.member.life().id;
                    self.member.life().broken.push(format!("{id} is not let in: {text}"));
                }
                Told::Current(cursor) => self.cursor = Some(cursor.clone()),
                _ => {}
            }
            self.member.life().told(&told);
        }
    }

    /// What it was to be answered is not known; else its library may come back by itself.
    fn is_cut(&mut self) {
        let waits = self.member.life().waits;
        if waits || !self.program.comes_back() {
            return self.again(true);
        }
        self.member.life().is_cut();
        self.member.now("is to come back by itself");
        self.is_in = false;
        self.waits_since = Instant::now();
    }

    /// Another program, which remembers what the one before knew, or nothing.
    fn again(&mut self, remembers: bool) {
        let mut life = self.member.life();
        life.is_cut();
        if !remembers {
            self.cursor = None;
            life.held.clear();
        }
        drop(life);
        self.member.now("comes back");
        lapse(Duration::from_millis(self.rng.below(200) as u64), "a new program takes a while to come");
        // The one before is gone first, as that of a killed process is.
        self.program.kill();
        self.program = self.transport.connect(self.cursor.as_deref());
        self.read = 0;
        self.is_in = false;
        self.waits_since = Instant::now();
    }
}
