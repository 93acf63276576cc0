//! What a service manager is told: that this is up, that it stops, that it is alive (`sd_notify(3)`). Where none asks to be
//! told, nothing happens.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where it listens.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// After how many microseconds without a sign of life it ends and starts this anew.
const WATCHDOG_VARIABLE: &str = "WATCHDOG_USEC";
/// Which process that is about.
const WATCHDOG_PID_VARIABLE: &str = "WATCHDOG_PID";

/// This is up.
pub(crate) const READY: &str = "READY=1";
/// This is about to end.
pub(crate) const STOPPING: &str = "STOPPING=1";
/// This is alive.
const ALIVE: &str = "WATCHDOG=1";

/// Tells the service manager, if there is one. That it does not hear is no reason not to go on.
pub(crate) fn tell(what: &str) {
    let Some(place) = std::env::var_os(SOCKET_VARIABLE).filter(|place| !place.is_empty()) else { return };
    let address = match place.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&place),
    };
    let told = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(what.as_bytes(), &address));
    if let Err(error) = told {
        tracing::warn!(%error, "the service manager was not told {what}");
    }
}

/// How often the service manager wants a sign of life, if it does: twice as often as it would miss it.
pub(crate) fn alive_every() -> Option<Duration> {
    let number = |variable| std::env::var(variable).ok()?.parse::<u64>().ok();
    let about_us = std::env::var_os(WATCHDOG_PID_VARIABLE).is_none()
        || number(WATCHDOG_PID_VARIABLE) == Some(u64::from(std::process::id()));
    let span = number(WATCHDOG_VARIABLE).filter(|usec| *usec > 0 && about_us)?;
    Some(Duration::from_micros(span) / 2)
}

/// Gives signs of life for as long as this is polled: one that comes says that tasks are run.
pub(crate) async fn keep_alive() -> std::convert::Infallible {
    let Some(every) = alive_every() else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tell(ALIVE);
    }
}
