//! The engines below Socket.IO, within a hub's limits: each behind its [`Guard`].

use super::guard::{Guard, NotHere};
use crate::limits::Live;
use engineioxide::config::EngineIoConfig;
use engineioxide::handler::EngineIoHandler;
use engineioxide::service::EngineIoService;
use socketioxide::ParserConfig;
use socketioxide::service::SocketIoService;
use std::sync::Arc;
use std::time::Duration;
use wire::limits::{FRAME_BYTES_MAX, PING_EVERY};

/// Events that the engine keeps for one client. Two batches, and answers to what it asked meanwhile.
const BUFFER_EVENTS: usize = 1024;
/// A client that does not answer a ping for so long is gone.
const PONG_MAX: Duration = Duration::from_secs(10);
/// A connection that never asks for the namespace ends after this.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// An acknowledgement is remembered for so long; longer than a login may last.
const ACK_MAX: Duration = Duration::from_secs(90);
/// Each WebSocket keeps a buffer of this size for what it reads; a longer message gets one for itself.
const READ_BYTES: usize = 1024;
/// Byte strings in one event.
const ATTACHMENTS_MAX: usize = 4;

/// Socket.IO behind its guard.
pub(crate) type Guarded = Guard<SocketIoService<NotHere>>;

/// What of an engine's ways may be other than a hub has them; by default as a hub has them.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    /// How often it pings.
    pub ping_every: Duration,
    /// A client that does not answer a ping for so long is gone.
    pub pong_max: Duration,
    /// One message, or the body of one request, has no more bytes.
    pub message_bytes_max: usize,
}

impl Default for Engine {
    fn default() -> Self {
        Engine { ping_every: PING_EVERY, pong_max: PONG_MAX, message_bytes_max: FRAME_BYTES_MAX }
    }
}

impl Engine {
    pub(crate) fn socketio(&self, path: &str, limits: &Arc<Live>) -> (Guarded, socketioxide::SocketIo) {
        let bytes_max = self.message_bytes_max;
        let parser =
            ParserConfig::common().max_incoming_binaries(ATTACHMENTS_MAX).max_incoming_binary_buf_size(bytes_max);
        let (engine, io) = socketioxide::SocketIo::builder()
            .req_path(path.trim_end_matches('/').to_owned())
            .ping_interval(self.ping_every)
            .ping_timeout(self.pong_max)
            .connect_timeout(CONNECT_MAX)
            .ack_timeout(ACK_MAX)
            .max_buffer_size(BUFFER_EVENTS)
            // Of polling, and of WebSocket: the engine has a limit of its own for each.
            .max_payload(bytes_max as u64)
            .ws_max_message_size(bytes_max)
            .ws_max_frame_size(bytes_max)
            .ws_read_buffer_size(READ_BYTES)
            .with_parser(parser)
            .build_with_inner_svc(NotHere);
        (Guard::new(engine, Arc::clone(limits)), io)
    }

    /// The engine alone, for those who speak nothing above it.
    pub(crate) fn engineio<H: EngineIoHandler>(&self, path: &str, handler: H) -> Guard<EngineIoService<H, NotHere>> {
        let bytes_max = self.message_bytes_max;
        let config = EngineIoConfig::builder()
            .req_path(path.trim_end_matches('/').to_owned())
            .ping_interval(self.ping_every)
            .ping_timeout(self.pong_max)
            .max_buffer_size(BUFFER_EVENTS)
            .max_payload(bytes_max as u64)
            .ws_max_message_size(bytes_max)
            .ws_max_frame_size(bytes_max)
            .ws_read_buffer_size(READ_BYTES)
            .build();
        Guard::new(EngineIoService::with_config_inner(NotHere, Arc::new(handler), config), Arc::default())
    }
}
