//! Getting at a directory of the destination, also where its mode keeps us out.

use super::{At, Pass, Why};
use crate::engine::Engine;
use crate::problem::Problem;
use crate::source::Source;
use rustix::io::Errno;
use std::sync::Arc;
use tree::at::set_mode;
use tree::{Name, RelPath, fsx};

impl<S: Source> Pass<'_, '_, S> {
    /// Gives us the right to change what is in a directory; its wanted mode comes back at the end.
    pub(super) fn make_writable(&mut self, at: &At) -> bool {
        match self.let_in(at) {
            Ok(()) => true,
            Err(e) => {
                self.fail(&at.path, e.into());
                false
            }
        }
    }

    /// [`Pass::make_writable`], and who calls it tells why not.
    pub(super) fn let_in(&mut self, at: &At) -> Result<(), fsx::Error> {
        if self.found.writable.contains(&at.path) {
            return Ok(());
        }
        let stat = at.dir.stat_self()?;
        if stat.mode & 0o300 != 0o300 {
            set_mode(&*at.dir, stat.mode | 0o700, at.dir.path())?;
        }
        self.finish_later(&at.path, Why::Touched);
        self.found.writable.insert(at.path.clone());
        Ok(())
    }

    /// A temporary that is nobody's any more.
    pub(super) fn sweep(&mut self, at: &At, name: &Name) {
        let Engine { options, temps, .. } = &*self.engine;
        // One of ours is left over if somebody put something into a directory in the moment in which it was replaced.
        let staged = || self.is_together() || self.found.steps.iter().any(|step| step.temp() == Some(name));
        let in_use = temps.is_ours(name) && staged();
        if options.sweep && !options.dry_run && !in_use && self.make_writable(at) {
            self.left_over(&at.path, crate::switch::remove_temp(&at.dir, name, &at.path).err());
        }
    }

    /// What is left over is the matter of the directory it is in: looked at again, that is swept.
    pub(super) fn left_over(&mut self, dir: &RelPath, problem: Option<Problem>) {
        if let Some(problem) = problem {
            self.fail(dir, problem);
        }
    }

    /// Holds the directory at `path`, or the last one before what is in the way.
    pub(super) fn open(&mut self, path: &RelPath) -> Result<Opened, Problem> {
        match self.engine.dest.walk(path) {
            Ok(dir) => return Ok(Opened::Dir(At { path: path.clone(), dir: Arc::new(dir) })),
            Err(e) if is_blocked(e.errno) || e.errno == Errno::ACCESS => {}
            Err(e) => return Err(e.into()),
        }
        let mut at = At { path: RelPath::root(), dir: Arc::clone(&self.engine.dest) };
        for component in path.components() {
            let name = Name::new(component).map_err(|e| Problem::Path(at.path.clone(), e))?;
            match at.dir.open_forced(&name) {
                Ok((dir, forced)) => {
                    let path = at.path.join(&name).map_err(|e| Problem::Path(at.path.clone(), e))?;
                    if forced {
                        self.finish_later(&path, Why::Touched);
                    }
                    at = At { path, dir: Arc::new(dir) };
                }
                Err(e) if is_blocked(e.errno) => return Ok(Opened::Blocked(at, name)),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(Opened::Dir(at))
    }
}

/// What [`Pass::open`] found.
pub(super) enum Opened {
    /// The directory.
    Dir(At),
    /// A directory above it, and the name in there that is missing or no directory.
    Blocked(At, Name),
}

/// Whether an error says that there is no such directory.
pub(super) fn is_blocked(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}
