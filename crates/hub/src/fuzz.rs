//! What a fuzzer throws bytes at, and what has to hold then, whatever is typed at the text port or given back as a cursor. For the
//! targets in `fuzz/`, and for the tests here, which replay what those found of interest.

#![allow(clippy::expect_used, reason = "what does not hold ends the fuzzer")]

use bytes::BytesMut;

use crate::cursor;
use crate::text::grammar::{self, Command};
use crate::text::lines::{Lines, Piece};
use crate::text::quote;

/// The longest line here: short, so that a fuzzer meets it.
const LINE_BYTES_MAX: usize = 300;

/// Bytes on a connection that speaks text. Whether there was a line that asks for something.
///
/// # Panics
/// When a line is longer than allowed, depends on how it was cut on its way, or a value is not itself once it is shown and read again.
pub fn text(data: &[u8]) -> bool {
    let whole = pieces(data, usize::MAX);
    assert_eq!(whole, pieces(data, 1), "cut after each byte");
    let mut understood = false;
    for piece in whole {
        let Piece::Line(line) = piece else { continue };
        assert!(line.len() <= LINE_BYTES_MAX, "a line of {} bytes", line.len());
        cursors(&line);
        let Ok(command) = grammar::parse(&line) else { continue };
        understood |= command != Command::Nothing;
        if let Command::Put { name, value } = command {
            let mut shown = "put ".to_owned();
            quote::write_word(&mut shown, &name);
            shown.push(' ');
            quote::write_value(&mut shown, &value);
            assert!(!shown.chars().any(char::is_control), "{shown:?}");
            assert_eq!(grammar::parse(shown.as_bytes()), Ok(Command::Put { name, value }), "shown as {shown:?}");
        }
    }
    understood
}

fn pieces(data: &[u8], at_once: usize) -> Vec<Piece> {
    let (mut lines, mut found) = (Lines::default(), Vec::new());
    for part in data.chunks(at_once.min(data.len().max(1))) {
        let mut bytes = BytesMut::from(part);
        while let Some(piece) = lines.next(&mut bytes, LINE_BYTES_MAX) {
            found.push(piece);
        }
    }
    found
}

/// A cursor that was made up is one that could have been given, or none.
fn cursors(text: &[u8]) {
    for pattern in [&b"*"[..], b"a*"] {
        if let Ok(Some(read)) = cursor::read(text, "data", pattern) {
            let written = cursor::written(cursor::scope("data", pattern), &read);
            assert_eq!(cursor::read(written, "data", pattern).expect("what was written is a cursor"), Some(read));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/text");

    #[test]
    fn what_the_fuzzer_found_of_lines_holds() {
        let files: Vec<_> = fs::read_dir(CORPUS).unwrap().map(|file| file.unwrap().path()).collect();
        let understood = files.iter().filter(|path| {
            println!("{}", path.display());
            text(&fs::read(path).unwrap())
        });
        assert!(understood.count() > 5, "of {} hardly anything is a command", files.len());
    }

    /// What a fuzzer begins with: `LOCKSTEP_WRITE_CORPUS=1 cargo test -p lockstep-hub fuzz`.
    #[test]
    fn seeds_are_looked_at() {
        let version = board::Version { epoch: 7, run: 8, seq: 9 };
        let walk = Some(board::WalkMark { head: 12, upto: "n".into(), reset: true });
        let given = |walk| cursor::written(cursor::scope("data", b"*"), &board::Cursor { version, seen: 12, walk });
        let seeds = [
            ("put", "put name value\nput \"a b\" \"\\xff\\u00e4\\n\"\r\n".to_owned()),
            ("ask", "get name\nremove name\nclients\nhelp\nquit\n".to_owned()),
            ("follow", format!("follow * since {}\nfollow a*\nunfollow a*\n{}\n", given(None), given(walk))),
            ("near", "putt a b\nPUT a b\n  \n\t\n".to_owned()),
            ("long", format!("put x {}\nget x\n", "y".repeat(400))),
            ("surrogates", "put a \"\\ud83d\\ude00\"\nput a \"\\ud83d\"\n".to_owned()),
        ];
        let telnet = [&[255, 251, 1, 255, 253, 3, 255, 250, 24, 0, 255, 240][..], b"get a\r\0\n"].concat();
        let telnet = ("telnet", telnet);
        for (name, data) in seeds.map(|(name, text)| (name, text.into_bytes())).into_iter().chain([telnet]) {
            assert!(text(&data), "{name}");
            if std::env::var_os("LOCKSTEP_WRITE_CORPUS").is_some() {
                fs::create_dir_all(CORPUS).unwrap();
                fs::write(format!("{CORPUS}/{name}"), data).unwrap();
            }
        }
    }
}
