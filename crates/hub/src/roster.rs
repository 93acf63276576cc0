//! The roster: who is known to this hub, and which invites are good. On disk before anybody is told.
//!
//! What is decided stands in [`wire::roster::Book`]; here it is kept, in one SQLite file that only its owner can read.
//! Every question is answered from memory, so a login of a known client touches no disk. A change is written and synced
//! first and made in memory after, in one transaction; when that fails, nothing has changed. The exception is what is
//! merely worth knowing (last seen, address, shares followed): it is gathered and written by [`Roster::flush`].
//!
//! No secret is kept, only hashes of secrets, and no message from here shows even those.

mod store;

use std::collections::BTreeSet;
use std::path::Path;
use store::Store;
use wire::bearer::{Bearer, BearerHash};
use wire::id::ClientId;
use wire::link::{InviteCode, InviteHash};
use wire::roster::{Book, Change, Client, Grant, Invite, InvitePurpose, Known, RosterError, Token};
use wire::unique_id::KeyHash;

/// For how long a reissue is good.
pub(crate) const REISSUE_EXPIRES_MS: i64 = 24 * 3600 * 1000;
/// The longest life of an invite.
pub(crate) const INVITE_EXPIRES_MS_MAX: i64 = 366 * 24 * 3600 * 1000;

/// The longest life of a bearer token: ten years.
pub(crate) const TOKEN_DAYS_MAX: u64 = 3653;

/// The roster, in memory and on disk.
#[derive(Debug)]
pub struct Roster {
    book: Book,
    store: Store,
    /// Clients whose row in memory is newer than on disk.
    unwritten: BTreeSet<ClientId>,
}

impl Roster {
    /// Opens the roster in the file `path`, or begins one there. The file gets mode 0600.
    ///
    /// # Errors
    /// When it cannot be read or written, is of another release, or does not hold together; the text has the path.
    pub fn open(path: &Path) -> Result<Roster, RosterError> {
        let store = Store::open(path)?;
        let (clients, invites, tokens) = store.read()?;
        Ok(Roster { book: Book::new(clients, invites, tokens), store, unwritten: BTreeSet::new() })
    }

    /// Everybody known, by id; who never confirmed in time is not.
    pub fn list(&self) -> impl Iterator<Item = &Client> {
        self.book.clients()
    }

    /// One client; as in [`Roster::list`].
    pub fn client(&self, id: ClientId) -> Option<&Client> {
        self.book.client(id).filter(|client| !matches!(client.known, Known::Provisional { lapsed: true, .. }))
    }

    /// A new invite: the code is in the answer and nowhere else.
    ///
    /// # Errors
    /// When the roster cannot be written or the system gives no random numbers.
    pub fn new_invite(
        &mut self,
        uses: u32,
        expires_in_ms: i64,
        id: Option<ClientId>,
        now_ms: i64,
    ) -> Result<InviteCode, RosterError> {
        self.invite(InvitePurpose::Enrol(id), uses.max(1), expires_in_ms, now_ms)
    }

    /// A one-off invite with which the known client `id` gets a new unique ID. The old one stays right until the new one
    /// is confirmed.
    ///
    /// # Errors
    /// When nobody has that id, it was revoked, or as [`Roster::new_invite`].
    pub fn reissue(&mut self, id: ClientId, now_ms: i64) -> Result<InviteCode, RosterError> {
        self.invite(InvitePurpose::Reissue(id), 1, REISSUE_EXPIRES_MS, now_ms)
    }

    /// A new bearer token of that name, or of the first free one: the token is in the answer and nowhere else.
    ///
    /// # Errors
    /// When the name is taken, there are too many, its client could not log in, or as [`Roster::new_invite`].
    pub fn new_token(
        &mut self,
        name: Option<String>,
        client: Option<ClientId>,
        may_put: bool,
        expires_in_ms: i64,
        now_ms: i64,
    ) -> Result<(Bearer, Token), RosterError> {
        let bearer = Bearer::fresh().map_err(|error| RosterError::Storage(error.to_string()))?;
        let expires_at_ms = now_ms.saturating_add(expires_in_ms);
        let name = name.unwrap_or_else(|| self.free_token_name());
        let token = Token { hash: bearer.hash(), name, client, may_put, created_at_ms: now_ms, expires_at_ms };
        let change = self.book.plan_token(token.clone())?;
        self.make(change)?;
        Ok((bearer, token))
    }

    /// Ends the token of that name; one of this client's, where there is one named.
    ///
    /// # Errors
    /// When there is none, or the roster cannot be written.
    pub fn revoke_token(&mut self, name: &str, of: Option<ClientId>) -> Result<(), RosterError> {
        let change = self.book.plan_token_gone(name, of)?;
        self.make(change)
    }

    /// The token with this hash, if it lets in now.
    pub fn token(&self, hash: &BearerHash, now_ms: i64) -> Option<&Token> {
        self.book.token(hash, now_ms)
    }

