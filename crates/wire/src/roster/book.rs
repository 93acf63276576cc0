//! The roster as plain values: every decision about it, and nothing that stores it.

use super::{Change, Client, Grant, Ground, Invite, InvitePurpose, Known, Next, Roster, RosterError, Token};
use crate::answer::ClientChange;
use crate::bearer::BearerHash;
use crate::id::ClientId;
use crate::limits::{NAME_BYTES_MAX, PROVISIONAL_MAX, TOKENS_MAX, TOKENS_OF_CLIENT_MAX, TOKENS_OF_CLIENTS_MAX};
use crate::link::InviteHash;
use crate::rights::{IdRange, Role, tags_changed};
use crate::unique_id::KeyHash;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// For how long the key of a lapsed id still confirms it, when nobody else took the id.
const LAPSED_MS_MAX: i64 = 7 * 24 * 3600 * 1000;
/// For how long an invite that cannot be used any more stays, so that what it is held by can give it back.
const INVITE_SPENT_MS_MAX: i64 = 24 * 3600 * 1000;

/// For how long an expired token is still listed as one.
const TOKEN_EXPIRED_MS_MAX: i64 = 7 * 24 * 3600 * 1000;
/// By so much the clock may have been ahead when a token was made. One of later is of a time when it was wrong, or it is wrong now:
/// else a token made then would be good for years.
const TOKEN_EARLY_MS_MAX: i64 = 24 * 3600 * 1000;

/// The roster as plain values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book {
    /// Shared with whoever looks at them: an answer over all of them copies none.
    clients: BTreeMap<ClientId, Arc<Client>>,
    invites: BTreeMap<InviteHash, Invite>,
    tokens: BTreeMap<BearerHash, Token>,
    /// Clients that a sweep has to look at: provisional ones, and those with a newer unique ID on its way.
    unsettled: BTreeSet<ClientId>,
    /// How many of the clients were revoked.
    revoked: usize,
}

impl Book {
    /// A book of these rows.
    pub fn new(clients: Vec<Client>, invites: Vec<Invite>, tokens: Vec<Token>) -> Book {
        let mut book = Book::default();
        book.apply(Change { clients, invites, tokens, ..Change::default() });
        book
    }

    /// One client, also when it has lapsed.
    pub fn client(&self, id: ClientId) -> Option<&Client> {
        self.clients.get(&id).map(|client| &**client)
    }

    /// The same, shared instead of copied.
    pub fn share(&self, id: ClientId) -> Option<Arc<Client>> {
        self.clients.get(&id).cloned()
    }

    /// Everybody known, by id. Lapsed ones are unknown and not among them.
    pub fn clients(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.clients_after(None)
    }

    /// As [`Book::clients`], those after `after` alone.
    pub fn clients_after(&self, after: Option<ClientId>) -> impl Iterator<Item = &Arc<Client>> {
        let after = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.clients.range(after).map(|(_, client)| client).filter(|client| is_listed(client))
    }

    /// How many there are, lapsed ones included.
    pub fn count(&self) -> usize {
        self.clients.len()
    }

    /// How many have a place: all but those who were revoked.
    pub fn places(&self) -> usize {
        self.clients.len() - self.revoked
    }

    /// An invite, also when it is of no use any more.
    pub fn invite(&self, hash: &InviteHash) -> Option<&Invite> {
        self.invites.get(hash)
    }

    /// Whom a token lets in now, if it is good: not expired, not of later than tomorrow, and its client neither revoked nor gone.
    pub fn token(&self, hash: &BearerHash, now_ms: i64) -> Option<&Token> {
        let lasts = |token: &&Token| token.created_at_ms.saturating_sub(TOKEN_EARLY_MS_MAX)..token.expires_at_ms;
        let token = self.tokens.get(hash).filter(|token| lasts(token).contains(&now_ms))?;
        let known = |id| matches!(self.clients.get(&id).map(|client| &client.known), Some(Known::Confirmed { .. }));
        token.client.is_none_or(known).then_some(token)
    }

