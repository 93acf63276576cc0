//! Fifos, sockets and devices: what they are, and how one is made. None is ever opened.

use super::{Dir, TempNames};
use crate::fsx::Error;
use crate::path::Name;
use rustix::fs::{AtFlags, FileType, Mode};

/// What a special file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A fifo.
    Fifo,
    /// The name of a socket.
    Socket,
    /// A character device and its number.
    Char(u64),
    /// A block device and its number.
    Block(u64),
}

impl Node {
    /// Whether it stands for a device, which only some users may make.
    pub fn is_device(&self) -> bool {
        matches!(self, Node::Char(_) | Node::Block(_))
    }
}

impl Dir {
    /// What kind of special file `name` is; `None` if it is none (any more).
    ///
    /// # Errors
    /// When it is missing or the directory may not be searched.
    pub fn node(&self, name: &Name) -> Result<Option<Node>, Error> {
        let stat = rustix::fs::statat(self, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| Error::new("read the metadata of", self.path_of(name), e))?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo => Some(Node::Fifo),
            FileType::Socket => Some(Node::Socket),
            FileType::CharacterDevice => Some(Node::Char(stat.st_rdev)),
            FileType::BlockDevice => Some(Node::Block(stat.st_rdev)),
            _ => None,
        })
    }

    /// A new special file under a name of `names`, which nobody may use yet: its mode is 0.
    ///
    /// # Errors
    /// `EPERM` where this user may make none; else as any creation.
    pub fn make_temp_node(&self, names: &TempNames, node: Node) -> Result<Name, Error> {
        self.with_temp_name(names, |dir, name| dir.make_node(name, node)).map(|(name, ())| name)
    }

    /// A new special file `name`, mode 0. Never replaces.
    ///
    /// # Errors
    /// As [`Dir::make_temp_node`], and when something stands there.
    pub fn make_node(&self, name: &Name, node: Node) -> Result<(), Error> {
        let (kind, number) = match node {
            Node::Fifo => (FileType::Fifo, 0),
            Node::Socket => (FileType::Socket, 0),
            Node::Char(number) => (FileType::CharacterDevice, number),
            Node::Block(number) => (FileType::BlockDevice, number),
        };
        rustix::fs::mknodat(self, name.as_bytes(), kind, Mode::empty(), number)
            .map_err(|e| Error::new("create", self.path_of(name), e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_what_it_was_made_as_and_belongs_to_nobody_yet() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(scratch.path()).unwrap();
        for node in [Node::Fifo, Node::Socket] {
            let name = dir.make_temp_node(&TempNames::new(), node).unwrap();
            assert_eq!(dir.node(&name).unwrap(), Some(node));
            assert_eq!(dir.stat(&name).unwrap().mode, 0);
        }
        std::fs::write(scratch.path().join("file"), "").unwrap();
        assert_eq!(dir.node(&Name::new(*b"file").unwrap()).unwrap(), None);
    }
}
