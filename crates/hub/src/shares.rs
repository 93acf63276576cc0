//! The shares of a hub by name. They may come, go and move to other directories while it runs.

use crate::Error;
use crate::access::Access;
use crate::share::{Place, Share, ShareError, ShareThread};
use crate::state::{StateError, boot_id, share_file_name};
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::Notify;
use tree::Dir;
use tree::premises::{self, Claim};
use wire::limits::{SHARE_NAME_BYTES_MAX, SHARES_MAX};

/// Name and directory of each.
pub(crate) type Named = [(String, PathBuf)];

/// All shares.
#[derive(Default)]
pub(crate) struct Shares {
    by_name: RwLock<Arc<ByName>>,
    running: Mutex<BTreeMap<String, Running>>,
    sleepers: Mutex<Vec<Arc<Notify>>>,
    ground: Ground,
}

type ByName = BTreeMap<String, Arc<Share>>;

/// What goes on for one of them.
struct Running {
    _thread: ShareThread,
    /// Without it the share is as good; only who would keep a copy within it is not warned.
    _claim: Option<Claim>,
}

/// What became of a list of shares.
#[derive(Default)]
pub(crate) struct Moved {
    /// Those that are shared from now on, or from another directory.
    pub(crate) come: Vec<String>,
    /// Those that are not shared any more.
    pub(crate) gone: Vec<String>,
    /// Why others are as they were.
    pub(crate) failed: Vec<Error>,
}

/// What every share needs to start.
#[derive(Default)]
struct Ground {
    /// The fingerprint of the hub.
    hub: String,
    data_dir: PathBuf,
    spool: PathBuf,
    ours: Vec<PathBuf>,
}

impl Shares {
    /// Starts all of `named`; files and directories of `ours`, and the data directory, are never entries.
    ///
    /// # Errors
    /// When one of them cannot be shared, or the spool not be made.
    pub(crate) fn start(named: &Named, hub: String, data_dir: &Path, ours: &[PathBuf]) -> Result<Shares, Error> {
        check(named)?;
        let spool = data_dir.join("spool");
        let unmade = |source| StateError::Io { verb: "create", path: spool.clone(), source };
        std::fs::create_dir_all(&spool).map_err(unmade)?;
        std::fs::set_permissions(&spool, Permissions::from_mode(0o700)).map_err(unmade)?;
        let ours = ours.iter().cloned().chain([data_dir.to_owned()]).collect();
        let ground = Ground { hub, data_dir: data_dir.to_owned(), spool, ours };
        let shares = Shares { ground, ..Shares::default() };
        named.iter().try_for_each(|(name, directory)| shares.begin(name, directory))?;
        Ok(shares)
    }

    /// Makes `named` what is shared: starts those that there are not yet, ends those that are not named, and does both to one
    /// that is in another directory now. One that cannot be started keeps no other from it; one that cannot be moved is shared from
    /// where it was.
    pub(crate) fn set(&self, named: &Named) -> Moved {
        let mut moved = Moved::default();
        if let Err(error) = check(named) {
            moved.failed.push(error);
            return moved;
        }
        let directories: BTreeMap<&str, &Path> =
            named.iter().map(|(name, dir)| (name.as_str(), dir.as_path())).collect();
        for share in self.values() {
            match directories.get(share.name.as_str()) {
                Some(directory) if *directory == share.directory => continue,
                // Where there is nothing to be shared yet, what was shared before is better than nothing.
                Some(directory) => match readable(directory) {
                    Ok(()) => self.replace(&share, directory, &mut moved),
                    Err(error) => moved.failed.push(error),
                },
                None => {
                    self.take_away(&share);
                    self.end_one(&share);
                    moved.gone.push(share.name.clone());
                }
            }
        }
        for (name, directory) in named.iter().filter(|(name, _)| !self.contains_key(name)) {
            let begun = if self.len() < SHARES_MAX { self.begin(name, directory) } else { Err(too_many()) };
            match begun {
                Ok(()) => moved.come.push(name.clone()),
                Err(error) => moved.failed.push(error),
            }
        }
        moved
    }

