//! Contents on their way: which names wait for which, what came and is not in place yet, and what is to be asked for.
//!
//! Plain values. A content is asked for once, however many names wait for it, and no more once the last of them is gone.

use crate::holding::{Arrived, Wanted};
use board::Name;
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use tree::{ContentId, RelPath};

#[derive(Clone, Copy, Debug)]
struct Waiting {
    content: ContentId,
    seq: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Awaiting {
    waiting: HashMap<Name, Waiting>,
    /// Contents that are needed, and who waits for them.
    awaited: HashMap<ContentId, HashSet<Name>>,
    /// Contents that were ordered and have not come to an end.
    ordered: HashSet<ContentId>,
    /// What came along with its entry; not verified.
    inline: HashMap<ContentId, Bytes>,
    /// What was fetched; verified.
    arrived: HashMap<ContentId, Arrived>,
    /// Files among them that one name has taken in this round; other names may wait for the same.
    given: HashSet<ContentId>,
    /// What may have to be ordered, or to be ordered no more: what is needed when orders are taken decides.
    asks: Vec<Wanted>,
    unwanted: Vec<ContentId>,
}

impl Awaiting {
    /// How many names wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The lowest seq of an entry that waits.
    pub(crate) fn lowest_seq(&self) -> Option<u64> {
        self.waiting.values().map(|waiting| waiting.seq).min()
    }

    /// `path`, whose entry is of `seq`, waits for a content from here on, and for no other.
    pub(crate) fn wait_for(&mut self, path: &RelPath, seq: u64, content: ContentId, size_bytes: u64) {
        let name = Name::copy_from_slice(path.as_bytes());
        if self.waiting.get(&name).is_some_and(|waiting| waiting.content != content) {
            self.stop_waiting(&name);
        }
        self.waiting.insert(name.clone(), Waiting { content, seq });
        self.awaited.entry(content).or_default().insert(name);
        if !self.ordered.contains(&content) {
            self.asks.push(Wanted { content, size_bytes, path: path.clone() });
        }
    }

    /// Whether a name waits for its content.
    pub(crate) fn is_waiting(&self, name: &[u8]) -> bool {
        self.waiting.contains_key(name)
    }

    /// A name needs nothing any more.
    pub(crate) fn stop_waiting(&mut self, name: &[u8]) {
        let Some(Waiting { content, .. }) = self.waiting.remove(name) else { return };
        if let Some(names) = self.awaited.get_mut(&content) {
            names.remove(name);
            if names.is_empty() {
                self.awaited.remove(&content);
                self.unwanted.push(content);
            }
        }
    }

    /// Who waits for `content`.
    pub(crate) fn names_of(&self, content: ContentId) -> Vec<Name> {
        self.awaited.get(&content).into_iter().flatten().cloned().collect()
    }

    /// Contents that came along with entries are there until the end of the round.
    pub(crate) fn take_inline(&mut self, inline: Vec<(ContentId, Bytes)>) {
        self.inline.extend(inline);
    }

    /// Lets go of what came along: it is asked for when it is needed.
    pub(crate) fn drop_inline(&mut self) {
        self.inline.clear();
    }

    /// A content came. `false`, and it is let go, when nobody waits for it any more.
    pub(crate) fn arrive(&mut self, content: ContentId, arrived: Arrived) -> bool {
        let waited_for = self.awaited.contains_key(&content);
        if waited_for {
            self.arrived.insert(content, arrived);
        }
        waited_for
    }

    /// What was ordered has come to an end: whoever still waits finds the content in place, or asks again.
    pub(crate) fn ended(&mut self, content: ContentId) {
        self.awaited.remove(&content);
        self.ordered.remove(&content);
    }

    /// What came along, or was fetched; a file is given once.
    pub(crate) fn take(&mut self, content: ContentId) -> Option<Arrived> {
        if let Some(bytes) = self.inline.get(&content) {
            return Some(Arrived::Bytes(bytes.clone(), None));
        }
        match self.arrived.remove(&content)? {
            Arrived::Bytes(bytes, permit) => {
                // Other names may wait for the same.
                self.arrived.insert(content, Arrived::Bytes(bytes.clone(), permit));
                Some(Arrived::Bytes(bytes, None))
            }
            file => {
                self.given.insert(content);
                Some(file)
            }
        }
    }

    /// Lets go of all that came; which contents that were fetched are among it.
    pub(crate) fn end_round(&mut self) -> Vec<ContentId> {
        self.inline.clear();
        let mut ended = std::mem::take(&mut self.given);
        ended.extend(std::mem::take(&mut self.arrived).into_keys());
        ended.into_iter().collect()
    }

