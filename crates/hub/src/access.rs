//! What somebody may: the rights of the roster, judged in one place for every transport.
//!
//! Whatever gives or takes something of the hub asks for an [`Access`], so no transport can forget to look: the boards are
//! followed through [`Hub::to_follow`](crate::core::Hub::to_follow) alone, values are put and got through [`crate::data::Data`],
//! and what is told of shares and clients is made for whoever asks.
//!
//! The rules are the same everywhere. A follow gives what of it may be read, and is refused where that can be nothing. A single
//! name outside of what is allowed is refused, whether there is such a value, share or client or not, so nobody learns which
//! there are. What a client says of itself – that it is here, its vitals, what it holds – is no right and always heard.

use crate::answers::refusal;
use board::Pattern;
use std::borrow::Cow;
use std::sync::Arc;
use wire::id::ClientId;
use wire::message::{Code, Refusal};
use wire::rights::{Rights, Role, Sees};

/// What somebody may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// As whom; 0 for the hub's own machine.
    id: u64,
    read: Allowed,
    put: Allowed,
    join: Allowed,
    sees: Sees,
    administers: bool,
}

/// Some names; `None`: all.
type Allowed = Option<Arc<[Pattern]>>;

impl Access {
    /// The hub's own machine, which may everything.
    pub(crate) fn everything() -> Access {
        Access { id: 0, read: None, put: None, join: None, sees: Sees::All, administers: true }
    }

    /// A client with these rights.
    pub(crate) fn of(id: ClientId, rights: &Rights) -> Access {
        let put = if rights.role == Role::Observer { Some(Arc::default()) } else { allowed(rights.put.as_deref()) };
        let administers = rights.role == Role::Admin;
        Access {
            id: id.get(),
            read: allowed(rights.read.as_deref()),
            put,
            join: allowed(rights.shares.as_deref()),
            sees: if administers { Sees::All } else { rights.clients },
            administers,
        }
    }

    /// One who may nothing: it is not known any more.
    pub(crate) fn nothing(id: ClientId) -> Access {
        let none = || Some(Arc::default());
        Access { id: id.get(), read: none(), put: none(), join: none(), sees: Sees::Itself, administers: false }
    }

    /// The same, for who signs a request over HTTP: it puts and administers only where that is said as well, as it is of a token.
    pub(crate) fn by_request(self, may_put: bool, administers: bool) -> Access {
        let put = if may_put { self.put } else { Some(Arc::default()) };
        Access { put, administers: self.administers && administers, ..self }
    }

    /// As whom; 0 for the hub's own machine.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whether it may follow everything.
    pub(crate) fn reads_all(&self) -> bool {
        self.read.is_none()
    }

    /// Whether it may follow anything.
    pub(crate) fn reads_some(&self) -> bool {
        self.read.as_ref().is_none_or(|read| !read.is_empty())
    }

    /// Whether it may have the value of this name.
    pub(crate) fn reads(&self, name: &[u8]) -> bool {
        matches(&self.read, name)
    }

    /// What of `pattern` of a board it may follow.
    ///
    /// # Errors
    /// When that is nothing.
    pub(crate) fn to_follow(&self, board: &str, pattern: Pattern) -> Result<Pattern, Refusal> {
        match board.strip_prefix("share/") {
            Some(share) => self.to_join(share).map(|()| pattern),
            None if board == "fleet" => match self.sees {
                Sees::All => Ok(pattern),
                Sees::Itself => {
                    let of_itself = ["client/", "vitals/"].map(|kind| format!("{kind}{}", self.id));
                    let of_itself: Vec<Pattern> =
                        of_itself.iter().filter_map(|name| Pattern::parse(name).ok()).collect();
                    pattern.narrowed(&of_itself).ok_or_else(|| {
                        refusal(Code::NotAllowed, format!("this client sees no other: {}", self.cure("--clients all")))
                    })
                }
            },
            None => match &self.read {
                None => Ok(pattern),
                Some(read) => pattern.narrowed(read).ok_or_else(|| self.refused("read", &self.read, "--read PATTERN")),
            },
        }
    }

    /// Whether it may have the value of this name.
    ///
    /// # Errors
    /// When it may not.
    pub(crate) fn to_get(&self, name: &[u8]) -> Result<(), Refusal> {
        if self.reads(name) { Ok(()) } else { Err(self.refused("read", &self.read, "--read PATTERN")) }
    }

    /// Whether it may put or remove the value of this name.
    ///
    /// # Errors
    /// When it may not.
    pub(crate) fn to_put(&self, name: &[u8]) -> Result<(), Refusal> {
        if matches(&self.put, name) {
            Ok(())
        } else {
            Err(self.refused("put", &self.put, "--role client --put PATTERN"))
        }
    }

    /// Whether it may have the share of this name.
    pub(crate) fn joins(&self, share: &str) -> bool {
        matches(&self.join, share.as_bytes())
    }

    /// Whether it may have the share of this name.
    ///
    /// # Errors
    /// When it may not.
    pub(crate) fn to_join(&self, share: &str) -> Result<(), Refusal> {
        if self.joins(share) { Ok(()) } else { Err(self.refused("join", &self.join, "--share NAME")) }
    }

    /// Whether it may know of this client.
    pub(crate) fn sees(&self, id: u64) -> bool {
        self.sees == Sees::All || self.id == id
    }

    /// Whether it may know what this client may.
    pub(crate) fn sees_rights_of(&self, id: u64) -> bool {
        self.administers || self.id == id || self.id == 0
    }

    /// Whether it may know of this client.
    ///
    /// # Errors
    /// When it may not.
    pub(crate) fn to_see(&self, id: u64) -> Result<(), Refusal> {
        if self.sees(id) {
            return Ok(());
        }
        Err(refusal(Code::NotAllowed, format!("this client sees no other: {}", self.cure("--clients all"))))
    }

