//! Renames of directories: their watches go with them, or are made again.

use std::time::Duration;

use tree::{Name, RelPath};

use super::super::nodes::NodeId;
use super::super::{State, now};
use super::Drainer;
use super::growth::Why;
use crate::dirty::All;
use crate::settle::Seen;

/// A directory renamed away whose new name was not reported by then has left the tree.
pub(super) const MOVE_WAIT: Duration = Duration::from_millis(2);
/// A directory or file renamed away, whose new name may still be reported.
pub(super) struct Move {
    pub(super) parent: NodeId,
    pub(super) dir: RelPath,
    pub(super) name: Name,
    pub(super) is_dir: bool,
    /// Its directory, if it is one and watched.
    pub(super) node: Option<NodeId>,
}

impl Drainer {
    #[allow(clippy::too_many_arguments, reason = "all parts of one event, used once")]
    pub(super) fn moved_in(
        &mut self,
        state: &mut State,
        id: NodeId,
        dir: &RelPath,
        name: &Name,
        cookie: u32,
        is_dir: bool,
        now: Duration,
    ) {
        let from = self.moves.remove(&cookie);
        if let Some(from) = &from {
            state.push(&from.dir, &from.name, Seen::MovedAway, now);
        }
        state.push(dir, name, Seen::MovedIn, now);
        if !is_dir {
            return;
        }
        self.forget_moving(id, name);
        let moved = from.as_ref().and_then(|from| from.node).filter(|node| self.nodes.is_known(*node));
        // An empty directory that the rename replaced.
        if let Some(replaced) = self.nodes.child(id, name)
            && Some(replaced) != moved
        {
            self.remove(replaced);
        }
        let old = from.as_ref().and_then(|from| from.dir.join(&from.name).ok());
        let new = dir.join(name).ok();
        let kept = match (moved, &old, &new) {
            (Some(moved), Some(old), Some(new)) if !self.grew && self.nodes.rename(moved, id, name) => {
                self.last_path = None;
                self.unwatched_changed |= !self.unwatched.is_empty();
                state.settle.rename(old, new);
                true
            }
            (moved, ..) => {
                if let Some(moved) = moved {
                    self.remove(moved);
                }
                false
            }
        };
        if let Some(new) = new {
            state.settle.push_all(&new, All { recursive: true, content: true });
        }
        // The directory may have been removed with the moved one, if an older report was misread.
        if self.nodes.is_known(id) {
            self.grow(id, name, if kept { Why::Moved } else { Why::New });
        }
        // After an exchange another directory stands at the old place.
        if let Some(from) = from
            && self.nodes.is_known(from.parent)
        {
            self.grow(from.parent, &from.name, Why::Probe);
        }
    }

    /// Takes renames away whose new names did not come for what they are: the directories left the tree.
    pub(super) fn expire_moves(&mut self) {
        let now = now();
        while let Some(&(until, cookie)) = self.moves_in_order.front() {
            if until > now {
                break;
            }
            self.moves_in_order.pop_front();
            let Some(Move { parent, name, is_dir, node, .. }) = self.moves.remove(&cookie) else { continue };
            if let Some(node) = node.filter(|node| self.nodes.is_known(*node)) {
                self.remove(node);
            }
            if is_dir && self.nodes.is_known(parent) {
                self.grow(parent, &name, Why::Probe);
            }
        }
    }

    /// Something new stands where a directory was renamed away: that directory cannot be known by this path.
    pub(super) fn forget_moving(&mut self, parent: NodeId, name: &Name) {
        let Some(child) = self.nodes.child(parent, name) else { return };
        let moving = self.moves.values_mut().find(|m| m.node == Some(child));
        if let Some(moving) = moving {
            moving.node = None;
            self.remove(child);
        }
    }
}
