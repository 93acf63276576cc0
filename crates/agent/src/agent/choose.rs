//! What an agent keeps, and where.

use super::{Config, Error};
use crate::disk::DiskError;
use crate::kept::Kept;
use crate::state::Memory;
use std::path::{Path, PathBuf};
use tree::at::Dir;
use tree::fsx;
use tree::premises::Conflict;
use wire::limits::KEPT_VALUES_MAX;
use wire::message::ShareInfo;

/// Which shares to keep where: those named, else those remembered, else the only one. One that was never kept must be `offered`.
pub(super) fn shares(config: &Config, memory: &Memory, offered: &[ShareInfo]) -> Result<Vec<(String, PathBuf)>, Error> {
    let list = || offered.iter().map(|share| share.name.clone()).collect::<Vec<_>>();
    let mut shares = memory.shares.clone();
    let mut named = config.shares.clone();
    // Who asks for values alone gets no share beside them.
    let by_itself = memory.shares.is_empty() && config.values.is_empty() && memory.values.is_empty();
    if named.is_empty() && (by_itself || config.directory.is_some()) {
        match (offered, &memory.shares[..]) {
            (_, [(only, _)]) | ([ShareInfo { name: only, .. }], []) => named.push((only.clone(), None)),
            // A client without a share still gives its vitals and may follow values.
            ([], []) if config.directory.is_none() => {}
            _ => return Err(Error::WhichShare { offered: list() }),
        }
    }
    if named.len() == 1 && named[0].1.is_none() {
        named[0].1 = config.directory.clone();
    }
    for (name, directory) in named {
        let known = shares.iter().position(|(known, _)| *known == name);
        // What was kept before is kept on: it may come back, and all else is not to wait for it.
        if known.is_none() && !offered.iter().any(|share| share.name == name) {
            return Err(Error::NoSuchShare { share: name, offered: list() });
        }
        let directory = match (directory, known) {
            (Some(directory), _) => directory,
            (None, Some(at)) => shares[at].1.clone(),
            (None, None) => PathBuf::from(&name),
        };
        let directory = std::path::absolute(&directory).map_err(|e| DiskError::new("find", &directory, e))?;
        match known {
            Some(at) => shares[at].1 = directory,
            None => shares.push((name, directory)),
        }
    }
    Ok(shares)
}

/// Which values to keep as files where: those remembered, and those named.
pub(super) fn values(config: &Config, memory: &Memory) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut values = memory.values.clone();
    for (pattern, directory) in &config.values {
        Kept::values(pattern).map_err(|why| Error::Pattern { pattern: pattern.clone(), why })?;
        let directory = std::path::absolute(directory).map_err(|e| DiskError::new("find", directory, e))?;
        match values.iter_mut().find(|(known, _)| known == pattern) {
            Some((_, known)) => *known = directory,
            None => values.push((pattern.clone(), directory)),
        }
    }
    if values.len() > KEPT_VALUES_MAX {
        return Err(Error::TooManyPatterns);
    }
    Ok(values)
}

/// All of it, if no directory lies in another.
pub(super) fn all(shares: &[(String, PathBuf)], values: &[(String, PathBuf)]) -> Result<Vec<(Kept, PathBuf)>, Error> {
    let shares = shares.iter().map(|(name, directory)| (Kept::Share(name.clone()), directory.clone()));
    let values = values.iter().map(|(pattern, directory)| (Kept::Values(pattern.clone()), directory.clone()));
    let all: Vec<(Kept, PathBuf)> = shares.chain(values).collect();
    let real: Vec<PathBuf> = all.iter().map(|(_, directory)| real(directory)).collect();
    for (at, (inner, inner_directory)) in all.iter().enumerate() {
        for (around, (outer, outer_directory)) in all.iter().enumerate() {
            if at != around && real[at].starts_with(&real[around]) {
                let (inner, outer) = (inner.clone(), outer.clone());
                let (inner_directory, outer_directory) = (inner_directory.clone(), outer_directory.clone());
                return Err(Error::Nested { inner, inner_directory, outer, outer_directory });
            }
        }
    }
    Ok(all)
}

/// How `directory`, where there may be nothing yet, lies to `data`, by any way that leads there: what is kept would delete what is
/// in there as extra.
///
/// # Errors
/// When one of them, or what is above it, may not be searched.
pub(super) fn conflict(directory: &Path, data: &Path) -> Result<Option<Conflict>, fsx::Error> {
    let own = Dir::open_root(data)?.lineages()?;
    let there = directory.ancestors().find_map(|there| Some((there, Dir::open_root(there).ok()?)));
    let Some((there, dir)) = there else { return Ok(None) };
    let line = dir.lineages()?;
    Ok(match (line.first(), own.first()) {
        (_, Some(data)) if line.contains(data) => Some(Conflict::Within),
        (Some(itself), _) if there == directory && own.contains(itself) => Some(Conflict::Around),
        _ => None,
    })
}

/// Where a path leads, as far as there is something; links in what is not there yet there are none.
fn real(path: &Path) -> PathBuf {
    for there in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (there.canonicalize(), path.strip_prefix(there)) {
            return real.join(rest);
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(names: &[(&str, &str)]) -> Vec<(String, PathBuf)> {
        names.iter().map(|(name, directory)| ((*name).to_owned(), PathBuf::from(directory))).collect()
    }

    #[test]
    fn a_directory_in_another_is_refused_also_behind_a_link_and_where_nothing_stands_yet() {
        assert_eq!(all(&here(&[("a", "/x/a"), ("b", "/x/b")]), &here(&[("*", "/x/ab")])).unwrap().len(), 3);
        let told = all(&here(&[("a", "/x/a")]), &here(&[("*", "/x/a/values")])).unwrap_err().to_string();
        assert!(told.contains("values * would be kept in /x/a/values") && told.contains("share a is kept"), "{told}");
        assert!(all(&[], &here(&[("a*", "/x"), ("b*", "/x")])).is_err());
        let scratch = tempfile::tempdir().unwrap();
        let (copy, link) = (scratch.path().join("copy"), scratch.path().join("link"));
        std::fs::create_dir(&copy).unwrap();
        std::os::unix::fs::symlink(&copy, &link).unwrap();
        let (copy, inside) = (copy.to_str().unwrap(), link.join("not/yet"));
        assert!(all(&here(&[("a", copy)]), &here(&[("*", inside.to_str().unwrap())])).is_err());
    }

    #[test]
    fn a_directory_in_our_own_or_around_it_is_seen_also_behind_a_link_and_where_nothing_stands_yet() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |path: &str| scratch.path().join(path);
        std::fs::create_dir_all(at("around/data/store")).unwrap();
        std::fs::create_dir(at("around/beside")).unwrap();
        std::os::unix::fs::symlink(at("around/data"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("around"), at("link-around")).unwrap();
        for data in ["around/data", "link"] {
            let look = |path: &str| conflict(&at(path), &at(data)).unwrap();
            for within in ["around/data", "around/data/store", "around/data/not/yet", "link", "link/not/yet"] {
                assert_eq!(look(within), Some(Conflict::Within), "{within}");
            }
            for around in ["around", "link-around", "."] {
                assert_eq!(look(around), Some(Conflict::Around), "{around}");
            }
            for apart in ["around/beside", "around/not/yet", "not/yet"] {
                assert_eq!(look(apart), None, "{apart}");
            }
        }
    }
}
