//! The messages of the native transport, one enum a direction.
//!
//! Their bytes are a promise to the other side: a variant or a field is only ever added at the end, and a change of
//! meaning is a new [`crate::PROTOCOL_VERSION`]. Numbers that the client chooses (`fid`, `req`) come back unchanged.

use crate::answer::{Answer, Question};
use crate::ran::Ran;
use crate::secret::{Secret, Token};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A follow's or a request's number, chosen by the client, unique among its open ones.
pub type Number = u32;
/// The name of a board: `data`, `fleet`, or `share/NAME`.
pub type BoardName = String;
/// The hash a file's content or a chunk is known by: BLAKE3.
pub type Hash = [u8; 32];

/// What a client says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToHub {
    /// First on every connection.
    Hello {
        /// Lowest and highest protocol version spoken.
        versions: (u16, u16),
        /// Program and version, for the log.
        software: String,
        /// What this connection is for.
        purpose: Purpose,
    },
    /// Answers [`ToClient::AskId`].
    Id {
        /// As typed; the hub says what is wrong with it.
        id: String,
        /// An invite's code, where the client has one.
        invite: Option<Secret>,
        /// What people call this machine (its host name).
        name: String,
    },
    /// Answers [`ToClient::AskUniqueId`].
    UniqueId {
        /// As issued.
        unique_id: Secret,
    },
    /// Answers [`ToClient::AskUniqueId`] where the reply that issued it never arrived.
    Lost,
    /// Answers [`ToClient::Issued`]: it is saved here.
    Confirm,
    /// Follow a board, or stop (`pattern: None`).
    Follow {
        /// Number of this follow.
        fid: Number,
        /// Which board.
        board: BoardName,
        /// Which names: exact, a prefix with `*`, or `*`.
        #[serde(with = "crate::block")]
        pattern: Bytes,
        /// What the client has seen; `None` from the start.
        cursor: Option<Cursor>,
    },
    /// Ends a follow.
    Unfollow {
        /// Its number.
        fid: Number,
    },
    /// Puts a value to `data`, or removes it.
    Put {
        /// Number of this request.
        req: Number,
        /// The value's name.
        #[serde(with = "crate::block")]
        name: Bytes,
        /// Type and bytes; `None` removes.
        value: Option<Content>,
    },
    /// Asks for the newest value of one name of `data`.
    Get {
        /// Number of this request.
        req: Number,
        /// The value's name.
        #[serde(with = "crate::block")]
        name: Bytes,
    },
    /// What was applied of a follow.
    Ack(Ack),
    /// The machine's vitals, put to `fleet` as `vitals/ID`. The first of a session come after the follows of all that the
    /// client keeps: what it kept before and did not follow by then, it keeps no more.
    Vitals(Vitals),
    /// Anything else a person or program asks.
    Ask {
        /// Number of this request.
        req: Number,
        /// What.
        question: Question,
    },
    /// A sign of life; answered by [`ToClient::Pong`].
    Ping {
        /// Comes back.
        nonce: u64,
    },
    /// Asks for contents (bulk connections): each is answered, in any order, by [`ToClient::Content`],
    /// [`ToClient::Recipe`] or [`ToClient::Gone`].
    Want {
        /// The share they belong to.
        share: String,
        /// Their ids.
        #[serde(deserialize_with = "crate::bounded::vec::<_, _, { crate::limits::WANTS_MAX }>")]
        contents: Vec<Hash>,
    },
    /// Asks for chunks of a content whose recipe came (bulk connections).
    WantChunks {
        /// The share.
        share: String,
        /// The whole content's id.
        content: Hash,
        /// Indexes into its recipe, ascending.
        #[serde(deserialize_with = "crate::bounded::vec::<_, _, { crate::limits::WANTED_CHUNKS_MAX }>")]
        chunks: Vec<u32>,
    },
}

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Purpose {
    /// To log in.
    Login,
    /// To move contents for a session that is logged in.
    Bulk {
        /// [`ToClient::Welcome`]'s token.
        token: Token,
    },
    /// To ask, put, get and follow for a command on a machine whose agent is logged in.
    Relay {
        /// [`ToClient::Welcome`]'s token.
        token: Token,
    },
}

