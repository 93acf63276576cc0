//! The roster: who is known to this hub, and which invites are good. On disk before anybody is told.
//!
//! What is decided stands in [`wire::roster::Book`]; here it is kept, in one SQLite file that only its owner can read.
//! Every question is answered from memory, so a login of a known client touches no disk. A change is made in memory, where
//! the next decision sees it, and waits for the disk with all that come meanwhile: they share one synced transaction
//! ([`Registry`]). Nobody is told of it before; where the disk does not take it, it is undone in memory, with all that was
//! decided after it. What is merely worth knowing (last seen, address, shares followed) is gathered and written by
//! [`Registry::flush`].
//!
//! No secret is kept, only hashes of secrets, and no message from here shows even those.

mod registry;
mod store;

pub(crate) use registry::{Kept, Looking, Registry};
pub(crate) use store::FORMAT;

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use store::Store;
use tokio::sync::oneshot;
use wire::answer::{ClientChange, ImportRow, Imported};
use wire::bearer::{Bearer, BearerHash};
use wire::id::ClientId;
use wire::link::{InviteCode, InviteHash};
use wire::rights::{IdRange, Rights};
use wire::roster::{Book, Change, Client, Grant, Invite, InvitePurpose, Known, RosterError, Token};
use wire::unique_id::KeyHash;

/// For how long a reissue is good.
pub(crate) const REISSUE_EXPIRES_MS: i64 = 24 * 3600 * 1000;

/// What a bearer token may beyond reading, as far as whom it signs in as may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Powers {
    /// Put and remove values.
    pub(crate) put: bool,
    /// Administer.
    pub(crate) administer: bool,
}

/// The longest life of a bearer token: ten years.
pub(crate) const TOKEN_DAYS_MAX: u64 = 3653;

/// The roster in memory, and what of it is not on disk yet.
#[derive(Debug)]
pub(crate) struct Roster {
    book: Book,
    /// Clients whose row in memory is newer than on disk.
    unwritten: BTreeSet<ClientId>,
    /// What was changed and is not on disk, the oldest first.
    pending: VecDeque<Pending>,
    /// So many of them, the oldest, are being written.
    begun: usize,
    /// Nothing is written any more.
    closed: bool,
}

/// What an invite gives to whoever enrols by it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gives {
    /// One of these ids; `None`: any.
    pub(crate) ids: Option<IdRange>,
    pub(crate) rights: Rights,
    pub(crate) tags: Vec<String>,
}

/// A change on its way to disk.
#[derive(Debug)]
struct Pending {
    change: Arc<Change>,
    undo: Change,
    /// Clients that it takes from the unwritten ones.
    noted: Vec<ClientId>,
    /// It holds nothing but what is merely worth knowing.
    only_notes: bool,
    /// Who waits for it.
    waiting: Vec<Waiting>,
}

/// Where it is said that a change is on disk, or why it is not and was undone.
type Waiting = oneshot::Sender<Result<(), RosterError>>;

impl Roster {
    /// Reads the roster in the file `path`, or begins one there. The file gets mode 0600.
    ///
    /// # Errors
    /// When it cannot be read or written, is of another release, or does not hold together; the text has the path.
    fn open(path: &Path) -> Result<(Roster, Store), RosterError> {
        let store = Store::open(path)?;
        let (clients, invites, tokens) = store.read()?;
        let book = Book::new(clients, invites, tokens);
        let (unwritten, pending) = (BTreeSet::new(), VecDeque::new());
        Ok((Roster { book, unwritten, pending, begun: 0, closed: false }, store))
    }

    /// Everybody known, by id; who never confirmed in time is not.
    pub(crate) fn list(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.book.clients()
    }

    /// As [`Roster::list`], those after `after` alone.
    pub(crate) fn list_after(&self, after: Option<ClientId>) -> impl Iterator<Item = &Arc<Client>> {
        self.book.clients_after(after)
    }

