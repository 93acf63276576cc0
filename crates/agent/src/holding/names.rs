//! How a value's name stands as a file's: one directory, one file a value, whatever the name is made of.
//!
//! | in the name | in the file's name |
//! | --- | --- |
//! | `/`, `%`, control characters (bytes 0 to 31, and 127) | `%` and two upper-case hexadecimal digits |
//! | a `.` or `-` at the beginning: files that hide, look like flags, or are ours | the same |
//! | all else, also what is no UTF-8 | itself |
//!
//! That can be read back. What would be longer than a file's name may be is cut, and `%~` and the BLAKE3 hash of the name
//! follow: no other name has that file's name, but only who knows the name can tell whose it is.

use std::collections::HashMap;
use tree::path::NAME_BYTES_MAX;

/// What stands before the hash of a name that was cut; nothing else is escaped so.
const CUT: &[u8] = b"%~";
/// How much of a long name is kept: what its hash leaves.
const KEPT_BYTES_MAX: usize = NAME_BYTES_MAX - CUT.len() - 2 * blake3::OUT_LEN;

/// The name of the file of the value `name`. Only no name at all has none: then it is empty.
pub(super) fn file_name(name: &[u8]) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut file = Vec::with_capacity(name.len());
    // Where the last whole character that may be kept of a long name ends.
    let mut kept = 0;
    for (at, b) in name.iter().copied().enumerate() {
        if file.len() <= KEPT_BYTES_MAX && !is_continuation(b) {
            kept = file.len();
        }
        match b {
            b'/' | b'%' | 0..=31 | 127 => {}
            b'.' | b'-' if at == 0 => {}
            _ => {
                file.push(b);
                continue;
            }
        }
        file.extend([b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
    }
    if file.len() > NAME_BYTES_MAX {
        file.truncate(kept);
        file.extend(CUT);
        file.extend(blake3::hash(name).to_hex().bytes());
    }
    file
}

/// The name of the value whose file is called `file`, where it was not cut; `None` where no value's is.
fn name_of(file: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(file.len());
    let mut rest = file;
    while let Some((&b, after)) = rest.split_first() {
        rest = after;
        if b != b'%' {
            name.push(b);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        rest = after;
        name.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
    }
    (!file.is_empty() && file_name(&name) == file).then_some(name)
}

fn is_continuation(b: u8) -> bool {
    b & 0b1100_0000 == 0b1000_0000
}

/// Finds the names of values again by those of their files.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Of those that were cut, by the name of the file.
    cut: HashMap<Vec<u8>, board::Name>,
}

impl Names {
    /// There is such a value.
    pub(super) fn note(&mut self, name: &board::Name) {
        let file = file_name(name);
        if name_of(&file).is_none() {
            self.cut.insert(file, name.clone());
        }
    }

    /// There is no such value any more.
    pub(super) fn forget(&mut self, name: &[u8]) {
        if !self.cut.is_empty() {
            self.cut.remove(&file_name(name));
        }
    }

    /// The name of the value whose file is called `file`.
    pub(super) fn of(&self, file: &[u8]) -> Option<board::Name> {
        name_of(file).map(Into::into).or_else(|| self.cut.get(file).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use tree::Name;
    use tree::at::{TEMP_PREFIX, is_temp_name};

    fn file(name: &str) -> String {
        String::from_utf8(file_name(name.as_bytes())).unwrap()
    }

    #[test]
    fn a_plain_name_is_its_files_and_a_hostile_one_is_escaped() {
        for plain in ["price", "a.b-c", "preis in €", "*", "~", "a\\b", "#"] {
            assert_eq!(file(plain), plain);
        }
        for (name, escaped) in [
            ("price/eur", "price%2Feur"),
            (".", "%2E"),
            ("..", "%2E."),
            ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
            ("-rf", "%2Drf"),
            ("a\nb\0\u{7f}", "a%0Ab%00%7F"),
            ("100%", "100%25"),
            ("a%2Fb", "a%252Fb"),
            ("%~", "%25~"),
        ] {
            assert_eq!(file(name), escaped);
        }
        assert_eq!(file_name(b"\xff/\xfe"), b"\xff%2F\xfe");
        assert_eq!(file_name(b""), b"");
        assert!(file(&format!("{TEMP_PREFIX}0123456789abcdef")).starts_with("%2Elockstep-tmp-"));
    }

    #[test]
    fn a_name_is_cut_only_where_it_does_not_fit_and_never_within_a_character() {
        let longest = "n".repeat(NAME_BYTES_MAX);
        assert_eq!(file(&longest), longest);
        assert_eq!(file(&"/".repeat(85)).len(), NAME_BYTES_MAX);
        for long in ["n".repeat(NAME_BYTES_MAX + 1), "/".repeat(86), "€".repeat(86), "\u{1f600}".repeat(64)] {
            let name = file(&long);
            let (kept, hash) = name.split_once("%~").unwrap();
            assert_eq!(hash, blake3::hash(long.as_bytes()).to_hex().as_str());
            assert!(name.len() <= NAME_BYTES_MAX && kept.len() > KEPT_BYTES_MAX - 4, "{name}");
            assert!(long.starts_with(std::str::from_utf8(&name_of(kept.as_bytes()).unwrap()).unwrap()), "{name}");
            assert_eq!(name_of(name.as_bytes()), None);
        }
    }

    #[test]
    fn a_name_that_was_cut_is_found_again_as_long_as_there_is_such_a_value() {
        let mut names = Names::default();
        let long = [board::Name::from(vec![b'n'; 256]), board::Name::from([&[b'n'; 255][..], b"m"].concat())];
        long.iter().for_each(|name| names.note(name));
        names.note(&board::Name::from_static(b"plain"));
        for name in &long {
            assert_eq!(names.of(&file_name(name)).as_ref(), Some(name));
        }
        assert_eq!(names.of(b"plain").unwrap(), "plain");
        assert_eq!(names.cut.len(), 2);
        names.forget(&long[0]);
        assert_eq!((names.of(&file_name(&long[0])), names.cut.len()), (None, 1));
    }

    /// Names of what is dangerous, and of what is long.
    fn names() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"/".to_vec()),
            Just(b".".to_vec()),
            Just(b"-".to_vec()),
            Just(b"%".to_vec()),
            Just(b"%2F".to_vec()),
            Just(b"%2f".to_vec()),
            Just(b"%~".to_vec()),
            Just(b".lockstep-tmp-0123456789abcdef".to_vec()),
            Just("€".as_bytes().to_vec()),
            proptest::collection::vec(any::<u8>(), 1..4),
            proptest::collection::vec(97u8..100, 0..120),
        ];
        proptest::collection::vec(piece, 1..7).prop_map(|pieces| {
            let mut name = pieces.concat();
            name.truncate(wire::limits::VALUE_NAME_BYTES_MAX);
            name
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn every_name_has_a_file_of_its_own_that_is_safe_and_says_its_name(
            names in proptest::collection::vec(names(), 1..8)
        ) {
            let mut files = BTreeMap::new();
            let mut found = Names::default();
            for name in names.iter().filter(|name| !name.is_empty()) {
                let file = file_name(name);
                let as_name = Name::new(&file[..]);
                prop_assert!(as_name.as_ref().is_ok_and(|file| !is_temp_name(file)), "{:?}", as_name);
                prop_assert!(file.len() <= NAME_BYTES_MAX && !matches!(file[0], b'.' | b'-'));
                prop_assert!(file.iter().all(|b| *b != b'/' && !b.is_ascii_control()));
                let whose = files.insert(file.clone(), name.clone());
                prop_assert!(whose.is_none_or(|whose| whose == *name), "two names, one file");
                found.note(&name.clone().into());
                let whose = found.of(&file);
                prop_assert_eq!(whose.as_deref(), Some(&name[..]));
            }
        }

        #[test]
        fn a_file_that_is_called_otherwise_is_no_values(file in names()) {
            if let Some(name) = name_of(&file) {
                prop_assert_eq!(file_name(&name), file);
            }
        }
    }
}
