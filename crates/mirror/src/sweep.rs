//! Sweeping alone: the temporaries that a copy was left with, where nobody keeps it any more.

use crate::problem::Problem;
use crate::switch::remove_temp;
use std::path::Path;
use tree::at::{ListBuffer, is_temp_name};
use tree::{Dir, Kind, RelPath};

/// What a sweep came to.
#[derive(Debug, Default)]
pub struct Swept {
    /// Temporaries that were removed.
    pub removed: usize,
    /// What could not be removed, or not be looked into.
    pub problems: Vec<Problem>,
}

/// Removes the temporaries in the directory `root` and below it; nothing else is touched, no link followed and no other
/// file system entered. `None`: somebody keeps the directory now, so what is in it is theirs.
///
/// # Errors
/// When it is missing, no directory, or may not be read: nothing was removed.
pub fn sweep(root: &Path) -> Result<Option<Swept>, tree::fsx::Error> {
    let root = Dir::open_root(root)?;
    if !root.try_lock()? {
        return Ok(None);
    }
    let (mut swept, mut buffer) = (Swept::default(), ListBuffer::default());
    let home = root.stat_self()?.dev;
    let mut open = vec![RelPath::root()];
    while let Some(path) = open.pop() {
        let listed = root.walk(&path).and_then(|dir| dir.list(&mut buffer).map(|entries| (dir, entries)));
        let (dir, entries) = match listed {
            Ok(listed) => listed,
            Err(error) if error.is_missing() => continue,
            Err(error) => {
                swept.problems.push(error.into());
                continue;
            }
        };
        for entry in entries {
            if is_temp_name(&entry.name) {
                match remove_temp(&dir, &entry.name, &path) {
                    Ok(()) => swept.removed += 1,
                    Err(problem) => swept.problems.push(problem),
                }
            } else if entry.kind.is_none_or(|kind| kind == Kind::Dir)
                && let Ok(Some(stat)) = dir.look(&entry.name)
                && stat.kind == Kind::Dir
                && stat.dev == home
                && !stat.mount_point
                && let Ok(below) = path.join(&entry.name)
            {
                open.push(below);
            }
        }
    }
    Ok(Some(swept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const TEMP: &str = ".lockstep-tmp-0123456789abcdef";

    #[test]
    fn temporaries_of_every_kind_go_wherever_they_are_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (scratch.path().join("copy"), scratch.path().join("elsewhere"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(elsewhere.join(TEMP)).unwrap();
        fs::write(root.join("a/kept"), "1").unwrap();
        fs::write(root.join("a").join(TEMP), "1").unwrap();
        fs::create_dir_all(root.join(TEMP).join("c")).unwrap();
        fs::write(root.join(TEMP).join("c/d"), "1").unwrap();
        std::os::unix::fs::symlink(&elsewhere, root.join("link")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, root.join("a/b").join(TEMP)).unwrap();
        fs::write(root.join(".lockstep-tmp-mine"), "1").unwrap();
        let swept = sweep(&root).unwrap().unwrap();
        assert_eq!(swept.removed, 3);
        assert!(swept.problems.is_empty(), "{:?}", swept.problems);
        for gone in [root.join("a").join(TEMP), root.join(TEMP), root.join("a/b").join(TEMP)] {
            assert!(fs::symlink_metadata(&gone).is_err(), "{}", gone.display());
        }
        let stays = [root.join("a/kept"), root.join("link"), root.join(".lockstep-tmp-mine"), elsewhere.join(TEMP)];
        assert!(stays.iter().all(|path| path.exists()));
    }

    #[test]
    fn where_somebody_keeps_the_directory_nothing_is_touched() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join(TEMP), "1").unwrap();
        let keeper = Dir::open_root(scratch.path()).unwrap();
        assert!(keeper.try_lock().unwrap());
        assert!(sweep(scratch.path()).unwrap().is_none() && scratch.path().join(TEMP).exists());
        assert!(sweep(&scratch.path().join("missing")).is_err());
    }
}
