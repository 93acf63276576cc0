//! The same clients before a hub and before the npm server with the same handlers hear the same.

use serde_json::{Map, Value, json};
use support::{Library, PATIENCE, Proc, Stock, node, workspace};

use super::{ROUTES, hub};

/// What each client heard, and how what it asked for was acknowledged; by what it is called here.
type Transcript = Map<String, Value>;

/// Everything a client may do, each step over before the next.
fn scenario(url: &str, library: Library, transports: &[&str]) -> Transcript {
    let start = |auth: Option<Value>| Stock::start(library, url, transports, auth);
    let mut transcript = Transcript::new();
    let mut note = |name: &str, client: &Stock| drop(transcript.insert(name.to_owned(), heard(client)));

    // Asked for its id, and refused one that is none.
    let mut first = start(None);
    first.hear(0, "id?");
    let mark = first.mark();
    first.emit(json!(["id", "7"]));
    first.hear(mark, "id?");
    first.emit(json!(["id", 7]));
    let unique_id = first.hear(0, "unique_id");
    first.settle(0);
    let mut second = start(Some(json!({ "id": 8, "name": "second" })));
    second.settle(0);

    // Puts of every kind, a removal, and what cannot be put.
    let payloads = [json!({"k": [1, 2.5, null, "\u{e4}"]}), json!("text"), json!(7), json!({"$hex": "00ff80"})];
    for (n, payload) in payloads.iter().enumerate() {
        let (name, marks) = (format!("b/{n}"), (first.mark(), second.mark()));
        first.ask(json!(["put", name, payload]));
        for (client, mark) in [(&first, marks.0), (&second, marks.1)] {
            client.hear_value(mark, &name, payload);
            client.settle(mark);
        }
    }
    let marks = (first.mark(), second.mark());
    second.ask(json!(["remove", "b/1"]));
    for (client, mark) in [(&first, marks.0), (&second, marks.1)] {
        client.hear(mark, "gone");
        client.settle(mark);
    }
    for event in [
        json!(["get", "b/0"]),
        json!(["get", "b/3"]),
        json!(["get", "nothing"]),
        json!(["put", "", 1]),
        json!(["put", "x"]),
        json!(["nonsense", 1]),
    ] {
        second.ask(event);
    }

    // Who is here, who comes, with a pattern of its own, and who leaves.
    let mark = second.mark();
    second.ask(json!(["clients"]));
    second.settle(mark);
    let mark = second.mark();
    let third = start(Some(json!({ "id": 9, "follow": ["x/*"] })));
    third.settle(0);
    second.hear(mark, "client");
    second.settle(mark);
    for name in ["x/1", "y"] {
        let marks = (first.mark(), second.mark(), third.mark());
        first.ask(json!(["put", name, "new"]));
        first.settle(marks.0);
        second.settle(marks.1);
        if name == "x/1" {
            third.settle(marks.2);
        }
    }
    let mark = second.mark();
    note("third", &third);
    drop(third);
    second.hear(mark, "client");
    second.settle(mark);

    // Taken over; then another's unique ID.
    let mark = second.mark();
    let mut again = start(Some(json!({ "id": 7, "unique_id": unique_id })));
    again.settle(0);
    first.hear(0, "bye");
    first.hear(0, "disconnect");
    second.hear(mark, "client");
    second.settle(mark);
    // Mistyped, and another's: asked again, three times in all.
    let mistyped = "ls-7-00000-00000-00000-00000-00000-00000";
    let mut refused = start(Some(json!({ "id": 7, "unique_id": mistyped })));
    refused.hear(0, "unique_id?");
    for wrong in [second.hear(0, "unique_id"), json!("")] {
        let mark = refused.mark();
        refused.emit(json!(["unique_id", wrong]));
        refused.hear(mark, "refused");
    }
    refused.hear(0, "disconnect");

    // Follows no more, and once more.
    again.ask(json!(["unfollow", "*"]));
    again.ask(json!(["unfollow", "*"]));
    let mark = again.mark();
    again.ask(json!(["follow", { "pattern": "b/*" }]));
    again.settle(mark);
    for (name, client) in [("first", &first), ("second", &second), ("again", &again), ("refused", &refused)] {
        note(name, client);
    }
    transcript
}

/// What a client heard, in its order, and its acknowledgements in theirs: which of both comes first is nobody's promise.
fn heard(client: &Stock) -> Value {
    let (mut events, mut answers) = (Vec::new(), Vec::new());
    for line in client.said() {
        let args = masked(&line["args"]);
        match line["event"].as_str() {
            None => answers.push(args),
            // Where a batch ends is nobody's promise either, nor how often the head is told of.
            Some("cursor") => {}
            // A Python client that is refused at once may not notice that it was connected.
            Some("disconnect") => {}
            Some("current") if events.last().is_some_and(|last: &Value| *last == json!(["current", args])) => {}
            Some(event) => events.push(json!([event, args])),
        }
    }
    json!({ "events": events, "answers": answers })
}

/// Without what differs from run to run, and without words for people.
fn masked(value: &Value) -> Value {
    const MASKED: &[&str] = &["address", "at_ms", "cursor", "hub", "shares", "text"];
    match value {
        Value::Array(values) => values.iter().map(masked).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| {
                // The software's version is a text, a value's a number.
                let mask = MASKED.contains(&key.as_str()) || key == "version" && value.is_string();
                (key.clone(), if mask { json!("...") } else { masked(value) })
            })
            .collect(),
        Value::String(text) if text.starts_with("ls-") => json!("ls-..."),
        other => other.clone(),
    }
}

fn emulated(how: &str) -> (Proc, String) {
    let server = Proc::start(node().arg(workspace().join("tests/javascript/socketio_emulated.js")).arg(how));
    let line = server.wait_for_line("listening on ", PATIENCE);
    let url = line.rsplit(' ').next().unwrap().to_owned();
    (server, url)
}

#[test]
fn stock_clients_hear_of_a_hub_what_they_hear_of_the_npm_server_with_the_same_handlers() {
    for (library, transports) in ROUTES {
        let (_cluster, url) = hub();
        let (_server, emulated_url) = emulated("right");
        let (ours, theirs) = (scenario(&url, *library, transports), scenario(&emulated_url, *library, transports));
        for (name, heard) in &theirs {
            for part in ["events", "answers"] {
                let (ours, theirs) = (ours[name][part].as_array().unwrap(), heard[part].as_array().unwrap());
                let differs = ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs);
                let at = differs.unwrap_or(ours.len().min(theirs.len()));
                assert!(
                    ours == theirs,
                    "{library:?} over {transports:?}: {name}'s {part} differ from {at} on\n  hub: {:#?}\n  npm: {:#?}",
                    ours.get(at),
                    theirs.get(at)
                );
            }
        }
    }
}

#[test]
fn the_comparison_sees_a_server_that_leaves_something_out() {
    let (_right, right) = emulated("right");
    let (_wrong, wrong) = emulated("wrong");
    let heard = [right, wrong].map(|url| scenario(&url, Library::Node, &["websocket"]));
    // Its puts are acknowledged without their version, and its snapshots begin without a reset.
    assert_ne!(heard[0]["first"]["answers"], heard[1]["first"]["answers"]);
    assert_ne!(heard[0]["third"]["events"], heard[1]["third"]["events"]);
}
