//! By which connections stock clients come, and what is turned away.

use std::fs;
use std::io::{BufRead, BufReader, Write};

use serde_json::json;
use support::{Cluster, Library, PATIENCE, Stock};
use wire::id::ClientId;
use wire::unique_id::UniqueId;

use super::{POLLING, ROUTES, WEBSOCKET, enrolled, hub, run};
use crate::web::Web;

#[test]
fn over_https_stock_clients_take_part_as_well() {
    let mut cluster = Cluster::start(|_| {}, &["--http", "0.0.0.0:0", "--enrol", "open"]);
    let line = cluster.hub().wait_for_line("http     https", PATIENCE);
    let port = line.trim_end().trim_end_matches('/').rsplit(':').next().unwrap();
    let ca = cluster.path().join("ca.pem");
    fs::write(&ca, run(&cluster, &["cert"])).unwrap();
    let url = format!("https://127.0.0.1:{port}");
    for ((library, transports), id) in ROUTES.iter().zip(1..) {
        let auth = Some(json!({ "id": id }));
        let mut client = Stock::start_trusting(*library, &url, transports, auth, &ca);
        client.hear(0, "welcome");
        let text = "x".repeat(200 * 1024);
        assert_eq!(client.ask(json!(["put", format!("from-{id}"), text]))["ok"], true);
        client.hear_value(0, &format!("from-{id}"), &json!(text));
    }
}

/// Browsers let any page connect by WebSocket, wherever it is from.
#[test]
fn a_page_of_another_origin_does_not_connect() {
    let (mut cluster, _url) = hub();
    let web = Web::of(&mut cluster);
    let own = format!("http://{}", web.address);
    let connect = |origin: &str| {
        let mut stream = web.connect();
        write!(
            stream,
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {}\r\nOrigin: {origin}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            web.address
        )
        .unwrap();
        let mut status = String::new();
        BufReader::new(stream).read_line(&mut status).unwrap();
        status.split_whitespace().nth(1).map(str::to_owned)
    };
    assert_eq!(connect("https://evil.example").as_deref(), Some("403"));
    assert_eq!(connect("null").as_deref(), Some("403"));
    assert_eq!(connect(&own).as_deref(), Some("101"));
}

#[test]
fn what_is_too_large_is_refused_over_each_transport() {
    let (cluster, url) = hub();
    for (transports, id) in [(WEBSOCKET, 1), (POLLING, 2)] {
        let (mut client, _) = enrolled(Library::Node, &url, transports, id);
        let failed = client.ask(json!(["put", "large", "x".repeat(300 * 1024)]));
        assert_eq!(failed["code"], "limit", "{failed}");
        assert_eq!(client.ask(json!(["put", "fits", "x".repeat(256 * 1024)]))["ok"], true);
        // Past what a message may have: the connection ends, and the client comes back.
        let mark = client.mark();
        client.emit(json!(["put", "huge", "x".repeat(2 << 20)]));
        client.hear(mark, "disconnect");
        client.hear(mark, "welcome");
    }
    assert!(fs::read_to_string(cluster.hub_home().join("log/hub.log")).unwrap().lines().all(|l| !l.contains("panic")));
}

#[test]
fn the_engine_s_session_id_is_told_to_nobody_else() {
    let (_cluster, url) = hub();
    let (mut one, _) = enrolled(Library::Node, &url, WEBSOCKET, 1);
    let (two, _) = enrolled(Library::Node, &url, WEBSOCKET, 2);
    let told = one.ask(json!(["clients"]));
    let mut fields: Vec<&String> = told["clients"][0].as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, ["active", "address", "id", "name", "transport"]);
    drop(two);
}

/// Most programs answer each time they are asked, and what nobody asked for ends a login.
#[test]
fn m3_4_an_answer_that_is_looked_at_later_as_somebody_guessed_before_is_asked_for_once() {
    let (_cluster, url) = hub();
    let (owner, unique_id) = enrolled(Library::Node, &url, WEBSOCKET, 1);
    drop(owner);
    for auth in [json!({ "id": 1, "unique_id": unique_id }), json!({ "id": 1 })] {
        let wrong = UniqueId::fresh(ClientId::new(1).unwrap()).unwrap().reveal();
        let guess = Stock::start(Library::Node, &url, WEBSOCKET, Some(json!({ "id": 1, "unique_id": wrong })));
        assert_eq!(guess.hear(0, "refused")["code"], "not_proven");
        let asked = usize::from(auth.get("unique_id").is_none());
        let mut right = Stock::start(Library::Node, &url, WEBSOCKET, Some(auth));
        if asked == 1 {
            right.hear(0, "unique_id?");
            right.emit(json!(["unique_id", unique_id]));
        }
        right.hear(0, "welcome");
        assert_eq!(right.heard(0, "unique_id?").len(), asked);
        assert!(right.heard(0, "refused").is_empty());
    }
}
