//! HTTP: requests, and a stream of events by `curl`.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Proc, curl};

use super::poll::Poll;
use super::program::{Program, Say, Told, Transport};
use crate::web::{Event, Reply, Web};

pub(super) struct Http {
    pub(super) web: Web,
    /// It asks again and again, instead of reading a stream.
    pub(super) polls: bool,
}

impl Transport for Http {
    fn name(&self) -> &'static str {
        if self.polls { "poll" } else { "http" }
    }

    fn connect(&self, cursor: Option<&str>) -> Box<dyn Program> {
        // Whoever says nothing of itself is asked who it is.
        let asked = self.web.ask("GET", "/api/status", &[], b"");
        Box::new(Requests {
            web: self.web.clone(),
            id: String::new(),
            issued: String::new(),
            cursor: cursor.map(str::to_owned),
            asked: Some((asked, Asked::Who)),
            stream: None,
            polls: self.polls,
            poll: None,
            read: 0,
            block: String::new(),
            told: Vec::new(),
        })
    }

    fn silence(&self) -> Duration {
        super::STUCK_MAX
    }
}

/// What a request was for.
#[derive(Clone, Copy)]
enum Asked {
    Who,
    Login,
    Put,
}

struct Requests {
    web: Web,
    id: String,
    issued: String,
    cursor: Option<String>,
    /// A request whose answer was not read yet.
    asked: Option<(TcpStream, Asked)>,
    stream: Option<Proc>,
    polls: bool,
    poll: Option<Poll>,
    read: usize,
    block: String,
    told: Vec<Told>,
}

impl Requests {
    fn login(&mut self, what: &str) {
        let body = format!("{{\"id\": {}{what}}}", self.id);
        let json = [("content-type", "application/json")];
        self.asked = Some((self.web.ask("POST", "/api/login", &json, body.as_bytes()), Asked::Login));
    }

    /// Signs its requests from now on.
    fn sign(&mut self, unique_id: &str) {
        self.web = self.web.user(&self.id, unique_id);
    }

    fn answer(&mut self) {
        let Some((stream, asked)) = self.asked.take() else { return };
        let whole = |reply: &Reply| serde_json::from_slice::<Value>(&reply.body).is_ok();
        let Some(reply) = Reply::try_read(stream).filter(whole) else {
            self.told.push(Told::Cut);
            return;
        };
        if reply.status < 300 && matches!(asked, Asked::Put) {
            self.told.extend(version(&reply.json()));
        }
        self.told.push(match (asked, reply.status) {
            (Asked::Who, 401) => Told::Id,
            (Asked::Who, 200) => Told::Welcome,
            (Asked::Login, 201) => {
                self.issued = reply.json()["unique_id"].as_str().unwrap().to_owned();
                Told::Issued(self.issued.clone())
            }
            (Asked::Login, 200) => Told::Welcome,
            (Asked::Put, 200 | 201) => Told::Done,
            _ => match reply.problem().as_str() {
                "unique_id?" => Told::UniqueId,
                code => Told::refused(code, reply.json()["detail"].as_str().unwrap()),
            },
        });
    }
}

impl Program for Requests {
    fn say(&mut self, what: Say<'_>) {
        self.answer();
        match what {
            Say::Id(id) => {
                id.clone_into(&mut self.id);
                self.login("");
            }
            Say::UniqueId(unique_id) => {
                self.login(&format!(", \"unique_id\": {}", json!(unique_id)));
                self.sign(unique_id);
            }
            Say::Lost => self.login(", \"lost\": true"),
            // Any request that proves it does.
            Say::Confirm => {
                self.sign(&self.issued.clone());
                self.asked = Some((self.web.ask("GET", "/api/status", &[], b""), Asked::Who));
            }
            Say::Follow if self.polls => self.poll = Some(Poll::start(self.web.clone(), self.cursor.clone())),
            Say::Follow => {
                let mut curl = curl();
                curl.args(["-sSN", "-H", "accept: text/event-stream", "-H", self.web.head_line().trim()]);
                if let Some(cursor) = &self.cursor {
                    curl.args(["-H", &format!("last-event-id: {cursor}")]);
                }
                self.stream = Some(Proc::start(curl.arg(format!("http://{}/api/values", self.web.address))));
            }
            Say::Put(name, value) => {
                let text = [("content-type", "text/plain")];
                let asked = self.web.ask("PUT", &format!("/api/values/{name}"), &text, value.as_bytes());
                self.asked = Some((asked, Asked::Put));
            }
        }
    }

    fn told(&mut self) -> &[Told] {
        self.answer();
        self.told.extend(self.poll.iter_mut().flat_map(Poll::told));
        if let Some(stream) = &self.stream {
            let over = stream.output_is_over();
            let lines = stream.output_after(self.read);
            self.read += lines.len();
            for line in lines {
                if line.is_empty() {
                    let event = Event::read(&std::mem::take(&mut self.block));
                    self.told.extend(event.iter().filter_map(|event| version(&event.data)));
                    self.told.extend(event.and_then(translate));
                } else {
                    self.block.push_str(&line);
                    self.block.push('\n');
                }
            }
            if over && self.told.last() != Some(&Told::Cut) {
                self.told.push(Told::Cut);
            }
        }
        &self.told
    }

    fn stand_still(&mut self) {
        self.stream.iter_mut().for_each(Proc::pause);
        self.poll.iter().for_each(|poll| poll.stand_still(true));
    }

    fn go_on(&mut self) {
        self.stream.iter_mut().for_each(Proc::resume);
        self.poll.iter().for_each(|poll| poll.stand_still(false));
    }

    fn kill(&mut self) {
        self.stream.iter_mut().for_each(Proc::kill9);
        self.poll = None;
    }
}

/// What stands before the dash; behind it, the hub's history.
pub(super) fn version(of: &Value) -> Option<Told> {
    of["version"].as_str()?.split('-').next()?.parse().ok().map(Told::Version)
}

fn translate(event: Event) -> Option<Told> {
    let text = |key: &str| event.data[key].as_str().unwrap().to_owned();
    Some(match event.kind.as_str() {
        "reset" => Told::Reset,
        "value" => Told::Value(text("name"), text("value")),
        "gone" => Told::Gone(text("name")),
        "current" => Told::Current(event.id),
        _ => return None,
    })
}