    /// All tokens, the oldest first.
    pub fn tokens(&self) -> Vec<&Token> {
        let mut tokens: Vec<&Token> = self.tokens.values().collect();
        tokens.sort_by(|a, b| (a.created_at_ms, &a.name).cmp(&(b.created_at_ms, &b.name)));
        tokens
    }

    /// What a new token is called that nobody named: for a client by the names of its own alone, else by all there are, so that it
    /// can be told from each.
    pub fn free_token_name(&self, client: Option<ClientId>) -> String {
        let of_it = self.tokens.values().filter(|token| client.is_none() || token.client == client);
        let taken: BTreeSet<&str> = of_it.map(|token| token.name.as_str()).collect();
        let mut names = (1_u64..).map(|n| format!("token-{n}"));
        names.find(|name| !taken.contains(name.as_str())).unwrap_or_default()
    }

    /// See [`Roster::provisional_of`].
    pub fn provisional_of(&self, code: &InviteHash) -> Option<ClientId> {
        let mut of_code = self.unsettled.iter().filter(|id| {
            matches!(self.client(**id), Some(Client { known: Known::Provisional { origin, lapsed: false, .. }, .. })
                if origin.invite.as_ref() == Some(code))
        });
        match (of_code.next(), of_code.next()) {
            (Some(&id), None) => Some(id),
            _ => None,
        }
    }

    /// See [`Roster::next_free_id`].
    pub fn next_free_id(&self, among: Option<IdRange>) -> Option<ClientId> {
        let bound = self.invites.values().filter_map(|invite| match invite.purpose {
            InvitePurpose::Enrol(ids) => ids,
            InvitePurpose::Reissue(_) => None,
        });
        // Whoever is invited to some ids may have each of them that nobody has.
        let mut bound: Vec<IdRange> = if among.is_some() { Vec::new() } else { bound.collect() };
        bound.sort_by_key(|ids| ids.first);
        let among = among.unwrap_or(IdRange { first: ClientId::MIN, last: ClientId::MAX });
        let mut id = among.first;
        let after = |id: ClientId| ClientId::new(id.get() + 1).ok();
        let mut taken = self.clients.range(id..).map(|(id, _)| *id).peekable();
        let mut bound = bound.into_iter().peekable();
        while id <= among.last {
            // Both are sorted, so each is passed once, however many there are.
            if let Some(ids) = bound.next_if(|ids| ids.first <= id) {
                id = if ids.holds(id) { after(ids.last)? } else { id };
            } else if let Some(held) = taken.next_if(|held| *held <= id) {
                id = if held == id { after(id)? } else { id };
            } else {
                return Some(id);
            }
        }
        None
    }

    /// See [`Roster::issue`].
    ///
    /// # Errors
    /// When the grant does not fit what is known.
    pub fn plan_issue(&self, grant: &Grant) -> Result<Change, RosterError> {
        let unfit = || RosterError::Unfit { id: grant.id };
        let known = self.client(grant.id);
        let mut change = Change::default();
        match grant.ground {
            Ground::New => {
                if !known.is_none_or(|client| client.known.is_free()) {
                    return Err(unfit());
                }
                if let Some(code) = &grant.origin.invite {
                    change.invites.push(self.spent(code, grant.now_ms).ok_or_else(unfit)?);
                }
                let (mut rights, mut tags) = (grant.rights.clone(), grant.tags.clone());
                // What an administrator said of this id holds for whoever comes.
                if let Some(said) = known.filter(|client| client.administered) {
                    (rights, tags) = (said.rights.clone(), said.tags.clone());
                }
                let named = known.filter(|client| client.renamed);
                change.clients.push(Client {
                    id: grant.id,
                    name: named.map_or(&grant.name, |client| &client.name).clone(),
                    known: Known::Provisional {
                        hash: grant.hash,
                        origin: grant.origin.clone(),
                        issued_at_ms: grant.now_ms,
                        lapsed: false,
                    },
                    address: grant.origin.address.clone(),
                    transport: String::new(),
                    enrolled_at_ms: grant.now_ms,
                    last_login_ms: None,
                    last_seen_ms: None,
                    shares: Vec::new(),
                    version: String::new(),
                    values: Vec::new(),
                    rights,
                    tags,
                    renamed: named.is_some(),
                    administered: known.is_some_and(|client| client.administered),
                });
            }
            Ground::Lost => {
                let mut client = known.cloned().ok_or_else(unfit)?;
                let Known::Provisional { hash, issued_at_ms, lapsed: false, .. } = &mut client.known else {
                    return Err(unfit());
                };
                (*hash, *issued_at_ms) = (grant.hash, grant.now_ms);
                change.clients.push(client);
            }
            Ground::Reissue | Ground::ReissueLost => {
                let mut client = known.cloned().ok_or_else(unfit)?;
                let invite = grant.origin.invite.ok_or_else(unfit)?;
                let Known::Confirmed { next, .. } = &mut client.known else { return Err(unfit()) };
                if grant.ground == Ground::Reissue {
                    let spent = self.spent(&invite, grant.now_ms).ok_or_else(unfit)?;
                    // A reissue begun with another code and not finished gives that code back.
                    let before = next.as_ref().filter(|next| !next.lapsed && next.invite != invite);
                    change.invites.extend(before.and_then(|next| self.given_back(&next.invite)));
                    change.invites.push(spent);
                } else if !next.as_ref().is_some_and(|next| next.invite == invite && !next.lapsed) {
                    return Err(unfit());
                }
                *next = Some(Next { hash: grant.hash, invite, issued_at_ms: grant.now_ms, lapsed: false });
                change.clients.push(client);
            }
        }
        Ok(change)
    }

