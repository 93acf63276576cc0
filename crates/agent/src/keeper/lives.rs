//! A keeper's lives: each lasts for as long as its copy is where it was. Between two of them it waits ([`Away`]).
//!
//! A life begins with what is stored, as after a start of the agent, and with the directory that [`place`] finds; all that
//! held the one before – its lock, its watch, contents on their way – ends with it.

use super::away::Away;
use super::place::{self, Noted, Since, Verdict};
use super::{
    Concerns, Durable, Gate, KeeperConfig, KeeperError, NOTE_BOOT, NOTE_DURABLE, NOTE_IN_ORDER, RETRY_FIRST, Work,
    clock, note_u64, report,
};
use crate::chores::Chores;
use crate::event::Events;
use crate::fetch::Fetch;
use crate::holding::{Holding, View};
use crate::mailbox::Mailbox;
use board::{Durability, Replica, SqliteStore};
use mirror::{Dirty, Engine, Options};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tree::{Dir, RelPath, fsx};

/// Starts what fetches contents, by way of the copy; called from any thread, once for each life.
pub(crate) type MakeFetch = Box<dyn Fn(&Arc<Mailbox>, Dir) -> std::io::Result<Fetch> + Send>;

/// What all lives have in common.
pub(super) struct Setting {
    /// The directory in it is an absolute path.
    pub(super) config: KeeperConfig,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) events: Events,
    pub(super) stop: Arc<AtomicBool>,
    fetch: MakeFetch,
}

/// Why a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Somebody asked.
    Stopped,
    /// The copy is not where it was.
    Away,
}

/// What a keeper is at.
pub(super) enum Phase {
    /// It keeps its copy.
    Here(Box<Work>),
    /// It waits for it.
    Away(Box<Away>),
}

impl Setting {
    pub(super) fn new(
        config: KeeperConfig,
        mailbox: &Arc<Mailbox>,
        fetch: MakeFetch,
        events: Events,
        stop: &Arc<AtomicBool>,
    ) -> Result<Setting, KeeperError> {
        // Later the path is compared with what is held: a working directory that changes must not matter.
        let directory = std::path::absolute(&config.directory)
            .map_err(|e| KeeperError::Disk(fsx::Error::from_io("open", &config.directory, &e)))?;
        let config = KeeperConfig { directory, ..config };
        Ok(Setting { config, mailbox: Arc::clone(mailbox), events, stop: Arc::clone(stop), fetch })
    }

    /// The first life, or the wait for it.
    ///
    /// # Errors
    /// When the destination cannot be made or written, or the replica cannot be read.
    pub(super) fn first(&self) -> Result<Phase, KeeperError> {
        self.open(Since::Start { adopt: self.config.adopt })
    }

    /// Lives until somebody has it end.
    ///
    /// # Errors
    /// Why it ended by itself.
    pub(super) fn live(&self, mut phase: Phase) -> Result<(), KeeperError> {
        loop {
            phase = match phase {
                Phase::Here(mut work) => match work.run()? {
                    Ended::Stopped => return Ok(()),
                    Ended::Away => Phase::Away(Box::new(Away::after(*work, self))),
                },
                Phase::Away(away) => match away.wait(self) {
                    Some(work) => Phase::Here(work),
                    None => return Ok(()),
                },
            }
        }
    }