    /// About how many there are: who never confirmed in time counts as well.
    pub(crate) fn count(&self) -> usize {
        self.book.count()
    }

    /// One client; as in [`Roster::list`].
    pub(crate) fn client(&self, id: ClientId) -> Option<&Client> {
        self.book.client(id).filter(|client| !matches!(client.known, Known::Provisional { lapsed: true, .. }))
    }

    /// As [`Roster::client`], shared instead of copied.
    pub(crate) fn share(&self, id: ClientId) -> Option<Arc<Client>> {
        self.client(id).and_then(|_| self.book.share(id))
    }

    /// A new invite: the code is in the answer and nowhere else.
    ///
    /// # Errors
    /// When the roster is closed or the system gives no random numbers.
    pub(crate) fn new_invite(
        &mut self,
        uses: u32,
        expires_in_ms: i64,
        gives: Gives,
        now_ms: i64,
    ) -> Result<InviteCode, RosterError> {
        self.invite(InvitePurpose::Enrol(gives.ids), uses.max(1), expires_in_ms, gives, now_ms)
    }

    /// A one-off invite with which the known client `id` gets a new unique ID. The old one stays right until the new one
    /// is confirmed.
    ///
    /// # Errors
    /// When nobody has that id, it was revoked, or as [`Roster::new_invite`].
    pub(crate) fn reissue(&mut self, id: ClientId, now_ms: i64) -> Result<InviteCode, RosterError> {
        self.invite(InvitePurpose::Reissue(id), 1, REISSUE_EXPIRES_MS, Gives::default(), now_ms)
    }

    /// A new bearer token of that name, or of the first free one: the token is in the answer and nowhere else.
    ///
    /// # Errors
    /// When who it is of has one of that name or too many, its client could not log in, or as [`Roster::new_invite`].
    pub(crate) fn new_token(
        &mut self,
        name: Option<String>,
        client: Option<ClientId>,
        may: Powers,
        expires_in_ms: i64,
        now_ms: i64,
    ) -> Result<(Bearer, Token), RosterError> {
        let bearer = Bearer::fresh().map_err(|error| RosterError::Storage(error.to_string()))?;
        let expires_at_ms = now_ms.saturating_add(expires_in_ms);
        let name = name.unwrap_or_else(|| self.book.free_token_name(client));
        let token = Token {
            hash: bearer.hash(),
            name,
            client,
            may_put: may.put,
            administers: may.administer,
            created_at_ms: now_ms,
            expires_at_ms,
        };
        let change = self.book.plan_token(token.clone())?;
        self.make(change)?;
        Ok((bearer, token))
    }

    /// Ends the token of that name, and says whose it was; see [`Book::plan_token_gone`].
    ///
    /// # Errors
    /// When there is none, it is not said whose is meant, or the roster is closed.
    pub(crate) fn revoke_token(&mut self, name: &str, of: Option<ClientId>) -> Result<Option<ClientId>, RosterError> {
        let (change, whose) = self.book.plan_token_gone(name, of)?;
        self.make(change)?;
        Ok(whose)
    }

    /// See [`Book::free_token_name`].
    pub(crate) fn free_token_name(&self, client: Option<ClientId>) -> String {
        self.book.free_token_name(client)
    }

    /// The token with this hash, if it lets in now.
    pub(crate) fn token(&self, hash: &BearerHash, now_ms: i64) -> Option<&Token> {
        self.book.token(hash, now_ms)
    }

    /// All tokens, the oldest first.
    pub(crate) fn tokens(&self) -> Vec<&Token> {
        self.book.tokens()
    }

    /// Never lets `id` in again. Its session is the caller's to cut.
    ///
    /// # Errors
    /// When nobody has that id or the roster is closed.
    pub(crate) fn revoke(&mut self, id: ClientId) -> Result<(), RosterError> {
        let change = self.book.plan_revoke(id)?;
        self.make(change)
    }

