//! Deciding: what differs between two listings, and what that asks for. No call here touches a disk.

use crate::source::{Same, Want};
use std::cmp::Ordering;
use tree::at::DirEntry;
use tree::{Kind, Name, Stat};

/// One name of a merge-join.
#[derive(Debug)]
pub enum Pair {
    /// Only the source has it.
    New(Name, Want),
    /// Both have it.
    Both(Name, Want, DirEntry),
    /// Only the destination has it.
    Extra(DirEntry),
}

/// Merge-joins two listings of a directory, each sorted by name.
pub fn join(source: Vec<(Name, Want)>, dest: Vec<DirEntry>) -> impl Iterator<Item = Pair> {
    let mut source = source.into_iter().peekable();
    let mut dest = dest.into_iter().peekable();
    std::iter::from_fn(move || {
        let order = match (source.peek(), dest.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((s, _)), Some(d)) => s.cmp(&d.name),
        };
        Some(match order {
            Ordering::Less => source.next().map(|(name, want)| Pair::New(name, want))?,
            Ordering::Greater => Pair::Extra(dest.next()?),
            Ordering::Equal => {
                let (name, want) = source.next()?;
                Pair::Both(name, want, dest.next()?)
            }
        })
    })
}

/// What an entry that both sides have asks for, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// Two directories: go in, then compare mode and time.
    Dirs,
    /// Two files: the source knows whether they are the same.
    Files,
    /// Two links: compare target and time.
    Links,
    /// Two fifos, sockets or devices: compare which, then mode and time.
    Nodes,
    /// Neither is a directory: the new one is renamed over the old.
    Over,
    /// A directory takes the place of something else: they are exchanged, then the old one is deleted.
    IntoDir,
    /// A directory has to go, with everything in it: that is a deletion, and comes last.
    FromDir,
}

/// How `wanted` meets what was found.
pub fn meet(wanted: Kind, found: Kind) -> Meeting {
    match (wanted, found) {
        (Kind::Dir, Kind::Dir) => Meeting::Dirs,
        (Kind::Dir, _) => Meeting::IntoDir,
        (_, Kind::Dir) => Meeting::FromDir,
        (Kind::File, Kind::File) => Meeting::Files,
        (Kind::Link, Kind::Link) => Meeting::Links,
        (Kind::Special, Kind::Special) => Meeting::Nodes,
        _ => Meeting::Over,
    }
}

/// What is the same about a file whose content is the wanted one.
pub fn meta_same(mode: u32, mtime_ns: i64, found: &Stat) -> Same {
    if mode == found.kept_mode() && mtime_ns == found.mtime_ns { Same::Same } else { Same::MetaOnly }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn name(s: &str) -> Name {
        Name::new(s.as_bytes()).unwrap()
    }

    proptest! {
        #[test]
        fn every_name_comes_once_in_order_and_on_its_side(
            a in prop::collection::btree_set("[a-c]{1,3}", 0..20),
            b in prop::collection::btree_set("[a-c]{1,3}", 0..20),
        ) {
            let want = || Want::Dir(crate::source::WantDir { mode: 0, mtime_ns: 0, found: None });
            let source = a.iter().map(|n| (name(n), want())).collect();
            let dest = b.iter().map(|n| DirEntry { name: name(n), kind: None }).collect();
            let mut seen = Vec::new();
            for pair in join(source, dest) {
                let (n, in_a, in_b) = match pair {
                    Pair::New(n, _) => (n, true, false),
                    Pair::Both(n, _, d) => { prop_assert_eq!(&n, &d.name); (n, true, true) }
                    Pair::Extra(d) => (d.name, false, true),
                };
                let s = String::from_utf8(n.as_bytes().to_vec()).unwrap();
                prop_assert_eq!((in_a, in_b), (a.contains(&s), b.contains(&s)));
                seen.push(s);
            }
            let all: Vec<String> = a.union(&b).cloned().collect::<BTreeSet<_>>().into_iter().collect();
            prop_assert_eq!(seen, all);
        }
    }
}