    /// What is to be fetched, and what nobody needs any more; each told once.
    ///
    /// What was let go and is needed again by now was never let go: a name whose entry changed in its time alone waits
    /// for the same content as before.
    pub(crate) fn take_orders(&mut self) -> (Vec<Wanted>, Vec<ContentId>) {
        let mut asks = std::mem::take(&mut self.asks);
        asks.retain(|wanted| self.awaited.contains_key(&wanted.content) && self.ordered.insert(wanted.content));
        let mut unwanted = std::mem::take(&mut self.unwanted);
        unwanted.retain(|content| !self.awaited.contains_key(content) && self.ordered.remove(content));
        (asks, unwanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    fn id(n: u8) -> ContentId {
        ContentId([n; 32])
    }

    #[test]
    fn a_content_is_asked_for_once_and_forgotten_with_the_last_who_waits() {
        let mut awaiting = Awaiting::default();
        awaiting.wait_for(&path("a"), 3, id(1), 10);
        awaiting.wait_for(&path("b"), 5, id(1), 10);
        awaiting.wait_for(&path("b"), 5, id(1), 10);
        assert_eq!((awaiting.len(), awaiting.lowest_seq()), (2, Some(3)));
        let (asks, unwanted) = awaiting.take_orders();
        assert_eq!((asks.len(), unwanted.len()), (1, 0));
        awaiting.wait_for(&path("c"), 6, id(1), 10);
        awaiting.stop_waiting(b"c");
        assert_eq!(awaiting.take_orders(), (Vec::new(), Vec::new()), "it is on its way");
        awaiting.stop_waiting(b"a");
        assert_eq!((awaiting.lowest_seq(), awaiting.take_orders().1), (Some(5), Vec::new()));
        awaiting.stop_waiting(b"b");
        assert_eq!((awaiting.len(), awaiting.take_orders().1), (0, vec![id(1)]));
    }

    #[test]
    fn a_name_whose_entry_changed_waits_for_the_new_content_alone() {
        let mut awaiting = Awaiting::default();
        awaiting.wait_for(&path("a"), 3, id(1), 10);
        assert_eq!(awaiting.take_orders().0.len(), 1);
        awaiting.wait_for(&path("a"), 7, id(2), 10);
        assert_eq!((awaiting.len(), awaiting.lowest_seq()), (1, Some(7)));
        let (asks, unwanted) = awaiting.take_orders();
        assert_eq!((asks[0].content, unwanted), (id(2), vec![id(1)]));
        assert!(!awaiting.arrive(id(1), Arrived::Bytes(Bytes::new(), None)), "nobody waits for the old one");
        assert!(awaiting.arrive(id(2), Arrived::Bytes(Bytes::new(), None)));
    }

    #[test]
    fn a_file_that_one_name_took_is_not_forgotten_for_the_others() {
        let mut awaiting = Awaiting::default();
        awaiting.wait_for(&path("a"), 3, id(1), 10);
        awaiting.wait_for(&path("b"), 5, id(1), 10);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(awaiting.arrive(id(1), Arrived::Unnamed(file)));
        assert!(awaiting.take(id(1)).is_some(), "for a");
        assert!(awaiting.take(id(1)).is_none(), "it is given once");
        awaiting.wait_for(&path("b"), 5, id(1), 10);
        awaiting.stop_waiting(b"a");
        assert_eq!(awaiting.end_round(), vec![id(1)], "so that b is looked at again");
    }

    #[test]
    fn a_name_whose_new_entry_has_the_same_content_goes_on_waiting_for_it() {
        let mut awaiting = Awaiting::default();
        awaiting.wait_for(&path("a"), 3, id(1), 10);
        assert_eq!(awaiting.take_orders().0.len(), 1);
        awaiting.stop_waiting(b"a");
        awaiting.wait_for(&path("a"), 4, id(1), 10);
        assert_eq!(awaiting.take_orders(), (Vec::new(), Vec::new()), "neither a second order nor an end of the first");
        assert!(awaiting.arrive(id(1), Arrived::Bytes(Bytes::new(), None)));
    }

    #[test]
    fn what_was_needed_for_a_moment_alone_is_never_asked_for() {
        let mut awaiting = Awaiting::default();
        awaiting.wait_for(&path("a"), 3, id(1), 10);
        awaiting.stop_waiting(b"a");
        assert_eq!(awaiting.take_orders(), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_came_to_an_end_is_asked_for_again_by_whoever_still_waits() {
        let mut awaiting = Awaiting::default();
        awaiting.wait_for(&path("a"), 3, id(1), 10);
        assert_eq!(awaiting.take_orders().0.len(), 1);
        awaiting.ended(id(1));
        awaiting.wait_for(&path("a"), 3, id(1), 10);
        assert_eq!(awaiting.take_orders().0.len(), 1);
    }
}
