//! Names that a disk takes for one: those that differ in letter case, or in how an accent is written.
//!
//! What is one name to a disk is that disk's own business, and may be another matter in each directory (`chattr +F`). So
//! nothing here says that two names *are* one, only where it is worth asking; a disk that tells all names apart is asked
//! nothing of its listings, and of a directory in which single names are looked at, once.

use crate::source::Want;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use tree::at::{DirEntry, TempNames, set_times};
use tree::{Dir, Name, RelPath, fsx};

/// Directories of which it is remembered; with more all are asked again.
const DIRS_MAX: usize = 16_384;
/// A name with both a letter and an accent, and how a disk may take it: in another case, or in parts.
const PROBE: [&str; 3] = ["a\u{e9}", "A\u{c9}", "ae\u{301}"];

/// What is known of one destination.
#[derive(Debug, Default)]
pub(crate) struct Folding {
    /// Whether names fall together in its root.
    root: OnceLock<bool>,
    dirs: Mutex<HashMap<RelPath, bool>>,
    /// Names come out of it otherwise than they were put in.
    respells: AtomicBool,
}

impl Folding {
    /// Whether names fall together in the directory `path`; `None` if it is not known.
    pub(crate) fn known(&self, path: &RelPath) -> Option<bool> {
        self.dirs().get(path).copied()
    }

    /// It was seen in the directory `path`.
    pub(crate) fn learn(&self, path: &RelPath, folds: bool) {
        let mut dirs = self.dirs();
        if dirs.len() >= DIRS_MAX {
            dirs.clear();
        }
        dirs.insert(path.clone(), folds);
    }

    /// All directories are asked again: one may have been made anew, and be of another kind.
    pub(crate) fn forget(&self) {
        self.dirs().clear();
    }

    /// Whether names fall together in the directory `dir`, in which `name` stands. `path` is its own.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub(crate) fn find_out(
        &self,
        root: &Dir,
        temps: &TempNames,
        dir: &Dir,
        path: &RelPath,
        name: &Name,
    ) -> Result<bool, fsx::Error> {
        if let Some(folds) = self.known(path) {
            return Ok(folds);
        }
        let of_root = match self.root.get() {
            Some(folds) => *folds,
            None => {
                let folds = probe(root, temps)?;
                *self.root.get_or_init(|| folds)
            }
        };
        let folds = match (of_root || path.is_root(), other_case(name)) {
            (true, _) => of_root,
            (false, Some(other)) => match dir.look(&other)? {
                Some(found) => dir.look(name)?.is_some_and(|now| now.id() == found.id()),
                None => false,
            },
            // What has no case falls together by its accents, if at all.
            (false, None) => match dir.is_casefold()? {
                Some(folds) => folds,
                None => probe(dir, temps)?,
            },
        };
        self.learn(path, folds);
        Ok(folds)
    }

    /// Whether this disk is known to spell names in its own way.
    pub(crate) fn respells(&self) -> bool {
        self.respells.load(Ordering::Relaxed)
    }

    /// A name that was put there came out otherwise.
    pub(crate) fn has_respelt(&self) {
        self.respells.store(true, Ordering::Relaxed);
    }

    fn dirs(&self) -> MutexGuard<'_, HashMap<RelPath, bool>> {
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks a disk for the names of a file under which it was not made, in a directory of its own. The time of the one it is in is put
/// back.
fn probe(dir: &Dir, temps: &TempNames) -> Result<bool, fsx::Error> {
    let before = dir.stat_self()?;
    let (name, inner) = dir.make_temp_dir(temps)?;
    let [made, other_case, in_parts] = PROBE.map(|name| Name::new(name.as_bytes()).expect("it is a name"));
    let folds = inner.create(&made, 0o600).and_then(|_| {
        let folds = inner.look(&other_case)?.is_some() || inner.look(&in_parts)?.is_some();
        inner.remove_file(&made)?;
        Ok(folds)
    });
    dir.remove_dir(&name)?;
    set_times(dir, before.mtime_ns, dir.path())?;
    folds
}