/// What the hub says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToClient {
    /// Answers [`ToHub::Hello`].
    Hello {
        /// The version spoken from here on.
        version: u16,
        /// Program and version.
        software: String,
        /// What people call this hub.
        hub: String,
    },
    /// Asks for the ID.
    AskId,
    /// A new client's unique ID: shown once, provisional until confirmed.
    Issued {
        /// Readable, with check characters.
        unique_id: Secret,
    },
    /// A known client must prove itself.
    AskUniqueId,
    /// No; the connection ends unless a question follows.
    Refused(Refusal),
    /// Logged in.
    Welcome(Welcome),
    /// A bulk or relay connection is attached.
    Attached,
    /// Answers [`ToHub::Follow`]; batches of `group` follow.
    Following {
        /// The follow's number.
        fid: Number,
        /// The number its batches carry.
        group: Number,
        /// The board's epoch.
        epoch: u128,
        /// The hub's run.
        run: u64,
        /// Whether the client's cursor was of no use.
        reset: bool,
    },
    /// The newest entries above the client's cursor.
    Batch(Batch),
    /// A put is on disk.
    PutDone {
        /// The request's number.
        req: Number,
        /// The board's version with it.
        version: Version,
    },
    /// Answers [`ToHub::Get`].
    Got {
        /// The request's number.
        req: Number,
        /// Version and value; `None` where there is none.
        value: Option<(Version, Stored)>,
    },
    /// Answers [`ToHub::Ask`].
    Answer {
        /// The request's number.
        req: Number,
        /// The answer.
        answer: Answer,
    },
    /// A request was not done.
    Failed {
        /// The request's or follow's number.
        req: Number,
        /// Why.
        refusal: Refusal,
    },
    /// Answers [`ToHub::Ping`].
    Pong {
        /// The ping's.
        nonce: u64,
    },
    /// The hub ends this session.
    Bye(Refusal),
    /// The whole of a small content (bulk).
    Content {
        /// Its id.
        content: Hash,
        /// Its bytes.
        #[serde(with = "crate::block")]
        bytes: Bytes,
    },
    /// The chunks of a large content, in order, in as many of these as it takes (bulk).
    Recipe {
        /// Its id.
        content: Hash,
        /// Index of the first chunk in here.
        first: u32,
        /// How many chunks the content has in all.
        total: u32,
        /// Hash and length of each.
        #[serde(deserialize_with = "crate::bounded::vec::<_, _, { crate::limits::CHUNKS_MAX }>")]
        chunks: Vec<(Hash, u32)>,
    },
    /// One chunk (bulk).
    Chunk {
        /// The whole content's id.
        content: Hash,
        /// Index into its recipe.
        index: u32,
        /// Its bytes.
        #[serde(with = "crate::block")]
        bytes: Bytes,
    },
    /// What was wanted is no more; a newer entry is coming (bulk).
    Gone {
        /// The content's id.
        content: Hash,
    },
}

/// A named value's type and bytes, as a client gives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// A media type, such as `text/plain`.
    pub content_type: String,
    /// The bytes.
    #[serde(with = "crate::block")]
    pub bytes: Bytes,
}

/// A value of `data` as the hub keeps it: what stands on the board, encoded by [`crate::codec::encode_stored`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// What the client gave.
    pub content: Content,
    /// Who put it: the client's id, 0 for the hub's own machine.
    pub by: u64,
    /// When, in milliseconds since the Unix epoch, by the hub's clock.
    pub at_ms: i64,
}

/// A board's version: which history, which start of the hub, which sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// New when history was lost.
    pub epoch: u128,
    /// Each start of the hub.
    pub run: u64,
    /// The board's sequence number.
    pub seq: u64,
}

/// What a client has seen of a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Everything up to here.
    pub version: Version,
    /// The newest sequence number the client was sent; a walk sends some above its head.
    pub seen: u64,
    /// Where a walk was cut.
    pub walk: Option<WalkMark>,
}

/// A walk by name: every name up to `upto` is at least as new as `head`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkMark {
    /// The head when the walk began.
    pub head: u64,
    /// The last name that is done.
    #[serde(with = "crate::block")]
    pub upto: Bytes,
    /// Whether what was held before counts for nothing.
    pub reset: bool,
}

/// Entries of a followed board. Encoded once for all clients of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// [`ToClient::Following`]'s.
    pub group: Number,
    /// The newest entries, parents before children.
    #[serde(deserialize_with = "crate::bounded::vec::<_, _, { crate::limits::BATCH_ENTRIES_MAX }>")]
    pub records: Vec<Record>,
    /// What the client's cursor is after them.
    pub mark: Mark,
}

/// One entry of a board.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    #[serde(with = "crate::block")]
    pub name: Bytes,
    /// Its sequence number.
    pub seq: u64,
    /// Its value; `None` is a tombstone.
    #[serde(with = "crate::block::option")]
    pub value: Option<Bytes>,
    /// A small file's content, sent along.
    #[serde(with = "crate::block::option")]
    pub inline: Option<Bytes>,
}

/// What a batch completes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Mark {
    /// Everything in (from, to].
    Live {
        /// The client's cursor before.
        from: u64,
        /// And after.
        to: u64,
        /// The head the batch was made from, at least `to`: entries that were replaced up to there are left out.
        view: u64,
        /// Only if the batch was encoded from one view of the complete board at its head: the share's root there
        /// (all zero for boards that have none).
        current: Option<Hash>,
    },
    /// A stretch of names of a walk.
    Walk {
        /// The head when the walk began.
        head: u64,
        /// The last name that is done.
        #[serde(with = "crate::block")]
        upto: Bytes,
        /// The walk is over: the cursor is `head` now.
        last: bool,
        /// What is held up to here and was not sent is to be dropped.
        reset: bool,
    },
}

