//! Extended attributes, and ACLs, which the kernel shows as two of them.

use super::{Dir, Grip};
use crate::fsx::Error;
use crate::path::Name;
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The attribute that is an entry's own ACL.
pub const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute that is the ACL a directory gives to what is made in it.
pub const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// Tried first for names and values: most entries have none, or small ones.
const BUFFER_BYTES: usize = 512;
/// The kernel's own limit for a value and for all names together.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Which attributes are meant, by name.
pub type Takes<'a> = &'a dyn Fn(&[u8]) -> bool;

/// Attributes by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub BTreeMap<Box<[u8]>, Box<[u8]>>);

impl Dir {
    /// The attributes of `name` itself; a link is not followed. One call if it has none.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the file system has none; else when it is missing.
    pub fn attributes(&self, name: &Name, takes: Takes<'_>) -> Result<Attributes, Error> {
        // There is no call that takes a descriptor and a name before Linux 6.13. Through /proc the descriptor leads to
        // exactly this directory, and the last component is not followed.
        let mut path = format!("/proc/self/fd/{}/", self.as_fd().as_raw_fd()).into_bytes();
        path.extend_from_slice(name.as_bytes());
        read(
            |buffer| rustix::fs::llistxattr(&path[..], buffer),
            |attribute, buffer| rustix::fs::lgetxattr(&path[..], attribute, buffer),
            takes,
        )
        .map_err(|e| Error::new("read the attributes of", self.path_of(name), e))
    }
}

impl Grip<'_> {
    /// The attributes of what is held.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the file system has none.
    pub fn attributes(&self, takes: Takes<'_>, path: &Path) -> Result<Attributes, Error> {
        match self {
            Grip::Open(fd) => read(
                |buffer| rustix::fs::flistxattr(fd, buffer),
                |attribute, buffer| rustix::fs::fgetxattr(fd, attribute, buffer),
                takes,
            ),
            Grip::Bare(fd) => {
                let link = super::dir::proc_path(fd);
                read(
                    |buffer| rustix::fs::listxattr(&*link, buffer),
                    |attribute, buffer| rustix::fs::getxattr(&*link, attribute, buffer),
                    takes,
                )
            }
        }
        .map_err(|e| Error::new("read the attributes of", path, e))
    }

    /// Sets one attribute; an older value goes.
    ///
    /// # Errors
    /// When we may not, or the file system cannot.
    pub fn set_attribute(&self, attribute: &[u8], value: &[u8], path: &Path) -> Result<(), Error> {
        match self {
            Grip::Open(fd) => rustix::fs::fsetxattr(fd, attribute, value, XattrFlags::empty()),
            Grip::Bare(fd) => rustix::fs::setxattr(super::dir::proc_path(fd), attribute, value, XattrFlags::empty()),
        }
        .map_err(|e| Error::new("set an attribute of", path, e))
    }

    /// Removes one attribute; one that is gone already is well.
    ///
    /// # Errors
    /// When we may not.
    pub fn remove_attribute(&self, attribute: &[u8], path: &Path) -> Result<(), Error> {
        let removed = match self {
            Grip::Open(fd) => rustix::fs::fremovexattr(fd, attribute),
            Grip::Bare(fd) => rustix::fs::removexattr(super::dir::proc_path(fd), attribute),
        };
        match removed {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(e) => Err(Error::new("remove an attribute of", path, e)),
        }
    }
}

/// Lists, and reads what `takes`; one that goes meanwhile is left out.
fn read(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&std::ffi::OsStr, &mut [u8]) -> Result<usize, Errno>,
    takes: Takes<'_>,
) -> Result<Attributes, Errno> {
    let mut found = Attributes::default();
    let names = grow(list)?;
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty() && takes(name)) {
        match grow(|buffer| get(std::ffi::OsStr::from_bytes(name), buffer)) {
            Ok(value) => {
                found.0.insert(name.into(), value.into());
            }
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

/// Calls with a small buffer, and if that is too small, with the largest there can be.
fn grow(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; BUFFER_BYTES];
    match call(&mut small) {
        Ok(bytes) => Ok(small[..bytes].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; BUFFER_BYTES_MAX];
            let bytes = call(&mut large)?;
            large.truncate(bytes);
            Ok(large)
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn name(s: &str) -> Name {
        Name::new(s.as_bytes()).unwrap()
    }

    #[test]
    fn attributes_are_read_and_set_through_both_grips_and_no_link_is_followed() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join("in")).unwrap();
        std::fs::write(scratch.path().join("secret"), "outside").unwrap();
        std::fs::write(scratch.path().join("in/file"), "").unwrap();
        symlink("../secret", scratch.path().join("in/leaf")).unwrap();
        let dir = Dir::open_root(&scratch.path().join("in")).unwrap();
        let everything: Takes<'_> = &|_| true;
        let path = Path::new("file");
        let (bare, _) = dir.hold(&name("file")).unwrap();
        let bare = Grip::Bare(bare.as_fd());
        let large = vec![b'v'; 2_000];
        bare.set_attribute(b"user.large", &large, path).unwrap();
        let file = dir.open_bare(&name("file")).unwrap();
        let open = Grip::Open(file.as_fd());
        open.set_attribute(b"user.empty", b"", path).unwrap();
        let by_name = dir.attributes(&name("file"), everything).unwrap();
        assert_eq!(by_name, bare.attributes(everything, path).unwrap());
        assert_eq!(by_name, open.attributes(everything, path).unwrap());
        assert_eq!(by_name.0[&b"user.large"[..]].len(), large.len());
        assert!(by_name.0[&b"user.empty"[..]].is_empty());
        assert!(dir.attributes(&name("file"), &|n| n == b"user.x").unwrap().0.is_empty());
        bare.remove_attribute(b"user.large", path).unwrap();
        open.remove_attribute(b"user.empty", path).unwrap();
        open.remove_attribute(b"user.empty", path).unwrap();
        assert_eq!(dir.attributes(&name("file"), everything).unwrap(), Attributes::default());

        // What a link leads to has one; the link itself cannot have any of that kind.
        let secret = Dir::open_root(scratch.path()).unwrap().open_bare(&name("secret")).unwrap();
        Grip::Open(secret.as_fd()).set_attribute(b"user.secret", b"1", path).unwrap();
        let (leaf, _) = dir.hold(&name("leaf")).unwrap();
        let leaf = Grip::Bare(leaf.as_fd());
        assert!(dir.attributes(&name("leaf"), everything).unwrap().0.is_empty());
        assert!(leaf.attributes(everything, path).unwrap().0.is_empty());
        assert!(leaf.set_attribute(b"user.secret", b"2", path).is_err());
        assert_eq!(&*Grip::Open(secret.as_fd()).attributes(everything, path).unwrap().0[&b"user.secret"[..]], b"1");
    }
}
