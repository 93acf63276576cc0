//! Giving an entry its owner and its attributes, in the order in which nothing undoes what came before: the owner first,
//! as that takes set-id bits and capabilities away; then attributes, as an ACL changes the mode; mode and time are the
//! caller's, afterwards.

use super::{Kept, Lack, Reason, What};
use rustix::io::Errno;
use std::path::Path;
use tree::at::{ACL_ACCESS, ACL_DEFAULT, Attributes, Grip};
use tree::fsx;

impl Kept {
    /// Gives what `grip` holds its owner and its attributes. Whether anything was changed.
    ///
    /// What the system refuses is added to `lacks`, and no set-id bits are given then.
    pub(crate) fn give(&mut self, grip: Grip<'_>, path: &Path, lacks: &mut Vec<Lack>) -> Result<bool, fsx::Error> {
        let Some(now) = self.now else { return Ok(false) };
        let owner = self.give_owner(grip, now, path, lacks)?;
        Ok(self.give_attributes(grip, path, lacks)? || owner)
    }

    /// The owner alone, of what belongs to `now`.
    pub(crate) fn give_owner(
        &mut self,
        grip: Grip<'_>,
        now: (u32, u32),
        path: &Path,
        lacks: &mut Vec<Lack>,
    ) -> Result<bool, fsx::Error> {
        let uid = self.uid.filter(|uid| *uid != now.0);
        let gid = self.gid.filter(|gid| *gid != now.1);
        if uid.is_none() && gid.is_none() {
            return Ok(false);
        }
        match grip.set_owner(uid, gid, path) {
            Ok(()) => Ok(true),
            Err(error) if is_refusal(error.errno) => {
                self.foreign = true;
                // Asked for no more: the next look would find the same.
                (self.uid, self.gid) = (self.uid.filter(|_| uid.is_none()), self.gid.filter(|_| gid.is_none()));
                if uid.is_some() {
                    lacks.push((What::Owner, Reason::Refused(error.clone())));
                }
                if gid.is_some() {
                    lacks.push((What::Group, Reason::Refused(error)));
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Sets what differs, removes what is too much, and leaves alone what is not kept.
    fn give_attributes(&self, grip: Grip<'_>, path: &Path, lacks: &mut Vec<Lack>) -> Result<bool, fsx::Error> {
        let Some(wanted) = &self.attributes else { return Ok(false) };
        let now = match grip.attributes(&|name| self.keep.takes(self.root, name), path) {
            Err(error) if error.errno == Errno::OPNOTSUPP => {
                lack_all(wanted, &error, lacks);
                return Ok(false);
            }
            now => now?,
        };
        let mut changed = false;
        let mut lack = Attributes::default();
        let mut refused = None;
        let mut note = |name: &[u8], done: Result<(), fsx::Error>| {
            match done {
                Ok(()) => changed = true,
                Err(error) if is_refusal(error.errno) || is_too_large(error.errno) => {
                    lack.0.insert(name.into(), Box::default());
                    refused.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
            Ok(())
        };
        // Room first: some file systems have one block for all of an entry's.
        for name in now.0.keys().filter(|name| !wanted.0.contains_key(*name)) {
            note(name, grip.remove_attribute(name, path))?;
        }
        for (name, value) in wanted.0.iter().filter(|(name, value)| now.0.get(*name) != Some(*value)) {
            note(name, grip.set_attribute(name, value, path))?;
        }
        if let Some(error) = refused {
            lack_all(&lack, &error, lacks);
        }
        Ok(changed)
    }
}

/// Counts attributes that cannot be had.
pub(crate) fn lack_all(wanted: &Attributes, error: &fsx::Error, lacks: &mut Vec<Lack>) {
    let is_acl = |name: &[u8]| name == ACL_ACCESS || name == ACL_DEFAULT;
    let mut note = |what, any: bool| {
        if any {
            lacks.push((what, Reason::Refused(error.clone())));
        }
    };
    note(What::Acls, wanted.0.keys().any(|name| is_acl(name)));
    note(What::Xattrs, wanted.0.keys().any(|name| !is_acl(name)));
}

/// Whether the system says that this cannot be had here, by this user: nothing that another try would cure.
pub(crate) fn is_refusal(errno: Errno) -> bool {
    matches!(errno, Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::OVERFLOW)
}

/// ext4 has room for a few kilobytes of attributes an entry and says of more that the disk is full.
fn is_too_large(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::TOOBIG | Errno::RANGE)
}
