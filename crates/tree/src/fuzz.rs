//! What a fuzzer throws bytes at, and what has to hold then, whatever a peer calls an entry or says of one. For the targets in
//! `fuzz/`, and for the tests here, which replay what those found of interest.

#![allow(clippy::expect_used, reason = "what does not hold ends the fuzzer")]

use crate::Entry;
use crate::path::{Name, RelPath, escape};

/// Names, paths and entries. Whether anything was understood.
///
/// # Panics
/// When a path leads out, changes by being taken apart, or an entry is not what it was once it is written and read again.
pub fn names(data: &[u8]) -> bool {
    let mut understood = false;
    if let Ok(name) = Name::new(data) {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty() && !bytes.contains(&b'/') && !bytes.contains(&0));
        assert!(bytes != b"." && bytes != b"..");
        let joined = RelPath::root().join(&name).expect("a name is a path");
        assert_eq!(joined.as_bytes(), bytes);
        understood = true;
    }
    if let Ok(path) = RelPath::new(data) {
        let mut again = RelPath::root();
        for component in path.components() {
            let name = Name::new(component).expect("each part of a path is a name");
            again = again.join(&name).expect("the path has room for itself");
        }
        assert_eq!(again, path);
        assert!(path.starts_with(&RelPath::root()) && path.depth() == path.components().count());
        if let Some((parent, name)) = path.split() {
            assert_eq!(parent.join(&name).expect("the path has room for itself"), path);
            assert!(path.starts_with(&parent) && !parent.starts_with(&path));
        }
        understood = true;
    }
    let shown = escape(data);
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    if let Ok(entry) = Entry::decode(data) {
        assert_eq!(entry.to_bytes(), data);
        understood = true;
    }
    understood
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ContentId;
    use std::fs;

    const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/names");

    #[test]
    fn what_the_fuzzer_found_of_names_and_entries_holds() {
        let files: Vec<_> = fs::read_dir(CORPUS).unwrap().map(|file| file.unwrap().path()).collect();
        let understood = files.iter().filter(|path| {
            println!("{}", path.display());
            names(&fs::read(path).unwrap())
        });
        assert!(understood.count() > 5, "of {} hardly anything is a name", files.len());
    }

    /// What a fuzzer begins with: `LOCKSTEP_WRITE_CORPUS=1 cargo test -p lockstep-tree seeds`.
    #[test]
    fn seeds_are_looked_at() {
        let file = Entry::File { mode: 0o644, mtime_ns: -1, size_bytes: 7, content: ContentId([9; 32]) };
        let seeds: [(&str, Vec<u8>); 12] = [
            ("name", b"name".to_vec()),
            ("path", b"some/deep/path".to_vec()),
            ("dots", b"a/../b".to_vec()),
            ("absolute", b"/etc/passwd".to_vec()),
            ("nul", b"a\0b".to_vec()),
            ("bytes", b"\xff\xfe/\x80".to_vec()),
            ("marks", "a\u{202e}b\u{200b}\u{1b}[2J\n".into()),
            ("long", vec![b'x'; 256]),
            ("deep", b"d/".repeat(2000)),
            ("file", file.to_bytes()),
            ("directory", Entry::Dir { mode: 0o755, mtime_ns: i64::MAX }.to_bytes()),
            ("link", Entry::Link { mtime_ns: 0, target: b"../x"[..].into() }.to_bytes()),
        ];
        for (name, data) in seeds {
            names(&data);
            if std::env::var_os("LOCKSTEP_WRITE_CORPUS").is_some() {
                fs::create_dir_all(CORPUS).unwrap();
                fs::write(format!("{CORPUS}/{name}"), data).unwrap();
            }
        }
    }
}
