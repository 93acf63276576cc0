//! Names that a disk takes for one: those that differ in letter case, or in how an accent is written.
//!
//! What is one name to a disk is that disk's own business, and may be another matter in each directory (`chattr +F`). So
//! nothing here says that two names *are* one, only where it is worth asking. Asking changes nothing. A disk that tells all names
//! apart is asked nothing of its listings, and once or twice of a directory in which single names are looked at.

use crate::source::Want;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tree::at::{DirEntry, ListBuffer};
use tree::{Dir, Name, RelPath, fsx};
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Directories of which it is remembered; with more all are asked again.
const DIRS_MAX: usize = 16_384;

/// What is known of one destination.
#[derive(Debug, Default)]
pub(crate) struct Folding {
    dirs: Mutex<HashMap<RelPath, Known>>,
    /// Names come out of it otherwise than they were put in.
    respells: AtomicBool,
}

/// What is known of a directory.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    folds: bool,
    /// In which ways it was asked, and told names apart.
    apart: [bool; 3],
}

/// In what names differ that some disks take for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Case,
    Accents,
    /// FAT leaves them out at the end of a name.
    Dots,
}

impl Folding {
    /// Whether it was seen that names fall together in the directory `path`.
    pub(crate) fn folds(&self, path: &RelPath) -> bool {
        self.dirs().get(path).is_some_and(|known| known.folds)
    }

    /// It was seen in the directory `path`.
    pub(crate) fn learn(&self, path: &RelPath) {
        self.change(path, |known| known.folds = true);
    }

    /// All directories are asked again: one may have been made anew, and be of another kind.
    pub(crate) fn forget(&self) {
        self.dirs().clear();
    }

    /// Whether it is known that nothing falls together with `name` in the directory `path`.
    pub(crate) fn is_apart(&self, path: &RelPath, name: &Name) -> bool {
        let known = self.dirs().get(path).copied().unwrap_or_default();
        !known.folds && ways(name).all(|(way, _)| known.apart[way as usize])
    }