    /// Forgets `id`, which leaves of its own will. Its session is the caller's to end.
    ///
    /// # Errors
    /// As [`Roster::revoke`].
    pub(crate) fn leave(&mut self, id: ClientId) -> Result<(), RosterError> {
        let change = self.book.plan_leave(id)?;
        self.make(change)
    }

    /// Changes a client's name, tags or rights. Its session is the caller's to cut.
    ///
    /// # Errors
    /// When nobody has that id, what is given is none of them, or the roster is closed.
    pub(crate) fn administer(&mut self, id: ClientId, change: &ClientChange) -> Result<(), RosterError> {
        let change = self.book.plan_administer(id, change, false)?;
        self.make(change)
    }

    /// Takes over an inventory, all of it or nothing; gives which clients changed.
    ///
    /// # Errors
    /// When the roster is closed. Rows that are wrong are told in the answer.
    pub(crate) fn import(
        &mut self,
        rows: &[ImportRow],
        dry_run: bool,
    ) -> Result<(Imported, Vec<ClientId>), RosterError> {
        let (mut imported, mut whole, mut ids) = (Imported::default(), Change::default(), BTreeSet::new());
        for (number, row) in (0..).zip(rows) {
            let planned = ClientId::new(row.id).map_err(|bad| bad.to_string()).and_then(|id| {
                if !ids.insert(id) {
                    return Err(format!("id {id} stands in the inventory twice"));
                }
                self.book.plan_administer(id, &row.change, true).map_err(|error| error.to_string())
            });
            match planned {
                Ok(change) if change.is_empty() => imported.unchanged += 1,
                Ok(change) => {
                    imported.changed += 1;
                    whole.clients.extend(change.clients);
                }
                Err(why) => imported.wrong.push((number, why)),
            }
        }
        if dry_run || !imported.wrong.is_empty() {
            return Ok((imported, Vec::new()));
        }
        let ids = whole.clients.iter().map(|client| client.id).collect();
        self.make(whole)?;
        Ok((imported, ids))
    }

    /// A client is in. Written by the next [`Registry::flush`].
    pub(crate) fn note_login(&mut self, id: ClientId, about: &About<'_>, now_ms: i64) {
        self.edit(id, |client| {
            if !client.renamed {
                client.name = about.name.to_owned();
            }
            client.address = about.address.to_owned();
            client.transport = about.transport.to_owned();
            client.version = about.version.to_owned();
            client.last_login_ms = Some(now_ms);
            client.last_seen_ms = Some(now_ms);
        });
    }

    /// A sign of life. Written by the next [`Registry::flush`].
    pub(crate) fn note_seen(&mut self, id: ClientId, now_ms: i64) {
        self.edit(id, |client| client.last_seen_ms = Some(now_ms));
    }

    /// The shares a client follows, and the patterns of the values that it keeps as files, each one line of text. Written
    /// by the next [`Registry::flush`].
    pub(crate) fn set_kept(&mut self, id: ClientId, shares: BTreeSet<String>, values: BTreeSet<String>) {
        self.edit(id, |client| {
            client.shares = shares.into_iter().collect();
            client.values = values.into_iter().collect();
        });
    }

