//! Which file system a directory is the top of, in words that hold after it was mounted again and after another start of the
//! machine: numbers of devices do neither.

use super::Dir;
use crate::fsx::Error;

/// Kinds of file systems whose identifier is another one each time, and whose inodes are: tmpfs, ramfs, overlay.
const FLEETING: [u64; 3] = [0x0102_1994, 0x8584_58f6, 0x794c_7630];

/// Which directory of which file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The kind of its file system, as statfs(2) tells it.
    pub kind: u64,
    /// Which of that kind; 0 where nothing tells that lasts.
    pub id: u64,
    /// Which directory of it.
    pub ino: u64,
}

impl Identity {
    /// Whether it is the same after another start of the machine.
    pub fn lasts(&self) -> bool {
        !FLEETING.contains(&self.kind)
    }
}

impl Dir {
    /// What is mounted here; `None` where this is no mount point.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn mounted(&self) -> Result<Option<Identity>, Error> {
        if !self.stat_self()?.mount_point {
            return Ok(None);
        }
        let found = self.identity()?;
        // Below a mount of what is new each time, inodes are as well.
        Ok(Some(if found.lasts() { found } else { Identity { ino: 0, ..found } }))
    }

    /// Which directory this is, as far as it can be told in words that last.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn identity(&self) -> Result<Identity, Error> {
        let stat = self.stat_self()?;
        let tells = rustix::fs::fstatfs(self).map_err(|e| Error::new("read the file system of", self.path(), e))?;
        #[allow(
            clippy::cast_sign_loss,
            clippy::unnecessary_cast,
            reason = "a pattern of bits, of another type on each architecture"
        )]
        let kind = tells.f_type as u64;
        let id = self.file_system_id()?;
        let lasts = !FLEETING.contains(&kind) && id != of_device(stat.dev);
        Ok(Identity { kind, id: if lasts { id } else { 0 }, ino: stat.ino })
    }
}

/// What the kernel makes of a device's number where a file system (XFS, FAT) has no other identifier.
fn of_device(device: u64) -> u64 {
    let (major, minor) = (u64::from(rustix::fs::major(device)), u64::from(rustix::fs::minor(device)));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_mounted_has_an_identity_and_it_stays_the_same() {
        let scratch = tempfile::tempdir().unwrap();
        assert_eq!(Dir::open_root(scratch.path()).unwrap().mounted().unwrap(), None);
        let proc = || Dir::open_root(std::path::Path::new("/proc")).unwrap().mounted().unwrap();
        let identity = proc().expect("it is mounted");
        assert_eq!((Some(identity), identity.kind), (proc(), 0x9fa0));
    }

    #[test]
    fn a_number_of_a_device_is_no_identity() {
        let device = rustix::fs::makedev(8, 1);
        assert_eq!(of_device(device), 0x801);
        assert_eq!(of_device(rustix::fs::makedev(259, 300)), 0x2c | (259 << 8) | (0x100 << 12));
    }
}
