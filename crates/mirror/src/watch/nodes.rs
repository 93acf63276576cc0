//! The watched directories as a tree of names, so that a watch costs some hundred bytes and a renamed directory
//! is one change however much is below it. No system calls.

use std::collections::HashMap;

use tree::{Name, RelPath};

/// The root's place.
pub(super) const ROOT: NodeId = NodeId { index: 0, generation: 0 };

/// A directory, until it is removed; then the id finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NodeId {
    index: u32,
    generation: u32,
}

/// All known directories below a root.
#[derive(Debug)]
pub(super) struct Nodes {
    slab: Vec<Node>,
    free: Vec<u32>,
    by_watch: HashMap<i32, u32>,
}

#[derive(Debug)]
struct Node {
    /// `None` for the root and for free places.
    name: Option<Name>,
    /// Sorted by name.
    children: Vec<u32>,
    parent: u32,
    generation: u32,
    watch: Option<i32>,
}

impl Nodes {
    /// The root alone.
    pub(super) fn new() -> Self {
        let root = Node { name: None, children: Vec::new(), parent: 0, generation: 0, watch: None };
        Self { slab: vec![root], free: Vec::new(), by_watch: HashMap::new() }
    }

    /// Whether the directory is still known.
    pub(super) fn is_known(&self, id: NodeId) -> bool {
        self.slab.get(id.index as usize).is_some_and(|node| node.generation == id.generation)
    }

    /// The path by the names known now; `None` where it is too long or too deep to be one.
    pub(super) fn path(&self, id: NodeId) -> Option<RelPath> {
        let mut names = Vec::new();
        let mut at = id.index;
        while at != ROOT.index {
            let node = &self.slab[at as usize];
            names.push(node.name.as_ref()?.as_bytes());
            at = node.parent;
        }
        names.reverse();
        RelPath::new(names.join(&b'/')).ok()
    }

    /// The directory behind a watch.
    pub(super) fn by_watch(&self, watch: i32) -> Option<NodeId> {
        self.by_watch.get(&watch).map(|index| self.id(*index))
    }

    /// Whether `id` lies somewhere below `ancestor`.
    pub(super) fn is_below(&self, id: NodeId, ancestor: NodeId) -> bool {
        let mut at = id.index;
        while at != ROOT.index {
            at = self.slab[at as usize].parent;
            if at == ancestor.index {
                return true;
            }
        }
        false
    }

    /// The watch of a directory.
    pub(super) fn watch(&self, id: NodeId) -> Option<i32> {
        self.slab[id.index as usize].watch
    }

    /// Gives a directory its watch, or takes it away. Whoever had the watch before has it no more.
    pub(super) fn set_watch(&mut self, id: NodeId, watch: Option<i32>) {
        if let Some(old) = self.slab[id.index as usize].watch.take() {
            self.by_watch.remove(&old);
        }
        if let Some(watch) = watch {
            if let Some(other) = self.by_watch.insert(watch, id.index) {
                self.slab[other as usize].watch = None;
            }
            self.slab[id.index as usize].watch = Some(watch);
        }
    }

    /// The directory `name` in `parent`.
    pub(super) fn child(&self, parent: NodeId, name: &Name) -> Option<NodeId> {
        let at = self.search(parent.index, name).ok()?;
        Some(self.id(self.slab[parent.index as usize].children[at]))
    }