    /// See [`Roster::confirm`]; `None` where that says `false`.
    pub fn plan_confirm(&self, id: ClientId, hash: &KeyHash, now_ms: i64) -> Option<Change> {
        let mut client = self.client(id)?.clone();
        let mut change = Change::default();
        client.known = match client.known {
            Known::Provisional { hash: held, origin, lapsed, .. } => {
                if held != *hash {
                    return None;
                }
                if let (true, Some(code)) = (lapsed, &origin.invite) {
                    // It was used in time, so that it has expired since does not matter; that somebody else used it does.
                    let mut invite = self.invites.get(code)?.clone();
                    invite.uses_left = invite.uses_left.checked_sub(1)?;
                    change.invites.push(invite);
                }
                Known::Confirmed { hash: held, next: None }
            }
            Known::Confirmed { hash: held, next } => match next {
                Some(next) if next.hash == *hash => {
                    if let (true, Some(invite)) = (next.lapsed, self.invites.get(&next.invite)) {
                        change.invites.push(Invite { uses_left: invite.uses_left.saturating_sub(1), ..invite.clone() });
                    }
                    Known::Confirmed { hash: next.hash, next: None }
                }
                // An older unique ID that is still right changes nothing: the newer one stays on its way.
                _ if held == *hash => return Some(Change::default()),
                _ => return None,
            },
            Known::Revoked | Known::Expected => return None,
        };
        client.last_login_ms = Some(now_ms);
        change.clients.push(client);
        Some(change)
    }