/// What a client has applied of a follow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// The follow's number.
    pub fid: Number,
    /// Everything up to here is in place.
    pub applied: Version,
    /// Whether the client once stood at `current` in this epoch.
    pub complete: bool,
    /// Everything up to here survives a power cut.
    pub durable_seq: u64,
    /// Contents still on their way.
    pub waiting: u32,
    /// How many entries could not be applied.
    pub problems: u32,
    /// The first few of them, at most [`crate::limits::PROBLEMS_MAX`]: name and text.
    #[serde(deserialize_with = "crate::bounded::vec::<_, _, { crate::limits::PROBLEMS_MAX }>")]
    pub first_problems: Vec<(Bytes, String)>,
    /// Whether the root agreed at the last `current`; `None` before the first.
    pub root_agrees: Option<bool>,
    /// Live entries held.
    pub entries: u64,
    /// Bytes of contents received over the network since the agent started.
    pub content_bytes: u64,
    /// Deletions that a guard holds back here; also counted as a problem.
    pub held_deletes: u64,
    /// What became of the command of `--after` the last time, where there is one.
    pub after: Option<Box<Ran>>,
}

impl Ack {
    /// What is told by one who has applied all up to `applied`, with nothing open, and keeps nothing over a power cut.
    pub fn of(fid: Number, applied: Version, complete: bool) -> Ack {
        Ack {
            fid,
            applied,
            complete,
            durable_seq: 0,
            waiting: 0,
            problems: 0,
            first_problems: Vec::new(),
            root_agrees: None,
            entries: 0,
            content_bytes: 0,
            held_deletes: 0,
            after: None,
        }
    }
}

/// A machine's vitals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vitals {
    /// When sampled, milliseconds since the Unix epoch, by that machine's clock.
    pub at_ms: i64,
    /// Share of CPU time that was busy; `None` when not known.
    pub cpu_busy_pct: Option<f64>,
    /// Memory in use (total less available).
    pub mem_used_bytes: Option<u64>,
    /// Memory in all.
    pub mem_total_bytes: Option<u64>,
}

/// Why not, in words a person can act on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people: what is wrong and what to do.
    pub text: String,
    /// When it is worth trying again; `None`: not without a change.
    pub retry_ms: Option<u64>,
}

impl Refusal {
    /// Whether whoever is refused so has nothing to try again for, before somebody has done something: it is revoked, not
    /// known, without a good invite, or another machine has taken its place.
    pub fn is_for_good(&self) -> bool {
        let of_the_client = matches!(self.code, Code::NotProven | Code::NotInvited | Code::Revoked | Code::TakenOver);
        of_the_client && self.retry_ms.is_none()
    }
}

/// Why not, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Code {
    /// Not an ID.
    BadId,
    /// Unknown ID, wrong unique ID, revoked: one answer for all.
    NotProven,
    /// This hub takes no new clients, or not without an invite.
    NotInvited,
    /// Too many tries; wait.
    RateLimited,
    /// No common protocol version.
    Version,
    /// The bytes make no sense here.
    Protocol,
    /// Another login with the same proof took over.
    TakenOver,
    /// The id was revoked.
    Revoked,
    /// No sign of life, or no login, for too long.
    TimedOut,
    /// The hub stops.
    Stopping,
    /// Too many connections.
    Full,
    /// No such share, board, client or value.
    NotFound,
    /// This client may not.
    NotAllowed,
    /// Too large, too long, too many.
    Limit,
    /// The hub could not: its disk or its memory.
    HubFailed,
}

impl Code {
    /// What programs of others see, the same over every transport but the native one.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::BadId => "bad_id",
            Code::NotProven => "not_proven",
            Code::NotInvited => "not_invited",
            Code::RateLimited => "rate_limited",
            Code::Version => "version",
            Code::Protocol => "protocol",
            Code::TakenOver => "taken_over",
            Code::Revoked => "revoked",
            Code::TimedOut => "timed_out",
            Code::Stopping => "stopping",
            Code::Full => "full",
            Code::NotFound => "not_found",
            Code::NotAllowed => "not_allowed",
            Code::Limit => "limit",
            Code::HubFailed => "hub_failed",
        }
    }
}

/// What a client learns on logging in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The client's id; 0 on the hub's own control socket.
    pub id: u64,
    /// Attaches bulk and relay connections to this session.
    pub token: Token,
    /// The hub's name.
    pub hub: String,
    /// What it shares.
    #[serde(deserialize_with = "crate::bounded::vec::<_, _, { crate::limits::SHARES_MAX }>")]
    pub shares: Vec<ShareInfo>,
    /// A client that says nothing for this long is gone, milliseconds.
    pub silence_max_ms: u64,
}

/// A share in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShareInfo {
    /// Its name.
    pub name: String,
    /// Live entries.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Whether the first scan is done.
    pub complete: bool,
}
