//! Every limit of the protocol, each a constant that is checked where what it limits comes in.
//!
//! Sizes are bytes, spans are [`Duration`]. Raising a limit that the other side checks is a new
//! [`crate::PROTOCOL_VERSION`].

use std::time::Duration;

/// A frame's body, after login.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// A frame's body, before login: enough for every message of the login and nothing else.
pub const FRAME_BYTES_MAX_BEFORE_LOGIN: usize = 4 * 1024;

/// A value of `data`.
pub const VALUE_BYTES_MAX: usize = 256 * 1024;
/// The name of a value of `data`.
pub const VALUE_NAME_BYTES_MAX: usize = 256;
/// The name of an entry of a share, its whole path: what Linux calls `PATH_MAX`.
pub const ENTRY_NAME_BYTES_MAX: usize = 4096;
/// A media type.
pub const CONTENT_TYPE_BYTES_MAX: usize = 127;
/// A value as the hub keeps it: bytes, type, who and when.
pub const STORED_BYTES_MAX: usize = VALUE_BYTES_MAX + CONTENT_TYPE_BYTES_MAX + 64;

/// One content that travels with its entry.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;
/// How many entries of a batch may carry their content.
pub const INLINE_ENTRIES_MAX: usize = 64;
/// What a hub puts into one batch, unless a single entry is larger.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Entries of a batch. No entry encodes to less than four bytes, so [`BATCH_BYTES_MAX`] is always met first.
pub const BATCH_ENTRIES_MAX: usize = BATCH_BYTES_MAX / 4;

/// A content that travels whole; a larger one travels in chunks.
pub const CONTENT_WHOLE_BYTES_MAX: usize = 256 * 1024;
/// One chunk of a large content.
pub const CHUNK_BYTES_MAX: usize = FRAME_BYTES_MAX - 64;
/// Chunks in one message of a recipe; a longer recipe comes in several, in order.
pub const CHUNKS_MAX: usize = 16 * 1024;
/// Contents in one [`crate::message::ToHub::Want`].
pub const WANTS_MAX: usize = 256;
/// Chunks in one [`crate::message::ToHub::WantChunks`].
pub const WANTED_CHUNKS_MAX: usize = 1024;

/// Open follows of one connection; checked by the hub.
pub const FOLLOWS_MAX: usize = 64;
/// Problems named in one acknowledgement or answer; the others are counted.
pub const PROBLEMS_MAX: usize = 8;
/// The text of one problem.
pub const PROBLEM_TEXT_BYTES_MAX: usize = 512;
/// Clients in one answer; a larger roster is asked for in parts.
pub const CLIENT_ROWS_MAX: usize = 256;
/// Clients named in one answer as not in sync; the others are counted.
pub const BEHIND_MAX: usize = 500;
/// Clients named in one question.
pub const WAIT_CLIENTS_MAX: usize = 4096;
/// Patterns of values that one client keeps as files, so that a part of the list of clients always fits into its answer.
pub const KEPT_VALUES_MAX: usize = 8;
/// Shares of a hub.
pub const SHARES_MAX: usize = 1024;

/// What people call a machine: its host name. Also the name of a hub.
pub const NAME_BYTES_MAX: usize = 255;
/// Program and version.
pub const SOFTWARE_BYTES_MAX: usize = 128;
/// The name of a share.
pub const SHARE_NAME_BYTES_MAX: usize = 128;
/// The name of a board: `share/` and a share's name at most.
pub const BOARD_NAME_BYTES_MAX: usize = SHARE_NAME_BYTES_MAX + 6;
/// An ID as typed, so that a wrong one still gets its reason.
pub const ID_TEXT_BYTES_MAX: usize = 256;
/// A unique ID as typed.
pub const UNIQUE_ID_TEXT_BYTES_MAX: usize = 256;
/// An invite's code, or the join link that it stands in.
pub const INVITE_BYTES_MAX: usize = crate::link::LINK_BYTES_MAX;
/// For how long an invite can be good, in seconds: a year and a day at most.
pub const INVITE_S: std::ops::RangeInclusive<u64> = 1..=366 * 24 * 3600;
/// Bearer tokens that sign in as the hub's own machine.
pub const TOKENS_MAX: usize = 256;
/// Bearer tokens that sign in as one client.
pub const TOKENS_OF_CLIENT_MAX: usize = 16;
/// Bearer tokens that sign in as clients, of all of them: with the hub's own they go in one answer.
pub const TOKENS_OF_CLIENTS_MAX: usize = 4096;
/// What a bearer token is for, in words.
pub const TOKEN_NAME_BYTES_MAX: usize = 64;
/// Patterns of one list of a client's rights.
pub const RIGHTS_PATTERNS_MAX: usize = 16;
/// Tags of one client.
pub const TAGS_MAX: usize = 16;
/// A tag.
pub const TAG_BYTES_MAX: usize = 32;
/// Clients of one inventory that is imported.
pub const IMPORT_ROWS_MAX: usize = 4096;
/// A text of a change that an administrator asks for, before it is looked at.
pub const CHANGE_TEXT_BYTES_MAX: usize = 1024;
/// Elements of a list of such a change, before it is looked at.
pub const CHANGE_LIST_MAX: usize = 64;
/// How a command ended, in one word.
pub const RAN_END_BYTES_MAX: usize = 16;
/// What a command said last.
pub const RAN_SAID_BYTES_MAX: usize = 512;
/// The words of a refusal.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 1024;

/// A peer that says nothing for this long is gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How often a peer that has nothing to say gives a sign of life: three may get lost.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// From the first byte to being logged in, over the native transport.
pub const LOGIN_MAX: Duration = Duration::from_secs(10);
/// Wrong answers to the question for the ID, or mistyped unique IDs, until the connection ends.
pub const BAD_ANSWERS_MAX: u32 = 3;
/// For how long a unique ID that was never confirmed holds its id, and may be declared lost.
pub const PROVISIONAL_MAX: Duration = Duration::from_secs(600);
/// Connections that have not logged in, in all; checked by the hub, which then cuts the one that has waited longest of
/// the address that has most of them. Each costs a small buffer and a TLS session, about 30 KiB.
pub const STRANGERS_MAX: usize = 1024;