    /// See [`Roster::sweep`].
    pub fn plan_sweep(&self, now_ms: i64) -> Change {
        let mut change = Change::default();
        let mut given_back: BTreeMap<InviteHash, u32> = BTreeMap::new();
        for client in self.unsettled.iter().filter_map(|id| self.client(*id)) {
            let (issued_at_ms, settled, code) = match &client.known {
                Known::Provisional { issued_at_ms, lapsed, origin, .. } => (*issued_at_ms, *lapsed, origin.invite),
                Known::Confirmed { next: Some(next), .. } => (next.issued_at_ms, next.lapsed, Some(next.invite)),
                Known::Confirmed { next: None, .. } | Known::Revoked | Known::Expected => continue,
            };
            // Copied only where something changes: this runs at every login, over all who are logging in.
            let with = |at_ms: i64, has_lapsed: bool| {
                let mut client = client.clone();
                match &mut client.known {
                    Known::Provisional { issued_at_ms, lapsed, .. }
                    | Known::Confirmed { next: Some(Next { issued_at_ms, lapsed, .. }), .. } => {
                        (*issued_at_ms, *lapsed) = (at_ms, has_lapsed);
                    }
                    Known::Confirmed { next: None, .. } | Known::Revoked | Known::Expected => {}
                }
                client
            };
            if issued_at_ms > now_ms {
                change.clients.push(with(now_ms, settled));
            } else if !settled && now_ms - issued_at_ms >= provisional_ms() {
                if let Some(code) = code {
                    *given_back.entry(code).or_default() += 1;
                }
                change.clients.push(with(issued_at_ms, true));
            } else if settled
                && now_ms - issued_at_ms >= LAPSED_MS_MAX
                && matches!(client.known, Known::Provisional { .. })
            {
                if client.renamed || client.administered {
                    change.clients.push(Client { known: Known::Expected, ..client.clone() });
                } else {
                    change.clients_gone.push(client.id);
                }
            }
        }
        for invite in self.invites.values() {
            let mut after = invite.clone();
            after.uses_left = after.uses.min(after.uses_left + given_back.get(&after.hash).unwrap_or(&0));
            if after.created_at_ms > now_ms {
                after.expires_at_ms -= after.created_at_ms - now_ms;
                after.created_at_ms = now_ms;
            }
            if now_ms.saturating_sub(after.expires_at_ms) >= INVITE_SPENT_MS_MAX {
                change.invites_gone.push(after.hash);
            } else if after != *invite {
                change.invites.push(after);
            }
        }
        let over = |token: &&Token| now_ms.saturating_sub(token.expires_at_ms) >= TOKEN_EXPIRED_MS_MAX;
        change.tokens_gone = self.tokens.values().filter(over).map(|token| token.hash).collect();
        change
    }

    /// A new invite.
    ///
    /// # Errors
    /// When it is a reissue for an id that is not confirmed.
    pub fn plan_invite(&self, invite: Invite) -> Result<Change, RosterError> {
        if let InvitePurpose::Reissue(id) = invite.purpose {
            match self.clients.get(&id).map(|client| &client.known) {
                Some(Known::Confirmed { .. }) => {}
                Some(Known::Revoked) => return Err(RosterError::Revoked { id }),
                Some(Known::Provisional { .. } | Known::Expected) | None => return Err(RosterError::Unknown { id }),
            }
        }
        Ok(Change { invites: vec![invite], ..Change::default() })
    }

    /// A new token. Clients' names and numbers are their own: none of them tells or takes anything of others, or of the hub's.
    ///
    /// # Errors
    /// When its owner has one of that name or too many, or its client is not one that could log in.
    pub fn plan_token(&self, token: Token) -> Result<Change, RosterError> {
        if let Some(id) = token.client {
            match self.clients.get(&id).map(|client| &client.known) {
                Some(Known::Confirmed { .. }) => {}
                Some(Known::Revoked) => return Err(RosterError::Revoked { id }),
                Some(Known::Provisional { .. } | Known::Expected) | None => return Err(RosterError::Unknown { id }),
            }
        }
        let mut of_owner = self.tokens.values().filter(|other| other.client == token.client);
        if of_owner.clone().any(|other| other.name == token.name) {
            return Err(RosterError::TokenTaken);
        }
        let most = if token.client.is_some() { TOKENS_OF_CLIENT_MAX } else { TOKENS_MAX };
        if of_owner.nth(most - 1).is_some() {
            return Err(RosterError::TokensFull { of: token.client, most });
        }
        let of_clients = self.tokens.values().filter(|other| other.client.is_some());
        if token.client.is_some() && of_clients.count() >= TOKENS_OF_CLIENTS_MAX {
            return Err(RosterError::TokensOfAllFull);
        }
        Ok(Change { tokens: vec![token], ..Change::default() })
    }

