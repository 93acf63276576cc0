//! Socket.IO by the stock libraries, with nothing of ours: python-socketio, socket.io-client on Node, and the same in a page of a
//! real Chromium.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use support::{Library, Stock};

use super::program::{Program, Say, Told, Transport};
use crate::javascript_client::{House, Member};

pub(super) struct SocketIo {
    pub(super) library: Library,
    pub(super) url: String,
    /// Where pages are opened, in case.
    pub(super) browser: Option<Arc<Browser>>,
}

impl Transport for SocketIo {
    fn name(&self) -> &'static str {
        match self.library {
            Library::Python => "python",
            Library::Chromium => "chromium",
            Library::Node | Library::SilentNode => "node",
        }
    }

    fn connect(&self, cursor: Option<&str>) -> Box<dyn Program> {
        let cursors = cursor.map_or(json!({}), |cursor| json!({ "data": cursor }));
        let mut options = json!({
            "url": self.url,
            "transports": ["polling", "websocket"],
            "auth": { "resume": true, "cursors": cursors },
            "hold": true,
        });
        if let Some(browser) = &self.browser {
            options["browser"] = browser.address();
            options["page"] = browser.page().into();
        }
        let stock = Stock::start_told(self.library, &options, None);
        Box::new(Bare { stock, browser: self.browser.clone(), killed: false, read: 0, told: Vec::new() })
    }
}

/// A Chromium that is started when it is needed.
pub(super) struct Browser {
    house: House,
    port: u16,
    runs: Mutex<Option<Member>>,
}

impl Browser {
    pub(super) fn at(house: House, port: u16) -> Browser {
        Browser { house, port, runs: Mutex::new(None) }
    }

    fn page(&self) -> String {
        format!("http://127.0.0.1:{}/socketio_page.html", self.port)
    }

    /// Where it is driven.
    fn address(&self) -> Value {
        let mut runs = self.runs.lock().unwrap();
        let browser = runs.get_or_insert_with(|| self.house.browse(self.port, "socketio_page.html", None));
        browser.hear(0, "ready")["address"].clone()
    }
}

struct Bare {
    stock: Stock,
    browser: Option<Arc<Browser>>,
    killed: bool,
    read: usize,
    told: Vec<Told>,
}

impl Program for Bare {
    fn say(&mut self, what: Say<'_>) {
        match what {
            Say::Id(id) => {
                let id: Value = serde_json::from_str(id).expect("an id is given as JSON");
                self.stock.try_emit(&json!(["id", id]));
            }
            Say::UniqueId(unique_id) => self.stock.try_emit(&json!(["unique_id", unique_id])),
            Say::Lost => self.stock.try_emit(&json!(["lost"])),
            Say::Confirm => self.stock.confirm(),
            // It does so from its login on.
            Say::Follow => {}
            Say::Put(name, value) => self.stock.try_ask(&json!(["put", name, value])),
        }
    }

    fn told(&mut self) -> &[Told] {
        let over = self.stock.proc.output_is_over();
        let lines = self.stock.proc.output_after(self.read);
        self.read += lines.len();
        let said = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        self.told.extend(said.flat_map(|line| version(&line).into_iter().chain(translate(&line))));
        if over && self.told.last() != Some(&Told::Cut) {
            self.told.push(Told::Cut);
        }
        &self.told
    }

    fn stand_still(&mut self) {
        self.stock.stand_still();
    }

    fn go_on(&mut self) {
        self.stock.go_on();
    }

    /// Of a page, all of its browser.
    fn kill(&mut self) {
        self.killed = true;
        match &self.browser {
            Some(browser) => drop(browser.runs.lock().unwrap().take()),
            None => self.stock.proc.kill9(),
        }
    }

    fn comes_back(&self) -> bool {
        !self.killed && !self.stock.proc.output_is_over()
    }
}

fn version(line: &Value) -> Option<Told> {
    line["args"][0]["version"].as_u64().map(Told::Version)
}

fn translate(line: &Value) -> Option<Told> {
    let what = &line["args"][0];
    let text = |what: &Value| what.as_str().unwrap_or_else(|| panic!("no text in {line}")).to_owned();
    if line["ack"].is_u64() {
        let refused = || Told::refused(text(&what["code"]), text(&what["text"]));
        return Some(if what["ok"] == true { Told::Done } else { refused() });
    }
    Some(match line["event"].as_str()? {
        "id?" => Told::Id,
        "unique_id" => Told::Issued(text(what)),
        "unique_id?" => Told::UniqueId,
        "refused" => Told::refused(text(&what["code"]), text(&what["text"])),
        "welcome" => Told::Welcome,
        "reset" => Told::Reset,
        "value" => Told::Value(text(&what["name"]), text(&what["payload"])),
        "gone" => Told::Gone(text(&what["name"])),
        "current" => Told::Current(text(&what["cursor"])),
        "bye" => Told::Bye(text(&what["code"])),
        "disconnect" => Told::Cut,
        _ => return None,
    })
}