/// Whether any disk could take `name` for another one.
pub(crate) fn may_fold(name: &Name) -> bool {
    is_odd(name.as_bytes())
        || name.as_bytes().iter().any(u8::is_ascii_alphabetic)
        || trimmed(name).len() < name.as_bytes().len()
}

/// The names that only the source has and that some disk might take for one that stands at the destination. Both listings are
/// sorted.
///
/// Of names that both sides have, only what is letter case of ASCII counts: whatever else falls together with one of them
/// fails to be made. One that only the destination has would be deleted, so with it anything that could be is.
pub(crate) fn alike(source: &[(Name, Want)], dest: &[DirEntry]) -> BTreeSet<Name> {
    let is_in_source = |name: &Name| source.binary_search_by(|(known, _)| known.cmp(name)).is_ok();
    let is_at_dest = |name: &Name| dest.binary_search_by(|known| known.name.cmp(name)).is_ok();
    if dest.is_empty() || (source.len() == dest.len() && source.iter().zip(dest).all(|((s, _), d)| *s == d.name)) {
        return BTreeSet::new();
    }
    let news: Vec<&Name> = source.iter().map(|(name, _)| name).filter(|name| !is_at_dest(name)).collect();
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

/// The same name with its first letter in the other case; `None` where it has no letter of two cases.
fn other_case(name: &Name) -> Option<Name> {
    let text = std::str::from_utf8(name.as_bytes()).ok()?;
    let (at, letter, other) = text.char_indices().find_map(|(at, letter)| Some((at, letter, swapped(letter)?)))?;
    let swapped = format!("{}{other}{}", &text[..at], &text[at + letter.len_utf8()..]);
    Name::new(swapped.into_bytes()).ok()
}

fn swapped(letter: char) -> Option<char> {
    let mut upper = letter.to_uppercase();
    let mut lower = letter.to_lowercase();
    let one = |letters: &mut dyn Iterator<Item = char>| letters.next().filter(|_| letters.next().is_none());
    [one(&mut upper), one(&mut lower)].into_iter().flatten().find(|other| *other != letter)
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
    fn a_name_has_another_case_or_none() {
        for (one, other) in [("abc", "Abc"), ("1x", "1X"), ("\u{e9}", "\u{c9}"), (".Z", ".z")] {
            assert_eq!(other_case(&name(one)), Some(name(other)));
        }
        for none in ["2024", "\u{65e5}\u{672c}", "_-"] {
            assert_eq!(other_case(&name(none)), None, "{none}");
        }
        assert!(
            !may_fold(&name("2024-11.30"))
                && may_fold(&name("v2"))
                && may_fold(&name("7."))
                && may_fold(&name("\u{65e5}"))
        );
    }

    #[test]
    fn a_disk_that_tells_names_apart_is_known_for_it_and_nothing_is_left_of_asking() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, temps, folding) = (Dir::open_root(scratch.path()).unwrap(), TempNames::new(), Folding::default());
        std::fs::create_dir(scratch.path().join("d")).unwrap();
        std::fs::write(scratch.path().join("d/\u{65e5}"), "").unwrap();
        std::fs::write(scratch.path().join("a"), "").unwrap();
        set_times(&root, 7, root.path()).unwrap();
        let (here, d) = (RelPath::root(), RelPath::new(*b"d").unwrap());
        assert!(!folding.find_out(&root, &temps, &root, &here, &name("a")).unwrap());
        let inner = root.open(&name("d")).unwrap();
        assert!(!folding.find_out(&root, &temps, &inner, &d, &name("\u{65e5}")).unwrap());
        assert_eq!((folding.known(&here), folding.known(&d)), (Some(false), Some(false)));
        assert_eq!(root.stat_self().unwrap().mtime_ns, 7);
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 2);
        for n in 0..DIRS_MAX {
            folding.learn(&RelPath::new(n.to_string().into_bytes()).unwrap(), false);
        }
        assert_eq!(folding.known(&here), None, "what is known is bounded");
    }
}