    fn invite(
        &mut self,
        purpose: InvitePurpose,
        uses: u32,
        expires_in_ms: i64,
        gives: Gives,
        now_ms: i64,
    ) -> Result<InviteCode, RosterError> {
        let code = InviteCode::fresh().map_err(|error| RosterError::Storage(error.to_string()))?;
        let change = self.book.plan_invite(Invite {
            hash: code.hash(),
            purpose,
            uses,
            uses_left: uses,
            created_at_ms: now_ms,
            expires_at_ms: now_ms.saturating_add(expires_in_ms),
            rights: gives.rights,
            tags: gives.tags,
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

    /// Memory first, so that whatever is decided next knows of it; nobody is told before it is on disk.
    fn make(&mut self, change: Change) -> Result<(), RosterError> {
        if change.is_empty() {
            return Ok(());
        }
        if self.closed {
            return Err(RosterError::Storage("the hub is stopping; nothing was changed, try again".into()));
        }
        let ids = change.clients.iter().map(|client| client.id).chain(change.clients_gone.iter().copied());
        let noted = ids.filter(|id| self.unwritten.remove(id)).collect();
        let undo = self.book.apply(change.clone());
        let change = Arc::new(change);
        self.pending.push_back(Pending { change, undo, noted, only_notes: false, waiting: Vec::new() });
        Ok(())
    }

    /// Sends on its way what is merely worth knowing; whether there was any.
    fn gather(&mut self) -> bool {
        let noted: Vec<ClientId> = std::mem::take(&mut self.unwritten).into_iter().collect();
        let clients: Vec<Client> = noted.iter().filter_map(|&id| self.book.client(id).cloned()).collect();
        if clients.is_empty() {
            return false;
        }
        let change = Arc::new(Change { clients, ..Change::default() });
        let undo = Change::default();
        self.pending.push_back(Pending { change, undo, noted, only_notes: true, waiting: Vec::new() });
        true
    }

    /// Whether something of this client that counts is not on disk.
    fn is_pending(&self, id: ClientId) -> bool {
        let of_it = |pending: &Pending| pending.change.clients.iter().any(|client| client.id == id);
        self.pending.iter().any(|pending| !pending.only_notes && of_it(pending))
    }

    /// Takes everything that waits, to be written as one; [`Roster::written`] is to follow.
    fn begin(&mut self) -> Vec<Arc<Change>> {
        self.begun = self.pending.len();
        self.pending.iter().map(|pending| Arc::clone(&pending.change)).collect()
    }

    /// What was begun is on disk, or is not and never will be; gives who is to be told so, and whether more than notes
    /// changed.
    fn written(&mut self, result: &Result<(), RosterError>) -> (Vec<Waiting>, bool) {
        let begun = std::mem::take(&mut self.begun);
        let done: Vec<Pending> = match result {
            Ok(()) => self.pending.drain(..begun).collect(),
            Err(_) => self.undo_all(),
        };
        let counts = done.iter().any(|pending| !pending.only_notes);
        (done.into_iter().flat_map(|pending| pending.waiting).collect(), counts)
    }

    /// What came after a change that is undone was decided with it in view, so it is undone as well.
    fn undo_all(&mut self) -> Vec<Pending> {
        let mut undone: Vec<Pending> = std::mem::take(&mut self.pending).into();
        for pending in undone.iter_mut().rev() {
            self.book.apply(std::mem::take(&mut pending.undo));
            self.unwritten.extend(&pending.noted);
        }
        undone
    }
}

/// Looks whether the roster in the file `path` can be read, migrating one of an older format.
///
/// # Errors
/// As [`Registry::start`].
pub(crate) fn look(path: &Path) -> Result<(), RosterError> {
    Roster::open(path).map(drop)
}

/// What a login tells of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    /// What people call its machine.
    pub(crate) name: &'a str,
    /// Where it came from.
    pub(crate) address: &'a str,
    /// How it talks.
    pub(crate) transport: &'a str,
    /// Its program's version.
    pub(crate) version: &'a str,
}

impl wire::roster::Roster for Roster {
    fn lookup(&self, id: ClientId) -> Option<Known> {
        self.book.client(id).map(|client| client.known.clone())
    }

    fn places(&self) -> usize {
        self.book.places()
    }

    fn lookup_invite(&self, code: &InviteHash) -> Option<Invite> {
        self.book.invite(code).cloned()
    }

    fn provisional_of(&self, code: &InviteHash) -> Option<ClientId> {
        self.book.provisional_of(code)
    }

    fn next_free_id(&self, among: Option<IdRange>) -> Option<ClientId> {
        self.book.next_free_id(among)
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
