//! The join link: everything `lockstep join` needs in one word that survives terminals, shells and chat programs.
//!
//! Text: `lsj1.HOST.PORT.FINGERPRINT.INVITE.CHECK`, where
//! - `HOST` is a name or an address, IPv6 without brackets (`lsj1.2001:db8::7.7117...`), which may itself have dots: the
//!   fields are counted from the right;
//! - `FINGERPRINT` is the hash of the hub's public key at its full strength, 52 characters of base32: the client refuses
//!   any other hub before it says anything;
//! - `INVITE` is an invite's code, 26 characters, or `open` where none is needed;
//! - `CHECK` is 4 characters over all before it, so a link that was cut short or mistyped is told as such and does not
//!   look like another hub.
//!
//! Only letters, digits and `.`, `:`, `-`, `_`, `%` occur: no shell needs quotes around it, and a double click takes it
//! whole. (A URL was rejected: `?` and `&` mean something to shells, and so do the brackets of IPv6.)

use crate::base32;
use crate::secret::{RandomError, fill_random};
use std::fmt;
use std::net::Ipv6Addr;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// The longest link that is looked at.
pub const LINK_BYTES_MAX: usize = 512;
/// The longest host name there is.
const HOST_BYTES_MAX: usize = 253;
/// What every link of this form begins with.
const PREFIX: &str = "lsj1";
/// Stands where an invite's code would.
const NO_INVITE: &str = "open";
/// Characters of five bits in an invite's code.
const INVITE_SYMBOLS: usize = 26;
/// Check characters at the end.
const CHECK_SYMBOLS: usize = 4;

/// Where a hub is, which key it has, and the right to enrol. Shows its invite only through [`JoinLink::reveal`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinLink {
    host: String,
    port: u16,
    fingerprint: Fingerprint,
    invite: Option<InviteCode>,
}

impl JoinLink {
    /// A link to the hub at `host` (a name or an address, IPv6 with or without brackets).
    ///
    /// # Errors
    /// When `host` or `port` cannot be right.
    pub fn new(
        host: &str,
        port: u16,
        fingerprint: Fingerprint,
        invite: Option<InviteCode>,
    ) -> Result<JoinLink, BadLink> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if !is_host(bare) {
            return Err(BadLink::Host);
        }
        if port == 0 {
            return Err(BadLink::Port);
        }
        Ok(JoinLink { host: bare.to_owned(), port, fingerprint, invite })
    }

    /// A link as somebody pasted it; blanks and line ends around it do not matter.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<JoinLink, BadLink> {
        let text = text.trim();
        if text.len() > LINK_BYTES_MAX {
            return Err(BadLink::Form);
        }
        let rest = text.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('.')).ok_or(BadLink::Form)?;
        let (checked, check) = text.rsplit_once('.').ok_or(BadLink::Form)?;
        let mut fields = rest.rsplitn(5, '.').skip(1);
        let (Some(invite), Some(fingerprint), Some(port), Some(host)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(BadLink::CutShort);
        };
        if !check.eq_ignore_ascii_case(&check_of(checked)) {
            return Err(BadLink::CutShort);
        }
        let fingerprint = Fingerprint::parse(fingerprint).ok_or(BadLink::CutShort)?;
        let port = port.parse().map_err(|_| BadLink::Port)?;
        let invite = match invite {
            NO_INVITE => None,
            code => Some(InviteCode::parse(code).ok_or(BadLink::CutShort)?),
        };
        JoinLink::new(host, port, fingerprint, invite)
    }

    /// Whether `text` means to be a link, right or wrong, and not an address.
    pub fn looks_like(text: &str) -> bool {
        text.trim().starts_with("lsj1.")
    }

    /// The link's text. Whoever has it may use the invite in it.
    pub fn reveal(&self) -> String {
        let invite = self.invite.as_ref().map_or(NO_INVITE.to_owned(), InviteCode::reveal);
        let text = format!("{PREFIX}.{}.{}.{}.{invite}", self.host, self.port, self.fingerprint.full());
        let check = check_of(&text);
        format!("{text}.{check}")
    }

    /// The host, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as one text, IPv6 in brackets.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The hub's fingerprint, to be pinned.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The invite.
    pub fn invite(&self) -> Option<&InviteCode> {
        self.invite.as_ref()
    }
}

