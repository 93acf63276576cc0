//! Paths inside a directory: checked once, then trusted.
//!
//! A [`Name`] is one component, a [`RelPath`] any number of them. Both keep their bytes as found (no Unicode
//! form is changed). Nothing else is ever joined to a root.

use std::borrow::Borrow;
use std::fmt;

/// Longest component in bytes; what Linux file systems allow.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest relative path in bytes.
pub const PATH_BYTES_MAX: usize = 4096;
/// Most components of a relative path.
pub const PATH_DEPTH_MAX: usize = 256;

/// One component of a path: 1 to [`NAME_BYTES_MAX`] bytes, no `/`, no NUL, neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// A path relative to a root: components joined by single `/`, no empty, `.` or `..` component.
///
/// The empty path is the root itself. The order is that of the bytes, so a directory comes before what is in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelPath(Box<[u8]>);

/// Why bytes are not a path of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Two slashes in a row, a leading or trailing slash, or an empty name.
    #[error("an empty component")]
    Empty,
    /// `.` or `..`.
    #[error("a component that is '.' or '..'")]
    Dots,
    /// A zero byte, or a slash inside a name.
    #[error("a byte that no name can hold")]
    BadByte,
    /// A component over [`NAME_BYTES_MAX`].
    #[error("a component longer than {NAME_BYTES_MAX} bytes")]
    NameTooLong,
    /// A path over [`PATH_BYTES_MAX`].
    #[error("longer than {PATH_BYTES_MAX} bytes")]
    PathTooLong,
    /// More than [`PATH_DEPTH_MAX`] components.
    #[error("deeper than {PATH_DEPTH_MAX} directories")]
    TooDeep,
}

impl Name {
    /// Checks `bytes` as one component.
    ///
    /// # Errors
    /// When the bytes are empty, `.`, `..`, too long, or hold `/` or NUL.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        check_component(&bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes as found.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl RelPath {
    /// The root itself: the empty path.
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks `bytes` as a relative path; empty bytes are the root.
    ///
    /// # Errors
    /// When a component is not a [`Name`], or the whole is too long or too deep.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Ok(Self(bytes));
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Err(PathError::PathTooLong);
        }
        let mut depth = 0;
        for component in bytes.split(|b| *b == b'/') {
            check_component(component)?;
            depth += 1;
        }
        if depth > PATH_DEPTH_MAX {
            return Err(PathError::TooDeep);
        }
        Ok(Self(bytes))
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, components joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components from the root down; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|c| !c.is_empty())
    }

    /// How many components.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// The directory this is in and its name there; `None` for the root.
    pub fn split(&self) -> Option<(RelPath, Name)> {
        if self.is_root() {
            return None;
        }
        let (parent, name): (&[u8], &[u8]) = match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[], &self.0),
        };
        Some((Self(parent.into()), Name(name.into())))
    }

    /// The directory this is in; `None` for the root.
    pub fn parent(&self) -> Option<RelPath> {
        self.split().map(|(parent, _)| parent)
    }

    /// The path of `name` inside this directory.
    ///
    /// # Errors
    /// When the result is too long or too deep; the parts themselves are already checked.
    pub fn join(&self, name: &Name) -> Result<RelPath, PathError> {
        if self.is_root() {
            return Ok(Self(name.0.clone()));
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.0.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(&name.0);
        if bytes.len() > PATH_BYTES_MAX {
            return Err(PathError::PathTooLong);
        }
        if bytes.iter().filter(|b| **b == b'/').count() >= PATH_DEPTH_MAX {
            return Err(PathError::TooDeep);
        }
        Ok(Self(bytes.into()))
    }

    /// Whether `self` is `ancestor` or lies below it.
    pub fn starts_with(&self, ancestor: &RelPath) -> bool {
        ancestor.is_root() || self.0.strip_prefix(&*ancestor.0).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// The way from `ancestor` to it; `None` unless it is `ancestor` or in there.
    pub fn below(&self, ancestor: &RelPath) -> Option<RelPath> {
        if !self.starts_with(ancestor) {
            return None;
        }
        let rest = &self.0[ancestor.0.len()..];
        Some(RelPath(rest.strip_prefix(b"/").unwrap_or(rest).into()))
    }
}

fn check_component(component: &[u8]) -> Result<(), PathError> {
    match component {
        b"" => Err(PathError::Empty),
        b"." | b".." => Err(PathError::Dots),
        c if c.len() > NAME_BYTES_MAX => Err(PathError::NameTooLong),
        c if c.contains(&0) || c.contains(&b'/') => Err(PathError::BadByte),
        _ => Ok(()),
    }
}

/// Escapes control characters, and bytes that are not UTF-8, as `\xNN`, and a backslash as `\\`, so that a name
/// cannot write to a terminal or forge a log line, and two names never look alike.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                // C0, DEL, C1, and the marks that reorder a line of text.
                c if c.is_control() || is_format_mark(c) => {
                    let mut buffer = [0; 4];
                    for b in c.encode_utf8(&mut buffer).bytes() {
                        push_hex(&mut out, b);
                    }
                }
                c => out.push(c),
            }
        }
        for b in chunk.invalid() {
            push_hex(&mut out, *b);
        }
    }
    out
}

