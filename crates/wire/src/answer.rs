//! Questions a person or a program asks a hub, and what comes back: also the schema of `--json`.

use crate::message::{ShareInfo, Vitals};
use crate::ran::Ran;
use crate::rights::{IdRange, Rights, RightsChange};
use crate::secret::Secret;
use serde::{Deserialize, Serialize};

/// What is asked. As JSON it is the body of a request over HTTP: what need not be said may be left out, what is not known is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// The hub, its shares and who is in sync.
    Status,
    /// The clients: active ones, or the whole roster.
    Clients {
        /// Also away, provisional, revoked and expected ones.
        #[serde(default)]
        all: bool,
        /// Only those with an id above this: an answer holds at most [`crate::limits::CLIENT_ROWS_MAX`], by id, and fewer
        /// where they are long; none when there are no more.
        #[serde(default)]
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
        #[serde(default, deserialize_with = "crate::bounded::vec::<_, _, { crate::limits::WAIT_CLIENTS_MAX }>")]
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
        /// Only for these ids.
        ids: Option<IdRange>,
        /// What whoever enrols by it may, as a change of what everybody may.
        #[serde(default)]
        rights: RightsChange,
        /// What whoever enrols by it is tagged with.
        #[serde(default, deserialize_with = "crate::bounded::vec::<_, _, { crate::limits::CHANGE_LIST_MAX }>")]
        tags: Vec<String>,
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
        #[serde(default)]
        may_put: bool,
        /// For how long, seconds.
        expires_s: u64,
        /// Whether it may administer, as whom it signs in may.
        #[serde(default)]
        administers: bool,
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
    /// A name, tags or rights for a client; answered by its row.
    Administer {
        /// Its id.
        id: u64,
        /// What changes.
        change: ClientChange,
    },
    /// Clients that are to be known before they come: all of them, or where one is wrong none.
    Import {
        /// Who; the first row has number 0.
        #[serde(deserialize_with = "crate::bounded::vec::<_, _, { crate::limits::IMPORT_ROWS_MAX }>")]
        rows: Vec<ImportRow>,
        /// Only says what would be done.
        #[serde(default)]
        dry_run: bool,
    },
    /// Why something is, or is not, where it should be.
    Why {
        /// A share, a path in one, or a value; `None`: all that the client follows.
        target: Option<String>,
        /// At this client; `None`: everywhere.
        client: Option<u64>,
    },
    /// How a machine without the program gets that of this hub.
    Install,
}

/// What an administrator changes of a client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientChange {
    /// What people call it from now on; an empty one lets its machine say so again.
    pub name: Option<String>,
    /// All its tags.
    #[serde(deserialize_with = "crate::bounded::option_vec::<_, _, { crate::limits::CHANGE_LIST_MAX }>")]
    pub tags: Option<Vec<String>>,
    /// Tags to be added to them.
    #[serde(deserialize_with = "crate::bounded::vec::<_, _, { crate::limits::CHANGE_LIST_MAX }>")]
    pub tags_add: Vec<String>,
    /// Tags to be taken away.
    #[serde(deserialize_with = "crate::bounded::vec::<_, _, { crate::limits::CHANGE_LIST_MAX }>")]
    pub tags_remove: Vec<String>,
    /// Rights.
    pub rights: RightsChange,
}

/// One client of an inventory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRow {
    /// Its id.
    pub id: u64,
    /// What changes of a known client, and holds for one that is new.
    pub change: ClientChange,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// To [`Question::Tokens`], the oldest first, at most [`crate::limits::TOKENS_MAX`] and
    /// [`crate::limits::TOKENS_OF_CLIENTS_MAX`].
    Tokens(Vec<TokenRow>),
    /// To [`Question::Backup`].
    Backup {
        /// Where the copies are: a directory on the hub's machine, which whoever asked takes away.
        directory: String,
    },
    /// To [`Question::Import`].
    Imported(Imported),
    /// To [`Question::Why`].
    Why(Vec<WhyRow>),
    /// To [`Question::Install`].
    Install(Installer),
}

