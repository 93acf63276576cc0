//! Choosing: which paths a mirror is about.
//!
//! Pure: it is told paths and the content of ignore files, and judges; it reads no disk. Two families of rules are
//! asked, and a path has to pass both:
//!
//! - **patterns** in gitignore syntax: those of the operator, then those of the `.gitignore` of each directory, the
//!   deepest first; the last line of the first that has a match decides. Nothing below an excluded directory can be
//!   brought back.
//! - **regular expressions** as dirsync takes them: each path is judged for itself, so a path may be wanted below a
//!   directory that is not.

mod expressions;
mod glob;

pub use expressions::Expressions;

use crate::RelPath;
use regex::bytes::{RegexSet, RegexSetBuilder};
use std::sync::Arc;

/// The largest ignore file that is read.
pub const PATTERN_BYTES_MAX: usize = 1 << 20;
/// What compiled rules may take in memory; more is refused rather than slow.
const COMPILED_BYTES_MAX: usize = 64 << 20;

/// What a filter says about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The mirror is about it.
    Wanted,
    /// It is not copied, and what the destination has there is left alone.
    LeaveAlone,
    /// It is as if the source did not have it.
    Absent,
}

/// Why rules cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// An ignore file over [`PATTERN_BYTES_MAX`].
    #[error("larger than {PATTERN_BYTES_MAX} bytes, which is no list of patterns")]
    TooLarge,
    /// The rules together need too much memory.
    #[error("the patterns are too many or too long")]
    TooMuch,
    /// A regular expression that cannot be read.
    #[error("{pattern} is no regular expression that can be used here: {why}")]
    Expression {
        /// As given.
        pattern: String,
        /// What is wrong with it, in one line.
        why: String,
    },
}

/// Lines of gitignore syntax, compiled.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    set: RegexSet,
    lines: Vec<Flags>,
    /// See [`Patterns::plain`].
    plain: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
struct Flags {
    negated: bool,
    dir_only: bool,
}

/// The rules of one mirror.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// What the operator excludes and includes.
    pub patterns: Patterns,
    /// dirsync's filters.
    pub expressions: Expressions,
    /// Excluded names are deleted at the destination.
    pub delete_excluded: bool,
}

/// What counts in one directory: the ignore files from the root down to it, and what was said of it.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Each with the length of the path of the directory it is in.
    ignore_files: Vec<(usize, Arc<Patterns>)>,
    /// A pattern excludes the directory, or one above it.
    excluded: bool,
    /// An expression says that the directory, or one above it, is ignored on both sides.
    ignored: bool,
}

impl Patterns {
    /// Reads the content of a file in gitignore syntax. A malformed line matches nothing, as git has it.
    ///
    /// # Errors
    /// When it is larger than any such file.
    pub fn parse(content: &[u8]) -> Result<Self, FilterError> {
        if content.len() > PATTERN_BYTES_MAX {
            return Err(FilterError::TooLarge);
        }
        let content = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content);
        let lines = content.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        Self::new(lines)
    }

    /// Reads lines, each a pattern; the last that matches a path decides.
    ///
    /// # Errors
    /// When they are too many.
    pub fn new<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, FilterError> {
        let texts: Vec<&[u8]> = lines.into_iter().collect();
        let lines: Vec<_> = texts.iter().filter_map(|line| glob::line(line)).collect();
        let brings_back = lines.iter().any(|line| line.negated);
        let plain = texts.iter().filter(|_| !brings_back).filter_map(|line| glob::plain(line)).collect();
        let set = RegexSetBuilder::new(lines.iter().map(|line| &line.regex))
            .size_limit(COMPILED_BYTES_MAX)
            .build()
            .map_err(|_| FilterError::TooMuch)?;
        let lines = lines.iter().map(|line| Flags { negated: line.negated, dir_only: line.dir_only }).collect();
        Ok(Self { set, lines, plain })
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Which directories these patterns exclude whatever else is there: those at a path from where they count, which then begins with a
    /// slash, and those of a name wherever they are. None if a pattern brings anything back.
    pub fn plain(&self) -> &[Vec<u8>] {
        &self.plain
    }

    /// Whether the path is excluded (`true`) or brought back (`false`); `None` where no pattern matches. `path` is
    /// relative to where the patterns count from.
    pub fn judge(&self, path: &[u8], is_dir: bool) -> Option<bool> {
        if self.lines.is_empty() {
            return None;
        }
        let matches = self.set.matches(path);
        let last = matches.iter().rev().map(|n| self.lines[n]).find(|line| is_dir || !line.dir_only)?;
        Some(!last.negated)
    }
}

impl Filter {
    /// Whether a path below one that is not wanted may be wanted, so that it has to be looked for.
    pub fn looks_below(&self) -> bool {
        !self.expressions.is_empty()
    }

    /// What counts in the root; `ignore_file` is what its `.gitignore` says.
    pub fn root(&self, ignore_file: Option<Arc<Patterns>>) -> Scope {
        let ignore_files = ignore_file.into_iter().map(|patterns| (0, patterns)).collect();
        Scope { ignore_files, excluded: false, ignored: false }
    }

    /// What counts in the directory `path`, which is in one where `above` counts.
    pub fn enter(&self, above: &Scope, path: &RelPath, ignore_file: Option<Arc<Patterns>>) -> Scope {
        let mut scope = above.clone();
        scope.excluded = self.is_excluded(above, path, true);
        scope.ignored |= self.expressions.ignores(path.as_bytes());
        // The slash behind it counts, too.
        scope.ignore_files.extend(ignore_file.map(|patterns| (path.as_bytes().len() + 1, patterns)));
        scope
    }

    /// What becomes of `path`, which the source has. `scope` is that of the directory it is in.
    pub fn source(&self, scope: &Scope, path: &RelPath, is_dir: bool) -> Verdict {
        if self.is_excluded(scope, path, is_dir) {
            return if self.delete_excluded { Verdict::Absent } else { Verdict::LeaveAlone };
        }
        self.expressions.source(path.as_bytes())
    }

    /// What becomes of `path`, which the destination has and the source has not, or for which [`Filter::source`] did
    /// not say that it is wanted: it goes ([`Verdict::Absent`]) or stays.
    pub fn extra(&self, scope: &Scope, path: &RelPath, is_dir: bool) -> Verdict {
        let excluded = !self.delete_excluded && self.is_excluded(scope, path, is_dir);
        if excluded || scope.ignored || self.expressions.ignores(path.as_bytes()) {
            return Verdict::LeaveAlone;
        }
        Verdict::Absent
    }

    fn is_excluded(&self, scope: &Scope, path: &RelPath, is_dir: bool) -> bool {
        if scope.excluded {
            return true;
        }
        let path = path.as_bytes();
        let deepest_first = scope.ignore_files.iter().rev();
        self.patterns
            .judge(path, is_dir)
            .or_else(|| deepest_first.filter_map(|(from, patterns)| patterns.judge(&path[*from..], is_dir)).next())
            .unwrap_or(false)
    }
}

impl Scope {
    /// Whether nothing in here is wanted by any pattern, so that no ignore file in it or below counts.
    pub fn is_excluded(&self) -> bool {
        self.excluded
    }
}

#[cfg(test)]
mod tests;
