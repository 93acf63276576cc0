//! Who is known: what the login asks of a roster, and [`Book`], the roster as plain values.
//!
//! A book decides and stores nothing: `plan_*` says which rows an operation would change, and [`Book::apply`] makes the
//! change and says how to undo it. So a roster on disk may go on deciding while rows are being written: it tells nobody
//! what was decided before the disk holds it, and undoes what the disk did not take.
//!
//! The life of an id: unknown, or expected → provisional (issued, not confirmed) → confirmed → revoked. A provisional one lapses
//! after [`PROVISIONAL_MAX`](crate::limits::PROVISIONAL_MAX): it is unknown again to everybody but the holder of its key, and the invite that it used
//! is given back. Times are milliseconds since the Unix epoch and come in as arguments; a clock that went back starts
//! the time of what would otherwise lie in the future anew.

mod book;

pub use book::Book;

use crate::bearer::BearerHash;
use crate::id::ClientId;
use crate::link::InviteHash;
use crate::rights::{BadRights, IdRange, Rights};
use crate::unique_id::KeyHash;
use thiserror::Error;

/// What the login needs of a roster. One call after another on the same `&mut` is one step nobody comes between. What a
/// step says is told to its client once what it changed is kept.
pub trait Roster {
    /// What is known of `id`, also when it has lapsed.
    fn lookup(&self, id: ClientId) -> Option<Known>;
    /// How many have a place: lapsed and expected ones as well, the revoked ones not, whose ids are only kept from coming back.
    fn places(&self) -> usize;
    /// The invite, also when it is spent or has expired.
    fn lookup_invite(&self, code: &InviteHash) -> Option<Invite>;
    /// The provisional, not lapsed client that used this invite, where it is the only one.
    fn provisional_of(&self, code: &InviteHash) -> Option<ClientId>;
    /// The smallest id that nobody has and no invite is bound to; of `among`, where there is one, the smallest that nobody has.
    fn next_free_id(&self, among: Option<IdRange>) -> Option<ClientId>;
    /// Lets lapse what was not confirmed in time, and forgets what is over. To be called before looking anything up.
    ///
    /// # Errors
    /// When the roster cannot be written; nothing has changed then.
    fn sweep(&mut self, now_ms: i64) -> Result<(), RosterError>;
    /// Keeps the hash of a newly issued unique ID and spends the invite, in one.
    ///
    /// # Errors
    /// When the roster cannot be written or the grant does not fit what is known; nothing has changed then.
    fn issue(&mut self, grant: &Grant) -> Result<(), RosterError>;
    /// The client holds the unique ID with this hash: an id is provisional no more, an older unique ID ends. `false`,
    /// and nothing changed, when `hash` is not one of `id`'s, or its lapsed invite was given to somebody else.
    ///
    /// # Errors
    /// When the roster cannot be written; nothing has changed then.
    fn confirm(&mut self, id: ClientId, hash: &KeyHash, now_ms: i64) -> Result<bool, RosterError>;
}

/// What is known of an id: also where it stands in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Issued, not confirmed.
    Provisional {
        /// Of the unique ID it was issued.
        hash: KeyHash,
        /// To whom.
        origin: Origin,
        /// When, by the hub's clock.
        issued_at_ms: i64,
        /// Not confirmed in time: unknown again, except to the holder of its key.
        lapsed: bool,
    },
    /// Its client holds its unique ID.
    Confirmed {
        /// Of the unique ID.
        hash: KeyHash,
        /// A newer one, issued by a reissue and not yet confirmed; until then both are right.
        next: Option<Next>,
    },
    /// Never let in again.
    Revoked,
    /// Nobody came under this id yet: only what an administrator said of it is known. To who comes it is unknown.
    Expected,
}

impl Known {
    /// Whether somebody may come in as new under this id.
    pub fn is_free(&self) -> bool {
        matches!(self, Known::Provisional { lapsed: true, .. } | Known::Expected)
    }
}