/// Whether `host` is a name or an address (one of IPv6 without brackets), and nothing that a shell or another program would
/// take for more.
pub fn is_host(host: &str) -> bool {
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return false;
    }
    if host.contains(':') {
        let (address, scope) = host.split_once('%').unwrap_or((host, "0"));
        let scope_ok =
            !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        return scope_ok && address.parse::<Ipv6Addr>().is_ok();
    }
    // A leading hyphen would look like an option to whatever the host is handed to.
    let ends = [host.as_bytes()[0], host.as_bytes()[host.len() - 1]];
    ends.iter().all(u8::is_ascii_alphanumeric)
        && !host.contains("..")
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn check_of(text: &str) -> String {
    let hash = blake3::derive_key("lockstep join link check characters v1", text.to_ascii_uppercase().as_bytes());
    hash[..CHECK_SYMBOLS].iter().map(|&byte| char::from(base32::SYMBOLS[usize::from(byte & 31)])).collect()
}

/// A hub's identity: the BLAKE3 hash of its public key, as the DER of the `SubjectPublicKeyInfo` in its certificate. A
/// certificate made anew for the same key keeps it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a public key, given as the DER of its `SubjectPublicKeyInfo`.
    pub fn of(public_key_der: &[u8]) -> Fingerprint {
        Fingerprint(blake3::derive_key("lockstep hub fingerprint v1", public_key_der))
    }

    /// All of it as text: 52 characters.
    pub fn full(&self) -> String {
        base32::encode(&self.0)
    }

    /// All of it from a text, typed however; `None` for anything else.
    pub fn parse(text: &str) -> Option<Fingerprint> {
        base32::decode(text.as_bytes())?.try_into().ok().map(Fingerprint)
    }
}

/// A short form for people to compare: the first 100 bits, in groups of five.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = self.full();
        write!(f, "{}-{}-{}-{}", &full[..5], &full[5..10], &full[10..15], &full[15..20])
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// An invite's code: 130 random bits. Shows itself only through [`InviteCode::reveal`].
#[derive(Clone)]
pub struct InviteCode([u8; INVITE_SYMBOLS]);

impl InviteCode {
    /// A new one, from the OS's random bytes.
    ///
    /// # Errors
    /// When the OS gives none.
    pub fn fresh() -> Result<InviteCode, RandomError> {
        let mut random = [0; INVITE_SYMBOLS];
        fill_random(&mut random)?;
        Ok(InviteCode::from_random(random))
    }

    /// The code made of these random bytes, five bits of each. For tests that must repeat.
    pub fn from_random(random: [u8; 26]) -> InviteCode {
        InviteCode(random.map(|byte| byte & 31))
    }

    /// A code, typed however; `None` for anything else.
    pub fn parse(text: &str) -> Option<InviteCode> {
        let symbols: [u8; INVITE_SYMBOLS] = text.trim().as_bytes().try_into().ok()?;
        let mut values = [0; INVITE_SYMBOLS];
        for (value, symbol) in values.iter_mut().zip(symbols) {
            *value = base32::value(symbol)?;
        }
        Some(InviteCode(values))
    }

    /// The invite in what somebody pasted where one is asked for: its code, or the line or the
    /// join link that `lockstep invite` printed.
    pub fn within(text: &str) -> Option<InviteCode> {
        let text = text.split_ascii_whitespace().last()?;
        if JoinLink::looks_like(text) { JoinLink::parse(text).ok()?.invite } else { InviteCode::parse(text) }
    }

    /// The code's text.
    pub fn reveal(&self) -> String {
        self.0.iter().map(|&value| char::from(base32::SYMBOLS[usize::from(value)])).collect()
    }

    /// What the hub keeps of it.
    pub fn hash(&self) -> InviteHash {
        InviteHash(blake3::derive_key("lockstep invite v1", &self.0))
    }
}

impl fmt::Debug for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteCode(..)")
    }
}

/// Compares in constant time.
impl PartialEq for InviteCode {
    fn eq(&self, other: &InviteCode) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for InviteCode {}

/// The hash an invite is known by in the roster. Looking it up in a map gives nothing away: who could choose hashes that
/// share a beginning with a stored one would have to find preimages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InviteHash(pub [u8; 32]);

impl fmt::Debug for InviteHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteHash(..)")
    }
}

/// Why a text is no join link. The text itself is not repeated: it may hold an invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadLink {
    /// Something else.
    #[error("this is no join link: one begins with lsj1. and is printed by `lockstep hub` and `lockstep invite`")]
    Form,
    /// Its check characters do not agree.
    #[error("the join link was cut short or mistyped: copy all of it again, it is one word without blanks")]
    CutShort,
    /// No host.
    #[error("the host is neither a name nor an address")]
    Host,
    /// No port.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

#[cfg(test)]
#[path = "link/tests.rs"]
mod tests;
