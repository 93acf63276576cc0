//! Where the hierarchies of control groups are mounted, and where in each of them we are.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
};

/// A hierarchy, and the directory of our own group in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where it is mounted: the topmost group we can see.
    pub(crate) top: PathBuf,
    /// Our own group, at or below `top`.
    pub(crate) own: PathBuf,
}

impl Place {
    /// Our group and those above it, as far as we can see.
    pub(crate) fn upwards(&self) -> impl Iterator<Item = &Path> {
        self.own.ancestors().take_while(|group| group.starts_with(&self.top))
    }
}

/// Finds the place of the first hierarchy that has the controller, or with `None` of the unified one (v2).
///
/// `mountinfo` and `cgroup` are the contents of the files of that name in `/proc/self`.
pub(crate) fn place(mountinfo: &[u8], cgroup: &[u8], controller: Option<&str>) -> Option<Place> {
    let own = cgroup.split(|byte| *byte == b'\n').find_map(|line| own_path(line, controller))?;
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let (root, top) = mount(line, controller)?;
        // In a container the mount shows only a part of the hierarchy, or the path is told from where we cannot look.
        let below = Path::new(&own).strip_prefix(&root).unwrap_or(Path::new(""));
        let inside = below.components().all(|part| matches!(part, Component::Normal(_)));
        let own = if inside { top.join(below) } else { top.clone() };
        Some(Place { own: if own.is_dir() { own } else { top.clone() }, top })
    })
}

/// `ID:CONTROLLERS:PATH`; the unified hierarchy is `0::PATH`.
fn own_path(line: &[u8], controller: Option<&str>) -> Option<PathBuf> {
    let mut parts = line.splitn(3, |byte| *byte == b':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let wanted = match controller {
        Some(name) => controllers.split(|byte| *byte == b',').any(|other| other == name.as_bytes()),
        None => controllers.is_empty(),
    };
    wanted.then(|| PathBuf::from(OsString::from_vec(path.to_owned())))
}

/// Root and mount point of a line of mountinfo: `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG]... - TYPE SOURCE OPTIONS`.
fn mount(line: &[u8], controller: Option<&str>) -> Option<(PathBuf, PathBuf)> {
    let mut words = line.split(|byte| *byte == b' ');
    let (root, point) = (words.nth(3)?, words.next()?);
    let mut after = words.skip_while(|word| *word != b"-").skip(1);
    let (kind, options) = (after.next()?, after.nth(1)?);
    let wanted = match controller {
        Some(name) => kind == b"cgroup" && options.split(|byte| *byte == b',').any(|other| other == name.as_bytes()),
        None => kind == b"cgroup2",
    };
    let path = |bytes| PathBuf::from(OsString::from_vec(unescaped(bytes)));
    wanted.then(|| (path(root), path(point)))
}

/// The kernel writes space, tab, newline and backslash as `\040`.
fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        if first == b'\\'
            && let Some(digits) = after.first_chunk::<3>()
            && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
        {
            let value = digits.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0'));
            out.push(u8::try_from(value & 0xff).unwrap_or(b'?'));
            rest = &after[3..];
        } else {
            out.push(first);
            rest = after;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn our_group_is_found_in_v1_v2_hybrid_and_in_a_container() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("with space");
        fs::create_dir_all(top.join("a/b")).unwrap();
        let escaped = top.to_str().unwrap().replace(' ', "\\040");
        let v1 = format!("35 31 0:32 / {escaped} rw - cgroup cgroup rw,cpu,memory\n");
        let v2 = format!("41 31 0:38 / {escaped} rw shared:7 - cgroup2 cgroup2 rw\n");
        let place_in = |mounts: &str, groups: &str, controller| place(mounts.as_bytes(), groups.as_bytes(), controller);
        let expected = Some(Place { top: top.clone(), own: top.join("a/b") });

        let hybrid = "4:cpu,memory:/a/b\n0::/a\n";
        assert_eq!(place_in(&v1, hybrid, Some("memory")), expected);
        assert_eq!(place_in(&v2, "0::/a/b\n", None), expected);
        assert_eq!(place_in(&v2, "0::/a/b\n", Some("memory")), None);
        assert_eq!(place_in(&v1, hybrid, None), None, "the unified hierarchy is not mounted");
        let ups: Vec<_> = expected.as_ref().unwrap().upwards().map(Path::to_owned).collect();
        assert_eq!(ups, [top.join("a/b"), top.join("a"), top.clone()]);

        // Docker without a namespace: the mount's root is our group.
        let docker = v2.replace(" / ", " /docker/x ");
        let in_docker = Place { top: top.clone(), own: top.join("a") };
        assert_eq!(place_in(&docker, "0::/docker/x/a\n", None), Some(in_docker));
        let at_top = Some(Place { own: top.clone(), top: top.clone() });
        assert_eq!(place_in(&docker, "0::/docker/x\n", None), at_top);
        for elsewhere in ["0::/../y\n", "0::/a/../../..\n", "0::/no/such\n"] {
            assert_eq!(place_in(&v2, elsewhere, None), at_top, "{elsewhere}");
        }
        for junk in ["", "x", "1 2 3", "0:\n", "\n\n"] {
            assert_eq!(place_in(junk, "0::/\n", None), None);
            assert_eq!(place_in(&v2, junk, None), None);
        }
    }
}
