//! Stock Socket.IO clients from PyPI and npm, told line by line what to do.

use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::tool::{chromium, node, python_with};
use crate::{PATIENCE, Proc, workspace};

/// Which library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// python-socketio.
    Python,
    /// socket.io-client on Node.
    Node,
    /// The same, with handlers that never call the callback of an event.
    SilentNode,
    /// socket.io-client in a page of a browser that runs already.
    Chromium,
}

/// A client in a process of its own.
pub struct Stock {
    /// The process.
    pub proc: Proc,
    stdin: ChildStdin,
    asked: u64,
    library: Library,
}

impl Stock {
    /// Connects over `transports`; with `auth` if there is one. `resume` in it: comes back with its cursors and unique ID.
    ///
    /// # Panics
    /// When its program cannot be started.
    #[track_caller]
    pub fn start(library: Library, url: &str, transports: &[&str], auth: Option<Value>) -> Stock {
        Stock::start_with(library, url, transports, auth, None)
    }

    /// As [`Stock::start`], to a hub with a certificate of this authority.
    ///
    /// # Panics
    /// When its program cannot be started.
    #[track_caller]
    pub fn start_trusting(library: Library, url: &str, transports: &[&str], auth: Option<Value>, ca: &Path) -> Stock {
        Stock::start_with(library, url, transports, auth, Some(ca))
    }

    #[track_caller]
    fn start_with(library: Library, url: &str, transports: &[&str], auth: Option<Value>, ca: Option<&Path>) -> Stock {
        let options = json!({
            "url": url, "transports": transports, "auth": auth, "silent": library == Library::SilentNode,
        });
        Stock::start_told(library, &options, ca)
    }

    /// As [`Stock::start`], with all that its program can be told at its start.
    ///
    /// # Panics
    /// When its program cannot be started.
    #[track_caller]
    pub fn start_told(library: Library, options: &Value, ca: Option<&Path>) -> Stock {
        let mut command = match library {
            Library::Python => {
                let mut command = Command::new(python_with(&["aiohttp", "socketio"]));
                command.arg(workspace().join("tests/python/socketio_stock.py"));
                command
            }
            Library::Node | Library::SilentNode => {
                let mut command = node();
                command.arg(workspace().join("tests/javascript/socketio_stock.js"));
                command
            }
            Library::Chromium => {
                let mut command = chromium();
                command.arg(workspace().join("tests/javascript/socketio_page.mjs"));
                command
            }
        };
        if let Some(ca) = ca {
            command.env("SSL_CERT_FILE", ca).env("NODE_EXTRA_CA_CERTS", ca);
        }
        let mut proc = Proc::start_with_stdin(command.arg(options.to_string()).stdin(Stdio::piped()));
        let stdin = proc.take_stdin().expect("it is piped");
        Stock { proc, stdin, asked: 0, library }
    }

    /// Emits an event.
    ///
    /// # Panics
    /// When the client has ended.
    #[track_caller]
    pub fn emit(&mut self, event: Value) {
        self.order(&json!({ "emit": event }));
    }

    /// Emits an event and waits for its acknowledgement.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn ask(&mut self, event: Value) -> Value {
        let number = self.ask_later(event);
        self.answer(number)
    }

    /// Emits an event; its acknowledgement is [`Stock::answer`]'s.
    ///
    /// # Panics
    /// When the client has ended.
    #[track_caller]
    pub fn ask_later(&mut self, event: Value) -> u64 {
        self.asked += 1;
        self.order(&json!({ "emit": event, "ask": self.asked }));
        self.asked
    }

    /// The acknowledgement of an event.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn answer(&self, number: u64) -> Value {
        let line = self.wait("an acknowledgement", 0, |line| line["ack"] == number);
        line["args"][0].clone()
    }

    /// Confirms the unique ID it was issued, where it was started with `hold`.
    ///
    /// # Panics
    /// When the client has ended.
    #[track_caller]
    pub fn confirm(&mut self) {
        self.order(&json!({ "confirm": true }));
    }

    /// Stops it where it stands, its connection open: its process, or its page with everything that runs in it.
    ///
    /// # Panics
    /// When the client has ended.
    #[track_caller]
    pub fn stand_still(&mut self) {
        match self.library {
            Library::Chromium => self.order(&json!({ "still": true })),
            Library::Python | Library::Node | Library::SilentNode => self.proc.pause(),
        }
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When the client has ended.
    #[track_caller]
    pub fn go_on(&mut self) {
        match self.library {
            Library::Chromium => self.order(&json!({ "still": false })),
            Library::Python | Library::Node | Library::SilentNode => self.proc.resume(),
        }
    }

    /// Emits an event and hears its acknowledgement, where it still runs; whether it does shows in what it says.
    pub fn try_ask(&mut self, event: &Value) {
        self.asked += 1;
        writeln!(self.stdin, "{}", json!({ "emit": event, "ask": self.asked })).ok();
    }

    /// Emits an event, where it still runs.
    pub fn try_emit(&mut self, event: &Value) {
        writeln!(self.stdin, "{}", json!({ "emit": event })).ok();
    }

    #[track_caller]
    fn order(&mut self, order: &Value) {
        writeln!(self.stdin, "{order}").unwrap_or_else(|error| panic!("{:?} has ended: {error}", self.library));
    }

    /// All it said so far, in order.
    pub fn said(&self) -> Vec<Value> {
        self.proc.output().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// How much it said so far.
    pub fn mark(&self) -> usize {
        self.said().len()
    }

    /// The arguments of each event of this name from `mark` on.
    pub fn heard(&self, mark: usize, event: &str) -> Vec<Value> {
        let said = self.said().into_iter().skip(mark);
        said.filter(|line| line["event"] == event).map(|line| line["args"].clone()).collect()
    }

    /// Waits for an event of this name, from `mark` on; gives its first argument.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn hear(&self, mark: usize, event: &str) -> Value {
        self.wait(event, mark, |line| line["event"] == event)["args"][0].clone()
    }

    /// Waits until a value of `name` with this payload was heard, from `mark` on.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn hear_value(&self, mark: usize, name: &str, payload: &Value) -> Value {
        let it = |line: &Value| {
            line["event"] == "value" && line["args"][0]["name"] == name && line["args"][0]["payload"] == *payload
        };
        self.wait(&format!("{name} = {payload}"), mark, it)["args"][0].clone()
    }

    /// Waits for a line, from `mark` on.
    ///
    /// # Panics
    /// When none comes; shows all it said.
    #[track_caller]
    pub fn wait(&self, what: &str, mark: usize, it: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            if let Some(line) = self.said().into_iter().skip(mark).find(|line| it(line)) {
                return line;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{:?} did not hear {what} from {mark} on\n{}",
                self.library,
                self.proc.output().join("\n")
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it stands at the head, from `mark` on.
    ///
    /// # Panics
    /// When it does not get there.
    #[track_caller]
    pub fn settle(&self, mark: usize) {
        self.hear(mark, "current");
    }
}