    /// Whether names as `name` fall together in the directory `dir`, in which it stands. `path` is the directory's own.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub(crate) fn find_out(&self, dir: &Dir, path: &RelPath, name: &Name) -> Result<bool, fsx::Error> {
        let known = self.dirs().get(path).copied().unwrap_or_default();
        if known.folds {
            return Ok(true);
        }
        for (way, other) in ways(name).filter(|(way, _)| !known.apart[*way as usize]) {
            let found = dir.look(&other)?;
            let same = found.is_some() && found.map(|found| found.id()) == dir.look(name)?.map(|found| found.id());
            if !same {
                self.change(path, |known| known.apart[way as usize] = true);
                continue;
            }
            let names = dir.list(&mut ListBuffer::default())?;
            // Two names of one file tell nothing.
            if !is_spelt(&names, &other) || !is_spelt(&names, name) {
                self.learn(path);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether this disk is known to spell names in its own way.
    pub(crate) fn respells(&self) -> bool {
        self.respells.load(Ordering::Relaxed)
    }

    /// A name that was put there came out otherwise.
    pub(crate) fn has_respelt(&self) {
        self.respells.store(true, Ordering::Relaxed);
    }

    fn change(&self, path: &RelPath, change: impl FnOnce(&mut Known)) {
        let mut dirs = self.dirs();
        if dirs.len() >= DIRS_MAX {
            dirs.clear();
        }
        change(dirs.entry(path.clone()).or_default());
    }

    fn dirs(&self) -> MutexGuard<'_, HashMap<RelPath, Known>> {
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the name begins with that something has while it gets another spelling; the one it had follows. No temporary: it is never swept.
const BETWEEN_PREFIX: &[u8] = b".lockstep-respelt-";
/// No name is longer.
const NAME_BYTES_MAX: usize = 255;

/// The name of what gets another spelling than `name`, in between; `None` if it would be too long.
pub(crate) fn between(name: &Name) -> Option<Name> {
    let long = [BETWEEN_PREFIX, name.as_bytes()].concat();
    Name::new(long).ok().filter(|name| name.as_bytes().len() <= NAME_BYTES_MAX)
}

/// The name that what is called `name` in between had before.
pub(crate) fn before(name: &Name) -> Option<Name> {
    Name::new(name.as_bytes().strip_prefix(BETWEEN_PREFIX)?).ok()
}

/// Whether a sorted listing has this very name.
pub(crate) fn is_spelt(names: &[DirEntry], name: &Name) -> bool {
    names.binary_search_by(|entry| entry.name.cmp(name)).is_ok()
}

/// The names that only the source has and that some disk might take for one that stands at the destination. Both listings are
/// sorted.
///
/// Of names that both sides have, only what is letter case of ASCII counts: whatever else falls together with one of them
/// fails to be made. One that only the destination has would be deleted, so with it anything that could be is.
pub(crate) fn alike(source: &[(Name, Want)], dest: &[DirEntry]) -> BTreeSet<Name> {
    let is_in_source = |name: &Name| source.binary_search_by(|(known, _)| known.cmp(name)).is_ok();
    if dest.is_empty() || (source.len() == dest.len() && source.iter().zip(dest).all(|((s, _), d)| *s == d.name)) {
        return BTreeSet::new();
    }
    let news: Vec<&Name> = source.iter().map(|(name, _)| name).filter(|name| !is_spelt(dest, name)).collect();
    if news.is_empty() {
        return BTreeSet::new();
    }
    let (mut any_extra, mut odd_extra) = (false, false);
    let keys: HashSet<Vec<u8>> = news.iter().map(|name| key(name)).collect();
    let mut met: HashSet<Vec<u8>> = HashSet::new();
    let mut buffer = Vec::new();
    for DirEntry { name, .. } in dest {
        let extra = !is_in_source(name);
        any_extra |= extra;
        odd_extra |= extra && is_odd(name.as_bytes());
        buffer.clear();
        buffer.extend(trimmed(name).iter().map(u8::to_ascii_lowercase));
        if keys.contains(&buffer) {
            met.insert(buffer.clone());
        }
    }
    let may = |name: &Name| odd_extra || (any_extra && is_odd(name.as_bytes())) || met.contains(&key(name));
    news.into_iter().filter(|name| may(name)).cloned().collect()
}

/// Whether what it may fall together with is not known by its bytes: accents, and the short names of FAT (`LONGNA~1.TXT`).
fn is_odd(name: &[u8]) -> bool {
    !name.is_ascii() || name.contains(&b'~')
}

/// FAT leaves dots and spaces at the end out.
fn trimmed(name: &Name) -> &[u8] {
    let bytes = name.as_bytes();
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(0, |last| last + 1);
    &bytes[..end]
}

fn key(name: &Name) -> Vec<u8> {
    trimmed(name).to_ascii_lowercase()
}

/// Whether two names differ in nothing but letter case.
pub(crate) fn is_other_case(a: &Name, b: &Name) -> bool {
    let lower = |name: &Name| String::from_utf8_lossy(trimmed(name)).to_lowercase();
    lower(a) == lower(b)
}

/// What else a disk may know `name` by, in each way in which it may.
fn ways(name: &Name) -> impl Iterator<Item = (Way, Name)> {
    let text = std::str::from_utf8(name.as_bytes()).ok();
    let case = text.and_then(other_case).map(|other| (Way::Case, other));
    // FAT, which is about dots, is about case as well.
    let dots = case.is_none().then(|| (Way::Dots, [name.as_bytes(), b"."].concat()));
    let accents = text.filter(|text| !text.is_ascii()).and_then(other_accents).map(|other| (Way::Accents, other));
    let text = |(way, text): (Way, String)| (way, text.into_bytes());
    let others = [case.map(text), accents.map(text), dots];
    others.into_iter().flatten().filter_map(|(way, other)| Some((way, Name::new(other).ok()?)))
}

/// The same text with its first letter in the other case; `None` where it has no letter of two cases.
fn other_case(text: &str) -> Option<String> {
    let (at, letter, other) = text.char_indices().find_map(|(at, letter)| Some((at, letter, swapped(letter)?)))?;
    Some(format!("{}{other}{}", &text[..at], &text[at + letter.len_utf8()..]))
}

fn swapped(letter: char) -> Option<char> {
    let one = |letters: &mut dyn Iterator<Item = char>| letters.next().filter(|_| letters.next().is_none());
    let both = [one(&mut letter.to_uppercase()), one(&mut letter.to_lowercase())];
    both.into_iter().flatten().find(|other| *other != letter)
}

/// The same text with accents written the other way; `None` where there is none.
fn other_accents(text: &str) -> Option<String> {
    let other: String = if is_nfc(text) { text.nfd().collect() } else { text.nfc().collect() };
    (other != text).then_some(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::WantDir;

    fn name(s: &str) -> Name {
        Name::new(s.as_bytes()).unwrap()
    }

    /// What is asked of the disk where these stand at the source and at the destination.
    fn asked(source: &[&str], dest: &[&str]) -> Vec<String> {
        let want = || Want::Dir(WantDir { mode: 0, mtime_ns: 0, found: None });
        let sorted = |names: &[&str]| names.iter().map(|n| name(n)).collect::<BTreeSet<_>>();
        let source: Vec<_> = sorted(source).into_iter().map(|name| (name, want())).collect();
        let dest: Vec<_> = sorted(dest).into_iter().map(|name| DirEntry { name, kind: None }).collect();
        alike(&source, &dest).into_iter().map(|name| String::from_utf8(name.as_bytes().to_vec()).unwrap()).collect()
    }

    #[test]
    fn of_listings_in_which_nothing_is_alike_nothing_is_asked() {
        let nothing: [String; 0] = [];
        assert_eq!(asked(&["a", "b"], &["a", "b"]), nothing);
        assert_eq!(asked(&["a", "A", "\u{e9}", "x~1"], &[]), nothing, "a first copy");
        assert_eq!(asked(&["a", "new", "newer"], &["a", "old"]), nothing);
        assert_eq!(asked(&["a"], &["a", "A", "\u{e9}"]), nothing, "only extra");
        assert_eq!(asked(&["a", "\u{e9}"], &["a"]), nothing, "what is new by an accent meets nothing that would go");
    }

    #[test]
    fn what_may_be_one_to_some_disk_is_asked() {
        assert_eq!(asked(&["A.txt", "b"], &["a.txt", "b"]), ["A.txt"]);
        assert_eq!(asked(&["a", "A"], &["a"]), ["A"]);
        assert_eq!(asked(&["a."], &["A"]), ["a."], "dots at the end");
        for (source, dest) in
            [("\u{e9}", "e\u{301}"), ("stra\u{df}e", "strasse"), ("K", "\u{212a}"), ("LONGNA~1", "long name")]
        {
            assert_eq!(asked(&[source], &[dest]), [source]);
            assert_eq!(asked(&[dest], &[source]), [dest]);
        }
    }

    #[test]
    fn a_name_has_others_that_a_disk_may_know_it_by() {
        let others = |s: &str| -> Vec<(Way, Name)> { ways(&name(s)).collect() };
        for (one, other) in [("abc", "Abc"), ("1x", "1X"), (".Z", ".z")] {
            assert_eq!(others(one), [(Way::Case, name(other))]);
        }
        let (whole, parts) = ("\u{e9}", "e\u{301}");
        assert_eq!(others(whole), [(Way::Case, name("\u{c9}")), (Way::Accents, name(parts))]);
        assert_eq!(others(parts), [(Way::Case, name("E\u{301}")), (Way::Accents, name(whole))]);
        assert_eq!(others("\u{304c}"), [(Way::Accents, name("\u{304b}\u{3099}")), (Way::Dots, name("\u{304c}."))]);
        for uncased in ["2024", "\u{65e5}\u{672c}", "_-"] {
            assert_eq!(others(uncased), [(Way::Dots, name(&format!("{uncased}.")))]);
        }
        let bytes = Name::new(*b"\xff").unwrap();
        assert_eq!(ways(&bytes).count(), 1);
        assert_eq!(ways(&name(&"1".repeat(255))).count(), 0, "the other one would be too long");
    }

    #[test]
    fn a_disk_that_tells_names_apart_is_asked_once_and_nothing_is_changed() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("a"), "").unwrap();
        std::fs::write(scratch.path().join("\u{e9}"), "").unwrap();
        let (root, folding, here) = (Dir::open_root(scratch.path()).unwrap(), Folding::default(), RelPath::root());
        let before = root.stat_self().unwrap();
        let (plain, accent) = (name("a"), name("\u{e9}"));
        assert!(!folding.is_apart(&here, &plain));
        assert!(!folding.find_out(&root, &here, &plain).unwrap());
        assert!(folding.is_apart(&here, &plain) && !folding.is_apart(&here, &accent));
        assert!(!folding.find_out(&root, &here, &accent).unwrap());
        assert!(folding.is_apart(&here, &accent));
        assert_eq!(before, root.stat_self().unwrap());
        folding.learn(&here);
        assert!(folding.folds(&here) && !folding.is_apart(&here, &plain));
        for n in 0..DIRS_MAX {
            folding.change(&RelPath::new(n.to_string().into_bytes()).unwrap(), |_| {});
        }
        assert!(!folding.folds(&here), "what is known is bounded");
    }

    /// Two names of one file are no sign of anything.
    #[test]
    fn hard_links_that_differ_in_case_are_not_taken_for_one_name() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("a"), "").unwrap();
        std::fs::hard_link(scratch.path().join("a"), scratch.path().join("A")).unwrap();
        let (root, folding) = (Dir::open_root(scratch.path()).unwrap(), Folding::default());
        assert!(!folding.find_out(&root, &RelPath::root(), &name("a")).unwrap());
        assert!(!folding.folds(&RelPath::root()));
    }
}
