//! What stands in a cell of a table, so that `pandas.read_csv(path)` reads it as it is and takes nothing for missing.

/// What a value begins with whose bytes follow in base64.
const BASE64: &str = "base64:";
/// Texts that pandas takes for a missing value, quoted or not, unless it is told otherwise. A test asks pandas itself.
const TAKEN_FOR_MISSING: [&str; 18] = [
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
];

/// A value: as it is where it is text that will be read as that, else its bytes in base64.
pub(super) fn value(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if is_plain(text) => text.to_owned(),
        _ => format!("{BASE64}{}", data_encoding::BASE64.encode(bytes)),
    }
}

/// Not one that would be taken for bytes or for missing, nor one with a NUL, which ends a field for some readers.
fn is_plain(text: &str) -> bool {
    !text.starts_with(BASE64) && !text.contains('\0') && !TAKEN_FOR_MISSING.contains(&text)
}

/// A name: escaped as everywhere, and one that would be taken for missing by its first character.
pub(super) fn name(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if TAKEN_FOR_MISSING.contains(&text) => format!("\\x{:02x}{}", bytes[0], &text[1..]),
        _ => tree::path::escape(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_taken_for_missing_stands_there_in_another_form() {
        assert_eq!(name(b"NA"), "\\x4eA");
        assert_eq!(value(b"NA"), "base64:TkE=");
        for text in TAKEN_FOR_MISSING {
            assert!(text.is_ascii());
            for cell in [name(text.as_bytes()), value(text.as_bytes())] {
                assert!(!TAKEN_FOR_MISSING.contains(&cell.as_str()), "{cell}");
            }
        }
        assert_eq!((name(b"NAS"), value(b"Nana")), ("NAS".to_owned(), "Nana".to_owned()));
    }
}
