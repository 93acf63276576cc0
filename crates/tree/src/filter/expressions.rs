//! dirsync's filters: regular expressions that begin where the path begins, and end where they like.

use super::{COMPILED_BYTES_MAX, FilterError, Verdict};
use regex::bytes::{RegexSet, RegexSetBuilder};

/// The four lists of dirsync. A path is judged for itself, whatever was said of the directories above it.
#[derive(Clone, Debug, Default)]
pub struct Expressions {
    /// If any is given, what matches none of them is absent.
    only: List,
    /// Wins over the two below.
    include: List,
    /// What matches is absent from the source.
    exclude: List,
    /// What matches is left alone on both sides.
    ignore: List,
}

#[derive(Clone, Debug, Default)]
struct List(RegexSet);

impl Expressions {
    /// Compiles the four lists.
    ///
    /// # Errors
    /// Names the first expression that cannot be used.
    pub fn new(
        only: &[String],
        include: &[String],
        exclude: &[String],
        ignore: &[String],
    ) -> Result<Self, FilterError> {
        Ok(Self {
            only: List::new(only)?,
            include: List::new(include)?,
            exclude: List::new(exclude)?,
            ignore: List::new(ignore)?,
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        [&self.only, &self.include, &self.exclude, &self.ignore].iter().all(|list| list.0.is_empty())
    }

    pub(super) fn source(&self, path: &[u8]) -> Verdict {
        if !self.only.0.is_empty() && !self.only.matches(path) {
            Verdict::Absent
        } else if self.include.matches(path) {
            Verdict::Wanted
        } else if self.ignore.matches(path) {
            Verdict::LeaveAlone
        } else if self.exclude.matches(path) {
            Verdict::Absent
        } else {
            Verdict::Wanted
        }
    }

    pub(super) fn ignores(&self, path: &[u8]) -> bool {
        self.ignore.matches(path)
    }
}

impl List {
    fn new(patterns: &[String]) -> Result<Self, FilterError> {
        for pattern in patterns {
            // By itself first: in a group, `a)(b` would be one.
            if let Err(error) = regex::bytes::Regex::new(pattern) {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
                return Err(FilterError::Expression { pattern: pattern.clone(), why: why.to_owned() });
            }
        }
        let anchored = patterns.iter().map(|pattern| format!("\\A(?:{pattern})"));
        let set = RegexSetBuilder::new(anchored).size_limit(COMPILED_BYTES_MAX).build();
        Ok(Self(set.map_err(|_| FilterError::TooMuch)?))
    }

    /// A dot stands for one character, and of a name that is not UTF-8 for a byte that is none.
    fn matches(&self, path: &[u8]) -> bool {
        if self.0.is_empty() {
            return false;
        }
        self.0.is_match(path)
            || matches!(String::from_utf8_lossy(path), std::borrow::Cow::Owned(lossy) if self.0.is_match(lossy.as_bytes()))
    }
}