    /// Opens what is stored, and the directory if it is the copy or may become it.
    ///
    /// # Errors
    /// When the destination cannot be made or written, or the replica cannot be read.
    pub(super) fn open(&self, since: Since) -> Result<Phase, KeeperError> {
        let config = &self.config;
        let mut store = SqliteStore::open(&config.store, Durability::Process)?;
        let mut replica = Replica::load(&mut store)?;
        let noted = Noted::read(&replica);
        let (verdict, found) = take(config, noted.as_ref(), since)?;
        let Some(dest) = found.filter(|_| verdict != Verdict::Away) else {
            return Ok(Phase::Away(Box::new(Away::from_start(&replica, noted, self))));
        };
        if !dest.try_lock()? {
            return Err(KeeperError::InUse { directory: config.directory.clone() });
        }
        let here = Noted::of(&dest)?;
        let gate = match verdict {
            Verdict::Other => Gate::Shut { elsewhere: noted.is_some_and(|noted| !here.is_beside(&noted)) },
            Verdict::Copy | Verdict::Begin | Verdict::Away => {
                here.write(&mut replica);
                Gate::Open
            }
        };
        let durable_seq = note_u64(&replica, NOTE_DURABLE);
        let other_boot = replica.note(NOTE_BOOT).is_some_and(|boot| boot != config.boot_id.as_bytes());
        let in_order = replica.note(NOTE_IN_ORDER) == Some(b"1");
        replica.set_note(NOTE_IN_ORDER, b"0".to_vec());
        // Before anything is put there, lest a crash leave a directory that is nobody's.
        replica.save(&mut store)?;
        let complete = replica.is_complete();
        // That there is nothing, as where the last value was removed, is known as well.
        let known = complete || !replica.is_empty();
        let view = View::of(&config.kept);
        let mut holding = Holding::new(view, replica, dest.walk(&RelPath::root())?, config.directory.clone())?;
        // What was known of the directory before says nothing of this one.
        let anew = verdict == Verdict::Begin && known;
        if anew {
            holding.distrust_all();
        }
        if other_boot {
            // Whether the machine went down in order is not known, so what was not synced is read again.
            holding.distrust_above(durable_seq);
        }
        // Saved together with what is not trusted any more, never before it.
        holding.replica_mut().set_note(NOTE_BOOT, config.boot_id.clone().into_bytes());
        holding.allow_deletes(complete);
        let options = Options {
            allow_mass_delete: config.allow_mass_delete,
            sweep: true,
            own: config.own.clone(),
            ..Options::default()
        };
        let fetch = (self.fetch)(&self.mailbox, dest.walk(&RelPath::root())?).map_err(KeeperError::Thread)?;
        let content_bytes = fetch.content_bytes();
        let chores = Chores::start(store, dest.walk(&RelPath::root())?, Arc::clone(&self.mailbox))
            .map_err(KeeperError::Thread)?;
        let mut engine = Engine::new(dest, options);
        engine.stop_on(Arc::clone(&self.stop));
        let now = Instant::now();
        Ok(Phase::Here(Box::new(Work {
            engine,
            holding,
            watcher: None,
            chores: Some(chores),
            fetch,
            gate,
            behind: known && !in_order,
            anew,
            outbox: None,
            fid: config.index,
            start: None,
            dirty: Dirty::new(),
            local: Dirty::new(),
            again: Dirty::new(),
            retry: None,
            retry_after: RETRY_FIRST,
            unsaved_since: Some(now),
            saving: false,
            durable: Durable::new(durable_seq),
            synced_at: now,
            bytes_since_sync: 0,
            poll_at: now + clock::POLL_EVERY,
            noted: here,
            place_at: now + place::LOOK_EVERY,
            away: false,
            replaced: Vec::new(),
            content_bytes,
            concerns: Concerns::default(),
            held_deletes: 0,
            follow_at: None,
            follow_after: Duration::ZERO,
            root: report::RootCheck::default(),
            told: report::Told::new(now),
            mailbox: Arc::clone(&self.mailbox),
            events: Arc::clone(&self.events),
            config: config.clone(),
        })))
    }
}

/// The directory at the path of the copy, and what it is; made if it is missing and may begin there. None is held where
/// there is none.
fn take(config: &KeeperConfig, noted: Option<&Noted>, since: Since) -> Result<(Verdict, Option<Dir>), KeeperError> {
    let path: &Path = &config.directory;
    let (found, dir) = place::look(config, path)?;
    let verdict = place::judge(noted, &found, since);
    if dir.is_some() || verdict != Verdict::Begin {
        return Ok((verdict, dir));
    }
    std::fs::create_dir_all(path)
        .map_err(|e| KeeperError::Disk(fsx::Error::from_io("create the directory", path, &e)))?;
    // Whatever stands there now is judged for itself.
    let (found, dir) = place::look(config, path)?;
    Ok((place::judge(noted, &found, since), dir))
}
