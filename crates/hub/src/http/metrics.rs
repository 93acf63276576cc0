//! `GET /metrics`: the hub in Prometheus' text format 0.0.4, by its conventions: base units, `_total` for what only grows.

use super::auth::Who;
use crate::access::Access;
use crate::core::Hub;
use crate::counts::{Traffic, Via};
use crate::limits::Limits;
use crate::on::Counted;
use crate::standing;
use crate::{answers, clock};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use wire::answer::Status;

/// Answers with everything, made as of now.
pub(super) async fn get(State(hub): State<Arc<Hub>>, who: Who) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page(&hub, who.access()))
}

/// One metric: its name, its type, what it says, and its samples: labels and value.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: "gauge", help }
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: "counter", help }
}

type Labels<'a> = &'a [(&'a str, &'a str)];

#[derive(Default)]
struct Page(String);

impl Page {
    fn metric<'a, V: Display>(&mut self, metric: &Metric, samples: impl IntoIterator<Item = (Labels<'a>, V)>) {
        let Metric { name, kind, help } = metric;
        // Writing to a string cannot fail.
        let _written = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in samples {
            let labels: Vec<String> =
                labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _written = writeln!(self.0, "{name}{labels} {value}");
        }
    }

    fn one(&mut self, metric: &Metric, value: impl Display) {
        self.metric(metric, [(&[] as Labels<'_>, value)]);
    }
}

fn page(hub: &Hub, to: &Access) -> String {
    let mut page = Page::default();
    let info = [("name", hub.name.as_str()), ("version", env!("CARGO_PKG_VERSION"))];
    page.metric(&gauge("lockstep_hub_info", "The hub's name and version."), [(&info as Labels<'_>, 1)]);
    let started = format!("{}.{:03}", hub.started_at_ms / 1000, hub.started_at_ms % 1000);
    page.one(&gauge("lockstep_hub_start_time_seconds", "When the hub started, since the Unix epoch."), started);
    let status = answers::status(hub, to);
    shares(&status, &mut page);
    clients(hub, to, &mut page);
    page.one(&gauge("lockstep_values", "Named values."), status.values);
    page.one(&counter("lockstep_puts_total", "Values put and removed."), hub.data.puts_done.load(Relaxed));
    page.one(&counter("lockstep_put_bytes_total", "Bytes of values put."), hub.data.put_bytes.load(Relaxed));
    let refused = counter(
        "lockstep_puts_refused_total",
        "Values that were not put: too large, too many, too fast, not as expected.",
    );
    page.one(&refused, hub.data.puts_refused.load(Relaxed));
    traffic(hub, &mut page);
    let (strangers, cut) = hub.strangers.counts();
    page.one(&gauge("lockstep_strangers", "Connections that have not logged in."), strangers);
    page.one(&counter("lockstep_strangers_cut_total", "Of them, those that were cut to make room for others."), cut);
    limits(hub, &mut page);
    let refusals = counter("lockstep_refusals_total", "Logins and proofs that came to nothing.");
    page.one(&refusals, hub.counts.not_let_in.load(Relaxed));
    let answers = counter("lockstep_http_responses_total", "Answers over HTTP by the hundreds of their status.");
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| [("class", class)]);
    let counted = classes.iter().zip(&hub.counts.http_answers);
    page.metric(&answers, counted.map(|(labels, count)| (labels as Labels<'_>, count.load(Relaxed))));
    let counts = hub.on.counts();
    let labels = counts.map(|(event, ..)| [("event", event.as_str())]);
    let mut each = |name, help, value: &dyn Fn(&Counted) -> u64| {
        let samples = labels.iter().zip(&counts).map(|(labels, count)| (labels as Labels<'_>, value(count)));
        page.metric(&counter(name, help), samples);
    };
    each("lockstep_on_runs_total", "Runs of the commands of --on.", &|(_, runs, _)| *runs);
    each("lockstep_on_failed_total", "Of them, those that failed.", &|(.., failed)| *failed);
    page.0
}

fn shares(status: &Status, page: &mut Page) {
    let shares = &status.shares;
    let labels: Vec<[(&str, &str); 1]> = shares.iter().map(|share| [("share", share.info.name.as_str())]).collect();
    let mut each = |name, help, value: &dyn Fn(&wire::answer::ShareStatus) -> u64| {
        let samples = labels.iter().zip(shares).map(|(labels, share)| (labels as Labels<'_>, value(share)));
        page.metric(&gauge(name, help), samples);
    };
    each("lockstep_share_entries", "Live entries of a share.", &|share| share.info.entries);
    each("lockstep_share_size_bytes", "Bytes of a share's files.", &|share| share.info.bytes);
    each("lockstep_share_complete", "Whether a share's first scan is done.", &|share| u64::from(share.info.complete));
    each("lockstep_share_problems", "Problems of a share at the hub.", &|share| share.problems.len() as u64);
    each("lockstep_share_clients_in_sync", "Clients that hold a share's newest version.", &|share| share.in_sync);
    each("lockstep_share_clients_not_in_sync", "Clients that lack some of a share.", &|share| share.not_in_sync);
}

fn clients(hub: &Hub, to: &Access, page: &mut Page) {
    let mut states = BTreeMap::from([("active", 0), ("away", 0), ("provisional", 0), ("revoked", 0), ("expected", 0)]);
    let mut transports = BTreeMap::from([("native", 0), ("http", 0), ("socketio", 0), ("text", 0)]);
    let (mut in_sync, mut not_in_sync) = (0, 0);
    let mut lags = BTreeMap::from(Via::ALL.map(|via| (via.as_str(), (0_u64, Duration::ZERO))));
    let now = clock::now();
    for client in standing::everybody(hub, to) {
        *states.entry(client.state().as_str()).or_default() += 1;
        let Some(session) = &client.session else { continue };
        *transports.entry(session.transport).or_default() += 1;
        if let Some((versions, span)) = client.lag(hub, now) {
            let most = lags.entry(session.transport).or_default();
            *most = (most.0.max(versions), most.1.max(span));
        }
        *(if client.in_sync(hub) { &mut in_sync } else { &mut not_in_sync }) += 1;
    }
    let labelled =
        |label: &'static str, counts: BTreeMap<&'static str, u64>| -> Vec<([(&'static str, &'static str); 1], u64)> {
            counts.into_iter().map(|(text, count)| ([(label, text)], count)).collect()
        };
    let states = labelled("state", states);
    page.metric(
        &gauge("lockstep_clients", "Clients of the roster by their state."),
        states.iter().map(|(labels, count)| (labels as Labels<'_>, *count)),
    );
    let transports = labelled("transport", transports);
    page.metric(
        &gauge("lockstep_clients_active", "Active clients by how they talk."),
        transports.iter().map(|(labels, count)| (labels as Labels<'_>, *count)),
    );
    let lags: Vec<_> = lags.into_iter().map(|(via, lag)| ([("transport", via)], lag)).collect();
    let versions =
        gauge("lockstep_clients_lag_versions", "Versions that the client furthest behind lacks, of all it follows.");
    page.metric(&versions, lags.iter().map(|(labels, (versions, _))| (labels as Labels<'_>, *versions)));
    let seconds =
        gauge("lockstep_clients_lag_seconds", "For how long the client furthest behind has lacked something.");
    page.metric(&seconds, lags.iter().map(|(labels, (_, span))| (labels as Labels<'_>, span.as_secs_f64())));
    page.one(&gauge("lockstep_clients_in_sync", "Active clients that hold all they follow."), in_sync);
    page.one(&gauge("lockstep_clients_not_in_sync", "Active clients that lack some of it."), not_in_sync);
}

fn traffic(hub: &Hub, page: &mut Page) {
    // Socket.IO comes on the connections of HTTP.
    let transports: [([(&str, &str); 1], &Traffic); 3] = [
        ([("transport", "native")], &hub.counts.native),
        ([("transport", "http")], &hub.counts.http),
        ([("transport", "text")], &hub.counts.text),
    ];
    let open = transports.iter().map(|(labels, traffic)| (labels as Labels<'_>, traffic.open.load(Relaxed)));
    page.metric(&gauge("lockstep_connections", "Open connections."), open);
    let mut each = |name, help, value: &dyn Fn(&Traffic) -> u64| {
        let samples = transports.iter().map(|(labels, traffic)| (labels as Labels<'_>, value(traffic)));
        page.metric(&counter(name, help), samples);
    };
    each("lockstep_connections_accepted_total", "Connections accepted.", &|t| t.accepted.load(Relaxed));
    each("lockstep_received_bytes_total", "Bytes received.", &|t| t.received_bytes.load(Relaxed));
    each("lockstep_sent_bytes_total", "Bytes sent.", &|t| t.sent_bytes.load(Relaxed));
    let vias = Via::ALL.map(|via| ([("transport", via.as_str())], hub.counts.told(via)));
    let conflated =
        counter("lockstep_conflated_total", "Versions that clients skipped, as newer ones had replaced them.");
    page.metric(&conflated, vias.iter().map(|(via, told)| (via as Labels<'_>, told.conflated.load(Relaxed))));
    let refused = counter("lockstep_refused_total", "Logins and proofs that came to nothing, by how they came.");
    page.metric(&refused, vias.iter().map(|(via, told)| (via as Labels<'_>, told.refused.load(Relaxed))));
}

fn limits(hub: &Hub, page: &mut Page) {
    let Limits {
        clients,
        values,
        values_bytes,
        value_bytes,
        puts_per_s,
        strangers,
        strangers_of_address,
        away_after,
        behind_after,
    } = hub.limits.get();
    let each = [
        ("clients", clients),
        ("values", values),
        ("values_bytes", values_bytes),
        ("value_bytes", value_bytes),
        ("puts_per_second", puts_per_s),
        ("strangers", strangers),
        ("strangers_per_address", strangers_of_address),
        ("away_after_seconds", away_after.as_secs()),
        ("behind_after_seconds", behind_after.as_secs()),
    ];
    let each = each.map(|(limit, value)| ([("limit", limit)], value));
    let samples = each.iter().map(|(labels, value)| (labels as Labels<'_>, *value));
    page.metric(&gauge("lockstep_limit", "What the hub takes before it says no."), samples);
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
