//! What a line asks for, once its client is in. Free of I/O; every refusal says what to type.

use super::quote::{self, BLANKS, QuoteError};
use super::session::BOARD;
use crate::cursor::{self, BadCursor};
use board::{Cursor, Pattern, PatternError};
use bytes::Bytes;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Nothing,
    Put {
        name: Bytes,
        value: Bytes,
    },
    Remove {
        name: Bytes,
    },
    Get {
        name: Bytes,
    },
    Follow {
        pattern: Pattern,
        since: Option<Cursor>,
    },
    /// Of everything, without a pattern.
    Unfollow {
        pattern: Option<Pattern>,
    },
    Clients,
    Help,
    Quit,
}

/// Why a line cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mistake {
    #[error("this line is not UTF-8: write such bytes in quotes, as in put name \"\\xff\"")]
    NotUtf8,
    #[error("this line has a control character: write it in quotes, as in put name \"one\\ntwo\"")]
    Control,
    #[error("unknown command; help lists what there is")]
    Unknown,
    #[error("unknown command; did you mean {0}? help lists what there is")]
    Near(&'static str),
    #[error("type {0}")]
    Usage(&'static str),
    #[error("{0}")]
    Quote(#[from] QuoteError),
    #[error("{0}")]
    Pattern(#[from] PatternError),
    #[error("this is no cursor: give the word that stood in a current line, all of it, or leave since away")]
    Cursor,
    #[error(
        "this cursor belongs to another pattern: give it with the pattern of its current line, or leave since away"
    )]
    OtherPattern,
}

/// Each command with what follows it and what it does, as `help` tells it.
pub(crate) const COMMANDS: [(&str, &str, &str); 8] = [
    ("put", "put NAME VALUE", "sets a value; ok VERSION once it is on the hub's disk"),
    ("remove", "remove NAME", "removes it"),
    ("get", "get NAME", "the newest value: value VERSION NAME VALUE"),
    (
        "follow",
        "follow [PATTERN] [since CURSOR]",
        "the newest values now, and each change as it comes; a* is what begins with a",
    ),
    ("unfollow", "unfollow [PATTERN]", "no more of it"),
    ("clients", "clients", "who is here: client ID TRANSPORT ADDRESS NAME"),
    ("help", "help", "this"),
    ("quit", "quit", "bye, after everything that was asked for"),
];

/// Reads a line.
///
/// # Errors
/// When it asks for nothing there is; the text tells what to type.
pub(crate) fn parse(line: &[u8]) -> Result<Command, Mistake> {
    let line = std::str::from_utf8(line).map_err(|_| Mistake::NotUtf8)?;
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err(Mistake::Control);
    }
    let line = line.trim_matches(BLANKS);
    let (word, rest) = line.split_once(BLANKS).unwrap_or((line, ""));
    let rest = rest.trim_start_matches(BLANKS);
    if word.is_empty() {
        return Ok(Command::Nothing);
    }
    let word = word.to_ascii_lowercase();
    let Some((name, usage, _)) = COMMANDS.into_iter().find(|(name, ..)| *name == word) else {
        return Err(near(&word).map_or(Mistake::Unknown, Mistake::Near));
    };
    let usage = Mistake::Usage(usage);
    match name {
        "put" => put(rest, usage),
        "remove" => Ok(Command::Remove { name: only_word(rest, usage)? }),
        "get" => Ok(Command::Get { name: only_word(rest, usage)? }),
        "follow" => follow(rest, usage),
        "unfollow" if rest.is_empty() => Ok(Command::Unfollow { pattern: None }),
        "unfollow" => Ok(Command::Unfollow { pattern: Some(Pattern::parse(only_word(rest, usage)?)?) }),
        _ if !rest.is_empty() => Err(usage),
        "clients" => Ok(Command::Clients),
        "quit" => Ok(Command::Quit),
        _ => Ok(Command::Help),
    }
}

fn put(rest: &str, usage: Mistake) -> Result<Command, Mistake> {
    let Some((name, rest)) = word(rest)? else { return Err(usage) };
    let value = match rest.strip_prefix('"') {
        // A missing value is more often a slip than a wish; an empty one has its own way to be written.
        None if rest.is_empty() => return Err(usage),
        None => Bytes::copy_from_slice(rest.as_bytes()),
        Some(quoted) => match quote::read_quoted(quoted)? {
            (bytes, "") => Bytes::from(bytes),
            _ => return Err(QuoteError::Glued.into()),
        },
    };
    Ok(Command::Put { name: name.bytes, value })
}