    /// All tokens, the oldest first.
    pub fn tokens(&self) -> Vec<&Token> {
        self.book.tokens()
    }

    fn free_token_name(&self) -> String {
        let taken: BTreeSet<&str> = self.book.tokens().into_iter().map(|token| token.name.as_str()).collect();
        let mut names = (1_u64..).map(|n| format!("token-{n}"));
        names.find(|name| !taken.contains(name.as_str())).unwrap_or_default()
    }

    /// Never lets `id` in again. Its session is the caller's to cut.
    ///
    /// # Errors
    /// When nobody has that id or the roster cannot be written.
    pub fn revoke(&mut self, id: ClientId) -> Result<(), RosterError> {
        let change = self.book.plan_revoke(id)?;
        self.make(change)
    }

    /// A client is in. Written by the next [`Roster::flush`].
    pub fn note_login(&mut self, id: ClientId, about: &About<'_>, now_ms: i64) {
        self.edit(id, |client| {
            client.name = about.name.to_owned();
            client.address = about.address.to_owned();
            client.transport = about.transport.to_owned();
            client.version = about.version.to_owned();
            client.last_login_ms = Some(now_ms);
            client.last_seen_ms = Some(now_ms);
        });
    }

    /// A sign of life. Written by the next [`Roster::flush`].
    pub fn note_seen(&mut self, id: ClientId, now_ms: i64) {
        self.edit(id, |client| client.last_seen_ms = Some(now_ms));
    }

    /// The shares a client follows, and the patterns of the values that it keeps as files, each one line of text. Written
    /// by the next [`Roster::flush`].
    pub fn set_kept(&mut self, id: ClientId, shares: BTreeSet<String>, values: BTreeSet<String>) {
        self.edit(id, |client| {
            client.shares = shares.into_iter().collect();
            client.values = values.into_iter().collect();
        });
    }

    /// Writes what was gathered, in one transaction. To be called every few seconds, when a client leaves, and at the
    /// end.
    ///
    /// # Errors
    /// When the roster cannot be written; the next call tries again.
    pub fn flush(&mut self) -> Result<(), RosterError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let clients = self.unwritten.iter().filter_map(|&id| self.book.client(id).cloned()).collect();
        self.store.write(&Change { clients, ..Change::default() })?;
        self.unwritten.clear();
        Ok(())
    }

    fn invite(
        &mut self,
        purpose: InvitePurpose,
        uses: u32,
        expires_in_ms: i64,
        now_ms: i64,
    ) -> Result<InviteCode, RosterError> {
        let code = InviteCode::fresh().map_err(|error| RosterError::Storage(error.to_string()))?;
        let expires_in_ms = expires_in_ms.clamp(0, INVITE_EXPIRES_MS_MAX);
        let change = self.book.plan_invite(Invite {
            hash: code.hash(),
            purpose,
            uses,
            uses_left: uses,
            created_at_ms: now_ms,
            expires_at_ms: now_ms.saturating_add(expires_in_ms),
        })?;
        self.make(change)?;
        Ok(code)
    }

    fn edit(&mut self, id: ClientId, edit: impl FnOnce(&mut Client)) {
        let change = self.book.plan_edit(id, edit);
        if !change.is_empty() {
            self.unwritten.insert(id);
            self.book.apply(change);
        }
    }

    /// Disk first, memory after.
    fn make(&mut self, change: Change) -> Result<(), RosterError> {
        if change.is_empty() {
            return Ok(());
        }
        self.store.write(&change)?;
        for client in &change.clients {
            self.unwritten.remove(&client.id);
        }
        for id in &change.clients_gone {
            self.unwritten.remove(id);
        }
        self.book.apply(change);
        Ok(())
    }
}

/// What a login tells of a client.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// What people call its machine.
    pub name: &'a str,
    /// Where it came from.
    pub address: &'a str,
    /// How it talks.
    pub transport: &'a str,
    /// Its program's version.
    pub version: &'a str,
}

impl wire::roster::Roster for Roster {
    fn lookup(&self, id: ClientId) -> Option<Known> {
        self.book.client(id).map(|client| client.known.clone())
    }

    fn lookup_invite(&self, code: &InviteHash) -> Option<Invite> {
        self.book.invite(code).cloned()
    }

    fn provisional_of(&self, code: &InviteHash) -> Option<ClientId> {
        self.book.provisional_of(code)
    }

    fn next_free_id(&self) -> Option<ClientId> {
        self.book.next_free_id()
    }

    fn sweep(&mut self, now_ms: i64) -> Result<(), RosterError> {
        let change = self.book.plan_sweep(now_ms);
        self.make(change)
    }

    fn issue(&mut self, grant: &Grant) -> Result<(), RosterError> {
        let change = self.book.plan_issue(grant)?;
        self.make(change)
    }

    fn confirm(&mut self, id: ClientId, hash: &KeyHash, now_ms: i64) -> Result<bool, RosterError> {
        match self.book.plan_confirm(id, hash, now_ms) {
            Some(change) => self.make(change).map(|()| true),
            None => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests;