/// A newer unique ID on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// Of the newer unique ID.
    pub hash: KeyHash,
    /// The reissue that it came from.
    pub invite: InviteHash,
    /// When, by the hub's clock.
    pub issued_at_ms: i64,
    /// Not confirmed in time: the reissue may be used again. The newer unique ID is still right.
    pub lapsed: bool,
}

/// To whom something was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The peer's address, without a port.
    pub address: String,
    /// The invite it used.
    pub invite: Option<InviteHash>,
}

/// A unique ID to be kept.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Whose.
    pub id: ClientId,
    /// What people call that machine.
    pub name: String,
    /// Of the unique ID.
    pub hash: KeyHash,
    /// To whom.
    pub origin: Origin,
    /// On which grounds.
    pub ground: Ground,
    /// What a new client may, and is tagged with; of no account on other grounds.
    pub rights: Rights,
    /// See there.
    pub tags: Vec<String>,
    /// When.
    pub now_ms: i64,
}

/// Why a unique ID is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The id is unknown. Spends the invite, where there is one.
    New,
    /// The one before was declared lost by its origin. Replaces it and spends nothing.
    Lost,
    /// A reissue for a confirmed id. Spends the invite.
    Reissue,
    /// The one of a reissue was declared lost by the invite's holder. Replaces it and spends nothing.
    ReissueLost,
}

/// A client of the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its id.
    pub id: ClientId,
    /// What people call it.
    pub name: String,
    /// Where it stands.
    pub known: Known,
    /// Where it came from last.
    pub address: String,
    /// How it talks.
    pub transport: String,
    /// When it was first issued its unique ID.
    pub enrolled_at_ms: i64,
    /// When it last logged in.
    pub last_login_ms: Option<i64>,
    /// Its last sign of life.
    pub last_seen_ms: Option<i64>,
    /// The shares it follows, sorted.
    pub shares: Vec<String>,
    /// Its program's version.
    pub version: String,
    /// Patterns of the values that it keeps as files, sorted; each one line of text.
    pub values: Vec<String>,
    /// What it may.
    pub rights: Rights,
    /// What people sort it by, sorted.
    pub tags: Vec<String>,
    /// Its name was given to it by an administrator; what its machine calls itself does not change it any more.
    pub renamed: bool,
    /// Its rights or tags were given to it by an administrator; who comes under this id as new keeps them.
    pub administered: bool,
}

impl Client {
    /// One that never came.
    pub fn expected(id: ClientId) -> Client {
        Client {
            id,
            name: String::new(),
            known: Known::Expected,
            address: String::new(),
            transport: String::new(),
            enrolled_at_ms: 0,
            last_login_ms: None,
            last_seen_ms: None,
            shares: Vec::new(),
            version: String::new(),
            values: Vec::new(),
            rights: Rights::default(),
            tags: Vec::new(),
            renamed: false,
            administered: false,
        }
    }
}

/// An invite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// It is known by its code's hash.
    pub hash: InviteHash,
    /// What it is for.
    pub purpose: InvitePurpose,
    /// How often it could be used at first.
    pub uses: u32,
    /// And can be still.
    pub uses_left: u32,
    /// When it was made.
    pub created_at_ms: i64,
    /// From when on it is of no use.
    pub expires_at_ms: i64,
    /// What whoever enrols by it may.
    pub rights: Rights,
    /// What whoever enrols by it is tagged with.
    pub tags: Vec<String>,
}

impl Invite {
    /// Whether it gives what nobody has without it.
    pub fn is_special(&self) -> bool {
        !self.rights.are_plain() || !self.tags.is_empty()
    }

    /// Whether it can be used now.
    pub fn is_good(&self, now_ms: i64) -> bool {
        self.uses_left > 0 && now_ms < self.expires_at_ms
    }
}

/// What an invite is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitePurpose {
    /// New clients; only of these ids where there are any.
    Enrol(Option<IdRange>),
    /// A new unique ID for a known client.
    Reissue(ClientId),
}