    /// The directory `name` in `parent`, made known if it is not.
    pub(super) fn add(&mut self, parent: NodeId, name: &Name) -> NodeId {
        let at = match self.search(parent.index, name) {
            Ok(at) => return self.id(self.slab[parent.index as usize].children[at]),
            Err(at) => at,
        };
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slab.len()).expect("the kernel has no 2^32 watches to give");
                self.slab.push(Node { name: None, children: Vec::new(), parent: 0, generation: 0, watch: None });
                index
            }
        };
        let node = &mut self.slab[index as usize];
        node.name = Some(name.clone());
        node.parent = parent.index;
        self.slab[parent.index as usize].children.insert(at, index);
        self.id(index)
    }

    /// The known directories in `parent`, by name.
    pub(super) fn children(&self, parent: NodeId) -> impl Iterator<Item = (NodeId, &Name)> {
        self.slab[parent.index as usize].children.iter().filter_map(|index| {
            let name = self.slab[*index as usize].name.as_ref()?;
            Some((self.id(*index), name))
        })
    }

    /// Moves a directory with all below it. What was known at the new place must have been removed before.
    ///
    /// Returns `false`, and changes nothing, where the new place is inside the directory itself.
    pub(super) fn rename(&mut self, id: NodeId, parent: NodeId, name: &Name) -> bool {
        if parent == id || self.is_below(parent, id) {
            return false;
        }
        self.unlink(id.index);
        let Err(at) = self.search(parent.index, name) else { return false };
        self.slab[parent.index as usize].children.insert(at, id.index);
        let node = &mut self.slab[id.index as usize];
        node.parent = parent.index;
        node.name = Some(name.clone());
        true
    }

    /// Forgets a directory and all below it, and tells each one's id and watch. The root only loses what is below.
    pub(super) fn remove(&mut self, id: NodeId, mut removed: impl FnMut(NodeId, Option<i32>)) {
        let mut rest = if id == ROOT {
            std::mem::take(&mut self.slab[0].children)
        } else {
            self.unlink(id.index);
            vec![id.index]
        };
        while let Some(index) = rest.pop() {
            let gone = self.id(index);
            let node = &mut self.slab[index as usize];
            rest.append(&mut node.children);
            node.children = Vec::new();
            node.name = None;
            node.generation = node.generation.wrapping_add(1);
            let watch = node.watch.take();
            if let Some(watch) = watch {
                self.by_watch.remove(&watch);
            }
            self.free.push(index);
            removed(gone, watch);
        }
    }

    /// Forgets everything below a directory, as [`Nodes::remove`] does, but not the directory.
    pub(super) fn remove_below(&mut self, id: NodeId, mut removed: impl FnMut(NodeId, Option<i32>)) {
        let children: Vec<NodeId> = self.children(id).map(|(child, _)| child).collect();
        for child in children {
            self.remove(child, &mut removed);
        }
    }

    /// How many directories have a watch.
    pub(super) fn watched(&self) -> usize {
        self.by_watch.len()
    }

    fn id(&self, index: u32) -> NodeId {
        NodeId { index, generation: self.slab[index as usize].generation }
    }

    fn unlink(&mut self, index: u32) {
        let node = &self.slab[index as usize];
        let parent = node.parent;
        if let Some(Ok(at)) = node.name.as_ref().map(|name| self.search(parent, name)) {
            self.slab[parent as usize].children.remove(at);
        }
    }

    fn search(&self, parent: u32, name: &Name) -> Result<usize, usize> {
        let children = &self.slab[parent as usize].children;
        children.binary_search_by(|child| self.slab[*child as usize].name.as_ref().cmp(&Some(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(s: &str) -> Name {
        Name::new(s.as_bytes()).unwrap()
    }

    fn path(nodes: &Nodes, id: NodeId) -> String {
        String::from_utf8(nodes.path(id).unwrap().as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_renamed_directory_takes_what_is_below_it_along() {
        let mut nodes = Nodes::new();
        let a = nodes.add(ROOT, &name("a"));
        let b = nodes.add(ROOT, &name("b"));
        let x = nodes.add(a, &name("x"));
        let y = nodes.add(x, &name("y"));
        assert_eq!(nodes.add(a, &name("x")), x);
        assert!(nodes.rename(a, b, &name("c")));
        assert_eq!(path(&nodes, y), "b/c/x/y");
        assert_eq!(nodes.child(ROOT, &name("a")), None);
        assert!(!nodes.rename(b, y, &name("b")), "a directory cannot be moved into itself");
        assert_eq!(path(&nodes, y), "b/c/x/y");
    }

    #[test]
    fn a_removed_directory_tells_its_watches_and_its_id_finds_nothing_again() {
        let mut nodes = Nodes::new();
        let a = nodes.add(ROOT, &name("a"));
        let b = nodes.add(a, &name("b"));
        nodes.set_watch(ROOT, Some(1));
        nodes.set_watch(a, Some(2));
        nodes.set_watch(b, Some(3));
        let mut told = Vec::new();
        nodes.remove(a, |_, watch| told.extend(watch));
        assert_eq!(told, [2, 3]);
        assert!(!nodes.is_known(a) && !nodes.is_known(b) && nodes.is_known(ROOT));
        assert_eq!((nodes.by_watch(2), nodes.by_watch(1)), (None, Some(ROOT)));
        let c = nodes.add(ROOT, &name("c"));
        assert!(nodes.is_known(c) && !nodes.is_known(a) && c != b);
    }

    #[test]
    fn a_watch_has_one_directory() {
        let mut nodes = Nodes::new();
        let (a, b) = (nodes.add(ROOT, &name("a")), nodes.add(ROOT, &name("b")));
        nodes.set_watch(a, Some(7));
        nodes.set_watch(b, Some(7));
        assert_eq!((nodes.watch(a), nodes.watch(b), nodes.by_watch(7)), (None, Some(7), Some(b)));
        nodes.set_watch(b, Some(8));
        assert_eq!((nodes.by_watch(7), nodes.by_watch(8)), (None, Some(b)));
    }
}
