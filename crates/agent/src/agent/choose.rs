//! What an agent keeps, and where.

use super::{Config, Error};
use crate::disk::DiskError;
use crate::kept::Kept;
use crate::state::Memory;
use std::path::{Path, PathBuf};
use wire::limits::KEPT_VALUES_MAX;
use wire::message::ShareInfo;

/// Which shares to keep where: those named, else those remembered, else the only one.
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
        if !offered.iter().any(|share| share.name == name) {
            return Err(Error::NoSuchShare { share: name, offered: list() });
        }
        let known = shares.iter().position(|(known, _)| *known == name);
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
}