/// A bearer token: lets in programs that sign requests with it, as somebody and for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// It is known by its hash.
    pub hash: BearerHash,
    /// What it is for; no two of the same client, or of the hub's own, have the same.
    pub name: String,
    /// As whom; `None`: as the hub's own machine.
    pub client: Option<ClientId>,
    /// Whether it may change values; else only read.
    pub may_put: bool,
    /// Whether it may administer, as far as whom it signs in as may.
    pub administers: bool,
    /// When it was made.
    pub created_at_ms: i64,
    /// From when on it is of no use.
    pub expires_at_ms: i64,
}

/// Rows that an operation changes, none of them twice. Empty where it changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Written or written anew.
    pub clients: Vec<Client>,
    /// Removed.
    pub clients_gone: Vec<ClientId>,
    /// Written or written anew.
    pub invites: Vec<Invite>,
    /// Removed.
    pub invites_gone: Vec<InviteHash>,
    /// Written or written anew.
    pub tokens: Vec<Token>,
    /// Removed.
    pub tokens_gone: Vec<BearerHash>,
}

impl Change {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Change::default()
    }

    fn client(client: Client) -> Change {
        Change { clients: vec![client], ..Change::default() }
    }
}

/// Why a roster did not do something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RosterError {
    /// It could not be read or written; the text has the path and no secret.
    #[error("{0}")]
    Storage(String),
    /// The grant does not fit what is known: our own mistake.
    #[error("the roster does not allow a unique ID for id {id} on these grounds")]
    Unfit {
        /// Whose.
        id: ClientId,
    },
    /// Nobody has that id.
    #[error("there is no client {id}: `lockstep clients list --all` shows all")]
    Unknown {
        /// Which.
        id: ClientId,
    },
    /// That token's name is taken.
    #[error("there is a token of that name already: give it another --name, or revoke that one first")]
    TokenTaken,
    /// Nobody has a token of that name.
    #[error("there is no token of that name: `lockstep token list` shows all")]
    TokenUnknown,
    /// Several have a token of that name, and none of them is the hub's own.
    #[error("clients {} have a token of that name each: say whose, as in `lockstep token revoke {}/NAME`", listed(of), of[0])]
    TokenOfSeveral {
        /// Who, at least two.
        of: Vec<ClientId>,
    },
    /// Too many tokens of one owner.
    #[error("there are {most} tokens{} already: revoke some that are not used any more", of_whom(*of))]
    TokensFull {
        /// Of whom; `None`: the hub's own machine.
        of: Option<ClientId>,
        /// How many it may have.
        most: usize,
    },
    /// Too many tokens of all clients together.
    #[error(
        "the clients of this hub have {} tokens already: have some revoked that are not used any more",
        crate::limits::TOKENS_OF_CLIENTS_MAX
    )]
    TokensOfAllFull,
    /// Only a client that came in and confirmed may be an administrator: else it would be whoever comes first.
    #[error("client {id} has not come in yet: it may be made an admin once it has, or come by an invite for an admin")]
    AdminToBe {
        /// Which.
        id: ClientId,
    },
    /// A name that is none.
    #[error("a client's name has at most {} bytes and no control characters", crate::limits::NAME_BYTES_MAX)]
    Name,
    /// Rights, tags or ids that are none.
    #[error(transparent)]
    Rights(#[from] BadRights),
    /// A revoked client stays out.
    #[error("client {id} was revoked and stays out: give that machine another id")]
    Revoked {
        /// Which.
        id: ClientId,
    },
}

fn of_whom(client: Option<ClientId>) -> String {
    client.map_or_else(|| " of the hub's own".to_owned(), |id| format!(" of client {id}"))
}

/// Some of these ids; there may be as many as clients.
fn listed(ids: &[ClientId]) -> String {
    const NAMED_MAX: usize = 8;
    let named: Vec<String> = ids.iter().take(NAMED_MAX).map(ClientId::to_string).collect();
    let more = if ids.len() > NAMED_MAX { " and others" } else { "" };
    named.join(", ") + more
}

#[cfg(test)]
mod tests;
