//! A hub's HTTP listener with its limits, and its Socket.IO engine, under other handlers than a hub's.
//!
//! So that published protocol suites, which expect plain echoes, can be pointed at what a hub runs: see
//! `examples/conformance.rs`. Nothing is exchanged but what answers an event.

use crate::Error;
use crate::http::{self, CorsOrigins, Ground, Guard};
pub use crate::socketio::Engine;
use crate::strangers::Strangers;
use axum::Router;
use engineioxide::handler::EngineIoHandler;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// What is served, by path.
pub struct Stack {
    engine: Engine,
    app: Router,
}

impl Stack {
    /// Serves nothing yet.
    pub fn new(engine: Engine) -> Stack {
        Stack { engine, app: Router::new() }
    }

    /// Socket.IO below `path`, which ends with `/`; its namespaces are the caller's.
    pub fn socketio(&mut self, path: &str) -> socketioxide::SocketIo {
        let (guard, io) = self.engine.socketio(path, &Arc::default());
        self.app = std::mem::take(&mut self.app).route_service(path, guard);
        io
    }

    /// Engine.IO below `path`, which ends with `/`.
    pub fn engineio(&mut self, path: &str, handler: impl EngineIoHandler) {
        let guard = self.engine.engineio(path, handler);
        self.app = std::mem::take(&mut self.app).route_service(path, guard);
    }

    /// Serves until `stop` resolves; `up` is told where, once it listens.
    ///
    /// # Errors
    /// When it cannot listen at `address`.
    pub async fn serve(
        self,
        address: SocketAddr,
        up: impl FnOnce(SocketAddr),
        stop: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let (listener, address) = crate::listen::listen(address, "--port").await?;
        let stopping = watch::Sender::new(false);
        let ground = Ground {
            strangers: Strangers::default(),
            counts: Arc::default(),
            signed: Default::default(),
            stopping: stopping.subscribe(),
        };
        let serving = http::open(ground, listener, Guard::new(address, None, CorsOrigins::default()), None, self.app);
        up(address);
        let stopped = async {
            stop.await;
            stopping.send_replace(true);
        };
        tokio::join!(serving, stopped);
        Ok(())
    }
}
