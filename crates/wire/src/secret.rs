//! Texts and tokens that let somebody in: they travel and are stored nowhere else, and never show themselves in a log.

use serde::{Deserialize, Serialize};
use std::fmt;
use subtle::ConstantTimeEq;

/// A secret text. Its `Debug` shows nothing of it; [`Secret::reveal`] does.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Its length in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Compares in a time that depends on the lengths alone.
impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

/// What attaches a further connection to a session: 32 random bytes. Its `Debug` shows nothing of it.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub [u8; 32]);

impl Token {
    /// A new one, from the OS.
    ///
    /// # Errors
    /// When the OS gives no random bytes.
    pub fn fresh() -> Result<Token, RandomError> {
        let mut bytes = [0; 32];
        fill_random(&mut bytes)?;
        Ok(Token(bytes))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Compares in constant time. A token is no key of a map for that reason: compare it with the session's.
impl PartialEq for Token {
    fn eq(&self, other: &Token) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Token {}

/// Fills `bytes` with random ones from the OS.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), RandomError> {
    getrandom::fill(bytes).map_err(|error| RandomError(error.to_string()))
}

/// The OS gives no random bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers: {0}")]
pub struct RandomError(pub(crate) String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show_themselves() {
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "Secret(..)");
        assert_eq!(format!("{:?}", Token([7; 32])), "Token(..)");
        assert!(Secret::from("a") == Secret::from("a") && Secret::from("a") != Secret::from("b"));
        assert!(Token::fresh().unwrap() != Token::fresh().unwrap());
    }
}
