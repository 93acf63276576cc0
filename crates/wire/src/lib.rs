//! Messages, the native codec, and the login and session state machines, free of I/O.

pub mod answer;
mod base32;
mod block;
mod bounded;
pub mod check;
pub mod client_login;
pub mod codec;
pub mod id;
pub mod limiter;
pub mod limits;
pub mod link;
pub mod login;
pub mod message;
pub mod roster;
pub mod secret;
pub mod unique_id;

/// The newest protocol version spoken here.
pub const PROTOCOL_VERSION: u16 = 1;
/// The oldest one still spoken.
pub const PROTOCOL_VERSION_MIN: u16 = 1;
