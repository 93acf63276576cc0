//! How bytes are written on a line, and read back exactly.
//!
//! What is clean stands as it is. Anything else stands in quotes, as a JSON string; bytes that are no UTF-8, for which JSON
//! has no way, are written `\xHH`. So whoever puts and gets text reads the lines of this hub with any JSON reader, and
//! there is one form, not one for each kind of value.

use std::fmt::Write as _;

/// Why quoted text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QuoteError {
    #[error("the quote is not closed: put \" at its end, and \\\" where a quote is meant inside")]
    Open,
    #[error("a blank is needed after the closing quote; inside quotes a quote is written \\\"")]
    Glued,
    #[error(
        "no such escape: inside quotes type \\\\ for a backslash, and \\\" \\n \\r \\t \\u00e9 \\xff for what they say"
    )]
    Escape,
    #[error("half of a surrogate pair: \\u stands for a character, two for one beyond ffff, \\x for a byte")]
    Surrogate,
}

/// What separates words, and does not count at the ends of a value.
pub(crate) const BLANKS: [char; 2] = [' ', '\t'];

/// Appends a name, or anything else that is one word: quoted unless it is clean and without blanks.
pub(crate) fn write_word(out: &mut String, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) if is_plain(text) && !text.contains(BLANKS) => out.push_str(text),
        _ => write_quoted(out, bytes),
    }
}

/// Appends a value, which ends its line: quoted unless it is clean.
pub(crate) fn write_value(out: &mut String, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) if is_plain(text) => out.push_str(text),
        _ => write_quoted(out, bytes),
    }
}

/// Whether text means itself where a value is read.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('"') && text.trim_matches(BLANKS) == text && !text.contains(is_special)
}

/// What could end a line, drive a terminal, or show a line as another than it is.
fn is_special(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn write_quoted(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                // Nothing special lies beyond the characters of four digits.
                c if is_special(c) => push(out, format_args!("\\u{:04x}", u32::from(c))),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            push(out, format_args!("\\x{byte:02x}"));
        }
    }
    out.push('"');
}

fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    out.write_fmt(arguments).ok();
}

/// Reads what follows an opening quote; what comes behind the closing one is returned as well, without leading blanks.
///
/// # Errors
/// Says what to type instead.
pub(crate) fn read_quoted(text: &str) -> Result<(Vec<u8>, &str), QuoteError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    loop {
        match rest.next().ok_or(QuoteError::Open)? {
            '"' => break,
            '\\' => read_escape(&mut rest, &mut bytes)?,
            c => push_char(&mut bytes, c),
        }
    }
    let rest = rest.as_str();
    if !rest.is_empty() && !rest.starts_with(BLANKS) {
        return Err(QuoteError::Glued);
    }
    Ok((bytes, rest.trim_start_matches(BLANKS)))
}

fn read_escape(rest: &mut std::str::Chars<'_>, bytes: &mut Vec<u8>) -> Result<(), QuoteError> {
    let c = match rest.next().ok_or(QuoteError::Open)? {
        c @ ('"' | '\\' | '/') => c,
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'x' => {
            bytes.push(u8::try_from(hex(rest, 2)?).map_err(|_| QuoteError::Escape)?);
            return Ok(());
        }
        'u' => match hex(rest, 4)? {
            high @ 0xd800..=0xdbff => {
                let low = match (rest.next(), rest.next()) {
                    (Some('\\'), Some('u')) => hex(rest, 4)?,
                    _ => return Err(QuoteError::Surrogate),
                };
                let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400).ok_or(QuoteError::Surrogate)?;
                char::from_u32(0x10000 + ((high - 0xd800) << 10) + low).ok_or(QuoteError::Surrogate)?
            }
            unit => char::from_u32(unit).ok_or(QuoteError::Surrogate)?,
        },
        _ => return Err(QuoteError::Escape),
    };
    push_char(bytes, c);
    Ok(())
}

fn hex(rest: &mut std::str::Chars<'_>, digits: usize) -> Result<u32, QuoteError> {
    let mut value = 0;
    for _ in 0..digits {
        let digit = rest.next().ok_or(QuoteError::Open)?.to_digit(16).ok_or(QuoteError::Escape)?;
        value = value << 4 | digit;
    }
    Ok(value)
}