    /// The end of the token of that name, and whose it is. With `of`, one of this client's; else the hub's own, before that of
    /// the client that `name` begins with, as in `7/NAME`, before that of the only client that has one.
    ///
    /// # Errors
    /// When there is none, or it is not said whose is meant.
    pub fn plan_token_gone(&self, name: &str, of: Option<ClientId>) -> Result<(Change, Option<ClientId>), RosterError> {
        let find = |name: &str, of: Option<ClientId>| {
            self.tokens.values().find(|token| token.name == name && token.client == of)
        };
        let of_client = || {
            let (id, name) = name.split_once('/')?;
            find(name, Some(ClientId::new(id.parse().ok()?).ok()?))
        };
        let token = match (find(name, of), of) {
            (Some(token), _) => token,
            (None, Some(_)) => return Err(RosterError::TokenUnknown),
            (None, None) => match of_client() {
                Some(token) => token,
                None => {
                    let mut named: Vec<&Token> = self.tokens.values().filter(|token| token.name == name).collect();
                    named.sort_by_key(|token| token.client);
                    match named[..] {
                        [] => return Err(RosterError::TokenUnknown),
                        [token] => token,
                        _ => {
                            let of = named.iter().filter_map(|token| token.client).collect();
                            return Err(RosterError::TokenOfSeveral { of });
                        }
                    }
                }
            },
        };
        Ok((Change { tokens_gone: vec![token.hash], ..Change::default() }, token.client))
    }

    /// Never lets `id` in again: its hashes go, and so do the invites bound to it and its tokens.
    ///
    /// # Errors
    /// When nobody has that id.
    pub fn plan_revoke(&self, id: ClientId) -> Result<Change, RosterError> {
        let client = self.client(id).filter(|client| is_listed(client)).ok_or(RosterError::Unknown { id })?;
        let bound = self.invites.values().filter(|invite| {
            matches!(invite.purpose, InvitePurpose::Reissue(to) if to == id)
                || invite.purpose == InvitePurpose::Enrol(Some(IdRange::one(id)))
        });
        let invites_gone = bound.map(|invite| invite.hash).collect();
        let tokens = self.tokens.values().filter(|token| token.client == Some(id));
        let tokens_gone = tokens.map(|token| token.hash).collect();
        let revoked = Client { known: Known::Revoked, ..client.clone() };
        Ok(Change { invites_gone, tokens_gone, ..Change::client(revoked) })
    }

    /// Forgets `id`, as if it had never been: its hashes, the invites bound to it and its tokens.
    ///
    /// # Errors
    /// When nobody has that id.
    pub fn plan_leave(&self, id: ClientId) -> Result<Change, RosterError> {
        let Change { invites_gone, tokens_gone, .. } = self.plan_revoke(id)?;
        Ok(Change { clients_gone: vec![id], invites_gone, tokens_gone, ..Change::default() })
    }

