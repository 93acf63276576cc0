//! The package in a real Chromium: a page of another origin than the hub's, served with a strict policy, and the example's page.

use std::fs;
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::{Value, json};
use support::{PATIENCE, Proc, chromium, until, workspace};

use super::member::{House, Member};
use super::{active, hub, run};

/// A free port, for a server of pages: the hub has to be told its origin before it is there.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl House {
    /// A browser with this page, served on `port` with `policy`.
    #[track_caller]
    pub(crate) fn browse(&self, port: u16, page: &str, policy: Option<&str>) -> Member {
        for name in [
            "tests/javascript/client_page.html",
            "tests/javascript/client_page.js",
            "tests/javascript/socketio_page.html",
            "tests/javascript/socketio_page.js",
            "tests/javascript/stock.mjs",
            "examples/javascript/browser.html",
        ] {
            let file = workspace().join(name);
            fs::copy(&file, self.dir().join(file.file_name().unwrap())).unwrap();
        }
        fs::copy(workspace().join("tests/javascript/client_browser.mjs"), self.dir().join("client_browser.mjs"))
            .unwrap();
        let mut command = chromium();
        let about = json!({ "port": port, "page": page, "policy": policy });
        command.arg("client_browser.mjs").arg(about.to_string()).current_dir(self.dir()).stdin(Stdio::piped());
        let member = Member::of(Proc::start_with_stdin(&mut command));
        member.hear(0, "ready");
        member
    }
}

impl Member {
    /// What an expression is in the page.
    #[track_caller]
    fn eval(&mut self, expression: &str) -> Value {
        self.ask(json!(["eval", expression])).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }
}

#[test]
fn m3_1_in_a_browser_with_a_strict_policy_a_page_takes_part_and_goes_on_after_a_kill() {
    let port = free_port();
    let (mut cluster, url, house) = hub(&["--cors", &format!("http://127.0.0.1:{port}")]);
    run(&cluster, &["put", "before", "old"]);
    let policy = format!("default-src 'none'; script-src 'self'; connect-src {url} {}", url.replace("http", "ws"));
    let mut page = house.browse(port, "client_page.html", Some(&policy));
    for (id, transport) in [(1, "websocket"), (2, "polling")] {
        let make = format!("make('{url}', {id}, {{ transports: ['{transport}'], name: 'a page' }})");
        page.eval(&make);
        page.eval("client.current()");
        until(PATIENCE, "it is on the list", || active(&cluster).contains(&id));
        assert_eq!(page.eval("client.values.get('before')"), "old");
        let version = page.eval("client.put('from/page', new Uint8Array([0, 255]))");
        page.eval("client.current()");
        assert_eq!(
            page.eval(
                "[client.held('from/page').version, [...client.values.get('from/page')], client.held('from/page').by]"
            ),
            json!([version, [0, 255], id])
        );
        assert_eq!(
            page.eval("client.clients().then((all) => all.map(({ id, name }) => [id, name]))"),
            json!([[id, "a page"]])
        );
        // Its unique ID is kept where the pages of this origin are, so that a page that is loaded again proves it.
        let hub_port = url.rsplit(':').next().unwrap();
        let kept = page.eval(&format!("localStorage.getItem('lockstep/client/localhost_{hub_port}_{id}')"));
        assert!(kept.as_str().unwrap().starts_with(&format!("ls-{id}-")), "{kept}");
        page.ask(json!(["reload"])).unwrap();
        page.eval(&make);
        page.eval("client.current()");
        // Killed; what was put meanwhile comes, and nothing else.
        cluster.kill_hub();
        until(PATIENCE, "the page to notice", || page.eval("client.isCurrent") == false);
        page.eval("told.splice(0).length");
        cluster.start_hub();
        run(&cluster, &["put", "before", "old"]);
        run(&cluster, &["put", &format!("missed/{id}"), "new"]);
        page.eval(&format!("new Promise((is) => client.onChange('missed/{id}', is)).then(() => client.current())"));
        let told = page.eval("told.map(([name, , payload]) => [name, payload])");
        assert_eq!(told, json!([["before", "old"], [format!("missed/{id}"), "new"]]));
        page.eval("client.close()");
        until(PATIENCE, "it is off the list", || !active(&cluster).contains(&id));
    }
    // Another tab with the same id takes over; the first is told, and does not come back.
    let make = format!("make('{url}', 1)");
    page.eval(&make);
    page.eval("client.current()");
    let mark = page.mark();
    page.ask(json!(["open", "client_page.html"])).unwrap();
    page.eval(&make);
    page.eval("client.current()");
    page.wait("the end of the first tab's client", mark, |line| line["text"] == "end TakenOver");
    run(&cluster, &["clients", "revoke", "1"]);
    page.wait("the end of the second's", mark, |line| line["text"] == "end Revoked");
    assert_eq!(page.eval("client.ended.then((why) => why.code)"), "revoked");
    assert!(page.heard(0, "pageerror").is_empty(), "{:?}", page.heard(0, "pageerror"));
    page.end();
}

#[test]
fn the_example_s_page_shows_the_latest_values_and_puts() {
    let port = free_port();
    let (cluster, url, house) = hub(&["--cors", &format!("http://127.0.0.1:{port}")]);
    run(&cluster, &["put", "greeting", "<b>hello</b>"]);
    let mut page = house.browse(port, &format!("browser.html?hub={url}&id=7"), None);
    let text = |page: &mut Member| page.eval("document.body.innerText").as_str().unwrap().to_owned();
    until(PATIENCE, "the page to show what there is", || text(&mut page).contains("1 values, all of them the latest"));
    assert!(text(&mut page).contains("<b>hello</b>"), "shown as a text");
    page.eval(
        "document.querySelector('[name=name]').value = 'typed'; document.querySelector('[name=value]').value = '42';
         document.querySelector('button').click()",
    );
    until(PATIENCE, "the put to arrive", || cluster.run(&["get", "typed"]).stdout.trim_ascii() == b"42");
    run(&cluster, &["put", "greeting", "--remove"]);
    until(PATIENCE, "the page to follow", || {
        let text = text(&mut page);
        text.contains("typed") && text.contains("42") && !text.contains("hello")
    });
    assert!(page.heard(0, "pageerror").is_empty(), "{:?}", page.heard(0, "pageerror"));
    page.end();
}

#[test]
fn the_example_for_node_keeps_its_unique_id_and_puts_and_gets() {
    let (cluster, url, house) = hub(&[]);
    fs::copy(workspace().join("examples/javascript/client.mjs"), house.dir().join("client.mjs")).unwrap();
    for round in ["first", "second"] {
        let mut command = support::node();
        command.args(["client.mjs", &url, "7"]).current_dir(house.dir()).env("XDG_STATE_HOME", cluster.path());
        // As somebody who is not root, whoever runs the tests.
        fs::write(house.dir().join("not_root.mjs"), "process.geteuid = () => 1000;").unwrap();
        command.env("NODE_OPTIONS", "--import=./not_root.mjs").stdin(Stdio::piped());
        let mut proc = Proc::start_with_stdin(&mut command);
        let mut stdin = proc.take_stdin().unwrap();
        proc.wait_for_line("values", PATIENCE);
        std::io::Write::write_all(&mut stdin, format!("from-node {round}\n").as_bytes()).unwrap();
        proc.wait_for_line(&format!("from-node = {round}"), PATIENCE);
        proc.wait_for_line("put: version", PATIENCE);
        drop(stdin);
        assert!(proc.wait_exit(PATIENCE).success());
    }
}
