//! Bytes in addresses: a value's name may hold any, so paths and queries are read as bytes, not as text.

use super::problem::Problem;
use axum::http::StatusCode;
use std::fmt::Write;

/// A query's parameters, in bytes.
pub(super) struct Query(Vec<(String, Vec<u8>)>);

impl Query {
    /// Reads what follows the `?`: `+` is a blank.
    ///
    /// # Errors
    /// When a percent sign is not followed by two hexadecimal digits.
    pub(super) fn read(text: Option<&str>) -> Result<Query, Problem> {
        let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let read = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((String::from_utf8_lossy(&decode(name, true)?).into_owned(), decode(value, true)?))
        });
        read.collect::<Result<_, _>>().map(Query)
    }

    /// A parameter's bytes.
    ///
    /// # Errors
    /// When it is given twice.
    pub(super) fn bytes(&self, name: &str) -> Result<Option<&[u8]>, Problem> {
        let mut found = self.0.iter().filter(|(given, _)| given == name);
        let first = found.next().map(|(_, value)| value.as_slice());
        match found.next() {
            None => Ok(first),
            Some(_) => Err(bad(format!("{name} is given twice"))),
        }
    }

    /// A parameter's text.
    ///
    /// # Errors
    /// When it is none, or given twice.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| bad(format!("{name} is not UTF-8")));
        self.bytes(name)?.map(text).transpose()
    }

    /// A parameter that is a whole number from `min` to `max`.
    ///
    /// # Errors
    /// When it is none, or given twice.
    pub(super) fn number(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten().filter(|number| (min..=max).contains(number));
        number.map(Some).ok_or_else(|| bad(format!("{name} is a whole number from {min} to {max}")))
    }
}

/// What an address's text stands for.
///
/// # Errors
/// When a percent sign is not followed by two hexadecimal digits.
pub(super) fn decode(text: &str, plus_is_blank: bool) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'%' => {
                let digits = after.get(..2).and_then(|two| data_encoding::HEXUPPER_PERMISSIVE.decode(two).ok());
                let digits = digits.ok_or_else(|| bad("a % in an address is followed by two hexadecimal digits"))?;
                rest = &after[2..];
                digits[0]
            }
            b'+' if plus_is_blank => b' ',
            other => other,
        });
    }
    Ok(bytes)
}

/// A name as it stands in a path: all that is not plain is escaped, `/` is not.
pub(super) fn path(name: &[u8]) -> String {
    let mut path = String::with_capacity(name.len());
    // A segment of nothing but dots would be taken for a step up or none.
    for (at, segment) in name.split(|byte| *byte == b'/').enumerate() {
        if at > 0 {
            path.push('/');
        }
        let dots = matches!(segment, b"." | b"..");
        for &byte in segment {
            if !dots && (byte.is_ascii_alphanumeric() || b"-._~!$'()*,:@".contains(&byte)) {
                path.push(char::from(byte));
            } else {
                // Writing to a string cannot fail.
                let _written = write!(path, "%{byte:02X}");
            }
        }
    }
    path
}

fn bad(text: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_path_stands_for_its_name(name in proptest::collection::vec(any::<u8>(), 0..40)) {
            let path = path(&name);
            prop_assert!(path.is_ascii());
            prop_assert_eq!(decode(&path, false).unwrap(), name);
        }
    }

    #[test]
    fn a_query_is_read_as_bytes() {
        let query = Query::read(Some("prefix=a%2Fb+c%FF&wait=30&since=&since=x")).unwrap();
        assert_eq!(query.bytes("prefix").unwrap(), Some(&b"a/b c\xff"[..]));
        assert_eq!(query.number("wait", 0, 60).unwrap(), Some(30));
        assert!(query.number("wait", 0, 29).is_err() && query.text("prefix").is_err() && query.bytes("since").is_err());
        assert_eq!(query.bytes("none").unwrap(), None);
        for bad in ["%", "a=%4", "a=%zz", "%+1"] {
            assert!(Query::read(Some(bad)).is_err(), "{bad}");
        }
        assert_eq!(path(b"a/../%\xff b"), "a/%2E%2E/%25%FF%20b");
    }
}