fn push_char(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(bytes: &[u8]) -> String {
        let mut out = String::new();
        write_value(&mut out, bytes);
        out
    }

    #[test]
    fn what_is_clean_stands_as_it_is_and_all_else_in_quotes() {
        for plain in ["42", "two words", "{\"a\": \"x\\ny\"}", "C:\\dir", "é 💡", "#", "a\"b"] {
            assert_eq!(value(plain.as_bytes()), plain);
        }
        for (bytes, quoted) in [
            (&b""[..], r#""""#),
            (b" a", r#"" a""#),
            (b"a\n", r#""a\n""#),
            (b"\"a\\b\"", r#""\"a\\b\"""#),
            (b"\x1b[31m", r#""\u001b[31m""#),
            (b"\xff\x00", r#""\xff\u0000""#),
            ("a\u{202e}b".as_bytes(), r#""a\u202eb""#),
        ] {
            assert_eq!(value(bytes), quoted);
        }
        let mut word = String::new();
        write_word(&mut word, b"two words");
        assert_eq!(word, "\"two words\"");
    }

    #[test]
    fn what_json_writes_is_read() {
        for text in ["a/b", "é\u{1f4a1}", "\u{8}\u{c}\n\r\t\"\\", "\u{ffff}"] {
            let json = serde_json::to_string(text).unwrap();
            let ascii: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            for quoted in [json, format!("\"{ascii}\"")] {
                assert_eq!(read_quoted(&quoted[1..]), Ok((text.as_bytes().to_vec(), "")), "{quoted}");
            }
        }
        assert_eq!(read_quoted("a\"  b \"c"), Ok((b"a".to_vec(), "b \"c")));
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        for (text, error) in [
            ("a", QuoteError::Open),
            ("a\\", QuoteError::Open),
            ("\\u00", QuoteError::Open),
            ("a\\\"", QuoteError::Open),
            ("a\"b", QuoteError::Glued),
            ("\\d\"", QuoteError::Escape),
            ("\\xg0\"", QuoteError::Escape),
            ("\\ud800\"", QuoteError::Surrogate),
            ("\\ud800\\u0041\"", QuoteError::Surrogate),
            ("\\udc00\"", QuoteError::Surrogate),
        ] {
            assert_eq!(read_quoted(text), Err(error), "{text}");
        }
    }

    /// Bytes as they come, and such as are mostly of what needs care.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let tricky = prop::sample::select(b" \t\"\\nrxu0\n\r\0\x1b\x7f\xc3\xa9\xe2\x80\xa8\xff\xed\xa0".to_vec());
        prop_oneof![prop::collection::vec(any::<u8>(), 0..24), prop::collection::vec(tricky, 0..24)]
    }

    proptest! {
        #[test]
        fn what_is_written_is_one_clean_line_and_reads_back_the_same(bytes in bytes()) {
            for (line, word) in [(value(&bytes), false), ({ let mut out = String::new(); write_word(&mut out, &bytes); out }, true)] {
                prop_assert!(!line.is_empty() && !line.contains(is_special), "{line:?}");
                prop_assert!(!word || line.starts_with('"') || !line.contains(BLANKS), "{line:?}");
                match line.strip_prefix('"') {
                    Some(quoted) => prop_assert_eq!(read_quoted(quoted).unwrap(), (bytes.clone(), "")),
                    None => prop_assert_eq!(line.as_bytes(), &bytes),
                }
                if std::str::from_utf8(&bytes).is_ok() && line.starts_with('"') {
                    let json: String = serde_json::from_str(&line).unwrap();
                    prop_assert_eq!(json.as_bytes(), &bytes);
                }
            }
        }

        #[test]
        fn any_line_is_read_or_refused_without_harm(text in "\\PC{0,24}") {
            if let Ok((bytes, rest)) = read_quoted(&text) {
                prop_assert!(bytes.len() + rest.len() <= text.len());
            }
        }
    }
}
