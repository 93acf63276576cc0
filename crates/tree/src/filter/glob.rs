//! One line of gitignore syntax as a regular expression over bytes, exactly as git reads it.
//!
//! Translated here rather than by a crate: those read patterns as UTF-8 only, and differ from git in brackets, in
//! stars beside letters and in what a malformed pattern does. `tests` ask git itself.

use std::fmt::Write as _;

/// A line of gitignore syntax, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// It begins with `!`: what it matches is not excluded.
    pub(super) negated: bool,
    /// It ends with `/`: it matches directories only.
    pub(super) dir_only: bool,
    /// A regular expression over the whole path, relative to where the pattern counts from.
    pub(super) regex: String,
}

/// Reads one line without its end; `None` for an empty one and a comment.
pub(super) fn line(line: &[u8]) -> Option<Line> {
    if line.is_empty() || line[0] == b'#' {
        return None;
    }
    let mut glob = trim_trailing_spaces(line);
    let negated = glob.first() == Some(&b'!');
    if negated {
        glob = &glob[1..];
    }
    let dir_only = glob.last() == Some(&b'/');
    if dir_only {
        glob = &glob[..glob.len() - 1];
    }
    // Without a slash it is about names, wherever they are; with one, about paths.
    let regex = if glob.contains(&b'/') {
        let glob = glob.strip_prefix(b"/").unwrap_or(glob);
        format!("^{}$", translate(glob, true))
    } else if glob.is_empty() {
        NEVER.to_owned()
    } else {
        format!("(?:^|/){}$", translate(glob, false))
    };
    Some(Line { negated, dir_only, regex: format!("(?s-u){regex}") })
}

/// The path that a line is about without any special letter, with a slash before it if it counts from the root, and without one if it is a
/// name that counts wherever it is. `None` for a line that is about more, or brings back.
pub(super) fn plain(line: &[u8]) -> Option<Vec<u8>> {
    let glob = trim_trailing_spaces(line);
    let special = |b: &u8| matches!(b, b'*' | b'?' | b'[' | b'\\');
    if glob.is_empty() || matches!(glob[0], b'#' | b'!') || glob.iter().any(special) {
        return None;
    }
    let glob = glob.strip_suffix(b"/").unwrap_or(glob);
    let from_root = glob.contains(&b'/');
    let path = glob.strip_prefix(b"/").unwrap_or(glob);
    let names = |path: &[u8]| path.split(|b| *b == b'/').all(|name| !matches!(name, b"" | b"." | b".."));
    names(path).then(|| if from_root { [b"/", path].concat() } else { path.to_vec() })
}

/// Matches nothing.
const NEVER: &str = r"[^\x00-\xff]";

/// Spaces at the end do not count, unless a backslash is before them.
fn trim_trailing_spaces(line: &[u8]) -> &[u8] {
    let mut end = None;
    let mut at = 0;
    while at < line.len() {
        match line[at] {
            b' ' => {
                end.get_or_insert(at);
            }
            b'\\' => {
                at += 1;
                end = None;
            }
            _ => end = None,
        }
        at += 1;
    }
    &line[..end.unwrap_or(line.len())]
}

/// `None` inside for a pattern that git never finds to match.
fn translate(glob: &[u8], paths: bool) -> String {
    try_translate(glob, paths).unwrap_or_else(|| NEVER.to_owned())
}

fn try_translate(glob: &[u8], paths: bool) -> Option<String> {
    let mut out = String::new();
    // git compares up to the first special letter by itself, and what comes behind is a pattern of its own.
    let start = glob.iter().position(|b| matches!(b, b'*' | b'?' | b'[' | b'\\')).unwrap_or(glob.len());
    let mut at = 0;
    while at < glob.len() {
        match glob[at] {
            b'\\' => {
                push_byte(&mut out, *glob.get(at + 1)?);
                at += 2;
            }
            b'?' => {
                out.push_str("[^/]");
                at += 1;
            }
            b'*' => {
                let begin = at;
                while glob.get(at) == Some(&b'*') {
                    at += 1;
                }
                let rest = &glob[at..];
                let whole = paths
                    && at - begin > 1
                    && (begin == start || glob[begin - 1] == b'/')
                    && (rest.is_empty() || rest[0] == b'/' || rest.starts_with(b"\\/"));
                if whole && rest.first() == Some(&b'/') {
                    out.push_str("(?:.*/)?");
                    at += 1;
                } else {
                    out.push_str(if whole { ".*" } else { "[^/]*" });
                }
            }
            b'[' => at = bracket(glob, at, &mut out)?,
            b => {
                push_byte(&mut out, b);
                at += 1;
            }
        }
    }
    Some(out)
}

/// Translates the bracket that begins at `at`, and tells where it ends. A slash is never in one.
fn bracket(glob: &[u8], mut at: usize, out: &mut String) -> Option<usize> {
    let mut set = [false; 256];
    at += 1;
    let negated = matches!(glob.get(at)?, b'!' | b'^');
    if negated {
        at += 1;
    }
    let mut before: Option<u8> = None;
    let mut first = true;
    loop {
        let b = *glob.get(at)?;
        if b == b']' && !first {
            break;
        }
        first = false;
        let next = glob.get(at + 1);
        match (b, before) {
            (b'\\', _) => {
                at += 1;
                let escaped = *glob.get(at)?;
                set[usize::from(escaped)] = true;
                before = Some(escaped);
            }
            (b'-', Some(from)) if next.is_some_and(|next| *next != b']') => {
                at += 1;
                let mut to = *glob.get(at)?;
                if to == b'\\' {
                    at += 1;
                    to = *glob.get(at)?;
                }
                (from..=to).for_each(|b| set[usize::from(b)] = true);
                before = None;
            }
            (b'[', _) if next == Some(&b':') => {
                let name = at + 2;
                let end = name + glob[name..].iter().position(|b| *b == b']')?;
                if end > name && glob[end - 1] == b':' {
                    let class = class(&glob[name..end - 1])?;
                    (0..=255u8).filter(class).for_each(|b| set[usize::from(b)] = true);
                    at = end;
                    before = None;
                } else {
                    set[usize::from(b'[')] = true;
                    before = Some(b'[');
                }
            }
            (b, _) => {
                set[usize::from(b)] = true;
                before = Some(b);
            }
        }
        at += 1;
    }
    out.push('[');
    let mut none = true;
    for b in (0..=255u8).filter(|b| *b != b'/' && *b != 0 && set[usize::from(*b)] != negated) {
        none = false;
        push_hex(out, b);
    }
    if none {
        out.push_str(r"^\x00-\xff");
    }
    out.push(']');
    Some(at + 1)
}

fn class(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |b| matches!(b, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |b| matches!(b, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |b| matches!(b, b' ' | b'\t'..=b'\r'),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}

fn push_byte(out: &mut String, b: u8) {
    if b.is_ascii_alphanumeric() || b == b'/' {
        out.push(char::from(b));
    } else {
        push_hex(out, b);
    }
}

fn push_hex(out: &mut String, b: u8) {
    // Writing to a string cannot fail.
    let _ = write!(out, "\\x{b:02x}");
}