    /// Whether it may do what the hub's own machine can.
    ///
    /// # Errors
    /// When it may not.
    pub(crate) fn to_administer(&self) -> Result<(), Refusal> {
        if self.administers {
            return Ok(());
        }
        let text = "only the hub's own machine, or a client whose role is admin, may do that: run the command there";
        Err(refusal(Code::NotAllowed, text.into()))
    }

    fn refused(&self, verb: &str, allowed: &Allowed, flags: &str) -> Refusal {
        let names: Vec<Cow<'_, str>> = allowed.iter().flat_map(|list| list.iter()).map(shown).collect();
        let names = if names.is_empty() { "nothing".to_owned() } else { format!("only {}", names.join(", ")) };
        let mut text = format!("this client may {verb} {names}: {}", self.cure(flags));
        text.truncate(text.floor_char_boundary(wire::limits::REFUSAL_TEXT_BYTES_MAX));
        refusal(Code::NotAllowed, text)
    }

    fn cure(&self, flags: &str) -> String {
        format!("an administrator can change that (lockstep clients rights {} {flags})", self.id)
    }
}

/// What a client is told whose rights were changed; it comes back at once, and is given what it may now.
pub(crate) fn changed() -> Refusal {
    let text = "what this client may was changed: it comes in anew".to_owned();
    Refusal { code: Code::NotAllowed, text, retry_ms: Some(0) }
}

fn allowed(list: Option<&[String]>) -> Allowed {
    // One that is longer than any name matches nothing, so nothing is lost by leaving it out.
    list.map(|list| list.iter().filter(|text| !text.is_empty()).filter_map(|text| Pattern::parse(text).ok()).collect())
}

fn matches(allowed: &Allowed, name: &[u8]) -> bool {
    allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|pattern| pattern.matches(name)))
}

fn shown(pattern: &Pattern) -> Cow<'_, str> {
    String::from_utf8_lossy(pattern.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::rights::RightsChange;

    fn list(texts: &[&str]) -> Option<Vec<String>> {
        Some(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    fn access(change: RightsChange) -> Access {
        Access::of(ClientId::new(7).unwrap(), &Rights::default().changed(&change).unwrap())
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn without_restrictions_a_client_may_what_it_always_could() {
        let plain = access(RightsChange::default());
        assert!(plain.reads(b"x") && plain.to_put(b"x").is_ok() && plain.joins("s") && plain.sees(8));
        assert!(plain.to_administer().is_err());
        for board in ["data", "fleet", "share/s"] {
            assert_eq!(plain.to_follow(board, Pattern::all()), Ok(Pattern::all()), "{board}");
        }
    }

    #[test]
    fn an_observer_puts_nothing_and_an_admin_sees_all() {
        let observer = access(RightsChange { role: Some(Role::Observer), put: list(&["*"]), ..Default::default() });
        assert!(observer.reads(b"x") && observer.to_put(b"x").is_err());
        let admin = access(RightsChange { role: Some(Role::Admin), clients: Some(Sees::Itself), ..Default::default() });
        assert!(admin.to_administer().is_ok() && admin.sees(8) && admin.to_put(b"x").is_ok());
        let reads = admin.clone().by_request(false, false);
        assert!(reads.to_administer().is_err() && reads.to_put(b"x").is_err() && reads.reads(b"x"));
        let administers = admin.by_request(false, true);
        assert!(administers.to_administer().is_ok() && administers.to_put(b"x").is_err());
        let plain = access(RightsChange::default()).by_request(true, true);
        assert!(
            plain.to_administer().is_err() && plain.to_put(b"x").is_ok(),
            "a token gives nothing that its client has not"
        );
    }

    #[test]
    fn what_is_asked_for_is_cut_to_what_is_allowed_and_refused_where_that_is_nothing() {
        let some = access(RightsChange {
            read: list(&["a/*", "b"]),
            put: list(&[""]),
            shares: list(&["site"]),
            clients: Some(Sees::Itself),
            ..Default::default()
        });
        let of_all = some.to_follow("data", Pattern::all()).unwrap();
        assert!(of_all.matches(b"a/x") && of_all.matches(b"b") && !of_all.matches(b"c"));
        assert_eq!(some.to_follow("data", pattern("a/x*")), Ok(pattern("a/x*")));
        let fleet = some.to_follow("fleet", Pattern::all()).unwrap();
        assert!(fleet.matches(b"client/7") && fleet.matches(b"vitals/7") && !fleet.matches(b"client/77"));
        for (board, asked) in
            [("data", "c*"), ("data", "a"), ("fleet", "client/8"), ("share/other", "*"), ("share/none", "*")]
        {
            let refused = some.to_follow(board, pattern(asked)).unwrap_err();
            assert_eq!(refused.code, Code::NotAllowed, "{board} {asked}");
            assert!(refused.text.contains("clients rights 7"), "{}", refused.text);
        }
        assert!(some.to_get(b"a/x").is_ok() && some.to_get(b"c").is_err() && some.to_put(b"a/x").is_err());
        assert!(some.to_join("site").is_ok() && some.to_see(8).is_err() && some.to_see(7).is_ok());
        assert!(some.to_put(b"x").unwrap_err().text.contains("may put nothing"));
    }

    #[test]
    fn a_refusal_fits_whatever_is_allowed() {
        let long: Vec<String> = (0..16).map(|n| format!("{n:02}{}", "ä".repeat(120))).collect();
        let refused = access(RightsChange { read: Some(long), ..Default::default() }).to_get(b"x").unwrap_err();
        assert!(refused.text.len() <= wire::limits::REFUSAL_TEXT_BYTES_MAX);
    }
}