    /// Has one shared from another directory. Until it is, who asks for it finds the one before, and is told to come anew after.
    fn replace(&self, share: &Share, directory: &Path, moved: &mut Moved) {
        self.end_one(share);
        let Err(error) = self.begin(&share.name, directory) else { return moved.come.push(share.name.clone()) };
        moved.failed.push(error);
        // What there is of it has ended: the one before begins anew, or it is gone.
        match self.begin(&share.name, &share.directory) {
            Ok(()) => moved.come.push(share.name.clone()),
            Err(error) => {
                self.take_away(share);
                moved.failed.push(error);
                moved.gone.push(share.name.clone());
            }
        }
    }

    /// It is not found any more.
    fn take_away(&self, share: &Share) {
        Arc::make_mut(&mut self.by_name.write().unwrap_or_else(PoisonError::into_inner)).remove(&share.name);
    }

    /// Ends what goes on for one; returns once its index is closed.
    fn end_one(&self, share: &Share) {
        // Dropped without the lock: it waits.
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&share.name);
        drop(running);
    }

    fn begin(&self, name: &str, directory: &Path) -> Result<(), Error> {
        let Ground { hub, data_dir, spool, ours } = &self.ground;
        let place = Place { index: data_dir.join(share_file_name(name)), spool, boot_id: boot_id(), ours };
        let (share, thread) = Share::start(name, directory, place)?;
        let claim = Dir::open_root(directory).and_then(|root| premises::claim(hub, name, &root));
        let claim = claim.inspect_err(|error| {
            tracing::warn!(share = name, %error, "agents on this machine cannot see that this is shared");
        });
        for sleeper in self.sleepers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            share.wakers.add(sleeper);
        }
        let running = Running { _thread: thread, _claim: claim.ok() };
        drop(self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), running));
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut by_name).insert(name.to_owned(), Arc::new(share));
        Ok(())
    }

    /// As they are now.
    fn now(&self) -> Arc<ByName> {
        Arc::clone(&self.by_name.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Share>> {
        self.now().get(name).cloned()
    }

    pub(crate) fn contains_key(&self, name: &str) -> bool {
        self.now().contains_key(name)
    }

    pub(crate) fn len(&self) -> usize {
        self.now().len()
    }

    /// All of them, by name.
    pub(crate) fn values(&self) -> impl Iterator<Item = Arc<Share>> + use<> {
        self.now().values().cloned().collect::<Vec<_>>().into_iter()
    }

    /// The names of those that whoever asks may know of, for people.
    pub(crate) fn known(&self, to: &Access) -> String {
        let known: Vec<String> =
            self.values().filter(|share| to.joins(&share.name)).map(|share| share.name.clone()).collect();
        known.join(", ")
    }

    /// `sleeper` is woken whenever one of them moves, also one that comes later.
    pub(crate) fn wake(&self, sleeper: &Arc<Notify>) {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(sleeper));
        self.values().for_each(|share| share.wakers.add(sleeper));
    }

    /// Ends all of them, and waits until each has closed its index.
    pub(crate) fn end(&self) {
        self.values().for_each(|share| share.stop());
        drop(std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}

/// Whether each has a name that a share can have, and one of its own.
///
/// # Errors
/// Which has not, or that there are too many.
pub(crate) fn check(shares: &Named) -> Result<(), Error> {
    let mut names = std::collections::BTreeSet::new();
    for (name, path) in shares {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let good =
            !name.is_empty() && name.len() <= SHARE_NAME_BYTES_MAX && !name.starts_with('.') && name.bytes().all(fits);
        if !good {
            return Err(Error::ShareName { name: name.clone(), path: path.display().to_string() });
        }
        if !names.insert(name) {
            return Err(Error::Shares(format!(
                "two shares are called {name}; name one yourself: --share OTHER={}",
                path.display()
            )));
        }
    }
    if shares.len() > SHARES_MAX { Err(too_many()) } else { Ok(()) }
}

fn readable(directory: &Path) -> Result<(), Error> {
    let listed = Dir::open_root(directory).and_then(|dir| dir.list(&mut tree::at::ListBuffer::default()).map(drop));
    listed.map_err(|source| ShareError::Directory { path: directory.to_owned(), source }.into())
}

fn too_many() -> Error {
    Error::Shares(format!("a hub has at most {SHARES_MAX} shares"))
}
