//! The root of a copy: a sum over what is known of the wanted names, which a hub's is compared with.

use super::Holding;
use crate::placed::Placed;
use tree::{RelPath, RootHash};

impl Holding {
    /// The root over what was read back, problems counted as if they were done.
    pub(crate) fn root(&mut self) -> RootHash {
        if self.sum_lost {
            self.sum = RootHash::default();
            for (name, held) in self.replica.iter_from(b"") {
                let path = RelPath::new(&self.view.key(name)[..]);
                if let (Some(placed), Ok(path)) = (Placed::decode(&held.aside), path) {
                    self.sum.add(&path, &placed.entry.to_bytes());
                }
            }
            self.sum_lost = false;
        }
        let mut root = self.sum;
        for name in self.problems.keys() {
            let (Some(held), Ok(path)) = (self.held(name), RelPath::new(&name[..])) else { continue };
            if let Some(placed) = Placed::decode(&held.aside) {
                root.remove(&path, &placed.entry.to_bytes());
            }
            root.add(&path, &held.value);
        }
        root
    }

    /// Has the next [`Holding::root`] begin from nothing.
    pub(crate) fn distrust_root(&mut self) {
        self.sum_lost = true;
    }
}
