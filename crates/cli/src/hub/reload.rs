//! SIGHUP: the configuration is read again, and what of it can be changed while the hub runs is changed.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::{Args, Shares, named};
use crate::logging;

/// Reads the configuration again each time that `bell` rings. Nobody is cut off by it, and one that is wrong changes nothing.
pub(super) async fn keep(
    started_with: &Args,
    bell: &Arc<Notify>,
    set: &watch::Sender<hub::Settings>,
) -> std::convert::Infallible {
    let mut now = started_with.clone();
    loop {
        bell.notified().await;
        match crate::hub_args_again() {
            Ok(new) => now = take(now, new, set),
            Err(error) => {
                let text = error.render().to_string();
                let text = text.trim_start_matches("error: ").lines().next().unwrap_or_default().to_owned();
                tracing::error!("the configuration was read again and is wrong, so nothing is changed: {text}");
            }
        }
    }
}

/// Takes over what can be, tells what cannot; gives what is in force then.
fn take(now: Args, new: Args, set: &watch::Sender<hub::Settings>) -> Args {
    let shares = shares(&set.borrow().shares, &new);
    let waiting = waiting(&now, &new);
    if !waiting.is_empty() {
        tracing::warn!("changed in the configuration, but only a new start takes it over: {}", waiting.join(", "));
    }
    let mut in_force = now;
    let mut changed = Vec::new();
    if in_force.log.log_level != new.log.log_level {
        match logging::set_level(new.log.log_level.as_deref()) {
            Ok(()) => changed.push("log-level"),
            Err(failure) => tracing::error!("log-level is not changed: {:#}", failure.error),
        }
        in_force.log.log_level = new.log.log_level;
    }
    let both = |is: bool, name| is.then_some(name);
    changed.extend(both(in_force.enrol != new.enrol, "enrol"));
    changed.extend(both(in_force.limits != new.limits, "limits"));
    changed.extend(both(in_force.cors != new.cors, "cors"));
    match new.on.check() {
        Ok(()) => {
            changed.extend(both(in_force.on != new.on, "on"));
            in_force.on = new.on;
        }
        Err(failure) => tracing::error!("on is not changed: {:#}", failure.error),
    }
    (in_force.enrol, in_force.limits, in_force.cors) = (new.enrol, new.limits, new.cors);
    if in_force.cert.is_some() && new.cert.is_some() {
        let moved = (&in_force.cert, &in_force.key) != (&new.cert, &new.key);
        changed.extend(both(moved, "cert and key"));
        (in_force.cert, in_force.key) = (new.cert, new.key);
    }
    changed.extend(both(set.borrow().shares != shares, "share"));
    in_force.share = new.share;
    // Also where nothing differs: certificates are read again.
    match in_force.settings(shares) {
        Ok(settings) => drop(set.send_replace(settings)),
        Err(failure) => tracing::error!("nothing is changed: {:#}", failure.error),
    }
    let changed = if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") };
    tracing::warn!("the configuration was read again; changed: {changed}");
    in_force
}

/// What is shared from now on. Where one of those that are named cannot be told by its name, as its directory is not there, it may be
/// any that is shared now: then none is taken away.
fn shares(running: &Shares, new: &Args) -> Shares {
    let mut wanted = Vec::new();
    let mut unknown = false;
    for share in &new.share {
        match named(share) {
            Ok(share) => wanted.push(share),
            Err(failure) => {
                tracing::error!("a share was not added, and none is taken away: {:#}", failure.error);
                unknown = true;
            }
        }
    }
    if unknown {
        let is_new = |(name, _): &&(String, _)| !wanted.iter().any(|(wanted, _)| wanted == name);
        let kept: Vec<_> = running.iter().filter(is_new).cloned().collect();
        wanted.extend(kept);
    }
    wanted
}

/// What differs and cannot be taken over while the hub runs, by name.
fn waiting(now: &Args, new: &Args) -> Vec<&'static str> {
    let certified = |args: &Args| args.cert.is_some();
    [
        ("data", now.data != new.data),
        ("listen", now.listen != new.listen),
        ("http", now.http != new.http),
        ("http-plain", now.http_plain != new.http_plain),
        ("text", now.text != new.text || now.text_insecure != new.text_insecure),
        ("cert and key", certified(now) != certified(new)),
        ("advertise", now.advertise != new.advertise),
        ("log", now.log.log != new.log.log),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}
