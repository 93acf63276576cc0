//! Crockford's base32: digits and letters without I, L, O and U, read in either case, with O for 0 and I or L for 1.

use data_encoding::{Encoding, Specification};
use std::sync::LazyLock;

/// The characters, by value.
pub(crate) const SYMBOLS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

static ENCODING: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("0123456789ABCDEFGHJKMNPQRSTVWXYZ");
    spec.translate.from.push_str("abcdefghjkmnpqrstvwxyzOoIiLl");
    spec.translate.to.push_str("ABCDEFGHJKMNPQRSTVWXYZ001111");
    spec.encoding().expect("a constant specification without double symbols")
});

/// `bytes` as text; the last character is filled with zero bits.
pub(crate) fn encode(bytes: &[u8]) -> String {
    ENCODING.encode(bytes)
}

/// The bytes of a text that [`encode`] made, typed however; `None` for anything else.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    ENCODING.decode(text).ok()
}

/// The value of one character, typed however.
pub(crate) fn value(symbol: u8) -> Option<u8> {
    let symbol = match symbol.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    };
    SYMBOLS.iter().position(|&s| s == symbol).and_then(|at| u8::try_from(at).ok())
}