fn follow(rest: &str, usage: Mistake) -> Result<Command, Mistake> {
    let mut words = Vec::new();
    let mut rest = rest;
    while let Some((next, behind)) = word(rest)? {
        words.push(next);
        rest = behind;
        if words.len() > 3 {
            break;
        }
    }
    let is_since = |word: &Word| !word.quoted && word.bytes.eq_ignore_ascii_case(b"since");
    let (pattern, since) = match words.as_slice() {
        [] => (Pattern::all(), None),
        [pattern] => (Pattern::parse(&pattern.bytes)?, None),
        [since, cursor] if is_since(since) => (Pattern::all(), Some(cursor)),
        [pattern, since, cursor] if is_since(since) => (Pattern::parse(&pattern.bytes)?, Some(cursor)),
        _ => return Err(usage),
    };
    let since = match since {
        Some(word) => match cursor::read(&word.bytes, BOARD, pattern.as_bytes()) {
            Ok(Some(cursor)) => whole(cursor),
            Ok(None) => return Err(Mistake::OtherPattern),
            Err(BadCursor) => return Err(Mistake::Cursor),
        },
        None => None,
    };
    Ok(Command::Follow { pattern, since })
}

/// A cursor between two `current` lines, as other transports give them, as one of the line before. There is none before the
/// first: a walk from zero tells by its marks what is gone, which lines have no word for.
fn whole(cursor: Cursor) -> Option<Cursor> {
    let from_zero = cursor.walk.as_ref().is_some_and(|walk| walk.reset);
    (!from_zero).then_some(Cursor { walk: None, ..cursor })
}

/// One word of a line.
struct Word {
    bytes: Bytes,
    quoted: bool,
}

/// The next word, and what follows it without leading blanks.
fn word(text: &str) -> Result<Option<(Word, &str)>, QuoteError> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (bytes, rest) = quote::read_quoted(quoted)?;
        return Ok(Some((Word { bytes: bytes.into(), quoted: true }, rest)));
    }
    let (word, rest) = text.split_once(BLANKS).unwrap_or((text, ""));
    let bytes = Bytes::copy_from_slice(word.as_bytes());
    Ok((!word.is_empty()).then_some((Word { bytes, quoted: false }, rest.trim_start_matches(BLANKS))))
}

fn only_word(rest: &str, usage: Mistake) -> Result<Bytes, Mistake> {
    match word(rest)? {
        Some((word, "")) => Ok(word.bytes),
        _ => Err(usage),
    }
}

/// The command that was probably meant: what other programs call it, or one typed nearly right.
fn near(word: &str) -> Option<&'static str> {
    match word {
        "set" | "pub" | "publish" | "write" => return Some("put"),
        "del" | "delete" | "rm" | "unset" => return Some("remove"),
        "sub" | "subscribe" | "watch" | "tail" => return Some("follow"),
        "unsub" | "unsubscribe" => return Some("unfollow"),
        "exit" | "bye" | "logout" => return Some("quit"),
        "who" | "list" | "ls" => return Some("clients"),
        "?" | "man" => return Some("help"),
        _ => {}
    }
    let names = COMMANDS.into_iter().map(|(name, ..)| name);
    names.filter(|name| is_one_slip(name, word)).max_by_key(|name| name.len())
}