/// How a machine without the program gets that of a hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Installer {
    /// One line for a shell: it compares the SHA-256 of whatever it fetches before that runs. A join link may stand behind it.
    pub line: String,
    /// Where the program is.
    pub url: String,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// Its version.
    pub version: String,
    /// The oldest glibc that it runs with; `None`: it needs none.
    pub glibc: Option<String>,
}

/// One sentence of truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyRow {
    /// What it is about: a share, a path in one, or a value.
    pub what: String,
    /// At which client; `None`: at the hub, or everywhere.
    pub id: Option<u64>,
    /// The client's name.
    pub name: String,
    /// Whether it is there as it is now.
    pub has: bool,
    /// One word for programs: in_sync, newest, removed, behind, away, problem, unreadable, guarded, scanning, unknown, not_allowed,
    /// not_following, revoked, expected, provisional.
    pub reason: String,
    /// What is so, and what to do.
    pub text: String,
    /// Since when something is lacked, milliseconds since the Unix epoch; `None` where nothing is, or nobody knows.
    pub since_ms: Option<i64>,
}

/// What an import did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Imported {
    /// How many clients changed.
    pub changed: u64,
    /// How many were as the inventory says already.
    pub unchanged: u64,
    /// The rows that are wrong, by number, and why; where there is one, nothing was changed.
    pub wrong: Vec<(u64, String)>,
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
    /// Whether it may administer, as whom it signs in may.
    pub administers: bool,
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
    /// The last runs of `--after` on clients, at most [`crate::limits::BEHIND_MAX`]: of the client that asks, and for whoever
    /// administers those that failed on any.
    pub after: Vec<AfterStatus>,
    /// The hub's own commands, for whoever administers.
    pub on: Vec<OnStatus>,
}

/// What became of a command of `--after` the last time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AfterStatus {
    /// On which client.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Of which share, or which values.
    pub what: String,
    /// What became of it.
    pub ran: Ran,
}

/// A command that a hub runs when something happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnStatus {
    /// For which event: away, behind, double-id or guard.
    pub event: String,
    /// Which program.
    pub program: String,
    /// Whether it runs now.
    pub running: bool,
    /// Events that no run was told of yet.
    pub waiting: u64,
    /// Runs since the hub started.
    pub runs: u64,
    /// Of them, those that failed.
    pub failed: u64,
    /// The last one.
    pub last: Option<Ran>,
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

/// How the problem of a share begins of which nothing goes out, for its directory is another one.
pub const NOTHING_GOES_OUT: &str = "nothing goes out";

impl ShareStatus {
    /// Whether a guard holds all of it: who is in sync then has what went out last, and that need not be what is there.
    pub fn is_held_whole(&self) -> bool {
        // What is held is told last.
        self.problems.last().is_some_and(|problem| problem.starts_with(NOTHING_GOES_OUT))
    }
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
    /// Since when, milliseconds since the Unix epoch; `None` where nobody knows.
    pub since_ms: Option<i64>,
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
    /// active, away, revoked, provisional or expected.
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
    /// What people sort it by.
    pub tags: Vec<String>,
    /// What it may; `None` for who may not know.
    pub rights: Option<Rights>,
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
    /// Deletions that a guard holds back there.
    pub held_deletes: u64,
    /// What became of its command of `--after` the last time; of other clients only for whoever administers.
    pub after: Option<Ran>,
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
    /// Never came: an administrator said what it is to be called, and what it may.
    Expected,
}

impl ClientState {
    /// The one word for it, in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            ClientState::Active => "active",
            ClientState::Away => "away",
            ClientState::Provisional => "provisional",
            ClientState::Revoked => "revoked",
            ClientState::Expected => "expected",
        }
    }
}