    /// What an administrator changes of a known client, revoked ones included; with `expect` also of one that never came, which
    /// is expected from then on.
    ///
    /// # Errors
    /// When nobody has that id and none is expected, what is given is no name, tag or right, or nobody came yet who could be an
    /// admin.
    pub fn plan_administer(&self, id: ClientId, change: &ClientChange, expect: bool) -> Result<Change, RosterError> {
        let before = self.client(id).filter(|client| expect || is_listed(client));
        let mut after = match before {
            Some(client) => client.clone(),
            None if expect => Client::expected(id),
            None => return Err(RosterError::Unknown { id }),
        };
        // An inventory that calls a machine as it calls itself says nothing new.
        if let Some(name) = change.name.as_ref().filter(|name| !expect || **name != after.name) {
            if name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
                return Err(RosterError::Name);
            }
            after.renamed = !name.is_empty();
            after.name.clone_from(name);
        }
        let tags = change.tags.as_ref().map_or(Ok(after.tags.clone()), |all| tags_changed(&[], all, &[]))?;
        let tags = tags_changed(&tags, &change.tags_add, &change.tags_remove)?;
        let rights = after.rights.changed(&change.rights)?;
        if rights.role == Role::Admin
            && after.rights.role != Role::Admin
            && !matches!(after.known, Known::Confirmed { .. })
        {
            return Err(RosterError::AdminToBe { id });
        }
        let never_came = expect && after.known.is_free();
        after.administered |= (&tags, &rights) != (&after.tags, &after.rights) || never_came;
        (after.tags, after.rights) = (tags, rights);
        Ok(if Some(&after) == before { Change::default() } else { Change::client(after) })
    }

    /// A client whose row is changed by `edit`, where that makes a difference. An unknown id changes nothing.
    pub fn plan_edit(&self, id: ClientId, edit: impl FnOnce(&mut Client)) -> Change {
        let Some(before) = self.client(id) else { return Change::default() };
        let mut after = before.clone();
        edit(&mut after);
        if after == *before { Change::default() } else { Change::client(after) }
    }

    /// Makes a planned change. Applying what is returned undoes it, once everything that was applied later is undone.
    pub fn apply(&mut self, change: Change) -> Change {
        let mut undo = Change::default();
        for id in change.clients_gone {
            let gone = self.clients.remove(&id);
            self.revoked -= usize::from(gone.as_ref().is_some_and(|client| client.known == Known::Revoked));
            undo.clients.extend(gone.map(Arc::unwrap_or_clone));
            self.unsettled.remove(&id);
        }
        for client in change.clients {
            let id = client.id;
            match client.known {
                Known::Provisional { .. } | Known::Confirmed { next: Some(_), .. } => self.unsettled.insert(id),
                Known::Confirmed { next: None, .. } | Known::Revoked | Known::Expected => self.unsettled.remove(&id),
            };
            self.revoked += usize::from(client.known == Known::Revoked);
            match self.clients.insert(id, Arc::new(client)) {
                Some(before) => {
                    self.revoked -= usize::from(before.known == Known::Revoked);
                    undo.clients.push(Arc::unwrap_or_clone(before));
                }
                None => undo.clients_gone.push(id),
            }
        }
        for hash in change.invites_gone {
            undo.invites.extend(self.invites.remove(&hash));
        }
        for invite in change.invites {
            let hash = invite.hash;
            match self.invites.insert(hash, invite) {
                Some(before) => undo.invites.push(before),
                None => undo.invites_gone.push(hash),
            }
        }
        for hash in change.tokens_gone {
            undo.tokens.extend(self.tokens.remove(&hash));
        }
        for token in change.tokens {
            let hash = token.hash;
            match self.tokens.insert(hash, token) {
                Some(before) => undo.tokens.push(before),
                None => undo.tokens_gone.push(hash),
            }
        }
        undo
    }

    fn spent(&self, code: &InviteHash, now_ms: i64) -> Option<Invite> {
        let invite = self.invites.get(code).filter(|invite| invite.is_good(now_ms))?;
        Some(Invite { uses_left: invite.uses_left - 1, ..invite.clone() })
    }

    fn given_back(&self, code: &InviteHash) -> Option<Invite> {
        let invite = self.invites.get(code)?;
        Some(Invite { uses_left: invite.uses.min(invite.uses_left + 1), ..invite.clone() })
    }
}

/// A book is a roster that nothing survives: for tests, and for a hub's control socket that needs none.
impl Roster for Book {
    fn lookup(&self, id: ClientId) -> Option<Known> {
        self.client(id).map(|client| client.known.clone())
    }

    fn places(&self) -> usize {
        self.places()
    }

    fn lookup_invite(&self, code: &InviteHash) -> Option<Invite> {
        self.invite(code).cloned()
    }

    fn provisional_of(&self, code: &InviteHash) -> Option<ClientId> {
        self.provisional_of(code)
    }

    fn next_free_id(&self, among: Option<IdRange>) -> Option<ClientId> {
        self.next_free_id(among)
    }

    fn sweep(&mut self, now_ms: i64) -> Result<(), RosterError> {
        self.apply(self.plan_sweep(now_ms));
        Ok(())
    }

    fn issue(&mut self, grant: &Grant) -> Result<(), RosterError> {
        self.apply(self.plan_issue(grant)?);
        Ok(())
    }

    fn confirm(&mut self, id: ClientId, hash: &KeyHash, now_ms: i64) -> Result<bool, RosterError> {
        let change = self.plan_confirm(id, hash, now_ms);
        let confirmed = change.is_some();
        self.apply(change.unwrap_or_default());
        Ok(confirmed)
    }
}

/// Whether it counts as known: who never confirmed in time does not.
fn is_listed(client: &Client) -> bool {
    !matches!(client.known, Known::Provisional { lapsed: true, .. })
}

fn provisional_ms() -> i64 {
    i64::try_from(PROVISIONAL_MAX.as_millis()).unwrap_or(i64::MAX)
}