/// Whether one letter is missing, too many, another, or two neighbours are exchanged.
fn is_one_slip(name: &str, word: &str) -> bool {
    let (a, b) = (name.as_bytes(), word.as_bytes());
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[same..], &b[same..]);
    match (a, b) {
        ([_, a @ ..], [_, b @ ..]) if a == b => true,
        ([_, a @ ..], b) | (b, [_, a @ ..]) if a == b => true,
        ([first, second, a @ ..], [x, y, b @ ..]) => a == b && first == y && second == x,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use board::Version;
    use proptest::prelude::*;

    fn put_of(name: &str, value: &[u8]) -> Command {
        Command::Put { name: Bytes::copy_from_slice(name.as_bytes()), value: Bytes::copy_from_slice(value) }
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn what_people_type_is_what_they_get() {
        for (line, command) in [
            ("put price 42", put_of("price", b"42")),
            ("  PUT\tprice   two words  ", put_of("price", b"two words")),
            ("put price \"\"", put_of("price", b"")),
            (r#"put "my price" "a\nb\xff""#, put_of("my price", b"a\nb\xff")),
            (r#"put cfg {"a": "x\ny"}"#, put_of("cfg", br#"{"a": "x\ny"}"#)),
            ("put p C:\\dir \"q\"", put_of("p", b"C:\\dir \"q\"")),
            ("get price", Command::Get { name: "price".into() }),
            ("remove price", Command::Remove { name: "price".into() }),
            ("follow", Command::Follow { pattern: Pattern::all(), since: None }),
            ("follow t*", Command::Follow { pattern: pattern("t*"), since: None }),
            ("follow since", Command::Follow { pattern: pattern("since"), since: None }),
            ("unfollow", Command::Unfollow { pattern: None }),
            ("unfollow t*", Command::Unfollow { pattern: Some(pattern("t*")) }),
            ("clients", Command::Clients),
            ("Help", Command::Help),
            ("quit ", Command::Quit),
            (" \t", Command::Nothing),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(command), "{line}");
        }
    }

    #[test]
    fn a_cursor_is_taken_with_its_pattern_and_without_one() {
        let cursor = Cursor { version: Version { epoch: 1, run: 2, seq: 3 }, seen: 4, walk: None };
        for (pattern, line) in [
            (Pattern::all(), "follow since "),
            (pattern("a*"), "follow a* since "),
            (pattern("since"), "follow \"since\" Since "),
        ] {
            let word = cursor::written(cursor::scope("data", pattern.as_bytes()), &cursor);
            let since = Some(cursor.clone());
            assert_eq!(parse(format!("{line}{word}").as_bytes()), Ok(Command::Follow { pattern, since }), "{line}");
        }
        assert_eq!(parse(b"follow since 12"), Err(Mistake::Cursor));
    }

    #[test]
    fn every_mistake_tells_what_to_type() {
        for (line, hint) in [
            (&b"frobnicate"[..], "help"),
            (b"pit x 1", "did you mean put"),
            (b"folow", "did you mean follow"),
            (b"gte x", "did you mean get"),
            (b"SUBSCRIBE x", "did you mean follow"),
            (b"put", "type put NAME VALUE"),
            (b"put x", "type put NAME VALUE"),
            (b"put x \"a\" b", "blank is needed"),
            (b"put x \"a", "not closed"),
            (b"put x \"\\d\"", "backslash"),
            (b"get", "type get NAME"),
            (b"get a b", "type get NAME"),
            (b"follow a b", "type follow [PATTERN]"),
            (b"follow a since c d", "type follow [PATTERN]"),
            (b"follow a since c", "no cursor"),
            (b"clients all", "type clients"),
            (b"put x \xff", "\\xff"),
            (b"put x a\x1bb", "quotes"),
            (&[b"get ".to_vec(), vec![b'a'; 4097]].concat(), ""),
        ] {
            match parse(line) {
                Err(mistake) => assert!(mistake.to_string().contains(hint), "{mistake}"),
                Ok(command) => assert!(hint.is_empty(), "{command:?}"),
            }
        }
        assert!(matches!(parse(&[b"follow ".to_vec(), vec![b'a'; 4097]].concat()), Err(Mistake::Pattern(_))));
    }

    #[test]
    fn help_tells_every_command_there_is() {
        for (name, usage, _) in COMMANDS {
            assert!(usage.starts_with(name));
            assert!(!matches!(parse(name.as_bytes()), Err(Mistake::Unknown | Mistake::Near(_))), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_and_any_value_can_be_typed(name in prop::collection::vec(any::<u8>(), 0..12), value in prop::collection::vec(any::<u8>(), 0..24)) {
            let mut line = "put ".to_owned();
            quote::write_word(&mut line, &name);
            line.push(' ');
            quote::write_value(&mut line, &value);
            prop_assert_eq!(parse(line.as_bytes()), Ok(Command::Put { name: name.into(), value: value.into() }));
        }

        #[test]
        fn no_line_does_any_harm(line in prop::collection::vec(any::<u8>(), 0..64)) {
            parse(&line).ok();
        }
    }
}
