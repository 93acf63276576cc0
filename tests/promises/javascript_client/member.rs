//! Our client for JavaScript in a process of its own, told line by line what to do.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{PATIENCE, Proc, install_client, node, workspace};

/// Where the package is installed, and the keys of all members are.
pub(crate) struct House(PathBuf);

impl House {
    #[track_caller]
    pub(crate) fn at(dir: &Path) -> House {
        let dir = dir.join("javascript");
        install_client(&dir);
        fs::copy(workspace().join("tests/javascript/client_driver.mjs"), dir.join("client_driver.mjs")).unwrap();
        House(dir)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.0
    }

    pub(super) fn key_file(&self, id: u64) -> PathBuf {
        self.0.join(format!("keys/{id}.json"))
    }

    /// The unique ID that is kept for `id`.
    #[track_caller]
    pub(super) fn key(&self, id: u64) -> String {
        let kept = fs::read_to_string(self.key_file(id)).unwrap();
        serde_json::from_str::<Value>(&kept).unwrap()["unique_id"].as_str().unwrap().to_owned()
    }

    /// Starts a client; `more` is what the driver takes beside url and id.
    #[track_caller]
    pub(super) fn start(&self, url: &str, id: u64, more: Value) -> Member {
        let mut about = json!({ "url": url, "id": id, "options": { "keyFile": self.key_file(id) } });
        for (key, value) in more.as_object().unwrap() {
            match (key.as_str(), value) {
                ("options", Value::Object(options)) => {
                    about["options"].as_object_mut().unwrap().extend(options.clone());
                }
                _ => about[key] = value.clone(),
            }
        }
        let mut command = node();
        command.arg("client_driver.mjs").arg(about.to_string()).current_dir(&self.0);
        Member::of(Proc::start_with_stdin(command.stdin(Stdio::piped())))
    }

    /// A client that is in and has everything.
    #[track_caller]
    pub(super) fn member(&self, url: &str, id: u64) -> Member {
        let mut member = self.start(url, id, json!({}));
        member.settle();
        member
    }
}

pub(crate) struct Member {
    pub(crate) proc: Proc,
    stdin: Option<ChildStdin>,
    asked: u64,
}

impl Member {
    /// Whoever speaks the driver's lines.
    #[track_caller]
    pub(super) fn of(mut proc: Proc) -> Member {
        let stdin = proc.take_stdin().unwrap();
        Member { proc, stdin: Some(stdin), asked: 0 }
    }

    /// Calls a method and waits for its result, or for the error it rejected with.
    #[track_caller]
    pub(super) fn ask(&mut self, call: Value) -> Result<Value, Value> {
        let number = self.ask_later(call);
        self.answer(number)
    }

    /// Calls a method; its result is [`Member::answer`]'s.
    #[track_caller]
    pub(super) fn ask_later(&mut self, call: Value) -> u64 {
        self.asked += 1;
        let stdin = self.stdin.as_mut().expect("it was not ended");
        writeln!(stdin, "{}", json!({ "call": call, "ask": self.asked })).unwrap();
        self.asked
    }

    #[track_caller]
    pub(super) fn answer(&self, number: u64) -> Result<Value, Value> {
        let line = self.wait("an answer", 0, |line| line["answer"] == number);
        match line.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(line["value"].clone()),
        }
    }

    /// Waits until it holds everything, its own puts included.
    #[track_caller]
    pub(super) fn settle(&mut self) {
        self.ask(json!(["current", { "timeoutMs": 60_000 }])).unwrap();
    }

    /// What it holds, by name: version and payload.
    #[track_caller]
    pub(super) fn view(&mut self) -> BTreeMap<String, (u64, Value)> {
        let view = self.ask(json!(["view"])).unwrap();
        let entry = |value: &Value| {
            let name = value["name"].as_str().unwrap().to_owned();
            (name, (value["version"].as_u64().unwrap(), value["payload"].clone()))
        };
        view.as_array().unwrap().iter().map(entry).collect()
    }

    pub(super) fn said(&self) -> Vec<Value> {
        self.proc.output().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub(super) fn mark(&self) -> usize {
        self.said().len()
    }

    /// All it said of this event, from `mark` on.
    pub(super) fn heard(&self, mark: usize, event: &str) -> Vec<Value> {
        self.said().into_iter().skip(mark).filter(|line| line["event"] == event).collect()
    }

    /// Waits until it says this event, from `mark` on.
    #[track_caller]
    pub(crate) fn hear(&self, mark: usize, event: &str) -> Value {
        self.wait(event, mark, |line| line["event"] == event)
    }

    /// Waits until it is told that `name` changed to this.
    #[track_caller]
    pub(super) fn hear_value(&self, mark: usize, name: &str, payload: &Value) {
        self.wait(&format!("{name} = {payload}"), mark, |line| {
            line["event"] == "change" && line["value"]["name"] == name && line["value"]["payload"] == *payload
        });
    }

    #[track_caller]
    pub(super) fn wait(&self, what: &str, mark: usize, it: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            if let Some(line) = self.said().into_iter().skip(mark).find(|line| it(line)) {
                return line;
            }
            let over = start.elapsed() > PATIENCE || self.proc.output_is_over();
            assert!(!over, "it did not say {what} from {mark} on\n{}", self.proc.output().join("\n"));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets it leave in order.
    #[track_caller]
    pub(super) fn end(mut self) {
        drop(self.stdin.take());
        assert!(self.proc.wait_exit(PATIENCE).success(), "{}", self.proc.output().join("\n"));
    }
}
