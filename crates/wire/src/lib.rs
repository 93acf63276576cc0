//! Messages, the native codec, and the state machines of the login, free of I/O and of clocks.
//!
//! # Participants
//! - The **hub** holds boards of named values, shares of files, and the roster of who is known ([`roster`]).
//! - A **client** is anybody logged in, under an integer of its own ([`id`]); an **agent** is our client that keeps
//!   directories. A client has one session, made of up to three kinds of connections ([`message::Purpose`]): the one that
//!   logged in, *bulk* ones that move contents, and *relay* ones for commands on the same machine. The last two show the
//!   session's token and live no longer than it.
//!
//! # Goals
//! The newest value of every name reaches every client, however slow, however often it is cut off; nobody is taken for
//! somebody else; nothing that a peer sends costs more memory than a frame, or ends more than its own connection.
//!
//! # Not goals
//! History: who comes late gets the newest values, not those between. Secrecy: TLS below does that, and pins the hub's key
//! from the join link ([`link`]). Order between boards. Browsers: they speak Socket.IO, through the same hub.
//!
//! # Messages
//! A frame ([`codec`]) is a length and one message: [`message::ToHub`] or [`message::ToClient`]. What a client says, in
//! which phase, and what it gets:
//!
//! | phase | client says | hub answers |
//! | --- | --- | --- |
//! | login | [`Hello`] for a login | [`Hello`](message::ToClient::Hello), then [`AskId`] |
//! | | [`Id`] | [`AskUniqueId`], or [`Issued`]; or [`Refused`] and [`AskId`] again |
//! | | [`UniqueId`] | [`Welcome`], or [`Refused`]; mistyped: [`Refused`] and [`AskUniqueId`] again |
//! | | [`Lost`] | [`Issued`], or [`Refused`] |
//! | | [`Confirm`] | [`Welcome`], or [`Refused`] |
//! | attach | [`Hello`] for bulk or relay | [`Hello`](message::ToClient::Hello), then [`Attached`] or [`Refused`] |
//! | session, relay | [`Follow`] | [`Following`] or [`Failed`]; then [`Batch`] after [`Batch`] until [`Unfollow`] |
//! | | [`Ack`] | nothing; it paces the batches |
//! | | [`Put`] | [`PutDone`] once it is on disk, or [`Failed`] |
//! | | [`Get`] | [`Got`] or [`Failed`] |
//! | | [`Ask`] | [`Answer`] or [`Failed`] |
//! | session | [`Vitals`](message::ToHub::Vitals) | nothing |
//! | any after login | [`Ping`] | [`Pong`] |
//! | bulk | [`Want`] | for each content, in any order: [`Content`](message::ToClient::Content), [`Recipe`], or [`Gone`] |
//! | | [`WantChunks`] | for each chunk, in any order: [`Chunk`]; [`Gone`] for all that is left |
//! | any | | [`Bye`]: the hub ends the session |
//!
//! # Order and replies
//! The login is a strict dialogue: one message at a time, anything else ends it ([`login`], [`client_login`]). After it a
//! client may ask without waiting; replies carry the number of the request ([`message::Number`]) and come in any order,
//! except that a [`Put`] is answered after those before it. Batches of one follow come in order and each begins where the
//! one before ended. A recipe of more than [`limits::CHUNKS_MAX`] chunks comes in several messages, in order.
//!
//! # Limits
//! All of them are constants of [`limits`], checked by sender and receiver ([`check`]). A frame announces at most
//! [`limits::FRAME_BYTES_MAX`], before login [`limits::FRAME_BYTES_MAX_BEFORE_LOGIN`], and is refused by that number alone.
//! Lists are refused by the number of elements that they announce, before those are read.
//!
//! # What goes wrong
//! - **An unknown message**, garbage, or a message in the wrong phase: the connection ends with [`Code::Protocol`]. A
//!   message or a field is added only together with a new [`PROTOCOL_VERSION`], so this is never just a newer peer.
//! - **An old version**: [`Hello`] carries the range of versions spoken, the hub chooses the highest that both speak, and
//!   where there is none it refuses with [`Code::Version`] and says which side is to install what. From its second release
//!   on a hub also speaks the version before. The frames of each version stay in `golden/`, replayed by a test.
//! - **A lost peer**: who has nothing to say sends a [`Ping`] every [`limits::PING_EVERY`]; who was not heard for
//!   [`limits::SILENCE_MAX`] is gone. It costs nobody anything: cursors, not queues, say what a client lacks, and a login
//!   may be cut at every message (the test of [`login`] cuts it everywhere).
//! - **A second login** with a right proof takes over: the first session gets [`Bye`] with [`Code::TakenOver`], and does
//!   not come back by itself.
//!
//! # Secrets
//! Unique IDs, invites and tokens have types that show nothing of themselves in a log ([`secret`], [`unique_id`]). The hub
//! keeps hashes only.
//!
//! [`Hello`]: message::ToHub::Hello
//! [`Id`]: message::ToHub::Id
//! [`UniqueId`]: message::ToHub::UniqueId
//! [`Lost`]: message::ToHub::Lost
//! [`Confirm`]: message::ToHub::Confirm
//! [`Follow`]: message::ToHub::Follow
//! [`Unfollow`]: message::ToHub::Unfollow
//! [`Ack`]: message::ToHub::Ack
//! [`Put`]: message::ToHub::Put
//! [`Get`]: message::ToHub::Get
//! [`Ask`]: message::ToHub::Ask
//! [`Ping`]: message::ToHub::Ping
//! [`Want`]: message::ToHub::Want
//! [`WantChunks`]: message::ToHub::WantChunks
//! [`AskId`]: message::ToClient::AskId
//! [`AskUniqueId`]: message::ToClient::AskUniqueId
//! [`Issued`]: message::ToClient::Issued
//! [`Refused`]: message::ToClient::Refused
//! [`Welcome`]: message::ToClient::Welcome
//! [`Attached`]: message::ToClient::Attached
//! [`Following`]: message::ToClient::Following
//! [`Failed`]: message::ToClient::Failed
//! [`Batch`]: message::ToClient::Batch
//! [`PutDone`]: message::ToClient::PutDone
//! [`Got`]: message::ToClient::Got
//! [`Answer`]: message::ToClient::Answer
//! [`Pong`]: message::ToClient::Pong
//! [`Recipe`]: message::ToClient::Recipe
//! [`Gone`]: message::ToClient::Gone
//! [`Chunk`]: message::ToClient::Chunk
//! [`Bye`]: message::ToClient::Bye
//! [`Code::Protocol`]: message::Code::Protocol
//! [`Code::Version`]: message::Code::Version
//! [`Code::TakenOver`]: message::Code::TakenOver

pub mod answer;
mod base32;
pub mod bearer;
mod block;
mod bounded;
pub mod check;
pub mod client_login;
pub mod codec;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod id;
pub mod limiter;
pub mod limits;
pub mod link;
pub mod login;
pub mod message;
pub mod ran;
pub mod rights;
pub mod roster;
pub mod secret;
pub mod unique_id;

/// The newest protocol version spoken here.
pub const PROTOCOL_VERSION: u16 = 1;
/// The oldest one still spoken.
pub const PROTOCOL_VERSION_MIN: u16 = 1;
