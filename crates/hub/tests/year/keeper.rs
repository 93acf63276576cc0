//! An agent that keeps the share.

use crate::house::House;
use agent::dial::Trust;
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use tokio::sync::oneshot;
use wire::id::ClientId;
use wire::link::InviteCode;

/// Its id.
pub(crate) const KEEPER: u64 = 2;
/// Of what it tells, so much is kept.
const TOLD: usize = 60;

/// An agent that keeps the share.
pub(crate) struct Keeper {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<agent::Summary, agent::Error>>,
    /// What it told last.
    told: Arc<Mutex<VecDeque<String>>>,
}

impl Keeper {
    pub(crate) fn start(house: &House, invite: Option<InviteCode>) -> Keeper {
        let up = house.up();
        let copy = house.place.join("copy");
        let config = agent::Config {
            data_dir: house.place.join("keeper"),
            addresses: vec![up.address.to_string()],
            trust: Trust::Known(up.fingerprint),
            invite,
            id: agent::Id::This(ClientId::new(KEEPER).unwrap()),
            name: "keeper".into(),
            software: "year".into(),
            shares: vec![("share".into(), Some(copy))],
            values: Vec::new(),
            directory: None,
            adopt: false,
            allow_mass_delete: true,
            procfs: "/proc".into(),
            own: HashSet::new(),
            runs: agent::LastRuns::default(),
        };
        let (stop, stopped) = oneshot::channel();
        let told = Arc::<Mutex<VecDeque<String>>>::default();
        let telling = Arc::clone(&told);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let tells = move |event| {
                let mut told = telling.lock().unwrap();
                told.push_back(format!("{event:?}"));
                while told.len() > TOLD {
                    told.pop_front();
                }
            };
            runtime.block_on(agent::run(config, tells, async { drop(stopped.await) }))
        });
        Keeper { stop, thread, told }
    }

    /// In order; not by itself before that.
    pub(crate) fn ends(self) {
        let went_on = self.stop.send(()).is_ok();
        let ended = self.thread.join().unwrap();
        assert!(went_on && ended.is_ok(), "the agent: {ended:?}\n{:#?}", self.told.lock().unwrap());
    }

    /// What it told, for a failure.
    pub(crate) fn says(&self) -> String {
        let told: Vec<String> = self.told.lock().unwrap().iter().cloned().collect();
        format!("the agent, ended: {}\n{}", self.thread.is_finished(), told.join("\n"))
    }
}
