//! The shares of a hub by name. One can be added while it runs; to take one away needs a new start, as its clients would
//! have to be told what becomes of their copies.

use crate::Error;
use crate::access::Access;
use crate::share::{Place, Share, ShareThread};
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
    threads: Mutex<Vec<ShareThread>>,
    sleepers: Mutex<Vec<Arc<Notify>>>,
    claims: Mutex<Vec<Claim>>,
    ground: Ground,
}

type ByName = BTreeMap<String, Arc<Share>>;

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

    /// Starts those of `named` that there are not yet; gives their names. One that cannot be started keeps no other from it.
    pub(crate) fn add(&self, named: &Named) -> (Vec<String>, Vec<Error>) {
        if let Err(error) = check(named) {
            return (Vec::new(), vec![error]);
        }
        let (mut added, mut failed) = (Vec::new(), Vec::new());
        for (name, directory) in named.iter().filter(|(name, _)| !self.contains_key(name)) {
            let begun = if self.len() < SHARES_MAX { self.begin(name, directory) } else { Err(too_many()) };
            match begun {
                Ok(()) => added.push(name.clone()),
                Err(error) => failed.push(error),
            }
        }
        (added, failed)
    }

    fn begin(&self, name: &str, directory: &Path) -> Result<(), Error> {
        let Ground { hub, data_dir, spool, ours } = &self.ground;
        let place = Place { index: data_dir.join(share_file_name(name)), spool, boot_id: boot_id(), ours };
        let (share, thread) = Share::start(name, directory, place)?;
        // Without it the share is as good; only who would keep a copy within it is not warned.
        match Dir::open_root(directory).and_then(|root| premises::claim(hub, name, &root)) {
            Ok(claim) => self.claims.lock().unwrap_or_else(PoisonError::into_inner).push(claim),
            Err(error) => tracing::warn!(share = name, %error, "agents on this machine cannot see that this is shared"),
        }
        for sleeper in self.sleepers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            share.wakers.add(sleeper);
        }
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
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
        drop(std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)));
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

fn too_many() -> Error {
    Error::Shares(format!("a hub has at most {SHARES_MAX} shares"))
}
