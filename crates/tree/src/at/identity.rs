//! Which file system a directory is on, or the top of, in words that hold after it was mounted again and after another start of the
//! machine: numbers of devices do neither.

use super::Dir;
use crate::fsx::Error;

/// Kinds of file systems, by the numbers that the kernel gives them, that hold nothing beyond a boot, or beyond the
/// container that they were made for: tmpfs, ramfs, overlay. Each is a new one every time.
pub const FLEETING: [u32; 3] = [0x0102_1994, 0x8584_58f6, 0x794c_7630];

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
        fleeting(self.kind).is_none()
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
        let kind = self.file_system_kind()?;
        let id = self.file_system_id()?;
        let lasts = fleeting(kind).is_none() && id != of_device(stat.dev);
        Ok(Identity { kind, id: if lasts { id } else { 0 }, ino: stat.ino })
    }

    /// Identifier of the file system this directory is on, as statfs(2) tells it; 0 where it tells none.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn file_system_id(&self) -> Result<u64, Error> {
        let stat = rustix::fs::fstatvfs(self).map_err(|e| Error::new("read the file system of", self.path(), e))?;
        Ok(stat.f_fsid)
    }

    /// The kind of file system this directory is on, where that is one of [`FLEETING`].
    ///
    /// # Errors
    /// When the system refuses.
    pub fn fleeting_kind(&self) -> Result<Option<u32>, Error> {
        Ok(fleeting(self.file_system_kind()?))
    }

    /// The kind of file system this directory is on, as statfs(2) tells it.
    fn file_system_kind(&self) -> Result<u64, Error> {
        let tells = rustix::fs::fstatfs(self).map_err(|e| Error::new("read the file system of", self.path(), e))?;
        #[allow(
            clippy::cast_sign_loss,
            clippy::unnecessary_cast,
            reason = "a pattern of bits, of another type on each architecture"
        )]
        Ok(tells.f_type as u64)
    }
}

/// Which of [`FLEETING`] a kind is. Only its lower 32 bits count: where the number is one of 32 bits, its highest is a sign.
fn fleeting(kind: u64) -> Option<u32> {
    let [a, b, c, d, ..] = kind.to_le_bytes();
    let kind = u32::from_le_bytes([a, b, c, d]);
    FLEETING.contains(&kind).then_some(kind)
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
