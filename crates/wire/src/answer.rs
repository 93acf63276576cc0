//! Questions a person or a program asks a hub, and what comes back: also the schema of `--json`.

use crate::message::{ShareInfo, Vitals};
use crate::secret::Secret;
use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Question {
    /// The hub, its shares and who is in sync.
    Status,
    /// The clients: active ones, or the whole roster.
    Clients {
        /// Also away, provisional and revoked ones.
        all: bool,
        /// Only those with an id above this: an answer holds at most [`crate::limits::CLIENT_ROWS_MAX`], by id.
        after: u64,
    },
    /// One client.
    Client {
        /// Its id.
        id: u64,
    },
    /// Whether everybody has everything up to this moment; answered when so, or at the timeout.
    Wait {
        /// A share or a value; `None`: every share, and the values of those that keep them as files.
        target: Option<String>,
        /// Only these; empty: every client that follows.
        #[serde(deserialize_with = "crate::bounded::vec::<_, _, { crate::limits::WAIT_CLIENTS_MAX }>")]
        clients: Vec<u64>,
        /// How long at most, in milliseconds.
        timeout_ms: u64,
    },
    /// A new invite.
    Invite {
        /// How often it may be used.
        uses: u32,
        /// For how long, seconds.
        expires_s: u64,
        /// Only for this id.
        id: Option<u64>,
    },
    /// Cut a client off and never let it in again.
    Revoke {
        /// Its id.
        id: u64,
    },
    /// A one-off invite with which a known id gets a new unique ID.
    Reissue {
        /// Its id.
        id: u64,
    },
    /// Let the deletions that the guard held go on, once.
    AllowDeletes {
        /// The share.
        share: String,
    },
    /// A new bearer token.
    Token {
        /// What it is for; `None`: the hub names it.
        name: Option<String>,
        /// As which client; `None`: as who asks.
        id: Option<u64>,
        /// Whether it may change values; else only read.
        may_put: bool,
        /// For how long, seconds.
        expires_s: u64,
    },
    /// The bearer tokens: all, or those of the client that asks.
    Tokens,
    /// The end of a bearer token.
    RevokeToken {
        /// Its name.
        name: String,
    },
    /// Copies of all that a backup holds, made while the hub goes on; on the hub's own machine.
    Backup,
    /// The client that asks leaves for good: its id is not known any more.
    Leave,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Question::Status`].
    Status(Status),
    /// To [`Question::Clients`] and [`Question::Client`].
    Clients(Vec<ClientRow>),
    /// To [`Question::Wait`].
    Wait(WaitAnswer),
    /// To [`Question::Invite`] and [`Question::Reissue`]: the join link.
    Link {
        /// To be given to `lockstep join`.
        link: Secret,
    },
    /// Done; nothing to tell.
    Done,
    /// To [`Question::Token`].
    Token {
        /// The token itself, shown this once.
        token: Secret,
        /// What is known of it.
        row: TokenRow,
    },
    /// To [`Question::Tokens`], the oldest first, at most [`crate::limits::TOKENS_MAX`].
    Tokens(Vec<TokenRow>),
    /// To [`Question::Backup`].
    Backup {
        /// Where the copies are: a directory on the hub's machine, which whoever asked takes away.
        directory: String,
    },
}

/// A bearer token, without its secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenRow {
    /// What it is for.
    pub name: String,
    /// As which client it signs in; 0: as the hub's own machine.
    pub id: u64,
    /// Whether it may change values.
    pub may_put: bool,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// From then on it is of no use; milliseconds since the Unix epoch.
    pub expires_at_ms: i64,
    /// Whether it lets in now: neither expired, nor its client revoked.
    pub good: bool,
}

/// The hub at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The hub's name.
    pub hub: String,
    /// Program version.
    pub version: String,
    /// Milliseconds since the Unix epoch.
    pub started_at_ms: i64,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Logged in now.
    pub clients_active: u64,
    /// Values on `data`.
    pub values: u64,
    /// Shares, with who is behind.
    pub shares: Vec<ShareStatus>,
    /// How many clients keep values as files and have the newest of all of them.
    pub values_in_sync: u64,
    /// How many keep values as files and have not.
    pub values_not_in_sync: u64,
    /// The first of those, at most [`crate::limits::BEHIND_MAX`].
    pub values_behind: Vec<Behind>,
}

/// A share at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShareStatus {
    /// Name and counts.
    pub info: ShareInfo,
    /// The directory on the hub.
    pub directory: String,
    /// The newest version's sequence number.
    pub head: u64,
    /// The root, in hex.
    pub root: String,
    /// What the hub cannot read or share, or why it holds deletions; empty when all is well.
    pub problems: Vec<String>,
    /// Deletions the guard holds.
    pub held_deletes: u64,
    /// How many clients follow and are at the head without problems.
    pub in_sync: u64,
    /// How many follow and are not.
    pub not_in_sync: u64,
    /// The first of those, at most [`crate::limits::BEHIND_MAX`].
    pub behind: Vec<Behind>,
}

/// A client that is not in sync, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Behind {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// What it lacks: a share or a value.
    pub what: String,
    /// One sentence.
    pub why: String,
}

/// Whether everybody has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaitAnswer {
    /// Everybody asked for is there, and every share asked for is what its directory holds.
    pub done: bool,
    /// How many are.
    pub in_sync: u64,
    /// How many are not.
    pub not_in_sync: u64,
    /// The first of those, at most [`crate::limits::BEHIND_MAX`].
    pub behind: Vec<Behind>,
    /// The shares that may not be what their directories hold: then nobody is known to have the newest.
    pub shares: Vec<ShareBehind>,
}

/// A share that may not be what its directory holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShareBehind {
    /// Its name.
    pub name: String,
    /// One sentence.
    pub why: String,
    /// All else is done: only a guard holds deletions.
    pub held: bool,
}

/// A client of the roster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientRow {
    /// Its id.
    pub id: u64,
    /// What people call it.
    pub name: String,
    /// active, away, revoked or provisional.
    pub state: ClientState,
    /// Where it came from last.
    pub address: String,
    /// How it talks.
    pub transport: String,
    /// Milliseconds since the Unix epoch.
    pub enrolled_at_ms: i64,
    /// Last login, milliseconds since the Unix epoch.
    pub last_login_ms: Option<i64>,
    /// Last sign of life, milliseconds since the Unix epoch.
    pub last_seen_ms: Option<i64>,
    /// Shares it follows.
    pub shares: Vec<ClientShare>,
    /// Its program's version.
    pub version: String,
    /// At the head of all it follows, without problems.
    pub in_sync: bool,
    /// Its newest vitals.
    pub vitals: Option<Vitals>,
    /// The values it keeps as files, by pattern.
    pub values: Vec<ClientShare>,
}

/// What a client holds of a share, or of the values of a pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientShare {
    /// The share's name, or the pattern.
    pub name: String,
    /// Everything up to here is in place.
    pub applied_seq: u64,
    /// And survives a power cut.
    pub durable_seq: u64,
    /// The hub's head now; of values, `applied_seq` where nothing newer matches the pattern.
    pub head: u64,
    /// Live entries held.
    pub entries: u64,
    /// Contents on their way.
    pub waiting: u32,
    /// Entries that could not be applied.
    pub problems: u32,
    /// The first few: path and text.
    #[serde(deserialize_with = "crate::bounded::vec::<_, _, { crate::limits::PROBLEMS_MAX }>")]
    pub first_problems: Vec<String>,
    /// Whether the root agreed at the last `current`.
    pub root_agrees: Option<bool>,
    /// Bytes of contents it received since it started.
    pub content_bytes: u64,
}

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientState {
    /// Logged in.
    Active,
    /// Known, not logged in.
    Away,
    /// Issued its unique ID, never confirmed.
    Provisional,
    /// Cut off.
    Revoked,
}

impl ClientState {
    /// The one word for it, in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            ClientState::Active => "active",
            ClientState::Away => "away",
            ClientState::Provisional => "provisional",
            ClientState::Revoked => "revoked",
        }
    }
}