fn is_format_mark(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn push_hex(out: &mut String, b: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push_str("\\x");
    out.push(char::from(HEX[usize::from(b >> 4)]));
    out.push(char::from(HEX[usize::from(b & 15)]));
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { ".".into() } else { escape(&self.0) }.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for RelPath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_leaves_the_root_is_not_a_path() {
        for (bytes, error) in [
            (&b"/etc"[..], PathError::Empty),
            (b"a//b", PathError::Empty),
            (b"a/", PathError::Empty),
            (b"..", PathError::Dots),
            (b"a/../../b", PathError::Dots),
            (b"./a", PathError::Dots),
            (b"a\0b", PathError::BadByte),
        ] {
            assert_eq!(RelPath::new(bytes), Err(error), "{bytes:?}");
        }
        assert_eq!(Name::new(*b"a/b"), Err(PathError::BadByte));
        assert_eq!(Name::new(*b""), Err(PathError::Empty));
    }

    #[test]
    fn limits_hold_at_the_edge_and_one_past_it() {
        assert!(Name::new(vec![b'a'; NAME_BYTES_MAX]).is_ok());
        assert_eq!(Name::new(vec![b'a'; NAME_BYTES_MAX + 1]), Err(PathError::NameTooLong));
        let deep = |n: usize| vec![b"a".as_slice(); n].join(&b'/');
        assert!(RelPath::new(deep(PATH_DEPTH_MAX)).is_ok());
        assert_eq!(RelPath::new(deep(PATH_DEPTH_MAX + 1)), Err(PathError::TooDeep));
        let at_depth = RelPath::new(deep(PATH_DEPTH_MAX)).unwrap();
        assert_eq!(at_depth.join(&Name::new(*b"a").unwrap()), Err(PathError::TooDeep));
        let long = vec![b"b".repeat(240); 17].join(&b'/');
        assert_eq!(long.len(), PATH_BYTES_MAX);
        assert!(RelPath::new(long.clone()).is_ok());
        assert_eq!(RelPath::new([&long[..], b"/c"].concat()), Err(PathError::PathTooLong));
    }

    #[test]
    fn names_cannot_forge_a_line_or_drive_a_terminal() {
        assert_eq!(escape(b"a\nb\x1b[31m\xff\\"), "a\\x0ab\\x1b[31m\\xff\\\\");
        assert_eq!(escape("\u{202e}é".as_bytes()), "\\xe2\\x80\\xaeé");
    }

    proptest! {
        #[test]
        fn a_path_is_its_parent_joined_with_its_name(parts in prop::collection::vec("[a-z.]{1,5}", 1..6)) {
            prop_assume!(parts.iter().all(|p| p != "." && p != ".."));
            let path = RelPath::new(parts.join("/").into_bytes()).unwrap();
            let (parent, name) = path.split().unwrap();
            prop_assert_eq!(parent.join(&name).unwrap(), path.clone());
            prop_assert!(path.starts_with(&parent) && parent < path);
            prop_assert_eq!(path.depth(), parts.len());
            let last = RelPath::new(name.as_bytes()).unwrap();
            prop_assert_eq!(path.below(&parent), Some(last));
            prop_assert_eq!(path.below(&RelPath::root()), Some(path.clone()));
            prop_assert_eq!((path.below(&path), parent.below(&path)), (Some(RelPath::root()), None));
        }

        #[test]
        fn escaping_keeps_names_apart(a in prop::collection::vec(any::<u8>(), 0..12), b in prop::collection::vec(any::<u8>(), 0..12)) {
            prop_assert_eq!(a == b, escape(&a) == escape(&b));
        }
    }
}
